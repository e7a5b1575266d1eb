"""What a model lets be known of log p(x) of a board's images: exactly, by bounds, by estimates.

A model stands on a board if its card has the ability log_prob, if it was trained on the board's data, and if its
likelihood is of what the board's images are.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from serving.card import Support, read_card
from serving.likelihood import ROUND, BoundName, compute_bounds, count_rounds, list_bounds
from serving.pipeline import Pipeline
from zoo.evaluation.board import GRAY_LEVEL, Board, BoardImages, BoardOptions, Estimator, Row
from zoo.evaluation.options import EvaluationOptions, Progress
from zoo.evaluation.record import mean_and_error
from zoo.evaluation.reference import check_content, read_image_shape
from zoo.evaluation.source import ExportedModel
from zoo.metrics.likelihood import (
    annealed_log_probs,
    bernoulli_log_probs,
    log_mean_exp,
    log_mixture,
    to_bits_per_dimension,
)
from zoo.presets.table import PRESETS, resolve_class
from zoo.pretrained import load_pretrained, local_directory

BASELINE = "one Bernoulli a pixel"
ROWS = 100  # images that go into a graph at once: each of them takes many latents
CURVE = (1, 10, 100, 1_000)  # K of the bounds that stand beside the one asked for, where a graph can make them up
ANNEALED = "annealed_machine"  # the method of a model whose partition function annealing can estimate
REVERSED_IMAGES = 100  # images that are annealed in reverse: each of them has chains of its own
REVERSED_SHARE = 10  # of the chains: one of so many


class Finding(NamedTuple):
    """What a task has computed: log p(x) of each image, nats, and the standard error that all of them share."""

    estimator: Estimator
    samples: int
    values: np.ndarray
    protocol: str
    given: str = ""
    shared_error: float = 0.0


@dataclass(frozen=True)
class Task:
    """Findings that are computed together, and are kept together when they stand in the table already.

    Args:
        model: see `Row`.
        protocol: what makes two tasks of one model differ.
        compute: makes the findings.
        epochs, source_sha256: see `Row`.
    """

    model: str
    protocol: str
    source_sha256: str
    epochs: float
    compute: Callable[[], list[Finding]]


def list_tasks(
    board: Board, images: BoardImages, options: BoardOptions, say: Callable[[str], None], report_progress: Progress
) -> list[Task]:
    """The baseline's, and those of every preset that stands on the board.

    Args:
        say: is told of each preset that might stand there and does not, with the reason.
    """
    tasks = [make_baseline(images)] if board.unit == "nats" else []
    for name in sorted(PRESETS):
        directory = local_directory(name)
        if directory is None:
            continue
        try:
            model = ExportedModel(directory, read_card(directory))
            if stands_on(board, model):
                check_model(model, images)
                tasks += list_model_tasks(model, images, options, report_progress)
        except (ValueError, OSError) as error:
            say(f"{name} is left out: {error}")
    return tasks


def stands_on(board: Board, model: ExportedModel) -> bool:
    """Whether a model says log p of such images, and was trained on the board's data."""
    ability = model.card.abilities.get("log_prob")
    if ability is None or model.card.data.source != board.data:
        return False
    return any(output.support in board.supports for output in ability.outputs if output.kind == "log_prob")


def check_model(model: ExportedModel, images: BoardImages) -> None:
    """Refuse a model of images of another size, or that has seen others.

    Raises:
        ValueError: naming the difference.
    """
    shape = tuple(read_image_shape(model.card))
    if shape != images.test.images.shape[1:]:
        own = " x ".join(map(str, shape))
        raise ValueError(f"its images are {own}, and the board's {' x '.join(map(str, images.test.images.shape[1:]))}.")
    check_content(model.card, images.train, EvaluationOptions())


