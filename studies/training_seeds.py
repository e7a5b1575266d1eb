"""How far does a score move when a preset is trained again with another seed?

    for name in gan-mnist dcgan-fashion-mnist ...; do
        zoo sweep $name --seeds 3 --out sweeps/$name -- --steps 2000
    done
    python -m studies.training_seeds sweeps/*

The results tables rest on one training run of each preset, and their ± is that of the sampling. Here every GAN preset
is trained with three seeds, of an equal small budget, by `zoo sweep`; each run's export is scored by `zoo evaluate` on
held-out images. A gap between two presets means something where it is beyond the spread of the training runs.

Writes results/training_seeds.csv, a row for each finished run, and prints a table in Markdown. Runs that the file has
already are not scored again.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from serving.card import read_card
from studies.figures import merge_rows, read_table, write_table
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.options import EvaluationOptions
from zoo.evaluation.tables import BY_RANDOM, index_records
from zoo.training.sweep_table import FINISHED, read_rows

# Column -> its record in `index_records`, title in the table.
SCORES = {
    "frechet_distance": ("frechet_distance", "FCD"),
    "by_random_features": (BY_RANDOM, "the same by random features"),
    "sliced_wasserstein_distance": ("sliced_wasserstein_distance", "sliced Wasserstein"),
    "recall": ("recall", "recall"),
}
METRICS = ("frechet_distance", "sliced_wasserstein_distance", "recall")
COLUMNS = (
    *("preset", "data", "seed", "steps", "batch_size", "precision"),
    *(f"{score}{suffix}" for score in SCORES for suffix in ("", "_std")),
)
KEYS = ("preset", "seed", "steps")


@dataclass(frozen=True)
class Options:
    """One table."""

    sweeps: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Folders of `zoo sweep`; without one the table is printed again."""
    count: int = 10_000
    """Generated images for each of the sampling seeds 0, 1, 2."""
    table: Path = Path("results/training_seeds.csv")
    """The table to write."""


def main(options: Options) -> None:
    """Score the runs that are missing, write the table, print it."""
    console = Console()
    rows: list[Mapping[str, object]] = list(read_table(options.table, COLUMNS))
    for sweep in options.sweeps:
        for export in find_exports(sweep):
            facts = describe_run(export)
            if any(all(str(row[key]) == str(facts[key]) for key in KEYS) for row in rows):
                continue
            rows = list(merge_rows(rows, [facts | score(export, options.count)], KEYS))
            write_table(options.table, COLUMNS, rows)
    console.print("\n".join(summarize(rows)), highlight=False, soft_wrap=True, markup=False)


def find_exports(sweep: Path) -> list[Path]:
    """The exports of a sweep's finished runs.

    Raises:
        SystemExit: there is no sweep.csv, or no finished run in it.
    """
    finished = [run for run, row in read_rows(sweep / "sweep.csv").items() if row["status"] == FINISHED]
    if not finished:
        raise SystemExit(f"{sweep}: no finished run in its sweep.csv: give a folder that `zoo sweep` has written.")
    return [sweep / run / "export" for run in finished]


def describe_run(export: Path) -> dict[str, object]:
    """What was trained, as the card says it."""
    card = read_card(export)
    recipe = {name: card.recipe[name] for name in ("seed", "steps", "batch_size", "precision")}
    return {"preset": card.recipe["name"], "data": card.data.name, **recipe}


def score(export: Path, count: int) -> dict[str, object]:
    """Each score, and its standard deviation over the sampling seeds."""
    found = index_records(evaluate(str(export), EvaluationOptions(metrics=METRICS, count=count)))
    return {
        f"{column}{suffix}": value
        for column, (name, _) in SCORES.items()
        for suffix, value in (("", found[name].value), ("_std", found[name].std))
    }


def summarize(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Markdown, a line for each preset of a data set: mean ± standard deviation over the training seeds.

    FCD's own column says how much of that is the sampling's.

    Raises:
        SystemExit: the runs are of several budgets.
    """
    budgets = sorted({str(row["steps"]) for row in rows})
    if len(budgets) > 1:
        raise SystemExit(f"runs of {' and of '.join(budgets)} steps: keep them in tables of their own (--table).")
    titles = [title for _, title in SCORES.values()]
    lines = [f"| data | preset | training runs | {' | '.join(titles)} | FCD, of the sampling alone |"]
    lines.append("|---" * (len(titles) + 4) + "|")
    groups: dict[tuple[str, str], list[Mapping[str, object]]] = {}
    for row in rows:
        groups.setdefault((str(row["data"]), str(row["preset"])), []).append(row)

    def values(group: Sequence[Mapping[str, object]], column: str) -> list[float]:
        return [float(str(row[column])) for row in group]

    def order(item: tuple[tuple[str, str], list[Mapping[str, object]]]) -> tuple[str, float]:
        return item[0][0], statistics.mean(values(item[1], "frechet_distance"))

    for (data, preset), group in sorted(groups.items(), key=order):
        cells = [format_spread(values(group, column)) for column in SCORES]
        sampling = statistics.mean(values(group, "frechet_distance_std"))
        lines.append(f"| {data} | `{preset}` | {len(group)} | {' | '.join(cells)} | ± {sampling:.1g} |")
    return lines


def format_spread(values: Sequence[float]) -> str:
    """ "mean ± sample standard deviation"; the mean alone of one value."""
    spread = f" ± {statistics.stdev(values):.1g}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3g}{spread}"


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
