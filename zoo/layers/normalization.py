"""Batch norm, layer norm, instance norm: Keras' weights, and gradients that are right to any order on any replicas."""

from typing import Any

import keras
from keras import ops

from zoo.core.normalization import normalize_batch, normalize_rows
from zoo.core.replicas import ONLY_FIRST_REPLICA
from zoo.core.types import Tensor


@keras.saving.register_keras_serializable("zoo")
class BatchNorm(keras.layers.Layer):
    """Batch norm over the rows of the global batch (arXiv:1502.03167, Algorithm 1).

    Weights, moving statistics (of the biased variance) and inference are those of `keras.layers.BatchNormalization`.
    That layer, synchronized, asks for five all-reduces a forward and a backward pass, and this one for two.

    Args:
        momentum: share of the moving statistics that a training call keeps.
        epsilon: added to the variance.
        center: whether there is a shift, beta.
        scale: whether there is a scale, gamma.
    """

    def __init__(
        self, momentum: float = 0.99, epsilon: float = 1e-3, center: bool = True, scale: bool = True, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon
        self.center = center
        self.scale = scale

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create gamma and beta, where there are such, and the moving statistics, all (channels,)."""
        shape = (input_shape[-1],)
        kept = {"shape": shape, "autocast": False}
        self.gamma = self.add_weight(**kept, initializer="ones", name="gamma") if self.scale else None
        self.beta = self.add_weight(**kept, initializer="zeros", name="beta") if self.center else None
        moving = kept | {"trainable": False, "aggregation": ONLY_FIRST_REPLICA}
        self.moving_mean = self.add_weight(**moving, initializer="zeros", name="moving_mean")
        self.moving_variance = self.add_weight(**moving, initializer="ones", name="moving_variance")

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """(batch, ..., channels) -> likewise; by the batch's statistics in training, else by the moving ones."""
        if training and self.trainable:
            gamma = ops.ones_like(self.moving_mean) if self.gamma is None else self.gamma
            beta = ops.zeros_like(self.moving_mean) if self.beta is None else self.beta
            normalized = normalize_batch(inputs, gamma, beta, self.epsilon)
            pairs = (self.moving_mean, normalized.mean), (self.moving_variance, normalized.variance)
            for moving, now in pairs:
                moving.assign(moving * self.momentum + now * (1.0 - self.momentum))
            return normalized.values
        wide = ops.cast(inputs, self.variable_dtype)
        outputs = ops.batch_normalization(
            wide,
            self.moving_mean,
            self.moving_variance,
            axis=-1,
            offset=self.beta,
            scale=self.gamma,
            epsilon=self.epsilon,
        )
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """That of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"momentum": self.momentum, "epsilon": self.epsilon, "center": self.center, "scale": self.scale}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("zoo")
class LayerNorm(keras.layers.Layer):
    """Each row over all of its values, then a scale and a shift per channel (arXiv:1607.06450).

    The weights, and the values, are those of `keras.layers.GroupNormalization(groups=1)`, whose second derivatives are
    not those of its values: it takes the mean within the variance as a constant. `keras.layers.LayerNormalization` over
    the same axes would have a scale and a shift per pixel.

    Args:
        epsilon: added to the variance.
    """

    def __init__(self, epsilon: float = 1e-3, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create gamma and beta, both (channels,)."""
        kept = {"shape": (input_shape[-1],), "autocast": False}
        self.gamma = self.add_weight(**kept, initializer="ones", name="gamma")
        self.beta = self.add_weight(**kept, initializer="zeros", name="beta")

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, ..., channels) -> likewise, by statistics in full precision."""
        normalized = normalize_rows(ops.cast(inputs, self.variable_dtype), self.epsilon)
        return ops.cast(normalized * self.gamma + self.beta, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """That of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("zoo")
class InstanceNorm(keras.layers.Layer):
    """Each channel of each row over its pixels (arXiv:1607.08022, eq. 2), with no weights.

    As PyTorch's `InstanceNorm2d` by default, and so as in CycleGAN's code; `keras.layers.GroupNormalization` with a
    group a channel gives the same values, and other second derivatives.

    Args:
        epsilon: added to the variance.
    """

    def __init__(self, epsilon: float = 1e-5, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, height, width, channels) -> likewise, by statistics in full precision."""
        wide = ops.cast(inputs, self.variable_dtype)
        centered = wide - ops.mean(wide, axis=(1, 2), keepdims=True)
        variance = ops.mean(ops.square(centered), axis=(1, 2), keepdims=True)  # right to any order, as it stands
        return ops.cast(centered * ops.rsqrt(variance + self.epsilon), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """That of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "epsilon": self.epsilon}
