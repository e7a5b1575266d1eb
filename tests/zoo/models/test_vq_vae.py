"""VQ-VAE: a step by hand, a prior that sees codes alone and is normalized, sampling in one graph as one by one."""

import itertools
from collections import Counter

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from keras.optimizers import SGD, Adam
from onnx import numpy_helper

from zoo.export.onnx import write_onnx
from zoo.models.vq_vae import VQVAE

TINY = {"image_shape": (8, 8, 1), "codes": 5, "code_dim": 3, "hidden": (4, 8), "block_width": 4}
TINY |= {"prior_filters": 4, "prior_blocks": 2, "prior_begins": 1_000}
GAUSSIAN = {"likelihood": "gaussian", "scale": 1.0}
ROWS, RATE, SEED, BETA = 6, 0.05, 9, 0.4
IMAGES = np.random.default_rng(0).uniform(-1.0, 1.0, (ROWS, 8, 8, 1)).astype(np.float32)


def build(weights_seed=1, optimizer=SGD, rate=RATE, **arguments):
    """Weights large enough that vectors differ, and a codebook among them: several codes are used."""
    keras.utils.set_random_seed(weights_seed)
    model = VQVAE(**{**TINY, **arguments})
    random = np.random.default_rng(weights_seed)
    for network in (model.encoder, model.decoder, model.prior):
        network.set_weights([random.normal(0.0, 0.5, weight.shape) for weight in network.get_weights()])
    images = random.uniform(-1.0, 1.0, (model.code_count, *model.image_shape))
    vectors = np.reshape(model.encoder(images), (-1, model.codebook.codebook.shape[1]))
    chosen = vectors[random.choice(len(vectors), model.code_count, replace=False)]
    model.codebook.codebook.assign(chosen + 0.05 * random.normal(size=chosen.shape))
    if model.codebook.sums is not None:
        model.codebook.sums.assign(model.codebook.codebook / model.code_count)
    model.compile(seed=SEED, **{player: optimizer(rate) for player in model.players})
    return model


def values(variables):
    return [variable.numpy() for variable in variables]


# The autoencoder


@pytest.mark.parametrize("codebook", ["moving_average", "gradient"])
def test_one_step_is_the_formulas_written_out(fit, difference, float64, codebook):
    """The decoder's gradient by the codes goes to the encoder's vectors as it is, beside the commitment's own."""
    model = build(**GAUSSIAN, commitment_weight=BETA, codebook=codebook, codebook_decay=0.9)
    before = values(model.encoder.weights + model.decoder.weights)
    entries = model.codebook.codebook.numpy()
    images = tf.constant(IMAGES, tf.float64)
    with tf.GradientTape() as encoding:
        vectors = model.encoder(images)
    distances = np.linalg.norm(vectors.numpy()[..., None, :] - entries, axis=-1)
    codes = distances.argmin(axis=-1)
    assert len(np.unique(codes)) > 2
    quantized = tf.constant(entries[codes])
    with tf.GradientTape(persistent=True) as decoding:
        decoding.watch(quantized)
        errors = images - model.decoder(quantized)
        # -log N(x; values, 1), a pixel's mean, the mean over rows
        reconstruction = tf.reduce_mean(0.5 * tf.square(errors) + 0.5 * np.log(2 * np.pi))
    residual = vectors - quantized
    straight = decoding.gradient(reconstruction, quantized)
    upstream = straight + BETA * 2.0 * residual / tf.cast(tf.size(residual), tf.float64)
    gradients = encoding.gradient(vectors, model.encoder.trainable_weights, output_gradients=upstream)
    gradients += decoding.gradient(reconstruction, model.decoder.trainable_weights)
    history = fit(model, IMAGES)
    moved = [new - old for new, old in zip(values(model.encoder.weights + model.decoder.weights), before, strict=True)]
    assert difference(moved, [-RATE * gradient.numpy() for gradient in gradients]) < 1e-6
    commitment = float(tf.reduce_mean(tf.square(residual)))
    expected = {"reconstruction_loss": float(reconstruction), "commitment_loss": commitment}
    total = float(reconstruction) + BETA * commitment
    chosen = np.eye(5)[codes.reshape(-1)]
    counts = chosen.sum(axis=0)
    if codebook == "gradient":
        # d/de of the mean of (z - e)^2: of the vectors that chose e alone.
        gradient = -2.0 * chosen.T @ residual.numpy().reshape(-1, 3) / residual.numpy().size
        assert difference([model.codebook.codebook.numpy() - entries], [-RATE * gradient]) < 1e-6
        expected["codebook_loss"], total = commitment, total + commitment
    else:
        shares = 0.9 / 5 + 0.1 * counts / counts.sum()
        sums = 0.9 * entries / 5 + 0.1 * chosen.T @ vectors.numpy().reshape(-1, 3) / counts.sum()
        assert difference([model.codebook.codebook.numpy()], [sums / shares[:, None]]) < 1e-6
    for name, value in {**expected, "autoencoder_loss": total}.items():
        assert history[name] == [pytest.approx(value, rel=1e-5)]
    shares = counts[counts > 0] / counts.sum()
    assert history["perplexity"] == [pytest.approx(float(np.exp(-np.sum(shares * np.log(shares)))), rel=1e-5)]
    assert history["codes_used"] == [np.count_nonzero(counts)]


