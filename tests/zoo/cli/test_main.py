"""The command `zoo`: what it prints and writes, one line for what goes wrong, TensorFlow only where it is needed."""

import contextlib
import csv
import hashlib
import importlib
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper, save
from PIL import Image

from serving.card import Ability, Card, Data, File, Input, Output, encode_card, find_sampling, read_card, verify_files
from serving.images import make_grid, save_grid
from serving.server.repository import Repository
from zoo import load_pretrained, pretrained
from zoo.cli import doctor, selftest
from zoo.cli.main import main
from zoo.cli.recipes import list_recipes
from zoo.export.export import export
from zoo.export.model_card import write_card
from zoo.presets.table import PRESETS
from zoo.training import precision
from zoo.training.recipe import Recipe
from zoo.training.run import build_model

ROOT = Path(__file__).parents[3]
SHIPPED = pretrained.SHIPPED
NAME = "dcgan-fashion-mnist"
DATA = Data("none", "train", 1, "MIT", "embedded")
LEARNING = {"tensorflow", "keras", "h5py", "onnx", "tf2onnx", "tensorflow_datasets"}

Fails = Callable[..., str]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny export; nothing here changes it."""
    preset, directory = PRESETS[NAME].twin(), tmp_path_factory.mktemp("exported") / NAME
    export(build_model(preset), directory, preset=preset, data=DATA, recipe={"steps": 0})
    return directory


@pytest.fixture(autouse=True)
def shipped(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One preset is shipped, none is cached, and the working directory is empty."""
    monkeypatch.setattr(pretrained, "SHIPPED", (exported.parent,))
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZOO_SOURCE", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    def run(*arguments: str) -> str:
        """The one line on standard error of a command that ends with status 1 and writes nothing."""
        before = sorted(Path.cwd().iterdir())
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        out, error = capsys.readouterr()
        assert (exit.value.code, out, sorted(Path.cwd().iterdir())) == (1, "", before)
        (line,) = error.splitlines()
        return line

    return run


# Read-only commands


def test_list_as_records(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "--json"])
    records = json.loads(capsys.readouterr().out)
    assert [record["name"] for record in records] == sorted(PRESETS)
    for record in records:
        preset = PRESETS[record["name"]]
        assert (record["family"], record["summary"]) == (preset.family, preset.summary)
        assert record["pretrained"] is (record["name"] == NAME)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--pretrained"], [NAME]),
        (["--family", "dcgan"], sorted(name for name, preset in PRESETS.items() if preset.family == "DCGAN")),
    ],
    ids=["pretrained", "family"],
)
def test_list_of_some(options: list[str], names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "--json", *options])
    assert [record["name"] for record in json.loads(capsys.readouterr().out)] == names


def test_list_of_an_unknown_family(fails: Fails) -> None:
    assert "--family dcgna: choose from " in fails("list", "--family", "dcgna")


def test_list_as_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main(["list"])
    rows = [line for line in capsys.readouterr().out.splitlines() if any(f" {name} " in line for name in PRESETS)]
    assert [next(name for name in PRESETS if f" {name} " in row) for row in rows] == sorted(PRESETS)
    assert [" yes " in row for row in rows] == [name == NAME for name in sorted(PRESETS)]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_describe_as_a_record(name: str, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["describe", name, "--json"])
    record = json.loads(capsys.readouterr().out)
    assert (record["name"], record["model"], record["pretrained"]) == (name, PRESETS[name].model, name == NAME)
    if name == NAME:
        assert record["card"].items() >= json.loads((exported / "card.json").read_text()).items()


def test_describe_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    main(["describe", NAME])
    shown = capsys.readouterr().out
    assert NAME in shown
    assert PRESETS[NAME].paper in shown


