"""Arithmetic of latents: a - b + c of concepts, each the mean of several exemplars (DCGAN, arXiv:1511.06434, 6.3.2)."""

import math

import numpy as np

from zoo.metrics.checks import finite_rows, same_dimension

NEIGHBORS = 8  # figure 7: around the result
SCALE = 0.25  # figure 7: of the uniform noise that makes them


def combine(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """mean(a) - mean(b) + mean(c), (dimension,) float64.

    The paper's latents are uniform. Of normal ones, the mean of k exemplars has only 1/sqrt(k) of their norm.

    Args:
        a: exemplars of a concept, (count, dimension) float: single ones gave unstable results (6.3.2), three did.
        b, c: likewise.

    Raises:
        ValueError: exemplars that are none, of different dimensions, or NaN.
    """
    for name, exemplars in (("a", a), ("b", b), ("c", c)):
        finite_rows(exemplars, f"exemplars of {name}")
        same_dimension(a, exemplars, "exemplars")
    mean_a, mean_b, mean_c = (exemplars.mean(axis=0, dtype=np.float64) for exemplars in (a, b, c))
    return mean_a - mean_b + mean_c


def surround(code: np.ndarray, seed: int = 0, scale: float = SCALE) -> np.ndarray:
    """Nine codes, (9, dimension): the code in the middle, with uniform noise added around it.

    Args:
        code: (dimension,).
        seed: of the noise.
        scale: of it: -scale to scale.

    Raises:
        ValueError: a negative scale; no code.
    """
    if not 0 <= scale < math.inf or code.ndim != 1:
        raise ValueError(f"code {code.shape}, scale={scale}: give (dimension,), and a finite scale of at least 0.")
    noise = np.random.Generator(np.random.Philox(seed)).uniform(-scale, scale, (NEIGHBORS + 1, len(code)))
    noise[NEIGHBORS // 2] = 0.0
    return code + noise


def mean_latent(latents: np.ndarray, probabilities: np.ndarray, number: int, share: float) -> np.ndarray:
    """The mean latent of a class, (dimension,): of the `share` of its latents with the highest probability.

    Args:
        latents: (count, dimension).
        probabilities: (count, classes).
        number: of the class.
        share: above 0, at most 1; at least one latent is taken.

    Raises:
        ValueError: no latent is of that class.
    """
    members = np.flatnonzero(probabilities.argmax(axis=1) == number)
    if not len(members):
        raise ValueError(f"none of {len(latents)} images is of class {number}: its mean latent is not known.")
    by_confidence = members[np.argsort(-probabilities[members, number], kind="stable")]
    return latents[by_confidence[: max(1, round(share * len(members)))]].mean(axis=0)
