"""SRGAN (arXiv:1609.04802).  generator = G, discriminator = D, extractor = phi; I^LR is I^HR scaled down."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, final

import keras
import numpy as np
from keras import ops

from serving.images import interleave
from zoo.core.ability import Ability, upscale_ability
from zoo.core.arguments import check_counts, check_image_shape
from zoo.core.batch import images_of
from zoo.core.model import GenerativeModel
from zoo.core.types import Tensor
from zoo.layers.resampling import resize_bicubic
from zoo.losses.adversarial import LOSSES
from zoo.losses.reconstruction import mean_squared_error, peak_signal_to_noise
from zoo.losses.rows import per_row
from zoo.networks import srresnet
from zoo.networks.functional import with_image_in_range

PREVIEWED = 16


@final
class SRGAN(GenerativeModel):
    """G begins as SRResNet; then it learns from a classifier's maps, and to make D take what it enlarged for images.

    Args:
        image_shape: (height, width, channels) of the large images, float32 in [-1, 1]; sides are multiples of `scale`.
        scale: how many times as high and wide images become, 2 or 4.
        width: channels of G's maps.
        blocks: residual blocks of G.
        discriminator_width: channels of D's largest maps.
        pretraining_steps: the first train steps, in which G alone learns, by the mean squared error of pixels.
        adversarial_weight: of -log D(G(I^LR)), beside the content loss.
        extractor: a classifier's preset, whose maps the content loss compares; see `attach_extractor`. None compares
            pixels, the paper's SRGAN-MSE.
        content_layer: of the extractor, whose output is compared.
        feature_scale: what the maps are multiplied by before; 1 / 12.75 as published, for VGG19.

    Raises:
        ValueError: another factor, sides that it does not divide, or a number out of its range.
    """

    occasional_metrics = (
        *("content_loss", "adversarial_loss", "discriminator_loss"),
        *("real_score", "fake_score", "discriminator_accuracy"),
    )
    plan: Literal["pretraining", "adversarial"]

    def __init__(
        self,
        image_shape: Sequence[int],
        scale: int = 4,
        width: int = 64,
        blocks: int = 16,
        discriminator_width: int = 64,
        pretraining_steps: int = 1_000_000,
        adversarial_weight: float = 1e-3,
        extractor: str | None = None,
        content_layer: str = "relu_3_2",
        feature_scale: float = 0.0784,
    ):
        super().__init__()
        shape = check_image_shape(image_shape)
        check_counts(width=width, blocks=blocks, discriminator_width=discriminator_width)
        srresnet.check_scale(shape, scale)
        if pretraining_steps < 0 or adversarial_weight < 0:
            raise ValueError(
                f"pretraining_steps={pretraining_steps}, adversarial_weight={adversarial_weight}: choose numbers >= 0."
            )
        if not feature_scale > 0:
            raise ValueError(f"feature_scale={feature_scale}: choose a number > 0.")
        self.image_shape = shape
        self.scale = scale
        self.small_sides = (shape[0] // scale, shape[1] // scale)
        self.pretraining_steps = pretraining_steps
        self.adversarial_weight = adversarial_weight
        self.extractor_name = extractor
        self.content_layer = content_layer
        self.feature_scale = feature_scale
        self.loss_pair = LOSSES["non_saturating"]
        self.extractor: keras.Model | None = None
        self.generator = srresnet.generator(shape[-1], scale, width, blocks)
        self.discriminator = srresnet.discriminator(shape, discriminator_width)
        self.setup("generator_loss", "pixel_loss", *self.occasional_metrics)

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """D and G."""
        return {"discriminator": (self.discriminator,), "generator": (self.generator,)}

    def attach_extractor(self, network: keras.Model) -> None:
        """Give the content loss its maps; needed before a train step of a model that was built with an `extractor`.

        The network is never trained nor exported; a checkpoint holds its weights.

        Args:
            network: image (batch, *image_shape) in [-1, 1] -> the maps of `content_layer`.

        Raises:
            ValueError: the model compares pixels, or its images are no input of the network.
        """
        if self.extractor_name is None:
            raise ValueError("extractor=None compares pixels, and takes no network: name the preset of a classifier.")
        taken = tuple(network.input.shape[1:])
        if taken != self.image_shape:
            raise ValueError(
                f"extractor={self.extractor_name!r} takes images of {taken}, and here they are {self.image_shape}: "
                "choose a classifier of that size, or extractor=None, which compares pixels."
            )
        network.trainable = False
        self.extractor = network

    def plan_of(self, step: int) -> Literal["pretraining", "adversarial"]:
        """Whether G alone learns, by pixels, or G and D against each other."""
        return "pretraining" if step < self.pretraining_steps else "adversarial"

    def updated_variables(self, player: str) -> list[keras.Variable]:
        """All of the player's; none of D's while G learns alone."""
        return [] if (player, self.plan) == ("discriminator", "pretraining") else self.variables_of(player)

    def fresh_optimizers(self, step: int) -> Sequence[str]:
        """G's where D comes in: the published runs of SRResNet and SRGAN are two."""
        return ("generator",) if step == self.pretraining_steps else ()

    def abilities(self) -> Mapping[str, Ability]:
        """upscale: image -> upscaled, `scale` times as high and wide; of any size."""
        return {"upscale": upscale_ability(with_image_in_range(self.generator, "upscaled"), self.scale)}

    @property
    def score_kind(self) -> Literal["probability", "logit"]:
        """What `real_score` and `fake_score` are."""
        return self.loss_pair.score_kind

    def discriminator_loss(self, images: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """-log D(I^HR) - log(1 - D(G(I^LR)))  (eq. 2, negated), one value per row.

        Args:
            images: I^HR, (batch, height, width, channels) in [-1, 1].
            fake: G(I^LR), likewise.

        Returns:
            The loss, and what is recorded of the scores.
        """
        real_logits, fake_logits = (self.discriminator(each, training=True) for each in (images, fake))
        metrics = {
            "real_score": per_row(self.loss_pair.score(real_logits)),
            "fake_score": per_row(self.loss_pair.score(fake_logits)),
            "discriminator_accuracy": self.loss_pair.accuracy(real_logits, fake_logits),
        }
        return self.loss_pair.discriminator(real_logits, fake_logits), metrics

    def generator_loss(self, images: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The content loss - adversarial_weight log D(G(I^LR))  (eq. 3 and 6), one value per row, and its terms."""
        content = self.content_loss(images, fake)
        adversarial = self.loss_pair.generator(self.discriminator(fake, training=True))
        terms = {"content_loss": content, "adversarial_loss": adversarial}
        return content + self.adversarial_weight * adversarial, terms | {"pixel_loss": mean_squared_error(fake, images)}

    def content_loss(self, images: Tensor, fake: Tensor) -> Tensor:
        """mean over all values of (phi(I^HR) - phi(G(I^LR)))^2  (eq. 5), phi multiplied by `feature_scale`.

        Without an extractor phi is the image itself  (eq. 4).
        """
        if self.extractor is None:
            return mean_squared_error(fake, images)
        maps, made = (ops.cast(self.extractor(each, training=False), each.dtype) for each in (images, fake))
        return self.feature_scale**2 * mean_squared_error(made, maps)

    def reduce(self, images: Tensor) -> Tensor:
        """I^LR of I^HR, (batch, height / scale, width / scale, channels)."""
        return resize_bicubic(images, self.small_sides)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """One update of G by pixels; or one of D, then one of G on the same images, scored again.

        Raises:
            ValueError: the model was built with an extractor, and none is attached.
        """
        if self.extractor_name is not None and self.extractor is None:
            raise ValueError(
                f"extractor={self.extractor_name!r} has not been attached: `zoo train` does that; in Python, "
                "`model.attach_extractor(network)` takes the classifier up to its content_layer."
            )
        self.draws(data)
        images = images_of(data)
        small = self.reduce(images)
        fake = self.hold("generator", lambda: self.generator(small, training=True))
        if self.plan == "pretraining":
            loss = self.minimize("generator", partial(mean_squared_error, fake.output, images), through=fake)
            return self.record(generator_loss=loss, pixel_loss=loss)
        of_discriminator = partial(self.discriminator_loss, images, fake.output)
        discriminator_loss, scores = self.minimize("discriminator", of_discriminator)
        of_generator = partial(self.generator_loss, images, fake.output)
        generator_loss, terms = self.minimize("generator", of_generator, through=fake)
        return self.record(generator_loss=generator_loss, discriminator_loss=discriminator_loss, **scores, **terms)

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """The mean score, and the mean PSNR in dB over all channels, of training images and of held-out ones.

        Args:
            training: {"image": (count, height, width, channels) in [-1, 1]}.
            held_out: images that training never shows, likewise.
        """
        found = {}
        for name, batch in {"train": training, "held_out": held_out}.items():
            images = images_of(batch)
            found[f"{name}_score"] = ops.mean(self.loss_pair.score(self.discriminator(images, training=False)))
            found[f"{name}_psnr"] = ops.mean(peak_signal_to_noise(self.upscale_again(images), images))
        return found

    def upscale_again(self, images: Tensor) -> Tensor:
        """Images scaled down and enlarged, in inference mode, likewise in [-1, 1]."""
        return ops.clip(self.generator(self.reduce(images), training=False), -1.0, 1.0)

    def preview(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Of each of the first images: enlarged by the bicubic filter, by G, itself, the error's size."""
        images = np.asarray(images_of(batch)[:PREVIEWED])
        small = self.reduce(images)
        made = self._first_output("upscale", image=np.asarray(small))
        filtered = resize_bicubic(small, images.shape[1:3])
        return interleave([filtered, made, images, np.abs(made - images) - 1.0], (-1.0, 1.0))
