"""log p(x), or bounds and estimates of it, from the ability log_prob, whatever program runs its graph."""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from serving.card import Ability, Input
from serving.sampling.noise import draw
from serving.sampling.sampler import Run
from serving.session import InputError

BoundName = Literal["exact", "importance_weighted", "elbo", "bound", "estimate"]

ROUND = 2**32  # image i's noise of round r is that of number r * ROUND + i: the same, however many rounds there are


class Bound(NamedTuple):
    """log p(x), a lower bound or an estimate of it, one value an image.

    Of gray images under a Bernoulli likelihood it bounds no log-probability: it is a cross-entropy, not normalized.

    Args:
        name: "exact"; "ELBO", or "IWAE-K" with the number of samples (arXiv:1509.00519, eq. 8); "bound" or "estimate",
            with what it rests on.
        samples: of z, for each image; 0 where none are drawn.
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
    bound: BoundName | None = None,
    **options: Any,
) -> Bound:
    """How likely a model finds images: log p(x) where it knows it, else one of the bounds that it gives.

    Of gray images under a Bernoulli likelihood it bounds no log-probability: it is a cross-entropy, not normalized.

    Args:
        ability, run, images: see `compute_bounds`.
        bound: one of `BoundName`: "exact" is log p(x) itself, "importance_weighted" is the tighter the more samples
            there are; by default the first of them that the ability gives.
        **options: of `compute_bounds`.

    Raises:
        InputError: not such an ability, or not such a number of samples or of images at once.
    """
    found = compute_bounds(ability, run, images, **options)
    if bound is not None and bound not in found:
        raise InputError(f"bound={bound!r}: this ability gives {list(found)}")
    return found[next(iter(found)) if bound is None else bound]


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
    """Every bound that an ability gives, those that take samples of the same ones.

    Args:
        ability: a log_prob; one that takes samples has a noise input (batch, K, ...).
        run: runs its graph.
        images: (batch, height, width, channels) float32 in [-1, 1].
        samples: of z for each image, a multiple of K; K when not given. Only where it takes samples.
        seed: of the samples.
        start: the number of the first image: its noise depends on seed and number alone.
        batch_size: images at once.
        **given: what else the ability takes, such as label, (batch,).

    Raises:
        InputError: see `log_prob`.
    """
    noise = next((spec for spec in ability.inputs if spec.name == "noise"), None)
    names = list_bounds(ability)
    if not names or (noise is not None and not noise.row):
        raise InputError(f"no bound: this ability gives {[output.name for output in ability.outputs]}")
    rounds = count_rounds(noise, samples)
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: give 1 or more")
    values = {name: np.empty(len(images)) for name in names}
    for first in range(0, len(images), batch_size):
        rows = slice(first, first + batch_size)
        feeds = {"image": images[rows], **{name: value[rows] for name, value in given.items()}}
        numbers = range(start + first, start + first + len(feeds["image"]))
        parts = [
            run({**feeds, **({"noise": draw_round(noise, numbers, seed, each)} if noise else {})})
            for each in range(rounds)
        ]
        for name in names:
            values[name][rows] = combine_rounds(np.asarray([part[name] for part in parts], np.float64), name)
    samples = rounds * int(noise.row[0]) if noise else 0
    titles = {"elbo": "ELBO", "importance_weighted": f"IWAE-{samples}"}
    titles |= {output.name: f"{output.name} ({output.estimator})" for output in ability.outputs if output.estimator}
    return {name: Bound(titles.get(name, name), samples, values[name]) for name in names}


def count_rounds(noise: Input | None, samples: int | None) -> int:
    """How often a graph is run for so many samples.

    Args:
        noise: its input (batch, K, ...); None where it takes none.
        samples: as asked for.

    Raises:
        InputError: it can't take so many.
    """
    if noise is None:
        if samples is not None:
            raise InputError(f"samples={samples}: this ability takes no samples, leave them out")
        return 1
    at_once = int(noise.row[0])
    if samples is not None and (samples < 1 or samples % at_once):
        raise InputError(f"samples={samples}: the graph takes {at_once} at once, give a multiple of it")
    return 1 if samples is None else samples // at_once


def list_bounds(ability: Ability) -> list[BoundName]:
    """Those of `BoundName` among an ability's outputs, in that order."""
    found = [output.name for output in ability.outputs if output.kind == "log_prob"]
    return [name for name in get_args(BoundName) if name in found]


def draw_round(noise: Input, numbers: range, seed: int, round_: int) -> np.ndarray:
    """Of the images with these numbers, for one run of the graph."""
    return draw(noise, range(round_ * ROUND + numbers.start, round_ * ROUND + numbers.stop), seed)


def combine_rounds(parts: np.ndarray, bound: BoundName) -> np.ndarray:
    """(rounds, batch) -> (batch,): the mean, of the weights themselves where the bound is that of their mean."""
    if bound != "importance_weighted":
        return parts.mean(axis=0)
    highest = parts.max(axis=0)
    return highest + np.log(np.exp(parts - highest).mean(axis=0))
