"""The Open Inference Protocol, version 2, over gRPC: inference.GRPCInferenceService, health and reflection.

The event loop of this server has a thread of its own: neither a slow model nor HTTP keeps health waiting. A model runs
on a pool of threads; the deadline is the caller's, or the server's where that is shorter, and what a caller has
cancelled is not run any more. Compressed messages are refused, since gRPC unpacks them whole before it looks at their
size.
"""

import asyncio
import hmac
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from serving.card import to_line
from serving.server.errors import AbandonedError, DeadlineError, QueueFullError, UnavailableError, UnknownModelError
from serving.server.grpc import messages
from serving.server.grpc.inference_pb2 import DESCRIPTOR
from serving.server.limits import RETRY_AFTER, Limits
from serving.server.repository import Repository
from serving.session import InputError, ModelFileError

logger = logging.getLogger("serving")

SERVICE = DESCRIPTOR.services_by_name["GRPCInferenceService"]
HEALTH_INTERVAL = 1.0  # seconds between two looks at the models for those who watch
CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (UnknownModelError, grpc.StatusCode.NOT_FOUND),
    (InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (FloatingPointError, grpc.StatusCode.INVALID_ARGUMENT),
    (QueueFullError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (DeadlineError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (TimeoutError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (AbandonedError, grpc.StatusCode.CANCELLED),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (ModelFileError, grpc.StatusCode.FAILED_PRECONDITION),
)


class GrpcServer:
    """Listens from `start` to `stop`, on an event loop and a thread of its own.

    Attributes: port, the one that it listens on, once it has started.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        limits: Limits,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
    ) -> None:
        """Nothing listens yet.

        Args:
            repository: of the models.
            host: the address to listen on; 127.0.0.1 is reached from this machine alone.
            port: 0 takes a free one.
            limits: of a request.
            token: what a caller sends as the metadata "authorization: Bearer TOKEN"; None for no such thing. Health
                answers without it.
        """
        self._repository, self._limits, self._token = repository, limits, token
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="grpc", daemon=True)
        self._pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="grpc-call")
        self._work: set[Future[bytes]] = set()
        self.port = 0

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or not this machine's.
        """
        self._thread.start()
        try:
            self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        except RuntimeError as error:
            self.stop(0)
            raise OSError(f"cannot listen on {self._address} for gRPC: choose another port or host") from error

    def drain(self, seconds: float) -> Future[None]:
        """Take no call any more, and cancel those in hand after so long; done when there are none."""
        return asyncio.run_coroutine_threadsafe(self._server.stop(seconds), self._loop)

    def stop(self, seconds: float) -> None:
        """Drain, then end for good."""
        self.drain(seconds).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def running(self) -> int:
        """Calls at work on a thread, those that nobody waits for any more among them."""
        return len(self._work)

    async def _start(self) -> int:
        limits = self._limits
        options = {
            "grpc.max_receive_message_length": limits.body_limit,
            "grpc.max_send_message_length": -1,  # the rows of a request are limited
            "grpc.max_metadata_size": 16 * 1024,
            "grpc.max_allowed_incoming_connections": limits.connections,  # one more is closed at once
            "grpc.max_concurrent_streams": 100,  # of one connection
            "grpc.server_handshake_timeout_ms": int(1000 * limits.head_timeout),
            "grpc.keepalive_time_ms": 60_000,
            "grpc.keepalive_timeout_ms": 20_000,
            "grpc.max_connection_idle_ms": int(1000 * limits.idle_timeout),
            "grpc.so_reuseport": 0,  # a second server on the port is refused, not fed every other connection
            "grpc.compression_enabled_algorithms_bitset": 1,  # identity alone
        }
        self._server = grpc.aio.server(
            options=list(options.items()),
            interceptors=[_Authorization(self._token)] if self._token else [],
            # Of any kind. Inferences have a cap of their own below it, and each connection may watch or ask for health.
            maximum_concurrent_rpcs=limits.workers + limits.queue + limits.connections,
        )
        self._reading = asyncio.Semaphore(max(1, limits.body_budget // limits.body_limit))
        handlers = {name: grpc.stream_unary_rpc_method_handler(self._make_handler(name)) for name in messages.METHODS}
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)])
        health_pb2_grpc.add_HealthServicer_to_server(_Health(self._repository), self._server)
        names = [SERVICE.full_name, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name]
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self._server)
        port = self._server.add_insecure_port(self._address)
        await self._server.start()
        return int(port)

    def _make_handler(self, name: str) -> Callable[..., Awaitable[bytes]]:
        # On the wire one message and a stream of one are the same. As a stream it is ours to read, within a time: calls
        # that are sent in half hold nothing for long.
        kind = GetMessageClass(SERVICE.methods_by_name[name].input_type)
        answer = messages.METHODS[name]

        async def handle(_stream: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
            abandoned, began = threading.Event(), time.monotonic()
            seconds = min(context.time_remaining() or math.inf, self._limits.deadline)
            call, code = messages.Call(began + seconds, abandoned.is_set), grpc.StatusCode.CANCELLED
            try:
                async with asyncio.timeout(seconds):
                    body = await self._read(context)
                    if name in ("ServerLive", "ServerReady"):  # answered at once, however much waits
                        return _answer(answer, self._repository, kind, body, call)
                    found = await self._call(_answer, answer, self._repository, kind, body, call)
                code = grpc.StatusCode.OK
                return found
            except Exception as error:
                code = next((code for kind_, code in CODES if isinstance(error, kind_)), grpc.StatusCode.INTERNAL)
                failure = error
            finally:
                abandoned.set()
                if name == "ModelInfer":
                    seconds = time.monotonic() - began
                    self._repository.metrics.observe_request("grpc", call.model, call.ability, code.name, seconds)
            return await _refuse(context, name, code, failure)

        return handle

    async def _read(self, context: grpc.aio.ServicerContext) -> bytes:
        async with self._reading, asyncio.timeout(self._limits.body_timeout):
            body = await context.read()
        if body is grpc.aio.EOF:
            raise InputError("the call has no message")
        return body

    async def _call(self, function: Callable[..., bytes], *arguments: Any) -> bytes:
        if self.running >= self._limits.workers + self._limits.queue:
            raise QueueFullError(f"{self.running} calls are at work already", RETRY_AFTER)
        work = self._pool.submit(function, *arguments)
        self._work.add(work)
        work.add_done_callback(self._work.discard)
        return await asyncio.wrap_future(work)


def _answer(answer: Any, repository: Any, kind: type[Message], body: bytes, call: messages.Call) -> bytes:
    try:
        request = kind.FromString(body)
    except DecodeError as error:
        raise InputError(f"the message is no {kind.DESCRIPTOR.full_name}") from error
    return answer(repository, request, call).SerializeToString()


async def _refuse(context: grpc.aio.ServicerContext, name: str, code: grpc.StatusCode, error: Exception) -> Any:
    """End a call with the error's code and one line."""
    message, metadata = to_line(str(error)), list[tuple[str, str]]()
    if code is grpc.StatusCode.INTERNAL:
        logger.error("%s failed", name, exc_info=error)
        message = "the server failed; its log says why"
    elif isinstance(error, ModelFileError):
        logger.warning("%s: %s", name, error)  # names a file of this machine, so the client gets none of it
        message = "the model's graph fails on these inputs; the server's log says why"
    elif isinstance(error, TimeoutError):
        message = message or "the call's time was over before its answer"
    elif isinstance(error, QueueFullError):
        metadata = [("grpc-retry-pushback-ms", str(math.ceil(1000 * error.retry_after)))]
    await context.abort(code, message, tuple(metadata))


class _Health(health_pb2_grpc.HealthServicer):
    """grpc.health.v1.Health: the server, by the names "" and the service's own, serves once its models do."""

    def __init__(self, repository: Any) -> None:
        self._repository = repository

    def _look(self, service: str) -> Any:
        statuses = health_pb2.HealthCheckResponse
        if service not in ("", SERVICE.full_name):
            return statuses.SERVICE_UNKNOWN
        return statuses.SERVING if self._repository.ready() else statuses.NOT_SERVING

    async def Check(self, request: Any, context: grpc.aio.ServicerContext) -> Message:  # noqa: N802
        status = self._look(request.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            good = ["", SERVICE.full_name]
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no such service: choose from {good}")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: Any, context: grpc.aio.ServicerContext) -> None:  # noqa: N802
        last = None
        while True:
            if (status := self._look(request.service)) != last:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                last = status
            await asyncio.sleep(HEALTH_INTERVAL)


class _Authorization(grpc.aio.ServerInterceptor):
    """Refuses calls without the token, but for those of health."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()
        self._refusal = grpc.unary_unary_rpc_method_handler(self._refuse)

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        open_to_all = details.method.startswith("/grpc.health.v1.Health/")
        given = dict(details.invocation_metadata).get("authorization", "")
        if open_to_all or hmac.compare_digest(str(given).encode(), self._expected):
            return await continuation(details)
        return self._refusal

    @staticmethod
    async def _refuse(_request: Any, context: grpc.aio.ServicerContext) -> None:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "send the metadata authorization: Bearer TOKEN")
