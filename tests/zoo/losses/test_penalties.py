"""Penalties on critics whose slope is known, their own gradients by differences, optima in one dimension; averages;
contraction against Jacobians found otherwise.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from zoo.core.precision import computing_in
from zoo.core.step import input_gradient
from zoo.losses.penalties import contraction, distance_to_average, dragan, gradient_penalty, zero_centered_penalty
from zoo.networks import coders

RANDOM = np.random.default_rng(0)
REAL, FAKE = RANDOM.normal(0.0, 1.0, (2, 4, 3))
MIX = np.array([0.0, 0.3, 0.9, 1.0])


def penalty_of(critic, real=REAL, fake=FAKE, mix=MIX):
    return gradient_penalty(critic, *map(ops.convert_to_tensor, (real, fake, mix)))


def test_a_linear_critics_slope_is_its_weight_wherever_it_is_taken():
    # D(x) = 3 x_1 + 4 x_2: |w| = 5 -> (5 - 1)^2 = 16; a tenth of it: (0.5 - 1)^2 = 0.25; a fifth is 1-Lipschitz: 0.
    for scale, expected in ((1.0, 16.0), (0.1, 0.25), (0.2, 0.0)):
        weight = ops.convert_to_tensor(scale * np.array([[3.0], [4.0], [0.0]]))
        for mix in (MIX, 1 - MIX):
            found = penalty_of(lambda x, weight=weight: ops.matmul(x, weight), mix=mix)
            np.testing.assert_allclose(found, 4 * [expected], atol=1e-12)


def test_a_quadratic_critics_slope_is_that_between_the_two_rows():
    # D(x) = 1/2 |x|^2, gradient x. x = (0, 0), G(z) = (6, 8):
    # mix 0 -> |x_hat| = 0 -> 1;  1/4 -> (1.5, 2), 2.5 -> 2.25;  1/2 -> (3, 4), 5 -> 16;  1 -> 10 -> 81.
    fake = np.tile([6.0, 8.0], (4, 1))
    found = penalty_of(lambda x: 0.5 * ops.sum(x * x, axis=1), 0 * fake, fake, np.array([0.0, 0.25, 0.5, 1.0]))
    np.testing.assert_allclose(found, [1.0, 2.25, 16.0, 81.0])


def test_images_have_one_slope_a_row_over_all_of_their_values():
    # D(x) = sum of x^2 / 2 over 2 x 2 x 1 pixels. x_hat: 1/2 of 4 = 2 everywhere -> |grad| = 4 -> 9; 1 -> 2 -> 1.
    fake = np.stack([np.full((2, 2, 1), 4.0), np.full((2, 2, 1), 2.0)])
    found = penalty_of(lambda x: 0.5 * ops.sum(x * x, axis=(1, 2, 3)), 0 * fake, fake, np.array([0.5, 0.5]))
    np.testing.assert_allclose(found, [9.0, 1.0])


def test_a_map_of_scores_is_averaged_within_its_row():
    # Two scores a row, 3 x_1 and 5 x_1: the mean's slope is 4 -> 9.
    found = penalty_of(lambda x: ops.stack([3.0 * x[:, :1], 5.0 * x[:, :1]], axis=1))
    np.testing.assert_allclose(found, 4 * [9.0])


def test_each_rows_penalty_is_its_own():
    def critic(x):
        return ops.sum(x * x * x, axis=1)

    together = penalty_of(critic)
    alone = [penalty_of(critic, REAL[[row]], FAKE[[row]], MIX[[row]])[0] for row in range(4)]
    np.testing.assert_array_equal(together, alone)
    assert len(set(np.round(together, 6))) == 4


SIZES = (3, 5)  # D(x) = tanh(x A) b


def critic_of(weights):
    """The critic with these 20 weights, (1, 20)."""
    inputs, hidden = SIZES
    first = ops.reshape(weights[0, : inputs * hidden], SIZES)
    second = ops.reshape(weights[0, inputs * hidden :], (hidden, 1))
    return lambda x: ops.matmul(ops.tanh(ops.matmul(x, first)), second)


def test_the_gradient_by_the_critics_weights_is_that_of_differences():
    weights = RANDOM.normal(0.0, 1.0, (1, 20))

    def total(values):
        return ops.sum(penalty_of(critic_of(values)))

    found = ops.convert_to_numpy(input_gradient(total, ops.convert_to_tensor(weights)))[0]
    step = 1e-5
    expected = [
        float(total(ops.convert_to_tensor(weights + step * one)) - total(ops.convert_to_tensor(weights - step * one)))
        / (2 * step)
        for one in np.eye(20)
    ]
    assert np.abs(expected).min() > 1e-3  # every weight matters
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_flat_critic_is_penalised_and_its_gradient_is_finite(dtype):
    flat = ops.zeros((3, 1), dtype)
    sides = [values.astype(dtype) for values in (REAL, FAKE)]

    def total(weight):
        return penalty_of(lambda x: ops.matmul(x, weight), *sides)

    np.testing.assert_array_equal(total(flat), np.ones(4, dtype))  # (0 - 1)^2
    np.testing.assert_array_equal(input_gradient(total, flat), np.zeros((3, 1), dtype))


@pytest.mark.parametrize("strength", [0.5, 10.0])
def test_between_two_point_masses_the_penalised_optimum_is_known(strength):
    """ImageSet at d, samples at 0, D(x) = w x: -w d + lambda (w - 1)^2 is least at w = 1 + d / (2 lambda)."""
    distance = 3.0
    real, fake, mix = np.full((4, 1), distance), np.zeros((4, 1)), MIX

    def rows(weight):
        def critic(x):
            return x * weight

        return -critic(ops.convert_to_tensor(real))[:, 0] + strength * penalty_of(critic, real, fake, mix)

    points = 1.0 + distance / (2.0 * strength) + np.array([-0.5, 0.0, 0.5])[:, None, None]
    slopes = [float(input_gradient(rows, ops.convert_to_tensor(at))[0, 0]) for at in points]
    # 4 rows, each with second derivative 2 lambda.
    np.testing.assert_allclose(slopes, [-4 * strength, 0.0, 4 * strength], atol=1e-12)


# R1, R2 and DRAGAN

NOISE = RANDOM.uniform(0.0, 1.0, REAL.shape)


def linear_critic(weight):
    weight = ops.convert_to_tensor(np.reshape(weight, (-1, 1)))
    return lambda x: ops.matmul(x, weight)


def half_square(x):
    """1/2 |x|^2, of slope x."""
    return 0.5 * ops.sum(x * x, axis=tuple(range(1, len(x.shape))))


def test_the_zero_centered_penalty_of_a_linear_critic_is_its_squared_weight():
    found = zero_centered_penalty(linear_critic([3.0, 4.0, 0.0]), ops.convert_to_tensor(REAL))
    np.testing.assert_allclose(found, 4 * [25.0])


def test_the_zero_centered_penalty_of_a_quadratic_critic_is_the_squared_distance():
    found = zero_centered_penalty(half_square, ops.convert_to_tensor(REAL))
    np.testing.assert_allclose(found, np.sum(REAL**2, axis=1), rtol=1e-12)
    # An image of 2 x 2 pixels at 3 everywhere: 4 * 3^2. Two scores a row of slopes 3 and 5: the mean's, 4 -> 16.
    np.testing.assert_allclose(zero_centered_penalty(half_square, ops.full((1, 2, 2, 1), 3.0)), [36.0])
    maps = zero_centered_penalty(
        lambda x: ops.stack([3.0 * x[:, :1], 5.0 * x[:, :1]], axis=1), ops.convert_to_tensor(REAL)
    )
    np.testing.assert_allclose(maps, 4 * [16.0])


def test_dragan_of_a_linear_critic_is_that_of_its_weight_whatever_the_noise():
    for weight, expected in (([3.0, 4.0, 0.0], 16.0), ([0.6, 0.8, 0.0], 0.0), ([0.0, 0.0, 0.0], 1.0)):
        found = dragan(linear_critic(weight), ops.convert_to_tensor(REAL), ops.convert_to_tensor(NOISE))
        np.testing.assert_allclose(found, 4 * [expected], atol=1e-12)


def test_dragan_takes_the_slope_half_a_deviation_times_the_noise_away():
    # x = (0, 0) and (4, 4): mean 2, standard deviation 2, so delta = u.  D = 1/2 |x|^2 has slope x + delta.
    # u = (0.6, 0.8): 1 -> 0;  u = (1/2, -1): (4.5, 3), length sqrt(29.25).
    real, noise = np.array([[0.0, 0.0], [4.0, 4.0]]), np.array([[0.6, 0.8], [0.5, -1.0]])
    found = dragan(half_square, *map(ops.convert_to_tensor, (real, noise)))
    np.testing.assert_allclose(found, [0.0, (np.sqrt(29.25) - 1) ** 2], atol=1e-12)
    # Twice the strength: delta = 2 u, lengths 2 and sqrt(5^2 + 2^2).
    found = dragan(half_square, *map(ops.convert_to_tensor, (real, noise)), strength=1.0)
    np.testing.assert_allclose(found, [1.0, (np.sqrt(29) - 1) ** 2])


@pytest.mark.parametrize("penalty", ["zero_centered_penalty", "dragan"])
def test_the_gradients_of_both_by_the_critics_weights_are_those_of_differences(penalty):
    weights = RANDOM.normal(0.0, 1.0, (1, 20))
    real, noise = map(ops.convert_to_tensor, (REAL, NOISE))

    def rows(values):
        critic = critic_of(values)
        return (
            zero_centered_penalty(critic, real) if penalty == "zero_centered_penalty" else dragan(critic, real, noise)
        )

    found = ops.convert_to_numpy(input_gradient(rows, ops.convert_to_tensor(weights)))[0]
    step = 1e-5
    ways = [step * one for one in np.eye(20)]
    totals = [[float(ops.sum(rows(ops.convert_to_tensor(weights + sign * way)))) for sign in (1, -1)] for way in ways]
    expected = [(high - low) / (2 * step) for high, low in totals]
    assert np.abs(expected).min() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_dragans_deviation_is_that_of_the_global_batch(probe, fit, replicas):
    """D(x) = (w x)^2 / 2, of slope w^2 x: a row's penalty is (w^2 |x + std u / 2| - 1)^2. SGD at rate 1 moves w."""
    x = np.arange(1.0, 8.0)[:, None]  # 1 to 7: mean 4, variance 28 / 7 = 4, std 2, so that delta = u
    u = np.linspace(0.0, 0.9, 7)[:, None]

    def algorithm(model, images, noise):
        return model.minimize("inner", lambda: dragan(lambda x: ops.square(model.inner(x)) / 2, images, noise))

    model = probe(algorithm, replicas, inner=[[0.7]])
    history = fit(model, x.astype(np.float32), target=u.astype(np.float32))
    excess = 0.49 * (x + u) - 1
    assert history["loss"] == [pytest.approx(np.mean(excess**2), rel=1e-5)]
    # d/dw (w^2 s - 1)^2 = 4 w s (w^2 s - 1)
    slope = np.mean(4 * 0.7 * (x + u) * excess)
    assert float(model.inner.weights[0][0, 0]) == pytest.approx(0.7 - slope, rel=1e-5)


