"""The emoji's zip is made of two checkouts: pairs on white, divided by their first code point."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipes.data import emoji
from zoo.data.load import load_collections
from zoo.data.published import PUBLISHED, Published, hash_names

NAMES = ["emoji_u1f600", "emoji_u1f1e9", "emoji_u1f1e9_1f1ea", "emoji_u1f603"]
HELD_OUT = ["emoji_u1f1e9", "emoji_u1f1e9_1f1ea"]


def png(color: tuple[int, int, int, int]) -> bytes:
    """The left half transparent."""
    image = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
    image.paste(color, (64, 0, 128, 128))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def few_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emoji, "read_names", lambda: NAMES)
    published = Published(hash_names([f"{name}.png" for name in NAMES] * 2), "Apache-2.0 and OFL-1.1", "")
    monkeypatch.setitem(PUBLISHED, emoji.NAME, published)


@pytest.fixture
def checkouts(tmp_path: Path) -> tuple[Path, Path]:
    folders = tmp_path / "blob", tmp_path / "noto"
    for number, folder in enumerate(folders):
        (folder / "png" / "128").mkdir(parents=True)
        for name in [*NAMES, "emoji_u1f3fb"]:
            (folder / "png" / "128" / f"{name}.png").write_bytes(png((200, 100 * number, 0, 255)))
        (folder / "LICENSE").write_text(f"license {number}")
    return folders


def test_the_zip_holds_pairs_on_white(checkouts: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "made.zip"
    emoji.make_zip(checkouts, out)
    names = zipfile.ZipFile(out).namelist()
    assert {"LICENSE-A", "LICENSE-B"} <= set(names)
    train, test = (
        load_collections(str(out), held_out=held_out, paired=True, image_size=None, channels=3)
        for held_out in (False, True)
    )
    assert sorted(test[0].names) == [f"{name}.png" for name in HELD_OUT]
    assert len(train[0].images) == len(train[1].images) == 2
    for collection, green in zip(train, (0, 100), strict=True):
        assert collection.images.shape == (2, 64, 64, 3)
        np.testing.assert_array_equal(collection.images[0, :, 0], 255)
        np.testing.assert_array_equal(collection.images[0, :, 63], np.tile([200, green, 0], (64, 1)))
        assert (collection.name, collection.license) == (emoji.NAME, "Apache-2.0 and OFL-1.1")
    first = out.read_bytes()
    emoji.make_zip(checkouts, out)
    assert out.read_bytes() == first


def test_another_commit_is_refused(checkouts: tuple[Path, Path], tmp_path: Path) -> None:
    (checkouts[1] / "png" / "128" / f"{NAMES[0]}.png").unlink()
    with pytest.raises(
        ValueError, match=r"noto: 1 of 4 images png/128/emoji_u\*\.png are not there, such as emoji_u1f600"
    ):
        emoji.make_zip(checkouts, tmp_path / "made.zip")
    assert not list(tmp_path.glob("made*"))


def test_a_broken_image_leaves_no_zip(checkouts: tuple[Path, Path], tmp_path: Path) -> None:
    (checkouts[0] / "png" / "128" / f"{NAMES[0]}.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"emoji_u1f600\.png can't be read: no image"):
        emoji.make_zip(checkouts, tmp_path / "made.zip")
    assert not list(tmp_path.glob("made*"))


def test_the_names_are_the_published_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    names = emoji.read_names()
    assert (len(names), sum(map(emoji.is_held_out, names))) == (1_946, 138)
    assert hash_names([f"{name}.png" for name in names] * 2) == PUBLISHED[emoji.NAME].names_sha256


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recipes.data.emoji", str(tmp_path / "absent"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path / 'absent'}: neither a folder nor a file\n"
