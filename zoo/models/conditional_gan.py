"""Conditional GANs: arXiv:1411.1784, with an auxiliary classifier arXiv:1610.09585, with projection arXiv:1802.05637.

generator = G, discriminator = D, latents = z, labels = y (AC-GAN: c), logits = D before its sigmoid, class_weight of
AC-GAN = 1, discriminator_steps of projection: n_dis = 5.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, Unpack, final

import keras

from zoo.core.ability import Ability, generate_ability
from zoo.core.arguments import check_class_names, check_counts, check_image_shape, choose
from zoo.core.batch import images_of, labeled_minibatches_of, labels_of
from zoo.core.noise import Draws
from zoo.core.types import Tensor
from zoo.losses.adversarial import LOSSES, LossName
from zoo.losses.classification import correct, cross_entropy
from zoo.losses.regularization import Regularization, RegularizationOptions
from zoo.models.adversarial import AdversarialModel
from zoo.networks import conditional
from zoo.networks.convolutional import Minibatch, Norm
from zoo.networks.functional import with_ema, with_features

GENERATOR_CONDITIONS = {"batch_norm": True, "concatenation": False}


@final
class ConditionalGAN(AdversarialModel):
    """G draws an image of the class it is asked for; D scores images beside their class, or names it.

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
        minibatch: "stddev" or "discrimination", what D's last layers see of how the rows of a batch differ; or "none".
        loss: the pair that D and G minimize; "relativistic" ones compare each sample with the image of its row, which
            is of its class.
        class_weight: of the auxiliary classifier's cross-entropy, in both players' losses.
        discriminator_steps: k, updates of D before one of G, each with images, classes and latents of its own.
        ema_decay: decay of the moving average of G that is sampled and exported, 0 <= ema_decay < 1; None for G itself.
        **regularization: arguments of `zoo.losses.regularization.Regularization`, such as r1=10.0.

    Raises:
        ValueError: an unknown choice, a number out of its range, or a gradient penalty beside batch norm.
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
        loss: LossName = "hinge",
        class_weight: float = 1.0,
        discriminator_steps: int = 1,
        ema_decay: float | None = 0.999,
        **regularization: Unpack[RegularizationOptions],
    ):
        super().__init__()
        self.classes = check_class_names(classes)
        shape, count = check_image_shape(image_shape), len(classes)
        if not class_weight > 0.0:
            raise ValueError(f"class_weight={class_weight}: choose a number > 0.")
        check_counts(latent_dim=latent_dim, width=width, discriminator_steps=discriminator_steps)
        choose("discriminator_condition", discriminator_condition, conditional.CONDITIONS)
        conditional_norm = choose("generator_condition", generator_condition, GENERATOR_CONDITIONS)
        self.regularization = Regularization.from_options(regularization)
        self.loss_pair = self.regularization.smooth_labels(choose("loss", loss, LOSSES))
        self.names_classes = discriminator_condition == "auxiliary_classifier"
        self.last = "psi" if discriminator_condition == "projection" else "logit"
        self.class_weight = class_weight
        self.discriminator_steps = self.minibatches_per_step = discriminator_steps
        self.latent_dim = latent_dim
        build_generator = partial(conditional.generator, shape, latent_dim, count, width, conditional_norm)
        self.generator = build_generator()
        self.discriminator = conditional.discriminator(
            shape, count, width, discriminator_condition, discriminator_norm, dropout, minibatch
        )
        self.regularization.require_per_sample(self.discriminator)
        self.generator_ema, ema = with_ema(self.generator, build_generator, ema_decay)
        metric_names = ["discriminator_loss", "generator_loss", "real_score", "fake_score", "discriminator_accuracy"]
        if self.names_classes:
            metric_names += ["real_class_accuracy", "fake_class_accuracy"]
        self.setup(*metric_names, ema=ema)

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """D and G."""
        return {"discriminator": (self.discriminator,), "generator": (self.generator,)}

    def abilities(self) -> Mapping[str, Ability]:
        """generate: latent and label -> image, by the EMA of G."""
        return {"generate": generate_ability(self.generator_ema, "normal", self.classes)}

    def discriminate(self, images: Tensor, labels: Tensor, training: bool = True) -> tuple[Tensor, Tensor | None]:
        """D's logits, (batch, 1), and those of the classes, (batch, classes), or None where D is given the class."""
        if self.names_classes:
            return self.discriminator(images, training=training)
        return self.discriminator([images, labels], training=training), None

    def features_and_logits(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """What D's last layer is given of an image, (batch, size), and both of `discriminate`, in training mode."""
        network = with_features(self.discriminator, self.last)
        if self.names_classes:
            return network(images, training=True)
        return (*network([images, labels], training=True), None)

    def discriminator_loss(self, real: Tensor, fake: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """D's loss, one value per row; AC-GAN adds the cross-entropy of images' and samples' classes (its L_C).

        Args:
            real: x, (batch, height, width, channels) in [-1, 1].
            fake: G(z, y), likewise.
            labels: y, (batch,) integers, the classes of both.
        """
        real, fake = self.discriminator_input(real), self.discriminator_input(fake)
        real_logits, real_classes = self.discriminate(real, labels)
        fake_logits, fake_classes = self.discriminate(fake, labels)
        penalty, recorded = self.regularization.penalty(lambda images: self.discriminate(images, labels)[0], real, fake)
        loss = self.loss_pair.discriminator(real_logits, fake_logits) + penalty
        recorded = self.discriminator_metrics(real_logits, fake_logits) | recorded
        if real_classes is None or fake_classes is None:
            return loss, recorded
        named = cross_entropy(real_classes, labels) + cross_entropy(fake_classes, labels)
        recorded["real_class_accuracy"] = correct(real_classes, labels)
        recorded["fake_class_accuracy"] = correct(fake_classes, labels)
        return loss + self.class_weight * named, recorded

    def generator_loss(self, fake: Tensor, labels: Tensor, real: Tensor | None = None) -> Tensor:
        """G's loss, one value per row; AC-GAN adds the cross-entropy of the classes that were asked for.

        Args:
            fake: G(z, y), (batch, height, width, channels) in [-1, 1].
            labels: y, (batch,) integers.
            real: images of these classes, likewise; for a relativistic loss and for feature matching.
        """
        loss, (classes,) = self.adversarial_generator_loss(partial(self.features_and_logits, labels=labels), fake, real)
        return loss if classes is None else loss + self.class_weight * cross_entropy(classes, labels)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """k updates of D, then one of G on D's last fakes, scored again; fakes are of the classes of D's images."""
        draws = self.draws(data)
        *earlier, (real, labels) = labeled_minibatches_of(data, self.discriminator_steps, "discriminator_steps")
        earlier_updates = []
        for images, classes in earlier:
            loss = partial(self.discriminator_loss, images, self.fakes(draws, classes), classes)
            earlier_updates.append(self.minimize("discriminator", loss))
        fakes = self.hold("generator", lambda: self.fakes(draws, labels))
        loss = partial(self.discriminator_loss, real, fakes.output, labels)
        last_update = self.minimize("discriminator", loss)
        loss = partial(self.generator_loss, fakes.output, labels, real)
        generator_loss = self.minimize("generator", loss, through=fakes)
        metrics = self.metrics_of_updates([*earlier_updates, last_update])
        return self.record(discriminator_loss=last_update[0], generator_loss=generator_loss, **metrics)

    def fakes(self, draws: Draws, labels: Tensor) -> Tensor:
        """G(z, y) for a fresh z, (batch, height, width, channels) in [-1, 1]."""
        return self.generator([draws.normal(self.latent_dim), labels], training=True)

    def logits(self, batch: Any) -> Tensor:
        """D's logits of a batch's images beside their classes, (batch, 1), in inference mode."""
        return self.discriminate(images_of(batch), labels_of(batch), training=False)[0]
