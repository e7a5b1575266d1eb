"""Mixing takes the chosen layers and no others; variances of noise and latents in closed form."""

import numpy as np
import pytest

from serving.card import Ability, Input, Output
from zoo.applications.generators import Generator
from zoo.applications.styles import (
    find_layers,
    generate_mixed,
    generate_under_noise,
    generate_without_noise,
    measure_noise,
    mix_styles,
    split_variance,
)

STYLES = np.arange(2 * 12.0).reshape(2, 12)  # two rows of 4 layers, 3 wide


@pytest.mark.parametrize("layers", [range(1, 3), [0], [3, 0], range(4)])
def test_mixing_takes_exactly_the_chosen_layers(layers: range | list[int]) -> None:
    mixed = mix_styles(STYLES, 100 + STYLES[::-1], layers, 4).reshape(2, 2, 4, 3)
    for row in range(2):
        for column in range(2):
            for layer in range(4):
                source = (100 + STYLES[::-1])[column] if layer in layers else STYLES[row]
                np.testing.assert_array_equal(mixed[row, column, layer], source.reshape(4, 3)[layer])


def test_images_of_mixed_styles(styled: Generator) -> None:
    first, second = styled.draw([0, 1], space="w"), styled.draw([2, 3, 4], space="w")
    images = generate_mixed(styled, first, second, range(2))
    assert images.shape == (2, 3, 8, 8, 3)
    by_hand = np.concatenate([second[2, :10], first[1, 10:]])
    np.testing.assert_allclose(images[1, 2], styled.generate(by_hand[None], "w")[0], atol=1e-6)
    whole = generate_mixed(styled, first, second, range(4))
    np.testing.assert_allclose(whole[0], styled.generate(second, "w"), atol=1e-6)


@pytest.mark.parametrize(
    ("count", "bands"),
    [(18, [(0, 4), (4, 8), (8, 18)]), (10, [(0, 4), (4, 8), (8, 10)]), (8, [(0, 2), (2, 6), (6, 8)])],
)
def test_bands(count: int, bands: list[tuple[int, int]]) -> None:
    assert [find_layers(count, band) for band in ("coarse", "middle", "fine")] == [range(*each) for each in bands]


def test_bands_that_there_are_not() -> None:
    with pytest.raises(ValueError, match=r"^2 layers have no coarse ones: name them, FIRST-LAST, 0 to 1\.$"):
        find_layers(2, "coarse")
    with pytest.raises(ValueError, match="choose from coarse, middle, fine"):
        find_layers(8, "finest")
    with pytest.raises(ValueError, match=r"layers \[4\]: give at least one of 0 to 3"):
        mix_styles(STYLES, STYLES, [4, 1], 4)


def test_variances_by_hand() -> None:
    """Two latents at brightness 0.25 and 0.75, noise of -0.1 and 0.1: within, 0.02; means apart, 0.125 - 0.02 / 2."""
    values = np.array([[0.15, 0.35], [0.65, 0.85]])
    effect = split_variance(np.tile(values[:, :, None, None, None], (1, 1, 2, 3, 1)))
    assert effect.noise_variance == pytest.approx(0.02)
    assert effect.latent_variance == pytest.approx(0.115)
    assert effect.share == pytest.approx(0.02 / 0.135)
    np.testing.assert_allclose(effect.deviation, np.full((2, 3), 0.02**0.5))


def test_variances_are_those_of_their_sources() -> None:
    """Latents of variance 0.04, noise of 0.01: the share is a fifth, with no bias from so few draws."""
    random = np.random.default_rng(0)
    images = 0.2 * random.standard_normal((4_000, 1, 1, 1, 1)) + 0.1 * random.standard_normal((4_000, 2, 1, 1, 1))
    assert split_variance(images).share == pytest.approx(0.2, abs=0.01)


def test_draws_of_one_latent_are_not_those_of_another() -> None:
    """Image = 0.4 latent + 0.2 noise, with so few draws that what they have in common would count as the latents'."""
    inputs = (
        Input("latent", "float32", ("batch", 1), "normal"),
        Input("noise_1_0", "float32", ("batch", 1, 1, 1), "noise_map"),
    )
    image = Output("image", "float32", ("batch", 1, 1, 1), "image", (-10.0, 10.0), "NHWC")

    def run(name: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"image": 4 * feeds["latent"][:, :, None, None] + 2 * feeds["noise_1_0"]}

    effect = measure_noise(Generator("toy", {"generate": Ability(inputs, (image,))}, run), range(3_000), 2)
    assert effect.noise_variance == pytest.approx(0.1**2, rel=0.1)
    assert effect.latent_variance == pytest.approx(0.2**2, rel=0.1)


def test_noise_of_one_layer(styled: Generator) -> None:
    images = generate_under_noise(styled, [0, 1, 2], 2, [], seed=4)
    np.testing.assert_allclose(images[:, 0], images[:, 1], atol=1e-6)  # all off
    np.testing.assert_allclose(images[:, 0], generate_without_noise(styled, [0, 1, 2], seed=4), atol=1e-6)
    off = measure_noise(styled, range(4), 3, [])
    assert max(off.noise_variance, off.share) < 1e-10  # rounding depends on a row's place in the batch
    whole, last = measure_noise(styled, range(4), 6), measure_noise(styled, range(4), 6, ["noise_8_1"])
    assert whole.inputs == ("noise_4_0", "noise_4_1", "noise_8_0", "noise_8_1")
    assert 0.0 < last.noise_variance < whole.noise_variance
    assert 0.0 < last.share < whole.share < 1.0


def test_noise_that_there_is_not(styled: Generator) -> None:
    with pytest.raises(ValueError, match=r"inputs \['noise_16_0'\], draws=2: choose of \['noise_4_0'"):
        measure_noise(styled, range(2), 2, ["noise_16_0"])
    with pytest.raises(ValueError, match=r"^gan-mnist takes no noise maps: noise needs a style-based generator"):
        measure_noise(Generator.open("gan-mnist"), range(2), 2)
    with pytest.raises(ValueError, match="1 latents, 2 draws: variances need at least 2 of each"):
        measure_noise(styled, range(1), 2)
