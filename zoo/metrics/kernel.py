"""The Kernel Inception Distance (arXiv:1801.01401, section 4): an unbiased distance of features, with an error bar."""

import numpy as np

from zoo.metrics.checks import finite_rows, same_dimension
from zoo.metrics.moments import Spread

SUBSETS, SUBSET_SIZE = 100, 1000  # the authors' code


def polynomial_kernel(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(x . y / dimension + 1)^3 of every pair (eq. 4).

    Args:
        one: (rows, dimension).
        other: (columns, dimension).

    Returns:
        (rows, columns).
    """
    base = one @ other.T / one.shape[1] + 1.0
    return base * base * base


def squared_discrepancy(one: np.ndarray, other: np.ndarray) -> float:
    """The unbiased estimate of MMD^2 with the polynomial kernel: 0 in the mean for two sets of one distribution.

    Mean of k(x, x') over x != x', plus the same of y, minus twice the mean of k(x, y). Below 0 as often as above
    where the distributions are the same.

    Args:
        one: (count, dimension), at least 2; kernels of all pairs are held at once.
        other: likewise; the counts may differ.

    Raises:
        ValueError: fewer than 2 rows, NaN, or the dimensions differ.
    """
    finite_rows(one, "features", least=2)
    finite_rows(other, "reference features", least=2)
    same_dimension(one, other, "features")
    one, other = one.astype(np.float64), other.astype(np.float64)
    return _mean_off_diagonal(one) + _mean_off_diagonal(other) - 2.0 * float(polynomial_kernel(one, other).mean())


def kernel_distance(
    features: np.ndarray,
    reference: np.ndarray,
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
) -> Spread:
    """Mean and standard deviation of MMD^2 over random subsets of both sets.

    The mean is unbiased for any count, so values of different counts may be compared. The standard deviation is that
    of one subset; subsets share rows, so dividing it by the root of their number would promise too much.

    Args:
        features: (count, dimension) of the generated images.
        reference: of the real ones.
        subsets: how many.
        subset_size: rows of each set, drawn without replacement.
        seed: of the subsets.

    Raises:
        ValueError: a set has fewer rows than a subset; NaN; the dimensions differ.
    """
    if subsets < 1 or subset_size < 2:
        raise ValueError(f"{subsets} subsets of {subset_size}: give at least 1 of at least 2.")
    finite_rows(features, "features", least=subset_size)
    finite_rows(reference, "reference features", least=subset_size)
    same_dimension(features, reference, "features")
    generator = np.random.Generator(np.random.Philox(seed))

    def subset(rows: np.ndarray) -> np.ndarray:
        return rows[generator.permutation(len(rows))[:subset_size]]

    return Spread.of([squared_discrepancy(subset(features), subset(reference)) for _ in range(subsets)])


def _mean_off_diagonal(rows: np.ndarray) -> float:
    """The mean kernel of every row with every other one."""
    kernel = polynomial_kernel(rows, rows)
    return float((kernel.sum() - np.trace(kernel)) / (len(rows) * (len(rows) - 1)))
