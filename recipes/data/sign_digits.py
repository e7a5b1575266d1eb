"""Makes `sign-digits-64.zip` of the Sign Language Digits as their author publishes them.

    git clone https://github.com/ardamavi/Sign-Language-Digits-Dataset
    python -m recipes.data.sign_digits Sign-Language-Digits-Dataset

Takes the checkout, or the zip that GitHub makes of it. 2,062 photographs (Mavi, arXiv:2011.08927; Apache-2.0), most of
them of 100x100 pixels, are scaled to 64x64 by Lanczos' filter and written as JPEG of quality 95, one folder a digit.
"""

import argparse
import io
import re
import sys
import zipfile
from pathlib import Path, PurePosixPath

from PIL import Image

from zoo.data.folders import open_files
from zoo.data.images import Policy
from zoo.data.published import PUBLISHED, hash_names
from zoo.data.store import explain

NAME = "sign-digits-64.zip"
SIZE = 64


def make_zip(source: Path, out: Path) -> None:
    """Write the images of `source` to the zip `out`, and the license beside them.

    Args:
        source: folder or zip of the published repository.
        out: replaced, once it is whole.

    Raises:
        ValueError: `source` is neither, lacks images or has broken ones.
    """
    files = open_files(source)
    matches = {name: re.fullmatch(r"(?:.*/)?Dataset/([0-9]/IMG_[0-9]+)\.JPG", name) for name in files.sizes}
    images = {f"{match[1]}.jpg": name for name, match in matches.items() if match}
    if hash_names(images) != PUBLISHED[NAME].names_sha256:
        raise ValueError(
            f"{source}: {len(images)} images Dataset/<digit>/IMG_<number>.JPG, which are not the 2,062 of "
            "https://github.com/ardamavi/Sign-Language-Digits-Dataset"
        )
    policy = Policy(SIZE, channels=3)
    temporary = out.with_name(f"{out.name}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, original in sorted(images.items()):
                try:
                    image = Image.fromarray(policy.decode(files.read(original)))
                except Exception as error:  # a damaged file raises almost anything
                    raise ValueError(f"{source}: {original} can't be read: {explain(error)}") from error
                buffer = io.BytesIO()
                image.save(buffer, "JPEG", quality=95, subsampling=0)
                archive.writestr(zipfile.ZipInfo(name), buffer.getvalue())
            for name in files.sizes:
                if PurePosixPath(name).name in ("LICENSE", "README.md"):
                    archive.writestr(zipfile.ZipInfo(PurePosixPath(name).name), files.read(name))
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.data.sign_digits", description=str(__doc__).partition("\n")[0]
    )
    parser.add_argument("source", type=Path, help="the checkout, or the zip that GitHub makes of it")
    parser.add_argument("--out", type=Path, default=Path(NAME), help="the zip to write (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        make_zip(arguments.source, arguments.out)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(arguments.out)


if __name__ == "__main__":
    main()
