"""Removes noise and fills gaps: an autoencoder, and filters that need no training.

Images are brightness: (count, height, width, channels) float from 0, black, to 1, white. missing:
(count, height, width, 1) bool, True where a pixel is unknown.

    pipeline = load_pretrained("denoising-autoencoder-fashion-mnist", format="onnx", ability="reconstruct")
    measure_quality(clean, denoise(pipeline, add_noise(clean, 0.25, seed=0)))
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from skimage.filters import median as median_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from skimage.restoration import denoise_nl_means, inpaint_biharmonic

from serving.pipeline import Pipeline
from zoo.applications.anomaly import reconstruct
from zoo.metrics.checks import RANGE_SLACK

DECIBELS = 10 / math.log(10)  # of a ratio's natural logarithm
PATCH_DISTANCE = 7  # of non-local means: how far away similar patches are searched, in pixels

# Arguments that `tune` tries.
MEDIAN_GRID: Mapping[str, Sequence[Any]] = {"size": (3, 5, 7)}
NON_LOCAL_MEANS_GRID: Mapping[str, Sequence[Any]] = {
    "patch_size": (3, 5),
    "strength": (0.25, 0.5, 0.75, 1.0, 1.5),
    "subtracted": (0.0, 0.5, 1.0),
}


@dataclass(frozen=True)
class Quality:
    """How close images are to clean ones; the higher, the closer.

    Args:
        psnr: decibels, 10 log10(1 / mean squared error), the mean over all images' pixels: a mean of decibels would
            be infinite once one image is exact.
        psnr_error: its standard error over images.
        ssim: the mean over images of the structural similarity (Wang et al. 2004), 1 for equal ones.
        ssim_error: its standard error.
    """

    psnr: float
    psnr_error: float
    ssim: float
    ssim_error: float


@dataclass(frozen=True)
class Filled:
    """Images whose gaps were filled in rounds.

    Args:
        images: brightness; what was not missing is untouched.
        changes: (rounds,), the root mean square change of the missing values in each round.
    """

    images: np.ndarray
    changes: np.ndarray


# Damage


def add_noise(images: np.ndarray, deviation: float, seed: int) -> np.ndarray:
    """Normal noise added, then clipped to 0 and 1, as an image file would be; float32.

    Args:
        images: brightness.
        deviation: of the noise, in units of brightness.
        seed: of the noise.

    Raises:
        ValueError: values that are not brightness; a negative deviation.
    """
    if deviation < 0.0:
        raise ValueError(f"deviation={deviation}: choose at least 0.")
    noise = np.random.default_rng(seed).standard_normal(images.shape)
    return np.clip(require_brightness(images) + deviation * noise, 0.0, 1.0).astype(np.float32)


def mask_pixels(images: np.ndarray, missing: np.ndarray, filling: float | np.ndarray = 0.0) -> np.ndarray:
    """The images with `filling` where values are missing: black, another brightness, or an image such as the mean.

    Raises:
        ValueError: values that are not brightness; another mask than of these images.
    """
    shape = (*images.shape[:3], 1)
    if missing.shape != shape or missing.dtype != np.bool_:
        raise ValueError(f"missing {missing.shape} {missing.dtype}: give {shape} bool.")
    return np.where(missing, filling, require_brightness(images)).astype(np.float32)


def draw_missing_pixels(shape: Sequence[int], share: float, seed: int) -> np.ndarray:
    """A mask of single pixels, the same number in each image, elsewhere in each.

    Args:
        shape: of the images, (count, height, width, channels).
        share: of the pixels; at least one is missing, one is left.
        seed: of their places.

    Raises:
        ValueError: a share that is not between 0 and 1.
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"share={share}: choose a number between 0 and 1.")
    count, height, width, _ = shape
    number = min(max(round(share * height * width), 1), height * width - 1)
    order = np.random.default_rng(seed).random((count, height * width)).argsort(axis=1)
    return (order < number).reshape(count, height, width, 1)


def draw_missing_square(shape: Sequence[int], side: int, seed: int) -> np.ndarray:
    """A mask of one square in each image, anywhere within.

    Args:
        shape: of the images, (count, height, width, channels).
        side: of the square, pixels.
        seed: of its places.

    Raises:
        ValueError: a side below 1, or as long as the image's.
    """
    count, height, width, _ = shape
    if not 1 <= side < min(height, width):
        raise ValueError(f"side={side}: choose 1 to {min(height, width) - 1}.")
    random = np.random.default_rng(seed)
    inside = []
    for size in (height, width):
        first = random.integers(size - side + 1, size=(count, 1))
        inside.append((np.arange(size) >= first) & (np.arange(size) < first + side))  # (count, size)
    return (inside[0][:, :, None] & inside[1][:, None, :])[..., None]


# By a model


def denoise(pipeline: Pipeline, images: np.ndarray) -> np.ndarray:
    """Reconstructions by an autoencoder or a VAE; brightness, float32.

    Args:
        pipeline: opened with the ability reconstruct.
        images: brightness.

    Raises:
        ValueError: another ability; values that are not brightness.
    """
    return (reconstruct(pipeline, 2 * require_brightness(images) - 1) + 1) / 2


