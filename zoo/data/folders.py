"""A folder or zip of image files -> its splits and classes, decoded to one array.

`zoo.data.load.load_images` says which folders are splits and which are classes.
"""

import os
import re
import warnings
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import features

from serving.card import to_line
from zoo.data.images import Budget, ImageSet, Policy, UnknownSplitError, open_image
from zoo.data.published import PUBLISHED, recognize
from zoo.data.store import Example, collect, explain

JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
SUFFIXES = (".png", *JPEG, ".webp", ".gif", ".bmp", ".tif", ".tiff", *([".avif"] if features.check("avif") else []))
# Pillow's modes without color; "P", a palette, counts as color.
GRAY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")
# A folder's name in lower case -> the split.
SPLIT_FOLDERS = {
    **{name.lower(): name for name in ("train", "test", "validation", "trainA", "trainB", "testA", "testB")},
    "valid": "validation",
    "val": "validation",
}
HELD_OUT_SPLITS = {"train": "test", "trainA": "testA", "trainB": "testB"}
TRAINING_SPLITS = set(HELD_OUT_SPLITS)
FILE_LIMIT = 256 * 2**20  # bytes of one image file, unpacked
BYTES = Budget(FILE_LIMIT)  # of the files that are in memory at the same time, unpacked
AHEAD_LIMIT = 256 * 2**20  # bytes of the decoded images that wait for their turn
# Other methods of a zip unpack any number of bytes at once, whatever their entry says.
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
LINKS = 3  # to folders on the way to a file; folders that link to one another hold each file in every order of theirs


@dataclass(frozen=True)
class Files:
    """The files beneath a folder or inside a zip, by their sorted POSIX names; a zip is never extracted."""

    source: Path
    """The folder or the zip."""
    sizes: dict[str, int]
    """Bytes of each file, unpacked."""
    stamps: dict[str, str]
    """What changes when the file does: CRC-32 in a zip, modification time in a folder."""
    read: Callable[[str], bytes]
    """Name -> the file's bytes.  A damaged one raises almost anything, one of more than FILE_LIMIT a ValueError."""


def open_files(source: Path) -> Files:
    """List a folder (recursively) or a zip.

    Raises:
        ValueError: `source` is neither, the zip is damaged, or links lead to links.
    """
    if source.is_dir():
        paths = {path.relative_to(source).as_posix(): path for path in sorted(_walk(source))}
        stats = {name: path.stat() if path.is_file() else None for name, path in paths.items()}
        return Files(
            source,
            {name: stat.st_size if stat else 0 for name, stat in stats.items()},
            {name: str(stat.st_mtime_ns) if stat else "" for name, stat in stats.items()},
            lambda name: read_file(paths[name]),
        )
    if not source.is_file():
        raise ValueError(f"{source}: neither a folder nor a file")
    try:
        archive = zipfile.ZipFile(source)
    except Exception as error:  # a damaged zip raises almost anything
        raise ValueError(f"{source}: neither a folder nor a readable zip ({explain(error)})") from error
    entries = {info.filename.replace("\\", "/"): info for info in archive.infolist() if not info.is_dir()}
    return Files(
        source,
        {name: info.file_size for name, info in entries.items()},
        {name: f"{info.CRC:08x}" for name, info in entries.items()},
        lambda name: _read_entry(archive, entries[name]),
    )


