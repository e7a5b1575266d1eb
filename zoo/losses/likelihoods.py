"""What a variational autoencoder needs of probability, by TensorFlow Probability: posterior, prior, likelihoods.

Latents are normal, each dimension by itself: q(z|x) = N(mean, scale^2), p(z) = N(0, 1). A likelihood p(x|z) takes the
decoder's values, one per pixel and channel, which are independent given z.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import keras
import tensorflow_probability as tfp
from keras import ops

from serving.card import Support
from zoo.core.arguments import choose
from zoo.core.types import Tensor
from zoo.losses.reconstruction import brightness

tfd = tfp.distributions
FIRST_SCALE = 0.3  # where a learned scale begins, of images in [-1, 1]
LEAST_LOG_SCALE = -7.0  # of a learned one, as in PixelCNN++'s code (arXiv:1701.05517): a density has no upper bound
GRAY_LEVEL = 2 / 255  # from one to the next, of images in [-1, 1]


def posterior(mean: Tensor, log_scale: Tensor) -> Any:
    """q(z|x), each dimension by itself."""
    return tfd.Normal(mean, ops.exp(log_scale))


def prior(like: Tensor) -> Any:
    """p(z), each dimension by itself, in the type of `like`."""
    return tfd.Normal(ops.zeros((), like.dtype), ops.ones((), like.dtype))


class Divergence(keras.layers.Layer):
    """KL(q(z|x) || p(z)) of each dimension, nats: mean and log_scale, (batch, latent_dim) -> (batch, latent_dim)."""

    def call(self, mean: Tensor, log_scale: Tensor) -> Tensor:
        """By TFP's closed form."""
        return tfd.kl_divergence(posterior(mean, log_scale), prior(mean))


class LogRatio(keras.layers.Layer):
    """log p(z) - log q(z|x): mean, log_scale (batch, latent_dim), latents (batch, K, latent_dim) -> (batch, K)."""

    def call(self, mean: Tensor, log_scale: Tensor, latents: Tensor) -> Tensor:
        """Sums over the dimensions, nats."""
        drawn = posterior(mean[:, None], log_scale[:, None])
        return ops.sum(prior(latents).log_prob(latents) - drawn.log_prob(latents), axis=-1)


class Likelihood(NamedTuple):
    """One p(x|z).

    Args:
        distribution: (values, scale) -> of each pixel; values (batch, ...) are the decoder's.
        observed: images in [-1, 1] -> what the distribution is of.
        support: what it is a probability of, as a card says it (`serving.card.Output.support`).
        image: values -> its middle as images in [-1, 1]: the mean, where neither end cuts a tail off.
        value: brightness in (0, 1) -> the value whose middle it is.
        scaled: whether it has a scale.
    """

    distribution: Callable[[Tensor, Tensor], Any]
    observed: Callable[[Tensor], Tensor]
    support: Support
    image: Callable[[Tensor], Tensor]
    value: Callable[[float], float] = lambda bright: 2.0 * bright - 1.0
    scaled: bool = True


def bernoulli(values: Tensor, scale: Tensor) -> Any:
    """Black or white, the value its logit."""
    return tfd.Bernoulli(logits=values)


def gaussian(values: Tensor, scale: Tensor) -> Any:
    """Of real numbers, the value its mean, the scale in units of images in [-1, 1]."""
    return tfd.Normal(values, scale)


def discretized_logistic(values: Tensor, scale: Tensor) -> Any:
    """Of 256 gray levels, the value where it is centered: level k has the logistic's mass from k - 1/2 to k + 1/2.

    0 and 255 have the tails  (PixelCNN++, arXiv:1701.05517, eq. 2, for one component; arXiv:1606.04934, appendix C.5,
    has the mass from k to k + 1, and no tails).
    """
    # TFP rounds up: its level k has the mass from k - 1 to k.
    return tfd.QuantizedDistribution(
        tfd.Logistic(to_gray_levels(values) - 0.5, scale / GRAY_LEVEL), low=0.0, high=255.0
    )


def to_gray_levels(images: Tensor) -> Tensor:
    """[-1, 1] -> [0, 255]."""
    return (images + 1.0) / GRAY_LEVEL


def clip_to_range(values: Tensor) -> Tensor:
    """To [-1, 1]."""
    return ops.clip(values, -1.0, 1.0)


def logit(bright: float) -> float:
    """log(b / (1 - b))."""
    return math.log(bright / (1.0 - bright))


def image_of_logits(values: Tensor) -> Tensor:
    """2 sigmoid - 1."""
    return ops.tanh(0.5 * values)


LIKELIHOODS = {
    "bernoulli": Likelihood(bernoulli, brightness, "binary", image_of_logits, logit, scaled=False),
    "gaussian": Likelihood(gaussian, lambda images: images, "real", clip_to_range),
    "discretized_logistic": Likelihood(
        discretized_logistic, lambda images: ops.round(to_gray_levels(images)), "levels", clip_to_range
    ),
}


class LogLikelihood(keras.layers.Layer):
    """log p(x|z), nats, in all: image and values, both (batch, height, width, channels) -> (batch,).

    With K values of each image, (batch, K, height, width, channels): (batch, K).

    Args:
        kind: one of `LIKELIHOODS`.
        scale: one for all pixels, in units of images in [-1, 1]: a number > 0, or "learned" (arXiv:2006.13202).
    """

    def __init__(self, kind: str, scale: float | Literal["learned"], **kwargs: Any):
        super().__init__(**kwargs)
        self.likelihood = choose("likelihood", kind, LIKELIHOODS)
        if scale != "learned" and not (isinstance(scale, (int, float)) and scale > 0.0):
            raise ValueError(f'scale={scale!r}: choose a number > 0, or "learned".')
        self.log_scale = None
        if self.likelihood.scaled and scale == "learned":
            first = keras.initializers.Constant(math.log(FIRST_SCALE))
            self.log_scale = self.add_weight(shape=(), initializer=first, name="log_scale")
        self.fixed = 1.0 if scale == "learned" else float(scale)

    @property
    def scale(self) -> Tensor:
        """Of every pixel."""
        return self.fixed if self.log_scale is None else ops.exp(ops.maximum(self.log_scale, LEAST_LOG_SCALE))

    def compute_output_shape(self, image_shape: tuple, values_shape: tuple) -> tuple:
        """One for each image of values; without it Keras would call the layer in the half precision that surrounds it.

        Args:
            image_shape: (batch, height, width, channels).
            values_shape: the same, or with K after the batch.
        """
        return tuple(values_shape[: len(values_shape) - len(image_shape) + 1])

    def call(self, image: Tensor, values: Tensor) -> Tensor:
        """The pixels' sum."""
        distribution, observed = self.likelihood.distribution(values, self.scale), self.likelihood.observed(image)
        pixels = tuple(range(1 - len(image.shape), 0))
        each = distribution.log_prob(observed[:, None] if len(values.shape) > len(image.shape) else observed)
        return ops.sum(each, axis=pixels)
