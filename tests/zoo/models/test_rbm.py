"""RBM: updates and samples against enumeration of all states, the sparsity target, log p(x) by annealing."""

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from keras.optimizers import SGD

from zoo.core.noise import Draws
from zoo.core.weights import read_weights, write_weights
from zoo.export.onnx import write_onnx
from zoo.models.rbm import RBM

SHAPE, UNITS, SEED = (2, 3, 1), 3, 9
TINY = {"image_shape": SHAPE, "units": UNITS, "annealing_temperatures": 500}


def states(units):
    return ((np.arange(2**units)[:, None] >> np.arange(units)) & 1).astype(np.float32)


def images(visible):
    return (2.0 * visible - 1.0).reshape(-1, *SHAPE).astype(np.float32)


def with_weights(scale=1.0, **arguments):
    """A machine whose weights are far from 0, so that chains are slow enough to tell CD-1 from the rest."""
    keras.utils.set_random_seed(1)
    model = RBM(**{**TINY, **arguments})
    random = np.random.default_rng(4)
    for variable in model.rbm.trainable_variables:
        variable.assign(random.normal(0, scale, variable.shape))
    return model


def parameters(model):
    return [np.asarray(variable).astype(np.float64) for variable in model.rbm.trainable_variables]


def joint(model):
    """p(v, h) of every pair of states, (64, 8)."""
    weights, b, c = parameters(model)
    v, h = states(6), states(UNITS)
    logits = (v @ b)[:, None] + h @ c + v @ weights @ h.T
    return np.exp(logits - np.logaddexp.reduce(logits, axis=None))


def exact_gradient(model, data):
    """Of -log p(v), the mean over data: by W, b, c."""
    weights, _, c = parameters(model)

    def expectation(v, p):
        h = 1 / (1 + np.exp(-(c + v @ weights)))
        return [np.einsum("n,ni,nj->ij", p, v, h), p @ v, p @ h]

    of_data = expectation(data, np.full(len(data), 1 / len(data)))
    of_model = expectation(states(6), joint(model).sum(1))
    return [there - here for here, there in zip(of_data, of_model, strict=True)]


def update(model, data, fit):
    """The gradient that one step takes, from SGD with rate 1."""
    before = parameters(model)
    model.compile(seed=SEED, machine=SGD(1.0))
    fit(model, images(data))
    return [old - new for old, new in zip(before, parameters(model), strict=True)]


def far(found, expected):
    return float(np.sqrt(sum(np.sum((one - other) ** 2) for one, other in zip(found, expected, strict=True))))


def test_the_expected_update_of_cd_tends_to_the_gradient_as_k_grows(fit):
    """60,000 chains: each of 27 numbers has a standard error below 0.5 / sqrt(60000) = 0.002, in all 0.011."""
    data = states(6)[np.random.default_rng(0).choice([1, 7, 56, 63], 60_000)]
    distances = []
    for steps in (1, 4, 30):
        model = with_weights(2.0, gibbs_steps=steps)
        expected = exact_gradient(model, data)
        distances.append(far(update(model, data, fit), expected))
    assert distances[0] > 2 * distances[1] > 4 * distances[2]
    assert distances[2] < 0.02


def test_persistent_chains_reach_the_gradient_with_one_step_each(fit):
    """At a rate of 0 the machine stays, and its chains come to its distribution; then one step at a rate of 1."""
    count = 20_000
    data = states(6)[np.random.default_rng(0).choice([1, 7, 56, 63], count)]
    model = with_weights(persistent=True, chains=count)
    model.compile(seed=SEED, machine=SGD(0.0))
    fit(model, images(data), steps=30)
    found = model.chains.values.numpy() @ 2 ** np.arange(6)
    share = np.bincount(found.astype(int), minlength=64) / count
    p = joint(model).sum(1)
    assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / count) + 1e-9).all()
    kept = [model.chains.values.numpy(), model.chains.first.numpy()]
    again = with_weights(persistent=True, chains=count)
    again.chains.set_weights(kept)
    assert far(update(again, data, fit), exact_gradient(model, data)) < 0.03


