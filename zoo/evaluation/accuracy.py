"""The accuracy of an exported classifier."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from serving.card import CardError, read_card
from zoo.data.load import load_images
from zoo.evaluation.extractors import ClassifierExtractor, features_of
from zoo.evaluation.record import Record, of_real_images
from zoo.evaluation.reference import SHARED_AT_MOST, among
from zoo.pretrained import find_directory


def classifier_directory(name: str) -> Path | None:
    """Where the exported classifier called `name` lies; None if it is something else, or not there."""
    try:
        directory = find_directory(name)
    except (CardError, LookupError):
        return None
    return directory if read_card(directory).default_ability == "classify" else None


def accuracy(directory: Path, against: str | None, split: str, tell: Callable[[str], None]) -> Record:
    """The share of held-out images whose class an exported classifier names; std is that of the share itself."""
    extractor, card = ClassifierExtractor(directory), read_card(directory)
    height, _, channels = extractor.image.row
    fit, classes = card.recipe.get("fit", "crop"), card.model["arguments"].get("classes", ())
    load = partial(load_images, image_size=height, channels=channels, fit=fit)
    tell(f"{card.name}: images")
    real, train = load(against or card.data.source, split=split), load(card.data.source, split=card.data.split)
    if real.labels is None:
        raise ValueError(f"{real.name}, {real.split}, has no labels: an accuracy needs them.")
    if list(real.class_names) != list(classes):
        raise ValueError(
            f"{real.name} has the classes {', '.join(real.class_names)}, and {card.name} names {', '.join(classes)}: "
            "give images of the same classes, in the same order."
        )
    shared = among(real.images, train.images)
    if shared.mean() > SHARED_AT_MOST:
        raise ValueError(
            f"{shared.sum()} of {len(shared)} images of {real.name}, {real.split}, are among those that {card.name} "
            "was trained on: give images that were held out."
        )
    tell(f"{card.name}: {len(real.images)} images")
    right = features_of(extractor, real.images)[1].argmax(axis=1) == real.labels
    share = float(right.mean())
    error = (share * (1 - share) / len(right)) ** 0.5
    preprocessing = f"8 bits a channel; {fit} to {height} x {height}, Lanczos"
    return of_real_images("accuracy", "accuracy", card.name, share, error, real, preprocessing, extractor.sha256)
