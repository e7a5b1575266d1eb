"""Which score detects which failure mode of generated images?

    python -m studies.failure_modes
    python -m studies.failure_modes --data embedded --count 600 --baselines 5

No model is needed: real images, corrupted in known severities (`studies.corruptions`), stand for generated ones. One
half of the training split is the training set of a supposed model. The other half is cut into disjoint samples: all but
one are scored unmodified, as baselines: their mean and standard deviation are what a perfect model gets. The remaining
images are corrupted. Everything is compared with the test split.

A score detects a failure mode where its value is worse than the baselines' mean by more than 3 of their standard
deviations; what is worse is said by `Metric.better`. `birthday_batch` is compared by its logarithm: it is a size, and
baselines differ by factors. Scores that are blind to a failure mode are marked by chance all the same: about 1 in 100,
and 2 in 100 of those that should equal the floor, with 10 baselines. The row "unmodified" is such a case.

The classifier whose features are used was trained on the whole training split, so its probabilities are more confident
on training images than on held-out ones, for baselines and corrupted samples alike.

Prints two tables and what differs from `EXPECTED`; writes results/failure_modes.csv. No figure.
"""

import csv
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from studies.corruptions import CASES, OF_IMAGES, OF_SETS, SEVERITIES, UNMODIFIED, ImagePool, Sample
from zoo.data.load import load_images
from zoo.evaluation.extractors import ClassifierExtractor
from zoo.evaluation.scores import METRICS, ReferenceStatistics, compare
from zoo.presets.table import EXTRACTORS
from zoo.pretrained import find_directory

LOGARITHMIC = ("birthday_batch",)  # compared by their logarithms: 50 is as far from 500 as 500 from 5,000
DETECTED_FROM = 3.0  # standard deviations of the baselines
# EXPECTED has some 60 blind cells. A baseline is beyond 3 deviations of 8 others in 1.3 % of all cases, beyond 6 in
# 0.04 %, twice that in either direction (Student's t).
BEYOND_CHANCE = 6.0
POOL_SIZE = 2.4  # times the count: images of which a sample without half of the classes can be made
WIDTH = 190  # of the printed tables
COLUMNS = ("metric", "failure_mode", "severity", "value", "baseline_mean", "baseline_std", "detected", "deviations")


@dataclass(frozen=True)
class Options:
    """One table."""

    data: str = "fashion_mnist"
    """A data set with classes and a classifier of its own."""
    count: int = 2_400
    """Images of a sample."""
    baselines: int = 10
    """Unmodified samples that the others are compared with."""
    seed: int = 0
    """Of the cut into samples, noise, projections and subsets."""
    table: Path = Path("results/failure_modes.csv")
    """The table to write."""


@dataclass(frozen=True)
class Row:
    """One score of one sample; `deviations` as in `count_deviations`."""

    metric: str
    failure_mode: str
    severity: float
    value: float
    baseline_mean: float
    baseline_std: float
    deviations: float

    @property
    def detected(self) -> bool:
        """Whether the value is worse than baselines are by chance."""
        return self.deviations > DETECTED_FROM


# What the definitions of the scores promise


class Expected(NamedTuple):
    """Scores that detect a case, and scores that can't but by chance; the others' definitions leave it open."""

    detect: frozenset[str]
    blind: frozenset[str]


DISTANCES = frozenset({"frechet_distance", "frechet_distance_at_infinity", "kernel_distance"})
UNREALISTIC = DISTANCES | {"precision", "density", "coverage", "copy_distance"}  # images unlike real ones
NEAR_TRAINING = frozenset({"copies", "copy_distance"})  # the only ones that know the training images
# A baseline has about one pair of near-duplicates, or none: of its batch nothing can be promised.
OTHERS = frozenset(METRICS) - NEAR_TRAINING - {"birthday_batch"}
SHARES = frozenset({"class_divergence", "smallest_class_share", "modes"})

