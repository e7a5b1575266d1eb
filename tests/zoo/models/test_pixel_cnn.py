"""PixelCNN: log p(x) of every image there is, samples beside it, the same from an exported graph."""

import itertools
from functools import partial

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from keras.optimizers import SGD
from scipy.special import log_softmax

from serving.card import Output
from serving.likelihood import log_prob
from serving.sampling.sampler import Sampler
from serving.session import CPU, InputError, Session
from zoo.core.precision import computing_in
from zoo.data.images import to_float32
from zoo.export.onnx import write_onnx
from zoo.models.pixel_cnn import PixelCNN
from zoo.presets.table import PRESETS

CLASSES = ("Dress", "Coat", "Bag")
SMALL = {"filters": 6, "blocks": 2, "kernel": 3}


def make_model(shape, scale=0.4, **options):
    model = PixelCNN(shape, **{**SMALL, **options})
    random = np.random.default_rng(0)
    for variable in model.network.weights:
        variable.assign(random.normal(0.0, scale, variable.shape))
    model.network_ema.set_weights(model.network.get_weights())
    return model


def list_images(shape, levels):
    """Every image there is, (levels ** pixels, *shape) float32 in [-1, 1]."""
    codes = np.array(list(itertools.product(range(levels), repeat=int(np.prod(shape)))))
    return (codes.reshape(-1, *shape) * (2.0 / (levels - 1)) - 1.0).astype(np.float32)


@pytest.mark.parametrize(("shape", "levels"), [((3, 3, 1), 2), ((2, 2, 1), 4), ((1, 3, 1), 6)])
def test_the_probabilities_of_all_images_sum_to_one(shape, levels):
    model = make_model(shape, levels=levels)
    found = model.log_prob(list_images(shape, levels))
    assert (found.name, found.samples) == ("exact", 0)
    assert np.ptp(found.values) > 1.0  # not all alike
    np.testing.assert_allclose(np.exp(found.values).sum(), 1.0, atol=1e-5)


def test_so_they_do_within_each_class_and_differ_between_them():
    images = list_images((3, 3, 1), 2)
    model = make_model((3, 3, 1), classes=CLASSES)
    found = np.stack([model.log_prob(images, label=np.full(len(images), each)).values for each in range(3)])
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0, atol=1e-5)
    for one, other in itertools.combinations(found, 2):
        assert np.abs(one - other).max() > 0.1


