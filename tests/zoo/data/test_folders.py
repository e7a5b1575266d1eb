"""Listing a folder or zip, its splits and classes, and what is said about bad files."""

import gc
import io
import os
import socket
import struct
import sys
import tarfile
import threading
import time
import tracemalloc
import warnings
import weakref
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps, features

from zoo.data import folders as module
from zoo.data import images as images_module
from zoo.data.folders import count_channels, split_held_out
from zoo.data.images import Policy
from zoo.data.load import load_collections, load_images
from zoo.data.store import Example


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


def zipped(file: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file


CLASSES = {"cat/1.png": gray(1), "cat/2.PNG": gray(2), "dog/deep/3.png": gray(3)}
SPLITS = {f"train/{name}": content for name, content in CLASSES.items()} | {
    "test/dog/4.png": gray(4),
    "test/emu/5.png": gray(5),
    "valid/cat/6.png": gray(6),
}
CLUTTER = {"README.txt": b"hello", ".DS_Store": b"", "train/cat/.hidden.png": gray(9), "__MACOSX/cat/._1.png": b"x"}


@pytest.fixture(params=["folder", "zip", "wrapped zip", "wrapped folder"])
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    wrap = "outer/inner/" if "wrapped" in request.param else ""
    files = {wrap + name: content for name, content in SPLITS.items()} | CLUTTER
    return str(zipped(tmp_path / "set.zip", files) if "zip" in request.param else write(tmp_path / "set", files))


def test_splits_classes_order_and_clutter(layout: str) -> None:
    train = load_images(layout, image_size=None, channels=1)
    assert train.images.shape == (3, 4, 4, 1)
    np.testing.assert_array_equal(train.images[:, 0, 0, 0], [1, 2, 3])
    assert train.class_names == ("cat", "dog", "emu")  # of all splits, so that numbers agree between them
    np.testing.assert_array_equal(train.labels, [0, 0, 1])
    assert train.ignored == 4
    assert (train.name, train.split, train.broken, train.license) == (Path(layout).name, "train", (), "")
    test = load_images(layout, split="test", image_size=None, channels=1)
    np.testing.assert_array_equal(test.labels, [1, 2])
    validation = load_images(layout, split="validation", image_size=None, channels=1)
    np.testing.assert_array_equal(validation.images[:, 0, 0, 0], [6])
    assert len({train.fingerprint, test.fingerprint, validation.fingerprint}) == 3


def test_fingerprint_is_of_the_pixels_and_the_shape(tmp_path: Path) -> None:
    one = write(tmp_path / "one", {"a.png": gray(1), "b.png": gray(2)})
    same = zipped(tmp_path / "two.zip", {"a.png": gray(1), "b.png": gray(2)})
    other = write(tmp_path / "other", {"a.png": gray(1), "b.png": gray(3)})
    wide = write(tmp_path / "wide", {"a.png": gray(1, (8, 2)), "b.png": gray(2, (8, 2))})
    first, second, *rest = (
        {load_images(str(p), split=s, image_size=None, channels=1).fingerprint for s in ("train", "test")}
        for p in (one, same, other, wide)
    )
    assert first == second
    assert all(first != different for different in rest)


def test_unknown_split_lists_the_known_ones(layout: str) -> None:
    with pytest.raises(ValueError, match=r"split 'dev'; it has test \(2\), train \(3\), validation \(1\)"):
        load_images(layout, split="dev", image_size=None, channels=1)


def test_all_is_every_split_in_turn_with_one_numbering_of_classes(layout: str) -> None:
    everything = load_images(layout, split="all", image_size=None, channels=1)
    np.testing.assert_array_equal(np.sort(everything.images[:, 0, 0, 0]), [1, 2, 3, 4, 5, 6])
    assert everything.labels is not None
    labels = dict(zip(everything.images[:, 0, 0, 0].tolist(), everything.labels.tolist(), strict=True))
    assert labels == {1: 0, 2: 0, 3: 1, 4: 1, 5: 2, 6: 0}
    assert (everything.split, everything.class_names, everything.ignored) == ("all", ("cat", "dog", "emu"), 4)


def test_all_of_a_set_without_split_folders_is_train_and_test(tmp_path: Path) -> None:
    folder = write(tmp_path / "plain", {f"{value}.png": gray(value) for value in range(30)})
    parts = {
        split: load_images(str(folder), split=split, image_size=None, channels=1).images[:, 0, 0, 0].tolist()
        for split in ("train", "test", "all")
    }
    assert sorted(parts["all"]) == sorted(parts["train"] + parts["test"]) == list(range(30))


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("1", 1), ("L", 1), ("LA", 1), ("I;16", 1), ("P", 3), ("RGB", 3), ("RGBA", 3)],
)
def test_native_channels_are_three_where_an_image_has_colors(mode: str, channels: int, tmp_path: Path) -> None:
    files = {"README.txt": b"", "a.png": gray(1), "b.png": encoded(Image.new(mode, (4, 4)), "PNG"), "z.png": gray(1)}
    for source in (write(tmp_path / "folder", files), zipped(tmp_path / "set.zip", files)):
        assert module.count_channels(source) == channels


