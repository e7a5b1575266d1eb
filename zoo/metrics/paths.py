"""Perceptual path length (arXiv:1812.04948, section 4.1): how much images change along a path between two latents.

generate = G, features = phi, interpolate = slerp or lerp, epsilon = the subdivision of the path.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np

from zoo.metrics.checks import finite_rows, images_in_range
from zoo.metrics.moments import Spread

PAIRS = 10_000
EPSILON = 1e-4  # section 4.1
TRIM = 0.01  # the authors' code; the paper does not speak of it
BLOCK = 64  # pairs at once: twice as many images
ON_ONE_LINE = 1e-6  # the sine below which two latents span no circle that float64 could tell

Sampling = Literal["full", "end"]
Interpolation = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def lerp(one: np.ndarray, other: np.ndarray, t: np.ndarray) -> np.ndarray:
    """(1 - t) z1 + t z2: for uniform latents, whose support is convex, and for styles w.

    Args:
        one: z1, (count, dimension).
        other: z2, likewise.
        t: (count,).
    """
    return one + t[:, None] * (other - one)


def slerp(one: np.ndarray, other: np.ndarray, t: np.ndarray) -> np.ndarray:
    """(sin((1 - t) a) z1 + sin(t a) z2) / sin a, with the angle a of z1 and z2 (arXiv:1609.04468): for normal latents.

    Of equal norms it runs along their sphere at constant speed; a straight line would cut through the inside, where
    normal latents hardly ever are. Latents on one line, as all of dimension 1, are interpolated linearly.

    Args:
        one: z1, (count, dimension), not 0.
        other: z2, likewise.
        t: (count,).
    """
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    angle = np.arccos(np.clip(np.einsum("ij,ij->i", one, other) / norms, -1.0, 1.0))
    on_one_line = np.sin(angle) < ON_ONE_LINE
    angle = np.where(on_one_line, np.pi / 2, angle)
    first, second = (np.sin(share * angle) / np.sin(angle) for share in (1 - t, t))
    around = first[:, None] * one + second[:, None] * other
    return np.where(on_one_line[:, None], lerp(one, other, t), around)


def perceptual_path_length(
    generate: Callable[[np.ndarray], np.ndarray],
    features: Callable[[np.ndarray], np.ndarray],
    latents_of: Callable[[range, int], np.ndarray],
    **options: Any,
) -> Spread:
    """The mean of `measure_path_lengths`, whose arguments and errors are these, and their standard deviation.

    The mean's error is the latter over the root of their number.
    """
    return Spread.of(measure_path_lengths(generate, features, latents_of, **options))


def measure_path_lengths(
    generate: Callable[[np.ndarray], np.ndarray],
    features: Callable[[np.ndarray], np.ndarray],
    latents_of: Callable[[range, int], np.ndarray],
    *,
    interpolate: Interpolation = slerp,
    sampling: Sampling = "full",
    pairs: int = PAIRS,
    epsilon: float = EPSILON,
    trim: float = TRIM,
    seed: int = 0,
) -> np.ndarray:
    """|phi(G(path(t))) - phi(G(path(t + epsilon)))|^2 / epsilon^2 of each pair, path from z1 to z2.

    The lower, the smoother; a generator of one image has 0, so it says nothing without a score of variety.
    Paper: LPIPS, a weighted distance of five layers of VGG. Here the squared distance of whatever features are given:
    values compare under one extractor, image size and latent distribution, and with no published ones.
    As in the authors' code, the pairs below the 1 % and above the 99 % quantile are left out; of heavy tails, which
    path lengths have, the rest has a smaller mean.

    Args:
        generate: latents (count, dimension) float32 -> images (count, height, width, channels), float in [-1, 1],
            not rounded to gray levels: an epsilon of 1e-4 moves pixels by less than one.
        features: images -> (count, features), float.
        latents_of: (numbers of rows, seed) -> (count, dimension) float, such as `serving.sampling.noise.draw` of an
            input. Pair i runs from row 2 i to row 2 i + 1.
        interpolate: slerp for normal latents, lerp for uniform ones and for styles.
        sampling: "full", t uniform in [0, 1); "end", t = 0: of latents that are drawn, and none between.
        pairs: how many; 64 are held at once.
        epsilon: of t. Measured on three layers in float32: rounding adds 0.1 % at 1e-4, 2 % at 1e-6, 190 % at 1e-7;
            deeper networks round more.
        trim: share of the pairs left out at either end, 0 for none.
        seed: of latents and t.

    Returns:
        Of the pairs kept, (count,) float64.

    Raises:
        ValueError: latents, images or features of another shape, out of range or with NaN; a count or share that
            can't be meant; another sampling.
    """
    if sampling not in get_args(Sampling):
        raise ValueError(f"sampling={sampling!r}: choose from {sorted(get_args(Sampling))}.")
    if pairs < 1 or not 0 < epsilon < 1 or not 0 <= trim < 0.5:
        raise ValueError(
            f"pairs={pairs}, epsilon={epsilon}, trim={trim}: give at least 1, one between 0 and 1, one in [0, 0.5)."
        )
    times = np.random.Generator(np.random.Philox(seed)).random(pairs) if sampling == "full" else np.zeros(pairs)
    lengths = []
    for start in range(0, pairs, BLOCK):
        t = times[start : start + BLOCK]
        rows = range(2 * start, 2 * (start + len(t)))
        ends = finite_rows(_require_rows(latents_of(rows, seed), len(rows), "latents"), "latents").astype(np.float64)
        path = np.concatenate([interpolate(ends[::2], ends[1::2], shifted) for shifted in (t, t + epsilon)])
        images = _require_rows(generate(path.astype(np.float32)), len(path), "images")
        found = _require_rows(features(images_in_range(images, smallest=1)), len(path), "features")
        before, after = np.split(finite_rows(found, "features").astype(np.float64), 2)
        lengths.append(np.square(after - before).sum(axis=1) / epsilon**2)
    every = np.concatenate(lengths)
    low = np.quantile(every, trim, method="lower")
    high = np.quantile(every, 1 - trim, method="higher")
    return every[(low <= every) & (every <= high)]


def _require_rows(found: np.ndarray, count: int, what: str) -> np.ndarray:
    if len(found) != count:
        raise ValueError(f"{len(found)} {what} where {count} were asked for: give one per row.")
    return found
