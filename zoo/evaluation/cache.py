"""What evaluation keeps between two calls."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from zoo.pretrained import PACKAGE, cache_root

CODE = (PACKAGE / "metrics", PACKAGE / "evaluation")


def code_of_scores() -> str:
    """A hash of `zoo/metrics/` and `zoo/evaluation/`, so that no cached number outlives the code that made it."""
    files = [path for folder in CODE for path in sorted(folder.glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def cache_path(kind: str, key: Sequence[str], suffix: str) -> Path:
    """Where something with this key is kept."""
    folder = cache_root() / "evaluation" / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder / (hashlib.sha256("\n".join(key).encode()).hexdigest()[:32] + suffix)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary name that becomes `path` when all went well."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    os.close(handle)
    try:
        yield Path(name)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