@pytest.mark.parametrize("codebook", ["moving_average", "gradient"])
def test_several_replicas_revive_the_codes_that_one_does(strategy_of, fit, difference, float64, codebook):
    found = []
    for replicas in (1, 2):
        with strategy_of(replicas).scope():
            model = build(codebook=codebook, codebook_decay=0.5, revive_below=0.9, usage_window=2)
        histories = [fit(model, image) for image in (IMAGES[:5], IMAGES[1:], IMAGES[:5])]
        revived = [history["revived_codes"][0] for history in histories]
        metrics = [np.array([history[name] for history in histories]) for name in sorted(histories[0])]
        state = values([*model.weights, *model.player_optimizers["autoencoder"].variables])
        found.append([*state, *metrics])
    assert 0 < sum(revived) < 3 * 5
    assert difference(found[1], found[0]) < 1e-7


@pytest.mark.parametrize("codebook", ["moving_average", "gradient"])
def test_a_run_that_is_killed_keeps_codebook_shares_and_use(fit, tmp_path, codebook):
    options = {"codebook": codebook, "codebook_decay": 0.5, "revive_below": 0.9, "usage_window": 3}
    model = build(optimizer=Adam, **options)
    fit(model, IMAGES, steps=3)
    path = model.state().save(str(tmp_path / "checkpoint"))
    resumed = build(weights_seed=2, optimizer=Adam, **options)
    resumed.state().restore(path).assert_consumed()
    kept = [*model.codebook.weights, *model.usage.weights]
    assert {variable.name for variable in kept} >= {"codebook", "shares", "last_used"}
    assert model.usage.last_used.numpy().max() == 3
    for one in (model, resumed):
        fit(one, IMAGES[::-1].copy(), steps=3)
    for one, other in zip(resumed.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)


