"""Hidden Markov model: every image and every path of states enumerated, TensorFlow Probability beside it."""

import itertools

import numpy as np
import pytest
import tensorflow_probability as tfp
from keras.optimizers import SGD

from zoo.layers.mixtures import STARTED
from zoo.models.hidden_markov import HiddenMarkov

SHAPE, STATES, SMOOTHING = (3, 2, 1), 3, 0.05
BITS = np.array(list(itertools.product([0.0, 1.0], repeat=6))).reshape(-1, 3, 2)
EVERY = (2.0 * BITS - 1.0).astype(np.float32).reshape(-1, *SHAPE)
PATHS = np.array(list(itertools.product(range(STATES), repeat=3)))
CHOSEN = np.random.default_rng(0).choice(64, 50, p=np.random.default_rng(1).dirichlet(np.full(64, 0.2)))


def make(rate=1.0, seed=0, started=True):
    """A compiled model of random numbers, and past its start unless it is to begin."""
    random = np.random.default_rng(seed)
    model = HiddenMarkov(SHAPE, STATES, SMOOTHING)
    model.compile(chain=SGD(rate))
    visits = random.uniform(0.5, 1.5, STATES)
    model.rows.initial.assign(random.uniform(0.2, 2.0, STATES))
    model.rows.transitions.assign(random.uniform(0.1, 2.0, (STATES, STATES)))
    model.rows.visits.assign(visits)
    model.rows.white.assign(random.uniform(0.1, 0.9, (STATES, 2)) * visits[:, None])
    model.step.assign(int(started))
    return model


def read(model):
    """pi, A, p."""
    return [np.array(part, np.float64) for part in model.rows.parameters()]


def log_joint(initial, transitions, white, bits):
    """log p(x, path), (images, paths)."""
    rows = bits @ np.log(white).T + (1.0 - bits) @ np.log1p(-white).T  # (images, T, K)
    paths = np.log(initial)[PATHS[:, 0]] + np.log(transitions)[PATHS[:, :-1], PATHS[:, 1:]].sum(axis=1)
    return paths + sum(rows[:, place][:, PATHS[:, place]] for place in range(3))


def penalized(initial, transitions, white, bits):
    """The mean of log p(x), and of the prior that the pseudo-counts are: what EM never lowers."""
    prior = SMOOTHING / STATES * np.log(initial).sum() + 2 * SMOOTHING / STATES**2 * np.log(transitions).sum()
    prior += 3 * SMOOTHING / STATES * (np.log(white) + np.log1p(-white)).sum()
    return np.logaddexp.reduce(log_joint(initial, transitions, white, bits), axis=1).mean() + prior


def test_the_probabilities_of_all_images_sum_to_one():
    assert np.exp(make().log_prob(EVERY).values).sum() == pytest.approx(1.0, abs=1e-5)


def test_log_prob_is_the_sum_over_all_paths():
    model = make()
    found = model.log_prob(EVERY)
    assert found.name == "exact"
    np.testing.assert_allclose(found.values, np.logaddexp.reduce(log_joint(*read(model), BITS), axis=1), atol=1e-5)


def test_log_prob_is_that_of_tensorflow_probability():
    model = make(seed=2)
    initial, transitions, white = (part.astype(np.float32) for part in read(model))
    tfd = tfp.distributions
    rows = tfd.Independent(tfd.Bernoulli(probs=white, dtype=np.float32), 1)
    oracle = tfd.HiddenMarkovModel(tfd.Categorical(probs=initial), tfd.Categorical(probs=transitions), rows, 3)
    np.testing.assert_allclose(model.log_prob(EVERY).values, oracle.log_prob(BITS.astype(np.float32)), atol=1e-5)


def test_a_step_counts_what_all_paths_expect(fit):
    """Baum-Welch by enumeration: each path counts as much as it is likely given the image."""
    model, bits = make(), BITS[CHOSEN]
    joint = log_joint(*read(model), bits)
    likely = np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)) / len(bits)
    at = np.eye(STATES)[PATHS]  # (paths, T, K)
    visited = np.einsum("np,ptk->ntk", likely, at)
    initial = STATES * visited[:, 0].sum(axis=0)
    transitions = STATES**2 / 2 * np.einsum("np,pti,ptj->ij", likely, at[:, :-1], at[:, 1:])
    visits = STATES / 3 * visited.sum(axis=(0, 1))
    white = STATES / 3 * np.einsum("ntk,ntd->kd", visited, bits)
    fit(model, EVERY[CHOSEN])
    for weight, expected in zip(model.variables_of("chain"), (initial, transitions, visits, white), strict=True):
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-4, atol=1e-6, err_msg=weight.path)


def test_em_never_lowers_the_penalized_likelihood(fit):
    model, found = make(seed=4), []
    for _ in range(15):
        found.append(penalized(*read(model), BITS[CHOSEN]))
        fit(model, EVERY[CHOSEN])
    assert np.diff(found).min() > -1e-6
    assert found[-1] - found[0] > 0.1


def test_samples_are_as_frequent_as_they_are_probable():
    model, count = make(), 20_000
    samples = model.sample(count, seed=1, output_type="float32", batch_size=5_000)
    assert set(np.unique(samples)) == {-1.0, 1.0}
    numbers = ((samples.reshape(count, -1) + 1) / 2) @ [32, 16, 8, 4, 2, 1]
    found = np.bincount(numbers.astype(int), minlength=64) / count
    expected = np.exp(model.log_prob(EVERY).values)
    assert np.abs((found - expected) / np.sqrt(expected * (1 - expected) / count)).max() < 4.5


def test_states_start_at_rows_of_images_from_top_to_bottom(fit):
    model = make(started=False)
    drawn = model.rows.white.numpy()
    fit(model, EVERY[CHOSEN])
    starts = (model.rows.white.numpy() - (1.0 - STARTED) * drawn) / STARTED
    np.testing.assert_allclose(starts, np.round(starts), atol=1e-5)
    for state, row in enumerate(np.round(starts)):
        assert tuple(row) in {tuple(each) for each in BITS[CHOSEN][:, state]}


def test_parameters_stay_probabilities_whatever_the_weights_are():
    model = make()
    for weight in model.variables_of("chain"):
        weight.assign(-np.ones(weight.shape))
    initial, transitions, white = read(model)
    assert initial.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(transitions.sum(axis=1), 1.0, rtol=1e-5)
    assert (white > 0).all()
    assert (white < 1).all()


def test_two_replicas_end_where_one_does(fit, strategy_of, difference):
    found = []
    for replicas in (1, 2):
        with strategy_of(replicas).scope():
            model = make(started=False)
        fit(model, EVERY[CHOSEN[:11]], 4)
        found.append(model.get_weights())
    assert difference(*found) < 1e-5


@pytest.mark.parametrize("arguments", [{"states": 0}, {"smoothing": 0.0}])
def test_what_can_not_be_meant_is_refused(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name}=.*choose"):
        HiddenMarkov(SHAPE, **arguments)
