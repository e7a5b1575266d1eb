"""VAE: exact where it is linear, probabilistic PCA; steps by hand with plain tapes; bounds that stay below log p(x).

The linear model has p(x|z) = N(x; b + W z, s^2 I) and q(z|x) = N(z; A x + a, diag exp(2 (B x + c))), so that everything
the code estimates is known: log p(x) = log N(x; b, W W' + s^2 I), the posterior, the ELBO and its gradient.
"""

import itertools
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD, Adam
from scipy import stats

import zoo.models.vae
from serving.card import Data, read_card
from serving.pipeline import Pipeline
from serving.sampling.noise import draw
from serving.session import InputError, Session
from zoo.core.noise import Draws
from zoo.core.precision import computing_in
from zoo.export.export import export
from zoo.export.onnx import write_onnx
from zoo.models.gan import GAN
from zoo.models.vae import VAE
from zoo.networks.functional import named_network
from zoo.presets.table import PRESETS
from zoo.pretrained import load_pretrained

SIZE, LATENTS = 5, 2  # of the linear model: pixels and dimensions of z
# Two values per dimension, as likely as each other: E f(epsilon) of every f of degree 2 is that under N(0, I).
NODES = np.array(list(itertools.product([-1.0, 1.0], repeat=LATENTS)))

CLASSES = ("Dress", "Coat", "Bag")
TINY = {"image_shape": (4, 4, 1), "latent_dim": 3, "hidden": (8,), "activation": "tanh"}
ROWS, RATE, SEED = 6, 0.05, 9
IMAGES = np.random.default_rng(0).choice([-1.0, 1.0], (ROWS, 4, 4, 1)).astype(np.float32)
LABELS = np.array([0, 1, 2, 2, 1, 1], np.int64)


@pytest.fixture
def double():
    """Networks are built and compute in float64."""
    keras.config.set_floatx("float64")
    with computing_in("float64"):
        yield
    keras.config.set_floatx("float32")


# A linear model, and what is known of it


class Linear(NamedTuple):
    """Its numbers: decoder W (SIZE, LATENTS), b, s; encoder A, B (LATENTS, SIZE) and a, c (LATENTS,)."""

    weight: np.ndarray
    bias: np.ndarray
    scale: float
    mean_weight: np.ndarray
    mean_bias: np.ndarray
    log_scale_weight: np.ndarray
    log_scale_bias: np.ndarray

    def model(self, **arguments):
        """As a VAE."""
        arguments = {"likelihood": "gaussian", "scale": self.scale, **arguments}
        model = VAE((1, SIZE, 1), latent_dim=LATENTS, hidden=(), **arguments)
        model.encoder.get_layer("mean").set_weights([self.mean_weight.T, self.mean_bias])
        model.encoder.get_layer("log_scale").set_weights([self.log_scale_weight.T, self.log_scale_bias])
        model.decoder.get_layer("values").set_weights([self.weight.T, self.bias])
        return model

    def encoded(self, x):
        """Mean and standard deviation of q(z|x), (batch, LATENTS)."""
        log_scale = x @ self.log_scale_weight.T + self.log_scale_bias
        return x @ self.mean_weight.T + self.mean_bias, np.exp(log_scale)

    def log_prob(self, x):
        """log p(x), (batch,)."""
        covariance = self.weight @ self.weight.T + self.scale**2 * np.eye(SIZE)
        return stats.multivariate_normal.logpdf(x, self.bias, covariance)

    def posterior(self, x):
        """Means (batch, LATENTS) and covariance of p(z|x)."""
        precision = self.weight.T @ self.weight / self.scale**2 + np.eye(LATENTS)
        covariance = np.linalg.inv(precision)
        return (x - self.bias) @ self.weight @ covariance / self.scale**2, covariance

    def elbo(self, x):
        """E_q log p(x|z) - KL(q || p), (batch,)."""
        mean, deviation = self.encoded(x)
        error = np.sum((x - self.bias - mean @ self.weight.T) ** 2, axis=1)
        spread = deviation**2 @ np.sum(self.weight**2, axis=0)
        likelihood = -SIZE / 2 * np.log(2 * np.pi * self.scale**2) - (error + spread) / (2 * self.scale**2)
        return likelihood - np.sum(0.5 * (mean**2 + deviation**2 - 1) - np.log(deviation), axis=1)

    def elbo_slopes(self, x):
        """Of the mean ELBO, by name of a layer: (kernel, bias)."""
        mean, deviation = self.encoded(x)
        residual = x - self.bias - mean @ self.weight.T
        by_mean = residual @ self.weight / self.scale**2 - mean
        by_log_scale = 1 - deviation**2 * (1 + np.sum(self.weight**2, axis=0) / self.scale**2)
        by_weight = (residual.T @ mean - self.weight * np.sum(deviation**2, axis=0)) / self.scale**2
        slopes = {
            "mean": (x.T @ by_mean, by_mean.sum(axis=0)),
            "log_scale": (x.T @ by_log_scale, by_log_scale.sum(axis=0)),
            "values": (by_weight.T, residual.sum(axis=0) / self.scale**2),
        }
        return {name: [part / len(x) for part in parts] for name, parts in slopes.items()}


