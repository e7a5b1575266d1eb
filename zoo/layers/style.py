"""What puts a style and noise into maps (StyleGAN, arXiv:1812.04948, section 2 and appendices B and C)."""

from typing import Any

import keras
from keras import ops

from zoo.core.replicas import ONLY_FIRST_REPLICA
from zoo.core.types import Tensor
from zoo.layers.equalized import EqualizedDense


@keras.saving.register_keras_serializable("zoo")
class LearnedConstant(keras.layers.Layer):
    """A map that is learned, the same for each row.

    Args:
        shape: (height, width, channels).
        initializer: of its values; ones for StyleGAN, "random_normal" of variance 1 for StyleGAN2.
    """

    def __init__(self, shape: tuple[int, int, int], initializer: Any = "ones", **kwargs: Any):
        super().__init__(**kwargs)
        self.shape = tuple(shape)
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the map."""
        self.constant = self.add_weight(shape=self.shape, initializer=self.initializer, name="constant")

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, ...), only whose number of rows counts -> (batch, height, width, channels)."""
        constant = ops.convert_to_tensor(self.constant)
        return ops.broadcast_to(constant, (ops.shape(inputs)[0], *self.shape))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """That of a map for each row."""
        return (input_shape[0], *self.shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        initializer = keras.initializers.serialize(self.initializer)
        return {**super().get_config(), "shape": self.shape, "initializer": initializer}


@keras.saving.register_keras_serializable("zoo")
class NoiseBias(keras.layers.Layer):
    """B: noise times a learned strength, and a learned bias, added to maps; all 0 at the start.

    Args:
        per_channel: whether each channel has a strength of its own (StyleGAN), or all share one (StyleGAN2).
    """

    def __init__(self, per_channel: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.per_channel = per_channel

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Create the strength, (channels,) or (), and the bias, (channels,)."""
        channels = input_shape[0][-1]
        shape = (channels,) if self.per_channel else ()
        self.strength = self.add_weight(shape=shape, initializer="zeros", name="strength")
        self.bias = self.add_weight(shape=(channels,), initializer="zeros", name="bias")

    def call(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Maps (batch, height, width, channels), noise (batch, height, width, 1) -> maps."""
        maps, noise = inputs
        return maps + (noise * self.strength + self.bias)

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """That of the maps."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "per_channel": self.per_channel}


@keras.saving.register_keras_serializable("zoo")
class AdaIN(keras.layers.Layer):
    """(1 + y_s) (x - mean(x)) / std(x) + y_b for each channel of each row  (eq. 1).

    The styles y_s and y_b are an affine function of w, 0 at the bias' start; the 1 is the authors' code's.

    Args:
        epsilon: added to the variance.
    """

    def __init__(self, epsilon: float = 1e-8, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape: list[tuple[int, ...]]) -> None:
        """Create A, from w to two numbers per channel."""
        maps, style = input_shape
        self.affine = EqualizedDense(2 * maps[-1], gain=1.0, dtype=self.dtype_policy, name="affine")
        self.affine.build(style)

    def call(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Maps (batch, height, width, channels), w (batch, style_dim) -> maps; statistics in full precision."""
        maps, style = inputs
        centered = ops.cast(maps, self.variable_dtype)
        centered = centered - ops.mean(centered, axis=(1, 2), keepdims=True)
        variance = ops.mean(ops.square(centered), axis=(1, 2), keepdims=True)
        normalized = centered * ops.rsqrt(variance + self.epsilon)
        scale, bias = ops.split(ops.cast(self.affine(style), self.variable_dtype)[:, None, None], 2, axis=-1)
        return ops.cast(normalized * (1.0 + scale) + bias, self.compute_dtype)

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """That of the maps."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("zoo")
class Truncation(keras.layers.Layer):
    """w_avg + psi (w - w_avg) for each layer of a synthesis network  (appendix B).

    Its weight `mean_latent`, w_avg, is 0 until a model that tracks the mean of w assigns it.

    Args:
        count: number of layers that take a style.
        layers: how many of them, from the lowest resolution, have theirs truncated; None for all.
    """

    def __init__(self, count: int, layers: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if layers is not None and not 0 <= layers <= count:
            raise ValueError(f"truncation_layers={layers}: choose 0 to {count}, or None for all {count}.")
        self.count = count
        self.layers = layers

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Create w_avg, (style_dim,)."""
        self.mean_latent = self.add_weight(
            shape=(input_shape[0][-1],),
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation=ONLY_FIRST_REPLICA,
            name="mean_latent",
        )

    def call(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """w (batch, style_dim), psi (batch,) -> styles (batch, layers, style_dim)."""
        style, psi = inputs
        mean = ops.cast(self.mean_latent, style.dtype)
        truncated = ops.repeat((mean + psi[:, None] * (style - mean))[:, None], self.count, axis=1)
        if self.layers is None:
            return truncated
        return ops.where(ops.arange(self.count)[:, None] < self.layers, truncated, style[:, None])

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """(batch, layers, style_dim)."""
        rows, size = input_shape[0]
        return rows, self.count, size

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "count": self.count, "layers": self.layers}


def mix_styles(first: Tensor, second: Tensor, cut: Tensor, layers: int) -> Tensor:
    """Style mixing (section 3.1): the layers below `cut` take the first style, the others the second.

    Args:
        first: w, (batch, style_dim).
        second: another, likewise.
        cut: integers, (batch,), or one for all rows; from `layers` on, the first style alone is taken.
        layers: number of layers that take a style.

    Returns:
        (batch, layers, style_dim).
    """
    below = ops.arange(layers, dtype="int32") < ops.reshape(ops.cast(cut, "int32"), (-1, 1))  # (batch or 1, layers)
    return ops.where(below[..., None], first[:, None], second[:, None])
