"""A preset's files from where others keep them: a base URL, or hf://owner/repository.

No file is read beyond the size that its card lists, and none may take longer than its size gives reason for.
"""

import threading
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

from serving.card import CardError, File, to_line
from zoo.extras import MissingExtraError

CARD_SIZE = 2**20  # bytes that a card may have; those of today have up to 32,000
SILENCE = 30  # seconds without a byte
PATIENCE = 60  # seconds that any file may take
SLOWEST = 50_000  # bytes in each second more
CHUNK = 2**14  # bytes written at once


class LimitedFile(FileIO):
    """A new file at `path` that takes `limit` bytes, and is an OSError then."""

    def __init__(self, path: Path, limit: int):
        super().__init__(path, "w")
        self.limit = limit

    def write(self, content: Any) -> int:
        """Write all of it or none."""
        if self.tell() + len(content) > self.limit:
            raise OSError(f"more than the {self.limit} bytes that it may have")
        return super().write(content)


def choose_source(source: str) -> Callable[[str, str], tuple[str, dict[str, str]]]:
    """How the kind of `source` makes an address and HTTP headers of itself and a path.

    Raises:
        ValueError: another kind of source.
    """
    locate = next((locate for scheme, locate in SOURCES.items() if source.startswith(scheme)), None)
    if locate is None:
        raise ValueError(f"source={source!r}: give a base URL (http:// or https://) or hf://owner/repository.")
    return locate


def fetch_file(source: str, name: str, file: str, target: Path, expected: File | None = None) -> None:
    """<name>/<file> of `source` -> target/<file>; `verify_files` compares it with the card afterwards.

    Args:
        source: a base URL, or hf://owner/repository.
        name: of the preset.
        file: its path below the preset's directory.
        target: the directory to write to.
        expected: what the card says of the file; None for the card itself.

    Raises:
        CardError: the source does not answer, has no such file, or gives too much or too slowly.
        MissingExtraError: huggingface_hub is not installed.
        ValueError: another kind of source.
    """
    locate = choose_source(source)
    limit = CARD_SIZE if expected is None else expected.size
    path = target / file
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        call_within(PATIENCE + limit / SLOWEST, lambda: download(*locate(source, f"{name}/{file}"), path, limit))
    except MissingExtraError:
        raise
    except Exception as error:  # of the connection, of its address, of the answer
        raise CardError(f"{source} does not give {name}/{file}: {to_line(str(error))}") from None


def download(url: str, headers: dict[str, str], path: Path, limit: int) -> None:
    """An address -> a file of `limit` bytes at most."""
    import pooch

    headers = {**headers, "Accept-Encoding": "identity"}  # compressed, a few bytes could become many
    with LimitedFile(path, limit) as file:
        pooch.HTTPDownloader(chunk_size=CHUNK, timeout=SILENCE, headers=headers)(url, file, None)


def call_within(seconds: float, call: Callable[[], None]) -> None:
    """Call it, and wait so long for it.

    A server that sends a byte now and then is never silent, so only another thread can give it up.

    Raises:
        TimeoutError: it goes on; its thread is left alone.
    """
    failures: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"it takes longer than {seconds:.0f} seconds")
    if failures:
        raise failures[0]


def locate_on_web(source: str, path: str) -> tuple[str, dict[str, str]]:
    """<source>/<path>."""
    return f"{source.rstrip('/')}/{path}", {}


def locate_on_hub(source: str, path: str) -> tuple[str, dict[str, str]]:
    """The Hugging Face Hub's address of a path in hf://owner/repository, with the user's token where there is one.

    Raises:
        ValueError: no repository can have that name.
        MissingExtraError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers
    except ImportError as error:
        raise MissingExtraError("fetching from hf://", "hub", error) from None
    return hf_hub_url(source.removeprefix("hf://"), path), build_hf_headers()


SOURCES: dict[str, Callable[[str, str], tuple[str, dict[str, str]]]] = {
    "https://": locate_on_web,
    "http://": locate_on_web,
    "hf://": locate_on_hub,
}
