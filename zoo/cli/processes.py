"""Child processes of the self-test: started, waited for, and what became of them."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

TASKS_MODULE = "zoo.cli.selftest_tasks"
PATIENCE = 300  # seconds until a process counts as hanging; the longest check took 90 on two busy cores
Status = Literal["ok", "failed", "skipped"]
Arrays = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Place:
    """The first `count` GPUs; or that many logical devices of the CPU, with the GPUs hidden."""

    kind: Literal["CPU", "GPU"]
    count: int

    def __str__(self) -> str:
        return f"{self.count} {self.kind}{' device' * (self.kind == 'CPU')}{'s' * (self.count > 1)}"


class ProcessError(RuntimeError):
    """A process of a check crashed or hung; `shown` is the end of what it wrote on standard error."""

    def __init__(self, message: str, shown: str = ""):
        super().__init__(message)
        self.shown = shown


@dataclass(frozen=True)
class Job:
    """One process of a check.

    Args:
        task: of `TASKS`.
        place: its devices.
        options: further arguments of the task, plain data.
        environment: variables that are set beside those of `place`.
    """

    task: str
    place: Place
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def command(self) -> list[str]:
        """The command line; -P: a file in the working directory must not stand in for a package."""
        return [sys.executable, "-P", "-m", TASKS_MODULE, self.task, str(self.place.count), json.dumps(self.options)]

    @property
    def variables(self) -> dict[str, str]:
        """The environment: this process's own, but for what would choose devices or a cluster."""
        own = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if self.place.kind == "CPU" else {}
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        return {**quiet, **own, **hidden, **self.environment}


def answers(jobs: Sequence[Job], patience: float = PATIENCE) -> list[Any]:
    """What each process answers; they run at the same time.

    Raises:
        ProcessError: one crashed, or did not end within `patience` seconds; the others are ended.
    """
    # Files, not pipes: a process that waits for its pipe to be read would keep those waiting that it trains with.
    with tempfile.TemporaryDirectory() as folder, ExitStack() as held:
        paths = [Path(folder) / str(number) for number in range(len(jobs))]
        processes = []
        for job, path in zip(jobs, paths, strict=True):
            out = held.enter_context(path.with_suffix(".out").open("wb"))
            error = held.enter_context(path.with_suffix(".error").open("wb"))
            process = subprocess.Popen(
                job.command, stdin=subprocess.DEVNULL, stdout=out, stderr=error, env=job.variables
            )
            held.callback(ended, process)
            processes.append(process)
        wait(processes, time.monotonic() + patience)
        # One that fails leaves those waiting that it trains with: it is the one to name.
        broken = [number for number, process in enumerate(processes) if process.returncode]
        for number in broken or [number for number, process in enumerate(processes) if process.returncode is None]:
            shown = paths[number].with_suffix(".error").read_text(encoding="utf-8", errors="replace")
            where = f"{jobs[number].task} on {jobs[number].place}"
            raise ProcessError(f"{where} {fate(processes[number], patience, shown)}", tail(shown))
        return [json.loads(path.with_suffix(".out").read_text(encoding="utf-8").splitlines()[-1]) for path in paths]


def wait(processes: Sequence[subprocess.Popen[bytes]], deadline: float) -> None:
    """Until all have ended, one has failed, or the deadline has passed."""
    while time.monotonic() < deadline:
        codes = [process.poll() for process in processes]
        if any(codes) or None not in codes:
            return
        time.sleep(0.05)


def ended(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs."""
    process.kill()
    process.wait()


def fate(process: subprocess.Popen[bytes], patience: float, shown: str) -> str:
    """Why a process has no answer."""
    lines = shown.strip().splitlines()
    reason = f": {lines[-1]}" if lines else ""
    if process.returncode is None:
        return f"gave no answer within {patience:.0f} s; with several GPUs, NCCL_DEBUG=INFO shows what it waits for"
    if process.returncode < 0:
        return f"was ended by {signal.Signals(-process.returncode).name}{reason}"
    return f"failed{reason}"


def tail(text: str, lines: int = 30) -> str:
    """The last lines."""
    return "\n".join(text.strip().splitlines()[-lines:])


def first_line(text: str) -> str:
    """The first line that is not empty; nothing where there is none."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
