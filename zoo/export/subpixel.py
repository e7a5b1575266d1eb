"""Convolutions that enlarge maps, as one small convolution for each phase of the factor (arXiv:1609.05158, 1609.07009).

ONNX Runtime multiplies image by image for a transposed convolution and adds up overlapping columns on one thread; its
plain convolutions take the whole batch on all threads, in a channel-blocked layout, and fuse batch norm and ReLU. A
convolution of a map enlarged by nearest neighbors multiplies each pixel by several numbers of a kernel one after the
other; a phase's convolution multiplies it by their sum.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from zoo.export.graph import NodeWriter, find_shapes, read_attributes, set_nodes

FEWEST_CHANNELS = 16  # that a blocked layout takes (AVX-512); with fewer the undivided convolution is the faster one


@dataclass(frozen=True)
class Axis:
    """One phase along one axis: output position factor i + phase is a convolution at the input's position i.

    Args:
        taps: (rows of the phase's kernel, rows of the whole kernel): 1 where the one is summed from the other.
        before: zeros before the input.
        after: zeros after it.
    """

    taps: np.ndarray
    before: int
    after: int


@dataclass(frozen=True)
class Enlarging:
    """A convolution that enlarges maps, and what its phases need.

    Args:
        node: the convolution.
        source: name of the maps that it enlarges.
        kernel: (channels out, channels in, height, width).
        replaced: nodes that go: the convolution, and the upsampling before it.
        rows: one for each phase of the rows.
        columns: one for each phase of the columns.
    """

    node: NodeProto
    source: str
    kernel: np.ndarray
    replaced: Sequence[NodeProto]
    rows: Sequence[Axis]
    columns: Sequence[Axis]


@dataclass(frozen=True)
class Index:
    """What is looked up in a graph: `arrays`, initializers by name; `writers`, nodes by output; `readers`, counts."""

    arrays: Mapping[str, TensorProto]
    writers: Mapping[str, NodeProto]
    readers: Mapping[str, int]


def split_into_phases(graph: onnx.ModelProto) -> None:
    """Replace convolutions that multiply a map's sides, where their phases are faster and give the same values.

    These are transposed convolutions (a multiplication for each of the original's) and convolutions of maps that are
    enlarged by nearest neighbors (fewer: 4 taps for 9 where a 3x3 kernel reads a doubled map). What follows value by
    value (batch norm's factors, ReLU) is done in each phase, where ONNX Runtime fuses it. A kernel's numbers are stored
    once, unchanged; sums of them are made when a session is opened.

    Left as they are: those of fewer than `FEWEST_CHANNELS` output channels, and maps of free size.

    Args:
        graph: changed in place; its kernels are initializers.
    """
    readers = Counter(name for node in graph.graph.node for name in node.input)
    readers.update(value.name for value in graph.graph.output)
    index = Index(
        {tensor.name: tensor for tensor in graph.graph.initializer},
        {name: node for node in graph.graph.node for name in node.output},
        readers,
    )
    shapes = find_shapes(graph)
    replacements: dict[str, list[NodeProto]] = {}  # by the output of the convolution
    gone: set[str] = set()
    for node in graph.graph.node:
        enlarging = FINDERS[node.op_type](node, index) if node.op_type in FINDERS else None
        sides = shapes.get(node.output[0], [])[2:]
        if enlarging is None or len(enlarging.kernel) < FEWEST_CHANNELS or not sides or not all(sides):
            continue
        followers = list(find_followers(graph, node, index))
        gone.update(other.output[0] for other in (*enlarging.replaced, *followers))
        replacements[node.output[0]] = write_phases(graph, enlarging, followers, sides)
    nodes = [
        each
        for node in graph.graph.node
        for each in replacements.get(node.output[0], [] if node.output[0] in gone else [node])
    ]
    set_nodes(graph, nodes)


def find_transposed(node: NodeProto, index: Index) -> Enlarging | None:
    """A transposed convolution that makes maps of exactly stride times the sides.

    Output row n = stride i + phase sums the kernel rows k with k = phase + padding modulo the stride, each times input
    row i + (phase + padding - k) / stride.
    """
    if node.input[1] not in index.arrays or len(index.arrays[node.input[1]].dims) != 4:
        return None
    kernel = numpy_helper.to_array(index.arrays[node.input[1]]).transpose(1, 0, 2, 3)
    attributes = read_attributes(node)
    strides, pads = attributes.get("strides", [1, 1]), attributes.get("pads", [0, 0, 0, 0])
    padding = [begin + end for begin, end in zip(pads[:2], pads[2:], strict=True)]
    exact = padding == [size - stride for size, stride in zip(kernel.shape[2:], strides, strict=True)]
    if not (is_plain(attributes) and exact and min(pads) >= 0):
        return None

    def axis(number: int) -> list[Axis]:
        size, stride, padding = kernel.shape[2 + number], strides[number], pads[number]
        positions = [
            {tap: (phase + padding - tap) // stride for tap in range(size) if (phase + padding - tap) % stride == 0}
            for phase in range(stride)
        ]
        return [make_axis(each, size) for each in positions]

    return Enlarging(node, node.input[0], kernel, [node], axis(0), axis(1))


def find_upsampled(node: NodeProto, index: Index) -> Enlarging | None:
    """A convolution, of stride 1 and the size of its maps, of what nearest neighbors alone enlarged for it.

    Output row n = factor i + phase reads enlarged row n + k - padding by kernel row k: input row
    i + floor((phase + k - padding) / factor).
    """
    resize, attributes = index.writers.get(node.input[0]), read_attributes(node)
    if resize is None or resize.op_type != "Resize" or index.readers[node.input[0]] > 1:
        return None
    choices = read_attributes(resize)
    neighbors = [choices.get(key) for key in ("mode", "coordinate_transformation_mode", "nearest_mode")]
    scales = index.arrays.get(resize.input[2]) if len(resize.input) == 3 else None
    if neighbors != [b"nearest", b"asymmetric", b"floor"] or scales is None or node.input[1] not in index.arrays:
        return None
    batch, channels, *factors = numpy_helper.to_array(scales).tolist()
    kernel, pads = numpy_helper.to_array(index.arrays[node.input[1]]), attributes.get("pads", [0, 0, 0, 0])
    whole = [batch, channels] == [1, 1] and all(factor >= 1 and factor == int(factor) for factor in factors)
    padding = [begin + end + 1 for begin, end in zip(pads[:2], pads[2:], strict=True)]
    same = padding == list(kernel.shape[2:]) and set(attributes.get("strides", [1])) == {1} and min(pads) >= 0
    if not (whole and same and is_plain(attributes)):
        return None

    def axis(number: int) -> list[Axis]:
        size, factor, padding = kernel.shape[2 + number], int(factors[number]), pads[number]
        return [
            make_axis({tap: (phase + tap - padding) // factor for tap in range(size)}, size) for phase in range(factor)
        ]

    return Enlarging(node, resize.input[0], kernel, [resize, node], axis(0), axis(1))


FINDERS: dict[str, Callable[[NodeProto, Index], Enlarging | None]] = {
    "ConvTranspose": find_transposed,
    "Conv": find_upsampled,
}


def is_plain(attributes: Mapping[str, Any]) -> bool:
    """Whether a convolution has neither groups nor dilations, and its padding is written out."""
    return (
        attributes.get("group", 1) == 1
        and set(attributes.get("dilations", [1])) == {1}
        and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
        and not {"output_shape", "output_padding"} & set(attributes)
    )


def make_axis(positions: Mapping[int, int], size: int) -> Axis:
    """From the input's position, relative to i, that each row of the kernel meets.

    Args:
        positions: row of the kernel -> position.
        size: rows of the kernel.
    """
    first, last = min(positions.values()), max(positions.values())
    taps = np.zeros((last - first + 1, size), np.float32)
    for tap, position in positions.items():
        taps[position - first, tap] = 1.0
    return Axis(taps, -first, last)


def find_followers(graph: onnx.ModelProto, node: NodeProto, index: Index) -> Iterator[NodeProto]:
    """The nodes after `node`, one reading the other, that treat all pixels alike: ReLU, constants of each channel."""
    output = node.output[0]
    while index.readers[output] == 1:
        follower = next((other for other in graph.graph.node if output in other.input), None)
        if follower is None or follower.op_type not in ("Add", "Mul", "Relu"):
            return
        constants = [name for name in follower.input if name != output]
        if any(name not in index.arrays or not has_one_pixel(index.arrays[name]) for name in constants):
            return
        yield follower
        output = follower.output[0]


def has_one_pixel(tensor: TensorProto) -> bool:
    """Whether a constant beside NCHW maps holds one value for each channel, or one for all."""
    leading, sides = tensor.dims[:-3], tensor.dims[-2:]
    return set(leading) <= {1} and set(sides) <= {1}


def write_phases(
    graph: onnx.ModelProto, enlarging: Enlarging, followers: Sequence[NodeProto], sides: Sequence[int]
) -> list[NodeProto]:
    """The nodes in the place of a convolution and its followers; their constants are added to the graph.

    Args:
        graph: of the nodes.
        enlarging: the convolution.
        followers: what is done to its output, in order.
        sides: height and width of its output.
    """
    node, kernel = enlarging.node, enlarging.kernel
    base = node.name or node.output[0]
    writer = NodeWriter(graph)

    # Each number of the kernel in one phase, as in a transposed convolution.
    is_divided = all(
        sum(np.count_nonzero(axis.taps) for axis in axes) == size
        for axes, size in zip((enlarging.rows, enlarging.columns), kernel.shape[2:], strict=True)
    )

    def add_kernel(row: Axis, column: Axis, name: str) -> str:
        if is_divided:
            rows, columns = row.taps.argmax(axis=1), column.taps.argmax(axis=1)
            return writer.add_constant(kernel[:, :, rows][:, :, :, columns], f"{name}/kernel")
        # Sums have more digits than float16, and there are more of them: the kernel is stored, not they.
        right = writer.add_constant(column.taps.T, f"{name}/columns")
        across = writer.add("MatMul", [node.input[1], right], f"{name}/across")
        return writer.add("MatMul", [writer.add_constant(row.taps, f"{name}/rows"), across], f"{name}/kernel")

    axes = writer.add_constant(np.array([2, 4], np.int64), f"{base}/axes")
    shape = writer.add_constant(np.array([-1, *sides, len(kernel)], np.int64), f"{base}/shape")
    rows = []
    for row_number, row in enumerate(enlarging.rows):
        columns = []
        for column_number, column in enumerate(enlarging.columns):
            name = f"{base}/phase_{row_number}_{column_number}"
            value = writer.add(
                "Conv",
                [enlarging.source, add_kernel(row, column, name), *node.input[2:]],
                f"{name}/convolution",
                kernel_shape=[len(row.taps), len(column.taps)],
                pads=[row.before, column.before, row.after, column.after],
            )
            previous = node.output[0]
            for follower in followers:
                inputs = [value if other == previous else other for other in follower.input]
                previous = follower.output[0]
                value = writer.add(follower.op_type, inputs, f"{name}/{previous}")
            # Channels last, neighbors interleave in runs of as many values as there are channels, and not one by one.
            value = writer.add("Transpose", [value], f"{name}/channels_last", perm=[0, 2, 3, 1])
            # (batch, rows, 1, columns, 1, channels)
            columns.append(writer.add("Unsqueeze", [value, axes], f"{name}/unsqueeze"))
        rows.append(writer.add("Concat", columns, f"{base}/row_{row_number}", axis=4))
    image = writer.add("Concat", rows, f"{base}/rows", axis=2)
    image = writer.add("Reshape", [image, shape], f"{base}/interleaved")
    output = (followers or [node])[-1].output[0]
    last = helper.make_node("Transpose", [image], [output], name=f"{base}/channels_first", perm=[0, 3, 1, 2])
    return [*writer.nodes, last]
