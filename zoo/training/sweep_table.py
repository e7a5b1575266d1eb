"""A sweep's tables: one row per run, one row per point."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zoo.training.run_directory import write_text
from zoo.training.sweep_grid import Trial

FINISHED, STOPPED = "finished", "stopped"
FACTS = ("seed", "status", "steps", "seconds")  # columns of sweep.csv between the point and the metrics
Row = Mapping[str, str]  # of sweep.csv


def is_begun(trial: Trial, out: Path) -> bool:
    """Whether there is something to resume."""
    return (out / trial.name / "config.json").exists()


def is_finished(trial: Trial, out: Path) -> bool:
    """Whether nothing is left to do: its export, which comes last and whole, is there."""
    return (out / trial.name / "export").exists()


def read_last_row(trial: Trial, out: Path) -> dict[str, str]:
    """The last whole row of a run's log; empty before the first."""
    path = out / trial.name / "log.csv"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) if path.exists() else []
    rows = list(csv.DictReader(line for line in lines if line.endswith("\n")))  # a kill may have cut the last one
    return rows[-1] if rows else {}


def row_of(trial: Trial, out: Path, status: str, seconds: float | None) -> Row:
    """A run's row of sweep.csv: run, point, seed, status, steps, seconds, the metrics it logged last."""
    metrics = dict(read_last_row(trial, out))
    facts = {
        "seed": str(trial.seed),
        "status": status,
        "steps": metrics.pop("step", "0"),
        "seconds": "" if seconds is None else f"{seconds:.1f}",  # of its processes, with start and export
    }
    metrics.pop("seconds", None)  # of the last process' steps alone
    return {"run": trial.name, **trial.point, **facts, **metrics}


def seconds_of(rows: Mapping[str, Row], trial: Trial) -> float | None:
    """What a run has taken so far; None where that is not known."""
    known = rows.get(trial.name, {}).get("seconds")
    return float(known) if known else None


def read_rows(path: Path) -> dict[str, Row]:
    """The rows of sweep.csv by run; none if there is no such file."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["run"]: row for row in csv.DictReader(file)}


def columns_of(trials: Sequence[Trial], rows: Mapping[str, Row]) -> tuple[list[str], list[str]]:
    """The columns of sweep.csv before the metrics, and the metrics of any run."""
    first = list(dict.fromkeys(["run", *trials[0].point, *FACTS]))
    every = dict.fromkeys(name for trial in trials for name in rows.get(trial.name, {}))
    return first, [name for name in every if name not in first]


def summarize(trials: Sequence[Trial], rows: Mapping[str, Row]) -> tuple[list[str], list[list[str]]]:
    """A line per point: its values, how many of its runs are finished, and each metric over the finished ones.

    Returns:
        The header, and the lines; a cell is the mean, with the sample standard deviation where there are two runs.
    """
    metrics = columns_of(trials, rows)[1]
    seeds = 1 + max(trial.seed for trial in trials)
    lines = []
    for point in [trial.point for trial in trials if trial.seed == 0]:
        found = [rows[trial.name] for trial in trials if trial.point == point and trial.name in rows]
        finished = [row for row in found if row["status"] == FINISHED]
        cells = [format_spread([float(row[name]) for row in finished if row.get(name)]) for name in metrics]
        lines.append([*point.values(), f"{len(finished)} of {seeds}", *cells])
    return [*trials[0].point, "finished", *metrics], lines


def format_spread(values: Sequence[float]) -> str:
    """ "mean ± sample standard deviation"; the mean alone of one value, nothing of none."""
    if len(values) < 2:
        return "".join(f"{value:.4g}" for value in values)
    return f"{np.mean(values):.4g} ± {np.std(values, ddof=1):.2g}"


def write_tables(trials: Sequence[Trial], rows: Mapping[str, Row], out: Path) -> None:
    """sweep.csv and sweep.md as things stand."""
    known = [rows[trial.name] for trial in trials if trial.name in rows]
    first, metrics = columns_of(trials, rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, [*first, *metrics], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(known)
    write_text(out / "sweep.csv", text.getvalue())

    header, lines = summarize(trials, rows)
    page = [
        *(f"# Sweep of {trials[0].recipe.preset}", ""),
        *("The last logged metrics: mean ± sample standard deviation over the seeds that are finished.", ""),
        *(format_markdown(line) for line in [header, ["---"] * len(header), *lines]),
        "",
        *(f"- `{row['run']}`: {row['status']}" for row in known if row["status"] != FINISHED),
    ]
    write_text(out / "sweep.md", "\n".join(page).rstrip("\n") + "\n")


def format_markdown(cells: Iterable[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def show_table(trials: Sequence[Trial], rows: Mapping[str, Row]) -> None:
    """The summary on standard output: a line per point, or a column per point where lines would be too long."""
    console = Console()
    header, lines = summarize(trials, rows)
    cells = [header, *lines]
    if sum(max(map(len, column)) + 3 for column in zip(*cells, strict=True)) >= console.width:
        cells = [list(column) for column in zip(*cells, strict=True)]
    table = Table()
    for name in cells[0]:
        table.add_column(escape(name), overflow="fold")
    for line in cells[1:]:
        table.add_row(*map(escape, line))
    console.print(table)
