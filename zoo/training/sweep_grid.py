"""A sweep's grid: names and values -> runs, each with its recipe."""

import dataclasses
import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import get_origin

from zoo.extras import start_tensorflow
from zoo.presets.preset import Preset
from zoo.presets.table import find_preset, resolve_class
from zoo.training.main import parse_recipe
from zoo.training.model_options import ModelOption, check_names, read_options
from zoo.training.recipe import AUTO, Policy, Recipe

OURS = ("seed", "run_dir", "resume", "dry_run")  # what the sweep itself gives every run
NOT_SWEPT = frozenset({"preset", "optimizers", "model", "smoke", *OURS})
Point = Mapping[str, str]  # name in the grid -> value, as typed


@dataclass(frozen=True)
class Trial:
    """One point with one seed.

    Args:
        name: of its folder.
        point: its place in the grid.
        recipe: as it will be run.
        options: of the command line that makes `recipe` of the one that is swept.
    """

    name: str
    point: Point
    recipe: Recipe
    options: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Train steps in all."""
        return (self.recipe.shrink() if self.recipe.smoke else self.recipe).steps

    @property
    def seed(self) -> int:
        """Of the weights' start and all else that is random."""
        return self.recipe.seed


def read_grid(texts: Iterable[str]) -> dict[str, list[str]]:
    """`name=value,value` texts as name -> values, as typed; commas inside of brackets belong to a value.

    Raises:
        ValueError: no "=", no value, or a name or a value twice.
    """
    grid: dict[str, list[str]] = {}
    for text in texts:
        name, equals, listed = text.partition("=")
        values = split_values(listed)
        if not equals or not name.isidentifier() or not all(values):
            raise ValueError(f"--grid {text}: write name=value,value, such as batch_size=32,64.")
        if name in grid or len(set(values)) < len(values):
            raise ValueError(f"--grid {text}: give every name, and every value of it, once.")
        grid[name] = values
    return grid


def split_values(text: str) -> list[str]:
    """ "1,(2,3)" -> ["1", "(2,3)"]."""
    values, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            values.append("")
        else:
            values[-1] += character
    return values


def plan(recipe: Recipe, grid: Mapping[str, Sequence[str]], seeds: int, options: Sequence[str] = ()) -> list[Trial]:
    """Every run of the sweep, each with its recipe: a value that no recipe takes is refused here, before any run.

    All points with seed 0 come first, then those with seed 1: they can be compared early, and more seeds can be added.

    Args:
        recipe: what is swept.
        grid: name -> values.
        seeds: runs per point.
        options: of the recipe's command line, for every run; the grid overrides them.

    Raises:
        ValueError: a count below one, an option that is the sweep's, a name or value that no recipe takes, or two
            points that are the same.
        SystemExit: a value that is none of its option's; tyro has said which.
    """
    if seeds < 1:
        raise ValueError(f"--seeds {seeds}: choose at least 1.")
    base = parse_recipe(recipe, options, f"zoo train {recipe.preset}")
    for name in OURS:
        if getattr(base, name) != getattr(recipe, name):
            raise ValueError(f"--{to_dashes(name)} is not for the options after --: the sweep gives each run its own.")
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    trials: list[Trial] = []
    for number, (seed, point) in enumerate(itertools.product(range(seeds), points), start=1):
        chosen = (*options, *make_options(point, base), "--seed", str(seed))
        name = f"{number:03d}-{make_file_name(point, seed)}"
        trials.append(Trial(name, point, parse_recipe(recipe, chosen, f"zoo train {recipe.preset}"), chosen))
    for first, second in itertools.combinations(trials[: len(points)], 2):
        if first.recipe == second.recipe:
            raise ValueError(f"--grid: {format_point(first.point)} and {format_point(second.point)} are the same run.")
    return trials


def make_options(point: Point, base: Recipe) -> list[str]:
    """A point of the grid as options of the recipe's command line.

    Raises:
        ValueError: a name that a sweep does not vary or that the model does not take, or a switch that is neither True
            nor False.
    """
    options: list[str] = []
    own = {field.name for field in dataclasses.fields(base)}
    model = find_preset(base.preset).model
    for name, value in point.items():
        path = find_optimizer_field(name, base)
        if path is not None:
            player, field = path
            switch = isinstance(getattr(base.optimizers[player], field), bool)
            options += make_option(f"optimizers.{player}.{field}", value, switch)
        elif name in NOT_SWEPT:
            raise ValueError(f"--grid {name}: a sweep does not vary it.")
        elif name in own:
            options += make_option(name, value, isinstance(getattr(base, name), bool))
        else:
            check_names(model, [name])
            options += make_model_option(read_options(model)[name], value)
    return options


