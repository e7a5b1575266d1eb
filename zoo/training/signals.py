"""Signals that ask a run to stop."""

import signal
import threading
from types import FrameType
from typing import Any, Self

STOPPING = (signal.SIGTERM, signal.SIGINT)


class SignalHandler:
    """Within it, the first SIGTERM or SIGINT only sets `signal_number`; a second one ends the process.

    Python gives signals to the main thread alone: elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.ask) for number in STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def ask(self, number: int, frame: FrameType | None) -> None:
        """The handler of the first signal."""
        self.signal_number = number
        for each in STOPPING:
            signal.signal(each, signal.SIG_DFL)
