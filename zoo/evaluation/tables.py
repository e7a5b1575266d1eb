"""Scores shown and kept: the console's table, results/*.csv, the README's table, the cards."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from serving.card import Card, Score, read_card
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.record import Record, as_json
from zoo.evaluation.scores import Better
from zoo.export.model_card import CEILINGS, of_latents, write_card
from zoo.pretrained import PACKAGE, SHIPPED, list_models, shipped_directory

__all__ = ["as_json", "evaluate", "evaluate_all", "progress", "show"]

CHECKOUT = PACKAGE.parent
COLUMNS = (
    *("model", "metric", "value", "std", "floor", *CEILINGS, "better", "extractor", "data", "split", "seeds"),
    *("real_count", "generated_count", "preprocessing", "source_sha256", "data_sha256", "versions", "parts"),
)
BEGIN, END = "<!-- scores: written by zoo evaluate --all -->", "<!-- end of scores -->"
IN_README = ("frechet_distance", "precision", "recall", "coverage", "smallest_class_share", "copies", "ms_ssim")
ORDERED_BY = "frechet_distance"
SIGNS: Mapping[Better, str] = {"lower": "low", "higher": "high", "like the floor": "floor"}


@contextmanager
def progress(console: Console) -> Iterator[Callable[[str], None]]:
    """What says where a long evaluation is: a line that changes on a terminal, nothing elsewhere."""
    with console.status("starting") as status:
        yield status.update


def show(records: Sequence[Record], console: Console) -> None:
    """A table for each model, with the protocol below."""
    for model, found in groupby(records, key=lambda record: record.model):
        rows = list(found)
        table = Table(
            "score",
            "value",
            "floor",
            *CEILINGS,
            "good",
            title=model,
            box=box.SIMPLE_HEAD,
            show_edge=False,
            padding=(0, 0),
        )
        for column in table.columns:
            column.no_wrap = column.header in ("score", "value")
            column.overflow = "fold"  # rather than hide digits
        for record in rows:
            sides = [record.floor, *(record.ceilings.get(side) for side in CEILINGS)]
            table.add_row(title(record), cell(record), *map(number, sides), SIGNS[record.better])
        console.print(table)
        for record in {(row.preprocessing, row.seeds, row.generated_count): row for row in rows}.values():
            seeds, real = ", ".join(map(str, record.seeds)), f"{record.real_count} real ones of {record.data}"
            drawn, made = "", f"{record.generated_count} generated images a seed"
            if record.seeds:
                drawn = f"{made if record.generated_count else 'Latents drawn'}, seeds {seeds}; "
            floor = ". Floor: training images in the place of generated ones" if record.generated_count else ""
            console.print(
                f"{drawn}{real}, {record.split}; {record.preprocessing}{floor}.", highlight=False, soft_wrap=True
            )
        for record in rows:
            if record.parts:
                console.print(of_latents(record.metric, record.parts), highlight=False, soft_wrap=True)
        for extractor in sorted({record.extractor for record in rows if record.extractor}):
            console.print(f"Features: {extractor}", highlight=False, soft_wrap=True)


def title(record: Record) -> str:
    """The score without its extractor's version, which is named once."""
    return record.metric.partition("(")[0] if record.extractor else record.metric


def number(value: float | None) -> str:
    """Three digits, all of them where there are more before the point; or nothing."""
    return "" if value is None else f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def evaluate_all(
    tell: Callable[[str], None], say: Callable[[str], None] = print, root: Path = CHECKOUT
) -> list[Record]:
    """Score every preset that has weights and write its card, then results/ and the README's table from the cards.

    Args:
        tell: is given a line now and then.
        say: is told of each preset whose data are not on this machine; its card stays as it was.
        root: of the checkout.

    Raises:
        ValueError: this is no checkout.
    """
    if not (root / "README.md").is_file() or SHIPPED[0].parent != root:
        raise ValueError(f"{root} is no checkout: --all writes results/, README.md and the cards there.")
    names = list_models(pretrained=True)
    for name in names:
        try:
            keep_in_card(name, evaluate(name, tell=tell))
        except (OSError, RuntimeError) as error:
            say(f"{name} is not scored again: {error}")
    records = [record for name in names for record in records_of(read_card(card_directory(name)))]
    write_tables(records, root / "results")
    readme = root / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), records), encoding="utf-8")
    return records


def keep_in_card(name: str, records: Sequence[Record]) -> None:
    """Replace the scores of an exported preset's card."""
    directory = card_directory(name)
    scores = tuple(score_of(record) for record in records)
    write_card(msgspec.structs.replace(read_card(directory), scores=scores), directory)


