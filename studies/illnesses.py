"""Which score notices which illness of generated images.

    python -m studies.illnesses
    python -m studies.illnesses --data embedded --count 600 --healthy 5

No model is needed: real images, made ill in known steps, stand for generated ones. One half of the training split is
the training set of the model that there might be. The other half is cut into disjoint samples: all but one are scored
as they are, and their mean and standard deviation are what a healthy model gets. The images that are left are made
ill. Everything is held against the test split.

A score notices an illness where its value is worse than the healthy mean by more than 3 healthy standard deviations;
what is worse is said by `Metric.better`. `birthday_batch` is compared by its logarithm: it is a size, and healthy
samples differ by factors. Of scores that see nothing, so many are marked all the same: about 1 in 100, 2 in 100 of
those that should be like training images, with 10 healthy samples. The row "healthy" is such a case, images that are
not ill at all.

The classifier whose features are used has seen the whole training split, so training images are surer of their class
than held-out ones, healthy and ill ones alike.

Prints two tables and what differs from `EXPECTED`; writes results/illnesses.csv.
"""

import csv
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from PIL import Image, ImageFilter
from rich.console import Console
from rich.table import Table

from zoo.data.load import load_images
from zoo.evaluation.extractors import ClassifierExtractor, extract_features
from zoo.evaluation.scores import METRICS, ReferenceStatistics, SampleStatistics, compare
from zoo.presets.table import EXTRACTORS
from zoo.pretrained import find_directory

LOGARITHMIC = ("birthday_batch",)  # compared by their logarithms: 50 is as far from 500 as 500 from 5,000
DEVIATIONS = 3.0  # of healthy samples, from which a score notices
# EXPECTED has some 60 blind cells. A healthy sample is beyond 3 deviations of 8 others in 1.3 % of all cases, beyond 6
# in 0.04 %, twice that in either direction (Student's t).
BEYOND_CHANCE = 6.0
STOCK = 2.4  # times the count: images of which a sample without half of the classes can be made
HEALTHY = "healthy"
WIDTH = 190  # of the printed tables
COLUMNS = ("metric", "illness", "degree", "value", "healthy_mean", "healthy_std", "notices", "worse")


@dataclass(frozen=True)
class Options:
    """One table."""

    data: str = "fashion_mnist"
    """With classes, and an extractor of its own."""
    count: int = 2_400
    """Images of a sample."""
    healthy: int = 10
    """Samples that say what is normal."""
    seed: int = 0
    """Of the cut into samples, noise, projections and subsets."""
    table: Path = Path("results/illnesses.csv")
    """What is measured."""


@dataclass(frozen=True)
class Seen:
    """ImageSet, their classes, and what the extractor says of them; all have the same rows."""

    images: np.ndarray
    labels: np.ndarray
    features: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def by(cls, extractor: ClassifierExtractor, images: np.ndarray, labels: np.ndarray) -> "Seen":
        """What `extractor` sees."""
        return cls(images, labels, *extract_features(extractor, images))

    def rows(self, rows: slice | np.ndarray) -> "Seen":
        """Some of them."""
        return Seen(self.images[rows], self.labels[rows], self.features[rows], self.probabilities[rows])

    @property
    def statistics(self) -> SampleStatistics:
        """For the scores."""
        return SampleStatistics.of(self.images, self.features, self.probabilities)


@dataclass(frozen=True)
class Ward:
    """What ill samples of `count` images are made of: training images, and images from beside them."""

    train: Seen
    stock: Seen
    count: int
    extractor: ClassifierExtractor
    seed: int

    def ill(self, illness: str, degree: float) -> Seen:
        """A sample with an illness of `DEGREES`, or one that is healthy."""
        generator = np.random.Generator(np.random.Philox(self.seed))
        sample = self.stock.rows(slice(self.count))
        if illness == HEALTHY:
            return sample
        if illness in OF_IMAGES:
            return Seen.by(self.extractor, OF_IMAGES[illness](sample.images, degree, generator), sample.labels)
        return OF_SETS[illness](self, degree, generator)


