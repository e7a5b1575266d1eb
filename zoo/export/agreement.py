"""Whether the exported formats compute what Keras does."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import tensorflow as tf
from msgspec import UNSET

from serving.card import DRAWN_FEEDS, Input, Output
from serving.card import Ability as AbilityCard
from serving.sampling.noise import draw
from serving.session import Session, check_shapes
from zoo.core.ability import Ability
from zoo.export.saved_model import read_saved_model

TOLERANCE = 1e-4  # of the output's range
DECISIONS = 0.999  # of those that a sampler's step draws, the share that must be the same
DECIDED = ("image", "state", "code")  # kinds of a step's outputs that its decisions make
CHECKED_BATCHES = (1, 3)  # two sizes: a graph may have frozen the one that it was traced with
CHECKED_SIDES = ((32, 32), (48, 64), (33, 47))  # where they are free: square, even and odd ones


class ExportError(RuntimeError):
    """The formats do not agree, or one can't be written; no file is left behind."""


def check_agreement(name: str, ability: Ability, directory: Path, formats: Sequence[str]) -> float:
    """The largest difference between Keras and the written formats, as a share of the output's range.

    Args:
        name: of the ability.
        ability: in Keras.
        directory: holds <name>.onnx and saved_model/1/, as far as they are among the formats.
        formats: of `zoo.export.export.FORMATS`.

    Raises:
        ExportError: it is more than `TOLERANCE`, or not a number; or Keras' outputs have not the shapes of the card. Of
            what a step of a sampler decides, one value in a thousand may differ.
        ModelFileError: ONNX Runtime can't open the graph.
    """
    runs = {}
    if "onnx" in formats:
        runs["ONNX"] = Session(directory / f"{name}.onnx", providers=["CPUExecutionProvider"]).run
    if "saved_model" in formats:
        loaded = read_saved_model(directory / "saved_model" / "1")
        signature = loaded.signatures[name]
        runs["SavedModel"] = lambda feeds: {
            key: value.numpy() for key, value in signature(**{k: tf.constant(v) for k, v in feeds.items()}).items()
        }
    card = ability.card()
    worst = 0.0
    for sizes in list_sizes(card):
        feeds = {spec.name: make_example(spec, **sizes) for spec in card.inputs}
        expected = {key: value.numpy() for key, value in ability({k: tf.constant(v) for k, v in feeds.items()}).items()}
        at = ", ".join(f"{key} {size}" for key, size in sizes.items())
        try:
            check_shapes(card.inputs, card.outputs, feeds, expected)
        except ValueError as error:
            raise ExportError(f"{name} at {at}: {error}") from None
        for format_name, run in runs.items():
            found = run(feeds)
            for spec in card.outputs:
                differences = np.abs(found[spec.name] - expected[spec.name]) / measure_span(spec, expected)
                difference = float(differences.max())
                if card.iteration is not UNSET and spec.kind in DECIDED:
                    # A probability that lies within rounding of its random number is decided either way.
                    difference = float(np.quantile(differences, DECISIONS))
                if not difference <= TOLERANCE:  # NaN is no agreement either
                    raise ExportError(
                        f"{format_name} differs from Keras by {difference:.1e} of the range of {name}'s output "
                        f"{spec.name!r} at {at}; at most {TOLERANCE} is allowed."
                    )
                worst = max(worst, difference)
    return worst


def list_sizes(card: AbilityCard) -> list[dict[str, int]]:
    """The free sizes, by name, that an ability is compared at."""
    if not any("height" in spec.shape or "width" in spec.shape for spec in card.inputs):
        return [{"batch": batch} for batch in CHECKED_BATCHES]
    batches = cycle(CHECKED_BATCHES)
    return [
        {"batch": batch, "height": height, "width": width}
        for batch, (height, width) in zip(batches, CHECKED_SIDES, strict=False)
    ]


def measure_span(spec: Output, values: Mapping[str, np.ndarray]) -> float:
    """The width of an output's range, by which differences are divided.

    Args:
        spec: the output in the card; its own range counts where it names one.
        values: arrays by output name. Else their range counts, and where there is one value per row 0 too: a single row
            would have no range.
    """
    if spec.range is not None:
        return spec.range[1] - spec.range[0]
    found = values[spec.name]
    return max(float(np.ptp(np.append(found, 0.0) if found.ndim == 1 else found)), 1e-12)


def make_example(spec: Input, batch: int, height: int = 64, width: int = 64) -> np.ndarray:
    """An input to compare formats on: as sampling draws it, or noise, a third of it at the ends of the range.

    Args:
        spec: the input in the card; its range is (-1, 1) where it names none.
        batch: rows.
        height, width: where they are free.

    Returns:
        An array of the input's shape and dtype.
    """
    if spec.feed in DRAWN_FEEDS:
        return draw(spec, range(batch), seed=0)
    low, high = spec.range or (-1.0, 1.0)
    free = {"batch": batch, "height": height, "width": width}
    shape = [free[size] if isinstance(size, str) else size for size in spec.shape]
    beyond = 0.25 * (high - low)
    noise = np.random.default_rng(0).uniform(low - beyond, high + beyond, shape)
    return np.clip(noise, low, high).astype(spec.dtype)
