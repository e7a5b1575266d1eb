"""Players that are small enough to be understood: points in place of images, (1, dimensions, 1) to the models.

`playing()` lets `zoo.models.gan.GAN` build them; everything else is the model that trains images.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from zoo.layers.dropout import Dropout
from zoo.layers.minibatch import MinibatchDiscrimination, MinibatchStddev
from zoo.models import gan
from zoo.models.gan import GAN
from zoo.networks.convolutional import Minibatch, Norm, wrapper

DISCRIMINATION = (5, 3)  # kernels and dimensions: every pair of a batch is compared in so many numbers


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
    x = hidden(latent, width)
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
    x = hidden(layers.Flatten(name="flatten")(image), width, norm, dropout)
    if minibatch == "stddev":
        x = layers.Flatten(name="features")(MinibatchStddev(name="stddev")(layers.Reshape((1, 1, width))(x)))
    if minibatch == "discrimination":
        x = MinibatchDiscrimination(*DISCRIMINATION, name="others")(x)
    return keras.Model(image, wrap(layers.Dense(1, name="logit"))(x), name=name)


def hidden(x: keras.KerasTensor, width: int, norm: Norm = "none", dropout: float = 0.0) -> keras.KerasTensor:
    """Two ReLU layers."""
    wrap = wrapper(norm)
    for number in (1, 2):
        x = wrap(layers.Dense(width, "relu", kernel_initializer="he_normal", name=f"hidden_{number}"))(x)
        x = Dropout(dropout, name=f"dropout_{number}")(x) if dropout else x
    return x


PLAYERS = {
    "dirac": SimpleNamespace(generator=dirac_generator, discriminator=dirac_discriminator),
    "points": SimpleNamespace(generator=mlp_generator, discriminator=mlp_discriminator),
}


@contextmanager
def playing(**more: SimpleNamespace) -> Iterator[None]:
    """Within it `GAN(architecture=...)` takes the names of `PLAYERS` and of `more`, too."""
    players = {**PLAYERS, **more}
    gan.ARCHITECTURES.update(players)
    try:
        yield
    finally:
        for name in players:
            del gan.ARCHITECTURES[name]


def batches(points: np.ndarray, model: GAN, batch_size: int) -> tf.data.Dataset:
    """The rows of `points`, (count, dimensions), as the model's batches, in their order, from the first one again."""
    k, dimensions = model.minibatches_per_step, points.shape[1]
    each = () if k == 1 else (k,)
    count = len(points) // (batch_size * k)
    shape = (count, batch_size, *each, 1, dimensions, 1)
    images = tf.data.Dataset.from_tensor_slices(points[: count * batch_size * k].reshape(shape).astype(np.float32))
    rows = tf.range(batch_size, dtype=tf.int64)
    return images.repeat().map(lambda batch: {"image": batch, "row": rows})
