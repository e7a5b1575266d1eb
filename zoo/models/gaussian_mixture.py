"""Gaussian mixture (Dempster, Laird and Rubin 1977), mixture of factor analyzers (arXiv:1805.12462), both by EM.

components = K, factors = Lambda, of rank r.
"""

from collections.abc import Sequence
from typing import final

import keras

from zoo.core.ability import Ability
from zoo.core.arguments import check_counts
from zoo.core.precision import full_precision
from zoo.core.types import Tensor
from zoo.layers import mixtures
from zoo.models.mixture import MixtureModel
from zoo.networks.functional import named_network


@final
class GaussianMixture(MixtureModel):
    """Each image is of one of K normal distributions, of diagonal covariance or of Lambda Lambda' and a diagonal.

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

    support = "real"
    mixture: mixtures.GaussianComponents

    def __init__(
        self,
        image_shape: Sequence[int],
        components: int = 50,
        factors: int = 0,
        smoothing: float = 0.01,
        least_deviation: float = 0.05,
    ):
        super().__init__()
        check_counts(components=components)
        if factors < 0 or smoothing <= 0.0 or least_deviation <= 0.0:
            raise ValueError(
                f"factors={factors}, smoothing={smoothing}, least_deviation={least_deviation}: choose factors from 0, "
                "and numbers > 0."
            )
        self.setup_mixture(
            image_shape,
            mixtures.GaussianComponents(
                components, factors, smoothing, least_deviation, dtype=full_precision(), name="mixture"
            ),
        )

    def generate_ability(self) -> Ability:
        """A component by a uniform number, then of factor analyzers the mean given their normal factors.

        Of diagonal covariances a sample, by normal noise a pixel.
        """
        component = keras.Input((), name="component")
        shape = (self.mixture.rank,) if self.mixture.rank else self.image_shape
        noise = keras.Input(shape, name="factors" if self.mixture.rank else "pixels")
        chosen = mixtures.PartOf(self.mixture, "choose")(component)
        return Ability(
            named_network([component, noise], {"image": mixtures.PartOf(self.mixture, "draw")(chosen, noise)}),
            {"component": "uniform", noise.name: "normal"},
            {"image": "image"},
            {"component": (0.0, 1.0), "image": (-1.0, 1.0)},
        )

    def expected_image(self, image: Tensor, responsibilities: Tensor) -> Tensor:
        """The mean of what components and factors expect."""
        return mixtures.PartOf(self.mixture, "reconstruct")(image, responsibilities)
