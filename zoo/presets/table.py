"""The one table of every preset: plain data, no TensorFlow.

A preset names a class and the constructor arguments in which it differs from that class's defaults. `tiny` is what a
small twin changes further: the same class in the same configuration, at sizes that a test can train.
"""

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from zoo.presets import (
    autoencoder,
    boltzmann,
    classical,
    classifier,
    gan,
    pixel_cnn,
    progressive_gan,
    stylegan,
    super_resolution,
    translation,
    vae,
    vq_vae,
    wgan,
)
from zoo.presets.preset import Preset

FAMILIES = (
    *(autoencoder, boltzmann, classical, classifier, gan, pixel_cnn, progressive_gan),
    *(stylegan, super_resolution, translation, vae, vq_vae, wgan),
)
PRESETS: Mapping[str, Preset] = {preset.name: preset for family in FAMILIES for preset in family.PRESETS}
EXTRACTORS: Mapping[str, str] = {data: preset.name for preset in PRESETS.values() for data in preset.extractor_for}
"""Data set -> the preset whose features tell its images apart."""


class UnknownPresetError(LookupError):
    """No preset has that name."""

    def __init__(self, name: str, known: Mapping[str, Any] = PRESETS):
        near = get_close_matches(name.lower(), known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(known))}."
        super().__init__(f"unknown preset {name!r}: {hint}")

    def __str__(self) -> str:
        return str(self.args[0])


def find_preset(name: str) -> Preset:
    """The preset called `name`.

    Raises:
        UnknownPresetError: there is none; the message has the nearest names.
    """
    if name not in PRESETS:
        raise UnknownPresetError(name)
    return PRESETS[name]


def resolve_class(dotted: str) -> Any:
    """The class of a dotted name such as "zoo.models.gan.GAN"; this is where a model's module is imported."""
    module, name = dotted.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)
