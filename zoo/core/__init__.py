"""The abstract model and the train step that every family shares; it knows no model."""

import os
import sys

# TensorFlow leaves oneDNN out on x86 CPUs without AVX-512, where it can double the speed (benchmarks/README.md).
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

BACKEND = "tensorflow"


class BackendError(ImportError):
    """Keras runs on another backend than the models do."""


# Keras reads its backend when it is imported: from the environment, else from ~/.keras/keras.json, which is the user's
# choice for other programs.
os.environ["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND") or BACKEND
_backend = sys.modules["keras"].config.backend() if "keras" in sys.modules else os.environ["KERAS_BACKEND"]
if _backend != BACKEND:
    raise BackendError(
        f"Keras' backend is {_backend}, and the models run on TensorFlow alone: set KERAS_BACKEND={BACKEND}, before "
        "anything imports Keras."
    )
