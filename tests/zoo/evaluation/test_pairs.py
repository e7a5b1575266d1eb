"""Scores of enlarged and translated images, of networks whose outcome is known."""

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops
from PIL import Image

from serving.card import Card, Data, encode_card
from zoo.cli.main import main
from zoo.core.ability import Ability
from zoo.evaluation import tables
from zoo.evaluation.cards import to_records, write_scores
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.options import EvaluationOptions
from zoo.evaluation.pairs import feature_distances, resize
from zoo.export.export import describe_files
from zoo.export.model_card import make_readme
from zoo.export.onnx import write_onnx
from zoo.metrics.fidelity import absolute_errors, peak_signal_to_noise_ratios, structural_similarities

SIDE, RANGE = 24, (-1.0, 1.0)
NAMES = [f"{number:02}.png" for number in range(20)]


def save(folder: Path, names: list[str], seed: int, offset: int = 0) -> None:
    """Smooth images, so that filters enlarge them well."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for name in names:
        small = Image.fromarray(random.integers(0, 200, (6, 6, 3), np.uint8))
        image = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        Image.fromarray(np.clip(image.astype(int) + offset, 0, 255).astype(np.uint8)).save(folder / name)


def write(directory: Path, abilities: dict[str, Ability], data: Path, split: str, **recipe: str) -> Path:
    """An exported model whose card names its data."""
    directory.mkdir()
    records = {}
    for name, ability in abilities.items():
        write_onnx(ability, directory / f"{name}.onnx", rounded=False)
        records[name] = ability.card(f"{name}.onnx")
    card = Card(
        *("made-up", "none", "none", "Apache-2.0", "A made-up model."),
        Data(data.name, split, 1, "MIT", str(data)),
        {"class": "none", "arguments": {"image_shape": [SIDE, SIDE, 3]}},
        *({"fit": "crop", **recipe}, records, next(iter(abilities)), describe_files(directory)),
    )
    (directory / "card.json").write_bytes(encode_card(card))
    return directory


def network(function: Callable, output: str) -> keras.Model:
    image = keras.Input((None, None, 3), name="image")
    return keras.Model(image, layers.Identity(name=output)(function(image)))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "photographs"
    save(folder, NAMES, 1)
    return folder


@pytest.fixture(scope="module")
def upscaler(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nearest neighbors."""
    larger = network(lambda image: layers.UpSampling2D(2)(image), "upscaled")
    ranges = {"image": RANGE, "upscaled": RANGE}
    ability = Ability(larger, {"image": "image"}, {"upscaled": "image"}, ranges, scale=2)
    return write(tmp_path_factory.mktemp("models") / "upscaler", {"upscale": ability}, photographs, "train")


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """B is A, a little brighter."""
    folder = tmp_path_factory.mktemp("data") / "collections"
    for split, seed, names in (("train", 2, NAMES), ("test", 3, NAMES[:5])):
        save(folder / f"{split}A", names, seed)
        save(folder / f"{split}B", names, seed, offset=40)
    return folder


def translator(shift: float) -> Ability:
    brighter = network(lambda image: ops.clip(image + shift, -1.0, 1.0), "translation")
    ranges = {"image": RANGE, "translation": RANGE}
    return Ability(brighter, {"image": "image"}, {"translation": "image"}, ranges)


