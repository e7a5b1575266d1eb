"""Distances between sets of images that need no feature extractor: on the pixels themselves, in NumPy."""

import numpy as np

PROJECTIONS = 256


def sliced_wasserstein_distance(
    samples: np.ndarray, reference: np.ndarray, *, projections: int = PROJECTIONS, seed: int = 0
) -> float:
    """The mean Wasserstein-1 distance of the two sets along random directions (arXiv:1304.6877, section 2).

    Along one direction it is the mean distance of the sorted projections. On pixels it notices wrong brightness,
    contrast and coarse structure, and hardly fine detail. Two sets of one distribution are not at 0: the distance of
    training images to held-out ones is the floor.

    Args:
        samples: (count, ...) float, of any range.
        reference: likewise, as many of the same shape.
        projections: directions, uniform on the sphere.
        seed: of the directions.

    Raises:
        ValueError: the sets differ in shape, or there is nothing in them.
    """
    if samples.shape != reference.shape or not samples.size:
        raise ValueError(f"samples {samples.shape} and reference {reference.shape}: give as many of the same shape.")
    count = len(samples)
    directions = np.random.Generator(np.random.Philox(seed)).standard_normal((samples[0].size, projections))
    directions /= np.linalg.norm(directions, axis=0)
    one, other = (
        np.sort(images.reshape(count, -1).astype(np.float64) @ directions, axis=0) for images in (samples, reference)
    )  # (count, projections): in one dimension, optimal transport pairs the sorted values
    return float(np.mean(np.abs(one - other)))


def nearest_neighbor_distance(images: np.ndarray) -> float:
    """The mean Euclidean distance of an image to the nearest other one; 0 when every image has a copy.

    Args:
        images: (count, ...) float, at least two.

    Raises:
        ValueError: fewer than two.
    """
    if len(images) < 2:
        raise ValueError(f"{len(images)} image(s) have no nearest other one: give at least 2.")
    flat = images.reshape(len(images), -1).astype(np.float64)
    squares = np.square(flat).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2.0 * flat @ flat.T
    np.fill_diagonal(distances, np.inf)
    return float(np.mean(np.sqrt(np.maximum(distances.min(axis=1), 0.0))))
