"""What a training run leaves behind, that its log is right, that devices do not matter, and how it refuses."""

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

from recipes import cgan_fashion_mnist, dcgan_fashion_mnist, dcgan_images
from serving.card import read_card
from serving.images import make_grid
from serving.server.repository import Repository
from zoo.presets.table import PRESETS
from zoo.pretrained import load_pretrained
from zoo.training.recipe import Adam, Recipe
from zoo.training.train import DivergedError, run_recipe, train

# Adam moves a weight whose gradient is all rounding by a whole learning rate; with this epsilon it hardly moves.
SMOOTH = Adam(2e-4, beta_1=0.5, epsilon=1e-3)
EXPLOSIVE = Adam(1e38)
MEANS = [
    *("discriminator_accuracy", "discriminator_gradient_norm", "discriminator_loss", "fake_score"),
    *("generator_gradient_norm", "generator_loss", "real_score"),
]
RATIOS = ["discriminator_update_ratio", "generator_update_ratio"]
MOMENTS = ["train_score", "held_out_score", *RATIOS, "diversity"]
COLUMNS = MEANS + MOMENTS

Runner = Callable[..., Path]


def save_images(folder: Path, count: int, channels: int = 1) -> Path:
    """Small images of noise, so that no two batches are alike."""
    folder.mkdir()
    for number in range(count):
        values = np.random.Generator(np.random.Philox(number)).integers(0, 256, (16, 16, channels), np.uint8)
        Image.fromarray(values.squeeze()).save(folder / f"{number:02d}.png")
    return folder


def rows(directory: Path) -> list[dict[str, float]]:
    with (directory / "log.csv").open(encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def checkpoint(path: Path | str) -> dict[str, np.ndarray]:
    """Name -> tensor of everything in a checkpoint."""
    reader = tf.train.load_checkpoint(str(path))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if not name.startswith("_")}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_images(tmp_path_factory.mktemp("data") / "noise", 40)


@pytest.fixture(scope="module")
def base(images: Path) -> Recipe:
    """Five steps of the tiny twin.

    On this machine's CPU the bits are the same without op determinism, which would outlast the test.
    """
    return dataclasses.replace(
        dcgan_fashion_mnist.recipe,
        data=str(images),
        smoke=True,
        deterministic=False,
        steps=5,
        batch_size=16,
        log_every=1,
        sample_every=2,
        checkpoint_every=2,
        keep=2,
        score_every=None,
        optimizers={"generator": SMOOTH, "discriminator": SMOOTH},
    )


