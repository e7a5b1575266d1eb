"""A recipe's command line."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from zoo.command_line import ending_in_one_line
from zoo.extras import MissingExtraError, start_tensorflow
from zoo.presets.table import find_preset
from zoo.training.checks import check_recipe
from zoo.training.model_options import check_names, make_options_type
from zoo.training.recipe import Recipe
from zoo.training.resume import recall_recipe
from zoo.training.run_directory import choose_directory

MISUSED = 2
MODEL = "--model."


def main(
    recipe: Recipe, arguments: Sequence[str] | None = None, prog: str | None = None, description: str | None = None
) -> None:
    """Read options from the command line, train, and exit with the run's status.

    Args:
        recipe: whose fields are the options' defaults; with `--resume` those of the run are.
        arguments: of the command line; by default the process's own.
        prog: name of the command in its help.
        description: its first paragraph; by default the running script's docstring.
    """
    words = sys.argv[1:] if arguments is None else arguments
    with ending_in_one_line(prog or Path(sys.argv[0]).name, words):
        train(recipe, words, prog, description or sys.modules["__main__"].__doc__)


def train(recipe: Recipe, words: Sequence[str], prog: str | None, description: str | None) -> None:
    """The arguments are those of `main`."""
    begun = find_begun(recipe, words)
    try:
        chosen = parse_recipe(begun, words, prog, description)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(MISUSED)
    try:
        check_recipe(chosen)
        say_at_once(chosen)
        start_tensorflow()
        from zoo.training.train import run_recipe
    except ImportError as error:
        raise MissingExtraError("training", "train", error) from None
    sys.exit(run_recipe(chosen))


def find_begun(recipe: Recipe, arguments: Sequence[str]) -> Recipe:
    """The recipe as the run was begun that `--resume` goes on with; `recipe` itself for a new run.

    Raises:
        ValueError: a run directory without a name.
        RunError: there is no such run, it is another recipe's, or its configuration is damaged.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=recipe.resume)
    parser.add_argument("--smoke", action=argparse.BooleanOptionalAction, default=recipe.smoke)
    parser.add_argument("--run-dir", nargs="?", default=recipe.run_dir)
    names = ("--run_dir=", "--run_dir")  # tyro takes either spelling
    words = [word.replace("_", "-", 1) if word.startswith(names) else word for word in arguments]
    given, _ = parser.parse_known_args(words)
    if given.run_dir == "":  # of a variable that is not set; as a path it would be the current folder
        raise ValueError("--run-dir '': name a folder.")
    given.run_dir = given.run_dir and Path(given.run_dir)
    if not given.resume or any(word in ("-h", "--help") for word in words):
        return recipe
    asked = dataclasses.replace(recipe, resume=True, smoke=given.smoke, run_dir=given.run_dir)
    return recall_recipe(recipe, choose_directory(asked))


def say_at_once(recipe: Recipe) -> None:
    """One line for whoever looks at a terminal: the next one needs TensorFlow and the images, which take seconds."""
    if sys.stderr.isatty():
        print(f"{recipe.preset}: starting TensorFlow, then reading {recipe.data}", file=sys.stderr, flush=True)


def parse_recipe(
    recipe: Recipe, arguments: Sequence[str], prog: str | None = None, description: str | None = None
) -> Recipe:
    """The recipe that the options of a command line make of `recipe`.

    Args:
        recipe: whose fields are the options' defaults.
        arguments: of the command line.
        prog: name of the command in its help.
        description: its first paragraph.

    Raises:
        ValueError: an option of the model that its constructor does not have.
        SystemExit: help was asked for, or another option is wrong; tyro has said which.
    """
    preset = find_preset(recipe.preset)
    # tyro would suggest the nearest options of the whole recipe; the model's are few enough to list.
    given = [word.partition("=")[0].removeprefix(MODEL) for word in arguments if word.startswith(MODEL)]
    check_names(preset.model, [name.removeprefix("no-").replace("-", "_") for name in given])
    model = make_options_type(preset, recipe.model)
    # The same fields with the model's options in place of a mapping of anything, for the time of parsing.
    options = dataclasses.make_dataclass(
        "Recipe", [("model", model, dataclasses.field(default_factory=dict))], bases=(Recipe,), frozen=True
    )
    parsed = tyro.cli(
        options, default=options(**read_fields(recipe)), args=list(arguments), prog=prog, description=description
    )
    return Recipe(**read_fields(parsed))


def read_fields(recipe: Recipe) -> dict[str, Any]:
    """Field -> value, as the recipe has it."""
    return {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
