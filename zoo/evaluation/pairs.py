"""Scores of what a model makes of held-out images, beside what it should be: enlarged ones, and translations."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
from PIL import Image

from serving.images import to_pil, to_uint8
from serving.pipeline import Pipeline
from serving.translation import find_task
from zoo.data.images import ImageSet, iterate_chunks, to_float32
from zoo.data.load import load_collections
from zoo.evaluation.extractors import ClassifierExtractor, Extractor, extract_features, format_size, open_extractor
from zoo.evaluation.options import EvaluationOptions, Progress
from zoo.evaluation.record import Record, make_held_out_record, mean_and_error, round_digits
from zoo.evaluation.reference import check_content, check_held_out, load_held_out, read_image_shape
from zoo.evaluation.scores import ALL_METRICS
from zoo.evaluation.source import ExportedModel, fixed_permutation, graph_sha256
from zoo.metrics.distances import sliced_wasserstein_distance
from zoo.metrics.fidelity import (
    absolute_errors,
    luminance,
    peak_signal_to_noise_ratios,
    shave,
    structural_similarities,
)
from zoo.metrics.frechet import frechet_distance
from zoo.metrics.moments import Moments
from zoo.metrics.similarity import WINDOW
from zoo.presets.table import EXTRACTORS
from zoo.pretrained import local_directory

UPSCALE, TRANSLATE = "upscale", "translate_"
DIRECTIONS = ("a_to_b", "b_to_a")
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
BATCH_SIZE = 50
USED_OPTIONS = ("against", "split", "trained_on", "metrics", "extractors")
Scores = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class PairEvaluation:
    """One model's scores of pairs.

    Args:
        model: what is scored.
        options: the protocol.
        report_progress: called with a one-line progress message.
    """

    model: ExportedModel
    options: EvaluationOptions
    report_progress: Progress

    def compute_records(self) -> list[Record]:
        """A record for each score, or for those that the options name.

        Raises:
            ValueError: an option that makes no sense here, a score that can't be computed, images that the model was
                trained on.
        """
        name, options = self.model.card.name, self.options
        for option in fields(EvaluationOptions):
            value = getattr(options, option.name)
            if option.name not in USED_OPTIONS and value != option.default:
                raise ValueError(f"{option.name}={value}: {name} turns images into images: leave it out.")
        if len(options.extractors) > 1:
            raise ValueError(f"extractors={list(options.extractors)}: {name} is scored by one: name it alone.")
        upscales = self.model.card.default_ability == UPSCALE
        known = [
            key for key, metric in ALL_METRICS.items() if metric.group == ("upscaling" if upscales else "translation")
        ]
        if unknown := sorted(set(options.metrics) - set(known)):
            raise ValueError(f"metrics={unknown}: the scores of {name} are {', '.join(known)}.")
        records = {record.name: record for record in (self.score_upscaling() if upscales else self.score_translation())}
        if missing := [key for key in options.metrics if key not in records]:
            raise ValueError(f"{', '.join(missing)} can't be computed for {name}: it needs {REQUIREMENTS[missing[0]]}.")
        return [record for key, record in records.items() if not options.metrics or key in options.metrics]

    # Enlarged images

    def score_upscaling(self) -> Iterator[Record]:
        """Held-out images are scaled down, enlarged again, and compared with themselves."""
        pipeline = self.model.open(UPSCALE)
        real, preprocessing = load_held_out(self.model, self.options)
        factor = pipeline.ability.scale
        if any(side % factor for side in real.images.shape[1:3]):
            raise ValueError(f"images of {real.images.shape[1:3]}: both sides must be multiples of {factor}.")
        small = resize(real.images, 1 / factor, Image.Resampling.BICUBIC)
        made = {"": self.run(pipeline, small)}
        made |= {name: resize(small, factor, each) for name, each in FILTERS.items()}
        preprocessing += (
            f"; scaled down to 1/{factor} by Pillow's bicubic filter, to 8 bits; bicubic, lanczos: enlarged by "
            f"Pillow's; PSNR and SSIM without {factor} pixels at each side"
        )
        scores = {name: compare_enlarged(images, real.images, factor) for name, images in made.items()}
        yield from self.make_records(pipeline, scores, real, preprocessing)
        extractor = self.find_extractor(real)
        if extractor is not None:
            of_real = extract_features(extractor, real.images)[0]
            features = {name: extract_features(extractor, images)[0] for name, images in made.items()}
            if len(np.unique(of_real, axis=0)) > 1:  # of one image there is no distance to another
                distances = {
                    name: {"feature_distance": feature_distances(each, of_real)} for name, each in features.items()
                }
                yield from self.make_records(pipeline, distances, real, preprocessing, extractor)
            if len(of_real) > extractor.dimension:
                values = compare_moments(features, of_real)
                yield self.make_record("upscaled_frechet_distance", pipeline, values, real, preprocessing, extractor)

    def find_extractor(self, real: ImageSet) -> Extractor | None:
        """The one that is asked for, or the data set's own where it is on this machine and takes such images."""
        size = real.images.shape[1:]
        if self.options.extractors:
            named = open_extractor(self.options.extractors[0], size)
            if isinstance(named, ClassifierExtractor) and named.image.row != size:
                raise ValueError(
                    f"extractors={list(self.options.extractors)}: {named.name} takes images of "
                    f"{format_size(named.image.row)}, and these are of {format_size(size)}: name another."
                )
            return named
        name = EXTRACTORS.get(real.name)
        directory = local_directory(name) if name else None
        extractor = None if directory is None else ClassifierExtractor(directory)
        return extractor if extractor is not None and extractor.image.row == size else None

    # Translations

    def score_translation(self) -> Iterator[Record]:
        """Held-out images of one collection are translated, and compared with their pairs in the other."""
        one, other, preprocessing, paired = self.load_collections()
        if not paired:
            preprocessing += "; names of the collections' images differ or are not known, so no pairs are compared"
        preprocessing += "; identity: the image itself in the place of its translation"
        sides = {"a_to_b": (one, other), "b_to_a": (other, one)}
        for direction in DIRECTIONS:
            if f"{TRANSLATE}{direction}" not in self.model.card.abilities:
                continue
            pipeline = self.model.open(f"{TRANSLATE}{direction}")
            source, target = sides[direction]
            made = {"": self.run(pipeline, source.images), "identity": source.images}
            if paired:
                scores = {name: compare_translated(images, target.images, direction) for name, images in made.items()}
                yield from self.make_records(pipeline, scores, target, preprocessing)
            count = min(len(source.images), len(target.images))
            # Of the larger collection some, from everywhere: neighbors by name are alike.
            rows, wanted_rows = (fixed_permutation(len(each.images))[:count] for each in (source, target))
            wanted = to_float32(target.images[wanted_rows])
            values = {
                name: sliced_wasserstein_distance(to_float32(images[rows]), wanted) for name, images in made.items()
            }
            yield self.make_record(f"wasserstein_{direction}", pipeline, values, target, preprocessing)
            extractor = self.find_extractor(target)
            if extractor is not None and count > extractor.dimension:
                features = {name: extract_features(extractor, images)[0] for name, images in made.items()}
                values = compare_moments(features, extract_features(extractor, target.images)[0])
                yield self.make_record(f"frechet_{direction}", pipeline, values, target, preprocessing, extractor)

    def load_collections(self) -> tuple[ImageSet, ImageSet, str, bool]:
        """Held-out images of A and of B, what was done to them, and whether they are pairs.

        Scores rest on both, so both have the sha256 of the two.

        Raises:
            ValueError: they are among those that the model was trained on, or those are others than the card's.
        """
        card, options = self.model.card, self.options
        if options.split is not None:
            raise ValueError(f"split={options.split}: translations are scored on testA and testB.")
        size, _, channels = read_image_shape(card)
        fit = card.recipe.get("fit", "crop")
        load = partial(load_collections, image_size=size, channels=channels, fit=fit, paired=False)
        self.report_progress(f"{card.name}: images")
        one, other = load(options.against or card.data.source, held_out=True)
        training = load(card.data.source, held_out=False)
        known = zip(training, ("data_sha256", "target_sha256"), strict=True)
        same = all(check_content(card, images, options, key) for images, key in known)
        if same and options.trained_on and options.against is None:  # a copy may have any name
            one, other = (replace(each, name=card.data.name) for each in (one, other))
        for held_out, shown in zip((one, other), training, strict=True):
            check_held_out(card.name, held_out, shown)
        digest = hashlib.sha256(f"{one.fingerprint} {other.fingerprint}".encode()).hexdigest()
        one, other = (replace(each, fingerprint=digest) for each in (one, other))
        others = "" if same else "; training images are others than the card's"
        paired = bool(one.names) and one.names == other.names
        return one, other, f"8 bits a channel; {fit} to {size} x {size}, Lanczos{others}", paired

    # What both have

    def run(self, pipeline: Pipeline, images: np.ndarray) -> np.ndarray:
        """What the graph makes of uint8 images, uint8."""
        (spec,), (output, *_) = pipeline.ability.inputs, pipeline.ability.outputs
        parts = []
        for chunk in iterate_chunks(images, BATCH_SIZE):
            self.report_progress(f"{self.model.card.name}: {pipeline.ability.file}, {len(images)} images")
            made = pipeline.run({spec.name: to_float32(chunk)})[output.name]
            parts.append(to_uint8(made, output.range or (-1.0, 1.0)))
        return np.concatenate(parts)

    def make_records(
        self,
        pipeline: Pipeline,
        scores: Mapping[str, Scores],
        real: ImageSet,
        preprocessing: str,
        extractor: Extractor | None = None,
    ) -> Iterator[Record]:
        """One record a score, a mean over images; `scores` are by whose images they are, "" for the model's."""
        for name in scores[""]:
            values = {whose: found[name] for whose, found in scores.items()}
            _, error = mean_and_error(values[""])
            means = {whose: float(each.mean()) for whose, each in values.items()}
            yield self.make_record(name, pipeline, means, real, preprocessing, extractor, error)

    def make_record(
        self,
        name: str,
        pipeline: Pipeline,
        values: Mapping[str, float],
        real: ImageSet,
        preprocessing: str,
        extractor: Extractor | None = None,
        error: float | None = None,
    ) -> Record:
        """One score, with the baselines beside it; `values` are by whose images they are, "" for the model's."""
        baselines = {whose: round_digits(value) for whose, value in values.items() if whose}
        record = make_held_out_record(
            name,
            ALL_METRICS[name].label(name, extractor),
            self.model.card.name,
            values[""],
            error,
            real,
            preprocessing,
            graph_sha256(pipeline),
        )
        named = f"{extractor.name}@{extractor.sha256}" if extractor else None
        return replace(record, baselines=baselines, extractor=named)


