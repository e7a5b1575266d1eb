"""The schedule of growth against a list written by hand."""

import pytest
import tensorflow as tf

from zoo.core.growth import GrowthSchedule, Stage

# 3 steps of level 0; then 2 that fade level 1 in and 3 with it; then 2 that fade level 2 in, and the rest.
SCHEDULE = GrowthSchedule(levels=2, fade_steps=2, stable_steps=3)
BY_HAND = [
    *[(0, False, 0.0)] * 3,
    *[(1, True, 0.0), (1, True, 0.5), (1, False, 1.0), (1, False, 1.0), (1, False, 1.0)],
    *[(2, True, 1.0), (2, True, 1.5), *[(2, False, 2.0)] * 90],
]


def test_each_step_has_its_stage_and_its_share():
    for step, (level, fading, progress) in enumerate(BY_HAND):
        stage = SCHEDULE.stage(step)
        assert stage == Stage(level, fading), step
        assert float(SCHEDULE.progress(stage, tf.constant(step, tf.int64))) == progress, step


def test_a_level_begins_where_its_fade_does():
    assert [step for step in range(100) if SCHEDULE.begins(step)] == [3, 8]


def test_without_levels_nothing_grows():
    schedule = GrowthSchedule(levels=0, fade_steps=2, stable_steps=3)
    assert {schedule.stage(step) for step in range(50)} == {Stage(0, False)}
    assert not any(schedule.begins(step) for step in range(50))


@pytest.mark.parametrize("steps", [{"fade_steps": 0}, {"stable_steps": 0}])
def test_a_stage_takes_a_step(steps):
    with pytest.raises(ValueError, match=next(iter(steps))):
        GrowthSchedule(**{"levels": 2, "fade_steps": 2, "stable_steps": 3, **steps})
