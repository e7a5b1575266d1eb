"""Real images to compare with."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from serving.card import Card
from zoo.data.images import ImageSet, center_crop, compute_fingerprint
from zoo.data.load import load_images
from zoo.evaluation.source import Source, shuffled

SHARED_AT_MOST = 0.01  # of the held-out images, among the training images: data sets repeat some themselves


@dataclass
class Held:
    """Real images to compare with, shuffled, and those that the model was trained on, cut alike."""

    real: ImageSet
    train: ImageSet | None
    crop: int | None
    preprocessing: str


def load_reference(source: Source, against: str | None, split: str, trained_on: str | None, crop: int | None) -> Held:
    """The real images that `source` is scored against, and those that it was trained on.

    Raises:
        ValueError: nothing says what they are; the model was trained on them; the source's images are not square.
    """
    card = source.card
    against = against or (card.data.source if card else None)
    if against is None:
        raise ValueError(f"{source.name} has no card that names its data: say what to compare with (--against).")
    height, width, channels = source.size
    if height != width:
        raise ValueError(f"images of {height} x {width} pixels: only square ones can be compared.")
    fit = card.recipe.get("fit", "crop") if card else "crop"
    if crop is None:
        crop = min(unpadded(card, channels), height) if card and fit == "pad" else height
    if not 1 <= crop <= height:
        raise ValueError(f"crop={crop}: choose from 1 to {height}, the side of the images.")
    # As for training, then cut as generated ones are; with no card, what is left of those is all that is known.
    side = height if card else crop
    load = partial(load_images, image_size=side, channels=channels, fit=fit)
    real, train = cut(load(against, split=split), crop), None
    if card:
        train = cut(load(card.data.source, split=card.data.split), crop)
    elif trained_on:
        train = cut(load(trained_on, split="train"), crop)
    left_out = np.zeros(len(real.images), bool)
    if train is not None:
        left_out = among(real.images, train.images)
        if left_out.mean() > SHARED_AT_MOST:
            raise ValueError(
                f"{left_out.sum()} of {len(left_out)} images of {real.name}, {real.split}, are among those that "
                f"{source.name} was trained on ({train.name}, {train.split}): give images that were held out."
            )
    rows = np.flatnonzero(~left_out)
    digest = compute_fingerprint(real.images if len(rows) == len(real.images) else real.images[rows])
    rows = rows[shuffled(len(rows))]  # where only the first ones are looked at, all classes must be among them
    labels = None if real.labels is None else real.labels[rows]
    real = replace(real, images=real.images[rows], labels=labels, fingerprint=digest)
    whose = "" if crop == height else f"; the center {crop} x {crop} of {'both' if card else 'generated ones'}"
    shared = f"; {left_out.sum()} left out that training has too" if left_out.any() else ""
    preprocessing = f"8 bits a channel; real ones {fit} to {side} x {side}, Lanczos{whose}{shared}"
    return Held(real, train, crop if whose else None, preprocessing)


def unpadded(card: Card, channels: int) -> int:
    """The side of the center that a model's images have no padding in: the larger one of its training images.

    Raises:
        ValueError: they are of several sizes.
    """
    try:
        native = load_images(card.data.source, split=card.data.split, image_size=None, channels=channels)
    except ValueError as error:
        raise ValueError(
            f"{card.name} was trained on padded images; say with --crop how much of them to compare: {error}"
        ) from error
    return max(native.images.shape[1:3])


def cut(image_set: ImageSet, crop: int) -> ImageSet:
    """The centers of square images."""
    return replace(image_set, images=cropped(image_set.images, crop))


def among(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(count,): whether the very same image is one of `others`."""
    known = set(hashes(others))
    return np.array([value in known for value in hashes(images)])


def hashes(images: np.ndarray) -> Iterator[bytes]:
    """One an image, over its bytes."""
    return (hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() for image in images)


def cropped(images: np.ndarray, crop: int | None) -> np.ndarray:
    """The center of (count, side, side, channels)."""
    return images if crop is None else center_crop(images, crop, crop)
