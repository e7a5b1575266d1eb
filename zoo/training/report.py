"""A run as one page: <run>/report.html, to be opened in any browser and sent by mail. Nothing in it is fetched.

    python -m zoo.training.report RUN_DIR

It is made from the files of the run directory alone, so a report can be remade at any time, of a run under way too.
"""

import base64
import io
import itertools
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from zoo.training import run_directory
from zoo.training.diagnosis import FailureMode, diagnose, diagnose_run, facts_of
from zoo.training.log import columns_of, read_log
from zoo.training.run_directory import RunError

SHOWN = 6  # sample grids along the steps
SIZE = (6.0, 2.6)  # of a chart, in inches of 72 points
LINE = 1.6  # width of a curve, in points
NOT_CHARTED = ("step", "seconds")

# Matplotlib knows no CSS: it draws in these colors, each of which then becomes the page's own, light or dark.
INK, MARK = "#010203", "#040506"
SERIES = ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04")
DASHES = ((), (5.0, 2.0), (1.0, 1.5), (5.0, 2.0, 1.0, 2.0))  # widths of a line; for who can't tell the colors apart
PAGE_COLORS = {INK: "currentColor", MARK: "var(--failure)"} | {
    color: f"var(--series-{number})" for number, color in enumerate(SERIES, start=1)
}


@dataclass(frozen=True)
class Group:
    """Columns of log.csv that share a chart.

    Args:
        title: above the chart.
        pattern: of the columns' names, from start to end.
        caption: what is seen.
        logarithmic: the scale of the values.
        limits: of the scale, where the values have natural ones.
    """

    title: str
    pattern: str
    caption: str = ""
    logarithmic: bool = False
    limits: tuple[float, float] | None = None


GROUPS = (
    Group("Losses", r"(.+_)?loss", "Means since the previous row. The losses of two players need not fall."),
    Group(
        "Penalties",
        r"sparsity|contraction",
        "Terms of the loss before they are weighted: means since the previous row.",
    ),
    Group(
        "Likelihood bounds",
        r"((train|held_out)_)?elbo|importance_weighted|(train|held_out)_bound",
        "Lower bounds of log p(x), in nats. elbo and importance_weighted: means since the previous row. Those of "
        "training and of held-out images: of fixed ones, by the model at that step; a gap indicates memorization.",
    ),
    Group(
        "Log-probability",
        r"((train|held_out)_)?log_prob|(train|held_out)_log_likelihood",
        "log p(x), exactly, in nats. log_prob: the mean over the batches since the previous row, before each update. "
        "Those of training and of held-out images: of fixed ones, by the model at that step; a gap indicates "
        "memorization.",
    ),
    Group(
        "Free energies",
        r"(data|model|train|held_out)_free_energy",
        "-log p(x) - log Z, in nats. log Z moves from step to step, so only the distance of two curves says something. "
        "data and model, means since the previous row: near one another in a balance. Training and held-out images, "
        "fixed ones, by the model at that step: a gap indicates memorization.",
    ),
    Group(
        "Bounds without log Z",
        r"(train|held_out)_unnormalized_bound",
        "Lower bounds of log p(x) + log Z of fixed images, in nats. log Z moves from step to step, so only the gap "
        "says something: it indicates memorization.",
    ),
    Group("Log-likelihood", r"log_likelihood", "log p(x|z) for z drawn from q(z|x), the first term of elbo, in nats."),
    Group(
        "Divergence",
        r"divergence",
        "KL(q(z|x) || p(z)), which elbo subtracts from log_likelihood, in nats. Near 0, latents carry no information.",
    ),
    Group(
        "Active latents",
        r"active_unit_share",
        "Share of the latents whose mean has a variance above 0.01 over held-out images.",
        limits=(0.0, 1.02),
    ),
    Group(
        "Squared error",
        r"(train|held_out)_squared_error|reconstruction_error",
        "Of the reconstructions of fixed, uncorrupted images: mean per pixel, brightness from 0 to 1. A gap between "
        "the two indicates memorization of the training images. reconstruction_error: of the batches since the "
        "previous row.",
    ),
    Group(
        "Codes in use",
        r"codes_used|((train|held_out)_)?perplexity",
        "How much of a codebook is used: codes that were chosen lately, and e to the entropy of the codes of a batch "
        "and of fixed training and held-out images.",
    ),
    Group("Revived codes", r"revived_codes", "Codes that were replaced for want of use: the mean a step."),
    Group(
        "Scores",
        r"(real|fake|train|held_out)_score",
        "The discriminator's outputs: on training batches and on generated images, means since the previous row; on "
        "fixed training and held-out images, at that step. A gap between the last two "
        "indicates that the discriminator memorizes its training images.",
    ),
    Group(
        "Accuracy",
        r"(.+_)?accuracy",
        "Share of images, real and generated, that are classified correctly; for a discriminator 0.5 is chance.",
        limits=(0.0, 1.02),
    ),
    Group(
        "Gradient norms",
        r".+_gradient_norm",
        "Over all of a player's weights together, before clipping.",
        logarithmic=True,
    ),
    Group(
        "Update ratios", r".+_update_ratio", "Norm of the last update over the norm of the weights.", logarithmic=True
    ),
    Group(
        "Diversity",
        r"diversity",
        "Distance from a sample to its nearest other sample, relative to the same for training images. Near 0 all "
        "samples are alike.",
    ),
    Group(
        "Distance to training images",
        r"(frechet|sliced_wasserstein)_distance",
        "Of 1,000 samples; the checkpoint with the lowest is kept in best/. It serves to choose a checkpoint: "
        "`zoo evaluate` gives the score.",
        logarithmic=True,
    ),
)