def test_doctor_as_a_record(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status = 0
    try:
        main(["doctor", "--json"])
    except SystemExit as exit:
        status = exit.code
    report = json.loads(capsys.readouterr().out)
    assert status == (1 if report["conflicts"] else 0)
    assert report["python"] == platform.python_version()
    assert report["packages"]["train"]["tensorflow"] == tf.__version__
    assert report["packages"]["base"]["numpy"] == np.__version__
    assert report["onnxruntime"]["installed"]
    assert "CPUExecutionProvider" in report["onnxruntime"]["used"]
    assert report["directories"]["ZOO_HOME"] == str(tmp_path / "home")
    assert set(report) == {"python", "platform", "packages", "onnxruntime", "tensorflow", "directories", "conflicts"}
    assert report["tensorflow"]["precision"]["auto"] == "float32"  # in these tests no processor has bfloat16


def test_doctor_says_what_a_recipe_would_compute_in(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "read_processor_flags", lambda: frozenset({"amx_bf16"}))
    monkeypatch.setattr(precision, "measure_speedups", lambda: {"matrix product": 7.0, "convolution": 3.0})
    with contextlib.suppress(SystemExit):
        main(["doctor"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "precision" in line]
    assert line == (
        "--precision auto: mixed_bfloat16, since this processor does a matrix product 7.00 times and a convolution "
        "3.00 times as fast in bfloat16 as in float32"
    )


SOUND = {"train": {"tensorflow-probability": "0.25", "tf-keras": "2.21"}}


@pytest.mark.parametrize(
    ("runtimes", "train", "tensorflow", "conflict"),
    [
        ({"onnxruntime": "1.26.0", "onnxruntime-gpu": "1.26.0"}, {}, None, "overwrite each other's files"),
        ({}, {}, None, "no ONNX Runtime: pip install"),
        ({"onnxruntime": "1.31.0"}, {"tf-keras": None}, None, "needs tf-keras: pip install"),
        ({"onnxruntime": "1.31.0"}, {}, {"error": "no libcudart"}, "can't be imported: no libcudart"),
        ({"onnxruntime-gpu": "1.27.0"}, {}, {"gpus": 1}, "CUDA 12, onnxruntime-gpu >= 1.27 wants CUDA 13"),
        ({"onnxruntime-gpu": "1.26.1"}, {}, {"gpus": 1}, None),
        ({"onnxruntime": "1.31.0"}, {}, {"gpus": 1}, None),
    ],
)
def test_doctor_finds(
    runtimes: dict[str, str], train: dict[str, None], tensorflow: dict[str, object] | None, conflict: str | None
) -> None:
    found = doctor.find_conflicts(runtimes, {"train": {**SOUND["train"], **train}}, tensorflow)
    assert len(found) == (conflict is not None)
    assert not conflict or conflict in found[0]


def record(name: str, status: str) -> dict[str, object]:
    return {"name": name, "status": status, "detail": f"why {name} is [{status}]", "seconds": 1.5}


@pytest.mark.parametrize(
    ("statuses", "conflicts", "status"),
    [
        (["ok"], [], 0),
        (["ok", "skipped"], [], 0),
        (["ok", "failed"], [], 1),
        (["skipped", "skipped"], [], 1),
        (["ok"], ["onnxruntime is broken"], 1),
    ],
)
def test_doctor_with_a_selftest(
    statuses: list[str],
    conflicts: list[str],
    status: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its records are part of the report, and decide the exit status with the conflicts."""
    records = [record(f"check {number}", each) for number, each in enumerate(statuses)]
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(doctor, "find_conflicts", lambda *_: conflicts)
    monkeypatch.setattr(selftest, "run_checks", lambda tensorflow, console: records if tensorflow["devices"] else [])
    for options in ([], ["--json"]):
        code = 0
        try:
            main(["doctor", "--selftest", *options])
        except SystemExit as exit:
            code = exit.code
        shown = capsys.readouterr().out
        assert code == status
        for each in records:
            assert each["detail"] in shown
    assert json.loads(shown)["selftest"] == records


# sample


@pytest.mark.parametrize("by", ["name", "path"])
def test_sample_array(exported: Path, capsys: pytest.CaptureFixture[str], by: str) -> None:
    main(["sample", {"name": NAME, "path": str(exported)}[by], "--count", "5", "--seed", "7", "--out", "five.npy"])
    assert capsys.readouterr().out == "five.npy\n"
    found = np.load("five.npy")
    assert (found.shape, found.dtype) == ((5, 16, 16, 1), np.uint8)
    np.testing.assert_array_equal(found, load_pretrained(str(exported), format="onnx").sample(5, seed=7))


@pytest.mark.parametrize("format", ["keras", "saved_model"])
def test_sample_in_another_format(exported: Path, format: str) -> None:
    main(["sample", str(exported), "--count", "2", "--out", "two.npy", "--format", format])
    np.testing.assert_array_equal(np.load("two.npy"), load_pretrained(str(exported), format=format).sample(2))


def test_sample_truncated(style_directory: Path) -> None:
    main(["sample", str(style_directory), "--count", "2", "--truncation", "0.25", "--out", "two.npy"])
    expected = load_pretrained(str(style_directory), format="onnx").sample(2, truncation=0.25)
    np.testing.assert_array_equal(np.load("two.npy"), expected)


def test_sample_image(exported: Path) -> None:
    main(["sample", NAME])
    expected = make_grid(load_pretrained(str(exported), format="onnx").sample(16, seed=0))
    np.testing.assert_array_equal(np.asarray(Image.open("samples.png")), expected[:, :, 0])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([NAME, "--count", "0"], "--count 0: choose at least 1."),
        ([NAME, "--count", "-3"], "--count -3: choose at least 1."),
        ([NAME, "--seed", "-1"], "seed=-1"),
        ([NAME, "--out", "samples.jpg"], "--out samples.jpg: choose a name that ends in .png"),
        ([NAME, "--truncation", "0.5"], "truncation given, but no input of this ability takes a truncation"),
        ([NAME, "--out", "none/samples.png"], "there is no directory none"),
        ([NAME, "--format", "keras", "--seed", "-1"], "seed=-1"),
        ([NAME, "--labels", "shirt"], "no input of this ability takes a label"),
        (["dcgan-fashion-mnits"], "did you mean dcgan-fashion-mnist"),
        (["../nowhere"], "../nowhere is read as a path, and there is no ../nowhere/card.json"),
        (["dcgan-images"], "dcgan-images has no weights in this installation: train it with `zoo train"),
    ],
)
def test_sample_refuses(fails: Fails, arguments: list[str], reason: str) -> None:
    line = fails("sample", *arguments)
    assert line.startswith("zoo: ")
    assert reason in line


def test_sample_refuses_a_damaged_file(fails: Fails, exported: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "card.json").write_bytes((exported / "card.json").read_bytes())
    (own / "generate.onnx").write_bytes(b"other")
    assert "generate.onnx: truncated: expected" in fails("sample", str(own))


def test_source_that_does_not_answer(fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_SOURCE", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert "http://127.0.0.1:1 does not give dcgan-images/card.json" in fails("sample", "dcgan-images")


@pytest.fixture
def shows_label(tmp_path: Path) -> Path:
    """An export whose image is one pixel: 100 times the number of its class."""
    nodes = [
        helper.make_node("Cast", ["label"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["number", "hundred"], ["level"]),
        helper.make_node("Reshape", ["level", "shape"], ["image"]),
    ]
    constants = {"hundred": np.float32([100.0]), "shape": np.array([-1, 1, 1, 1])}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"])],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 1, 1])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    path = tmp_path / "labels" / "generate.onnx"
    path.parent.mkdir()
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    ability = Ability(
        (Input("label", "int64", ("batch",), "label", classes=("bag", "shoe", "7")),),
        (Output("image", "float32", ("batch", 1, 1, 1), "image", (0.0, 255.0), "NHWC"),),
        path.name,
    )
    file = File(hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
    model = {"class": PRESETS[NAME].model, "arguments": {}}
    preset = PRESETS[NAME]
    card = Card(
        *(NAME, preset.family, preset.paper, "Apache-2.0", preset.summary, DATA, model, {}),
        *({"generate": ability}, "generate", {path.name: file}),
    )
    path.with_name("card.json").write_bytes(encode_card(card))
    return path.parent


@pytest.mark.parametrize(
    ("labels", "levels"),
    [(["shoe"], [100, 100, 100]), (["2"], [200, 200, 200]), (["bag", "2", "shoe"], [0, 200, 100])],
)
def test_sample_of_classes(shows_label: Path, labels: list[str], levels: list[int]) -> None:
    main(["sample", str(shows_label), "--count", "3", "--out", "three.npy", "--labels", *labels])
    assert np.load("three.npy").ravel().tolist() == levels


def test_sample_of_no_such_class(fails: Fails, shows_label: Path) -> None:
    assert "label 'hat': no such class" in fails("sample", str(shows_label), "--labels", "hat")


# A run's directory


@pytest.fixture
def run(exported: Path, tmp_path: Path) -> Path:
    """What a run leaves, as far as other commands look at it."""
    directory = tmp_path / "runs" / "gloves"
    shutil.copytree(exported, directory / "export")
    card = read_card(exported)
    data = msgspec.structs.replace(DATA, name="gloves", count=7)
    card = msgspec.structs.replace(card, name="gloves", summary="Gloves.", data=data, recipe={"name": NAME})
    write_card(card, directory / "export")
    (directory / "config.json").write_text(json.dumps({"recipe": {"preset": NAME}}))
    return directory


def test_sample_of_a_run(run: Path, exported: Path) -> None:
    main(["sample", str(run), "--count", "3", "--out", "three.npy"])
    np.testing.assert_array_equal(np.load("three.npy"), load_pretrained(exported, format="onnx").sample(3, seed=0))


def test_describe_a_run(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    main(["describe", str(run), "--json"])
    record = json.loads(capsys.readouterr().out)
    assert (record["name"], record["summary"], record["directory"]) == ("gloves", "Gloves.", str(run / "export"))
    assert record["card"]["data"]["name"] == "gloves"
    monkeypatch.setenv("COLUMNS", "300")
    main(["describe", str(run)])
    shown = capsys.readouterr().out
    assert f'load_pretrained("{run / "export"}", format="onnx")' in shown
    assert "Gloves." in shown


def test_evaluate_a_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", str(run), "--count", "50", "--metrics", "ms_ssim", "--seeds", "0", "1", "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    assert found["model"] == "gloves"


def test_export_of_a_run_under_another_name(run: Path) -> None:
    main(["export", str(run), "--out", "served/a", "--format", "onnx"])
    options = ["--name", "mittens", "--data-license", "CC0-1.0", "--weights", "float32"]
    main(["export", str(run), "--out", "served/b", "--format", "onnx", *options])
    first, second = read_card("served/a"), read_card("served/b")
    assert (first.name, first.summary, first.data.license) == ("gloves", "Gloves.", "MIT")
    assert (second.name, second.data.license) == ("mittens", "CC0-1.0")
    assert second.summary == f"DCGAN on 7 images of gloves, 16x16 gray; made with {NAME}."
    assert set(Repository("served").names()) == {"gloves", "mittens"}
    main(["export", str(run), "--out", "published", "--format", "onnx", "--name", NAME])
    published = read_card("published")
    assert (published.name, published.summary, published.license) == (NAME, PRESETS[NAME].summary, "Apache-2.0")
    types = {tensor.data_type for tensor in onnx.load("served/b/generate.onnx").graph.initializer}
    assert TensorProto.FLOAT16 not in types


@pytest.mark.parametrize("command", [["sample"], ["describe"], ["evaluate"], ["export", "--out", "new"]])
def test_run_without_an_export(command: list[str], run: Path, fails: Fails) -> None:
    shutil.rmtree(run / "export")
    moved = run.rename(run.with_name("a run"))
    line = fails(*command, str(moved))
    assert f"{moved} is a run without an export: `zoo train {NAME} --resume --run-dir '{moved}'` makes one" in line


# export


def test_export_writes_the_same_model(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["export", NAME, "--out", "deep/again"])
    assert capsys.readouterr().out.splitlines()[-1] == "deep/again"
    first, again = read_card(exported), read_card("deep/again")
    verify_files("deep/again", again)
    assert (again.model, again.data, again.recipe, set(again.files)) == (
        *(first.model, first.data, first.recipe),
        set(first.files),
    )
    assert again.files["model.weights.h5"] == first.files["model.weights.h5"]


def test_export_of_one_format(exported: Path) -> None:
    main(["export", str(exported), "--out", "again", "--format", "onnx"])
    assert {path.name for path in Path("again").iterdir()} == {
        *("model.weights.h5", "generate.onnx", "samples.png", "README.md", "card.json")
    }


def test_export_keeps_reconstructions(tmp_path: Path) -> None:
    preset, directory = PRESETS["sparse-autoencoder-mnist"].twin(), tmp_path / "sparse"
    save_grid(np.arange(128, dtype=np.uint8).reshape(2, 8, 8, 1), sheet := tmp_path / "sheet.png")
    images = {"reconstructions.png": sheet.read_bytes()}
    export(build_model(preset), directory, preset=preset, data=DATA, recipe={}, formats=(), images=images)
    main(["export", str(directory), "--out", "again", "--format", "onnx"])
    assert Path("again/reconstructions.png").read_bytes() == sheet.read_bytes()
    card = read_card("again")
    verify_files("again", card)
    assert {"reconstructions.png", "reconstruct.onnx"} <= set(card.files)
    assert "](reconstructions.png)" in Path("again/README.md").read_text()


@pytest.mark.parametrize(
    ("name", "out", "reason"),
    [
        (NAME, ".", "--out . exists already: choose another name."),
        ("dcgan-fashion-mnits", "new", "did you mean"),
        ("dcgan-images", "new", "has no weights in this installation"),
        (NAME, "/dev/null/new", "--out /dev/null/new: /dev/null is no directory that can be written to"),
    ],
)
def test_export_refuses(fails: Fails, name: str, out: str, reason: str) -> None:
    assert reason in fails("export", name, "--out", out)


def test_export_of_no_format_is_refused(fails: Fails) -> None:
    assert fails("export", NAME, "--out", "new", "--format") == "zoo: --format: name onnx, saved_model or both."
    assert not Path("new").exists()


@pytest.mark.parametrize("name", ["vae-mnist", "Mine", "a b", "-", "../up", "a/b", "", "a" * 101])
@pytest.mark.parametrize("command", ["export", "train"])
def test_names_that_no_model_can_have(
    command: str, name: str, fails: Fails, capsys: pytest.CaptureFixture[str]
) -> None:
    if command == "export":
        line = fails("export", NAME, "--out", "x", f"--name={name}")
        reason = "another preset is called so" if name in PRESETS else "write a-z, 0-9 and -"
        assert line.startswith("zoo: --name")
        assert reason in line
        return
    with pytest.raises(SystemExit) as exit:
        main(["train", NAME, f"--name={name}"])
    assert exit.value.code == 2
    assert "--name" in capsys.readouterr().err


# train


def test_every_preset_has_a_recipe() -> None:
    assert set(list_recipes()) == set(PRESETS)


def recipe_of(name: str) -> Recipe:
    """The preset's."""
    return importlib.import_module(list_recipes()[name]).recipe


def assert_finished(run: Path, name: str) -> None:
    """A smoke run of four steps, or as many as the recipe has, has left everything that a run leaves."""
    steps = min(recipe_of(name).steps, 4)
    assert {path.name for path in run.iterdir()} >= {"config.json", "environment.json", "log.csv", "tensorboard"}
    assert json.loads((run / "config.json").read_text())["recipe"]["preset"] == name
    assert json.loads((run / "environment.json").read_text())["versions"]["tensorflow"] == tf.__version__
    with (run / "log.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["step"] == str(steps)
    assert len(row) > 2
    assert all(math.isfinite(float(value)) for value in row.values())
    checkpoint = tf.train.latest_checkpoint(str(run / "checkpoints"))
    assert tf.train.load_variable(checkpoint, "model/step/.ATTRIBUTES/VARIABLE_VALUE") == steps
    card = read_card(run / "export")
    verify_files(run / "export", card)
    shown = "classify" not in card.abilities or find_sampling(card.abilities)
    grids = {"step-0000000.png", f"step-{steps:07}.png"} if shown else set()
    assert {path.name for path in run.glob("samples/*")} == grids
    assert (card.name, card.recipe["steps"], card.data.source) == (f"{name}-run", steps, "embedded")
    assert {"model.weights.h5", "saved_model/1/saved_model.pb"} <= set(card.files)
    assert {f"{ability}.onnx" for ability in card.abilities} <= set(card.files)
    assert (run / "export" / "README.md").is_file()


@pytest.mark.parametrize("name", sorted(list_recipes()))
def test_train_smoke(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    options = ["--smoke", "--data", "embedded", "--run-dir", str(run), "--no-deterministic"]  # other tests come after
    with pytest.raises(SystemExit) as exit:
        main(["train", name, *options])
    assert (exit.value.code, capsys.readouterr().out.splitlines()[-1]) == (0, str(run))
    assert_finished(run, name)


def test_train_smoke_as_a_script(tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--smoke", "--data", "embedded", "--run-dir", str(run)]
    done = command(str(ROOT / "recipes" / f"{NAME.replace('-', '_')}.py"), *options)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, str(run)), done.stderr
    assert_finished(run, NAME)


@pytest.mark.parametrize("name", sorted(list_recipes()))
def test_train_dry_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pretrained, "SHIPPED", SHIPPED)  # of a content loss the classifier is needed
    count = str(min(recipe_of(name).batch_size, 9000))  # some take all of a larger set in a batch
    options = ["--dry-run", "--data", "embedded", "--batch-size", count, "--run-dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as exit:
        main(["train", name, *options])
    out, error = capsys.readouterr()
    size, _, channels = PRESETS[name].arguments["image_shape"]
    assert (exit.value.code, out) == (0, "")
    assert re.search(f"{name} on 9000( and 9000)? images of ", error)
    assert f"({size}x{size}x{channels})" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["train", "sweep"])
@pytest.mark.parametrize(("options", "status"), [([], 2), (["--help"], 0)], ids=["nothing", "help"])
def test_training_without_a_name(
    command: str, options: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main([command, *options])
    shown = capsys.readouterr().out
    assert exit.value.code == status
    assert shown.startswith(f"usage: zoo {command} NAME")
    assert ", ".join(sorted(list_recipes())) in shown


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["dcgan-fashion-mnits"], "did you mean dcgan-fashion-mnist"),
        ([NAME, "--data", "embeded", "--dry-run"], "embeded"),
        ([NAME, "--data", "./none.zip", "--dry-run"], "none.zip"),
        ([NAME, "--run-dir", "/dev/null/run"], "--run-dir /dev/null/run: /dev/null is a file: choose another"),
        (
            ["dcgan-sign-digits"],
            "no such folder or zip of images; python -m recipes.data.sign_digits",
        ),
        (["cnn-sign-digits"], "https://github.com/ardamavi/Sign-Language-Digits-Dataset"),
        (["dcgan-images"], "my-images.zip: no such folder or zip of images; name yours with --data"),
        ([NAME, "--data", "embedded", "--dry-run", "--model.discriminator-steps", "0"], "choose at least 1"),
    ],
)
def test_train_refuses(fails: Fails, arguments: list[str], reason: str) -> None:
    assert reason in fails("train", *arguments)


# sweep; what it does is tested in tests/zoo/training/test_sweep.py


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["dcgan-fashion-mnits"], "did you mean dcgan-fashion-mnist"),
        ([NAME, "--grid", "batch_size"], "--grid batch_size: write name=value,value"),
        ([NAME, "--grid", "seed=1,2"], "--grid seed: a sweep does not vary it"),
        ([NAME, "--seeds", "0"], "--seeds 0: choose at least 1"),
        ([NAME, "--out", ".", "--", "--resume"], "--resume is not for the options after --"),
    ],
)
def test_sweep_refuses(fails: Fails, arguments: list[str], reason: str) -> None:
    assert reason in fails("sweep", *arguments)


