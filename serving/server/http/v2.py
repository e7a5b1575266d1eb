"""The Open Inference Protocol, version 2: JSON messages as typed records, and their tensors as NumPy arrays.

`infer` answers one request: the message is decoded, `serving.server.inference` does the work on arrays, and what it
returns is encoded.
"""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from serving.card import RANK_LIMIT, Ability, TensorSpec
from serving.server.inference import ServedModel
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
# Kind of the dtype asked for -> kinds that NumPy may find in the JSON: an integer may become a float, but a boolean
# becomes no number, and 1.5 no integer.
_ACCEPTED_KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}
# What data can be, flat or nested. Text must not reach NumPy, which gives each value the bytes of the longest one.
_DATA: Any = list[bool | int | float | None]
for _ in range(RANK_LIMIT - 1):
    _DATA = list[bool | int | float | _DATA | None]

BINARY_HEADER = "Inference-Header-Content-Length"  # of a request whose tensors follow the JSON as bytes
NO_BINARY = (
    "binary tensors are not read here: send and ask for JSON (of tritonclient: "
    "set_data_from_numpy(..., binary_data=False) and InferRequestedOutput(..., binary_data=False))"
)


class RequestTensor(msgspec.Struct):
    """An input: `data` in row-major order, flat or nested; None where it is binary, as `parameters` then say."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class RequestOutput(msgspec.Struct):
    """An output that is asked for; all are answered when none is named."""

    name: str
    parameters: dict[str, Any] = {}


class Parameters(msgspec.Struct, forbid_unknown_fields=True):
    """ability: which one to run. binary_data_output: the protocol's; only False is answered.

    The others are our extension: what `Sampler.sample` takes, in place of inputs.
    """

    ability: str | None = None
    count: int | None = None
    seed: int | None = None
    start: int | None = None
    labels: int | str | list[int | str] | None = None
    truncation: float | None = None
    binary_data_output: bool = False

    def sampling(self) -> dict[str, Any]:
        """The arguments for `Sampler.sample` that were given."""
        given = {name: getattr(self, name) for name in ("count", "seed", "start", "labels", "truncation")}
        return {name: value for name, value in given.items() if value is not None}


class InferRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v2/models/NAME/infer: inputs, or parameters with a count."""

    inputs: list[RequestTensor] = []
    outputs: list[RequestOutput] = []
    parameters: Parameters = msgspec.field(default_factory=Parameters)
    id: str | None = None


def infer(model: ServedModel, body: bytes) -> bytes:
    """Answer one request, JSON to JSON.

    Raises:
        InputError: the body is no request, or not one that fits the model.
        FloatingPointError: the answer holds numbers that JSON has no words for.
    """
    request = decode_request(body)
    names = [output.name for output in request.outputs]
    results = model.infer(
        decode_inputs(request.inputs),
        ability=request.parameters.ability,
        sampling=request.parameters.sampling(),
        outputs=names,
    )
    answer = {
        "model_name": model.card.name,
        "model_version": "1",
        "outputs": [encode_tensor(name, results[name]) for name in names or results],
    }
    return msgspec.json.encode(answer if request.id is None else {**answer, "id": request.id})


def describe_model(model: ServedModel) -> dict[str, Any]:
    """The protocol's model metadata, of the default ability; our extension: `parameters` describes them all."""
    abilities = {name: describe_ability(ability) for name, ability in model.abilities.items()}
    default = model.card.default_ability
    return {
        "name": model.card.name,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        **abilities[default],
        "parameters": {"ability": default, "abilities": abilities},
    }


def describe_ability(ability: Ability) -> dict[str, list[dict[str, Any]]]:
    """The inputs and outputs of an ability in a model's metadata."""
    return {
        "inputs": [describe_tensor(spec) for spec in ability.inputs],
        "outputs": [describe_tensor(spec) for spec in ability.outputs],
    }


def describe_tensor(spec: TensorSpec) -> dict[str, Any]:
    """A tensor in a model's metadata; a free dimension is -1."""
    shape = [-1 if isinstance(size, str) else size for size in spec.shape]
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": shape}


def decode_request(body: bytes) -> InferRequest:
    """Parse a request.

    Raises:
        InputError: the body is no such request, with the place and the reason; or it has or asks for binary data.
    """
    try:
        request = msgspec.json.decode(body, type=InferRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"the body is not an inference request in JSON: {error}") from error
    binary = [tensor.parameters.get("binary_data_size") is not None for tensor in request.inputs]
    binary += [bool(output.parameters.get("binary_data")) for output in request.outputs]
    if request.parameters.binary_data_output or any(binary):
        raise InputError(NO_BINARY)
    return request


def decode_inputs(tensors: Sequence[RequestTensor]) -> dict[str, np.ndarray]:
    """Arrays by input name.

    Raises:
        InputError: two inputs of one name, or data that do not fit their datatype and shape.
    """
    feeds = {tensor.name: decode_tensor(tensor) for tensor in tensors}
    if len(feeds) != len(tensors):
        raise InputError("two inputs of one name")
    return feeds


def decode_tensor(tensor: RequestTensor) -> np.ndarray:
    """The array of `tensor.datatype` and `tensor.shape`.

    Raises:
        InputError: an unknown datatype, or data that do not fit it or do not fill the shape.
    """
    where = f"input {tensor.name!r}"
    if tensor.datatype not in _DTYPES:
        raise InputError(f"{where}: datatype {tensor.datatype!r}: choose from {sorted(_DTYPES)}")
    if tensor.data is None:
        raise InputError(f"{where}: it has no data: give it as a list")
    if len(tensor.shape) > RANK_LIMIT:
        raise InputError(f"{where}: a shape of {len(tensor.shape)} axes: give at most {RANK_LIMIT}")
    dtype = _DTYPES[tensor.datatype]
    try:
        array = np.array(msgspec.convert(tensor.data, _DATA))
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: the data is not all {tensor.datatype}: {error}") from error
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
    """An output as the protocol's record, its data flat.

    Raises:
        FloatingPointError: the array holds NaN or infinity.
    """
    if not np.isfinite(array).all():
        raise FloatingPointError(f"output {name!r} holds NaN or infinity for these inputs, which JSON cannot say")
    datatype = DATATYPES[array.dtype.name]
    return {"name": name, "datatype": datatype, "shape": array.shape, "data": array.ravel().tolist()}
