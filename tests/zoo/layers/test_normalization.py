"""Batch norm, layer norm and instance norm beside Keras' own, and batch norm on several replicas."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from zoo.core import replicas
from zoo.core.precision import computing_in
from zoo.layers.normalization import BatchNorm, InstanceNorm, LayerNorm

RANDOM = np.random.default_rng(0)
SHAPE = (5, 4, 6, 3)
MAPS = RANDOM.normal(0.5, 2.0, SHAPE) * [1.0, 3.0, 0.1]
GIVEN = RANDOM.normal(size=SHAPE)
SCALE, SHIFT, MEANS, VARIANCES = RANDOM.uniform(0.5, 2.0, (4, 3))
OURS = {"batch": lambda: BatchNorm(0.9, 1e-5, name="norm"), "layer": lambda: LayerNorm(1e-5, name="norm")}
KERAS = {
    "batch": lambda: keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="norm"),
    "layer": lambda: keras.layers.GroupNormalization(groups=1, epsilon=1e-5, name="norm"),
}


def built(make, weights=(SCALE, SHIFT, MEANS, VARIANCES), shape=SHAPE):
    layer = make()
    layer.build((None, *shape[1:]))
    layer.set_weights(list(weights)[: len(layer.weights)])
    return layer


def first_order(layer, x, given, training=True):
    """Values, their gradients by x, gamma and beta, and the weights afterwards."""
    x, given = (ops.cast(ops.convert_to_tensor(values), layer.compute_dtype) for values in (x, given))
    variables = [variable.value for variable in layer.trainable_variables]
    options = {"training": training} if len(layer.weights) == 4 else {}  # batch norm
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = layer(x, **options)
    gradients = tape.gradient(values, [x, *variables], given)
    return [np.asarray(ops.cast(each, "float64")) for each in (values, *gradients, *layer.weights)]


# float32: sums of 120 numbers. bfloat16 has 8 bits: half a unit in the last place of numbers beyond 4 is 2^-6.
@pytest.mark.parametrize(
    ("policy", "tolerance"), [("float32", 1e-5), ("float64", 1e-12), ("mixed_bfloat16", 2e-2), ("mixed_float16", 3e-3)]
)
@pytest.mark.parametrize("kind", OURS)
def test_values_gradients_and_moving_statistics_are_keras_own(kind, policy, tolerance):
    found, expected = [], []
    with computing_in(policy):
        for make, outcome in ((OURS[kind], found), (KERAS[kind], expected)):
            outcome += first_order(built(make), MAPS, GIVEN)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())
    # Statistics, and so the weights, are in full precision in any case.
    for one, other in zip(found[4:], expected[4:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "float64", "mixed_bfloat16", "mixed_float16"])
def test_batch_norm_at_inference_is_keras_own_to_the_bit(policy):
    with computing_in(policy):
        found, expected = (first_order(built(make["batch"]), MAPS, GIVEN, training=False) for make in (OURS, KERAS))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", OURS)
def test_weights_have_keras_own_names_and_order(kind):
    def names(make):
        return [(v.path, v.name, v.shape, v.trainable, v.dtype) for v in built(make).weights]

    with computing_in("mixed_bfloat16"):
        assert names(OURS[kind]) == names(KERAS[kind])


def test_without_gamma_and_beta_there_are_moving_statistics_alone():
    bare = built(lambda: BatchNorm(0.9, 1e-5, center=False, scale=False), [np.zeros(3), np.ones(3)])
    assert [variable.name for variable in bare.weights] == ["moving_mean", "moving_variance"]
    expected = (MAPS - MAPS.mean((0, 1, 2))) / np.sqrt(MAPS.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(bare(MAPS, training=True), expected, rtol=1e-4, atol=1e-5)


def test_a_frozen_batch_norm_uses_and_keeps_its_moving_statistics():
    layer = built(OURS["batch"])
    expected = layer(MAPS, training=False)
    layer.trainable = False
    np.testing.assert_array_equal(layer(MAPS, training=True), expected)
    np.testing.assert_array_equal(layer.moving_mean, MEANS.astype(np.float32))


@pytest.mark.parametrize("kind", OURS)
def test_a_network_with_either_is_read_back_from_its_configuration(kind):
    inputs = keras.Input(SHAPE[1:])
    network = keras.Model(inputs, OURS[kind]()(inputs))
    copy = keras.Model.from_config(network.get_config())
    copy.set_weights(network.get_weights())
    np.testing.assert_array_equal(copy(MAPS), network(MAPS))
    assert copy.get_layer("norm").get_config() == network.get_layer("norm").get_config()


@pytest.mark.parametrize(
    ("policy", "tolerance"), [("float32", 1e-5), ("float64", 1e-12), ("mixed_bfloat16", 2e-2), ("mixed_float16", 3e-3)]
)
def test_instance_norm_is_keras_group_norm_of_single_channels(policy, tolerance):
    with computing_in(policy):
        layers = (InstanceNorm(), keras.layers.GroupNormalization(-1, epsilon=1e-5, center=False, scale=False))
        found, expected = (first_order(built(lambda each=each: each, []), MAPS, GIVEN) for each in layers)
    assert layers[0].weights == []
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())
    assert InstanceNorm.from_config(InstanceNorm(1e-3).get_config()).epsilon == 1e-3


def test_instance_norm_of_a_constant_is_zero():
    assert np.abs(InstanceNorm()(np.full((2, 1, 1, 3), 5.0))).max() == 0.0


# Several replicas


def on_replicas(strategy, rows, dtype, maps=MAPS, given=GIVEN):
    """What `first_order` gives of the global batch, with each replica's own rows in one piece."""
    with strategy.scope(), computing_in(dtype):
        layer = built(OURS["batch"])
    count = strategy.num_replicas_in_sync
    places = np.split(np.arange(len(maps)), np.cumsum(rows)[:-1])

    def share(values):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(values[places[context.replica_id_in_sync_group]], dtype)
        )

    def run(x, given):
        with tf.GradientTape() as tape:
            tape.watch(x)
            values = layer(x, training=True)
        variables = [variable.value for variable in layer.trainable_variables]
        by_x, *by_weights = tape.gradient(values, [x, *variables], given)
        return values, by_x, *replicas.sum_over_replicas(by_weights)

    outcome = tf.function(lambda *shares: strategy.run(run, shares))(share(maps), share(given))
    parts = [strategy.experimental_local_results(each) for each in outcome]
    joined = [np.concatenate(each) for each in parts[:2]] + [each[0].numpy() for each in parts[2:]]
    assert len(parts[0]) == count
    return [*joined, *(np.asarray(weight) for weight in layer.weights)]


