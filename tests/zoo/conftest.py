"""What the tests of `zoo` share: strategies over logical CPUs, short runs, models for pencil and paper, styles, and
networks of free size."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, final

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from serving.card import Card, Data, Feed, encode_card
from zoo.applications.generators import Generator
from zoo.core import context
from zoo.core.ability import Ability
from zoo.core.batch import images_of
from zoo.core.inference import Inference
from zoo.core.model import GenerativeModel
from zoo.layers.convolution import Conv2DTranspose
from zoo.layers.equalized import EqualizedDense, PixelNorm
from zoo.networks.functional import named_network
from zoo.presets.preset import Preset
from zoo.presets.table import PRESETS
from zoo.training import precision

FIRST_OF_CLASS = {preset.model: preset.name for preset in reversed(PRESETS.values())}

# What a test costs for one more preset: the mean over presets, in seconds on an idle core, where it is above a half.
# Measured by `pytest --durations=0`; a module's fixture counts for the test that is the first to ask for it.
SECONDS = {
    "test_train_smoke": 5.0,
    "test_the_first_step_is_the_same_on_several_replicas": 3.5,
    "test_a_resumed_run_ends_bit_equal_to_one_that_was_never_stopped": 2.5,
    "test_onnx_agrees_with_keras": 1.4,
    "test_each_player_moves_all_of_its_own_variables_and_no_others": 1.2,
    "test_train_dry_run": 0.6,
}
LONGEST = 2.0  # seconds; what costs more runs for one preset a class in `make test`, and for all in `make test-all` ...
FOR_EVERY_PRESET = {  # ... but for these: what replicas, a checkpoint and an export give is shown of every preset
    "test_the_first_step_is_the_same_on_several_replicas",
    "test_a_resumed_run_ends_bit_equal_to_one_that_was_never_stopped",
    "test_onnx_agrees_with_keras",
}
FOR_FEW_PRESETS = {  # ... and for these, which cost a multiple: they run for the presets named
    # XLA compiles a step of one player, of two that alternate, and of one under a gradient penalty.
    "test_the_first_step_is_that_of_the_plain_form": {"dcgan-fashion-mnist", "vae-mnist", "wgan-gp-fashion-mnist"},
}


def is_left_to_test_all(test: str, preset: Preset) -> bool:
    """Whether this test, a function's name, is marked slow for a preset."""
    if test in FOR_FEW_PRESETS:
        return preset.name not in FOR_FEW_PRESETS[test]
    dear = SECONDS.get(test, 0.0) > LONGEST and test not in FOR_EVERY_PRESET
    return dear and FIRST_OF_CLASS[preset.model] != preset.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of what runs for every preset, `make test` leaves out what is dear."""
    for item in items:
        parameters = getattr(item, "callspec", None)
        for value in parameters.params.values() if parameters else ():
            preset = PRESETS.get(value) if isinstance(value, str) else value
            if isinstance(preset, Preset) and is_left_to_test_all(getattr(item, "originalname", ""), preset):
                item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def machine_without_bfloat16() -> Iterator[None]:
    """Recipes that leave their precision open train in float32 here, whatever processor the tests run on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "read_processor_flags", frozenset)
        yield


@cache
def strategy(replicas: int) -> tf.distribute.Strategy:
    """The default strategy for one replica, MirroredStrategy over logical CPUs for more.

    Collective operations are numbered from the same start in every strategy, and one process can't use a number twice
    (`Collective ops is aborted`). So they are left to test_replicas.py's process of its own.
    """
    if replicas == 1:
        return tf.distribute.get_strategy()
    devices = [f"CPU:{number}" for number in range(replicas)]
    return tf.distribute.MirroredStrategy(devices, tf.distribute.ReductionToOneDevice())


@pytest.fixture(scope="session")
def strategy_of() -> Callable[[int], tf.distribute.Strategy]:
    return strategy


def train(model: GenerativeModel, images: np.ndarray, steps: int = 1, **columns: np.ndarray) -> dict[str, list[float]]:
    """`fit` on the same global batch again and again; returns the history."""
    example = {"image": images, "row": np.arange(len(images)), **columns}
    data = tf.data.Dataset.from_tensors(example).repeat()
    return dict(model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0).history)


@pytest.fixture(scope="session")
def fit() -> Callable[..., dict[str, list[float]]]:
    return train