# Historical averaging


def test_the_distance_to_an_average_by_hand():
    values = [np.array([[1.0, 2.0]]), np.array([3.0])]
    averages = [np.array([[0.0, 4.0]]), np.array([3.5])]
    values, averages = ([ops.convert_to_tensor(value) for value in side] for side in (values, averages))
    assert float(distance_to_average(values, averages)) == 5.25  # 1^2 + 2^2 + 0.5^2
    assert input_gradient(lambda average: distance_to_average(values[:1], [average]), averages[0]) is None
    with pytest.raises(ValueError, match="shorter"):
        distance_to_average(values, averages[:1])


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_distance_to_an_average_enters_the_mean_over_the_rows_once(probe, fit, replicas):
    # Rows 1, 2 and 4 and w = 3: mean loss w x = 7, plus (3 - 1)^2 = 4. Gradient 7/3 + 2 (3 - 1); the average stays.
    def algorithm(model, x, target):
        def loss():
            weights = model.inner.trainable_variables
            return model.inner(x)[:, 0] + distance_to_average(weights, model.outer.trainable_variables)

        return model.minimize("inner", loss)

    model = probe(algorithm, replicas, inner=[[3.0]], outer=[[1.0]])
    x = np.array([[1.0], [2.0], [4.0]], np.float32)
    assert fit(model, x, target=x)["loss"] == [pytest.approx(11.0)]
    assert float(model.inner.weights[0][0, 0]) == pytest.approx(3 - 7 / 3 - 4, rel=1e-5)
    assert float(model.outer.weights[0][0, 0]) == 1.0


