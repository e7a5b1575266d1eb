"""Names what is wrong with a training run, from the rows of its log.csv.

Four illnesses of adversarial training (GAN, arXiv:1406.2661, sections 3 and 6, names the first two): the generator gets
no gradient; it draws one image whatever the latent; the two players chase each other; the discriminator knows its
images by heart. And one of variational autoencoders: no latent says anything of the image (arXiv:1511.06349,
section 3.1). A rule looks at the last rows, never at a single one, and does not apply to a log without its columns. The
thresholds were set on short runs of small models, healthy and spoilt on purpose; the tests keep one of each.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.training.log import Log, columns_of

PROBABILITY_LOSSES = ("minimax", "non_saturating")  # of zoo.core.losses.ADVERSARIAL_LOSSES
WINDOW = 5  # rows that must agree: the widest single outlier of the healthy runs spanned 2
AWAY = 2 * WINDOW  # rows; a single better row silences a rule for a window, and is no recovery
FIRST = 5  # rows that say how large G's gradient is while D still learns
SATURATED = 0.98  # share of right answers; healthy runs pass through it while D is ahead, so it is not enough alone
VANISHED = 1 / 20  # of the largest of the first rows; it fell to 0.3 of that in healthy runs, to 0.0005 in ill ones
DIVERSE = 0.25  # a generator that has been above it had left the one gray image that all begin with
FALLEN = 0.5  # of the best it had; in healthy runs diversity fell back to 0.7 of it
SINGLE = 0.02  # a healthy generator can be near it for long: dense networks stayed at 0.04 for 400 steps
GRACE_ROWS = 20  # before them a low diversity is only a beginning
GRACE_STEPS = 500  # likewise, where rows are dense; healthy runs had left SINGLE by step 40
SWUNG = 16  # rows that are searched for swings
SWING = 0.15  # of D's accuracy; a healthy run turned as often by 0.05
SWINGS = 4  # up, down, up, down
MEMORIZED = 0.2  # of probability, training images ahead of held-out ones; at most 0.05 for a healthy window
MEMORISED_SHARE = 0.4  # of the way from training to generated images, for scores without a scale; 0.1 when healthy
DISCERNING = 0.6  # accuracy below which that way is too short to measure by: D tells nothing apart
IDLE = 0.105  # share of latents in use, a tenth however it is rounded; healthy runs ended above 0.4, ill ones at 0.1
LITTLE = 3.0  # nats: what two latents say in a healthy run; of very many latents, a tenth may say enough
LATENT_GRACE_STEPS = 1000  # with beta = 4 all of 128 latents lay idle from step 80 to 520, and came back


@dataclass(frozen=True)
class Illness:
    """What the log shows."""

    name: str
    step: int
    """Of the row that showed it."""
    evidence: str
    """One sentence with the numbers."""
    remedy: str
    """What to try; names of the command line and of the library stand between backticks."""


@dataclass(frozen=True)
class Rule:
    """How one illness is told.

    Args:
        name: of the illness.
        columns: of log.csv that it needs.
        evidence: (log, whether D(x) is a probability) -> the evidence at the last row; None where there is none. Every
            value of `columns` is finite.
        remedy: what to try.
        unless: columns of log.csv that tell another kind of model, whose logs the rule passes over.
    """

    name: str
    columns: tuple[str, ...]
    evidence: Callable[[Log, bool], str | None]
    remedy: str
    unless: tuple[str, ...] = ()


def vanishing_gradients(log: Log, probabilities: bool) -> str | None:
    """D is always right, and G's gradient is a small part of what it was.

    The size of G's update would not do: Adam divides by the gradient's size, and learning-rate decay shrinks it too.
    """
    accuracy, norm = log["discriminator_accuracy"], log["generator_gradient_norm"]
    if len(norm) <= WINDOW:
        return None
    began, right, late = norm[:FIRST].max(), accuracy[-WINDOW:].min(), norm[-WINDOW:].max()
    if right < SATURATED or late > VANISHED * began:
        return None
    return (
        f"For {WINDOW} rows D has been right about at least {math.floor(1000 * right) / 10:g} % of its images, and "
        f"the norm of G's gradient, up to {began:.3g} at the start, has been at most {late:.3g}."
    )


def mode_collapse(log: Log, probabilities: bool) -> str | None:
    """G's samples were different from each other and no longer are, or never became so."""
    step, diversity = log["step"], log["diversity"]
    if len(diversity) < WINDOW:
        return None
    best, late = diversity.max(), diversity[-WINDOW:].max()
    if best >= DIVERSE and late < min(DIVERSE, FALLEN * best):
        before = f"; it had been {best:.2g} times as far."
    elif len(diversity) >= GRACE_ROWS and step[-WINDOW] >= GRACE_STEPS and late < SINGLE:
        before = f", after {step[-1]:.0f} steps still."
    else:
        return None
    return (
        f"For {WINDOW} rows a sample has been at most {late:.2g} times as far from its nearest other sample as "
        f"training images are from theirs{before}"
    )


