"""Where the seconds go between a command and what it is for: the first train steps of `zoo train`, the scores of
`zoo evaluate`.

    python -m benchmarks.startup
    python -m benchmarks.startup --commands evaluate --arguments="--seeds 0" --repeats 3

Each command runs in processes of its own; a phase has its seconds by the clock, and the CPU seconds of all threads of
the process, which other programs on the machine change far less. A phase within another is not counted in the outer
one. An import is charged to the first package of `IMPORTS` that asks for it. `zoo train` is stopped after its second
step; `zoo evaluate` runs to its end, the first time with an empty cache. Nothing is asserted.
"""

import builtins
import json
import os
import runpy
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Literal

import tyro

START = "interpreter, command line"
IMPORTS = {
    "tensorflow": "import tensorflow",
    "keras": "import keras",
    "tensorflow_datasets": "import tensorflow_datasets",
    "tensorflow_probability": "import tensorflow_probability",
    "onnxruntime": "import onnxruntime",
    "zoo": "import zoo and others",
}
"""Top-level package -> the phase that its import counts in."""

# Module -> name in it, with the class where it is a method -> phase. A name is replaced where it is called from.
FUNCTIONS: Mapping[str, Mapping[str, str]] = {
    "zoo.training.main": {"parse_recipe": "options"},
    "zoo.training.run": {
        "choose_strategy": "devices",
        "load_splits": "data",
        "build_model": "build the networks",
        "build_and_compile": "build the optimizers",
    },
    "zoo.training.train": {
        "begin_or_resume": "begin the run",
        "distributed_batches": "input pipeline",
        "RunCallback": "first grid, scorer",
    },
    "zoo.evaluation.evaluate": {
        "open_resolved": "open the model",
        "load_reference": "real images",
        "choose_extractors": "open the extractor",
        "score_held_out": "held-out scores",
    },
    "zoo.evaluation.source": {"GeneratorSource._draw_batch": "generate"},
    "zoo.evaluation.extractors": {"ClassifierExtractor.__call__": "features"},
    "zoo.evaluation.scores": {"SampleStatistics.update": "moments"},
    "zoo.evaluation.generated": {
        "GeneratedEvaluation.cached_baselines": "baselines, but for their features and scores",
        "GeneratedEvaluation.score_paths": "paths, but for their images and features",
    },
}


@dataclass(frozen=True)
class Options:
    """What is measured."""

    preset: str = "dcgan-fashion-mnist"
    """Which preset."""
    commands: tuple[Literal["train", "evaluate"], ...] = ("train", "evaluate")
    """Of `zoo`."""
    arguments: str = ""
    """More options of the commands, as one text."""
    repeats: int = 1
    """Processes per command; the medians are shown, the first evaluation, with an empty cache, by itself."""
    json: bool = False
    """Print JSON."""


class Phases:
    """Seconds of one process, by phase; one thread enters and leaves them.

    Args:
        began: `time.monotonic()` when the process was started.
        clock: wall-clock and CPU seconds so far.
    """

    def __init__(
        self,
        began: float,
        clock: Callable[[], tuple[float, float]] = lambda: (time.monotonic(), time.process_time()),
    ) -> None:
        self.clock = clock
        self.began = self.charged = (began, 0.0)
        self.open = [START]
        self.seconds: dict[str, tuple[float, float]] = {}

    def charge(self) -> None:
        """Count the time since the last call in the innermost open phase."""
        now, name = self.clock(), self.open[-1]
        wall, cpu = self.seconds.get(name, (0.0, 0.0))
        self.seconds[name] = wall + now[0] - self.charged[0], cpu + now[1] - self.charged[1]
        self.charged = now

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens inside in this phase."""
        self.charge()
        self.open.append(name)
        try:
            yield
        finally:
            self.charge()
            self.open.pop()

    def mark(self, name: str) -> None:
        """Keep the time since the process was started, the first time that this is called with a name."""
        self.charge()
        self.seconds.setdefault(f"= {name}", (self.charged[0] - self.began[0], self.charged[1] - self.began[1]))

    def wrap(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The same function, its calls counted in a phase."""

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name):
                return function(*args, **kwargs)

        return timed


def run_child(command: str, preset: str, arguments: list[str], began: float, result: str) -> None:
    """Run a command of `zoo` in this process, and write its phases as JSON."""
    phases = Phases(began)

    def finish(status: int) -> None:
        phases.mark("all")
        Path(result).write_text(json.dumps(phases.seconds))
        sys.stdout.flush()
        os._exit(status)  # a run that is stopped here has nothing to save

    watch_imports(phases, lambda module: instrument(module, phases, finish))
    watch_first_line(phases)
    sys.argv = ["zoo", command, preset, *arguments]
    try:
        runpy.run_module("zoo.cli.main", run_name="__main__")
    except SystemExit as error:
        finish(int(error.code or 0))
    finish(0)


