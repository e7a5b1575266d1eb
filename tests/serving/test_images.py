"""Images as 8-bit values, as Pillow images and as a grid."""

import numpy as np
import pytest

from serving.images import interleave, make_grid, to_pil, to_uint8


def test_columns_are_interleaved():
    black, white = np.full((3, 2, 2, 1), -1.0), np.full((3, 2, 2, 1), 1.0)
    found = interleave([black, white, black], (-1.0, 1.0))
    assert found.shape == (9, 2, 2, 1)
    assert found[:, 0, 0, 0].tolist() == [0, 255, 0] * 3


def test_gray_levels():
    # [-1, 1]: (x + 1) * 127.5; 0 -> 127.5 -> 128 (half to even); 2 and -3 are clipped.
    levels = to_uint8(np.array([-1, 0, 1, 2, -3, 1 / 255, -np.inf], np.float32), (-1, 1))
    assert levels.tolist() == [0, 128, 255, 255, 0, 128, 0]
    # [0, 1]: x * 255; 0.1 -> 25.5 -> 26 (0.1 rounds up in float32)
    assert to_uint8(np.array([0, 0.1, 0.5, 1], np.float32), (0, 1)).tolist() == [0, 26, 128, 255]
    assert to_uint8(np.arange(256, dtype=np.uint8), (0, 255)).tolist() == list(range(256))
    with pytest.raises(ValueError, match="the images hold NaN"):
        to_uint8(np.array([np.nan]), (0, 1))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_far_outside_are_clipped_and_overflow_nothing(dtype):
    far = np.finfo(dtype).max
    with np.errstate(all="raise"):
        assert to_uint8(np.array([far, -far, 0.5], dtype), (0, 1)).tolist() == [255, 0, 128]


def test_every_gray_level_survives_the_way_there_and_back():
    levels = np.arange(256, dtype=np.uint8)
    for low, high in [(-1.0, 1.0), (0.0, 1.0), (-2.5, 7.0)]:
        values = (levels / 255 * (high - low) + low).astype(np.float32)
        np.testing.assert_array_equal(to_uint8(values, (low, high)), levels)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_channels_become_modes(channels, mode):
    array = np.arange(2 * 5 * channels, dtype=np.uint8).reshape(1, 2, 5, channels)
    (image,) = to_pil(array)
    assert (image.mode, image.size) == (mode, (5, 2))
    np.testing.assert_array_equal(np.asarray(image).reshape(array[0].shape), array[0])


@pytest.mark.parametrize(
    "array", [np.zeros((1, 2, 2, 2), np.uint8), np.zeros((2, 2, 1), np.uint8), np.zeros((1, 2, 2, 1))]
)
def test_what_is_no_image_is_refused(array):
    with pytest.raises(ValueError, match=r"expected uint8 \(batch, height, width, 1, 3 or 4\)"):
        to_pil(array)


def test_a_grid_lays_images_row_by_row():
    images = np.array([1, 2, 3], np.uint8).reshape(3, 1, 1, 1)
    expected = [[0, 0, 0, 0, 0], [0, 1, 0, 2, 0], [0, 0, 0, 0, 0], [0, 3, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert make_grid(images, padding=1)[:, :, 0].tolist() == expected
    assert make_grid(images, columns=3, padding=0)[:, :, 0].tolist() == [[1, 2, 3]]
    assert make_grid(np.zeros((5, 8, 6, 3), np.uint8)).shape == (2 * 10 + 2, 3 * 8 + 2, 3)


@pytest.mark.parametrize(("columns", "padding", "count"), [(0, 2, 1), (1, -1, 1), (1, 1, 0)])
def test_a_grid_that_cannot_be_is_refused(columns, padding, count):
    with pytest.raises(ValueError, match=r"expected uint8|give columns from 1"):
        make_grid(np.zeros((count, 2, 2, 1), np.uint8), columns, padding)
