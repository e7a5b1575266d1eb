"""`zoo doctor --selftest`: a minute or two of checks on the devices that this machine has.

Each check trains, saves or exports the tiny twin of a DCGAN in processes of its own. TensorFlow takes its
devices, its cluster and its determinism only while it starts, and two strategies with collectives of their own abort
each other in one process; and a check that crashes or hangs fails alone.

Here are the checks and what makes them pass, without TensorFlow; `zoo.cli.processes` starts the processes,
`zoo.cli.selftest_tasks` is what they do, and `zoo.cli.findings` is what a check answers.
"""

import dataclasses
import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape

from serving.session import count_nvidia_devices
from zoo.cli.findings import (
    FLOAT32_LIMITS,
    FLOAT64_LIMIT,
    ROWS_PER_DEVICE,
    WORKER_STEPS,
    Finding,
    Measurement,
    SkippedError,
    largest_difference,
)
from zoo.cli.processes import Arrays, Devices, Job, ProcessError, Status, first_line, run_jobs

MOST_DEVICES = 8  # that a check uses


def run_checks(tensorflow: Mapping[str, Any] | None, console: Console) -> list[dict[str, Any]]:
    """Do every check, one after another.

    Args:
        tensorflow: what the doctor says of it, see `zoo.cli.doctor.examine_tensorflow`; None where it is not installed.
        console: for a line a check, and the last words of a process that broke.

    Returns:
        A record a check: name, status ("ok", "failed" or "skipped"), detail, seconds.
    """
    missing = explain_missing_tensorflow(tensorflow)
    gpus = int((tensorflow or {}).get("gpus", 0))
    records = []
    for number, (name, check) in enumerate(CHECKS.items(), 1):
        title = f"{number}/{len(CHECKS)} {name}: {first_line(check.__doc__ or '')}"
        console.print(title, highlight=False, soft_wrap=True)
        began = time.monotonic()
        status, detail = ("skipped", missing) if missing else run_check(check, gpus, console)
        seconds = round(time.monotonic() - began, 1)
        records.append({"name": name, "status": status, "detail": detail, "seconds": seconds})
    return records


def explain_missing_tensorflow(tensorflow: Mapping[str, Any] | None) -> str:
    """Why nothing can be checked; empty where TensorFlow is there."""
    if tensorflow is None:
        return 'TensorFlow is not installed: pip install "generative-zoo[train]"'
    return f"TensorFlow can't be imported: {tensorflow['error']}" if "error" in tensorflow else ""


def run_check(check: Callable[[int], Finding], gpus: int, console: Console) -> tuple[Status, str]:
    """Do one check; returns its status and its detail. The last words of a process that broke go to the console."""
    try:
        finding = check(gpus)
    except SkippedError as reason:
        return "skipped", str(reason)
    except ProcessError as error:
        console.print(escape(error.stderr), highlight=False, soft_wrap=True)
        return "failed", str(error)
    return finding.status, finding.detail


def choose_all(gpus: int) -> Devices:
    """Every GPU, up to eight; two devices of the CPU where there is none."""
    return Devices("GPU", min(gpus, MOST_DEVICES)) if gpus else Devices("CPU", 2)


def choose_one(gpus: int) -> Devices:
    """The first GPU, or the CPU."""
    return Devices("GPU" if gpus else "CPU", 1)


def check_devices(gpus: int) -> Finding:
    """A small convolution on every device."""
    (found,) = run_jobs([Job("devices", Devices("GPU", gpus) if gpus else Devices("CPU", 1))])
    finding, driver = decode_finding(found), count_nvidia_devices()
    if driver <= gpus:
        return finding
    fault = (
        f"the NVIDIA driver shows {driver} device(s), TensorFlow {gpus}: "
        'pip install "generative-zoo[train,gpu]", or put CUDA and cuDNN where TensorFlow finds them'
    )
    return dataclasses.replace(finding, faults=(fault, *finding.faults))


def check_parity(gpus: int) -> Finding:
    """The first train step on 1 device of the CPU against 2."""
    return compare_first_steps([Comparison(Devices("CPU", 1), Devices("CPU", 2))])


def check_parity_of_gpus(gpus: int) -> Finding:
    """The first train step on 1 GPU against the CPU, and on 2 and all GPUs against 1."""
    if not gpus:
        raise SkippedError("TensorFlow sees no GPU")
    several = sorted({2, min(gpus, MOST_DEVICES)}) if gpus > 1 else []
    one = Devices("GPU", 1)
    between_gpus = [Comparison(one, Devices("GPU", count)) for count in several]
    return compare_first_steps([Comparison(Devices("CPU", 1), one), *between_gpus])


