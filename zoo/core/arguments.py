"""Checks that constructors share."""

from collections.abc import Sequence
from typing import Any


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
