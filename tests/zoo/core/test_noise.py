"""Training noise: a replica's rows are the global draw's rows, and no two draws share numbers."""

import threading

import numpy as np
import pytest
import tensorflow as tf

from zoo.core import context, noise

ROWS = 23
SPLITS = [(23,), (12, 11), (6, 6, 6, 5), (1, 22), (5, 18), (3,) * 7 + (2,)]
SHAPES = [(), (1,), (3,), (4,), (5,), (2, 3), (4, 4, 3)]  # 1, 3, 5, 6 values a row are no multiples of Philox' four
KINDS = {
    "normal": lambda draws, shape: draws.normal(*shape),
    "uniform": lambda draws, shape: draws.uniform(*shape, low=-1.0, high=1.0),
}


def draws(seed=0, step=0, start=0, count=ROWS):
    return noise.Draws(seed, tf.constant(step, tf.int64), tf.range(start, start + count, dtype=tf.int64))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_replica_draws_exactly_its_slice_of_the_global_batch(kind, shape):
    draw = KINDS[kind]
    full = draws(seed=7, step=5)
    expected = [draw(full, shape).numpy() for _ in range(2)]
    assert expected[0].shape == (ROWS, *shape)
    for split in SPLITS:
        assert sum(split) == ROWS
        starts = np.cumsum((0, *split[:-1]))
        parts = [draws(7, 5, start, count) for start, count in zip(starts, split, strict=True)]
        for number in range(2):
            gathered = np.concatenate([draw(part, shape).numpy() for part in parts])
            np.testing.assert_array_equal(gathered, expected[number], err_msg=f"split {split}, draw {number}")


@pytest.fixture(scope="module")
def streams():
    """2,000 rows of 8 numbers of neighboring seeds and steps, three draws each: (stream, draw) -> values."""
    places = [(0, 0), (1, 0), (2**63 - 1, 0), (0, 1), (0, 2), (1, 1), (0, 10**9)]
    found = {}
    for seed, step in places:
        source = draws(seed, step, count=2000)
        for number in range(3):
            found[seed, step, number] = source.uniform(8).numpy()
    return found


def test_no_two_draws_share_numbers(streams):
    """Philox gives groups of four: were two counters ever equal, a whole group of 4 would come twice."""
    groups = np.concatenate([values.reshape(-1, 4) for values in streams.values()])
    assert len(np.unique(groups, axis=0)) == len(groups) == 7 * 3 * 4000


def test_draws_are_not_correlated(streams):
    flat = np.stack([values.ravel() for values in streams.values()])
    correlation = np.corrcoef(flat) - np.eye(len(flat))
    # 16,000 pairs: standard deviation 1/sqrt(16,000) = 0.0079. 210 pairs: five of them are never exceeded by chance.
    assert np.abs(correlation).max() < 5 / np.sqrt(flat.shape[1])
    rows = np.corrcoef(next(iter(streams.values())), rowvar=False) - np.eye(8)
    assert np.abs(rows).max() < 5 / np.sqrt(2000)


def test_normal_moments():
    values = draws(3, count=50_000).normal(4).numpy()  # n = 200,000
    # Standard deviations of the estimates: 1/sqrt(n), sqrt(2/n), sqrt(15/n), sqrt(96/n); five of each.
    moments = [np.mean(values**power, dtype=np.float64) for power in (1, 2, 3, 4)]
    spread = np.sqrt(np.array([1, 2, 15, 96]) / values.size)
    assert (np.abs(np.array(moments) - [0, 1, 0, 3]) < 5 * spread).all(), moments
    assert values.dtype == np.float32


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 5.0)])
def test_uniform_moments_and_range(low, high):
    values = draws(3, count=50_000).uniform(4, low=low, high=high).numpy()
    width = high - low
    assert low <= values.min() < low + 1e-3 * width
    assert high - 1e-3 * width < values.max() < high
    deviation = width / np.sqrt(12)
    assert abs(values.mean(dtype=np.float64) - (low + high) / 2) < 5 * deviation / np.sqrt(values.size)
    assert values.var(dtype=np.float64) == pytest.approx(deviation**2, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_numbers_compiled_eager_and_on_another_device(kind):
    def two(step, rows):
        source = noise.Draws(11, step, rows)
        return tf.stack([KINDS[kind](source, (5,)), KINDS[kind](source, (5,))])

    place = tf.constant(3, tf.int64), tf.range(4, 15, dtype=tf.int64)
    eager = two(*place).numpy()
    np.testing.assert_array_equal(tf.function(two)(*place), eager)
    with tf.device("CPU:1"):
        np.testing.assert_array_equal(two(*place), eager)
    assert not np.array_equal(eager[0], eager[1])  # two draws in one step


def test_a_step_has_room_for_so_many_draws_only(monkeypatch):
    """One more would be the next step's first."""
    monkeypatch.setattr(noise, "DRAWS_PER_STEP", 2)
    source = draws()
    source.normal(1), source.normal(1)
    with pytest.raises(ValueError, match="more than 2 draws"):
        source.normal(1)


def test_the_step_under_way_is_each_threads_own():
    own = draws()
    context.activate(own)
    assert context.active().draws is own
    errors = []

    def other_replica():
        try:
            context.active()
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=other_replica)
    thread.start()
    thread.join()
    assert len(errors) == 1
    assert "outside a train step" in errors[0]


def test_a_number_of_the_step_is_the_same_for_all_rows_and_a_draw_of_its_own():
    whole, part = draws(7, 5), draws(7, 5, start=12, count=11)
    first, second = float(whole.of_the_step()), float(whole.of_the_step())
    assert [float(part.of_the_step()), float(part.of_the_step())] == [first, second]
    assert first != second
    assert float(draws(7, 6).of_the_step()) != first
    np.testing.assert_array_equal(part.normal(3), whole.normal(3)[12:])  # the rows are its own again
    several = draws(7, 5).of_the_step(2, 3).numpy()
    np.testing.assert_array_equal(draws(7, 5, start=12, count=11).of_the_step(2, 3), several)
    assert (several.shape, len(np.unique(several)), several[0, 0]) == ((2, 3), 6, np.float32(first))
    numbers = [float(draws(step=step).of_the_step()) for step in range(400)]
    assert 0.0 <= min(numbers) < 0.02
    assert 0.98 < max(numbers) < 1.0
    assert abs(np.mean(numbers) - 0.5) < 5 * 12**-0.5 / 20  # five standard errors of a mean of 400
