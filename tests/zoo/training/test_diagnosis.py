"""Every failure mode is detected in real logs of it, at the step where it shows, and in no log of a stable run.

The logs beside this file are of GANs on the embedded images at 16x16, width 16, latent_dim 100, batches of 64,
seed 0, Adam 2e-4 with beta_1 0.5, loss "non_saturating", schedule "shared", ema_decay 0.999, a row every 20 steps
(rounded to 4 digits), except for

stable             nothing
stable_mlp         architecture="mlp", width 128: its generator stays near one image for long
saturated          loss="minimax", the discriminator's learning rate 2e-3, the generator's 4e-5
collapsed          both learning rates 1e-2, beta_1 0.9, schedule="simultaneous", no average: from step 140 on the
                   generator draws fewer and fewer different images; it recovers at step 520
one_image          architecture="mlp", width 64, both learning rates 2e-3, beta_1 0.9, "simultaneous", no average:
                   the generator never draws a second image
oscillating        the generator's learning rate 5e-3, the discriminator's 5e-4, beta_1 0.9, "simultaneous", no average,
                   a row every 10 steps
memorizing         64 training images, batches of 32, a row every 40 steps
memorizing_hinge   the same, loss="hinge"

and of VAEs: the preset vae-fashion-mnist on the embedded images at 16x16, architecture="dense", hidden=(128,), Adam
1e-3, batches of 64, 1,200 steps, a row every 40, except for

vae                nothing
vae_collapsed      beta=100: every latent is inactive from step 600 on
vae_free_bits      beta=100, free_bits=1: all are active
vae_beta_10        likelihood="bernoulli", beta=10, 1,760 steps: from step 1360 on 2 of 20 are active
vae_recovering     latent_dim=128, likelihood="bernoulli", beta=4: all are inactive from step 80 to 520, and 2 of 5
                   are active at the end
"""

import ast
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from zoo.models.gan import GAN
from zoo.models.vae import VAE
from zoo.models.wgan import WGAN
from zoo.training.diagnosis import (
    RULES,
    ModelFacts,
    Monitor,
    Rule,
    count_swings,
    diagnose,
    diagnose_run,
    facts_of,
)
from zoo.training.log import columns_of, read_log

LOGS = Path(__file__).parent / "logs"
PROBABILITIES, LOGITS, NO_SCORES = ModelFacts("probability"), ModelFacts("logit"), ModelFacts(None)

Rows = list[dict[str, float]]


def log(name: str) -> Rows:
    rows = read_log(LOGS / f"{name}.csv")
    assert len(rows) >= 30
    return rows


def facts_of_log(name: str) -> ModelFacts:
    return NO_SCORES if name.startswith("vae") else LOGITS if name == "memorizing_hinge" else PROBABILITIES


def beginnings(rows: Rows, facts: ModelFacts = PROBABILITIES) -> list[tuple[str, int]]:
    return [(each.name, each.step) for each in diagnose_run(rows, facts)]


def names(rows: Sequence[Mapping[str, float]], facts: ModelFacts = PROBABILITIES) -> list[str]:
    return [each.name for each in diagnose(rows, facts)]


def rows_of(**columns: Sequence[float]) -> Rows:
    """Rows of a row every 100 steps; a column of one value holds it throughout."""
    count = max(len(values) for values in columns.values())
    whole = {name: list(values) * (count if len(values) == 1 else 1) for name, values in columns.items()}
    return [{"step": 100.0 * (row + 1)} | {name: whole[name][row] for name in whole} for row in range(count)]


# Real logs


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stable", []),
        ("stable_mlp", []),
        ("saturated", [("vanishing gradients", 140)]),
        # A generator that is stuck gets no gradient either: the discriminator has nothing left to learn from it.
        ("collapsed", [("mode collapse", 220), ("vanishing gradients", 340)]),
        ("one_image", [("mode collapse", 580)]),
        ("oscillating", [("oscillation", 90)]),
        ("memorizing", [("memorizing discriminator", 760)]),
        ("memorizing_hinge", [("memorizing discriminator", 720)]),
        ("vae", []),
        ("vae_collapsed", [("posterior collapse", 1160)]),
        ("vae_beta_10", [("posterior collapse", 1520)]),
        ("vae_free_bits", []),
        ("vae_recovering", []),
    ],
)
def test_each_failure_mode_is_detected_in_its_log_and_in_no_other(name: str, expected: list[tuple[str, int]]) -> None:
    assert beginnings(log(name), facts_of_log(name)) == expected


