"""Values brought to mean 0 and variance 1, with gradients that are right to any order.

`tf.nn.moments` takes the mean within the variance as a constant: first derivatives are right, second ones are not, and
those are what a gradient penalty follows.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from zoo.core.replicas import replicas_in_sync, sum_over_replicas
from zoo.core.types import Tensor

FUSED = ("float32", "bfloat16", "float16")  # what TensorFlow's fused batch norm takes; its statistics are float32


class Normalized(NamedTuple):
    """Normalized values, and the statistics of each channel before: constants, through which no gradient flows."""

    values: Tensor
    mean: Tensor
    variance: Tensor
    """The biased one: its denominator is the number of values."""


def normalize_rows(x: Tensor, epsilon: float) -> Tensor:
    """Each row at mean 0 and variance 1 over all of its values, likewise shaped.

    Args:
        x: (batch, ...), float32 or float64.
        epsilon: added to the variance.
    """
    return Standardization(x, range(1, len(x.shape)), epsilon, synchronized=False).values()


def normalize_batch(x: Tensor, scale: Tensor, offset: Tensor, epsilon: float) -> Normalized:
    """scale x_hat + offset; each channel of x_hat is at mean 0 and variance 1 over the rows of the global batch.

    On one replica this is TensorFlow's fused operation. On several, one all-reduce adds up the replicas' statistics,
    and one those of the gradient.

    Args:
        x: (batch, ..., channels), floating; half precision has float32 statistics.
        scale, offset: (channels,), float32, or float64 if x is; tensors or variables.
        epsilon: added to the variance.

    Returns:
        Its values, likewise shaped and of the type of x; mean and variance, both (channels,), of the type of `scale`.
    """
    scale, offset = tf.convert_to_tensor(scale), tf.convert_to_tensor(offset)
    if len(x.shape) == 4 and x.dtype.name in FUSED and replicas_in_sync() == 1:
        return fused(x, scale, offset, epsilon)
    standard = standardize_channels(tf.cast(x, scale.dtype), epsilon)
    values = tf.cast(standard.values() * scale + offset, x.dtype)
    statistics = (tf.stop_gradient(tf.reshape(each, [-1])) for each in (standard.mean, standard.variance))
    return Normalized(values, *statistics)


def fused(x: Tensor, scale: Tensor, offset: Tensor, epsilon: float) -> Normalized:
    """`normalize_batch` of maps, (batch, height, width, channels), on one replica, by FusedBatchNormV3.

    TensorFlow has a gradient of that operation, and none of the gradient's: that one is put together here.
    """

    @tf.custom_gradient
    def forward(x: Tensor, scale: Tensor, offset: Tensor) -> tuple[tuple[Tensor, ...], Callable]:
        values, mean, variance, *reserved = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=scale, offset=offset, mean=[], variance=[], epsilon=epsilon, is_training=True
        )

        @tf.custom_gradient
        def first(x: Tensor, scale: Tensor, gradient: Tensor) -> tuple[tuple[Tensor, ...], Callable]:
            kept = {f"reserve_space_{number}": each for number, each in enumerate(reserved, start=1)}
            by_x, by_scale, by_offset, *_ = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=gradient, x=x, scale=scale, **kept, epsilon=epsilon, is_training=True
            )
            return (by_x, by_scale, by_offset), lambda *upstream: second(x, scale, gradient, *upstream)

        def second(x: Tensor, scale: Tensor, gradient: Tensor, *upstream: Tensor) -> tuple[Tensor, ...]:
            wide, gradient_wide, to_x = (tf.cast(each, scale.dtype) for each in (x, gradient, upstream[0]))
            _, to_scale, to_offset = upstream
            standard = standardize_channels(wide, epsilon)
            through = standard.gradient(to_x)
            by_x = standard.second_gradient(scale * gradient_wide, to_x) + standard.gradient(to_scale * gradient_wide)
            by_scale = tf.reduce_sum(gradient_wide * through, [0, 1, 2])
            by_gradient = scale * through + to_scale * standard.values() + to_offset
            return tf.cast(by_x, x.dtype), by_scale, tf.cast(by_gradient, gradient.dtype)

        return (values, mean, variance), lambda gradient, *_: first(x, scale, gradient)

    values, mean, variance = forward(x, scale, offset)
    count = tf.cast(tf.size(x) / tf.size(scale), variance.dtype)
    biased = variance * (tf.maximum(count - 1.0, 1.0) / count)  # its own denominator is one less, but never 0
    return Normalized(values, tf.stop_gradient(mean), tf.stop_gradient(biased))


def standardize_channels(x: Tensor, epsilon: float) -> "Standardization":
    """Over the rows of the global batch, and their pixels if there are any."""
    return Standardization(x, range(len(x.shape) - 1), epsilon, synchronized=True)


class Standardization:
    """x_hat = (x - E[x]) s with s = (E[(x - E[x])^2] + epsilon)^(-1/2), E the mean over `axes`; and its derivatives.

    With g what is given for x_hat, and u what is given for G:

        G(g) = s (g - E[g] - x_hat E[g x_hat])                                      gradient by x
        H(g, u) = -s (E[g x_hat] G(u) + E[u x_hat] G(g) + x_hat E[u G(g)])          gradient of sum u G(g) by x
        G(u)                                                                        gradient of sum u G(g) by g

    Args:
        x: float32 or float64.
        axes: of the values that share a mean and a variance; these keep them, with length 1.
        epsilon: added to the variance.
        synchronized: whether the values of all replicas share them.
    """

    def __init__(self, x: Tensor, axes: Sequence[int], epsilon: float, synchronized: bool):
        self.x = x
        self.axes = list(axes)
        self.total = sum_over_replicas if synchronized else list
        # In two passes, the mean first: a mean of squares less a squared mean would cancel.
        mean = tf.reduce_mean(x, self.axes, keepdims=True)
        squares = tf.reduce_sum(tf.square(x - mean), self.axes, keepdims=True)
        count = tf.size(x) / tf.size(mean)  # float64
        if synchronized:
            # Squares around 0 are what can be added up; in float64, whose 53 bits hold those of every float32.
            wide = tf.cast(mean, count.dtype)
            squares = tf.cast(squares, count.dtype) + count * tf.square(wide)
            total, squares, count = self.total([count * wide, squares, count])
            wide = total / count
            squares = tf.maximum(squares - count * tf.square(wide), 0.0)
            mean, squares = tf.cast(wide, x.dtype), tf.cast(squares, x.dtype)
        self.mean = mean
        self.count = tf.cast(count, x.dtype)
        self.variance = squares / self.count
        self.scale = tf.math.rsqrt(self.variance + epsilon)
        self.normalized = (x - self.mean) * self.scale

    def means(self, *values: Tensor) -> list[Tensor]:
        """Of each over the axes, in one all-reduce."""
        return [each / self.count for each in self.total([tf.reduce_sum(v, self.axes, keepdims=True) for v in values])]

    def values(self) -> Tensor:
        """x_hat."""
        return tf.custom_gradient(lambda x: (self.normalized, self.gradient))(self.x)

    def gradient(self, given: Tensor) -> Tensor:
        """G."""

        def function(x: Tensor, given: Tensor) -> tuple[Tensor, Callable]:
            mean, product = self.means(given, given * self.normalized)
            result = self.scale * (given - mean - self.normalized * product)

            def backward(upstream: Tensor) -> tuple[Tensor, Tensor]:
                by_given = self.gradient(upstream)
                return self.combine(product, result, upstream, by_given), by_given

            return result, backward

        return tf.custom_gradient(function)(self.x, given)

    def second_gradient(self, given: Tensor, upstream: Tensor) -> Tensor:
        """H."""
        (product,) = self.means(given * self.normalized)
        return self.combine(product, self.gradient(given), upstream, self.gradient(upstream))

    def combine(self, product: Tensor, by_given: Tensor, upstream: Tensor, by_upstream: Tensor) -> Tensor:
        """H, from E[g x_hat], G(g), u and G(u)."""
        other, both = self.means(upstream * self.normalized, upstream * by_given)
        return -self.scale * (product * by_upstream + other * by_given + both * self.normalized)
