"""What a report shows of a run, that it stands alone, and that nothing in a run's files gets into its markup."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from zoo.training import report
from zoo.training.report import Group, draw, format_duration, load_grids, main, make_charts, mark_code, write_report
from zoo.training.run_directory import RunError

LOGS = Path(__file__).parent / "logs"
CONFIG: dict[str, Any] = {
    "recipe": {
        "preset": "dcgan-fashion-mnist",
        "batch_size": 64,
        "seed": 7,
        "optimizers": {"generator": {"learning_rate": 4e-5}, "discriminator": {"learning_rate": 2e-3}},
    },
    "model": {"image_shape": [16, 16, 1], "loss": "minimax"},
    "model_facts": {"score_kind": "probability"},
    "optimizers": {"discriminator": "Adam", "generator": "SGD"},
    "data": {"fingerprint": "0123", "count": 9000},
}
ENVIRONMENT = {"devices": ["/device:CPU:0", "/device:CPU:1"], "versions": {"keras": "3.15.0"}, "platform": "Linux"}
VOID = {"meta", "img", "line"}


class Page(HTMLParser):
    """A page as its elements and its text; a tag that is not closed in its place fails."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def make_run(directory: Path, log: str | None = None, steps: tuple[int, ...] = (), **config: Any) -> Path:
    """A run directory of `CONFIG`, with a kept log and a gray grid for each of `steps`."""
    (directory / "samples").mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(CONFIG | config))
    (directory / "environment.json").write_text(json.dumps(ENVIRONMENT))
    if log:
        shutil.copy(LOGS / f"{log}.csv", directory / "log.csv")
    for step in steps:
        Image.new("L", (4, 4), step % 256).save(directory / "samples" / f"step-{step:07d}.png")
    return directory


@pytest.fixture(scope="module")
def saturated(tmp_path_factory: pytest.TempPathFactory) -> Page:
    directory = make_run(tmp_path_factory.mktemp("runs") / "run", "saturated", tuple(range(0, 601, 50)))
    best = directory / "best"
    best.mkdir(parents=True)
    (best / "ckpt-400.json").write_text(json.dumps({"step": 400, "facts": {"distance": 12.3456789}, "files": {}}))
    path = write_report(directory)
    assert path == directory / "report.html"
    assert not list(directory.glob("*.partial"))
    return Page(path)


# What is shown


def test_the_facts_of_the_run(saturated: Page) -> None:
    for fact in (
        "Training report dcgan-fashion-mnist",
        "Trained on 9,000 images",
        "Steps 600",
        "Batch 64",
        "Optimizers discriminator: Adam 0.002; generator: SGD 4e-05",
        "Loss minimax",
        "Seed 7",
        "Devices /device:CPU:0, /device:CPU:1",
        "Best checkpoint step 400, distance 12.35",
    ):
        assert fact in saturated.text


def test_a_failure_mode_has_its_step_its_evidence_and_its_mitigation(saturated: Page) -> None:
    assert (
        "Vanishing gradients, from step 140 For 5 rows the discriminator's accuracy has been at least" in saturated.text
    )
    assert "no longer present" not in saturated.text
    assert "What to try: Choose a loss that does not saturate: --model.loss non_saturating , hinge" in saturated.text
    assert "No failure mode detected" not in saturated.text


def test_a_failure_mode_that_ended_is_said_to_have_ended(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path / "run", "collapsed", model={"loss": "non_saturating"})))
    assert "Mode collapse, from step 220; no longer present at the last row" in page.text
    assert "Vanishing gradients, from step 340; no longer present at the last row" in page.text


def test_a_stable_run_is_said_to_be_stable(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path / "run", "stable", model={"loss": "non_saturating"})))
    assert "No failure mode detected in 40 rows of the log." in page.text
    assert "failure mode began" not in page.text


