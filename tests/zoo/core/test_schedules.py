"""A learning rate that stays, then goes down."""

import keras
import numpy as np
import pytest

from zoo.core.schedules import Delayed
from zoo.training.optimizers import Adam


def rates(schedule, steps):
    return [float(schedule(np.int64(step))) for step in steps]


def test_it_is_constant_and_then_linear_to_zero():
    """CycleGAN, section 4: the same rate for the first 100 epochs, linearly to zero over the next 100."""
    schedule = Adam(2e-4, decay="linear", decay_begins=100, decay_steps=100).make_learning_rate()
    assert rates(schedule, [0, 50, 100]) == pytest.approx([2e-4] * 3)
    assert rates(schedule, [125, 150, 175, 200, 300]) == pytest.approx([1.5e-4, 1e-4, 0.5e-4, 0, 0], abs=1e-10)


def test_a_cosine_can_wait_too():
    schedule = Adam(1.0, decay="cosine", decay_begins=10, decay_steps=20, final_learning_rate=0.2).make_learning_rate()
    assert rates(schedule, [0, 10, 20, 30]) == pytest.approx([1.0, 1.0, 0.6, 0.2])


def test_without_a_delay_the_schedule_is_keras_own():
    assert not isinstance(Adam(decay="linear", decay_steps=5).make_learning_rate(), Delayed)


def test_an_optimizer_with_it_can_be_saved():
    optimizer = Adam(1e-3, decay="linear", decay_begins=3, decay_steps=7, final_learning_rate=1e-4).build()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    steps = range(15)
    assert rates(again._learning_rate, steps) == rates(optimizer._learning_rate, steps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay_begins": 5}, "decay_begins=5 without a decay"),
        ({"decay": "linear", "decay_steps": 5, "decay_begins": -1}, "decay_begins=-1: choose 0 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Adam(**options)
