"""The Open Inference Protocol over HTTP, as a Starlette application.

    GET  /v2                      GET /v2/health/live      GET /v2/health/ready
    GET  /v2/models/NAME          GET /v2/models/NAME/ready
    POST /v2/models/NAME/infer    {"inputs": [{"name", "shape", "datatype", "data"}], "outputs", "parameters", "id"}

An extension of ours: without inputs, {"parameters": {"count": 4, "seed": 0}} answers with the images that
`Sampler.sample(4, seed=0)` gives. Every error is {"error": reason}.
"""

import logging
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from serving.card import to_line
from serving.server.batching import BatchingOptions
from serving.server.http import v2
from serving.server.inference import ServedModel
from serving.server.limits import BODY_LIMIT, DRAIN_FACTOR, ROW_LIMIT
from serving.server.repository import Repository
from serving.session import InputError, ModelFileError

logger = logging.getLogger("serving")


def create_app(
    models_directory: str | Path,
    *,
    threads: int | None = None,
    body_limit: int = BODY_LIMIT,
    row_limit: int = ROW_LIMIT,
) -> Starlette:
    """Open every model, then answer for them.

    Args:
        models_directory: one subdirectory with a card.json for each model.
        threads: CPU threads of one model's run; ONNX Runtime's choice when not given.
        body_limit: bytes of the largest request.
        row_limit: rows, or images, of the largest request.

    Raises:
        CardError, ModelFileError, ProviderError: as in `Repository`.
    """
    repository = Repository(models_directory, threads=threads, batching=BatchingOptions(request_rows=row_limit))
    models = {name: repository.find(name) for name in repository.names()}
    # Inference runs on threads of its own, so that health answers meanwhile; more than the cores would only wait.
    limiter = anyio.CapacityLimiter(os.cpu_count() or 1)

    def find_model(request: Request) -> ServedModel:
        name = request.path_params["name"]
        if name not in models:
            raise HTTPException(404, f"there is no model {name!r}: this server has {list(models)}")
        return models[name]

    async def describe_server(_: Request) -> Response:
        return _json({"name": "generative-zoo", "version": _version(), "extensions": ["sampling"]})

    async def live(_: Request) -> Response:
        return _json({"live": True})

    async def ready(_: Request) -> Response:
        return _json({"ready": True})  # models are opened before the server listens

    async def metadata(request: Request) -> Response:
        return _json(v2.describe_model(find_model(request)))

    async def model_ready(request: Request) -> Response:
        return _json({"name": find_model(request).card.name, "ready": True})

    async def infer(request: Request) -> Response:
        served = find_model(request)
        if v2.BINARY_HEADER in request.headers:
            raise InputError(v2.NO_BINARY)
        body = await _read_body(request, body_limit)
        return _response(await run_sync(v2.infer, served, body, limiter=limiter))

    def not_found(_: Request, error: Exception) -> Response:
        detail = error.detail if isinstance(error, HTTPException) else ""
        hint = f"there is no such page: try /v2/models/NAME with a NAME of {list(models)}"
        return _json({"error": hint if detail == "Not Found" else detail}, 404)

    def graph_failed(request: Request, error: Exception) -> Response:
        logger.warning("%s: %s", request.url.path, error)  # names a file of this machine, so the client gets none of it
        return _json({"error": "the model's graph fails on these inputs; the server's log says why"}, 422)

    path = "/v2/models/{name}"
    app = Starlette(
        routes=[
            Route("/v2", describe_server),
            Route("/v2/health/live", live),
            Route("/v2/health/ready", ready),
            Route(path, metadata),
            Route(f"{path}/ready", model_ready),
            Route(f"{path}/infer", infer, methods=["POST"]),
        ],
        exception_handlers={
            404: not_found,
            HTTPException: lambda _, error: _json({"error": error.detail}, error.status_code),
            InputError: lambda _, error: _json({"error": to_line(str(error))}, 400),
            FloatingPointError: lambda _, error: _json({"error": str(error)}, 422),
            ModelFileError: graph_failed,
            ClientDisconnect: lambda _, error: _json({"error": "the client went away"}, 400),
            Exception: lambda _, error: _json({"error": "the server failed; its log says why"}, 500),
        },
    )
    app.state.models = models
    return app


async def _read_body(request: Request, limit: int) -> bytes:
    """The body, or a 413 if it has more than `limit` bytes, which are never held."""
    body, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            body += chunk
        elif size > DRAIN_FACTOR * limit:
            break
    if size > limit:
        raise HTTPException(413, f"the body is larger than {limit} bytes: send fewer rows in one request")
    return bytes(body)


def _json(content: Any, status: int = 200) -> Response:
    return _response(msgspec.json.encode(content), status)


def _response(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def _version() -> str:
    try:
        return version("generative-zoo")
    except PackageNotFoundError:
        return "not installed"
