"""Scores of every preset in files: results/*.csv, the README's table, the cards."""

import csv
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from serving.card import read_card
from zoo.evaluation.cards import to_records, write_scores
from zoo.evaluation.console import format_number, format_value, short_title
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.options import EvaluationOptions, Progress
from zoo.evaluation.random_features import NAME as RANDOM_FEATURES
from zoo.evaluation.record import Record, to_plain_data
from zoo.evaluation.scores import SECOND_OPINION
from zoo.export.model_card import BASELINES, PAIR_BASELINES
from zoo.pretrained import PACKAGE, SHIPPED, list_models, shipped_directory

CHECKOUT = PACKAGE.parent
COLUMNS = (
    *("model", "metric", "value", "std", *BASELINES, *PAIR_BASELINES, "floor_std", "better", "extractor", "data"),
    *("split", "seeds"),
    *("real_count", "generated_count", "preprocessing", "source_sha256", "data_sha256", "versions", "parts"),
)
BEGIN, END = "<!-- scores: written by zoo evaluate --all -->", "<!-- end of scores -->"
BY_RANDOM = "frechet_distance by random features"
ORDERED_BY = "frechet_distance"
# Scores of whole images, low is good, by which the README ranks models; those with a title of their own say so.
OPINIONS = {
    ORDERED_BY: None,
    BY_RANDOM: "the same by random features",
    "sliced_wasserstein_distance": "sliced Wasserstein",
    "spectral_distance": "spectral",
}
WITHIN = 2  # standard deviations of a difference
PAIR_BLOCKS = (
    (
        ("identity",),
        tuple(f"{name}_{way}" for way in ("a_to_b", "b_to_a") for name in ("l1", "ssim", "wasserstein", "frechet")),
    ),
    (
        ("bicubic", "lanczos"),
        ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "feature_distance", "upscaled_frechet_distance"),
    ),
)
"""Baselines and scores of translations, and of enlarged images."""
IN_README = ("precision", "recall", "coverage", "smallest_class_share", "copies", "ms_ssim")


def evaluate_all(
    report_progress: Progress,
    say: Callable[[str], None] = print,
    root: Path = CHECKOUT,
    options: EvaluationOptions = EvaluationOptions(),  # noqa: B008 (frozen)
) -> list[Record]:
    """Score every preset that has weights and write its card, then results/ and the README's table from the cards.

    Args:
        options: metrics and extractors: where they are named, only these scores are made, and take their places on the
            cards beside those that are there. All else of the protocol is what the presets' scores share.
        report_progress: called with a one-line progress message.
        say: is told of each preset whose data are not on this machine; its card stays as it was.
        root: of the checkout.

    Raises:
        ValueError: this is no checkout; other options than metrics and extractors.
    """
    some = EvaluationOptions(metrics=options.metrics, extractors=options.extractors)
    if different := [item.name for item in fields(some) if getattr(options, item.name) != getattr(some, item.name)]:
        raise ValueError(
            f"{', '.join(different)}: all presets are scored by one protocol; beside --all give --metrics and "
            "--extractors alone."
        )
    if not (root / "README.md").is_file() or SHIPPED[0].parent != root:
        raise ValueError(f"{root} is no checkout: --all writes results/, README.md and the cards there.")
    directories = [directory for name in list_models(pretrained=True) if (directory := shipped_directory(name))]
    for directory in directories:
        try:
            found = evaluate(directory.name, some, report_progress=report_progress)
        except (OSError, RuntimeError, ValueError) as error:
            # A classifier has none of the scores that are named, which is no reason to stop; all else is.
            if isinstance(error, ValueError) and not some.metrics:
                raise
            say(f"{directory.name} is not scored again: {error}")
            continue
        new = {find_place(record) for record in found}
        added_to = to_records(read_card(directory)) if some.metrics or some.extractors else []
        write_scores(directory, [*(record for record in added_to if find_place(record) not in new), *found])
    records = [record for directory in directories for record in to_records(read_card(directory))]
    write_tables(records, root / "results")
    readme = root / "README.md"
    readme.write_text(replace_table(readme.read_text(encoding="utf-8"), records), encoding="utf-8")
    return records


def find_place(record: Record) -> tuple[str, str]:
    """What a card holds once: a score by an extractor, whatever its weights."""
    return record.name, (record.extractor or "").partition("@")[0]


