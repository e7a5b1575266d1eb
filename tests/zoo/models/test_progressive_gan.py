"""Progressive GAN: a train step written out with plain TensorFlow at every stage, and what the stages promise."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD, Adam

from serving.session import Session
from zoo.core.growth import Stage, set_growth
from zoo.core.noise import Draws
from zoo.export.onnx import write_onnx
from zoo.layers.augmentation import cutout, translate
from zoo.models.progressive_gan import ProgressiveGAN

TINY = {"image_shape": (8, 8, 3), "latent_dim": 5, "channel_base": 16, "channel_max": 6, "group_size": 2}
SCHEDULE = {"fade_steps": 4, "stable_steps": 2}  # 4x4 at steps 0 and 1, 8x8 fades in at 2 to 5 and is whole from 6 on
ROWS, RATE, SEED, WEIGHT, DRIFT = 4, 0.05, 9, 2.0, 0.3
IMAGES = np.random.default_rng(0).uniform(-1, 1, (ROWS, 8, 8, 3)).astype(np.float32)
IMAGE_PAIRS = np.random.default_rng(1).uniform(-1, 1, (ROWS, 2, 8, 8, 3)).astype(np.float32)
MIX = np.array([0.0, 0.3, 0.6, 0.9], np.float32)
LOWEST, FADING, HIGHEST = Stage(0, False), Stage(1, True), Stage(1, False)
STEP_AT = {LOWEST: 1, FADING: 3, HIGHEST: 6}  # of the fading one, alpha is 1 / 4


def built(**arguments):
    keras.utils.set_random_seed(1)
    return ProgressiveGAN(**{**TINY, **SCHEDULE, "penalty_weight": WEIGHT, "drift": DRIFT, **arguments})


def compiled(optimizer=lambda: SGD(RATE), steps_per_execution=1, eagerly=False, **arguments):
    model = built(**arguments)
    options = {"seed": SEED, "steps_per_execution": steps_per_execution, "run_eagerly": eagerly}
    model.compile(**options, discriminator=optimizer(), generator=optimizer())
    return model


def at(stage, model=None, **arguments):
    """A model at a stage, as its losses and its train step find it."""
    model = model or compiled(**arguments)
    model.step.assign(STEP_AT[stage])
    model.plan = stage
    set_growth((model.generator, model.generator_ema, model.discriminator), model.schedule.progress(stage, model.step))
    return model


def trainable(model):
    return {
        weight.path: weight.numpy()
        for network in (model.discriminator, model.generator)
        for weight in network.trainable_variables
    }


def moved(before, after):
    return {path for path, value in after.items() if (value != before[path]).any()}


def everything(model):
    optimizers = [variable for optimizer in model.player_optimizers.values() for variable in optimizer.variables]
    return [variable.numpy() for variable in (*model.weights, *optimizers, model.step)]


def assert_bit_equal(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


# One step by hand


def smaller(images):
    return images.reshape(len(images), 4, 2, 4, 2, 3).mean((2, 4))


def larger(images):
    return np.repeat(np.repeat(images, 2, axis=1), 2, axis=2)


def faded(images, stage):
    """What D sees of images: at step 3 of 8x8's four, which begin at step 2, alpha is 1 / 4."""
    if stage == LOWEST:
        return smaller(images)
    return 0.75 * larger(smaller(images)) + 0.25 * images if stage == FADING else images


def update_discriminator(model, real, latents, mix, weight=WEIGHT, drift=DRIFT):
    """Down E[D(G(z))] - E[D(x)] + lambda E[(|grad D(x_hat)| - 1)^2] + epsilon_drift E[D(x)^2]."""
    discriminator = model.discriminator_at(model.plan)
    fake = model.generator_at(model.plan)([latents], training=True)
    variables = discriminator.trainable_variables
    with tf.GradientTape() as tape:
        real_scores = discriminator(real, training=True)
        loss = tf.reduce_mean(discriminator(fake, training=True)) - tf.reduce_mean(real_scores)
        loss += drift * tf.reduce_mean(real_scores**2)
        share = tf.reshape(mix, (ROWS, 1, 1, 1))
        between = (1 - share) * real + share * fake
        with tf.GradientTape() as inner:
            inner.watch(between)
            scores = discriminator(between, training=True)
        slopes = tf.norm(tf.reshape(inner.gradient(scores, between), (ROWS, -1)), axis=1)
        loss += weight * tf.reduce_mean((slopes - 1) ** 2)
    descend(tape, loss, variables)


def update_generator(model, latents):
    """Down -E[D(G(z))], through both networks on one tape."""
    generator = model.generator_at(model.plan)
    with tf.GradientTape() as tape:
        images = generator([latents], training=True)
        loss = -tf.reduce_mean(model.discriminator_at(model.plan)(images, training=True))
    descend(tape, loss, generator.trainable_variables)