def make_baseline(images: BoardImages) -> Task:
    """Independent pixels, each as often white as in the training images."""
    protocol = f"(white + 1) / ({len(images.train.images)} + 2) of each pixel's training values"

    def compute() -> list[Finding]:
        return [Finding("exact", 0, bernoulli_log_probs(images.binary, images.train_rates), protocol)]

    return Task(BASELINE, protocol, images.train.fingerprint, 1.0, compute)


def list_model_tasks(
    model: ExportedModel, images: BoardImages, options: BoardOptions, report_progress: Progress
) -> list[Task]:
    """What a model lets be computed: by its graph log_prob; latents from the prior; annealing.

    Raises:
        ValueError: a number of samples that the graph can't make up.
        CardError: a file is missing, or is not that of the card.
    """
    card, board = model.card, images.board
    ability = card.abilities["log_prob"]
    if ability.file is None:
        raise ValueError("its log_prob has no ONNX file.")
    names = list_bounds(ability)
    noise = next((spec for spec in ability.inputs if spec.name == "noise"), None)
    labeled = any(spec.feed == "label" for spec in ability.inputs)
    if labeled and images.test.labels is None:
        raise ValueError(f"it takes a class, and {board.data} has none.")
    samples = min(options.samples, board.most_samples or options.samples)
    rounds = count_rounds(noise, samples) if noise else 1
    epochs = count_epochs(card.recipe, card.data.count)
    support = next(output.support for output in ability.outputs if output.support in board.supports)
    make = partial(Task, card.name, epochs=epochs)

    def evaluate_graph() -> list[Finding]:
        evaluation = GraphEvaluation(model.open("log_prob"), images, support, options.seed, rounds, report_progress)
        return evaluation.compute()

    drawn = f" of {samples} latents, seed {options.seed}" if noise else ""
    noisy = f", uniform noise of one level, seed {options.seed}" if support == "real" else ""
    sha256, generate = card.files[ability.file].sha256, card.abilities.get("generate")
    if names == ["exact"] and not labeled and support == "binary" and can_tell_classes(model):
        compute = partial(split_by_class, model, images)
        return [make(protocol="exact, by class", source_sha256=sha256, compute=compute)]
    tasks = [make(protocol=f"{', '.join(names)}{drawn}{noisy}", source_sha256=sha256, compute=evaluate_graph)]
    if (
        {"elbo", "importance_weighted"} & set(names)
        and support == "binary"
        and generate is not None
        and generate.file is not None
        and [spec.feed for spec in generate.inputs if spec.feed != "label"] == ["normal"]
    ):
        protocol = f"{options.samples} latents from the prior, the same for all images, seed {options.seed}"
        compute = partial(sample_prior, model, images, options, protocol)
        sha256 = card.files[generate.file].sha256
        tasks.append(make(protocol=protocol, source_sha256=sha256, compute=compute))
    if "estimate" in names and support == "binary" and hasattr(resolve_class(card.model["class"]), ANNEALED):
        protocol = f"{options.chains} chains of {options.temperatures} temperatures, seed {options.seed}"
        compute = partial(anneal, model, images, options, protocol, report_progress)
        sha256 = card.files["model.weights.h5"].sha256
        tasks.append(make(protocol=protocol, source_sha256=sha256, compute=compute))
    return tasks


def can_tell_classes(model: ExportedModel) -> bool:
    """Whether it draws images of a class, and gives p(y|x) of the same classes."""
    generate = model.card.abilities.get("generate")
    labeled = generate is not None and any(spec.feed == "label" for spec in generate.inputs)
    return labeled and model.has_ability("classify", {"logits"})


def count_epochs(recipe: Mapping[str, Any], count: int) -> float:
    """Passes over the training images; 0 where the card does not say it."""
    steps, batch_size = recipe.get("steps", 0), recipe.get("batch_size", 0)
    return round(steps * batch_size / count, 1) if count else 0.0


