"""Keras -> weights, ONNX and SavedModel, with a card; checked against each other or not written at all."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import tensorflow as tf

from serving.card import Card, Data, File, Score, find_sampling, read_card
from serving.images import save_grid
from zoo.core.model import GenerativeModel
from zoo.core.precision import computing_in
from zoo.core.weights import read_weights, write_weights
from zoo.export.agreement import check_agreement
from zoo.export.model_card import write_card
from zoo.export.onnx import OPSET, write_onnx
from zoo.export.saved_model import write_saved_model
from zoo.presets.preset import Preset

FORMATS = ("onnx", "saved_model")
LICENSE = "Apache-2.0"  # of the weights of the zoo's own presets
WEIGHTS = ("float16", "float32")
SAMPLE_COUNT = 64  # images of samples.png
# Packages whose versions the card names.
VERSIONS = ("tensorflow", "keras", "tf2onnx", "onnx", "numpy")


def export(
    model: GenerativeModel,
    directory: Path,
    *,
    preset: Preset,
    data: Data,
    recipe: Mapping[str, Any],
    formats: Sequence[str] = FORMATS,
    weights: Literal["float16", "float32"] = "float16",
    license: str = LICENSE,
    scores: Sequence[Score] = (),
    images: Mapping[str, bytes] | None = None,
) -> Card:
    """Write `directory`: model.weights.h5, <ability>.onnx, saved_model/1/, samples.png, README.md, card.json.

    The weights are rounded to float16 first, so that every format and every score is of the same numbers.

    Args:
        model: trained; it is not changed.
        directory: replaced as a whole when everything has been written and checked.
        preset: what the model is.
        data: what it was trained on.
        recipe: how: plain data for the card.
        formats: any of "onnx" and "saved_model"; the weights are always written.
        weights: how ONNX graphs store them: "float16", half the size; or "float32", the same values as plain
            initializers, which tools that quantize or convert a graph look for.
        license: of the weights.
        scores: what was measured of these very weights.
        images: more files to put there, by name: "reconstructions.png" is shown on the card.

    Raises:
        ExportError: the formats differ by more than 1e-4 of an output's range.
        ValueError: an unknown format, other weights.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown:
        raise ValueError(f"formats={unknown}: choose from {list(FORMATS)}.")
    if weights not in WEIGHTS:
        raise ValueError(f"weights={weights!r}: choose from {list(WEIGHTS)}.")
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        # ONNX Runtime checks against the CPU: a GPU's TF32 alone would differ by more than the tolerance.
        with tf.device("CPU:0"), computing_in("float32"):
            card = _write_files(model, partial, preset, data, recipe, formats, weights, license, scores, images or {})
        replace_directory(partial, directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return card


def _write_files(
    model: GenerativeModel,
    directory: Path,
    preset: Preset,
    data: Data,
    recipe: Mapping[str, Any],
    formats: Sequence[str],
    weights: str,
    license: str,
    scores: Sequence[Score],
    images: Mapping[str, bytes],
) -> Card:
    twin = make_rounded_twin(model, directory / "model.weights.h5")
    abilities = dict(twin.abilities())
    files = {name: f"{name}.onnx" if "onnx" in formats else None for name in abilities}
    if "onnx" in formats:
        for name, ability in abilities.items():
            write_onnx(ability, directory / f"{name}.onnx", rounded=weights == "float16")
    if "saved_model" in formats:
        write_saved_model(abilities, directory / "saved_model" / "1")
    for name, ability in abilities.items():
        check_agreement(name, ability, directory, formats)
    if find_sampling(abilities):
        save_grid(twin.sample(SAMPLE_COUNT, seed=0), directory / "samples.png")
    for name, content in images.items():
        (directory / name).write_bytes(content)
    card = Card(
        name=preset.name,
        family=preset.family,
        paper=preset.paper,
        license=license,
        summary=preset.summary,
        data=data,
        model={"class": preset.model, "arguments": model.get_config()},
        recipe=dict(recipe),
        abilities={name: ability.card(files[name]) for name, ability in abilities.items()},
        default_ability=next(iter(abilities)),
        files=describe_files(directory),
        scores=tuple(scores),
        versions={package: version(package) for package in VERSIONS} | {"opset": str(OPSET)},
    )
    write_card(card, directory)
    return read_card(directory)  # as every reader finds it


def make_rounded_twin(model: GenerativeModel, path: Path) -> GenerativeModel:
    """Write the weights, rounded to float16, to `path`; returns an uncompiled model of exactly those, in float32.

    What is exported is this twin, read back from the file: no format can hold other weights than the file does.
    """
    write_weights(path, model.exported_weights())
    with computing_in("float32"):
        twin = type(model).from_config(model.get_config())
    read_weights(path, twin.exported_weights())
    twin.load_ema()
    return twin


def describe_files(directory: Path) -> dict[str, File]:
    """sha256 and size of every file below `directory`."""
    return {
        path.relative_to(directory).as_posix(): File(hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def replace_directory(source: Path, target: Path) -> None:
    """Rename `source` to `target`; what was there is kept until the new one stands."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    source.replace(target)
    shutil.rmtree(old, ignore_errors=True)