def test_native_channels_of_nothing_or_of_what_is_broken(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no images: looked at 1 files"):
        module.count_channels(write(tmp_path / "none", {"README.txt": b"hello"}))
    with pytest.raises(ValueError, match=r"broken: a\.png can't be read"):
        module.count_channels(write(tmp_path / "broken", {"a.png": b"no image"}))


def test_unpaired_domains_are_splits_without_classes(tmp_path: Path) -> None:
    files = {f"{split}/{i}.png": gray(i) for i, split in enumerate(("trainA", "trainB", "testA", "testB"))}
    domain = load_images(str(write(tmp_path, files)), split="trainB", image_size=None, channels=1)
    assert domain.images[0, 0, 0, 0] == 1
    assert domain.labels is None
    assert domain.class_names == ()


def test_a_tenth_of_each_collection_is_held_out_where_none_is_given(tmp_path: Path) -> None:
    files = {f"{split}/{i}.png": gray(i) for i in range(20) for split in ("trainA", "trainB")}
    source = str(write(tmp_path, files))
    for held_out, expected in ((False, range(18)), (True, range(18, 20))):
        pair = load_collections(source, held_out=held_out, paired=True, image_size=None, channels=1)
        for each in pair:
            assert sorted(each.images[:, 0, 0, 0]) == list(expected)
        assert pair[0].names == pair[1].names


def test_pairs_have_the_same_names(tmp_path: Path) -> None:
    files = {"trainA/1.png": gray(1), "trainA/2.png": gray(2), "trainB/1.png": gray(3), "trainB/x.png": gray(4)}
    source = str(write(tmp_path, {**files, "testA/3.png": gray(5), "testB/3.png": gray(6)}))
    options = {"image_size": None, "channels": 1}
    with pytest.raises(ValueError, match=r"2 names are in one of them alone, such as 2\.png"):
        load_collections(source, held_out=False, paired=True, **options)
    one, other = load_collections(source, held_out=False, paired=False, **options)
    assert (one.names, other.names) == (("1.png", "2.png"), ("1.png", "x.png"))
    assert [each.split for each in load_collections(source, held_out=True, paired=True, **options)] == [
        "testA",
        "testB",
    ]


def test_images_that_are_left_out_have_no_names(tmp_path: Path) -> None:
    files = {"train/1.png": gray(1), "train/2.png": b"broken", "train/3.png": gray(3), "test/4.png": gray(4)}
    source = str(write(tmp_path, files))
    found = load_images(source, split="train", image_size=None, channels=1, skip_broken=True)
    assert found.names == ("1.png", "3.png")


def test_one_collection_is_not_two(tmp_path: Path) -> None:
    source = str(write(tmp_path, {f"{i}.png": gray(i) for i in range(4)}))
    with pytest.raises(ValueError, match="two collections of images are wanted: put them into folders trainA"):
        load_collections(source, held_out=False, paired=False, image_size=None, channels=1)


def test_a_broken_image_of_a_collection_is_named_as_such(tmp_path: Path) -> None:
    files = {f"{split}/{i}.png": gray(i) for i in range(2) for split in ("trainA", "trainB", "testA", "testB")}
    source = str(write(tmp_path / "my-splits", {**files, "trainB/x.png": b"broken"}))
    with pytest.raises(ValueError, match=r"1 of 3 images cannot be decoded") as error:
        load_collections(source, held_out=False, paired=False, image_size=None, channels=1)
    assert "two collections" not in str(error.value)


def test_a_class_named_train_is_no_split(tmp_path: Path) -> None:
    files = {f"{name}/{i}.png": gray(i) for i in range(4) for name in ("bus", "car", "train")}
    found = load_images(str(write(tmp_path, files)), split="all", image_size=None, channels=1)
    assert found.class_names == ("bus", "car", "train")
    assert len(found.images) == 12


@pytest.mark.parametrize("names", [("Train", "Test"), ("TRAIN", "VAL"), ("trainA", "TrainB")])
def test_split_folders_in_any_case(tmp_path: Path, names: tuple[str, str]) -> None:
    files = {f"{name}/{kind}/{i}.png": gray(i) for i in range(4) for kind in "ab" for name in names}
    split = "trainA" if names[0] == "trainA" else "train"
    found = load_images(str(write(tmp_path, files)), split=split, image_size=None, channels=1)
    assert found.class_names == ("a", "b")
    if names == ("Train", "Test"):
        assert len(found.images) == 8
    with pytest.raises(ValueError, match="no images in split"):
        load_images(str(tmp_path), split="nothing", image_size=None, channels=1)


def test_images_beside_splits_are_named(tmp_path: Path) -> None:
    files = {"train/a/1.png": gray(1), "test/a/2.png": gray(2), "extra/a/3.png": gray(3), "4.png": gray(4)}
    with pytest.raises(ValueError, match=r"beside the splits test, train there are 4\.png, extra/a/3\.png, which"):
        load_images(str(write(tmp_path, files)), image_size=None, channels=1)


def test_two_folders_of_one_split_may_not_hold_the_same_name(tmp_path: Path) -> None:
    files = {"train/1.png": gray(1), "val/2.png": gray(2), "valid/2.png": gray(3), "validation/4.png": gray(4)}
    with pytest.raises(ValueError, match=r"val/2\.png, valid/2\.png are the same image of one split"):
        load_images(str(write(tmp_path, files)), image_size=None, channels=1)


def test_linked_folders_count_and_loops_end(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", {"1.png": gray(1), "2.png": gray(2)})
    folder = write(tmp_path / "set", {"dog/3.png": gray(3)})
    (folder / "cat").symlink_to(tmp_path / "elsewhere")
    (folder / "dog" / "loop").symlink_to(folder)
    found = load_images(str(folder), split="all", image_size=None, channels=1)
    assert found.class_names == ("cat", "dog")
    assert sorted(found.images[:, 0, 0, 0].tolist()) == [1, 2, 3]


@pytest.mark.parametrize(("suffix", "form"), [(".jfif", "JPEG"), (".jpe", "JPEG"), (".avif", "AVIF")])
def test_less_common_endings(tmp_path: Path, suffix: str, form: str) -> None:
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    files = {f"{i}{suffix}": encoded(Image.new("L", (4, 4), 100), form) for i in range(2)}
    found = load_images(str(write(tmp_path, files)), split="all", image_size=None, channels=1)
    assert len(found.images) == 2
    assert abs(int(found.images[0, 0, 0, 0]) - 100) < 5


def test_names_in_bytes_that_are_no_text(tmp_path: Path) -> None:
    name = b"caf\xe9"  # Latin-1
    try:
        (tmp_path / os.fsdecode(name + b".png")).write_bytes(gray(1))
    except OSError:
        pytest.skip("this file system takes names of UTF-8 alone")
    (tmp_path / os.fsdecode(name + b"_broken.png")).write_bytes(b"no")
    (tmp_path / "b.png").write_bytes(gray(2))
    with pytest.raises(ValueError, match=r"caf\\xe9_broken\.png: "):
        load_images(str(tmp_path), split="all", image_size=None, channels=1)
    found = load_images(str(tmp_path), split="all", image_size=None, channels=1, skip_broken=True)
    assert sorted(found.images[:, 0, 0, 0].tolist()) == [1, 2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_read_whatever_else_the_tags_say(tmp_path: Path, orientation: int) -> None:
    """A tag of another type than the standard's stops `ImageOps.exif_transpose`, which then is no oracle for it."""
    values = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    plain = Image.open(io.BytesIO(encoded(Image.fromarray(values), "PNG", exif=exif)))
    expected = np.asarray(ImageOps.exif_transpose(plain))
    blob = exif.tobytes()  # now the same with XResolution, tag 282, as text
    entry = struct.pack(">HHI4s", 282, 2, 3, b"72\0\0")
    count = struct.unpack(">H", blob[14:16])[0]
    odd = blob[:14] + struct.pack(">H", count + 1) + blob[16 : 16 + 12 * count] + entry + bytes(4)
    (tmp_path / "1.png").write_bytes(encoded(Image.fromarray(values), "PNG", exif=odd))
    found = load_images(str(tmp_path), split="all", image_size=None, channels=1)
    np.testing.assert_array_equal(found.images[0, ..., 0], expected)


@pytest.mark.parametrize("content", [b"", b"hello", gray(1)[:40]])
def test_counting_channels_names_what_can_not_be_read(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"1\.png can't be read: "):
        count_channels(write(tmp_path, {"1.png": content}))


def test_counting_channels_reads_no_huge_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_LIMIT", 10)
    with pytest.raises(ValueError, match=r"a\.png can't be read: .*the limit is 10"):
        count_channels(zipped(tmp_path / "set.zip", {"a.png": gray(0)}))


def test_an_image_of_too_many_pixels_is_broken_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "PIXEL_LIMIT", 15)
    source = write(tmp_path, {"a.png": gray(0), "b.png": gray(0, (3, 5))})
    with pytest.raises(ValueError, match=r"a\.png: 4 x 4 pixels; the limit is 15"):
        load_images(str(source), image_size=3, channels=1, split="all")


@pytest.mark.parametrize(
    ("ending", "pixels", "most"),
    [("png", 1, 1), ("png", 31, 1), ("png", 32, 2), ("webp", 63, 1), ("webp", 64, 2), ("avif", 63, 1), ("avif", 64, 2)],
)
def test_images_of_so_many_pixels_are_decoded_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, pixels: int, most: int
) -> None:
    """The decoders of WebP and AVIF take twice the memory."""
    monkeypatch.setattr(images_module, "PIXELS", images_module.Budget(pixels))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    busy, seen, lock = 0, 0, threading.Lock()

    def apply(policy: Policy, image: Image.Image) -> np.ndarray:
        nonlocal busy, seen
        with lock:
            busy += 1
            seen = max(seen, busy)
        time.sleep(0.005)
        with lock:
            busy -= 1
        return np.zeros((4, 4, 1), np.uint8)

    monkeypatch.setattr(Policy, "apply", apply)
    data = encoded(Image.new("L", (4, 4)), ending)
    load_images(str(write(tmp_path, {f"{i}.{ending}": data for i in range(20)})), image_size=4, channels=1, split="all")
    assert seen == most


def test_nothing_of_a_broken_image_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[weakref.ref[Image.Image]] = []

    def apply(policy: Policy, image: Image.Image) -> np.ndarray:
        decoded.append(weakref.ref(image))
        raise ValueError

    monkeypatch.setattr(Policy, "apply", apply)
    source = str(write(tmp_path, {"1.png": gray(1), "2.png": gray(2)}))
    gc.disable()  # it runs too seldom to count on: it knows nothing of how large the images are
    try:
        with pytest.raises(ValueError, match="2 of 2 images cannot be decoded"):
            load_images(source, image_size=4, channels=1, split="all")
        assert [reference() for reference in decoded] == [None, None]
    finally:
        gc.enable()


def test_files_of_so_many_bytes_are_read_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(gray(0))
    monkeypatch.setattr(module, "BYTES", images_module.Budget(3 * size - 1))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    busy, most, lock = 0, 0, threading.Lock()

    def decode(policy: Policy, data: bytes) -> np.ndarray:
        nonlocal busy, most
        with lock:
            busy += len(data)
            most = max(most, busy)
        time.sleep(0.005)
        with lock:
            busy -= len(data)
        return np.zeros((4, 4, 1), np.uint8)

    monkeypatch.setattr(Policy, "decode", decode)
    load_images(str(write(tmp_path, {f"{i}.png": gray(0) for i in range(20)})), image_size=4, channels=1, split="all")
    assert most == 2 * size


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (64, 4), (2**20, 20)])
def test_no_more_images_wait_than_may_take_memory(monkeypatch: pytest.MonkeyPatch, limit: int, most: int) -> None:
    monkeypatch.setattr(module, "AHEAD_LIMIT", limit)
    begun: list[str] = []

    def decode(member: tuple[str, str]) -> Example:
        begun.append(member[0])
        return Example(member[0], None, np.zeros((4, 4, 1), np.uint8))

    members = [(str(i), "") for i in range(21)]
    found, ahead = [], 0
    for example in module._map_in_threads(decode, members):
        time.sleep(0.01)
        ahead = max(ahead, len(begun) - len(found) - 1)  # without the one that has been handed over
        found.append((example.name, ""))
    assert found == members
    assert ahead <= most


