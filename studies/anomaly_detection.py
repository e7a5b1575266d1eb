"""How well do autoencoders and VAEs detect anomalous images: other classes, and other data sets than their own?

    python -m studies.anomaly_detection
    python -m studies.anomaly_detection --parts classes --classes 0 6
    python -m studies.anomaly_detection --parts novelty --preset vae-fashion-mnist --anomalous mnist

classes: for each class an autoencoder is trained on that class's training images alone; all test images are scored
by the reconstruction error. novelty: a pretrained VAE scores its own test images, those of other data sets, images
of one gray level and plain noise, by every score of `zoo.applications.anomaly`. "complexity" is the size of the PNG,
without any model.

Writes results/anomaly.csv, a row for each score and pair of sets, and docs/anomaly.png. Rows that a call does not
measure are kept; the figure shows the whole table, and takes a call that scores every set whose histograms it shows. An
area below 1/2 is reported as it is: such a score ranks anomalous images as the more normal ones (arXiv:1810.09136).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rich.console import Console

from serving.card import read_card
from serving.likelihood import Bound, BoundName, compute_bounds
from serving.pipeline import Pipeline
from studies.figures import merge_rows, pyplot, read_table, write_table
from zoo.applications.anomaly import (
    area_under_curve,
    complexity,
    complexity_corrected,
    likelihood_ratio,
    negative_log_likelihood,
    perturb,
    reconstruct,
    reconstruction_error,
)
from zoo.data.batches import batches
from zoo.data.images import ImageSet, to_float32
from zoo.data.load import load_images
from zoo.extras import start_tensorflow
from zoo.presets.table import find_preset
from zoo.pretrained import build_model, find_directory
from zoo.training.optimizers import Adam

COLUMNS = (
    "part",
    "model",
    "score",
    "normal",
    "anomalous",
    "auroc",
    "standard_error",
    "normal_count",
    "anomalous_count",
)
KEYS = COLUMNS[:5]  # columns that identify a row
HISTOGRAMS = ("negative_importance_weighted", "complexity_corrected", "reconstruction_error")
UNITS = {"negative_importance_weighted": "nats", "complexity_corrected": "bits"}
LEARNING_RATE = 1e-3  # of Adam, as in the presets' recipes

Row = Mapping[str, Any]
Scores = Mapping[str, np.ndarray]  # set of images -> one score each


@dataclass(frozen=True)
class Options:
    """One table."""

    parts: tuple[Literal["classes", "novelty"], ...] = ("classes", "novelty")
    """What to measure."""
    data: str = "fashion_mnist"
    """The normal images."""
    autoencoder: str = "autoencoder-fashion-mnist"
    """The preset that is trained on each class; its weights are not used."""
    classes: tuple[int, ...] = ()
    """Numbers of the classes; by default all."""
    steps: int = 500
    """Train steps for each class."""
    preset: str = "vae-fashion-mnist"
    """A VAE trained on the normal images, or the path of an exported one."""
    anomalous: tuple[str, ...] = ("mnist",)
    """Other data sets, whose images are anomalous."""
    count: int = 1_000
    """Test images of each set that the VAE scores."""
    samples: int | None = None
    """Samples of z for each image; by default as many as the exported graph takes at once."""
    background_steps: int = 2_000
    """Train steps of the likelihood ratio's second model; 0 leaves that score out."""
    mutation_rate: float = 0.1
    """The share of values that the second model's training images have perturbed."""
    batch_size: int = 64
    """Images of a train step."""
    seed: int = 0
    """Of everything random."""
    table: Path = Path("results/anomaly.csv")
    """The table to write."""
    figure: Path = Path("docs/anomaly.png")
    """The figure to draw."""


def main(options: Options) -> None:
    """Train, score, write the table, draw."""
    start_tensorflow()
    console, rows = Console(stderr=True), []
    earlier = read_table(options.table, COLUMNS)  # refused before the work
    if "classes" in options.parts:
        for row in measure_classes(options, earlier):
            console.print(row["normal"], row["auroc"], highlight=False)
            rows.append(row)
    found = score_novelty(options) if "novelty" in options.parts else {}
    rows += [
        make_row("novelty", options.preset, score, (options.data, sets[options.data]), (name, sets[name]))
        for score, sets in found.items()
        for name in sets
        if name != options.data
    ]
    table = merge_rows(earlier, rows, KEYS)
    write_table(options.table, COLUMNS, table)
    if any(row["part"] == "novelty" and row["score"] in HISTOGRAMS and row not in rows for row in table):
        why = "the table has sets that this call did not score"
        console.print(f"{options.figure} is not drawn: {why}", highlight=False, soft_wrap=True)
    else:
        draw(table, found, options)
    for row in rows:
        console.print(*(row[column] for column in COLUMNS), highlight=False, soft_wrap=True)


