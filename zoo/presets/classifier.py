"""Presets of classifiers, whose features score images."""

from zoo.data.classes import FASHION_CLASSES
from zoo.presets.preset import Preset

PRESETS = (
    Preset(
        name="cnn-fashion-mnist",
        model="zoo.models.classifier.Classifier",
        family="Classifier",
        paper="arXiv:1409.1556",
        summary="Names the class of a Fashion-MNIST image, 28x28 gray; its features score generated ones.",
        arguments={"image_shape": (28, 28, 1), "classes": FASHION_CLASSES, "flip": True},
        tiny={"image_shape": (8, 8, 1), "width": 4},
        extractor_for=("fashion_mnist", "fashion_mnist_t10k"),
    ),
    Preset(
        name="cnn-mnist",
        model="zoo.models.classifier.Classifier",
        family="Classifier",
        paper="arXiv:1409.1556",
        summary="Names the digit of an MNIST image, 28x28 gray; its features score generated ones.",
        arguments={"image_shape": (28, 28, 1), "classes": tuple("0123456789")},
        tiny={"image_shape": (8, 8, 1), "width": 4},
        extractor_for=("mnist", "binarized_mnist"),
    ),
    Preset(
        name="cnn-sign-digits",
        model="zoo.models.classifier.Classifier",
        family="Classifier",
        paper="arXiv:1409.1556",
        summary="Names the digit that a photographed hand shows, 64x64 color; its features score generated ones.",
        arguments={"image_shape": (64, 64, 3), "classes": tuple("0123456789"), "flip": True},
        tiny={"image_shape": (8, 8, 3), "width": 4},
        extractor_for=("sign-digits-64.zip", "sign-digits-64"),
    ),
)
