"""Anomaly scores against closed forms, AUROC against counting, one class learned from the embedded sample."""

import csv
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from serving.card import CardError, Data
from serving.likelihood import Bound
from serving.pipeline import Pipeline
from studies import anomaly_detection
from zoo.applications.anomaly import (
    area_under_curve,
    complexity,
    complexity_corrected,
    likelihood_ratio,
    negative_log_likelihood,
    perturb,
    reconstruct,
    reconstruction_error,
)
from zoo.data.images import to_float32
from zoo.data.load import load_images
from zoo.export.export import export
from zoo.presets.table import PRESETS
from zoo.training.run import build_model

DATA = Data("fashion_mnist_t10k", "train", 9_000, "MIT", "embedded")


class Normal:
    """A likelihood of independent pixels, N(mean, 1) each; it keeps what it was asked."""

    def __init__(self, mean: float = 0.0) -> None:
        self.mean = mean
        self.asked: list[dict[str, Any]] = []

    def log_prob(self, images: np.ndarray, **options: Any) -> Bound:
        self.asked.append(options)
        each = -0.5 * np.square(images.astype(np.float64) - self.mean) - 0.5 * math.log(2 * math.pi)
        return Bound("exact", 1, each.sum(axis=(1, 2, 3)))


def images_of(values: list[float], size: int = 2) -> np.ndarray:
    """An image of one brightness for each value."""
    return np.broadcast_to(np.array(values, np.float32)[:, None, None, None], (len(values), size, size, 1))


