"""log p(x) of images in NumPy and float64: independent pixels, mixtures of what a graph gives, units."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.metrics.annealing import annealed_importance_sampling, base_rate_bias, reverse_annealed_importance_sampling

ROWS = 500  # images at once
LEAST = 1e-7  # of a probability that comes as float32: nearer to 0 or 1 it can't be told from them


def smoothed_rates(values: np.ndarray) -> np.ndarray:
    """How often each pixel is white, (pixels,) float64, with one white and one black image more than there are.

    Args:
        values: (count, pixels), between 0 and 1.
    """
    return (values.sum(axis=0, dtype=np.float64) + 1.0) / (len(values) + 2.0)


def bernoulli_log_probs(binary: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """log p(x) of independent pixels, nats.

    Args:
        binary: x, (count, pixels), 0 or 1.
        rates: probability of 1, (pixels,) or (K, pixels); kept `LEAST` away from 0 and 1.

    Returns:
        (count,) or (count, K) float64.
    """
    rates = np.clip(np.asarray(rates, np.float64), LEAST, 1.0 - LEAST)
    log_black = np.log1p(-rates)
    odds = (np.log(rates) - log_black).T
    return np.concatenate(
        [binary[first : first + ROWS].astype(np.float64) @ odds for first in range(0, len(binary), ROWS)]
    ) + log_black.sum(axis=-1)


def log_mean_exp(values: np.ndarray) -> np.ndarray:
    """log of the mean of exp over the first axis, float64."""
    highest = values.max(axis=0)
    return highest + np.log(np.exp(values - highest).mean(axis=0))


def log_mixture(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """log sum_k share_k exp(value_k): (count, K) and (K,) -> (count,), where no share needs to be more than 0."""
    highest = values.max(axis=1, keepdims=True)
    return highest[:, 0] + np.log(np.exp(values - highest) @ shares)


def to_bits_per_dimension(values: Any, dimensions: int) -> Any:
    """Nats of log p(x) -> bits a dimension that a code of x takes."""
    return -values / (math.log(2.0) * dimensions)


def annealed_log_probs(
    binary: np.ndarray,
    machine: Mapping[str, np.ndarray],
    rates: np.ndarray,
    *,
    chains: int,
    temperatures: int,
    seed: int,
    reversed_images: int,
    reversed_chains: int,
) -> tuple[np.ndarray, float, np.ndarray]:
    """log p(x) of a restricted Boltzmann machine of binary units, by annealing forwards and backwards.

    Args:
        binary: x, (count, pixels), 0 or 1.
        machine: weights (pixels, units), visible_bias (pixels,) and hidden_bias (units,).
        rates: of the base machine, (pixels,): how often each pixel is 1 in the training images.
        chains: of annealed importance sampling.
        temperatures: of both.
        seed: of both.
        reversed_images: the first of the images, which are annealed backwards too.
        reversed_chains: of each of these.

    Returns:
        log p(x) by AIS, (count,); the standard error of log Z, which all of them share; log p(x) by RAISE,
        (reversed_images,); nats.
    """
    parts: dict[str, Any] = {name: np.asarray(value, np.float64) for name, value in machine.items()}
    base_bias = base_rate_bias(rates)
    found = annealed_importance_sampling(
        **parts, base_bias=base_bias, temperatures=temperatures, chains=chains, seed=seed
    )
    values = binary.astype(np.float64)
    inputs = values @ parts["weights"] + parts["hidden_bias"]
    unnormalized = values @ parts["visible_bias"] + np.logaddexp(0.0, inputs).sum(axis=1)
    reverse = reverse_annealed_importance_sampling(
        values[:reversed_images],
        **parts,
        base_bias=base_bias,
        temperatures=temperatures,
        chains=reversed_chains,
        seed=seed,
    )
    return unnormalized - found.value, found.error, reverse
