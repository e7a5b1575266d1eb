"""Seeds -> latents -> images: the one sampling code behind Keras, SavedModel and ONNX.

The noise of image i of seed s depends on (s, i) alone: not on how many are drawn, in what batches, or from which one
on. The image does too, up to the rounding of the program that runs the graph.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from PIL import Image

from serving.card import DRAWN_FEEDS, Ability, Input, Output
from serving.images import to_pil, to_uint8
from serving.sampling.iteration import choose_steps, run_steps
from serving.sampling.noise import draw, to_uint64
from serving.session import InputError

Run = Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]
Labels = int | str | Sequence[int | str] | np.ndarray
OutputType = Literal["uint8", "float32", "pil"]
OUTPUT_TYPES = ("uint8", "float32", "pil")


class Sampler:
    """Draws what an ability's inputs need from a seed, runs it in batches, and returns its images."""

    def __init__(self, ability: Ability, run: Run, *, batch_size: int = 64) -> None:
        """Nothing is run yet.

        Args:
            ability: its inputs say what is drawn, its outputs which one is the image.
            run: arrays by input name -> arrays by output name.
            batch_size: the most rows of one run, which bounds its memory.

        Raises:
            ValueError: `batch_size` is less than 1.
        """
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
        steps: int | None = None,
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
            steps: for an ability that is a step of a Markov chain, how many of them; as its card says when not given.
            output_type: one of "uint8", (count, height, width, channels) in 0..255; "float32", the same in the range
                that the card gives; "pil", a list of Pillow images.

        Raises:
            InputError: an argument is out of its range, or the ability has no image or needs more than a seed.
        """
        count, seed, start = to_uint64("count", count), to_uint64("seed", seed), to_uint64("start", start)
        if output_type not in OUTPUT_TYPES:
            raise InputError(f"output_type={output_type!r}: choose from {OUTPUT_TYPES}")
        output, given = self.image, self._collect_given(count, labels, truncation)
        steps = choose_steps(self.ability, steps)
        assert output.range is not None  # the card holds this for an image
        dtype = np.float32 if output_type == "float32" else np.uint8
        images = np.empty((0, *output.row), dtype)
        for first in range(0, count, self.batch_size):
            rows = range(first, min(first + self.batch_size, count))
            make_feeds = partial(self._make_feeds, rows, start, seed, given)
            raw = np.asarray(run_steps(self.ability, self.run, len(rows), steps, make_feeds)[output.name])
            if len(raw) != len(rows):  # of a graph that no input tells how many
                raise InputError(f"this ability makes {len(raw)} images where {len(rows)} are asked for: run it")
            if not first:  # room for all of them before the second batch: where there is none, that is said at once
                images = np.empty((count, *raw.shape[1:]), dtype)
            images[rows.start : rows.stop] = raw if output_type == "float32" else to_uint8(raw, output.range)
        return to_pil(images) if output_type == "pil" else images

    def make_feeds(
        self,
        count: int,
        seed: int = 0,
        *,
        start: int = 0,
        labels: Labels | None = None,
        truncation: float | None = None,
    ) -> dict[str, np.ndarray]:
        """What the ability takes for images start ... start + count - 1 of a seed, by input name; `count` rows each.

        Args:
            count, seed, start, labels, truncation: as of `sample`.

        Raises:
            InputError: an argument is out of its range, or the ability needs more than a seed.
        """
        count, seed, start = to_uint64("count", count), to_uint64("seed", seed), to_uint64("start", start)
        return self._make_feeds(range(count), start, seed, self._collect_given(count, labels, truncation), step=0)

    @property
    def image(self) -> Output:
        """The output that `sample` returns: the ability's first image.

        Raises:
            InputError: the ability makes no image.
        """
        for output in self.ability.outputs:
            if output.kind == "image":
                return output
        raise InputError(
            f"this ability makes no image, only {[output.kind for output in self.ability.outputs]}: run it"
        )

    def _collect_given(self, count: int, labels: Labels | None, truncation: float | None) -> dict[str, np.ndarray]:
        """The inputs that are not drawn, `count` rows each: labels that were handed in, and truncation."""
        given = {}
        feeds = [spec.feed for spec in self.ability.inputs]
        for name, feed, value in (("labels", "label", labels), ("truncation", "truncation", truncation)):
            if value is not None and feed not in feeds:
                raise InputError(f"{name} given, but no input of this ability takes a {feed}: it takes {feeds}")
        for spec in self.ability.inputs:
            if spec.feed == "label" and labels is not None:
                given[spec.name] = make_label_rows(spec, count, labels)
            elif spec.feed == "truncation":
                given[spec.name] = np.full(count, _check_truncation(spec, truncation), spec.dtype)
            elif spec.feed not in DRAWN_FEEDS and not (spec.feed == "state" and self.ability.iteration):
                raise InputError(
                    f"input {spec.name!r} takes {spec.feed!r}, which no seed gives: run the ability instead"
                )
        return given

    def _make_feeds(
        self, rows: range, start: int, seed: int, given: Mapping[str, np.ndarray], step: int
    ) -> dict[str, np.ndarray]:
        """All inputs of a step but the states."""
        indices = range(start + rows.start, start + rows.stop)
        feeds = {}
        for spec in self.ability.inputs:
            if spec.name in given:
                feeds[spec.name] = self._cut_given(spec, rows, given)
            elif spec.feed != "state":
                feeds[spec.name] = draw(spec, indices, seed, 0 if spec.feed == "label" else step)
        return feeds

    def _cut_given(self, spec: Input, rows: range, given: Mapping[str, np.ndarray]) -> np.ndarray:
        values = given[spec.name][rows.start : rows.stop]
        if spec.shape[:1] != ("batch",):  # one factor for the whole batch
            return np.full([size for size in spec.shape if isinstance(size, int)], values[0], spec.dtype)
        return np.broadcast_to(values.reshape(-1, *[1] * len(spec.row)), (len(rows), *spec.row)).copy()


def _check_truncation(spec: Input, value: Any) -> float:
    """1.0 when None; InputError for what is no finite number of the input's dtype."""
    try:
        number = 1.0 if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"truncation={value!r}: give a number") from None
    if not abs(number) <= float(np.finfo(spec.dtype).max):
        raise InputError(f"truncation={number}: give a finite number of {spec.dtype}")
    return number


