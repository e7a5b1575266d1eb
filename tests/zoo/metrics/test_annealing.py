"""Annealed importance sampling, forwards and in reverse, against partition functions by enumeration."""

import math

import numpy as np
import pytest

from zoo.metrics.annealing import (
    LogPartition,
    annealed_importance_sampling,
    base_rate_bias,
    inverse_temperatures,
    reverse_annealed_importance_sampling,
)

PIXELS = 20


def states(units):
    """Every h, (2^units, units)."""
    return ((np.arange(2**units)[:, None] >> np.arange(units)) & 1).astype(np.float64)


def machine(units, scale=1.0):
    random = np.random.default_rng(units)
    return random.normal(0, scale, (PIXELS, units)), random.normal(0, 0.5, PIXELS), random.normal(0, 0.5, units)


def enumerated(weights, b, c, visible="bernoulli"):
    """log Z by a sum over h: visible units are summed out by prod (1 + e^(b + W h)), or by a Gaussian integral."""
    h = states(len(c))
    mean = b + h @ weights.T
    if visible == "gaussian":
        return np.logaddexp.reduce(h @ c + 0.5 * (mean**2).sum(1) - 0.5 * b @ b) + 0.5 * len(b) * math.log(2 * math.pi)
    return np.logaddexp.reduce(h @ c + np.logaddexp(0, mean).sum(1))


def log_prob(values, weights, b, c, visible="bernoulli"):
    linear = values @ b if visible == "bernoulli" else -0.5 * ((values - b) ** 2).sum(1)
    return linear + np.logaddexp(0, c + values @ weights).sum(1) - enumerated(weights, b, c, visible)


@pytest.mark.parametrize("units", [1, 6, 12, 16])
def test_the_estimate_is_within_three_standard_errors_of_the_enumerated_partition_function(units):
    weights, b, c = machine(units)
    base = np.random.default_rng(0).normal(0, 0.5, PIXELS)  # any base will do
    found = annealed_importance_sampling(weights, b, c, base, temperatures=1_000, chains=200, seed=3)
    assert 0.0 < found.error < 0.1
    assert found.value == pytest.approx(enumerated(weights, b, c), abs=3 * found.error)
    assert found[2:] == (200, 1_000)


@pytest.mark.parametrize("units", [1, 8])
def test_gaussian_units_have_a_partition_function_too(units):
    weights, b, c = machine(units, scale=0.5)
    found = annealed_importance_sampling(weights, b, c, np.zeros(PIXELS), 2_000, 200, 3, "gaussian")
    assert 0.0 < found.error < 0.1
    assert found.value == pytest.approx(enumerated(weights, b, c, "gaussian"), abs=3 * found.error)


def test_a_machine_that_is_its_base_is_known_exactly():
    b, c = np.linspace(-2, 2, PIXELS), np.zeros(3)
    found = annealed_importance_sampling(np.zeros((PIXELS, 3)), b, c, b, 10, 5)
    assert found.value == pytest.approx(np.logaddexp(0, b).sum() + 3 * math.log(2), abs=1e-9)
    assert found.error == pytest.approx(0.0, abs=1e-9)


def test_the_standard_error_is_the_spread_of_the_estimates():
    """40 estimates: their deviation is within half of the mean of the errors they state, their mean close to log Z."""
    weights, b, c = machine(8)
    found = [annealed_importance_sampling(weights, b, c, np.zeros(PIXELS), 300, 50, seed) for seed in range(40)]
    values, errors = np.array([(each.value, each.error) for each in found]).T
    assert values.std() == pytest.approx(errors.mean(), rel=0.5)
    assert values.mean() == pytest.approx(enumerated(weights, b, c), abs=4 * errors.mean() / math.sqrt(40))


