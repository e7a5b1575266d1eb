"""A recipe's command line."""

import sys
from collections.abc import Sequence

import tyro

from zoo.extras import MissingExtraError, start_tensorflow
from zoo.training.recipe import Recipe


def main(
    recipe: Recipe, arguments: Sequence[str] | None = None, prog: str | None = None, description: str | None = None
) -> None:
    """Read options from the command line, train, and exit with the run's status.

    Args:
        recipe: whose fields are the options' defaults.
        arguments: of the command line; by default the process's own.
        prog: name of the command in its help.
        description: its first paragraph; by default the running script's docstring.
    """
    shown = description or sys.modules["__main__"].__doc__
    recipe = tyro.cli(Recipe, default=recipe, args=arguments, prog=prog, description=shown)
    try:
        start_tensorflow()
        from zoo.training.run import run
    except ImportError as error:
        print(MissingExtraError("training", "train", error), file=sys.stderr)
        sys.exit(1)
    sys.exit(run(recipe))
