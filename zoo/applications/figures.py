"""Figures of images: labeled grids, and animations that loop."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from serving.images import make_grid, to_pil, to_uint8

LEAST_SIDE = 64  # pixels of an image in a figure; smaller ones are enlarged by a whole factor
PADDING = 2  # pixels around each image
FONT_SIZE, LEAST_FONT_SIZE = 14, 8  # columns' labels shrink to their width
MARGIN = 6  # pixels around a label
STILLS = (".png", ".gif", ".webp")
ANIMATIONS = (".gif", ".webp")


def draw_figure(
    images: np.ndarray, row_labels: Sequence[str] = (), column_labels: Sequence[str] = (), scale: int | None = None
) -> Image.Image:
    """A grid of images on white, with labels to the left of the rows and above the columns.

    Args:
        images: (rows, columns, height, width, 1, 3 or 4) float in [-1, 1]; what is NaN throughout stays white.
        row_labels: one for each row, or none.
        column_labels: likewise.
        scale: each pixel becomes so many squared; by default what makes an image at least 64 pixels high.

    Raises:
        ValueError: another shape, or another number of labels.
    """
    if images.ndim != 5 or not images.size:
        raise ValueError(f"images {images.shape}: give (rows, columns, height, width, channels), at least one.")
    rows, columns, height, width, _ = images.shape
    for labels, count, what in ((row_labels, rows, "rows"), (column_labels, columns, "columns")):
        if labels and len(labels) != count:
            raise ValueError(f"{len(labels)} labels of {count} {what}: give one for each.")
    scale = find_scale(height) if scale is None else scale
    blank = np.isnan(images).all(axis=(2, 3, 4), keepdims=True)
    levels = to_uint8(np.where(blank, 1.0, images).reshape(-1, *images.shape[2:]), (-1.0, 1.0))
    (sheet,) = to_pil(make_grid(enlarge(levels, scale), columns, PADDING)[None])
    if not row_labels and not column_labels:
        return sheet
    height, width = scale * height + PADDING, scale * width + PADDING
    font = ImageFont.load_default(FONT_SIZE)
    left = math.ceil(find_widest(row_labels, font)) + 2 * MARGIN if row_labels else 0
    top = FONT_SIZE + 2 * MARGIN if column_labels else 0
    figure = Image.new(sheet.mode, (left + sheet.width, top + sheet.height), "white")
    figure.paste(sheet, (left, top))
    draw = ImageDraw.Draw(figure)
    for row, label in enumerate(row_labels):
        draw.text((left - MARGIN, top + PADDING / 2 + (row + 0.5) * height), label, "black", font, anchor="rm")
    share = (width - PADDING) / max(find_widest(column_labels, font), 1)
    font = ImageFont.load_default(max(LEAST_FONT_SIZE, min(FONT_SIZE, int(FONT_SIZE * share))))
    for column, label in enumerate(column_labels):
        draw.text((left + PADDING / 2 + (column + 0.5) * width, top / 2), label, "black", font, anchor="mm")
    return figure


def save_figure(figure: Image.Image, path: Path) -> None:
    """Write a figure without loss, but for the 256 colors of a GIF.

    Raises:
        ValueError: an ending that is not .png, .gif or .webp.
    """
    if path.suffix not in STILLS:
        raise ValueError(f"{path}: choose a name that ends in {', '.join(STILLS)}.")
    figure.save(path, lossless=True)


def save_animation(frames: np.ndarray, path: Path, milliseconds: int = 50, scale: int | None = None) -> None:
    """Frames that are shown again and again, as GIF or lossless WebP.

    Args:
        frames: (count, height, width, 1 or 3) float in [-1, 1].
        path: ends in .gif or .webp.
        milliseconds: that a frame is shown; a GIF counts in tens.
        scale: as in `draw_figure`.

    Raises:
        ValueError: another ending; NaN.
    """
    if path.suffix not in ANIMATIONS:
        raise ValueError(f"{path}: choose a name that ends in {' or '.join(ANIMATIONS)}.")
    scale = find_scale(frames.shape[1]) if scale is None else scale
    first, *others = to_pil(enlarge(to_uint8(frames, (-1.0, 1.0)), scale))
    # GIF has no such option, and Pillow passes over it.
    first.save(path, save_all=True, append_images=others, duration=milliseconds, loop=0, lossless=True)


def find_scale(height: int) -> int:
    """The whole factor that makes an image at least `LEAST_SIDE` pixels high."""
    return max(1, math.ceil(LEAST_SIDE / height))


def enlarge(images: np.ndarray, scale: int) -> np.ndarray:
    """(count, height, width, channels), each pixel `scale` squared."""
    return images.repeat(scale, axis=1).repeat(scale, axis=2)


def find_widest(labels: Sequence[str], font: Any) -> float:
    """Pixels of the longest label."""
    return max((font.getlength(label) for label in labels), default=0.0)