def descend(tape, loss, variables):
    for gradient, variable in zip(tape.gradient(loss, [v.value for v in variables]), variables, strict=True):
        variable.assign(variable - RATE * gradient)


def as_published(model, minibatches, draws, **options):
    for real in minibatches:
        update_discriminator(model, faded(real, model.plan), draws.normal(5), draws.uniform(), **options)
    update_generator(model, draws.normal(5))


def without_drift(model, minibatches, draws):
    as_published(model, minibatches, draws, drift=0.0)


def without_penalty(model, minibatches, draws):
    as_published(model, minibatches, draws, weight=0.0)


def with_other_images(model, minibatches, draws):
    as_published(model, [real[:, ::-1] for real in minibatches], draws)


def at_another_growth(model, minibatches, draws):
    """Of the fading stage: half of the new layers in place of a quarter; of the others it changes nothing."""
    set_growth((model.generator, model.discriminator), 0.5)
    as_published(model, minibatches, draws)


def with_images_that_do_not_fade(model, minibatches, draws):
    for real in minibatches:
        update_discriminator(model, real, draws.normal(5), draws.uniform())
    update_generator(model, draws.normal(5))


@pytest.mark.parametrize(
    ("stage", "steps", "others"),
    [
        (LOWEST, 2, [without_drift, without_penalty]),
        (FADING, 1, [at_another_growth, with_images_that_do_not_fade]),
        (HIGHEST, 1, [with_other_images]),
    ],
    ids=["lowest", "fading", "highest"],
)
def test_one_step_is_the_papers_at_every_stage(fit, difference, stage, steps, others):
    model = compiled(critic_steps=steps)
    minibatches = [IMAGES] if steps == 1 else [IMAGE_PAIRS[:, 0], IMAGE_PAIRS[:, 1]]
    ends = {}
    for play in (as_published, *others):
        copy = built(critic_steps=steps)
        copy.set_weights(model.get_weights())
        draws = Draws(SEED, tf.constant(STEP_AT[stage], tf.int64), tf.range(ROWS, dtype=tf.int64))
        play(at(stage, copy), minibatches, draws)
        ends[play.__name__] = trainable(copy)
    model.step.assign(STEP_AT[stage])
    fit(model, IMAGES if steps == 1 else IMAGE_PAIRS)
    found = trainable(model).values()
    distances = {name: difference(found, weights.values()) for name, weights in ends.items()}
    assert distances.pop("as_published") < 1e-4
    assert min(distances.values()) > 1e-3, distances


def test_penalty_and_drift_by_hand():
    """D(x) = 3 mean(x) + 2: its slope has the length 3 / sqrt(48) at 4x4x3, whatever x is."""
    model = at(LOWEST)
    image = keras.Input((4, 4, 3))
    mean = keras.layers.GlobalAveragePooling2D()(image)
    scores = keras.layers.Dense(1, kernel_initializer="ones", bias_initializer=keras.initializers.Constant(2.0))(mean)
    model.discriminator_at = lambda stage: keras.Model(image, scores)
    levels = np.array([-1.0, -0.5, 0.0, 0.5], np.float32)
    real = np.broadcast_to(levels[:, None, None, None], (4, 4, 4, 3))
    fake = np.full((4, 4, 4, 3), 0.25, np.float32)
    loss, recorded = model.discriminator_loss(real, fake, MIX)
    penalty = WEIGHT * (3 / 48**0.5 - 1) ** 2
    real_scores, fake_scores = 3 * levels + 2, 2.75
    np.testing.assert_allclose(recorded["gradient_penalty"], [penalty] * 4, rtol=1e-5)
    np.testing.assert_allclose(recorded["real_score"], real_scores, rtol=1e-5)
    np.testing.assert_allclose(recorded["wasserstein_estimate"], real_scores - fake_scores, rtol=1e-5)
    np.testing.assert_allclose(loss, fake_scores - real_scores + penalty + DRIFT * real_scores**2, rtol=1e-5)
    np.testing.assert_allclose(model.generator_loss(fake), [-fake_scores] * 4, rtol=1e-5)


# Stages


ALWAYS = {"project", "bias", "conv_4_1", "conv_4_0", "features", "score"}
OF_STAGE = {
    LOWEST: {"to_rgb_4", "conv_rgb_4"},
    FADING: {"to_rgb_4", "conv_rgb_4", "to_rgb_8", "conv_rgb_8", "conv_8_0", "conv_8_1"},
    HIGHEST: {"to_rgb_8", "conv_rgb_8", "conv_8_0", "conv_8_1"},
}