@pytest.fixture(scope="module")
def translators(collections: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A to B as it should be, B to A not at all."""
    abilities = {"translate_a_to_b": translator(40 / 127.5), "translate_b_to_a": translator(0.0)}
    return write(tmp_path_factory.mktemp("models") / "translators", abilities, collections, "trainA and trainB")


def as_floats(folder: Path, names: list[str]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(folder / name)) for name in names]) / 127.5 - 1.0


def test_enlarged_images_are_compared_with_held_out_ones(upscaler: Path, photographs: Path) -> None:
    records = {record.name: record for record in evaluate(str(upscaler))}
    assert list(records) == ["psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"]
    real = as_floats(photographs, NAMES[-2:])  # the last tenth
    levels = np.rint((real + 1) * 127.5).astype(np.uint8)
    small = resize(levels, 0.5, Image.Resampling.BICUBIC)
    enlarged = small.repeat(2, axis=1).repeat(2, axis=2) / 127.5 - 1.0
    inside = slice(None), slice(2, -2), slice(2, -2)
    expected = peak_signal_to_noise_ratios(enlarged[inside], real[inside])
    assert records["psnr_rgb"].value == pytest.approx(expected.mean(), rel=1e-5)
    assert records["psnr_rgb"].std == pytest.approx(expected.std(ddof=1) / 2**0.5, rel=1e-4)
    assert records["ssim_rgb"].value == pytest.approx(
        structural_similarities(enlarged[inside], real[inside]).mean(), rel=1e-5
    )
    for record in records.values():
        assert set(record.baselines) == {"bicubic", "lanczos"}
        assert record.baselines["lanczos"] > record.value  # images that a filter made: nearest neighbors lose
        assert (record.real_count, record.split, record.generated_count) == (2, "test", 0)


def test_translations_are_compared_with_their_pairs(translators: Path, collections: Path) -> None:
    records = {record.name: record for record in evaluate(str(translators))}
    assert list(records) == [f"{name}_{way}" for way in ("a_to_b", "b_to_a") for name in ("l1", "ssim", "wasserstein")]
    a, b = (as_floats(collections / split, NAMES[:5]) for split in ("testA", "testB"))
    assert records["l1_a_to_b"].value == pytest.approx(0.0, abs=1e-3)
    assert records["ssim_a_to_b"].value == pytest.approx(1.0, abs=1e-3)
    identity = absolute_errors(a, b).mean()
    assert records["l1_a_to_b"].baselines == {"identity": pytest.approx(identity, rel=1e-6)}
    assert records["l1_b_to_a"].value == pytest.approx(identity, rel=1e-5)  # which does not translate
    assert records["wasserstein_a_to_b"].value < 0.1 * records["wasserstein_a_to_b"].baselines["identity"]
    assert records["wasserstein_b_to_a"].value == records["wasserstein_b_to_a"].baselines["identity"]


def test_without_pairs_collections_are_compared_as_wholes(translators: Path, tmp_path: Path) -> None:
    for split in ("trainA", "trainB", "testA", "testB"):
        names = [f"{split[-1]}{name}" for name in NAMES[:12]]
        save(tmp_path / "unpaired" / split, names, seed=len(split) + ord(split[-1]) + ord(split[0]))
    found = evaluate(str(translators), EvaluationOptions(against=str(tmp_path / "unpaired")))
    assert [record.name for record in found] == ["wasserstein_a_to_b", "wasserstein_b_to_a"]
    assert "no pairs are compared" in found[0].preprocessing
    options = EvaluationOptions(against=str(tmp_path / "unpaired"), metrics=("l1_a_to_b",))
    with pytest.raises(
        ValueError, match=r"l1_a_to_b can't be computed for made-up: it needs .* pairs of the same names"
    ):
        evaluate(str(translators), options)


def test_images_of_the_training_are_refused(upscaler: Path, translators: Path, collections: Path) -> None:
    with pytest.raises(ValueError, match="are among those that made-up was trained on"):
        evaluate(str(upscaler), EvaluationOptions(split="train"))
    with pytest.raises(ValueError, match="split=train: translations are scored on testA and testB"):
        evaluate(str(translators), EvaluationOptions(split="train"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ("psnr_y", "l1_a_to_b")}, r"metrics=\['l1_a_to_b'\]: the scores of made-up are psnr_y"),
        ({"metrics": ("frechet_distance",)}, "the scores of made-up are"),
        ({"metrics": ("feature_distance",)}, "feature_distance can't be computed for made-up: it needs a classifier"),
        ({"crop": 8}, "crop=8: made-up turns images into images"),
        ({"bound_samples": 8}, "bound_samples=8"),
        ({"extractors": ("cnn-sign-digits", "cnn-mnist")}, "is scored by one"),
    ],
)
def test_options_that_make_no_sense(upscaler: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(str(upscaler), EvaluationOptions(**options))


def test_a_score_can_be_asked_for(upscaler: Path) -> None:
    assert [record.name for record in evaluate(str(upscaler), EvaluationOptions(metrics=("ssim_y",)))] == ["ssim_y"]


def test_feature_distances_are_one_for_other_images() -> None:
    random = np.random.default_rng(0)
    real, other = random.normal(size=(2, 5_000, 8))
    np.testing.assert_array_equal(feature_distances(real, real), 0.0)
    assert feature_distances(other, real).mean() == pytest.approx(1.0, rel=0.05)


def test_filters_are_pillows() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), np.uint8)
    small = resize(images, 0.25, Image.Resampling.BICUBIC)
    assert small.shape == (2, 2, 3, 3)
    np.testing.assert_array_equal(small[1], Image.fromarray(images[1]).resize((3, 2), Image.Resampling.BICUBIC))
    assert resize(images[..., :1], 4, Image.Resampling.LANCZOS).shape == (2, 32, 48, 1)


def test_cards_tables_and_the_console_show_them(
    upscaler: Path, translators: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [record for model in (upscaler, translators) for record in evaluate(str(model))]
    for model in (upscaler, translators):
        found = evaluate(str(model))
        write_scores(model, found)
        card = tables.read_card(model)
        assert to_records(card) == found
        readme = make_readme(card)
        assert ("| score | value | bicubic | lanczos | better |" in readme) == (model is upscaler)
        assert ("| score | value | identity | better |" in readme) == (model is translators)
    tables.write_tables(records, tmp_path / "results")
    for file, baselines in (("photographs", "bicubic,lanczos"), ("collections", "identity")):
        header = (tmp_path / "results" / f"{file}.csv").read_text().splitlines()[0]
        assert f"blurred,{baselines},floor_std" in header
    blocks = tables.readme_table(records).split("\n\n")
    assert [block.splitlines()[0].split(" | ")[0] for block in blocks] == [
        "| 5 images of collections, testB",
        "| 2 images of photographs, test",
    ]
    assert blocks[0].splitlines()[-1].startswith("| identity |")
    assert [line.split(" | ")[0] for line in blocks[1].splitlines()[2:]] == ["| `made-up`", "| bicubic", "| lanczos"]
    main(["evaluate", str(upscaler)])
    shown = capsys.readouterr().out
    assert "psnr_y" in shown
    assert "bicubic" in shown
    main(["evaluate", str(upscaler), "--json"])
    assert json.loads(capsys.readouterr().out)[0]["baselines"].keys() == {"bicubic", "lanczos"}
