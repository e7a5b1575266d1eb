"""Sampling noise: row i of seed s depends on (s, i) alone."""

import hashlib
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from serving.card import DRAWN_FEEDS, Input
from serving.session import InputError

UNIFORM_RANGE = (-1.0, 1.0)  # of a uniform input whose card names no range
# Feed -> one row of it; the keys are `DRAWN_FEEDS`.
_DRAWS: dict[str, Callable[[np.random.Generator, Input], Any]] = {
    "normal": lambda random, spec: random.standard_normal(spec.row),
    "noise_map": lambda random, spec: random.standard_normal(spec.row),
    "uniform": lambda random, spec: random.uniform(*(spec.range or UNIFORM_RANGE), spec.row),
    "label": lambda random, spec: random.integers(len(spec.classes), size=spec.row),
}


def draw(input: Input, indices: Sequence[int] | range, seed: int, step: int = 0) -> np.ndarray:
    """The sampling noise of some images: (len(indices), *input.shape[1:]) in the input's dtype.

    Row i of seed s comes from NumPy's `Philox(key=[s, i], counter=[0, 0, t, h])`, with t the step and h the first eight
    bytes of sha256(input.name), little-endian. So it depends on s, i, t and the input's name alone: the inputs of one
    ability read parts of one sequence that lie 2**192 blocks or more apart, and steps parts 2**128 blocks apart.
    Numbers are drawn in float64, then rounded. NumPy may one day turn the same bits into other normal numbers (NEP 19):
    a test holds today's.

    Args:
        input: one of the feeds in `DRAWN_FEEDS`. normal and noise_map: N(0, 1); uniform: its range, (-1, 1) by
            default; label: each class equally likely.
        indices: the images' numbers, each 0 <= i < 2**64.
        seed: 0 <= seed < 2**64.
        step: of a sampler that takes new numbers in each of its steps, 0 <= step < 2**64; 0 for others.

    Raises:
        InputError: no seed gives such an input, its card names no classes, or a number is out of its range.
    """
    if input.feed not in DRAWN_FEEDS:
        raise InputError(
            f"input {input.name!r} takes {input.feed!r}, which no seed gives: only {DRAWN_FEEDS} are drawn"
        )
    if input.feed == "label" and not input.classes:
        raise InputError(f"input {input.name!r}: the card names no classes to draw from: give labels")
    seed = to_uint64("seed", seed)
    stream = int.from_bytes(hashlib.sha256(input.name.encode()).digest()[:8], "little")
    # Stream and step are in the counter's upper words, which no draw reaches: streams of one key can't overlap.
    counter = np.array([0, 0, to_uint64("step", step), stream], np.uint64)
    rows = np.empty((len(indices), *input.row), input.dtype)
    for row, index in enumerate(indices):
        key = np.array([seed, to_uint64("index", index)], np.uint64)
        rows[row] = _DRAWS[input.feed](np.random.Generator(np.random.Philox(key=key, counter=counter)), input)
    return rows


def to_uint64(name: str, value: Any) -> int:
    """`value` as a Python integer in [0, 2**64), the range of Philox' words.

    Args:
        name: of the argument, for the message.
        value: anything with `__index__`, such as NumPy's integers.

    Raises:
        InputError: not an integer, or out of the range.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name}={value!r}: give an integer") from None
    if not 0 <= number < 2**64:
        raise InputError(f"{name}={number}: give 0 <= {name} < 2**64")
    return number
