"""Names the failure modes of a training run from the rows of its log.csv, and says what to try.

Four failure modes of adversarial training (GAN, arXiv:1406.2661, sections 3 and 6, names the first two): the generator
gets no gradient; it draws one image whatever the latent; the two players oscillate; the discriminator memorizes its
training images. And one of variational autoencoders: no latent carries information about the image (arXiv:1511.06349,
section 3.1). A rule looks at the last rows, never at a single one, and does not apply to a log without its columns. The
thresholds were set on short runs of small models, stable ones and ones made to fail on purpose; the tests keep logs of
both.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from zoo.training.log import Log, columns_of

ScoreKind = Literal["probability", "logit"]

WINDOW = 5  # rows that must agree: the widest single outlier of the stable runs spanned 2
QUIET_ROWS = 2 * WINDOW  # a single better row silences a rule for a window, and is no recovery
INITIAL_ROWS = 5  # say how large the generator's gradient is while the discriminator still learns
SATURATED_ACCURACY = 0.98  # stable runs pass through it early on, so accuracy alone is not enough
VANISHED_SHARE = 1 / 20  # of the largest initial gradient; stable runs fell to 0.3 of that, failed ones to 0.0005
DIVERSE = 0.25  # a generator that has been above it had left the one gray image that all begin with
COLLAPSED_SHARE = 0.5  # of the best diversity; in stable runs it fell back to 0.7 of it
SINGLE_IMAGE_DIVERSITY = 0.02  # a sound generator can be near it for long: dense networks stayed at 0.04 for 400 steps
GRACE_ROWS = 20  # before them a low diversity is only a beginning
GRACE_STEPS = 500  # likewise, where rows are dense; stable runs had left SINGLE_IMAGE_DIVERSITY by step 40
OSCILLATION_ROWS = 16  # are searched for swings
SWING_SIZE = 0.15  # of the discriminator's accuracy; a stable run turned as often by 0.05
SWING_COUNT = 4  # up, down, up, down
MEMORIZATION_GAP = 0.2  # of probability, training images above held-out ones; at most 0.05 in a stable window
MEMORIZATION_SHARE = 0.4  # of the distance from training to generated images, for logits; 0.1 in stable runs
DISCERNING_ACCURACY = 0.6  # below it that distance is too short to measure by
INACTIVE_SHARE = 0.105  # of active latents, a tenth however it is rounded; sound runs ended above 0.4, collapsed at 0.1
UNINFORMATIVE_NATS = 3.0  # what two latents carry in a sound run; of very many latents, a tenth may carry enough
LATENT_GRACE_STEPS = 1000  # with beta = 4 all of 128 latents were inactive from step 80 to 520, and came back


@dataclass(frozen=True)
class ModelFacts:
    """What a run declares about its model; nothing here is guessed from the log.

    Args:
        score_kind: what the columns real_score, fake_score, train_score and held_out_score hold: the "probability"
            that an image is real, or a "logit", which has no scale; None for a model without a discriminator.
        arguments: names of the constructor's arguments; empty where they are not known.
        players: names of those that have an optimizer; empty where they are not known.
    """

    score_kind: ScoreKind | None = "logit"
    arguments: frozenset[str] = frozenset()
    players: tuple[str, ...] = ()

    @property
    def discriminator(self) -> str:
        """The name of the generator's opponent, in options: a Wasserstein model calls it the critic."""
        return next((player for player in self.players if player != "generator"), "discriminator")


UNDECLARED = ModelFacts()


@dataclass(frozen=True)
class FailureMode:
    """What the log shows."""

    name: str
    step: int
    """Of the row that showed it."""
    evidence: str
    """One sentence with the numbers."""
    mitigation: str
    """What to try; names of the command line stand between backticks."""


@dataclass(frozen=True)
class Mitigation:
    """One thing to try.

    Args:
        text: a sentence, "{discriminator}" in place of that player's name.
        argument: of the model's constructor that the sentence asks for; a model without it is not offered this.
    """

    text: str
    argument: str = ""


