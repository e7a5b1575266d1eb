"""Between the latents of two seeds."""

from collections.abc import Mapping, Sequence

import numpy as np

from serving.card import Input
from serving.session import InputError


def interpolate(
    inputs: Sequence[Input], first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray], position: float
) -> dict[str, np.ndarray]:
    """What an ability takes somewhere between what it takes for two images.

    Normal numbers go along the great circle from the one vector to the other, so that they stay as long as a draw is;
    uniform ones along the straight line. Of everything else, such as labels, the nearer image's is taken. At 0 and 1
    the arrays are the given ones, to the bit.

    Args:
        inputs: of the ability.
        first, second: arrays by input name, of equal shapes with the batch first.
        position: 0 for the first to 1 for the second.

    Raises:
        InputError: the position is out of its range.
    """
    if not 0 <= position <= 1:
        raise InputError(f"position={position}: give 0 for the first seed to 1 for the second")
    if position in (0, 1):
        return dict(second if position else first)
    feeds = {}
    for spec in inputs:
        one, other = first[spec.name], second[spec.name]
        if spec.feed in ("normal", "noise_map"):
            feeds[spec.name] = np.stack([_turn(*pair, position) for pair in zip(one, other, strict=True)])
        elif spec.feed == "uniform":
            feeds[spec.name] = ((1 - position) * one + position * other).astype(one.dtype)
        else:
            feeds[spec.name] = one if position < 0.5 else other
    return feeds


def _turn(one: np.ndarray, other: np.ndarray, position: float) -> np.ndarray:
    """Spherical linear interpolation; straight where the two have one direction, or opposite ones."""
    lengths = np.linalg.norm(one.astype(float)) * np.linalg.norm(other.astype(float))
    cosine = float(np.sum(one.astype(float) * other)) / lengths if lengths else 1.0
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    if (sine := np.sin(angle)) < 1e-6:
        return ((1 - position) * one + position * other).astype(one.dtype)
    turned = (np.sin((1 - position) * angle) * one + np.sin(position * angle) * other) / sine
    return turned.astype(one.dtype)
