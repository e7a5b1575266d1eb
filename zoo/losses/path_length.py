"""Path length regularization (StyleGAN2, arXiv:1912.04958, section 3.2)."""

from collections.abc import Callable
from typing import final

import keras
from keras import ops

from zoo.core.replicas import ONLY_FIRST_REPLICA, global_mean
from zoo.core.step import input_gradient
from zoo.core.types import Tensor

DECAY = 0.01  # of the mean length, as in the authors' code


def path_lengths(synthesize: Callable[[Tensor], Tensor], styles: Tensor, noise: Tensor) -> Tensor:
    """||J_w^T y||_2, y = noise / sqrt(height width): how far an image moves for a small step of its styles, (batch,).

    The square is averaged over the layers, so that a w that all layers share gives what w itself would by their sum
    of squares over their number, as in the authors' code.

    Args:
        synthesize: styles -> images, (batch, height, width, channels), a row's of that row alone.
        styles: (batch, layers, style_dim).
        noise: standard normal, of the images' shape.
    """
    height, width = noise.shape[1:3]
    direction = noise / (height * width) ** 0.5
    gradient = input_gradient(lambda rows: ops.sum(synthesize(rows) * direction, axis=(1, 2, 3)), styles)
    return ops.sqrt(ops.mean(ops.sum(ops.square(gradient), axis=2), axis=1))


@final
class PathLength(keras.layers.Layer):
    """(||J_w^T y||_2 - a)^2, a the moving average of these lengths, without its weight  (eq. 4).

    Authors' code: the average starts at 0, so that lengths are drawn there for the first hundreds of steps. Here it is
    the plain mean of the batches so far, until these are 1 / `DECAY`.
    """

    def __init__(self) -> None:
        super().__init__(name="path_length")
        kept = {"shape": (), "initializer": "zeros", "trainable": False, "aggregation": ONLY_FIRST_REPLICA}
        self.mean = self.add_weight(**kept, name="mean")
        self.batches = self.add_weight(**kept, name="batches")
        self.built = True

    def penalty(self, lengths: Tensor) -> Tensor:
        """One value per row, once these lengths have moved the average, which is then a constant.

        Args:
            lengths: of `path_lengths`, (batch,).
        """
        (now,) = global_mean([ops.sum(ops.stop_gradient(lengths))], lengths)
        self.batches.assign(self.batches + 1.0)
        mean = ops.convert_to_tensor(self.mean)
        mean = mean + ops.maximum(1.0 / self.batches, DECAY) * (ops.cast(now, mean.dtype) - mean)
        self.mean.assign(mean)
        return ops.square(lengths - ops.cast(mean, lengths.dtype))