def test_log_prob_is_that_of_the_logits():
    model = make_model((4, 5, 1), levels=3)
    codes = np.random.default_rng(0).integers(0, 3, (8, 4, 5, 1)).astype(np.int32)
    logits = log_softmax(np.asarray(model.network_ema(codes), np.float64), axis=-1)
    expected = np.take_along_axis(logits, codes[..., None], axis=-1).sum(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(model.log_prob(codes - np.float32(1.0)).values, expected, rtol=1e-5)
    loss = model.negative_log_likelihood(model.network, tf.constant(codes - np.float32(1.0)), None)
    np.testing.assert_allclose(loss, -expected, rtol=1e-5)


def test_levels_lie_evenly_and_256_are_those_of_8_bits():
    gray = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(PixelCNN((16, 16, 1), 256, **SMALL).codes_of(to_float32(gray)), gray)
    values = np.array([-1.0, -0.67, -0.66, 0.0, 0.66, 0.67, 1.0], np.float32)
    model = PixelCNN((1, 7, 1), 4, **SMALL)  # at -1, -1/3, 1/3 and 1
    np.testing.assert_array_equal(model.codes_of(values), [0, 0, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(PixelCNN((1, 7, 1), **SMALL).codes_of(values), [0, 0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize(("levels", "support"), [(2, "binary"), (256, "levels"), (5, None)])
def test_the_card_says_what_the_likelihood_is_of_and_how_samples_are_drawn(levels, support):
    model = PixelCNN((4, 5, 1), levels, **SMALL)
    (exact,) = model.abilities()["log_prob"].card().outputs
    assert exact == Output("exact", "float32", ("batch",), "log_prob", support=support)
    iteration = model.abilities()["step"].card().iteration
    assert (iteration.kind, iteration.count) == ("autoregressive", 4)
    with pytest.raises(InputError, match="4 steps complete a sample"):
        model.sample(1, steps=2)


@pytest.mark.parametrize(("levels", "labels"), [(2, None), (2, 1), (3, None)])
def test_samples_are_of_the_distribution_that_log_prob_gives(levels, labels):
    """The total variation from it is at most what chance allows in one run of a million (McDiarmid's inequality)."""
    shape, count = (2, 2, 1), 20_000
    options = {} if labels is None else {"classes": CLASSES}
    model, images = make_model(shape, 1.0, levels=levels, **options), list_images(shape, levels)
    given = {} if labels is None else {"label": np.full(len(images), labels)}
    expected = np.exp(model.log_prob(images, **given).values)
    choices = {} if labels is None else {"labels": labels}
    samples = model.sample(count, seed=3, batch_size=5_000, output_type="float32", **choices)
    places = levels ** np.arange(3, -1, -1)
    numbers = np.rint((samples.reshape(count, -1) + 1.0) * (levels - 1) / 2.0) @ places
    found = np.bincount(numbers.astype(int), minlength=len(images)) / count
    bound = 0.5 * np.sqrt(expected * (1 - expected) / count).sum() + np.sqrt(np.log(1e6) / (2 * count))
    assert 0.5 * np.abs(found - expected).sum() < bound < 0.05
    assert 0.5 * np.abs(expected - 1 / len(images)).sum() > 4 * bound  # far from all alike


@pytest.mark.parametrize("options", [{}, {"levels": 4, "classes": CLASSES, "blocks": 3}])
def test_the_exported_step_draws_what_keras_draws(tmp_path, options):
    model = make_model((6, 5, 1), **options)
    ability = model.abilities()["step"]
    write_onnx(ability, tmp_path / "step.onnx", rounded=False)
    graph = onnx.load(tmp_path / "step.onnx").graph
    assert not {"Loop", "If", "Scan"} & {node.op_type for node in graph.node}
    session = Session(tmp_path / "step.onnx", providers=[CPU], threads=1)
    images = Sampler(ability.card(), session.run).sample(40, seed=5)
    np.testing.assert_array_equal(images, model.sample(40, seed=5))
    assert len(np.unique(images)) == model.levels
    random = np.random.default_rng(0)
    feeds = {
        "previous_image": random.choice(list_images((1, 1, 1), model.levels).ravel(), (7, 6, 5, 1)),
        "previous_features": random.uniform(-1, 1, (7, *ability.network.inputs[1].shape[1:])).astype(np.float32),
        "uniform": random.random((7, 5, 1)).astype(np.float32),
        **({"label": random.integers(0, 3, 7).astype(np.int32)} if model.classes else {}),
    }
    ours, theirs = model.run_ability("step", feeds), session.run(feeds)
    for name in ("image", "features", "logits"):
        np.testing.assert_allclose(theirs[name], ours[name], atol=1e-5)
    np.testing.assert_array_equal(theirs["image"][:, :-1], feeds["previous_image"][:, 1:])


def test_the_exported_log_prob_is_kerass(tmp_path):
    model = make_model((6, 5, 1), classes=CLASSES)
    ability = model.abilities()["log_prob"]
    write_onnx(ability, tmp_path / "log_prob.onnx", rounded=False)
    session = Session(tmp_path / "log_prob.onnx", providers=[CPU], threads=1)
    images = np.random.default_rng(0).choice([-1.0, 1.0], (9, 6, 5, 1)).astype(np.float32)
    labels = np.arange(9, dtype=np.int32) % 3
    found = log_prob(ability.card(), session.run, images, label=labels).values
    np.testing.assert_allclose(found, model.log_prob(images, label=labels).values, rtol=1e-5)


def test_a_step_goes_down_the_gradient_of_the_negative_log_likelihood():
    model = make_model((4, 4, 1), ema_decay=0.5)
    model.compile(network=SGD(0.01))
    images = np.random.default_rng(0).choice([-1.0, 1.0], (6, 4, 4, 1)).astype(np.float32)
    variables = [variable.value for variable in model.network.trainable_variables]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model.negative_log_likelihood(model.network, tf.constant(images), None))
    before = [variable.numpy() for variable in variables]
    expected = [old - 0.01 * each.numpy() for old, each in zip(before, tape.gradient(loss, variables), strict=True)]
    data = tf.data.Dataset.from_tensors({"image": images, "row": np.arange(6)})
    history = model.fit(data, shuffle=False, verbose=0).history
    assert history["loss"][0] == pytest.approx(float(loss), rel=1e-5)
    # At the first step the average's decay is (1 + 0) / (10 + 0).
    for live, average, new, old in zip(model.network.weights, model.network_ema.weights, expected, before, strict=True):
        np.testing.assert_allclose(live.numpy(), new, atol=1e-6)
        np.testing.assert_allclose(average.numpy(), 0.1 * old + 0.9 * new, atol=1e-6)


def test_the_average_is_what_is_sampled_and_diagnosed():
    model = make_model((4, 4, 1))
    batch = {"image": np.random.default_rng(0).choice([-1.0, 1.0], (6, 4, 4, 1)).astype(np.float32)}
    samples, found = model.sample(8), model.diagnose(batch, batch)
    for variable in model.network.weights:
        variable.assign(variable + 1.0)
    np.testing.assert_array_equal(model.sample(8), samples)
    assert {name: float(value) for name, value in model.diagnose(batch, batch).items()} == {
        name: float(value) for name, value in found.items()
    }
    expected = model.log_prob(batch["image"]).values.mean()
    assert float(found["held_out_log_likelihood"]) == pytest.approx(expected, rel=1e-6)
    assert PixelCNN((4, 4, 1), ema_decay=None, **SMALL).network_ema.name == "pixel_cnn"


def test_in_half_precision_it_learns_and_samples():
    keras.utils.set_random_seed(0)
    with computing_in("mixed_bfloat16"):
        model = PixelCNN((4, 4, 1), **SMALL)
    model.compile(network=SGD(0.1))
    images = np.random.default_rng(0).choice([-1.0, 1.0], (6, 4, 4, 1)).astype(np.float32)
    data = tf.data.Dataset.from_tensors({"image": images, "row": np.arange(6)}).repeat(5)
    losses = model.fit(data, epochs=2, shuffle=False, verbose=0).history["loss"]
    assert losses[1] < losses[0]
    samples = model.sample(4, output_type="float32")
    assert set(np.unique(samples)) <= {-1.0, 1.0}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_shape": (4, 4, 3)}, "takes one channel; the order of several is not implemented"),
        ({"levels": 1}, "levels=1"),
        ({"blocks": 1}, "blocks=1"),
        ({"kernel": 2}, "kernel=2"),
        ({"ema_decay": 1.0}, "ema_decay=1.0"),
    ],
)
def test_what_can_t_be_meant_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        partial(PixelCNN, **{"image_shape": (4, 4, 1), **SMALL, **change})()


def test_the_preset_has_the_parameters_that_its_recipe_names():
    model = PixelCNN(**PRESETS["pixelcnn-mnist"].arguments)
    assert model.network.count_params() == 268_098
