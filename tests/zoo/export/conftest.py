"""What the tests of passes over ONNX graphs share."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime


def operations(graph: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in graph.graph.node]


def run_graph(
    graph: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], level: str = "ORT_ENABLE_ALL"
) -> list[np.ndarray]:
    """The outputs for normal noise, always the same, in inputs of these shapes; `level` is of ONNX Runtime's passes."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(1)
    return session.run(None, {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()})
