"""Where the time of a DCGAN train step goes: each operation that TensorFlow's profiler sees, assigned to a kind.

    python -m benchmarks.profile
    python -m benchmarks.profile --precisions mixed_bfloat16 --steps 20 --figure profile.png

The step is that of the contender `zoo` of `benchmarks.train_step`, on one thread, so that an operation's time is
the processor's. An operation counts with the shortest of its runs, one a step: the others lost the core to another
program. What is left of the processor time of a step, when all operations are taken off, is launching them
and what the profiler does not see.
"""

import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tyro
from rich.console import Console
from rich.table import Table

from benchmarks import harness

CROWDED = 0.02  # of a step: operations that take so much more than its processor time have waited for the core
WARM_UP = 3  # steps before those that count: graphs are traced, memory is taken


class Rule(NamedTuple):
    """What an operation must be to be of a kind; patterns are searched for anywhere.

    Args:
        kind: the kind.
        type: pattern of its type, such as "_MklNativeConv2D".
        name: pattern of its name without loops and without the scopes of gradients, such as "discriminator/norm_8/mul".
        backward: whether it belongs to a backward pass, as those do that stand in no layer: what a custom gradient
            computes. None where that makes no difference.
    """

    kind: str
    type: str = ""
    name: str = ""
    backward: bool | None = None


NO_LAYER = r"^[^/]*$"
# The first rule that fits decides. Types come before layers: a cast within a batch norm is a cast.
RULES = (
    Rule("convolutions forward", "Conv2D", backward=False),  # a transposed one is a Conv2DBackpropInput
    Rule("convolutions by weights", "Conv2DBackpropFilter"),
    Rule("convolutions by input", "Conv2D"),  # of a transposed one a Conv2D
    Rule("convolutions by weights", "MatMul", NO_LAYER),  # by `zoo.core.convolution`, one for each tap
    Rule("dense layers", "MatMul"),
    Rule("noise", "Random"),
    Rule("optimizer", name=r"^adam"),
    Rule("optimizer", "ResourceApply"),
    Rule("gradient sums, norms, checks", "Sum|Square|Cast|Sqrt|L2Loss|Check|IsFinite", NO_LAYER),
    Rule("gradient sums, norms, checks", name=r"^(AddN|truediv)"),
    Rule(
        "casts, copies, layout",
        "Cast|Transpose|Reshape|Concat|Pack|Slice|Split|Identity|Copy|ToTf|Pad|Reverse|Depth|Space",
    ),
    Rule("normalization", name=r"(^|/)norm_"),
    Rule("activations and biases", "Relu|Tanh|Bias"),
    Rule("activations and biases", name="/leaky_relu_|/relu_|/image"),
    Rule("losses, metrics, data", "Iterator|Softplus|Sigmoid"),
    Rule("losses, metrics, data", name="softplus|logit"),
    Rule("losses, metrics, data", name=NO_LAYER),
)
NOT_ASSIGNED, OUTSIDE = "not assigned", "outside of operations"
KINDS = (*dict.fromkeys(rule.kind for rule in RULES), NOT_ASSIGNED, OUTSIDE)
SHOWN = [kind for kind in KINDS if kind != NOT_ASSIGNED]  # in the figure
CONTAINERS = r"^(Stateful|Stateless)?(While|If|PartitionedCall)$"  # their time is that of what they run
EVENT = re.compile(r"(?P<name>[^:]+):(?P<type>_?[A-Z]\w*)")
LOOPS = re.compile(r"(while|cond|body|then|else|branch|gradient_tape)?(_\d+)?")  # parts of a name that tell nothing


@dataclass(frozen=True, kw_only=True)
class Options:
    """Where the time of a train step goes."""

    precisions: tuple[Literal["float32", "mixed_bfloat16"], ...] = ("float32", "mixed_bfloat16")
    """What the networks compute in, each in a process of its own, one after the other."""
    image_size: int = 64
    """Side of the images in pixels, a power of two from 8."""
    width: int = 64
    """Channels of the largest map."""
    batch_size: int = 64
    """Images a step."""
    steps: int = 20
    """Train steps that the profiler sees."""
    figure: Path | None = None
    """Where to draw the table, as a PNG."""
    json: bool = False
    """Print one JSON object instead of a table."""


class Operation(NamedTuple):
    """One operation of the step: type, name without what tells nothing, direction, and milliseconds of each run."""

    type: str
    name: str
    backward: bool
    runs: list[float]


def kind_of(type_name: str, name: str, backward: bool) -> str:
    """The kind of an operation, the first of `RULES` that fits; `NOT_ASSIGNED` where none does."""
    for rule in RULES:
        if rule.backward in (None, backward) and re.search(rule.type, type_name) and re.search(rule.name, name):
            return rule.kind
    return NOT_ASSIGNED


