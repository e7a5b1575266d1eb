"""Convolutions split into phases: equal to what they replace, and only where that is exact."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.zoo.export.conftest import operations, run_graph
from zoo.core.ability import generate_ability
from zoo.export.onnx import write_onnx
from zoo.export.subpixel import FEWEST_CHANNELS, split_into_phases
from zoo.models.gan import GAN
from zoo.networks import residual

SIDES = (5, 3)
IN = 6


def make_graph(
    size: int = 4,
    stride: int = 2,
    pads: tuple[int, int, int, int] | None = None,
    channels: int = FEWEST_CHANNELS,
    bias: bool = False,
    sides: tuple[int | str, int | str] = SIDES,
    **attributes: object,
) -> onnx.ModelProto:
    """x -> ConvTranspose -> times and plus a constant a channel -> ReLU -> y."""
    rng = np.random.default_rng(0)
    before = (size - stride) // 2
    pads = pads or (before, before, size - stride - before, size - stride - before)
    arrays = {
        "kernel": rng.normal(size=(IN, channels, size, size)),
        "scale": rng.normal(size=(1, channels, 1, 1)),
        "shift": rng.normal(size=(channels, 1, 1)),
        **({"bias": rng.normal(size=channels)} if bias else {}),
    }
    inputs = ["x", "kernel", *(["bias"] if bias else [])]
    nodes = [
        helper.make_node("ConvTranspose", inputs, ["a"], name="up", strides=[stride] * 2, pads=pads, **attributes),
        helper.make_node("Mul", ["a", "scale"], ["b"]),
        helper.make_node("Add", ["shift", "b"], ["c"]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", IN, *sides])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", channels, "rows", "columns"])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def make_upsampled_graph(
    size: int = 3,
    factors: tuple[float, float] = (2, 2),
    before: int | None = None,
    strides: tuple[int, int] = (1, 1),
    mode: str = "nearest",
    sides: tuple[int | str, int | str] = SIDES,
    shared: bool = False,
    **attributes: object,
) -> onnx.ModelProto:
    """x -> Resize -> Conv -> ReLU -> y, and what was resized -> z where it is shared."""
    rng = np.random.default_rng(0)
    before = (size - 1) // 2 if before is None else before
    arrays = {
        "scales": np.array([1, 1, *factors]),
        "kernel": rng.normal(size=(FEWEST_CHANNELS, IN, size, size)),
        "bias": rng.normal(size=FEWEST_CHANNELS),
    }
    choices = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", "mode": mode}
    pads = [before, before, size - 1 - before, size - 1 - before]
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["a"], **choices),
        helper.make_node("Conv", ["a", "kernel", "bias"], ["b"], name="up", strides=strides, pads=pads, **attributes),
        helper.make_node("Relu", ["b"], ["y"]),
        *([helper.make_node("Relu", ["a"], ["z"])] if shared else []),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", IN, *sides])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, "rows", "columns"])
            for name, channels in (("y", FEWEST_CHANNELS), ("z", IN))[: 1 + shared]
        ],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(graph: onnx.ModelProto, batch: int, level: str = "ORT_ENABLE_ALL") -> np.ndarray:
    return run_graph(graph, {"x": (batch, IN, *SIDES)}, level)[0]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "geometry",
    [(4, 2, None), (2, 2, None), (6, 2, None), (6, 3, None), (5, 3, None), (3, 2, (0, 1, 1, 0)), (5, 2, (2, 1, 1, 2))],
)
def test_phases_equal_the_transposed_convolution(
    geometry: tuple[int, int, tuple[int, int, int, int] | None], bias: bool
) -> None:
    graph = make_graph(*geometry, bias=bias)
    split = onnx.ModelProto()
    split.CopyFrom(graph)
    split_into_phases(split)
    onnx.checker.check_model(split, full_check=True)
    assert operations(split).count("Conv") == geometry[1] ** 2
    assert "ConvTranspose" not in operations(split)
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"):
        for batch in (1, 3):
            np.testing.assert_allclose(run(split, batch, level), run(graph, batch), atol=1e-5)


def test_every_kernel_value_is_stored_once() -> None:
    graph = make_graph()
    before = np.sort(numpy_helper.to_array(graph.graph.initializer[0]).ravel())
    split_into_phases(graph)
    parts = [numpy_helper.to_array(each).ravel() for each in graph.graph.initializer if each.name.endswith("/kernel")]
    assert [part.size for part in parts] == [before.size // 4] * 4
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), before)
    assert "kernel" not in {each.name for each in graph.graph.initializer}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("size", "factors", "before"),
    [(3, (2, 2), None), (1, (2, 2), None), (5, (2, 2), None), (4, (2, 2), 1), (3, (3, 3), 0), (3, (3, 1), None)],
)
def test_phases_equal_the_convolution_of_what_nearest_neighbors_enlarge(
    size: int, factors: tuple[int, int], before: int | None, batch: int
) -> None:
    graph = make_upsampled_graph(size, factors, before)
    split = onnx.ModelProto()
    split.CopyFrom(graph)
    split_into_phases(split)
    onnx.checker.check_model(split, full_check=True)
    assert operations(split).count("Conv") == factors[0] * factors[1]
    assert "Resize" not in operations(split)
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"):
        np.testing.assert_allclose(run(split, batch, level), run(graph, batch), atol=1e-5)


def test_a_kernel_of_which_phases_take_sums_is_stored_itself(tmp_path: Path) -> None:
    """ONNX Runtime sums once, when it opens the file."""
    graph = make_upsampled_graph()
    kernel = numpy_helper.to_array(graph.graph.initializer[1])
    split_into_phases(graph)
    large = [numpy_helper.to_array(each) for each in graph.graph.initializer if np.prod(each.dims) > 100]
    assert len(large) == 1
    np.testing.assert_array_equal(large[0], kernel)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert "MatMul" not in operations(onnx.load(tmp_path / "optimized.onnx"))


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "linear"},
        {"strides": (2, 2)},
        {"factors": (1.5, 1.5)},
        {"dilations": [2, 2]},
        {"shared": True},
        {"sides": ("height", "width")},
    ],
)
def test_other_convolutions_of_enlarged_maps_are_left_as_they_are(options: dict[str, object]) -> None:
    graph = make_upsampled_graph(**options)
    before = graph.SerializeToString()
    split_into_phases(graph)
    assert graph.SerializeToString() == before


@pytest.mark.parametrize(
    "options",
    [
        {"channels": FEWEST_CHANNELS - 1},
        {"pads": (0, 0, 0, 0)},
        {"output_padding": [1, 1], "pads": (1, 1, 2, 2), "size": 4},
        {"dilations": [2, 2]},
        {"sides": ("height", "width")},
    ],
)
def test_others_are_left_as_they_are(options: dict[str, object]) -> None:
    graph = make_graph(**options)
    before = graph.SerializeToString()
    split_into_phases(graph)
    assert graph.SerializeToString() == before


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_a_generators_file_gives_its_images_without_a_transposed_convolution(tmp_path: Path, batch: int) -> None:
    model = GAN((32, 32, 3), latent_dim=8, width=16)
    for network in (model.generator, model.generator_ema):
        for variable in network.weights:
            if "moving_variance" not in variable.path:
                variable.assign(np.random.default_rng(0).normal(0.2, 0.5, variable.shape))
    write_onnx(generate_ability(model.generator_ema, "normal"), tmp_path / "generate.onnx", rounded=False)
    assert "ConvTranspose" not in operations(onnx.load(tmp_path / "generate.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "generate.onnx", providers=["CPUExecutionProvider"])
    latent = np.random.default_rng(1).normal(size=(batch, 8)).astype(np.float32)
    expected = model.generator_ema(latent, training=False)
    np.testing.assert_allclose(session.run(None, {"latent": latent})[0], expected, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_a_residual_generators_file_gives_its_images(tmp_path: Path, batch: int) -> None:
    """Three doublings: each block's first convolution reads a doubled map, and its shortcut is doubled."""
    network = residual.generator((32, 32, 3), 8, width=16)
    for variable in network.weights:
        if "moving_variance" not in variable.path:
            variable.assign(np.random.default_rng(0).normal(0.0, 0.1, variable.shape))
    write_onnx(generate_ability(network, "normal"), tmp_path / "generate.onnx", rounded=False)
    found = operations(onnx.load(tmp_path / "generate.onnx"))
    assert (found.count("Resize"), found.count("Conv")) == (3, 3 * (4 + 1 + 1) + 1)
    session = onnxruntime.InferenceSession(tmp_path / "generate.onnx", providers=["CPUExecutionProvider"])
    latent = np.random.default_rng(1).normal(size=(batch, 8)).astype(np.float32)
    expected = network(latent, training=False)
    np.testing.assert_allclose(session.run(None, {"latent": latent})[0], expected, atol=1e-4)
