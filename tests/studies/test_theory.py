"""What the figures rest on: the divergence by quadrature, the counts of modes, the mean latents."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from studies import remedies
from studies.arithmetic import mean_of
from studies.bounds import COVARIANCE, DIVERGENCES, exact, linear_vae, nearest, turns
from studies.bounds import Options as Bounds
from studies.figures import write_table
from studies.modes import BUDGET, COLUMNS, ROWS, SETS, parts, play, read
from studies.modes import Options as Modes
from studies.theory import Options, game, jensen_shannon, learn, move, value
from zoo.losses.adversarial import LOSSES
from zoo.losses.regularization import Regularization
from zoo.models.gan import GAN


def test_the_divergence_is_0_for_equals_and_log_2_far_apart() -> None:
    assert jensen_shannon(0.0) == pytest.approx(0.0, abs=1e-9)
    assert jensen_shannon(14.0) == pytest.approx(np.log(2), abs=1e-9)
    # Small shifts: JSD = theta^2 I / 8 with Fisher information I = 1.
    assert jensen_shannon(0.02) == pytest.approx(0.02**2 / 8, rel=1e-3)


def test_a_discriminators_value_is_below_the_bound_and_near_it_once_trained() -> None:
    options = Options(batch_size=256)
    model = game(2.0, options)
    bound = 2 * jensen_shannon(2.0) - np.log(4)
    before = value(model, 2.0)
    learn(model, 200, options)
    assert before < value(model, 2.0) < bound + 0.01
    assert value(model, 2.0) > bound - 0.05
    assert float(model.generator(np.zeros((1, 1), np.float32))[0, 0, 0, 0]) == 2.0  # only D learns
    move(model, 0.5)
    assert float(model.generator(np.zeros((1, 1), np.float32))[0, 0, 0, 0]) == 0.5


@pytest.mark.parametrize("name", SETS)
def test_a_mixture_judges_its_own_draws_as_good_and_complete(name: str) -> None:
    points = SETS[name].draw(2_500, seed=0)
    modes, good = SETS[name].judge(points)
    assert modes == len(SETS[name].means)
    assert good == pytest.approx(1 - np.exp(-(3.0**2) / 2), abs=0.01)  # within 3 deviations in the plane
    one = SETS[name].means[:1] + np.zeros((2_500, 2))
    assert SETS[name].judge(one) == (1, 1.0)
    assert SETS[name].judge(one + 0.9) == (0, 0.0)
    strays = np.concatenate([one, SETS[name].means[1:2]])  # one sample finds no mode
    assert SETS[name].judge(strays)[0] == 1


OF_IMAGES = {"augment", "augment_target"}  # no such change of a point


def test_every_loss_and_stabilizer_has_a_row() -> None:
    known = set(inspect.signature(Regularization.__init__).parameters) - {"self"}
    for rows, left_out in ((ROWS, OF_IMAGES), (remedies.ROWS, {"instance_noise_steps"})):
        assert {name for row in rows.values() for name in row.get("stabilizers", {})} == known - left_out
        assert {row.get("minibatch") for row in rows.values()} == {None, "stddev", "discrimination"}
        for other in ("dropout", "clipnorm", "discriminator_rate"):
            assert any(other in row for row in rows.values())
    assert {row.get("loss", "non_saturating") for row in ROWS.values()} == set(LOSSES)


@pytest.mark.parametrize("row", remedies.ROWS)
def test_a_row_of_the_remedies_is_a_model_that_differs_from_the_first_in_what_it_names(row: str) -> None:
    arguments, optimizers = parts(remedies.ROWS[row], 2e-4)
    model = GAN((16, 16, 1), width=2, **arguments)
    model.compile(seed=0, **optimizers)
    assert (remedies.ROWS[row] == {}) == (row == "none")
    assert model.get_config().items() >= arguments.items()
    discriminator, generator = (optimizers[player] for player in ("discriminator", "generator"))
    assert float(generator.learning_rate) == pytest.approx(2e-4)
    assert float(discriminator.learning_rate) == pytest.approx(4e-4 if row == "two time scales" else 2e-4)
    assert [each.global_clipnorm for each in (discriminator, generator)] == [
        1.0 if row == "gradient clipping" else None
    ] * 2


def test_a_table_holds_one_budget(tmp_path: Path) -> None:
    table = tmp_path / "other.csv"
    assert read(Modes(steps=5, table=table), BUDGET, COLUMNS) == []
    row = dict.fromkeys(COLUMNS, "1") | {"set": "ring", "row": "r1", "steps": "5"}
    write_table(table, COLUMNS, [row])
    assert read(Modes(steps=5, table=table), BUDGET, COLUMNS) == [row]
    with pytest.raises(SystemExit, match=r"other\.csv holds runs of 5 steps: choose another --table"):
        read(Modes(steps=6, table=table), BUDGET, COLUMNS)
    with pytest.raises(SystemExit, match=r"modes\.csv holds the default steps, rate: choose another --table"):
        read(Modes(steps=5, rate=1.0), BUDGET, COLUMNS)


@pytest.mark.parametrize("row", ["minibatch stddev", "minibatch discrimination", "spectral norm", "gradient clipping"])
def test_a_row_plays_from_start_to_samples(row: str) -> None:
    points = play(SETS["ring"], row, 0, Modes(steps=100, batch_size=8))
    assert points.shape == (2_500, 2)
    assert np.isfinite(points).all()


def test_a_mean_latent_is_that_of_the_plainest_of_its_class() -> None:
    latents = np.array([[1.0], [2.0], [4.0], [8.0], [16.0]])
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.2, 0.8], [0.7, 0.3]])
    assert mean_of(latents, probabilities, 0, share=0.5) == [2.5]  # of 0.9 and 0.8
    assert mean_of(latents, probabilities, 0, share=1.0) == [5.75]
    assert mean_of(latents, probabilities, 1, share=0.1) == [8.0]
    with pytest.raises(ValueError, match="none of 5 images shows class 2"):
        mean_of(latents, np.pad(probabilities, ((0, 0), (0, 1))), 2, share=1.0)


def test_the_exact_log_likelihood_is_that_of_a_normal() -> None:
    from scipy.stats import multivariate_normal

    model = linear_vae(2, scale=0.5)
    model.decoder.get_layer("values").set_weights([np.array([[0.8, -0.3]]), np.array([0.2, 0.1])])
    points = np.random.default_rng(0).multivariate_normal([0, 0], COVARIANCE, 50)
    covariance = np.outer([0.8, -0.3], [0.8, -0.3]) + 0.25 * np.eye(2)
    expected = multivariate_normal([0.2, 0.1], covariance).logpdf(points).mean()
    assert exact(model, points) == pytest.approx(expected, rel=1e-5)


def test_the_nearest_bells_are_the_hills_moments_and_the_higher_hill() -> None:
    # Mean 0.65 * -2 + 0.35 * 2 = -0.6; variance 0.25 + 4 - 0.36 = 3.89.
    assert np.allclose(nearest(DIVERGENCES["KL(p || q)"]), [(-0.6, 3.89**0.5)], atol=1e-3)
    assert np.allclose(nearest(DIVERGENCES["KL(q || p)"]), [(-2.0, 0.5)], atol=1e-2)


def test_only_the_decoders_turn_moves_the_likelihood_and_the_bound_stays_below() -> None:
    rows = turns(Bounds(turns=3, turn=20, batch_size=64))
    likelihood, bound = ([row[3] for row in rows if row[1] == curve] for curve in ("log p(x)", "ELBO"))
    assert likelihood[0] == likelihood[1] == likelihood[2] != likelihood[3]
    assert likelihood[4] == likelihood[5] > likelihood[0]
    assert np.all(np.array(bound) < np.array(likelihood) + 0.02)  # 400 samples of 64 points
    assert bound[1] > bound[0]
