"""log.csv: a row of metrics every so many steps, written as text, read as columns."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from zoo.training.run_directory import RunError, write_text

BAD = "\N{REPLACEMENT CHARACTER}"  # what bytes that are no UTF-8 are read as
Log = Mapping[str, np.ndarray]  # column -> its values, one per row; float64


def columns_of(rows: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Rows -> columns; NaN where a row lacks a column."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows], np.float64) for name in names}


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a log.csv, oldest first; NaN for a value that is no number. A line without a step is left out.

    There are none where there is no file, as before a run's first row.

    Raises:
        RunError: it can't be read as lines of columns.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            lines = [
                {name: parse_number(text) for name, text in line.items() if isinstance(name, str)}
                for line in csv.DictReader(file, restval="")
            ]
    except csv.Error as error:
        raise RunError(f"{path} is damaged ({error}): remove its bad lines, or move it away.") from None
    return [row for row in lines if np.isfinite(row.get("step", np.nan))]


def parse_number(text: str) -> float:
    """The number that `text` writes; NaN if it writes none."""
    try:
        return float(text)
    except ValueError:
        return np.nan


def append_row(path: Path, row: Mapping[str, str]) -> None:
    """Add a row to a log.csv; columns that the file lacks, as when scores are asked for later, become its last."""
    path.touch()
    with path.open("r+", newline="", encoding="utf-8") as file:
        known = next(csv.reader(file), [])
        if set(row) <= set(known):
            file.seek(0, os.SEEK_END)
            csv.DictWriter(file, known, restval="", lineterminator="\n").writerow(row)
            return
    table = io.StringIO()
    # A damaged line may have more values than columns: what no column names is left out, as `read_log` does.
    columns = dict.fromkeys([*known, *row])
    writer = csv.DictWriter(table, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows([*csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))), row])
    write_text(path, table.getvalue())


def drop_rows_after(path: Path, step: int) -> Path | None:
    """Drop the rows of a log.csv that a run resumed at `step` will write again, and lines that a kill, a full disk or
    a bad one has damaged; nothing where there is no file.

    Returns:
        The log's new name where even its header is damaged, so that no row can be read: the run begins another.
    """
    if not path.exists():
        return None
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    # A line without its end was cut, even where it reads as a row: "1" may be the beginning of 14.
    header, *rows = [line for line in lines if line.endswith("\n")] or [""]
    if rows and (BAD in header or header.split(",")[0] != "step"):
        return path.replace(path.with_name("log.damaged.csv"))
    steps = [row.split(",")[0] for row in rows]
    kept = [
        row
        for row, text in zip(rows, steps, strict=True)
        if text.isdecimal() and parse_number(text) <= step and BAD not in row
    ]
    write_text(path, "".join([header, *kept]))
    return None
