"""TensorFlow Serving's REST API, as far as a generative model needs it.

    GET  /v1/models/NAME[/versions/V]             the state of its versions
    GET  /v1/models/NAME[/versions/V]/metadata    its signatures: each ability is one
    POST /v1/models/NAME[/versions/V]:predict     {"signature_name", "instances"} -> {"predictions"}, row by row, or
                                                  {"signature_name", "inputs"} -> {"outputs"}, column by column

A signature is named as the ability; "serving_default", or none, is the default one. An input that takes an image may be
given as {"b64": the file in base64}. Errors are {"error": reason}.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.card import Ability, Input, TensorSpec
from serving.server.errors import UnknownModelError
from serving.server.http.context import Server
from serving.server.http.decoding import COUNT_LIMIT, Name, decode_array, decode_json, encode_rows
from serving.server.http.uploads import read_images
from serving.server.limits import Limits
from serving.server.naming import find_ability, require_model
from serving.server.repository import Repository
from serving.session import InputError

DEFAULT_SIGNATURE = "serving_default"
SPACE = b" \t\r\n"
DATATYPES = {
    "float16": "DT_HALF",
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    "int32": "DT_INT32",
    "int64": "DT_INT64",
    "uint8": "DT_UINT8",
    "bool": "DT_BOOL",
}
# State of a version in the repository -> TF Serving's.
STATES = {"ready": "AVAILABLE", "loading": "LOADING", "unloading": "UNLOADING", "broken": "END"}


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of :predict; `instances` or `inputs`, as JSON that is not yet parsed."""

    signature_name: Name = ""
    instances: msgspec.Raw = msgspec.Raw()
    inputs: msgspec.Raw = msgspec.Raw()


class File(msgspec.Struct, forbid_unknown_fields=True):
    """A file in JSON."""

    b64: str


def make_routes(server: Server) -> list[Route]:
    """The pages of this protocol."""
    repository = server.repository

    async def status(request: Request) -> Response:
        return server.json(await server.call(request, describe_status, repository, *_read_path(request)))

    async def metadata(request: Request) -> Response:
        return server.json(await server.call(request, describe_signatures, repository, *_read_path(request)))

    async def predict_(request: Request) -> Response:
        name, version = _read_path(request)
        require_model(repository, name)  # before the body is read
        body = await server.read_body(request)
        return server.answer(await server.call(request, predict, repository, server.limits, name, version, body))

    async def refuse_method(_: Request) -> Response:
        raise HTTPException(400, "a generative model has no signature of this method: use :predict")

    async def refuse_label(_: Request) -> Response:
        raise HTTPException(404, "versions have no labels here: name one by its number, /versions/1")

    path, methods = "/v1/models/{name}", ["POST"]
    routes = []
    for start in (path, f"{path}/versions/{{version}}"):
        routes += [
            Route(f"{start}:predict", predict_, methods=methods),
            Route(f"{start}:classify", refuse_method, methods=methods),
            Route(f"{start}:regress", refuse_method, methods=methods),
            Route(f"{start}/metadata", metadata),
            Route(start, status),
        ]
    return [*routes, Route(f"{path}/labels/{{rest:path}}", refuse_label, methods=["GET", "POST"])]


def predict(
    repository: Repository,
    limits: Limits,
    name: str,
    version: str | None,
    body: bytes,
    *,
    deadline: float | None = None,
    abandoned: Callable[[], bool] | None = None,
) -> bytes:
    """Answer :predict, JSON to JSON.

    Raises:
        InputError: the body is no such request, or not one that fits the model; or the answer is too large.
        FloatingPointError: the answer is not finite.
        Exception: as of `Repository.find` and `ServedModel.infer`.
    """
    request = decode_json(body, PredictRequest, "a predict request")
    asked = None if request.signature_name == DEFAULT_SIGNATURE else request.signature_name
    served, ability = find_ability(repository, name, version, asked)
    by_row = bool(bytes(request.instances))
    if by_row == bool(bytes(request.inputs)):
        raise InputError("give either instances, row by row, or inputs, column by column")
    specs = served.abilities[ability].inputs
    feeds = decode_instances(request.instances, specs, limits.rows) if by_row else decode_columns(request.inputs, specs)
    results = served.infer(feeds, ability=ability, deadline=deadline, abandoned=abandoned)
    columns = {}
    for output, array in results.items():
        try:
            columns[output] = encode_rows(array, limits.answer_limit)
        except FloatingPointError as error:
            raise FloatingPointError(f"output {output!r}: {error}") from None
    if by_row:
        if len({len(column) for column in columns.values()}) > 1:
            raise InputError(f"the outputs {list(columns)} have not one row for each instance: ask by inputs")
        rows: Any = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return msgspec.json.encode({"predictions": rows if len(columns) > 1 else next(iter(columns.values()))})
    return msgspec.json.encode({"outputs": columns if len(columns) > 1 else next(iter(columns.values()))})


