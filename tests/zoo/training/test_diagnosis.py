"""Every illness is told from real logs of it, at the step where it shows, and from nothing healthy.

The logs beside this file are of GANs on the embedded images at 16x16, width 16, latent_dim 100, batches of 64,
seed 0, Adam 2e-4 with beta_1 0.5, loss "non_saturating", schedule "shared", ema_decay 0.999, a row every 20 steps
(rounded to 4 digits), except for

healthy            nothing
healthy_mlp        architecture="mlp", width 128: its generator stays near one image for long
saturated          loss="minimax", D's learning rate 2e-3, G's 4e-5
collapsed          both learning rates 1e-2, beta_1 0.9, schedule="simultaneous", no average: from step 140 on G draws
                   fewer and fewer different images; it comes back at step 520
one_image        architecture="mlp", width 64, both learning rates 2e-3, beta_1 0.9, "simultaneous", no average: G
                   never draws a second image
oscillating        G's learning rate 5e-3, D's 5e-4, beta_1 0.9, "simultaneous", no average, a row every 10 steps
memorizing         64 training images, batches of 32, a row every 40 steps
memorizing_hinge   the same, loss="hinge"

and of VAEs: the preset vae-fashion-mnist on the embedded images at 16x16, architecture="dense", hidden=(128,), Adam
1e-3, batches of 64, 1,200 steps, a row every 40, except for

vae                nothing
vae_collapsed      beta=100: every latent is idle from step 600 on
vae_free_bits      beta=100, free_bits=1: all are in use
vae_pressed        likelihood="bernoulli", beta=10, 1,760 steps: from step 1360 on 2 of 20 are in use
vae_late           latent_dim=128, likelihood="bernoulli", beta=4: all are idle from step 80 to 520, and 2 of 5 are in
                   use at the end
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from zoo.losses.adversarial import ADVERSARIAL_LOSSES, probability
from zoo.models.gan import GAN
from zoo.models.wgan import WGAN
from zoo.training import diagnosis as stability
from zoo.training.diagnosis import RULES, Watch, examine, history, probabilities_of, swings
from zoo.training.log import columns_of, read_log
from zoo.training.recipe import model_arguments

LOGS = Path(__file__).parent / "logs"
BARE_LOGITS = ("memorizing_hinge",)

Rows = list[dict[str, float]]


def log(name: str) -> Rows:
    rows = read_log(LOGS / f"{name}.csv")
    assert len(rows) >= 30
    return rows


def begun(rows: Rows, probabilities: bool = True) -> list[tuple[str, int]]:
    return [(illness.name, illness.step) for illness in history(rows, probabilities)]


def names(rows: Sequence[Mapping[str, float]], probabilities: bool = True) -> list[str]:
    return [illness.name for illness in examine(rows, probabilities)]


def rows_of(**columns: Sequence[float]) -> Rows:
    """Rows of a row every 100 steps; a column of one value holds it throughout."""
    count = max(len(values) for values in columns.values())
    whole = {name: list(values) * (count if len(values) == 1 else 1) for name, values in columns.items()}
    return [{"step": 100.0 * (row + 1)} | {name: whole[name][row] for name in whole} for row in range(count)]


# Real logs


@pytest.mark.parametrize(
    ("name", "illnesses"),
    [
        ("healthy", []),
        ("healthy_mlp", []),
        ("saturated", [("vanishing gradients", 140)]),
        # A generator that is stuck gets no gradient either: D has nothing left to learn from it.
        ("collapsed", [("mode collapse", 220), ("vanishing gradients", 340)]),
        ("one_image", [("mode collapse", 580)]),
        ("oscillating", [("oscillation", 90)]),
        ("memorizing", [("memorizing discriminator", 760)]),
        ("memorizing_hinge", [("memorizing discriminator", 720)]),
        ("vae", []),
        ("vae_collapsed", [("posterior collapse", 1160)]),
        ("vae_pressed", [("posterior collapse", 1520)]),
        ("vae_free_bits", []),
        ("vae_late", []),
    ],
)
def test_each_illness_is_told_from_its_log_and_from_no_other(name: str, illnesses: list[tuple[str, int]]) -> None:
    assert begun(log(name), name not in BARE_LOGITS) == illnesses


def test_a_run_that_recovers_is_well_at_its_end() -> None:
    """Diversity is back at 0.48, D's accuracy at 0.995, and G's gradient at 13 of 63."""
    rows = log("collapsed")
    assert names(rows[:20]) == ["vanishing gradients", "mode collapse"]
    assert names(rows) == []


def test_evidence_has_the_numbers_and_remedies_name_options() -> None:
    (illness,) = examine(log("saturated"))
    assert illness.step == 600
    assert illness.evidence == (
        "For 5 rows D has been right about at least 100 % of its images, and the norm of G's gradient, up to 1.09 at "
        "the start, has been at most 0.00056."
    )
    assert "`--model loss=non_saturating`" in illness.remedy
    (memorizing,) = examine(log("memorizing"))
    assert memorizing.evidence == (
        "D scores training images 0.666 and held-out ones 0.287; for 5 rows the gap has been 0.33 or more."
    )
    one = examine(log("one_image"))[0].evidence
    assert one.startswith("For 5 rows a sample has been at most 0 times as far from its nearest other sample")
    assert one.endswith("after 600 steps still.")
    swung = examine(log("oscillating")[:9])[0].evidence
    assert swung == (
        "Within 9 rows the share of images D is right about went up or down by at least 15% 4 times in turn, "
        "between 43% and 100%."
    )
    (collapse,) = examine(log("vae_collapsed"))
    assert collapse.evidence == (
        "For 5 rows at most 0 of the latents have had a mean that depends on the image, and all of them together "
        "have said at most 0.04 nats of it."
    )
    for option in ("`--model beta=...`", "`--model warmup_steps=...`", "`--model free_bits=...`"):
        assert option in collapse.remedy


def test_what_a_remedy_names_can_be_asked_for() -> None:
    asked = [text for rule in RULES for text in re.findall("`--model ([^`]+)`", rule.remedy) if "..." not in text]
    assert len(asked) >= 5
    for text in asked:
        arguments = model_arguments(tuple(shlex.split(text)))
        assert GAN((16, 16, 1), width=2, **arguments).get_config().items() >= arguments.items()


def test_a_wgans_remedies_call_its_second_player_the_critic() -> None:
    (illness,) = examine([{**row, "critic_loss": -1.0} for row in log("saturated")])
    assert "`--optimizers.critic...`" in illness.remedy
    assert "critic" not in examine(log("saturated"))[0].remedy
    model = WGAN((16, 16, 1), width=2)
    assert "critic" in model.players
    assert {"critic_steps", "constraint"} <= set(model.get_config())


# The thresholds' edges


@pytest.mark.parametrize(
    ("accuracy", "late", "ill"),
    [(0.98, 1.0, True), (0.979, 1.0, False), (1.0, 1.01, False), (1.0, 0.0, True)],
)
def test_vanishing_gradients_need_a_saturated_discriminator_and_a_twentieth(
    accuracy: float, late: float, ill: bool
) -> None:
    """20 at the start / 20 = 1."""
    rows = rows_of(
        discriminator_accuracy=[0.5, 0.6, 0.7] + [accuracy] * 5,
        generator_gradient_norm=[5.0, 20.0, 2.0] + [late] * 5,
    )
    assert (names(rows) == ["vanishing gradients"]) is ill
    assert names(rows[:-1]) == []  # four rows are not enough


@pytest.mark.parametrize(
    ("best", "late", "ill"),
    [
        (0.9, 0.249, True),
        (0.9, 0.25, False),
        (0.4, 0.199, True),
        (0.4, 0.2, False),  # half of its best
        (0.249, 0.01, False),  # it had never been more than a beginning
    ],
)
def test_a_fall_of_diversity_is_low_and_far_below_the_best(best: float, late: float, ill: bool) -> None:
    rows = rows_of(diversity=[0.1, best, best] + [late] * 5)
    assert (names(rows) == ["mode collapse"]) is ill
    assert names(rows[:-1]) == []


def test_one_row_of_diversity_between_breaks_the_window() -> None:
    assert names(rows_of(diversity=[0.9, 0.9, 0.1, 0.1, 0.1, 0.6, 0.1])) == []


def test_a_beginning_of_one_image_is_given_20_rows_and_500_steps() -> None:
    sparse = rows_of(diversity=[0.019] * 20)
    assert names(sparse[:19]) == []
    assert names(sparse) == ["mode collapse"]
    dense = [{"step": float(step), "diversity": 0.019} for step in range(1, 505)]
    assert names(dense[:503]) == []
    assert names(dense) == ["mode collapse"]  # the first of the last five rows is of step 500
    assert names(rows_of(diversity=[0.02] * 40)) == []


def test_oscillation_is_four_wide_swings_within_16_rows() -> None:
    assert names(rows_of(discriminator_accuracy=[0.75, 0.9, 0.75, 0.9, 0.75])) == ["oscillation"]
    assert names(rows_of(discriminator_accuracy=[0.75, 0.9, 0.75, 0.9])) == []
    assert names(rows_of(discriminator_accuracy=[0.75, 0.89] * 8)) == []
    slow = np.repeat([0.5, 0.9, 0.5, 0.9, 0.5], 4)  # five levels of four rows: 16 rows hold four, three swings
    assert names(rows_of(discriminator_accuracy=slow.tolist())[:16]) == []
    assert names(rows_of(discriminator_accuracy=[0.9] + [0.95] * 3 + slow.tolist() + [0.5] * 12)) == []


def test_swings_are_counted_through_small_movements() -> None:
    """0.5 up to 0.9, with a step back of 0.1 on the way, down to 0.6, up to 0.8: three."""
    values = np.array([0.5, 0.7, 0.6, 0.9, 0.85, 0.6, 0.65, 0.8])
    assert swings(values, 0.15) == 3
    assert swings(values, 0.25) == 2
    assert swings(values, 0.45) == 0
    assert swings(-values, 0.15) == 3
    assert swings(np.array([0.5]), 0.15) == 0


def scored(train: float, held_out: float, fake: float, accuracy: float = 0.9) -> Rows:
    columns = {"train_score": train, "held_out_score": held_out, "fake_score": fake, "discriminator_accuracy": accuracy}
    return rows_of(**{name: [value] * 5 for name, value in columns.items()})


def test_memorizing_is_a_gap_of_a_fifth_between_probabilities() -> None:
    ill = scored(0.75, 0.5, 0.25)
    assert names(ill) == ["memorizing discriminator"]
    assert names(ill[:4]) == []
    assert names(scored(0.75, 0.56, 0.25)) == []
    assert names(scored(0.5, 0.75, 0.25)) == []  # D prefers images it has not seen
    assert names([*ill[:-1], ill[-1] | {"held_out_score": 0.7}]) == []


@pytest.mark.parametrize(
    ("train", "held_out", "fake", "accuracy", "ill"),
    [
        (3.0, 1.0, -2.0, 0.9, True),  # a gap of 2 on a way of 5
        (3.0, 1.1, -2.0, 0.9, False),
        (0.3, 0.09, -0.2, 0.9, True),  # the same in other units
        (3.0, 1.0, -2.0, 0.59, False),
        (-2.0, -4.0, 3.0, 0.9, False),  # D takes generated images for real ones
        (1.0, 0.0, 1.0, 0.9, False),
    ],
)
def test_memorizing_in_logits_is_measured_by_the_way_to_generated_images(
    train: float, held_out: float, fake: float, accuracy: float, ill: bool
) -> None:
    assert (names(scored(train, held_out, fake, accuracy), probabilities=False) == ["memorizing discriminator"]) is ill


def idle(share: float, divergence: float, count: int = 5, first: float = 1000.0) -> Rows:
    """15 rows of a run in which every latent is in use, then `count` rows 10 steps apart, the first at step `first`."""
    late = [{"step": first + 10 * row, "active_unit_share": share, "divergence": divergence} for row in range(count)]
    return [{"step": 1.0 + row, "active_unit_share": 1.0, "divergence": 20.0} for row in range(15)] + late


@pytest.mark.parametrize(
    ("share", "divergence", "ill"),
    [(0.105, 3.0, True), (0.106, 0.5, False), (0.1, 3.01, False), (0.0, 0.0, True)],
)
def test_posterior_collapse_is_few_latents_that_say_little(share: float, divergence: float, ill: bool) -> None:
    """A tenth of very many latents may say enough: their share alone is no illness."""
    rows = idle(share, divergence)
    assert (names(rows) == ["posterior collapse"]) is ill
    assert names(rows[:-1]) == []
    assert names([*rows[:-1], rows[-1] | {"active_unit_share": 0.2}]) == []
    assert names([*rows[:-1], rows[-1] | {"divergence": 9.0}]) == []


def test_idle_latents_are_given_20_rows_and_1000_steps() -> None:
    assert names(idle(0.0, 0.1)[1:]) == []
    assert names(idle(0.0, 0.1, first=999.0)) == []
    assert names(idle(0.0, 0.1, count=6, first=999.0)) == ["posterior collapse"]
    waking = log("vae_late")
    assert max(row["active_unit_share"] for row in waking[1:13]) == 0.0  # 12 rows: only the grace keeps it silent


def test_samples_of_a_vae_are_smooth_and_no_mode_collapse() -> None:
    """The diversity of both is that of a collapsed G, whose remedies a VAE has no options for."""
    for name in ("vae_late", "vae_collapsed"):
        bare = [{key: value for key, value in row.items() if key in ("step", "diversity")} for row in log(name)]
        assert [found for found, _ in begun(bare)] == ["mode collapse"]
        assert "mode collapse" not in [found for found, _ in begun(log(name))]


# What a log may lack


def test_a_rule_does_not_apply_without_its_columns() -> None:
    for rule in stability.RULES:
        for column in set(rule.columns) - {"step"}:
            for name in ("saturated", "collapsed", "oscillating", "memorizing", "vae_collapsed"):
                bare = [{key: value for key, value in row.items() if key != column} for row in log(name)]
                assert rule.name not in [found for found, _ in begun(bare)]


def test_other_models_and_no_rows_and_one_row_are_silent() -> None:
    assert examine([]) == []
    assert history([]) == []
    assert names(rows_of(loss=[3.0, 2.0, 1.0] * 10, kl=[0.1])) == []
    for name in ("saturated", "collapsed", "one_image", "oscillating", "memorizing", "vae_collapsed"):
        assert names(log(name)[:1]) == []
        assert names(log(name)[-1:]) == []


def test_rows_that_are_no_numbers_are_passed_over() -> None:
    rows = log("saturated")
    rows[20]["generator_gradient_norm"] = float("nan")
    rows[22]["discriminator_accuracy"] = float("inf")
    del rows[24]["generator_gradient_norm"]
    assert begun(rows) == [("vanishing gradients", 140)]
    assert names(rows[:21]) == []  # nothing is known of the last row
    assert names(rows[:22]) == ["vanishing gradients"]
    assert names([dict.fromkeys(row, float("nan")) for row in rows]) == []


def test_columns_have_a_value_for_every_row() -> None:
    found = columns_of([{"step": 1.0}, {"step": 2.0, "loss": 0.5}])
    np.testing.assert_array_equal(found["step"], [1.0, 2.0])
    np.testing.assert_array_equal(found["loss"], [np.nan, 0.5])


# Telling once


def test_a_watch_tells_an_illness_once_while_it_lasts() -> None:
    rows, watch = log("saturated"), Watch()
    told = [illness.step for count in range(1, len(rows) + 1) for illness in watch.begun(rows[:count])]
    assert told == [140]


def test_an_illness_that_was_away_and_comes_back_is_told_again() -> None:
    """The first better row ends it, and five ill ones show it again: n better rows are n + 4 silent ones."""
    fall = [0.1] * 5
    again = rows_of(diversity=[0.8, 0.8, *fall, *[0.8] * 6, *fall])
    assert begun(again) == [("mode collapse", 700), ("mode collapse", 1800)]
    for better in (1, 5):
        assert begun(rows_of(diversity=[0.8, 0.8, *fall, *[0.8] * better, *fall])) == [("mode collapse", 700)]


def test_a_resumed_run_is_not_told_again() -> None:
    rows = log("saturated")
    watch = Watch(rows=rows[:15])
    assert [illness for count in range(16, 31) for illness in watch.begun(rows[:count])] == []
    earlier = Watch(rows=rows[:5])
    assert [illness.step for count in range(6, 31) for illness in earlier.begun(rows[:count])] == [140]


# Files


def test_a_log_is_read_as_numbers_and_a_torn_line_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    assert read_log(path) == []
    path.write_text("step,seconds,loss\n1,0.5,2.5\n2,1.0,nan\n3,1.5,\n4,2.0\n,2.5,1.0\n5,3.0,1.5,9\n")
    rows = read_log(path)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0] == {"step": 1.0, "seconds": 0.5, "loss": 2.5}
    assert np.isnan([row["loss"] for row in rows[1:4]]).all()
    assert rows[4] == {"step": 5.0, "seconds": 3.0, "loss": 1.5}


def test_scores_are_probabilities_where_the_loss_makes_them() -> None:
    expected = {name for name, loss in ADVERSARIAL_LOSSES.items() if loss.score is probability}
    assert {name for name in ADVERSARIAL_LOSSES if probabilities_of({"model": {"loss": name}})} == expected
    assert not probabilities_of({})
