"""How the train step of `train_step`'s `zoo` scales with devices: measured, counted, and predicted for more.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --devices 1 2 4 8 --workers 2 --json
    python -m benchmarks.scaling --step-seconds 0.012

**Measured**: images/s on several devices of one machine (MirroredStrategy: its GPUs, or logical devices of its CPU) and
on several workers (MultiWorkerMirroredStrategy: processes of one device each, on loopback). Strong scaling keeps the
global batch, `--batch-size`; weak scaling keeps that batch on every device. One worker is one device: the library
then takes TensorFlow's default strategy. A CPU device is one thread, so that n devices have n times the arithmetic of
one. Every replica keeps one batch of noise: reading data is no part of the figures.

"Outside" is seconds a step minus the seconds of one device alone with one replica's share of the batch. It holds all
that the other replicas cost: the all-reduces, waiting for the slowest replica, batch norm's synchronized form (one
device computes another), launching, and whatever the replicas take from each other in caches, memory bandwidth and
clock rate. It is no measure of the network alone, and below zero it is noise.

**Counted**: the all-reduces of one step in the traced graph, and the bytes that a replica hands to them. The
gradients' bytes are checked against the number of trainable parameters.

**Predicted**, never measured: weak scaling on n GPUs of m machines, from the counted bytes B and operations K,

    step(n) = step(1) + 2 (n - 1)/n B / bandwidth + K (launch + (2 (n - 1) - between) inside + between outside)

a ring's all-reduce: its bandwidth is that of its slowest link, NVLink's on one machine and otherwise the lesser of that
and what a machine sends to the next; of its 2 (n - 1) hops `between` = 2 m cross from one machine to another (none on
one machine), `inside` and `outside` are the seconds of a hop. Nothing overlaps: the gradients are reduced after the
backward pass, and batch norm waits for its statistics. Peak bandwidths are assumed, and NCCL may choose a tree, which
has fewer hops than a large ring; TensorFlow's own time to launch an operation and stragglers are not in the model.
"""

import dataclasses
import json
import math
import os
import selectors
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks import harness, train_step
from benchmarks.harness import CHANNELS, LATENT_DIM, Contender, NotRunError, Process
from zoo.training.recipe import Recipe