def test_it_learns_to_give_images_back_by_many_codes(fit):
    """Bars at eight places and heights: constant images are the error of a code that says nothing."""
    keras.utils.set_random_seed(3)
    bars = np.full((64, 8, 8, 1), -1.0, np.float32)
    for number, bar in enumerate(bars):
        bar[: 1 + number // 8, number % 8] = 1.0
    options = {"codes": 32, "hidden": (16, 16), "revive_below": 0.1, "codebook_decay": 0.9}
    model = VQVAE(**{**TINY, **options})
    model.compile(seed=SEED, autoencoder=Adam(1e-2), prior=SGD(0.0))
    first = fit(model, bars)
    last = fit(model, bars, steps=200)
    found = {name: float(value) for name, value in model.diagnose({"image": bars}, {"image": bars}).items()}
    variance = float(np.mean(np.square(0.5 * (bars - bars.mean(axis=0)))))
    assert found["train_squared_error"] < 0.5 * variance
    assert last["reconstruction_loss"][0] < first["reconstruction_loss"][0]
    assert found["train_perplexity"] > 2 * first["perplexity"][0]  # from about 1
    assert 1.0 < found["train_perplexity"] < 32.0
    assert last["codes_used"][0] > first["codes_used"][0]


# The prior


def test_the_prior_learns_of_codes_that_stand_still(fit):
    """Until it begins it stays as it was; from then on nothing else moves."""
    model = build(prior_begins=2, optimizer=Adam, revive_below=0.9, codebook_decay=0.5)
    still, moving = values(model.prior.weights), values(model.variables_of("autoencoder"))
    history = fit(model, IMAGES, steps=2)
    assert "prior_loss" in history
    for one, other in zip(values(model.prior.weights), still, strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(
        (one != other).any() for one, other in zip(values(model.variables_of("autoencoder")), moving, strict=True)
    )
    networks = model.players["autoencoder"]
    frozen = [values(network.weights) for network in networks]
    optimizer = values(model.player_optimizers["autoencoder"].variables)
    codes = model.encode(IMAGES)
    before = model.log_prior(codes).numpy()
    history = fit(model, IMAGES, steps=20)
    for network, expected in zip(networks, frozen, strict=True):
        for one, other in zip(values(network.weights), expected, strict=True):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(values(model.player_optimizers["autoencoder"].variables), optimizer, strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.log_prior(codes).numpy().mean() > before.mean() + 1.0
    assert history["autoencoder_gradient_norm"] == [0.0]


def test_the_probabilities_of_all_codes_sum_to_one():
    model = build(codes=3)
    every = np.array(list(itertools.product(range(3), repeat=4)), np.int32).reshape(-1, 2, 2)
    log_prior = model.log_prior(every).numpy().astype(np.float64)
    assert np.exp(log_prior).sum() == pytest.approx(1.0, rel=1e-5)
    assert np.ptp(log_prior) > 1.0
    logits = model.prior(every[..., None]).numpy().astype(np.float64)[:, :, :, 0]
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = np.log(np.take_along_axis(shares, every[..., None], axis=-1)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(log_prior, expected, rtol=1e-5)


def test_sampling_in_one_graph_draws_what_code_after_code_does():
    model = build(image_shape=(12, 16, 1), prior_blocks=3)
    height, width = model.code_shape
    uniform = np.random.default_rng(5).uniform(size=(40, height, width)).astype(np.float32)
    codes = np.zeros((40, height, width, 1), np.int32)
    for row, column in itertools.product(range(height), range(width)):
        logits = model.prior(codes).numpy()[:, row, column, 0].astype(np.float64)
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        codes[:, row, column, 0] = (shares.cumsum(axis=1) <= uniform[:, row, column, None]).sum(axis=1)
    assert len(np.unique(codes)) == 5
    images = model.run_ability("generate", {"uniform": uniform})["image"]
    np.testing.assert_allclose(images, model.decode(codes[..., 0]), atol=1e-5)
    assert len(np.unique(images.reshape(40, -1).round(3), axis=0)) > 20


# Abilities


def test_decoding_codes_is_reconstructing_and_the_bound_is_of_both():
    model = build()
    codes = model.encode(IMAGES)
    assert (codes.shape, codes.dtype) == ((ROWS, 2, 2), np.int32)
    images = model.reconstruct(IMAGES)
    np.testing.assert_allclose(model.decode(codes), images, atol=1e-6)
    # What is exported rests on the codebook as it now is, not as it was when the graphs were made.
    model.codebook.codebook.assign(model.codebook.codebook[::-1])
    np.testing.assert_allclose(model.decode(4 - codes), images, atol=1e-6)
    model.codebook.codebook.assign(model.codebook.codebook[::-1])
    values_ = model.decoder(model.look_up(codes))
    expected = model.log_likelihood(IMAGES, values_).numpy() + model.log_prior(codes).numpy()
    found = model.log_prob(IMAGES)
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)
    assert found.name == "bound"
    (output,) = model.abilities()["log_prob"].card().outputs
    assert output.support == "levels"
    assert list(model.abilities()) == ["generate", "encode", "decode", "reconstruct", "log_prob"]


def test_the_graph_that_samples_has_no_loop_and_each_weight_about_once(tmp_path):
    model = build(image_shape=(16, 16, 1), codes=64, prior_filters=24)
    ability = model.abilities()["generate"]
    write_onnx(ability, tmp_path / "generate.onnx", rounded=False)
    graph = onnx.load(tmp_path / "generate.onnx").graph
    operations = Counter(node.op_type for node in graph.node)
    assert not operations.keys() & {"Loop", "If", "Scan"}
    assert operations["Gather"] >= 16  # an embedding for each of the sixteen codes
    stored = sum(numpy_helper.to_array(tensor).size for tensor in graph.initializer)
    weights = sum(network.count_params() for network in (model.prior, model.decoder)) + 64 * 3
    assert weights <= stored < 1.3 * weights


# Choices


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"usage_window": 0}, "usage_window=0: choose at least 1"),
        ({"prior_begins": 0}, "prior_begins=0: choose at least 1"),
        ({"commitment_weight": -1.0}, "commitment_weight=-1.0, blocks=2: choose numbers from 0"),
        ({"revive_below": 1.0}, "revive_below=1.0: choose a part of an even share"),
        ({"codebook": "adam"}, r"codebook='adam': choose from \['gradient', 'moving_average'\]"),
        ({"codebook_decay": 1.0}, "codebook_decay=1.0: choose 0 <= codebook_decay < 1"),
        ({"image_shape": (10, 8, 1)}, r"hidden=\(4, 8\), image_shape=\(10, 8, 1\): .*multiples of 4"),
        ({"prior_blocks": 1}, "prior_blocks=1: choose at least 2"),
        ({"codes": 1}, "codes=1: choose at least 2"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        VQVAE(**{**TINY, **arguments})


def test_what_is_recorded_depends_on_the_variant():
    names = {metric.name for metric in VQVAE(**TINY).metrics}
    assert not names & {"codebook_loss", "revived_codes"}
    more = {metric.name for metric in VQVAE(**TINY, codebook="gradient", revive_below=0.1).metrics}
    assert more - names == {"codebook_loss", "revived_codes"}
