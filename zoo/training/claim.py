"""A process's claim on a run directory: two runs never write in one.

The claim is a file, claim-N.json, created exclusively: its name and not a lock of the operating system, since locks
are unreliable, or silently local, on network disks, and exclusive creation is not. It names the process that holds it.

Whether that process still lives is known at once where it runs, or ran, on this machine: from /proc, with the time it
was started, so that another process of the same number is not taken for it. Elsewhere the file's own age tells: its
holder touches it every `REFRESH` seconds, and after `STALE` seconds without it counts as dead. Ages are differences of
times that the disk itself set, so the machines' clocks do not matter. Who takes over a dead process's claim-N creates
claim-(N+1), which only one can.
"""

import json
import os
import random
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from serving.card import to_line
from zoo.training.run_directory import RunError

REFRESH = 15.0  # seconds between two touches
STALE = 180.0  # seconds; a network disk may show times of a minute ago
POLLING = 1.0  # seconds between two looks at a claim that may be a dead process's
PATTERN = "claim-*.json"


@dataclass(frozen=True)
class Holder:
    """The process behind a claim.

    Args:
        host: its machine's name.
        pid: its number there.
        since: when it claimed, local time in ISO 8601.
        machine: what tells its numbering of processes from others: a start of the operating system, and the process
            namespace in it; "" where the system does not say.
        started: when it was started, in ticks since the start of the operating system; "" where it does not say.
    """

    host: str
    pid: int
    since: str
    machine: str = ""
    started: str = ""

    def __str__(self) -> str:
        return to_line(f"process {self.pid} on {self.host}, since {self.since.replace('T', ' ')}")

    @classmethod
    def this_process(cls) -> "Holder":
        """The one that asks."""
        pid, since = os.getpid(), datetime.now().isoformat(timespec="seconds")
        return cls(socket.gethostname(), pid, since, read_machine(), read_start(pid) or "")

    def is_alive(self) -> bool | None:
        """Whether it runs on this machine; None where that can't be told from here."""
        if not (self.machine and self.started and self.machine == read_machine()):
            return None
        return read_start(self.pid) == self.started


def read_machine() -> str:
    """This start of the operating system and this process namespace, as Linux tells them; "" elsewhere."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def read_start(pid: int) -> str | None:
    """When a process of this machine was started, in the system's ticks; None where it has ended, or is no Linux."""
    try:
        # The name, in parentheses, may hold anything; the state is the first field behind it, the start the 20th.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


def find_claims(directory: Path) -> dict[int, Path]:
    """Number -> file of every claim, the newest last."""
    named = ((path.stem.removeprefix("claim-"), path) for path in directory.glob(PATTERN))
    return dict(sorted((int(number), path) for number, path in named if number.isdecimal()))


def read_holder(path: Path) -> Holder | None:
    """Who holds a claim; None where the file does not say, as while it is written."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Holder)
    except (OSError, ValueError, RecursionError):
        return None


def read_age(path: Path) -> float:
    """Seconds since a claim was touched, by the clock of the disk that it lies on.

    Raises:
        FileNotFoundError: it is gone.
        OSError: the disk can't be written.
    """
    with path.open("rb") as file:  # opening asks a network disk anew, which a look at the name does not
        touched = os.fstat(file.fileno()).st_mtime
    with tempfile.TemporaryFile(dir=path.parent) as now:
        return os.fstat(now.fileno()).st_mtime - touched


def find_live_holder(directory: Path) -> Holder | None:
    """The process on this machine that writes in `directory` now; None where no claim, or only another machine's."""
    holders = (read_holder(path) for path in find_claims(directory).values())
    return next((holder for holder in holders if holder and holder.is_alive()), None)


def make_refusal(directory: Path, holder: Holder | None) -> RunError:
    """The error of the second one."""
    other = str(holder) if holder else "another process"
    return RunError(f"{directory} is in use by {other}: wait until it ends, stop it, or choose another --run-dir.")


def create_claim(path: Path) -> Path | None:
    """Make `path` this process's claim; None where another one was faster."""
    text = json.dumps(asdict(Holder.this_process()), indent=2) + "\n"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return None
    return path


class Claim:
    """This process's claim on `directory`, held within `with`.

    Args:
        directory: of the run; made, with its parents.
        say: called with a line before waiting to see whether a process on another machine still lives.
    """

    def __init__(self, directory: Path, say: Callable[[str], None] = lambda line: None):
        self.directory = directory
        self.say = say
        self.path: Path | None = None
        self.lost = False
        """Whether another process has taken over, as after this one stood still for minutes."""
        self.made = False
        self.released = threading.Event()

    def __enter__(self) -> Self:
        """Claim.

        Raises:
            RunError: another process holds the directory; the message says which.
            OSError: it can't be written.
        """
        self.made = not self.directory.exists()
        self.directory.mkdir(parents=True, exist_ok=True)
        while self.path is None:
            before = find_claims(self.directory)
            for path in before.values():
                self.require_dead(path)
            made = create_claim(self.directory / f"claim-{max(before, default=0) + 1}.json")
            if made and set(find_claims(self.directory).values()) - {*before.values(), made}:
                made.unlink()  # another one began while this one looked: both step back
                time.sleep(random.uniform(0, POLLING))
            else:
                self.path = made
        for path in before.values():
            path.unlink(missing_ok=True)
        threading.Thread(target=self.refresh, daemon=True, name="claim").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.released.set()
        with suppress(OSError):
            if self.path and not self.lost:
                self.path.unlink()
            if self.made:
                self.directory.rmdir()  # only where nothing was written

    def require_dead(self, path: Path) -> None:
        """Return when the claim's holder is dead; waits until that is known.

        Raises:
            RunError: it lives.
        """
        oldest = None
        with suppress(FileNotFoundError):
            while True:
                holder, age = read_holder(path), read_age(path)
                alive = holder.is_alive() if holder else None
                if alive is False or age > STALE:
                    return
                if alive or (oldest is not None and age < oldest):  # touched since the last look
                    raise make_refusal(self.directory, holder)
                if oldest is None:
                    who = holder or "another process"
                    self.say(f"{self.directory} was claimed by {who}: looking whether it lives, {STALE:.0f} s at most.")
                oldest = age
                time.sleep(POLLING)

    def refresh(self) -> None:
        """Touch the claim every so often."""
        assert self.path is not None
        while not self.released.wait(REFRESH):
            try:
                os.utime(self.path)
            except FileNotFoundError:
                self.lost = not self.released.is_set()
                return
            except OSError as error:  # a network disk that is away for a moment
                print(f"{self.path} could not be touched: {error}", file=sys.stderr)

    def check(self) -> None:
        """Refuse to write on where the claim is gone.

        Raises:
            RunError: another process has taken over, or the file was removed.
        """
        if self.lost:
            holder = next(filter(None, map(read_holder, find_claims(self.directory).values())), None)
            taken = f"{holder} has taken it over" if holder else "its claim was removed"
            raise RunError(f"{self.directory} is no longer this run's: {taken}. Nothing more is written here.")
