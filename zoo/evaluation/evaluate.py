"""`zoo evaluate`: images of any source against held-out ones, and what a model makes of held-out ones themselves.

Each score comes with its protocol, error bar and, where it has them, floor and ceilings.
"""

from collections.abc import Callable, Collection, Sequence

from zoo.evaluation.accuracy import accuracy, classifier_directory
from zoo.evaluation.extractors import EXTRACTORS, ClassifierExtractor, Extractor
from zoo.evaluation.generated import Evaluation
from zoo.evaluation.held_out import HeldOutEvaluation, able
from zoo.evaluation.record import Record
from zoo.evaluation.reference import Held, load_reference
from zoo.evaluation.scores import (
    ALL_METRICS,
    DEFAULT_METRICS,
    OF_HELD_OUT,
    TRAINED,
)
from zoo.evaluation.source import open_source
from zoo.pretrained import cache_root, find_directory

COUNT = 10_000  # generated images of a seed
SEEDS = (0, 1, 2)
SPLIT = "test"


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
    bound_samples: int | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> list[Record]:
    """Score images of `name`, and what it makes of held-out ones.

    Args:
        name: see `zoo.evaluation.source.open_source`; or a classifier of the zoo, which gets its accuracy.
        against: real images: a data set, folder or zip as for training; the model's own data when not given.
        split: of `against`; held out when the model was trained.
        trained_on: the data of a source without a card, for floor, copies and the refusal of training images.
        extractors: presets or exported directories of classifiers; the data set's own when not given.
        inception: path or URL of the 2015 Inception's weights; adds FID, KID and IS.
        inception_sha256: what these must have.
        metrics: names of `ALL_METRICS`; when empty, those of `DEFAULT_METRICS` and `OF_HELD_OUT` that can be made.
        count: generated images a seed.
        seeds: of the sampling.
        crop: take the center of this many pixels of generated images, and of real ones that are brought to their
            size as for training; known where the card says padding. What a model is shown is never cut.
        bound_samples: of z, for each image's importance-weighted bound: a multiple of what the graph takes at once,
            which it is when not given.
        tell: is given a line now and then.

    Raises:
        ValueError: real images that the model was trained on; sizes, ranges or numbers that do not fit; a metric
            that is unknown or can't be made.
    """
    chosen_metrics = tuple(metrics) or (*DEFAULT_METRICS, *OF_HELD_OUT)
    if unknown := sorted(set(chosen_metrics) - set(ALL_METRICS)):
        raise ValueError(f"metrics={unknown}: choose from {', '.join(ALL_METRICS)}.")
    if count < 2 or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"count={count}, seeds={seeds}: give at least 2 images and different seeds.")
    if (directory := classifier_directory(name)) is not None:
        if metrics and set(metrics) != {"accuracy"}:
            raise ValueError(f"metrics={sorted(metrics)}: {name} is a classifier, whose only score is accuracy.")
        return [accuracy(directory, against, split, tell)]
    source = open_source(name)
    if source.count(count, len(seeds)) < 2:
        raise ValueError(f"{source.name}: too few images for {len(seeds)} seeds: give at least {2 * len(seeds)}.")
    of_images = [one for one in chosen_metrics if one not in OF_HELD_OUT] if source.makes_images else []
    if metrics and not source.makes_images and (wrong := sorted(set(metrics) - set(OF_HELD_OUT))):
        raise ValueError(
            f"{source.name} makes no images of its own, so it has no {', '.join(wrong)}: choose from "
            f"{', '.join(OF_HELD_OUT)}."
        )
    if bound_samples is not None and not able(source, "bounds"):
        raise ValueError(f"bound_samples={bound_samples}: {source.name} gives no bound of log p(x).")
    tell(f"{source.name}: real images")
    held = load_reference(source, against, split, trained_on, crop)
    judges: list[Extractor | None] = []
    if any(ALL_METRICS[one].title for one in of_images):
        judges += [ClassifierExtractor(find_directory(each)) for each in dict.fromkeys(names(extractors, held))]
        if inception is not None:
            from zoo.evaluation.inception import read_inception

            judges.append(read_inception(inception, inception_sha256, cache_root() / "inception"))
    of_each = [one for one in of_images if ALL_METRICS[one].title and one not in TRAINED]
    of_held_out = [one for one in OF_HELD_OUT if one in chosen_metrics and able(source, ALL_METRICS[one].group)]
    shown: list[Record] = []  # made first: they refuse a bad number of samples
    if of_held_out:
        # A model is shown what it was trained on: images with their padding.
        whole = held if held.crop is None else load_reference(source, against, split, trained_on, source.size[0])
        shown = HeldOutEvaluation(source, whole, of_held_out, bound_samples, seeds[0], tell).records()
    records: list[Record] = []
    for number, judge in enumerate((judges or [None]) if of_images else []):
        wanted = of_each if number else of_images  # what needs no features is made once
        records += Evaluation(source, held, judge, wanted, count, seeds, tell).records()
    records += shown
    missing = sorted(set(chosen_metrics) - {record.name for record in records})
    if missing and (metrics or not records):
        raise ValueError(
            f"{', '.join(missing)} can't be made of {source.name} against {held.real.name}: give --extractor or "
            "--inception for what needs features, --trained-on and 100 held-out images for copies, more images "
            "for a distance at infinity; a path length needs a generator of latents alone, an accuracy a classifier; "
            "bounds, latents and reconstructions need a model with the abilities log_prob, encode and reconstruct, and "
            "images of the classes that it knows where it is told the class; bits a likelihood of gray levels."
        )
    return records


def names(extractors: Sequence[str], held: Held) -> Sequence[str]:
    """The extractors asked for, or the data set's own, or none."""
    if extractors:
        return extractors
    known = EXTRACTORS.get(held.real.name)
    return (known,) if known else ()
