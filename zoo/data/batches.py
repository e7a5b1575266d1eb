"""Images -> endless shuffled batches as `tf.data`.

The order of an epoch is a function of (seed, epoch), so the position in the data is the step and nothing else: a run
resumes at step 1,234 with that number alone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.data.images import ALIGNMENT, ImageSet, allocate
from zoo.data.store import expect_random_reads

# `tf.random.experimental.index_shuffle` fixes 4 rounds: measured on 10,000 rows, consecutive epochs then correlate
# by 0.13 (13 standard errors).  8 rounds leave nothing to see.  An odd number never returns.
SHUFFLE_ROUNDS = 8


def steps_per_epoch(image_set: ImageSet, batch_size: int, minibatches_per_step: int = 1) -> int:
    """Whole steps in one pass over the images; the last partial batch is dropped.

    Args:
        image_set: what to train on.
        batch_size: rows of the global batch.
        minibatches_per_step: how many minibatches of `batch_size` images one step takes.

    Raises:
        ValueError: a number below 1, or one step needs more images than there are.
    """
    if batch_size < 1 or minibatches_per_step < 1:
        raise ValueError(f"batch_size={batch_size}, minibatches_per_step={minibatches_per_step}: both must be >= 1")
    count, needed = len(image_set.images), batch_size * minibatches_per_step
    if needed > count:
        raise ValueError(
            f"one step needs batch_size * minibatches_per_step = {batch_size} * {minibatches_per_step} = {needed} "
            f"images, {image_set.name} {image_set.split} has {count}"
        )
    return count // needed


def batches(
    image_set: ImageSet,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    minibatches_per_step: int = 1,
    replicas: range = range(1),
    replica_count: int = 1,
    targets: ImageSet | None = None,
    paired: bool = False,
) -> Any:  # tf.data.Dataset
    """An endless `tf.data.Dataset` of global batches, from `start_step` on.

    `batches(start_step=s)` equals `batches().skip(s)` element for element.  Each replica's rows are one contiguous
    slice of the global batch, whether a strategy cuts it or `distributed_batches` asks for the slices one by one.

    Args:
        image_set: what to train on.
        batch_size: rows of the global batch.
        seed: >= 0; the order of epoch e is a function of (seed, e).
        start_step: first global step, >= 0.
        minibatches_per_step: k > 1 gives a step k minibatches of different images, for algorithms that update a player
            several times a step, as a WGAN its critic: a row then holds k images, one of each minibatch.
        replicas: numbers of the replicas whose rows are wanted: one element for each of them, step by step.
        replica_count: how many replicas share the global batch.
        targets: a second collection, of which a row holds an image, too; it has epochs of its own.
        paired: whether image i of the second collection belongs to image i of the first: a row then holds such a pair.

    Returns:
        Dictionaries of `image`, float32 (batch, height, width, channels) in [-1, 1]; `row`, int64 (batch,), the row's
        number 0 ... batch_size - 1 in the global batch; where the images have labels, `label`, int64 (batch,); and,
        where there is a second collection, `target`, as `image`.
        With k > 1: image (batch, k, height, width, channels) and label (batch, k).

    Raises:
        ValueError: see `steps_per_epoch`; a negative seed or step; a batch that the replicas can't share alike; pairs
            of collections that have not as many images.
    """
    import tensorflow as tf

    for each in (image_set, targets or image_set):
        steps_per_epoch(each, batch_size, minibatches_per_step)  # refuses what has no whole step
    if paired and targets is not None and len(targets.images) != len(image_set.images):
        raise ValueError(f"{len(image_set.images)} and {len(targets.images)} images are no pairs")
    if start_step < 0 or seed < 0:
        raise ValueError(f"start_step={start_step}, seed={seed}: both must be >= 0")
    if batch_size % replica_count:
        raise ValueError(f"batch_size={batch_size} on {replica_count} replicas: choose a multiple of their number")
    images, labels = image_set.images, image_set.labels
    per_step = batch_size * minibatches_per_step
    count = batch_size // replica_count
    rows = (count,) if minibatches_per_step == 1 else (count, minibatches_per_step)
    key = np.random.SeedSequence(seed).generate_state(2)  # neighboring seeds -> unrelated keys
    target_key = key if paired else np.random.SeedSequence((seed, 1)).generate_state(2)

    expect_random_reads(images)
    shared = share(images)
    shared_targets = None if targets is None else share(targets.images)

    def choose_indices(step: Any, replica: Any, total: int, key: np.ndarray) -> Any:
        """Which of `total` images this replica's rows are, in order."""
        per_epoch = total // per_step
        epoch, position = step // per_epoch, step % per_epoch
        first = position * per_step + replica * count * minibatches_per_step
        # Where the epoch's permutation sends these positions: no permutation is ever stored.
        return tf.random_index_shuffle(
            first + tf.range(count * minibatches_per_step, dtype=tf.int64),
            seed=tf.stack([*tf.unstack(tf.constant(key)), tf.cast(epoch, tf.uint32)]),
            max_index=tf.constant(total - 1, tf.int64),
            rounds=SHUFFLE_ROUNDS,
        )

    def gather_images(shared: Any, indices: Any) -> Any:
        """Float32 in [-1, 1]."""
        image = tf.reshape(tf.gather(shared, indices), (*rows, *shared.shape[1:]))
        return tf.cast(image, tf.float32) / 127.5 - 1.0

    def make_batch(element: Any) -> dict[str, Any]:
        step, replica = element // len(replicas), replicas.start + element % len(replicas)
        indices = choose_indices(step, replica, len(images), key)
        row = replica * count + tf.range(count, dtype=tf.int64)
        example = {"image": gather_images(shared, indices), "row": row}
        if labels is not None:
            example["label"] = tf.reshape(tf.gather(tf.constant(labels), indices), rows)
        if targets is not None:
            indices = choose_indices(step, replica, len(targets.images), target_key)
            example["target"] = gather_images(shared_targets, indices)
        return example

    options = tf.data.Options()
    options.deterministic = True
    # They write the pipeline down with all that it holds, images included, and read it back: two more copies.
    options.experimental_optimization.apply_default_optimizations = False
    # For those who hand the global batches to a strategy: each worker then builds them and keeps its own part.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    elements = tf.data.Dataset.range(start_step * len(replicas), np.iinfo(np.int64).max)
    return (
        elements.map(make_batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE).with_options(options)
    )


