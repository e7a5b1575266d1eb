"""DBN: stages, tied weights, a wake-sleep step written out, the bound beside the enumerated log p(x)."""

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from keras.optimizers import SGD

from zoo.core.noise import Draws
from zoo.export.onnx import write_onnx
from zoo.models.dbn import DBN

SHAPE, SEED, ROWS, RATE = (2, 3, 1), 9, 4, 0.5
TINY = {"image_shape": SHAPE, "units": (4, 3), "layer_steps": (2, 3), "annealing_temperatures": 1_000}


def states(units):
    return ((np.arange(2**units)[:, None] >> np.arange(units)) & 1).astype(np.float32)


def images(visible):
    return (2.0 * visible - 1.0).reshape(-1, *SHAPE).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def log_bernoulli(values, logits):
    return (values * logits - np.logaddexp(0, logits)).sum(-1)


def build(scale=None, **arguments):
    """With weights of that deviation, recognition and generative ones apart; as they begin where None."""
    keras.utils.set_random_seed(1)
    model = DBN(**{**TINY, **arguments})
    random = np.random.default_rng(4)
    for player in model.players if scale else ():
        for variable in model.variables_of(player):
            variable.assign(random.normal(0, scale, variable.shape))
    return model


def compiled(model, rate=RATE):
    model.compile(seed=SEED, **{player: SGD(rate) for player in model.players})
    return model


def parameters(model):
    """(W_rec, c), (W_gen, b), (W, b, c) of the top."""
    return tuple([np.asarray(each).astype(np.float64) for each in model.variables_of(name)] for name in model.players)


DATA = states(6)[[3, 9, 60, 63]]


# Stages


def test_layers_are_learned_in_turn_and_then_all():
    model = build()
    assert [model.plan_of(step) for step in range(8)] == [0, 0, 1, 1, 1, 2, 2, 2]
    assert [model.fresh_optimizers(step) for step in range(7)] == [
        *[(), (), ("top",), (), ()],
        *[("recognition", "generative", "top"), ()],
    ]


def test_each_stage_moves_what_it_learns(fit):
    model = compiled(build())
    moved = []
    before = parameters(model)
    for _ in range(6):
        fit(model, images(DATA))
        after = parameters(model)
        moved.append(
            tuple(
                any((one != other).any() for one, other in zip(*each, strict=True))
                for each in zip(before, after, strict=True)
            )
        )
        before = after
    assert moved == [(True, True, False)] * 2 + [(False, False, True)] * 3 + [(True, True, True)]


def test_a_layer_of_three_is_learned_on_samples_of_the_one_below(fit):
    model = compiled(build(units=(5, 4, 3), layer_steps=(1, 1, 1)))
    layers = [*model.recognizers, *model.generators]
    moved = []
    for _ in range(4):
        before = [np.asarray(layer.kernel) for layer in layers]
        fit(model, images(DATA))
        moved.append([bool((old != np.asarray(layer.kernel)).any()) for old, layer in zip(before, layers, strict=True)])
    assert moved == [[True, False] * 2, [False, True] * 2, [False] * 4, [True] * 4]


def test_weights_are_tied_while_their_layer_is_learned(fit):
    model = compiled(build(layer_steps=(20, 1), persistent=True, chains=8))
    fit(model, images(DATA), steps=20)
    (up, _), (down, _), _ = parameters(model)
    np.testing.assert_allclose(up, down.T, atol=1e-6)
    fit(model, images(DATA), steps=3)
    (up, _), (down, _), _ = parameters(model)
    assert np.abs(up - down.T).max() > 1e-3


def test_a_step_of_the_lowest_layer_is_that_of_a_restricted_boltzmann_machine(fit, difference):
    """By hand, CD-1: (v' h'^T - v h^T) / rows for both weights, with E[h] for h; v' - v for b, h' - h for c."""
    model = compiled(build())
    (weights, c), (_, b), _ = parameters(model)
    draws = Draws(SEED, tf.constant(0, tf.int64), tf.range(ROWS, dtype=tf.int64))
    h = draws.uniform(4).numpy() < sigmoid(c + DATA @ weights)
    v = (draws.uniform(6).numpy() < sigmoid(b + h @ weights.T)).astype(float)
    means = [sigmoid(c + each @ weights) for each in (DATA, v)]
    by_weights = (v.T @ means[1] - DATA.T @ means[0]) / ROWS
    fit(model, images(DATA))
    (new_up, new_c), (new_down, new_b), _ = parameters(model)
    found = [weights - new_up, (weights - new_down.T), c - new_c, b - new_b]
    expected = [by_weights, by_weights, (means[1] - means[0]).mean(0), (v - DATA).mean(0)]
    assert difference([each / RATE for each in found], expected) < 1e-4