def make_label_rows(spec: Input, count: int, labels: Any) -> np.ndarray:
    """Classes as numbers, (count,), in the input's type.

    Args:
        spec: a label input.
        count: how many.
        labels: one class (number or name) for all, or one for each.

    Raises:
        InputError: another number of them, or no such class.
    """
    values = [labels] * count if isinstance(labels, str) or not np.iterable(labels) else list(labels)
    if len(values) != count:
        raise InputError(f"{len(values)} labels for {count} images: give one for all or one for each")
    return np.array([_find_class(spec, value) for value in values], spec.dtype).reshape(count)


def _find_class(spec: Input, value: int | str) -> int:
    names = f"choose from {list(spec.classes)} or their numbers" if spec.classes else "give its number"
    if isinstance(value, str):
        if value not in spec.classes:
            raise InputError(f"label {value!r}: no such class: {names}")
        return spec.classes.index(value)
    number = to_uint64("label", value)
    last = len(spec.classes) - 1 if spec.classes else np.iinfo(spec.dtype).max
    if number > last:
        raise InputError(f"label {number}: the classes are 0 to {last}: {names}")
    return number


def run_in_batches(
    run: Run, specs: Sequence[Input], feeds: Mapping[str, np.ndarray], batch_size: int
) -> dict[str, np.ndarray]:
    """Every output by name, (rows, ...), of a graph that is given at most `batch_size` rows at a time.

    Args:
        run: arrays by input name -> arrays by output name.
        specs: the inputs; one whose first size is fixed, such as a truncation's 1, is the same for all rows.
        feeds: arrays that fit them.
        batch_size: the most rows at a time.

    Raises:
        InputError: `batch_size` is less than 1.
    """
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: give 1 or more")
    free = {spec.name for spec in specs if spec.shape and isinstance(spec.shape[0], str)}
    count = max((len(feeds[name]) for name in free), default=0)
    # Without rows the graph still runs once: its empty outputs have the right shapes.
    parts = [
        run({name: array[first : first + batch_size] if name in free else array for name, array in feeds.items()})
        for first in range(0, max(count, 1), batch_size)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts[1:] else dict(parts[0])
