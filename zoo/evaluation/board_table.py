"""A board in files: likelihood.csv, which a later run goes on with, and likelihood.md with published values beside."""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import msgspec

from zoo.evaluation.board import (
    LIKELIHOOD,
    Board,
    BoardImages,
    BoardOptions,
    Declared,
    Published,
    Row,
    load_board_images,
    read_declared,
)
from zoo.evaluation.board_estimates import BASELINE, Task, list_tasks, make_rows
from zoo.evaluation.options import Progress
from zoo.evaluation.record import round_digits
from zoo.presets.table import PRESETS
from zoo.pretrained import local_directory

COLUMNS = tuple(item.name for item in fields(Row))
PUBLISHED = ("published", "published_protocol", "published_source")
ORDER = ("exact", "AIS", "RAISE", "estimate", "bound", "importance", "ELBO", "Monte Carlo")
TITLES = {
    "importance": "importance bound, K = {}",
    "ELBO": "ELBO",
    "Monte Carlo": "plain Monte Carlo, K = {}",
    "AIS": "AIS, {} chains",
    "RAISE": "RAISE, {} chains an image",
}
"""Estimator -> its title in a table, with its samples."""


def evaluate_board(
    folder: Path,
    options: BoardOptions,
    report_progress: Progress,
    say: Callable[[str], None] = print,
    declared: Declared | None = None,
) -> list[Row]:
    """Score every model that stands on a board, and write likelihood.csv and likelihood.md after each.

    A row that stands in the file already is kept where its protocol, its graph and its images are the same, and where
    its model can't be asked here.

    Args:
        folder: where both files are.
        options: the protocol.
        report_progress: called with a one-line progress message.
        say: is told what is left out, and why.
        declared: boards and published values; those of the package when not given.

    Raises:
        ValueError: no board's data are on this machine; the file there is another table.
        OSError: it can't be written.
    """
    declared = declared or read_declared()
    path = folder / f"{LIKELIHOOD}.csv"
    old, rows = read_rows(path), []
    for name in sorted({preset for value in declared.published for preset in value.presets}):
        if local_directory(name) is None:
            say(f"{name} is left out: it has no weights here.")
    for board in declared.boards:
        report_progress(f"{board.data}: images")
        try:
            images = load_board_images(board, options)
        except (OSError, RuntimeError, ValueError) as error:
            say(f"the board of {board.data} is left out: {error}")
            rows += [row for row in old if row.board == board.name]
            continue
        tasks = list_tasks(board, images, options, say, report_progress)
        for task in tasks:
            rows += find_rows(old, task, images) or make_rows(task, task.compute(), images)
            write_board(folder, [*rows, *(row for row in old if not is_replaced(row, rows))], declared)
        asked = {task.model for task in tasks}
        rows += [row for row in old if row.board == board.name and row.model in PRESETS and row.model not in asked]
    if not rows:
        raise ValueError("no board can be made: none of its data is on this machine.")
    write_board(folder, rows, declared)
    return rows


def find_rows(rows: Iterable[Row], task: Task, images: BoardImages) -> list[Row]:
    """Those that a task has made before, under the same protocol, of the same files and images."""
    known = (images.board.name, task.model, task.protocol, task.source_sha256, images.test.fingerprint)
    return [row for row in rows if (row.board, row.model, row.task, row.source_sha256, row.data_sha256) == known]


def is_replaced(row: Row, by: Iterable[Row]) -> bool:
    """Whether there is another row of the same board, model and estimator."""
    key = (row.board, row.model, row.estimator)
    return any((each.board, each.model, each.estimator) == key for each in by)


def read_rows(path: Path) -> list[Row]:
    """The rows of a table that `write_board` wrote; none where there is no file.

    Raises:
        ValueError: it is another table.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != (*COLUMNS, *PUBLISHED):
            raise ValueError(
                f"{path} is no board: its columns are {reader.fieldnames}. Name another folder with --out."
            )
        try:
            return [msgspec.convert({name: line[name] for name in COLUMNS}, Row, strict=False) for line in reader]
        except msgspec.ValidationError as error:
            raise ValueError(f"{path} is no board: {error}. Name another folder with --out.") from error


def write_board(folder: Path, rows: Sequence[Row], declared: Declared) -> None:
    """Both files; each is replaced as a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{LIKELIHOOD}.csv"
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, (*COLUMNS, *PUBLISHED), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            found = find_published(row, declared.published)
            beside = dict(zip(PUBLISHED, (found.value, found.protocol, found.source), strict=True)) if found else {}
            rounded = {"value": round_digits(row.value), "error": round_digits(row.error)}
            writer.writerow(asdict(row) | rounded | beside)
    partial.replace(path)
    tables = [make_table(board, rows, declared.published) for board in declared.boards]
    path.with_suffix(".md").write_text("\n\n".join(filter(None, tables)) + "\n", encoding="utf-8")


def find_published(row: Row, published: Iterable[Published]) -> Published | None:
    """What others report of such a model on this board, the first that is declared."""
    return next((each for each in published if each.board == row.board and row.model in each.presets), None)


def make_table(board: Board, rows: Sequence[Row], published: Sequence[Published]) -> str:
    """Markdown: models from the best to the worst by their best number, then what is published besides; or nothing."""
    of_board = [row for row in rows if row.board == board.name]
    if not of_board:
        return ""
    sign = 1 if board.unit == "nats" else -1
    models = {row.model: [each for each in of_board if each.model == row.model] for row in of_board}
    best = {model: sign * shown_rows(found)[0].value for model, found in models.items()}
    lines = [
        f"### {board.title}",
        "",
        f"| model | epochs | estimator | {'log p(x), nats' if sign > 0 else board.unit} | images | published |",
        "|---" * 6 + "|",
    ]
    for model in sorted(models, key=lambda name: -best[name]):
        for number, row in enumerate(shown_rows(models[model])):
            beside = find_published(row, published) if number == 0 else None
            cells = [
                (f"`{model}`" if model != BASELINE else model) if number == 0 else "",
                f"{row.epochs:.0f}" if number == 0 and model != BASELINE else "",
                title_of(row),
                format_nats(row),
                f"{row.count:,}",
                describe_published(beside) if beside else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    shown = {find_published(row, published) for row in of_board}
    for each in published:
        if each.board == board.name and each not in shown:
            lines.append(f"| {each.model} |  |  |  |  | {describe_published(each)} |")
    return "\n".join(lines)


def shown_rows(rows: Iterable[Row]) -> list[Row]:
    """One model's, in the order of `ORDER`; of the importance-weighted bounds the one with the most samples."""
    most = max((row.samples for row in rows if row.estimator == "importance"), default=0)
    kept = [row for row in rows if row.estimator != "importance" or row.samples == most]
    return sorted(kept, key=lambda row: ORDER.index(row.estimator))


def title_of(row: Row) -> str:
    """Such as "importance bound, K = 5,000, given the class"."""
    title = TITLES.get(row.estimator, row.estimator).format(f"{row.samples:,}")
    if row.estimator in ("exact", "estimate", "bound") and row.protocol and row.model != BASELINE:
        title += f" ({row.protocol})"
    return title + f", given {row.given}" * bool(row.given)


def format_nats(row: Row) -> str:
    """Value and standard error, with the digits that the error leaves."""
    digits = 2 if row.unit == "nats" else 3
    return f"{row.value:.{digits}f} ± {row.error:.{digits}f}"


def describe_published(value: Published) -> str:
    """Value, protocol and source."""
    return f"{value.value:g}: {value.protocol} ({value.source})"
