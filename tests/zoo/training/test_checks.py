"""What is mistyped is refused before TensorFlow is imported."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from recipes import dcgan_images
from zoo.training.checks import check_recipe, check_source
from zoo.training.claim import Claim
from zoo.training.recipe import Recipe
from zoo.training.run_directory import RunError, write_json


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "mine").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "mine" / "1.png")
    return dataclasses.replace(dcgan_images.recipe, data=str(tmp_path / "mine"), run_dir=tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"data": "my-pictures.zip"}, FileNotFoundError, "my-pictures.zip: no such folder or zip of images"),
        ({"data": "./mine"}, FileNotFoundError, "./mine: no such folder or zip of images"),
        ({"data": "Mine"}, FileNotFoundError, "Mine: no such folder or zip of images"),
        ({"data": "fashion_mnits:3.0.1"}, ValueError, "no data set of TensorFlow Datasets; near: fashion_mnist"),
        ({"batch_size": 6, "devices": 4}, RunError, "a batch of 6 on 4 devices: choose a multiple of 4."),
        ({"xla": True, "devices": 2}, RunError, "--xla on 2 devices"),
        ({"resume": True}, RunError, "no run in "),
        ({"model": {"widht": 3}}, ValueError, "GAN takes no widht"),
        ({"batch_size": 64, "devices": 6, "smoke": True}, RunError, "a batch of 16 on 6 devices"),
    ],
)
def test_what_is_wrong_is_refused(changes: Any, error: type[Exception], reason: str, recipe: Recipe) -> None:
    check_recipe(recipe)
    with pytest.raises(error, match=reason):
        check_recipe(dataclasses.replace(recipe, **changes))


def test_a_folder_that_holds_or_has_a_run_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    with Claim(tmp_path / "run"):
        with pytest.raises(RunError, match=f"is in use by process {os.getpid()} on "):
            check_recipe(recipe)
        check_recipe(dataclasses.replace(recipe, dry_run=True))
    (tmp_path / "run").mkdir()
    write_json(tmp_path / "run" / "config.json", {})
    with pytest.raises(RunError, match="holds a run already"):
        check_recipe(recipe)


def test_of_several_workers_none_ends_before_it_has_met_the_others(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", "{}")
    check_recipe(dataclasses.replace(recipe, resume=True))


def test_data_sets_of_tensorflow_datasets_are_known_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for source in ("embedded", "mnist", "fashion_mnist:3.0.1", "emnist/letters"):
        check_source(source)
    with pytest.raises(ValueError, match="'my_own_set' is no folder"):
        check_source("my_own_set")
    (tmp_path / "my_own_set").mkdir()  # one that was prepared by code of its own
    check_source("my_own_set")


@pytest.mark.parametrize(
    "words", [["--data", "fashion_mnits"], ["--data", "my.zip"], ["--resume", "--run-dir", "none"]]
)
def test_none_of_it_takes_tensorflow(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys, atexit; atexit.register(lambda: print('tensorflow' in sys.modules))\n"
        f"from recipes import dcgan_images as m; from zoo.training.main import main; main(m.recipe, {words})"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout) == (1, "False\n")
    assert ended.stderr.startswith("-c: ")
    assert ended.stderr.count("\n") == 1
