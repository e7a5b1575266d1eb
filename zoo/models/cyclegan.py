"""CycleGAN (arXiv:1703.10593).  a_to_b = G, b_to_a = F, discriminator_a = D_X, discriminator_b = D_Y; X = A, Y = B."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, final

import keras
import numpy as np
from keras import ops

from serving.images import interleave
from zoo.core.ability import Ability
from zoo.core.arguments import check_counts, check_image_shape
from zoo.core.batch import images_of, rows_of, targets_of
from zoo.core.model import GenerativeModel
from zoo.core.step import LossValues
from zoo.core.types import Tensor
from zoo.layers.history import ImageHistory
from zoo.losses.adversarial import least_squares
from zoo.losses.reconstruction import absolute_error
from zoo.losses.rows import per_row
from zoo.networks import cyclegan, patchgan

RANGE = (-1.0, 1.0)
PREVIEWED = 16  # images of each collection


class Translations(NamedTuple):
    """What the translators make of a and b, each (batch, height, width, channels) in [-1, 1]; None where left out.

    Args:
        fake_b: G(a).
        fake_a: F(b).
        cycled_a: F(G(a)).
        cycled_b: G(F(b)).
        same_a: F(a).
        same_b: G(b).
    """

    fake_b: Tensor
    fake_a: Tensor
    cycled_a: Tensor | None
    cycled_b: Tensor | None
    same_a: Tensor | None
    same_b: Tensor | None


@final
class CycleGAN(GenerativeModel):
    """G and F learn to translate between two collections of images without pairs, against a discriminator of each.

    Args:
        image_shape: (height, width, channels) of both collections; images are float32 in [-1, 1].
        width: channels of the translators' largest maps.
        blocks: their residual blocks; None for the published number, 6, or 9 from 256 pixels a side on.
        discriminator_width: channels of the discriminators' first maps.
        halvings: of the discriminators' maps; None for 2, patches of 34x34 pixels, or 3, of 70x70, from 128 pixels on.
        cycle_weight: lambda, of |F(G(a)) - a| and |G(F(b)) - b|; 0 leaves them out.
        identity_weight: of |F(a) - a| and |G(b) - b|; 0 leaves them out.
        history: samples that are kept of each translator for its discriminator to see again; 0 for none.

    Raises:
        ValueError: a number out of its range.
    """

    collections = "unpaired"

    def __init__(
        self,
        image_shape: Sequence[int],
        width: int = 64,
        blocks: int | None = None,
        discriminator_width: int = 64,
        halvings: int | None = None,
        cycle_weight: float = 10.0,
        identity_weight: float = 5.0,
        history: int = 50,
    ):
        super().__init__()
        shape = check_image_shape(image_shape)
        check_counts(width=width, blocks=blocks, discriminator_width=discriminator_width, halvings=halvings)
        weights = {"cycle_weight": cycle_weight, "identity_weight": identity_weight, "history": history}
        for name, number in weights.items():
            if number < 0:
                raise ValueError(f"{name}={number}: choose a number >= 0; 0 leaves it out.")
        self.cycle_weight = cycle_weight
        self.identity_weight = identity_weight
        self.loss_pair = least_squares()
        build = partial(cyclegan.translator, (shape[-1], shape[-1]), width, blocks or cyclegan.count_blocks(shape))
        self.a_to_b, self.b_to_a = build(name="a_to_b"), build(name="b_to_a")
        build = partial(
            patchgan.discriminator, shape[-1], discriminator_width, halvings or patchgan.choose_halvings(shape)
        )
        self.discriminator_a, self.discriminator_b = build(name="discriminator_a"), build(name="discriminator_b")
        self.history_a = ImageHistory(history, shape, name="history_a") if history else None
        self.history_b = ImageHistory(history, shape, name="history_b") if history else None
        terms = [*["cycle_loss"] * (cycle_weight > 0), *["identity_loss"] * (identity_weight > 0)]
        losses = ("translator_loss", "discriminator_loss", "adversarial_loss", *terms)
        self.setup(*losses, "real_score", "fake_score", "discriminator_accuracy")

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """G and F are one, and so are their discriminators."""
        return {
            "translators": (self.a_to_b, self.b_to_a),
            "discriminators": (self.discriminator_a, self.discriminator_b),
        }

    def abilities(self) -> Mapping[str, Ability]:
        """translate_a_to_b and translate_b_to_a: image -> translation of the same size, which may be any."""
        ranges = {"image": RANGE, "translation": RANGE}
        return {
            f"translate_{network.name}": Ability(network, {"image": "image"}, {"translation": "image"}, ranges)
            for network in (self.a_to_b, self.b_to_a)
        }

    @property
    def score_kind(self) -> Literal["probability", "logit"]:
        """What `real_score` and `fake_score` are: D's targets are 1 and 0, but its scores no probabilities."""
        return self.loss_pair.score_kind

    def translations(self, a: Tensor, b: Tensor) -> Translations:
        """Everything that the translators' loss is of; a and b are (batch, height, width, channels) in [-1, 1]."""
        if self.identity_weight:  # one pass for both: no row's translation depends on another row
            fake_b, same_b = ops.split(self.a_to_b(ops.concatenate([a, b]), training=True), 2)
            fake_a, same_a = ops.split(self.b_to_a(ops.concatenate([b, a]), training=True), 2)
        else:
            fake_b, fake_a, same_a, same_b = self.a_to_b(a, training=True), self.b_to_a(b, training=True), None, None
        if not self.cycle_weight:
            return Translations(fake_b, fake_a, None, None, same_a, same_b)
        cycled_a, cycled_b = self.b_to_a(fake_b, training=True), self.a_to_b(fake_a, training=True)
        return Translations(fake_b, fake_a, cycled_a, cycled_b, same_a, same_b)

    def translator_loss(self, a: Tensor, b: Tensor, made: Translations) -> tuple[Tensor, dict[str, Tensor]]:
        """L_GAN(G) + L_GAN(F) + lambda L_cyc (eq. 3, with eq. 1 in its least-squares form) + L_identity, one a row.

        Args:
            a: x, (batch, height, width, channels) in [-1, 1].
            b: y, likewise.
            made: of these.

        Returns:
            The loss, and its terms by name, without their weights.
        """
        logits = self.discriminator_a(made.fake_a, training=True), self.discriminator_b(made.fake_b, training=True)
        loss = sum(per_row(ops.square(each - 1.0)) for each in logits)
        terms = {"adversarial_loss": loss}
        if made.cycled_a is not None:
            terms["cycle_loss"] = absolute_error(made.cycled_a, a) + absolute_error(made.cycled_b, b)
            loss = loss + self.cycle_weight * terms["cycle_loss"]
        if made.same_a is not None:
            terms["identity_loss"] = absolute_error(made.same_a, a) + absolute_error(made.same_b, b)
            loss = loss + self.identity_weight * terms["identity_loss"]
        return loss, terms

    def discriminator_loss(
        self, a: Tensor, b: Tensor, fake_a: Tensor, fake_b: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """1/2 (D(x) - 1)^2 + 1/2 D(fake)^2 of both discriminators: the objective is halved against G's (appendix 7.1).

        Args:
            a: images, (batch, height, width, channels) in [-1, 1].
            b: likewise.
            fake_a: translations into A, new ones or earlier ones.
            fake_b: likewise into B.

        Returns:
            The loss, (batch,), and what is recorded of the scores, (batch,) each: means over both discriminators.
        """
        pairs = []
        for discriminator, real, fake in ((self.discriminator_a, a, fake_a), (self.discriminator_b, b, fake_b)):
            # One pass for both: with instance norm no row's logits depend on another row.
            logits = discriminator(ops.concatenate([real, fake]), training=True)
            pairs.append(ops.split(logits, 2))
        metrics = {
            "real_score": sum(per_row(real) for real, _ in pairs) / 2.0,
            "fake_score": sum(per_row(fake) for _, fake in pairs) / 2.0,
            "discriminator_accuracy": sum(self.loss_pair.accuracy(*pair) for pair in pairs) / 2.0,
        }
        return sum(self.loss_pair.discriminator(*pair) for pair in pairs), metrics

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """G and F first, then their discriminators on translations from before that update, or on earlier ones."""
        draws, a, b = self.draws(data), images_of(data), targets_of(data)
        made = self.hold("translators", lambda: self.translations(a, b))
        loss, terms = self.minimize("translators", partial(self.translator_loss, a, b, made.output), through=made)
        fake_a, fake_b = made.output.fake_a, made.output.fake_b
        if self.history_a is not None and self.history_b is not None:
            rows = rows_of(data)
            fake_a = self.history_a.exchange(fake_a, draws.uniform(2), rows)
            fake_b = self.history_b.exchange(fake_b, draws.uniform(2), rows)
        losses: LossValues = self.minimize("discriminators", partial(self.discriminator_loss, a, b, fake_a, fake_b))
        return self.record(translator_loss=loss, discriminator_loss=losses[0], **terms, **losses[1])

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """The mean score of training images and of held-out ones, by the discriminator of their collection.

        Args:
            training: a batch of training data, as `train_step` takes it.
            held_out: images that training never shows, likewise.
        """
        found = {}
        for name, batch in {"train_score": training, "held_out_score": held_out}.items():
            pairs = ((self.discriminator_a, images_of(batch)), (self.discriminator_b, targets_of(batch)))
            found[name] = sum(ops.mean(network(images, training=False)) for network, images in pairs) / 2.0
        return found

    def preview(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """a, G(a), b and F(b) of the first images, one after the other."""
        a, b = batch["image"][:PREVIEWED], batch["target"][:PREVIEWED]
        count = min(len(a), len(b))
        a, b = a[:count], b[:count]
        made = [self._first_output(f"translate_{name}", image=each) for name, each in (("a_to_b", a), ("b_to_a", b))]
        return interleave([a, made[0], b, made[1]], RANGE)
