"""Autoencoder: a step written out by hand, what each variant promises shown by short runs, corruption, what is refused.

The short runs are of bars: images of 8x8 in which one row and one column are bright, each by an amount of its own.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD, Adam

from zoo.core.noise import Draws
from zoo.layers.dropout import Dropout
from zoo.losses.penalties import contraction
from zoo.models.autoencoder import Autoencoder, add_noise, mask_pixels

TINY = {"image_shape": (8, 8, 1), "code_dim": 4, "hidden": (6,)}
ROWS, RATE, SEED = 5, 0.05, 9
IMAGES = np.random.default_rng(0).uniform(-1.0, 1.0, (ROWS, 8, 8, 1)).astype(np.float32)


def bars(count, seed):
    random = np.random.default_rng(seed)
    brightness = np.zeros((count, 8, 8, 1))
    images = np.arange(count)
    brightness[images, random.integers(8, size=count)] = random.uniform(0.5, 1.0, (count, 1, 1))
    columns = random.integers(8, size=count)
    brightness[images, :, columns] = np.maximum(brightness[images, :, columns], random.uniform(0.5, 1.0, (count, 1, 1)))
    return (2.0 * brightness - 1.0).astype(np.float32)


BARS, OTHER_BARS = bars(256, 1), bars(256, 2)


def trained(fit, steps, rate=0.01, **arguments):
    keras.utils.set_random_seed(1)
    model = Autoencoder(**{"image_shape": (8, 8, 1), "code_dim": 16, "hidden": (), **arguments})
    model.compile(seed=SEED, autoencoder=Adam(rate))
    fit(model, BARS, steps=steps)
    return model


def error(images, other):
    """The mean over pixels and images of the squared difference, of brightness from 0 to 1."""
    return float(np.mean(np.square(0.5 * (images - other))))


MEAN_IMAGE = error(OTHER_BARS, BARS.mean(axis=0))  # what an autoencoder reaches whose codes say nothing


def first_draws(rows=ROWS):
    return Draws(SEED, tf.constant(0, tf.int64), tf.range(rows, dtype=tf.int64))


# The step

VARIANTS = {
    "plain": {},
    "denoising, sparse and contractive": {
        "corruption": "gaussian",
        "corruption_level": 0.2,
        "code_activation": "sigmoid",
        "sparsity": "kl",
        "sparsity_target": 0.1,
        "sparsity_weight": 0.7,
        "contraction_weight": 0.3,
    },
    "masked, dropout, l1 and contractive": {
        "corruption": "masking",
        "corruption_level": 0.4,
        "code_activation": "sigmoid",
        "loss": "binary_cross_entropy",
        "dropout": 0.5,
        "sparsity": "l1",
        "sparsity_weight": 0.2,
        "contraction_weight": 0.5,
    },
}


def sigmoid(x):
    return 1.0 / (1.0 + tf.exp(-x))


def corrupted_by_hand(draws, kind="none", level=0.0):
    if kind == "gaussian":
        return np.clip(IMAGES + 2.0 * level * draws.normal(8, 8, 1).numpy(), -1.0, 1.0)
    if kind == "masking":
        return np.where(draws.uniform(8, 8, 1).numpy() < level, np.float32(-1.0), IMAGES)
    return IMAGES


def step_by_hand(weights, arguments):
    """Weights after one step of SGD and what was recorded, by formulas of the one hidden layer on each side.

    Draws in this order: corruption, dropout of encoder and decoder, dropout of the pass whose Jacobian is taken.
    """
    draws, rate = first_draws(), arguments.get("dropout", 0.0)
    corrupted = corrupted_by_hand(
        draws, arguments.get("corruption", "none"), arguments.get("corruption_level", 0.0)
    ).reshape(ROWS, 64)
    kept = [tf.cast(draws.uniform(6) >= rate, tf.float32) / (1 - rate) if rate else 1.0 for _ in range(3)]
    activation = sigmoid if "code_activation" in arguments else tf.identity
    target = 0.5 * (IMAGES.reshape(ROWS, 64) + 1.0)
    variables = [tf.Variable(weight) for weight in weights]
    with tf.GradientTape() as tape:
        a, a_bias, w, w_bias, v, v_bias, b, b_bias = variables
        hidden = tf.tanh(corrupted @ a + a_bias)
        codes = activation((kept[0] * hidden) @ w + w_bias)
        given_back = sigmoid(kept[1] * tf.tanh(codes @ v + v_bias) @ b + b_bias)
        if arguments.get("loss") == "binary_cross_entropy":
            cost = -target * tf.math.log(given_back) - (1 - target) * tf.math.log(1 - given_back)
        else:
            cost = (target - given_back) ** 2
        recorded = {"reconstruction_loss": tf.reduce_mean(tf.reduce_sum(cost, 1))}
        loss = recorded["reconstruction_loss"]
        if arguments.get("sparsity") == "kl":
            rho, mean = arguments["sparsity_target"], tf.reduce_mean(codes, 0)
            divergence = rho * tf.math.log(rho / mean) + (1 - rho) * tf.math.log((1 - rho) / (1 - mean))
            recorded["sparsity"] = tf.reduce_sum(divergence)
        if arguments.get("sparsity") == "l1":
            recorded["sparsity"] = tf.reduce_mean(tf.reduce_sum(tf.abs(codes), 1))
        if "contraction_weight" in arguments:
            again = sigmoid((kept[2] * hidden) @ w + w_bias)
            inner = (1 - hidden**2) * kept[2]  # by what the hidden layer takes
            jacobian = tf.einsum("ih,rh,hj,rj->rij", a, inner, w, again * (1 - again))
            recorded["contraction"] = tf.reduce_mean(tf.reduce_sum(jacobian**2, (1, 2)))
            loss += arguments["contraction_weight"] * recorded["contraction"]
        if "sparsity" in recorded:
            loss += arguments["sparsity_weight"] * recorded["sparsity"]
    gradients = tape.gradient(loss, variables)
    after = [variable - RATE * gradient for variable, gradient in zip(variables, gradients, strict=True)]
    return after, {"loss": loss, **recorded}


@pytest.mark.parametrize("name", VARIANTS)
def test_one_step_equals_the_formulas_written_out(fit, difference, name):
    keras.utils.set_random_seed(1)
    model = Autoencoder(**TINY, activation="tanh", **VARIANTS[name])
    random = np.random.default_rng(3)
    networks = (model.encoder, model.decoder)
    for network in networks:
        network.set_weights([random.normal(0.0, 0.3, weight.shape) for weight in network.get_weights()])
    before = [weight for network in networks for weight in network.get_weights()]
    model.compile(seed=SEED, autoencoder=SGD(RATE))
    history = fit(model, IMAGES)
    after = [weight for network in networks for weight in network.get_weights()]
    expected, recorded = step_by_hand(before, VARIANTS[name])
    moved = [[new - old for new, old in zip(side, before, strict=True)] for side in (after, expected)]
    assert difference(*moved) < 1e-4
    assert {key: value for key, (value,) in history.items() if not key.endswith("norm")} == {
        key: pytest.approx(float(value), rel=1e-5) for key, value in recorded.items()
    }


# What the variants are for


def test_an_autoencoder_learns_to_give_back_images_it_has_not_seen(fit):
    model = trained(fit, 250, hidden=(64,))
    found = model.diagnose({"image": BARS}, {"image": OTHER_BARS})
    assert error(model.reconstruct(OTHER_BARS), OTHER_BARS) < 0.2 * MEAN_IMAGE
    assert float(found["held_out_squared_error"]) == pytest.approx(
        error(model.reconstruct(OTHER_BARS), OTHER_BARS), rel=1e-4
    )
    assert float(found["train_squared_error"]) == pytest.approx(error(model.reconstruct(BARS), BARS), rel=1e-4)


def test_a_denoising_autoencoder_takes_noise_away_and_a_plain_one_less_of_it(fit):
    noise = tf.constant(np.random.default_rng(5).normal(size=OTHER_BARS.shape), tf.float32)
    dirty = np.clip(OTHER_BARS + 2 * 0.25 * noise, -1.0, 1.0)
    identity = error(dirty, OTHER_BARS)
    assert 0.025 < identity < 0.0625  # less than 0.25^2, since most pixels are black and noise is clipped there
    denoising, plain = (
        error(trained(fit, 250, hidden=(64,), code_dim=32, corruption=corruption).reconstruct(dirty), OTHER_BARS)
        for corruption in ("gaussian", "none")
    )
    assert denoising < 0.3 * identity
    assert denoising < 0.7 * plain


def test_the_divergence_brings_the_mean_activation_to_its_rate(fit):
    """Every unit's mean over the batch within 0.02 of 0.1, from about 0.5 at the start."""
    sigmoid_codes = {"code_activation": "sigmoid", "sparsity_target": 0.1}
    sparse = trained(fit, 250, sparsity="kl", sparsity_weight=10.0, **sigmoid_codes)
    rates = sparse.encode(BARS).mean(axis=0)
    np.testing.assert_allclose(rates, 0.1, atol=0.02)
    free = trained(fit, 250, **sigmoid_codes)
    assert free.encode(BARS).mean() > 0.3
    assert error(sparse.reconstruct(BARS), BARS) < 0.8 * MEAN_IMAGE  # and the codes still say something


