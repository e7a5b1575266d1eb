"""What the passes over an ONNX graph share: looking things up in it, and writing nodes and constants."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper


class NodeWriter:
    """New nodes, in order, for one that goes; each makes one tensor, of its own name.

    Args:
        graph: gets the constants; the nodes are put into it by `set_nodes`.
    """

    def __init__(self, graph: onnx.ModelProto):
        self.graph = graph
        self.nodes: list[NodeProto] = []

    def add(self, operation: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node; returns the name."""
        self.nodes.append(helper.make_node(operation, inputs, [name], name=name, **attributes))
        return name

    def add_constant(self, value: np.ndarray | Sequence[int], name: str) -> str:
        """Add a constant; returns the name."""
        self.graph.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def read_attributes(node: NodeProto) -> dict[str, Any]:
    """Name -> value."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def find_shapes(graph: onnx.ModelProto) -> dict[str, list[int]]:
    """The sizes of each tensor whose rank is known; 0 where they are free."""
    known = onnx.shape_inference.infer_shapes(graph).graph
    values = (*known.value_info, *known.input, *known.output)
    return {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in values}


def set_nodes(graph: onnx.ModelProto, nodes: Sequence[NodeProto]) -> None:
    """Put other nodes into a graph; constants that none of them reads go."""
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.graph.initializer if tensor.name in read]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)
