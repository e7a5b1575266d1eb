"""card.json as a typed, validated record: the one contract between the zoo, which writes it, and every server.

A card stands beside the files it describes. Reading one checks everything that can be checked without opening those
files; `verify_files` then compares the files with it, byte for byte. Whoever wrote them, neither reads more than they
should hold, nor anything outside their directory.
"""

import errno
import hashlib
import json
import math
import re
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

FORMAT = 2  # 2 says what the formats were checked under
FREE_DIMENSIONS = ("batch", "height", "width")

DType = Literal["float16", "float32", "float64", "int32", "int64", "uint8", "bool"]
Feed = Literal["normal", "uniform", "label", "image", "noise_map", "style", "code", "state", "truncation"]
Kind = Literal["image", "reconstruction", "code", "style", "state", "score", "log_prob", "logits", "label"]
Support = Literal["binary", "levels", "real"]
IterationKind = Literal["autoregressive", "gibbs"]
Range = tuple[float, float]

DRAWN_FEEDS = ("normal", "uniform", "noise_map", "label")
"""The feeds that `serving.sampling.noise.draw` makes from a seed, a row at a time; every other one is handed in."""

SAMPLING_ABILITIES = ("generate", "step")

CARD_LIMIT = 2**20  # bytes of a card; those of the zoo have about 30,000
VALUES_LIMIT = 2**24  # values of a tensor with free sizes of 1: an image of 2,048 x 2,048 x 4
RANK_LIMIT = 8
DEPTH_LIMIT = 16  # lists and mappings in one another, in the fields that hold any plain data
LINE_LIMIT = 1000  # characters of a message
QUOTE_LIMIT = 300  # of what a library says, within one

_MULTIPLE = re.compile(r"([2-9]|[1-9][0-9])\*(height|width)")
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
    """Name, dtype and shape of a tensor; a free dimension is its name, as in ("batch", 100).

    An output's may be a multiple of one of the inputs', as in ("batch", "4*height", "4*width", 3).
    """

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
        multiples = [size for size in self.shape if split_size(size)[0] > 1]
        _require(not multiples, f"input {self.name!r} has the dimensions {multiples}: only an output's are multiples")
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
    estimator: of a log_prob that is an estimate or rests on one, by what, such as "AIS of 100 chains".
    """

    kind: Kind
    range: Range | None = None
    layout: Literal["NHWC"] | None = None
    support: Support | None = None
    estimator: str = ""

    def __post_init__(self) -> None:
        _check_tensor(self, self.range)
        if self.kind == "image":
            _require(self.range is not None, f"output {self.name!r}: an image names its range, such as [-1, 1]")
            _require(self.layout == "NHWC", f"output {self.name!r}: an image has the layout NHWC")
            shaped = len(self.shape) == 4 and self.shape[0] == "batch" and self.shape[3] in (1, 3, 4)
            _require(shaped, f"output {self.name!r}: an image is (batch, height, width, 1, 3 or 4), not {self.shape}")
            factors = {split_size(size)[0] for size in self.shape[1:3]}
            _require(len(factors) == 1, f"output {self.name!r}: both sides of an image are scaled alike: {self.shape}")
        supported = self.kind == "log_prob" or (self.support is None and not self.estimator)
        _require(supported, f"output {self.name!r}: only a log_prob has a support or an estimator")


class Iteration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an ability is repeated to draw samples: its graph is one step, and no sample by itself.

    The states are zeros before the first step; each step takes, in place of a state, the output that the step before
    gave for it. Inputs that take uniform or normal numbers get new ones in each step. The sample is the last step's.

    kind: autoregressive: so many steps complete a sample, no less and no more. gibbs: steps of a Markov chain, of which
        more come nearer to its distribution.
    count: steps of a sample.
    states: input -> the output that it takes in the next step.
    """

    kind: IterationKind
    count: int
    states: dict[str, str]

    def __post_init__(self) -> None:
        _require(1 <= self.count < 2**31, f"iteration: {self.count} steps: write 1 or more, and less than 2**31")