def score_of(record: Record) -> Score:
    """A record as a card keeps it: whose it is, the card says."""
    (plain,) = as_json([record])
    value, spread = plain.pop("value"), plain.pop("std")
    del plain["model"]
    if not record.parts:
        del plain["parts"]
    return Score(plain.pop("metric"), value, spread, plain)


def records_of(card: Card) -> list[Record]:
    """The scores of a card as they were made."""
    return [
        msgspec.convert(
            {**score.protocol, "metric": score.metric, "value": score.value, "std": score.std, "model": card.name},
            Record,
        )
        for score in card.scores
    ]


def card_directory(name: str) -> Path:
    """Of a preset that has weights."""
    directory = shipped_directory(name)
    assert directory is not None  # it is among those that `list_models` gives
    return directory


def write_tables(records: Sequence[Record], folder: Path) -> None:
    """One file a data set, <data>.csv: a row a score, ordered by model."""
    folder.mkdir(exist_ok=True)
    for data, found in groupby(sorted(records, key=lambda record: record.data), key=lambda record: record.data):
        with (folder / f"{Path(data).stem}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(row_of(record) for record in found)


def row_of(record: Record) -> dict[str, Any]:
    """One line of a table; seeds, versions and parts as texts."""
    (plain,) = as_json([record])
    lists = {name: " ".join(map(str, plain[name])) for name in ("seeds", "parts")}
    return {**plain, **record.ceilings, **lists, "versions": json.dumps(record.versions, sort_keys=True)}


def with_table(readme: str, records: Sequence[Record]) -> str:
    """The README with its table between the two marks made again.

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

    Those are one of models with a bound of log p(x), one of autoencoders without, and one of classifiers.
    """
    by_model = {
        model: {record.name: record for record in found}
        for model, found in groupby(records, key=lambda record: record.model)
    }
    generators = {model: found for model, found in by_model.items() if ORDERED_BY in found}
    blocks = []
    for data in sorted({found[ORDERED_BY].data for found in generators.values()}):
        chosen = sorted(
            (model for model, found in generators.items() if found[ORDERED_BY].data == data),
            key=lambda model: generators[model][ORDERED_BY].value,
        )
        first = generators[chosen[0]]
        shown = [name for name in IN_README if name in first]
        titles = [title(first[name]) for name in shown]
        lines = [f"| {data} | {' | '.join(titles)} |", "|---" * (len(shown) + 1) + "|"]
        lines += [
            f"| `{model}` | {' | '.join(cell(generators[model].get(name)) for name in shown)} |" for model in chosen
        ]
        floors = [number(first[name].floor) for name in shown]
        lines.append(f"| training images (the floor) | {' | '.join(floors)} |")
        version = first[ORDERED_BY].metric.partition("(")[2].rstrip(")")
        lines += ["", f"Features: `{version}`." if version else "Features: the 2015 Inception's."]
        blocks.append("\n".join(lines))
    bounded = [found for found in by_model.values() if "importance_weighted_bound" in found]
    if bounded:
        lines = ["| model | bound (IWAE-K), nats | ELBO | active units | squared error | on |", "|---" * 6 + "|"]
        for found in bounded:
            bound, rest = found["importance_weighted_bound"], ("elbo", "active_units", "squared_error")
            cells = [f"`{bound.model}`", f"{cell(bound)}, {bound.metric}", *(cell(found.get(name)) for name in rest)]
            lines.append(f"| {' | '.join(cells)} | {where(bound)} |")
        blocks.append("\n".join(lines))
    given_back = [
        found["squared_error"]
        for found in by_model.values()
        if "squared_error" in found and "importance_weighted_bound" not in found
    ]
    if given_back:
        lines = ["| autoencoder | squared error | on |", "|---|---|---|"]
        lines += [f"| `{one.model}` | {cell(one)} | {where(one)} |" for one in given_back]
        blocks.append("\n".join(lines))
    judged = [found["accuracy"] for found in by_model.values() if "accuracy" in found]
    if judged:
        lines = ["| classifier | accuracy | on |", "|---|---|---|"]
        lines += [f"| `{one.model}` | {one.value:.2%} | {where(one)} |" for one in judged]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def where(record: Record) -> str:
    """The images that a score was made on."""
    return f"{record.real_count} images of {record.data}, {record.split}"


def cell(record: Record | None) -> str:
    """Value and spread."""
    if record is None:
        return ""
    spread = "" if record.std is None else f" ± {record.std:.0f}" if record.std >= 10 else f" ± {record.std:.1g}"
    return f"{number(record.value)}{spread}"
