"""Scores of all presets in files: results/*.csv and the README's table."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from serving.card import read_card
from zoo.evaluation import tables
from zoo.evaluation.cards import write_scores
from zoo.evaluation.options import EvaluationOptions
from zoo.evaluation.record import Record
from zoo.evaluation.tables import BEGIN, END, evaluate_all, readme_table, replace_table, write_tables

Make = Callable[..., Record]

README = f"# Zoo\n\n{BEGIN}\nold\n{END}\n\nThe rest.\n"


def test_the_readme_has_models_with_a_bound_and_autoencoders(
    records: list[Record], held_out_records: list[Record]
) -> None:
    rows = [line for line in readme_table(records + held_out_records).splitlines() if line.startswith("|")]
    assert "| `vae-fashion` | 4 ± 0.05 (3) |  |" in rows
    start = rows.index("| model | bound (IWAE-K), nats | ELBO | active units | squared error | on |")
    where = "10000 images of fashion_mnist, test"
    assert rows[start + 1 :] == [
        "|---|---|---|---|---|---|",
        f"| `vae-fashion` | -1651 ± 0.2, IWAE-10 | -1654 ± 0.2 | 17 | 0.0123 ± 0.0001 | {where} |",
        f"| `vae` | -88.4 ± 0.2, IWAE-50 (cross-entropy) |  |  |  | {where} |",
        "| autoencoder | squared error | on |",
        "|---|---|---|",
        "| `autoencoder` | 0.00456 ± 3e-05 | 10000 images of mnist, test |",
        "| classifier | accuracy | on |",
        "|---|---|---|",
        f"| `classifier` | 92.88% | {where} |",
    ]


def test_the_readme_orders_models_within_a_data_set(records: list[Record]) -> None:
    text = replace_table(README, records)
    assert text.startswith("# Zoo\n")
    assert text.endswith("\n\nThe rest.\n")
    assert "old" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows == [
        "| fashion_mnist | FCD | ms_ssim |",
        "|---|---|---|",
        "| `better` | 0.206 ± 0.05 (1) | 0.125 ± 0.05 |",
        "| `worse` | 0.5 ± 0.05 (2) | 0.25 ± 0.05 |",
        "| training images (the floor) | 0.01 | 0.01 |",
        "| mnist | FCD |",
        "|---|---|",
        "| `digits` | 3 ± 0.05 |",
        "| training images (the floor) | 0.01 |",
        "| classifier | accuracy | on |",
        "|---|---|---|",
        "| `classifier` | 92.88% | 10000 images of fashion_mnist, test |",
    ]
    assert "Features: `cnn-fashion-mnist@01234567`." in text
    assert "Features: `cnn-mnist@76543210`." in text
    assert replace_table(text, records) == text
    with pytest.raises(ValueError, match="no place for the scores"):
        replace_table("# Zoo\n", records)


def test_opinions_that_differ_and_gaps_within_their_error_are_marked(make_score: Make) -> None:
    random = {"metric": "frechet_distance(random-features@89abcdef)", "extractor": "random-features@" + "89abcdef" * 8}
    scores = {  # of one model each: by the classifier, by random features, of the pixels; std is 0.05
        "first": (0.30, 0.9, 0.2),
        "second": (0.44, 0.5, 0.2),  # 0.14 behind: 2 * hypot(0.05, 0.05) = 0.1414
        "third": (0.60, 0.1, 0.9),  # 0.16 behind
    }
    records = [
        record
        for model, (classifier, other, pixels) in scores.items()
        for record in (
            make_score(model, "frechet_distance", classifier),
            make_score(model, "sliced_wasserstein_distance", pixels, extractor=None),
            make_score(model, "frechet_distance", other, **random, floor_std=0.004),
        )
    ]
    text = readme_table(records)
    assert text.splitlines() == [
        "| fashion_mnist | FCD | the same by random features | sliced Wasserstein |",
        "|---|---|---|---|",
        "| `first` | 0.3 ± 0.05 (1=) | 0.9 ± 0.05 **(3)** | 0.2 ± 0.05 (1=) |",
        "| `second` | 0.44 ± 0.05 (1=) | 0.5 ± 0.05 **(2)** | 0.2 ± 0.05 (1=) |",
        "| `third` | 0.6 ± 0.05 (3) | 0.1 ± 0.05 **(1)** | 0.9 ± 0.05 (3) |",
        "| training images (the floor) | 0.01 | 0.01 ± 0.004 | 0.01 |",
        "",
        "Features: `cnn-fashion-mnist@01234567`, `random-features@89abcdef`.",
    ]


def test_a_file_for_each_data_set_holds_every_digit(tmp_path: Path, records: list[Record]) -> None:
    write_tables(records, tmp_path / "results")
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["fashion_mnist.csv", "mnist.csv"]
    with (tmp_path / "results" / "fashion_mnist.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["worse", "worse", "better", "better", "classifier"]
    assert rows[2]["value"] == "0.2061234"
    assert rows[2]["blurred"] == "6.0"
    assert rows[2]["seeds"] == "0 1 2"
    assert json.loads(rows[2]["versions"]) == {"numpy": "2.0"}
    assert rows[4]["noise"] == ""


def test_a_file_has_the_parts_of_a_score_by_number(tmp_path: Path, held_out_records: list[Record]) -> None:
    write_tables(held_out_records, tmp_path)
    with (tmp_path / "fashion_mnist.csv").open(encoding="utf-8") as file:
        parts = {row["metric"]: row["parts"] for row in csv.DictReader(file)}
    assert parts["posterior_divergence"] == "0.000123456 49.6789 0.0 2.145977"
    assert parts["elbo"] == ""


def test_all_scores_every_shipped_preset_and_writes_them_down(
    exported: Path, monkeypatch: pytest.MonkeyPatch, card_records: list[Record]
) -> None:
    checkout = exported.parents[1]
    (checkout / "README.md").write_text(README, encoding="utf-8")
    asked = []

    def evaluate(name: str, options: EvaluationOptions, report_progress: object) -> list[Record]:
        assert options == EvaluationOptions()
        asked.append(name)
        return card_records[:1]

    monkeypatch.setattr(tables, "evaluate", evaluate)
    records = evaluate_all(lambda message: None, root=checkout)
    assert asked == [exported.name]
    assert [one.value for one in records] == [0.5]
    assert (checkout / "results" / "fashion_mnist.csv").is_file()
    assert f"| `{exported.name}` | 0.5 ± 0.05 |" in (checkout / "README.md").read_text(encoding="utf-8")
    assert len(read_card(exported).scores) == 1
    with pytest.raises(ValueError, match="is no checkout"):
        evaluate_all(lambda message: None, root=checkout / "exported")


def test_a_preset_whose_data_are_not_here_keeps_its_scores(
    exported: Path, monkeypatch: pytest.MonkeyPatch, card_records: list[Record]
) -> None:
    checkout = exported.parents[1]
    (checkout / "README.md").write_text(README, encoding="utf-8")
    kept = card_records
    write_scores(exported, kept)

    def evaluate(name: str, options: EvaluationOptions, report_progress: object) -> list[Record]:
        raise FileNotFoundError("signs.zip: no such folder or zip of images")

    monkeypatch.setattr(tables, "evaluate", evaluate)
    said: list[str] = []
    assert evaluate_all(lambda message: None, said.append, checkout) == kept
    assert said == [f"{exported.name} is not scored again: signs.zip: no such folder or zip of images"]
    assert f"| `{exported.name}` | 0.5 ± 0.05 | 0.25 ± 0.05 |" in (checkout / "README.md").read_text(encoding="utf-8")


def test_scores_that_are_named_are_added_to_the_cards(
    exported: Path, monkeypatch: pytest.MonkeyPatch, card_records: list[Record], make_score: Make
) -> None:
    checkout = exported.parents[1]
    (checkout / "README.md").write_text(README, encoding="utf-8")
    write_scores(exported, card_records)
    random = {"metric": "frechet_distance(random-features@89abcdef)", "extractor": "random-features@" + "89abcdef" * 8}
    found = [make_score(exported.name, "frechet_distance", 0.7, **random), replace(card_records[1], value=0.75)]
    monkeypatch.setattr(tables, "evaluate", lambda name, options, report_progress: found)
    options = EvaluationOptions(metrics=("frechet_distance", "ms_ssim"), extractors=("random-features",))
    for _ in range(2):  # again: in their own places
        assert evaluate_all(lambda message: None, root=checkout, options=options) == [card_records[0], *found]

    def refuse(name: str, options: EvaluationOptions, report_progress: object) -> list[Record]:
        raise ValueError("a classifier, whose only score is accuracy")

    monkeypatch.setattr(tables, "evaluate", refuse)
    said: list[str] = []
    assert evaluate_all(lambda message: None, said.append, checkout, options) == [card_records[0], *found]
    assert said == [f"{exported.name} is not scored again: a classifier, whose only score is accuracy"]
    with pytest.raises(ValueError, match="a classifier, whose"):
        evaluate_all(lambda message: None, root=checkout)


def test_all_presets_share_one_protocol(exported: Path) -> None:
    with pytest.raises(ValueError, match="count, crop: all presets are scored by one protocol"):
        evaluate_all(lambda message: None, root=exported.parents[1], options=EvaluationOptions(count=20, crop=3))
