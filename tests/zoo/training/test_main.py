"""`--resume` takes its options from the run: none has to be given again, and one that is given again counts."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest

from recipes import dcgan_images, vae_mnist
from zoo.training.main import find_begun, parse_recipe
from zoo.training.optimizers import SGD, RMSprop
from zoo.training.recipe import FREE_TO_CHANGE, Recipe
from zoo.training.resume import collect_options, recall_recipe
from zoo.training.run_directory import RunError, make_resume_options, write_json

OPTIMIZERS = {"generator": RMSprop(1e-3, momentum=0.25), "discriminator": SGD(0.125, clipnorm=2.0)}
CHANGES: dict[str, Any] = {
    "steps": 70,
    "batch_size": 10,
    "optimizers": OPTIMIZERS,
    "model": {"width": 32, "codes": (0.0, 1.0, 1.0), "loss": "least_squares"},
    "image_size": 32,
    "fit": "pad",
    "seed": 3,
    "score_every": 35,
    "export": "best",
    "log_every": 7,
    "xla": True,
}


def begin(recipe: Recipe, directory: Path) -> Recipe:
    """Write what a run of `recipe` writes of its options."""
    directory.mkdir(parents=True)
    options = {name: value for name, value in dataclasses.asdict(recipe).items() if name not in FREE_TO_CHANGE}
    kinds = {player: type(optimizer).__name__ for player, optimizer in recipe.optimizers.items()}
    config = {"recipe": {**options, "precision": "float32"}, "optimizers": kinds, "options": collect_options(recipe)}
    write_json(directory / "config.json", config)
    return recipe


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The recipe of a run in `a run`, begun with a relative path of its data from another folder."""
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    Path("my images.zip").touch()
    recipe = dataclasses.replace(dcgan_images.recipe, data="my images.zip", **CHANGES)
    begin(recipe, tmp_path / "a run")
    monkeypatch.chdir(tmp_path)
    return recipe


def parse(*words: str) -> Recipe:
    return parse_recipe(find_begun(dcgan_images.recipe, words), words)


def test_a_resumed_run_has_its_own_options(begun: Recipe, tmp_path: Path) -> None:
    expected = dataclasses.replace(
        begun, data=str(tmp_path / "there" / "my images.zip"), resume=True, run_dir=tmp_path / "a run"
    )
    assert parse(*shlex.split(make_resume_options(Path("a run")))) == expected
    for words in ("--resume --run_dir 'a run'", "--run-dir='a run' --resume"):
        assert parse(*shlex.split(words)) == dataclasses.replace(expected, run_dir=Path("a run"))


def test_an_option_that_is_given_again_counts(begun: Recipe) -> None:
    chosen = parse("--resume", "--run-dir", "a run", "--steps", "140", "--seed", "4", "--model.width", "16")
    assert (chosen.steps, chosen.seed, chosen.model["width"]) == (140, 4, 16)
    assert chosen.model["loss"] == "least_squares"
    assert chosen.optimizers == OPTIMIZERS


def test_the_recipes_latest_run_has_its_own_options(
    begun: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_RUNS", str(tmp_path / "runs"))
    begin(dataclasses.replace(begun, seed=8), tmp_path / "runs" / "dcgan-images" / "2026-01-01-000000-000000")
    begin(dataclasses.replace(begun, seed=9), tmp_path / "runs" / "dcgan-images-smoke" / "2026-01-01-000000-000000")
    assert parse("--resume").seed == 8
    assert parse("--resume", "--smoke").seed == 9


def test_a_new_run_has_the_recipes(begun: Recipe) -> None:
    assert parse("--run-dir", "a run") == dataclasses.replace(dcgan_images.recipe, run_dir=Path("a run"))


@pytest.mark.parametrize("words", [["--run-dir", ""], ["--run-dir="], ["--resume", "--run_dir", ""]])
def test_a_run_directory_without_a_name_is_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match="--run-dir '': name a folder"):
        find_begun(dcgan_images.recipe, words)


def test_a_run_of_another_recipe_is_not_resumed(begun: Recipe) -> None:
    with pytest.raises(
        RunError, match=r"a run is a run of dcgan-images, not of vae-mnist: go on with zoo train dcgan-"
    ):
        find_begun(vae_mnist.recipe, ["--resume", "--run-dir", "a run"])


@pytest.mark.parametrize(
    "damaged",
    [
        {"recipe": {"seed": "x"}},
        {"recipe": {"optimizers": {"generator": {"rate": 1}}}},
        {"recipe": {"optimizers": 3}},
        {"options": {"steps": "x"}},
        {"recipe": 3},
        {"recipe": {"model": 3}},
        {"recipe": {"model": [1]}},
        {"recipe": {"model": {"breadth": 1}}},
        {"recipe": {"optimizers": {"generator": {"learning_rate": 1e-4, "decay": "\n\x1b[2J"}}}},
    ],
)
def test_options_that_are_none_are_one_line(damaged: Any, tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", damaged)
    with pytest.raises(RunError, match=r"config\.json is damaged") as error:
        recall_recipe(dcgan_images.recipe, tmp_path)
    assert str(error.value).isprintable()


def test_a_run_that_kept_no_options_has_the_recipes(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"recipe": {"seed": 5}})
    assert recall_recipe(dcgan_images.recipe, tmp_path) == dataclasses.replace(dcgan_images.recipe, seed=5)
