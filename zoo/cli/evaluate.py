"""`zoo evaluate`: scores on the console, as JSON, or, of every preset, in files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console

from zoo.evaluation.console import show_progress, show_records
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.options import EvaluationOptions
from zoo.evaluation.record import to_plain_data
from zoo.evaluation.tables import evaluate_all


@dataclass(frozen=True)
class Command(EvaluationOptions):
    """Score generated images against held-out ones, and what a model makes of those, with protocol and error bar."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = ""
    """A preset; the path of an exported directory, an .onnx file, or a folder or zip of images; a SavedModel as
    saved_model:PATH."""
    all: bool = False
    """Every preset with weights, in a checkout: writes results/*.csv, the README's table and the cards.
    With --metrics or --extractors, these scores are added to the cards."""
    json: bool = False
    """Print JSON, one record per score."""


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ValueError: neither a name nor --all, or both; what `evaluate` and `evaluate_all` refuse.
    """
    command = tyro.cli(Command, args=list(arguments), prog="zoo evaluate")
    if bool(command.name) == command.all:
        raise ValueError("zoo evaluate NAME, or zoo evaluate --all: give one of the two.")
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


def describe_plan(command: Command) -> str:
    """What will be compared, before anything is read."""
    if command.all:
        return "every preset that has weights"
    seeds = ", ".join(map(str, command.seeds))
    return f"{command.name}: {command.count:,} images for each of the seeds {seeds}, against real ones"
