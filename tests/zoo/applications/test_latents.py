"""Paths, traversals, maps and planes against closed-form decoders, and exported twins behind them."""

from pathlib import Path
from statistics import NormalDist
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from serving.card import Data
from studies import latent_space as study
from zoo import load_pretrained
from zoo.applications.latents import (
    Gaussians,
    decode_plane,
    infer_gaussians,
    interpolate,
    interpolate_images,
    make_decoder,
    make_encoder,
    order_by_divergence,
    project_codes,
    traverse,
    walk,
)
from zoo.data.load import load_images
from zoo.export.export import export
from zoo.presets.table import PRESETS
from zoo.training.run import build_model

DIMENSION = 4
BASIS = np.linalg.qr(np.random.default_rng(0).standard_normal((6, DIMENSION)))[0]  # orthonormal columns


def decode(codes: np.ndarray) -> np.ndarray:
    """(count, 4) -> images (count, 2, 3, 1), linear."""
    return (codes @ BASIS.T).reshape(-1, 2, 3, 1)


def encode(images: np.ndarray) -> np.ndarray:
    """Gives a decoded code back."""
    return images.reshape(len(images), -1) @ BASIS


def codes_in(sheet: np.ndarray) -> np.ndarray:
    """(rows, columns, 2, 3, 1) -> (rows, columns, 4)."""
    return encode(sheet.reshape(-1, 2, 3, 1)).reshape(*sheet.shape[:2], DIMENSION)


# Paths


@pytest.mark.parametrize("kind", ["linear", "spherical"])
def test_a_path_has_exactly_its_ends(kind: Any) -> None:
    start, end = np.random.default_rng(1).standard_normal((2, 50)) * [[1.0], [1e8]]
    path = interpolate(start, end, 7, kind)
    assert path.shape == (7, 50)
    np.testing.assert_array_equal(path[[0, -1]], [start, end])


def test_a_straight_path_has_equal_steps() -> None:
    np.testing.assert_allclose(
        interpolate(np.array([0.0, 4.0]), np.array([3.0, -2.0]), 4), [[0, 4], [1, 2], [2, 0], [3, -2]]
    )


def test_a_path_on_the_sphere_keeps_the_norm_and_has_equal_angles() -> None:
    start, end = np.random.default_rng(2).standard_normal((2, 20))
    end *= np.linalg.norm(start) / np.linalg.norm(end)
    path = interpolate(start, end, 9, "spherical")
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), np.linalg.norm(start))
    unit = path / np.linalg.norm(start)
    angles = np.arccos(np.einsum("ij,ij->i", unit[1:], unit[:-1]))
    np.testing.assert_allclose(angles, np.arccos(unit[0] @ unit[-1]) / 8)
    assert np.linalg.norm(interpolate(start, end, 9), axis=1)[4] < 0.9 * np.linalg.norm(start)  # the straight one


def test_the_middle_of_an_arc_by_hand() -> None:
    """At right angles with norm 2: both have sin 45 degrees."""
    middle = interpolate(np.array([2.0, 0.0]), np.array([0.0, 2.0]), 3, "spherical")[1]
    np.testing.assert_allclose(middle, [2**0.5, 2**0.5])


# Walks


def test_a_walk_around_a_circle_has_equal_steps_and_closes() -> None:
    """Three stops at unequal angles of one circle: 90, 120 and 150 degrees, in 12 frames of 30."""
    angles = np.radians([0.0, 90.0, 210.0])
    stops = 3 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    frames = walk(stops, 12, "spherical")
    expected = np.radians(30 * np.arange(12))
    np.testing.assert_allclose(frames, 3 * np.stack([np.cos(expected), np.sin(expected)], axis=1), atol=1e-5)


def test_a_straight_walk_turns_at_its_stops() -> None:
    """A triangle of sides 3, 4 and 5, in 12 steps of length 1: the last is one step from the first."""
    frames = walk(np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]]), 12)
    down = [[3 - 0.6 * step, 4 - 0.8 * step] for step in range(5)]
    np.testing.assert_allclose(frames, [[0, 0], [1, 0], [2, 0], [3, 0], [3, 1], [3, 2], [3, 3], *down], atol=1e-9)


