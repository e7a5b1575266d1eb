"""How much do the codes of autoencoders and VAEs tell about classes, against principal components and pixels?

    python -m studies.representation
    python -m studies.representation --presets vae-mnist iwae-mnist --units-of None
    python -m studies.representation --presets --units-of sparse-autoencoder-mnist

Every code is measured on the labeled data that its model was trained on, as are the pixels and the principal components
of the same dimension, which are fitted to all training images, as the models were. The scores are those of
`zoo.applications.representation`.

Writes results/representation.csv, a row for each representation and score, and docs/representation.png: what the first
units of a one-layer encoder respond to. Rows that a call does not measure are kept; the figure needs no rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import tyro
from rich.console import Console

from serving.images import make_grid, to_uint8
from serving.pipeline import Pipeline
from studies.figures import merge_rows, pyplot, read_table, write_table
from zoo.applications.latents import make_decoder, make_encoder, traverse
from zoo.applications.representation import (
    KINDS,
    cluster,
    find_best_inputs,
    find_most_activating,
    fit_linear_probe,
    fit_principal_components,
    flatten,
    probe_few_labels,
)
from zoo.data.images import to_float32
from zoo.data.load import load_images
from zoo.pretrained import find_directory

COLUMNS = ("data", "representation", "dimension", "images", "score", "value", "deviation")
KEYS = ("data", "representation", "dimension", "score")  # columns that identify a row
LABELED = {"binarized_mnist": "mnist"}  # the former has no labels; its pixels are drawn from the latter's gray levels
KERNEL = "encoder/code/kernel"  # in model.weights.h5, of an encoder without hidden layers

Row = dict[str, Any]
TrainTest = tuple[np.ndarray, np.ndarray]  # training rows, test rows


class Labeled(NamedTuple):
    """Images, uint8 (count, height, width, channels), their classes by number, and the names of these."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Options:
    """One table and one figure."""

    presets: tuple[str, ...] = (
        *("autoencoder-fashion-mnist", "denoising-autoencoder-fashion-mnist"),
        *("vae-fashion-mnist", "beta-vae-fashion-mnist"),
        *("sparse-autoencoder-mnist", "contractive-autoencoder-mnist", "vae-mnist", "iwae-mnist"),
    )
    """Presets or exported directories whose codes are measured; class-conditional encoders are refused."""
    images: int = 4_000
    """Training images with a label, the first ones; all test images are used."""
    labels: tuple[int, ...] = (1, 10, 100)
    """Labels of each class, for the accuracies with few."""
    seeds: int = 5
    """Draws of these labels."""
    units_of: str | None = "sparse-autoencoder-mnist"
    """The one-layer encoder whose units are drawn; None for no figure."""
    units: int = 16
    """Number of units drawn, the first ones: they are not selected."""
    table: Path = Path("results/representation.csv")
    """The table to write."""
    figure: Path = Path("docs/representation.png")
    """The figure to draw."""


def main(options: Options) -> None:
    """Measure, write the table, draw."""
    console, rows = Console(), []
    read_table(options.table, COLUMNS)  # refused before the work
    for row in measure(options):
        console.print(*row.values(), highlight=False, soft_wrap=True)
        rows.append(row)
    if rows:
        write_table(options.table, COLUMNS, merge_rows(read_table(options.table, COLUMNS), rows, KEYS))
    if options.units_of is not None:
        draw(find_directory(options.units_of), options)


def measure(options: Options) -> Iterator[Row]:
    """Data set by data set: the pixels, then each preset's code, each length of principal components once."""
    encoders: dict[tuple[str, tuple[int, ...]], list[Pipeline]] = {}
    for preset in options.presets:
        pipeline = Pipeline.from_directory(find_directory(preset), ability="encode")
        make_encoder(pipeline)  # refuses a class-conditional one
        encoders.setdefault(find_source(pipeline), []).append(pipeline)
    for (source, shape), pipelines in encoders.items():
        train, test = (load(source, shape, split) for split in ("train", "test"))
        labels = (train.labels[: options.images], test.labels)
        pixels, linear = (flatten(train.images), flatten(test.images)), {}
        yield from score_representation(source, "pixels", (pixels[0][: options.images], pixels[1]), labels, options)
        for pipeline in pipelines:
            encode = make_encoder(pipeline)
            codes = (encode(to_float32(train.images[: options.images])), encode(to_float32(test.images)))
            yield from score_representation(source, pipeline.card.name, codes, labels, options)
            dimension = codes[0].shape[1]
            if dimension not in linear:
                linear[dimension] = fit_principal_components(pixels[0], dimension)
                components = tuple(
                    linear[dimension].transform(each) for each in (pixels[0][: options.images], pixels[1])
                )
                yield from score_representation(source, "principal components", components, labels, options)


