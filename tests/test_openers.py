"""Damaged files: whatever opens one takes it, or refuses it in one line that names it; nothing else happens.

Bytes of real files with a few edits drawn by hypothesis. Plain edits know bytes alone. Where a format has checksums or
lengths, which would turn nearly all of those away at the door, others know its structure: they change what lies within
and make checksums and lengths right again. `openers.py` opens the files, in a process of its own.
"""

import io
import json
import os
import select
import shutil
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from zoo.export.saved_model import read_integer, read_table

Draw = Callable[[st.SearchStrategy[Any]], Any]
Edit = Callable[[Draw, bytes], bytes]

ROOT = Path(__file__).parents[1]
# Opener -> examples in `make test`, a minute of one core in all; `make test-all` takes 60 times as many.
EXAMPLES = {
    "card": 200,
    "graph": 200,
    "pipeline": 100,
    "weights": 200,
    "keras": 10,
    "saved_model": 20,
    "images": 100,
    "zip": 100,
    "kept_images": 50,
    "kept_scores": 50,
    "recipe": 100,
    "log": 100,
    "checkpoints": 30,
    "claims": 50,
}
PATIENCE = 300  # seconds until an answer: a process that waits for something takes no processor time

SIZE_LIMIT = 2**21  # bytes of a damaged file
EXTREMES = (0, 1, 2**7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
DEPTHS = st.sampled_from((1, 2, 20, 99, 300, 1_000, 10_000, 100_000))
TOKENS = (
    b"\0",
    b"\n",
    b"\x1b[2J",
    b"\xff\xfe",
    b"../secret",
    b"/etc/passwd",
    b"NaN",
    b"-1",
    b"1e999",
    b'"',
    b"9" * 5000,
)
ODD = (
    "",
    "\0",
    "\ud800",
    "\x1b[2J\n",
    "../secret",
    "/etc/passwd",
    "9" * 5000,
    None,
    True,
    [],
    {},
    [[]],
    {"": 0},
    -1,
    0,
)
NUMBERS = (0.5, 1e308, float("nan"), float("inf"), 2**31 - 1, 2**53 + 1, 2**63 - 1, 2**64, -(2**63), 10**30, 10**400)


def draw_damage(draw: Draw, name: str, data: bytes) -> bytes:
    """The bytes of a file of this name with one to three edits."""
    for _ in range(draw(st.integers(1, 3))):
        data = draw(st.sampled_from((edit_bytes, *find_edits(name))))(draw, data)
    return data[:SIZE_LIMIT]


def find_edits(name: str) -> tuple[Edit, ...]:
    """The edits that know the format of a file of this name; each counts as often as all of the plain ones."""
    path = PurePosixPath(name)
    by_name = {"variables.index": edit_table, "saved_model.pb": edit_messages, "fingerprint.pb": edit_messages}
    by_suffix = {".json": edit_json, ".onnx": edit_messages, ".zip": edit_zip, ".png": edit_png}
    edit = by_name.get(path.name) or by_suffix.get(path.suffix)
    return (edit, edit) if edit else ()


# Bytes


def edit_bytes(draw: Draw, data: bytes) -> bytes:
    """Flip, cut, insert, repeat, swap, truncate, or write another number."""
    return draw(st.sampled_from((flip, cut, insert, repeat, swap, truncate, write_extreme, step)))(draw, data)


def draw_place(draw: Draw, data: bytes) -> int:
    """Near both ends as often as anywhere: headers lie there."""
    size = len(data)
    near = st.integers(0, min(size, 200))
    return draw(st.one_of(near, near.map(lambda distance: size - distance), st.integers(0, size)))


def draw_run(draw: Draw, data: bytes) -> tuple[int, int]:
    start = draw_place(draw, data)
    return start, min(len(data), start + draw(st.sampled_from((1, 2, 4, 8, 16, 64, 512, 4096))))


def flip(draw: Draw, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 8)) if data else 0):
        changed[min(draw_place(draw, data), len(data) - 1)] ^= draw(st.integers(1, 255))
    return bytes(changed)


