"""The messages of the Open Inference Protocol, version 2, as typed records, and their tensors as NumPy arrays."""

import math
from typing import Any

import msgspec
import numpy as np

from serving.card import TensorSpec
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
_DTYPES = {datatype: np.dtype(dtype) for dtype, datatype in DATATYPES.items()}
_ACCEPTED_KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}  # what JSON numbers may become what dtype


class RequestTensor(msgspec.Struct):
    """An input: `data` in row-major order, flat or nested."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    data: list[Any]


class RequestOutput(msgspec.Struct):
    """An output that is asked for; all are answered when none is named."""

    name: str
    parameters: dict[str, Any] = {}


class Parameters(msgspec.Struct, forbid_unknown_fields=True):
    """ability: which one to run. The others are our extension: what `Sampler.sample` takes, in place of inputs."""

    ability: str | None = None
    count: int | None = None
    seed: int | None = None
    start: int | None = None
    labels: int | str | list[int | str] | None = None
    truncation: float | None = None

    def sampling(self) -> dict[str, Any]:
        """The arguments for `Sampler.sample` that were given."""
        given = msgspec.structs.asdict(self)
        return {name: value for name, value in given.items() if value is not None and name != "ability"}


class InferRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v2/models/NAME/infer."""

    inputs: list[RequestTensor] = []
    outputs: list[RequestOutput] = []
    parameters: Parameters = msgspec.field(default_factory=Parameters)
    id: str | None = None


def decode_request(body: bytes) -> InferRequest:
    """Parse a request; InputError gives the place and the reason."""
    try:
        request = msgspec.json.decode(body, type=InferRequest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the body is not an inference request in JSON: {error}") from error
    if any(output.parameters.get("binary_data") for output in request.outputs):
        raise InputError("outputs come as JSON only: leave binary_data out or false")
    return request


def decode_tensor(tensor: RequestTensor) -> np.ndarray:
    """The array of `tensor.datatype` and `tensor.shape`; InputError if the data does not fit them."""
    where = f"input {tensor.name!r}"
    if tensor.datatype not in _DTYPES:
        raise InputError(f"{where}: datatype {tensor.datatype!r}: choose from {sorted(_DTYPES)}")
    dtype = _DTYPES[tensor.datatype]
    try:
        array = np.array(tensor.data)
    except ValueError as error:
        raise InputError(f"{where}: the data is ragged: give it flat, or nested like its shape") from error
    if array.size and array.dtype.kind not in _ACCEPTED_KINDS[dtype.kind]:
        raise InputError(f"{where}: the data is not all {tensor.datatype}")
    if any(size < 1 for size in tensor.shape) or math.prod(tensor.shape) != array.size:
        raise InputError(f"{where}: {array.size} numbers do not fill the shape {list(tensor.shape)}")
    if dtype.kind != "b":
        limits: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise InputError(f"{where}: {tensor.datatype} holds {limits.min} to {limits.max}, the data more")
    return array.astype(dtype).reshape(tensor.shape)


def encode_tensor(name: str, array: np.ndarray) -> dict[str, Any]:
    """An output as the protocol's record, its data flat."""
    if not np.isfinite(array).all():
        raise FloatingPointError(f"output {name!r} holds NaN or infinity, which JSON cannot say")
    datatype = DATATYPES[array.dtype.name]
    return {"name": name, "datatype": datatype, "shape": array.shape, "data": array.ravel().tolist()}


def describe(spec: TensorSpec) -> dict[str, Any]:
    """A tensor in a model's metadata; a free dimension is -1."""
    shape = [-1 if isinstance(size, str) else size for size in spec.shape]
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": shape}
