"""Whatever ends a command is one line and an exit status, on any terminal, a closed one too."""

import errno
import io
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from zoo.cli import main as module
from zoo.cli import start
from zoo.cli.main import COMMANDS, main
from zoo.command_line import ending_in_one_line
from zoo.extras import MODULES, find_extra, require_extra, start_tensorflow

ROOT = Path(__file__).parents[2]
NAME = "dcgan-fashion-mnist"


def run_zoo(arguments: str, redirections: str = "", **variables: str) -> subprocess.CompletedProcess[bytes]:
    """`zoo` as a shell starts it, with redirections such as "2>&-"."""
    line = f"{shlex.quote(sys.executable)} -m zoo.cli.main {arguments} {redirections}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(["bash", "-c", line], capture_output=True, env=environment, check=False)


def fail(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("closed", "has_output", "has_error"),
    [("2>&-", True, False), (">&-", False, True), ("<&- >&- 2>&-", False, False)],
)
def test_closed_streams(closed: str, has_output: bool, has_error: bool, tmp_path: Path) -> None:
    """What a command writes goes into its own file, whatever number the system gives that."""
    done = run_zoo(f"sample {NAME} --count 2 --out {tmp_path}/two.npy", closed)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (f"{tmp_path}/two.npy\n".encode() if has_output else b"")
    assert np.load(tmp_path / "two.npy").shape == (2, 32, 32, 1)
    refused = run_zoo("sample nothing-of-this-name", closed)
    assert (refused.returncode, refused.stdout, bool(refused.stderr)) == (1, b"", has_error)


def test_tensorflow_starts_without_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    start_tensorflow()
    monkeypatch.setattr(os, "dup", fail_with_bad_descriptor)
    start_tensorflow()


def fail_with_bad_descriptor(number: int) -> int:
    raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def test_a_reader_that_has_had_enough() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for options in (["--json"], []):
        command = [sys.executable, "-m", "zoo.cli.main", "list", *options]
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment, check=False)
        assert (done.returncode, done.stderr) == (1, b"")
    os.close(writing)


@pytest.mark.parametrize("arguments", ["list --json", "list", f"describe {NAME}"])
def test_full_disk_behind_standard_output(arguments: str) -> None:
    done = run_zoo(arguments, "> /dev/full")
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert line.startswith("zoo: ")
    assert "No space left on device" in line
    assert arguments in line or "standard output" in line


def test_full_disk_behind_standard_error() -> None:
    done = run_zoo("sample nothing-of-this-name", "2> /dev/full")
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.parametrize("arguments", ["list", f"describe {NAME}"])
def test_terminal_of_ascii(arguments: str) -> None:
    done = run_zoo(arguments, LC_ALL="C", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert NAME in done.stdout.decode("ascii")


def test_what_a_terminal_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with ending_in_one_line("zoo", []):
        print("1.0 ± 0.5")
    assert raw.getvalue() == rb"1.0 \xb1 0.5" + b"\n"


UNFORESEEN = {
    "recursion": (RecursionError("maximum recursion depth exceeded"), "RecursionError: maximum recursion depth"),
    "memory": (MemoryError(), "MemoryError"),
    "overflow": (OverflowError("int too large"), "OverflowError: int too large"),
    "no file name": (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    "key": (KeyError("image"), "KeyError: 'image'"),
    "ONNX Runtime": (Fail("node Conv_3"), "Fail: node Conv_3"),
    "no such user": (RuntimeError("Could not determine home directory."), "RuntimeError: Could not determine home"),
    "type": (TypeError("expected\na number"), "TypeError: expected a number"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("error", "text"), UNFORESEEN.values(), ids=UNFORESEEN)
def test_unforeseen_error_is_one_line_with_the_words_of_the_command(
    command: str, error: Exception, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forwarded = command in module.FORWARDED
    monkeypatch.setitem(COMMANDS, command, (lambda arguments: fail(error)()) if forwarded else fail(error))
    with pytest.raises(SystemExit) as exit:
        main([command, "a file.zip"] if forwarded else [command])
    out, line = capsys.readouterr()
    words = f"{command} 'a file.zip'" if forwarded else command
    assert (exit.value.code, out) == (1, "")
    assert line.startswith(f"zoo: {words}: {text}")
    assert line.count("\n") == 1


def test_unforeseen_error_on_request_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_TRACEBACK", "1")
    monkeypatch.setitem(COMMANDS, "list", fail(TypeError("a fault of ours")))
    with pytest.raises(TypeError, match="a fault of ours"):
        main(["list"])


@pytest.mark.parametrize("command", COMMANDS)
def test_interrupted(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stop = fail(KeyboardInterrupt())
    monkeypatch.setitem(COMMANDS, command, (lambda arguments: stop()) if command in module.FORWARDED else stop)
    with pytest.raises(SystemExit) as exit:
        main([command])
    assert (exit.value.code, capsys.readouterr()) == (130, ("", "zoo: interrupted\n"))


def test_interrupted_while_it_is_imported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "zoo.cli.main":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "zoo.cli.main")
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as exit:
        start.main()
    assert (exit.value.code, capsys.readouterr()) == (130, ("", "zoo: interrupted\n"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"zoo": "zoo.cli.start:main"}


def test_error_that_explains_itself_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (ValueError("--count 0: choose at least 1."), FileNotFoundError(2, "No such file", "x.zip")):
        with pytest.raises(SystemExit), ending_in_one_line("zoo", ["sample", NAME]):
            raise error
        assert capsys.readouterr().err == f"zoo: {error}\n"


@pytest.mark.parametrize(
    ("package", "extra"), [("tensorflow.keras", "train"), ("sklearn", "applications"), ("starlette", "server")]
)
def test_missing_package_names_its_extra(package: str, extra: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), ending_in_one_line("zoo", ["evaluate", NAME]):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    assert capsys.readouterr().err == f'zoo: zoo evaluate needs {package}: pip install "generative-zoo[{extra}]"\n'


def test_extras_are_those_of_the_package() -> None:
    for extra, modules in MODULES.items():
        require_extra("this", extra)  # the tests' environment has all of them
        assert {find_extra(name) for name in modules} == {extra}
    assert find_extra("numpy") == ""
