"""Distances in closed form, and on sets with a known answer."""

import numpy as np
import pytest

from zoo.metrics.distances import nearest_neighbor_distance, sliced_wasserstein_distance

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(200, 4, 4, 1))


def test_in_one_dimension_it_is_the_area_between_the_distribution_functions():
    """Every direction on the line is 1 or -1."""
    one, other = RANDOM.normal(size=(50, 1)), RANDOM.exponential(size=(50, 1))
    points = np.sort(np.concatenate([one, other]), axis=0)[:, 0]
    shares = [np.searchsorted(np.sort(side[:, 0]), points[:-1], side="right") / 50 for side in (one, other)]
    area = np.sum(np.abs(shares[0] - shares[1]) * np.diff(points))
    assert sliced_wasserstein_distance(one, other, projections=3) == pytest.approx(area, rel=1e-12)


def test_a_shift_moves_every_projection_by_its_share():
    """In the plane, a direction sees |cos| of a shift, and the mean of |cos| over all directions is 2 / pi."""
    points = RANDOM.normal(size=(20, 2))
    found = sliced_wasserstein_distance(points, points + np.array([3.0, 0.0]), projections=20_000)
    assert found == pytest.approx(3.0 * 2.0 / np.pi, rel=0.01)


def test_it_is_zero_for_the_same_set_in_any_order_and_grows_with_blur_and_noise():
    assert sliced_wasserstein_distance(IMAGES, IMAGES[::-1]) == 0.0
    other = RANDOM.normal(size=IMAGES.shape)
    floor = sliced_wasserstein_distance(other, IMAGES)
    for worse in (0.5 * other, other + RANDOM.normal(size=IMAGES.shape), other + 0.5):
        assert sliced_wasserstein_distance(worse, IMAGES) > 1.5 * floor


@pytest.mark.parametrize("shape", [(199, 4, 4, 1), (200, 4, 4, 3), (0, 4, 4, 1)])
def test_sets_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match="give as many of the same shape"):
        sliced_wasserstein_distance(np.zeros(shape), IMAGES if shape[0] else np.zeros(shape))


def test_nearest_neighbors_by_hand():
    points = np.array([[0.0], [1.0], [3.0], [10.0]])  # nearest others: 1, 1, 2, 7
    assert nearest_neighbor_distance(points) == pytest.approx((1 + 1 + 2 + 7) / 4)
    assert nearest_neighbor_distance(np.repeat(IMAGES[:5], 2, axis=0)) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ValueError, match="at least 2"):
        nearest_neighbor_distance(points[:1])
