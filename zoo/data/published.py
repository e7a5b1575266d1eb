"""Published image sets that a user keeps as a file or folder: known by what they hold, whatever they are called."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Published:
    """One of them.

    Args:
        names_sha256: what `hash_names` gives for it.
        license: short name.
        origin: how to get it, to go on from its name.
    """

    names_sha256: str
    license: str
    origin: str


PUBLISHED = {
    "sign-digits-64.zip": Published(
        names_sha256="7a62cd354ffdd4d7d8c1bd5d98aca6610be719b0059d5701a063e0f00adae20c",
        license="Apache-2.0",
        origin="python -m recipes.data.sign_digits makes it of https://github.com/ardamavi/Sign-Language-Digits-Dataset",
    ),
    "emoji-blob2noto-64.zip": Published(
        names_sha256="41376762d33827b1777be426c74bc9755542634116f6bafbdd28f3f65ee1054a",
        license="Apache-2.0 and OFL-1.1",
        origin="python -m recipes.data.emoji makes it of https://github.com/googlefonts/noto-emoji",
    ),
}
"""By the name that recipes and cards give it."""


def hash_names(names: Iterable[str]) -> str:
    """sha256 over names of images, beneath the folders of their splits, in any order, case and format."""
    stems = sorted(str(PurePosixPath(name).with_suffix("")).lower() for name in names)
    return hashlib.sha256("\n".join(stems).encode(errors="surrogateescape")).hexdigest()


def recognize(names: Iterable[str]) -> str | None:
    """The key of PUBLISHED whose images have these names."""
    found = hash_names(names)
    return next((name for name, published in PUBLISHED.items() if published.names_sha256 == found), None)
