"""Conditional GANs: a step of each kind written out with plain tapes, losses by hand, the class that is asked for."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD

from serving.card import Data, read_card
from serving.pipeline import Pipeline
from serving.sampling.noise import draw
from serving.session import InputError
from zoo.core.noise import Draws
from zoo.export.export import export
from zoo.models.conditional_gan import ConditionalGAN
from zoo.presets.table import PRESETS
from zoo.pretrained import load_pretrained

CLASSES = ("Dress", "Coat", "Bag")
TINY = {"image_shape": (8, 8, 1), "classes": CLASSES, "latent_dim": 4, "width": 2}
ROWS, RATE, SEED, CLASS_WEIGHT = 6, 0.1, 9, 0.7
IMAGES = np.random.default_rng(0).uniform(-1, 1, (ROWS, 8, 8, 1)).astype(np.float32)
FAKES = np.random.default_rng(1).uniform(-1, 1, (ROWS, 8, 8, 1)).astype(np.float32)
LABELS = np.array([0, 1, 2, 2, 1, 1], np.int64)
OTHERS = (LABELS + 1) % 3
CONDITIONS = ("concatenation", "projection", "auxiliary_classifier")
CASES = [*((condition, "none", "non_saturating") for condition in CONDITIONS), ("projection", "spectral", "hinge")]
CASES += [(condition, "none", "relativistic") for condition in ("concatenation", "auxiliary_classifier")]


def built(**arguments):
    keras.utils.set_random_seed(1)
    return ConditionalGAN(**{**TINY, "discriminator_norm": "none", "class_weight": CLASS_WEIGHT, **arguments})


def shaken(model, seed=2):
    """Every weight random, so that classes differ; statistics stay positive."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        if "float" in variable.dtype:
            numbers = random.normal(0, 0.5, variable.shape)
            variable.assign(np.abs(numbers) + 0.1 if "variance" in variable.path else numbers)
    return model


def first_draws():
    return Draws(SEED, tf.constant(0, tf.int64), tf.range(ROWS, dtype=tf.int64))


def trainable(model):
    networks = (model.discriminator, model.generator)
    return [variable.numpy() for network in networks for variable in network.trainable_variables]


# The step


def answers(model, images, labels):
    """D's logits and, from an auxiliary classifier, those of the classes."""
    if model.names_classes:
        return model.discriminator(images, training=True)
    return model.discriminator([images, tf.constant(labels)], training=True), None


def misnamed(class_logits, labels):
    """-E[log P(C = c | X)]."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, class_logits))


def descend(tape, loss, network):
    variables = network.trainable_variables
    for gradient, variable in zip(tape.gradient(loss, [v.value for v in variables]), variables, strict=True):
        variable.assign(variable - RATE * gradient)


def as_published(model, loss, asked=LABELS, shown=LABELS, real_names=1.0, fake_names=1.0, generator_names=1.0):
    """D is updated, then G on the same z.

    G draws the classes `asked`; D is shown them beside the classes `shown`. The names' factors are those of AC-GAN's
    cross-entropies.
    """
    inputs = [first_draws().normal(4), tf.constant(asked)]
    fake = model.generator(inputs, training=True)
    with tf.GradientTape() as tape:
        real_logits, real_classes = answers(model, tf.constant(IMAGES), LABELS)
        fake_logits, fake_classes = answers(model, fake, shown)
        if loss == "hinge":
            score = tf.reduce_mean(tf.nn.relu(1 - real_logits)) + tf.reduce_mean(tf.nn.relu(1 + fake_logits))
        elif loss == "relativistic":
            score = -tf.reduce_mean(tf.math.log_sigmoid(real_logits - fake_logits))
        else:
            score = -tf.reduce_mean(tf.math.log_sigmoid(real_logits) + tf.math.log_sigmoid(-fake_logits))
        if model.names_classes:
            score += CLASS_WEIGHT * real_names * misnamed(real_classes, LABELS)
            score += CLASS_WEIGHT * fake_names * misnamed(fake_classes, shown)
    descend(tape, score, model.discriminator)
    with tf.GradientTape() as tape:
        logits, class_logits = answers(model, model.generator(inputs, training=True), shown)
        if loss == "relativistic":
            score = -tf.reduce_mean(tf.math.log_sigmoid(logits - answers(model, tf.constant(IMAGES), LABELS)[0]))
        else:
            score = -tf.reduce_mean(logits if loss == "hinge" else tf.math.log_sigmoid(logits))
        if model.names_classes:
            score += CLASS_WEIGHT * generator_names * misnamed(class_logits, shown)
    descend(tape, score, model.generator)


@pytest.mark.parametrize(("condition", "norm", "loss"), CASES)
def test_one_step_equals_the_papers_written_with_two_plain_tapes(fit, difference, condition, norm, loss):
    """The fakes are of the classes of the batch's images, and are shown, or are to be named, as these."""
    model = shaken(built(discriminator_condition=condition, discriminator_norm=norm, loss=loss))
    model.compile(seed=SEED, discriminator=SGD(RATE), generator=SGD(RATE))
    plays = {"published": {}, "other classes": {"asked": OTHERS, "shown": OTHERS}, "misled": {"shown": OTHERS}}
    if condition == "auxiliary_classifier":
        plays |= {name: {name: 0.0} for name in ("real_names", "fake_names", "generator_names")}
        plays["adversarial names"] = {"generator_names": -1.0}
    distances = {}
    for name, options in plays.items():
        copy = ConditionalGAN(**model.get_config())
        copy.set_weights(model.get_weights())
        as_published(copy, loss, **options)
        distances[name] = trainable(copy)
    fit(model, IMAGES, label=LABELS)
    distances = {name: difference(trainable(model), weights) for name, weights in distances.items()}
    assert distances.pop("published") < 1e-4
    assert min(distances.values()) > 1e-3, distances  # and another loss ends elsewhere


