"""The accuracy of an exported classifier."""

from zoo.evaluation.extractors import ClassifierExtractor, extract_features
from zoo.evaluation.options import EvaluationOptions, Progress
from zoo.evaluation.record import Record, make_held_out_record
from zoo.evaluation.reference import load_held_out
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
    classes = card.model["arguments"].get("classes", ())
    report_progress(f"{card.name}: images")
    real, preprocessing = load_held_out(model, options)
    if real.labels is None:
        raise ValueError(f"{real.name}, {real.split}, has no labels: an accuracy needs them.")
    if list(real.class_names) != list(classes):
        raise ValueError(
            f"{real.name} has the classes {', '.join(real.class_names)}, and {card.name} names {', '.join(classes)}: "
            "give images of the same classes, in the same order."
        )
    report_progress(f"{card.name}: {len(real.images)} images")
    correct = extract_features(extractor, real.images)[1].argmax(axis=1) == real.labels
    share = float(correct.mean())
    error = (share * (1 - share) / len(correct)) ** 0.5  # of a binomial share
    return make_held_out_record("accuracy", "accuracy", card.name, share, error, real, preprocessing, extractor.sha256)
