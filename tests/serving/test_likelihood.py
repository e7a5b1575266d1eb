"""Rounds of a graph's samples become one bound, whatever way the images were split."""

import numpy as np
import pytest
from scipy.special import logsumexp

from serving.card import Ability, Input, Output
from serving.likelihood import log_prob
from serving.sampling.noise import draw
from serving.session import InputError

K, LATENTS = 3, 2  # samples that the graph takes at once, and dimensions of each
NOISE = Input("noise", "float32", ("batch", K, LATENTS), "normal")
BOUNDS = tuple(Output(name, "float32", ("batch",), "log_prob") for name in ("elbo", "importance_weighted"))
ABILITY = Ability((Input("image", "float32", ("batch", 1, 2, 1), "image", (-1.0, 1.0)), NOISE), BOUNDS, None)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (7, 1, 2, 1)).astype(np.float32)


class Graph:
    """log w_k = x . noise_k, and an ELBO that is their mean; keeps what it was fed."""

    def __init__(self) -> None:
        self.fed: list[dict[str, np.ndarray]] = []

    def __call__(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.fed.append(feeds)
        weights = np.einsum("bd,bkd->bk", feeds["image"].reshape(-1, LATENTS), feeds["noise"])
        weights = weights + feeds.get("label", np.zeros(len(weights)))[:, None]
        return {
            "elbo": weights.mean(axis=1).astype(np.float32),
            "importance_weighted": (logsumexp(weights, axis=1) - np.log(K)).astype(np.float32),
        }

    def noise(self) -> np.ndarray:
        """Of all runs, one after another."""
        return np.concatenate([feeds["noise"] for feeds in self.fed])


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_rounds_make_one_bound_of_all_samples(rounds: int) -> None:
    graph = Graph()
    found = {
        bound: log_prob(ABILITY, graph, IMAGES, samples=rounds * K, seed=6, bound=bound)
        for bound in ("elbo", "importance_weighted")
    }
    noise = np.concatenate([feeds["noise"] for feeds in graph.fed[:rounds]], axis=1)
    assert noise.shape == (7, rounds * K, LATENTS)
    assert len(np.unique(noise)) == noise.size  # no sample twice
    weights = np.einsum("bd,bkd->bk", IMAGES.reshape(-1, LATENTS), noise)
    expected = logsumexp(weights, axis=1) - np.log(rounds * K)
    np.testing.assert_allclose(found["importance_weighted"].values, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["elbo"].values, weights.mean(axis=1), rtol=0, atol=1e-6)
    assert np.abs(expected - weights.mean(axis=1)).max() > 0.05
    assert found["importance_weighted"][:2] == (f"IWAE-{rounds * K}", rounds * K)
    assert found["elbo"][:2] == ("ELBO", rounds * K)
    assert {bound.values.dtype for bound in found.values()} == {np.dtype(np.float64)}


def test_the_graphs_own_number_of_samples_is_taken_where_none_is_given() -> None:
    graph = Graph()
    assert log_prob(ABILITY, graph, IMAGES)[:2] == (f"IWAE-{K}", K)
    np.testing.assert_array_equal(graph.noise(), draw(NOISE, range(7), seed=0))


@pytest.mark.parametrize("bound", ["elbo", "importance_weighted"])
def test_how_the_images_are_split_changes_nothing(bound: str) -> None:
    options = {"samples": 2 * K, "seed": 3, "bound": bound}
    whole = log_prob(ABILITY, Graph(), IMAGES, start=10, **options).values
    for batch_size in (1, 2, 3, 100):
        found = log_prob(ABILITY, Graph(), IMAGES, start=10, batch_size=batch_size, **options).values
        np.testing.assert_array_equal(found, whole)
    first, rest = (
        log_prob(ABILITY, Graph(), IMAGES[part], start=10 + (part.start or 0), **options).values
        for part in (slice(None, 4), slice(4, None))
    )
    np.testing.assert_array_equal(np.concatenate([first, rest]), whole)


def test_noise_depends_on_seed_number_and_round_alone() -> None:
    def fed(count: int, **options: int) -> np.ndarray:
        graph = Graph()
        log_prob(ABILITY, graph, IMAGES[:count], **options)
        return graph.noise()

    noise = fed(4, seed=3, start=2)
    np.testing.assert_array_equal(fed(1, seed=3, start=4), noise[2:3])
    more = fed(4, seed=3, start=2, samples=2 * K)
    np.testing.assert_array_equal(more[:4], noise)  # another round leaves the first as it was
    others = [more[4:], fed(4, seed=4, start=2), fed(4, seed=3, start=6)]
    for other in others:
        assert not np.isin(other, noise).any()


def test_what_else_the_ability_takes_is_split_with_the_images() -> None:
    graph, labels = Graph(), np.arange(7, dtype=np.int32)
    found = log_prob(ABILITY, graph, IMAGES, samples=2 * K, batch_size=3, label=labels).values
    np.testing.assert_array_equal([len(feeds["label"]) for feeds in graph.fed], [3, 3, 3, 3, 1, 1])
    without = log_prob(ABILITY, Graph(), IMAGES, samples=2 * K).values
    np.testing.assert_allclose(found, without + labels, atol=1e-5)


def test_bounds_too_low_for_a_number_still_have_a_mean() -> None:
    """e^-2000 is 0 in float64: the mean is taken beside the highest."""
    values = iter([-2000.0, -2001.0])

    def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        weights = np.full(len(feeds["image"]), next(values), np.float32)
        return {"elbo": weights, "importance_weighted": weights}

    found = log_prob(ABILITY, run, IMAGES[:1], samples=2 * K).values
    np.testing.assert_allclose(found, [-2000 + np.log((1 + np.exp(-1)) / 2)], rtol=1e-12)


def test_no_images_have_no_bound() -> None:
    assert log_prob(ABILITY, Graph(), IMAGES[:0]).values.shape == (0,)


@pytest.mark.parametrize("samples", [0, -K, 1, K + 1])
def test_samples_that_are_no_multiple_are_refused(samples: int) -> None:
    with pytest.raises(InputError, match=f"samples={samples}: the graph takes {K} at once, give a multiple of it"):
        log_prob(ABILITY, Graph(), IMAGES, samples=samples)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_no_images_at_once_are_refused(batch_size: int) -> None:
    with pytest.raises(InputError, match=f"batch_size={batch_size}: give 1 or more"):
        log_prob(ABILITY, Graph(), IMAGES, batch_size=batch_size)


def test_a_bound_that_the_ability_does_not_give_is_refused_with_those_it_gives() -> None:
    only = Ability(ABILITY.inputs, BOUNDS[:1], None)
    with pytest.raises(InputError, match=r"bound='importance_weighted': this ability gives \['elbo'\]"):
        log_prob(only, Graph(), IMAGES, bound="importance_weighted")
    images = Output("image", "float32", ("batch", 1, 2, 1), "image", (-1.0, 1.0), "NHWC")
    generate = Ability((NOISE,), (images,), None)
    with pytest.raises(InputError, match=r"no bound: this ability gives \['image'\]"):
        log_prob(generate, Graph(), IMAGES, bound="elbo")


EXACT = Output("exact", "float32", ("batch",), "log_prob", support="binary")
ESTIMATE = Output("estimate", "float32", ("batch",), "log_prob", estimator="AIS of 100 chains")


def sum_pixels(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A graph without samples."""
    values = feeds["image"].sum(axis=(1, 2, 3))
    return {"exact": values, "estimate": values + 1}


def test_what_is_known_exactly_takes_no_samples_and_comes_first() -> None:
    ability = Ability(ABILITY.inputs[:1], (ESTIMATE, EXACT), None)
    found = log_prob(ability, sum_pixels, IMAGES, batch_size=2)
    assert found[:2] == ("exact", 0)
    np.testing.assert_allclose(found.values, IMAGES.sum(axis=(1, 2, 3)))
    with pytest.raises(InputError, match="samples=10: this ability takes no samples"):
        log_prob(ability, sum_pixels, IMAGES, samples=10)


def test_an_estimate_says_what_it_rests_on() -> None:
    found = log_prob(Ability(ABILITY.inputs[:1], (ESTIMATE,), None), sum_pixels, IMAGES)
    assert found[:2] == ("estimate (AIS of 100 chains)", 0)
    np.testing.assert_allclose(found.values, IMAGES.sum(axis=(1, 2, 3)) + 1, rtol=1e-6)
