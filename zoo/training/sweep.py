"""Sweep: one recipe at every point of a grid of options, with several seeds, one run after another.

sweep.json         the recipe, the grid and the options: what a later call must share to go on here; and the precision
                   of every run whose own is "auto", found once so that the points can be compared
sweep.csv          one row per run: its point, seed, status, and the last row of its log
sweep.md           one row per point: mean and standard deviation of every metric over the seeds
NUMBER-POINT/      a run's folder
NUMBER-POINT.txt   what the run printed

Every run is a process of its own, so that one that dies takes nothing with it. Importing this needs no TensorFlow.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.markup import escape

from zoo.extras import require_extra
from zoo.training.recipe import AUTO, Policy, Recipe
from zoo.training.run_directory import check_same_run, find_runs_root, read_json, write_json
from zoo.training.sweep_grid import (
    Trial,
    check_models,
    choose_precision_apart,
    collect_presets,
    fix_precision,
    plan,
    read_grid,
)
from zoo.training.sweep_table import (
    FINISHED,
    STOPPED,
    Row,
    is_begun,
    is_finished,
    read_rows,
    row_of,
    seconds_of,
    show_table,
    write_tables,
)

FAILED = 1
SIGNALED = 128  # plus the signal's number, as shells count
FORWARDED = (signal.SIGINT, signal.SIGTERM)
POLLING = 0.2  # seconds between two looks at whether a signal came
Train = Callable[[Sequence[str], Path], int]  # a command and the file for its output -> exit status


class SignaledError(RuntimeError):
    """A signal stopped the sweep; the run under way was told, and has ended."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.status = SIGNALED + number


@dataclass(frozen=True)
class Options:
    """The sweep's own options."""

    grid: tuple[str, ...] = ()
    """What varies, as name=value,value: batch_size=32,64 or, of one player, generator_learning_rate=1e-4,2e-4. A name
    that is neither the recipe's nor an optimizer's is an argument of the model's constructor; one of several numbers,
    or with commas in it, stands in brackets: hidden=(64,32),(128,64)."""
    seeds: int = 1
    """Runs per point, with the seeds 0, 1, 2, ...; a later call may ask for more."""
    out: Path | None = None
    """Where the sweep is kept; by default a folder under ZOO_RUNS that the same command finds again."""


def main(recipe: Recipe, arguments: Sequence[str], prog: str) -> None:
    """Read the sweep's options, and after "--" the recipe's; sweep, and exit with the status.

    Args:
        recipe: what is swept.
        arguments: of the command line.
        prog: name of the command in its help.

    Raises:
        ValueError: a grid, or an option, that no run can be made of.
        RunError: the folder holds another sweep.
        MissingExtraError: TensorFlow is not installed.
    """
    ours, theirs = split_arguments(arguments)
    usage = "Train a recipe at every point of a grid, with several seeds. Options of the recipe itself follow after --."
    options = tyro.cli(Options, args=ours, prog=prog, description=usage)
    require_extra("zoo sweep", "train")  # each run is a process of its own, and would fail by itself
    grid = read_grid(options.grid)
    trials = plan(recipe, grid, options.seeds, theirs)
    out = options.out or choose_sweep_directory(recipe, grid, theirs)
    sys.exit(sweep(trials, out, {"recipe": recipe.preset, "grid": grid, "options": theirs}))


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands before the first "--", and what stands after it."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:at]), list(arguments[at + 1 :])


def choose_sweep_directory(recipe: Recipe, grid: Mapping[str, Sequence[str]], options: Sequence[str]) -> Path:
    """A folder named after what is swept, so that the same command goes on where it was interrupted."""
    digest = sha256(json.dumps([grid, list(options)], sort_keys=True).encode()).hexdigest()
    return find_runs_root() / "sweeps" / f"{recipe.preset}-{digest[:8]}"


@contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Within it, SIGINT and SIGTERM only add their number to the list.

    Python gives signals to the main thread alone: elsewhere this does nothing.
    """
    asked: list[int] = []
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, lambda came, frame: asked.append(came)) for number in FORWARDED}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_in_process(command: Sequence[str], output: Path) -> int:
    """Run `command`, its output appended to a file; SIGINT and SIGTERM are passed on to it.

    Returns:
        Its exit status, or minus the number of the signal that killed it.

    Raises:
        SignaledError: a signal came; the process has ended, and has saved what it saves.
    """
    # Unbuffered, or what it printed long before would come after the line that says why it failed.
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with output.open("ab") as file, catch_signals() as asked:
        # In a session of its own: Ctrl-C would reach it from the terminal, too, and a second signal ends it unsaved.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, start_new_session=True
        )
        sent = 0
        while process.poll() is None:
            for number in asked[sent:]:
                process.send_signal(number)
                sent += 1
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLLING)
    if asked:
        raise SignaledError(asked[0])
    return process.returncode


def make_command(trial: Trial, out: Path) -> list[str]:
    """The command that trains `trial`, or goes on with it."""
    resume = ["--resume"] if is_begun(trial, out) else []
    start = [sys.executable, "-m", "zoo.cli.main", "train", trial.recipe.preset]
    return [*start, *trial.options, "--run-dir", str(out / trial.name), *resume]


def find_reason(code: int, output: Path) -> str:
    """Why a run failed: the signal that killed it, or the last line it printed that has a word in it."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = [line.strip(" │") for line in output.read_text(encoding="utf-8", errors="replace").splitlines()]
    worded = [line for line in lines if any(character.isalnum() for character in line)]
    return worded[-1].removeprefix("error: ") if worded else f"exit status {code}"


