"""What every score refuses: one clear error instead of a number that means nothing."""

import numpy as np

RANGE_SLACK = 1e-3  # float16 weights and resampling overshoot [-1, 1] by less than an eighth of a gray level


def finite_rows(values: np.ndarray, what: str, *, least: int = 1) -> np.ndarray:
    """The same array, once it is known to be (count, dimension), float, finite and long enough.

    Args:
        values: features, or probabilities, one row an image.
        what: what an error calls them.
        least: rows that the score needs.

    Raises:
        ValueError: it is none of that.
    """
    if values.ndim != 2 or values.dtype.kind != "f" or not values.shape[1]:
        raise ValueError(f"{what} {values.shape} {values.dtype}: give (count, dimension), float32 or float64.")
    if len(values) < least:
        raise ValueError(f"{len(values)} {what}: give at least {least}.")
    bad = len(values) - np.count_nonzero(np.isfinite(values).all(axis=1))
    if bad:
        raise ValueError(f"{bad} of {len(values)} {what} hold NaN or infinity: look at the images they come from.")
    return values


def same_dimension(one: np.ndarray, other: np.ndarray, what: str) -> None:
    """Refuses two sets whose rows differ in length.

    Raises:
        ValueError: they do.
    """
    if one.shape[1] != other.shape[1]:
        raise ValueError(
            f"{what} of dimension {one.shape[1]} and {other.shape[1]}: take both with the same extractor and layer."
        )


def brightness_of_pairs(one: np.ndarray, other: np.ndarray, *, smallest: int) -> tuple[np.ndarray, np.ndarray]:
    """Both in 0..1, float64, once they are known to be pairs of images: see `images_in_range`.

    Raises:
        ValueError: the shapes differ, or one holds something else.
    """
    if one.shape != other.shape:
        raise ValueError(f"images {one.shape} and {other.shape}: give pairs of the same shape.")
    x, y = ((images_in_range(images, smallest=smallest).astype(np.float64) + 1) / 2 for images in (one, other))
    return x, y


def images_in_range(images: np.ndarray, *, smallest: int, least: int = 1) -> np.ndarray:
    """The same array, once it is known to hold images: float (count, height, width, channels) in [-1, 1].

    Args:
        images: to be checked.
        smallest: pixels a side that the score needs.
        least: images that it needs.

    Raises:
        ValueError: it holds something else.
    """
    if images.ndim != 4 or images.dtype.kind != "f":
        raise ValueError(
            f"images {images.shape} {images.dtype}: give (count, height, width, channels), float in [-1, 1]."
        )
    count, height, width, channels = images.shape
    if count < least or not channels:
        raise ValueError(f"{count} images of {channels} channels: give at least {least}, of at least 1.")
    if min(height, width) < smallest:
        raise ValueError(f"images of {height} x {width} pixels: give at least {smallest} x {smallest}.")
    low, high = float(images.min()), float(images.max())  # NaN where there is one
    if not (low >= -1 - RANGE_SLACK and high <= 1 + RANGE_SLACK):
        raise ValueError(f"pixels from {low:.4g} to {high:.4g}: give values in [-1, 1], and no NaN.")
    return images
