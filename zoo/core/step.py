"""The only module that uses `tf.GradientTape`: computing and applying one update, on any number of replicas.

A row is one example of the batch; a loss has one value per row. An update follows the mean over the rows of the
*global* batch: the replicas' summed gradients and their row counts are added up in one all-reduce, then divided.
Everything after that (the check for infinities, clipping, the optimizer's rule) sees the same numbers on every replica.

An optimizer may scale the loss, so that float16 gradients do not vanish: the scale goes in before the gradient is taken
and comes out in the optimizer. A `LossScaleOptimizer` skips an update whose scaled gradients overflow, halves its
scale and goes on; all replicas skip alike, since it sees the summed gradients.

A step whose gradient or loss is not finite is refused. What layers and metrics assign in a step (statistics of batch
norm, vectors of spectral norm) is put off to its end, so that a refused step leaves nothing of it. A player that was
updated earlier in that step stays so: to undo it would take a copy of all weights and moments at every step.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from zoo.core import replicas
from zoo.core.types import Tensor

LossValues = Any  # (batch,), or ((batch,), {name: (batch,)}): the second part is only recorded
LossFunction = Callable[[], LossValues]

NOT_FINITE = "non-finite gradient or loss"
LEAST_SCALE = 1.0  # a gradient that overflows at a loss scale of 1 does so by itself


@dataclass(frozen=True)
class HeldForward:
    """A forward pass whose tape is still open, so that a later loss can be backpropagated through it."""

    player: str
    output: Tensor
    tape: tf.GradientTape
    updates: int
    """How many updates the player had made in this step by then."""


@dataclass(frozen=True)
class Gradients:
    """One player's gradients, not yet applied: means over the global batch, times the optimizer's loss scale.

    Args:
        player: whose they are.
        loss_values: of this replica's rows.
        gradients: one a variable.
        norm: of the gradient before clipping, a scalar; not finite where a `LossScaleOptimizer` skips the update.
        finite_check: a scalar that is not finite where the update is refused for good: the gradient norm; with loss
            scaling, the mean loss, plus the norm once the scale has reached 1.
    """

    player: str
    loss_values: LossValues
    gradients: list[Tensor]
    norm: Tensor
    finite_check: Tensor


class DeferredState(keras.StatelessScope):
    """Within it, what is assigned to Keras' variables is seen by those who read them, and written by `write` alone."""

    def __init__(self) -> None:
        super().__init__(initialize_variables=False)
        self.assigned: dict[int, keras.Variable] = {}

    def add_update(self, update: tuple[keras.Variable, Tensor]) -> None:
        """Keras calls this in place of an assignment."""
        self.assigned[id(update[0])] = update[0]
        super().add_update(update)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Within it, assignments are written at once, as an optimizer's must be."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

    def write(self, finite: Tensor | None = None) -> None:
        """Assign the last value of each variable; once the scope has ended.

        Args:
            finite: a scalar, where it is false each variable keeps its value; by default it does not.
        """
        for key, variable in self.assigned.items():
            value = self.state_mapping[key]
            variable.assign(value if finite is None else tf.where(finite, value, variable.value))


