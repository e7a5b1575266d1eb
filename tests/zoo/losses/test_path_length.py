"""Path lengths against a Jacobian computed in full, and the moving average by hand."""

import numpy as np
import pytest
import tensorflow as tf

from zoo.losses.path_length import PathLength, path_lengths

ROWS, LAYERS, STYLES = 3, 2, 4


@pytest.fixture(scope="module")
def arrays():
    random = np.random.default_rng(0)
    weights = random.normal(size=(LAYERS * STYLES, 5 * 6 * 2)).astype(np.float64)
    return weights, random.normal(size=(ROWS, LAYERS, STYLES)), random.normal(size=(ROWS, 5, 6, 2))


def make_synthesis(weights):
    def synthesize(styles):
        flat = tf.reshape(styles, (-1, LAYERS * STYLES))
        return tf.reshape(tf.tanh(flat @ weights), (-1, 5, 6, 2))

    return synthesize


def test_a_length_is_that_of_the_full_jacobian_times_the_noise(arrays):
    weights, styles, noise = arrays
    found = path_lengths(make_synthesis(weights), tf.constant(styles), tf.constant(noise)).numpy()
    for row in range(ROWS):
        flat = styles[row].ravel()
        jacobian = weights * (1 - np.tanh(flat @ weights) ** 2)  # (styles, pixels): d tanh(u) = 1 - tanh(u)^2
        product = (jacobian @ noise[row].ravel() / 30**0.5).reshape(LAYERS, STYLES)  # 5 x 6 pixels
        assert found[row] == pytest.approx(np.sqrt((product**2).sum(axis=1).mean()), rel=1e-10)


def test_the_penalty_can_be_minimized(arrays):
    """Its gradient by the weights, a second derivative, against differences in float64."""
    weights, styles, noise = arrays

    def total(values):
        lengths = path_lengths(make_synthesis(values), tf.constant(styles), tf.constant(noise))
        return tf.reduce_sum(tf.square(lengths - 0.5))

    variable = tf.constant(weights)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = total(variable)
    gradient = tape.gradient(value, variable).numpy()
    direction = np.random.default_rng(1).normal(size=weights.shape)
    step = 1e-6
    difference = (total(weights + step * direction) - total(weights - step * direction)).numpy() / (2 * step)
    assert (gradient * direction).sum() == pytest.approx(difference, rel=1e-6)


def test_the_average_is_the_plain_mean_at_first_then_follows_by_a_hundredth():
    path = PathLength()
    np.testing.assert_allclose(path.penalty(tf.constant([1.0, 3.0])), [1.0, 1.0], rtol=1e-6)  # a = 2
    np.testing.assert_allclose(path.penalty(tf.constant([5.0])), [2.25], rtol=1e-6)  # a = (2 + 5) / 2
    path.batches.assign(1_000.0)
    np.testing.assert_allclose(path.penalty(tf.constant([13.5])), [9.9**2], rtol=1e-6)  # a = 3.5 + 0.01 (13.5 - 3.5)
    assert float(path.mean) == pytest.approx(3.6)
