"""Samples that take many runs of one graph: states are handed on, numbers new in each step, the last image stays."""

import numpy as np
import pytest

from serving.card import Ability, Input, Iteration, Output
from serving.sampling.noise import draw
from serving.sampling.sampler import Sampler
from serving.session import InputError

STATE = Input("state", "float32", ("batch", 3), "state")
UNIFORM = Input("uniform", "float32", ("batch", 3), "uniform", (0.0, 1.0))
LABEL = Input("label", "int32", ("batch",), "label", classes=tuple("abcdefgh"))
OUTPUTS = (
    Output("image", "float32", ("batch", 1, 3, 1), "image", (0.0, 8.0), "NHWC"),
    Output("next", "float32", ("batch", 3), "state"),
)
STEPS = 4


def make_ability(kind, *more):
    return Ability((STATE, UNIFORM, *more), OUTPUTS, iteration=Iteration(kind, STEPS, {"state": "next"}))


class Graph:
    """next = state / 2 + uniform, image = next; keeps what it was fed."""

    def __init__(self):
        self.fed = []

    def __call__(self, feeds):
        self.fed.append(feeds)
        state = feeds["state"] / 2 + feeds["uniform"]
        return {"image": state.reshape(-1, 1, 3, 1), "next": state}


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_the_sample_is_the_last_steps_image_of_its_own_numbers(batch_size):
    found = Sampler(make_ability("gibbs"), Graph(), batch_size=batch_size).sample(
        5, seed=7, start=10, output_type="float32"
    )
    draws = [draw(UNIFORM, range(10, 15), 7, step) for step in range(STEPS)]
    expected = sum(part / 2 ** (STEPS - 1 - step) for step, part in enumerate(draws))
    np.testing.assert_allclose(found.reshape(5, 3), expected, rtol=1e-6)
    assert len(np.unique(np.concatenate(draws))) == STEPS * 15  # no number twice


def test_states_are_zeros_at_first():
    graph = Graph()
    Sampler(make_ability("autoregressive"), graph).sample(2)
    np.testing.assert_array_equal(graph.fed[0]["state"], np.zeros((2, 3), np.float32))
    assert len(graph.fed) == STEPS


def test_a_drawn_label_is_one_for_all_steps():
    graph = Graph()
    Sampler(make_ability("gibbs", LABEL), graph).sample(50, seed=1)
    labels = np.array([feeds["label"] for feeds in graph.fed])
    np.testing.assert_array_equal(labels, np.broadcast_to(draw(LABEL, range(50), 1), (STEPS, 50)))
    assert len(np.unique(labels)) > 1


def test_a_chain_may_go_on_longer_and_a_longer_one_begins_alike():
    short, long = Graph(), Graph()
    Sampler(make_ability("gibbs"), short).sample(2, seed=3)
    Sampler(make_ability("gibbs"), long).sample(2, seed=3, steps=6)
    assert len(long.fed) == 6
    for one, other in zip(short.fed, long.fed, strict=False):
        np.testing.assert_array_equal(one["state"], other["state"])


@pytest.mark.parametrize(
    ("ability", "steps", "message"),
    [
        (make_ability("autoregressive"), 2, f"steps=2: {STEPS} steps complete a sample of this ability"),
        (make_ability("gibbs"), 0, "steps=0: give 1 <= steps"),
        (make_ability("gibbs"), 2.5, "steps=2.5: give an integer"),
        (Ability((UNIFORM,), OUTPUTS[:1]), 2, "steps=2: this ability draws a sample in one pass"),
    ],
)
def test_steps_that_an_ability_can_not_take_are_refused(ability, steps, message):
    with pytest.raises(InputError, match=message):
        Sampler(ability, Graph()).sample(1, steps=steps)
