"""Functional networks made of others: named outputs, inner features, moving averages."""

from collections.abc import Callable, Mapping, Sequence

import keras
from keras import ops


def named_network(inputs: Sequence[keras.KerasTensor], outputs: Mapping[str, keras.KerasTensor]) -> keras.Model:
    """A functional network whose outputs go by these names."""
    return keras.Model(inputs, [keras.layers.Identity(name=name)(tensor) for name, tensor in outputs.items()])


def with_ema(
    live: keras.Model, build: Callable[..., keras.Model], decay: float | None
) -> tuple[keras.Model, dict[str, tuple[keras.Model, keras.Model]]]:
    """The network that is sampled and exported, and the `ema` that `GenerativeModel.setup` takes.

    Args:
        live: the network that learns.
        build: what built it; called with the name of another.
        decay: of its moving average; None where `live` itself is exported.
    """
    if decay is None:
        return live, {}
    average = build(name=f"{live.name}_ema")
    return average, {live.name: (live, average)}


def with_features(network: keras.Model, last: str) -> keras.Model:
    """The same network with one output more, the first: what its layer `last` is given."""
    return keras.Model(network.input, [network.get_layer(last).input, *network.outputs])


def with_image_in_range(network: keras.Model, name: str = "image") -> keras.Model:
    """The same network, its output `name` limited to [-1, 1], which a linear last layer does not promise."""
    inputs = [keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name) for tensor in network.inputs]
    image = network(inputs if len(inputs) > 1 else inputs[0])
    return named_network(inputs, {name: ops.clip(image, -1.0, 1.0)})
