"""Presets of GAN, DCGAN, LSGAN, SN-GAN and the conditional GAN."""

from zoo.data.classes import FASHION_CLASSES
from zoo.presets.preset import Preset

PRESETS = (
    Preset(
        name="dcgan-fashion-mnist",
        model="zoo.models.gan.GAN",
        family="DCGAN",
        paper="arXiv:1511.06434",
        summary="DCGAN on Fashion-MNIST, 32x32 gray.",
        arguments={"image_shape": (32, 32, 1)},
        tiny={"image_shape": (16, 16, 1), "width": 8, "latent_dim": 8},
    ),
    Preset(
        name="gan-mnist",
        model="zoo.models.gan.GAN",
        family="GAN",
        paper="arXiv:1406.2661",
        summary="The first GAN, ReLU and sigmoid against maxout and dropout, on MNIST, 28x28 gray.",
        arguments={"image_shape": (28, 28, 1), "architecture": "mlp", "prior": "uniform"},
        tiny={"image_shape": (8, 8, 1), "width": 8, "latent_dim": 8},
    ),
    Preset(
        name="lsgan-fashion-mnist",
        model="zoo.models.gan.GAN",
        family="LSGAN",
        paper="arXiv:1611.04076",
        summary="DCGAN's networks with least squares, on Fashion-MNIST, 32x32 gray.",
        arguments={"image_shape": (32, 32, 1), "loss": "least_squares"},
        tiny={"image_shape": (16, 16, 1), "width": 8, "latent_dim": 8},
    ),
    Preset(
        name="sngan-fashion-mnist",
        model="zoo.models.gan.GAN",
        family="SN-GAN",
        paper="arXiv:1802.05957",
        summary="Residual networks, hinge loss, a discriminator with spectral norm, on Fashion-MNIST, 32x32 gray.",
        arguments={
            "image_shape": (32, 32, 1),
            "latent_dim": 128,
            "architecture": "resnet",
            "width": 32,
            "loss": "hinge",
            "schedule": "alternating",
        },
        tiny={"image_shape": (16, 16, 1), "width": 4, "latent_dim": 8},
    ),
    Preset(
        name="cgan-fashion-mnist",
        model="zoo.models.conditional_gan.ConditionalGAN",
        family="conditional GAN",
        paper="arXiv:1802.05637",
        summary="Draws the class it is asked for: DCGAN with projection, on Fashion-MNIST, 32x32 gray.",
        arguments={"image_shape": (32, 32, 1), "classes": FASHION_CLASSES},
        tiny={"image_shape": (16, 16, 1), "width": 8, "latent_dim": 8},
    ),
    Preset(
        name="dcgan-sign-digits",
        model="zoo.models.gan.GAN",
        family="DCGAN",
        paper="arXiv:1511.06434",
        summary="DCGAN on 1,853 photographs of signed digits, 64x64 color, with differentiable augmentation.",
        arguments={
            "image_shape": (64, 64, 3),
            "width": 32,
            "augment": "color,translation,cutout",
        },
        tiny={"image_shape": (16, 16, 3), "width": 8, "latent_dim": 8},
    ),
    Preset(
        name="dcgan-images",
        model="zoo.models.gan.GAN",
        family="DCGAN",
        paper="arXiv:1511.06434",
        summary="DCGAN for your own folder or zip of images, 64x64 color; no published weights.",
        arguments={"image_shape": (64, 64, 3)},
        tiny={"image_shape": (16, 16, 3), "width": 8, "latent_dim": 8},
    ),
)
