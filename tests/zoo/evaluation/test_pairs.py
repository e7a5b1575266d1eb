"""Scores of enlarged and translated images, of networks whose outcome is known."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import msgspec
import numpy as np
import pytest
from keras import layers, ops
from PIL import Image

from serving.card import Card, Data, encode_card, read_card
from zoo.cli.main import main
from zoo.core.ability import Ability
from zoo.data.images import to_float32
from zoo.data.load import load_collections, load_images
from zoo.evaluation import tables
from zoo.evaluation.cards import to_records, write_scores
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.options import EvaluationOptions
from zoo.evaluation.pairs import feature_distances, resize
from zoo.evaluation.random_features import DIMENSION, RandomFeatures
from zoo.evaluation.record import Record
from zoo.export.export import describe_files
from zoo.export.model_card import make_readme
from zoo.export.onnx import write_onnx
from zoo.metrics.fidelity import absolute_errors, peak_signal_to_noise_ratios, structural_similarities
from zoo.metrics.frechet import frechet_distance
from zoo.metrics.moments import Moments

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


def write(
    directory: Path, abilities: dict[str, Ability], data: Path, split: str, channels: int = 3, **recipe: str
) -> Path:
    """An exported model whose card names its data."""
    directory.mkdir()
    records = {}
    for name, ability in abilities.items():
        write_onnx(ability, directory / f"{name}.onnx", rounded=False)
        records[name] = ability.card(f"{name}.onnx")
    card = Card(
        *("made-up", "none", "none", "Apache-2.0", "A made-up model."),
        Data(data.name, split, 1, "MIT", str(data)),
        {"class": "none", "arguments": {"image_shape": [SIDE, SIDE, channels]}},
        *({"fit": "crop", **recipe}, records, next(iter(abilities)), describe_files(directory)),
    )
    (directory / "card.json").write_bytes(encode_card(card))
    return directory


def network(function: Callable, output: str, channels: int = 3) -> keras.Model:
    image = keras.Input((None, None, channels), name="image")
    return keras.Model(image, layers.Identity(name=output)(function(image)))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "photographs"
    save(folder, NAMES, 1)
    return folder


def enlarger(channels: int = 3) -> dict[str, Ability]:
    """Nearest neighbors."""
    larger = network(lambda image: layers.UpSampling2D(2)(image), "upscaled", channels)
    ranges = {"image": RANGE, "upscaled": RANGE}
    return {"upscale": Ability(larger, {"image": "image"}, {"upscaled": "image"}, ranges, scale=2)}


@pytest.fixture(scope="module")
def upscaler(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("models") / "upscaler", enlarger(), photographs, "train")


@pytest.fixture(scope="module")
def gray_upscaler(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("models") / "gray", enlarger(1), photographs, "train", channels=1)


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """B is A, a little brighter."""
    folder = tmp_path_factory.mktemp("data") / "collections"
    for split, seed, names in (("train", 2, NAMES), ("test", 3, NAMES[:5])):
        save(folder / f"{split}A", names, seed)
        save(folder / f"{split}B", names, seed, offset=40)
    return folder


def translator(function: Callable, channels: int = 3) -> Ability:
    brighter = network(lambda image: ops.clip(function(image), -1.0, 1.0), "translation", channels)
    ranges = {"image": RANGE, "translation": RANGE}
    return Ability(brighter, {"image": "image"}, {"translation": "image"}, ranges)


@pytest.fixture(scope="module")
def translators(collections: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A to B as it should be, B to A not at all."""
    abilities = {
        "translate_a_to_b": translator(lambda image: image + 40 / 127.5),
        "translate_b_to_a": translator(lambda image: image),
    }
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
    # As published: Y = 16 + (65.481 R + 128.553 G + 24.966 B) of 0..1, and 255 is the peak.
    of_y = [(each[inside] + 1) / 2 @ [65.481, 128.553, 24.966] + 16 for each in (enlarged, real)]
    expected = 10 * np.log10(255**2 / np.square(of_y[0] - of_y[1]).mean(axis=(1, 2)))
    assert records["psnr_y"].value == pytest.approx(expected.mean(), rel=1e-5)
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


