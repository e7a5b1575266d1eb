"""Around every request: its id, its deadline, what no route may be given, one line in the log, and errors in JSON."""

import logging
import re
import time
import uuid
from hmac import compare_digest
from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.card import to_line
from serving.server.errors import AbandonedError, DeadlineError, UnavailableError
from serving.server.http.context import Exchange, Server
from serving.server.http.errors import CLIENT_CLOSED, Failure, describe

logger = logging.getLogger("serving")
requests_log = logging.getLogger("serving.requests")

HEALTH = (
    "/v2/health/live",
    "/v2/health/ready",
)  # answered without a token, beyond the cap on connections, until the end
SEGMENT_LIMIT = 200  # characters between two slashes of a path
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class ExchangeMiddleware:
    """The outermost layer: nothing but a whole answer, or an error in JSON, leaves it."""

    def __init__(self, app: ASGIApp, server: Server, token: str | None = None) -> None:
        self.app, self.server = app, server
        self._token = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = dict(scope["headers"])
        limits, began = self.server.limits, time.monotonic()
        exchange = Exchange(choose_id(headers.get(b"x-request-id")), limits.deadline, self.server.budget)
        scope.setdefault("state", {})["exchange"] = exchange

        async def respond(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.begin_answer(message["status"])
                message["headers"] = [*message["headers"], (b"x-request-id", exchange.id.encode())]
                if self.server.draining:
                    message["headers"].append((b"connection", b"close"))
            else:
                exchange.sent += len(message["body"])
            await send(message)

        async def fail(failure: Failure) -> None:
            exchange.error = failure.message
            if exchange.status is None:
                await failure.response()(scope, receive, respond)

        self.server.exchanges.add(exchange)
        try:
            with exchange.scope:
                if refusal := self._refuse(scope, headers):
                    await fail(describe(refusal))
                else:
                    await self.app(scope, receive, respond)
            if exchange.scope.cancelled_caught:
                reason = exchange.reason or DeadlineError(f"no answer within {limits.deadline:g} seconds")
                if isinstance(reason, AbandonedError):
                    exchange.status, exchange.error = CLIENT_CLOSED, str(reason)
                else:
                    await fail(describe(reason))
        except Exception as error:
            logger.exception("request %s failed", exchange.id)
            if exchange.status is not None and exchange.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise  # the answer has begun: the connection must not look as if it were whole
            await fail(describe(error))
        finally:
            self.server.exchanges.discard(exchange)
            exchange.release()
            log_request(exchange, scope["method"], scope["path"], scope.get("client"), time.monotonic() - began)

    def _refuse(self, scope: Scope, headers: dict[bytes, bytes]) -> Exception | None:
        if any(len(segment) > SEGMENT_LIMIT for segment in scope["path"].split("/")):
            return HTTPException(414, f"a name in the path has more than {SEGMENT_LIMIT} characters")
        if scope["path"] in HEALTH:
            return None
        given = headers.get(b"authorization", b"")
        # CORS asks without a token first: what it is told says nothing of the models.
        if self._token and scope["method"] != "OPTIONS" and not compare_digest(given, self._token):
            return HTTPException(401, "give the token: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        if self.server.draining:
            return UnavailableError("the server is about to stop: ask again, or another")
        return None


def choose_id(given: bytes | None) -> str:
    """The client's own X-Request-Id where it is one that a log can hold, else a new one."""
    text = (given or b"").decode("latin-1")
    return text if _ID.fullmatch(text) else uuid.uuid4().hex


def log_request(exchange: Exchange, method: str, path: str, client: tuple[str, int] | None, seconds: float) -> None:
    """One line of JSON, where the log is on."""
    if requests_log.isEnabledFor(logging.INFO):
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "id": exchange.id,
            "client": client[0] if client else None,
            "method": to_line(method, SEGMENT_LIMIT),
            "path": to_line(path, SEGMENT_LIMIT),
            "status": exchange.status,
            "seconds": round(seconds, 6),
            "bytes_in": exchange.received,
            "bytes_out": exchange.sent,
            "error": exchange.error,
        }
        requests_log.info("%s", msgspec.json.encode(line).decode())
