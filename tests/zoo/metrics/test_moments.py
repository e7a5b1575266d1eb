"""Streaming moments equal NumPy's own, in any batches, and survive their file."""

import io

import numpy as np
import pytest

from zoo.metrics.moments import BLOCK, Moments, Spread

FEATURES = np.random.Generator(np.random.Philox(0)).normal(3.0, 2.0, size=(2 * BLOCK + 301, 5)).astype(np.float32)


def same(one: Moments, other: Moments) -> None:
    assert one.count == other.count
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-12)
    np.testing.assert_allclose(one.covariance, other.covariance, rtol=1e-12, atol=1e-13)


def test_they_are_numpys_mean_and_unbiased_covariance():
    moments, wide = Moments.of(FEATURES), FEATURES.astype(np.float64)
    assert moments.count == len(FEATURES)
    np.testing.assert_allclose(moments.mean, wide.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(wide, rowvar=False), rtol=1e-12)


def test_batches_of_any_size_and_merging_give_the_same():
    whole = Moments.of(FEATURES)
    streamed, merged, other = Moments(5), Moments(5), Moments(5)
    for start, stop in ((0, 1), (1, 1), (1, 700), (700, len(FEATURES))):
        streamed.update(FEATURES[start:stop])
    merged.update(FEATURES[:37])
    other.update(FEATURES[37:])
    merged.merge(other)
    merged.merge(Moments(5))
    same(streamed, whole)
    same(merged, whole)


def test_a_large_mean_costs_no_digits():
    """Sums of squares of 1e8 + {0, 1} would lose all digits of a variance of 1/3 (n = 4: 1 / (4 - 1))."""
    moments = Moments(1)
    for value in (0.0, 1.0, 0.0, 1.0):
        moments.update(np.array([[1e8 + value]]))
    assert moments.covariance[0, 0] == pytest.approx(1 / 3, rel=1e-7)


def test_the_file_gives_them_back_and_they_go_on():
    half = Moments.of(FEATURES[:1000])
    file = io.BytesIO()
    np.savez(file, **half.arrays())
    file.seek(0)
    read = Moments.from_arrays(np.load(file))
    read.update(FEATURES[1000:])
    half.update(FEATURES[1000:])
    assert read.count == len(FEATURES)
    np.testing.assert_array_equal(read.scatter, half.scatter)
    np.testing.assert_array_equal(read.mean, half.mean)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_features_are_refused_and_leave_no_trace(value):
    bad = FEATURES[:10].copy()
    bad[3, 2] = value
    moments = Moments.of(FEATURES[:10])
    before = moments.arrays()
    with pytest.raises(ValueError, match="1 of 10 features hold NaN or infinity"):
        moments.update(bad)
    with pytest.raises(ValueError, match=r"dimension 4 and 5"):
        moments.update(FEATURES[:, :4])
    with pytest.raises(ValueError, match=r"\(count, dimension\)"):
        moments.update(FEATURES[0])
    with pytest.raises(ValueError, match="int64"):
        Moments.of(np.ones((3, 2), np.int64))
    with pytest.raises(ValueError, match="dimension 4 and 5"):
        moments.merge(Moments(4))
    for name, array in moments.arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_one_row_has_no_covariance():
    with pytest.raises(ValueError, match=r"1 feature\(s\) have no covariance"):
        _ = Moments.of(FEATURES[:1]).covariance


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"mean": np.zeros(4)}, "do not fit"),
        ({"count": np.array(-1)}, "do not fit"),
        ({"scatter": np.full((5, 5), np.nan)}, "NaN"),
    ],
)
def test_a_bad_file_is_refused(changes, complaint):
    arrays = Moments.of(FEATURES[:10]).arrays()
    with pytest.raises(ValueError, match=complaint):
        Moments.from_arrays(arrays | changes)
    with pytest.raises(ValueError, match=r"without \['mean', 'scatter'\]"):
        Moments.from_arrays({"count": arrays["count"]})


def test_spread():
    assert Spread.of([1.0, 3.0]) == Spread(mean=2.0, std=1.0)
