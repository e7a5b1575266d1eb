"""Where a run trains: its devices, the other workers of its cluster, and what these agree on.

Workers are processes, one a machine, that TensorFlow's TF_CONFIG tells of each other. Each runs the same command; the
chief alone writes. Whatever decides what a worker does next is agreed on first, since one that goes another way leaves
the others waiting for it.
"""

import os
from typing import Any

import tensorflow as tf

from zoo.training.recipe import Recipe
from zoo.training.run_directory import RunError
from zoo.training.workers import LOST, Workers, has_several_workers, leave_signals_to_the_system, meet

BEGUN = "TensorFlow has begun already; ask in a fresh process."


def choose_strategy(recipe: Recipe) -> tf.distribute.Strategy:
    """MultiWorkerMirroredStrategy where TF_CONFIG names several workers; on one machine, MirroredStrategy over the
    devices asked for, and the default strategy on a single one.

    Raises:
        RunError: more devices asked for than there are, a TF_CONFIG that is no cluster of workers, or TensorFlow has
            begun and can't change threads or split the CPU.
    """
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()
    if recipe.threads is not None and tf.config.threading.get_intra_op_parallelism_threads() != recipe.threads:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(recipe.threads)
            tf.config.threading.set_inter_op_parallelism_threads(recipe.threads)
        except RuntimeError:
            raise RunError(f"--threads {recipe.threads}: {BEGUN}") from None
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if gpus and recipe.devices is not None and recipe.devices > len(gpus):
        raise RunError(f"--devices {recipe.devices}: this machine has {len(gpus)} GPU(s).")
    if has_several_workers(os.environ.get("TF_CONFIG", "")):
        return make_worker_strategy(recipe, gpus)
    wanted = recipe.devices or max(len(gpus), 1)
    if wanted == 1:
        return tf.distribute.get_strategy()
    if gpus:
        return tf.distribute.MirroredStrategy([f"GPU:{number}" for number in range(wanted)])
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or [None]) < wanted:
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * wanted)
        except RuntimeError:
            raise RunError(f"--devices {wanted}: {BEGUN}") from None
    return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(wanted)])


def make_worker_strategy(recipe: Recipe, gpus: list[Any]) -> tf.distribute.Strategy:
    """MultiWorkerMirroredStrategy over the cluster of TF_CONFIG, with `--devices` GPUs of each worker.

    Raises:
        RunError: several devices without a GPU, workers that do not come, or TensorFlow has begun.
    """
    if not gpus and (recipe.devices or 1) > 1:
        raise RunError(f"--devices {recipe.devices}: a worker without a GPU trains on one device, its CPU.")
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    cluster = resolver.cluster_spec()
    meet(
        cluster.task_address(resolver.task_type, resolver.task_id),
        [address for job in cluster.jobs for address in cluster.job_tasks(job)],
    )
    try:
        if recipe.devices is not None and gpus:
            tf.config.set_visible_devices(gpus[: recipe.devices], "GPU")
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        if "program startup" in str(error) or "initialized" in str(error):
            raise RunError(f"TF_CONFIG: {BEGUN}") from None
        raise
    except (*LOST, tf.errors.UnknownError) as error:
        raise RunError(f"the workers of TF_CONFIG have lost each other at the start: {error.message}") from None
    leave_signals_to_the_system()
    return strategy


def devices_of(strategy: tf.distribute.Strategy) -> list[str]:
    """Names of the logical devices that `strategy` trains on, those of this worker."""
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    here = strategy.num_replicas_in_sync // Workers(strategy).count
    return [device.name for device in tf.config.list_logical_devices(kind)[:here]]
