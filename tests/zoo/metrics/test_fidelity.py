"""PSNR, SSIM and luminance beside scikit-image's (fixtures/fidelity.json, by fixtures/make_fidelity.py) and by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from zoo.metrics.fidelity import (
    absolute_errors,
    luminance,
    peak_signal_to_noise_ratios,
    shave,
    structural_similarities,
)

RECORD = json.loads((Path(__file__).parent / "fixtures" / "fidelity.json").read_text(encoding="utf-8"))
SCORES = (absolute_errors, peak_signal_to_noise_ratios, structural_similarities)


def drawn():
    """As in make_fidelity.py."""
    random = np.random.Generator(np.random.Philox(RECORD["draws"]["seed"]))
    shape = RECORD["draws"]["shape"]
    one = np.sin(np.cumsum(random.normal(size=shape), axis=1) * 0.3)
    return one, np.clip(one + random.normal(0.0, 0.15, shape), -1.0, 1.0)


def test_they_are_scikit_images():
    one, other = drawn()
    np.testing.assert_allclose(peak_signal_to_noise_ratios(one, other), RECORD["psnr"], rtol=1e-9)
    np.testing.assert_allclose(structural_similarities(one, other), RECORD["ssim"], rtol=1e-7)
    levels = (luminance(one) + 1) * 127.5
    np.testing.assert_allclose(levels.mean((1, 2, 3)), RECORD["luminance"], rtol=1e-9)


def test_closed_forms():
    black, white = np.full((2, 12, 12, 3), -1.0), np.full((2, 12, 12, 3), 1.0)
    gray = np.zeros((2, 12, 12, 3))
    np.testing.assert_allclose(absolute_errors(black, gray), 0.5)
    np.testing.assert_allclose(peak_signal_to_noise_ratios(black, white), 0.0, atol=1e-12)
    np.testing.assert_allclose(peak_signal_to_noise_ratios(black, gray), 20 * np.log10(2))
    np.testing.assert_allclose(peak_signal_to_noise_ratios(gray, gray), 100.0)
    np.testing.assert_allclose(structural_similarities(gray, gray), 1.0)
    # Of constants only the luminance term is left: (2 x y + C1) / (x^2 + y^2 + C1).
    np.testing.assert_allclose(structural_similarities(gray, white), (1.0 + 1e-4) / (1.25 + 1e-4))


def test_luminance_goes_from_16_to_235():
    ends = luminance(np.array([-1.0, 1.0])[:, None, None, None] * np.ones((1, 1, 1, 3)))
    np.testing.assert_allclose((ends.ravel() + 1) * 127.5, [16.0, 235.0], atol=1e-3)
    gray = drawn()[0][..., :1]
    np.testing.assert_array_equal(luminance(gray), gray)


def test_a_border_is_shaved_on_every_side():
    images = np.arange(2 * 6 * 8).reshape(2, 6, 8, 1)
    np.testing.assert_array_equal(shave(images, 2), images[:, 2:4, 2:6])
    assert shave(images, 0).shape == images.shape


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.__name__)
def test_a_pair_is_scored_by_itself(score):
    one, other = drawn()
    np.testing.assert_allclose(score(one[1:2], other[1:2]), score(one, other)[1:2], rtol=1e-12)


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.__name__)
@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (np.zeros((1, 12, 12, 3)), np.zeros((1, 12, 12, 1)), "give pairs of the same shape"),
        (np.zeros((1, 12, 12, 3)), np.full((1, 12, 12, 3), 2.0), "give values in"),
        (np.full((1, 12, 12, 3), np.nan), np.zeros((1, 12, 12, 3)), "no NaN"),
        (np.zeros((1, 12, 12, 3), np.uint8), np.zeros((1, 12, 12, 3), np.uint8), "float in"),
    ],
)
def test_bad_images(score, one, other, message):
    with pytest.raises(ValueError, match=message):
        score(one, other)


def test_ssim_needs_its_window():
    with pytest.raises(ValueError, match="give at least 11 x 11"):
        structural_similarities(np.zeros((1, 10, 12, 1)), np.zeros((1, 10, 12, 1)))
