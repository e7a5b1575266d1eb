"""WGAN (arXiv:1701.07875) and WGAN-GP (arXiv:1704.00028).

critic = f_w or D, generator = g_theta or G, latents = z, critic_steps = n_critic, clip = c, penalty_weight = lambda.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, final

import keras
from keras import ops

from serving.card import Feed
from zoo.core.ability import Ability
from zoo.core.arguments import checked_image_shape, choose
from zoo.core.batch import images_of, minibatches_of
from zoo.core.model import GenerativeModel
from zoo.core.noise import PRIORS, Draws
from zoo.core.types import Tensor
from zoo.losses.adversarial import ADVERSARIAL_LOSSES
from zoo.losses.penalties import gradient_penalty
from zoo.losses.regularization import Regularization
from zoo.losses.rows import per_row
from zoo.networks import convolutional
from zoo.networks.functional import averaged, with_features

# Constraint -> the critic's normalization. The penalty is per example: no batch norm (WGAN-GP, section 4).
CONSTRAINTS: dict[str, convolutional.Norm] = {"gradient_penalty": "layer", "weight_clipping": "batch"}
GAME = ADVERSARIAL_LOSSES["wasserstein"]


@final
class WGAN(GenerativeModel):
    """The critic measures how far G(z) is from the images, by the Wasserstein distance; G makes that shorter.

    The measure holds up to a factor, and only while the critic's slope is bounded: `constraint` says by what.

    Args:
        image_shape: (size, size, channels), size a power of two >= 8; images are float32 in [-1, 1].
        latent_dim: length of z.
        width: channels of the largest map of both networks, which are DCGAN's.
        constraint: "gradient_penalty" (WGAN-GP) or "weight_clipping" (WGAN). The critic has layer norm under the first,
            DCGAN's batch norm under the second.
        penalty_weight: lambda, of the gradient penalty.
        clip: c, the largest size of a weight of the critic under weight clipping, norms' scales included.
        dropout: rate after every activation of the critic.
        minibatch: "stddev" or "discrimination", under weight clipping: the critic's last layers see how the rows of a
            batch differ.
        critic_steps: n_critic, updates of the critic before one of G, each with images and latents of its own.
        prior: of z: "normal", N(0, 1), or "uniform", U(-1, 1).
        stabilizers: remedies besides the constraint, by name: the arguments of `zoo.core.stabilizers.Regularization`.
        ema_decay: of the moving average of G that is sampled and exported; None for G itself.
    """

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
        stabilizers: Mapping[str, Any] | None = None,
        ema_decay: float | None = 0.999,
    ):
        super().__init__()
        norm = choose("constraint", constraint, CONSTRAINTS)
        choose("prior", prior, PRIORS)
        if critic_steps < 1:
            raise ValueError(f"critic_steps={critic_steps}: choose at least 1.")
        for name, value in {"penalty_weight": penalty_weight, "clip": clip}.items():
            if not value > 0.0:
                raise ValueError(f"{name}={value}: choose a number > 0.")
        shape = checked_image_shape(image_shape)
        self.constraint = constraint
        self.penalty_weight = penalty_weight
        own = {"gradient_penalty": 0.0, "weight_clipping": clip if constraint == "weight_clipping" else None}
        by = "constraint, penalty_weight and clip"
        self.stabilizers = Regularization.chosen(stabilizers or {}, by, **own)
        self.stabilizers.smoothed(GAME)  # or refuses: scores have no targets to be smoothed
        self.critic_steps = self.minibatches_per_step = critic_steps
        self.prior: Feed = prior
        self.latent_dim = latent_dim
        build = partial(convolutional.generator, shape, latent_dim, width)
        self.generator = build()
        # Without a bias at the end: D(x) - D(G(z)) does not see a constant, and nothing would train it.
        self.critic = convolutional.discriminator(
            shape, width, norm=norm, dropout=dropout, minibatch=minibatch, logit_bias=False, name="critic"
        )
        self.generator_ema, averages = averaged(self.generator, build, ema_decay)
        penalties = ["gradient_penalty"] * (constraint == "gradient_penalty")
        self.stabilizers.require_per_sample(self.critic, *penalties)
        trackers = ["critic_loss", "generator_loss", "wasserstein_estimate", "real_score", "fake_score"]
        trackers += ["discriminator_accuracy", *penalties, *self.stabilizers.names]
        self.setup(*trackers, averages=averages)
        self.stabilizers.attach(self.players, self.variables_of, "critic")

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """The critic and G."""
        return {"critic": (self.critic,), "generator": (self.generator,)}

    def abilities(self) -> Mapping[str, Ability]:
        """generate: latent -> image, by the averaged G."""
        ranges = {"image": (-1.0, 1.0)} | ({"latent": (-1.0, 1.0)} if self.prior == "uniform" else {})
        return {"generate": Ability(self.generator_ema, {"latent": self.prior}, {"image": "image"}, ranges)}

    def critic_loss(self, real: Tensor, fake: Tensor, mix: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """D(G(z)) - D(x), plus lambda times the penalty at x_hat if that is the constraint, one value a row.

        Regularization add their terms, and come before D on both sides.

        Args:
            real: x, (batch, height, width, channels) in [-1, 1].
            fake: G(z), likewise.
            mix: (batch,) in [0, 1), where x_hat lies between them; for the penalty alone.

        Returns:
            The loss and what is recorded besides: the estimate D(x) - D(G(z)), its two sides, how often an image has
            the higher score, named as by GAN so that the same rules read it, and the penalty, without lambda.
        """
        real, fake = self.seen(real), self.seen(fake)
        judge = partial(self.critic, training=True)
        real_scores, fake_scores = judge(real), judge(fake)
        distance = GAME.discriminator(real_scores, fake_scores)
        slopes, penalties = self.stabilizers.penalty(judge, real, fake)
        loss = distance + slopes + self.stabilizers.history("critic")
        recorded = {
            "wasserstein_estimate": -distance,
            "real_score": per_row(real_scores),
            "fake_score": per_row(fake_scores),
            "discriminator_accuracy": GAME.accuracy(real_scores, fake_scores),
            **penalties,
        }
        if self.constraint == "weight_clipping":
            return loss, recorded
        penalty = gradient_penalty(judge, real, fake, mix)
        return loss + self.penalty_weight * penalty, {**recorded, "gradient_penalty": penalty}

    def generator_loss(self, fake: Tensor, held_back: Tensor | float = 0.0, real: Tensor | None = None) -> Tensor:
        """-D(G(z)), one value a row.

        Args:
            fake: G(z), (batch, height, width, channels) in [-1, 1].
            held_back: historical averaging's term, a scalar.
            real: images, likewise; for feature matching.
        """
        fake = self.seen(fake)
        if not self.stabilizers.matches:
            return GAME.generator(self.critic(fake, training=True)) + held_back
        judge = with_features(self.critic, "logit")
        fake_features, scores = judge(fake, training=True)
        real_features, _ = judge(self.seen(real), training=True)
        return GAME.generator(scores) + held_back + self.stabilizers.matching(real_features, fake_features)

    def seen(self, images: Tensor) -> Tensor:
        """What the critic is shown of images or samples."""
        return self.stabilizers.see(images, self.step.read_value())

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """Algorithm 1 of either paper: the critic moves n_critic times, then G on latents of its own."""
        draws = self.draws(data)
        for real in minibatches_of(data, self.critic_steps, "critic_steps"):
            loss = partial(self.critic_loss, real, self.fakes(draws), draws.uniform())
            critic_loss, recorded = self.minimize("critic", loss)  # weight clipping comes with the update
        fakes = self.hold("generator", lambda: (self.fakes(draws), self.stabilizers.history("generator")))
        fake, held_back = fakes.output
        loss = partial(self.generator_loss, fake, held_back, real)
        generator_loss = self.minimize("generator", loss, through=fakes)
        self.stabilizers.remember(self.step)
        return self.record(critic_loss=critic_loss, generator_loss=generator_loss, **recorded)

    def fakes(self, draws: Draws) -> Tensor:
        """G(z) for a fresh z, (batch, height, width, channels) in [-1, 1]."""
        return self.generator(PRIORS[self.prior](draws, self.latent_dim), training=True)

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """The critic in inference mode on training images and on held-out ones: a gap says that it memorizes.

        Args:
            training: images, (count, height, width, channels) in [-1, 1], or a batch that holds them.
            held_out: images that training never shows, likewise.
        """
        sides = {"train_score": images_of(training), "held_out_score": images_of(held_out)}
        return {name: ops.mean(self.critic(images, training=False)) for name, images in sides.items()}