MODULE = "benchmarks.scaling"
BYTES_OF_FLOAT32 = 4
BESIDE_THE_GRADIENTS = 2  # numbers that a player's all-reduce carries as well: the sum of its loss, and the row count
ALL_REDUCES = ("CollectiveReduce", "CollectiveReduceV2", "CollectiveReduceV3", "NcclAllReduce")
SILENT = ("CollectiveInitializeCommunicator", "CollectiveAssignGroupV2")  # collective by name, but they move no data
# Function of zoo.core.replicas -> what its all-reduces are for. These networks ask for others in batch norm alone, one
# a forward pass (the count, sums and squares) and one a backward pass (what the mean and the variance get).
PURPOSES = {"global_mean": "gradients", "sum_rows": "metrics"}
STATISTICS = "batch-norm statistics"
ALONE = "one device"
COLUMNS = {
    "scaling": "{scaling}",
    "on": "{setup}",
    "batch": "{batch}",
    "images/s": "{images_per_second:.1f}",
    "min - max": "{slowest:.1f} - {fastest:.1f}",
    "s a step": "{seconds_per_step:.4f}",
    "outside": "{outside_seconds:.4f}",
    "speed-up": "{speed_up:.2f}",
    "efficiency": "{shown_efficiency}",
    "cores busy": "{cores_busy:.2f}",
    "peak MiB": "{peak_mib:.0f}",
}


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What the prediction takes from elsewhere. The defaults are what vendors state, not what we have seen."""

    step_seconds: float | None = None
    """Seconds of a step on one GPU with --batch-size images; by default what is measured here, if that is a GPU."""
    gpus: tuple[int, ...] = (8, 16, 32, 64)
    """Numbers of GPUs to predict for."""
    gpus_per_machine: int = 8
    """GPUs that NVLink joins."""
    nvlink_gigabytes: float = 450.0
    """GB/s that a GPU sends to its neighbor: half of the 900 GB/s, both ways, of NVIDIA's H100 data sheet."""
    network_gigabits: tuple[float, ...] = (100.0, 400.0)
    """Gbit/s that a machine sends to the next: one port of 100 Gbit/s Ethernet; one of NDR InfiniBand, as in NVIDIA's
    ConnectX-7 data sheet. A machine with a port for each of 8 GPUs has 8 times that."""
    launch_microseconds: float = 6.6
    """Of an all-reduce before its first hop: NCCL's cost table, src/graph/tuning.cc, ring with protocol LL."""
    nvlink_microseconds: float = 0.6
    """Of a hop over NVLink; the same table."""
    network_microseconds: float = 2.7
    """Of a hop over the network; the same table."""

    def all_reduce_seconds(self, gpus: int, network_gigabits: float, payload: float, operations: int) -> float:
        """Seconds a step of `operations` all-reduces over `gpus`, which hand over `payload` bytes in all."""
        machines = math.ceil(gpus / self.gpus_per_machine)
        hops = 2 * (gpus - 1)
        between = 0 if machines == 1 else min(2 * machines, hops)
        bandwidth = 1e9 * self.nvlink_gigabytes
        if machines > 1:
            bandwidth = min(bandwidth, 1e9 / 8 * network_gigabits)
        latency = (hops - between) * self.nvlink_microseconds + between * self.network_microseconds
        if gpus > 1:
            latency += self.launch_microseconds
        return hops / gpus * payload / bandwidth + operations * latency / 1e6

    def predict(self, step_seconds: float, payload: float, operations: int) -> list[dict[str, float]]:
        """One row for each number of GPUs and each network that they need; `efficiency` is weak scaling's.

        Args:
            step_seconds: of a step on one GPU.
            payload: bytes that a replica hands to the all-reduces of a step.
            operations: all-reduces per step.
        """
        rows = []
        for gpus in self.gpus:
            # One machine needs no network: a row of it is enough.
            for network in self.network_gigabits[: None if gpus > self.gpus_per_machine else 1]:
                seconds = self.all_reduce_seconds(gpus, network, payload, operations)
                latency = self.all_reduce_seconds(gpus, network, 0, operations)
                efficiency = step_seconds / (step_seconds + seconds)
                row = {"gpus": gpus, "network_gigabits": network, "all_reduce_seconds": seconds}
                rows.append(row | {"latency_seconds": latency, "efficiency": efficiency})
        return rows


@dataclass(frozen=True, kw_only=True)
class Options(harness.CommonOptions, Assumptions):
    """A train step on several devices."""

    batch_size: int = 64
    """Images a step: on all devices together (strong scaling) or on each (weak scaling)."""
    steps: int = 5
    """Train steps a turn."""
    devices: tuple[int, ...] = (1, 2, 4)
    """Numbers of devices of this machine to measure; one is measured in any case."""
    workers: tuple[int, ...] = (1, 2)
    """Numbers of workers to measure, each a process with one device."""

    def __post_init__(self) -> None:
        """Refuse with a ValueError what can't be measured or predicted."""
        super().__post_init__()
        for name in ("step_seconds", "nvlink_gigabytes", "network_gigabits"):
            value = getattr(self, name)
            numbers = value if isinstance(value, (tuple, list)) else [] if value is None else [value]
            if not all(number > 0 for number in numbers):
                raise ValueError(f"{name}={value}: choose more than 0.")
        for name in ("launch_microseconds", "nvlink_microseconds", "network_microseconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)}: choose at least 0.")
        for count in (*self.devices, *self.workers):
            if self.batch_size % count:
                raise ValueError(f"batch_size={self.batch_size} on {count} devices: choose a multiple of {count}.")


@dataclass(frozen=True)
class Setup:
    """Where a step runs: on devices of one process, or on workers with a device each."""

    devices: int = 1
    workers: int = 1

    @property
    def replicas(self) -> int:
        """Devices of all workers together."""
        return self.devices * self.workers

    @property
    def name(self) -> str:
        """What tables call it."""
        if self.workers > 1:
            return f"{self.workers} workers"
        return f"{self.devices} devices" if self.devices > 1 else ALONE


# The child's side


