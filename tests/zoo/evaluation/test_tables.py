"""What is made of scores: the console's table, the CSV files, the README's table, the cards."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from serving.card import Data, read_card, verify_files
from zoo import pretrained
from zoo.cli.main import main
from zoo.evaluation import tables as results
from zoo.evaluation.record import Record
from zoo.export.export import export
from zoo.export.model_card import model_card
from zoo.presets.table import PRESETS
from zoo.training.run import build

NAME = "dcgan-fashion-mnist"
EXTRACTOR = "cnn-fashion-mnist@" + "0123456789abcdef" * 4
README = f"# Zoo\n\n{results.BEGIN}\nold\n{results.END}\n\nThe rest.\n"


def record(model: str, name: str, value: float, **changes: object) -> Record:
    features = name != "ms_ssim"
    facts = {
        "metric": {"frechet_distance": "FCD(cnn-fashion-mnist@01234567)"}.get(name, name),
        "name": name,
        "model": model,
        "value": value,
        "std": 0.05,
        "floor": 0.01,
        "ceilings": {"noise": 27.0, "blurred": 6.0},
        "better": "lower",
        "extractor": EXTRACTOR if features else None,
        "data": "fashion_mnist",
        "split": "test",
        "seeds": (0, 1, 2),
        "real_count": 10_000,
        "generated_count": 5_000,
        "preprocessing": "8 bits a channel",
        "source_sha256": "ab" * 32,
        "data_sha256": "cd" * 32,
        "versions": {"numpy": "2.0"},
    }
    return Record(**(facts | changes))  # type: ignore[arg-type]


RECORDS = [
    record("worse", "frechet_distance", 0.5),
    record("worse", "ms_ssim", 0.25),
    record("better", "frechet_distance", 0.2061234),
    record("better", "ms_ssim", 0.125),
    record("digits", "frechet_distance", 3.0, data="mnist", metric="FCD(cnn-mnist@76543210)"),
    record(
        "judge", "accuracy", 0.9288, std=0.0026, floor=None, ceilings={}, extractor=None, seeds=(), generated_count=0
    ),
]


SHOWN = {"std": 0.25, "floor": None, "ceilings": {}, "extractor": None, "generated_count": 0}
OF_HELD_OUT = [
    record("vae-fashion", "elbo", -1654.3, metric="elbo", **SHOWN, seeds=(0,)),
    record("vae-fashion", "importance_weighted_bound", -1650.9, metric="IWAE-10", **SHOWN, seeds=(0,)),
    record("vae-fashion", "active_units", 17.0, metric="active_units (of 20)", **SHOWN | {"std": None, "seeds": ()}),
    record(
        *("vae-fashion", "posterior_divergence", 51.825),
        **SHOWN | {"seeds": (), "parts": (0.000123456, 49.6789, 0.0, 2.145977)},
    ),
    record("vae-fashion", "squared_error", 0.0123, **SHOWN | {"std": 0.0001, "seeds": ()}),
    record("vae-fashion", "frechet_distance", 4.0),
    record("vae", "importance_weighted_bound", -88.41, metric="IWAE-50 (cross-entropy)", **SHOWN, seeds=(0,)),
    record("autoencoder", "squared_error", 0.00456, **SHOWN | {"std": 0.00003, "seeds": ()}, data="mnist"),
]


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shipped twin, trained on nothing, in a checkout of its own."""
    preset, directory = PRESETS[NAME].twin(), tmp_path / "checkout" / "exported" / NAME
    data = Data("fashion_mnist_t10k", "train", 9_000, "MIT", "embedded")
    export(build(preset), directory, preset=preset, data=data, recipe={"steps": 0}, formats=("onnx",))
    monkeypatch.setattr(pretrained, "SHIPPED", (directory.parent,))
    monkeypatch.setattr(results, "SHIPPED", (directory.parent,))
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    return directory


def test_a_console_table_names_extractor_and_protocol_once() -> None:
    shown = io.StringIO()
    results.show(RECORDS[:2], Console(file=shown, width=100))
    text = shown.getvalue()
    assert "FCD " in text
    assert "0.5 ± 0.05" in text
    assert text.count(EXTRACTOR) == 1
    assert "5000 generated images a seed, seeds 0, 1, 2; 10000 real ones of fashion_mnist, test" in text.replace(
        "\n", " "
    )