@pytest.mark.parametrize("rows", [(3, 2), (1, 1, 1, 2)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_several_replicas_normalize_the_global_batch(rows, dtype, tolerance, strategy_of):
    expected = on_replicas(strategy_of(1), (5,), dtype)
    found = on_replicas(strategy_of(len(rows)), rows, dtype)
    assert len(found) == 8
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize("rows", [(16,), (8, 8), (13, 3)])
def test_nothing_cancels_where_the_mean_is_a_thousand_deviations(rows, strategy_of):
    maps = (np.random.default_rng(1).normal(size=(16, 8, 8, 3)) + 1e3).astype(np.float32)
    wide = maps.astype(np.float64)
    values, *_, mean, variance = on_replicas(strategy_of(len(rows)), rows, "float32", maps, maps)
    expected = SCALE * (wide - wide.mean((0, 1, 2))) / np.sqrt(wide.var((0, 1, 2)) + 1e-5) + SHIFT
    # A float32 near 1,000 is known to 3e-5; a mean of squares less a squared mean would be wrong by 0.1.
    np.testing.assert_allclose(values, expected, atol=2e-3)
    np.testing.assert_allclose(variance, 0.9 * VARIANCES + 0.1 * wide.var((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(mean, 0.9 * MEANS + 0.1 * wide.mean((0, 1, 2)), rtol=1e-6)