@contextmanager
def watching(variables: Sequence[keras.Variable]) -> Iterator[tf.GradientTape]:
    """A tape that records for `variables` and for nothing else."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        for variable in variables:
            tape.watch(variable.value)
        yield tape


def hold(player: str, variables: Sequence[keras.Variable], forward: Callable[[], Tensor], updates: int) -> HeldForward:
    """Run `forward` and keep it open for `variables`; `updates` is how many the player had made by then."""
    with watching(variables) as tape:
        output = forward()
    return HeldForward(player, output, tape, updates)


def compute_gradients(
    player: str,
    variables: Sequence[keras.Variable],
    optimizer: keras.optimizers.Optimizer,
    loss: LossFunction,
    through: HeldForward | None = None,
    weight_penalty: Callable[[], Tensor | None] = lambda: None,
    allow_unused: bool = False,
) -> Gradients:
    """The global batch's mean gradients of `loss` with respect to `variables`, times the optimizer's loss scale.

    Args:
        player: whose they are.
        variables: the player's.
        optimizer: the player's.
        loss: one value per row.
        through: `loss` is a function of this pass' output, and d loss / d output is backpropagated through its tape.
            Only that path counts: a direct use of the variables inside `loss` gets no gradient, and the networks in
            between get none either, since nobody would use them.
        weight_penalty: a term of the variables alone, a scalar or None, which enters the mean over the rows once. It
            is taped apart, so that a held pass, too, can have one.
        allow_unused: whether the loss may leave out some of the variables, whose gradient is then 0.

    Raises:
        ValueError: the loss does not depend on one of the variables, and `allow_unused` is false.
    """
    scale_loss = optimizer.scale_loss
    values = [variable.value for variable in variables]
    if through is None:
        with watching(variables) as tape:
            rows = loss()
            total = scale_loss(tf.reduce_sum(loss_of(rows)))
        gradients = tape.gradient(total, values)
    else:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(through.output)
            rows = loss()
            total = scale_loss(tf.reduce_sum(loss_of(rows)))
        upstream = tape.gradient(total, through.output)
        gradients = through.tape.gradient(through.output, values, output_gradients=upstream)
    if allow_unused:
        pairs = zip(values, gradients, strict=True)
        gradients = [tf.zeros_like(value) if gradient is None else gradient for value, gradient in pairs]
    with watching(variables) as tape:
        penalty = weight_penalty()
        scaled = None if penalty is None else scale_loss(penalty)
    if scaled is not None:
        # Gradients are sums over this replica's rows, divided by the global count later: the term is added per row.
        count = tf.shape(loss_of(rows))[0]
        terms = tape.gradient(scaled, values)
        gradients = [add_per_row(one, term, count) for one, term in zip(gradients, terms, strict=True)]
        rows = add_to_loss(rows, penalty)
    cut_off = [variable.path for variable, each in zip(variables, gradients, strict=True) if each is None]
    if cut_off:
        raise ValueError(f"the loss of player {player!r} does not depend on its variables {cut_off}.")
    *means, mean_loss = replicas.global_mean([*gradients, tf.reduce_sum(loss_of(rows))], loss_of(rows))
    scale = tf.cast(scale_loss(tf.ones(())), tf.float64)  # as it is now; 1 without loss scaling
    norm = global_norm(means) / scale
    finite_check = norm
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        # Above a scale of 1 a norm that is not finite is the scale's fault: the optimizer skips the update, halves it.
        # A loss that is not finite, or an overflow at a scale of 1, is not mended so.
        finite_check = tf.cast(mean_loss, tf.float64) + tf.where(scale > LEAST_SCALE, tf.zeros_like(norm), norm)
    return Gradients(player, rows, means, norm, finite_check)


def apply_gradients(
    computed: Gradients,
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
    finite_checks: Sequence[Tensor],
    compiled: bool = False,
) -> None:
    """Clip -> update, where all is finite; clipping and weight decay are the optimizer's own.

    Args:
        computed: the player's gradients.
        optimizer: the player's.
        variables: the player's.
        finite_checks: of all gradients that were computed in the step so far, these included; as they come out of
            `check_finite`, unless `compiled`.
        compiled: XLA is compiling this, and leaves assertions out: an update that can't be made is left out instead,
            and the caller must look at the checks. On one replica only.
    """
    if compiled:
        apply = partial(optimizer.apply, computed.gradients, list(variables))
        tf.cond(are_finite(finite_checks), lambda: apply() and None, lambda: None)
        return
    with tf.control_dependencies(finite_checks):  # the optimizer's counter, too, which depends on no gradient
        optimizer.apply([tf.identity(gradient) for gradient in computed.gradients], list(variables))


def are_finite(finite_checks: Sequence[Tensor]) -> Tensor:
    """Whether all of these scalars are finite, a scalar."""
    return tf.reduce_all(tf.math.is_finite(tf.stack(finite_checks)))


def check_finite(player: str, finite_check: Tensor, before: Sequence[str] = ()) -> Tensor:
    """`finite_check`; stops the step when it is not finite, and says what is left of it.

    Args:
        player: whose gradients it is about.
        finite_check: of `Gradients`.
        before: the players that had been updated in the step by then, one for each update.
    """
    counts = [f"{before.count(name)} of {name!r}" for name in dict.fromkeys(before)]
    kept = f"nothing of this step was kept but the updates before it, {' and '.join(counts)}"
    kept = kept if before else "nothing of this step was kept"
    return tf.debugging.check_numerics(finite_check, f"{NOT_FINITE} of player {player!r}: {kept}")


def global_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all of them as one vector; in float64, since squares of finite float32 may overflow."""
    return tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(tf.cast(gradient, tf.float64))) for gradient in gradients]))


