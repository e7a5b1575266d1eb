"""Regularization: what each option does to a whole train step, against the same step written with plain tapes."""

import json
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD, Adam, LossScaleOptimizer

from zoo.core import context
from zoo.core.batch import images_of
from zoo.core.noise import Draws
from zoo.core.precision import computing_in
from zoo.core.step import compute_gradients
from zoo.layers.augmentation import differentiable_augment, next_probability
from zoo.layers.spectral_norm import SpectralNorm
from zoo.losses import regularization as regularization_module
from zoo.losses.adversarial import ADVERSARIAL_LOSSES
from zoo.losses.regularization import Regularization
from zoo.models.conditional_gan import ConditionalGAN
from zoo.models.gan import GAN
from zoo.models.wgan import WGAN

TINY = {"image_shape": (8, 8, 1), "latent_dim": 4, "width": 2, "discriminator_norm": "none"}
ROWS, RATE, SEED = 6, 0.1, 9
IMAGES = np.random.default_rng(0).uniform(-1, 1, (ROWS, 8, 8, 1)).astype(np.float32)
IMAGE_PAIRS = np.random.default_rng(1).uniform(-1, 1, (ROWS, 2, 8, 8, 1)).astype(np.float32)
POLICY = "color,translation,cutout"
LABELS = np.arange(ROWS) % 3

R1, R2, PENALTY, DRAGAN, SMOOTHING, NOISE, NOISE_STEPS, MATCHING, HISTORY = 2.0, 3.0, 0.5, 0.7, 0.2, 0.3, 10, 0.4, 0.05
GRADIENT_PENALTIES = {"r1": R1, "r2": R2, "gradient_penalty": PENALTY, "dragan": DRAGAN}
REST = {
    "label_smoothing": SMOOTHING,
    "instance_noise": NOISE,
    "instance_noise_steps": NOISE_STEPS,
    "augment": POLICY,
    "augment_target": 0.6,
    "feature_matching": MATCHING,
    "historical_averaging": HISTORY,
}
EVERYTHING = {**GRADIENT_PENALTIES, **REST}
CLIPPED = {**EVERYTHING, "weight_clipping": 0.05}
CONDITIONAL = {**REST, "r1": R1, "weight_clipping": 0.05}
NEED_SCORES = ("label_smoothing", "augment_target")
WASSERSTEIN = {name: value for name, value in EVERYTHING.items() if name not in ("gradient_penalty", *NEED_SCORES)}


def away_from_start(model, factor=5.0):
    """Weights away from the saddle at the start; the averages of their history stay behind."""
    for player in model.players:
        for variable in model.variables_of(player):
            variable.assign(factor * variable)
    if model.regularization.probability is not None:
        model.regularization.probability.assign(0.5)
    return model


def compiled(options=None, rate=RATE, **arguments):
    keras.utils.set_random_seed(1)
    model = away_from_start(GAN(**{**TINY, **arguments, **(options or {})}))
    model.compile(seed=SEED, discriminator=SGD(rate), generator=SGD(rate))
    return model


def step(model, images=IMAGES):
    """One train step, not compiled: the metrics."""
    context.deactivate()
    found = model.train_step({"image": tf.constant(images), "row": tf.range(ROWS, dtype=tf.int64), "label": LABELS})
    model.step.assign_add(1)
    return {name: float(value) for name, value in found.items()}


def draws_of(step=0):
    return Draws(SEED, tf.constant(step, tf.int64), tf.range(ROWS, dtype=tf.int64))


