"""Sweep: one recipe at every point of a grid of options, with several seeds, one run after another.

sweep.json         the recipe, the grid and the options: what a later call must share to go on here
sweep.csv          one row a run: its point, seed, status, and the last row of its log
sweep.md           one row a point: mean and standard deviation of every metric over the seeds
NUMBER-POINT/      a run's folder
NUMBER-POINT.txt   what the run printed

Every run is a process of its own, so that one that dies takes nothing with it. Importing this needs no TensorFlow.
"""

import csv
import dataclasses
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recipes.recipe import Recipe, check_arguments
from recipes.run_directory import check_same_run, runs_root, write_json, write_text
from zoo.presets import Preset, class_called
from zoo.quiet import start_tensorflow

FAILED = 1
SIGNALLED = 128  # plus the signal's number, as shells count
FORWARDED = (signal.SIGINT, signal.SIGTERM)
LISTENING = 0.2  # seconds between two looks at whether a signal came
FINISHED, STOPPED = "finished", "stopped"
OURS = ("seed", "run_dir", "resume", "dry_run")  # what the sweep itself gives every run
NOT_SWEPT = frozenset({"preset", "optimizers", "model", "smoke", *OURS})
FACTS = ("seed", "status", "steps", "seconds")  # columns of sweep.csv between the point and the metrics

Point = Mapping[str, str]  # name in the grid -> value, as typed
Row = Mapping[str, str]  # of sweep.csv
Train = Callable[[Sequence[str], Path], int]  # a command and the file for its output -> exit status


class SignalledError(RuntimeError):
    """A signal stopped the sweep; the run under way was told, and has ended."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.status = SIGNALLED + number


@dataclass(frozen=True)
class Options:
    """The sweep's own options."""

    grid: tuple[str, ...] = ()
    """What varies, as name=value,value: batch_size=32,64 or, of one player, generator_learning_rate=1e-4,2e-4. A name
    that is neither the recipe's nor an optimizer's is an argument of the model's constructor."""
    seeds: int = 1
    """Runs a point, with the seeds 0, 1, 2, ...; a later call may ask for more."""
    out: Path | None = None
    """Where the sweep is kept; by default a folder under ZOO_RUNS that the same command finds again."""


@dataclass(frozen=True)
class Run:
    """One point with one seed.

    Args:
        name: of its folder.
        point: its place in the grid.
        recipe: as it will be run.
        options: of the command line that makes `recipe` of the one that is swept.
    """

    name: str
    point: Point
    recipe: Recipe
    options: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Train steps in all."""
        return (self.recipe.small() if self.recipe.smoke else self.recipe).steps

    @property
    def seed(self) -> int:
        """Of the weights' start and all else that is random."""
        return self.recipe.seed


def main(recipe: Recipe, arguments: Sequence[str], prog: str) -> None:
    """Read the sweep's options, and after "--" the recipe's; sweep, and exit with the status.

    Args:
        recipe: what is swept.
        arguments: of the command line.
        prog: name of the command in its help.

    Raises:
        ValueError: a grid, or an option, that no run can be made of.
        RunError: the folder holds another sweep.
    """
    ours, theirs = split(arguments)
    usage = "Train a recipe at every point of a grid, with several seeds. Options of the recipe itself follow after --."
    options = tyro.cli(Options, args=ours, prog=prog, description=usage)
    grid = read_grid(options.grid)
    runs = plan(recipe, grid, options.seeds, theirs)
    out = options.out or default_directory(recipe, grid, theirs)
    sys.exit(sweep(runs, out, {"recipe": recipe.preset, "grid": grid, "options": theirs}))


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands before the first "--", and what stands after it."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:at]), list(arguments[at + 1 :])


def default_directory(recipe: Recipe, grid: Mapping[str, Sequence[str]], options: Sequence[str]) -> Path:
    """A folder named after what is swept, so that the same command goes on where it was interrupted."""
    digest = sha256(json.dumps([grid, list(options)], sort_keys=True).encode()).hexdigest()
    return runs_root() / "sweeps" / f"{recipe.preset}-{digest[:8]}"


# The plan


def read_grid(texts: Iterable[str]) -> dict[str, list[str]]:
    """`name=value,value` texts as name -> values, as typed; commas inside of brackets belong to a value.

    Raises:
        ValueError: no "=", no value, or a name or a value twice.
    """
    grid: dict[str, list[str]] = {}
    for text in texts:
        name, equals, listed = text.partition("=")
        values = split_values(listed)
        if not equals or not name.isidentifier() or not all(values):
            raise ValueError(f"--grid {text}: write name=value,value, such as batch_size=32,64.")
        if name in grid or len(set(values)) < len(values):
            raise ValueError(f"--grid {text}: give every name, and every value of it, once.")
        grid[name] = values
    return grid


