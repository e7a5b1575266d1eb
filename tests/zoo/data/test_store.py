"""Decoded images in memory or in a memory-mapped file."""

import errno
import io
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.data import store
from zoo.data.batches import share
from zoo.data.images import ImageSet, Policy
from zoo.data.load import load_images


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def gray(value: int, size: tuple[int, int] = (4, 4)) -> bytes:
    return encoded(Image.new("L", size, value), "PNG")


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_native_sizes_that_differ_are_named(tmp_path: Path) -> None:
    source = write(tmp_path, {"train/a.png": gray(0), "train/b.png": gray(0, (5, 4)), "test/x.png": gray(1)})
    with pytest.raises(ValueError, match=rf"^{tmp_path}: train/a\.png is 4x4, train/b\.png is 5x4") as error:
        load_images(str(source), image_size=None, channels=1)
    assert "--" not in str(error.value)  # its callers have different options


def test_a_big_set_is_memory_mapped_and_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"train/{'ab'[i % 2]}/{i:02}.png": gray(i) for i in range(20)} | {
        "train/a/broken.png": b"",
        "test/x.png": gray(1),
    }
    source, cache = write(tmp_path / "set", files), tmp_path / "cache"

    def load() -> ImageSet:
        return load_images(str(source), image_size=4, channels=1, skip_broken=True, cache=cache)

    small = load()
    assert not isinstance(small.images, np.memmap)
    assert not cache.exists()
    monkeypatch.setattr(store, "MEMORY_LIMIT", 100)
    mapped = load()
    assert sorted(file.suffix for file in cache.iterdir()) == [".json", ".npy"]  # and nothing temporary
    monkeypatch.setattr(Policy, "decode", lambda *_: pytest.fail("decoded again"))
    again = load()
    for big in (mapped, again):
        assert isinstance(big.images, np.memmap)
        np.testing.assert_array_equal(big.images, small.images)
        np.testing.assert_array_equal(big.labels, small.labels)
        assert (big.fingerprint, big.broken) == (small.fingerprint, ("train/a/broken.png",))
    monkeypatch.undo()
    monkeypatch.setattr(store, "MEMORY_LIMIT", 100)
    write(source, {"train/a/00.png": gray(77)})  # a changed file is another set
    assert load().images[0, 0, 0, 0] == 77


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".npy", b""),
        (".npy", b"PK"),
        (".npy", slice(60)),
        (".npy", slice(-1)),
        (".npy", (b"'fortran_order'", b"'fortran_orde('")),
        (".npy", "float32"),
        (".json", b""),
        (".json", b"[]"),
        (".json", b'{"labels": [0, 1, 0]}'),
        (".json", slice(-1)),
        (".json", b"\xff"),
        (".json", b"[" * 100_000),
        (".json", (b"[0, 0, 0]", b"[0, 1, 0]")),
        (".json", (b"[0, 0, 0]", b"[0, 0]")),
        (".json", None),
    ],
)
def test_damaged_files_of_the_cache_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, content: Any
) -> None:
    monkeypatch.setattr(store, "MEMORY_LIMIT", 1)
    source = write(tmp_path / "set", {f"train/a/{i}.png": gray(i) for i in range(3)} | {"test/a/9.png": gray(9)})

    def load() -> ImageSet:
        return load_images(str(source), image_size=4, channels=1, cache=tmp_path / "cache")

    first = load()
    (file,) = (tmp_path / "cache").glob(f"*{suffix}")
    whole = file.read_bytes()
    file.unlink()  # `first` goes on with the old one
    if isinstance(content, slice):
        file.write_bytes(whole[content])
    elif isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, tuple):
        assert content[0] in whole
        file.write_bytes(whole.replace(*content))
    elif content == "float32":
        np.save(file, np.zeros((3, 4, 4, 1), content))
    again = load()
    np.testing.assert_array_equal(again.images, first.images)
    np.testing.assert_array_equal(again.labels, first.labels)
    assert again.fingerprint == first.fingerprint
    assert file.read_bytes() == whole


