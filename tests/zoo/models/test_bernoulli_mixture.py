"""Bernoulli mixture: every image of four pixels enumerated, EM by hand in NumPy, samples as likely as log p(x) says."""

import itertools

import numpy as np
import pytest
from keras.optimizers import SGD

from zoo.layers.mixtures import STARTED
from zoo.models.bernoulli_mixture import BernoulliMixture

SHAPE, COMPONENTS, SMOOTHING = (2, 2, 1), 3, 0.05
BITS = np.array(list(itertools.product([0.0, 1.0], repeat=4)))
EVERY = (2.0 * BITS - 1.0).astype(np.float32).reshape(-1, *SHAPE)
IMAGES = EVERY[np.random.default_rng(0).choice(16, 60, p=np.random.default_rng(1).dirichlet(np.full(16, 0.4)))]


def make(rate=1.0, seed=0, started=True):
    """A compiled model of random numbers, and past its start unless it is to begin."""
    random = np.random.default_rng(seed)
    model = BernoulliMixture(SHAPE, COMPONENTS, SMOOTHING)
    model.compile(mixture=SGD(rate))
    count = random.uniform(0.5, 1.5, COMPONENTS)
    model.mixture.count.assign(count)
    model.mixture.white.assign(random.uniform(0.2, 0.8, (COMPONENTS, 4)) * count[:, None])
    model.step.assign(int(started))
    return model


def read(model):
    """w and p."""
    return [np.array(part, np.float64) for part in model.mixture.probabilities()]


def log_joint(shares, white, bits):
    return np.log(shares) + bits @ np.log(white).T + (1.0 - bits) @ np.log1p(-white).T


def bits_of(images):
    return (images.reshape(len(images), -1) + 1.0) / 2.0


def expect(shares, white, bits):
    """K E[r] and K E[r x]."""
    joint = log_joint(shares, white, bits)
    chosen = np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))
    return COMPONENTS * chosen.mean(axis=0), COMPONENTS * chosen.T @ bits / len(bits)


def penalized(shares, white, bits):
    """The mean of log p(x), and of the prior that the pseudo-counts are: what EM never lowers."""
    prior = 2 * SMOOTHING * np.log(shares).sum() + SMOOTHING * (np.log(white) + np.log1p(-white)).sum()
    return np.logaddexp.reduce(log_joint(shares, white, bits), axis=1).mean() + prior / COMPONENTS


def test_the_probabilities_of_all_images_sum_to_one():
    assert np.exp(make().log_prob(EVERY).values).sum() == pytest.approx(1.0, abs=1e-5)


def test_log_prob_is_that_of_the_formula():
    model = make()
    found = model.log_prob(EVERY)
    assert found.name == "exact"
    np.testing.assert_allclose(found.values, np.logaddexp.reduce(log_joint(*read(model), BITS), axis=1), atol=1e-5)


@pytest.mark.parametrize("steps", [1, 5])
def test_descent_at_a_rate_of_one_is_em(fit, steps):
    model = make()
    shares, white = read(model)
    for _ in range(steps):
        count, whites = expect(shares, white, bits_of(IMAGES))
        total = count + 2 * SMOOTHING
        shares, white = total / total.sum(), (whites + SMOOTHING) / total[:, None]
    fit(model, IMAGES, steps)
    np.testing.assert_allclose(read(model)[0], shares, rtol=1e-4)
    np.testing.assert_allclose(read(model)[1], white, rtol=1e-4)


def test_a_lower_rate_averages_the_statistics(fit):
    model = make(rate=0.3)
    before = [model.mixture.count.numpy(), model.mixture.white.numpy()]
    expected = expect(*read(model), bits_of(IMAGES[:20]))
    fit(model, IMAGES[:20])
    after = [model.mixture.count.numpy(), model.mixture.white.numpy()]
    for new, old, target in zip(after, before, expected, strict=True):
        np.testing.assert_allclose(new, 0.7 * old + 0.3 * target, rtol=1e-5)


def test_em_never_lowers_the_penalized_likelihood(fit):
    model, found = make(seed=4), []
    for _ in range(15):
        found.append(penalized(*read(model), bits_of(IMAGES)))
        fit(model, IMAGES)
    assert np.diff(found).min() > -1e-6
    assert found[-1] - found[0] > 0.1


def test_components_start_at_images(fit):
    model = make(started=False)
    drawn = model.mixture.white.numpy()
    fit(model, IMAGES)
    starts = (model.mixture.white.numpy() - (1.0 - STARTED) * drawn) / STARTED
    np.testing.assert_allclose(starts, np.round(starts), atol=1e-5)
    assert {tuple(each) for each in np.round(starts)} <= {tuple(each) for each in bits_of(IMAGES)}


def test_the_probability_that_is_recorded_is_that_before_the_step(fit):
    model = make()
    before = model.log_prob(IMAGES).values.mean()
    assert fit(model, IMAGES)["log_prob"][0] == pytest.approx(before, abs=1e-5)


def test_samples_are_as_frequent_as_they_are_probable():
    model, count = make(), 20_000
    samples = model.sample(count, seed=1, output_type="float32", batch_size=5_000)
    assert set(np.unique(samples)) == {-1.0, 1.0}
    numbers = bits_of(samples) @ [8, 4, 2, 1]
    found = np.bincount(numbers.astype(int), minlength=16) / count
    expected = np.exp(model.log_prob(EVERY).values)
    assert np.abs((found - expected) / np.sqrt(expected * (1 - expected) / count)).max() < 4.0


def test_codes_are_responsibilities_and_reconstructions_their_means():
    model = make()
    joint = log_joint(*read(model), BITS)
    chosen = np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))
    np.testing.assert_allclose(model.encode(EVERY), chosen, atol=1e-5)
    mean = 2.0 * chosen @ read(model)[1] - 1.0
    np.testing.assert_allclose(model.reconstruct(EVERY).reshape(16, 4), mean, atol=1e-5)


def test_pixels_above_the_middle_gray_are_white():
    model = make()
    gray = np.where(EVERY > 0, 0.02, -0.02).astype(np.float32)
    np.testing.assert_array_equal(model.log_prob(gray).values, model.log_prob(EVERY).values)


def test_parameters_stay_probabilities_whatever_the_weights_are():
    model = make()
    model.mixture.count.assign([-1.0, 0.0, 2.0])
    model.mixture.white.assign(np.full((3, 4), 3.0))
    shares, white = read(model)
    assert shares.sum() == pytest.approx(1.0)
    assert (shares > 0).all()
    assert (white > 0).all()
    assert (white < 1).all()


def test_two_replicas_end_where_one_does(fit, strategy_of, difference):
    found = []
    for replicas in (1, 2):
        with strategy_of(replicas).scope():
            model = make(started=False)
        fit(model, IMAGES[:11], 4)
        found.append([model.mixture.count.numpy(), model.mixture.white.numpy()])
    assert difference(*found) < 1e-5


@pytest.mark.parametrize("arguments", [{"components": 0}, {"smoothing": 0.0}, {"smoothing": -1.0}])
def test_what_can_not_be_meant_is_refused(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name}=.*choose"):
        BernoulliMixture(SHAPE, **arguments)
