"""`MixtureModel`: what mixtures share that learn by EM; abstract, of no one paper.

responsibilities = p(k|x), log_joint = log p(x, k).
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import keras
from keras import ops

from serving.card import Support
from zoo.core.ability import Ability
from zoo.core.arguments import check_image_shape
from zoo.core.batch import images_of, rows_of
from zoo.core.model import GenerativeModel
from zoo.core.types import Tensor
from zoo.layers import mixtures
from zoo.losses.expectation import towards
from zoo.networks.functional import named_network


class MixtureModel(GenerativeModel):
    """Abstract base of models in which each image is of one of K components.

    An update is a step of EM: exact where a batch holds all images and gradient descent has a rate of 1, online EM
    with smaller batches and rates. The first one starts each component at an image.

    A constructor ends with `self.setup_mixture(...)`.
    """

    image_shape: tuple[int, ...]
    mixture: mixtures.BernoulliComponents | mixtures.GaussianComponents
    """The components."""
    network: keras.Model
    """image -> log joint, (batch, K)."""
    support: Support
    """What the likelihood is of."""

    def setup_mixture(
        self, image_shape: Sequence[int], mixture: mixtures.BernoulliComponents | mixtures.GaussianComponents
    ) -> None:
        """The last line of a constructor.

        Args:
            image_shape: (height, width, channels).
            mixture: the components, not built.
        """
        self.image_shape, self.mixture = check_image_shape(image_shape), mixture
        image = keras.Input(self.image_shape, name="image")
        self.network = keras.Model(image, mixture(image), name="components")
        self.setup("log_prob")

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """All of it."""
        return {"mixture": (self.network,)}

    @abstractmethod
    def generate_ability(self) -> Ability:
        """generate: a sample, the component by a uniform number `component`."""

    @abstractmethod
    def expected_image(self, image: Tensor, responsibilities: Tensor) -> Tensor:
        """What `reconstruct` gives, (batch, height, width, channels) in [-1, 1].

        Args:
            image: (batch, height, width, channels) in [-1, 1].
            responsibilities: (batch, K).
        """

    def abilities(self) -> Mapping[str, Ability]:
        """generate: a sample; log_prob, exactly; encode: responsibilities; reconstruct: the image that they expect."""
        image = keras.Input(self.image_shape, name="image")
        log_joint = self.network(image)
        responsibilities = ops.softmax(log_joint)
        unit, signed = (0.0, 1.0), (-1.0, 1.0)
        return {
            "generate": self.generate_ability(),
            "log_prob": exact_log_prob(image, ops.logsumexp(log_joint, axis=1), self.support),
            "encode": Ability(
                named_network([image], {"responsibilities": responsibilities}),
                {"image": "image"},
                {"responsibilities": "code"},
                {"image": signed, "responsibilities": unit},
            ),
            "reconstruct": Ability(
                named_network([image], {"reconstruction": self.expected_image(image, responsibilities)}),
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
        if self.plan:
            starts = mixtures.choose_rows(uniform, rows_of(data), self.mixture.components)
            new = self.mixture.start(images, starts)
        else:
            new = self.mixture.maximize(images, ops.softmax(log_joint))
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


def exact_log_prob(image: Tensor, log_prob: Tensor, support: Support) -> Ability:
    """The ability log_prob of a model that knows log p(x).

    Args:
        image: the input, (batch, height, width, channels) in [-1, 1].
        log_prob: nats, (batch,).
        support: what the likelihood is of.
    """
    return Ability(
        named_network([image], {"exact": log_prob}),
        {"image": "image"},
        {"exact": "log_prob"},
        {"image": (-1.0, 1.0)},
        supports={"exact": support},
    )