class GraphEvaluation:
    """What the graph of log_prob says of a board's images.

    Args:
        pipeline: its ability log_prob.
        images: of the board.
        support: of its likelihood.
        seed: of the latents.
        rounds: runs of the graph for each image, with other latents.
        report_progress: called with a one-line progress message.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        images: BoardImages,
        support: Support | None,
        seed: int,
        rounds: int,
        report_progress: Progress,
    ) -> None:
        self.pipeline, self.images, self.support = pipeline, images, support
        self.seed, self.rounds, self.report_progress = seed, rounds, report_progress
        self.names = list_bounds(pipeline.ability)
        self.label = next((spec for spec in pipeline.ability.inputs if spec.feed == "label"), None)

    def compute(self) -> list[Finding]:
        """One finding for each output; of the importance-weighted bound one for each K of the curve."""
        labels, given = self.images.test.labels, "the class" if self.label else ""
        found = self.run(labels)
        shift, words = self.density_of_a_level()
        noise = next((spec for spec in self.pipeline.ability.inputs if spec.name == "noise"), None)
        at_once = int(noise.row[0]) if noise else 0
        estimators = {output.name: output.estimator for output in self.pipeline.ability.outputs}
        findings = []
        for name in self.names:
            parts = found[name] + shift
            if name == "importance_weighted":
                chosen = {1, self.rounds, *(k // at_once for k in CURVE if k % at_once == 0)}
                findings += [
                    Finding(
                        "importance", rounds * at_once, log_mean_exp(parts[:rounds]), f"seed {self.seed}{words}", given
                    )
                    for rounds in sorted(chosen)
                    if 0 < rounds <= self.rounds
                ]
            elif name == "elbo":
                of = f"{self.rounds * at_once} latents, seed {self.seed}{words}"
                findings.append(Finding("ELBO", 1, parts.mean(axis=0), of, given))
            else:
                findings.append(Finding(name, 0, parts.mean(axis=0), (estimators[name] + words).lstrip("; "), given))
        if self.label is not None and "exact" in self.names:
            findings.append(Finding("exact", 0, self.sum_over_classes() + shift, f"summed over the classes{words}"))
        return findings

    def density_of_a_level(self) -> tuple[float, str]:
        """What turns log of a density of [-1, 1] into that of a gray level's probability, nats, and how, in words."""
        if self.support != "real":
            return 0.0, ""
        pixels = self.images.test.images[0].size
        return pixels * math.log(GRAY_LEVEL), f"; uniform noise of one gray level, seed {self.images.seed}"

    def run(self, labels: np.ndarray | None) -> dict[BoundName, np.ndarray]:
        """Output -> (rounds, count) float64, nats: each round with latents of its own."""
        images = self.images.dequantize() if self.support == "real" else self.images.given
        found = {name: np.empty((self.rounds, len(images))) for name in self.names}
        for first in range(0, len(images), ROWS):
            self.report_progress(f"{self.pipeline.card.name}: log_prob, {first} of {len(images)} images")
            rows = slice(first, first + ROWS)
            label = self.label
            feeds: dict[str, Any] = (
                {} if label is None or labels is None else {label.name: labels[rows].astype(label.dtype)}
            )
            for each in range(self.rounds):  # round r of image i has the noise that compute_bounds gives it
                start = each * ROUND + first
                bounds = compute_bounds(
                    self.pipeline.ability, self.pipeline.run, images[rows], seed=self.seed, start=start, **feeds
                )
                for name in self.names:
                    found[name][each, rows] = bounds[name].values
        return found

    def sum_over_classes(self) -> np.ndarray:
        """log sum_y p(y) p(x|y), (count,), with p(y) as in the training images."""
        assert self.label is not None
        classes = range(len(self.label.classes))
        parts = [self.run(np.full(len(self.images.test.images), each))["exact"][0] for each in classes]
        return log_mixture(np.stack(parts, axis=1), self.images.class_shares(len(classes)))