class Ability(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing a model can do, such as generate or encode.

    file: its ONNX graph, None where it has none.
    iteration: how it is repeated to draw samples, where it is a step of a sampler.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    file: str | None = None
    iteration: Iteration | msgspec.UnsetType = msgspec.UNSET  # left out of JSON: older cards stay as they are

    def __post_init__(self) -> None:
        for what, specs in (("input", self.inputs), ("output", self.outputs)):
            names = [spec.name for spec in specs]
            _require(len(set(names)) == len(names), f"two {what}s of one name in {names}")
        _require(bool(self.outputs), "an ability has at least one output")
        free = {size for spec in self.inputs for size in spec.shape if isinstance(size, str)}
        for spec in self.outputs:
            for size in spec.shape:
                factor, name = split_size(size)
                known = factor == 1 or name in free
                _require(known, f"output {spec.name!r} has a dimension {size!r}, and no input has {name!r}")
        if self.iteration is not msgspec.UNSET:
            self._check_states(self.iteration.states)

    def _check_states(self, states: Mapping[str, str]) -> None:
        fed = sorted(spec.name for spec in self.inputs if spec.feed == "state")
        _require(sorted(states) == fed, f"iteration: its states are {sorted(states)}, the inputs that take one {fed}")
        inputs = {spec.name: spec for spec in self.inputs}
        outputs = {spec.name: spec for spec in self.outputs}
        for name, source in states.items():
            fits = source in outputs and (outputs[source].dtype, outputs[source].shape) == (
                inputs[name].dtype,
                inputs[name].shape,
            )
            _require(fits, f"iteration: the state {name!r} can't take the output {source!r}: none, or of another form")
            free = [size for size in inputs[name].shape if isinstance(size, str)]
            rows = inputs[name].shape[:1] == ("batch",) and free == ["batch"]
            _require(rows, f"iteration: the state {name!r} has the shape ('batch', sizes ...)")

    @property
    def scale(self) -> int:
        """How many times as high and wide as the image that goes in the one is that comes out; 1 for the same size."""
        return max((split_size(spec.shape[1])[0] for spec in self.outputs if spec.kind == "image"), default=1)


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file must be: sha256 as 64 lower-case hex digits, size in bytes."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        _require(_SHA256.fullmatch(self.sha256) is not None, f"sha256 {self.sha256!r}: write 64 hex digits, lower case")
        _require(0 <= self.size < 2**63, f"size {self.size}: a file has 0 bytes or more, and less than 2**63")


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A measured number, its standard deviation where known, and the protocol that gave it."""

    metric: str
    value: float
    std: float | None = None
    protocol: dict[str, Any] = {}

    def __post_init__(self) -> None:
        _check_plain(f"the standard deviation of {self.metric!r}", self.std)
        _check_plain(f"the protocol of {self.metric!r}", self.protocol)


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model was trained on: data set, split, number of examples, license, and where it comes from."""

    name: str
    split: str
    count: int
    license: str
    source: str

    def __post_init__(self) -> None:
        _require(0 <= self.count < 2**63, f"count {self.count}: data has 0 examples or more, and less than 2**63")


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything another program needs to run a model, and everything a reader needs to judge it.

    model: {"class": dotted name, "arguments": constructor arguments}. recipe: name, steps, batch_size, seed ...
    files: by path below the card's directory, with forward slashes. versions: of the libraries that wrote the files.
    checked: `hash_checked` of the card when it was first written, which was after its formats had been found to agree.
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
    checked: str = ""
    scores: tuple[Score, ...] = ()
    versions: dict[str, str] = {}
    format: int = FORMAT

    def __post_init__(self) -> None:
        _require(_NAME.fullmatch(self.name) is not None, f"name {self.name!r}: write a-z, 0-9 and -, as in 'gan-mnist'")
        _require(self.format == FORMAT, f"format {self.format}: this program reads and writes {FORMAT}")
        _require(set(self.model) == {"class", "arguments"}, f"model has {sorted(self.model)}: give class and arguments")
        named = isinstance(self.model["class"], str) and isinstance(self.model["arguments"], dict)
        _require(named, "model: its class is a name, its arguments are a mapping")
        _check_plain("model", self.model)
        _check_plain("recipe", self.recipe)
        for path in self.files:
            # No "..", no drive, no absolute path: a card that came from elsewhere must not point outside its directory.
            _require(
                _FILE.fullmatch(path) is not None, f"file name {path!r}: write a plain path such as 'generate.onnx'"
            )
            _require(path.lower() != "card.json", "a card can't list itself: take card.json out of its files")
        good = sorted(self.abilities)
        _require(self.default_ability in good, f"default_ability {self.default_ability!r}: choose from {good}")
        for name, ability in self.abilities.items():
            listed = ability.file is None or ability.file in self.files
            _require(listed, f"ability {name!r}: {ability.file!r} is not among the files {sorted(self.files)}")


def find_sampling(abilities: Iterable[str]) -> str | None:
    """The ability that draws images from a seed: "generate", or else "step", which is repeated; None for neither."""
    return next((name for name in SAMPLING_ABILITIES if name in abilities), None)


class _Header(msgspec.Struct):
    """The one field that says whether the others can be understood."""

    format: int = FORMAT


def read_card(path: str | Path) -> Card:
    """Read and check a card, given its directory or itself; CardError names the file, the field and the reason.

    A card whose `checked` does not fit the rest was changed after its formats had been found to agree: it is refused.
    """
    path = Path(path)
    try:
        path = find_file(path, "card.json") if path.is_dir() else path
        text = read_file(path, CARD_LIMIT)
    except OSError as error:
        path = Path(error.filename or path)
        raise CardError(f"{path}: no card to read ({error.strerror})") from error
    try:
        return _decode(text)
    except RecursionError as error:
        raise CardError(f"{path}: lists and mappings nest too deep: {DEPTH_LIMIT} levels are read") from error
    except ValueError as error:
        raise CardError(f"{path}: {to_line(str(error))}") from error


def is_model_name(name: str) -> bool:
    """Whether a card may call its model so: a-z, 0-9 and -, which folders and addresses take as they are."""
    return _NAME.fullmatch(name) is not None


def encode_card(card: Card) -> bytes:
    """The card as indented JSON, the same bytes for the same card; refuses a card that `read_card` would refuse.

    A card that has not been written yet gets its `checked` here: write it when its formats have been found to agree.
    """
    try:
        if not card.checked:
            # Through JSON first: a range of integers, say, is read back as floats.
            plain = msgspec.json.decode(msgspec.json.encode(card), type=Card)
            card = msgspec.structs.replace(card, checked=hash_checked(plain))
        text = msgspec.json.format(msgspec.json.encode(card, order="deterministic"), indent=2) + b"\n"
        _require(len(text) <= CARD_LIMIT, f"{len(text)} bytes: a card has at most {CARD_LIMIT}")
        _decode(text)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise CardError(f"card {card.name!r}: {to_line(str(error))}") from error
    return text


def hash_checked(card: Card) -> str:
    """sha256 of everything on a card that decides how its formats are built, and what they are fed.

    That is class and arguments, the abilities with their feeds, ranges and shapes, the default ability, and the hashes
    of the files: what the formats were found to agree under. Scores, recipe and words can change without them.
    """
    parts = {
        "model": card.model,
        "abilities": card.abilities,
        "default_ability": card.default_ability,
        "files": card.files,
    }
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def verify_files(directory: str | Path, card: Card, names: Iterable[str] | None = None) -> None:
    """Compare size and sha256 of the named files, of all by default, with the card; FileMismatchError at the first.

    Only regular files within the directory are read. A hard link is one like any other (package managers make them):
    its content is compared all the same.
    """
    for name in card.files if names is None else names:
        if name not in card.files:
            listed = to_line(str(sorted(card.files)))
            raise CardError(f"{Path(directory) / 'card.json'} lists no {name!r}: it has {listed}")
        path, expected = Path(directory) / name, card.files[name]
        try:
            size = find_file(Path(directory), name).stat().st_size
            if size != expected.size:
                kind = "truncated" if size < expected.size else "another file"
                raise FileMismatchError(path, f"{kind}: expected {expected.size} bytes, found {size}")
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except (FileNotFoundError, NotADirectoryError):
            raise FileMismatchError(path, f"missing; the card lists it with {expected.size} bytes") from None
        except OSError as error:
            raise FileMismatchError(path, f"can't be read: {error.strerror}") from error
        if sha256 != expected.sha256:
            raise FileMismatchError(path, f"changed: expected sha256 {expected.sha256}, found {sha256}")


def find_file(directory: Path, name: str) -> Path:
    """The path of a regular file within a directory.

    Raises:
        OSError: there is none, it is a device, a pipe or a directory, or a link leads out of the directory.
    """
    path = directory / name
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):  # opening a pipe would wait for a writer, reading a device never end
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if not path.resolve().is_relative_to(directory.resolve()):
        raise OSError(errno.EINVAL, "a link that leads out of the directory: put the file itself there", str(path))
    return path


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: it can't be read, is no regular file, or has more than `limit` bytes.
    """
    try:
        found = path.stat()
    except ValueError as error:  # a zero byte
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if found.st_size > limit:
        raise OSError(errno.EFBIG, f"{found.st_size} bytes, and at most {limit} are read", str(path))
    with path.open("rb") as file:
        return file.read(found.st_size)


def to_line(text: str, limit: int = LINE_LIMIT) -> str:
    """A message as one line that a terminal shows as it is, whatever it quotes, cut after `limit` characters."""
    line = "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in " ".join(text.split()))
    return line if len(line) <= limit else f"{line[:limit]} ..."


def _decode(text: bytes) -> Card:
    found = msgspec.json.decode(text, type=_Header).format
    if found > FORMAT:
        raise CardError(f"format {found} is newer than {FORMAT}, the newest this program reads: update generative-zoo")
    if found == 1:
        raise CardError(
            "format 1 does not say what its formats were checked under: export the model again (the `zoo train` "
            "command of a finished run does only that) or fetch it again"
        )
    card = msgspec.json.decode(text, type=Card)
    json.loads(text, object_pairs_hook=_refuse_duplicates)  # msgspec takes the last of two, other programs the first
    if card.checked != hash_checked(card):
        raise CardError(
            "model, abilities, default_ability or files were changed after the formats had been checked under them: "
            "put back what stood there, or export the model again"
        )
    return card


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    for name, count in Counter(name for name, _ in pairs).items():
        _require(count == 1, f"two fields {name!r} in one object")


def _check_plain(what: str, value: Any, depth: int = 1) -> None:
    """Any plain data that JSON holds, of a depth and with integers that every program can read."""
    if isinstance(value, float):
        _require(math.isfinite(value), f"{what} holds {value}, which JSON has no word for")
    if isinstance(value, int):
        _require(-(2**63) <= value < 2**64, f"{what} holds an integer of more than 64 bits")
    children = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    _require(not children or depth <= DEPTH_LIMIT, f"{what} nests more than {DEPTH_LIMIT} levels deep")
    for child in children:
        _check_plain(what, child, depth + 1)


def check_size(spec: TensorSpec) -> None:
    """Raise CardError for a tensor that no program should allocate; free sizes count 1."""
    _require(len(spec.shape) <= RANK_LIMIT, f"{spec.name!r} has {len(spec.shape)} axes: at most {RANK_LIMIT} are run")
    values = math.prod(size for size in spec.shape if isinstance(size, int))
    _require(values <= VALUES_LIMIT, f"{spec.name!r} has more than {VALUES_LIMIT} values a row: {spec.shape}")


def split_size(size: int | str) -> tuple[int, int | str]:
    """A size of a shape as a factor and what it multiplies: "4*height" as (4, "height"), others as (1, size)."""
    found = _MULTIPLE.fullmatch(size) if isinstance(size, str) else None
    return (int(found[1]), found[2]) if found else (1, size)


def _check_tensor(spec: TensorSpec, values: Range | None) -> None:
    _require(spec.name != "" and spec.name.isprintable(), f"name {spec.name!r}: a tensor has one of printable signs")
    for size in spec.shape:
        good = split_size(size)[1] in FREE_DIMENSIONS if isinstance(size, str) else size >= 1
        _require(good, f"{spec.name!r} has a dimension {size!r}: write a size from 1 or one of {FREE_DIMENSIONS}")
    check_size(spec)
    if values is not None:
        # Far from where numbers of its dtype overflow: values of a range are scaled to others.
        limit = 1e4 if spec.dtype == "float16" else 1e30
        good = all(abs(value) <= limit for value in values) and values[1] - values[0] >= 1 / limit
        _require(good, f"{spec.name!r} has the range {values}: write [low, high]")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise CardError(message)
