"""Whatever goes wrong becomes a status, one line and headers: in one place, for every protocol over HTTP."""

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from serving.card import LINE_LIMIT, to_line
from serving.server.errors import AbandonedError, DeadlineError, QueueFullError, UnavailableError, UnknownModelError
from serving.server.limits import RETRY_AFTER
from serving.session import InputError, ModelFileError

logger = logging.getLogger("serving")

_LONG = re.compile(r"(\S{200})\S+")
CLIENT_CLOSED = 499  # nginx's number for a client that left: it stands in the log alone
KINDS: dict[type[Exception], int] = {
    InputError: 400,
    UnknownModelError: 404,
    FloatingPointError: 422,
    ModelFileError: 422,
    QueueFullError: 429,
    AbandonedError: CLIENT_CLOSED,
    ClientDisconnect: CLIENT_CLOSED,
    UnavailableError: 503,
    DeadlineError: 504,
    HTTPException: 500,  # has a status of its own
    Exception: 500,
}


@dataclass(frozen=True)
class Failure:
    """What a client is told: a status, one line, and headers such as Retry-After."""

    status: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """{"error": message}: the form of every error here, as of the Open Inference Protocol and TF Serving."""
        return Response(self.body(), self.status, dict(self.headers), media_type="application/json")

    def body(self) -> bytes:
        """The same as bytes."""
        return msgspec.json.encode({"error": self.message})


def describe(error: Exception) -> Failure:
    """What to tell the client of an error; what it must not know goes to the log instead."""
    status = next(KINDS[kind] for kind in type(error).__mro__ if kind in KINDS)
    message, headers = shorten(str(error)), {}
    if isinstance(error, HTTPException):
        status, message, headers = error.status_code, shorten(error.detail), dict(error.headers or {})
    elif isinstance(error, ModelFileError):
        logger.warning("%s", to_line(str(error)))  # it names a file of this machine
        message = "the model's graph fails on these inputs; the server's log says why"
    elif status == CLIENT_CLOSED:
        message = "the client went away"
    elif status == HTTPStatus.INTERNAL_SERVER_ERROR:
        message = "the server failed; its log says why"
    elif status in (429, 503):
        headers = {"Retry-After": str(max(1, math.ceil(getattr(error, "retry_after", RETRY_AFTER))))}
    return Failure(status, message, headers)


def shorten(message: str) -> str:
    """One line in which nothing that is quoted has more than 200 characters without a space."""
    return to_line(_LONG.sub(r"\1...", message[: 2 * LINE_LIMIT]))
