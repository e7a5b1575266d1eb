"""Makes `emoji-blob2noto-64.zip` of two versions of Google's Noto emoji: pairs of an old design and today's.

    git clone https://github.com/googlefonts/noto-emoji blob && git -C blob checkout 563fa14298e1
    git clone https://github.com/googlefonts/noto-emoji noto && git -C noto checkout b3e3051a0880
    python -m recipes.data.emoji blob noto

A is the "blob" design of May 2017 (Apache-2.0), B today's (Apache-2.0, in its LICENSE file OFL-1.1). Takes the
checkouts, or the zips that GitHub makes of these commits. Of the emoji that both have as png/128, `emoji.txt` names
those that are kept: without skin-tone swatches, images that are blank on white, broken ones, and all but one of those
that are alike in A. They are composited on white, scaled to 64x64 by Lanczos' filter, and divided by their first code
point, so that variants of one emoji never stand on both sides: 1,808 pairs for training, 138 held out.
"""

import argparse
import hashlib
import io
import re
import sys
import zipfile
from pathlib import Path

from PIL import Image

from zoo.data.folders import Files, open_files
from zoo.data.images import Policy, open_image
from zoo.data.store import explain

NAME = "emoji-blob2noto-64.zip"
SIZE = 64
COLLECTIONS = ("A", "B")


def read_names() -> list[str]:
    """The files' names, without their ending, of the emoji that are kept."""
    return Path(__file__).with_name("emoji.txt").read_text(encoding="ascii").split()


def is_held_out(name: str) -> bool:
    """Whether an emoji is one for testing, by its first code point: about a tenth of those are."""
    match = re.match(r"emoji_u([0-9a-f]+)", name)
    assert match is not None  # of every name in emoji.txt
    return int(hashlib.sha256(match[1].encode()).hexdigest(), 16) % 10 == 0


def make_zip(sources: tuple[Path, Path], out: Path) -> None:
    """Write the pairs to the zip `out`, and both licenses beside them.

    Args:
        sources: folder or zip of the repository at the old commit, and at the new one.
        out: replaced, once it is whole.

    Raises:
        ValueError: one of them is neither, lacks images or has broken ones.
    """
    names = read_names()
    repositories = [open_files(source) for source in sources]
    images = [find_images(files, names) for files in repositories]
    policy = Policy(SIZE, channels=3)
    temporary = out.with_name(f"{out.name}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for kind, held_out in (("train", False), ("test", True)):
                for collection, files, found in zip(COLLECTIONS, repositories, images, strict=True):
                    for name in names:
                        if is_held_out(name) == held_out:
                            content = convert(files, found[name], policy)
                            archive.writestr(zipfile.ZipInfo(f"{kind}{collection}/{name}.png"), content)
            for collection, files in zip(COLLECTIONS, repositories, strict=True):
                for license in sorted(name for name in files.sizes if re.fullmatch(r"(?:[^/]+/)?LICENSE", name)):
                    archive.writestr(zipfile.ZipInfo(f"LICENSE-{collection}"), files.read(license))
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def find_images(files: Files, names: list[str]) -> dict[str, str]:
    """Name -> its file in a repository.

    Raises:
        ValueError: some are not there.
    """
    matches = {name: re.fullmatch(r"(?:.*/)?png/128/(emoji_u[0-9a-f_]+)\.png", name) for name in files.sizes}
    found = {match[1]: name for name, match in matches.items() if match}
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(
            f"{files.source}: {len(missing)} of {len(names)} images png/128/emoji_u*.png are not there, such as "
            f"{missing[0]}: give a checkout of the commit that `python -m recipes.data.emoji --help` names"
        )
    return found


def convert(files: Files, name: str, policy: Policy) -> bytes:
    """One image as the PNG that goes into the zip.

    Raises:
        ValueError: it can't be read.
    """
    try:
        with open_image(files.read(name)) as image:
            converted = Image.fromarray(policy.apply(image))
    except Exception as error:  # a damaged file raises almost anything
        raise ValueError(f"{files.source}: {name} can't be read: {explain(error)}") from error
    buffer = io.BytesIO()
    converted.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.data.emoji",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("blob", type=Path, help="checkout of the old commit, or the zip that GitHub makes of it")
    parser.add_argument("noto", type=Path, help="likewise of the new commit")
    parser.add_argument("--out", type=Path, default=Path(NAME), help="the zip to write (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        make_zip((arguments.blob, arguments.noto), arguments.out)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(arguments.out)


if __name__ == "__main__":
    main()