def zoo(options: Options) -> Contender:
    """The `GAN` of `train_step`'s `zoo` on the one number of devices in `options`, or as a worker of TF_CONFIG.

    Raises:
        NotRunError: this machine has not so many.
    """
    import keras
    import tensorflow as tf

    from zoo.models.gan import GAN
    from zoo.training.devices import choose_strategy, devices_of
    from zoo.training.run_directory import RunError

    (devices,) = options.devices
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        # Logical CPU devices share their threads, and no setting gives each its own. So operations are single-threaded,
        # and as many run at a time as there are devices: one thread a device is the only share that can be kept.
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(devices)
    try:
        strategy = choose_strategy(Recipe("dcgan-images", devices=devices, deterministic=False))
    except RunError as error:
        raise NotRunError(str(error)) from None
    keras.utils.set_random_seed(0)
    with strategy.scope():
        shape = (options.image_size, options.image_size, CHANNELS)
        model = GAN(shape, LATENT_DIM, width=options.width, ema_decay=None)
        model.compile(generator=train_step.ADAM.build(), discriminator=train_step.ADAM.build())
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    facts = {
        "kind": "GPU" if gpus else "CPU",
        "gpus": len(gpus),
        "gpu": details.get("device_name", ""),
        "devices": devices_of(strategy),
        "players": len(model.players),
        "all_reduces": all_reduces(model, repeated(strategy, options, options.batch_size)),
    }
    runs: dict[int, Callable[[int, int], int]] = {}

    def run(batch: int, steps: int) -> int:
        if batch not in runs:
            runs[batch] = train_step.keras_contender(model, repeated(strategy, options, batch)).run
        return runs[batch](batch, steps)

    networks = {"generator": model.generator.trainable_weights, "discriminator": model.discriminator.trainable_weights}
    return Contender(run, harness.parameters_of(**networks), facts=facts)


CONTENDERS = {"zoo": zoo}


def repeated(strategy: Any, options: Options, batch: int) -> Any:  # tf.distribute.DistributedDataset
    """An endless data set of one global batch of noise, of which every replica of `strategy` has its own rows."""
    import tensorflow as tf

    shape = (batch, options.image_size, options.image_size, CHANNELS)
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    replicas = strategy.num_replicas_in_sync

    def of_worker(context: Any) -> Any:
        here = context.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * here
        parts = {"image": images, "row": np.arange(batch)}
        mine = {key: np.stack(np.split(value, replicas)[first : first + here]) for key, value in parts.items()}
        return tf.data.Dataset.from_tensor_slices(mine).repeat()

    return strategy.distribute_datasets_from_function(of_worker)


def all_reduces(model: Any, data: Any) -> dict[str, dict[str, int]]:
    """What the all-reduces of a train step are for -> how many one replica takes part in, and its bytes in them.

    Counted in the graph of the train function, which holds them once a replica of this process.

    Raises:
        RuntimeError: there are collective operations that this can't count.
    """
    from zoo.core import replicas

    named = {function: in_scope(getattr(replicas, function), purpose) for function, purpose in PURPOSES.items()}
    with mock.patch.multiple(replicas, **named):
        traced = model.make_train_function().get_concrete_function(iter(data))
    graph = traced.graph.as_graph_def(add_shapes=True)
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    nodes = [node for body in bodies for node in body if node.op.startswith(("Collective", "Nccl"))]
    if strange := sorted({node.op for node in nodes} - {*ALL_REDUCES, *SILENT}):
        raise RuntimeError(f"the train step has collective operations that can't be counted: {strange}.")
    nodes = [node for node in nodes if node.op in ALL_REDUCES]
    devices = sorted({node.device for node in nodes})
    counts = {purpose: {"operations": 0, "bytes": 0} for purpose in (*PURPOSES.values(), STATISTICS)}
    for node in nodes:
        if node.device == devices[0]:
            count = counts[purpose_of(node.name)]
            count["operations"] += 1
            count["bytes"] += bytes_of(node)
    return counts


def in_scope(function: Callable[..., Any], purpose: str) -> Callable[..., Any]:
    """`function`, whose operations carry `purpose` in their names."""
    import tensorflow as tf

    def scoped(*arguments: Any) -> Any:
        with tf.name_scope(f"for_{purpose}"):
            return function(*arguments)

    return scoped


def purpose_of(name: str) -> str:
    """What the all-reduce of this name is for."""
    return next((purpose for purpose in PURPOSES.values() if f"for_{purpose}" in name), STATISTICS)


