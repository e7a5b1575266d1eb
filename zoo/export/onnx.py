"""An ability as an ONNX graph."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from zoo.core.ability import Ability, flat_function
from zoo.export.layout import keep_channels_first, widen_scalars
from zoo.export.pixel_blocks import make_pixels_in_blocks
from zoo.export.subpixel import split_into_phases
from zoo.layers.equalized import Equalized, EqualizedConv2D
from zoo.layers.resampling import EqualizedUpConv2D

OPSET = 18  # the newest that tf2onnx 1.17 writes
UPSAMPLINGS = (keras.layers.UpSampling2D, EqualizedUpConv2D)
SMALLEST_ROUNDED = 64  # values of an initializer; smaller ones stay float32: casting them saves nothing


def write_onnx(ability: Ability, path: Path, *, rounded: bool) -> None:
    """One graph, its free dimensions called as on the card: "batch", "height", "4*height" ...

    Args:
        ability: what to write.
        path: of the file.
        rounded: the weights hold float16 values: store them as such, with a cast to float32 in the graph. Tools that
            quantize or convert a graph look for float32 initializers, and pass over weights behind a cast.

    Raises:
        onnx.checker.ValidationError: the graph is not valid ONNX.
    """
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    ability = replace(ability, network=resize_by_interpolation(ability.network))
    function = tf.function(flat_function(ability), input_signature=ability.signature())
    graph, _ = tf2onnx.convert.from_function(
        function, input_signature=ability.signature(), opset=OPSET, custom_op_handlers=CONVERTERS
    )
    # tf2onnx gives every free dimension a name of its own.
    card = ability.card()
    shapes = {spec.name: spec.shape for spec in (*card.inputs, *card.outputs)}
    for value in (*graph.graph.input, *graph.graph.output):
        for dimension, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            if isinstance(size, str):
                dimension.dim_param = size
    keep_channels_first(graph)
    split_into_phases(graph)
    make_pixels_in_blocks(graph)
    widen_scalars(graph)
    if rounded:
        store_as_float16(graph, scales_of(ability.network))
    graph.producer_name = "generative-zoo"
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(path))


def resize_by_interpolation(network: keras.Model) -> keras.Model:
    """The same network with nearest upsampling as one operation: Keras writes it as repeats, ten nodes of a graph.

    Before an equalized convolution, too, which computes both as one: its kernel's sums would be constants of the graph,
    nearly twice as many numbers, and none that float16 holds.
    """

    def call(layer: keras.layers.Layer, *arguments: Any, **options: Any) -> Any:
        if not isinstance(layer, UPSAMPLINGS) or None in arguments[0].shape[1:3]:  # of free size: Keras' form
            return layer(*arguments, **options)
        if isinstance(layer, EqualizedUpConv2D):
            plain = EqualizedConv2D.from_config(layer.get_config())
            plain.build(arguments[0].shape)
            plain.set_weights(layer.get_weights())
            return plain(enlarge(arguments[0], (2, 2)))
        if isinstance(layer, keras.layers.UpSampling2D) and layer.interpolation == "nearest":
            return enlarge(arguments[0], layer.size)
        return layer(*arguments, **options)

    if not any(isinstance(layer, UPSAMPLINGS) for layer in network._flatten_layers()):
        return network
    return keras.models.clone_model(network, clone_function=lambda layer: layer, call_function=call, recursive=True)


def enlarge(maps: keras.KerasTensor, factors: tuple[int, int]) -> keras.KerasTensor:
    """Nearest upsampling of maps, (batch, height, width, channels), as one operation."""
    sides = tuple(factor * side for factor, side in zip(factors, maps.shape[1:3], strict=True))
    return keras.ops.image.resize(maps, sides, interpolation="nearest")


def convert_expm1(context: Any, node: Any, name: str, arguments: Any) -> None:
    """e^x - 1 = (e^x + 1) tanh(x / 2), which keeps its digits near 0."""
    (x,), (half, one) = node.input, make_constants(context, name, 0.5, 1.0)
    tanh = make_node(context, "Tanh", make_node(context, "Mul", x, half))
    replace_node(context, node, "Mul", tanh, make_node(context, "Add", make_node(context, "Exp", x), one))


def convert_log1p(context: Any, node: Any, name: str, arguments: Any) -> None:
    """log(1 + x) = 2 artanh(x / (2 + x)), which keeps its digits near 0; as it stands from 1 on."""
    (x,), (one, two) = node.input, make_constants(context, name, 1.0, 2.0)
    artanh = make_node(context, "Atanh", make_node(context, "Div", x, make_node(context, "Add", x, two)))
    large = make_node(context, "Log", make_node(context, "Add", x, one))
    replace_node(
        context, node, "Where", make_node(context, "Less", x, one), make_node(context, "Mul", artanh, two), large
    )


def convert_multiply_no_nan(context: Any, node: Any, name: str, arguments: Any) -> None:
    """x y, and 0 where y is, whatever x is."""
    (x, y), (zero,) = node.input, make_constants(context, name, 0.0)
    replace_node(context, node, "Where", make_node(context, "Equal", y, zero), zero, make_node(context, "Mul", x, y))


def convert_select(context: Any, node: Any, name: str, arguments: Any) -> None:
    """As it stands: tf2onnx multiplies both sides by 0 or 1 and adds, which makes NaN of an infinity not chosen."""
    replace_node(context, node, "Where", *node.input)


def convert_floor_mod(context: Any, node: Any, name: str, arguments: Any) -> None:
    """With the sign of the divisor, as TensorFlow has it: tf2onnx gives integers that of the dividend."""
    x, y = node.input
    if is_integer(context, x):
        replace_node(context, node, "Mod", x, y)
    else:
        quotient = make_node(context, "Floor", make_node(context, "Div", x, y))
        replace_node(context, node, "Sub", x, make_node(context, "Mul", quotient, y))


def convert_floor_div(context: Any, node: Any, name: str, arguments: Any) -> None:
    """Rounded down, as TensorFlow has it: tf2onnx rounds integers toward 0."""
    x, y = node.input
    if is_integer(context, x):
        replace_node(context, node, "Div", make_node(context, "Sub", x, make_node(context, "Mod", x, y)), y)
    else:
        replace_node(context, node, "Floor", make_node(context, "Div", x, y))


def is_integer(context: Any, name: str) -> bool:
    """Whether a tensor of the graph holds integers."""
    return bool(np.issubdtype(helper.tensor_dtype_to_np_dtype(context.get_dtype(name)), np.integer))


def convert_resize_nearest(context: Any, node: Any, name: str, arguments: Any) -> None:
    """By the ratio of the sides, in the one form that ONNX Runtime runs in a channel-blocked layout."""
    before, after = context.get_shape(node.input[0]), context.get_shape(node.output[0])
    scales = np.array([1, 1, after[1] / before[1], after[2] / before[2]], np.float32)
    choices = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    channels_first = context.make_node("Transpose", [node.input[0]], attr={"perm": [0, 3, 1, 2]}).output[0]
    inputs = [channels_first, "", context.make_const(f"{name}_scales", scales).output[0]]
    larger = context.make_node("Resize", inputs, attr=choices).output[0]
    replace_node(context, node, "Transpose", larger, perm=[0, 2, 3, 1])


def make_constants(context: Any, name: str, *values: float) -> list[str]:
    """Add float32 scalars to the graph; returns their names, which begin with `name`."""
    return [context.make_const(f"{name}_{value}", np.float32(value)).output[0] for value in values]


def make_node(context: Any, operation: str, *inputs: str) -> str:
    """Add a node to the graph; returns the name of its output."""
    return context.make_node(operation, list(inputs)).output[0]


def replace_node(context: Any, node: Any, operation: str, *inputs: str, **attributes: Any) -> None:
    """Put a node in the place of `node`, under its name and with its output."""
    (output,) = node.output
    dtypes, shapes = [context.get_dtype(output)], [context.get_shape(output)]
    context.remove_node(node.name)
    context.make_node(
        operation, list(inputs), attributes, name=node.name, outputs=[output], dtypes=dtypes, shapes=shapes
    )


CONVERTERS: dict[str, tuple[Callable[..., None], list[Any]]] = {
    "Expm1": (convert_expm1, []),
    "FloorDiv": (convert_floor_div, []),
    "FloorMod": (convert_floor_mod, []),
    "Log1p": (convert_log1p, []),
    "MulNoNan": (convert_multiply_no_nan, []),
    "ResizeNearestNeighbor": (convert_resize_nearest, []),
    "SelectV2": (convert_select, []),
}
"""Operations of TensorFlow that tf2onnx has no converter for, or one that fails at infinities or negative integers.

