"""Images of any kind through networks of any size: given back as what they came as, whole or in tiles."""

import re

import numpy as np
import pytest
from PIL import Image

from serving.card import Ability, Input, Output
from serving.images import to_uint8
from serving.pipeline import Pipeline
from serving.session import InputError, ModelFileError
from serving.translation import transform

RANDOM = np.random.default_rng(0)


def pixels(*shape):
    return RANDOM.integers(0, 256, shape, np.uint8)


def ability(channels=3, scale=1, out=None):
    sides = ("height", "width") if scale == 1 else (f"{scale}*height", f"{scale}*width")
    image = Input("image", "float32", ("batch", "height", "width", channels), "image", (-1.0, 1.0))
    made = Output("made", "float32", ("batch", *sides, out or channels), "image", (-1.0, 1.0), "NHWC")
    return Ability((image,), (made,))


class Negative:
    """The image negated, each pixel repeated `scale` times; keeps the shapes of what it was run on."""

    def __init__(self, scale=1):
        self.scale, self.shapes = scale, []

    def __call__(self, feeds):
        self.shapes.append(feeds["image"].shape)
        return {"made": -feeds["image"].repeat(self.scale, axis=1).repeat(self.scale, axis=2)}


def translate(images, channels=3, **options):
    return transform("translate", ability(channels), Negative(), images, **options)


def upscale(images, channels=3, **options):
    return transform("upscale", ability(channels, 2), Negative(2), images, **options)


def doubled(array):
    return array.repeat(2, axis=0).repeat(2, axis=1)


def gray_of(color):
    return np.asarray(Image.fromarray(color).convert("L"))


def test_arrays_come_back_as_what_they_are():
    gray, color = pixels(5, 4), pixels(5, 4, 3)
    np.testing.assert_array_equal(translate(color), 255 - color)
    np.testing.assert_array_equal(translate(gray, channels=1), 255 - gray)
    np.testing.assert_array_equal(translate(gray[:, :, None], channels=1), 255 - gray[:, :, None])
    many = pixels(3, 5, 4, 3)
    np.testing.assert_array_equal(translate(many), 255 - many)
    found = translate([color, Image.fromarray(color), gray[:2]])
    assert [type(each) for each in found] == [np.ndarray, Image.Image, np.ndarray]
    assert [np.shape(each) for each in found] == [(5, 4, 3), (5, 4, 3), (2, 4, 3)]


def test_upscaling_keeps_gray_gray_and_color_color_whatever_the_network_takes():
    gray, color = pixels(5, 4), pixels(5, 4, 3)
    for channels in (1, 3):
        np.testing.assert_array_equal(upscale(gray, channels), 255 - doubled(gray))
        np.testing.assert_array_equal(upscale(gray[:, :, None], channels), 255 - doubled(gray)[:, :, None])
        np.testing.assert_array_equal(upscale(color, channels), 255 - doubled(color))
        assert upscale(Image.fromarray(gray), channels).mode == "L"
        assert upscale(Image.fromarray(color), channels).mode == "RGB"


def test_translation_gives_the_networks_channels():
    gray, color = pixels(5, 4), pixels(5, 4, 3)
    np.testing.assert_array_equal(translate(gray), 255 - np.repeat(gray[:, :, None], 3, 2))
    np.testing.assert_array_equal(translate(color, channels=1), 255 - gray_of(color)[:, :, None])
    assert translate(Image.fromarray(color), channels=1).mode == "L"


def test_alpha_is_kept_and_color_laid_on_the_background():
    color, alpha = pixels(6, 5, 3), pixels(6, 5)
    alpha[0], alpha[1] = 0, 255
    image = Image.fromarray(np.dstack([color, alpha]))
    ground = Image.new("RGBA", image.size, (10, 200, 30))
    laid = np.asarray(Image.alpha_composite(ground, image).convert("RGB")).astype(int)
    for found in (translate(image, background=(10, 200, 30)), translate(np.asarray(image), background=[10, 200, 30])):
        found = np.asarray(found)
        np.testing.assert_array_equal(found[:, :, 3], alpha)
        assert np.abs(255 - laid - found[:, :, :3]).max() <= 1
        np.testing.assert_array_equal(found[:2, :, :3], 255 - laid[:2])
    larger = upscale(image)
    np.testing.assert_array_equal(
        np.asarray(larger)[:, :, 3], Image.fromarray(alpha).resize((10, 12), Image.Resampling.LANCZOS)
    )
    assert np.asarray(translate(image))[0, :, :3].max() == 0  # white, negated
    assert upscale(np.dstack([gray_of(color), alpha])).shape == (12, 10, 2)
    assert translate(np.dstack([gray_of(color), alpha])).shape == (6, 5, 4)