def bytes_of(node: Any) -> int:
    """Size of what one replica hands to an all-reduce.

    Raises:
        RuntimeError: its shape is not known before the step runs.
    """
    import tensorflow as tf

    (shape,) = (tf.TensorShape(shape) for shape in node.attr["_output_shapes"].list.shape)
    if not shape.is_fully_defined():
        raise RuntimeError(f"the all-reduce {node.name} of shape {shape} can't be counted: its size is not fixed.")
    return shape.num_elements() * tf.as_dtype(node.attr["T"].type).size


# The parent's side


def answers(processes: Sequence[Process], *question: int) -> list[dict[str, Any]]:
    """Every process's answer to the same question, asked at once: workers wait for each other.

    Raises:
        NotRunError, RuntimeError: one of them can't go on; the others are not waited for.
    """
    for process in processes:
        process.ask(*question)
    replies: dict[str, dict[str, Any]] = {}
    with selectors.DefaultSelector() as selector:
        for process in processes:
            selector.register(process.child.stdout, selectors.EVENT_READ, process)
        while len(replies) < len(processes):
            for key, _ in selector.select():
                selector.unregister(key.fileobj)
                replies[key.data.name] = key.data.reply()
    return [replies[process.name] for process in processes]


def turn(processes: Sequence[Process], batch: int, steps: int) -> dict[str, float]:
    """One turn of all processes of a setup, as one of the slowest that has the processor time and memory of all."""
    told = answers(processes, batch, steps)
    return {
        "calls": told[0]["calls"],
        "seconds": max(each["seconds"] for each in told),
        "processor": sum(each["processor"] for each in told),
        "peak_mib": sum(each["peak_mib"] for each in told),
    }


def start(setup: Setup, options: Options, folder: Path, gpus: int) -> list[Process]:
    """The processes of `setup`, begun.

    Raises:
        NotRunError: fewer GPUs than workers on a machine that has some.
    """
    given = dataclasses.replace(options, devices=(setup.devices,), workers=(setup.workers,))
    names = [f"{setup.name}, number {index}" for index in range(setup.workers)] if setup.workers > 1 else [setup.name]
    return [
        Process(MODULE, "zoo", given, folder, environment, label)
        for label, environment in zip(names, environments(setup.workers, gpus), strict=True)
    ]


def environments(workers: int, gpus: int) -> list[dict[str, str]]:
    """What each worker's process gets to know: the cluster, on free ports of this machine, and the GPU that is its own.

    Raises:
        NotRunError: fewer GPUs than workers on a machine that has some.
    """
    if workers == 1:
        return [{"TF_CONFIG": "{}"}]  # whatever cluster this process may be part of
    if 0 < gpus < workers:
        raise NotRunError(f"{workers} workers need a GPU each, and there are {gpus}")
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(workers)]
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(str(number) for number in range(gpus))
    found = []
    for index in range(workers):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        own = {"CUDA_VISIBLE_DEVICES": visible.split(",")[index]} if gpus else {}
        found.append({"TF_CONFIG": json.dumps(cluster)} | own)
    return found


