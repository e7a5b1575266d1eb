"""Decoded images in memory or, where they are many, in a file on disk."""

import glob
import hashlib
import json
import math
import mmap
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import UnidentifiedImageError

from serving.card import to_line
from zoo.data.images import FORMATS, allocate, compute_fingerprint

MEMORY_LIMIT = 2 * 2**30  # bytes of decoded images: more than this is kept in a memory-mapped file
PROGRESS_FROM = 1_000  # images
SMALL_ROW = 64 * 2**10  # bytes; 16 pages, each read on its own: beyond, reading ahead costs no more


@dataclass(frozen=True)
class Example:
    """An image on its way into the array: decoded, or the reason why it could not be.

    A reason in words, as an error would keep what was decoded by then through its traceback.
    """

    name: str
    label: int | None
    image: np.ndarray | str


@dataclass(frozen=True)
class Collected:
    """The decoded images of one split, as the fields of `ImageSet` with these names say."""

    images: np.ndarray
    labels: np.ndarray | None
    broken: tuple[str, ...]
    fingerprint: str


def collect(
    examples: Callable[[], Iterable[Example]],
    count: int,
    *,
    source: str,
    key: str,
    skip_broken: bool,
    cache: Path | None,
) -> Collected:
    """Stack `count` examples into one array: in memory, or past MEMORY_LIMIT in a memory-mapped file.

    Args:
        examples: called once, unless the file of an earlier run is used again.
        count: of the examples.
        source: what the user calls the set.
        key: everything that the array depends on; the file is named by its hash.
        skip_broken: leave undecodable images out and list them in `broken`, instead of raising.
        cache: folder of the file; `images/` in `ZOO_HOME` or in the user's cache folder when not given.

    Raises:
        ValueError: broken images and not `skip_broken`; nothing left; two native sizes that differ.
    """
    stem = hashlib.sha256(os.fsencode(f"{key} {skip_broken}")).hexdigest()[:32]
    folder = cache or _find_cache_folder()
    array_file, notes_file = folder / f"{stem}.npy", folder / f"{stem}.json"
    if array_file.exists() and (kept := _read_kept(array_file, notes_file)):
        return kept

    images: np.ndarray | None = None
    labels: list[int | None] = []
    broken: dict[str, str] = {}
    first = ""
    temporary, notes_temporary = (
        folder / f"{file.name}.{socket.gethostname()}.{os.getpid()}.tmp" for file in (array_file, notes_file)
    )
    try:
        for example in _show_progress(examples(), count):
            if isinstance(example.image, str):
                broken[example.name] = example.image
                continue
            if images is None:
                images, first = _allocate((count, *example.image.shape), temporary), example.name
            if example.image.shape != images.shape[1:]:
                sizes = [f"{shape[1]}x{shape[0]}" for shape in (images.shape[1:], example.image.shape)]
                raise ValueError(
                    f"{source}: {first} is {sizes[0]}, {example.name} is {sizes[1]} (width x height), and images that "
                    "are taken at their own size must all have the same: bring them to one"
                )
            images[len(labels)] = example.image
            labels.append(example.label)
        if broken and not skip_broken:
            listed = "\n".join(f"  {name}: {reason}" for name, reason in list(broken.items())[:10])
            raise ValueError(
                f"{source}: {len(broken)} of {count} images cannot be decoded:\n{listed}"
                + ("\n  ..." if len(broken) > 10 else "")
                + "\nmend or remove them; load_images(skip_broken=True), or zoo train --skip-broken, leaves them out"
            )
        if images is None:
            name, reason = next(iter(broken.items()))
            raise ValueError(f"{source}: none of {count} images can be decoded; {name}: {reason}")
        fingerprint = compute_fingerprint(images[: len(labels)])
        notes: dict[str, Any] = {"labels": labels, "broken": list(broken), "fingerprint": fingerprint}
        if isinstance(images, np.memmap):
            images.flush()
            notes_temporary.write_text(write_hashed({**notes, "shape": images.shape}))
            notes_temporary.replace(notes_file)
            temporary.replace(array_file)  # last: its presence says that both are whole
            images = _map(array_file)
        return _assemble(images, **notes)
    finally:
        for file in (temporary, notes_temporary):
            file.unlink(missing_ok=True)


def explain(error: Exception) -> str:
    """One line, whatever an error says of itself."""
    if isinstance(error, UnidentifiedImageError):  # Pillow names the object in memory
        return f"no image in one of the formats {', '.join(FORMATS)}"
    return to_line(next((line for line in str(error).splitlines() if line.strip()), type(error).__name__))


