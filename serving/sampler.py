"""Seeds -> latents -> images: the one sampling code behind Keras, SavedModel and ONNX.

The noise of image i of seed s depends on (s, i) alone: not on how many are drawn, in what batches, or from which one
on. The picture does too, up to the rounding of the program that runs the graph.
"""

import hashlib
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from PIL import Image

from serving.card import DRAWN_FEEDS, Ability, Input, Output, Range
from serving.session import InputError

Run = Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]
Labels = int | str | Sequence[int | str] | np.ndarray
OutputType = Literal["uint8", "float32", "pil"]

OUTPUT_TYPES = ("uint8", "float32", "pil")
UNIFORM_RANGE = (-1.0, 1.0)

_DRAWS: dict[str, Callable[[np.random.Generator, Input], Any]] = {
    "normal": lambda random, spec: random.standard_normal(spec.row),
    "noise_map": lambda random, spec: random.standard_normal(spec.row),
    "uniform": lambda random, spec: random.uniform(*(spec.range or UNIFORM_RANGE), spec.row),
    "label": lambda random, spec: random.integers(len(spec.classes), size=spec.row),
}


def draw(input: Input, indices: Sequence[int] | range, seed: int) -> np.ndarray:
    """The sampling noise of some images: (len(indices), *input.shape[1:]) in the input's dtype.

    Row i of seed s comes from NumPy's `Philox(key=[s, i], counter=[0, 0, 0, h])`, with h the first eight bytes of
    sha256(input.name), little-endian. So it depends on s, i and the input's name alone, and the inputs of one ability
    read parts of one sequence that lie 2**192 blocks or more apart. Numbers are drawn in float64, then rounded. NumPy
    may one day turn the same bits into other normal numbers (NEP 19): a test holds today's.

    Args:
        input: one of the feeds in `DRAWN_FEEDS`. normal and noise_map: N(0, 1); uniform: its range, (-1, 1) by
            default; label: each class equally likely.
        indices: the images' numbers, each 0 <= i < 2**64.
        seed: 0 <= seed < 2**64.
    """
    if input.feed not in DRAWN_FEEDS:
        raise InputError(
            f"input {input.name!r} takes {input.feed!r}, which no seed gives: only {DRAWN_FEEDS} are drawn"
        )
    if input.feed == "label" and not input.classes:
        raise InputError(f"input {input.name!r}: the card names no classes to draw from: give labels")
    seed = _integer("seed", seed)
    stream = int.from_bytes(hashlib.sha256(input.name.encode()).digest()[:8], "little")
    counter = np.array([0, 0, 0, stream], np.uint64)
    rows = np.empty((len(indices), *input.row), input.dtype)
    for row, index in enumerate(indices):
        key = np.array([seed, _integer("index", index)], np.uint64)
        rows[row] = _DRAWS[input.feed](np.random.Generator(np.random.Philox(key=key, counter=counter)), input)
    return rows


class Sampler:
    """Draws what an ability's inputs need from a seed, runs it in batches, and returns its pictures."""

    def __init__(self, ability: Ability, run: Run, *, batch_size: int = 64) -> None:
        """`run` maps every input's array by name to every output's; at most `batch_size` rows go in at once."""
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: give 1 or more")
        self.ability, self.batch_size, self.run = ability, batch_size, run

    def sample(
        self,
        count: int,
        seed: int = 0,
        *,
        start: int = 0,
        labels: Labels | None = None,
        truncation: float | None = None,
        output_type: OutputType = "uint8",
    ) -> np.ndarray | list[Image.Image]:
        """Images start ... start + count - 1 of a seed.

        Args:
            count: how many, from 0.
            seed: 0 <= seed < 2**64; two seeds share no latents.
            start: the number of the first image, so that a long run can be split.
            labels: for an ability with a label input, one class (number or name) for all or one for each image;
                drawn from the seed when not given.
            truncation: for an ability with a truncation input; 1.0 when not given.
            output_type: "uint8": (count, height, width, channels) in 0..255; "float32": the same in the range that the
                card gives; "pil": a list of Pillow images.

        Raises:
            InputError: an argument is out of its range, or the ability has no image or needs more than a seed.
        """
        count, seed, start = _integer("count", count), _integer("seed", seed), _integer("start", start)
        if output_type not in OUTPUT_TYPES:
            raise InputError(f"output_type={output_type!r}: choose from {OUTPUT_TYPES}")
        output, given = self.image, self._given(count, labels, truncation)
        assert output.range is not None  # the card holds this for an image
        batches = [np.empty((0, *output.row), np.float32 if output_type == "float32" else np.uint8)]
        for first in range(0, count, self.batch_size):
            rows = range(first, min(first + self.batch_size, count))
            feeds = {spec.name: self._feed(spec, rows, start, seed, given) for spec in self.ability.inputs}
            raw = np.asarray(self.run(feeds)[output.name])
            batches.append(raw.astype(np.float32) if output_type == "float32" else to_uint8(raw, output.range))
        images = np.concatenate(batches[1:] or batches)
        return to_pil(images) if output_type == "pil" else images

    @property
    def image(self) -> Output:
        """The output that `sample` returns: the ability's first image."""
        for output in self.ability.outputs:
            if output.kind == "image":
                return output
        raise InputError(
            f"this ability makes no image, only {[output.kind for output in self.ability.outputs]}: run it"
        )

    def _given(self, count: int, labels: Labels | None, truncation: float | None) -> dict[str, np.ndarray]:
        """The inputs that are not drawn, `count` rows each: labels that were handed in, and truncation."""
        given = {}
        feeds = [spec.feed for spec in self.ability.inputs]
        for name, feed, value in (("labels", "label", labels), ("truncation", "truncation", truncation)):
            if value is not None and feed not in feeds:
                raise InputError(f"{name} given, but no input of this ability takes a {feed}: it takes {feeds}")
        for spec in self.ability.inputs:
            if spec.feed == "label" and labels is not None:
                given[spec.name] = _label_rows(spec, count, labels)
            elif spec.feed == "truncation":
                given[spec.name] = np.full(count, 1.0 if truncation is None else truncation, spec.dtype)
            elif spec.feed not in DRAWN_FEEDS:
                raise InputError(
                    f"input {spec.name!r} takes {spec.feed!r}, which no seed gives: run the ability instead"
                )
        return given

    def _feed(self, spec: Input, rows: range, start: int, seed: int, given: Mapping[str, np.ndarray]) -> np.ndarray:
        if spec.name not in given:
            return draw(spec, range(start + rows.start, start + rows.stop), seed)
        values = given[spec.name][rows.start : rows.stop]
        if spec.shape[:1] != ("batch",):  # one factor for the whole batch
            return np.full([size for size in spec.shape if isinstance(size, int)], values[0], spec.dtype)
        return np.broadcast_to(values.reshape(-1, *[1] * len(spec.row)), (len(rows), *spec.row)).copy()


