"""A run's folder: where it lies, and everything in it that is needed to repeat the run.

config.json        recipe, model and data: what decides the weights
environment.json   versions, machine, devices, why the run computes in its precision
log.csv            one row of metrics every `log_every` steps
tensorboard/       the same metrics
samples/           grids of the same fixed latents
checkpoints/       the last `keep` checkpoints, each with the sha256 of its files
best/              the checkpoint with the best score so far, where `score_every` asks for scores
report.html        curves, grids and what is wrong, as one page
export/            weights, ONNX, SavedModel, card
claim-N.json       which process writes here, while one does
"""

import json
import os
import platform
import shlex
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import platformdirs

from serving.card import to_line
from zoo.command_line import find_writable
from zoo.training.recipe import Recipe

TIME = "%Y-%m-%d-%H%M%S-%f"  # names a run's folder
ROOM = 160  # bytes that names within a run's folder add to its path, at most
PATH_MAX = 4096  # bytes of a path, of Linux
DEPTH_LIMIT = 100  # objects and arrays in one another; those of a run are a few

PACKAGES = ("generative-zoo", "tensorflow", "keras", "numpy", "tensorflow-datasets", "onnxruntime-gpu", "onnxruntime")
MEND = "Put back a copy of it, or begin a new run in another folder."


class RunError(RuntimeError):
    """A run that can't be begun or resumed; the message says what to do."""


def find_runs_root() -> Path:
    """ZOO_RUNS, or `runs` in the user's data directory: outside any checkout."""
    chosen = os.environ.get("ZOO_RUNS")
    return Path(chosen).expanduser() if chosen else platformdirs.user_data_path("generative-zoo") / "runs"


def choose_directory(recipe: Recipe, *, worker: int = 0, worker_count: int = 1) -> Path:
    """The folder of a new run of `recipe`, or of the one to resume.

    Several workers share one: the chief writes it, and all read checkpoints from it.

    Args:
        recipe: whose preset names the folder where it does not say which one.
        worker: number of this one; 0 is the chief.
        worker_count: how many there are.

    Raises:
        RunError: a new run in a folder that holds one, nothing to resume, or several workers and no folder named.
    """
    run_dir = recipe.run_dir
    if worker_count > 1 and run_dir is None:
        raise RunError("several workers need --run-dir, the same folder on all of them, on a file system they share.")
    if run_dir is None:
        parent = find_runs_root() / (f"{recipe.preset}-smoke" if recipe.smoke else recipe.preset)
        if not recipe.resume:
            return parent / name_run(parent)
        # A folder that was renamed by hand counts as older than those that say when they were begun.
        runs = sorted(parent.glob("*/config.json"), key=lambda path: (read_time(path.parent) or datetime.min, path))
        if not runs:
            raise RunError(f"no run of {parent.name} under {parent} to resume.")
        return runs[-1].parent
    run_dir = run_dir.expanduser()  # of --run-dir=~/name, which a shell leaves as it is
    check_path(run_dir)
    if worker == 0:  # the others would find what the chief has just written
        holds_run = (run_dir / "config.json").exists()
        if recipe.resume and not holds_run:
            raise RunError(f"no run in {run_dir} to resume: it has no config.json.")
        if holds_run and not recipe.resume:
            raise make_refusal(run_dir)
    return run_dir


def make_refusal(directory: Path) -> RunError:
    """The error of a new run in a folder that holds one."""
    return RunError(f"{directory} holds a run already: go on with --resume, or choose another --run-dir.")


def name_run(parent: Path) -> str:
    """A name for a new run in `parent`: the time, and later than every run's there though the clock was set back."""
    now = datetime.now()
    latest = max(filter(None, map(read_time, parent.glob("*"))), default=datetime.min)
    return max(now, latest + timedelta(microseconds=1)).strftime(TIME)


def read_time(directory: Path) -> datetime | None:
    """When a run was begun by the name of its folder; None where it does not say."""
    try:
        return datetime.strptime(directory.name, TIME)
    except ValueError:
        return None


def check_path(directory: Path) -> None:
    """Refuse a folder that a run could not be written in, before it has trained for hours.

    Raises:
        RunError: it is a file, lies beneath one or can't be looked at, or its path is too long or no UTF-8.
    """
    path = directory.absolute()
    try:
        length = len(str(path).encode())
    except UnicodeEncodeError:
        raise RunError(f"--run-dir {directory!s}: its name is no UTF-8: choose another.") from None
    if length + ROOM > PATH_MAX:
        raise RunError(f"--run-dir: a path of {length} bytes; choose one of at most {PATH_MAX - ROOM}.")
    try:
        above, writable = find_writable(path)
    except OSError as error:
        raise RunError(f"--run-dir {directory}: {error.strerror}: choose another.") from None
    if not writable:
        what = "may not be written in" if above.is_dir() else "is a file"
        raise RunError(f"--run-dir {directory}: {above} {what}: choose another.")


def make_resume_options(directory: Path) -> str:
    """The options that go on with the run in `directory`, as words of a shell, from any folder."""
    return f"--resume --run-dir {shlex.quote(str(directory.absolute()))}"


def read_config(directory: Path) -> dict[str, Any]:
    """config.json of a run.

    Raises:
        RunError: it is damaged.
    """
    found = read_json(directory / "config.json")
    for name in ("recipe", "model", "model_facts", "optimizers", "data", "options"):
        if not isinstance(found.get(name, {}), dict):
            raise RunError(f"{directory / 'config.json'} is damaged: its {name!r} should be a JSON object. {MEND}")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        RunError: it holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged, it is no JSON ({error}). {MEND}") from None
    if not isinstance(found, dict):
        raise RunError(f"{path} is damaged: it should hold a JSON object. {MEND}")
    values, depth = [found], 0
    while values := [item for value in values for item in iterate_items(value)]:
        depth += 1
        if depth > DEPTH_LIMIT:  # what goes through it calls itself for each level
            raise RunError(f"{path} is damaged, it nests more than {DEPTH_LIMIT} levels deep. {MEND}")
    return found


def iterate_items(value: Any) -> Iterable[Any]:
    """What a JSON object or array holds; nothing of another value."""
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def require_run(directory: Path, worker: int) -> None:
    """Refuse a folder in which a worker sees no run.

    Raises:
        RunError: it has no config.json.
    """
    if not (directory / "config.json").exists():
        raise RunError(f"worker {worker} sees no run in {directory}: is that on a file system all share?")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write to a temporary name, then rename."""
    temporary = path.with_name(f"{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def check_same_run(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse to resume into a configuration that would alter the weights; options that may change are passed over.

    Args:
        path: of a JSON file.
        config: what it must say; only where this has "options" are those of the file compared.

    Raises:
        RunError: naming every difference, or the file is damaged.
    """
    before = flatten({key: value for key, value in read_json(path).items() if key in config or key != "options"})
    now = flatten(json.loads(json.dumps(config, default=str)))
    changed = [
        to_line(f"{key:.200} was {before.get(key)!r:.200}, now {now.get(key)!r:.200}")
        for key in sorted(before | now)
        if before.get(key) != now.get(key)
    ]
    if changed:
        raise RunError(
            f"{path.parent} was begun with another configuration: {'; '.join(changed)}. "
            "Resume with the same options, or begin a new run."
        )


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted keys."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {
        key: leaf
        for name, item in value.items()
        for key, leaf in flatten(item, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def list_versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Version of each package that is installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def describe_environment(devices: list[str], threads: int | None) -> dict[str, Any]:
    """What the run ran on."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "devices": devices,
        "versions": list_versions(),
    }
