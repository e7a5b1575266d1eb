"""Scores from nearest neighbors, of features or of flattened images: likeness, variety, copies, support.

Squared distances are made a block of rows at a time: beside the two sets in float64, memory stays the same for any
count. Where a paper leaves it open, a ball holds its rim.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from zoo.metrics.checks import finite_rows, same_dimension

ENTRIES = 2**22  # distances held at once: 32 MB
ROUNDING = 1e-13  # |x|^2 + |y|^2 - 2 x.y is off by about that share of |x|^2 + |y|^2: below it, a copy

PRECISION_NEIGHBORS = 3  # arXiv:1904.06991, section 3.1
DENSITY_NEIGHBORS = 5  # arXiv:2002.09797, section 4.1

# Of held-out images, 1 % lie nearer to a training image than the bound, by definition; of copies, all. 1,000
# held-out images put ten below it, so it is known to about a third; a rarer quantile would rest on single images,
# a commoner one would take ordinary likeness for copying.
COPY_QUANTILE = 0.01

BIRTHDAY_BLOCK = 256
BIRTHDAY_PAIRS = 1000  # near-duplicates after which to stop looking: the batch size is known to 3 % by then
BIRTHDAY_ORDERS = 501


class NeighborScores(NamedTuple):
    """All from 0 to 1, save density, which may exceed 1 where samples crowd where the real ones do."""

    precision: float
    recall: float
    density: float
    coverage: float


class CopyCheck(NamedTuple):
    """`share` of copies, 0.01 where there are none; `ratio` of mean distances, 1 where as far as held-out images."""

    share: float
    ratio: float
    bound: float


class Birthday(NamedTuple):
    """`batch` is where a near-duplicate is as likely as not, `support` its square; `at_least`: none was found."""

    batch: int
    support: int
    at_least: bool


def neighbor_scores(
    generated: np.ndarray,
    real: np.ndarray,
    *,
    precision_neighbors: int = PRECISION_NEIGHBORS,
    density_neighbors: int = DENSITY_NEIGHBORS,
    real_radii: np.ndarray | None = None,
) -> NeighborScores:
    """Precision and recall (arXiv:1904.06991, eq. 1, 2), density and coverage (arXiv:2002.09797, eq. 3, 4).

    A sample's ball reaches to its k-th nearest neighbor in its own set. Precision: the share of generated samples in
    the ball of a real one; recall: of real ones in the ball of a generated one. Density: the number of real balls that
    a generated sample is in, over k, in the mean; coverage: the share of real balls with a generated sample in it.

    Args:
        generated: (count, dimension).
        real: likewise; compare only values of equal counts.
        precision_neighbors: k of precision and recall.
        density_neighbors: k of density and coverage.
        real_radii: `squared_radii` of `real` and both k, for who compares several sets with it.

    Raises:
        ValueError: radii of other rows; a set has no more than k rows; NaN; the dimensions differ.
    """
    if min(precision_neighbors, density_neighbors) < 1:
        raise ValueError(f"{precision_neighbors} and {density_neighbors} neighbors: give at least 1.")
    finite_rows(generated, "generated features", least=precision_neighbors + 1)
    finite_rows(real, "real features", least=max(precision_neighbors, density_neighbors) + 1)
    same_dimension(generated, real, "features")
    if real_radii is None:
        real_radii = squared_radii(real, (precision_neighbors, density_neighbors))
    if real_radii.shape != (2, len(real)):
        raise ValueError(f"radii {real_radii.shape} of {len(real)} real features: give two for each.")
    narrow, wide = real_radii
    (generated_narrow,) = squared_radii(generated, (precision_neighbors,))

    in_real_balls = in_wide_balls = 0
    in_a_generated_ball = np.zeros(len(real), bool)
    nearest = np.full(len(real), np.inf)
    for rows, squares in _squared_distances(generated, real):
        in_real_balls += int(np.count_nonzero((squares <= narrow).any(axis=1)))
        in_wide_balls += int(np.count_nonzero(squares <= wide))
        in_a_generated_ball |= (squares <= generated_narrow[rows, None]).any(axis=0)
        np.minimum(nearest, squares.min(axis=0), out=nearest)
    return NeighborScores(
        precision=in_real_balls / len(generated),
        recall=float(in_a_generated_ball.mean()),
        density=in_wide_balls / (density_neighbors * len(generated)),
        coverage=float((nearest <= wide).mean()),
    )


def squared_radii(rows: np.ndarray, neighbors: Sequence[int]) -> np.ndarray:
    """(len(neighbors), rows): each row's squared distance to its k-th nearest other one, for each k of `neighbors`.

    Args:
        rows: (count, dimension), more than the largest k.
        neighbors: of each k, at least 1.
    """
    ranks = list(neighbors)  # the row itself, at 0, is number 0
    blocks = [np.partition(squares, ranks, axis=1)[:, ranks] for _, squares in _squared_distances(rows, rows)]
    return np.concatenate(blocks).T


def nearest_distances(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(rows,): the Euclidean distance of each row to the nearest column.

    Args:
        rows: (count, dimension) of features or flattened images.
        columns: likewise, at least one.

    Raises:
        ValueError: NaN; the dimensions differ; no columns.
    """
    finite_rows(rows, "images")
    finite_rows(columns, "training images")
    same_dimension(rows, columns, "images")
    return np.sqrt(np.concatenate([squares.min(axis=1) for _, squares in _squared_distances(rows, columns)]))


