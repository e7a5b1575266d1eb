"""`zoo doctor --selftest`: a minute or two of checks on the devices that this machine has.

Each check trains, saves or exports the tiny twin of the first preset in processes of its own. TensorFlow takes its
devices, its cluster and its determinism only while it starts, and two strategies with collectives of their own abort
each other in one process; and a check that crashes or hangs fails alone.

The upper half starts the processes and judges what they found, without TensorFlow. The lower half is what they do.
"""

import dataclasses
import importlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.markup import escape

from recipes.pictures import Pictures
from recipes.recipe import SGD, Recipe
from serving.session import Session, count_nvidia_devices
from zoo.presets import PRESETS
from zoo.quiet import start_tensorflow

PATIENCE = 300  # seconds until a process counts as hanging; the longest check took 90 on two busy cores
MOST = 8  # devices that a check uses
ROWS = 4  # of each device's share of a batch, at least
STEPS = 3  # that workers train
MIXED_STEPS = 12  # the first ones are skipped: float16 overflows until the loss scale has come down
PICTURES = 256
CONTRAST = 5.0  # times fresh weights: these make pictures of 0.002 at most, where 1 stands for white
NOT_STATE = {"_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter/.ATTRIBUTES/VARIABLE_VALUE"}  # of a checkpoint, not of a run
CONVOLUTION_LIMIT = 1e-3  # TensorFloat-32 keeps 10 bits of a factor
FLOAT64_LIMIT = 1e-9
FLOAT32_LIMITS = {"CPU": 1e-5, "GPU": 1e-3}
MIXED = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}
LARGEST_SCALE = 2.0**15  # where Keras' loss scale starts; it doubles only after 2,000 steps

Status = Literal["ok", "failed", "skipped"]
Arrays = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Place:
    """The first `count` GPUs; or that many logical devices of the CPU, with the GPUs hidden."""

    kind: Literal["CPU", "GPU"]
    count: int

    def __str__(self) -> str:
        return f"{self.count} {self.kind}{' device' * (self.kind == 'CPU')}{'s' * (self.count > 1)}"


@dataclass(frozen=True)
class Measure:
    """A difference and the largest one allowed."""

    what: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether it is within its limit; NaN is not."""
        return self.value <= self.limit

    def __str__(self) -> str:
        return f"{self.what} {self.value:.1e} {'<=' if self.passed else 'is not <='} {self.limit:.0e}"


@dataclass(frozen=True)
class Finding:
    """What a check found: what was measured, what was wrong beside that, what else is worth knowing."""

    measures: tuple[Measure, ...] = ()
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        """Failed with any fault or any measure beyond its limit."""
        return "ok" if not self.faults and all(measure.passed for measure in self.measures) else "failed"

    @property
    def detail(self) -> str:
        """One line, what is wrong first."""
        measures = sorted(self.measures, key=lambda measure: measure.passed)
        return "; ".join([*self.faults, *map(str, measures), *self.notes])


class SkippedError(Exception):
    """A check that this machine gives nothing to do."""


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
        return [sys.executable, "-P", "-m", __name__, self.task, str(self.place.count), json.dumps(self.options)]

    @property
    def variables(self) -> dict[str, str]:
        """The environment: this process's own, but for what would choose devices or a cluster."""
        own = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if self.place.kind == "CPU" else {}
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        return {**quiet, **own, **hidden, **self.environment}


