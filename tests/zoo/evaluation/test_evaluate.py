"""Images of any source against held-out ones: the record, its baselines, what is kept, what is refused."""

import hashlib
import io
import json
import re
import shutil
import statistics
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from serving.card import Card, Data, encode_card
from serving.pipeline import Pipeline
from serving.sampling.sampler import Sampler
from zoo import load_pretrained
from zoo.data.folders import split_held_out
from zoo.data.images import ImageSet, compute_fingerprint, to_float32
from zoo.data.load import load_images
from zoo.data.store import read_hashed
from zoo.evaluation import cache, generated, held_out, scores, trained_scores
from zoo.evaluation import reference as reference_module
from zoo.evaluation.evaluate import REQUIREMENTS, describe_requirements
from zoo.evaluation.evaluate import evaluate as evaluate_with_options
from zoo.evaluation.extractors import extract_features
from zoo.evaluation.options import EvaluationOptions
from zoo.evaluation.random_features import RandomFeatures
from zoo.evaluation.record import Record, to_plain_data
from zoo.evaluation.reference import Reference, crop_center
from zoo.evaluation.reference import load_reference as load_reference_with_options
from zoo.evaluation.scores import ALL_METRICS, DEFAULT_METRICS, HELD_OUT_METRICS, NETWORK_TRAINING_METRICS
from zoo.evaluation.source import GeneratorSource, open_source
from zoo.export.export import export
from zoo.metrics import latents
from zoo.metrics.distances import sliced_wasserstein_distance
from zoo.metrics.frechet import frechet_distance
from zoo.metrics.moments import Moments
from zoo.metrics.similarity import multiscale_similarity_of_pairs
from zoo.models import vae as vae_module
from zoo.presets.table import PRESETS
from zoo.pretrained import find_directory
from zoo.training.run import build_model

GENERATOR, CLASSIFIER = "dcgan-fashion-mnist", "cnn-fashion-mnist"
COUNT, SEEDS = 200, (3, 5)
PIXELS = ("sliced_wasserstein_distance", "spectral_distance")

Spy = Callable[[], list[int]]
Edit = Callable[..., Path]


def evaluate(
    name: str, *, report_progress: Callable[[str], None] = lambda message: None, **options: Any
) -> list[Record]:
    """`evaluate` with its options by name, any sequence as a tuple."""
    tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return evaluate_with_options(name, EvaluationOptions(**tuples), report_progress=report_progress)


def load_reference(name: Path, **options: Any) -> Reference:
    """The real images for the source at a path."""
    return load_reference_with_options(open_source(str(name)), EvaluationOptions(**options))


def write_twin(
    directory: Path, name: str, recipe: dict[str, Any], *, source: str = "embedded", **arguments: Any
) -> Path:
    """An export that says it was trained on the embedded sample's first 9,000 images, or on another source's."""
    preset = replace(PRESETS[name], arguments={**PRESETS[name].arguments, **arguments})
    data = Data("fashion_mnist_t10k", "train", 9_000, "MIT", source)
    keras.utils.set_random_seed(0)
    export(build_model(preset), directory / name, preset=preset, data=data, recipe=recipe, formats=("onnx",))
    return directory / name


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small DCGAN of 28 x 28 images in 32 x 32; nothing here changes it."""
    return write_twin(tmp_path_factory.mktemp("generator"), GENERATOR, {"fit": "pad"}, width=4, latent_dim=8)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier of 28 x 28 images, 16 features; nothing here changes it."""
    return write_twin(tmp_path_factory.mktemp("classifier"), CLASSIFIER, {"fit": "crop"}, width=4)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and scores of few pairs."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(scores, "multiscale_similarity_of_pairs", partial(multiscale_similarity_of_pairs, pairs=20))
    monkeypatch.setattr(generated, "PATHS", 64)
    return tmp_path / "home"


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> Spy:
    """How many images each call of an extractor saw since it was last asked."""
    seen: list[int] = []
    real = generated.extract_features

    def extract_features(extractor: Any, images: np.ndarray) -> Any:
        seen.append(len(images))
        return real(extractor, images)

    def asked() -> list[int]:
        found = sorted(seen)
        seen.clear()
        return found

    monkeypatch.setattr(generated, "extract_features", extract_features)
    return asked


@pytest.fixture
def trained_on(generator: Path, tmp_path: Path) -> Edit:
    """The generator with other data and another recipe in its card."""

    def edit(source: str, fit: str) -> Path:
        directory = tmp_path / "edited" / GENERATOR
        directory.mkdir(parents=True, exist_ok=True)
        card = json.loads((generator / "card.json").read_text())
        card["data"]["source"], card["recipe"]["fit"] = source, fit
        (directory / "card.json").write_text(json.dumps(card))
        (directory / "generate.onnx").write_bytes((generator / "generate.onnx").read_bytes())
        return directory

    return edit


def embedded(split: str, size: int = 28, **options: Any) -> ImageSet:
    return load_images("embedded", split=split, image_size=size, channels=1, **options)


