"""Tensors as bytes, little-endian and row-major: what the protocols that carry them so have in common."""

import math
from collections.abc import Sequence

import numpy as np

from serving.card import RANK_LIMIT
from serving.session import InputError

DATATYPES = {
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "bool": "BOOL",
}
DTYPES = {datatype: np.dtype(dtype) for dtype, datatype in DATATYPES.items()}


def find_dtype(name: str, datatype: str) -> np.dtype:
    """NumPy's dtype of an input.

    Raises:
        InputError: there is no such datatype here.
    """
    if datatype not in DTYPES:
        raise InputError(f"input {name!r}: datatype {datatype[:20]!r}: choose from {sorted(DTYPES)}")
    return DTYPES[datatype]


def check_shape(name: str, shape: Sequence[int], count: int) -> None:
    """Compare a shape with the number of values that came with it.

    Raises:
        InputError: too many axes, an empty one, or another number of values.
    """
    if len(shape) > RANK_LIMIT:
        raise InputError(f"input {name!r}: a shape of {len(shape)} axes: give at most {RANK_LIMIT}")
    if any(size < 1 for size in shape) or math.prod(shape) != count:
        raise InputError(f"input {name!r}: {count} numbers do not fill the shape {list(shape)}")


def from_bytes(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> np.ndarray:
    """The array that these bytes are, without a copy.

    Raises:
        InputError: an unknown datatype, another number of bytes than the shape has, a boolean that is neither 0 nor 1,
            NaN or infinity.
    """
    dtype = find_dtype(name, datatype)
    if len(data) % dtype.itemsize:
        raise InputError(f"input {name!r}: {len(data)} bytes are no whole number of {datatype}")
    check_shape(name, shape, len(data) // dtype.itemsize)
    if dtype.kind == "b" and np.frombuffer(data, np.uint8).max() > 1:
        raise InputError(f"input {name!r}: a byte of BOOL is 0 or 1")
    array = np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"input {name!r} holds NaN or infinity: give finite numbers")
    return array


def to_bytes(array: np.ndarray) -> bytes:
    """The bytes of an array."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def require_finite(name: str, array: np.ndarray) -> None:
    """Refuse an output that no protocol should hand on.

    Raises:
        FloatingPointError: the array holds NaN or infinity.
    """
    if not np.isfinite(array).all():
        raise FloatingPointError(f"output {name!r} holds NaN or infinity for these inputs")
