"""Small exported models, with real ONNX graphs, whose outputs can be worked out by hand."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, load, numpy_helper

from serving.card import Ability, Card, Data, File, Input, Output, encode_card, read_card

WEIGHTS = np.random.Generator(np.random.Philox(0)).standard_normal((4, 64)).astype(np.float32)
LATENT = Input("latent", "float32", ("batch", 4), "normal")
IMAGE = Output("image", "float32", ("batch", 8, 8, 1), "image", (-1.0, 1.0), "NHWC")
CLASSES = ("shirt", "shoe", "bag")


def _model(nodes: list, inputs: list, outputs: list, constants: dict[str, np.ndarray]) -> ModelProto:
    values = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(
        [helper.make_node(kind, reads, [writes], **options) for kind, reads, writes, options in nodes],
        "graph",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        values,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _generator() -> ModelProto:
    """image = tanh(latent @ WEIGHTS)."""
    nodes = [
        ("MatMul", ["latent", "weights"], "product", {}),
        ("Tanh", ["product"], "flat", {}),
        ("Reshape", ["flat", "shape"], "image", {}),
    ]
    constants = {"weights": WEIGHTS, "shape": np.array([-1, 8, 8, 1])}
    latent, image = ("latent", TensorProto.FLOAT, ["batch", 4]), ("image", TensorProto.FLOAT, ["batch", 8, 8, 1])
    return _model(nodes, [latent], [image], constants)


def _encoder() -> ModelProto:
    """code = image @ WEIGHTS'."""
    nodes = [("Reshape", ["image", "shape"], "flat", {}), ("MatMul", ["flat", "weights"], "code", {})]
    constants = {"weights": np.ascontiguousarray(WEIGHTS.T), "shape": np.array([-1, 64])}
    image, code = ("image", TensorProto.FLOAT, ["batch", 8, 8, 1]), ("code", TensorProto.FLOAT, ["batch", 4])
    return _model(nodes, [image], [code], constants)


def _mirror() -> ModelProto:
    """image = the inputs themselves, side by side: four latents times the truncation, two jitters, the label."""
    nodes = [
        ("Mul", ["latent", "truncation"], "near", {}),
        ("Cast", ["label"], "number", {"to": TensorProto.FLOAT}),
        ("Unsqueeze", ["number", "last"], "column", {}),
        ("Concat", ["near", "jitter", "column"], "flat", {"axis": 1}),
        ("Reshape", ["flat", "shape"], "image", {}),
    ]
    inputs = [
        ("latent", TensorProto.FLOAT, ["batch", 4]),
        ("jitter", TensorProto.FLOAT, ["batch", 2]),
        ("label", TensorProto.INT64, ["batch"]),
        ("truncation", TensorProto.FLOAT, [1]),
    ]
    constants = {"last": np.array([1]), "shape": np.array([-1, 1, 7, 1])}
    return _model(nodes, inputs, [("image", TensorProto.FLOAT, ["batch", 1, 7, 1])], constants)


def _translator(channels: int, output: str, scale: int, normalized: bool) -> ModelProto:
    """output = tanh(a 3x3 convolution of the image), of any size; before it nearest upsampling or instance norm."""
    kernel = np.random.Generator(np.random.Philox(1)).standard_normal((channels, channels, 3, 3)) / (3 * channels**0.5)
    constants = {
        "kernel": kernel.astype(np.float32),
        "scales": np.array([1, 1, scale, scale], np.float32),
        "ones": np.ones(channels, np.float32),
        "zeros": np.zeros(channels, np.float32),
    }
    nodes = [("Transpose", ["image"], "maps", {"perm": [0, 3, 1, 2]})]
    if normalized:
        nodes += [("InstanceNormalization", ["maps", "ones", "zeros"], "larger", {})]
    else:
        choices = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        nodes += [("Resize", ["maps", "", "scales"], "larger", choices)]
    nodes += [
        ("Conv", ["larger", "kernel"], "convolved", {"pads": [1, 1, 1, 1]}),
        ("Tanh", ["convolved"], "bounded", {}),
        ("Transpose", ["bounded"], output, {"perm": [0, 2, 3, 1]}),
    ]
    sides = ["height", "width"] if scale == 1 else [f"{scale}*height", f"{scale}*width"]
    image = ("image", TensorProto.FLOAT, ["batch", "height", "width", channels])
    return _model(nodes, [image], [(output, TensorProto.FLOAT, ["batch", *sides, channels])], constants)


def file_record(path: Path) -> File:
    return File(hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)


def build_card(name: str, abilities: dict[str, Ability], directory: Path, default: str = "generate") -> Card:
    return Card(
        name=name,
        family="gan",
        paper="arXiv:1406.2661",
        license="Apache-2.0",
        summary="A graph for tests.",
        data=Data("none", "train", 0, "CC0-1.0", "https://example.org"),
        model={"class": "zoo.models.gan.GAN", "arguments": {"latent_dim": 4}},
        recipe={"name": "none", "steps": 1, "batch_size": 2, "seed": 0},
        abilities=abilities,
        default_ability=default,
        files={ability.file: file_record(directory / ability.file) for ability in abilities.values() if ability.file},
    )