def run(tensorflow: Mapping[str, Any] | None, console: Console) -> list[dict[str, Any]]:
    """Do every check, one after another.

    Args:
        tensorflow: what the doctor says of it, see `zoo.doctor.tensorflow_devices`; None where it is not installed.
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


def all_devices(gpus: int) -> Place:
    """Every GPU, up to eight; two devices of the CPU where there is none."""
    return Place("GPU", min(gpus, MOST)) if gpus else Place("CPU", 2)


def one_device(gpus: int) -> Place:
    """The first GPU, or the CPU."""
    return Place("GPU" if gpus else "CPU", 1)


# The checks: number of GPUs -> what was found


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


def largest_difference(found: Arrays, expected: Arrays) -> float:
    """The largest difference, as a share of the largest value of the array that it is in; NaN if anything is NaN."""
    shares = [
        np.abs(np.subtract(one, other)).max() / max(np.abs(other).max(), np.finfo(np.float64).tiny)
        for part in expected
        for one, other in zip(found[part], expected[part], strict=True)
    ]
    return float(np.max(shares))


# What the processes do. TensorFlow has not begun when a task is called.


def task_devices(count: int) -> Finding:
    """The convolution of every device against NumPy's in float64."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    images, kernel = random.normal(size=(8, 16, 16, 16)), random.normal(size=(3, 3, 16, 16))
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))  # (8, 14, 14, 16, 3, 3)
    expected = np.einsum("bhwcij,ijco->bhwo", windows, kernel)
    measures = []
    for device in tf.config.list_logical_devices():
        if device.device_type in FLOAT32_LIMITS:
            with tf.device(device.name):
                found = tf.nn.conv2d(tf.constant(images, tf.float32), tf.constant(kernel, tf.float32), 1, "VALID")
            name = device.name.removeprefix("/device:")
            difference = largest_difference({name: [found.numpy()]}, {name: [expected]})
            measures.append(Measure(f"{name} against NumPy", difference, CONVOLUTION_LIMIT))
    allowed = tf.config.experimental.tensor_float_32_execution_enabled()
    gpus = len(measures) > 1
    return Finding(tuple(measures), notes=(f"TF32 is {'on' if allowed else 'off'}" if gpus else "no GPU, so no TF32",))


def task_first_step(count: int, batch_size: int) -> dict[str, Arrays]:
    """Gradients, weights and metrics after one step, in float32 and in float64."""
    import tensorflow as tf

    from recipes.devices import choose_strategy

    tf.config.experimental.enable_tensor_float_32_execution(False)
    recipes = {
        dtype: tiny(devices=count, steps=1, batch_size=batch_size, precision=dtype) for dtype in ("float32", "float64")
    }
    strategy = choose_strategy(recipes["float32"])
    return {dtype: trained(recipe, strategy) for dtype, recipe in recipes.items()}


def task_train(count: int, batch_size: int, steps: int) -> Arrays:
    """Gradients, weights and metrics after some steps in float64, alone or as a worker."""
    from recipes.devices import choose_strategy

    recipe = tiny(devices=count, steps=steps, batch_size=batch_size, precision="float64")
    return trained(recipe, choose_strategy(recipe))


def task_precision(count: int) -> Finding:
    """Whether mixed precision trains: finite metrics, float32 weights that have moved, a loss scale in its range."""
    import keras
    import tensorflow as tf

    from recipes.devices import choose_strategy
    from recipes.training import compiled

    faults, notes = [], []
    recipes = {
        policy: tiny(devices=count, steps=MIXED_STEPS, batch_size=ROWS * count, precision=policy) for policy in MIXED
    }
    strategy = choose_strategy(next(iter(recipes.values())))
    for policy, recipe in recipes.items():
        model = compiled(recipe, recipe.to_preset(), strategy)
        before = weights_of(model, strategy)
        metrics = fit(model, recipe, strategy)
        after = weights_of(model, strategy)
        moved = [not np.array_equal(one, other) for one, other in zip(before, after, strict=True)]
        wrong = {
            f"no layer computes in {MIXED[policy]}": not model.computes_in(MIXED[policy]),
            f"metrics {sorted(metrics)} are not finite": not np.isfinite(list(metrics.values())).all(),
            "weights are not finite": not all(np.isfinite(weight).all() for weight in after),
            "weights are not float32": any(weight.dtype != np.float32 for weight in after),
            f"{moved.count(False)} of {len(moved)} weights have not moved": not all(moved),
        }
        for player, optimizer in model.player_optimizers.items():
            if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
                scale = float(optimizer.scale_loss(tf.ones(())))
                wrong[f"{player}'s loss scale is {scale:g}"] = not 1.0 <= scale <= LARGEST_SCALE
                notes.append(f"{player}'s loss scale {scale:g}")
        faults += [f"{policy}: {what}" for what, so in wrong.items() if so]
    return Finding((), tuple(faults), (f"{' and '.join(MIXED)}: {MIXED_STEPS} steps each", *notes))


