"""Path lengths in closed form, and what rounding does to them."""

from functools import partial

import numpy as np
import pytest

from serving.card import Input
from serving.sampling.noise import draw
from zoo.metrics import paths
from zoo.metrics.paths import lerp, perceptual_path_length, slerp

RANDOM = np.random.Generator(np.random.Philox(0))
KERNEL = RANDOM.standard_normal((5, 12)) / 100  # images of 2 x 2 x 3, far inside [-1, 1]
FEATURES = RANDOM.standard_normal((12, 7))
LATENTS = partial(draw, Input("latent", "float32", ("batch", 5), "normal"))


def images_of(latents: np.ndarray) -> np.ndarray:
    return (latents.astype(np.float64) @ KERNEL).reshape(-1, 2, 2, 3)


def features_of(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) @ FEATURES


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def test_linear_all_the_way():
    """|phi G (z2 - z1)|^2 for every t and epsilon; float32 latents alone are rounded."""
    ends = LATENTS(range(2 * 150), 3).astype(np.float64)
    expected = np.square((ends[1::2] - ends[::2]) @ KERNEL @ FEATURES).sum(axis=1)
    found = perceptual_path_length(
        images_of, features_of, LATENTS, interpolate=lerp, pairs=150, epsilon=1e-2, trim=0.0, seed=3
    )
    assert found.mean == pytest.approx(expected.mean(), rel=1e-4)
    assert found.std == pytest.approx(expected.std(), rel=1e-4)


def test_around_the_circle():
    """Orthogonal unit latents, G = half the identity: chords of angle epsilon pi/2, |1/2|^2 (2 sin(pi/4 e) / e)^2."""

    def corners(rows: range, seed: int) -> np.ndarray:
        return np.eye(4, dtype=np.float32)[np.array(rows) % 4]

    def half(latents: np.ndarray) -> np.ndarray:
        return latents.reshape(-1, 2, 2, 1) / np.float32(2)

    for epsilon in (0.5, 1e-2):
        found = perceptual_path_length(half, flat, corners, pairs=70, epsilon=epsilon)
        assert found.mean == pytest.approx((np.sin(np.pi / 4 * epsilon) / epsilon) ** 2, rel=1e-4)
        assert found.std < 1e-3
    assert found.mean == pytest.approx((np.pi / 4) ** 2, rel=1e-3)  # angle^2 |z|^2 / 4


def test_slerp_keeps_to_the_sphere_at_constant_speed():
    one, other = (3 * rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in RANDOM.standard_normal((2, 40, 6)))
    ticks = np.linspace(0, 1, 9)
    path = np.stack([slerp(one, other, np.full(40, t)) for t in ticks])
    np.testing.assert_allclose(path[[0, -1]], [one, other], atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(path, axis=2), 3, rtol=1e-13)
    angles = np.arccos(np.einsum("tij,tij->ti", path[1:], path[:-1]) / 9)
    whole = np.arccos(np.einsum("ij,ij->i", one, other) / 9)
    np.testing.assert_allclose(angles, np.broadcast_to(whole / 8, angles.shape), rtol=1e-10)


def test_slerp_by_hand_and_on_one_line():
    """At right angles and half way, both have sin(pi/4); norms 1 and 2 are not brought to 1."""
    half = np.array([0.5])
    np.testing.assert_allclose(slerp(np.array([[1.0, 0]]), np.array([[0, 2.0]]), half), [[0.5**0.5, 2 * 0.5**0.5]])
    for other in ([[3.0, 3.0]], [[-3.0, -3.0]]):
        found = slerp(np.array([[1.0, 1.0]]), np.array(other), np.array([0.25]))
        np.testing.assert_allclose(found, 0.75 * np.ones((1, 2)) + 0.25 * np.array(other), rtol=1e-14)


def test_rounding_does_not_dominate():
    """A generator and features in float32: down to 1e-4 epsilon hardly matters; at 1e-7 nothing but rounding is left.

    The generator in float64 knows the limit.
    """
    kernels = [RANDOM.standard_normal(shape) / np.sqrt(shape[0]) for shape in ((16, 64), (64, 64), (64, 48))]
    phi = RANDOM.standard_normal((48, 32)) / np.sqrt(48)
    latents = partial(draw, Input("latent", "float32", ("batch", 16), "normal"))

    def network(dtype: type):
        def generate(latents: np.ndarray) -> np.ndarray:
            rows = latents.astype(dtype)
            for kernel in kernels:
                rows = np.tanh(rows @ kernel.astype(dtype))
            return rows.reshape(-1, 4, 4, 3)

        def features(images: np.ndarray) -> np.ndarray:
            return np.maximum(flat(images) @ phi.astype(dtype), 0)

        return generate, features

    def length(epsilon: float) -> float:
        return perceptual_path_length(*network(np.float32), latents, pairs=200, epsilon=epsilon).mean

    exact = perceptual_path_length(*network(np.float64), latents, pairs=200, epsilon=1e-3).mean
    assert length(1e-2) == pytest.approx(exact, rel=2e-2)
    assert length(1e-3) == pytest.approx(exact, rel=1e-3)
    assert length(1e-4) == pytest.approx(exact, rel=1e-2)
    assert length(1e-7) > 1.5 * exact