def score_representation(source: str, name: str, rows: TrainTest, labels: TrainTest, options: Options) -> Iterator[Row]:
    """A row for each score, with the standard deviation over the seeds where it has some."""
    (train, test), (train_labels, test_labels) = rows, labels

    def row(score: str, value: float, deviation: float | None = None) -> Row:
        text = "" if deviation is None else f"{deviation:.4f}"
        found = (source, name, train.shape[1], len(train), score, f"{value:.4f}", text)
        return dict(zip(COLUMNS, found, strict=True))

    for kind in KINDS:
        yield row(kind, fit_linear_probe(train, train_labels, test, test_labels, kind).accuracy)
    for few in probe_few_labels(train, train_labels, test, test_labels, options.labels, range(options.seeds)):
        yield row(f"labels_{few.labels}", few.mean, few.deviation)
    found = cluster(test, test_labels)
    yield row("adjusted_rand", found.adjusted_rand)
    yield row("mutual_information", found.mutual_information)
    yield row("cluster_accuracy", found.accuracy)


def find_source(pipeline: Pipeline) -> tuple[str, tuple[int, ...]]:
    """The labeled data set that a model was trained on, or that it was binarized from, and its images' shape."""
    card = pipeline.card
    return LABELED.get(card.data.source, card.data.source), tuple(card.model["arguments"]["image_shape"])


def load(source: str, shape: tuple[int, ...], split: str) -> Labeled:
    """A split of a labeled data set, (height, width, channels) an image.

    Raises:
        ValueError: it has no labels.
    """
    found = load_images(source, split=split, image_size=shape[0], channels=shape[2])
    if found.labels is None:
        raise ValueError(f"{source} has no labels: name models that learned from images with classes.")
    return Labeled(found.images, found.labels, found.class_names)


# The figure


def draw(directory: Path, options: Options) -> None:
    """A row for each unit: its weights, its effect on the decoded image, the test images that activate it most."""
    encoder, decoder = (Pipeline.from_directory(directory, ability=ability) for ability in ("encode", "decode"))
    source, shape = find_source(encoder)
    images = load(source, shape, "test").images
    codes, decode = make_encoder(encoder)(to_float32(images)), make_decoder(decoder)
    units = range(min(options.units, codes.shape[1]))
    # Off and on are the unit's lowest and highest activation by a test image; all other units are at their means.
    effects = [
        np.subtract(*traverse(decode, codes.mean(axis=0), [unit], [codes[:, unit].max(), codes[:, unit].min()])[0])
        for unit in units
    ]
    columns = {
        "weights": scale_to_gray(load_unit_weights(directory).reshape(-1, *shape)[list(units)])[:, None],
        "decoder": scale_to_gray(np.stack(effects))[:, None],
        "test images that activate it most": images[find_most_activating(codes, 8)[list(units)]],
    }
    plot = pyplot()
    figure, axes = plot.subplots(
        1, 3, figsize=(9, 0.75 * len(units) + 0.8), width_ratios=[1, 1, 8], layout="constrained"
    )
    for axis, (title, sheet) in zip(axes, columns.items(), strict=True):
        axis.imshow(
            make_grid(sheet.reshape(-1, *shape), columns=sheet.shape[1]).squeeze(), cmap="gray", vmin=0, vmax=255
        )
        axis.set_title(title, fontsize=8)
        axis.axis("off")
    options.figure.parent.mkdir(exist_ok=True)
    figure.savefig(options.figure, dpi=100)
    plot.close(figure)


def load_unit_weights(directory: Path) -> np.ndarray:
    """Of an encoder's one layer, (units, pixels), each of norm 1.

    Raises:
        ValueError: the encoder has hidden layers.
    """
    with h5py.File(directory / "model.weights.h5") as file:
        if any(name.startswith(("hidden", "down")) for name in file["encoder"]):
            raise ValueError(
                f"{directory}: the encoder has hidden layers; a unit's weights are of pixels where it has none."
            )
        return find_best_inputs(file[KERNEL][()].astype(np.float64))


def scale_to_gray(images: np.ndarray) -> np.ndarray:
    """Each image divided by its largest absolute value: 0 is gray, -1 black, 1 white; uint8."""
    largest = np.abs(images).max(axis=(1, 2, 3), keepdims=True)
    return to_uint8(images / np.where(largest > 0, largest, 1.0), (-1.0, 1.0))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
