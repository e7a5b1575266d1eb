"""Scores of the images that a source generates."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cached_property, partial

import numpy as np
from PIL import Image, ImageFilter

from serving.sampling.noise import draw
from zoo.data.images import compute_fingerprint
from zoo.data.store import read_hashed, write_hashed
from zoo.evaluation.cache import cache_path, hash_code, write_atomically
from zoo.evaluation.extractors import Extractor, extract_features
from zoo.evaluation.options import Progress
from zoo.evaluation.record import Record, library_versions, round_digits
from zoo.evaluation.reference import Reference, crop_center
from zoo.evaluation.scores import ALL_METRICS, KEPT, METRICS, ReferenceStatistics, SampleStatistics, compare
from zoo.evaluation.source import GeneratorSource, ImageSource, fixed_permutation
from zoo.export.model_card import BASELINES
from zoo.metrics.paths import lerp, perceptual_path_length, slerp

BLUR = 1 / 28  # of an image's side: the radius of the blurred baseline
SPREAD = "training_std"  # beside the baselines: the standard deviation of "training" over its draws
PATHS = 2_000  # pairs of a path length

Baselines = dict[str, dict[str, float]]
"""Which images ("training", "noise", "blurred"), or `SPREAD` -> metric -> value."""


class GeneratedEvaluation:
    """One source against one set of real images, as one extractor sees them.

    Args:
        source: of the images.
        reference: the real images.
        extractor: None for scores of the pixels alone.
        metrics: of `ALL_METRICS`, but for those of held-out images.
        count: generated images per seed; fewer are taken where there are fewer training images, since the floor, of as
            many, must not have a bias that the scores lack.
        seeds: of the sampling.
        report_progress: called with a one-line progress message.

    Raises:
        ValueError: fewer images than a Frechet distance needs.
    """

    def __init__(
        self,
        source: ImageSource,
        reference: Reference,
        extractor: Extractor | None,
        metrics: Collection[str],
        count: int,
        seeds: tuple[int, ...],
        report_progress: Progress,
    ) -> None:
        self.source, self.reference, self.extractor = source, reference, extractor
        self.seeds, self.report_progress = seeds, report_progress
        self.metrics, self.compared = metrics, [name for name in metrics if name in METRICS]
        self.rows: list[dict[str, float]] = []  # of each seed's images: metric -> value
        self.count = source.count(count, len(seeds))
        if reference.train is not None:
            self.count = min(self.count, len(reference.train.images))
        fewest = min(self.count, len(reference.real.images))
        if extractor and fewest <= extractor.dimension and {"frechet", "frechet_infinity"} & self.groups:
            raise ValueError(
                f"{fewest} images, and {extractor.name} has {extractor.dimension} features: a Frechet distance needs "
                "more images than features, of generated (--count), real and training ones. Or name other --metrics."
            )

    @property
    def groups(self) -> set[str]:
        """Of the metrics that compare images with real ones."""
        return {METRICS[name].group for name in self.compared}

    def compute_records(self) -> list[Record]:
        """A record for each metric that can be computed, once `score_samples` was called."""
        rows = self.rows
        baselines = self.cached_baselines() if self.compared else {}
        values = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
        if "perceptual_path_length" in self.metrics:
            values |= self.score_paths()
        if {"classification_accuracy", "augmentation"} & set(self.metrics):
            values |= self.score_classifiers(baselines)
        if "discriminator_jsd_bound" in self.metrics:
            values |= self.score_discriminators(baselines)
        return [self.make_record(name, values[name], baselines) for name in ALL_METRICS if name in values]

    def make_record(self, name: str, values: Sequence[float], baselines: Baselines) -> Record:
        """One score over the seeds."""
        metric, extractor, real = ALL_METRICS[name], self.extractor, self.reference.real
        floor_std = baselines.get(SPREAD, {}).get(name)
        return Record(
            metric=metric.label(name, extractor),
            name=name,
            model=self.source.name,
            value=round_digits(float(np.mean(values))),
            std=round_digits(float(np.std(values, ddof=1))) if len(values) > 1 else None,
            baselines={
                images: round_digits(baselines[images][name])
                for images in BASELINES
                if name in baselines.get(images, {})
            },
            floor_std=None if floor_std is None else round_digits(floor_std),
            better=metric.better,
            extractor=f"{extractor.name}@{extractor.sha256}" if extractor and metric.needs_features else None,
            data=real.name,
            split=real.split,
            seeds=self.seeds,
            real_count=len(real.images),
            generated_count=self.count,
            preprocessing=self.reference.preprocessing,
            source_sha256=self.source.sha256,
            data_sha256=real.fingerprint,
            versions=library_versions(),
            read_as=self.source.read_as,
        )

    def cached_baselines(self) -> Baselines:
        """What training images, noise and blurred training images get, computed once and kept in the cache.

        Empty where nothing says what the training images are.
        """
        real, train = self.reference.real, self.reference.train
        if train is None:
            return {}
        data = [real.fingerprint, train.fingerprint, self.reference.preprocessing]
        draws = f"{self.count} x {len(self.seeds)}"
        path = cache_path("baselines", [*data, self.cache_key, draws, *sorted(self.compared)], ".json")
        with suppress(OSError, ValueError):  # missing or damaged
            return read_hashed(path.read_bytes())
        self.report_progress("baselines")
        baselines = self.score_baselines(train.images)
        with write_atomically(path) as temporary:
            temporary.write_text(write_hashed(baselines))
        return baselines

    def score_baselines(self, train_images: np.ndarray) -> Baselines:
        """The scores of training images, and of noise and blurred images of the same shape.

        Training images are drawn as often as there are seeds: their value and spread are those of a perfect model.
        """
        reference, metrics, images = self.reference_statistics, self.compared, self.choose_rows(train_images)
        draws = [
            reference.score_training_images(self.summarize_training(train_images, draw), metrics)
            for draw in range(len(self.seeds))
        ]
        values = {name: [scores[name] for scores in draws] for name in draws[0]}
        noise = np.random.Generator(np.random.Philox(0)).integers(0, 256, images.shape, np.uint8)
        return {
            "training": {name: float(np.mean(each)) for name, each in values.items()},
            SPREAD: {name: float(np.std(each, ddof=1)) for name, each in values.items() if len(each) > 1},
            "noise": compare(self.summarize(noise), reference, metrics),
            "blurred": compare(self.summarize(blur(images)), reference, metrics),
        }

    def choose_rows(self, rows: np.ndarray, draw: int = 0) -> np.ndarray:
        """Of as many training images as a seed has generated ones, since many scores depend on the count."""
        return rows[fixed_permutation(len(rows), draw)[: self.count]]

    def summarize_training(self, train_images: np.ndarray, draw: int) -> SampleStatistics:
        """Of one draw of training images."""
        images = self.choose_rows(train_images, draw)
        if self.extractor and "copies" in self.groups:  # the features of all training images are there already
            of_all = self.cached_features(self.extractor, train_images)
            return SampleStatistics.of(images, *(self.choose_rows(array, draw) for array in of_all))
        return self.summarize(images)

    @cached_property
    def reference_statistics(self) -> ReferenceStatistics:
        """The held-out images as the extractor sees them; the training images too where copies are looked for."""
        train, train_features = self.reference.train, None
        if train and self.extractor and "copies" in self.groups:
            train_features = self.cached_features(self.extractor, train.images)[0]
        return ReferenceStatistics(self.summarize(self.reference.real.images), train_features)

    def summarize(self, images: np.ndarray) -> SampleStatistics:
        """Of real images, noise, or blurred ones."""
        return SampleStatistics.of(images, *(self.cached_features(self.extractor, images) if self.extractor else ()))

    def cached_features(self, extractor: Extractor, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features and probabilities of images, computed once and kept in the cache by the images' content."""
        path = cache_path("features", [compute_fingerprint(images), self.cache_key], ".npz")
        # Of a damaged zip, whose checksums are compared, NumPy's exceptions are of many kinds.
        with suppress(Exception), np.load(path) as arrays:
            return arrays["features"], arrays["probabilities"]
        self.report_progress(f"{extractor.name}: features of {len(images)} images")
        features, probabilities = extract_features(extractor, images)
        with write_atomically(path) as temporary, temporary.open("wb") as file:
            np.savez(file, features=features, probabilities=probabilities)
        return features, probabilities

    @property
    def cache_key(self) -> str:
        """Changes when the extractor, the code of the scores, or a library does."""
        return " ".join(
            [self.extractor.sha256 if self.extractor else "pixels", hash_code(), *library_versions().values()]
        )

    def score_classifiers(self, baselines: Baselines) -> dict[str, list[float]]:
        """Accuracies of classifiers trained on each seed's images, which the extractor has labeled.

        The baseline, added to `baselines`, is what real training images give.

        Raises:
            ValueError: the extractor has another number of classes than the data.
        """
        real, train = self.reference.real, self.reference.train
        if self.extractor is None or train is None or train.labels is None or real.labels is None:
            return {}
        if self.extractor.classes != len(real.class_names):
            raise ValueError(
                f"{real.name} has {len(real.class_names)} classes and {self.extractor.name} {self.extractor.classes}: "
                "a classification accuracy needs an extractor of the same classes."
            )
        from zoo.evaluation.trained_scores import classification_accuracy

        accuracies = []
        rows = fixed_permutation(len(train.images))[:KEPT]
        for seed_index, seed in enumerate(self.seeds):
            images = self.draw_images(seed_index)[: len(rows)]
            self.report_progress(f"{self.source.name}: seed {seed}, training three classifiers")
            labels = extract_features(self.extractor, images)[1].argmax(axis=1)
            accuracies.append(
                classification_accuracy(
                    images, labels, train.images[rows], train.labels[rows], real.images, real.labels, seed=seed
                )
            )
        on_real = float(np.mean([each.on_real for each in accuracies]))
        baselines.setdefault("training", {})["classification_accuracy"] = on_real
        values = {
            "classification_accuracy": [each.on_generated for each in accuracies],
            "augmentation": [each.on_both - each.on_real for each in accuracies],
        }
        return {name: value for name, value in values.items() if name in self.metrics}

    def score_discriminators(self, baselines: Baselines) -> dict[str, list[float]]:
        """A lower bound of JSD(generated, real) in nats, by a discriminator trained per seed.

        The baseline, added to `baselines`, is the bound for training images.
        """
        from zoo.evaluation.trained_scores import discriminator_divergence

        real, train = self.reference.real.images, self.reference.train

        def divergence(images: np.ndarray, seed: int) -> float:
            count = min(len(images), len(real))
            return discriminator_divergence(images[:count], real[:count], seed=seed)

        if train is not None:
            self.report_progress("baseline: training a discriminator")
            of_training = divergence(self.choose_rows(train.images), self.seeds[0])
            baselines.setdefault("training", {})["discriminator_jsd_bound"] = of_training
        divergences = []
        for seed_index, seed in enumerate(self.seeds):
            images = self.draw_images(seed_index)
            self.report_progress(f"{self.source.name}: seed {seed}, training a discriminator")
            divergences.append(divergence(images, seed))
        return {"discriminator_jsd_bound": divergences}

    def draw_images(self, seed_index: int) -> np.ndarray:
        """The images of seeds[seed_index], at most `KEPT`, cut."""
        count, crop = min(self.count, KEPT), self.reference.crop
        return np.concatenate([crop_center(images, crop) for images in self.source.draw(count, self.seeds, seed_index)])

    def score_paths(self) -> dict[str, list[float]]:
        """One path length per seed, of a generator that takes a latent vector."""
        source, extractor = self.source, self.extractor
        if not isinstance(source, GeneratorSource) or extractor is None or source.latent is None:
            return {}
        latent, sampler = source.latent, source.sampler

        def generate(latents: np.ndarray) -> np.ndarray:
            raw = np.asarray(sampler.run({latent.name: latents.astype(latent.dtype)})[sampler.image.name])
            return crop_center(source.rescale(raw), self.reference.crop)

        means = []
        for seed in self.seeds:
            self.report_progress(f"{source.name}: seed {seed}, path length")
            lengths = perceptual_path_length(
                generate,
                lambda images: extractor(np.clip(images, -1, 1))[0],
                partial(draw, latent),
                interpolate=slerp if latent.feed == "normal" else lerp,
                pairs=PATHS,
                seed=seed,
            )
            means.append(lengths.mean)
        return {"perceptual_path_length": means}


