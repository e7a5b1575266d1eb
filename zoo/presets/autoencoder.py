"""Presets of autoencoders."""

from zoo.presets.preset import Preset

PRESETS = (
    Preset(
        name="autoencoder-fashion-mnist",
        model="zoo.models.autoencoder.Autoencoder",
        family="autoencoder",
        paper="arXiv:2003.05991",
        summary="A convolutional autoencoder with a code of 32 numbers, on Fashion-MNIST, 28x28 gray.",
        arguments={"image_shape": (28, 28, 1), "architecture": "convolutional", "hidden": (32, 64)},
        tiny={"image_shape": (8, 8, 1), "hidden": (4, 8), "code_dim": 4},
    ),
    Preset(
        name="denoising-autoencoder-fashion-mnist",
        model="zoo.models.autoencoder.Autoencoder",
        family="denoising autoencoder",
        paper="arXiv:1305.6663",
        summary="Gives back Fashion-MNIST images, 28x28 gray, without their normal noise.",
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
        summary="A code of 196 units, each at 5 % of its range on average; MNIST, 28x28 gray.",
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
        summary="A code of 120 units that small changes of an image hardly move; MNIST, 28x28 gray.",
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
)
