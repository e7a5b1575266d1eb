"""Noise and gaps against known answers: decibels by hand, a linear autoencoder's fixed point; a trained denoiser."""

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from serving.card import Ability, Card, Data, Input, Output, TensorSpec
from serving.pipeline import Pipeline
from studies import denoising as study
from zoo.applications.denoising import (
    add_noise,
    denoise,
    draw_missing_pixels,
    draw_missing_square,
    fill,
    filter_median,
    filter_non_local_means,
    inpaint,
    mask_pixels,
    measure_quality,
    tune,
)
from zoo.data.batches import batches
from zoo.data.load import load_images
from zoo.export.export import export
from zoo.presets.table import PRESETS
from zoo.training.run import build_model

SIZE, RANK = 4, 3
DATA = Data("fashion_mnist_t10k", "train", 9_000, "MIT", "embedded")


class Linear:
    """What a session is to a pipeline, of x -> mean + P (x - mean)."""

    def __init__(self, mean: np.ndarray, projection: np.ndarray) -> None:
        self.mean, self.projection = mean, projection
        self.inputs = (TensorSpec("image", "float32", ("batch", SIZE, SIZE, 1)),)

    def run(self, feeds: Any) -> dict[str, np.ndarray]:
        rows = feeds["image"].reshape(-1, SIZE * SIZE)
        rows = self.mean + (rows - self.mean) @ self.projection
        return {"reconstruction": rows.reshape(feeds["image"].shape).astype(np.float32)}


def linear_pipeline(mean: np.ndarray, projection: np.ndarray, kind: str = "reconstruction") -> Pipeline:
    shape = ("batch", SIZE, SIZE, 1)
    output: dict[str, Any] = {"kind": kind, **({"range": (-1.0, 1.0), "layout": "NHWC"} if kind == "image" else {})}
    ability = Ability(
        (Input("image", "float32", shape, "image"),), (Output("reconstruction", "float32", shape, **output),)
    )
    about = {"family": "PCA", "paper": "", "license": "", "summary": "", "data": DATA, "recipe": {}}
    model = {"class": "", "arguments": {}}
    card = Card(
        "pca", **about, model=model, abilities={"reconstruct": ability}, default_ability="reconstruct", files={}
    )
    return Pipeline(card, ability, Linear(mean, projection))  # type: ignore[arg-type]


@pytest.fixture
def subspace() -> tuple[np.ndarray, np.ndarray]:
    """A mean and an orthonormal basis (RANK, SIZE * SIZE), of images in [-1, 1]."""
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.standard_normal((SIZE * SIZE, RANK)))[0].T
    return random.uniform(-0.2, 0.2, SIZE * SIZE), basis