def split_values(text: str) -> list[str]:
    """ "1,(2,3)" -> ["1", "(2,3)"]."""
    values, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            values.append("")
        else:
            values[-1] += character
    return values


def plan(recipe: Recipe, grid: Mapping[str, Sequence[str]], seeds: int, options: Sequence[str] = ()) -> list[Run]:
    """Every run of the sweep, each with its recipe: a value that no recipe takes is refused here, before any run.

    All points with seed 0 come first, then those with seed 1: they can be compared early, and more seeds can be added.

    Args:
        recipe: what is swept.
        grid: name -> values.
        seeds: runs a point.
        options: of the recipe's command line, for every run; the grid overrides them.

    Raises:
        ValueError: a count below one, an option that is the sweep's, a name or value that no recipe takes, or two
            points that are the same.
        SystemExit: a value that is none of its option's; tyro has said which.
    """
    if seeds < 1:
        raise ValueError(f"--seeds {seeds}: choose at least 1.")
    base = parse(recipe, options)
    for name in OURS:
        if getattr(base, name) != getattr(recipe, name):
            raise ValueError(f"--{dashed(name)} is not for the options after --: the sweep gives each run its own.")
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    runs: list[Run] = []
    for number, (seed, point) in enumerate(itertools.product(range(seeds), points), start=1):
        chosen = (*options, *options_of(point, base), "--seed", str(seed))
        name = f"{number:03d}-{readable(point, seed)}"
        runs.append(Run(name, point, parse(recipe, chosen), chosen))
    for first, second in itertools.combinations(runs[: len(points)], 2):
        if first.recipe == second.recipe:
            raise ValueError(f"--grid: {said(first.point)} and {said(second.point)} are the same run.")
    return runs


def parse(recipe: Recipe, options: Sequence[str]) -> Recipe:
    """The recipe that the options of `zoo train` make of `recipe`."""
    return tyro.cli(Recipe, default=recipe, args=list(options), prog=f"zoo train {recipe.preset}")


def options_of(point: Point, base: Recipe) -> list[str]:
    """A point of the grid as options of the recipe's command line.

    Raises:
        ValueError: a name that a sweep does not vary, or a switch that is neither True nor False.
    """
    options: list[str] = []
    own = {field.name for field in dataclasses.fields(base)}
    model: dict[str, str] = {}
    for name, value in point.items():
        path = optimizer_field(name, base)
        if path is not None:
            player, field = path
            options += option(f"optimizers.{player}.{field}", value, getattr(base.optimizers[player], field))
        elif name in NOT_SWEPT:
            raise ValueError(f"--grid {name}: a sweep does not vary it.")
        elif name in own:
            options += option(name, value, getattr(base, name))
        else:
            model[name] = f"{name}={value}"
    if model:  # --model gives the whole list: what is not in the grid stays
        kept = [pair for pair in base.model if pair.partition("=")[0] not in model]
        options += ["--model", *kept, *model.values()]
    return options


def optimizer_field(name: str, recipe: Recipe) -> tuple[str, str] | None:
    """ "generator_learning_rate" -> ("generator", "learning_rate"); None if it is no field of a player's optimizer."""
    for player, optimizer in recipe.optimizers.items():
        field = name.removeprefix(f"{player}_")
        if field != name and field in {each.name for each in dataclasses.fields(optimizer)}:
            return player, field
    return None


def option(path: str, value: str, now: Any) -> list[str]:
    """One option of the command line; where the value `now` is a truth value, its switch.

    Raises:
        ValueError: another value than True or False for a switch.
    """
    if not isinstance(now, bool):
        return [f"--{dashed(path)}", value]
    if value not in ("True", "False"):
        raise ValueError(f"--grid {path}={value}: choose from True and False.")
    *parents, name = path.split(".")
    return [f"--{dashed('.'.join([*parents, name if value == 'True' else f'no_{name}']))}"]


def dashed(name: str) -> str:
    """A field's name as the command line writes it."""
    return name.replace("_", "-")


def readable(point: Point, seed: int) -> str:
    """A point and a seed as part of a file's name."""
    text = "-".join([*(f"{name}={value}" for name, value in point.items()), f"seed={seed}"])
    return re.sub(r"[^\w.=+-]", "_", text, flags=re.ASCII)[:120]  # file systems stop at 255 bytes


def said(point: Point) -> str:
    """A point for people."""
    return " ".join(f"{name}={value}" for name, value in point.items())


def check_models(presets: Mapping[str, Preset]) -> None:
    """Build the model of every preset once, in another process, which gives back the memory TensorFlow takes.

    Args:
        presets: what the preset belongs to, for the message -> preset.

    Raises:
        ValueError: the constructor refuses its arguments.
    """
    if not presets:
        return
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as process:
        complaint = process.submit(first_complaint, presets).result()
    if complaint:
        raise ValueError(complaint)