def measure(options: Options) -> dict[str, Any]:
    """Measure, count and predict; returns plain data.

    Raises:
        RuntimeError: a child failed, or the counted gradients are not those of the networks.
    """
    alone = Setup()
    several = [Setup(devices=n) for n in options.devices] + [Setup(workers=n) for n in options.workers]
    several = [setup for setup in dict.fromkeys(several) if setup != alone]
    batch = options.batch_size
    # Batch sizes of the turns: one device takes the shares of strong scaling's replicas, too.
    cases = {alone: [batch, *(batch // setup.replicas for setup in several)]}
    cases = {alone: list(dict.fromkeys(cases[alone]))} | {s: [batch, batch * s.replicas] for s in several}
    facts: dict[Setup, dict[str, Any]] = {}
    not_run: dict[str, str] = {}
    parameters: dict[str, int] = {}
    running: dict[Setup, list[Process]] = {}
    turns: dict[tuple[Setup, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for setup in cases:
            try:
                processes = start(setup, options, Path(folder), facts[alone]["gpus"] if facts else 0)
                for process in processes:
                    stack.callback(process.end)
                built = answers(processes)[0]
                for size in cases[setup]:
                    turn(processes, size, options.steps)  # to warm up
            except NotRunError as error:
                not_run[setup.name] = str(error)
                continue
            running[setup], facts[setup], parameters = processes, built["facts"], built["parameters"]
        order = list(running)
        for _ in range(options.rounds):
            for setup in order:
                for size in cases[setup]:
                    turns.setdefault((setup, size), []).append(turn(running[setup], size, options.steps))
            order = order[1:] + order[:1]  # nobody always comes first
    check_gradients(facts, parameters)
    rows = [row(ALONE, alone, batch, turns, options, facts[alone]["kind"])]
    for scaling, growth in {"strong": lambda setup: 1, "weak": lambda setup: setup.replicas}.items():
        for setup in several:
            if setup in running:
                rows.append(row(scaling, setup, batch * growth(setup), turns, options, facts[alone]["kind"]))
    return {
        "options": dataclasses.asdict(options),
        "machine": harness.machine() | {key: facts[alone][key] for key in ("kind", "gpu", "gpus")},
        "parameters": parameters,
        "expected_gradient_bytes": gradient_bytes(parameters, facts[alone]["players"]),
        "all_reduces": {setup.name: facts[setup]["all_reduces"] for setup in running},
        "not_run": not_run,
        "results": rows,
        "prediction": prediction(options, facts, rows[0]),
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def row(
    scaling: str,
    setup: Setup,
    batch: int,
    turns: Mapping[tuple[Setup, int], Sequence[Mapping[str, float]]],
    options: Options,
    kind: str,
) -> dict[str, Any]:
    """What was measured of `setup` at one global batch size, beside one device.

    `speed_up` is in images/s, over one device with `options.batch_size`; `outside_seconds` is explained in the module's
    docstring. `efficiency`, the speed-up a replica, is None where the replicas share cores.
    """
    own = turns[setup, batch]
    share = turns[Setup(), batch // setup.replicas]
    found = harness.summary(own, turns[Setup(), options.batch_size], batch)
    speed_up = found.pop("ratio") * batch / options.batch_size  # the ratio is that of seconds a step
    outside = [a["seconds"] / a["calls"] - b["seconds"] / b["calls"] for a, b in zip(own, share, strict=True)]
    crowded = kind == "CPU" and setup.replicas > cores()
    return {
        "scaling": scaling if setup.replicas > 1 else "-",
        "setup": setup.name,
        "replicas": setup.replicas,
        "batch": batch,
        "seconds_per_step": found.pop("milliseconds_per_call") / 1000,
        "outside_seconds": median(outside),
        "speed_up": speed_up,
        "efficiency": None if crowded else speed_up / setup.replicas,
        "no_efficiency": f"{setup.replicas} devices share {cores()} cores" if crowded else "",
        **found,
    }


def gradient_bytes(parameters: Mapping[str, int], players: int) -> int:
    """Bytes that a replica hands over for one update of every player."""
    return BYTES_OF_FLOAT32 * (sum(parameters.values()) + BESIDE_THE_GRADIENTS * players)


def check_gradients(facts: Mapping[Setup, Mapping[str, Any]], parameters: Mapping[str, int]) -> None:
    """Compare the counted gradients with the networks' sizes; a count that is wrong there is wrong anywhere.

    Raises:
        RuntimeError: they differ.
    """
    for setup, each in facts.items():
        counted = each["all_reduces"]["gradients"]["bytes"]
        expected = gradient_bytes(parameters, each["players"]) if setup.replicas > 1 else 0
        if counted != expected:
            raise RuntimeError(
                f"{setup.name}: the graph reduces {counted:,} bytes of gradients; {dict(parameters)} parameters are "
                f"{expected:,} with each player's loss and row count."
            )


def prediction(options: Options, facts: Mapping[Setup, Mapping[str, Any]], alone: Mapping[str, Any]) -> dict[str, Any]:
    """What the model in the module's docstring says, or under "not_made" why it says nothing."""
    on_gpu = next(iter(facts.values()))["kind"] == "GPU"
    step_seconds = options.step_seconds or (alone["seconds_per_step"] if on_gpu else None)
    counted = next((each["all_reduces"] for setup, each in facts.items() if setup.replicas > 1), None)
    if counted is None:
        return {"not_made": "nothing ran on several devices, so no all-reduce was counted"}
    if step_seconds is None:
        return {"not_made": "it needs the seconds of a step on a GPU, and there is none here: give --step-seconds"}
    payload = sum(purpose["bytes"] for purpose in counted.values())
    operations = sum(purpose["operations"] for purpose in counted.values())
    rows = options.predict(step_seconds, payload, operations)
    return {"step_seconds": step_seconds, "payload_bytes": payload, "operations": operations, "rows": rows}


def report(outcome: Mapping[str, Any]) -> None:
    """Print what `measure` found: JSON where the options ask for it, else tables."""
    options = Options(**outcome["options"])
    if options.json:
        print(json.dumps(outcome))
        return
    console = Console(width=None if sys.stdout.isatty() else 130)
    kind = outcome["machine"]["kind"]
    size = f"{options.image_size}x{options.image_size}, width {options.width}"
    table = Table(title=f"DCGAN train step on {kind} devices, {size}; seconds and 'outside' are those of a step")
    for heading in COLUMNS:
        table.add_column(heading, justify="left" if heading in ("scaling", "on") else "right")
    for each in outcome["results"]:
        share = "-" if each["efficiency"] is None else f"{each['efficiency']:.0%}"
        table.add_row(*(cell.format(**each, shown_efficiency=share) for cell in COLUMNS.values()))
    console.print(table)
    for reason in dict.fromkeys(each["no_efficiency"] for each in outcome["results"] if each["no_efficiency"]):
        console.print(f"no efficiency: {reason}", markup=False)
    for name, reason in outcome["not_run"].items():
        console.print(f"not run: {name}: {reason}", markup=False)
    console.print(counted_table(outcome["all_reduces"]))
    parameters = ", ".join(f"{name} {count:,}" for name, count in outcome["parameters"].items())
    console.print(
        f"trainable parameters: {parameters}; with each player's loss and row count "
        f"{outcome['expected_gradient_bytes']:,} bytes, as counted wherever replicas reduce gradients"
    )
    console.print(*prediction_shown(outcome["prediction"], options), sep="\n")
    about = outcome["machine"] | outcome["machine"]["versions"]
    shown = (f"{name} {value}" for name, value in about.items() if name != "versions" and value not in ("", 0))
    console.print(", ".join(shown), markup=False)


def counted_table(counts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> Table:
    """The all-reduces of a step, by setup and purpose."""
    table = Table("on", "all-reduces of a step for", title="Counted in the graph: what one replica hands over")
    for heading in ("operations", "bytes"):
        table.add_column(heading, justify="right")
    for setup, purposes in counts.items():
        for purpose, count in purposes.items():
            if count["operations"]:
                table.add_row(setup, purpose, str(count["operations"]), f"{count['bytes']:,}")
    return table


def prediction_shown(made: Mapping[str, Any], options: Options) -> Iterable[Any]:
    """The prediction's table and what it assumes, or why there is none."""
    if "not_made" in made:
        return [f"no PREDICTION: {made['not_made']}"]
    headings = ("GPUs", "machines", "Gbit/s between them", "all-reduces ms", "of it latency", "step ms", "efficiency")
    table = Table(title="PREDICTION, not measured: weak scaling")
    for heading in headings:
        table.add_column(heading, justify="right")
    for each in made["rows"]:
        machines = math.ceil(each["gpus"] / options.gpus_per_machine)
        seconds = each["all_reduce_seconds"], each["latency_seconds"], made["step_seconds"] + each["all_reduce_seconds"]
        between = f"{each['network_gigabits']:g}" if machines > 1 else "-"
        times = (f"{1000 * value:.2f}" for value in seconds)
        table.add_row(str(each["gpus"]), str(machines), between, *times, f"{each['efficiency']:.0%}")
    return [
        table,
        f"assumed: {1000 * made['step_seconds']:g} ms a step on one GPU, {made['operations']} all-reduces of "
        f"{made['payload_bytes']:,} bytes in all, nothing overlaps;",
        f"NVLink {options.nvlink_gigabytes:g} GB/s each way (H100 data sheet) among {options.gpus_per_machine} GPUs, "
        "line rates between machines; NCCL's cost table:",
        f"{options.launch_microseconds:g} us an all-reduce, {options.nvlink_microseconds:g} us a hop inside a machine "
        f"and {options.network_microseconds:g} us between machines.",
        "step(n) = step(1) + 2 (n - 1)/n bytes / bandwidth + all-reduces x (launch + hops x latency of a hop); "
        "hops = 2 (n - 1)",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    report(measure(tyro.cli(Options, args=arguments, description=__doc__)))


if __name__ == "__main__":
    main()
