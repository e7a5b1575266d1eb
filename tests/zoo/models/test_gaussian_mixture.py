"""Gaussian mixture: densities by SciPy, EM by scikit-learn, factor analyzers by their full covariances in NumPy."""

import warnings

import numpy as np
import pytest
from keras.optimizers import SGD
from scipy import stats
from sklearn import mixture
from sklearn.exceptions import ConvergenceWarning

from zoo.layers.mixtures import STARTED
from zoo.models.gaussian_mixture import GaussianMixture

SHAPE, COMPONENTS, PIXELS, LEAST = (2, 3, 1), 3, 6, 0.01
LITTLE = 1e-6  # smoothing that no digit shows


def make_images(count=90, seed=0):
    """Three clusters of unlike sizes, with correlated pixels."""
    random = np.random.default_rng(seed)
    centers = random.uniform(-0.5, 0.5, (3, PIXELS))
    spread = random.normal(0, 0.12, (3, PIXELS, PIXELS))
    labels = random.choice(3, count, p=[0.2, 0.3, 0.5])
    rows = centers[labels] + np.einsum("nij,nj->ni", spread[labels], random.normal(size=(count, PIXELS)))
    return np.clip(rows, -1, 1).astype(np.float32).reshape(count, *SHAPE)


IMAGES = make_images()
ROWS = IMAGES.reshape(len(IMAGES), -1).astype(np.float64)


def make(factors=0, smoothing=LITTLE, rate=1.0, seed=0, started=True):
    """A compiled model of random numbers, and past its start unless it is to begin."""
    random = np.random.default_rng(seed)
    model = GaussianMixture(SHAPE, COMPONENTS, factors, smoothing, LEAST)
    model.compile(mixture=SGD(rate))
    layer = model.mixture
    count = random.uniform(0.5, 1.5, COMPONENTS)
    layer.count.assign(COMPONENTS * count / count.sum())
    layer.mean.assign(1.0 + random.uniform(-0.5, 0.5, (COMPONENTS, PIXELS)))
    layer.log_deviation.assign(np.log(random.uniform(0.2, 0.4, (COMPONENTS, PIXELS))))
    if factors:
        layer.factors.assign(random.normal(0, 0.2, (COMPONENTS, PIXELS, factors)))
    model.step.assign(int(started))
    return model


def read(model):
    """w, means, deviations, covariances, factors."""
    layer = model.mixture
    shares, deviation = np.array(layer.shares(), np.float64), np.array(layer.deviation(), np.float64)
    factors = layer.factors.numpy().astype(np.float64) if layer.rank else np.zeros((COMPONENTS, PIXELS, 1))
    covariances = factors @ factors.transpose(0, 2, 1) + np.stack([np.diag(each**2) for each in deviation])
    return shares, layer.mean.numpy().astype(np.float64) - 1.0, deviation, covariances, factors


def log_joint(model, rows):
    shares, means, _, covariances, _ = read(model)
    parts = [stats.multivariate_normal.logpdf(rows, m, c) for m, c in zip(means, covariances, strict=True)]
    return np.log(shares) + np.stack(parts, axis=1)


def responsibilities(model, rows):
    joint = log_joint(model, rows)
    return np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))