def first_complaint(presets: Mapping[str, Preset]) -> str | None:
    """What the first constructor that refuses its arguments says; for a process of its own."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a GPU is not needed, and taking one would outlast the sweep's start
    start_tensorflow()
    for owner, preset in presets.items():
        model = class_called(preset.model)
        try:
            check_arguments(model, preset.arguments)
            model(**preset.arguments)
        except (ValueError, TypeError, LookupError) as error:
            return f"{owner}: {error}"
    return None


def models_of(runs: Iterable[Run]) -> dict[str, Preset]:
    """One preset for each different choice of the model's arguments; none where a run chooses no argument."""
    presets: dict[str, Preset] = {}
    for run in runs:
        preset = run.recipe.to_preset()
        if run.recipe.model and preset not in presets.values():
            presets[" ".join(run.recipe.model)] = preset
    return presets


# One run


@contextmanager
def listening() -> Iterator[list[int]]:
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


def in_a_process(command: Sequence[str], output: Path) -> int:
    """Run `command`, its output appended to a file; SIGINT and SIGTERM are passed on to it.

    Returns:
        Its exit status, or minus the number of the signal that killed it.

    Raises:
        SignalledError: a signal came; the process has ended, and has saved what it saves.
    """
    # Unbuffered, or what it printed long before would come after the line that says why it failed.
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with output.open("ab") as file, listening() as asked:
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
                process.wait(LISTENING)
    if asked:
        raise SignalledError(asked[0])
    return process.returncode


def command(run: Run, out: Path) -> list[str]:
    """What trains `run`, or goes on with it."""
    resume = ["--resume"] if is_begun(run, out) else []
    start = [sys.executable, "-m", "zoo.cli", "train", run.recipe.preset]
    return [*start, *run.options, "--run-dir", str(out / run.name), *resume]


def is_begun(run: Run, out: Path) -> bool:
    """Whether there is something to resume."""
    return (out / run.name / "config.json").exists()


def is_finished(run: Run, out: Path) -> bool:
    """Whether nothing is left to do: its export, which comes last and whole, is there."""
    return (out / run.name / "export").exists()


def last_logged(run: Run, out: Path) -> dict[str, str]:
    """The last whole row of a run's log; empty before the first."""
    path = out / run.name / "log.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    rows = list(csv.DictReader(line for line in lines if line.endswith("\n")))  # a kill may have cut the last one
    return rows[-1] if rows else {}


def reason(code: int, output: Path) -> str:
    """Why a run failed: the signal that killed it, or the last line it printed that has a word in it."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = [line.strip(" │") for line in output.read_text(encoding="utf-8", errors="replace").splitlines()]
    worded = [line for line in lines if any(character.isalnum() for character in line)]
    return worded[-1].removeprefix("error: ") if worded else f"exit status {code}"


# All runs


def sweep(
    runs: Sequence[Run],
    out: Path,
    identity: Mapping[str, Any],
    train: Train = in_a_process,
    console: Console | None = None,
) -> int:
    """Do every run that is not finished, one after another, and keep the tables up to date.

    Args:
        runs: of `plan`.
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
    claim(out, identity)
    check_models(models_of(run for run in runs if not is_finished(run, out)))
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "sweep.json", identity)
    rows = read_rows(out / "sweep.csv")
    status, trained = 0, False
    try:
        for number, run in enumerate(runs, start=1):
            label = f"{number}/{len(runs)} {run.name}"
            if is_finished(run, out):
                rows[run.name] = row_of(run, out, FINISHED, seconds_of(rows, run))
                tell(shown, f"{label}: {FINISHED} before")
                continue
            tell(shown, f"{label}: {'goes on' if is_begun(run, out) else 'begins'}, see {out / run.name}.txt")
            outcome, trained = do(run, out, rows, train), True
            write_tables(runs, rows, out)
            show_table(runs, rows)
            tell(shown, f"{label}: {outcome}, {rows[run.name]['seconds']} s")
            status = status if outcome == FINISHED else FAILED
    except SignalledError as error:
        tell(shown, f"{error}: the same command goes on.")
        status = error.status
    except KeyboardInterrupt:  # between two runs
        tell(shown, "stopped between two runs: the same command goes on.")
        status = SIGNALLED + signal.SIGINT
    else:
        if not trained:  # otherwise the last run's table says it all
            show_table(runs, rows)
    write_tables(runs, rows, out)
    print(out)
    return status


def claim(out: Path, identity: Mapping[str, Any]) -> None:
    """Refuse a folder that holds something else.

    Raises:
        ValueError: files that no sweep wrote.
        RunError: another sweep; the message names every difference.
    """
    if (out / "sweep.json").exists():
        check_same_run(out / "sweep.json", identity)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out} is something that no sweep wrote: choose another name.")


