"""A small style-based generator with the abilities of the real ones, in Keras and exported."""

from collections.abc import Mapping
from pathlib import Path

import keras
import pytest
from keras import layers, ops

from serving.card import Card, Data, Feed, encode_card
from zoo.applications.generators import Generator
from zoo.core.ability import Ability
from zoo.core.inference import Inference
from zoo.export.export import describe_files
from zoo.export.onnx import write_onnx
from zoo.layers.equalized import EqualizedDense, PixelNorm
from zoo.networks.functional import named_network

LATENT, WIDTH, CHANNELS = 6, 5, 3
SIZES = (4, 8)  # two layers each
STYLES = 2 * len(SIZES)
NOISE_STRENGTH = 0.3


class StyleModel(Inference):
    """map: pixel norm, a dense layer, truncation. synthesize: each layer adds its style's affine map and its noise."""

    def __init__(self) -> None:
        keras.utils.set_random_seed(3)
        latent, truncation = keras.Input((LATENT,), name="latent"), keras.Input((), name="truncation")
        style = layers.Dense(WIDTH, "tanh", name="mapping")(PixelNorm()(latent))
        scaled = ops.reshape(truncation, (-1, 1)) * style  # its mean is 0
        self.mapping = keras.Model([latent, truncation], ops.tile(scaled[:, None], (1, STYLES, 1)))
        styles = keras.Input((STYLES, WIDTH), name="styles")
        names = [f"noise_{size}_{number}" for size in SIZES for number in (0, 1)]
        noise = [keras.Input((int(name.split("_")[1]),) * 2 + (1,), name=name) for name in names]
        maps = None
        for number, each in enumerate(noise):
            affine = EqualizedDense(4, gain=1.0, rate=0.5, name=f"affine_{number}")(styles[:, number])
            added = ops.reshape(affine, (-1, 1, 1, 4)) + NOISE_STRENGTH * each
            if maps is None:
                maps = ops.tile(added, (1, 1, 1, 1))
            else:
                maps = layers.UpSampling2D(2)(maps) if maps.shape[1] < each.shape[1] else maps
                maps = layers.Conv2D(4, 3, padding="same", name=f"conv_{number}")(maps) + added
            maps = ops.leaky_relu(maps, 0.2)
        image = layers.Conv2D(CHANNELS, 1, activation="tanh", name="to_rgb_8")(maps)
        self.synthesis = keras.Model([styles, *noise], image)

    def abilities(self) -> Mapping[str, Ability]:
        latent, truncation = keras.Input((LATENT,), name="latent"), keras.Input((), name="truncation")
        styles = keras.Input((STYLES, WIDTH), name="styles")
        noise = [keras.Input(each.shape[1:], name=each.name) for each in self.synthesis.inputs[1:]]
        mapped = self.mapping([latent, truncation])
        feeds: dict[str, Feed] = {"latent": "normal", "truncation": "truncation", "styles": "style"}
        feeds |= {each.name: "noise_map" for each in noise}
        ranges = {"image": (-1.0, 1.0)}
        return {
            "generate": Ability(
                named_network([latent, truncation, *noise], {"image": self.synthesis([mapped, *noise])}),
                feeds,
                {"image": "image"},
                ranges,
            ),
            "map": Ability(named_network([latent, truncation], {"styles": mapped}), feeds, {"styles": "style"}),
            "synthesize": Ability(
                named_network([styles, *noise], {"image": self.synthesis([styles, *noise])}),
                feeds,
                {"image": "image"},
                ranges,
            ),
        }


@pytest.fixture(scope="session")
def style_model() -> StyleModel:
    return StyleModel()


@pytest.fixture(scope="session")
def style_directory(style_model: StyleModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("styles")
    abilities = {}
    for name, ability in style_model.abilities().items():
        write_onnx(ability, directory / f"{name}.onnx", rounded=False)
        abilities[name] = ability.card(f"{name}.onnx")
    card = Card(
        *("styles", "none", "none", "Apache-2.0", "Random styles.", Data("none", "train", 1, "MIT", "none")),
        *({"class": "none", "arguments": {}}, {}, abilities, "generate", describe_files(directory)),
    )
    (directory / "card.json").write_bytes(encode_card(card))
    return directory


@pytest.fixture(scope="session")
def styled(style_directory: Path) -> Generator:
    """On ONNX Runtime."""
    return Generator.open(style_directory)
