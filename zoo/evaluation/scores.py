"""The table of metrics, and how each is computed from statistics of the images.

`SampleStatistics` is what the scores need of one set of images: generated, held-out, noise. `compare` turns it and a
`ReferenceStatistics` into numbers. Training images, noise and blurred images go the same way: they are the baselines.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from zoo.data.images import to_float32
from zoo.evaluation.extractors import Extractor, format_version
from zoo.metrics.classes import ClassStatistics, jensen_shannon_divergence
from zoo.metrics.distances import sliced_wasserstein_distance
from zoo.metrics.frechet import ROWS_PER_DIMENSION, frechet_distance, frechet_distance_at_infinity
from zoo.metrics.kernel import SUBSET_SIZE, kernel_distance
from zoo.metrics.moments import Moments
from zoo.metrics.neighbors import (
    COPY_QUANTILE,
    DENSITY_NEIGHBORS,
    PRECISION_NEIGHBORS,
    birthday_support,
    copy_check,
    nearest_distances,
    neighbor_scores,
    squared_radii,
)
from zoo.metrics.similarity import WINDOW, multiscale_similarity_of_pairs, radial_spectrum, spectral_distance

KEPT = 10_000  # images and features held of one set; what is streamed sees them all
MODE_SHARE = 0.01  # of the images, from which a class counts as one that the model generates
INCEPTION = "inception-2015-12-05"
Better = Literal["lower", "higher", "like training images"]


class SampleStatistics:
    """What the scores need of one set of images, taken in batch by batch.

    Means, covariances and class counts are of all images; of images and features themselves the first `KEPT` are
    held, so memory does not grow with the count.
    """

    def __init__(self) -> None:
        self.count = 0
        self.moments: Moments | None = None
        self.class_statistics: ClassStatistics | None = None
        self._parts: list[tuple[np.ndarray, np.ndarray | None]] = []

    @classmethod
    def of(
        cls, images: np.ndarray, features: np.ndarray | None = None, probabilities: np.ndarray | None = None
    ) -> "SampleStatistics":
        """Of arrays that are there already."""
        statistics = cls()
        statistics.update(images, features, probabilities)
        return statistics

    def update(
        self, images: np.ndarray, features: np.ndarray | None = None, probabilities: np.ndarray | None = None
    ) -> None:
        """Takes in more.

        Args:
            images: uint8 (count, height, width, channels).
            features: (count, dimension) of an extractor, or None for scores of the pixels alone.
            probabilities: (count, classes) likewise; of an extractor that names no classes, (count, 0).
        """
        room = max(0, KEPT - self.count)
        if room:
            self._parts.append((images[:room], None if features is None else features[:room]))
            for cached in ("images", "features"):  # what was joined before lacks this part
                self.__dict__.pop(cached, None)
        if features is not None:
            self.moments = self.moments or Moments(features.shape[1])
            self.moments.update(features)
        if probabilities is not None and probabilities.shape[1]:
            self.class_statistics = self.class_statistics or ClassStatistics(probabilities.shape[1])
            self.class_statistics.update(probabilities)
        self.count += len(images)

    @cached_property
    def images(self) -> np.ndarray:
        """uint8 (kept, height, width, channels)."""
        return np.concatenate([images for images, _ in self._parts])

    @cached_property
    def features(self) -> np.ndarray:
        """(kept, dimension)."""
        return np.concatenate([features for _, features in self._parts if features is not None])


@dataclass
class ReferenceStatistics:
    """What a set of images is compared with.

    Args:
        real: of held-out images.
        train_features: of every image that the model was trained on; None where that is not known.
        seed: of subsets, pairs and projections.
    """

    real: SampleStatistics
    train_features: np.ndarray | None = None
    seed: int = 0
    _radii: dict[int, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def neighbor_radii(self, count: int) -> np.ndarray:
        """What `neighbor_scores` needs of the first `count` held-out images, made once: (2, count)."""
        if count not in self._radii:
            neighbors = (PRECISION_NEIGHBORS, DENSITY_NEIGHBORS)
            self._radii[count] = squared_radii(self.real.features[:count], neighbors)
        return self._radii[count]

    @cached_property
    def spectrum(self) -> np.ndarray:
        """Of the held-out images."""
        return radial_spectrum(to_float32(self.real.images))

    @cached_property
    def train_distances(self) -> np.ndarray | None:
        """Distances of held-out images to the nearest training image; None where copies can't be told."""
        if self.train_features is None or len(self.real.features) < 1 / COPY_QUANTILE:
            return None
        return nearest_distances(self.real.features, self.train_features)

    def score_training_images(self, train: SampleStatistics, metrics: Collection[str]) -> dict[str, float]:
        """What real images get: training images in the place of generated ones.

        Training images are copies of themselves: there, every second held-out image is held against the others;
        of fewer than 200, nothing is said.
        """
        distances = self.train_distances if {"copies", "copy_distance", "birthday_batch"} & set(metrics) else None
        values = compare(train, self, [name for name in metrics if METRICS[name].group != "copies"])
        if distances is None or train.moments is None:
            return values
        if len(distances) >= 2 / COPY_QUANTILE:
            halves = copy_check(distances[::2], distances[1::2])
            values |= {"copies": halves.share, "copy_distance": halves.ratio}
        values["birthday_batch"] = birthday_batch(train, distances, self.seed)
        return {name: values[name] for name in METRICS if name in metrics and name in values}