@dataclass(frozen=True)
class Rule:
    """How one failure mode is detected.

    Args:
        name: of the failure mode.
        columns: of log.csv that it needs.
        evidence: (log, score kind) -> the evidence at the last row; None where there is none. Every value of `columns`
            is finite.
        mitigations: what to try, most promising first.
        adversarial: whether it passes over models without a discriminator, although their logs have its columns.
    """

    name: str
    columns: tuple[str, ...]
    evidence: Callable[[Log, ScoreKind | None], str | None]
    mitigations: tuple[Mitigation, ...]
    adversarial: bool = False


def vanishing_gradients(log: Log, score_kind: ScoreKind | None) -> str | None:
    """The discriminator is always correct, and the generator's gradient is a small part of what it was.

    The size of the generator's update would not do: Adam divides by the gradient's size, and learning-rate decay
    shrinks it too.
    """
    accuracy, norm = log["discriminator_accuracy"], log["generator_gradient_norm"]
    if len(norm) <= WINDOW:
        return None
    initial, lowest, late = norm[:INITIAL_ROWS].max(), accuracy[-WINDOW:].min(), norm[-WINDOW:].max()
    if lowest < SATURATED_ACCURACY or late > VANISHED_SHARE * initial:
        return None
    return (
        f"For {WINDOW} rows the discriminator's accuracy has been at least {math.floor(1000 * lowest) / 10:g} %, and "
        f"the norm of the generator's gradient, up to {initial:.3g} at the start, has been at most {late:.3g}."
    )


def mode_collapse(log: Log, score_kind: ScoreKind | None) -> str | None:
    """Samples were different from each other and no longer are, or never became so."""
    step, diversity = log["step"], log["diversity"]
    if len(diversity) < WINDOW:
        return None
    best, late = diversity.max(), diversity[-WINDOW:].max()
    if best >= DIVERSE and late < min(DIVERSE, COLLAPSED_SHARE * best):
        before = f"; it had been {best:.2g} times as far."
    elif len(diversity) >= GRACE_ROWS and step[-WINDOW] >= GRACE_STEPS and late < SINGLE_IMAGE_DIVERSITY:
        before = f", after {step[-1]:.0f} steps still."
    else:
        return None
    return (
        f"For {WINDOW} rows a sample has been at most {late:.2g} times as far from its nearest other sample as "
        f"training images are from theirs{before}"
    )


def oscillation(log: Log, score_kind: ScoreKind | None) -> str | None:
    """The discriminator's accuracy swings widely, again and again: each player undoes the other's updates."""
    accuracy = log["discriminator_accuracy"][-OSCILLATION_ROWS:]
    count = count_swings(accuracy, SWING_SIZE)
    if count < SWING_COUNT:
        return None
    return (
        f"Within {len(accuracy)} rows the discriminator's accuracy rose or fell by at least {SWING_SIZE:.0%} "
        f"{count} times in turn, between {accuracy.min():.0%} and {accuracy.max():.0%}."
    )


def memorizing_discriminator(log: Log, score_kind: ScoreKind | None) -> str | None:
    """The discriminator prefers the images it was trained on to others of the same kind.

    Logits have no scale: there the gap is measured by the distance from training to generated images, which is
    r_v of arXiv:2006.06676, eq. 1.
    """
    if len(log["step"]) < WINDOW:
        return None
    train, held_out, fake, accuracy = (log[name][-WINDOW:] for name in MEMORIZATION_COLUMNS)
    gap = train - held_out
    last = (
        f"The discriminator's score is {train[-1]:.3g} on training images and {held_out[-1]:.3g} on held-out ones; for "
        f"{WINDOW} rows the gap"
    )
    if score_kind == "probability":
        return f"{last} has been {gap.min():.2g} or more." if gap.min() >= MEMORIZATION_GAP else None
    distance = train - fake
    if accuracy.min() < DISCERNING_ACCURACY or distance.min() <= 0.0 or (gap / distance).min() < MEMORIZATION_SHARE:
        return None
    share = (gap / distance).min()
    return f"{last} has been at least {share:.0%} of the distance from training images to generated ones."