@dataclass(frozen=True)
class Row:
    """One score of one sample; `worse` is what `worse` says."""

    metric: str
    illness: str
    degree: float
    value: float
    healthy_mean: float
    healthy_std: float
    worse: float

    @property
    def notices(self) -> bool:
        """Beyond what healthy samples do."""
        return self.worse > DEVIATIONS


# Illnesses of every image: uint8 (count, height, width, channels), degree, generator -> the same shape


def blur(images: np.ndarray, radius: float, generator: np.random.Generator) -> np.ndarray:
    """Gaussian, the radius in pixels."""
    drawn_ones = (Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image) for image in images)
    smooth = ImageFilter.GaussianBlur(radius)
    return np.stack([np.asarray(drawn.filter(smooth)) for drawn in drawn_ones]).reshape(images.shape)


def noise(images: np.ndarray, sigma: float, generator: np.random.Generator) -> np.ndarray:
    """Gaussian, sigma in gray levels."""
    return clipped(images + sigma * generator.standard_normal(images.shape))


def brightness(images: np.ndarray, shift: float, generator: np.random.Generator) -> np.ndarray:
    """So many gray levels brighter."""
    return clipped(images + float(shift))


def checkerboard(images: np.ndarray, amplitude: float, generator: np.random.Generator) -> np.ndarray:
    """Every other pixel brighter, the rest darker, by so many gray levels."""
    signs = (-1.0) ** np.indices(images.shape[1:3]).sum(axis=0)
    return clipped(images + amplitude * signs[..., None])


