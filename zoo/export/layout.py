"""Value-by-value operations, in the shapes that ONNX Runtime broadcasts fast.

TensorFlow's maps have their channels last. tf2onnx writes a transpose before and after each convolution and takes away
those between two of them, as long as nothing of another shape is added or multiplied there: a style's scale for each
channel, or noise for each pixel. ONNX Runtime broadcasts such along the last axis: of 16 channels slowly, of a row of
pixels fast.
"""

from collections.abc import Sequence

import onnx
from onnx import NodeProto, numpy_helper

from zoo.export.graph import NodeWriter, find_shapes, read_attributes, set_nodes

TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
VALUE_BY_VALUE = ("Add", "Div", "LeakyRelu", "Mul", "Relu", "Sub", "Tanh")
BROADCASTING = ("Add", "Div", "Max", "Min", "Mul", "Sub")


def keep_channels_first(graph: onnx.ModelProto) -> None:
    """Compute with channels first what is transposed to that, where it is made of such maps and of smaller tensors.

    Args:
        graph: changed in place; no value of its outputs changes.
    """
    writer = ChannelsFirst(graph)
    renamed: dict[str, str] = {}
    outputs = {value.name for value in graph.graph.output}
    nodes: list[NodeProto] = []
    for node in graph.graph.node:
        is_to_first = is_transpose(node, TO_FIRST) and node.output[0] not in outputs
        source = writer.find(node.input[0]) if is_to_first else None
        added = writer.take() if source is not None else []
        for each in (*added, node):
            each.input[:] = [renamed.get(name, name) for name in each.input]
        nodes += added
        if source is None:
            nodes.append(node)
        else:
            renamed[node.output[0]] = renamed.get(source, source)
    read, kept = set(outputs), []
    for node in reversed(nodes):
        if read & set(node.output):
            read |= set(node.input)
            kept.append(node)
    set_nodes(graph, kept[::-1])


def widen_scalars(graph: onnx.ModelProto) -> None:
    """Give scalars beside tensors whose last size is 1 two axes of size 1.

    ONNX Runtime goes through such a tensor value by value where a scalar has fewer: for maps of one channel that takes
    forty times as long. No value changes.

    Args:
        graph: changed in place.
    """
    scalars = {tensor.name: tensor for tensor in graph.graph.initializer if len(tensor.dims) < 2}
    scalars = {name: tensor for name, tensor in scalars.items() if set(tensor.dims) <= {1}}
    shapes, added, writer = find_shapes(graph), set(), NodeWriter(graph)
    for node in graph.graph.node:
        beside = [shapes.get(name, []) for name in node.input if name not in scalars]
        if node.op_type not in BROADCASTING or not any(len(shape) > 1 and shape[-1] == 1 for shape in beside):
            continue
        for position, name in enumerate(node.input):
            if name in scalars:
                node.input[position] = wide = f"{name}/wide"
                if wide not in added:
                    writer.add_constant(numpy_helper.to_array(scalars[name]).reshape(1, 1), wide)
                    added.add(wide)
    set_nodes(graph, list(graph.graph.node))


class ChannelsFirst:
    """Tensors of a graph with their channels first, each made once.

    Args:
        graph: gets constants; the nodes that make the tensors are handed out by `take`.
    """

    def __init__(self, graph: onnx.ModelProto):
        self.made = NodeWriter(graph)
        self.arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
        self.writers = {name: node for node in graph.graph.node for name in node.output}
        self.shapes = find_shapes(graph)
        self.found: dict[str, str | None] = {}

    def take(self) -> list[NodeProto]:
        """The nodes that were made since the last call, in order."""
        nodes, self.made.nodes = self.made.nodes, []
        return nodes

    def find(self, name: str) -> str | None:
        """The name of a tensor, (batch, height, width, channels), with its channels first; None where it stays."""
        if name not in self.found:
            self.found[name] = self.make(name)
        return self.found[name]

    def make(self, name: str) -> str | None:
        """As `find`, of a tensor that was not asked for before."""
        node, shape, first = self.writers.get(name), self.shapes.get(name, []), f"{name}/channels_first"
        if name in self.arrays:
            return self.make_constant(name)
        if node is not None and is_transpose(node, TO_LAST):
            return node.input[0]
        if node is not None and node.op_type in VALUE_BY_VALUE:
            found = [self.find(each) for each in (self.add_in_turn(node) or node.input)]
            inputs = [each for each in found if each is not None]
            if len(inputs) == len(found):
                return self.made.add(node.op_type, inputs, first, **read_attributes(node))
        if len(shape) == 4 and (shape[1:3] == [1, 1] or shape[3] == 1):  # no more than a view of other sizes
            return self.made.add("Transpose", [name], first, perm=TO_FIRST)
        return None

    def add_in_turn(self, node: NodeProto) -> list[str] | None:
        """The terms of maps + (noise + bias) as those of (maps + bias) + noise, whose sums all are in place."""
        if node.op_type != "Add":
            return None
        for maps, sum_name in (node.input, node.input[::-1]):
            inner = self.writers.get(sum_name)
            if inner is None or inner.op_type != "Add":
                continue
            for noise, bias in (inner.input, inner.input[::-1]):
                is_ours = bias in self.arrays and self.shapes.get(noise, [])[3:] == [1]
                if is_ours and (first_maps := self.find(maps)) and (first_bias := self.find(bias)):
                    first = self.made.add("Add", [first_maps, first_bias], f"{maps}/plus/{bias}")
                    self.found[first] = first
                    return [first, noise]
        return None

    def make_constant(self, name: str) -> str:
        """A constant that is added to maps, or multiplied with them."""
        array = self.arrays[name]
        if array.size == 1:
            return name
        wide = array.reshape((1,) * (4 - array.ndim) + array.shape).transpose(TO_FIRST)
        return self.made.add_constant(wide, f"{name}/channels_first")


def is_transpose(node: NodeProto, order: Sequence[int]) -> bool:
    """Whether a node transposes so."""
    return node.op_type == "Transpose" and read_attributes(node).get("perm") == list(order)
