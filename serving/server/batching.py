"""One run of a graph for the rows of many requests.

A server's threads bring their rows to one `Batcher` of the ability. While a batch runs, the others wait; the next batch
is the oldest of them, and all others of its kind that fit beside it. No thread is kept for that: the thread of the
oldest request runs its batch, hands the others' results to them, and wakes the one that is now the oldest. So a request
that is alone runs at once, on its own thread, and a model that nobody asks holds nothing.

Everything is taken in order of arrival. What is larger than a batch comes back to the end of the queue for each of its
pieces, and a sampler for each of its steps: it takes turns with all others, and none waits for the whole of it.
"""

import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from serving.card import Ability, split_size
from serving.sampling.sampler import Run
from serving.server.errors import AbandonedError, DeadlineError, QueueFullError
from serving.session import ModelFileError

Arrays = Mapping[str, np.ndarray]
Abandoned = Callable[[], bool]
VALUES = 2**22  # of the largest tensor of a batch of several rows: 16 MiB of float32
RATE_WEIGHT = 0.1  # of the newest request in the mean time of a row
LONGEST_RETRY = 60.0  # seconds
TOO_LATE = "the time of this request was over before it could be run: ask for less, or later"


def sizes_up_to(rows: int) -> tuple[int, ...]:
    """The powers of two below `rows`, which is at least 1, and `rows`."""
    return (*(2**n for n in range((rows - 1).bit_length())), rows)


@dataclass(frozen=True)
class BatchingOptions:
    """How requests are put together.

    delay: seconds that the first of a batch waits for others, if nothing runs meanwhile. 0: a batch is what came while
        the one before ran.
    buckets: sizes of batches, ascending; the last is the largest. A GPU runs these alone, the rows filled up, as it
        prepares itself for each size; a CPU runs the rows that there are.
    queue_rows: the most rows in hand, of one ability, waiting or running; a request that finds more is refused.
    request_rows: the most rows, or images, of one request.
    request_steps: the most steps of a sampler that a request may ask for; a card may say more.
    """

    delay: float = 0.0
    buckets: tuple[int, ...] = sizes_up_to(16)
    queue_rows: int = 1024
    request_rows: int = 256
    request_steps: int = 10_000

    def __post_init__(self) -> None:
        if not self.buckets or any(a >= b for a, b in itertools.pairwise((0, *self.buckets))):
            raise ValueError(f"buckets={self.buckets}: give sizes from 1, ascending, such as (1, 4, 16)")
        if not 0 <= self.delay <= 1:
            raise ValueError(f"delay={self.delay}: give 0 to 1 seconds")
        if not 1 <= self.request_rows <= self.queue_rows:
            raise ValueError(f"request_rows={self.request_rows}: give 1 to queue_rows={self.queue_rows}")
        if self.request_steps < 1:
            raise ValueError(f"request_steps={self.request_steps}: give 1 or more")


class Observer(Protocol):
    """Is told of what a batcher does; see `serving.server.metrics`."""

    def observe_batch(self, rows: int, seconds: float) -> None:
        """One run of the graph has ended: so many rows of requests, in so many seconds."""

    def observe_wait(self, seconds: float) -> None:
        """A request's rows begin to run, so long after they came."""

    def observe_queue(self, change: int) -> None:
        """So many rows more are in hand, waiting or running; less, where it is negative."""


@dataclass(eq=False)
class _Entry:
    """The rows of one request, or a piece or step of it, from arrival to result.

    group: entries of one can share a batch; those of None share with none.
    """

    feeds: Arrays
    rows: int
    group: Any
    limit: int
    deadline: float | None
    abandoned: Abandoned | None
    arrived: float
    wake: threading.Event = field(default_factory=threading.Event)
    done: bool = False
    outputs: dict[str, np.ndarray] | None = None
    error: Exception | None = None

    def check(self) -> None:
        """Raise what keeps it from being run."""
        if self.abandoned is not None and self.abandoned():
            raise AbandonedError("nobody waits for the answer any more: it was not run")
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise DeadlineError(TOO_LATE)