@dataclass(frozen=True)
class Chart:
    """A group as it is on the page."""

    title: str
    caption: str
    names: tuple[str, ...]
    svg: str
    """Markup that is safe as it is: what comes from the log is escaped."""


def write_report(directory: tyro.conf.Positional[Path]) -> Path:
    """Write report.html, whole or not at all.

    Args:
        directory: of a run; one without rows, images or checkpoints yet gives a report, too.

    Returns:
        The path of the page.

    Raises:
        RunError: there is no run in `directory`, or a file of it is damaged.
    """
    if not (directory / "config.json").exists():
        raise RunError(f"no run in {directory} to report on: it has no config.json.")
    path = directory / "report.html"
    run_directory.write_text(path, render(gather(directory)))
    return path


def gather(directory: Path) -> dict[str, Any]:
    """Everything that the page shows, by the names its template uses."""
    config = run_directory.read_config(directory)
    environment = read_json(directory / "environment.json")
    rows = read_log(directory / "log.csv")
    model_facts = facts_of(config)
    failure_modes = diagnose_run(rows, model_facts)
    last = rows[-1] if rows else {}
    return {
        "title": config.get("recipe", {}).get("preset", directory.name),
        "facts": collect_facts(config, environment, rows) | describe_best_checkpoint(directory / "best"),
        "rows": len(rows),
        "failure_modes": list(zip(failure_modes, are_present(failure_modes, diagnose(rows, model_facts)), strict=True)),
        "charts": make_charts(rows, [failure_mode.step for failure_mode in failure_modes]),
        "dashes": [" ".join(f"{2 * LINE * width:g}" for width in dashes) for dashes in DASHES],
        "grids": load_grids(directory / "samples"),
        "last": {name: format_number(value) for name, value in last.items()},
        "config": json.dumps(config, indent=2, ensure_ascii=False),
        "environment": json.dumps(environment, indent=2, ensure_ascii=False) if environment else "",
    }


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is no file.

    Raises:
        RunError: it holds something else.
    """
    return run_directory.read_json(path) if path.exists() else {}


def collect_facts(
    config: Mapping[str, Any], environment: Mapping[str, Any], rows: Sequence[Mapping[str, float]]
) -> dict[str, str]:
    """What stands at the top of the page; what the files do not say is left out."""
    recipe, data = config.get("recipe", {}), config.get("data", {})
    versions = environment.get("versions", {})
    found = {
        "Trained on": describe_data(data),
        "Steps": f"{rows[-1]['step']:,.0f}" if rows else "no row yet",
        "Batch": recipe.get("batch_size"),
        "Time": format_duration([row.get("seconds", math.nan) for row in rows]),
        "Optimizers": "; ".join(
            f"{player}: {kind} {recipe.get('optimizers', {}).get(player, {}).get('learning_rate', '')}".strip()
            for player, kind in config.get("optimizers", {}).items()
        ),
        "Loss": config.get("model", {}).get("loss"),
        "Seed": recipe.get("seed"),
        "Precision": recipe.get("precision"),
        "Devices": ", ".join(environment.get("devices", [])),
        "Machine": ", ".join(str(environment[name]) for name in ("platform", "processor") if environment.get(name)),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return {name: str(value) for name, value in found.items() if value not in (None, "")}


def describe_data(data: Mapping[str, Any]) -> str:
    """The training images, by name where it is known."""
    named = f" of {data['name']}" if data.get("name") else ""
    return f"{data['count']:,} images{named}" if "count" in data else ""


def format_duration(seconds: Sequence[float]) -> str:
    """Hours, minutes and seconds of all of a run's processes: their clocks begin at 0 again when it is resumed."""
    clock = [value for value in seconds if math.isfinite(value)]
    if not clock:
        return ""
    total = clock[-1] + sum(before for before, after in itertools.pairwise(clock) if after < before)
    minutes, rest = divmod(round(total), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{value} {unit}" for value, unit in ((hours, "h"), (minutes, "min"), (rest, "s")) if value]
    return " ".join(parts) or "0 s"


def describe_best_checkpoint(directory: Path) -> dict[str, str]:
    """The checkpoint with the best score, by its record, where one is kept."""
    records = [read_json(path) for path in directory.glob("ckpt-*.json")]
    best = "; ".join(
        f"step {record.get('step', '?')}, {name.replace('_', ' ')} {format_number(value)}"
        for record in records
        for name, value in record.get("facts", {}).items()
    )
    return {"Best checkpoint": best} if best else {}


def are_present(failure_modes: Sequence[FailureMode], at_last_row: Sequence[FailureMode]) -> list[bool]:
    """Whether the last row still shows each failure mode that began; of two with one name, only the later can be."""
    latest = {each.name: each for each in failure_modes}
    present = {each.name for each in at_last_row}
    return [latest[each.name] is each and each.name in present for each in failure_modes]


def make_charts(rows: Sequence[Mapping[str, float]], marks: Sequence[int]) -> list[Chart]:
    """One chart for each of `group_columns`; `marks` are the steps of the vertical lines."""
    steps = columns_of(rows).get("step", np.empty(0))
    return [
        Chart(group.title, group.caption, tuple(series), draw(group, series, steps, marks))
        for group, series in group_columns(rows)
    ]


def group_columns(rows: Sequence[Mapping[str, float]]) -> list[tuple[Group, dict[str, np.ndarray]]]:
    """The columns of each group, no more than there are colors, then each column that is in none; NaN for no number."""
    log = {name: np.where(np.isfinite(values), values, np.nan) for name, values in columns_of(rows).items()}
    left = [name for name, values in log.items() if name not in NOT_CHARTED and np.isfinite(values).any()]
    found = []
    for group in (*GROUPS, *(Group(name, re.escape(name)) for name in left)):
        names = tuple(name for name in left if re.fullmatch(group.pattern, name))
        left = [name for name in left if name not in names]
        for start in range(0, len(names), len(SERIES)):
            found.append((group, {name: log[name] for name in names[start : start + len(SERIES)]}))
    return found


def plot(
    axes: Any, group: Group, series: Mapping[str, np.ndarray], steps: np.ndarray, colors: Sequence[str] = SERIES
) -> None:
    """The curves, each in one of the colors, on the group's scale."""
    from matplotlib.ticker import LogFormatter

    for values, color, dashes in zip(series.values(), colors, DASHES, strict=False):
        style = (0.0, dashes) if dashes else "solid"
        there = np.isfinite(values)
        sparse = not (there[1:] & there[:-1]).any()  # scores of every so many rows: points, joined over the gaps
        chosen = there if sparse else slice(None)
        marker = "o" if sparse else ""
        axes.plot(
            steps[chosen], values[chosen], color=color, linestyle=style, linewidth=LINE, marker=marker, markersize=4
        )
    if group.logarithmic and any((values > 0).any() for values in series.values()):
        axes.set_yscale("log", nonpositive="mask")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # not 10 to the power of
        axes.yaxis.set_minor_formatter(LogFormatter())
    if group.limits:
        axes.set_ylim(*group.limits)


def draw(group: Group, series: Mapping[str, np.ndarray], steps: np.ndarray, marks: Sequence[int]) -> str:
    """The curves as an <svg> element in the page's colors, which the page's legend names in the same order."""
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",  # text stays text: the page's font, and readable to screen readers
        "svg.hashsalt": " ".join(series),  # the same log gives the same page; no two charts share a name
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=SIZE, layout="constrained")
        figure.patch.set_alpha(0.0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0.0)
        plot(axes, group, series, steps)
        for mark in sorted(set(marks)):
            axes.axvline(mark, color=MARK, linewidth=1.2, linestyle=(0, (2, 2)))
        axes.grid(color=INK, alpha=0.15, linewidth=0.6)
        axes.spines[:].set_visible(False)
        axes.tick_params(which="both", color=INK, labelcolor=INK, length=0, labelsize=9)
        axes.set_xlabel("step", color=INK, fontsize=9)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return embed_svg(file.getvalue(), f"{group.title} by step")


