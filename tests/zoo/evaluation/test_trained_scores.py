"""Trained scores of images whose answers are known: apart, alike, overlapping by a known share, labeled at random."""

from math import erf, log, sqrt

import numpy as np
import pytest

from zoo.evaluation import trained_scores
from zoo.evaluation.trained_scores import classification_accuracy, discriminator_divergence, train_classifier

BUDGET = {"steps": 120, "width": 8}


def noisy(random: np.random.Generator, means: np.ndarray | float, count: int) -> np.ndarray:
    """(count, 8, 8, 1) of independent gray levels around each image's mean, with standard deviation 20."""
    means = np.broadcast_to(means, count)[:, None, None, None]
    return random.normal(means, 20, (count, 8, 8, 1)).clip(0, 255).astype(np.uint8)


def plain(random: np.random.Generator, mean: float, count: int) -> np.ndarray:
    """(count, 8, 8, 1), each of one gray level, which is normal with standard deviation 20."""
    levels = random.normal(mean, 20, (count, 1, 1, 1)).round().clip(0, 255)
    return np.broadcast_to(levels, (count, 8, 8, 1)).astype(np.uint8)


def gray_levels(mean: float) -> np.ndarray:
    """(256,): the probabilities of the levels of `plain`."""
    edges = [-np.inf, *np.arange(0.5, 255), np.inf]
    return np.diff([(1 + erf((edge - mean) / 20 / sqrt(2))) / 2 for edge in edges])


def test_sets_that_have_nothing_in_common():
    random = np.random.Generator(np.random.Philox(1))
    found = discriminator_divergence(noisy(random, 100, 500), noisy(random, 150, 500), **BUDGET)
    assert log(2) - 0.02 < found <= log(2)


def test_sets_of_one_distribution():
    """In 300 steps the discriminator memorizes its 200 images of each set: measured on those, it would find 0.4."""
    random = np.random.Generator(np.random.Philox(2))
    found = discriminator_divergence(noisy(random, 110, 500), noisy(random, 110, 500), steps=300, width=8)
    assert 0 <= found < 0.02


def test_known_divergence():
    """Two normal distributions of brightness, 1.5 standard deviations apart; 2,000 images measure to 0.013."""
    p, q = gray_levels(110), gray_levels(140)
    mixed = (p + q) / 2
    true = sum(float(np.sum(side * np.log(side / mixed, where=side > 0, out=np.zeros(256)))) for side in (p, q)) / 2
    assert true == pytest.approx(0.221, abs=1e-3)
    random = np.random.Generator(np.random.Philox(3))
    found = discriminator_divergence(plain(random, 110, 2000), plain(random, 140, 2000), steps=300, width=8)
    assert 0.75 * true < found < true + 0.035


def test_a_generator_that_drops_a_class():
    """Three classes of brightness 70, 110, 150; the last is never generated, so a third of the answers are wrong."""
    random = np.random.Generator(np.random.Philox(4))
    labels, generated_labels, test_labels = np.arange(300) % 3, np.arange(300) % 2, np.arange(600) % 3
    generated, real, test = (
        noisy(random, 70 + 40 * which, len(which)) for which in (generated_labels, labels, test_labels)
    )
    found = classification_accuracy(generated, generated_labels, real, labels, test, test_labels, **BUDGET)
    assert found.on_generated == pytest.approx(2 / 3, abs=0.03)
    assert found.on_real > 0.95
    assert found.on_both > 0.9


def test_random_labels_teach_nothing():
    """Images of four classes that do not differ: accuracy is chance."""
    random = np.random.Generator(np.random.Philox(5))
    images, labels = noisy(random, 110, 200), random.integers(4, size=200)
    classify = train_classifier(images, labels, 4, **BUDGET)
    found = np.mean(classify(noisy(random, 110, 2000)).argmax(axis=1) == random.integers(4, size=2000))
    assert found == pytest.approx(1 / 4, abs=0.05)  # five standard deviations of 2,000 guesses


def test_as_many_real_images_and_as_many_steps(monkeypatch):
    seen = []

    def watched(images, labels, classes, steps, batch_size, width, seed):
        seen.append((np.sort(images[:, 0, 0, 0]).tolist(), len(labels), classes, steps, seed))
        assert (images[:, 0, 0, 0] % 4 == labels).all()  # they stay together
        return lambda images: np.eye(4)[images[:, 0, 0, 0] % 4]

    monkeypatch.setattr(trained_scores, "_train", watched)
    images = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None, None], (200, 8, 8, 3))
    labels = np.arange(200) % 4
    generated, real = (images[:70], labels[:70]), (images[70:170], labels[70:170])
    found = classification_accuracy(*generated, *real, images[170:], labels[170:], steps=9, seed=5)
    assert found == (1.0, 1.0, 1.0)
    (on_generated, *first), (on_real, *second), (on_both, *third) = seen
    assert first == second == [70, 4, 9, 5]
    assert third == [140, 4, 9, 5]
    assert on_generated == list(range(70))
    assert set(on_real) <= set(range(70, 170))
    assert on_real != list(range(70, 140))
    assert on_both == sorted(on_generated + on_real)


