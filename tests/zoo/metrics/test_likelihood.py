"""log p(x) in NumPy: by hand, by enumeration, and estimates that err to the side that they should."""

import itertools
import math

import numpy as np
import pytest
from scipy.special import logsumexp

from zoo.metrics.likelihood import (
    annealed_log_probs,
    bernoulli_log_probs,
    log_mean_exp,
    log_mixture,
    smoothed_rates,
    to_bits_per_dimension,
)

PIXELS, UNITS = 6, 3
EVERY = np.array(list(itertools.product([0, 1], repeat=PIXELS)))


def test_rates_of_pixels_are_those_of_the_images_and_of_two_more() -> None:
    images = np.array([[0.0, 1.0, 0.5], [0.0, 1.0, 1.0]])
    np.testing.assert_allclose(smoothed_rates(images), [1 / 4, 3 / 4, 2.5 / 4], rtol=1e-15)


def test_independent_pixels_by_hand() -> None:
    rates = np.array([0.25, 0.5, 0.9])
    found = bernoulli_log_probs(np.array([[1, 0, 1], [0, 0, 0]], bool), rates)
    np.testing.assert_allclose(found, [math.log(0.25 * 0.5 * 0.9), math.log(0.75 * 0.5 * 0.1)], rtol=1e-14)
    several = bernoulli_log_probs(np.array([[1, 0, 1]], bool), np.stack([rates, rates[::-1]]))
    np.testing.assert_allclose(several, [[math.log(0.25 * 0.5 * 0.9), math.log(0.9 * 0.5 * 0.25)]], rtol=1e-14)


def test_probabilities_of_all_images_add_up_to_one() -> None:
    rates = np.random.default_rng(0).uniform(0.01, 0.99, PIXELS)
    assert np.exp(bernoulli_log_probs(EVERY, rates)).sum() == pytest.approx(1.0, abs=1e-12)


def test_a_pixel_that_a_network_is_sure_of_has_a_probability_all_the_same() -> None:
    found = bernoulli_log_probs(np.array([[1, 0]], bool), np.array([0.0, 1.0], np.float32))
    assert found[0] == pytest.approx(2 * math.log(1e-7), rel=1e-6)


def test_means_and_mixtures_of_weights_are_taken_where_they_can_not_overflow() -> None:
    values = np.random.default_rng(1).normal(-1000.0, 5.0, (7, 3))
    np.testing.assert_allclose(log_mean_exp(values), logsumexp(values, axis=0) - math.log(7), rtol=1e-14)
    shares = np.array([0.2, 0.0, 0.8])
    np.testing.assert_allclose(log_mixture(values, shares), logsumexp(values, axis=1, b=shares), rtol=1e-14)


def test_an_image_of_random_bits_takes_a_bit_a_pixel() -> None:
    assert to_bits_per_dimension(PIXELS * math.log(0.5), PIXELS) == pytest.approx(1.0, abs=1e-15)


def test_annealing_forwards_and_backwards_comes_to_what_enumeration_gives() -> None:
    random = np.random.default_rng(3)
    machine = {
        "weights": random.normal(0.0, 1.0, (PIXELS, UNITS)),
        "visible_bias": random.normal(0.0, 0.5, PIXELS),
        "hidden_bias": random.normal(0.0, 0.5, UNITS),
    }
    energies = EVERY @ machine["visible_bias"] + np.logaddexp(
        0.0, EVERY @ machine["weights"] + machine["hidden_bias"]
    ).sum(axis=1)
    exact = energies - logsumexp(energies)
    found, error, reverse = annealed_log_probs(
        EVERY,
        machine,
        np.full(PIXELS, 0.4),
        chains=200,
        temperatures=200,
        seed=0,
        reversed_images=32,
        reversed_chains=20,
    )
    assert 0.0 < error < 0.05
    shift = found - exact  # one number for all images: log Z - its estimate
    assert np.ptp(shift) < 1e-5
    assert abs(shift[0]) < 4 * error
    assert reverse.shape == (32,)
    assert abs(np.mean(reverse - exact[:32])) < 0.05
