"""Bernoulli mixture, by EM (Bishop 2006, section 9.3.3; on MNIST: Salakhutdinov and Murray 2008).

responsibilities = p(k|x), log_joint = log p(x, k), components = K, smoothing = pseudo-counts of Laplace.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, final

import keras
from keras import ops

from zoo.core.ability import Ability
from zoo.core.arguments import check_counts, check_image_shape
from zoo.core.batch import images_of, rows_of
from zoo.core.model import GenerativeModel
from zoo.core.precision import full_precision
from zoo.core.types import Tensor
from zoo.layers import mixtures
from zoo.losses.expectation import towards
from zoo.networks.functional import named_network


@final
class BernoulliMixture(GenerativeModel):
    """Each image is of one of K components, in which each pixel is white with a probability of its own.

    An update is a step of EM: exact where a batch holds all images and gradient descent has a rate of 1, online EM
    with smaller batches and rates. The first one starts each component at an image.

    Args:
        image_shape: (height, width, channels); images in [-1, 1], of which pixels above 0 count as white.
        components: K.
        smoothing: images all black, and as many all white, that each component has seen besides its own, as a share
            of the images that a component has on average.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(self, image_shape: Sequence[int], components: int = 100, smoothing: float = 1e-3):
        super().__init__()
        self.image_shape = check_image_shape(image_shape)
        check_counts(components=components)
        if smoothing <= 0.0:
            raise ValueError(f"smoothing={smoothing}: choose a number > 0.")
        self.mixture = mixtures.BernoulliComponents(components, smoothing, dtype=full_precision(), name="mixture")
        image = keras.Input(self.image_shape, name="image")
        self.network = keras.Model(image, self.mixture(image), name="components")
        self.setup("log_prob")

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """All of it."""
        return {"mixture": (self.network,)}

    def abilities(self) -> Mapping[str, Ability]:
        """generate: a sample, black and white, by a number for the component and one a pixel; log_prob, exactly.

        encode gives the responsibilities, reconstruct the means of the components, weighed by them.
        """
        image = keras.Input(self.image_shape, name="image")
        component, pixels = keras.Input((), name="component"), keras.Input(self.image_shape, name="pixels")
        log_joint = self.network(image)
        responsibilities = ops.softmax(log_joint)
        chosen = mixtures.PartOf(self.mixture, "choose")(component)
        drawn = mixtures.PartOf(self.mixture, "draw")(chosen, pixels)
        mean = mixtures.PartOf(self.mixture, "mean")(responsibilities)
        unit, signed = (0.0, 1.0), (-1.0, 1.0)
        return {
            "generate": Ability(
                named_network([component, pixels], {"image": drawn}),
                {"component": "uniform", "pixels": "uniform"},
                {"image": "image"},
                {"component": unit, "pixels": unit, "image": signed},
            ),
            "log_prob": Ability(
                named_network([image], {"exact": ops.logsumexp(log_joint, axis=1)}),
                {"image": "image"},
                {"exact": "log_prob"},
                {"image": signed},
                supports={"exact": "binary"},
            ),
            "encode": Ability(
                named_network([image], {"responsibilities": responsibilities}),
                {"image": "image"},
                {"responsibilities": "code"},
                {"image": signed, "responsibilities": unit},
            ),
            "reconstruct": Ability(
                named_network([image], {"reconstruction": mean}),
                {"image": "image"},
                {"reconstruction": "reconstruction"},
                {"image": signed, "reconstruction": signed},
            ),
        }

    def plan_of(self, step: int) -> bool:
        """Whether the components are to be started."""
        return step == 0

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """One step of EM."""
        images, uniform = images_of(data), self.draws(data).uniform()
        log_joint = self.network(images, training=True)
        responsibilities = ops.softmax(log_joint)
        if self.plan:
            responsibilities = mixtures.choose_rows(uniform, rows_of(data), self.mixture.components)
        new = self.mixture.maximize(images, responsibilities)
        variables = self.variables_of("mixture")
        self.minimize("mixture", partial(towards, variables, new, images, mixtures.STARTED if self.plan else 1.0))
        return self.record(log_prob=ops.logsumexp(log_joint, axis=1))

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """The mean log p(x) of both batches, nats.

        Args:
            training: {"image": (count, height, width, channels) in [-1, 1]}.
            held_out: images that training never shows, likewise.
        """
        batches = {"train_log_prob": training, "held_out_log_prob": held_out}
        return {
            name: ops.mean(ops.logsumexp(self.network(images_of(batch), training=False), axis=1))
            for name, batch in batches.items()
        }
