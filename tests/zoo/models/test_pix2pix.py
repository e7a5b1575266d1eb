"""pix2pix: its losses by hand, its order of updates, both directions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.core.noise import Draws
from zoo.models.pix2pix import Pix2Pix

SHAPE = (16, 16, 3)
TINY = {"width": 2, "halvings": 3, "discriminator_width": 2, "dropout": 0.0, "jitter": 0.0, "mirror": False}


def build(**arguments):
    keras.utils.set_random_seed(1)
    return Pix2Pix(SHAPE, **{**TINY, **arguments})


def images(rows=3, seed=0):
    random = np.random.default_rng(seed)
    return tuple(random.uniform(-1, 1, (rows, *SHAPE)).astype(np.float32) for _ in range(2))


def compiled(model, rate=0.1):
    model.compile(seed=3, **{player: keras.optimizers.SGD(rate) for player in model.players})
    return model


def mean(values):
    return np.asarray(values, np.float64).reshape(len(values), -1).mean(axis=1)


def softplus(values):
    return np.logaddexp(0.0, np.asarray(values, np.float64))


def test_the_losses_are_those_of_the_paper():
    model, (x, y) = build(distance_weight=10.0), images()
    fake = model.translator(x, training=True)
    real_logits, fake_logits = (model.logits(x, each, training=True) for each in (y, fake))
    loss, _ = model.discriminator_loss(x, y, fake)
    np.testing.assert_allclose(loss, 0.5 * (mean(softplus(-real_logits)) + mean(softplus(fake_logits))), rtol=1e-5)
    loss, recorded = model.translator_loss(x, y, fake)
    distance = mean(np.abs(fake - y))
    np.testing.assert_allclose(loss, mean(softplus(-fake_logits)) + 10 * distance, rtol=1e-5)
    np.testing.assert_allclose(recorded["distance"], distance, rtol=1e-5)


def test_the_discriminator_sees_what_was_translated():
    model, (x, y) = build(), images()
    assert np.abs(model.logits(x, y, training=False) - model.logits(-x, y, training=False)).max() > 0


@pytest.mark.parametrize("direction", ["a_to_b", "b_to_a"])
def test_a_step_updates_the_discriminator_first(direction, fit):
    a, b = images()
    x, y = (a, b) if direction == "a_to_b" else (b, a)
    model, expected = compiled(build(direction=direction)), build(direction=direction)
    discriminator, translator = (each.trainable_variables for each in (expected.discriminator, expected.translator))
    with tf.GradientTape(persistent=True) as tape:
        fake = expected.translator(x, training=True)
        loss = tf.reduce_mean(expected.discriminator_loss(x, y, tf.stop_gradient(fake))[0])
    for variable, gradient in zip(discriminator, tape.gradient(loss, [v.value for v in discriminator]), strict=True):
        variable.assign(variable - 0.1 * gradient)
    with tape:
        loss = tf.reduce_mean(expected.translator_loss(x, y, fake)[0])
    for variable, gradient in zip(translator, tape.gradient(loss, [v.value for v in translator]), strict=True):
        variable.assign(variable - 0.1 * gradient)
    fit(model, a, target=b)
    for found, wanted in ((model.discriminator, expected.discriminator), (model.translator, expected.translator)):
        for one, other in zip(found.trainable_variables, wanted.trainable_variables, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("jitter", "mirror", "places", "sides"), [(0.25, False, 5, 1), (0.25, True, 5, 2), (0.0, True, 1, 2)]
)
def test_a_pair_is_jittered_and_mirrored_as_one(jitter, mirror, places, sides):
    """y = -x stays so. Values that grow across tell where a box was cut out, and which way round it is."""
    ramp = np.linspace(-1.0, 1.0, 16, dtype=np.float32)
    x = np.broadcast_to(ramp[None, None, :, None], (200, *SHAPE))
    model, draws = (
        build(jitter=jitter, mirror=mirror),
        Draws(3, tf.constant(0, tf.int64), tf.range(200, dtype=tf.int64)),
    )
    found, other = (np.asarray(each) for each in model.augment(x, -x, draws))
    assert found.shape == other.shape == x.shape
    np.testing.assert_allclose(other, -found, atol=1.01 / 127.5)  # both are rounded to levels when they are enlarged
    slopes, middles = found[:, 0, -1, 0] - found[:, 0, 0, 0], found[:, 0, :, 0].mean(axis=1)
    assert len(np.unique(np.sign(slopes))) == sides
    assert len(np.unique((middles * np.sign(slopes)).round(2))) == places
    enlarged = np.abs(np.diff(found[:, 0, :, 0], axis=1)).mean()
    assert enlarged == pytest.approx(np.diff(ramp).mean() / (1 + jitter), rel=0.02)


def test_the_ability_is_named_after_the_direction():
    for direction in ("a_to_b", "b_to_a"):
        assert list(build(direction=direction).abilities()) == [f"translate_{direction}"]


def test_held_out_pairs_are_diagnosed():
    model, (a, b) = build(), images()
    batch = {"image": a, "target": b}
    found = model.diagnose(batch, batch)
    assert set(found) == {"train_score", "held_out_score", "train_distance", "held_out_distance"}
    distance = np.abs(model.translator(a, training=False) - b).mean()
    assert float(found["train_distance"]) == pytest.approx(distance, rel=1e-5)


def test_a_preview_has_the_truth_beside_the_translation():
    model, (a, b) = build(direction="b_to_a"), images()
    cells = model.preview({"image": a, "target": b})
    assert cells.shape == (4 * 3, *SHAPE)
    made = np.asarray(model.translator(b))
    for index, values in enumerate((b, made, a, np.abs(made - a) - 1)):
        np.testing.assert_allclose(cells[index] / 127.5 - 1, values[0], atol=1 / 127)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"direction": "b"}, "direction='b': choose from"),
        ({"distance_weight": -1.0}, "distance_weight=-1.0: choose a number >= 0"),
        ({"dropout": 1.0}, "dropout=1.0: choose from"),
        ({"jitter": -0.1}, "jitter=-0.1: choose from"),
        ({"halvings": 0}, "halvings=0: choose at least 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)
