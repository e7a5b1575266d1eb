"""The train step under way on this thread: its random numbers, and the updates made in it so far."""

import threading
from collections import defaultdict

from zoo.core.noise import Draws
from zoo.core.step import DeferredState, Gradients
from zoo.core.types import Tensor

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
        self.updates: defaultdict[str, list[Gradients]] = defaultdict(list)
        """Player -> the gradients that it was updated by so far."""
        self.order: list[str] = []
        """The players that were updated so far, one for each update."""
        self.finite_checks: list[Tensor] = []
        """Of all gradients that were computed so far."""
        self.computed: list[tuple[str, list[str]]] = []
        """For each of these the player, and the `order` at that time."""
        self.deferred: DeferredState | None = None
        """Where what layers and metrics assign waits for the end of the step; None where it does not."""


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
