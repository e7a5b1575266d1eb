"""`zoo evaluate`: scores generated images against held-out real ones.

It also scores a model's likelihoods, latents and reconstructions of held-out images. Each score comes with its
protocol, error bar and, where it has them, baselines.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from serving.sampling.noise import to_uint64
from zoo.evaluation.accuracy import evaluate_classifier
from zoo.evaluation.extractors import Extractor, open_extractor
from zoo.evaluation.generated import GeneratedEvaluation, score_samples
from zoo.evaluation.held_out import HeldOutEvaluation, has_ability
from zoo.evaluation.inception import read_inception, require_weights
from zoo.evaluation.options import EvaluationOptions, Progress
from zoo.evaluation.pairs import PairEvaluation, transforms_images
from zoo.evaluation.random_features import DIMENSION, RandomFeatures
from zoo.evaluation.random_features import NAME as RANDOM_FEATURES
from zoo.evaluation.record import Record
from zoo.evaluation.reference import Reference, load_reference
from zoo.evaluation.scores import (
    ALL_METRICS,
    DEFAULT_METRICS,
    HELD_OUT_METRICS,
    NETWORK_TRAINING_METRICS,
    SECOND_OPINION,
)
from zoo.evaluation.source import ExportedModel, ImageSource, Source, locate_data, open_resolved, resolve_name, shorten
from zoo.extras import require_extra
from zoo.metrics.similarity import WINDOW
from zoo.presets.table import EXTRACTORS
from zoo.pretrained import cache_root, find_directory

FEATURES = "features (--extractors or --inception)"
GENERATED = "images that the source generates"
REQUIREMENTS: Mapping[str, str] = {
    "frechet": FEATURES,
    "frechet_infinity": f"{FEATURES} and more images (--count)",
    "kernel": FEATURES,
    "neighbors": FEATURES,
    "classes": FEATURES,
    "copies": f"{FEATURES}, training images (--trained-on) and 100 held-out images",
    "wasserstein": GENERATED,
    "similarity": f"images of at least {WINDOW} x {WINDOW} pixels",
    "spectrum": GENERATED,
    "paths": f"{FEATURES} and a generator of latents alone",
    "accuracy": "a classifier",
    "upscaling": "the ability upscale",
    "translation": "the ability translate_a_to_b or translate_b_to_a",
    "classifier": f"{FEATURES}, training images (--trained-on) and labels of both real sets",
    "discriminator": GENERATED,
    "bounds": "the ability log_prob, held-out images of its classes if it takes a class, and for bits_per_dimension a "
    "likelihood of gray levels",
    "latents": "the ability encode with mean and scale, and held-out images of its classes if it takes a class",
    "reconstruction": "the ability reconstruct, and held-out images of its classes if it takes a class",
}
"""Group of metrics -> what it needs, which may be missing."""


def evaluate(
    name: str,
    options: EvaluationOptions = EvaluationOptions(),  # noqa: B008 (frozen)
    *,
    report_progress: Progress = lambda message: None,
) -> list[Record]:
    """Score the images that `name` generates, and its likelihoods, latents and reconstructions of held-out ones.

    Args:
        name: see `zoo.evaluation.source.open_source`; or a classifier of the zoo, which gets its accuracy, or a model
            that enlarges or translates images.
        options: the protocol.
        report_progress: called with a one-line progress message.

    Raises:
        UnknownPresetError: `name` is neither a preset nor a path.
        FileNotFoundError: it is a path, and nothing is there.
        ValueError: real images that the model was trained on; sizes, ranges or numbers that do not fit; a metric
            that is unknown, or asked for by name and can't be computed.
        RuntimeError: a graph fails while it is run, or memory is short.
    """
    try:
        return compute_scores(name, options, report_progress)
    except (ValueError, LookupError, ImportError, OSError, RuntimeError):
        raise
    except Exception as error:  # a runtime's errors have no class in common, and do not say whose graph it was
        raise RuntimeError(f"{name} can't be evaluated: {type(error).__name__}: {shorten(error)}") from error


def compute_scores(name: str, options: EvaluationOptions, report_progress: Progress) -> list[Record]:
    """See `evaluate`."""
    check_options(options)
    target = resolve_name(name)
    if isinstance(target, ExportedModel):
        target = locate_data(target, options.trained_on)
    if isinstance(target, ExportedModel) and target.card.default_ability == "classify":
        if options.metrics and set(options.metrics) != {"accuracy"}:
            raise ValueError(
                f"metrics={sorted(options.metrics)}: {name} is a classifier, whose only score is accuracy."
            )
        return [evaluate_classifier(target, options, report_progress)]
    if isinstance(target, ExportedModel) and transforms_images(target):
        return PairEvaluation(target, options, report_progress).compute_records()
    source = open_resolved(target, name)
    check_source(source, options)
    metrics = options.metrics or (*DEFAULT_METRICS, *HELD_OUT_METRICS)
    report_progress(f"{source.name}: real images")
    reference = load_reference(source, options)
    extractors = choose_extractors(source, reference, options, metrics)
    # Held-out images first: they refuse a bad number of samples.
    held_out = score_held_out(source, reference, options, metrics, report_progress)
    records = [*score_generated(source, reference, extractors, options, metrics, report_progress), *held_out]
    missing = sorted(set(metrics) - {record.name for record in records})
    # By default, what can't be computed is left out; a metric asked for by name must not be.
    if missing and (options.metrics or not records):
        raise ValueError(
            f"{', '.join(missing)} can't be computed for {source.name} against {reference.real.name}. "
            f"{describe_requirements(missing)}."
        )
    return records


def describe_requirements(metrics: Collection[str]) -> str:
    """Such as "precision, recall need features (--extractors or --inception)"."""
    names_by_need: dict[str, list[str]] = {}
    for name in metrics:
        names_by_need.setdefault(REQUIREMENTS[ALL_METRICS[name].group], []).append(name)
    return "; ".join(
        f"{', '.join(names)} {'need' if len(names) > 1 else 'needs'} {need}" for need, names in names_by_need.items()
    )


def check_options(options: EvaluationOptions) -> None:
    """Refuse what no source can be evaluated with.

    Raises:
        ValueError: an unknown metric, a count or a seed out of range, no seeds or one twice, a sha256 of nothing.
        FileNotFoundError: the Inception's weights are not there.
        UnknownPresetError, CardError: an extractor that there is not.
        MissingExtraError: a network is to be run or trained, and TensorFlow is not installed.
    """
    if unknown := sorted(set(options.metrics) - set(ALL_METRICS)):
        raise ValueError(f"metrics={unknown}: choose from {', '.join(ALL_METRICS)}.")
    count, seeds = options.count, options.seeds
    if count < 2 or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"count={count}, seeds={seeds}: give at least 2 images and different seeds.")
    for seed in seeds:
        to_uint64("seed", seed)
    to_uint64("count", count)
    for name in options.extractors:
        if name != RANDOM_FEATURES:
            find_directory(name)
    if options.inception is not None or set(options.metrics) & set(NETWORK_TRAINING_METRICS):
        require_extra("this evaluation", "train")
    if options.inception is not None:
        require_weights(options.inception)
    elif options.inception_sha256 is not None:
        raise ValueError("inception_sha256 is that of weights: name them with --inception.")


def check_source(source: Source, options: EvaluationOptions) -> None:
    """Refuse what this source can't be evaluated with.

    Raises:
        ValueError: too few images for the seeds; scores of images that it does not generate; samples of a bound that it
            does not give.
    """
    if isinstance(source, ImageSource):
        if source.count(options.count, len(options.seeds)) < 2:
            seeds = len(options.seeds)
            raise ValueError(f"{source.name}: too few images for {seeds} seeds: give at least {2 * seeds}.")
    elif wrong := sorted(set(options.metrics) - set(HELD_OUT_METRICS)):
        raise ValueError(
            f"{source.name} generates no images, so it has no {', '.join(wrong)}: choose from "
            f"{', '.join(HELD_OUT_METRICS)}."
        )
    if options.bound_samples is not None and not has_ability(source, "bounds"):
        raise ValueError(f"bound_samples={options.bound_samples}: {source.name} gives no bound of log p(x).")


def choose_extractors(
    source: Source, reference: Reference, options: EvaluationOptions, metrics: Collection[str]
) -> list[Extractor]:
    """Those asked for, or the data set's own; none where no score of generated images needs features.

    Raises:
        CardError: one has no weights here, or damaged ones.
        ValueError: one does not map an image to features and logits.
    """
    of_features = {name for name, metric in ALL_METRICS.items() if metric.needs_features}
    if not isinstance(source, ImageSource) or not of_features & set(metrics):
        return []
    own = EXTRACTORS.get(reference.real.name)
    names = options.extractors or ((own,) if own else ())
    extractors = [open_extractor(name, reference.real.images.shape[1:]) for name in dict.fromkeys(names)]
    if options.inception is not None:
        extractors.append(read_inception(options.inception, options.inception_sha256, cache_root() / "inception"))
    return extractors


def score_held_out(
    source: Source,
    reference: Reference,
    options: EvaluationOptions,
    metrics: Collection[str],
    report_progress: Progress,
) -> list[Record]:
    """Those of `metrics` that are of held-out images, as far as the model has the abilities."""
    chosen = [name for name in HELD_OUT_METRICS if name in metrics and has_ability(source, ALL_METRICS[name].group)]
    if source.model is None or not chosen:
        return []
    # A model is given what it was trained on: images with their padding.
    uncut = replace(options, crop=source.size[0])
    whole = reference if reference.crop is None else load_reference(source, uncut)
    return HeldOutEvaluation(
        source.model, whole, chosen, options.bound_samples, options.seeds[0], report_progress
    ).compute_records()


def score_generated(
    source: Source,
    reference: Reference,
    extractors: list[Extractor],
    options: EvaluationOptions,
    metrics: Collection[str],
    report_progress: Progress,
) -> list[Record]:
    """Those of `metrics` that are of generated images, by each extractor; `SECOND_OPINION` by random features too."""
    if not isinstance(source, ImageSource):
        return []
    of_images = [name for name in metrics if name not in HELD_OUT_METRICS]
    if not of_images:
        return []
    of_features = [
        name for name in of_images if ALL_METRICS[name].needs_features and name not in NETWORK_TRAINING_METRICS
    ]

    def make(extractor: Extractor | None, chosen: list[str]) -> GeneratedEvaluation:
        count, seeds = options.count, options.seeds
        return GeneratedEvaluation(source, reference, extractor, chosen, count, seeds, report_progress)

    # Pixel metrics, and those that train a network (labeled by the first extractor), are computed once.
    evaluations = [
        make(extractor, of_features if number else of_images) for number, extractor in enumerate(extractors or [None])
    ]
    enough = min(evaluations[0].count, len(reference.real.images)) > DIMENSION
    if SECOND_OPINION in of_features and not options.extractors and enough:
        evaluations.append(make(RandomFeatures(reference.real.images.shape[1:]), [SECOND_OPINION]))
    compared = [evaluation for evaluation in evaluations if evaluation.compared]
    if compared:
        score_samples(compared)
    return [record for evaluation in evaluations for record in evaluation.compute_records()]
