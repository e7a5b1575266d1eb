"""Descent to a known solution, and images that a generator made."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from zoo.applications.generators import NO_NOISE, Generator
from zoo.applications.projection import descend, project
from zoo.core.ability import Ability, generate_ability
from zoo.core.inference import Inference
from zoo.core.latents import Distances, measure_distances_to
from zoo.presets.table import PRESETS
from zoo.training.run import build_model

RANDOM = np.random.default_rng(1)
MATRIX = RANDOM.standard_normal((3, 12)).astype(np.float32) / 10  # of a generator of 2 x 2 x 3 images


class Linear(Inference):
    """x = z A, with features x B."""

    def __init__(self, prior: Any = "normal") -> None:
        latent, image = keras.Input((3,), name="latent"), keras.Input((2, 2, 3), name="image")
        dense, features = layers.Dense(12, use_bias=False), layers.Dense(5, use_bias=False, name="features")
        made = layers.Reshape((2, 2, 3), name="image")(dense(latent))
        network = keras.Model(latent, made)
        dense.kernel.assign(MATRIX)
        classify = keras.Model(image, features(layers.Flatten()(image)))
        self.kernel = np.asarray(features.kernel)
        self.record = {
            "generate": generate_ability(network, prior),
            "classify": Ability(classify, {"image": "image"}, {"features": "code"}),
        }

    def abilities(self) -> dict[str, Ability]:
        return self.record


def image_of(latent: np.ndarray) -> np.ndarray:
    return (latent @ MATRIX).reshape(2, 2, 3).astype(np.float32)


def test_a_linear_generator_is_inverted() -> None:
    """Least squares has one solution, wherever the descent begins."""
    latent = np.array([0.5, -1.0, 0.3])
    found = project(Linear(), image_of(latent), restarts=3, steps=400)
    np.testing.assert_allclose(found.codes, np.tile(latent, (3, 1)), atol=1e-3)
    assert (found.distances < 1e-7).all()
    assert (found.history[-1] < found.history[0] / 1000).all()
    assert found.history.shape == (401, 3)
    np.testing.assert_allclose(found.images[found.best], image_of(latent), atol=1e-3)


def test_what_no_latent_makes_is_projected_at_a_right_angle() -> None:
    target = image_of(np.array([0.2, 0.4, -0.6])) + 0.1 * RANDOM.uniform(-1, 1, (2, 2, 3)).astype(np.float32)
    expected = np.linalg.lstsq(MATRIX.T, target.ravel(), rcond=None)[0]
    found = project(Linear(), target, restarts=2, steps=400)
    np.testing.assert_allclose(found.codes, np.tile(expected, (2, 1)), atol=1e-3)
    residual = np.square((expected @ MATRIX - target.ravel()) / 2).mean()
    np.testing.assert_allclose(found.distances, residual, rtol=1e-4)


def test_uniform_latents_stay_in_their_range() -> None:
    found = project(Linear("uniform"), image_of(np.array([0.5, -1.7, 0.3])), restarts=2, steps=200)
    assert found.codes.min() == -1.0
    assert found.distances.min() > 1e-5


def test_distances_and_their_gradient_by_hand() -> None:
    model, target = Linear(), image_of(np.array([1.0, 0.0, 0.0]))
    codes = RANDOM.standard_normal((4, 3)).astype(np.float32)
    abilities = model.abilities()
    measure = measure_distances_to(target, abilities["generate"], "latent", abilities["classify"], weight=0.7)
    found = measure({"latent": codes})
    differences = codes @ MATRIX - target.ravel()
    wanted = np.square(target.ravel() @ model.kernel).sum()
    np.testing.assert_allclose(found.images, (codes @ MATRIX).reshape(-1, 2, 2, 3), rtol=1e-5)
    np.testing.assert_allclose(found.pixels, np.square(differences / 2).mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.features, np.square(differences @ model.kernel).sum(axis=1) / wanted, rtol=1e-4)
    slope = differences / 24 + 0.7 * 2 / wanted * differences @ model.kernel @ model.kernel.T
    np.testing.assert_allclose(found.gradient, slope @ MATRIX.T, rtol=1e-4)


def test_the_best_step_of_each_start_is_kept() -> None:
    """Of |z| a rate of 1 steps over the least and back: what is kept is the nearest that was seen."""

    def gradient(codes: np.ndarray) -> tuple[np.ndarray, Distances]:
        sizes = np.abs(codes[:, 0])
        return np.sign(codes), Distances(codes[:, None, None], sizes, np.zeros(len(codes)), codes)

    found = descend(gradient, np.array([[2.25], [0.3]]), steps=2, rate=1.0)
    np.testing.assert_array_equal(found.distances, found.history.min(axis=0))
    np.testing.assert_array_equal(np.abs(found.codes[:, 0]), found.distances)
    np.testing.assert_array_equal(found.images.ravel(), found.codes[:, 0])
    assert found.best == found.distances.argmin()
    assert found.history[-1, 1] > found.distances[1]


def test_an_image_of_styles_is_recovered(style_model: Any) -> None:
    generator = Generator.of(style_model)
    (style,) = generator.draw([4], seed=6, space="w")
    (target,) = generator.generate(style[None], "w", noise=NO_NOISE)
    found = project(style_model, target, "w", restarts=3, steps=200)
    assert found.codes.shape == (3, 5)
    assert found.distances[found.best] < 1e-4 < found.history[0, found.best]
    again = generator.generate(np.tile(found.codes, (1, 4)), "w", noise=NO_NOISE)
    np.testing.assert_allclose(again, found.images, atol=1e-5)


def test_a_vae_begins_at_its_own_code() -> None:
    model = build_model(PRESETS["cvae-mnist"].twin())
    generator = Generator.of(model)
    target = generator.generate(generator.draw([0]), labels=generator.draw_labels([0], labels=3))[0]
    found = project(model, target, restarts=2, steps=1, label=3)
    code = model.encode(target[None], label=np.array([3], np.int32))
    first = generator.generate(code, labels=np.array([3], np.int32))[0]
    assert found.history[0, 0] == pytest.approx(np.square((first - target) / 2).mean(), rel=1e-3)


def test_what_can_not_be_projected() -> None:
    with pytest.raises(ValueError, match=r"a target of \(3, 2, 3\), and images of \(2, 2, 3\): give one of their size"):
        project(Linear(), np.zeros((3, 2, 3)))
    with pytest.raises(ValueError, match="pixels from 0 to 255"):
        project(Linear(), np.array([0.0, 255.0] * 6).reshape(2, 2, 3))
    with pytest.raises(ValueError, match="GAN can't classify: name a classifier"):
        project(Linear(), np.zeros((2, 2, 3)), classifier=build_model(PRESETS["gan-mnist"].twin()))
    with pytest.raises(ValueError, match="restarts=0, steps=300"):
        project(Linear(), np.zeros((2, 2, 3)), restarts=0)
    with pytest.raises(ValueError, match="Linear has no map, synthesize: space w needs a style-based generator"):
        project(Linear(), np.zeros((2, 2, 3)), "w")
    model = build_model(PRESETS["cgan-fashion-mnist"].twin())
    with pytest.raises(ValueError, match="ConditionalGAN is conditional: give the image's class"):
        project(model, np.zeros(Generator.of(model).image.row))
