"""Features that nobody trained: the convolution is TensorFlow's, the weights are fixed, and what they see."""

from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf

from zoo.data.load import load_images
from zoo.evaluation.extractors import Extractor, extract_features, format_version
from zoo.evaluation.generated import blur
from zoo.evaluation.random_features import RandomFeatures, convolve, halve
from zoo.metrics.frechet import frechet_distance
from zoo.metrics.moments import Moments

SIZE = (28, 28, 1)


def test_the_network_is_tensorflows_under_the_same_weights() -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (3, 11, 11, 3)).astype(np.float32)
    extractor = RandomFeatures((11, 11, 3))
    maps = tf.constant(images)
    for weights in extractor.weights[:-1]:
        kernel = weights.reshape(3, 3, maps.shape[3], -1)
        # ReLU, then the mean of 2 x 2 with the last row and column of odd sides repeated
        maps = tf.nn.relu(tf.nn.conv2d(maps, kernel, 1, "SAME"))
        odd = maps.shape[1] % 2
        maps = tf.nn.avg_pool2d(tf.pad(maps, [[0, 0], [0, odd], [0, odd], [0, 0]], "SYMMETRIC"), 2, 2, "VALID")
    wanted = tf.reshape(maps, (3, -1)) @ extractor.weights[-1]
    features, probabilities = extractor(images)
    np.testing.assert_allclose(features, wanted, rtol=1e-4, atol=1e-5)
    assert features.shape == (3, extractor.dimension)
    assert probabilities.shape == (3, extractor.classes) == (3, 0)


def test_convolution_and_means_by_hand() -> None:
    image = np.arange(4.0, dtype=np.float32).reshape(1, 2, 2, 1)  # 0 1 / 2 3
    np.testing.assert_array_equal(convolve(image, np.ones((9, 1), np.float32))[0, :, :, 0], [[6, 6], [6, 6]])
    # 0 1 2 / 3 4 5 / 6 7 8 with the last row and column twice: (0+1+3+4)/4, (2+2+5+5)/4, (6+7+6+7)/4, 8
    grid = np.arange(9.0, dtype=np.float32).reshape(1, 3, 3, 1)
    np.testing.assert_array_equal(halve(grid)[0, :, :, 0], [[2, 3.5], [6.5, 8]])


def test_the_weights_are_always_the_same() -> None:
    extractor: Extractor = RandomFeatures(SIZE)
    assert format_version(extractor) == "random-features@ebd0800d"
    assert RandomFeatures((64, 64, 1)).sha256 != extractor.sha256
    assert [weights.shape for weights in RandomFeatures((4, 4, 3)).weights] == [(27, 16), (64, 128)]


def test_an_image_has_the_same_features_in_any_batch() -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (130, *SIZE)).astype(np.float32)
    extractor = RandomFeatures(SIZE)
    np.testing.assert_allclose(extractor(images)[0][100:], extractor(images[100:])[0], rtol=1e-4, atol=1e-5)


def test_worse_images_are_farther() -> None:
    """Real ones, the same with a little noise, without three of ten classes, blurred: each farther than the last."""
    loaded = load_images("embedded", split="all", image_size=None, channels=1)
    images, labels = loaded.images[:4_000], loaded.labels
    assert labels is not None
    real, others = images[:2_000], images[2_000:]
    noise = np.random.default_rng(0).normal(0, 8, others.shape).round()
    sets = (
        others,
        np.clip(others + noise, 0, 255).astype(np.uint8),
        others[labels[2_000:4_000] > 2],
        blur(others),
    )
    extractor = RandomFeatures(SIZE)
    reference = Moments.of(extract_features(extractor, real)[0])
    distances = [frechet_distance(Moments.of(extract_features(extractor, each)[0]), reference) for each in sets]
    assert all(1.2 * one < other for one, other in pairwise(distances)), distances


@pytest.mark.parametrize("shape", [(0, *SIZE), (2, 27, 28, 1), (2, 28, 28, 3)])
def test_images_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="give"):
        RandomFeatures(SIZE)(np.zeros(shape, np.float32))
