"""Value-by-value operations in the shapes that are fast: equal to what they replace."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.zoo.export.conftest import operations, run_graph
from zoo.core.ability import generate_ability
from zoo.export.layout import TO_FIRST, TO_LAST, keep_channels_first, widen_scalars
from zoo.export.onnx import write_onnx
from zoo.models.gan import GAN

CHANNELS, HEIGHT, WIDTH = 3, 5, 4


def make_model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    constants: dict[str, np.ndarray],
    outputs: tuple[str, ...] = ("y",),
    rank: int = 4,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name in outputs],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def make_styled_graph(noise_channels: int = 1) -> onnx.ModelProto:
    """Two convolutions, and between them as in StyleGAN2 a scale of each channel, noise and a bias, a leaky ReLU."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(CHANNELS, CHANNELS, 3, 3)) / 5
    constants = {"kernel": kernel, "strength": 0.3, "bias": rng.normal(size=CHANNELS)}
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "kernel"], ["a"], pads=[1] * 4),
        make("Transpose", ["a"], ["b"], perm=TO_LAST),
        make("Mul", ["b", "scale"], ["c"]),
        make("Mul", ["noise", "strength"], ["d"]),
        make("Add", ["d", "bias"], ["e"]),
        make("Add", ["c", "e"], ["f"]),
        make("LeakyRelu", ["f"], ["g"], alpha=0.3),
        make("Transpose", ["g"], ["h"], perm=TO_FIRST),
        make("Conv", ["h", "kernel"], ["y"], pads=[1] * 4),
        make("Mul", ["g", "scale"], ["i"]),  # read twice
        make("Transpose", ["i"], ["j"], perm=TO_FIRST),
        make("Conv", ["j", "kernel"], ["z"], pads=[1] * 4),
    ]
    inputs = {
        "x": ["batch", CHANNELS, HEIGHT, WIDTH],
        "scale": ["batch", 1, 1, CHANNELS],
        "noise": ["batch", HEIGHT, WIDTH, noise_channels],
    }
    return make_model(nodes, inputs, constants, ("y", "z"))


def changed(graph: onnx.ModelProto, change: object) -> onnx.ModelProto:
    other = onnx.ModelProto()
    other.CopyFrom(graph)
    change(other)
    onnx.checker.check_model(other, full_check=True)
    return other


def run(graph: onnx.ModelProto, batch: int) -> list[np.ndarray]:
    rows = {each.name: [size.dim_value for size in each.type.tensor_type.shape.dim[1:]] for each in graph.graph.input}
    return run_graph(graph, {name: [batch, *row] for name, row in rows.items()}, "ORT_DISABLE_ALL")


@pytest.mark.parametrize("batch", [1, 3])
def test_maps_between_convolutions_are_not_transposed(batch: int) -> None:
    graph = make_styled_graph()
    found = changed(graph, keep_channels_first)
    known = onnx.shape_inference.infer_shapes(found).graph
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*known.value_info, *known.input)
    }
    transposed = [shapes[node.input[0]] for node in found.graph.node if node.op_type == "Transpose"]
    assert sorted(transposed) == [[0, 1, 1, CHANNELS], [0, HEIGHT, WIDTH, 1]]  # a scale and noise: views
    assert operations(found).count("LeakyRelu") == 1  # what is read twice is computed once
    for ours, theirs in zip(run(found, batch), run(graph, batch), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_maps_stay_where_others_would_have_to_be_transposed_for_them() -> None:
    graph = make_styled_graph(noise_channels=CHANNELS)
    found = changed(graph, keep_channels_first)
    assert found == graph


def test_an_output_keeps_its_name() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], perm=TO_LAST),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Transpose", ["b"], ["y"], perm=TO_FIRST),
    ]
    graph = make_model(nodes, {"x": ["batch", CHANNELS, HEIGHT, WIDTH]}, {})
    np.testing.assert_array_equal(run(changed(graph, keep_channels_first), 2)[0], run(graph, 2)[0])


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("operation", ["Add", "Div", "Max", "Min", "Mul", "Sub"])
def test_scalars_beside_a_last_size_of_one_get_two_axes(operation: str, shape: tuple[int, ...]) -> None:
    nodes = [helper.make_node(operation, ["x", "scalar"], ["y"])]
    graph = make_model(nodes, {"x": ["batch", HEIGHT, WIDTH, 1]}, {"scalar": np.full(shape, 0.7)})
    found = changed(graph, widen_scalars)
    assert [list(tensor.dims) for tensor in found.graph.initializer] == [[1, 1]]
    (ours,), (theirs,) = run(found, 3), run(graph, 3)
    assert ours.shape == theirs.shape == (3, HEIGHT, WIDTH, 1)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("sizes", [["batch", HEIGHT, WIDTH, 2], ["batch"]])
def test_other_scalars_are_left_as_they_are(sizes: list[int | str]) -> None:
    nodes = [helper.make_node("Mul", ["x", "scalar"], ["y"])]
    graph = make_model(nodes, {"x": sizes}, {"scalar": np.float32(0.7)}, rank=len(sizes))
    assert changed(graph, widen_scalars) == graph


def test_a_session_folds_casts_and_batch_norm_when_it_opens_a_generators_file(tmp_path: Path) -> None:
    """Neither is folded in the file: its weights stay the numbers that float16 holds."""
    model = GAN((32, 32, 3), latent_dim=8, width=16)
    for variable in model.generator_ema.weights:
        variable.assign(np.asarray(variable).astype(np.float16))
    write_onnx(generate_ability(model.generator_ema, "normal"), tmp_path / "generate.onnx", rounded=True)
    stored = Counter(operations(onnx.load(tmp_path / "generate.onnx")))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "opened.onnx")
    options.log_severity_level = 3  # that what is written there is for this processor
    onnxruntime.InferenceSession(tmp_path / "generate.onnx", options, providers=["CPUExecutionProvider"])
    opened = Counter(operations(onnx.load(tmp_path / "opened.onnx")))
    assert stored["Cast"] > 0
    assert opened["Cast"] == 0
    # Norms follow the dense layer and each phase of two convolutions; the dense layer's can't go through its reshape.
    assert (stored["Mul"], stored["Relu"]) == (9, 9)
    assert (opened["Mul"], opened["Relu"]) == (1, 1)