def test_a_step_of_wake_sleep_equals_the_formulas_written_out(fit, difference):
    """A delta rule for each: (what a unit did - what was predicted of it) times what it was predicted from."""
    model = compiled(build(0.7, fine_tuning_scale=0.3))
    model.step.assign(5)
    (up, c), (down, b), (weights, top_b, top_c) = parameters(model)
    draws = Draws(SEED, tf.constant(5, tf.int64), tf.range(ROWS, dtype=tf.int64))

    def drawn(logits, size):
        return (draws.uniform(size).numpy() < sigmoid(logits)).astype(float)

    awake = drawn(c + DATA @ up, 4)
    h = drawn(top_c + awake @ weights, 3)
    samples = drawn(top_b + h @ weights.T, 4)
    dream = drawn(b + samples @ down, 6)
    predicted_v, predicted_h = sigmoid(b + awake @ down), sigmoid(c + dream @ up)
    means = [sigmoid(top_c + each @ weights) for each in (awake, samples)]
    expected = [
        *(dream.T @ (predicted_h - samples) / ROWS, (predicted_h - samples).mean(0)),
        *(awake.T @ (predicted_v - DATA) / ROWS, (predicted_v - DATA).mean(0)),
        (samples.T @ means[1] - awake.T @ means[0]) / ROWS,
        *((samples - awake).mean(0), (means[1] - means[0]).mean(0)),
    ]
    history = fit(model, images(DATA))
    before = [up, c, down, b, weights, top_b, top_c]
    after = [each for player in parameters(model) for each in player]
    found = [(old - new) / RATE / 0.3 for old, new in zip(before, after, strict=True)]
    assert difference(found, expected) < 1e-4
    assert history["wake_loss"] == [pytest.approx(-log_bernoulli(DATA, b + awake @ down).mean(), rel=1e-5)]
    assert history["sleep_loss"] == [pytest.approx(-log_bernoulli(samples, c + dream @ up).mean(), rel=1e-5)]


# log p(x)


def enumerated(model):
    """log p(v) of every v, and the bound's expectation, by sums over h_1 and h_2."""
    (up, c), (down, b), (weights, top_b, top_c) = parameters(model)
    v, h = states(6), states(4)
    unnormalized = h @ top_b + np.logaddexp(0, top_c + h @ weights).sum(1)
    prior = unnormalized - np.logaddexp.reduce(unnormalized)
    given = log_bernoulli(v[:, None], b + h @ down)
    posterior = log_bernoulli(h[None], (c + v @ up)[:, None])
    exact = np.logaddexp.reduce(given + prior, axis=1)
    return exact, (np.exp(posterior) * (given + prior - posterior)).sum(1)


def test_the_bound_is_the_enumerated_one_and_below_log_p():
    model = build(0.7, bound_samples=50)
    model.finish()
    found = model.log_prob(images(states(6)), samples=5_000)
    exact, bound = enumerated(model)
    assert found.name == "bound (AIS of 100 chains, 1,000 temperatures)"
    error = found.values - bound
    np.testing.assert_allclose(error, 0.0, atol=0.15)  # 5,000 samples of about 1.5 nats' deviation, and log Z
    assert abs(error.mean()) < 0.05
    assert (found.values < exact).all()
    assert np.mean(exact - bound) > 0.2  # q is of random weights here


def test_a_recognition_that_is_exact_makes_the_bound_log_p():
    """Where neither image nor hidden units depend on each other, q is the posterior."""
    model = build(0.7)
    for player in ("recognition", "generative"):
        kernel = model.variables_of(player)[0]
        kernel.assign(np.zeros(kernel.shape))
    (_, c), (_, b), _ = parameters(model)
    model.top.kernel.assign(np.zeros((4, 3)))
    c = c.astype(np.float16)  # as a file holds it: log Z is that of the file's weights
    model.variables_of("recognition")[1].assign(c)
    model.top.visible_bias.assign(c)
    model.top.mean.assign(sigmoid(c))  # the base machine is the machine itself, but for the hidden biases
    model.top.hidden_bias.assign(np.zeros(3))
    model.finish()
    found = model.log_prob(images(states(6))).values
    np.testing.assert_allclose(found, log_bernoulli(states(6), b), atol=1e-4)


