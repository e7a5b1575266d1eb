"""StyleGAN: a train step written out with plain TensorFlow, with and without penalties; styles, growth, abilities."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD, Adam

from zoo.core.growth import Stage
from zoo.core.noise import Draws
from zoo.models.stylegan import Plan, StyleGAN
from zoo.networks.growing import discriminator_at, generator_at
from zoo.networks.style import mapping_of, mean_latent_of, synthesis_of

TINY = {
    "image_shape": (8, 8, 3),
    "latent_dim": 5,
    "style_dim": 6,
    "channel_base": 16,
    "channel_max": 6,
    "mapping_layers": 2,
    "group_size": 2,
}
GROWING = {"fade_steps": 4, "stable_steps": 2}  # 4x4 at steps 0 and 1, 8x8 fades in at 2 to 5 and is whole from 6 on
STYLEGAN2 = {"architecture": "stylegan2", "path_length_weight": 2.0, "path_length_interval": 4}
LAYERS, ROWS, RATE, SEED, GAMMA, EVERY = 4, 4, 0.02, 9, 3.0, 4
IMAGES = np.random.default_rng(0).uniform(-1, 1, (ROWS, 8, 8, 3)).astype(np.float32)


def built(**arguments):
    keras.utils.set_random_seed(1)
    model = StyleGAN(**{**TINY, "r1_weight": GAMMA, "r1_interval": EVERY, **arguments})
    for layer in model.generator.layers:  # at their start they add nothing
        if layer.name.startswith("noise_bias"):
            layer.strength.assign(layer.strength + 0.5)
    return model


def compiled(optimizer=lambda: SGD(RATE), steps_per_execution=1, eagerly=False, **arguments):
    model = built(**arguments)
    options = {"seed": SEED, "steps_per_execution": steps_per_execution, "run_eagerly": eagerly}
    model.compile(**options, discriminator=optimizer(), generator=optimizer())
    return model


def adam():
    return Adam(1e-2, beta_1=0.0, beta_2=0.99)


def trainable(model):
    networks = (model.discriminator, model.generator)
    return {weight.path: weight.numpy() for network in networks for weight in network.trainable_variables}


def everything(model):
    optimizers = [variable for optimizer in model.player_optimizers.values() for variable in optimizer.variables]
    return [variable.numpy() for variable in (*model.weights, *optimizers, model.step)]


def assert_bit_equal(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def draws_of(step):
    return Draws(SEED, tf.constant(step, tf.int64), tf.range(ROWS, dtype=tf.int64))


# One step by hand


def networks_at(model, step):
    """(G, its synthesis, D) as they are at a step, once it is told how far they have grown."""
    if model.architecture == "stylegan2":
        return model.generator, synthesis_of(model.generator), model.discriminator
    level, alpha = {0: (0, None), 3: (1, 0.25), 6: (1, None)}[step] if model.schedule else (1, None)
    stage = Stage(level, alpha is not None)
    for network in (model.generator, model.discriminator):
        network.get_layer("growth").level.assign(level if alpha is None else level - 1 + alpha)
    generator = generator_at(model.generator, stage)
    return generator, synthesis_of(generator), discriminator_at(model.discriminator, stage)


def images_at(model, step):
    if not model.schedule or step >= 6:
        return IMAGES
    small = IMAGES.reshape(ROWS, 4, 2, 4, 2, 3).mean((2, 4))
    return small if step < 2 else 0.75 * small.repeat(2, axis=1).repeat(2, axis=2) + 0.25 * IMAGES


def draw_inputs(model, synthesis, draws, mixing):
    """Styles, as a function of the mapping's weights, and noise."""
    first, second = draws.normal(5), draws.normal(5)
    where, whether = float(draws.of_the_step()), float(draws.of_the_step())
    used = 2 * (1 if synthesis.output.shape[1] == 4 else 2)
    cut = 1 + int(where * (used - 1)) if whether < mixing else LAYERS
    noise = [draws.normal(*tensor.shape[1:]) for tensor in synthesis.inputs[1:]]

    def styles():
        mapping = mapping_of(model.generator)
        return tf.stack([mapping(first)] * cut + [mapping(second)] * (LAYERS - cut), axis=1)

    return styles, noise


