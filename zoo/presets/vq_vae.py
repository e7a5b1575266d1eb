"""Presets of autoencoders with discrete codes."""

from zoo.presets.preset import Preset

PRESETS = (
    Preset(
        name="vq-vae-fashion-mnist",
        model="zoo.models.vq_vae.VQVAE",
        family="VQ-VAE",
        paper="arXiv:1711.00937",
        summary="7x7 codes out of 256, and a PixelCNN that draws them; Fashion-MNIST, 28x28 gray.",
        arguments={
            "image_shape": (28, 28, 1),
            "codes": 256,
            "hidden": (32, 64),
            "block_width": 32,
            "revive_below": 0.1,
            "prior_begins": 8_000,
            "prior_blocks": 6,
        },
        tiny={
            "image_shape": (8, 8, 1),
            "codes": 48,
            "code_dim": 3,
            "hidden": (4, 8),
            "block_width": 4,
            "prior_begins": 2,
            "prior_filters": 4,
            "prior_blocks": 2,
        },
    ),
)