def make_row(
    part: str, model: str, score: str, normal: tuple[str, np.ndarray], anomalous: tuple[str, np.ndarray]
) -> Row:
    """The area between two named sets of scores."""
    area = area_under_curve(normal[1], anomalous[1])
    auroc, error = f"{area.value:.4f}", f"{area.standard_error:.4f}"
    row = (part, Path(model).name, score, normal[0], anomalous[0], auroc, error, area.normal, area.anomalous)
    return dict(zip(COLUMNS, row, strict=True))


def train(model: Any, images: ImageSet, steps: int, options: Options) -> Any:
    """The model, an autoencoder or a VAE, after so many steps on these images."""
    model.compile(seed=options.seed, autoencoder=Adam(LEARNING_RATE).build())
    data = batches(images, batch_size=options.batch_size, seed=options.seed)
    model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0)
    return model


# One class against the rest


def measure_classes(options: Options, earlier: Sequence[Row]) -> list[Row]:
    """A row for each class, and their mean over the whole table, without an error: the classes share the test images.

    Raises:
        ValueError: the data set has no labels.
    """
    import keras

    from zoo.training.run import build_model

    preset = find_preset(options.autoencoder)
    training, test = (load(options.data, split, preset.arguments["image_shape"]) for split in ("train", "test"))
    if training.labels is None or test.labels is None:
        raise ValueError(f"{options.data} has no labels: give a data set with classes.")
    images, rows = to_float32(test.images), list[Row]()
    for number in options.classes or range(len(training.class_names)):
        keras.utils.set_random_seed(options.seed)
        own = replace(training, images=training.images[training.labels == number], labels=None)
        model = train(build_model(preset), own, options.steps, options)
        scores, is_normal = reconstruction_error(images, model.reconstruct(images)), test.labels == number
        normal = (training.class_names[number], scores[is_normal])
        rows.append(
            make_row("classes", preset.name, "reconstruction_error", normal, ("other classes", scores[~is_normal]))
        )
    all_rows = merge_rows(earlier, rows, KEYS)
    same_model = [row for row in all_rows if (row["part"], row["model"]) == ("classes", preset.name)]
    mean = np.mean([float(row["auroc"]) for row in same_model if row["normal"] in training.class_names])
    return [*rows, {**rows[0], "normal": "mean", "auroc": f"{mean:.4f}"} | dict.fromkeys(COLUMNS[-3:], "")]


# Another data set against its own


@dataclass(frozen=True)
class ComputedLikelihood:
    """The bounds of some images, computed once for all scores: a `Likelihood` of these images alone."""

    found: Mapping[BoundName, Bound]

    def log_prob(self, images: np.ndarray, *, bound: BoundName = "importance_weighted", **options: Any) -> Bound:
        """One of the bounds, whatever the images and options: both are those that they were computed with."""
        return self.found[bound]


def score_novelty(options: Options) -> Mapping[str, Scores]:
    """Score -> set of images -> one number per image."""
    directory = find_directory(options.preset)
    shape = read_card(directory).model["arguments"]["image_shape"]
    vae, whole = (Pipeline.from_directory(directory, ability=name) for name in ("log_prob", "reconstruct"))
    background = train_background_model(directory, shape, options) if options.background_steps else None
    more: dict[str, Any] = {"samples": options.samples, "seed": options.seed}
    scores: dict[str, dict[str, np.ndarray]] = {}
    for name, images in load_image_sets(shape, options).items():
        likelihood = ComputedLikelihood(compute_bounds(vae.ability, vae.run, images, **more))
        found = {
            "reconstruction_error": reconstruction_error(images, reconstruct(whole, images)),
            "negative_elbo": negative_log_likelihood(likelihood, images, bound="elbo"),
            "negative_importance_weighted": negative_log_likelihood(likelihood, images),
            "complexity": complexity(images),
            "complexity_corrected": complexity_corrected(likelihood, images),
        }
        if background is not None:
            found["likelihood_ratio"] = likelihood_ratio(likelihood, background, images, **more)
        for score, values in found.items():
            scores.setdefault(score, {})[name] = values
    return scores