def check_precision(gpus: int) -> Finding:
    """Some train steps in mixed_bfloat16 and mixed_float16."""
    return run_task("precision", choose_all(gpus) if gpus else choose_one(gpus))


def check_not_finite(gpus: int) -> Finding:
    """A gradient that is not finite, on the last device, stops the step on all."""
    return run_task("not finite", choose_all(gpus))


def check_checkpoint(gpus: int) -> Finding:
    """Two steps, saved, and two more after resuming, against four."""
    return run_task("checkpoint", choose_one(gpus))


def check_workers(gpus: int) -> Finding:
    """Two processes that TF_CONFIG tells of each other, on the CPU, against one."""
    return compare_workers("CPU", [{}, {}])


def check_workers_on_gpus(gpus: int) -> Finding:
    """The same with a GPU for each process."""
    if gpus < 2:
        raise SkippedError(f"needs 2 GPUs, TensorFlow sees {gpus}")
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = chosen.split(",") if chosen else ["0", "1"]
    return compare_workers("GPU", [{"CUDA_VISIBLE_DEVICES": name} for name in names[:2]])


def check_export(gpus: int) -> Finding:
    """ONNX and SavedModel against Keras."""
    return run_task("export", choose_one(gpus))


CHECKS: Mapping[str, Callable[[int], Finding]] = {
    "devices": check_devices,
    "parity": check_parity,
    "parity of GPUs": check_parity_of_gpus,
    "precision": check_precision,
    "not finite": check_not_finite,
    "checkpoint": check_checkpoint,
    "workers": check_workers,
    "workers on GPUs": check_workers_on_gpus,
    "export": check_export,
}


@dataclass(frozen=True)
class Comparison:
    """Two sets of devices that must make the same first step."""

    reference: Devices
    other: Devices

    def limits(self) -> dict[str, float]:
        """Float type -> the largest difference. A CPU and a GPU draw other noise in the last bit of float32."""
        exact = {"float64": FLOAT64_LIMIT} if self.reference.kind == self.other.kind else {}
        return {"float32": FLOAT32_LIMITS[self.other.kind]} | exact

    def measure(self, results: Mapping[Devices, Mapping[str, Arrays]]) -> Iterator[Measurement]:
        """One for each float type."""
        for dtype, limit in self.limits().items():
            value = largest_difference(results[self.other][dtype], results[self.reference][dtype])
            yield Measurement(f"{self.other} against {self.reference}, {dtype}", value, limit)


def compare_first_steps(comparisons: Sequence[Comparison]) -> Finding:
    """Compare gradients, weights and metrics after the first step; every set of devices is run once."""
    several = list(dict.fromkeys(devices for each in comparisons for devices in (each.reference, each.other)))
    batch_size = ROWS_PER_DEVICE * math.lcm(*(devices.count for devices in several))
    found = run_jobs([Job("first step", devices, {"batch_size": batch_size}) for devices in several])
    results = dict(zip(several, found, strict=True))
    return Finding(tuple(measurement for each in comparisons for measurement in each.measure(results)))


def compare_workers(kind: Literal["CPU", "GPU"], environments: Sequence[Mapping[str, str]]) -> Finding:
    """Two processes, a worker each, against a third that does all alone, in float64."""
    options = {"batch_size": 2 * ROWS_PER_DEVICE, "steps": WORKER_STEPS}
    devices = Devices(kind, 1)
    jobs = [
        Job("train", devices, options, {**environment, "TF_CONFIG": setting})
        for environment, setting in zip(environments, make_tf_configs(len(environments)), strict=True)
    ]
    *found, expected = run_jobs([*jobs, Job("train", devices, options, environments[0])])
    after = f"after {WORKER_STEPS} steps in float64"
    measurements = [
        Measurement(f"worker {index} {after}", largest_difference(each, expected), FLOAT64_LIMIT)
        for index, each in enumerate(found)
    ]
    return Finding(tuple(measurements), notes=(f"a process each on loopback, {devices} each",))


def make_tf_configs(count: int) -> list[str]:
    """A TF_CONFIG for each of `count` workers on this machine."""
    with ExitStack() as stack:  # all ports are taken at once: no two workers get the same one
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    cluster = {"worker": addresses}
    return [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}) for index in range(count)]


def run_task(task: str, devices: Devices) -> Finding:
    """Run one process, which makes the finding by itself."""
    (found,) = run_jobs([Job(task, devices)])
    finding = decode_finding(found)
    return dataclasses.replace(finding, notes=(*finding.notes, f"on {devices}"))


def decode_finding(record: Mapping[str, Any]) -> Finding:
    """The finding that a process wrote as JSON."""
    measurements = tuple(Measurement(**measurement) for measurement in record["measurements"])
    return Finding(measurements, tuple(record["faults"]), tuple(record["notes"]))
