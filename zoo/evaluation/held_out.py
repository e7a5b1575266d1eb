"""Scores of a model's likelihoods, latents and reconstructions of held-out images."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from serving.card import Support
from serving.likelihood import compute_bounds
from serving.pipeline import Pipeline
from zoo.data.images import to_float32
from zoo.evaluation.options import Progress
from zoo.evaluation.record import Record, add_remarks, make_held_out_record, mean_and_error, round_digits
from zoo.evaluation.reference import Reference
from zoo.evaluation.scores import ABILITIES, OTHER_METRICS
from zoo.evaluation.source import ExportedModel, Source, graph_sha256
from zoo.metrics.latents import latent_statistics

BATCH_SIZE = 500  # held-out images that go into a graph at once
BLACK_AND_WHITE = (0, 255)


class HeldOutEvaluation:
    """One model's likelihood bounds, latents and reconstructions of held-out images.

    Args:
        model: what is scored.
        reference: the images, not cut.
        metrics: of `HELD_OUT_METRICS`, those that it has the abilities for.
        bound_samples: see `EvaluationOptions`.
        seed: of the latents.
        report_progress: called with a one-line progress message.
    """

    def __init__(
        self,
        model: ExportedModel,
        reference: Reference,
        metrics: Collection[str],
        bound_samples: int | None,
        seed: int,
        report_progress: Progress,
    ) -> None:
        self.model, self.reference, self.metrics = model, reference, metrics
        self.bound_samples, self.seed, self.report_progress = bound_samples, seed, report_progress

    def compute_records(self) -> list[Record]:
        """A record for each metric that can be computed.

        Raises:
            CardError: an ability has no ONNX file, or the file is not that of the card.
            InputError: a number of samples that the graph can't make up.
        """
        score = {
            "bounds": self.score_bounds,
            "latents": self.score_latents,
            "reconstruction": self.score_reconstruction,
        }
        records: dict[str, Record] = {}
        for group in {OTHER_METRICS[name].group: None for name in self.metrics}:
            pipeline = self.model.open(ABILITIES[group][0])
            if self.knows_classes(pipeline):
                records |= {record.name: record for record in score[group](pipeline)}
        return [records[name] for name in self.metrics if name in records]

    def knows_classes(self, pipeline: Pipeline) -> bool:
        """Whether the images are of the classes that an ability takes as input, if it takes any."""
        real = self.reference.real
        labels = [spec for spec in pipeline.ability.inputs if spec.feed == "label"]
        return not labels or (real.labels is not None and all(spec.classes == real.class_names for spec in labels))

    def feed_batches(self, pipeline: Pipeline) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number of the first image, and what the graph takes of the images themselves, some at a time."""
        real = self.reference.real
        for start in range(0, len(real.images), BATCH_SIZE):
            done = f"{start} of {len(real.images)} held-out images"
            self.report_progress(f"{self.model.card.name}: {pipeline.ability.file}, {done}")
            rows = slice(start, start + BATCH_SIZE)
            feeds = {}
            for spec in pipeline.ability.inputs:
                if spec.feed == "image":
                    feeds[spec.name] = to_float32(real.images[rows])
                elif spec.feed == "label" and real.labels is not None:
                    feeds[spec.name] = real.labels[rows].astype(spec.dtype)
            yield start, feeds

    def score_bounds(self, pipeline: Pipeline) -> Iterator[Record]:
        """Two lower bounds of log p(x), of the same samples; in bits too where 8-bit images have a probability."""
        options: dict[str, Any] = {"samples": self.bound_samples, "seed": self.seed}
        parts = [
            compute_bounds(pipeline.ability, pipeline.run, feeds.pop("image"), start=start, **options, **feeds)
            for start, feeds in self.feed_batches(pipeline)
        ]
        values = {name: np.concatenate([part[name].values for part in parts]) for name in parts[0]}
        title = parts[0]["importance_weighted"].name
        images = self.reference.real.images
        support = next(spec.support for spec in pipeline.ability.outputs if spec.name == "importance_weighted")
        remarks = describe_bound(support, images)
        remarks += ["given the class"] * any(spec.feed == "label" for spec in pipeline.ability.inputs)
        best = values["importance_weighted"]
        label = add_remarks(title, *remarks)
        yield self.make_record(pipeline, "importance_weighted_bound", label, *mean_and_error(best), self.seed)
        if support == "levels":
            bits, label = best / (-np.log(2) * images[0].size), add_remarks("bits_per_dimension", title, *remarks)
            yield self.make_record(pipeline, "bits_per_dimension", label, *mean_and_error(bits), self.seed)
        yield self.make_record(
            pipeline, "elbo", add_remarks("elbo", *remarks), *mean_and_error(values["elbo"]), self.seed
        )

    def score_latents(self, pipeline: Pipeline) -> Iterator[Record]:
        """How many are in use, their KL to the prior, their information on x, how far their aggregate is from p(z)."""
        parts = [pipeline.run(feeds) for _, feeds in self.feed_batches(pipeline)]
        mean, scale = (np.concatenate([part[name] for part in parts]) for name in ("mean", "scale"))
        statistics = latent_statistics(mean, scale, seed=self.seed)
        label = add_remarks("active_units", f"of {mean.shape[1]}")
        yield self.make_record(pipeline, "active_units", label, statistics.active_units, None)
        name = "posterior_divergence"
        total = self.make_record(pipeline, name, name, *mean_and_error(statistics.divergence.sum(axis=1)))
        yield replace(total, parts=tuple(round_digits(float(part)) for part in statistics.divergence.mean(axis=0)))
        for name, value in (
            ("mutual_information", statistics.mutual_information),
            ("aggregate_divergence", statistics.aggregate_divergence),
        ):
            yield self.make_record(pipeline, name, name, value, statistics.error, self.seed)

    def score_reconstruction(self, pipeline: Pipeline) -> Iterator[Record]:
        """The squared error, of brightness from 0 to 1."""
        errors = []
        for _, feeds in self.feed_batches(pipeline):
            reconstruction = pipeline.run(feeds)["reconstruction"].astype(np.float64)
            errors.append(np.square((reconstruction - feeds["image"]) / 2).mean(axis=(1, 2, 3)))
        yield self.make_record(pipeline, "squared_error", "squared_error", *mean_and_error(np.concatenate(errors)))

    def make_record(
        self, pipeline: Pipeline, name: str, label: str, value: float, error: float | None, seed: int | None = None
    ) -> Record:
        """One score, computed with an ability's graph."""
        real, preprocessing = self.reference.real, self.reference.preprocessing
        sha256, seeds = graph_sha256(pipeline), () if seed is None else (seed,)
        return make_held_out_record(name, label, pipeline.card.name, value, error, real, preprocessing, sha256, seeds)


def describe_bound(support: Support | None, images: np.ndarray) -> list[str]:
    """What a bound of log p(x) is one of, where that is not a probability of these uint8 images.

    Args:
        support: of the likelihood, as the card says it; None where it does not, and nothing is known.
        images: that p is taken of.
    """
    if support == "binary" and not np.isin(images, BLACK_AND_WHITE).all():
        return ["cross-entropy"]  # of gray levels in between, a Bernoulli likelihood is not normalized
    return ["density"] if support == "real" else []


def has_ability(source: Source, group: str) -> bool:
    """Whether a source has the ability that a group of scores takes."""
    return source.model is not None and source.model.has_ability(*ABILITIES[group])