@pytest.mark.parametrize(
    ("mode", "translated", "enlarged"),
    [
        *[(mode, "RGB", "L") for mode in ("1", "L", "I", "I;16", "I;16B")],
        ("LA", "RGBA", "LA"),
        *[(mode, "RGB", "RGB") for mode in ("RGB", "RGBX", "P", "CMYK", "YCbCr", "HSV")],
        *[(mode, "RGBA", "RGBA") for mode in ("RGBA", "RGBa", "PA")],
    ],
)
def test_every_mode_of_pillow_is_read(mode, translated, enlarged):
    image = Image.new(mode, (4, 3))
    found, larger = translate(image), upscale(image)
    assert (found.mode, found.size) == (translated, (4, 3))
    assert (larger.mode, larger.size) == (enlarged, (8, 6))


def test_what_pillow_images_mean_is_what_the_network_sees():
    """16 bits scaled, palettes looked up with their transparency, EXIF's orientation applied."""
    wide = np.array([[0, 257, 32896, 65535]], np.uint16)
    np.testing.assert_array_equal(np.asarray(upscale(Image.fromarray(wide)))[0, ::2], [255, 254, 127, 0])
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    np.testing.assert_array_equal(translate(palette), [[[0, 255, 255], [255, 255, 0]]])
    palette.info["transparency"] = 1
    np.testing.assert_array_equal(translate(palette), [[[0, 255, 255, 255], [0, 0, 0, 0]]])
    color = pixels(3, 5, 3)
    image = Image.fromarray(color)
    image.getexif()[0x0112] = 6
    np.testing.assert_array_equal(translate(image), 255 - np.rot90(color, -1))


def test_images_of_one_size_run_together_and_come_back_in_order():
    run, small, large = Negative(), pixels(7, 5, 4, 3), pixels(4, 6, 6, 3)
    order = [large[0], *small[:3], large[1], large[2], *small[3:], large[3]]
    found = transform("translate", ability(), run, order, tile=8, batch_size=3)
    for one, other in zip(found, order, strict=True):
        np.testing.assert_array_equal(one, 255 - other)
    # 8 x 8 pixels are 3 of the one size and 1 of the other
    assert run.shapes == [*[(1, 6, 6, 3)] * 4, (3, 5, 4, 3), (3, 5, 4, 3), (1, 5, 4, 3)]


@pytest.mark.parametrize("name", ["translate_a_to_b", "upscale"])
@pytest.mark.parametrize(
    ("size", "tile", "overlap"),
    [
        ((70, 41), 16, 8),
        ((70, 41), 32, None),
        ((33, 90), 24, 9),
        ((16, 300), 64, 32),
        ((17, 17), 16, 8),
        ((9, 50), 20, 6),
    ],
)
def test_tiles_of_a_local_network_are_the_whole_within_one_gray_level(image_model, name, size, tile, overlap):
    pipeline = Pipeline.from_directory(image_model, ability=name)
    act = pipeline.upscale if name == "upscale" else pipeline.translate
    image = pixels(*size, 3)
    whole = act(image, tile=None)
    expected = pipeline.run({"image": image[None].astype(np.float32) / np.float32(127.5) - 1})
    np.testing.assert_array_equal(whole, to_uint8(expected[pipeline.ability.outputs[0].name][0], (-1.0, 1.0)))
    seen = []
    found = act(image, tile=tile, overlap=overlap, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) > 1
    assert seen[-1][0] == seen[-1][1] > image[:, :, 0].size
    assert np.abs(found.astype(int) - whole).max() <= 1
    assert np.abs(found.astype(int) - whole).mean() < 0.01


