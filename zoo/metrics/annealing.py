"""What a restricted Boltzmann machine leaves open, its partition function, by annealing, in NumPy.

Between a base machine without weights (beta = 0) and the machine itself (beta = 1) lie machines whose unnormalized
p*_beta(v) = p*_0(v)^(1 - beta) p*(v)^beta but for the hidden units, which are summed out at each beta (Salakhutdinov
and Murray, ICML 2008, eq. 15 to 18). Annealed importance sampling walks from the base to the machine and estimates Z;
from an image backwards it estimates a lower bound of that image's log p(v) (RAISE, arXiv:1412.8566).

weights = W (pixels, units), visible_bias = b, hidden_bias = c, base_bias = b_0. Binary visible units lie in {0, 1};
Gaussian ones have variance 1. Products are in float32, sums over temperatures in float64.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

Visible = Literal["bernoulli", "gaussian"]
STRETCHES = ((0.5, 1), (0.9, 8), (1.0, 20))  # up to this beta, so many 29ths of the temperatures: section 4.3 there
ROWS = 500  # chains at once


class LogPartition(NamedTuple):
    """An estimate of log Z.

    Args:
        value: log of the mean weight, nats: lower than log Z on average, and the less so the more the chains agree.
        error: one standard error, nats: that of the mean weight over the mean weight (the delta method).
        chains: how many weights.
        temperatures: steps from the base to the machine.
    """

    value: float
    error: float
    chains: int
    temperatures: int

    @property
    def interval(self) -> tuple[float, float]:
        """log of the mean weight -+ three standard errors of it; the lower end may be -inf."""
        low, high = 1.0 - 3.0 * self.error, 1.0 + 3.0 * self.error
        return self.value + (math.log(low) if low > 0.0 else -math.inf), self.value + math.log(high)


def annealed_importance_sampling(
    weights: np.ndarray,
    visible_bias: np.ndarray,
    hidden_bias: np.ndarray,
    base_bias: np.ndarray,
    temperatures: int = 10_000,
    chains: int = 100,
    seed: int = 0,
    visible: Visible = "bernoulli",
) -> LogPartition:
    """log Z of a machine, by AIS.

    Args:
        weights: W, (pixels, units).
        visible_bias: b, (pixels,).
        hidden_bias: c, (units,).
        base_bias: b_0, (pixels,): the base machine's, such as `base_rate_bias` of the training images.
        temperatures: steps from beta = 0 to 1, with the paper's spacing.
        chains: independent walks; two or more.
        seed: of all of them.
        visible: kind of the visible units.

    Raises:
        ValueError: shapes that don't fit, fewer than two chains or one temperature.
    """
    path = _Path(weights, visible_bias, hidden_bias, base_bias, visible)
    if chains < 2:
        raise ValueError(f"chains={chains}: choose at least 2, or the estimate has no error.")
    betas, random = inverse_temperatures(temperatures), np.random.default_rng(seed)
    log_weights = np.zeros(chains)
    units = path.draw_base(chains, random)
    for before, beta in pairwise(betas):
        inputs = path.inputs(units)  # one product for the ratio and for the step
        log_weights += path.log_ratio(units, inputs, before, beta)
        if beta < 1.0:
            units = path.gibbs_step(inputs, beta, random)
    mean, error = _log_mean_exp(log_weights)
    return LogPartition(path.base_log_partition + mean, error, chains, temperatures)


def reverse_annealed_importance_sampling(
    values: np.ndarray,
    weights: np.ndarray,
    visible_bias: np.ndarray,
    hidden_bias: np.ndarray,
    base_bias: np.ndarray,
    temperatures: int = 10_000,
    chains: int = 10,
    seed: int = 0,
    visible: Visible = "bernoulli",
) -> np.ndarray:
    """A lower bound of each image's log p(v), by RAISE: on average no larger, where AIS' log p(v) is no smaller.

    Args:
        values: v, (images, pixels).
        weights, visible_bias, hidden_bias, base_bias, temperatures, seed, visible: see `annealed_importance_sampling`.
        chains: walks of each image, whose weights' mean is taken.

    Returns:
        (images,) float64, nats.

    Raises:
        ValueError: shapes that don't fit, no chain or temperature.
    """
    path = _Path(weights, visible_bias, hidden_bias, base_bias, visible)
    if values.ndim != 2 or values.shape[1] != len(path.weights):
        raise ValueError(f"values have the shape {values.shape}; the machine takes (images, {len(path.weights)}).")
    if chains < 1:
        raise ValueError(f"chains={chains}: choose at least 1.")
    betas, random = inverse_temperatures(temperatures)[::-1], np.random.default_rng(seed)
    found, at_once = [], max(1, ROWS // chains)
    for first in range(0, len(values), at_once):
        units = np.repeat(values[first : first + at_once], chains, axis=0).astype(np.float32)
        log_weights = path.log_unnormalized(units) - path.base_log_partition
        inputs = path.inputs(units)
        for beta, after in pairwise(betas):
            units = path.gibbs_step(inputs, beta, random)
            inputs = path.inputs(units)
            log_weights -= path.log_ratio(units, inputs, after, beta)
        found += [_log_mean_exp(each)[0] for each in log_weights.reshape(-1, chains)]
    return np.asarray(found)


def base_rate_bias(mean: np.ndarray, visible: Visible = "bernoulli", least: float = 0.01) -> np.ndarray:
    """b_0 of the base machine that gives each pixel the mean it has in the training images (section 4.1.1 there).

    Args:
        mean: of each visible unit, (pixels,).
        visible: kind of the visible units.
        least: binary units' means are kept this far from 0 and 1, so that no value is impossible to the base.
    """
    if visible == "gaussian":
        return np.asarray(mean, np.float64)
    rate = np.clip(np.asarray(mean, np.float64), least, 1.0 - least)
    return np.log(rate) - np.log1p(-rate)


def inverse_temperatures(count: int) -> np.ndarray:
    """beta_0 = 0 to beta_count = 1, (count + 1,) float64, the closer together the nearer to 1, as in the paper.

    Raises:
        ValueError: a count below 1.
    """
    if count < 1:
        raise ValueError(f"temperatures={count}: choose at least 1.")
    total = sum(share for _, share in STRETCHES)
    shares = np.cumsum([0, *(share for _, share in STRETCHES)]) / total
    return np.interp(np.arange(count + 1) / count, shares, [0.0, *(end for end, _ in STRETCHES)])


@dataclass
class _Path:
    """The machines between the base and the machine itself; arguments as those of `annealed_importance_sampling`."""

    weights: np.ndarray
    visible_bias: np.ndarray
    hidden_bias: np.ndarray
    base_bias: np.ndarray
    visible: Visible

    def __post_init__(self) -> None:
        pixels, units = np.shape(self.weights)
        shapes = {"visible_bias": (pixels,), "hidden_bias": (units,), "base_bias": (pixels,)}
        for name, shape in shapes.items():
            if np.shape(getattr(self, name)) != shape:
                raise ValueError(f"{name} has the shape {np.shape(getattr(self, name))}; these weights take {shape}.")
        if self.visible not in ("bernoulli", "gaussian"):
            raise ValueError(f"visible={self.visible!r}: choose from ['bernoulli', 'gaussian'].")
        b, c, base = (np.asarray(getattr(self, name), np.float64) for name in shapes)
        self.base_log_partition = units * math.log(2.0) + (
            float(np.sum(np.logaddexp(0.0, base)))
            if self.visible == "bernoulli"
            else 0.5 * pixels * math.log(2.0 * math.pi)
        )
        self.offset = 0.5 * float(base @ base - b @ b) if self.visible == "gaussian" else 0.0
        self.weights = np.ascontiguousarray(self.weights, np.float32)
        self.transposed = np.ascontiguousarray(self.weights.T)
        self.visible_bias, self.hidden_bias, self.base_bias = (each.astype(np.float32) for each in (b, c, base))

    def inputs(self, units: np.ndarray) -> np.ndarray:
        """c + v W, (chains, units)."""
        return units @ self.weights + self.hidden_bias

    def log_unnormalized(self, units: np.ndarray) -> np.ndarray:
        """log p*(v) of the machine itself, (chains,) float64."""
        values, bias = units.astype(np.float64), self.visible_bias.astype(np.float64)
        inputs = values @ self.weights.astype(np.float64) + self.hidden_bias
        linear = values @ bias if self.visible == "bernoulli" else -0.5 * np.sum((values - bias) ** 2, axis=1)
        return linear + np.sum(np.logaddexp(0.0, inputs), axis=1)

    def log_ratio(self, units: np.ndarray, inputs: np.ndarray, before: float, beta: float) -> np.ndarray:
        """log p*_beta(v) - log p*_before(v), (chains,) float64.

        With x = c + v W, log(1 + e^(beta x)) = beta max(x, 0) + log(1 + e^(-beta |x|)): what is left to subtract of
        one another lies between 0 and log 2, where float32 is fine.
        """
        linear = units @ (self.visible_bias - self.base_bias) + np.maximum(inputs, 0.0).sum(axis=1)
        size = np.abs(inputs)
        first, second = np.exp(np.float32(-before) * size), np.exp(np.float32(-beta) * size)
        rest = np.log1p((second - first) / (1.0 + first)).sum(axis=1, dtype=np.float64)
        return (beta - before) * (linear.astype(np.float64) + self.offset) + rest

    def gibbs_step(self, inputs: np.ndarray, beta: float, random: np.random.Generator) -> np.ndarray:
        """The next v of the machine at `beta`, given c + v W."""
        hidden = _draw(np.float32(beta) * inputs, random)
        mean = hidden @ self.transposed
        mean *= np.float32(beta)
        mean += np.float32(1.0 - beta) * self.base_bias + np.float32(beta) * self.visible_bias
        return self._draw_visible(mean, random)

    def draw_base(self, chains: int, random: np.random.Generator) -> np.ndarray:
        """Visible units of the base machine, (chains, pixels) float32."""
        return self._draw_visible(np.broadcast_to(self.base_bias, (chains, len(self.base_bias))), random)

    def _draw_visible(self, mean: np.ndarray, random: np.random.Generator) -> np.ndarray:
        if self.visible == "gaussian":
            return mean + random.standard_normal(mean.shape, np.float32)
        return _draw(mean, random)


def _draw(logits: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Bernoulli variables, float32: 1 where u < sigmoid(logit), put as u (1 + e^-logit) < 1."""
    odds = np.exp(-np.clip(logits, -80.0, 80.0))
    odds += 1.0
    odds *= random.random(logits.shape, np.float32)
    return (odds < 1.0).astype(np.float32)


def _log_mean_exp(log_weights: Any) -> tuple[float, float]:
    """log of the mean weight, and the standard error of the mean over the mean (0 of a single one)."""
    most = log_weights.max()
    scaled = np.exp(log_weights - most)
    mean = scaled.mean()
    spread = scaled.std(ddof=1) / math.sqrt(len(scaled)) if len(scaled) > 1 else 0.0
    return float(most + math.log(mean)), float(spread / mean)