@dataclass(frozen=True)
class Metric:
    """One score.

    Args:
        group: those that are computed together.
        better: which way is good. "like training images": as near as can be to what real images get.
        about: what it says, in a few words.
        title: its name with any extractor; None for scores of the pixels.
        inception: its name with the 2015 Inception, where the literature has one.
    """

    group: str
    better: Better
    about: str
    title: str | None = None
    inception: str | None = None

    def label(self, name: str, extractor: Extractor | None) -> str:
        """Such as "FCD(classifier@0123abcd)", "FID", "ms_ssim"."""
        if self.title is None or extractor is None:
            return name
        if extractor.name == INCEPTION and self.inception:
            return self.inception
        title = self.title if extractor.classes else name  # the C of FCD is a classifier's
        return f"{title}({format_version(extractor)})"

    @property
    def needs_features(self) -> bool:
        """Whether it is computed from an extractor's outputs; only then has it a title."""
        return self.title is not None


METRICS: Mapping[str, Metric] = {
    "frechet_distance": Metric("frechet", "lower", "features: mean and covariance", "FCD", "FID"),
    "frechet_distance_at_infinity": Metric(
        "frechet_infinity", "lower", "the same of infinitely many samples", "FCD_infinity", "FID_infinity"
    ),
    "kernel_distance": Metric("kernel", "lower", "features: unbiased kernel distance", "KCD", "KID"),
    "precision": Metric("neighbors", "higher", "samples that look real", "precision"),
    "recall": Metric("neighbors", "higher", "real images that the model reaches", "recall"),
    "density": Metric("neighbors", "higher", "how crowded samples are where real ones are", "density"),
    "coverage": Metric("neighbors", "higher", "real images with a sample near", "coverage"),
    "class_score": Metric("classes", "higher", "sure of each image, even over classes", "CS", "IS"),
    "class_divergence": Metric("classes", "lower", "class shares against real ones, nats", "class_divergence"),
    "smallest_class_share": Metric("classes", "like training images", "of the rarest class", "smallest_class_share"),
    "modes": Metric("classes", "higher", "classes of at least 1 %", "modes"),
    "copies": Metric("copies", "lower", "samples as near to a training image as 1 % of held-out ones", "copies"),
    "copy_distance": Metric(
        "copies", "like training images", "distance to the nearest training image, over held-out ones'", "copy_distance"
    ),
    "birthday_batch": Metric("copies", "higher", "samples among which two are alike, even odds", "birthday_batch"),
    "sliced_wasserstein_distance": Metric("wasserstein", "lower", "pixels: brightness, coarse structure"),
    "ms_ssim": Metric("similarity", "like training images", "pixels: likeness of two samples"),
    "spectral_distance": Metric("spectrum", "lower", "pixels: power at each frequency"),
}
"""Every score that needs nothing but images."""


def compare(samples: SampleStatistics, reference: ReferenceStatistics, metrics: Collection[str]) -> dict[str, float]:
    """The values of those of `metrics` that can be computed.

    What needs features is left out where there are none; copies, where the training images are not known or fewer
    than 100 are held out; at infinity, where there are too few images for a line.

    Args:
        samples: of the images to be scored.
        reference: of real ones.
        metrics: names of `METRICS`.

    Returns:
        Metric -> value, in the order of `METRICS`.

    Raises:
        ValueError: too few images for the extractor's dimension, NaN, images of different sizes.
    """
    wanted = {METRICS[name].group for name in metrics}
    values = {key: v for group in GROUPS if group in wanted for key, v in GROUPS[group](samples, reference).items()}
    return {name: values[name] for name in METRICS if name in metrics and name in values}


