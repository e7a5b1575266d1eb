"""Grids whose pixels are the images', white where there is none, and animations that keep every frame."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from zoo.applications.figures import draw_figure, save_animation, save_figure

GRAY = np.linspace(-1, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64, 1).astype(np.float32)


def test_each_image_is_in_its_row_and_column() -> None:
    figure = draw_figure(GRAY, ["a", "long label"], ["0", "1", "2"])
    pixels = np.asarray(figure)
    assert figure.mode == "L"
    top, left = pixels.shape[0] - (2 * 66 + 2), pixels.shape[1] - (3 * 66 + 2)
    for row in range(2):
        for column in range(3):
            y, x = top + 2 + 66 * row, left + 2 + 66 * column
            expected = np.rint((GRAY[row, column, :, :, 0] + 1) * 127.5)
            np.testing.assert_array_equal(pixels[y : y + 64, x : x + 64], expected)
    assert (pixels[:top, :left] == 255).all()  # the corner
    assert (pixels[:top, left:].min(), pixels[top:, :left].min()) < (128, 128)  # labels


@pytest.mark.parametrize("row", [0, 1])
def test_a_label_stands_beside_its_row(row: int) -> None:
    labels = ["", ""]
    labels[row] = "label"
    pixels = np.asarray(draw_figure(GRAY, labels))
    left = pixels.shape[1] - (3 * 66 + 2)
    dark = np.flatnonzero((pixels[:, :left] < 128).any(axis=1))
    assert 2 + 66 * row < dark.min() < 2 + 66 * row + 32 < dark.max() < 2 + 66 * row + 64


@pytest.mark.parametrize("text", ["1", "9 Ankle boot, dark and long"])
def test_a_label_stands_above_its_column(text: str) -> None:
    pixels = np.asarray(draw_figure(GRAY[:, :, :, :, :], (), ["", text, ""]))
    dark = np.flatnonzero((pixels[: pixels.shape[0] - (2 * 66 + 2)] < 160).any(axis=0))
    middle = 2 + 66 + 32
    assert middle - 80 < dark.min() <= middle + 1
    assert middle - 1 <= dark.max() < middle + 80
    assert abs((dark.min() + dark.max()) / 2 - middle) < 3
    if text == "1":
        assert (dark.min(), dark.max()) > (2 + 66, 0)


def test_small_images_are_enlarged_in_color_and_missing_ones_stay_white() -> None:
    images = np.full((1, 3, 2, 2, 3), np.nan, np.float32)
    images[0, 0] = [1.0, -1.0, 0.0]
    images[0, 1] = 0.0
    images[0, 1, 0, 1] = [-1.0, 1.0, -1.0]
    figure = draw_figure(images)
    assert (figure.mode, figure.size) == ("RGB", (3 * 66 + 2, 68))
    assert {color for _, color in figure.crop((2, 2, 66, 66)).getcolors()} == {(255, 0, 128)}
    assert {color for _, color in figure.crop((68 + 32, 2, 68 + 64, 34)).getcolors()} == {(0, 255, 0)}
    assert {color for _, color in figure.crop((134, 2, 198, 66)).getcolors()} == {(255, 255, 255)}


@pytest.mark.parametrize("ending", [".gif", ".webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_has_every_frame_and_loops(ending: str, channels: int, tmp_path: Path) -> None:
    levels = np.stack([np.full((8, 8, channels), 20 * number) for number in range(10)])
    levels[:, 2, 3] = 255
    save_animation(levels.astype(np.float32) / 127.5 - 1, tmp_path / f"a{ending}", milliseconds=70, scale=2)
    with Image.open(tmp_path / f"a{ending}") as file:
        assert (file.n_frames, file.info["loop"]) == (10, 0)
        frames = []
        for frame in ImageSequence.Iterator(file):
            frames.append(np.asarray(frame.convert("RGB")))
            assert frame.info["duration"] == 70
    for found, expected in zip(frames, levels, strict=True):
        whole = np.broadcast_to(expected.repeat(2, axis=0).repeat(2, axis=1), (16, 16, 3))
        np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("ending", [".png", ".gif", ".webp"])
def test_a_figure_is_written_without_loss(ending: str, tmp_path: Path) -> None:
    figure = draw_figure(GRAY)
    save_figure(figure, tmp_path / f"a{ending}")
    with Image.open(tmp_path / f"a{ending}") as file:
        np.testing.assert_array_equal(np.asarray(file.convert("L")), np.asarray(figure))


def test_figures_that_can_not_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 labels of 2 rows: give one for each"):
        draw_figure(GRAY, ["a"])
    with pytest.raises(ValueError, match=r"images \(3, 64, 64, 1\): give \(rows, columns"):
        draw_figure(GRAY[0])
    with pytest.raises(ValueError, match=r"ends in \.gif or \.webp"):
        save_animation(GRAY[0], tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"ends in \.png, \.gif, \.webp"):
        save_figure(draw_figure(GRAY), tmp_path / "a.jpg")