def test_a_walk_through_latents_has_one_speed_all_the_way_round() -> None:
    stops = np.random.default_rng(4).standard_normal((5, 30)) * [[1.0], [0.5], [2.0], [1.0], [1.5]]
    frames = walk(stops, 1_000, "spherical")
    steps = np.linalg.norm(np.roll(frames, -1, axis=0) - frames, axis=1)
    assert steps.max() / np.median(steps) < 1.001
    assert np.sort(steps)[5] / np.median(steps) > 0.999  # all but the five that turn at a stop
    np.testing.assert_array_equal(frames[0], stops[0])


def test_walks_that_can_not_be() -> None:
    with pytest.raises(ValueError, match="1 stops: give at least 2"):
        walk(np.ones((1, 3)), 9)
    with pytest.raises(ValueError, match="frames=1: give at least 2"):
        walk(np.eye(3), 1)
    with pytest.raises(ValueError, match="2 stops that are all the same"):
        walk(np.ones((2, 3)), 9)


def test_images_between_two_images() -> None:
    first, second = decode(np.random.default_rng(3).standard_normal((2, DIMENSION)))
    images = interpolate_images(encode, decode, first, second, 5)
    expected = [first + t * (second - first) for t in (0.0, 0.25, 0.5, 0.75, 1.0)]  # all is linear
    np.testing.assert_allclose(images, expected, atol=1e-12)


def test_a_path_refuses() -> None:
    one = np.ones(3)
    for arguments, message in [
        ((one, one, 1), "at least 2"),
        ((one, one, 3, "cubic"), "choose from"),
        ((one, np.ones(4), 3), "dimension 3 and 4"),
        ((one, 0 * one, 3, "spherical"), "is 0"),
        ((one, np.nan * one, 3), "NaN"),
        ((one[None], one, 3), "one code"),
    ]:
        with pytest.raises(ValueError, match=message):
            interpolate(*arguments)
    with pytest.raises(ValueError, match="two of one"):
        interpolate_images(encode, decode, np.zeros((2, 3, 1)), np.zeros((2, 2, 1)), 3)


# Single dimensions


def test_dimensions_come_in_the_order_of_what_they_say() -> None:
    # Nats: 0, (4 + 0.01 - 1) / 2 + log 10 = 3.8, about 0.02, (0.0025 - 1) / 2 + log 20 = 2.5
    mean = np.array([[0.0, 2.0, 0.1, 0.0], [0.0, -2.0, -0.1, 0.0]])
    assert order_by_divergence(Gaussians(mean, np.array([[1.0, 0.1, 0.9, 0.05]] * 2))).tolist() == [1, 3, 2, 0]
    with pytest.raises(ValueError, match="above 0"):
        order_by_divergence(Gaussians(mean, 0 * mean))
    with pytest.raises(ValueError, match="give one shape"):
        order_by_divergence(Gaussians(mean, np.ones((2, 3))))


def test_a_traversal_changes_the_named_dimension_alone() -> None:
    code, values = np.array([0.1, -0.2, 0.3, 5.0]), [-2.0, 0.0, 7.0]
    sheet = traverse(decode, code, [2, 0], values)
    assert sheet.shape == (2, 3, 2, 3, 1)
    codes = codes_in(sheet)
    for row, dimension in enumerate([2, 0]):
        np.testing.assert_allclose(codes[row, :, dimension], values, atol=1e-6)
        others = [each for each in range(DIMENSION) if each != dimension]
        np.testing.assert_allclose(codes[row][:, others], np.tile(code[others], (3, 1)), atol=1e-6)
    np.testing.assert_array_equal(code, [0.1, -0.2, 0.3, 5.0])


def test_a_traversal_refuses() -> None:
    for arguments, message in [
        ((np.zeros(4), [4], [0.0]), "0 to 3"),
        ((np.zeros(4), [-1], [0.0]), "0 to 3"),
        ((np.zeros(4), [], [0.0]), "at least one"),
        ((np.zeros(4), [0], []), "at least one"),
        ((np.zeros((1, 4)), [0], [0.0]), "one code"),
    ]:
        with pytest.raises(ValueError, match=message):
            traverse(decode, *arguments)


# Planes


