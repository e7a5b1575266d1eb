"""Hidden Markov model over the rows of an image (Baum et al. 1970; Rabiner 1989), by Baum-Welch, which is EM.

states = K values of z_t, row t of the image = x_t, initial = pi, transitions = A, white = p of a row's pixels.
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
from zoo.layers.hidden_markov import HiddenMarkovRows
from zoo.layers.mixtures import STARTED, PartOf, choose_rows
from zoo.losses.expectation import towards
from zoo.models.mixture import exact_log_prob
from zoo.networks.functional import named_network


@final
class HiddenMarkov(GenerativeModel):
    """An image is read from top to bottom: each row depends on a hidden state, and that on the state of the row above.

    An update is a step of EM, as of a mixture: see `MixtureModel`.

    Args:
        image_shape: (height, width, channels); images in [-1, 1], of which pixels above 0 count as white.
        states: K; the chain is the same at every height, so states have to tell the heights apart.
        smoothing: rows all black, and as many all white, that each state has given besides its own, as a share of the
            rows that it gives on average; likewise of first rows and of transitions.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(self, image_shape: Sequence[int], states: int = 64, smoothing: float = 1e-3):
        super().__init__()
        self.image_shape = check_image_shape(image_shape)
        check_counts(states=states)
        if smoothing <= 0.0:
            raise ValueError(f"smoothing={smoothing}: choose a number > 0.")
        self.rows = HiddenMarkovRows(states, smoothing, dtype=full_precision(), name="rows")
        image = keras.Input(self.image_shape, name="image")
        self.network = keras.Model(image, self.rows(image), name="chain")
        self.setup("log_prob")

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """All of it."""
        return {"chain": (self.network,)}

    def abilities(self) -> Mapping[str, Ability]:
        """generate: a sample, black and white, by a number for each row's state and each pixel; log_prob, exactly."""
        image, states = keras.Input(self.image_shape, name="image"), keras.Input(self.image_shape[:1], name="states")
        pixels = keras.Input(self.image_shape, name="pixels")
        unit, signed = (0.0, 1.0), (-1.0, 1.0)
        return {
            "generate": Ability(
                named_network([states, pixels], {"image": PartOf(self.rows, "draw")(states, pixels)}),
                {"states": "uniform", "pixels": "uniform"},
                {"image": "image"},
                {"states": unit, "pixels": unit, "image": signed},
            ),
            "log_prob": exact_log_prob(image, self.network(image), "binary"),
        }

    def plan_of(self, step: int) -> bool:
        """Whether the states are to be started."""
        return step == 0

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """One step of EM."""
        images, uniform = images_of(data), self.draws(data).uniform()
        new, log_prob = self.rows.maximize(images)
        if self.plan:
            new = self.rows.start(images, choose_rows(uniform, rows_of(data), self.rows.states))
        variables = self.variables_of("chain")
        self.minimize("chain", partial(towards, variables, new, images, STARTED if self.plan else 1.0))
        return self.record(log_prob=log_prob)

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """The mean log p(x) of both batches, nats.

        Args:
            training: {"image": (count, height, width, channels) in [-1, 1]}.
            held_out: images that training never shows, likewise.
        """
        batches = {"train_log_prob": training, "held_out_log_prob": held_out}
        return {name: ops.mean(self.network(images_of(batch), training=False)) for name, batch in batches.items()}
