"""What replicas compute together: sums and means over the rows of the global batch.

A row is one example of a batch. A replica holds some rows of the global batch.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from zoo.core.types import Tensor

# How to store what every replica has computed alike: all take the first one's copy, so no bit can drift apart.
ONLY_FIRST_REPLICA = "only_first_replica"


def replicas_in_sync() -> int:
    """How many replicas share the model that is being built."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def sum_over_replicas(values: Any) -> Any:
    """The sum over the replicas of a tensor, or of each in a list, in one all-reduce: the same on every replica.

    Differentiable, to any order. What a replica gives goes into the loss of every replica, so its gradient is the sum
    over the replicas of the gradients by the result: that of the global batch's summed loss, as on one replica.

    Args:
        values: a tensor, or a list of tensors of one type (they are packed into one); shapes equal on all replicas.
            Outside a replica (one replica; building a network) they come back as they are.
    """
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return values
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, values)


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all replicas in the order of the global batch, the same on every replica; no gradient is meant."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return rows
    return replica.all_gather(rows, axis=0)


def global_mean(sums: Sequence[Tensor], like: Tensor) -> list[Tensor]:
    """Sums over one replica's rows -> means over the rows of the global batch, in one all-reduce.

    Args:
        sums: of this replica's rows.
        like: (batch, ...), of which only the number of rows is read.
    """
    count = tf.cast(tf.shape(like)[0], sums[0].dtype)
    *totals, count = sum_over_replicas([*sums, count])
    return [total / tf.cast(count, total.dtype) for total in totals]


def sum_rows(*rows: Tensor) -> list[Tensor]:
    """Each one's sum over the rows of the global batch, and their number, in one all-reduce; all (batch,)."""
    count = tf.cast(tf.shape(rows[0])[0], rows[0].dtype)
    return sum_over_replicas([*(tf.cast(tf.reduce_sum(values), count.dtype) for values in rows), count])
