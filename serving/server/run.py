"""Open the models, listen, answer until SIGINT or SIGTERM."""

import signal
import socket
from pathlib import Path
from types import FrameType

import uvicorn

from serving.server.http.app import create_app
from serving.server.repository import Repository


class _Server(uvicorn.Server):
    """uvicorn, which says one line of ours once it answers."""

    ready_line = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self.ready_line, flush=True)


def serve(models: str | Path, *, host: str = "127.0.0.1", port: int = 8000, threads: int | None = None) -> None:
    """Serve a directory of models over HTTP; exits the process with 0 on SIGINT or SIGTERM, requests in hand answered.

    Args:
        models: one subdirectory with a card.json for each model.
        host: the address to listen on; 127.0.0.1 is reached from this machine alone.
        port: the TCP port; 0 takes a free one, named in the line printed when ready.
        threads: CPU threads of one model's run; ONNX Runtime's choice when not given.

    Raises:
        OSError: the address is taken or not this machine's.
        CardError, ModelFileError, ProviderError: as in `create_app`.
    """
    # uvicorn stops in good order and then raises the signal again, which by default would end in a traceback or -15.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _exit)
    with _listen(host, port) as listener:
        app = create_app(repository := Repository(models, threads=threads))
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=30)
        server = _Server(config)
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        server.ready_line = f"serving on {address}: {', '.join(repository.names())}"
        server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or --host") from error


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
