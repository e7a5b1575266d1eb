"""The Open Inference Protocol, version 2, over HTTP.

    GET  /v2                      GET /v2/health/live      GET /v2/health/ready
    GET  /v2/models/NAME          GET /v2/models/NAME/ready
    POST /v2/models/NAME/infer    {"inputs": [{"name", "shape", "datatype", "data"}], "outputs", "parameters", "id"}

NAME is a model, for its default ability, or NAME.ability for another; NAME/versions/V is one of its versions. Tensors
travel as JSON, or by the binary tensor extension as bytes behind the JSON: the header Inference-Header-Content-Length
says where they begin. An extension of ours: without inputs, {"parameters": {"count": 4, "seed": 0}} answers with the
images that `Sampler.sample(4, seed=0)` gives. `infer` answers one request: the message is decoded,
`serving.server.inference` does the work on arrays, and what it returns is encoded.
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
    NAME_LIMIT,
    Name,
    ParameterValues,
    decode_array,
    decode_json,
    encode_array,
)
from serving.server.limits import Limits
from serving.server.naming import find_ability, require_model
from serving.server.repository import Repository
from serving.server.tensors import DATATYPES, find_dtype, from_bytes, require_finite, to_bytes
from serving.session import InputError

BINARY_HEADER = "Inference-Header-Content-Length"  # bytes of the JSON, where tensors follow it
EXTENSIONS = ["binary_tensor_data", "sampling"]
NOT_SERVED = ("classification", "shared_memory_region")  # parameters that ask for another answer than there is


class RequestTensor(msgspec.Struct, forbid_unknown_fields=True):
    """An input: `data` in row-major order, flat or nested, as JSON that is not yet parsed.

    Empty where the tensor follows the JSON as bytes: `parameters` then have their number as binary_data_size.
    """

    name: Name
    shape: list[int]
    datatype: Name
    data: msgspec.Raw = msgspec.Raw()
    parameters: ParameterValues = {}


class RequestOutput(msgspec.Struct, forbid_unknown_fields=True):
    """An output that is asked for; all are answered when none is named.

    The parameter binary_data says whether as bytes; the request's binary_data_output where it is not given.
    """

    name: Name
    parameters: ParameterValues = {}


class Parameters(msgspec.Struct, forbid_unknown_fields=True):
    """ability: which one to run. binary_data_output: whether outputs are answered as bytes behind the JSON.

    The others are our extension: what `Sampler.sample` takes, in place of inputs.
    """

    ability: Name | None = None
    count: int | None = None
    seed: int | None = None
    start: int | None = None
    labels: int | Name | list[int | Name] | None = None
    truncation: float | None = None
    steps: int | None = None
    binary_data_output: bool = False

    def sampling(self) -> dict[str, Any]:
        """The arguments for `Sampler.sample` that were given."""
        given = {name: getattr(self, name) for name in ("count", "seed", "start", "labels", "truncation", "steps")}
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
        return server.json({"name": "generative-zoo", "version": _version(), "extensions": EXTENSIONS})

    async def live(_: Request) -> Response:
        return server.json({"live": True})

    async def ready(_: Request) -> Response:
        if server.draining:
            return server.json({"ready": False, "error": "the server is about to stop"}, 503)
        if not server.repository.ready():
            return server.json({"ready": False, "error": "not every model can answer"}, 503)
        return server.json({"ready": True})

    async def metadata(request: Request) -> Response:
        return server.json(await server.call(request, describe_model, server.repository, *_read_path(request)))

    async def model_ready(request: Request) -> Response:
        name, version_ = _read_path(request)
        await server.call(request, find_model, server.repository, name, version_)
        return server.json({"name": name, "ready": True})

    async def infer_(request: Request) -> Response:
        name, version_ = _read_path(request)
        require_model(server.repository, name)  # before the body is read
        split = _read_split(request.headers.get(BINARY_HEADER))
        asked = (name, version_, await server.read_body(request), split)
        answer, split = await server.call(request, infer, server.repository, server.limits, *asked)
        if split is None:
            return server.answer(answer)
        response = server.answer(answer, "application/octet-stream")
        response.headers[BINARY_HEADER] = str(split)
        return response

    routes = [
        Route("/v2", describe_server),
        Route("/v2/", describe_server),  # as the published OpenAPI file has it
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
    ]
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        routes += [
            Route(path, metadata),
            Route(f"{path}/ready", model_ready),
            Route(f"{path}/infer", infer_, methods=["POST"]),
        ]
    return routes


def infer(
    repository: Repository,
    limits: Limits,
    name: str,
    version_: str | None,
    body: bytes,
    split: int | None,
    *,
    deadline: float | None = None,
    abandoned: Callable[[], bool] | None = None,
) -> tuple[bytes, int | None]:
    """Answer one request.

    Args:
        repository: of the models.
        limits: of the answer.
        name: NAME, or NAME.ability.
        version_: of the model; the newest when None.
        body: JSON, and what follows it.
        split: bytes of the JSON; all when None.
        deadline, abandoned: as of `ServedModel.infer`.

    Returns:
        The answer, likewise; None where it is all JSON.

    Raises:
        InputError: the body is no request, or not one that fits the model; or the answer is too large.
        FloatingPointError: the answer is not finite.
        Exception: as of `Repository.find` and `ServedModel.infer`.
    """
    if split is not None and split > len(body):
        raise InputError(f"{BINARY_HEADER} is {split}, and the body has {len(body)} bytes")
    request = decode_request(body[:split])
    names = [output.name for output in request.outputs]
    if len(set(names)) < len(names):
        raise InputError("an output is asked for twice: name each once")
    served, ability = find_ability(repository, name, version_, request.parameters.ability)
    results = served.infer(
        decode_inputs(request.inputs, None if split is None else memoryview(body)[split:]),
        ability=ability,
        sampling=request.parameters.sampling(),
        outputs=names,
        deadline=deadline,
        abandoned=abandoned,
    )
    binary = dict.fromkeys(results, request.parameters.binary_data_output)
    binary |= {
        each.name: bool(each.parameters["binary_data"]) for each in request.outputs if "binary_data" in each.parameters
    }
    followers: list[bytes] = []
    outputs = []
    for output in names or results:
        if binary[output]:
            followers.append(encode_bytes(output, results[output]))
            described = describe_array(output, results[output])
            outputs.append({**described, "parameters": {"binary_data_size": len(followers[-1])}})
        else:
            outputs.append(encode_tensor(output, results[output], limits.answer_limit))
    if sum(map(len, followers)) > limits.answer_limit:
        raise InputError(f"the answer is larger than {limits.answer_limit} bytes: ask for fewer rows in one request")
    answer = {"model_name": name, "model_version": served.version, "outputs": outputs}
    head = msgspec.json.encode(answer if request.id is None else {**answer, "id": request.id})
    return (b"".join([head, *followers]), len(head)) if followers else (head, None)


def find_model(repository: Repository, name: str, version_: str | None, **_: Any) -> None:
    """Open a model, where it is not; UnknownModelError where there is none, or no such version or ability."""
    find_ability(repository, name, version_)


def describe_model(repository: Repository, name: str, version_: str | None, **_: Any) -> dict[str, Any]:
    """The protocol's metadata of what a name stands for; our extension: `parameters` describes all abilities."""
    served, ability = find_ability(repository, name, version_)
    abilities = {key: describe_ability(each) for key, each in served.abilities.items()}
    return {
        "name": name,
        "versions": repository.versions(served.card.name),
        "platform": "onnxruntime_onnx",
        **abilities[ability],
        "parameters": {"ability": ability, "abilities": abilities, "provider": served.provider},
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
        InputError: the body is no such request, with the place and the reason; or it asks for what is not served.
    """
    request = decode_json(body, InferRequest, "an inference request")
    parts: list[RequestTensor | RequestOutput] = [*request.inputs, *request.outputs]
    for each in parts:
        if refused := [name for name in NOT_SERVED if name in each.parameters]:
            raise InputError(f"{each.name!r}: the parameters {refused} are not served: leave them out")
    return request


def decode_inputs(tensors: Sequence[RequestTensor], followers: memoryview | None = None) -> dict[str, np.ndarray]:
    """Arrays by input name.

    Args:
        tensors: the inputs.
        followers: what follows the JSON: the bytes of the binary ones, in order; None where nothing may.

    Raises:
        InputError: two inputs of one name, or data that do not fit their datatype and shape.
    """
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise InputError("two inputs of one name")
    feeds, begin = {}, 0
    for tensor in tensors:
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            feeds[tensor.name] = decode_tensor(tensor)
            continue
        where = f"input {tensor.name!r}"
        if followers is None:
            raise InputError(f"{where}: binary_data_size needs the header {BINARY_HEADER}")
        if bytes(tensor.data):
            raise InputError(f"{where}: data and binary_data_size exclude each other: give one of them")
        if type(size) is not int or not 0 <= size <= len(followers) - begin:
            raise InputError(f"{where}: binary_data_size is {size!r}, and {len(followers) - begin} bytes are left")
        part = followers[begin : begin + size]
        feeds[tensor.name] = from_bytes(tensor.name, tensor.datatype, tensor.shape, part)
        begin += size
    if followers is not None and begin < len(followers):
        raise InputError(f"{len(followers) - begin} bytes are left behind the JSON: no binary_data_size says whose")
    return feeds


def decode_tensor(tensor: RequestTensor) -> np.ndarray:
    """The array of `tensor.datatype` and `tensor.shape`.

    Raises:
        InputError: an unknown datatype, or data that do not fit it or do not fill the shape.
    """
    where = f"input {tensor.name!r}"
    dtype = find_dtype(tensor.name, tensor.datatype)
    if not bytes(tensor.data):
        raise InputError(f"{where}: it has no data: give it as a list")
    if len(tensor.shape) > RANK_LIMIT:
        raise InputError(f"{where}: a shape of {len(tensor.shape)} axes: give at most {RANK_LIMIT}")
    return decode_array(tensor.data, dtype, tensor.shape, where=where, label=tensor.datatype)


def describe_array(name: str, array: np.ndarray) -> dict[str, Any]:
    """An output as the protocol's record, without its data."""
    return {"name": name, "datatype": DATATYPES[array.dtype.name], "shape": array.shape}


def encode_tensor(name: str, array: np.ndarray, limit: int) -> dict[str, Any]:
    """An output as the protocol's record, its data flat.

    Raises:
        FloatingPointError: the array holds NaN or infinity.
        InputError: it is larger than `limit` bytes in JSON.
    """
    try:
        data = encode_array(array, limit)
    except FloatingPointError as error:
        raise FloatingPointError(f"output {name!r}: {error}") from None
    return {**describe_array(name, array), "data": data}


def encode_bytes(name: str, array: np.ndarray) -> bytes:
    """An output as bytes; FloatingPointError where it holds NaN or infinity."""
    require_finite(name, array)
    return to_bytes(array)


def _read_path(request: Request) -> tuple[str, str | None]:
    return request.path_params["name"], request.path_params.get("version")


def _read_split(header: str | None) -> int | None:
    if header is not None and not (header.isascii() and header.isdecimal() and len(header) <= 12):
        raise InputError(f"{BINARY_HEADER}: {header[:NAME_LIMIT]!r}: give the bytes of the JSON")
    return None if header is None else int(header)


def _version() -> str:
    try:
        return version("generative-zoo")
    except PackageNotFoundError:
        return "not installed"
