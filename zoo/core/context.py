"""The train step under way on this thread: its random numbers, and the updates made in it so far."""

import threading
from collections import defaultdict

from zoo.core.noise import Draws
from zoo.core.step import Update

_active = threading.local()  # MirroredStrategy traces each replica in a thread of its own


class StepContext:
    """One train step on one replica.

    Args:
        draws: its random numbers.
    """

    def __init__(self, draws: Draws):
        self.draws = draws
        self.draws_claimed = False
        """Whether the train step has asked for its draws."""
        self.updates: defaultdict[str, list[Update]] = defaultdict(list)
        """Player -> what came of its updates so far."""


def activate(draws: Draws) -> StepContext:
    """Make a step with these draws the one under way on this thread."""
    context = _active.context = StepContext(draws)
    return context


def deactivate() -> None:
    """The step is over."""
    _active.context = None


def claim_draws() -> Draws | None:
    """The draws of this thread's step the first time they are asked for; None after that, or where there is no step."""
    context: StepContext | None = getattr(_active, "context", None)
    if context is None or context.draws_claimed:
        return None
    context.draws_claimed = True
    return context.draws


def active() -> StepContext:
    """The train step under way on this thread; layers that need noise (dropout) take it from there.

    Raises:
        RuntimeError: no train step has begun on this thread.
    """
    context: StepContext | None = getattr(_active, "context", None)
    if context is None:
        raise RuntimeError(
            "no train step is under way on this thread: call GenerativeModel.draws(data) before hold, minimize, record "
            "or a layer that draws noise; outside a train step call such a layer with training=False."
        )
    return context
