"""Networks that grow with the resolution of their images (Progressive GAN, arXiv:1710.10196, section 3 and figure 2).

The full network has the layers of all resolutions, and fades each in by its layer "growth" (of
`zoo.layers.growth.Growth`). While it grows it is trained as smaller networks, which share its layers: that of the
lowest resolution, then for each next one a network in which it fades in, and one in which it alone is left.

A generator's images of a resolution are the output of its layer `to_rgb_{size}`. A discriminator is put together from
`from_rgb_{size}`, images -> maps of that size, and `block_{size}`, which halves maps of that size, and at the lowest
size gives the logit.
"""

from collections.abc import Mapping

import keras
from keras import layers, ops

from zoo.core.growth import Stage, read_growth
from zoo.core.precision import full_precision
from zoo.core.types import Tensor
from zoo.layers.growth import Growth

START_SIZE = 4  # pixels a side of the lowest resolution


def sizes_of(image_shape: tuple[int, int, int], start_size: int = START_SIZE) -> list[int]:
    """Sides of the images at each level, from `start_size` to that of `image_shape`, each twice the one before.

    Raises:
        ValueError: the image is not square, or its side no such multiple of `start_size`, or not larger.
    """
    height, side, _ = image_shape
    doublings = (side // start_size).bit_length() - 1
    if height != side or doublings < 1 or side != start_size * 2**doublings:
        raise ValueError(
            f"image_shape={image_shape}: these networks take square images whose side is {start_size} times a power of "
            f"two, at least {2 * start_size}; resize or pad them first (28x28 becomes 32x32 by padding)."
        )
    return [start_size * 2**level for level in range(doublings + 1)]


def channels_of(sizes: list[int], base: int, most: int) -> dict[int, int]:
    """Channels of the maps by their side: base / (side / 2), at most `most`, at least 1.

    Args:
        sizes: sides of the maps.
        base: channels times half the side, where they are not limited; the authors' `fmap_base`.
        most: their limit; the authors' `fmap_max`.
    """
    return {size: max(min(2 * base // size, most), 1) for size in sizes}


def join_images(images: Mapping[int, keras.KerasTensor]) -> keras.KerasTensor:
    """A growing generator's image: each resolution faded over the enlarged one below it.

    Args:
        images: outputs of the layers `to_rgb_{size}` by size, from the lowest.
    """
    growth = Growth(dtype=full_precision(), name="growth")
    (_, image), *larger = images.items()
    for level, (size, high) in enumerate(larger, start=1):
        image = growth([enlarge(f"enlarge_{size}")(image), high], level=level)
    return output_image(image)


def generator_at(network: keras.Model, stage: Stage) -> keras.Model:
    """The growing generator as it is trained at a stage, of the same layers.

    Args:
        network: the full one, made by `join_images`.
        stage: how far it has grown; while a level fades in, the weight of "growth" has to be set, too.

    Returns:
        Inputs: those of `network`, without maps larger than the image, such as noise. Output "image":
        (batch, size, size, channels), size that of the level.
    """
    sizes = levels_of(network, "to_rgb_")
    size = sizes[stage.level]
    image = network.get_layer(f"to_rgb_{size}").output
    if stage.fading:
        low = network.get_layer(f"to_rgb_{sizes[stage.level - 1]}").output
        larger = enlarge("enlarge", network.output.dtype)(low)
        image = network.get_layer("growth")([larger, image], level=stage.level)
    inputs = [tensor for tensor in network.inputs if len(tensor.shape) != 4 or tensor.shape[1] <= size]
    return keras.Model(inputs, output_image(image, network.output.dtype), name=stage_name(network, size, stage))


def as_grown(network: keras.Model) -> keras.Model:
    """The growing generator as it is shown: once it has grown without the layers of its smaller images.

    Args:
        network: the full one, made by `join_images`.
    """
    highest = Stage(len(levels_of(network, "to_rgb_")) - 1, fading=False)
    return generator_at(network, highest) if read_growth(network) >= highest.level else network


def join_blocks(
    image_shape: tuple[int, int, int],
    from_rgb: Mapping[int, keras.layers.Layer],
    blocks: Mapping[int, keras.layers.Layer],
    name: str,
) -> keras.Model:
    """A growing discriminator: image (batch, *image_shape) -> logit (batch, 1).

    Args:
        image_shape: of the largest images.
        from_rgb: layers named `from_rgb_{size}` by size, from the lowest: (batch, size, size, image channels) -> maps.
        blocks: layers named `block_{size}` by size: maps -> the maps of half that size; at the lowest, the logit.
        name: of the network.

    Returns:
        Input "image", output "logit".
    """
    growth = Growth(name="growth")
    sizes = list(blocks)
    image = keras.Input(image_shape, name="image")
    smaller, x = image, from_rgb[sizes[-1]](image)
    for level in range(len(sizes) - 1, 0, -1):
        size = sizes[level - 1]
        smaller = shrink(f"shrink_{size}")(smaller)
        x = growth([from_rgb[size](smaller), blocks[sizes[level]](x)], level=level)
    return keras.Model(image, output_logit(blocks[sizes[0]](x)), name=name)


def discriminator_at(network: keras.Model, stage: Stage) -> keras.Model:
    """The growing discriminator as it is trained at a stage, of the same layers.

    Args:
        network: the full one, made by `join_blocks`.
        stage: how far it has grown; while a level fades in, the weight of "growth" has to be set, too.

    Returns:
        Input "image": (batch, size, size, channels), size that of the level. Output "logit".
    """
    sizes = levels_of(network, "from_rgb_")
    *lower, size = sizes[: stage.level + 1]
    image = keras.Input((size, size, network.input.shape[-1]), dtype=network.input.dtype, name="image")
    x = network.get_layer(f"from_rgb_{size}")(image)
    if stage.fading:
        low = network.get_layer(f"from_rgb_{lower[-1]}")(shrink("shrink", image.dtype)(image))
        x = network.get_layer("growth")([low, network.get_layer(f"block_{size}")(x)], level=stage.level)
    else:
        lower.append(size)
    for side in reversed(lower):
        x = network.get_layer(f"block_{side}")(x)
    return keras.Model(image, output_logit(x, network.output.dtype), name=stage_name(network, size, stage))


def take_whole(network: keras.Model, stage: Stage) -> keras.Model:
    """The network itself: what one that does not grow is at every stage."""
    return network


def images_at(images: Tensor, stage: Stage, progress: Tensor, start_size: int = START_SIZE) -> Tensor:
    """Images as the discriminator is given them at a stage: averaged over boxes, and faded as the generator's are.

    Args:
        images: (batch, side, side, channels) at the highest resolution.
        stage: how far the networks have grown.
        progress: the weight of "growth", a scalar: `zoo.core.growth.GrowthSchedule.progress`.
        start_size: side of the images at level 0.

    Returns:
        (batch, size, size, channels), size that of the level.
    """
    size = start_size * 2**stage.level
    images = average_boxes(images, images.shape[1] // size)
    if not stage.fading:
        return images
    low = ops.repeat(ops.repeat(average_boxes(images, 2), 2, axis=1), 2, axis=2)
    alpha = ops.cast(progress - (stage.level - 1), images.dtype)
    return (1.0 - alpha) * low + alpha * images


def average_boxes(images: Tensor, factor: int) -> Tensor:
    """Each factor x factor pixels become their mean: (batch, side, side, channels) -> (batch, side / factor, ...)."""
    return images if factor == 1 else ops.average_pool(images, factor, factor, "valid", data_format="channels_last")


def levels_of(network: keras.Model, prefix: str) -> list[int]:
    """Sides of a growing network's images at each level, from the names of its layers `{prefix}{size}`."""
    names = [layer.name for layer in network.layers if layer.name.startswith(prefix)]
    return sorted(int(name.removeprefix(prefix)) for name in names)


def stage_name(network: keras.Model, size: int, stage: Stage) -> str:
    """Name of the network of a stage."""
    return f"{network.name}_{size}" + "_fading" * stage.fading


def enlarge(name: str, dtype: str | None = None) -> keras.layers.Layer:
    """Images with twice the sides, by nearest neighbors; likewise in full precision, or in that of a given network."""
    return layers.UpSampling2D(2, dtype=dtype or full_precision(), name=name)


def shrink(name: str, dtype: str | None = None) -> keras.layers.Layer:
    """Images with half the sides, by means of 2x2 pixels."""
    return layers.AveragePooling2D(2, dtype=dtype or full_precision(), name=name)


def output_image(image: keras.KerasTensor, dtype: str | None = None) -> keras.KerasTensor:
    """The same under the name of a generator's output."""
    return layers.Identity(dtype=dtype or full_precision(), name="image")(image)


def output_logit(logit: keras.KerasTensor, dtype: str | None = None) -> keras.KerasTensor:
    """The same under the name of a discriminator's output."""
    return layers.Identity(dtype=dtype or full_precision(), name="logit")(logit)