def twin(model):
    copy = GAN(**model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def trainable(model, *players):
    return [v.numpy() for player in players or model.players for v in model.variables_of(player)]


# A step by hand: Algorithm 1 of the paper with two tapes, and each regularization's equation


def discriminator_input(images, options, draws):
    """Augmented with probability 1/2 or always, then with noise of step 0."""
    if "augment" in options:
        images = differentiable_augment(images, draws, POLICY, 0.5 if "augment_target" in options else None)
    return images + NOISE * draws.normal(8, 8, 1) if "instance_noise" in options else images


def squared_gradient_norms(discriminator, images):
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = discriminator(images, training=True)
    return tf.reduce_sum(tf.reshape(tape.gradient(logits, images), (ROWS, -1)) ** 2, axis=1)


def penalty_between(discriminator, real, fake, mix):
    share = tf.reshape(mix, (ROWS, 1, 1, 1))
    norms = tf.sqrt(squared_gradient_norms(discriminator, (1 - share) * real + share * fake))
    return PENALTY * tf.reduce_mean((norms - 1) ** 2)


def penalties(discriminator, real, fake, options, draws):
    total = 0.0
    if "r1" in options:
        total += R1 / 2 * tf.reduce_mean(squared_gradient_norms(discriminator, real))
    if "r2" in options:
        total += R2 / 2 * tf.reduce_mean(squared_gradient_norms(discriminator, fake))
    if "gradient_penalty" in options:
        total += penalty_between(discriminator, real, fake, draws.uniform())
    if "dragan" in options:
        near = real + 0.5 * np.std(real) * draws.normal(8, 8, 1)
        total += DRAGAN * tf.reduce_mean((tf.sqrt(squared_gradient_norms(discriminator, near)) - 1) ** 2)
    return total


def matching(discriminator, real, fake):
    features = keras.Model(discriminator.input, discriminator.get_layer("flatten").output)
    means = [tf.reduce_mean(features(side), axis=0) for side in (real, fake)]
    return MATCHING * tf.reduce_sum((means[0] - means[1]) ** 2)


def weight_penalty(model, player, options):
    if "historical_averaging" not in options:
        return 0.0
    averages = model.regularization.histories[player]
    squares = [
        tf.reduce_sum((variable.value - average.numpy()) ** 2)
        for variable, average in zip(model.variables_of(player), averages, strict=True)
    ]
    return HISTORY * tf.add_n(squares)


def discriminator_gradients(model, real, latents, options, draws):
    fake = model.generator(latents, training=True)
    with tf.GradientTape() as tape:
        real, fake = discriminator_input(tf.constant(real), options, draws), discriminator_input(fake, options, draws)
        real_logits, fake_logits = (model.discriminator(side, training=True) for side in (real, fake))
        target = 1 - SMOOTHING if "label_smoothing" in options else 1.0
        answers = tf.sigmoid(real_logits)
        loss = -tf.reduce_mean(target * tf.math.log(answers) + (1 - target) * tf.math.log(1 - answers))
        loss -= tf.reduce_mean(tf.math.log_sigmoid(-fake_logits))
        loss += penalties(model.discriminator, real, fake, options, draws) + weight_penalty(
            model, "discriminator", options
        )
    return gradients(tape, loss, model, "discriminator")


def generator_gradients(model, real, latents, options, draws):
    with tf.GradientTape() as tape:
        fake = discriminator_input(model.generator(latents, training=True), options, draws)
        loss = -tf.reduce_mean(tf.math.log_sigmoid(model.discriminator(fake, training=True)))
        if "feature_matching" in options:
            loss += matching(model.discriminator, discriminator_input(real, options, draws), fake)
        loss += weight_penalty(model, "generator", options)
    return gradients(tape, loss, model, "generator")


def gradients(tape, loss, model, player):
    variables = model.variables_of(player)
    return list(zip(tape.gradient(loss, [variable.value for variable in variables]), variables, strict=True))


def descend(updates):
    for gradient, variable in updates:
        variable.assign(variable - RATE * gradient)


def step_by_hand(model, minibatches, options, schedule="shared"):
    draws = draws_of()
    for real in minibatches[:-1]:
        descend(discriminator_gradients(model, real, draws.normal(4), options, draws))
    latents = draws.normal(4)
    updates = discriminator_gradients(model, minibatches[-1], latents, options, draws)
    if schedule != "simultaneous":
        descend(updates)
        updates = []
    if schedule == "alternating":
        latents = draws.normal(4)
    updates += generator_gradients(model, minibatches[-1], latents, options, draws)
    descend(updates)


EACH_ALONE = {
    **{name: {name: weight} for name, weight in GRADIENT_PENALTIES.items()},
    "label_smoothing": {"label_smoothing": SMOOTHING},
    "instance_noise": {"instance_noise": NOISE},
    "augment": {"augment": POLICY},
    "adaptive": {"augment": POLICY, "augment_target": 0.6},
    "feature_matching": {"feature_matching": MATCHING},
    "historical_averaging": {"historical_averaging": HISTORY},
}


@pytest.mark.parametrize("name", EACH_ALONE)
def test_a_step_with_one_option_equals_the_step_by_hand(name, difference):
    model = compiled(EACH_ALONE[name])
    ends = {}
    for options in (EACH_ALONE[name], {}):
        copy = twin(model)
        step_by_hand(copy, [IMAGES], options)
        ends[bool(options)] = copy
    step(model)
    assert difference(trainable(model), trainable(ends[True])) < 1e-4
    moved = {
        player: difference(trainable(model, player), trainable(ends[False], player)) > 1e-3 for player in model.players
    }
    assert moved == {"discriminator": name != "feature_matching", "generator": True}  # G learns from D's new weights


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("schedule", ["shared", "alternating", "simultaneous"])
def test_all_options_together_in_every_schedule(schedule, steps, difference):
    model = compiled(EVERYTHING, schedule=schedule, discriminator_steps=steps)
    images, minibatches = (IMAGES, [IMAGES]) if steps == 1 else (IMAGE_PAIRS, [IMAGE_PAIRS[:, 0], IMAGE_PAIRS[:, 1]])
    copy = twin(model)
    step_by_hand(copy, minibatches, EVERYTHING, schedule)
    step(model, images)
    assert difference(trainable(model), trainable(copy)) < 1e-4


# The same of a WGAN


def wasserstein(**arguments):
    arguments = {"constraint": "gradient_penalty", "penalty_weight": PENALTY, "critic_steps": 1, **arguments}
    return WGAN((8, 8, 1), 4, 2, **arguments)


def step_of_wgan_by_hand(model, minibatches, options):
    draws = draws_of()
    for real in minibatches:
        latents, mix = draws.normal(4), draws.uniform()
        fake = model.generator(latents, training=True)
        with tf.GradientTape() as tape:
            both = [discriminator_input(tf.constant(side), options, draws) for side in (real, fake)]
            loss = tf.reduce_mean(model.critic(both[1], training=True) - model.critic(both[0], training=True))
            loss += penalties(model.critic, *both, options, draws) + weight_penalty(model, "critic", options)
            loss += penalty_between(model.critic, *both, mix)
        descend(gradients(tape, loss, model, "critic"))
    latents = draws.normal(4)
    with tf.GradientTape() as tape:
        fake = discriminator_input(model.generator(latents, training=True), options, draws)
        loss = -tf.reduce_mean(model.critic(fake, training=True)) + weight_penalty(model, "generator", options)
        if "feature_matching" in options:
            loss += matching(model.critic, discriminator_input(tf.constant(minibatches[-1]), options, draws), fake)
    descend(gradients(tape, loss, model, "generator"))


@pytest.mark.parametrize("steps", [1, 2])
def test_a_critic_takes_the_options_of_a_discriminator(steps, difference):
    images, minibatches = (IMAGES, [IMAGES]) if steps == 1 else (IMAGE_PAIRS, [IMAGE_PAIRS[:, 0], IMAGE_PAIRS[:, 1]])
    keras.utils.set_random_seed(1)
    model = away_from_start(wasserstein(critic_steps=steps, **WASSERSTEIN))
    model.compile(seed=SEED, critic=SGD(RATE), generator=SGD(RATE))
    ends = {}
    for left_out in (None, *WASSERSTEIN):
        options = {name: value for name, value in WASSERSTEIN.items() if name != left_out}
        copy = WGAN(**model.get_config())
        copy.set_weights(model.get_weights())
        step_of_wgan_by_hand(copy, minibatches, options)
        ends[left_out] = trainable(copy)
    step(model, images)
    distances = {left_out: difference(trainable(model), end) for left_out, end in ends.items()}
    assert distances.pop(None) < 1e-4
    assert distances.pop("instance_noise_steps") < 1e-4  # the first step has all of the noise
    assert min(distances.values()) > 1e-3, distances


# What changes from step to step


def test_instance_noise_falls_to_nothing_in_a_straight_line(difference):
    regularization = Regularization(instance_noise=0.4, instance_noise_steps=10)
    still = np.zeros((ROWS, 40, 40, 3), np.float32)
    for done, deviation in ((0, 0.4), (5, 0.2), (9, 0.04), (10, 0.0), (11, 0.0)):
        context.activate(draws_of(done))
        found = regularization.augment(still, tf.constant(done, tf.int64)).numpy()
        assert found.std() == pytest.approx(deviation, rel=0.02)
    ends = []
    for options in ({"instance_noise": 0.4, "instance_noise_steps": 10}, {}):
        model = compiled(options)
        model.step.assign(10)
        step(model)
        ends.append(trainable(model))
    assert difference(*ends) == 0.0


def test_images_and_samples_are_augmented_alike_by_numbers_of_their_own():
    regularization, images = Regularization(augment=POLICY), tf.constant(IMAGES)
    context.activate(draws_of())
    real, fake = regularization.augment(images, 0), regularization.augment(images, 0)
    draws = draws_of()
    for found in (real, fake):
        np.testing.assert_array_equal(found, differentiable_augment(images, draws, POLICY))
    assert np.abs(real - fake).max(axis=(1, 2, 3)).min() > 0.1  # each of them another way


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(("logit", "way"), [(100.0, 1), (-100.0, -1)])
def test_the_probability_follows_how_sure_d_is_of_images(logit, way, steps):
    model = compiled({"augment": "translation", "augment_target": 0.6}, rate=1e-12, discriminator_steps=steps)
    model.discriminator.get_layer("logit").bias.assign([logit])
    for done in (1, 2, 3):
        found = step(model, IMAGES if steps == 1 else IMAGE_PAIRS)
        expected = 0.5 + way * done * steps * ROWS / 500_000
        assert float(model.regularization.probability) == pytest.approx(expected, abs=1e-7)
        assert abs(expected - 0.5) > 1e-6
    first, last = sorted((0.5, expected))
    assert first < found["augment_probability"] < last  # their mean
    model.regularization.probability.assign(0.0 if way < 0 else 1.0)
    step(model, IMAGES if steps == 1 else IMAGE_PAIRS)
    assert float(model.regularization.probability) == (0.0 if way < 0 else 1.0)


@pytest.mark.parametrize("target", [0.6, 0.3])
def test_the_probability_settles_where_an_overfitting_discriminator_meets_the_target(fit, monkeypatch, target):
    """Images and samples are noise alike: D can only memorize its 16 images, and less of them the more they change."""
    monkeypatch.setattr(regularization_module, "next_probability", partial(next_probability, horizon=4_000))
    keras.utils.set_random_seed(1)
    options = {"augment": POLICY, "augment_target": target, "discriminator_norm": "none"}
    model = GAN((8, 8, 1), latent_dim=2, width=8, **options)

    def train_step(data):
        samples = model.draws(data).uniform(8, 8, 1, low=-1.0, high=1.0)
        update = model.minimize("discriminator", partial(model.discriminator_loss, images_of(data), samples))
        return model.record(
            discriminator_loss=update[0], generator_loss=update[0], **model.metrics_of_updates([update])
        )

    monkeypatch.setattr(model, "train_step", train_step)
    model.compile(seed=SEED, discriminator=Adam(2e-3, beta_1=0.0), generator=Adam(1e-9))
    images = np.random.default_rng(0).uniform(-1, 1, (16, 8, 8, 1)).astype(np.float32)
    fit(model, images, steps=500)
    probability = float(model.regularization.probability)
    assert 0.1 < probability < 0.9
    many = np.tile(images, (100, 1, 1, 1))
    draws = Draws(SEED, tf.constant(10**6, tf.int64), tf.range(len(many), dtype=tf.int64))
    seen = differentiable_augment(tf.constant(many), draws, POLICY, probability)
    assert np.sign(model.discriminator(images)).mean() == 1.0  # it has memorized them
    assert np.sign(model.discriminator(seen)).mean() == pytest.approx(target, abs=0.15)


def adaptive(kind, steps, **options):
    """A model that augments with an adaptive probability; its discriminator's updates are too small to see."""
    options = {"augment": "translation", "augment_target": 0.0, "discriminator_steps": steps, **options}
    model = GAN(**TINY, **options) if kind == "gan" else conditional("concatenation", **options)
    model.compile(seed=SEED, discriminator=SGD(1e-12), generator=SGD(1e-12))
    return model


@pytest.mark.parametrize(("kind", "replicas", "steps"), [("gan", 1, 2), ("conditional", 1, 2), ("gan", 2, 1)])
def test_the_probability_moves_by_the_images_of_all_replicas_and_minibatches(kind, replicas, steps, strategy_of, fit):
    """From 0, where a step as small as 10 images of 500,000 has seven digits."""
    with strategy_of(replicas).scope():
        model = adaptive(kind, steps, augment_target=-0.9)
        model.discriminator.get_layer("logit").bias.assign([100.0])  # sure of every image
    images, labels = np.repeat(IMAGE_PAIRS[:5, :1], steps, axis=1), np.zeros((5, steps), np.int64)
    if steps == 1:
        images, labels = images[:, 0], labels[:, 0]
    fit(model, images, steps=3, label=labels)
    assert model.regularization.probability.numpy() == pytest.approx(3 * steps * 5 / 500_000, rel=1e-5)


@pytest.mark.parametrize("kind", ["gan", "conditional"])
@pytest.mark.parametrize(("bright", "target", "way"), [((True, False), -0.5, 1), ((False, True), 0.5, -1)])
def test_the_probability_follows_all_of_a_steps_minibatches(kind, bright, target, way):
    """D is sure of one of two: r_t = 0 (ADA, section 3.1); the last alone would give 1 or -1, and the other way."""
    keras.utils.set_random_seed(1)
    model = adaptive(kind, 2, augment_target=target, augment="color")
    model.regularization.probability.assign(1e-3)  # next to none of these images is augmented
    sides = {side: np.full((ROWS, 8, 8, 1), 0.9 if side else -0.9, np.float32) for side in (True, False)}
    high, low = (float(np.mean(model.logits({"image": sides[side], "label": 0 * LABELS}))) for side in (True, False))
    assert abs(high - low) > 1e-4
    model.discriminator.get_layer("logit").bias.assign([-(high + low) / 2])
    if high < low:
        sides = {side: sides[not side] for side in sides}
    images = np.stack([sides[side] for side in bright], axis=1)
    context.deactivate()
    labels = np.zeros((ROWS, 2), np.int64)
    model.train_step({"image": tf.constant(images), "row": tf.range(ROWS, dtype=tf.int64), "label": labels})
    assert float(model.regularization.probability) == pytest.approx(1e-3 + way * 2 * ROWS / 500_000, abs=1e-8)


def test_at_the_start_nothing_is_augmented_yet(difference):
    ends = []
    for options in ({"augment": POLICY, "augment_target": 0.6}, {}):
        model = compiled(options)
        if options:
            model.regularization.probability.assign(0.0)
            assert float(Regularization(**options).probability) == 0.0
        step(model)
        ends.append(trainable(model))
    assert difference(*ends) == 0.0


def test_d_is_sure_beyond_the_threshold_of_its_losses():
    regularization = Regularization(augment="color", augment_target=0.6)
    logits = tf.constant([[-2.0], [0.3], [0.7], [3.0]])
    for name, signs in (("non_saturating", [-1, 1, 1, 1]), ("hinge", [-1, 1, 1, 1]), ("least_squares", [-1, -1, 1, 1])):
        (found,) = regularization.overfitting(ADVERSARIAL_LOSSES[name], logits).values()
        np.testing.assert_array_equal(found, signs)


def test_averages_are_those_of_the_weights_so_far_and_begin_to_matter_at_the_third_step():
    # In step 1 and 2 the weights are their own average: theta_0, and theta_1.
    models = []
    for options in ({"historical_averaging": HISTORY}, {}):
        keras.utils.set_random_seed(1)
        model = GAN(**TINY, **options)
        model.compile(seed=SEED, discriminator=SGD(1.0), generator=SGD(1.0))
        models.append(model)
    model, plain = models
    averages = model.regularization.histories
    past = {player: [] for player in model.players}
    assert set(averages) == set(past)
    for number in (1, 2, 3):
        metrics, others = step(model), step(plain)
        same = [
            np.array_equal(*both)
            for both in zip(trainable(model, "generator"), trainable(plain, "generator"), strict=True)
        ]
        assert all(same) == (number < 3)
        if number == 1:
            assert metrics == others
        for player, seen_so_far in past.items():
            seen_so_far.append(trainable(model, player))
            assert len(averages[player]) == len(seen_so_far[-1]) > 0
            for average, *thetas in zip(averages[player], *seen_so_far, strict=True):
                np.testing.assert_allclose(average, np.mean(thetas, axis=0), rtol=1e-5, atol=1e-7)


# Weight clipping: Keras' optimizers apply a variable's constraint; here in every way they are called


def sgd(scaled=False):
    return LossScaleOptimizer(SGD(RATE), initial_scale=1024.0) if scaled else SGD(RATE)


CLIP = 0.02
WAYS = {
    "plain": {},
    "eager": {"run_eagerly": True},
    "xla": {"jit_compile": True},
    "several steps an execution": {"steps_per_execution": 2},
    "loss scale": {"scaled": True},
    "loss scale, xla": {"scaled": True, "jit_compile": True},
    "2 replicas": {"replicas": 2},
    "2 replicas, loss scale": {"replicas": 2, "scaled": True},
    "float16, 2 replicas": {"replicas": 2, "scaled": True, "policy": "mixed_float16"},
}


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[pytest.mark.slow] if way in ("eager", "loss scale, xla") else []) for way in WAYS]
)
def test_clipping_bounds_ds_weights_and_no_others(way, strategy_of, fit):
    options = dict(WAYS[way])
    replicas, scaled = options.pop("replicas", 1), options.pop("scaled", False)
    with computing_in(options.pop("policy", "float32")), strategy_of(replicas).scope():
        keras.utils.set_random_seed(1)
        model = away_from_start(GAN(**TINY, weight_clipping=CLIP), 10.0)
        model.compile(seed=SEED, discriminator=sgd(scaled), generator=sgd(scaled), **options)
    assert max(np.abs(value).max() for value in trainable(model, "discriminator")) > 10 * CLIP
    fit(model, IMAGES, steps=2)
    for variable in model.variables_of("discriminator"):
        copies = getattr(variable.value, "values", [variable])
        assert len(copies) == replicas
        for copy in copies:
            assert np.abs(copy.numpy()).max() <= np.float32(CLIP)
        np.testing.assert_array_equal(copies[0].numpy(), copies[-1].numpy())
    assert max(np.abs(value).max() for value in trainable(model, "discriminator")) == np.float32(CLIP)
    assert max(np.abs(value).max() for value in trainable(model, "generator")) > 10 * CLIP