def test_a_map_runs_over_the_stated_quantiles() -> None:
    quantiles = (0.05, 0.5, 0.8)
    codes = codes_in(decode_plane(decode, quantiles, DIMENSION, plane=(3, 1)))
    assert codes.shape == (3, 3, DIMENSION)
    normal = NormalDist()
    # Left to right the first dimension of the plane, bottom to top the second; the corners:
    for row, column, share_up, share_across in [
        (2, 0, 0.05, 0.05),
        (0, 0, 0.8, 0.05),
        (2, 2, 0.05, 0.8),
        (0, 2, 0.8, 0.8),
    ]:
        assert normal.cdf(codes[row, column, 3]) == pytest.approx(share_across, abs=1e-6)
        assert normal.cdf(codes[row, column, 1]) == pytest.approx(share_up, abs=1e-6)
    np.testing.assert_allclose(codes[1, 1], 0.0, atol=1e-7)  # the median of both
    np.testing.assert_allclose(codes[..., [0, 2]], 0.0, atol=1e-6)


def test_a_map_of_two_latents_needs_no_plane() -> None:
    found = decode_plane(lambda codes: codes.reshape(-1, 2, 1, 1), (0.25, 0.75))
    third = NormalDist().inv_cdf(0.75)
    np.testing.assert_allclose(
        found[..., 0, 0], [[[-third, third], [third, third]], [[-third, -third], [third, -third]]], rtol=1e-6
    )


def test_a_map_refuses() -> None:
    for quantiles in ((), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5), (0.7, 0.2), (np.nan,)):
        with pytest.raises(ValueError, match="rising numbers"):
            decode_plane(decode, quantiles, DIMENSION)
    with pytest.raises(ValueError, match="0 to 3"):
        decode_plane(decode, (0.5,), DIMENSION, plane=(0, 4))
    with pytest.raises(ValueError, match="two different"):
        decode_plane(decode, (0.5,), DIMENSION, plane=(1, 1))


def test_a_scatter_of_two_dimensions() -> None:
    codes, labels = np.array([[0.0, 5.0, 1.0], [2.0, 7.0, 3.0], [4.0, 9.0, 11.0]]), np.array([4, 4, 1])
    found = project_codes(codes, labels, plane=(2, 0))
    np.testing.assert_array_equal(found.points, [[1, 0], [3, 2], [11, 4]])
    np.testing.assert_array_equal(found.labels, labels)
    # Variances 8/3, 8/3 and 56/3: of 24 in all 56/72 and 8/72.
    assert found.explained == pytest.approx((56 / 72, 8 / 72))


def test_a_scatter_of_principal_components() -> None:
    random = np.random.default_rng(4)
    codes = random.standard_normal((200, 5)) @ random.standard_normal((5, 5)) + 3.0
    found = project_codes(codes, np.zeros(200, int))
    expected = PCA().fit(codes)
    np.testing.assert_allclose(np.abs(found.points), np.abs(expected.transform(codes)[:, :2]), atol=1e-9)
    assert found.explained == pytest.approx(expected.explained_variance_ratio_[:2])


def test_a_scatter_refuses() -> None:
    codes, labels = np.random.default_rng(5).standard_normal((6, 3)), np.zeros(6, int)
    with pytest.raises(ValueError, match="one per row"):
        project_codes(codes, labels[:5])
    with pytest.raises(ValueError, match="dimension 1"):
        project_codes(codes[:, :1], labels)
    with pytest.raises(ValueError, match="all the same"):
        project_codes(np.ones((6, 3)), labels)
    with pytest.raises(ValueError, match="0 to 2"):
        project_codes(codes, labels, plane=(0, 3))


# Exported models


def exported(folder: Path, name: str) -> tuple[Path, Any]:
    """A tiny twin with fresh weights, exported, and the Keras model of the same files."""
    preset = PRESETS[name].twin()
    keras.utils.set_random_seed(0)
    data = Data("fashion_mnist_t10k", "train", 9_000, "MIT", "embedded")
    export(build_model(preset), folder / name, preset=preset, data=data, recipe={}, formats=("onnx",))
    return folder / name, load_pretrained(folder / name)


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    return exported(tmp_path_factory.mktemp("autoencoder"), "sparse-autoencoder-mnist")


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    return exported(tmp_path_factory.mktemp("conditional"), "cvae-mnist")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    return exported(tmp_path_factory.mktemp("plain"), "beta-vae-fashion-mnist")


def make_images(count: int) -> np.ndarray:
    return np.random.default_rng(6).uniform(-1.0, 1.0, (count, 8, 8, 1)).astype(np.float32)