def test_a_console_table_says_which_scores_are_of_held_out_images() -> None:
    shown = io.StringIO()
    results.show(OF_HELD_OUT, Console(file=shown, width=200))
    lines = [" ".join(line.split()) for line in shown.getvalue().splitlines()]
    assert any(line.startswith("IWAE-50 (cross-entropy) -88.4 ± 0.2") for line in lines)
    assert any(line.startswith("active_units (of 20) 17") for line in lines)
    assert lines.count("posterior_divergence of each latent, the largest first: 49.7, 2.15, 0.000123, 0.") == 1
    assert sum("of each latent" in line for line in lines) == 1
    whose = "10000 real ones of fashion_mnist, test; 8 bits a channel"
    made = f"5000 generated images a seed, seeds 0, 1, 2; {whose}. Floor: training images in the place of generated"
    start = lines.index(f"Latents drawn, seeds 0; {whose}.")
    assert lines[start + 1] == f"{whose}."
    assert lines[start + 2] == f"{made} ones."


def test_the_readme_has_models_with_a_bound_and_autoencoders() -> None:
    rows = [line for line in results.readme_table(RECORDS + OF_HELD_OUT).splitlines() if line.startswith("|")]
    assert "| `vae-fashion` | 4 ± 0.05 |  |" in rows
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
        f"| `judge` | 92.88% | {where} |",
    ]


def test_the_readme_orders_models_within_a_data_set() -> None:
    text = results.with_table(README, RECORDS)
    assert text.startswith("# Zoo\n")
    assert text.endswith("\n\nThe rest.\n")
    assert "old" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows == [
        "| fashion_mnist | FCD | ms_ssim |",
        "|---|---|---|",
        "| `better` | 0.206 ± 0.05 | 0.125 ± 0.05 |",
        "| `worse` | 0.5 ± 0.05 | 0.25 ± 0.05 |",
        "| training images (the floor) | 0.01 | 0.01 |",
        "| mnist | FCD |",
        "|---|---|",
        "| `digits` | 3 ± 0.05 |",
        "| training images (the floor) | 0.01 |",
        "| classifier | accuracy | on |",
        "|---|---|---|",
        "| `judge` | 92.88% | 10000 images of fashion_mnist, test |",
    ]
    assert "Features: `cnn-fashion-mnist@01234567`." in text
    assert "Features: `cnn-mnist@76543210`." in text
    assert results.with_table(text, RECORDS) == text
    with pytest.raises(ValueError, match="no place for the scores"):
        results.with_table("# Zoo\n", RECORDS)


