"""Networks for points in place of images: a point of n dimensions is an image of shape (1, n, 1) to the models.

Within `small_architectures()` `zoo.models.gan.GAN` builds them; everything else is the model that trains images.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from zoo.layers.dropout import Dropout
from zoo.layers.minibatch import MinibatchDiscrimination, MinibatchStddev
from zoo.models import gan
from zoo.models.gan import GAN, Architecture
from zoo.networks.convolutional import Minibatch, Norm, wrapper

DISCRIMINATION = (5, 3)  # kernels and their dimensions; images take more, points of the plane need few


def dirac_generator(
    image_shape: tuple[int, int, int], latent_dim: int, width: int = 1, name: str = "generator"
) -> keras.Model:
    """latent -> theta, whatever the latent: one weight."""
    latent = keras.Input((latent_dim,), name="latent")
    theta = layers.Dense(1, use_bias=False, kernel_initializer="ones", name="theta")(ops.ones_like(latent[:, :1]))
    return keras.Model(latent, layers.Reshape(image_shape, name="image")(theta), name=name)


def dirac_discriminator(image_shape: tuple[int, int, int], width: int = 1, name: str = "discriminator") -> keras.Model:
    """x -> psi x: one weight."""
    image = keras.Input(image_shape, name="image")
    logit = layers.Dense(1, use_bias=False, kernel_initializer="ones", name="logit")(layers.Flatten()(image))
    return keras.Model(image, logit, name=name)


def mlp_generator(
    image_shape: tuple[int, int, int], latent_dim: int, width: int = 128, name: str = "generator"
) -> keras.Model:
    """latent -> point, unbounded, by two hidden ReLU layers."""
    latent = keras.Input((latent_dim,), name="latent")
    x = add_hidden_layers(latent, width)
    point = layers.Dense(int(np.prod(image_shape)), name="point")(x)
    return keras.Model(latent, layers.Reshape(image_shape, name="image")(point), name=name)


def mlp_discriminator(
    image_shape: tuple[int, int, int],
    width: int = 128,
    norm: Norm = "none",
    dropout: float = 0.0,
    minibatch: Minibatch = "none",
    name: str = "discriminator",
) -> keras.Model:
    """point -> logit, by two hidden ReLU layers; options as of `zoo.networks.convolutional.discriminator`."""
    wrap = wrapper(norm)
    image = keras.Input(image_shape, name="image")
    x = add_hidden_layers(layers.Flatten(name="flatten")(image), width, norm, dropout)
    if minibatch == "stddev":
        x = layers.Flatten(name="features")(MinibatchStddev(name="stddev")(layers.Reshape((1, 1, width))(x)))
    if minibatch == "discrimination":
        x = MinibatchDiscrimination(*DISCRIMINATION, name="others")(x)
    return keras.Model(image, wrap(layers.Dense(1, name="logit"))(x), name=name)


def add_hidden_layers(x: keras.KerasTensor, width: int, norm: Norm = "none", dropout: float = 0.0) -> keras.KerasTensor:
    """Two ReLU layers."""
    wrap = wrapper(norm)
    for number in (1, 2):
        x = wrap(layers.Dense(width, "relu", kernel_initializer="he_normal", name=f"hidden_{number}"))(x)
        x = Dropout(dropout, name=f"dropout_{number}")(x) if dropout else x
    return x


MLP_OPTIONS = ("norm", "dropout", "minibatch")  # of `mlp_discriminator`
ARCHITECTURES = {
    "dirac": Architecture(dirac_generator, dirac_discriminator),
    "points": Architecture(mlp_generator, mlp_discriminator, MLP_OPTIONS),
}


@contextmanager
def small_architectures(**more: Architecture) -> Iterator[None]:
    """Within it `GAN(architecture=...)` takes the names of `ARCHITECTURES` and of `more`, too.

    Args:
        **more: name -> architecture.
    """
    added = {**ARCHITECTURES, **more}
    gan.ARCHITECTURES.update(added)
    try:
        yield
    finally:
        for name in added:
            del gan.ARCHITECTURES[name]


def make_batches(points: np.ndarray, model: GAN, batch_size: int) -> tf.data.Dataset:
    """The rows of `points`, (count, dimensions), in their order and repeated, as batches for the model."""
    k, dimensions = model.minibatches_per_step, points.shape[1]
    each = () if k == 1 else (k,)
    count = len(points) // (batch_size * k)
    shape = (count, batch_size, *each, 1, dimensions, 1)
    images = tf.data.Dataset.from_tensor_slices(points[: count * batch_size * k].reshape(shape).astype(np.float32))
    rows = tf.range(batch_size, dtype=tf.int64)
    return images.repeat().map(lambda batch: {"image": batch, "row": rows})
