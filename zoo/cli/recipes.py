"""Preset -> recipe module."""

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType

from zoo.presets.table import PRESETS, UnknownPresetError

MISUSED = 2


def list_recipes() -> dict[str, str]:
    """Preset -> the module of its recipe."""
    import recipes as package

    modules = {info.name.replace("_", "-"): f"recipes.{info.name}" for info in pkgutil.iter_modules(package.__path__)}
    return {name: module for name, module in modules.items() if name in PRESETS}


def find_recipe(command: str, about: str, arguments: Sequence[str]) -> ModuleType:
    """The module of the recipe that the first argument names; without one, show the command's usage and exit.

    Args:
        command: of `zoo`.
        about: what it does, for its usage.
        arguments: of its command line.

    Raises:
        UnknownPresetError: there is no such recipe.
    """
    known = list_recipes()
    if not arguments or arguments[0] in ("-h", "--help"):
        usage, names = f"usage: zoo {command} NAME [options]", ", ".join(sorted(known))
        print(f"{usage}\n\n{about}\n\nrecipes: {names}\n\nzoo {command} NAME --help")
        sys.exit(0 if arguments else MISUSED)
    if arguments[0] not in known:
        raise UnknownPresetError(arguments[0], known)
    return importlib.import_module(known[arguments[0]])