def decode_instances(data: msgspec.Raw, specs: Sequence[Input], rows: int) -> dict[str, np.ndarray]:
    """Arrays by input name of a list with one value, or one object of values by input name, for each row.

    Args:
        data: the JSON.
        specs: the inputs.
        rows: the most that are taken.

    Raises:
        InputError: the data is not such a list.
    """
    text = bytes(data)
    if text.count(b"{") > rows * (COUNT_LIMIT + 1):  # before the objects are built
        raise InputError(f"instances: there are more objects than {rows} rows need: send fewer in one request")
    if not _holds_objects(text):
        return {_only(specs).name: _decode_value(text, _only(specs))}
    values = decode_json(text, list[dict[Name, msgspec.Raw]], "a request with a list of instances")
    names = list(values[0])
    if names == ["b64"]:
        return {_only(specs).name: _decode_value(text, _only(specs))}
    if odd := next((number for number, value in enumerate(values) if set(value) != set(names)), None):
        raise InputError(f"instances: number {odd} has other inputs than number 0: give all the same")
    known = _find_inputs(names, specs)
    return {
        name: _decode_value(b"[" + b",".join(value[name] for value in values) + b"]", known[name]) for name in known
    }


def decode_columns(data: msgspec.Raw, specs: Sequence[Input]) -> dict[str, np.ndarray]:
    """Arrays by input name of an object of them, or the one array of a model with one input.

    Raises:
        InputError: the data is neither.
    """
    text = bytes(data)
    if not text.lstrip(SPACE).startswith(b"{"):
        return {_only(specs).name: _decode_value(text, _only(specs))}
    values = decode_json(text, dict[Name, msgspec.Raw], "a request with an object of inputs")
    known = _find_inputs(list(values), specs)
    return {name: _decode_value(bytes(values[name]), spec) for name, spec in known.items()}


def _decode_value(text: bytes, spec: Input) -> np.ndarray:
    """The rows of one input: numbers, nested like their shape, or a list of image files."""
    if _holds_objects(text):
        files = decode_json(text, list[File], "a request with numbers, or image files as {b64: ...},")
        return read_images([_decode_file(file) for file in files], spec)
    where, dtype = f"input {spec.name!r}", np.dtype(spec.dtype)
    return decode_array(text, dtype, None, where=where, label=DATATYPES[spec.dtype])


def _decode_file(file: File) -> bytes:
    try:
        return base64.b64decode(file.b64, validate=True)
    except binascii.Error as error:
        raise InputError(f"b64 holds no base64: {error}") from None


def _holds_objects(text: bytes) -> bool:
    return text.lstrip(SPACE + b"[").startswith(b"{")


def _only(specs: Sequence[Input]) -> Input:
    """The input of an ability that has one; with more of them values are named."""
    if len(specs) != 1:
        raise InputError(f"the model has the inputs {[spec.name for spec in specs]}: name the values")
    return specs[0]


def _find_inputs(names: Sequence[str], specs: Sequence[Input]) -> dict[str, Input]:
    known = {spec.name: spec for spec in specs}
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"inputs {unknown} are unknown: give {list(known)}")
    if missing := [name for name in known if name not in names]:
        raise InputError(f"inputs {missing} are missing: give {list(known)}")
    return {name: known[name] for name in names}


def _read_path(request: Request) -> tuple[str, str | None]:
    return request.path_params["name"], request.path_params.get("version")


def describe_status(
    repository: Repository, name: str, version: str | None, **_: Any
) -> dict[str, list[dict[str, Any]]]:
    """TF Serving's GetModelStatusResponse: of one version, or of all.

    Raises:
        UnknownModelError: there is no such model or version.
    """
    states = repository.state(name)["versions"]
    if version is not None and version not in states:
        raise UnknownModelError(f"{name!r} has no version {version!r}: it has {list(states)}")
    return {
        "model_version_status": [
            {
                "version": each,
                "state": STATES[state["state"]],
                "status": {"error_code": "UNKNOWN" if state["reason"] else "OK", "error_message": state["reason"]},
            }
            for each, state in states.items()
            if version in (None, each)
        ]
    }


def describe_signatures(repository: Repository, name: str, version: str | None, **_: Any) -> dict[str, Any]:
    """TF Serving's GetModelMetadataResponse: a signature for each ability, and the default one.

    Raises:
        UnknownModelError: as of `find_ability`.
    """
    served, default = find_ability(repository, name, version)
    signatures = {key: _describe_signature(each) for key, each in served.abilities.items()}
    return {
        "model_spec": {"name": name, "signature_name": "", "version": served.version},
        "metadata": {"signature_def": {"signature_def": {**signatures, DEFAULT_SIGNATURE: signatures[default]}}},
    }


def _describe_signature(ability: Ability) -> dict[str, Any]:
    return {
        "inputs": {spec.name: _describe_tensor(spec) for spec in ability.inputs},
        "outputs": {spec.name: _describe_tensor(spec) for spec in ability.outputs},
        "method_name": "tensorflow/serving/predict",
    }


def _describe_tensor(spec: TensorSpec) -> dict[str, Any]:
    sizes = ["-1" if isinstance(size, str) else str(size) for size in spec.shape]
    shape = {"dim": [{"size": size, "name": ""} for size in sizes], "unknown_rank": False}
    return {"dtype": DATATYPES[spec.dtype], "tensor_shape": shape, "name": spec.name}
