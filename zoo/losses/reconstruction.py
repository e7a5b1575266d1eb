"""What codes and reconstructions cost: pure functions, one value per row."""

from keras import ops

from zoo.core.replicas import global_mean
from zoo.core.types import Tensor
from zoo.losses.rows import per_row, sum_per_row

LEAST_ERROR = 4e-10  # of images that are alike: 100 dB
EPSILON = 1e-6  # a mean activation is kept this far from 0 and 1, where a divergence has no value


def commitment_loss(inputs: Tensor, quantized: Tensor) -> Tensor:
    """||z_e - sg[e]||^2 over its number of values, without beta  (VQ-VAE, arXiv:1711.00937, eq. 3, third term).

    Paper: the squared norm of a code vector. The mean over its values here, as in the authors' code, for which
    beta = 0.25 was chosen.

    Args:
        inputs: z_e, what the encoder gave, (batch, ..., dimension).
        quantized: e, the nearest codes, likewise; the straight-through output of `Quantizer` serves too.
    """
    return per_row(ops.square(inputs - ops.stop_gradient(quantized)))


def brightness(images: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]."""
    return 0.5 * (images + 1.0)


def squared_error(images: Tensor, logits: Tensor) -> Tensor:
    """sum over pixels of (x - r)^2, x and r = sigmoid(logits) in [0, 1].

    Args:
        images: what is to be given back, (batch, height, width, channels) in [-1, 1].
        logits: of what came back, likewise, unbounded.
    """
    return sum_per_row(ops.square(brightness(images) - ops.sigmoid(logits)))


def binary_cross_entropy(images: Tensor, logits: Tensor) -> Tensor:
    """-sum over pixels of x log r + (1 - x) log(1 - r), x and r = sigmoid(logits) in [0, 1]; as `squared_error`."""
    return sum_per_row(ops.softplus(logits) - brightness(images) * logits)


def mean_squared_error(images: Tensor, targets: Tensor) -> Tensor:
    """mean over all values of (x - y)^2, both (batch, ...), such as images in [-1, 1] or maps of features."""
    return per_row(ops.square(images - targets))


def peak_signal_to_noise(images: Tensor, targets: Tensor) -> Tensor:
    """PSNR in dB, over all channels: 10 log10(2^2 / mean squared error), both (batch, ...) in [-1, 1]."""
    return 10.0 * ops.log10(4.0 / ops.maximum(mean_squared_error(images, targets), LEAST_ERROR))


def absolute_error(images: Tensor, targets: Tensor) -> Tensor:
    """mean over pixels of |x - y|, both (batch, height, width, channels) in [-1, 1]."""
    return per_row(ops.abs(images - targets))


def l1_sparsity(codes: Tensor) -> Tensor:
    """sum_j |h_j|: (batch, units) -> (batch,)."""
    return sum_per_row(ops.abs(codes))


def kl_sparsity(codes: Tensor, rate: float) -> Tensor:
    """sum_j KL(rho || mean h_j), means over the global batch  (sparse autoencoder, CS294A lecture notes, section 3).

    Args:
        codes: h, (batch, units) in [0, 1], as of a sigmoid.
        rate: rho in (0, 1), the share of its range that a unit is to use on average.

    Returns:
        The same number for every row, (batch,): the mean over rows, and its gradient, is that of the batch.
    """
    (mean,) = global_mean([ops.sum(codes, axis=0)], codes)
    mean = ops.clip(mean, EPSILON, 1.0 - EPSILON)
    divergence = rate * ops.log(rate / mean) + (1.0 - rate) * ops.log((1.0 - rate) / (1.0 - mean))
    return ops.broadcast_to(ops.sum(divergence), (ops.shape(codes)[0],))


RECONSTRUCTION_LOSSES = {"squared_error": squared_error, "binary_cross_entropy": binary_cross_entropy}
