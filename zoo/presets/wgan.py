"""Presets of WGAN and WGAN-GP."""

from zoo.presets.preset import Preset

PRESETS = (
    Preset(
        name="wgan-fashion-mnist",
        model="zoo.models.wgan.WGAN",
        family="WGAN",
        paper="arXiv:1701.07875",
        summary="DCGAN's networks with a critic of clipped weights, on Fashion-MNIST, 32x32 gray.",
        arguments={"image_shape": (32, 32, 1), "constraint": "weight_clipping"},
        tiny={"image_shape": (16, 16, 1), "width": 8, "latent_dim": 8, "critic_steps": 2},
    ),
    Preset(
        name="wgan-gp-fashion-mnist",
        model="zoo.models.wgan.WGAN",
        family="WGAN-GP",
        paper="arXiv:1704.00028",
        summary="DCGAN's networks with a critic held by a gradient penalty, on Fashion-MNIST, 32x32 gray.",
        arguments={"image_shape": (32, 32, 1)},
        tiny={"image_shape": (16, 16, 1), "width": 8, "latent_dim": 8, "critic_steps": 2},
    ),
)
