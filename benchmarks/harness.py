"""Contenders take turns, each in a process of its own that stays alive between its turns.

Only one runs at a time, and a round gives every contender one turn, so that a shared machine's drift hits all alike.
The parent loads no framework: it sends a child (batch size, calls) and gets seconds back.
"""

import json
import math
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from statistics import median
from subprocess import PIPE, Popen
from typing import Any

from rich.console import Console
from rich.table import Table

import zoo.core  # noqa: F401 (settings that TensorFlow reads when a child imports it)
from zoo.training.processor import BFLOAT16, read_processor_flags

LATENT_DIM, CHANNELS = 100, 3  # as in PyTorch's DCGAN example
BASELINE = "pytorch"
PACKAGES = ("tensorflow", "keras", "torch", "onnxruntime", "onnxruntime-gpu", "numpy")
PRODUCT_SIDE = 2048  # of the matrices whose product is the bound: three of them fill no core's cache
PRODUCTS_A_TURN = 5  # the fastest of all rounds is the bound
COLUMNS = {
    "precision": "{precision}",
    "images/s": "{images_per_second:.1f}",
    "min - max": "{slowest:.1f} - {fastest:.1f}",
    "x baseline": "{ratio:.2f}",
    "of the bound": "{share_of_bound:.0%}",
    "ms a call": "{milliseconds_per_call:.1f}",
    "images/CPU s": "{images_per_processor_second:.1f}",
    "cores busy": "{cores_busy:.2f}",
    "peak MiB": "{peak_mib:.0f}",
}
OF_BOUND = ("precision", "of the bound")  # columns where FLOPs are known
RSS_PER_MIB = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
Turns = Sequence[Mapping[str, float]]


class NotRunError(RuntimeError):
    """A contender can't run here; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """What every benchmark takes from the command line."""

    image_size: int = 64
    """Side of the images in pixels, a power of two from 8."""
    width: int = 64
    """Channels of the largest map."""
    rounds: int = 7
    """Turns each contender gets; one more before them, to warm up, is not counted."""
    json: bool = False
    """Print one JSON object instead of tables."""

    def __post_init__(self) -> None:
        """Refuse numbers below 1 with a ValueError."""
        for name, value in asdict(self).items():
            if any(type(n) is int and n < 1 for n in (value if isinstance(value, (tuple, list)) else [value])):
                raise ValueError(f"{name}={value}: choose at least 1.")


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    """What a comparison of contenders takes as well."""

    threads: int = os.cpu_count() or 1
    """CPU threads each contender may use."""
    contenders: tuple[str, ...] = ()
    """Which to run; all by default."""
    baseline: str = BASELINE
    """The contender that ratios are to, in the same precision where it has that, such as "pytorch-bfloat16"; where it
    does not run, the first that does."""


@dataclass(frozen=True)
class Contender:
    """One contender, built and ready."""

    run: Callable[[int, int], int]
    """(batch size, calls) -> the calls it made, at least those; returns when the last one's result is on the host."""
    parameters: Mapping[str, int] = field(default_factory=dict)
    """Network -> its trainable parameters, where the contender can tell."""
    precision: str = "float32"
    """What its products of matrices are computed in: "float32" or "bfloat16"."""
    images_per_row: int = 1
    """Images that a row of the batch holds: one for each update of a critic."""
    note: str = ""
    """What a reader of its figures has to know."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the parent wants to know of it, as plain data."""


def parameters_of(**networks: Iterable[Any]) -> dict[str, int]:
    """Network -> how many numbers its parameters hold; each has a `shape`."""
    return {name: sum(math.prod(parameter.shape) for parameter in network) for name, network in networks.items()}


def import_pytorch(peer: str = "dcgan") -> tuple[Any, Any]:
    """`torch` and a peer written in it, a module of `benchmarks.peers`; NotRunError where it is not installed."""
    try:
        return import_module("torch"), import_module(f"benchmarks.peers.{peer}")
    except ImportError as error:
        raise NotRunError(f"PyTorch can't be imported: {error}") from None


