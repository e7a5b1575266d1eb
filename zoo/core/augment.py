"""Changes to pictures that leave what they show as it is: pure functions of pictures and random numbers.

Differentiable by the pictures. A caller takes the numbers from the step's draws, so that they obey its rules.
"""

from typing import Any

from keras import ops

Tensor = Any


def translate(images: Tensor, uniform: Tensor, share: float, fill: float = -1.0) -> Tensor:
    """Each picture moved by whole pixels, up or down and left or right.

    Args:
        images: (batch, height, width, channels).
        uniform: (batch, 2) in [0, 1): how far each moves, down and to the right, from the most negative to the most
            positive.
        share: the largest movement, of the side, 0 <= share < 1.
        fill: what comes in from outside.
    """
    for axis in (1, 2):
        size = images.shape[axis]
        most = round(share * size)
        shift = ops.cast(ops.floor(uniform[:, axis - 1] * (2 * most + 1)), "int32") - most
        source = ops.arange(size, dtype="int32")[None, :] - shift[:, None]  # (batch, size): where each line comes from
        inside = ops.cast((source >= 0) & (source < size), images.dtype)
        lines = (-1, size, 1, 1) if axis == 1 else (-1, 1, size, 1)
        moved = ops.take_along_axis(images, ops.reshape(ops.clip(source, 0, size - 1), lines), axis=axis)
        inside = ops.reshape(inside, lines)
        images = moved * inside + fill * (1.0 - inside)
    return images


def flip(images: Tensor, uniform: Tensor) -> Tensor:
    """Every second picture, on average, mirrored left to right.

    Args:
        images: (batch, height, width, channels).
        uniform: (batch,) in [0, 1): below one half, a picture is mirrored.
    """
    mirrored = ops.reshape(uniform < 0.5, (-1, 1, 1, 1))
    return ops.where(mirrored, ops.flip(images, axis=2), images)