def some_linear(seed=0):
    """Any decoder with any encoder, a wrong one."""
    random = np.random.default_rng(seed)
    return Linear(
        random.normal(0, 0.6, (SIZE, LATENTS)),
        random.normal(0, 0.3, SIZE),
        0.7,
        random.normal(0, 0.3, (LATENTS, SIZE)),
        random.normal(0, 0.3, LATENTS),
        random.normal(0, 0.1, (LATENTS, SIZE)),
        random.normal(-0.5, 0.2, LATENTS),
    )


def with_exact_posterior(seed=1):
    """W's columns are orthogonal, so the posterior is one of the encoder's: each dimension by itself."""
    random = np.random.default_rng(seed)
    weight = np.linalg.qr(random.normal(size=(SIZE, LATENTS)))[0] * np.array([1.5, 0.4])
    linear = some_linear(seed)._replace(weight=weight, log_scale_weight=np.zeros((LATENTS, SIZE)))
    (origin,), covariance = linear.posterior(np.zeros((1, SIZE)))
    assert abs(covariance[0, 1]) < 1e-15
    return linear._replace(
        mean_weight=covariance @ weight.T / linear.scale**2,
        mean_bias=origin,
        log_scale_bias=0.5 * np.log(np.diag(covariance)),
    )


def vectors(count, seed=2):
    return np.random.default_rng(seed).normal(0, 1.2, (count, SIZE))


def as_images(x):
    return tf.constant(x.reshape(-1, 1, SIZE, 1))


def every_node(count):
    return tf.constant(np.broadcast_to(NODES, (count, *NODES.shape)))


def test_the_reparameterized_gradient_is_the_analytic_one(double):
    """Exact, since the nodes integrate the ELBO, of degree 2 in epsilon, exactly."""
    linear, x = some_linear(), vectors(9)
    model = linear.model()
    with tf.GradientTape() as tape:
        rows, _ = model.negative_bound(as_images(x), every_node(9), None)
        loss = tf.reduce_mean(rows)
    np.testing.assert_allclose(rows, -linear.elbo(x), rtol=1e-12)
    layers = {**{name: model.encoder.get_layer(name) for name in ("mean", "log_scale")}}
    layers["values"] = model.decoder.get_layer("values")
    slopes = tape.gradient(loss, {name: [weight.value for weight in layer.weights] for name, layer in layers.items()})
    for name, parts in linear.elbo_slopes(x).items():
        assert min(np.abs(part).max() for part in parts) > 0.05
        for found, expected in zip(slopes[name], parts, strict=True):
            np.testing.assert_allclose(found, -expected, rtol=1e-10, atol=1e-12)


def test_the_gradient_with_a_train_steps_noise_is_the_analytic_one_within_its_standard_error(double):
    linear, (x,) = some_linear(), vectors(1)
    model, groups, rows = linear.model(), 40, 500
    kernels = [model.encoder.get_layer(name).kernel for name in ("mean", "log_scale")]
    noise = Draws(3, tf.constant(0, tf.int64), tf.range(groups * rows, dtype=tf.int64)).normal(1, LATENTS)
    found = []
    for part in tf.split(noise, groups):
        with tf.GradientTape() as tape:
            loss, _ = model.negative_bound(as_images(np.tile(x, (rows, 1))), part, None)
            loss = tf.reduce_mean(loss)
        slopes = tape.gradient(loss, [kernel.value for kernel in kernels])
        found.append([slope.numpy() for slope in slopes])
    error = np.std(found, axis=0, ddof=1) / np.sqrt(groups)
    exact = linear.elbo_slopes(x[None])
    expected = [-exact[name][0] for name in ("mean", "log_scale")]
    assert error.max() < 0.05 * np.abs(expected).max()
    assert (np.abs(np.mean(found, axis=0) - expected) < 4 * error).all()


def test_with_the_exact_posterior_both_bounds_are_log_p_of_every_image(double):
    """Every weight p(x|z) p(z) / q(z|x) is then p(x), whatever z is."""
    linear, x = with_exact_posterior(), 2 * vectors(9)
    expected = linear.log_prob(x)
    assert np.ptp(expected) > 5.0
    found = linear.model().bounds(as_images(x), every_node(9))
    np.testing.assert_allclose(found.elbo, expected, rtol=1e-12)
    np.testing.assert_allclose(found.importance_weighted, expected, rtol=1e-12)
    anywhere = tf.constant(np.random.default_rng(0).normal(0, 3, (9, 1, LATENTS)))
    np.testing.assert_allclose(linear.model().bounds(as_images(x), anywhere).importance_weighted, expected, rtol=1e-11)


