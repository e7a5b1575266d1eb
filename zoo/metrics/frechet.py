"""The Frechet distance of two Gaussians (arXiv:1706.08500, eq. 6), and where it goes with ever more samples.

Only with the 2015 Inception's features is it the FID.
"""

import numpy as np

from zoo.metrics.checks import finite_rows
from zoo.metrics.moments import Moments

POINTS = 15  # arXiv:1911.07023, section 4
SMALLEST_SHARE = 10  # the paper's smallest subset is a tenth of its samples: 5,000 of 50,000 ...
ROWS_PER_DIMENSION = 2  # ... and more than twice the 2,048 dimensions; below that the distance bends away from the line


def frechet_distance(one: Moments, other: Moments, *, allow_singular: bool = False) -> float:
    """|m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2), with means m and covariances S; at least 0.

    Of n samples each, of one distribution, it is above 0 by about dimension / n times the variance: compare only
    values of equal counts.

    Args:
        one: of the generated images' features.
        other: of the reference's.
        allow_singular: take sets of no more rows than dimensions. The formula holds for them, yet a covariance of that
            rank says more about the count than about the images.

    Raises:
        ValueError: the dimensions differ; a set is too small.
    """
    _require_comparable(one, other, allow_singular)
    return max(0.0, _distance(one, other, square_root(other.covariance)))


def frechet_distance_at_infinity(
    features: np.ndarray, reference: Moments, *, smallest: int | None = None, points: int = POINTS, seed: int = 0
) -> float:
    """The distance that infinitely many samples would have (arXiv:1911.07023, section 4).

    The distance of N samples is linear in 1 / N up to higher orders: it is taken of `points` random subsets, their
    sizes evenly spaced from `smallest` to all, and the fitted line is read at 0. That takes away the bias of the
    samples, not the reference's own. Being an extrapolation, it can fall slightly below 0.

    Args:
        features: (count, dimension) of the generated images.
        reference: of the real ones.
        smallest: rows of the smallest subset, more than dimensions; by default a tenth of all, at least twice the
            dimension.
        points: subsets.
        seed: of the subsets.

    Raises:
        ValueError: NaN; the dimensions differ; too few rows for subsets of different sizes.
    """
    count, dimension = finite_rows(features, "features", least=2).shape
    smallest = max(count // SMALLEST_SHARE, ROWS_PER_DIMENSION * dimension) if smallest is None else smallest
    if points < 2 or not dimension < smallest < count:
        raise ValueError(
            f"{points} subsets of {smallest} to {count} features of dimension {dimension}: give at least 2 subsets, "
            f"the smallest of more than {dimension} features and of fewer than all."
        )
    _require_comparable(Moments.of(features[:smallest]), reference, allow_singular=False)
    root = square_root(reference.covariance)
    generator = np.random.Generator(np.random.Philox(seed))
    sizes = np.linspace(smallest, count, points).astype(int)
    subsets = (features[generator.permutation(count)[:size]] for size in sizes)
    distances = np.array([_distance(Moments.of(subset), reference, root) for subset in subsets])
    inverses = 1.0 / sizes
    centered = inverses - inverses.mean()
    slope = centered @ distances / (centered @ centered)
    return float(distances.mean() - slope * inverses.mean())


def square_root(covariance: np.ndarray) -> np.ndarray:
    """R (dimension, rank) with R R^T = covariance.

    Eigenvalues that rounding cannot tell from 0, negative ones among them, are left out: the root of one of 1e-16 is
    1e-8, and a thousand of them would be seen in the distance.
    """
    values, vectors = np.linalg.eigh(covariance)
    kept = values > np.abs(values).max() * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept])


def _distance(one: Moments, other: Moments, other_root: np.ndarray) -> float:
    """With S1 = A A^T and S2 = B B^T, the eigenvalues of (S1 S2)^(1/2) are the singular values of A^T B.

    So nothing unsymmetric is ever rooted, and no singular value comes out negative or complex.
    """
    covariance = one.covariance
    cross = square_root(covariance).T @ other_root
    overlap = np.linalg.svd(cross, compute_uv=False).sum() if cross.size else 0.0
    variances = np.trace(covariance) + np.trace(other.covariance)
    return float(np.square(one.mean - other.mean).sum() + variances - 2.0 * overlap)


def _require_comparable(one: Moments, other: Moments, allow_singular: bool) -> None:
    if one.dimension != other.dimension:
        raise ValueError(
            f"moments of dimension {one.dimension} and {other.dimension}: take both with the same extractor and layer."
        )
    least = min(one.count, other.count)
    if least <= one.dimension and not allow_singular:
        raise ValueError(
            f"{least} features of dimension {one.dimension}: their covariance is singular. Give at least "
            f"{one.dimension + 1}, or allow_singular=True."
        )
