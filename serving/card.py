"""card.json as a typed, validated record: the one contract between the zoo, which writes it, and every server.

A card stands beside the files it describes. Reading one checks everything that can be checked without opening those
files; `verify_files` then compares the files with it, byte for byte.
"""

import hashlib
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec

FORMAT = 1
FREE_DIMENSIONS = ("batch", "height", "width")

DType = Literal["float16", "float32", "float64", "int32", "int64", "uint8", "bool"]
Feed = Literal["normal", "uniform", "label", "image", "noise_map", "style", "code", "state", "truncation"]
Kind = Literal["image", "reconstruction", "code", "style", "state", "score", "log_prob", "logits", "label"]
Support = Literal["binary", "levels", "real"]
Range = tuple[float, float]

DRAWN_FEEDS = ("normal", "uniform", "noise_map", "label")
"""The feeds that `serving.sampling.noise.draw` makes from a seed, a row at a time; every other one is handed in."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FLOATS = ("float16", "float32", "float64")
_INTEGERS = ("int32", "int64")


class CardError(ValueError):
    """A card, or a file it lists, is missing or is not what it should be."""


class FileMismatchError(CardError):
    """The file at `path` is not the one its card describes."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Name, dtype and shape of a tensor; a free dimension is its name, as in ("batch", 100)."""

    name: str
    dtype: DType
    shape: tuple[int | str, ...]

    @property
    def row(self) -> tuple[int, ...]:
        """The shape of one row of a batch, a free size as 0."""
        return tuple(0 if isinstance(size, str) else size for size in self.shape[1:])


class Input(TensorSpec, frozen=True):
    """One input of an ability.

    feed: what goes in. normal and noise_map: standard normal numbers; uniform: numbers in `range`, (-1, 1) by default;
        label: the number of a class; truncation: a factor, 1.0 for none; the others come from the caller.
    range: (low, high) of the values, where they have one.
    classes: the names of the classes, by number, for a label.
    """

    feed: Feed
    range: Range | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_tensor(self, self.range)
        if self.feed in (*DRAWN_FEEDS, "truncation"):
            dtypes = _INTEGERS if self.feed == "label" else _FLOATS
            _require(self.dtype in dtypes, f"input {self.name!r}: a {self.feed} is one of {dtypes}, not {self.dtype}")
            free = [size for size in self.shape if isinstance(size, str)]
            rows = self.shape[:1] == ("batch",) and free == ["batch"]
            fixed = self.feed == "truncation" and not free
            _require(rows or fixed, f"input {self.name!r}: a {self.feed} has the shape ('batch', sizes ...)")
        _require(self.feed == "label" or not self.classes, f"input {self.name!r}: only a label has classes")
        _require(len(set(self.classes)) == len(self.classes), f"input {self.name!r}: two classes of one name")


class Output(TensorSpec, frozen=True):
    """One output of an ability.

    kind: what it is.
    range: (low, high) of the values, where they have one.
    layout: the order of an image's axes.
    support: of a log_prob, what its likelihood is of. binary: black and white pixels; levels: the 256 levels of 8 bits,
        so that bits per dimension exist; real: real numbers, so that it is a density. None where nothing is known.
    """

    kind: Kind
    range: Range | None = None
    layout: Literal["NHWC"] | None = None
    support: Support | None = None

    def __post_init__(self) -> None:
        _check_tensor(self, self.range)
        if self.kind == "image":
            _require(self.range is not None, f"output {self.name!r}: an image names its range, such as [-1, 1]")
            _require(self.layout == "NHWC", f"output {self.name!r}: an image has the layout NHWC")
            shaped = len(self.shape) == 4 and self.shape[0] == "batch" and self.shape[3] in (1, 3, 4)
            _require(shaped, f"output {self.name!r}: an image is (batch, height, width, 1, 3 or 4), not {self.shape}")
        supported = self.kind == "log_prob" or self.support is None
        _require(supported, f"output {self.name!r}: only a log_prob has a support")


