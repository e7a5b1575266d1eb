"""Training data: TensorFlow Datasets, a folder or zip of pictures, or the embedded sample, as `tf.data` batches.

`load_pictures` decodes a split to one uint8 array; `batches` shuffles, gathers and scales it.  The order of an epoch is
a function of (seed, epoch), so the position in the data is the step and nothing else.
"""

import difflib
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from recipes.pictures import Example, Pictures, Policy, collect, embedded_pictures, pictures_of_files
from zoo.quiet import start_tensorflow

__all__ = ["Pictures", "batches", "distributed_batches", "load_pictures", "steps_per_epoch"]

# `tf.random.experimental.index_shuffle` fixes 4 rounds: measured on 10,000 rows, consecutive epochs then correlate
# by 0.13 (13 standard errors).  8 rounds leave nothing to see.  An odd number never returns.
SHUFFLE_ROUNDS = 8
ZERO_OR_ONE = ("binarized_mnist",)  # TFDS sets whose uint8 pictures hold 0 and 1 instead of 0 and 255
TFDS_LICENCES = {"fashion_mnist": "MIT", "mnist": "CC-BY-SA-3.0"}  # where TFDS itself names none


def load_pictures(
    source: str,
    *,
    split: str = "train",
    image_size: int | None,
    channels: int,
    fit: str = "crop",
    skip_broken: bool = False,
    cache: Path | None = None,
) -> Pictures:
    """Decode one split of a picture set.

    Args:
        source: one of

            - "embedded": Fashion-MNIST's 10,000 published test pictures; "train" is the first 9,000, "test" the last
              1,000;
            - a folder or a zip.  Top folders `train`, `test`, `validation` (`valid`, `val`), `trainA`, `trainB`,
              `testA`, `testB` are splits, and the folders beneath are classes.  Folders that wrap everything are looked
              through.  With no `test` folder, the pictures whose name's sha256 is divisible by 10 are "test" and not
              "train" (the name beneath the split folder, classes included);
            - the name of an image data set of TensorFlow Datasets, such as "mnist" or "fashion_mnist:3.0.1", kept under
              `TFDS_DATA_DIR`.  With no "test" split, the last tenth of "train" is "test" and not "train".

            An existing folder or zip wins over a data set of the same name.
        split: which part to load, or "all"; for TFDS its slices ("train[:1000]") work too, and are taken as they are.
        image_size: height and width in pixels; None keeps the native size, then the same for all.
        channels: 1 or 3.
        fit: "crop", "squash" or "pad": see `Policy`.
        skip_broken: leave undecodable pictures out and list them in `broken`, instead of raising.
        cache: folder for decoded sets too big for memory; default `ZOO_HOME` or the user's cache folder.

    Raises:
        FileNotFoundError: `source` looks like a path and is not there.
        ValueError: an unknown name, split, fit or number of channels; no pictures; broken pictures; sizes that differ.
        RuntimeError: TFDS could not prepare the data set.
    """
    policy = Policy(image_size, channels, fit)
    if source == "embedded":
        return embedded_pictures(split, policy)
    path = Path(source).expanduser()
    if path.exists():
        return pictures_of_files(path, split, policy, skip_broken=skip_broken, cache=cache)
    if path.suffix.lower() == ".zip" or source.startswith((".", "~", os.sep)) or not re.match(r"[a-z]", source):
        raise FileNotFoundError(f"{source}: no such folder or zip of pictures")
    return _pictures_of_tfds(source, split, policy, cache)


def steps_per_epoch(pictures: Pictures, batch_size: int, pictures_per_row: int = 1) -> int:
    """Whole steps in one pass over the pictures; the last partial batch is dropped.

    Raises:
        ValueError: a number below 1, or one step needs more pictures than there are.
    """
    if batch_size < 1 or pictures_per_row < 1:
        raise ValueError(f"batch_size={batch_size}, pictures_per_row={pictures_per_row}: both must be >= 1")
    count, needed = len(pictures.images), batch_size * pictures_per_row
    if needed > count:
        raise ValueError(
            f"one step needs batch_size * pictures_per_row = {batch_size} * {pictures_per_row} = {needed} pictures, "
            f"{pictures.name} {pictures.split} has {count}"
        )
    return count // needed


