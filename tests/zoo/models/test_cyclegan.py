"""CycleGAN: its losses by hand, its order of updates, its history on one replica and on two."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.models.cyclegan import CycleGAN, Translations

SHAPE = (16, 16, 3)
TINY = {"width": 2, "blocks": 1, "discriminator_width": 2}


def build(**arguments):
    keras.utils.set_random_seed(1)
    return CycleGAN(SHAPE, **{**TINY, **arguments})


def images(rows=2, seed=0):
    random = np.random.default_rng(seed)
    return tuple(random.uniform(-1, 1, (rows, *SHAPE)).astype(np.float32) for _ in range(2))


def compiled(model, rate=0.1):
    model.compile(seed=3, **{player: keras.optimizers.SGD(rate) for player in model.players})
    return model


def weights_of(*networks):
    return [variable.numpy() for network in networks for variable in network.trainable_variables]


def mean(values):
    return np.asarray(values, np.float64).reshape(len(values), -1).mean(axis=1)


def test_the_translators_loss_is_that_of_the_paper():
    model, (a, b) = build(cycle_weight=7.0, identity_weight=3.0), images()
    made = model.translations(a, b)
    fake_b, fake_a = model.a_to_b(a, training=True), model.b_to_a(b, training=True)
    adversarial = mean((model.discriminator_b(fake_b) - 1) ** 2) + mean((model.discriminator_a(fake_a) - 1) ** 2)
    cycle = mean(np.abs(model.b_to_a(fake_b) - a)) + mean(np.abs(model.a_to_b(fake_a) - b))
    identity = mean(np.abs(model.b_to_a(a) - a)) + mean(np.abs(model.a_to_b(b) - b))
    loss, terms = model.translator_loss(a, b, made)
    np.testing.assert_allclose(loss, adversarial + 7 * cycle + 3 * identity, rtol=1e-5)
    found = {name: np.asarray(values) for name, values in terms.items()}
    expected = {"adversarial_loss": adversarial, "cycle_loss": cycle, "identity_loss": identity}
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5)


def test_terms_of_weight_zero_are_left_out():
    model, (a, b) = build(cycle_weight=0.0, identity_weight=0.0), images()
    made = model.translations(a, b)
    assert (made.cycled_a, made.cycled_b, made.same_a, made.same_b) == (None,) * 4
    loss, terms = model.translator_loss(a, b, made)
    assert list(terms) == ["adversarial_loss"]
    np.testing.assert_array_equal(loss, terms["adversarial_loss"])
    assert not {"cycle_loss", "identity_loss"} & {metric.name for metric in model.metrics}


def test_the_discriminators_loss_is_halved():
    model, (a, b) = build(), images()
    fake_a, fake_b = images(seed=1)
    expected = 0.0
    for discriminator, real, fake in ((model.discriminator_a, a, fake_a), (model.discriminator_b, b, fake_b)):
        expected += 0.5 * (mean((discriminator(real) - 1) ** 2) + mean(discriminator(fake) ** 2))
    loss, metrics = model.discriminator_loss(a, b, fake_a, fake_b)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    scores = (mean(model.discriminator_a(a)) + mean(model.discriminator_b(b))) / 2
    np.testing.assert_allclose(metrics["real_score"], scores, rtol=1e-5)


def step_by_hand(model, a, b, rate):
    """G and F, then their discriminators on the translations of before, by plain tapes and without a history."""
    translators = [v for network in (model.a_to_b, model.b_to_a) for v in network.trainable_variables]
    discriminators = [
        v for network in (model.discriminator_a, model.discriminator_b) for v in network.trainable_variables
    ]
    with tf.GradientTape() as tape:
        made = model.translations(a, b)
        loss = tf.reduce_mean(model.translator_loss(a, b, made)[0])
    gradients = tape.gradient(loss, [v.value for v in translators])
    for variable, gradient in zip(translators, gradients, strict=True):
        variable.assign(variable - rate * gradient)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model.discriminator_loss(a, b, made.fake_a, made.fake_b)[0])
    gradients = tape.gradient(loss, [v.value for v in discriminators])
    for variable, gradient in zip(discriminators, gradients, strict=True):
        variable.assign(variable - rate * gradient)


@pytest.mark.parametrize("history", [0, 50])  # the first samples pass an empty history
def test_a_step_updates_the_translators_first(history, fit):
    a, b = images()
    model, expected = compiled(build(history=history)), build()
    step_by_hand(expected, a, b, 0.1)
    fit(model, a, target=b)
    networks = ("a_to_b", "b_to_a", "discriminator_a", "discriminator_b")
    for name in networks:
        pairs = zip(weights_of(getattr(model, name)), weights_of(getattr(expected, name)), strict=True)
        for found, wanted in pairs:
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_two_translators_are_one_player():
    model = build()
    assert set(model.players) == {"translators", "discriminators"}
    assert len(model.variables_of("translators")) == 2 * len(model.a_to_b.trainable_variables)


def histories(replicas, strategy_of, fit, steps=4, rows=5):
    with strategy_of(replicas).scope():
        model = compiled(build(history=3), rate=0.0)  # no update: translations are the same in every step
    for step in range(steps):
        a, b = images(rows, seed=step)
        fit(model, a, target=b)
    return [variable.numpy() for each in (model.history_a, model.history_b) for variable in each.variables]


def test_the_history_is_one_of_the_global_batch(strategy_of, fit, difference):
    one, two = (histories(replicas, strategy_of, fit) for replicas in (1, 2))
    assert difference(two, one) < 1e-5
    assert np.abs(one[0]).max() > 0


def test_a_model_without_targets_is_told_what_to_give(fit):
    a, _ = images()
    with pytest.raises(ValueError, match="learns from two collections of images"):
        fit(compiled(build()), a)


def test_targets_are_checked_as_images_are(fit):
    a, b = images()
    with pytest.raises(Exception, match=r"images must lie in \[-1, 1\]"):
        fit(compiled(build()), a, target=127 * (b + 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cycle_weight": -1.0}, "cycle_weight=-1.0: choose a number >= 0"),
        ({"identity_weight": -1.0}, "identity_weight=-1.0"),
        ({"history": -1}, "history=-1"),
        ({"blocks": 0}, "blocks=0: choose at least 1"),
        ({"image_shape": (16, 16)}, "give \\(height, width, channels\\)"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        CycleGAN(**{"image_shape": SHAPE, **TINY, **arguments})


def test_a_preview_has_both_directions():
    model, (a, b) = build(), images(3)
    cells = model.preview({"image": a, "target": b})
    assert cells.shape == (4 * 3, *SHAPE)
    assert cells.dtype == np.uint8
    np.testing.assert_allclose(cells[0] / 127.5 - 1, a[0], atol=1 / 127)
    np.testing.assert_allclose(cells[1] / 127.5 - 1, model.a_to_b(a[:1])[0], atol=1 / 127)
    np.testing.assert_allclose(cells[6] / 127.5 - 1, b[1], atol=1 / 127)
    np.testing.assert_allclose(cells[7] / 127.5 - 1, model.b_to_a(b[1:2])[0], atol=1 / 127)


def test_translations_are_named():
    assert Translations._fields == ("fake_b", "fake_a", "cycled_a", "cycled_b", "same_a", "same_b")
    assert set(build().abilities()) == {"translate_a_to_b", "translate_b_to_a"}
