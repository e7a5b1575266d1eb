"""Learning rates over an optimizer's updates that Keras lacks."""

from typing import Any, Self

import keras
from keras import ops

from zoo.core.types import Tensor


@keras.saving.register_keras_serializable("zoo")
class Delayed(keras.optimizers.schedules.LearningRateSchedule):
    """Another schedule, which begins after some updates at its first rate.

    Args:
        schedule: update -> learning rate.
        delay: updates before it begins.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, delay: int):
        super().__init__()
        self.schedule = schedule
        self.delay = delay

    def __call__(self, step: Tensor) -> Tensor:
        """The learning rate of the update after `step` others."""
        return self.schedule(ops.maximum(step - self.delay, 0))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "delay": self.delay}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The schedule that `get_config` described."""
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["delay"])
