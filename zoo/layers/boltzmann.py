"""Restricted Boltzmann machines: one layer of binary hidden units over binary or Gaussian visible ones.

With E(v, h) = -b v - c h - v W h and binary v, or E(v, h) = 1/2 ||v - b||^2 - c h - v W h and real v, the hidden units
are independent given v, and the visible ones given h. weights = W, visible_bias = b, hidden_bias = c.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from keras import ops

from zoo.core.arguments import check_counts, choose
from zoo.core.noise import Draws
from zoo.core.replicas import ONLY_FIRST_REPLICA, gather_rows, global_mean
from zoo.core.types import Tensor

Visible = Literal["bernoulli", "gaussian"]
FIRST_WEIGHT = 0.01  # deviation of W at the start (Hinton 2010, UTML TR 2010-003, section 8)


class Contrast(NamedTuple):
    """Data beside samples, one value a row.

    Args:
        data: F(v) of the data, (batch,).
        samples: F(v') of the machine's samples, (batch,).
        error: the mean over visible units of (v - E p(v|E h))^2, (batch,).
        activations: E p(h|v) of the data, (batch, units).
    """

    data: Tensor
    samples: Tensor
    error: Tensor
    activations: Tensor


class Machine(NamedTuple):
    """A machine's parameters as they are, and what follows from them in closed form.

    Args:
        weights: W, (pixels, units).
        visible_bias: b, (pixels,).
        hidden_bias: c, (units,).
        binary: whether visible units are in {0, 1}; Gaussian ones of variance 1 otherwise.
    """

    weights: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor
    binary: bool = True

    def free_energy(self, visible: Tensor) -> Tensor:
        """F(v) = -log sum_h e^-E(v, h) = -b v - sum_j log(1 + e^(c_j + v W_j)), or with 1/2 ||v - b||^2; (batch,)."""
        energy = (
            -ops.matmul(visible, self.visible_bias)
            if self.binary
            else 0.5 * ops.sum(ops.square(visible - self.visible_bias), axis=-1)
        )
        return energy - ops.sum(ops.softplus(self.hidden_logits(visible)), axis=-1)

    def hidden_logits(self, visible: Tensor) -> Tensor:
        """c + v W, logits of p(h|v), (batch, units)."""
        return ops.matmul(visible, self.weights) + self.hidden_bias

    def visible_values(self, hidden: Tensor) -> Tensor:
        """b + W h, logits of p(v|h), or its mean where units are Gaussian, (batch, pixels)."""
        return ops.matmul(hidden, ops.transpose(self.weights)) + self.visible_bias

    def visible_mean(self, hidden: Tensor) -> Tensor:
        """The mean of p(v|h), (batch, pixels)."""
        values = self.visible_values(hidden)
        return ops.sigmoid(values) if self.binary else values

    def gibbs_chain(self, visible: Tensor, draws: Draws, steps: int) -> Tensor:
        """v after so many steps of Gibbs sampling from v, both (batch, pixels); no gradient passes."""
        pixels, units = self.weights.shape
        for _ in range(steps):
            hidden = draw_bernoulli(self.hidden_logits(visible), draws.uniform(units))
            noise = draws.uniform(pixels) if self.binary else draws.normal(pixels)
            visible = draw_visible(self.visible_values(hidden), noise, self.binary)
        return ops.stop_gradient(visible)

    def contrast(self, visible: Tensor, samples: Tensor) -> Contrast:
        """What contrastive divergence makes smaller, of data v and samples of the machine, both (batch, pixels)."""
        activations = ops.sigmoid(self.hidden_logits(visible))
        of_data, of_samples = self.free_energy(visible), self.free_energy(samples)
        error = ops.mean(ops.square(visible - self.visible_mean(ops.stop_gradient(activations))), axis=-1)
        return Contrast(of_data, of_samples, error, activations)


@keras.saving.register_keras_serializable("zoo")
class RestrictedBoltzmann(keras.layers.Layer):
    """The machine's variables, and what follows from them in closed form; besides, what has been measured.

    Args:
        pixels: number of visible units.
        units: number of hidden units.
        visible: "bernoulli" for units in {0, 1}, "gaussian" for real ones of variance 1.
        first_visible_bias: b at the start, of every pixel.
        mean_decay: of the moving average of the training data's mean, a step.

    Raises:
        ValueError: an unknown kind of units, or fewer than one unit.
    """

    def __init__(
        self,
        pixels: int,
        units: int,
        visible: Visible = "bernoulli",
        first_visible_bias: float = 0.0,
        mean_decay: float = 0.99,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_counts(units=units)
        self.pixels, self.units, self.visible = pixels, units, visible
        self.first_visible_bias, self.mean_decay = first_visible_bias, mean_decay
        self.binary = choose("visible", visible, {"bernoulli": True, "gaussian": False})
        constant, zeros = keras.initializers.Constant, keras.initializers.Zeros()
        normal = keras.initializers.RandomNormal(stddev=FIRST_WEIGHT)
        first_mean = 1.0 / (1.0 + math.exp(-first_visible_bias)) if self.binary else first_visible_bias
        self.kernel = self.add_weight(shape=(pixels, units), initializer=normal, name="weights")
        self.visible_bias = self.add_weight(shape=(pixels,), initializer=constant(first_visible_bias), name="b")
        self.hidden_bias = self.add_weight(shape=(units,), initializer=zeros, name="c")
        measured: dict[str, Any] = {"trainable": False, "autocast": False, "aggregation": ONLY_FIRST_REPLICA}
        self.mean = self.add_weight(shape=(pixels,), initializer=constant(first_mean), name="mean", **measured)
        self.log_partition_parts = self.add_weight(shape=(2,), initializer=zeros, name="log_partition", **measured)
        base = math.log1p(math.exp(first_visible_bias)) if self.binary else 0.5 * math.log(2.0 * math.pi)
        self.set_log_partition(units * math.log(2.0) + pixels * base)  # of W = 0
        self.built = True

    def call(self, inputs: Tensor, of: str = "free_energy") -> Tensor:
        """A quantity of `QUANTITIES`, of v, (batch, pixels), or of h, (batch, units)."""
        return choose("of", of, QUANTITIES)(self, inputs)

    @property
    def machine(self) -> Machine:
        """The parameters at this moment."""
        weights, *biases = map(ops.convert_to_tensor, (self.kernel, self.visible_bias, self.hidden_bias))
        return Machine(weights, biases[0], biases[1], self.binary)

    def log_prob(self, visible: Tensor) -> Tensor:
        """-F(v) - log Z, (batch,), by the estimate of log Z that was set."""
        return -self.machine.free_energy(visible) - ops.sum(ops.convert_to_tensor(self.log_partition_parts))

    def matrices(self, dtype: str | None = None) -> dict[str, np.ndarray]:
        """weights (visible, hidden), visible_bias and hidden_bias, as `zoo.metrics.annealing` takes them.

        Args:
            dtype: that they are rounded to, such as float16, as files hold them; their own when None.
        """
        parts = {"weights": self.kernel, "visible_bias": self.visible_bias, "hidden_bias": self.hidden_bias}
        return {name: np.asarray(part, dtype) for name, part in parts.items()}

    def set_log_partition(self, value: float) -> None:
        """Keep log Z, as a multiple of 1/2^k and a rest, of which a file of float16 loses nothing that counts."""
        coarse = float(np.float16(value))
        self.log_partition_parts.assign([coarse, value - coarse])

    def update_mean(self, visible: Tensor) -> None:
        """Move the average of the training data's mean by a batch, of which every replica has some rows."""
        (mean,) = global_mean([ops.sum(ops.cast(visible, self.mean.dtype), axis=0)], visible)
        self.mean.assign(self.mean_decay * self.mean + (1.0 - self.mean_decay) * mean)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("pixels", "units", "visible", "first_visible_bias", "mean_decay")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


QUANTITIES: dict[str, Callable[[RestrictedBoltzmann, Tensor], Tensor]] = {
    "free_energy": lambda layer, visible: layer.machine.free_energy(visible),
    "hidden_logits": lambda layer, visible: layer.machine.hidden_logits(visible),
    "visible_values": lambda layer, hidden: layer.machine.visible_values(hidden),
    "visible_mean": lambda layer, hidden: layer.machine.visible_mean(hidden),
    "log_prob": RestrictedBoltzmann.log_prob,
}


def draw_bernoulli(logits: Tensor, uniform: Tensor) -> Tensor:
    """1 where u < sigmoid(logit), else 0, in the logits' type; no gradient passes."""
    return ops.cast(uniform < ops.sigmoid(logits), logits.dtype)


def draw_visible(values: Tensor, noise: Tensor, binary: bool) -> Tensor:
    """v of p(v|h), from `visible_values` and uniform noise in [0, 1); standard normal noise for Gaussian units."""
    return draw_bernoulli(values, noise) if binary else values + noise


@keras.saving.register_keras_serializable("zoo")
class PersistentChains(keras.layers.Layer):
    """Samples that go on from step to step (Tieleman, ICML 2008), the same on every replica.

    The rows of the global batch go on with one chain each, in turn: those of the next step begin where this step's
    ended. Where a batch has more rows than there are chains, several go on from one, and the first of them is kept.

    Args:
        chains: how many are kept.
        size: values of each; all begin as zeros.
    """

    def __init__(self, chains: int, size: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_counts(chains=chains)
        self.chains, self.size = chains, size
        kept = {"initializer": "zeros", "trainable": False, "autocast": False, "aggregation": ONLY_FIRST_REPLICA}
        self.values = self.add_weight(**kept, shape=(chains, size), name="values")
        self.first = self.add_weight(**kept, shape=(), dtype="int32", name="first")
        self.built = True

    def take(self, rows: Tensor) -> Tensor:
        """The chains' values that rows of these numbers in the global batch go on from, (batch, size)."""
        numbers = (ops.cast(rows, "int32") + ops.convert_to_tensor(self.first)) % self.chains
        return ops.take(ops.convert_to_tensor(self.values), numbers, axis=0)

    def put(self, values: Tensor) -> None:
        """Keep what the rows that `take` was given have come to, (batch, size)."""
        new = gather_rows(ops.cast(ops.stop_gradient(values), self.values.dtype))
        count, first = ops.shape(new)[0], ops.convert_to_tensor(self.first)
        rows = (ops.arange(self.chains, dtype="int32") - first) % self.chains  # the first one that took each chain
        old = ops.convert_to_tensor(self.values)
        taken = ops.take(new, ops.minimum(rows, count - 1), axis=0)
        self.values.assign(ops.where((rows < count)[:, None], taken, old))
        self.first.assign((first + ops.cast(count, "int32")) % self.chains)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "chains": self.chains, "size": self.size}