def test_the_elbo_is_below_log_p_by_the_divergence_from_the_true_posterior(double):
    linear, x = some_linear(), vectors(9)
    (mean, deviation), (true_mean, covariance) = linear.encoded(x), linear.posterior(x)
    assert abs(covariance[0, 1]) > 0.01  # the encoder can't have it
    precision, away = np.linalg.inv(covariance), true_mean - mean
    gap = 0.5 * (
        deviation**2 @ np.diag(precision)
        + np.einsum("ni,ij,nj->n", away, precision, away)
        - LATENTS
        + np.linalg.slogdet(covariance)[1]
        - 2 * np.log(deviation).sum(axis=1)
    )
    assert gap.min() > 0.01
    elbo = linear.model().bounds(as_images(x), every_node(9)).elbo
    np.testing.assert_allclose(elbo + gap, linear.log_prob(x), rtol=1e-12)


def test_training_reaches_the_maximum_likelihood_of_probabilistic_pca():
    """Tipping & Bishop 1999, eqs. 7 and 8: W from the first eigenvectors, s^2 the mean of the other eigenvalues."""
    random = np.random.default_rng(4)
    spread = np.linalg.qr(random.normal(size=(SIZE, SIZE)))[0] * np.array([2.0, 1.0, 0.6, 0.5, 0.4])
    x = random.normal(size=(200, SIZE)) @ spread.T + random.normal(size=SIZE)
    values, vectors_ = np.linalg.eigh(np.cov(x.T, bias=True))
    noise = values[: SIZE - LATENTS].mean()
    weight = vectors_[:, SIZE - LATENTS :] * np.sqrt(values[SIZE - LATENTS :] - noise)
    best = some_linear()._replace(weight=weight, bias=x.mean(axis=0), scale=np.sqrt(noise)).log_prob(x).mean()
    keras.utils.set_random_seed(5)
    model = VAE((1, SIZE, 1), latent_dim=LATENTS, hidden=(), likelihood="gaussian")
    rate = keras.optimizers.schedules.CosineDecay(0.1, 1500)
    model.compile(seed=5, steps_per_execution=50, autoencoder=Adam(rate, beta_2=0.95))
    images = tf.cast(as_images(x), tf.float32)
    nodes = tf.cast(every_node(200), tf.float32)
    start = float(np.mean(model.bounds(images, nodes).elbo))
    data = tf.data.Dataset.from_tensors({"image": images, "row": np.arange(200)}).repeat()
    model.fit(data, steps_per_epoch=1500, shuffle=False, verbose=0)
    elbo = float(np.mean(model.bounds(images, nodes).elbo))
    kernel, bias = (part.astype(np.float64) for part in model.decoder.get_layer("values").get_weights())
    scale = float(model.log_likelihood.scale)
    log_prob = some_linear()._replace(weight=kernel.T, bias=bias, scale=scale).log_prob(x).mean()
    assert start < best - 100.0
    assert best - 0.005 < elbo < log_prob + 1e-5 < best + 2e-5  # nats an image
    assert scale == pytest.approx(np.sqrt(noise), rel=0.005)


# Importance weights


def test_one_weight_is_that_of_scipys_densities(double):
    linear, x = some_linear(), vectors(9)
    noise = np.random.default_rng(0).normal(size=(9, 1, LATENTS))
    mean, deviation = linear.encoded(x)
    latents = mean + deviation * noise[:, 0]
    expected = (
        stats.norm.logpdf(x, linear.bias + latents @ linear.weight.T, linear.scale).sum(axis=1)
        + stats.norm.logpdf(latents).sum(axis=1)
        - stats.norm.logpdf(latents, mean, deviation).sum(axis=1)
    )
    found = linear.model().bounds(as_images(x), tf.constant(noise))
    np.testing.assert_allclose(found.importance_weighted, expected, rtol=1e-12)


def test_the_importance_weighted_bound_rises_with_k_and_stays_below_log_p(double):
    """IWAE (arXiv:1509.00519), theorem 1: L_1 <= L_5 <= L_50 <= log p(x), on average over 400 repeats."""
    linear, x, repeats = some_linear(), vectors(4), 400
    model, random = linear.model(), np.random.default_rng(7)
    exact = linear.log_prob(x)
    means, errors = {}, {}
    for samples in (1, 5, 50):
        noise = tf.constant(random.normal(size=(4 * repeats, samples, LATENTS)))
        bounds = model.bounds(as_images(np.repeat(x, repeats, axis=0)), noise)
        found = np.reshape(bounds.importance_weighted, (4, repeats))
        means[samples], errors[samples] = found.mean(axis=1), found.std(axis=1, ddof=1) / np.sqrt(repeats)
        assert (means[samples] < exact + 3 * errors[samples]).all()
    assert (np.abs(means[1] - linear.elbo(x)) < 3 * errors[1]).all()  # L_1 is the ELBO
    for fewer, more in ((1, 5), (5, 50)):
        assert (means[more] - means[fewer] > 3 * np.hypot(errors[fewer], errors[more])).all()
    gaps = {samples: exact - mean for samples, mean in means.items()}
    assert gaps[1].min() > 0.1
    assert (gaps[50] < 0.3 * gaps[1]).all()


def test_the_bound_of_many_samples_is_the_log_of_their_mean_weight(double):
    linear, x = some_linear(), vectors(3)
    noise = np.random.default_rng(0).normal(size=(3, 7, LATENTS))
    model = linear.model()
    singles = [model.bounds(as_images(x), tf.constant(noise[:, k : k + 1])).importance_weighted for k in range(7)]
    expected = np.log(np.mean(np.exp(singles), axis=0))
    np.testing.assert_allclose(model.bounds(as_images(x), tf.constant(noise)).importance_weighted, expected, rtol=1e-12)


