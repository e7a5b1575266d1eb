"""Expectation maximization as a loss (EM: Dempster, Laird and Rubin 1977; online: arXiv:0712.4273)."""

from collections.abc import Sequence

import keras
from keras import ops

from zoo.core.types import Tensor


def towards(variables: Sequence[keras.Variable], targets: Sequence[Tensor], like: Tensor, share: float = 1.0) -> Tensor:
    """share / 2 sum ||variable - target||^2, the same for every row, (batch,): its gradient is variable - target.

    Gradient descent at a rate of 1 then assigns what an M-step has found; at a lower rate the variables are a moving
    average of what the M-steps of minibatches find.

    Args:
        variables: of a model.
        targets: their new values, one each, the same on every replica; they are held constant.
        like: (batch, ...), of which only the number of rows is read.
        share: of the way that the step goes at a rate of 1.
    """
    pairs = zip(variables, targets, strict=True)
    terms = [ops.sum(ops.square(variable - ops.stop_gradient(target))) for variable, target in pairs]
    return ops.broadcast_to(0.5 * share * sum(terms), (ops.shape(like)[0],))
