"""The real server in a process of its own, and what a client sends it byte by byte."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
# The server with runs of graphs that last as long as wanted, and each a line in a file, once the file is there.
SLOW = """
import os, sys, time
from serving.session import Session
from serving.__main__ import main
seconds, file, run = float(sys.argv.pop(1)), sys.argv.pop(1), Session.run
def slow(self, *args, **options):
    if os.path.exists(file):
        with open(file, "a") as runs:
            runs.write("run\\n")
        time.sleep(seconds)
    return run(self, *args, **options)
Session.run = slow
sys.exit(main(sys.argv[1:]))
"""


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class RunningServer:
    process: subprocess.Popen
    port: int
    grpc_port: int = 0
    log: list[str] = field(default_factory=list)

    def connect(self, timeout: float = 30) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def send(self, *pieces: bytes, timeout: float = 30) -> Answer:
        """Send bytes as they are, and read one answer."""
        with self.connect(timeout) as client:
            for piece in pieces:
                try:
                    client.sendall(piece)
                except OSError:
                    break  # refused before it was all sent: there may be an answer
            return read_answer(client)

    def ask(self, method: str, path: str, content: bytes = b"", **headers: str) -> Answer:
        """One request, whole."""
        return self.send(encode_request(method, path, content, **headers))

    def infer(self, content: object, **headers: str) -> Answer:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.ask("POST", "/v2/models/tanh-model/infer", body, **headers)

    def memory(self, kind: str = "VmRSS") -> int:
        """Bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{kind}:\s+(\d+) kB", status)[1]) * 1024


def encode_request(method: str, path: str, content: bytes = b"", **headers: str) -> bytes:
    given = {"Host": "localhost", "Content-Length": str(len(content)), "Connection": "close"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + content


def read_answer(client: socket.socket, method: str = "POST") -> Answer:
    response = http.client.HTTPResponse(client, method=method)
    response.begin()
    return Answer(response.status, response.headers, response.read())


@pytest.fixture(scope="module")
def start(shared_models: Path) -> Iterator[Callable[..., RunningServer]]:
    """Start servers with options; `slow` is (seconds of each run of a graph, a file with a line for each)."""
    servers: list[RunningServer] = []

    def start(*options: object, slow: tuple[float, Path] | None = None, models: Path = shared_models) -> RunningServer:
        program = ["-m", "serving"] if slow is None else ["-c", SLOW, *map(str, slow)]
        command = [sys.executable, *program, "--models", str(models), "--port", "0", "--threads", "1"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [*command, *map(str, options)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        ready = process.stdout.readline()
        found = re.match(r"serving on http://127\.0\.0\.1:(\d+): ", ready)
        assert found, process.stderr.read()
        server = RunningServer(process, int(found[1]))
        if "--grpc-port" in options:
            server.grpc_port = int(process.stdout.readline().rpartition(":")[2])
        threading.Thread(target=lambda: server.log.extend(process.stderr), daemon=True).start()
        servers.append(server)
        if slow is not None:
            slow[1].touch()
        return server

    yield start
    for server in servers:
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