def embedded(split: str, count: int) -> np.ndarray:
    """Brightness."""
    return load_images("embedded", split=split, image_size=28, channels=1).images[:count].astype(np.float32) / 255


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained for seconds on the embedded sample, with noise of a quarter of the brightness range."""
    arguments = {"image_shape": (28, 28, 1), "hidden": (256,), "code_dim": 64, "corruption": "gaussian"}
    preset = replace(PRESETS["denoising-autoencoder-fashion-mnist"], arguments=arguments)
    keras.utils.set_random_seed(0)
    model = build_model(preset)
    model.compile(autoencoder=keras.optimizers.Adam(2e-3))
    images = load_images("embedded", split="train", image_size=28, channels=1)
    model.fit(batches(images, batch_size=128, seed=0), steps_per_epoch=400, shuffle=False, verbose=0)
    directory = tmp_path_factory.mktemp("denoiser") / preset.name
    export(model, directory, preset=preset, data=DATA, recipe={}, formats=("onnx",))
    return directory


# Noise and gaps


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    gray = np.full((20, 28, 28, 1), 0.5, np.float32)
    found = add_noise(gray, 0.1, seed=1)
    # 15,680 values: the deviation is known to 0.6 %, the mean to 0.0008; 5 deviations fit before anything is clipped.
    assert found.std() == pytest.approx(0.1, rel=0.03)
    assert found.mean() == pytest.approx(0.5, abs=0.004)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, add_noise(gray, 0.1, seed=1))
    assert (add_noise(gray, 0.1, seed=2) != found).any()


def test_noise_is_clipped() -> None:
    found = add_noise(np.zeros((20, 28, 28, 1), np.float32), 0.5, seed=0)
    assert found.min() == 0.0
    assert found.max() == 1.0
    assert (found == 0.0).mean() == pytest.approx(0.5, abs=0.02)


def test_masks_have_the_size_that_was_asked_for() -> None:
    shape = (30, 8, 10, 3)
    pixels, square = draw_missing_pixels(shape, 0.25, seed=0), draw_missing_square(shape, 4, seed=0)
    assert pixels.shape == square.shape == (30, 8, 10, 1)
    assert set(pixels.sum(axis=(1, 2, 3))) == {20}
    assert set(square.sum(axis=(1, 2, 3))) == {16}
    for mask in square[..., 0]:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert (np.ptp(rows), np.ptp(columns)) == (3, 3)
    assert square.any(axis=0).all()  # every place is reached
    assert pixels.any(axis=0).all()
    np.testing.assert_array_equal(pixels, draw_missing_pixels(shape, 0.25, seed=0))


def test_masked_images_keep_what_is_known() -> None:
    images = embedded("test", 2)
    missing = draw_missing_square(images.shape, 12, seed=0)
    found = mask_pixels(images, missing)
    np.testing.assert_array_equal(found[~missing], images[~missing])
    assert not found[missing].any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: add_noise(2 * x, 0.1, 0), "give brightness"),
        (lambda x: add_noise(x - 2, 0.1, 0), "give brightness"),
        (lambda x: add_noise(x, -0.1, 0), "at least 0"),
        (lambda x: add_noise(np.full_like(x, np.nan), 0.1, 0), "no NaN"),
        (lambda x: add_noise(x.astype(np.uint8), 0.1, 0), "float"),
        (lambda x: mask_pixels(x, np.zeros((3, 4, 4), bool)), "bool"),
        (lambda x: mask_pixels(x, np.zeros((3, 4, 4, 1))), "bool"),
        (lambda x: draw_missing_pixels(x.shape, 1.0, 0), "between 0 and 1"),
        (lambda x: draw_missing_square(x.shape, 4, 0), "1 to 3"),
        (lambda x: measure_quality(x, x[:2]), "one shape"),
        (lambda x: measure_quality(x[:1], x[:1]), "at least 2"),
    ],
)
def test_what_means_nothing_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(np.ones((3, 4, 4, 1), np.float32))


# How near


def test_decibels_by_hand() -> None:
    clean = np.full((2, 16, 16, 1), 0.5)
    off = clean + np.array([0.1, 0.3])[:, None, None, None]
    found = measure_quality(clean, off)
    # Squared errors 0.01 and 0.09: mean 0.05, 10 log10(20) = 13.0103 dB.
    assert found.psnr == pytest.approx(13.0103, abs=1e-4)
    # Their mean's standard error is 0.04, relative 0.8, and 10 / log(10) of that.
    assert found.psnr_error == pytest.approx(0.8 * 10 / math.log(10))
    # No structure: SSIM is (2 a b + C1) / (a^2 + b^2 + C1), C1 = 0.01^2.
    expected = [(2 * 0.5 * value + 1e-4) / (0.25 + value**2 + 1e-4) for value in (0.6, 0.8)]
    assert found.ssim == pytest.approx(np.mean(expected))
    assert found.ssim_error == pytest.approx(abs(expected[0] - expected[1]) / 2)


def test_decibels_of_gaps_are_of_missing_pixels_alone() -> None:
    clean = np.full((2, 16, 16, 1), 0.5)
    missing = draw_missing_square(clean.shape, 4, seed=0)
    off = np.where(missing, 0.6, clean)
    assert measure_quality(clean, off, missing).psnr == pytest.approx(20.0)
    assert measure_quality(clean, off).psnr == pytest.approx(20.0 + 10 * math.log10(256 / 16))
    assert measure_quality(clean, clean).psnr == math.inf
    assert measure_quality(clean, clean).ssim == 1.0


def test_the_error_of_decibels_is_that_of_repeated_draws() -> None:
    clean, random = embedded("test", 400), np.random.default_rng(0)
    scale = random.uniform(0.02, 0.2, (400, 1, 1, 1))
    damaged = np.clip(clean + scale * random.standard_normal(clean.shape), 0, 1)
    missing = draw_missing_square(clean.shape, 6, seed=0)
    parts = [measure_quality(clean[rows], damaged[rows], missing[rows]) for rows in np.split(np.arange(400), 20)]
    spread = np.std([part.psnr for part in parts], ddof=1)
    # A standard deviation of 20 values is known to 1 in sqrt(38): 16 %.
    assert np.sqrt(np.mean([part.psnr_error**2 for part in parts])) == pytest.approx(spread, rel=0.5)


# Without training


def test_median_takes_out_single_pixels() -> None:
    image = np.full((1, 9, 9, 1), 0.25, np.float32)
    image[0, 4, 4] = 1.0
    np.testing.assert_array_equal(filter_median(image), np.full_like(image, 0.25))


@pytest.mark.parametrize("channels", [1, 3])
def test_filters_mend_noise(channels: int) -> None:
    clean = np.repeat(embedded("test", 4), channels, axis=3)
    damaged = add_noise(clean, 0.2, seed=0)
    before = measure_quality(clean, damaged).psnr
    for mended in (filter_median(damaged), filter_non_local_means(damaged, 0.2)):
        assert mended.shape == clean.shape
        assert measure_quality(clean, mended).psnr > before + 1


def test_inpainting_continues_a_slope() -> None:
    """A plane is biharmonic."""
    plane = np.broadcast_to(np.linspace(0.1, 0.9, 16, dtype=np.float32)[None, :, None, None], (2, 16, 16, 1))
    missing = np.zeros((2, 16, 16, 1), bool)
    missing[:, 5:10, 4:12] = True
    np.testing.assert_allclose(inpaint(mask_pixels(plane, missing), missing), plane, atol=1e-4)


def test_tuning_finds_the_best_of_every_combination() -> None:
    clean = np.zeros((2, 4, 4, 1))
    # 1.9 + a - b: -2.1 and -3.1, -1.1 and -2.1, -0.1 and -1.1.
    assert tune(lambda x, a, b: x + a - b, {"a": (1, 2, 3), "b": (5, 6)}, clean, clean + 1.9) == {"a": 3, "b": 5}


# By a model


def test_denoising_goes_through_the_networks_range(subspace: tuple[np.ndarray, np.ndarray]) -> None:
    mean, basis = subspace
    images = np.random.default_rng(1).uniform(0, 1, (5, SIZE, SIZE, 1)).astype(np.float32)
    rows = 2 * images.reshape(5, -1) - 1
    expected = (mean + (rows - mean) @ basis.T @ basis + 1) / 2
    found = denoise(linear_pipeline(mean, basis.T @ basis), images)
    np.testing.assert_allclose(found.reshape(5, -1), expected, atol=1e-6)
    with pytest.raises(ValueError, match='ability="reconstruct"'):
        denoise(linear_pipeline(mean, basis, kind="image"), images)


def test_filling_ends_at_the_least_squares_point(subspace: tuple[np.ndarray, np.ndarray]) -> None:
    """Of a linear autoencoder, as PCA is, the missing values become those of the subspace's point that fits best."""
    mean, basis = subspace
    random = np.random.default_rng(2)
    rows = mean + 0.4 * random.uniform(-1, 1, (6, RANK)) @ basis + 0.05 * random.standard_normal((6, SIZE * SIZE))
    images = ((rows + 1) / 2).reshape(6, SIZE, SIZE, 1).astype(np.float32)
    missing = draw_missing_pixels(images.shape, 0.3, seed=0)
    pipeline = linear_pipeline(mean, basis.T @ basis)
    found = fill(pipeline, mask_pixels(images, missing), missing, rounds=2_000, tolerance=1e-8)
    np.testing.assert_array_equal(found.images[~missing], images[~missing])
    seeing = fill(pipeline, images, missing, rounds=2_000, tolerance=1e-8)  # what lies beneath a gap is not used
    np.testing.assert_array_equal(found.images, seeing.images)
    for row, gap, filled in zip(rows, missing.reshape(6, -1), found.images.reshape(6, -1), strict=True):
        code = np.linalg.lstsq(basis[:, ~gap].T, (row - mean)[~gap], rcond=None)[0]
        np.testing.assert_allclose(2 * filled[gap] - 1, (mean + code @ basis)[gap], atol=1e-4)
    assert found.changes[-1] < 1e-6 < found.changes[0]
    assert (np.diff(found.changes[:20]) < 0).all()  # a projection brings points nearer