def test_weights_too_small_for_a_number_still_have_a_mean():
    linear, x = some_linear()._replace(scale=0.01), vectors(3)
    noise = tf.random.stateless_normal((3, 5, LATENTS), [0, 0])
    found = linear.model().bounds(tf.cast(as_images(x), tf.float32), noise).importance_weighted
    assert np.isfinite(found).all()
    assert np.max(found) < -1000.0  # e to that is 0 in float32


# The weight of the divergence


def terms_of(model, images, noise):
    """Loss, log-likelihood and divergence, (batch,) and (batch, latent_dim)."""
    bounds = model.bounds(images, noise, training=True)
    return [
        np.asarray(part)
        for part in (model.negative_bound(images, noise, None)[0], bounds.log_likelihood, bounds.divergence)
    ]


@pytest.mark.parametrize("beta", [0.0, 0.5, 1, 4.0])
def test_beta_weighs_the_divergence(double, beta):
    loss, log_likelihood, divergence = terms_of(some_linear().model(beta=beta), as_images(vectors(9)), every_node(9))
    assert divergence.sum(axis=1).min() > 0.1
    np.testing.assert_allclose(loss, beta * divergence.sum(axis=1) - log_likelihood, rtol=1e-12)


def test_the_weight_grows_to_beta_over_the_warm_up():
    model = built(beta=4.0, warmup_steps=10)
    weights = {}
    for done in (0, 4, 9, 10, 1000):
        model.step.assign(done)
        weights[done] = float(model.divergence_weight())
    assert weights == pytest.approx({0: 0.4, 4: 2.0, 9: 4.0, 10: 4.0, 1000: 4.0})
    assert float(built(beta=4.0).divergence_weight()) == 4.0  # at once where there is no warm-up


def test_the_loss_of_a_warm_up_weighs_the_divergence_by_the_step(fit):
    model = built(beta=2.0, warmup_steps=4, scale="learned", likelihood="gaussian")
    model.compile(seed=SEED, autoencoder=SGD(0.0))
    for weight in (0.5, 1.0, 1.5, 2.0, 2.0):
        found = {name: value for name, (value,) in fit(model, IMAGES).items()}
        assert found["divergence"] > 0.01
        assert found["loss"] == pytest.approx(weight * found["divergence"] - found["log_likelihood"], rel=1e-5)
        assert found["elbo"] == pytest.approx(found["log_likelihood"] - found["divergence"], rel=1e-5)


# Free bits


def half_awake(**arguments):
    """Dimension 0 tells little of the first pixel on average, yet much of some rows; dimension 1 more of the second."""
    weight = np.zeros((LATENTS, SIZE))
    weight[0, 0], weight[1, 1] = 0.7, 1.5
    flat = {"mean_bias": np.zeros(2), "log_scale_weight": np.zeros((2, SIZE)), "log_scale_bias": np.full(2, -0.1)}
    return some_linear()._replace(mean_weight=weight, **flat).model(**arguments)


FREE = 0.5


def test_a_dimension_within_its_free_bits_costs_them_and_no_more(double):
    images = as_images(vectors(30))
    loss, log_likelihood, divergence = terms_of(half_awake(free_bits=FREE), images, every_node(30))
    first, second = divergence.mean(axis=0)
    assert first < FREE < second
    for dimension in range(LATENTS):  # the rows of each are on both sides: what counts is their mean
        assert divergence[:, dimension].min() < FREE < divergence[:, dimension].max()
    np.testing.assert_allclose(loss, FREE + divergence[:, 1] - log_likelihood, rtol=1e-12)
    weighed, *_ = terms_of(half_awake(free_bits=FREE, beta=3.0), images, every_node(30))
    np.testing.assert_allclose(weighed, 3 * (FREE + divergence[:, 1]) - log_likelihood, rtol=1e-12)


def test_a_dimension_within_its_free_bits_has_no_slope_of_the_divergence(double):
    images, slopes = as_images(vectors(9)), {}
    for name, arguments in {"free": {"free_bits": FREE}, "free_bits_kl": {}, "unweighed": {"beta": 0.0}}.items():
        model = half_awake(**arguments)
        variables = [model.encoder.get_layer(head).kernel.value for head in ("mean", "log_scale")]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model.negative_bound(images, every_node(9), None)[0])
        slopes[name] = np.asarray(tape.gradient(loss, variables))  # (heads, SIZE, LATENTS)
    assert np.abs(slopes["free_bits_kl"] - slopes["unweighed"]).max(axis=1).min() > 0.01
    np.testing.assert_allclose(slopes["free"][..., 0], slopes["unweighed"][..., 0], rtol=1e-12)
    np.testing.assert_allclose(slopes["free"][..., 1], slopes["free_bits_kl"][..., 1], rtol=1e-12)