def test_an_l1_penalty_silences_units(fit):
    silent = []
    for sparsity in ("l1", "none"):
        model = trained(fit, 250, code_dim=32, code_activation="relu", sparsity=sparsity, sparsity_weight=0.3)
        silent.append(float(np.mean(model.encode(BARS) < 1e-3)))
        assert error(model.reconstruct(BARS), BARS) < 0.7 * MEAN_IMAGE
    assert silent[0] > silent[1] + 0.2


def test_a_contractive_encoder_is_less_steep(fit):
    steepness, errors = [], []
    for weight in (1.0, 0.0):
        model = trained(fit, 250, code_activation="sigmoid", contraction_weight=weight)
        steepness.append(float(np.mean(contraction(model.encoder, tf.constant(OTHER_BARS)))))
        errors.append(error(model.reconstruct(OTHER_BARS), OTHER_BARS))
    assert steepness[0] < 0.5 * steepness[1]
    assert errors[0] < 0.8 * MEAN_IMAGE


# Corruption


def test_masking_blackens_its_share_of_pixels_in_all_channels():
    images = np.random.default_rng(0).uniform(-0.9, 0.9, (200, 16, 12, 3)).astype(np.float32)
    found = np.asarray(mask_pixels(tf.constant(images), first_draws(200), 0.3))
    black = (found == -1.0).any(axis=3)
    # 38,400 pixels: a standard error of sqrt(0.3 * 0.7 / 38400) = 0.0023.
    assert np.mean(black) == pytest.approx(0.3, abs=0.01)
    np.testing.assert_array_equal(found, np.where(black[..., None], np.float32(-1.0), images))
    assert len({image.tobytes() for image in black}) == 200  # each image has pixels of its own