def test_a_disk_that_is_full_at_the_end_is_left_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MEMORY_LIMIT", 1)
    source = write(tmp_path / "set", {"a.png": gray(1), "b.png": gray(1)})

    def write_half(path: Path, text: str) -> None:
        path.write_bytes(text[:10].encode())
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_text", write_half)
    with pytest.raises(OSError, match="No space left on device"):
        load_images(str(source), image_size=4, channels=1, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_images_that_memory_does_not_hold_go_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(shape: tuple[int, ...]) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(store, "allocate", refuse)
    source = write(tmp_path / "set", {"a.png": gray(1), "b.png": gray(1)})
    found = load_images(str(source), split="all", image_size=4, channels=1, cache=tmp_path / "cache")
    assert isinstance(found.images, np.memmap)
    assert (found.images == 1).all()


def test_a_new_class_of_another_split_changes_the_numbers_of_a_cached_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MEMORY_LIMIT", 1)
    source = write(tmp_path / "set", {"train/b/1.png": gray(1), "test/b/2.png": gray(2)})
    for added, label in (({}, 0), ({"test/a/3.png": gray(3)}, 1)):
        found = load_images(str(write(source, added)), image_size=4, channels=1, cache=tmp_path / "cache")
        np.testing.assert_array_equal(found.labels, [label])


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads Linux's account of a process")
@pytest.mark.parametrize("held", [True, False])
def test_a_mapped_file_that_memory_can_not_hold_is_read_page_by_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    np.save(tmp_path / "images.npy", np.zeros((100, 30, 30, 1), np.uint8))
    monkeypatch.setattr(store, "_find_memory_size", lambda: 10**6 if held else 10**5)
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    store.expect_random_reads(images[:50] if held else images)
    entry = Path("/proc/self/smaps").read_text().partition(str(tmp_path / "images.npy"))[2]
    flags = next(line for line in entry.splitlines() if line.startswith("VmFlags"))
    assert (" rr" in flags) is not held  # random reads


def test_a_full_disk_is_found_out_before_an_image_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MEMORY_LIMIT", 1)

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    source = write(tmp_path / "set", {"a.png": gray(1), "b.png": gray(1)})
    with pytest.raises(OSError, match=r"GiB are free \(No space left on device\): make room, or set ZOO_HOME"):
        load_images(str(source), image_size=4, channels=1, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_running_one_writes_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MEMORY_LIMIT", 1)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    cache = tmp_path / "cache"
    cache.mkdir()
    host = socket.gethostname()
    left = [cache / f"x.{suffix}.{host}.{ended.pid}.tmp" for suffix in ("npy", "json")]
    others = [cache / f"x.npy.{host}.{os.getppid()}.tmp", cache / f"x.npy.another-host.{ended.pid}.tmp"]
    for file in (*left, *others):
        file.write_bytes(b"")
    source = write(tmp_path / "set", {"a.png": gray(1), "b.png": gray(1)})
    load_images(str(source), image_size=4, channels=1, cache=cache)
    assert not any(file.exists() for file in left)
    assert all(file.exists() for file in others)


def test_a_failed_decoding_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MEMORY_LIMIT", 1)
    source = write(tmp_path / "set", {"train/a.png": gray(1), "train/b.png": b"", "test/x.png": gray(1)})
    with pytest.raises(ValueError, match="cannot be decoded"):
        load_images(str(source), image_size=4, channels=1, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="what a system promises of memory is its own")
def test_a_file_larger_than_memory_is_mapped(tmp_path: Path) -> None:
    rows = 2 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.uint8, shape=(rows, 1024, 1024, 1))  # all holes
    images = store._map(tmp_path / "x.npy")
    assert images.shape == (rows, 1024, 1024, 1)
    assert not images.flags.writeable
    assert share(images).shape == images.shape


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads Linux's account of a process")
def test_small_rows_of_a_file_that_memory_can_not_hold_are_read_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_advised(file: Path, memory: int) -> bool:
        images = store._map(file)
        monkeypatch.setattr(store, "_find_memory_size", lambda: memory)
        store.expect_random_reads(images[1:])
        maps = Path("/proc/self/smaps").read_text()
        flags = maps[maps.index(str(file)) :].partition("VmFlags:")[2].partition("\n")[0]
        return "rr" in flags.split()  # Linux' word for MADV_RANDOM

    small, large = tmp_path / "small.npy", tmp_path / "large.npy"
    np.save(small, np.zeros((9, 64, 64, 3), np.uint8))
    np.save(large, np.zeros((9, 256, 256, 3), np.uint8))
    assert is_advised(small, memory=2**10)
    assert not is_advised(small, memory=2**30)  # stays in memory once it is read
    assert not is_advised(large, memory=2**10)  # of 48 pages a row


def test_images_in_memory_need_no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_find_memory_size", lambda: 1)
    for images in (np.zeros((2, 4, 4, 1), np.uint8), np.frombuffer(bytes(32), np.uint8).reshape(2, 4, 4, 1)):
        store.expect_random_reads(images)
        assert images.sum() == 0
