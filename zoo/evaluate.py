"""`zoo evaluate`: pictures of any source against held-out ones, and what a model makes of held-out ones themselves.

Each score comes with its protocol, error bar and, where it has them, floor and ceilings.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

import zoo.evaluation
from recipes.data import load_pictures
from recipes.pictures import Pictures, fingerprint
from serving.card import Card, CardError, read_card
from serving.likelihood import bounds
from serving.pipeline import Pipeline
from serving.sampler import draw
from zoo.evaluation.extractors import EXTRACTORS, ClassifierExtractor, Extractor, centre, features_of, scaled
from zoo.evaluation.latents import latent_statistics
from zoo.evaluation.paths import lerp, perceptual_path_length, slerp
from zoo.evaluation.scores import KEPT, METRICS, Better, Metric, Side, Yardstick, compare
from zoo.pretrained import cache_root, find_directory
from zoo.sources import IMAGE_RANGE, Source, open_source, shuffled

COUNT = 10_000  # generated pictures of a seed
SEEDS = (0, 1, 2)
SPLIT = "test"
SHARED_AT_MOST = 0.01  # of the held-out pictures, among the training pictures: data sets repeat some themselves
BLUR = 1 / 28  # of a picture's side: the radius of the blurred ceiling
DIGITS = 6  # of a value: those that a second run on the same machine gives again
PATHS = 2_000  # pairs of a path length
SHOWN = 500  # held-out pictures that a model is shown at once

OTHER_METRICS: dict[str, Metric] = {
    "perceptual_path_length": Metric("paths", "lower", "features: how fast pictures change with the latent", "PPL"),
    "accuracy": Metric("accuracy", "higher", "of a classifier, on held-out pictures"),
    "classification_accuracy": Metric(
        "judge", "higher", "on real pictures, of a classifier trained on samples", "classification_accuracy"
    ),
    "augmentation": Metric("judge", "higher", "what samples beside real pictures add to that accuracy", "augmentation"),
    "jensen_shannon_divergence": Metric("discriminator", "lower", "a fresh discriminator's bound, nats"),
    "elbo": Metric("bounds", "higher", "of log p(x), nats"),
    "importance_weighted_bound": Metric("bounds", "higher", "of log p(x), by K samples of z, nats"),
    "bits_per_dimension": Metric("bounds", "lower", "that bound in bits a pixel and channel"),
    "active_units": Metric("latents", "higher", "latents whose mean depends on the picture"),
    "posterior_divergence": Metric("latents", "lower", "KL(q(z|x) || p(z)), nats, in all and of each latent"),
    "mutual_information": Metric("latents", "higher", "I(x; z), nats, at most the log of the count of pictures"),
    "aggregate_divergence": Metric("latents", "lower", "KL(q(z) || p(z)), nats"),
    "squared_error": Metric("reconstruction", "lower", "of a reconstruction, a pixel and channel, brightness 0 to 1"),
}
ALL_METRICS = {**METRICS, **OTHER_METRICS}
TRAINED = ("classification_accuracy", "augmentation", "jensen_shannon_divergence")
"""Scores that train a network each: minutes, so only when named."""
ABILITIES = {
    "bounds": ("log_prob", {"elbo", "importance_weighted"}),
    "latents": ("encode", {"mean", "scale"}),
    "reconstruction": ("reconstruct", {"reconstruction"}),
}
"""Group of scores -> the ability that they take, and the outputs that it must have."""
OF_HELD_OUT = tuple(name for name, metric in OTHER_METRICS.items() if metric.group in ABILITIES)
"""Scores of what a model makes of held-out pictures: it needs no pictures of its own."""
DEFAULT_METRICS = tuple(name for name in ALL_METRICS if name not in (*TRAINED, *OF_HELD_OUT))
"""Of the pictures that a source makes."""
OF_GREY = {"bernoulli": "cross-entropy", "gaussian": "density"}
"""Likelihood -> what its bound is one of, where it gives grey pictures no probability."""


@dataclass(frozen=True)
class Record:
    """One score with everything it rests on.

    value and std are over the seeds; floor is what real training pictures get, ceilings what noise and blurred pictures
    do. extractor is "name@sha256", None for scores of the pixels. Where generated_count is 0, the score is one of the
    held-out pictures: value is a mean over them, std its standard error, and seeds that of the latents, if any.
    parts add up to the value: those of posterior_divergence are the latents', by number; other scores have none.
    """

    metric: str
    name: str
    model: str
    value: float
    std: float | None
    floor: float | None
    ceilings: dict[str, float]
    better: Better
    extractor: str | None
    data: str
    split: str
    seeds: tuple[int, ...]
    real_count: int
    generated_count: int
    preprocessing: str
    source_sha256: str
    data_sha256: str
    versions: dict[str, str] = field(default_factory=dict)
    parts: tuple[float, ...] = ()


@dataclass
class Held:
    """Real pictures to compare with, shuffled, and those that the model was trained on, cut alike."""

    real: Pictures
    train: Pictures | None
    crop: int | None
    preprocessing: str


def evaluate(
    name: str,
    *,
    against: str | None = None,
    split: str = SPLIT,
    trained_on: str | None = None,
    extractors: Sequence[str] = (),
    inception: str | None = None,
    inception_sha256: str | None = None,
    metrics: Collection[str] = (),
    count: int = COUNT,
    seeds: tuple[int, ...] = SEEDS,
    crop: int | None = None,
    bound_samples: int | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> list[Record]:
    """Score pictures of `name`, and what it makes of held-out ones.

    Args:
        name: see `zoo.sources.open_source`; or a classifier of the zoo, which gets its accuracy.
        against: real pictures: a data set, folder or zip as for training; the model's own data when not given.
        split: of `against`; held out when the model was trained.
        trained_on: the data of a source without a card, for floor, copies and the refusal of training pictures.
        extractors: presets or exported directories of classifiers; the data set's own when not given.
        inception: path or URL of the 2015 Inception's weights; adds FID, KID and IS.
        inception_sha256: what these must have.
        metrics: names of `ALL_METRICS`; when empty, those of `DEFAULT_METRICS` and `OF_HELD_OUT` that can be made.
        count: generated pictures a seed.
        seeds: of the sampling.
        crop: take the centre of this many pixels of generated pictures, and of real ones that are brought to their
            size as for training; known where the card says padding. What a model is shown is never cut.
        bound_samples: of z, for each picture's importance-weighted bound: a multiple of what the graph takes at once,
            which it is when not given.
        tell: is given a line now and then.

    Raises:
        ValueError: real pictures that the model was trained on; sizes, ranges or numbers that do not fit; a metric
            that is unknown or can't be made.
    """
    chosen_metrics = tuple(metrics) or (*DEFAULT_METRICS, *OF_HELD_OUT)
    if unknown := sorted(set(chosen_metrics) - set(ALL_METRICS)):
        raise ValueError(f"metrics={unknown}: choose from {', '.join(ALL_METRICS)}.")
    if count < 2 or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"count={count}, seeds={seeds}: give at least 2 pictures and different seeds.")
    if (directory := classifier_directory(name)) is not None:
        if metrics and set(metrics) != {"accuracy"}:
            raise ValueError(f"metrics={sorted(metrics)}: {name} is a classifier, whose only score is accuracy.")
        return [accuracy(directory, against, split, tell)]
    source = open_source(name)
    if source.count(count, len(seeds)) < 2:
        raise ValueError(f"{source.name}: too few pictures for {len(seeds)} seeds: give at least {2 * len(seeds)}.")
    of_pictures = [one for one in chosen_metrics if one not in OF_HELD_OUT] if source.makes_pictures else []
    if metrics and not source.makes_pictures and (wrong := sorted(set(metrics) - set(OF_HELD_OUT))):
        raise ValueError(
            f"{source.name} makes no pictures of its own, so it has no {', '.join(wrong)}: choose from "
            f"{', '.join(OF_HELD_OUT)}."
        )
    if bound_samples is not None and not able(source, "bounds"):
        raise ValueError(f"bound_samples={bound_samples}: {source.name} gives no bound of log p(x).")
    tell(f"{source.name}: real pictures")
    held = load_held(source, against, split, trained_on, crop)
    judges: list[Extractor | None] = []
    if any(ALL_METRICS[one].title for one in of_pictures):
        judges += [ClassifierExtractor(find_directory(each)) for each in dict.fromkeys(names(extractors, held))]
        if inception is not None:
            from zoo.evaluation.inception import read_inception

            judges.append(read_inception(inception, inception_sha256, cache_root() / "inception"))
    of_each = [one for one in of_pictures if ALL_METRICS[one].title and one not in TRAINED]
    of_held_out = [one for one in OF_HELD_OUT if one in chosen_metrics and able(source, ALL_METRICS[one].group)]
    shown: list[Record] = []  # made first: they refuse a bad number of samples
    if of_held_out:
        # A model is shown what it was trained on: pictures with their padding.
        whole = held if held.crop is None else load_held(source, against, split, trained_on, source.size[0])
        shown = HeldOutEvaluation(source, whole, of_held_out, bound_samples, seeds[0], tell).records()
    records: list[Record] = []
    for number, judge in enumerate((judges or [None]) if of_pictures else []):
        wanted = of_each if number else of_pictures  # what needs no features is made once
        records += Evaluation(source, held, judge, wanted, count, seeds, tell).records()
    records += shown
    missing = sorted(set(chosen_metrics) - {record.name for record in records})
    if missing and (metrics or not records):
        raise ValueError(
            f"{', '.join(missing)} can't be made of {source.name} against {held.real.name}: give --extractor or "
            "--inception for what needs features, --trained-on and 100 held-out pictures for copies, more pictures "
            "for a distance at infinity; a path length needs a generator of latents alone, an accuracy a classifier; "
            "bounds, latents and reconstructions need a model with the abilities log_prob, encode and reconstruct, and "
            "pictures of the classes that it knows where it is told the class; bits a likelihood of grey levels."
        )
    return records


class Evaluation:
    """One source against one set of real pictures, as one extractor sees them."""

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
                f"{fewest} pictures, and {extractor.name} has {extractor.dimension} features: a Frechet distance needs "
                "more pictures than features, of generated (--count), real and training ones. Or name other --metrics."
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
        """The scores of one seed's pictures."""
        side = Side()
        for pictures in self.source.draw(self.count, self.seeds, number):
            pictures = cropped(pictures, self.held.crop)
            side.update(pictures, *(features_of(self.extractor, pictures) if self.extractor else ()))
            self.tell(f"{self.source.name}: seed {self.seeds[number]}, {side.count} of {self.count} pictures")
        self.tell(f"{self.source.name}: seed {self.seeds[number]}, scores")
        return compare(side, self.yardstick, self.plain)

    def anchors(self) -> dict[str, dict[str, float]]:
        """What training pictures, noise and blurred training pictures get: side -> score -> value; cached."""
        held = self.held
        if held.train is None:
            return {}
        data = [held.real.fingerprint, held.train.fingerprint, held.preprocessing]
        key = [*data, self.version, str(self.count), *sorted(self.plain)]

        def make() -> dict[str, dict[str, float]]:
            self.tell("floor and ceilings")
            floor, yardstick, metrics = self.training_pictures, self.yardstick, self.plain
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
    def yardstick(self) -> Yardstick:
        """The held-out pictures as the extractor sees them; the training pictures too where copies are looked for."""
        train = None
        if self.held.train and self.extractor and "copies" in self.groups:
            train = self.features(self.held.train.images)[0]
        return Yardstick(self.side(self.held.real.images), train)

    @property
    def training_pictures(self) -> np.ndarray:
        """What the floor is made of: as many as a seed's generated ones, since many scores depend on the count."""
        assert self.held.train is not None  # asked for by those who have seen to it
        images = self.held.train.images
        return images[shuffled(len(images))[: self.count]]

    def side(self, pictures: np.ndarray) -> Side:
        """Real pictures, noise, or blurred ones."""
        return Side.of(pictures, *(self.features(pictures) if self.extractor else ()))

    def features(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features and probabilities of pictures that will be asked for again; cached by their content."""
        assert self.extractor is not None  # asked for where there is one
        path = cache_path("features", [fingerprint(pictures), self.version], ".npz")
        if not path.exists():
            self.tell(f"{self.extractor.name}: features of {len(pictures)} pictures")
            features, probabilities = features_of(self.extractor, pictures)
            with written(path) as temporary, temporary.open("wb") as file:
                np.savez(file, features=features, probabilities=probabilities)
        with np.load(path) as arrays:
            return arrays["features"], arrays["probabilities"]

    @property
    def version(self) -> str:
        """Changes when the extractor, the code of the scores, or a library does."""
        return " ".join([self.extractor.sha256 if self.extractor else "pixels", code_of_scores(), *versions().values()])

    def accuracies(self, anchors: dict[str, dict[str, float]]) -> dict[str, list[float]]:
        """Of classifiers trained on each seed's pictures, named by the extractor; the floor is what real ones give."""
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
            pictures = self.pictures_of(number)[: len(rows)]
            self.tell(f"{self.source.name}: seed {seed}, training three classifiers")
            labels = features_of(self.extractor, pictures)[1].argmax(axis=1)
            found.append(
                classification_accuracy(
                    pictures, labels, train.images[rows], train.labels[rows], real.images, real.labels, seed=seed
                )
            )
        anchors.setdefault("floor", {})["classification_accuracy"] = float(np.mean([each.on_real for each in found]))
        values = {
            "classification_accuracy": [each.on_generated for each in found],
            "augmentation": [each.on_both - each.on_real for each in found],
        }
        return {name: value for name, value in values.items() if name in self.metrics}

    def divergences(self, anchors: dict[str, dict[str, float]]) -> dict[str, list[float]]:
        """A fresh discriminator's bound for each seed; the floor is its bound for training pictures."""
        from zoo.evaluation.judges import discriminator_divergence

        def divergence(pictures: np.ndarray, seed: int) -> float:
            count = min(len(pictures), len(self.held.real.images))
            return discriminator_divergence(pictures[:count], self.held.real.images[:count], seed=seed)

        if self.held.train is not None:
            self.tell("floor: training a discriminator")
            floor = divergence(self.training_pictures, self.seeds[0])
            anchors.setdefault("floor", {})["jensen_shannon_divergence"] = floor
        found = []
        for number, seed in enumerate(self.seeds):
            pictures = self.pictures_of(number)
            self.tell(f"{self.source.name}: seed {seed}, training a discriminator")
            found.append(divergence(pictures, seed))
        return {"jensen_shannon_divergence": found}

    def pictures_of(self, number: int) -> np.ndarray:
        """The pictures of seeds[number], at most `KEPT`."""
        count = min(self.count, KEPT)
        return np.concatenate(
            [cropped(pictures, self.held.crop) for pictures in self.source.draw(count, self.seeds, number)]
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
                lambda pictures: extractor(np.clip(pictures, -1, 1))[0],
                partial(draw, latent),
                interpolate=slerp if latent.feed == "normal" else lerp,
                pairs=PATHS,
                seed=seed,
            )
            found.append(lengths.mean)
        return {"perceptual_path_length": found}


class HeldOutEvaluation:
    """What one model makes of held-out pictures: bounds of their probability, their latents, reconstructions.

    Args:
        source: what is scored.
        held: the pictures, not cut.
        metrics: of `OF_HELD_OUT`, those that it has the abilities for.
        bound_samples: see `evaluate`.
        seed: of the latents.
        tell: see `evaluate`.
    """

    def __init__(
        self,
        source: Source,
        held: Held,
        metrics: Collection[str],
        bound_samples: int | None,
        seed: int,
        tell: Callable[[str], None],
    ) -> None:
        self.source, self.held, self.metrics = source, held, metrics
        self.bound_samples, self.seed, self.tell = bound_samples, seed, tell

    def records(self) -> list[Record]:
        """A record for each metric that can be made."""
        make = {"bounds": self.bounds, "latents": self.latents, "reconstruction": self.reconstructions}
        assert self.source.directory is not None  # it has abilities
        records: dict[str, Record] = {}
        for group in {OTHER_METRICS[name].group: None for name in self.metrics}:
            pipeline = Pipeline.from_directory(self.source.directory, ability=ABILITIES[group][0])
            if self.labelled(pipeline):
                records |= {record.name: record for record in make[group](pipeline)}
        return [records[name] for name in self.metrics if name in records]

    def labelled(self, pipeline: Pipeline) -> bool:
        """Whether the pictures have the classes that an ability is told, if it is told any."""
        real = self.held.real
        told = [spec for spec in pipeline.ability.inputs if spec.feed == "label"]
        return not told or (real.labels is not None and all(spec.classes == real.class_names for spec in told))

    def shown(self, pipeline: Pipeline) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number of the first picture, and what the graph takes of the pictures themselves, some at a time."""
        images, labels, count = self.held.real.images, self.held.real.labels, len(self.held.real.images)
        for start in range(0, count, SHOWN):
            self.tell(f"{self.source.name}: {pipeline.ability.file}, {start} of {count} held-out pictures")
            rows = slice(start, start + SHOWN)
            feeds = {}
            for spec in pipeline.ability.inputs:
                if spec.feed == "image":
                    feeds[spec.name] = scaled(images[rows])
                elif spec.feed == "label" and labels is not None:
                    feeds[spec.name] = labels[rows].astype(spec.dtype)
            yield start, feeds

    def bounds(self, pipeline: Pipeline) -> Iterator[Record]:
        """Two lower bounds of log p(x), of the same samples; in bits too where pictures have a probability."""
        options: dict[str, Any] = {"samples": self.bound_samples, "seed": self.seed}
        parts = [
            bounds(pipeline.ability, pipeline.run, feeds.pop("image"), start=start, **options, **feeds)
            for start, feeds in self.shown(pipeline)
        ]
        found = {name: np.concatenate([part[name].values for part in parts]) for name in parts[0]}
        title = parts[0]["importance_weighted"].name
        images, likelihood = self.held.real.images, pipeline.card.model["arguments"].get("likelihood")
        grey = likelihood != "bernoulli" or not np.isin(images, (0, 255)).all()
        of = [OF_GREY[likelihood]] if grey and likelihood in OF_GREY else []
        of += ["given the class"] * any(spec.feed == "label" for spec in pipeline.ability.inputs)
        values = found["importance_weighted"]
        label = qualified(title, *of)
        yield self.record(pipeline, "importance_weighted_bound", label, *mean_and_error(values), self.seed)
        if likelihood == "discretised_logistic":
            bits, label = values / (-np.log(2) * images[0].size), qualified("bits_per_dimension", title, *of)
            yield self.record(pipeline, "bits_per_dimension", label, *mean_and_error(bits), self.seed)
        yield self.record(pipeline, "elbo", qualified("elbo", *of), *mean_and_error(found["elbo"]), self.seed)

    def latents(self, pipeline: Pipeline) -> Iterator[Record]:
        """How many are in use, what they and each of them cost and tell, how far their aggregate is from the prior."""
        parts = [pipeline.run(feeds) for _, feeds in self.shown(pipeline)]
        mean, scale = (np.concatenate([part[name] for part in parts]) for name in ("mean", "scale"))
        found = latent_statistics(mean, scale, seed=self.seed)
        label = qualified("active_units", f"of {mean.shape[1]}")
        yield self.record(pipeline, "active_units", label, found.active_units, None)
        name = "posterior_divergence"
        total = self.record(pipeline, name, name, *mean_and_error(found.divergence.sum(axis=1)))
        yield replace(total, parts=tuple(rounded(float(part)) for part in found.divergence.mean(axis=0)))
        for name, value in (
            ("mutual_information", found.mutual_information),
            ("aggregate_divergence", found.aggregate_divergence),
        ):
            yield self.record(pipeline, name, name, value, found.error, self.seed)

    def reconstructions(self, pipeline: Pipeline) -> Iterator[Record]:
        """Their squared error, of brightness from 0 to 1."""
        errors = []
        for _, feeds in self.shown(pipeline):
            found = pipeline.run(feeds)["reconstruction"].astype(np.float64)
            errors.append(np.square((found - feeds["image"]) / 2).mean(axis=(1, 2, 3)))
        yield self.record(pipeline, "squared_error", "squared_error", *mean_and_error(np.concatenate(errors)))

    def record(
        self, pipeline: Pipeline, name: str, label: str, value: float, error: float | None, seed: int | None = None
    ) -> Record:
        """One score, made with an ability's graph."""
        card, file, held = pipeline.card, pipeline.ability.file, self.held
        assert file is not None  # a pipeline runs one
        sha256, seeds = card.files[file].sha256, () if seed is None else (seed,)
        return of_real_pictures(name, label, card.name, value, error, held.real, held.preprocessing, sha256, seeds)


def able(source: Source, group: str) -> bool:
    """Whether a source has the ability that a group of scores takes."""
    name, outputs = ABILITIES[group]
    known = source.card.abilities if source.card else {}
    return name in known and outputs <= {output.name for output in known[name].outputs}


def qualified(title: str, *remarks: str) -> str:
    """Such as "IWAE-50 (cross-entropy)"."""
    return f"{title} ({', '.join(remarks)})" if remarks else title


def mean_and_error(values: np.ndarray) -> tuple[float, float | None]:
    """Of one value a picture: the mean, and its standard error where there are two."""
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None


def of_real_pictures(
    name: str,
    label: str,
    model: str,
    value: float,
    error: float | None,
    real: Pictures,
    preprocessing: str,
    sha256: str,
    seeds: tuple[int, ...] = (),
) -> Record:
    """A score of held-out pictures themselves, which has neither floor nor ceilings."""
    return Record(
        metric=label,
        name=name,
        model=model,
        value=rounded(value),
        std=None if error is None else rounded(error),
        floor=None,
        ceilings={},
        better=ALL_METRICS[name].better,
        extractor=None,
        data=real.name,
        split=real.split,
        seeds=seeds,
        real_count=len(real.images),
        generated_count=0,
        preprocessing=preprocessing,
        source_sha256=sha256,
        data_sha256=real.fingerprint,
        versions=versions(),
    )


# Real pictures


def load_held(source: Source, against: str | None, split: str, trained_on: str | None, crop: int | None) -> Held:
    """The real pictures that `source` is scored against, and those that it was trained on.

    Raises:
        ValueError: nothing says what they are; the model was trained on them; the source's pictures are not square.
    """
    card = source.card
    against = against or (card.data.source if card else None)
    if against is None:
        raise ValueError(f"{source.name} has no card that names its data: say what to compare with (--against).")
    height, width, channels = source.size
    if height != width:
        raise ValueError(f"pictures of {height} x {width} pixels: only square ones can be compared.")
    fit = card.recipe.get("fit", "crop") if card else "crop"
    if crop is None:
        crop = min(unpadded(card, channels), height) if card and fit == "pad" else height
    if not 1 <= crop <= height:
        raise ValueError(f"crop={crop}: choose from 1 to {height}, the side of the pictures.")
    # As for training, then cut as generated ones are; with no card, what is left of those is all that is known.
    side = height if card else crop
    load = partial(load_pictures, image_size=side, channels=channels, fit=fit)
    real, train = cut(load(against, split=split), crop), None
    if card:
        train = cut(load(card.data.source, split=card.data.split), crop)
    elif trained_on:
        train = cut(load(trained_on, split="train"), crop)
    left_out = np.zeros(len(real.images), bool)
    if train is not None:
        left_out = among(real.images, train.images)
        if left_out.mean() > SHARED_AT_MOST:
            raise ValueError(
                f"{left_out.sum()} of {len(left_out)} pictures of {real.name}, {real.split}, are among those that "
                f"{source.name} was trained on ({train.name}, {train.split}): give pictures that were held out."
            )
    rows = np.flatnonzero(~left_out)
    digest = fingerprint(real.images if len(rows) == len(real.images) else real.images[rows])
    rows = rows[shuffled(len(rows))]  # where only the first ones are looked at, all classes must be among them
    labels = None if real.labels is None else real.labels[rows]
    real = replace(real, images=real.images[rows], labels=labels, fingerprint=digest)
    whose = "" if crop == height else f"; the centre {crop} x {crop} of {'both' if card else 'generated ones'}"
    shared = f"; {left_out.sum()} left out that training has too" if left_out.any() else ""
    preprocessing = f"8 bits a channel; real ones {fit} to {side} x {side}, Lanczos{whose}{shared}"
    return Held(real, train, crop if whose else None, preprocessing)


def unpadded(card: Card, channels: int) -> int:
    """The side of the centre that a model's pictures have no padding in: the larger one of its training pictures.

    Raises:
        ValueError: they are of several sizes.
    """
    try:
        native = load_pictures(card.data.source, split=card.data.split, image_size=None, channels=channels)
    except ValueError as error:
        raise ValueError(
            f"{card.name} was trained on padded pictures; say with --crop how much of them to compare: {error}"
        ) from error
    return max(native.images.shape[1:3])


def cut(pictures: Pictures, crop: int) -> Pictures:
    """The centres of square pictures."""
    return replace(pictures, images=cropped(pictures.images, crop))


def names(extractors: Sequence[str], held: Held) -> Sequence[str]:
    """The extractors asked for, or the data set's own, or none."""
    if extractors:
        return extractors
    known = EXTRACTORS.get(held.real.name)
    return (known,) if known else ()


def among(pictures: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(count,): whether the very same picture is one of `others`."""
    known = set(hashes(others))
    return np.array([value in known for value in hashes(pictures)])


def hashes(pictures: np.ndarray) -> Iterator[bytes]:
    """One a picture, over its bytes."""
    return (hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=16).digest() for picture in pictures)


def cropped(pictures: np.ndarray, crop: int | None) -> np.ndarray:
    """The centre of (count, side, side, channels)."""
    return pictures if crop is None else centre(pictures, crop, crop)


def blurred(pictures: np.ndarray) -> np.ndarray:
    """uint8 pictures through a Gaussian blur."""
    blur = ImageFilter.GaussianBlur(BLUR * pictures.shape[1])
    images = (Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture) for picture in pictures)
    return np.stack([np.asarray(image.filter(blur)) for image in images]).reshape(pictures.shape)


# Classifiers


def classifier_directory(name: str) -> Path | None:
    """Where the exported classifier called `name` lies; None if it is something else, or not there."""
    try:
        directory = find_directory(name)
    except (CardError, LookupError):
        return None
    return directory if read_card(directory).default_ability == "classify" else None


def accuracy(directory: Path, against: str | None, split: str, tell: Callable[[str], None]) -> Record:
    """The share of held-out pictures whose class an exported classifier names; std is that of the share itself."""
    extractor, card = ClassifierExtractor(directory), read_card(directory)
    height, _, channels = extractor.image.row
    fit, classes = card.recipe.get("fit", "crop"), card.model["arguments"].get("classes", ())
    load = partial(load_pictures, image_size=height, channels=channels, fit=fit)
    tell(f"{card.name}: pictures")
    real, train = load(against or card.data.source, split=split), load(card.data.source, split=card.data.split)
    if real.labels is None:
        raise ValueError(f"{real.name}, {real.split}, has no labels: an accuracy needs them.")
    if list(real.class_names) != list(classes):
        raise ValueError(
            f"{real.name} has the classes {', '.join(real.class_names)}, and {card.name} names {', '.join(classes)}: "
            "give pictures of the same classes, in the same order."
        )
    shared = among(real.images, train.images)
    if shared.mean() > SHARED_AT_MOST:
        raise ValueError(
            f"{shared.sum()} of {len(shared)} pictures of {real.name}, {real.split}, are among those that {card.name} "
            "was trained on: give pictures that were held out."
        )
    tell(f"{card.name}: {len(real.images)} pictures")
    right = features_of(extractor, real.images)[1].argmax(axis=1) == real.labels
    share = float(right.mean())
    error = (share * (1 - share) / len(right)) ** 0.5
    preprocessing = f"8 bits a channel; {fit} to {height} x {height}, Lanczos"
    return of_real_pictures("accuracy", "accuracy", card.name, share, error, real, preprocessing, extractor.sha256)


# Records and cache


def rounded(value: float) -> float:
    """To the digits that are written."""
    return float(f"{value:.{DIGITS}g}")


def versions() -> dict[str, str]:
    """Of what the digits depend on."""
    import onnxruntime

    return {
        "generative-zoo": version("generative-zoo"),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
        "pillow": version("pillow"),
    }


def as_json(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Plain data, one record a score."""
    return [asdict(record) for record in records]


def code_of_scores() -> str:
    """A hash of this file and `zoo/evaluation/`, so that no cached number outlives the code that made it."""
    files = [Path(__file__), *sorted(Path(zoo.evaluation.__file__).parent.glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def cache_path(kind: str, key: Sequence[str], suffix: str) -> Path:
    """Where something with this key is kept."""
    folder = cache_root() / "evaluation" / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder / (hashlib.sha256("\n".join(key).encode()).hexdigest()[:32] + suffix)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary name that becomes `path` when all went well."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    os.close(handle)
    try:
        yield Path(name)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
