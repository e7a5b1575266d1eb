"""An ability as an ONNX graph."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from zoo.core.ability import Ability, flat_function

OPSET = 18  # the newest that tf2onnx 1.17 writes
SMALL = 64  # initializers of fewer values stay float32: casting them saves nothing


def write_onnx(ability: Ability, path: Path, *, rounded: bool) -> None:
    """One graph, its free dimension called "batch".

    Args:
        ability: what to write.
        path: of the file.
        rounded: the weights hold float16 values: store them as such, with a cast to float32 in the graph.
    """
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    function = tf.function(flat_function(ability), input_signature=ability.signature())
    graph, _ = tf2onnx.convert.from_function(
        function, input_signature=ability.signature(), opset=OPSET, custom_op_handlers=MISSING
    )
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    if rounded:
        store_as_float16(graph)
    graph.producer_name = "generative-zoo"
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(path))


def expm1(context: Any, node: Any, name: str, arguments: Any) -> None:
    """e^x - 1 = (e^x + 1) tanh(x / 2), which keeps its digits near 0."""
    (x,), (half, one) = node.input, constants(context, name, 0.5, 1.0)
    tanh = made(context, "Tanh", made(context, "Mul", x, half))
    replaced(context, node, "Mul", tanh, made(context, "Add", made(context, "Exp", x), one))


def log1p(context: Any, node: Any, name: str, arguments: Any) -> None:
    """log(1 + x) = 2 artanh(x / (2 + x)), which keeps its digits near 0; as it stands from 1 on."""
    (x,), (one, two) = node.input, constants(context, name, 1.0, 2.0)
    artanh = made(context, "Atanh", made(context, "Div", x, made(context, "Add", x, two)))
    large = made(context, "Log", made(context, "Add", x, one))
    replaced(context, node, "Where", made(context, "Less", x, one), made(context, "Mul", artanh, two), large)


def multiply_no_nan(context: Any, node: Any, name: str, arguments: Any) -> None:
    """x y, and 0 where y is, whatever x is."""
    (x, y), (zero,) = node.input, constants(context, name, 0.0)
    replaced(context, node, "Where", made(context, "Equal", y, zero), zero, made(context, "Mul", x, y))


def select(context: Any, node: Any, name: str, arguments: Any) -> None:
    """As it stands: tf2onnx multiplies both sides by 0 or 1 and adds, which makes NaN of an infinity not chosen."""
    replaced(context, node, "Where", *node.input)


def constants(context: Any, name: str, *values: float) -> list[str]:
    """Names of these numbers in a graph of tf2onnx."""
    return [context.make_const(f"{name}_{value}", np.float32(value)).output[0] for value in values]


def made(context: Any, operation: str, *inputs: str) -> str:
    """The name of a new node's output."""
    return context.make_node(operation, list(inputs)).output[0]


def replaced(context: Any, node: Any, operation: str, *inputs: str) -> None:
    """A node under the old one's name, in its place."""
    (output,) = node.output
    dtypes, shapes = [context.get_dtype(output)], [context.get_shape(output)]
    context.remove_node(node.name)
    context.make_node(operation, list(inputs), name=node.name, outputs=[output], dtypes=dtypes, shapes=shapes)


MISSING: dict[str, tuple[Callable[..., None], list[Any]]] = {
    "Expm1": (expm1, []),
    "Log1p": (log1p, []),
    "MulNoNan": (multiply_no_nan, []),
    "SelectV2": (select, []),
}
"""Operations of TensorFlow that tf2onnx has no handler for, or one that fails at infinities."""


def store_as_float16(graph: onnx.ModelProto) -> None:
    """Store every large float32 initializer that float16 holds exactly as float16, followed by a cast.

    ONNX Runtime folds the casts when it opens the file: the arithmetic stays float32.
    """
    kept, casts = [], []
    for tensor in graph.graph.initializer:
        array = numpy_helper.to_array(tensor)
        exact = array.dtype == np.float32 and array.size >= SMALL and bool((array == array.astype(np.float16)).all())
        if not exact:
            kept.append(tensor)
            continue
        stored = f"{tensor.name}_float16"
        kept.append(numpy_helper.from_array(array.astype(np.float16), stored))
        casts.append(
            helper.make_node("Cast", [stored], [tensor.name], name=f"{tensor.name}_cast", to=TensorProto.FLOAT)
        )
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)
    nodes = [*casts, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
