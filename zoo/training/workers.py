"""The other workers of a cluster: how they meet, and what they agree on."""

import json
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import tensorflow as tf

from zoo.training.run_directory import RunError

EXAMPLE = {"cluster": {"worker": ["a.example:2222", "b.example:2222"]}, "task": {"type": "worker", "index": 0}}
ADDRESS = re.compile(r"[^/]+:\d+")  # host:port
PATIENCE = 3600  # seconds; as long as TensorFlow waits for a cluster
BACKLOG = 1024  # connections that nobody accepts, one from each other worker
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError, tf.errors.CancelledError)


class WorkerLostError(RuntimeError):
    """Another worker of the cluster stopped answering."""


def has_several_workers(setting: str) -> bool:
    """Whether `setting`, the text of TF_CONFIG, is a cluster of more than one worker.

    Raises:
        RunError: it can't be read, or has tasks that are no workers.
    """
    if not setting:
        return False
    example = f"For example TF_CONFIG='{json.dumps(EXAMPLE)}', with an index of its own on each worker."
    try:
        value = json.loads(setting)
        jobs, task = value.get("cluster", {}), value.get("task", {})
        addresses = [address for job in jobs.values() for address in job]
        malformed = [address for address in addresses if not ADDRESS.fullmatch(address)]
        index = int(task.get("index", -1))
    except (ValueError, TypeError, AttributeError) as error:
        raise RunError(f"TF_CONFIG can't be read ({type(error).__name__}: {error}). {example}") from None
    if not jobs:
        return False
    unknown = sorted(set(jobs) - {"chief", "worker"})
    if unknown:
        raise RunError(f"TF_CONFIG has tasks of the kinds {unknown}: every worker trains alike here. {example}")
    if malformed:
        raise RunError(f"TF_CONFIG names {malformed[0]!r} where a list of addresses, host:port, must be. {example}")
    if len(set(addresses)) < len(addresses):
        raise RunError(f"TF_CONFIG names one address for two workers among {', '.join(addresses)}. {example}")
    if not 0 <= index < len(jobs.get(task.get("type"), ())):
        raise RunError(f"TF_CONFIG's task is {json.dumps(task)}, which its cluster does not have. {example}")
    return len(addresses) > 1


def meet(here: str, addresses: Sequence[str]) -> None:
    """Wait until every worker of the cluster is there.

    Each listens on its own port and looks for the others; TensorFlow, which then takes the port over, waits for them
    too, but names nobody and can't be ended by SIGTERM or Ctrl-C while it does.

    Args:
        here: this worker's address, host:port.
        addresses: all workers'.

    Raises:
        RunError: something else listens on this worker's port, or a worker has not come within an hour.
    """
    try:
        listener = socket.create_server(("", port_of(here)), backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise RunError(f"this worker can't listen on the port of {here}: {error}. Choose another.") from None
    with listener:
        deadline = time.monotonic() + PATIENCE
        missing = [address for address in addresses if address != here]
        while missing := [address for address in missing if not is_listening(address)]:
            if time.monotonic() > deadline:
                raise RunError(
                    f"of the workers of TF_CONFIG, {', '.join(missing)} did not come within {PATIENCE // 60} minutes."
                )
            time.sleep(0.5)


def is_listening(address: str) -> bool:
    """Whether something takes connections at `address`, host:port."""
    try:
        socket.create_connection((address.rpartition(":")[0].strip("[]"), port_of(address)), timeout=10).close()
    except (OSError, OverflowError):
        return False
    return True


def port_of(address: str) -> int:
    """The port of host:port."""
    return int(address.rpartition(":")[2])


def leave_signals_to_the_system() -> None:
    """SIGTERM and SIGINT end this process at once, until `SignalHandler` takes them.

    A TensorFlow that belongs to a cluster catches SIGTERM and goes on, and Python acts on SIGINT only when an operation
    is over: a worker that waits for another one would heed neither.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            ignored = signal.getsignal(number) == signal.SIG_IGN  # as under nohup
            signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)


class Workers:
    """This process among the workers of `strategy`; a single process is a cluster of one."""

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        resolver = strategy.cluster_resolver
        cluster = resolver.cluster_spec().as_dict() if resolver else {}
        chiefs = len(cluster.get("chief", ()))
        self.count = max(chiefs + len(cluster.get("worker", ())), 1)
        """How many there are."""
        self.index = 0 if self.count == 1 or resolver.task_type == "chief" else chiefs + resolver.task_id
        """This one's number; the chief's is 0."""

    @property
    def chief(self) -> bool:
        """Whether this one writes."""
        return self.index == 0

    def gather(self, number: int) -> list[int]:
        """The `number` of every worker, by index; waits for all of them.

        Raises:
            WorkerLostError: one of them is gone.
        """
        if self.count == 1:
            return [number]
        try:
            return [int(each) for each in self._gather(tf.constant(number, tf.int64)).numpy()]
        except LOST as error:
            raise make_lost_error(error) from None

    @cached_property
    def _gather(self) -> Callable[[tf.Tensor], tf.Tensor]:
        local = self.strategy.num_replicas_in_sync // self.count

        def of_replica(number: tf.Tensor) -> tf.Tensor:
            mine = number * tf.one_hot(self.index, self.count, dtype=tf.int64)
            return tf.distribute.get_replica_context().all_reduce("sum", mine) // local

        @tf.function
        def gather(number: tf.Tensor) -> tf.Tensor:
            return self.strategy.experimental_local_results(self.strategy.run(of_replica, (number,)))[0]

        return gather

    def agree(self, what: Mapping[str, int]) -> None:
        """Check that every worker has the same numbers.

        Args:
            what: what must be the same -> its number.

        Raises:
            RunError: naming the first that differs, and each worker's.
        """
        for name, number in what.items():
            found = self.gather(number)
            if len(set(found)) > 1:
                shown = ", ".join(f"worker {index}: {each}" for index, each in enumerate(found))
                raise RunError(f"the workers differ in {name} ({shown}): start them all alike.")

    def together(self, action: Callable[[], Any]) -> Any:
        """Do `action` on every worker; when it fails on one, all stop.

        Raises:
            RunError: it failed on another one.
            Exception: whatever it raised on this one.
        """
        result = failure = None
        try:
            result = action()
        except Exception as error:  # the others must learn of it before it goes on its way
            failure = error
        failed = [index for index, each in enumerate(self.gather(0 if failure is None else 1)) if each]
        if failure is not None:
            raise failure
        if failed:
            raise RunError(f"stopped, since worker(s) {failed} could not go on; their own output says why.")
        return result


def make_lost_error(error: tf.errors.OpError) -> WorkerLostError:
    """One line from TensorFlow's report of a collective operation that has broken off."""
    reasons = [line.strip() for line in error.message.splitlines() if "aborted" in line or "Unavailable" in line]
    reason = reasons[-1].removeprefix("Collective ops is aborted by: ") if reasons else type(error).__name__
    return WorkerLostError(f"another worker stopped answering ({reason.rstrip(':')})")
