"""How did training go? The curves of training runs, of training images beside held-out ones.

    python -m studies.curves RUN... --figure docs/curves_pixelcnn.png
    python -m studies.curves RUN --charts "Likelihood bounds"

Draws, of the log.csv of each run, the charts of its report.html that compare fixed training images with held-out ones,
or those that are named: a row for each run, or one row where each run has one chart. A gap that grows is memorization.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro

from studies.figures import pyplot
from zoo.training.log import columns_of, read_log
from zoo.training.report import Group, group_columns, plot
from zoo.training.run_directory import read_config

COMPARED = {"train_": "training images", "held_out_": "held-out images"}  # beginning of a column -> its label


@dataclass(frozen=True)
class Options:
    """One figure."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run directories."""
    charts: tuple[str, ...] = ()
    """Titles of the charts, as in report.html; by default all in which held-out images are compared."""
    figure: Path = Path("curves.png")
    """What is written."""


class Panel(NamedTuple):
    """One chart of one run: the curves by their labels, over the steps."""

    title: str
    group: Group
    steps: np.ndarray
    curves: dict[str, np.ndarray]


def main(options: Options) -> None:
    """Draw the figure."""
    rows = [collect_panels(run, options.charts) for run in options.runs]
    if all(len(panels) == 1 for panels in rows):  # one chart each: side by side
        rows = [[panel for panels in rows for panel in panels]]
    columns = max(map(len, rows))
    plot_of = pyplot()
    figure, axes = plot_of.subplots(
        len(rows), columns, figsize=(4.2 * columns, 2.8 * len(rows)), squeeze=False, layout="constrained"
    )
    for row, panels in zip(axes, rows, strict=True):
        for axis in row[len(panels) :]:
            axis.axis("off")
        for axis, panel in zip(row, panels, strict=False):
            plot(axis, panel.group, panel.curves, panel.steps, ("C0", "C1", "C2", "C3"))
            axis.set_title(panel.title, fontsize=9)
            axis.set_xlabel("step", fontsize=8)
            axis.tick_params(labelsize=8)
            axis.locator_params(axis="x", nbins=5)
            axis.grid(alpha=0.3, linewidth=0.6)
            axis.legend(panel.curves, fontsize=8)
    options.figure.parent.mkdir(exist_ok=True)
    figure.savefig(options.figure, dpi=100)
    plot_of.close(figure)


def collect_panels(run: Path, charts: Sequence[str] = ()) -> list[Panel]:
    """The charts of a run, those that are named with all of their columns.

    Raises:
        ValueError: fewer than two rows in the log, or no such chart of them.
    """
    log, name = read_log(run / "log.csv"), read_config(run)["recipe"]["preset"]
    if len(log) < 2:
        raise ValueError(f"{run}: a curve takes two rows of log.csv or more, there are {len(log)}.")
    found, known = [], []
    for group, series in group_columns(log):
        known.append(group.title)
        compared = {
            label: series[column]
            for start, label in COMPARED.items()
            for column in series
            if column.startswith(start) and column.replace(start, "held_out_", 1) in series
        }
        curves = (series if group.title in charts else {}) if charts else compared
        if curves:
            found.append(Panel(f"{name}: {group.title.lower()}", group, columns_of(log)["step"], curves))
    if not found or set(charts) - set(known):
        raise ValueError(f"{run}: choose --charts from {known}, not {list(charts)}.")
    return found


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