def test_sharpness_is_chosen_on_images_that_neither_train_nor_measure(monkeypatch):
    """D is wrong about one image in four and far too sure: D = 3/4 is best, log 2 - H(1/4) the bound."""
    parts = []

    def too_sure(images, labels, *_, **arguments):
        assert arguments == {"dropout": 0.0, "shift": 0.0, "label_smoothing": 0.0}
        parts.append(images[:, 0, 0].copy())
        assert (images[:, 0, 0, 0] == labels).all()

        def logits_of(images):
            parts.append(images[:, 0, 0].copy())
            side, number = images[:, 0, 0, 0], images[:, 0, 0, 1]
            say = np.where(number % 4 == 0, 1 - side, side)
            return np.stack([np.zeros(len(say)), 40.0 * say - 20.0], axis=1)

        return logits_of

    monkeypatch.setattr(trained_scores, "_train", too_sure)
    side = np.zeros((200, 8, 8, 2), np.uint8)
    side[..., 1] = np.arange(200)[:, None, None]
    other = side.copy()
    other[..., 0] = 1
    found = discriminator_divergence(side, other)
    bound = log(2) + 0.25 * log(0.25) + 0.75 * log(0.75)
    assert found == pytest.approx(bound, abs=0.05)  # not every half has one in four exactly
    rows = [sorted(map(tuple, part.tolist())) for part in parts]
    assert [len(part) for part in rows] == [160, 40, 200]
    assert sorted(rows[0] + rows[1] + rows[2]) == sorted((s, n) for s in (0, 1) for n in range(200))  # each image once


def test_a_classifier_gives_probabilities_again_and_again(monkeypatch):
    random = np.random.Generator(np.random.Philox(6))
    labels = np.arange(128) % 2
    images = noisy(random, 90 + 60 * labels, 128)
    classify, *others = (train_classifier(images, labels, 3, steps=20, width=4, seed=seed) for seed in (1, 1, 2))
    first, again, other = classify(images), *(each(images) for each in others)
    assert first.shape == (128, 3)
    assert first.dtype == np.float64
    np.testing.assert_allclose(first.sum(axis=1), 1, rtol=1e-12)
    assert (first == again).all()
    assert not np.allclose(first, other, rtol=1e-3)
    monkeypatch.setattr(trained_scores, "BLOCK", 9)
    np.testing.assert_allclose(classify(images), first, rtol=1e-4)
    with pytest.raises(ValueError, match=r"images \(9, 8, 1\): this classifier takes those of \(8, 8, 1\)"):
        classify(np.zeros((4, 9, 8, 1), np.uint8))
    with pytest.raises(ValueError, match=r"float64: give .* uint8"):
        classify(images / 255)


IMAGES, LABELS = np.zeros((64, 8, 8, 1), np.uint8), np.arange(64) % 2


@pytest.mark.parametrize(
    ("images", "labels", "options", "complaint"),
    [
        (IMAGES[..., 0], LABELS, {}, r"images \(64, 8, 8\) uint8: give"),
        (IMAGES / 255, LABELS, {}, "float64: give"),
        (IMAGES, None, {}, r"labels \(\) object of 64 images: give one integer per image"),
        (IMAGES, LABELS[1:], {}, r"labels \(63,\)"),
        (IMAGES, LABELS / 2, {}, "float64 of 64 images"),
        (IMAGES, LABELS + 1, {}, "from 1 to 2: give 0 to 1"),
        (IMAGES, LABELS - 1, {}, "from -1 to 0: give 0 to 1"),
        (IMAGES[:63], LABELS[:63], {}, "63 images: give at least 64, a batch"),
        (IMAGES[:, :7], LABELS, {}, "at least 8"),
        (IMAGES, LABELS, {"steps": 0}, "steps=0"),
    ],
)
def test_train_classifier_refuses(images, labels, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        train_classifier(images, labels, 2, **options)


def test_scores_refuse():
    good = (IMAGES, LABELS)
    with pytest.raises(ValueError, match="of 64 generated images: give one integer per image"):
        classification_accuracy(IMAGES, None, *good, *good)
    with pytest.raises(ValueError, match="labels of real test images from 0 to 2: give 0 to 1"):
        classification_accuracy(*good, *good, IMAGES, LABELS * 2)
    with pytest.raises(ValueError, match="from -1 to 0: give 0 or more"):
        classification_accuracy(*good, IMAGES, LABELS - 1, *good)
    with pytest.raises(ValueError, match=r"generated images \(8, 8, 2\) and real ones \(8, 8, 1\)"):
        classification_accuracy(IMAGES.repeat(2, axis=3), LABELS, *good, *good)
    with pytest.raises(ValueError, match="64 generated images: give at most 60"):
        classification_accuracy(*good, IMAGES[:60], LABELS[:60], *good)
    with pytest.raises(ValueError, match="give as many of one shape"):
        discriminator_divergence(IMAGES, IMAGES[:60])
    with pytest.raises(ValueError, match="64 images of each set: give at least 128"):
        discriminator_divergence(IMAGES, IMAGES)
    with pytest.raises(ValueError, match=r"real images .* float64"):
        discriminator_divergence(IMAGES, IMAGES / 255)