def test_features_tell_translations_from_the_other_collection(translators: Path, tmp_path: Path) -> None:
    names = [f"{number:03}.png" for number in range(DIMENSION + 10)]
    for split, seed, offset in (("trainA", 6, 0), ("trainB", 6, 40), ("testA", 7, 0), ("testB", 7, 40)):
        save(tmp_path / "many" / split, names, seed, offset)
    options = EvaluationOptions(against=str(tmp_path / "many"), extractors=("random-features",))
    records = {record.name: record for record in evaluate(str(translators), options)}
    forth, back = records["frechet_a_to_b"], records["frechet_b_to_a"]
    assert forth.value < 0.01 * forth.baselines["identity"]
    assert back.value == back.baselines["identity"] > 0
    assert forth.metric.startswith("frechet_a_to_b(random-features@")


def test_collections_of_other_sizes_are_compared_by_images_from_everywhere(translators: Path, tmp_path: Path) -> None:
    """By name the dark ones come first: the first ten would be dark ones alone."""
    for split, count in (("trainA", 2), ("trainB", 2), ("testA", 40), ("testB", 20)):
        (tmp_path / "two" / split).mkdir(parents=True)
        for number in range(count):
            level = 30 if number < count // 2 else 200
            Image.new("RGB", (SIDE, SIDE), (level + number % 7,) * 3).save(
                tmp_path / "two" / split / f"{number:02}.png"
            )
    found = {each.name: each for each in evaluate(str(translators), EvaluationOptions(against=str(tmp_path / "two")))}
    assert found["wasserstein_b_to_a"].value < 0.2  # of dark ones against all it would be 0.6


def test_a_model_of_one_direction_says_so(translators: Path, collections: Path, tmp_path: Path) -> None:
    there = write(tmp_path / "there", {"translate_a_to_b": translator(lambda image: image)}, collections, "train")
    assert {record.name[-6:] for record in evaluate(str(there))} == {"a_to_b"}
    with pytest.raises(ValueError, match=r"for made-up: it needs the ability translate_b_to_a\.$"):
        evaluate(str(there), EvaluationOptions(metrics=("wasserstein_b_to_a",)))


def test_the_embedded_images_and_their_negatives_are_pairs(tmp_path: Path) -> None:
    negative = translator(lambda image: -image, 1)
    model = write(tmp_path / "negative", {"translate_a_to_b": negative}, Path("embedded"), "train", channels=1)
    records = {record.name: record for record in evaluate(str(model))}
    assert records["l1_a_to_b"].value == pytest.approx(0.0, abs=1e-5)  # brought to 24 x 24, some round otherwise
    assert records["ssim_a_to_b"].value == pytest.approx(1.0, abs=1e-5)
    assert records["l1_a_to_b"].baselines["identity"] > 0.5


