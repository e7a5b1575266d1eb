"""What does each mitigation of unstable training change on Fashion-MNIST, at an equal small budget?

    python -m studies.mitigations
    python -m studies.mitigations --only none "no norm, R1" --seeds 0

A variant is DCGAN (half the preset's width) trained with one mitigation; those that need another normalization of the
discriminator stand below a row with that normalization alone. Samples of the averaged generator are compared with the
10,000 held-out images by the features of `cnn-fashion-mnist`: a Frechet distance (FCD), and recall, the share of images
that samples reach.

Writes results/mitigations.csv and prints a table; no figure. Rows that the file has already are not made again, and
other options than the default ones take a --table of their own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from studies.figures import read_finished_rows, write_table
from studies.modes import split_arguments
from zoo.data.batches import batches
from zoo.data.images import ImageSet, center_crop
from zoo.data.load import load_images
from zoo.evaluation.extractors import ClassifierExtractor, extract_features
from zoo.metrics.frechet import frechet_distance
from zoo.metrics.moments import Moments
from zoo.metrics.neighbors import neighbor_scores
from zoo.models.gan import GAN
from zoo.pretrained import find_directory

COLUMNS = ("variant", "seed", "steps", "frechet_distance", "recall")
EXTRACTOR = "cnn-fashion-mnist"
LEARNING_RATE = 2e-4  # DCGAN, section 4
IMAGE_SIZE = 32  # 28x28 padded with black

# Variant -> arguments of GAN; clipnorm and discriminator_rate_factor are of the optimizers, see `split_arguments`.
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {},
    "label smoothing": {"label_smoothing": 0.1},
    "instance noise": {"instance_noise": 0.1},
    "dropout": {"dropout": 0.3},
    "augmentation": {"augment": "color,translation,cutout"},
    "adaptive augmentation": {"augment": "color,translation,cutout", "augment_target": 0.6},
    "relativistic": {"loss": "relativistic"},
    "relativistic average": {"loss": "relativistic_average"},
    "feature matching": {"feature_matching": 1.0},
    "historical averaging": {"historical_averaging": 0.01},
    "minibatch stddev": {"minibatch": "stddev"},
    "minibatch discrimination": {"minibatch": "discrimination"},
    "weight clipping": {"weight_clipping": 0.1},
    "gradient clipping": {"clipnorm": 1.0},
    "two time scales": {"discriminator_rate_factor": 2.0},
    "spectral norm": {"discriminator_norm": "spectral"},
    "layer norm": {"discriminator_norm": "layer"},
    "layer norm, gradient penalty": {"discriminator_norm": "layer", "gradient_penalty": 10.0},
    "layer norm, DRAGAN": {"discriminator_norm": "layer", "dragan": 10.0},
    "no norm": {"discriminator_norm": "none"},
    "no norm, R1": {"discriminator_norm": "none", "r1": 10.0},
    "no norm, R1 and R2": {"discriminator_norm": "none", "r1": 10.0, "r2": 10.0},
}


@dataclass(frozen=True)
class Options:
    """One table."""

    only: tuple[str, ...] = tuple(VARIANTS)
    """Which variants."""
    seeds: tuple[int, ...] = (0, 1)
    """Of training."""
    steps: int = 1_000
    """Train steps of a variant."""
    batch_size: int = 64
    """Images of a step."""
    width: int = 32
    """Channels of the largest map of both networks."""
    samples: int = 5_000
    """Generated images that are scored."""
    data: str = "fashion_mnist"
    """The data set to train on and to compare with."""
    table: Path = Path("results/mitigations.csv")
    """The table to write."""


BUDGET = ("steps", "batch_size", "width", "samples", "data")  # options that all rows of a table share


def train_and_sample(variant: str, seed: int, images: ImageSet, options: Options) -> np.ndarray:
    """Train from fresh weights; returns samples, uint8 (samples, height, width, 1)."""
    arguments, optimizers = split_arguments(VARIANTS[variant], LEARNING_RATE)
    keras.utils.set_random_seed(seed)
    model = GAN((IMAGE_SIZE, IMAGE_SIZE, 1), width=options.width, **arguments)
    model.compile(seed=seed, **optimizers)
    data = batches(images, batch_size=options.batch_size, seed=seed, minibatches_per_step=model.minibatches_per_step)
    model.fit(data, steps_per_epoch=options.steps, shuffle=False, verbose=0)
    return np.asarray(model.sample(options.samples, seed=seed, batch_size=250))


def main(options: Options) -> None:
    """Make the rows that are missing, print the table."""
    found = read_finished_rows(options, BUDGET, COLUMNS)
    wanted = [
        (variant, seed)
        for variant in options.only
        for seed in options.seeds
        if not any((row["variant"], row["seed"]) == (variant, str(seed)) for row in found)
    ]
    console = Console(width=100)
    if wanted:
        extractor = ClassifierExtractor(find_directory(EXTRACTOR))
        height, width, _ = extractor.image.row
        size: dict[str, Any] = {"image_size": IMAGE_SIZE, "channels": 1, "fit": "pad"}
        images, held_out = (load_images(options.data, split=split, **size) for split in ("train", "test"))
        real = extract_features(extractor, center_crop(held_out.images, height, width))[0]
        moments = Moments.of(real)
    for variant, seed in wanted:
        samples = center_crop(train_and_sample(variant, seed, images, options), height, width)
        features = extract_features(extractor, samples)[0]
        distance = frechet_distance(Moments.of(features), moments)
        recall = neighbor_scores(features, real[: len(features)]).recall
        values = (variant, seed, options.steps, f"{distance:.4f}", f"{recall:.4f}")
        found.append(dict(zip(COLUMNS, map(str, values), strict=True)))
        console.print(" ".join(found[-1].values()), highlight=False)
        write_table(options.table, COLUMNS, found)
    console.print(summarize(found))


def summarize(found: list[dict[str, str]]) -> Table:
    """A line a variant: the mean of the seeds, and each one's distance."""
    table = Table("variant", "FCD", "of each seed", "recall")
    for name in VARIANTS:
        rows = [row for row in found if row["variant"] == name]
        if rows:
            distances = [float(row["frechet_distance"]) for row in rows]
            recall = np.mean([float(row["recall"]) for row in rows])
            table.add_row(
                name,
                f"{np.mean(distances):.2f}",
                " ".join(f"{distance:.2f}" for distance in distances),
                f"{recall:.2f}",
            )
    return table


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
