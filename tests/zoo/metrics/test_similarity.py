"""MS-SSIM against TensorFlow's and by hand; spectra of waves, noise and checkerboards."""

import numpy as np
import pytest
import tensorflow as tf

from zoo.metrics.similarity import (
    POWER_FLOOR,
    SCALE_WEIGHTS,
    multiscale_similarity,
    multiscale_similarity_of_pairs,
    radial_spectrum,
    scale_weights,
    spectral_distance,
)

RANDOM = np.random.Generator(np.random.Philox(0))


def smooth_images(count: int, height: int, width: int, channels: int) -> np.ndarray:
    coarse = RANDOM.uniform(-1, 1, size=(count, height // 4, width // 4, channels))
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


@pytest.mark.parametrize(("side", "scales"), [(11, 1), (21, 1), (22, 2), (28, 2), (32, 2), (64, 3), (175, 4), (176, 5)])
def test_as_many_scales_as_the_window_fits(side, scales):
    weights = scale_weights(side, side + 9)
    np.testing.assert_allclose(weights, SCALE_WEIGHTS[:scales] / SCALE_WEIGHTS[:scales].sum())


@pytest.mark.parametrize("shape", [(3, 16, 20, 1), (3, 32, 32, 3), (2, 64, 48, 1), (1, 176, 176, 3)])
def test_it_is_tensorflows(shape):
    one = smooth_images(*shape)
    other = np.clip(0.7 * one + 0.3 * RANDOM.uniform(-1, 1, size=shape), -1, 1)
    weights = scale_weights(*shape[1:3]).tolist()
    unit = (tf.constant((side + 1) / 2, tf.float32) for side in (one, other))
    expected = tf.image.ssim_multiscale(*unit, max_val=1.0, power_factors=weights).numpy()
    found = multiscale_similarity(one, other)
    assert np.all((found > 0.1) & (found < 0.98))
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_one_window_by_hand():
    """11 x 11 pixels hold one window: l c s of the Gaussian mean, variance and covariance."""
    one, other = RANDOM.uniform(-1, 1, size=(2, 1, 11, 11, 1))
    window = np.exp(-np.square(np.arange(11) - 5) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    x, y = (one[0, ..., 0] + 1) / 2, (other[0, ..., 0] + 1) / 2
    mean_x, mean_y = (window * x).sum(), (window * y).sum()
    var_x, var_y = (window * (x - mean_x) ** 2).sum(), (window * (y - mean_y) ** 2).sum()
    covariance = (window * (x - mean_x) * (y - mean_y)).sum()
    luminance = (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
    structure = (2 * covariance + 9e-4) / (var_x + var_y + 9e-4)
    assert multiscale_similarity(one, other)[0] == pytest.approx(max(luminance * structure, 0), rel=1e-9)
    mixed = 0.5 * (one + other)
    assert 0.3 < multiscale_similarity(one, mixed)[0] < 0.99


def test_equal_images_are_at_one_and_negatives_at_zero():
    images = smooth_images(5, 28, 28, 1)
    np.testing.assert_allclose(multiscale_similarity(images, images), 1.0, rtol=1e-9)
    np.testing.assert_allclose(multiscale_similarity(images, -images), 0.0, atol=1e-12)


def test_diversity():
    varied = smooth_images(40, 28, 28, 1)
    alike = multiscale_similarity_of_pairs(varied[:1].repeat(40, axis=0), pairs=300)
    assert alike.mean == pytest.approx(1.0, rel=1e-9)
    assert alike.std == pytest.approx(0.0, abs=1e-9)
    near = 0.9 * varied[:1] + 0.1 * varied
    found = [multiscale_similarity_of_pairs(images, pairs=300, seed=1) for images in (varied, near, varied)]
    assert found[0] == found[2]
    assert found[0].mean < 0.5 < found[1].mean < 1.0


def test_an_image_is_never_paired_with_itself():
    """Of two images, the only pair is both of them, in either order."""
    two = smooth_images(2, 16, 16, 1)
    found = multiscale_similarity_of_pairs(two, pairs=50)
    assert found.mean == pytest.approx(multiscale_similarity(two[:1], two[1:])[0], rel=1e-12)
    assert found.std < 1e-12


@pytest.mark.parametrize(("height", "width", "periods"), [(32, 32, 5), (28, 28, 14), (16, 32, 6)])
def test_a_cosine_is_one_ring(height, width, periods):
    """0.8 cos: power 0.8^2 / 4 x pixels at each of two frequencies (four times that at one, where they meet).

    `periods` are counted along the height, the shorter side.
    """
    wave = 0.8 * np.cos(2 * np.pi * periods * np.arange(height) / height)
    images = np.broadcast_to(wave[None, :, None, None], (3, height, width, 2))
    distances = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) * min(height, width)
    in_ring = np.count_nonzero((distances >= periods - 0.5) & (distances < periods + 0.5))
    power = 0.8**2 * height * width * (1.0 if 2 * periods == height else 0.5)
    expected = np.full(int(distances.max() + 0.5), np.log(POWER_FLOOR))
    expected[periods - 1] = np.log(power / in_ring + POWER_FLOOR)
    np.testing.assert_allclose(radial_spectrum(images), expected, atol=1e-9)


def test_white_noise_is_flat_and_brightness_is_left_out():
    noise = RANDOM.uniform(-0.5, 0.5, size=(400, 16, 16, 1))
    spectrum = radial_spectrum(noise)
    assert spectrum.shape == (11,)  # 8 sqrt 2 = 11.3
    np.testing.assert_allclose(spectrum, np.log(1 / 12), atol=0.15)
    np.testing.assert_allclose(radial_spectrum(noise + 0.4), spectrum, atol=1e-9)
    np.testing.assert_allclose(radial_spectrum(np.full((2, 16, 16, 1), 0.3)), np.log(POWER_FLOOR), atol=1e-9)


def test_a_checkerboard_is_the_last_ring_and_blur_falls_off():
    images = 0.5 * smooth_images(50, 32, 32, 1)
    spectrum = radial_spectrum(images)
    board = 0.2 * (np.indices((32, 32)).sum(axis=0) % 2 * 2 - 1)[None, :, :, None]
    change = radial_spectrum(images + board) - spectrum
    assert change.argmax() == len(change) - 1
    np.testing.assert_allclose(change[:-2], 0.0, atol=0.05)
    blurred = sum(np.roll(images, shift, axis=axis) for shift in (-1, 0, 1) for axis in (1, 2)) / 6
    fall = spectrum - radial_spectrum(blurred)
    assert fall[:4].max() < 0.5 < fall[10:16].min()
    floor = spectral_distance(radial_spectrum(images[:25]), radial_spectrum(images[25:]))
    assert spectral_distance(radial_spectrum(blurred), spectrum) > 2 * floor


def test_spectral_distance_by_hand():
    assert spectral_distance(np.array([1.0, 2.0]), np.array([4.0, 6.0])) == pytest.approx(np.sqrt((9 + 16) / 2))
    with pytest.raises(ValueError, match="same size"):
        spectral_distance(np.zeros(3), np.zeros(4))


def test_bad_images():
    good = smooth_images(4, 16, 16, 1)
    with pytest.raises(ValueError, match=r"uint8.*float in \[-1, 1\]"):
        radial_spectrum(good.astype(np.uint8))
    with pytest.raises(ValueError, match=r"give values in \[-1, 1\]"):
        radial_spectrum(127.5 * (good + 1))
    with pytest.raises(ValueError, match="no NaN"):
        multiscale_similarity(good, np.full_like(good, np.nan))
    with pytest.raises(ValueError, match="pairs of the same shape"):
        multiscale_similarity(good, good[:3])
    with pytest.raises(ValueError, match="8 x 16 pixels: give at least 11 x 11"):
        multiscale_similarity_of_pairs(good[:, :8])
    with pytest.raises(ValueError, match="give at least 2"):
        multiscale_similarity_of_pairs(good[:1])
    with pytest.raises(ValueError, match="pairs=0"):
        multiscale_similarity_of_pairs(good, pairs=0)
    with pytest.raises(ValueError, match="count, height, width, channels"):
        radial_spectrum(good[0])
