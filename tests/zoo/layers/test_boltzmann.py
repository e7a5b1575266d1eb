"""Restricted Boltzmann machines against enumeration, and the chains that persist."""

import math

import numpy as np
import pytest

from zoo.layers.boltzmann import PersistentChains, RestrictedBoltzmann, draw_bernoulli, draw_visible

PIXELS, UNITS = 6, 4


def states(units):
    return ((np.arange(2**units)[:, None] >> np.arange(units)) & 1).astype(np.float32)


def machine(visible="bernoulli", pixels=PIXELS, seed=0):
    layer = RestrictedBoltzmann(pixels, UNITS, visible)
    random = np.random.default_rng(seed)
    for variable in layer.trainable_variables:
        variable.assign(random.normal(0, 1, variable.shape))
    return layer, [np.asarray(variable) for variable in layer.trainable_variables]


def energies(v, h, weights, b, c, visible):
    """E(v, h) of every pair, (rows of v, rows of h)."""
    own = -v @ b if visible == "bernoulli" else 0.5 * ((v - b) ** 2).sum(1)
    return own[:, None] - h @ c - v @ weights @ h.T


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_the_free_energy_sums_the_hidden_units_out(visible):
    layer, parameters = machine(visible)
    v = np.random.default_rng(1).normal(size=(5, PIXELS)).astype(np.float32)
    expected = -np.logaddexp.reduce(-energies(v, states(UNITS), *parameters, visible), axis=1)
    np.testing.assert_allclose(layer(v), expected, rtol=1e-5)


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_hidden_units_given_visible_ones_have_the_mean_of_the_joint_distribution(visible):
    layer, parameters = machine(visible)
    v, h = states(PIXELS)[[5, 40]], states(UNITS)
    joint = np.exp(-energies(v, h, *parameters, visible))
    np.testing.assert_allclose(
        1 / (1 + np.exp(-np.asarray(layer(v, of="hidden_logits")))),
        (joint @ h) / joint.sum(1, keepdims=True),
        rtol=1e-5,
    )


def test_binary_visible_units_given_hidden_ones_have_the_mean_of_the_joint_distribution():
    layer, parameters = machine()
    v, h = states(PIXELS), states(UNITS)[[3, 9]]
    joint = np.exp(-energies(v, h, *parameters, "bernoulli"))
    expected = (joint.T @ v) / joint.sum(0)[:, None]
    np.testing.assert_allclose(layer(h, of="visible_mean"), expected, rtol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-np.asarray(layer(h, of="visible_values")))), expected, rtol=1e-5)


def test_gaussian_visible_units_given_hidden_ones_are_normal_of_variance_1():
    """By hand: p(v|h) is as exp(-1/2 (v - b)^2 + v W h), whose mean is b + W h and whose deviation is 1."""
    layer, (weights, b, _) = machine("gaussian")
    h = states(UNITS)[[3, 9]]
    np.testing.assert_allclose(layer(h, of="visible_mean"), b + h @ weights.T, rtol=1e-5)
    grid = np.linspace(-12, 12, 4_001)
    density = np.exp(-0.5 * (grid - b[0]) ** 2 + grid * (weights[0] @ h[0]))
    density /= density.sum()
    assert grid @ density == pytest.approx(float(layer(h, of="visible_mean")[0, 0]), abs=1e-4)
    assert (grid - grid @ density) ** 2 @ density == pytest.approx(1.0, abs=1e-4)
    noise = np.array([[0.5] * PIXELS, [-2.0] * PIXELS], np.float32)
    drawn = draw_visible(layer(h, of="visible_values"), noise, binary=False)
    np.testing.assert_allclose(drawn, b + h @ weights.T + noise, rtol=1e-5)


def test_probabilities_of_all_images_sum_to_1():
    layer, parameters = machine()
    v = states(PIXELS)
    layer.set_log_partition(np.logaddexp.reduce(-energies(v, states(UNITS), *parameters, "bernoulli"), axis=None))
    assert np.exp(layer(v, of="log_prob")).sum() == pytest.approx(1.0, abs=1e-5)