def write_folder(folder: Path, images: np.ndarray, names: list[str] | None = None) -> Path:
    """Image files; of gray values (count, height, width, 1)."""
    for number, image in enumerate(images):
        path = folder / (names[number] if names else f"{number:05}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    return folder


def by_name(records: list[Record]) -> dict[str, Record]:
    return {record.name: record for record in records}


def row_bytes(images: np.ndarray) -> list[bytes]:
    return sorted(image.tobytes() for image in images)


# The record


def test_a_record_says_what_it_rests_on(generator: Path, classifier: Path) -> None:
    records = evaluate(str(generator), extractors=[str(classifier)], count=COUNT, seeds=SEEDS)
    assert [record.name for record in records] == [name for name in DEFAULT_METRICS if name != "accuracy"]
    sha256 = hashlib.sha256((classifier / "classify.onnx").read_bytes()).hexdigest()
    for record in records:
        title = ALL_METRICS[record.name].title
        assert record.metric == (f"{title}({CLASSIFIER}@{sha256[:8]})" if title else record.name)
        assert record.extractor == (f"{CLASSIFIER}@{sha256}" if title else None)
        assert (record.model, record.data, record.split) == (GENERATOR, "fashion_mnist_t10k", "test")
        assert (record.seeds, record.generated_count, record.real_count) == (SEEDS, COUNT, 1_000)
        assert record.better == ALL_METRICS[record.name].better
        assert record.preprocessing == "8 bits a channel; real ones pad to 32 x 32, Lanczos; the center 28 x 28 of both"
        assert record.source_sha256 == hashlib.sha256((generator / "generate.onnx").read_bytes()).hexdigest()
        assert record.data_sha256 == embedded("test").fingerprint
        assert set(record.versions) == {"generative-zoo", "numpy", "onnxruntime", "pillow"}
        assert record.std is not None
        found = record.name != "perceptual_path_length"
        assert set(record.baselines) == ({"training", "noise", "blurred"} if found else set())
    plain = json.loads(json.dumps(to_plain_data(records)))
    tuples = [{name: tuple(each[name]) for name in ("seeds", "parts")} for each in plain]
    assert [Record(**{**each, **own}) for each, own in zip(plain, tuples, strict=True)] == records


def test_value_and_spread_are_those_of_the_seeds(generator: Path, classifier: Path) -> None:
    def features(images: np.ndarray) -> np.ndarray:
        session = onnxruntime.InferenceSession(classifier / "classify.onnx", providers=["CPUExecutionProvider"])
        (found,) = session.run(["features"], {"image": (images / 127.5 - 1).astype(np.float32)})
        return found

    model, real = load_pretrained(generator, format="onnx"), Moments.of(features(embedded("test").images))
    values = [
        frechet_distance(Moments.of(features(model.sample(COUNT, seed=seed)[:, 2:30, 2:30])), real) for seed in SEEDS
    ]
    options: dict[str, Any] = {"extractors": [str(classifier)], "metrics": ["frechet_distance"], "count": COUNT}
    (record,) = evaluate(str(generator), seeds=SEEDS, **options)
    assert record.value == pytest.approx(statistics.mean(values), rel=1e-4)
    assert record.std == pytest.approx(statistics.stdev(values), rel=0.05)  # small beside the values: float32 is seen
    (alone,) = evaluate(str(generator), seeds=SEEDS[:1], **options)
    assert alone.value == pytest.approx(values[0], rel=1e-4)
    assert alone.std is None


# What is kept


def test_a_second_run_reads_what_the_first_one_kept(
    generator: Path, classifier: Path, home: Path, extracted: Spy
) -> None:
    run = partial(
        evaluate,
        str(generator),
        extractors=[str(classifier)],
        metrics=("frechet_distance", "copies", "coverage"),
        count=COUNT,
        seeds=SEEDS,
    )
    first = run()
    # each seed's images; noise, blurred; held-out and all training images, of which the baseline takes two draws
    assert extracted() == [COUNT] * 4 + [1_000, 9_000]
    kept = sorted(path.relative_to(home / "evaluation") for path in (home / "evaluation").rglob("*.*"))
    assert [(path.parent.name, path.suffix) for path in kept] == [("baselines", ".json"), *[("features", ".npz")] * 4]
    assert run() == first
    assert extracted() == [COUNT] * 2
    assert sorted(path.relative_to(home / "evaluation") for path in (home / "evaluation").rglob("*.*")) == kept


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data.replace(b"0", b"1"), lambda data: b""])
def test_what_was_kept_and_is_damaged_is_computed_again(
    damage: Callable[[bytes], bytes], generator: Path, classifier: Path, home: Path
) -> None:
    run = partial(evaluate, str(generator), extractors=[str(classifier)], metrics=["precision"], count=30, seeds=(0,))
    first = run()
    kept = {path: path.read_bytes() for path in (home / "evaluation").rglob("*.*")}
    assert {path.suffix for path in kept} == {".json", ".npz"}
    for path, data in kept.items():
        path.write_bytes(damage(data))
    assert run() == first
    assert [read_hashed(path.read_bytes()) for path in kept if path.suffix == ".json"] == [
        read_hashed(data) for path, data in kept.items() if path.suffix == ".json"
    ]


