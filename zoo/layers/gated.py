"""The block of a gated PixelCNN (arXiv:1606.05328, figure 2): two stacks that together see all earlier pixels.

The vertical stack sees whole rows, the horizontal one the rest of a pixel's own row; the first feeds the second, not
the other way round. No kernel is masked: maps are padded on the side of the past and convolved with padding "valid", so
that kernels hold the weights alone that are used, and no arithmetic is spent on zeros.
"""

from typing import Any

import keras
from keras import layers, ops

from zoo.core.types import Tensor


@keras.saving.register_keras_serializable("zoo")
class GatedBlock(layers.Layer):
    """Two gated convolutions, linked, of both stacks.

    A place of the vertical maps sees the `depth` rows that end with its own, `kernel` columns wide; one of the
    horizontal maps the `depth` columns that end with its own, and the vertical maps at its place. What is outside of
    the maps is 0. That is the paper's mask B; its mask A, in the first layer alone, is an image that was shifted before
    it comes in (`zoo.networks.pixel_cnn`).

    Args:
        filters: of the maps that come out.
        kernel: k, odd; depth = (k + 1) / 2.
        residual: whether the horizontal maps that come in are added; their channels are then `filters`.
        last: whether no block follows, so that only the skip connection goes on, and neither stack.
        classes: number of classes, which then shift what is gated; 0 for none.
    """

    def __init__(
        self, filters: int, kernel: int, residual: bool = True, last: bool = False, classes: int = 0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if filters < 1 or kernel < 3 or kernel % 2 == 0:
            raise ValueError(f"filters={filters}, kernel={kernel}: choose 1 filter or more, and an odd kernel from 3.")
        self.filters, self.kernel, self.residual, self.last, self.classes = filters, kernel, residual, last, classes
        self.depth = (kernel + 1) // 2

        def convolution(filters: int, size: tuple[int, int], name: str) -> layers.Conv2D:
            return layers.Conv2D(filters, size, dtype=self.dtype_policy, name=name)

        self.vertical = convolution(2 * filters, (self.depth, kernel), "vertical")
        self.link = convolution(2 * filters, (1, 1), "link")
        self.horizontal = convolution(2 * filters, (1, self.depth), "horizontal")
        self.out = convolution(filters if last else 2 * filters, (1, 1), "out")
        self.shift = (
            layers.Embedding(classes, 2 * filters * (1 if last else 2), "zeros", dtype=self.dtype_policy, name="shift")
            if classes
            else None
        )

    def build(self, input_shape: Any) -> None:
        """Build the convolutions for maps of the stacks' channels."""
        vertical, horizontal, *_ = input_shape
        self.vertical.build((None, None, None, vertical[-1]))
        self.link.build((None, None, None, 2 * self.filters))
        self.horizontal.build((None, None, None, horizontal[-1]))
        self.out.build((None, None, None, self.filters))
        if self.shift is not None:
            self.shift.build((None,))

    def call(self, inputs: Any) -> Any:
        """Maps of both stacks, (batch, height, width, channels) each, and (batch,) labels where there are classes.

        Returns:
            vertical, horizontal and skip, each (batch, height, width, filters); the skip alone of the last block.
        """
        vertical, horizontal, *labels = inputs
        past = self.depth - 1
        side = self.kernel // 2
        rows = self.vertical(ops.pad(vertical, [(0, 0), (past, 0), (side, side), (0, 0)]))
        summed = self.horizontal(ops.pad(horizontal, [(0, 0), (0, 0), (past, 0), (0, 0)])) + self.link(rows)
        if self.shift is not None:
            rows, summed = self.shift_by_class(rows, summed, self.shift(labels[0])[:, None, None])
        out = self.out(gate(summed))
        if self.last:
            return out
        added, skip = ops.split(out, 2, axis=-1)
        return gate(rows), horizontal + added if self.residual else added, skip

    def shift_by_class(self, rows: Tensor, summed: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
        """What is gated, plus the class's shifts; the vertical stack's own does not come through the link."""
        if self.last:
            return rows, summed + shifts
        first, second = ops.split(shifts, 2, axis=-1)
        return rows + first, summed + second

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("filters", "kernel", "residual", "last", "classes")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def gate(maps: Tensor) -> Tensor:
    """tanh(a) sigmoid(b), a and b the halves of the channels (equation 2)."""
    a, b = ops.split(maps, 2, axis=-1)
    return ops.tanh(a) * ops.sigmoid(b)
