"""Neighbor scores on sets with known answers."""

import numpy as np
import pytest

from zoo.metrics import neighbors
from zoo.metrics.neighbors import (
    Birthday,
    CopyCheck,
    NeighborScores,
    birthday_support,
    copy_check,
    nearest_distances,
    neighbor_scores,
)

RANDOM = np.random.Generator(np.random.Philox(0))


def points(*values: float) -> np.ndarray:
    return np.array(values, float)[:, None]


def check(generated: np.ndarray, train: np.ndarray, test: np.ndarray, quantile: float = 0.01) -> CopyCheck:
    return copy_check(nearest_distances(generated, train), nearest_distances(test, train), quantile=quantile)


# Balls to the nearest other: real [-1, 1] [0, 2] [1, 3] [2, 18]; generated [-4, 5] [0.5, 9.5] [29.5, 30.5] [30, 31]
REAL, GENERATED = points(0, 1, 2, 10), points(0.5, 5, 30, 30.5)


def test_one_neighbor_by_hand():
    """0.5 is in two real balls, 5 in one, the others in none; 10 is in no generated ball; [1, 3] holds nothing."""
    found = neighbor_scores(GENERATED, REAL, precision_neighbors=1, density_neighbors=1)
    assert found == NeighborScores(precision=2 / 4, recall=3 / 4, density=3 / 4, coverage=3 / 4)


def test_two_neighbors_by_hand():
    """Real balls [-2, 2] [0, 2] [0, 4] [1, 19]: 0.5 is in three of them, 5 in one; each holds something.

    Generated balls [-29, 30] [-20.5, 30.5] and two around 30 that reach down to 5 and 5: all of the real set is in one.
    """
    found = neighbor_scores(GENERATED, REAL, precision_neighbors=2, density_neighbors=2)
    assert found == NeighborScores(precision=2 / 4, recall=1.0, density=4 / (2 * 4), coverage=1.0)


def test_each_pair_of_scores_goes_by_its_own_k():
    """The numbers of the two tests above: precision and recall of one neighbor, density and coverage of two."""
    found = neighbor_scores(GENERATED, REAL, precision_neighbors=1, density_neighbors=2)
    assert found == NeighborScores(precision=2 / 4, recall=3 / 4, density=4 / (2 * 4), coverage=1.0)


def test_the_rim_belongs_to_the_ball():
    """Real balls [-1, 1] and [0, 2], both rims touched."""
    found = neighbor_scores(points(-1, 2), points(0, 1), precision_neighbors=1, density_neighbors=1)
    assert found == NeighborScores(1.0, 1.0, 1.0, 1.0)


def test_the_same_set_and_a_far_one():
    real = RANDOM.standard_normal((100, 6)).astype(np.float32)
    same = neighbor_scores(real[::-1], real)
    assert same.precision == same.recall == same.coverage == 1.0
    assert same.density >= 1.0  # each sample is in its own ball and in those of about 5 others, over k = 5
    assert neighbor_scores(real + 100, real) == NeighborScores(0.0, 0.0, 0.0, 0.0)


def test_dropped_and_invented_modes_are_told_apart():
    left, right, again = (RANDOM.standard_normal((200, 4)) + shift for shift in (0, 50, 0))
    both = np.concatenate([left, right])
    dropped, invented = neighbor_scores(again, both), neighbor_scores(both, again)
    assert dropped.precision > 0.9
    assert dropped.recall < 0.5
    assert dropped.coverage < 0.5
    assert invented.precision < 0.5
    assert invented.recall > 0.9
    assert invented.coverage > 0.9


def test_blocks_change_nothing(monkeypatch):
    real, generated = RANDOM.standard_normal((83, 5)), RANDOM.standard_normal((61, 5))
    whole = neighbor_scores(generated, real), check(generated, real, generated, quantile=0.1)
    sizes = []
    inner = neighbors._squared_distances

    def watched(rows, columns):
        for where, squares in inner(rows, columns):
            sizes.append(squares.size)
            yield where, squares

    monkeypatch.setattr(neighbors, "_squared_distances", watched)
    monkeypatch.setattr(neighbors, "ENTRIES", 83 * 7)
    assert neighbor_scores(generated, real) == whole[0]
    assert check(generated, real, generated, quantile=0.1) == pytest.approx(whole[1], rel=1e-12)
    assert max(sizes) <= 83 * 7
    assert len(sizes) > 20