# All options at once, in every way that training goes


def conditional(condition="projection", **arguments):
    arguments = {"loss": "non_saturating", "discriminator_norm": "none", **arguments}
    return ConditionalGAN((8, 8, 1), ("a", "b", "c"), 4, 2, discriminator_condition=condition, **arguments)


BUILDERS = {
    "gan": lambda: GAN(**TINY, **CLIPPED),
    "without norms": lambda: GAN(**TINY, **{**REST, "weight_clipping": 0.05}),
    "conditional": lambda: conditional(**CONDITIONAL),
    "wasserstein": lambda: wasserstein(**WASSERSTEIN),
    "relativistic": lambda: GAN(**TINY, loss="relativistic_average", feature_matching=MATCHING, instance_noise=NOISE),
}


def trained(fit, builder, strategy, rows, steps=1, optimizer=lambda: SGD(RATE, momentum=0.5), **options):
    """(every player's gradients as SGD's velocity, all weights and what the options remember, the metrics)."""
    with strategy.scope():
        keras.utils.set_random_seed(3)
        model = away_from_start(BUILDERS[builder]())
        optimizers = {player: optimizer() for player in model.players}
        model.compile(seed=7, **optimizers, **options)
    images = np.random.default_rng(0).uniform(-1, 1, (rows, 8, 8, 1)).astype(np.float32)
    history = fit(model, images, steps=steps, label=np.arange(rows) % 3)
    velocities = [v.numpy() for o in optimizers.values() for v in o.variables if "momentum" in v.path]
    return velocities, model.get_weights(), [np.array(history[name]) for name in sorted(history)]


