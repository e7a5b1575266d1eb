"""What an update is: the mean over the global batch, once, checked, clipped, on any number of replicas."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from keras.optimizers import SGD, LossScaleOptimizer

from zoo.core import step
from zoo.losses.rows import per_row

X = np.array([[1.0], [2.0], [3.0], [4.0]], np.float32)
TARGET = np.full((4, 1), 2.0, np.float32)


def squared_error(model, x, target):
    """(w x - t)^2, moved by `inner` alone."""
    return model.minimize("inner", lambda: per_row(ops.square(model.inner(x) - target)))


# w = 1: residuals w x - t = -1, 0, 1, 2; gradients by row 2 (w x - t) x = -2, 0, 6, 16, mean 5.
OPTIMIZERS = {
    "plain": (lambda: SGD(1.0), 1 - 5),
    "clipnorm": (lambda: SGD(1.0, clipnorm=0.1), 1 - 0.1),  # |5| -> 0.1
    "global_clipnorm": (lambda: SGD(1.0, global_clipnorm=2.0), 1 - 2),
    "clipvalue": (lambda: SGD(1.0, clipvalue=0.5), 1 - 0.5),
    "weight_decay": (lambda: SGD(1.0, weight_decay=0.5), 1 - 0.5 * 1 - 5),
    "adam": (lambda: keras.optimizers.Adam(0.1), 1 - 0.1),  # the first step of Adam is its learning rate
    "loss_scale_factor": (lambda: SGD(1.0, loss_scale_factor=8.0), 1 - 5),
    "LossScaleOptimizer": (lambda: LossScaleOptimizer(SGD(1.0)), 1 - 5),
    "LossScaleOptimizer, clipvalue": (lambda: LossScaleOptimizer(SGD(1.0, clipvalue=0.5)), 1 - 0.5),
}


@pytest.mark.parametrize(("name", "replicas"), [("plain", 1), ("plain", 4), *((name, 2) for name in OPTIMIZERS)])
def test_an_update_follows_the_global_mean_once(probe, fit, name, replicas):
    optimizer, expected = OPTIMIZERS[name]
    model = probe(squared_error, replicas, optimizer)
    history = fit(model, X, target=TARGET)
    assert float(model.inner.weights[0][0, 0]) == pytest.approx(expected, rel=1e-5)
    assert float(model.outer.weights[0][0, 0]) == 1.0
    assert history["loss"] == [pytest.approx(1.5)]  # (1 + 0 + 1 + 4) / 4
    assert history["inner_gradient_norm"] == [pytest.approx(5.0)]  # unscaled, before clipping


@pytest.mark.parametrize(("rows", "expected"), [(3, 1 - 4 / 3), (1, 1 + 2)])
def test_rows_weigh_the_same_on_replicas_that_hold_different_numbers_of_them(probe, fit, rows, expected):
    # Replica 0 holds rows 0 and 1, replica 1 row 2: (-2 + 0 + 6) / 3 = 4/3, not the mean of means ((-2 + 0)/2 + 6)/2.
    model = probe(squared_error, 2 if rows == 3 else 1)
    fit(model, X[:rows], target=TARGET[:rows])
    assert float(model.inner.weights[0][0, 0]) == pytest.approx(expected, rel=1e-6)


def test_the_recorded_part_of_a_loss_is_not_minimized(probe, fit):
    def algorithm(model, x, target):
        def loss():
            return per_row(model.inner(x)), {"also": 100.0 * per_row(model.inner(x))}

        rows, recorded = model.minimize("inner", loss)
        return rows + 0.0 * recorded["also"]

    model = probe(algorithm)
    fit(model, X, target=TARGET)
    assert float(model.inner.weights[0][0, 0]) == pytest.approx(1 - 2.5)  # d mean(w x)/dw = mean(x) = 2.5


def two_layers(probe, algorithm, replicas=1):
    random = np.random.default_rng(0)
    inner, outer = random.normal(size=(3, 4)), random.normal(size=(4, 2))
    return probe(algorithm, replicas, inner=inner.tolist(), outer=outer.tolist())


def tanh_loss(outputs):
    return per_row(ops.square(ops.tanh(outputs) - 0.5))


def test_through_a_held_pass_the_gradient_is_that_of_one_tape_through_both_networks(probe):
    model = two_layers(probe, squared_error)
    x = tf.constant(np.random.default_rng(1).normal(size=(5, 3)), tf.float32)
    with tf.GradientTape() as tape:
        total = tf.reduce_mean(tanh_loss(model.outer(model.inner(x))))
    expected = tape.gradient(total, model.inner.weights[0].value)

    model.draws(x)
    held = model.hold("inner", lambda: model.inner(x))
    (found,) = model.compute_gradients("inner", lambda: tanh_loss(model.outer(held.output)), through=held).gradients
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("replicas", [1, 2])
def test_two_players_share_a_held_pass(probe, fit, replicas):
    """`outer` is updated first; `inner` then sees the new `outer` through the pass held before."""

    def algorithm(model, x, target):
        held = model.hold("inner", lambda: model.inner(x))
        model.minimize("outer", lambda: -per_row(model.outer(held.output)))
        return model.minimize("inner", lambda: per_row(model.outer(held.output)), through=held)

    model = probe(algorithm, replicas)
    fit(model, X, target=TARGET)
    # v: 1 + mean(w x) = 1 + 2.5 = 3.5.   w: 1 - v mean(x) = 1 - 3.5 * 2.5 = -7.75, with the *new* v.
    found = [float(network.weights[0][0, 0]) for network in (model.outer, model.inner)]
    assert found == [pytest.approx(3.5), pytest.approx(-7.75)]


def after_its_player_moved(model, x, target):
    held = model.hold("inner", lambda: model.inner(x))
    model.minimize("inner", lambda: per_row(held.output), through=held)
    return model.minimize("inner", lambda: per_row(held.output), through=held)


def for_another_player(model, x, target):
    held = model.hold("inner", lambda: model.inner(x))
    return model.minimize("outer", lambda: per_row(model.outer(held.output)), through=held)


@pytest.mark.parametrize("algorithm", [after_its_player_moved, for_another_player])
def test_a_held_pass_serves_its_own_player_until_that_one_is_updated(probe, fit, algorithm):
    with pytest.raises(ValueError, match="a held pass serves its own player, and only until that player is updated"):
        fit(probe(algorithm), X, target=TARGET)


@pytest.mark.parametrize(("replicas", "value"), [(1, np.nan), (2, np.nan), (2, np.inf)])
def test_a_gradient_that_is_not_finite_stops_every_replica_before_a_weight_is_touched(probe, fit, replicas, value):
    model = probe(squared_error, replicas, lambda: SGD(1.0, momentum=0.9))
    poisoned = X.copy()
    poisoned[3] = value  # the last row: the second replica's alone
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{step.NOT_FINITE} of player 'inner'"):
        fit(model, poisoned, target=TARGET)
    (momentum,) = [v for v in model.player_optimizers["inner"].variables if "momentum" in v.path]
    for variable, untouched in ((model.inner.weights[0], 1.0), (momentum, 0.0)):
        copies = [float(copy[0, 0]) for copy in getattr(variable.value, "values", [variable.value])]
        assert copies == [untouched] * replicas
    fit(model, X, target=TARGET)  # the process can go on
    assert float(model.inner.weights[0][0, 0]) == pytest.approx(1 - 5)


def last_row(value):
    """`X` with another last row, which is on the second of two replicas; every target is 0."""
    return np.concatenate([X[:3], [[value]]]).astype(np.float32)


@pytest.mark.parametrize("replicas", [1, 2])
def test_scaled_gradients_that_overflow_on_one_replica_are_skipped_by_all_and_halve_the_scale(probe, fit, replicas):
    # w = 1, t = 0: the loss 1e36 is finite and so is its gradient 2e36, but not 2^15 times it.
    model = probe(squared_error, replicas, lambda: LossScaleOptimizer(SGD(1e-37), initial_scale=2.0**15))
    history = fit(model, last_row(1e18), target=0 * X)
    optimizer = model.player_optimizers["inner"]
    kernel, scale = model.inner.weights[0], optimizer.dynamic_scale
    assert [float(copy[0, 0]) for copy in getattr(kernel.value, "values", [kernel.value])] == [1.0] * replicas
    assert [float(copy) for copy in getattr(scale.value, "values", [scale.value])] == [2.0**14] * replicas
    assert history["inner_gradient_norm"] == [0.0]  # a skipped update has none
    fit(model, last_row(1e18), steps=10, target=0 * X)
    # 2^8 times 2e36 is past float32's 3.4e38, 2^7 times is not.
    assert [float(copy) for copy in getattr(scale.value, "values", [scale.value])] == [2.0**7] * replicas
    assert float(kernel[0, 0]) < 1.0


@pytest.mark.parametrize(
    ("value", "scale"), [(np.nan, 2.0**15), (1e20, 2.0**15), (1.5e19, 1.0)], ids=["input", "loss", "unscaled gradient"]
)
def test_what_no_smaller_loss_scale_mends_stops_the_step(probe, fit, value, scale):
    # 1e20 squared overflows in the loss; at 1.5e19 the loss 2.25e38 is finite and its gradient 4.5e38 is not.
    model = probe(squared_error, 2, lambda: LossScaleOptimizer(SGD(1.0), initial_scale=scale))
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{step.NOT_FINITE} of player 'inner'"):
        fit(model, last_row(value), target=0 * X)
    assert float(model.inner.weights[0][0, 0]) == 1.0


def test_a_loss_that_leaves_a_variable_out_is_an_error_with_its_name(probe, fit):
    def algorithm(model, x, target):
        return model.minimize("outer", lambda: per_row(model.inner(x)))

    message = r"the loss of player 'outer' does not depend on its variables \['outer_output/kernel'\]"
    with pytest.raises(ValueError, match=message):
        fit(probe(algorithm), X, target=TARGET)


def test_input_gradient_in_closed_form_and_its_own_gradient():
    x = tf.constant([[1.0, 2.0], [-3.0, 0.5]])
    weight = tf.Variable(2.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        slope = step.input_gradient(lambda inputs: weight * ops.sum(inputs**3, axis=1), x)
        penalty = tf.reduce_sum(slope**2)
    np.testing.assert_allclose(slope, 2 * 3 * x.numpy() ** 2, rtol=1e-6)  # d w x^3/dx = 3 w x^2
    by_weight, by_inputs = tape.gradient(penalty, [weight, x])
    # sum (3 w x^2)^2 = 9 w^2 x^4: by w, 18 w sum x^4; by x, 36 w^2 x^3
    assert float(by_weight) == pytest.approx(18 * 2 * float(np.sum(x.numpy() ** 4)))
    np.testing.assert_allclose(by_inputs, 36 * 4 * x.numpy() ** 3, rtol=1e-6)


def test_input_gradient_of_a_row_is_that_rows_alone():
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(2)])
    x = tf.random.stateless_normal((4, 3), (0, 1))
    whole = step.input_gradient(network, x)
    single = tf.concat([step.input_gradient(network, x[row : row + 1]) for row in range(4)], axis=0)
    np.testing.assert_allclose(whole, single, atol=1e-6)


def test_input_jacobian_in_closed_form_and_its_own_gradient():
    x = tf.constant([[1.0, 2.0], [-3.0, 0.5]])
    weight = tf.Variable(2.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        # h = (w x_0^2, x_0 x_1, x_1)
        found = step.input_jacobian(lambda x: tf.stack([weight * x[:, 0] ** 2, x[:, 0] * x[:, 1], x[:, 1]], 1), x)
        total = tf.reduce_sum(found**2)
    expected = [[[4.0 * a, 0.0], [b, a], [0.0, 1.0]] for a, b in x.numpy()]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # sum (2 w a)^2 + b^2 + a^2 + 1: by w, 8 w a^2; by (a, b), (8 w^2 a + 2 a, 2 b)
    by_weight, by_inputs = tape.gradient(total, [weight, x])
    assert float(by_weight) == pytest.approx(8 * 2 * (1 + 9))
    np.testing.assert_allclose(by_inputs, [[34.0 * a, 2.0 * b] for a, b in x.numpy()], rtol=1e-6)


def test_input_jacobian_has_the_inputs_shape_after_the_outputs():
    network = keras.Sequential([keras.Input((4, 3, 2)), keras.layers.Flatten(), keras.layers.Dense(5, use_bias=False)])
    found = step.input_jacobian(network, tf.random.stateless_normal((6, 4, 3, 2), (0, 1)))
    kernel = network.weights[0].numpy()  # (24, 5)
    np.testing.assert_allclose(found, np.broadcast_to(kernel.T.reshape(5, 4, 3, 2), (6, 5, 4, 3, 2)), rtol=1e-6)
