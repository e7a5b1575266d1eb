"""Eigenvectors of known weights, and which layers they are taken of."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from zoo.applications.directions import find_directions, move_along
from zoo.applications.generators import Generator
from zoo.core.ability import Ability, generate_ability
from zoo.core.inference import Inference
from zoo.core.latents import measure_first_layers
from zoo.layers.equalized import PixelNorm

CASES = ["plain", "pixel norm", "nested", "sequence", "beside a class", "two"]
RANDOM = np.random.default_rng(0)


class OneNetwork(Inference):
    """A generator of one network."""

    def __init__(self, network: keras.Model, classes: tuple[str, ...] = ()) -> None:
        self.network, self.classes = network, classes

    def abilities(self) -> dict[str, Ability]:
        return {"generate": generate_ability(self.network, "normal", self.classes)}


def known_weights() -> tuple[np.ndarray, np.ndarray]:
    """A of (7, 4) = U diag(4, 3, 2, 1) V^T, and V."""
    left, right = (np.linalg.qr(RANDOM.standard_normal((rows, 4)))[0] for rows in (7, 4))
    return left * [4.0, 3.0, 2.0, 1.0] @ right.T, right


def to_image(tensor: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Reshape((1, 1, 1), name="image")(layers.Dense(1, name="last")(tensor))


def kernels_of(case: str, weights: np.ndarray) -> OneNetwork:
    """A network whose first weights are these, of several makings."""
    latent = keras.Input((4,), name="latent")
    first = layers.Dense(7, "relu", name="first")
    inputs, classes = latent, ()
    if case == "plain":
        hidden = first(latent)
    elif case == "pixel norm":
        hidden = first(PixelNorm()(latent))
    elif case == "nested":
        hidden = keras.Model(inner := keras.Input((4,)), first(inner))(latent)
    elif case == "sequence":
        hidden = keras.Sequential([layers.Reshape((4,)), first])(latent)
    elif case == "beside a class":
        label = keras.Input((), dtype="int32", name="label")
        hidden = first(layers.Concatenate()([ops.one_hot(label, 3), latent]))
        inputs, classes = [latent, label], ("a", "b", "c")
    elif case == "two":
        first, second = layers.Dense(3, name="first"), layers.Dense(4, "tanh", name="second")
        hidden = layers.Concatenate()([first(latent), second(latent)])
        network = keras.Model(latent, to_image(hidden))
        first.kernel.assign(weights[:3].T)
        second.kernel.assign(weights[3:].T)
        return OneNetwork(network)
    network = keras.Model(inputs, to_image(hidden))
    kernel = weights.T if case != "beside a class" else np.concatenate([RANDOM.standard_normal((3, 7)), weights.T])
    first.kernel.assign(kernel)
    first.bias.assign(RANDOM.standard_normal(7))
    return OneNetwork(network, classes)


@pytest.mark.parametrize("case", CASES)
def test_directions_are_the_right_singular_vectors_of_the_first_weights(case: str) -> None:
    weights, right = known_weights()
    found = find_directions(kernels_of(case, weights), 3)
    np.testing.assert_allclose(np.abs(np.sum(found.vectors * right.T[:3], axis=1)), 1.0, atol=1e-5)
    scale = 4.0 if case == "pixel norm" else 1.0  # which gives each latent the norm 2
    np.testing.assert_allclose(found.strengths, scale * np.array([16.0, 9.0, 4.0]), rtol=1e-4)
    largest = np.abs(found.vectors).argmax(axis=1)
    assert (found.vectors[np.arange(3), largest] > 0).all()


def test_directions_of_styles_are_those_of_all_affine_maps(style_model) -> None:
    affine = [style_model.synthesis.get_layer(f"affine_{number}") for number in range(4)]
    kernels = [np.asarray(layer.scaled_kernel()).T for layer in affine]  # (4, 5) each
    for chosen in (None, range(1, 3)):
        stacked = np.concatenate(kernels if chosen is None else [kernels[layer] for layer in chosen])
        _, singular, right = np.linalg.svd(stacked.astype(np.float64))
        found = find_directions(style_model, 2, "w", chosen)
        np.testing.assert_allclose(np.abs(np.sum(found.vectors * right[:2], axis=1)), 1.0, atol=1e-5)
        np.testing.assert_allclose(found.strengths, singular[:2] ** 2, rtol=1e-4)


class Modulated(layers.Layer):
    """maps * (1 + A style), A a layer within, as in AdaIN and modulated convolutions."""

    def build(self, shapes: list[tuple[int | None, ...]]) -> None:
        self.affine = layers.Dense(shapes[0][-1], name="affine")
        self.affine.build(shapes[1])

    def call(self, inputs: list[keras.KerasTensor]) -> keras.KerasTensor:
        maps, style = inputs
        return maps * (1.0 + self.affine(style))


def test_a_layer_with_an_affine_map_of_its_own_counts_by_that() -> None:
    """In front of it and behind are maps that the latent has changed already."""
    latent = keras.Input((4,), name="latent")
    first, second = Modulated(name="modulated_0"), Modulated(name="modulated_1")
    start = layers.Dense(3, use_bias=False, kernel_initializer="zeros")(latent)
    maps = layers.Dense(4)(layers.LeakyReLU()(first([start, latent])))
    network = keras.Model(latent, to_image(second([maps, latent])))
    response = measure_first_layers(OneNetwork(network).abilities()["generate"], "latent", np.eye(4, dtype=np.float32))
    expected = np.concatenate([np.asarray(layer.affine.kernel) for layer in (first, second)], axis=1)
    np.testing.assert_allclose(response[:, np.abs(response).max(axis=0) > 0], expected, atol=1e-6)


def test_a_layer_that_is_not_linear_has_no_matrix() -> None:
    latent = keras.Input((4,), name="latent")
    squared = layers.PReLU(alpha_initializer="ones", name="kinked")
    network = keras.Model(latent, to_image(squared(latent)))
    squared.alpha.assign(np.full(4, 0.5))
    with pytest.raises(ValueError, match=r"^the first layer 'kinked' is not linear in 'latent': it has no matrix\.$"):
        measure_first_layers(OneNetwork(network).abilities()["generate"], "latent", np.eye(4, dtype=np.float32))


def test_images_along_a_direction(styled: Generator) -> None:
    direction = np.eye(6)[2]
    images = move_along(styled, [3, 4], direction, [-1.0, 0.0, 2.0], seed=1)
    codes = styled.draw([3, 4], 1)
    np.testing.assert_allclose(images[:, 1], styled.generate(codes), atol=1e-6)
    np.testing.assert_allclose(images[1, 2], styled.generate(codes[1:] + 2 * direction)[0], atol=1e-6)


def test_styles_move_in_the_chosen_layers_alone(styled: Generator) -> None:
    direction, codes = np.ones(5), styled.draw([0], space="w")
    (moved,) = move_along(styled, [0], direction, [0.5], "w", [1])
    codes[0, 5:10] += 0.5
    np.testing.assert_allclose(moved[0], styled.generate(codes, "w")[0], atol=1e-6)


def test_directions_that_there_are_not(style_model) -> None:
    weights, _ = known_weights()
    with pytest.raises(ValueError, match="5 directions: a latent of 4 numbers has 1 to 4"):
        find_directions(kernels_of("plain", weights), 5)
    with pytest.raises(ValueError, match=r"layers \[4\]: give at least one of 0 to 3"):
        find_directions(style_model, 1, "w", [4])
    with pytest.raises(ValueError, match="OneNetwork has no map, synthesize: a style needs a style-based generator"):
        find_directions(kernels_of("plain", weights), 1, "w")
