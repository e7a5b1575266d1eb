"""Scores from class probabilities: the Inception Score's formula, the share of every class, modes.  All in nats.

Only with the 2015 Inception's probabilities is the class score the Inception Score.
"""

from typing import Self

import numpy as np

from zoo.metrics.checks import finite_rows
from zoo.metrics.moments import Spread

SPLITS = 10  # arXiv:1606.03498, the authors' code
SUM_SLACK = 1e-3  # a softmax in float16 sums to 1 within that; logits hardly ever do


class ClassStatistics:
    """What the scores need of a stream of class probabilities; memory does not grow with the count.

    Row i belongs to split i modulo `splits`, so neither the count nor the batches need be known. (The authors' code
    takes runs of neighboring rows: the same for independent samples.)
    """

    def __init__(self, classes: int, splits: int = SPLITS) -> None:
        if classes < 2 or splits < 1:
            raise ValueError(f"{classes} classes, {splits} splits: give at least 2 and 1.")
        self.splits = splits
        self.counts = np.zeros(classes, np.int64)  # rows whose likeliest class this is; the first of equals
        self.rows = np.zeros(splits, np.int64)
        self.probabilities = np.zeros((splits, classes))  # sums
        self.entropies = np.zeros(splits)  # sums

    @classmethod
    def of(cls, probabilities: np.ndarray, splits: int = SPLITS) -> Self:
        """Of one array (count, classes)."""
        statistics = cls(finite_rows(probabilities, "class probabilities").shape[1], splits)
        statistics.update(probabilities)
        return statistics

    @property
    def count(self) -> int:
        """Rows seen so far."""
        return int(self.rows.sum())

    def update(self, probabilities: np.ndarray) -> None:
        """Takes in more rows.

        Args:
            probabilities: (count, classes), float32 or float64, each row a distribution; count may be 0.

        Raises:
            ValueError: NaN, another number of classes, or rows that are no distributions, such as logits.
        """
        finite_rows(probabilities, "class probabilities", least=0)
        if probabilities.shape[1] != len(self.counts):
            raise ValueError(f"{probabilities.shape[1]} classes where {len(self.counts)} are expected.")
        rows = probabilities.astype(np.float64)
        if rows.min(initial=0.0) < 0 or np.abs(rows.sum(axis=1) - 1).max(initial=0.0) > SUM_SLACK:
            raise ValueError("rows that are negative or do not sum to 1: give probabilities, after the softmax.")
        self.counts += np.bincount(rows.argmax(axis=1), minlength=len(self.counts))
        entropies, start = entropy(rows), self.count
        for split in range(self.splits):
            members = slice((split - start) % self.splits, None, self.splits)
            self.rows[split] += len(rows[members])
            self.probabilities[split] += rows[members].sum(axis=0)
            self.entropies[split] += entropies[members].sum()

    def merge(self, other: "ClassStatistics") -> None:
        """Takes in all that another one has seen.

        Raises:
            ValueError: it counts other classes, or has other splits.
        """
        if self.probabilities.shape != other.probabilities.shape:
            raise ValueError(f"(splits, classes) {self.probabilities.shape} and {other.probabilities.shape} differ.")
        self.counts += other.counts
        self.rows += other.rows
        self.probabilities += other.probabilities
        self.entropies += other.entropies

    def class_score(self) -> Spread:
        """exp E[KL(p(y|x) || p(y))] over the splits (arXiv:1606.03498, section 4), from 1 to the number of classes.

        High where each image is sure and the classes are even. A split of few rows scores too low: thousands a
        split are usual. Blind to how images of one class differ.

        Raises:
            ValueError: a split is empty.
        """
        if not self.rows.all():
            raise ValueError(f"{self.count} rows for {self.splits} splits: give at least as many rows.")
        marginals = self.probabilities / self.rows[:, None]
        return Spread.of(np.exp(entropy(marginals) - self.entropies / self.rows))

    def class_shares(self) -> np.ndarray:
        """(classes,): the share of rows of which each class is the likeliest; sums to 1.

        Raises:
            ValueError: no row has been seen.
        """
        return self.counts / self._require_rows()

    def modes(self, share: float) -> int:
        """Classes of at least this share of the rows, in (0, 1]."""
        if not 0 < share <= 1:
            raise ValueError(f"share={share}: give one in (0, 1].")
        return int(np.count_nonzero(self.class_shares() >= share))

    def mean_entropy(self) -> float:
        """Of an image's own distribution, from 0 (sure) to log(classes): how undecided the classifier is.

        Raises:
            ValueError: no row has been seen.
        """
        return float(self.entropies.sum() / self._require_rows())

    def _require_rows(self) -> int:
        if not self.count:
            raise ValueError("no class probabilities yet: update with at least 1 row.")
        return self.count


def entropy(distributions: np.ndarray) -> np.ndarray:
    """-sum p log p along the last axis, with 0 log 0 = 0."""
    return -np.sum(distributions * np.log(np.where(distributions > 0, distributions, 1.0)), axis=-1)


def jensen_shannon_divergence(one: np.ndarray, other: np.ndarray) -> float:
    """H((p + q) / 2) - (H(p) + H(q)) / 2, from 0 (equal) to log 2 (nothing in common); Lin 1991, eq. 4.1.

    Args:
        one: (classes,) counts or shares, none negative; brought to sum 1.
        other: likewise.

    Raises:
        ValueError: the shapes differ, something is negative or NaN, or all is 0.
    """
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"histograms {one.shape} and {other.shape}: give two of the same classes.")
    for histogram in (one, other):
        if not (np.isfinite(histogram).all() and (histogram >= 0).all() and histogram.sum() > 0):
            raise ValueError(f"histogram {histogram.tolist()}: give counts of at least 0, not all 0.")
    p, q = one / one.sum(), other / other.sum()
    return max(0.0, float(entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2))
