"""Picture files to uint8 arrays: decoding, resizing, listing a folder or zip, splits, and the embedded sample.

Only NumPy and Pillow here.  `recipes.data` adds TensorFlow Datasets and the `tf.data` pipeline.
"""

import gzip
import hashlib
import importlib.resources
import io
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from zoo.presets import FASHION_CLASSES

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")  # no other decoder runs, whatever a file claims to be
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")
SPLIT_FOLDERS = {
    **{name: name for name in ("train", "test", "validation", "trainA", "trainB", "testA", "testB")},
    "valid": "validation",
    "val": "validation",
}
MEMORY_LIMIT = 2 * 2**30  # bytes of decoded pictures: more than this is kept in a memory-mapped file
FILE_LIMIT = 256 * 2**20  # bytes of one picture file, unpacked
PROGRESS_FROM = 1_000  # pictures


@dataclass(frozen=True)
class Pictures:
    """One split of a picture set, decoded."""

    images: np.ndarray
    """uint8 (count, height, width, channels), in memory or memory-mapped."""
    labels: np.ndarray | None
    """int64 (count,), an index into `class_names`."""
    class_names: tuple[str, ...]
    name: str
    split: str
    fingerprint: str
    """sha256 over the shape and the picture bytes: a resumed run can tell that the data changed."""
    ignored: int
    """Files that are no pictures (README, .DS_Store ...)."""
    broken: tuple[str, ...]
    """Pictures that could not be decoded, left out because `skip_broken` asked for it."""
    licence: str
    """Short name; "" where unknown."""


# --- one picture ------------------------------------------------------------------------------------------------


