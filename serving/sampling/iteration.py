"""Samplers that repeat one graph: a step takes states and fresh random numbers, the last step's image is the sample.

A card says how (`serving.card.Iteration`), so that another program can do the same: the states are zeros at first, and
step t of image i draws its numbers from (seed, i, t) as `serving.sampling.noise.draw` does.
"""

from collections.abc import Callable, Mapping

import numpy as np
from msgspec import UNSET

from serving.card import Ability
from serving.sampling.noise import to_uint64
from serving.session import InputError

LARGEST = 2**31 - 1  # steps


def choose_steps(ability: Ability, steps: int | None) -> int:
    """How often the ability is run for a sample: 1 where it is no step of a sampler.

    Args:
        ability: of the card.
        steps: as asked for; the card's when None.

    Raises:
        InputError: the number can't be chosen for such an ability, or is out of its range.
    """
    iteration = ability.iteration
    if iteration is UNSET:
        if steps is not None:
            raise InputError(f"steps={steps}: this ability draws a sample in one pass, it takes no steps")
        return 1
    if steps is None:
        return iteration.count
    if iteration.kind == "autoregressive":
        raise InputError(f"steps={steps}: {iteration.count} steps complete a sample of this ability, leave them out")
    if not 1 <= to_uint64("steps", steps) <= LARGEST:
        raise InputError(f"steps={steps}: give 1 <= steps <= {LARGEST}")
    return int(steps)


def run_steps(
    ability: Ability,
    run: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]],
    count: int,
    steps: int,
    make_feeds: Callable[[int], dict[str, np.ndarray]],
) -> Mapping[str, np.ndarray]:
    """The last step's outputs by name.

    Args:
        ability: of the card; one without an iteration has no states.
        run: its graph.
        count: rows.
        steps: at least 1.
        make_feeds: step -> what goes in besides the states.
    """
    sources = {} if ability.iteration is UNSET else ability.iteration.states
    states = {spec.name: np.zeros((count, *spec.row), spec.dtype) for spec in ability.inputs if spec.name in sources}
    outputs: Mapping[str, np.ndarray] = {}
    for step in range(steps):
        outputs = run({**make_feeds(step), **states})
        states = {name: np.asarray(outputs[source]) for name, source in sources.items()}
    return outputs
