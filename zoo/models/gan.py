"""GAN (arXiv:1406.2661).  generator = G, discriminator = D, latents = z, discriminator_steps = k of Algorithm 1."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Unpack, final

import keras

from serving.card import Feed
from zoo.core.ability import Ability, generate_ability
from zoo.core.arguments import check_counts, check_image_shape, choose
from zoo.core.batch import images_of, minibatches_of
from zoo.core.noise import PRIORS, Draws
from zoo.core.step import HeldForward, LossValues
from zoo.core.types import Tensor
from zoo.losses.adversarial import LOSSES, LossName, least_squares
from zoo.losses.regularization import Regularization, RegularizationOptions
from zoo.models.adversarial import AdversarialModel
from zoo.networks import convolutional, mlp, residual
from zoo.networks.convolutional import Minibatch, Norm
from zoo.networks.functional import with_ema, with_features


class Architecture(NamedTuple):
    """A pair of networks.

    Args:
        generator: (image_shape, latent_dim, width=..., name=...) -> G.
        discriminator: (image_shape, width=..., **options) -> D, its last layer named "logit".
        options: keyword arguments that `discriminator` takes besides, of "norm", "dropout" and "minibatch".
    """

    generator: Callable[..., keras.Model]
    discriminator: Callable[..., keras.Model]
    options: tuple[str, ...] = ()


ARCHITECTURES = {
    "dcgan": Architecture(convolutional.generator, convolutional.discriminator, ("norm", "dropout", "minibatch")),
    "mlp": Architecture(mlp.generator, mlp.discriminator),
    "resnet": Architecture(residual.generator, residual.discriminator),
}
SCHEDULES = ("shared", "alternating", "simultaneous")
LSGAN_CODES = (0.0, 1.0, 1.0)


@final
class GAN(AdversarialModel):
    """D learns to tell images from G(z), G learns to make D take G(z) for images.

    Args:
        image_shape: (height, width, channels); images are float32 in [-1, 1]. Square, the side a power of two, of
            "dcgan" (>= 8) and "resnet" (>= 16); any size of "mlp".
        latent_dim: length of z.
        architecture: "dcgan" (arXiv:1511.06434), "mlp" (the first paper's) or "resnet" (SN-GAN's, arXiv:1802.05957).
        width: of both networks: channels of the largest map ("dcgan"), of every map ("resnet"), or units per hidden
            layer ("mlp"); None for the architecture's own.
        discriminator_width: the same of D alone; None for `width`.
        discriminator_norm: normalization in D, which "dcgan" alone lets choose: "batch", "layer", "spectral" or "none".
            None keeps the architecture's own: "dcgan" has batch norm, "mlp" none, "resnet" spectral norm.
        dropout: rate after every activation of D, of "dcgan".
        minibatch: "stddev" or "discrimination", what D's last layers see of how the rows of a batch differ, of "dcgan";
            or "none". "discrimination" takes a single replica.
        loss: the pair that D and G minimize, a key of `zoo.losses.adversarial.LOSSES`: "minimax", "non_saturating",
            "least_squares" (LSGAN), "hinge", "wasserstein", "relativistic" (RSGAN) or "relativistic_average" (RaSGAN).
        codes: a, b, c of least squares: D's target for G(z), its target for images, and what G wants D to give.
        discriminator_steps: k, updates of D before one of G, each with images and latents of its own.
        schedule: "alternating" is Algorithm 1, with fresh latents for G's update; "shared" lets G's update reuse the
            last fakes, scored again by the updated D, and saves a forward pass; "simultaneous" takes both gradients
            before either player is updated.
        prior: of z: "normal", N(0, 1), or "uniform", U(-1, 1).
        ema_decay: decay of the moving average of G that is sampled and exported, 0 <= ema_decay < 1; None for G itself.
        **regularization: arguments of `zoo.losses.regularization.Regularization`, such as r1=10.0.

    Raises:
        ValueError: an unknown choice, a number out of its range, an option that the architecture's discriminator does
            not take, or a gradient penalty beside batch norm or a minibatch layer.
        TypeError: an unknown argument of the regularization.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int = 100,
        architecture: Literal["dcgan", "mlp", "resnet"] = "dcgan",
        width: int | None = None,
        discriminator_width: int | None = None,
        discriminator_norm: Norm | None = None,
        dropout: float = 0.0,
        minibatch: Minibatch = "none",
        loss: LossName = "non_saturating",
        codes: Sequence[float] = LSGAN_CODES,
        discriminator_steps: int = 1,
        schedule: Literal["shared", "alternating", "simultaneous"] = "shared",
        prior: Literal["normal", "uniform"] = "normal",
        ema_decay: float | None = 0.999,
        **regularization: Unpack[RegularizationOptions],
    ):
        super().__init__()
        networks: Architecture = choose("architecture", architecture, ARCHITECTURES)
        loss_pair = choose("loss", loss, LOSSES)
        if tuple(codes) != LSGAN_CODES:
            if loss != "least_squares" or len(codes) != 3:
                raise ValueError(f"codes={tuple(codes)}, loss={loss!r}: least_squares takes three, a, b, c.")
            loss_pair = least_squares(*codes)
        choose("schedule", schedule, dict.fromkeys(SCHEDULES))
        choose("prior", prior, PRIORS)
        check_counts(latent_dim=latent_dim, width=width, discriminator_width=discriminator_width)
        check_counts(discriminator_steps=discriminator_steps)
        self.regularization = Regularization.from_options(regularization)
        self.loss_pair = self.regularization.smooth_labels(loss_pair)
        self.schedule = schedule
        self.prior: Feed = prior  # a key of PRIORS, and what the card says feeds the latent
        self.discriminator_steps = self.minibatches_per_step = discriminator_steps
        self.latent_dim = latent_dim
        requested = {
            "norm": discriminator_norm,
            "dropout": dropout or None,
            "minibatch": None if minibatch == "none" else minibatch,
        }
        options = {name: value for name, value in requested.items() if value is not None}
        if unsupported := sorted(set(options) - set(networks.options)):
            raise ValueError(f"architecture={architecture!r}: its discriminator takes no {', '.join(unsupported)}.")
        shape, widths = check_image_shape(image_shape), {} if width is None else {"width": width}
        build_generator = partial(networks.generator, shape, latent_dim, **widths)
        self.generator = build_generator()
        if discriminator_width is not None:
            widths = {"width": discriminator_width}
        self.discriminator = networks.discriminator(shape, **widths, **options)
        self.regularization.require_per_sample(self.discriminator)
        # The EMA of G, or G itself without ema_decay.
        self.generator_ema, ema = with_ema(self.generator, build_generator, ema_decay)
        metric_names = ("discriminator_loss", "generator_loss", "real_score", "fake_score", "discriminator_accuracy")
        self.setup(*metric_names, ema=ema)

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """D and G."""
        return {"discriminator": (self.discriminator,), "generator": (self.generator,)}

    def abilities(self) -> Mapping[str, Ability]:
        """generate: latent -> image, by the EMA of G."""
        return {"generate": generate_ability(self.generator_ema, self.prior)}

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """D's loss, gradient penalties included.

        Args:
            real: x, (batch, height, width, channels) in [-1, 1].
            fake: G(z), likewise.

        Returns:
            The loss, (batch,), and the metrics by name, (batch,) each.
        """
        real, fake = self.discriminator_input(real), self.discriminator_input(fake)
        discriminate = partial(self.discriminator, training=True)
        real_logits, fake_logits = discriminate(real), discriminate(fake)
        penalty, metrics = self.regularization.penalty(discriminate, real, fake)
        loss = self.loss_pair.discriminator(real_logits, fake_logits) + penalty
        return loss, self.discriminator_metrics(real_logits, fake_logits) | metrics

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """G's loss, one value per row.

        Args:
            fake: G(z), (batch, height, width, channels) in [-1, 1].
            real: images, likewise; for a relativistic loss and for feature matching.
        """
        loss, _ = self.adversarial_generator_loss(self.features_and_logits, fake, real)
        return loss

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What D's last layer is given, (batch, size), and its logits, (batch, 1), in training mode."""
        # Another view of the same layers: made when it is traced, so that nothing tracks or saves it.
        return with_features(self.discriminator, "logit")(images, training=True)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """Algorithm 1: k updates of D, then one of G; the schedule says on which fakes G is updated."""
        draws = self.draws(data)
        *earlier, last = minibatches_of(data, self.discriminator_steps, "discriminator_steps")
        earlier_updates = [
            self.minimize("discriminator", partial(self.discriminator_loss, real, self.fakes(draws)))
            for real in earlier
        ]
        # Of "shared" and "simultaneous", G's update goes back through this pass; "alternating" makes another.
        held = self.hold("generator", lambda: self.fakes(draws))
        update = {
            "shared": self.update_shared,
            "alternating": self.update_alternating,
            "simultaneous": self.update_simultaneous,
        }
        (discriminator_loss, metrics), generator_loss = update[self.schedule](draws, last, held)
        metrics = self.metrics_of_updates([*earlier_updates, (discriminator_loss, metrics)])
        return self.record(discriminator_loss=discriminator_loss, generator_loss=generator_loss, **metrics)

    def update_shared(self, draws: Draws, real: Tensor, held: HeldForward) -> tuple[LossValues, LossValues]:
        """D is updated; then G on the same fakes, scored again by the updated D."""
        discriminator = self.minimize("discriminator", partial(self.discriminator_loss, real, held.output))
        return discriminator, self.minimize("generator", partial(self.generator_loss, held.output, real), through=held)

    def update_alternating(self, draws: Draws, real: Tensor, held: HeldForward) -> tuple[LossValues, LossValues]:
        """D is updated; then G on fresh fakes, as published."""
        discriminator = self.minimize("discriminator", partial(self.discriminator_loss, real, held.output))
        fresh = self.hold("generator", lambda: self.fakes(draws))
        return discriminator, self.minimize(
            "generator", partial(self.generator_loss, fresh.output, real), through=fresh
        )

    def update_simultaneous(self, draws: Draws, real: Tensor, held: HeldForward) -> tuple[LossValues, LossValues]:
        """Both gradients are taken before either player is updated."""
        of_discriminator = partial(self.discriminator_loss, real, held.output)
        of_generator = partial(self.generator_loss, held.output, real)
        discriminator = self.compute_gradients("discriminator", of_discriminator)
        generator = self.compute_gradients("generator", of_generator, through=held)
        return self.apply_gradients(discriminator), self.apply_gradients(generator)

    def fakes(self, draws: Draws) -> Tensor:
        """G(z) for a fresh z, (batch, height, width, channels) in [-1, 1]."""
        return self.generator(PRIORS[self.prior](draws, self.latent_dim), training=True)

    def logits(self, batch: Any) -> Tensor:
        """D's logits of a batch's images, (batch, 1), in inference mode."""
        return self.discriminator(images_of(batch), training=False)
