"""Path lengths in latents and in styles, against closed forms."""

import numpy as np
import pytest

from serving.card import Ability, Input, Output
from zoo.applications.generators import Generator
from zoo.applications.path_lengths import compare_path_lengths

RANDOM = np.random.default_rng(0)
MATRIX = RANDOM.standard_normal((4, 3)) / 30  # styles of 1 layer, 4 wide, from latents of 3
STRETCH = np.array([[1.0, 0.5, 0.25, 2.0]]) / 10


def linear_styles() -> Generator:
    """G(w) = STRETCH w, on w = cubes of MATRIX z: the paths are straight in w, and not in z."""
    latent = Input("latent", "float32", ("batch", 3), "normal")
    styles = Input("styles", "float32", ("batch", 1, 4), "style")
    image = Output("image", "float32", ("batch", 2, 2, 1), "image", (-1.0, 1.0), "NHWC")

    def run(name: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        mapped = (feeds["latent"].astype(np.float64) @ MATRIX.T * 10)[:, None] ** 3 if "latent" in feeds else 0.0
        if name == "map":
            return {"styles": mapped}
        made = feeds.get("styles", mapped)[:, 0] * STRETCH
        return {"image": made.reshape(-1, 2, 2, 1)}

    abilities = {
        "generate": Ability((latent,), (image,)),
        "map": Ability((latent,), (Output("styles", "float32", ("batch", 1, 4), "style"),)),
        "synthesize": Ability((styles,), (image,)),
    }
    return Generator("toy", abilities, run)


def flatten(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64)


@pytest.mark.parametrize("sampling", ["full", "end"])
def test_in_styles_a_linear_generator_has_the_distance_of_the_ends(sampling) -> None:
    generator = linear_styles()
    found = compare_path_lengths(generator, flatten, pairs=300, epsilon=1e-2, seed=2, sampling=sampling)
    ends = generator.draw(range(600), 2, "w") * STRETCH
    lengths = np.sort(np.square(ends[1::2] - ends[::2]).sum(axis=1))[2:-2]  # less 1 % at either end
    assert found["w"].mean == pytest.approx(lengths.mean(), rel=0.02)
    assert found["w"].error == pytest.approx(lengths.std(ddof=1) / found["w"].pairs ** 0.5, rel=0.02)
    assert set(found) == {"z", "w"}


def test_the_error_is_that_of_the_mean() -> None:
    """Means of 20 seeds scatter by the error that each of them reports."""
    found = [
        compare_path_lengths(linear_styles(), flatten, pairs=100, epsilon=1e-2, seed=seed)["w"] for seed in range(20)
    ]
    means, errors = [each.mean for each in found], [each.error for each in found]
    assert 0.6 < np.std(means, ddof=1) / np.mean(errors) < 1.6


def test_a_conditional_generator_needs_its_class() -> None:
    generator = Generator.open("cgan-fashion-mnist")
    with pytest.raises(ValueError, match="cgan-fashion-mnist is conditional: give the class of all images"):
        compare_path_lengths(generator, flatten, pairs=4)
    (found,) = compare_path_lengths(generator, flatten, pairs=4, labels="Bag").values()
    assert found.mean > 0.0
    assert found.pairs == 4
