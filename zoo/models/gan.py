"""GAN (arXiv:1406.2661).  generator = G, discriminator = D, latents = z, discriminator_steps = k of Algorithm 1."""

import inspect
from collections.abc import Callable, Mapping, Sequence
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
from zoo.core.step import Held, Rows
from zoo.core.types import Tensor
from zoo.losses.adversarial import LOSSES, least_squares
from zoo.losses.regularization import Regularization
from zoo.losses.rows import per_row
from zoo.networks import convolutional, mlp, residual
from zoo.networks.convolutional import Minibatch, Norm
from zoo.networks.functional import averaged, with_features

ARCHITECTURES = {"dcgan": convolutional, "mlp": mlp, "resnet": residual}
LSGAN_CODES = (0.0, 1.0, 1.0)


@final
class GAN(GenerativeModel):
    """Two networks in a game: D tells images from G(z), G learns to be mistaken for images.

    Args:
        image_shape: (height, width, channels); images are float32 in [-1, 1].
        latent_dim: length of z.
        architecture: "dcgan" (arXiv:1511.06434), "mlp" (the first paper's) or "resnet" (SN-GAN's, arXiv:1802.05957).
        width: width of both networks; None for the architecture's own.
        discriminator_width: of the discriminator, where it differs.
        discriminator_norm: "batch", "layer", "spectral" or "none", of "dcgan"; None for the architecture's own: batch
            norm, none for "mlp", spectral norm for "resnet".
        dropout: rate after every activation of D, of "dcgan".
        minibatch: "stddev" or "discrimination": D's last layers see how the rows of a batch differ, of "dcgan".
        loss: a pair of `ADVERSARIAL_LOSSES` or of `RELATIVISTIC_LOSSES`.
        codes: a, b, c of least squares: what D is to answer for G(z), for images, and what G wants it to answer.
        discriminator_steps: k, updates of D before one of G, each with images and latents of its own.
        schedule: "alternating" is Algorithm 1, with fresh latents for G's update; "shared" lets G's update reuse the
            last fakes, scored again by the updated D, and saves a forward pass; "simultaneous" takes both gradients
            before either player moves.
        prior: of z: "normal", N(0, 1), or "uniform", U(-1, 1).
        stabilizers: remedies by name, the arguments of `zoo.core.stabilizers.Regularization`.
        ema_decay: of the moving average of G that is sampled and exported; None for G itself.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int = 100,
        architecture: str = "dcgan",
        width: int | None = None,
        discriminator_width: int | None = None,
        discriminator_norm: Norm | None = None,
        dropout: float = 0.0,
        minibatch: Minibatch = "none",
        loss: str = "non_saturating",
        codes: Sequence[float] = LSGAN_CODES,
        discriminator_steps: int = 1,
        schedule: str = "shared",
        prior: Literal["normal", "uniform"] = "normal",
        stabilizers: Mapping[str, Any] | None = None,
        ema_decay: float | None = 0.999,
    ):
        super().__init__()
        build = choose("architecture", architecture, ARCHITECTURES)
        self.game = choose("loss", loss, LOSSES)
        if tuple(codes) != LSGAN_CODES:
            if loss != "least_squares" or len(codes) != 3:
                raise ValueError(f"codes={tuple(codes)}, loss={loss!r}: least_squares takes three, a, b, c.")
            self.game = least_squares(*codes)
        self.stabilizers = Regularization.chosen(stabilizers or {})
        self.game = self.stabilizers.smoothed(self.game)
        choose("schedule", schedule, SCHEDULES)
        choose("prior", prior, PRIORS)
        if discriminator_steps < 1:
            raise ValueError(f"discriminator_steps={discriminator_steps}: choose at least 1.")
        self.schedule = schedule
        self.prior: Feed = prior
        self.discriminator_steps = self.minibatches_per_step = discriminator_steps
        self.latent_dim = latent_dim
        shape, size = checked_image_shape(image_shape), {} if width is None else {"width": width}
        judged = size if discriminator_width is None else {"width": discriminator_width}
        options = {
            "norm": discriminator_norm,
            "dropout": dropout or None,
            "minibatch": None if minibatch == "none" else minibatch,
        }
        judged = {**judged, **taken(architecture, build.discriminator, options)}
        build_generator = partial(build.generator, shape, latent_dim, **size)
        self.generator = build_generator()
        self.discriminator = build.discriminator(shape, **judged)
        self.generator_ema, averages = averaged(self.generator, build_generator, ema_decay)
        self.stabilizers.require_per_sample(self.discriminator)
        trackers = ("discriminator_loss", "generator_loss", "real_score", "fake_score", "discriminator_accuracy")
        self.setup(*trackers, *self.stabilizers.names, averages=averages)
        self.stabilizers.attach(self.players, self.variables_of, "discriminator")

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """D and G."""
        return {"discriminator": (self.discriminator,), "generator": (self.generator,)}

    def abilities(self) -> Mapping[str, Ability]:
        """generate: latent -> image, by the averaged G."""
        ranges = {"image": (-1.0, 1.0)} | ({"latent": (-1.0, 1.0)} if self.prior == "uniform" else {})
        return {"generate": Ability(self.generator_ema, {"latent": self.prior}, {"image": "image"}, ranges)}

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """D's side of the game, one value a row; and the scores of both sides and how often D is right."""
        real, fake = self.seen(real), self.seen(fake)
        judge = partial(self.discriminator, training=True)
        real_logits, fake_logits = judge(real), judge(fake)
        penalty, penalties = self.stabilizers.penalty(judge, real, fake)
        held_back = self.stabilizers.history("discriminator")
        recorded = {
            "real_score": self.scores(real_logits),
            "fake_score": self.scores(fake_logits),
            "discriminator_accuracy": self.game.accuracy(real_logits, fake_logits),
            **penalties,
            **self.stabilizers.overfitting(self.game, real_logits),
        }
        return self.game.discriminator(real_logits, fake_logits) + penalty + held_back, recorded

    def generator_loss(self, fake: Tensor, held_back: Tensor | float = 0.0, real: Tensor | None = None) -> Tensor:
        """G's side of the game, one value a row.

        Args:
            fake: G(z), (batch, height, width, channels) in [-1, 1].
            held_back: historical averaging's term, a scalar.
            real: images, likewise; for a relativistic loss and for feature matching.
        """
        fake = self.seen(fake)
        if not self.game.paired and not self.stabilizers.matches:
            return self.game.generator(self.discriminator(fake, training=True)) + held_back
        real = self.seen(real)
        real_features, real_logits = self.features(real)
        fake_features, fake_logits = self.features(fake)
        sides = (fake_logits, real_logits) if self.game.paired else (fake_logits,)
        loss = self.game.generator(*sides) + held_back
        return loss + self.stabilizers.matching(real_features, fake_features) if self.stabilizers.matches else loss

    def seen(self, images: Tensor) -> Tensor:
        """What D is shown of images or samples."""
        return self.stabilizers.see(images, self.step.read_value())

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What D's last layer is given, (batch, size), and its logits, in training mode."""
        return with_features(self.discriminator, "logit")(images, training=True)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """Algorithm 1: D moves k times, then G; the schedule says on which fakes G moves."""
        draws = self.draws(data)
        *earlier, last = minibatches_of(data, self.discriminator_steps, "discriminator_steps")
        for real in earlier:
            self.minimize("discriminator", partial(self.discriminator_loss, real, self.fakes(draws)))
        fakes = self.held(draws)
        (discriminator_loss, recorded), generator_loss = SCHEDULES[self.schedule](self, draws, last, fakes)
        recorded = self.stabilizers.adapt(recorded, self.discriminator_steps)
        self.stabilizers.remember(self.step)
        return self.record(discriminator_loss=discriminator_loss, generator_loss=generator_loss, **recorded)

    def shared(self, draws: Draws, real: Tensor, fakes: Held) -> tuple[Rows, Rows]:
        """D moves; G moves on the same fakes, scored again by the updated D."""
        fake, held_back = fakes.output
        discriminator = self.minimize("discriminator", partial(self.discriminator_loss, real, fake))
        loss = partial(self.generator_loss, fake, held_back, real)
        return discriminator, self.minimize("generator", loss, through=fakes)

    def alternating(self, draws: Draws, real: Tensor, fakes: Held) -> tuple[Rows, Rows]:
        """D moves; G moves on fresh fakes, as published."""
        discriminator = self.minimize("discriminator", partial(self.discriminator_loss, real, fakes.output[0]))
        fresh = self.held(draws)
        fake, held_back = fresh.output
        loss = partial(self.generator_loss, fake, held_back, real)
        return discriminator, self.minimize("generator", loss, through=fresh)

    def simultaneous(self, draws: Draws, real: Tensor, fakes: Held) -> tuple[Rows, Rows]:
        """Both directions are taken before either player moves."""
        fake, held_back = fakes.output
        discriminator = self.compute_gradients("discriminator", partial(self.discriminator_loss, real, fake))
        loss = partial(self.generator_loss, fake, held_back, real)
        generator = self.compute_gradients("generator", loss, through=fakes)
        return self.apply_gradients(discriminator), self.apply_gradients(generator)

    def held(self, draws: Draws) -> Held:
        """G(z), and historical averaging's term, both kept open for G's update."""
        return self.hold("generator", lambda: (self.fakes(draws), self.stabilizers.history("generator")))

    def fakes(self, draws: Draws) -> Tensor:
        """G(z) for a fresh z, (batch, height, width, channels) in [-1, 1]."""
        return self.generator(PRIORS[self.prior](draws, self.latent_dim), training=True)

    def scores(self, logits: Tensor) -> Tensor:
        """D(x), one value a row: a probability where the loss makes it one, otherwise the bare logit."""
        return per_row(self.game.score(logits))

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """D in inference mode on training images and on held-out ones: a gap says that D memorizes.

        Args:
            training: images, (count, height, width, channels) in [-1, 1], or a batch that holds them.
            held_out: images that training never shows, likewise.
        """
        sides = {"train_score": images_of(training), "held_out_score": images_of(held_out)}
        return {
            name: ops.mean(self.scores(self.discriminator(images, training=False))) for name, images in sides.items()
        }


def taken(architecture: str, build: Callable[..., keras.Model], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a discriminator that were chosen.

    Raises:
        ValueError: it does not take one of them.
    """
    chosen = {name: value for name, value in options.items() if value is not None}
    strange = sorted(set(chosen) - set(inspect.signature(build).parameters))
    if strange:
        raise ValueError(f"architecture={architecture!r}: its discriminator takes no {', '.join(strange)}.")
    return chosen


SCHEDULES = {"shared": GAN.shared, "alternating": GAN.alternating, "simultaneous": GAN.simultaneous}
