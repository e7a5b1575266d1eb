"""Which losses and stabilizers find all modes: a ring of eight Gaussians and a grid of 25, in the plane.

    python -m studies.modes
    python -m studies.modes --sets ring --only non_saturating r1 --seeds 0

Multilayer perceptrons play; everything else is `zoo.models.gan.GAN`. Of 2,500 samples a mode counts as found when at
least a tenth of its even share lies within three standard deviations of it; a sample is good when it lies so near to
any mode (the protocol of VEEGAN, arXiv:1705.07761, where one such sample is enough to find a mode). The same rates,
batch and number of steps serve every row: no row was tuned.

A row of results/modes.csv that is there is not made again; other options than the default ones take a --table of their
own. Draws docs/modes.png, or a figure beside that table: each row's samples of the first seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from studies.figures import pyplot, read_table, write_table
from studies.points import batches, playing
from zoo.models.gan import GAN

COLUMNS = ("set", "row", "seed", "steps", "modes", "of", "good")
SAMPLES = 2_500
NEAR = 3.0  # standard deviations
SHARE = 0.1  # of a mode's even share of the samples, from which it is found
LATENTS = 8

# Row -> the arguments of GAN and, by player, what differs in the optimizer.
ROWS: dict[str, dict[str, Any]] = {
    "minimax": {"loss": "minimax"},
    "non_saturating": {},
    "least_squares": {"loss": "least_squares"},
    "hinge": {"loss": "hinge"},
    "wasserstein, unbounded": {"loss": "wasserstein"},
    "wasserstein, clipped": {"loss": "wasserstein", "stabilizers": {"weight_clipping": 0.1}, "discriminator_steps": 5},
    "wasserstein, penalty": {"loss": "wasserstein", "stabilizers": {"gradient_penalty": 1.0}, "discriminator_steps": 5},
    "relativistic": {"loss": "relativistic"},
    "relativistic_average": {"loss": "relativistic_average"},
    "k = 5": {"discriminator_steps": 5},
    "simultaneous": {"schedule": "simultaneous"},
    "label_smoothing": {"stabilizers": {"label_smoothing": 0.1}},
    "instance_noise": {"stabilizers": {"instance_noise": 0.5, "instance_noise_steps": 3_000}},
    "dropout": {"dropout": 0.3},
    "minibatch stddev": {"minibatch": "stddev"},
    "minibatch discrimination": {"minibatch": "discrimination"},
    "feature_matching": {"stabilizers": {"feature_matching": 1.0}},
    "historical_averaging": {"stabilizers": {"historical_averaging": 0.01}},
    "spectral norm": {"discriminator_norm": "spectral"},
    "spectral norm, hinge": {"discriminator_norm": "spectral", "loss": "hinge"},
    "gradient_penalty": {"stabilizers": {"gradient_penalty": 1.0}},
    "dragan": {"stabilizers": {"dragan": 1.0}},
    "r1": {"stabilizers": {"r1": 0.1}},
    "r1, relativistic": {"stabilizers": {"r1": 0.1, "r2": 0.1}, "loss": "relativistic"},
    "weight_clipping": {"stabilizers": {"weight_clipping": 0.1}},
    "gradient clipping": {"clipnorm": 0.1},
    "two time scales": {"discriminator_rate": 4.0},
}


@dataclass(frozen=True)
class Set:
    """Equal mixture of round Gaussians in the plane."""

    means: np.ndarray
    deviation: float

    def draw(self, count: int, seed: int) -> np.ndarray:
        """(count, 2)."""
        random = np.random.default_rng(seed)
        chosen = self.means[random.integers(len(self.means), size=count)]
        return chosen + self.deviation * random.standard_normal((count, 2))

    def judge(self, points: np.ndarray) -> tuple[int, float]:
        """How many modes were found, and the share of good samples."""
        distances = np.linalg.norm(points[:, None] - self.means[None], axis=2)
        good = distances.min(axis=1) < NEAR * self.deviation
        counts = np.bincount(distances.argmin(axis=1)[good], minlength=len(self.means))
        return int((counts >= SHARE * len(points) / len(self.means)).sum()), float(good.mean())


ANGLES = 2 * np.pi * np.arange(8) / 8
SIDE = np.arange(-4.0, 5.0, 2.0)
SETS = {
    "ring": Set(2.0 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1), 0.05),
    "grid": Set(np.stack(np.meshgrid(SIDE, SIDE), axis=-1).reshape(-1, 2), 0.05),
}


@dataclass(frozen=True)
class Options:
    """One table."""

    sets: tuple[str, ...] = tuple(SETS)
    """Which mixtures."""
    only: tuple[str, ...] = tuple(ROWS)
    """Which rows."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of training."""
    steps: int = 6_000
    """Of G."""
    batch_size: int = 256
    """Points of a step, for each update of D."""
    rate: float = 1e-3
    """Adam's, of both players, with the decays 0.5 and 0.999."""
    table: Path = Path("results/modes.csv")
    """What is measured."""


