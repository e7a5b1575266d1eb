"""`zoo evaluate`: pictures of any source against held-out ones, with protocol, floor, ceilings and error bar."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

import zoo.evaluation
from recipes.data import load_pictures
from recipes.pictures import Pictures
from serving.card import CardError, read_card
from serving.sampler import draw
from zoo.evaluation.extractors import EXTRACTORS, ClassifierExtractor, Extractor, features_of
from zoo.evaluation.paths import lerp, perceptual_path_length, slerp
from zoo.evaluation.scores import KEPT, METRICS, Better, Metric, Side, Yardstick, compare
from zoo.pretrained import cache_root, find_directory
from zoo.sources import IMAGE_RANGE, Source, open_source

COUNT = 10_000  # generated pictures of a seed
SEEDS = (0, 1, 2)
SPLIT = "test"
SHARED_AT_MOST = 0.01  # of the held-out pictures, among the training pictures: data sets repeat some themselves
BLUR = 1 / 28  # of a picture's side: the radius of the blurred ceiling
DIGITS = 6  # of a value: those that a second run on the same machine gives again
PATHS = 2_000  # pairs of a path length

OTHER_METRICS: dict[str, Metric] = {
    "perceptual_path_length": Metric("paths", "lower", "features: how fast pictures change with the latent", "PPL"),
    "accuracy": Metric("accuracy", "higher", "of a classifier, on held-out pictures"),
    "classification_accuracy": Metric("judge", "higher", "on real pictures, of a classifier trained on samples"),
    "augmentation": Metric("judge", "higher", "what samples beside real pictures add to that accuracy"),
    "jensen_shannon_divergence": Metric("discriminator", "lower", "a fresh discriminator's bound, nats"),
}
ALL_METRICS = {**METRICS, **OTHER_METRICS}
TRAINED = ("classification_accuracy", "augmentation", "jensen_shannon_divergence")
"""Scores that train a network each: minutes, so only when named."""
DEFAULT_METRICS = tuple(name for name in ALL_METRICS if name not in TRAINED)


@dataclass(frozen=True)
class Record:
    """One score with everything it rests on.

    value and std are over the seeds; floor is what real training pictures get, ceilings what noise and blurred pictures
    do. extractor is "name@sha256", None for scores of the pixels.
    """

    metric: str
    name: str
    model: str
    value: float
    std: float | None
    floor: float | None
    ceilings: dict[str, float]
    better: Better
    extractor: str | None
    data: str
    split: str
    seeds: tuple[int, ...]
    real_count: int
    generated_count: int
    preprocessing: str
    source_sha256: str
    data_sha256: str
    versions: dict[str, str] = field(default_factory=dict)


@dataclass
class Held:
    """Real pictures to compare with, and those that the model was trained on, cut alike."""

    real: Pictures
    train: Pictures | None
    crop: int | None
    preprocessing: str
    left_out: int

    @cached_property
    def some_training_pictures(self) -> np.ndarray:
        """At most `KEPT`, chosen by a fixed seed."""
        assert self.train is not None  # asked for by those who have seen to it
        return self.train.images[chosen(len(self.train.images), KEPT)]


def evaluate(
    name: str,
    *,
    against: str | None = None,
    split: str = SPLIT,
    trained_on: str | None = None,
    extractors: Sequence[str] = (),
    inception: str | None = None,
    inception_sha256: str | None = None,
    metrics: Collection[str] = (),
    count: int = COUNT,
    seeds: tuple[int, ...] = SEEDS,
    crop: int | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> list[Record]:
    """Score pictures of `name`.

    Args:
        name: see `zoo.sources.open_source`; or a classifier of the zoo, which gets its accuracy.
        against: real pictures: a data set, folder or zip as for training; the model's own data when not given.
        split: of `against`; held out when the model was trained.
        trained_on: the data of a source without a card, for floor, copies and the refusal of training pictures.
        extractors: presets or exported directories of classifiers; the data set's own when not given.
        inception: path or URL of the 2015 Inception's weights; adds FID, KID and IS.
        inception_sha256: what these must have.
        metrics: names of `ALL_METRICS`; `DEFAULT_METRICS` when empty.
        count: generated pictures a seed.
        seeds: of the sampling.
        crop: take the centre of this many pixels of generated pictures; known where the card says padding.
        tell: is given a line now and then.

    Raises:
        ValueError: real pictures that the model was trained on; sizes, ranges or numbers that do not fit; an unknown
            metric.
    """
    chosen_metrics = tuple(metrics) or DEFAULT_METRICS
    if unknown := sorted(set(chosen_metrics) - set(ALL_METRICS)):
        raise ValueError(f"metrics={unknown}: choose from {', '.join(ALL_METRICS)}.")
    if count < 2 or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"count={count}, seeds={seeds}: give at least 2 pictures and different seeds.")
    if (directory := classifier_directory(name)) is not None:
        return [accuracy(directory, against, split, tell)]
    source = open_source(name)
    tell(f"{source.name}: real pictures")
    held = load_held(source, against, split, trained_on, crop)
    judges: list[Extractor | None] = [ClassifierExtractor(find_directory(each)) for each in names(extractors, held)]
    if inception is not None:
        from zoo.evaluation.inception import read_inception

        judges.append(read_inception(inception, inception_sha256, cache_root() / "inception"))
    records: list[Record] = []
    for judge in judges or [None]:
        new = Evaluation(source, held, judge, count, seeds, tell).records(chosen_metrics)
        records += [record for record in new if record.metric not in {one.metric for one in records}]
    if not records:
        raise ValueError(
            f"none of {', '.join(chosen_metrics)} can be made of {source.name} against {held.real.name}: give "
            "--extractor or --inception for what needs features, --trained-on for copies."
        )
    return records


class Evaluation:
    """One source against one set of real pictures, as one extractor sees them."""

    def __init__(
        self,
        source: Source,
        held: Held,
        extractor: Extractor | None,
        count: int,
        seeds: tuple[int, ...],
        tell: Callable[[str], None],
    ) -> None:
        self.source, self.held, self.extractor, self.seeds, self.tell = source, held, extractor, seeds, tell
        self.count = source.count(count, len(seeds))

    def records(self, metrics: Collection[str]) -> list[Record]:
        """A record for each metric that can be made."""
        plain = [name for name in metrics if name in METRICS]
        rows = [self.of_seed(number, plain) for number in range(len(self.seeds))] if plain else []
        anchors = self.anchors(plain) if plain else {}
        values = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
        if "perceptual_path_length" in metrics:
            values |= self.path_lengths()
        if {"classification_accuracy", "augmentation"} & set(metrics):
            values |= self.accuracies(metrics, anchors)
        if "jensen_shannon_divergence" in metrics:
            values |= self.divergences(anchors)
        return [self.record(name, values[name], anchors) for name in ALL_METRICS if name in values]

    def record(self, name: str, values: Sequence[float], anchors: dict[str, dict[str, float]]) -> Record:
        """One score over the seeds."""
        metric, extractor = ALL_METRICS[name], self.extractor
        floors = anchors.get("floor", {})
        return Record(
            metric=metric.label(name, extractor),
            name=name,
            model=self.source.name,
            value=rounded(float(np.mean(values))),
            std=rounded(float(np.std(values, ddof=1))) if len(values) > 1 else None,
            floor=rounded(floors[name]) if name in floors else None,
            ceilings={
                side: rounded(found[name]) for side, found in anchors.items() if side != "floor" if name in found
            },
            better=metric.better,
            extractor=f"{extractor.name}@{extractor.sha256}" if extractor and metric.title else None,
            data=self.held.real.name,
            split=self.held.real.split,
            seeds=self.seeds,
            real_count=len(self.held.real.images),
            generated_count=self.count,
            preprocessing=self.held.preprocessing,
            source_sha256=self.source.sha256,
            data_sha256=self.held.real.fingerprint,
            versions=versions(),
        )

    def of_seed(self, number: int, metrics: Collection[str]) -> dict[str, float]:
        """The scores of one seed's pictures."""
        side = Side()
        for pictures in self.source.draw(self.count, self.seeds, number):
            pictures = cropped(pictures, self.held.crop)
            side.update(pictures, *(features_of(self.extractor, pictures) if self.extractor else ()))
            self.tell(f"{self.source.name}: seed {self.seeds[number]}, {side.count} of {self.count} pictures")
        self.tell(f"{self.source.name}: seed {self.seeds[number]}, scores")
        return compare(side, self.yardstick, metrics)

    def anchors(self, metrics: Collection[str]) -> dict[str, dict[str, float]]:
        """What training pictures, noise and blurred training pictures get: side -> score -> value; cached."""
        held = self.held
        if held.train is None:
            return {}
        key = [held.real.fingerprint, held.train.fingerprint, held.preprocessing, self.version, *sorted(metrics)]

        def make() -> dict[str, dict[str, float]]:
            self.tell("floor and ceilings")
            floor, yardstick = held.some_training_pictures, self.yardstick
            noise = np.random.Generator(np.random.Philox(0)).integers(0, 256, floor.shape, np.uint8)
            return {
                "floor": yardstick.floors(self.side(floor), metrics),
                "noise": compare(self.side(noise), yardstick, metrics),
                "blurred": compare(self.side(blurred(floor)), yardstick, metrics),
            }

        path = cache_path("anchors", key, ".json")
        if not path.exists():
            with written(path) as temporary:
                temporary.write_text(json.dumps(make()))
        return json.loads(path.read_text())

    @cached_property
    def yardstick(self) -> Yardstick:
        """The held-out pictures as the extractor sees them."""
        train = None if self.held.train is None or not self.extractor else self.features(self.held.train.images)[0]
        return Yardstick(self.side(self.held.real.images), train)

    def side(self, pictures: np.ndarray) -> Side:
        """Real pictures, noise, or blurred ones."""
        return Side.of(pictures, *(self.features(pictures) if self.extractor else ()))

    def features(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features and probabilities of pictures that will be asked for again; cached by their content."""
        assert self.extractor is not None  # asked for where there is one
        digest = hashlib.sha256(str(pictures.shape).encode())
        for start in range(0, len(pictures), 1000):
            digest.update(np.ascontiguousarray(pictures[start : start + 1000]).data)
        path = cache_path("features", [digest.hexdigest(), self.version], ".npz")
        if not path.exists():
            self.tell(f"{self.extractor.name}: features of {len(pictures)} pictures")
            features, probabilities = features_of(self.extractor, pictures)
            with written(path) as temporary, temporary.open("wb") as file:
                np.savez(file, features=features, probabilities=probabilities)
        with np.load(path) as arrays:
            return arrays["features"], arrays["probabilities"]

    @property
    def version(self) -> str:
        """Changes when the extractor or the code of the scores does."""
        return f"{self.extractor.sha256 if self.extractor else 'pixels'} {code_of_scores()}"

    def accuracies(self, metrics: Collection[str], anchors: dict[str, dict[str, float]]) -> dict[str, list[float]]:
        """Of classifiers trained on each seed's pictures, named by the extractor; the floor is what real ones give."""
        real, train = self.held.real, self.held.train
        if self.extractor is None or train is None or train.labels is None or real.labels is None:
            return {}
        if self.extractor.classes != len(real.class_names):
            raise ValueError(
                f"{real.name} has {len(real.class_names)} classes and {self.extractor.name} {self.extractor.classes}: "
                "a classification accuracy needs an extractor of the same classes."
            )
        from zoo.evaluation.judges import classification_accuracy

        found = []
        rows = chosen(len(train.images), KEPT)
        for number, seed in enumerate(self.seeds):
            pictures = self.pictures_of(number)[: len(rows)]
            self.tell(f"{self.source.name}: seed {seed}, training three classifiers")
            labels = features_of(self.extractor, pictures)[1].argmax(axis=1)
            found.append(
                classification_accuracy(
                    pictures, labels, train.images[rows], train.labels[rows], real.images, real.labels, seed=seed
                )
            )
        anchors.setdefault("floor", {})["classification_accuracy"] = float(np.mean([each.on_real for each in found]))
        values = {
            "classification_accuracy": [each.on_generated for each in found],
            "augmentation": [each.on_both - each.on_real for each in found],
        }
        return {name: value for name, value in values.items() if name in metrics}

    def divergences(self, anchors: dict[str, dict[str, float]]) -> dict[str, list[float]]:
        """A fresh discriminator's bound for each seed; the floor is its bound for training pictures."""
        from zoo.evaluation.judges import discriminator_divergence

        def divergence(pictures: np.ndarray, seed: int) -> float:
            count = min(len(pictures), len(self.held.real.images))
            return discriminator_divergence(pictures[:count], self.held.real.images[:count], seed=seed)

        if self.held.train is not None:
            self.tell("floor: training a discriminator")
            floor = divergence(self.held.some_training_pictures, self.seeds[0])
            anchors.setdefault("floor", {})["jensen_shannon_divergence"] = floor
        found = []
        for number, seed in enumerate(self.seeds):
            pictures = self.pictures_of(number)
            self.tell(f"{self.source.name}: seed {seed}, training a discriminator")
            found.append(divergence(pictures, seed))
        return {"jensen_shannon_divergence": found}

    def pictures_of(self, number: int) -> np.ndarray:
        """The pictures of seeds[number], at most `KEPT`."""
        count = min(self.count, KEPT)
        return np.concatenate(
            [cropped(pictures, self.held.crop) for pictures in self.source.draw(count, self.seeds, number)]
        )

    def path_lengths(self) -> dict[str, list[float]]:
        """One path length a seed, of a generator that takes a latent vector."""
        extractor, latent, sampler = self.extractor, self.source.latent, self.source.sampler
        if latent is None or extractor is None or sampler is None:
            return {}
        image = sampler.image
        low, high = image.range or IMAGE_RANGE

        def generate(latents: np.ndarray) -> np.ndarray:
            raw = np.asarray(sampler.run({latent.name: latents.astype(latent.dtype)})[image.name])
            return cropped((raw - low) * (2 / (high - low)) - 1, self.held.crop)

        found = []
        for seed in self.seeds:
            self.tell(f"{self.source.name}: seed {seed}, path length")
            lengths = perceptual_path_length(
                generate,
                lambda pictures: extractor(np.clip(pictures, -1, 1))[0],
                partial(draw, latent),
                interpolate=slerp if latent.feed == "normal" else lerp,
                pairs=PATHS,
                seed=seed,
            )
            found.append(lengths.mean)
        return {"perceptual_path_length": found}


# Real pictures


def load_held(source: Source, against: str | None, split: str, trained_on: str | None, crop: int | None) -> Held:
    """The real pictures that `source` is scored against, and those that it was trained on.

    Raises:
        ValueError: nothing says what they are; the model was trained on them; the source's pictures are not square.
    """
    card = source.card
    against = against or (card.data.source if card else None)
    if against is None:
        raise ValueError(f"{source.name} has no card that names its data: say what to compare with (--against).")
    height, width, channels = source.size
    if height != width:
        raise ValueError(f"pictures of {height} x {width} pixels: only square ones can be compared.")
    fit = card.recipe.get("fit", "crop") if card else "crop"
    load = partial(load_pictures, channels=channels)
    if crop is None and fit == "pad":  # a data set of pictures of one size, with padding around them
        real = load(against, split=split, image_size=None)
        crop = min(real.images.shape[1], height)
    else:
        crop = crop or height
    if not 1 <= crop <= height:
        raise ValueError(f"crop={crop}: choose from 1 to {height}, the side of the pictures.")
    load = partial(load, image_size=crop, fit=fit)
    real = load(against, split=split)
    train = None
    if card:
        train = load(card.data.source, split=card.data.split)
    elif trained_on:
        train = load(trained_on, split="train")
    left_out = np.zeros(len(real.images), bool)
    if train is not None:
        known = set(hashes(train.images))
        left_out = np.array([value in known for value in hashes(real.images)])
        if left_out.mean() > SHARED_AT_MOST:
            raise ValueError(
                f"{left_out.sum()} of {len(left_out)} pictures of {real.name}, {real.split}, are among those that "
                f"{source.name} was trained on ({train.name}, {train.split}): give pictures that were held out."
            )
    kept = ~left_out
    real = replace(
        real, images=real.images[kept], labels=None if real.labels is None else np.asarray(real.labels)[kept]
    )
    cut = "" if crop == height else f", the centre {crop} x {crop} of {height} x {height}"
    fitted = "as they are" if fit == "pad" else f"{fit} to {crop} x {crop}, Lanczos"
    shared = f", {left_out.sum()} left out that training has too" if left_out.any() else ""
    return Held(
        real,
        train,
        crop if cut else None,
        f"8 bits a channel{cut}; real ones {fitted}{shared}",
        int(left_out.sum()),
    )


def names(extractors: Sequence[str], held: Held) -> Sequence[str]:
    """The extractors asked for, or the data set's own, or none."""
    if extractors:
        return extractors
    known = EXTRACTORS.get(held.real.name)
    return (known,) if known else ()


def hashes(pictures: np.ndarray) -> Iterator[bytes]:
    """One a picture, over its bytes."""
    return (hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=16).digest() for picture in pictures)