def to_uint8(images: np.ndarray, range: Range) -> np.ndarray:
    """Map `range` to 0..255 and round to the nearest grey level, half to even; values outside the range are clipped."""
    low, high = range
    if np.isnan(images).any():
        raise ValueError("the images hold NaN: the model or its weights are broken")
    levels = (np.asarray(images, np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def save_grid(images: np.ndarray, file: str | Path | IO[bytes], columns: int | None = None) -> None:
    """Write uint8 (batch, height, width, channels) as one picture file, laid out by `grid`; PNG into an open file."""
    format = None if isinstance(file, (str, Path)) else "png"
    to_pil(grid(images, columns)[None])[0].save(file, format, optimize=True)


def to_pil(images: np.ndarray) -> list[Image.Image]:
    """uint8 (batch, height, width, channels) -> Pillow images: 1 channel L, 3 RGB, 4 RGBA."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3, 4):
        raise ValueError(f"expected uint8 (batch, height, width, 1, 3 or 4), found {images.dtype} {images.shape}")
    return [Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image) for image in images]


def grid(images: np.ndarray, columns: int | None = None, padding: int = 2) -> np.ndarray:
    """A sheet of pictures, row by row, on black with `padding` pixels around each; as square as can be by default.

    images: uint8 (batch, height, width, channels), at least one. Returns uint8 (height, width, channels).
    """
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise ValueError(f"expected uint8 (1 or more, height, width, channels), found {images.dtype} {images.shape}")
    count, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(count)) if columns is None else columns
    if columns < 1 or padding < 0:
        raise ValueError(f"columns={columns}, padding={padding}: give columns from 1 and padding from 0")
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, height + padding, width + padding, channels), np.uint8)
    cells[:count, padding:, padding:] = images
    sheet = cells.reshape(rows, columns, height + padding, width + padding, channels).swapaxes(1, 2)
    sheet = sheet.reshape(rows * (height + padding), columns * (width + padding), channels)
    return np.pad(sheet, ((0, padding), (0, padding), (0, 0)))


def _label_rows(spec: Input, count: int, labels: Any) -> np.ndarray:
    values = list(labels) if np.ndim(labels) else [labels] * count
    if len(values) != count:
        raise InputError(f"{len(values)} labels for {count} images: give one for all or one for each")
    return np.array([_label(spec, value) for value in values], spec.dtype).reshape(count)


def _label(spec: Input, value: int | str) -> int:
    names = f"choose from {list(spec.classes)} or their numbers" if spec.classes else "give its number"
    if isinstance(value, str):
        if value not in spec.classes:
            raise InputError(f"label {value!r}: no such class: {names}")
        return spec.classes.index(value)
    number = _integer("label", value)
    last = len(spec.classes) - 1 if spec.classes else np.iinfo(spec.dtype).max
    if number > last:
        raise InputError(f"label {number}: the classes are 0 to {last}: {names}")
    return number


def _integer(name: str, value: Any) -> int:
    """`value` as a Python integer in [0, 2**64), the range of Philox' words; InputError otherwise."""
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name}={value!r}: give an integer") from None
    if not 0 <= number < 2**64:
        raise InputError(f"{name}={number}: give 0 <= {name} < 2**64")
    return number


def run_in_batches(
    run: Run, specs: Sequence[Input], feeds: Mapping[str, np.ndarray], batch_size: int
) -> dict[str, np.ndarray]:
    """Every output by name, (rows, ...), of a graph that is given at most `batch_size` rows at a time.

    Args:
        run: arrays by input name -> arrays by output name.
        specs: the inputs; one whose first size is fixed, such as a truncation's 1, is the same for all rows.
        feeds: arrays that fit them.
        batch_size: at least 1; InputError otherwise.
    """
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: give 1 or more")
    free = {spec.name for spec in specs if isinstance(spec.shape[0], str)}
    count = max(len(feeds[name]) for name in free)
    parts = [
        run({name: array[first : first + batch_size] if name in free else array for name, array in feeds.items()})
        for first in range(0, max(count, 1), batch_size)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
