"""Scores of what a model makes of held-out images."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from serving.likelihood import compute_bounds
from serving.pipeline import Pipeline
from zoo.data.images import to_float32
from zoo.evaluation.record import Record, mean_and_error, of_real_images, qualified, rounded
from zoo.evaluation.reference import Held
from zoo.evaluation.scores import ABILITIES, OTHER_METRICS
from zoo.evaluation.source import Source
from zoo.metrics.latents import latent_statistics

SHOWN = 500  # held-out images that a model is shown at once
OF_GRAY = {"bernoulli": "cross-entropy", "gaussian": "density"}
"""Likelihood -> what its bound is one of, where it gives gray images no probability."""


class HeldOutEvaluation:
    """What one model makes of held-out images: bounds of their probability, their latents, reconstructions.

    Args:
        source: what is scored.
        held: the images, not cut.
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
            if self.labeled(pipeline):
                records |= {record.name: record for record in make[group](pipeline)}
        return [records[name] for name in self.metrics if name in records]

    def labeled(self, pipeline: Pipeline) -> bool:
        """Whether the images have the classes that an ability is told, if it is told any."""
        real = self.held.real
        told = [spec for spec in pipeline.ability.inputs if spec.feed == "label"]
        return not told or (real.labels is not None and all(spec.classes == real.class_names for spec in told))

    def shown(self, pipeline: Pipeline) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number of the first image, and what the graph takes of the images themselves, some at a time."""
        images, labels, count = self.held.real.images, self.held.real.labels, len(self.held.real.images)
        for start in range(0, count, SHOWN):
            self.tell(f"{self.source.name}: {pipeline.ability.file}, {start} of {count} held-out images")
            rows = slice(start, start + SHOWN)
            feeds = {}
            for spec in pipeline.ability.inputs:
                if spec.feed == "image":
                    feeds[spec.name] = to_float32(images[rows])
                elif spec.feed == "label" and labels is not None:
                    feeds[spec.name] = labels[rows].astype(spec.dtype)
            yield start, feeds

    def bounds(self, pipeline: Pipeline) -> Iterator[Record]:
        """Two lower bounds of log p(x), of the same samples; in bits too where images have a probability."""
        options: dict[str, Any] = {"samples": self.bound_samples, "seed": self.seed}
        parts = [
            compute_bounds(pipeline.ability, pipeline.run, feeds.pop("image"), start=start, **options, **feeds)
            for start, feeds in self.shown(pipeline)
        ]
        found = {name: np.concatenate([part[name].values for part in parts]) for name in parts[0]}
        title = parts[0]["importance_weighted"].name
        images, likelihood = self.held.real.images, pipeline.card.model["arguments"].get("likelihood")
        gray = likelihood != "bernoulli" or not np.isin(images, (0, 255)).all()
        of = [OF_GRAY[likelihood]] if gray and likelihood in OF_GRAY else []
        of += ["given the class"] * any(spec.feed == "label" for spec in pipeline.ability.inputs)
        values = found["importance_weighted"]
        label = qualified(title, *of)
        yield self.record(pipeline, "importance_weighted_bound", label, *mean_and_error(values), self.seed)
        if likelihood == "discretized_logistic":
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
        return of_real_images(name, label, card.name, value, error, held.real, held.preprocessing, sha256, seeds)


def able(source: Source, group: str) -> bool:
    """Whether a source has the ability that a group of scores takes."""
    name, outputs = ABILITIES[group]
    known = source.card.abilities if source.card else {}
    return name in known and outputs <= {output.name for output in known[name].outputs}