@pytest.mark.parametrize("factors", [0, 1, 3])
def test_log_prob_is_that_of_scipy(factors):
    model = make(factors)
    found = model.log_prob(IMAGES)
    assert found.name == "exact"
    np.testing.assert_allclose(found.values, np.logaddexp.reduce(log_joint(model, ROWS), axis=1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(model.encode(IMAGES), responsibilities(model, ROWS), atol=1e-4)


@pytest.mark.parametrize("steps", [1, 6])
def test_steps_are_those_of_scikit_learn(fit, steps):
    model = make()
    shares, means, deviation, *_ = read(model)
    oracle = mixture.GaussianMixture(
        COMPONENTS,
        covariance_type="diag",
        tol=0.0,
        reg_covar=0.0,
        max_iter=steps,
        weights_init=shares / shares.sum(),
        means_init=means,
        precisions_init=deviation**-2.0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # so few steps are meant
        oracle.fit(ROWS)
    fit(model, IMAGES, steps)
    shares, means, deviation, *_ = read(model)
    np.testing.assert_allclose(shares, oracle.weights_, atol=1e-4)
    np.testing.assert_allclose(means, oracle.means_, atol=1e-4)
    np.testing.assert_allclose(deviation**2, oracle.covariances_, rtol=2e-3, atol=1e-6)


def test_factors_are_those_of_an_em_step_on_the_whole_covariance(fit):
    """Ghahramani and Hinton's equations for one component, S its covariance about the new mean by responsibilities."""
    model, rank = make(2), 2
    chosen, (_, _, _, covariances, factors) = responsibilities(model, ROWS), read(model)
    fit(model, IMAGES)
    shares, means, deviation, _, found = read(model)
    for k in range(COMPONENTS):
        weights = chosen[:, k] / chosen[:, k].sum()
        mean = weights @ ROWS
        scatter = (weights[:, None] * (ROWS - mean)).T @ (ROWS - mean)
        beta = factors[k].T @ np.linalg.inv(covariances[k])
        second = np.eye(rank) - beta @ factors[k] + beta @ scatter @ beta.T
        expected = scatter @ beta.T @ np.linalg.inv(second)
        assert shares[k] == pytest.approx(chosen[:, k].mean(), rel=1e-4)
        np.testing.assert_allclose(means[k], mean, atol=1e-4)
        np.testing.assert_allclose(found[k], expected, atol=1e-4)
        np.testing.assert_allclose(deviation[k] ** 2, np.diag(scatter - expected @ beta @ scatter), rtol=3e-3)


@pytest.mark.parametrize("factors", [0, 2])
def test_em_never_lowers_the_likelihood(fit, factors):
    model, found = make(factors, seed=3), []
    for _ in range(15):
        found.append(np.logaddexp.reduce(log_joint(model, ROWS), axis=1).mean())
        fit(model, IMAGES)
    assert np.diff(found).min() > -1e-4
    assert found[-1] - found[0] > 1.0


def test_components_start_at_images_with_the_deviations_of_all(fit):
    model = make(2, started=False)
    layer = model.mixture
    drawn = layer.mean.numpy(), layer.log_deviation.numpy(), layer.factors.numpy()
    fit(model, IMAGES)
    starts = (layer.mean.numpy() - (1.0 - STARTED) * drawn[0]) / STARTED - 1.0
    nearest = np.abs(starts[:, None] - ROWS[None]).max(axis=2)
    assert nearest.min(axis=1).max() < 1e-5
    assert len(set(nearest.argmin(axis=1))) == COMPONENTS
    log_deviation = (layer.log_deviation.numpy() - (1.0 - STARTED) * drawn[1]) / STARTED
    np.testing.assert_allclose(np.exp(log_deviation), np.tile(ROWS.std(axis=0), (COMPONENTS, 1)), rtol=1e-4)
    np.testing.assert_array_equal(layer.factors.numpy(), drawn[2])


def test_a_deviation_is_no_less_than_the_least(fit):
    model = make()
    fit(model, np.repeat(IMAGES[:3], 5, axis=0), 8)
    assert model.mixture.deviation().numpy().min() == pytest.approx(LEAST, rel=1e-5)


def test_smoothing_keeps_a_component_without_images_where_it_is(fit):
    model = make(smoothing=0.01)
    model.mixture.mean.assign(np.concatenate([np.full((1, PIXELS), 40.0), model.mixture.mean.numpy()[1:]]))
    fit(model, IMAGES)
    np.testing.assert_allclose(model.mixture.mean.numpy()[0], 40.0, rtol=1e-5)
    np.testing.assert_allclose(model.mixture.deviation().numpy()[0], ROWS.std(axis=0), rtol=1e-3)


def test_an_image_is_the_mean_given_component_and_factors():
    model = make(2)
    shares, means, _, _, factors = read(model)
    noise = np.random.default_rng(1).normal(0, 0.5, (3, 2)).astype(np.float32)
    middles = (np.cumsum(shares) - shares / 2).astype(np.float32)
    found = model.run_ability("generate", {"component": middles, "factors": noise})["image"]
    expected = means + np.einsum("kdr,kr->kd", factors, noise)
    np.testing.assert_allclose(found.reshape(3, -1), np.clip(expected, -1, 1), atol=1e-5)


def test_a_sample_of_a_diagonal_component_has_its_mean_and_deviation():
    model = make()
    shares, means, deviation, *_ = read(model)
    middle = (shares[0] + shares[1] / 2).astype(np.float32)
    noise = np.random.default_rng(2).normal(size=(4, *SHAPE)).astype(np.float32)
    found = model.run_ability("generate", {"component": np.full(4, middle, np.float32), "pixels": noise})["image"]
    expected = means[1] + deviation[1] * noise.reshape(4, -1)
    np.testing.assert_allclose(found.reshape(4, -1), np.clip(expected, -1, 1), atol=1e-5)


@pytest.mark.parametrize("factors", [0, 2])
def test_a_reconstruction_is_what_components_and_factors_expect(factors):
    model = make(factors)
    chosen, (_, means, _, covariances, loadings) = responsibilities(model, ROWS), read(model)
    parts = [
        mean + (ROWS - mean) @ np.linalg.inv(covariance) @ loading @ loading.T
        for mean, covariance, loading in zip(means, covariances, loadings, strict=True)
    ]
    expected = np.einsum("nk,knd->nd", chosen, np.stack(parts))
    found = model.reconstruct(IMAGES).reshape(len(IMAGES), -1)
    np.testing.assert_allclose(found, np.clip(expected, -1, 1), atol=1e-4)


@pytest.mark.parametrize("factors", [0, 2])
def test_two_replicas_end_where_one_does(fit, strategy_of, difference, factors):
    found = []
    for replicas in (1, 2):
        with strategy_of(replicas).scope():
            model = make(factors, smoothing=0.05, started=False)
        fit(model, IMAGES[:31], 4)
        found.append(model.get_weights())
    assert difference(*found) < 1e-4


@pytest.mark.parametrize(
    "arguments", [{"components": 0}, {"factors": -1}, {"smoothing": 0.0}, {"least_deviation": 0.0}]
)
def test_what_can_not_be_meant_is_refused(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name}=.*choose"):
        GaussianMixture(SHAPE, **arguments)
