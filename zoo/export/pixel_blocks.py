"""Convolutions to a few channels, such as those that make images, as convolutions to blocks of pixels.

A blocked layout computes at least 16 channels at a time (AVX-512), whatever is needed of them: a kernel of 9x9 to three
channels takes five times what its numbers would. Here one convolution, whose stride is the block's side, makes all the
channels of a block of pixels. Its kernel holds the given one once for each pixel, shifted, and zeros.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from zoo.export.graph import NodeWriter, read_attributes, set_nodes
from zoo.export.subpixel import is_plain

BLOCKED = 16  # channels that are computed at a time
MOST_CHANNELS = 4  # of an image; with more of them little is computed in vain
SIDES = (1, 2, 4)  # of a block, in pixels
PADDINGS = (b"NOTSET", b"SAME_UPPER")  # the latter where maps have free sizes


def make_pixels_in_blocks(graph: onnx.ModelProto) -> None:
    """Replace convolutions to `MOST_CHANNELS` or fewer channels, where blocks take less.

    The values stay the same: what is added is zeros. Numbers that float16 holds stay such, and the kernel stays a plain
    initializer, which quantizers look for.

    Args:
        graph: changed in place; its kernels are initializers.
    """
    arrays = {tensor.name: tensor for tensor in graph.graph.initializer}
    nodes: list[NodeProto] = []
    for node in graph.graph.node:
        constants = [arrays[name] for name in node.input[1:] if name in arrays]
        if node.op_type != "Conv" or len(constants) < len(node.input) - 1 or len(constants[0].dims) != 4:
            nodes.append(node)
            continue
        side = choose_side(node, constants[0].dims)
        nodes += [node] if side == 1 else write_blocks(graph, node, constants, side)
    set_nodes(graph, nodes)


def choose_side(node: NodeProto, kernel: Sequence[int]) -> int:
    """The side of the blocks that take the least time, 1 where single pixels do.

    Args:
        node: a convolution of maps.
        kernel: its shape, (channels out, channels in, height, width).
    """
    attributes = read_attributes(node)
    strides, padding = set(attributes.get("strides", [1])), attributes.pop("auto_pad", b"NOTSET")
    if kernel[0] > MOST_CHANNELS or strides != {1} or padding not in PADDINGS or not is_plain(attributes):
        return 1

    def count_time(side: int) -> float:
        """Multiplications for a pixel; twice as long each where one group of channels leaves units idle."""
        groups = -(-kernel[0] * side**2 // BLOCKED)
        return (kernel[2] + side - 1) * (kernel[3] + side - 1) * groups / side**2 * (1 + 1 / groups)

    return min(SIDES, key=count_time)


def find_padding(node: NodeProto, sizes: Sequence[int]) -> list[int]:
    """Zeros above, to the left, below and to the right of the maps of a convolution with stride 1.

    Args:
        node: the convolution.
        sizes: rows and columns of its kernel.
    """
    attributes = read_attributes(node)
    if attributes.get("auto_pad") == b"SAME_UPPER":
        return [(size - 1) // 2 for size in sizes] + [size // 2 for size in sizes]
    return attributes.get("pads", [0, 0, 0, 0])


def write_blocks(
    graph: onnx.ModelProto, node: NodeProto, constants: Sequence[TensorProto], side: int
) -> list[NodeProto]:
    """The nodes in the place of a convolution; their constants are added to the graph.

    Args:
        graph: of the node.
        node: the convolution.
        constants: its kernel and, where it has one, its bias.
        side: of a block.
    """
    base = node.name or node.output[0]
    writer = NodeWriter(graph)
    kernel, *biases = (numpy_helper.to_array(tensor) for tensor in constants)
    channels_out, channels_in, *sizes = kernel.shape
    enlarged = [size + side - 1 for size in sizes]

    kernels = np.zeros((side, side, channels_out, channels_in, *enlarged), kernel.dtype)
    for row, column in np.ndindex(side, side):
        kernels[row, column, :, :, row : row + sizes[0], column : column + sizes[1]] = kernel
    name = f"{base}/{node.input[1]}"  # the given kernel's says where the numbers come from
    inputs = [node.input[0], writer.add_constant(kernels.reshape(-1, channels_in, *enlarged), name)]
    inputs += [writer.add_constant(np.tile(bias, side**2), f"{base}/bias") for bias in biases]
    top, left, bottom, right = find_padding(node, sizes)
    blocks = writer.add(
        "Conv",
        inputs,
        f"{base}/blocks",
        kernel_shape=enlarged,
        strides=[side, side],
        pads=[top, left, bottom + side - 1, right + side - 1],
    )
    image = writer.add("DepthToSpace", [blocks], f"{base}/image", blocksize=side, mode="DCR")
    # The last blocks may reach beyond the image.
    more = [top + bottom + 1 - sizes[0], left + right + 1 - sizes[1]]
    before = writer.add("Shape", [node.input[0]], f"{base}/sides", start=2)
    ends = writer.add("Add", [before, writer.add_constant(more, f"{base}/more")], f"{base}/ends")
    starts, axes = writer.add_constant([0, 0], f"{base}/starts"), writer.add_constant([2, 3], f"{base}/axes")
    last = helper.make_node("Slice", [image, starts, ends, axes], list(node.output), name=node.name)
    return [*writer.nodes, last]
