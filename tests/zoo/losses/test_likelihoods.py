"""Posterior, prior and likelihoods against SciPy, closed forms and sums over every gray level."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy import stats

from zoo.losses.likelihoods import (
    FIRST_SCALE,
    GRAY_LEVEL,
    LIKELIHOODS,
    Divergence,
    LogLikelihood,
    LogRatio,
    to_gray_levels,
)

RANDOM = np.random.default_rng(0)
MEAN, LOG_SCALE = RANDOM.normal(0, 2, (7, 3)), RANDOM.normal(-1, 1, (7, 3))
LEVELS = np.arange(256)
GRAYS = LEVELS / 127.5 - 1.0
SHAPE = (2, 3, 4, 2)  # of images that a likelihood sums over
LEAST_SCALE = float(np.exp(-7.0))  # PixelCNN++'s code


def of_one_pixel(kind, scale, dtype="float64"):
    """(images, values), numbers or arrays -> log p of each, as images of one pixel."""
    layer = LogLikelihood(kind, scale, dtype=dtype)

    def log_prob(images, values):
        images, values = np.broadcast_arrays(np.asarray(images, dtype), np.asarray(values, dtype))
        return np.asarray(layer(*(ops.convert_to_tensor(side.reshape(-1, 1, 1, 1)) for side in (images, values))))

    return log_prob


def probability(level, location, scale):
    """Of a gray level, by differences of SciPy's logistic distribution, those of the tail that keeps more digits."""
    around = stats.logistic((location + 1) * 127.5, scale * 127.5)
    low, high = np.where(level == 0, -np.inf, level - 0.5), np.where(level == 255, np.inf, level + 0.5)
    upper = level > (location + 1) * 127.5
    return np.where(upper, around.sf(low) - around.sf(high), around.cdf(high) - around.cdf(low))


# Latents


