"""What a batch of training data holds: images, labels, row numbers."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from zoo.core import replicas, step
from zoo.core.types import Tensor

UNSCALED = 2.0  # images with a value beyond and none below 0 are no [-1, 1]


def images_of(data: Any) -> Tensor:
    """The images of a batch: a tensor, the first of a tuple, or the entry "image" of a dictionary."""
    if isinstance(data, Mapping):
        return data["image"]
    return data[0] if isinstance(data, (tuple, list)) else data


def minibatches_of(data: Any, k: int, argument: str) -> list[Tensor]:
    """One batch of images for each of k updates in a step.

    Args:
        data: holds images, (batch, k, height, width, channels), or without the second axis where k = 1.
        k: the constructor's `argument`.
        argument: its name.

    Raises:
        ValueError: the data do not hold k images per row.
    """
    images = images_of(data)
    if k == 1 and len(images.shape) == 4:
        return [images]
    if len(images.shape) != 5 or images.shape[1] != k:
        raise ValueError(
            f"{argument}={k} takes images of shape (batch, {k}, height, width, channels), got {tuple(images.shape)}; "
            f"zoo.data.batches.batches(..., minibatches_per_step={k}) gives them."
        )
    return tf.unstack(images, k, axis=1)


def labeled_minibatches_of(data: Any, k: int, argument: str) -> list[tuple[Tensor, Tensor]]:
    """`minibatches_of`, each batch of images with its classes, (batch,) int32.

    Raises:
        ValueError: the data do not hold k images and k labels a row.
    """
    images, labels = minibatches_of(data, k, argument), tf.cast(labels_of(data), tf.int32)
    if k == 1 and len(labels.shape) == 1:
        return [(images[0], labels)]
    if len(labels.shape) != 2 or labels.shape[1] != k:
        raise ValueError(f"{argument}={k} takes labels of shape (batch, {k}), got {tuple(labels.shape)}.")
    return list(zip(images, tf.unstack(labels, k, axis=1), strict=True))


def check_images(data: Any) -> Any:
    """The same data, once their images can be float numbers in [-1, 1]; nothing of the step is computed before.

    Raises:
        ValueError: another type of number.
        tf.errors.InvalidArgumentError: NaN or infinity, or what looks like 8 bits or like [0, 1].
    """
    checked = check_range(images_of(data))
    if isinstance(data, Mapping):
        targets = {"target": check_range(data["target"])} if "target" in data else {}
        return {**data, "image": checked, **targets}
    return (checked, *data[1:]) if isinstance(data, (tuple, list)) else checked


def check_range(images: Tensor) -> Tensor:
    """The same images, once they can be float numbers in [-1, 1]; raises as `check_images` does."""
    if not images.dtype.is_floating:
        raise ValueError(f"images are {images.dtype.name}: give float32 in [-1, 1], as in images / 127.5 - 1.")
    least, most = tf.reduce_min(images), tf.reduce_max(images)  # NaN and infinity come through
    checks = [
        tf.debugging.Assert(
            tf.math.is_finite(least) & tf.math.is_finite(most), ["images hold NaN or infinity; in [-1, 1] are wanted."]
        ),
        tf.debugging.Assert(
            (least < 0) | (most <= UNSCALED),
            ["images must lie in [-1, 1], as in images / 127.5 - 1 of 8 bits; their least and largest:", least, most],
        ),
        tf.debugging.Assert(
            # 8 bits scaled to [-1, 1] never give 0 itself, and black scaled to [0, 1] does.
            (least != 0) | (most == least),
            ["images lie in [0, 1], with 0 the least: scale them to [-1, 1], by 2 * images - 1; the largest:", most],
        ),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(images)


def check_labels(data: Any, classes: int) -> Any:
    """The same data, once their labels can be classes; nothing of the step is computed before.

    One beyond the classes would train in silence: its one-hot vector is 0, and its row in a table that of another.

    Raises:
        ValueError: the data have no labels, or no whole numbers.
        tf.errors.InvalidArgumentError: a label is not from 0 to `classes` - 1.
    """
    labels = labels_of(data)
    if not labels.dtype.is_integer:
        raise ValueError(f"labels are {labels.dtype.name}: give the number of each image's class, an integer.")
    least, most = tf.reduce_min(labels), tf.reduce_max(labels)
    check = tf.debugging.Assert(
        (least >= 0) & (most < classes),
        [f"labels must lie from 0 to {classes - 1}, of {classes} classes; their least and largest:", least, most],
    )
    with tf.control_dependencies([check]):
        checked = tf.identity(labels)
    if isinstance(data, Mapping):
        return {**data, "label": checked}
    return (data[0], checked, *data[2:])


def labels_of(data: Any) -> Tensor:
    """The classes of a batch, (batch,) integers: the second of a tuple, or the entry "label" of a dictionary.

    Raises:
        ValueError: the data have none.
    """
    if isinstance(data, Mapping) and "label" in data:
        return data["label"]
    if isinstance(data, (tuple, list)) and len(data) > 1:
        return data[1]
    raise ValueError("this model learns from labeled images: give a data set with classes, or a folder a class.")


def targets_of(data: Any) -> Tensor:
    """The images of the second collection in a batch, the entry "target".

    Raises:
        ValueError: the data have none.
    """
    if isinstance(data, Mapping) and "target" in data:
        return data["target"]
    raise ValueError(
        'this model learns from two collections of images, {"image": ..., "target": ...}; '
        "zoo.data.batches.batches(..., targets=...) gives them."
    )


def rows_of(data: Any) -> Tensor:
    """Row numbers in the global batch, (batch,) int64: the entry "row", or 0, 1, ... on a single replica.

    Raises:
        ValueError: several replicas and no row numbers: each would draw the same noise.
        tf.errors.InvalidArgumentError: a replica has no row.
    """
    if isinstance(data, Mapping) and "row" in data:
        return step.require_rows(data["row"])
    if replicas.replicas_in_sync() > 1:
        raise ValueError(
            'training on several replicas needs the global row numbers in the data, {"image": ..., "row": ...}; '
            "zoo.data.batches.batches gives them."
        )
    return tf.range(tf.shape(images_of(data))[0], dtype=tf.int64)