def posterior_collapse(log: Log, score_kind: ScoreKind | None) -> str | None:
    """Hardly any latent's mean depends on the image, and together they carry next to no information."""
    step, share, divergence = log["step"], log["active_unit_share"], log["divergence"]
    if len(step) < GRACE_ROWS or step[-WINDOW] < LATENT_GRACE_STEPS:
        return None
    active, nats = share[-WINDOW:].max(), divergence[-WINDOW:].max()
    if active > INACTIVE_SHARE or nats > UNINFORMATIVE_NATS:
        return None
    return (
        f"For {WINDOW} rows at most {active:.2g} of the latents have had a mean that depends on the image, and the KL "
        f"divergence of all of them together has been at most {nats:.2g} nats."
    )


def count_swings(values: np.ndarray, least: float) -> int:
    """How often `values` go up or down by at least `least` in turn; smaller movements between do not count."""
    count, direction = 0, 0
    low = high = values[0]  # since the last turn
    for value in values[1:]:
        low, high = min(low, value), max(high, value)
        if direction <= 0 and value - low >= least:
            count, direction, high = count + 1, 1, value
        elif direction >= 0 and high - value >= least:
            count, direction, low = count + 1, -1, value
    return count


MEMORIZATION_COLUMNS = ("train_score", "held_out_score", "fake_score", "discriminator_accuracy")
RULES = (
    Rule(
        "vanishing gradients",
        ("step", "discriminator_accuracy", "generator_gradient_norm"),
        vanishing_gradients,
        (
            Mitigation(
                "Choose a loss that does not saturate: `--model.loss non_saturating`, `hinge` or `least_squares`.",
                "loss",
            ),
            Mitigation("Add noise to the discriminator's input: `--model.instance-noise 0.1`.", "instance_noise"),
            Mitigation(
                "Slow the discriminator down: give it a lower `--optimizers.{discriminator}.learning-rate` than the "
                "generator's."
            ),
            Mitigation("Update it less often: a smaller `--model.{discriminator}-steps`.", "{discriminator}_steps"),
        ),
    ),
    Rule(
        "mode collapse",
        ("step", "diversity"),
        mode_collapse,
        (
            Mitigation("Lower `--optimizers.generator.learning-rate`, or take a larger `--batch-size`."),
            Mitigation(
                "Update the discriminator more often: a larger `--model.{discriminator}-steps`.",
                "{discriminator}_steps",
            ),
            Mitigation(
                "Let the discriminator compare the images of a minibatch: `--model.minibatch stddev`.", "minibatch"
            ),
            Mitigation(
                "Penalize the discriminator's gradient: `--model.r1 10 --model.discriminator-norm none`.",
                "discriminator_norm",
            ),
        ),
        adversarial=True,  # the mean images of a likelihood model are smooth, and nearer to each other than real ones
    ),
    Rule(
        "oscillation",
        ("step", "discriminator_accuracy"),
        oscillation,
        (
            Mitigation("Lower both learning rates or let them decay, and use a `beta-1` of 0.5 or less."),
            Mitigation(
                "Clip gradients (`--optimizers.{discriminator}.global-clipnorm 1`), or take a larger `--batch-size`."
            ),
            Mitigation("Sample from an average of the generator's weights: `--model.ema-decay 0.999`.", "ema_decay"),
        ),
    ),
    Rule(
        "memorizing discriminator",
        ("step", *MEMORIZATION_COLUMNS),
        memorizing_discriminator,
        (
            Mitigation("Train on more images, or for fewer steps: an earlier checkpoint may be the better one."),
            Mitigation("Augment the discriminator's input: `--model.augment color,translation,cutout`.", "augment"),
            Mitigation("Regularize the discriminator with dropout: `--model.dropout 0.3`.", "dropout"),
            Mitigation("Use spectral normalization: `--model.discriminator-norm spectral`.", "discriminator_norm"),
        ),
    ),
    Rule(
        "posterior collapse",
        ("step", "active_unit_share", "divergence"),
        posterior_collapse,
        (
            Mitigation("Weigh the KL divergence less: a smaller `--model.beta`.", "beta"),
            Mitigation(
                "Let its weight grow from 0 over a tenth of the steps or more: `--model.warmup-steps`.", "warmup_steps"
            ),
            Mitigation("Leave some nats of each latent free of charge: `--model.free-bits 0.1`.", "free_bits"),
        ),
    ),
)


