"""Between two draws."""

import numpy as np
import pytest

from serving.card import Input
from serving.sampling.interpolation import interpolate
from serving.session import InputError

LATENT = Input("latent", "float32", ("batch", 2), "normal")
JITTER = Input("jitter", "float32", ("batch", 1), "uniform", (0.0, 1.0))
LABEL = Input("label", "int64", ("batch",), "label", classes=("a", "b"))
FIRST = {"latent": np.array([[2.0, 0.0]], "f4"), "jitter": np.array([[0.0]], "f4"), "label": np.array([0])}
SECOND = {"latent": np.array([[0.0, 2.0]], "f4"), "jitter": np.array([[1.0]], "f4"), "label": np.array([1])}


def test_normal_numbers_turn_uniform_ones_go_straight_and_labels_are_the_nearer():
    found = interpolate([LATENT, JITTER, LABEL], FIRST, SECOND, 1 / 3)
    np.testing.assert_allclose(found["latent"], [[2 * np.cos(np.pi / 6), 2 * np.sin(np.pi / 6)]], rtol=1e-6)
    np.testing.assert_allclose(found["jitter"], [[1 / 3]], rtol=1e-6)
    assert found["label"] == 0
    assert found["latent"].dtype == np.float32
    assert interpolate([LABEL], FIRST, SECOND, 0.6)["label"] == 1


def test_the_ends_are_the_given_arrays():
    assert interpolate([LATENT], FIRST, SECOND, 0) == FIRST
    assert interpolate([LATENT], FIRST, SECOND, 1.0) == SECOND


@pytest.mark.parametrize("factor", [1.0, 2.0, 0.0])
def test_vectors_of_one_direction_go_straight(factor):
    second = {"latent": factor * FIRST["latent"]}
    found = interpolate([LATENT], FIRST, second, 0.5)["latent"]
    np.testing.assert_allclose(found, (1 + factor) / 2 * FIRST["latent"])


@pytest.mark.parametrize("position", [-0.1, 1.1, float("nan")])
def test_a_position_out_of_range_is_refused(position):
    with pytest.raises(InputError, match="give 0 for the first seed to 1"):
        interpolate([LATENT], FIRST, SECOND, position)
