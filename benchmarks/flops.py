"""Floating-point operations of a train step: what convolutions and dense layers need, counted from the networks.

A multiply-add is two operations. A layer costs the same in each of its three passes: forward, its gradient by its
weights and its gradient by its input. A convolution is counted at every position of its output, a transposed one at
every position of its input, the padding's zeros included. What is no product of matrices (normalization, activations,
optimizers) is left out, and so are the power iterations of spectral norm, which do not grow with the batch.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from benchmarks.models import Passes
from zoo.layers.spectral_norm import SpectralNorm

IMAGE = "the network's input"
PRODUCTS = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.Conv2DTranspose)


@dataclass(frozen=True)
class LayerCount:
    """One layer: FLOPs of one of its passes for one row, and where it stands.

    Args:
        name: the layer's.
        flops: of its forward pass, of one row.
        first: whether no such layer comes before it: it is given the network's input, by which it needs no gradient
            unless the network's input does.
        last: whether no such layer comes after it.
    """

    name: str
    flops: int
    first: bool
    last: bool


def network_flops(network: keras.Model, passes: Passes) -> int:
    """FLOPs of so many passes of one row through a functional network."""
    layers = count_layers(network)
    return (
        (passes.forward + passes.by_weights + passes.by_image) * total(layers)
        + passes.by_input * total(layers, first=False)
        + passes.gradient_penalty * penalty_flops(layers)
    )


def penalty_flops(layers: Sequence[LayerCount]) -> int:
    """FLOPs of a penalty on the gradient of a critic by one image, and of the penalty's gradient by the weights.

    The critic's layers have a normalization between each two, whose second derivative is not zero; its activations
    are piecewise linear.
    """
    penalty = total(layers) + total(layers)  # forward, and the gradient by the image
    # That gradient is a chain of products with the weights, from the last layer, which is given ones, to the first.
    of_chain = total(layers) + total(layers, last=False)  # by each link's weights, by what it is given
    # Through the normalizations' statistics it depends on the forward pass of all layers but the last as well.
    of_forward = total(layers, last=False) + total(layers, first=False, last=False)  # by weights, by input
    return penalty + of_chain + of_forward


def total(layers: Sequence[LayerCount], first: bool = True, last: bool = True) -> int:
    """FLOPs of one pass of the layers, with or without the first ones and the last ones."""
    return sum(layer.flops for layer in layers if (first or not layer.first) and (last or not layer.last))


def count_layers(network: keras.Model) -> list[LayerCount]:
    """The convolutions and dense layers of a functional network, but look-ups: a dense layer of a one-hot class."""
    layers = [layer for layer in network.layers if isinstance(unwrap(layer), PRODUCTS)]
    sources = {layer.name: set(find_sources(layer.input)) for layer in layers}
    followed = set().union(*sources.values())
    return [
        LayerCount(layer.name, layer_flops(layer), IMAGE in sources[layer.name], layer.name not in followed)
        for layer in layers
        if sources[layer.name]
    ]


def find_sources(tensor: Any) -> Iterator[str]:
    """Names of the nearest layers with a kernel before `tensor`; `IMAGE` for a network's input that is no class."""
    operation, node, _ = tensor._keras_history
    if isinstance(operation, keras.layers.InputLayer):
        if tensor.dtype != "int32":
            yield IMAGE
    elif isinstance(unwrap(operation), PRODUCTS):
        yield operation.name
    else:
        for given in operation._inbound_nodes[node].input_tensors:
            yield from find_sources(given)


def layer_flops(layer: Any) -> int:
    """FLOPs of one row's forward pass: two for each number of the kernel at each position of the maps."""
    kind = unwrap(layer)
    maps = layer.input if isinstance(kind, keras.layers.Conv2DTranspose) else layer.output
    return 2 * math.prod(kind.kernel.shape) * math.prod(maps.shape[1:-1])


def unwrap(layer: Any) -> Any:
    """The layer within `SpectralNorm`, or the layer itself."""
    return layer.layer if isinstance(layer, SpectralNorm) else layer
