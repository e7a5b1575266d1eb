"""Classifier: its loss in closed form, a train step written out with one plain tape, and what is exported of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD
from scipy.special import log_softmax, softmax

from zoo.core import context
from zoo.core.noise import Draws
from zoo.core.step import input_gradient
from zoo.layers.augmentation import flip, translate
from zoo.losses.classification import correct, cross_entropy
from zoo.models.classifier import Classifier
from zoo.networks import vgg

CLASSES = ("a", "b", "c")
TINY = {"image_shape": (8, 8, 1), "classes": CLASSES, "width": 2, "shift": 0.25, "flip": True}
ROWS, RATE, SEED = 6, 0.1, 9
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.uniform(-1, 1, (ROWS, 8, 8, 1)).astype(np.float32)
LABELS = np.arange(ROWS) % 3


def built(**arguments):
    keras.utils.set_random_seed(1)
    return Classifier(**{**TINY, **arguments})


def first_draws():
    return Draws(SEED, tf.constant(0, tf.int64), tf.range(ROWS, dtype=tf.int64))


# The loss


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_and_its_gradient_in_closed_form(smoothing):
    """-sum q log p, of gradient p - q: q gives smoothing / 3 to each of three classes, the rest to the right one."""
    logits, labels = RANDOM.normal(0.0, 2.0, (5, 3)), np.array([0, 1, 2, 0, 1])
    targets = (1 - smoothing) * np.eye(3)[labels] + smoothing / 3
    np.testing.assert_allclose(targets.sum(axis=1), 1.0)
    expected = -np.sum(targets * log_softmax(logits, axis=1), axis=1)
    np.testing.assert_allclose(cross_entropy(tf.constant(logits), labels, smoothing), expected, rtol=1e-12)
    slope = input_gradient(lambda each: cross_entropy(each, labels, smoothing), tf.constant(logits))
    np.testing.assert_allclose(slope, softmax(logits, axis=1) - targets, atol=1e-12)


def test_an_answer_is_correct_where_the_likeliest_class_is_the_right_one():
    logits = np.array([[0.1, 0.2, 0.0], [3.0, -1.0, 2.0], [-5.0, -4.0, -3.0]], np.float32)
    np.testing.assert_array_equal(correct(logits, np.array([1, 2, 2])), [1.0, 0.0, 1.0])


# A step


def step_by_hand(model, smoothing=0.1, shift=0.25, mirrored=True, fill=-1.0):
    """Images shifted into black, mirrored, through dropout, by noise in this order; then the plain gradient."""
    draws = first_draws()
    context.activate(draws)
    images = translate(tf.constant(IMAGES), draws.uniform(2), shift, fill)
    images = flip(images, draws.uniform()) if mirrored else images
    variables = model.classifier.trainable_variables
    targets = (1 - smoothing) * np.eye(3)[LABELS] + smoothing / 3
    with tf.GradientTape() as tape:
        _, logits = model.classifier(images, training=True)
        loss = -tf.reduce_mean(tf.reduce_sum(targets.astype(np.float32) * tf.nn.log_softmax(logits), axis=1))
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    for gradient, variable in zip(gradients, variables, strict=True):
        variable.assign(variable - RATE * gradient)
    context.deactivate()
    return float(loss), float(np.mean(np.argmax(logits, axis=1) == LABELS))


def trainable(model):
    return [variable.numpy() for variable in model.classifier.trainable_variables]


def test_one_step_equals_the_step_by_hand(fit, difference):
    model, ends = built(), {}
    others = {"smoothing": 0.0, "shift": 0.0, "mirrored": False, "fill": 0.0}
    for changed in (None, *others):
        copy = Classifier(**model.get_config())
        copy.set_weights(model.get_weights())
        ends[changed] = step_by_hand(copy, **({} if changed is None else {changed: others[changed]})), trainable(copy)
    model.compile(seed=SEED, classifier=SGD(RATE))
    history = fit(model, IMAGES, label=LABELS)
    distances = {changed: difference(trainable(model), weights) for changed, (_, weights) in ends.items()}
    assert distances.pop(None) < 1e-4
    assert min(distances.values()) > 1e-3, distances
    loss, accuracy = ends[None][0]
    assert history["loss"] == [pytest.approx(loss, rel=1e-4)]
    assert history["accuracy"] == [pytest.approx(accuracy)]


def test_images_are_mirrored_where_that_is_asked_for():
    for mirrored in (True, False):
        found = built(shift=0.0, flip=mirrored).augment(tf.constant(IMAGES), first_draws()).numpy()
        same = (found == IMAGES).all(axis=(1, 2, 3))
        assert same.all() == (not mirrored)
        np.testing.assert_array_equal(found[~same], IMAGES[~same, :, ::-1])


# What is exported


def test_the_average_is_what_classifies_and_is_diagnosed():
    model = built()
    assert model.abilities()["classify"].network is model.classifier_ema is not model.classifier
    model.classifier.set_weights([0 * weight for weight in model.classifier.get_weights()])
    _, logits = model.classifier_ema(IMAGES, training=False)
    right = np.argmax(logits, axis=1)
    found = model.diagnose({"image": IMAGES, "label": right}, {"image": IMAGES[:4], "label": (right[:4] + 1) % 3})
    assert {name: float(value) for name, value in found.items()} == {"train_accuracy": 1.0, "held_out_accuracy": 0.0}
    live = built(ema_decay=None)
    assert live.abilities()["classify"].network is live.classifier


def test_the_network_is_three_pairs_of_convolutions_and_the_mean_of_the_last_map():
    network = vgg.classifier((8, 12, 3), 5, width=2)
    images = RANDOM.uniform(-1, 1, (4, 8, 12, 3)).astype(np.float32)
    features, logits = network(images, training=False)
    assert (features.shape, logits.shape) == ((4, 8), (4, 5))
    assert np.min(features) >= 0.0
    assert np.ptp(features, axis=0).max() > 0.0
    maps = [layer for layer in network.layers if "Conv" in type(layer).__name__]
    assert [layer.filters for layer in maps] == [2, 2, 4, 4, 8, 8]
    assert [layer.input.shape[1:3] for layer in maps] == [(8, 12)] * 2 + [(4, 6)] * 2 + [(2, 3)] * 2
    last = keras.Model(network.input, network.get_layer("features").input)
    np.testing.assert_allclose(np.mean(last(images), axis=(1, 2)), features, rtol=1e-5, atol=1e-6)


def test_features_are_dropped_before_the_logits_in_training_alone():
    keras.utils.set_random_seed(1)
    network = vgg.classifier((8, 8, 1), 3, width=2, dropout=0.25)
    context.activate(first_draws())
    features, logits = network(IMAGES, training=True)
    kept = first_draws().uniform(8).numpy() >= 0.25
    assert 0 < kept.sum() < kept.size
    kernel, bias = network.get_layer("logits").get_weights()
    np.testing.assert_allclose(logits, (features * kept / 0.75) @ kernel + bias, rtol=1e-4, atol=1e-5)
    features, logits = network(IMAGES, training=False)
    np.testing.assert_allclose(logits, features @ kernel + bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "width=0: choose at least 1"),
        ({"shift": 1.0}, r"shift=1.0, label_smoothing=0.1: choose from \[0, 1\)"),
        ({"label_smoothing": 1.0}, r"label_smoothing=1.0: choose from \[0, 1\)"),
        ({"image_shape": (7, 8, 1)}, r"image_shape=\(7, 8, 1\): both sides must be at least 8"),
    ],
)
def test_a_bad_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        built(**arguments)