def operations(events: Iterable[tuple[str, float]]) -> list[Operation]:
    """The operations among what the profiler saw.

    Args:
        events: name and milliseconds of each event, in any order; an operation's name is "scopes/name:Type".
    """
    found: dict[str, Operation] = {}
    for event, milliseconds in events:
        match = EVENT.fullmatch(event)
        if match is None or re.search(CONTAINERS, match["type"]):
            continue
        parts = match["name"].split("/")
        name = "/".join(part for part in parts if not LOOPS.fullmatch(part))
        operation = Operation(match["type"], name, "gradient_tape" in parts or "/" not in name, [])
        found.setdefault(event, operation).runs.append(milliseconds)
    return list(found.values())


def sum_by_kind(found: Iterable[Operation], steps: int, step_milliseconds: float) -> dict[str, float]:
    """Milliseconds of a step by kind; they add up to the step's.

    Args:
        found: the operations of `steps` steps.
        steps: how many.
        step_milliseconds: what one takes.
    """
    totals = dict.fromkeys(KINDS, 0.0)
    for operation in found:
        # Several runs a step where it stands in a loop.
        totals[kind_of(*operation[:3])] += min(operation.runs) * len(operation.runs) / steps
    totals[OUTSIDE] = step_milliseconds - sum(totals.values())
    return totals


def profile(precision: str, options: Options) -> dict[str, Any]:
    """Milliseconds of a step, by kind and by operation, in this process, in which TensorFlow must not have run."""
    os.environ.update(harness.on_the_cpu(threads=1))
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    from benchmarks import train_step

    sizes = {name: getattr(options, name) for name in ("image_size", "width", "batch_size")}
    run = train_step.zoo(train_step.Options(threads=1, **sizes), precision=precision).run
    run(options.batch_size, WARM_UP)
    only_operations = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2, python_tracer_level=0)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder, only_operations)
        began = time.process_time()
        run(options.batch_size, options.steps)
        milliseconds = 1000 * (time.process_time() - began) / options.steps
        tf.profiler.experimental.stop()
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    found = operations(
        (plane.event_metadata[event.metadata_id].name, event.duration_ps / 1e9)
        for plane in space.planes
        for line in plane.lines
        for event in line.events
    )
    kinds = sum_by_kind(found, options.steps, milliseconds)
    costs = [
        {"kind": kind_of(*each[:3]), "type": each.type, "name": each.name, "milliseconds": min(each.runs)}
        for each in found
    ]
    costs.sort(key=lambda cost: -cost["milliseconds"])
    return {"milliseconds": milliseconds, "kinds": kinds, "operations": costs}


def report(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print milliseconds of a step and shares of it by kind, a column a precision."""
    table = Table("milliseconds of a step", title="DCGAN train step, one thread")
    for precision in results:
        table.add_column(precision, justify="right")
        table.add_column("share", justify="right")
    for kind in KINDS:
        cells = [(result["kinds"][kind], result["kinds"][kind] / result["milliseconds"]) for result in results.values()]
        table.add_row(kind, *(text for time, share in cells for text in (f"{time:.1f}", f"{share:.1%}")))
    table.add_row("all", *(text for result in results.values() for text in (f"{result['milliseconds']:.1f}", "100%")))
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    if any(result["kinds"][OUTSIDE] < -CROWDED * result["milliseconds"] for result in results.values()):
        console.print("Crowded: long operations lost the core in each of their runs. Repeat on a quieter machine.")


def draw(results: Mapping[str, Mapping[str, Any]], figure: Path) -> None:
    """Bars of milliseconds by kind, those of the precisions side by side."""
    import matplotlib

    matplotlib.use("Agg")  # whatever the machine's display
    from matplotlib import pyplot as plot

    _, axes = plot.subplots(figsize=(8, 4.5), layout="constrained")
    height = 0.8 / len(results)
    for number, (precision, result) in enumerate(results.items()):
        places = [place + number * height for place in range(len(SHOWN))]
        bars = axes.barh(places, [result["kinds"][kind] for kind in SHOWN], height, label=precision)
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(SHOWN))], SHOWN)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("milliseconds of a DCGAN train step, one thread")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.parent.mkdir(parents=True, exist_ok=True)
    plot.savefig(figure, dpi=150)


def main(arguments: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, args=arguments, description=__doc__)
    results = {}
    for precision in options.precisions:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # TensorFlow keeps its threads
            results[precision] = pool.submit(profile, precision, options).result()
    if options.json:
        print(json.dumps({"machine": harness.machine(), "results": results}))
    else:
        report(results)
    if options.figure:
        draw(results, options.figure)


if __name__ == "__main__":
    main()
