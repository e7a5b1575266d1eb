"""Directions of latents found without labels: closed-form factorization of the first weights (SeFa, arXiv:2007.06600).

A is what multiplies the latent, or, of a style-based generator, the affine maps of the styles of all layers, one below
the other. The unit vectors n that change |A n| most are the eigenvectors of A^T A with the largest eigenvalues.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.applications.generators import ONE_DRAW, Generator, Noise, Numbers, Space
from zoo.applications.styles import require_layers
from zoo.metrics.checks import finite_rows


@dataclass(frozen=True)
class Directions:
    """Args:
    vectors: (count, dimension) of norm 1, at right angles, the strongest first; the largest number of each is above 0.
    strengths: (count,), their eigenvalues, |A n|^2.
    """

    vectors: np.ndarray
    strengths: np.ndarray


def factorize(weights: np.ndarray, count: int) -> Directions:
    """The first eigenvectors of A^T A.

    Args:
        weights: A, (outputs, dimension).
        count: how many.

    Raises:
        ValueError: no such matrix, or more than its dimension.
    """
    finite_rows(weights, "weights")
    if not 1 <= count <= weights.shape[1]:
        raise ValueError(f"{count} directions: a latent of {weights.shape[1]} numbers has 1 to {weights.shape[1]}.")
    rows = weights.astype(np.float64)
    values, vectors = np.linalg.eigh(rows.T @ rows)  # rising
    chosen = vectors.T[::-1][:count]
    # An eigenvector's sign is free: with this one, two machines find the same.
    signs = np.sign(chosen[np.arange(count), np.abs(chosen).argmax(axis=1)])
    return Directions(chosen * signs[:, None], np.maximum(values[::-1][:count], 0.0))


def find_directions(model: Any, count: int, space: Space = "z", layers: Sequence[int] | None = None) -> Directions:
    """Of a Keras model's weights.

    Which layers count (`zoo.core.latents.measure_first_layers`): the first with weights that the latent reaches,
    itself or through layers without weights, such as pixel norm or where a class is put beside it. In "w" these are
    the affine maps of the chosen layers' styles.

    Args:
        model: with the ability generate, and map and synthesize for "w".
        count: how many directions.
        space: "z": the latent; "w": one style that all chosen layers get.
        layers: of the styles, all by default.

    Raises:
        ValueError: a model without what the space needs, a layer that there is not, a count out of range, or a first
            layer that is not linear.
    """
    from zoo.core.latents import measure_first_layers

    generator = Generator.of(model)
    abilities = model.abilities()
    if space == "z":
        if layers is not None:
            raise ValueError('layers given, which styles have: choose space "w".')
        probes = np.eye(generator.dimension(), dtype=np.float32)
        return factorize(measure_first_layers(abilities["generate"], generator.latent.name, probes).T, count)
    number, width = generator.styles_shape
    chosen = range(number) if layers is None else layers
    require_layers(chosen, number)
    probes = np.zeros((width, number, width), np.float32)
    probes[:, list(chosen)] = np.eye(width)[:, None]
    styles = next(spec.name for spec in generator.abilities["synthesize"].inputs if spec.feed == "style")
    return factorize(measure_first_layers(abilities["synthesize"], styles, probes).T, count)


def move_along(
    generator: Generator,
    numbers: Numbers,
    direction: np.ndarray,
    distances: Sequence[float] | np.ndarray,
    space: Space = "z",
    layers: Sequence[int] | None = None,
    *,
    seed: int = 0,
    labels: np.ndarray | None = None,
    noise: Noise = ONE_DRAW,
) -> np.ndarray:
    """Images at distances along a direction, (images, distances, height, width, channels) in [-1, 1].

    Args:
        generator: of the model that the direction is of.
        numbers: of the images, a row each.
        direction: (dimension of a latent), or of one style.
        distances: from the image's own code, which is at 0.
        space: of the direction.
        layers: in "w", whose styles move; all by default.
        seed: of the latents.
        labels: one for each image, of a class-conditional generator.
        noise: of a style-based one, the same for all.

    Raises:
        ValueError: a direction of another dimension; as in `Generator.generate`.
    """
    codes, whole = generator.draw(numbers, seed, space), direction
    if space == "w":
        count, width = generator.styles_shape
        shifts = np.zeros((count, width))
        shifts[list(range(count) if layers is None else layers)] = direction
        whole = shifts.reshape(-1)
    if whole.shape != codes.shape[1:]:
        raise ValueError(f"a direction of {direction.shape}, and codes of {codes.shape[1:]}: give one of theirs.")
    moved = codes[:, None] + np.asarray(distances)[:, None] * whole  # (images, distances, dimension)
    repeated = None if labels is None else np.repeat(labels, len(distances))
    images = generator.generate(moved.reshape(-1, codes.shape[1]), space, labels=repeated, noise=noise)
    return images.reshape(len(codes), len(distances), *images.shape[1:])