def distributed_batches(strategy: Any, image_set: ImageSet, **options: Any) -> Any:  # tf.distribute.DistributedDataset
    """`batches` for the replicas of `strategy`: each worker gathers the rows of its own replicas alone.

    Args:
        strategy: a `tf.distribute.Strategy`.
        image_set: what to train on.
        **options: of `batches`, but for `replicas` and `replica_count`.

    Raises:
        ValueError: as in `batches`.
    """

    def make_worker_batches(context: Any) -> Any:
        here = context.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * here
        replicas = range(first, first + here)
        return batches(image_set, replicas=replicas, replica_count=context.num_replicas_in_sync, **options)

    return strategy.distribute_datasets_from_function(make_worker_batches)


def share(images: np.ndarray) -> Any:  # tf.Tensor
    """The images as a tensor over the same memory, or over the same memory-mapped file: nothing is copied or read.

    TensorFlow's own operations then gather from either, page by page of a file. Images that do not lie as TensorFlow
    wants them (see `zoo.data.images.allocate`; a slice with gaps) are copied once.

    Args:
        images: uint8 (count, height, width, channels); kept alive, and not to be written to, while the tensor lives.
    """
    import tensorflow as tf

    if not (images.flags.c_contiguous and images.ctypes.data % ALIGNMENT == 0):
        copied = allocate(images.shape)
        copied[...] = images
        images = copied
    lent = np.asarray(_Lent(images))
    return tf.experimental.dlpack.from_dlpack(lent.__dlpack__())


@dataclass(frozen=True)
class _Lent:
    """The same memory, said to be writable: NumPy hands over nothing else, and TensorFlow writes to no borrowed memory.

    Args:
        images: kept alive by the array that NumPy makes of this.
    """

    images: np.ndarray

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {**self.images.__array_interface__, "data": (self.images.ctypes.data, False)}