def task_not_finite(count: int) -> Finding:
    """One NaN in the last row of the batch: the step must stop and leave every device's copy of the weights."""
    import tensorflow as tf

    from recipes.devices import choose_strategy
    from recipes.training import compiled
    from zoo.core.step import NOT_FINITE

    recipe = tiny(devices=count, steps=1, batch_size=ROWS * count)
    strategy = choose_strategy(recipe)
    model = compiled(recipe, recipe.to_preset(), strategy)
    pictures = (model.pictures_per_row,) if model.pictures_per_row > 1 else ()
    shape = (recipe.batch_size, *pictures, *recipe.to_preset().arguments["image_shape"])
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    images[-1].flat[0] = np.nan
    data = tf.data.Dataset.from_tensors({"image": images, "row": np.arange(len(images))}).repeat()
    before = weights_of(model, strategy)
    try:
        model.fit(data, steps_per_epoch=1, shuffle=False, verbose=0)
        said = ""
    except tf.errors.InvalidArgumentError as error:
        said = error.message
    after = weights_of(model, strategy)
    wrong = {
        "the step did not stop": not said,
        f"the step stopped, for another reason: {first_line(said)}": bool(said) and NOT_FINITE not in said,
        "weights have changed": not all(np.array_equal(one, other) for one, other in zip(before, after, strict=True)),
    }
    faults = tuple(what for what, so in wrong.items() if so)
    return Finding((), faults, ("the step stopped, no weight changed",) if not faults else ())


def task_checkpoint(count: int) -> Finding:
    """Four steps, and two steps more from the second one's checkpoint: the same bits in everything that is saved."""
    import keras
    import tensorflow as tf

    from recipes.checkpoints import Checkpoints
    from recipes.devices import choose_strategy
    from recipes.training import compiled

    recipe = tiny(devices=count, steps=4, batch_size=ROWS)
    strategy = choose_strategy(recipe)
    with tempfile.TemporaryDirectory() as folder:
        model = compiled(recipe, recipe.to_preset(), strategy)
        checkpoints = Checkpoints(model, Path(folder) / "whole", keep=recipe.steps)
        save = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: checkpoints.save(batch + 1))
        fit(model, recipe, strategy, save)
        resumed = compiled(recipe, recipe.to_preset(), strategy)
        Checkpoints(resumed, Path(folder) / "whole", keep=1).load(2)
        fit(resumed, recipe, strategy)
        again = Checkpoints(resumed, Path(folder) / "resumed", keep=1)
        again.save(recipe.steps)
        expected, found = (tf.train.load_checkpoint(str(each.path(recipe.steps))) for each in (checkpoints, again))
        names = sorted(set(expected.get_variable_to_shape_map()) - NOT_STATE)
        differ = [name for name in names if not np.array_equal(expected.get_tensor(name), found.get_tensor(name))]
    if differ:
        return Finding(faults=(f"{len(differ)} of {len(names)} tensors differ, the first is {differ[0]}",))
    return Finding(notes=(f"all {len(names)} tensors have the same bits",))


def task_export(count: int) -> Finding:
    """Export, compare the formats as every export does, and ask ONNX Runtime for the device it takes by itself."""
    from recipes.devices import choose_strategy
    from recipes.training import build
    from serving.card import Data
    from zoo.export import FORMATS, TOLERANCE, ExportError, check_agreement, example, export
    from zoo.pretrained import load_pretrained

    recipe = tiny(devices=count)
    choose_strategy(recipe)
    preset = recipe.to_preset()
    worst, worst_served, providers = 0.0, 0.0, set()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "export"
        data = Data("noise", "train", 0, "", "noise")
        try:
            model = build(preset)
            for variable in model.exported_weights().values():
                variable.assign(CONTRAST * variable)
            export(model, directory, preset=preset, data=data, recipe={})
            model = load_pretrained(str(directory), format="keras")
            for name, ability in model.abilities().items():
                worst = max(worst, check_agreement(name, ability, directory, FORMATS))
                feeds = {spec.name: example(spec, ROWS) for spec in ability.card().inputs}
                session = Session(directory / f"{name}.onnx", strict=True)
                expected = {key: [value] for key, value in model.run_ability(name, feeds).items()}
                served = {key: [value] for key, value in session.run(feeds).items()}
                worst_served = max(worst_served, largest_difference(served, expected))
                providers.add(session.providers[0])
        except ExportError as error:
            return Finding(faults=(str(error),))
    used = ", ".join(sorted(providers))
    measures = (
        Measure("ONNX and SavedModel against Keras", worst, TOLERANCE),
        Measure(f"ONNX Runtime's {used} against Keras", worst_served, TOLERANCE),
    )
    return Finding(measures)


