"""Real images to compare with."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from serving.card import Card
from zoo.data.folders import count_channels
from zoo.data.images import ImageSet, center_crop, compute_fingerprint
from zoo.data.load import load_images
from zoo.evaluation.options import EvaluationOptions
from zoo.evaluation.source import ExportedModel, Source, fixed_permutation

# Of the held-out images, those among the training images. Images that people collect repeat a few, so 0 is too strict.
SHARED_AT_MOST = 0.01


@dataclass
class Reference:
    """Real images to compare with, shuffled, and those that the model was trained on, cut alike.

    Args:
        real: held-out images.
        train: training images; None where nothing says what they are.
        crop: pixels of the center that generated images are cut to; None where they are taken whole.
        preprocessing: what was done to both, in words, for the record.
    """

    real: ImageSet
    train: ImageSet | None
    crop: int | None
    preprocessing: str


def load_reference(source: Source, options: EvaluationOptions) -> Reference:
    """The real images that `source` is scored against, and those that it was trained on.

    Args:
        source: says by its card what it was trained on, and how those images were brought to size.
        options: against, split, trained_on and crop.

    Raises:
        ValueError: nothing says what the images are; the model was trained on them; the source's are not square.
    """
    card, crop = source.card, options.crop
    against = options.against or (card.data.source if card else None)
    if against is None:
        raise ValueError(f"{source.name} has no card that names its data: say what to compare with (--against).")
    height, width, channels = source.size
    if height != width:
        raise ValueError(f"images of {height} x {width} pixels: only square ones can be compared.")
    fit = card.recipe.get("fit", "crop") if card else "crop"
    native = load_unpadded(card, channels) if card and fit == "pad" and crop is None else None
    if crop is None:
        crop = height if native is None else min(max(native.images.shape[1:3]), height)
    if not 1 <= crop <= height:
        raise ValueError(f"crop={crop}: choose from 1 to {height}, the side of the images.")
    # As for training, then cut as generated ones are; with no card, what is left of those is all that is known.
    size = height if card else crop
    load = partial(load_images, image_size=size, channels=channels, fit=fit)
    own = card.data.source if card else options.trained_on
    real, train = crop_set(load(against, split=choose_split(options, own)), crop), None
    if native is not None and native.images.shape[1:3] == (crop, crop):
        train = native  # what is left of square images when their padding is cut off: they are not decoded again
    elif card:
        train = crop_set(load(card.data.source, split=card.data.split), crop)
    elif options.trained_on:
        train = crop_set(load(options.trained_on, split="train"), crop)
    others = ""
    if card and train is not None:
        if not check_content(card, pad_set(train, height) if train is native else train, options):
            others = "; training images are others than the card's"
        elif options.trained_on and options.against is None:  # a copy may have any name
            real, train = (replace(images, name=card.data.name) for images in (real, train))
    left_out = np.zeros(len(real.images), bool)
    if train is not None:
        left_out = find_shared(real.images, train.images)
        if left_out.mean() > SHARED_AT_MOST:
            raise ValueError(
                f"{left_out.sum()} of {len(left_out)} images of {real.name}, {real.split}, are among those that "
                f"{source.name} was trained on ({train.name}, {train.split}): give images that were held out."
            )
    rows = np.flatnonzero(~left_out)
    digest = compute_fingerprint(real.images if len(rows) == len(real.images) else real.images[rows])
    rows = rows[fixed_permutation(len(rows))]  # some scores look at the first ones only: all classes must be among them
    labels = None if real.labels is None else real.labels[rows]
    real = replace(real, images=real.images[rows], labels=labels, fingerprint=digest)
    whose = "" if crop == height else f"; the center {crop} x {crop} of {'both' if card else 'generated ones'}"
    if channels == 1 and _has_colors(against):
        whose += "; real ones' colors turned gray"
    shared = f"; {left_out.sum()} left out that training has too" if left_out.any() else ""
    preprocessing = f"8 bits a channel; real ones {fit} to {size} x {size}, Lanczos{whose}{shared}{others}"
    return Reference(real, train, None if crop == height else crop, preprocessing)


def load_held_out(model: ExportedModel, options: EvaluationOptions) -> tuple[ImageSet, str]:
    """The held-out images of a model that is given images, at the size it was trained on; and what was done to them.

    Args:
        model: says by its card what it was trained on, and how those images were brought to size.
        options: against, split and trained_on.

    Raises:
        ValueError: the model was trained on them, or not on what its card says.
    """
    card = model.card
    size, _, channels = read_image_shape(card)
    fit = card.recipe.get("fit", "crop")
    load = partial(load_images, image_size=size, channels=channels, fit=fit)
    real = load(options.against or card.data.source, split=choose_split(options, card.data.source))
    train = load(card.data.source, split=card.data.split)
    same = check_content(card, train, options)
    if same and options.trained_on and options.against is None:  # a copy may have any name
        real = replace(real, name=card.data.name)
    check_held_out(card.name, real, train)
    others = "" if same else "; training images are others than the card's"
    return real, f"8 bits a channel; {fit} to {size} x {size}, Lanczos{others}"


def read_image_shape(card: Card) -> Sequence[int]:
    """(height, width, channels) of the images that a model was trained on.

    Raises:
        ValueError: the card does not say it.
    """
    arguments = card.model["arguments"]
    if "image_shape" not in arguments:
        raise ValueError(f"the card of {card.name} names no image_shape among the model's arguments: write it there.")
    return arguments["image_shape"]


def check_held_out(name: str, real: ImageSet, train: ImageSet) -> None:
    """Refuse images that a model was trained on.

    Raises:
        ValueError: too many of them are among its training images.
    """
    shared = find_shared(real.images, train.images)
    if shared.mean() > SHARED_AT_MOST:
        raise ValueError(
            f"{shared.sum()} of {len(shared)} images of {real.name}, {real.split}, are among those that {name} "
            "was trained on: give images that were held out."
        )


def _has_colors(source: str) -> bool:
    """Whether a folder or zip has an image in color; of data sets by name, nothing is said."""
    path = Path(source).expanduser()
    return source != "embedded" and path.exists() and count_channels(path) == 3


def choose_split(options: EvaluationOptions, own: str | None) -> str:
    """The split of the real images.

    The rule that holds a tenth of a folder out is for what a model is trained on: of another folder, which is held out
    as a whole, it would leave nine tenths unused.

    Args:
        options: against and split.
        own: what the model was trained on, as it was named; None where nothing says it.
    """
    if options.split is not None:
        return options.split
    if options.against in (None, "embedded"):
        return "test"
    folder = Path(str(options.against)).expanduser()
    own_folder = None if own is None else Path(own).expanduser().resolve()
    return "all" if folder.exists() and folder.resolve() != own_folder else "test"


def check_content(card: Card, train: ImageSet, options: EvaluationOptions, key: str = "data_sha256") -> bool:
    """Whether training images are those that a card was written for, as far as it says so.

    Args:
        card: whose recipe may name the sha256 of the images, as `ImageSet` has it.
        train: with the fingerprint of the images at the model's size.
        options: may have named them.
        key: of the sha256 in the recipe.

    Raises:
        ValueError: they are others, and only the card has named them.
    """
    expected = card.recipe.get(key, train.fingerprint)
    if expected != train.fingerprint and options.trained_on is None:
        raise ValueError(
            f"{card.data.source} holds other images than {card.name} was trained on (sha256 "
            f"{train.fingerprint[:12]}..., on the card {expected[:12]}...): name the right ones with --trained-on."
        )
    return expected == train.fingerprint


def load_unpadded(card: Card, channels: int) -> ImageSet:
    """A model's training images at their own size; the larger side is that of the center without padding.

    Raises:
        ValueError: they are of several sizes.
    """
    try:
        return load_images(card.data.source, split=card.data.split, image_size=None, channels=channels)
    except ValueError as error:
        raise ValueError(
            f"{card.name} was trained on padded images; say with --crop how much of them to compare: {error}"
        ) from error


def pad_set(image_set: ImageSet, size: int) -> ImageSet:
    """Square images, not larger than `size`, amid black, as `fit="pad"` brings them to size, with their fingerprint."""
    margin = size - image_set.images.shape[1]
    sides = (margin // 2, margin - margin // 2)
    images = np.pad(image_set.images, ((0, 0), sides, sides, (0, 0)))
    return replace(image_set, images=images, fingerprint=compute_fingerprint(images))


def crop_set(image_set: ImageSet, crop: int) -> ImageSet:
    """The centers of square images."""
    return replace(image_set, images=crop_center(image_set.images, crop))


def find_shared(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(count,) bool: whether the very same image is one of `others`."""
    known = set(hash_images(others))
    return np.array([value in known for value in hash_images(images)])


def hash_images(images: np.ndarray) -> Iterator[bytes]:
    """One hash per image, over its bytes."""
    return (hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() for image in images)


def crop_center(images: np.ndarray, crop: int | None) -> np.ndarray:
    """The center of (count, side, side, channels); with None, all of it."""
    return images if crop is None else center_crop(images, crop, crop)
