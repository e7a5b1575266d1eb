"""StyleGAN2's networks (arXiv:1912.04958, sections 2 and 4, and appendix B: configurations E and F), which do not grow.

Generator ("skip"): a learned constant, then modulated convolutions, each with noise B, bias and leaky ReLU; the image
is the sum of what `to_rgb_{size}` makes of the maps of each size, enlarged through a filter of [1, 3, 3, 1].
Discriminator ("residual"): blocks of two convolutions, the second with stride 2 behind that filter, beside a shortcut.

Authors' code: activations are multiplied by sqrt(2), and the sum of block and shortcut divided by it. Here those
factors are gains of the convolutions before: leaky ReLU lets them pass. Biases and noise, which they leave out, are all
0 at the start.
"""

import keras
from keras import layers

from zoo.core.precision import full_precision
from zoo.layers.equalized import GAIN, EqualizedConv2D
from zoo.layers.modulated import ModulatedConv2D
from zoo.layers.resampling import Blur, EqualizedBlurDownConv2D
from zoo.layers.style import LearnedConstant, NoiseBias
from zoo.networks.growing import START_SIZE, channels_of, enlarge, output_image, output_logit, sizes_of
from zoo.networks.style import FEATURES_SIZE, last_layers, latent_to_styles, leaky_relu, noise_input

CHANNEL_BASE = 16384
MOST_CHANNELS = 512


def generator(
    image_shape: tuple[int, int, int],
    latent_dim: int = 512,
    style_dim: int = 512,
    mapping_layers: int = 8,
    channel_base: int = CHANNEL_BASE,
    channel_max: int = MOST_CHANNELS,
    start_size: int = START_SIZE,
    truncation_layers: int | None = None,
    name: str = "generator",
) -> keras.Model:
    """latent (batch, latent_dim), truncation (batch,), noise_{size}_{0|1} (batch, size, size, 1) -> image.

    The image, (batch, *image_shape), is float32 and unbounded. There are two styles for each size. The lowest
    size has one convolution, with noise 0 alone; `to_rgb_{size}` takes the style after that of its size's last
    convolution, which is the one of the next size's first convolution, too, as in the authors' code.

    Args:
        image_shape: (size, size, channels), size = start_size * 2, 4, 8 ...
        latent_dim: length of z.
        style_dim: length of w, and units of the mapping network's layers.
        mapping_layers: their number.
        channel_base: channels of maps times half their side, where `channel_max` does not limit them.
        channel_max: the most channels of a map.
        start_size: side of the learned constant.
        truncation_layers: how many layers, from the lowest size, have their style truncated; None for all.
        name: of the network.

    Raises:
        ValueError: the image has another shape, or there are fewer layers to truncate.
    """
    sizes = sizes_of(image_shape, start_size)
    channels = channels_of(sizes, channel_base, channel_max)
    inputs, styles = latent_to_styles(latent_dim, style_dim, mapping_layers, 2 * len(sizes), truncation_layers)
    shape = (start_size, start_size, channels[start_size])
    x = LearnedConstant(shape, keras.initializers.RandomNormal(0.0, 1.0), name="constant")(styles)
    layer, image = 0, None
    for size in sizes:
        for number in range(1 if size == start_size else 2):
            noise = noise_input(size, number)
            inputs.append(noise)
            place, up = f"{size}_{number}", size > start_size and number == 0
            convolution = ModulatedConv2D(channels[size], 3, up=up, gain=GAIN, name=f"convolution_{place}")
            x = convolution([x, styles[:, layer]])
            x = NoiseBias(per_channel=False, name=f"noise_bias_{place}")([x, noise])
            x = leaky_relu(f"leaky_relu_{place}")(x)
            layer += 1
        to_rgb = ModulatedConv2D(
            image_shape[-1], 1, demodulate=False, use_bias=True, dtype=full_precision(), name=f"to_rgb_{size}"
        )
        part = to_rgb([x, styles[:, layer]])
        if image is None:
            image = part
        else:
            larger = Blur(dtype=full_precision(), name=f"blur_{size}")(enlarge(f"enlarge_{size}")(image))
            image = layers.Add(dtype=full_precision(), name=f"image_{size}")([larger, part])
    return keras.Model(inputs, output_image(image), name=name)


def discriminator(
    image_shape: tuple[int, int, int],
    channel_base: int = CHANNEL_BASE,
    channel_max: int = MOST_CHANNELS,
    start_size: int = START_SIZE,
    group_size: int | None = 4,
    name: str = "discriminator",
) -> keras.Model:
    """image (batch, *image_shape), float32 in [-1, 1] -> logit (batch, 1), unbounded.

    Args:
        image_shape: see `generator`; likewise `channel_base` and `channel_max`.
        channel_base: see there.
        channel_max: see there.
        start_size: side of the maps in the last block.
        group_size: rows whose standard deviation is compared; None for the global batch.
        name: of the network.

    Raises:
        ValueError: the image has another shape.
    """
    sizes = sizes_of(image_shape, start_size)
    channels = channels_of([FEATURES_SIZE, *sizes], channel_base, channel_max)
    image = keras.Input(image_shape, name="image")
    x = EqualizedConv2D(channels[sizes[-1]], 1, name="from_rgb")(image)
    x = leaky_relu("from_rgb_leaky_relu")(x)
    for smaller, size in zip(sizes[-2::-1], sizes[:0:-1], strict=True):
        x = residual_block(x, channels[size], channels[smaller], f"block_{size}")
    for layer in last_layers(start_size, channels[start_size], channels[FEATURES_SIZE], group_size):
        x = layer(x)
    return keras.Model(image, output_logit(x), name=name)


def residual_block(x: keras.KerasTensor, channels: int, filters: int, name: str) -> keras.KerasTensor:
    """(batch, size, size, channels) -> (batch, size / 2, size / 2, filters)."""
    half = 0.5**0.5
    shortcut = EqualizedBlurDownConv2D(filters, 1, gain=half, use_bias=False, name=f"{name}_shortcut")(x)
    x = EqualizedConv2D(channels, 3, name=f"{name}_convolution_0")(x)
    x = leaky_relu(f"{name}_leaky_relu_0")(x)
    x = EqualizedBlurDownConv2D(filters, 3, gain=GAIN * half, name=f"{name}_convolution_1")(x)
    x = leaky_relu(f"{name}_leaky_relu_1")(x)
    return layers.Add(name=name)([shortcut, x])