def worst_difference(actual: Sequence[Any], expected: Sequence[Any]) -> float:
    """The largest difference, as a share of the largest value of the tensor that it is in.

    Where that is below 1e-8 of the largest of all, as a gradient that is zero but for rounding: as a share of that.
    """
    pairs = [
        (np.asarray(one, np.float64), np.asarray(other, np.float64))
        for one, other in zip(actual, expected, strict=True)
    ]
    assert all(one.shape == other.shape for one, other in pairs)
    least = max(1e-8 * max(np.abs(other).max() for _, other in pairs), 1e-30)
    return max(np.abs(one - other).max() / max(np.abs(other).max(), least) for one, other in pairs)


@pytest.fixture(scope="session")
def difference() -> Callable[[Sequence[Any], Sequence[Any]], float]:
    return worst_difference


@final
class Probe(GenerativeModel):
    """y = w x and z = v y, with players `inner` (w) and `outer` (v); the algorithm is the test's.

    Args:
        algorithm: (model, x, targets) -> the rows to record as "loss".
        inner, outer: w and v at the start.
    """

    def __init__(
        self,
        algorithm: Callable[[Any, Any, Any], Any],
        inner: Sequence[Sequence[float]] = ((1.0,),),
        outer: Sequence[Sequence[float]] = ((1.0,),),
    ):
        super().__init__()
        self.algorithm = algorithm
        self.inner = linear("inner", np.array(inner, np.float32))
        self.outer = linear("outer", np.array(outer, np.float32))
        self.setup("loss")

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        return {"inner": (self.inner,), "outer": (self.outer,)}

    def abilities(self) -> Mapping[str, Ability]:
        return {"map": Ability(self.inner, {"x": "normal"}, {"inner_output": "code"})}

    def train_step(self, data: Any) -> dict[str, Any]:
        self.draws(data)
        return self.record(loss=self.algorithm(self, images_of(data), data["target"]))

    def diagnose(self, real: Any, held_out: Any) -> dict[str, Any]:
        return {}


def linear(name: str, kernel: np.ndarray) -> keras.Model:
    inputs = keras.Input((kernel.shape[0],), name="x")
    outputs = keras.layers.Dense(kernel.shape[1], use_bias=False, name=f"{name}_output")(inputs)
    network = keras.Model(inputs, outputs, name=name)
    network.set_weights([kernel])
    return network


@pytest.fixture(scope="session")
def probe() -> Callable[..., Probe]:
    """(algorithm, replicas=1, **optimizers) -> a compiled `Probe`; optimizers are built in the strategy's scope."""

    def build(
        algorithm: Callable[..., Any],
        replicas: int = 1,
        optimizer: Callable[[], keras.optimizers.Optimizer] = lambda: keras.optimizers.SGD(1.0),
        **arguments: Any,
    ) -> Probe:
        with strategy(replicas).scope():
            model = Probe(algorithm, **arguments)
            model.compile(inner=optimizer(), outer=optimizer())
        return model

    return build


@pytest.fixture(autouse=True)
def no_step_under_way() -> Any:
    """No test sees the noise of another one's train step."""
    context.deactivate()
    yield
    context.deactivate()


LATENT, WIDTH, CHANNELS = 6, 5, 3
SIZES = (4, 8)  # two layers each
STYLES = 2 * len(SIZES)
NOISE_STRENGTH = 0.3


class StyleModel(Inference):
    """A small style-based generator with the abilities of the real ones.

    map: pixel norm, a dense layer, truncation. synthesize: each layer adds its style's affine map and its noise.
    """

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


def write_model(name: str, model: Inference, directory: Path) -> Path:
    """ONNX graphs of all its abilities, and their card."""
    from zoo.export.export import describe_files
    from zoo.export.onnx import write_onnx

    abilities = {}
    for key, ability in model.abilities().items():
        write_onnx(ability, directory / f"{key}.onnx", rounded=False)
        abilities[key] = ability.card(f"{key}.onnx")
    card = Card(
        *(name, "none", "none", "Apache-2.0", f"Random {name}.", Data("none", "train", 1, "MIT", "none")),
        *({"class": "none", "arguments": {}}, {}, abilities, next(iter(abilities)), describe_files(directory)),
    )
    (directory / "card.json").write_bytes(encode_card(card))
    return directory


