"""Encoders and decoders of autoencoders, dense (arXiv:1312.6114, appendix C) or of strided convolutions.

A decoder is its encoder in reverse. Both may be given a class (arXiv:1406.5298): one-hot beside their input, as
constant maps beside an image that is convolved.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import keras
from keras import KerasTensor, layers, ops

from zoo.core.arguments import choose
from zoo.core.precision import full_precision
from zoo.layers.convolution import Conv2D, Conv2DTranspose
from zoo.layers.dropout import Dropout

KERNEL = 4  # a multiple of the stride, so every pixel is covered equally (no checkerboard)
STRIDE = 2

Shape = tuple[int, int, int]


def encoder(
    image_shape: Shape,
    heads: Mapping[str, int],
    architecture: str = "dense",
    hidden: Sequence[int] = (512, 256),
    activation: str = "relu",
    head_activation: str = "linear",
    dropout: float = 0.0,
    classes: int = 0,
    name: str = "encoder",
) -> keras.Model:
    """image (batch, *image_shape) in [-1, 1], and label (batch,) int32 if there are classes -> (batch, size) a head.

    Args:
        image_shape: (height, width, channels).
        heads: name -> size of each output.
        architecture: one of `ARCHITECTURES`.
        hidden: units of the dense layers; or channels of the convolutions, each of which halves the image.
        activation: of the hidden layers.
        head_activation: of the outputs.
        dropout: rate after every hidden layer.
        classes: number of classes, 0 where it is given none.
        name: of the network.

    Raises:
        ValueError: an unknown architecture; sides that can't be halved so often; dropout without a hidden layer.
    """
    downward, _ = choose("architecture", architecture, ARCHITECTURES)
    if dropout and not hidden:
        raise ValueError(f"dropout={dropout}: it follows hidden layers, and hidden={tuple(hidden)} has none.")
    image = keras.Input(image_shape, name="image")
    label, chosen = class_input(classes)
    x = downward(image, chosen, hidden, activation, dropout)
    outputs = [
        layers.Dense(size, head_activation, dtype=full_precision(), name=head)(x) for head, size in heads.items()
    ]
    return keras.Model(
        image if label is None else [image, label], outputs if len(outputs) > 1 else outputs[0], name=name
    )


def decoder(
    image_shape: Shape,
    inputs: tuple[str, int],
    architecture: str = "dense",
    hidden: Sequence[int] = (512, 256),
    activation: str = "relu",
    dropout: float = 0.0,
    classes: int = 0,
    initial_value: float = 0.0,
    name: str = "decoder",
) -> keras.Model:
    """(batch, size), and label (batch,) int32 if there are classes -> pixels (batch, *image_shape), unbounded.

    Args:
        image_shape: (height, width, channels).
        inputs: name and size of the input.
        architecture, hidden, activation, dropout, classes: of the encoder that it reverses.
        initial_value: what every pixel is, on average, before training.
        name: of the network.
    """
    _, upward = choose("architecture", architecture, ARCHITECTURES)
    title, size = inputs
    code = keras.Input((size,), name=title)
    label, chosen = class_input(classes)
    bias = keras.initializers.Constant(initial_value)
    pixels = upward(concatenate_class(code, chosen), image_shape, hidden, activation, dropout, bias)
    return keras.Model(code if label is None else [code, label], pixels, name=name)


def class_input(classes: int) -> tuple[KerasTensor | None, KerasTensor | None]:
    """The input that takes a class, and the class one-hot; None for both where there are no classes."""
    if not classes:
        return None, None
    label = keras.Input((), dtype="int32", name="label")
    return label, ops.one_hot(label, classes)


def concatenate_class(values: KerasTensor, chosen: KerasTensor | None) -> KerasTensor:
    """(batch, size) with the class beside it."""
    return values if chosen is None else layers.Concatenate(name="with_class")([values, chosen])


def dense_downward(
    image: KerasTensor, chosen: KerasTensor | None, hidden: Sequence[int], activation: str, dropout: float
) -> KerasTensor:
    """Dense layers on all pixels."""
    return dense_layers(concatenate_class(layers.Flatten(name="flatten")(image), chosen), hidden, activation, dropout)


def dense_upward(
    x: KerasTensor,
    image_shape: Shape,
    hidden: Sequence[int],
    activation: str,
    dropout: float,
    bias: keras.initializers.Initializer,
) -> KerasTensor:
    """Dense layers, then a value per pixel."""
    x = dense_layers(x, list(reversed(hidden)), activation, dropout)
    x = layers.Dense(math.prod(image_shape), bias_initializer=bias, dtype=full_precision(), name="values")(x)
    return layers.Reshape(image_shape, dtype=full_precision(), name="pixels")(x)


def dense_layers(x: KerasTensor, units: Sequence[int], activation: str, dropout: float) -> KerasTensor:
    """Dense layers of so many units, in this order."""
    for number, count in enumerate(units, start=1):
        x = layers.Dense(count, activation, name=f"hidden_{number}")(x)
        x = Dropout(dropout, name=f"dropout_{number}")(x) if dropout else x
    return x


def convolutional_downward(
    image: KerasTensor, chosen: KerasTensor | None, hidden: Sequence[int], activation: str, dropout: float
) -> KerasTensor:
    """Convolutions, each of which halves both sides."""
    smallest(image.shape[1:], hidden)  # refuses sides that its decoder could not give back
    x = image
    if chosen is not None:
        height, width, _ = image.shape[1:]
        maps = ops.tile(ops.reshape(chosen, (-1, 1, 1, chosen.shape[-1])), (1, height, width, 1))
        x = layers.Concatenate(name="image_with_class")([image, maps])
    for number, channels in enumerate(hidden, start=1):
        x = Conv2D(channels, KERNEL, STRIDE, "same", activation=activation, name=f"down_{number}")(x)
        x = Dropout(dropout, name=f"dropout_{number}")(x) if dropout else x
    return layers.Flatten(name="flatten")(x)


def convolutional_upward(
    x: KerasTensor,
    image_shape: Shape,
    hidden: Sequence[int],
    activation: str,
    dropout: float,
    bias: keras.initializers.Initializer,
) -> KerasTensor:
    """A dense layer makes the smallest maps, transposed convolutions double both sides."""
    height, width = smallest(image_shape, hidden)
    *channels, deepest = hidden
    x = layers.Dense(height * width * deepest, activation, name="project")(x)
    x = layers.Reshape((height, width, deepest), name="maps")(x)
    x = Dropout(dropout, name="dropout_1")(x) if dropout else x
    for number, count in enumerate(reversed(channels), start=1):
        x = Conv2DTranspose(count, KERNEL, STRIDE, "same", activation=activation, name=f"up_{number}")(x)
        x = Dropout(dropout, name=f"dropout_{number + 1}")(x) if dropout else x
    return Conv2DTranspose(
        image_shape[-1], KERNEL, STRIDE, "same", bias_initializer=bias, dtype=full_precision(), name="pixels"
    )(x)


def smallest(image_shape: Sequence[int], hidden: Sequence[int]) -> tuple[int, int]:
    """Height and width after the last convolution.

    Raises:
        ValueError: there is no convolution, or a side can't be halved so often.
    """
    height, width = image_shape[:2]
    parts = STRIDE ** len(hidden)
    if not hidden or height % parts or width % parts:
        raise ValueError(
            f"hidden={tuple(hidden)}, image_shape={tuple(image_shape)}: every convolution, one at least, halves both "
            f"sides, which must be multiples of {parts}."
        )
    return height // parts, width // parts


ARCHITECTURES: dict[str, tuple[Callable[..., KerasTensor], Callable[..., KerasTensor]]] = {
    "dense": (dense_downward, dense_upward),
    "convolutional": (convolutional_downward, convolutional_upward),
}