def descend(tape, loss, variables):
    zero = tf.UnconnectedGradients.ZERO
    gradients = tape.gradient(loss, [v.value for v in variables], unconnected_gradients=zero)
    for gradient, variable in zip(gradients, variables, strict=True):
        variable.assign(variable - RATE * gradient)


def update_by_penalty(discriminator, real, weight):
    """Down weight / 2 E[||grad D(x)||^2]."""
    with tf.GradientTape() as tape:
        images = tf.constant(real)
        with tf.GradientTape() as inner:
            inner.watch(images)
            logits = discriminator(images, training=True)
        gradient = inner.gradient(logits, images)
        loss = weight / 2 * tf.reduce_mean(tf.reduce_sum(gradient**2, axis=(1, 2, 3)))
    descend(tape, loss, discriminator.trainable_variables)


def update_by_length(model, generator, synthesis, draws, mixing, weight):
    """Down weight E[(||J^T y|| - a)^2], a = E[||J^T y||] of this first batch."""
    styles, noise = draw_inputs(model, synthesis, draws, mixing)
    direction = draws.normal(*synthesis.output.shape[1:]) / 8.0  # sqrt(8 * 8)
    with tf.GradientTape() as tape:
        rows = styles()
        with tf.GradientTape() as inner:
            inner.watch(rows)
            projected = tf.reduce_sum(synthesis([rows, *noise], training=True) * direction)
        gradient = inner.gradient(projected, rows)
        lengths = tf.sqrt(tf.reduce_mean(tf.reduce_sum(gradient**2, axis=2), axis=1))
        loss = weight * tf.reduce_mean((lengths - tf.stop_gradient(tf.reduce_mean(lengths))) ** 2)
    descend(tape, loss, generator.trainable_variables)


def as_published(model, step, mixing=0.9, gamma=EVERY * GAMMA, path_length=4 * 2.0, fade=True):
    draws, real = draws_of(step), images_at(model, step) if fade else IMAGES
    generator, synthesis, discriminator = networks_at(model, step)
    styles, noise = draw_inputs(model, synthesis, draws, mixing)
    fake = synthesis([styles(), *noise], training=True)
    with tf.GradientTape() as tape:
        real_logits, fake_logits = discriminator(real, training=True), discriminator(fake, training=True)
        loss = tf.reduce_mean(tf.nn.softplus(-real_logits)) + tf.reduce_mean(tf.nn.softplus(fake_logits))
    descend(tape, loss, discriminator.trainable_variables)
    if step % EVERY == 0:
        update_by_penalty(discriminator, real, gamma)
    with tf.GradientTape() as tape:
        image = synthesis([styles(), *noise], training=True)
        loss = tf.reduce_mean(tf.nn.softplus(-discriminator(image, training=True)))
    descend(tape, loss, generator.trainable_variables)
    if model.path_length_weight and step % 4 == 0:
        update_by_length(model, generator, synthesis, draws, mixing, path_length)


@pytest.mark.parametrize(
    ("arguments", "step", "others"),
    [
        (GROWING, 0, [{"gamma": GAMMA}, {"gamma": 0.0}]),  # 4x4, R1 is due
        (GROWING, 3, [{"fade": False}]),
        (GROWING, 6, [{"mixing": 0.0}]),
        ({"mixing": 0.0}, 0, [{"mixing": 0.9}]),
        (STYLEGAN2, 1, [{"mixing": 0.0}]),
        (STYLEGAN2, 4, [{"gamma": 0.0}, {"path_length": 0.0}, {"path_length": 2.0}]),
    ],
    ids=["lowest, R1 is due", "fading", "highest", "does not grow", "stylegan2", "stylegan2, penalties are due"],
)
def test_one_step_is_the_papers(fit, difference, arguments, step, others):
    model, ends = compiled(**arguments), []
    for options in ({}, *others):
        copy = built(**arguments)
        copy.set_weights(model.get_weights())
        as_published(copy, step, **{"mixing": arguments.get("mixing", 0.9), **options})
        ends.append(trainable(copy))
    before = trainable(model)
    model.step.assign(step)
    fit(model, IMAGES)
    changes = [[end[path] - before[path] for path in before] for end in (trainable(model), *ends)]
    found, expected, *others = changes
    moved = [np.abs(each).max() > 0 for each in expected]
    assert sum(moved) > len(moved) / 2
    assert difference(np.array(found, object)[moved], np.array(expected, object)[moved]) < 1e-3
    for other in others:
        assert difference(np.array(other, object)[moved], np.array(expected, object)[moved]) > 1e-2