tf2onnx calls each with (context, node, name, arguments): `context` is the graph that it writes, `node` what to convert.
"""


def scales_of(network: keras.Model) -> list[np.float32]:
    """What layers with an equalized learning rate multiply their kernels by, which tf2onnx does once, beforehand."""
    layers = network._flatten_layers()
    return sorted({np.float32(layer.scale) for layer in layers if isinstance(layer, Equalized)})


def store_as_float16(graph: onnx.ModelProto, scales: Sequence[np.float32] = ()) -> None:
    """Store every large float32 initializer that float16 holds exactly as float16, followed by a cast.

    ONNX Runtime folds the casts when it opens the file: the arithmetic stays float32.

    Args:
        graph: changed in place.
        scales: an initializer that is one of these numbers times what float16 holds is stored as that, too, and
            multiplied behind the cast.
    """
    initializers, nodes = [], []
    for tensor in graph.graph.initializer:
        array = numpy_helper.to_array(tensor)
        factor = None
        if array.dtype == np.float32 and array.size >= SMALLEST_ROUNDED:
            factor = next((scale for scale in (np.float32(1), *scales) if holds_exactly(array, scale)), None)
        if factor is None:
            initializers.append(tensor)
            continue
        stored, cast = f"{tensor.name}_float16", tensor.name if factor == 1 else f"{tensor.name}_unscaled"
        initializers.append(numpy_helper.from_array((array / factor).astype(np.float16), stored))
        nodes.append(helper.make_node("Cast", [stored], [cast], name=f"{tensor.name}_cast", to=TensorProto.FLOAT))
        if factor != 1:
            initializers.append(numpy_helper.from_array(np.asarray(factor), f"{tensor.name}_scale"))
            inputs = [cast, f"{tensor.name}_scale"]
            nodes.append(helper.make_node("Mul", inputs, [tensor.name], name=f"{tensor.name}_scaled"))
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(initializers)
    nodes += graph.graph.node  # ONNX wants a value's node before those that read it
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


def holds_exactly(array: np.ndarray, scale: np.float32) -> bool:
    """Whether an array, float32, is `scale` times what float16 holds."""
    with np.errstate(over="ignore"):  # what is too large for float16 does not come back
        return bool(((array / scale).astype(np.float16).astype(np.float32) * scale == array).all())
