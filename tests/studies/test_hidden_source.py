"""A translator that hides its source is told from one that does not, by noise on its translations."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.card import CardError, Data
from studies.hidden_source import LEVELS, Options, main, measure
from zoo.export.export import export
from zoo.presets.table import PRESETS
from zoo.training.run import build_model

RANDOM = np.random.default_rng(0)
IMAGES, OTHERS = RANDOM.uniform(-0.9, 0.9, (2, 6, 16, 16, 1)).astype(np.float32)
CODE = 1e-3  # far below a gray level


def hide(images):
    """Every translation is the same gray, but for a faint copy of its source."""
    return CODE * images


def reveal(images):
    return np.clip(images / CODE, -1.0, 1.0)


def invert(images):
    return -images


def test_noise_destroys_what_is_hidden():
    rows = list(measure(hide, reveal, IMAGES, OTHERS, seed=0))
    assert [row["noise"] for row in rows] == list(LEVELS)
    assert rows[0]["cycle"] == pytest.approx(0.0, abs=1e-4)
    assert rows[1]["cycle"] > 0.3  # of one gray level: nothing is left


def test_noise_adds_itself_to_what_is_seen():
    rows = list(measure(invert, invert, IMAGES, OTHERS, seed=0))
    for row in rows:
        # The mean of |noise| is sqrt(2 / pi) standard deviations; brightness has 255 levels. Clipping takes a little.
        expected = row["noise"] / 255 * (2 / np.pi) ** 0.5
        assert row["cycle"] == pytest.approx(expected, rel=0.06, abs=1e-6)
        assert row["control"] == pytest.approx(expected, rel=0.06, abs=1e-6)


def test_ratios_are_of_the_error_without_noise():
    rows = list(measure(lambda images: 0.5 * images, invert, IMAGES, OTHERS, seed=0))
    assert rows[0]["ratio"] == 1.0
    assert rows[-1]["ratio"] == pytest.approx(rows[-1]["cycle"] / rows[0]["cycle"], rel=1e-3)


def export_twin(name: str, folder: Path) -> Path:
    """An untrained twin, and four images of each of its collections."""
    random = np.random.default_rng(0)
    for split in ("trainA", "trainB", "testA", "testB"):
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            image = Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8))
            image.save(folder / "images" / split / f"{number}.png")
    preset, data = PRESETS[name].twin(), Data("images", "trainA and trainB", 8, "MIT", str(folder / "images"))
    export(build_model(preset), folder / name, preset=preset, data=data, recipe={}, formats=("onnx",))
    return folder / name


def test_the_command_writes_table_and_figure(tmp_path: Path) -> None:
    twin = export_twin("cyclegan-blob-to-noto", tmp_path)
    main(Options((str(twin),), table=tmp_path / "found.csv", figure=tmp_path / "found.png"))
    with (tmp_path / "found.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["first"], float(row["noise"])) for row in rows] == [
        (first, level) for first in ("a_to_b", "b_to_a") for level in LEVELS
    ]
    assert all(0 < float(row["cycle"]) < 1 for row in rows)
    assert {row["images"] for row in rows} == {"4"}
    assert Image.open(tmp_path / "found.png").size[0] > 500


def test_a_model_of_one_direction_has_no_cycle(tmp_path: Path) -> None:
    twin = export_twin("pix2pix-blob-to-noto", tmp_path)
    with pytest.raises(CardError, match="'translate_b_to_a': choose from"):
        main(Options((str(twin),), table=tmp_path / "found.csv", figure=tmp_path / "found.png"))
    assert not (tmp_path / "found.csv").exists()
