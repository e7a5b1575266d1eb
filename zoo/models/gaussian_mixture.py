"""Gaussian mixture (Dempster, Laird and Rubin 1977), mixture of factor analyzers (arXiv:1805.12462), both by EM.

responsibilities = p(k|x), log_joint = log p(x, k), components = K, factors = Lambda, of rank r.
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
class GaussianMixture(GenerativeModel):
    """Each image is of one of K normal distributions, of diagonal covariance or of Lambda Lambda' and a diagonal.

    An update is a step of EM, as of a Bernoulli mixture: see there.

    Args:
        image_shape: (height, width, channels); images are float32 in [-1, 1].
        components: K.
        factors: r, directions in which a component varies; 0 for a diagonal covariance.
        smoothing: images at its mean, with the variances of all images, that each component has seen besides its own,
            as a share of the images that a component has on average.
        least_deviation: of a pixel, given component and factors, in units of images in [-1, 1]. Densities of 8-bit
            images depend on it: a pixel that is the same in all images of a component has one as high as it lets it.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        components: int = 50,
        factors: int = 0,
        smoothing: float = 0.01,
        least_deviation: float = 0.05,
    ):
        super().__init__()
        self.image_shape = check_image_shape(image_shape)
        check_counts(components=components)
        if factors < 0 or smoothing <= 0.0 or least_deviation <= 0.0:
            raise ValueError(
                f"factors={factors}, smoothing={smoothing}, least_deviation={least_deviation}: choose factors from 0, "
                "and numbers > 0."
            )
        self.mixture = mixtures.GaussianComponents(
            components, factors, smoothing, least_deviation, dtype=full_precision(), name="mixture"
        )
        image = keras.Input(self.image_shape, name="image")
        self.network = keras.Model(image, self.mixture(image), name="components")
        self.setup("log_prob")

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """All of it."""
        return {"mixture": (self.network,)}

    def abilities(self) -> Mapping[str, Ability]:
        """generate: a component by a uniform number, then of factor analyzers the mean given their normal factors.

        Of diagonal covariances generate gives a sample, by normal noise a pixel. log_prob is the density, exactly;
        encode gives the responsibilities, reconstruct the mean of what components and factors expect.
        """
        image, component = keras.Input(self.image_shape, name="image"), keras.Input((), name="component")
        shape = (self.mixture.rank,) if self.mixture.rank else self.image_shape
        noise = keras.Input(shape, name="factors" if self.mixture.rank else "pixels")
        log_joint = self.network(image)
        responsibilities = ops.softmax(log_joint)
        chosen = mixtures.PartOf(self.mixture, "choose")(component)
        drawn = mixtures.PartOf(self.mixture, "draw")(chosen, noise)
        reconstruction = mixtures.PartOf(self.mixture, "reconstruct")(image, responsibilities)
        unit, signed = (0.0, 1.0), (-1.0, 1.0)
        return {
            "generate": Ability(
                named_network([component, noise], {"image": drawn}),
                {"component": "uniform", noise.name: "normal"},
                {"image": "image"},
                {"component": unit, "image": signed},
            ),
            "log_prob": Ability(
                named_network([image], {"exact": ops.logsumexp(log_joint, axis=1)}),
                {"image": "image"},
                {"exact": "log_prob"},
                {"image": signed},
                supports={"exact": "real"},
            ),
            "encode": Ability(
                named_network([image], {"responsibilities": responsibilities}),
                {"image": "image"},
                {"responsibilities": "code"},
                {"image": signed, "responsibilities": unit},
            ),
            "reconstruct": Ability(
                named_network([image], {"reconstruction": reconstruction}),
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
