"""The embedded sample."""

import numpy as np
import pytest

from zoo.data.load import load_collections, load_images


def test_embedded_sample_is_the_ten_thousand_test_images() -> None:
    train, test, everything = (
        load_images("embedded", split=split, image_size=None, channels=1) for split in ("train", "test", "all")
    )
    assert train.images.shape == (9000, 28, 28, 1)
    np.testing.assert_array_equal(everything.images, np.concatenate([train.images, test.images]))
    assert everything.labels is not None
    assert test.images.shape == (1000, 28, 28, 1)
    assert train.labels is not None
    assert test.labels is not None
    np.testing.assert_array_equal(np.bincount(np.concatenate([train.labels, test.labels])), np.full(10, 1000))
    np.testing.assert_array_equal(everything.labels, np.concatenate([train.labels, test.labels]))
    assert train.class_names[train.labels[0]] == "Ankle boot"  # as published: the first test label is 9
    assert (train.name, train.license) == ("fashion_mnist_t10k", "MIT")


def test_embedded_sample_has_no_other_split() -> None:
    with pytest.raises(ValueError, match=r"split='validation': the embedded sample has \['all', 'test', 'testA', "):
        load_images("embedded", split="validation", image_size=32, channels=1, fit="pad")


def test_two_collections_are_images_and_their_negatives() -> None:
    for held_out, split in ((False, "train"), (True, "test")):
        one, other = load_collections("embedded", held_out=held_out, paired=True, image_size=None, channels=1)
        np.testing.assert_array_equal(
            one.images, load_images("embedded", split=split, image_size=None, channels=1).images
        )
        np.testing.assert_array_equal(other.images, 255 - one.images)
