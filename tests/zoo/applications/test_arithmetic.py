"""Means of exemplars, their sums and neighbors, and the mean latent of a class."""

import numpy as np
import pytest

from zoo.applications.arithmetic import combine, mean_latent, surround


def test_a_mean_latent_is_that_of_the_most_confident_of_its_class() -> None:
    latents = np.array([[1.0], [2.0], [4.0], [8.0], [16.0]])
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.2, 0.8], [0.7, 0.3]])
    assert mean_latent(latents, probabilities, 0, share=0.5) == [2.5]  # of 0.9 and 0.8
    assert mean_latent(latents, probabilities, 0, share=1.0) == [5.75]
    assert mean_latent(latents, probabilities, 1, share=0.1) == [8.0]
    with pytest.raises(ValueError, match="none of 5 images is of class 2"):
        mean_latent(latents, np.pad(probabilities, ((0, 0), (0, 1))), 2, share=1.0)


def test_each_concept_is_the_mean_of_its_exemplars() -> None:
    a, b, c = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0]]), np.array([[0.0, 3.0], [0.0, 6.0], [3.0, 0.0]])
    np.testing.assert_array_equal(combine(a, b, c), [2 - 1 + 1, 3 - 0 + 3])
    with pytest.raises(ValueError, match="0 exemplars of b: give at least 1"):
        combine(a, b[:0], c)
    with pytest.raises(ValueError, match="exemplars of dimension 2 and 3"):
        combine(a, b, np.zeros((1, 3)))


def test_neighbors_lie_within_the_scale_around_the_result() -> None:
    code = np.arange(50.0)
    around = surround(code, seed=1, scale=0.25)
    np.testing.assert_array_equal(around[4], code)
    offsets = np.delete(around - code, 4, axis=0)
    assert offsets.shape == (8, 50)
    assert 0.24 < np.abs(offsets).max() <= 0.25
    assert offsets.std() == pytest.approx(0.25 / 3**0.5, rel=0.1)
    np.testing.assert_array_equal(surround(code, 1), around)
    with pytest.raises(ValueError, match="scale=-1"):
        surround(code, scale=-1)
