"""Images in memory, and how an image becomes square."""

import hashlib
import io
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from serving.images import to_eight_bits, turn_upright

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # no other decoder runs, whatever a file claims to be
ALIGNMENT = 64  # bytes; where TensorFlow takes memory that is not its own

PIXEL_LIMIT = 100_000_000  # of one image: decoded and converted it takes up to a gigabyte
WEIGHTS = {"WEBP": 2, "AVIF": 2}  # a pixel of these counts as so many: their decoders hold canvases of their own
STRIP = 2**20  # pixels that are converted at a time


class UnknownSplitError(ValueError):
    """A set has no images in the split that is asked for."""


class Budget:
    """An amount that threads share: one that wants more than is left waits, and one that wants it all gets it alone."""

    def __init__(self, amount: int):
        """With `amount` to share."""
        self.amount = amount
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def borrow(self, amount: int) -> Iterator[None]:
        """Take a part for as long as the context lasts."""
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + amount <= self.amount)
            self._used += amount
        try:
            yield
        finally:
            with self._changed:
                self._used -= amount
                self._changed.notify_all()


PIXELS = Budget(50_000_000)  # of the images that are decoded at the same time: about half a gigabyte


@contextmanager
def open_image(data: bytes) -> Iterator[Image.Image]:
    """An image file's bytes as a Pillow image, with as much of PIXELS as decoding it takes.

    Raises:
        ValueError: it has too many pixels.
        Exception: a damaged file raises almost anything: OSError, SyntaxError, struct.error ...
    """
    with ExitStack() as stack:
        size = _read_webp_size(data)
        if size is not None:  # Pillow takes the memory when it opens the file
            stack.enter_context(PIXELS.borrow(_count_pixels(size, "WEBP")))
        image = stack.enter_context(Image.open(io.BytesIO(data), formats=FORMATS))
        if size is None:
            stack.enter_context(PIXELS.borrow(_count_pixels(image.size, image.format)))
            stack.callback(image.close)  # its pixels, too, before others are let in
        yield image


def _count_pixels(size: tuple[int, int], format: str | None) -> int:
    weight = WEIGHTS.get(format or "", 1)
    count = math.prod(size) * weight
    if count > PIXEL_LIMIT:
        limit = f"{PIXEL_LIMIT // weight:,}" + (f" in {format}" if weight > 1 else "")
        raise ValueError(f"{size[0]} x {size[1]} pixels; the limit is {limit}")
    return count


def _read_webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in the header of a WebP file; None of another one, or of one that no decoder takes."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        sides = int.from_bytes(data[21:25], "little")
        return 1 + sides % 2**14, 1 + (sides >> 14) % 2**14
    return int.from_bytes(data[26:28], "little") % 2**14, int.from_bytes(data[28:30], "little") % 2**14


@dataclass(frozen=True)
class ImageSet:
    """One split of an image set, decoded."""

    images: np.ndarray
    """uint8 (count, height, width, channels), in memory or memory-mapped."""
    labels: np.ndarray | None
    """int64 (count,), an index into `class_names`; None where the images have no classes."""
    class_names: tuple[str, ...]
    """By label; empty where the images have no classes."""
    name: str
    """Of the set, without its split, such as "fashion_mnist", a key of `PUBLISHED` or a folder's name."""
    split: str
    """Which part of the set, such as "train" or "train[:1000]"; "all" for every part."""
    fingerprint: str
    """sha256 over the shape and the image bytes: a resumed run can tell that the data changed."""
    ignored: int
    """Files that are no images (README, .DS_Store ...)."""
    broken: tuple[str, ...]
    """Images that could not be decoded, left out because `skip_broken` asked for it."""
    license: str
    """Short name; "" where unknown."""
    names: tuple[str, ...] = ()
    """Of the files beneath their split's folder, or of the embedded images, one an image; of others there are none.
    Equal names make a pair."""


