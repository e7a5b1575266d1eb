"""Serve an exported generative model with NumPy and ONNX Runtime alone: no TensorFlow, no Keras, no training code.

    from serving import Pipeline
    images = Pipeline.from_directory("exported/dcgan-fashion-mnist").sample(16, seed=0)

The names below are imported when they are first used, so `import serving` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.card import Card, read_card
    from serving.pipeline import Pipeline
    from serving.sampling.sampler import Sampler
    from serving.session import Session

__all__ = ["Card", "Pipeline", "Sampler", "Session", "read_card"]

_HOMES = {
    "Card": "serving.card",
    "Pipeline": "serving.pipeline",
    "Sampler": "serving.sampling.sampler",
    "Session": "serving.session",
    "read_card": "serving.card",
}


def __getattr__(name: str) -> Any:
    """Import an exported name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'serving' has no attribute {name!r}: it exports {__all__}")
    return getattr(import_module(_HOMES[name]), name)
