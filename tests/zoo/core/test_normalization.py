"""Derivatives of normalized values: the second and the third beside differences of the one before, in every form."""

import numpy as np
import pytest
import tensorflow as tf

from zoo.core.normalization import normalize_batch, normalize_rows

EPSILON = 0.1  # large enough to matter
SHAPE = (4, 3, 2, 3)
RANDOM = np.random.default_rng(0)
POINT = [RANDOM.normal(1.0, 2.0, SHAPE), RANDOM.uniform(0.5, 2.0, 3), RANDOM.normal(size=3)]
WEIGHTS = [RANDOM.normal(size=values.shape) for values in POINT]


def by_rows(x, scale, offset):
    return normalize_rows(x, EPSILON) * scale + offset


def by_batch(x, scale, offset):
    return normalize_batch(x, scale, offset, EPSILON).values


def by_keras(x, scale, offset):
    """As `keras.layers.GroupNormalization(groups=1)` has it."""
    mean, variance = tf.nn.moments(x, [1, 2, 3], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, offset, scale, EPSILON)


def total(function, order):
    """(x, scale, offset) -> a number that depends on all first (second, ...) derivatives, of order 0 on the values."""
    if order == 0:
        return lambda *point: tf.reduce_sum(tf.sin(function(*point)))

    def of_gradients(*point):
        below = gradients(total(function, order - 1), point)
        return tf.add_n([tf.reduce_sum(tf.cast(w, g.dtype) * g**2) for w, g in zip(WEIGHTS, below, strict=True)])

    return of_gradients


def gradients(function, point):
    with tf.GradientTape() as tape:
        tape.watch(point)
        value = function(*point)
    return tape.gradient(value, point)


def at(dtype):
    return [tf.constant(values, dtype) for values in POINT]


def errors(function, order):
    """The derivative of `total` along three directions against that of differences: the largest relative error."""
    value, found, step = total(function, order), [], 1e-6
    exact = gradients(value, at("float64"))
    for seed in range(3):
        random = np.random.default_rng(seed)
        ways = [random.normal(size=values.shape) for values in POINT]
        high, low = (
            value(*(tf.constant(x + sign * step * way) for x, way in zip(POINT, ways, strict=True))) for sign in (1, -1)
        )
        expected = float(high - low) / (2 * step)
        along = sum(np.sum(gradient * way) for gradient, way in zip(exact, ways, strict=True))
        found.append(abs(along - expected) / abs(expected))
    return max(found)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("function", [by_rows, by_batch])
def test_derivatives_of_every_order_are_those_of_differences(function, order):
    assert errors(function, order) < 1e-7


def test_moments_that_keep_the_mean_constant_have_right_first_derivatives_and_no_right_others():
    assert errors(by_keras, 0) < 1e-7
    assert errors(by_keras, 1) > 1e-5
    assert errors(by_keras, 2) > 1e-3


# The fused operation is chosen for float32, the sums written out for float64.
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_fused_operation_has_the_same_derivatives(order, compiled):
    function = tf.function(lambda *point: gradients(total(by_batch, order), point), jit_compile=compiled)
    expected = gradients(total(by_batch, order), at("float64"))
    operations = {node.op for node in function.get_concrete_function(*at("float32")).graph.as_graph_def().node}
    assert "FusedBatchNormV3" in operations
    for one, other in zip(function(*at("float32")), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_has_statistics_in_float32(dtype):
    x = tf.cast(POINT[0], dtype)
    normalized = normalize_batch(x, *(tf.constant(values, "float32") for values in POINT[1:]), EPSILON)
    assert [each.dtype.name for each in normalized] == [dtype, "float32", "float32"]
    wide = x.numpy().astype(np.float64)
    np.testing.assert_allclose(normalized.mean, wide.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(normalized.variance, wide.var((0, 1, 2)), rtol=1e-5)
    expected = POINT[1] * (wide - wide.mean((0, 1, 2))) / np.sqrt(wide.var((0, 1, 2)) + EPSILON) + POINT[2]
    np.testing.assert_allclose(normalized.values.numpy().astype(np.float64), expected, rtol=2**-8, atol=2**-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (7, 3)])
def test_one_value_a_channel_has_variance_0_and_rows_of_features_are_normalized_too(dtype, shape):
    x = np.random.default_rng(0).normal(size=shape)
    normalized = normalize_batch(*(tf.constant(each, dtype) for each in (x, *POINT[1:])), EPSILON)
    axes = tuple(range(len(shape) - 1))
    np.testing.assert_allclose(normalized.mean, x.mean(axes), rtol=1e-5)
    np.testing.assert_allclose(normalized.variance, x.var(axes), rtol=1e-5, atol=1e-12)
    expected = POINT[1] * (x - x.mean(axes)) / np.sqrt(x.var(axes) + EPSILON) + POINT[2]
    np.testing.assert_allclose(normalized.values, expected, rtol=1e-4, atol=1e-5)
