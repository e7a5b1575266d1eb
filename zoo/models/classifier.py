"""Classifier (VGG, arXiv:1409.1556): what tells generated images apart when they are scored.  features = phi(x)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, final

import keras
from keras import ops

from serving.card import Kind
from zoo.core.ability import Ability
from zoo.core.arguments import check_class_names, check_counts
from zoo.core.batch import images_of, labels_of
from zoo.core.model import GenerativeModel
from zoo.core.noise import Draws
from zoo.core.types import Tensor
from zoo.layers import augmentation as augment
from zoo.losses.classification import correct, cross_entropy
from zoo.networks import vgg
from zoo.networks.functional import with_ema


@final
class Classifier(GenerativeModel):
    """A convolutional network that names the class of an image; no generator, but trained and exported like one.

    Args:
        image_shape: (height, width, channels); images are float32 in [-1, 1].
        classes: their names, by number.
        width: channels of the first maps; the features are 4 times as many.
        dropout: of the features while training.
        shift: training images move by up to this share of their side, either way.
        flip: whether every second training image is mirrored: not where left and right mean something, as in digits.
        label_smoothing: what the right class's probability gives to all alike (arXiv:1512.00567, section 7).
        ema_decay: of the moving average of the network that is exported; None for the network itself.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        classes: Sequence[str],
        width: int = 32,
        dropout: float = 0.3,
        shift: float = 0.1,
        flip: bool = False,
        label_smoothing: float = 0.1,
        ema_decay: float | None = 0.999,
    ):
        super().__init__()
        check_class_names(classes)  # refuses what is no set of names
        check_counts(width=width)
        if not 0.0 <= shift < 1.0 or not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"shift={shift}, label_smoothing={label_smoothing}: choose from [0, 1).")
        self.shift = shift
        self.flip = flip
        self.label_smoothing = label_smoothing
        build = partial(vgg.classifier, image_shape, len(classes), width, dropout)
        self.classifier = build()
        self.classifier_ema, ema = with_ema(self.classifier, build, ema_decay)
        self.setup("loss", "accuracy", ema=ema)

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """The network alone."""
        return {"classifier": (self.classifier,)}

    def abilities(self) -> Mapping[str, Ability]:
        """classify: image -> features and logits, by its EMA."""
        kinds: dict[str, Kind] = {"features": "code", "logits": "logits"}
        return {"classify": Ability(self.classifier_ema, {"image": "image"}, kinds, {"image": (-1.0, 1.0)})}

    def classification_loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The cross-entropy, one value per row, and whether the likeliest class is the right one."""
        _, logits = self.classifier(images, training=True)
        return cross_entropy(logits, labels, self.label_smoothing), {"accuracy": correct(logits, labels)}

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """One update of the network, on images that are shifted and mirrored at random."""
        images = self.augment(images_of(data), self.draws(data))
        loss, recorded = self.minimize("classifier", partial(self.classification_loss, images, labels_of(data)))
        return self.record(loss=loss, **recorded)

    def augment(self, images: Tensor, draws: Draws) -> Tensor:
        """`images` shifted and mirrored at random, as the network is given them in training."""
        images = augment.translate(images, draws.uniform(2), self.shift)
        return augment.flip(images, draws.uniform()) if self.flip else images

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """Accuracy of the EMA network, in inference mode, on training images and on held-out ones.

        Args:
            training: {"image": (count, height, width, channels) in [-1, 1], "label": (count,)}.
            held_out: images that training never shows, likewise.
        """
        batches = {"train_accuracy": training, "held_out_accuracy": held_out}
        return {
            name: ops.mean(correct(self.classifier_ema(images_of(batch), training=False)[1], labels_of(batch)))
            for name, batch in batches.items()
        }
