"""`zoo doctor --selftest`: a minute or two of checks on the devices that this machine has.

Each check trains, saves or exports the tiny twin of the first preset in processes of its own. TensorFlow takes its
devices, its cluster and its determinism only while it starts, and two strategies with collectives of their own abort
each other in one process; and a check that crashes or hangs fails alone.

The upper half starts the processes and judges what they found, without TensorFlow. The lower half is what they do.
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
    ROWS,
    STEPS,
    Finding,
    Measure,
    SkippedError,
    largest_difference,
)
from zoo.cli.processes import Arrays, Job, Place, ProcessError, Status, answers, first_line

MOST = 8  # devices that a check uses


def run(tensorflow: Mapping[str, Any] | None, console: Console) -> list[dict[str, Any]]:
    """Do every check, one after another.

    Args:
        tensorflow: what the doctor says of it, see `zoo.cli.doctor.tensorflow_devices`; None where it is not installed.
        console: for a line a check, and the last words of a process that broke.

    Returns:
        A record a check: name, status ("ok", "failed" or "skipped"), detail, seconds.
    """
    absent = without_tensorflow(tensorflow)
    gpus = int((tensorflow or {}).get("gpus", 0))
    records = []
    for number, (name, check) in enumerate(CHECKS.items(), 1):
        title = f"{number}/{len(CHECKS)} {name}: {first_line(check.__doc__ or '')}"
        console.print(title, highlight=False, soft_wrap=True)
        began = time.monotonic()
        status, detail = ("skipped", absent) if absent else judged(check, gpus, console)
        seconds = round(time.monotonic() - began, 1)
        records.append({"name": name, "status": status, "detail": detail, "seconds": seconds})
    return records


def without_tensorflow(tensorflow: Mapping[str, Any] | None) -> str:
    """Why nothing can be checked; empty where TensorFlow is there."""
    if tensorflow is None:
        return 'TensorFlow is not installed: pip install "generative-zoo[train]"'
    return f"TensorFlow can't be imported: {tensorflow['error']}" if "error" in tensorflow else ""


def judged(check: Callable[[int], Finding], gpus: int, console: Console) -> tuple[Status, str]:
    """The status and the detail of one check."""
    try:
        finding = check(gpus)
    except SkippedError as reason:
        return "skipped", str(reason)
    except ProcessError as error:
        console.print(escape(error.shown), highlight=False, soft_wrap=True)
        return "failed", str(error)
    return finding.status, finding.detail


def all_devices(gpus: int) -> Place:
    """Every GPU, up to eight; two devices of the CPU where there is none."""
    return Place("GPU", min(gpus, MOST)) if gpus else Place("CPU", 2)


def one_device(gpus: int) -> Place:
    """The first GPU, or the CPU."""
    return Place("GPU" if gpus else "CPU", 1)


def check_devices(gpus: int) -> Finding:
    """A small convolution on every device."""
    (found,) = answers([Job("devices", Place("GPU", gpus) if gpus else Place("CPU", 1))])
    finding, driver = finding_of(found), count_nvidia_devices()
    if driver <= gpus:
        return finding
    fault = (
        f"the NVIDIA driver shows {driver} device(s), TensorFlow {gpus}: "
        'pip install "generative-zoo[train,gpu]", or put CUDA and cuDNN where TensorFlow finds them'
    )
    return dataclasses.replace(finding, faults=(fault, *finding.faults))


def check_parity(gpus: int) -> Finding:
    """The first train step on 1 device of the CPU against 2."""
    return parity([Comparison(Place("CPU", 1), Place("CPU", 2))])


def check_parity_of_gpus(gpus: int) -> Finding:
    """The first train step on 1 GPU against the CPU, and on 2 and all GPUs against 1."""
    if not gpus:
        raise SkippedError("TensorFlow sees no GPU")
    several = sorted({2, min(gpus, MOST)}) if gpus > 1 else []
    one = Place("GPU", 1)
    return parity([Comparison(Place("CPU", 1), one), *(Comparison(one, Place("GPU", count)) for count in several)])


def check_precision(gpus: int) -> Finding:
    """Some train steps in mixed_bfloat16 and mixed_float16."""
    return alone("precision", all_devices(gpus) if gpus else one_device(gpus))


def check_not_finite(gpus: int) -> Finding:
    """A pixel that is not finite, on the last device, stops the step on all."""
    return alone("not finite", all_devices(gpus))


def check_checkpoint(gpus: int) -> Finding:
    """Two steps, saved, and two more after resuming, against four."""
    return alone("checkpoint", one_device(gpus))


def check_workers(gpus: int) -> Finding:
    """Two processes that TF_CONFIG tells of each other, on the CPU, against one."""
    return workers("CPU", [{}, {}])


def check_workers_on_gpus(gpus: int) -> Finding:
    """The same with a GPU for each process."""
    if gpus < 2:
        raise SkippedError(f"needs 2 GPUs, TensorFlow sees {gpus}")
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = chosen.split(",") if chosen else ["0", "1"]
    return workers("GPU", [{"CUDA_VISIBLE_DEVICES": name} for name in names[:2]])


def check_export(gpus: int) -> Finding:
    """ONNX and SavedModel against Keras."""
    return alone("export", one_device(gpus))


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
    """Two places that must make the same first step."""

    reference: Place
    other: Place

    def limits(self) -> dict[str, float]:
        """Float type -> the largest difference. A CPU and a GPU draw other noise in the last bit of float32."""
        exact = {"float64": FLOAT64_LIMIT} if self.reference.kind == self.other.kind else {}
        return {"float32": FLOAT32_LIMITS[self.other.kind]} | exact

    def measures(self, results: Mapping[Place, Mapping[str, Arrays]]) -> Iterator[Measure]:
        """One for each float type."""
        for dtype, limit in self.limits().items():
            value = largest_difference(results[self.other][dtype], results[self.reference][dtype])
            yield Measure(f"{self.other} against {self.reference}, {dtype}", value, limit)


def parity(comparisons: Sequence[Comparison]) -> Finding:
    """Gradients, weights and metrics after the first step, compared."""
    places = list(dict.fromkeys(place for each in comparisons for place in (each.reference, each.other)))
    batch_size = ROWS * math.lcm(*(place.count for place in places))
    found = answers([Job("first step", place, {"batch_size": batch_size}) for place in places])
    results = dict(zip(places, found, strict=True))
    return Finding(tuple(measure for each in comparisons for measure in each.measures(results)))


def workers(kind: Literal["CPU", "GPU"], environments: Sequence[Mapping[str, str]]) -> Finding:
    """Two processes, a worker each, against a third that does all alone, in float64."""
    options = {"batch_size": 2 * ROWS, "steps": STEPS}
    place = Place(kind, 1)
    jobs = [
        Job("train", place, options, {**environment, "TF_CONFIG": setting})
        for environment, setting in zip(environments, clusters(len(environments)), strict=True)
    ]
    *found, expected = answers([*jobs, Job("train", place, options, environments[0])])
    measures = [
        Measure(f"worker {index} after {STEPS} steps in float64", largest_difference(each, expected), FLOAT64_LIMIT)
        for index, each in enumerate(found)
    ]
    return Finding(tuple(measures), notes=(f"a process each on loopback, {place} each",))


def clusters(count: int) -> list[str]:
    """A TF_CONFIG for each of `count` workers on this machine."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    cluster = {"worker": addresses}
    return [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}) for index in range(count)]


def alone(task: str, place: Place) -> Finding:
    """What one process finds by itself."""
    (found,) = answers([Job(task, place)])
    finding = finding_of(found)
    return dataclasses.replace(finding, notes=(*finding.notes, f"on {place}"))


def finding_of(record: Mapping[str, Any]) -> Finding:
    """A finding as its process wrote it."""
    measures = tuple(Measure(**measure) for measure in record["measures"])
    return Finding(measures, tuple(record["faults"]), tuple(record["notes"]))
