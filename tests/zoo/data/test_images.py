"""One image: decoding, orientation, transparency, and how it becomes square."""

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from zoo.data import images as module
from zoo.data.images import Policy
from zoo.data.load import load_images

RED, WHITE = (255, 0, 0), (255, 255, 255)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def test_exif_orientation_turns_the_image() -> None:
    image = Image.new("RGB", (32, 16), "white")
    image.paste(RED, (0, 0, 16, 16))  # the left half is red
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise: what was left is on top
    shown = Policy(None, 3).decode(encoded(image, "JPEG", quality=100, subsampling=0, exif=exif))
    assert shown.shape == (32, 16, 3)
    np.testing.assert_allclose(shown[2, 8], RED, atol=3)
    np.testing.assert_allclose(shown[-3, 8], WHITE, atol=3)


def test_alpha_is_composited_on_white() -> None:
    half = encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 128)), "PNG")
    # 255 * (1 - 128 / 255) = 127
    np.testing.assert_array_equal(Policy(None, 3).decode(half), np.full((2, 2, 3), 127))
    np.testing.assert_array_equal(Policy(None, 1).decode(half), np.full((2, 2, 1), 127))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
@pytest.mark.parametrize("strip", [1, 21, 100])
def test_alpha_is_composited_in_strips_as_at_once(mode: str, strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.Generator(np.random.Philox(0)).integers(0, 256, (11, 7, 4), np.uint8)
    image = Image.fromarray(values).convert(mode)
    whole = image.convert("RGBA")
    whole = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole)
    monkeypatch.setattr(module, "STRIP", strip)
    np.testing.assert_array_equal(Policy(None, 3).apply(image), np.asarray(whole)[..., :3])
    np.testing.assert_array_equal(Policy(None, 1).apply(image)[..., 0], np.asarray(whole.convert("L")))


def test_transparent_palette_entry_becomes_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    np.testing.assert_array_equal(Policy(None, 3).decode(encoded(image, "PNG", transparency=1)), [[RED, WHITE]])


def test_cmyk_jpeg_comes_out_in_rgb() -> None:
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    np.testing.assert_allclose(Policy(None, 3).decode(data)[8, 8], RED, atol=3)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.array([[0, 257 * 100, 65535, 128, 129]], np.uint16)  # v / 257, rounded
    data = encoded(Image.fromarray(values), "PNG")
    np.testing.assert_array_equal(Policy(None, 1).decode(data)[..., 0], [[0, 100, 255, 0, 1]])


@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_sixteen_bits_are_scaled_within_ten_bytes_a_pixel(mode: str) -> None:
    image = Image.new(mode, (1000, 1000))
    tracemalloc.start()
    try:
        Policy(None, 1).apply(image)
        assert tracemalloc.get_traced_memory()[1] < 10 * 1000 * 1000
    finally:
        tracemalloc.stop()


WEBP = {"VP8 ": ("RGB", {}), "VP8L": ("RGB", {"lossless": True}), "VP8X": ("RGBA", {})}


@pytest.mark.parametrize("chunk", WEBP)
def test_a_webp_of_too_many_pixels_is_refused_before_its_canvas_is_made(
    chunk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode, options = WEBP[chunk]
    data = encoded(Image.new(mode, (300, 20)), "WEBP", **options)
    assert data[12:16].decode() == chunk
    monkeypatch.setattr(module, "PIXEL_LIMIT", 2 * 300 * 20)
    assert Policy(None, 3).decode(data).shape == (20, 300, 3)
    monkeypatch.setattr(module, "PIXEL_LIMIT", 2 * 300 * 20 - 1)
    monkeypatch.delattr(Image, "open")
    with pytest.raises(ValueError, match=r"^300 x 20 pixels; the limit is 5,999 in WEBP$"):
        Policy(None, 3).decode(data)


def test_first_frame_of_a_gif() -> None:
    frames = [Image.new("RGB", (2, 2), color) for color in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(Policy(None, 3).decode(data)[0, 0], RED)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_formats_without_loss_come_back_exactly(format: str) -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    np.testing.assert_array_equal(
        Policy(None, 3).decode(encoded(Image.fromarray(image), format, **options)), image
    )  # 16 colors: GIF's palette holds them


def test_an_unlisted_decoder_never_runs() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n"
    with pytest.raises(OSError, match="cannot identify"):
        Policy(None, 3).decode(postscript)


def test_pad_centers_on_black_and_does_not_scale_up() -> None:
    image = Image.fromarray(np.arange(1, 785, dtype=np.uint16).astype(np.uint8).reshape(28, 28))
    padded = Policy(32, 1, "pad").apply(image)[..., 0]
    np.testing.assert_array_equal(padded[2:30, 2:30], np.asarray(image))
    np.testing.assert_array_equal(padded, np.pad(np.asarray(image), 2))


def test_pad_scales_a_larger_image_down_to_fit() -> None:
    padded = Policy(8, 1, "pad").apply(Image.new("L", (32, 16), 200))[..., 0]
    np.testing.assert_array_equal(padded[2:6], np.full((4, 8), 200))  # 32x16 -> 8x4, two black rows on each side
    assert padded[:2].max() == padded[6:].max() == 0


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 8), (8, 3), (12, 12)])
@pytest.mark.parametrize(("found", "channels"), [(1, 1), (3, 3), (1, 3), (3, 1)])
@pytest.mark.parametrize("size", [8, 9])
def test_all_images_at_once_come_out_as_one_by_one(
    fit: str, height: int, width: int, found: int, channels: int, size: int
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, height, width, found), np.uint8)
    policy = Policy(size, channels, fit)
    one_by_one = [policy.apply(Image.fromarray(image[..., 0] if found == 1 else image)) for image in images]
    np.testing.assert_array_equal(policy.apply_to_all(images), one_by_one)


def test_crop_keeps_the_center_and_squash_everything() -> None:
    image = Image.new("RGB", (30, 10), "white")
    image.paste(RED, (10, 0, 20, 10))  # the middle third
    cropped = Policy(10, 3, "crop").apply(image)
    np.testing.assert_array_equal(cropped, np.broadcast_to(np.array(RED, np.uint8), (10, 10, 3)))
    squashed = Policy(10, 3, "squash").apply(image)
    np.testing.assert_array_equal(squashed[5, 0], WHITE)
    np.testing.assert_array_equal(squashed[5, 5], RED)


def test_shrinking_averages_instead_of_picking() -> None:
    checkerboard = Image.fromarray(((np.indices((64, 64)).sum(0) % 2) * 255).astype(np.uint8))
    assert np.abs(Policy(8, 1).apply(checkerboard).astype(int) - 127.5).max() < 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fit": "stretch"}, r"fit='stretch': choose from \['crop', 'pad', 'squash'\]"),
        ({"channels": 2}, "channels=2: choose 1 .* or 3"),
        ({"image_size": 0}, "image_size=0"),
        ({"image_size": 100_000}, "image_size=100000: an image has at most 100,000,000 pixels"),
    ],
)
def test_bad_policy(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_images("embedded", **({"image_size": 32, "channels": 1} | arguments))  # type: ignore[arg-type]
