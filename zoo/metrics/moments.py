"""Mean and covariance of features, streaming, in float64."""

from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np

from zoo.metrics.checks import finite_rows

BLOCK = 1024  # rows that are held in float64 at once


class Spread(NamedTuple):
    """A score made several times: the mean, and the standard deviation (divided by the number, not one less)."""

    mean: float
    std: float

    @classmethod
    def of(cls, scores: list[float] | np.ndarray) -> Self:
        """Of at least one score."""
        return cls(float(np.mean(scores)), float(np.std(scores)))


class Moments:
    """Count, mean and covariance of all rows seen so far (Chan, Golub, LeVeque 1979: the pairwise update).

    `mean` is (dimension,), `scatter` (dimension, dimension) the sum of (x - mean)(x - mean)^T. Unlike sums of x x^T,
    these lose no digits where the mean is large against the spread. Any split into batches gives the same up to
    rounding; memory does not grow with the count.
    """

    def __init__(self, dimension: int) -> None:
        if dimension < 1:
            raise ValueError(f"dimension={dimension}: features have at least 1.")
        self.count = 0
        self.mean = np.zeros(dimension)
        self.scatter = np.zeros((dimension, dimension))

    @classmethod
    def of(cls, features: np.ndarray) -> Self:
        """Of one array (count, dimension)."""
        moments = cls(finite_rows(features, "features").shape[1])
        moments.update(features)
        return moments

    @property
    def dimension(self) -> int:
        """Numbers in a row."""
        return len(self.mean)

    @property
    def covariance(self) -> np.ndarray:
        """(dimension, dimension), unbiased: the scatter over count - 1.

        Raises:
            ValueError: fewer than two rows have been seen.
        """
        if self.count < 2:
            raise ValueError(f"{self.count} feature(s) have no covariance: give at least 2.")
        return self.scatter / (self.count - 1)

    def update(self, features: np.ndarray) -> None:
        """Takes in more rows.

        Args:
            features: (count, dimension), float32 or float64, finite; count may be 0.

        Raises:
            ValueError: they hold NaN or infinity, or are of another dimension. Nothing has been taken in then.
        """
        finite_rows(features, "features", least=0)
        self._require_dimension(features.shape[1])
        for start in range(0, len(features), BLOCK):
            block = features[start : start + BLOCK].astype(np.float64)
            mean = block.mean(axis=0)
            block -= mean
            self._add(len(block), mean, block.T @ block)

    def merge(self, other: "Moments") -> None:
        """Takes in all that another one has seen.

        Raises:
            ValueError: it is of another dimension.
        """
        self._require_dimension(other.dimension)
        if other.count:
            self._add(other.count, other.mean, other.scatter)

    def arrays(self) -> dict[str, np.ndarray]:
        """What `numpy.savez` writes and `from_arrays` reads: count, mean, scatter."""
        return {"count": np.array(self.count), "mean": self.mean.copy(), "scatter": self.scatter.copy()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """The moments that `arrays` has written, from a dictionary or an opened npz file.

        Raises:
            ValueError: an array is missing, misshapen or not finite.
        """
        missing = {"count", "mean", "scatter"} - set(arrays)
        if missing:
            raise ValueError(f"moments without {sorted(missing)}: make the file again.")
        count, mean, scatter = (np.asarray(arrays[name]) for name in ("count", "mean", "scatter"))
        if count.shape or count < 0 or mean.ndim != 1 or scatter.shape != 2 * mean.shape:
            raise ValueError(f"moments of count {count}, mean {mean.shape}, scatter {scatter.shape}: they do not fit.")
        if not (np.isfinite(mean).all() and np.isfinite(scatter).all()):
            raise ValueError("moments hold NaN or infinity: make the file again.")
        moments = cls(len(mean))
        moments.count, moments.mean, moments.scatter = int(count), mean.astype(np.float64), scatter.astype(np.float64)
        return moments

    def _add(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        total = self.count + count
        difference = mean - self.mean
        self.scatter += scatter + np.outer(difference, difference) * (self.count * count / total)
        self.mean = self.mean + difference * (count / total)
        self.count = total

    def _require_dimension(self, dimension: int) -> None:
        if dimension != self.dimension:
            raise ValueError(
                f"features of dimension {dimension} and {self.dimension}: take both with the same extractor and layer."
            )
