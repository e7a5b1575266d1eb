"""Gated PixelCNN (arXiv:1606.05328).

network = p(x_i | x_1 ... x_{i-1}) of every pixel at once, codes = pixels as levels 0 ... levels - 1, logits = of the
levels, before the softmax.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, final

import keras
from keras import ops

from serving.card import Feed, Iteration, Support
from zoo.core.ability import Ability
from zoo.core.arguments import check_class_names, check_image_shape
from zoo.core.batch import images_of, labels_of
from zoo.core.model import GenerativeModel
from zoo.core.types import Tensor
from zoo.losses.classification import cross_entropy
from zoo.networks.functional import named_network, with_ema
from zoo.networks.pixel_cnn import pixel_cnn, pixel_cnn_step

SUPPORTS: Mapping[int, Support] = {2: "binary", 256: "levels"}


@final
class PixelCNN(GenerativeModel):
    """Learns log p(x) itself, as a sum over pixels, each given those before it in rows from the upper left.

    Args:
        image_shape: (height, width, 1); images are float32 in [-1, 1].
        levels: of a pixel: 2 for black and white images, split at 0; others lie evenly from -1 to 1, 256 are those of 8
            bits.
        filters: p, channels of both stacks.
        blocks: gated layers, at least 2; the first has a kernel of 7x7.
        kernel: of the others, k x k, odd.
        classes: their names, by number, where the network is given the class.
        ema_decay: decay of the moving average of the network that is sampled, exported and diagnosed,
            0 <= ema_decay < 1; None for the network itself.

    Raises:
        ValueError: more channels than one, a number out of its range.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        levels: int = 2,
        filters: int = 32,
        blocks: int = 7,
        kernel: int = 5,
        classes: Sequence[str] = (),
        ema_decay: float | None = 0.999,
    ):
        super().__init__()
        self.image_shape, self.levels = check_image_shape(image_shape), levels
        self.classes = check_class_names(classes) if classes else ()
        build = partial(pixel_cnn, self.image_shape, levels, filters, blocks, kernel, len(self.classes), ordered=True)
        self.network = build()
        # The EMA of the network, or the network itself without ema_decay.
        self.network_ema, ema = with_ema(self.network, build, ema_decay)
        self.setup("loss", ema=ema)

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """The one network."""
        return {"network": (self.network,)}

    def abilities(self) -> Mapping[str, Ability]:
        """step: a row of a sample, so many as an image has; log_prob: image -> log p(x), nats, exactly.

        Where there are classes, both take a label.
        """
        step = pixel_cnn_step(self.network_ema)
        image = keras.Input(self.image_shape, name="image")
        label = keras.Input((), dtype="int32", name="label") if self.classes else None
        exact = -self.negative_log_likelihood(self.network_ema, image, label)
        log_prob = named_network([image] if label is None else [image, label], {"exact": exact})
        labels: dict[str, Feed] = {"label": "label"} if self.classes else {}
        names = {"label": self.classes} if self.classes else {}
        states = {"previous_image": "image", "previous_features": "features"}
        return {
            "step": Ability(
                step,
                {**dict.fromkeys(states, "state"), "uniform": "uniform", **labels},
                {"features": "state", "image": "image", "logits": "logits"},
                {"previous_image": (-1.0, 1.0), "image": (-1.0, 1.0), "uniform": (0.0, 1.0)},
                names,
                iteration=Iteration("autoregressive", self.image_shape[0], states),
            ),
            "log_prob": Ability(
                log_prob,
                {"image": "image", **labels},
                {"exact": "log_prob"},
                {"image": (-1.0, 1.0)},
                names,
                {"exact": SUPPORTS[self.levels]} if self.levels in SUPPORTS else {},
            ),
        }

    def codes_of(self, images: Tensor) -> Tensor:
        """Images in [-1, 1] -> the nearest codes, likewise, int32; of two levels, 0 itself is the lower."""
        if self.levels == 2:
            return ops.cast(images > 0.0, "int32")
        codes = ops.floor((images + 1.0) * ((self.levels - 1) / 2.0) + 0.5)
        return ops.cast(ops.clip(codes, 0, self.levels - 1), "int32")

    def negative_log_likelihood(
        self, network: keras.Model, images: Tensor, labels: Tensor | None, training: bool = False
    ) -> Tensor:
        """-log p(x), nats, one value per row.

        Args:
            network: the one that learns, or its EMA.
            images: x, (batch, height, width, 1) in [-1, 1].
            labels: (batch,) integers, where there are classes.
            training: of the network.
        """
        codes = self.codes_of(images)
        logits = network(codes if labels is None else [codes, labels], training=training)
        return ops.sum(cross_entropy(logits, codes), axis=(1, 2, 3))

    def given_labels(self, data: Any) -> Tensor | None:
        """The batch's labels, (batch,) int32, where there are classes."""
        return ops.cast(labels_of(data), "int32") if self.classes else None

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """One update."""
        inputs = images_of(data), self.given_labels(data)
        loss = partial(self.negative_log_likelihood, self.network, *inputs, training=True)
        return self.record(loss=self.minimize("network", loss))

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """The mean of log p(x) of both batches, nats, by the network that is exported.

        Args:
            training: {"image": (count, height, width, 1) in [-1, 1]}, with "label" where there are classes.
            held_out: images that training never shows, likewise.
        """
        return {
            name: -ops.mean(
                self.negative_log_likelihood(
                    self.network_ema, ops.convert_to_tensor(images_of(batch)), self.given_labels(batch)
                )
            )
            for name, batch in {"train_log_likelihood": training, "held_out_log_likelihood": held_out}.items()
        }
