"""What a run keeps of its options, so that `--resume` asks for none of them again."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.card import to_line
from zoo.training.optimizers import SGD, Adam, RMSprop
from zoo.training.recipe import AUTO, FREE_TO_CHANGE, Recipe
from zoo.training.run_directory import MEND, RunError, make_resume_options, read_config

OPTIMIZERS = (Adam, RMSprop, SGD)
OF_THE_CALL = {"run_dir", "resume", "dry_run"}  # never kept


def collect_options(recipe: Recipe) -> dict[str, Any]:
    """The options that may change when a run is resumed; a path is absolute, so that it means the same anywhere."""
    options = {name: getattr(recipe, name) for name in sorted(FREE_TO_CHANGE - OF_THE_CALL)}
    data = Path(recipe.data).expanduser()
    return options | ({"data": str(data.absolute())} if data.exists() else {})


def recall_recipe(recipe: Recipe, directory: Path) -> Recipe:
    """`recipe` with the options of the run in `directory`, as its config.json has them.

    Raises:
        RunError: it is the run of another preset, or its config.json is damaged.
    """
    path = directory / "config.json"
    if not path.exists():  # a worker that can't see it says so once it has met the others
        return recipe
    config = read_config(directory)
    kept = {**config.get("recipe", {}), **config.get("options", {})}
    preset = to_line(str(kept.get("preset", recipe.preset)))
    if preset != recipe.preset:
        raise RunError(
            f"{directory} is a run of {preset}, not of {recipe.preset}: go on with "
            f"zoo train {preset} {make_resume_options(directory)}"
        )
    known = {field.name for field in dataclasses.fields(Recipe)} - OF_THE_CALL
    changes = {name: make_tuples(value) for name, value in kept.items() if name in known}
    try:
        kinds = config.get("optimizers", {})
        optimizers = {
            player: make_optimizer(kinds.get(player), numbers)
            for player, numbers in kept.get("optimizers", recipe.optimizers).items()
        }
        # Its precision is recorded by itself, with who has chosen it.
        recalled = dataclasses.replace(recipe, **{**changes, "optimizers": optimizers, "precision": AUTO})
        recalled.to_preset()  # refuses arguments that the model does not take
        return recalled
    except (TypeError, ValueError, AttributeError, StopIteration) as error:
        raise RunError(f"{path} is damaged: its options are none of a run ({to_line(str(error))}). {MEND}") from None


def make_optimizer(kind: str | None, numbers: Any) -> Any:
    """The optimizer of a name in `keras.optimizers`, or else the one whose numbers have these names."""
    if not isinstance(numbers, Mapping):
        return numbers
    named = {each.__name__: each for each in OPTIMIZERS}
    fields = {each: {field.name for field in dataclasses.fields(each)} for each in OPTIMIZERS}
    # LossScaleOptimizer, of float16, hides the name of what it wraps.
    chosen = named.get(str(kind)) or next(each for each in OPTIMIZERS if fields[each] == set(numbers))
    return chosen(**numbers)


def make_tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were written from."""
    if isinstance(value, list):
        return tuple(map(make_tuples, value))
    return {name: make_tuples(each) for name, each in value.items()} if isinstance(value, dict) else value