def write_tanh_model(directory: Path) -> Path:
    """tanh-model: generate (latent -> image) and encode (image -> code)."""
    directory.mkdir(parents=True)
    (directory / "generate.onnx").write_bytes(_generator().SerializeToString())
    (directory / "encode.onnx").write_bytes(_encoder().SerializeToString())
    code = Output("code", "float32", ("batch", 4), "code")
    image = Input("image", "float32", ("batch", 8, 8, 1), "image", (-1.0, 1.0))
    abilities = {
        "generate": Ability((LATENT,), (IMAGE,), "generate.onnx"),
        "encode": Ability((image,), (code,), "encode.onnx"),
        "reconstruct": Ability((image,), (IMAGE,), None),
    }
    (directory / "card.json").write_bytes(encode_card(build_card("tanh-model", abilities, directory)))
    return directory


def write_mirror_model(directory: Path) -> Path:
    """mirror-model: its image shows what was fed: latent * truncation, jitter in [0, 1), label."""
    directory.mkdir(parents=True)
    (directory / "generate.onnx").write_bytes(_mirror().SerializeToString())
    inputs = (
        LATENT,
        Input("jitter", "float32", ("batch", 2), "uniform", (0.0, 1.0)),
        Input("label", "int64", ("batch",), "label", classes=CLASSES),
        Input("truncation", "float32", (1,), "truncation"),
    )
    image = Output("image", "float32", ("batch", 1, 7, 1), "image", (-8.0, 8.0), "NHWC")
    abilities = {"generate": Ability(inputs, (image,), "generate.onnx")}
    (directory / "card.json").write_bytes(encode_card(build_card("mirror-model", abilities, directory)))
    return directory


def write_image_model(directory: Path, channels: int = 3) -> Path:
    """image-model: translate_a_to_b and upscale look at 3x3 pixels, translate_b_to_a at the mean of all as well."""
    directory.mkdir(parents=True)
    image = Input("image", "float32", ("batch", "height", "width", channels), "image", (-1.0, 1.0))
    abilities = {}
    for name, output, scale in (
        ("translate_a_to_b", "translation", 1),
        ("translate_b_to_a", "translation", 1),
        ("upscale", "upscaled", 4),
    ):
        graph = _translator(channels, output, scale, normalized=name == "translate_b_to_a")
        (directory / f"{name}.onnx").write_bytes(graph.SerializeToString())
        sides = ("height", "width") if scale == 1 else (f"{scale}*height", f"{scale}*width")
        made = Output(output, "float32", ("batch", *sides, channels), "image", (-1.0, 1.0), "NHWC")
        abilities[name] = Ability((image,), (made,), f"{name}.onnx")
    card = build_card("image-model", abilities, directory, default="translate_a_to_b")
    (directory / "card.json").write_bytes(encode_card(card))
    return directory


@pytest.fixture
def tanh_model(tmp_path: Path) -> Path:
    return write_tanh_model(tmp_path / "models" / "tanh-model")


@pytest.fixture
def mirror_model(tmp_path: Path) -> Path:
    return write_mirror_model(tmp_path / "models" / "mirror-model")


@pytest.fixture
def image_model(tmp_path: Path) -> Path:
    return write_image_model(tmp_path / "models" / "image-model")


@pytest.fixture
def gray_model(tmp_path: Path) -> Path:
    return write_image_model(tmp_path / "gray" / "image-model", channels=1)


@pytest.fixture
def models(tanh_model: Path, mirror_model: Path) -> Path:
    """A directory of both."""
    assert tanh_model.parent == mirror_model.parent
    return tanh_model.parent


@pytest.fixture(scope="session")
def shared_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of both, which no test changes."""
    directory = tmp_path_factory.mktemp("models")
    write_tanh_model(directory / "tanh-model")
    write_mirror_model(directory / "mirror-model")
    return directory


@pytest.fixture
def edit_card() -> Callable[..., None]:
    def edit(directory: Path, old: str, new: str, *, checked: bool = False) -> None:
        """Replace text in a model's card; the text must be there. checked: as if the formats had been checked so."""
        path = directory / "card.json"
        text = path.read_text()
        assert old in text
        path.write_text(text := text.replace(old, new))
        if checked:
            path.write_bytes(encode_card(msgspec.convert({**json.loads(text), "checked": ""}, Card)))

    return edit


@pytest.fixture
def edit_graph() -> Callable[..., Path]:
    def edit(directory: Path, change: Callable[[ModelProto], object], ability: str = "generate") -> Path:
        """Change an ability's graph, and its hash in the card."""
        path = directory / f"{ability}.onnx"
        model = load(path, load_external_data=False)
        change(model)
        path.write_bytes(model.SerializeToString())
        card = read_card(directory)
        files = {**card.files, path.name: file_record(path)}
        changed = msgspec.structs.replace(card, files=files, checked="")
        (directory / "card.json").write_bytes(encode_card(changed))
        return path

    return edit


@pytest.fixture
def weights() -> np.ndarray:
    return WEIGHTS
