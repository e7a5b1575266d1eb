"""`zoo latents`: what each figure holds, and one line for what can't be drawn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from serving.images import to_uint8
from zoo import load_pretrained
from zoo.applications.generators import NO_NOISE, Generator, Noise
from zoo.applications.styles import generate_mixed
from zoo.applications.truncation import cut_off
from zoo.cli import latents
from zoo.cli.main import main

GRAY, COLOR, UNIFORM = "dcgan-fashion-mnist", "dcgan-sign-digits", "gan-mnist"
CONDITIONAL, VAE = "cgan-fashion-mnist", "cvae-mnist"
Drawn = Callable[..., tuple[np.ndarray, list[str], list[str]]]


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Runs a command; the images of its figure, and the labels of rows and columns."""
    kept: list[Any] = []
    draw = latents.draw_figure

    def keep(images: np.ndarray, rows: Any, columns: Any) -> Image.Image:
        kept.append((images, list(rows), list(columns)))
        return draw(images, rows, columns)

    monkeypatch.setattr(latents, "draw_figure", keep)

    def run(*arguments: Any) -> tuple[np.ndarray, list[str], list[str]]:
        main(["latents", *map(str, arguments), "--out", "figure.png"])
        with Image.open("figure.png") as file:
            file.load()
        return kept[-1]

    return run


@pytest.mark.parametrize("name", [GRAY, COLOR, UNIFORM])
def test_each_row_runs_from_one_image_to_another(name: str, drawn: Drawn) -> None:
    images, rows, columns = drawn(name, "interpolate", "--numbers", 4, 2, 9, 0, "--steps", 3, "--seed", 5)
    assert (rows, columns) == (["4 to 2", "9 to 0"], ["0", "0.5", "1"])
    generator = Generator.open(name)
    ends = generator.generate(generator.draw([4, 2, 9, 0], 5))
    np.testing.assert_allclose(images[:, [0, 2]].reshape(ends.shape), ends, atol=1e-5)
    mode = "RGB" if name == COLOR else "L"
    assert Image.open("figure.png").mode == mode


def test_the_right_ends_may_be_of_another_seed(drawn: Drawn) -> None:
    images, *_ = drawn(GRAY, "interpolate", "--count", 1, "--other-seed", 8)
    generator = Generator.open(GRAY)
    np.testing.assert_allclose(images[0, -1], generator.generate(generator.draw([1], 8))[0], atol=1e-5)


def test_normal_latents_go_around_and_uniform_ones_straight(drawn: Drawn) -> None:
    for name, kind in ((GRAY, "spherical"), (UNIFORM, "linear")):
        own, *_ = drawn(name, "interpolate", "--count", 2)
        chosen, *_ = drawn(name, "interpolate", "--count", 2, "--kind", kind)
        other, *_ = drawn(name, "interpolate", "--count", 2, "--kind", {"linear": "spherical"}.get(kind, "linear"))
        np.testing.assert_array_equal(own, chosen)
        assert np.abs(own - other).max() > 0.01


def test_a_row_keeps_the_class_of_its_left_end(drawn: Drawn) -> None:
    images, rows, _ = drawn(CONDITIONAL, "interpolate", "--count", 2, "--steps", 2)
    generator = Generator.open(CONDITIONAL)
    classes = generator.draw_labels([0, 2])
    assert classes is not None
    assert rows == [
        f"{one} to {one + 1} {generator.classes[label]}" for one, label in zip((0, 2), classes, strict=True)
    ]
    expected = generator.generate(generator.draw(range(4)), labels=np.repeat(classes, 2))
    np.testing.assert_allclose(images.reshape(expected.shape), expected, atol=1e-5)
    images, rows, _ = drawn(CONDITIONAL, "interpolate", "--count", 2, "--steps", 2, "--labels", "Bag", 7)
    assert rows == ["0 to 1 Bag", "2 to 3 Sneaker"]


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_a_walk_is_an_animation_that_begins_at_its_first_stop(ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["latents", GRAY, "walk", "--numbers", "6", "1", "3", "--frames", "24", "--out", f"loop.{ending}"])
    assert capsys.readouterr().out == f"loop.{ending}\n"
    with Image.open(f"loop.{ending}") as file:
        assert (file.n_frames, file.info["loop"]) == (24, 0)
        frames = [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(file)]
    generator = Generator.open(GRAY)
    first = to_uint8(generator.generate(generator.draw([6]))[0, :, :, 0], (-1.0, 1.0))
    assert np.abs(frames[0][::2, ::2].astype(int) - first).max() <= 1


