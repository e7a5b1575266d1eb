"""An export is one set of float16 weights in three formats that agree, or nothing at all."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import tensorflow as tf
from keras import ops
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16
from PIL import Image

import zoo.export.export
from serving.card import (
    DRAWN_FEEDS,
    Card,
    CardError,
    Data,
    Iteration,
    find_sampling,
    hash_checked,
    read_card,
    verify_files,
)
from serving.pipeline import Pipeline
from serving.sampling.noise import draw
from serving.session import Session
from zoo.core.ability import Ability
from zoo.core.inference import Inference
from zoo.core.model import GenerativeModel
from zoo.core.weights import WeightsError
from zoo.export.agreement import ExportError, check_agreement, list_sizes, make_example
from zoo.export.export import export
from zoo.export.onnx import write_onnx
from zoo.export.saved_model import write_saved_model
from zoo.networks.functional import named_network
from zoo.presets.preset import Preset
from zoo.presets.table import PRESETS
from zoo.pretrained import load_pretrained
from zoo.training.run import build_model

DATA = Data("Fashion-MNIST", "train", 9000, "MIT", "embedded")
RECIPE = {"name": "none", "steps": 0, "seed": 0}
BATCHES = (1, 3)
TOLERANCE = 1e-4  # of the output's range: the promise of an export
ANOTHER_SEED = 1
# Expected statistics become probabilities, precisions and their factors, which tf2onnx folds to constants.
COMPUTED_BEFORE_EXPORT = {
    "zoo.models.bernoulli_mixture.BernoulliMixture",
    "zoo.models.gaussian_mixture.GaussianMixture",
    "zoo.models.hidden_markov.HiddenMarkov",
    "zoo.models.naive_bayes.NaiveBayes",
}


@dataclass(frozen=True)
class Exported:
    """A tiny twin, untrained but with averages and statistics that are not their start, and its export."""

    preset: Preset
    model: GenerativeModel
    directory: Path
    card: Card
    weights_before: list[np.ndarray]


def shaken(preset: Preset, seed: int = 0) -> GenerativeModel:
    """The preset's tiny twin, every weight moved away from its start; statistics stay positive."""
    keras.utils.set_random_seed(seed)
    model, random = build_model(preset.twin()), np.random.default_rng(seed)
    for weight in model.weights:
        if weight.dtype == "float32":
            low = 0.01 if "variance" in weight.path else -0.1  # sums of nothing but positive numbers would saturate
            weight.assign(weight.value * 2.0 + random.uniform(low, 0.2, weight.shape))
    return model


def export_of(model: GenerativeModel, preset: Preset, directory: Path, **options: Any) -> Card:
    return export(model, directory, preset=preset.twin(), data=DATA, recipe=RECIPE, **options)


@pytest.fixture(scope="module", params=PRESETS.values(), ids=list(PRESETS))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    directory = tmp_path_factory.mktemp("exported") / request.param.name
    model = shaken(request.param)
    before = model.get_weights()
    return Exported(request.param, model, directory, export_of(model, request.param, directory), before)


def draws_images(exported: Exported) -> None:
    """Skip what is said of images for a model that draws none."""
    if not find_sampling(exported.card.abilities):
        pytest.skip(f"{exported.preset.family} draws no images")


def feeds_of(card: Card, ability: str, batch: int) -> dict[str, np.ndarray]:
    """Other inputs than those that `export` itself compares on, where a seed gives them."""
    inputs = card.abilities[ability].inputs
    return {s.name: draw(s, range(batch), seed=7) if s.feed in DRAWN_FEEDS else make_example(s, batch) for s in inputs}


