"""What an encoder does with its latents, over many images: which it uses, and how their aggregate meets the prior.

q(z|x) = N(mean, scale^2), each dimension by itself, p(z) = N(0, I), q(z) = the mean of q(z|x) over the images. By
ELBO surgery (Hoffman and Johnson 2016), the mean of KL(q(z|x) || p(z)) is I(x; z) + KL(q(z) || p(z)).
"""

from typing import NamedTuple

import numpy as np

from zoo.metrics.checks import finite_rows

ACTIVE = 0.01  # variance over images of a latent's mean above which it is in use (arXiv:1509.00519, section 5.2)
BLOCK = 256  # samples that are held against all posteriors at once


class LatentStatistics(NamedTuple):
    """Of all images; information in nats.

    Args:
        active_units: dimensions whose mean has a variance over images above 0.01.
        divergence: (count, latent_dim), KL(q(z|x) || p(z)) of each image and dimension.
        mutual_information: I(x; z), at most the log of the number of images.
        aggregate_divergence: KL(q(z) || p(z)).
        error: standard error of the latter two, which are estimates from one sample of z an image.
    """

    active_units: int
    divergence: np.ndarray
    mutual_information: float
    aggregate_divergence: float
    error: float


def latent_statistics(mean: np.ndarray, scale: np.ndarray, *, seed: int = 0) -> LatentStatistics:
    """Of the posteriors of many images.

    q(z) is the mixture of the given posteriors, so the aggregate divergence is of these images: where each has a
    region of z to itself, the mutual information is the log of their number, and the divergence falls by log 2 when
    there are twice as many. Values compare at equal counts only.

    Args:
        mean: (count, latent_dim) float, at least two images.
        scale: likewise, above 0.
        seed: of the samples.

    Raises:
        ValueError: shapes that differ, NaN, a scale that is not above 0, fewer than two images.
    """
    finite_rows(mean, "posterior means", least=2)
    divergence = posterior_divergences(mean, scale)
    mean, scale = mean.astype(np.float64), scale.astype(np.float64)
    information = estimate_information(mean, scale, seed)
    return LatentStatistics(
        active_units=int(np.count_nonzero(mean.var(axis=0) > ACTIVE)),
        divergence=divergence,
        mutual_information=float(information.mean()),
        aggregate_divergence=float(divergence.sum(axis=1).mean() - information.mean()),
        error=float(information.std(ddof=1) / len(information) ** 0.5),
    )


def mean_posterior_divergences(mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """KL(q(z|x) || N(0, 1)) of each dimension, nats, the mean over the images: (latent_dim,) float64.

    Arguments and errors are those of `posterior_divergences`. A dimension that says nothing has 0.
    """
    return posterior_divergences(mean, scale).mean(axis=0)


def posterior_divergences(mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """KL(q(z|x) || N(0, 1)) of each image and dimension, nats: (count, latent_dim) float64.

    (mean^2 + scale^2 - 1) / 2 - log scale  (arXiv:1312.6114, appendix B).

    Args:
        mean: (count, latent_dim) float.
        scale: likewise, above 0.

    Raises:
        ValueError: shapes that differ, NaN, a scale that is not above 0.
    """
    finite_rows(mean, "posterior means")
    finite_rows(scale, "posterior scales")
    if mean.shape != scale.shape or not (scale > 0.0).all():
        raise ValueError(
            f"means {mean.shape} and scales {scale.shape} from {scale.min():g}: give one shape, and scales above 0."
        )
    mean, scale = mean.astype(np.float64), scale.astype(np.float64)
    return 0.5 * (np.square(mean) + np.square(scale) - 1.0) - np.log(scale)


def estimate_information(mean: np.ndarray, scale: np.ndarray, seed: int) -> np.ndarray:
    """log q(z|x) - log q(z) at one z ~ q(z|x) for each image; float64 (count, latent_dim) -> (count,).

    Their mean is an unbiased estimate of I(x; z): every image's posterior gives one of them. The differences have
    less variance than log q(z) - log p(z), and none where each image has a region of z to itself.
    """
    count = len(mean)
    noise = np.random.Generator(np.random.Philox(seed)).standard_normal(mean.shape)
    latents = mean + scale * noise
    precision, log_scale = np.square(scale) ** -1.0, np.log(scale).sum(axis=1)
    constants = 0.5 * (np.square(mean) * precision).sum(axis=1) + log_scale
    found = np.empty(count)
    for start in range(0, count, BLOCK):
        rows = slice(start, start + BLOCK)
        z = latents[rows]
        # log q(z_i | x_j) but for the constant that all share: the square of (z - mean) / scale, multiplied out
        exponents = z @ (mean * precision).T - 0.5 * np.square(z) @ precision.T - constants
        highest = exponents.max(axis=1)
        mixture = highest + np.log(np.exp(exponents - highest[:, None]).mean(axis=1))
        found[rows] = -0.5 * np.square(noise[rows]).sum(axis=1) - log_scale[rows] - mixture
    return found
