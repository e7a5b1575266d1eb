"""Tensors of the Open Inference Protocol as arrays, and back."""

import re

import msgspec
import numpy as np
import pytest

from serving.server.http.decoding import PIECE
from serving.server.http.v2 import DATATYPES, RequestTensor, decode_tensor, encode_tensor
from serving.session import InputError


@pytest.mark.parametrize(
    ("datatype", "data", "expected"),
    [
        ("FP32", [1, 2.5], [1.0, 2.5]),
        ("FP16", [1, 2], [1.0, 2.0]),
        ("INT64", [2**63 - 1, -(2**63)], [2**63 - 1, -(2**63)]),
        ("UINT8", [[0], [255]], [0, 255]),
        ("BOOL", [True, False], [True, False]),
    ],
)
def test_data_becomes_its_datatype(datatype, data, expected):
    array = decode_tensor(RequestTensor("x", [2], datatype, msgspec.Raw(msgspec.json.encode(data))))
    assert DATATYPES[array.dtype.name] == datatype
    assert array.tolist() == expected


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "message"),
    [
        ("BYTES", (1,), ["a"], "datatype 'BYTES': choose from ['BOOL', 'FP16', 'FP32'"),
        ("FP32", (1,), ["1"], "the data is not all FP32"),
        ("FP32", (2,), [1, None], "the data is not all FP32"),
        ("FP32", (1,), [True], "the data is not all FP32"),
        ("INT64", (1,), [1.5], "the data is not all INT64"),
        ("INT64", (1,), [2**63], "INT64 holds -9223372036854775808 to 9223372036854775807, the data more"),
        ("INT64", (1,), b"[%d]" % 2**70, "INT64 holds -9223372036854775808 to 9223372036854775807, the data more"),
        ("UINT8", (1,), [256], "UINT8 holds 0 to 255, the data more"),
        ("FP32", (1,), [1e39], "FP32 holds"),
        ("BOOL", (1,), [1], "the data is not all BOOL"),
        ("FP32", (3,), [[1, 2], [3]], "the data is ragged"),
        ("FP32", (2,), [["a" * 10**7], [1] * 10**4], "the data is not all FP32"),
        ("FP32", (1,), [[[[[[[[[1]]]]]]]]], "the data is nested more than 8 deep"),
        ("FP64", (1,), b"[1%s]" % (b"0" * 400), "the data is not all FP64"),
        ("FP32", (2**62,) * 100_000, [1], "a shape of 100000 axes: give at most 8"),
        ("FP32", (1,), b"", "it has no data"),
        ("FP32", (1,), None, "the data is no list of FP32"),
        ("FP32", (0, 4), [], "0 numbers do not fill the shape [0, 4]"),
        ("FP32", (-1, -4), [1, 2, 3, 4], "4 numbers do not fill the shape [-1, -4]"),
    ],
)
def test_data_that_does_not_fit_its_datatype_is_refused(datatype, shape, data, message):
    with pytest.raises(InputError, match=re.escape(message)):
        decode_tensor(
            RequestTensor(
                "x", list(shape), datatype, msgspec.Raw(data if isinstance(data, bytes) else msgspec.json.encode(data))
            )
        )


def test_arrays_become_flat_tensors():
    array = np.array([[1.5, -2.0]], np.float32)
    tensor = encode_tensor("x", array, 100)
    assert bytes(tensor.pop("data")) == b"[1.5,-2.0]"
    assert tensor == {"name": "x", "datatype": "FP32", "shape": (1, 2)}
    with pytest.raises(FloatingPointError, match="output 'x': it holds NaN or infinity"):
        encode_tensor("x", np.array([np.inf], np.float32), 100)
    with pytest.raises(InputError, match="the answer is larger than 8 bytes: ask for fewer rows"):
        encode_tensor("x", array, 8)


def test_a_long_answer_is_the_same_list_as_a_short_one():
    array = np.arange(3 * PIECE + 5, dtype=np.int64)
    assert msgspec.json.decode(bytes(encode_tensor("x", array, 2**20)["data"])) == array.tolist()
