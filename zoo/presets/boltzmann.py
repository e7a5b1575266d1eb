"""Presets of Boltzmann machines."""

from zoo.presets.preset import Preset

PRESETS = (
    Preset(
        name="rbm-mnist",
        model="zoo.models.rbm.RBM",
        family="RBM",
        paper="arXiv:1412.8566",
        summary="A restricted Boltzmann machine of 500 hidden units on binarized MNIST, 28x28 black and white.",
        arguments={
            "image_shape": (28, 28, 1),
            "persistent": True,
            "initial_brightness": 0.13,
        },
        tiny={
            "image_shape": (8, 8, 1),
            "units": 12,
            "chains": 16,
            "sampling_steps": 3,
            "annealing_chains": 10,
            "annealing_temperatures": 20,
        },
    ),
    Preset(
        name="dbn-mnist",
        model="zoo.models.dbn.DBN",
        family="deep belief network",
        paper="doi:10.1162/neco.2006.18.7.1527",
        summary="A deep belief network of 500 and 2,000 hidden units on binarized MNIST, 28x28 black and white.",
        arguments={
            "image_shape": (28, 28, 1),
            "units": (500, 2_000),
            "layer_steps": (120_000, 60_000),
            "persistent": True,
            "initial_brightness": 0.13,
        },
        tiny={
            "image_shape": (8, 8, 1),
            "units": (24, 12),
            "layer_steps": (1, 1),
            "chains": 16,
            "bound_samples": 2,
            "sampling_steps": 3,
            "annealing_chains": 10,
            "annealing_temperatures": 20,
        },
    ),
)
