"""Each stabilizer on and off, on Fashion-MNIST, at an equal small budget.

    python -m studies.remedies
    python -m studies.remedies --only none r1 --seeds 0

A row is DCGAN (half the preset's width) for so many steps with one remedy; rows whose remedy asks for another norm in D
stand below a row with that norm alone. Samples of the averaged G are compared with the 10,000 held-out images by the
features of `cnn-fashion-mnist`: a Frechet distance (FCD), and recall, the share of images that samples reach.

Writes results/remedies.csv and prints a table; rows that the file has already are not made again, and other options
than the default ones take a --table of their own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from zoo.metrics.neighbors import neighbor_scores

from studies.figures import write_table
from studies.modes import parts, read
from zoo.data.batches import batches
from zoo.data.images import ImageSet, center_crop
from zoo.data.load import load_images
from zoo.evaluation.extractors import ClassifierExtractor, features_of
from zoo.metrics.frechet import frechet_distance
from zoo.metrics.moments import Moments
from zoo.models.gan import GAN
from zoo.pretrained import find_directory

COLUMNS = ("row", "seed", "steps", "frechet_distance", "recall")
EXTRACTOR = "cnn-fashion-mnist"
SIDE = 32  # 28x28 on black

# Row -> the arguments of GAN and, by player, what differs in the optimizer.
ROWS: dict[str, dict[str, Any]] = {
    "none": {},
    "label smoothing": {"stabilizers": {"label_smoothing": 0.1}},
    "instance noise": {"stabilizers": {"instance_noise": 0.1}},
    "dropout": {"dropout": 0.3},
    "augmentation": {"stabilizers": {"augment": "color,translation,cutout"}},
    "adaptive augmentation": {"stabilizers": {"augment": "color,translation,cutout", "augment_target": 0.6}},
    "relativistic": {"loss": "relativistic"},
    "relativistic average": {"loss": "relativistic_average"},
    "feature matching": {"stabilizers": {"feature_matching": 1.0}},
    "historical averaging": {"stabilizers": {"historical_averaging": 0.01}},
    "minibatch stddev": {"minibatch": "stddev"},
    "minibatch discrimination": {"minibatch": "discrimination"},
    "weight clipping": {"stabilizers": {"weight_clipping": 0.1}},
    "gradient clipping": {"clipnorm": 1.0},
    "two time scales": {"discriminator_rate": 2.0},
    "spectral norm": {"discriminator_norm": "spectral"},
    "layer norm": {"discriminator_norm": "layer"},
    "layer norm, gradient penalty": {"discriminator_norm": "layer", "stabilizers": {"gradient_penalty": 10.0}},
    "layer norm, DRAGAN": {"discriminator_norm": "layer", "stabilizers": {"dragan": 10.0}},
    "no norm": {"discriminator_norm": "none"},
    "no norm, R1": {"discriminator_norm": "none", "stabilizers": {"r1": 10.0}},
    "no norm, R1 and R2": {"discriminator_norm": "none", "stabilizers": {"r1": 10.0, "r2": 10.0}},
}


@dataclass(frozen=True)
class Options:
    """One table."""

    only: tuple[str, ...] = tuple(ROWS)
    """Which rows."""
    seeds: tuple[int, ...] = (0, 1)
    """Of training."""
    steps: int = 1_000
    """Of a row."""
    batch_size: int = 64
    """ImageSet a step."""
    width: int = 32
    """Channels of the largest map of both networks."""
    samples: int = 5_000
    """Of a score."""
    data: str = "fashion_mnist"
    """What to train on and to compare with."""
    table: Path = Path("results/remedies.csv")
    """What is measured."""


BUDGET = ("steps", "batch_size", "width", "samples", "data")  # of Options: one table holds one


def play(row: str, seed: int, images: ImageSet, options: Options) -> np.ndarray:
    """Train from the start; returns samples, uint8."""
    arguments, optimizers = parts(ROWS[row], 2e-4)
    keras.utils.set_random_seed(seed)
    model = GAN((SIDE, SIDE, 1), width=options.width, **arguments)
    model.compile(seed=seed, **optimizers)
    data = batches(images, batch_size=options.batch_size, seed=seed, minibatches_per_step=model.minibatches_per_step)
    model.fit(data, steps_per_epoch=options.steps, shuffle=False, verbose=0)
    return np.asarray(model.sample(options.samples, seed=seed, batch_size=250))


def main(options: Options) -> None:
    """Make the rows that are missing, print the table."""
    found = read(options, BUDGET, COLUMNS)
    wanted = [
        (row, seed)
        for row in options.only
        for seed in options.seeds
        if not any((each["row"], each["seed"]) == (row, str(seed)) for each in found)
    ]
    console = Console(width=100)
    if wanted:
        extractor = ClassifierExtractor(find_directory(EXTRACTOR))
        height, width, _ = extractor.image.row
        size: dict[str, Any] = {"image_size": SIDE, "channels": 1, "fit": "pad"}
        images, held_out = (load_images(options.data, split=split, **size) for split in ("train", "test"))
        real = features_of(extractor, center_crop(held_out.images, height, width))[0]
        moments = Moments.of(real)
    for row, seed in wanted:
        samples = center_crop(play(row, seed, images, options), height, width)
        features = features_of(extractor, samples)[0]
        distance = frechet_distance(Moments.of(features), moments)
        recall = neighbor_scores(features, real[: len(features)]).recall
        values = (row, seed, options.steps, f"{distance:.4f}", f"{recall:.4f}")
        found.append(dict(zip(COLUMNS, map(str, values), strict=True)))
        console.print(" ".join(found[-1].values()), highlight=False)
        write_table(options.table, COLUMNS, found)
    console.print(summary(found))


def summary(found: list[dict[str, str]]) -> Table:
    """A line a row: the mean of the seeds, and each one's distance."""
    table = Table("row", "FCD", "of each seed", "recall")
    for name in ROWS:
        rows = [each for each in found if each["row"] == name]
        if rows:
            distances = [float(each["frechet_distance"]) for each in rows]
            recall = np.mean([float(each["recall"]) for each in rows])
            table.add_row(
                name, f"{np.mean(distances):.2f}", " ".join(f"{one:.2f}" for one in distances), f"{recall:.2f}"
            )
    return table


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
