"""Functional networks made of others: named outputs, inner features, moving averages."""

from collections.abc import Callable, Mapping, Sequence

import keras


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
