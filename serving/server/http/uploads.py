"""Images that a client sends: files of a few formats, bounded before their pixels are unpacked."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from serving.card import Input, to_line
from serving.session import InputError
from serving.translation import WHITE, Source

FORMATS = ("PNG", "JPEG", "WEBP")
PIXEL_LIMIT = 2**24  # of an image, and of one that is made of it


def open_image(body: bytes, *, pixels: int = PIXEL_LIMIT) -> Image.Image:
    """An image file, its pixels read.

    Args:
        body: PNG, JPEG or WebP; of an animation the first frame is taken.
        pixels: the most that it may have.

    Raises:
        InputError: it is no such file, is damaged, or has too many pixels.
    """
    if not body:
        raise InputError(f"there is no image: send the bytes of a file, one of {list(FORMATS)}")
    try:
        image = Image.open(io.BytesIO(body), formats=FORMATS)
        size = image.size
        if size[0] * size[1] <= pixels:  # known from the head of the file
            image.load()
    except UnidentifiedImageError:
        raise InputError(f"this is no image file: send the bytes of one of {list(FORMATS)}") from None
    except Exception as error:  # Pillow raises almost anything on a damaged file
        raise InputError(f"the image file is damaged: {to_line(str(error), 100)}") from error
    if size[0] * size[1] > pixels:
        raise InputError(f"the image has {size[0]}x{size[1]} pixels: send at most {pixels}")
    return image


def read_images(files: Sequence[bytes], spec: Input, *, resize: bool = False) -> np.ndarray:
    """Image files as an input takes them: (count, height, width, channels) in its dtype and range.

    Transparent pixels are laid on white; color becomes gray, or gray color, where the input's channels ask for it.

    Args:
        files: of images of one size, where that of the input is free.
        spec: an input that is fed an image.
        resize: scale images of another size than the input's; else they are refused.

    Raises:
        InputError: the input takes no image, an image has another size, or as of `open_image`.
    """
    if spec.feed != "image" or len(spec.shape) != 4 or spec.shape[3] not in (1, 3):
        raise InputError(f"input {spec.name!r} takes no image file: it is {spec.feed} of shape {list(spec.shape)}")
    arrays = [_to_pixels(open_image(file), spec, resize) for file in files]
    if len({array.shape for array in arrays}) > 1:
        raise InputError("the images have several sizes: send those of one size in one request")
    low, high = spec.range or (-1.0, 1.0)
    values = np.stack(arrays).astype(np.float32) / np.float32(255 / (high - low)) + np.float32(low)
    return values.astype(spec.dtype)


def _to_pixels(image: Image.Image, spec: Input, resize: bool) -> np.ndarray:
    """uint8 (height, width, channels)."""
    color = Source.of(image, "the image", WHITE).color
    flat = Image.fromarray(color[:, :, 0] if color.shape[2] == 1 else color)
    flat = flat.convert("L" if spec.shape[3] == 1 else "RGB")
    height, width = spec.shape[1:3]
    wanted = (flat.width if isinstance(width, str) else width, flat.height if isinstance(height, str) else height)
    if flat.size != wanted:
        if not resize:
            raise InputError(
                f"the image has {flat.width}x{flat.height} pixels, and the model takes {wanted[0]}x{wanted[1]}"
            )
        flat = flat.resize(wanted, Image.Resampling.LANCZOS)
    return np.asarray(flat).reshape(wanted[1], wanted[0], -1)