def test_a_refused_set_is_not_decoded_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    decode = Policy.decode
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(
        Policy, "decode", lambda self, data: (time.sleep(0.005), decoded.append(data), decode(self, data))[2]
    )
    files = {f"{i:03}.png": gray(0, (4, 4) if i < 2 else (5, 4)) for i in range(200)}
    with pytest.raises(ValueError, match=r"000\.png is 4x4, 002\.png is 5x4"):
        load_images(str(write(tmp_path, files)), image_size=None, channels=1, split="all")
    assert len(decoded) < 20


def test_memory_that_does_not_suffice_is_no_broken_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(policy: Policy, data: bytes) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(Policy, "decode", decode)
    source = write(tmp_path, {"1.png": gray(0), "2.png": gray(0)})
    with pytest.raises(RuntimeError, match=rf"^{tmp_path}: 1\.png: not enough memory to decode it$"):
        load_images(str(source), image_size=4, channels=1, skip_broken=True, split="all")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files here")
def test_what_only_looks_like_an_image_file_is_named_and_never_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "set", {"good.png": gray(1)})
    os.mkfifo(folder / "pipe.png")
    (folder / "endless.png").symlink_to("/dev/zero")
    (folder / "gone.png").symlink_to(folder / "nowhere")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(folder)  # a socket's address is short
        server.bind("socket.png")
    with pytest.raises(ValueError, match="5 of 6 images cannot be decoded") as error:
        load_images(str(folder), image_size=4, channels=1, split="all")
    assert sorted(str(error.value).splitlines()[1:-1]) == [
        "  endless.png: no regular file",
        "  gone.png: a broken link",
        "  loop.png: a broken link",
        "  pipe.png: no regular file",
        "  socket.png: no regular file",
    ]
    with pytest.raises(ValueError, match=r"endless\.png can't be read: no regular file"):
        count_channels(folder)
    for name in ("pipe.png", "endless.png", "socket.png"):
        with pytest.raises(ValueError, match=rf"{name}: neither a folder nor a file"):
            load_images(str(folder / name), image_size=4, channels=1)