def _read_kept(array_file: Path, notes_file: Path) -> Collected | None:
    """What an earlier run kept; None where it is not whole, as a disk that is full or failing leaves it."""
    try:
        notes, images = read_hashed(notes_file.read_bytes()), _map(array_file)
        if images.dtype != np.uint8 or images.shape != tuple(notes.pop("shape")):
            return None
        return _assemble(images, **notes)
    except Exception:  # NumPy's, of a damaged header, are of many kinds
        return None


def write_hashed(value: Any) -> str:
    """Plain data as JSON, with a hash of itself."""
    text = json.dumps(value)
    return json.dumps({"value": value, "sha256": hashlib.sha256(text.encode()).hexdigest()})


def read_hashed(text: bytes) -> Any:
    """What `write_hashed` has written.

    Raises:
        ValueError: it is something else, or was changed since.
    """
    try:
        found = json.loads(text)
        if hashlib.sha256(json.dumps(found["value"]).encode()).hexdigest() == found["sha256"]:
            return found["value"]
    except (LookupError, TypeError, RecursionError) as error:
        raise ValueError("no JSON with a hash of itself") from error
    raise ValueError("changed since it was written")


def _assemble(images: np.ndarray, labels: list[int | None], broken: list[str], fingerprint: str) -> Collected:
    known = [label for label in labels if label is not None]
    whole = len(known) == len(labels)
    numbers = np.array(known, np.int64) if whole else None
    return Collected(images[: len(labels)], numbers, tuple(broken), fingerprint)


def _allocate(shape: tuple[int, ...], file: Path) -> np.ndarray:
    if math.prod(shape) <= MEMORY_LIMIT:
        with suppress(MemoryError):
            return allocate(shape)
    file.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(file.parent)
    images = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
    try:
        # Writing to a mapped page that the disk has no room for would kill the process without a word.
        if hasattr(os, "posix_fallocate"):
            with file.open("r+b") as handle:
                os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)
    except OSError as error:
        needed, free = images.nbytes / 2**30, shutil.disk_usage(file.parent).free / 2**30
        raise OSError(
            f"decoded images take {needed:.1f} GiB in {file.parent}, where {free:.1f} GiB are free ({error.strerror}): "
            "make room, or set ZOO_HOME to a folder on a larger disk"
        ) from error
    return images


def _remove_leftovers(folder: Path) -> None:
    """Delete the unfinished files of processes of this machine that are gone."""
    for file in folder.glob(f"*.{glob.escape(socket.gethostname())}.*.tmp"):
        process = file.name.split(".")[-2]
        if process.isdecimal() and not _is_running(int(process)):
            file.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _map(file: Path) -> np.ndarray:
    """The array in a file, its pages read when they are used.

    Read-only: the system sets memory aside for a writable copy, and so refuses files larger than all of it.
    """
    return np.load(file, mmap_mode="r")


def expect_random_reads(images: np.ndarray) -> None:
    """Have single pages read of a mapped file that memory can't hold, for rows that are gathered in random order.

    A system reads up to megabytes around what is asked for, which is gone again before it is used. Rows of many pages
    and files that stay in memory gain by that; those, and images that lie in memory, are left as they are.

    Args:
        images: uint8 (count, height, width, channels).
    """
    file: Any = images
    while isinstance(file, np.ndarray):
        file = file.base
    if not isinstance(file, mmap.mmap) or not hasattr(mmap, "MADV_RANDOM"):
        return
    if images[0].nbytes <= SMALL_ROW and images.nbytes > _find_memory_size() / 2:
        file.madvise(mmap.MADV_RANDOM)


def _find_memory_size() -> int:
    """Bytes of memory of this machine, or of the container that limits it."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no such file; "max" where there is no limit
            sizes.append(int(Path(limit).read_text()))
    return min(sizes)


def _find_cache_folder() -> Path:
    if home := os.environ.get("ZOO_HOME"):
        return Path(home).expanduser() / "images"
    import platformdirs

    return Path(platformdirs.user_cache_dir("generative-zoo")) / "images"


def _show_progress(examples: Iterable[Example], count: int) -> Iterable[Example]:
    if count <= PROGRESS_FROM or not sys.stderr.isatty():
        return examples
    from rich.console import Console
    from rich.progress import track

    return track(examples, total=count, description="decoding images", console=Console(stderr=True))
