"""Open the models, listen, answer until SIGINT or SIGTERM."""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from serving.server.batching import BatchingOptions, sizes_up_to
from serving.server.http.app import create_app
from serving.server.http.connection import Connection
from serving.server.http.context import Server
from serving.server.http.exchange import requests_log
from serving.server.limits import LINGER, Limits
from serving.server.repository import Repository

if TYPE_CHECKING:
    from serving.server.grpc.service import GrpcServer

SWEEP = 0.25  # seconds between two looks at all connections


class _Server(uvicorn.Server):
    """uvicorn, which says one line of ours once it answers, looks after its connections, and drains before it stops."""

    def __init__(
        self, config: uvicorn.Config, server: Server, ready_line: str, grpc_server: "GrpcServer | None" = None
    ) -> None:
        super().__init__(config)
        self._server, self._ready_line, self._grpc_server = server, ready_line, grpc_server

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._sweeper = asyncio.create_task(self._sweep())
        print(self._ready_line, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is in hand, refuse what comes; what is not done by the deadline is refused as well."""
        server = self._server
        server.draining = True
        deadline = time.monotonic() + server.limits.drain
        drained = self._grpc_server.drain(server.limits.drain) if self._grpc_server else None
        while (
            (server.exchanges or (drained and not drained.done()))
            and time.monotonic() < deadline
            and not self.force_exit
        ):
            await asyncio.sleep(0.05)
        server.stop()
        if self._grpc_server:
            self._grpc_server.stop(0)
        asyncio.get_running_loop().call_later(LINGER, self._abort)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second one ends that."""
        self.force_exit = self.should_exit
        super().handle_exit(sig, frame)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            for connection in list(self.server_state.connections):
                assert isinstance(connection, Connection)
                connection.check(time.monotonic())

    def _abort(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def serve(
    models: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    threads: int | None = None,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    token: str | None = None,
    cors_origins: Sequence[str] = (),
    log_requests: bool = False,
    grpc_port: int | None = None,
    names: Sequence[str] = (),
    watch: bool = False,
    unload_after: float | None = None,
    require_gpu: bool = False,
    batch_delay: float = 0.0,
    batch_rows: int = BatchingOptions.buckets[-1],
) -> None:
    """Serve a directory of models over HTTP, and gRPC; exits with 0 on SIGINT or SIGTERM, requests in hand answered.

    Args:
        models: one subdirectory with a card.json for each model.
        host: the address to listen on; 127.0.0.1 is reached from this machine alone.
        port: the TCP port; 0 takes a free one, named in the line printed when ready.
        threads: CPU threads of one model's run; ONNX Runtime's choice when not given.
        limits: what it takes of clients.
        token, cors_origins: as in `create_app`.
        log_requests: whether each request is one line of JSON on standard error.
        grpc_port: the port for gRPC at the same address; 0 takes a free one, named in a second line; none when None.
        names, watch, unload_after, require_gpu: as in `Repository`.
        batch_delay: `BatchingOptions.delay`.
        batch_rows: the most rows of a batch; 1 to run each by itself.

    Raises:
        OSError: the address is taken or not this machine's.
        CardError, ModelFileError, ProviderError: as in `Repository`.
    """
    # uvicorn stops in good order and then raises the signal again, which by default would end in a traceback or -15.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _exit)
    if log_requests:
        requests_log.addHandler(logging.StreamHandler())
        requests_log.setLevel(logging.INFO)
        requests_log.propagate = False
    with _listen(host, port) as listener:
        batching = BatchingOptions(
            delay=batch_delay,
            buckets=sizes_up_to(batch_rows),
            request_rows=limits.rows,
            queue_rows=max(limits.rows, BatchingOptions.queue_rows),
        )
        repository = Repository(
            models,
            threads=threads,
            names=names,
            watch=watch,
            unload_after=unload_after,
            require_gpu=require_gpu,
            batching=batching,
        )
        app = create_app(repository, limits=limits, token=token, cors_origins=cors_origins)
        config = uvicorn.Config(
            app,
            http=partial(Connection, limits=limits),  # type: ignore[arg-type]
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=limits.idle_timeout,  # type: ignore[arg-type]
        )
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        ready_line = f"serving on {address}: {', '.join(repository.names())}"
        server = app.state.server
        grpc_server = None
        if grpc_port is not None:
            from serving.server.grpc.service import GrpcServer  # 0.3 seconds of a start, for those who ask

            grpc_server = GrpcServer(repository, limits=limits, host=host, port=grpc_port, token=token)
            grpc_server.start()
            ready_line += f"\nserving gRPC on {host}:{grpc_server.port}"
        try:
            _Server(config, server, ready_line, grpc_server).run(sockets=[listener])
        except SystemExit as end:
            if server.running or (
                grpc_server and grpc_server.running
            ):  # nobody waits for these threads, which nothing can end
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(int(end.code or 0))
            raise
        finally:
            repository.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or --host") from error
    # Connections inherit it. Without it, from a connection's second request on, the body of an answer waits for the
    # client to acknowledge its head, 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
