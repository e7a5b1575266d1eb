"""The Frechet distance where it is known in closed form."""

import numpy as np
import pytest

from zoo.metrics.frechet import frechet_distance, frechet_distance_at_infinity, square_root
from zoo.metrics.moments import Moments

RANDOM = np.random.Generator(np.random.Philox(0))
COUNT = 1000


def gaussian(mean, covariance, count: int = COUNT) -> Moments:
    """Moments with exactly this mean and covariance."""
    mean, covariance = np.asarray(mean, float), np.asarray(covariance, float)
    return Moments.from_arrays({"count": np.array(count), "mean": mean, "scatter": covariance * (count - 1)})


def rotation(dimension: int) -> np.ndarray:
    return np.linalg.qr(RANDOM.standard_normal((dimension, dimension)))[0]


def test_on_the_line_it_is_the_squared_difference_of_means_and_of_deviations():
    # (1 - 4)^2 + (2 - 3)^2 = 10
    assert frechet_distance(gaussian([1.0], [[4.0]]), gaussian([4.0], [[9.0]])) == pytest.approx(10.0, rel=1e-12)


def test_commuting_covariances_in_closed_form():
    """In their common eigenvectors: the sum over the axes of (sqrt(a) - sqrt(b))^2."""
    axes, one, other = rotation(6), RANDOM.uniform(0.1, 4, 6), RANDOM.uniform(0.1, 4, 6)
    shift = RANDOM.standard_normal(6)
    expected = shift @ shift + np.square(np.sqrt(one) - np.sqrt(other)).sum()
    found = frechet_distance(gaussian(shift, (axes * one) @ axes.T), gaussian(np.zeros(6), (axes * other) @ axes.T))
    assert found == pytest.approx(expected, rel=1e-12)


def test_covariances_that_do_not_commute_in_two_dimensions():
    """tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)) for 2 x 2 M = S1 S2, whose eigenvalues are not negative."""
    one, other = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[1.0, -0.5], [-0.5, 4.0]])
    product = one @ other
    overlap = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    found = frechet_distance(gaussian([0, 0], one), gaussian([0, 0], other))
    assert found == pytest.approx(np.trace(one) + np.trace(other) - 2 * overlap, rel=1e-12)


def test_lines_in_space():
    """Rank 1 each, along unit vectors u, v, of deviations a, b: a^2 + b^2 - 2 a b |u . v|."""
    u, v = np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.6, 0.8, 0.0, 0.0])
    turn = rotation(4)
    zero = np.zeros(4)

    def line(direction: np.ndarray, deviation: float) -> Moments:
        return gaussian(zero, deviation**2 * np.outer(turn @ direction, turn @ direction))

    assert frechet_distance(line(u, 2.0), line(v, 3.0)) == pytest.approx(4 + 9 - 2 * 2 * 3 * 0.6, rel=1e-12)
    right = np.array([0.0, 0.0, 1.0, 0.0])
    assert frechet_distance(line(u, 2.0), line(right, 3.0)) == pytest.approx(4 + 9, rel=1e-14)


def test_equal_moments_are_at_zero_though_singular_and_badly_scaled():
    few = RANDOM.standard_normal((20, 64)) * np.logspace(-4, 4, 64)
    scale = np.trace(Moments.of(few).covariance)
    assert frechet_distance(Moments.of(few), Moments.of(few[::-1]), allow_singular=True) <= 1e-12 * scale
    dead = np.zeros((20, 3))
    assert frechet_distance(Moments.of(dead), Moments.of(dead)) == 0.0
    assert frechet_distance(Moments.of(dead), Moments.of(dead + 2.0)) == pytest.approx(12.0, rel=1e-14)


def test_fewer_rows_than_dimensions_are_placed_in_a_subspace():
    """Rows padded with zeros and turned are as far apart as before: nothing leaks into the empty dimensions."""
    one, other = RANDOM.standard_normal((30, 5)), RANDOM.standard_normal((30, 5)) * 2 + 1
    expected = frechet_distance(Moments.of(one), Moments.of(other))
    turn = rotation(80)[:5]
    found = frechet_distance(Moments.of(one @ turn), Moments.of(other @ turn), allow_singular=True)
    assert found == pytest.approx(expected, rel=1e-11)


def test_it_is_symmetric():
    one, other = (Moments.of(RANDOM.standard_normal((50, 4)) @ RANDOM.standard_normal((4, 4))) for _ in range(2))
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-12)


def test_the_root_squares_to_its_covariance_and_has_its_rank():
    covariance = np.cov(RANDOM.standard_normal((8, 20)), rowvar=False)
    root = square_root(covariance)
    assert root.shape == (20, 7)
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-13)


def test_too_few_rows_are_refused_with_both_numbers():
    small, large = Moments.of(RANDOM.standard_normal((16, 16))), Moments.of(RANDOM.standard_normal((40, 16)))
    for pair in ((small, large), (large, small)):
        with pytest.raises(ValueError, match=r"16 features of dimension 16.*at least 17.*allow_singular"):
            frechet_distance(*pair)
        assert frechet_distance(*pair, allow_singular=True) > 0
    with pytest.raises(ValueError, match="dimension 16 and 3"):
        frechet_distance(large, gaussian(np.zeros(3), np.eye(3)))
    with pytest.raises(ValueError, match=r"1 feature\(s\) have no covariance"):
        frechet_distance(Moments.of(np.ones((1, 16))), large, allow_singular=True)


def test_at_infinity_the_bias_of_the_samples_is_gone():
    """Against the true Gaussian, 2,000 samples of it are at about 0.02, and at 0 once extrapolated."""
    dimension, reference = 16, gaussian(np.zeros(16), np.eye(16))
    plain, extrapolated = [], []
    for seed in range(10):
        features = np.random.Generator(np.random.Philox(seed)).standard_normal((2000, dimension))
        plain.append(frechet_distance(Moments.of(features), reference))
        extrapolated.append(frechet_distance_at_infinity(features, reference, seed=seed))
    error = np.std(extrapolated, ddof=1) / np.sqrt(10)
    assert abs(np.mean(extrapolated)) < 3 * error
    assert error < np.mean(plain) / 10
    assert frechet_distance_at_infinity(features, reference, seed=9) == extrapolated[-1]


def test_a_line_is_not_fitted_through_too_few_rows():
    features, reference = RANDOM.standard_normal((40, 20)), gaussian(np.zeros(20), np.eye(20))
    with pytest.raises(ValueError, match="subsets of 40 to 40 features of dimension 20"):
        frechet_distance_at_infinity(features, reference)
    with pytest.raises(ValueError, match="more than 20"):
        frechet_distance_at_infinity(features, reference, smallest=20)
    with pytest.raises(ValueError, match="1 subsets"):
        frechet_distance_at_infinity(features, reference, smallest=30, points=1)
    with pytest.raises(ValueError, match="20 features of dimension 20"):
        frechet_distance_at_infinity(features, gaussian(np.zeros(20), np.eye(20), count=20), smallest=30)
    with pytest.raises(ValueError, match="NaN"):
        frechet_distance_at_infinity(np.full((40, 20), np.nan), reference)
