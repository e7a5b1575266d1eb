"""Training noise: a function of (seed, step, draw, global row), the same on one device and on many.

Philox turns a key and a 128-bit counter into numbers. Here the key is the run's seed, the counter's upper half names
the draw (step and number within the step), and its lower half is the position in the global batch. A replica that
holds rows 16 to 31 moves the counter ahead to row 16 and draws its own rows only: no collective, no wasted numbers.
"""

from contextlib import nullcontext
from typing import Any

import keras
import tensorflow as tf

from zoo.core.types import Tensor

PHILOX = 1  # tf.random.Algorithm.PHILOX
VALUES_PER_COUNT = 4  # Philox 4x32: each count of the counter gives four 32-bit values
DRAWS_PER_STEP = 2**16


class Draws:
    """The random numbers of one train step on one replica; every call is a new draw.

    They are drawn in float32, and given in Keras' `floatx`, which is float32 unless a user chose another.

    Args:
        seed: the run's seed, 0 <= seed < 2**63.
        step: int64 scalar, the number of train steps done.
        rows: (batch,) int64, this replica's row numbers in the global batch: consecutive, as `tf.distribute` splits.
    """

    def __init__(self, seed: int, step: Tensor, rows: Tensor):
        self._graph = current_graph()
        self._seed = seed
        self._step = step
        self._rows = rows
        self._count = 0

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, (batch, *shape)."""
        return self._draw(tf.raw_ops.StatelessRandomNormalV2, shape)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform numbers in [low, high), (batch, *shape)."""
        return low + (high - low) * self._draw(tf.raw_ops.StatelessRandomUniformV2, shape)

    def of_the_step(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1) for all rows together, of this shape, the same on every replica."""
        return self._draw(tf.raw_ops.StatelessRandomUniformV2, shape, alike=True)[0]

    def _draw(self, op: Any, shape: tuple[int, ...], alike: bool = False) -> Tensor:
        # Where these numbers were asked for, not in a function that XLA compiles: there Philox would give others.
        with self._graph.as_default() if self._graph is not current_graph() else nullcontext():
            return self._drawn(op, shape, tf.zeros([1], tf.int64) if alike else self._rows)

    def _drawn(self, op: Any, shape: tuple[int, ...], rows: Tensor) -> Tensor:
        if self._count >= DRAWS_PER_STEP:
            raise ValueError(f"a train step made more than {DRAWS_PER_STEP} draws of noise.")
        size = 1
        for dimension in shape:
            size *= dimension
        counts_per_row = -(-size // VALUES_PER_COUNT)
        first = tf.cast(rows[0], tf.uint64) * counts_per_row
        draw = tf.cast(self._step, tf.uint64) * DRAWS_PER_STEP + self._count
        self._count += 1
        count = tf.shape(rows)[0]
        values = op(
            shape=[count, counts_per_row * VALUES_PER_COUNT],
            key=tf.constant([self._seed], tf.uint64),
            counter=tf.stack([first, draw]),
            alg=PHILOX,
        )
        values = tf.cast(tf.reshape(values[:, :size], [count, *shape]), keras.config.floatx())
        return tf.ensure_shape(values, [rows.shape[0], *shape])


# What latents are drawn from, (draws, size) -> (batch, size); the keys are feeds of a card (`serving.card.Feed`).
PRIORS = {"normal": Draws.normal, "uniform": lambda draws, size: draws.uniform(size, low=-1.0, high=1.0)}


def current_graph() -> Any:
    """The graph that is being traced; None when nothing is."""
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
