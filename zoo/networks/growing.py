"""Networks that grow a level at a time, and the images that they see on the way (Progressive GAN, arXiv:1710.10196).

A growing network is built whole and trained in parts: the network of a level shares the whole one's layers. A growing
generator has a layer `to_rgb_{size}` for every size; a growing discriminator has a `from_rgb_{size}` for every size, a
network `block_{size}` that halves the maps for every one above the first, and `block_{size}` and "logit" for the first.
Both have a layer "growth" (`zoo.layers.growth.Growth`) that fades a new size in.
"""

from collections.abc import Callable, Collection, Sequence

import keras
from keras import layers, ops

from zoo.core.growth import Stage
from zoo.core.precision import full_precision
from zoo.core.types import Tensor


def level_sizes(image_shape: tuple[int, int, int], start_size: int) -> list[int]:
    """Sides of the images from the lowest level to the highest.

    Raises:
        ValueError: the image is not square, or its side is not 2, 4, 8, ... times the lowest one.
    """
    height, side, _ = image_shape
    factor = side // start_size
    if height != side or factor < 2 or factor * start_size != side or factor & (factor - 1):
        raise ValueError(
            f"image_shape={image_shape}, start_size={start_size}: growing networks take square images with a side of "
            f"{2 * start_size}, {4 * start_size}, {8 * start_size} and so on; resize or pad them first."
        )
    return [start_size * 2**level for level in range(factor.bit_length())]


def channels_of(size: int, base: int, maximum: int) -> int:
    """Channels of maps of size x size: min(base / size, maximum), at least one  (arXiv:1710.10196, table 2)."""
    return max(1, min(base // size, maximum))


def enlarge(images: Tensor, factor: int = 2) -> Tensor:
    """Nearest neighbors: (batch, side, side, channels) -> (batch, side * factor, side * factor, channels)."""
    return ops.repeat(ops.repeat(images, factor, axis=1), factor, axis=2)


def box_downsample(images: Tensor, factor: int = 2) -> Tensor:
    """Means of squares of pixels: (batch, side, side, channels) -> (batch, side / factor, side / factor, channels).

    Args:
        images: float.
        factor: side of a square; it divides the images'.
    """
    return images if factor == 1 else ops.average_pool(images, factor, strides=factor)


def images_at(images: Tensor, size: int, stage: Stage, growth: keras.layers.Layer) -> Tensor:
    """Training images as the networks of a stage see them: smaller, and faded in as the generator's are  (section 3).

    Args:
        images: (batch, side, side, channels) of full size.
        size: of the stage's level.
        stage: a level, and whether it is being faded in.
        growth: the layer that fades.
    """
    images = box_downsample(images, images.shape[1] // size)
    return growth([enlarge(box_downsample(images)), images], level=stage.level) if stage.fading else images


def chain_images(images: list[keras.KerasTensor], growth: keras.layers.Layer) -> keras.KerasTensor:
    """A growing generator's images of every level, the lowest first -> its image, of the highest level's size.

    Each is enlarged and faded into the next: what the network has not grown to yet does not show.
    """
    shown = images[0]
    for level, image in enumerate(images[1:], start=1):
        larger = layers.UpSampling2D(name=f"larger_image_{image.shape[1]}", dtype=full_precision())
        shown = growth([larger(shown), image], level=level)
    return shown


def chain_blocks(
    layer: Callable[[str], keras.layers.Layer], image: keras.KerasTensor, sizes: Sequence[int], fading: Collection[int]
) -> keras.KerasTensor:
    """A growing discriminator's layers: images -> logits (batch, 1).

    Args:
        layer: name -> layer.
        image: of the highest size.
        sizes: of the levels, the lowest first.
        fading: levels that can be faded in, the highest among them: below each, what the blocks above give is mixed
            with the smaller image, which then enters here.
    """
    x = layer(f"from_rgb_{sizes[-1]}")(image)
    for level in reversed(range(1, len(sizes))):
        x = layer(f"block_{sizes[level]}")(x)
        if level in fading:
            smaller = sizes[level - 1]
            image = layer(f"smaller_image_{smaller}")(image)
            x = layer("growth")([layer(f"from_rgb_{smaller}")(image), x], level=level)
    return layer("logit")(layer(f"block_{sizes[0]}")(x))


def generator_at(network: keras.Model, sizes: Sequence[int], stage: Stage) -> keras.Model:
    """The part of a growing generator that is trained in a stage; it gives images of the stage's size.

    Args:
        network: the whole.
        sizes: of all levels, the lowest first; likewise below.
        stage: a level, and whether it is being faded in.
    """
    image = network.get_layer(f"to_rgb_{sizes[stage.level]}").output
    if stage.fading:
        smaller = network.get_layer(f"to_rgb_{sizes[stage.level - 1]}").output
        larger = network.get_layer(f"larger_image_{sizes[stage.level]}")(smaller)
        image = network.get_layer("growth")([larger, image], level=stage.level)
    return keras.Model(network.inputs, image, name=network.name)


def discriminator_at(network: keras.Model, sizes: Sequence[int], stage: Stage) -> keras.Model:
    """The part of a growing discriminator that is trained in a stage; it takes images of the stage's size."""
    size = sizes[stage.level]
    image = keras.Input((size, size, network.input_shape[-1]), name="image")
    fading = [stage.level] if stage.fading else []
    logit = chain_blocks(network.get_layer, image, sizes[: stage.level + 1], fading)
    return keras.Model(image, logit, name=network.name)