def test_a_file_for_each_data_set_holds_every_digit(tmp_path: Path) -> None:
    results.write_tables(RECORDS, tmp_path / "results")
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["fashion_mnist.csv", "mnist.csv"]
    with (tmp_path / "results" / "fashion_mnist.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["worse", "worse", "better", "better", "judge"]
    assert rows[2]["value"] == "0.2061234"
    assert rows[2]["blurred"] == "6.0"
    assert rows[2]["seeds"] == "0 1 2"
    assert json.loads(rows[2]["versions"]) == {"numpy": "2.0"}
    assert rows[4]["noise"] == ""


def test_a_file_has_the_parts_of_a_score_by_number(tmp_path: Path) -> None:
    results.write_tables(OF_HELD_OUT, tmp_path)
    with (tmp_path / "fashion_mnist.csv").open(encoding="utf-8") as file:
        parts = {row["metric"]: row["parts"] for row in csv.DictReader(file)}
    assert parts["posterior_divergence"] == "0.000123456 49.6789 0.0 2.145977"
    assert parts["elbo"] == ""


def test_a_card_keeps_scores_and_their_protocol(exported: Path, tmp_path: Path) -> None:
    before = read_card(exported)
    results.keep_in_card(NAME, [record(NAME, "frechet_distance", 0.5), record(NAME, "ms_ssim", 0.25)])
    card = read_card(exported)
    verify_files(exported, card)
    assert card.files == before.files
    frechet, similarity = card.scores
    assert (frechet.metric, frechet.value, frechet.std) == ("FCD(cnn-fashion-mnist@01234567)", 0.5, 0.05)
    assert frechet.protocol["extractor"] == EXTRACTOR
    assert frechet.protocol["floor"] == 0.01
    assert similarity.protocol["seeds"] == [0, 1, 2]
    readme = (exported / "README.md").read_text(encoding="utf-8")
    assert readme == model_card(card)
    assert "| FCD(cnn-fashion-mnist@01234567) | 0.5 ± 0.05 | 0.01 | 27 | 6 | lower |" in readme
    assert "sampling seeds 0, 1, 2, 5000 images each, against 10000 images of fashion_mnist, test" in readme
    again = tmp_path / "again"
    main(["export", str(exported), "--format", "onnx", "--out", str(again)])
    assert read_card(again).scores == card.scores  # the weights are the same


def test_a_card_says_what_scores_of_held_out_images_rest_on(exported: Path) -> None:
    mine = [replace(one, model=NAME) for one in OF_HELD_OUT[:5]]
    results.keep_in_card(NAME, mine)
    assert results.records_of(read_card(exported)) == mine
    kept = {score.metric: score.protocol.get("parts") for score in read_card(exported).scores}
    assert kept["posterior_divergence"] == [0.000123456, 49.6789, 0.0, 2.145977]
    assert kept["elbo"] is None  # as in the cards that were written before scores had parts
    readme = (exported / "README.md").read_text(encoding="utf-8")
    assert "| IWAE-10 | -1651 ± 0.25 |  |  |  | lower |" in readme
    assert "| active_units (of 20) | 17 |  |  |  | lower |" in readme
    assert "| posterior_divergence | 51.83 ± 0.25 |  |  |  | lower |" in readme
    assert "\nposterior_divergence of each latent, the largest first: 49.7, 2.15, 0.000123, 0.\n" in readme
    assert readme.count("of each latent") == 1
    on = "On 10000 images of fashion_mnist, test"
    assert f"\n{on}, latents of seed 0; ± is the standard error. 8 bits a channel; numpy 2.0.\n" in readme
    assert f"\n{on}; ± is the standard error. 8 bits a channel; numpy 2.0.\n" in readme


def test_all_scores_every_shipped_preset_and_writes_them_down(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout = exported.parents[1]
    (checkout / "README.md").write_text(README, encoding="utf-8")
    asked = []

    def evaluate(name: str, tell: object) -> list[Record]:
        asked.append(name)
        return [record(name, "frechet_distance", 0.5)]

    monkeypatch.setattr(results, "evaluate", evaluate)
    records = results.evaluate_all(lambda message: None, root=checkout)
    assert asked == [NAME]
    assert [one.value for one in records] == [0.5]
    assert (checkout / "results" / "fashion_mnist.csv").is_file()
    assert f"| `{NAME}` | 0.5 ± 0.05 |" in (checkout / "README.md").read_text(encoding="utf-8")
    assert len(read_card(exported).scores) == 1
    with pytest.raises(ValueError, match="is no checkout"):
        results.evaluate_all(lambda message: None, root=checkout / "exported")


def test_a_preset_whose_data_are_not_here_keeps_its_scores(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = exported.parents[1]
    (checkout / "README.md").write_text(README, encoding="utf-8")
    kept = [record(NAME, "frechet_distance", 0.5), record(NAME, "ms_ssim", 0.25)]
    results.keep_in_card(NAME, kept)

    def evaluate(name: str, tell: object) -> list[Record]:
        raise FileNotFoundError("signs.zip: no such folder or zip of images")

    monkeypatch.setattr(results, "evaluate", evaluate)
    said: list[str] = []
    assert results.evaluate_all(lambda message: None, said.append, checkout) == kept
    assert said == [f"{NAME} is not scored again: signs.zip: no such folder or zip of images"]
    assert f"| `{NAME}` | 0.5 ± 0.05 | 0.25 ± 0.05 |" in (checkout / "README.md").read_text(encoding="utf-8")


def test_the_command_prints_a_table_or_json(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--metrics", "ms_ssim", "--count", "50", "--seeds", "0", "1", "2"]
    main(["evaluate", NAME, *options, "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    assert {"metric", "value", "std", "floor", "extractor", "split", "seeds", "real_count"} < set(found)
    assert {"generated_count", "preprocessing", "versions"} < set(found)
    assert (found["metric"], found["generated_count"], found["seeds"]) == ("ms_ssim", 50, [0, 1, 2])
    main(["evaluate", NAME, *options])
    assert f"{found['value']:.3g}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give one of the two"),
        ([NAME, "--all"], "give one of the two"),
        (["dcgan-fashon-mnist"], "did you mean dcgan-fashion-mnist"),
        ([NAME, "--metrics", "fid"], "choose from frechet_distance"),
        ([NAME, "--against", "embedded", "--split", "train", "--metrics", "ms_ssim"], "give images that were held"),
        ([NAME, "--seeds", "1", "1"], "different seeds"),
        ([NAME, "--bound-samples", "100"], f"bound_samples=100: {NAME} gives no bound"),
    ],
)
def test_what_is_wrong_is_one_line(
    exported: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["evaluate", *arguments])
    assert exit.value.code == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert complaint in captured.err
    assert captured.err.count("\n") == 1