def batches(
    pictures: Pictures,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    pictures_per_row: int = 1,
    replicas: range = range(1),
    replicas_in_all: int = 1,
) -> Any:  # tf.data.Dataset
    """An endless `tf.data.Dataset` of global batches, from `start_step` on.

    `batches(start_step=s)` equals `batches().skip(s)` element for element.  Each replica's rows are one contiguous
    slice of the global batch, whether a strategy cuts it or `distributed_batches` asks for the slices one by one.

    Args:
        pictures: what to train on.
        batch_size: rows of the global batch.
        seed: >= 0; the order of epoch e is a function of (seed, e).
        start_step: first global step, >= 0.
        pictures_per_row: k > 1 puts k different pictures in a row, for algorithms that need k minibatches a step.
        replicas: those whose rows are wanted: one element for each of them, step by step.
        replicas_in_all: how many share the global batch.

    Returns:
        Dictionaries of `image`, float32 (batch, height, width, channels) in [-1, 1]; `row`, int64 (batch,), the row's
        number 0 ... batch_size - 1 in the global batch; and, where the pictures have labels, `label`, int64 (batch,).
        With k > 1: image (batch, k, height, width, channels) and label (batch, k).

    Raises:
        ValueError: see `steps_per_epoch`; a negative seed or step; a batch that the replicas can't share alike.
    """
    import tensorflow as tf

    per_epoch = steps_per_epoch(pictures, batch_size, pictures_per_row)
    if start_step < 0 or seed < 0:
        raise ValueError(f"start_step={start_step}, seed={seed}: both must be >= 0")
    if batch_size % replicas_in_all:
        raise ValueError(f"batch_size={batch_size} on {replicas_in_all} replicas: choose a multiple of their number")
    images, labels = pictures.images, pictures.labels
    per_step = batch_size * pictures_per_row
    count = batch_size // replicas_in_all
    rows = (count,) if pictures_per_row == 1 else (count, pictures_per_row)
    key = np.random.SeedSequence(seed).generate_state(2)  # neighbouring seeds -> unrelated keys

    gather = gatherer(images)

    def batch(element: Any) -> dict[str, Any]:
        step, replica = element // len(replicas), replicas.start + element % len(replicas)
        epoch, position = step // per_epoch, step % per_epoch
        first = position * per_step + replica * count * pictures_per_row
        indices = tf.random_index_shuffle(
            first + tf.range(count * pictures_per_row, dtype=tf.int64),
            seed=tf.stack([*tf.unstack(tf.constant(key)), tf.cast(epoch, tf.uint32)]),
            max_index=tf.constant(len(images) - 1, tf.int64),
            rounds=SHUFFLE_ROUNDS,
        )
        image = tf.reshape(gather(indices), (*rows, *images.shape[1:]))
        row = replica * count + tf.range(count, dtype=tf.int64)
        example = {"image": tf.cast(image, tf.float32) / 127.5 - 1.0, "row": row}
        if labels is not None:
            example["label"] = tf.reshape(tf.gather(tf.constant(labels), indices), rows)
        return example

    options = tf.data.Options()
    options.deterministic = True
    # For those who hand the global batches to a strategy: each worker then builds them and keeps its own part.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    elements = tf.data.Dataset.range(start_step * len(replicas), np.iinfo(np.int64).max)
    return elements.map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE).with_options(options)


def distributed_batches(strategy: Any, pictures: Pictures, **options: Any) -> Any:  # tf.distribute.DistributedDataset
    """`batches` for the replicas of `strategy`: each worker gathers the rows of its own replicas alone.

    Args:
        strategy: a `tf.distribute.Strategy`.
        pictures: see `batches`.
        **options: see `batches`.
    """

    def of_worker(context: Any) -> Any:
        here = context.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * here
        replicas = range(first, first + here)
        return batches(pictures, replicas=replicas, replicas_in_all=context.num_replicas_in_sync, **options)

    return strategy.distribute_datasets_from_function(of_worker)


def gatherer(images: np.ndarray) -> Callable[[Any], Any]:
    """indices (count,) -> pictures (count, height, width, channels) uint8, as an operation of a `tf.data` pipeline.

    Pictures in memory are gathered by TensorFlow alone. A pipeline that calls Python can hang a process that ends while
    it prefetches, since its threads wait for an interpreter that is shutting down; so only a memory-mapped file, which
    TensorFlow can't gather from, is read through NumPy: let go of such a pipeline's iterator before the process ends.
    """
    import tensorflow as tf

    if isinstance(images, np.memmap):
        return lambda indices: tf.numpy_function(
            lambda chosen: np.take(images, chosen, axis=0), [indices], tf.uint8, stateful=False
        )
    with tf.device("CPU:0"):
        held = tf.constant(images)
    return lambda indices: tf.gather(held, indices)


