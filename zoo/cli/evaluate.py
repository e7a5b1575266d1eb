"""`zoo evaluate`: scores on the console, as JSON, or, of every preset, in files; a board of likelihoods."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from zoo.evaluation.board import BOARDS, BoardOptions
from zoo.evaluation.board_table import evaluate_board
from zoo.evaluation.console import show_progress, show_records
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.options import COUNT, EvaluationOptions
from zoo.evaluation.record import to_plain_data
from zoo.evaluation.tables import CHECKOUT, evaluate_all

OF_BOARDS = ("samples", "chains", "temperatures", "out")
NO_PROTOCOL = ("name", "all", "json", "board", "count", *OF_BOARDS)


@dataclass(frozen=True)
class Command(EvaluationOptions):
    """Score generated images against held-out ones, and what a model makes of those, with protocol and error bar."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = ""
    """A preset; the path of an exported directory, an .onnx file, or a folder or zip of images; a SavedModel as
    saved_model:PATH."""
    all: bool = False
    """Every preset with weights, in a checkout: writes results/*.csv, the README's table and the cards.
    With --metrics or --extractors, these scores are added to the cards."""
    board: Literal["likelihood"] | None = None
    """likelihood: every preset that says something of log p(x), beside one another: writes likelihood.csv and
    likelihood.md. What stands in the table already, of the same files and protocol, is kept. --count is then that of
    the test images, all by default."""
    samples: int | None = None
    """Of a board: latents of each image, by default 5,000."""
    chains: int | None = None
    """Of a board: chains of annealed importance sampling, by default 100."""
    temperatures: int | None = None
    """Of a board: their temperatures, by default 10,000."""
    out: Path | None = None
    """Of a board: the folder of its files, by default results/ of a checkout."""
    json: bool = False
    """Print JSON, one record per score."""


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ValueError: not one of a name, --all and --board, or options of another; what `evaluate`, `evaluate_all` and
            `evaluate_board` refuse.
    """
    command = tyro.cli(Command, args=list(arguments), prog="zoo evaluate")
    if [bool(command.name), command.all, command.board is not None].count(True) != 1:
        raise ValueError("zoo evaluate NAME, or --all, or --board likelihood: give one of the three.")
    if command.board is not None:
        run_board(command)
        return
    if given := [name for name in OF_BOARDS if getattr(command, name) is not None]:
        raise ValueError(f"{list_options(given)}: of a board; give --board {' or '.join(BOARDS)} and no name.")
    console = Console(stderr=True)
    with show_progress(console, describe_plan(command)) as report_progress:
        if command.all:
            records = evaluate_all(report_progress, console.print, options=command)
        else:
            records = evaluate(command.name, command, report_progress=report_progress)
    if command.json:
        print(json.dumps(to_plain_data(records), indent=2))
    else:
        show_records(records, Console())


def run_board(command: Command) -> None:
    """Make the board, and print its tables or rows.

    Raises:
        ValueError: options that a board has no use for; no folder; what `evaluate_board` refuses.
    """
    defaults = Command()
    names = [item.name for item in fields(Command) if item.name not in NO_PROTOCOL]
    if wrong := [name for name in names if getattr(command, name) != getattr(defaults, name)]:
        takes = list_options(["count", *OF_BOARDS, "json"])
        raise ValueError(f"{list_options(wrong)}: of no use to a board, which takes {takes}.")
    folder = command.out or CHECKOUT / "results"
    if command.out is None and not (CHECKOUT / "README.md").is_file():
        raise ValueError(f"{CHECKOUT} is no checkout: name the folder of the board's files with --out.")
    chosen = {name: getattr(command, name) for name in OF_BOARDS[:3] if getattr(command, name) is not None}
    options = BoardOptions(count=None if command.count == COUNT else command.count, **chosen)
    console = Console(stderr=True)
    with show_progress(console, "the boards") as report_progress:
        rows = evaluate_board(folder, options, report_progress, lambda line: console.print(line, highlight=False))
    if command.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        print((folder / f"{command.board}.md").read_text(encoding="utf-8"), end="")


def list_options(names: Sequence[str]) -> str:
    """Such as "--count, --out"."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def describe_plan(command: Command) -> str:
    """What will be compared, before anything is read."""
    if command.all:
        return "every preset that has weights"
    seeds = ", ".join(map(str, command.seeds))
    return f"{command.name}: {command.count:,} images for each of the seeds {seeds}, against real ones"
