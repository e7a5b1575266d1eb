"""What a server takes of a client, and for how long; each field is an option of `python -m serving`."""

from dataclasses import dataclass, field, fields
from typing import Any

BODY_LIMIT = 16 * 2**20  # bytes
ROW_LIMIT = 256  # rows of a batch, or images

# What follows a refused request is read on and dropped up to so many times the largest body: a client that sends
# everything before it reads would not see the answer if the connection were closed at once.
DRAIN_FACTOR = 4
LINGER = 5.0  # seconds that a client has to read its answer when the connection, or the server, is about to end
RETRY_AFTER = 1.0  # seconds after which a client may ask a busy server again


def _limit(default: float, help_: str, low: float, high: float) -> Any:
    return field(default=default, metadata={"help": help_, "low": low, "high": high})


@dataclass(frozen=True)
class Limits:
    """What a server takes of its clients: sizes in bytes, times in seconds.

    Raises:
        ValueError: a limit is not in its range.
    """

    body_limit: int = _limit(BODY_LIMIT, "bytes of a request's body, unpacked", 1024, 2**31)
    body_budget: int = _limit(16 * BODY_LIMIT, "bytes of all bodies and answers in hand", 1024, 2**40)
    answer_limit: int = _limit(2**28, "bytes of an answer", 1024, 2**31)
    rows: int = _limit(ROW_LIMIT, "rows, or images, of a request", 1, 2**20)
    connections: int = _limit(512, "open connections; beyond them only health is answered", 1, 2**16)
    workers: int = _limit(64, "requests at work at once, each on a thread", 1, 1024)
    queue: int = _limit(256, "requests that wait for a thread; more are refused", 0, 2**20)
    deadline: float = _limit(60.0, "seconds from a request's head to its answer", 0.01, 86400)
    head_timeout: float = _limit(10.0, "seconds for the head of a request", 0.01, 86400)
    body_timeout: float = _limit(30.0, "seconds for the body of a request", 0.01, 86400)
    answer_timeout: float = _limit(60.0, "seconds for a client to read its answer", 0.01, 86400)
    idle_timeout: float = _limit(60.0, "seconds that a connection may be idle between requests", 0.01, 86400)
    drain: float = _limit(20.0, "seconds for the requests in hand when told to stop", 0, 86400)

    def __post_init__(self) -> None:
        for each in fields(self):
            low, high = each.metadata["low"], each.metadata["high"]
            if not low <= (value := getattr(self, each.name)) <= high:
                raise ValueError(f"{each.name}={value!r}: give {low} to {high}")