@pytest.mark.parametrize("stage", STEP_AT, ids=str)
def test_a_stage_moves_every_variable_of_its_layers_and_no_other(fit, stage):
    model = compiled(lambda: SGD(1.0))
    model.step.assign(STEP_AT[stage])
    before = trainable(model)
    fit(model, IMAGES)
    expected = {path for path in before if path.split("/")[0] in ALWAYS | OF_STAGE[stage]}
    assert moved(before, trainable(model)) == expected
    assert {len(model.updated_variables(player)) for player in model.players} <= set(range(1, len(before)))


def test_growth_follows_the_schedule_in_every_network(fit):
    model = compiled(eagerly=True)
    found = []
    for _ in range(8):
        history = fit(model, IMAGES)
        networks = (model.generator, model.generator_ema, model.discriminator)
        levels = {float(network.get_layer("growth").level.numpy()) for network in networks}
        assert levels == {model.growth} == {history["growth"][0]}
        found.append(model.growth)
    assert found == [0.0, 0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_optimizers_begin_anew_where_a_level_does(fit):
    model = compiled(lambda: Adam(1e-2, beta_1=0.0, beta_2=0.99), eagerly=True)
    fit(model, IMAGES, steps=2)
    fresh = compiled(lambda: Adam(1e-2, beta_1=0.0, beta_2=0.99), eagerly=True)
    fresh.set_weights(model.get_weights())
    fresh.step.assign(2)
    for each in (model, fresh):
        fit(each, IMAGES)
        assert [int(optimizer.iterations) for optimizer in each.player_optimizers.values()] == [1, 1]
    assert_bit_equal(everything(model), everything(fresh))
    fit(model, IMAGES, steps=5)  # the stable stage goes on with them
    assert [int(optimizer.iterations) for optimizer in model.player_optimizers.values()] == [6, 6]


def adam():
    return Adam(1e-2, beta_1=0.0, beta_2=0.99)


@pytest.fixture(scope="module")
def states(fit, tmp_path_factory):
    """The model after eight steps, and the states that it saved before, at and after it began to fade 8x8 in."""
    model, paths = compiled(adam, eagerly=True), {}
    for done in range(1, 9):
        fit(model, IMAGES)
        paths[done] = model.state().save(str(tmp_path_factory.mktemp("states") / "state"))
    return model, paths


@pytest.mark.parametrize("stopped", [1, 2, 3, 5])
def test_a_resumed_run_goes_on_alike_before_at_and_after_a_change(fit, states, stopped):
    whole, paths = states
    resumed = compiled(adam, eagerly=True)
    resumed.state().restore(paths[stopped]).assert_existing_objects_matched()
    fit(resumed, IMAGES, steps=8 - stopped)
    assert_bit_equal(everything(resumed), everything(whole))


@pytest.mark.parametrize("count", [2, 4])
def test_steps_per_execution_change_nothing(fit, states, count):
    model = compiled(adam, steps_per_execution=count, eagerly=True)
    fit(model, IMAGES, steps=8)
    assert int(model.step) == 8
    assert_bit_equal(everything(model), everything(states[0]))


@pytest.mark.usefixtures("float64")
def test_two_replicas_with_whole_groups_are_one_while_a_level_fades_in(fit, strategy_of, difference):
    images = np.random.default_rng(2).uniform(-1, 1, (8, 8, 8, 3))
    ends = []
    for replicas in (1, 2):
        with strategy_of(replicas).scope():
            model = compiled()
        model.step.assign(STEP_AT[FADING])
        history = fit(model, images)
        ends.append((model.get_weights(), [np.array(history[name]) for name in sorted(history)]))
    assert max(difference(one, other) for one, other in zip(*ends, strict=True)) < 1e-9


# What is exported


@pytest.mark.parametrize("growth", [0.0, 0.25, 1.0])
def test_the_image_is_that_of_the_present_size_enlarged_and_clipped(growth):
    model = built()
    networks = (model.generator, model.generator_ema, model.discriminator)
    set_growth(networks, growth)
    latents = np.random.default_rng(3).normal(size=(6, 5)).astype(np.float32)
    to_rgb = model.generator_ema.get_layer("to_rgb_8"), model.generator_ema.get_layer("to_rgb_4")
    for layer in to_rgb:
        layer.kernel.assign(2 * layer.kernel)
    ability = model.abilities()["generate"]
    low, high = (model.generator_ema.get_layer("enlarge_8"), *to_rgb)[0], to_rgb[0]
    small, large = keras.Model(model.generator_ema.input, [low.output, high.output])(latents)
    expected = (1 - growth) * np.asarray(small) + growth * np.asarray(large)
    assert np.abs(expected).max() > 1.5  # nothing bounds the network itself ...
    np.testing.assert_allclose(model.generator_ema(latents), expected, rtol=1e-5, atol=1e-6)
    found = ability({"latent": latents})["image"]
    np.testing.assert_allclose(found, np.clip(expected, -1, 1), rtol=1e-5, atol=1e-6)  # ... only what it shows
    names = {layer.name for layer in ability.network._flatten_layers()}
    assert ("to_rgb_4" in names) == ("growth" in names) == (growth < 1.0)


@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.parametrize("stage", STEP_AT, ids=str)
def test_scores_are_those_of_the_present_size_for_any_number_of_images(stage, count):
    model = at(stage, group_size=4)
    images = IMAGES[:count]
    filled = np.concatenate([images] * 4)[:4]
    expected = model.discriminator_at(stage)(faded(filled, stage), training=False)[:count]
    np.testing.assert_allclose(model.logits({"image": images}), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stage", STEP_AT, ids=str)
def test_augmentation_is_of_the_images_of_the_stage(fit, stage):
    """An eighth of four pixels is no pixel: nothing moves at 4x4, and a box of 2x2 is cut out."""
    model = compiled(augment="color,translation,cutout")
    model.step.assign(STEP_AT[stage])
    before = trainable(model)
    history = fit(model, IMAGES)
    assert np.isfinite([values[0] for values in history.values()]).all()
    assert len(moved(before, trainable(model))) > 0
    images, uniform = smaller(IMAGES), np.array([[0.0, 0.99], [0.5, 0.5], [0.9, 0.1], [0.3, 0.6]], np.float32)
    np.testing.assert_array_equal(translate(images, uniform, 1 / 8, fill=0.0), images)
    cut = (np.asarray(cutout(images, uniform, 1 / 2)) == 0).all(axis=-1).sum(axis=(1, 2))
    assert set(cut) <= {1, 2, 4}  # part of the box may lie outside


@pytest.mark.slow
def test_the_published_networks_take_a_step_at_256_pixels_and_are_exported(fit, tmp_path):
    keras.utils.set_random_seed(1)
    model = ProgressiveGAN((256, 256, 3), fade_steps=1, stable_steps=1, group_size=2)
    model.compile(discriminator=Adam(1e-3), generator=Adam(1e-3))
    model.step.assign(1_000)
    before = trainable(model)
    history = fit(model, np.random.default_rng(0).uniform(-1, 1, (2, 256, 256, 3)).astype(np.float32))
    assert np.isfinite([values[0] for values in history.values()]).all()
    sizes, ways = (4, 8, 16, 32, 64, 128), ("to_rgb", "conv_rgb")
    left = {f"{way}_{size}/{part}" for way in ways for size in sizes for part in ("kernel", "bias")}
    assert set(before) - moved(before, trainable(model)) == left
    assert model.growth == 6.0
    ability = model.abilities()["generate"]
    write_onnx(ability, tmp_path / "generate.onnx", rounded=False)
    latents = np.random.default_rng(3).normal(size=(2, 512)).astype(np.float32)
    found = Session(tmp_path / "generate.onnx", providers=["CPUExecutionProvider"]).run({"latent": latents})["image"]
    expected = ability({"latent": latents})["image"]
    assert expected.shape == (2, 256, 256, 3)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, atol=2e-4)


BAD_ARGUMENTS = {
    "latent_dim": (0, "latent_dim=0: choose at least 1"),
    "channel_base": (0, "channel_base=0: choose at least 1"),
    "channel_max": (0, "channel_max=0: choose at least 1"),
    "start_size": (1, "start_size=1: choose at least 2"),
    "fade_steps": (0, "fade_steps=0: choose at least 1"),
    "stable_steps": (0, "stable_steps=0: choose at least 1"),
    "critic_steps": (0, "critic_steps=0: choose at least 1"),
    "penalty_weight": (0.0, "penalty_weight=0.0: choose a number > 0"),
    "drift": (-1.0, "drift=-1.0: choose a number >= 0"),
    "group_size": (1, "group_size=1: choose at least 2 rows"),
    "ema_decay": (1.0, r"ema_decay=1.0: choose 0 <= ema_decay < 1, or None"),
    "image_shape": ((28, 28, 1), "power of two"),
    "augment_target": (0.6, "augment_target: D's scores have no sign"),
    "label_smoothing": (0.1, "label_smoothing: D's scores are no probabilities"),
    "gradient_penalty": (1.0, "gradient_penalty: penalty_weight decides that"),
    "r1": (1.0, "r1: penalty_weight is of the one penalty here"),
    "feature_matching": (1.0, "feature_matching: D's features are others at every level"),
}


@pytest.mark.parametrize("argument", BAD_ARGUMENTS)
def test_a_bad_argument_is_named_with_the_good_ones(argument):
    value, message = BAD_ARGUMENTS[argument]
    with pytest.raises(ValueError, match=message):
        ProgressiveGAN(**{**TINY, argument: value})


def test_a_batch_that_is_not_made_of_whole_groups_is_refused(fit):
    with pytest.raises(ValueError, match="a batch of 3 rows on a replica is not made of groups of 2"):
        fit(compiled(), IMAGES[:3])