def _crop(image: Image.Image, size: int) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def _squash(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _pad(image: Image.Image, size: int) -> Image.Image:
    longest = max(image.size)
    if longest > size:
        width, height = (max(1, round(side * size / longest)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    canvas = Image.new(image.mode, (size, size), 0)
    canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return canvas


FITS: dict[str, Callable[[Image.Image, int], Image.Image]] = {"crop": _crop, "squash": _squash, "pad": _pad}


@dataclass(frozen=True)
class Policy:
    """What every image of a set is turned into.

    Args:
        image_size: height and width in pixels; None keeps the native size.
        channels: 1 (gray) or 3 (RGB).
        fit: one of "crop", which scales the shorter side to `image_size` and cuts the center; "squash", which ignores
            the aspect ratio; "pad", which scales down what is larger, never up, and centers it on black.

    Raises:
        ValueError: another fit or number of channels, or an image size below 1 or of more pixels than PIXEL_LIMIT.
    """

    image_size: int | None
    channels: int
    fit: str = "crop"

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ValueError(f"fit={self.fit!r}: choose from {sorted(FITS)}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels={self.channels!r}: choose 1 (gray) or 3 (RGB)")
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size={self.image_size!r}: give pixels >= 1, or None for the native size")
        if self.image_size is not None and self.image_size**2 > PIXEL_LIMIT:
            raise ValueError(f"image_size={self.image_size}: an image has at most {PIXEL_LIMIT:,} pixels")

    def apply(self, image: Image.Image) -> np.ndarray:
        """Any Pillow image -> uint8 (height, width, channels). Alpha is composited on white.

        Raises:
            ValueError: the image's numbers have no known range.
        """
        image = to_eight_bits(image)
        if image.has_transparency_data:
            image = _composite_on_white(image)
        mode = "L" if self.channels == 1 else "RGB"
        if image.mode != mode:
            image = image.convert(mode)
        if self.image_size is not None:
            image = FITS[self.fit](image, self.image_size)
        return np.asarray(image).reshape(image.height, image.width, self.channels)

    def apply_to_all(self, images: np.ndarray) -> np.ndarray:
        """What `apply` makes of every image: at once where pixels are at most moved, not resampled or converted.

        Args:
            images: uint8 (count, height, width, 1 or 3).

        Returns:
            uint8 (count, height, width, channels).
        """
        _, height, width, channels = images.shape
        size = self.image_size
        if channels == self.channels and (size is None or height == width == size):
            return images
        if channels == self.channels and self.fit == "pad" and max(height, width) <= size:
            top, left = (size - height) // 2, (size - width) // 2
            return np.pad(images, ((0, 0), (top, size - height - top), (left, size - width - left), (0, 0)))
        return np.stack([self.apply(Image.fromarray(i[..., 0] if channels == 1 else i)) for i in images])

    def decode(self, data: bytes) -> np.ndarray:
        """An image file's bytes -> uint8 (height, width, channels): first frame, EXIF orientation applied.

        Raises:
            ValueError: the image's numbers have no known range, or it has too many pixels.
            Exception: a damaged file raises almost anything: OSError, SyntaxError, struct.error ...
        """
        with open_image(data) as image:
            return self.apply(turn_upright(image))


def _composite_on_white(image: Image.Image) -> Image.Image:
    """RGB, a few rows at a time: the copies that it takes are many times as large as the rows."""
    composite = Image.new("RGB", image.size)
    height = max(1, STRIP // image.width)
    for top in range(0, image.height, height):
        rows = image.crop((0, top, image.width, min(top + height, image.height))).convert("RGBA")
        composite.paste(Image.alpha_composite(Image.new("RGBA", rows.size, "white"), rows).convert("RGB"), (0, top))
    return composite


def allocate(shape: tuple[int, ...]) -> np.ndarray:
    """uint8 of that shape, contents undefined, aligned so that TensorFlow can read it without a copy."""
    size = math.prod(shape)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].reshape(shape)


def compute_fingerprint(images: np.ndarray) -> str:
    """sha256 over shape and bytes, in hex digits."""
    digest = hashlib.sha256(str(images.shape).encode())
    for start in range(0, len(images), 256):  # in parts: the images may be a memory-mapped file larger than memory
        digest.update(np.ascontiguousarray(images[start : start + 256]).data)
    return digest.hexdigest()


def to_float32(images: np.ndarray) -> np.ndarray:
    """uint8 in 0..255 -> float32 in [-1, 1], as networks take them.

    Args:
        images: uint8 (count, height, width, channels).

    Raises:
        ValueError: another dtype or shape.
    """
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images {images.shape} {images.dtype}: give (count, height, width, channels) uint8.")
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1.0)


def center_crop(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of larger images; an odd margin is larger below and right.

    Args:
        images: (count, at least height, at least width, channels).
        height: rows to keep.
        width: columns to keep.

    Returns:
        (count, height, width, channels), a view.
    """
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return images[:, top : top + height, left : left + width]


def iterate_chunks(rows: Any, size: int) -> Iterator[Any]:
    """The rows in runs of `size`, the last one shorter."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
