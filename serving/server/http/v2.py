"""The Open Inference Protocol, version 2, over HTTP.

    GET  /v2                      GET /v2/health/live      GET /v2/health/ready
    GET  /v2/models/NAME          GET /v2/models/NAME/ready
    POST /v2/models/NAME/infer    {"inputs": [{"name", "shape", "datatype", "data"}], "outputs", "parameters", "id"}

An extension of ours: without inputs, {"parameters": {"count": 4, "seed": 0}} answers with the images that
`Sampler.sample(4, seed=0)` gives. `infer` answers one request: the message is decoded, `serving.server.inference` does
the work on arrays, and what it returns is encoded.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.card import RANK_LIMIT, Ability, TensorSpec
from serving.server.http.context import Server
from serving.server.http.decoding import (
    COUNT_LIMIT,
    Name,
    ParameterValues,
    decode_array,
    decode_json,
    encode_array,
)
from serving.server.inference import ServedModel
from serving.server.limits import Limits
from serving.server.repository import Repository
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

BINARY_HEADER = "Inference-Header-Content-Length"  # of a request whose tensors follow the JSON as bytes
NO_BINARY = (
    "binary tensors are not read here: send and ask for JSON (of tritonclient: "
    "set_data_from_numpy(..., binary_data=False) and InferRequestedOutput(..., binary_data=False))"
)


class RequestTensor(msgspec.Struct, forbid_unknown_fields=True):
    """An input: `data` in row-major order, flat or nested, as JSON that is not yet parsed.

    Empty where the tensor is binary, as `parameters` then say.
    """

    name: Name
    shape: list[int]
    datatype: Name
    data: msgspec.Raw = msgspec.Raw()
    parameters: ParameterValues = {}


class RequestOutput(msgspec.Struct, forbid_unknown_fields=True):
    """An output that is asked for; all are answered when none is named."""

    name: Name
    parameters: ParameterValues = {}


class Parameters(msgspec.Struct, forbid_unknown_fields=True):
    """ability: which one to run. binary_data_output: the protocol's; only False is answered.

    The others are our extension: what `Sampler.sample` takes, in place of inputs.
    """

    ability: Name | None = None
    count: int | None = None
    seed: int | None = None
    start: int | None = None
    labels: int | Name | list[int | Name] | None = None
    truncation: float | None = None
    binary_data_output: bool = False

    def sampling(self) -> dict[str, Any]:
        """The arguments for `Sampler.sample` that were given."""
        given = {name: getattr(self, name) for name in ("count", "seed", "start", "labels", "truncation")}
        return {name: value for name, value in given.items() if value is not None}


class InferRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v2/models/NAME/infer: inputs, or parameters with a count."""

    inputs: Annotated[list[RequestTensor], msgspec.Meta(max_length=COUNT_LIMIT)] = []
    outputs: Annotated[list[RequestOutput], msgspec.Meta(max_length=COUNT_LIMIT)] = []
    parameters: Parameters = msgspec.field(default_factory=Parameters)
    id: Name | None = None


def make_routes(server: Server) -> list[Route]:
    """The pages of this protocol."""

    async def describe_server(_: Request) -> Response:
        return server.json({"name": "generative-zoo", "version": _version(), "extensions": ["sampling"]})

    async def live(_: Request) -> Response:
        return server.json({"live": True})

    async def ready(_: Request) -> Response:
        if server.draining:
            return server.json({"ready": False, "error": "the server is about to stop"}, 503)
        if not server.repository.ready():
            return server.json({"ready": False, "error": "not every model can answer"}, 503)
        return server.json({"ready": True})

    async def metadata(request: Request) -> Response:
        return server.json(describe_model(server.repository.find(request.path_params["name"])))

    async def model_ready(request: Request) -> Response:
        return server.json({"name": server.repository.find(request.path_params["name"]).card.name, "ready": True})

    async def infer_(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in server.repository.names():  # before the body is read
            server.repository.find(name)
        if BINARY_HEADER in request.headers:
            raise InputError(NO_BINARY)
        body = await server.read_body(request)
        return server.answer(await server.call(request, infer, server.repository, server.limits, name, body))

    path = "/v2/models/{name}"
    return [
        Route("/v2", describe_server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route(path, metadata),
        Route(f"{path}/ready", model_ready),
        Route(f"{path}/infer", infer_, methods=["POST"]),
    ]


def infer(
    repository: Repository,
    limits: Limits,
    name: str,
    body: bytes,
    *,
    deadline: float | None = None,
    abandoned: Callable[[], bool] | None = None,
) -> bytes:
    """Answer one request, JSON to JSON.

    Raises:
        InputError: the body is no request, or not one that fits the model; or the answer is too large.
        FloatingPointError: the answer holds numbers that JSON has no words for.
        Exception: as of `Repository.find` and `ServedModel.infer`.
    """
    request = decode_request(body)
    names = [output.name for output in request.outputs]
    if len(set(names)) < len(names):
        raise InputError("an output is asked for twice: name each once")
    model = repository.find(name)
    results = model.infer(
        decode_inputs(request.inputs),
        ability=request.parameters.ability,
        sampling=request.parameters.sampling(),
        outputs=names,
        deadline=deadline,
        abandoned=abandoned,
    )
    answer = {
        "model_name": model.card.name,
        "model_version": "1",
        "outputs": [encode_tensor(name, results[name], limits.answer_limit) for name in names or results],
    }
    return msgspec.json.encode(answer if request.id is None else {**answer, "id": request.id})


def describe_model(model: ServedModel) -> dict[str, Any]:
    """The protocol's model metadata, of the default ability; our extension: `parameters` describes them all."""
    abilities = {name: describe_ability(pipeline.ability) for name, pipeline in model.pipelines.items()}
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
    request = decode_json(body, InferRequest, "an inference request")
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
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise InputError("two inputs of one name")
    return {tensor.name: decode_tensor(tensor) for tensor in tensors}


def decode_tensor(tensor: RequestTensor) -> np.ndarray:
    """The array of `tensor.datatype` and `tensor.shape`.

    Raises:
        InputError: an unknown datatype, or data that do not fit it or do not fill the shape.
    """
    where = f"input {tensor.name!r}"
    if tensor.datatype not in _DTYPES:
        raise InputError(f"{where}: datatype {tensor.datatype!r}: choose from {sorted(_DTYPES)}")
    if not bytes(tensor.data):
        raise InputError(f"{where}: it has no data: give it as a list")
    if len(tensor.shape) > RANK_LIMIT:
        raise InputError(f"{where}: a shape of {len(tensor.shape)} axes: give at most {RANK_LIMIT}")
    return decode_array(tensor.data, _DTYPES[tensor.datatype], tensor.shape, where=where, label=tensor.datatype)


def encode_tensor(name: str, array: np.ndarray, limit: int) -> dict[str, Any]:
    """An output as the protocol's record, its data flat.

    Raises:
        FloatingPointError: the array holds NaN or infinity.
        InputError: it is larger than `limit` bytes in JSON.
    """
    datatype = DATATYPES[array.dtype.name]
    try:
        data = encode_array(array, limit)
    except FloatingPointError as error:
        raise FloatingPointError(f"output {name!r}: {error}") from None
    return {"name": name, "datatype": datatype, "shape": array.shape, "data": data}


def _version() -> str:
    try:
        return version("generative-zoo")
    except PackageNotFoundError:
        return "not installed"
