"""What evaluation keeps between two calls."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from zoo.pretrained import PACKAGE, cache_root

# What a number depends on: the scores, what extracts and compares features, how images become a network's input.
CODE = (PACKAGE / "metrics", PACKAGE / "evaluation", PACKAGE / "data" / "images.py")


def hash_code() -> str:
    """A hash of all files of `CODE`, so that no cached number outlives the code that computed it."""
    files = [file for path in CODE for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def cache_path(kind: str, key: Sequence[str], suffix: str) -> Path:
    """Where something with this key is kept: <cache>/evaluation/<kind>/<hash of the key><suffix>."""
    folder = cache_root() / "evaluation" / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder / (hashlib.sha256("\n".join(key).encode()).hexdigest()[:32] + suffix)


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, which becomes `path` when all went well and is removed otherwise."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    os.close(handle)
    try:
        yield Path(name)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
