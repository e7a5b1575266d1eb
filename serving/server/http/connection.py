"""What stands between a socket and the application: uvicorn's protocol on h11, made to end what does not end itself.

Heads and answers have their time, connections a cap, and what is no HTTP is answered in JSON, like any other error. A
sweep looks at every connection now and then: see `Connection.check`. Bodies have theirs in `Server.read_body`.
"""

import asyncio
import sys
import time
import uuid
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from serving.server.http.errors import Failure, shorten
from serving.server.http.exchange import CROWDED, log_request
from serving.server.limits import DRAIN_FACTOR, LINGER, Limits

HEAD_LIMIT = 2**14  # bytes
RESERVE = 16  # connections beyond the cap, of which health is answered
VERSIONS = (b"1.0", b"1.1")
# A chunk of a body costs as much as kilobytes of one do: beyond so many bytes, framing must be the smaller part.
FRAMING_ALLOWED = 2**16


class _Parser(h11.Connection):
    """h11, which also refuses what it lets pass, and counts what a body costs."""

    wire = data = 0  # bytes since the last head: as they came, and those of the body among them

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.wire = self.data = 0
            names = [name for name, _ in event.headers]
            size = (
                len(event.method) + len(event.target) + sum(len(name) + len(value) + 4 for name, value in event.headers)
            )
            if size > HEAD_LIMIT:  # h11 lets a larger one pass that comes all at once
                raise h11.RemoteProtocolError(f"the head is larger than {HEAD_LIMIT} bytes", 431)
            if event.http_version not in VERSIONS:
                raise h11.RemoteProtocolError("only HTTP/1.0 and HTTP/1.1 are spoken here", 505)
            if b"transfer-encoding" in names and b"content-length" in names:
                raise h11.RemoteProtocolError("Content-Length and Transfer-Encoding exclude each other", 400)
        elif isinstance(event, h11.Data):
            self.data += len(event.data)
            if self.wire > FRAMING_ALLOWED + 2 * self.data:
                raise h11.RemoteProtocolError("the chunks of the body are too small", 400)
        return event


class Connection(H11Protocol):
    """One client's connection."""

    conn: _Parser

    def __init__(self, *args: Any, limits: Limits, **options: Any) -> None:
        super().__init__(*args, **options)
        self.limits = limits
        self.conn = _Parser(h11.SERVER, HEAD_LIMIT)
        self._since = time.monotonic()  # it waits for a head, or for its first byte, since then
        self._begun = False  # a part of the next head is there
        self._first = True  # no head came yet
        self._unread_since: float | None = None
        self._ends_at: float | None = None  # when it is closed, whatever it still waits for
        self._dropped: int | None = None  # bytes that came after the last answer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection; beyond the cap the one longest idle goes, or of this one only health is answered."""
        super().connection_made(transport)
        others = [one for one in self.connections if isinstance(one, Connection) and one is not self]
        if len(others) < self.limits.connections:
            return
        if idle := [one for one in others if one.is_idle()]:
            min(idle, key=lambda one: one._since).transport.abort()
        elif len(others) < self.limits.connections + RESERVE:
            self.app = _only_health(self.app)
        else:
            transport.abort()

    def is_idle(self) -> bool:
        """Whether it has no request in hand, and its client has read every answer."""
        busy = self.cycle is not None and not self.cycle.response_complete
        return not busy and not self.transport.get_write_buffer_size()

    def data_received(self, data: bytes) -> None:
        """Parse what comes, or drop it after the last answer."""
        if self._dropped is not None:
            self._dropped += len(data)
            if self._dropped > DRAIN_FACTOR * self.limits.body_limit:
                self.transport.abort()
            return
        if not self._begun and self.is_idle():
            self._begun, self._since = True, time.monotonic()
        self.conn.wire += len(data)
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Wait for the next head."""
        self._begun, self._since, self._unread_since = False, time.monotonic(), None
        self._first = False
        super().on_response_complete()
        if self.conn.trailing_data[0]:
            self._begun = True
        if self.conn.their_state is h11.SEND_BODY and self.cycle.response_complete:
            self.transport.close()  # what comes is the rest of a body that nobody reads

    def check(self, now: float) -> None:
        """End what has waited too long; `now` is of time.monotonic()."""
        if self._ends_at is None and self.transport.is_closing():
            self._ends_at = now + (self.limits.answer_timeout if self.transport.get_write_buffer_size() else LINGER)
        if self._ends_at is not None:
            if now > self._ends_at:
                self.transport.abort()
            return
        if not self.transport.get_write_buffer_size():
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        elif now - self._unread_since > self.limits.answer_timeout:
            self.transport.abort()
        if self.is_idle() and now - self._since > self.limits.head_timeout:
            if self._begun:
                self._refuse(Failure(408, f"the head took more than {self.limits.head_timeout:g} seconds"))
            elif self._first:  # between requests uvicorn closes it
                self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn does with bytes that are no HTTP: answered in JSON, with h11's reason."""
        error = sys.exc_info()[1]
        status = getattr(error, "error_status_hint", 400)
        self._refuse(Failure(status, shorten(f"this is no HTTP request: {error or msg}")))

    def _refuse(self, failure: Failure) -> None:
        """Answer, and listen no more; an answer that has begun is ended first."""
        if self.conn.our_state is h11.SEND_BODY:
            self._dropped, self.cycle.keep_alive = 0, False
            return
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        self._dropped, self._ends_at = 0, time.monotonic() + LINGER
        if self.cycle is not None and not self.cycle.response_complete:  # its answer would be a second one
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._unset_keepalive_if_required()
        body, id_ = failure.body(), uuid.uuid4().hex
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            "X-Request-Id": id_,
        }
        response = h11.Response(
            status_code=failure.status, headers=list(headers.items()), reason=STATUS_PHRASES[failure.status]
        )
        for event in (response, h11.Data(body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        if self.transport.can_write_eof():
            self.transport.write_eof()
        log_request(id_, "", "", self.client, failure.status, failure.message)


def _only_health(app: ASGIApp) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"][CROWDED] = True
        await app(scope, receive, send)

    return answer
