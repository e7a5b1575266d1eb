"""Latents of known posteriors: closed forms, quadrature, and what an error bar promises."""

import numpy as np
import pytest
from scipy import integrate, stats

from zoo.metrics import latents
from zoo.metrics.latents import latent_statistics, mean_posterior_divergences

RANDOM = np.random.default_rng(0)
MEANS, SCALES = RANDOM.normal(size=(500, 3)), RANDOM.uniform(0.2, 1.5, (500, 3))


def quantiles(count: int) -> np.ndarray:
    """Points of equal weight that stand for N(0, 1)."""
    return stats.norm.ppf((np.arange(count) + 0.5) / count)


def test_posteriors_that_are_the_prior_say_nothing():
    found = latent_statistics(np.zeros((300, 4)), np.ones((300, 4)))
    assert found.active_units == 0
    np.testing.assert_array_equal(found.divergence, np.zeros((300, 4)))
    assert (found.mutual_information, found.aggregate_divergence, found.error) == pytest.approx((0, 0, 0), abs=1e-12)


def test_posteriors_that_are_all_alike_leave_their_divergence_from_the_prior():
    found = latent_statistics(np.full((50, 1), 0.5), np.full((50, 1), 2.0))
    # 1/2 (mean^2 + scale^2 - 1 - log scale^2) = 1/2 (1/4 + 4 - 1 - log 4)
    assert found.divergence == pytest.approx(np.full((50, 1), 0.5 * (3.25 - np.log(4.0))))
    assert found.aggregate_divergence == pytest.approx(0.5 * (3.25 - np.log(4.0)))
    assert found.mutual_information == pytest.approx(0.0, abs=1e-12)
    assert found.active_units == 0  # a mean far from 0, and the same for every image


def test_a_unit_is_active_where_its_mean_varies_by_more_than_a_hundredth():
    means = np.sqrt([0.009, 0.011, 4.0]) * np.array([[1.0], [-1.0]])  # variances over the two images
    assert latent_statistics(means, np.ones((2, 3))).active_units == 2


def test_divergences_are_of_each_image_and_dimension():
    means, scales = np.array([[0.0, 1.0, 2.0], [0.0, -3.0, 2.0]]), np.array([[1.0, 1.0, 0.5], [1.0, 1.0, 2.0]])
    # 1/2 (mean^2 + scale^2 - 1) - log scale:
    # 0, 1/2 (1 + 1 - 1), 1/2 (4 + 1/4 - 1) + log 2
    # 0, 1/2 (9 + 1 - 1), 1/2 (4 + 4 - 1) - log 2
    wanted = [[0.0, 0.5, 1.625 + np.log(2.0)], [0.0, 4.5, 3.5 - np.log(2.0)]]
    assert latent_statistics(means, scales).divergence == pytest.approx(np.array(wanted))
    assert mean_posterior_divergences(means, scales) == pytest.approx([0.0, 2.5, 2.5625])  # over the two images


def test_the_divergence_is_that_of_an_integral():
    def integrand(z: float) -> float:
        ratio = stats.norm.logpdf(z, MEANS[0, 0], SCALES[0, 0]) - stats.norm.logpdf(z)
        return stats.norm.pdf(z, MEANS[0, 0], SCALES[0, 0]) * ratio

    found = latent_statistics(np.repeat(MEANS[:1, :1], 2, axis=0), np.repeat(SCALES[:1, :1], 2, axis=0))
    assert found.divergence[0, 0] == pytest.approx(integrate.quad(integrand, -12, 12)[0], rel=1e-6)


@pytest.mark.parametrize(
    ("center", "spread"), [(0.0, np.sqrt(1 - 0.6**2)), (0.7, 1.2)], ids=["the prior itself", "another normal"]
)
def test_a_linear_model_has_a_normal_aggregate(center: float, spread: float):
    """mean = center + spread x with x ~ N(0, 1) and scale 0.6: z ~ N(center, spread^2 + 0.6^2)."""
    means = center + spread * RANDOM.permutation(quantiles(3_000))[:, None]
    found = latent_statistics(means, np.full(means.shape, 0.6))
    variance = spread**2 + 0.36
    wanted = 0.5 * (center**2 + variance - 1 - np.log(variance))
    assert found.aggregate_divergence == pytest.approx(wanted, abs=4 * found.error)
    assert found.mutual_information == pytest.approx(0.5 * np.log(variance / 0.36), abs=4 * found.error)
    assert 0.005 < found.error < 0.02


def test_a_mixture_of_two_by_quadrature_and_its_error_bar():
    (one, other), (narrow, wide) = (-0.8, 1.1), (0.5, 0.9)

    def aggregate(z: float) -> float:
        return 0.5 * (stats.norm.pdf(z, one, narrow) + stats.norm.pdf(z, other, wide))

    wanted, _ = integrate.quad(lambda z: aggregate(z) * (np.log(aggregate(z)) - stats.norm.logpdf(z)), -12, 12)
    means, scales = np.tile([[one], [other]], (400, 1)), np.tile([[narrow], [wide]], (400, 1))
    found = [latent_statistics(means, scales, seed=seed) for seed in range(40)]
    off = np.array([(each.aggregate_divergence - wanted) / each.error for each in found])
    assert abs(off.mean()) < 4 / 40**0.5
    assert 0.7 < np.sqrt(np.mean(off**2)) < 1.3
    assert found[0].mutual_information != found[1].mutual_information
    for each in found:
        assert each.mutual_information + each.aggregate_divergence == pytest.approx(each.divergence.mean())


def test_images_far_apart_are_told_apart_and_no_further():
    means = 10.0 * RANDOM.permutation(64)[:, None].astype(np.float32)
    found = latent_statistics(means, np.full((64, 1), 0.1, np.float32))
    assert found.mutual_information == pytest.approx(np.log(64))
    assert found.aggregate_divergence == pytest.approx(found.divergence.mean() - np.log(64))
    assert found.error < 1e-9


def test_dimensions_add_up_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch):
    wanted = latent_statistics(MEANS, SCALES, seed=3)
    monkeypatch.setattr(latents, "BLOCK", 7)
    found = latent_statistics(MEANS, SCALES, seed=3)
    assert found.aggregate_divergence == pytest.approx(wanted.aggregate_divergence, rel=1e-12)
    alone = [latent_statistics(MEANS[:, [k]], SCALES[:, [k]]).divergence[:, 0] for k in range(3)]
    np.testing.assert_allclose(wanted.divergence, np.transpose(alone), rtol=1e-12)
    # by SciPy, an image and a mixture component at a time
    noise = np.random.Generator(np.random.Philox(3)).standard_normal(MEANS.shape)
    densities = stats.norm.logpdf((MEANS + SCALES * noise)[:, None], MEANS, SCALES).sum(axis=2)
    told = np.diag(densities) - np.log(np.exp(densities).mean(axis=1))
    assert wanted.mutual_information == pytest.approx(told.mean(), rel=1e-9)


@pytest.mark.parametrize(
    ("mean", "scale", "message"),
    [
        (np.zeros((4, 2)), np.ones((4, 3)), r"means \(4, 2\) and scales \(4, 3\) from 1: give one shape"),
        (np.zeros((4, 2)), np.zeros((4, 2)), r"scales \(4, 2\) from 0: .* above 0"),
        (np.full((4, 2), np.nan), np.ones((4, 2)), "4 of 4 posterior means hold NaN"),
        (np.zeros((1, 2)), np.ones((1, 2)), "1 posterior means: give at least 2"),
    ],
)
def test_what_is_no_posterior_is_refused(mean: np.ndarray, scale: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        latent_statistics(mean, scale)
