"""Checks that constructors share."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

LARGEST = 2**31 - 1  # of a count or a size: TensorFlow takes no larger ones for shapes


def check_numbers(arguments: Mapping[str, Any]) -> None:
    """Refuse numbers that no argument of a constructor can mean, alone or in a sequence.

    NaN passes every comparison with a limit that refuses by `<`, and would train to NaN weights.

    Raises:
        ValueError: naming the argument that is NaN or infinite, or an integer beyond LARGEST.
    """
    for name, value in arguments.items():
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{name}={value}: choose a finite number.")
            if isinstance(number, int) and abs(number) > LARGEST:
                raise ValueError(f"{name}={value}: choose at most {LARGEST}.")


def check_counts(**counts: int | None) -> None:
    """Refuse counts and sizes below 1; None, a default, passes.

    Raises:
        ValueError: naming the argument.
    """
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name}={count}: choose at least 1.")


def check_image_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """A constructor's `image_shape`, once it is known to be (height, width, channels); ValueError otherwise."""
    if len(image_shape) != 3:
        raise ValueError(f"image_shape={tuple(image_shape)}: give (height, width, channels).")
    height, width, channels = image_shape
    return height, width, channels


def check_class_names(classes: Sequence[str]) -> tuple[str, ...]:
    """A constructor's `classes`, once they are known to be two or more, each once; ValueError otherwise."""
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"classes={list(classes)}: name at least two, each once.")
    return tuple(classes)


def choose(argument: str, key: str, table: dict[str, Any]) -> Any:
    """`table[key]`, or a ValueError that names the argument and the keys there are."""
    if key not in table:
        raise ValueError(f"{argument}={key!r}: choose from {sorted(table)}.")
    return table[key]