def clipped(values: np.ndarray) -> np.ndarray:
    """To uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


# Illnesses of the set, of images that are each good: ward, degree, generator -> ward.count rows


def dropped_classes(ward: Ward, classes: float, generator: np.random.Generator) -> Seen:
    """The first so many classes are missing; different images of the others take their places."""
    rows = np.flatnonzero(ward.stock.labels >= classes)[: ward.count]
    if len(rows) < ward.count:
        raise ValueError(f"{len(rows)} images without {classes:g} classes: a sample has {ward.count}.")
    return ward.stock.rows(rows)


def duplicates(ward: Ward, times: float, generator: np.random.Generator) -> Seen:
    """Every image so many times, in any order."""
    return ward.stock.rows(generator.permutation(ward.count) // int(times))


def training_images(ward: Ward, percent: float, generator: np.random.Generator) -> Seen:
    """So many of a hundred are images of the training set."""
    copied = round(ward.count * percent / 100)
    one, other = ward.train.rows(slice(copied)), ward.stock.rows(slice(ward.count - copied))
    return Seen(*(np.concatenate(pair) for pair in zip(vars(one).values(), vars(other).values(), strict=True)))


OF_IMAGES: Mapping[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "blur": blur,
    "noise": noise,
    "brightness": brightness,
    "checkerboard": checkerboard,
}
OF_SETS: Mapping[str, Callable[[Ward, float, np.random.Generator], Seen]] = {
    "dropped_classes": dropped_classes,
    "duplicates": duplicates,
    "training_images": training_images,
}
DEGREES: Mapping[str, tuple[float, ...]] = {
    "blur": (0.5, 1, 2),
    "noise": (4, 16, 64),
    "brightness": (8, 24, 64),
    "checkerboard": (4, 8, 32),
    "dropped_classes": (1, 3, 5),
    "duplicates": (2, 10, 100),
    "training_images": (10, 50, 100),
}
CASES = tuple((illness, degree) for illness, degrees in DEGREES.items() for degree in degrees)


# What the definitions of the scores promise


class Expected(NamedTuple):
    """Scores that notice a case, and scores that can't but by chance; the others' definitions leave it open."""

    notice: frozenset[str]
    blind: frozenset[str]


DISTANCES = frozenset({"frechet_distance", "frechet_distance_at_infinity", "kernel_distance"})
UNREAL = DISTANCES | {"precision", "density", "coverage", "copy_distance"}  # images unlike real ones
NEAR_TRAINING = frozenset({"copies", "copy_distance"})  # the only ones that are told of the training images
# A healthy sample has about one pair of near-duplicates, or none: of its batch nothing can be promised.
OTHERS = frozenset(METRICS) - NEAR_TRAINING - {"birthday_batch"}
SHARES = frozenset({"class_divergence", "smallest_class_share", "modes"})

EXPECTED: Mapping[tuple[str, float], Expected] = {
    (HEALTHY, 0): Expected(frozenset(), OTHERS | NEAR_TRAINING),
    # An ill image is farther from every training image, so it is no copy.
    ("blur", 2): Expected(UNREAL | {"class_score", "ms_ssim", "spectral_distance"}, frozenset({"copies"})),
    ("noise", 64): Expected(
        UNREAL | {"class_score", "sliced_wasserstein_distance", "spectral_distance"}, frozenset({"copies"})
    ),
    ("brightness", 64): Expected(UNREAL | {"sliced_wasserstein_distance"}, frozenset({"copies"})),
    # One frequency; 4 gray levels change no class.
    ("checkerboard", 4): Expected(frozenset({"spectral_distance"}), SHARES | {"copies"}),
    ("checkerboard", 32): Expected(UNREAL | {"spectral_distance"}, frozenset({"copies"})),
    # Precision is a mean over the samples, each judged alone, and each is real.
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


def surprises(rows: Sequence[Row]) -> list[str]:
    """A sentence for each row that is not as `EXPECTED`."""
    sentences = []
    for each in rows:
        notice, blind = EXPECTED.get((each.illness, each.degree), Expected(frozenset(), frozenset()))
        missed = each.metric in notice and not each.notices
        if missed or (each.metric in blind and each.worse > BEYOND_CHANCE):
            does = "does not notice" if missed else "notices"
            sentences.append(
                f"{each.metric} {does} {each.illness} {each.degree:g}: {each.value:.4g}, where healthy samples have "
                f"{each.healthy_mean:.4g} ± {each.healthy_std:.2g}"
            )
    return sentences


# Measuring


def admitted(
    data: str, count: int, healthy: int, seed: int = 0, tell: Callable[[str], None] = lambda message: None
) -> tuple[Ward, list[Seen], ReferenceStatistics]:
    """What is made ill, healthy samples, and what all are compared with; no two share an image.

    Args:
        data: a data set of `EXTRACTORS`, or "embedded".
        count: images of a sample.
        healthy: samples, at least 3.
        seed: of everything random.
        tell: is given a line now and then.

    Raises:
        ValueError: data without extractor or classes; too few images or samples.
    """
    if healthy < 3:
        raise ValueError(f"healthy={healthy}: a spread needs at least 3 samples.")
    name = "fashion_mnist_t10k" if data == "embedded" else data
    if name not in EXTRACTORS:
        raise ValueError(f"data={data!r} has no extractor: choose from embedded, {', '.join(EXTRACTORS)}.")
    extractor = ClassifierExtractor(find_directory(EXTRACTORS[name]))
    size, _, channels = extractor.image.row
    train, real = (load_images(data, split=split, image_size=size, channels=channels) for split in ("train", "test"))
    if train.labels is None or real.labels is None:
        raise ValueError(f"{data} has no labels: classes can't be dropped.")
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(train.images))
    known, others = np.array_split(order, 2)
    stock = len(others) - count * healthy
    if stock < STOCK * count:
        raise ValueError(
            f"{healthy} healthy samples of {count} images and {STOCK} times as many to make ill: half of "
            f"{train.name} has {len(others)}. Choose a count of at most {int(len(others) / (healthy + STOCK))}."
        )
    tell(f"{extractor.name}: features of {len(order) + len(real.images)} images")
    held_out = Seen.by(extractor, real.images, real.labels)
    copied, rest = (Seen.by(extractor, train.images[rows], train.labels[rows]) for rows in (known, others))
    floor = [rest.rows(slice(start, start + count)) for start in range(stock, len(others), count)]
    ward = Ward(copied, rest.rows(slice(stock)), count, extractor, seed)
    return ward, floor, ReferenceStatistics(held_out.statistics, copied.features, seed)


def scored(
    ward: Ward,
    floor: Sequence[Seen],
    yardstick: ReferenceStatistics,
    metrics: Collection[str] = tuple(METRICS),
    cases: Sequence[tuple[str, float]] = ((HEALTHY, 0), *CASES),
    tell: Callable[[str], None] = lambda message: None,
) -> list[Row]:
    """A row for each of `metrics` of each of `cases`; scores that can't be made of so few images are left out."""
    tell(f"scores of {len(floor)} healthy samples")
    normal = [compare(sample.statistics, yardstick, metrics) for sample in floor]
    rows = []
    for illness, degree in cases:
        tell(f"scores of {illness} {degree:g}")
        values = compare(ward.ill(illness, degree).statistics, yardstick, metrics)
        rows += [row(name, illness, degree, value, [each[name] for each in normal]) for name, value in values.items()]
    return rows


