"""GAN (arXiv:1406.2661).  generator = G, discriminator = D, latents = z, discriminator_steps = k of Algorithm 1."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Unpack, final

import keras

from serving.card import Feed
from zoo.core.ability import Ability, generate_ability
from zoo.core.arguments import check_image_shape, choose
from zoo.core.batch import images_of, minibatches_of
from zoo.core.noise import PRIORS, Draws
from zoo.core.step import Held, Rows
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
        options: what D takes besides, of norm, dropout and minibatch.
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
        image_shape: (height, width, channels); images are float32 in [-1, 1].
        latent_dim: length of z.
        architecture: "dcgan" (arXiv:1511.06434), "mlp" (the first paper's) or "resnet" (SN-GAN's, arXiv:1802.05957).
        width: width of both networks; None for the architecture's own.
        discriminator_width: of the discriminator, where it differs.
        discriminator_norm: "batch", "layer", "spectral" or "none", of "dcgan"; None for the architecture's own: batch
            norm, none for "mlp", spectral norm for "resnet".
        dropout: rate after every activation of D, of "dcgan".
        minibatch: "stddev" or "discrimination", what D's last layers see of how the rows of a batch differ, of "dcgan";
            or "none".
        loss: the pair that D and G minimize; "relativistic" ones compare each image with samples.
        codes: a, b, c of least squares: D's target for G(z), its target for images, and what G wants D to give.
        discriminator_steps: k, updates of D before one of G, each with images and latents of its own.
        schedule: "alternating" is Algorithm 1, with fresh latents for G's update; "shared" lets G's update reuse the
            last fakes, scored again by the updated D, and saves a forward pass; "simultaneous" takes both gradients
            before either player is updated.
        prior: of z: "normal", N(0, 1), or "uniform", U(-1, 1).
        ema_decay: decay of the moving average of G that is sampled and exported, 0 <= ema_decay < 1; None for G itself.
        **regularization: arguments of `zoo.losses.regularization.Regularization`, such as r1=10.0.

    Raises:
        ValueError: a choice that there is not, a number out of its range, an option that the architecture's
            discriminator does not take, or a gradient penalty beside batch norm.
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
        if discriminator_steps < 1:
            raise ValueError(f"discriminator_steps={discriminator_steps}: choose at least 1.")
        self.regularization = Regularization.from_options(regularization)
        self.loss_pair = self.regularization.smooth_labels(loss_pair)
        self.schedule = schedule
        self.prior: Feed = prior
        self.discriminator_steps = self.minibatches_per_step = discriminator_steps
        self.latent_dim = latent_dim
        chosen = {
            "norm": discriminator_norm,
            "dropout": dropout or None,
            "minibatch": None if minibatch == "none" else minibatch,
        }
        options = {name: value for name, value in chosen.items() if value is not None}
        if strange := sorted(set(options) - set(networks.options)):
            raise ValueError(f"architecture={architecture!r}: its discriminator takes no {', '.join(strange)}.")
        shape, widths = check_image_shape(image_shape), {} if width is None else {"width": width}
        build_generator = partial(networks.generator, shape, latent_dim, **widths)
        self.generator = build_generator()
        if discriminator_width is not None:
            widths = {"width": discriminator_width}
        self.discriminator = networks.discriminator(shape, **widths, **options)
        self.regularization.require_per_sample(self.discriminator)
        self.generator_ema, ema = with_ema(self.generator, build_generator, ema_decay)
        trackers = ("discriminator_loss", "generator_loss", "real_score", "fake_score", "discriminator_accuracy")
        self.setup(*trackers, ema=ema)

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """D and G."""
        return {"discriminator": (self.discriminator,), "generator": (self.generator,)}

    def abilities(self) -> Mapping[str, Ability]:
        """generate: latent -> image, by the averaged G."""
        return {"generate": generate_ability(self.generator_ema, self.prior)}

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """D's loss, gradient penalties included, one value a row; and what is recorded besides.

        Args:
            real: x, (batch, height, width, channels) in [-1, 1].
            fake: G(z), likewise.
        """
        real, fake = self.discriminator_input(real), self.discriminator_input(fake)
        discriminate = partial(self.discriminator, training=True)
        real_logits, fake_logits = discriminate(real), discriminate(fake)
        penalty, recorded = self.regularization.penalty(discriminate, real, fake)
        loss = self.loss_pair.discriminator(real_logits, fake_logits) + penalty
        return loss, self.discriminator_metrics(real_logits, fake_logits) | recorded

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """G's loss, one value a row.

        Args:
            fake: G(z), (batch, height, width, channels) in [-1, 1].
            real: images, likewise; for a relativistic loss and for feature matching.
        """
        loss, _ = self.adversarial_generator_loss(self.features, fake, real)
        return loss

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What D's last layer is given, (batch, size), and its logits, in training mode."""
        return with_features(self.discriminator, "logit")(images, training=True)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """Algorithm 1: k updates of D, then one of G; the schedule says on which fakes G is updated."""
        draws = self.draws(data)
        *earlier, last = minibatches_of(data, self.discriminator_steps, "discriminator_steps")
        for real in earlier:
            self.minimize("discriminator", partial(self.discriminator_loss, real, self.fakes(draws)))
        fakes = self.hold("generator", lambda: self.fakes(draws))
        update = {"shared": self.shared, "alternating": self.alternating, "simultaneous": self.simultaneous}
        (discriminator_loss, recorded), generator_loss = update[self.schedule](draws, last, fakes)
        return self.record(discriminator_loss=discriminator_loss, generator_loss=generator_loss, **recorded)

    def shared(self, draws: Draws, real: Tensor, fakes: Held) -> tuple[Rows, Rows]:
        """D is updated; then G on the same fakes, scored again by the updated D."""
        discriminator = self.minimize("discriminator", partial(self.discriminator_loss, real, fakes.output))
        return discriminator, self.minimize("generator", partial(self.generator_loss, fakes.output, real), fakes)

    def alternating(self, draws: Draws, real: Tensor, fakes: Held) -> tuple[Rows, Rows]:
        """D is updated; then G on fresh fakes, as published."""
        discriminator = self.minimize("discriminator", partial(self.discriminator_loss, real, fakes.output))
        fresh = self.hold("generator", lambda: self.fakes(draws))
        return discriminator, self.minimize("generator", partial(self.generator_loss, fresh.output, real), fresh)

    def simultaneous(self, draws: Draws, real: Tensor, fakes: Held) -> tuple[Rows, Rows]:
        """Both gradients are taken before either player is updated."""
        of_discriminator = partial(self.discriminator_loss, real, fakes.output)
        of_generator = partial(self.generator_loss, fakes.output, real)
        discriminator = self.compute_gradients("discriminator", of_discriminator)
        generator = self.compute_gradients("generator", of_generator, through=fakes)
        return self.apply_gradients(discriminator), self.apply_gradients(generator)

    def fakes(self, draws: Draws) -> Tensor:
        """G(z) for a fresh z, (batch, height, width, channels) in [-1, 1]."""
        return self.generator(PRIORS[self.prior](draws, self.latent_dim), training=True)

    def logits(self, batch: Any) -> Tensor:
        """D's logits of a batch's images, (batch, 1), in inference mode."""
        return self.discriminator(images_of(batch), training=False)
