"""`zoo translate` and `zoo upscale`: files in, files out, and one line for what can't be done."""

import errno
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import zoo.cli.translate as commands
import zoo.pretrained
from serving.pipeline import Pipeline
from zoo.cli.main import main

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(image_directory: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    def call(task: str, *arguments: Any, model: Any = image_directory) -> tuple[str, str]:
        """Standard output and standard error."""
        capsys.readouterr()
        main([task, str(model), *map(str, arguments)])
        found = capsys.readouterr()
        return found.out, found.err

    return call


@pytest.fixture
def fails(run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def call(*arguments: Any, code: int = 1, **options: Any) -> str:
        """The last line on standard error."""
        with pytest.raises(SystemExit) as exit:
            run(*arguments, **options)
        assert exit.value.code == code
        found = capsys.readouterr()
        assert "Traceback" not in found.err
        return found.err.splitlines()[-1]

    return call


def write(path: str, size: tuple[int, int] = (9, 7), mode: str = "RGB", **options: Any) -> Image.Image:
    """A random image as a file."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0], channels) if channels > 1 else size[::-1]
    image = Image.fromarray(RANDOM.integers(0, 256, shape, np.uint8))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return image


def files(folder: str = "out") -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_files_and_folders_become_png_at_their_paths(run: Callable[..., Any], image_directory: Path) -> None:
    images = {name: write(f"in/{name}") for name in ("a.png", "b/c.png", "b/d/e.bmp")}
    single = write("elsewhere/f.tif")
    Path("in/README.txt").write_text("no image")
    Path("in/.hidden.png").write_text("no image")
    assert run("translate", "in", "elsewhere/f.tif", "--out", "out") == ("out: 4 of 4 images\n", "")
    assert files() == ["a.png", "b/c.png", "b/d/e.png", "f.png"]
    act = Pipeline.from_directory(image_directory, ability="translate_a_to_b").translate
    for name, image in {**images, "f.tif": single}.items():
        with Image.open(Path("out", name).with_suffix(".png")) as found:
            assert found.format == "PNG"
            np.testing.assert_array_equal(found, act(image))


def test_directions_and_upscaling(run: Callable[..., Any], image_directory: Path) -> None:
    image = write("a.png")
    run("translate", "a.png", "--out", "there", "--direction", "a_to_b")
    run("translate", "a.png", "--out", "back", "--direction", "b_to_a")
    run("upscale", "a.png", "--out", "larger")
    there, back, larger = (np.asarray(Image.open(f"{name}/a.png")) for name in ("there", "back", "larger"))
    assert (there != back).any()
    np.testing.assert_array_equal(
        back, Pipeline.from_directory(image_directory, ability="translate_b_to_a").translate(image)
    )
    assert larger.shape == (28, 36, 3)


def test_keras_gives_what_onnx_gives(
    run: Callable[..., Any], image_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo.pretrained, "load_pretrained", lambda directory: image_model)
    write("a.png")
    for task, options in (("translate", ["--direction", "b_to_a"]), ("translate", []), ("upscale", [])):
        found = []
        for format in ("onnx", "keras"):
            run(task, "a.png", "--out", "out", "--overwrite", "--format", format, *options)
            found.append(np.asarray(Image.open("out/a.png")).astype(int))
        assert np.abs(found[0] - found[1]).max() <= 1


def test_keras_models_translate_and_enlarge(image_model: Any) -> None:
    image = Image.fromarray(RANDOM.integers(0, 256, (9, 7, 4), np.uint8))
    there, back = image_model.translate([image, image], "a_to_b"), image_model.translate(image, "b_to_a")
    assert [(each.mode, each.size) for each in (*there, back)] == [("RGBA", (7, 9))] * 3
    np.testing.assert_array_equal(image_model.translate(image), there[0])
    assert image_model.upscale(image).size == (28, 36)
    with pytest.raises(ValueError, match="ImageModel can't translate_up: its abilities are translate_a_to_b"):
        image_model.translate(image, "up")


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_images_come_out_upright_as_they_are_seen(run: Callable[..., Any], ending: str) -> None:
    """Turned once, whichever decoder has turned the pixels already."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    Image.fromarray(pixels).save(f"turned.{ending}", exif=exif)
    Image.fromarray(np.rot90(pixels, -1)).save("upright.png")
    run("upscale", f"turned.{ending}", "upright.png", "--out", "out")
    turned, upright = (np.asarray(Image.open(f"out/{name}.png")).astype(int) for name in ("turned", "upright"))
    assert turned.shape == (128, 64, 3)
    assert np.abs(turned - upright).mean() < 2


def test_alpha_gray_and_16_bits_are_kept_or_read(run: Callable[..., Any]) -> None:
    alpha = np.asarray(write("rgba.png", mode="RGBA"))[:, :, 3]
    write("gray.png", mode="L")
    write("la.png", mode="LA")
    Image.fromarray(np.full((7, 9), 32896, np.uint16)).save("deep.png")
    names = ["rgba.png", "gray.png", "la.png", "deep.png"]
    run("translate", *names, "--out", "there")
    run("upscale", *names, "--out", "larger")
    there, larger = ([Image.open(f"{folder}/{name}") for name in names] for folder in ("there", "larger"))
    assert [image.mode for image in there] == ["RGBA", "RGB", "RGBA", "RGB"]
    assert [image.mode for image in larger] == ["RGBA", "L", "LA", "L"]
    np.testing.assert_array_equal(np.asarray(there[0])[:, :, 3], alpha)


def test_what_exists_is_named_before_any_work_and_kept(
    run: Callable[..., Any], fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        write(f"in/{number}.png")
    write("out/0.png")
    before = Path("out/0.png").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(commands, "open_model", None)  # not reached
        line = fails("translate", "in", "--out", "out")
        assert line == (
            "zoo: --out out: out/0.png exist already: choose another name, or give --overwrite to replace them."
        )
        for number in range(5):
            Path(f"out/{number}.png").write_bytes(before)
        assert "out/0.png, out/1.png, out/2.png and 2 more exist already" in fails("translate", "in", "--out", "out")
    assert Path("out/0.png").read_bytes() == before
    assert not Path("out/5.png").exists()
    run("translate", "in", "--out", "out", "--overwrite")
    assert Path("out/0.png").read_bytes() != before
    assert len(files()) == 6


def test_what_cannot_be_read_is_skipped_with_one_line_each(run: Callable[..., Any], fails: Callable[..., str]) -> None:
    write("in/good.png", size=(64, 64))
    Path("in/cut.png").write_bytes(Path("in/good.png").read_bytes()[:5000])
    Path("in/text.png").write_text("no image")
    Path("in/empty.jpg").touch()
    Path("in/link.png").symlink_to("nowhere.png")
    Image.fromarray(np.zeros((4, 4), np.float32)).save("in/floats.tif")
    out, err = run("translate", "in", "--out", "out")
    assert (out, files()) == ("out: 1 of 6 images, 5 skipped\n", ["good.png"])
    lines = err.splitlines()
    assert len(lines) == 5
    assert all(re.match(rf"in/{name}: skipped: ", line) for name, line in zip(NAMES, lines, strict=True))
    assert "no image in one of the formats PNG" in lines[4]
    assert "an image of floating-point numbers has no known range" in lines[2]
    Path("in/good.png").unlink()
    assert fails("translate", "in", "--out", "none") == "zoo: none of 5 files could be read: none is as it was."
    assert not Path("none").exists()


NAMES = ("cut.png", "empty.jpg", "floats.tif", "link.png", "text.png")


def test_names_that_would_meet_are_kept_apart_or_refused(run: Callable[..., Any], fails: Callable[..., str]) -> None:
    for path in ("in/a.png", "in/a.bmp", "in/b.png", "other/b.png"):
        write(path)
    run("translate", "in", "in/a.png", "--out", "out")
    assert files() == ["a.bmp.png", "a.png.png", "b.png"]
    line = fails("translate", "in", "other", "--out", "out2")
    assert "in/b.png and other/b.png would both become out2/b.png" in line


def test_what_was_written_into_a_folder_of_the_images_is_not_read_again(run: Callable[..., Any]) -> None:
    write("in/a.png")
    for _ in range(2):
        assert run("translate", "in", "--out", "in/translated", "--overwrite")[0].startswith("in/translated: 1 of 1")
    assert files("in") == ["a.png", "translated/a.png"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nothing.png", "--out", "out"], "zoo: nothing.png: there is no such file or folder."),
        (["empty", "--out", "out"], "zoo: empty: no images in it: looked for the endings .png,"),
        (["--out", "out"], "zoo: no images: name files or folders behind the model."),
        (["a.png", "--out", "out", "--tile", "0"], "zoo: --tile 0: give the side of a tile in pixels, from 1, or None"),
        (["a.png", "--out", "out", "--tile", "-5"], "zoo: --tile -5: give the side"),
        (["a.png", "--out", "a.png"], "zoo: --out a.png: /"),
    ],
)
def test_bad_arguments_are_one_line(fails: Callable[..., str], arguments: list[str], line: str) -> None:
    write("a.png")
    Path("empty").mkdir()
    assert fails("translate", *arguments).startswith(line)
    assert not Path("out").exists()


def test_a_model_without_the_ability_names_those_that_have_it(
    fails: Callable[..., str], image_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a.png")
    gan = "dcgan-fashion-mnist"
    line = fails("upscale", "a.png", "--out", "out", model=gan)
    assert line.startswith(f"zoo: {gan} can't upscale: it can generate; ")
    found = zoo.pretrained.find_directory
    monkeypatch.setattr(zoo.pretrained, "list_models", lambda pretrained: ["images", gan])
    monkeypatch.setattr(
        zoo.pretrained, "find_directory", lambda name: image_directory if name == "images" else found(name)
    )
    assert fails("upscale", "a.png", "--out", "out", model=gan).endswith("it can generate; choose images.")
    assert "no-such-model" in fails("upscale", "a.png", "--out", "out", model="no-such-model")


def test_a_full_disk_is_one_line_and_leaves_whole_files(
    fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write(f"in/{number}.png")
    save = Image.Image.save

    def fill(image: Image.Image, path: Any, *arguments: Any, **options: Any) -> None:
        save(image, path, *arguments, **options)
        if Path("out/0.png").exists():
            Path(path).write_bytes(Path(path).read_bytes()[:40])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", fill)
    assert fails("translate", "in", "--out", "out") == "zoo: [Errno 28] No space left on device: 'out/1.png'"
    assert files() == ["0.png"]
    Image.open("out/0.png").load()


def test_ctrl_c_leaves_whole_files_only(fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        write(f"in/{number}.png")
    save = Image.Image.save

    def interrupt(image: Image.Image, path: Any, *arguments: Any, **options: Any) -> None:
        save(image, path, *arguments, **options)
        if Path("out/0.png").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupt)
    assert fails("translate", "in", "--out", "out", code=130) == "zoo: interrupted"
    assert files() == ["0.png"]


def test_a_bar_is_shown_on_a_terminal_alone(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.png", size=(40, 60))
    assert run("translate", "a.png", "--out", "out", "--tile", "16")[1] == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert "images" in run("translate", "a.png", "--out", "out", "--overwrite")[1]
