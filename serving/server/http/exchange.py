"""Around every request: its id, its deadline, what no route may be given, one line in the log, and errors in JSON."""

import logging
import re
import time
import uuid
from hmac import compare_digest
from http import HTTPStatus

import anyio
import msgspec
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.card import to_line
from serving.server.errors import AbandonedError, DeadlineError, UnavailableError
from serving.server.http import monitoring
from serving.server.http.context import Exchange, Server
from serving.server.http.errors import CLIENT_CLOSED, Failure, describe
from serving.server.limits import DRAIN_FACTOR, LINGER

logger = logging.getLogger("serving")
requests_log = logging.getLogger("serving.requests")

HEALTH = (
    "/v2/health/live",
    "/v2/health/ready",
)  # answered without a token, beyond the cap on connections, until the end
PUBLIC = ("/", "/page.css", "/page.js", "/page.svg")  # answered without a token: the page asks for one
SEGMENT_LIMIT = 200  # characters between two slashes of a path
CROWDED = "crowded"  # in a request's state: its connection is beyond the cap
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
        state = scope.setdefault("state", {})
        state["exchange"] = exchange
        more_body = True

        async def read() -> Message:
            nonlocal more_body
            message = await receive()
            more_body = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def respond(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.begin_answer(message["status"])
                if more_body and b"expect" not in headers:
                    with anyio.move_on_after(LINGER if self.server.draining else limits.body_timeout):
                        await drop_body(read, DRAIN_FACTOR * limits.body_limit)
                extra = [(b"x-request-id", exchange.id.encode())]
                if self.server.draining or state.get(CROWDED):
                    extra.append((b"connection", b"close"))
                message["headers"] = [*message["headers"], *extra]
            else:
                exchange.sent += len(message["body"])
            await send(message)

        async def fail(failure: Failure) -> None:
            exchange.error = failure.message
            if exchange.status is None:
                await failure.response()(scope, read, respond)

        self.server.exchanges.add(exchange)
        try:
            with exchange.scope:
                if refusal := self._refuse(scope, headers):
                    await fail(describe(refusal))
                else:
                    await self.app(scope, read, respond)
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
            seconds = time.monotonic() - began
            monitoring.observe(
                self.server, scope["path"], scope.get("path_params", {}).get("name", ""), exchange.status, seconds
            )
            log_request(
                exchange.id,
                scope["method"],
                scope["path"],
                scope.get("client"),
                exchange.status,
                exchange.error,
                seconds=seconds,
                received=exchange.received,
                sent=exchange.sent,
            )

    def _refuse(self, scope: Scope, headers: dict[bytes, bytes]) -> Exception | None:
        if any(len(segment) > SEGMENT_LIMIT for segment in scope["path"].split("/")):
            return HTTPException(414, f"a name in the path has more than {SEGMENT_LIMIT} characters")
        if scope["path"] in HEALTH:
            return None
        given = headers.get(b"authorization", b"")
        # CORS asks without a token first: what it is told says nothing of the models.
        public = scope["method"] == "OPTIONS" or scope["path"] in PUBLIC
        if self._token and not public and not compare_digest(given, self._token):
            return HTTPException(401, "give the token: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        if scope["state"].get(CROWDED):
            return UnavailableError("there are too many connections: only health is answered on another")
        if self.server.draining:
            return UnavailableError("the server is about to stop: ask again, or another")
        return None


async def drop_body(receive: Receive, limit: int) -> None:
    """Read what is left of a body: a client that sends everything before it reads would not see the answer."""
    size = 0
    while size < limit and (message := await receive()).get("more_body"):
        size += len(message["body"])


def choose_id(given: bytes | None) -> str:
    """The client's own X-Request-Id where it is one that a log can hold, else a new one."""
    text = (given or b"").decode("latin-1")
    return text if _ID.fullmatch(text) else uuid.uuid4().hex


def log_request(
    id_: str,
    method: str,
    path: str,
    client: tuple[str, int] | None,
    status: int | None,
    error: str = "",
    *,
    seconds: float = 0.0,
    received: int = 0,
    sent: int = 0,
) -> None:
    """One line of JSON, where the log is on; no method and path where no head could be read."""
    if requests_log.isEnabledFor(logging.INFO):
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "id": id_,
            "client": client[0] if client else None,
            "method": to_line(method, SEGMENT_LIMIT),
            "path": to_line(path, SEGMENT_LIMIT),
            "status": status,
            "seconds": round(seconds, 6),
            "received": received,
            "sent": sent,
            "error": error,
        }
        requests_log.info("%s", msgspec.json.encode(line).decode())