@pytest.fixture(scope="module")
def on_one_replica(strategy_of, fit):
    kept = {}

    def get(builder):
        if builder not in kept:
            kept[builder] = trained(fit, builder, strategy_of(1), 5)
        return kept[builder]

    return get


@pytest.mark.parametrize(
    "builder", ["gan", pytest.param("conditional", marks=pytest.mark.slow), "wasserstein", "relativistic"]
)
def test_two_replicas_are_one(builder, on_one_replica, strategy_of, fit, difference):
    expected, found = on_one_replica(builder), trained(fit, builder, strategy_of(2), 5)
    assert all(len(part) > 0 for part in expected)
    worst = [difference(one, other) for one, other in zip(found, expected, strict=True)]
    assert max(worst) < 1e-5, dict(zip(("gradients", "weights", "metrics"), worst, strict=True))


@pytest.mark.parametrize("builder", ["gan", pytest.param("conditional", marks=pytest.mark.slow)])
def test_xla_makes_the_same_step(builder, on_one_replica, strategy_of, fit, difference):
    expected, found = on_one_replica(builder), trained(fit, builder, strategy_of(1), 5, jit_compile=True)
    worst = [difference(one, other) for one, other in zip(found, expected, strict=True)]
    assert max(worst) < 1e-4, dict(zip(("gradients", "weights", "metrics"), worst, strict=True))


