"""The arguments of a model's constructor as options of the command line.

They are read from the source of the model's class and nothing is imported: help, and the refusal of a wrong name,
come without TensorFlow.
"""

import ast
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, Union

import tyro

from zoo.presets.preset import Preset

REQUIRED = inspect.Parameter.empty
PLAIN = {"bool": bool, "float": float, "int": int, "str": str}
IMAGE_SHAPE = "image_shape"  # has the options --image-size and --channels
CLASSES = "classes"  # come from the data where a preset names any


@dataclass(frozen=True)
class ModelOption:
    """One argument of a constructor.

    Args:
        name: of the argument.
        type: what the command line makes of its words, such as int, Literal["batch", "layer"] or tuple[int, ...]; None
            for an argument that takes something else and can be chosen in Python alone.
        default: the constructor's; `REQUIRED` where it has none.
        help: its line in the docstring of the class.
    """

    name: str
    type: Any
    default: Any
    help: str


@cache
def read_options(model: str) -> Mapping[str, ModelOption]:
    """Every argument of the constructor of `model`, by name, in the constructor's order.

    Args:
        model: a class by its dotted name. Its `__init__` may end with `**options: Unpack[XOptions]`, which stands for
            the arguments of the class X in the module of XOptions.

    Raises:
        ValueError: there is no such class, or its constructor can't be read: a default that is neither a literal nor a
            constant of a module, or ** of something else.
    """
    module, _, name = model.rpartition(".")
    module, node = find_definition(module, name)
    if not isinstance(node, ast.ClassDef):
        raise ValueError(f"{model} is no class.")
    constructor = next(
        (each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), None
    )
    if constructor is None:
        raise ValueError(f"{model} has no __init__ of its own.")
    arguments = constructor.args
    positional = [*arguments.posonlyargs, *arguments.args][1:]  # without self
    defaults = [*[None] * (len(positional) - len(arguments.defaults)), *arguments.defaults]
    meanings = read_meanings(ast.get_docstring(node) or "")
    options = {
        argument.arg: ModelOption(
            argument.arg,
            argument.annotation and read_type(module, argument.annotation),
            REQUIRED if default is None else read_value(module, default),
            meanings.get(argument.arg, ""),
        )
        for argument, default in zip(
            [*positional, *arguments.kwonlyargs], [*defaults, *arguments.kw_defaults], strict=True
        )
    }
    if arguments.kwarg is None:
        return options
    match arguments.kwarg.annotation:
        case ast.Subscript(value=ast.Name(id="Unpack"), slice=ast.Name(id=unpacked)):
            owner, _ = find_definition(module, unpacked)
            return {**options, **read_options(f"{owner}.{unpacked.removesuffix('Options')}")}
    raise ValueError(f"{model}: **{arguments.kwarg.arg} must be annotated as Unpack[...] to be read.")


@cache
def read_module(name: str) -> ast.Module:
    """The source of a module; its packages are imported, it is not.

    Raises:
        ValueError: there is no such module.
    """
    found = find_spec(name)
    if found is None or found.origin is None:
        raise ValueError(f"there is no module {name}.")
    return ast.parse(Path(found.origin).read_text(encoding="utf-8"))


def find_definition(module: str, name: str) -> tuple[str, ast.ClassDef | ast.expr]:
    """What a module's `name` stands for: the module that defines it, and its class or value; imports are followed.

    Raises:
        ValueError: neither a class, nor a value, nor imported by `from ... import`.
    """
    first, _, rest = name.partition(".")
    for node in read_module(module).body:
        match node:
            case ast.ClassDef() if node.name == first:
                return module, node
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == first:
                return module, value
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == first:
                return module, value
            case ast.ImportFrom(module=str() as source):
                for alias in node.names:
                    if first == (alias.asname or alias.name):
                        return (
                            find_definition(f"{source}.{alias.name}", rest)
                            if rest
                            else find_definition(source, alias.name)
                        )
    raise ValueError(f"{module} does not define {name}.")


