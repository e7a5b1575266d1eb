"""Phases add up, those inside others are not counted twice, and commands run to the point they are measured to."""

from pathlib import Path

import pytest

from benchmarks import startup


def test_a_phase_within_another_is_counted_once() -> None:
    times = iter([(11.0, 0.5), (12.0, 1.0), (14.0, 2.5), (15.0, 3.0), (18.0, 3.5)])
    phases = startup.Phases(10.0, lambda: next(times))
    with phases.phase("outer"), phases.phase("inner"):  # at 11 and 12; left at 14 and 15
        pass
    phases.charge()  # at 18
    # before: 10 to 11 and, after, 15 to 18; outer: 11 to 12 and 14 to 15; inner: 12 to 14
    assert phases.seconds == {startup.START: (4.0, 1.0), "outer": (2.0, 1.0), "inner": (2.0, 1.5)}


def test_a_mark_is_the_first_of_its_name_since_the_start() -> None:
    times = iter([(11.0, 0.5), (12.0, 1.0)])
    phases = startup.Phases(10.0, lambda: next(times))
    phases.mark("first line")
    phases.mark("first line")
    assert phases.seconds == {startup.START: (2.0, 1.0), "= first line": (1.0, 0.5)}


def test_medians_are_of_each_phase() -> None:
    runs = [{"a": [1.0, 10.0]}, {"a": [3.0, 30.0], "b": [4.0, 2.0]}, {"a": [2.0, 50.0]}]
    assert startup.take_medians(runs) == {"a": [2.0, 30.0], "b": [0.0, 0.0]}


def test_the_first_steps_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = startup.Options(commands=("train",), arguments="--smoke --data embedded --threads 1")
    found = startup.measure("train", options, str(tmp_path))
    wanted = {"import tensorflow", "data", "build the networks", "trace", "first step", "second step"}
    assert wanted | {"= first line", "= first step", "= all"} <= set(found)
    parts, whole = [part for name, part in found.items() if not name.startswith("=")], found["= all"]
    for unit in (0, 1):  # every second is in one phase
        assert sum(part[unit] for part in parts) == pytest.approx(whole[unit])


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="did you mean dcgan-fashion-mnist"):
        startup.measure("evaluate", startup.Options(preset="dcgan-fashion-mnst"), str(tmp_path))
