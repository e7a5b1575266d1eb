"""Adversarial losses, as pairs of pure functions of the discriminator's logits; what codes and reconstructions cost.

Every adversarial loss takes logits, (batch, ...) float, unbounded, and returns one loss a row, (batch,); a
discriminator that answers with a map of logits (a patch discriminator) has them averaged within the row first.
Minimize all of them. D(x) = sigmoid(logits).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import keras
from keras import ops

from zoo.core.replicas import global_mean
from zoo.core.types import Tensor
from zoo.losses.rows import per_row


def minimax_discriminator_loss(real_logits: Tensor, fake_logits: Tensor, smoothing: float = 0.0) -> Tensor:
    """-log D(x) - log(1 - D(G(z)))  (GAN, eq. 1, negated); or with images' labels at 1 - smoothing.

    Then -(1 - smoothing) log D(x) - smoothing log(1 - D(x)) stands for the first term: one-sided label smoothing
    (arXiv:1606.03498, section 3.4). The label of G(z) stays 0.

    Args:
        real_logits: of images.
        fake_logits: of G(z).
        smoothing: 0 <= smoothing < 1.
    """
    real = ops.softplus(-real_logits) + smoothing * real_logits  # log D(x) - log(1 - D(x)) is the logit
    return per_row(real) + per_row(ops.softplus(fake_logits))


def minimax_generator_loss(fake_logits: Tensor) -> Tensor:
    """log(1 - D(G(z)))  (GAN, eq. 1 and Algorithm 1, as published)."""
    return -per_row(ops.softplus(fake_logits))


def non_saturating_generator_loss(fake_logits: Tensor) -> Tensor:
    """-log D(G(z))  (GAN, section 3: the same fixed point, stronger gradients early on)."""
    return per_row(ops.softplus(-fake_logits))


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))), D the bare logit  (SN-GAN, arXiv:1802.05957, eq. 16)."""
    return per_row(ops.relu(1.0 - real_logits)) + per_row(ops.relu(1.0 + fake_logits))


def wasserstein_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """D(G(z)) - D(x), D the critic's bare output  (WGAN, arXiv:1701.07875, Algorithm 1, negated)."""
    return per_row(fake_logits) - per_row(real_logits)


def wasserstein_generator_loss(fake_logits: Tensor) -> Tensor:
    """-D(G(z)), D the bare output  (WGAN, Algorithm 1; the hinge loss's generator, too: SN-GAN, eq. 17)."""
    return -per_row(fake_logits)


def relativistic_loss(ahead: Tensor, behind: Tensor) -> Tensor:
    """-log sigmoid(C(ahead) - C(behind)), C the bare logit  (RSGAN, arXiv:1807.00734, section 4).

    For both: the discriminator wants each image ahead of the sample in its row, the generator each sample ahead.
    """
    return per_row(ops.softplus(behind - ahead))


def relativistic_average_loss(ahead: Tensor, behind: Tensor) -> Tensor:
    """-log sigmoid(C(ahead) - E C(behind)) - log sigmoid(E C(ahead) - C(behind))  (RaSGAN, arXiv:1807.00734).

    As `relativistic_loss`, each row against the other side's mean over the global batch.
    """
    ahead_mean, behind_mean = global_mean([ops.sum(per_row(side)) for side in (ahead, behind)], ahead)
    return per_row(ops.softplus(behind_mean - ahead)) + per_row(ops.softplus(behind - ahead_mean))


def feature_matching(real_features: Tensor, fake_features: Tensor) -> Tensor:
    """||E f(x) - E f(G(z))||^2, means over the global batch  (arXiv:1606.03498, section 3.1).

    Args:
        real_features: f(x), what a layer of D gives for images, (batch, ...); half precision is summed in float32.
        fake_features: f(G(z)), likewise, as many rows.

    Returns:
        The same number for every row, (batch,): the mean over rows, and its gradient, is that of the batch.
    """
    dtype = keras.backend.result_type(real_features.dtype, "float32")
    difference = ops.sum(ops.cast(real_features, dtype) - ops.cast(fake_features, dtype), axis=0)
    (mean,) = global_mean([difference], real_features)
    return ops.broadcast_to(ops.sum(ops.square(mean)), (ops.shape(fake_features)[0],))


