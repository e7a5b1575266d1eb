"""The one room with a gradient tape: what an update is, on any number of replicas.

A loss has one value a row. An update follows the mean over the rows of the *global* batch: the replicas' summed
gradients and their row counts are added up in one all-reduce, then divided. Everything after that (the check for
infinities, clipping, the optimizer's rule) sees the same numbers on every replica.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

Tensor = Any
Rows = Any  # (batch,), or ((batch,), {name: (batch,)}): the second part is only recorded
Loss = Callable[[], Rows]

NOT_FINITE = "Not finite: the gradient"


@dataclass(frozen=True)
class Held:
    """A forward pass kept open, so that a later loss can be carried back through it."""

    player: str
    output: Tensor
    tape: tf.GradientTape
    moves: int


@dataclass(frozen=True)
class Direction:
    """One player's gradients, not yet followed: sums over this replica's rows."""

    player: str
    rows: Rows
    gradients: list[Tensor]


@contextmanager
def watching(variables: Sequence[keras.Variable]) -> Iterator[tf.GradientTape]:
    """A tape that records for `variables` and for nothing else."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        for variable in variables:
            tape.watch(variable.value)
        yield tape


def hold(player: str, variables: Sequence[keras.Variable], forward: Callable[[], Tensor], moves: int) -> Held:
    """Run `forward` and keep it open for `variables`; `moves` is how often the player had moved by then."""
    with watching(variables) as tape:
        output = forward()
    return Held(player, output, tape, moves)


def direction(player: str, variables: Sequence[keras.Variable], loss: Loss, through: Held | None = None) -> Direction:
    """The gradients of `loss` by `variables`.

    With `through`, `loss` is a function of the held output and its gradient goes on through the held pass: the
    networks that the loss looks through get no weight gradients, since nobody would use them.
    """
    values = [variable.value for variable in variables]
    if through is None:
        with watching(variables) as tape:
            rows = loss()
            total = tf.reduce_sum(minimised(rows))
        return Direction(player, rows, tape.gradient(total, values))
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(through.output)
        rows = loss()
        total = tf.reduce_sum(minimised(rows))
    upstream = tape.gradient(total, through.output)
    return Direction(player, rows, through.tape.gradient(through.output, values, output_gradients=upstream))


def follow(move: Direction, optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]) -> None:
    """Global mean -> check -> clip -> update; clipping and weight decay are the optimizer's own.

    Raises:
        ValueError: the loss does not depend on one of the variables.
        tf.errors.InvalidArgumentError: a gradient is not finite; no weight has been touched.
    """
    cut_off = [v.path for v, gradient in zip(variables, move.gradients, strict=True) if gradient is None]
    if cut_off:
        raise ValueError(f"the loss of player {move.player!r} does not depend on its variables {cut_off}.")
    gradients = global_mean(move.gradients, minimised(move.rows))
    optimizer.apply(finite(move.player, gradients), list(variables))


def global_mean(sums: Sequence[Tensor], rows: Tensor) -> list[Tensor]:
    """Sums over one replica's rows -> means over the rows of the global batch, in one all-reduce."""
    count = tf.cast(tf.shape(rows)[0], sums[0].dtype)
    *sums, count = sum_over_replicas([*sums, count])
    return [total / tf.cast(count, total.dtype) for total in sums]


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


def finite(player: str, gradients: Sequence[Tensor]) -> list[Tensor]:
    """The same gradients; stops the step, before any weight is touched, when one is not finite."""
    squares = tf.add_n([tf.reduce_sum(tf.square(tf.cast(gradient, tf.float64))) for gradient in gradients])
    with tf.control_dependencies([tf.debugging.check_numerics(squares, f"{NOT_FINITE} of player {player!r}")]):
        return [tf.identity(gradient) for gradient in gradients]


def replicas_in_sync() -> int:
    """How many replicas share the model that is being built."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def without_reduction(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """`optimizer`, told not to sum gradients over the replicas: `follow` has done so, before clipping."""
    optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables
    return optimizer


def scales_loss(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether `optimizer` divides gradients by a factor that it expects the loss to have been multiplied by."""
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or optimizer.loss_scale_factor is not None


def some(rows: Tensor) -> Tensor:
    """The same rows; stops the step when a replica has got none, as 6 rows on 4 replicas: 2, 2, 2 and 0."""
    message = (
        "a replica has no rows: TensorFlow gives each ceil(batch / replicas) of them until none are left; "
        "choose a batch size that the number of replicas divides."
    )
    with tf.control_dependencies([tf.debugging.assert_positive(tf.shape(rows)[0], message)]):
        return tf.identity(rows)


def input_gradient(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """The gradient of each row's `function` by that row of `inputs`, itself differentiable: the shape of `inputs`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        outputs = tf.reduce_sum(function(inputs))
    return tape.gradient(outputs, inputs)


def minimised(rows: Rows) -> Tensor:
    """The part of a loss that is minimised, (batch,)."""
    return rows[0] if isinstance(rows, tuple) else rows