def test_greedy_layers_learn_what_they_are_shown_and_fine_tuning_keeps_it(fit):
    """Four images, in turn: log(4) = 1.39 nats at best, log(64) = 4.16 at the start."""
    data = states(6)[np.random.default_rng(0).choice([1, 7, 56, 63], 100)]
    model = build(units=(8, 8), layer_steps=(600, 300), persistent=True)
    compiled(model, 0.5)
    bounds = []
    for steps in (900, 300):
        fit(model, images(data), steps=steps)
        model.finish()
        bounds.append(model.log_prob(images(data), samples=100).values.mean())
    assert bounds[0] > -2.0
    assert bounds[1] > bounds[0] - 0.2
    found = model.diagnose({"image": images(data)}, {"image": -images(data)})
    assert float(found["train_unnormalized_bound"]) > float(found["held_out_unnormalized_bound"]) + 1


# Abilities


def test_steps_draw_images_from_the_network():
    """20,000 chains of 40 steps: each pixel as often white as enumeration says."""
    model = build(0.7)
    exact, _ = enumerated(model)
    count, random = 20_000, np.random.default_rng(1)
    hidden = np.zeros((count, 3), np.float32)
    for _ in range(40):
        feeds = {"hidden": hidden, "hidden_uniform": random.random((count, 3)), "uniform_1": random.random((count, 4))}
        outputs = model.run_ability("step", feeds)
        hidden = outputs["next_hidden"]
    mean = 0.5 * (outputs["image"].reshape(count, 6).mean(0) + 1)
    np.testing.assert_allclose(mean, np.exp(exact) @ states(6), atol=0.02)


def test_codes_decode_to_reconstructions_layer_by_layer():
    model = build(0.7, units=(5, 4, 3), layer_steps=(1, 1, 1))
    codes = model.encode(images(DATA))
    assert codes.shape == (4, 3)
    np.testing.assert_allclose(model.decode(codes), model.reconstruct(images(DATA)), atol=1e-6)
    units = DATA
    for layer in model.recognizers:
        units = sigmoid(np.asarray(layer.bias) + units @ np.asarray(layer.kernel))
    weights, top_b, top_c = parameters(model)[2]
    np.testing.assert_allclose(codes, sigmoid(top_c + units @ weights), rtol=1e-4)
    units = sigmoid(top_b + codes @ weights.T)
    for layer in reversed(model.generators):
        units = sigmoid(np.asarray(layer.bias) + units @ np.asarray(layer.kernel))
    np.testing.assert_allclose(model.decode(codes).reshape(4, 6), 2 * units - 1, atol=1e-5)


def test_the_exported_step_has_no_random_numbers_and_no_control_flow(tmp_path):
    model = build(0.7, units=(5, 4, 3), layer_steps=(1, 1, 1))
    ability = model.abilities()["step"]
    assert [spec.name for spec in ability.card().inputs] == ["hidden", "hidden_uniform", "uniform_2", "uniform_1"]
    write_onnx(ability, tmp_path / "step.onnx", rounded=False)
    operations = {node.op_type for node in onnx.load(tmp_path / "step.onnx").graph.node}
    assert not operations & {"If", "Loop", "Scan", "RandomNormal", "RandomUniform", "Bernoulli", "Multinomial"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": (4,), "layer_steps": (1,)}, r"units=\[4\], layer_steps=\[1\]: give two layers or more"),
        ({"layer_steps": (1,)}, r"layer_steps=\[1\]: .* steps for each"),
        ({"layer_steps": (1, 0)}, r"layer_steps=\[1, 0\]: .* at least 1"),
        ({"fine_tuning_scale": 0.0}, r"fine_tuning_scale=0.0: choose .* a scale > 0"),
        ({"initial_brightness": 1.0}, r"initial_brightness=1.0, .*choose a brightness between 0 and 1"),
        ({"bound_samples": 0}, "bound_samples=0: choose at least 1"),
        ({"annealing_chains": 1}, "annealing_chains=1: choose at least 2"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DBN(**{**TINY, **arguments})
