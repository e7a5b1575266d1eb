"""How do the discriminator's capacity and the number of training images affect the scores (arXiv:1703.00573)?

    python -m studies.capacity
    python -m studies.capacity --steps 500 --widths 8 64 --images 500 60000

DCGANs on Fashion-MNIST, 32x32, that differ in two things: the width of the discriminator and the number of training
images. Generator (width 32), steps, seed and optimizers are the same. Each is scored by `zoo evaluate` on held-out
images. A discriminator can be fooled by as many images as its capacity allows it to distinguish (arXiv:1703.00573,
theorem 3.1), and one that is trained on few images for many epochs memorizes them: `memorized` is the difference of its
mean outputs for training images and for held-out ones at the end.

Runs are kept under --runs and not repeated. Writes results/capacity.csv and docs/capacity.png.
"""

import csv
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console

from serving.images import to_pil
from studies.figures import pyplot, write_table
from zoo.data.load import load_images
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.options import EvaluationOptions
from zoo.presets.table import EXTRACTORS

PRESET, DATA = "dcgan-fashion-mnist", "fashion_mnist"
GENERATOR_WIDTH = 32
SCORES = ("frechet_distance", "recall", "copies")
COLUMNS = (
    *("discriminator_width", "images", "steps", "seed"),
    *(f"{score}{suffix}" for score in SCORES for suffix in ("", "_std", "_floor")),
    *("memorized", "extractor"),
)


@dataclass(frozen=True)
class Options:
    """One grid."""

    widths: tuple[int, ...] = (4, 16, 64)
    """Widths of the discriminator."""
    images: tuple[int, ...] = (500, 5_000, 60_000)
    """Numbers of training images, the first ones of the set."""
    steps: int = 2_000
    """Train steps of 64 images."""
    seed: int = 0
    """Of the training runs."""
    runs: Path = Path("capacity-runs")
    """Where the runs are kept."""
    table: Path = Path("results/capacity.csv")
    """The table to write."""
    figure: Path = Path("docs/capacity.png")
    """The figure to draw."""


def main(options: Options) -> None:
    """Train what is missing, score, write the table, draw."""
    console = Console(stderr=True)
    rows = []
    for count in options.images:
        data = write_images(options.runs, count)
        for width in options.widths:
            directory = options.runs / f"width-{width}-images-{count}-steps-{options.steps}-seed-{options.seed}"
            console.print(f"{directory.name}: training", highlight=False)
            train(directory, data, width, options)
            rows.append(measure(directory, width, count, options))
            console.print(rows[-1])
    write_table(options.table, COLUMNS, rows)
    draw(rows, options)


def write_images(folder: Path, count: int) -> Path:
    """A zip of the first `count` training images, and of 1,000 test images for the run's own held-out ones."""
    path = folder / f"fashion-{count}.zip"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w") as archive:
        for split, most in (("train", count), ("test", 1_000)):
            images = load_images(DATA, split=split, image_size=None, channels=1).images[:most]
            for number, image in enumerate(to_pil(images)):
                buffer = BytesIO()
                image.save(buffer, "PNG")
                archive.writestr(f"{split}/{number:05d}.png", buffer.getvalue())
    partial.replace(path)
    return path


def train(directory: Path, data: Path, width: int, options: Options) -> None:
    """One run in a process of its own; an interrupted one is resumed, a finished one is left alone."""
    if (directory / "export" / "card.json").exists():
        return
    command = [
        *(sys.executable, "-m", "zoo.cli.main", "train", PRESET, "--data", str(data), "--run-dir", str(directory)),
        *("--steps", str(options.steps), "--seed", str(options.seed), "--sample-every", str(options.steps)),
        *("--model.width", str(GENERATOR_WIDTH), "--model.discriminator-width", str(width)),
        *("--precision", "float32"),  # a table's rows may come from several machines
        *(["--resume"] if directory.exists() else []),
    ]
    subprocess.run(command, check=True)


def measure(directory: Path, width: int, count: int, options: Options) -> dict[str, object]:
    """A row of the table."""
    records = {
        record.name: record
        for record in evaluate(
            str(directory / "export"),
            EvaluationOptions(against=DATA, metrics=SCORES, extractors=(EXTRACTORS[DATA],)),
        )
        if record.name in SCORES
    }
    with (directory / "log.csv").open(newline="", encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    scores = {
        f"{name}{suffix}": value
        for name, record in records.items()
        for suffix, value in (("", record.value), ("_std", record.std), ("_floor", record.baselines.get("training")))
    }
    return {
        "discriminator_width": width,
        "images": count,
        "steps": options.steps,
        "seed": options.seed,
        **scores,
        "memorized": round(float(last["train_score"]) - float(last["held_out_score"]), 4),
        "extractor": records[SCORES[0]].extractor,
    }


def draw(rows: Sequence[Mapping[str, object]], options: Options) -> None:
    """Three panels over the number of images, a line for each width."""
    panels = {
        "frechet_distance": "Frechet distance to held-out images\n(FCD, lower is better)",
        "recall": "Recall: real images\nthat samples reach",
        "memorized": "Memorization: the discriminator's output on\ntraining images minus that on held-out ones",
    }
    figure, axes = pyplot().subplots(1, len(panels), figsize=(12, 3.8), layout="constrained")
    for axis, (column, title) in zip(axes, panels.items(), strict=True):
        for width in options.widths:
            chosen = [row for row in rows if row["discriminator_width"] == width]
            values = np.array([float(str(row[column])) for row in chosen])
            axis.plot(
                [int(str(row["images"])) for row in chosen], values, marker="o", label=f"discriminator of width {width}"
            )
        axis.set_xscale("log")
        axis.set_xlabel("training images")
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
    axes[0].set_yscale("log")
    for formatted in (axes[0].yaxis.set_major_formatter, axes[0].yaxis.set_minor_formatter):
        formatted(lambda value, _: f"{value:g}")
    axes[-1].legend(frameon=False)
    figure.savefig(options.figure, dpi=110)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