def test_folders_that_link_to_one_another_are_refused(tmp_path: Path) -> None:
    for i in range(12):  # without a limit 12! ways
        write(tmp_path, {f"{i}/1.png": gray(i)})
        for j in range(12):
            (tmp_path / str(i) / f"to {j}").symlink_to(tmp_path / str(j))
    with pytest.raises(ValueError, match="reached by 4 links one after the other; at most 3 are followed"):
        load_images(str(tmp_path), image_size=4, channels=1)


def test_folders_may_lie_deeper_than_functions_may_call(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["a"] * 400)
    folder.mkdir(parents=True)
    write(folder, {"1.png": gray(3), "2.png": gray(3)})
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(390)
    try:
        found = load_images(str(tmp_path), image_size=4, channels=1, split="all")
    finally:
        sys.setrecursionlimit(limit)
    assert len(found.images) == 2


def test_an_entry_unpacks_to_no_more_than_it_says(tmp_path: Path) -> None:
    file = tmp_path / "set.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fine.png", gray(1))
        archive.writestr("liar.png", bytes(64 * 2**20))
    content = file.read_bytes()
    start = content.rindex(b"liar.png") - 46  # of its entry in the central directory
    file.write_bytes(content[: start + 24] + struct.pack("<I", 1000) + content[start + 28 :])
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"liar\.png: Bad CRC-32"):
            load_images(str(file), image_size=4, channels=1, split="all")
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def change_entries(file: Path, offset: int, value: int) -> Path:
    """Set one byte of every entry of a zip's central directory, and the same of the local headers."""
    content = bytearray(file.read_bytes())
    for mark, shift in ((b"PK\1\2", 0), (b"PK\3\4", 2)):
        start = -1
        while (start := content.find(mark, start + 1)) >= 0:
            content[start + offset - shift] = value
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (8, 1, r"set\.zip: 2 of 2 images cannot be decoded:\n  1\.png: encrypted"),
        (10, 12, r"1\.png: packed by method 12; what is stored or deflated can be read"),
        (10, 97, r"1\.png: packed by method 97;"),
        (6, 99, r"set\.zip: neither a folder nor a readable zip \(zip file version 9\.9\)"),
        (16, 0, r"1\.png: Bad CRC-32"),
        (46, 255, r"1\.png: .*differ|neither a folder nor a readable zip \('utf-8' codec"),
    ],
)
def test_zips_that_can_not_be_read_are_named(tmp_path: Path, offset: int, value: int, message: str) -> None:
    file = zipped(tmp_path / "set.zip", {"1.png": gray(1), "2.png": gray(2)})
    if offset == 46:
        change_entries(file, 9, 8)  # names are UTF-8
    with pytest.raises(ValueError, match=message):
        load_images(str(change_entries(file, offset, value)), image_size=4, channels=1, split="all")


