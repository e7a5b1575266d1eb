"""A classifier's directory as an extractor: its card's name and sizes, its graph's numbers, and what it refuses."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from serving.card import CardError, Data
from zoo.data.images import to_float32
from zoo.evaluation import extractors
from zoo.evaluation.extractors import ClassifierExtractor, extract_features, format_version, softmax
from zoo.export.export import export
from zoo.presets.table import PRESETS
from zoo.training.run import build_model

NAME = "cnn-fashion-mnist"
SIDE = 8


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of 8 x 8 images and 10 classes; nothing here changes it."""
    preset, directory = PRESETS[NAME].twin(), tmp_path_factory.mktemp("exported") / NAME
    data = Data("none", "train", 1, "MIT", "embedded")
    export(build_model(preset), directory, preset=preset, data=data, recipe={}, formats=("onnx",))
    return directory


@pytest.fixture(scope="module")
def extractor(directory: Path) -> ClassifierExtractor:
    return ClassifierExtractor(directory)


def make_images(count: int, side: int = SIDE, channels: int = 1) -> np.ndarray:
    """uint8 noise."""
    return np.random.default_rng(count).integers(0, 256, (count, side, side, channels), np.uint8)


def test_name_hash_and_sizes_are_those_of_the_card(directory: Path, extractor: ClassifierExtractor) -> None:
    card = json.loads((directory / "card.json").read_text())
    rows = {output["name"]: output["shape"][1] for output in card["abilities"]["classify"]["outputs"]}
    assert (extractor.name, extractor.dimension, extractor.classes) == (NAME, rows["features"], rows["logits"])
    assert extractor.sha256 == hashlib.sha256((directory / "classify.onnx").read_bytes()).hexdigest()
    assert format_version(extractor) == f"{NAME}@{extractor.sha256[:8]}"


def test_features_and_probabilities_are_the_graphs(directory: Path, extractor: ClassifierExtractor) -> None:
    images = make_images(7)
    session = onnxruntime.InferenceSession(directory / "classify.onnx", providers=["CPUExecutionProvider"])
    wanted, logits = session.run(["features", "logits"], {"image": (images / 127.5 - 1).astype(np.float32)})
    powers = np.exp(logits.astype(np.float64))
    features, probabilities = extract_features(extractor, images)
    assert features.dtype == probabilities.dtype == np.float32
    np.testing.assert_allclose(features, wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(probabilities, powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)


def test_any_batches_give_the_same_rows(extractor: ClassifierExtractor, monkeypatch: pytest.MonkeyPatch) -> None:
    images = make_images(23)
    whole = extractor(to_float32(images))
    monkeypatch.setattr(extractors, "BATCH_SIZE", 5)
    for size in (1, 4, 23):
        parts = [extractor(to_float32(images[start : start + size])) for start in range(0, 23, size)]
        for number in range(2):
            joined = np.concatenate([part[number] for part in parts])
            np.testing.assert_allclose(joined, whole[number], rtol=1e-5, atol=1e-6)


def test_no_images_have_no_features(extractor: ClassifierExtractor) -> None:
    with pytest.raises(ValueError, match="0 images of 1 channels"):
        extract_features(extractor, make_images(0))


def test_softmax_is_a_distribution_whatever_the_logits() -> None:
    # e^0 : e^log(3) = 1 : 3; adding 10,000 to both changes nothing
    logits = np.array([[0.0, np.log(3)], [10_000.0, 10_000.0 + np.log(3)], [-2e4, 2e4]])
    np.testing.assert_allclose(softmax(logits), [[0.25, 0.75], [0.25, 0.75], [0.0, 1.0]], rtol=1e-9)


def test_scaling_reaches_both_ends_exactly() -> None:
    levels = np.array([0, 51, 255], np.uint8).reshape(3, 1, 1, 1)  # 51 / 127.5 - 1 = -0.6
    np.testing.assert_allclose(to_float32(levels).ravel(), [-1.0, -0.6, 1.0], rtol=1e-6)
    assert to_float32(levels).dtype == np.float32


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 9, 9, 1), np.float32), f"images of 9 x 9 x 1 and an extractor, {NAME}, of 8 x 8 x 1.*--crop"),
        (np.zeros((2, 8, 8, 3), np.float32), r"8 x 8 x 3 and an extractor"),
        (np.full((2, 8, 8, 1), 255.0, np.float32), r"pixels from 255 to 255: give values in \[-1, 1\]"),
        (np.full((2, 8, 8, 1), np.nan, np.float32), "no NaN"),
        (np.zeros((2, 8, 8, 1), np.uint8), "float in"),
    ],
    ids=["size", "channels", "range", "NaN", "uint8"],
)
def test_what_is_no_image_for_it_is_refused(extractor: ClassifierExtractor, images: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extractor(images)


def test_floats_are_not_scaled_twice() -> None:
    with pytest.raises(ValueError, match=r"give \(count, height, width, channels\) uint8"):
        to_float32(np.zeros((1, 8, 8, 1), np.float32))


def test_a_generator_is_no_extractor(tmp_path: Path) -> None:
    preset = PRESETS["dcgan-fashion-mnist"].twin()
    data = Data("none", "train", 1, "MIT", "embedded")
    export(build_model(preset), tmp_path / preset.name, preset=preset, data=data, recipe={}, formats=("onnx",))
    with pytest.raises(ValueError, match=r"maps \['latent'\] to \['image'\]: an extractor maps an image to features"):
        ClassifierExtractor(tmp_path / preset.name)


def test_a_directory_without_a_card_or_with_a_changed_graph_is_refused(tmp_path: Path, directory: Path) -> None:
    with pytest.raises(CardError, match="no card to read"):
        ClassifierExtractor(tmp_path)
    for name in ("card.json", "classify.onnx"):
        (tmp_path / name).write_bytes((directory / name).read_bytes())
    content = bytearray((tmp_path / "classify.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "classify.onnx").write_bytes(content)
    with pytest.raises(CardError, match="changed: expected sha256"):
        ClassifierExtractor(tmp_path)