def assert_agree(card: Card, ability: str, found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert set(found) == set(expected) == {spec.name for spec in card.abilities[ability].outputs}
    for spec in card.abilities[ability].outputs:
        values = expected[spec.name]
        low, high = spec.range or (values.min(), values.max())
        if values.ndim == 1:  # one number a row: a single row has no spread
            low, high = min(low, 0.0), max(high, 0.0)
            assert len(set(values.flat)) == values.size
        else:
            assert values.std() > 1e-3 * (high - low)  # a constant would prove nothing
        np.testing.assert_allclose(found[spec.name], values, rtol=0, atol=TOLERANCE * (high - low))


def expected_and_feeds(exported: Exported) -> Iterator[tuple[str, dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """(ability, feeds, what Keras makes of them) from weights read anew, at every batch."""
    model = load_pretrained(str(exported.directory), format="keras")
    assert model.abilities().keys() == exported.card.abilities.keys() != set()
    for name, ability in model.abilities().items():
        for batch in BATCHES:
            feeds = feeds_of(exported.card, name, batch)
            yield name, feeds, {key: value.numpy() for key, value in ability(feeds).items()}


# The formats agree


def test_onnx_agrees_with_keras(exported: Exported) -> None:
    for name, feeds, expected in expected_and_feeds(exported):
        session = onnxruntime.InferenceSession(exported.directory / f"{name}.onnx", providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        assert_agree(exported.card, name, dict(zip(names, session.run(names, feeds), strict=True)), expected)


def test_saved_model_agrees_with_keras(exported: Exported) -> None:
    loaded = tf.saved_model.load(str(exported.directory / "saved_model" / "1"))
    assert set(loaded.signatures) == {"serving_default", *exported.card.abilities}
    for name, feeds, expected in expected_and_feeds(exported):
        signatures = {name} | ({"serving_default"} if name == exported.card.default_ability else set())
        for signature in signatures:
            outputs = loaded.signatures[signature](**{key: tf.constant(value) for key, value in feeds.items()})
            assert_agree(exported.card, name, {key: value.numpy() for key, value in outputs.items()}, expected)


def test_every_format_shows_the_same_images(exported: Exported) -> None:
    draws_images(exported)
    shown = {
        format: load_pretrained(str(exported.directory), format=format) for format in ("keras", "onnx", "saved_model")
    }
    expected = shown["keras"].sample(7, seed=5).astype(int)
    assert expected.shape == (7, *exported.preset.twin().arguments["image_shape"])
    assert len({image.tobytes() for image in expected}) == 7
    for model in shown.values():
        for count in (1, 3, 7):
            assert abs(model.sample(count, seed=5).astype(int) - expected[:count]).max() <= 1
        assert abs(model.sample(7, seed=6).astype(int) - expected).max() > 1


def test_every_input_of_a_graph_matters_to_its_own_row_alone(exported: Exported) -> None:
    for name, ability in exported.card.abilities.items():
        session = Session(exported.directory / f"{name}.onnx")
        feeds = feeds_of(exported.card, name, 3)
        before = session.run(feeds)
        for spec in ability.inputs:
            values = feeds[spec.name].copy()
            other = sum(spec.range) - values[1] if spec.range else 0.1 - values[1]
            if spec.feed == "uniform" and spec.range and other.size > 1:
                # Either end in turn: whatever a number decides between, one of the two decides otherwise.
                low, high = (np.float32(each) for each in spec.range)
                other = np.resize([low, np.nextafter(high, low)], other.shape).astype(other.dtype)
            values[1] = (values[1] + 1) % len(spec.classes) if spec.feed == "label" else other
            after = session.run({**feeds, spec.name: values})
            changes = {key: np.abs(after[key] - value) for key, value in before.items()}
            spreads = {key: max(np.ptp(value), 1e-3) for key, value in before.items()}
            changed = {key: change[1].max() / spreads[key] for key, change in changes.items()}
            assert max(changed.values()) > 1e-4, f"{name}: {spec.name} changes nothing: {changed}"
            for key, change in changes.items():
                assert change[[0, 2]].max() <= 1e-5 * spreads[key], f"{name}: {spec.name} of row 1 changes others"


def test_openvino_agrees_with_onnx_runtime(exported: Exported) -> None:
    for name in exported.card.abilities:
        path, feeds = exported.directory / f"{name}.onnx", feeds_of(exported.card, name, 3)
        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        expected, outputs = Session(path).run(feeds), compiled(feeds)
        assert_agree(exported.card, name, {key: outputs[key] for key in expected}, expected)


# What is written


def test_model_is_as_it_was(exported: Exported) -> None:
    for before, after in zip(exported.weights_before, exported.model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_weights_are_the_models_rounded_to_float16(exported: Exported) -> None:
    with h5py.File(exported.directory / "model.weights.h5") as file:
        for name, variable in exported.model.exported_weights().items():
            array = keras.ops.convert_to_numpy(variable)
            assert file[name].dtype == np.float16 or not np.issubdtype(array.dtype, np.floating)
            np.testing.assert_array_equal(file[name][()], array.astype(file[name].dtype))


def test_averages_are_what_is_exported(exported: Exported) -> None:
    """The same network in the live weights, which `shaken` moved elsewhere, is another one."""
    followed = exported.model._ema.values()
    assert (len(followed) > 0) == (exported.model.ema_decay is not None)
    assert all(
        any((a != b).any() for a, b in zip(live.get_weights(), average.get_weights(), strict=True))
        for live, average in followed
    )
    stored = {id(variable) for variable in exported.model.exported_weights().values()}
    assert all(id(variable) in stored for _, average in followed for variable in average.weights)
    assert not any(id(variable) in stored for live, _ in followed for variable in live.weights)


def test_graph_names_what_goes_in_and_out(exported: Exported) -> None:
    for name, ability in exported.model.abilities().items():
        graph = onnx.load(exported.directory / f"{name}.onnx")
        onnx.checker.check_model(graph, full_check=True)
        assert {opset.domain: opset.version for opset in graph.opset_import}[""] == 18
        inputs, outputs = graph.graph.input, graph.graph.output
        assert [value.name for value in inputs] == [tensor.name for tensor in ability.network.inputs]
        assert [value.name for value in outputs] == ability.network.output_names
        for value in (*inputs, *outputs):
            batch, *sizes = value.type.tensor_type.shape.dim
            assert batch.dim_param == "batch"
            times = f"{ability.scale}*" if ability.scale > 1 and value.name in ability.network.output_names else ""
            names = (f"{times}height", f"{times}width")
            assert all(size.dim_value > 0 or size.dim_param in names for size in sizes)
            assert value.type.tensor_type.elem_type != TensorProto.FLOAT16
    assert exported.card.versions["opset"] == "18"


@pytest.mark.parametrize("exported", [p for p in PRESETS.values() if p.family == "DCGAN"], indirect=True)
def test_dcgan_takes_latents_and_gives_images(exported: Exported) -> None:
    graph = onnx.load(exported.directory / "generate.onnx").graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert kinds == {"latent": TensorProto.FLOAT, "image": TensorProto.FLOAT}


def test_graph_stores_large_weights_as_float16(exported: Exported) -> None:
    if exported.preset.model in COMPUTED_BEFORE_EXPORT:
        pytest.skip("its parameters are computed from weights, float16 as they are, and held by no float16")
    for name in exported.card.abilities:
        graph = onnx.load(exported.directory / f"{name}.onnx").graph
        large = [tensor for tensor in graph.initializer if np.prod(tensor.dims) >= 64]
        stored = {tensor.name for tensor in large if tensor.data_type == TensorProto.FLOAT16}
        assert stored
        # tf2onnx has multiplied a convolution's kernel with the batch norm behind it, or summed its squares for a style
        # to demodulate by: no float16 holds that exactly.
        single = {tensor.name for tensor in large if tensor.data_type == TensorProto.FLOAT}
        assert {name for name in single if not name.endswith(("/merged_input:0", "/Sum:0"))} == set()
        casts = [node for node in graph.node if node.input and node.input[0] in stored]
        assert {node.input[0] for node in casts} == stored
        assert all(node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT for node in casts)


@pytest.mark.parametrize("name", ["gan-mnist", "dcgan-fashion-mnist"])
def test_graph_of_float32_weights_is_what_quantizers_and_converters_work_on(tmp_path: Path, name: str) -> None:
    """On graphs that store float16 the same calls leave the products as they are, and make the file no smaller."""
    preset = PRESETS[name]
    model, paths = shaken(preset), {}
    for weights in ("float16", "float32"):
        export_of(model, preset, tmp_path / weights, formats=["onnx"], weights=weights)
        paths[weights] = tmp_path / weights / "generate.onnx"
    # tf2onnx numbers what it names, so values are compared without their names.
    stored = {weights: list_initializers(path) for weights, path in paths.items()}
    assert np.dtype(np.float16) in {array.dtype for array in stored["float16"]}
    assert np.dtype(np.float16) not in {array.dtype for array in stored["float32"]}
    single, half = (
        sorted((array.shape, array.astype(np.float64).tolist()) for array in arrays) for arrays in stored.values()
    )
    assert single == half
    assert (
        read_card(tmp_path / "float16").files["model.weights.h5"]
        == (read_card(tmp_path / "float32").files["model.weights.h5"])
    )
    latents = np.random.default_rng(0).normal(size=(3, preset.twin().arguments["latent_dim"])).astype(np.float32)
    expected, plain = run_graph(paths["float16"], latents), run_graph(paths["float32"], latents)
    np.testing.assert_array_equal(expected, plain)

    quantize_dynamic(paths["float32"], tmp_path / "quantized.onnx")
    operations = {node.op_type for node in onnx.load(tmp_path / "quantized.onnx").graph.node}
    assert {"DynamicQuantizeLinear", "MatMulInteger"} <= operations
    assert "MatMul" not in operations
    np.testing.assert_allclose(run_graph(tmp_path / "quantized.onnx", latents), expected, atol=0.1)

    converted = convert_float_to_float16(onnx.load(paths["float32"]), keep_io_types=True)
    onnx.save(converted, tmp_path / "half.onnx")
    inside = {tensor.data_type for tensor in converted.graph.initializer if np.prod(tensor.dims) >= 64}
    assert inside == {TensorProto.FLOAT16}
    np.testing.assert_allclose(run_graph(tmp_path / "half.onnx", latents), expected, atol=0.02)


def test_quantized_graph_is_smaller(tmp_path: Path) -> None:
    preset = PRESETS["dcgan-fashion-mnist"]
    preset = dataclasses.replace(preset, tiny={**preset.tiny, "width": 32, "latent_dim": 32})
    export_of(shaken(preset), preset, tmp_path / "model", formats=["onnx"], weights="float32")
    quantize_dynamic(tmp_path / "model" / "generate.onnx", tmp_path / "quantized.onnx")
    before, after = ((tmp_path / name).stat().st_size for name in ("model/generate.onnx", "quantized.onnx"))
    assert after < 0.75 * before


def test_unknown_weights(tmp_path: Path) -> None:
    preset = PRESETS["dcgan-fashion-mnist"]
    with pytest.raises(ValueError, match=r"weights='int8': choose from \['float16', 'float32'\]"):
        export_of(shaken(preset), preset, tmp_path / "model", weights="int8")
    assert list(tmp_path.iterdir()) == []


def list_initializers(path: Path) -> list[np.ndarray]:
    return [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]


def run_graph(path: Path, latents: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["image"], {"latent": latents})[0]


def test_saved_model_stores_each_variable_once(exported: Exported) -> None:
    networks = {id(ability.network): ability.network for ability in exported.model.abilities().values()}
    weights = {id(weight): weight for network in networks.values() for weight in network.weights}
    bytes_needed = sum(weight.value.shape.num_elements() * 4 for weight in weights.values())
    folder = exported.directory / "saved_model" / "1" / "variables"
    stored = [shape for name, shape in tf.train.list_variables(str(folder / "variables")) if "OBJECT_GRAPH" not in name]
    assert len(stored) == len(weights)
    assert sum(int(np.prod(shape)) * 4 for shape in stored) == bytes_needed


def test_card_lists_every_file(exported: Exported) -> None:
    card = read_card(exported.directory)
    verify_files(exported.directory, card)
    below = {
        path.relative_to(exported.directory).as_posix() for path in exported.directory.rglob("*") if path.is_file()
    }
    assert below == set(card.files) | {"card.json", "README.md"}
    images = {"samples.png"} if "generate" in card.abilities else set()
    assert {"model.weights.h5"} | images | {f"{name}.onnx" for name in card.abilities} <= set(card.files)
    assert (card.name, card.data, card.recipe) == (exported.preset.name, DATA, RECIPE)
    arguments = json.loads(json.dumps(exported.model.get_config()))
    assert card.model == {"class": exported.preset.model, "arguments": arguments}


def test_images_and_readme_are_of_this_model(exported: Exported) -> None:
    draws_images(exported)
    size, _, channels = exported.preset.twin().arguments["image_shape"]
    sheet = np.asarray(Image.open(exported.directory / "samples.png"))
    assert sheet.shape == (8 * (size + 2) + 2, 8 * (size + 2) + 2, *((3,) if channels == 3 else ()))
    first = load_pretrained(str(exported.directory), format="onnx").sample(1, seed=0)[0].squeeze()
    assert abs(sheet[2 : 2 + size, 2 : 2 + size].astype(int) - first).max() <= 1
    readme = (exported.directory / "README.md").read_text()
    assert readme.startswith(f"# {exported.preset.name}\n")
    assert "samples.png" in readme


@pytest.mark.parametrize(
    ("formats", "written"),
    [((), set()), (("onnx",), {"generate.onnx"}), (("saved_model",), {"saved_model"})],
    ids=["weights alone", "onnx", "saved_model"],
)
def test_only_the_formats_asked_for(tmp_path: Path, formats: tuple[str, ...], written: set[str]) -> None:
    preset = PRESETS["dcgan-fashion-mnist"]
    card = export_of(shaken(preset), preset, tmp_path / "model", formats=formats)
    always = {"model.weights.h5", "samples.png", "README.md", "card.json"}
    assert {path.name for path in (tmp_path / "model").iterdir()} == always | written
    verify_files(tmp_path / "model", card)


def test_export_twice_replaces_the_first(tmp_path: Path) -> None:
    preset = PRESETS["dcgan-fashion-mnist"]
    export_of(shaken(preset), preset, tmp_path / "model")
    (tmp_path / "model" / "stray.txt").write_text("from an earlier export")
    export_of(shaken(preset, ANOTHER_SEED), preset, tmp_path / "model", formats=["onnx"])
    verify_files(tmp_path / "model", read_card(tmp_path / "model"))
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"model.weights.h5", "generate.onnx", "samples.png", "README.md", "card.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# What is refused


def everything_below(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("earlier", [True, False], ids=["over an earlier export", "anew"])
@pytest.mark.parametrize("writer", ["write_onnx", "write_saved_model"])
def test_disagreement_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, earlier: bool
) -> None:
    """The file that is written is really another network's."""
    preset = PRESETS["dcgan-fashion-mnist"]
    if earlier:
        export_of(shaken(preset), preset, tmp_path / "model")
    before = everything_below(tmp_path)
    other, write = shaken(preset, ANOTHER_SEED).abilities(), getattr(zoo.export.export, writer)
    swap = {
        "write_onnx": lambda ability, path, **options: write(other["generate"], path, **options),
        "write_saved_model": lambda abilities, path: write(other, path),
    }
    monkeypatch.setattr(zoo.export.export, writer, swap[writer])
    named = {"write_onnx": "ONNX", "write_saved_model": "SavedModel"}[writer]
    with pytest.raises(
        ExportError, match=f"{named} differs from Keras by .* of the range of generate's output 'image'"
    ):
        export_of(shaken(preset), preset, tmp_path / "model")
    assert everything_below(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == (["model"] if earlier else [])


def test_a_small_disagreement_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One kernel off by 1 % moves images by far more than 1e-4 of their range."""
    preset = PRESETS["dcgan-fashion-mnist"]
    model, write = shaken(preset), zoo.export.onnx.write_onnx

    def write_scaled(ability: Any, path: Path, **options: Any) -> None:
        kernel = ability.network.weights[0]
        kernel.assign(kernel.value * 1.01)
        write(ability, path, **options)
        kernel.assign(kernel.value / 1.01)

    monkeypatch.setattr(zoo.export.export, "write_onnx", write_scaled)
    with pytest.raises(ExportError, match="ONNX differs"):
        export_of(model, preset, tmp_path / "model")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e5], ids=["NaN", "infinite", "beyond float16"])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    preset = PRESETS["dcgan-fashion-mnist"]
    model = shaken(preset)
    name, variable = next(iter(model.exported_weights().items()))
    array = keras.ops.convert_to_numpy(variable).copy()
    array.flat[-1] = value
    variable.assign(array)
    with pytest.raises(WeightsError, match=name):
        export_of(model, preset, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["keras", "onnx", "saved_model"])
def test_no_format_loads_under_other_arguments_than_were_checked(tmp_path: Path, format: str) -> None:
    """Keras would draw uniform latents where the graph is fed normal ones."""
    preset = PRESETS["dcgan-fashion-mnist"]
    card = export_of(shaken(preset), preset, tmp_path / "model")
    assert card.checked == hash_checked(card)
    path = tmp_path / "model" / "card.json"
    edited = json.loads(path.read_text())
    assert edited["model"]["arguments"]["prior"] == "normal"
    edited["model"]["arguments"]["prior"] = "uniform"
    path.write_text(json.dumps(edited))
    with pytest.raises(CardError, match=r"card\.json: model, .* were changed after the formats had been checked"):
        load_pretrained(str(tmp_path / "model"), format=format)


def test_unknown_format(tmp_path: Path) -> None:
    preset = PRESETS["dcgan-fashion-mnist"]
    with pytest.raises(ValueError, match=r"formats=\['tflite'\]: choose from \['onnx', 'saved_model'\]"):
        export_of(shaken(preset), preset, tmp_path / "model", formats=["onnx", "tflite"])
    assert list(tmp_path.iterdir()) == []


class WithoutNaN(keras.layers.Layer):
    """x y, and 0 where y is."""

    def call(self, x: Any, y: Any) -> Any:
        return tf.math.multiply_no_nan(x, y)


def test_operations_that_tf2onnx_lacks_are_right_near_zero_and_far_out(tmp_path: Path) -> None:
    """A logistic whose scale is learned takes log(1 + e^x) of any x: an artanh alone has no value from 1e7 on."""
    x, y = keras.Input((), name="x"), keras.Input((), name="y")
    made = {"log": ops.log1p(x), "exp": ops.expm1(y), "product": WithoutNaN()(x, y)}
    made["chosen"] = ops.where(x > 0, x, -ops.log1p(x))  # of two infinities, one
    ability = Ability(named_network([x, y], made), {"x": "code", "y": "code"}, dict.fromkeys(made, "code"))
    write_onnx(ability, tmp_path / "graph.onnx", rounded=False)
    values = np.array([-1.0, -0.5, -1e-6, 0.0, 1e-6, 0.99, 1.0, 1e3, 1e6, 1e7, 1e8, 1e20, np.inf], np.float32)
    powers = np.array([-np.inf, -200.0, -20.0, -1.0, -1e-6, 0.0, 1e-6, 1.0, 20.0, 80.0, 0.0, -1e-3, 0.0], np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"])
    found = session.run(list(made), {"x": values, "y": powers})
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = [np.log1p(values), np.expm1(powers), np.where(powers == 0.0, 0.0, values * powers)]
        expected.append(np.where(values > 0.0, values, -np.log1p(values)))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-6)


class Floored(keras.layers.Layer):
    """Remainder and quotient of x and y, both rounded down."""

    def call(self, x: Any, y: Any) -> Any:
        return tf.cast(tf.math.floormod(x, y), "float32"), tf.cast(tf.math.floordiv(x, y), "float32")


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_remainders_and_quotients_are_rounded_down(tmp_path: Path, dtype: str) -> None:
    """(-side) % multiple is what an image of free size is padded by."""
    x, y = keras.Input((), name="x", dtype=dtype), keras.Input((), name="y", dtype=dtype)
    remainder, quotient = Floored()(x, y)
    made = {"remainder": remainder, "quotient": quotient}
    ability = Ability(named_network([x, y], made), {"x": "code", "y": "code"}, dict.fromkeys(made, "code"))
    write_onnx(ability, tmp_path / "graph.onnx", rounded=False)
    pairs = np.array([(a, b) for a in range(-9, 10) for b in (-4, -3, -1, 1, 3, 4)], dtype).T
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"])
    found = session.run(list(made), {"x": pairs[0], "y": pairs[1]})
    np.testing.assert_array_equal(found, [pairs[0] % pairs[1], pairs[0] // pairs[1]])


@pytest.mark.parametrize("sides", [(1, 1), (1, 7), (2, 3), (5, 4), (33, 47), (40, 64)])
def test_networks_of_free_size_export(image_directory: Path, image_model: Inference, sides: tuple[int, int]) -> None:
    """Strided and transposed convolutions, gathered rows, cropped maps, instance norm, depth to space, upsampling."""
    images = np.random.default_rng(0).uniform(-1, 1, (2, *sides, 3)).astype(np.float32)
    for name, ability in image_model.abilities().items():
        (output,) = ability.output_names
        expected = image_model.run_ability(name, {"image": images})[output]
        assert expected.shape == (2, *(ability.scale * side for side in sides), 3)
        found = Pipeline.from_directory(image_directory, ability=name).run({"image": images})[output]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_networks_of_free_size_are_compared_at_several(image_model: Inference, tmp_path: Path) -> None:
    """Keras, ONNX and SavedModel; a network of another scale than its card says is not exported."""
    abilities = image_model.abilities()
    write_saved_model(abilities, tmp_path / "saved_model" / "1")
    for name, ability in abilities.items():
        write_onnx(ability, tmp_path / f"{name}.onnx", rounded=False)
        assert check_agreement(name, ability, tmp_path, ("onnx", "saved_model")) < 1e-5
    sizes = [(each["batch"], each["height"], each["width"]) for each in list_sizes(abilities["upscale"].card())]
    assert sizes == [(1, 32, 32), (3, 48, 64), (1, 33, 47)]
    doubling = dataclasses.replace(abilities["upscale"], scale=2)
    message = (
        r"upscale at batch 1, height 32, width 32: 'upscaled' is declared as \(1, 64, 64, 3\), .* \(1, 128, 128, 3"
    )
    with pytest.raises(ExportError, match=message):
        check_agreement("upscale", doubling, tmp_path, ("saved_model",))


def make_step(shift: float = 0.0, scale: float = 1.0) -> Ability:
    """A step of a sampler that decides 32 x 32 pixels, by uniforms that are shifted; the logits it gives are scaled."""
    shape = (32, 32, 1)
    state, uniform = keras.Input(shape, name="state"), keras.Input(shape, name="uniform")
    logits = 2.0 * state
    image = 2.0 * ops.cast(uniform + shift < ops.sigmoid(logits), "float32") - 1.0
    network = named_network([state, uniform], {"image": image, "next": image, "logits": scale * logits})
    return Ability(
        network,
        {"state": "state", "uniform": "uniform"},
        {"image": "image", "next": "state", "logits": "logits"},
        {"uniform": (0.0, 1.0), "image": (-1.0, 1.0)},
        iteration=Iteration("gibbs", 10, {"state": "next"}),
    )


@pytest.mark.parametrize(("shift", "scale", "wrong"), [(1e-5, 1.0, None), (0.01, 1.0, "image"), (0.0, 1.001, "logits")])
def test_of_a_steps_decisions_999_in_1000_must_be_the_same(
    tmp_path: Path, shift: float, scale: float, wrong: str | None
) -> None:
    """Where an image is drawn in one pass, any decision that differs is refused; logits are always compared."""
    write_onnx(make_step(shift, scale), tmp_path / "step.onnx", rounded=False)
    if wrong is None:
        assert check_agreement("step", make_step(), tmp_path, ("onnx",)) < 1e-5
        return
    with pytest.raises(ExportError, match=f"ONNX differs from Keras by .* of the range of step's output '{wrong}'"):
        check_agreement("step", make_step(), tmp_path, ("onnx",))


@pytest.mark.parametrize("factors", [(2, 2), (3, 1)])
@pytest.mark.parametrize("batch", [1, 3])
def test_nearest_upsampling_is_one_operation_that_copies_pixels(
    tmp_path: Path, factors: tuple[int, int], batch: int
) -> None:
    image = keras.Input((5, 3, 2), name="image")
    larger = keras.layers.UpSampling2D(factors)(image)
    smooth = keras.layers.UpSampling2D(2, interpolation="bilinear")(image)
    network = named_network(
        [image], {"larger": larger, "smooth": smooth, "again": keras.layers.UpSampling2D(2)(larger)}
    )
    kinds = dict.fromkeys(("larger", "smooth", "again"), "code")
    write_onnx(Ability(network, {"image": "image"}, kinds), tmp_path / "graph.onnx", rounded=False)
    operations = [node.op_type for node in onnx.load(tmp_path / "graph.onnx").graph.node]
    assert operations.count("Resize") == 3
    assert not {"Tile", "Reshape"} & set(operations)
    pixels = np.random.default_rng(0).normal(size=(batch, 5, 3, 2)).astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"])
    found, again, smooth = session.run(["larger", "again", "smooth"], {"image": pixels})
    expected = pixels.repeat(factors[0], axis=1).repeat(factors[1], axis=2)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(again, expected.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_allclose(smooth, network(pixels)[list(network.output_names).index("smooth")], atol=1e-6)
