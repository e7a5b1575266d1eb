"""Where play circles and where it settles: two players with one weight each.

    python -m studies.games

The Dirac-GAN (Mescheder et al., arXiv:1801.04406, section 2): all images are 0, all samples are theta, D(x) = psi x.
The one equilibrium is theta = psi = 0. With the Wasserstein loss this is the bilinear game, theta psi. Both players
descend with rate h; `zoo.models.gan.GAN` plays, with its schedules and losses.

Writes results/games.csv (how far from the equilibrium play is in the end, against the start) and docs/games.png.
"""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from studies.figures import pyplot, write_table
from studies.points import batches, playing
from zoo.models.gan import GAN

COLUMNS = ("loss", "play", "rate", "steps", "start", "end", "farthest", "turns")
LOSSES = {"wasserstein": "bilinear", "minimax": "minimax", "non_saturating": "non-saturating", "hinge": "hinge"}
PLAYS: dict[str, dict[str, object]] = {
    "simultaneous": {"schedule": "simultaneous"},
    "alternating": {"schedule": "shared"},
    "k = 5": {"schedule": "shared", "discriminator_steps": 5},
}
ROWS = 2  # all alike: images and samples are points


@dataclass(frozen=True)
class Options:
    """One table and one figure."""

    rate: float = 0.1
    """h, of both players."""
    steps: int = 1_000
    """Of each game."""
    start: float = 1.0
    """theta and psi at the beginning."""
    table: Path = Path("results/games.csv")
    """What is measured."""
    figure: Path = Path("docs/games.png")
    """Trajectories."""


def trajectory(loss: str, rate: float, steps: int, start: float = 1.0, **play: object) -> np.ndarray:
    """(steps + 1, 2): theta and psi before the first step and after each."""
    with playing():
        model = GAN((1, 1, 1), 1, architecture="dirac", loss=loss, ema_decay=None, **play)
    model.compile(discriminator=keras.optimizers.SGD(rate), generator=keras.optimizers.SGD(rate))
    model.set_weights([np.full_like(weight, start) for weight in model.get_weights()])
    places = [place(model)]
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: places.append(place(model)))
    data = batches(np.zeros((ROWS * model.minibatches_per_step, 1)), model, ROWS)
    model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[note])
    return np.array(places)


def place(model: GAN) -> tuple[float, float]:
    """theta and psi."""
    return float(model.generator.get_weights()[0].item()), float(model.discriminator.get_weights()[0].item())


def row_of(loss: str, play: str, places: np.ndarray, options: Options) -> dict[str, object]:
    """What a trajectory comes to: distances to the equilibrium, and turns around it."""
    distances = np.linalg.norm(places, axis=1)
    angles = np.unwrap(np.arctan2(places[:, 1], places[:, 0]))
    measured = (distances[0], distances[-1], distances.max(), abs(angles[-1] - angles[0]) / (2 * np.pi))
    return dict(zip(COLUMNS, (loss, play, options.rate, options.steps, *(f"{v:.4g}" for v in measured)), strict=True))


def main(options: Options) -> None:
    """Play every game, write the table, draw."""
    games = {
        (loss, play): trajectory(loss, options.rate, options.steps, options.start, **arguments)
        for loss in LOSSES
        for play, arguments in PLAYS.items()
    }
    rows = [row_of(loss, play, places, options) for (loss, play), places in games.items()]
    write_table(options.table, COLUMNS, rows)
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=100).print(table)
    draw(games, options)


def draw(games: dict[tuple[str, str], np.ndarray], options: Options) -> None:
    """A panel for each game: a row for each loss, a column for each way to play."""
    figure, axes = pyplot().subplots(len(LOSSES), len(PLAYS), figsize=(9, 12), layout="constrained")
    for (loss, play), places in games.items():
        axis = axes[list(LOSSES).index(loss)][list(PLAYS).index(play)]
        axis.plot(*places.T, linewidth=0.6)
        axis.plot(*places[0], "o", color="tab:green", markersize=4)
        axis.plot(*places[-1], "s", color="tab:red", markersize=4)
        axis.plot(0, 0, "+", color="black")
        reach = min(np.abs(places).max(), 4 * options.start) * 1.1
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach), title=f"{LOSSES[loss]}, {play}", aspect="equal")
        axis.title.set_fontsize(9)
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel(r"$\theta$ (the sample)")
    for axis in axes[:, 0]:
        axis.set_ylabel(r"$\psi$ (D's slope)")
    figure.savefig(options.figure, dpi=100)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
