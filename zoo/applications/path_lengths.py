"""Perceptual path lengths of a generator, in its latents and in its styles (arXiv:1812.04948, section 4.1)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.applications.generators import Generator, Space
from zoo.metrics.paths import EPSILON, Sampling, lerp, measure_path_lengths, slerp

PAIRS = 2_000


@dataclass(frozen=True)
class PathLength:
    """The mean over pairs, its standard error, and how many were kept."""

    mean: float
    error: float
    pairs: int


def compare_path_lengths(
    generator: Generator,
    features: Callable[[np.ndarray], np.ndarray],
    *,
    sampling: Sampling = "full",
    pairs: int = PAIRS,
    epsilon: float = EPSILON,
    seed: int = 0,
    labels: int | str | None = None,
) -> dict[Space, PathLength]:
    """The length in "z" and, of a style-based generator, in "w"; from the same pairs of latents, with fixed noise.

    Paths run along the sphere between normal latents, straight between uniform ones and between styles. A shorter one
    in "w" means that the mapping network has straightened the paths. Feature distances: of whatever features are given.

    Args:
        generator: any.
        features: images (count, height, width, channels) in [-1, 1] -> (count, features), such as
            `lambda images: extractor(images)[0]`.
        sampling: "full", anywhere on the path; "end", at its start.
        pairs: of latents, at least 2.
        epsilon: of the path.
        seed: of the latents.
        labels: the class of all images, of a class-conditional generator.

    Raises:
        ValueError: as in `zoo.metrics.paths.measure_path_lengths`; a conditional generator without a label.
    """
    spaces: tuple[Space, ...] = ("z", "w") if generator.is_style_based else ("z",)
    return {
        space: _measure(generator, space, features, labels, sampling=sampling, pairs=pairs, epsilon=epsilon, seed=seed)
        for space in spaces
    }


def _measure(
    generator: Generator, space: Space, features: Callable[..., np.ndarray], label: int | str | None, **options: Any
) -> PathLength:
    if generator.label is not None and label is None:
        raise ValueError(f"{generator.name} is conditional: give the class of all images, labels=.")

    def generate(codes: np.ndarray) -> np.ndarray:
        return generator.generate(codes, space, labels=generator.draw_labels(range(len(codes)), labels=label))

    lengths = measure_path_lengths(
        generate,
        features,
        lambda rows, seed: generator.draw(rows, seed, space),
        interpolate=slerp if generator.is_spherical(space) else lerp,
        **options,
    )
    if len(lengths) < 2:
        raise ValueError(f"{len(lengths)} pairs: an error needs at least 2.")
    return PathLength(float(lengths.mean()), float(lengths.std(ddof=1) / math.sqrt(len(lengths))), len(lengths))