LARGE = f"at least {WINDOW} x {WINDOW} pixels"
ANY_FEATURES = "a classifier of the data or random-features (--extractors)"
MANY_IMAGES = f"{ANY_FEATURES}, and more images than features"
PAIRS = "held-out pairs of the same names"
REQUIREMENTS: Mapping[str, str] = {
    "psnr_rgb": "images in color",
    "ssim_y": f"{LARGE} inside the border that is cut off",
    "ssim_rgb": f"{LARGE} inside the border that is cut off, in color",
    "feature_distance": f"{ANY_FEATURES}, and two different images",
    "upscaled_frechet_distance": MANY_IMAGES,
    **{
        f"{score}_{direction}": " and ".join([f"the ability {TRANSLATE}{direction}", *needs])
        for score, needs in {"l1": [PAIRS], "ssim": [PAIRS, LARGE], "wasserstein": [], "frechet": [MANY_IMAGES]}.items()
        for direction in DIRECTIONS
    },
}
"""Score -> what it needs, which may be missing."""


def transforms_images(model: ExportedModel) -> bool:
    """Whether an exported model turns images into other ones."""
    return find_task(model.card.default_ability) is not None


def resize(images: np.ndarray, factor: float, filter: Image.Resampling) -> np.ndarray:
    """uint8 images by a filter of Pillow's, which widens where it scales down."""
    size = round(images.shape[2] * factor), round(images.shape[1] * factor)
    resized = np.stack([np.asarray(image.resize(size, filter)) for image in to_pil(images)])
    return resized.reshape(*resized.shape[:3], -1)


