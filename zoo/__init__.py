"""A zoo of generative models that trains, exports and serves.

    from zoo import load_pretrained
    images = load_pretrained("dcgan-fashion-mnist").sample(16, seed=0)     # uint8 (16, 32, 32, 1)

Importing `zoo` imports no TensorFlow and no ONNX Runtime; the names below are loaded when first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.pretrained import describe, list_models, load_pretrained

__all__ = ["describe", "list_models", "load_pretrained"]


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}; it has {', '.join(__all__)}")
    from zoo import pretrained

    return getattr(pretrained, name)
