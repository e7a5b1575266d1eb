"""One value per row."""

from keras import ops

from zoo.core.types import Tensor


def per_row(values: Tensor) -> Tensor:
    """Mean over every axis but the first: (batch, ...) -> (batch,)."""
    return ops.mean(ops.reshape(values, (ops.shape(values)[0], -1)), axis=1)


def sum_per_row(values: Tensor) -> Tensor:
    """Sum over every axis but the first: (batch, ...) -> (batch,)."""
    return ops.sum(ops.reshape(values, (ops.shape(values)[0], -1)), axis=1)
