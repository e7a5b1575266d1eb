"""Scores by a network trained for the purpose: classification accuracy score, bound on the Jensen-Shannon
divergence.

The network is the zoo's `Classifier` with fresh weights and a small, fixed budget: by default it is trained on 96,000
images, in two minutes for 28 x 28 pixels on two CPU cores. Values compare under one budget. The same images, budget and
seed give the same digits on one machine; on GPUs after `tf.config.experimental.enable_op_determinism()`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.evaluation.extractors import softmax
from zoo.models.classifier import Classifier

STEPS, BATCH_SIZE = 1_500, 64
WIDTH = 16
LEARNING_RATE = 1e-3  # Adam's, at the start; down to 0 along a cosine, so that the last weights need no averaging
BLOCK = 256  # images classified at once

VALIDATED = 0.2  # of the discriminator's half of the images: what its sharpness is chosen by
SHARPNESS = (0.0, *np.geomspace(1 / 64, 4, 33))  # factors of its logits; 0 is no opinion, which bounds by 0

Classify = Callable[[np.ndarray], np.ndarray]
"""Images (count, height, width, channels) uint8 -> logits or probabilities (count, classes) float64."""


class ClassificationAccuracy(NamedTuple):
    """On real test images, of classifiers trained on generated images, on as many real ones, on both; in [0, 1]."""

    on_generated: float
    on_real: float
    on_both: float


def train_classifier(
    images: np.ndarray,
    labels: np.ndarray,
    classes: int,
    *,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    width: int = WIDTH,
    seed: int = 0,
    **arguments: Any,
) -> Classify:
    """A classifier of these images.

    Args:
        images: (count, height, width, channels) uint8, at least a batch of them, sides of at least 8.
        labels: (count,) integers in [0, classes); a class may be missing.
        classes: how many there are, at least 2.
        steps: of Adam.
        batch_size: images per step.
        width: channels of the network's first maps.
        seed: of the weights' start, the images' order and the training noise, 0 <= seed < 2**32. It becomes the
            global seed of Python, NumPy and TensorFlow.
        **arguments: of `Classifier`, where they differ from its defaults: images are shifted by up to a tenth of
            their side and not mirrored, the features dropped out, the labels smoothed, which makes it a little unsure.

    Returns:
        images (count, height, width, channels) uint8, of the same shape -> probabilities (count, classes) float64.

    Raises:
        ValueError: anything of another shape, dtype or range; fewer images than a batch.
    """
    compute_logits = _train(images, labels, classes, steps, batch_size, width, seed, **arguments)

    return lambda images: softmax(compute_logits(images))


def classification_accuracy(
    generated: np.ndarray,
    labels: np.ndarray,
    real_train: np.ndarray,
    real_train_labels: np.ndarray,
    real_test: np.ndarray,
    real_test_labels: np.ndarray,
    *,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    width: int = WIDTH,
    seed: int = 0,
) -> ClassificationAccuracy:
    """The classification accuracy score (arXiv:1905.10887, section 3), and what it is to be compared with.

    `on_generated` below `on_real`: classes look wrong, vary too little, or were mixed up. `on_both` above `on_real`:
    the generated images are worth something as additional data, though the classifier takes no more steps. All
    three classifiers start from the same weights. Of n test images, an accuracy p is known to sqrt(p (1 - p) / n),
    and other seeds add to that.
    Paper: ResNet-50, trained to the end, on as many images as the real set has. A small budget here.

    Args:
        generated: (count, height, width, channels) uint8, at least a batch.
        labels: (count,) the classes they were generated for.
        real_train: likewise, at least as many; as many, drawn by the seed, are used.
        real_train_labels: their classes, 0, 1, ... up to the largest.
        real_test: held out from the generator and from `real_train`.
        real_test_labels: their classes.
        steps, batch_size, width, seed: see `train_classifier`.

    Raises:
        ValueError: see `train_classifier`; fewer real images than generated ones, or images of another shape.
    """
    train_labels = _check_labels(real_train, real_train_labels, "real training images")
    classes = int(train_labels.max()) + 1
    labels = _check_labels(generated, labels, "generated images", classes)
    test_labels = _check_labels(real_test, real_test_labels, "real test images", classes)
    for other, what in ((generated, "generated images"), (real_test, "real test images")):
        if other.shape[1:] != real_train.shape[1:]:
            raise ValueError(f"{what} {other.shape[1:]} and real ones {real_train.shape[1:]}: give all of one shape.")
    if len(generated) > len(real_train):
        raise ValueError(f"{len(generated)} generated images: give at most {len(real_train)}, as many as real ones.")
    chosen = np.random.Generator(np.random.Philox(seed)).permutation(len(real_train))[: len(generated)]
    real, real_labels = real_train[chosen], train_labels[chosen]

    def accuracy(images: np.ndarray, labels: np.ndarray) -> float:
        compute_logits = _train(images, labels, classes, steps, batch_size, width, seed)
        return float(np.mean(compute_logits(real_test).argmax(axis=1) == test_labels))

    return ClassificationAccuracy(
        on_generated=accuracy(generated, labels),
        on_real=accuracy(real, real_labels),
        on_both=accuracy(np.concatenate([generated, real]), np.concatenate([labels, real_labels])),
    )


def discriminator_divergence(
    generated: np.ndarray,
    real: np.ndarray,
    *,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    width: int = WIDTH,
    seed: int = 0,
) -> float:
    """A lower bound on the Jensen-Shannon divergence, in nats: from 0 (not told apart) to log 2 (always told apart).

    max(0, log 2 + 1/2 E[log D(x)] + 1/2 E[log(1 - D(G(z)))]) of a discriminator D trained for it: no D exceeds the
    divergence (arXiv:1406.2661, eq. 4 to 6), a weak one stays below it. A random half of each set trains it, the other
    half measures, so memorization is worth nothing. A fifth of the first half is kept back to choose how
    sure it may be, a factor of its logits, since an over-trained D is sure of wrong answers.
    It is an estimate of a bound: of sets of one distribution it is 0 or a little above.

    Args:
        generated: (count, height, width, channels) uint8, at least two batches, sides of at least 8.
        real: as many of the same shape. Held-out ones: of training images, it also measures memorization.
        steps, batch_size, width, seed: see `train_classifier`.

    Raises:
        ValueError: counts or shapes differ, or not uint8; too few.
    """
    _require_images(generated, "generated images")
    _require_images(real, "real images")
    if generated.shape != real.shape:
        raise ValueError(f"generated images {generated.shape} and real ones {real.shape}: give as many of one shape.")
    count = len(real)
    if count < 2 * batch_size:
        raise ValueError(f"{count} images of each set: give at least {2 * batch_size}, two batches.")
    generator = np.random.Generator(np.random.Philox(seed))
    shuffled = [(images, generator.permutation(count)) for images in (generated, real)]
    half = count // 2
    trained = half - round(VALIDATED * half)

    def part(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        return (
            np.concatenate([images[order[start:stop]] for images, order in shuffled]),
            np.repeat([0, 1], stop - start),
        )

    unaltered: dict[str, Any] = {"dropout": 0.0, "shift": 0.0, "label_smoothing": 0.0}
    compute_logits = _train(*part(0, trained), 2, steps, batch_size, width, seed, **unaltered)

    def log_odds(start: int, stop: int) -> np.ndarray:
        """Of the correct answer, (2 (stop - start),)."""
        images, real = part(start, stop)
        return np.diff(compute_logits(images), axis=1)[:, 0] * np.where(real, 1, -1)

    validation = log_odds(trained, half)
    sharpness = min(SHARPNESS, key=lambda factor: _cross_entropy(factor * validation))
    return max(0.0, float(np.log(2) - _cross_entropy(sharpness * log_odds(half, count))))


def _cross_entropy(log_odds: np.ndarray) -> float:
    """The mean of -log sigmoid."""
    return float(np.mean(np.logaddexp(0.0, -log_odds)))


def _train(
    images: np.ndarray,
    labels: np.ndarray,
    classes: int,
    steps: int,
    batch_size: int,
    width: int,
    seed: int,
    **arguments: Any,
) -> Classify:
    """See `train_classifier`, but for what is returned: a function that gives logits."""
    if classes < 2 or min(steps, batch_size, width) < 1:
        raise ValueError(
            f"classes={classes}, steps={steps}, batch_size={batch_size}, width={width}: give at least 2, 1, 1, 1."
        )
    labels = _check_labels(images, labels, "images", classes)
    count, *shape = images.shape
    if count < batch_size:
        raise ValueError(f"{count} images: give at least {batch_size}, a batch.")
    generator = np.random.Generator(np.random.Philox(seed))
    epochs = [generator.permutation(count) for _ in range(-(-steps * batch_size // count))]
    order = np.concatenate(epochs)[: steps * batch_size].reshape(steps, batch_size)
    with tf.device("CPU:0"):
        all_images, all_labels = tf.constant(images), tf.constant(labels)

    def batch(indices: Any) -> dict[str, Any]:
        return {
            "image": tf.cast(tf.gather(all_images, indices), tf.float32) / 127.5 - 1.0,
            "label": tf.gather(all_labels, indices),
            "row": tf.range(batch_size, dtype=tf.int64),
        }

    keras.utils.set_random_seed(seed)
    names = [str(number) for number in range(classes)]
    model = Classifier(shape, names, width=width, ema_decay=None, **arguments)
    decay = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    model.compile(seed=seed, classifier=keras.optimizers.Adam(decay))
    model.fit(tf.data.Dataset.from_tensor_slices(order).map(batch).prefetch(2), shuffle=False, verbose=0)

    def compute_logits(images: np.ndarray) -> np.ndarray:
        _require_images(images, "images")
        if list(images.shape[1:]) != shape:
            raise ValueError(f"images {images.shape[1:]}: this classifier takes those of {tuple(shape)}.")
        blocks = (images[start : start + BLOCK] for start in range(0, len(images), BLOCK))
        scaled = ((block / 127.5 - 1.0).astype(np.float32) for block in blocks)
        return np.concatenate(
            [model.run_ability("classify", {"image": block})["logits"].astype(np.float64) for block in scaled]
        )

    return compute_logits


def _require_images(images: np.ndarray, what: str) -> None:
    if images.ndim != 4 or images.dtype != np.uint8 or not images.size:
        raise ValueError(f"{what} {images.shape} {images.dtype}: give (count, height, width, channels), uint8.")


def _check_labels(images: np.ndarray, labels: np.ndarray, what: str, classes: int | None = None) -> np.ndarray:
    """(count,) int64, once images and labels are known to be that, and to belong together."""
    _require_images(images, what)
    labels = np.asarray(labels)
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels {labels.shape} {labels.dtype} of {len(images)} {what}: give one integer per image; images "
            "without classes have no such score."
        )
    if labels.min() < 0 or (classes is not None and labels.max() >= classes):
        wanted = "0 or more" if classes is None else f"0 to {classes - 1}"
        raise ValueError(f"labels of {what} from {labels.min()} to {labels.max()}: give {wanted}.")
    return labels.astype(np.int64)
