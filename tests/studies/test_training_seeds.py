"""The table of training seeds: mean and spread over runs, what is scored once, what it refuses."""

import csv
from dataclasses import replace
from pathlib import Path

import keras
import pytest

from serving.card import Data
from studies.training_seeds import METRICS, Options, find_exports, main, summarize
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.options import EvaluationOptions
from zoo.export.export import export
from zoo.presets.table import PRESETS
from zoo.training.run import build_model

PRESET = "dcgan-fashion-mnist"


def make_row(preset: str, seed: int, distance: float, **changes: object) -> dict[str, object]:
    scores = {"frechet_distance": distance, "by_random_features": 0.5}
    scores |= {"sliced_wasserstein_distance": 0.1, "recall": 0.25}
    spreads = {f"{name}_std": 0.01 * (1 + seed) for name in scores}
    return {"preset": preset, "data": "mnist", "seed": seed, "steps": 2_000, **scores, **spreads, **changes}


def test_a_preset_has_the_mean_and_the_spread_of_its_runs() -> None:
    rows = [make_row("worse", seed, distance) for seed, distance in enumerate((1.0, 2.0, 3.0))]
    rows += [make_row("better", seed, distance) for seed, distance in enumerate((0.5, 0.7))]
    assert summarize(rows)[2:] == [
        # stdev(0.5, 0.7) = 0.1 sqrt 2; of the sampling (0.01 + 0.02) / 2
        "| mnist | `better` | 2 | 0.6 ± 0.1 | 0.5 ± 0 | 0.1 ± 0 | 0.25 ± 0 | ± 0.01 |",
        "| mnist | `worse` | 3 | 2 ± 1 | 0.5 ± 0 | 0.1 ± 0 | 0.25 ± 0 | ± 0.02 |",
    ]
    with pytest.raises(SystemExit, match=r"runs of 1000 and of 2000 steps: keep them in tables of their own"):
        summarize([*rows, make_row("better", 2, 0.1, steps=1_000)])


def test_finished_runs_are_scored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    preset = replace(PRESETS[PRESET], arguments={**PRESETS[PRESET].arguments, "width": 4, "latent_dim": 8})
    data, sweep = Data("fashion_mnist_t10k", "train", 9_000, "MIT", "embedded"), tmp_path / "sweep"
    lines = ["run,seed,status", "run-2,2,stopped"]
    for seed in range(2):
        keras.utils.set_random_seed(seed)
        recipe = {"name": PRESET, "seed": seed, "steps": 10, "batch_size": 4, "precision": "float32", "fit": "pad"}
        directory = sweep / f"run-{seed}" / "export"
        run = replace(preset, name=f"{PRESET}-run-{seed}")  # as a sweep calls them
        export(build_model(preset), directory, preset=run, data=data, recipe=recipe, formats=("onnx",))
        lines.append(f"run-{seed},{seed},finished")
    (sweep / "sweep.csv").write_text("\n".join(lines) + "\n")
    options = Options((sweep,), count=150, table=tmp_path / "results" / "seeds.csv")
    main(options)
    printed = capsys.readouterr().out
    with options.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["preset"], row["seed"], row["steps"], row["precision"]) for row in rows] == [
        (PRESET, "0", "10", "float32"),
        (PRESET, "1", "10", "float32"),
    ]
    wanted = evaluate(str(sweep / "run-1" / "export"), EvaluationOptions(metrics=METRICS, count=150))
    assert [rows[1][name] for name in ("frechet_distance", "recall", "sliced_wasserstein_distance")] == [
        str(wanted[index].value) for index in (0, 1, 2)
    ]
    assert rows[1]["by_random_features_std"] == str(wanted[3].std)
    assert printed.splitlines() == summarize(rows)
    monkeypatch.setattr("studies.training_seeds.evaluate", lambda *_: pytest.fail("scored again"))
    main(options)
    assert capsys.readouterr().out == printed


def test_a_folder_without_finished_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no finished run in its sweep\.csv"):
        find_exports(tmp_path)
