"""GAN: every argument does what it says, down to the weights after one step written out with plain TensorFlow."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD

from zoo.core import context
from zoo.core.noise import Draws
from zoo.layers.dropout import Dropout
from zoo.layers.minibatch import MinibatchDiscrimination, MinibatchStddev
from zoo.layers.spectral_norm import SpectralNorm
from zoo.losses.adversarial import ADVERSARIAL_LOSSES
from zoo.models.gan import GAN

TINY = {"image_shape": (8, 8, 1), "latent_dim": 4, "width": 2}
ROWS, RATE, SEED = 6, 0.5, 9
IMAGES = np.random.default_rng(0).uniform(-1, 1, (ROWS, 8, 8, 1)).astype(np.float32)
IMAGE_PAIRS = np.random.default_rng(1).uniform(-1, 1, (ROWS, 2, 8, 8, 1)).astype(np.float32)


def compiled(**arguments):
    keras.utils.set_random_seed(1)
    model = GAN(**{**TINY, **arguments})
    for network in (model.generator, model.discriminator):
        network.set_weights([10 * weight for weight in network.get_weights()])  # away from the saddle at the start
    model.compile(seed=SEED, discriminator=SGD(RATE), generator=SGD(RATE))
    return model


def first_draws(step=0):
    return Draws(SEED, tf.constant(step, tf.int64), tf.range(ROWS, dtype=tf.int64))


def twin(model):
    copy = GAN(**model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def trainable(model):
    return [
        variable.numpy()
        for network in (model.discriminator, model.generator)
        for variable in network.trainable_variables
    ]


def log_sigmoid(logits):
    return tf.math.log_sigmoid(logits)


def discriminator_gradients(model, real, latents):
    """Of -E[log D(x)] - E[log(1 - D(G(z)))], G a constant."""
    fake = model.generator(latents, training=True)
    variables = model.discriminator.trainable_variables
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(log_sigmoid(model.discriminator(real, training=True)))
        loss -= tf.reduce_mean(log_sigmoid(-model.discriminator(fake, training=True)))
    return tape.gradient(loss, [variable.value for variable in variables]), variables


def generator_gradients(model, latents):
    """Of -E[log D(G(z))], through both networks on one tape."""
    variables = model.generator.trainable_variables
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(log_sigmoid(model.discriminator(model.generator(latents, training=True), training=True)))
    return tape.gradient(loss, [variable.value for variable in variables]), variables


def descend(gradients, variables):
    for gradient, variable in zip(gradients, variables, strict=True):
        variable.assign(variable - RATE * gradient)


def shared_by_hand(model, minibatches, draws):
    for real in minibatches:
        latents = draws.normal(4)
        descend(*discriminator_gradients(model, real, latents))
    descend(*generator_gradients(model, latents))  # D's last latents, D's new weights


def alternating_by_hand(model, minibatches, draws):
    for real in minibatches:
        descend(*discriminator_gradients(model, real, draws.normal(4)))
    descend(*generator_gradients(model, draws.normal(4)))  # fresh latents


def simultaneous_by_hand(model, minibatches, draws):
    *earlier, last = minibatches
    for real in earlier:
        descend(*discriminator_gradients(model, real, draws.normal(4)))
    latents = draws.normal(4)
    moves = (
        discriminator_gradients(model, last, latents),
        generator_gradients(model, latents),
    )  # both at the old weights
    for move in moves:
        descend(*move)


BY_HAND = {"shared": shared_by_hand, "alternating": alternating_by_hand, "simultaneous": simultaneous_by_hand}


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("schedule", BY_HAND)
def test_one_step_equals_the_schedule_written_with_two_plain_tapes(fit, difference, schedule, steps):
    model = compiled(schedule=schedule, discriminator_steps=steps)
    expected = {}
    for name, step in BY_HAND.items():
        copy = twin(model)
        step(copy, [IMAGES] if steps == 1 else [IMAGE_PAIRS[:, 0], IMAGE_PAIRS[:, 1]], first_draws())
        expected[name] = trainable(copy)
    fit(model, IMAGES if steps == 1 else IMAGE_PAIRS)
    distances = {name: difference(trainable(model), weights) for name, weights in expected.items()}
    assert distances.pop(schedule) < 1e-4
    assert min(distances.values()) > 1e-2  # and the other schedules end elsewhere


@pytest.mark.parametrize("steps", [1, 3])
def test_the_discriminator_is_updated_k_times_a_step(fit, steps):
    model = compiled(discriminator_steps=steps)
    fit(model, np.repeat(IMAGES[:, None], steps, axis=1), steps=2)
    iterations = {player: int(optimizer.iterations) for player, optimizer in model.player_optimizers.items()}
    assert iterations == {"discriminator": 2 * steps, "generator": 2}
    assert int(model.step) == 2


@pytest.mark.parametrize("steps", [2, 3])
def test_k_steps_need_k_images_a_row(fit, steps):
    shape = (ROWS, 8, 8, 1) if steps == 2 else (ROWS, 2, 8, 8, 1)
    message = rf"discriminator_steps={steps} takes images of shape \(batch, {steps}, height, width, channels\)"
    with pytest.raises(ValueError, match=message):
        fit(compiled(discriminator_steps=steps), np.zeros(shape, np.float32))


@pytest.mark.parametrize("loss", ADVERSARIAL_LOSSES)
def test_a_loss_is_its_pair_on_the_two_sides_logits(fit, loss):
    model = compiled(loss=loss, schedule="simultaneous")  # both sides at the weights before the step
    copy = twin(model)
    fake = copy.generator(first_draws().normal(4), training=True)
    real_logits, fake_logits = (copy.discriminator(side, training=True) for side in (IMAGES, fake))
    loss_pair = ADVERSARIAL_LOSSES[loss]
    history = fit(model, IMAGES)
    assert history["discriminator_loss"] == [
        pytest.approx(float(np.mean(loss_pair.discriminator(real_logits, fake_logits))), rel=1e-4)
    ]
    assert history["generator_loss"] == [pytest.approx(float(np.mean(loss_pair.generator(fake_logits))), rel=1e-4)]
    probabilities = loss in ("minimax", "non_saturating")
    score = tf.sigmoid if probabilities else tf.identity
    assert history["real_score"] == [pytest.approx(float(np.mean(score(real_logits))), rel=1e-4)]
    assert history["fake_score"] == [pytest.approx(float(np.mean(score(fake_logits))), rel=1e-4)]


@pytest.mark.parametrize(("prior", "low", "high"), [("uniform", -1.0, 1.0), ("normal", -np.inf, np.inf)])
def test_the_prior_feeds_training_and_the_exported_network_alike(prior, low, high):
    model = GAN(**{**TINY, "prior": prior, "latent_dim": 1000})
    expected = {"normal": first_draws().normal(1000), "uniform": first_draws().uniform(1000, low=-1.0, high=1.0)}[prior]
    np.testing.assert_array_equal(model.fakes(first_draws()), model.generator(expected, training=True))
    latent = model.abilities()["generate"].card().inputs[0]
    assert latent.feed == prior
    assert latent.range == (None if prior == "normal" else (low, high))


def test_the_average_follows_the_generator_batch_norm_included(fit):
    model = compiled(ema_decay=0.2)
    expected = [weight.numpy().astype(np.float64) for weight in model.generator_ema.weights]
    # min(0.2, (1 + t) / (10 + t)): 1/10, 2/11 = 0.18, then 3/12 = 0.25 is capped.
    for decay in (1 / 10, 2 / 11, 0.2):
        fit(model, IMAGES)
        expected = [
            decay * old + (1 - decay) * live.numpy()
            for old, live in zip(expected, model.generator.weights, strict=True)
        ]
    assert len(expected) == len(model.generator_ema.weights) == len(model.generator.weights)
    assert any("moving_variance" in weight.path for weight in model.generator_ema.weights)
    for average, value in zip(model.generator_ema.weights, expected, strict=True):
        np.testing.assert_allclose(average, value, rtol=1e-5, atol=1e-6, err_msg=average.path)
        assert not average.trainable


def test_the_average_starts_as_the_generator_and_is_what_gets_sampled():
    model = GAN(**TINY)
    for live, average in zip(model.generator.get_weights(), model.generator_ema.get_weights(), strict=True):
        np.testing.assert_array_equal(live, average)
    assert model.abilities()["generate"].network is model.generator_ema
    before = model.sample(2, output_type="float32")
    model.generator.set_weights([weight + 1 for weight in model.generator.get_weights()])
    np.testing.assert_array_equal(model.sample(2, output_type="float32"), before)


def test_without_a_decay_the_generator_itself_is_sampled(fit):
    model = compiled(ema_decay=None)
    assert model.generator_ema is model.generator
    assert model.abilities()["generate"].network is model.generator
    before = model.sample(2, output_type="float32")
    fit(model, IMAGES)
    assert np.abs(model.sample(2, output_type="float32") - before).max() > 1e-4


def test_diagnose_scores_both_sides_in_inference_mode():
    model = compiled()
    found = model.diagnose(IMAGES, -IMAGES)
    expected = {"train_score": IMAGES, "held_out_score": -IMAGES}
    assert set(found) == set(expected)
    for name, images in expected.items():
        logits = model.discriminator.predict(images, verbose=0)
        assert float(found[name]) == pytest.approx(float(np.mean(1 / (1 + np.exp(-logits)))), rel=1e-5)


def test_the_width_is_the_architectures_own_unless_given():
    own = GAN((8, 8, 1), latent_dim=4, architecture="mlp", ema_decay=None)
    assert own.generator.get_layer("hidden_1").units == 1200
    assert GAN(**TINY, architecture="mlp").discriminator.get_layer("maxout_1").units == 2
    wider = GAN(**TINY, architecture="mlp", discriminator_width=3)
    assert (wider.generator.get_layer("hidden_1").units, wider.discriminator.get_layer("maxout_1").units) == (2, 3)


def test_least_squares_takes_its_codes():
    model = GAN(**TINY, loss="least_squares", codes=(-1.0, 1.0, 0.0))
    images = np.random.default_rng(0).uniform(-1, 1, (3, *TINY["image_shape"])).astype(np.float32)
    logits = np.asarray(model.discriminator(images, training=True))
    rows, _ = model.discriminator_loss(images, images)
    np.testing.assert_allclose(rows, 0.5 * ((logits - 1) ** 2 + (logits + 1) ** 2)[:, 0], rtol=1e-4)
    np.testing.assert_allclose(model.generator_loss(images), 0.5 * logits[:, 0] ** 2, rtol=1e-4)


BAD_ARGUMENTS = {
    "architecture": ("vgg", r"architecture='vgg': choose from \['dcgan', 'mlp', 'resnet'\]"),
    "loss": ("wgan", r"loss='wgan': choose from \['hinge', 'least_squares'"),
    "codes": ((-1.0, 1.0, 0.0), r"codes=\(-1.0, 1.0, 0.0\), loss='non_saturating': least_squares takes three"),
    "schedule": ("random", r"schedule='random': choose from \['alternating', 'shared', 'simultaneous'\]"),
    "prior": ("cauchy", r"prior='cauchy': choose from \['normal', 'uniform'\]"),
    "latent_dim": (0, "latent_dim=0: choose at least 1"),
    "width": (0, "width=0: choose at least 1"),
    "discriminator_width": (-1, "discriminator_width=-1: choose at least 1"),
    "discriminator_steps": (0, "discriminator_steps=0: choose at least 1"),
    "ema_decay": (1.0, r"ema_decay=1.0: choose 0 <= ema_decay < 1, or None"),
    "image_shape": ((28, 28), r"image_shape=\(28, 28\): give \(height, width, channels\)"),
}


@pytest.mark.parametrize("argument", BAD_ARGUMENTS)
def test_a_bad_argument_is_named_with_the_good_ones(argument):
    value, message = BAD_ARGUMENTS[argument]
    with pytest.raises(ValueError, match=message):
        GAN(**{**TINY, argument: value})


def kinds(network):
    return {type(layer).__name__ for layer in network.layers}


@pytest.mark.parametrize(
    ("architecture", "norm", "kind", "count"),
    [
        ("dcgan", None, "BatchNorm", 1),
        ("dcgan", "batch", "BatchNorm", 1),
        ("dcgan", "layer", "LayerNorm", 1),
        ("dcgan", "spectral", "SpectralNorm", 3),
        ("dcgan", "none", None, 0),
        ("resnet", None, "SpectralNorm", 8),
        ("mlp", None, None, 0),
    ],
)
def test_a_discriminator_has_the_norm_that_was_asked_for_and_no_other(architecture, norm, kind, count):
    model = GAN((16, 16, 1), latent_dim=4, architecture=architecture, width=2, discriminator_norm=norm)
    found = [type(layer).__name__ for layer in model.discriminator.layers]
    assert [name for name in found if "Norm" in name] == [kind] * count
    assert ("BatchNorm" in kinds(model.generator)) == (architecture != "mlp")


@pytest.mark.parametrize("architecture", ["mlp", "resnet"])
@pytest.mark.parametrize("option", [{"discriminator_norm": "spectral"}, {"dropout": 0.5}, {"minibatch": "stddev"}])
def test_other_discriminators_take_no_options(architecture, option):
    message = f"architecture='{architecture}': its discriminator takes no (norm|dropout|minibatch)"
    with pytest.raises(ValueError, match=message):
        GAN((16, 16, 1), 4, architecture=architecture, width=2, **option)


def test_each_call_of_a_discriminator_in_a_step_is_one_power_iteration(fit, difference):
    model = compiled(discriminator_norm="spectral", schedule="alternating")
    copy = twin(model)
    layers = [layer for layer in copy.discriminator.layers if isinstance(layer, SpectralNorm)]
    before = {layer.name: layer.u.numpy() for layer in layers if layer.name != "logit"}  # one output: its u is 1 or -1
    alternating_by_hand(copy, [IMAGES], first_draws())  # D calls itself on two batches, G calls it on one
    fit(model, IMAGES)
    assert difference(model.discriminator.get_weights(), copy.discriminator.get_weights()) < 1e-4  # every u too
    assert difference(trainable(model), trainable(copy)) < 1e-4
    assert len(before) > 0
    for name, u in before.items():
        assert np.abs(copy.discriminator.get_layer(name).u - u / np.linalg.norm(u)).max() > 1e-3, name


# Options of the discriminator and paired losses, in a step

OPTIONS = {
    "dropout": ({"dropout": 0.5}, Dropout),
    "stddev": ({"minibatch": "stddev"}, MinibatchStddev),
    "discrimination": ({"minibatch": "discrimination"}, MinibatchDiscrimination),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_step_plays_against_the_discriminator_with_its_option(fit, difference, name):
    option, kind = OPTIONS[name]
    model = compiled(**option)
    assert sum(isinstance(layer, kind) for layer in model.discriminator.layers) == 1
    copy, draws = twin(model), first_draws()
    context.activate(draws)  # every call of D draws a mask of its own, in the order of the calls
    shared_by_hand(copy, [IMAGES], draws)
    context.deactivate()
    fit(model, IMAGES)
    assert difference(trainable(model), trainable(copy)) < 1e-4


@pytest.mark.parametrize("minibatch", ["none", "stddev", "discrimination"])
def test_only_minibatch_layers_let_a_logit_depend_on_other_rows(minibatch):
    model = compiled(discriminator_norm="none", minibatch=minibatch)
    others = np.concatenate([IMAGES[:1], IMAGES[1:] / 2])
    logits = [model.discriminator(images, training=True).numpy()[0, 0] for images in (IMAGES, others)]
    assert (abs(logits[0] - logits[1]) > 1e-3) == (minibatch != "none")


def relativistic(ahead, behind):
    return -tf.reduce_mean(log_sigmoid(ahead - behind))


def relativistic_average(ahead, behind):
    return -tf.reduce_mean(
        log_sigmoid(ahead - tf.reduce_mean(behind)) + log_sigmoid(tf.reduce_mean(ahead) - behind)
    )  # 1 - sigmoid(x) = sigmoid(-x)


PAIRED = {"relativistic": relativistic, "relativistic_average": relativistic_average}


def paired_by_hand(model, loss, real, latents):
    """D wants images ahead of samples, then G samples ahead of images: each is updated in turn."""
    for network, ahead in ((model.discriminator, "real"), (model.generator, "fake")):
        variables = network.trainable_variables
        with tf.GradientTape() as tape:
            logits = {
                "real": model.discriminator(real, training=True),
                "fake": model.discriminator(model.generator(latents, training=True), training=True),
            }
            total = loss(logits.pop(ahead), *logits.values())
        descend(tape.gradient(total, [variable.value for variable in variables]), variables)


@pytest.mark.parametrize("name", PAIRED)
def test_a_relativistic_step_compares_samples_with_images_on_both_sides(fit, difference, name):
    model = compiled(loss=name)
    ends = {}
    for loss in PAIRED:
        ends[loss] = twin(model)
        paired_by_hand(ends[loss], PAIRED[loss], IMAGES, first_draws().normal(4))
    fakes = model.generator(first_draws().normal(4), training=True)
    real, fake = (model.discriminator(side, training=True).numpy() for side in (IMAGES, fakes))
    history = fit(model, IMAGES)
    assert difference(trainable(model), trainable(ends.pop(name))) < 1e-4
    (other,) = ends.values()
    assert difference(trainable(model), trainable(other)) > 1e-3
    assert history["discriminator_accuracy"] == [pytest.approx(np.mean(real > fake))]