EXPECTED: Mapping[tuple[str, float], Expected] = {
    (UNMODIFIED, 0): Expected(frozenset(), OTHERS | NEAR_TRAINING),
    # A corrupted image is farther from every training image, so it is no copy.
    ("blur", 2): Expected(UNREALISTIC | {"class_score", "ms_ssim", "spectral_distance"}, frozenset({"copies"})),
    ("noise", 64): Expected(
        UNREALISTIC | {"class_score", "sliced_wasserstein_distance", "spectral_distance"}, frozenset({"copies"})
    ),
    ("brightness", 64): Expected(UNREALISTIC | {"sliced_wasserstein_distance"}, frozenset({"copies"})),
    # One frequency; 4 gray levels change no class.
    ("checkerboard", 4): Expected(frozenset({"spectral_distance"}), SHARES | {"copies"}),
    ("checkerboard", 32): Expected(UNREALISTIC | {"spectral_distance"}, frozenset({"copies"})),
    # Precision is a mean over the samples, each measured alone, and each is real.
    ("dropped_classes", 5): Expected(
        DISTANCES | SHARES | {"recall", "coverage", "class_score"}, frozenset({"precision"})
    ),
    # Means over the samples are those of half as many images. One pair in 2,399 has a similarity of 1.
    ("duplicates", 2): Expected(
        frozenset({"birthday_batch", "recall", "coverage"}),
        frozenset({"precision", "class_score", "modes", "copies", "copy_distance", "ms_ssim"}),
    ),
    # Of the few images that are left, any mean may be off by chance.
    ("duplicates", 100): Expected(
        DISTANCES | {"birthday_batch", "recall", "coverage", "class_divergence"}, frozenset()
    ),
    ("training_images", 10): Expected(NEAR_TRAINING, OTHERS),
    ("training_images", 100): Expected(NEAR_TRAINING, OTHERS),
}


def list_unexpected(rows: Sequence[Row]) -> list[str]:
    """A sentence for each row that is not as `EXPECTED`."""
    sentences = []
    for row in rows:
        detect, blind = EXPECTED.get((row.failure_mode, row.severity), Expected(frozenset(), frozenset()))
        missed = row.metric in detect and not row.detected
        if missed or (row.metric in blind and row.deviations > BEYOND_CHANCE):
            does = "does not detect" if missed else "detects"
            sentences.append(
                f"{row.metric} {does} {row.failure_mode} {row.severity:g}: {row.value:.4g}, where baselines have "
                f"{row.baseline_mean:.4g} ± {row.baseline_std:.2g}"
            )
    return sentences


# Measuring


def load_samples(
    data: str, count: int, baselines: int, seed: int = 0, report: Callable[[str], None] = lambda message: None
) -> tuple[ImagePool, list[Sample], ReferenceStatistics]:
    """The pool that corrupted samples are made of, the baselines, and what all are compared with; no image is shared.

    Args:
        data: a data set of `EXTRACTORS`, or "embedded".
        count: images of a sample.
        baselines: how many, at least 3.
        seed: of everything random.
        report: is given a line of progress now and then.

    Raises:
        ValueError: data without extractor or classes; too few images or baselines.
    """
    if baselines < 3:
        raise ValueError(f"baselines={baselines}: a standard deviation needs at least 3 samples.")
    name = "fashion_mnist_t10k" if data == "embedded" else data
    if name not in EXTRACTORS:
        raise ValueError(f"data={data!r} has no extractor: choose from embedded, {', '.join(EXTRACTORS)}.")
    extractor = ClassifierExtractor(find_directory(EXTRACTORS[name]))
    size, _, channels = extractor.image.row
    train, real = (load_images(data, split=split, image_size=size, channels=channels) for split in ("train", "test"))
    if train.labels is None or real.labels is None:
        raise ValueError(f"{data} has no labels: classes can't be dropped.")
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(train.images))
    first_half, second_half = np.array_split(order, 2)
    left = len(second_half) - count * baselines
    if left < POOL_SIZE * count:
        raise ValueError(
            f"{baselines} baselines of {count} images and {POOL_SIZE} times as many to corrupt: half of "
            f"{train.name} has {len(second_half)}. "
            f"Choose a count of at most {int(len(second_half) / (baselines + POOL_SIZE))}."
        )
    report(f"{extractor.name}: features of {len(order) + len(real.images)} images")
    held_out = Sample.extract(extractor, real.images, real.labels)
    training, rest = (
        Sample.extract(extractor, train.images[rows], train.labels[rows]) for rows in (first_half, second_half)
    )
    unmodified = [rest.select(slice(start, start + count)) for start in range(left, len(second_half), count)]
    pool = ImagePool(training, rest.select(slice(left)), count, extractor, seed)
    return pool, unmodified, ReferenceStatistics(held_out.statistics, training.features, seed)


