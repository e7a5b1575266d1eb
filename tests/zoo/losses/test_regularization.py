"""Regularization: what each remedy does to a whole train step, against the same step written with plain tapes."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD, Adam, LossScaleOptimizer

from zoo.core import context
from zoo.core.noise import Draws
from zoo.core.precision import computing_in
from zoo.layers.augmentation import differentiable_augment
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
SLOPES = {"r1": R1, "r2": R2, "gradient_penalty": PENALTY, "dragan": DRAGAN}
REST = {
    "label_smoothing": SMOOTHING,
    "instance_noise": NOISE,
    "instance_noise_steps": NOISE_STEPS,
    "augment": POLICY,
    "augment_target": 0.6,
    "feature_matching": MATCHING,
    "historical_averaging": HISTORY,
}
EVERYTHING = {**SLOPES, **REST}
CLIPPED = {**EVERYTHING, "weight_clipping": 0.05}
CONDITIONAL = {**REST, "r1": R1, "weight_clipping": 0.05}
OF_DS_ANSWERS = ("label_smoothing", "augment_target")
WASSERSTEIN = {name: value for name, value in EVERYTHING.items() if name not in ("gradient_penalty", *OF_DS_ANSWERS)}


def louder(model, factor=5.0):
    """Weights away from the saddle at the start; the averages of their history stay behind."""
    for player in model.players:
        for variable in model.variables_of(player):
            variable.assign(factor * variable)
    if model.stabilizers.probability is not None:
        model.stabilizers.probability.assign(0.5)
    return model


def compiled(stabilizers=None, rate=RATE, **arguments):
    keras.utils.set_random_seed(1)
    model = louder(GAN(**{**TINY, **arguments}, stabilizers=stabilizers))
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


# A step by hand: Algorithm 1 of the paper with two tapes, and each remedy's equation


def seen(images, remedies, draws):
    """Augmented with probability 1/2 or always, then with noise of step 0."""
    if "augment" in remedies:
        images = differentiable_augment(images, draws, POLICY, 0.5 if "augment_target" in remedies else None)
    return images + NOISE * draws.normal(8, 8, 1) if "instance_noise" in remedies else images


def squared_slopes(judge, images):
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = judge(images, training=True)
    return tf.reduce_sum(tf.reshape(tape.gradient(logits, images), (ROWS, -1)) ** 2, axis=1)


def slope_between(judge, real, fake, mix):
    share = tf.reshape(mix, (ROWS, 1, 1, 1))
    slopes = tf.sqrt(squared_slopes(judge, (1 - share) * real + share * fake))
    return PENALTY * tf.reduce_mean((slopes - 1) ** 2)


def penalties(judge, real, fake, remedies, draws):
    total = 0.0
    if "r1" in remedies:
        total += R1 / 2 * tf.reduce_mean(squared_slopes(judge, real))
    if "r2" in remedies:
        total += R2 / 2 * tf.reduce_mean(squared_slopes(judge, fake))
    if "gradient_penalty" in remedies:
        total += slope_between(judge, real, fake, draws.uniform())
    if "dragan" in remedies:
        near = real + 0.5 * np.std(real) * draws.normal(8, 8, 1)
        total += DRAGAN * tf.reduce_mean((tf.sqrt(squared_slopes(judge, near)) - 1) ** 2)
    return total


def matching(judge, real, fake):
    features = keras.Model(judge.input, judge.get_layer("flatten").output)
    means = [tf.reduce_mean(features(side), axis=0) for side in (real, fake)]
    return MATCHING * tf.reduce_sum((means[0] - means[1]) ** 2)


def held_back(model, player, remedies):
    if "historical_averaging" not in remedies:
        return 0.0
    averages = model.stabilizers.histories[player]
    squares = [
        tf.reduce_sum((variable.value - average.numpy()) ** 2)
        for variable, average in zip(model.variables_of(player), averages, strict=True)
    ]
    return HISTORY * tf.add_n(squares)


def discriminator_gradients(model, real, latents, remedies, draws):
    fake = model.generator(latents, training=True)
    with tf.GradientTape() as tape:
        real, fake = seen(tf.constant(real), remedies, draws), seen(fake, remedies, draws)
        real_logits, fake_logits = (model.discriminator(side, training=True) for side in (real, fake))
        target = 1 - SMOOTHING if "label_smoothing" in remedies else 1.0
        answers = tf.sigmoid(real_logits)
        loss = -tf.reduce_mean(target * tf.math.log(answers) + (1 - target) * tf.math.log(1 - answers))
        loss -= tf.reduce_mean(tf.math.log_sigmoid(-fake_logits))
        loss += penalties(model.discriminator, real, fake, remedies, draws) + held_back(
            model, "discriminator", remedies
        )
    return gradients(tape, loss, model, "discriminator")


def generator_gradients(model, real, latents, remedies, draws):
    with tf.GradientTape() as tape:
        fake = seen(model.generator(latents, training=True), remedies, draws)
        loss = -tf.reduce_mean(tf.math.log_sigmoid(model.discriminator(fake, training=True)))
        if "feature_matching" in remedies:
            loss += matching(model.discriminator, seen(real, remedies, draws), fake)
        loss += held_back(model, "generator", remedies)
    return gradients(tape, loss, model, "generator")


def gradients(tape, loss, model, player):
    variables = model.variables_of(player)
    return list(zip(tape.gradient(loss, [variable.value for variable in variables]), variables, strict=True))


def descend(moves):
    for gradient, variable in moves:
        variable.assign(variable - RATE * gradient)


def play(model, turns, remedies, schedule="shared"):
    draws = draws_of()
    for real in turns[:-1]:
        descend(discriminator_gradients(model, real, draws.normal(4), remedies, draws))
    latents = draws.normal(4)
    moves = discriminator_gradients(model, turns[-1], latents, remedies, draws)
    if schedule != "simultaneous":
        descend(moves)
        moves = []
    if schedule == "alternating":
        latents = draws.normal(4)
    moves += generator_gradients(model, turns[-1], latents, remedies, draws)
    descend(moves)


ALONE = {
    **{name: {name: weight} for name, weight in SLOPES.items()},
    "label_smoothing": {"label_smoothing": SMOOTHING},
    "instance_noise": {"instance_noise": NOISE},
    "augment": {"augment": POLICY},
    "adaptive": {"augment": POLICY, "augment_target": 0.6},
    "feature_matching": {"feature_matching": MATCHING},
    "historical_averaging": {"historical_averaging": HISTORY},
}


@pytest.mark.parametrize("name", ALONE)
def test_a_step_with_one_remedy_equals_the_step_by_hand(name, difference):
    model = compiled(ALONE[name])
    ends = {}
    for remedies in (ALONE[name], {}):
        copy = twin(model)
        play(copy, [IMAGES], remedies)
        ends[bool(remedies)] = copy
    step(model)
    assert difference(trainable(model), trainable(ends[True])) < 1e-4
    moved = {
        player: difference(trainable(model, player), trainable(ends[False], player)) > 1e-3 for player in model.players
    }
    assert moved == {"discriminator": name != "feature_matching", "generator": True}  # D's new weights are G's judge


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("schedule", ["shared", "alternating", "simultaneous"])
def test_all_remedies_together_in_every_schedule(schedule, steps, difference):
    model = compiled(EVERYTHING, schedule=schedule, discriminator_steps=steps)
    images, turns = (IMAGES, [IMAGES]) if steps == 1 else (IMAGE_PAIRS, [IMAGE_PAIRS[:, 0], IMAGE_PAIRS[:, 1]])
    copy = twin(model)
    play(copy, turns, EVERYTHING, schedule)
    step(model, images)
    assert difference(trainable(model), trainable(copy)) < 1e-4


# The same of a WGAN


def wasserstein(**arguments):
    arguments = {"constraint": "gradient_penalty", "penalty_weight": PENALTY, "critic_steps": 1, **arguments}
    return WGAN((8, 8, 1), 4, 2, **arguments)


def play_wasserstein(model, turns, remedies):
    draws = draws_of()
    for real in turns:
        latents, mix = draws.normal(4), draws.uniform()
        fake = model.generator(latents, training=True)
        with tf.GradientTape() as tape:
            sides = [seen(tf.constant(side), remedies, draws) for side in (real, fake)]
            loss = tf.reduce_mean(model.critic(sides[1], training=True) - model.critic(sides[0], training=True))
            loss += penalties(model.critic, *sides, remedies, draws) + held_back(model, "critic", remedies)
            loss += slope_between(model.critic, *sides, mix)
        descend(gradients(tape, loss, model, "critic"))
    latents = draws.normal(4)
    with tf.GradientTape() as tape:
        fake = seen(model.generator(latents, training=True), remedies, draws)
        loss = -tf.reduce_mean(model.critic(fake, training=True)) + held_back(model, "generator", remedies)
        if "feature_matching" in remedies:
            loss += matching(model.critic, seen(tf.constant(turns[-1]), remedies, draws), fake)
    descend(gradients(tape, loss, model, "generator"))


@pytest.mark.parametrize("steps", [1, 2])
def test_a_critic_takes_the_remedies_of_a_discriminator(steps, difference):
    images, turns = (IMAGES, [IMAGES]) if steps == 1 else (IMAGE_PAIRS, [IMAGE_PAIRS[:, 0], IMAGE_PAIRS[:, 1]])
    keras.utils.set_random_seed(1)
    model = louder(wasserstein(critic_steps=steps, stabilizers=WASSERSTEIN))
    model.compile(seed=SEED, critic=SGD(RATE), generator=SGD(RATE))
    ends = {}
    for left_out in (None, *WASSERSTEIN):
        remedies = {name: value for name, value in WASSERSTEIN.items() if name != left_out}
        copy = WGAN(**model.get_config())
        copy.set_weights(model.get_weights())
        play_wasserstein(copy, turns, remedies)
        ends[left_out] = trainable(copy)
    step(model, images)
    distances = {left_out: difference(trainable(model), end) for left_out, end in ends.items()}
    assert distances.pop(None) < 1e-4
    assert distances.pop("instance_noise_steps") < 1e-4  # the first step has all of the noise
    assert min(distances.values()) > 1e-3, distances


# What changes from step to step


def test_instance_noise_falls_to_nothing_in_a_straight_line(difference):
    remedy = Regularization.chosen({"instance_noise": 0.4, "instance_noise_steps": 10})
    still = np.zeros((ROWS, 40, 40, 3), np.float32)
    for done, deviation in ((0, 0.4), (5, 0.2), (9, 0.04), (10, 0.0), (11, 0.0)):
        context.activate(draws_of(done))
        found = remedy.see(still, tf.constant(done, tf.int64)).numpy()
        assert found.std() == pytest.approx(deviation, rel=0.02)
    ends = []
    for stabilizers in ({"instance_noise": 0.4, "instance_noise_steps": 10}, {}):
        model = compiled(stabilizers)
        model.step.assign(10)
        step(model)
        ends.append(trainable(model))
    assert difference(*ends) == 0.0


def test_images_and_samples_are_augmented_alike_by_numbers_of_their_own():
    remedy, images = Regularization.chosen({"augment": POLICY}), tf.constant(IMAGES)
    context.activate(draws_of())
    real, fake = remedy.see(images, 0), remedy.see(images, 0)
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
        assert float(model.stabilizers.probability) == pytest.approx(expected, abs=1e-7)
        assert abs(expected - 0.5) > 1e-6
    assert 0.5 < found["augment_probability"] < expected or 0.5 > found["augment_probability"] > expected  # their mean
    model.stabilizers.probability.assign(0.0 if way < 0 else 1.0)
    step(model, IMAGES if steps == 1 else IMAGE_PAIRS)
    assert float(model.stabilizers.probability) == (0.0 if way < 0 else 1.0)


def test_at_the_start_nothing_is_augmented_yet(difference):
    ends = []
    for stabilizers in ({"augment": POLICY, "augment_target": 0.6}, {}):
        model = compiled(stabilizers)
        if stabilizers:
            model.stabilizers.probability.assign(0.0)
            assert float(Regularization.chosen(stabilizers).probability) == 0.0
        step(model)
        ends.append(trainable(model))
    assert difference(*ends) == 0.0


def test_d_is_sure_beyond_the_threshold_of_its_game():
    remedy = Regularization.chosen({"augment": "color", "augment_target": 0.6})
    logits = tf.constant([[-2.0], [0.3], [0.7], [3.0]])
    for name, signs in (("non_saturating", [-1, 1, 1, 1]), ("hinge", [-1, 1, 1, 1]), ("least_squares", [-1, -1, 1, 1])):
        (found,) = remedy.overfitting(ADVERSARIAL_LOSSES[name], logits).values()
        np.testing.assert_array_equal(found, signs)


def test_averages_are_those_of_the_weights_so_far_and_begin_to_matter_at_the_third_step():
    # In step 1 and 2 the weights are their own average: theta_0, and theta_1.
    models = []
    for stabilizers in ({"historical_averaging": HISTORY}, {}):
        keras.utils.set_random_seed(1)
        model = GAN(**TINY, stabilizers=stabilizers)
        model.compile(seed=SEED, discriminator=SGD(1.0), generator=SGD(1.0))
        models.append(model)
    model, plain = models
    averages = model.stabilizers.histories
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
        model = louder(GAN(**TINY, stabilizers={"weight_clipping": CLIP}), 10.0)
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


# All remedies at once, in every way that training goes


def conditional(**arguments):
    return ConditionalGAN(
        (8, 8, 1), ("a", "b", "c"), 4, 2, loss="non_saturating", discriminator_norm="none", **arguments
    )


BUILDERS = {
    "gan": lambda: GAN(**TINY, stabilizers=CLIPPED),
    "without slopes": lambda: GAN(**TINY, stabilizers={**REST, "weight_clipping": 0.05}),
    "conditional": lambda: conditional(stabilizers=CONDITIONAL),
    "wasserstein": lambda: wasserstein(stabilizers=WASSERSTEIN),
    "relativistic": lambda: GAN(
        **TINY, loss="relativistic_average", stabilizers={"feature_matching": MATCHING, "instance_noise": NOISE}
    ),
}


def trained(fit, builder, strategy, rows, steps=1, optimizer=lambda: SGD(RATE, momentum=0.5), **options):
    """(every player's gradients as SGD's velocity, all weights and what the remedies remember, the metrics)."""
    with strategy.scope():
        keras.utils.set_random_seed(3)
        model = louder(BUILDERS[builder]())
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
    ends = [
        trained(fit, "without slopes", strategy_of(1), 5, steps=4, steps_per_execution=steps)[1] for steps in (1, 2)
    ]
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
    assert {variable.dtype for variable in model.stabilizers.variables} == {"float32"}
    assert difference(found, expected) < 0.03  # half precision's eleven bits, through two layers and their slopes
    plain = GAN(**TINY).get_weights()
    assert len(found) == len(plain) + len(model.stabilizers.variables) > len(plain)


@pytest.mark.parametrize("builder", ["without slopes", pytest.param("conditional", marks=pytest.mark.slow)])
def test_a_resumed_run_ends_with_the_same_bits(builder, fit, tmp_path):
    def built(seed):
        keras.utils.set_random_seed(seed)
        model = BUILDERS[builder]()
        if model.stabilizers.probability is not None:
            model.stabilizers.probability.assign(seed / 10)
        model.compile(seed=SEED, discriminator=Adam(0.01), generator=Adam(0.01))
        return model

    model, fresh = built(1), built(2)
    fit(model, IMAGES, steps=3, label=LABELS)
    path = model.state().save(str(tmp_path / "checkpoint"))
    remembered = [value.numpy() for value in model.stabilizers.variables]
    count = sum(len(model.variables_of(player)) for player in model.players)
    assert len(remembered) == count + 1  # an average for each weight, and the probability
    status = fresh.state().restore(path)
    status.assert_consumed()
    status.assert_existing_objects_matched()
    for value, expected in zip(fresh.stabilizers.variables, remembered, strict=True):
        np.testing.assert_array_equal(value, expected)
    for each in (model, fresh):
        fit(each, IMAGES, steps=2, label=LABELS)
    for value, expected in zip(fresh.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)
    for value, expected in zip(model.stabilizers.variables, remembered, strict=True):
        assert (value.numpy() != expected).any()


def test_the_configuration_is_plain_data():
    for model in (GAN(**TINY, stabilizers=CLIPPED), BUILDERS["conditional"]()):
        plain = json.loads(json.dumps(model.get_config()))
        copy = type(model).from_config(plain)
        assert copy.get_config()["stabilizers"] == model.get_config()["stabilizers"] == plain["stabilizers"]
        assert [tuple(v.shape) for v in copy.weights] == [tuple(v.shape) for v in model.weights]
        assert copy.stabilizers.slopes == model.stabilizers.slopes != {}


def test_without_remedies_a_model_remembers_and_draws_nothing_more():
    model = GAN(**TINY)
    assert model.stabilizers.variables == []
    context.activate(draws_of())
    np.testing.assert_array_equal(model.stabilizers.see(IMAGES, 0), IMAGES)
    np.testing.assert_array_equal(context.active().draws.normal(3), draws_of().normal(3))  # still the first draw
    assert all(variable.constraint is None for variable in model.discriminator.trainable_variables)


# Refusals

BAD = {
    "an unknown name": ({"r3": 1.0}, r"\['r3'\] are none: choose from \['label_smoothing', 'instance_noise'"),
    "no names": ("r1", r"stabilizers='r1': give each with its value"),
    "a list": (["r1"], r"stabilizers=\['r1'\]: give each with its value"),
    "a negative weight": ({"r1": -1.0}, r"r1=-1.0: choose a number >= 0"),
    "no number": ({"dragan": float("nan")}, r"dragan=nan: choose a number >= 0"),
    "an infinite one": ({"feature_matching": float("inf")}, r"feature_matching=inf: choose a number >= 0"),
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
def test_a_bad_remedy_is_named_with_the_good_ones(case):
    stabilizers, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        GAN(**TINY, stabilizers=stabilizers)


@pytest.mark.parametrize("loss", ["hinge", "least_squares", "wasserstein", "relativistic"])
def test_labels_are_smoothed_where_answers_are_probabilities(loss):
    with pytest.raises(ValueError, match="label_smoothing takes loss='minimax' or 'non_saturating'"):
        GAN(**TINY, loss=loss, stabilizers={"label_smoothing": 0.1})


@pytest.mark.parametrize("loss", ["wasserstein", "relativistic", "relativistic_average"])
def test_the_probability_adapts_where_an_answer_has_a_sign(loss):
    with pytest.raises(ValueError, match="augment_target takes a loss whose D judges an image by itself"):
        GAN(**TINY, loss=loss, stabilizers={"augment": "color", "augment_target": 0.6})


@pytest.mark.parametrize("penalty", SLOPES)
@pytest.mark.parametrize(
    "mixing", [{"discriminator_norm": "batch"}, {"minibatch": "stddev"}, {"minibatch": "discrimination"}]
)
def test_slopes_are_those_of_a_image_alone(penalty, mixing):
    arguments = {**TINY, "image_shape": (16, 16, 1), **mixing}  # at 8x8 D has no norm
    with pytest.raises(ValueError, match=rf"\['{penalty}'\] look at one image's slope, .* choose discriminator_norm="):
        GAN(**arguments, stabilizers={penalty: 1.0})
    assert GAN(**arguments, stabilizers={"instance_noise": 0.1}).stabilizers.slopes == {}


def test_a_conditional_game_refuses_likewise():
    arguments = {"image_shape": (16, 16, 1), "classes": ("a", "b"), "latent_dim": 4, "width": 2}
    for stabilizers, more, message in (
        ({"r1": 1.0}, {"discriminator_norm": "batch"}, r"\['r1'\] look at one image's slope"),
        ({"label_smoothing": 0.1}, {}, "label_smoothing takes loss="),
        ({"r3": 1.0}, {}, r"\['r3'\] are none"),
    ):
        with pytest.raises(ValueError, match=message):
            ConditionalGAN(**arguments, **more, stabilizers=stabilizers)


@pytest.mark.parametrize(
    ("stabilizers", "message"),
    [
        ({"gradient_penalty": 1.0}, r"\['gradient_penalty'\] are not chosen here: constraint, penalty_weight and clip"),
        ({"weight_clipping": 0.1}, r"\['weight_clipping'\] are not chosen here"),
        ({"r1": 1.0}, r"\['r1'\] look at one image's slope, .* take constraint='gradient_penalty'\)"),
        ({"label_smoothing": 0.1}, "label_smoothing takes loss="),
        ({"augment": "color", "augment_target": 0.6}, "augment_target takes a loss whose D"),
        (["r1"], r"stabilizers=\['r1'\]: give each with its value"),
    ],
)
def test_a_wasserstein_game_refuses_likewise(stabilizers, message):
    with pytest.raises(ValueError, match=message):
        WGAN((16, 16, 1), 4, 2, constraint="weight_clipping", stabilizers=stabilizers)


@pytest.mark.parametrize("minibatch", ["stddev", "discrimination"])
def test_a_critics_own_penalty_is_of_a_image_alone_too(minibatch):
    with pytest.raises(ValueError, match=r"\['gradient_penalty'\] look at one image's slope"):
        WGAN((16, 16, 1), 4, 2, minibatch=minibatch)
    WGAN((16, 16, 1), 4, 2, constraint="weight_clipping", minibatch=minibatch)
