"""Padding by the image's own pixels, for networks that take maps of any size."""

from typing import Any

import keras
from keras import ops

from zoo.core.types import Tensor


@keras.saving.register_keras_serializable("zoo")
class ReflectionPadding2D(keras.layers.Layer):
    """Each side continued by its mirror image, the edge itself not repeated.

    Args:
        padding: pixels on each side; less than the sides of the maps.
    """

    def __init__(self, padding: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.padding = padding

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, height, width, channels) -> (batch, height + 2 padding, width + 2 padding, channels)."""
        sides = (self.padding, self.padding)
        return ops.pad(inputs, [(0, 0), sides, sides, (0, 0)], mode="reflect")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "padding": self.padding}


@keras.saving.register_keras_serializable("zoo")
class PadToMultiple(keras.layers.Layer):
    """Maps continued below and to the right, by their mirror image, until both sides are multiples of a number.

    Args:
        multiple: of which both sides become multiples.
        least: what both sides become at least.
    """

    def __init__(self, multiple: int, least: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.multiple = multiple
        self.least = least

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, height, width, channels), sides of 1 or more -> likewise, larger or the same."""
        for axis in (1, 2):
            side = inputs.shape[axis]
            if side is None or side < self.least or side % self.multiple:
                inputs = self.continue_along(inputs, axis)
        return inputs

    def continue_along(self, inputs: Tensor, axis: int) -> Tensor:
        """One side, reflected as often as it takes: 0 1 2 3 goes on with 2 1 0 1 2 3 2 1 ..."""
        side = ops.shape(inputs)[axis]
        target = round_up(ops.maximum(side, self.least), self.multiple)
        period = ops.maximum(2 * (side - 1), 1)
        place = ops.arange(target) % period
        return ops.take(inputs, ops.minimum(place, period - place), axis=axis)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Known where the sides are."""
        batch, *sides, channels = input_shape
        padded = (None if side is None else round_up(max(side, self.least), self.multiple) for side in sides)
        return (batch, *padded, channels)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "multiple": self.multiple, "least": self.least}


def round_up(side: Any, multiple: int) -> Any:
    """The next multiple, without a negative number on the way: remainders of these differ between programs."""
    return (side + multiple - 1) // multiple * multiple


@keras.saving.register_keras_serializable("zoo")
class CropLike(keras.layers.Layer):
    """The upper left of larger maps: what lies over other ones, such as those that were padded."""

    def call(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Maps (batch, at least height, at least width, channels), and others of height and width -> of that size."""
        maps, like = inputs
        if None not in maps.shape[1:3] and maps.shape[1:3] == like.shape[1:3]:
            return maps
        height, width = ops.shape(like)[1], ops.shape(like)[2]
        return maps[:, :height, :width]

    def compute_output_shape(self, input_shape: tuple[tuple[int | None, ...], ...]) -> tuple[int | None, ...]:
        """The sides of the second, the channels of the first."""
        maps, like = input_shape
        return (maps[0], *like[1:3], maps[3])
