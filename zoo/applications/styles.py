"""What the layers of a style-based generator do (arXiv:1812.04948): mixed styles, and noise on and off."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.applications.generators import NO_NOISE, ONE_DRAW, Generator, Noise, Numbers

PAPER_BOUNDS = (0, 4, 8)  # section 3.1: coarse 4 to 8 pixels, middle 16 to 32, fine 64 on; two layers a size
LAYERS_PER_SIZE = 2

BANDS = ("coarse", "middle", "fine")


@dataclass(frozen=True)
class NoiseEffect:
    """What noise changes in images, beside what latents do: brightness from 0 to 1.

    Args:
        inputs: the noise inputs that were on.
        deviation: (height, width), the standard deviation over draws of each pixel: the root of the variance's mean
            over latents and channels.
        noise_variance: over draws of the noise, the mean over pixels and latents.
        latent_variance: over latents, of the images' means over the noise, likewise; without bias, so it may be
            below 0 by chance where latents do nothing.
        share: of the noise in the sum of both: near 0 where details move and the structure stays.
    """

    inputs: tuple[str, ...]
    deviation: np.ndarray
    noise_variance: float
    latent_variance: float
    share: float


def list_bands(layers: int) -> dict[str, range]:
    """Which styles are coarse, middle and fine, as far as there are any of each.

    Of more than 8 layers the paper's; of fewer a third of the sizes each.

    Args:
        layers: how many styles the generator takes, two of each size from 4 pixels on.
    """
    bounds = [*PAPER_BOUNDS, layers]
    if layers <= PAPER_BOUNDS[-1]:
        sizes = -(-layers // LAYERS_PER_SIZE)
        bounds = [min(layers, LAYERS_PER_SIZE * round(sizes * third / 3)) for third in range(4)]
    found = {band: range(*bounds[number : number + 2]) for number, band in enumerate(BANDS)}
    return {band: each for band, each in found.items() if each}


def find_layers(layers: int, band: str) -> range:
    """One band of `list_bands`.

    Args:
        layers: how many styles the generator takes.
        band: one of "coarse", "middle" and "fine".

    Raises:
        ValueError: another band; one that so few layers do not have.
    """
    if band not in BANDS:
        raise ValueError(f"layers {band!r}: choose from {', '.join(BANDS)}, or FIRST-LAST such as 2-5.")
    found = list_bands(layers)
    if band not in found:
        raise ValueError(f"{layers} layers have no {band} ones: name them, FIRST-LAST, 0 to {layers - 1}.")
    return found[band]


def require_layers(layers: Sequence[int], count: int) -> None:
    """Refuse no layers, and those beyond the `count` that there are.

    Raises:
        ValueError: naming them.
    """
    outside = [layer for layer in layers if not 0 <= layer < count]
    if outside or not len(layers):
        raise ValueError(f"layers {list(outside or layers)}: give at least one of 0 to {count - 1}.")


def mix_styles(first: np.ndarray, second: np.ndarray, layers: Sequence[int], count: int) -> np.ndarray:
    """Every pair's styles, (rows, columns, dimension): those of `first`, and in the chosen layers those of `second`.

    Args:
        first: a row each, (rows, dimension) in space "w".
        second: a column each, (columns, dimension).
        layers: which are taken from `second`.
        count: layers in all.

    Raises:
        ValueError: a layer that there is not, or none; codes of another dimension.
    """
    require_layers(layers, count)
    if first.shape[1] != second.shape[1] or first.shape[1] % count:
        raise ValueError(f"styles {first.shape} and {second.shape}: give {count} layers of one width.")
    width = first.shape[1] // count
    mixed = np.tile(first.reshape(-1, 1, count, width), (1, len(second), 1, 1))
    mixed[:, :, list(layers)] = second.reshape(1, -1, count, width)[:, :, list(layers)]
    return mixed.reshape(len(first), len(second), -1)


def generate_mixed(
    generator: Generator,
    first: np.ndarray,
    second: np.ndarray,
    layers: Sequence[int],
    *,
    labels: np.ndarray | None = None,
    noise: Noise = ONE_DRAW,
) -> np.ndarray:
    """Images of `mix_styles`, (rows, columns, height, width, channels) in [-1, 1]; figure 3 of the paper.

    Args:
        generator: style-based.
        first, second, layers: as in `mix_styles`.
        labels: one for each row, of a class-conditional generator.
        noise: the same for all.

    Raises:
        ValueError: a generator without styles; as in `mix_styles`.
    """
    generator.require_styles("style mixing")
    mixed = mix_styles(first, second, layers, generator.styles_shape[0])
    rows, columns, dimension = mixed.shape
    repeated = None if labels is None else np.repeat(labels, columns)
    images = generator.generate(mixed.reshape(-1, dimension), "w", labels=repeated, noise=noise)
    return images.reshape(rows, columns, *images.shape[1:])


def generate_under_noise(
    generator: Generator,
    numbers: Numbers,
    draws: int,
    inputs: Sequence[str] | None = None,
    *,
    seed: int = 0,
    labels: np.ndarray | None = None,
) -> np.ndarray:
    """Images of each latent under draws of the noise of its own, (latents, draws, height, width, channels) in [-1, 1].

    Args:
        generator: with noise maps.
        numbers: of the latents.
        draws: how many for each; those of latent i are numbers i * draws and on.
        inputs: the noise maps that are on, all the others 0; None for all.
        seed: of latents and noise.
        labels: one for each latent, of a class-conditional generator.

    Raises:
        ValueError: a generator without noise maps, or without one of these; no draw.
    """
    if not generator.noise_inputs:
        raise ValueError(
            f"{generator.name} takes no noise maps: noise needs a style-based generator that does, whose card lists "
            "inputs such as noise_4_0."
        )
    unknown = sorted(set(inputs or ()) - set(generator.noise_inputs))
    if unknown or draws < 1:
        raise ValueError(f"inputs {unknown}, draws={draws}: choose of {list(generator.noise_inputs)}, and 1 or more.")
    latents = np.repeat(generator.draw(numbers, seed), draws, axis=0)
    repeated = None if labels is None else np.repeat(labels, draws)
    noise = Noise(range(draws * len(numbers)), seed, inputs)
    images = generator.generate(latents, labels=repeated, noise=noise)
    return images.reshape(len(numbers), draws, *images.shape[1:])


def measure_noise(
    generator: Generator,
    numbers: Numbers,
    draws: int,
    inputs: Sequence[str] | None = None,
    *,
    seed: int = 0,
    labels: np.ndarray | None = None,
) -> NoiseEffect:
    """How much of the images' variance is the noise's, and where.

    Args:
        generator, numbers, draws, inputs, seed, labels: as in `generate_under_noise`; at least two latents and draws.

    Raises:
        ValueError: as in `generate_under_noise`; fewer.
    """
    if len(numbers) < 2 or draws < 2:
        raise ValueError(f"{len(numbers)} latents, {draws} draws: variances need at least 2 of each.")
    images = generate_under_noise(generator, numbers, draws, inputs, seed=seed, labels=labels)
    chosen = tuple(generator.noise_inputs if inputs is None else inputs)
    return split_variance(images.astype(np.float64) / 2, chosen)


def split_variance(images: np.ndarray, inputs: tuple[str, ...] = ()) -> NoiseEffect:
    """The variances within and between latents (one-way analysis of variance), of brightness.

    Args:
        images: (latents, draws, height, width, channels), at least two of both.
        inputs: the noise inputs that were on, for the record.
    """
    draws = images.shape[1]
    within = images.var(axis=1, ddof=1).mean(axis=(0, -1))  # (height, width)
    noise = float(within.mean())
    between = float(images.mean(axis=1).var(axis=0, ddof=1).mean()) - noise / draws
    total = noise + between
    return NoiseEffect(inputs, np.sqrt(within), noise, between, noise / total if total else 0.0)


def generate_without_noise(
    generator: Generator, numbers: Numbers, *, seed: int = 0, labels: np.ndarray | None = None
) -> np.ndarray:
    """Images with every noise map 0, (latents, height, width, channels) in [-1, 1]."""
    return generator.generate(generator.draw(numbers, seed), labels=labels, noise=NO_NOISE)