def test_two_replicas_charge_by_the_mean_of_the_global_batch(fit, strategy_of, difference, monkeypatch):
    """Dimension 0 is above its free bits in one replica's rows and in all, within them in the other's."""
    far, near = np.full((3, SIZE), 2.0), np.full((3, SIZE), 0.1)
    images = np.concatenate([far, near]).reshape(-1, 1, SIZE, 1).astype(np.float32)

    def after_a_step(replicas):
        with strategy_of(replicas).scope():
            model = half_awake(free_bits=0.4)
            model.compile(seed=SEED, autoencoder=SGD(0.1))
        history = fit(model, images)
        return model.get_weights(), history["loss"]

    divergence = half_awake().bounds(images, np.zeros((6, 1, LATENTS), np.float32)).divergence[:, 0]
    assert np.mean(divergence[3:]) < 0.4 < np.mean(divergence) < np.mean(divergence[:3])
    (one, one_loss), (two, two_loss) = after_a_step(1), after_a_step(2)
    assert difference(two, one) < 1e-5
    assert two_loss == pytest.approx(one_loss, rel=1e-5)

    def mean_of_the_replica(sums, rows):
        return [total / tf.cast(tf.shape(rows)[0], total.dtype) for total in sums]

    monkeypatch.setattr(zoo.models.vae, "global_mean", mean_of_the_replica)
    assert difference(after_a_step(2)[0], one) > 1e-3


# One step by hand


def built(**arguments):
    keras.utils.set_random_seed(1)
    return VAE(**{**TINY, "bound_samples": 2, **arguments})


