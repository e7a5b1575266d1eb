"""JSON of a client -> typed records and arrays; nothing large is built before it is known to fit."""

import math
import os
import re
import threading
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np

from serving.card import RANK_LIMIT, to_line
from serving.session import InputError

Record = TypeVar("Record")

NAME_LIMIT = 200  # characters of a name, or of any text that a message could quote
COUNT_LIMIT = 64  # inputs, outputs or parameters of a request

Name = Annotated[str, msgspec.Meta(max_length=NAME_LIMIT)]
ParameterValues = Annotated[dict[Name, bool | int | float | Name | None], msgspec.Meta(max_length=COUNT_LIMIT)]

PIECE = 2**14  # numbers that are encoded at once
_OPENED = re.compile(rb"[\s\[]*")
_EMPTY = b"[] \t\r\n"
# Numbers as Python's own take eight times the memory of their text: as many requests at once as there are cores.
_turns = threading.BoundedSemaphore(os.cpu_count() or 1)
_NUMBERS: dict[str, type] = {"f": float, "i": int, "u": int, "b": bool}


def _decoders(number: Any) -> list[msgspec.json.Decoder[Any]]:
    """Of a number, a list of numbers, a list of lists ..., by depth."""
    decoders = []
    for _ in range(RANK_LIMIT + 1):
        decoders.append(msgspec.json.Decoder(number))
        number = list[number]
    return decoders


_NESTED = {kind: _decoders(number) for kind, number in _NUMBERS.items()}


def decode_json(body: bytes, type_: type[Record], what: str) -> Record:
    """Parse a body into a record.

    Args:
        body: UTF-8.
        type_: what it must be; msgspec.Raw where a part is to be parsed later.
        what: the article and noun of a message: "an inference request".

    Raises:
        InputError: the body is not that, with the place and the reason.
    """
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"the body is not {what} in JSON: {to_line(str(error), NAME_LIMIT)}") from None


def decode_array(
    data: bytes | msgspec.Raw, dtype: np.dtype, shape: Sequence[int] | None, *, where: str, label: str
) -> np.ndarray:
    """Numbers, flat or nested, as an array.

    Args:
        data: JSON: a list, or a list of lists, or ... at most 8 deep.
        dtype: what each number must be: 1 may be a float, but 1.0 is no integer and true no number.
        shape: of the array; it must hold as many numbers as there are. None for that of the lists themselves.
        where: the beginning of a message.
        label: how the protocol calls the dtype.

    Raises:
        InputError: the data are not such numbers, or do not fill the shape.
    """
    text = bytes(data)
    with _turns:
        return _decode(text, dtype, shape, where, label)


def _decode(text: bytes, dtype: np.dtype, shape: Sequence[int] | None, where: str, label: str) -> np.ndarray:
    opened = _OPENED.match(text)
    depth = opened[0].count(b"[") if opened else 0
    if not depth:
        raise InputError(f"{where}: the data is no list of {label}")
    if depth > RANK_LIMIT:
        raise InputError(f"{where}: the data is nested more than {RANK_LIMIT} deep: give it flat")
    # Between numbers stands a comma, whatever the nesting: they are counted before one of them is built.
    count = text.count(b",") + 1 if text.strip(_EMPTY) else 0
    fills = count > 0 if shape is None else min(shape, default=1) > 0 and math.prod(shape) == count
    if not fills:
        if b'"' in text:
            raise InputError(f"{where}: the data is not all {label}: there is text in it")
        what = "a list" if shape is None else f"the shape {to_line(str(list(shape)), NAME_LIMIT)}"
        raise InputError(f"{where}: {count} numbers do not fill {what}")
    limits: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype) if dtype.kind != "b" else None
    beyond = f"{where}: {label} holds {limits.min} to {limits.max}, the data more" if limits else ""
    try:
        values = _NESTED[dtype.kind][depth].decode(text)
        array = np.array(values, np.float64 if dtype.kind == "f" else dtype)
    except msgspec.DecodeError as error:
        raise InputError(f"{where}: the data is not all {label}: {to_line(str(error), NAME_LIMIT)}") from None
    except OverflowError:
        raise InputError(beyond) from None
    except ValueError:
        raise InputError(f"{where}: the data is ragged: give it flat, or nested like its shape") from None
    if array.size != count:
        raise InputError(f"{where}: the data has empty lists, or lists where numbers belong")
    if dtype.kind == "f" and (array.min() < limits.min or array.max() > limits.max):
        raise InputError(beyond)
    return array.astype(dtype, copy=False).reshape(array.shape if shape is None else shape)


def encode_array(array: np.ndarray, limit: int) -> msgspec.Raw:
    """An array as a flat list in JSON, of at most `limit` bytes.

    Raises:
        FloatingPointError: it holds NaN or infinity.
        InputError: it is too large.
    """
    if not np.isfinite(array).all():
        raise FloatingPointError("it holds NaN or infinity for these inputs, which JSON cannot say")
    flat, pieces, size = array.ravel(), [], 0
    for start in range(0, array.size, PIECE):  # as Python's numbers all of them would be eight times as large
        with _turns:
            pieces.append(msgspec.json.encode(flat[start : start + PIECE].tolist())[1:-1])
        size += len(pieces[-1]) + 1
        if size > limit:
            raise InputError(f"the answer is larger than {limit} bytes: ask for fewer rows in one request")
    return msgspec.Raw(b"[" + b",".join(pieces) + b"]")


def encode_rows(array: np.ndarray, limit: int) -> list[msgspec.Raw]:
    """Each row of an array as nested lists in JSON, of at most `limit` bytes together.

    Raises:
        FloatingPointError: it holds NaN or infinity.
        InputError: it is too large.
    """
    if not np.isfinite(array).all():
        raise FloatingPointError("there is NaN or infinity among the results for these inputs, which JSON cannot say")
    rows, size = [], 0
    for row in array:
        with _turns:
            rows.append(msgspec.Raw(msgspec.json.encode(row.tolist())))
        size += len(bytes(rows[-1]))
        if size > limit:
            raise InputError(f"the answer is larger than {limit} bytes: ask for fewer rows in one request")
    return rows
