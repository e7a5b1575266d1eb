"""Scores on the console: a line of progress, then a table for each model."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table

from zoo.evaluation.options import Progress
from zoo.evaluation.record import Record
from zoo.evaluation.scores import Better
from zoo.export.model_card import BASELINES, PAIR_BASELINES, list_parts

BETTER_IN_SHORT: Mapping[Better, str] = {"lower": "low", "higher": "high", "like training images": "as training"}
ROUNDING = 1e-7  # of a value: a spread below it is that of sums in another order, not of other images


@contextmanager
def show_progress(console: Console, first: str) -> Iterator[Progress]:
    """A `Progress`: on a terminal a line that changes, at the start `first`; nothing elsewhere."""
    with console.status(first, spinner="line") as status:
        yield status.update


def show_records(records: Sequence[Record], console: Console) -> None:
    """A table for each model, with the protocol below."""
    for model, found in groupby(records, key=lambda record: record.model):
        rows = list(found)
        console.print(make_table(model, rows))
        console.print(f"{model} is read as {rows[0].read_as}.", highlight=False, soft_wrap=True)
        for record in {(row.preprocessing, row.seeds, row.generated_count): row for row in rows}.values():
            console.print(describe_protocol(record), highlight=False, soft_wrap=True)
        for record in rows:
            if record.parts:
                console.print(list_parts(record.metric, record.parts), highlight=False, soft_wrap=True)
        for extractor in sorted({record.extractor for record in rows if record.extractor}):
            console.print(f"Features: {extractor}", highlight=False, soft_wrap=True)


def make_table(model: str, records: Sequence[Record]) -> Table:
    """One row per score: value, those baselines that there are, which way is good."""
    shown = [
        images for images in (*BASELINES, *PAIR_BASELINES) if any(images in record.baselines for record in records)
    ]
    columns = ("score", "value", *shown, "good")
    table = Table(*columns, title=model, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0))
    for column in table.columns:
        column.no_wrap = column.header in ("score", "value")
        column.overflow = "fold"  # rather than hide digits
    for record in records:
        baselines = [format_number(record.baselines.get(images)) for images in shown]
        table.add_row(short_title(record), format_value(record), *baselines, BETTER_IN_SHORT[record.better])
    return table


def describe_protocol(record: Record) -> str:
    """Which images, in one sentence."""
    seeds, real = ", ".join(map(str, record.seeds)), f"{record.real_count} real ones of {record.data}, {record.split}"
    if record.generated_count:
        baselines = " Baselines: training images, noise and blurred training images in the place of generated ones."
        images = f"{record.generated_count} generated images per seed, seeds {seeds}; {real}; {record.preprocessing}."
        return images + baselines * bool(record.baselines)
    latents = f"Latents drawn, seeds {seeds}; " if record.seeds else ""
    return f"{latents}{real}; {record.preprocessing}."


def short_title(record: Record) -> str:
    """The score without its extractor's version, which is named once."""
    return record.metric.partition("(")[0] if record.extractor else record.metric


def format_number(value: float | None) -> str:
    """Three digits, all of them where there are more before the point; or nothing."""
    return "" if value is None else f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def format_value(record: Record | None) -> str:
    """Value and spread, or nothing."""
    if record is None:
        return ""
    if record.std is None:
        return format_number(record.value)
    std = record.std if record.std > ROUNDING * abs(record.value) else 0.0
    return f"{format_number(record.value)} ± {f'{std:.0f}' if std >= 10 else f'{std:.1g}'}"
