"""The accuracy of an exported classifier."""

from dataclasses import replace
from functools import partial

from zoo.data.load import load_images
from zoo.evaluation.extractors import ClassifierExtractor, extract_features
from zoo.evaluation.options import EvaluationOptions, Progress
from zoo.evaluation.record import Record, make_held_out_record
from zoo.evaluation.reference import SHARED_AT_MOST, check_content, choose_split, find_shared
from zoo.evaluation.source import ExportedModel


def evaluate_classifier(model: ExportedModel, options: EvaluationOptions, report_progress: Progress) -> Record:
    """The share of held-out images whose class a classifier names; std is that of the share itself.

    Args:
        model: its default ability is `classify`.
        options: against and split.
        report_progress: called with a one-line progress message.

    Raises:
        ValueError: images without labels, of other classes, or that the classifier was trained on.
    """
    extractor, card = ClassifierExtractor(model.directory), model.card
    height, _, channels = extractor.image.row
    fit, classes = card.recipe.get("fit", "crop"), card.model["arguments"].get("classes", ())
    load = partial(load_images, image_size=height, channels=channels, fit=fit)
    report_progress(f"{card.name}: images")
    real = load(options.against or card.data.source, split=choose_split(options, card.data.source))
    train = load(card.data.source, split=card.data.split)
    same = check_content(card, train, options)
    if same and options.trained_on and options.against is None:  # a copy may have any name
        real = replace(real, name=card.data.name)
    if real.labels is None:
        raise ValueError(f"{real.name}, {real.split}, has no labels: an accuracy needs them.")
    if list(real.class_names) != list(classes):
        raise ValueError(
            f"{real.name} has the classes {', '.join(real.class_names)}, and {card.name} names {', '.join(classes)}: "
            "give images of the same classes, in the same order."
        )
    shared = find_shared(real.images, train.images)
    if shared.mean() > SHARED_AT_MOST:
        raise ValueError(
            f"{shared.sum()} of {len(shared)} images of {real.name}, {real.split}, are among those that {card.name} "
            "was trained on: give images that were held out."
        )
    report_progress(f"{card.name}: {len(real.images)} images")
    correct = extract_features(extractor, real.images)[1].argmax(axis=1) == real.labels
    share = float(correct.mean())
    error = (share * (1 - share) / len(correct)) ** 0.5  # of a binomial share
    others = "" if same else "; training images are others than the card's"
    preprocessing = f"8 bits a channel; {fit} to {height} x {height}, Lanczos{others}"
    return make_held_out_record("accuracy", "accuracy", card.name, share, error, real, preprocessing, extractor.sha256)
