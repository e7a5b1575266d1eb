"""The exact likelihood, the Gaussians of least divergence, and the alternation of encoder and decoder."""

import numpy as np
import pytest

from studies.bounds import (
    COVARIANCE,
    DIVERGENCES,
    Options,
    alternate_updates,
    exact_log_likelihood,
    find_minima,
    make_linear_vae,
)


def test_the_exact_log_likelihood_is_that_of_a_normal() -> None:
    from scipy.stats import multivariate_normal

    model = make_linear_vae(2, scale=0.5)
    model.decoder.get_layer("values").set_weights([np.array([[0.8, -0.3]]), np.array([0.2, 0.1])])
    points = np.random.default_rng(0).multivariate_normal([0, 0], COVARIANCE, 50)
    covariance = np.outer([0.8, -0.3], [0.8, -0.3]) + 0.25 * np.eye(2)
    expected = multivariate_normal([0.2, 0.1], covariance).logpdf(points).mean()
    assert exact_log_likelihood(model, points) == pytest.approx(expected, rel=1e-5)


def test_the_gaussians_of_least_divergence_are_the_mixtures_moments_and_its_heavier_component() -> None:
    # Mean 0.65 * -2 + 0.35 * 2 = -0.6; variance 0.25 + 4 - 0.36 = 3.89.
    assert np.allclose(find_minima(DIVERGENCES["KL(p || q)"]), [(-0.6, 3.89**0.5)], atol=1e-3)
    assert np.allclose(find_minima(DIVERGENCES["KL(q || p)"]), [(-2.0, 0.5)], atol=1e-2)


def test_only_training_the_decoder_changes_the_likelihood_and_the_bound_stays_below() -> None:
    rows = alternate_updates(Options(phases=3, steps_per_phase=20, batch_size=64))
    likelihood, bound = ([row[3] for row in rows if row[1] == curve] for curve in ("log p(x)", "ELBO"))
    assert likelihood[0] == likelihood[1] == likelihood[2] != likelihood[3]
    assert likelihood[4] == likelihood[5] > likelihood[0]
    assert np.all(np.array(bound) < np.array(likelihood) + 0.02)  # 400 samples of 64 points
    assert bound[1] > bound[0]
