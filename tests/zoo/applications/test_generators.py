"""One interface over latents and styles, on ONNX Runtime and in Keras."""

from pathlib import Path

import numpy as np
import pytest

from serving.card import Ability, Input, Output
from serving.images import to_uint8
from serving.pipeline import Pipeline
from zoo.applications.generators import NO_NOISE, Generator, Noise
from zoo.pretrained import find_directory

IMAGE = Output("image", "float32", ("batch", 1, 1, 1), "image", (0.0, 255.0), "NHWC")


@pytest.mark.parametrize("name", ["dcgan-fashion-mnist", "gan-mnist", "cgan-fashion-mnist", "vae-fashion-mnist"])
def test_images_are_those_that_are_sampled(name: str) -> None:
    generator = Generator.open(name)
    numbers = [3, 0, 70]
    images = generator.generate(generator.draw(numbers, 2), labels=generator.draw_labels(numbers, 2))
    pipeline = Pipeline.from_directory(find_directory(name))
    expected = np.concatenate([pipeline.sample(1, 2, start=number) for number in numbers])
    assert np.abs(to_uint8(images, (-1.0, 1.0)).astype(int) - expected).max() <= 1  # batches round differently


def test_styles_make_the_image_of_their_latent(styled: Generator) -> None:
    noise = Noise([4, 1], seed=5)
    direct = styled.generate(styled.draw([0, 1], 7), truncation=0.6, noise=noise)
    mapped = styled.generate(styled.draw([0, 1], 7, "w", truncation=0.6), "w", noise=noise)
    np.testing.assert_allclose(mapped, direct, atol=1e-5)
    assert np.abs(direct - styled.generate(styled.draw([0, 1], 7), noise=noise)).max() > 0.01
    assert (styled.dimension("z"), styled.dimension("w"), styled.styles_shape) == (6, 20, (4, 5))


def test_the_sampler_draws_the_same_noise(styled: Generator, style_directory: Path) -> None:
    expected = Pipeline.from_directory(style_directory).sample(70, 9, output_type="float32")
    found = styled.generate(styled.draw(range(70), 9), noise=Noise(range(70), seed=9))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_noise_that_is_off_is_zero(styled: Generator) -> None:
    feeds = styled.make_feeds("synthesize", {"style": np.zeros((2, 4, 5))}, range(2), Noise(0, inputs=("noise_4_1",)))
    assert {name: bool(value.any()) for name, value in feeds.items()} == {
        **dict.fromkeys(("styles", "noise_4_0", "noise_8_0", "noise_8_1"), False),
        "noise_4_1": True,
    }
    np.testing.assert_array_equal(*feeds["noise_4_1"])  # one draw for both images
    off = styled.make_feeds("synthesize", {"style": np.zeros((2, 4, 5))}, range(2), NO_NOISE)
    assert not any(value.any() for value in off.values())


def test_keras_and_onnx_agree(styled: Generator, style_model: object) -> None:
    codes = styled.draw(range(3))
    np.testing.assert_allclose(Generator.of(style_model).generate(codes), styled.generate(codes), atol=1e-5)


def test_images_come_in_one_range_and_a_factor_for_the_whole_batch_fits_its_shape() -> None:
    """The image is 51 times the factor, of 255 at most."""
    inputs = (Input("z", "float32", ("batch", 2), "normal"), Input("factor", "float32", (1,), "truncation"))

    def run(name: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert feeds["factor"].shape == (1,)
        return {"image": np.full((len(feeds["z"]), 1, 1, 1), 51 * feeds["factor"][0], np.float32)}

    generator = Generator("toy", {"generate": Ability(inputs, (IMAGE,))}, run)
    images = generator.generate(np.zeros((3, 2)), truncation=2.0)
    np.testing.assert_allclose(images.ravel(), [-0.2] * 3, rtol=1e-6)  # 102 / 255 * 2 - 1


def test_what_a_model_lacks_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"^cnn-mnist can't generate: it can classify\. Name a GAN or a VAE\.$"):
        Generator.open("cnn-mnist")
    generator = Generator.open("dcgan-fashion-mnist")
    needs = r"^dcgan-fashion-mnist has no map, synthesize: space w needs a style-based generator \(.*\)\.$"
    with pytest.raises(ValueError, match=needs):
        generator.draw([0], space="w")
    with pytest.raises(ValueError, match="takes none"):
        generator.draw_labels([0], labels=3)
    with pytest.raises(ValueError, match=r"takes \(count, 100\) in z"):
        generator.generate(np.zeros((2, 99)))
    with pytest.raises(ValueError, match="codes or truncation of dcgan-fashion-mnist hold NaN or infinity"):
        generator.generate(np.full((2, 100), np.nan))
    with pytest.raises(ValueError, match="is conditional: give labels"):
        Generator.open("cgan-fashion-mnist").generate(np.zeros((1, 100)))
    series = Ability((Input("noise", "float32", ("batch", 2, 2, 1), "normal"),), (IMAGE,))
    with pytest.raises(ValueError, match=r"need one latent vector \(batch, dimension\)"):
        Generator("series", {"generate": series}, lambda name, feeds: {})
