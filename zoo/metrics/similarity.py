"""Scores of the pixels alone: how alike samples are among themselves, and their spectrum."""

import numpy as np

from zoo.metrics.checks import brightness_of_pairs, images_in_range
from zoo.metrics.moments import Spread

SCALE_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])  # Wang, Simoncelli, Bovik 2003, section 3.2
WINDOW, WINDOW_SIGMA = 11, 1.5  # Wang et al. 2004, section III.B; C1 and C2 as well
LUMINANCE_CONSTANT, CONTRAST_CONSTANT = 0.01**2, 0.03**2  # for values in [0, 1]
PAIRS = 1000
BLOCK = 256  # images at once

# The variance of rounding to 255 steps of [-1, 1]: weaker frequencies are none of the image's.
POWER_FLOOR = (2 / 255) ** 2 / 12


def scale_weights(height: int, width: int) -> np.ndarray:
    """The weights of the scales at which the window still fits into the image, halved from scale to scale; sum 1.

    All five need 176 pixels. With 28 or 32 pixels two fit, with 64 three: the paper's first weights, brought to sum 1.
    So values of different sizes are not comparable.
    """
    fitting = [weight for scale, weight in enumerate(SCALE_WEIGHTS) if min(height, width) >> scale >= WINDOW]
    return np.array(fitting) / sum(fitting)


def multiscale_similarity(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """MS-SSIM of each pair of images (Wang, Simoncelli, Bovik 2003, eq. 7): 1 for equal ones, at least 0.

    The mean over channels. Contrast and structure below 0 count as 0, or their powers would not be real.

    Args:
        one: (count, height, width, channels), float in [-1, 1], at least 11 x 11 pixels.
        other: likewise.

    Returns:
        (count,) in [0, 1].

    Raises:
        ValueError: the shapes differ; too small; out of range; NaN.
    """
    x, y = brightness_of_pairs(one, other, smallest=WINDOW)
    weights = scale_weights(*one.shape[1:3])
    similarity = np.ones((len(one), one.shape[3]))
    for scale, weight in enumerate(weights):
        luminance, structure = luminance_and_structure(x, y)
        last = scale == len(weights) - 1
        similarity *= np.maximum((luminance * structure if last else structure).mean(axis=(1, 2)), 0.0) ** weight
        x, y = _halve(x), _halve(y)
    return similarity.mean(axis=1)


def multiscale_similarity_of_pairs(images: np.ndarray, *, pairs: int = PAIRS, seed: int = 0) -> Spread:
    """Mean and standard deviation of MS-SSIM over random pairs of different rows (arXiv:1610.09585, section 4.2).

    The lower, the more diverse; real images are the measure. 1 where all samples are alike.

    Args:
        images: (count, height, width, channels), float in [-1, 1], at least 2 of at least 11 x 11 pixels.
        pairs: how many.
        seed: of the pairs.

    Raises:
        ValueError: too few or too small; out of range; NaN; no pairs.
    """
    if pairs < 1:
        raise ValueError(f"pairs={pairs}: give at least 1.")
    count = len(images_in_range(images, smallest=WINDOW, least=2))
    generator = np.random.Generator(np.random.Philox(seed))
    first = generator.integers(count, size=pairs)
    second = (first + generator.integers(1, count, size=pairs)) % count
    blocks = (slice(start, start + BLOCK) for start in range(0, pairs, BLOCK))
    return Spread.of(np.concatenate([multiscale_similarity(images[first[b]], images[second[b]]) for b in blocks]))


def radial_spectrum(images: np.ndarray) -> np.ndarray:
    """The logarithm of the mean power at each distance from frequency 0 (arXiv:2003.01826, section 3.1).

    Ring k, from 1, holds the frequencies of about k periods on the shorter side, corners included: that is where a
    checkerboard shows. The mean over images and channels; the mean brightness (k = 0) is left out. White noise of
    variance v is flat at log(v + POWER_FLOOR).

    Args:
        images: (count, height, width, channels), float in [-1, 1], at least 4 x 4 pixels.

    Returns:
        (rings,), natural logarithms; as many for any images of one size.

    Raises:
        ValueError: none, or too small; out of range; NaN.
    """
    count, height, width, channels = images_in_range(images, smallest=4).shape
    power = np.zeros((height, width))
    for start in range(0, count, BLOCK):
        block = images[start : start + BLOCK].astype(np.float64)
        power += np.square(np.abs(np.fft.fft2(block, axes=(1, 2)))).sum(axis=(0, 3))
    power /= height * width * count * channels
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    rings = np.floor(frequencies * min(height, width) + 0.5).astype(int).ravel()
    return np.log(np.bincount(rings, power.ravel())[1:] / np.bincount(rings)[1:] + POWER_FLOOR)


def spectral_distance(one: np.ndarray, other: np.ndarray) -> float:
    """The root mean square difference of two spectra; 1 where each ring's power differs by a factor of e.

    Args:
        one: (rings,) of `radial_spectrum`.
        other: likewise, of images of the same size.

    Raises:
        ValueError: they are of different sizes.
    """
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"spectra {one.shape} and {other.shape}: take both of images of the same size.")
    return float(np.sqrt(np.mean(np.square(one - other))))


def luminance_and_structure(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps of l and c s (Wang et al. 2004, eq. 6, 13) wherever the whole window lies inside the image."""
    mean_x, mean_y = _gaussian_mean(x), _gaussian_mean(y)
    products = mean_x * mean_y
    squares = mean_x**2 + mean_y**2
    luminance = (2 * products + LUMINANCE_CONSTANT) / (squares + LUMINANCE_CONSTANT)
    covariance = _gaussian_mean(x * y) - products
    variances = _gaussian_mean(x**2 + y**2) - squares
    return luminance, (2 * covariance + CONTRAST_CONSTANT) / (variances + CONTRAST_CONSTANT)


def _gaussian_mean(images: np.ndarray) -> np.ndarray:
    """The Gaussian mean around each pixel, (B, H - 10, W - 10, C)."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    window = np.exp(-np.square(offsets) / (2 * WINDOW_SIGMA**2))
    window /= window.sum()
    height, width = images.shape[1] - WINDOW + 1, images.shape[2] - WINDOW + 1
    columns = sum(weight * images[:, k : k + height] for k, weight in enumerate(window))
    return sum(weight * columns[:, :, k : k + width] for k, weight in enumerate(window))


def _halve(images: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels, (B, H // 2, W // 2, C); an odd last row or column is left out."""
    count, height, width, channels = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(count, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
