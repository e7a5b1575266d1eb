"""Presets of Progressive GAN."""

from zoo.presets.preset import Preset

PRESETS = (
    Preset(
        name="progan-sign-digits",
        model="zoo.models.progressive_gan.ProgressiveGAN",
        family="Progressive GAN",
        paper="arXiv:1710.10196",
        summary="Grows from 4x4 to 64x64 in color, on 1,853 photographs of signed digits.",
        arguments={
            "image_shape": (64, 64, 3),
            "latent_dim": 128,
            "channel_base": 512,
            "channel_max": 128,
            "fade_steps": 1_000,
            "stable_steps": 1_000,
            "augment": "color,translation,cutout",
        },
        tiny={
            "image_shape": (8, 8, 3),
            "latent_dim": 8,
            "channel_base": 32,
            "channel_max": 8,
            "fade_steps": 2,
            "stable_steps": 1,
            "group_size": None,
        },
    ),
)
