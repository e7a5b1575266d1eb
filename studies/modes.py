"""Which losses and regularizers find all modes of a ring of eight Gaussians and of a grid of 25, in the plane?

    python -m studies.modes
    python -m studies.modes --mixtures ring --only non_saturating r1 --seeds 0

The networks are multilayer perceptrons; everything else is `zoo.models.gan.GAN`. Of 2,500 samples a mode counts as
found when at least a tenth of its even share lies within three standard deviations of it; a sample is of high quality
when it lies so near to any mode (the protocol of VEEGAN, arXiv:1705.07761, where one such sample is enough to find a
mode). Learning rates, batch size and number of steps are the same for every variant: none was tuned.

Writes results/modes.csv, and each variant's samples of the first seed to results/modes.npz and docs/modes.png. A row
that is there is not made again; other options than the default ones take a --table of their own, beside which samples
and figure then lie.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from studies.figures import pyplot, read_finished_rows, write_table
from studies.points import make_batches, small_architectures
from zoo.models.gan import GAN

COLUMNS = ("mixture", "variant", "seed", "steps", "modes_found", "modes", "high_quality")
SAMPLES = 2_500
NEAR = 3.0  # standard deviations of a Gaussian
LEAST_SHARE = 0.1  # of a mode's even share of the samples, from which it counts as found
LATENT_DIM = 8

# Variant -> arguments of GAN; clipnorm and discriminator_rate_factor are of the optimizers, see `split_arguments`.
VARIANTS: dict[str, dict[str, Any]] = {
    "minimax": {"loss": "minimax"},
    "non_saturating": {},
    "least_squares": {"loss": "least_squares"},
    "hinge": {"loss": "hinge"},
    "wasserstein, unbounded": {"loss": "wasserstein"},
    "wasserstein, clipped": {"loss": "wasserstein", "weight_clipping": 0.1, "discriminator_steps": 5},
    "wasserstein, penalty": {"loss": "wasserstein", "gradient_penalty": 1.0, "discriminator_steps": 5},
    "relativistic": {"loss": "relativistic"},
    "relativistic_average": {"loss": "relativistic_average"},
    "k = 5": {"discriminator_steps": 5},
    "simultaneous": {"schedule": "simultaneous"},
    "label_smoothing": {"label_smoothing": 0.1},
    "instance_noise": {"instance_noise": 0.5, "instance_noise_steps": 3_000},
    "dropout": {"dropout": 0.3},
    "minibatch stddev": {"minibatch": "stddev"},
    "minibatch discrimination": {"minibatch": "discrimination"},
    "feature_matching": {"feature_matching": 1.0},
    "historical_averaging": {"historical_averaging": 0.01},
    "spectral norm": {"discriminator_norm": "spectral"},
    "spectral norm, hinge": {"discriminator_norm": "spectral", "loss": "hinge"},
    "gradient_penalty": {"gradient_penalty": 1.0},
    "dragan": {"dragan": 1.0},
    "r1": {"r1": 0.1},
    "r1, relativistic": {"r1": 0.1, "r2": 0.1, "loss": "relativistic"},
    "weight_clipping": {"weight_clipping": 0.1},
    "gradient clipping": {"clipnorm": 0.1},
    "two time scales": {"discriminator_rate_factor": 4.0},
}


@dataclass(frozen=True)
class GaussianMixture:
    """Equal mixture of isotropic Gaussians in the plane: means (modes, 2) and one standard deviation."""

    means: np.ndarray
    deviation: float

    def draw(self, count: int, seed: int) -> np.ndarray:
        """Points, (count, 2)."""
        random = np.random.default_rng(seed)
        chosen = self.means[random.integers(len(self.means), size=count)]
        return chosen + self.deviation * random.standard_normal((count, 2))

    def score(self, points: np.ndarray) -> tuple[int, float]:
        """How many modes were found, and the share of samples of high quality."""
        distances = np.linalg.norm(points[:, None] - self.means[None], axis=2)
        near = distances.min(axis=1) < NEAR * self.deviation
        counts = np.bincount(distances.argmin(axis=1)[near], minlength=len(self.means))
        return int((counts >= LEAST_SHARE * len(points) / len(self.means)).sum()), float(near.mean())


ANGLES = 2 * np.pi * np.arange(8) / 8
SIDE = np.arange(-4.0, 5.0, 2.0)
MIXTURES = {
    "ring": GaussianMixture(2.0 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1), 0.05),
    "grid": GaussianMixture(np.stack(np.meshgrid(SIDE, SIDE), axis=-1).reshape(-1, 2), 0.05),
}


@dataclass(frozen=True)
class Options:
    """One table."""

    mixtures: tuple[str, ...] = tuple(MIXTURES)
    """What to train on."""
    only: tuple[str, ...] = tuple(VARIANTS)
    """Which variants."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of training."""
    steps: int = 6_000
    """Updates of the generator."""
    batch_size: int = 256
    """Points for each update of the discriminator."""
    learning_rate: float = 1e-3
    """Of Adam, for both players, with the decays 0.5 and 0.999."""
    table: Path = Path("results/modes.csv")
    """The table to write."""