def test_without_overlap_the_seams_of_a_local_network_show(image_model):
    """What the test above is worth: the margins that are thrown away are needed."""
    pipeline, image = Pipeline.from_directory(image_model), pixels(70, 41, 3)
    difference = np.abs(
        pipeline.translate(image, tile=16, overlap=0).astype(int) - pipeline.translate(image, tile=None)
    )
    assert difference.max() > 20


def test_a_normalizing_network_changes_slowly_from_tile_to_tile(image_model):
    """Other statistics make other colors than in the whole image, but no edges where tiles meet."""
    pipeline = Pipeline.from_directory(image_model, ability="translate_b_to_a")
    slope = np.linspace(40, 220, 256)
    image = np.broadcast_to(slope[None, :, None] + slope[:, None, None] / 8, (256, 256, 3)).astype(np.uint8)
    whole = pipeline.translate(image, tile=None).astype(int)
    found = pipeline.translate(image, tile=128, overlap=64).astype(int)
    assert np.abs(found - whole).max() > 1
    # From 0 to all of another tile over the quarter of the overlap: 16 pixels.
    steps = [np.abs(np.diff(each[4:-4, 4:-4], axis=1)).max() for each in (whole, found)]
    assert steps[1] <= steps[0] + np.abs(found - whole).max() * 2 / 16 + 1


def test_every_pixel_of_every_tile_counts_once():
    """The identity comes back for tiles of any size, whether or not they divide the image."""
    for side in (1, 2, 3, 5, 8, 13, 64, 100):
        for overlap in {0, 1, side // 4, side // 2} - ({1} if side < 2 else set()):
            image = pixels(37, 29, 1)
            np.testing.assert_array_equal(translate(image, 1, tile=side, overlap=overlap), 255 - image)
            np.testing.assert_array_equal(
                upscale(image[:, :, 0], 1, tile=side, overlap=overlap), 255 - doubled(image[:, :, 0])
            )


def test_tiles_begin_at_multiples_so_that_strides_fall_alike():
    run = Negative()
    transform("translate", ability(), run, pixels(1000, 600, 3))
    assert run.shapes == [(1, height, width, 3) for height in (512, 512, 232) for width in (512, 216)]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "the image is an array of float32: give uint8 of shape (height, width), "),
        (np.full((4, 4, 3), np.nan), "the image is an array of float64: give uint8"),
        (np.zeros((4, 4), bool), "the image is an array of bool"),
        (np.zeros((4, 4), object), "the image is an array of object"),
        (np.zeros((4, 4), np.int64), "the image is an array of int64"),
        (np.zeros((4, 4, 5), np.uint8), "the image is an array of shape (4, 4, 5)"),
        (np.zeros((4, 4, 0), np.uint8), "the image is an array of shape (4, 4, 0)"),
        (np.zeros(4, np.uint8), "the image is an array of shape (4,)"),
        (np.zeros((1, 1, 4, 4, 3), np.uint8), "the image is an array of shape (1, 1, 4, 4, 3)"),
        (np.zeros((0, 4, 3), np.uint8), "the image has no pixels: its shape is (0, 4, 3)"),
        (np.zeros((0, 4, 4, 3), np.uint8), "no images: give at least one"),
        (np.zeros((2, 4, 4, 7), np.uint8), "image 0 is an array of shape (4, 4, 7)"),
        (Image.new("RGB", (0, 4)), "the image has no pixels: its size is (0, 4)"),
        (Image.new("F", (4, 4)), "the image, of Pillow's mode F, can't be read: an image of floating-point numbers"),
        ([], "no images"),
        ("a.png", "the image is a str: give uint8"),
        (None, "the image is a NoneType"),
        ([np.zeros((4, 4), np.uint8), "a.png"], "image 1 is a str"),
        ([[np.zeros((4, 4), np.uint8)]], "image 0 is a list"),
        ([np.zeros((2, 4, 4, 3), np.uint8)], "image 0 is an array of shape (2, 4, 4, 3)"),
    ],
)
def test_what_is_no_image_is_refused_before_anything_runs(images, message):
    run = Negative()
    with pytest.raises(InputError, match=re.escape(message)):
        transform("translate", ability(), run, images)
    assert not run.shapes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 0}, "tile=0: give the side of a tile in pixels, from 1, or None"),
        ({"tile": -8}, "tile=-8"),
        ({"tile": 8.0}, "tile=8.0"),
        ({"tile": True}, "tile=True"),
        ({"tile": 8, "overlap": 8}, "overlap=8: give the pixels that tiles share, from 0 to 4, half of tile=8"),
        ({"overlap": -1}, "overlap=-1: give the pixels that tiles share, from 0 to 256"),
        ({"tile": None, "overlap": "2"}, "overlap='2': give the pixels that tiles share, from 0"),
        ({"batch_size": 0}, "batch_size=0: give 1 or more"),
        ({"background": (1, 2)}, "background=(1, 2): give red, green and blue, 0 to 255"),
        ({"background": (0, 0, 256)}, "background=(0, 0, 256)"),
        ({"background": (0, 0, 0.5)}, "background=(0, 0, 0.5)"),
        ({"background": "white"}, "background='white'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        translate(pixels(4, 4, 3), **options)


def test_an_image_that_is_cut_off_is_refused(tmp_path):
    Image.fromarray(pixels(64, 64, 3)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:4000])
    with pytest.raises(InputError, match="image 1, of Pillow's mode RGB, can't be read: "):
        translate([Image.open(tmp_path / "whole.png"), Image.open(tmp_path / "cut.png")])