def _frechet(samples: SampleStatistics, reference: ReferenceStatistics) -> dict[str, float]:
    if samples.moments is None or reference.real.moments is None:
        return {}
    return {"frechet_distance": frechet_distance(samples.moments, reference.real.moments)}


def _frechet_infinity(samples: SampleStatistics, reference: ReferenceStatistics) -> dict[str, float]:
    moments = reference.real.moments
    if samples.moments is None or moments is None:
        return {}
    if len(samples.features) <= 2 * ROWS_PER_DIMENSION * moments.dimension:  # too few sizes for a line
        return {}
    distance = frechet_distance_at_infinity(samples.features, moments, seed=reference.seed)
    return {"frechet_distance_at_infinity": distance}


def _kernel(samples: SampleStatistics, reference: ReferenceStatistics) -> dict[str, float]:
    if samples.moments is None or reference.real.moments is None:
        return {}
    features, real = samples.features, reference.real.features
    size = min(SUBSET_SIZE, len(features), len(real))
    return {"kernel_distance": kernel_distance(features, real, subset_size=size, seed=reference.seed).mean}


def _neighbors(samples: SampleStatistics, reference: ReferenceStatistics) -> dict[str, float]:
    if samples.moments is None or reference.real.moments is None:
        return {}
    count = min(len(samples.features), len(reference.real.features))
    generated, real = samples.features[:count], reference.real.features[:count]
    # Of too few rows there are no radii: the scores say so.
    radii = reference.neighbor_radii(count) if count > max(PRECISION_NEIGHBORS, DENSITY_NEIGHBORS) else None
    return neighbor_scores(generated, real, real_radii=radii)._asdict()


def _classes(samples: SampleStatistics, reference: ReferenceStatistics) -> dict[str, float]:
    generated, real = samples.class_statistics, reference.real.class_statistics
    if generated is None or real is None:
        return {}
    return {
        "class_score": generated.class_score().mean,
        "class_divergence": jensen_shannon_divergence(generated.counts, real.counts),
        "smallest_class_share": float(generated.class_shares().min()),
        "modes": float(generated.modes(MODE_SHARE)),
    }


def _copies(samples: SampleStatistics, reference: ReferenceStatistics) -> dict[str, float]:
    if samples.moments is None or reference.train_distances is None or reference.train_features is None:
        return {}
    found = copy_check(nearest_distances(samples.features, reference.train_features), reference.train_distances)
    batch = birthday_batch(samples, reference.train_distances, reference.seed)
    return {"copies": found.share, "copy_distance": found.ratio, "birthday_batch": batch}


def birthday_batch(samples: SampleStatistics, train_distances: np.ndarray, seed: int) -> float:
    """Samples among which two are alike at even odds: nearer than 1 % of held-out images to a training image."""
    bound = float(np.quantile(train_distances, COPY_QUANTILE))
    return float(birthday_support(samples.features, bound=bound, seed=seed).batch)


def _wasserstein(samples: SampleStatistics, reference: ReferenceStatistics) -> dict[str, float]:
    count = min(len(samples.images), len(reference.real.images))
    images, real = to_float32(samples.images[:count]), to_float32(reference.real.images[:count])
    return {"sliced_wasserstein_distance": sliced_wasserstein_distance(images, real, seed=reference.seed)}


def _similarity(samples: SampleStatistics, reference: ReferenceStatistics) -> dict[str, float]:
    if min(samples.images.shape[1:3]) < WINDOW:
        return {}
    return {"ms_ssim": multiscale_similarity_of_pairs(to_float32(samples.images), seed=reference.seed).mean}


def _spectrum(samples: SampleStatistics, reference: ReferenceStatistics) -> dict[str, float]:
    return {"spectral_distance": spectral_distance(radial_spectrum(to_float32(samples.images)), reference.spectrum)}


GROUPS: Mapping[str, Callable[[SampleStatistics, ReferenceStatistics], dict[str, float]]] = {
    "frechet": _frechet,
    "frechet_infinity": _frechet_infinity,
    "kernel": _kernel,
    "neighbors": _neighbors,
    "classes": _classes,
    "copies": _copies,
    "wasserstein": _wasserstein,
    "similarity": _similarity,
    "spectrum": _spectrum,
}