def test_a_run_that_recovers_shows_no_failure_mode_at_its_end() -> None:
    """Diversity is back at 0.48, the discriminator's accuracy at 0.995, the generator's gradient at 13 of 63."""
    rows = log("collapsed")
    assert names(rows[:20]) == ["vanishing gradients", "mode collapse"]
    assert names(rows) == []


def test_evidence_has_the_numbers_and_mitigations_name_options() -> None:
    (saturated,) = diagnose(log("saturated"))
    assert saturated.step == 600
    assert saturated.evidence == (
        "For 5 rows the discriminator's accuracy has been at least 100 %, and the norm of the generator's gradient, up "
        "to 1.09 at the start, has been at most 0.00056."
    )
    assert "`--model.loss non_saturating`" in saturated.mitigation
    (memorizing,) = diagnose(log("memorizing"), PROBABILITIES)
    assert memorizing.evidence == (
        "The discriminator's score is 0.666 on training images and 0.287 on held-out ones; for 5 rows the gap has been "
        "0.33 or more."
    )
    one = diagnose(log("one_image"))[0].evidence
    assert one.startswith("For 5 rows a sample has been at most 0 times as far from its nearest other sample")
    assert one.endswith("after 600 steps still.")
    swung = diagnose(log("oscillating")[:9])[0].evidence
    assert swung == (
        "Within 9 rows the discriminator's accuracy rose or fell by at least 15% 4 times in turn, between 43% and 100%."
    )
    (collapse,) = diagnose(log("vae_collapsed"), NO_SCORES)
    assert collapse.evidence == (
        "For 5 rows at most 0 of the latents have had a mean that depends on the image, and the KL divergence of all "
        "of them together has been at most 0.04 nats."
    )
    for option in ("`--model.beta`", "`--model.warmup-steps`", "`--model.free-bits 0.1`"):
        assert option in collapse.mitigation


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_what_a_mitigation_names_can_be_asked_for(rule: Rule) -> None:
    """Every option `--model.NAME` is an argument of the model, and takes the value that stands behind it."""
    build = partial(VAE, hidden=(4,), latent_dim=2) if rule.name == "posterior collapse" else partial(GAN, width=2)
    assert rule.mitigations
    for mitigation in rule.mitigations:
        text = mitigation.text.format(discriminator="discriminator")
        options = re.findall(r"--model\.([a-z0-9-]+) ?([^`\s]*)", text)
        assert bool(options) is bool(mitigation.argument)
        names = [name.replace("-", "_") for name, _ in options]
        arguments = {name: literal(value) for name, (_, value) in zip(names, options, strict=True) if value}
        config = build((16, 16, 1), **arguments).get_config()
        assert config.items() >= arguments.items()
        assert {*names, *([mitigation.argument.format(discriminator="discriminator")] if options else [])} <= set(
            config
        )