def write_tables(records: Sequence[Record], folder: Path) -> None:
    """One file per data set, <data>.csv: a row per score, ordered by model; of baselines of pairs those there are."""
    folder.mkdir(exist_ok=True)
    for data, group in groupby(sorted(records, key=lambda record: record.data), key=lambda record: record.data):
        found = list(group)
        unused = {*PAIR_BASELINES} - {name for record in found for name in record.baselines}
        with (folder / f"{Path(data).stem}.csv").open("w", newline="", encoding="utf-8") as file:
            columns = [column for column in COLUMNS if column not in unused]
            writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(make_row(record) for record in found)


def make_row(record: Record) -> dict[str, Any]:
    """One line of a table; seeds, versions and parts as texts."""
    (plain,) = to_plain_data([record])
    lists = {name: " ".join(map(str, plain[name])) for name in ("seeds", "parts")}
    return {**plain, **record.baselines, **lists, "versions": json.dumps(record.versions, sort_keys=True)}


def replace_table(readme: str, records: Sequence[Record]) -> str:
    """The README with its table between the two marks replaced.

    Raises:
        ValueError: the marks are not there.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md has no place for the scores: put {BEGIN} and {END} where they belong.")
    return f"{before}{BEGIN}\n{readme_table(records)}\n{END}{after}"


def readme_table(records: Sequence[Record]) -> str:
    """Markdown: a table for each data set, its models from the best to the worst Frechet distance; then the others.

    Those are one of models with a bound of log p(x), one of models that only reconstruct, those of models that turn
    images into images, and one of classifiers.
    """
    by_model = {model: index_records(found) for model, found in groupby(records, key=lambda record: record.model)}
    generators = {model: scores for model, scores in by_model.items() if ORDERED_BY in scores}
    data_sets = sorted({scores[ORDERED_BY].data for scores in generators.values()})
    blocks = [
        list_generators({model: scores for model, scores in generators.items() if scores[ORDERED_BY].data == data})
        for data in data_sets
    ]
    with_bound = [scores for scores in by_model.values() if "importance_weighted_bound" in scores]
    reconstructing = [
        scores["squared_error"]
        for scores in by_model.values()
        if "squared_error" in scores and "importance_weighted_bound" not in scores
    ]
    classifiers = [scores["accuracy"] for scores in by_model.values() if "accuracy" in scores]
    if with_bound:
        lines = ["| model | bound (IWAE-K), nats | ELBO | active units | squared error | on |", "|---" * 6 + "|"]
        for scores in with_bound:
            bound, rest = scores["importance_weighted_bound"], ("elbo", "active_units", "squared_error")
            cells = [f"`{bound.model}`", f"{format_value(bound)}, {bound.metric}"]
            cells += [format_value(scores.get(name)) for name in rest]
            lines.append(f"| {' | '.join(cells)} | {describe_images(bound)} |")
        blocks.append("\n".join(lines))
    if reconstructing:
        lines = ["| autoencoder | squared error | on |", "|---|---|---|"]
        lines += [f"| `{one.model}` | {format_value(one)} | {describe_images(one)} |" for one in reconstructing]
        blocks.append("\n".join(lines))
    for baselines, columns in PAIR_BLOCKS:
        models = [scores for scores in by_model.values() if set(columns) & set(scores)]
        blocks += list_pairs(models, baselines, columns)
    if classifiers:
        lines = ["| classifier | accuracy | on |", "|---|---|---|"]
        lines += [f"| `{one.model}` | {one.value:.2%} | {describe_images(one)} |" for one in classifiers]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def list_pairs(models: list[dict[str, Record]], baselines: Sequence[str], columns: Sequence[str]) -> list[str]:
    """A table for each data set of models that turn images into images, with what filters or the input itself get.

    Args:
        models: their records by name, each with one of `columns` at least.
        baselines: rows below the models.
        columns: names of scores.
    """
    by_data: dict[str, list[dict[str, Record]]] = {}
    for scores in models:
        first = next(scores[name] for name in columns if name in scores)
        by_data.setdefault(first.data, []).append(scores)
    blocks = []
    for _, group in sorted(by_data.items()):
        found = {name: [scores[name] for scores in group if name in scores] for name in columns}
        shown = {name: records for name, records in found.items() if records}
        titles = [short_title(records[0]) for records in shown.values()]
        (first, *_), *_ = shown.values()
        lines = [f"| {describe_images(first)} | {' | '.join(titles)} |", "|---" * (len(shown) + 1) + "|"]
        for scores in group:
            model = next(iter(scores.values())).model
            lines.append(f"| `{model}` | {' | '.join(format_value(scores.get(name)) for name in shown)} |")
        for baseline in baselines:
            values = [records[0].baselines.get(baseline) for records in shown.values()]
            lines.append(f"| {baseline} | {' | '.join(map(format_number, values))} |")
        versions = dict.fromkeys(records[0].metric.partition("(")[2].rstrip(")") for records in shown.values())
        names = [f"`{version}`" for version in versions if version]
        if names:
            lines += ["", f"Features: {', '.join(names)}."]
        blocks.append("\n".join(lines))
    return blocks


def list_generators(generators: dict[str, dict[str, Record]]) -> str:
    """The table of one data set: models, each with its records by name, and the training images below.

    The best model says which scores there are, and by which features. Each of `OPINIONS` ranks the models.
    """
    models = sorted(generators, key=lambda model: generators[model][ORDERED_BY].value)
    best = generators[models[0]]
    columns = [name for name in (*OPINIONS, *IN_README) if name in best]
    titles = [OPINIONS.get(name) or short_title(best[name]) for name in columns]
    lines = [f"| {best[ORDERED_BY].data} | {' | '.join(titles)} |", "|---" * (len(columns) + 1) + "|"]
    ranks = {name: rank([generators[model].get(name) for model in models]) for name in columns if name in OPINIONS}
    for row, model in enumerate(models):
        cells = [format_value(generators[model].get(name)) for name in columns]
        if len(models) > 1:
            for column, name in enumerate(columns):
                if name in ranks and cells[column]:
                    cells[column] += f" {format_rank(ranks[name], ranks[ORDERED_BY], row)}"
        lines.append(f"| `{model}` | {' | '.join(cells)} |")
    floor = [format_floor(best[name]) for name in columns]
    lines.append(f"| training images (the floor) | {' | '.join(floor)} |")
    versions = [best[name].metric.partition("(")[2].rstrip(")") for name in (ORDERED_BY, BY_RANDOM) if name in best]
    names = [f"`{version}`" if version else "the 2015 Inception" for version in versions]
    lines += ["", f"Features: {', '.join(names)}."]
    return "\n".join(lines)


def index_records(records: Iterable[Record]) -> dict[str, Record]:
    """One model's records by name: those of its first extractor, and as `BY_RANDOM` the random features' distance."""
    found: dict[str, Record] = {}
    for record in records:
        of_random = record.name == SECOND_OPINION and find_place(record)[1] == RANDOM_FEATURES
        found.setdefault(BY_RANDOM if of_random else record.name, record)
    return found


def rank(records: Sequence[Record | None]) -> list[int | None]:
    """The rank of each by its value, the lowest first; rows share one where no gap between them is beyond its error.

    A gap is one of two neighbors in order of the value. Its error is `WITHIN` standard deviations of the difference, so
    of the sampling alone: other training runs are not in it.
    """
    order = sorted((record.value, record.std or 0.0, row) for row, record in enumerate(records) if record is not None)
    ranks: list[int | None] = [None] * len(records)
    for place, (value, std, row) in enumerate(order):
        before = order[place - 1] if place else None
        shared = before is not None and value - before[0] < WITHIN * math.hypot(std, before[1])
        ranks[row] = ranks[before[2]] if before is not None and shared else place + 1
    return ranks


def format_rank(ranks: Sequence[int | None], by: Sequence[int | None], row: int) -> str:
    """Such as "(2)", with "=" where it is shared; bold where it and another stand the other way around `by`."""
    mine, other = ranks[row], by[row]
    text = f"({mine}{'=' * (ranks.count(mine) > 1)})"
    pairs = [(a, b) for a, b in zip(ranks, by, strict=True) if a is not None and b is not None]
    reversed_ = mine is not None and other is not None and any((a - mine) * (b - other) < 0 for a, b in pairs)
    return f"**{text}**" if reversed_ else text


def format_floor(record: Record) -> str:
    """What training images get, and its spread; or nothing."""
    floor = record.baselines.get("training")
    return "" if floor is None else format_value(replace(record, value=floor, std=record.floor_std))


def describe_images(record: Record) -> str:
    """The images that a score was computed on."""
    return f"{record.real_count} images of {record.data}, {record.split}"