def oscillation(log: Log, probabilities: bool) -> str | None:
    """D's accuracy swings widely and turns again and again: each player undoes what the other did."""
    accuracy = log["discriminator_accuracy"][-SWUNG:]
    turns = swings(accuracy, SWING)
    if turns < SWINGS:
        return None
    return (
        f"Within {len(accuracy)} rows the share of images D is right about went up or down by at least {SWING:.0%} "
        f"{turns} times in turn, between {accuracy.min():.0%} and {accuracy.max():.0%}."
    )


def memorizing_discriminator(log: Log, probabilities: bool) -> str | None:
    """D prefers the images it was trained on to others of the same kind.

    Bare logits have no scale: there the gap is measured by the distance from training to generated images, which is
    r_v of arXiv:2006.06676, eq. 1.
    """
    if len(log["step"]) < WINDOW:
        return None
    train, held_out, fake, accuracy = (log[name][-WINDOW:] for name in MEMORISING_COLUMNS)
    gap = train - held_out
    shown = f"D scores training images {train[-1]:.3g} and held-out ones {held_out[-1]:.3g}; for {WINDOW} rows the gap"
    if probabilities:
        return f"{shown} has been {gap.min():.2g} or more." if gap.min() >= MEMORIZED else None
    distance = train - fake
    if accuracy.min() < DISCERNING or distance.min() <= 0.0 or (gap / distance).min() < MEMORISED_SHARE:
        return None
    share = (gap / distance).min()
    return f"{shown} has been at least {share:.0%} of the distance from training images to generated ones."


def posterior_collapse(log: Log, probabilities: bool) -> str | None:
    """Hardly a latent's mean depends on the image, and together they say next to nothing."""
    step, share, divergence = log["step"], log["active_unit_share"], log["divergence"]
    if len(step) < GRACE_ROWS or step[-WINDOW] < LATENT_GRACE_STEPS:
        return None
    used, said = share[-WINDOW:].max(), divergence[-WINDOW:].max()
    if used > IDLE or said > LITTLE:
        return None
    return (
        f"For {WINDOW} rows at most {used:.2g} of the latents have had a mean that depends on the image, and all of "
        f"them together have said at most {said:.2g} nats of it."
    )


def swings(values: np.ndarray, least: float) -> int:
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