def test_more_temperatures_make_the_chains_agree():
    weights, b, c = machine(12)
    errors = [
        annealed_importance_sampling(weights, b, c, np.zeros(PIXELS), count, 100, 1).error for count in (30, 300, 3_000)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_the_interval_is_of_the_mean_weight():
    low, high = LogPartition(100.0, 0.1, 100, 1_000).interval
    assert low == pytest.approx(100 + math.log(0.7))  # e^100 (1 - 3 * 0.1)
    assert high == pytest.approx(100 + math.log(1.3))
    assert LogPartition(100.0, 0.4, 100, 1_000).interval[0] == -math.inf


@pytest.mark.parametrize(("visible", "scale"), [("bernoulli", 0.7), ("gaussian", 0.4)])
def test_the_reverse_estimate_is_near_log_p_and_below_it(visible, scale):
    """64 images of the machine itself: on average between 0 and 0.1 nats too low, none far from its own."""
    weights, b, c = machine(10, scale)
    random = np.random.default_rng(5)
    h = states(10)[random.choice(1024, 64, p=np.exp(of_hidden(weights, b, c, visible)))]
    mean = b + h @ weights.T
    values = mean + random.normal(size=mean.shape) if visible == "gaussian" else random.random(mean.shape) < expit(mean)
    exact = log_prob(values.astype(float), weights, b, c, visible)
    found = reverse_annealed_importance_sampling(
        values.astype(float), weights, b, c, np.zeros(PIXELS), 2_000, 10, 1, visible
    )
    assert found.shape == (64,)
    assert -0.1 < np.mean(found - exact) < 0.02
    np.testing.assert_allclose(found, exact, atol=1.0)


def test_with_few_temperatures_the_reverse_estimate_is_too_low_and_the_forward_one_too_high():
    weights, b, c = machine(12, scale=1.5)
    values = (np.random.default_rng(0).random((200, PIXELS)) < 0.5).astype(float)
    exact = log_prob(values, weights, b, c)
    base = np.zeros(PIXELS)
    reverse = reverse_annealed_importance_sampling(values, weights, b, c, base, 5, 1, 1)
    forward = np.mean(
        [annealed_importance_sampling(weights, b, c, base, 5, 2, seed).value for seed in range(200)]
    ) - enumerated(weights, b, c)
    assert np.mean(reverse - exact) < -0.2
    assert forward < -0.2  # log Z too low makes log p too high


def test_images_do_not_depend_on_how_many_there_are_at_once_but_for_their_noise():
    """A row that is given often is estimated often, each time by chains of its own."""
    weights, b, c = machine(6, scale=0.5)
    value = np.ones((1, PIXELS))
    found = reverse_annealed_importance_sampling(np.repeat(value, 70, 0), weights, b, c, np.zeros(PIXELS), 500, 10, 1)
    assert len(set(found)) == 70
    assert found.mean() == pytest.approx(log_prob(value, weights, b, c)[0], abs=0.05)


def of_hidden(weights, b, c, visible):
    """log p(h) of every h."""
    h = states(len(c))
    mean = b + h @ weights.T
    term = 0.5 * (mean**2).sum(1) if visible == "gaussian" else np.logaddexp(0, mean).sum(1)
    logits = h @ c + term
    return logits - np.logaddexp.reduce(logits)


def expit(x):
    return 1 / (1 + np.exp(-x))


def test_temperatures_are_spaced_as_in_the_paper():
    """14,500 of them: 500 up to 0.5, 4,000 up to 0.9, 10,000 up to 1."""
    betas = inverse_temperatures(14_500)
    assert len(betas) == 14_501
    assert (betas[0], betas[500], betas[4_500], betas[-1]) == pytest.approx((0.0, 0.5, 0.9, 1.0))
    assert (np.diff(betas) > 0).all()
    np.testing.assert_array_equal(inverse_temperatures(1), [0.0, 1.0])


def test_the_base_gives_each_pixel_its_mean():
    np.testing.assert_allclose(expit(base_rate_bias(np.array([0.2, 0.5, 0.0, 1.0]))), [0.2, 0.5, 0.01, 0.99])
    np.testing.assert_array_equal(base_rate_bias(np.array([-2.0, 3.0]), "gaussian"), [-2.0, 3.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chains": 1}, "chains=1: choose at least 2"),
        ({"temperatures": 0}, "temperatures=0: choose at least 1"),
        ({"base_bias": np.zeros(3)}, r"base_bias has the shape \(3,\); these weights take \(20,\)"),
        ({"hidden_bias": np.zeros(5)}, r"hidden_bias has the shape \(5,\); these weights take \(4,\)"),
        ({"visible": "binary"}, r"visible='binary': choose from \['bernoulli', 'gaussian'\]"),
    ],
)
def test_what_is_refused(change, message):
    weights, b, c = machine(4)
    arguments = {"weights": weights, "visible_bias": b, "hidden_bias": c, "base_bias": b, "temperatures": 2}
    with pytest.raises(ValueError, match=message):
        annealed_importance_sampling(**{**arguments, **change})
    with pytest.raises(ValueError, match=r"values have the shape \(3,\); the machine takes \(images, 20\)"):
        reverse_annealed_importance_sampling(np.zeros(3), **arguments)
