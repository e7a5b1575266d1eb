"""Arrays of images as 8-bit values, Pillow images, grids and files."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image

from serving.card import Range

UPRIGHT = 1  # EXIF's number for an image that is stored as it is seen
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def to_uint8(images: np.ndarray, range: Range) -> np.ndarray:
    """Map `range` to 0..255 and round to the nearest gray level, half to even; values outside the range are clipped.

    Args:
        images: of any shape.
        range: (low, high) of the values: low becomes 0, high 255.

    Raises:
        ValueError: there is a NaN among them.
    """
    low, high = range
    if np.isnan(images).any():
        raise ValueError("the images hold NaN: the model or its weights are broken")
    # Clipped before they are scaled: finite values far outside would overflow.
    inside = np.clip(np.asarray(images, np.promote_types(images.dtype, np.float32)), low, high)
    levels = (inside.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def interleave(columns: Sequence[np.ndarray], range: Range) -> np.ndarray:
    """Images for a grid: the first of each column, then the second of each, as `to_uint8` gives them.

    Args:
        columns: likewise shaped (count, height, width, channels).
        range: (low, high) of the values.
    """
    cells = np.stack([np.asarray(column) for column in columns], axis=1)
    return to_uint8(cells.reshape(-1, *cells.shape[2:]), range)


def save_grid(images: np.ndarray, file: str | Path | IO[bytes], columns: int | None = None) -> None:
    """Write images as one file, laid out by `make_grid`.

    Args:
        images: uint8 (batch, height, width, channels), at least one.
        file: a path, whose ending names the format, or a file open for writing, which gets a PNG.
        columns: as in `make_grid`.

    Raises:
        ValueError: as in `make_grid` and `to_pil`.
    """
    format = None if isinstance(file, (str, Path)) else "png"
    to_pil(make_grid(images, columns)[None])[0].save(file, format, optimize=True)


def to_pil(images: np.ndarray) -> list[Image.Image]:
    """uint8 (batch, height, width, channels) -> Pillow images: 1 channel L, 3 RGB, 4 RGBA.

    Raises:
        ValueError: another dtype, shape or number of channels.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3, 4):
        raise ValueError(f"expected uint8 (batch, height, width, 1, 3 or 4), found {images.dtype} {images.shape}")
    return [Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image) for image in images]


def make_grid(images: np.ndarray, columns: int | None = None, padding: int = 2) -> np.ndarray:
    """A sheet of images, row by row, on black with `padding` pixels around each; as square as can be by default.

    Args:
        images: uint8 (batch, height, width, channels), at least one.
        columns: images in a row of the sheet, from 1; the square root of their number, rounded up, when not given.
        padding: pixels around each image, from 0.

    Returns:
        uint8 (height, width, channels).

    Raises:
        ValueError: no such images, columns or padding.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise ValueError(f"expected uint8 (1 or more, height, width, channels), found {images.dtype} {images.shape}")
    count, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(count)) if columns is None else columns
    if columns < 1 or padding < 0:
        raise ValueError(f"columns={columns}, padding={padding}: give columns from 1 and padding from 0")
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, height + padding, width + padding, channels), np.uint8)
    cells[:count, padding:, padding:] = images
    sheet = cells.reshape(rows, columns, height + padding, width + padding, channels).swapaxes(1, 2)
    sheet = sheet.reshape(rows * (height + padding), columns * (width + padding), channels)
    return np.pad(sheet, ((0, padding), (0, padding), (0, 0)))


def turn_upright(image: Image.Image) -> Image.Image:
    """As the EXIF orientation says; `ImageOps.exif_transpose` writes all tags anew, and fails on odd ones."""
    try:
        turn = ORIENTATIONS.get(int(image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)))
    except Exception:  # damaged tags are no reason to refuse the pixels; they raise almost anything
        turn = None
    return image if turn is None else image.transpose(turn)


def to_eight_bits(image: Image.Image) -> Image.Image:
    """16-bit gray -> 8-bit gray (Pillow's own conversion clips at 255 instead of scaling).

    Raises:
        ValueError: the image's numbers have no known range.
    """
    if image.mode == "F":
        raise ValueError("an image of floating-point numbers has no known range")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int32)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("an image of 32-bit numbers has no known range")
    values += 128
    values //= 257
    return Image.fromarray(values.astype(np.uint8))