def cropped(pictures: np.ndarray, crop: int | None) -> np.ndarray:
    """The centre of (count, side, side, channels)."""
    if crop is None:
        return pictures
    margin = (pictures.shape[1] - crop) // 2
    return pictures[:, margin : margin + crop, margin : margin + crop]


def blurred(pictures: np.ndarray) -> np.ndarray:
    """uint8 pictures through a Gaussian blur."""
    blur = ImageFilter.GaussianBlur(BLUR * pictures.shape[1])
    images = (Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture) for picture in pictures)
    return np.stack([np.asarray(image.filter(blur)) for image in images]).reshape(pictures.shape)


def chosen(rows: int, count: int) -> np.ndarray:
    """The sorted numbers of `count` rows, or of all, the same whenever asked."""
    return np.sort(np.random.Generator(np.random.Philox(0)).permutation(rows)[:count])


# Classifiers


def classifier_directory(name: str) -> Path | None:
    """Where the exported classifier called `name` lies; None if it is something else, or not there."""
    try:
        directory = find_directory(name)
    except (CardError, LookupError):
        return None
    return directory if read_card(directory).default_ability == "classify" else None


def accuracy(directory: Path, against: str | None, split: str, tell: Callable[[str], None]) -> Record:
    """The share of held-out pictures whose class an exported classifier names; std is that of the share itself."""
    extractor, card = ClassifierExtractor(directory), read_card(directory)
    height, _, channels = extractor.image.row
    load = partial(load_pictures, image_size=height, channels=channels, fit=card.recipe.get("fit", "crop"))
    tell(f"{card.name}: pictures")
    real, train = load(against or card.data.source, split=split), load(card.data.source, split=card.data.split)
    if real.labels is None:
        raise ValueError(f"{real.name}, {real.split}, has no labels: an accuracy needs them.")
    known = set(hashes(train.images))
    shared = np.array([value in known for value in hashes(real.images)])
    if shared.mean() > SHARED_AT_MOST:
        raise ValueError(
            f"{shared.sum()} of {len(shared)} pictures of {real.name}, {real.split}, are among those that {card.name} "
            "was trained on: give pictures that were held out."
        )
    tell(f"{card.name}: {len(real.images)} pictures")
    right = features_of(extractor, real.images)[1].argmax(axis=1) == real.labels
    share = float(right.mean())
    return Record(
        metric="accuracy",
        name="accuracy",
        model=card.name,
        value=rounded(share),
        std=rounded((share * (1 - share) / len(right)) ** 0.5),
        floor=None,
        ceilings={},
        better="higher",
        extractor=None,
        data=real.name,
        split=real.split,
        seeds=(),
        real_count=len(right),
        generated_count=0,
        preprocessing="8 bits a channel",
        source_sha256=extractor.sha256,
        data_sha256=real.fingerprint,
        versions=versions(),
    )


# Records and cache


def rounded(value: float) -> float:
    """To the digits that are written."""
    return float(f"{value:.{DIGITS}g}")


def versions() -> dict[str, str]:
    """Of what the digits depend on."""
    import onnxruntime

    return {
        "generative-zoo": version("generative-zoo"),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def as_json(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Plain data, one record a score."""
    return [asdict(record) for record in records]


def code_of_scores() -> str:
    """A hash of `zoo/evaluation/`, so that no cached number outlives the code that made it."""
    folder = Path(zoo.evaluation.__file__).parent
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))).hexdigest()


def cache_path(kind: str, key: Sequence[str], suffix: str) -> Path:
    """Where something with this key is kept."""
    folder = cache_root() / "evaluation" / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder / (hashlib.sha256("\n".join(key).encode()).hexdigest()[:32] + suffix)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary name that becomes `path` when all went well."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    os.close(handle)
    try:
        yield Path(name)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
