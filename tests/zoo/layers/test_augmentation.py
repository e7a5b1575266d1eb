"""Each change of images by hand, its gradient by differences, and how often a policy makes it."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from zoo.core.noise import Draws
from zoo.core.step import input_gradient
from zoo.layers import augmentation as augment

IMAGES = np.random.default_rng(0).uniform(-1.0, 1.0, (4, 8, 6, 3))
FACTORS = np.array([0.0, 0.5, 1.0, 1.9])
EVERYTHING = "color,translation,cutout"


def test_a_crop_begins_anywhere_that_leaves_it_inside():
    # 8 x 6, boxes of 6 x 6: the first line is floor(3 u), the first column 0.
    found = augment.crop(IMAGES, uniform([0.0, 0.0], [0.34, 0.9], [0.67, 0.5], [0.999, 0.1]), (6, 6))
    expected = [image[first : first + 6] for image, first in zip(IMAGES, (0, 1, 2, 2), strict=True)]
    np.testing.assert_array_equal(found, expected)
    found = augment.crop(IMAGES, uniform([0.0, 0.0], [0.0, 0.25], [0.0, 0.5], [0.0, 0.999]), (8, 3))
    expected = [image[:, first : first + 3] for image, first in zip(IMAGES, (0, 1, 2, 3), strict=True)]
    np.testing.assert_array_equal(found, expected)


def draws(count=4, start=0, step=0):
    return Draws(3, tf.constant(step, tf.int64), tf.range(start, start + count, dtype=tf.int64))


def uniform(*rows):
    return tf.constant(rows, tf.float32)


# Color


def test_brightness_shifts_every_value_and_clips_none():
    shift = np.array([-0.5, 0.0, 0.25, 0.5])
    found = augment.brightness(IMAGES, shift)
    np.testing.assert_allclose(found, IMAGES + shift[:, None, None, None], rtol=1e-12)
    assert found.numpy().max() > 1.0


def test_contrast_keeps_each_images_mean_and_scales_the_rest():
    found = augment.contrast(IMAGES, FACTORS).numpy()
    means = IMAGES.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found.mean(axis=(1, 2, 3)), means, atol=1e-14)
    np.testing.assert_allclose(found.std(axis=(1, 2, 3)), FACTORS * IMAGES.std(axis=(1, 2, 3)), atol=1e-14)
    np.testing.assert_allclose(found[0], np.full((8, 6, 3), means[0]))  # factor 0
    np.testing.assert_allclose(found[2], IMAGES[2], atol=1e-14)  # factor 1


def test_saturation_keeps_each_pixels_mean_over_its_channels():
    # A pixel (0, 0.3, 0.6) of mean 0.3; half of its distance: (0.15, 0.3, 0.45); twice: (-0.3, 0.3, 0.9).
    pixel = np.broadcast_to([0.0, 0.3, 0.6], (2, 1, 1, 3))
    found = augment.saturation(pixel, np.array([0.5, 2.0]))
    np.testing.assert_allclose(found[:, 0, 0], [[0.15, 0.3, 0.45], [-0.3, 0.3, 0.9]], atol=1e-15)
    found = augment.saturation(IMAGES, FACTORS).numpy()
    np.testing.assert_allclose(found.mean(axis=3), IMAGES.mean(axis=3), atol=1e-15)
    np.testing.assert_allclose(found.std(axis=3), FACTORS[:, None, None] * IMAGES.std(axis=3), atol=1e-15)


def test_gray_images_have_no_saturation_to_change():
    gray = IMAGES[..., :1]
    np.testing.assert_array_equal(augment.saturation(gray, FACTORS), gray)
    three = np.repeat(gray, 3, axis=3)
    np.testing.assert_allclose(augment.saturation(three, FACTORS), three, atol=1e-15)


# Places


@pytest.mark.parametrize(
    ("at", "rows", "columns"),
    [
        # 8 x 6 pixels: a box of 4 x 3. Even, the middle lies on one of 9 lines between pixels: 0 leaves half inside.
        # Odd, on one of 6 pixels.
        ((0.0, 0.0), slice(0, 2), slice(0, 2)),
        ((0.999, 0.999), slice(6, 8), slice(4, 6)),
        ((0.5, 0.5), slice(2, 6), slice(2, 5)),  # floor(4.5) = 4 -> 2 to 5; floor(3) = 3 -> 2 to 4
        ((0.25, 0.9), slice(0, 4), slice(4, 6)),  # floor(2.25) = 2 -> 0 to 3; floor(5.4) = 5 -> 4 to 6
    ],
)
def test_cutout_erases_the_box_and_nothing_else(at, rows, columns):
    expected = IMAGES[:1].copy()
    expected[0, rows, columns] = 0.0
    np.testing.assert_array_equal(augment.cutout(IMAGES[:1], uniform(at), 0.5), expected)


def test_cutout_puts_the_middle_everywhere_alike():
    # 4 pixels and a box of 2: 5 places a side, (0, 1), (0, 1, 2) ... each erasing the pixels that are inside.
    places = (np.stack(np.meshgrid(np.arange(5), np.arange(5)), axis=-1).reshape(-1, 2) + 0.5) / 5
    found = augment.cutout(np.ones((25, 4, 4, 1)), uniform(*places), 0.5).numpy()
    assert len(np.unique(found, axis=0)) == 25
    # A pixel is erased from 2 of 5 places a side.
    np.testing.assert_allclose(1 - found.mean(axis=0), np.full((4, 4, 1), 4 / 25))


def test_a_translation_moves_by_whole_pixels():
    # 8 rows: an eighth is 1 pixel, 3 places: up, stay, down. 6 columns: round(0.75) = 1.
    found = augment.translate(IMAGES[:3], uniform((0.0, 0.5), (0.5, 0.99), (0.5, 0.5)), 1 / 8, fill=0.0).numpy()
    np.testing.assert_array_equal(found[0, :-1], IMAGES[0, 1:])
    np.testing.assert_array_equal(found[0, -1], np.zeros((6, 3)))
    np.testing.assert_array_equal(found[1, :, 1:], IMAGES[1, :, :-1])
    np.testing.assert_array_equal(found[1, :, 0], np.zeros((8, 3)))
    np.testing.assert_array_equal(found[2], IMAGES[2])


# Policies


@pytest.mark.parametrize("probability", [None, 0.5])
@pytest.mark.parametrize("policy", [*augment.POLICIES, EVERYTHING])
def test_the_gradient_by_the_images_is_that_of_differences(policy, probability):
    def rows(images):
        return ops.sum(ops.sin(augment.differentiable_augment(images, draws(), policy, probability)), axis=(1, 2, 3))

    found = input_gradient(rows, tf.constant(IMAGES)).numpy()
    way = np.random.default_rng(1).normal(size=IMAGES.shape)
    low, high = (rows(tf.constant(IMAGES + sign * 1e-5 * way)).numpy() for sign in (-1, 1))
    np.testing.assert_allclose(np.sum(found * way, axis=(1, 2, 3)), (high - low) / 2e-5, rtol=1e-6)


def test_a_policy_is_its_changes_in_order_with_the_papers_ranges():
    images, numbers = tf.constant(IMAGES), draws()
    shift, saturation, contrast = (numbers.uniform().numpy() for _ in range(3))
    to, at = numbers.uniform(2), numbers.uniform(2)
    expected = augment.brightness(images, shift - 0.5)
    expected = augment.contrast(augment.saturation(expected, 2 * saturation), contrast + 0.5)
    expected = augment.cutout(augment.translate(expected, to, 1 / 8, fill=0.0), at, 1 / 2)
    found = augment.differentiable_augment(images, draws(), EVERYTHING)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    other_order = augment.differentiable_augment(images, draws(), "cutout,translation,color")
    assert np.abs(other_order - found).max() > 0.1


def test_all_of_a_range_is_used_and_nothing_beyond():
    images = np.zeros((2000, 2, 1, 1), np.float32)
    images[:, 0] = 1.0
    found = augment.differentiable_augment(tf.constant(images), draws(2000), "color").numpy()
    shift, factor = found.mean(axis=(1, 2, 3)) - 0.5, found[:, 0, 0, 0] - found[:, 1, 0, 0]
    for values, low, high in ((shift, -0.5, 0.5), (factor, 0.5, 1.5)):
        assert low - 1e-5 <= values.min() < low + 0.01
        assert high - 0.01 < values.max() <= high + 1e-5
    colors = np.tile([[[[-1.0, 1.0]]]], (2000, 1, 1, 1))
    (_, saturation, _) = augment.parse_policy("color")
    factor = saturation.apply(tf.constant(colors), saturation.draw(draws(2000)))[:, 0, 0, 1].numpy()
    assert 0.0 <= factor.min() < 0.02
    assert 1.98 < factor.max() < 2.0


def test_probability_0_is_the_identity_and_1_the_whole_policy_bit_for_bit():
    images = tf.constant(IMAGES, tf.float32)
    whole = augment.differentiable_augment(images, draws(), EVERYTHING)
    assert np.abs(whole - images).max() > 0.1
    never = augment.differentiable_augment(images, draws(), EVERYTHING, tf.constant(0.0))
    np.testing.assert_array_equal(never, images)
    np.testing.assert_array_equal(augment.differentiable_augment(images, draws(), EVERYTHING, tf.constant(1.0)), whole)


@pytest.mark.parametrize("probability", [0.2, 0.7])
def test_each_change_is_made_with_its_probability_and_independently(probability):
    # Brightness, then a box: an image of ones shows both, 4 pixels in the box or its part inside, the rest shifted.
    count = 4000
    images = tf.ones((count, 4, 4, 1))
    policy = "color,cutout"
    found = augment.differentiable_augment(images, draws(count), policy, probability).numpy()
    cut = (found == 0.0).any(axis=(1, 2, 3))
    shifted = np.abs(found.max(axis=(1, 2, 3)) - 1.0) > 1e-6  # flat images: saturation and contrast change nothing
    for made, share in ((cut, probability), (shifted, probability), (cut & shifted, probability**2)):
        assert abs(made.mean() - share) < 5 * np.sqrt(share * (1 - share) / count)


def test_changes_belong_to_the_global_rows_and_the_step():
    images = tf.constant(IMAGES, tf.float32)
    whole = augment.differentiable_augment(images, draws(), EVERYTHING, 0.6).numpy()
    parts = [
        augment.differentiable_augment(images[start:stop], draws(stop - start, start), EVERYTHING, 0.6)
        for start, stop in ((0, 3), (3, 4))
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-6, atol=1e-6)
    assert np.abs(augment.differentiable_augment(images, draws(step=1), EVERYTHING, 0.6) - whole).max() > 0.1


@pytest.mark.parametrize("policy", ["blur", "color,blur", "", "color, cutout"])
def test_an_unknown_policy_names_the_good_ones(policy):
    with pytest.raises(ValueError, match=r"policy='.*': choose from \['color', 'cutout', 'translation'\]"):
        augment.differentiable_augment(IMAGES, draws(), policy)


# What moves in time


@pytest.mark.parametrize(
    ("p", "sign_mean", "expected"),
    [
        (0.5, 0.61, 0.5 + 0.001),  # 500 images of 500,000
        (0.5, 0.59, 0.5 - 0.001),
        (0.5, 0.6, 0.5),
        (0.9995, 1.0, 1.0),
        (0.0005, -1.0, 0.0),
    ],
)
def test_the_next_probability_goes_one_step_towards_the_target(p, sign_mean, expected):
    found = augment.next_probability(tf.constant(p), tf.constant(sign_mean), images=500)
    assert float(found) == pytest.approx(expected, abs=1e-7)


def test_the_probability_needs_the_horizon_to_go_from_0_to_1():
    p = tf.constant(0.0)
    for steps in range(1, 11):
        p = augment.next_probability(p, tf.constant(0.3), target=0.2, images=100, horizon=1000)
        assert float(p) == pytest.approx(steps / 10, abs=1e-6)


def test_annealing_is_linear_and_ends_at_0():
    found = [float(augment.linear_decay(0.4, tf.constant(step, tf.int64), 100)) for step in (0, 25, 50, 99, 100, 1000)]
    np.testing.assert_allclose(found, [0.4, 0.3, 0.2, 0.004, 0.0, 0.0], rtol=1e-5)
    with pytest.raises(ValueError, match="steps=0: choose at least 1"):
        augment.linear_decay(0.4, tf.constant(0), 0)
