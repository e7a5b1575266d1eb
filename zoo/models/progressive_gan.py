"""Progressive GAN (arXiv:1710.10196): WGAN-GP that grows from small images to large ones.

discriminator = D, generator = G, critic_steps = n_critic, penalty_weight = lambda, drift = epsilon_drift of appendix
A.1, alpha of figure 2 = what the layers "growth" fade by.
"""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any, Unpack, final

import keras
from keras import ops

from zoo.core.ability import Ability, generate_ability
from zoo.core.arguments import check_counts, check_image_shape
from zoo.core.batch import images_of, minibatches_of
from zoo.core.growth import GrowthSchedule, Stage, read_growth, set_growth, stage_of
from zoo.core.noise import Draws
from zoo.core.types import Tensor
from zoo.layers.minibatch import in_whole_groups
from zoo.losses.adversarial import ADVERSARIAL_LOSSES
from zoo.losses.penalties import gradient_penalty
from zoo.losses.regularization import Regularization, RegularizationOptions
from zoo.losses.rows import per_row
from zoo.models.adversarial import AdversarialModel
from zoo.networks import growing, progressive
from zoo.networks.functional import with_ema, with_image_in_range

UNFIT = {
    "gradient_penalty": "penalty_weight decides that",
    "weight_clipping": "the gradient penalty takes its place",
    "label_smoothing": "D's scores are no probabilities",
    "augment_target": "D's scores have no sign",
    "r1": "penalty_weight is of the one penalty here",
    "r2": "penalty_weight is of the one penalty here",
    "dragan": "penalty_weight is of the one penalty here",
    "feature_matching": "D's features are others at every level",
}
"""Options of the regularization that this model does not take, and why."""