def copy_check(generated: np.ndarray, held_out: np.ndarray, *, quantile: float = COPY_QUANTILE) -> CopyCheck:
    """Whether generated images lie nearer to training images than held-out ones do.

    Args:
        generated: (count,) of `nearest_distances` to the images that the model was trained on.
        held_out: likewise, of images of the same distribution that it was not.
        quantile: of the held-out images' distances: the bound.

    Returns:
        The share of generated images within the bound; their mean distance over the held-out ones'; the bound.

    Raises:
        ValueError: too few held-out images for the quantile; every one of them is a training image.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile={quantile}: give one between 0 and 1.")
    if len(held_out) < (least := int(np.ceil(1 / quantile))):
        raise ValueError(f"{len(held_out)} held-out images: give at least {least}.")
    if not held_out.any():
        raise ValueError("every held-out image is a training image: give images that were held out.")
    bound = float(np.quantile(held_out, quantile))
    return CopyCheck(
        share=float((generated <= bound).mean()), ratio=float(generated.mean() / held_out.mean()), bound=bound
    )


def birthday_support(samples: np.ndarray, *, bound: float, seed: int = 0) -> Birthday:
    """How many different images a model makes, from how soon two are alike (arXiv:1706.08224, section 3).

    Where a batch of s samples holds near-duplicates as often as not, the support is about s^2, or a part of that size
    is made too often. Samples are read in random orders; s is the median number read when the first near-duplicate
    appears. (The paper looks at the nearest pairs by eye; here a bound on the distance decides, so the estimate is as
    good as the bound: `copy_check` on real images gives one.)

    Args:
        samples: (count, dimension), independent, of features or flattened images.
        bound: the distance up to which two are near-duplicates; 0 for exact copies.
        seed: of the orders.

    Raises:
        ValueError: fewer than 2 samples; NaN; a negative bound.
    """
    count = len(finite_rows(samples, "samples", least=2))
    if not bound >= 0:
        raise ValueError(f"bound={bound}: give a distance of at least 0.")
    generator = np.random.Generator(np.random.Philox(seed))
    samples = samples[generator.permutation(count)]
    pairs, read = np.zeros((2, 0), np.int64), 0
    while read < count and pairs.shape[1] < BIRTHDAY_PAIRS:
        stop = min(read + BIRTHDAY_BLOCK, count)
        for rows, squares in _squared_distances(samples[read:stop], samples[:stop]):
            later, earlier = np.nonzero(squares <= bound**2)
            later += read + rows.start
            pairs = np.concatenate([pairs, np.stack([later, earlier])[:, earlier < later]], axis=1)
        read = stop
    if not pairs.size:
        return Birthday(count, count**2, at_least=True)
    orders = (generator.permutation(read) for _ in range(BIRTHDAY_ORDERS))
    batch = int(np.median([order[pairs].max(axis=0).min() + 1 for order in orders]))
    return Birthday(batch, batch**2, at_least=False)


def _squared_distances(rows: np.ndarray, columns: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of rows, and their squared distances (rows, columns) to all columns; what rounding hides is 0."""
    columns = columns.astype(np.float64, copy=False)
    column_squares = np.einsum("ij,ij->i", columns, columns)
    step = max(1, ENTRIES // len(columns))
    for start in range(0, len(rows), step):
        block = rows[start : start + step].astype(np.float64, copy=False)
        sums = np.einsum("ij,ij->i", block, block)[:, None] + column_squares
        squares = block @ columns.T
        squares *= -2.0
        squares += sums
        sums *= ROUNDING
        squares[squares <= sums] = 0.0
        yield slice(start, start + len(block)), squares
