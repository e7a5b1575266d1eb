"""Truncated distributions against SciPy's, and rows under each factor."""

import numpy as np
import pytest
from scipy.stats import kstest, norm, truncnorm

from zoo.applications.generators import ONE_DRAW, Generator
from zoo.applications.truncation import cut_off, cut_off_uniform, sweep_truncation


@pytest.mark.parametrize("threshold", [0.1, 1.0, 2.5])
def test_latents_within_a_threshold_have_the_truncated_distribution(threshold: float) -> None:
    latents = np.random.default_rng(0).standard_normal(2_000)
    found = cut_off(latents, threshold)
    assert np.abs(found).max() <= threshold
    within = truncnorm(-threshold, threshold)
    np.testing.assert_allclose(within.cdf(found), norm.cdf(latents), atol=1e-9)  # the same quantile of both
    assert kstest(found, within.cdf).pvalue > 0.01


def test_far_thresholds_change_nothing_and_near_ones_leave_little() -> None:
    latents = np.array([-9.0, -3.0, 0.0, 2.0, 9.0])
    np.testing.assert_allclose(cut_off(latents, 30.0), latents, rtol=1e-9)
    assert np.abs(cut_off(latents, 1e-3)).max() <= 1e-3
    with pytest.raises(ValueError, match=r"factor 0\.0: no latent lies within it"):
        cut_off(latents, 0.0)


def test_uniform_latents_within_a_threshold() -> None:
    latents = np.array([-1.0, -0.5, 0.0, 1.0])
    np.testing.assert_allclose(cut_off_uniform(latents, 0.4, (-1.0, 1.0)), 0.4 * latents)
    np.testing.assert_allclose(cut_off_uniform(latents, 3.0, (-1.0, 1.0)), latents)
    np.testing.assert_allclose(cut_off_uniform(np.array([-2.0, 3.0]), 2.5, (-2.0, 3.0)), [-2.0, 2.5])


def test_a_row_for_each_factor(styled: Generator) -> None:
    codes = styled.draw([5, 6], 2)
    images = sweep_truncation(styled, [0.5, 1.0], [5, 6], "input", seed=2)
    np.testing.assert_allclose(images[1], styled.generate(codes), atol=1e-6)
    np.testing.assert_allclose(
        images[0], styled.generate(0.5 * styled.draw([5, 6], 2, "w"), "w", noise=ONE_DRAW), atol=1e-5
    )
    np.testing.assert_allclose(
        sweep_truncation(styled, [0.5], [5, 6], "scale", seed=2)[0], styled.generate(0.5 * codes), atol=1e-6
    )
    np.testing.assert_allclose(
        sweep_truncation(styled, [0.5], [5, 6], "resample", seed=2)[0], styled.generate(cut_off(codes, 0.5)), atol=1e-6
    )


def test_sweeps_that_can_not_be(styled: Generator) -> None:
    with pytest.raises(ValueError, match='gan-mnist takes no truncation: choose "resample"'):
        sweep_truncation(Generator.open("gan-mnist"), [1.0], [0], "input")
    with pytest.raises(ValueError, match=r"method='psi': choose from \['input', 'resample', 'scale'\]"):
        sweep_truncation(styled, [1.0], [0], "psi")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"factors=\[\]: give at least one, all finite"):
        sweep_truncation(styled, [], [0], "input")
