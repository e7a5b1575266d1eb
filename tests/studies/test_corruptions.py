"""Corrupted samples hold what their name and severity say, and stay images."""

import numpy as np
import pytest

from studies.corruptions import (
    OF_IMAGES,
    SEVERITIES,
    UNMODIFIED,
    ImagePool,
    Sample,
    add_checkerboard,
    add_noise,
    blur,
    brighten,
)


def make_pool(count: int, classes: int = 10) -> ImagePool:
    """Images that say which they are: training ones odd, the others even."""

    def number_images(numbers: np.ndarray) -> Sample:
        images = numbers.astype(np.uint8).reshape(-1, 1, 1, 1)
        return Sample(images, numbers // 2 % classes, numbers[:, None] * 1.0, np.eye(classes)[numbers // 2 % classes])

    train, others = number_images(np.arange(1, 200, 2)), number_images(np.arange(0, 200, 2))
    return ImagePool(train, others, count, extractor=None, seed=0)


def numbers(sample: Sample) -> list[int]:
    assert (sample.images.ravel() == sample.features.ravel()).all()
    assert (sample.probabilities.argmax(axis=1) == sample.labels).all()
    return sample.images.ravel().tolist()


# Failure modes of images


def gray(value: int) -> np.ndarray:
    return np.full((3, 28, 28, 1), value, np.uint8)


@pytest.mark.parametrize("failure_mode", OF_IMAGES)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_stay_images(failure_mode: str, channels: int) -> None:
    generator = np.random.Generator(np.random.Philox(0))
    images = generator.integers(0, 256, (3, 28, 28, channels), np.uint8)
    found = OF_IMAGES[failure_mode](images, SEVERITIES[failure_mode][-1], generator)
    assert found.shape == images.shape
    assert found.dtype == np.uint8
    assert (found != images).mean() > 0.5


def test_brightness_is_clipped_and_does_not_wrap() -> None:
    generator = np.random.Generator(np.random.Philox(0))
    assert (brighten(gray(10), 24, generator) == 34).all()
    assert (brighten(gray(250), 24, generator) == 255).all()


def test_noise_has_its_sigma() -> None:
    found = add_noise(np.full((100, 28, 28, 1), 128, np.uint8), 16, np.random.Generator(np.random.Philox(0)))
    assert found.mean() == pytest.approx(128, abs=0.2)  # 78,400 pixels: a standard error of 0.06
    assert found.std() == pytest.approx(16, abs=0.2)


def test_checkerboard_alternates() -> None:
    found = add_checkerboard(gray(100), 8, np.random.Generator(np.random.Philox(0)))
    assert found[0, :2, :3, 0].tolist() == [[108, 92, 108], [92, 108, 92]]


def test_blur_keeps_the_middle_of_an_edge() -> None:
    edge = gray(0)
    edge[:, :, 14:] = 200
    found = blur(edge, 2, np.random.Generator(np.random.Philox(0)))[0, 14, :, 0].astype(int)
    assert (np.diff(found) >= 0).all()
    assert found[13] + found[14] == pytest.approx(200, abs=4)
    assert 0 < found[12] < found[13] < 100
    assert found[[0, 27]].tolist() == [0, 200]


# Failure modes of the set


def test_dropped_classes_are_missing_and_nothing_is_repeated() -> None:
    sample = make_pool(30).make_sample("dropped_classes", 3)
    assert sorted(set(sample.labels.tolist())) == [3, 4, 5, 6, 7, 8, 9]
    assert len(set(numbers(sample))) == 30


def test_duplicates_are_as_many_as_said() -> None:
    sample = make_pool(30).make_sample("duplicates", 10)
    assert sorted(numbers(sample)) == [0] * 10 + [2] * 10 + [4] * 10
    assert numbers(sample) != sorted(numbers(sample))


@pytest.mark.parametrize(("percent", "copied"), [(10, 3), (50, 15), (100, 30)])
def test_so_many_are_training_images(percent: float, copied: int) -> None:
    found = numbers(make_pool(30).make_sample("training_images", percent))
    assert len(set(found)) == 30
    assert sum(number % 2 for number in found) == copied


def test_unmodified_sample_is_as_it_is() -> None:
    assert numbers(make_pool(30).make_sample(UNMODIFIED, 0)) == list(range(0, 60, 2))


def test_too_many_dropped_classes() -> None:
    with pytest.raises(ValueError, match="10 images without 9 classes: a sample has 30"):
        make_pool(30).make_sample("dropped_classes", 9)