def shaken(model, seed=2):
    """Every weight random, so that classes and dimensions differ."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(random.normal(0, 0.4, variable.shape))
    return model


def first_draws(seed=SEED):
    return Draws(seed, tf.constant(0, tf.int64), tf.range(ROWS, dtype=tf.int64))


def trainable(model):
    return [
        variable.numpy() for networks in model.players.values() for n in networks for variable in n.trainable_variables
    ]


def log_likelihood_by_hand(model, kind, values):
    """log p(x|z) by plain TensorFlow, (batch,)."""
    if kind == "bernoulli":
        cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(IMAGES > 0, values.dtype), values)
        return -tf.reduce_sum(cross_entropy, axis=(1, 2, 3))
    deviation = tf.exp(model.log_likelihood.log_scale.value)
    density = -0.5 * ((IMAGES - values) / deviation) ** 2 - tf.math.log(deviation) - 0.5 * np.log(2 * np.pi)
    return tf.reduce_sum(density, axis=(1, 2, 3))


def with_label(first, labels):
    return first if labels is None else [first, tf.constant(labels)]


def step_by_hand(
    model, kind="bernoulli", samples=1, beta=1.0, encoder_labels=None, decoder_labels=None, seed=SEED, bound="elbo"
):
    """Down -E[log p(x|z)] + beta KL, or -log 1/K sum_k w_k, by plain gradient descent; returns what it recorded."""
    noise = tf.cast(first_draws(seed).normal(samples, 3), tf.float64)
    images = tf.constant(IMAGES, tf.float64)
    variables = [v for networks in model.players.values() for network in networks for v in network.trainable_variables]
    with tf.GradientTape() as tape:
        mean, log_scale = model.encoder(with_label(images, encoder_labels), training=True)
        likelihoods, weights = [], []
        for k in range(samples):
            z = mean + tf.exp(log_scale) * noise[:, k]
            likelihood = log_likelihood_by_hand(
                model, kind, model.decoder(with_label(z, decoder_labels), training=True)
            )
            prior = tf.reduce_sum(-0.5 * z**2, axis=1)
            posterior = tf.reduce_sum(-0.5 * noise[:, k] ** 2 - log_scale, axis=1)  # 2 pi cancels
            likelihoods.append(likelihood)
            weights.append(tf.exp(likelihood + prior - posterior))
        expected = tf.add_n(likelihoods) / samples
        divergence = tf.reduce_sum(0.5 * (mean**2 + tf.exp(2 * log_scale) - 1) - log_scale, axis=1)
        weighted = tf.math.log(tf.add_n(weights) / samples)
        loss = -weighted if bound == "importance_weighted" else beta * divergence - expected
        mean_loss = tf.reduce_mean(loss)
    for gradient, variable in zip(tape.gradient(mean_loss, [v.value for v in variables]), variables, strict=True):
        variable.assign(variable - RATE * gradient)
    recorded = {"loss": loss, "elbo": expected - divergence, "log_likelihood": expected, "divergence": divergence}
    recorded |= {"importance_weighted": weighted} if bound == "importance_weighted" else {}
    return {name: float(tf.reduce_mean(rows)) for name, rows in recorded.items()}


GAUSSIAN = {"likelihood": "gaussian", "scale": "learned"}
OTHERS = (LABELS + 1) % 3
TOLD = {"encoder_labels": LABELS, "decoder_labels": LABELS}
IWAE = {"samples": 3, "bound": "importance_weighted"}
# The model, its step, and steps that end elsewhere.
STEPS = {
    "vae": ({}, {}, [{"seed": SEED + 1}, {"beta": 0.9}, {"bound": "importance_weighted"}]),
    "beta-vae": ({"beta": 2.0}, {"beta": 2.0}, [{}]),
    "gaussian": (GAUSSIAN, {"kind": "gaussian"}, [{"kind": "gaussian", "beta": 0.9}]),
    "iwae": ({"importance_samples": 3}, IWAE, [{}, {"samples": 3}, {"bound": "importance_weighted"}]),
    "conditional": (
        {"classes": CLASSES, "beta": 2.0},
        {**TOLD, "beta": 2.0},
        [{**TOLD, "beta": 2.0, "encoder_labels": OTHERS}, {**TOLD, "beta": 2.0, "decoder_labels": OTHERS}],
    ),
    "conditional iwae": (
        {"classes": CLASSES, "importance_samples": 3},
        {**TOLD, **IWAE},
        [{**TOLD, **IWAE, "encoder_labels": OTHERS}, {**TOLD, **IWAE, "decoder_labels": OTHERS}],
    ),
}


@pytest.mark.parametrize(
    ("case", "replicas"), [*((case, 1) for case in STEPS), ("gaussian", 2), ("conditional iwae", 2)]
)
def test_one_step_equals_the_step_by_hand(fit, difference, strategy_of, double, case, replicas):
    arguments, step, others = STEPS[case]
    with strategy_of(replicas).scope():
        model = shaken(built(**arguments))
        model.compile(seed=SEED, autoencoder=SGD(RATE))
    ends = []
    for options in (step, *others):
        copy = VAE(**model.get_config())
        copy.set_weights(model.get_weights())
        recorded = step_by_hand(copy, **options)
        ends.append((trainable(copy), recorded))
    history = fit(model, IMAGES, label=LABELS)
    (expected, recorded), *elsewhere = ends
    assert {weight.dtype for weight in model.get_weights()} == {np.dtype(np.float64)}
    assert difference(trainable(model), expected) < 1e-10
    assert {name: value for name, (value,) in history.items() if not name.endswith("norm")} == pytest.approx(
        recorded, rel=1e-10
    )
    assert min(difference(trainable(model), weights) for weights, _ in elsewhere) > 1e-3


@pytest.mark.parametrize("kind", ["gaussian", "discretized_logistic"])
def test_a_learned_scale_moves_and_a_fixed_one_is_no_variable(fit, kind):
    model = built(likelihood=kind)
    model.compile(autoencoder=SGD(1e-3))
    assert any(variable is model.log_likelihood.log_scale for variable in model.variables_of("autoencoder"))
    before = float(model.log_likelihood.scale)
    fit(model, IMAGES)
    assert abs(float(model.log_likelihood.scale) - before) > 1e-3
    assert built(likelihood=kind, scale=0.1).likelihood.weights == []
    assert built().likelihood.weights == []  # black and white


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_in_half_precision_a_bound_is_summed_in_float32(fit, policy):
    with computing_in(policy):
        model = built(likelihood="discretized_logistic", scale="learned", classes=CLASSES, warmup_steps=3)
        model.compile(seed=SEED, autoencoder=SGD(1e-3))
    if policy == "mixed_float16":
        model.player_optimizers["autoencoder"].dynamic_scale.assign(2.0**4)
    bounds = model.bounds(IMAGES, first_draws().normal(2, 3), LABELS, training=True)
    assert {part.dtype for part in bounds} == {tf.float32}
    exact = VAE(**model.get_config())
    exact.set_weights(model.get_weights())
    expected = exact.bounds(IMAGES, first_draws().normal(2, 3), LABELS)
    for found, value in zip(bounds[:3], expected[:3], strict=True):
        np.testing.assert_allclose(found, value, rtol=0.02)
    before = trainable(model)
    fit(model, IMAGES, label=LABELS)
    assert all((one != other).any() for one, other in zip(trainable(model), before, strict=True))
    assert model.abilities()["log_prob"].network.output_names == ["elbo", "importance_weighted"]


# Abilities


def test_a_network_whose_outputs_are_one_tensor_names_both():
    inputs = keras.Input((2,), name="x")
    network = named_network([inputs], {"one": inputs, "double": 2 * inputs, "again": inputs})
    assert network.output_names == ["one", "double", "again"]
    np.testing.assert_array_equal(network(np.ones((1, 2)))[1], [[2.0, 2.0]])


@pytest.mark.parametrize("classes", [(), CLASSES])
def test_images_codes_and_back(classes):
    model = shaken(built(classes=classes))
    images = np.tile(IMAGES, (50, 1, 1, 1)) * np.linspace(-1, 1, 300, dtype=np.float32)[:, None, None, None]
    labels = np.tile(LABELS, 50)
    more = {"label": labels} if classes else {}
    mean, log_scale = model.encoder([images, labels] if classes else images)
    codes = model.encode(images, **more)
    np.testing.assert_allclose(codes, mean, atol=1e-6)
    both = model.run_ability("encode", {"image": images, **more})
    np.testing.assert_allclose(both["scale"], np.exp(log_scale), rtol=1e-5)
    logits = model.decoder([codes, labels] if classes else codes)
    image_list = model.decode(codes, **more)
    np.testing.assert_allclose(image_list, 2 / (1 + np.exp(-np.asarray(logits))) - 1, atol=1e-5)  # 2 p - 1
    np.testing.assert_allclose(model.reconstruct(images, **more), image_list, atol=1e-5)
    generated = model.run_ability("generate", {"latent": codes, **more})["image"]
    np.testing.assert_allclose(generated, image_list, atol=1e-5)


def test_encoder_and_decoder_hear_the_class():
    model = shaken(built(classes=CLASSES))
    others = OTHERS.astype(np.int32)
    assert np.abs(model.encode(IMAGES, label=LABELS) - model.encode(IMAGES, label=others)).max(axis=1).min() > 0.01
    codes = model.encode(IMAGES, label=LABELS)
    changes = np.abs(model.decode(codes, label=LABELS) - model.decode(codes, label=others))
    assert changes.max(axis=(1, 2, 3)).min() > 0.01
    found = [model.log_prob(IMAGES, label=labels).values for labels in (LABELS, others)]
    assert np.abs(found[0] - found[1]).min() > 0.01


@pytest.mark.parametrize(
    ("images", "more", "message"),
    [
        (IMAGES, {}, r"inputs \['label'\] are missing: give \['image', 'label'\]"),
        (IMAGES, {"labels": LABELS}, "are missing"),
        (IMAGES, {"label": np.tile(LABELS, 2)}, "batch is 6 in input 'image' but 12 in 'label'"),
        (np.zeros((6, 9, 8, 1)), {"label": LABELS}, "'image': expected float32 of shape .* found .* of shape"),
        (np.zeros(IMAGES.shape, np.uint8), {"label": LABELS}, "expected float32 .* found uint8"),
    ],
)
def test_what_an_ability_is_given_fits_or_is_refused(images, more, message):
    model = built(classes=CLASSES)
    with pytest.raises(ValueError, match=message):
        model.encode(images, **more)
    expected = model.encode(IMAGES, label=LABELS)
    wider = model.encode(IMAGES.astype(np.float64), label=LABELS.astype(np.int64))
    np.testing.assert_array_equal(wider, expected)


@pytest.mark.parametrize("name", ["encode", "decode", "reconstruct", "log_prob"])
def test_a_model_without_an_ability_says_which_it_has(name):
    model = GAN((8, 8, 1), latent_dim=2, width=2)
    with pytest.raises(ValueError, match=f"GAN can't {name}: its abilities are generate"):
        getattr(model, name)(np.zeros((1, 8, 8, 1), np.float32))


def test_log_prob_is_the_bound_of_the_noise_its_seed_gives():
    model = shaken(built(bound_samples=4))
    for bound, name in (("elbo", "ELBO"), ("importance_weighted", "IWAE-4")):
        found = model.log_prob(IMAGES, bound=bound, seed=3)
        (_, noise) = model.abilities()["log_prob"].card().inputs
        drawn = draw(noise, range(ROWS), 3)
        assert (found.name, found.samples, found.values.dtype) == (name, 4, np.float64)
        np.testing.assert_allclose(found.values, getattr(model.bounds(IMAGES, drawn), bound), rtol=1e-5)


def test_an_exported_log_prob_is_the_models(tmp_path):
    model = shaken(built(bound_samples=3, classes=CLASSES))
    data, recipe = Data("three", "train", 60, "", "three"), {"name": "cvae-mnist", "steps": 0, "seed": 0}
    export(model, tmp_path / "export", preset=PRESETS["cvae-mnist"], data=data, recipe=recipe, formats=("onnx",))
    assert set(read_card(tmp_path / "export").abilities) == {"generate", "decode", "encode", "reconstruct", "log_prob"}
    pipeline = Pipeline.from_directory(tmp_path / "export", ability="log_prob")
    loaded = load_pretrained(str(tmp_path / "export"), format="keras")
    for bound in ("elbo", "importance_weighted"):
        options = {"bound": bound, "samples": 12, "seed": 4, "label": LABELS.astype(np.int32)}
        expected = loaded.log_prob(IMAGES, **options)
        found = pipeline.log_prob(IMAGES, batch_size=4, **options)
        assert found[:2] == expected[:2]
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-5)
        np.testing.assert_allclose(expected.values, model.log_prob(IMAGES, **options).values, rtol=0.01)  # float16
    with pytest.raises(InputError, match="samples=7: the graph takes 3 at once"):
        pipeline.log_prob(IMAGES, samples=7, label=LABELS.astype(np.int32))


def test_every_gray_level_has_its_bound_in_an_exported_graph(tmp_path):
    """Black and white, whose mass is a tail's, as well; z is from N(0, 1), and a pixel is centered there."""
    model = VAE((1, 1, 1), latent_dim=1, hidden=(), likelihood="discretized_logistic", bound_samples=20)
    for layer in (*model.encoder.layers, *model.decoder.layers):
        layer.set_weights([np.full(weight.shape, layer.name == "values") for weight in layer.get_weights()])
    model.decoder.get_layer("values").bias.assign([0.0])
    ability = model.abilities()["log_prob"]
    write_onnx(ability, tmp_path / "log_prob.onnx", rounded=False)
    images = (np.arange(256, dtype=np.float32) / 127.5 - 1).reshape(-1, 1, 1, 1)
    feeds = {"image": images, "noise": draw(ability.card().inputs[1], range(256), 0)}
    found = Session(tmp_path / "log_prob.onnx", providers=["CPUExecutionProvider"]).run(feeds)
    for name, values in model.run_ability("log_prob", feeds).items():
        assert np.isfinite(values).all()
        assert np.isfinite(found[name]).all(), name
        np.testing.assert_allclose(found[name], values, rtol=1e-4, err_msg=name)


