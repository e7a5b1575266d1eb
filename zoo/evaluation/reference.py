"""Real images to compare with."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from serving.card import Card
from zoo.data.images import Pictures, centre, fingerprint
from zoo.data.load import load_pictures
from zoo.evaluation.source import Source, shuffled

SHARED_AT_MOST = 0.01  # of the held-out pictures, among the training pictures: data sets repeat some themselves


@dataclass
class Held:
    """Real pictures to compare with, shuffled, and those that the model was trained on, cut alike."""

    real: Pictures
    train: Pictures | None
    crop: int | None
    preprocessing: str


def load_held(source: Source, against: str | None, split: str, trained_on: str | None, crop: int | None) -> Held:
    """The real pictures that `source` is scored against, and those that it was trained on.

    Raises:
        ValueError: nothing says what they are; the model was trained on them; the source's pictures are not square.
    """
    card = source.card
    against = against or (card.data.source if card else None)
    if against is None:
        raise ValueError(f"{source.name} has no card that names its data: say what to compare with (--against).")
    height, width, channels = source.size
    if height != width:
        raise ValueError(f"pictures of {height} x {width} pixels: only square ones can be compared.")
    fit = card.recipe.get("fit", "crop") if card else "crop"
    if crop is None:
        crop = min(unpadded(card, channels), height) if card and fit == "pad" else height
    if not 1 <= crop <= height:
        raise ValueError(f"crop={crop}: choose from 1 to {height}, the side of the pictures.")
    # As for training, then cut as generated ones are; with no card, what is left of those is all that is known.
    side = height if card else crop
    load = partial(load_pictures, image_size=side, channels=channels, fit=fit)
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
                f"{left_out.sum()} of {len(left_out)} pictures of {real.name}, {real.split}, are among those that "
                f"{source.name} was trained on ({train.name}, {train.split}): give pictures that were held out."
            )
    rows = np.flatnonzero(~left_out)
    digest = fingerprint(real.images if len(rows) == len(real.images) else real.images[rows])
    rows = rows[shuffled(len(rows))]  # where only the first ones are looked at, all classes must be among them
    labels = None if real.labels is None else real.labels[rows]
    real = replace(real, images=real.images[rows], labels=labels, fingerprint=digest)
    whose = "" if crop == height else f"; the centre {crop} x {crop} of {'both' if card else 'generated ones'}"
    shared = f"; {left_out.sum()} left out that training has too" if left_out.any() else ""
    preprocessing = f"8 bits a channel; real ones {fit} to {side} x {side}, Lanczos{whose}{shared}"
    return Held(real, train, crop if whose else None, preprocessing)


def unpadded(card: Card, channels: int) -> int:
    """The side of the centre that a model's pictures have no padding in: the larger one of its training pictures.

    Raises:
        ValueError: they are of several sizes.
    """
    try:
        native = load_pictures(card.data.source, split=card.data.split, image_size=None, channels=channels)
    except ValueError as error:
        raise ValueError(
            f"{card.name} was trained on padded pictures; say with --crop how much of them to compare: {error}"
        ) from error
    return max(native.images.shape[1:3])


def cut(pictures: Pictures, crop: int) -> Pictures:
    """The centres of square pictures."""
    return replace(pictures, images=cropped(pictures.images, crop))


def among(pictures: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(count,): whether the very same picture is one of `others`."""
    known = set(hashes(others))
    return np.array([value in known for value in hashes(pictures)])


def hashes(pictures: np.ndarray) -> Iterator[bytes]:
    """One a picture, over its bytes."""
    return (hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=16).digest() for picture in pictures)


def cropped(pictures: np.ndarray, crop: int | None) -> np.ndarray:
    """The centre of (count, side, side, channels)."""
    return pictures if crop is None else centre(pictures, crop, crop)
