"""How a network grows, a level at a time from its lowest resolution (Progressive GAN, arXiv:1710.10196, section 3)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import keras
from keras import ops

from zoo.core.arguments import check_counts
from zoo.core.types import Tensor


class Stage(NamedTuple):
    """How far the networks have grown, as `GenerativeModel.plan_of` wants it.

    Args:
        level: 0 for the lowest resolution, one more for each doubling.
        fading: whether the level's resolution is being faded in.
    """

    level: int
    fading: bool


@dataclass(frozen=True)
class GrowthSchedule:
    """The lowest resolution for `stable_steps`; then each next one for `fade_steps`, fading in, and `stable_steps`.

    The highest is trained to the run's end.

    Args:
        levels: resolutions above the lowest, from 0.
        fade_steps: train steps in which one fades in, its share rising linearly from 0.
        stable_steps: train steps before the next one.

    Raises:
        ValueError: a number of steps below 1.
    """

    levels: int
    fade_steps: int
    stable_steps: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_counts(fade_steps=self.fade_steps, stable_steps=self.stable_steps)

    def stage(self, step: int) -> Stage:
        """That of a step, given by the number of steps done before it."""
        period = self.fade_steps + self.stable_steps
        level = min((step + self.fade_steps) // period, self.levels)
        return Stage(level, level > 0 and step < self.start(level) + self.fade_steps)

    def start(self, level: int) -> int:
        """The step at which a level begins to fade in; 0 for level 0."""
        return level * (self.fade_steps + self.stable_steps) - self.fade_steps if level else 0

    def begins(self, step: int) -> bool:
        """Whether a level above the lowest begins with this step."""
        level, fading = self.stage(step)
        return fading and step == self.start(level)

    def progress(self, stage: Stage, step: Tensor) -> Tensor:
        """What the weight of `zoo.layers.growth.Growth` is at a step of a stage, a float32 scalar.

        Args:
            stage: of the step.
            step: the number of steps done, a scalar.
        """
        if not stage.fading:
            return ops.convert_to_tensor(float(stage.level), "float32")
        faded = ops.cast(step - self.start(stage.level), "float32") / self.fade_steps
        return stage.level - 1 + faded


def stage_of(growth: float) -> Stage:
    """That of a network that has grown so far: between two levels the upper one is fading in."""
    level = math.ceil(growth)
    return Stage(level, fading=growth != level)


def read_growth(network: keras.Model) -> float:
    """How far a growing network has grown, by the weight of its layer "growth"."""
    return float(network.get_layer("growth").level.numpy())


def set_growth(networks: Iterable[keras.Model], level: Tensor) -> None:
    """Tell growing networks how far they have grown: their layers "growth" take the level."""
    for network in networks:
        network.get_layer("growth").level.assign(level)