def _crop(picture: Image.Image, size: int) -> Image.Image:
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    return picture.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def _squash(picture: Image.Image, size: int) -> Image.Image:
    return picture.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _pad(picture: Image.Image, size: int) -> Image.Image:
    longest = max(picture.size)
    if longest > size:
        width, height = (max(1, round(side * size / longest)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    canvas = Image.new(picture.mode, (size, size), 0)
    canvas.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return canvas


FITS: dict[str, Callable[[Image.Image, int], Image.Image]] = {"crop": _crop, "squash": _squash, "pad": _pad}


@dataclass(frozen=True)
class Policy:
    """What every picture of a set is turned into.

    Args:
        image_size: height and width in pixels; None keeps the native size.
        channels: 1 (grey) or 3 (RGB).
        fit: "crop" scales the shorter side to `image_size` and cuts the centre; "squash" ignores the aspect; "pad"
            scales down what is larger, never up, and centres it on black.
    """

    image_size: int | None
    channels: int
    fit: str = "crop"

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ValueError(f"fit={self.fit!r}: choose from {sorted(FITS)}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels={self.channels!r}: choose 1 (grey) or 3 (RGB)")
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size={self.image_size!r}: give pixels >= 1, or None for the native size")

    def apply(self, picture: Image.Image) -> np.ndarray:
        """Any Pillow image -> uint8 (height, width, channels).  Alpha is composited on white."""
        picture = _eight_bits(picture)
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        picture = picture.convert("L" if self.channels == 1 else "RGB")
        if self.image_size is not None:
            picture = FITS[self.fit](picture, self.image_size)
        return np.asarray(picture).reshape(picture.height, picture.width, self.channels)

    def decode(self, data: bytes) -> np.ndarray:
        """A picture file's bytes -> uint8 (height, width, channels): first frame, EXIF orientation applied."""
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            picture.load()
            return self.apply(ImageOps.exif_transpose(picture))


def _eight_bits(picture: Image.Image) -> Image.Image:
    """16-bit grey -> 8-bit grey (Pillow's own conversion clips at 255 instead of scaling)."""
    if picture.mode == "F":
        raise ValueError("a picture of floating-point numbers has no known range")
    if not picture.mode.startswith("I"):
        return picture
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("a picture of 32-bit numbers has no known range")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


# --- many pictures ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    """A picture on its way into the array: decoded, or the reason why it could not be."""

    name: str
    label: int | None
    image: np.ndarray | Exception


@dataclass(frozen=True)
class Collected:
    """The decoded pictures of one split, with what was learnt on the way."""

    images: np.ndarray
    labels: np.ndarray | None
    broken: tuple[str, ...]
    fingerprint: str


def collect(
    examples: Callable[[], Iterable[Example]], count: int, *, key: str, skip_broken: bool, cache: Path | None
) -> Collected:
    """Stack `count` examples into one array: in memory, or past MEMORY_LIMIT in a memory-mapped file.

    The file lies in `cache` (default: `ZOO_HOME` or the user's cache folder, then `pictures/`), is named by `key`, and
    is used again by the next run.

    Raises:
        ValueError: broken pictures and not `skip_broken`; nothing left; two native sizes that differ.
    """
    stem = hashlib.sha256(f"{key} {skip_broken}".encode()).hexdigest()[:32]
    folder = cache or _cache_folder()
    array_file, notes_file = folder / f"{stem}.npy", folder / f"{stem}.json"
    if array_file.exists() and notes_file.exists():
        notes = json.loads(notes_file.read_text())
        return _collected(np.load(array_file, mmap_mode="r"), **notes)

    images: np.ndarray | None = None
    labels: list[int | None] = []
    broken: dict[str, str] = {}
    first = ""
    temporary = folder / f"{stem}.npy.{os.getpid()}.tmp"
    try:
        for example in _with_progress(examples(), count):
            if isinstance(example.image, Exception):
                broken[example.name] = str(example.image).splitlines()[0] if str(example.image) else "cannot be read"
                continue
            if images is None:
                images, first = _allocate((count, *example.image.shape), temporary), example.name
            if example.image.shape != images.shape[1:]:
                sizes = [f"{shape[1]}x{shape[0]}" for shape in (images.shape[1:], example.image.shape)]
                raise ValueError(
                    f"image_size=None needs pictures of one size: {first} is {sizes[0]}, {example.name} is {sizes[1]} "
                    "(width x height); give an image_size"
                )
            images[len(labels)] = example.image
            labels.append(example.label)
        if broken and not skip_broken:
            listed = "\n".join(f"  {name}: {reason}" for name, reason in list(broken.items())[:10])
            raise ValueError(
                f"{len(broken)} of {count} pictures cannot be decoded:\n{listed}"
                + ("\n  ..." if len(broken) > 10 else "")
                + "\nmend or remove them, or pass skip_broken=True (--skip-broken) to leave them out"
            )
        if images is None:
            raise ValueError(f"none of {count} pictures can be decoded, the first is {next(iter(broken), '')}")
        notes = {"labels": labels, "broken": list(broken), "fingerprint": fingerprint(images[: len(labels)])}
        if isinstance(images, np.memmap):
            images.flush()
            _write_then_rename(notes_file, json.dumps(notes))
            temporary.replace(array_file)  # last: its presence says that both are whole
            images = np.load(array_file, mmap_mode="r")
        return _collected(images, **notes)
    finally:
        temporary.unlink(missing_ok=True)


def _collected(images: np.ndarray, labels: list[int | None], broken: list[str], fingerprint: str) -> Collected:
    known = [label for label in labels if label is not None]
    whole = len(known) == len(labels)
    numbers = np.array(known, np.int64) if whole else None
    return Collected(images[: len(labels)], numbers, tuple(broken), fingerprint)


def _allocate(shape: tuple[int, ...], file: Path) -> np.ndarray:
    if int(np.prod(shape, dtype=np.int64)) <= MEMORY_LIMIT:
        return np.empty(shape, np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)


def _write_then_rename(file: Path, text: str) -> None:
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(file)


def fingerprint(images: np.ndarray) -> str:
    """sha256 over shape and bytes."""
    digest = hashlib.sha256(str(images.shape).encode())
    for start in range(0, len(images), 256):
        digest.update(np.ascontiguousarray(images[start : start + 256]).data)
    return digest.hexdigest()


def _cache_folder() -> Path:
    if home := os.environ.get("ZOO_HOME"):
        return Path(home).expanduser() / "pictures"
    import platformdirs

    return Path(platformdirs.user_cache_dir("generative-zoo")) / "pictures"


def _with_progress(examples: Iterable[Example], count: int) -> Iterable[Example]:
    if count <= PROGRESS_FROM or not sys.stderr.isatty():
        return examples
    from rich.console import Console
    from rich.progress import track

    return track(examples, total=count, description="decoding pictures", console=Console(stderr=True))


# --- a folder or a zip ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Files:
    """The files beneath a folder or inside a zip, by their sorted POSIX names; a zip is never extracted."""

    source: Path
    sizes: dict[str, int]
    stamps: dict[str, str]
    """What changes when the file does: CRC-32 in a zip, modification time in a folder."""
    read: Callable[[str], bytes]


def open_files(source: Path) -> Files:
    """List a folder (recursively) or a zip.

    Raises:
        ValueError: `source` is neither, or the zip is damaged.
    """
    if source.is_dir():
        stats = {p.relative_to(source).as_posix(): p.stat() for p in sorted(source.rglob("*")) if p.is_file()}
        return Files(
            source,
            {name: stat.st_size for name, stat in stats.items()},
            {name: str(stat.st_mtime_ns) for name, stat in stats.items()},
            lambda name: (source / name).read_bytes(),
        )
    try:
        archive = zipfile.ZipFile(source)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{source}: neither a folder nor a readable zip ({error})") from error
    entries = {info.filename.replace("\\", "/"): info for info in archive.infolist() if not info.is_dir()}
    return Files(
        source,
        {name: info.file_size for name, info in entries.items()},
        {name: f"{info.CRC:08x}" for name, info in entries.items()},
        lambda name: archive.read(entries[name]),
    )


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    strange = path.is_absolute() or any(part.startswith(".") or part == "__MACOSX" for part in path.parts)  # "..", too
    return not strange and path.suffix.lower() in SUFFIXES


def _inner_name(name: str, wrapping: int) -> str:
    return "/".join(PurePosixPath(name).parts[wrapping:])


def _wrapping_folders(names: list[str]) -> int:
    """How many top folders hold everything and are no split."""
    paths = [PurePosixPath(name).parts for name in names]
    depth = 0
    while len({parts[: depth + 1] for parts in paths}) == 1 and all(len(parts) > depth + 1 for parts in paths):
        if paths[0][depth] in SPLIT_FOLDERS:
            break
        depth += 1
    return depth


def held_out(names: list[str]) -> tuple[list[str], list[str]]:
    """Divide names into train and test: sha256(name) mod 10 == 0 is test, so added files move no other file.

    Of two or more names each side gets at least one.
    """

    def number(name: str) -> int:
        return int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")

    test = {name for name in names if number(name) % 10 == 0}
    if len(names) >= 2 and not test:
        test = {min(names, key=number)}
    if len(test) == len(names):
        test -= {max(names, key=number)}
    return [name for name in names if name not in test], [name for name in names if name in test]


def _splits(names: list[str]) -> dict[str, dict[str, str]]:
    """Split -> (inner name beneath the split's folder -> file name).  With no split folder all is "train"."""
    wrapping = _wrapping_folders(names)
    inner = {_inner_name(name, wrapping): name for name in names}
    splits: dict[str, dict[str, str]] = {}
    for name, file in inner.items():
        top, slash, rest = name.partition("/")
        if slash and top in SPLIT_FOLDERS:
            splits.setdefault(SPLIT_FOLDERS[top], {})[rest] = file
    if not splits:
        splits = {"train": inner}
    if "train" in splits and "test" not in splits:
        everything = splits["train"]
        train, test = held_out(list(everything))
        splits["train"] = {name: everything[name] for name in train}
        splits["test"] = {name: everything[name] for name in test}
    return splits


def pictures_of_files(source: Path, split: str, policy: Policy, *, skip_broken: bool, cache: Path | None) -> Pictures:
    """One split of a folder or zip: see `recipes.data.load_pictures`."""
    files = open_files(source)
    names = sorted(name for name in files.sizes if _is_picture(name))
    if not names:
        raise ValueError(
            f"{source} holds no pictures: looked at {len(files.sizes)} files for the endings {', '.join(SUFFIXES)}"
        )
    splits = _splits(names)
    parts = splits.values() if split == "all" else [splits.get(split, {})]
    chosen = [pair for part in parts for pair in part.items()]  # (name beneath the split's folder, file)
    if not chosen:
        known = ", ".join(f"{name} ({len(members)})" for name, members in sorted(splits.items()))
        raise ValueError(f"{source} has no pictures in split {split!r}; it has {known}")
    # Over all splits, so that a class has the same number in each of them.
    class_names = sorted({name.split("/")[0] for members in splits.values() for name in members if "/" in name})
    labelled = all("/" in name for name, _ in chosen)
    numbers = {name: index for index, name in enumerate(class_names)}

    def example(member: tuple[str, str]) -> Example:
        inner, file = member
        label = numbers[inner.split("/")[0]] if labelled else None
        try:
            if files.sizes[file] > FILE_LIMIT:
                raise ValueError(f"{files.sizes[file]:,} bytes; the limit is {FILE_LIMIT:,}")
            return Example(file, label, policy.decode(files.read(file)))
        except MemoryError:
            raise
        except Exception as error:  # a damaged file raises almost anything: OSError, SyntaxError, struct.error ...
            return Example(file, label, error)

    content = [(file, files.sizes[file], files.stamps[file]) for _, file in chosen]
    found = collect(
        lambda: _in_threads(example, chosen),
        len(chosen),
        key=f"{source.resolve()} {split} {policy} {content}",
        skip_broken=skip_broken,
        cache=cache,
    )
    return Pictures(
        images=found.images,
        labels=found.labels,
        class_names=tuple(class_names) if labelled else (),
        name=source.resolve().name,
        split=split,
        fingerprint=found.fingerprint,
        ignored=len(files.sizes) - sum(len(members) for members in splits.values()),
        broken=found.broken,
        licence="",
    )


def native_channels(source: Path) -> int:
    """1 where the first picture of a folder or zip, by name, is grey, 3 where it has colours.

    Raises:
        ValueError: there is no picture, or the first can't be read.
    """
    files = open_files(source)
    name = min(filter(_is_picture, files.sizes), default=None)
    if name is None:
        raise ValueError(f"{source} holds no pictures: looked at {len(files.sizes)} files.")
    try:
        with Image.open(io.BytesIO(files.read(name)), formats=FORMATS) as picture:
            return 1 if picture.mode in GREY_MODES else 3
    except OSError as error:
        raise ValueError(f"{source}: {name} can't be read: {error}") from error


def _in_threads(example: Callable[[tuple[str, str]], Example], members: list[tuple[str, str]]) -> Iterator[Example]:
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(members), 256):  # in pieces: `map` over all would hold the whole set in memory
            yield from pool.map(example, members[start : start + 256])


# --- the embedded sample ----------------------------------------------------------------------------------------


def embedded_pictures(split: str, policy: Policy) -> Pictures:
    """Fashion-MNIST's 10,000 published *test* pictures (MIT): "train" is the first 9,000, "test" the rest, or "all"."""
    parts = {"train": slice(0, 9_000), "test": slice(9_000, 10_000), "all": slice(None)}
    if split not in parts:
        raise ValueError(f"split={split!r}: the embedded sample has {sorted(parts)}")
    images = _idx("t10k-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28)[parts[split]]
    labels = _idx("t10k-labels-idx1-ubyte.gz", header=8)[parts[split]].astype(np.int64)
    images = np.stack([policy.apply(Image.fromarray(image)) for image in images])
    name = "fashion_mnist_t10k"
    return Pictures(images, labels, FASHION_CLASSES, name, split, fingerprint(images), 0, (), "MIT")


def _idx(name: str, header: int) -> np.ndarray:
    packed = importlib.resources.files("recipes").joinpath("embedded", name).read_bytes()
    return np.frombuffer(gzip.decompress(packed), np.uint8, offset=header)