class Ability(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing a model can do, such as generate or encode; `file` is its ONNX graph, None where it has none."""

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    file: str | None = None

    def __post_init__(self) -> None:
        for what, specs in (("input", self.inputs), ("output", self.outputs)):
            names = [spec.name for spec in specs]
            _require(len(set(names)) == len(names), f"two {what}s of one name in {names}")
        _require(bool(self.outputs), "an ability has at least one output")


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file must be: sha256 as 64 lower-case hex digits, size in bytes."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        _require(_SHA256.fullmatch(self.sha256) is not None, f"sha256 {self.sha256!r}: write 64 hex digits, lower case")
        _require(self.size >= 0, f"size {self.size}: a file has 0 bytes or more")


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A measured number, its standard deviation where known, and the protocol that gave it."""

    metric: str
    value: float
    std: float | None = None
    protocol: dict[str, Any] = {}


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model was trained on: data set, split, number of examples, license, and where it comes from."""

    name: str
    split: str
    count: int
    license: str
    source: str


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything another program needs to run a model, and everything a reader needs to judge it.

    model: {"class": dotted name, "arguments": constructor arguments}. recipe: name, steps, batch_size, seed ...
    files: by path below the card's directory, with forward slashes. versions: of the libraries that wrote the files.
    """

    name: str
    family: str
    paper: str
    license: str
    summary: str
    data: Data
    model: dict[str, Any]
    recipe: dict[str, Any]
    abilities: dict[str, Ability]
    default_ability: str
    files: dict[str, File]
    scores: tuple[Score, ...] = ()
    versions: dict[str, str] = {}
    format: int = FORMAT

    def __post_init__(self) -> None:
        _require(_NAME.fullmatch(self.name) is not None, f"name {self.name!r}: write a-z, 0-9 and -, as in 'gan-mnist'")
        _require(self.format == FORMAT, f"format {self.format}: this program reads and writes {FORMAT}")
        _require(set(self.model) == {"class", "arguments"}, f"model has {sorted(self.model)}: give class and arguments")
        for path in self.files:
            # No "..", no drive, no absolute path: a card that came from elsewhere must not point outside its directory.
            _require(
                _FILE.fullmatch(path) is not None, f"file name {path!r}: write a plain path such as 'generate.onnx'"
            )
        good = sorted(self.abilities)
        _require(self.default_ability in good, f"default_ability {self.default_ability!r}: choose from {good}")
        for name, ability in self.abilities.items():
            listed = ability.file is None or ability.file in self.files
            _require(listed, f"ability {name!r}: {ability.file!r} is not among the files {sorted(self.files)}")


class _Header(msgspec.Struct):
    """The one field that says whether the others can be understood."""

    format: int = FORMAT


def read_card(path: str | Path) -> Card:
    """Read and check a card, given its directory or itself; CardError names the file, the field and the reason."""
    path = Path(path)
    path = path / "card.json" if path.is_dir() else path
    try:
        text = path.read_bytes()
    except OSError as error:
        raise CardError(f"{path}: no card to read ({error.strerror})") from error
    try:
        return _decode(text)
    except ValueError as error:
        raise CardError(f"{path}: {error}") from error


def is_model_name(name: str) -> bool:
    """Whether a card may call its model so: a-z, 0-9 and -, which folders and addresses take as they are."""
    return _NAME.fullmatch(name) is not None


def encode_card(card: Card) -> bytes:
    """The card as indented JSON, the same bytes for the same card; refuses a card that `read_card` would refuse."""
    try:
        text = msgspec.json.format(msgspec.json.encode(card, order="deterministic"), indent=2) + b"\n"
        _decode(text)
    except (TypeError, ValueError) as error:
        raise CardError(f"card {card.name!r}: {error}") from error
    return text


def verify_files(directory: str | Path, card: Card, names: Iterable[str] | None = None) -> None:
    """Compare size and sha256 of the named files, of all by default, with the card; FileMismatchError at the first."""
    for name in card.files if names is None else names:
        if name not in card.files:
            raise CardError(f"{name!r} is not a file of {card.name!r}: it has {sorted(card.files)}")
        path, expected = Path(directory) / name, card.files[name]
        if not path.is_file():
            raise FileMismatchError(path, f"missing; the card lists it with {expected.size} bytes")
        if (size := path.stat().st_size) != expected.size:
            kind = "truncated" if size < expected.size else "another file"
            raise FileMismatchError(path, f"{kind}: expected {expected.size} bytes, found {size}")
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 != expected.sha256:
            raise FileMismatchError(path, f"changed: expected sha256 {expected.sha256}, found {sha256}")


def _decode(text: bytes) -> Card:
    found = msgspec.json.decode(text, type=_Header).format
    if found > FORMAT:
        raise CardError(f"format {found} is newer than {FORMAT}, the newest this program reads: update generative-zoo")
    return msgspec.json.decode(text, type=Card)


def _check_tensor(spec: TensorSpec, values: Range | None) -> None:
    for size in spec.shape:
        good = size in FREE_DIMENSIONS if isinstance(size, str) else size >= 1
        _require(good, f"{spec.name!r} has a dimension {size!r}: write a size from 1 or one of {FREE_DIMENSIONS}")
    if values is not None:
        good = all(math.isfinite(value) for value in values) and values[0] < values[1]
        _require(good, f"{spec.name!r} has the range {values}: write [low, high]")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise CardError(message)
