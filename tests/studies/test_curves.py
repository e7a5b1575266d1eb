"""Curves of a run: which columns are drawn, and what is no curve is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from studies.curves import Options, collect_panels, main

HEADER = "step,loss,train_bound,held_out_bound,perplexity,train_perplexity,held_out_perplexity\n"


def make_run(folder: Path, rows: int = 3) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"recipe": {"preset": "vq-vae-fashion-mnist"}}))
    lines = [f"{10 * row},{row},{-row},{-2 * row},5,6,7\n" for row in range(1, rows + 1)]
    (folder / "log.csv").write_text(HEADER + "".join(lines))
    return folder


def test_what_is_drawn_are_training_and_held_out_images_or_the_named_charts(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    bounds, codes = collect_panels(run)
    assert bounds.title == "vq-vae-fashion-mnist: likelihood bounds"
    np.testing.assert_array_equal(bounds.steps, [10, 20, 30])
    assert list(bounds.curves) == list(codes.curves) == ["training images", "held-out images"]
    np.testing.assert_array_equal(bounds.curves["held-out images"], [-2, -4, -6])
    np.testing.assert_array_equal(codes.curves["training images"], [6, 6, 6])
    (losses,) = collect_panels(run, ["Losses"])
    assert list(losses.curves) == ["loss"]


def test_one_row_and_an_unknown_chart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"takes two rows of log\.csv or more, there are 1"):
        collect_panels(make_run(tmp_path / "short", rows=1))
    with pytest.raises(ValueError, match=r"choose --charts from \['Losses', .*not \['Loses'\]"):
        collect_panels(make_run(tmp_path / "run"), ["Loses"])


def test_the_figure_has_a_row_for_each_run(tmp_path: Path) -> None:
    runs = (make_run(tmp_path / "a"), make_run(tmp_path / "b"))
    heights = []
    for chosen in (runs[:1], runs):
        main(Options(chosen, figure=tmp_path / "figure.png"))
        data = (tmp_path / "figure.png").read_bytes()
        assert data.startswith(b"\x89PNG")
        heights.append(int.from_bytes(data[20:24], "big"))
    assert heights[1] == 2 * heights[0]
