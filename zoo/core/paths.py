"""Paths that TensorFlow takes as they are meant.

It reads the path of a checkpoint or a SavedModel as a pattern, in which *, ?, [, ] and others stand for something else.
Importing this needs no TensorFlow.
"""

import re
import shutil
import tempfile
import weakref
from pathlib import Path

PLAIN = re.compile(r"[A-Za-z0-9_/.,+=@-]+")
TEMPORARY = "/tmp"  # where TMPDIR itself is not plain


class PlainPath:
    """A folder by a path of plain characters: its own, or else that of a link to it, which lasts as long as this.

    Args:
        folder: one that exists, unless its path is plain.
    """

    def __init__(self, folder: Path):
        self.path = folder
        if PLAIN.fullmatch(str(folder)):
            return
        root = tempfile.gettempdir()
        temporary = tempfile.mkdtemp(prefix="zoo-", dir=root if PLAIN.fullmatch(root) else TEMPORARY)
        self.path = Path(temporary) / "folder"
        self.path.symlink_to(folder.absolute(), target_is_directory=True)
        weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)
