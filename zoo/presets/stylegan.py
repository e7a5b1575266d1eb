"""Presets of `zoo.models.stylegan`."""

from typing import Any

from zoo.presets.preset import Preset

MODEL = "zoo.models.stylegan.StyleGAN"
# For 1,853 photographs, and for a processor: 0.8 to 0.9 million weights a network, where the authors' have 23 to 30.
SMALL: dict[str, Any] = {
    "image_shape": (64, 64, 3),
    "latent_dim": 128,
    "style_dim": 128,
    "channel_base": 512,
    "channel_max": 128,
    "mapping_layers": 2,
}
TINY: dict[str, Any] = {
    "image_shape": (8, 8, 3),
    "latent_dim": 8,
    "style_dim": 8,
    "channel_base": 32,
    "channel_max": 8,
    "group_size": None,
    "r1_interval": 1,
}

PRESETS = (
    Preset(
        name="stylegan-sign-digits",
        model=MODEL,
        family="StyleGAN",
        paper="arXiv:1812.04948",
        summary="StyleGAN on 1,853 photographs of signed digits, 64x64 color, grown from 4x4, with styles and noise.",
        arguments={
            **SMALL,
            "fade_steps": 2_000,
            "stable_steps": 2_000,
            "r1_weight": 2.0,
            "augment": "color,translation,cutout",
        },
        tiny={**TINY, "fade_steps": 1, "stable_steps": 1},
    ),
    Preset(
        name="stylegan2-sign-digits",
        model=MODEL,
        family="StyleGAN2",
        paper="arXiv:1912.04958",
        summary="StyleGAN2 on 1,853 photographs of signed digits, 64x64 color, with path length regularization.",
        arguments={
            **SMALL,
            "architecture": "stylegan2",
            "r1_weight": 1.0,
            "path_length_weight": 2.0,
            "path_length_interval": 8,
            "augment": "translation,cutout",
        },
        tiny={**TINY, "path_length_interval": 1},
    ),
)