def test_a_network_that_breaks_its_card_is_told():
    with pytest.raises(ModelFileError, match=r"'made' is \(1, 8, 8, 3\) on the card, and \(1, 4, 4, 3\) in a run"):
        transform("upscale", ability(scale=2), Negative(1), pixels(4, 4, 3))
    with pytest.raises(ValueError, match="NaN"):
        transform("translate", ability(), lambda feeds: {"made": feeds["image"] * np.nan}, pixels(4, 4, 3))


def test_a_network_between_gray_and_color():
    gray = pixels(4, 4)
    colored = transform("translate", ability(1, out=3), lambda feeds: {"made": feeds["image"].repeat(3, axis=3)}, gray)
    np.testing.assert_array_equal(colored, np.dstack([gray] * 3))


def test_a_pipeline_says_which_ability_to_open(image_model, tanh_model):
    image = pixels(8, 6, 3)
    for direction in ("a_to_b", "b_to_a"):
        pipeline = Pipeline.from_directory(image_model, ability=f"translate_{direction}")
        assert pipeline.translate(image).shape == (8, 6, 3)
        with pytest.raises(InputError, match=r"'image-model' can't upscale .* open one of \['upscale'\]"):
            pipeline.upscale(image)
    pipeline = Pipeline.from_directory(image_model, ability="upscale")
    assert pipeline.upscale(image).shape == (32, 24, 3)
    with pytest.raises(InputError, match=r"can't translate .* open one of \['translate_a_to_b', 'translate_b_to_a'\]"):
        pipeline.translate(image)
    with pytest.raises(InputError, match=r"can't translate .*: it has only \['encode', 'generate', 'reconstruct'\]"):
        Pipeline.from_directory(tanh_model).translate(image)


def test_a_gray_pipeline_enlarges_colors_one_by_one(gray_model):
    pipeline, color = Pipeline.from_directory(gray_model, ability="upscale"), pixels(8, 6, 3)
    expected = np.dstack([pipeline.upscale(color[:, :, index]) for index in range(3)])
    np.testing.assert_array_equal(pipeline.upscale(color), expected)


def test_an_ability_of_fixed_size_or_another_kind_is_refused():
    fixed = Input("image", "float32", ("batch", 8, 8, 3), "image", (-1.0, 1.0))
    for inputs, outputs in (((fixed,), ability().outputs), ((), ability().outputs), (ability().inputs, (CODE,))):
        with pytest.raises(InputError, match="images are translated and enlarged by one that takes one image of free"):
            transform("translate", Ability(inputs, outputs), Negative(), pixels(8, 8, 3))


CODE = Output("code", "float32", ("batch", 4), "code")