def test_the_result_of_an_addition_is_in_the_middle_of_its_neighbors(drawn: Drawn) -> None:
    images, rows, columns = drawn(UNIFORM, "arithmetic", "--a", 0, 1, 2, "--b", 3, "--c", 4, 5)
    assert (rows, columns) == (["a", "b", "c", "", "a - b + c", ""], ["1", "2", "3", "mean"])
    generator = Generator.open(UNIFORM)
    codes = generator.draw(range(6))
    means = [codes[:3].mean(axis=0), codes[3], codes[4:].mean(axis=0)]
    expected = generator.generate(np.stack([*means, means[0] - means[1] + means[2]]))
    np.testing.assert_allclose(images[:3, 3], expected[:3], atol=1e-5)
    np.testing.assert_allclose(images[4, 1], expected[3], atol=1e-5)
    assert np.isnan(images[1, 1:3]).all()  # b has one exemplar
    around = [images[row, column] for row in (3, 4, 5) for column in (0, 1, 2)]
    assert min(np.abs(each - expected[3]).max() for number, each in enumerate(around) if number != 4) > 0.001


def test_a_row_for_each_factor_of_the_truncation(drawn: Drawn) -> None:
    images, rows, columns = drawn(GRAY, "truncate", "--method", "resample", "--factors", 2, 0.5, "--count", 3)
    assert (rows, columns) == (["2", "0.5"], ["0", "1", "2"])
    generator = Generator.open(GRAY)
    np.testing.assert_allclose(images[1], generator.generate(cut_off(generator.draw(range(3)), 0.5)), atol=1e-5)


def test_a_model_with_the_input_is_truncated_by_it(drawn: Drawn, style_directory: Path, styled: Generator) -> None:
    images, *_ = drawn(style_directory, "truncate", "--factors", 0.3, "--count", 2)
    np.testing.assert_allclose(images[0], styled.generate(styled.draw(range(2)), truncation=0.3), atol=1e-5)


def test_a_mixing_grid(drawn: Drawn, style_directory: Path, styled: Generator) -> None:
    images, rows, columns = drawn(style_directory, "mix", "--rows", 1, "--count", 3)
    assert (rows, columns) == (["", "coarse (0-1)", "fine (2-3)"], ["", "2", "3", "4"])
    codes = styled.draw(range(5), space="w")
    np.testing.assert_allclose(images[1:, 0], styled.generate(codes[:2], "w"), atol=1e-5)
    np.testing.assert_allclose(images[0, 1:], styled.generate(codes[2:], "w"), atol=1e-5)
    for row, layers in enumerate((range(2), range(2, 4))):
        expected = generate_mixed(styled, codes[row : row + 1], codes[2:], layers)[0]
        np.testing.assert_allclose(images[1 + row, 1:], expected, atol=1e-5)
    assert np.isnan(images[0, 0]).all()
    _, rows, _ = drawn(style_directory, "mix", "--rows", 1, "--layers", "1-3", "0")
    assert rows == ["", "1-3", "0"]