def test_the_divergence_of_each_dimension_is_the_closed_form():
    found = np.asarray(Divergence(dtype="float64")(MEAN, LOG_SCALE))
    expected = 0.5 * (MEAN**2 + np.exp(2 * LOG_SCALE) - 1) - LOG_SCALE
    assert found.shape == (7, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_the_divergence_of_the_prior_from_itself_is_0_and_flat():
    mean, log_scale = tf.zeros((1, 3)), tf.zeros((1, 3))
    with tf.GradientTape() as tape:
        tape.watch([mean, log_scale])
        divergence = Divergence()(mean, log_scale)
    for values in (divergence, *tape.gradient(divergence, [mean, log_scale])):
        np.testing.assert_array_equal(values, np.zeros((1, 3)))


def test_the_log_ratio_is_scipys_and_its_mean_the_negative_divergence():
    noise = np.array([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])  # E f(e) of every quadratic f without cross terms
    latents = MEAN[:, None] + np.exp(LOG_SCALE)[:, None] * noise
    found = np.asarray(LogRatio(dtype="float64")(MEAN, LOG_SCALE, latents))
    of_posterior = stats.norm.logpdf(latents, MEAN[:, None], np.exp(LOG_SCALE)[:, None])
    np.testing.assert_allclose(found, (stats.norm.logpdf(latents) - of_posterior).sum(axis=2), rtol=1e-12)
    divergence = np.asarray(Divergence(dtype="float64")(MEAN, LOG_SCALE)).sum(axis=1)
    np.testing.assert_allclose(found.mean(axis=1), -divergence, rtol=1e-12)


# Likelihoods


def test_bernoulli_is_scipys_summed_over_pixels():
    images, logits = RANDOM.choice([-1.0, 1.0], SHAPE), RANDOM.normal(0, 3, SHAPE)
    found = LogLikelihood("bernoulli", "learned", dtype="float64")(images, logits)
    expected = stats.bernoulli.logpmf((images > 0).astype(int), 1 / (1 + np.exp(-logits)))
    np.testing.assert_allclose(found, expected.sum(axis=(1, 2, 3)), rtol=1e-10)


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian", "discretized_logistic"])
def test_many_values_of_an_image_are_each_that_images(kind):
    images = RANDOM.choice([-1.0, -0.2, 1.0], SHAPE)
    values = RANDOM.normal(0, 0.5, (SHAPE[0], 4, *SHAPE[1:]))
    layer = LogLikelihood(kind, 0.2, dtype="float64")
    expected = np.stack([layer(images, values[:, number]) for number in range(4)], axis=1)
    np.testing.assert_allclose(layer(images, values), expected, rtol=1e-12)


def test_bernoulli_of_a_gray_pixel_is_the_expectation_over_black_and_white():
    log_prob = of_one_pixel("bernoulli", "learned")
    mixed = 0.25 * log_prob(1.0, 1.7) + 0.75 * log_prob(-1.0, 1.7)
    np.testing.assert_allclose(log_prob(-0.5, 1.7), mixed, rtol=1e-12)


@pytest.mark.parametrize("scale", [0.05, 3])
def test_gaussian_is_scipys_summed_over_pixels(scale):
    images, means = RANDOM.uniform(-1, 1, SHAPE), RANDOM.normal(0, 1, SHAPE)
    found = LogLikelihood("gaussian", scale, dtype="float64")(images, means)
    np.testing.assert_allclose(found, stats.norm.logpdf(images, means, scale).sum(axis=(1, 2, 3)), rtol=1e-12)


@pytest.mark.parametrize("scale", [LEAST_SCALE, 0.01, 0.3, 10.0])
@pytest.mark.parametrize("location", [-1.7, -1.0, -0.3, 0.002, 1.0, 2.5])
def test_the_256_gray_levels_have_scipys_probabilities_which_sum_to_1(location, scale):
    found = of_one_pixel("discretized_logistic", scale)(GRAYS, location)
    assert np.exp(found).sum() == pytest.approx(1.0, abs=1e-12)
    expected = probability(LEVELS, location, scale)
    held = expected > 1e-290
    assert held.any()
    np.testing.assert_allclose(found[held], np.log(expected[held]), rtol=1e-9, atol=1e-9)
    assert (found[~held] < -660).all()  # too small for SciPy, not for a logarithm
    single = of_one_pixel("discretized_logistic", scale, "float32")(GRAYS, location)
    np.testing.assert_allclose(single, found, rtol=1e-5, atol=2e-3)
    assert np.exp(single.astype(np.float64)).sum() == pytest.approx(1.0, abs=1e-3)


def test_pixels_of_a_discretized_logistic_add_up():
    images, locations = RANDOM.choice(GRAYS, SHAPE), RANDOM.normal(0, 0.7, SHAPE)
    found = LogLikelihood("discretized_logistic", 0.2, dtype="float64")(images, locations)
    expected = np.log(probability(np.rint((images + 1) * 127.5), locations, 0.2)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_every_gray_level_is_its_own_however_the_image_was_scaled():
    observed = LIKELIHOODS["discretized_logistic"].observed
    bytes_ = LEVELS.astype(np.uint8)
    for images in (
        bytes_.astype(np.float32) / np.float32(127.5) - np.float32(1),
        bytes_.astype(np.float32) * np.float32(2 / 255) - np.float32(1),
        np.float32(2) * (bytes_ / np.float32(255)) - np.float32(1),
        GRAYS.astype(np.float32),
    ):
        assert images.dtype == np.float32
        np.testing.assert_array_equal(observed(ops.convert_to_tensor(images)), LEVELS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [LEAST_SCALE, 0.3, 10.0])
def test_slopes_of_a_discretized_logistic_are_the_closed_form_however_far_off_it_is(scale, dtype):
    """F(b) - F(a) has the logarithm's slope (F(a) + F(b) - 1) / scale by the location: F is a sigmoid."""
    level, location = (side.ravel() for side in np.meshgrid([0, 1, 128, 254, 255], [-40.0, -1.0, 0.0, 0.9, 40.0]))
    layer = LogLikelihood("discretized_logistic", "learned", dtype=dtype)
    layer.log_scale.assign(np.log(scale))
    images = ops.convert_to_tensor((level / 127.5 - 1).astype(dtype).reshape(-1, 1, 1, 1))
    values = tf.constant(location.reshape(-1, 1, 1, 1), dtype)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(values)
        found = layer(images, values)
    assert np.isfinite(found).all()
    width, middle = scale * 127.5, (location + 1) * 127.5
    below = np.where(level == 0, 0.0, stats.logistic.cdf((level - 0.5 - middle) / width))
    above = np.where(level == 255, 1.0, stats.logistic.cdf((level + 0.5 - middle) / width))
    slopes = np.asarray(tape.gradient(found, values)).ravel()
    exact = {"float32": {"rtol": 2e-3, "atol": 2e-3 / scale}, "float64": {"rtol": 1e-7, "atol": 1e-9 / scale}}
    np.testing.assert_allclose(slopes, (below + above - 1) / scale, **exact[dtype])
    assert np.isfinite(tape.gradient(found, layer.log_scale.value))


@pytest.mark.parametrize("kind", ["gaussian", "discretized_logistic"])
def test_a_learned_scale_is_one_number_that_has_a_slope(kind):
    layer = LogLikelihood(kind, "learned", dtype="float64")
    assert [weight.shape for weight in layer.trainable_weights] == [()]
    assert float(layer.scale) == pytest.approx(FIRST_SCALE)
    images, values = RANDOM.choice(GRAYS, SHAPE), RANDOM.normal(0, 0.7, SHAPE)
    fixed = [LogLikelihood(kind, FIRST_SCALE * np.exp(step), dtype="float64")(images, values) for step in (-1e-5, 1e-5)]
    with tf.GradientTape() as tape:
        total = ops.sum(layer(images, values))
    by_differences = float(ops.sum(fixed[1] - fixed[0])) / 2e-5
    assert abs(by_differences) > 1.0
    assert float(tape.gradient(total, layer.log_scale.value)) == pytest.approx(by_differences, rel=1e-6)


def test_a_learned_scale_stops_at_the_least():
    layer = LogLikelihood("gaussian", "learned")
    layer.log_scale.assign(-20.0)
    assert float(layer.scale) == pytest.approx(LEAST_SCALE, rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "scale"), [("gaussian", 0.5), ("discretized_logistic", 0.5), ("bernoulli", "learned"), ("bernoulli", 0.5)]
)
def test_a_fixed_scale_and_a_likelihood_without_one_have_no_variable(kind, scale):
    assert LogLikelihood(kind, scale).weights == []


def test_the_image_is_the_mean_where_no_tail_is_cut_off():
    values = ops.convert_to_tensor(np.array([-0.6, 0.0, 0.31, 0.7]))
    for kind, to_image in {
        "bernoulli": lambda mean: 2 * mean - 1,
        "gaussian": lambda mean: mean,
        "discretized_logistic": lambda mean: mean / 127.5 - 1,
    }.items():
        likelihood = LIKELIHOODS[kind]
        if kind == "discretized_logistic":  # TFP gives no mean
            chances = np.exp([of_one_pixel(kind, 0.02)(GRAYS, value) for value in np.asarray(values)])
            mean = chances @ LEVELS
        else:
            mean = np.asarray(likelihood.distribution(values, 0.02).mean())
        np.testing.assert_allclose(likelihood.image(values), to_image(mean), atol=1e-5)
    beyond = ops.convert_to_tensor(np.array([-30.0, 30.0]))
    for likelihood in LIKELIHOODS.values():
        np.testing.assert_allclose(likelihood.image(beyond), [-1.0, 1.0])


def test_levels_run_from_0_to_255():
    np.testing.assert_allclose(to_gray_levels(np.array([-1.0, 0.0, 1.0, -1.0 + GRAY_LEVEL])), [0.0, 127.5, 255.0, 1.0])


@pytest.mark.parametrize("scale", [0, -0.1, float("nan"), "wide", None])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(ValueError, match=r'scale=.*: choose a number > 0, or "learned"\.'):
        LogLikelihood("gaussian", scale)


def test_an_unknown_likelihood_is_refused_with_those_there_are():
    message = r"likelihood='poisson': choose from \['bernoulli', 'discretized_logistic', 'gaussian'\]"
    with pytest.raises(ValueError, match=message):
        LogLikelihood("poisson", 0.1)
