"""Truncation: fewer kinds of images, each of them more typical.

Of a style-based generator, styles are moved towards their mean by a factor (arXiv:1812.04948, appendix B). Of others,
the latents' distribution is cut off (arXiv:1809.11096, section 3.1), or the latents are scaled.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal, get_args

import numpy as np

from serving.sampling.noise import UNIFORM_RANGE
from zoo.applications.generators import ONE_DRAW, Generator, Noise, Numbers

Method = Literal["input", "resample", "scale"]


def sweep_truncation(
    generator: Generator,
    factors: Sequence[float],
    numbers: Numbers,
    method: Method,
    *,
    seed: int = 0,
    labels: np.ndarray | None = None,
    noise: Noise = ONE_DRAW,
) -> np.ndarray:
    """The same images under each factor, (factors, images, height, width, channels) float32 in [-1, 1].

    Args:
        generator: any.
        factors: of the truncation.
        numbers: of the images.
        method: "input", the factor of a style-based generator's own input; "resample", latents as if every number
            were drawn again until it is within the factor, see `cut_off`; "scale", latents times the factor.
        seed: of the latents.
        labels: of a class-conditional generator.
        noise: of a style-based one.

    Raises:
        ValueError: another method, or "input" of a generator that takes none; a factor that is none.
    """
    if method not in get_args(Method):
        raise ValueError(f"method={method!r}: choose from {sorted(get_args(Method))}.")
    if method == "input" and generator.truncation is None:
        raise ValueError(
            f'{generator.name} takes no truncation: choose "resample", which cuts the latents\' distribution off, or '
            '"scale", which multiplies them.'
        )
    if not len(factors) or not np.isfinite(factors).all():
        raise ValueError(f"factors={list(factors)}: give at least one, all finite.")
    latents, rows = generator.draw(numbers, seed), []
    for factor in factors:
        codes, truncation = latents, 1.0
        if method == "input":
            truncation = factor
        elif method == "scale":
            codes = latents * factor
        elif generator.latent.feed == "uniform":
            codes = cut_off_uniform(latents, factor, generator.latent.range or UNIFORM_RANGE)
        else:
            codes = cut_off(latents, factor)
        rows.append(generator.generate(codes, labels=labels, truncation=truncation, noise=noise))
    return np.stack(rows)


def cut_off(latents: np.ndarray, threshold: float) -> np.ndarray:
    """Normal latents as N(0, 1) within (-threshold, threshold) has them, each at the quantile that it had.

    What is drawn again until it lies within has this distribution. Taken by quantiles it needs no other draw, and one
    latent moves steadily to 0 as the threshold falls.

    Args:
        latents: of N(0, 1).
        threshold: above 0.

    Raises:
        ValueError: a threshold that is not.
    """
    _require_positive(threshold)
    below = tail(threshold)
    shares = np.vectorize(tail, otypes=[float])(np.abs(latents))
    inside = np.vectorize(NormalDist().inv_cdf, otypes=[float])(below + (1 - 2 * below) * shares)
    return np.copysign(np.clip(inside, -threshold, 0.0), latents)


def tail(value: float) -> float:
    """P(z > value) of N(0, 1); with digits where 1 - P(z < value) has none."""
    return 0.5 * math.erfc(value / math.sqrt(2))


def cut_off_uniform(latents: np.ndarray, threshold: float, range: tuple[float, float]) -> np.ndarray:
    """Uniform latents as the part of the range within (-threshold, threshold) has them, at the quantile they had.

    Args:
        latents: uniform in `range`.
        threshold: above 0.
        range: (low, high), with 0 within.

    Raises:
        ValueError: a threshold that is not above 0.
    """
    _require_positive(threshold)
    low, high = range
    inner_low, inner_high = max(low, -threshold), min(high, threshold)
    return inner_low + (latents - low) * ((inner_high - inner_low) / (high - low))


def _require_positive(threshold: float) -> None:
    if not threshold > 0:
        raise ValueError(f"factor {threshold}: no latent lies within it: give one above 0.")