def test_scores_are_read_as_the_run_declares_them(tmp_path: Path) -> None:
    """A gap of more than a fifth, but a small one on the scale of these logits."""
    directory = make_run(tmp_path / "run", model_facts={"score_kind": "logit"})
    row = "{},1,0.9,{},{},-8\n"
    header = "step,seconds,discriminator_accuracy,train_score,held_out_score,fake_score\n"
    (directory / "log.csv").write_text(header + "".join(row.format(step, 0.9, 0.1) for step in range(1, 11)))
    assert "No failure mode detected in 10 rows" in Page(write_report(directory)).text
    (directory / "config.json").write_text(json.dumps(CONFIG))
    assert "Memorizing discriminator, from step 5" in Page(write_report(directory)).text


def test_every_column_is_in_one_chart(saturated: Page) -> None:
    charted = [attributes["aria-label"] for attributes in saturated.all("svg") if "aria-label" in attributes]
    titles = ("Losses", "Scores", "Accuracy", "Gradient norms", "Update ratios", "Diversity")
    assert charted == [f"{title} by step" for title in titles]
    columns = (LOGS / "saturated.csv").read_text().splitlines()[0].split(",")
    assert len(columns) == 14
    for column in columns[2:]:
        assert saturated.text.count(column) == 2  # a legend and the last row
    assert "generator_loss -2.351e-05" in saturated.text  # the last row's


def test_columns_of_other_models_get_charts_of_their_own() -> None:
    rows = [{"step": float(step), "seconds": 1.0, "loss": 2.0, "kl": 0.1 * step, "void": np.nan} for step in range(3)]
    assert [(chart.title, chart.names) for chart in make_charts(rows, [])] == [("Losses", ("loss",)), ("kl", ("kl",))]


def test_columns_of_a_vae_have_charts_that_say_what_they_are(tmp_path: Path) -> None:
    directory = make_run(
        tmp_path / "run",
        "vae_collapsed",
        model={"image_shape": [16, 16, 1], "beta": 100.0},
        model_facts={"score_kind": None},
    )
    page = Page(write_report(directory))
    charted = [attributes["aria-label"] for attributes in page.all("svg") if "aria-label" in attributes]
    titles = ["Losses", "Likelihood bounds", "Log-likelihood", "Divergence", "Active latents"]
    assert charted == [f"{title} by step" for title in [*titles, "Gradient norms", "Update ratios", "Diversity"]]
    columns = (LOGS / "vae_collapsed.csv").read_text().splitlines()[0].split(",")
    for column in columns[2:]:
        assert re.search(rf"\b{column}\b", page.text)
    assert "KL(q(z|x) || p(z)), which elbo subtracts from log_likelihood" in page.text
    assert "Posterior collapse, from step 1,160 For 5 rows at most 0 of the latents" in page.text
    assert "What to try: Weigh the KL divergence less: a smaller --model.beta ." in page.text
    assert "Mode collapse" not in page.text


def test_columns_of_an_autoencoder_and_of_iwae_are_in_charts_with_a_caption() -> None:
    expected = {
        "Losses": ("loss", "reconstruction_loss"),
        "Penalties": ("sparsity", "contraction"),
        "Likelihood bounds": ("elbo", "importance_weighted", "train_elbo", "held_out_elbo"),
        "Log-likelihood": ("log_likelihood",),
        "Divergence": ("divergence",),
        "Active latents": ("active_unit_share",),
        "Squared error": ("train_squared_error", "held_out_squared_error"),
    }
    names = [name for columns in expected.values() for name in columns]
    rows = [{"step": float(step), **dict.fromkeys(names, 0.5)} for step in range(3)]
    found = make_charts(rows, [])
    assert {chart.title: chart.names for chart in found} == expected
    assert len(found) == len(expected)
    assert all(chart.caption for chart in found)


