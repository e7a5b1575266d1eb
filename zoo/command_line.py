"""What every command line shares: streams that may be closed, and one line for whatever ends a command."""

import io
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from zoo.extras import MissingExtraError, find_extra

FAILED = 1
INTERRUPTED = 128 + signal.SIGINT  # as shells count

# Raised with a sentence for the user; of these the next ones come from Python itself, and name neither file nor option.
EXPLAINED = (ValueError, LookupError, ImportError, OSError, RuntimeError)
HOMELESS = "Could not determine home directory."  # pathlib's, of ~name where there is no such user
BARE = (KeyError, IndexError, UnicodeError, RecursionError, NotImplementedError)


@contextmanager
def ending_in_one_line(prog: str, words: Sequence[str]) -> Iterator[None]:
    """Within it, whatever ends the command is one line on standard error, and the exit status.

    1 after an error, 130 after Ctrl-C. A reader that closes its end of the pipe, as `head` does, has had enough: status
    1 without a line. With ZOO_TRACEBACK set, an error that no code foresaw is raised as it is.

    Args:
        prog: what the line begins with.
        words: of the command line; they name file and options where an error itself does not.
    """
    open_closed_streams()
    try:
        try:
            yield
        finally:
            flush_output()  # here, where a failure can still be told: Python's own, at its end, prints a traceback
    except BrokenPipeError:
        discard(sys.stdout)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        print_error(f"{prog}: interrupted")
        sys.exit(INTERRUPTED)
    except Exception as error:
        discard_if_full(sys.stdout)
        if os.environ.get("ZOO_TRACEBACK") and not is_explained(error):
            raise
        print_error(f"{prog}: {explain(error, words)}")
        sys.exit(FAILED)


def open_closed_streams() -> None:
    """Let what is written to a closed stream (`2>&-`, pythonw) go nowhere; write ASCII where the terminal has no more.

    Left closed, the number of a stream goes to the next file that is opened, and warnings from C++ into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest free number: this one
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 (open to the end)
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def require_writable(option: str, directory: Path) -> None:
    """Refuse a directory that can't be made or written to, before hours of work for it; nothing is made.

    Args:
        option: that names it.
        directory: which need not exist.

    Raises:
        ValueError: naming what is in the way.
    """
    above, writable = find_writable(directory.expanduser())
    if not writable:
        raise ValueError(f"{option} {directory}: {above} is no directory that can be written to: choose another name.")


def require_file(option: str, path: Path) -> None:
    """Refuse a file that can't be written, before work for it; nothing is made.

    Args:
        option: that names it.
        path: which need not exist; its directory must.

    Raises:
        ValueError: naming what is in the way.
    """
    if not path.parent.is_dir():
        raise ValueError(f"{option} {path}: there is no directory {path.parent}.")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"{option} {path}: it can't be written: choose another name.")


def parse_labels(labels: Sequence[str]) -> int | str | list[int | str] | None:
    """Classes by number or name: None for none, the one by itself, or a list of them."""
    found = [int(label) if label.isdecimal() else label for label in labels]
    return None if not found else found[0] if len(found) == 1 else found


def find_writable(directory: Path) -> tuple[Path, bool]:
    """The nearest path at or above `directory` that exists, and whether it is a directory that can be written in.

    Raises:
        OSError: it can't be looked at.
    """
    whole = directory.absolute()
    above = next(path for path in (whole, *whole.parents) if path.exists())
    return above, above.is_dir() and os.access(above, os.W_OK | os.X_OK)


def flush_output() -> None:
    """Write what standard output still holds.

    Raises:
        BrokenPipeError: nobody reads it.
        OSError: it can't be written; the error's file is "standard output".
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from None


def discard_if_full(stream: TextIO) -> None:
    """Let what a stream can't write go nowhere: Python would try again at its end, and print a traceback."""
    try:
        stream.flush()
    except OSError:
        discard(stream)


def discard(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere."""
    with suppress(OSError):  # a stream without a file, as tests have
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_error(line: str) -> None:
    """One line on standard error, if it can be written at all."""
    try:
        print(" ".join(line.split("\n")), file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def is_explained(error: Exception) -> bool:
    """Whether the error's own text says what was wrong, and in which file or option."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        return False  # from a write, which has forgotten the name
    if str(error) == HOMELESS:
        return False
    return isinstance(error, EXPLAINED) and not isinstance(error, BARE) and bool(str(error))


def explain(error: Exception, words: Sequence[str]) -> str:
    """One sentence: the error's own; of one that no code foresaw, what it was, behind the command's words."""
    if isinstance(error, ModuleNotFoundError) and (extra := find_extra(error.name or "")):
        return str(MissingExtraError(f"zoo {words[0]}" if words else "this command", extra, error))
    if is_explained(error):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{shlex.join(words)}: {error.strerror}"
    return f"{shlex.join(words)}: {type(error).__name__}{f': {error}' if str(error) else ''}"