def test_several_steps_an_execution_are_as_many_steps(strategy_of, fit, difference):
    ends = [trained(fit, "without norms", strategy_of(1), 5, steps=4, steps_per_execution=steps)[1] for steps in (1, 2)]
    assert difference(*ends) < 1e-5


def test_a_loss_scale_goes_in_and_comes_out_penalties_included(on_one_replica, strategy_of, fit, difference):
    def scaled():
        return LossScaleOptimizer(SGD(RATE, momentum=0.5), initial_scale=2.0**10)

    expected, found = on_one_replica("gan"), trained(fit, "gan", strategy_of(1), 5, optimizer=scaled)
    assert difference(found[1], expected[1]) < 1e-5
    assert difference(found[2], expected[2]) < 1e-5


def test_layers_in_float16_leave_what_is_remembered_in_float32(on_one_replica, strategy_of, fit, difference):
    with computing_in("mixed_float16"):
        _, found, _ = trained(fit, "gan", strategy_of(1), 5)
        model = BUILDERS["gan"]()
    _, expected, _ = on_one_replica("gan")
    assert {variable.dtype for variable in model.regularization.variables} == {"float32"}
    assert difference(found, expected) < 0.03  # half precision's eleven bits, through two layers and their norms
    plain = GAN(**TINY).get_weights()
    assert len(found) == len(plain) + len(model.regularization.variables) > len(plain)


