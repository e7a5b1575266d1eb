"""Boards: which test sets models stand on, with what they are compared in; what others have published of them.

Both are declared in `likelihood.json`. A board is a test set, its binarization and its unit.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from serving.card import Support
from zoo.data.images import ImageSet, compute_fingerprint, to_float32
from zoo.data.load import load_images
from zoo.evaluation.source import fixed_permutation
from zoo.metrics.likelihood import smoothed_rates

LIKELIHOOD = "likelihood"
BOARDS = (LIKELIHOOD,)
DECLARED = Path(__file__).with_name("likelihood.json")
GRAY_LEVEL = 2 / 255  # from one to the next, of images in [-1, 1]

Binarization = Literal["fixed", "dynamic", "none"]
Estimator = Literal["exact", "AIS", "RAISE", "estimate", "bound", "importance", "ELBO", "Monte Carlo"]


class Board(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of `likelihood.json`.

    name: a word. title: of its table. data: what its models are trained on. supports: what their likelihoods are of
    (`serving.card.Output.support`). binarization: fixed: the images are black and white; dynamic: each pixel is drawn
    anew with its brightness as the probability of white; none: gray levels. channels: of the images. most_samples: of
    z, for each image.
    """

    name: str
    title: str
    data: str
    supports: tuple[Support, ...]
    binarization: Binarization
    channels: int = 1
    most_samples: int | None = None

    @property
    def unit(self) -> str:
        """Of black and white images nats, of gray levels bits a dimension."""
        return "nats" if self.supports == ("binary",) else "bits a dimension"


class Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What others report: value as the board has it, and presets that it may be held against."""

    board: str
    model: str
    value: float
    protocol: str
    source: str
    presets: tuple[str, ...] = ()


class Declared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`likelihood.json`."""

    boards: tuple[Board, ...]
    published: tuple[Published, ...]


@dataclass(frozen=True)
class BoardOptions:
    """The protocol of a board.

    Args:
        samples: K, latents of each image.
        count: test images, at least 2; all when not given.
        chains: of annealed importance sampling.
        temperatures: likewise.
        seed: of every draw.

    Raises:
        ValueError: a number out of its range.
    """

    samples: int = 5_000
    count: int | None = None
    chains: int = 100
    temperatures: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"samples": 1, "count": 2, "chains": 2, "temperatures": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{name}={value}: give {low} or more.")


@dataclass(frozen=True)
class Row:
    """One number of a board with what it rests on.

    Args:
        board: its name.
        model: a preset, or what the baseline is called.
        estimator: what kind of number it is.
        samples: latents or chains of each image, 0 where it takes none.
        value: mean over the images, in `unit`.
        error: one standard error of it: over the images, and of what all of them share, such as log Z.
        unit: "nats", log p(x); or "bits a dimension", of which fewer are better.
        count: test images.
        binarization: of them.
        given: what is known beside the image: "the class", or nothing.
        epochs: of the training.
        protocol: all else, in words.
        task: see `Task.protocol`.
        source_sha256: of the graph, or of what else was asked.
        data_sha256: of the test images as they were scored.
    """

    board: str
    model: str
    estimator: Estimator
    samples: int
    value: float
    error: float
    unit: str
    count: int
    binarization: str
    given: str
    epochs: float
    protocol: str
    task: str
    source_sha256: str
    data_sha256: str


@dataclass(frozen=True)
class BoardImages:
    """A board's test images.

    Args:
        test: in an order that has nothing to do with classes, binarized as the board says; uint8.
        train: the training images as they are.
    """

    board: Board
    test: ImageSet
    train: ImageSet
    seed: int

    @property
    def given(self) -> np.ndarray:
        """What graphs are given, float32 in [-1, 1]."""
        return to_float32(self.test.images)

    @property
    def binary(self) -> np.ndarray:
        """Black and white pixels as 0 and 1, bool (count, pixels)."""
        return self.test.images.reshape(len(self.test.images), -1) > 127

    @property
    def train_rates(self) -> np.ndarray:
        """How often each pixel is white in the training images, (pixels,), never 0 or 1."""
        return smoothed_rates(self.train.images.reshape(len(self.train.images), -1) / 255.0)

    def class_shares(self, classes: int) -> np.ndarray:
        """p(y) of so many classes, as in the training images."""
        labels = self.train.labels
        assert labels is not None  # the test images have them
        return np.bincount(labels, minlength=classes) / len(labels)

    def dequantize(self) -> np.ndarray:
        """Gray levels with uniform noise of one level's width around each, float32."""
        noise = np.random.Generator(np.random.Philox(self.seed)).random(self.test.images.shape, np.float32)
        return (self.given + (noise - np.float32(0.5)) * np.float32(GRAY_LEVEL)).astype(np.float32)


def read_declared(path: Path = DECLARED) -> Declared:
    """Boards and published values.

    Raises:
        msgspec.ValidationError: a field is missing, unknown or of another type.
    """
    return msgspec.json.decode(path.read_bytes(), type=Declared)


def load_board_images(board: Board, options: BoardOptions) -> BoardImages:
    """The test images, as the board wants them, and the training images.

    Raises:
        ValueError, FileNotFoundError, RuntimeError: they are not on this machine, or are fewer than `options.count`.
    """
    load = partial(load_images, board.data, image_size=None, channels=board.channels)
    test, train = load(split="test"), load(split="train")
    wanted = len(test.images) if options.count is None else options.count
    if wanted > len(test.images):
        raise ValueError(f"count={wanted}: {board.data} has {len(test.images)} test images.")
    rows = fixed_permutation(len(test.images))[:wanted]
    images = test.images[rows]
    if board.binarization == "dynamic":
        draws = np.random.Generator(np.random.Philox(options.seed))
        images = np.where(draws.random(images.shape, np.float32) * 255 < images, np.uint8(255), np.uint8(0))
    fingerprint = compute_fingerprint(images)
    labels = None if test.labels is None else test.labels[rows]
    return BoardImages(board, replace(test, images=images, labels=labels, fingerprint=fingerprint), train, options.seed)