def two_updates_of_d(model, minibatches, matching):
    """D is updated on each minibatch's images, classes and latents of its own, then G on the last ones.

    G's loss has the distance between the mean features of its samples and of the last images.
    """
    draws = first_draws()
    for images, labels in minibatches:
        inputs = [draws.normal(4), tf.constant(labels)]
        fake = model.generator(inputs, training=True)
        with tf.GradientTape() as tape:
            real_logits, real_classes = answers(model, tf.constant(images), labels)
            fake_logits, fake_classes = answers(model, fake, labels)
            score = tf.reduce_mean(tf.nn.relu(1 - real_logits)) + tf.reduce_mean(tf.nn.relu(1 + fake_logits))
            if model.names_classes:
                score += CLASS_WEIGHT * (misnamed(real_classes, labels) + misnamed(fake_classes, labels))
        descend(tape, score, model.discriminator)
    features = keras.Model(model.discriminator.input, model.discriminator.get_layer("flatten").output)
    with tf.GradientTape() as tape:
        fake = model.generator(inputs, training=True)
        logits, class_logits = answers(model, fake, labels)
        score = -tf.reduce_mean(logits)
        sides = [side if model.names_classes else [side, tf.constant(labels)] for side in (tf.constant(images), fake)]
        real_mean, fake_mean = (tf.reduce_mean(features(side), axis=0) for side in sides)
        score += matching * tf.reduce_sum((real_mean - fake_mean) ** 2)
        if model.names_classes:
            score += CLASS_WEIGHT * misnamed(class_logits, labels)
    descend(tape, score, model.generator)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_two_updates_of_d_and_feature_matching_written_with_plain_tapes(fit, difference, condition):
    arguments = {"discriminator_steps": 2, "feature_matching": 0.4}
    model = shaken(built(discriminator_condition=condition, loss="hinge", **arguments))
    model.compile(seed=SEED, discriminator=SGD(RATE), generator=SGD(RATE))
    first, second = (IMAGES, LABELS), (FAKES, OTHERS)
    plays = {
        "asked for": ([first, second], 0.4),
        "without matching": ([first, second], 0.0),
        "the other way round": ([second, first], 0.4),
        "the first's classes again": ([first, (FAKES, LABELS)], 0.4),
        "one move": ([second], 0.4),
    }
    ends = {}
    for name, play in plays.items():
        copy = ConditionalGAN(**model.get_config())
        copy.set_weights(model.get_weights())
        two_updates_of_d(copy, *play)
        ends[name] = trainable(copy)
    fit(model, np.stack([IMAGES, FAKES], axis=1), label=np.stack([LABELS, OTHERS], axis=1))
    distances = {name: difference(trainable(model), end) for name, end in ends.items()}
    assert distances.pop("asked for") < 1e-4
    assert min(distances.values()) > 1e-3, distances