def embed_svg(svg: str, label: str) -> str:
    """A file of Matplotlib's as an element of a page: without prologue and repeated names, in the page's colors."""
    from markupsafe import escape

    element = svg[svg.index("<svg") :]
    element = re.sub(r'<g id="[^"]*"', "<g", element)
    for drawn, color in PAGE_COLORS.items():
        element = element.replace(drawn, color)
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def load_grids(directory: Path) -> list[dict[str, Any]]:
    """The first sample grid, the last, and some between, as data that a page can hold."""
    named = ((re.fullmatch(r"step-(\d+)", path.stem), path) for path in directory.glob("*.png"))
    found = {int(match[1]): path for match, path in named if match}
    steps = sorted(found)
    chosen = dict.fromkeys(steps[round(place)] for place in np.linspace(0, len(steps) - 1, SHOWN)) if steps else ()
    return [{"step": step, "image": base64.b64encode(found[step].read_bytes()).decode("ascii")} for step in chosen]


def format_number(value: float) -> str:
    """A number as a reader wants it."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def render(page: Mapping[str, Any]) -> str:
    """The page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("zoo.training"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["code"] = mark_code
    return environment.get_template("report.html").render(page)


def mark_code(text: str) -> str:
    """Markup of `text`, what stands between `backticks` as code; all of it escaped."""
    from markupsafe import Markup, escape

    parts = [
        Markup("<code>{}</code>").format(part) if odd % 2 else escape(part) for odd, part in enumerate(text.split("`"))
    ]
    return Markup("").join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report of a run directory and print its path; 1 after one line that says what went wrong."""
    from zoo.extras import MissingExtraError

    try:
        print(tyro.cli(write_report, args=arguments, prog="python -m zoo.training.report", description=__doc__))
    except ImportError as error:
        print(MissingExtraError("reports", "train", error), file=sys.stderr)
        return 1
    except (RunError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