def test_columns_of_models_that_know_their_likelihood_or_have_codes_are_in_charts_with_a_caption() -> None:
    expected = {
        "Losses": ("loss", "wake_loss", "sleep_loss", "commitment_loss"),
        "Likelihood bounds": ("train_bound", "held_out_bound"),
        "Log-probability": ("log_prob", "train_log_prob", "held_out_log_prob"),
        "Free energies": ("data_free_energy", "model_free_energy", "train_free_energy", "held_out_free_energy"),
        "Bounds without log Z": ("train_unnormalized_bound", "held_out_unnormalized_bound"),
        "Squared error": ("reconstruction_error",),
        "Codes in use": ("codes_used", "perplexity", "train_perplexity", "held_out_perplexity"),
        "Revived codes": ("revived_codes",),
    }
    names = [name for columns in expected.values() for name in columns]
    found = make_charts([{"step": float(step), **dict.fromkeys(names, 0.5)} for step in range(3)], [])
    assert {chart.title: chart.names for chart in found} == expected
    assert all(chart.caption for chart in found)
    exact = make_charts([{"step": 1.0, "train_log_likelihood": -80.0, "held_out_log_likelihood": -82.0}], [])
    assert [chart.title for chart in exact] == ["Log-probability"]


def test_more_columns_than_colors_are_several_charts() -> None:
    names = [f"{letter}_loss" for letter in "abcdef"]
    rows = [{"step": float(step), **dict.fromkeys(names, float(step))} for step in range(3)]
    assert [chart.names for chart in make_charts(rows, [])] == [tuple(names[:4]), tuple(names[4:])]


def test_the_first_grid_the_last_and_four_between_are_shown(saturated: Page, tmp_path: Path) -> None:
    """Of 13 grids, 0 to 12, those nearest to 12 * 0, 1/5 ... 1: 0, 2, 5, 7, 10, 12."""
    images = saturated.all("img")
    assert [image["alt"] for image in images] == [f"Samples after {s} steps" for s in (0, 100, 250, 350, 500, 600)]
    scheme, data = (images[2]["src"] or "").split(",")
    assert scheme == "data:image/png;base64"
    (tmp_path / "shown.png").write_bytes(base64.b64decode(data))
    assert np.asarray(Image.open(tmp_path / "shown.png"))[0, 0] == 250


def test_few_grids_are_all_shown_in_the_order_of_their_steps(tmp_path: Path) -> None:
    directory = make_run(tmp_path / "run", steps=(10, 9, 12_345_678)) / "samples"
    Image.new("L", (4, 4)).save(directory / "mine.png")
    assert [grid["step"] for grid in load_grids(directory)] == [9, 10, 12_345_678]


def test_the_time_of_a_resumed_run_is_the_sum_of_its_processes() -> None:
    assert format_duration([10.0, 20.0, 5.0, 3600.0, 1.0, 41.0]) == "1 h 1 min 1 s"  # 20 + 3600 + 41 = 3661
    assert format_duration([0.2]) == "0 s"
    assert format_duration([np.nan]) == ""


# Runs that are not whole


