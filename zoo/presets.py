"""The one table of every preset: plain data, no TensorFlow.

A preset names a class and the constructor arguments in which it differs from that class's defaults. `tiny` is what a
small twin changes further: the same class in the same configuration, at sizes that a test can train.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any


@dataclass(frozen=True)
class Preset:
    """One named configuration of one model class.

    Args:
        name: lower case, words joined by "-".
        model: the class by its dotted name.
        family: the name the field calls it by.
        paper: "arXiv:..." of the algorithm.
        summary: one sentence for lists.
        arguments: of the constructor, where they differ from its defaults.
        tiny: what the small twin changes.
    """

    name: str
    model: str
    family: str
    paper: str
    summary: str
    arguments: Mapping[str, Any]
    tiny: Mapping[str, Any] = field(default_factory=dict)

    def twin(self) -> "Preset":
        """The same class and configuration at test size."""
        return Preset(
            self.name, self.model, self.family, self.paper, self.summary, {**self.arguments, **self.tiny}, self.tiny
        )


FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="dcgan-fashion-mnist",
            model="zoo.models.gan.GAN",
            family="DCGAN",
            paper="arXiv:1511.06434",
            summary="DCGAN on Fashion-MNIST, 32x32 grey.",
            arguments={"image_shape": (32, 32, 1)},
            tiny={"image_shape": (16, 16, 1), "width": 8, "latent_dim": 8},
        ),
        Preset(
            name="gan-mnist",
            model="zoo.models.gan.GAN",
            family="GAN",
            paper="arXiv:1406.2661",
            summary="The first GAN, ReLU and sigmoid against maxout and dropout, on MNIST, 28x28 grey.",
            arguments={"image_shape": (28, 28, 1), "architecture": "mlp", "prior": "uniform"},
            tiny={"image_shape": (8, 8, 1), "width": 8, "latent_dim": 8},
        ),
        Preset(
            name="lsgan-fashion-mnist",
            model="zoo.models.gan.GAN",
            family="LSGAN",
            paper="arXiv:1611.04076",
            summary="DCGAN's networks with least squares, on Fashion-MNIST, 32x32 grey.",
            arguments={"image_shape": (32, 32, 1), "loss": "least_squares"},
            tiny={"image_shape": (16, 16, 1), "width": 8, "latent_dim": 8},
        ),
        Preset(
            name="wgan-fashion-mnist",
            model="zoo.models.wgan.WGAN",
            family="WGAN",
            paper="arXiv:1701.07875",
            summary="DCGAN's networks with a critic of clipped weights, on Fashion-MNIST, 32x32 grey.",
            arguments={"image_shape": (32, 32, 1), "constraint": "weight_clipping"},
            tiny={"image_shape": (16, 16, 1), "width": 8, "latent_dim": 8, "critic_steps": 2},
        ),
        Preset(
            name="wgan-gp-fashion-mnist",
            model="zoo.models.wgan.WGAN",
            family="WGAN-GP",
            paper="arXiv:1704.00028",
            summary="DCGAN's networks with a critic held by a gradient penalty, on Fashion-MNIST, 32x32 grey.",
            arguments={"image_shape": (32, 32, 1)},
            tiny={"image_shape": (16, 16, 1), "width": 8, "latent_dim": 8, "critic_steps": 2},
        ),
        Preset(
            name="sngan-fashion-mnist",
            model="zoo.models.gan.GAN",
            family="SN-GAN",
            paper="arXiv:1802.05957",
            summary="Residual networks, hinge loss, a discriminator with spectral norm, on Fashion-MNIST, 32x32 grey.",
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
            summary="Draws the class it is asked for: DCGAN with projection, on Fashion-MNIST, 32x32 grey.",
            arguments={"image_shape": (32, 32, 1), "classes": FASHION_CLASSES},
            tiny={"image_shape": (16, 16, 1), "width": 8, "latent_dim": 8},
        ),
        Preset(
            name="dcgan-sign-digits",
            model="zoo.models.gan.GAN",
            family="DCGAN",
            paper="arXiv:1511.06434",
            summary="DCGAN on 1,861 photographs of signed digits, 64x64 colour, with differentiable augmentation.",
            arguments={
                "image_shape": (64, 64, 3),
                "width": 32,
                "stabilisers": {"augment": "color,translation,cutout"},
            },
            tiny={"image_shape": (16, 16, 3), "width": 8, "latent_dim": 8},
        ),
        Preset(
            name="dcgan-pictures",
            model="zoo.models.gan.GAN",
            family="DCGAN",
            paper="arXiv:1511.06434",
            summary="DCGAN for your own folder or zip of pictures, 64x64 colour; no published weights.",
            arguments={"image_shape": (64, 64, 3)},
            tiny={"image_shape": (16, 16, 3), "width": 8, "latent_dim": 8},
        ),
        Preset(
            name="autoencoder-fashion-mnist",
            model="zoo.models.autoencoder.Autoencoder",
            family="autoencoder",
            paper="arXiv:2003.05991",
            summary="A convolutional autoencoder with a code of 32 numbers, on Fashion-MNIST, 28x28 grey.",
            arguments={"image_shape": (28, 28, 1), "architecture": "convolutional", "hidden": (32, 64)},
            tiny={"image_shape": (8, 8, 1), "hidden": (4, 8), "code_dim": 4},
        ),
        Preset(
            name="denoising-autoencoder-fashion-mnist",
            model="zoo.models.autoencoder.Autoencoder",
            family="denoising autoencoder",
            paper="arXiv:1305.6663",
            summary="Gives back Fashion-MNIST pictures, 28x28 grey, without their normal noise.",
            arguments={
                "image_shape": (28, 28, 1),
                "architecture": "convolutional",
                "hidden": (32, 64),
                "code_dim": 128,
                "corruption": "gaussian",
            },
            tiny={"image_shape": (8, 8, 1), "hidden": (4, 8), "code_dim": 4},
        ),
        Preset(
            name="sparse-autoencoder-mnist",
            model="zoo.models.autoencoder.Autoencoder",
            family="sparse autoencoder",
            paper="arXiv:2003.05991",
            summary="A code of 196 units, each at 5 % of its range on average; MNIST, 28x28 grey.",
            arguments={
                "image_shape": (28, 28, 1),
                "code_dim": 196,
                "hidden": (),
                "code_activation": "sigmoid",
                "sparsity": "kl",
            },
            tiny={"image_shape": (8, 8, 1), "code_dim": 4},
        ),
        Preset(
            name="contractive-autoencoder-mnist",
            model="zoo.models.autoencoder.Autoencoder",
            family="contractive autoencoder",
            paper="arXiv:1104.4153",
            summary="A code of 120 units that small changes of a picture hardly move; MNIST, 28x28 grey.",
            arguments={
                "image_shape": (28, 28, 1),
                "code_dim": 120,
                "hidden": (),
                "code_activation": "sigmoid",
                "loss": "binary_cross_entropy",
                "contraction_weight": 0.1,
            },
            tiny={"image_shape": (8, 8, 1), "code_dim": 4},
        ),
        Preset(
            name="vae-mnist",
            model="zoo.models.vae.VAE",
            family="VAE",
            paper="arXiv:1312.6114",
            summary="A dense VAE on binarized MNIST, 28x28 black and white.",
            arguments={
                "image_shape": (28, 28, 1),
                "latent_dim": 50,
                "hidden": (200, 200),
                "activation": "tanh",
                "warmup_steps": 4_000,
                "first_brightness": 0.13,
            },
            tiny={"image_shape": (8, 8, 1), "hidden": (8,), "latent_dim": 4, "bound_samples": 2},
        ),
        Preset(
            name="iwae-mnist",
            model="zoo.models.vae.VAE",
            family="IWAE",
            paper="arXiv:1509.00519",
            summary="A dense VAE that learns by the bound of 50 samples, on binarized MNIST, 28x28 black and white.",
            arguments={
                "image_shape": (28, 28, 1),
                "latent_dim": 50,
                "hidden": (200, 200),
                "activation": "tanh",
                "importance_samples": 50,
                "first_brightness": 0.13,
            },
            tiny={
                "image_shape": (8, 8, 1),
                "hidden": (8,),
                "latent_dim": 4,
                "bound_samples": 2,
                "importance_samples": 3,
            },
        ),
        Preset(
            name="vae-fashion-mnist",
            model="zoo.models.vae.VAE",
            family="VAE",
            paper="arXiv:1312.6114",
            summary="A convolutional VAE with a probability for each grey level, on Fashion-MNIST, 28x28 grey.",
            arguments={
                "image_shape": (28, 28, 1),
                "architecture": "convolutional",
                "hidden": (32, 64),
                "likelihood": "discretised_logistic",
                "bound_samples": 10,
            },
            tiny={"image_shape": (8, 8, 1), "hidden": (4, 8), "latent_dim": 4, "bound_samples": 2},
        ),
        Preset(
            name="beta-vae-fashion-mnist",
            model="zoo.models.vae.VAE",
            family="beta-VAE",
            paper="arXiv:1804.03599",
            summary="Ten latents, each to mean something by itself: beta = 4, on Fashion-MNIST, 28x28 grey.",
            arguments={
                "image_shape": (28, 28, 1),
                "latent_dim": 10,
                "architecture": "convolutional",
                "hidden": (32, 64),
                "beta": 4.0,
                "first_brightness": 0.29,
                "bound_samples": 10,
            },
            tiny={"image_shape": (8, 8, 1), "hidden": (4, 8), "latent_dim": 4, "bound_samples": 2},
        ),
        Preset(
            name="cvae-mnist",
            model="zoo.models.vae.VAE",
            family="conditional VAE",
            paper="arXiv:1406.5298",
            summary="Draws the digit it is asked for; what the latents hold is the hand. MNIST, 28x28 grey.",
            arguments={
                "image_shape": (28, 28, 1),
                "latent_dim": 8,
                "first_brightness": 0.13,
                "classes": tuple("0123456789"),
            },
            tiny={"image_shape": (8, 8, 1), "hidden": (8,), "latent_dim": 4, "bound_samples": 2},
        ),
        Preset(
            name="cnn-fashion-mnist",
            model="zoo.models.classifier.Classifier",
            family="Classifier",
            paper="arXiv:1409.1556",
            summary="Names the class of a Fashion-MNIST picture, 28x28 grey; its features score generated ones.",
            arguments={"image_shape": (28, 28, 1), "classes": FASHION_CLASSES, "flip": True},
            tiny={"image_shape": (8, 8, 1), "width": 4},
        ),
        Preset(
            name="cnn-mnist",
            model="zoo.models.classifier.Classifier",
            family="Classifier",
            paper="arXiv:1409.1556",
            summary="Names the digit of an MNIST picture, 28x28 grey; its features score generated ones.",
            arguments={"image_shape": (28, 28, 1), "classes": tuple("0123456789")},
            tiny={"image_shape": (8, 8, 1), "width": 4},
        ),
        Preset(
            name="cnn-sign-digits",
            model="zoo.models.classifier.Classifier",
            family="Classifier",
            paper="arXiv:1409.1556",
            summary="Names the digit that a photographed hand shows, 64x64 colour; its features score generated ones.",
            arguments={"image_shape": (64, 64, 3), "classes": tuple("0123456789"), "flip": True},
            tiny={"image_shape": (8, 8, 3), "width": 4},
        ),
    )
}


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


def class_called(dotted: str) -> Any:
    """The class of a dotted name such as "zoo.models.gan.GAN"; this is where a model's module is imported."""
    module, name = dotted.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)
