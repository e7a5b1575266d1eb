"""Class scores with known answers, streamed and whole."""

import numpy as np
import pytest

from zoo.metrics.classes import ClassStatistics, entropy, jensen_shannon_divergence

RANDOM = np.random.Generator(np.random.Philox(0))
PROBABILITIES = RANDOM.dirichlet(np.full(6, 0.3), size=203)


def test_sure_and_even_scores_the_number_of_classes():
    one_hot = np.tile(np.eye(5), (40, 1))  # each of 8 splits gets 25 rows, row i + 8 k: all classes evenly
    statistics = ClassStatistics.of(one_hot, splits=8)
    assert statistics.class_score().mean == pytest.approx(5.0, rel=1e-12)
    assert statistics.class_score().std == pytest.approx(0.0, abs=1e-12)
    assert statistics.mean_entropy() == 0.0
    np.testing.assert_allclose(statistics.class_shares(), 0.2)


def test_all_alike_scores_one():
    for row in ([0.7, 0.2, 0.1], [1.0, 0.0, 0.0]):
        assert ClassStatistics.of(np.tile(row, (30, 1))).class_score().mean == pytest.approx(1.0, rel=1e-12)


def test_the_score_is_its_definition_over_the_splits():
    scores = []
    for split in range(4):
        rows = PROBABILITIES[split::4]
        divergences = (rows * np.log(rows / rows.mean(axis=0))).sum(axis=1)
        scores.append(np.exp(divergences.mean()))
    found = ClassStatistics.of(PROBABILITIES, splits=4).class_score()
    assert found.mean == pytest.approx(np.mean(scores), rel=1e-12)
    assert found.std == pytest.approx(np.std(scores), rel=1e-10)


def test_batches_of_any_size_give_the_same():
    whole, streamed = ClassStatistics.of(PROBABILITIES), ClassStatistics(6)
    for start, stop in ((0, 3), (3, 3), (3, 100), (100, 203)):
        streamed.update(PROBABILITIES[start:stop])
    assert streamed.count == 203
    assert streamed.class_score() == pytest.approx(whole.class_score(), rel=1e-12)
    np.testing.assert_array_equal(streamed.rows, whole.rows)
    np.testing.assert_array_equal(streamed.counts, whole.counts)


def test_merging_adds_what_both_have_seen():
    """Cut at a multiple of the splits, each row keeps its split."""
    whole, one, other = (ClassStatistics.of(part) for part in (PROBABILITIES, PROBABILITIES[:50], PROBABILITIES[50:]))
    one.merge(other)
    assert one.class_score() == pytest.approx(whole.class_score(), rel=1e-12)
    assert one.mean_entropy() == pytest.approx(whole.mean_entropy(), rel=1e-12)
    with pytest.raises(ValueError, match=r"\(10, 6\) and \(10, 5\)"):
        one.merge(ClassStatistics(5))


def test_shares_and_modes_by_hand():
    labels = np.repeat([0, 1, 2], [90, 6, 4])
    statistics = ClassStatistics.of(0.5 * np.eye(4)[labels] + 0.125)
    np.testing.assert_allclose(statistics.class_shares(), [0.9, 0.06, 0.04, 0.0])
    assert [statistics.modes(share) for share in (0.01, 0.04, 0.05, 0.9, 1.0)] == [3, 3, 2, 1, 0]
    # 0.625 and three of 0.125: -(5/8) log(5/8) + 3 (1/8) log 8
    assert statistics.mean_entropy() == pytest.approx(5 / 8 * np.log(8 / 5) + 3 / 8 * np.log(8), rel=1e-12)


def test_jensen_shannon_by_hand():
    assert jensen_shannon_divergence(np.array([3, 1]), np.array([6, 2])) == 0.0
    assert jensen_shannon_divergence(np.array([1, 0]), np.array([0, 5])) == pytest.approx(np.log(2), rel=1e-14)
    # p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4): (1/2) log(4/3) + (1/2) ((1/2) log(2/3) + (1/2) log 2)
    expected = np.log(4 / 3) / 2 + (np.log(2 / 3) + np.log(2)) / 4
    assert jensen_shannon_divergence(np.array([2, 0]), np.array([1, 1])) == pytest.approx(expected, rel=1e-12)


def test_entropy_of_certainty_and_of_none():
    np.testing.assert_allclose(entropy(np.array([[0.0, 1.0, 0.0, 0.0], [0.25] * 4])), [0.0, np.log(4)])


def test_bad_input():
    with pytest.raises(ValueError, match="after the softmax"):
        ClassStatistics.of(RANDOM.standard_normal((10, 3)))
    with pytest.raises(ValueError, match="after the softmax"):
        ClassStatistics.of(np.full((10, 3), 0.4))
    with pytest.raises(ValueError, match="NaN"):
        ClassStatistics.of(np.full((10, 3), np.nan))
    with pytest.raises(ValueError, match="5 classes where 6"):
        ClassStatistics(6).update(np.full((2, 5), 0.2))
    with pytest.raises(ValueError, match="9 rows for 10 splits"):
        ClassStatistics.of(PROBABILITIES[:9]).class_score()
    with pytest.raises(ValueError, match="at least 1 row"):
        ClassStatistics(6).class_shares()
    with pytest.raises(ValueError, match="share=0"):
        ClassStatistics.of(PROBABILITIES).modes(0)
    for bad in ([1, 2, 3], [-1, 2], [0, 0], [np.nan, 1]):
        with pytest.raises(ValueError, match="histogram"):
            jensen_shannon_divergence(np.array(bad), np.array([1, 1]))
