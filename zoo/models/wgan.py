"""WGAN (arXiv:1701.07875) and WGAN-GP (arXiv:1704.00028).

critic = f_w or D, generator = g_theta or G, latents = z, critic_steps = n_critic, clip = c, penalty_weight = lambda.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, Unpack, final

import keras

from serving.card import Feed
from zoo.core.ability import Ability, generate_ability
from zoo.core.arguments import check_counts, check_image_shape, choose
from zoo.core.batch import images_of, minibatches_of
from zoo.core.noise import PRIORS, Draws
from zoo.core.types import Tensor
from zoo.losses.adversarial import ADVERSARIAL_LOSSES
from zoo.losses.penalties import gradient_penalty
from zoo.losses.regularization import Regularization, RegularizationOptions
from zoo.models.adversarial import AdversarialModel
from zoo.networks import convolutional
from zoo.networks.functional import with_ema, with_features

# Constraint -> the critic's normalization. The penalty is per example: no batch norm (WGAN-GP, section 4).
CONSTRAINTS: dict[str, convolutional.Norm] = {"gradient_penalty": "layer", "weight_clipping": "batch"}


@final
class WGAN(AdversarialModel):
    """The critic estimates how far G(z) is from the images, by the Wasserstein distance; G makes that shorter.

    The estimate holds up to a factor, and only while the critic's slope is bounded: `constraint` says by what.

    Args:
        image_shape: (size, size, channels), size a power of two >= 8; images are float32 in [-1, 1].
        latent_dim: length of z.
        width: channels of the largest map of both networks, which are DCGAN's.
        constraint: "gradient_penalty" (WGAN-GP) or "weight_clipping" (WGAN). The critic has layer norm under the first,
            DCGAN's batch norm under the second.
        penalty_weight: lambda > 0, of the gradient penalty.
        clip: c > 0, the largest size of a weight of the critic under weight clipping, norms' scales included.
        dropout: rate after every activation of the critic.
        minibatch: "stddev" or "discrimination", under weight clipping: what the critic's last layers see of how rows of
            a batch differ; or "none".
        critic_steps: n_critic, updates of the critic before one of G, each with images and latents of its own.
        prior: of z: "normal", N(0, 1), or "uniform", U(-1, 1).
        ema_decay: decay of the moving average of G that is sampled and exported, 0 <= ema_decay < 1; None for G itself.
        **regularization: arguments of `zoo.losses.regularization.Regularization` besides gradient_penalty and
            weight_clipping, which `constraint` decides, and besides label_smoothing and augment_target, which take
            scores that have a sign.

    Raises:
        ValueError: an unknown choice, a number out of its range, or a gradient penalty beside batch norm or a
            minibatch layer.
    """

    discriminator_player = "critic"

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int = 100,
        width: int = 64,
        constraint: Literal["gradient_penalty", "weight_clipping"] = "gradient_penalty",
        penalty_weight: float = 10.0,
        clip: float = 0.01,
        dropout: float = 0.0,
        minibatch: convolutional.Minibatch = "none",
        critic_steps: int = 5,
        prior: Literal["normal", "uniform"] = "normal",
        ema_decay: float | None = 0.999,
        **regularization: Unpack[RegularizationOptions],
    ):
        super().__init__()
        norm = choose("constraint", constraint, CONSTRAINTS)
        choose("prior", prior, PRIORS)
        check_counts(latent_dim=latent_dim, width=width, critic_steps=critic_steps)
        for name, value in {"penalty_weight": penalty_weight, "clip": clip}.items():
            if not value > 0.0:
                raise ValueError(f"{name}={value}: choose a number > 0.")
        if decided := sorted({"gradient_penalty", "weight_clipping"} & set(regularization)):
            raise ValueError(f"{', '.join(decided)}: of a WGAN, constraint, penalty_weight and clip decide that.")
        if unfit := sorted({"label_smoothing", "augment_target"} & set(regularization)):
            raise ValueError(
                f"{', '.join(unfit)}: a critic's scores are no probabilities and have no sign; leave it out."
            )
        shape = check_image_shape(image_shape)
        self.constraint = constraint
        self.penalty_weight = penalty_weight
        bound = clip if constraint == "weight_clipping" else None
        self.regularization = Regularization.from_options({**regularization, "weight_clipping": bound})
        self.loss_pair = self.regularization.smooth_labels(ADVERSARIAL_LOSSES["wasserstein"])
        self.critic_steps = self.minibatches_per_step = critic_steps
        self.prior: Feed = prior
        self.latent_dim = latent_dim
        build_generator = partial(convolutional.generator, shape, latent_dim, width)
        self.generator = build_generator()
        # Without a bias at the end: D(x) - D(G(z)) does not see a constant, and nothing would train it.
        self.critic = convolutional.discriminator(
            shape, width, norm=norm, dropout=dropout, minibatch=minibatch, logit_bias=False, name="critic"
        )
        own = ("gradient_penalty",) if constraint == "gradient_penalty" else ()
        self.regularization.require_per_sample(
            self.critic, *own, instead="constraint='gradient_penalty' and minibatch='none'"
        )
        self.generator_ema, ema = with_ema(self.generator, build_generator, ema_decay)
        metric_names = ("critic_loss", "generator_loss", "wasserstein_estimate", "real_score", "fake_score")
        self.setup(*metric_names, "discriminator_accuracy", *own, ema=ema)

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """The critic and G."""
        return {"critic": (self.critic,), "generator": (self.generator,)}

    def abilities(self) -> Mapping[str, Ability]:
        """generate: latent -> image, by the EMA of G."""
        return {"generate": generate_ability(self.generator_ema, self.prior)}

    def critic_loss(self, real: Tensor, fake: Tensor, mix: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """D(G(z)) - D(x), plus lambda times the penalty at x_hat if that is the constraint, one value per row.

        Args:
            real: x, (batch, height, width, channels) in [-1, 1].
            fake: G(z), likewise.
            mix: (batch,) in [0, 1), where x_hat lies between them; for the penalty alone.

        Returns:
            The loss and what is recorded besides: the estimate D(x) - D(G(z)), its two terms, how often an image has
            the higher score, named as by GAN so that the same rules read it, and the gradient penalties, weights
            included.
        """
        real, fake = self.discriminator_input(real), self.discriminator_input(fake)
        criticize = partial(self.critic, training=True)
        real_scores, fake_scores = criticize(real), criticize(fake)
        distance = self.loss_pair.discriminator(real_scores, fake_scores)
        penalty, recorded = self.regularization.penalty(criticize, real, fake)
        if self.constraint == "gradient_penalty":
            penalty = penalty + self.penalty_weight * gradient_penalty(criticize, real, fake, mix)
            recorded = {"gradient_penalty": penalty}
        metrics = self.discriminator_metrics(real_scores, fake_scores)
        return distance + penalty, {"wasserstein_estimate": -distance, **metrics, **recorded}

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """-D(G(z)), one value per row.

        Args:
            fake: G(z), (batch, height, width, channels) in [-1, 1].
            real: images, likewise; for feature matching.
        """
        loss, _ = self.adversarial_generator_loss(self.features_and_logits, fake, real)
        return loss

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the critic's last layer is given, (batch, size), and its scores, in training mode."""
        return with_features(self.critic, "logit")(images, training=True)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """Algorithm 1 of either paper: n_critic updates of the critic, then one of G on latents of its own."""
        draws = self.draws(data)
        for real in minibatches_of(data, self.critic_steps, "critic_steps"):
            loss = partial(self.critic_loss, real, self.fakes(draws), draws.uniform())
            critic_loss, recorded = self.minimize("critic", loss)  # weight clipping comes with the update
        fakes = self.hold("generator", lambda: self.fakes(draws))
        generator_loss = self.minimize("generator", partial(self.generator_loss, fakes.output, real), through=fakes)
        return self.record(critic_loss=critic_loss, generator_loss=generator_loss, **recorded)

    def fakes(self, draws: Draws) -> Tensor:
        """G(z) for a fresh z, (batch, height, width, channels) in [-1, 1]."""
        return self.generator(PRIORS[self.prior](draws, self.latent_dim), training=True)

    def logits(self, batch: Any) -> Tensor:
        """The critic's scores of a batch's images, (batch, 1), in inference mode."""
        return self.critic(images_of(batch), training=False)
