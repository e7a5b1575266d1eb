"""Images in the form that clients of OpenAI's API speak.

    POST /v1/images/generations    {"prompt", "model", "n", "size", "seed"} -> {"data": [{"b64_json": PNG in base64}]}
    GET  /v1/models                the models by name

The prompt is the name of a class; "" lets the seed choose, and is all that a model without classes takes. `seed` is an
extension of ours; without one the server takes a new one, and the answer names it. Errors are {"error": {"message",
"type", "param", "code"}}.
"""

import base64
import io
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.card import find_sampling
from serving.images import to_pil, to_uint8
from serving.server.errors import UnknownModelError
from serving.server.http.context import Server
from serving.server.http.decoding import NAME_LIMIT, Name, decode_json
from serving.server.http.errors import Failure, describe
from serving.server.naming import find_ability, require_model
from serving.server.repository import Repository
from serving.session import InputError

FORMATS = ("png", "jpeg", "webp")
# Status -> the type and, where they have one, the code of such an error.
TYPES = {
    401: ("authentication_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}


class FieldError(InputError):
    """What is wrong is the field `param` of a request."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(f"{param}: {message}")
        self.param = param


class GenerationRequest(msgspec.Struct):
    """The body of POST /v1/images/generations; fields that would change nothing here, such as `user`, are passed over.

    quality and style are passed over, too: a model has one of each.
    """

    prompt: str = ""
    model: Name | None = None
    n: int | None = None
    size: Name | None = None
    seed: int | None = None
    response_format: Name | None = None
    output_format: Name | None = None
    stream: bool | None = None


def make_routes(server: Server) -> list[Route]:
    """The pages of this protocol."""
    repository, started = server.repository, int(time.time())

    async def generate_(request: Request) -> Response:
        body = await server.read_body(request)
        return server.answer(await server.call(request, generate, repository, body))

    async def list_models(_: Request) -> Response:
        models = [
            {"id": name, "object": "model", "created": started, "owned_by": "generative-zoo"}
            for name in repository.names()
        ]
        return server.json({"object": "list", "data": models})

    return [
        Route("/v1/images/generations", _answer_errors(generate_), methods=["POST"]),
        Route("/v1/models", _answer_errors(list_models)),
    ]


def _answer_errors(answer: Callable[[Request], Any]) -> Callable[[Request], Any]:
    """Whatever a page raises is answered in this protocol's form."""

    async def page(request: Request) -> Response:
        try:
            return await answer(request)
        except Exception as error:
            failure = describe(error)
            request.state.exchange.error = failure.message
            param = "model" if isinstance(error, UnknownModelError) else getattr(error, "param", None)
            content = describe_failure(failure, param)
            return Response(
                msgspec.json.encode(content), failure.status, dict(failure.headers), media_type="application/json"
            )

    return page


def describe_failure(failure: Failure, param: str | None) -> dict[str, Any]:
    """An error as clients of this protocol read it."""
    type_, code = TYPES.get(failure.status, ("invalid_request_error" if failure.status < 500 else "server_error", None))
    return {"error": {"message": failure.message, "type": type_, "param": param, "code": code}}


def generate(
    repository: Repository,
    body: bytes,
    *,
    deadline: float | None = None,
    abandoned: Callable[[], bool] | None = None,
) -> bytes:
    """Answer a request for images, JSON to JSON.

    Raises:
        InputError: the body is no such request, or not one that the model can answer.
        Exception: as of `Repository.find` and `ServedModel.infer`.
    """
    request = decode_json(body, GenerationRequest, "a request for images")
    served, ability = _find_generator(repository, request.model)
    record = served.abilities[ability]
    image = next(spec for spec in record.outputs if spec.kind == "image")
    assert image.range is not None  # the card holds this for an image
    file_format = request.output_format or "png"
    if file_format not in FORMATS:
        raise FieldError("output_format", f"{file_format!r}: choose from {list(FORMATS)}")
    if request.response_format not in (None, "b64_json"):
        raise FieldError("response_format", f"{request.response_format!r}: give 'b64_json', this server keeps no files")
    if request.stream:
        raise FieldError("stream", "images come whole: leave it out")
    size = "x".join(str(side) for side in reversed(image.row[:2]))
    if request.size not in (None, "auto", size):
        raise FieldError("size", f"{request.size!r}: this model makes images of {size}, or give 'auto'")
    seed = secrets.randbits(53) if request.seed is None else request.seed  # every JSON reader holds 53 bits
    sampling: dict[str, Any] = {"count": 1 if request.n is None else request.n, "seed": seed}
    classes = next((spec.classes for spec in record.inputs if spec.feed == "label"), None)
    if (label := find_class(request.prompt, classes)) is not None:
        sampling["labels"] = label
    found = served.infer({}, ability=ability, sampling=sampling, deadline=deadline, abandoned=abandoned)
    files = [_encode(each, file_format) for each in to_pil(to_uint8(found[image.name], image.range))]
    answer = {
        "created": int(time.time()),
        "data": [{"b64_json": base64.b64encode(file).decode()} for file in files],
        "size": size,
        "output_format": file_format,
        "seed": seed,
    }
    return msgspec.json.encode(answer)


def find_class(prompt: str, classes: Sequence[str] | None) -> str | int | None:
    """The class that a prompt names, in upper or lower case, or by its number; None to let the seed choose.

    Raises:
        InputError: there is no such class, or the model has none.
    """
    text = prompt.strip()
    if not text:
        return None
    if classes is None:
        raise FieldError("prompt", "this model has no classes to choose from: give ''")
    found = [name for name in classes if name == text] or [
        name for name in classes if name.casefold() == text.casefold()
    ]
    if len(found) == 1:
        return found[0]
    if text.isdecimal() and len(text) < 10:
        return int(text)
    good = list(classes) or "its number"
    raise FieldError("prompt", f"{text[:NAME_LIMIT]!r} is no class of this model: choose from {good}, or ''")


def _find_generator(repository: Repository, name: str | None) -> tuple[Any, str]:
    """The model and its ability to sample.

    Raises:
        FieldError: none is named, or it samples nothing.
        UnknownModelError: there is no such model.
    """
    if name is None:
        raise FieldError("model", f"name one of {repository.names()}")
    require_model(repository, name)
    served, ability = find_ability(repository, name)
    if "." not in name:
        ability = find_sampling(served.abilities) or ability
    if find_sampling([ability]) is None or not any(spec.kind == "image" for spec in served.abilities[ability].outputs):
        raise FieldError("model", f"{name!r} makes no images from a seed: it has {sorted(served.abilities)}")
    return served, ability


def _encode(image: Any, file_format: str) -> bytes:
    file = io.BytesIO()
    (image.convert("RGB") if file_format == "jpeg" and image.mode == "RGBA" else image).save(file, file_format)
    return file.getvalue()
