"""Extras: groups of optional packages, such as `pip install "generative-zoo[train]"`.

The base install lists, describes and samples without TensorFlow. What needs an extra imports it when it is used, and
turns a failed import into a `MissingExtraError`.
"""

import os
import sys
import tempfile


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


def start_tensorflow() -> None:
    """Import TensorFlow and list its devices with standard error held back; shown after all if the import fails.

    CPUs without CUDA print several lines of warnings here, before TensorFlow's log levels take effect.

    Raises:
        ImportError: TensorFlow is not installed, or can't be loaded; KERAS_BACKEND names another.
    """
    import zoo.core  # noqa: F401 (settings that TensorFlow and Keras read when they are imported)

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # The warnings come from C++, which writes to file descriptor 2: replacing `sys.stderr` would not catch them.
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        except BaseException:
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(shown, 2)
            os.close(shown)