TRANSLATION_SCORES: tuple[tuple[str, Better, str], ...] = (
    ("l1", "lower", "mean absolute error of pairs, brightness 0 to 1"),
    ("ssim", "higher", "structural similarity of pairs"),
    ("wasserstein", "lower", "sliced Wasserstein distance from the other collection"),
    ("frechet", "lower", "features: mean and covariance against the other collection's"),
)
OTHER_METRICS: dict[str, Metric] = {
    "perceptual_path_length": Metric("paths", "lower", "features: how fast images change with the latent", "PPL"),
    "accuracy": Metric("accuracy", "higher", "of a classifier, on held-out images"),
    "classification_accuracy": Metric(
        "classifier", "higher", "on real images, of a classifier trained on samples", "classification_accuracy"
    ),
    "augmentation": Metric(
        "classifier", "higher", "what samples beside real images add to that accuracy", "augmentation"
    ),
    "discriminator_jsd_bound": Metric(
        "discriminator", "lower", "lower bound of JSD(generated, real), by a discriminator trained per seed, nats"
    ),
    "psnr_y": Metric("upscaling", "higher", "enlarged images: peak signal over error of luminance, dB"),
    "ssim_y": Metric("upscaling", "higher", "enlarged images: structural similarity of luminance"),
    "psnr_rgb": Metric("upscaling", "higher", "enlarged images: peak signal over error of colors, dB"),
    "ssim_rgb": Metric("upscaling", "higher", "enlarged images: structural similarity of colors"),
    "feature_distance": Metric(
        "upscaling",
        "lower",
        "enlarged images: squared distance of features, over that of other images",
        "feature_distance",
    ),
    "upscaled_frechet_distance": Metric(
        "upscaling", "lower", "enlarged images: mean and covariance of features", "FCD"
    ),
    **{
        f"{name}_{direction}": Metric(
            *("translation", better, f"translations: {about}", f"FCD_{direction}" if name == "frechet" else None)
        )
        for direction in ("a_to_b", "b_to_a")
        for name, better, about in TRANSLATION_SCORES
    },
    "elbo": Metric("bounds", "higher", "of log p(x), nats"),
    "importance_weighted_bound": Metric("bounds", "higher", "of log p(x), by K samples of z, nats"),
    "bits_per_dimension": Metric("bounds", "lower", "that bound in bits per pixel and channel"),
    "active_units": Metric("latents", "higher", "latents whose mean depends on the image"),
    "posterior_divergence": Metric("latents", "lower", "KL(q(z|x) || p(z)), nats, in all and of each latent"),
    "mutual_information": Metric("latents", "higher", "I(x; z), nats, at most the log of the count of images"),
    "aggregate_divergence": Metric("latents", "lower", "KL(q(z) || p(z)), nats"),
    "squared_error": Metric("reconstruction", "lower", "of a reconstruction, per pixel and channel, brightness 0 to 1"),
}
ALL_METRICS = {**METRICS, **OTHER_METRICS}
NETWORK_TRAINING_METRICS = ("classification_accuracy", "augmentation", "discriminator_jsd_bound")
"""Metrics that train a network each: minutes, so only when named."""
ABILITIES = {
    "bounds": ("log_prob", {"elbo", "importance_weighted"}),
    "latents": ("encode", {"mean", "scale"}),
    "reconstruction": ("reconstruct", {"reconstruction"}),
}
"""Group of scores -> the ability that they take, and the outputs that it must have."""
HELD_OUT_METRICS = tuple(name for name, metric in OTHER_METRICS.items() if metric.group in ABILITIES)
"""Metrics of a model's likelihoods, latents and reconstructions of held-out images: they need no generated ones."""
SECOND_OPINION = "frechet_distance"
"""What random features score beside a classifier's, unless extractors are named: what tables are ordered by."""
PAIR_GROUPS = ("upscaling", "translation")
"""Groups of scores of models that turn images into images, which have no others."""
DEFAULT_METRICS = tuple(
    name
    for name, metric in ALL_METRICS.items()
    if name not in (*NETWORK_TRAINING_METRICS, *HELD_OUT_METRICS) and metric.group not in PAIR_GROUPS
)
"""Metrics of generated images, but for those that train a network."""
