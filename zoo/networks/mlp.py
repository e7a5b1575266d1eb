"""The networks of the first GAN on MNIST (arXiv:1406.2661, section 5): ReLU and sigmoid against maxout and dropout.

The published text names the layers; the sizes are those of the authors' MNIST configuration. There the biases of G's
last layer begin at the images' mean brightness, here at 0.
"""

import math

import keras
from keras import layers

from zoo.core.precision import full_precision
from zoo.layers.dropout import Dropout
from zoo.layers.maxout import Maxout

GENERATOR_RANGE, DISCRIMINATOR_RANGE = 0.05, 0.005  # the authors' irange of each one's layers
PIECES = 5  # maxout pieces a unit
INPUT_DROPOUT = 0.2
HIDDEN_DROPOUT = 0.5


def generator(
    image_shape: tuple[int, int, int], latent_dim: int, width: int = 1200, name: str = "generator"
) -> keras.Model:
    """latent (batch, latent_dim) -> image (batch, *image_shape), float32 in [-1, 1].

    Args:
        image_shape: (height, width, channels).
        latent_dim: length of a latent vector.
        width: units of each of the two hidden layers.
        name: of the network.
    """
    latent = keras.Input((latent_dim,), name="latent")
    x = layers.Dense(width, "relu", kernel_initializer=uniform(GENERATOR_RANGE), name="hidden_1")(latent)
    x = layers.Dense(width, "relu", kernel_initializer=uniform(GENERATOR_RANGE), name="hidden_2")(x)
    x = layers.Dense(math.prod(image_shape), "sigmoid", kernel_initializer=uniform(GENERATOR_RANGE), name="pixels")(x)
    x = layers.Rescaling(2.0, offset=-1.0, dtype=full_precision(), name="range")(
        x
    )  # the paper's pixels lie in [0, 1], ours in [-1, 1]
    image = layers.Reshape(image_shape, dtype=full_precision(), name="image")(x)
    return keras.Model(latent, image, name=name)


def discriminator(image_shape: tuple[int, int, int], width: int = 240, name: str = "discriminator") -> keras.Model:
    """image (batch, *image_shape), float32 in [-1, 1] -> logit (batch, 1), unbounded.

    Args:
        image_shape: (height, width, channels).
        width: maxout units of each of the two hidden layers.
        name: of the network.
    """
    image = keras.Input(image_shape, name="image")
    x = layers.Flatten(name="flatten")(image)
    x = Dropout(INPUT_DROPOUT, name="dropout_0")(x)
    for number in (1, 2):
        x = Maxout(width, PIECES, kernel_initializer=uniform(DISCRIMINATOR_RANGE), name=f"maxout_{number}")(x)
        x = Dropout(HIDDEN_DROPOUT, name=f"dropout_{number}")(x)
    logit = layers.Dense(1, kernel_initializer=uniform(DISCRIMINATOR_RANGE), dtype=full_precision(), name="logit")(x)
    return keras.Model(image, logit, name=name)


def uniform(largest: float) -> keras.initializers.Initializer:
    """A fresh initializer: an instance draws the same numbers each time it is called."""
    return keras.initializers.RandomUniform(-largest, largest)