def read_type(module: str, annotation: ast.expr) -> Any:
    """What an annotation means, for the command line; None for what it has no words for."""
    match annotation:
        case ast.Constant(value=None):
            return type(None)
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            either = (read_type(module, left), read_type(module, right))
            return None if None in either else Union[either]  # noqa: UP007 (made at run time)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            return Literal[ast.literal_eval(choices)]
        case ast.Subscript(value=ast.Name(id="Sequence"), slice=item):
            kind = read_type(module, item)
            return None if kind is None else tuple[kind, ...]  # type: ignore[valid-type]
        case ast.Name(id=name) if name in PLAIN:
            return PLAIN[name]
        case ast.Name() | ast.Attribute():
            try:
                owner, alias = find_definition(module, ast.unparse(annotation))
            except ValueError:
                return None
            return None if isinstance(alias, ast.ClassDef) else read_type(owner, alias)
    return None


def read_value(module: str, default: ast.expr) -> Any:
    """The value of a default: a literal, or a constant of a module.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(default, ast.Name | ast.Attribute):
        owner, value = find_definition(module, ast.unparse(default))
        if not isinstance(value, ast.ClassDef):
            return read_value(owner, value)
    try:
        return ast.literal_eval(default)
    except ValueError:
        raise ValueError(f"{module}: the default {ast.unparse(default)} is neither a literal nor a constant.") from None


def read_meanings(docstring: str) -> dict[str, str]:
    """Argument -> its text in a docstring's section "Args:"."""
    lines = docstring.splitlines()
    start = lines.index("Args:") + 1 if "Args:" in lines else len(lines)
    meanings: dict[str, str] = {}
    name = ""
    for line in lines[start:]:
        if not line.startswith("    "):
            break
        if line.startswith("     "):  # goes on
            meanings[name] += f" {line.strip()}"
        else:
            name, _, text = line.strip().partition(": ")
            meanings[name] = text
    return meanings


def check_names(model: str, names: Iterable[str]) -> None:
    """Refuse what can't be chosen of the arguments of a model's constructor.

    Args:
        model: a class by its dotted name.
        names: of arguments.

    Raises:
        ValueError: naming what the constructor does not take, everything that can be chosen, and what was nearly meant.
    """
    known = [name for name in read_options(model) if name != IMAGE_SHAPE]
    names = list(names)
    if IMAGE_SHAPE in names:
        raise ValueError(f"model: {IMAGE_SHAPE} is chosen with --image-size and --channels.")
    unknown = [name for name in names if name not in known]
    if unknown:
        near = get_close_matches(unknown[0], known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        owner = model.rpartition(".")[2]
        raise ValueError(f"{owner} takes no {', '.join(unknown)}; it takes {', '.join(known)}.{hint}")


def make_options_type(preset: Preset, chosen: Mapping[str, Any]) -> Any:
    """A TypedDict that tyro makes options of: an argument each, and of those that are given a mapping.

    Args:
        preset: whose model, and whose arguments are the defaults that help shows.
        chosen: arguments that a recipe changes; these are shown instead.
    """
    defaults = {name: option.default for name, option in read_options(preset.model).items()}
    shown = {name: format_value(value) for name, value in {**defaults, **preset.arguments, **chosen}.items()}
    if CLASSES in preset.arguments and CLASSES not in chosen:
        shown[CLASSES] = "the data's"
    return TypedDict(  # type: ignore[operator]
        "ModelOptions",
        {
            name: Annotated[
                option.type, tyro.conf.arg(help=option.help, help_behavior_hint=f"(default: {shown[name]})")
            ]
            for name, option in read_options(preset.model).items()
            if option.type is not None and name != IMAGE_SHAPE
        },
        total=False,
    )


def format_value(value: Any) -> str:
    """A default as the words of the command line that ask for it."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    return '""' if value == "" else str(value)