def literal(text: str) -> object:
    """The Python literal that `text` writes, or the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def test_a_mitigation_is_offered_to_models_that_take_it_and_names_their_player() -> None:
    model = WGAN((16, 16, 1), width=2)
    facts = ModelFacts("logit", frozenset(model.get_config()), tuple(model.players))
    (vanishing,) = diagnose(log("saturated"), facts)
    assert "`--optimizers.critic.learning-rate`" in vanishing.mitigation
    assert "`--model.critic-steps`" in vanishing.mitigation
    assert "--model.loss" not in vanishing.mitigation
    assert "discriminator_norm" not in vanishing.mitigation
    gan = GAN((16, 16, 1), width=2)
    (vanishing,) = diagnose(log("saturated"), ModelFacts("logit", frozenset(gan.get_config()), tuple(gan.players)))
    assert "critic" not in vanishing.mitigation
    assert "`--model.loss non_saturating`" in vanishing.mitigation


# The thresholds' edges


@pytest.mark.parametrize(
    ("accuracy", "late", "detected"),
    [(0.98, 1.0, True), (0.979, 1.0, False), (1.0, 1.01, False), (1.0, 0.0, True)],
)
def test_vanishing_gradients_need_a_saturated_discriminator_and_a_twentieth(
    accuracy: float, late: float, detected: bool
) -> None:
    """20 at the start / 20 = 1."""
    rows = rows_of(
        discriminator_accuracy=[0.5, 0.6, 0.7] + [accuracy] * 5,
        generator_gradient_norm=[5.0, 20.0, 2.0] + [late] * 5,
    )
    assert (names(rows) == ["vanishing gradients"]) is detected
    assert names(rows[:-1]) == []  # four rows are not enough


@pytest.mark.parametrize(
    ("best", "late", "detected"),
    [
        (0.9, 0.249, True),
        (0.9, 0.25, False),
        (0.4, 0.199, True),
        (0.4, 0.2, False),  # half of its best
        (0.249, 0.01, False),  # it had never been more than a beginning
    ],
)
def test_a_fall_of_diversity_is_low_and_far_below_the_best(best: float, late: float, detected: bool) -> None:
    rows = rows_of(diversity=[0.1, best, best] + [late] * 5)
    assert (names(rows) == ["mode collapse"]) is detected
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
    assert count_swings(values, 0.15) == 3
    assert count_swings(values, 0.25) == 2
    assert count_swings(values, 0.45) == 0
    assert count_swings(-values, 0.15) == 3
    assert count_swings(np.array([0.5]), 0.15) == 0


def scored(train: float, held_out: float, fake: float, accuracy: float = 0.9) -> Rows:
    columns = {"train_score": train, "held_out_score": held_out, "fake_score": fake, "discriminator_accuracy": accuracy}
    return rows_of(**{name: [value] * 5 for name, value in columns.items()})


def test_memorizing_is_a_gap_of_a_fifth_between_probabilities() -> None:
    memorizing = scored(0.75, 0.5, 0.25)
    assert names(memorizing) == ["memorizing discriminator"]
    assert names(memorizing[:4]) == []
    assert names(scored(0.75, 0.56, 0.25)) == []
    assert names(scored(0.5, 0.75, 0.25)) == []  # the discriminator prefers held-out images
    assert names([*memorizing[:-1], memorizing[-1] | {"held_out_score": 0.7}]) == []


@pytest.mark.parametrize(
    ("train", "held_out", "fake", "accuracy", "detected"),
    [
        (3.0, 1.0, -2.0, 0.9, True),  # a gap of 2 at a distance of 5
        (3.0, 1.1, -2.0, 0.9, False),
        (0.3, 0.09, -0.2, 0.9, True),  # the same in other units
        (3.0, 1.0, -2.0, 0.59, False),
        (-2.0, -4.0, 3.0, 0.9, False),  # generated images score higher than real ones
        (1.0, 0.0, 1.0, 0.9, False),
    ],
)
def test_memorizing_in_logits_is_measured_by_the_distance_to_generated_images(
    train: float, held_out: float, fake: float, accuracy: float, detected: bool
) -> None:
    assert (names(scored(train, held_out, fake, accuracy), LOGITS) == ["memorizing discriminator"]) is detected


def inactive(share: float, divergence: float, count: int = 5, first: float = 1000.0) -> Rows:
    """15 rows of a run in which every latent is active, then `count` rows 10 steps apart, the first at step `first`."""
    late = [{"step": first + 10 * row, "active_unit_share": share, "divergence": divergence} for row in range(count)]
    return [{"step": 1.0 + row, "active_unit_share": 1.0, "divergence": 20.0} for row in range(15)] + late


@pytest.mark.parametrize(
    ("share", "divergence", "detected"),
    [(0.105, 3.0, True), (0.106, 0.5, False), (0.1, 3.01, False), (0.0, 0.0, True)],
)
def test_posterior_collapse_is_few_active_latents_of_little_divergence(
    share: float, divergence: float, detected: bool
) -> None:
    """A tenth of very many latents may carry enough: their share alone is no failure mode."""
    rows = inactive(share, divergence)
    assert (names(rows) == ["posterior collapse"]) is detected
    assert names(rows[:-1]) == []
    assert names([*rows[:-1], rows[-1] | {"active_unit_share": 0.2}]) == []
    assert names([*rows[:-1], rows[-1] | {"divergence": 9.0}]) == []


def test_inactive_latents_are_given_20_rows_and_1000_steps() -> None:
    assert names(inactive(0.0, 0.1)[1:]) == []
    assert names(inactive(0.0, 0.1, first=999.0)) == []
    assert names(inactive(0.0, 0.1, count=6, first=999.0)) == ["posterior collapse"]
    recovering = log("vae_recovering")
    assert max(row["active_unit_share"] for row in recovering[1:13]) == 0.0  # 12 rows: only the grace keeps it silent


def test_samples_of_a_vae_are_smooth_and_no_mode_collapse() -> None:
    """The diversity of both is that of a collapsed generator, whose mitigations a VAE has no options for."""
    for name in ("vae_recovering", "vae_collapsed"):
        bare = [{key: value for key, value in row.items() if key in ("step", "diversity")} for row in log(name)]
        assert [found for found, _ in beginnings(bare)] == ["mode collapse"]
        assert beginnings(bare, NO_SCORES) == []
        assert "mode collapse" not in [found for found, _ in beginnings(log(name), NO_SCORES)]


# What a log may lack


def test_a_rule_does_not_apply_without_its_columns() -> None:
    for rule in RULES:
        for column in set(rule.columns) - {"step"}:
            for name in ("saturated", "collapsed", "oscillating", "memorizing", "vae_collapsed"):
                bare = [{key: value for key, value in row.items() if key != column} for row in log(name)]
                assert rule.name not in [found for found, _ in beginnings(bare)]


def test_other_models_and_no_rows_and_one_row_are_silent() -> None:
    assert diagnose([]) == []
    assert diagnose_run([]) == []
    assert names(rows_of(loss=[3.0, 2.0, 1.0] * 10, kl=[0.1])) == []
    for name in ("saturated", "collapsed", "one_image", "oscillating", "memorizing", "vae_collapsed"):
        assert names(log(name)[:1]) == []
        assert names(log(name)[-1:]) == []


def test_rows_that_are_no_numbers_are_passed_over() -> None:
    rows = log("saturated")
    rows[20]["generator_gradient_norm"] = float("nan")
    rows[22]["discriminator_accuracy"] = float("inf")
    del rows[24]["generator_gradient_norm"]
    assert beginnings(rows) == [("vanishing gradients", 140)]
    assert names(rows[:21]) == []  # nothing is known of the last row
    assert names(rows[:22]) == ["vanishing gradients"]
    assert names([dict.fromkeys(row, float("nan")) for row in rows]) == []


def test_columns_have_a_value_for_every_row() -> None:
    found = columns_of([{"step": 1.0}, {"step": 2.0, "loss": 0.5}])
    np.testing.assert_array_equal(found["step"], [1.0, 2.0])
    np.testing.assert_array_equal(found["loss"], [np.nan, 0.5])


# Reporting once


def test_a_monitor_reports_a_failure_mode_once_while_it_lasts() -> None:
    rows, monitor = log("saturated"), Monitor()
    steps = [each.step for count in range(1, len(rows) + 1) for each in monitor.update(rows[:count])]
    assert steps == [140]


def test_a_failure_mode_that_ended_and_comes_back_is_reported_again() -> None:
    """The first better row ends it, and five bad ones show it again: n better rows are n + 4 silent ones."""
    fall = [0.1] * 5
    again = rows_of(diversity=[0.8, 0.8, *fall, *[0.8] * 6, *fall])
    assert beginnings(again) == [("mode collapse", 700), ("mode collapse", 1800)]
    for better in (1, 5):
        assert beginnings(rows_of(diversity=[0.8, 0.8, *fall, *[0.8] * better, *fall])) == [("mode collapse", 700)]


def test_a_resumed_run_is_not_reported_again() -> None:
    rows = log("saturated")
    monitor = Monitor(rows=rows[:15])
    assert [each for count in range(16, 31) for each in monitor.update(rows[:count])] == []
    earlier = Monitor(rows=rows[:5])
    assert [each.step for count in range(6, 31) for each in earlier.update(rows[:count])] == [140]


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


def test_facts_are_what_the_configuration_declares() -> None:
    config = {
        "model_facts": {"score_kind": "probability"},
        "model": {"loss": "minimax", "width": 8},
        "optimizers": {"discriminator": "Adam", "generator": "Adam"},
    }
    facts = facts_of(config)
    assert facts == ModelFacts("probability", frozenset({"loss", "width"}), ("discriminator", "generator"))
    assert facts_of({}) == ModelFacts("logit")
    assert facts_of({"model_facts": {"score_kind": None}}).score_kind is None
    assert facts_of({"optimizers": {"generator": "Adam", "critic": "Adam"}}).discriminator == "critic"