def test_an_autoencoder_there_and_back(autoencoder: tuple[Path, Any]) -> None:
    directory, model = autoencoder
    there, back = (load_pretrained(directory, format="onnx", ability=each) for each in ("encode", "decode"))
    images = make_images(251)  # one more than a batch
    codes = make_encoder(there)(images)
    np.testing.assert_allclose(codes, model.encoder(images), atol=1e-5)
    np.testing.assert_allclose(make_decoder(back)(codes), model.image(model.encoder(images)), atol=1e-5)
    assert codes.std(axis=0).min() > 1e-3  # the images differ
    with pytest.raises(ValueError, match="takes no labels"):
        make_encoder(there, np.zeros(251, int))
    with pytest.raises(ValueError, match="mean and scale"):
        infer_gaussians(there, images)
    with pytest.raises(ValueError, match="image to code"):
        make_encoder(back)
    with pytest.raises(ValueError, match="code to image"):
        make_decoder(there)


def test_a_conditional_model_takes_each_class(conditional: tuple[Path, Any]) -> None:
    directory, model = conditional
    there, back = (load_pretrained(directory, format="onnx", ability=each) for each in ("encode", "decode"))
    images, labels = make_images(300), np.arange(300) % 10
    classes_given = keras.ops.convert_to_tensor(labels, "int32")
    mean, log_scale = model.encoder([keras.ops.convert_to_tensor(images), classes_given])
    found = infer_gaussians(there, images, labels)
    np.testing.assert_allclose(found.mean, mean, atol=1e-5)
    np.testing.assert_allclose(found.scale, np.exp(log_scale), rtol=1e-4)
    np.testing.assert_array_equal(make_encoder(there, labels)(images), found.mean)
    np.testing.assert_allclose(make_decoder(back, labels)(found.mean), model.image(mean, classes_given), atol=1e-5)
    other = make_decoder(back, (labels + 1) % 10)(found.mean)
    assert np.abs(other - make_decoder(back, labels)(found.mean)).mean() > 0.01
    with pytest.raises(ValueError, match="give labels"):
        make_encoder(there)
    with pytest.raises(ValueError, match="300 labels for 2 rows"):
        make_encoder(there, labels)(images[:2])


# The recipe


def test_the_paths_of_the_recipe_join_two_classes(plain: tuple[Path, Any]) -> None:
    directory, _ = plain
    test = load_images("embedded", split="test", image_size=8, channels=1)
    assert test.labels is not None
    ends = [0]
    for number, label in enumerate(test.labels):
        if label != test.labels[ends[-1]]:
            ends.append(number)
    both = load_pretrained(directory, format="onnx", ability="reconstruct")
    images = (test.images[ends[:4]] / 127.5 - 1).astype(np.float32)
    expected = both.run({"image": images})["reconstruction"]
    found = study.make_paths(str(directory), 3, "spherical")
    assert found.shape == (3, study.STEPS, 8, 8, 1)
    np.testing.assert_allclose(found[:, 0], expected[:3], atol=1e-5)
    np.testing.assert_allclose(found[:, -1], expected[1:], atol=1e-5)


def test_every_label_of_one_latent(conditional: tuple[Path, Any]) -> None:
    directory, model = conditional
    test = load_images("embedded", split="test", image_size=8, channels=1)
    assert test.labels is not None
    images, labels = (test.images[:2] / 127.5 - 1).astype(np.float32), test.labels[:2].astype(np.int32)
    mean, _ = model.encoder([keras.ops.convert_to_tensor(each) for each in (images, labels)])
    found = study.decode_every_label(str(directory), 2)
    assert found.shape == (2, 10, 8, 8, 1)
    for label in (0, 7):
        classes_given = keras.ops.convert_to_tensor([label, label], "int32")
        np.testing.assert_allclose(found[:, label], model.image(mean, classes_given), atol=1e-5)


def test_the_recipe_draws(plain: tuple[Path, Any], conditional: tuple[Path, Any], tmp_path: Path) -> None:
    figure = tmp_path / "docs" / "figure.png"
    study.main(study.Options(str(plain[0]), str(plain[0]), str(conditional[0]), rows=2, figure=figure))
    with Image.open(figure) as image:
        assert np.ptp(np.asarray(image.convert("L"))) > 100