def watch_imports(phases: Phases, when_imported: Callable[[str], None]) -> None:
    """Count imports in phases, and call `when_imported` once with the name of each module of `zoo`."""
    plain, seen, depth = builtins.__import__, set[str](), 0

    def timed(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        nonlocal depth
        phase = IMPORTS.get(name.partition(".")[0]) if level == 0 else None
        depth += 1
        try:
            # Inside of one of these packages, everything is its own.
            if phase is None or name in sys.modules or phase in phases.open:
                return plain(name, globals, locals, fromlist, level)
            with phases.phase(phase):
                return plain(name, globals, locals, fromlist, level)
        finally:
            depth -= 1
            if depth == 0:  # modules are whole only then
                for module in (FUNCTIONS.keys() | {"zoo.core.model"}) & sys.modules.keys() - seen:
                    seen.add(module)
                    when_imported(module)

    builtins.__import__ = timed


def watch_first_line(phases: Phases) -> None:
    """Mark when the command first writes to standard error, where its progress goes; as on a terminal."""
    write = sys.stderr.write
    sys.stderr.isatty = lambda: True  # type: ignore[method-assign]

    def marked(text: str) -> int:
        if text.strip():
            phases.mark("first line")
        return write(text)

    sys.stderr.write = marked  # type: ignore[method-assign]


def instrument(module: str, phases: Phases, finish: Callable[[int], None]) -> None:
    """Replace the functions of `FUNCTIONS` in a module; in that of the models, make of each step a phase."""
    for path, name in FUNCTIONS.get(module, {}).items():
        owner: Any = sys.modules[module]
        *classes, attribute = path.split(".")
        for each in classes:
            owner = getattr(owner, each)
        setattr(owner, attribute, phases.wrap(getattr(owner, attribute), name))
    if module == "zoo.evaluation.scores":
        groups = sys.modules[module].GROUPS
        groups.update({group: phases.wrap(score, f"score: {group}") for group, score in groups.items()})
    if module == "zoo.core.model":
        of_models = sys.modules[module].GenerativeModel
        make = of_models.make_train_function

        def make_timed(model: Any, force: bool = False) -> Callable[[Any], Any]:
            plain, steps = make(model, force), iter(("first step", "second step"))

            def train(iterator: Any) -> Any:
                if not model.run_eagerly:
                    with phases.phase("trace"):
                        plain.get_concrete_function(iterator)
                name = next(steps)
                with phases.phase(name):
                    logs = {key: float(value) for key, value in plain(iterator).items()}  # waits for it
                phases.mark(name)
                if name == "second step":
                    finish(0)
                return logs

            model.train_function = train  # what Keras calls
            return train

        of_models.make_train_function = make_timed


def measure(command: str, options: Options, home: str) -> dict[str, list[float]]:
    """Phase -> seconds and CPU seconds of one process.

    Raises:
        RuntimeError: the command failed.
    """
    result = Path(home) / "phases.json"
    given = (command, options.preset, shlex.split(options.arguments), time.monotonic(), str(result))
    code = f"from benchmarks.startup import run_child; run_child(*{given!r})"
    environment = {**os.environ, "ZOO_HOME": home, "ZOO_RUNS": str(Path(home) / "runs")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"zoo {command} {options.preset} failed:\n{done.stderr[-2000:]}")
    return json.loads(result.read_text())


def take_medians(runs: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    """Phase -> the medians of its seconds and CPU seconds; a phase that a run does not have took it none."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {
        name: [statistics.median(run.get(name, (0.0, 0.0))[unit] for run in runs) for unit in (0, 1)] for name in names
    }


def main(options: Options) -> None:
    """Measure, print a table for each command."""
    found: dict[str, dict[str, list[float]]] = {}
    for command in options.commands:
        with tempfile.TemporaryDirectory() as home:
            runs = [measure(command, options, home) for _ in range(options.repeats)]
        title = f"zoo {command} {options.preset}"
        if command == "evaluate":
            found[f"{title}, empty cache"] = take_medians(runs[:1])
            title, runs = f"{title}, full cache", runs[1:]
        if runs:
            found[title] = take_medians(runs)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    for title, phases in found.items():
        table = Table("phase", "seconds", "CPU seconds", title=title)
        for name, (wall, cpu) in sorted(phases.items(), key=lambda item: item[0].startswith("=")):
            table.add_row(name, f"{wall:.2f}", f"{cpu:.2f}")
        Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
