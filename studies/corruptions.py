"""Failure modes of generated images, made from real images in known severities.

`ImagePool.make_sample(failure_mode, severity)` gives a sample with one of `SEVERITIES`, or an unmodified one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from zoo.evaluation.extractors import ClassifierExtractor, extract_features
from zoo.evaluation.scores import SampleStatistics

UNMODIFIED = "unmodified"


@dataclass(frozen=True)
class Sample:
    """Images, their classes, and the extractor's features and class probabilities; all have the same rows."""

    images: np.ndarray
    labels: np.ndarray
    features: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def extract(cls, extractor: ClassifierExtractor, images: np.ndarray, labels: np.ndarray) -> "Sample":
        """Images (count, height, width, channels) uint8 and labels (count,) with what `extractor` makes of them."""
        return cls(images, labels, *extract_features(extractor, images))

    def select(self, rows: slice | np.ndarray) -> "Sample":
        """Some rows."""
        return Sample(self.images[rows], self.labels[rows], self.features[rows], self.probabilities[rows])

    @property
    def statistics(self) -> SampleStatistics:
        """What scores are computed from."""
        return SampleStatistics.of(self.images, self.features, self.probabilities)


@dataclass(frozen=True)
class ImagePool:
    """What samples of `count` images are made of.

    Args:
        train: images of the training set.
        others: images from the same source that are not in it.
        count: images of a sample.
        extractor: of features and class probabilities.
        seed: of everything random.
    """

    train: Sample
    others: Sample
    count: int
    extractor: ClassifierExtractor
    seed: int

    def make_sample(self, failure_mode: str, severity: float) -> Sample:
        """A sample with a failure mode of `SEVERITIES`, or an unmodified one."""
        generator = np.random.Generator(np.random.Philox(self.seed))
        sample = self.others.select(slice(self.count))
        if failure_mode == UNMODIFIED:
            return sample
        if failure_mode in OF_IMAGES:
            images = OF_IMAGES[failure_mode](sample.images, severity, generator)
            return Sample.extract(self.extractor, images, sample.labels)
        return OF_SETS[failure_mode](self, severity, generator)


# Failure modes of every image: uint8 (count, height, width, channels), severity, generator -> the same shape


def blur(images: np.ndarray, radius: float, generator: np.random.Generator) -> np.ndarray:
    """Gaussian blur, the radius in pixels."""
    originals = (Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image) for image in images)
    smooth = ImageFilter.GaussianBlur(radius)
    return np.stack([np.asarray(original.filter(smooth)) for original in originals]).reshape(images.shape)


def add_noise(images: np.ndarray, sigma: float, generator: np.random.Generator) -> np.ndarray:
    """Gaussian noise, sigma in gray levels."""
    return clip_to_uint8(images + sigma * generator.standard_normal(images.shape))


def brighten(images: np.ndarray, shift: float, generator: np.random.Generator) -> np.ndarray:
    """Every pixel brighter by so many gray levels."""
    return clip_to_uint8(images + float(shift))


def add_checkerboard(images: np.ndarray, amplitude: float, generator: np.random.Generator) -> np.ndarray:
    """Every other pixel brighter, the rest darker, by so many gray levels."""
    signs = (-1.0) ** np.indices(images.shape[1:3]).sum(axis=0)
    return clip_to_uint8(images + amplitude * signs[..., None])


def clip_to_uint8(values: np.ndarray) -> np.ndarray:
    """Rounded, and clipped to 0 and 255."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


# Failure modes of the set, whose single images are all good: pool, severity, generator -> pool.count rows


def drop_classes(pool: ImagePool, classes: float, generator: np.random.Generator) -> Sample:
    """The first so many classes are missing; different images of the others take their places.

    Raises:
        ValueError: the other classes have too few images.
    """
    rows = np.flatnonzero(pool.others.labels >= classes)[: pool.count]
    if len(rows) < pool.count:
        raise ValueError(f"{len(rows)} images without {classes:g} classes: a sample has {pool.count}.")
    return pool.others.select(rows)


def duplicate(pool: ImagePool, times: float, generator: np.random.Generator) -> Sample:
    """Every image so many times, in random order."""
    return pool.others.select(generator.permutation(pool.count) // int(times))


def copy_training_images(pool: ImagePool, percent: float, generator: np.random.Generator) -> Sample:
    """So many percent are images of the training set."""
    copied = round(pool.count * percent / 100)
    copies, rest = pool.train.select(slice(copied)), pool.others.select(slice(pool.count - copied))
    return Sample(*(np.concatenate(pair) for pair in zip(vars(copies).values(), vars(rest).values(), strict=True)))


OF_IMAGES: Mapping[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "blur": blur,
    "noise": add_noise,
    "brightness": brighten,
    "checkerboard": add_checkerboard,
}
OF_SETS: Mapping[str, Callable[[ImagePool, float, np.random.Generator], Sample]] = {
    "dropped_classes": drop_classes,
    "duplicates": duplicate,
    "training_images": copy_training_images,
}
SEVERITIES: Mapping[str, tuple[float, ...]] = {
    "blur": (0.5, 1, 2),
    "noise": (4, 16, 64),
    "brightness": (8, 24, 64),
    "checkerboard": (4, 8, 32),
    "dropped_classes": (1, 3, 5),
    "duplicates": (2, 10, 100),
    "training_images": (10, 50, 100),
}
CASES = tuple((failure_mode, severity) for failure_mode, severities in SEVERITIES.items() for severity in severities)
