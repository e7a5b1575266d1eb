"""One run directory has one writer: the second is refused, a dead process's claim is taken over, by one alone."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.training import claim
from zoo.training.claim import Claim, Holder, find_live_holder
from zoo.training.run_directory import RunError

ELSEWHERE = Holder("far", 7, "2026-01-02T03:04:05", "another machine", "123")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"REFRESH": 0.05, "POLLING": 0.1, "STALE": 1.0}.items():
        monkeypatch.setattr(claim, name, seconds)


def leave(directory: Path, holder: Holder | str, number: int = 1, age: float = 0.0) -> Path:
    """A claim that nobody releases, last touched so many seconds ago."""
    directory.mkdir(exist_ok=True)
    path = directory / f"claim-{number}.json"
    path.write_text(holder if isinstance(holder, str) else json.dumps(dataclasses.asdict(holder)))
    now = time.time()
    os.utime(path, (now - age, now - age))
    return path


def held_by_an_ended_process() -> Holder:
    """This machine's, with the number and the start of a process that has been and is gone."""
    code = "import os; from zoo.training.claim import read_start; print(os.getpid(), read_start(os.getpid()))"
    pid, started = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    return dataclasses.replace(Holder.this_process(), pid=int(pid), started=started)


def test_the_second_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    with Claim(tmp_path / "run"):
        first = find_live_holder(tmp_path / "run")
        assert first is not None
        assert (first.pid, first.machine) == (os.getpid(), claim.read_machine())
        named = f"process {os.getpid()} on {first.host}, since {first.since.replace('T', ' ')}"
        with pytest.raises(RunError) as error, Claim(tmp_path / "run"):
            pass
        assert str(error.value) == (
            f"{tmp_path / 'run'} is in use by {named}: wait until it ends, stop it, or choose another --run-dir."
        )
        assert list((tmp_path / "run").iterdir()) == [tmp_path / "run" / "claim-1.json"]


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_nothing_of_a_claim_stays(error: type[BaseException] | None, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for directory in (tmp_path / "there", tmp_path / "new"):
        try:
            with Claim(directory):
                if error:
                    raise error
        except (RuntimeError, KeyboardInterrupt):
            pass
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]
    with Claim(tmp_path / "there"):
        pass


def test_the_claim_of_a_process_that_has_ended_is_taken_over_at_once(tmp_path: Path) -> None:
    leave(tmp_path / "run", held_by_an_ended_process())
    assert find_live_holder(tmp_path / "run") is None
    with Claim(tmp_path / "run", say=pytest.fail):
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["claim-2.json"]


def test_another_process_of_the_same_number_is_not_the_holder(tmp_path: Path) -> None:
    this = Holder.this_process()
    leave(tmp_path / "run", dataclasses.replace(this, started=str(int(this.started) - 1)))
    with Claim(tmp_path / "run", say=pytest.fail):
        pass


@pytest.mark.parametrize("holder", [ELSEWHERE, "", "[]"], ids=["named", "empty", "damaged"])
def test_a_claim_from_elsewhere_that_is_touched_is_alive(holder: Holder | str, fast: None, tmp_path: Path) -> None:
    path = leave(tmp_path, holder)
    ended = threading.Event()

    def touch() -> None:
        while not ended.wait(0.02):
            os.utime(path)

    toucher = threading.Thread(target=touch)
    toucher.start()
    try:
        named = "process 7 on far, since 2026-01-02 03:04:05" if holder == ELSEWHERE else "another process"
        with pytest.raises(RunError, match=f"is in use by {named}"), Claim(tmp_path):
            pass
    finally:
        ended.set()
        toucher.join()


@pytest.mark.parametrize("holder", [ELSEWHERE, ""], ids=["named", "empty"])
def test_a_claim_from_elsewhere_that_nobody_touches_is_dead(holder: Holder | str, fast: None, tmp_path: Path) -> None:
    path = leave(tmp_path, holder)
    said: list[str] = []
    with Claim(tmp_path, said.append):
        assert not path.exists()
    assert len(said) == 1
    assert "looking whether it lives" in said[0]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        json.dumps(dataclasses.asdict(ELSEWHERE) | {"pid": "../../secret"}),
        json.dumps(dataclasses.asdict(ELSEWHERE) | {"host": "far\n\x1b[2J"}),
    ],
    ids=["deep", "a path", "unprintable"],
)
def test_a_damaged_claim_is_told_of_in_one_line(text: str, fast: None, tmp_path: Path) -> None:
    leave(tmp_path, text)
    said: list[str] = []
    with Claim(tmp_path, said.append):
        pass
    (line,) = said
    assert line.isprintable()
    assert "secret" not in line


def test_an_old_claim_from_elsewhere_is_dead_without_waiting(tmp_path: Path) -> None:
    leave(tmp_path, ELSEWHERE, age=claim.STALE + 60)
    with Claim(tmp_path, say=pytest.fail):
        pass


@pytest.mark.parametrize("make", [held_by_an_ended_process, lambda: ELSEWHERE], ids=["this machine", "another"])
def test_of_many_that_find_a_dead_claim_one_takes_it_over(make: Callable[[], Holder], tmp_path: Path) -> None:
    leave(tmp_path, make(), number=3, age=claim.STALE + 60)
    together, ended = threading.Barrier(12), threading.Event()
    held, refused = [], []

    def begin() -> None:
        together.wait()
        try:
            with Claim(tmp_path):
                held.append(1)
                ended.wait()
        except RunError:
            refused.append(1)
            if len(refused) == 11:
                ended.set()

    threads = [threading.Thread(target=begin) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(held), len(refused)) == (1, 11)


def test_the_holder_touches_its_claim_and_notices_that_it_is_gone(fast: None, tmp_path: Path) -> None:
    with Claim(tmp_path) as held:
        path = tmp_path / "claim-1.json"
        os.utime(path, (0, 0))
        wait_until(lambda: path.stat().st_mtime > 0)
        held.check()
        leave(tmp_path, ELSEWHERE, number=2)
        path.unlink()
        wait_until(lambda: held.lost)
        with pytest.raises(RunError, match="process 7 on far, since 2026-01-02 03:04:05 has taken it over"):
            held.check()
    assert (tmp_path / "claim-2.json").exists()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