def test_filling_stops_at_its_tolerance(subspace: tuple[np.ndarray, np.ndarray]) -> None:
    mean, basis = subspace
    pipeline, images = linear_pipeline(mean, basis.T @ basis), np.full((2, SIZE, SIZE, 1), 0.5, np.float32)
    missing = draw_missing_pixels(images.shape, 0.3, seed=0)
    assert len(fill(pipeline, images, missing, rounds=3, tolerance=0.0).changes) == 3
    found = fill(pipeline, images, missing, tolerance=1e-3)
    assert found.changes[-1] < 1e-3 <= found.changes[-2]
    for wrong in ({"rounds": 0, "missing": missing}, {"missing": np.zeros_like(missing)}):
        with pytest.raises(ValueError, match="give at least one of each"):
            fill(pipeline, images, **wrong)


# Trained


def test_a_trained_denoiser_beats_noise_and_filters(denoiser: Path) -> None:
    pipeline = Pipeline.from_directory(denoiser, ability="reconstruct")
    clean = embedded("test", 100)
    damaged = add_noise(clean, 0.25, seed=0)
    before, after = measure_quality(clean, damaged), measure_quality(clean, denoise(pipeline, damaged))
    assert after.psnr > before.psnr + 3
    assert after.ssim > before.ssim + 0.1
    assert after.psnr > measure_quality(clean, filter_median(damaged)).psnr + 0.5
    assert after.psnr == pytest.approx(peak_signal_noise_ratio(clean, denoise(pipeline, damaged), data_range=1.0))