def read_file(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        ValueError: it is no regular file, or has more than FILE_LIMIT bytes.
        OSError: it can't be read.
    """
    if not path.is_file():  # to read from a pipe or a device may never end
        raise ValueError("a broken link" if path.is_symlink() and not path.exists() else "no regular file")
    _check_size(path.stat().st_size)
    return path.read_bytes()


def _check_size(size: int) -> None:
    if size > FILE_LIMIT:
        raise ValueError(f"{size:,} bytes; the limit is {FILE_LIMIT:,}")


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.flag_bits & 1:
        raise ValueError("encrypted")
    if info.compress_type not in METHODS:
        raise ValueError(f"packed by method {info.compress_type}; what is stored or deflated can be read")
    _check_size(info.file_size)
    with archive.open(info) as file:
        return file.read(info.file_size)  # no more than that, whatever it unpacks to


def _walk(source: Path) -> Iterator[Path]:
    """What lies beneath a folder, linked folders included; a link to a folder that it lies in ends there.

    Raises:
        ValueError: more than LINKS links lead to a folder.
    """
    folders: list[tuple[Path, frozenset[tuple[int, int]], int]] = [(source, frozenset(), 0)]
    while folders:
        folder, above, links = folders.pop()
        stat = folder.stat()
        here = above | {(stat.st_dev, stat.st_ino)}
        if here == above:
            continue
        if links > LINKS:
            raise ValueError(f"{folder}: reached by {links} links one after the other; at most {LINKS} are followed")
        for path in folder.iterdir():
            if path.is_dir():
                folders.append((path, here, links + path.is_symlink()))
            else:
                yield path


def is_image(name: str) -> bool:
    """Whether a name, POSIX, ends as image files do, and neither it nor a folder in it is hidden."""
    path = PurePosixPath(name)
    strange = path.is_absolute() or any(part.startswith(".") or part == "__MACOSX" for part in path.parts)  # "..", too
    return not strange and path.suffix.lower() in SUFFIXES


def _strip_folders(name: str, wrapping: int) -> str:
    return "/".join(PurePosixPath(name).parts[wrapping:])


def _count_wrapping_folders(names: list[str]) -> int:
    """How many top folders hold everything and are no split."""
    paths = [PurePosixPath(name).parts for name in names]
    depth = 0
    while len({parts[: depth + 1] for parts in paths}) == 1 and all(len(parts) > depth + 1 for parts in paths):
        if paths[0][depth].lower() in SPLIT_FOLDERS:
            break
        depth += 1
    return depth


def split_held_out(names: list[str]) -> tuple[list[str], list[str]]:
    """Divide names into train and test: of each class the last tenth in natural order is test.

    Neighbors in that order are often alike: frames of a video, a burst, the photographs of one person. So a run of
    them stays on one side of one cut; a part drawn at random would have its twins in train. Images added behind the
    last move some from test to train, and none back.

    Classes too small for a tenth, and images in no class, are divided together. Of two or more names each side gets at
    least one.

    Args:
        names: beneath the split's folder; the first folder is the class.
    """

    def tenth(members: list[str]) -> int:
        return (len(members) + 5) // 10

    classes: dict[str, list[str]] = {}
    for name in names:
        classes.setdefault(name.partition("/")[0] if "/" in name else "", []).append(name)
    groups = [members for folder, members in classes.items() if folder and tenth(members)]
    groups.append(sorted(set(names).difference(*groups)))
    test = {name for members in groups for name in sorted(members, key=_natural_order)[len(members) - tenth(members) :]}
    if len(names) >= 2 and not test:
        test = {max(names, key=_natural_order)}
    return [name for name in names if name not in test], [name for name in names if name in test]


def _natural_order(name: str) -> tuple[list[str], str]:
    """A key that sorts "2.png" before "10.png", and a folder's files together."""

    def lengthen(digits: re.Match[str]) -> str:
        number = digits[0].lstrip("0")
        return f"{len(number):05}{number}"

    return re.sub("[0-9]+", lengthen, name.lower()).split("/"), name


def _find_splits(source: Path, names: list[str]) -> dict[str, dict[str, str]]:
    """Split -> (inner name beneath the split's folder -> file name).  With no split folders all is "train".

    Folders are splits where one for training has another beside it, or where they hold everything: beside buses and
    cars a lone "train" is a class.

    Raises:
        ValueError: there are split folders, and images beside them; two folders of one split hold the same name.
    """
    wrapping = _count_wrapping_folders(names)
    inner = {_strip_folders(name, wrapping): name for name in names}
    tops = {name.partition("/")[0] for name in inner if "/" in name}
    named = {SPLIT_FOLDERS[top.lower()] for top in tops if top.lower() in SPLIT_FOLDERS}
    splits: dict[str, dict[str, str]] = {}
    outside = [file for name, file in inner.items() if name.partition("/")[0].lower() not in SPLIT_FOLDERS]
    if not outside or (len(named) > 1 and named & TRAINING_SPLITS):
        if outside:
            raise ValueError(
                f"{source}: beside the splits {', '.join(sorted(named))} there are {_list_names(outside)}, which "
                "belong to none: move them into a split's folder, or away"
            )
        for name, file in inner.items():
            top, _, rest = name.partition("/")
            members = splits.setdefault(SPLIT_FOLDERS[top.lower()], {})
            if rest in members:
                both = _list_names([members[rest], file])
                raise ValueError(f"{source}: {both} are the same image of one split: rename one")
            members[rest] = file
    else:
        splits = {"train": inner}
    for training, held_out in HELD_OUT_SPLITS.items():
        if training in splits and held_out not in splits:
            everything = splits[training]
            train, test = split_held_out(list(everything))
            splits[training] = {name: everything[name] for name in train}
            splits[held_out] = {name: everything[name] for name in test}
    return splits


def read_files(source: Path, split: str, policy: Policy, *, skip_broken: bool, cache: Path | None) -> ImageSet:
    """One split of a folder or zip.

    Args:
        source: an existing folder or zip.
        split: the name of a split, or "all".
        policy: what each image is turned into.
        skip_broken: leave undecodable images out, instead of raising.
        cache: as in `zoo.data.load.load_images`.

    Raises:
        ValueError: neither folder nor zip; no images; an unknown split; broken images; native sizes that differ.
        RuntimeError: not enough memory to decode an image.
    """
    files = open_files(source)
    names = sorted(name for name in files.sizes if is_image(name))
    if not names:
        raise ValueError(
            f"{source} holds no images: looked at {len(files.sizes)} files for the endings {', '.join(SUFFIXES)}"
        )
    splits = _find_splits(source, names)
    parts = splits.values() if split == "all" else [splits.get(split, {})]
    chosen = [pair for part in parts for pair in part.items()]  # (name beneath the split's folder, file)
    if not chosen:
        known = ", ".join(f"{name} ({len(members)})" for name, members in sorted(splits.items()))
        raise UnknownSplitError(f"{source} has no images in split {split!r}; it has {known}")
    # Over all splits, so that a class has the same number in each of them.
    class_names = sorted({name.split("/")[0] for members in splits.values() for name in members if "/" in name})
    labeled = all("/" in name for name, _ in chosen)
    published = recognize(name for members in splits.values() for name in members)
    numbers = {name: index for index, name in enumerate(class_names)}

    def decode(member: tuple[str, str]) -> Example:
        inner, file = member
        label = numbers[inner.split("/")[0]] if labeled else None
        try:
            with BYTES.borrow(files.sizes[file]):
                return Example(_list_names([file]), label, policy.decode(files.read(file)))
        except MemoryError as error:
            raise RuntimeError(f"{source}: {_list_names([file])}: not enough memory to decode it") from error
        except Exception as error:  # a damaged file raises almost anything: OSError, SyntaxError, struct.error ...
            return Example(_list_names([file]), label, explain(error))

    content = [(file, files.sizes[file], files.stamps[file]) for _, file in chosen]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of odd files: they are decoded, or named as broken
        found = collect(
            lambda: _map_in_threads(decode, chosen),
            len(chosen),
            source=str(source),
            key=f"{source.resolve()} {split} {policy} {class_names} {content}",
            skip_broken=skip_broken,
            cache=cache,
        )
    broken = set(found.broken)
    return ImageSet(
        images=found.images,
        labels=found.labels,
        class_names=tuple(class_names) if labeled else (),
        name=published or source.resolve().name,
        split=split,
        fingerprint=found.fingerprint,
        ignored=len(files.sizes) - sum(len(members) for members in splits.values()),
        broken=found.broken,
        license=PUBLISHED[published].license if published else "",
        names=tuple(name for name, file in chosen if _list_names([file]) not in broken),
    )


def count_channels(source: Path) -> int:
    """1 where all images of a folder or zip are gray, 3 where one has colors.

    Raises:
        ValueError: there is no image, or one before the first with colors can't be read.
    """
    files = open_files(source)
    names = sorted(filter(is_image, files.sizes))
    if not names:
        raise ValueError(f"{source} holds no images: looked at {len(files.sizes)} files.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's
        return 3 if any(_has_colors(files, name) for name in names) else 1


def _has_colors(files: Files, name: str) -> bool:
    """Of one image, by its header.

    Raises:
        ValueError: it can't be read.
    """
    try:
        with open_image(files.read(name)) as image:
            return image.mode not in GRAY_MODES
    except Exception as error:  # a damaged file raises almost anything
        raise ValueError(f"{files.source}: {_list_names([name])} can't be read: {explain(error)}") from error


def _list_names(names: Sequence[str]) -> str:
    """The first three, as text that can be printed whatever their bytes."""
    shown = ", ".join(os.fsencode(name).decode(errors="backslashreplace") for name in names[:3])
    return to_line(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _map_in_threads(decode: Callable[[tuple[str, str]], Example], members: list[tuple[str, str]]) -> Iterator[Example]:
    """In order, decoded ahead as far as AHEAD_LIMIT allows.

    The images of a set have one size, or it is refused at the first that differs: the first says what all of them take.
    """
    waiting: deque[Future[Example]] = deque()
    ahead = 1
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        try:
            for member in members:
                if len(waiting) == ahead:
                    example = waiting.popleft().result()
                    if isinstance(example.image, np.ndarray):
                        ahead = min(256, max(1, AHEAD_LIMIT // example.image.nbytes))
                    yield example
                waiting.append(pool.submit(decode, member))
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
