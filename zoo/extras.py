"""Extras: groups of optional packages, such as `pip install "generative-zoo[train]"`.

The base install lists, describes and samples without TensorFlow. What needs an extra imports it when it is used, and
turns a failed import into a `MissingExtraError`.
"""

import os
import sys
import tempfile
from importlib.util import find_spec

MODULES = {
    "train": (
        *("tensorflow", "keras", "tensorflow_datasets", "tensorflow_probability", "tf_keras"),
        *("h5py", "onnx", "tf2onnx", "jinja2"),
    ),
    "server": ("starlette", "uvicorn", "anyio"),
    "applications": ("sklearn", "skimage", "scipy"),
    "hub": ("huggingface_hub",),
}
"""Extra -> the modules that it brings."""


class MissingExtraError(ImportError):
    """Something needs packages that the base install leaves out; the message has the command that installs them."""

    def __init__(self, what: str, extra: str, error: ImportError):
        """Name what is missing.

        Args:
            what: what the user asked for, such as "training".
            extra: of `pyproject.toml`, such as "train".
            error: the import that failed; where that is not for a missing package, its own message is what helps.
        """
        missing = isinstance(error, ModuleNotFoundError)
        super().__init__(
            f'{what} needs {error.name}: pip install "generative-zoo[{extra}]"' if missing else f"{what}: {error}"
        )


def find_extra(module: str) -> str:
    """The extra that brings a module; "" where none does."""
    package = module.partition(".")[0]
    return next((extra for extra, modules in MODULES.items() if package in modules), "")


def require_extra(what: str, extra: str) -> None:
    """Refuse at once what would fail halfway; nothing is imported.

    Args:
        what: the user asked for.
        extra: of `MODULES`.

    Raises:
        MissingExtraError: one of its modules is not installed.
    """
    for module in MODULES[extra]:
        if find_spec(module) is None:
            raise MissingExtraError(what, extra, ModuleNotFoundError(name=module))


def start_tensorflow() -> None:
    """Import TensorFlow and list its devices with standard error held back; shown after all if the import fails.

    CPUs without CUDA print several lines of warnings here, before TensorFlow's log levels take effect.

    Raises:
        ImportError: TensorFlow is not installed, or can't be loaded; KERAS_BACKEND names another.
    """
    import zoo.core  # noqa: F401 (settings that TensorFlow and Keras read when they are imported)

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # The warnings come from C++, which writes to file descriptor 2: replacing `sys.stderr` would not catch them.
    if sys.stderr is not None:  # as under pythonw
        sys.stderr.flush()
    try:
        shown = os.dup(2)
    except OSError:  # closed: nothing is shown anyway
        import_tensorflow()
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            import_tensorflow()
        except Exception:  # after Ctrl-C they would only hide the one line that says so
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(shown, 2)
            os.close(shown)


def import_tensorflow() -> None:
    """Import TensorFlow and list its devices."""
    import tensorflow as tf

    tf.config.list_physical_devices()