# Lazy penalties


def test_penalties_are_due_at_their_intervals():
    model = built(**STYLEGAN2, r1_interval=3)
    plans = [model.plan_of(step) for step in range(13)]
    assert [step for step, plan in enumerate(plans) if plan.r1] == [0, 3, 6, 9, 12]
    assert [step for step, plan in enumerate(plans) if plan.path_length] == [0, 4, 8, 12]
    assert {plan.stage for plan in plans} == {Stage(1, False)}
    assert model.lazy_intervals == {"discriminator": 3, "generator": 4}
    assert built(r1_weight=0.0).plan_of(0) == Plan(Stage(1, False), False, False)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_lazy_regularization_goes_where_the_plain_one_does(fit):
    """Four steps at a rate so small that gradients hardly change: one penalty of four times the weight is four."""
    ends = {}
    for name, options in {"lazy": {}, "plain": {"r1_interval": 1}, "none": {"r1_weight": 0.0}}.items():
        model = compiled(lambda: SGD(1e-5), **options)
        fit(model, IMAGES.astype(np.float64), steps=4)
        ends[name] = np.concatenate([w.numpy().ravel() for w in model.discriminator.trainable_variables])
    lazy, plain = ends["lazy"] - ends["none"], ends["plain"] - ends["none"]
    assert np.linalg.norm(plain) > 0
    assert np.linalg.norm(lazy - plain) < 0.02 * np.linalg.norm(plain)


def test_a_penalty_is_recorded_without_its_interval_and_as_the_mean_of_its_own_steps(fit):
    model = compiled(lambda: SGD(0.0), eagerly=True)
    first = fit(model, IMAGES)["gradient_penalty"]
    model.step.assign(0)
    np.testing.assert_allclose(fit(model, IMAGES, steps=3)["gradient_penalty"], first, rtol=1e-5)
    plain = compiled(lambda: SGD(0.0), r1_interval=1, eagerly=True)
    np.testing.assert_allclose(fit(plain, IMAGES)["gradient_penalty"], first, rtol=1e-5)


# Styles