def test_noise_has_its_deviation_of_brightness_and_stays_in_range():
    gray = tf.zeros((200, 16, 12, 3))
    found = 0.5 * np.asarray(add_noise(gray, first_draws(200), 0.1))  # half: brightness runs over 1, images over 2
    # 115,200 values: a standard error of 0.1 / sqrt(2 * 115200) = 0.0002; 0.5 is five deviations away.
    assert np.std(found) == pytest.approx(0.1, abs=0.001)
    assert np.mean(found) == pytest.approx(0.0, abs=0.002)
    loud = np.asarray(add_noise(gray, first_draws(200), 1.0))
    assert (loud.min(), loud.max()) == (-1.0, 1.0)
    np.testing.assert_array_equal(add_noise(gray, first_draws(200), 0.0), gray)


@pytest.mark.parametrize("corruption", ["gaussian", "masking"])
def test_only_training_sees_corrupted_images(fit, corruption):
    """With a learning rate of 0 the training loss is that of corrupted images; nothing else is."""
    losses, found = [], []
    for kind in (corruption, "none"):
        keras.utils.set_random_seed(1)
        model = Autoencoder(**TINY, corruption=kind, corruption_level=0.5, dropout=0.0)
        model.compile(seed=SEED, autoencoder=SGD(0.0))
        losses += fit(model, IMAGES)["loss"]
        diagnosis = model.diagnose({"image": IMAGES}, {"image": -IMAGES})
        found.append([model.encode(IMAGES), model.reconstruct(IMAGES), *map(float, diagnosis.values())])
    assert abs(losses[0] - losses[1]) > 1e-3
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


# Abilities


