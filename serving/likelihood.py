"""Bounds of log p(x) from the ability log_prob, whatever program runs its graph."""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from serving.card import Ability, Input
from serving.sampling.noise import draw
from serving.sampling.sampler import Run
from serving.session import InputError

BoundName = Literal["elbo", "importance_weighted"]

ROUND = 2**32  # image i's noise of round r is that of number r * ROUND + i: the same, however many rounds there are


class Bound(NamedTuple):
    """A lower bound of log p(x), one value an image.

    Of gray images under a Bernoulli likelihood it bounds no log-probability: it is a cross-entropy, not normalized.

    Args:
        name: "ELBO", or "IWAE-K" with the number of samples (arXiv:1509.00519, eq. 8).
        samples: of z, for each image.
        values: (batch,) float64, nats.
    """

    name: str
    samples: int
    values: np.ndarray


def log_prob(
    ability: Ability,
    run: Run,
    images: np.ndarray,
    *,
    bound: BoundName = "importance_weighted",
    **options: Any,
) -> Bound:
    """How likely a model finds images, by one of the bounds that it gives.

    Of gray images under a Bernoulli likelihood it bounds no log-probability: it is a cross-entropy, not normalized.

    Args:
        ability, run, images: see `compute_bounds`.
        bound: "elbo", or "importance_weighted", which is the tighter the more samples there are.
        **options: of `compute_bounds`.

    Raises:
        InputError: not such an ability, or not such a number of samples or of images at once.
    """
    names = list_bounds(ability)
    if bound not in names:
        raise InputError(f"bound={bound!r}: this ability gives {[output.name for output in ability.outputs]}")
    return compute_bounds(ability, run, images, **options)[bound]


def compute_bounds(
    ability: Ability,
    run: Run,
    images: np.ndarray,
    *,
    samples: int | None = None,
    seed: int = 0,
    start: int = 0,
    batch_size: int = 100,
    **given: np.ndarray,
) -> dict[BoundName, Bound]:
    """Every bound that an ability gives, of the same samples.

    Args:
        ability: a log_prob, with a noise input (batch, K, latent_dim).
        run: runs its graph.
        images: (batch, height, width, channels) float32 in [-1, 1].
        samples: of z for each image, a multiple of K; K when not given.
        seed: of the samples.
        start: the number of the first image: its noise depends on seed and number alone.
        batch_size: images at once.
        **given: what else the ability takes, such as label, (batch,).

    Raises:
        InputError: see `log_prob`.
    """
    noise = next((spec for spec in ability.inputs if spec.name == "noise"), None)
    names = list_bounds(ability)
    if noise is None or not noise.row or not names:
        raise InputError(f"no bound: this ability gives {[output.name for output in ability.outputs]}")
    at_once = int(noise.row[0])
    samples = at_once if samples is None else samples
    if samples < 1 or samples % at_once:
        raise InputError(f"samples={samples}: the graph takes {at_once} at once, give a multiple of it")
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: give 1 or more")
    rounds, values = samples // at_once, {name: np.empty(len(images)) for name in names}
    for first in range(0, len(images), batch_size):
        rows = slice(first, first + batch_size)
        feeds = {"image": images[rows], **{name: value[rows] for name, value in given.items()}}
        numbers = range(start + first, start + first + len(feeds["image"]))
        parts = [run({**feeds, "noise": draw_round(noise, numbers, seed, each)}) for each in range(rounds)]
        for name in names:
            values[name][rows] = combine_rounds(np.asarray([part[name] for part in parts], np.float64), name)
    titles = {"elbo": "ELBO", "importance_weighted": f"IWAE-{samples}"}
    return {name: Bound(titles[name], samples, values[name]) for name in names}


def list_bounds(ability: Ability) -> list[BoundName]:
    """The bounds among an ability's outputs."""
    found = [output.name for output in ability.outputs if output.kind == "log_prob"]
    return [name for name in get_args(BoundName) if name in found]


def draw_round(noise: Input, numbers: range, seed: int, round_: int) -> np.ndarray:
    """Of the images with these numbers, for one run of the graph."""
    return draw(noise, range(round_ * ROUND + numbers.start, round_ * ROUND + numbers.stop), seed)


def combine_rounds(parts: np.ndarray, bound: BoundName) -> np.ndarray:
    """(rounds, batch) -> (batch,): the mean, of the weights themselves where the bound is that of their mean."""
    if bound == "elbo":
        return parts.mean(axis=0)
    highest = parts.max(axis=0)
    return highest + np.log(np.exp(parts - highest).mean(axis=0))
