"""A recipe is frozen data with a command line, and needs no TensorFlow until it trains."""

import dataclasses
import importlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from recipes.dcgan_fashion_mnist import recipe
from zoo.cli.recipes import list_recipes
from zoo.presets.table import find_preset
from zoo.training.main import main, parse_recipe
from zoo.training.optimizers import SGD, RMSprop
from zoo.training.recipe import FREE_TO_CHANGE, Adam, Recipe
from zoo.training.run import build_model

CHECKOUT = Path(__file__).parents[3]
RECIPES = sorted(list_recipes().items())


def parse(*arguments: str) -> Recipe:
    """The recipe that the command line makes of dcgan-fashion-mnist's."""
    return parse_recipe(recipe, arguments)


def python(*arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300, env=environment)


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.steps = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "name",
    [
        "steps",
        "batch_size",
        "log_every",
        "sample_every",
        "checkpoint_every",
        "score_every",
        "keep",
        "steps_per_execution",
        "devices",
        "threads",
        "image_size",
    ],
)
def test_a_count_out_of_range_is_refused(name: str) -> None:
    assert getattr(dataclasses.replace(recipe, **{name: 1}), name) == 1
    with pytest.raises(ValueError, match=f"{name}=0: choose at least 1"):
        dataclasses.replace(recipe, **{name: 0})
    with pytest.raises(ValueError, match=f"{name}=1000000000000: choose at most 2147483647"):
        dataclasses.replace(recipe, **{name: 10**12})


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=rf"seed={seed}: choose 0 <= seed < 2\*\*32"):
        dataclasses.replace(recipe, seed=seed)


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        ("", {}),
        ("--steps 7 --batch-size 9 --seed 3", {"steps": 7, "batch_size": 9, "seed": 3}),
        ("--data my-images.zip --fit pad", {"data": "my-images.zip", "fit": "pad"}),
        ("--image-size 64 --channels 3", {"image_size": 64, "channels": 3}),
        ("--devices 2 --threads 1", {"devices": 2, "threads": 1}),
        ("--run-dir here --resume", {"run_dir": Path("here"), "resume": True}),
        ("--model.discriminator-steps 2 --model.loss hinge", {"model": {"discriminator_steps": 2, "loss": "hinge"}}),
        ("--precision mixed_bfloat16", {"precision": "mixed_bfloat16"}),
        ("--steps-per-execution 50 --score-every 250", {"steps_per_execution": 50, "score_every": 250}),
        ("--smoke --dry-run --no-deterministic", {"smoke": True, "dry_run": True, "deterministic": False}),
    ],
)
def test_an_option_changes_its_field_and_no_other(arguments: str, changes: Mapping[str, Any]) -> None:
    assert parse(*arguments.split()) == dataclasses.replace(recipe, **changes)


def test_an_option_reaches_into_one_players_optimizer() -> None:
    chosen = parse("--optimizers.generator.learning-rate", "1e-3").optimizers
    assert chosen["generator"] == dataclasses.replace(recipe.optimizers["generator"], learning_rate=1e-3)
    assert chosen["discriminator"] == recipe.optimizers["discriminator"]
    assert recipe.optimizers["generator"].learning_rate == 2e-4


def test_every_number_of_an_optimizer_is_an_option() -> None:
    options = (
        "learning-rate 1 beta-1 .2 beta-2 .3 epsilon .4 decay cosine decay-steps 9 final-learning-rate .5 clipnorm 6"
    )
    words = options.split()
    pairs = zip(words[::2], words[1::2], strict=True)
    chosen = parse(*(word for name, value in pairs for word in (f"--optimizers.discriminator.{name}", value)))
    assert chosen.optimizers["discriminator"] == Adam(
        1.0, 0.2, 0.3, 0.4, decay="cosine", decay_steps=9, final_learning_rate=0.5, clipnorm=6.0
    )