@pytest.mark.parametrize("first", ["1", "2"])
def test_a_sweep_without_out_finds_its_own_folder(first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.training import sweep

    monkeypatch.setenv("ZOO_RUNS", str(tmp_path / "runs"))
    chosen: list[Path] = []
    monkeypatch.setattr(sweep, "sweep", lambda runs, out, identity: chosen.append(out) or 0)
    for last in (first, first, "3"):
        with pytest.raises(SystemExit) as exit:
            main(["sweep", NAME, "--grid", f"batch_size={first},4", "--", "--steps", last])
        assert exit.value.code == 0
    assert chosen[0] == chosen[1] != chosen[2]
    assert {out.parent for out in chosen} == {tmp_path / "runs" / "sweeps"}


# Without TensorFlow


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter in an empty directory, with the checkout on its path."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded at the end of `code`."""
    done = command("-c", f"{code}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_zoo_imports_nothing_heavy() -> None:
    loaded = modules_after("import zoo")
    assert "zoo" in loaded
    assert not loaded & (LEARNING | {"numpy", "PIL", "onnxruntime", "msgspec", "pooch", "tyro", "rich", "serving"})


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["list", "--json"],
        ["describe", "dcgan-images"],
        ["sample", "PATH"],
        ["latents", "PATH", "interpolate"],
        ["latents", "PATH", "walk", "--frames", "3"],
        ["latents", "PATH", "truncate", "--method", "resample"],
        ["translate", "--help"],
        ["train", NAME, "--help"],
        ["sweep", NAME, "--help"],
        ["evaluate", "--help"],
        ["evaluate", "PATH", "--count", "50", "--metrics", "ms_ssim", "sliced_wasserstein_distance"],
    ],
    ids=" ".join,
)
def test_command_loads_no_tensorflow(arguments: list[str], exported: Path) -> None:
    chosen = [str(exported) if argument == "PATH" else argument for argument in arguments]
    call = f"try:\n    main({chosen!r})\nexcept SystemExit as exit:\n    assert not exit.code"
    code = f"from zoo.cli.main import main\n{call}"
    loaded = modules_after(code)
    assert "tyro" in loaded
    assert not loaded & LEARNING
    assert ("onnxruntime" in loaded) is ("PATH" in arguments)
    assert not loaded & {"tensorflow_probability", "tf_keras", "matplotlib", "scipy", "jinja2"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", NAME, "--format", "keras"],
        ["sample", NAME, "--format", "saved_model"],
        ["latents", NAME, "project", "--number", "0"],
        ["latents", NAME, "directions"],
        ["export", NAME, "--out", "x"],
    ],
    ids=" ".join,
)
def test_missing_extra_is_named(fails: Fails, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # an import then fails as if it were not installed
    assert fails(*arguments).endswith('needs tensorflow: pip install "generative-zoo[train]"')


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        (["demo"], "tensorflow"),
        (["demo"], "uvicorn"),
        (["demo"], "jinja2"),
        (["export", NAME, "--out", "new"], "tf2onnx"),
        (["export", NAME, "--out", "new"], "h5py"),
        (["evaluate", NAME, "--metrics", "discriminator_jsd_bound"], "keras"),
        (["evaluate", NAME, "--inception", "weights.pth"], "tensorflow"),
        (["evaluate", NAME, "--against", "mnist"], "tensorflow"),
        (["evaluate", NAME, "--against", "mnist"], "tensorflow_datasets"),
        (["sweep", NAME, "--grid", "batch_size=8,16"], "tensorflow"),
    ],
)
def test_what_a_command_lacks_is_said_before_it_begins(
    fails: Fails, monkeypatch: pytest.MonkeyPatch, arguments: list[str], module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    extra = "server" if module == "uvicorn" else "train"
    assert fails(*arguments).endswith(f'needs {module}: pip install "generative-zoo[{extra}]"')


def test_training_names_its_extra(fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    line = fails("train", NAME, "--smoke", "--data", "embedded")
    assert line == f'zoo train {NAME}: training needs tensorflow: pip install "generative-zoo[train]"'
