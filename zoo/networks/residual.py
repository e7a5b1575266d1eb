"""SN-GAN's residual pair (arXiv:1802.05957, appendix B.4, table 4), published for 32x32 images.

The generator has residual blocks that double the map, with batch norm; the discriminator has blocks that halve it, then
two plain ones, all with spectral norm and no other, and its logit is linear in the sums over the last maps. All maps of
a network have one width. For other sizes than the published, blocks are added or left out: the generator always starts
at 4x4, the discriminator's plain blocks always stand at 8x8.

Initializers are those of the authors' code. Its 1x1 shortcuts work on the larger of their two maps, but for the first
block; on the smaller one, as here, they give the same values sooner.
"""

import keras
from keras import layers

from zoo.core.precision import full_precision
from zoo.layers.convolution import Conv2D
from zoo.layers.spectral_norm import SpectralNorm
from zoo.networks.convolutional import BASE, batch_norm, halvings

SMALLEST = 16  # the discriminator's plain blocks stand at 8x8, behind at least one that halves
PLAIN_SIDE = 8
PLAIN_BLOCKS = 2
SHORTCUT = 1.0  # squared gain of Glorot's uniform initializer; of shortcuts and of a network's ends
RESIDUAL = 2.0  # of 3x3 convolutions within blocks


def generator(
    image_shape: tuple[int, int, int], latent_dim: int, width: int = 256, name: str = "generator"
) -> keras.Model:
    """latent (batch, latent_dim) -> image (batch, *image_shape), float32 in [-1, 1].

    Args:
        image_shape: (size, size, channels), size a power of two >= 16.
        latent_dim: length of a latent vector; 128 as published.
        width: channels of every map; 256 as published, twice the discriminator's.
        name: of the network.

    Raises:
        ValueError: the image has another shape.
    """
    doublings = halvings(image_shape, SMALLEST)
    latent = keras.Input((latent_dim,), name="latent")
    x = layers.Dense(BASE * BASE * width, kernel_initializer=glorot(SHORTCUT), name="project")(latent)
    x = layers.Reshape((BASE, BASE, width), name="reshape")(x)
    for number in range(1, doublings + 1):
        x = up_block(x, width, f"up_{BASE * 2**number}")
    x = batch_norm("norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = Conv2D(image_shape[-1], 3, padding="same", kernel_initializer=glorot(SHORTCUT), name="pixels")(x)
    image = layers.Activation("tanh", dtype=full_precision(), name="image")(x)
    return keras.Model(latent, image, name=name)


def discriminator(image_shape: tuple[int, int, int], width: int = 128, name: str = "discriminator") -> keras.Model:
    """image (batch, *image_shape), float32 in [-1, 1] -> logit (batch, 1), unbounded; each row's of that row alone.

    Args:
        image_shape: (size, size, channels), size a power of two >= 16.
        width: channels of every map; 128 as published.
        name: of the network.

    Raises:
        ValueError: the image has another shape.
    """
    halvings(image_shape, SMALLEST)
    image = keras.Input(image_shape, name="image")
    x, side = image, image_shape[0]
    while side > PLAIN_SIDE:
        side //= 2
        x = down_block(x, width, f"down_{side}", activate=x is not image)
    for number in range(1, PLAIN_BLOCKS + 1):
        name_of_block = f"plain_{number}"
        x = layers.Add(name=name_of_block)([residual_branch(x, width, name_of_block), x])
    x = layers.ReLU(name="relu")(x)
    x = layers.GlobalAveragePooling2D(dtype=full_precision(), name="mean")(x)
    x = layers.Rescaling(float(side * side), dtype=full_precision(), name="sum")(x)
    # Without a bias, as in the authors' code for 32x32.
    head = layers.Dense(1, use_bias=False, kernel_initializer=glorot(SHORTCUT), dtype=full_precision(), name="logit")
    return keras.Model(image, SpectralNorm(head)(x), name=name)


def up_block(x: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    """(batch, side, side, channels) -> (batch, 2 side, 2 side, width).

    Authors' code: every convolution has a bias. None here: what it adds to a channel stays a constant of every channel
    on the way through shortcuts, and each way to the image leads through a batch norm, which takes constants away.
    """
    residual = batch_norm(f"{name}_norm_1")(x)
    residual = layers.ReLU(name=f"{name}_relu_1")(residual)
    residual = layers.UpSampling2D(name=f"{name}_larger")(residual)
    residual = convolution(width, 3, f"{name}_convolution_1", use_bias=False)(residual)
    residual = batch_norm(f"{name}_norm_2")(residual)
    residual = layers.ReLU(name=f"{name}_relu_2")(residual)
    residual = convolution(width, 3, f"{name}_convolution_2", use_bias=False)(residual)
    shortcut = convolution(width, 1, f"{name}_shortcut", use_bias=False)(x)
    shortcut = layers.UpSampling2D(name=f"{name}_shortcut_larger")(shortcut)
    return layers.Add(name=name)([residual, shortcut])


def down_block(x: keras.KerasTensor, width: int, name: str, activate: bool) -> keras.KerasTensor:
    """(batch, side, side, channels) -> (batch, side / 2, side / 2, width).

    Args:
        x: the maps.
        width: channels of the result.
        name: of the block.
        activate: False for images, which are no activations and would lose their dark half to a ReLU.
    """
    residual = layers.AveragePooling2D(2, name=f"{name}_smaller")(residual_branch(x, width, name, activate))
    shortcut = layers.AveragePooling2D(2, name=f"{name}_shortcut_smaller")(x)
    shortcut = SpectralNorm(convolution(width, 1, f"{name}_shortcut"))(shortcut)
    return layers.Add(name=name)([residual, shortcut])


def residual_branch(x: keras.KerasTensor, width: int, name: str, activate: bool = True) -> keras.KerasTensor:
    """The residual branch of a discriminator's block at full size: twice ReLU and 3x3, the first ReLU if asked for."""
    if activate:
        x = layers.ReLU(name=f"{name}_relu_1")(x)
    x = SpectralNorm(convolution(width, 3, f"{name}_convolution_1"))(x)
    x = layers.ReLU(name=f"{name}_relu_2")(x)
    return SpectralNorm(convolution(width, 3, f"{name}_convolution_2"))(x)


def convolution(width: int, side: int, name: str, use_bias: bool = True) -> Conv2D:
    """One of a block's convolutions: 3x3 in the residual branch, 1x1 in the shortcut."""
    initializer = glorot(RESIDUAL if side > 1 else SHORTCUT)
    return Conv2D(width, side, padding="same", use_bias=use_bias, kernel_initializer=initializer, name=name)


def glorot(squared_gain: float) -> keras.initializers.Initializer:
    """A fresh initializer: an instance draws the same numbers each time it is called."""
    return keras.initializers.VarianceScaling(squared_gain, "fan_avg", "uniform")
