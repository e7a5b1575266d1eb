"""Naive Bayes of binary pixels (Maron 1961): p(x, y) = p(y) prod_d p(x_d|y), fitted by counting.

classes = y, log_joint = log p(x, y), smoothing = pseudo-counts of Laplace.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, final

import keras
from keras import ops

from zoo.core.ability import Ability
from zoo.core.arguments import check_class_names, check_image_shape
from zoo.core.batch import images_of, labels_of
from zoo.core.model import GenerativeModel
from zoo.core.precision import full_precision
from zoo.core.types import Tensor
from zoo.layers import mixtures
from zoo.losses.classification import correct
from zoo.losses.expectation import towards
from zoo.models.mixture import exact_log_prob
from zoo.networks.functional import named_network


@final
class NaiveBayes(GenerativeModel):
    """A Bernoulli mixture whose components are the classes, which the labels tell: one step on all images is exact.

    Args:
        image_shape: (height, width, channels); images in [-1, 1], of which pixels above 0 count as white.
        classes: their names, by number.
        smoothing: images all black, and as many all white, that each class has seen besides its own, as a share of the
            images that a class has on average.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(self, image_shape: Sequence[int], classes: Sequence[str], smoothing: float = 1e-4):
        super().__init__()
        self.image_shape, self.classes = check_image_shape(image_shape), check_class_names(classes)
        if smoothing <= 0.0:
            raise ValueError(f"smoothing={smoothing}: choose a number > 0.")
        self.mixture = mixtures.BernoulliComponents(len(classes), smoothing, dtype=full_precision(), name="mixture")
        image = keras.Input(self.image_shape, name="image")
        self.network = keras.Model(image, self.mixture(image), name="classes")
        self.setup("log_prob", "accuracy")

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """All of it."""
        return {"classes": (self.network,)}

    def abilities(self) -> Mapping[str, Ability]:
        """generate: a sample, black and white, of a class, by a number a pixel; log_prob of the image alone, exactly.

        classify gives the log joint as logits, so that their softmax is p(y|x), and that as features.
        """
        image, label = keras.Input(self.image_shape, name="image"), keras.Input((), dtype="int32", name="label")
        pixels = keras.Input(self.image_shape, name="pixels")
        log_joint = self.network(image)
        chosen = ops.one_hot(label, len(self.classes), dtype=full_precision())
        unit, signed = (0.0, 1.0), (-1.0, 1.0)
        return {
            "generate": Ability(
                named_network([label, pixels], {"image": mixtures.PartOf(self.mixture, "draw")(chosen, pixels)}),
                {"label": "label", "pixels": "uniform"},
                {"image": "image"},
                {"pixels": unit, "image": signed},
                {"label": self.classes},
            ),
            "log_prob": exact_log_prob(image, ops.logsumexp(log_joint, axis=1), "binary"),
            "classify": Ability(
                named_network([image], {"features": ops.softmax(log_joint), "logits": log_joint}),
                {"image": "image"},
                {"features": "code", "logits": "logits"},
                {"image": signed},
            ),
        }

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """Count, once."""
        self.draws(data)
        images, labels = images_of(data), labels_of(data)
        log_joint = self.network(images, training=True)
        new = self.mixture.maximize(images, ops.one_hot(labels, len(self.classes), dtype=self.full_precision))
        self.minimize("classes", partial(towards, self.variables_of("classes"), new, images))
        return self.record(log_prob=ops.logsumexp(log_joint, axis=1), accuracy=correct(log_joint, labels))

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """The mean log p(x), nats, and the accuracy of the likeliest class, of both batches.

        Args:
            training: {"image": (count, height, width, channels) in [-1, 1], "label": (count,)}.
            held_out: images that training never shows, likewise.
        """
        found = {}
        for name, batch in {"train": training, "held_out": held_out}.items():
            log_joint = self.network(images_of(batch), training=False)
            found[f"{name}_log_prob"] = ops.mean(ops.logsumexp(log_joint, axis=1))
            found[f"{name}_accuracy"] = ops.mean(correct(log_joint, labels_of(batch)))
        return found