def sweep(
    trials: Sequence[Trial],
    out: Path,
    identity: Mapping[str, Any],
    train: Train = run_in_process,
    console: Console | None = None,
) -> int:
    """Do every run that is not finished, one after another, and keep the tables up to date.

    Args:
        trials: of `plan`.
        out: the sweep's folder; a sweep that was interrupted goes on there.
        identity: what a later call must share to go on in `out`.
        train: does one run.
        console: for progress; by default standard error. The tables go to standard output.

    Returns:
        The exit status: 0; 1 if a run failed; 130 or 143 after SIGINT or SIGTERM.

    Raises:
        ValueError: `out` holds files that no sweep wrote, or the model refuses its arguments.
        RunError: `out` holds another sweep.
    """
    shown = console or Console(stderr=True)
    precision = claim(out, identity) or resolve_precision(trials, shown)
    if precision:
        trials = [fix_precision(trial, precision) for trial in trials]
    check_models(collect_presets(trial for trial in trials if not is_finished(trial, out)))
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "sweep.json", {**identity, "precision": precision})
    rows = read_rows(out / "sweep.csv")
    status, trained = 0, False
    try:
        for number, trial in enumerate(trials, start=1):
            label = f"{number}/{len(trials)} {trial.name}"
            if is_finished(trial, out):
                rows[trial.name] = row_of(trial, out, FINISHED, seconds_of(rows, trial))
                print_line(shown, f"{label}: {FINISHED} before")
                continue
            begins = "goes on" if is_begun(trial, out) else "begins"
            print_line(shown, f"{label}: {begins}, see {out / trial.name}.txt")
            outcome, trained = train_trial(trial, out, rows, train), True
            write_tables(trials, rows, out)
            show_table(trials, rows)
            print_line(shown, f"{label}: {outcome}, {rows[trial.name]['seconds']} s")
            status = status if outcome == FINISHED else FAILED
    except SignaledError as error:
        print_line(shown, f"{error}: the same command goes on.")
        status = error.status
    except KeyboardInterrupt:  # between two runs
        print_line(shown, "stopped between two runs: the same command goes on.")
        status = SIGNALED + signal.SIGINT
    else:
        if not trained:  # otherwise the last run's table says it all
            show_table(trials, rows)
    write_tables(trials, rows, out)
    print(out)
    return status


def claim(out: Path, identity: Mapping[str, Any]) -> Policy | None:
    """Refuse a folder that holds something else; returns the precision that the sweep in it has found for "auto".

    Raises:
        ValueError: files that no sweep wrote.
        RunError: another sweep; the message names every difference.
    """
    path = out / "sweep.json"
    if path.exists():
        precision: Policy | None = read_json(path).get("precision")
        check_same_run(path, {**identity, "precision": precision})
        return precision
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out} is something that no sweep wrote: choose another name.")
    return None


def resolve_precision(trials: Sequence[Trial], console: Console) -> Policy | None:
    """What "auto" comes to for all of the sweep's runs; None where none of them leaves it open."""
    recipes = [trial.recipe for trial in trials if trial.recipe.precision == AUTO]
    if not recipes:
        return None
    # Where some are compiled by XLA, all compute in what suits these.
    precision = choose_precision_apart(max(recipes, key=lambda recipe: recipe.xla))
    print_line(console, f"precision: {precision} in every run.")
    return precision


def train_trial(trial: Trial, out: Path, rows: dict[str, Row], train: Train) -> str:
    """Train one point with one seed and keep its row, whatever becomes of it; returns its status.

    Raises:
        SignaledError: a signal stopped the run.
    """
    output = out / f"{trial.name}.txt"
    before, began = seconds_of(rows, trial), time.monotonic()
    outcome = STOPPED
    try:
        code = train(make_command(trial, out), output)
        outcome = FINISHED if code == 0 else f"failed: {find_reason(code, output)}"
    finally:
        rows[trial.name] = row_of(trial, out, outcome, (before or 0.0) + time.monotonic() - began)
    return outcome


def print_line(console: Console, line: str) -> None:
    """One line of progress."""
    console.print(escape(line), highlight=False, soft_wrap=True)
