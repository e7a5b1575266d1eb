"""What the programs that draw and tabulate share."""

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


def merged(
    old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]], keys: Sequence[str]
) -> list[Mapping[str, Any]]:
    """Every old row whose values in the columns `keys`, as text, no new row has; new ones in the old ones' places.

    A row without a place comes last, in its order; of two new rows alike in all keys the later counts.
    """
    return list({tuple(str(row[key]) for key in keys): row for row in (*old, *new)}.values())


def pyplot() -> Any:
    """`matplotlib.pyplot` that draws into files, whatever the machine's display; loaded when first used."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plot

    return plot