def test_the_ends_are_left_out():
    """Lengths 0 ... 199: 1 % of them at either end are 0, 1 and 198, 199, of which the rank decides."""

    def ends(rows: range, seed: int) -> np.ndarray:
        return np.array([[(row // 2) ** 0.5 / 100 * (row % 2)] for row in rows])

    def as_images(latents: np.ndarray) -> np.ndarray:
        return latents.astype(np.float64).reshape(-1, 1, 1, 1)

    def found(trim: float):
        return perceptual_path_length(
            as_images, flat, ends, interpolate=lerp, pairs=200, epsilon=0.5, trim=trim, seed=1
        )

    lengths = np.arange(200) / 1e4
    assert found(0.0).mean == pytest.approx(lengths.mean(), rel=1e-6)
    assert found(0.0).std == pytest.approx(lengths.std(), rel=1e-6)
    assert found(0.01).std == pytest.approx(lengths[1:-1].std(), rel=1e-6)  # 1.99 of 199 steps: ranks 1 and 198
    assert found(0.25).std == pytest.approx(lengths[49:151].std(), rel=1e-6)


def test_blocks_change_nothing_and_the_seed_decides(monkeypatch):
    sizes = []

    def generate(latents: np.ndarray) -> np.ndarray:
        assert latents.dtype == np.float32
        sizes.append(len(latents))
        return images_of(latents)

    def found(seed: int) -> paths.Spread:
        return perceptual_path_length(generate, features_of, LATENTS, pairs=150, epsilon=1e-2, seed=seed)

    whole, other = found(1), found(2)
    assert sizes[:3] == [128, 128, 44]
    assert whole == found(1) != other
    monkeypatch.setattr(paths, "BLOCK", 7)
    assert found(1) == pytest.approx(whole, rel=1e-12)


def test_bad_input():
    def call(generate=images_of, features=features_of, latents_of=LATENTS, **options):
        return perceptual_path_length(generate, features, latents_of, **{"pairs": 10, **options})

    for bad in ({"pairs": 0}, {"epsilon": 0.0}, {"epsilon": 1.0}, {"trim": 0.5}):
        ((name, value),) = bad.items()
        with pytest.raises(ValueError, match=f"{name}={value}"):
            call(**bad)
    with pytest.raises(ValueError, match="3 latents where 20 were asked for"):
        call(latents_of=lambda rows, seed: np.zeros((3, 5)))
    with pytest.raises(ValueError, match="latents hold NaN"):
        call(latents_of=lambda rows, seed: np.full((len(rows), 5), np.nan))
    with pytest.raises(ValueError, match="1 images where 20"):
        call(generate=lambda latents: images_of(latents[:1]))
    with pytest.raises(ValueError, match=r"uint8: give .* float in \[-1, 1\]"):
        call(generate=lambda latents: images_of(latents).astype(np.uint8))
    with pytest.raises(ValueError, match="give values in"):
        call(generate=lambda latents: images_of(latents) + 1)
    with pytest.raises(ValueError, match="10 features where 20"):
        call(features=lambda images: features_of(images)[::2])
    with pytest.raises(ValueError, match=r"features \(20, 2, 2, 3\)"):
        call(features=lambda images: images)


def test_lengths_at_the_ends():
    """G(z) = z^2 / 8, from z = row's parity: 0 to 1, so at t = 0 only (epsilon^2 / 8)^2 / epsilon^2 is left."""

    def ends(rows: range, seed: int) -> np.ndarray:
        return np.array([[row % 2] for row in rows], np.float64)

    def squares(latents: np.ndarray) -> np.ndarray:
        return latents.astype(np.float64).reshape(-1, 1, 1, 1) ** 2 / 8

    found = paths.measure_path_lengths(
        squares, flat, ends, interpolate=lerp, sampling="end", pairs=5, epsilon=0.5, trim=0.0
    )
    np.testing.assert_allclose(found, np.full(5, (0.5 / 8) ** 2))
    full = paths.measure_path_lengths(squares, flat, ends, interpolate=lerp, pairs=2_000, epsilon=1e-2, trim=0.0)
    assert full.mean() == pytest.approx(1 / 48, rel=0.1)  # E[(2 t / 8)^2]
    with pytest.raises(ValueError, match="sampling='middle': choose from"):
        paths.measure_path_lengths(squares, flat, ends, sampling="middle")
