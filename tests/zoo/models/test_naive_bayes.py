"""Naive Bayes: one step on all images is scikit-learn's fit."""

import itertools

import numpy as np
import pytest
from keras.optimizers import SGD
from sklearn.naive_bayes import BernoulliNB

from zoo.models.naive_bayes import NaiveBayes

SHAPE, CLASSES, SMOOTHING = (2, 2, 1), ("a", "b", "c"), 0.1
RANDOM = np.random.default_rng(0)
LABELS = np.array([0] * 10 + [1] * 20 + [2] * 30)
IMAGES = RANDOM.uniform(-1, 1, (60, *SHAPE)).astype(np.float32) + 0.4 * (LABELS[:, None, None, None] - 1)
IMAGES = np.clip(IMAGES, -1.0, 1.0).astype(np.float32)
EVERY = np.array(list(itertools.product([-1.0, 1.0], repeat=4)), np.float32).reshape(-1, *SHAPE)


@pytest.fixture
def fitted(fit):
    model = NaiveBayes(SHAPE, CLASSES, SMOOTHING)
    model.compile(classes=SGD(1.0))
    fit(model, IMAGES, label=LABELS)
    return model


def test_one_step_is_the_fit_of_scikit_learn(fitted):
    alpha = SMOOTHING * len(LABELS) / len(CLASSES)  # in images
    counts = np.bincount(LABELS)
    prior = (counts + 2 * alpha) / (counts + 2 * alpha).sum()
    oracle = BernoulliNB(alpha=alpha, binarize=0.0, class_prior=prior).fit(IMAGES.reshape(60, -1), LABELS)
    np.testing.assert_allclose(np.log(fitted.mixture.probabilities()[1]), oracle.feature_log_prob_, atol=1e-5)
    found = fitted.run_ability("classify", {"image": EVERY})
    flat = EVERY.reshape(16, -1)
    np.testing.assert_allclose(found["logits"], oracle.predict_joint_log_proba(flat), atol=1e-5)
    np.testing.assert_allclose(found["features"], oracle.predict_proba(flat), atol=1e-5)


def test_a_second_step_changes_nothing(fitted, fit):
    before = fitted.get_weights()
    fit(fitted, IMAGES, label=LABELS)
    for new, old in zip(fitted.get_weights(), before, strict=True):
        np.testing.assert_allclose(new, old, atol=1e-6)


def test_the_probabilities_of_all_images_sum_to_one(fitted):
    assert np.exp(fitted.log_prob(EVERY).values).sum() == pytest.approx(1.0, abs=1e-5)


def test_samples_have_the_pixels_of_their_class(fitted):
    white = np.array(fitted.mixture.probabilities()[1])
    for label in range(3):
        samples = fitted.sample(5_000, seed=2, output_type="float32", batch_size=5_000, labels=label)
        found = (samples.reshape(len(samples), -1) > 0).mean(axis=0)
        assert np.abs((found - white[label]) / np.sqrt(white[label] * (1 - white[label]) / 5_000)).max() < 4.0


def test_accuracy_is_that_of_the_likeliest_class(fitted):
    likeliest = np.argmax(fitted.run_ability("classify", {"image": IMAGES})["logits"], axis=1)
    batch = {"image": IMAGES, "label": LABELS}
    assert float(fitted.diagnose(batch, batch)["train_accuracy"]) == pytest.approx((likeliest == LABELS).mean())


def test_two_replicas_end_where_one_does(fit, strategy_of, difference):
    found = []
    for replicas in (1, 2):
        with strategy_of(replicas).scope():
            model = NaiveBayes(SHAPE, CLASSES, SMOOTHING)
            model.compile(classes=SGD(1.0))
        fit(model, IMAGES[::5][:11], label=LABELS[::5][:11])
        found.append(model.get_weights())
    assert difference(*found) < 1e-6


def test_what_can_not_be_meant_is_refused():
    with pytest.raises(ValueError, match=r"smoothing=0\.0: choose"):
        NaiveBayes(SHAPE, CLASSES, smoothing=0.0)
