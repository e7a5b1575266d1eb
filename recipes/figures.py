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


def pyplot() -> Any:
    """`matplotlib.pyplot` that draws into files, whatever the machine's display; loaded when first used."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plot

    return plot
