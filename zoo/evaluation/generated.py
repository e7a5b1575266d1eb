"""Scores of the images that a source makes."""

import json
from collections.abc import Callable, Collection, Sequence
from functools import cached_property, partial

import numpy as np
from PIL import Image, ImageFilter

from serving.sampling.noise import draw
from zoo.data.images import compute_fingerprint
from zoo.evaluation.cache import cache_path, code_of_scores, written
from zoo.evaluation.extractors import Extractor, features_of
from zoo.evaluation.record import Record, rounded, versions
from zoo.evaluation.reference import Held, cropped
from zoo.evaluation.scores import ALL_METRICS, KEPT, METRICS, ReferenceStatistics, Side, compare
from zoo.evaluation.source import IMAGE_RANGE, Source, shuffled
from zoo.metrics.paths import lerp, perceptual_path_length, slerp

BLUR = 1 / 28  # of an image's side: the radius of the blurred ceiling
PATHS = 2_000  # pairs of a path length


class Evaluation:
    """One source against one set of real images, as one extractor sees them."""

    def __init__(
        self,
        source: Source,
        held: Held,
        extractor: Extractor | None,
        metrics: Collection[str],
        count: int,
        seeds: tuple[int, ...],
        tell: Callable[[str], None],
    ) -> None:
        self.source, self.held, self.extractor, self.seeds, self.tell = source, held, extractor, seeds, tell
        self.metrics, self.plain = metrics, [name for name in metrics if name in METRICS]
        self.count = source.count(count, len(seeds))
        fewest = min([self.count, *(len(side.images) for side in (held.real, held.train) if side)])
        if extractor and fewest <= extractor.dimension and {"frechet", "frechet_infinity"} & self.groups:
            raise ValueError(
                f"{fewest} images, and {extractor.name} has {extractor.dimension} features: a Frechet distance needs "
                "more images than features, of generated (--count), real and training ones. Or name other --metrics."
            )

    @property
    def groups(self) -> set[str]:
        """Of the metrics."""
        return {METRICS[name].group for name in self.plain}

    def records(self) -> list[Record]:
        """A record for each metric that can be made."""
        rows = [self.of_seed(number) for number in range(len(self.seeds))] if self.plain else []
        anchors = self.anchors() if self.plain else {}
        values = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
        if "perceptual_path_length" in self.metrics:
            values |= self.path_lengths()
        if {"classification_accuracy", "augmentation"} & set(self.metrics):
            values |= self.accuracies(anchors)
        if "jensen_shannon_divergence" in self.metrics:
            values |= self.divergences(anchors)
        return [self.record(name, values[name], anchors) for name in ALL_METRICS if name in values]

    def record(self, name: str, values: Sequence[float], anchors: dict[str, dict[str, float]]) -> Record:
        """One score over the seeds."""
        metric, extractor = ALL_METRICS[name], self.extractor
        floors = anchors.get("floor", {})
        return Record(
            metric=metric.label(name, extractor),
            name=name,
            model=self.source.name,
            value=rounded(float(np.mean(values))),
            std=rounded(float(np.std(values, ddof=1))) if len(values) > 1 else None,
            floor=rounded(floors[name]) if name in floors else None,
            ceilings={
                side: rounded(found[name]) for side, found in anchors.items() if side != "floor" and name in found
            },
            better=metric.better,
            extractor=f"{extractor.name}@{extractor.sha256}" if extractor and metric.title else None,
            data=self.held.real.name,
            split=self.held.real.split,
            seeds=self.seeds,
            real_count=len(self.held.real.images),
            generated_count=self.count,
            preprocessing=self.held.preprocessing,
            source_sha256=self.source.sha256,
            data_sha256=self.held.real.fingerprint,
            versions=versions(),
        )

    def of_seed(self, number: int) -> dict[str, float]:
        """The scores of one seed's images."""
        side = Side()
        for images in self.source.draw(self.count, self.seeds, number):
            images = cropped(images, self.held.crop)
            side.update(images, *(features_of(self.extractor, images) if self.extractor else ()))
            self.tell(f"{self.source.name}: seed {self.seeds[number]}, {side.count} of {self.count} images")
        self.tell(f"{self.source.name}: seed {self.seeds[number]}, scores")
        return compare(side, self.yardstick, self.plain)

    def anchors(self) -> dict[str, dict[str, float]]:
        """What training images, noise and blurred training images get: side -> score -> value; cached."""
        held = self.held
        if held.train is None:
            return {}
        data = [held.real.fingerprint, held.train.fingerprint, held.preprocessing]
        key = [*data, self.version, str(self.count), *sorted(self.plain)]

        def make() -> dict[str, dict[str, float]]:
            self.tell("floor and ceilings")
            floor, yardstick, metrics = self.training_images, self.yardstick, self.plain
            noise = np.random.Generator(np.random.Philox(0)).integers(0, 256, floor.shape, np.uint8)
            return {
                "floor": yardstick.floors(self.side(floor), metrics),
                "noise": compare(self.side(noise), yardstick, metrics),
                "blurred": compare(self.side(blurred(floor)), yardstick, metrics),
            }

        path = cache_path("anchors", key, ".json")
        if not path.exists():
            with written(path) as temporary:
                temporary.write_text(json.dumps(make()))
        return json.loads(path.read_text())

    @cached_property
    def yardstick(self) -> ReferenceStatistics:
        """The held-out images as the extractor sees them; the training images too where copies are looked for."""
        train = None
        if self.held.train and self.extractor and "copies" in self.groups:
            train = self.features(self.held.train.images)[0]
        return ReferenceStatistics(self.side(self.held.real.images), train)

    @property
    def training_images(self) -> np.ndarray:
        """What the floor is made of: as many as a seed's generated ones, since many scores depend on the count."""
        assert self.held.train is not None  # asked for by those who have seen to it
        images = self.held.train.images
        return images[shuffled(len(images))[: self.count]]

    def side(self, images: np.ndarray) -> Side:
        """Real images, noise, or blurred ones."""
        return Side.of(images, *(self.features(images) if self.extractor else ()))

    def features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features and probabilities of images that will be asked for again; cached by their content."""
        assert self.extractor is not None  # asked for where there is one
        path = cache_path("features", [compute_fingerprint(images), self.version], ".npz")
        if not path.exists():
            self.tell(f"{self.extractor.name}: features of {len(images)} images")
            features, probabilities = features_of(self.extractor, images)
            with written(path) as temporary, temporary.open("wb") as file:
                np.savez(file, features=features, probabilities=probabilities)
        with np.load(path) as arrays:
            return arrays["features"], arrays["probabilities"]

    @property
    def version(self) -> str:
        """Changes when the extractor, the code of the scores, or a library does."""
        return " ".join([self.extractor.sha256 if self.extractor else "pixels", code_of_scores(), *versions().values()])

    def accuracies(self, anchors: dict[str, dict[str, float]]) -> dict[str, list[float]]:
        """Of classifiers trained on each seed's images, named by the extractor; the floor is what real ones give."""
        real, train = self.held.real, self.held.train
        if self.extractor is None or train is None or train.labels is None or real.labels is None:
            return {}
        if self.extractor.classes != len(real.class_names):
            raise ValueError(
                f"{real.name} has {len(real.class_names)} classes and {self.extractor.name} {self.extractor.classes}: "
                "a classification accuracy needs an extractor of the same classes."
            )
        from zoo.evaluation.judges import classification_accuracy

        found = []
        rows = shuffled(len(train.images))[:KEPT]
        for number, seed in enumerate(self.seeds):
            images = self.images_of(number)[: len(rows)]
            self.tell(f"{self.source.name}: seed {seed}, training three classifiers")
            labels = features_of(self.extractor, images)[1].argmax(axis=1)
            found.append(
                classification_accuracy(
                    images, labels, train.images[rows], train.labels[rows], real.images, real.labels, seed=seed
                )
            )
        anchors.setdefault("floor", {})["classification_accuracy"] = float(np.mean([each.on_real for each in found]))
        values = {
            "classification_accuracy": [each.on_generated for each in found],
            "augmentation": [each.on_both - each.on_real for each in found],
        }
        return {name: value for name, value in values.items() if name in self.metrics}

    def divergences(self, anchors: dict[str, dict[str, float]]) -> dict[str, list[float]]:
        """A fresh discriminator's bound for each seed; the floor is its bound for training images."""
        from zoo.evaluation.judges import discriminator_divergence

        def divergence(images: np.ndarray, seed: int) -> float:
            count = min(len(images), len(self.held.real.images))
            return discriminator_divergence(images[:count], self.held.real.images[:count], seed=seed)

        if self.held.train is not None:
            self.tell("floor: training a discriminator")
            floor = divergence(self.training_images, self.seeds[0])
            anchors.setdefault("floor", {})["jensen_shannon_divergence"] = floor
        found = []
        for number, seed in enumerate(self.seeds):
            images = self.images_of(number)
            self.tell(f"{self.source.name}: seed {seed}, training a discriminator")
            found.append(divergence(images, seed))
        return {"jensen_shannon_divergence": found}

    def images_of(self, number: int) -> np.ndarray:
        """The images of seeds[number], at most `KEPT`."""
        count = min(self.count, KEPT)
        return np.concatenate(
            [cropped(images, self.held.crop) for images in self.source.draw(count, self.seeds, number)]
        )

    def path_lengths(self) -> dict[str, list[float]]:
        """One path length a seed, of a generator that takes a latent vector."""
        extractor, latent, sampler = self.extractor, self.source.latent, self.source.sampler
        if latent is None or extractor is None or sampler is None:
            return {}
        image = sampler.image
        low, high = image.range or IMAGE_RANGE

        def generate(latents: np.ndarray) -> np.ndarray:
            raw = np.asarray(sampler.run({latent.name: latents.astype(latent.dtype)})[image.name])
            return cropped((raw - low) * (2 / (high - low)) - 1, self.held.crop)

        found = []
        for seed in self.seeds:
            self.tell(f"{self.source.name}: seed {seed}, path length")
            lengths = perceptual_path_length(
                generate,
                lambda images: extractor(np.clip(images, -1, 1))[0],
                partial(draw, latent),
                interpolate=slerp if latent.feed == "normal" else lerp,
                pairs=PATHS,
                seed=seed,
            )
            found.append(lengths.mean)
        return {"perceptual_path_length": found}


def blurred(images: np.ndarray) -> np.ndarray:
    """uint8 images through a Gaussian blur."""
    blur = ImageFilter.GaussianBlur(BLUR * images.shape[1])
    drawn = (Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image) for image in images)
    return np.stack([np.asarray(each.filter(blur)) for each in drawn]).reshape(images.shape)
