"""Transposed convolutions split into phases: equal to what they replace, and only where that is exact."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo.core.ability import generate_ability
from zoo.export.onnx import write_onnx
from zoo.export.subpixel import FEWEST_CHANNELS, split_transposed_convolutions
from zoo.models.gan import GAN

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


def operations(graph: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in graph.graph.node]


def run(graph: onnx.ModelProto, batch: int, level: str = "ORT_ENABLE_ALL") -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).normal(size=(batch, IN, *SIDES)).astype(np.float32)
    return session.run(None, {"x": x})[0]


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
    split_transposed_convolutions(split)
    onnx.checker.check_model(split, full_check=True)
    assert operations(split).count("Conv") == geometry[1] ** 2
    assert "ConvTranspose" not in operations(split)
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"):
        for batch in (1, 3):
            np.testing.assert_allclose(run(split, batch, level), run(graph, batch), atol=1e-5)


def test_every_kernel_value_is_stored_once() -> None:
    graph = make_graph()
    before = np.sort(numpy_helper.to_array(graph.graph.initializer[0]).ravel())
    split_transposed_convolutions(graph)
    parts = [numpy_helper.to_array(each).ravel() for each in graph.graph.initializer if each.name.endswith("/kernel")]
    assert [part.size for part in parts] == [before.size // 4] * 4
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), before)
    assert "kernel" not in {each.name for each in graph.graph.initializer}


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
    split_transposed_convolutions(graph)
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
