"""What the routes of every protocol share: models, limits, bodies, threads, and one record for each request in hand."""

import asyncio
import math
import time
import zlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import anyio
import msgspec
from anyio.to_thread import run_sync
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.server.errors import AbandonedError, QueueFullError, UnavailableError
from serving.server.limits import RETRY_AFTER, Limits
from serving.server.repository import Repository

Result = TypeVar("Result")
PIECE = 2**16  # bytes of an answer that are handed on at once
UNPACKED_PIECE = 2**20  # bytes that one step of unpacking gives at most
FREE_ANSWER = 2**16  # an answer of so few bytes needs no place in the budget: errors must go out


class Exchange:
    """A request in hand, from its head to the end of its answer.

    Attributes: id; deadline, of time.monotonic(); status, of the answer, None until it begins; sent and received,
    bytes of bodies; reason, why it was given up, if it was; error, what the client was told.
    """

    def __init__(self, id_: str, seconds: float, budget: "Budget") -> None:
        self.id, self.deadline, self._budget = id_, time.monotonic() + seconds, budget
        self.scope = anyio.CancelScope(deadline=anyio.current_time() + seconds)
        self.status: int | None = None
        self.reason: Exception | None = None
        self.error = ""
        self.sent = self.received = self._reserved = 0
        self._holders = 1

    def is_over(self) -> bool:
        """Whether nobody waits for the result any more; threads may ask."""
        return self.scope.cancel_called

    def give_up(self, reason: Exception) -> None:
        """End the work on a request whose answer has not begun: the client is told the reason, if it still listens."""
        if self.status is None and not self.is_over():
            self.reason = reason
            self.scope.cancel()

    def begin_answer(self, status: int) -> None:
        """From here on nothing ends the request: an answer is whole."""
        self.status = status
        self.scope.deadline = math.inf

    def reserve(self, size: int) -> None:
        """Count bytes against the budget until the request is done; QueueFullError where they would exceed it."""
        self._budget.take(size)
        self._reserved += size

    def hold(self) -> None:
        """One more needs what was reserved: a thread works on until it is done, whether the client waits or not."""
        self._holders += 1

    def release(self) -> None:
        """The request, or a thread, is done with what was reserved."""
        self._holders -= 1
        if not self._holders:
            self._budget.give_back(self._reserved)
            self._reserved = 0

    async def watch(self, receive: Receive) -> None:
        """Give the request up when the client leaves."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.give_up(AbandonedError("the client went away"))


class Budget:
    """Bytes that all requests together may hold; the event loop alone counts."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0

    def take(self, size: int) -> None:
        """Count bytes; QueueFullError, and none counted, where there would be too many."""
        if self.used + size > self.limit:
            raise QueueFullError("the requests in hand fill the memory that this server gives them", RETRY_AFTER)
        self.used += size

    def give_back(self, size: int) -> None:
        """These are free again."""
        self.used -= size