def disable_reduction(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """`optimizer`, told not to sum gradients over the replicas: `apply_gradients` has done so, before clipping."""
    innermost = optimizer
    while isinstance(innermost, keras.optimizers.LossScaleOptimizer):
        innermost = innermost.inner_optimizer
    # A private hook of Keras' optimizers, called before clipping: there is no public switch.
    innermost._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables
    return optimizer


def reset(optimizer: keras.optimizers.Optimizer) -> None:
    """Make its state that of a fresh optimizer: moments, and the count of updates that learning rates decay by.

    The loss scale stays: it belongs to the networks, not to what was learned of them.
    """
    while isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    for variable in optimizer.variables:
        if not variable.path.endswith("learning_rate"):
            variable.assign(tf.zeros(variable.shape, variable.dtype))


def with_loss_scale(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """`optimizer` in a `LossScaleOptimizer`, unless it scales the loss already."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or optimizer.loss_scale_factor is not None:
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer)


def run_with_xla(function: Callable[[], Any]) -> Any:
    """Compile `function` with XLA, call it, return its result; tensors of the graph around it become its inputs."""
    return tf.function(function, jit_compile=True, autograph=False)()


def require_rows(rows: Tensor) -> Tensor:
    """The same rows; stops the step when a replica has got none, as 6 rows on 4 replicas: 2, 2, 2 and 0."""
    message = (
        "a replica has no rows: TensorFlow gives each ceil(batch / replicas) of them until none are left; "
        "choose a batch size that the number of replicas divides."
    )
    with tf.control_dependencies([tf.debugging.assert_positive(tf.shape(rows)[0], message)]):
        return tf.identity(rows)


def input_gradient(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """The gradient of each row's `function` with respect to that row of `inputs`, likewise shaped; differentiable."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        outputs = tf.reduce_sum(function(inputs))
    return tape.gradient(outputs, inputs)


def input_jacobian(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """The derivatives of each row's outputs with respect to that row of `inputs`, themselves differentiable.

    Args:
        function: (batch, ...) -> (batch, outputs); a row's outputs must depend on that row alone.
        inputs: (batch, ...).

    Returns:
        (batch, outputs, ...), the shape of `inputs` after the outputs.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        outputs = function(inputs)
    return tape.batch_jacobian(outputs, inputs)


def loss_of(values: LossValues) -> Tensor:
    """The part of a loss that is minimized, (batch,)."""
    return values[0] if isinstance(values, tuple) else values


def add_to_loss(values: LossValues, term: Tensor) -> LossValues:
    """The same loss with a scalar added to what is minimized of each row."""
    return (values[0] + term, *values[1:]) if isinstance(values, tuple) else values + term


def add_per_row(gradient: Tensor | None, term: Tensor | None, count: Tensor) -> Tensor | None:
    """A sum over `count` rows plus `term` for each; None where the rows do not depend on the variable."""
    return gradient if gradient is None or term is None else gradient + tf.cast(count, term.dtype) * term
