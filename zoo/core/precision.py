"""What networks compute in: float32, or half precision with float32 at their ends.

A mixed policy ("mixed_bfloat16", "mixed_float16") lets layers compute in half precision on float32 weights. A network's
last layer stays at full precision, so that every loss, penalty and metric is float32 whatever came before.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def computing_in(policy: str) -> Iterator[None]:
    """Layers built within it follow `policy`: "float32", "mixed_bfloat16", "mixed_float16" or another of Keras'."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def full_precision() -> str:
    """The `dtype` of a network's last layer: Keras' float type, which a mixed policy leaves alone."""
    return keras.config.floatx()