def test_what_was_kept_does_not_outlive_what_it_depends_on(
    generator: Path, classifier: Path, extracted: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count_extracted(metric: str = "precision", count: int = 30) -> list[int]:
        evaluate(str(generator), extractors=[str(classifier)], metrics=[metric], count=count, seeds=(0,))
        return extracted()

    assert count_extracted() == [30] * 4 + [1_000]
    assert count_extracted() == [30]
    assert count_extracted(count=40) == [40] * 4  # the baselines are of as many
    monkeypatch.setattr(generated, "BLUR", 0.1)
    monkeypatch.setattr(generated, "hash_code", lambda: "other code")
    assert count_extracted() == [30] * 4 + [1_000]
    monkeypatch.setattr(generated, "library_versions", lambda: {"numpy": "another"})
    assert count_extracted() == [30] * 4 + [1_000]


@pytest.mark.parametrize("file", ["metrics/frechet.py", "evaluation/scores.py", "data/images.py"])
def test_the_code_of_scores_is_all_that_numbers_come_from(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cache.hash_code()
    copied = shutil.copytree(cache.PACKAGE, tmp_path / "zoo")
    monkeypatch.setattr(cache, "CODE", [copied / path.relative_to(cache.PACKAGE) for path in cache.CODE])
    assert cache.hash_code() == before
    with (copied / file).open("a") as changed:
        changed.write("\n")
    assert cache.hash_code() != before


def test_nothing_is_kept_of_what_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with cache.write_atomically(tmp_path / "file") as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_copies_alone_ask_for_the_training_images(generator: Path, classifier: Path, extracted: Spy) -> None:
    for metrics, counts in ((["recall"], [20] * 4 + [1_000]), (["copies"], [20, 9_000])):
        evaluate(str(generator), extractors=[str(classifier)], metrics=metrics, count=20, seeds=(0,))
        assert extracted() == counts


def test_the_training_baseline_is_the_same_whichever_features_it_takes(
    generator: Path, classifier: Path, extracted: Spy, home: Path
) -> None:
    """Beside copies it takes rows of all training images' features; alone it has features made of its own images."""
    found = []
    for metrics in (["frechet_distance", "recall", "copies"], ["frechet_distance", "recall"]):
        records = evaluate(str(generator), extractors=[str(classifier)], metrics=metrics, count=50, seeds=(0,))
        found.append([by_name(records)[name].baselines for name in ("frechet_distance", "recall")])
    assert found[0] == found[1]
    assert extracted().count(9_000) == 1


def test_square_training_images_are_decoded_once(generator: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[tuple[str, int | None]] = []

    def load(source: str, *, split: str, image_size: int | None, **options: Any) -> ImageSet:
        loaded.append((split, image_size))
        return load_images(source, split=split, image_size=image_size, **options)

    monkeypatch.setattr("zoo.evaluation.reference.load_images", load)
    load_reference(generator)
    assert sorted(loaded, key=str) == [("test", 32), ("train", None)]


def test_the_floor_is_of_as_many_images_as_the_scores(trained_on: Edit, tmp_path: Path) -> None:
    images = embedded("train", 32).images[:50]
    names = [f"{'train' if number < 30 else 'test'}/{number}.png" for number in range(50)]
    model = trained_on(str(write_folder(tmp_path / "few", images, names)), "crop")
    (record,) = evaluate(str(model), metrics=["sliced_wasserstein_distance"], count=COUNT, seeds=SEEDS)
    assert record.generated_count == 30
    (found,) = evaluate(str(model), metrics=["sliced_wasserstein_distance"], count=30, seeds=SEEDS)
    assert (found.value, found.baselines) == (record.value, record.baselines)


def test_the_floor_is_drawn_as_often_as_there_are_seeds(generator: Path) -> None:
    name = "sliced_wasserstein_distance"
    (one,) = evaluate(str(generator), metrics=[name], count=40, seeds=(0,))
    (record,) = evaluate(str(generator), metrics=[name], count=40, seeds=(0, 1, 2))
    reference = load_reference(generator)
    assert reference.train is not None
    drawn = []
    for draw in range(3):
        rows = np.random.Generator(np.random.Philox(draw)).permutation(9_000)[:40]
        real, training = (to_float32(images[:40]) for images in (reference.real.images, reference.train.images[rows]))
        drawn.append(sliced_wasserstein_distance(training, real))
    assert one.baselines["training"] == pytest.approx(drawn[0], rel=1e-5)
    assert one.floor_std is None
    assert record.baselines["training"] == pytest.approx(statistics.mean(drawn), rel=1e-5)
    assert record.floor_std == pytest.approx(statistics.stdev(drawn), rel=1e-4)


# Known answers


def test_copies_of_training_images_are_found(classifier: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "copies", embedded("train").images[:60])
    found = by_name(
        evaluate(
            str(folder),
            against="embedded",
            trained_on="embedded",
            extractors=[str(classifier)],
            metrics=("copies", "copy_distance"),
            seeds=(0, 1),
        )
    )
    assert (found["copies"].value, found["copies"].std) == (1.0, 0.0)
    assert found["copies"].generated_count == 30
    assert found["copy_distance"].value == 0.0
    assert found["copies"].baselines["training"] < 0.05
    assert found["copy_distance"].baselines["training"] == pytest.approx(1.0, abs=0.1)


def test_held_out_images_score_as_training_images_do(classifier: Path, tmp_path: Path) -> None:
    test = embedded("test").images
    one, other = (
        write_folder(tmp_path / "one", test[:400]),
        write_folder(tmp_path / "other" / "test", test[400:]).parent,
    )
    metrics = ("frechet_distance", "precision", "recall", "coverage", "copies", "copy_distance", *PIXELS)
    records = evaluate(
        str(one), against=str(other), trained_on="embedded", extractors=[str(classifier)], metrics=metrics, seeds=(0, 1)
    )
    found = by_name(records)
    assert set(found) == set(metrics)
    for name in ("frechet_distance", *PIXELS):
        training, *worse = (found[name].baselines[images] for images in ("training", "noise", "blurred"))
        assert 0.5 < found[name].value / training < 2, name
        assert min(worse) > 1.3 * max(found[name].value, training), name
    for name in ("precision", "recall", "coverage", "copies"):
        assert found[name].value == pytest.approx(found[name].baselines["training"], abs=0.06), name
    assert found["copy_distance"].value == pytest.approx(1.0, abs=0.1)


def test_the_held_out_images_that_training_has_too_are_left_out(
    generator: Path, classifier: Path, tmp_path: Path
) -> None:
    test, train = embedded("test"), embedded("train")
    # 2 of 302 images: fewer than one in a hundred
    mixed = write_folder(tmp_path / "mixed" / "test", np.concatenate([test.images[:300], train.images[:2]])).parent
    (record,) = evaluate(str(generator), against=str(mixed), metrics=["recall"], extractors=[str(classifier)], count=20)
    assert record.real_count == 300
    assert record.preprocessing.endswith("; 2 left out that training has too")
    assert record.data_sha256 == compute_fingerprint(test.images[:300])


# Which images, and how they are cut


def test_the_first_held_out_images_are_of_all_classes(tmp_path: Path) -> None:
    # Gray as the class, so sorted by class as a folder is: 4 classes of 50.
    images = np.repeat(np.arange(200, dtype=np.uint8) // 50, 28 * 28).reshape(200, 28, 28, 1)
    names = [f"test/{number // 50}/{number}.png" for number in range(200)]
    folder = write_folder(tmp_path / "sorted", images, names)
    reference = load_reference(folder, against=str(folder))
    assert reference.real.labels is not None
    np.testing.assert_array_equal(reference.real.labels, reference.real.images[:, 0, 0, 0])
    assert np.bincount(reference.real.labels[:40], minlength=4).min() >= 3
    np.testing.assert_array_equal(np.bincount(reference.real.labels), [50] * 4)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (27, 27), (20, 27), (27, 20), (40, 40)])
def test_padding_is_cut_off_real_and_generated_images_alike(
    height: int, width: int, trained_on: Edit, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(1, 256, (12, height, width, 1), np.uint8)
    folder = write_folder(tmp_path / "data" / "test", images[:6]).parent
    write_folder(folder / "train", images[6:])
    reference = load_reference(trained_on(str(folder), "pad"))
    side = min(max(height, width), 32)
    assert reference.train is not None
    for image_set, split in ((reference.real, "test"), (reference.train, "train")):
        padded = load_images(str(folder), split=split, image_size=32, channels=1, fit="pad").images
        assert image_set.images.shape == (6, side, side, 1)
        assert row_bytes(image_set.images) == row_bytes(crop_center(padded, side))
        assert np.count_nonzero(image_set.images) == np.count_nonzero(padded)  # nothing but padding is lost


def test_padding_is_that_of_the_training_images(trained_on: Edit, tmp_path: Path) -> None:
    large = write_folder(tmp_path / "large" / "test", np.full((3, 50, 50, 1), 9, np.uint8)).parent
    reference = load_reference(trained_on("embedded", "pad"), against=str(large))
    assert (reference.crop, reference.real.images.shape) == (28, (3, 28, 28, 1))


def test_a_crop_that_is_asked_for_cuts_both(generator: Path) -> None:
    reference = load_reference(generator, crop=24)
    wanted = embedded("test").images[:, 2:26, 2:26]
    assert reference.crop == 24
    assert row_bytes(reference.real.images) == row_bytes(wanted)


def test_without_a_card_real_images_are_brought_to_what_is_left(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "padded", np.zeros((2, 33, 33, 1), np.uint8))
    reference = load_reference(folder, against="embedded", trained_on="embedded", crop=28)
    assert row_bytes(reference.real.images) == row_bytes(embedded("test").images)
    assert reference.preprocessing == (
        "8 bits a channel; real ones crop to 28 x 28, Lanczos; the center 28 x 28 of generated ones"
    )


def test_without_padding_nothing_is_cut(trained_on: Edit) -> None:
    reference = load_reference(trained_on("embedded", "crop"))
    assert reference.crop is None
    assert row_bytes(reference.real.images) == row_bytes(embedded("test", 32).images)
    assert reference.preprocessing == "8 bits a channel; real ones crop to 32 x 32, Lanczos"


def test_an_odd_margin_is_larger_on_the_right() -> None:
    # as Pillow's pad does: 5 of 8 leaves (8 - 5) // 2 = 1 before and 2 behind
    image = np.arange(64).reshape(1, 8, 8, 1)
    np.testing.assert_array_equal(crop_center(image, 5)[0, :, :, 0], image[0, 1:6, 1:6, 0])


# Several extractors, or none


def test_scores_of_pixels_need_no_extractor(generator: Path, extracted: Spy) -> None:
    records = evaluate(str(generator), metrics=PIXELS, count=20, seeds=(0,), crop=16)  # the data set's own takes 28
    assert [record.name for record in records] == list(PIXELS)
    assert {record.extractor for record in records} == {None}
    assert all(set(record.baselines) == {"training", "noise", "blurred"} for record in records)
    assert extracted() == []


def test_a_second_extractor_adds_its_own_scores_alone(generator: Path, classifier: Path, tmp_path: Path) -> None:
    other = write_twin(tmp_path / "other", CLASSIFIER, {"fit": "crop"}, width=2)
    records = evaluate(
        str(generator),
        extractors=[str(classifier), str(other), str(classifier)],
        metrics=("precision", "ms_ssim"),
        count=20,
        seeds=(0,),
    )
    assert [record.name for record in records] == ["precision", "ms_ssim", "precision"]
    assert len({record.metric for record in records}) == 3


def test_random_features_give_a_second_frechet_distance(generator: Path) -> None:
    metrics = ("frechet_distance", "precision")
    records = evaluate(str(generator), metrics=metrics, count=150, seeds=(0,))
    assert [record.name for record in records] == [*metrics, "frechet_distance"]
    first, _, second = records
    assert (first.metric[:4], second.metric[:32]) == ("FCD(", "frechet_distance(random-features")
    (named,) = evaluate(str(generator), metrics=metrics[:1], extractors=["random-features"], count=150, seeds=(0,))
    assert named == second
    images = np.concatenate(list(open_source(str(generator)).draw(150, (0,), 0)))  # type: ignore[attr-defined]
    features = [
        extract_features(RandomFeatures((28, 28, 1)), each)[0]
        for each in (crop_center(images, 28), load_reference(generator).real.images)
    ]
    assert second.value == pytest.approx(frechet_distance(*map(Moments.of, features)), rel=1e-5)
    records = evaluate(str(generator), metrics=["precision"], count=150, seeds=(0,))
    assert [record.name for record in records] == ["precision"]
    (pixels,) = evaluate(str(generator), metrics=["ms_ssim"], count=20, seeds=(0,))
    assert pixels.name == "ms_ssim"


def test_images_are_drawn_once_for_all_extractors(generator: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, draw = [], GeneratorSource.draw

    def draw_and_count(self: GeneratorSource, count: int, *seed: Any) -> Any:
        drawn.append(count)
        return draw(self, count, *seed)

    monkeypatch.setattr(GeneratorSource, "draw", draw_and_count)
    records = evaluate(str(generator), metrics=["frechet_distance"], count=150, seeds=SEEDS)
    assert len(records) == 2
    assert drawn == [150, 150]


def test_of_too_few_images_there_is_no_second_distance(generator: Path, classifier: Path, tmp_path: Path) -> None:
    few = str(write_folder(tmp_path / "few", embedded("test").images[:128]))
    with pytest.raises(ValueError, match="128 images, and random-features has 128 features"):
        evaluate(str(generator), against=few, metrics=["frechet_distance"], extractors=["random-features"], seeds=(0,))
    (record,) = evaluate(str(generator), against=few, metrics=["ms_ssim"], count=20, seeds=(0,))
    assert record.name == "ms_ssim"
    names = [record.name for record in evaluate(str(generator), against=few, count=20, seeds=(0,), crop=24)]
    assert "frechet_distance" not in names


def test_the_data_sets_own_extractor_is_the_default(generator: Path) -> None:
    (record,) = evaluate(str(generator), metrics=["precision"], count=20, seeds=(0,))
    assert record.metric.startswith("precision(cnn-fashion-mnist@")


# Scores that train a network


def test_trained_scores_see_each_seeds_images_and_as_many_real_ones(
    generator: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []

    def accuracy(*arguments: Any, seed: int) -> trained_scores.ClassificationAccuracy:
        calls.append((*arguments, seed))
        return trained_scores.ClassificationAccuracy(on_generated=seed / 10, on_real=0.8, on_both=0.9)

    def divergence(*arguments: Any, seed: int) -> float:
        calls.append((*arguments, seed))
        return len(calls) / 10

    monkeypatch.setattr(trained_scores, "classification_accuracy", accuracy)
    monkeypatch.setattr(trained_scores, "discriminator_divergence", divergence)
    found = by_name(
        evaluate(str(generator), extractors=[str(classifier)], metrics=NETWORK_TRAINING_METRICS, count=40, seeds=(1, 4))
    )
    test, train = embedded("test"), embedded("train")
    model = load_pretrained(generator, format="onnx")
    samples = [model.sample(40, seed=seed)[:, 2:30, 2:30] for seed in (1, 4)]
    for call, wanted, seed in zip(calls[:2], samples, (1, 4), strict=True):
        image_list, labels, real, real_labels, held_out, held_out_labels, given = call
        np.testing.assert_allclose(image_list.astype(int), wanted, atol=1)
        assert share_of_correct(classifier, replace(train, images=image_list, labels=labels)) == 1
        for images, numbers, whole in ((real, real_labels, train), (held_out, held_out_labels, test)):
            assert whole.labels is not None
            known = dict(zip((image.tobytes() for image in whole.images), whole.labels, strict=True))
            assert [known[image.tobytes()] for image in images[:50]] == numbers[:50].tolist()
        assert (len(real), len(held_out), given) == (9_000, 1_000, seed)
    for call, wanted, seed in zip(calls[3:], samples, (1, 4), strict=True):  # after the baseline's
        np.testing.assert_allclose(call[0].astype(int), wanted, atol=1)
        assert (call[1].shape, call[2]) == ((40, 28, 28, 1), seed)
    assert {image.tobytes() for image in calls[2][0]} < {image.tobytes() for image in train.images}
    assert found["classification_accuracy"].value == pytest.approx(0.25)
    assert found["classification_accuracy"].baselines["training"] == pytest.approx(0.8)
    assert found["augmentation"].value == pytest.approx(0.1)
    assert found["discriminator_jsd_bound"].value == pytest.approx(0.45)  # the fourth and fifth call
    assert found["discriminator_jsd_bound"].baselines["training"] == pytest.approx(0.3)


@pytest.mark.slow
def test_networks_are_trained(generator: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("classification_accuracy", "discriminator_divergence"):
        monkeypatch.setattr(
            trained_scores, name, partial(getattr(trained_scores, name), steps=2, batch_size=8, width=4)
        )
    records = evaluate(
        str(generator), extractors=[str(classifier)], metrics=NETWORK_TRAINING_METRICS, count=40, seeds=(1,)
    )
    found = by_name(records)
    assert set(found) == set(NETWORK_TRAINING_METRICS)
    assert 0 <= found["classification_accuracy"].value <= 1
    assert 0 <= found["discriminator_jsd_bound"].value <= np.log(2)
    for name in ("classification_accuracy", "discriminator_jsd_bound"):
        assert set(found[name].baselines) == {"training"}
    extractor = found["classification_accuracy"].extractor
    assert extractor is not None
    assert extractor.startswith(f"{CLASSIFIER}@")  # it names the classes of generated images
    assert found["discriminator_jsd_bound"].extractor is None


# Classifiers


def share_of_correct(directory: Path, image_set: ImageSet) -> float:
    session = onnxruntime.InferenceSession(directory / "classify.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": (image_set.images / 127.5 - 1).astype(np.float32)})
    return float(np.mean(logits.argmax(axis=1) == image_set.labels))


def test_a_classifier_has_one_score(classifier: Path) -> None:
    (record,) = evaluate(str(classifier))
    test = embedded("test")
    assert record.value == pytest.approx(share_of_correct(classifier, test), abs=2e-3)
    assert record.std == pytest.approx((record.value * (1 - record.value) / 1_000) ** 0.5, rel=1e-4)
    assert (record.metric, record.name, record.model, record.better) == ("accuracy", "accuracy", CLASSIFIER, "higher")
    assert (record.real_count, record.generated_count, record.seeds) == (1_000, 0, ())
    assert (record.data, record.split, record.data_sha256) == ("fashion_mnist_t10k", "test", test.fingerprint)
    assert record.preprocessing == "8 bits a channel; crop to 28 x 28, Lanczos"
    assert evaluate(str(classifier), metrics=["accuracy"]) == [record]


@pytest.mark.parametrize(("split", "count"), [("test", 1_000), pytest.param("all", 10_000, marks=pytest.mark.slow)])
def test_the_shipped_classifier_names_nine_in_ten(split: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real, train = reference_module.load_images, embedded("train")
    blank = replace(train, images=np.zeros_like(train.images), name="fashion_mnist")

    def load(source: str, **options: Any) -> ImageSet:  # its training images are not here
        return blank if source == "fashion_mnist" else real(source, **options)

    monkeypatch.setattr(reference_module, "load_images", load)
    (record,) = evaluate(CLASSIFIER, against="embedded", split=split)
    assert record.real_count == count
    assert record.value > 0.9
    wanted = share_of_correct(find_directory(CLASSIFIER), embedded(split))
    assert record.value == pytest.approx(wanted, abs=1.5 / count)  # one image may fall to the other side of a tie


def test_a_classifiers_own_training_images_are_refused(classifier: Path) -> None:
    for split, count in (("train", "9000 of 9000"), ("all", "9000 of 10000")):
        with pytest.raises(ValueError, match=f"{count} images .* {CLASSIFIER} was trained on: give images that"):
            evaluate(str(classifier), split=split)


def test_images_of_other_classes_or_of_none_have_no_accuracy(classifier: Path, tmp_path: Path) -> None:
    images = embedded("test").images[:4]
    plain = write_folder(tmp_path / "plain" / "test", images)
    other = write_folder(tmp_path / "other", images, [f"test/{name}/0.png" for name in ("a", "b", "c", "d")])
    with pytest.raises(ValueError, match="plain, all, has no labels: an accuracy needs them"):
        evaluate(str(classifier), against=str(plain.parent))
    with pytest.raises(ValueError, match="other has the classes a, b, c, d, and cnn-fashion-mnist names T-shirt/top"):
        evaluate(str(classifier), against=str(other))


# What a model makes of held-out images


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """40 training and 40 test images, 8 x 8, four a class: "gray", whose brightness goes with it, and "binary".

    "plain" has test images alone, and no classes.
    """
    folder, random = tmp_path_factory.mktemp("digits"), np.random.default_rng(0)
    names = [f"{split}/{digit}/{number}.png" for split in ("train", "test") for digit in range(10) for number in "abcd"]
    levels = np.repeat(np.tile(np.arange(10), 2), 4)[:, None, None, None]
    gray = (random.integers(0, 100, (80, 8, 8, 1)) + 15 * levels).astype(np.uint8)
    binary = (255 * random.integers(0, 2, (80, 8, 8, 1))).astype(np.uint8)
    return {
        "gray": write_folder(folder / "gray", gray, names),
        "binary": write_folder(folder / "binary", binary, names),
        "plain": write_folder(folder / "plain", gray[40:], [f"test/{number}.png" for number in range(40)]),
    }


def write_coder(directory: Path, name: str, source: Path, **arguments: Any) -> Path:
    """A tiny autoencoder or VAE that says it was trained on `source`."""
    tiny = {**PRESETS[name].tiny, **arguments}
    return write_twin(directory, name, {"fit": "crop"}, source=str(source), **tiny)


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory, digits: dict[str, Path]) -> Path:
    """A VAE of black and white images, 2 samples at once; nothing here changes it."""
    return write_coder(tmp_path_factory.mktemp("vae"), "vae-mnist", digits["binary"])


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory, digits: dict[str, Path]) -> Path:
    """A VAE that is told the class of gray images; nothing here changes it."""
    return write_coder(tmp_path_factory.mktemp("conditional"), "cvae-mnist", digits["gray"])


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory, digits: dict[str, Path]) -> Path:
    """Of gray images; nothing here changes it."""
    return write_coder(tmp_path_factory.mktemp("autoencoder"), "sparse-autoencoder-mnist", digits["gray"])


def read_held_out(directory: Path, against: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The held-out images as a model takes them, in the order in which they are shown, and their classes."""
    reference = load_reference(directory, against=against and str(against))
    assert reference.real.labels is not None
    return (reference.real.images / 127.5 - 1).astype(np.float32), reference.real.labels.astype(np.int32)


def test_bounds_are_means_over_held_out_images(vae: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = partial(evaluate, str(vae), seeds=(3, 5))
    found = by_name(run(metrics=("elbo", "importance_weighted_bound")))
    pipeline, (images, _) = Pipeline.from_directory(vae, ability="log_prob"), read_held_out(vae)
    sha256 = hashlib.sha256((vae / "log_prob.onnx").read_bytes()).hexdigest()
    for name, bound, label in (
        ("elbo", "elbo", "elbo"),
        ("importance_weighted_bound", "importance_weighted", "IWAE-2"),
    ):
        values, record = pipeline.log_prob(images, seed=3, bound=bound).values, found[name]
        assert record.value == pytest.approx(statistics.mean(values), rel=1e-5)
        assert record.std == pytest.approx(statistics.stdev(values) / 40**0.5, rel=1e-4)
        assert (record.metric, record.better, record.seeds) == (label, "higher", (3,))
        assert (record.real_count, record.generated_count, record.baselines) == (40, 0, {})
        assert record.preprocessing == "8 bits a channel; real ones crop to 8 x 8, Lanczos"
        assert record.source_sha256 == sha256
    (more,) = run(metrics=["importance_weighted_bound"], bound_samples=6)
    assert more.metric == "IWAE-6"
    assert more.value == pytest.approx(pipeline.log_prob(images, seed=3, samples=6).values.mean(), rel=1e-5)
    monkeypatch.setattr(held_out, "BATCH_SIZE", 7)
    assert by_name(run(metrics=("elbo", "importance_weighted_bound"))) == found


@pytest.fixture
def declared(vae: Path, tmp_path: Path) -> Callable[[str | None], Path]:
    """The VAE with another support of its bounds in its card, or none."""

    def edit(support: str | None) -> Path:
        directory = tmp_path / "declared" / vae.name
        shutil.copytree(vae, directory)
        card = json.loads((directory / "card.json").read_text())
        for output in card["abilities"]["log_prob"]["outputs"]:
            output["support"] = support
        card["checked"] = ""
        (directory / "card.json").write_bytes(encode_card(msgspec.convert(card, Card)))
        return directory

    return edit


@pytest.mark.parametrize(
    ("support", "of_binary", "of_gray"),
    [
        ("binary", "", " (cross-entropy)"),
        ("real", " (density)", " (density)"),
        ("levels", "", ""),
        (None, "", ""),  # a card from before there was a support
    ],
)
def test_a_bound_says_of_what_it_is_one(
    support: str | None, of_binary: str, of_gray: str, declared: Callable[[str | None], Path], digits: dict[str, Path]
) -> None:
    directory = str(declared(support))
    for against, remark in (("binary", of_binary), ("gray", of_gray)):
        found = by_name(evaluate(directory, against=str(digits[against]), seeds=(0,), metrics=["elbo"]))
        assert found["elbo"].metric == f"elbo{remark}"
        run = partial(evaluate, directory, against=str(digits[against]), seeds=(0,))
        if support == "levels":
            found = by_name(run(metrics=["importance_weighted_bound", "bits_per_dimension"]))
            bits, bound = found["bits_per_dimension"], found["importance_weighted_bound"]
            assert (bound.metric, bits.metric, bits.better) == ("IWAE-2", "bits_per_dimension (IWAE-2)", "lower")
            assert bits.value == pytest.approx(-bound.value / np.log(2) / 64, rel=1e-5)
            assert bound.std is not None
            assert bits.std == pytest.approx(bound.std / np.log(2) / 64, rel=1e-5)
        else:
            with pytest.raises(ValueError, match=r"^bits_per_dimension can't be .* a likelihood of gray levels"):
                run(metrics=["bits_per_dimension"])


def test_latents_are_those_of_the_encoder(vae: Path) -> None:
    found = by_name(evaluate(str(vae), seeds=(3, 5), metrics=("active_units", "aggregate_divergence")))
    mean, log_scale = load_pretrained(vae).encoder(read_held_out(vae)[0])
    wanted = latents.latent_statistics(np.array(mean), np.exp(log_scale), seed=3)
    units, divergence = found["active_units"], found["aggregate_divergence"]
    assert (units.metric, units.value, units.std) == ("active_units (of 4)", wanted.active_units, None)
    assert units.value > 0
    assert divergence.value == pytest.approx(wanted.aggregate_divergence, rel=1e-3)
    assert divergence.std == pytest.approx(wanted.error, rel=1e-3)
    assert (divergence.better, units.better, divergence.seeds, units.seeds) == ("lower", "higher", (3,), ())


def test_divergence_and_information_of_the_latents(vae: Path) -> None:
    run = partial(evaluate, str(vae), seeds=(3, 5))
    found = by_name(run(metrics=("posterior_divergence", "mutual_information", "aggregate_divergence")))
    mean, log_scale = (np.array(each, np.float64) for each in load_pretrained(vae).encoder(read_held_out(vae)[0]))
    nats = 0.5 * (mean**2 + np.exp(2 * log_scale) - 1) - log_scale  # KL(N(mean, scale^2) || N(0, 1))
    divergence, information, rest = found.values()
    assert divergence.parts == pytest.approx(nats.mean(axis=0), rel=1e-3)
    assert len(set(divergence.parts)) == 4  # else their order would not show
    assert divergence.value == pytest.approx(nats.sum(axis=1).mean(), rel=1e-3)
    assert divergence.std == pytest.approx(nats.sum(axis=1).std(ddof=1) / 40**0.5, rel=1e-3)
    assert information.value == pytest.approx(divergence.value - rest.value, rel=1e-4)
    assert 0 < information.value < np.log(40)
    assert information.std == rest.std
    assert (divergence.seeds, information.seeds, information.parts) == ((), (3,), ())
    assert (divergence.better, information.better) == ("lower", "higher")
    assert run(metrics=["posterior_divergence"]) == [divergence]


def test_what_counts_as_active_is_the_same_in_training() -> None:
    assert latents.ACTIVE == vae_module.ACTIVE


def test_an_autoencoder_has_the_error_of_its_reconstructions(autoencoder: Path) -> None:
    (record,) = evaluate(str(autoencoder))
    errors = np.array(load_pretrained(autoencoder).squared_errors(read_held_out(autoencoder)[0]), np.float64)
    assert record.value == pytest.approx(errors.mean(), rel=1e-4)
    assert record.std == pytest.approx(errors.std(ddof=1) / 40**0.5, rel=1e-3)
    assert (record.metric, record.better, record.seeds, record.generated_count) == ("squared_error", "lower", (), 0)
    assert record.source_sha256 == hashlib.sha256((autoencoder / "reconstruct.onnx").read_bytes()).hexdigest()
    assert evaluate(str(autoencoder), metrics=["squared_error"], seeds=(7,)) == [record]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (["frechet_distance"], "generates no images, so it has no frechet_distance: choose from elbo, "),
        (["squared_error", "copies", "accuracy"], "so it has no accuracy, copies: choose from elbo, "),
        (["elbo"], "elbo can't be computed for sparse-autoencoder-mnist"),
        # Its codes are no distribution.
        (["active_units"], "active_units can't be computed for sparse-autoencoder-mnist"),
    ],
)
def test_an_autoencoder_has_nothing_else(metrics: list[str], message: str, autoencoder: Path) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(str(autoencoder), metrics=metrics)


def test_a_model_is_told_the_classes_of_the_images(conditional: Path, digits: dict[str, Path]) -> None:
    metrics = ("elbo", "importance_weighted_bound", "active_units", "squared_error")
    found = by_name(evaluate(str(conditional), seeds=(3,), metrics=metrics))
    images, labels = read_held_out(conditional)
    bounds = Pipeline.from_directory(conditional, ability="log_prob")
    told, other = (bounds.log_prob(images, seed=3, bound="elbo", label=each) for each in (labels, (labels + 1) % 10))
    assert found["elbo"].value == pytest.approx(told.values.mean(), rel=1e-5)
    assert found["elbo"].value != pytest.approx(other.values.mean(), rel=1e-5)
    assert found["elbo"].metric == "elbo (cross-entropy, given the class)"
    assert found["importance_weighted_bound"].metric == "IWAE-2 (cross-entropy, given the class)"
    given_back = Pipeline.from_directory(conditional, ability="reconstruct").run({"image": images, "label": labels})
    assert found["squared_error"].value == pytest.approx(
        np.square(given_back["reconstruction"] - images).mean() / 4, rel=1e-5
    )
    for against in (str(digits["plain"]), "embedded"):  # of no classes, of others
        with pytest.raises(ValueError, match="held-out images of its classes if it takes a class"):
            evaluate(str(conditional), against=against, metrics=["elbo"])
        assert evaluate(str(conditional), against=against, metrics=["spectral_distance"], count=20)


def test_a_vae_has_the_scores_of_its_images_and_those_of_held_out_ones(vae: Path, tmp_path: Path) -> None:
    extractor = write_twin(tmp_path / "extractor", "cnn-mnist", {"fit": "crop"}, image_shape=(8, 8, 1), width=2)
    found = [record.name for record in evaluate(str(vae), extractors=[str(extractor)], count=20, seeds=(0, 1))]
    of_held_out = [name for name in HELD_OUT_METRICS if name != "bits_per_dimension"]
    assert found[-len(of_held_out) :] == of_held_out
    assert {"frechet_distance", "precision", "spectral_distance", "perceptual_path_length"} < set(found)
    assert len(set(found)) == len(found)


def test_a_model_is_shown_images_with_the_padding_it_was_trained_with(vae: Path, tmp_path: Path) -> None:
    images = (255 * np.random.default_rng(1).integers(0, 2, (40, 6, 6, 1))).astype(np.uint8)
    names = [f"{split}/{number}.png" for split in ("train", "test") for number in range(20)]
    folder = write_folder(tmp_path / "small", images, names)
    directory = tmp_path / "padded" / vae.name
    shutil.copytree(vae, directory)
    card = json.loads((directory / "card.json").read_text())
    card["data"]["source"], card["recipe"]["fit"] = str(folder), "pad"
    (directory / "card.json").write_text(json.dumps(card))
    found = by_name(evaluate(str(directory), metrics=("squared_error", "spectral_distance"), count=20, seeds=(0,)))
    assert found["spectral_distance"].preprocessing.endswith("the center 6 x 6 of both")
    assert found["squared_error"].preprocessing == "8 bits a channel; real ones pad to 8 x 8, Lanczos"
    shown = np.pad(images[20:], ((0, 0), (1, 1), (1, 1), (0, 0))).astype(np.float32) / 127.5 - 1
    given_back = Pipeline.from_directory(vae, ability="reconstruct").run({"image": shown})["reconstruction"]
    assert found["squared_error"].value == pytest.approx(np.square(given_back - shown).mean() / 4, rel=1e-5)


def test_a_number_of_samples_is_a_multiple_and_for_bounds_alone(vae: Path, autoencoder: Path) -> None:
    with pytest.raises(ValueError, match="samples=5: the graph takes 2 at once, give a multiple of it"):
        evaluate(str(vae), bound_samples=5)
    with pytest.raises(ValueError, match="bound_samples=4: sparse-autoencoder-mnist gives no bound of log p"):
        evaluate(str(autoencoder), bound_samples=4)


# What is refused


@pytest.mark.parametrize(("split", "count"), [("train", "9000 of 9000"), ("all", "9000 of 10000")])
def test_training_images_are_refused(split: str, count: str, generator: Path) -> None:
    message = (
        f"{count} images of fashion_mnist_t10k, {split}, are among those that {GENERATOR} was trained on "
        r"\(fashion_mnist_t10k, train\): give images that were held out"
    )
    for against in (None, "embedded"):
        with pytest.raises(ValueError, match=message):
            evaluate(str(generator), against=against, split=split, metrics=PIXELS)


def test_training_images_of_a_source_without_a_card_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", np.zeros((4, 28, 28, 1), np.uint8))
    with pytest.raises(ValueError, match=r"9000 of 9000 images .* folder was trained on"):
        evaluate(str(folder), against="embedded", split="train", trained_on="embedded", metrics=PIXELS, seeds=(0,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["frechet"]}, r"metrics=\['frechet'\]: choose from frechet_distance, "),
        ({"count": 2**64}, r"count=18446744073709551616: give 0 <= count < 2\*\*64"),
        ({"inception_sha256": "0"}, "inception_sha256 is that of weights: name them with --inception"),
        ({"inception": "nothing.pb"}, "nothing.pb is not a file: give the path or the address of classify_image"),
        ({"count": 1}, "count=1, .*: give at least 2 images and different seeds"),
        ({"seeds": ()}, r"seeds=\(\): give"),
        ({"seeds": (1, 1)}, r"seeds=\(1, 1\): give"),
        ({"seeds": (-1,), "metrics": PIXELS}, "seed=-1: give 0 <= seed"),
        ({"crop": 0}, "crop=0: choose from 1 to 32"),
        ({"crop": 33}, "crop=33: choose from 1 to 32"),
        ({"split": "validation"}, "the embedded sample has"),
        ({"against": "no/such"}, "no/such"),
        ({"metrics": ["accuracy"], "count": 2, "seeds": (0,)}, f"accuracy can't be computed for {GENERATOR}"),
    ],
)
def test_what_can_not_be_meant(options: dict[str, Any], message: str, generator: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        evaluate(str(generator), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 16}, f"16 images, and {CLASSIFIER} has 16 features: a Frechet distance needs more"),
        ({"crop": 20}, f"20 x 20 x 1 and an extractor, {CLASSIFIER}, of 28 x 28 x 1"),
        ({"extractors": [GENERATOR]}, "an extractor maps an image to features and logits"),
    ],
    ids=["too few", "another size", "a generator"],
)
def test_what_the_extractor_can_not_do(
    options: dict[str, Any], message: str, generator: Path, classifier: Path
) -> None:
    if "extractors" in options:
        options = {"extractors": [str(generator)]}
    with pytest.raises(ValueError, match=message):
        evaluate(str(generator), **{"extractors": [str(classifier)], "metrics": ["frechet_distance"]} | options)


def test_a_graph_that_fails_is_named_in_one_line(classifier: Path, tmp_path: Path) -> None:
    """A classifier that says it takes 20 x 20 images, whose graph takes others."""
    model = shutil.copytree(classifier, tmp_path / CLASSIFIER)
    card = json.loads((model / "card.json").read_text())
    card["abilities"]["classify"]["inputs"][0]["shape"][1:3], card["checked"] = [20, 20], ""
    (model / "card.json").write_bytes(encode_card(msgspec.convert(card, Card)))
    with pytest.raises((RuntimeError, ValueError), match=CLASSIFIER) as failed:
        evaluate(str(model))
    assert len(str(failed.value).splitlines()) == 1


def test_an_error_of_any_class_becomes_one_line(generator: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise onnxruntime.capi.onnxruntime_pybind11_state.Fail("node Reshape\nfailed")

    monkeypatch.setattr(Sampler, "sample", fail)
    with pytest.raises(
        RuntimeError, match=rf"^{re.escape(str(generator))} can't be evaluated: Fail: node Reshape failed$"
    ):
        evaluate(str(generator), metrics=PIXELS)


def test_too_few_held_out_images_are_refused_before_any_is_drawn(
    generator: Path, classifier: Path, tmp_path: Path
) -> None:
    few = write_folder(tmp_path / "few" / "test", embedded("test").images[:16]).parent
    said: list[str] = []
    with pytest.raises(ValueError, match="16 images, and cnn-fashion-mnist has 16 features"):
        evaluate(
            str(generator),
            against=str(few),
            extractors=[str(classifier)],
            metrics=["frechet_distance"],
            report_progress=said.append,
        )
    assert said == [f"{GENERATOR}: real images"]


def test_a_folder_names_its_data_and_has_enough_images_for_the_seeds(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", np.zeros((5, 28, 28, 1), np.uint8))
    with pytest.raises(ValueError, match="folder has no card that names its data: say what to compare with"):
        evaluate(str(folder), seeds=(0,))
    with pytest.raises(ValueError, match="folder: too few images for 3 seeds: give at least 6"):
        evaluate(str(folder), against="embedded")


def test_what_was_asked_for_and_can_not_be_computed_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", embedded("test").images[:30])
    run = partial(evaluate, str(folder), against="embedded", seeds=(0,))
    message = (
        r"^copies, perceptual_path_length can't be computed for folder against fashion_mnist_t10k\. copies needs "
        r"features .* and 100 held-out images; perceptual_path_length needs features .* a generator of latents alone\.$"
    )
    with pytest.raises(ValueError, match=message):
        run(metrics=["copies", "precision", "perceptual_path_length"])
    assert "perceptual_path_length" not in by_name(run(metrics=["precision"]))


def test_every_metric_has_a_requirement_and_those_alike_share_a_sentence() -> None:
    assert set(REQUIREMENTS) == {metric.group for metric in ALL_METRICS.values()}
    described = describe_requirements(["accuracy", "precision", "recall"])
    assert described == "accuracy needs a classifier; precision, recall need features (--extractors or --inception)"


def test_all_of_a_held_out_folder_is_compared(generator: Path, tmp_path: Path) -> None:
    held_out = str(write_folder(tmp_path / "held_out", embedded("test").images[:40]))
    (first, _) = evaluate(str(generator), against=held_out, metrics=PIXELS, count=20, seeds=(0,))
    assert (first.data, first.split, first.real_count) == ("held_out", "all", 40)
    (first, _) = evaluate(str(generator), against=held_out, split="test", metrics=PIXELS, count=20, seeds=(0,))
    assert (first.split, first.real_count) == ("test", len(split_held_out([f"{n:05}.png" for n in range(40)])[1]))


def test_a_tenth_of_the_folder_that_a_model_was_trained_on_is_compared(trained_on: Edit, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "own", embedded("test", 32).images[:40])
    model = trained_on(str(folder), "crop")
    held_out = len(split_held_out([f"{number:05}.png" for number in range(40)])[1])
    for against in (None, str(folder), f"{folder}/../own"):
        reference = load_reference(model, against=against)
        assert (reference.real.split, len(reference.real.images)) == ("test", held_out)
    samples = write_folder(tmp_path / "samples", embedded("train", 32).images[:40])
    reference = load_reference(samples, against=str(folder), trained_on=str(folder))
    assert (reference.real.split, len(reference.real.images)) == ("test", held_out)


def test_a_classifier_names_all_images_of_a_held_out_folder(classifier: Path, tmp_path: Path) -> None:
    real = embedded("test")
    assert real.labels is not None
    names = [f"{label}-{real.class_names[label].replace('/', '-')}/{n}.png" for n, label in enumerate(real.labels)]
    folder = write_folder(tmp_path / "classes", real.images[:300], names[:300])
    model = shutil.copytree(classifier, tmp_path / CLASSIFIER)
    card = json.loads((model / "card.json").read_text())
    card["model"]["arguments"]["classes"], card["checked"] = sorted({name.partition("/")[0] for name in names}), ""
    (model / "card.json").write_bytes(encode_card(msgspec.convert(card, Card)))
    (record,) = evaluate(str(model), against=str(folder))
    assert (record.split, record.real_count) == ("all", 300)


def test_colors_that_gray_samples_are_not_compared_in_are_named(tmp_path: Path) -> None:
    gray = write_folder(tmp_path / "gray", embedded("train").images[:4])
    colors = write_folder(tmp_path / "colors", embedded("test").images[:4])
    assert "colors" not in load_reference(gray, against=str(colors)).preprocessing
    Image.fromarray(np.full((28, 28, 3), (255, 0, 0), np.uint8)).save(colors / "red.png")
    assert "; real ones' colors turned gray" in load_reference(gray, against=str(colors)).preprocessing


def test_images_that_are_not_square_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "wide", np.zeros((2, 28, 30, 1), np.uint8))
    with pytest.raises(ValueError, match="28 x 30 pixels: only square ones"):
        evaluate(str(folder), against="embedded", seeds=(0,))


def test_padding_of_images_of_many_sizes_must_be_said(trained_on: Edit, tmp_path: Path) -> None:
    folder = tmp_path / "sizes"
    for split in ("train", "test"):
        for side in (20, 24):
            gray = np.full((1, side, side, 1), side + len(split), np.uint8)
            write_folder(folder, gray, [f"{split}/{side}.png"])
    directory = trained_on(str(folder), "pad")
    with pytest.raises(ValueError, match="was trained on padded images; say with --crop"):
        load_reference(directory)
    assert load_reference(directory, crop=32).real.images.shape == (2, 32, 32, 1)


def test_a_classifier_is_asked_for_nothing_else(classifier: Path) -> None:
    with pytest.raises(ValueError, match=r"metrics=\['frechet_distance'\]: .* is a classifier, whose only score"):
        evaluate(str(classifier), metrics=["frechet_distance"])


# Where the images are that a model was trained on


def zip_images(path: Path, count: int = 60) -> Path:
    """The first 28 x 28 Fashion-MNIST images, train and test, in folders of their classes."""
    with zipfile.ZipFile(path, "w") as archive:
        for split in ("train", "test"):
            found = load_images("embedded", split=split, image_size=28, channels=1)
            labels = np.asarray(found.labels)
            for number in np.concatenate([np.flatnonzero(labels == label)[:count] for label in range(10)]):
                data = io.BytesIO()
                Image.fromarray(found.images[number, :, :, 0]).save(data, "PNG")
                archive.writestr(f"{split}/{labels[number]}/{number:05d}.png", data.getvalue())
    return path


@pytest.fixture
def sha256_of(tmp_path: Path) -> Callable[..., str]:
    """The sha256 that a run writes on its card."""

    def fingerprint(path: Path, **policy: Any) -> str:
        return load_images(str(path), split="train", channels=1, **policy).fingerprint

    return fingerprint


@pytest.fixture
def moved(generator: Path, tmp_path: Path, sha256_of: Callable[..., str]) -> Callable[..., tuple[Path, Path]]:
    """A model that was trained on digits.zip, which now has another name in another folder; both paths."""

    def move(fit: str) -> tuple[Path, Path]:
        (tmp_path / "elsewhere").mkdir()
        copy = zip_images(tmp_path / "elsewhere" / "copy of digits.zip")
        directory = tmp_path / "moved"
        shutil.copytree(generator, directory)
        card = json.loads((generator / "card.json").read_text())
        card["data"] |= {"source": "digits.zip", "name": "digits.zip"}
        card["recipe"] |= {"fit": fit, "data_sha256": sha256_of(copy, image_size=32, fit=fit)}
        (directory / "card.json").write_text(json.dumps(card))
        return directory, copy

    return move


def test_missing_training_images_are_named_and_where_to_get_them(moved: Callable[..., tuple[Path, Path]]) -> None:
    directory, _ = moved("crop")
    with pytest.raises(FileNotFoundError, match=r"digits\.zip: no such folder or zip .* name it with --trained-on"):
        evaluate(str(directory), metrics=["ms_ssim"])
    with pytest.raises(FileNotFoundError, match=r"nowhere\.zip: no such folder or zip"):
        evaluate(str(directory), metrics=["ms_ssim"], trained_on="nowhere.zip")
    for name in ("dcgan-sign-digits", "cnn-sign-digits"):
        with pytest.raises(FileNotFoundError, match="ardamavi/Sign-Language-Digits-Dataset"):
            evaluate(name)


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_training_images_are_known_by_content_under_any_name(moved: Callable[..., tuple[Path, Path]], fit: str) -> None:
    directory, copy = moved(fit)
    (record,) = evaluate(str(directory), metrics=["ms_ssim"], trained_on=str(copy), count=20, seeds=(0,))
    assert (record.data, record.real_count) == ("digits.zip", 600)
    assert "others than the card's" not in record.preprocessing
    assert set(record.baselines) == {"training", "noise", "blurred"}


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_other_training_images_are_refused_or_said(
    moved: Callable[..., tuple[Path, Path]], fit: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    directory, _ = moved(fit)
    monkeypatch.chdir(tmp_path)
    other = zip_images(Path("digits.zip"), count=59)
    with pytest.raises(ValueError, match=r"digits\.zip holds other images than .* the right ones with --trained-on"):
        evaluate(str(directory), metrics=["ms_ssim"])
    (record,) = evaluate(str(directory), metrics=["ms_ssim"], trained_on=str(other), count=20, seeds=(0,))
    assert record.preprocessing.endswith("; training images are others than the card's")


def test_a_classifiers_images_are_known_by_content_too(
    tmp_path: Path, sha256_of: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copy = zip_images(tmp_path / "copy.zip")
    directory = write_twin(tmp_path, CLASSIFIER, {"fit": "crop"}, width=4, classes=tuple("0123456789"))
    card = json.loads((directory / "card.json").read_text())
    card["data"] |= {"source": "digits.zip", "name": "digits.zip"}
    card["recipe"]["data_sha256"] = sha256_of(copy, image_size=28)
    (directory / "card.json").write_text(json.dumps(card))
    with pytest.raises(FileNotFoundError, match=r"digits\.zip: no such folder or zip"):
        evaluate(str(directory))
    (record,) = evaluate(str(directory), trained_on="copy.zip")
    assert (record.data, record.preprocessing) == ("digits.zip", "8 bits a channel; crop to 28 x 28, Lanczos")
    zip_images(Path("digits.zip"), count=59)
    with pytest.raises(ValueError, match="holds other images than"):
        evaluate(str(directory))
    (record,) = evaluate(str(directory), trained_on="digits.zip")
    assert record.preprocessing.endswith("; training images are others than the card's")


@pytest.mark.parametrize("name", ["cnn-fashion-mnits", "./nowhere"])
def test_an_extractor_that_is_not_there_is_refused_before_anything_is_drawn(
    generator: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "from_directory", lambda *arguments, **options: pytest.fail("opened"))
    with pytest.raises((LookupError, ValueError), match=r"cnn-fashion-mnist|nowhere is read as a path"):
        evaluate(str(generator), extractors=[name])
