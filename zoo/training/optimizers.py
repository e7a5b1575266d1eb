"""Optimizers as frozen data: a Keras optimizer's own numbers, decay of its learning rate, clipping of its gradients.

Importing it needs no TensorFlow.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

CLIPPINGS = ("clipnorm", "global_clipnorm", "clipvalue")
DECAY = ("decay", "decay_begins", "decay_steps", "final_learning_rate")
BELOW_ONE = ("beta_1", "beta_2", "rho", "momentum")


@dataclass(frozen=True)
class Optimizer:
    """What the optimizers share. A subclass builds the class of its own name in `keras.optimizers`.

    The decay counts the updates of this optimizer, not the run's steps: those may change when a run is resumed, and a
    discriminator that is updated k times a train step counts k.

    Raises:
        ValueError: see `__post_init__`.
    """

    learning_rate: float
    """At the start."""
    _: KW_ONLY
    decay: Literal["none", "linear", "cosine"] = "none"
    """How the learning rate goes down to the final one; needs the number of updates it takes."""
    decay_begins: int | None = None
    """Updates of this optimizer at the first learning rate, before the decay begins; by default none."""
    decay_steps: int | None = None
    """Updates from there to the final learning rate; k discriminator steps are k updates a train step."""
    final_learning_rate: float = 0.0
    """Where the decay ends."""
    clipnorm: float | None = None
    """Largest norm of each variable's gradient. At most one of the three ways to clip."""
    global_clipnorm: float | None = None
    """Largest norm of all the player's gradients together."""
    clipvalue: float | None = None
    """Largest size of each number in a gradient."""

    def __post_init__(self) -> None:
        """Refuse what can't be meant.

        Raises:
            ValueError: a rate or bound that is not positive and finite, a factor outside [0, 1), a decay that lacks its
                length or a length without a decay, a final rate above the first, two ways of clipping.
        """
        positive = ("learning_rate", "epsilon", *CLIPPINGS)
        numbers = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        for name in [name for name in positive if name in numbers]:
            if not 0 < numbers[name] < math.inf:
                raise ValueError(f"{name}={numbers[name]}: choose a positive, finite number.")
        for name in [name for name in BELOW_ONE if name in numbers]:
            if not 0 <= numbers[name] < 1:
                raise ValueError(f"{name}={numbers[name]}: choose 0 <= {name} < 1.")
        clippings = [f"{name}={numbers[name]}" for name in CLIPPINGS if name in numbers]
        if len(clippings) > 1:
            raise ValueError(f"{' and '.join(clippings)}: choose one way to clip.")
        self.check_decay()

    def check_decay(self) -> None:
        """The part of `__post_init__` about the three fields of the decay."""
        if self.decay == "none":
            given = {
                "decay_begins": self.decay_begins,
                "decay_steps": self.decay_steps,
                "final_learning_rate": self.final_learning_rate or None,
            }
            for name in [name for name, value in given.items() if value is not None]:
                raise ValueError(f"{name}={given[name]} without a decay: choose decay=linear or decay=cosine, too.")
            return
        if self.decay_steps is None:
            raise ValueError(f"decay={self.decay} needs decay_steps, the updates until the final learning rate.")
        if self.decay_steps < 1:
            raise ValueError(f"decay_steps={self.decay_steps}: choose at least 1.")
        if self.decay_begins is not None and self.decay_begins < 0:
            raise ValueError(f"decay_begins={self.decay_begins}: choose 0 or more.")
        if not 0 <= self.final_learning_rate <= self.learning_rate:
            raise ValueError(
                f"final_learning_rate={self.final_learning_rate}: choose 0 <= final_learning_rate <= learning_rate, "
                f"which is {self.learning_rate}."
            )

    def make_learning_rate(self) -> Any:
        """The learning rate as Keras takes it: a number, or a schedule over this optimizer's updates."""
        if self.decay == "none":
            return self.learning_rate
        from keras.optimizers import schedules

        from zoo.core.schedules import Delayed

        if self.decay == "linear":
            rates = (self.learning_rate, self.decay_steps, self.final_learning_rate)
            schedule = schedules.PolynomialDecay(*rates, power=1.0)
        else:
            share = self.final_learning_rate / self.learning_rate
            schedule = schedules.CosineDecay(self.learning_rate, self.decay_steps, alpha=share)
        return Delayed(schedule, self.decay_begins) if self.decay_begins else schedule

    def corrected_for(self, interval: int) -> "Optimizer":
        """The same speed, of a player that is updated once more in every `interval`-th step, by its penalties alone.

        With c = k / (k + 1): the learning rate times c, every decay of a mean to the power of c, so that k + 1 updates
        go as far, and remember as long, as k did  (lazy regularization: StyleGAN2, arXiv:1912.04958, appendix B).
        """
        share = interval / (interval + 1)
        decays = {name: value**share for name in BELOW_ONE if (value := getattr(self, name, None)) is not None}
        rates = {name: getattr(self, name) * share for name in ("learning_rate", "final_learning_rate")}
        return dataclasses.replace(self, **rates, **decays)

    def build(self) -> Any:
        """A fresh Keras optimizer."""
        import keras

        arguments = {name: value for name, value in dataclasses.asdict(self).items() if name not in DECAY}
        arguments["learning_rate"] = self.make_learning_rate()
        return getattr(keras.optimizers, type(self).__name__)(**arguments)


@dataclass(frozen=True)
class Adam(Optimizer):
    """keras.optimizers.Adam (arXiv:1412.6980)."""

    learning_rate: float = 2e-4
    beta_1: float = 0.5
    """Decay of the mean of the gradients."""
    beta_2: float = 0.999
    """Decay of the mean of their squares."""
    epsilon: float = 1e-7
    """Added to the root of that mean."""


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """keras.optimizers.RMSprop, the choice of WGAN (arXiv:1701.07875)."""

    learning_rate: float = 1e-3
    rho: float = 0.9
    """Decay of the mean of the gradients' squares."""
    momentum: float = 0.0
    """Share of the last update in the next."""
    epsilon: float = 1e-7
    """Added under the root of that mean."""
    centered: bool = False
    """Divide by the standard deviation of the gradients instead of the root of their mean square."""


@dataclass(frozen=True)
class SGD(Optimizer):
    """keras.optimizers.SGD: plain gradient descent, with momentum if wanted."""

    learning_rate: float = 1e-2
    momentum: float = 0.0
    """Share of the last update in the next."""
    nesterov: bool = False
    """Take the gradient where the momentum leads."""


def build_optimizers(choices: Mapping[str, Optimizer], lazy_intervals: Mapping[str, int]) -> dict[str, Any]:
    """Player -> a fresh Keras optimizer, corrected for the player's updates by lazy penalties.

    Args:
        choices: the optimizer of each player.
        lazy_intervals: of `zoo.core.model.GenerativeModel`.
    """
    return {
        player: (choice.corrected_for(lazy_intervals[player]) if player in lazy_intervals else choice).build()
        for player, choice in choices.items()
    }
