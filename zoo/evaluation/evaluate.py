"""`zoo evaluate`: images of any source against held-out ones, and what a model makes of held-out ones themselves.

Each score comes with its protocol, error bar and, where it has them, baselines.
"""

from collections.abc import Callable, Collection
from dataclasses import replace

from zoo.evaluation.accuracy import evaluate_classifier
from zoo.evaluation.extractors import ClassifierExtractor, Extractor
from zoo.evaluation.generated import GeneratedEvaluation
from zoo.evaluation.held_out import HeldOutEvaluation, has_ability
from zoo.evaluation.options import EvaluationOptions
from zoo.evaluation.record import Record
from zoo.evaluation.reference import Reference, load_reference
from zoo.evaluation.scores import ALL_METRICS, DEFAULT_METRICS, OF_HELD_OUT, TRAINED
from zoo.evaluation.source import ExportedModel, ImageSource, Source, open_resolved, resolve_name
from zoo.presets.table import EXTRACTORS
from zoo.pretrained import cache_root, find_directory

Tell = Callable[[str], None]


def evaluate(
    name: str,
    options: EvaluationOptions = EvaluationOptions(),  # noqa: B008 (frozen)
    *,
    tell: Tell = lambda message: None,
) -> list[Record]:
    """Score images of `name`, and what it makes of held-out ones.

    Args:
        name: see `zoo.evaluation.source.open_source`; or a classifier of the zoo, which gets its accuracy.
        options: the protocol.
        tell: is given a line now and then.

    Raises:
        UnknownPresetError: `name` is neither a preset nor a path.
        FileNotFoundError: it is a path, and nothing is there.
        ValueError: real images that the model was trained on; sizes, ranges or numbers that do not fit; a metric
            that is unknown or can't be made.
    """
    check_options(options)
    target = resolve_name(name)
    if isinstance(target, ExportedModel) and target.card.default_ability == "classify":
        if options.metrics and set(options.metrics) != {"accuracy"}:
            raise ValueError(
                f"metrics={sorted(options.metrics)}: {name} is a classifier, whose only score is accuracy."
            )
        return [evaluate_classifier(target, options, tell)]
    source = open_resolved(target, name)
    check_source(source, options)
    metrics = options.metrics or (*DEFAULT_METRICS, *OF_HELD_OUT)
    tell(f"{source.name}: real images")
    reference = load_reference(source, options)
    extractors = choose_extractors(source, reference, options, metrics)
    held_out = score_held_out(source, reference, options, metrics, tell)  # first: it refuses a bad number of samples
    records = [*score_generated(source, reference, extractors, options, metrics, tell), *held_out]
    missing = sorted(set(metrics) - {record.name for record in records})
    if missing and (options.metrics or not records):
        raise ValueError(
            f"{', '.join(missing)} can't be made of {source.name} against {reference.real.name}: give --extractors or "
            "--inception for what needs features, --trained-on and 100 held-out images for copies, more images "
            "for a distance at infinity; a path length needs a generator of latents alone, an accuracy a classifier; "
            "bounds, latents and reconstructions need a model with the abilities log_prob, encode and reconstruct, and "
            "images of the classes that it knows where it is told the class; bits a likelihood of gray levels."
        )
    return records


def check_options(options: EvaluationOptions) -> None:
    """Refuse what no source can be evaluated with.

    Raises:
        ValueError: an unknown metric, too few images, no seeds or one twice.
    """
    if unknown := sorted(set(options.metrics) - set(ALL_METRICS)):
        raise ValueError(f"metrics={unknown}: choose from {', '.join(ALL_METRICS)}.")
    count, seeds = options.count, options.seeds
    if count < 2 or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"count={count}, seeds={seeds}: give at least 2 images and different seeds.")


def check_source(source: Source, options: EvaluationOptions) -> None:
    """Refuse what this source can't be evaluated with.

    Raises:
        ValueError: too few images for the seeds; scores of images that it does not make; samples of a bound that it
            does not give.
    """
    if isinstance(source, ImageSource):
        if source.count(options.count, len(options.seeds)) < 2:
            seeds = len(options.seeds)
            raise ValueError(f"{source.name}: too few images for {seeds} seeds: give at least {2 * seeds}.")
    elif wrong := sorted(set(options.metrics) - set(OF_HELD_OUT)):
        raise ValueError(
            f"{source.name} makes no images of its own, so it has no {', '.join(wrong)}: choose from "
            f"{', '.join(OF_HELD_OUT)}."
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
    of_features = {name for name, metric in ALL_METRICS.items() if metric.title}
    if not isinstance(source, ImageSource) or not of_features & set(metrics):
        return []
    own = EXTRACTORS.get(reference.real.name)
    names = options.extractors or ((own,) if own else ())
    extractors: list[Extractor] = [ClassifierExtractor(find_directory(name)) for name in dict.fromkeys(names)]
    if options.inception is not None:
        from zoo.evaluation.inception import read_inception

        extractors.append(read_inception(options.inception, options.inception_sha256, cache_root() / "inception"))
    return extractors


def score_held_out(
    source: Source, reference: Reference, options: EvaluationOptions, metrics: Collection[str], tell: Tell
) -> list[Record]:
    """Those of `metrics` that say what the model makes of held-out images, as far as it has the abilities."""
    chosen = [name for name in OF_HELD_OUT if name in metrics and has_ability(source, ALL_METRICS[name].group)]
    if source.model is None or not chosen:
        return []
    # A model is given what it was trained on: images with their padding.
    uncut = replace(options, crop=source.size[0])
    whole = reference if reference.crop is None else load_reference(source, uncut)
    return HeldOutEvaluation(source.model, whole, chosen, options.bound_samples, options.seeds[0], tell).records()


def score_generated(
    source: Source,
    reference: Reference,
    extractors: list[Extractor],
    options: EvaluationOptions,
    metrics: Collection[str],
    tell: Tell,
) -> list[Record]:
    """Those of `metrics` that are of images which the source makes, by each extractor."""
    if not isinstance(source, ImageSource):
        return []
    of_images = [name for name in metrics if name not in OF_HELD_OUT]
    if not of_images:
        return []
    of_features = [name for name in of_images if ALL_METRICS[name].title and name not in TRAINED]
    records: list[Record] = []
    for number, extractor in enumerate(extractors or [None]):
        chosen = of_features if number else of_images  # what needs no features is made once
        records += GeneratedEvaluation(
            source, reference, extractor, chosen, options.count, options.seeds, tell
        ).records()
    return records