BUDGET = ("steps", "batch_size", "rate")  # of Options: one table holds one
FIGURE = Path("docs/modes.png")


def play(points: Set, row: str, seed: int, options: Options) -> np.ndarray:
    """Train from the start; returns samples, (SAMPLES, 2)."""
    arguments, optimizers = parts(ROWS[row], options.rate)
    keras.utils.set_random_seed(seed)
    with playing():
        model = GAN((1, 2, 1), LATENTS, architecture="points", **arguments)
    model.compile(seed=seed, steps_per_execution=100, **optimizers)
    data = batches(points.draw(500 * options.batch_size, seed), model, options.batch_size)
    model.fit(data, steps_per_epoch=options.steps, shuffle=False, verbose=0)
    latents = np.random.default_rng(seed).standard_normal((SAMPLES, LATENTS)).astype(np.float32)
    return np.asarray(model.generator(latents, training=False)).reshape(-1, 2)


def parts(row: Mapping[str, Any], rate: float) -> tuple[dict[str, Any], dict[str, keras.optimizers.Optimizer]]:
    """A row -> the arguments of GAN, and both players' Adam."""
    arguments = dict(row)
    clip = {"global_clipnorm": arguments.pop("clipnorm")} if "clipnorm" in arguments else {}
    rates = {"generator": rate, "discriminator": rate * arguments.pop("discriminator_rate", 1.0)}
    return arguments, {player: keras.optimizers.Adam(each, beta_1=0.5, **clip) for player, each in rates.items()}


def main(options: Options) -> None:
    """Make the rows that are missing, print the table, draw."""
    found = read(options, BUDGET, COLUMNS)
    samples = options.table.with_suffix(".npz")
    shown = dict(np.load(samples)) if samples.exists() else {}
    console = Console(width=100)
    for name in options.sets:
        for row in options.only:
            for seed in options.seeds:
                if any((each["set"], each["row"], each["seed"]) == (name, row, str(seed)) for each in found):
                    continue
                points = play(SETS[name], row, seed, options)
                modes, good = SETS[name].judge(points)
                values = (name, row, seed, options.steps, modes, len(SETS[name].means), f"{good:.4f}")
                found.append(dict(zip(COLUMNS, map(str, values), strict=True)))
                console.print(" ".join(found[-1].values()), highlight=False)
                write_table(options.table, COLUMNS, found)
                if seed == options.seeds[0]:
                    shown[f"{name} {row}"] = points.astype(np.float16)
                    np.savez_compressed(samples, **shown)
    console.print(summary(found))
    draw(shown, FIGURE if options.table == Options.table else options.table.with_suffix(".png"))


def read(options: Any, budget: Sequence[str], columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows that were made before.

    Args:
        options: of the benchmark, with a table.
        budget: names of those that every row of a table must share.
        columns: of the table.

    Raises:
        SystemExit: the default table is named with another budget than the default one, or a table with rows of other
            steps.
        ValueError: the table has other columns.
    """
    defaults = type(options)()
    changed = [name for name in budget if getattr(options, name) != getattr(defaults, name)]
    if changed and options.table == defaults.table:
        raise SystemExit(f"{options.table} holds the default {', '.join(changed)}: choose another --table.")
    options.table.parent.mkdir(exist_ok=True)
    found = read_table(options.table, columns)
    others = sorted({row["steps"] for row in found} - {str(options.steps)})
    if others:
        raise SystemExit(f"{options.table} holds runs of {others[0]} steps: choose another --table.")
    return found


def summary(found: list[dict[str, str]]) -> Table:
    """A line a row: modes of each seed, and the mean share of good samples, set by set."""
    table = Table("row", *(f"{name}: {what}" for name in SETS for what in ("modes", "good")))
    for row in ROWS:
        cells = []
        for name in SETS:
            chosen = [each for each in found if (each["set"], each["row"]) == (name, row)]
            cells.append(", ".join(each["modes"] for each in chosen))
            cells.append(f"{np.mean([float(each['good']) for each in chosen]):.2f}" if chosen else "")
        table.add_row(row, *cells)
    return table


def draw(shown: dict[str, np.ndarray], path: Path) -> None:
    """The ring's samples, a panel a row."""
    names = [name for name in ROWS if f"ring {name}" in shown]
    across = 7
    figure, axes = pyplot().subplots(
        -(-len(names) // across), across, figsize=(14, 8.5), layout="constrained", squeeze=False
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, names, strict=False):
        axis.scatter(*SETS["ring"].means.T, s=40, facecolors="none", edgecolors="tab:orange")
        axis.scatter(*shown[f"ring {name}"].astype(np.float32).T, s=1, alpha=0.3)
        axis.set(xlim=(-3, 3), ylim=(-3, 3), title=name, aspect="equal")
        axis.title.set_fontsize(9)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