def facts_of(config: Mapping[str, Any]) -> ModelFacts:
    """What a run's config.json declares; scores are logits where it does not say what they are."""
    return ModelFacts(
        config.get("model_facts", {}).get("score_kind", "logit"),
        frozenset(config.get("model", {})),
        tuple(config.get("optimizers", {})),
    )


def diagnose(rows: Sequence[Mapping[str, float]], facts: ModelFacts = UNDECLARED) -> list[FailureMode]:
    """The failure modes that the log shows at its last row.

    Args:
        rows: of log.csv, oldest first. A rule passes over rows that lack a number in one of its columns, and is silent
            where the last row does.
        facts: of the model.
    """
    return diagnose_columns(columns_of(rows), facts)


def diagnose_columns(log: Log, facts: ModelFacts) -> list[FailureMode]:
    """`diagnose`, the log given by its columns."""
    found = []
    for rule in RULES:
        if not set(rule.columns) <= set(log) or (rule.adversarial and facts.score_kind is None):
            continue
        complete: np.ndarray = np.isfinite(np.stack([log[name] for name in rule.columns])).all(axis=0)
        if not len(complete) or not complete[-1]:
            continue
        evidence = rule.evidence({name: log[name][complete] for name in rule.columns}, facts.score_kind)
        if evidence is not None:
            found.append(FailureMode(rule.name, int(log["step"][-1]), evidence, write_mitigation(rule, facts)))
    return found


def write_mitigation(rule: Rule, facts: ModelFacts) -> str:
    """A rule's mitigations that a model of these facts can be asked for, as one paragraph."""
    name = facts.discriminator
    return " ".join(
        each.text.format(discriminator=name)
        for each in rule.mitigations
        if not (each.argument and facts.arguments) or each.argument.format(discriminator=name) in facts.arguments
    )


class Monitor:
    """Reports every failure mode once, at the row where it begins; again if it was gone for `QUIET_ROWS` rows.

    Args:
        facts: of the model.
        rows: of a run that is resumed: what they show has been reported.
    """

    def __init__(self, facts: ModelFacts = UNDECLARED, rows: Sequence[Mapping[str, float]] = ()):
        self.facts = facts
        self.last_row_of: dict[str, int] = {}
        """Failure mode -> number of the last row that showed it."""
        self.replay(rows)

    def update(self, rows: Sequence[Mapping[str, float]]) -> list[FailureMode]:
        """The failure modes that begin at the last of `rows`; to be called at every row."""
        return self.find_new(columns_of(rows), len(rows))

    def replay(self, rows: Sequence[Mapping[str, float]]) -> list[FailureMode]:
        """Every failure mode that begins at one of `rows`, oldest first."""
        log = columns_of(rows)
        return [
            failure_mode
            for count in range(1, len(rows) + 1)
            for failure_mode in self.find_new({name: values[:count] for name, values in log.items()}, count)
        ]

    def find_new(self, log: Log, count: int) -> list[FailureMode]:
        """Those that begin at row number `count`, the last of `log`."""
        present = diagnose_columns(log, self.facts)
        new = [each for each in present if count - self.last_row_of.get(each.name, -QUIET_ROWS) > QUIET_ROWS]
        self.last_row_of.update((each.name, count) for each in present)
        return new


def diagnose_run(rows: Sequence[Mapping[str, float]], facts: ModelFacts = UNDECLARED) -> list[FailureMode]:
    """Every failure mode of a run, each with the step at which it began, oldest first."""
    return Monitor(facts).replay(rows)