def score_samples(evaluations: Sequence[GeneratedEvaluation]) -> None:
    """Draw each seed's images once, and compare them for all evaluations of one source and reference."""
    first = evaluations[0]
    for seed_index, seed in enumerate(first.seeds):
        samples = [SampleStatistics() for _ in evaluations]
        for images in first.source.draw(first.count, first.seeds, seed_index):
            images = crop_center(images, first.reference.crop)
            for evaluation, statistics in zip(evaluations, samples, strict=True):
                extractor = evaluation.extractor
                statistics.update(images, *(extract_features(extractor, images) if extractor else ()))
            first.report_progress(f"{first.source.name}: seed {seed}, {samples[0].count} of {first.count} images")
        first.report_progress(f"{first.source.name}: seed {seed}, scores")
        for evaluation, statistics in zip(evaluations, samples, strict=True):
            evaluation.rows.append(compare(statistics, evaluation.reference_statistics, evaluation.compared))


def blur(images: np.ndarray) -> np.ndarray:
    """uint8 images (count, height, width, 1 or 3) through a Gaussian blur."""
    gaussian = ImageFilter.GaussianBlur(BLUR * images.shape[1])
    pillow_images = (Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image) for image in images)
    return np.stack([np.asarray(image.filter(gaussian)) for image in pillow_images]).reshape(images.shape)