def serve(module: str, name: str, options: str) -> None:
    """The child's side: build contender `name` of `module`, then run what standard input asks for."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not mix with the replies
    try:
        benchmark = import_module(module)
        contender = benchmark.CONTENDERS[name](benchmark.Options(**json.loads(options)))
        built = {each.name: getattr(contender, each.name) for each in fields(contender) if each.name != "run"}
        print(json.dumps(built), file=replies)
        for line in sys.stdin:
            batch, calls = json.loads(line)
            wall, processor = time.perf_counter(), time.process_time()
            made = contender.run(batch, calls)
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / RSS_PER_MIB
            turn = {"calls": made, "seconds": wall, "processor": processor, "peak_mib": peak}
            print(json.dumps(turn), file=replies)
    except NotRunError as error:
        print(json.dumps({"not_run": str(error)}), file=replies)


class Process:
    """The parent's side of one contender.

    Args:
        module: dotted name; has `CONTENDERS`, name -> (options -> Contender), and `Options`.
        name: one of its contenders.
        options: what the child is given, as a dataclass.
        folder: for the child's log and what it compiles.
        environment: variables that differ from this process's own.
        label: what messages call it; by default its name. Labels differ where processes share a folder.
    """

    def __init__(
        self, module: str, name: str, options: Any, folder: Path, environment: Mapping[str, str], label: str = ""
    ):
        self.name, root = label or name, Path(__file__).parents[1]
        self.log = folder / f"{self.name}.log"
        code = "import sys; from benchmarks.harness import serve; serve(*sys.argv[1:])"
        command = [sys.executable, "-c", code, module, name, json.dumps(asdict(options))]
        compiling = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        given = os.environ | compiling | environment
        with self.log.open("w") as log:
            self.child: Any = Popen(command, cwd=root, env=given, stdin=PIPE, stdout=PIPE, stderr=log, text=True)

    def answer(self, *question: int) -> dict[str, Any]:
        """The reply to (batch size, calls), or to being started; NotRunError, or RuntimeError where the child ended."""
        self.ask(*question)
        return self.reply()

    def ask(self, *question: int) -> None:
        """Send (batch size, calls); nothing where there is no question."""
        with suppress(BrokenPipeError):  # the child has ended: `reply` says so
            if question:
                print(json.dumps(question), file=self.child.stdin, flush=True)

    def reply(self) -> dict[str, Any]:
        """Wait for the reply to the last question; raises as `answer` does."""
        line = self.child.stdout.readline()
        if not line:
            last_words = "\n".join(self.log.read_text().splitlines()[-15:])
            raise RuntimeError(f"contender {self.name} ended before its time; its last words:\n{last_words}")
        if "not_run" in (reply := json.loads(line)):
            raise NotRunError(reply["not_run"])
        return reply

    def end(self) -> None:
        """End the child at once: it has nothing to save."""
        self.child.kill()
        self.child.communicate()


def on_the_cpu(threads: int) -> dict[str, str]:
    """Environment of a process that sees no GPU and computes in so many threads."""
    limits = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return dict.fromkeys(limits, str(threads)) | {"CUDA_VISIBLE_DEVICES": "-1"}


def compare(
    module: str,
    known: Iterable[str],
    options: Options,
    cases: Mapping[int, int],
    flops: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Let the contenders of `module` take turns; returns plain data.

    Args:
        module: dotted name; has `CONTENDERS`, name -> (options -> Contender), and `Options`.
        known: the names of its contenders.
        options: what the children are given.
        cases: batch size -> calls a turn, the least.
        flops: contender -> FLOPs that its convolutions and dense layers need for an image; where they are given, the
            machine's rate of matrix products takes turns as well, and a contender's share of it is told, by processor
            time.

    Raises:
        ValueError: an unknown contender or baseline, or networks of different sizes.
        RuntimeError: a contender failed.
    """
    names = options.contenders or tuple(known)
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"contenders={unknown}: choose from {list(known)}.")
    if options.baseline not in {BASELINE, *known}:
        raise ValueError(f"baseline={options.baseline!r}: choose from {list(known)}.")
    outcome: dict[str, Any] = {"options": asdict(options), "machine": machine()}
    outcome |= {"parameters": {}, "notes": {}, "not_run": {}, "flops": dict(flops or {}), "bounds": {}}
    processes: dict[str, Process] = {}
    built: dict[str, dict[str, Any]] = {}
    turns: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for name in names:
            process = Process(module, name, options, Path(folder), on_the_cpu(options.threads))
            stack.callback(process.end)
            try:
                built[name] = process.answer()
                for case in cases.items():
                    process.answer(*case)  # to warm up
            except NotRunError as error:
                outcome["not_run"][name] = str(error)
                continue
            processes[name], outcome["parameters"][name] = process, built[name]["parameters"]
            if built[name]["note"]:
                outcome["notes"][name] = built[name]["note"]
        if len({json.dumps(counts, sort_keys=True) for counts in outcome["parameters"].values() if counts}) > 1:
            raise ValueError(f"the contenders' networks are not the same: {outcome['parameters']} parameters.")
        products: dict[str, Process] = {}
        for dtype in sorted({built[name]["precision"] for name in processes} if flops else ()):
            process = Process(
                *("benchmarks.matrix_product", dtype, Options(), Path(folder), on_the_cpu(options.threads)),
                label=f"products in {dtype}",
            )
            stack.callback(process.end)
            process.answer()
            process.answer(PRODUCT_SIDE, 1)  # to warm up
            products[dtype] = process
        order = list(processes)
        for _ in range(options.rounds):
            for dtype, process in products.items():
                rates = [matrix_product_rate(process) for _ in range(PRODUCTS_A_TURN)]
                outcome["bounds"][dtype] = max([outcome["bounds"].get(dtype, 0.0), *rates])
            for batch, calls in cases.items():
                for name in order:
                    turns.setdefault((name, batch), []).append(processes[name].answer(batch, calls))
            order = order[1:] + order[:1]  # nobody always comes first
    baseline = options.baseline if options.baseline in processes else next(iter(processes), "")
    rows: list[dict[str, Any]] = []
    for batch in cases:
        for name in processes:
            images, precision = batch * built[name]["images_per_row"], built[name]["precision"]
            row = {"contender": name, "batch": batch, "precision": precision}
            alike = f"{baseline}-{precision}"  # the baseline in the same precision, where it has that
            other = alike if alike in processes else baseline
            row |= summary(turns[name, batch], turns[other, batch], images)
            if name in outcome["flops"]:
                # By processor time, so that other programs on the machine change the share as little as can be.
                rate = row["images_per_processor_second"] * outcome["flops"][name]
                row |= {"flops_per_processor_second": rate, "share_of_bound": rate / outcome["bounds"][precision]}
            rows.append(row)
    return outcome | {"baseline": baseline, "results": rows}