def test_diagnose_counts_the_dimensions_whose_mean_depends_on_the_image(double):
    model = half_awake()
    kernel, bias = model.encoder.get_layer("mean").get_weights()
    kernel[0, 0] = 0.05  # a variance of 0.05^2 1.44 < 0.01
    model.encoder.get_layer("mean").set_weights([kernel, bias])
    train, held_out = {"image": as_images(vectors(4000))}, {"image": as_images(0.1 * vectors(4000, seed=8))}
    found = {name: float(value) for name, value in model.diagnose(train, held_out).items()}
    assert found == {name: float(value) for name, value in model.diagnose(train, held_out).items()}
    assert found["active_unit_share"] == 0.5  # 1.5^2 0.1^2 1.44 = 0.03
    for name, side in {"train_elbo": train, "held_out_elbo": held_out}.items():
        exact = model.bounds(side["image"], every_node(4000)).elbo
        assert found[name] == pytest.approx(float(np.mean(exact)), abs=0.1)
    assert found["held_out_elbo"] > found["train_elbo"] + 0.5


@pytest.mark.parametrize("architecture", ["dense", "convolutional"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "discretized_logistic"])
def test_the_decoder_begins_at_the_brightness_asked_for(likelihood: str, architecture: str) -> None:
    """Latents of 0 go through layers without a bias of their own yet: what comes out is the last one's."""
    model = VAE(
        (4, 4, 1), latent_dim=2, hidden=(4,), architecture=architecture, likelihood=likelihood, initial_brightness=0.2
    )
    np.testing.assert_allclose(model.decode(np.zeros((1, 2), np.float32)), -0.6, atol=1e-6)  # 2 * 0.2 - 1


