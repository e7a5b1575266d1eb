"""Imports run one way, TensorFlow stays in its rooms, one room holds the gradient tape, shared code names no model.

The sources are read, not run, so an import inside a function counts as well.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from zoo.presets.table import PRESETS

ROOT = Path(__file__).parents[1]

# From the ground up. A room may import itself and every room of the floors below.
FLOORS = (
    ("serving", "zoo.data.classes"),  # names of classes are plain data, and presets need them
    ("zoo.core",),
    ("zoo.layers",),
    ("zoo.losses", "zoo.networks", "zoo.metrics"),
    ("zoo.models",),
    ("zoo.presets", "zoo.extras"),
    ("zoo.data", "zoo.export", "zoo.sources"),
    ("zoo.pretrained", "zoo.command_line"),
    ("zoo.evaluation",),
    ("zoo.applications", "zoo.training"),
    ("recipes", "studies", "benchmarks"),
    ("zoo.cli",),
    ("zoo",),  # __init__.py alone: the public names, loaded when first used
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

OURS = {"serving", "zoo", "recipes", "studies", "benchmarks"}
LEARNING = {"tensorflow", "keras", "tensorflow_probability", "tensorflow_datasets", "tf_keras", "h5py", "tf2onnx"}

# Never, not even inside a function.
BANNED = {
    "serving": LEARNING | {"onnx", "zoo", "recipes"},
    "zoo": LEARNING | {"numpy", "onnxruntime", "onnx"},
    "zoo.presets": LEARNING | {"numpy", "serving", "recipes"},
    "zoo.metrics": LEARNING,
    "zoo.applications": LEARNING,
}
# Not when the module is imported; inside a function, yes.
LAZY = (
    *("zoo.extras", "zoo.command_line", "zoo.pretrained", "zoo.sources", "zoo.training.recipe", "zoo.training.main"),
    *("zoo.training.optimizers", "zoo.training.model_options", "zoo.training.run_directory"),
    *("zoo.training.claim", "zoo.training.checks", "zoo.training.resume"),
    *("zoo.cli.main", "zoo.cli.recipes", "zoo.cli.doctor", "zoo.cli.demo", "zoo.cli.selftest", "zoo.cli.processes"),
    *("zoo.cli.findings", "zoo.cli.latents", "zoo.cli.translate", "zoo.export.model_card"),
    *(
        f"zoo.data.{name}"
        for name in ("images", "folders", "store", "embedded", "published", "tfds", "batches", "load")
    ),
)

TENSORFLOW_ROOMS = (
    *(
        "zoo.core.step",
        "zoo.core.convolution",
        "zoo.core.replicas",
        "zoo.core.model",
        "zoo.core.noise",
        "zoo.core.normalization",
        "zoo.core.inference",
        "zoo.core.latents",
        "zoo.core.ability",
        "zoo.core.batch",
    ),
    *("zoo.extras", "zoo.data", "zoo.export", "zoo.pretrained", "zoo.evaluation", "zoo.training", "zoo.cli"),
    *("studies", "benchmarks"),
)
TAPE_ROOM = "zoo.core.step"
MODELS_MAY_IMPORT = {("zoo.models.dbn", "zoo.models.rbm"), ("zoo.models.vq_vae", "zoo.models.pixel_cnn")}
ABSTRACT = ("zoo.models.adversarial", "zoo.models.mixture")  # bases, of no one paper


@dataclass(frozen=True)
class Import:
    """`name` is what is imported, `from a.b import c` as "a.b.c"; `eager`: when the module is imported."""

    name: str
    line: int
    eager: bool

    @property
    def package(self) -> str:
        return self.name.split(".")[0]


def sources(root: Path) -> list[Path]:
    return sorted(path for package in OURS for path in (root / package).rglob("*.py"))


def module_of(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, root: Path) -> Iterator[Import]:
    package = path.relative_to(root).parent.parts

    def walk(node: ast.AST, eager: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, eager) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                above = package[: len(package) + 1 - child.level] if child.level else ()
                module = ".".join([*above, *filter(None, [child.module])])
                yield from (Import(f"{module}.{alias.name}", child.lineno, eager) for alias in child.names)
            else:
                for_types = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, eager and not function and not for_types)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), eager=True)


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def room_of(name: str) -> str:
    """The room that a module, or a name in one, belongs to."""
    return max((room for room in FLOOR if within(name, room)), key=len)


def problems(path: Path, root: Path) -> list[str]:
    """One sentence for each import, or tape, that is where it must not be."""
    module = module_of(path, root)
    room, found = room_of(module), []
    if module not in FLOOR and room == "zoo":
        found.append(f"{module} has no room in FLOORS")
    for entry in imports_of(path, root):
        name, where = entry.name, f"{module}, line {entry.line}: {entry.name}"
        if entry.package in OURS:
            target = room_of(name)
            if target != room and FLOOR[target] >= FLOOR[room]:
                found.append(f"{where} is not below {room}")
            if (
                room == target == "zoo.models"
                and not any(within(name, base) for base in ABSTRACT)
                and not any(module == importer and within(name, imported) for importer, imported in MODELS_MAY_IMPORT)
            ):
                found.append(f"{where}: a model never imports another")
        if entry.package in BANNED.get(room, ()) and not (room == "zoo" and entry.package == "zoo"):
            found.append(f"{where} is banned from {room}")
        if entry.package == "tensorflow" and not any(within(module, place) for place in TENSORFLOW_ROOMS):
            found.append(f"{where} outside TensorFlow's rooms")
        if entry.eager and module in LAZY and (entry.package in LEARNING or eager_by_proxy(name)):
            found.append(f"{where} belongs inside the function that needs it")
    tapes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if is_tape(node)]
    if tapes and module != TAPE_ROOM and within(module, "zoo"):
        found.append(f"{module}: a GradientTape outside {TAPE_ROOM}")
    return found


def eager_by_proxy(name: str) -> bool:
    """Whether importing `name` imports TensorFlow."""
    rooms = (
        "zoo.core",
        "zoo.networks",
        "zoo.models",
        "zoo.evaluation",
        "zoo.export.export",
        "zoo.training.run",
        "zoo.training.train",
    )
    return any(within(name, room) for room in rooms)


def is_tape(node: ast.AST) -> bool:
    names = {getattr(node, field, None) for field in ("id", "attr", "name")}
    return "GradientTape" in names


@pytest.mark.parametrize("path", sources(ROOT), ids=lambda path: module_of(path, ROOT))
def test_source_keeps_to_the_arrows(path: Path) -> None:
    assert not problems(path, ROOT)


def test_every_package_is_read() -> None:
    assert {module_of(path, ROOT) for path in sources(ROOT)} >= {
        "serving.card",
        "zoo",
        "zoo.cli.main",
        "zoo.training.recipe",
    }


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("serving/card.py", "import keras", "banned from serving"),
        ("serving/card.py", "def f():\n    from zoo.presets.table import PRESETS", "is not below serving"),
        ("zoo/layers/spectral_norm.py", "import tensorflow as tf", "outside TensorFlow's rooms"),
        ("zoo/layers/spectral_norm.py", "from zoo.networks import mlp", "zoo.networks.mlp is not below zoo.layers"),
        ("zoo/layers/spectral_norm.py", "from ..networks import mlp", "zoo.networks.mlp is not below zoo.layers"),
        ("zoo/models/gan.py", "from zoo.presets.table import PRESETS", "is not below zoo.models"),
        ("zoo/models/gan.py", "import zoo.models.vae", "a model never imports another"),
        ("zoo/models/gan.py", "from . import vae", "a model never imports another"),
        ("zoo/models/gan.py", "tape = tf.GradientTape()", "a GradientTape outside zoo.core.step"),
        ("zoo/models/gan.py", "from tensorflow import GradientTape", "a GradientTape outside zoo.core.step"),
        ("zoo/presets/table.py", "import numpy", "banned from zoo.presets"),
        ("zoo/presets/table.py", "import serving.card", "banned from zoo.presets"),
        ("zoo/metrics/frechet.py", "from zoo.presets.table import PRESETS", "is not below zoo.metrics"),
        ("zoo/export/export.py", "import zoo.pretrained", "is not below zoo.export"),
        ("zoo/pretrained.py", "import tensorflow as tf", "belongs inside the function"),
        ("zoo/pretrained.py", "from zoo.export.export import export", "belongs inside the function"),
        ("zoo/pretrained.py", "def f():\n    from recipes import data", "is not below zoo.pretrained"),
        (
            "zoo/data/load.py",
            "try:\n    import tensorflow\nexcept ImportError:\n    pass",
            "belongs inside the function",
        ),
        ("zoo/data/load.py", "def f():\n    from zoo.cli.main import main", "is not below zoo.data"),
        ("zoo/__init__.py", "import numpy", "banned from zoo"),
        ("zoo/novel.py", "", "has no room in FLOORS"),
    ],
)
def test_checker_sees(tmp_path: Path, file: str, line: str, complaint: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(line)
    (problem,) = {complaint for found in problems(tmp_path / file, tmp_path) if complaint in found}
    assert problem


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("zoo/core/model.py", "import tensorflow as tf\nfrom serving.card import Card"),
        ("zoo/core/step.py", "tape = tf.GradientTape()"),
        ("zoo/models/dbn.py", "from zoo.models.rbm import RBM"),
        ("zoo/pretrained.py", "def f():\n    import tensorflow"),
        ("zoo/__init__.py", "if TYPE_CHECKING:\n    from zoo.pretrained import describe"),
        ("zoo/training/run.py", "import tensorflow\nfrom zoo.pretrained import describe"),
        ("zoo/cli/main.py", "from zoo.presets.table import PRESETS\nimport recipes"),
    ],
)
def test_checker_lets_pass(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(line)
    assert not problems(tmp_path / file, tmp_path)


# What every family shares names none of them, and no data set: facts about these are declarations.
SHARED = (
    *("serving", "zoo.core", "zoo.layers", "zoo.losses", "zoo.data", "zoo.metrics", "zoo.evaluation"),
    *("zoo.training", "zoo.export"),
)
GENERAL = {"classifier", "autoencoder"}  # a role in evaluation, a word of the field
DECLARING = {
    "zoo.data.tfds": "facts of data sets that TFDS does not give",
    "zoo.data.embedded": "the one data set that comes with the package",
    "zoo.data.classes": "its classes",
    "zoo.data.published": "facts of data sets that users keep as files",
}


def names_of_families_and_data() -> set[str]:
    families = {name for preset in PRESETS.values() for name in (preset.family, preset.model.rpartition(".")[2])}
    recipes = (importlib.import_module(f"recipes.{name.replace('-', '_')}").recipe for name in PRESETS)
    data = {recipe.data for recipe in recipes} - {"embedded"}
    return {name for name in families if name.lower() not in GENERAL} | data


def named(text: str, names: set[str]) -> set[str]:
    """Those of `names` that the code of a module has as a name or within a string; comments and docstrings may."""
    tree = ast.parse(text)
    statements = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))
    docstrings = {id(value) for value in statements if isinstance(value, ast.Constant)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            found |= {name for name in names if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", node.value)}
        found |= names & {getattr(node, field, None) for field in ("id", "attr", "name", "arg")}
    return found


def shared_sources() -> list[Path]:
    modules = ((path, module_of(path, ROOT)) for path in sources(ROOT))
    return [path for path, name in modules if any(within(name, room) for room in SHARED) and name not in DECLARING]


@pytest.mark.parametrize("path", shared_sources(), ids=lambda path: module_of(path, ROOT))
def test_shared_code_names_no_family_and_no_data_set(path: Path) -> None:
    assert not named(path.read_text(encoding="utf-8"), names_of_families_and_data())


def test_the_names_are_those_of_the_presets() -> None:
    assert names_of_families_and_data() >= {
        "GAN",
        "DCGAN",
        "WGAN-GP",
        "VAE",
        "ConditionalGAN",
        "mnist",
        "fashion_mnist",
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("'DCGAN, section 4.'", set()),
        ("x = 1  # DCGAN", set()),
        ("class A:\n    x: int\n    'Of a VAE.'", set()),
        ("TABLE = {'fashion_mnist': 1}", {"fashion_mnist"}),
        ("raise ValueError('this takes a WGAN-GP, or a GAN.')", {"WGAN-GP", "GAN"}),
        ("from zoo.models.vae import VAE", {"VAE"}),
        ("def f(VAE): ...", {"VAE"}),
        ("x = 'wasserstein, megagan'", set()),
    ],
)
def test_the_search_sees_code_and_passes_over_prose(text: str, found: set[str]) -> None:
    assert named(text, names_of_families_and_data()) == found


def test_the_walk_through_the_code_names_files_that_there_are_each_once() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    walk = page.partition("## A walk through the code")[2].partition("\n## ")[0]
    parts = [part for part in walk.split("\n\n") if part.startswith("1.")]
    routes = [re.findall(r"^\d+\. `([^`]+)`", part, re.MULTILINE) for part in parts]
    files = [file for route in routes for file in route]
    assert [len(route) <= 7 for route in routes] == [True] * 4
    assert len(set(files)) == len(files) > 20
    assert [file for file in files if not (ROOT / file).is_file()] == []
