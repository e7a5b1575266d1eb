"""Presets of variational autoencoders."""

from zoo.presets.preset import Preset

PRESETS = (
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
            "initial_brightness": 0.13,
        },
        tiny={"image_shape": (8, 8, 1), "hidden": (8,), "latent_dim": 4, "bound_samples": 2},
    ),
    Preset(
        name="iwae-mnist",
        model="zoo.models.vae.VAE",
        family="IWAE",
        paper="arXiv:1509.00519",
        summary="A dense VAE that learns by the bound of 5 samples, on binarized MNIST, 28x28 black and white.",
        arguments={
            "image_shape": (28, 28, 1),
            "latent_dim": 50,
            "hidden": (200, 200),
            "activation": "tanh",
            "importance_samples": 5,
            "initial_brightness": 0.13,
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
        summary="A dense VAE with a probability for each gray level, on Fashion-MNIST, 28x28 gray.",
        arguments={
            "image_shape": (28, 28, 1),
            "likelihood": "discretized_logistic",
            "scale": 0.3,
            "bound_samples": 10,
        },
        tiny={"image_shape": (8, 8, 1), "hidden": (8,), "latent_dim": 4, "bound_samples": 2},
    ),
    Preset(
        name="beta-vae-fashion-mnist",
        model="zoo.models.vae.VAE",
        family="beta-VAE",
        paper="arXiv:1804.03599",
        summary="Ten latents, each to mean something by itself: beta = 4, on Fashion-MNIST, 28x28 gray.",
        arguments={
            "image_shape": (28, 28, 1),
            "latent_dim": 10,
            "architecture": "convolutional",
            "hidden": (32, 64),
            "beta": 4.0,
            "initial_brightness": 0.29,
            "bound_samples": 10,
        },
        tiny={"image_shape": (8, 8, 1), "hidden": (4, 8), "latent_dim": 4, "bound_samples": 2},
    ),
    Preset(
        name="cvae-mnist",
        model="zoo.models.vae.VAE",
        family="conditional VAE",
        paper="arXiv:1406.5298",
        summary="Draws the digit it is asked for; what the latents hold is the hand. MNIST, 28x28 gray.",
        arguments={
            "image_shape": (28, 28, 1),
            "latent_dim": 8,
            "initial_brightness": 0.13,
            "classes": tuple("0123456789"),
        },
        tiny={"image_shape": (8, 8, 1), "hidden": (8,), "latent_dim": 4, "bound_samples": 2},
    ),
)
