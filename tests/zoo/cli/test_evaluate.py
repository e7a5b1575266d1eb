"""The command `zoo evaluate`: a table or JSON, and one line for what is wrong."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from serving.card import Data
from zoo import pretrained
from zoo.cli import evaluate
from zoo.cli.main import main
from zoo.evaluation.board import BoardOptions, Row
from zoo.export.export import export
from zoo.presets.table import PRESETS
from zoo.training.run import build_model

NAME = "dcgan-fashion-mnist"


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shipped twin, trained on nothing, in a checkout of its own."""
    preset, directory = PRESETS[NAME].twin(), tmp_path / "checkout" / "exported" / NAME
    data = Data("fashion_mnist_t10k", "train", 9_000, "MIT", "embedded")
    export(build_model(preset), directory, preset=preset, data=data, recipe={"steps": 0}, formats=("onnx",))
    monkeypatch.setattr(pretrained, "SHIPPED", (directory.parent,))
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    return directory


def test_the_command_prints_a_table_or_json(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--metrics", "ms_ssim", "--count", "50", "--seeds", "0", "1", "2"]
    main(["evaluate", NAME, *options, "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    assert {"metric", "value", "std", "baselines", "extractor", "split", "seeds", "real_count"} < set(found)
    assert {"generated_count", "preprocessing", "versions"} < set(found)
    assert (found["metric"], found["generated_count"], found["seeds"]) == ("ms_ssim", 50, [0, 1, 2])
    main(["evaluate", NAME, *options])
    assert f"{found['value']:.3g}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give one of the three"),
        ([NAME, "--all"], "give one of the three"),
        ([NAME, "--board", "likelihood"], "give one of the three"),
        ([NAME, "--samples", "50", "--out", "there"], "--samples, --out: of a board"),
        (["--all", "--chains", "50"], "--chains: of a board"),
        (
            ["--board", "likelihood", "--metrics", "elbo", "--bound-samples", "5"],
            "--metrics, --bound-samples: of no use",
        ),
        (["--board", "likelihood", "--samples", "0"], "samples=0: give 1 or more"),
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


def test_a_board_is_printed_as_a_table_or_json(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row("x", "y", "exact", 0, -1.5, 0.25, "nats", 10, "fixed", "", 1.0, "", "z", "ab", "cd")
    asked: list[BoardOptions] = []

    def evaluate_board(folder: Path, options: BoardOptions, *others: object) -> list[Row]:
        asked.append(options)
        folder.mkdir()
        (folder / "likelihood.md").write_text("| the table |\n")
        return [row]

    monkeypatch.setattr(evaluate, "evaluate_board", evaluate_board)
    main(["evaluate", "--board", "likelihood", "--out", str(tmp_path / "a"), "--count", "100", "--chains", "7"])
    assert capsys.readouterr().out == "| the table |\n"
    assert asked == [BoardOptions(count=100, chains=7)]
    main(["evaluate", "--board", "likelihood", "--out", str(tmp_path / "b"), "--json"])
    assert json.loads(capsys.readouterr().out) == [asdict(row)]
    assert asked[1:] == [BoardOptions()]