def find_optimizer_field(name: str, recipe: Recipe) -> tuple[str, str] | None:
    """ "generator_learning_rate" -> ("generator", "learning_rate"); None if it is no field of a player's optimizer."""
    for player, optimizer in recipe.optimizers.items():
        field = name.removeprefix(f"{player}_")
        if field != name and field in {each.name for each in dataclasses.fields(optimizer)}:
            return player, field
    return None


def make_option(path: str, value: str, switch: bool) -> list[str]:
    """One option of the command line.

    Args:
        path: of the field, with dots.
        value: as typed.
        switch: whether the field is a truth value, whose option takes no value.

    Raises:
        ValueError: another value than True or False for a switch.
    """
    if not switch:
        return [f"--{to_dashes(path)}", value]
    if value not in ("True", "False"):
        raise ValueError(f"--grid {path}={value}: choose from True and False.")
    *parents, name = path.split(".")
    return [f"--{to_dashes('.'.join([*parents, name if value == 'True' else f'no_{name}']))}"]


def make_model_option(option: ModelOption, value: str) -> list[str]:
    """One option of the model; brackets around a value hold its commas together, and are no part of it."""
    inside = value[1:-1] if value[0] in "([" and value[-1] in ")]" else value
    if get_origin(option.type) is not tuple:
        return make_option(f"model.{option.name}", inside, option.type is bool)
    return [f"--{to_dashes(f'model.{option.name}')}", *filter(None, inside.replace(",", " ").split())]


def to_dashes(name: str) -> str:
    """A field's name as the command line writes it."""
    return name.replace("_", "-")


def make_file_name(point: Point, seed: int) -> str:
    """A point and a seed as part of a file's name."""
    text = "-".join([*(f"{name}={value}" for name, value in point.items()), f"seed={seed}"])
    return re.sub(r"[^\w.=+-]", "_", text, flags=re.ASCII)[:120]  # file systems stop at 255 bytes


def format_point(point: Point) -> str:
    """A point for people."""
    return " ".join(f"{name}={value}" for name, value in point.items())


def check_models(presets: Mapping[str, Preset]) -> None:
    """Build the model of every preset once, in another process, which gives back the memory TensorFlow takes.

    Args:
        presets: what the preset belongs to, for the message -> preset.

    Raises:
        ValueError: the constructor refuses its arguments.
    """
    if not presets:
        return
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as process:
        complaint = process.submit(find_complaint, presets).result()
    if complaint:
        raise ValueError(complaint)


def find_complaint(presets: Mapping[str, Preset]) -> str | None:
    """What the first constructor that refuses its arguments says; for a process of its own."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a GPU is not needed, and taking one would outlast the sweep's start
    start_tensorflow()
    for owner, preset in presets.items():
        try:
            resolve_class(preset.model)(**preset.arguments)
        except (ValueError, TypeError, LookupError) as error:
            return f"{owner}: {error}"
    return None


def choose_precision_apart(recipe: Recipe) -> Policy:
    """What the machine computes faster in, asked in another process, which gives back the memory TensorFlow takes.

    Args:
        recipe: with the devices to train on, and whether XLA compiles the step.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as process:
        return process.submit(find_policy, recipe).result()


def find_policy(recipe: Recipe) -> Policy:
    """`choose_precision` for a process of its own."""
    start_tensorflow()
    from zoo.training.precision import choose_precision, list_capabilities

    return choose_precision(list_capabilities(recipe.devices), recipe.xla).policy


def fix_precision(trial: Trial, policy: Policy) -> Trial:
    """The trial with `policy` in place of "auto"."""
    if trial.recipe.precision != AUTO:
        return trial
    recipe = dataclasses.replace(trial.recipe, precision=policy)
    return dataclasses.replace(trial, recipe=recipe, options=(*trial.options, "--precision", policy))


def collect_presets(trials: Iterable[Trial]) -> dict[str, Preset]:
    """One preset for each different choice of the model's arguments; none where a trial chooses no argument."""
    presets: dict[str, Preset] = {}
    for trial in trials:
        preset, chosen = trial.recipe.to_preset(), trial.recipe.model
        if chosen and preset not in presets.values():
            presets[" ".join(f"{name}={value}" for name, value in chosen.items())] = preset
    return presets
