"""Features of a convolutional network that nobody trained: random embeddings, as in arXiv:2002.09797.

A classifier's features keep what tells the classes of its data set apart. Random ones know no data set and no class and
fit images of any size: a second opinion that is independent of every classifier.
"""

import hashlib
from itertools import pairwise

import numpy as np

from zoo.metrics.checks import images_in_range

NAME = "random-features"
DIMENSION = 128  # as many as the zoo's classifiers have
WIDTH = 16  # channels of the first maps; twice as many at each halving, as VGG has them
LARGEST_WIDTH = 64
SMALLEST_MAP = 4  # pixels of a side at which halving ends
BATCH_SIZE = 100  # images at once: 784 x 9 columns each are far from the largest


class RandomFeatures:
    """An extractor (`zoo.evaluation.extractors.Extractor`) of images of one size.

    3 x 3 convolutions, each followed by ReLU and the mean of 2 x 2 pixels, until no side is longer than 4 pixels; then
    all values times a matrix. The weights are normal numbers of one fixed seed, scaled so that the variance stays the
    same (He et al., arXiv:1502.01852).

    Args:
        size: (height, width, channels) of the images.
    """

    name = NAME
    dimension = DIMENSION
    classes = 0

    def __init__(self, size: tuple[int, ...]) -> None:
        *sides, channels = size
        widths = [channels]
        while max(sides) > SMALLEST_MAP or len(widths) == 1:
            widths.append(min(WIDTH * 2 ** (len(widths) - 1), LARGEST_WIDTH))
            sides = [-(-side // 2) for side in sides]
        numbers = np.random.Generator(np.random.Philox(0))
        shapes = [(9 * inputs, outputs) for inputs, outputs in pairwise(widths)]
        shapes.append((sides[0] * sides[1] * widths[-1], DIMENSION))
        self.size = size
        self.weights = [
            numbers.standard_normal(shape, np.float32) * np.float32((2 / shape[0]) ** 0.5) for shape in shapes
        ]
        self.sha256 = hashlib.sha256(b"".join(weights.tobytes() for weights in self.weights)).hexdigest()

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (count, 128), and probabilities of no classes, (count, 0); float32.

        Args:
            images: (count, height, width, channels) float32 in [-1, 1].

        Raises:
            ValueError: no images, or of another size; values out of range; NaN.
        """
        images_in_range(images, smallest=1)
        if images.shape[1:] != self.size:
            raise ValueError(f"images of {images.shape[1:]}, and random features of {self.size}: give one size.")
        parts = [
            self.extract(images[start : start + BATCH_SIZE].astype(np.float32))
            for start in range(0, len(images), BATCH_SIZE)
        ]
        return np.concatenate(parts), np.empty((len(images), 0), np.float32)

    def extract(self, maps: np.ndarray) -> np.ndarray:
        """One batch: (count, height, width, channels) -> (count, 128)."""
        for weights in self.weights[:-1]:
            maps = halve(np.maximum(convolve(maps, weights), 0))
        return maps.reshape(len(maps), -1) @ self.weights[-1]


def convolve(maps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """3 x 3, zeros around: (count, height, width, inputs), (9 * inputs, outputs) -> (count, height, width, outputs)."""
    _, height, width, _ = maps.shape
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, top : top + height, left : left + width] for top in range(3) for left in range(3)]
    return np.concatenate(shifted, axis=3) @ weights


def halve(maps: np.ndarray) -> np.ndarray:
    """The mean of each 2 x 2 pixels; the last row and column of odd sides count twice."""
    count, height, width, channels = maps.shape
    even = np.pad(maps, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return even.reshape(count, -(-height // 2), 2, -(-width // 2), 2, channels).mean(axis=(2, 4))
