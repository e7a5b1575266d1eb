"""How near images are to what they should be, pair by pair: mean absolute error, PSNR and SSIM."""

import numpy as np

from zoo.metrics.checks import brightness_of_pairs
from zoo.metrics.similarity import WINDOW, luminance_and_structure

# ITU-R BT.601, of red, green and blue in 0..1 to 16..235, as MATLAB's rgb2ycbcr has it.
LUMINANCE = np.array([65.481, 128.553, 24.966])
LUMINANCE_OFFSET = 16.0
LEAST_ERROR = 1e-10  # equal images have a PSNR of 100 dB in place of an infinite one


def luminance(images: np.ndarray) -> np.ndarray:
    """Y of color images, what super-resolution is scored on; gray ones come back as they are.

    Args:
        images: (count, height, width, 1 or 3), float in [-1, 1].

    Returns:
        (count, height, width, 1) float64 in [-1, 1], of color images 16 / 127.5 - 1 to 235 / 127.5 - 1; not rounded.
    """
    if images.shape[-1] == 1:
        return images.astype(np.float64)
    levels = (images.astype(np.float64) + 1.0) / 2.0 @ LUMINANCE + LUMINANCE_OFFSET
    return levels[..., None] / 127.5 - 1.0


def absolute_errors(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The mean over pixels and channels of |x - y|, brightness from 0 to 1, of each pair, (count,).

    Args:
        one: (count, height, width, channels), float in [-1, 1].
        other: likewise.

    Raises:
        ValueError: the shapes differ; out of range; NaN.
    """
    x, y = brightness_of_pairs(one, other, smallest=1)
    return np.abs(x - y).mean(axis=(1, 2, 3))


def peak_signal_to_noise_ratios(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """10 log10 of 1 / the mean squared error, brightness from 0 to 1, of each pair, (count,), dB; at most 100.

    Args:
        one: (count, height, width, channels), float in [-1, 1].
        other: likewise.

    Raises:
        ValueError: the shapes differ; out of range; NaN.
    """
    x, y = brightness_of_pairs(one, other, smallest=1)
    return -10.0 * np.log10(np.maximum(np.square(x - y).mean(axis=(1, 2, 3)), LEAST_ERROR))


def structural_similarities(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """SSIM of each pair (Wang et al. 2004, eq. 13), (count,) in [-1, 1]: 1 for equal images.

    The mean over all places of its Gaussian window of 11 x 11 pixels (sigma 1.5) that lie inside the image, and over
    channels.

    Args:
        one: (count, height, width, channels), float in [-1, 1], at least 11 x 11 pixels.
        other: likewise.

    Raises:
        ValueError: the shapes differ; too small; out of range; NaN.
    """
    x, y = brightness_of_pairs(one, other, smallest=WINDOW)
    of_luminance, of_structure = luminance_and_structure(x, y)
    return (of_luminance * of_structure).mean(axis=(1, 2, 3))


def shave(images: np.ndarray, border: int) -> np.ndarray:
    """Images without so many pixels at each side, as super-resolution by that factor is scored; a view."""
    return images[:, border : images.shape[1] - border, border : images.shape[2] - border]