@pytest.mark.parametrize("architecture", ["dense", "convolutional"])
def test_decoding_a_code_is_reconstructing(architecture):
    model = Autoencoder((8, 12, 3), code_dim=5, architecture=architecture, hidden=(4, 6), dropout=0.5)
    images = np.random.default_rng(0).uniform(-1.0, 1.0, (3, 8, 12, 3)).astype(np.float32)
    codes = model.encode(images)
    assert codes.shape == (3, 5)
    given_back = model.reconstruct(images)
    assert given_back.shape == images.shape
    np.testing.assert_allclose(model.decode(codes), given_back, atol=1e-6)
    assert list(model.abilities()) == ["reconstruct", "encode", "decode"]
    with pytest.raises(ValueError, match="Autoencoder can't log_prob: its abilities are reconstruct, encode, decode"):
        model.log_prob(images)


def test_images_lie_between_black_and_white_and_the_error_is_of_brightness():
    model = Autoencoder(**TINY)
    bias = model.decoder.weights[-1]
    for logit, image in ((-50.0, -1.0), (0.0, 0.0), (50.0, 1.0)):
        bias.assign(np.full(64, logit))
        np.testing.assert_allclose(model.decode(np.zeros((1, 4), np.float32)), np.full((1, 8, 8, 1), image), atol=1e-6)
    # White is given back of everything: of black 1 away, of mid-gray 1/2.
    black, gray = np.full((2, 8, 8, 1), -1.0, np.float32), np.zeros((3, 8, 8, 1), np.float32)
    found = model.diagnose({"image": black}, {"image": gray})
    assert {name: float(value) for name, value in found.items()} == {
        "train_squared_error": pytest.approx(1.0),
        "held_out_squared_error": pytest.approx(0.25),
    }


# Choices


def dropouts(model):
    return [
        layer.rate
        for network in (model.encoder, model.decoder)
        for layer in network.layers
        if isinstance(layer, Dropout)
    ]


@pytest.mark.parametrize("architecture", ["dense", "convolutional"])
def test_dropout_is_after_every_hidden_layer_or_nowhere(architecture):
    options = {**TINY, "hidden": (4, 6), "architecture": architecture}
    assert dropouts(Autoencoder(**options, dropout=0.3)) == [0.3] * 4
    assert dropouts(Autoencoder(**options)) == []


@pytest.mark.parametrize(
    ("arguments", "columns"),
    [
        ({}, []),
        ({"sparsity": "l1"}, ["sparsity"]),
        ({"sparsity": "kl", "code_activation": "sigmoid", "contraction_weight": 0.1}, ["sparsity", "contraction"]),
    ],
)
def test_a_term_is_recorded_where_there_is_one(arguments, columns):
    model = Autoencoder(**{**TINY, **arguments})
    names = [metric.name for metric in model.metrics]
    assert names == ["loss", "reconstruction_loss", *columns, "autoencoder_gradient_norm"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": (8, 8)}, r"image_shape=\(8, 8\): give \(height, width, channels\)"),
        ({"architecture": "unet"}, r"architecture='unet': choose from \['convolutional', 'dense'\]"),
        ({"loss": "l2"}, r"loss='l2': choose from \['binary_cross_entropy', 'squared_error'\]"),
        ({"corruption": "salt"}, r"corruption='salt': choose from \['gaussian', 'masking', 'none'\]"),
        ({"sparsity": "l2"}, r"sparsity='l2': choose from \['kl', 'l1', 'none'\]"),
        ({"corruption_level": -0.1}, r"corruption_level=-0.1: choose a deviation >= 0, or a share < 1"),
        ({"corruption": "masking", "corruption_level": 1.0}, r"corruption_level=1.0: choose .* a share < 1"),
        ({"sparsity_target": 0.0}, r"sparsity_target=0.0, .*choose a target between 0 and 1"),
        ({"sparsity_target": 1.0}, r"sparsity_target=1.0, .*choose a target between 0 and 1"),
        ({"sparsity_weight": -1.0}, r"sparsity_weight=-1.0, .*weights >= 0"),
        ({"contraction_weight": -1.0}, r"contraction_weight=-1.0: .*weights >= 0"),
        ({"sparsity": "kl"}, r"code_activation='linear': sparsity=\"kl\" compares rates, choose \"sigmoid\""),
        ({"hidden": (), "dropout": 0.5}, r"dropout=0.5: it follows hidden layers, and hidden=\(\) has none"),
        ({"dropout": 1.0}, r"rate=1.0: a dropout rate lies in \[0, 1\)"),
        (
            {"architecture": "convolutional", "hidden": (4, 4, 4, 4)},
            r"hidden=\(4, 4, 4, 4\), image_shape=\(8, 8, 1\): .*multiples of 16",
        ),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Autoencoder(**{**TINY, **arguments})