def test_one_update_equals_the_formula_written_out(fit, difference):
    """By hand: h, then v, from the draws of the step; -(v h^T of data - that of the samples), with E[h] for h."""
    model = with_weights(gibbs_steps=1)
    weights, b, c = parameters(model)
    data = states(6)[[3, 9, 60]]

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    draws = Draws(SEED, tf.constant(0, tf.int64), tf.range(3, dtype=tf.int64))
    h = draws.uniform(UNITS).numpy() < sigmoid(c + data @ weights)
    v = (draws.uniform(6).numpy() < sigmoid(b + h @ weights.T)).astype(float)
    means = [sigmoid(c + each @ weights) for each in (data, v)]
    expected = [(v.T @ means[1] - data.T @ means[0]) / 3, (v - data).mean(0), (means[1] - means[0]).mean(0)]
    assert difference(update(model, data, fit), expected) < 1e-5


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_steps_draw_from_the_machines_distribution(visible):
    """20,000 chains of 60 steps: hidden states as often as enumeration says, images the means given these."""
    model = with_weights(0.7, visible=visible)
    weights, b, c = parameters(model)
    h = states(UNITS)
    mean = b + h @ weights.T
    term = np.logaddexp(0, mean).sum(1) if visible == "bernoulli" else 0.5 * (mean**2).sum(1)
    p = np.exp(h @ c + term - np.logaddexp.reduce(h @ c + term))
    count, random = 20_000, np.random.default_rng(1)
    noise = "visible_uniform" if visible == "bernoulli" else "visible_normal"
    hidden = np.zeros((count, UNITS), np.float32)
    for _ in range(60):
        drawn = random.random((count, 6)) if visible == "bernoulli" else random.normal(size=(count, 6))
        feeds = {"hidden": hidden, noise: drawn, "hidden_uniform": random.random((count, UNITS))}
        before, outputs = hidden, model.run_ability("step", feeds)
        hidden = outputs["next_hidden"]
    share = np.bincount((hidden @ 2 ** np.arange(UNITS)).astype(int), minlength=8) / count
    assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / count)).all()
    given = b + before @ weights.T
    np.testing.assert_allclose(outputs["visible_logits"], given, atol=1e-5)
    image = np.tanh(given / 2) if visible == "bernoulli" else np.clip(given, -1, 1)
    np.testing.assert_allclose(outputs["image"].reshape(count, 6), image, atol=1e-5)


def test_samples_take_the_steps_they_are_asked_for():
    model = with_weights(sampling_steps=7)
    card = model.abilities()["step"].card()
    assert (card.iteration.kind, card.iteration.count, card.iteration.states) == ("gibbs", 7, {"hidden": "next_hidden"})
    seven = model.sample(5, seed=2, output_type="float32")
    np.testing.assert_array_equal(model.sample(5, seed=2, output_type="float32", steps=7), seven)
    first = model.sample(5, seed=2, output_type="float32", steps=1)  # of an empty hidden layer: the bias alone
    _, b, _ = parameters(model)
    np.testing.assert_allclose(first.reshape(5, 6), np.tile(np.tanh(b / 2), (5, 1)), atol=1e-6)


def test_the_exported_step_has_no_random_numbers_and_no_control_flow(tmp_path):
    write_onnx(with_weights().abilities()["step"], tmp_path / "step.onnx", rounded=False)
    operations = {node.op_type for node in onnx.load(tmp_path / "step.onnx").graph.node}
    assert not operations & {"If", "Loop", "Scan", "RandomNormal", "RandomUniform", "Bernoulli", "Multinomial"}


# log p(x)


def test_log_p_is_that_of_enumeration_and_is_kept_with_the_weights(tmp_path):
    model = with_weights()
    model.rbm.mean.assign(np.full(6, 0.4))
    model.finish()
    write_weights(tmp_path / "model.weights.h5", model.exported_weights())
    fresh = RBM(**TINY)
    read_weights(tmp_path / "model.weights.h5", fresh.exported_weights())
    exact = np.log(joint(fresh).sum(1))  # of the weights as the file has them
    found = fresh.log_prob(images(states(6)))
    assert found.name == "estimate (AIS of 100 chains, 500 temperatures)"
    np.testing.assert_allclose(found.values, exact, atol=0.1)
    assert np.ptp(found.values - exact) < 1e-3  # all by one number: that of log Z


