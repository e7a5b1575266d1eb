"""Bernoulli mixture, by EM (Bishop 2006, section 9.3.3; on MNIST: Salakhutdinov and Murray 2008).

components = K, smoothing = pseudo-counts of Laplace.
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
class BernoulliMixture(MixtureModel):
    """Each image is of one of K components, in which each pixel is white with a probability of its own.

    Args:
        image_shape: (height, width, channels); images in [-1, 1], of which pixels above 0 count as white.
        components: K.
        smoothing: images all black, and as many all white, that each component has seen besides its own, as a share
            of the images that a component has on average.

    Raises:
        ValueError: a number out of its range.
    """

    support = "binary"

    def __init__(self, image_shape: Sequence[int], components: int = 100, smoothing: float = 1e-3):
        super().__init__()
        check_counts(components=components)
        if smoothing <= 0.0:
            raise ValueError(f"smoothing={smoothing}: choose a number > 0.")
        self.setup_mixture(
            image_shape,
            mixtures.BernoulliComponents(components, smoothing, dtype=full_precision(), name="mixture"),
        )

    def generate_ability(self) -> Ability:
        """A sample, black and white, by a number for the component and one a pixel."""
        component, pixels = keras.Input((), name="component"), keras.Input(self.image_shape, name="pixels")
        chosen = mixtures.PartOf(self.mixture, "choose")(component)
        unit = (0.0, 1.0)
        return Ability(
            named_network([component, pixels], {"image": mixtures.PartOf(self.mixture, "draw")(chosen, pixels)}),
            {"component": "uniform", "pixels": "uniform"},
            {"image": "image"},
            {"component": unit, "pixels": unit, "image": (-1.0, 1.0)},
        )

    def expected_image(self, image: Tensor, responsibilities: Tensor) -> Tensor:
        """The means of the components, weighed by the responsibilities."""
        return mixtures.PartOf(self.mixture, "mean")(responsibilities)
