"""A small score of a run's samples, made every so often while it trains.

The samples are compared with training images: held-out ones stay unseen until `zoo evaluate` scores what came of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from zoo.data.images import ImageSet, center_crop, to_float32
from zoo.evaluation.extractors import ClassifierExtractor, extract_features, format_version
from zoo.metrics.distances import sliced_wasserstein_distance
from zoo.metrics.frechet import frechet_distance
from zoo.metrics.moments import Moments
from zoo.presets.table import EXTRACTORS
from zoo.pretrained import local_directory

SAMPLES = 1_000  # of a score, fewer where there are fewer training images
REFERENCE = 10_000  # training images whose mean and covariance samples are compared with


@dataclass(frozen=True)
class Scorer:
    """How near samples are to training images; the lower, the better.

    Args:
        name: the column of log.csv.
        label: the score's full name.
        count: samples that a score takes.
        distance: of images (count, height, width, channels) float32 in [-1, 1].
    """

    name: str
    label: str
    count: int
    distance: Callable[[np.ndarray], float]


def choose_scorer(training: ImageSet, *, padded: bool) -> Scorer:
    """The Frechet distance with the data set's own extractor where that is at hand, else one of the pixels.

    Args:
        training: images as the run takes them.
        padded: whether they are centered on black: the extractor then sees their center.
    """
    count = min(SAMPLES, len(training.images))
    extractor = find_extractor(training, padded)
    if extractor is None or count <= extractor.dimension:
        reference = to_float32(np.asarray(training.images[:count]))
        distance = partial(sliced_wasserstein_distance, reference=reference)
        return Scorer("sliced_wasserstein_distance", "sliced_wasserstein_distance", count, distance)
    height, width, _ = extractor.image.row

    @cache
    def reference_moments() -> Moments:  # at the first score: they take seconds, which the first step need not wait for
        images = center_crop(np.asarray(training.images[:REFERENCE]), height, width)
        return Moments.of(extract_features(extractor, images)[0])

    def frechet(samples: np.ndarray) -> float:
        features = extractor(np.clip(center_crop(samples, height, width), -1, 1))[0]
        return frechet_distance(Moments.of(features), reference_moments())

    return Scorer("frechet_distance", f"FCD({format_version(extractor)})", count, frechet)


def find_extractor(training: ImageSet, padded: bool) -> ClassifierExtractor | None:
    """The extractor that a preset declares for the data set, if it is on this machine and takes images of this size."""
    preset = EXTRACTORS.get(training.name)
    directory = local_directory(preset) if preset else None
    if directory is None:
        return None
    extractor = ClassifierExtractor(directory)
    height, width, channels = extractor.image.row
    image_height, image_width, image_channels = training.images.shape[1:]
    fits = (height, width) == (image_height, image_width)
    if padded:
        fits = height <= image_height and width <= image_width
    return extractor if fits and channels == image_channels else None