def test_the_density_of_gaussian_units_is_of_images_and_not_of_what_they_are_standardized_to():
    """One pixel: the density over images in [-1, 1], by steps of 0.001, and beyond."""
    keras.utils.set_random_seed(1)
    model = RBM((1, 1, 1), 2, "gaussian", image_mean=-0.2, image_scale=0.3, annealing_temperatures=500)
    for variable in model.rbm.trainable_variables:
        variable.assign(np.random.default_rng(0).normal(0, 0.5, variable.shape))
    model.finish()
    grid = np.arange(-4, 4, 0.001, dtype=np.float32).reshape(-1, 1, 1, 1)
    assert np.exp(model.log_prob(grid).values).sum() * 0.001 == pytest.approx(1.0, abs=0.05)
    card = model.abilities()["log_prob"].card()
    assert card.outputs[0].support == "real"


def test_the_free_energy_differs_from_log_p_by_log_z():
    model = with_weights()
    model.finish()
    free = model.run_ability("free_energy", {"image": images(states(6))})["free_energy"]
    assert np.ptp(free + model.log_prob(images(states(6))).values) < 1e-5


# Abilities, terms, choices


def test_codes_are_the_means_of_hidden_units_and_decode_to_reconstructions():
    model = with_weights()
    weights, b, c = parameters(model)
    v = states(6)[[3, 30, 60]]
    codes = model.encode(images(v))
    np.testing.assert_allclose(codes, 1 / (1 + np.exp(-(c + v @ weights))), rtol=1e-5)
    np.testing.assert_allclose(model.decode(codes).reshape(3, 6), np.tanh((b + codes @ weights.T) / 2), atol=1e-6)
    np.testing.assert_allclose(model.reconstruct(images(v)), model.decode(codes), atol=1e-6)


def test_gaussian_units_are_standardized_images():
    model = RBM(SHAPE, 2, "gaussian", image_mean=-0.5, image_scale=0.25, initial_brightness=0.25)
    image = np.full((1, *SHAPE), 0.25, np.float32)
    np.testing.assert_allclose(model.to_visible(image), np.full((1, 6), 3.0))
    np.testing.assert_allclose(model.to_image(np.full((1, 6), 3.0)), image)
    np.testing.assert_allclose(model.rbm.visible_bias, np.zeros(6))  # brightness 1/4 is -0.5, the mean


def test_the_sparsity_target_is_what_hidden_units_come_to(fit):
    data = states(6)[np.random.default_rng(0).integers(64, size=200)]
    means = []
    for target in (0.1, None):
        keras.utils.set_random_seed(1)
        model = RBM(SHAPE, 5, sparsity_target=target, sparsity_weight=10.0)
        model.compile(seed=SEED, machine=SGD(0.05))
        history = fit(model, images(data), steps=300)
        means.append(model.encode(images(data)).mean(axis=0))
    np.testing.assert_allclose(means[0], 0.1, atol=0.02)
    assert (means[1] > 0.3).all()
    assert "sparsity" not in history


def test_a_machine_learns_what_it_is_shown(fit):
    """Of four images, in turn, 64 could be: log(4) = 1.39 nats is all there is to learn, log(64) = 4.16 the start."""
    data = states(6)[np.random.default_rng(0).choice([1, 7, 56, 63], 200)]
    keras.utils.set_random_seed(1)
    model = RBM(SHAPE, 8, persistent=True, chains=200, gibbs_steps=5, annealing_temperatures=2_000)
    model.compile(seed=SEED, machine=SGD(0.1))
    fit(model, images(data), steps=1_500)
    model.finish()
    assert -2.2 < model.log_prob(images(data)).values.mean() < -1.3
    found = {
        name: float(value) for name, value in model.diagnose({"image": images(data)}, {"image": -images(data)}).items()
    }
    assert found["held_out_free_energy"] > found["train_free_energy"] + 2
    assert found["train_squared_error"] < 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": (8, 8)}, r"image_shape=\(8, 8\): give \(height, width, channels\)"),
        ({"visible": "binary"}, r"visible='binary': choose from \['bernoulli', 'gaussian'\]"),
        ({"units": 0}, "units=0: choose at least 1"),
        ({"gibbs_steps": 0}, "gibbs_steps=0: choose at least 1"),
        ({"chains": 0}, "chains=0: choose at least 1"),
        ({"sparsity_target": 1.0}, r"sparsity_target=1.0, .*choose a target between 0 and 1"),
        ({"initial_brightness": 0.0}, r"initial_brightness=0.0, .*choose a brightness between 0 and 1"),
        ({"image_scale": 0.0}, r"image_scale=0.0: choose .* a scale > 0"),
        ({"annealing_chains": 1}, "annealing_chains=1: choose at least 2"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RBM(**{**TINY, **arguments})