def test_the_mean_latent_follows_the_mean_of_w_as_its_decay_says(fit):
    model = compiled(lambda: SGD(0.0), mean_decay=0.75, ema_decay=None)
    mapping, expected = mapping_of(model.generator), np.zeros(6)
    for step in range(3):
        latents = draws_of(step).normal(5)
        expected = 0.75 * expected + 0.25 * np.asarray(mapping(latents)).mean(axis=0)
    fit(model, IMAGES, steps=3)
    np.testing.assert_allclose(mean_latent_of(model.generator), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stage", [Stage(0, False), Stage(1, False)], ids=str)
def test_styles_are_mixed_at_every_layer_that_is_used(stage):
    model, cuts = compiled(**GROWING, mixing=0.5), []
    model.plan = Plan(stage, r1=False, path_length=False)
    for step in range(60):
        styles, draws = model.styles(draws_of(step)).numpy(), draws_of(step)
        first, second = (np.asarray(mapping_of(model.generator)(draws.normal(5))) for _ in range(2))
        layers = [layer for layer in range(LAYERS) if np.allclose(styles[:, layer], first, atol=1e-5)]
        assert layers == list(range(len(layers)))
        np.testing.assert_allclose(styles[:, len(layers) :], second[:, None].repeat(LAYERS - len(layers), 1), atol=1e-5)
        cuts.append(len(layers))
    used = 2 * (stage.level + 1)
    assert set(cuts) == {*range(1, used), LAYERS}
    assert 15 < cuts.count(LAYERS) < 45  # of 60, with probability 1/2: four standard deviations


# Abilities


@pytest.mark.parametrize("arguments", [GROWING, {}, STYLEGAN2], ids=["growing", "whole", "stylegan2"])
def test_generate_is_synthesize_of_map(fit, arguments):
    model = compiled(**arguments)
    model.step.assign(7 if "fade_steps" in arguments else 1)
    fit(model, IMAGES)
    random = np.random.default_rng(5)
    network = model.abilities()["generate"].network
    noise = {
        tensor.name: random.normal(size=(3, *tensor.shape[1:])).astype(np.float32)
        for tensor in network.inputs
        if tensor.name.startswith("noise")
    }
    latents = {"latent": random.normal(size=(3, 5)).astype(np.float32), "truncation": np.float32([1.0, 0.5, 0.0])}
    image = model.run_ability("generate", {**latents, **noise})["image"]
    styles = model.run_ability("map", latents)["styles"]
    assert styles.shape == (3, LAYERS, 6)
    np.testing.assert_allclose(styles[2], np.tile(mean_latent_of(model.generator_ema), (LAYERS, 1)), atol=1e-6)
    np.testing.assert_allclose(model.run_ability("synthesize", {"styles": styles, **noise})["image"], image, atol=1e-5)
    names = {layer.name for layer in network._flatten_layers()}
    assert "to_rgb_8" in names
    assert ("to_rgb_4" in names) == (arguments == STYLEGAN2)


def test_a_network_that_has_not_grown_yet_shows_a_smaller_image_enlarged():
    image = built(**GROWING).sample(2, output_type="float32")
    np.testing.assert_array_equal(image, image[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2))
    whole = built().sample(2, output_type="float32")
    assert (whole != whole[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2)).any()


@pytest.mark.parametrize("count", [1, 3, 4])
def test_scores_are_given_for_any_number_of_images(count):
    model = built(group_size=4)
    filled = np.concatenate([IMAGES[:count]] * 4)[:4]
    expected = model.discriminator(filled)[:count]
    np.testing.assert_allclose(model.logits({"image": IMAGES[:count]}), expected, rtol=1e-5, atol=1e-6)


def test_scores_are_of_the_images_of_the_present_size_while_it_fades_in():
    model, small = built(**GROWING), IMAGES.reshape(ROWS, 4, 2, 4, 2, 3).mean((2, 4))
    model.discriminator.get_layer("growth").level.assign(0.25)
    faded = 0.75 * small.repeat(2, axis=1).repeat(2, axis=2) + 0.25 * IMAGES
    expected = discriminator_at(model.discriminator, Stage(1, True))(faded)
    np.testing.assert_allclose(model.logits({"image": IMAGES}), expected, rtol=1e-4, atol=1e-5)


# Runs


AUGMENTED = {"augment": "color,translation,cutout", "augment_target": -0.9}


@pytest.fixture(scope="module")
def states(fit, tmp_path_factory):
    """The model after eight steps, and the states that it saved on the way; the probability of augmentation adapts."""
    model, paths = compiled(adam, eagerly=True, **GROWING, **AUGMENTED), {}
    for done in range(1, 9):
        fit(model, IMAGES)
        paths[done] = model.state().save(str(tmp_path_factory.mktemp("states") / "state"))
    return model, paths


@pytest.mark.parametrize("stopped", [1, 2, 3, 5])
def test_a_resumed_run_goes_on_alike_before_at_and_after_a_change(fit, states, stopped):
    whole, paths = states
    resumed = compiled(adam, eagerly=True, **GROWING, **AUGMENTED)
    resumed.state().restore(paths[stopped]).assert_existing_objects_matched()
    fit(resumed, IMAGES, steps=8 - stopped)
    assert_bit_equal(everything(resumed), everything(whole))
    assert float(whole.regularization.probability) > 0


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("arguments", "step"),
    [pytest.param(GROWING, 4, marks=pytest.mark.slow), (STYLEGAN2, 4)],
    ids=["growing", "stylegan2"],
)
def test_two_replicas_with_whole_groups_are_one(fit, strategy_of, difference, arguments, step):
    """Mean latent, mean path length and the probability of augmentation included."""
    images, ends = np.random.default_rng(2).uniform(-1, 1, (8, 8, 8, 3)), []
    for replicas in (1, 2):
        with strategy_of(replicas).scope():
            model = compiled(**arguments, **AUGMENTED)
        model.step.assign(step)
        history = fit(model, images)
        ends.append((model.get_weights(), [np.array(history[name]) for name in sorted(history)]))
    assert max(difference(one, other) for one, other in zip(*ends, strict=True)) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["stylegan", "stylegan2"])
