"""Runs that learn from two collections of images, with pairs and without."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from recipes import cyclegan_blob_to_noto, pix2pix_blob_to_noto
from serving.card import read_card
from zoo.pretrained import load_pretrained
from zoo.training.recipe import Recipe
from zoo.training.train import run_recipe

SIDE = 16  # of the tiny twins


def save(folder: Path, names: list[str], seed: int) -> None:
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        values = np.random.default_rng(100 * seed + number).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(values).save(folder / name)


def make_collections(folder: Path, other_names: list[str] | None = None) -> Path:
    names = [f"{number:02}.png" for number in range(12)]
    save(folder / "trainA", names, 1)
    save(folder / "trainB", other_names or names, 2)
    save(folder / "testA", names[:3], 3)
    save(folder / "testB", names[:3], 4)
    return folder


def shorten(recipe: Recipe, data: Path, run_dir: Path, **changes: object) -> Recipe:
    return dataclasses.replace(
        recipe,
        data=str(data),
        run_dir=run_dir,
        smoke=True,
        deterministic=False,
        **{"steps": 4, "batch_size": 4, "log_every": 1, "sample_every": 2, "checkpoint_every": 2, **changes},
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collections(tmp_path_factory.mktemp("data") / "collections")


@pytest.fixture(scope="module", params=[cyclegan_blob_to_noto, pix2pix_blob_to_noto], ids=["cyclegan", "pix2pix"])
def finished(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "run"
    assert run_recipe(shorten(request.param.recipe, data, directory)) == 0
    return directory


def test_the_run_directory_names_both_collections(finished: Path) -> None:
    config = json.loads((finished / "config.json").read_text())
    assert config["data"]["count"] == config["targets"]["count"] == 12
    assert config["data"]["fingerprint"] != config["targets"]["fingerprint"]


def test_the_log_has_the_losses(finished: Path) -> None:
    with (finished / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert all(np.isfinite(float(row["translator_loss"])) for row in rows)
    assert {"train_score", "held_out_score"} <= set(rows[0])


def test_grids_show_held_out_images_and_what_is_made_of_them(finished: Path) -> None:
    grids = sorted(path.name for path in (finished / "samples").iterdir())
    assert grids == ["step-0000000.png", "step-0000002.png", "step-0000004.png"]
    last = Image.open(finished / "samples" / grids[-1])
    assert last.size == (2 + 8 * (SIDE + 2), 2 + 2 * (SIDE + 2))  # 3 images of 4 cells
    assert (finished / "export" / "preview.png").read_bytes() == (finished / "samples" / grids[-1]).read_bytes()


def test_the_card_says_what_it_learned_from(finished: Path) -> None:
    card = read_card(finished / "export")
    assert (card.data.split, card.data.count) == ("trainA and trainB", 24)
    assert len(card.recipe["target_sha256"]) == 64
    assert "preview.png" in (finished / "export" / "README.md").read_text()


def test_the_export_translates_as_the_model_does(finished: Path) -> None:
    model = load_pretrained(finished)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 19, 24, 3)).astype(np.float32)
    for name, ability in model.abilities().items():
        pipeline = load_pretrained(finished, format="onnx", ability=name)
        expected = np.asarray(ability.network(images))
        np.testing.assert_allclose(pipeline.run({"image": images})["translation"], expected, atol=1e-4)


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_its_history(data: Path, tmp_path: Path) -> None:
    recipe = shorten(cyclegan_blob_to_noto.recipe, data, tmp_path / "whole")
    assert run_recipe(recipe) == 0
    halves = shorten(cyclegan_blob_to_noto.recipe, data, tmp_path / "halves", steps=2)
    assert run_recipe(halves) == 0
    assert run_recipe(dataclasses.replace(halves, steps=4, resume=True)) == 0
    states = [
        tf.train.load_checkpoint(tf.train.latest_checkpoint(tmp_path / name / "checkpoints"))
        for name in ("whole", "halves")
    ]
    names = [name for name in states[0].get_variable_to_shape_map() if name.startswith("model/")]
    assert any("history_a" in name for name in names)
    for name in names:
        np.testing.assert_array_equal(states[0].get_tensor(name), states[1].get_tensor(name))


def test_other_names_are_no_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_collections(tmp_path / "data", [f"x{number:02}.png" for number in range(12)])
    assert run_recipe(shorten(pix2pix_blob_to_noto.recipe, data, tmp_path / "paired")) == 1
    said = capsys.readouterr().err
    assert "no pairs" in said
    assert "give both images of a pair the same name" in said
    assert run_recipe(shorten(cyclegan_blob_to_noto.recipe, data, tmp_path / "unpaired", dry_run=True)) == 0


def test_one_collection_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "data", [f"{number}.png" for number in range(8)], 1)
    assert run_recipe(shorten(cyclegan_blob_to_noto.recipe, tmp_path / "data", tmp_path / "run")) == 1
    assert "put them into folders trainA and trainB" in capsys.readouterr().err


def test_a_batch_beyond_the_smaller_collection_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_collections(tmp_path / "data", ["a.png", "b.png"])
    assert run_recipe(shorten(cyclegan_blob_to_noto.recipe, data, tmp_path / "run")) == 1
    assert "trainB has 2" in capsys.readouterr().err