def test_the_recipe_writes_a_row_for_each_method(denoiser: Path, tmp_path: Path) -> None:
    options = study.Options(
        data="embedded",
        denoisers=(str(denoiser),),
        fillers=(str(denoiser),),
        deviations=(0.25,),
        count=12,
        tuning=2,
        table=tmp_path / "results" / "denoising.csv",
        figure=tmp_path / "docs" / "denoising.png",
    )
    study.main(options)
    with options.table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {(row["damage"], row["method"]): float(row["psnr"]) for row in rows}
    assert set(found) == {
        *(("normal noise 0.25", method) for method in ("noisy", "median", "non-local means", denoiser.name)),
        *(
            (damage, method)
            for damage in ("square 12", "pixels 0.5")
            for method in ("gaps", "mean", "biharmonic", denoiser.name)
        ),
    }
    assert found["normal noise 0.25", denoiser.name] > found["normal noise 0.25", "noisy"] + 3
    assert found["pixels 0.5", denoiser.name] > found["pixels 0.5", "mean"] > found["pixels 0.5", "gaps"]
    assert {row["arguments"] for row in rows if row["method"] == "median"} <= {"size=3", "size=5", "size=7"}
    assert Image.open(options.figure).height > 200


def test_rows_of_other_calls_are_kept_and_the_figure_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], denoiser: Path
) -> None:
    monkeypatch.setattr(study, "remove_noise", lambda _, clean, *more: ({"noisy": clean / 2}, {}))
    monkeypatch.setattr(study, "fill_gaps", lambda _, clean, *more: {"gaps": clean / 2})
    named = {"denoisers": (str(denoiser),), "fillers": (), "table": tmp_path / "t.csv", "figure": tmp_path / "f.png"}
    options = study.Options(data="embedded", deviations=(0.1, 0.2), count=10, tuning=2, **named)
    study.main(options)
    before, drawn = options.table.read_text().splitlines(), options.figure.read_bytes()
    assert len(before) == 1 + 4
    capsys.readouterr()
    study.main(replace(options, deviations=(0.2, 0.3), count=12))
    after = options.table.read_text().splitlines()
    assert after[:2] == before[:2]  # a damage that this call did not do
    assert [line.rpartition(",")[2] for line in after[1:]] == ["10", "12", "12", "12", "12"]
    assert options.figure.read_bytes() == drawn
    assert "f.png is not drawn" in capsys.readouterr().err
    study.main(replace(options, deviations=(0.1, 0.2, 0.3)))
    assert options.figure.read_bytes() != drawn