def compare_enlarged(images: np.ndarray, real: np.ndarray, border: int) -> Scores:
    """PSNR and SSIM of uint8 images, on luminance and, where there are colors, on those."""
    one, other = (shave(to_float32(each), border) for each in (images, real))
    large = min(one.shape[1:3]) >= WINDOW
    scores: dict[str, np.ndarray] = {}
    views: dict[str, Callable[[np.ndarray], np.ndarray]] = {"y": luminance}
    if images.shape[-1] == 3:
        views["rgb"] = lambda each: each
    for name, view in views.items():
        scores[f"psnr_{name}"] = peak_signal_to_noise_ratios(view(one), view(other))
        if large:
            scores[f"ssim_{name}"] = structural_similarities(view(one), view(other))
    return scores


def compare_translated(images: np.ndarray, real: np.ndarray, direction: str) -> Scores:
    """Mean absolute error and SSIM of uint8 images."""
    one, other = to_float32(images), to_float32(real)
    scores = {f"l1_{direction}": absolute_errors(one, other)}
    if min(one.shape[1:3]) >= WINDOW:
        scores[f"ssim_{direction}"] = structural_similarities(one, other)
    return scores


def compare_moments(features: Mapping[str, np.ndarray], real: np.ndarray) -> dict[str, float]:
    """The Frechet distance of each set of features from real images' ones, all (count, dimension)."""
    whole = Moments.of(real)
    return {name: frechet_distance(Moments.of(each), whole) for name, each in features.items()}


def feature_distances(features: np.ndarray, real: np.ndarray) -> np.ndarray:
    """||f(x) - f(y)||^2 of each pair, over its mean between different images of y: 1 is as far as another image.

    Args:
        features: of what was made of each image, (count, dimension).
        real: of the images themselves, likewise, at least two.
    """
    wide = real.astype(np.float64)
    spread = 2.0 * wide.var(axis=0, ddof=1).sum()
    return np.square(features.astype(np.float64) - wide).sum(axis=1) / spread