def test_the_published_networks_take_a_step_at_256_pixels_and_sample(fit, architecture):
    keras.utils.set_random_seed(1)
    model = StyleGAN((256, 256, 3), architecture=architecture, group_size=2)
    model.compile(discriminator=Adam(1e-3), generator=Adam(1e-3))
    before = trainable(model)
    history = fit(model, np.random.default_rng(0).uniform(-1, 1, (2, 256, 256, 3)).astype(np.float32))
    assert np.isfinite([values[0] for values in history.values()]).all()
    assert sum((value != before[path]).any() for path, value in trainable(model).items()) > 0.7 * len(before)
    image = model.sample(1, truncation=0.7, output_type="float32")
    assert image.shape == (1, 256, 256, 3)
    assert np.abs(image).max() <= 1.0


BAD_ARGUMENTS = {
    "architecture": ("stylegan3", "architecture='stylegan3': choose from"),
    "latent_dim": (0, "latent_dim=0: choose at least 1"),
    "style_dim": (0, "style_dim=0: choose at least 1"),
    "mapping_layers": (0, "mapping_layers=0: choose at least 1"),
    "channel_base": (0, "channel_base=0: choose at least 1"),
    "channel_max": (0, "channel_max=0: choose at least 1"),
    "fade_steps": (3, "fade_steps=3, stable_steps=None: give both"),
    "mixing": (1.5, r"mixing=1.5: choose from \[0, 1\]"),
    "mean_decay": (-0.1, r"mean_decay=-0.1: choose from \[0, 1\]"),
    "r1_weight": (-1.0, "r1_weight=-1.0: choose a number >= 0"),
    "r1_interval": (0, "r1_interval=0: choose at least 1"),
    "path_length_weight": (-1.0, "path_length_weight=-1.0: choose a number >= 0"),
    "path_length_interval": (0, "path_length_interval=0: choose at least 1"),
    "group_size": (1, "group_size=1: choose at least 2 rows"),
    "ema_decay": (1.0, "ema_decay=1.0: choose 0 <= ema_decay < 1, or None"),
    "image_shape": ((28, 28, 1), "power of two"),
    "r1": (1.0, "r1: of regularization, StyleGAN takes augment, augment_target"),
    "feature_matching": (1.0, "feature_matching: of regularization, StyleGAN takes"),
}


@pytest.mark.parametrize("argument", BAD_ARGUMENTS)
def test_a_bad_argument_is_named_with_the_good_ones(argument):
    value, message = BAD_ARGUMENTS[argument]
    with pytest.raises(ValueError, match=message):
        StyleGAN(**{**TINY, argument: value})


@pytest.mark.parametrize("steps", [{"fade_steps": 0, "stable_steps": 3}, {"fade_steps": 3, "stable_steps": 0}])
def test_a_stage_takes_a_step(steps):
    with pytest.raises(ValueError, match="_steps=0: choose at least 1"):
        StyleGAN(**TINY, **steps)


def test_stylegan2_does_not_grow():
    with pytest.raises(ValueError, match="the networks of 'stylegan2' do not grow"):
        StyleGAN(**TINY, **GROWING, architecture="stylegan2")
