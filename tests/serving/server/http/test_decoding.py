"""JSON -> arrays: what is right comes through exactly, what is wrong is an InputError, and nothing else happens."""

import contextlib
import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.server.http.decoding import decode_array, encode_array
from serving.server.http.v2 import decode_inputs, decode_request
from serving.session import InputError

DTYPES = ("float16", "float32", "float64", "int32", "int64", "uint8", "bool")
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=8).filter(lambda shape: math.prod(shape) <= 256)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner))
GOOD = b'{"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1.5, 2], [-3e2, 0.25]]}], "id": "7"}'
# Bytes that mean something to a parser, beside any others.
TOKENS = st.sampled_from([*(bytes([sign]) for sign in b'[]{},:"\\0-+.eE \x00\xff'), b"null", b"true", b"NaN", b"1e999"])


def decode(text, dtype, shape):
    return decode_array(text, np.dtype(dtype), shape, where="input 'x'", label=dtype)


@st.composite
def arrays(draw):
    dtype, shape = np.dtype(draw(st.sampled_from(DTYPES))), draw(SHAPES)
    if dtype.kind == "f":
        value = st.floats(width=8 * dtype.itemsize, allow_nan=False, allow_infinity=False)
    else:
        value = st.booleans() if dtype.kind == "b" else st.integers(np.iinfo(dtype).min, np.iinfo(dtype).max)
    size = math.prod(shape)
    return np.array(draw(st.lists(value, min_size=size, max_size=size)), dtype).reshape(shape)


def check_round_trip(array, flat):
    given = array.ravel() if flat else array
    found = decode(json.dumps(given.tolist(), indent=1).encode(), array.dtype.name, list(array.shape))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    again = decode(bytes(encode_array(array, 2**20)), array.dtype.name, list(array.shape))
    assert again.tobytes() == array.tobytes()


def check_refused_or_right(value, dtype, shape):
    text = json.dumps(value).encode()
    with contextlib.suppress(InputError):
        array = decode(text, dtype, shape)
        assert array.shape == tuple(shape)
        kinds = {"f": (int, float), "b": (bool,)}.get(array.dtype.kind, (int,))
        flat = np.array(value, object).ravel().tolist()
        assert all(
            isinstance(number, kinds) and (array.dtype.kind == "b") == (number is True or number is False)
            for number in flat
        )


def check_bytes(place, removed, inserted):
    body = GOOD[: place % len(GOOD)] + b"".join(inserted) + GOOD[place % len(GOOD) + removed :]
    with contextlib.suppress(InputError):
        feeds = decode_inputs(decode_request(body).inputs)
        assert all(array.ndim <= 8 and np.isfinite(array.astype(float)).all() for array in feeds.values())


VALUES = {"value": ANYTHING, "dtype": st.sampled_from(DTYPES), "shape": SHAPES}
EDITS = {
    "place": st.integers(0, 10**6),
    "removed": st.integers(0, 20),
    "inserted": st.lists(TOKENS | st.binary(max_size=4), max_size=20),
}
few = settings(max_examples=100, deadline=None)
many = settings(max_examples=20_000, deadline=None)


@few
@given(arrays(), st.booleans())
def test_numbers_come_through_exactly(array, flat):
    check_round_trip(array, flat)


@few
@given(**VALUES)
def test_any_json_is_the_array_or_refused(value, dtype, shape):
    check_refused_or_right(value, dtype, shape)


@few
@given(**EDITS)
def test_any_edit_of_a_request_is_read_or_refused(place, removed, inserted):
    check_bytes(place, removed, inserted)


@pytest.mark.slow
@many
@given(arrays(), st.booleans())
def test_many_numbers_come_through_exactly(array, flat):
    check_round_trip(array, flat)


@pytest.mark.slow
@many
@given(**VALUES)
def test_much_json_is_the_array_or_refused(value, dtype, shape):
    check_refused_or_right(value, dtype, shape)


@pytest.mark.slow
@many
@given(**EDITS)
def test_many_edits_of_a_request_are_read_or_refused(place, removed, inserted):
    check_bytes(place, removed, inserted)


def test_data_stays_as_it_came_until_its_shape_is_known():
    """A million numbers for a shape of four: refused by their commas, without one of them as a Python object."""
    tensor = decode_request(GOOD.replace(b"[[1.5, 2], [-3e2, 0.25]]", b"[" + b"1," * 10**6 + b"1]")).inputs[0]
    assert isinstance(tensor.data, msgspec.Raw)
    with pytest.raises(InputError, match=r"1000001 numbers do not fill the shape \[2, 2\]"):
        decode_inputs([tensor])