def split_by_class(model: ExportedModel, images: BoardImages) -> list[Finding]:
    """log p(x) and log p(x|y) of a model that knows p(x) and by `classify` its own p(y|x): by Bayes' rule."""
    exact = GraphEvaluation(model.open("log_prob"), images, "binary", 0, 1, lambda message: None).run(None)["exact"][0]
    logits = model.open("classify").run({"image": images.given}, batch_size=ROWS)["logits"].astype(np.float64)
    labels = images.test.labels
    assert labels is not None
    log_posterior = logits[np.arange(len(labels)), labels] - np.logaddexp.reduce(logits, axis=1)
    log_prior = np.log(images.class_shares(logits.shape[1])[labels])
    given = exact + log_posterior - log_prior
    return [Finding("exact", 0, exact, "summed over the classes"), Finding("exact", 0, given, "", "the class")]


def sample_prior(model: ExportedModel, images: BoardImages, options: BoardOptions, protocol: str) -> list[Finding]:
    """log of the mean of p(x|z) over latents of the prior: unbiased in p(x), and far too low in its log.

    The images that `generate` shows are the means of p(x|z), whose pixels are independent.
    """
    pipeline = model.open("generate")
    labels = images.test.labels
    labeled = any(spec.feed == "label" for spec in pipeline.ability.inputs)
    values = np.empty(len(images.test.images))
    for each in np.unique(labels) if labeled and labels is not None else [None]:
        rows = slice(None) if each is None else labels == each
        chosen = {} if each is None else {"labels": int(each)}
        means = pipeline.sample(options.samples, options.seed, output_type="float32", **chosen)
        low, high = pipeline.sampler.image.range or (-1.0, 1.0)
        rates = (np.asarray(means).reshape(options.samples, -1) - low) / (high - low)
        values[rows] = log_mean_exp(bernoulli_log_probs(images.binary[rows], rates).T)
    return [Finding("Monte Carlo", options.samples, values, protocol, "the class" if labeled else "")]


def anneal(
    model: ExportedModel, images: BoardImages, options: BoardOptions, protocol: str, report_progress: Progress
) -> list[Finding]:
    """log p(x) of a Boltzmann machine by annealing from the training images' base rates; in reverse for a few images.

    The model's method `annealed_machine` gives what the estimators take: weights, visible_bias and hidden_bias.
    """
    report_progress(f"{model.card.name}: {protocol}")
    machine = getattr(load_pretrained(model.directory), ANNEALED)()
    binary, few = images.binary, min(REVERSED_IMAGES, len(images.test.images))
    values, error, reverse = annealed_log_probs(
        binary,
        machine,
        images.train_rates,
        chains=options.chains,
        temperatures=options.temperatures,
        seed=options.seed,
        reversed_images=few,
        reversed_chains=max(1, options.chains // REVERSED_SHARE),
    )
    from_rates = f"{protocol}, from the training images' base rates"
    return [
        Finding("AIS", options.chains, values, from_rates, shared_error=error),
        Finding("AIS", options.chains, values[:few], f"{from_rates}; the images of RAISE", shared_error=error),
        Finding("RAISE", max(1, options.chains // REVERSED_SHARE), reverse, f"{options.temperatures} temperatures"),
    ]


def make_rows(task: Task, findings: Sequence[Finding], images: BoardImages) -> list[Row]:
    """What a table holds of a task."""
    board, pixels, rows = images.board, images.test.images[0].size, []
    for found in findings:
        values = found.values if board.unit == "nats" else to_bits_per_dimension(found.values, pixels)
        value, error = mean_and_error(values)
        shared = found.shared_error if board.unit == "nats" else to_bits_per_dimension(-found.shared_error, pixels)
        rows.append(
            Row(
                board=board.name,
                model=task.model,
                estimator=found.estimator,
                samples=found.samples,
                value=value,
                error=math.hypot(error or 0.0, float(shared)),
                unit=board.unit,
                count=len(values),
                binarization=board.binarization,
                given=found.given,
                epochs=task.epochs,
                protocol=found.protocol,
                task=task.protocol,
                source_sha256=task.source_sha256,
                data_sha256=images.test.fingerprint,
            )
        )
    return rows