@pytest.mark.parametrize("builder", ["without norms", pytest.param("conditional", marks=pytest.mark.slow)])
def test_a_resumed_run_ends_with_the_same_bits(builder, fit, tmp_path):
    def built(seed):
        keras.utils.set_random_seed(seed)
        model = BUILDERS[builder]()
        if model.regularization.probability is not None:
            model.regularization.probability.assign(seed / 10)
        model.compile(seed=SEED, discriminator=Adam(0.01), generator=Adam(0.01))
        return model

    model, fresh = built(1), built(2)
    fit(model, IMAGES, steps=3, label=LABELS)
    path = model.state().save(str(tmp_path / "checkpoint"))
    remembered = [value.numpy() for value in model.regularization.variables]
    count = sum(len(model.variables_of(player)) for player in model.players)
    assert len(remembered) == count + 1  # an average for each weight, and the probability
    status = fresh.state().restore(path)
    status.assert_consumed()
    status.assert_existing_objects_matched()
    for value, expected in zip(fresh.regularization.variables, remembered, strict=True):
        np.testing.assert_array_equal(value, expected)
    for each in (model, fresh):
        fit(each, IMAGES, steps=2, label=LABELS)
    for value, expected in zip(fresh.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)
    for value, expected in zip(model.regularization.variables, remembered, strict=True):
        assert (value.numpy() != expected).any()