# Contraction

IMAGES = RANDOM.uniform(-1.0, 1.0, (3, 4, 8, 2))
CODERS = {
    "one layer": {"hidden": (), "head_activation": "sigmoid"},
    "dense": {"hidden": (7, 6), "activation": "tanh"},
    "convolutional": {"architecture": "convolutional", "hidden": (3, 4), "activation": "softplus"},
}


def encoder_of(name):
    """In float64, its weights large enough that no unit is linear."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        with computing_in("float64"):
            network = coders.encoder((4, 8, 2), {"code": 5}, **CODERS[name])
    finally:
        keras.config.set_floatx(before)
    random = np.random.default_rng(7)
    network.set_weights([random.normal(0.0, 0.4, weight.shape) for weight in network.get_weights()])
    return network


@pytest.mark.parametrize("name", CODERS)
def test_contraction_is_the_squared_norm_of_the_jacobian_found_unit_by_unit(name):
    encoder, images = encoder_of(name), tf.constant(IMAGES)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        units = tf.unstack(encoder(images), axis=1)
    expected = sum(tf.reduce_sum(tape.gradient(unit, images) ** 2, axis=(1, 2, 3)) for unit in units)
    found = contraction(encoder, images)
    assert found.dtype == tf.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", CODERS)
def test_contraction_is_the_squared_norm_of_the_jacobian_by_differences(name):
    encoder, step = encoder_of(name), 1e-5
    ways = step * np.eye(64).reshape(64, 1, 4, 8, 2)
    slopes = [(encoder(IMAGES + way) - encoder(IMAGES - way)).numpy() / (2 * step) for way in ways]  # (64, 3, 5)
    np.testing.assert_allclose(contraction(encoder, tf.constant(IMAGES)), np.sum(np.square(slopes), (0, 2)), rtol=1e-7)


def test_contraction_of_one_sigmoid_layer_in_closed_form():
    """arXiv:1104.4153, section 3: sum_j (h_j (1 - h_j))^2 ||W_j||^2."""
    encoder = encoder_of("one layer")
    kernel, bias = encoder.get_weights()
    codes = 1 / (1 + np.exp(-(IMAGES.reshape(3, 64) @ kernel + bias)))
    expected = np.sum((codes * (1 - codes)) ** 2 * np.sum(kernel**2, axis=0), axis=1)
    np.testing.assert_allclose(contraction(encoder, tf.constant(IMAGES)), expected, rtol=1e-12)


@pytest.mark.parametrize("name", CODERS)
def test_contractions_gradient_by_the_weights_is_that_of_differences(name):
    """Along random directions through all of them at once."""
    encoder, images, step = encoder_of(name), tf.constant(IMAGES), 1e-5
    weights = encoder.get_weights()
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(contraction(encoder, images))
    values = [variable.value for variable in encoder.trainable_variables]
    # The bias of a linear head has no part in it.
    gradients = tape.gradient(total, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def total_at(ways, sign):
        encoder.set_weights([weight + sign * step * way for weight, way in zip(weights, ways, strict=True)])
        return float(tf.reduce_sum(contraction(encoder, images)))

    for seed in range(3):
        random = np.random.default_rng(seed)
        ways = [random.normal(size=weight.shape) for weight in weights]
        expected = (total_at(ways, 1) - total_at(ways, -1)) / (2 * step)
        found = sum(np.sum(gradient * way) for gradient, way in zip(gradients, ways, strict=True))
        assert abs(expected) > 1e-2
        assert found == pytest.approx(expected, rel=1e-6)