# What is refused

BAD_ARGUMENTS = {
    "image_shape": ({"image_shape": (8, 8)}, r"image_shape=\(8, 8\): give \(height, width, channels\)\."),
    "latent_dim": ({"latent_dim": 0}, "latent_dim=0, .*: choose at least 1"),
    "architecture": (
        {"architecture": "transformer"},
        r"architecture='transformer': choose from \['convolutional', 'dense'\]",
    ),
    "hidden": (
        {"architecture": "convolutional", "hidden": (4, 4, 4)},
        r"hidden=\(4, 4, 4\), image_shape=\(4, 4, 1\): .* both sides, which must be multiples of 8",
    ),
    "no convolution": ({"architecture": "convolutional", "hidden": ()}, r"hidden=\(\), .*convolution, one at least"),
    "likelihood": (
        {"likelihood": "poisson"},
        r"likelihood='poisson': choose from \['bernoulli', 'discretized_logistic', 'gaussian'\]",
    ),
    "scale": ({"likelihood": "gaussian", "scale": 0.0}, r'scale=0.0: choose a number > 0, or "learned"'),
    "scale's word": ({"likelihood": "gaussian", "scale": "free"}, r"scale='free': choose a number > 0, or \"learned\""),
    "beta": ({"beta": -1.0}, "beta=-1.0, .*: choose numbers from 0"),
    "warmup_steps": ({"warmup_steps": -1}, "warmup_steps=-1, .*: choose numbers from 0"),
    "free_bits": ({"free_bits": -0.1}, "free_bits=-0.1: choose numbers from 0"),
    "importance_samples": ({"importance_samples": 0}, "importance_samples=0, .*: choose at least 1"),
    "initial_brightness": ({"initial_brightness": 1.0}, "initial_brightness=1.0: choose a number between 0 and 1"),
    "bound_samples": ({"bound_samples": 0}, "bound_samples=0: choose at least 1"),
    "IWAE with beta": (
        {"importance_samples": 5, "beta": 2.0},
        "importance_samples=5: .* leave beta, warmup_steps and free_bits as they are",
    ),
    "IWAE with a warm-up": ({"importance_samples": 5, "warmup_steps": 10}, "leave beta, warmup_steps and free_bits"),
    "IWAE with free bits": ({"importance_samples": 5, "free_bits": 0.1}, "leave beta, warmup_steps and free_bits"),
    "one class": ({"classes": ("Bag",)}, r"classes=\['Bag'\]: name at least two, each once"),
    "a class twice": ({"classes": ("Bag", "Coat", "Bag")}, "name at least two, each once"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_a_bad_argument_is_named_with_the_good_ones(case):
    arguments, message = BAD_ARGUMENTS[case]
    with pytest.raises(ValueError, match=message):
        VAE(**{**TINY, **arguments})