TASKS: Mapping[str, Callable[..., Any]] = {
    "devices": task_devices,
    "first step": task_first_step,
    "train": task_train,
    "precision": task_precision,
    "not finite": task_not_finite,
    "checkpoint": task_checkpoint,
    "export": task_export,
}


def tiny(**changes: Any) -> Recipe:
    """The recipe of the first preset, for its tiny twin.

    Args:
        **changes: fields of `Recipe`.
    """
    name = next(iter(PRESETS))
    recipe: Recipe = importlib.import_module(f"recipes.{name.replace('-', '_')}").recipe
    return dataclasses.replace(recipe, smoke=True, **changes)


def noise_pictures(shape: Sequence[int]) -> Pictures:
    """A few pictures of noise, all different.

    Args:
        shape: (height, width, channels).
    """
    images = np.random.default_rng(0).integers(0, 256, (PICTURES, *shape), np.uint8)
    return Pictures(images, None, (), "noise", "train", "", 0, (), "")


def fit(model: Any, recipe: Recipe, strategy: Any, *callbacks: Any) -> dict[str, float]:
    """Train from the model's step to the recipe's last; returns the metrics of all these steps."""
    from recipes.data import distributed_batches

    done = int(model.step.numpy())
    data = distributed_batches(
        strategy,
        noise_pictures(recipe.to_preset().arguments["image_shape"]),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        start_step=done,
        pictures_per_row=model.pictures_per_row,
    )
    options: dict[str, Any] = {"shuffle": False, "verbose": 0, "callbacks": list(callbacks)}
    history = model.fit(data, steps_per_epoch=recipe.steps - done, **options).history
    return {name: float(values[-1]) for name, values in history.items()}


def trained(recipe: Recipe, strategy: Any) -> dict[str, list[Any]]:
    """The gradients, weights and metrics after the recipe's steps, all of the recipe's float type.

    The velocity of SGD with momentum starts at 0, so after one step it is minus rate times the gradient, unrounded.
    """
    import keras

    from recipes.training import compiled

    players = {player: SGD(0.1, momentum=0.5) for player in recipe.optimizers}
    before = keras.config.floatx()
    keras.config.set_floatx(recipe.precision)
    try:
        model = compiled(dataclasses.replace(recipe, optimizers=players), recipe.to_preset(), strategy)
        metrics = fit(model, recipe, strategy)
    finally:
        keras.config.set_floatx(before)
    states = [variable for optimizer in model.player_optimizers.values() for variable in optimizer.variables]
    return {
        "gradients": [variable.numpy() for variable in states if "momentum" in variable.path],
        "weights": model.get_weights(),
        "metrics": [metrics[name] for name in sorted(metrics)],
    }


def weights_of(model: Any, strategy: Any) -> list[np.ndarray]:
    """Copies of every weight that a player moves, as each device of `strategy` has it."""
    return [
        copy.numpy()
        for player in model.players
        for variable in model.variables_of(player)
        for copy in strategy.experimental_local_results(variable.value)
    ]


def plain(value: Any) -> Any:
    """What JSON does not know: arrays and findings."""
    return value.tolist() if isinstance(value, np.ndarray) else dataclasses.asdict(value)


def main(task: str, count: str, options: str) -> None:
    """Do one task and write its answer as the last line of standard output; what goes wrong is the last of the other.

    Args:
        task: of `TASKS`.
        count: of its devices.
        options: its further arguments, as JSON.
    """
    try:
        start_tensorflow()
        answer = TASKS[task](int(count), **json.loads(options))
    except Exception as error:
        traceback.print_exc()
        print(f"{type(error).__name__}: {first_line(str(error))}", file=sys.stderr)
        sys.exit(1)
    print(json.dumps(answer, default=plain))


if __name__ == "__main__":
    main(*sys.argv[1:])
