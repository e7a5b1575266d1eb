"""A small VGG (arXiv:1409.1556) with batch norm (arXiv:1502.03167): pairs of 3x3 convolutions, halved maps between."""

from collections.abc import Sequence

import keras
from keras import layers

from zoo.core.precision import full_precision
from zoo.layers.convolution import Conv2D
from zoo.layers.dropout import Dropout
from zoo.layers.normalization import BatchNorm

STAGES = 3


def classifier(
    image_shape: Sequence[int], classes: int, width: int = 32, dropout: float = 0.3, name: str = "classifier"
) -> keras.Model:
    """image (batch, *image_shape), float32 in [-1, 1] -> features (batch, 4 width), >= 0, and logits (batch, classes).

    Paper: fully connected layers. The mean over the last map instead, as in later networks: fewer weights, and
    features that do not depend on where a thing is. Paper: the largest of four values. Their mean instead: XLA has no
    deterministic gradient of the former.

    Args:
        image_shape: (height, width, channels), sides >= 8.
        classes: number of logits.
        width: channels of the first maps; each of the three stages has twice the one before.
        dropout: of the features, before the logits.
        name: of the network.
    """
    if min(image_shape[:2]) < 2**STAGES:
        raise ValueError(f"image_shape={image_shape}: both sides must be at least {2**STAGES}.")
    image = keras.Input(image_shape, name="image")
    x = image
    for stage in range(STAGES):
        if stage:
            x = layers.AveragePooling2D(2, name=f"halve_{stage}")(x)
        for number in (1, 2):
            label = f"{stage + 1}_{number}"
            x = Conv2D(
                width * 2**stage,
                3,
                padding="same",
                use_bias=False,
                kernel_initializer="he_normal",
                name=f"conv_{label}",
            )(x)
            x = BatchNorm(name=f"norm_{label}")(x)
            x = layers.ReLU(name=f"relu_{label}")(x)
    features = layers.GlobalAveragePooling2D(dtype=full_precision(), name="features")(x)
    x = Dropout(dropout, dtype=full_precision(), name="dropout")(features)
    logits = layers.Dense(classes, dtype=full_precision(), name="logits")(x)
    return keras.Model(image, [features, logits], name=name)
