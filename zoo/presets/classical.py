"""Presets of classical models: mixtures, naive Bayes, a hidden Markov model."""

from zoo.presets.preset import Preset

PRESETS = (
    Preset(
        name="bernoulli-mixture-mnist",
        model="zoo.models.bernoulli_mixture.BernoulliMixture",
        family="Bernoulli mixture",
        paper="arXiv:0712.4273",
        summary="500 images of probabilities, by EM, on binarized MNIST, 28x28 black and white.",
        arguments={"image_shape": (28, 28, 1), "components": 500},
        tiny={"image_shape": (8, 8, 1), "components": 3},
    ),
    Preset(
        name="gmm-fashion-mnist",
        model="zoo.models.gaussian_mixture.GaussianMixture",
        family="Gaussian mixture",
        paper="arXiv:1805.12462",
        summary="80 analyzers of 10 factors each, by EM, on Fashion-MNIST, 28x28 gray.",
        arguments={"image_shape": (28, 28, 1), "components": 80, "factors": 10},
        tiny={"image_shape": (8, 8, 1), "components": 3, "factors": 2},
    ),
    Preset(
        name="naive-bayes-mnist",
        model="zoo.models.naive_bayes.NaiveBayes",
        family="naive Bayes",
        paper="arXiv:0712.4273",
        summary="Draws the digit it is asked for, pixel by pixel, and names digits; fitted by counting. MNIST, 28x28.",
        arguments={"image_shape": (28, 28, 1), "classes": tuple("0123456789")},
        tiny={"image_shape": (8, 8, 1)},
    ),
    Preset(
        name="hmm-mnist",
        model="zoo.models.hidden_markov.HiddenMarkov",
        family="hidden Markov model",
        paper="arXiv:0712.4273",
        summary="Reads a digit row by row, by 256 hidden states, on binarized MNIST, 28x28 black and white.",
        arguments={"image_shape": (28, 28, 1), "states": 256},
        tiny={"image_shape": (8, 8, 1), "states": 3},
    ),
)