class Batcher:
    """Runs an ability's graph on the rows of several threads at once; safe to share between them.

    Attributes: rows, the largest batch.
    """

    def __init__(
        self,
        run: Run,
        ability: Ability,
        options: BatchingOptions = BatchingOptions(),
        *,
        fill: bool = False,
        observer: Observer | None = None,
    ) -> None:
        """Nothing is run yet.

        Args:
            run: arrays by input name -> arrays by output name; it gets feeds that fit the ability.
            ability: which of its inputs and outputs have a row for each of the batch.
            options: see there.
            fill: whether batches are filled up to the sizes of `options.buckets`, by repeating the last row.
            observer: is told what happens.
        """
        self._run, self._ability, self._options, self._fill, self._observer = run, ability, options, fill, observer
        self.rows = options.buckets[-1]
        self._by_row = {spec.name for spec in ability.inputs if spec.shape[:1] == ("batch",)}
        # Of a graph with an output that has no rows, nobody can say whose it is.
        self._shareable = bool(self._by_row) and all(spec.shape[:1] == ("batch",) for spec in ability.outputs)
        self._lock = threading.Lock()
        self._waiting: deque[_Entry] = deque()
        self._leader: _Entry | None = None
        self._in_hand = 0
        self._seconds_per_row, self._ended = 0.0, 0.0

    @contextmanager
    def admit(self, rows: int) -> Iterator[None]:
        """Hold a request's place from its first run to its last.

        Raises:
            QueueFullError: more than `queue_rows` would be in hand.
        """
        with self._lock:
            if self._in_hand + rows > self._options.queue_rows:
                self._drop_dead()
                retry_after = min(max(self._in_hand * self._seconds_per_row, 1.0), LONGEST_RETRY)
                raise QueueFullError(
                    f"{self._in_hand} rows are in hand, and at most {self._options.queue_rows} are taken: "
                    f"try again in {math.ceil(retry_after)} s",
                    retry_after,
                )
            self._count(rows)
        began = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                now = time.monotonic()
                # Requests that are in hand together end one after another: the time between two ends is that of one.
                taken = (now - max(began, self._ended)) / rows
                weight = RATE_WEIGHT if self._seconds_per_row else 1.0
                self._seconds_per_row += weight * (taken - self._seconds_per_row)
                self._ended = now
                self._count(-rows)

    @property
    def in_hand(self) -> int:
        """Rows of requests that are waiting or running."""
        return self._in_hand

    def rows_at_once(self, feeds: Arrays) -> int:
        """How many rows of such a size make a batch."""
        sizes: dict[int | str, int] = {}
        for spec in self._ability.inputs:
            sizes |= zip(spec.shape, feeds[spec.name].shape, strict=True)
        largest = 1
        for tensor in (*self._ability.inputs, *self._ability.outputs):
            factors = [split_size(size) for size in tensor.shape[1:]]
            largest = max(largest, math.prod(factor * sizes.get(size, 1) for factor, size in factors))
        return max((size for size in self._options.buckets if size * largest <= VALUES), default=1)

    def run(
        self, feeds: Arrays, *, deadline: float | None = None, abandoned: Abandoned | None = None
    ) -> dict[str, np.ndarray]:
        """Every output by name, for arrays that have been checked; waits for its turn.

        A run that has begun is not broken off: an answer may come after the deadline.

        Args:
            feeds: an array for each input, of any number of rows: more than a batch are run as a batch of their own.
            deadline: by `time.monotonic()`.
            abandoned: whether nobody waits for the answer any more; asked by other threads, at once answered.

        Raises:
            DeadlineError, AbandonedError: before these rows were run.
            ModelFileError: the graph fails on these rows, by themselves.
        """
        rows = max((len(feeds[name]) for name in self._by_row), default=1)
        entry = _Entry(
            feeds, rows, self._find_group(feeds, rows), self.rows_at_once(feeds), deadline, abandoned, time.monotonic()
        )
        with self._lock:
            self._waiting.append(entry)
            if self._leader is None:
                self._leader = entry
            else:
                self._leader.wake.set()  # it may be waiting for more
        while not entry.done:
            if self._leader is entry:
                self._lead(entry)
            else:
                self._wait(entry)
        if entry.error is not None:
            raise entry.error
        assert entry.outputs is not None
        return entry.outputs

    def _find_group(self, feeds: Arrays, rows: int) -> Any:
        """Equal for feeds that can be one batch: all but the number of rows, and what is the same for all rows."""
        if not (self._shareable and rows):
            return None
        return tuple(
            feeds[spec.name].shape[1:] if spec.name in self._by_row else feeds[spec.name].tobytes()
            for spec in self._ability.inputs
        )

    def _wait(self, entry: _Entry) -> None:
        """Until it leads, is done, or its deadline is over while it waits."""
        rest = None if entry.deadline is None else max(0.0, entry.deadline - time.monotonic())
        if entry.wake.wait(rest):
            entry.wake.clear()
            return
        with self._lock:
            if self._leader is not entry and entry in self._waiting:
                self._waiting.remove(entry)
                entry.error, entry.done = DeadlineError(TOO_LATE), True
                return
        entry.wake.wait()  # it runs already, or is to lead
        entry.wake.clear()

    def _lead(self, entry: _Entry) -> None:
        """Run the batch of the oldest entry, then let the next oldest lead."""
        batch: list[_Entry] = []
        try:
            self._gather(entry)
            with self._lock:
                batch = self._take(entry)
            if batch:
                self._execute(batch)
        finally:
            with self._lock:
                self._leader = self._waiting[0] if self._waiting else None
                if self._leader is not None:
                    self._leader.wake.set()
            for each in batch:
                each.done = True
                each.wake.set()

    def _gather(self, entry: _Entry) -> None:
        """Wait for others to share the batch, at most until the entry has waited as long as the options say."""
        end = entry.arrived + self._options.delay
        while entry.group is not None and (rest := end - time.monotonic()) > 0:
            with self._lock:
                if sum(each.rows for each in self._waiting if each.group == entry.group) >= entry.limit:
                    return
                entry.wake.clear()
            entry.wake.wait(rest)

    def _take(self, entry: _Entry) -> list[_Entry]:
        """The entry and those of its group that fit beside it, in order; called with the lock."""
        batch: list[_Entry] = []
        rows = 0
        for each in list(self._waiting):
            fits = entry.group is not None and each.group == entry.group and rows + each.rows <= entry.limit
            if not (fits or each is entry):
                continue
            self._waiting.remove(each)
            if self._drop(each):
                continue
            if self._observer is not None:
                self._observer.observe_wait(time.monotonic() - each.arrived)
            batch.append(each)
            rows += each.rows
            if rows >= entry.limit:
                break
        return batch

    def _drop(self, entry: _Entry) -> bool:
        """Answer an entry that is not worth running any more, which is in no queue; whether it was one."""
        try:
            entry.check()
        except Exception as error:  # of `abandoned`, too: its thread must not wait for ever
            entry.error, entry.done = error, True
            entry.wake.set()
            return True
        return False

    def _drop_dead(self) -> None:
        """Let the threads of entries that need not be run leave; called with the lock."""
        for each in list(self._waiting):
            if each is not self._leader and self._drop(each):
                self._waiting.remove(each)

    def _count(self, rows: int) -> None:
        self._in_hand += rows
        if self._observer is not None:
            self._observer.observe_queue(rows)

    def _execute(self, batch: list[_Entry]) -> None:
        """Give each entry its outputs, or its error: a batch that fails is run again, each entry by itself."""
        try:
            self._fill_in(batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            for entry in batch:
                self._execute([entry])

    def _fill_in(self, batch: list[_Entry]) -> None:
        rows = sum(entry.rows for entry in batch)
        first = batch[0].feeds
        size = self._choose_size(rows) if batch[0].group is not None else rows
        if len(batch) == 1 and size == rows:
            batch[0].outputs = self._measure(dict(first), rows)
            return
        feeds = {}
        for name, array in first.items():
            parts = [entry.feeds[name] for entry in batch]
            if name in self._by_row:
                array = np.concatenate([*parts, np.repeat(parts[-1][-1:], size - rows, axis=0)])
            feeds[name] = array
        outputs = self._measure(feeds, rows)
        if wrong := [name for name, array in outputs.items() if len(array) != size]:
            raise ModelFileError(f"the outputs {wrong} have other numbers of rows than the inputs, {size}")
        start = 0
        for entry in batch:
            stop = start + entry.rows
            # A copy: an answer that is read slowly must not hold the whole batch.
            entry.outputs = {name: array[start:stop].copy() for name, array in outputs.items()}
            start = stop

    def _choose_size(self, rows: int) -> int:
        if not self._fill:
            return rows
        return next((size for size in self._options.buckets if size >= rows), rows)

    def _measure(self, feeds: dict[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
        began = time.monotonic()
        outputs = dict(self._run(feeds))  # a run that fails counts as none
        if self._observer is not None:
            self._observer.observe_batch(rows, time.monotonic() - began)
        return outputs