def matrix_product_rate(process: Process) -> float:
    """FLOPs a processor second of one product of large matrices, by a process of `benchmarks.matrix_product`."""
    return 2 * PRODUCT_SIDE**3 / process.answer(PRODUCT_SIDE, 1)["processor"]


def summary(own: Turns, other: Turns, batch: int) -> dict[str, Any]:
    """A contender's turns at one batch size beside the baseline's: medians, but for the extremes and the memory."""
    speeds = [batch * turn["calls"] / turn["seconds"] for turn in own]
    others = [batch * turn["calls"] / turn["seconds"] for turn in other]
    return {
        "images_per_second": median(speeds),
        "slowest": min(speeds),
        "fastest": max(speeds),
        "rounds": speeds,
        "ratio": median(mine / theirs for mine, theirs in zip(speeds, others, strict=True)),
        "milliseconds_per_call": median(1000 * turn["seconds"] / turn["calls"] for turn in own),
        "images_per_processor_second": median(batch * turn["calls"] / turn["processor"] for turn in own),
        "cores_busy": median(turn["processor"] / turn["seconds"] for turn in own),
        "peak_mib": max(turn["peak_mib"] for turn in own),
    }


def free_memory() -> float:
    """Bytes that a process could have without swapping; infinite where the system does not tell (not Linux)."""
    with suppress(OSError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), math.inf)
    return math.inf


def computes_in_bfloat16() -> bool:
    """Whether the CPU has instructions for products in bfloat16; without them it is many times slower."""
    return bool(read_processor_flags() & BFLOAT16)


def machine() -> dict[str, Any]:
    """What the figures hold for: processor, cores, load before the run, the day and versions."""
    model = platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), model)
    versions = {"python": platform.python_version()} | {
        d.name: d.version for d in distributions() if d.name in PACKAGES
    }
    load, day = round(os.getloadavg()[0], 2), date.today().isoformat()
    return {"processor": model, "cores": os.cpu_count(), "load": load, "date": day, "versions": versions}


def report(title: str, outcome: Mapping[str, Any]) -> None:
    """Print what `compare` found: JSON where the options ask for it, else one table a batch size."""
    if outcome["options"]["json"]:
        print(json.dumps(outcome))
        return
    console = Console(width=None if sys.stdout.isatty() else 110)
    for batch in dict.fromkeys(row["batch"] for row in outcome["results"]):
        table = Table("contender", title=f"{title}, batch {batch}; baseline {outcome['baseline']}")
        columns = COLUMNS if outcome["bounds"] else {name: COLUMNS[name] for name in COLUMNS if name not in OF_BOUND}
        for heading in columns:
            table.add_column(heading, justify="right")
        for row in outcome["results"]:
            if row["batch"] == batch:
                table.add_row(row["contender"], *(cell.format(**row) for cell in columns.values()))
        console.print(table)
    for dtype, rate in outcome["bounds"].items():
        console.print(f"bound in {dtype}: {rate / 1e9:.0f} GFLOP a CPU s, a large matrix product", markup=False)
    about = outcome["machine"] | outcome["machine"]["versions"] | {"threads": outcome["options"]["threads"]}
    console.print(", ".join(f"{name} {value}" for name, value in about.items() if name != "versions"), markup=False)
    for heading in ("parameters", "notes", "not_run"):
        for name, value in outcome[heading].items():
            console.print(f"{heading.replace('_', ' ')}: {name}: {value or 'cannot be told'}", markup=False)
