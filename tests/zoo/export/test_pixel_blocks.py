"""Convolutions to a few channels as convolutions to blocks of pixels: equal to what they replace, and only there."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.zoo.export.conftest import operations, run_graph
from zoo.core.ability import upscale_ability
from zoo.export.onnx import write_onnx
from zoo.export.pixel_blocks import MOST_CHANNELS, make_pixels_in_blocks
from zoo.networks import srresnet

IN = 6


def make_graph(
    size: tuple[int, int] = (7, 7),
    channels: int = 3,
    bias: bool = True,
    sides: tuple[int | str, int | str] = ("height", "width"),
    **attributes: object,
) -> onnx.ModelProto:
    """x -> Conv -> y."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(channels, IN, *size)) / np.sqrt(IN * np.prod(size))  # its sums are about 1
    arrays = {"kernel": kernel} | ({"bias": rng.normal(size=channels)} if bias else {})
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", *arrays], ["y"], name="pixels", **attributes)],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", IN, *sides])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", channels, "rows", "columns"])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def split(graph: onnx.ModelProto) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    make_pixels_in_blocks(changed)
    return changed


def run(graph: onnx.ModelProto, batch: int, sides: tuple[int, int], level: str = "ORT_ENABLE_ALL") -> np.ndarray:
    return run_graph(graph, {"x": (batch, IN, *sides)}, level)[0]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("size", "attributes"),
    [
        ((9, 9), {"pads": [4, 4, 4, 4]}),
        ((7, 7), {}),
        ((3, 3), {"pads": [1, 1, 1, 1]}),
        ((4, 5), {"pads": [0, 3, 2, 1]}),
        ((6, 3), {"auto_pad": "SAME_UPPER"}),
    ],
)
def test_blocks_equal_the_convolution(
    size: tuple[int, int], attributes: dict[str, object], channels: int, bias: bool
) -> None:
    graph = make_graph(size, channels, bias, **attributes)
    changed = split(graph)
    onnx.checker.check_model(changed, full_check=True)
    assert "DepthToSpace" in operations(changed)
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"):
        for batch, sides in ((1, (9, 9)), (3, (16, 12)), (2, (10, 11))):  # multiples of a block's side, and others
            expected = run(graph, batch, sides)
            np.testing.assert_allclose(run(changed, batch, sides, level), expected, atol=1e-5)


def test_maps_of_known_sides_keep_them() -> None:
    graph = split(make_graph(sides=(28, 30), pads=[3, 3, 3, 3]))
    known = onnx.shape_inference.infer_shapes(graph, data_prop=True).graph
    blocks = next(value for value in known.value_info if value.name == "pixels/blocks")
    assert [size.dim_value for size in blocks.type.tensor_type.shape.dim[1:]] == [48, 7, 8]
    assert run(graph, 2, (28, 30)).shape == (2, 3, 28, 30)


def test_a_blocks_kernel_is_an_initializer_of_the_same_numbers_once_a_pixel_and_zeros() -> None:
    graph = make_graph((9, 9), pads=[4, 4, 4, 4])
    kernel, bias = (numpy_helper.to_array(tensor) for tensor in graph.graph.initializer)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in split(graph).graph.initializer}
    assert not {"kernel", "bias"} & set(stored)
    np.testing.assert_array_equal(stored["pixels/bias"].reshape(16, 3), np.tile(bias, (16, 1)))
    assert stored["pixels/kernel"].shape == (16 * 3, IN, 12, 12)
    for pixel, own in enumerate(stored["pixels/kernel"].reshape(16, 3, IN, 12, 12)):
        row, column = divmod(pixel, 4)
        np.testing.assert_array_equal(own[:, :, row : row + 9, column : column + 9], kernel)
        assert np.count_nonzero(own) == np.count_nonzero(kernel)


@pytest.mark.parametrize(
    "options",
    [
        {"channels": MOST_CHANNELS + 1},
        {"size": (1, 1)},
        {"strides": [2, 2]},
        {"dilations": [2, 2]},
        {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID"},
    ],
)
def test_others_are_left_as_they_are(options: dict[str, object]) -> None:
    graph = make_graph(**options)
    assert split(graph) == graph


@pytest.mark.parametrize("sides", [(1, 1), (5, 6)])
def test_an_upscalers_file_gives_its_images_at_any_size(tmp_path: Path, sides: tuple[int, int]) -> None:
    network = srresnet.generator(3, width=8, blocks=1)
    for variable in network.weights:
        if "moving_variance" not in variable.path:
            variable.assign(np.random.default_rng(0).normal(0.0, 0.2, variable.shape))
    write_onnx(upscale_ability(network, 4), tmp_path / "upscale.onnx", rounded=True)
    assert operations(onnx.load(tmp_path / "upscale.onnx")).count("DepthToSpace") == 3
    session = onnxruntime.InferenceSession(tmp_path / "upscale.onnx", providers=["CPUExecutionProvider"])
    images = np.random.default_rng(1).uniform(-1, 1, (2, *sides, 3)).astype(np.float32)
    expected = np.asarray(network(images, training=False))
    np.testing.assert_allclose(session.run(None, {"image": images})[0], expected, atol=1e-4)
