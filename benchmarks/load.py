"""An open-loop load generator: requests are sent when their time has come, however many wait for their answers.

The times are drawn beforehand, and a latency counts from the time that a request was meant to be sent: a server that
stalls, or a generator that is late, makes all of them longer that come meanwhile.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

CONNECTIONS = 256  # requests in flight at most; more wait, and their time counts
GRACE = 5.0  # seconds that the last requests have for their answers
END_OF_HEAD = b"\r\n\r\n"


def arrival_times(rate: float, seconds: float, seed: int) -> np.ndarray:
    """The times of a Poisson process in [0, seconds), ascending; `rate` is of its arrivals a second."""
    expected = rate * seconds
    drawn = int(expected + 10 * math.sqrt(expected) + 10)  # the sum of fewer gaps is hardly ever below `seconds`
    times = np.cumsum(np.random.Generator(np.random.Philox(seed)).exponential(1 / rate, drawn))
    if times[-1] < seconds:
        raise ValueError(f"seed={seed}: {drawn} gaps do not fill {seconds} seconds; choose another seed")
    return times[times < seconds]


def latency_quantile(latencies: Sequence[float], failed: int, share: float) -> float:
    """The smallest latency that at least `share` of all requests kept; one that failed kept none (infinity).

    Raises:
        ValueError: there was no request.
    """
    count = len(latencies) + failed
    if not count:
        raise ValueError("no request was sent: choose a higher rate or a longer window")
    rank = max(1, math.ceil(share * count))
    return sorted(latencies)[rank - 1] if rank <= len(latencies) else math.inf


@dataclass
class Sent:
    """What became of a schedule."""

    latencies: list[float] = field(default_factory=list)
    """Of the requests that were answered with 200, in seconds."""
    failed: int = 0
    """Refused, or not answered in time."""
    seconds: float = 0.0
    """From the first arrival's time to the last answer, at least the window."""


class _Client(asyncio.Protocol):
    """One connection: a request at a time."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.size = -1  # of head and body, once the head is there

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """(status, body) of the answer; ConnectionError where the connection ends before it."""
        self.answer = asyncio.get_running_loop().create_future()
        self.buffer.clear()
        self.size = -1
        self.transport.write(request)  # type: ignore[attr-defined]
        return await self.answer

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.size < 0:
            end = self.buffer.find(END_OF_HEAD)
            if end < 0:
                return
            lines = bytes(self.buffer[:end]).lower().split(b"\r\n")
            length = next((line[15:] for line in lines if line.startswith(b"content-length:")), b"0")
            self.size = end + len(END_OF_HEAD) + int(length)
            self.body = end + len(END_OF_HEAD)
        if len(self.buffer) >= self.size and self.answer and not self.answer.done():
            self.answer.set_result((int(self.buffer[9:12]), bytes(self.buffer[self.body : self.size])))

    def connection_lost(self, error: Exception | None) -> None:
        if self.answer and not self.answer.done():
            self.answer.set_exception(ConnectionError("the connection ended before its answer"))


class Pool:
    """Connections to a server that are kept; the last that became free is taken first."""

    def __init__(self, port: int) -> None:
        self._port, self._free = port, list[_Client]()
        self._slots = asyncio.Semaphore(CONNECTIONS)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """(status, body) of the answer; OSError where there is none."""
        async with self._slots:
            while self._free:
                client = self._free.pop()
                if not client.transport.is_closing():  # type: ignore[attr-defined]
                    break
            else:
                loop = asyncio.get_running_loop()
                _, client = await loop.create_connection(_Client, "127.0.0.1", self._port)
            try:
                answer = await client.ask(request)
            except BaseException:
                client.transport.abort()  # type: ignore[attr-defined]
                raise
            self._free.append(client)
            return answer

    def close(self) -> None:
        """End the connections."""
        for client in self._free:
            client.transport.close()  # type: ignore[attr-defined]


async def send_all(port: int, requests: Sequence[bytes], times: np.ndarray, seconds: float) -> Sent:
    """Send requests in turn, each at its time; what is not answered some seconds after the window has failed."""
    sent, pool, loop = Sent(), Pool(port), asyncio.get_running_loop()
    begin = loop.time() + 0.05

    async def send(number: int, due: float) -> None:
        try:
            status, _ = await pool.ask(requests[number % len(requests)])
        except OSError:
            status = 0
        if status == 200:
            sent.latencies.append(loop.time() - due)
        else:
            sent.failed += 1

    tasks = []
    for number, due in enumerate((begin + times).tolist()):
        if (wait := due - loop.time()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(send(number, due)))
    rest = max(0.0, begin + seconds - loop.time())
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=rest + GRACE)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        sent.failed += len(late)
    sent.seconds = max(seconds, loop.time() - begin)
    pool.close()
    return sent