def score_cases(
    pool: ImagePool,
    baselines: Sequence[Sample],
    reference: ReferenceStatistics,
    metrics: Collection[str] = tuple(METRICS),
    cases: Sequence[tuple[str, float]] = ((UNMODIFIED, 0), *CASES),
    report: Callable[[str], None] = lambda message: None,
) -> list[Row]:
    """A row for each of `metrics` of each of `cases`; scores that can't be made of so few images are left out."""
    report(f"scores of {len(baselines)} baselines")
    unmodified = [compare(sample.statistics, reference, metrics) for sample in baselines]
    rows = []
    for failure_mode, severity in cases:
        report(f"scores of {failure_mode} {severity:g}")
        values = compare(pool.make_sample(failure_mode, severity).statistics, reference, metrics)
        rows += [
            make_row(name, failure_mode, severity, value, [each[name] for each in unmodified])
            for name, value in values.items()
        ]
    return rows


def make_row(metric: str, failure_mode: str, severity: float, value: float, baselines: Sequence[float]) -> Row:
    """One score against those of the baselines."""
    mean, std = float(np.mean(baselines)), float(np.std(baselines, ddof=1))
    return Row(metric, failure_mode, severity, value, mean, std, count_deviations(metric, value, baselines))


def count_deviations(metric: str, value: float, baselines: Sequence[float]) -> float:
    """By how many standard deviations of the baselines the value is worse than their mean; negative where better.

    Infinite where the baselines never differ and this value does.
    """
    found = np.array([value, *baselines])
    value, *others = np.log(found) if metric in LOGARITHMIC else found
    mean, std = float(np.mean(others)), float(np.std(others, ddof=1))
    better = METRICS[metric].better
    difference = {"lower": value - mean, "higher": mean - value, "like training images": abs(value - mean)}[better]
    if std > 0:
        return difference / std
    return float(np.copysign(np.inf, difference)) if difference else 0.0


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """The CSV."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            numbers = [f"{number:.6g}" for number in (row.severity, row.value, row.baseline_mean, row.baseline_std)]
            detected = "yes" if row.detected else "no"
            writer.writerow([row.metric, row.failure_mode, *numbers, detected, f"{row.deviations:.4g}"])


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV that `write_rows` wrote."""
    numbers = ("severity", "value", "baseline_mean", "baseline_std", "deviations")
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(line["metric"], line["failure_mode"], *(float(line[column]) for column in numbers))
            for line in csv.DictReader(file)
        ]


def make_table(rows: Sequence[Row], failure_modes: Collection[str], title: str) -> Table:
    """Metrics down, severities of `failure_modes` across; a star where the metric detects it."""
    found = {(row.metric, row.failure_mode, row.severity): row for row in rows}
    cases = [(failure_mode, severity) for failure_mode, severity in CASES if failure_mode in failure_modes]
    table = Table("metric", "unmodified", title=title)
    for failure_mode, severity in cases:
        first = severity == SEVERITIES[failure_mode][0]
        table.add_column(f"{failure_mode.replace('_', ' ') if first else ''}\n{severity:g}", justify="right")
    for metric in METRICS:
        cells = [found[metric, *case] for case in cases if (metric, *case) in found]
        if cells:
            baseline = f"{cells[0].baseline_mean:.3g} ± {cells[0].baseline_std:.1g}"
            marked = [f"[red]{cell.value:.3g}*[/]" if cell.detected else f"{cell.value:.3g} " for cell in cells]
            table.add_row(metric, baseline, *marked)
    return table


def main(options: Options) -> None:
    """Measure, write, print."""
    console = Console(stderr=True)

    def report(message: str) -> None:
        console.print(message, highlight=False)

    samples = load_samples(options.data, options.count, options.baselines, options.seed, report)
    rows = score_cases(*samples, report=report)
    write_rows(rows, options.table)
    out = Console()
    out.width = max(out.width, WIDTH)
    out.print(make_table(rows, OF_IMAGES, f"Every image corrupted ({options.data}, samples of {options.count})"))
    out.print(make_table(rows, OF_SETS, "The set corrupted; classes missing, times repeated, % of the training set"))
    for sentence in list_unexpected(rows):
        out.print(f"Not as expected: {sentence}", highlight=False)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
