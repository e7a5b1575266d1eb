"""The sign digits' zip is made of what is published, and known by its images' names."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipes.data import sign_digits
from zoo.data.load import load_images
from zoo.data.published import PUBLISHED, Published, hash_names

NAMES = [f"{digit}/IMG_{4000 + 10 * person + digit}" for person in range(20) for digit in range(10)]


def jpeg(value: int, size: int = 100) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (value, value, value)).save(buffer, "JPEG", quality=100)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """As published, but for most of the images."""
    published = Published(hash_names(NAMES), "Apache-2.0", PUBLISHED[sign_digits.NAME].origin)
    monkeypatch.setitem(PUBLISHED, sign_digits.NAME, published)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "Sign-Language-Digits-Dataset-master"
    for i, name in enumerate(NAMES):
        file = folder / "Dataset" / f"{name}.JPG"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg(i, 3024 if i == 7 else 100))
    (folder / "Examples").mkdir()
    (folder / "Examples" / "example_0.JPG").write_bytes(jpeg(0))
    (folder / "LICENSE").write_text("Apache License")
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_the_zip_of_the_recipes_is_made_of_the_published_images(checkout: Path, tmp_path: Path, packed: bool) -> None:
    source = checkout
    if packed:
        source = tmp_path / "master.zip"
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in checkout.rglob("*"):
                archive.write(file, file.relative_to(tmp_path))
    out = tmp_path / "made.zip"
    sign_digits.make_zip(source, out)
    assert sorted(zipfile.ZipFile(out).namelist()) == sorted(["LICENSE", *(f"{name}.jpg" for name in NAMES)])
    found = load_images(str(out), split="all", image_size=None, channels=3)
    assert found.images.shape == (200, 64, 64, 3)
    assert found.class_names == tuple("0123456789")
    by_name = [value for _, value in sorted((f"{name}.jpg", i) for i, name in enumerate(NAMES))]
    train, test = (load_images(str(out), split=split, image_size=None, channels=3) for split in ("train", "test"))
    assert sorted(by_name) == sorted(np.rint(found.images.mean((1, 2, 3))).astype(int).tolist())
    assert sorted(np.rint(test.images.mean((1, 2, 3))).astype(int).tolist()) == list(range(180, 200))
    assert {(part.name, part.license) for part in (found, train, test)} == {("sign-digits-64.zip", "Apache-2.0")}
    first = out.read_bytes()
    sign_digits.make_zip(source, out)
    assert out.read_bytes() == first


def test_a_set_that_lacks_an_image_is_another(checkout: Path, tmp_path: Path) -> None:
    (checkout / "Dataset" / f"{NAMES[3]}.JPG").unlink()
    with pytest.raises(ValueError, match=r"199 images Dataset/<digit>/IMG_<number>\.JPG, which are not the 2,062 of"):
        sign_digits.make_zip(checkout, tmp_path / "made.zip")
    assert not list(tmp_path.glob("made*"))
    found = load_images(str(checkout / "Dataset"), split="all", image_size=8, channels=3)
    assert (found.name, found.license) == ("Dataset", "")


def test_a_broken_image_leaves_no_zip(checkout: Path, tmp_path: Path) -> None:
    (checkout / "Dataset" / f"{NAMES[3]}.JPG").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"Dataset/{NAMES[3]}\.JPG can't be read: no image"):
        sign_digits.make_zip(checkout, tmp_path / "made.zip")
    assert not list(tmp_path.glob("made*"))


@pytest.mark.parametrize("source", ["sign-digits-64.zip", "elsewhere/sign-digits-64.zip"])
def test_a_missing_file_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        load_images(source, image_size=64, channels=3)
    assert str(error.value) == (
        f"{source}: no such folder or zip of images; python -m recipes.data.sign_digits makes it of "
        "https://github.com/ardamavi/Sign-Language-Digits-Dataset"
    )


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recipes.data.sign_digits", str(tmp_path / "absent")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path / 'absent'}: neither a folder nor a file\n"