def test_the_options_of_a_player_are_those_of_the_recipes_optimizer() -> None:
    own = dataclasses.replace(recipe, optimizers={"generator": RMSprop(5e-5), "critic": SGD(momentum=0.5)})
    arguments = [
        "--optimizers.generator.rho",
        "0.8",
        "--optimizers.critic.nesterov",
        "--optimizers.critic.clipvalue",
        "1",
    ]
    chosen = parse_recipe(own, arguments)
    assert chosen.optimizers == {
        "generator": RMSprop(5e-5, rho=0.8),
        "critic": SGD(momentum=0.5, nesterov=True, clipvalue=1.0),
    }


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("--steps 0", "steps=0: choose at least 1"),
        ("--steps many", "many"),
        ("--step 5", "--steps"),  # the nearest option
        ("--preset dcgan-images", "--preset"),  # a recipe is of its preset
        ("--channels 4", "--channels"),
        ("--optimizers.critic.learning-rate 1", "--optimizers.critic.learning-rate"),
        ("--optimizers.generator.rho 0.5", "--optimizers.generator.rho"),  # it is an Adam
        ("--optimizers.generator.learning-rate 0", "learning_rate=0.0"),
        ("--model loss=hinge", "--model"),
        ("--model.discriminator-steps two", "--model.discriminator-steps"),
        ("--model.minibatch std", "Expected one of"),
        ("--precision float64", "--precision"),
        ("--steps-per-execution 8", "steps_per_execution=8"),
    ],
)
def test_a_bad_option_is_refused_with_what_is_wrong(
    arguments: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(*arguments.split())
    assert exit_.value.code == 2
    assert reason in capsys.readouterr().err


def test_the_help_is_the_recipes_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(recipe, ["--help"], prog="zoo train somewhat", description="A lab note.")
    shown = capsys.readouterr().out
    assert exit_.value.code == 0
    assert shown.startswith("usage: zoo train somewhat")
    assert "A lab note." in shown
    assert "--optimizers.discriminator.beta-1" in shown
    assert "(default: 20000)" in shown  # this recipe's steps, not the class's


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({}, (32, 32, 1)),
        ({"image_size": 64}, (64, 64, 1)),
        ({"channels": 3}, (32, 32, 3)),
        ({"image_size": 64, "channels": 3}, (64, 64, 3)),
    ],
)
def test_image_size_and_channels_override_the_presets(changes: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    preset, chosen = find_preset(recipe.preset), dataclasses.replace(recipe, **changes).to_preset()
    assert chosen == dataclasses.replace(preset, arguments={**preset.arguments, "image_shape": shape})


def test_model_arguments_override_the_presets_in_a_smoke_run_too() -> None:
    ours = {"loss": "hinge", "width": 24}
    chosen = dataclasses.replace(recipe, model=ours)
    preset = find_preset(recipe.preset)
    assert chosen.to_preset() == dataclasses.replace(preset, arguments={**preset.arguments, **ours})
    assert chosen.shrink().to_preset() == dataclasses.replace(preset, arguments={**preset.twin().arguments, **ours})


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"widht": 1, "loss": "hinge", "depth": 2}, r"^GAN takes no widht, depth; it takes latent_dim, .*width\?$"),
        ({"self": 1}, r"^GAN takes no self; it takes latent_dim, architecture, "),
        ({"image_shape": (8, 8, 1)}, "image_shape is chosen with --image-size and --channels"),
    ],
)
def test_what_is_no_model_argument_is_refused(model: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(recipe, model=model).to_preset()


def test_a_model_option_that_there_is_not_is_one_line_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(recipe, ["--model.widht", "8"])
    (line,) = capsys.readouterr().err.splitlines()
    assert exit_.value.code == 2
    assert line.startswith("error: GAN takes no widht; it takes latent_dim, architecture, width, ")
    assert line.endswith("Did you mean width?")


@pytest.mark.parametrize("name", ["steps", "log_every", "sample_every", "checkpoint_every", "score_every"])
def test_a_pace_that_the_compiled_steps_would_miss_is_refused(name: str) -> None:
    paces = dict.fromkeys(("steps", "log_every", "sample_every", "checkpoint_every", "score_every"), 20)
    assert dataclasses.replace(recipe, **paces, steps_per_execution=5).steps_per_execution == 5
    with pytest.raises(ValueError, match=f"^steps_per_execution=5: choose multiples of it for {name}=21.$"):
        dataclasses.replace(recipe, **{**paces, name: 21}, steps_per_execution=5)


@pytest.mark.parametrize(("whole", "small"), [(1, 1), (2, 2), (10, 2), (25, 1), (100, 4)])
def test_a_smoke_run_compiles_as_many_steps_as_fit(whole: int, small: int) -> None:
    assert dataclasses.replace(recipe, steps_per_execution=whole).shrink().steps_per_execution == small


def test_what_decides_the_weights_is_not_free_to_change() -> None:
    assert {field.name for field in dataclasses.fields(Recipe)} - FREE_TO_CHANGE == {
        *("preset", "batch_size", "optimizers", "model", "image_size", "channels", "fit", "skip_broken"),
        *("seed", "smoke", "precision", "xla"),
    }


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(LookupError, match="did you mean dcgan-fashion-mnist"):
        dataclasses.replace(recipe, preset="dcgan-fashion").to_preset()


def test_a_smoke_run_is_the_same_run_with_a_few_steps_of_the_tiny_twin() -> None:
    small = recipe.shrink()
    assert small == dataclasses.replace(recipe, smoke=True, steps=4, batch_size=16, score_every=4)
    assert small.to_preset() == find_preset(recipe.preset).twin() != recipe.to_preset()
    smaller = dataclasses.replace(recipe, steps=2, batch_size=8).shrink()
    assert (smaller.steps, smaller.batch_size) == (2, 8)


def test_every_recipe_imports_without_tensorflow() -> None:
    imports = ", ".join(["sys", "zoo.training.recipe", *(module for _, module in RECIPES)])
    loaded = python("-c", f"import {imports}; print({{'tensorflow', 'keras'}} & set(sys.modules))")
    assert (loaded.stdout.strip(), loaded.returncode) == ("set()", 0), loaded.stderr


def test_training_without_tensorflow_says_what_to_install() -> None:
    script = "import sys; sys.modules['tensorflow'] = None; import recipes.dcgan_fashion_mnist as m; m.main(m.recipe)"
    done = python("-c", script)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == '-c: training needs tensorflow: pip install "generative-zoo[train]"\n'


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(tmp_path: Path) -> None:
    script = CHECKOUT / "recipes" / "dcgan_fashion_mnist.py"
    options = ["--data", "embedded", "--dry-run", "--smoke", "--devices", "3", "--threads", "1", "--batch-size", "9"]
    options += ["--precision", "float32"]
    done = python(str(script), *options, ZOO_RUNS=tmp_path / "runs", CUDA_VISIBLE_DEVICES="")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    said = "dcgan-fashion-mnist on 9000 images of fashion_mnist_t10k (16x16x1), 4 steps of 9, 3 device(s); run: "
    first, second = done.stderr.splitlines()
    assert first.startswith(f"{said}{tmp_path / 'runs' / 'dcgan-fashion-mnist'}")
    assert second == "precision: float32, as asked."
    assert list(tmp_path.iterdir()) == []


# Every recipe


def test_there_are_recipes() -> None:
    assert "dcgan-fashion-mnist" in dict(RECIPES)


@pytest.mark.parametrize(("name", "module"), RECIPES)
def test_a_recipe_is_a_short_file_named_after_its_preset(name: str, module: str) -> None:
    found = importlib.import_module(module)
    lines = Path(found.__file__ or "").read_text(encoding="utf-8").splitlines()
    assert found.recipe.preset == name
    assert len(lines) <= 40
    assert f"zoo train {name}" in found.__doc__ or f"python recipes/{name.replace('-', '_')}.py" in found.__doc__


@pytest.mark.parametrize(("name", "module"), RECIPES)
def test_a_recipe_gives_every_player_an_optimizer(name: str, module: str) -> None:
    small = importlib.import_module(module).recipe.shrink()
    assert set(small.optimizers) == set(build_model(small.to_preset()).players)
