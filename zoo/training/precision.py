"""What the networks of a run compute in where its recipe says "auto": bfloat16 where the machine does, else float32.

Asked when a run begins and kept in its config.json: the run goes on in it on whatever machine it is resumed.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from zoo.training.devices import devices_of
from zoo.training.processor import BFLOAT16, read_processor_flags
from zoo.training.recipe import AUTO, Policy, Recipe
from zoo.training.run_directory import read_config, require_run
from zoo.training.workers import Workers

FULL: Policy = "float32"
HALF: Policy = "mixed_bfloat16"
Capability = tuple[int, int]  # CUDA compute capability, major and minor
LEAST_CAPABILITY = (8, 0)  # Ampere: the first GPUs of NVIDIA that compute in bfloat16
LEAST_SPEEDUP = 1.25  # of both operations; measured: 1.6 with avx512_bf16, 0.5 where oneDNN emulates bfloat16
TURNS = 8
SECONDS = 1.0  # after which no further turn begins: emulated, one may take that long


@dataclass(frozen=True)
class Precision:
    """What a run computes in.

    Args:
        policy: of the networks' layers.
        chosen_by: "auto" or "recipe"; None for a run that was begun before this was recorded.
        reason: a phrase that follows the policy, such as "as asked".
    """

    policy: Policy
    chosen_by: str | None
    reason: str

    def __str__(self) -> str:
        return f"precision: {self.policy}, {self.reason}."


def resolve_precision(recipe: Recipe, directory: Path, workers: Workers) -> Precision:
    """What the run computes in: as asked; for "auto" as it was begun, or as this machine, with all workers, decides.

    Args:
        recipe: with "auto" or a policy.
        directory: of the run, which holds one where `recipe.resume`.
        workers: all of them must call this.

    Raises:
        RunError: a worker does not see the run that is resumed.
    """

    def choose() -> Precision:
        recorded = read_precision(directory, workers.index) if recipe.resume else None
        if recipe.precision != AUTO:
            return Precision(recipe.precision, recorded.chosen_by if recorded else "recipe", "as asked")
        return recorded or choose_precision(list_capabilities(len(devices_of(workers.strategy))), xla=recipe.xla)

    # Both are called on every worker, whatever it was asked: they wait for each other.
    chosen = workers.together(choose)
    slower = [index for index, faster in enumerate(workers.gather(int(chosen.policy == HALF))) if not faster]
    if workers.count == 1 or recipe.resume or recipe.precision != AUTO:
        return chosen
    if slower:
        return Precision(FULL, AUTO, f"since worker(s) {slower} did not choose bfloat16")
    return Precision(HALF, AUTO, "since every worker computes faster in bfloat16")


def read_precision(directory: Path, worker: int) -> Precision | None:
    """What the run in `directory` was begun in; None where its config.json does not say.

    Raises:
        RunError: there is no run.
    """
    require_run(directory, worker)
    config = read_config(directory)
    policy = config.get("recipe", {}).get("precision")
    return Precision(policy, config.get("precision_chosen_by"), "in which this run was begun") if policy else None


def choose_precision(capabilities: Sequence[Capability | None], xla: bool = False) -> Precision:
    """What this machine computes faster in; takes up to some seconds where it must be measured.

    Args:
        capabilities: of the GPUs trained on, see `list_capabilities`; none for the CPU.
        xla: whether XLA compiles the step.
    """
    return decide(capabilities, read_processor_flags(), xla, measure_speedups)


def decide(
    capabilities: Sequence[Capability | None],
    flags: AbstractSet[str],
    xla: bool,
    measure: Callable[[], Mapping[str, float]],
) -> Precision:
    """What is faster, by the GPUs' generation, or the processor's instructions and then a measurement.

    Args:
        capabilities: of the GPUs, None for one that does not tell; the least capable decides.
        flags: instructions of the processor, which decides where there is no GPU.
        xla: whether XLA compiles the step.
        measure: operation -> times as fast in bfloat16 as in float32; called only where the flags leave it open.
    """
    if None in capabilities:
        return Precision(FULL, AUTO, "since a GPU does not tell its compute capability")
    if capabilities:
        major, minor = least = min(capability for capability in capabilities if capability)
        found = f"since the GPU has compute capability {major}.{minor}"
        if least >= LEAST_CAPABILITY:
            return Precision(HALF, AUTO, found)
        return Precision(FULL, AUTO, f"{found}, and bfloat16 takes {'.'.join(map(str, LEAST_CAPABILITY))}")
    if not flags & BFLOAT16:
        listed = ", ".join(sorted(BFLOAT16))
        return Precision(FULL, AUTO, f"since this processor has no instructions for bfloat16 (none of {listed})")
    if xla:
        # Measured with avx512_bf16: a step of DCGAN takes 162 ms in either; without XLA 158 and 114.
        return Precision(FULL, AUTO, "since XLA gains nothing from bfloat16 on a processor")
    speedups = measure()
    listed = " and ".join(f"a {operation} {speedup:.2f} times" for operation, speedup in speedups.items())
    found = f"since this processor does {listed} as fast in bfloat16 as in float32"
    if min(speedups.values()) >= LEAST_SPEEDUP:
        return Precision(HALF, AUTO, found)
    return Precision(FULL, AUTO, f"{found}: it takes {LEAST_SPEEDUP} times")


def list_capabilities(count: int | None = None) -> list[Capability | None]:
    """The compute capability of each of the first `count` GPUs, by default of all; None for one that does not tell."""
    gpus = tf.config.get_visible_devices("GPU")[:count]
    return [tf.config.experimental.get_device_details(gpu).get("compute_capability") for gpu in gpus]


def measure_speedups() -> dict[str, float]:
    """Operation -> times as fast in bfloat16 as in float32, on the CPU as TensorFlow is built and set.

    Turns alternate, and the least processor time of each type counts, so that other programs hardly matter: with seven
    of them on two cores, 32 ratios of one machine were between 1.58 and 2.04.
    """
    # Each thread's share is the same on any machine: a smaller one would measure how they wait for each other.
    threads = tf.config.threading.get_intra_op_parallelism_threads() or len(os.sched_getaffinity(0))
    return {
        "matrix product": measure_speedup(tf.linalg.matmul, (512 * threads, 1024), (1024, 1024)),
        "convolution": measure_speedup(convolve, (32 * threads, 14, 14, 64), (5, 5, 64, 64)),
    }


def convolve(x: tf.Tensor, kernel: tf.Tensor) -> list[tf.Tensor]:
    """A convolution and its two gradients, which are two thirds of the work of training."""
    how = {"strides": [1, 1, 1, 1], "padding": "SAME"}
    y = tf.nn.conv2d(x, kernel, **how)
    to_input = tf.raw_ops.Conv2DBackpropInput(input_sizes=tf.shape(x), filter=kernel, out_backprop=y, **how)
    to_filter = tf.raw_ops.Conv2DBackpropFilter(input=x, filter_sizes=tf.shape(kernel), out_backprop=y, **how)
    return [y, to_input, to_filter]


def measure_speedup(operation: Callable[..., tf.Tensor | list[tf.Tensor]], *shapes: tuple[int, ...]) -> float:
    """Times as fast in bfloat16 as in float32: the ratio of the least processor times.

    Args:
        operation: takes one tensor for each shape.
        shapes: of its arguments.
    """
    function = tf.function(operation)
    times: dict[tf.DType, list[float]] = {tf.float32: [], tf.bfloat16: []}
    with tf.device("CPU:0"):
        arguments = {dtype: [tf.ones(shape, dtype) for shape in shapes] for dtype in times}
        for dtype in times:
            function(*arguments[dtype])  # traced, and its kernel chosen
        deadline = time.monotonic() + SECONDS
        while not times[tf.bfloat16] or (len(times[tf.bfloat16]) < TURNS and time.monotonic() < deadline):
            for dtype, found in times.items():
                began = time.process_time()
                function(*arguments[dtype])
                found.append(time.process_time() - began)
    return min(times[tf.float32]) / min(times[tf.bfloat16])
