"""What networks compute in: float32, or half precision with float32 at their ends.

A mixed policy ("mixed_bfloat16", "mixed_float16") lets layers compute in half precision on float32 weights. A network's
last layer stays at full precision, so that every loss, penalty and metric is float32 whatever came before.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from typing import Any

import keras

EPSILON = 1e-7  # Keras' own

_policy = "float32"  # of the `computing_in` around; for all threads, as replicas are traced in some of their own


@contextmanager
def computing_in(policy: str) -> Iterator[None]:
    """Layers built within it follow `policy`, and nothing that a program or ~/.keras/keras.json has set in Keras.

    Images are channels last, numbers float64 for the policy "float64" and float32 for all others. Keras' settings are
    those of before afterwards.

    Args:
        policy: "float32", "mixed_bfloat16", "mixed_float16" or another of Keras'.
    """
    global _policy
    config, outside = keras.config, _policy
    before = config.dtype_policy(), config.floatx(), config.epsilon(), config.image_data_format()
    _policy = policy
    try:
        _set_keras(policy, full_precision(), EPSILON, "channels_last")
        yield
    finally:
        _policy = outside
        _set_keras(*before)


def _set_keras(policy: Any, floatx: str, epsilon: float, image_data_format: str) -> None:
    keras.config.set_dtype_policy(policy)
    keras.config.set_floatx(floatx)
    keras.config.set_epsilon(epsilon)
    keras.config.set_image_data_format(image_data_format)


def full_precision() -> str:
    """The `dtype` of a network's last layer, which a mixed policy leaves alone: float64 for that policy, else float32.

    The policy is that of the `computing_in` around, and float32 where there is none.
    """
    return "float64" if _policy == "float64" else "float32"


def in_chosen_precision(build: Callable[..., Any]) -> Callable[..., Any]:
    """`build` under the policy of the `computing_in` around it, in float32 where there is none."""

    @wraps(build)
    def built(*args: Any, **kwargs: Any) -> Any:
        with computing_in(_policy):
            return build(*args, **kwargs)

    built.__signature__ = signature(build)  # type: ignore[attr-defined]  # Keras reads it past `wraps`
    return built


def in_full_precision(method: Callable[..., Any]) -> Callable[..., Any]:
    """A model's `method` under our settings of Keras, in the full precision that the model was built with."""

    @wraps(method)
    def called(model: Any, *args: Any, **kwargs: Any) -> Any:
        with computing_in(model.full_precision):
            return method(model, *args, **kwargs)

    return called
