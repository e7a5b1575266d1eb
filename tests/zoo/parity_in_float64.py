"""Fifty steps in float64 on one replica and on two: run by test_replicas.py in a process of its own.

In float32 two runs that differ by one rounding drift apart within such a time however they are computed; float64 leaves
ten digits more. The two replicas are two CPU devices of this process or, where TF_CONFIG names two workers, a process
each, and every worker compares itself with one replica. Prints, as JSON, each case's largest difference, as a share of
its tensor's largest value.
"""

import json
import os
from collections.abc import Callable
from functools import cache
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import tensorflow as tf

from zoo.core.precision import computing_in
from zoo.data.batches import distributed_batches
from zoo.data.load import load_images
from zoo.models.gan import GAN

STEPS, ROWS = 50, 6
WORKERS = "TF_CONFIG" in os.environ
ARCHITECTURES = {"dcgan": {"width": 4}, "mlp": {"width": 8}}
OPTIMIZERS = {"sgd": lambda: keras.optimizers.SGD(0.05), "adam": lambda: keras.optimizers.Adam(1e-3, beta_1=0.5)}


def batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
    images = tf.random.stateless_uniform((ROWS, 8, 8, 1), [1, tf.cast(step, tf.int32)], -1.0, 1.0, tf.float64)
    return {"image": images, "row": tf.range(ROWS, dtype=tf.int64)}


def uniform(strategy: tf.distribute.Strategy) -> tf.data.Dataset:
    """Global batches, which `fit` hands to the strategy: each replica gets its slice."""
    return tf.data.Dataset.range(STEPS).map(batch)


def embedded(strategy: tf.distribute.Strategy) -> Any:
    """Each worker makes its own rows alone; in float32, as in training."""
    images = load_images("embedded", image_size=8, channels=1)
    return distributed_batches(strategy, images, batch_size=ROWS, seed=5)


@cache  # a second strategy would number its collective operations as the first did, which TensorFlow can't tell apart
def strategy(replicas: int) -> tf.distribute.Strategy:
    if replicas == 1:
        return tf.distribute.get_strategy()
    if WORKERS:
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(replicas)])


def run(
    architecture: str,
    optimizer: str,
    replicas: int,
    steps_per_execution: int = 1,
    xla: bool = False,
    data: Callable[[tf.distribute.Strategy], Any] = uniform,
) -> dict[str, list[np.ndarray]]:
    """The weights, averages included, and the metrics after the last step."""
    with strategy(replicas).scope():
        keras.utils.set_random_seed(3)
        model = GAN((8, 8, 1), latent_dim=4, architecture=architecture, **ARCHITECTURES[architecture])
        optimizers = {player: OPTIMIZERS[optimizer]() for player in model.players}
        model.compile(seed=7, steps_per_execution=steps_per_execution, jit_compile=xla, **optimizers)
    assert model.distribute_strategy.num_replicas_in_sync == replicas
    start = model.get_weights()
    history = model.fit(data(strategy(replicas)), steps_per_epoch=STEPS, shuffle=False, verbose=0).history
    weights = model.get_weights()
    assert all(weight.dtype == np.float64 for weight in weights)
    assert min(np.abs(one - other).max() for one, other in zip(weights, start, strict=True)) > 0  # all have moved
    return {"weights": weights, "metrics": [np.array(history[name]) for name in sorted(history)]}


def difference(found: dict[str, list[np.ndarray]], expected: dict[str, list[np.ndarray]]) -> dict[str, float]:
    return {
        part: max(
            float(np.abs(one - other).max() / np.abs(other).max())
            for one, other in zip(found[part], expected[part], strict=True)
        )
        for part in expected
    }


def on_devices() -> dict[str, dict[str, float]]:
    """Case -> how far two devices, or a step that XLA compiles, are from one device and the plain step."""
    found = {}
    for architecture in ARCHITECTURES:
        for optimizer in OPTIMIZERS:
            one = run(architecture, optimizer, replicas=1)
            found[f"{architecture}-{optimizer}"] = difference(run(architecture, optimizer, replicas=2), one)
        found[f"{architecture}-{optimizer}-xla"] = difference(run(architecture, optimizer, replicas=1, xla=True), one)
    five = run("mlp", "adam", replicas=2, steps_per_execution=5)
    found["mlp-adam-five-steps-per-execution"] = difference(five, one)
    return found


def on_workers() -> dict[str, dict[str, float]]:
    """Case -> how far this one of two workers is from one process."""
    strategy(2)  # before anything else: TensorFlow takes its cluster only while it starts
    cases = {"mlp-sgd": ("mlp", "sgd", uniform), "dcgan-adam-own-rows": ("dcgan", "adam", embedded)}
    return {
        name: difference(run(*case, replicas=2, data=data), run(*case, replicas=1, data=data))
        for name, (*case, data) in cases.items()
    }


def main() -> None:
    if not WORKERS:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
    with computing_in("float64"):
        print(json.dumps(on_workers() if WORKERS else on_devices()))


if __name__ == "__main__":
    main()
