"""KID: its definition summed by hand, and no bias."""

import numpy as np
import pytest

from zoo.metrics.kernel import kernel_distance, polynomial_kernel, squared_discrepancy

RANDOM = np.random.Generator(np.random.Philox(0))


def test_the_estimate_is_its_definition():
    one, other = RANDOM.standard_normal((7, 3)), RANDOM.standard_normal((9, 3)) + 1

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x @ y) / 3 + 1) ** 3

    def among(rows: np.ndarray) -> float:
        found = [kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]
        return sum(found) / (len(rows) * (len(rows) - 1))

    between = sum(kernel(x, y) for x in one for y in other) / (7 * 9)
    expected = among(one) + among(other) - 2 * between
    assert squared_discrepancy(one, other) == pytest.approx(expected, rel=1e-12)
    assert polynomial_kernel(one, other)[2, 5] == pytest.approx(kernel(one[2], other[5]), rel=1e-14)


def test_in_the_mean_it_is_zero_for_one_distribution():
    """Ten rows a side, where a biased estimate would be far above 0."""
    draws = RANDOM.standard_normal((2000, 2, 10, 4))
    found = np.array([squared_discrepancy(one, other) for one, other in draws])
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert abs(found.mean()) < 3 * error
    diagonals = np.array([np.mean([(row @ row / 4 + 1) ** 3 for row in one]) for one, _ in draws])
    assert 2 * diagonals.mean() / 10 > 10 * error  # about what the diagonals would add: it would have been seen


def test_means_of_subsets_agree_with_the_whole():
    one, other = RANDOM.standard_normal((400, 4)), RANDOM.standard_normal((500, 4)) + 0.5
    whole = squared_discrepancy(one, other)
    found = kernel_distance(one, other, subsets=200, subset_size=100)
    assert found.mean == pytest.approx(whole, abs=5 * found.std / np.sqrt(200))
    assert found.std > 0
    (mean, std) = kernel_distance(one[:100], other[:100], subsets=3, subset_size=100)
    assert mean == pytest.approx(squared_discrepancy(one[:100], other[:100]), rel=1e-10)
    assert std < 1e-10  # every subset is the whole set, in another order


def test_the_seed_decides():
    one, other = RANDOM.standard_normal((50, 2)), RANDOM.standard_normal((50, 2))
    a, b, c = (kernel_distance(one, other, subsets=5, subset_size=20, seed=seed) for seed in (1, 1, 2))
    assert a == b != c


def test_float32_features_are_summed_in_float64():
    """At a mean of 100 the kernels are near 1e12, their difference below 1e7."""
    one = (RANDOM.standard_normal((60, 3)) + 100).astype(np.float32)
    other = (RANDOM.standard_normal((60, 3)) + 100).astype(np.float32)
    assert squared_discrepancy(one, other) == squared_discrepancy(one.astype(np.float64), other.astype(np.float64))


def test_bad_input():
    rows = RANDOM.standard_normal((30, 4))
    with pytest.raises(ValueError, match="30 features: give at least 1000"):
        kernel_distance(rows, rows)
    with pytest.raises(ValueError, match="5 reference features: give at least 10"):
        kernel_distance(rows, rows[:5], subset_size=10)
    with pytest.raises(ValueError, match="dimension 4 and 3"):
        kernel_distance(rows, rows[:, :3], subset_size=10)
    with pytest.raises(ValueError, match="NaN"):
        squared_discrepancy(rows, np.where(rows > 0, rows, np.nan))
    with pytest.raises(ValueError, match="at least 1 of at least 2"):
        kernel_distance(rows, rows, subset_size=1)