@pytest.mark.parametrize("name", ["set.tgz", "state.pth", "arrays.npz", "outer.zip"])
def test_other_archives_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if name == "set.tgz":
        with tarfile.open(file, "w:gz") as archive:
            archive.add(write(tmp_path / "set", {"1.png": gray(1)}))
    elif name == "arrays.npz":
        np.savez_compressed(file, images=np.zeros(1000))
    else:
        zipped(file, {"archive/data.pkl": b"", "inner.zip": zipped(tmp_path / "a", {"1.png": gray(1)}).read_bytes()})
    with pytest.raises(ValueError, match=rf"{name}.*(neither a folder nor a readable zip|holds no images)") as error:
        load_images(str(file), image_size=4, channels=1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["", "  ", "~no such user/images", "x" * 300])
def test_names_that_can_be_no_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.chdir(write(tmp_path, {"1.png": gray(1), "2.png": gray(2)}))
    with pytest.raises((ValueError, OSError), match=source or "names no images") as error:
        load_images(source, image_size=4, channels=1)
    assert "\n" not in str(error.value)


def test_held_out_split_keeps_the_series_of_one_person_together() -> None:
    """Each person shows the ten digits in turn, as the numbers of a camera run through the folders of the digits."""
    names = [f"{digit}/IMG_{990 + 10 * person + digit}.jpg" for person in range(203) for digit in range(10)]
    train, test = split_held_out(names)
    assert sorted(train + test) == sorted(names)

    def persons(part: list[str]) -> set[int]:
        return {(int(name.partition("_")[2].removesuffix(".jpg")) - 990) // 10 for name in part}

    assert persons(train).isdisjoint(persons(test))
    assert [sum(name.startswith(f"{digit}/") for name in test) for digit in range(10)] == [20] * 10


def test_held_out_split_is_the_same_in_any_order_of_the_names() -> None:
    names = [f"{folder}/{i}.png" for folder in ("a", "b10", "b9") for i in range(37)] + [f"{i}.png" for i in range(12)]
    shuffled = np.random.default_rng(0).permutation(names).tolist()
    expected = {f"{folder}/{i}.png" for folder in ("a", "b10", "b9") for i in range(33, 37)} | {"11.png"}
    for order in (names, shuffled):
        assert set(split_held_out(order)[1]) == expected


@pytest.mark.parametrize("count", [5, 14, 15, 500])
@pytest.mark.parametrize("width", [0, 6])
def test_held_out_split_takes_a_tenth_of_each_class_by_number(count: int, width: int) -> None:
    names = [f"{folder}/clip {i:0{width}} of 9.png" for folder in ("x", "y") for i in range(count)]
    train, test = split_held_out(names)
    last = range(count - (count + 5) // 10, count)
    assert test == [f"{folder}/clip {i:0{width}} of 9.png" for folder in ("x", "y") for i in last]
    assert not set(train) & set(test)


def test_added_images_move_none_from_train_to_test() -> None:
    names = [f"{folder}/{i}.png" for i in range(300) for folder in ("x", "y")]
    earlier, later = split_held_out(names[:400]), split_held_out(names)
    assert not set(earlier[0]) & set(later[1])


def test_small_classes_are_divided_together() -> None:
    names = [f"{person:03}/{i}.png" for person in range(100) for i in range(4)]
    assert split_held_out(names)[1] == names[-40:]
    assert split_held_out([*names, *(f"large/{i}.png" for i in range(20))])[1] == [
        *names[-40:],
        "large/18.png",
        "large/19.png",
    ]


def test_held_out_split_leaves_no_side_empty() -> None:
    for count in range(2, 12):
        assert all(split_held_out([f"{i}.png" for i in range(count)]))
        assert all(split_held_out([f"{i}/a.png" for i in range(count)]))
    assert split_held_out(["1.png"]) == (["1.png"], [])
    assert split_held_out(["\u00b2.png", "2.png", "\u0663.png", f"{'9' * 5000}.png"])[1] == ["\u0663.png"]


def test_no_test_folder_holds_a_part_of_train_out(tmp_path: Path) -> None:
    files = {f"{i}.png": gray(i) for i in range(60)}
    for folder in (
        write(tmp_path / "flat", files),
        write(tmp_path / "set", {f"train/{n}": c for n, c in files.items()}),
    ):
        parts = [load_images(str(folder), split=split, image_size=None, channels=1) for split in ("train", "test")]
        values = [set(part.images[:, 0, 0, 0].tolist()) for part in parts]
        assert values[0] | values[1] == set(range(60))
        assert not values[0] & values[1]
        assert all(values)
        assert parts[0].labels is None


def test_zip_entries_that_lead_outside_are_ignored_and_nothing_is_extracted(tmp_path: Path) -> None:
    inside = tmp_path / "deep" / "set.zip"
    inside.parent.mkdir()
    zipped(
        inside,
        {"../evil.png": gray(9), "/abs.png": gray(9), "a/../../b.png": gray(9), "x/1.png": gray(1), "y/2.png": gray(2)},
    )
    found = [load_images(str(inside), split=split, image_size=None, channels=1) for split in ("train", "test")]
    assert sorted(int(part.images[0, 0, 0, 0]) for part in found) == [1, 2]
    assert found[0].ignored == 3
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [inside]


def test_backslashes_in_zip_names_are_folders(tmp_path: Path) -> None:
    file = zipped(
        tmp_path / "set.zip", {"train\\a\\1.png": gray(1), "train\\b\\2.png": gray(2), "test\\b\\3.png": gray(3)}
    )
    assert load_images(str(file), image_size=None, channels=1).class_names == ("a", "b")


def test_broken_images_are_named_or_skipped_with_their_labels(tmp_path: Path) -> None:
    photograph = encoded(Image.effect_noise((64, 64), 50), "JPEG")
    good = {"train/a/1.png": gray(1), "train/b/3.png": gray(3), "test/a/4.png": gray(4)}
    broken = {"train/a/2.jpg": photograph[: len(photograph) // 2], "train/a/0.png": b"", "train/b/text.gif": b"hello"}
    source = str(write(tmp_path, good | broken))
    with pytest.raises(ValueError, match="3 of 5 images cannot be decoded") as error:
        load_images(source, image_size=4, channels=1)
    assert all(name in str(error.value) for name in broken)
    assert "skip_broken=True" in str(error.value)
    kept = load_images(source, image_size=4, channels=1, skip_broken=True)
    assert kept.broken == tuple(sorted(broken))
    np.testing.assert_array_equal(kept.images[:, 0, 0, 0], [1, 3])
    np.testing.assert_array_equal(kept.labels, [0, 1])


def test_at_most_ten_broken_names_are_listed(tmp_path: Path) -> None:
    source = write(tmp_path, {f"train/{i:02}.png": b"no" for i in range(14)} | {"test/x.png": gray(1)})
    with pytest.raises(ValueError, match="14 of 14") as error:
        load_images(str(source), image_size=4, channels=1)
    assert str(error.value).count(".png:") == 10
    with pytest.raises(ValueError, match="none of 14 images can be decoded"):
        load_images(str(source), image_size=4, channels=1, skip_broken=True)


def test_warnings_of_pillow_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15)  # warns of more, up to twice as many
    source = write(tmp_path, {"1.png": gray(1), "2.png": gray(2)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert count_channels(source) == 1
        assert len(load_images(str(source), image_size=4, channels=1, split="all").images) == 2


def test_decompression_bomb_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    source = str(
        write(tmp_path, {"train/bomb.png": gray(0, (64, 64)), "train/fine.png": gray(7), "test/x.png": gray(1)})
    )
    with pytest.raises(ValueError, match=r"bomb\.png: .*exceeds limit"):
        load_images(source, image_size=4, channels=1)
    assert load_images(source, image_size=4, channels=1, skip_broken=True).images[0, 0, 0, 0] == 7


def test_huge_file_is_broken_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_LIMIT", 10)
    source = zipped(tmp_path / "set.zip", {"train/a.png": gray(0), "test/x.png": gray(1)})
    with pytest.raises(ValueError, match="the limit is 10"):
        load_images(str(source), image_size=4, channels=1)


def test_nothing_to_load_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no images: looked at 1 files for the endings \.png, \.jpg"):
        load_images(str(write(tmp_path / "text", {"README.txt": b"hello"})), image_size=4, channels=1)
    (tmp_path / "bad.zip").write_bytes(b"not a zip")
    with pytest.raises(ValueError, match="neither a folder nor a readable zip"):
        load_images(str(tmp_path / "bad.zip"), image_size=4, channels=1)
    with pytest.raises(FileNotFoundError, match=r"absent\.zip: no such"):
        load_images(str(tmp_path / "absent.zip"), image_size=4, channels=1)
    with pytest.raises(ValueError, match=r"split 'test'; it has test \(0\), train \(1\)"):
        load_images(str(write(tmp_path / "one", {"a.png": gray(1)})), split="test", image_size=4, channels=1)


def test_names_of_any_characters_are_told_in_one_line(tmp_path: Path) -> None:
    source = write(tmp_path / "set", {"a/1.png": gray(1), "a/\x1b[2J\n2.png": b"no image"})
    with pytest.raises(ValueError, match=r"a/\\x1b\[2J 2\.png: no image") as error:
        load_images(str(source), image_size=4, channels=1)
    assert all(line.isprintable() for line in str(error.value).split("\n"))
