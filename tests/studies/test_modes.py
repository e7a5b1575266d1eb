"""Modes are counted rightly, every loss and regularizer has a variant, and variants train."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from studies import mitigations
from studies.figures import read_finished_rows, write_table
from studies.modes import BUDGET, COLUMNS, MIXTURES, VARIANTS, Options, train_and_sample
from zoo.losses.adversarial import LOSSES
from zoo.losses.regularization import Regularization


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixtures_own_draws_are_complete_and_of_high_quality(name: str) -> None:
    points = MIXTURES[name].draw(2_500, seed=0)
    modes, high_quality = MIXTURES[name].score(points)
    assert modes == len(MIXTURES[name].means)
    assert high_quality == pytest.approx(1 - np.exp(-(3.0**2) / 2), abs=0.01)  # within 3 deviations in the plane
    one = MIXTURES[name].means[:1] + np.zeros((2_500, 2))
    assert MIXTURES[name].score(one) == (1, 1.0)
    assert MIXTURES[name].score(one + 0.9) == (0, 0.0)
    two_modes = np.concatenate([one, MIXTURES[name].means[1:2]])  # one sample finds no mode
    assert MIXTURES[name].score(two_modes)[0] == 1


OF_IMAGES = {"augment", "augment_target"}  # points can't be augmented so


def test_every_loss_and_regularizer_has_a_variant() -> None:
    known = set(inspect.signature(Regularization.__init__).parameters) - {"self"}
    for variants, left_out in ((VARIANTS, OF_IMAGES), (mitigations.VARIANTS, {"instance_noise_steps"})):
        assert known & {name for variant in variants.values() for name in variant} == known - left_out
        assert {variant.get("minibatch") for variant in variants.values()} == {None, "stddev", "discrimination"}
        for other in ("dropout", "clipnorm", "discriminator_rate_factor"):
            assert any(other in variant for variant in variants.values())
    assert {variant.get("loss", "non_saturating") for variant in VARIANTS.values()} == set(LOSSES)


def test_a_table_holds_one_budget(tmp_path: Path) -> None:
    table = tmp_path / "other.csv"
    assert read_finished_rows(Options(steps=5, table=table), BUDGET, COLUMNS) == []
    row = dict.fromkeys(COLUMNS, "1") | {"mixture": "ring", "variant": "r1", "steps": "5"}
    write_table(table, COLUMNS, [row])
    assert read_finished_rows(Options(steps=5, table=table), BUDGET, COLUMNS) == [row]
    with pytest.raises(SystemExit, match=r"other\.csv holds runs of 5 steps: choose another --table"):
        read_finished_rows(Options(steps=6, table=table), BUDGET, COLUMNS)
    with pytest.raises(SystemExit, match=r"modes\.csv holds the default steps, learning_rate: choose another --table"):
        read_finished_rows(Options(steps=5, learning_rate=1.0), BUDGET, COLUMNS)


@pytest.mark.parametrize(
    "variant", ["minibatch stddev", "minibatch discrimination", "spectral norm", "gradient clipping"]
)
def test_a_variant_trains_and_gives_samples(variant: str) -> None:
    points = train_and_sample(MIXTURES["ring"], variant, 0, Options(steps=100, batch_size=8))
    assert points.shape == (2_500, 2)
    assert np.isfinite(points).all()
