"""Presets of autoregressive models of pixels."""

from zoo.presets.preset import Preset

PRESETS = (
    Preset(
        name="pixelcnn-mnist",
        model="zoo.models.pixel_cnn.PixelCNN",
        family="PixelCNN",
        paper="arXiv:1606.05328",
        summary="Each pixel given all before it, so that log p(x) is exact; binarized MNIST, 28x28 black and white.",
        arguments={"image_shape": (28, 28, 1)},
        tiny={"image_shape": (8, 8, 1), "filters": 8, "blocks": 2, "kernel": 3},
    ),
)
