"""SRResNet: its loss by hand, a step by hand, what it is diagnosed and shown by."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from zoo.models.srresnet import SRResNet

ROWS, RATE = 3, 0.1
IMAGES = np.rint(127.5 * np.random.default_rng(0).uniform(0, 2, (ROWS, 16, 24, 3))).astype(np.float32) / 127.5 - 1


def build(**arguments):
    keras.utils.set_random_seed(1)
    return SRResNet(**{"image_shape": (16, 24, 3), "width": 4, "blocks": 1, **arguments})


def reduced_by_pillow(images, scale):
    levels = np.rint(127.5 * (images + 1)).astype(np.uint8)
    height, width = images.shape[1] // scale, images.shape[2] // scale
    small = [Image.fromarray(each).resize((width, height), Image.Resampling.BICUBIC) for each in levels]
    return (np.stack(small) / 127.5 - 1).astype(np.float32)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_loss_is_the_mean_squared_error_of_what_pillow_made_small(scale):
    model = build(scale=scale)
    small = reduced_by_pillow(IMAGES, scale)
    np.testing.assert_allclose(model.reduce(IMAGES), small, atol=1.01 / 127.5)
    upscaled = np.asarray(model.generator(model.reduce(IMAGES), training=True), np.float64)
    expected = ((IMAGES - upscaled) ** 2).reshape(ROWS, -1).mean(axis=1)
    np.testing.assert_allclose(model.pixel_loss(IMAGES), expected, rtol=1e-5)


def test_one_step_is_gradient_descent_on_the_mean_over_rows(fit, difference):
    model, other = build(), build()
    model.compile(seed=0, generator=keras.optimizers.SGD(RATE))
    small, variables = other.reduce(IMAGES), other.generator.trainable_variables
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((other.generator(small, training=True) - IMAGES) ** 2)
    for variable, gradient in zip(variables, tape.gradient(loss, [each.value for each in variables]), strict=True):
        variable.assign(variable - RATE * gradient)
    history = fit(model, IMAGES)
    assert history["loss"][0] == pytest.approx(float(loss), rel=1e-5)
    assert difference(model.get_weights(), other.get_weights()) < 1e-4


def test_training_lowers_the_loss(fit):
    model = build()
    model.compile(seed=0, generator=keras.optimizers.Adam(5e-3))
    first = fit(model, IMAGES)["loss"][0]
    fit(model, IMAGES, steps=15)
    assert fit(model, IMAGES)["loss"][0] < 0.8 * first


def test_it_is_diagnosed_by_its_psnr():
    model = build()
    found = model.diagnose({"image": IMAGES}, {"image": IMAGES[:1]})
    upscaled = model.run_ability("upscale", {"image": np.asarray(model.reduce(IMAGES))})["upscaled"]
    psnr = 10 * np.log10(4 / ((upscaled - IMAGES) ** 2).reshape(ROWS, -1).mean(axis=1))
    assert float(found["train_psnr"]) == pytest.approx(psnr.mean(), rel=1e-4)
    assert float(found["held_out_psnr"]) == pytest.approx(psnr[0], rel=1e-4)


def test_it_is_shown_beside_the_bicubic_filter_and_the_image():
    model = build()
    shown = model.preview({"image": IMAGES})
    assert shown.shape == (4 * ROWS, 16, 24, 3)
    assert shown.dtype == np.uint8
    levels = np.rint(127.5 * (IMAGES + 1)).astype(np.uint8)
    np.testing.assert_array_equal(shown[2::4], levels)
    small = np.rint(127.5 * (np.asarray(model.reduce(IMAGES)) + 1)).astype(np.uint8)
    enlarged = np.stack([Image.fromarray(each).resize((24, 16), Image.Resampling.BICUBIC) for each in small])
    assert np.abs(shown[0::4].astype(int) - enlarged).max() <= 1
    assert np.abs(np.abs(shown[1::4].astype(int) - levels) - shown[3::4]).max() <= 1


def test_upscaled_images_are_limited_to_their_range():
    model = build()
    model.generator.get_layer("pixels").bias.assign([9.0, -9.0, 0.0])
    upscaled = model.run_ability("upscale", {"image": IMAGES[:, :5, :7]})["upscaled"]
    assert upscaled.shape == (ROWS, 20, 28, 3)
    assert (upscaled[..., 0] == 1).all()
    assert (upscaled[..., 1] == -1).all()
    ability = model.abilities()["upscale"].card()
    assert ability.inputs[0].shape == ("batch", "height", "width", 3)
    assert ability.outputs[0].shape == ("batch", "4*height", "4*width", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 3}, "scale=3: choose from"),
        ({"image_shape": (18, 16, 3)}, "multiples of scale=4"),
        ({"blocks": 0}, "blocks=0"),
        ({"width": 0}, "width=0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)
