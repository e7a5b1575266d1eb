"""Row i of seed s is Philox keyed by (s, i), on a stream of the input's name."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.card import Input
from serving.sampling.noise import draw

LATENT = Input("latent", "float32", ("batch", 3), "normal")
UNIFORM = Input("noise", "float32", ("batch", 3), "uniform")
LABEL = Input("label", "int64", ("batch",), "label", classes=("cat", "dog", "frog"))
words = st.integers(0, 2**64 - 1)


def philox(seed, index, name, step=0):
    """What draw promises, written out again."""
    stream = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    bits = np.random.Philox(key=np.array([seed, index], np.uint64), counter=np.array([0, 0, step, stream], np.uint64))
    return np.random.Generator(bits)


@given(seed=words, index=words)
def test_a_row_is_philox_keyed_by_seed_and_index_on_a_stream_of_its_name(seed, index):
    normal, uniform = philox(seed, index, "latent").standard_normal(3), philox(seed, index, "noise").uniform(-1, 1, 3)
    np.testing.assert_array_equal(draw(LATENT, [index], seed), [normal.astype(np.float32)])
    np.testing.assert_array_equal(draw(UNIFORM, [index], seed), [uniform.astype(np.float32)])


@given(seed=words, index=words, step=words)
def test_each_step_of_a_sampler_has_numbers_of_its_own(seed, index, step):
    expected = philox(seed, index, "latent", step).standard_normal(3)
    np.testing.assert_array_equal(draw(LATENT, [index], seed, step), [expected.astype(np.float32)])


def test_golden_numbers():
    """Fixed by the card's format: another number here makes every published sample sheet wrong."""
    # Generator(Philox(key=[7, 3], counter=[0, 0, 0, h])).standard_normal(3), h = sha256("latent")[:8] little-endian
    expected = np.array([0.31604087352752686, -1.1352895498275757, 0.12744510173797607], np.float32)
    np.testing.assert_array_equal(draw(LATENT, [3], 7), [expected])


@given(first=words, second=words)
def test_two_seeds_share_no_latent(first, second):
    latents = np.concatenate([draw(LATENT, range(20), seed) for seed in {first, second}])
    assert len(np.unique(latents, axis=0)) == len(latents)


@pytest.mark.parametrize("feed", ["normal", "noise_map"])
def test_normal_draws_have_the_moments_of_the_standard_normal(feed):
    values = draw(Input("z", "float64", ("batch", 50), feed), range(2000), seed=1).ravel()
    # 1e5 numbers: five standard errors are 0.016 of the mean, 0.022 of the variance, 0.077 of the fourth moment.
    assert abs(values.mean()) < 0.016
    assert abs(values.var() - 1) < 0.022
    assert abs((values**4).mean() - 3) < 0.16


def test_uniform_draws_fill_their_range_evenly():
    values = draw(Input("u", "float32", ("batch", 50), "uniform", (2.0, 6.0)), range(2000), seed=1).ravel()
    assert values.min() >= 2
    assert values.max() <= 6
    counts, _ = np.histogram(values, 4, (2, 6))
    assert abs(counts - 25_000).max() < 5 * np.sqrt(25_000 * 0.75)  # five standard deviations of a binomial


def test_labels_are_drawn_from_all_classes_evenly():
    counts = np.bincount(draw(LABEL, range(3000), seed=0))
    assert len(counts) == 3
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000 * 2 / 3)


def test_two_inputs_of_one_image_read_sequences_that_do_not_overlap():
    long = [Input(name, "float64", ("batch", 20_000), "uniform") for name in ("latent", "other")]
    first, second = (draw(spec, [0], 0)[0] for spec in long)
    assert not np.intersect1d(first, second).size


def test_the_largest_seed_and_index_are_good():
    assert np.isfinite(draw(LATENT, [2**64 - 1], 2**64 - 1)).all()
