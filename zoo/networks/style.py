"""What StyleGAN's and StyleGAN2's generators share: the mapping network, truncation, and views of a generator.

A generator is one network, latent, truncation and noise -> image, so that it is exported and averaged as such. Its
parts, in the words of StyleGAN (arXiv:1812.04948, figure 1), are networks of the same layers: `mapping_of`, f: z -> w;
`styles_of`, z -> one truncated w for each layer; `synthesis_of`, g: these and noise -> image.
"""

import keras
from keras import layers

from zoo.core.growth import Stage
from zoo.core.precision import full_precision
from zoo.layers.equalized import EqualizedConv2D, EqualizedDense, PixelNorm
from zoo.layers.minibatch import MinibatchStddev
from zoo.layers.style import Truncation

LEAK = 0.2
RATE = 0.01  # learning-rate multiplier of the mapping network  (appendix C)
FEATURES_SIZE = 2  # the dense layer of a discriminator has the channels that maps of this side would have


def mapping(latent: keras.KerasTensor, style_dim: int, depth: int) -> keras.KerasTensor:
    """f: z (batch, latent_dim) -> w (batch, style_dim), by way of a z of mean square 1.

    Args:
        latent: z.
        style_dim: units of each layer.
        depth: number of layers.
    """
    x = PixelNorm(name="mapping_norm")(latent)
    for number in range(depth):
        x = EqualizedDense(style_dim, rate=RATE, name=f"mapping_{number}")(x)
        x = leaky_relu(f"mapping_leaky_relu_{number}")(x)
    return x


def latent_to_styles(
    latent_dim: int, style_dim: int, depth: int, count: int, truncation_layers: int | None
) -> tuple[list[keras.KerasTensor], keras.KerasTensor]:
    """A generator's inputs "latent" and "truncation", and styles (batch, layers, style_dim), in full precision.

    Args:
        latent_dim: length of z.
        style_dim: length of w.
        depth: of the mapping network.
        count: number of layers of the synthesis network that take a style.
        truncation_layers: how many of them are truncated; None for all.
    """
    latent, psi = keras.Input((latent_dim,), name="latent"), keras.Input((), name="truncation")
    style = layers.Identity(dtype=full_precision(), name="style")(mapping(latent, style_dim, depth))
    truncation = Truncation(count, truncation_layers, dtype=full_precision(), name="truncate")
    return [latent, psi], layers.Identity(dtype=full_precision(), name="styles")(truncation([style, psi]))


def mapping_of(generator: keras.Model) -> keras.Model:
    """Input "latent", output "style", w without truncation: (batch, latent_dim) -> (batch, style_dim)."""
    return keras.Model(
        generator.get_layer("latent").output, generator.get_layer("style").output, name=f"{generator.name}_mapping"
    )


def styles_of(generator: keras.Model) -> keras.Model:
    """Inputs "latent" and "truncation", output "styles": one w for each layer, (batch, layers, style_dim)."""
    inputs = [generator.get_layer(name).output for name in ("latent", "truncation")]
    return keras.Model(inputs, generator.get_layer("styles").output, name=f"{generator.name}_styles")


def synthesis_of(generator: keras.Model) -> keras.Model:
    """Inputs "styles", (batch, layers, style_dim), and the noise; output "image".

    Args:
        generator: the full one, or what `zoo.networks.growing.generator_at` made of it.
    """
    noise = generator.inputs[2:]
    inner = generator.get_layer("styles").output
    part = keras.Model([inner, *noise], generator.output)
    styles = keras.Input(inner.shape[1:], dtype=inner.dtype, name="styles")
    # Keras gives the input of such a part a name of its own.
    part = keras.models.clone_model(part, [styles, *noise], clone_function=lambda layer: layer)
    return keras.Model(part.inputs, part.outputs[0], name=f"{generator.name}_synthesis")


def layers_at(stage: Stage) -> int:
    """How many layers of a stage's synthesis network take a style: two for each size."""
    return 2 * (stage.level + 1)


def mean_latent_of(generator: keras.Model) -> keras.Variable:
    """w_avg, (style_dim,): 0 until what tracks the mean of w assigns it; a `truncation` below 1 moves styles there."""
    return generator.get_layer("truncate").mean_latent


def noise_input(size: int, number: int) -> keras.KerasTensor:
    """The input `noise_{size}_{number}`, (batch, size, size, 1), standard normal."""
    return keras.Input((size, size, 1), name=f"noise_{size}_{number}")


def last_layers(size: int, channels: int, features: int, group_size: int | None) -> list[keras.layers.Layer]:
    """The end of both discriminators: maps (batch, size, size, channels) -> logit (batch, 1).

    Args:
        size: side of the maps.
        channels: of the convolution.
        features: of the dense layer.
        group_size: of the minibatch standard deviation, see `zoo.layers.minibatch.MinibatchStddev`.
    """
    return [
        MinibatchStddev(group_size, name="stddev"),
        EqualizedConv2D(channels, 3, name=f"convolution_{size}"),
        leaky_relu(f"leaky_relu_{size}"),
        layers.Flatten(name="flatten"),
        EqualizedDense(features, name="features"),
        leaky_relu("leaky_relu"),
        EqualizedDense(1, gain=1.0, dtype=full_precision(), name="score"),
    ]


def leaky_relu(name: str) -> keras.layers.Layer:
    """Leaky ReLU of slope 0.2."""
    return layers.LeakyReLU(LEAK, name=name)
