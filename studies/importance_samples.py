"""How fast does the importance-weighted bound come to log p(x) as it is given more samples?

    zoo evaluate --board likelihood
    python -m studies.importance_samples

Draws the bounds of a board's table, of each model that has them: the ELBO, which is that of one sample on average, and
the bounds of K samples that the board computed on the way to the one it was asked for. The samples of a smaller K are
among those of a larger one. Bars are standard errors over the images; they are nearly the same images' at each K, so
the curve's shape is surer than they say.

Reads results/likelihood.csv and writes docs/likelihood.png.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tyro

from studies.figures import pyplot
from zoo.evaluation.board import Row
from zoo.evaluation.board_table import read_rows


@dataclass(frozen=True)
class Options:
    """One figure of one table."""

    table: Path = Path("results/likelihood.csv")
    """The board's."""
    board: str = "fixed"
    """Whose models are drawn."""
    figure: Path = Path("docs/likelihood.png")
    """What is written."""


def main(options: Options) -> None:
    """Draw the figure.

    Raises:
        ValueError: the table has no such bounds, or is no board.
    """
    curves = collect_curves(read_rows(options.table), options.board)
    if not curves:
        raise ValueError(f"{options.table} has no importance-weighted bounds on the board {options.board!r}.")
    plot = pyplot()
    figure, axes = plot.subplots(figsize=(5.5, 3.5), constrained_layout=True)
    for model, points in curves.items():
        samples, values, errors = zip(*points, strict=True)
        axes.errorbar(samples, values, yerr=errors, marker="o", markersize=4, capsize=2, label=model)
    axes.set(xscale="log", xlabel="samples of z for each image, K", ylabel="bound of log p(x), nats")
    axes.legend()
    figure.savefig(options.figure, dpi=100)
    plot.close(figure)


def collect_curves(rows: Iterable[Row], board: str) -> dict[str, list[tuple[int, float, float]]]:
    """Model -> (K, bound, standard error), by K; of models with bounds of more than one sample."""
    found: dict[str, list[tuple[int, float, float]]] = {}
    for row in rows:
        if row.board == board and row.estimator in ("ELBO", "importance"):
            found.setdefault(row.model, []).append((row.samples, row.value, row.error))
    return {model: sorted(points) for model, points in found.items() if len(points) > 1}


if __name__ == "__main__":
    main(tyro.cli(Options))
