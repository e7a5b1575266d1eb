"""Conditional GANs: arXiv:1411.1784, with an auxiliary classifier arXiv:1610.09585, with projection arXiv:1802.05637.

generator = G, discriminator = D, latents = z, labels = y (AC-GAN: c), logits = D before its sigmoid, class_weight of
AC-GAN = 1, discriminator_steps of projection: n_dis = 5.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, final

import keras
from keras import ops

from zoo.core.ability import Ability
from zoo.core.arguments import checked_image_shape, choose, class_names
from zoo.core.batch import images_of, labeled_minibatches_of, labels_of
from zoo.core.model import GenerativeModel
from zoo.core.noise import Draws
from zoo.core.types import Tensor
from zoo.losses.adversarial import LOSSES
from zoo.losses.classification import correct, cross_entropy
from zoo.losses.regularization import Regularization
from zoo.losses.rows import per_row
from zoo.networks import conditional
from zoo.networks.convolutional import Minibatch, Norm
from zoo.networks.functional import averaged, with_features

GENERATOR_CONDITIONS = {"batch_norm": True, "concatenation": False}


@final
class ConditionalGAN(GenerativeModel):
    """G draws an image of the class it is asked for; D judges images beside their class, or names it.

    Args:
        image_shape: (size, size, channels), size a power of two >= 8; images are float32 in [-1, 1].
        classes: their names, by number.
        latent_dim: length of z.
        width: channels of the largest map of both networks, which are DCGAN's.
        generator_condition: "batch_norm": each class has its own scales and shifts; "concatenation": the class stands
            beside z.
        discriminator_condition: "projection", "concatenation" (beside the image) or "auxiliary_classifier".
        discriminator_norm: "spectral" as published with projection, "batch", "layer" or "none".
        dropout: rate after every activation of D.
        minibatch: "stddev" or "discrimination": D's last layers see how the rows of a batch differ.
        loss: a pair of `ADVERSARIAL_LOSSES` or of `RELATIVISTIC_LOSSES`: each sample against the image of its row,
            which is of its class.
        class_weight: of the auxiliary classifier's cross-entropy, in both players' losses.
        discriminator_steps: k, updates of D before one of G, each with images, classes and latents of its own.
        stabilizers: remedies by name, the arguments of `zoo.core.stabilizers.Regularization`.
        ema_decay: of the moving average of G that is sampled and exported; None for G itself.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        classes: Sequence[str],
        latent_dim: int = 100,
        width: int = 64,
        generator_condition: Literal["batch_norm", "concatenation"] = "batch_norm",
        discriminator_condition: Literal["projection", "concatenation", "auxiliary_classifier"] = "projection",
        discriminator_norm: Norm = "spectral",
        dropout: float = 0.0,
        minibatch: Minibatch = "none",
        loss: str = "hinge",
        class_weight: float = 1.0,
        discriminator_steps: int = 1,
        stabilizers: Mapping[str, Any] | None = None,
        ema_decay: float | None = 0.999,
    ):
        super().__init__()
        self.classes = class_names(classes)
        shape, count = checked_image_shape(image_shape), len(classes)
        if not class_weight > 0.0:
            raise ValueError(f"class_weight={class_weight}: choose a number > 0.")
        if discriminator_steps < 1:
            raise ValueError(f"discriminator_steps={discriminator_steps}: choose at least 1.")
        choose("discriminator_condition", discriminator_condition, conditional.CONDITIONS)
        conditional_norm = choose("generator_condition", generator_condition, GENERATOR_CONDITIONS)
        self.stabilizers = Regularization.chosen(stabilizers or {})
        self.game = self.stabilizers.smoothed(choose("loss", loss, LOSSES))
        self.names_classes = discriminator_condition == "auxiliary_classifier"
        self.last = "psi" if discriminator_condition == "projection" else "logit"
        self.class_weight = class_weight
        self.discriminator_steps = self.minibatches_per_step = discriminator_steps
        self.latent_dim = latent_dim
        build = partial(conditional.generator, shape, latent_dim, count, width, conditional_norm)
        self.generator = build()
        self.discriminator = conditional.discriminator(
            shape, count, width, discriminator_condition, discriminator_norm, dropout, minibatch
        )
        self.generator_ema, averages = averaged(self.generator, build, ema_decay)
        trackers = ["discriminator_loss", "generator_loss", "real_score", "fake_score", "discriminator_accuracy"]
        trackers += ["real_class_accuracy", "fake_class_accuracy"] * self.names_classes
        self.stabilizers.require_per_sample(self.discriminator)
        self.setup(*trackers, *self.stabilizers.names, averages=averages)
        self.stabilizers.attach(self.players, self.variables_of, "discriminator")

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """D and G."""
        return {"discriminator": (self.discriminator,), "generator": (self.generator,)}

    def abilities(self) -> Mapping[str, Ability]:
        """generate: latent and label -> image, by the averaged G."""
        return {
            "generate": Ability(
                self.generator_ema,
                {"latent": "normal", "label": "label"},
                {"image": "image"},
                {"image": (-1.0, 1.0)},
                {"label": self.classes},
            )
        }

    def judged(self, images: Tensor, labels: Tensor, training: bool = True) -> tuple[Tensor, Tensor | None]:
        """D's logits, (batch, 1), and those of the classes, (batch, classes), or None where D is told the class."""
        if self.names_classes:
            return self.discriminator(images, training=training)
        return self.discriminator([images, labels], training=training), None

    def features(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """What D's last layer is given of an image, (batch, size), and both of `judged`, in training mode."""
        judge = with_features(self.discriminator, self.last)
        if self.names_classes:
            return judge(images, training=True)
        return (*judge([images, labels], training=True), None)

    def discriminator_loss(self, real: Tensor, fake: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """D's side of the game, one value a row; AC-GAN adds the cross-entropy of both sides (its L_C)."""
        real, fake = self.seen(real), self.seen(fake)
        real_logits, real_classes = self.judged(real, labels)
        fake_logits, fake_classes = self.judged(fake, labels)
        penalty, penalties = self.stabilizers.penalty(lambda images: self.judged(images, labels)[0], real, fake)
        loss = self.game.discriminator(real_logits, fake_logits) + penalty
        loss = loss + self.stabilizers.history("discriminator")
        recorded = {
            "real_score": self.scores(real_logits),
            "fake_score": self.scores(fake_logits),
            "discriminator_accuracy": self.game.accuracy(real_logits, fake_logits),
            **penalties,
            **self.stabilizers.overfitting(self.game, real_logits),
        }
        if real_classes is None or fake_classes is None:
            return loss, recorded
        named = cross_entropy(real_classes, labels) + cross_entropy(fake_classes, labels)
        recorded["real_class_accuracy"] = correct(real_classes, labels)
        recorded["fake_class_accuracy"] = correct(fake_classes, labels)
        return loss + self.class_weight * named, recorded

    def generator_loss(self, fake: Tensor, held_back: Tensor, labels: Tensor, real: Tensor | None = None) -> Tensor:
        """G's side of the game, one value a row; AC-GAN adds the cross-entropy of what was asked for.

        Args:
            fake: G(z, y), (batch, height, width, channels) in [-1, 1].
            held_back: historical averaging's term, a scalar.
            labels: y, (batch,) integers.
            real: images of these classes, likewise; for a relativistic loss and for feature matching.
        """
        fake = self.seen(fake)
        if self.game.paired or self.stabilizers.matches:
            real_features, real_logits, _ = self.features(self.seen(real), labels)
            fake_features, fake_logits, class_logits = self.features(fake, labels)
        else:
            fake_logits, class_logits = self.judged(fake, labels)
        sides = (fake_logits, real_logits) if self.game.paired else (fake_logits,)
        loss = self.game.generator(*sides) + held_back
        if self.stabilizers.matches:
            loss = loss + self.stabilizers.matching(real_features, fake_features)
        return loss if class_logits is None else loss + self.class_weight * cross_entropy(class_logits, labels)

    def seen(self, images: Tensor) -> Tensor:
        """What D is shown of images or samples."""
        return self.stabilizers.see(images, self.step.read_value())

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """D moves k times, then G on D's last fakes, scored again; fakes are of the classes of D's images."""
        draws = self.draws(data)
        *earlier, (real, labels) = labeled_minibatches_of(data, self.discriminator_steps, "discriminator_steps")
        for images, names in earlier:
            self.minimize("discriminator", partial(self.discriminator_loss, images, self.fakes(draws, names), names))
        fakes = self.hold("generator", lambda: (self.fakes(draws, labels), self.stabilizers.history("generator")))
        fake, held_back = fakes.output
        loss = partial(self.discriminator_loss, real, fake, labels)
        discriminator_loss, recorded = self.minimize("discriminator", loss)
        loss = partial(self.generator_loss, fake, held_back, labels, real)
        generator_loss = self.minimize("generator", loss, through=fakes)
        recorded = self.stabilizers.adapt(recorded, self.discriminator_steps)
        self.stabilizers.remember(self.step)
        return self.record(discriminator_loss=discriminator_loss, generator_loss=generator_loss, **recorded)

    def fakes(self, draws: Draws, labels: Tensor) -> Tensor:
        """G(z, y) for a fresh z, (batch, height, width, channels) in [-1, 1]."""
        return self.generator([draws.normal(self.latent_dim), labels], training=True)

    def scores(self, logits: Tensor) -> Tensor:
        """D(x), one value a row: a probability where the loss makes it one, otherwise the bare logit."""
        return per_row(self.game.score(logits))

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """D in inference mode on training images and on held-out ones: a gap says that D memorizes.

        Args:
            training: {"image": (count, height, width, channels) in [-1, 1], "label": (count,)}.
            held_out: images that training never shows, likewise.
        """
        sides = {"train_score": training, "held_out_score": held_out}
        return {
            name: ops.mean(self.scores(self.judged(images_of(side), labels_of(side), training=False)[0]))
            for name, side in sides.items()
        }