@pytest.mark.parametrize("steps", [1, 2])
def test_k_updates_of_d_take_k_labels_a_row(fit, steps):
    model = built(discriminator_steps=steps)
    model.compile(seed=SEED, discriminator=SGD(RATE), generator=SGD(RATE))
    label = LABELS if steps == 2 else np.stack([LABELS, OTHERS], axis=1)
    with pytest.raises(ValueError, match=rf"discriminator_steps={steps} takes labels of shape \(batch, {steps}\), got"):
        fit(model, np.stack([IMAGES] * steps, axis=1), label=label)


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_both_players_of_acgan_want_the_class_named_on_both_sides(fit):
    """D: its loss and -log P(C = c) of images and of fakes; G: its loss and -log P(C = c) of fakes; none is updated."""
    model = shaken(built(discriminator_condition="auxiliary_classifier", loss="hinge"), seed=4)
    fakes = model.generator([first_draws().normal(4), tf.constant(LABELS)], training=True)
    sides = [model.discriminator(images, training=True) for images in (tf.constant(IMAGES), fakes)]
    (real, real_classes), (fake, fake_classes) = [[np.asarray(value) for value in side] for side in sides]
    real_named, fake_named = (
        np.mean(-np.log(softmax(logits)[np.arange(ROWS), LABELS])) for logits in (real_classes, fake_classes)
    )
    hinge = np.mean(np.maximum(0, 1 - real) + np.maximum(0, 1 + fake))
    model.compile(seed=SEED, discriminator=SGD(0.0), generator=SGD(0.0))
    found = {name: value for name, (value,) in fit(model, IMAGES, label=LABELS).items()}
    assert found["discriminator_loss"] == pytest.approx(hinge + CLASS_WEIGHT * (real_named + fake_named), rel=1e-4)
    assert found["generator_loss"] == pytest.approx(np.mean(-fake) + CLASS_WEIGHT * fake_named, rel=1e-4)
    assert found["real_class_accuracy"] == pytest.approx(np.mean(real_classes.argmax(1) == LABELS))
    assert found["fake_class_accuracy"] == pytest.approx(np.mean(fake_classes.argmax(1) == LABELS))
    assert found["real_class_accuracy"] != found["fake_class_accuracy"]
    assert min(real_named, fake_named) > 0.1


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_metrics_are_the_two_sides_and_for_acgan_how_often_the_class_was_named(condition):
    names = set(built(discriminator_condition=condition)._trackers)
    both = {"discriminator_loss", "generator_loss", "real_score", "fake_score", "discriminator_accuracy"}
    own = {"real_class_accuracy", "fake_class_accuracy"} if condition == "auxiliary_classifier" else set()
    assert names == both | own


def test_images_without_labels_are_one_clear_error(fit):
    model = built()
    model.compile(seed=SEED, discriminator=SGD(RATE), generator=SGD(RATE))
    with pytest.raises(ValueError, match="this model learns from labeled images: give a data set with classes"):
        fit(model, IMAGES)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_diagnose_scores_both_sides_beside_their_labels_in_inference_mode(condition):
    model = shaken(built(discriminator_condition=condition, loss="non_saturating"))
    sides = {"train_score": (IMAGES, LABELS), "held_out_score": (FAKES, OTHERS)}
    found = model.diagnose(*({"image": images, "label": labels} for images, labels in sides.values()))
    assert set(found) == set(sides)
    for name, (images, labels) in sides.items():
        if condition == "auxiliary_classifier":
            logits, _ = model.discriminator.predict(images, verbose=0)
        else:
            logits = model.discriminator.predict([images, labels], verbose=0)
        assert float(found[name]) == pytest.approx(float(np.mean(1 / (1 + np.exp(-logits)))), rel=1e-4)


# The class that is asked for


@pytest.mark.parametrize("condition", ["batch_norm", "concatenation"])
def test_a_sample_is_of_the_class_it_was_asked_for_by_name_or_by_number(condition):
    model = shaken(built(generator_condition=condition))
    latent, label = model.abilities()["generate"].card().inputs
    assert (latent.feed, label.feed, label.classes) == ("normal", "label", CLASSES)
    latents = draw(latent, range(4), 0)
    expected = [model.generator_ema.predict([latents, np.full(4, number)], verbose=0) for number in range(3)]
    for number, name in enumerate(CLASSES):
        for labels in (name, number, [name] * 4, np.full(4, number)):
            found = model.sample(4, labels=labels, output_type="float32")
            np.testing.assert_allclose(found, expected[number], atol=1e-5)
        assert np.abs(expected[number] - expected[number - 1]).max(axis=(1, 2, 3)).min() > 0.01  # from the same z
    chosen = ["Coat", 2, "Dress", 1]
    mixed = np.stack([expected[number][row] for row, number in enumerate((1, 2, 0, 1))])
    np.testing.assert_allclose(model.sample(4, labels=chosen, output_type="float32"), mixed, atol=1e-5)
    drawn = model.sample(4, output_type="float32")  # without labels, each class equally likely
    mixed = np.stack([expected[number][row] for row, number in enumerate(draw(label, range(4), 0))])
    np.testing.assert_allclose(drawn, mixed, atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("Hat", r"label 'Hat': no such class: choose from \['Dress', 'Coat', 'Bag'\] or their numbers"),
        (3, "label 3: the classes are 0 to 2"),
        (["Bag", "Coat"], "2 labels for 4 images: give one for all or one for each"),
    ],
)
def test_a_class_there_is_none_of_is_refused(labels, message):
    with pytest.raises(InputError, match=message):
        built().sample(4, labels=labels)


