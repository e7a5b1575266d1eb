"""Where two players cycle and where they converge: a GAN of one weight for each player.

    python -m studies.dirac_gan

The Dirac-GAN (Mescheder et al., arXiv:1801.04406, section 2): all images are 0, all samples are theta, D(x) = psi x.
The one equilibrium is theta = psi = 0. With the Wasserstein loss this is the bilinear game, theta psi. Both players
take gradient steps of rate h; `zoo.models.gan.GAN` trains, with its schedules and losses.

Writes results/dirac_gan.csv (how far from the equilibrium training ends, against the start) and docs/dirac_gan.png.
"""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from studies.figures import pyplot, write_table
from studies.points import make_batches, small_architectures
from zoo.models.gan import GAN

COLUMNS = (
    *("loss", "schedule", "rate", "steps"),
    *("start_distance", "end_distance", "largest_distance", "revolutions"),
)
LOSSES = {"wasserstein": "bilinear", "minimax": "minimax", "non_saturating": "non-saturating", "hinge": "hinge"}
SCHEDULES: dict[str, dict[str, object]] = {
    "simultaneous": {"schedule": "simultaneous"},
    "alternating": {"schedule": "shared"},
    "k = 5": {"schedule": "shared", "discriminator_steps": 5},
}
BATCH_SIZE = 2  # rows that are all alike: every image is 0


@dataclass(frozen=True)
class Options:
    """One table and one figure."""

    rate: float = 0.1
    """h, of both players."""
    steps: int = 1_000
    """Train steps, each one update of the generator."""
    start: float = 1.0
    """theta and psi at the beginning."""
    table: Path = Path("results/dirac_gan.csv")
    """The table to write."""
    figure: Path = Path("docs/dirac_gan.png")
    """The trajectories."""


def record_trajectory(loss: str, rate: float, steps: int, start: float = 1.0, **schedule: object) -> np.ndarray:
    """(steps + 1, 2): theta and psi before the first step and after each."""
    with small_architectures():
        model = GAN((1, 1, 1), 1, architecture="dirac", loss=loss, ema_decay=None, **schedule)
    model.compile(discriminator=keras.optimizers.SGD(rate), generator=keras.optimizers.SGD(rate))
    model.set_weights([np.full_like(weight, start) for weight in model.get_weights()])
    points = [read_weights(model)]
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: points.append(read_weights(model)))
    data = make_batches(np.zeros((BATCH_SIZE * model.minibatches_per_step, 1)), model, BATCH_SIZE)
    model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[note])
    return np.array(points)


def read_weights(model: GAN) -> tuple[float, float]:
    """theta and psi."""
    return float(model.generator.get_weights()[0].item()), float(model.discriminator.get_weights()[0].item())


def make_row(loss: str, schedule: str, points: np.ndarray, options: Options) -> dict[str, object]:
    """What a trajectory comes to: distances to the equilibrium, and revolutions around it."""
    distances = np.linalg.norm(points, axis=1)
    angles = np.unwrap(np.arctan2(points[:, 1], points[:, 0]))
    measured = (distances[0], distances[-1], distances.max(), abs(angles[-1] - angles[0]) / (2 * np.pi))
    row = (loss, schedule, options.rate, options.steps, *(f"{value:.4g}" for value in measured))
    return dict(zip(COLUMNS, row, strict=True))


def main(options: Options) -> None:
    """Train with every loss and schedule, write the table, draw."""
    trajectories = {
        (loss, schedule): record_trajectory(loss, options.rate, options.steps, options.start, **arguments)
        for loss in LOSSES
        for schedule, arguments in SCHEDULES.items()
    }
    rows = [make_row(loss, schedule, points, options) for (loss, schedule), points in trajectories.items()]
    write_table(options.table, COLUMNS, rows)
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=120).print(table)
    draw(trajectories, options)


def draw(trajectories: dict[tuple[str, str], np.ndarray], options: Options) -> None:
    """A row of panels for each loss, a column for each schedule."""
    figure, axes = pyplot().subplots(len(LOSSES), len(SCHEDULES), figsize=(9, 12), layout="constrained")
    for (loss, schedule), points in trajectories.items():
        axis = axes[list(LOSSES).index(loss)][list(SCHEDULES).index(schedule)]
        axis.plot(*points.T, linewidth=0.6)
        axis.plot(*points[0], "o", color="tab:green", markersize=4)
        axis.plot(*points[-1], "s", color="tab:red", markersize=4)
        axis.plot(0, 0, "+", color="black")
        # The bilinear game diverges under simultaneous updates: its panel shows the inner part alone.
        limit = min(np.abs(points).max(), 4 * options.start) * 1.1
        axis.set(xlim=(-limit, limit), ylim=(-limit, limit), title=f"{LOSSES[loss]}, {schedule}", aspect="equal")
        axis.title.set_fontsize(9)
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel(r"$\theta$ (the sample)")
    for axis in axes[:, 0]:
        axis.set_ylabel(r"$\psi$ (the discriminator's slope)")
    figure.savefig(options.figure, dpi=100)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