def embedded(split: str, count: int) -> np.ndarray:
    return to_float32(load_images("embedded", split=split, image_size=28, channels=1).images[:count])


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of 28 x 28 images that has learned nothing."""
    twin = PRESETS["vae-fashion-mnist"].twin()
    preset = replace(twin, arguments={**twin.arguments, "image_shape": (28, 28, 1)})
    keras.utils.set_random_seed(0)
    directory = tmp_path_factory.mktemp("vae") / preset.name
    export(build_model(preset), directory, preset=preset, data=DATA, recipe={}, formats=("onnx",))
    return directory


# The area


def test_separable_scores_have_area_one_and_no_error() -> None:
    found = area_under_curve(np.array([0.0, 1.0, 2.0]), np.array([3.0, 4.0]))
    assert (found.value, found.standard_error, found.normal, found.anomalous) == (1.0, 0.0, 3, 2)
    assert area_under_curve(np.array([3.0, 4.0]), np.array([0.0, 1.0])).value == 0.0


def test_equal_scores_have_area_one_half() -> None:
    scores = np.random.default_rng(0).standard_normal(50)
    assert area_under_curve(scores, scores).value == pytest.approx(0.5)
    assert area_under_curve(np.zeros(4), np.zeros(5)).value == 0.5


def test_ties_count_half_and_the_error_is_delongs() -> None:
    found = area_under_curve(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0]))
    # Pairs: 2 beats 1, ties with 2, loses to 3: 1.5 of 3; 3 beats 1 and 2, ties with 3: 2.5 of 3 -> 4 of 6.
    assert found.value == pytest.approx(4 / 6)
    # Anomalous ones beat 1/2 and 5/6 of the normal ones: variance 1/18, over 2.
    # Normal ones are below 1, 3/4, 1/4 of the anomalous ones: mean 2/3, variance (1/9 + 1/144 + 25/144) / 2, over 3.
    assert found.standard_error == pytest.approx(math.sqrt((1 / 18) / 2 + (1 / 9 + 26 / 144) / 2 / 3))


def test_the_error_is_that_of_repeated_draws() -> None:
    random = np.random.default_rng(0)
    found = [area_under_curve(random.standard_normal(80), 1.5 * random.standard_normal(40) + 1.0) for _ in range(400)]
    values, errors = (np.array([getattr(each, name) for each in found]) for name in ("value", "standard_error"))
    # P(anomalous > normal) = Phi(1 / sqrt(1 + 1.5^2)).
    truth = 0.5 * (1 + math.erf(1 / math.sqrt(1 + 1.5**2) / math.sqrt(2)))
    assert values.mean() == pytest.approx(truth, abs=4 * values.std() / math.sqrt(400))
    # A standard deviation of 400 values is known to 1 in sqrt(800): 3.5 %.
    assert np.sqrt(np.square(errors).mean()) == pytest.approx(values.std(), rel=0.12)


@pytest.mark.parametrize("scores", [np.zeros((2, 2)), np.zeros(1), np.array([0.0, np.nan]), np.array([0.0, np.inf])])
def test_scores_that_mean_nothing_are_refused(scores: np.ndarray) -> None:
    with pytest.raises(ValueError, match="anomalous scores"):
        area_under_curve(np.zeros(2), scores)


# The scores


def test_reconstruction_error_by_hand() -> None:
    # Brightness 0 and 1 against 1/2, and 1 against 1: 1/4, 1/4, 0.
    found = reconstruction_error(images_of([-1.0, 1.0, 1.0]), images_of([0.0, 0.0, 1.0]))
    np.testing.assert_allclose(found, [0.25, 0.25, 0.0])
    with pytest.raises(ValueError, match="of one shape"):
        reconstruction_error(images_of([0.0]), images_of([0.0, 0.0]))


def test_the_negative_log_likelihood_is_that_of_the_density() -> None:
    model = Normal()
    # Four pixels of N(0, 1): 4 (x^2 + log 2 pi) / 2.
    np.testing.assert_allclose(
        negative_log_likelihood(model, images_of([0.0, 1.0]), seed=3),
        [2 * math.log(2 * math.pi), 2 * (1 + math.log(2 * math.pi))],
    )
    assert model.asked == [{"seed": 3}]


def test_likelihood_ratio_cancels_what_both_models_know() -> None:
    model, background = Normal(0.5), Normal(-0.5)
    # 4 ((x - 1/2)^2 - (x + 1/2)^2) / 2 = -4 x.
    values = [-1.0, 0.25, 1.0]
    found = likelihood_ratio(model, background, images_of(values), samples=10)
    np.testing.assert_allclose(found, [-4 * value for value in values], atol=1e-12)
    assert model.asked == background.asked == [{"samples": 10}]


def test_complexity_is_the_size_of_the_file() -> None:
    noise = to_float32(np.random.default_rng(0).integers(256, size=(1, 28, 28, 1), dtype=np.uint8))
    images = np.concatenate([np.zeros_like(noise), embedded("test", 1), noise])
    constant, real, random = complexity(images)
    assert constant < real < random
    # 784 random bytes do not compress; a PNG has 57 bytes of signature, header and end, 28 filter bytes and zlib's own.
    assert 8 * (784 + 57) <= random <= 8 * (784 + 57 + 28 + 40)
    file = io.BytesIO()
    Image.fromarray(np.full((28, 28), 128, np.uint8)).save(file, "PNG", optimize=True)
    assert constant == 8 * len(file.getvalue())
    assert complexity(np.repeat(noise, 3, axis=3)).shape == (1,)


def test_the_correction_is_in_bits() -> None:
    images = embedded("test", 3)
    expected = negative_log_likelihood(Normal(), images) / math.log(2) - complexity(images)
    np.testing.assert_allclose(complexity_corrected(Normal(), images), expected)


def test_the_correction_undoes_a_preference_for_simple_images() -> None:
    """A likelihood that prefers gray finds gray images most normal, and its correction does not."""
    normal = embedded("test", 60)
    gray = np.broadcast_to(np.linspace(-0.3, 0.3, 60, dtype=np.float32)[:, None, None, None], normal.shape)
    likelihoods = (negative_log_likelihood(Normal(), images) for images in (normal, gray))
    assert area_under_curve(*likelihoods).value == 0.0
    assert area_under_curve(complexity_corrected(Normal(), normal), complexity_corrected(Normal(), gray)).value > 0.9


def test_perturbed_images() -> None:
    images = np.zeros((20, 28, 28, 1), np.uint8)
    found = perturb(images, 0.3, seed=1)
    # One new value in 256 is 0 again. 15,680 values: a standard error of 0.0037.
    assert (found != 0).mean() == pytest.approx(0.3 * 255 / 256, abs=0.015)
    assert found[found != 0].mean() == pytest.approx(128, abs=4.5)  # of 1 to 255; standard error 1.1
    np.testing.assert_array_equal(found, perturb(images, 0.3, seed=1))
    assert (perturb(images, 0.0, seed=1) == 0).all()
    for wrong, rate in ((images, 1.5), (images.astype(np.float32), 0.1)):
        with pytest.raises(ValueError, match="rate"):
            perturb(wrong, rate, seed=0)


# With exported models


def test_pipelines_score_as_their_graphs_say(vae: Path) -> None:
    images = embedded("test", 5)
    bounds, whole = (Pipeline.from_directory(vae, ability=name) for name in ("log_prob", "reconstruct"))
    expected = bounds.log_prob(images, bound="elbo", samples=4, seed=7).values
    np.testing.assert_allclose(negative_log_likelihood(bounds, images, bound="elbo", samples=4, seed=7), -expected)
    # IWAE's bound is the tighter one, sample by sample.
    tight, loose = (
        negative_log_likelihood(bounds, images, samples=4, bound=bound) for bound in ("importance_weighted", "elbo")
    )
    assert (tight <= loose).all()
    reconstructed = reconstruct(whole, images)
    np.testing.assert_array_equal(reconstructed, whole.run({"image": images})["reconstruction"])
    with pytest.raises(ValueError, match='ability="reconstruct"'):
        reconstruct(bounds, images)
    with pytest.raises(ValueError, match=r"values in \[-1, 1\]"):
        reconstruct(whole, images + 1)


# The recipe


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_an_autoencoder_of_trousers_scores_other_clothes_as_anomalous(tmp_path: Path) -> None:
    """Trained for seconds on one class of the embedded sample, by the study."""
    options = anomaly_detection.Options(
        parts=("classes",),
        data="embedded",
        classes=(1,),
        steps=60,
        table=tmp_path / "results" / "anomaly.csv",
        figure=tmp_path / "docs" / "anomaly.png",
    )
    anomaly_detection.main(options)
    row, mean = table(options.table)
    assert (row["normal"], row["anomalous"], row["score"]) == ("Trouser", "other classes", "reconstruction_error")
    assert int(row["normal_count"]) + int(row["anomalous_count"]) == 1_000
    assert float(row["auroc"]) > 0.9
    assert 0.0 < float(row["standard_error"]) < 0.05
    assert (mean["normal"], mean["auroc"], mean["standard_error"]) == ("mean", row["auroc"], "")
    assert Image.open(options.figure).width > 500
    with options.table.open("a", encoding="utf-8") as file:
        file.write("classes,autoencoder-fashion-mnist,reconstruction_error,Bag,other classes,0.1,0.01,9,9\n")
    again, mean = anomaly_detection.measure_classes(replace(options, steps=1), table(options.table))
    assert float(mean["auroc"]) == pytest.approx((float(again["auroc"]) + 0.1) / 2, abs=1e-4)  # bags are in the table


@pytest.fixture
def novelty(vae: Path, tmp_path: Path) -> anomaly_detection.Options:
    """A small table of one other set, white images."""
    white = tmp_path / "white"
    for name in ("train", "test"):
        (white / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(np.full((28, 28), 255 - number, np.uint8)).save(white / name / f"{number}.png")
    return anomaly_detection.Options(
        parts=("novelty",),
        data="embedded",
        preset=str(vae),
        anomalous=(str(white),),
        count=12,
        background_steps=2,
        batch_size=8,
        table=tmp_path / "anomaly.csv",
        figure=tmp_path / "anomaly.png",
    )


def test_novelty_has_a_row_for_each_score_and_set(novelty: anomaly_detection.Options) -> None:
    anomaly_detection.main(novelty)
    (white,), rows = novelty.anomalous, table(novelty.table)
    found = {(row["score"], row["anomalous"]): float(row["auroc"]) for row in rows}
    scores = {row["score"] for row in rows}
    assert scores == {
        *("reconstruction_error", "negative_elbo", "negative_importance_weighted"),
        *("complexity", "complexity_corrected", "likelihood_ratio"),
    }
    assert set(found) == {(score, anomalous) for score in scores for anomalous in (white, "constant", "noise")}
    # Without any model: images of one gray level are smaller than clothes, noise is larger.
    assert [found["complexity", name] for name in (white, "constant", "noise")] == [0.0, 0.0, 1.0]
    assert novelty.figure.exists()


def test_the_bounds_of_a_set_are_computed_once(
    novelty: anomaly_detection.Options, vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(novelty, background_steps=0, samples=4, seed=3)
    pipeline, runs = Pipeline.from_directory(vae, ability="log_prob"), list[int]()
    sets = anomaly_detection.load_image_sets((28, 28, 1), options)
    expected = {
        "negative_elbo": negative_log_likelihood(pipeline, sets["noise"], bound="elbo", samples=4, seed=3),
        "negative_importance_weighted": negative_log_likelihood(pipeline, sets["noise"], samples=4, seed=3),
        "complexity_corrected": complexity_corrected(pipeline, sets["noise"], samples=4, seed=3),
    }
    run = Pipeline.run

    def counted(self: Pipeline, feeds: dict[str, np.ndarray], **more: Any) -> dict[str, np.ndarray]:
        if "noise" in feeds:
            runs.append(len(feeds["image"]))
        return run(self, feeds, **more)

    monkeypatch.setattr(Pipeline, "run", counted)
    found = anomaly_detection.score_novelty(options)
    rounds = 4 // next(spec for spec in pipeline.ability.inputs if spec.name == "noise").row[0]
    assert runs == [12] * (4 * rounds)  # of 4 sets; if each score asked for itself, 12 * rounds
    for score, values in expected.items():
        np.testing.assert_array_equal(found[score]["noise"], values)


def test_parts_that_do_not_run_keep_rows_and_panels(
    novelty: anomaly_detection.Options, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    novelty = replace(novelty, background_steps=0)

    def measure(number: int, area: str) -> None:
        """The part classes alone, its training left out."""
        row = dict(
            zip(anomaly_detection.COLUMNS, ("classes", "a", "b", str(number), "rest", area, 0.1, 9, 9), strict=True)
        )
        monkeypatch.setattr(anomaly_detection, "measure_classes", lambda options, earlier: [row])
        anomaly_detection.main(replace(novelty, parts=("classes",)))

    measure(1, "0.5")
    with Image.open(novelty.figure) as image:  # nothing is lost: the table has no other part
        alone = image.height
    anomaly_detection.main(novelty)
    with Image.open(novelty.figure) as image:
        assert image.height > 1.8 * alone  # the bars of the part that did not run as well
    rows, drawn = table(novelty.table), novelty.figure.read_bytes()
    assert {row["part"] for row in rows} == {"classes", "novelty"}
    capsys.readouterr()
    measure(1, "0.75")
    measure(2, "0.25")
    after = table(novelty.table)
    assert after[1:-1] == rows[1:]
    assert [(row["normal"], row["auroc"]) for row in (after[0], after[-1])] == [("1", "0.75"), ("2", "0.25")]
    assert novelty.figure.read_bytes() == drawn  # its histograms need scores that these calls did not make
    assert capsys.readouterr().err.count("is not drawn") == 2


def test_a_preset_without_weights_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    options = anomaly_detection.Options(parts=("novelty",), preset=str(tmp_path / "nothing"), table=tmp_path / "a.csv")
    with pytest.raises(CardError, match="nothing"):
        anomaly_detection.main(options)