def test_a_density_of_one_pixel_has_the_area_1():
    layer, (weights, b, c) = machine("gaussian", pixels=1)
    h = states(UNITS)
    mean = b + h @ weights.T
    log_partition = np.logaddexp.reduce(h @ c + 0.5 * (mean**2 - b**2).sum(1)) + 0.5 * math.log(2 * math.pi)
    layer.set_log_partition(float(log_partition))
    grid = np.linspace(-15, 15, 3_001, dtype=np.float32)[:, None]
    assert np.exp(layer(grid, of="log_prob")).sum() * 0.01 == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(("visible", "bias"), [("bernoulli", -1.3), ("gaussian", 0.4)])
def test_the_first_log_partition_is_that_of_no_weights(visible, bias):
    layer = RestrictedBoltzmann(3, UNITS, visible, bias)
    layer.kernel.assign(np.zeros((3, UNITS)))
    v = np.array([[0.0, 1.0, 0.0]], np.float32)
    if visible == "bernoulli":
        p = 1 / (1 + math.exp(-bias))
        expected, mean = math.log(p) + 2 * math.log(1 - p), p
    else:
        expected, mean = -0.5 * ((v - bias) ** 2).sum() - 1.5 * math.log(2 * math.pi), bias
    assert float(layer(v, of="log_prob")[0]) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(layer.mean, [mean] * 3, rtol=1e-6)


def test_log_z_survives_a_file_of_float16():
    layer, _ = machine()
    layer.set_log_partition(451.1234)  # float16 has steps of 1/4 there
    stored = np.asarray(layer.log_partition_parts).astype(np.float16).astype(np.float64)
    assert stored.sum() == pytest.approx(451.1234, abs=1e-4)


def test_a_unit_is_on_where_its_uniform_number_is_below_its_probability():
    logits = np.log([[1 / 3, 1.0, 3.0]]).astype(np.float32)  # probabilities 1/4, 1/2, 3/4
    np.testing.assert_array_equal(draw_bernoulli(logits, np.full((1, 3), 0.24, np.float32)), [[1, 1, 1]])
    np.testing.assert_array_equal(draw_bernoulli(logits, np.full((1, 3), 0.6, np.float32)), [[0, 0, 1]])
    np.testing.assert_array_equal(draw_visible(logits, np.full((1, 3), 0.76, np.float32), binary=True), [[0, 0, 0]])


def test_the_average_of_the_data_follows_the_batches():
    layer = RestrictedBoltzmann(2, UNITS, mean_decay=0.9)
    layer.update_mean(np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]], np.float32))
    np.testing.assert_allclose(layer.mean, [0.9 * 0.5 + 0.1, 0.9 * 0.5 + 0.1 / 3], rtol=1e-6)


# Chains


@pytest.mark.parametrize(("chains", "rows"), [(3, 1), (5, 2), (4, 4), (3, 5)])
def test_rows_go_on_with_the_chains_in_turn(chains, rows):
    """Against plain Python: chain by chain, the first row that took a chain is kept."""
    layer, held, first = PersistentChains(chains, 2), np.zeros((chains, 2), np.float32), 0
    random = np.random.default_rng(0)
    for _ in range(7):
        numbers = [(first + row) % chains for row in range(rows)]
        np.testing.assert_array_equal(layer.take(np.arange(rows)), held[numbers])
        new = random.normal(size=(rows, 2)).astype(np.float32)
        layer.put(new)
        for row in reversed(range(rows)):
            held[numbers[row]] = new[row]
        first = (first + rows) % chains
        np.testing.assert_array_equal(layer.values, held)


def test_the_chains_are_state_and_not_trained():
    layer = PersistentChains(4, 3)
    assert not layer.trainable_variables
    again = PersistentChains.from_config(layer.get_config())
    assert (again.chains, again.size) == (4, 3)
    with pytest.raises(ValueError, match="chains=0: choose at least 1"):
        PersistentChains(0, 3)
    with pytest.raises(ValueError, match=r"visible='real': choose from \['bernoulli', 'gaussian'\]"):
        RestrictedBoltzmann(3, 2, "real")
