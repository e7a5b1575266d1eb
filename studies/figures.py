"""Tables that several calls fill, and `matplotlib.pyplot` without a display: what the studies share."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A CSV file of these rows, each with these columns."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a table that `write_table` wrote, all values text; none where there is no file.

    Raises:
        ValueError: the file has other columns.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != tuple(columns):
            raise ValueError(f"{path} has the columns {reader.fieldnames}, not {list(columns)}: name another table.")
        return list(reader)


def merge_rows(
    old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]], keys: Sequence[str]
) -> list[Mapping[str, Any]]:
    """Every old row whose values in the columns `keys`, as text, no new row has; new ones in the old ones' places.

    Rows that are new come last, in their order; of two new rows alike in all keys the later counts.
    """
    return list({tuple(str(row[key]) for key in keys): row for row in (*old, *new)}.values())


def read_finished_rows(options: Any, budget: Sequence[str], columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows that earlier calls made with the same budget.

    Args:
        options: of the study, with a table.
        budget: names of the options that every row of a table must share.
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


def pyplot() -> Any:
    """`matplotlib.pyplot` that draws into files, whatever the machine's display; loaded when first used."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plot

    return plot
