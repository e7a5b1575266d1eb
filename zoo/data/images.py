"""Images in memory, and how an image becomes square."""

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")  # no other decoder runs, whatever a file claims to be


@dataclass(frozen=True)
class Pictures:
    """One split of a picture set, decoded."""

    images: np.ndarray
    """uint8 (count, height, width, channels), in memory or memory-mapped."""
    labels: np.ndarray | None
    """int64 (count,), an index into `class_names`."""
    class_names: tuple[str, ...]
    name: str
    split: str
    fingerprint: str
    """sha256 over the shape and the picture bytes: a resumed run can tell that the data changed."""
    ignored: int
    """Files that are no pictures (README, .DS_Store ...)."""
    broken: tuple[str, ...]
    """Pictures that could not be decoded, left out because `skip_broken` asked for it."""
    licence: str
    """Short name; "" where unknown."""


def _crop(picture: Image.Image, size: int) -> Image.Image:
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    return picture.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def _squash(picture: Image.Image, size: int) -> Image.Image:
    return picture.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _pad(picture: Image.Image, size: int) -> Image.Image:
    longest = max(picture.size)
    if longest > size:
        width, height = (max(1, round(side * size / longest)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    canvas = Image.new(picture.mode, (size, size), 0)
    canvas.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return canvas


FITS: dict[str, Callable[[Image.Image, int], Image.Image]] = {"crop": _crop, "squash": _squash, "pad": _pad}


@dataclass(frozen=True)
class Policy:
    """What every picture of a set is turned into.

    Args:
        image_size: height and width in pixels; None keeps the native size.
        channels: 1 (grey) or 3 (RGB).
        fit: "crop" scales the shorter side to `image_size` and cuts the centre; "squash" ignores the aspect; "pad"
            scales down what is larger, never up, and centres it on black.
    """

    image_size: int | None
    channels: int
    fit: str = "crop"

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ValueError(f"fit={self.fit!r}: choose from {sorted(FITS)}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels={self.channels!r}: choose 1 (grey) or 3 (RGB)")
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size={self.image_size!r}: give pixels >= 1, or None for the native size")

    def apply(self, picture: Image.Image) -> np.ndarray:
        """Any Pillow image -> uint8 (height, width, channels).  Alpha is composited on white."""
        picture = _eight_bits(picture)
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        picture = picture.convert("L" if self.channels == 1 else "RGB")
        if self.image_size is not None:
            picture = FITS[self.fit](picture, self.image_size)
        return np.asarray(picture).reshape(picture.height, picture.width, self.channels)

    def decode(self, data: bytes) -> np.ndarray:
        """A picture file's bytes -> uint8 (height, width, channels): first frame, EXIF orientation applied."""
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            picture.load()
            return self.apply(ImageOps.exif_transpose(picture))


def _eight_bits(picture: Image.Image) -> Image.Image:
    """16-bit grey -> 8-bit grey (Pillow's own conversion clips at 255 instead of scaling)."""
    if picture.mode == "F":
        raise ValueError("a picture of floating-point numbers has no known range")
    if not picture.mode.startswith("I"):
        return picture
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("a picture of 32-bit numbers has no known range")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def fingerprint(images: np.ndarray) -> str:
    """sha256 over shape and bytes."""
    digest = hashlib.sha256(str(images.shape).encode())
    for start in range(0, len(images), 256):
        digest.update(np.ascontiguousarray(images[start : start + 256]).data)
    return digest.hexdigest()


def scaled(pictures: np.ndarray) -> np.ndarray:
    """uint8 -> float32 in [-1, 1], as networks take them."""
    if pictures.dtype != np.uint8 or pictures.ndim != 4:
        raise ValueError(f"pictures {pictures.shape} {pictures.dtype}: give (count, height, width, channels) uint8.")
    return pictures.astype(np.float32) / np.float32(127.5) - np.float32(1.0)


def centre(pictures: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle (count, height, width, channels) of larger pictures; an odd margin is larger below and right."""
    top, left = (pictures.shape[1] - height) // 2, (pictures.shape[2] - width) // 2
    return pictures[:, top : top + height, left : left + width]


def chunks(rows: Any, size: int) -> Iterator[Any]:
    """The rows in runs of `size`, the last one shorter."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
