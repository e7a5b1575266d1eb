"""A hidden Markov model over the rows of an image, by forward and backward recursions that are unrolled."""

from typing import Any, NamedTuple

import keras
from keras import ops

from zoo.core.replicas import global_mean
from zoo.core.types import Tensor
from zoo.layers.mixtures import choose_category, whiten


class Chain(NamedTuple):
    """The parameters.

    Args:
        initial: pi, (K,), of the first row's state.
        transitions: A, (K, K), from the state of one row to that of the next.
        white: p, (K, D), of a row's pixels given its state.
    """

    initial: Tensor
    transitions: Tensor
    white: Tensor


class Forward(NamedTuple):
    """What the forward recursion finds; one entry a row of the image.

    Args:
        beliefs: p(z_t | x_1 ... x_t), each (batch, K).
        likelihoods: p(x_t | z_t) as a share of the largest, each (batch, K).
        scales: p(x_t | x_1 ... x_t-1) as a share of that largest, each (batch, 1).
        log_prob: log p(x), (batch,).
    """

    beliefs: list[Tensor]
    likelihoods: list[Tensor]
    scales: list[Tensor]
    log_prob: Tensor


@keras.saving.register_keras_serializable("zoo")
class HiddenMarkovRows(keras.layers.Layer):
    """log p(x), each row of x given a hidden state, the states a Markov chain: image in [-1, 1] -> (batch,).

    K = states, T = rows, D = pixels of a row. The weights are expected statistics, as shares of what all states (or
    pairs of them) have alike: initial of z_1, transitions of (z_t, z_t+1), visits of z_t, white of z_t with a white
    pixel. Parameters are read from them, with pseudo-counts.

    Args:
        states: K.
        smoothing: rows all black, and as many all white, that each state has given besides, as a share of the rows that
            it gives on average; and likewise of first rows and of transitions.
    """

    def __init__(self, states: int, smoothing: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.states = states
        self.smoothing = smoothing

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the statistics."""
        _, self.height, self.width, self.channels = input_shape
        uniform = keras.initializers.RandomUniform
        self.initial = self.add_weight(shape=(self.states,), initializer="ones", name="initial")
        square = (self.states, self.states)
        self.transitions = self.add_weight(shape=square, initializer=uniform(0.5, 1.5), name="transitions")
        self.visits = self.add_weight(shape=(self.states,), initializer="ones", name="visits")
        shape = (self.states, self.width * self.channels)
        self.white = self.add_weight(shape=shape, initializer=uniform(0.25, 0.75), name="white")

    def parameters(self) -> Chain:
        """Probabilities within (0, 1), whatever the weights are."""
        initial = ops.maximum(self.initial, 0.0) + self.smoothing
        transitions = ops.maximum(self.transitions, 0.0) + self.smoothing
        visits = ops.maximum(self.visits, 0.0)
        white = ops.clip(self.white, 0.0, visits[:, None]) + self.smoothing
        return Chain(
            initial / ops.sum(initial),
            transitions / ops.sum(transitions, axis=1, keepdims=True),
            white / (visits + 2.0 * self.smoothing)[:, None],
        )

    def observe(self, images: Tensor) -> Tensor:
        """The rows' pixels, (batch, T, D), 0 and 1."""
        return ops.reshape(whiten(images, self.variable_dtype), (-1, self.height, self.width * self.channels))

    def call(self, images: Tensor) -> Tensor:
        """By the forward recursion."""
        return self.forward(self.observe(images), self.parameters()).log_prob

    def forward(self, rows: Tensor, chain: Chain) -> Forward:
        """Beliefs row by row, each divided by its sum (Rabiner 1989, section V.A).

        Args:
            rows: x, (batch, T, D), 0 and 1.
            chain: the parameters.
        """
        black = ops.log1p(-chain.white)
        logits = ops.log(chain.white) - black
        log_likelihoods = ops.matmul(rows, ops.transpose(logits)) + ops.sum(black, axis=1)  # (batch, T, K)
        largest = ops.max(log_likelihoods, axis=2, keepdims=True)
        likelihoods = ops.unstack(ops.exp(log_likelihoods - largest), axis=1)
        beliefs: list[Tensor] = []
        scales: list[Tensor] = []
        for likelihood in likelihoods:
            predicted = ops.matmul(beliefs[-1], chain.transitions) if beliefs else chain.initial[None]
            joint = predicted * likelihood
            scales.append(ops.sum(joint, axis=1, keepdims=True))
            beliefs.append(joint / scales[-1])
        log_prob = ops.sum(ops.log(ops.concatenate(scales, axis=1)), axis=1) + ops.sum(largest[..., 0], axis=1)
        return Forward(beliefs, likelihoods, scales, log_prob)

    def maximize(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Baum-Welch: new values of the weights, in their order, of the global batch alone; log p(x) before, (batch,).

        Args:
            images: (batch, height, width, channels) in [-1, 1].
        """
        rows, chain = self.observe(images), self.parameters()
        found = self.forward(rows, chain)
        ahead = ops.ones_like(found.beliefs[-1])  # p(x_t+1 ... | z_t) as a share of p(x_t+1 ... | x_1 ... x_t)
        posteriors, pairs = [found.beliefs[-1]], ops.zeros_like(chain.transitions)
        for place in reversed(range(self.height - 1)):
            given = found.likelihoods[place + 1] * ahead / found.scales[place + 1]
            pairs += ops.matmul(ops.transpose(found.beliefs[place]), given)
            ahead = ops.matmul(given, ops.transpose(chain.transitions))
            posteriors.insert(0, found.beliefs[place] * ahead)
        visited = ops.stack(posteriors, axis=1)  # p(z_t|x), (batch, T, K)
        sums = [ops.sum(posteriors[0], axis=0), chain.transitions * pairs, *self.count_rows(visited, rows)]
        return self.to_shares(global_mean(sums, images)), found.log_prob

    def start(self, images: Tensor, responsibilities: Tensor) -> list[Tensor]:
        """White pixels of each state those of one row of an image, of rows from the first to the last; the rest stays.

        Args:
            images: (batch, height, width, channels) in [-1, 1].
            responsibilities: the images at which states begin, (batch, K), of mean 1 / K.
        """
        places = [state * self.height // self.states for state in range(self.states)]
        at = ops.transpose(ops.one_hot(places, self.height, dtype=self.variable_dtype))  # (T, K)
        visited = ops.cast(responsibilities, self.variable_dtype)[:, None] * at * self.height
        initial, transitions = ops.convert_to_tensor(self.initial), ops.convert_to_tensor(self.transitions)
        visits, white = global_mean(self.count_rows(visited, self.observe(images)), images)
        share = self.states / self.height
        return [initial, transitions, share * visits, share * white]

    def count_rows(self, visited: Tensor, rows: Tensor) -> list[Tensor]:
        """Of this replica's images: rows of each state (K,), and of them those with a white pixel (K, D)."""
        flat, states = ops.reshape(rows, (-1, rows.shape[2])), ops.reshape(visited, (-1, self.states))
        return [ops.sum(states, axis=0), ops.matmul(ops.transpose(states), flat)]

    def to_shares(self, means: list[Tensor]) -> list[Tensor]:
        """Means over images -> shares of what all states, or pairs of them, have alike."""
        initial, transitions, visits, white = means
        pairs, share = self.states**2 / max(1, self.height - 1), self.states / self.height
        return [self.states * initial, pairs * transitions, share * visits, share * white]

    def draw(self, states: Tensor, pixels: Tensor) -> Tensor:
        """A sample, -1 and 1, of states by numbers in [0, 1), one a row, and of pixels: white where u < p.

        Args:
            states: (batch, height).
            pixels: (batch, height, width, channels).
        """
        chain = self.parameters()
        chosen: list[Tensor] = []
        for place in range(self.height):
            odds = ops.matmul(chosen[-1], chain.transitions) if chosen else chain.initial
            chosen.append(choose_category(odds, states[:, place]))
        white = ops.matmul(ops.stack(chosen, axis=1), chain.white)
        white = ops.reshape(white, (-1, self.height, self.width, self.channels))
        return 2.0 * ops.cast(ops.less(pixels, white), white.dtype) - 1.0

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "states": self.states, "smoothing": self.smoothing}