@pytest.fixture(scope="module")
def runner(base: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    def train_with(**changes: Any) -> Path:
        chosen = dataclasses.replace(base, run_dir=tmp_path_factory.mktemp("runs") / "run", **changes)
        directory = train(chosen, Console(file=io.StringIO()))
        assert directory == chosen.run_dir
        return directory

    return train_with


@pytest.fixture(scope="module")
def finished(runner: Runner) -> Path:
    """The run directory of `base`."""
    return runner()


# What a run leaves


def test_everything_lies_where_the_run_directory_says(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        "config.json", "environment.json", "log.csv", "tensorboard", "samples", "checkpoints", "export", "report.html"
    }  # fmt: skip
    assert {path.name for path in (finished / "export").iterdir()} >= {
        "card.json", "model.weights.h5", "generate.onnx", "saved_model", "samples.png", "README.md"
    }  # fmt: skip


# What its export says


def run_snippet(export: Path) -> Any:
    """The images of the README's code, with the folder's path in place."""
    code = (export / "README.md").read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(code.replace("path/of/this/folder", str(export)), names)
    return names["images"]


def test_an_export_speaks_of_its_run_and_not_of_the_preset(finished: Path) -> None:
    card, config = read_card(finished / "export"), json.loads((finished / "config.json").read_text())
    readme = (finished / "export" / "README.md").read_text(encoding="utf-8")
    assert card.name == "dcgan-fashion-mnist-run"  # after the preset and the folder
    assert card.summary == f"DCGAN on {card.data.count} images of noise, 16x16 gray; made with dcgan-fashion-mnist."
    assert readme.startswith(f"# {card.name}\n\n{card.summary}\n")
    assert (card.license, card.data.license) == ("not stated", "not stated")
    assert "- License: not stated\n" in readme
    assert f"noise, train, {card.data.count} images (license not stated)" in readme
    assert card.recipe["data_sha256"] == config["data"]["fingerprint"]
    np.testing.assert_array_equal(run_snippet(finished / "export"), load_pretrained(finished).sample(16, seed=0))


def test_an_export_is_called_as_its_user_says(finished: Path, runner: Runner, tmp_path: Path) -> None:
    mine = runner(name="my-noise", data_license="CC0-1.0", weights="float32") / "export"
    card, readme = read_card(mine), (mine / "README.md").read_text(encoding="utf-8")
    assert (card.name, card.license, card.data.license) == ("my-noise", "not stated", "CC0-1.0")
    assert readme.startswith("# my-noise\n")
    assert "images (CC0-1.0)" in readme
    types = {tensor.data_type for tensor in onnx.load(mine / "generate.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT16 not in types
    for number, export in enumerate((mine, finished / "export")):
        (tmp_path / str(number)).symlink_to(export)
    assert set(Repository(tmp_path).names()) == {"my-noise", "dcgan-fashion-mnist-run"}


def test_an_export_under_the_presets_own_name_is_the_presets(runner: Runner) -> None:
    card = read_card(runner(name="dcgan-fashion-mnist") / "export")
    assert (card.name, card.license) == ("dcgan-fashion-mnist", "Apache-2.0")
    assert card.summary == PRESETS["dcgan-fashion-mnist"].summary


def test_the_configuration_is_the_recipe_the_model_and_the_data(finished: Path) -> None:
    config = json.loads((finished / "config.json").read_text())
    assert config["recipe"]["preset"] == "dcgan-fashion-mnist"
    assert config["recipe"]["optimizers"]["generator"] == dataclasses.asdict(SMOOTH)
    assert config["model"]["image_shape"] == [16, 16, 1]
    assert config["data"]["count"] < 40  # the rest is held out
    assert len(config["data"]["fingerprint"]) == 64


def test_only_the_last_checkpoints_are_kept(finished: Path) -> None:
    assert sorted(path.stem for path in finished.glob("checkpoints/*.index")) == ["ckpt-4", "ckpt-5"]
    assert tf.train.latest_checkpoint(str(finished / "checkpoints")) == str(finished / "checkpoints" / "ckpt-5")


def test_a_checkpoint_holds_what_a_resumed_run_needs(finished: Path) -> None:
    found = checkpoint(finished / "checkpoints" / "ckpt-5")
    assert found["model/step/.ATTRIBUTES/VARIABLE_VALUE"] == 5
    for part in ("model/generator/", "model/discriminator/", "model/generator_ema/"):
        assert any(name.startswith(part) for name in found), part
    for player in ("generator", "discriminator"):
        optimizer = {name: tensor for name, tensor in found.items() if name.startswith(f"{player}_optimizer/")}
        assert [tensor for name, tensor in optimizer.items() if "/_iterations/" in name] == [5]
        moments = [tensor for name, tensor in optimizer.items() if "/_variables/" in name]
        assert len(moments) >= 2 * 7  # Adam's two of each of at least seven variables
        assert all(np.any(tensor) for tensor in moments)


def test_grids_are_drawn_at_the_start_when_due_and_at_the_end(finished: Path) -> None:
    grids = sorted((finished / "samples").iterdir())
    assert [path.name for path in grids] == [f"step-{step:07d}.png" for step in (0, 2, 4, 5)]
    assert len({path.read_bytes() for path in grids}) == 4


def test_the_last_grid_is_what_the_export_samples(finished: Path) -> None:
    """Same latents, same weights up to float16: within a gray level or two."""
    shown = np.asarray(Image.open(finished / "samples" / "step-0000005.png")).astype(int)
    sampled = make_grid(load_pretrained(str(finished / "export")).sample(64, seed=0)).squeeze().astype(int)
    assert shown.shape == sampled.shape
    assert np.abs(shown - sampled).max() <= 2


def test_the_card_says_how_it_was_trained(finished: Path, images: Path) -> None:
    card = json.loads((finished / "export" / "card.json").read_text())
    assert {key: card["recipe"][key] for key in ("steps", "batch_size", "seed")} == {
        "steps": 5,
        "batch_size": 16,
        "seed": 0,
    }
    assert card["data"]["name"] == images.name


def test_tensorboard_shows_every_row_of_the_log(finished: Path) -> None:
    events = [
        event
        for file in finished.glob("tensorboard/*")
        for event in tf.compat.v1.train.summary_iterator(str(file))
        if event.summary.value
    ]
    shown = {
        (event.step, value.tag): float(tf.make_ndarray(value.tensor))
        for event in events
        for value in event.summary.value
    }
    logged = {(row["step"], name): row[name] for row in rows(finished) for name in COLUMNS}
    assert shown == pytest.approx(logged, rel=1e-5)


# The log


def test_a_row_a_step_with_every_column(finished: Path) -> None:
    found = rows(finished)
    assert [row["step"] for row in found] == [1, 2, 3, 4, 5]
    assert list(found[0]) == ["step", "seconds", *COLUMNS]
    assert np.isfinite([list(row.values()) for row in found]).all()
    assert len({row["discriminator_loss"] for row in found}) == 5


def test_a_row_of_two_steps_is_their_mean(finished: Path, runner: Runner) -> None:
    single, double = rows(finished), rows(runner(log_every=2))
    assert [row["step"] for row in double] == [2, 4, 5]
    for row, steps in zip(double, (single[0:2], single[2:4], single[4:5]), strict=True):
        means = {name: np.mean([step[name] for step in steps]) for name in MEANS}
        assert {name: row[name] for name in MEANS} == pytest.approx(means, rel=1e-5)
        assert {name: row[name] for name in MOMENTS} == pytest.approx({name: steps[-1][name] for name in MOMENTS})


# Devices


def test_two_devices_give_the_weights_of_one(finished: Path, runner: Runner) -> None:
    directory = runner(devices=2)
    one, two = (checkpoint(path / "checkpoints" / "ckpt-5") for path in (finished, directory))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        np.testing.assert_allclose(two[name], tensor, rtol=0, atol=1e-5, err_msg=name)
    environment = json.loads((directory / "environment.json").read_text())
    assert environment["devices"] == ["/device:CPU:0", "/device:CPU:1"]
    for row, other in zip(rows(finished), rows(directory), strict=True):
        assert {name: other[name] for name in COLUMNS} == pytest.approx({n: row[n] for n in COLUMNS}, rel=1e-4)


def test_another_seed_gives_other_weights(finished: Path, runner: Runner) -> None:
    """The comparison above could fail."""
    one, other = (checkpoint(path / "checkpoints" / "ckpt-5") for path in (finished, runner(seed=1)))
    kernels = [name for name in one if "kernel" in name]
    assert kernels
    assert all(np.abs(one[name] - other[name]).max() > 1e-3 for name in kernels)


# From the console


def test_own_color_images_train_and_export(base: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_images(tmp_path / "mine", 20, channels=3)
    (folder / "notes.txt").write_text("no image")
    recipe = dcgan_images.recipe
    options = {"data": str(folder), "run_dir": tmp_path / "run", "smoke": True, "deterministic": False}
    assert run_recipe(dataclasses.replace(recipe, **options, batch_size=8, steps=2)) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [str(tmp_path / "run")]  # without a terminal Keras shows nothing
    steps = [line for line in shown.err.splitlines() if line.startswith("step ")]
    assert steps
    assert all("discriminator_loss" in line and line.endswith(" images/s") and len(line) <= 100 for line in steps)
    assert "of mine (16x16x3), 2 steps of 8, 1 device(s)" in shown.err
    assert "1 files that are no images were left out." in shown.err
    assert load_pretrained(str(tmp_path / "run" / "export")).sample(2, seed=0).shape == (2, 16, 16, 3)


def refusal(capsys: pytest.CaptureFixture[str], recipe: Recipe) -> str:
    """What `run` says when it fails: no traceback, and nothing on standard output."""
    assert run_recipe(recipe) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    *before, last = shown.err.splitlines()
    assert not any("error" in line for line in before)
    assert last.startswith("error: ")
    return last


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"batch_size": 3, "devices": 4}, "a batch of 3 can't be shared by 4 devices: every one needs a row."),
        ({"batch_size": 6, "devices": 4}, "a batch of 6 on 4 devices: choose a multiple of 4."),
        ({"batch_size": 4, "devices": 2, "xla": True}, "--xla on 2 devices: it takes one"),
        ({"devices": 5}, "--devices 5: TensorFlow has begun already; ask in a fresh process."),
        ({"threads": 1}, "--threads 1: TensorFlow has begun already; ask in a fresh process."),
        ({"data": "no/such/folder"}, "no/such/folder"),
        ({"data": "./missing"}, "./missing: no such folder or zip of images"),
        ({"preset": "dcgan-fashion"}, "unknown preset 'dcgan-fashion': did you mean dcgan-fashion-mnist"),
        ({"optimizers": {"generator": SMOOTH}}, "GAN has the players ['discriminator', 'generator']"),
        ({"resume": True}, "no run in "),
    ],
    ids=[
        "few rows",
        "uneven rows",
        "xla",
        "many devices",
        "threads",
        "no folder",
        "no such path",
        "preset",
        "players",
        "nothing to resume",
    ],
)
def test_what_cannot_be_is_one_line_and_exit_status_1(
    changes: dict[str, Any], reason: str, base: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(tf.config.list_logical_devices("CPU")) == 4  # TensorFlow has begun
    assert reason in refusal(capsys, dataclasses.replace(base, run_dir=tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_a_folder_without_images_is_refused(base: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine [old]").mkdir()  # brackets are markup to rich
    said = refusal(capsys, dataclasses.replace(base, data=str(tmp_path / "mine [old]"), run_dir=tmp_path / "run"))
    assert f"error: {tmp_path / 'mine [old]'} holds no images: looked at 0 files" in said


def test_too_few_images_for_a_batch_are_refused(
    base: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_images(tmp_path / "mine", 8)
    said = refusal(capsys, dataclasses.replace(base, data=str(folder), run_dir=tmp_path / "run", batch_size=16))
    assert "--batch-size 16: a step takes that many images, and mine train has 7: choose --batch-size 7 or less" in said
    assert not (tmp_path / "run").exists()


def test_an_unreadable_image_is_named_or_left_out_when_asked(
    base: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_images(tmp_path / "mine", 40)
    (folder / "torn.png").write_bytes((folder / "00.png").read_bytes()[:60])
    recipe = dataclasses.replace(base, data=str(folder), run_dir=tmp_path / "run", dry_run=True)
    assert run_recipe(recipe) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {folder}: 1 of ")
    assert "torn.png" in said
    assert "Traceback" not in said
    assert run_recipe(dataclasses.replace(recipe, skip_broken=True)) == 0


def test_a_dry_run_writes_nothing(base: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    shown = io.StringIO()
    assert train(dataclasses.replace(base, dry_run=True), Console(file=shown)) is None
    assert "5 steps of 16" in shown.getvalue()
    assert list(tmp_path.iterdir()) == []


# Divergence


@pytest.mark.parametrize(("devices", "player"), [(1, "generator"), (2, "discriminator")])
def test_a_gradient_that_is_not_finite_stops_the_run_at_the_last_good_checkpoint(
    devices: int, player: str, base: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Step 1 throws the generator away. Fused batch norm makes zeros of maps whose variance overflows, and then the
    generator's gradient in step 2 is not finite; the form for several devices makes NaN, and its fakes are not."""
    optimizers = {"generator": EXPLOSIVE, "discriminator": SMOOTH}
    changes = {"run_dir": tmp_path / "run", "checkpoint_every": 1, "devices": devices}
    said = refusal(capsys, dataclasses.replace(base, optimizers=optimizers, **changes))
    last = tmp_path / "run" / "checkpoints" / "ckpt-1"
    assert f"non-finite gradient or loss of player '{player}': nothing of this step is saved" in said
    assert f"the last good checkpoint is {last}." in said
    assert "lower learning rate" in said
    assert all(np.isfinite(tensor).all() for tensor in checkpoint(last).values())
    assert [row["step"] for row in rows(tmp_path / "run")] == [1]
    assert not (tmp_path / "run" / "export").exists()


def test_divergence_before_the_first_checkpoint_says_so(base: Recipe, tmp_path: Path) -> None:
    optimizers = {"generator": SMOOTH, "discriminator": EXPLOSIVE}
    with pytest.raises(DivergedError, match=r"player 'generator': .* there is no checkpoint yet"):
        train(dataclasses.replace(base, optimizers=optimizers, run_dir=tmp_path / "run"), Console(file=io.StringIO()))


# Classes


def save_classes(folder: Path, **counts: int) -> Path:
    """A sub-folder of images for each class."""
    folder.mkdir(parents=True)
    for name, count in counts.items():
        save_images(folder / name, count)
    return folder


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classes(tmp_path_factory.mktemp("classes") / "pets", dogs=12, cats=14, birds=12)


@pytest.fixture(scope="module")
def conditional() -> Recipe:
    return dataclasses.replace(cgan_fashion_mnist.recipe, smoke=True, deterministic=False)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({}, ("birds", "cats", "dogs")),
        ({"classes": ["a bird", "a cat", "a dog"]}, ("a bird", "a cat", "a dog")),
    ],
    ids=["the folder's", "named"],
)
def test_a_model_with_classes_takes_those_of_the_data(
    named: dict[str, Any], expected: tuple[str, ...], conditional: Recipe, classes: Path, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(conditional, data=str(classes), run_dir=tmp_path / "run", model=named)
    assert run_recipe(recipe) == 0
    card = read_card(tmp_path / "run" / "export")
    assert card.abilities["generate"].inputs[1].classes == expected
    assert tuple(card.model["arguments"]["classes"]) == expected
    assert card.model["arguments"]["image_shape"] == [16, 16, 1]
    model = load_pretrained(str(tmp_path / "run" / "export"))
    np.testing.assert_array_equal(model.sample(2, labels=expected[1]), model.sample(2, labels=1))


@pytest.mark.parametrize(
    "named",
    [["a", "b"], ["a", "b", "c", "d"], 3, "cat", [1, 2, 3]],
    ids=["two", "four", "3", "cat", "numbers"],
)
def test_other_classes_than_the_datas_are_refused(
    named: Any, conditional: Recipe, classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"data": str(classes), "run_dir": tmp_path / "run", "model": {"classes": named}}
    said = refusal(capsys, dataclasses.replace(conditional, **options))
    assert f"classes={named!r}: the images have 3: name them, as in classes=['birds', 'cats', 'dogs']." in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("side", "what"),
    [("train", "no sub-folder"), ("train", "one sub-folder"), ("train", "one image beside"), ("test", "test/ alone")],
)
def test_a_model_with_classes_refuses_images_without(
    side: str, what: str, conditional: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    if what == "no sub-folder":
        save_images(folder, 20)
    elif what == "one sub-folder":
        save_classes(folder, dogs=20)
    elif what == "one image beside":
        save_classes(folder, dogs=20, cats=20)
        for name in ("dogs/00.png", "dogs/01.png", "dogs/02.png"):
            (folder / name).rename(folder / f"beside-{Path(name).name}")
    else:
        save_classes(folder / "train", dogs=20, cats=20)
        save_images(folder / "test", 4)
    said = refusal(capsys, dataclasses.replace(conditional, data=str(folder), run_dir=tmp_path / "run"))
    assert f"cgan-fashion-mnist learns from labels, and mine {side} has none: give a data set with classes, or" in said
    assert not (tmp_path / "run").exists()