def fill(
    pipeline: Pipeline,
    images: np.ndarray,
    missing: np.ndarray,
    *,
    start: float | np.ndarray = 0.5,
    rounds: int = 100,
    tolerance: float = 1e-4,
) -> Filled:
    """Missing values by rounds of x_missing <- reconstruct(x)_missing.

    The chain of arXiv:1401.4082, appendix F, with means in place of samples: it converges to one likely image and does
    not sample all that would fit. With a linear autoencoder it converges to the point of the subspace that fits the
    known pixels best, by least squares.

    Args:
        pipeline: opened with the ability reconstruct.
        images: brightness; what is missing may have any.
        missing: which values.
        start: the missing pixels in the first round: a brightness, or an image, such as the mean of training images.
        rounds: at most so many.
        tolerance: fewer once a round's `changes` is below it.

    Raises:
        ValueError: no rounds; nothing missing; another ability or mask; values that are not brightness.
    """
    if rounds < 1 or not missing.any():
        raise ValueError(f"rounds={rounds}, {missing.sum()} pixels missing: give at least one of each.")
    filled, changes = mask_pixels(images, missing, start), []
    everywhere = np.broadcast_to(missing, images.shape)
    for _ in range(rounds):
        after = mask_pixels(images, missing, denoise(pipeline, filled))
        changes.append(float(np.sqrt(np.square(after - filled)[everywhere].mean())))
        filled = after
        if changes[-1] < tolerance:
            break
    return Filled(filled, np.array(changes))


# Without training


def filter_median(images: np.ndarray, size: int = 3) -> np.ndarray:
    """Each value becomes the median of a square of size x size around it.

    Raises:
        ValueError: values that are not brightness.
    """
    return median_filter(require_brightness(images), footprint=np.ones((1, size, size, 1)), behavior="ndimage")


def filter_non_local_means(
    images: np.ndarray, deviation: float, patch_size: int = 5, strength: float = 0.75, subtracted: float = 1.0
) -> np.ndarray:
    """Each value a mean over pixels whose surroundings are alike (Buades, Coll, Morel 2005).

    Args:
        images: brightness.
        deviation: of the noise.
        patch_size: side of the surroundings, pixels.
        strength: h, in units of the deviation: the larger, the less alike they must be.
        subtracted: the noise's part of the distance between surroundings, in units of the deviation; below 1 where
            clipping has removed noise.

    Raises:
        ValueError: values that are not brightness.
    """
    options = {"patch_size": patch_size, "h": strength * deviation, "sigma": subtracted * deviation}
    found = [
        denoise_nl_means(image, patch_distance=PATCH_DISTANCE, fast_mode=False, channel_axis=-1, **options)
        for image in require_brightness(images)
    ]
    return np.stack(found).reshape(images.shape)


def inpaint(images: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Gaps filled by the smooth surface that continues their borders (biharmonic), clipped to 0 and 1.

    Raises:
        ValueError: values that are not brightness; another mask than of these images.
    """
    found = [
        inpaint_biharmonic(image, gap[..., 0], channel_axis=-1)
        for image, gap in zip(mask_pixels(images, missing), missing, strict=True)
    ]
    return mask_pixels(images, missing, np.clip(np.stack(found).reshape(images.shape), 0.0, 1.0))


def tune(
    method: Callable[..., np.ndarray], grid: Mapping[str, Sequence[Any]], clean: np.ndarray, damaged: np.ndarray
) -> dict[str, Any]:
    """The arguments with which `method` comes nearest to clean images, by mean squared error.

    Args:
        method: damaged images and the grid's arguments -> images.
        grid: name of an argument -> what to try; every combination is.
        clean: training images, not those that the method is then measured on.
        damaged: the same images.
    """

    def error(choice: Mapping[str, Any]) -> float:
        return float(np.square(method(damaged, **choice) - clean).mean())

    return min((dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())), key=error)


# Measuring


def measure_quality(clean: np.ndarray, images: np.ndarray, missing: np.ndarray | None = None) -> Quality:
    """PSNR and SSIM of images, with their standard errors.

    Args:
        clean: brightness, at least 2 images of 11 x 11 pixels or more.
        images: of the same shape.
        missing: where given, PSNR is of these pixels alone; SSIM is of the whole images.

    Raises:
        ValueError: the shapes differ; too few images; values that are not brightness; nothing missing.
    """
    if clean.shape != images.shape or len(clean) < 2:
        raise ValueError(f"clean {clean.shape}, images {images.shape}: give both of one shape, at least 2.")
    one, other = (require_brightness(side).astype(np.float64) for side in (clean, images))
    chosen = np.broadcast_to(True if missing is None else missing, clean.shape)
    if not chosen.any():
        raise ValueError("no pixel is missing: there is nothing to compare.")
    similarity = [
        structural_similarity(
            *pair, data_range=1.0, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for pair in zip(one, other, strict=True)
    ]
    counts = chosen.sum(axis=(1, 2, 3))
    errors = (np.square(one - other) * chosen).sum(axis=(1, 2, 3))
    mean = errors.sum() / counts.sum()
    if not mean:
        return Quality(math.inf, 0.0, float(np.mean(similarity)), standard_error(similarity))
    # Of a ratio of two sums over images, and of its logarithm: to first order.
    relative = standard_error((errors - mean * counts) / counts.mean()) / mean
    psnr = float(peak_signal_noise_ratio(one[chosen], other[chosen], data_range=1.0))
    return Quality(psnr, float(DECIBELS * relative), float(np.mean(similarity)), standard_error(similarity))


def standard_error(values: Sequence[float] | np.ndarray) -> float:
    """Of the mean of values, (count,), at least 2."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def require_brightness(images: np.ndarray) -> np.ndarray:
    """The same array, once it is known to be float (count, height, width, channels) from 0 to 1.

    Raises:
        ValueError: it is not.
    """
    if images.ndim != 4 or images.dtype.kind != "f" or not images.size:
        raise ValueError(f"images {images.shape} {images.dtype}: give (count, height, width, channels), float.")
    low, high = float(images.min()), float(images.max())  # NaN where there is one
    if not (low >= -RANGE_SLACK and high <= 1 + RANGE_SLACK):
        raise ValueError(f"pixels from {low:.4g} to {high:.4g}: give brightness, 0 to 1, and no NaN.")
    return images
