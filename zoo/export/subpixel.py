"""Transposed convolutions of an ONNX graph as plain ones, one for each phase of the stride (arXiv:1609.07009).

ONNX Runtime multiplies image by image for a transposed convolution and adds up overlapping columns on one thread; its
plain convolutions take the whole batch on all threads, in a channel-blocked layout, and fuse batch norm and ReLU.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

FEWEST_CHANNELS = 16  # that a blocked layout takes (AVX-512); with fewer the transposed convolution is the faster one


def split_transposed_convolutions(graph: onnx.ModelProto) -> None:
    """Replace every transposed convolution that multiplies a map's sides by its stride, where that makes it faster.

    Output row n = stride i + phase sums the kernel rows k with k = phase + padding modulo the stride, each times input
    row i + (phase + padding - k) / stride. So each phase is a convolution of the input with its own rows and columns of
    the kernel: no multiplication more, and every kernel value is stored once, unchanged. What follows value by value
    (batch norm's factors, ReLU) is done in each phase, where ONNX Runtime fuses it.

    Left as they are: those of fewer than `FEWEST_CHANNELS` output channels, and maps of free size.

    Args:
        graph: changed in place; its kernels are initializers.
    """
    arrays = {tensor.name: tensor for tensor in graph.graph.initializer}
    known = onnx.shape_inference.infer_shapes(graph).graph
    shapes = {value.name: value.type.tensor_type.shape for value in (*known.value_info, *known.output)}
    readers = Counter(name for node in graph.graph.node for name in node.input)
    readers.update(value.name for value in graph.graph.output)
    nodes: list[NodeProto] = []
    fused: set[str] = set()  # outputs of nodes that are done in the phases
    for node in graph.graph.node:
        if node.output[0] in fused:
            continue
        sides = [size.dim_value for size in shapes[node.output[0]].dim[2:]] if node.output[0] in shapes else []
        if not (node.op_type == "ConvTranspose" and is_multiplying(node, arrays) and all(sides)):
            nodes.append(node)
            continue
        followers = list(find_followers(graph, node, arrays, readers))
        fused.update(follower.output[0] for follower in followers)
        kernel = numpy_helper.to_array(arrays[node.input[1]])
        nodes += write_phases(graph, node, followers, kernel, sides)
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    unread = set(arrays) - {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.graph.initializer if tensor.name not in unread]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)


def is_multiplying(node: NodeProto, arrays: dict[str, onnx.TensorProto]) -> bool:
    """Whether a transposed convolution of enough channels makes maps of exactly stride times the sides."""
    if node.input[1] not in arrays:
        return False
    _, channels, *kernel = arrays[node.input[1]].dims
    attributes = read_attributes(node)
    strides, pads = attributes.get("strides", [1, 1]), attributes.get("pads", [0, 0, 0, 0])
    plain = (
        attributes.get("group", 1) == 1
        and set(attributes.get("dilations", [1])) == {1}
        and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
        and not {"output_shape", "output_padding"} & set(attributes)
    )
    padding = [begin + end for begin, end in zip(pads[:2], pads[2:], strict=True)] if len(kernel) == 2 else []
    exact = padding == [size - stride for size, stride in zip(kernel, strides, strict=False)] and min(pads) >= 0
    return plain and exact and channels >= FEWEST_CHANNELS


def find_followers(
    graph: onnx.ModelProto, node: NodeProto, arrays: dict[str, onnx.TensorProto], readers: Counter[str]
) -> Iterator[NodeProto]:
    """The nodes after `node`, one reading the other, that treat all pixels alike: ReLU, constants of each channel."""
    output = node.output[0]
    while readers[output] == 1:
        follower = next((other for other in graph.graph.node if output in other.input), None)
        if follower is None or follower.op_type not in ("Add", "Mul", "Relu"):
            return
        constants = [name for name in follower.input if name != output]
        if any(name not in arrays or not has_one_pixel(arrays[name]) for name in constants):
            return
        yield follower
        output = follower.output[0]


def has_one_pixel(tensor: onnx.TensorProto) -> bool:
    """Whether a constant beside NCHW maps holds one value for each channel, or one for all."""
    leading, sides = tensor.dims[:-3], tensor.dims[-2:]
    return set(leading) <= {1} and set(sides) <= {1}


def write_phases(
    graph: onnx.ModelProto, node: NodeProto, followers: Sequence[NodeProto], kernel: np.ndarray, sides: Sequence[int]
) -> list[NodeProto]:
    """The nodes in the place of a transposed convolution and its followers; their constants are added to the graph.

    Args:
        graph: of the nodes.
        node: the transposed convolution.
        followers: what is done to its output, in order.
        kernel: (channels in, channels out, height, width).
        sides: height and width of its output.
    """
    attributes = read_attributes(node)
    (vertical, horizontal), pads = attributes["strides"], attributes["pads"]
    base, channels = node.name or node.output[0], kernel.shape[1]
    nodes: list[NodeProto] = []

    def add(operation: str, inputs: Sequence[str], name: str, **choices: Any) -> str:
        nodes.append(helper.make_node(operation, inputs, [name], name=name, **choices))
        return name

    def add_constant(value: np.ndarray, name: str) -> str:
        graph.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    axes = add_constant(np.array([2, 4], np.int64), f"{base}/axes")
    shape = add_constant(np.array([-1, *sides, channels], np.int64), f"{base}/shape")
    rows = []
    for row in range(vertical):
        columns = []
        for column in range(horizontal):
            name = f"{base}/phase_{row}_{column}"
            (top, bottom, vertical_taps), (left, right, horizontal_taps) = (
                select_taps(row, pads[0], vertical, kernel.shape[2]),
                select_taps(column, pads[1], horizontal, kernel.shape[3]),
            )
            part = kernel[:, :, vertical_taps][:, :, :, horizontal_taps].transpose(1, 0, 2, 3)
            weights = add_constant(np.ascontiguousarray(part), f"{name}/kernel")
            value = add(
                "Conv",
                [node.input[0], weights, *node.input[2:]],
                f"{name}/convolution",
                kernel_shape=part.shape[2:],
                pads=[top, left, bottom, right],
            )
            previous = node.output[0]
            for follower in followers:
                inputs = [value if other == previous else other for other in follower.input]
                value, previous = add(follower.op_type, inputs, f"{name}/{follower.output[0]}"), follower.output[0]
            # Channels last, neighbors interleave in runs of `channels` values and not one by one.
            value = add("Transpose", [value], f"{name}/channels_last", perm=[0, 2, 3, 1])
            # (batch, rows, 1, columns, 1, channels)
            columns.append(add("Unsqueeze", [value, axes], f"{name}/unsqueeze"))
        rows.append(add("Concat", columns, f"{base}/row_{row}", axis=4))
    image = add("Concat", rows, f"{base}/rows", axis=2)
    image = add("Reshape", [image, shape], f"{base}/interleaved")
    output = (followers or [node])[-1].output[0]
    nodes.append(helper.make_node("Transpose", [image], [output], name=f"{base}/channels_first", perm=[0, 3, 1, 2]))
    return nodes


def select_taps(phase: int, padding: int, stride: int, size: int) -> tuple[int, int, list[int]]:
    """Along one axis: zeros before and after the input; the kernel's indices, in the order of the input they meet."""
    taps = [tap for tap in reversed(range(size)) if (phase + padding - tap) % stride == 0]
    first, last = ((phase + padding - tap) // stride for tap in (taps[0], taps[-1]))
    return -first, last, taps


def read_attributes(node: NodeProto) -> dict[str, Any]:
    """Name -> value."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
