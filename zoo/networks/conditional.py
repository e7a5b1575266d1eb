"""DCGAN's pair (arXiv:1511.06434) told which class to draw, and which class it is shown.

The generator learns of the class beside z (conditional GAN, arXiv:1411.1784) or in the scales and shifts of its batch
norms (conditional batch norm, arXiv:1802.05637; of instance norms first, arXiv:1610.07629). The discriminator learns of
it beside the image (arXiv:1411.1784), in an inner product with its features (projection, arXiv:1802.05637), or is not
given it and has to name it (auxiliary classifier, arXiv:1610.09585).
"""

from collections.abc import Callable
from functools import partial

import keras
from keras import KerasTensor, layers, ops

from zoo.core.precision import full_precision
from zoo.networks import convolutional
from zoo.networks.convolutional import Minibatch, Norm, batch_norm, normal, wrapper


def generator(
    image_shape: tuple[int, int, int],
    latent_dim: int,
    classes: int,
    width: int = 64,
    conditional_norm: bool = True,
    name: str = "generator",
) -> keras.Model:
    """latent (batch, latent_dim) and label (batch,) int32 in [0, classes) -> image (batch, *image_shape) in [-1, 1].

    Args:
        image_shape: (size, size, channels), size a power of two >= 8.
        latent_dim: length of a latent vector.
        classes: number of classes.
        width: channels of the largest map; they double as the map halves, up to 8 times `width`.
        conditional_norm: whether each batch norm has a scale and a shift per class; if not, the class is put beside z,
            one-hot.
        name: of the network.
    """
    latent = keras.Input((latent_dim,), name="latent")
    label = keras.Input((), dtype="int32", name="label")
    chosen = ops.one_hot(label, classes)
    if conditional_norm:
        image = convolutional.upward(latent, image_shape, width, partial(conditional_batch_norm, chosen))
    else:
        image = convolutional.upward(layers.Concatenate(name="latent_and_class")([latent, chosen]), image_shape, width)
    return keras.Model([latent, label], image, name=name)


def discriminator(
    image_shape: tuple[int, int, int],
    classes: int,
    width: int = 64,
    condition: str = "projection",
    norm: Norm = "spectral",
    dropout: float = 0.0,
    minibatch: Minibatch = "none",
    name: str = "discriminator",
) -> keras.Model:
    """image (batch, *image_shape) in [-1, 1], and label (batch,) int32, -> logit (batch, 1), unbounded.

    With an auxiliary classifier: image -> logit (batch, 1) and class_logits (batch, classes).

    Args:
        image_shape: (size, size, channels), size a power of two >= 8.
        classes: number of classes.
        width: channels of the largest map; they double as the map halves, up to 8 times `width`.
        condition: how it learns of the class, one of `CONDITIONS`.
        norm, dropout, minibatch: as of `zoo.networks.convolutional.discriminator`.
        name: of the network.
    """
    downward = partial(
        convolutional.downward, image_shape=image_shape, width=width, norm=norm, dropout=dropout, minibatch=minibatch
    )
    image = keras.Input(image_shape, name="image")
    label = keras.Input((), dtype="int32", name="label")
    return keras.Model(*CONDITIONS[condition](image, label, classes, downward, wrapper(norm)), name=name)


Wrap = Callable[[keras.layers.Layer], keras.layers.Layer]
Downward = Callable[[KerasTensor], KerasTensor]
Ends = tuple[KerasTensor | list[KerasTensor], list[KerasTensor]]


def concatenation(image: KerasTensor, label: KerasTensor, classes: int, downward: Downward, wrap: Wrap) -> Ends:
    """The class as one constant map per class, beside the image's channels."""
    height, width, _ = image.shape[1:]
    maps = ops.tile(ops.reshape(ops.one_hot(label, classes), (-1, 1, 1, classes)), (1, height, width, 1))
    features = downward(layers.Concatenate(name="image_and_class")([image, maps]))
    return [image, label], [wrap(head(1, "logit"))(features)]


def projection(image: KerasTensor, label: KerasTensor, classes: int, downward: Downward, wrap: Wrap) -> Ends:
    """psi(phi(x)) + y^T V phi(x)  (arXiv:1802.05637, eq. 3); phi(x) are the last maps, not summed over pixels.

    psi is linear without a bias, as in the authors' code for 32x32; there each map is summed first.
    """
    features = downward(image)
    embedding = layers.Dense(
        features.shape[-1], use_bias=False, kernel_initializer=normal(), dtype=full_precision(), name="embedding"
    )
    inner = layers.Dot(1, dtype=full_precision(), name="inner")(
        [wrap(embedding)(ops.one_hot(label, classes)), features]
    )
    return [image, label], [
        layers.Add(dtype=full_precision(), name="logit")([wrap(head(1, "psi", use_bias=False))(features), inner])
    ]


def auxiliary_classifier(image: KerasTensor, label: KerasTensor, classes: int, downward: Downward, wrap: Wrap) -> Ends:
    """One head more, which names the class."""
    features = downward(image)
    return image, [wrap(head(1, "logit"))(features), wrap(head(classes, "class_logits"))(features)]


CONDITIONS = {
    "concatenation": concatenation,
    "projection": projection,
    "auxiliary_classifier": auxiliary_classifier,
}


def head(units: int, name: str, use_bias: bool = True) -> keras.layers.Dense:
    """The last layer: features -> unbounded values."""
    return layers.Dense(units, use_bias=use_bias, kernel_initializer=normal(), dtype=full_precision(), name=name)


def conditional_batch_norm(chosen: KerasTensor, name: str) -> Callable[[KerasTensor], KerasTensor]:
    """Batch norm with a scale and a shift for each class and channel.

    Args:
        chosen: the classes, one-hot, (batch, classes).
        name: of the layer.
    """

    def affine(channels: int, what: str, start: str) -> KerasTensor:
        values = layers.Dense(channels, use_bias=False, kernel_initializer=start, name=f"{name}_{what}")(chosen)
        return layers.Reshape((1, 1, channels), name=f"{name}_{what}_map")(values)

    def normalize(maps: KerasTensor) -> KerasTensor:
        channels = maps.shape[-1]
        scaled = layers.Multiply(name=f"{name}_scaled")(
            [batch_norm(name, affine=False)(maps), affine(channels, "scale", "ones")]
        )
        return layers.Add(name=f"{name}_shifted")([scaled, affine(channels, "shift", "zeros")])

    return normalize
