"""What `pip install generative-zoo` gives: enough to list, describe and sample, and no TensorFlow."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from serving import Pipeline
from zoo.presets.table import PRESETS
from zoo.pretrained import list_models

ROOT = Path(__file__).parents[1]
PACKAGES = ("zoo", "serving", "recipes")
IN_CHECKOUT = (*PACKAGES, "exported", "tests", "benchmarks", "pyproject.toml", "README.md", "LICENSE")
DATA = ("zoo/data/fashion_mnist_t10k", "zoo/cli/templates", "zoo/training/templates", "serving/server/http/page")
NAME = "dcgan-fashion-mnist"


def test_every_folder_with_code_is_a_package_of_the_wheel() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert set(settings["packages"]) == {".".join(folder.parts) for folder in folders} | {"zoo.exported"}
    assert settings["package-dir"] == {"zoo.exported": "exported"}


def files_below(directory: Path) -> set[str]:
    return {
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty directory that is in no checkout."""
    return tmp_path_factory.mktemp("outside")


def run(directory: Path, *arguments: str | Path) -> str:
    """Standard output of a command that must succeed, with nothing of this environment on its path."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "ZOO", "VIRTUAL"))}
    environment["ZOO_HOME"] = str(directory / "home")
    done = subprocess.run(list(map(str, arguments)), cwd=directory, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def binaries(outside: Path) -> Path:
    """Where a new virtual environment keeps its programs."""
    run(outside, sys.executable, "-m", "venv", "environment")
    return outside / "environment" / ("Scripts" if os.name == "nt" else "bin")


@pytest.fixture(scope="module")
def wheel(outside: Path, binaries: Path) -> Path:
    """Built from a copy, since a build leaves folders in its source."""
    for name in IN_CHECKOUT:
        source, target = ROOT / name, outside / "source" / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    run(outside, binaries / "python", "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "wheels", "./source")
    (built,) = (outside / "wheels").glob("generative_zoo-*.whl")
    return built


@pytest.fixture(scope="module")
def python(outside: Path, binaries: Path, wheel: Path) -> Path:
    """The interpreter of an environment with the wheel and its base dependencies."""
    run(outside, binaries / "python", "-m", "pip", "install", wheel)
    return binaries / "python"


@pytest.mark.slow
def test_wheel_holds_the_code_the_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    code = {f"{package}/{file}" for package in PACKAGES for file in files_below(ROOT / package) if file.endswith(".py")}
    data = {f"{folder}/{file}" for folder in DATA for file in files_below(ROOT / folder)}
    models = {f"zoo/exported/{file}" for file in files_below(ROOT / "exported")}
    assert f"zoo/exported/{NAME}/card.json" in models
    assert "zoo/data/fashion_mnist_t10k/t10k-images-idx3-ubyte.gz" in data
    assert set(found) == code | data | models
    for name, content in found.items():
        assert content == (ROOT / name.replace("zoo/exported/", "exported/")).read_bytes()


@pytest.mark.slow
def test_environment_is_without_tensorflow(outside: Path, python: Path) -> None:
    installed = {line.split("==")[0].lower() for line in run(outside, python, "-m", "pip", "freeze").splitlines()}
    assert "numpy" in installed
    assert not installed & {"tensorflow", "keras", "h5py", "onnx", "tf2onnx", "tensorflow-datasets", "jinja2"}
    origin = run(outside, python, "-c", "import zoo, serving, recipes; print(zoo.__file__)")
    assert Path(origin.strip()).is_relative_to(outside)


@pytest.mark.slow
def test_installed_command_lists_and_samples(outside: Path, python: Path) -> None:
    zoo = python.with_name("zoo")
    listed = run(outside, zoo, "list", "--json")
    assert all(f'"name": "{name}"' in listed for name in PRESETS)
    assert listed.count('"pretrained": true') == len(list_models(pretrained=True)) > 0
    run(outside, zoo, "describe", NAME)
    run(outside, zoo, "doctor")
    assert run(outside, zoo, "sample", NAME, "--count", "3", "--out", "three.npy") == "three.npy\n"
    expected = Pipeline.from_directory(ROOT / "exported" / NAME).sample(3, seed=0)
    assert abs(np.load(outside / "three.npy").astype(int) - expected).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("format", ["keras", "saved_model"])
def test_other_formats_name_the_extra(outside: Path, python: Path, format: str) -> None:
    code = f"""
import zoo
try:
    zoo.load_pretrained({NAME!r}, format={format!r})
except ImportError as error:
    print(error)
"""
    assert run(outside, python, "-c", code).strip().endswith(': pip install "generative-zoo[train]"')


@pytest.mark.slow
def test_training_names_its_extra(outside: Path, python: Path) -> None:
    code = f"""
import contextlib, sys
from zoo.cli.main import main
with contextlib.redirect_stderr(sys.stdout), contextlib.suppress(SystemExit):
    main(["train", {NAME!r}, "--smoke"])
"""
    expected = f'zoo train {NAME}: training needs tensorflow: pip install "generative-zoo[train]"'
    assert run(outside, python, "-c", code).strip() == expected