def test_before_the_first_step_all_classes_draw_the_same_image_from_the_same_z():
    """Conditional batch norm starts at scales of 1 and shifts of 0; a class beside z makes a difference at once."""
    for condition in ("batch_norm", "concatenation"):
        model = built(generator_condition=condition)
        of_class = [model.sample(4, labels=name, output_type="float32") for name in CLASSES]
        for other in of_class[1:]:
            assert np.array_equal(of_class[0], other) == (condition == "batch_norm")


def test_an_export_samples_by_the_name_of_a_class_on_its_card(tmp_path):
    model = shaken(built())
    data, recipe = Data("three", "train", 60, "", "three"), {"name": "cgan-fashion-mnist", "steps": 0, "seed": 0}
    preset = PRESETS["cgan-fashion-mnist"]
    export(model, tmp_path / "export", preset=preset, data=data, recipe=recipe, formats=("onnx",))
    card = read_card(tmp_path / "export")
    assert card.abilities["generate"].inputs[1].classes == CLASSES
    assert tuple(card.model["arguments"]["classes"]) == CLASSES
    pipeline = Pipeline.from_directory(tmp_path / "export")
    loaded = load_pretrained(str(tmp_path / "export"), format="keras")
    shown = {name: pipeline.sample(5, labels=name).astype(int) for name in CLASSES}
    for name, images in shown.items():
        assert np.abs(loaded.sample(5, labels=name) - images).max() <= 2
        others = [np.abs(shown[other] - images).max(axis=(1, 2, 3)).min() for other in CLASSES if other != name]
        assert min(others) > 5
    with pytest.raises(InputError, match="label 'Hat': no such class"):
        pipeline.sample(1, labels="Hat")


# The average, and what is refused


@pytest.mark.parametrize("ema_decay", [0.999, None])
def test_the_average_of_the_generator_is_sampled_or_itself(ema_decay):
    model = built(ema_decay=ema_decay)
    assert model.abilities()["generate"].network is model.generator_ema
    assert (model.generator_ema is model.generator) == (ema_decay is None)


BAD_ARGUMENTS = {
    "no class": ({"classes": ()}, r"classes=\[\]: name at least two, each once"),
    "one class": ({"classes": ("Bag",)}, r"classes=\['Bag'\]: name at least two, each once"),
    "a class twice": ({"classes": ("Bag", "Coat", "Bag")}, "name at least two, each once"),
    "image_shape": ({"image_shape": (8, 8)}, r"image_shape=\(8, 8\): give \(height, width, channels\)"),
    "size": ({"image_shape": (28, 28, 1)}, "take square images with a power-of-two side >= 8"),
    "class_weight": ({"class_weight": 0.0}, "class_weight=0.0: choose a number > 0"),
    "loss": ({"loss": "cross_entropy"}, r"loss='cross_entropy': choose from \['hinge', 'least_squares'"),
    "generator_condition": (
        {"generator_condition": "projection"},
        r"generator_condition='projection': choose from \['batch_norm', 'concatenation'\]",
    ),
    "discriminator_condition": (
        {"discriminator_condition": "batch_norm"},
        r"discriminator_condition='batch_norm': choose from \['auxiliary_classifier', 'concatenation', 'projection'\]",
    ),
    "discriminator_norm": (
        {"discriminator_norm": "instance"},
        r"norm='instance': choose from \['batch', 'layer', 'none', 'spectral'\]",
    ),
    "latent_dim": ({"latent_dim": 0}, "latent_dim=0: choose at least 1"),
    "width": ({"width": 0}, "width=0: choose at least 1"),
    "discriminator_steps": ({"discriminator_steps": 0}, "discriminator_steps=0: choose at least 1"),
    "ema_decay": ({"ema_decay": 1.0}, "ema_decay=1.0: choose 0 <= ema_decay < 1, or None"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_a_bad_argument_is_named_with_the_good_ones(case):
    arguments, message = BAD_ARGUMENTS[case]
    with pytest.raises(ValueError, match=message):
        ConditionalGAN(**{**TINY, **arguments})
