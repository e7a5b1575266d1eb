"""Batches are a function of the step."""

import dataclasses
import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from zoo.data.batches import batches, share, steps_per_epoch
from zoo.data.images import ImageSet, allocate


def numbered(count: int, labeled: bool = True) -> ImageSet:
    """Image i is gray i and has the label i."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 2, 3, 1)).copy()
    labels = np.arange(count) if labeled else None
    names = tuple(map(str, range(count))) if labeled else ()
    return ImageSet(images, labels, names, "numbered", "train", "", 0, (), "")


def take(count: int, images: ImageSet, **arguments: Any) -> list[dict[str, np.ndarray]]:
    return list(islice(batches(images, **arguments).as_numpy_iterator(), count))


def epochs(count: int, epoch_count: int, seed: int, batch_size: int = 1) -> np.ndarray:
    """(epoch, position) -> image."""
    steps = take(epoch_count * (count // batch_size), numbered(count), batch_size=batch_size, seed=seed)
    return np.concatenate([step["label"] for step in steps]).reshape(epoch_count, -1)


def assert_equal(left: list[dict[str, np.ndarray]], right: list[dict[str, np.ndarray]]) -> None:
    assert len(left) == len(right) > 0
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_content_of_a_batch() -> None:
    dataset = batches(numbered(200), batch_size=8, seed=0)
    spec = {key: (value.dtype.name, tuple(value.shape)) for key, value in dataset.element_spec.items()}
    assert spec == {"image": ("float32", (8, 2, 3, 1)), "row": ("int64", (8,)), "label": ("int64", (8,))}
    batch = next(iter(dataset.as_numpy_iterator()))
    np.testing.assert_array_equal(batch["row"], np.arange(8))
    expected = np.broadcast_to(batch["label"][:, None, None, None], (8, 2, 3, 1)).astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(batch["image"], expected, atol=1e-7)


def test_black_is_minus_one_and_white_is_one() -> None:
    images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
    batch = take(1, ImageSet(images, None, (), "", "", "", 0, (), ""), batch_size=2, seed=0)[0]
    assert sorted(batch["image"].ravel().tolist()) == [-1.0, 1.0]
    assert "label" not in batch


@pytest.mark.parametrize("count", [1, 2, 5, 16, 17, 100])
def test_every_epoch_is_a_permutation(count: int) -> None:
    for order in epochs(count, 3, seed=1):
        np.testing.assert_array_equal(np.sort(order), np.arange(count))


def test_epochs_and_seeds_differ() -> None:
    first, second = epochs(200, 2, seed=3)
    other = epochs(200, 1, seed=4)[0]
    again = epochs(200, 1, seed=3)[0]
    np.testing.assert_array_equal(first, again)
    for left, right in ((first, second), (first, other), (second, other), (first, np.arange(200))):
        assert np.sum(left == right) < 12  # about Poisson(1)


def test_consecutive_epochs_and_seeds_do_not_correlate() -> None:
    count = 10_000
    images = np.zeros((count, 1, 1, 1), np.uint8)
    image_list = ImageSet(images, np.arange(count), (), "", "", "", 0, (), "")

    def order(seed: int, epoch: int) -> np.ndarray:
        return take(1, image_list, batch_size=count, seed=seed, start_step=epoch)[0]["label"]

    rows = [order(0, epoch) for epoch in range(6)] + [order(seed, 0) for seed in (1, 2)]
    correlations = np.corrcoef(rows)[~np.eye(len(rows), dtype=bool)] * np.sqrt(count)
    assert np.abs(correlations).max() < 5  # standard errors; with 4 rounds consecutive epochs reach 16


@pytest.mark.parametrize("minibatches_per_step", [1, 3])
@pytest.mark.parametrize("start", [0, 1, 4, 5, 17])
def test_start_step_is_skip(start: int, minibatches_per_step: int) -> None:
    arguments: dict[str, Any] = {"batch_size": 4, "seed": 7, "minibatches_per_step": minibatches_per_step}
    images = numbered(63)  # 63 // 12 = 5 steps an epoch with three a row: the borders are crossed
    assert_equal(take(7, images, start_step=start, **arguments), take(start + 7, images, **arguments)[start:])


def test_partial_batch_is_dropped() -> None:
    images = numbered(10)
    assert steps_per_epoch(images, 4) == 2
    assert steps_per_epoch(images, 2, 2) == 2
    labels = [step["label"] for step in take(3, images, batch_size=4, seed=0)]
    assert len(set(np.concatenate(labels[:2]).tolist())) == 8  # one epoch repeats nothing
    np.testing.assert_array_equal(labels[2], take(1, images, batch_size=4, seed=0, start_step=2)[0]["label"])


def test_images_per_row_has_the_images_of_a_larger_batch() -> None:
    three = take(1, numbered(100), batch_size=4, seed=0, minibatches_per_step=3)[0]
    flat = take(1, numbered(100), batch_size=12, seed=0)[0]
    assert three["image"].shape == (4, 3, 2, 3, 1)
    np.testing.assert_array_equal(three["label"], flat["label"].reshape(4, 3))
    np.testing.assert_array_equal(three["image"].reshape(flat["image"].shape), flat["image"])
    np.testing.assert_array_equal(three["row"], np.arange(4))


def test_memory_mapped_images_give_the_same_batches(tmp_path: Path) -> None:
    image_set = numbered(50)
    np.save(tmp_path / "images.npy", image_set.images)
    for mode in ("c", "r"):
        images = np.load(tmp_path / "images.npy", mmap_mode=mode)
        mapped = ImageSet(images, image_set.labels, (), "", "", "", 0, (), "")
        assert_equal(take(5, image_set, batch_size=8, seed=0), take(5, mapped, batch_size=8, seed=0))


def map_file(file: Path) -> np.ndarray:
    np.save(file, np.zeros((100, 3, 5, 1), np.uint8))
    return np.load(file, mmap_mode="c")


@pytest.mark.parametrize("make", [lambda _: allocate((100, 3, 5, 1)), map_file], ids=["memory", "file"])
def test_a_tensor_shares_the_memory_of_images_and_keeps_it(make: Callable[[Path], np.ndarray], tmp_path: Path) -> None:
    images = make(tmp_path / "images.npy")
    images[...] = 0
    shared = share(images)
    images[7] = 1
    np.testing.assert_array_equal(shared[7], images[7])
    kept = weakref.ref(images.base)
    del images
    gc.collect()
    assert kept() is not None  # the tensor holds it
    assert shared.numpy().sum() == 15
    del shared
    gc.collect()
    assert kept() is None  # and nothing else does


def test_what_feeds_no_more_holds_no_images() -> None:
    image_set = numbered(50)
    images = allocate(image_set.images.shape)
    images[...] = image_set.images
    kept = weakref.ref(images.base)
    feeding = iter(batches(dataclasses.replace(image_set, images=images), batch_size=8, seed=0))
    first = next(feeding)
    del images
    gc.collect()
    assert kept() is not None
    del feeding, first
    gc.collect()
    assert kept() is None


def test_a_read_only_file_is_shared_and_nothing_writes_to_it(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((100, 3, 5, 1), np.uint8))
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    shared = share(images)
    with (tmp_path / "images.npy").open("r+b") as file:
        file.seek(images.offset + images[0].nbytes * 7)
        file.write(b"\1")
    assert shared[7, 0, 0, 0].numpy() == 1  # the file's own pages
    # A tensor that nobody else holds: TensorFlow would write its results into memory of its own.
    assert tf.bitwise.invert(share(images)).numpy().sum() == 254 + 255 * 1499
    variable = tf.Variable(share(images))
    variable.assign_add(tf.ones_like(variable))
    assert images.sum() == 1
    assert not images.flags.writeable


def test_a_file_that_is_mapped_to_be_read_is_shared(tmp_path: Path) -> None:
    """The system sets memory aside for what may be written to, and refuses more than there is."""
    file = tmp_path / "images.npy"
    np.save(file, np.zeros((100, 3, 5, 1), np.uint8))
    images = np.load(file, mmap_mode="r")
    shared = share(images)
    with file.open("r+b") as handle:
        handle.seek(images.offset + 7 * 15)
        handle.write(b"\x01")
    assert shared[7, 0, 0, 0].numpy() == 1


def test_images_that_can_not_be_shared_are_copied() -> None:
    unaligned = allocate((11, 3, 5, 1)).reshape(-1)[1:151].reshape(10, 3, 5, 1)
    gaps = allocate((10, 6, 5, 1))[:, ::2]
    for images in (unaligned, gaps):
        images[...] = np.arange(150, dtype=np.uint8).reshape(images.shape)
        np.testing.assert_array_equal(share(images), images)


MEMORY = """
import numpy as np, sys
from zoo.data.batches import batches
from zoo.data.images import ImageSet, allocate
import tensorflow as tf
count = 20_000
shape = (count, 64, 64, 3)
if sys.argv[1] == "memory":
    images = allocate(shape)
    images[...] = 1