BUDGET = ("steps", "batch_size", "learning_rate")  # options that all rows of a table share
FIGURE = Path("docs/modes.png")


def train_and_sample(mixture: GaussianMixture, variant: str, seed: int, options: Options) -> np.ndarray:
    """Train from fresh weights; returns samples, (SAMPLES, 2)."""
    arguments, optimizers = split_arguments(VARIANTS[variant], options.learning_rate)
    keras.utils.set_random_seed(seed)
    with small_architectures():
        model = GAN((1, 2, 1), LATENT_DIM, architecture="points", **arguments)
    model.compile(seed=seed, steps_per_execution=100, **optimizers)
    data = make_batches(mixture.draw(500 * options.batch_size, seed), model, options.batch_size)
    model.fit(data, steps_per_epoch=options.steps, shuffle=False, verbose=0)
    latents = np.random.default_rng(seed).standard_normal((SAMPLES, LATENT_DIM)).astype(np.float32)
    return np.asarray(model.generator(latents, training=False)).reshape(-1, 2)


def split_arguments(
    variant: Mapping[str, Any], learning_rate: float
) -> tuple[dict[str, Any], dict[str, keras.optimizers.Optimizer]]:
    """A variant -> the arguments of GAN, and both players' Adam."""
    arguments = dict(variant)
    clip = {"global_clipnorm": arguments.pop("clipnorm")} if "clipnorm" in arguments else {}
    rates = {
        "generator": learning_rate,
        "discriminator": learning_rate * arguments.pop("discriminator_rate_factor", 1.0),
    }
    return arguments, {player: keras.optimizers.Adam(each, beta_1=0.5, **clip) for player, each in rates.items()}


def main(options: Options) -> None:
    """Make the rows that are missing, print the table, draw."""
    found = read_finished_rows(options, BUDGET, COLUMNS)
    path = options.table.with_suffix(".npz")
    samples = dict(np.load(path)) if path.exists() else {}
    console = Console(width=100)
    for name in options.mixtures:
        mixture = MIXTURES[name]
        for variant in options.only:
            for seed in options.seeds:
                if any((row["mixture"], row["variant"], row["seed"]) == (name, variant, str(seed)) for row in found):
                    continue
                points = train_and_sample(mixture, variant, seed, options)
                modes, high_quality = mixture.score(points)
                values = (name, variant, seed, options.steps, modes, len(mixture.means), f"{high_quality:.4f}")
                found.append(dict(zip(COLUMNS, map(str, values), strict=True)))
                console.print(" ".join(found[-1].values()), highlight=False)
                write_table(options.table, COLUMNS, found)
                if seed == options.seeds[0]:
                    samples[f"{name} {variant}"] = points.astype(np.float16)
                    np.savez_compressed(path, **samples)
    console.print(summarize(found))
    draw(samples, FIGURE if options.table == Options.table else options.table.with_suffix(".png"))


def summarize(found: list[dict[str, str]]) -> Table:
    """A line a variant: for each mixture the modes that each seed found, and the mean share of high quality."""
    table = Table("variant", *(f"{name}: {what}" for name in MIXTURES for what in ("modes", "high quality")))
    for variant in VARIANTS:
        cells = []
        for name in MIXTURES:
            rows = [row for row in found if (row["mixture"], row["variant"]) == (name, variant)]
            cells.append(", ".join(row["modes_found"] for row in rows))
            cells.append(f"{np.mean([float(row['high_quality']) for row in rows]):.2f}" if rows else "")
        table.add_row(variant, *cells)
    return table


def draw(samples: dict[str, np.ndarray], path: Path) -> None:
    """The ring's samples, a panel for each variant."""
    names = [name for name in VARIANTS if f"ring {name}" in samples]
    across = 7
    figure, axes = pyplot().subplots(
        -(-len(names) // across), across, figsize=(14, 8.5), layout="constrained", squeeze=False
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, names, strict=False):
        axis.scatter(*MIXTURES["ring"].means.T, s=40, facecolors="none", edgecolors="tab:orange")
        axis.scatter(*samples[f"ring {name}"].astype(np.float32).T, s=1, alpha=0.3)
        axis.set(xlim=(-3, 3), ylim=(-3, 3), title=name, aspect="equal")
        axis.title.set_fontsize(9)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