def _pictures_of_tfds(source: str, split: str, policy: Policy, cache: Path | None) -> Pictures:
    start_tensorflow()
    logging.getLogger("absl").setLevel(logging.ERROR)  # deprecations inside of TensorFlow Datasets
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(source)
    except Exception as error:  # unknown names, configurations and versions raise ValueError and AssertionError
        name = re.split(r"[:/]", source)[0]
        known = tfds.list_builders(with_community_datasets=False)
        if name in known:
            raise ValueError(f"{source}: {error}") from error
        near = difflib.get_close_matches(name, known, n=5)
        raise ValueError(
            f"{source!r} is no folder, no zip, not 'embedded' and no data set of TensorFlow Datasets"
            + (f"; near: {', '.join(near)}" if near else "")
        ) from error

    image_key, label_key = _features(builder, source)
    try:
        builder.download_and_prepare()  # returns at once where the data lie under TFDS_DATA_DIR already
    except Exception as error:
        raise RuntimeError(
            f"{source} is not in {builder.data_dir} and could not be prepared there ({type(error).__name__}: {error}); "
            "set TFDS_DATA_DIR to a folder that holds it, or run where it can be downloaded"
        ) from error
    part = _tfds_split(builder.info.splits, split, source)
    factor = 255 if builder.name in ZERO_OR_ONE else 1

    def examples() -> Iterator[Example]:
        keys = {key: True for key in (image_key, label_key) if key}
        dataset = builder.as_dataset(
            split=part,
            shuffle_files=False,
            decoders=tfds.decode.PartialDecoding(keys),
            read_config=tfds.ReadConfig(try_autocache=False),
        )
        # Pictures of one size are read in batches: reading them one by one takes several times as long.
        of_one_size = None not in builder.info.features[image_key].shape
        number = 0
        for group in tfds.as_numpy(dataset.batch(256 if of_one_size else 1)):
            for index, image in enumerate(group[image_key]):
                image = (image // 257).astype(np.uint8) if image.dtype == np.uint16 else image * np.uint8(factor)
                image = policy.apply(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image))
                yield Example(f"{part} {number}", int(group[label_key][index]) if label_key else None, image)
                number += 1

    found = collect(
        examples,
        builder.info.splits[part].num_examples,
        key=f"tfds {builder.info.full_name} {part} {policy}",
        skip_broken=False,
        cache=cache,
    )
    redistribution = builder.info.redistribution_info
    return Pictures(
        images=found.images,
        labels=found.labels,
        class_names=tuple(builder.info.features[label_key].names) if label_key else (),
        name=builder.name if builder.builder_config is None else f"{builder.name}/{builder.builder_config.name}",
        split=split,
        fingerprint=found.fingerprint,
        ignored=0,
        broken=(),
        licence=(redistribution.license if redistribution else "") or TFDS_LICENCES.get(builder.name, ""),
    )


def _features(builder: Any, source: str) -> tuple[str, str | None]:
    """The keys of the picture and of the class: "image" and "label", or else the first of that type."""
    import tensorflow_datasets as tfds

    features = dict(builder.info.features)
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    images.sort(key=lambda key: key != "image")
    labels.sort(key=lambda key: key != "label")
    if not images:
        raise ValueError(f"{source} is no image data set: its features are {sorted(features)}")
    if (dtype := np.dtype(features[images[0]].np_dtype)) not in (np.uint8, np.uint16):
        raise ValueError(f"{source} stores its pictures as {dtype}; uint8 and uint16 can be read")
    return images[0], labels[0] if labels else None


def _tfds_split(splits: Any, split: str, source: str) -> str:
    """The TFDS split to read for `split`."""
    if "test" not in splits and "train" in splits and split in ("train", "test"):
        cut = splits["train"].num_examples - max(1, splits["train"].num_examples // 10)
        return f"train[:{cut}]" if split == "train" else f"train[{cut}:]"
    try:
        if splits[split].num_examples:
            return split
    except (KeyError, ValueError, AssertionError):
        pass
    known = ", ".join(f"{name} ({info.num_examples})" for name, info in splits.items())
    raise ValueError(f"{source} has no pictures in split {split!r}; it has {known}")