def test_the_configuration_is_plain_data():
    for model in (GAN(**TINY, **CLIPPED), BUILDERS["conditional"]()):
        plain = json.loads(json.dumps(model.get_config()))
        copy = type(model).from_config(plain)
        assert json.loads(json.dumps(copy.get_config())) == plain
        assert plain["r1"] == R1
        assert [tuple(v.shape) for v in copy.weights] == [tuple(v.shape) for v in model.weights]
        assert copy.regularization.gradient_penalties == model.regularization.gradient_penalties != {}


def test_without_options_a_model_remembers_and_draws_nothing_more():
    model = GAN(**TINY)
    assert model.regularization.variables == []
    context.activate(draws_of())
    np.testing.assert_array_equal(model.regularization.augment(IMAGES, 0), IMAGES)
    np.testing.assert_array_equal(context.active().draws.normal(3), draws_of().normal(3))  # still the first draw
    assert all(variable.constraint is None for variable in model.discriminator.trainable_variables)


# Refusals

BAD = {
    "an unknown name": (
        {"r3": 1.0},
        r"unknown arguments \['r3'\]: regularization takes \['label_smoothing', 'instance_noise'",
    ),
    "a negative weight": ({"r1": -1.0}, r"r1=-1.0: choose a number >= 0"),
    "no number": ({"dragan": float("nan")}, r"dragan=nan: choose a finite number"),
    "an infinite one": ({"feature_matching": float("inf")}, r"feature_matching=inf: choose a finite number"),
    "labels at 1/2": ({"label_smoothing": 0.5}, r"label_smoothing=0.5: choose from \[0, 0.5\)"),
    "labels beyond 1": ({"label_smoothing": -0.1}, r"label_smoothing=-0.1: choose from \[0, 0.5\)"),
    "a bound of 0": ({"weight_clipping": 0.0}, r"weight_clipping=0.0: choose a number > 0"),
    "an unknown change": ({"augment": "blur"}, r"policy='blur': choose from \['color', 'cutout', 'translation'\]"),
    "a target without changes": ({"augment_target": 0.6}, r"augment_target=0.6: it takes augment, such as"),
    "a target of 1": ({"augment": "color", "augment_target": 1.0}, r"augment_target=1.0: choose from \(-1, 1\)"),
    "no steps": ({"instance_noise": 0.1, "instance_noise_steps": 0}, r"instance_noise_steps=0: choose at least 1"),
    "steps without noise": ({"instance_noise_steps": 5}, r"instance_noise_steps=5: .* with instance_noise > 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_option_is_named_with_the_good_ones(case):
    options, message = BAD[case]
    with pytest.raises((ValueError, TypeError), match=message):
        GAN(**TINY, **options)


@pytest.mark.parametrize("loss", ["hinge", "least_squares", "wasserstein", "relativistic"])
def test_labels_are_smoothed_where_answers_are_probabilities(loss):
    with pytest.raises(ValueError, match="label_smoothing takes loss='minimax' or 'non_saturating'"):
        GAN(**TINY, loss=loss, label_smoothing=0.1)


@pytest.mark.parametrize("loss", ["wasserstein", "relativistic", "relativistic_average"])
def test_the_probability_adapts_where_an_answer_has_a_sign(loss):
    with pytest.raises(ValueError, match="augment_target takes a loss whose discriminator scores an image by itself"):
        GAN(**TINY, loss=loss, augment="color", augment_target=0.6)


@pytest.mark.parametrize("penalty", GRADIENT_PENALTIES)
@pytest.mark.parametrize(
    "mixing", [{"discriminator_norm": "batch"}, {"minibatch": "stddev"}, {"minibatch": "discrimination"}]
)
def test_gradient_penalties_are_those_of_an_image_alone(penalty, mixing):
    arguments = {**TINY, "image_shape": (16, 16, 1), **mixing}  # at 8x8 D has no norm
    with pytest.raises(
        ValueError, match=rf"\['{penalty}'\] take the gradient of one image's logit, .* choose discriminator_norm="
    ):
        GAN(**arguments, **{penalty: 1.0})
    assert GAN(**arguments, instance_noise=0.1).regularization.gradient_penalties == {}


def test_a_conditional_gan_refuses_likewise():
    arguments = {"image_shape": (16, 16, 1), "classes": ("a", "b"), "latent_dim": 4, "width": 2}
    for options, more, message in (
        ({"r1": 1.0}, {"discriminator_norm": "batch"}, r"\['r1'\] take the gradient of one image's logit"),
        ({"label_smoothing": 0.1}, {}, "label_smoothing takes loss="),
        ({"r3": 1.0}, {}, r"unknown arguments \['r3'\]"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            ConditionalGAN(**arguments, **more, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient_penalty": 1.0}, "gradient_penalty: of a WGAN, constraint, penalty_weight and clip decide that"),
        ({"weight_clipping": 0.1}, "weight_clipping: of a WGAN, constraint"),
        ({"r1": 1.0}, r"\['r1'\] take the gradient of one image's logit, .* choose constraint='gradient_penalty'"),
        ({"label_smoothing": 0.1}, "label_smoothing: a critic's scores are no probabilities"),
        ({"augment": "color", "augment_target": 0.6}, "augment_target: a critic's scores are"),
    ],
)
def test_a_wgan_refuses_likewise(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        WGAN((16, 16, 1), 4, 2, constraint="weight_clipping", **options)


@pytest.mark.parametrize("minibatch", ["stddev", "discrimination"])
def test_a_critics_own_penalty_is_of_an_image_alone_too(minibatch):
    with pytest.raises(ValueError, match=r"\['gradient_penalty'\] take the gradient of one image's logit"):
        WGAN((16, 16, 1), 4, 2, minibatch=minibatch)
    WGAN((16, 16, 1), 4, 2, constraint="weight_clipping", minibatch=minibatch)


# The gradient that a step follows is that of the loss it writes down: by differences in float64, penalties included


def with_penalty(penalty, **arguments):
    return GAN((16, 16, 1), 4, **{"width": 2, penalty: GRADIENT_PENALTIES[penalty], **arguments})


PENALIZED = {
    "wgan": lambda: WGAN((16, 16, 1), 4, 2, penalty_weight=2.0),
    **{
        f"{penalty}-{norm}": lambda penalty=penalty, norm=norm: with_penalty(penalty, discriminator_norm=norm)
        for penalty in GRADIENT_PENALTIES
        for norm in ("layer", "spectral", "none")
    },
    "wgan-everything": lambda: WGAN((16, 16, 1), 4, 2, penalty_weight=2.0, r1=R1, r2=R2, dragan=DRAGAN),
    "wgan-clipping": lambda: WGAN((16, 16, 1), 4, 2, constraint="weight_clipping"),
    **{
        f"conditional-{condition}-{norm}": lambda condition=condition, norm=norm: ConditionalGAN(
            (16, 16, 1), ("a", "b", "c"), 4, 2, discriminator_condition=condition, discriminator_norm=norm, r1=R1
        )
        for condition, norm in (
            ("projection", "spectral"),
            ("concatenation", "layer"),
            ("auxiliary_classifier", "none"),
        )
    },
    "r1-resnet": lambda: with_penalty("r1", architecture="resnet"),
    "r1-mlp": lambda: with_penalty("r1", architecture="mlp", width=6),
}


def error_of_the_gradient(model):
    """Along three directions through all of the discriminator's weights, relative to the gradient's norm.

    That is what a derivative is like along such a direction; one alone may be next to nothing.
    """
    away_from_start(model)
    player, network = next((name, networks[0]) for name, networks in model.players.items() if name != "generator")
    for layer in network.layers:  # sigma is the largest singular value, and stationary in u, once u has settled
        if isinstance(layer, SpectralNorm):
            iterate = tf.function(lambda layer=layer: layer.normalized_kernel(iterate=True))
            for _ in range(500):
                iterate()
    real, fake = (tf.constant(values) for values in np.random.default_rng(0).uniform(-1, 1, (2, ROWS, 16, 16, 1)))
    more = {WGAN: [tf.constant(np.linspace(0.1, 0.9, ROWS))], ConditionalGAN: [tf.constant(LABELS)]}.get(
        type(model), []
    )
    loss = model.critic_loss if isinstance(model, WGAN) else model.discriminator_loss
    start, variables = network.get_weights(), network.trainable_variables

    def at(ways, size):
        """The loss' rows with the weights moved; each time with the same draws, and from the same u."""
        network.set_weights(start)
        for variable, way in zip(variables, ways, strict=True):
            variable.assign_add(size * way)
        context.activate(draws_of())
        return loss(real, fake, *more)

    still = [np.zeros(variable.shape) for variable in variables]
    exact = compute_gradients(player, variables, SGD(), lambda: at(still, 0.0)).gradients
    size, found = 1e-6, []
    norm = np.sqrt(sum(np.sum(gradient * gradient) for gradient in exact))
    for seed in range(3):
        random = np.random.default_rng(seed)
        ways = [random.normal(size=variable.shape) for variable in variables]
        high, low = (float(tf.reduce_mean(at(ways, sign * size)[0])) for sign in (1, -1))
        expected = (high - low) / (2 * size)
        along = sum(np.sum(gradient * way) for gradient, way in zip(exact, ways, strict=True))
        found.append(abs(along - expected) / norm)
    return max(found)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", PENALIZED)
def test_a_penalized_step_follows_the_gradient_of_its_loss(name):
    keras.utils.set_random_seed(1)
    assert error_of_the_gradient(PENALIZED[name]()) < 3e-8