@pytest.fixture(scope="session")
def style_directory(style_model: StyleModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export."""
    return write_model("styles", style_model, tmp_path_factory.mktemp("styles"))


class Continued(layers.Layer):
    """Maps continued by their mirror image, below and to the right, until both sides are multiples of 4."""

    def call(self, maps: Any) -> Any:
        for axis in (1, 2):
            side = ops.shape(maps)[axis]
            period = ops.maximum(2 * (side - 1), 1)
            place = ops.arange(side + (-side) % 4) % period
            maps = ops.take(maps, ops.minimum(place, period - place), axis=axis)
        return maps

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (shape[0], None, None, shape[3])


class CutLike(layers.Layer):
    """The upper left of maps, as large as others are."""

    def call(self, both: tuple[Any, Any]) -> Any:
        maps, like = both
        return maps[:, : ops.shape(like)[1], : ops.shape(like)[2]]

    def compute_output_shape(self, shapes: tuple[tuple[int | None, ...], ...]) -> tuple[int | None, ...]:
        return (*shapes[1][:3], shapes[0][3])


class Normalized(layers.Layer):
    """Each channel of each row by its own mean and deviation."""

    def call(self, maps: Any) -> Any:
        centered = maps - ops.mean(maps, axis=(1, 2), keepdims=True)
        return centered * ops.rsqrt(ops.mean(ops.square(centered), axis=(1, 2), keepdims=True) + 1e-5)


class DepthToSpace(layers.Layer):
    """Channels become 2x2 pixels."""

    def call(self, maps: Any) -> Any:
        return tf.nn.depth_to_space(maps, 2)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (shape[0], None, None, shape[3] // 4)


class ImageModel(Inference):
    """Images in, images out, of any size: a translator each way, of which one normalizes, and an upscaler."""

    def __init__(self) -> None:
        keras.utils.set_random_seed(4)
        self.networks = {
            "translate_a_to_b": self.translator(normalized=False),
            "translate_b_to_a": self.translator(normalized=True),
            "upscale": self.upscaler(),
        }

    def translator(self, normalized: bool) -> keras.Model:
        image = keras.Input((None, None, CHANNELS), name="image")
        maps = layers.Conv2D(8, 3, 2, "same", activation="relu")(Continued()(image))
        maps = layers.Conv2D(16, 4, 2, "same")(maps)
        maps = layers.ReLU()(Normalized()(maps) if normalized else maps)
        for size in (3, 4):
            maps = layers.ReLU()(Conv2DTranspose(16, size, 2, "same")(maps))
        pixels = layers.Conv2D(CHANNELS, 3, padding="same")(CutLike()([maps, image]))
        return named_network([image], {"translation": layers.Activation("tanh")(pixels)})

    def upscaler(self) -> keras.Model:
        image = keras.Input((None, None, CHANNELS), name="image")
        maps = layers.Conv2D(64, 3, padding="same", activation="relu")(image)
        maps = layers.UpSampling2D(2)(DepthToSpace()(maps))
        return named_network([image], {"upscaled": layers.Conv2D(CHANNELS, 3, padding="same", activation="tanh")(maps)})

    def abilities(self) -> Mapping[str, Ability]:
        return {
            name: Ability(
                network,
                {"image": "image"},
                dict.fromkeys(network.output_names, "image"),
                dict.fromkeys(("image", *network.output_names), (-1.0, 1.0)),
                scale=4 if name == "upscale" else 1,
            )
            for name, network in self.networks.items()
        }


@pytest.fixture(scope="session")
def image_model() -> ImageModel:
    return ImageModel()


@pytest.fixture(scope="session")
def image_directory(image_model: ImageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export."""
    return write_model("images", image_model, tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def styled(style_directory: Path) -> Generator:
    """The same on ONNX Runtime."""
    return Generator.open(style_directory)


@pytest.fixture(scope="session")
def penalty_gradient() -> Callable[..., tuple[float, float]]:
    """The derivative of a gradient penalty along a random direction of variables: by tapes, by central differences."""

    def compute(score: Callable[[tf.Tensor], tf.Tensor], inputs: tf.Tensor, variables: Sequence[tf.Variable]) -> tuple:
        @tf.function
        def penalty() -> tf.Tensor:
            """Sum of squares of the gradient of the rows' scores by the inputs."""
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                total = tf.reduce_sum(score(inputs))
            return tf.reduce_sum(tf.square(tape.gradient(total, inputs)))

        with tf.GradientTape() as tape:
            value = penalty()
        gradients = tape.gradient(value, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        random = np.random.default_rng(0)
        directions = [random.normal(size=variable.shape) for variable in variables]
        found = sum(float(np.sum(g * d)) for g, d in zip(gradients, directions, strict=True))
        before, step = [variable.numpy() for variable in variables], 1e-6
        ends = []
        for sign in (1.0, -1.0):
            for variable, start, direction in zip(variables, before, directions, strict=True):
                variable.assign(start + sign * step * direction)
            ends.append(float(penalty()))
        for variable, start in zip(variables, before, strict=True):
            variable.assign(start)
        return found, (ends[0] - ends[1]) / (2 * step)

    return compute