@final
class ProgressiveGAN(AdversarialModel):
    """G and D begin with the smallest images; each next size is faded in, then trained with those below.

    Args:
        image_shape: (size, size, channels), size 2, 4, 8, ... times start_size; images are float32 in [-1, 1].
        latent_dim: length of z, which is normal; only its direction counts.
        channel_base: maps of size x size have 2 channel_base / size channels, ...
        channel_max: ... but at most these.
        start_size: side of the smallest images.
        fade_steps: train steps in which a size is faded in. The paper's 800,000 images, 16 a step.
        stable_steps: train steps before the next size; the largest is trained to the end.
        penalty_weight: lambda > 0, of the gradient penalty.
        drift: epsilon_drift >= 0, of D(x)^2, which keeps D's scores near 0.
        critic_steps: n_critic, updates of D before one of G, each with images and latents of its own.
        group_size: consecutive rows of a batch whose differences D's last block is shown; the batch of every device is
            made of whole groups. None for the whole batch, over all devices.
        ema_decay: decay of the moving average of G that is sampled and exported, 0 <= ema_decay < 1; None for G itself.
        **regularization: instance_noise, instance_noise_steps, augment and historical_averaging of
            `zoo.losses.regularization.Regularization`. The others don't fit: the gradient penalty is D's own, and its
            scores are neither probabilities nor have a sign.

    Raises:
        ValueError: a number out of its range, images of another shape, or an option that does not fit.
    """

    plan: Stage

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int = 512,
        channel_base: int = 8192,
        channel_max: int = 512,
        start_size: int = 4,
        fade_steps: int = 50_000,
        stable_steps: int = 50_000,
        penalty_weight: float = 10.0,
        drift: float = 0.001,
        critic_steps: int = 1,
        group_size: int | None = 4,
        ema_decay: float | None = 0.999,
        **regularization: Unpack[RegularizationOptions],
    ):
        super().__init__()
        check_counts(latent_dim=latent_dim, channel_base=channel_base, channel_max=channel_max)
        check_counts(critic_steps=critic_steps)
        if start_size < 2:
            raise ValueError(f"start_size={start_size}: choose at least 2.")
        if not penalty_weight > 0.0:
            raise ValueError(f"penalty_weight={penalty_weight}: choose a number > 0.")
        if not drift >= 0.0:
            raise ValueError(f"drift={drift}: choose a number >= 0; 0 leaves it out.")
        if unfit := sorted(set(UNFIT) & set(regularization)):
            raise ValueError(f"{unfit[0]}: {UNFIT[unfit[0]]}; leave it out.")
        shape = check_image_shape(image_shape)
        levels = len(growing.sizes_of(shape, start_size)) - 1
        self.schedule = GrowthSchedule(levels, fade_steps, stable_steps)
        self.penalty_weight = penalty_weight
        self.drift = drift
        self.regularization = Regularization.from_options(regularization)
        self.loss_pair = ADVERSARIAL_LOSSES["wasserstein"]
        self.critic_steps = self.minibatches_per_step = critic_steps
        self.latent_dim = latent_dim
        self.start_size = start_size
        self.group_size = group_size
        widths = channel_base, channel_max, start_size
        build_generator = partial(progressive.generator, shape, latent_dim, *widths)
        self.generator = build_generator()
        self.discriminator = progressive.discriminator(shape, *widths, group_size)
        self.generator_ema, ema = with_ema(self.generator, build_generator, ema_decay)
        # Other views of the same layers, which nothing tracks or saves.
        self.generator_at = cache(partial(growing.generator_at, self.generator))
        self.discriminator_at = cache(partial(growing.discriminator_at, self.discriminator))
        metric_names = ("discriminator_loss", "generator_loss", "wasserstein_estimate", "real_score", "fake_score")
        self.setup(*metric_names, "discriminator_accuracy", "gradient_penalty", "growth", ema=ema)

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """D and G."""
        return {"discriminator": (self.discriminator,), "generator": (self.generator,)}

    def plan_of(self, step: int) -> Stage:
        """The level that is trained in a step, and whether it is being faded in."""
        return self.schedule.stage(step)

    def updated_variables(self, player: str) -> list[keras.Variable]:
        """Those of the layers that this stage has, the other levels' ways from and to images left out."""
        network_at = {"discriminator": self.discriminator_at, "generator": self.generator_at}[player]
        return network_at(self.plan).trainable_variables

    def fresh_optimizers(self, step: int) -> Sequence[str]:
        """Both players, where a level begins: Adam's moments are those of other gradients."""
        return tuple(self.players) if self.schedule.begins(step) else ()

    @property
    def growth(self) -> float:
        """The level that G has grown to, by its weights; between two of them while the upper one is faded in."""
        return read_growth(self.generator_ema)

    def abilities(self) -> Mapping[str, Ability]:
        """generate: latent -> image, by the EMA of G; enlarged, and as far as it has come, while it has not grown."""
        # Nothing bounds G's images: they are clipped to [-1, 1] as they are shown, and nowhere else.
        return {"generate": generate_ability(with_image_in_range(growing.as_grown(self.generator_ema)), "normal")}

    def discriminator_loss(self, real: Tensor, fake: Tensor, mix: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """D(G(z)) - D(x) + lambda (||grad D(x_hat)|| - 1)^2 + epsilon_drift D(x)^2, one value per row.

        A row's gradient is that of all scores of its group: what the last block is shown of other rows is in it.

        Args:
            real: x, (batch, size, size, channels) in [-1, 1], of the stage's size.
            fake: G(z), likewise.
            mix: (batch,) in [0, 1), where x_hat lies between them.

        Returns:
            The loss, and what is recorded besides: the estimate D(x) - D(G(z)), its two terms, how often an image has
            the higher score, the gradient penalties, lambda included.
        """
        real, fake = self.discriminator_input(real), self.discriminator_input(fake)
        discriminate = partial(self.discriminator_at(self.plan), training=True)
        real_scores, fake_scores = discriminate(real), discriminate(fake)
        distance = self.loss_pair.discriminator(real_scores, fake_scores)
        penalty = self.penalty_weight * gradient_penalty(discriminate, real, fake, mix)
        loss = distance + penalty + self.drift * ops.square(per_row(real_scores))
        metrics = self.discriminator_metrics(real_scores, fake_scores)
        return loss, {"wasserstein_estimate": -distance, "gradient_penalty": penalty, **metrics}

    def generator_loss(self, fake: Tensor) -> Tensor:
        """-D(G(z)), one value per row.

        Args:
            fake: G(z), (batch, size, size, channels), of the stage's size.
        """
        return self.loss_pair.generator(self.discriminator_at(self.plan)(self.discriminator_input(fake), training=True))

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """WGAN-GP's Algorithm 1 at the stage's size: n_critic updates of D, then one of G on latents of its own."""
        draws = self.draws(data)
        growth = self.schedule.progress(self.plan, self.step.read_value())
        set_growth((self.generator, self.generator_ema, self.discriminator), growth)
        for images in minibatches_of(data, self.critic_steps, "critic_steps"):
            real = growing.images_at(images, self.plan, growth, self.start_size)
            loss = partial(self.discriminator_loss, real, self.fakes(draws), draws.uniform())
            discriminator_loss, recorded = self.minimize("discriminator", loss)
        fakes = self.hold("generator", lambda: self.fakes(draws))
        generator_loss = self.minimize("generator", partial(self.generator_loss, fakes.output), through=fakes)
        recorded["growth"] = ops.cast(growth, generator_loss.dtype) * ops.ones_like(generator_loss)
        return self.record(discriminator_loss=discriminator_loss, generator_loss=generator_loss, **recorded)

    def fakes(self, draws: Draws) -> Tensor:
        """G(z) for a fresh z, (batch, size, size, channels), of the stage's size."""
        return self.generator_at(self.plan)([draws.normal(self.latent_dim)], training=True)

    def logits(self, batch: Any) -> Tensor:
        """D's scores of a batch's images, (batch, 1), in inference mode, at the size that it has grown to."""
        growth = self.growth
        stage = stage_of(growth)
        images = growing.images_at(images_of(batch), stage, growth, self.start_size)
        return in_whole_groups(partial(self.discriminator_at(stage), training=False), images, self.group_size)
