"""log.csv: read, as columns."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

Log = Mapping[str, np.ndarray]  # column -> its values, one a row; float64


def columns_of(rows: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Rows -> columns; NaN where a row lacks a column."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows], np.float64) for name in names}


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a log.csv, oldest first; NaN for a value that is no number. A line without a step is left out.

    There are none where there is no file, as before a run's first row.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        lines = [
            {name: number(text) for name, text in line.items() if isinstance(name, str)}
            for line in csv.DictReader(file, restval="")
        ]
    return [row for row in lines if np.isfinite(row.get("step", np.nan))]


def number(text: str) -> float:
    """The number that `text` writes; NaN if it writes none."""
    try:
        return float(text)
    except ValueError:
        return np.nan