else:
    images = np.load(sys.argv[1], mmap_mode="r")
tf.constant(1)
def measure(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024
open("/proc/self/clear_refs", "w").write("5")  # forget the highest mark so far
before = measure("RssAnon")
image_set = ImageSet(images, None, (), "", "", "", 0, (), "")
iterator = iter(batches(image_set, batch_size=64, seed=0))
for _ in range(20):
    next(iterator)
print((measure("VmHWM") - measure("RssFile") - before) / images.nbytes)
# and out, while batches are being prefetched
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's account of a process")
def test_feeding_copies_no_images_and_a_process_that_prefetches_can_end(tmp_path: Path) -> None:
    np.lib.format.open_memmap(tmp_path / "images.npy", mode="w+", dtype=np.uint8, shape=(20_000, 64, 64, 3))
    for source in ("memory", str(tmp_path / "images.npy")):
        command = [sys.executable, "-c", MEMORY, source]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert float(ended.stdout) < 0.2  # of the images' 234 MiB, on top of the images themselves


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 4, "minibatches_per_step": 3}, r"4 \* 3 = 12 images, numbered train has 10"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 1, "minibatches_per_step": 0}, "minibatches_per_step=0"),
        ({"batch_size": 1, "start_step": -1}, "start_step=-1"),
        ({"batch_size": 1, "seed": -1}, "seed=-1"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batches(numbered(10), **({"seed": 0} | arguments))


REPLICAS = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from zoo.data.images import ImageSet
from zoo.data.batches import batches
images = ImageSet(np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1), np.arange(60), (), "", "", "", 0, (), "")
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
whole = batches(images, batch_size=8, seed=0, start_step=5).as_numpy_iterator()
split = iter(strategy.experimental_distribute_dataset(batches(images, batch_size=8, seed=0, start_step=5)))
for _ in range(5):
    parts, expected = next(split), next(whole)
    for key, values in expected.items():
        replicas = [part.numpy() for part in strategy.experimental_local_results(parts[key])]
        assert [len(part) for part in replicas] == [4, 4], key
        np.testing.assert_array_equal(np.concatenate(replicas), values)