def probability(logits: Tensor) -> Tensor:
    """D(x) where the loss makes it the probability that x is real."""
    return ops.sigmoid(logits)


def identity(logits: Tensor) -> Tensor:
    """D(x) where the loss takes the logit itself."""
    return logits


LossName = Literal[
    "minimax",
    "non_saturating",
    "least_squares",
    "hinge",
    "wasserstein",
    "relativistic",
    "relativistic_average",
]
"""The keys of `LOSSES`."""


class LossPair(NamedTuple):
    """What the discriminator and the generator minimize, and how the discriminator's logits are read.

    Args:
        discriminator: (logits of images, logits of G(z)) -> loss, one value per row.
        generator: (logits of G(z)) or, where `paired`, (logits of G(z), logits of images) -> loss, one value per row.
        score: logits -> D(x).
        threshold: the logit that parts real from fake; None where there is none: a Wasserstein critic is determined up
            to a constant only, and a relativistic one compares images with samples.
        paired: whether the generator's loss takes the images' logits, too.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[..., Tensor]
    score: Callable[[Tensor], Tensor]
    threshold: float | None
    paired: bool = False

    @property
    def score_kind(self) -> Literal["probability", "logit"]:
        """What `score` gives."""
        return "probability" if self.score is probability else "logit"

    def accuracy(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The share of right answers, one value per row; guessing gives 1/2 on average.

        With a threshold, 1 for a real and a fake row that D puts on their sides of it, 1/2 for one of the two;
        without one, 1 where D(x) > D(G(z)).
        """
        real, fake = per_row(real_logits), per_row(fake_logits)
        if self.threshold is None:
            return ops.cast(real > fake, real.dtype)
        right = ops.cast(real > self.threshold, real.dtype) + ops.cast(fake < self.threshold, fake.dtype)
        return 0.5 * right


def least_squares(fake: float = 0.0, real: float = 1.0, wanted: float = 1.0) -> LossPair:
    """LSGAN's pair (arXiv:1611.04076, eq. 2), D the bare logit; by default the 0-1 coding of eq. 9.

    D: 1/2 (D(x) - b)^2 + 1/2 (D(G(z)) - a)^2. G: 1/2 (D(G(z)) - c)^2. With b - c = 1 and b - a = 2, such as -1, 1, 0,
    G descends Pearson's chi^2 divergence (section 3.2.1).

    Args:
        fake: a, what D is to answer for G(z).
        real: b, what D is to answer for images; above a, as every score of images is.
        wanted: c, what G wants D to answer.

    Raises:
        ValueError: b <= a.
    """
    if not real > fake:
        raise ValueError(f"codes a = {fake}, b = {real}: choose b > a, D's answer for images above that for samples.")

    def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return 0.5 * per_row(ops.square(real_logits - real)) + 0.5 * per_row(ops.square(fake_logits - fake))

    def generator_loss(fake_logits: Tensor) -> Tensor:
        return 0.5 * per_row(ops.square(fake_logits - wanted))

    return LossPair(discriminator_loss, generator_loss, identity, (fake + real) / 2)


ADVERSARIAL_LOSSES = {
    "minimax": LossPair(minimax_discriminator_loss, minimax_generator_loss, probability, 0.0),
    "non_saturating": LossPair(minimax_discriminator_loss, non_saturating_generator_loss, probability, 0.0),
    "least_squares": least_squares(),
    "hinge": LossPair(hinge_discriminator_loss, wasserstein_generator_loss, identity, 0.0),
    "wasserstein": LossPair(wasserstein_discriminator_loss, wasserstein_generator_loss, identity, None),
}
# Paired: the generator's loss needs the images' logits, too.
RELATIVISTIC_LOSSES = {
    "relativistic": LossPair(relativistic_loss, relativistic_loss, identity, None, paired=True),
    "relativistic_average": LossPair(relativistic_average_loss, relativistic_average_loss, identity, None, paired=True),
}
LOSSES = {**ADVERSARIAL_LOSSES, **RELATIVISTIC_LOSSES}