def cut(draw: Draw, data: bytes) -> bytes:
    start, stop = draw_run(draw, data)
    return data[:start] + data[stop:]


def insert(draw: Draw, data: bytes) -> bytes:
    start = draw_place(draw, data)
    zeros = st.sampled_from((b"\0" * 4, b"\0" * 4096))
    return data[:start] + draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=64), zeros)) + data[start:]


def repeat(draw: Draw, data: bytes) -> bytes:
    start, stop = draw_run(draw, data)
    times = draw(st.sampled_from((1, 2, 100, 10_000)))
    return data[:stop] + data[start:stop] * min(times, SIZE_LIMIT // max(1, stop - start)) + data[stop:]


def swap(draw: Draw, data: bytes) -> bytes:
    start, stop = draw_run(draw, data)
    other, end = draw_run(draw, data)
    return data[:start] + data[other:end] + data[stop:]


def truncate(draw: Draw, data: bytes) -> bytes:
    return data[: draw_place(draw, data)]


def write_extreme(draw: Draw, data: bytes) -> bytes:
    start, size, order = draw_place(draw, data), draw(st.sampled_from((1, 2, 4, 8))), draw_order(draw)
    value = draw(st.sampled_from(EXTREMES)) % 256**size
    return data[:start] + value.to_bytes(size, order) + data[start + size :]


def step(draw: Draw, data: bytes) -> bytes:
    start, size, order = draw_place(draw, data), draw(st.sampled_from((1, 2, 4, 8))), draw_order(draw)
    number = data[start : start + size]
    value = (int.from_bytes(number, order) + draw(st.sampled_from((-1, 1)))) % 256 ** len(number)
    return data[:start] + value.to_bytes(len(number), order) + data[start + size :]


def draw_order(draw: Draw) -> Any:
    return draw(st.sampled_from(("little", "big")))


# JSON


def edit_json(draw: Draw, data: bytes) -> bytes:
    """One value taken out, put twice, replaced by an odd one, or wrapped up to 100,000 levels deep."""
    try:
        value = json.loads(data)
        json.dumps(value, indent=2)  # what is too deep for the one may not be for the other
        places = list(walk(value))
    except (ValueError, RecursionError):
        return data
    if not places:
        return data
    owner, key = draw(st.sampled_from(places))
    action, mark = draw(st.sampled_from(("remove", "odd", "number", "other", "wrap", "again", "add"))), "\ue000"
    new = b""
    if action == "remove":
        del owner[key]
    elif action == "add":
        (owner.append if isinstance(owner, list) else lambda it: owner.update({"more": it}))(draw(st.sampled_from(ODD)))
    elif action in ("wrap", "again"):
        old, owner[key] = json.dumps(owner[key]).encode(), mark
        depth, (begin, end) = draw(DEPTHS), draw(st.sampled_from(((b"[", b"]"), (b'{"a":', b"}"))))
        again = b"" if isinstance(owner, list) else json.dumps(key).encode() + b": "
        new = begin * depth + old + end * depth if action == "wrap" else old + b", " + again + old
    else:
        choices: dict[str, Any] = {"odd": ODD, "number": NUMBERS, "other": places}
        chosen = draw(st.sampled_from(choices[action]))
        # A copy: it may come to lie within itself. `copy.deepcopy` takes more of the stack than JSON does.
        owner[key] = json.loads(json.dumps(chosen[0][chosen[1]])) if action == "other" else chosen
    return json.dumps(value, indent=2).encode().replace(json.dumps(mark).encode(), new)


def walk(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) below plain data."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from walk(value[key])


# Protocol buffers


def edit_messages(draw: Draw, data: bytes) -> bytes:
    """Of protocol buffers: a field of a message within messages removed, repeated, nested in itself or changed."""
    fields = read_fields(data)
    if not fields:
        return edit_bytes(draw, data)
    number = draw(st.integers(0, len(fields) - 1))
    tag, value = fields[number]
    if isinstance(value, int):
        changed = [(tag, draw(st.sampled_from((*EXTREMES, value + 1, max(0, value - 1)))))]
    elif not tag & 2:
        changed = [(tag, edit_bytes(draw, value)[: len(value)].ljust(len(value), b"\0"))]
    else:
        action = draw(st.sampled_from(("within",) * 6 + ("remove", "repeat", "nest", "bytes")))
        if action == "within":
            changed = [(tag, edit_messages(draw, value))]
        elif action == "repeat":
            times = draw(st.sampled_from((2, 3, 1_000, 100_000)))
            changed = [fields[number]] * min(times, max(2, SIZE_LIMIT // (len(value) + 2)))
        elif action == "nest":
            changed = [(tag, nest(tag, value, draw(DEPTHS)))]
        else:
            changed = [] if action == "remove" else [(tag, edit_bytes(draw, value))]
    return b"".join(write_field(*field) for field in (*fields[:number], *changed, *fields[number + 1 :]))


def nest(tag: int, value: bytes, depth: int) -> bytes:
    """The field in itself, `depth` times."""
    heads, size = [], len(value)
    for _ in range(depth):
        heads.append(write_integer(tag) + write_integer(size))
        size += len(heads[-1])
    return b"".join(reversed(heads)) + value


def read_fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """Tag and value of each field; none where the data is no message."""
    fields: list[tuple[int, int | bytes]] = []
    place = 0
    try:
        while place < len(data):
            tag, place = read_integer(data, place)
            if tag >> 3 == 0 or tag & 7 not in (0, 1, 2, 5):
                return []
            if tag & 7 == 0:
                value, place = read_integer(data, place)
                fields.append((tag, value))
                continue
            size, place = read_integer(data, place) if tag & 7 == 2 else ({1: 8, 5: 4}[tag & 7], place)
            if place + size > len(data):
                return []
            fields.append((tag, data[place : place + size]))
            place += size
    except IndexError:
        return []
    return fields


def write_field(tag: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return write_integer(tag) + write_integer(value)
    return write_integer(tag) + (write_integer(len(value)) if tag & 7 == 2 else b"") + value


def write_integer(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80]) + write_integer(value >> 7) if value > 0x7F else bytes([value])


# The index of TensorFlow's checkpoints: LevelDB's table of names and protocol buffers, whose blocks have checksums


def edit_table(draw: Draw, data: bytes) -> bytes:
    """One entry changed, removed or put twice."""
    try:
        entries = list(read_table(data))
    except (IndexError, ValueError):
        entries = []
    if not entries:
        return data
    number = draw(st.integers(0, len(entries) - 1))
    name, value = entries[number]
    action = draw(st.sampled_from(("within", "within", "within", "name", "remove", "repeat")))
    changed = {
        "within": lambda: [(name, edit_messages(draw, value))],
        "name": lambda: [(edit_bytes(draw, name), value)],
        "remove": list,
        "repeat": lambda: [(name, value)] * draw(st.sampled_from((2, 1_000))),
    }[action]()
    return write_table([*entries[:number], *changed, *entries[number + 1 :]])


def write_table(entries: list[tuple[bytes, bytes]]) -> bytes:
    table, handles = b"", []
    for block in (entries, [], None):
        pairs = [(b"\xff", handles[0])] if block is None else block
        sizes = ((0, len(name), len(value)) for name, value in pairs)
        body = b"".join(
            b"".join(map(write_integer, each)) + name + value for each, (name, value) in zip(sizes, pairs, strict=True)
        )
        body += struct.pack("<II", 0, 1)
        handles.append(write_integer(len(table)) + write_integer(len(body)))
        table += body + b"\0" + struct.pack("<I", mask(compute_crc32c(body + b"\0")))
    return table + (handles[1] + handles[2]).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def compute_crc32c(data: bytes) -> int:
    crc, table = 2**32 - 1, make_crc32c_table()
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return crc ^ 2**32 - 1


@cache
def make_crc32c_table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [value >> 1 ^ 0x82F63B78 * (value & 1) for value in table]
    return table


# Archives and images


def edit_zip(draw: Draw, data: bytes) -> bytes:
    """An entry's content damaged, or the entry repeated, renamed, or of another size than it says."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # an earlier edit has left no zip
        return data
    number = draw(st.integers(0, len(entries) - 1)) if entries else 0
    changed = io.BytesIO()
    compression = draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    with warnings.catch_warnings(), zipfile.ZipFile(changed, "w", compression) as archive:
        warnings.simplefilter("ignore")  # two entries of one name
        for each, (name, content) in enumerate(entries):
            action = draw(st.sampled_from(("within", "repeat", "rename", "size"))) if each == number else "keep"
            new = content if action != "within" else draw_damage(draw, name, content)
            folders = st.sampled_from(
                ("../", "/", "C:\\", "a/" * 300, "a\n\x1b[2J", "train/", "test/", "\u202e", ".\0")
            )
            info = zipfile.ZipInfo(draw(folders) + name if action == "rename" else name)
            for _ in range(draw(st.sampled_from((2, 3, 300))) if action == "repeat" else 1):
                archive.writestr(info, new, archive.compression)
            if action == "size":
                archive.getinfo(info.filename).file_size = draw(st.sampled_from(EXTREMES[:-2]))
    return changed.getvalue()


def edit_png(draw: Draw, data: bytes) -> bytes:
    """One chunk damaged, with its length and checksum right, removed or repeated."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    if not chunks:
        return data
    number = draw(st.integers(0, len(chunks) - 1))
    kind, content = chunks[number]
    action = draw(st.sampled_from(("within", "unpacked", "repeat")))
    if action == "unpacked" and kind == b"IDAT":
        try:
            content = zlib.compress(edit_bytes(draw, zlib.decompress(content)))
        except zlib.error:
            content = edit_bytes(draw, content)
    elif action != "repeat":
        content = edit_bytes(draw, content)
    times = draw(st.sampled_from((0, 2, 1_000))) if action == "repeat" else 1
    changed = [*chunks[:number], *[(kind, content)] * times, *chunks[number + 1 :]]
    return data[:8] + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in changed
    )


# The process that opens them


class Child:
    """openers.py in a process of its own, started again where a file has killed it."""

    def __init__(self, scratch: Path):
        self.scratch = scratch
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> subprocess.Popen[str]:
        # Every arena of the allocator takes 128 MB of addresses, used or not.
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, str(ROOT / "tests" / "openers.py"), str(self.scratch)]
        with (self.scratch / "errors.txt").open("w") as errors:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        assert process.stdout
        if process.stdout.readline() != "ready\n":
            raise RuntimeError((self.scratch / "errors.txt").read_text(errors="replace")[-6000:])
        return process

    def attempt(self, opener: str, folder: Path) -> str:
        """What the opener made of a folder."""
        self.process = process = self.process or self.start()
        assert process.stdin
        assert process.stdout
        print(json.dumps([opener, str(folder)]), file=process.stdin, flush=True)
        answered, _, _ = select.select([process.stdout], [], [], PATIENCE)
        answer = process.stdout.readline() if answered else ""
        if answer:
            return json.loads(answer)
        self.stop()
        said = (self.scratch / "errors.txt").read_text(errors="replace")[-3000:]
        return f"the process gave no answer and ended with {process.returncode}: {said}"

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    child = Child(tmp_path_factory.mktemp("openers"))
    child.process = child.start()
    yield child
    child.stop()


@pytest.mark.parametrize("times", [1, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("opener", EXAMPLES)
def test_a_damaged_file_is_opened_or_refused_in_one_line(opener: str, times: int, child: Child) -> None:
    original, folder = child.scratch / "original" / opener, child.scratch / "example"
    names = sorted(path.relative_to(original).as_posix() for path in original.rglob("*") if path.is_file())
    entries = sorted(child.scratch.iterdir())

    # The same examples every time but for the long run, which looks for new ones.
    @settings(
        max_examples=EXAMPLES[opener] * times,
        derandomize=times == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(names))
        damaged = draw_damage(data.draw, name, (original / name).read_bytes())
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(original, folder)
        (folder / name).write_bytes(damaged)
        found = child.attempt(opener, folder)
        note(f"{name}: {damaged[:4000]!r}")
        assert found in ("opened", "refused"), found
        assert sorted(child.scratch.iterdir()) == entries

    check()