MEMORISING_COLUMNS = ("train_score", "held_out_score", "fake_score", "discriminator_accuracy")
RULES = (
    Rule(
        "vanishing gradients",
        ("step", "discriminator_accuracy", "generator_gradient_norm"),
        vanishing_gradients,
        "Give G a loss that does not saturate (`--model loss=non_saturating`, `hinge` or `least_squares`), blur what D "
        "sees (`--model \"stabilizers={'instance_noise': 0.1}\"`), or slow D down: a lower "
        "`--optimizers.discriminator.learning-rate` than G's, or fewer `discriminator_steps`.",
    ),
    Rule(
        "mode collapse",
        ("step", "diversity"),
        mode_collapse,
        "Lower `--optimizers.generator.learning-rate`, or let D keep up (`--model discriminator_steps=2`, a larger "
        "`--batch-size`). Let D see that a batch is all alike (`--model minibatch=stddev`), or hold its slope "
        "(`--model discriminator_norm=none \"stabilizers={'r1': 10.0}\"`).",
        unless=("divergence",),  # a VAE's means are smooth, and nearer to each other than images are
    ),
    Rule(
        "oscillation",
        ("step", "discriminator_accuracy"),
        oscillation,
        "Lower both learning rates or decay them, use a `beta-1` of 0.5 or less, clip gradients "
        "(`--optimizers.discriminator.global-clipnorm 1`), or take a larger `--batch-size`; "
        "`--model ema_decay=0.999` samples the average of G over the swings.",
    ),
    Rule(
        "memorizing discriminator",
        ("step", *MEMORISING_COLUMNS),
        memorizing_discriminator,
        "Train on more images or for fewer steps: an earlier checkpoint may be the better one. Show D an image in "
        "many ways (`--model \"stabilizers={'augment': 'color,translation,cutout'}\"`), or weaken it "
        "(`--model dropout=0.3`, `discriminator_norm=spectral`).",
    ),
    Rule(
        "posterior collapse",
        ("step", "active_unit_share", "divergence"),
        posterior_collapse,
        "Weigh the divergence less (a smaller `--model beta=...`), let its weight grow from 0 "
        "(`--model warmup_steps=...`, a tenth of the steps or more), or let each latent say so many nats for nothing "
        "(`--model free_bits=...`, such as 0.1).",
    ),
)
A_CRITIC = (
    " This model's D goes by the name of critic (`--optimizers.critic...`, `--model critic_steps=...`), and has no "
    "choice of loss or norm: both follow from `constraint`."
)


def probabilities_of(config: Mapping[str, Any]) -> bool:
    """Whether scores are probabilities in a run of this config.json; otherwise they are bare logits."""
    return config.get("model", {}).get("loss") in PROBABILITY_LOSSES


def examine(rows: Sequence[Mapping[str, float]], probabilities: bool = True) -> list[Illness]:
    """What the log shows at its last row.

    Args:
        rows: of log.csv, oldest first. A rule passes over rows that lack a number in one of its columns, and is silent
            where the last row does.
        probabilities: whether scores are probabilities (losses "minimax" and "non_saturating") or bare logits.
    """
    return examine_columns(columns_of(rows), probabilities)


def examine_columns(log: Log, probabilities: bool) -> list[Illness]:
    """`examine`, the log given by its columns."""
    found = []
    for rule in RULES:
        if not set(rule.columns) <= set(log) or set(rule.unless) & set(log):
            continue
        whole: np.ndarray = np.isfinite(np.stack([log[name] for name in rule.columns])).all(axis=0)
        if not len(whole) or not whole[-1]:
            continue
        evidence = rule.evidence({name: log[name][whole] for name in rule.columns}, probabilities)
        if evidence is not None:
            remedy = rule.remedy + A_CRITIC * ("critic_loss" in log)
            found.append(Illness(rule.name, int(log["step"][-1]), evidence, remedy))
    return found


class Watch:
    """Tells every illness once, at the row where it begins; again if it was away for `AWAY` rows and came back.

    Args:
        probabilities: see `examine`.
        rows: of a run that is resumed: what they show has been told.
    """

    def __init__(self, probabilities: bool = True, rows: Sequence[Mapping[str, float]] = ()):
        self.probabilities = probabilities
        self.last_shown: dict[str, int] = {}
        """Illness -> number of the last row that showed it."""
        self.observe(rows)

    def begun(self, rows: Sequence[Mapping[str, float]]) -> list[Illness]:
        """The illnesses that begin at the last of `rows`; to be called at every row."""
        return self.news(columns_of(rows), len(rows))

    def observe(self, rows: Sequence[Mapping[str, float]]) -> list[Illness]:
        """Every illness that begins at one of `rows`, oldest first."""
        log = columns_of(rows)
        return [
            illness
            for count in range(1, len(rows) + 1)
            for illness in self.news({name: values[:count] for name, values in log.items()}, count)
        ]

    def news(self, log: Log, count: int) -> list[Illness]:
        """Those that begin at row number `count`, the last of `log`."""
        shown = examine_columns(log, self.probabilities)
        new = [illness for illness in shown if count - self.last_shown.get(illness.name, -AWAY) > AWAY]
        self.last_shown.update((illness.name, count) for illness in shown)
        return new


def history(rows: Sequence[Mapping[str, float]], probabilities: bool = True) -> list[Illness]:
    """Every illness of a run, each with the step at which it began, oldest first."""
    return Watch(probabilities).observe(rows)