def test_radii_are_distances_to_other_rows_and_may_be_handed_in():
    # On a line at 0, 1, 3, 7: the nearest others are 1, 1, 2, 4 away, the second nearest 3, 2, 3, 6.
    line = np.array([[0.0], [1.0], [3.0], [7.0]])
    np.testing.assert_array_equal(neighbors.squared_radii(line, (1, 2)), [[1, 1, 4, 16], [9, 4, 9, 36]])
    real, generated = RANDOM.standard_normal((30, 3)), RANDOM.standard_normal((20, 3))
    radii = neighbors.squared_radii(real, (3, 5))
    assert neighbor_scores(generated, real, real_radii=radii) == neighbor_scores(generated, real)
    with pytest.raises(ValueError, match=r"radii \(2, 29\) of 30 real features"):
        neighbor_scores(generated, real, real_radii=radii[:, 1:])


def test_too_few_rows_for_the_neighbors():
    rows = RANDOM.standard_normal((10, 3))
    with pytest.raises(ValueError, match="3 generated features: give at least 4"):
        neighbor_scores(rows[:3], rows)
    with pytest.raises(ValueError, match="5 real features: give at least 6"):
        neighbor_scores(rows, rows[:5])
    with pytest.raises(ValueError, match="dimension 3 and 2"):
        neighbor_scores(rows, rows[:, :2])
    with pytest.raises(ValueError, match="NaN"):
        neighbor_scores(rows, np.full((10, 3), np.inf))
    with pytest.raises(ValueError, match="0 and 5 neighbors"):
        neighbor_scores(rows, rows, precision_neighbors=0)


def test_copies_by_hand():
    """Held-out images at 1, 2, ... 10 from the nearest training one; their 1/9 quantile is 2."""
    train, test = points(0), points(*range(1, 11))
    found = check(points(0, 2, 2.5, 6.5), train, test, quantile=1 / 9)
    assert found.bound == pytest.approx(2.0, rel=1e-12)
    assert found.share == 2 / 4
    assert found.ratio == pytest.approx((0 + 2 + 2.5 + 6.5) / 4 / 5.5, rel=1e-12)


def test_copied_training_images_are_seen_and_fresh_ones_are_not():
    train, test, fresh = (RANDOM.standard_normal((600, 20)).astype(np.float32) for _ in range(3))
    clean = check(fresh, train, test)
    assert clean.share < 0.04
    assert clean.ratio == pytest.approx(1.0, abs=0.03)
    noisy = train[:300] + np.float32(0.01) * fresh[:300]
    mixed = check(np.concatenate([noisy, fresh[300:]]), train, test)
    assert 0.5 <= mixed.share < 0.54
    assert mixed.ratio == pytest.approx(0.5, abs=0.03)


def test_a_copy_is_at_zero_whatever_its_brightness():
    """|x|^2 + |y|^2 - 2 x.y of a copy is rounding alone, which must not pass for a distance."""
    train = (RANDOM.standard_normal((50, 784)) + 1000).astype(np.float32)
    test = (RANDOM.standard_normal((100, 784)) + 1000).astype(np.float32)
    found = check(train[::-1], train, test)
    assert found.share == 1.0
    assert found.ratio == 0.0


def test_held_out_images_must_be_many_and_held_out():
    rows = RANDOM.standard_normal((99, 3))
    with pytest.raises(ValueError, match="99 held-out images: give at least 100"):
        check(rows, rows, rows)
    with pytest.raises(ValueError, match="every held-out image is a training image"):
        check(rows, rows, rows[:10], quantile=0.1)
    with pytest.raises(ValueError, match="quantile=1"):
        check(rows, rows, rows, quantile=1)


@pytest.mark.parametrize(("support", "count", "batch", "slack"), [(365, 3000, 23, 1), (10_000, 2500, 118, 15)])
def test_birthdays(support, count, batch, slack):
    """Among 23 people two share a day of 365 as often as not; of 10,000 days it takes 118."""
    people = RANDOM.integers(support, size=(count, 1)).astype(float)
    found = birthday_support(people, bound=0.5)
    assert abs(found.batch - batch) <= slack
    assert found.support == found.batch**2
    assert not found.at_least


def test_birthday_of_one_image_and_of_all_different():
    assert birthday_support(np.ones((300, 4)), bound=0.0) == Birthday(batch=2, support=4, at_least=False)
    different = points(*range(300))
    assert birthday_support(different, bound=0.5) == Birthday(batch=300, support=90_000, at_least=True)
    twice = np.concatenate([different, different[:1]])  # one pair: the later of two in random order, median n / sqrt 2
    assert birthday_support(twice, bound=0.5).batch == pytest.approx(301 / np.sqrt(2), abs=15)
    assert birthday_support(twice, bound=0.5, seed=1) == birthday_support(twice, bound=0.5, seed=1)


def test_birthday_refuses():
    with pytest.raises(ValueError, match="1 samples: give at least 2"):
        birthday_support(points(1), bound=1)
    with pytest.raises(ValueError, match="bound=-1"):
        birthday_support(points(1, 2), bound=-1)