def row(metric: str, illness: str, degree: float, value: float, healthy: Sequence[float]) -> Row:
    """One score against those of healthy samples."""
    mean, std = float(np.mean(healthy)), float(np.std(healthy, ddof=1))
    return Row(metric, illness, degree, value, mean, std, worse(metric, value, healthy))


def worse(metric: str, value: float, healthy: Sequence[float]) -> float:
    """By how many healthy standard deviations the value is worse than the healthy mean; negative where it is better.

    Infinite where healthy samples never differ and this one does.
    """
    found = np.array([value, *healthy])
    value, *normal = np.log(found) if metric in LOGARITHMIC else found
    mean, std = float(np.mean(normal)), float(np.std(normal, ddof=1))
    better = METRICS[metric].better
    difference = {"lower": value - mean, "higher": mean - value, "like training images": abs(value - mean)}[better]
    if std > 0:
        return difference / std
    return float(np.copysign(np.inf, difference)) if difference else 0.0


def written(rows: Sequence[Row], path: Path) -> None:
    """The CSV."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for each in rows:
            numbers = [f"{number:.6g}" for number in (each.degree, each.value, each.healthy_mean, each.healthy_std)]
            notices = "yes" if each.notices else "no"
            writer.writerow([each.metric, each.illness, *numbers, notices, f"{each.worse:.4g}"])


def read(path: Path) -> list[Row]:
    """The rows of a CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(
                *(line["metric"], line["illness"]),
                *(float(line[column]) for column in ("degree", "value", "healthy_mean", "healthy_std", "worse")),
            )
            for line in csv.DictReader(file)
        ]


def table(rows: Sequence[Row], illnesses: Collection[str], title: str) -> Table:
    """Metrics down, degrees of `illnesses` across; a star where the metric notices."""
    found = {(each.metric, each.illness, each.degree): each for each in rows}
    cases = [(illness, degree) for illness, degree in CASES if illness in illnesses]
    shown = Table("metric", "healthy", title=title)
    for illness, degree in cases:
        first = degree == DEGREES[illness][0]
        shown.add_column(f"{illness.replace('_', ' ') if first else ''}\n{degree:g}", justify="right")
    for metric in METRICS:
        cells = [found[metric, *case] for case in cases if (metric, *case) in found]
        if cells:
            normal = f"{cells[0].healthy_mean:.3g} ± {cells[0].healthy_std:.1g}"
            marked = [f"[red]{cell.value:.3g}*[/]" if cell.notices else f"{cell.value:.3g} " for cell in cells]
            shown.add_row(metric, normal, *marked)
    return shown


def main(options: Options) -> None:
    """Measure, write, print."""
    console = Console(stderr=True)

    def tell(message: str) -> None:
        console.print(message, highlight=False)

    rows = scored(*admitted(options.data, options.count, options.healthy, options.seed, tell), tell=tell)
    written(rows, options.table)
    out = Console()
    out.width = max(out.width, WIDTH)
    out.print(table(rows, OF_IMAGES, f"Every image ill ({options.data}, samples of {options.count})"))
    out.print(table(rows, OF_SETS, "The set ill; classes missing, times repeated, % of the training set"))
    for sentence in surprises(rows):
        out.print(f"Not as expected: {sentence}", highlight=False)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