def test_a_run_without_rows_gives_a_report(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    page = Page(write_report(tmp_path))
    assert f"Training report {tmp_path.name}" in page.text
    assert "The log has no row yet: nothing to diagnose." in page.text
    assert page.all("svg") == page.all("img") == page.all("table") == []


def test_a_first_row_is_a_point_in_every_chart(tmp_path: Path) -> None:
    directory = make_run(tmp_path / "run", "stable")
    lines = (directory / "log.csv").read_text().splitlines(keepends=True)
    (directory / "log.csv").write_text("".join(lines[:2]))
    page = Page(write_report(directory))
    assert "No failure mode detected in 1 row of the log." in page.text
    assert len([svg for svg in page.all("svg") if "aria-label" in svg]) == 6


def test_values_that_cannot_be_drawn_leave_the_rest_in_place() -> None:
    """Zeros and negative numbers have no logarithm, infinities no place."""
    steps = np.arange(1.0, 5.0)
    group = Group("Norms", "norm", logarithmic=True)
    for values in ([1.0, 0.0, -1.0, 2.0], [0.0, 0.0, 0.0, 0.0], [1.0, np.nan, 3.0, 4.0]):
        assert "<svg" in draw(group, {"norm": np.array(values)}, steps, [])
    rows = [{"step": 1.0, "a": np.inf}, {"step": 2.0, "a": 1.0}, {"step": 3.0, "b": -np.inf}]
    assert [chart.names for chart in make_charts(rows, [])] == [("a",)]


def test_no_run_and_a_damaged_file_are_refused_and_the_report_before_is_kept(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run in .*: it has no config\.json"):
        write_report(tmp_path)
    directory = make_run(tmp_path / "run")
    before = write_report(directory).read_text()
    (directory / "environment.json").write_text('{"devices": [')
    with pytest.raises(RunError, match=r"environment\.json is damaged, it is no JSON"):
        write_report(directory)
    (directory / "environment.json").write_text("[]")
    with pytest.raises(RunError, match=r"environment\.json is damaged: it should hold a JSON object"):
        write_report(directory)
    assert (directory / "report.html").read_text() == before


# The page itself


def test_the_page_needs_nothing_else(saturated: Page) -> None:
    addresses = {"src", "href", "xlink:href", "action", "data", "srcset"}
    for tag, attributes in saturated.elements:
        assert tag not in {"script", "link", "iframe", "object", "base"}
        for name in addresses & attributes.keys():
            assert (attributes[name] or "").startswith(("#", "data:image/png;base64,")), (tag, name)
        for value in attributes.values():
            assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", value or ""))


def test_what_files_hold_is_text_and_never_markup(tmp_path: Path) -> None:
    """Tags, quotes and Matplotlib's formulas in names, values, JSON and column titles."""
    evil = "<script>alert('x')</script>\"&$\\frac{$"
    recipe = {"preset": evil, "batch_size": evil}
    directory = make_run(tmp_path / "run", recipe=recipe, model={"loss": evil}, optimizers={evil: evil})
    (directory / "environment.json").write_text(json.dumps({"devices": [evil], "versions": {evil: evil}}))
    column = evil.replace('"', '""')
    (directory / "log.csv").write_text(f'step,"{column}"\n1,2\n2,3\n')
    page = Page(write_report(directory))
    assert page.all("script") == []
    assert page.text.count(evil) >= 9  # title twice, batch, loss, optimizer, devices, versions, legend, last row
    chart = next(attributes for attributes in page.all("svg") if "aria-label" in attributes)
    assert chart["aria-label"] == f"{evil} by step"


def test_backticks_become_code_and_all_is_escaped() -> None:
    assert mark_code("use `--a <b>` & `c`") == "use <code>--a &lt;b&gt;</code> &amp; <code>c</code>"


def test_charts_are_drawn_in_the_colors_of_the_page() -> None:
    """Every color that Matplotlib was given has become one that the light and the dark page set for themselves."""
    steps = np.arange(1.0, 5.0)
    svg = draw(Group("Losses", "loss"), {"a_loss": steps, "b_loss": -steps}, steps, [2])
    ElementTree.fromstring(svg)
    for color in ("var(--series-1)", "var(--series-2)", "var(--failure)", "currentColor"):
        assert color in svg
    assert "var(--series-3)" not in svg
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#ffffff"}  # the ground, which is transparent
    assert "var(--failure)" not in draw(Group("Losses", "loss"), {"a_loss": steps}, steps, [])


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    directory = make_run(tmp_path / "run", "saturated", (0, 100))
    first = write_report(directory).read_bytes()
    assert write_report(directory).read_bytes() == first


# From the console


def test_the_command_prints_the_path_or_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = make_run(tmp_path / "run", "stable")
    assert main([str(directory)]) == 0
    assert capsys.readouterr().out == f"{directory / 'report.html'}\n"
    assert main([str(tmp_path / "none")]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"error: no run in {tmp_path / 'none'} to report on: it has no config.json.\n"


def test_the_series_have_a_color_and_a_dash_each() -> None:
    assert len(report.SERIES) == len(report.DASHES) == len(set(report.DASHES))
    assert len(report.PAGE_COLORS) == len(report.SERIES) + 2