def do(run: Run, out: Path, rows: dict[str, Row], train: Train) -> str:
    """Train one run and keep its row, whatever becomes of it; returns its status.

    Raises:
        SignalledError: a signal stopped the run.
    """
    output = out / f"{run.name}.txt"
    before, began = seconds_of(rows, run), time.monotonic()
    outcome = STOPPED
    try:
        code = train(command(run, out), output)
        outcome = FINISHED if code == 0 else f"failed: {reason(code, output)}"
    finally:
        rows[run.name] = row_of(run, out, outcome, (before or 0.0) + time.monotonic() - began)
    return outcome


def tell(console: Console, line: str) -> None:
    """One line of progress."""
    console.print(escape(line), highlight=False, soft_wrap=True)


# The tables


def row_of(run: Run, out: Path, status: str, seconds: float | None) -> Row:
    """A run's row of sweep.csv: run, point, seed, status, steps, seconds, the metrics it logged last."""
    metrics = dict(last_logged(run, out))
    facts = {
        "seed": str(run.seed),
        "status": status,
        "steps": metrics.pop("step", "0"),
        "seconds": "" if seconds is None else f"{seconds:.1f}",  # of its processes, with start and export
    }
    metrics.pop("seconds", None)  # of the last process' steps alone
    return {"run": run.name, **run.point, **facts, **metrics}


def seconds_of(rows: Mapping[str, Row], run: Run) -> float | None:
    """What a run has taken so far; None where that is not known."""
    known = rows.get(run.name, {}).get("seconds")
    return float(known) if known else None


def read_rows(path: Path) -> dict[str, Row]:
    """The rows of sweep.csv by run; none if there is no such file."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["run"]: row for row in csv.DictReader(file)}


def columns_of(runs: Sequence[Run], rows: Mapping[str, Row]) -> tuple[list[str], list[str]]:
    """The columns of sweep.csv before the metrics, and the metrics of any run."""
    first = list(dict.fromkeys(["run", *runs[0].point, *FACTS]))
    every = dict.fromkeys(name for run in runs for name in rows.get(run.name, {}))
    return first, [name for name in every if name not in first]


def summary(runs: Sequence[Run], rows: Mapping[str, Row]) -> tuple[list[str], list[list[str]]]:
    """A line a point: its values, how many of its runs are finished, and each metric over the finished ones.

    Returns:
        The header, and the lines; a cell is the mean, with the sample standard deviation where there are two runs.
    """
    metrics = columns_of(runs, rows)[1]
    seeds = 1 + max(run.seed for run in runs)
    lines = []
    for point in [run.point for run in runs if run.seed == 0]:
        found = [rows[run.name] for run in runs if run.point == point and run.name in rows]
        finished = [row for row in found if row["status"] == FINISHED]
        cells = [spread([float(row[name]) for row in finished if row.get(name)]) for name in metrics]
        lines.append([*point.values(), f"{len(finished)} of {seeds}", *cells])
    return [*runs[0].point, "finished", *metrics], lines


def spread(values: Sequence[float]) -> str:
    """ "mean ± sample standard deviation"; the mean alone of one value, nothing of none."""
    if len(values) < 2:
        return "".join(f"{value:.4g}" for value in values)
    return f"{np.mean(values):.4g} ± {np.std(values, ddof=1):.2g}"


def write_tables(runs: Sequence[Run], rows: Mapping[str, Row], out: Path) -> None:
    """sweep.csv and sweep.md as things stand."""
    known = [rows[run.name] for run in runs if run.name in rows]
    first, metrics = columns_of(runs, rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, [*first, *metrics], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(known)
    write_text(out / "sweep.csv", text.getvalue())

    header, lines = summary(runs, rows)
    page = [
        *(f"# Sweep of {runs[0].recipe.preset}", ""),
        *("The last logged metrics: mean ± sample standard deviation over the seeds that are finished.", ""),
        *(markdown(line) for line in [header, ["---"] * len(header), *lines]),
        "",
        *(f"- `{row['run']}`: {row['status']}" for row in known if row["status"] != FINISHED),
    ]
    write_text(out / "sweep.md", "\n".join(page).rstrip("\n") + "\n")


def markdown(cells: Iterable[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def show_table(runs: Sequence[Run], rows: Mapping[str, Row]) -> None:
    """The summary on standard output: a line a point, or a column a point where lines would be too long."""
    console = Console()
    header, lines = summary(runs, rows)
    cells = [header, *lines]
    if sum(max(map(len, column)) + 3 for column in zip(*cells, strict=True)) >= console.width:
        cells = [list(column) for column in zip(*cells, strict=True)]
    table = Table()
    for name in cells[0]:
        table.add_column(escape(name), overflow="fold")
    for line in cells[1:]:
        table.add_row(*map(escape, line))
    console.print(table)