def test_noise_by_layer(
    drawn: Drawn, style_directory: Path, styled: Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    images, rows, columns = drawn(style_directory, "noise", "--count", 4, "--draws", 3)
    assert rows == ["all", "noise_4_0", "noise_4_1", "noise_8_0", "noise_8_1"]
    assert columns == ["no noise", "draw 0", "draw 1", "draw 2", "deviation"]
    first = styled.draw([0])
    np.testing.assert_allclose(images[0, 0], styled.generate(first, noise=NO_NOISE)[0], atol=1e-5)
    np.testing.assert_allclose(images[3, 2], styled.generate(first, noise=Noise(1, inputs=["noise_8_0"]))[0], atol=1e-5)
    assert images[:, 4].max() == 1.0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [*rows, "figure.png"]
    assert all("the noise's share" in line for line in lines[:-1])


def test_paths_in_styles(drawn: Drawn, style_directory: Path, styled: Generator) -> None:
    images, *_ = drawn(style_directory, "interpolate", "--space", "w", "--count", 1, "--steps", 3)
    middle = styled.draw([0, 1], space="w").mean(axis=0, keepdims=True)
    np.testing.assert_allclose(images[0, 1], styled.generate(middle, "w")[0], atol=1e-5)


def test_an_own_image_is_found_again(drawn: Drawn, capsys: pytest.CaptureFixture[str]) -> None:
    """A VAE begins at the image's own code; the class is the image's."""
    images, rows, columns = drawn(VAE, "project", "--number", 3, "--restarts", 2, "--steps", 60)
    assert rows[0] == "0 *"
    assert columns == ["target", "found", "differs"]
    generator = Generator.open(VAE)
    target = generator.generate(generator.draw([3]), labels=generator.draw_labels([3]))[0]
    np.testing.assert_allclose(images[:, 0], np.stack([target, target]), atol=1e-5)
    assert np.square((images[0, 1] - target) / 2).mean() < 1e-4
    np.testing.assert_allclose(images[:, 2], np.abs(images[:, 1] - target) - 1, atol=1e-5)
    assert capsys.readouterr().out.startswith("restart 0 *: squared distance of pixels ")


def test_an_image_file_is_fitted_to_the_generator(drawn: Drawn) -> None:
    Image.new("RGB", (90, 60), (255, 0, 0)).save("red.png")
    images, *_ = drawn(GRAY, "project", "--image", "red.png", "--restarts", 1, "--steps", 2)
    assert images.shape == (1, 3, 32, 32, 1)
    np.testing.assert_allclose(images[0, 0], 76 / 127.5 - 1, atol=1e-6)  # red's luma


def test_images_along_directions(drawn: Drawn) -> None:
    images, rows, columns = drawn(GRAY, "directions", "--count", 2, "--steps", 3, "--extent", 2, "--number", 7)
    assert columns == ["-2", "0", "2"]
    kernel = load_pretrained(GRAY).generator_ema.layers[1].get_weights()[0].astype(np.float64)  # (100, outputs)
    values, vectors = np.linalg.eigh(kernel @ kernel.T)
    assert rows == [f"{number}: {value:.3g}" for number, value in enumerate(values[::-1][:2])]
    generator = Generator.open(GRAY)
    code = generator.draw([7])
    np.testing.assert_allclose(images[:, 1], np.repeat(generator.generate(code), 2, axis=0), atol=1e-5)
    ends = generator.generate(np.concatenate([code - 2 * vectors[:, -1], code + 2 * vectors[:, -1]]))
    differences = [np.abs(images[0, [0, 2]] - each).max() for each in (ends, ends[::-1])]
    assert min(differences) < 1e-3  # the sign is chosen


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("cnn-mnist walk", "cnn-mnist can't generate: it can classify. Name a GAN or a VAE."),
        ("gan-mnist walk --out loop.png", "--out loop.png: choose a name that ends in .gif or .webp."),
        ("gan-mnist walk --out none/loop.gif", "--out none/loop.gif: there is no directory none."),
        ("gan-mnist walk --numbers 1 1", "--numbers 1 1: a walk needs two different ones."),
        ("gan-mnist walk --frames 1", "--frames 1: choose at least 2."),
        ("gan-mnist walk --milliseconds 0", "--milliseconds 0: choose at least 1."),
        ("gan-mnist walk --space w", "gan-mnist has no map, synthesize: space w needs a style-based generator ("),
        ("gan-mnist interpolate --out x.jpg", "--out x.jpg: choose a name that ends in .png, .gif or .webp."),
        ("gan-mnist interpolate --numbers 1 2 3", "--numbers 1 2 3: give two for each row."),
        ("gan-mnist interpolate --numbers 1 -2", "--numbers=-2: give 0 <= --numbers < 2**64"),
        ("gan-mnist interpolate --steps 1", "--steps 1: choose at least 2."),
        ("gan-mnist interpolate --seed -1", "seed=-1: give 0 <= seed < 2**64"),
        ("gan-mnist interpolate --labels 3", "labels given, and gan-mnist takes none."),
        ("cgan-fashion-mnist interpolate --labels Hat", "label 'Hat': no such class: choose from ['T-shirt/top', "),
        ("cgan-fashion-mnist interpolate --labels 1 2", "2 labels for 4 images: give one for all or one for each"),
        ("gan-mnist arithmetic --a 1 --b 2 --c", "0 exemplars of c: give at least 1."),
        ("gan-mnist truncate", "gan-mnist takes no truncation: choose --method resample, which cuts "),
        ("gan-mnist truncate --method scale --factors", "factors=[]: give at least one, all finite."),
        ("gan-mnist truncate --method resample --factors 0", "factor 0.0: no latent lies within it: give one above 0."),
        ("gan-mnist mix", "gan-mnist has no map, synthesize: style mixing needs a style-based generator ("),
        ("gan-mnist noise", "gan-mnist takes no noise maps: noise needs a style-based generator that does"),
        ("gan-mnist truncate --method scale --factors nan", "factors=[nan]: give at least one, all finite."),
        ("gan-mnist arithmetic --a 1 --b 2 --c 3 --scale nan", "code (100,), scale=nan: give (dimension,), and a "),
        ("gan-mnist directions --extent nan", "codes or truncation of gan-mnist hold NaN or infinity: give "),
        ("gan-mnist project --number 0 --weight nan", "restarts=4, steps=300, rate=0.1, weight=nan: give"),
        ("gan-mnist project", "--image FILE or --number NUMBER: give one of the two."),
        ("gan-mnist project --image none.png", "--image none.png: it can't be read: No such file or directory."),
        ("gan-mnist project --image text.png", "--image text.png: no image that can be read."),
        ("gan-mnist project --number 0 --restarts 0", "--restarts 0: choose at least 1."),
        ("cgan-fashion-mnist project --image text.png", "cgan-fashion-mnist is conditional: name the image's class, "),
        ("gan-mnist directions --layers 1-2", "gan-mnist has no map, synthesize: --layers needs a style-based "),
        ("STYLES mix --layers 3-9", "--layers 3-9: the generator has the layers 0 to 3."),
        ("STYLES mix --layers 2-1", "--layers 2-1: the generator has the layers 0 to 3."),
        ("STYLES mix --layers middle", "4 layers have no middle ones: name them, FIRST-LAST, 0 to 3."),
        ("STYLES mix --layers wide", "layers 'wide': choose from coarse, middle, fine, or FIRST-LAST such as 2-5."),
        ("STYLES noise --draws 1", "--draws 1: choose at least 2."),
    ],
)
def test_what_can_not_be_drawn_is_one_line(
    arguments: str, reason: str, style_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text.png").write_text("no image")
    words = [str(style_directory) if word == "STYLES" else word for word in arguments.split()]
    with pytest.raises(SystemExit) as exit:
        main(["latents", *words])
    out, error = capsys.readouterr()
    assert (exit.value.code, out) == (1, "")
    (line,) = error.splitlines()
    assert line.startswith(f"zoo: {reason}")
    assert [path.name for path in Path.cwd().iterdir()] == ["text.png"]


def test_models_with_styles_are_named(
    style_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("zoo.applications.generators.list_models", lambda pretrained: [str(style_directory), UNIFORM])
    with pytest.raises(SystemExit):
        main(["latents", UNIFORM, "mix"])
    assert f"needs a style-based generator ({style_directory})" in capsys.readouterr().err
