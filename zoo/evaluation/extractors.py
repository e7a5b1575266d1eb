"""Feature extractors as named, hashed things: every score computed with one says which.

Values of different extractors are not comparable, and only the 2015 Inception's have the names FID, KID and IS.
"""

from pathlib import Path
from typing import Protocol

import numpy as np

from serving.pipeline import Pipeline
from zoo.data.images import iterate_chunks, to_float32
from zoo.evaluation.random_features import NAME as RANDOM_FEATURES
from zoo.evaluation.random_features import RandomFeatures
from zoo.evaluation.source import graph_sha256
from zoo.metrics.checks import images_in_range
from zoo.pretrained import find_directory

BATCH_SIZE = 250
SCALED_AT_ONCE = 1000  # images in float32, four times the memory of uint8
HASH_DIGITS = 8  # of a sha256, in the name of a score


class Extractor(Protocol):
    """Images -> features and class probabilities.

    `name` and `sha256` say which network with which weights; a row of features has `dimension` numbers, one of
    probabilities `classes`, which is 0 where the network names none.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102
    @property
    def dimension(self) -> int: ...  # noqa: D102
    @property
    def classes(self) -> int: ...  # noqa: D102

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(count, height, width, channels) float32 in [-1, 1] -> (count, dimension), (count, classes), float32."""


class ClassifierExtractor:
    """An exported classifier of the zoo, on ONNX Runtime.

    Args:
        directory: holds its card, weights and ONNX graph.

    Raises:
        CardError: it does not, or its files are not those of the card.
        ValueError: the model has no ability `classify` with features and logits.
    """

    def __init__(self, directory: str | Path) -> None:
        self.pipeline = Pipeline.from_directory(directory)
        card, ability = self.pipeline.card, self.pipeline.ability
        outputs = {output.name: output for output in ability.outputs}
        if not {"features", "logits"} <= set(outputs) or [spec.feed for spec in ability.inputs] != ["image"]:
            raise ValueError(
                f"{card.name} maps {[spec.name for spec in ability.inputs]} to {sorted(outputs)}: an extractor maps an "
                "image to features and logits, as the zoo's classifiers do."
            )
        (self.image,) = ability.inputs
        self.name, self.sha256 = card.name, graph_sha256(self.pipeline)
        self.dimension, self.classes = outputs["features"].row[0], outputs["logits"].row[0]

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Extractor`.

        Raises:
            ValueError: no images, or of another size than the classifier's; values out of range; NaN.
        """
        images_in_range(images, smallest=1)
        if images.shape[1:] != self.image.row:
            raise ValueError(
                f"images of {format_size(images.shape[1:])} and an extractor, {self.name}, of "
                f"{format_size(self.image.row)}: cut padding off (--crop), or name another extractor."
            )
        outputs = self.pipeline.run({self.image.name: images.astype(np.float32)}, batch_size=BATCH_SIZE)
        return outputs["features"], softmax(outputs["logits"])


def open_extractor(name: str, size: tuple[int, ...]) -> Extractor:
    """The extractor that is called so, for images of a size (height, width, channels).

    Args:
        name: `RANDOM_FEATURES`; or a classifier, by preset or exported directory.
        size: of the images.

    Raises:
        UnknownPresetError, CardError, ValueError: there is none, or see `ClassifierExtractor`.
    """
    return RandomFeatures(size) if name == RANDOM_FEATURES else ClassifierExtractor(find_directory(name))


def softmax(logits: np.ndarray) -> np.ndarray:
    """(count, classes) -> probabilities of the same shape."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def format_version(extractor: Extractor) -> str:
    """Its name with the first digits of its sha256, such as "classifier@0123abcd"."""
    return f"{extractor.name}@{extractor.sha256[:HASH_DIGITS]}"


def extract_features(extractor: Extractor, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (count, dimension) and probabilities (count, classes) of uint8 images, float32.

    Raises:
        ValueError: no images, not uint8, or of a size that the extractor does not take.
    """
    # No images at all go to the extractor once, whose error says what is wrong.
    parts = [extractor(to_float32(part)) for part in iterate_chunks(images, SCALED_AT_ONCE)] or [
        extractor(to_float32(images))
    ]
    return np.concatenate([features for features, _ in parts]), np.concatenate([p for _, p in parts])


def format_size(shape: tuple[int, ...]) -> str:
    """Such as "28 x 28 x 1"."""
    return " x ".join(map(str, shape))
