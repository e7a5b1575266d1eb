"""Keras' backend and settings of a user: another backend is one line, a settings file changes nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zoo import extras
from zoo.extras import MissingExtraError
from zoo.pretrained import load_pretrained

ROOT = Path(__file__).parents[2]
NAME = "sparse-autoencoder-mnist"
LOAD = f"from zoo import load_pretrained; load_pretrained({NAME!r})"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)


@pytest.mark.parametrize("backend", ["torch", "jax", "none-such"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("recipes/dcgan_fashion_mnist.py", "--dry-run"),
        ("-m", "zoo.cli.main", "train", "dcgan-fashion-mnist", "--dry-run"),
        ("-m", "zoo.cli.main", "export", "dcgan-fashion-mnist", "--format", "saved_model", "--out", "/none"),
        ("-m", "zoo.cli.main", "evaluate", "dcgan-fashion-mnist"),
    ],
    ids=["recipe", "train", "export", "evaluate"],
)
def test_another_backend_is_one_line_that_names_the_variable(arguments: tuple[str, ...], backend: str) -> None:
    found = run(*arguments, KERAS_BACKEND=backend)
    assert found.returncode != 0
    (line,) = found.stderr.splitlines()
    assert f"Keras' backend is {backend}" in line
    assert "set KERAS_BACKEND=tensorflow" in line


def test_another_backend_is_told_to_programs() -> None:
    for code in (LOAD, "from zoo.models.gan import GAN"):
        found = run("-c", code, KERAS_BACKEND="jax")
        assert found.returncode != 0
        assert "set KERAS_BACKEND=tensorflow" in found.stderr.splitlines()[-1]


def test_doctor_reports_the_backend() -> None:
    found = run("-m", "zoo.cli.main", "doctor", "--json", KERAS_BACKEND="torch")
    assert "Keras' backend is torch" in json.loads(found.stdout)["conflicts"][0]


def test_a_settings_file_changes_nothing(tmp_path: Path) -> None:
    """Keras reads ~/.keras/keras.json once, when it is imported."""
    settings = {"backend": "jax", "image_data_format": "channels_first", "floatx": "float16", "epsilon": 0.1}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    images = np.random.default_rng(0).uniform(-1, 1, (2, 28, 28, 1)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    code = (
        f"import numpy; from zoo import load_pretrained; from zoo.cli.doctor import examine_keras\n"
        f"found = load_pretrained({NAME!r}).reconstruct(numpy.load({str(tmp_path / 'images.npy')!r}))\n"
        f"numpy.save({str(tmp_path / 'found.npy')!r}, found); print(examine_keras())"
    )
    done = run("-c", code, KERAS_HOME=str(tmp_path), KERAS_BACKEND="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(
        {
            "backend": "tensorflow",
            "image_data_format": "channels_first",
            "floatx": "float16",
            "dtype_policy": "float16",
        }
    )
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), load_pretrained(NAME).reconstruct(images))


def test_a_package_that_cannot_be_loaded_is_not_called_missing() -> None:
    missing = ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
    assert str(MissingExtraError("training", "train", missing)) == (
        'training needs tensorflow: pip install "generative-zoo[train]"'
    )
    broken = ImportError("libcudart.so.12: cannot open shared object file")
    assert str(MissingExtraError("training", "train", broken)) == f"training: {broken}"


@pytest.mark.parametrize(
    ("error", "shown"), [(ImportError("no libcudart"), "CUDA is missing"), (KeyboardInterrupt(), "")]
)
def test_what_an_import_says_is_shown_if_it_fails_and_not_after_an_interrupt(
    error: BaseException, shown: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        os.write(2, b"CUDA is missing")
        raise error

    monkeypatch.setattr(extras, "import_tensorflow", fail)
    with pytest.raises(type(error)):
        extras.start_tensorflow()
    assert capfd.readouterr().err == shown
