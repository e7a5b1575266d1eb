"""Penalties on how steep a critic or an encoder is: pure functions, one value per row, (batch,). Minimize them."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from zoo.core.replicas import global_mean
from zoo.core.step import input_gradient, input_jacobian
from zoo.core.types import Tensor
from zoo.losses.rows import per_row, sum_per_row


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """(||grad D(x_hat)||_2 - 1)^2, x_hat = x + mix (G(z) - x), without lambda  (WGAN-GP, arXiv:1704.00028, eq. 3).

    Paper: x_hat = eps x + (1 - eps) G(z). mix = 1 - eps, which is uniform if eps is.

    Args:
        critic: D, (batch, ...) -> scores, (batch, ...), a map of them averaged within the row. A row's scores must
            depend on that row alone: no batch norm.
        real: x, (batch, ...) float.
        fake: G(z), likewise.
        mix: (batch,) in [0, 1): how far from x to G(z) the slope is taken.
    """
    mix = ops.reshape(ops.cast(mix, real.dtype), (-1, *[1] * (len(real.shape) - 1)))
    gradient = input_gradient(lambda images: per_row(critic(images)), real + mix * (fake - real))
    return ops.square(row_norms(gradient) - 1.0)


def row_norms(vectors: Tensor) -> Tensor:
    """Each row's Euclidean norm, (batch, ...) -> (batch,); with gradient 0 at 0, where the root has none."""
    squares = ops.sum(ops.square(ops.reshape(vectors, (ops.shape(vectors)[0], -1))), axis=1)
    positive = squares > 0.0
    return ops.where(positive, ops.sqrt(ops.where(positive, squares, 1.0)), 0.0)


def zero_centered_penalty(discriminator: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """||grad D(x)||_2^2, D the bare logit, without gamma / 2  (arXiv:1801.04406, eq. 9): R1 at images, R2 at G(z).

    Args:
        discriminator: D, (batch, ...) -> logits, (batch, ...), a map of them averaged within the row. A row's logits
            must depend on that row alone: no batch norm.
        images: x or G(z), (batch, ...) float.
    """
    gradient = input_gradient(lambda images: per_row(discriminator(images)), images)
    return ops.sum(ops.square(ops.reshape(gradient, (ops.shape(gradient)[0], -1))), axis=1)


def dragan(discriminator: Callable[[Tensor], Tensor], real: Tensor, noise: Tensor, strength: float = 0.5) -> Tensor:
    """(||grad D(x + delta)|| - 1)^2, delta = strength std(x) noise, without lambda  (DRAGAN, arXiv:1705.07215, eq. 1).

    Paper, last version: delta ~ N(0, c I), c by hand; normal noise gives that, c = (strength std(x))^2. The authors'
    code: noise uniform in [0, 1), strength 1/2, std(x) over all values of the batch, here of the global one. It then
    takes the slope somewhere between x and x + delta, which the paper does not, nor is it done here.

    Args:
        discriminator: D, as `zero_centered_penalty` takes it.
        real: x, (batch, ...) float.
        noise: uniform in [0, 1) or standard normal, the shape of `real`.
        strength: of the noise, in standard deviations of the images.
    """
    (mean,) = global_mean([ops.sum(per_row(real))], real)
    (variance,) = global_mean([ops.sum(per_row(ops.square(real - mean)))], real)
    delta = strength * ops.sqrt(variance) * ops.cast(noise, real.dtype)
    gradient = input_gradient(lambda images: per_row(discriminator(images)), real + delta)
    return ops.square(row_norms(gradient) - 1.0)


def contraction(encoder: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """||J_f(x)||_F^2 = sum_ij (dh_j / dx_i)^2, without lambda  (contractive autoencoder, arXiv:1104.4153, eq. 1-2).

    Exact, for any encoder: one backward pass for every unit of the code, all at once.

    Args:
        encoder: f, (batch, ...) -> codes h, (batch, units). A row's code must depend on that row alone.
        images: x, (batch, ...) float.
    """
    return sum_per_row(ops.square(input_jacobian(encoder, images)))


def distance_to_average(variables: Sequence[Any], averages: Sequence[Any]) -> Tensor:
    """||theta - average||^2 over all values, a scalar  (historical averaging, arXiv:1606.03498, section 3.3).

    Not a value per row: added to every row of a loss, it enters the mean over the rows once.

    Args:
        variables: theta, of one player.
        averages: of their values so far, in the same order and shapes; constants.
    """
    return sum(
        ops.sum(ops.square(variable - ops.stop_gradient(ops.convert_to_tensor(average))))
        for variable, average in zip(variables, averages, strict=True)
    )
