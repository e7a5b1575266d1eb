"""Layers that show how the rows of a batch differ."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from zoo.core.replicas import replicas_in_sync, sum_over_replicas
from zoo.core.types import Tensor


@keras.saving.register_keras_serializable("zoo")
class MinibatchStddev(keras.layers.Layer):
    """One channel more: how much the rows of a batch differ (ProGAN, arXiv:1710.10196, section 3).

    The standard deviation of every value over the batch, averaged over all values, repeated as a constant map.

    Args:
        group_size: None for the statistic of the whole *global* batch, summed over the replicas; or the rows of one
            group, each with a statistic of its own: consecutive rows, whole groups on every replica.
        epsilon: added to the variance, so that equal rows have a gradient.
    """

    def __init__(self, group_size: int | None = None, epsilon: float = 1e-8, **kwargs: Any):
        super().__init__(**kwargs)
        if group_size is not None and group_size < 2:
            raise ValueError(f"group_size={group_size}: choose at least 2 rows, or None for the global batch.")
        self.group_size = group_size
        self.epsilon = epsilon

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, height, width, channels) -> (batch, height, width, channels + 1).

        Raises:
            ValueError: the batch is not made of whole groups (while it runs, where its size is not known before, the
                backend's error of a reshape).
        """
        rows, *shape = inputs.shape
        if self.group_size and rows is not None and rows % self.group_size:
            raise ValueError(
                f"a batch of {rows} rows on a replica is not made of groups of {self.group_size}: choose "
                "batch = replicas * group_size * a whole number, or group_size=None."
            )
        groups = (-1, self.group_size) if self.group_size else (1, -1)
        values = ops.reshape(ops.cast(inputs, self.variable_dtype), (*groups, *shape))  # (groups, rows, H, W, C)
        total = sum_over_replicas if self.group_size is None else list
        count = ops.sum(ops.ones_like(values[:1, :, 0, 0, 0]))
        # In two passes, the mean first: a mean of squares less a squared mean would cancel.
        sums, count = total([ops.sum(values, axis=1, keepdims=True), count])
        (squares,) = total([ops.sum(ops.square(values - sums / count), axis=1, keepdims=True)])
        deviation = ops.mean(ops.sqrt(squares / count + self.epsilon), axis=(2, 3, 4), keepdims=True)
        channel = ops.reshape(deviation * ops.ones_like(values[..., :1]), (-1, *shape[:-1], 1))
        return ops.concatenate([inputs, ops.cast(channel, inputs.dtype)], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "group_size": self.group_size, "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("zoo")
class MinibatchDiscrimination(keras.layers.Layer):
    """`kernels` features more: how close a row is to the others (arXiv:1606.03498, section 3.2).

    A row's features f(x_i) become a matrix M_i = f(x_i) T of `kernels` rows and `dimensions` columns, T learned;
    o(x_i)_b = sum_j exp(-||M_ib - M_jb||_1), between 1, a row's likeness to itself, and the number of rows compared.

    In training and inference alike, and of any number of rows; for a single one, o = 1. Without a group size all rows
    of the batch are compared, on one replica only: a replica does not see the others' rows. With one, `group_size`
    consecutive rows are compared with each other, and so are those that are left over at the end of a batch; as long
    as each replica holds whole groups, any number of replicas gives the same.

    Args:
        kernels: B, number of features that are added.
        dimensions: C, of the space in which rows are compared for one of them.
        group_size: rows that are compared with each other; None for the whole batch.
        kernel_initializer: of T, a matrix of (features, kernels * dimensions).
    """

    def __init__(
        self,
        kernels: int,
        dimensions: int,
        group_size: int | None = None,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if kernels < 1 or dimensions < 1:
            raise ValueError(f"kernels={kernels}, dimensions={dimensions}: choose at least 1 of each.")
        if group_size is not None and group_size < 2:
            raise ValueError(f"group_size={group_size}: choose at least 2 rows, or None for the whole batch.")
        self.kernels = kernels
        self.dimensions = dimensions
        self.group_size = group_size
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create T.

        Raises:
            ValueError: the inputs are not (batch, features).
        """
        if len(input_shape) != 2:
            raise ValueError(f"inputs of shape {tuple(input_shape)}: give (batch, features), flattened.")
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.kernels * self.dimensions),
            initializer=self.kernel_initializer,
            name="kernel",
        )

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, features) -> (batch, features + kernels).

        Raises:
            ValueError: several replicas and no group size.
        """
        if self.group_size is None and replicas_in_sync() > 1:
            raise ValueError(
                f"group_size=None compares the rows of one replica, and here are {replicas_in_sync()}: choose a "
                "group_size that divides the rows of each."
            )
        matrices = ops.cast(ops.matmul(inputs, self.kernel), self.variable_dtype)
        matrices = ops.reshape(matrices, (-1, self.kernels, self.dimensions))
        distances = ops.sum(ops.abs(matrices[:, None] - matrices[None]), axis=-1)  # (batch, batch, kernels)
        likeness = ops.exp(-distances)
        if self.group_size is not None:
            groups = ops.arange(ops.shape(inputs)[0]) // self.group_size
            likeness = ops.where((groups[:, None] == groups[None])[..., None], likeness, 0.0)
        return ops.concatenate([inputs, ops.cast(ops.sum(likeness, axis=1), inputs.dtype)], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        initializer = keras.initializers.serialize(self.kernel_initializer)
        own = {"kernels": self.kernels, "dimensions": self.dimensions, "group_size": self.group_size}
        return {**super().get_config(), **own, "kernel_initializer": initializer}


def in_whole_groups(function: Callable[[Tensor], Tensor], rows: Tensor, group_size: int | None) -> Tensor:
    """`function` of any number of rows, where it takes whole groups: the last one is filled up with the first rows.

    Args:
        function: (batch, ...) -> (batch, ...).
        rows: (batch, ...), at least one.
        group_size: None where any number will do.
    """
    count = ops.shape(rows)[0]
    missing = -count % (group_size or 1)
    return function(ops.take(rows, ops.arange(count + missing) % count, axis=0))[:count]
