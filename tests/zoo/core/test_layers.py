"""Dropout whose mask belongs to the row, and maxout against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from zoo.core import noise
from zoo.core.layers import Dropout, Maxout


def begin_step(start=0, count=200, step=0):
    rows = tf.range(start, start + count, dtype=tf.int64)
    noise.activate(noise.Draws(0, tf.constant(step, tf.int64), rows))


def dropped(layer, start=0, count=200, step=0):
    begin_step(start, count, step)
    return layer(tf.ones((count, 500)), training=True).numpy()


def test_dropout_is_the_identity_unless_training():
    x = tf.random.stateless_normal((3, 4), (0, 1))
    for training in (False, None):
        np.testing.assert_array_equal(Dropout(0.9)(x, training=training), x)
    np.testing.assert_array_equal(Dropout(0.0)(x, training=True), x)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.75])
def test_dropout_keeps_its_share_and_its_mean(rate):
    values = dropped(Dropout(rate))
    np.testing.assert_allclose(np.unique(values), [0.0, 1 / (1 - rate)], rtol=1e-6)
    # 100,000 coins: standard deviation sqrt(rate (1 - rate) / n); five of them
    assert abs((values > 0).mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / values.size)


def test_dropout_draws_anew_for_every_row_layer_and_step():
    layer = Dropout(0.5)
    first, later = dropped(layer), dropped(layer, step=1)
    begin_step()
    layer(tf.ones((200, 500)), training=True)
    second = layer(tf.ones((200, 500)), training=True).numpy()
    assert len(np.unique(first, axis=0)) == 200
    for other in (later, second):  # agreement by chance: 1/2, standard deviation 1/2 / sqrt(100,000)
        assert abs((first == other).mean() - 0.5) < 5 * 0.5 / np.sqrt(first.size)


def test_dropout_masks_belong_to_the_global_rows(strategy_of):
    layer = Dropout(0.5)
    expected = dropped(layer)
    np.testing.assert_array_equal(np.concatenate([dropped(layer, 0, 77), dropped(layer, 77, 123)]), expected)

    strategy = strategy_of(2)
    starts = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(100 * context.replica_id_in_sync_group, tf.int64)
    )

    @tf.function
    def on_two_replicas():
        def replica(start):
            noise.activate(noise.Draws(0, tf.constant(0, tf.int64), start + tf.range(100, dtype=tf.int64)))
            return layer(tf.ones((100, 500)), training=True)

        return strategy.run(replica, (starts,))

    parts = strategy.experimental_local_results(on_two_replicas())
    np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_dropout_outside_a_train_step_is_an_error():
    with pytest.raises(RuntimeError, match="outside a train step; call it with training=False"):
        Dropout(0.5)(tf.ones((2, 3)), training=True)


def test_no_step_is_under_way_once_it_is_over(probe, fit):
    model = probe(lambda model, x, target: model.improve("inner", lambda: model.inner(x)[:, 0]))
    fit(model, np.ones((4, 1), np.float32), target=np.ones(4))
    with pytest.raises(RuntimeError, match="outside a train step"):
        noise.active()


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_a_dropout_rate_lies_in_0_to_1(rate):
    with pytest.raises(ValueError, match=rf"rate={rate}: a dropout rate lies in \[0, 1\)"):
        Dropout(rate)


def test_maxout_by_hand():
    layer = Maxout(2, 2)
    layer.build((None, 1))
    layer.set_weights([np.array([[1.0, -1.0, 2.0, 0.0]]), np.array([0.0, 0.0, 0.0, 1.0])])
    # x = 3: max(3, -3), max(6, 1).   x = -3: max(-3, 3), max(-6, 1).
    np.testing.assert_allclose(layer(np.array([[3.0], [-3.0]], np.float32)), [[3.0, 6.0], [3.0, 1.0]])


def test_maxout_against_numpy():
    layer = Maxout(units=4, pieces=5)
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    layer.build(x.shape)
    kernel, bias = np.random.default_rng(1).normal(size=(3, 20)), np.random.default_rng(2).normal(size=20)
    layer.set_weights([kernel, bias])
    # Unit u owns columns 5u to 5u + 4.
    expected = [np.max(x @ kernel[:, 5 * u : 5 * u + 5] + bias[5 * u : 5 * u + 5], axis=1) for u in range(4)]
    np.testing.assert_allclose(layer(x), np.stack(expected, axis=1), rtol=1e-5)


@pytest.mark.parametrize(
    "layer", [Dropout(0.3, name="drop"), Maxout(4, 5, "he_normal", name="max")], ids=lambda x: x.name
)
def test_a_config_rebuilds_the_layer(layer):
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert copy.name == layer.name
