"""Child processes of the self-test: started together, waited for, and their answers or what went wrong.

A process does one task of `zoo.cli.selftest_tasks` and prints its answer, as JSON, as the last line of standard output.
"""

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
TIMEOUT = 300  # seconds until a process counts as hanging; the longest check took 90 on two busy cores
Status = Literal["ok", "failed", "skipped"]
Arrays = Mapping[str, Sequence[Any]]  # name -> arrays, as nested lists once they have come from a process


@dataclass(frozen=True)
class Devices:
    """What a process computes on: the first `count` GPUs, or that many logical devices of the CPU, with GPUs hidden."""

    kind: Literal["CPU", "GPU"]
    count: int

    def __str__(self) -> str:
        return f"{self.count} {self.kind}{' device' * (self.kind == 'CPU')}{'s' * (self.count > 1)}"


class ProcessError(RuntimeError):
    """A process of a check crashed or hung; `stderr` is the end of what it wrote on standard error."""

    def __init__(self, message: str, stderr: str = ""):
        super().__init__(message)
        self.stderr = stderr


@dataclass(frozen=True)
class Job:
    """One process of a check.

    Args:
        task: of `TASKS`.
        devices: what it computes on.
        options: further arguments of the task, plain data.
        variables: of the environment, set beside those of `devices`.
    """

    task: str
    devices: Devices
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def command(self) -> list[str]:
        """The command line; -P: a file in the working directory must not stand in for a package."""
        return [sys.executable, "-P", "-m", TASKS_MODULE, self.task, str(self.devices.count), json.dumps(self.options)]

    @property
    def environment(self) -> dict[str, str]:
        """All its environment variables: this process's own, but for what would choose devices or a cluster."""
        own = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if self.devices.kind == "CPU" else {}
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        return {**quiet, **own, **hidden, **self.variables}


def run_jobs(jobs: Sequence[Job], timeout: float = TIMEOUT) -> list[Any]:
    """Run a process for each job, all at the same time; returns their answers in order.

    Args:
        jobs: those that train together must be in one call.
        timeout: seconds until a process counts as hanging.

    Raises:
        ProcessError: one crashed, or did not end in time; the others are ended.
    """
    # Files, not pipes: a process that waits for its pipe to be read would keep those waiting that it trains with.
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        paths = [Path(folder) / str(number) for number in range(len(jobs))]
        processes = []
        for job, path in zip(jobs, paths, strict=True):
            out = stack.enter_context(path.with_suffix(".out").open("wb"))
            error = stack.enter_context(path.with_suffix(".error").open("wb"))
            process = subprocess.Popen(
                job.command, stdin=subprocess.DEVNULL, stdout=out, stderr=error, env=job.environment
            )
            stack.callback(kill, process)
            processes.append(process)
        wait(processes, time.monotonic() + timeout)
        # One that fails leaves those waiting that it trains with: it is the one to name.
        broken = [number for number, process in enumerate(processes) if process.returncode]
        for number in broken or [number for number, process in enumerate(processes) if process.returncode is None]:
            stderr = paths[number].with_suffix(".error").read_text(encoding="utf-8", errors="replace")
            what = f"{jobs[number].task} on {jobs[number].devices}"
            raise ProcessError(f"{what} {explain_failure(processes[number], timeout, stderr)}", last_lines(stderr))
        return [json.loads(path.with_suffix(".out").read_text(encoding="utf-8").splitlines()[-1]) for path in paths]


def wait(processes: Sequence[subprocess.Popen[bytes]], deadline: float) -> None:
    """Wait until all have ended, one has failed, or the deadline (of `time.monotonic`) has passed."""
    while time.monotonic() < deadline:
        codes = [process.poll() for process in processes]
        if any(codes) or None not in codes:
            return
        time.sleep(0.05)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs."""
    process.kill()
    process.wait()


def explain_failure(process: subprocess.Popen[bytes], timeout: float, stderr: str) -> str:
    """Why a process has no answer: it hangs, a signal ended it, or it failed, with the last line of its `stderr`."""
    lines = stderr.strip().splitlines()
    reason = f": {lines[-1]}" if lines else ""
    if process.returncode is None:
        return f"gave no answer within {timeout:.0f} s; with several GPUs, NCCL_DEBUG=INFO shows what it waits for"
    if process.returncode < 0:
        return f"was ended by {signal.Signals(-process.returncode).name}{reason}"
    return f"failed{reason}"


def last_lines(text: str, lines: int = 30) -> str:
    """The last lines."""
    return "\n".join(text.strip().splitlines()[-lines:])


def first_line(text: str) -> str:
    """The first line that is not empty; nothing where there is none."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