print("equal")
"""


def test_each_replica_has_a_contiguous_slice() -> None:
    done = subprocess.run([sys.executable, "-c", REPLICAS], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "equal", done.stderr[-2000:]


def take_pairs(count: int, one: int, other: int, paired: bool, **arguments: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Numbers of images and of targets, step by step."""
    found = take(
        count, numbered(one, labeled=False), targets=numbered(other, labeled=False), paired=paired, **arguments
    )
    return [
        tuple(np.rint((step[key][:, 0, 0, 0] + 1) * 127.5).astype(int) for key in ("image", "target")) for step in found
    ]


def test_a_pair_stays_together() -> None:
    for image, target in take_pairs(12, 30, 30, True, batch_size=5, seed=1):
        np.testing.assert_array_equal(image, target)


def test_two_collections_have_epochs_of_their_own_in_unrelated_orders() -> None:
    steps = take_pairs(30, 30, 50, False, batch_size=5, seed=1)
    images, targets = (np.concatenate([step[side] for step in steps]) for side in (0, 1))
    for epoch in range(5):
        assert sorted(images[epoch * 30 : (epoch + 1) * 30]) == list(range(30))
    for epoch in range(3):
        assert sorted(targets[epoch * 50 : (epoch + 1) * 50]) == list(range(50))
    assert np.mean(images[:30] == targets[:30]) < 0.2


def test_a_second_collection_leaves_the_order_of_the_first() -> None:
    alone = take(4, numbered(30), batch_size=5, seed=1)
    beside = take(4, numbered(30), targets=numbered(40), batch_size=5, seed=1)
    assert_equal([{key: step[key] for key in alone[0]} for step in beside], alone)


def test_targets_are_a_function_of_the_step_on_any_number_of_replicas() -> None:
    options = {"batch_size": 4, "seed": 2, "targets": numbered(25)}
    whole = take(6, numbered(30), **options)
    assert_equal(take(3, numbered(30), start_step=3, **options), whole[3:])
    halves = take(12, numbered(30), replicas=range(2), replica_count=2, **options)
    pairs = zip(halves[::2], halves[1::2], strict=True)
    joined = [{key: np.concatenate([one[key], other[key]]) for key in one} for one, other in pairs]
    assert_equal(joined, whole)


def test_pairs_need_as_many_targets_and_both_collections_a_whole_step() -> None:
    with pytest.raises(ValueError, match="30 and 25 images are no pairs"):
        batches(numbered(30), targets=numbered(25), paired=True, batch_size=4, seed=0)
    with pytest.raises(ValueError, match="numbered train has 3"):
        batches(numbered(30), targets=numbered(3), batch_size=4, seed=0)
