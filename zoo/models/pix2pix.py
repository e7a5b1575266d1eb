"""pix2pix (arXiv:1611.07004).  translator = G, discriminator = D; x is translated, y is what it should become."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, final

import keras
import numpy as np
from keras import ops

from serving.images import interleave
from zoo.core.ability import Ability
from zoo.core.arguments import check_counts, check_image_shape, choose
from zoo.core.batch import images_of, targets_of
from zoo.core.model import GenerativeModel
from zoo.core.noise import Draws
from zoo.core.types import Tensor
from zoo.layers import augmentation
from zoo.layers.resampling import resize_bicubic
from zoo.losses.adversarial import LOSSES
from zoo.losses.reconstruction import absolute_error
from zoo.losses.rows import per_row
from zoo.networks import patchgan, unet

RANGE = (-1.0, 1.0)
DIRECTIONS = ("a_to_b", "b_to_a")
PREVIEWED = 16


@final
class Pix2Pix(GenerativeModel):
    """G learns to translate images of which pairs are known, against a D that sees an image beside its translation.

    Args:
        image_shape: (height, width, channels) of both collections; images are float32 in [-1, 1].
        direction: "a_to_b" or "b_to_a", which collection is translated into which.
        width: channels of the translator's largest maps.
        halvings: of the translator's maps; None for as many as bring the image to 1x1, at most the published 8.
        dropout: rate within the translator, which is its only noise; training alone has it here.
        discriminator_width: channels of the discriminator's first maps.
        discriminator_halvings: of its maps; None for 2, patches of 34x34 pixels, or 3, of 70x70, from 128 pixels on.
        distance_weight: lambda, of |G(x) - y|.
        jitter: by how much training pairs are enlarged before a box of their size is cut out at random, as a share of
            their sides; 0 leaves them as they are.
        mirror: whether every second training pair, on average, is mirrored left to right.

    Raises:
        ValueError: an unknown direction or a number out of its range.
    """

    collections = "paired"

    def __init__(
        self,
        image_shape: Sequence[int],
        direction: Literal["a_to_b", "b_to_a"] = "a_to_b",
        width: int = 64,
        halvings: int | None = None,
        dropout: float = unet.DROPOUT,
        discriminator_width: int = 64,
        discriminator_halvings: int | None = None,
        distance_weight: float = 100.0,
        jitter: float = 0.1171875,  # 30 / 256
        mirror: bool = True,
    ):
        super().__init__()
        shape = check_image_shape(image_shape)
        choose("direction", direction, dict.fromkeys(DIRECTIONS))
        check_counts(width=width, halvings=halvings, discriminator_width=discriminator_width)
        check_counts(discriminator_halvings=discriminator_halvings)
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout={dropout}: choose from [0, 1).")
        if distance_weight < 0:
            raise ValueError(f"distance_weight={distance_weight}: choose a number >= 0; 0 leaves it out.")
        if not 0.0 <= jitter <= 1.0:
            raise ValueError(f"jitter={jitter}: choose from [0, 1].")
        self.direction, self.sides, self.mirror = direction, shape[:2], mirror
        self.enlarged = round(shape[0] * (1 + jitter)), round(shape[1] * (1 + jitter))
        self.distance_weight = distance_weight
        self.loss_pair = LOSSES["non_saturating"]
        channels = shape[-1]
        self.translator = unet.translator(
            (channels, channels), width, halvings or unet.count_halvings(shape), dropout, name=direction
        )
        self.discriminator = patchgan.discriminator(
            2 * channels, discriminator_width, discriminator_halvings or patchgan.choose_halvings(shape), "batch"
        )
        losses = ("translator_loss", "discriminator_loss", "distance")
        self.setup(*losses, "real_score", "fake_score", "discriminator_accuracy")

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """D and G."""
        return {"discriminator": (self.discriminator,), "translator": (self.translator,)}

    def abilities(self) -> Mapping[str, Ability]:
        """translate_a_to_b or translate_b_to_a: image -> translation of the same size, which may be any."""
        ranges = {"image": RANGE, "translation": RANGE}
        ability = Ability(self.translator, {"image": "image"}, {"translation": "image"}, ranges)
        return {f"translate_{self.direction}": ability}

    @property
    def score_kind(self) -> Literal["probability", "logit"]:
        """What `real_score` and `fake_score` are."""
        return self.loss_pair.score_kind

    def pairs_of(self, batch: Any) -> tuple[Tensor, Tensor]:
        """x and y of a batch, in the direction that is translated."""
        a, b = images_of(batch), targets_of(batch)
        return (a, b) if self.direction == "a_to_b" else (b, a)

    def augment(self, x: Tensor, y: Tensor, draw: Draws) -> tuple[Tensor, Tensor]:
        """Both images of each pair jittered and mirrored alike (section 6.2)."""
        pair = ops.concatenate([x, y], axis=-1)
        if self.enlarged != self.sides:
            pair = augmentation.crop(resize_bicubic(pair, self.enlarged), draw.uniform(2), self.sides)
        if self.mirror:
            pair = augmentation.flip(pair, draw.uniform())
        x, y = ops.split(pair, 2, axis=-1)
        return x, y

    def logits(self, x: Tensor, y: Tensor, training: bool) -> Tensor:
        """D(x, y) of patches, (batch, rows, columns, 1)."""
        return self.discriminator(ops.concatenate([x, y], axis=-1), training=training)

    def discriminator_loss(self, x: Tensor, y: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """-1/2 log D(x, y) - 1/2 log(1 - D(x, G(x)))  (eq. 1, negated; halved: section 3.3), one value per row.

        Args:
            x: (batch, height, width, channels) in [-1, 1].
            y: likewise.
            fake: G(x), likewise.

        Returns:
            The loss, and what is recorded of the scores.
        """
        real_logits, fake_logits = self.logits(x, y, training=True), self.logits(x, fake, training=True)
        metrics = {
            "real_score": per_row(self.loss_pair.score(real_logits)),
            "fake_score": per_row(self.loss_pair.score(fake_logits)),
            "discriminator_accuracy": self.loss_pair.accuracy(real_logits, fake_logits),
        }
        return 0.5 * self.loss_pair.discriminator(real_logits, fake_logits), metrics

    def translator_loss(self, x: Tensor, y: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """-log D(x, G(x)) + lambda |G(x) - y|  (eq. 4), one value per row, and the distance without its weight."""
        distance = absolute_error(fake, y)
        adversarial = self.loss_pair.generator(self.logits(x, fake, training=True))
        return adversarial + self.distance_weight * distance, {"distance": distance}

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """One update of D, then one of G on the same translation, scored again (section 3.3)."""
        x, y = self.augment(*self.pairs_of(data), self.draws(data))
        fake = self.hold("translator", lambda: self.translator(x, training=True))
        loss_of_discriminator = partial(self.discriminator_loss, x, y, fake.output)
        discriminator_loss, metrics = self.minimize("discriminator", loss_of_discriminator)
        loss_of_translator = partial(self.translator_loss, x, y, fake.output)
        translator_loss, distance = self.minimize("translator", loss_of_translator, through=fake)
        losses = {"translator_loss": translator_loss, "discriminator_loss": discriminator_loss}
        return self.record(**losses, **distance, **metrics)

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """The mean score of pairs, and |G(x) - y|, of training images and of held-out ones.

        Args:
            training: a batch of training data, as `train_step` takes it.
            held_out: images that training never shows, likewise.
        """
        found = {}
        for name, batch in {"train": training, "held_out": held_out}.items():
            x, y = self.pairs_of(batch)
            found[f"{name}_score"] = ops.mean(self.loss_pair.score(self.logits(x, y, training=False)))
            found[f"{name}_distance"] = ops.mean(absolute_error(self.translator(x, training=False), y))
        return found

    def preview(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """x, G(x), y and |G(x) - y| of the first images, one after the other."""
        x, y = (np.asarray(each[:PREVIEWED]) for each in self.pairs_of(batch))
        made = self._first_output(f"translate_{self.direction}", image=x)
        return interleave([x, made, y, np.abs(made - y) - 1.0], RANGE)