class Server:
    """What a route has at hand.

    Attributes: repository; limits; budget; exchanges, the requests in hand; draining, whether it is about to stop.
    """

    def __init__(self, repository: Repository, limits: Limits) -> None:
        self.repository, self.limits = repository, limits
        self.budget = Budget(limits.body_budget)
        self.exchanges: set[Exchange] = set()
        self.draining = False
        self.running = self._waiting = 0
        self._threads = ThreadPoolExecutor(limits.workers, "serving")
        self._slots = asyncio.Semaphore(limits.workers)

    async def read_body(self, request: Request) -> bytes:
        """The body of a request, unpacked where it is gzip.

        Raises:
            HTTPException: 413 where it is too large, 415 packed otherwise, 400 broken, 408 too slow.
            QueueFullError: the bodies in hand fill the budget.
        """
        limit = self.limits.body_limit
        packing = request.headers.get("content-encoding", "").strip().lower()
        if packing not in ("", "identity", "gzip"):
            raise HTTPException(415, "a body comes as it is, or gzip", {"Accept-Encoding": "gzip"})
        too_large = HTTPException(413, f"the body is larger than {limit} bytes: send fewer rows in one request")
        if int(request.headers.get("content-length", 0)) > limit:
            raise too_large
        exchange: Exchange = request.state.exchange
        chunks = _count(request.stream(), exchange, limit, too_large)
        body, size = [], 0
        try:
            with anyio.fail_after(self.limits.body_timeout):
                async for chunk in _unpack(chunks) if packing == "gzip" else chunks:
                    if (size := size + len(chunk)) > limit:
                        raise too_large
                    exchange.reserve(len(chunk))
                    body.append(chunk)
        except TimeoutError:
            raise HTTPException(408, f"the body took more than {self.limits.body_timeout:g} seconds") from None
        return b"".join(body)

    async def call(self, request: Request, function: Callable[..., Result], *args: Any) -> Result:
        """function(*args, deadline=..., abandoned=...) on a thread; given up when the client leaves or time is over.

        Args:
            request: whose answer waits for the result.
            function: blocks; `deadline` is of time.monotonic(), `abandoned()` says whether nobody waits any more.
            *args: its arguments.

        Raises:
            QueueFullError: too many requests wait for a thread.
            Exception: what the function raises.
        """
        if self._waiting >= self.limits.queue and self._slots.locked():
            raise QueueFullError(f"{self._waiting} requests wait already", RETRY_AFTER)
        exchange: Exchange = request.state.exchange
        watcher = asyncio.create_task(exchange.watch(request.receive))
        try:
            self._waiting += 1
            try:
                await self._slots.acquire()
            finally:
                self._waiting -= 1
            return await asyncio.wrap_future(self._start(exchange, function, args))
        finally:
            watcher.cancel()

    def _start(self, exchange: Exchange, function: Callable[..., Result], args: tuple[Any, ...]) -> Future[Result]:
        loop = asyncio.get_running_loop()

        def finish() -> None:
            self.running -= 1
            self._slots.release()
            exchange.release()

        def finished(_: Future[Result]) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(finish)

        self.running += 1
        exchange.hold()
        work = self._threads.submit(function, *args, deadline=exchange.deadline, abandoned=exchange.is_over)
        work.add_done_callback(finished)
        return work

    def json(self, content: Any, status: int = 200) -> Response:
        """An answer in JSON, of plain data."""
        return self.answer(msgspec.json.encode(content), status=status)

    def answer(self, body: bytes, media_type: str = "application/json", status: int = 200) -> Response:
        """An answer of bytes."""
        return _Answer(body, status, media_type=media_type)

    def stop(self) -> None:
        """Answer what is still in hand with a 503."""
        for exchange in list(self.exchanges):
            exchange.give_up(UnavailableError("the server is about to stop: ask again, or another"))


class _Answer(Response):
    """A body that counts against the budget until it is sent, piece by piece as the client reads."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self.body) > FREE_ANSWER:
            scope["state"]["exchange"].reserve(len(self.body))
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        view = memoryview(self.body)
        for start in range(0, max(1, len(view)), PIECE):
            more = start + PIECE < len(view)
            await send({"type": "http.response.body", "body": view[start : start + PIECE], "more_body": more})


async def _count(
    chunks: AsyncIterator[bytes], exchange: Exchange, limit: int, too_large: HTTPException
) -> AsyncIterator[bytes]:
    """The chunks, as many as the limit lets pass."""
    async for chunk in chunks:
        exchange.received += len(chunk)
        if exchange.received > limit:
            raise too_large
        yield chunk


async def _unpack(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """gzip -> bytes, in pieces of bounded size; HTTPException 400 where it is broken, cut short or followed by more."""
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        async for chunk in chunks:
            while chunk and not unpacker.eof:
                yield await run_sync(unpacker.decompress, chunk, UNPACKED_PIECE)
                chunk = unpacker.unconsumed_tail
            if unpacker.eof and (chunk or unpacker.unused_data):
                raise HTTPException(400, "the body has more after its gzip stream")
    except zlib.error:
        raise HTTPException(400, "the body is said to be gzip, but it is not") from None
    if not unpacker.eof:
        raise HTTPException(400, "the gzip stream of the body ends too early")