def test_what_a_score_of_pairs_rests_on_is_both_collections(
    translators: Path, collections: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(collections, other)
    shutil.rmtree(other / "testA")
    save(other / "testA", NAMES[:5], 8)
    found = [evaluate(str(translators), EvaluationOptions(against=str(folder)))[0] for folder in (collections, other)]
    assert found[0].value != found[1].value
    assert found[0].data_sha256 != found[1].data_sha256


def test_another_second_collection_than_that_of_the_training_is_noticed(collections: Path, tmp_path: Path) -> None:
    abilities = {"translate_a_to_b": translator(lambda image: image)}
    load = partial(load_collections, str(collections), held_out=False, paired=False, image_size=SIDE, channels=3)
    a, b = (each.fingerprint for each in load())
    right = write(tmp_path / "right", abilities, collections, "train", data_sha256=a, target_sha256=b)
    assert evaluate(str(right))
    wrong = write(tmp_path / "wrong", abilities, collections, "train", data_sha256=a, target_sha256=a)
    with pytest.raises(ValueError, match="holds other images than made-up was trained on"):
        evaluate(str(wrong))
    (first, *_) = evaluate(str(wrong), EvaluationOptions(trained_on=str(collections)))
    assert "training images are others than the card's" in first.preprocessing


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
        (
            {"extractors": ("cnn-mnist",)},
            "cnn-mnist takes images of 28 x 28 x 1, and these are of 24 x 24 x 3: name an",
        ),
        ({"count": 5}, "count=5: made-up turns images into images"),
        ({"seeds": (1,)}, r"seeds=\(1,\): made-up turns images into images"),
        ({"extractors": ("cnn-sign-digits", "cnn-mnist")}, "is scored by one"),
    ],
)
def test_options_that_make_no_sense(upscaler: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(str(upscaler), EvaluationOptions(**options))


def test_gray_images_have_no_scores_of_colors(gray_upscaler: Path) -> None:
    assert [record.name for record in evaluate(str(gray_upscaler))] == ["psnr_y", "ssim_y"]
    for name in ("psnr_rgb", "ssim_rgb"):
        with pytest.raises(ValueError, match=f"{name} can't be computed for made-up: it needs .* in color"):
            evaluate(str(gray_upscaler), EvaluationOptions(metrics=(name,)))


def test_a_card_that_does_not_say_how_large_its_images_are(upscaler: Path, tmp_path: Path) -> None:
    card = msgspec.structs.replace(read_card(upscaler), model={"class": "none", "arguments": {}}, checked="")
    (tmp_path / "upscale.onnx").write_bytes((upscaler / "upscale.onnx").read_bytes())
    (tmp_path / "card.json").write_bytes(encode_card(card))
    with pytest.raises(ValueError, match="the card of made-up names no image_shape"):
        evaluate(str(tmp_path))


def test_features_tell_enlarged_images_from_themselves(upscaler: Path, tmp_path: Path) -> None:
    save(tmp_path / "more", [f"{number}.png" for number in range(DIMENSION + 10)], 5)
    options = EvaluationOptions(against=str(tmp_path / "more"), extractors=("random-features",))
    records = {record.name: record for record in evaluate(str(upscaler), options)}
    real = load_images(str(tmp_path / "more"), split="all", image_size=SIDE, channels=3).images
    small = resize(real, 0.5, Image.Resampling.BICUBIC)
    extractor = RandomFeatures((SIDE, SIDE, 3))
    features, enlarged = (
        extractor(to_float32(images))[0] for images in (real, small.repeat(2, axis=1).repeat(2, axis=2))
    )
    distance, frechet = records["feature_distance"], records["upscaled_frechet_distance"]
    assert distance.value == pytest.approx(feature_distances(enlarged, features).mean(), rel=1e-4)
    assert frechet.value == pytest.approx(frechet_distance(Moments.of(enlarged), Moments.of(features)), rel=1e-4)
    for record in (distance, frechet):
        assert record.extractor == f"random-features@{extractor.sha256}"
        assert record.metric == f"{record.name}(random-features@{extractor.sha256[:8]})"
        assert 0 < record.baselines["lanczos"] < record.value
    few = EvaluationOptions(extractors=("random-features",), metrics=("upscaled_frechet_distance",))
    with pytest.raises(ValueError, match=r"random-features \(--extractors\), and more images than features"):
        evaluate(str(upscaler), few)


def test_of_one_image_nothing_is_said_of_features(upscaler: Path, tmp_path: Path) -> None:
    save(tmp_path / "one", NAMES[:1], 5)
    options = EvaluationOptions(against=str(tmp_path / "one"), extractors=("random-features",))
    found = evaluate(str(upscaler), options)
    assert [record.name for record in found] == ["psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"]
    assert {record.std for record in found} == {None}


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
        assert f"image = model.{'upscale' if model is upscaler else 'translate'}(Image.open(" in readme
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


def test_the_readme_has_a_table_for_each_data_set(
    upscaler: Path, translators: Path, make_score: Callable[..., Record]
) -> None:
    enlarged = evaluate(str(upscaler))
    elsewhere = [replace(record, model="other", data="paintings") for record in enlarged]
    unpaired = make_score(
        *("unpaired", "wasserstein_a_to_b", 0.25),
        data="cats and dogs",
        baselines={"identity": 0.5},
        extractor=None,
        generated_count=0,
    )
    by_features = make_score(
        *("other", "feature_distance", 0.125),
        metric="feature_distance(cnn-fashion-mnist@01234567)",
        data="paintings",
        baselines={"bicubic": 0.5},
        generated_count=0,
    )
    blocks = tables.readme_table([*enlarged, *elsewhere, by_features, unpaired]).split("\n\n")
    heads = [block.splitlines()[0].split(" | ")[0].partition(" images of ")[2] for block in blocks]
    assert heads == ["cats and dogs, test", "paintings, test", "", "photographs, test"]
    assert blocks[0].splitlines()[2:] == ["| `unpaired` | 0.25 ± 0.05 |", "| identity | 0.5 |"]
    assert blocks[2] == "Features: `cnn-fashion-mnist@01234567`."
