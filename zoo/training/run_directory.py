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
"""

import json
import os
import platform
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import platformdirs

from zoo.training.recipe import Recipe

PACKAGES = ("generative-zoo", "tensorflow", "keras", "numpy", "tensorflow-datasets", "onnxruntime-gpu", "onnxruntime")


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
            return parent / datetime.now().strftime("%Y-%m-%d-%H%M%S-%f")
        runs = sorted(path.parent for path in parent.glob("*/config.json"))
        if not runs:
            raise RunError(f"no run of {parent.name} under {parent} to resume.")
        return runs[-1]
    if worker == 0:  # the others would find what the chief has just written
        holds_run = (run_dir / "config.json").exists()
        if recipe.resume and not holds_run:
            raise RunError(f"no run in {run_dir} to resume: it has no config.json.")
        if holds_run and not recipe.resume:
            raise RunError(f"{run_dir} holds a run already: go on with --resume, or choose another --run-dir.")
    return run_dir


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
    temporary = path.with_suffix(path.suffix + ".partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def check_same_run(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse to resume into a configuration that would alter the weights.

    Raises:
        RunError: naming every difference.
    """
    before = flatten(json.loads(path.read_text(encoding="utf-8")))
    now = flatten(json.loads(json.dumps(config, default=str)))
    changed = [
        f"{key} was {before.get(key)!r}, now {now.get(key)!r}"
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