def train_background_model(directory: Path, shape: tuple[int, ...], options: Options) -> Any:
    """The same VAE, trained from fresh weights on perturbed images (arXiv:1906.02845, section 3)."""
    import keras

    training = load(options.data, "train", shape)
    images = perturb(np.asarray(training.images), options.mutation_rate, options.seed)
    keras.utils.set_random_seed(options.seed)
    model = build_model(directory, read_card(directory))
    return train(model, replace(training, images=images, labels=None), options.background_steps, options)


def load_image_sets(shape: tuple[int, ...], options: Options) -> dict[str, np.ndarray]:
    """Name -> test images, float32 in [-1, 1]: the normal ones first."""
    random, size = np.random.default_rng(options.seed), (options.count, *shape)
    levels = random.integers(256, size=(options.count, 1, 1, 1))
    named = {name: load(name, "test", shape).images[: options.count] for name in (options.data, *options.anomalous)}
    return {
        **{name: to_float32(images) for name, images in named.items()},
        "constant": to_float32(np.broadcast_to(levels, size).astype(np.uint8)),
        "noise": to_float32(random.integers(256, size=size, dtype=np.uint8)),
    }


def load(name: str, split: str, shape: tuple[int, ...]) -> ImageSet:
    """A split of a data set, in a model's size."""
    return load_images(name, split=split, image_size=shape[0], channels=shape[2])


# The figure


def draw(table: Sequence[Row], found: Mapping[str, Scores], options: Options) -> None:
    """Histograms of the VAE's scores, and a bar for each area in the table."""
    plot = pyplot()
    rows = {part: [row for row in table if row["part"] == part] for part in ("classes", "novelty")}
    names = [part for part, chosen in rows.items() if chosen]
    figure = plot.figure(figsize=(13, 3.9 * len(names)), layout="constrained")
    parts = dict(zip(names, np.atleast_1d(figure.subfigures(len(names), 1)), strict=True))
    if "classes" in parts:
        axis, chosen = parts["classes"].subplots(), rows["classes"]
        heights = [float(row["auroc"]) for row in chosen]
        errors = [2 * float(row["standard_error"] or 0.0) for row in chosen]
        models = list(dict.fromkeys(row["model"] for row in chosen))
        colors = [f"C{models.index(row['model'])}" for row in chosen]
        axis.bar(range(len(chosen)), heights, yerr=errors, color=colors)
        axis.set_xticks(range(len(chosen)), [row["normal"] for row in chosen])
        label_axis(axis, f"One class against the rest: reconstruction error of {', then '.join(models)}")
    if "novelty" in parts:
        *panels, axis = parts["novelty"].subplots(1, len(HISTOGRAMS) + 1, width_ratios=[1] * len(HISTOGRAMS) + [2])
        for panel, score in zip(panels, HISTOGRAMS, strict=True):
            for name, values in found[score].items():
                panel.hist(values, bins=40, density=True, histtype="step", log=True, label=name)
            panel.set(xlabel=UNITS.get(score, ""))
            panel.set_title(score.replace("_", " "), fontsize=9)
            panel.tick_params(axis="y", which="both", left=False, labelleft=False)
        panels[0].legend(frameon=False, fontsize=8)
        names = [name for name in next(iter(found.values())) if name != options.data]
        scores = list(dict.fromkeys(row["score"] for row in rows["novelty"]))
        for number, name in enumerate(names):
            chosen = [row for row in rows["novelty"] if row["anomalous"] == name]
            places = [scores.index(row["score"]) + (number - (len(names) - 1) / 2) * 0.8 / len(names) for row in chosen]
            heights = [float(row["auroc"]) for row in chosen]
            errors = [2 * float(row["standard_error"]) for row in chosen]
            axis.bar(places, heights, 0.8 / len(names), yerr=errors, color=f"C{number + 1}")
        axis.set_xticks(range(len(scores)), [score.replace("_", "\n") for score in scores])
        label_axis(axis, f"{options.data} against other images, in the same colors")
    options.figure.parent.mkdir(exist_ok=True)
    figure.savefig(options.figure, dpi=100)
    plot.close(figure)


def label_axis(axis: Any, title: str) -> None:
    """What both bar charts share."""
    axis.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    axis.set(ylabel="AUROC, 2 standard errors", ylim=(0, 1.02))
    axis.set_title(title, fontsize=9)
    axis.tick_params(axis="x", labelsize=7)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
