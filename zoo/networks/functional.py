"""Functional networks made of others: named outputs, inner features, moving averages."""

from collections.abc import Callable, Mapping, Sequence

import keras


def named_network(inputs: Sequence[keras.KerasTensor], outputs: Mapping[str, keras.KerasTensor]) -> keras.Model:
    """A functional network whose outputs go by these names."""
    return keras.Model(inputs, [keras.layers.Identity(name=name)(tensor) for name, tensor in outputs.items()])


def averaged(
    live: keras.Model, build: Callable[..., keras.Model], ema_decay: float | None
) -> tuple[keras.Model, dict[str, tuple[keras.Model, keras.Model]]]:
    """The network that is sampled and exported, and the averages that `setup` takes.

    Args:
        live: the network that learns.
        build: what built it; called with the name of another.
        ema_decay: None where `live` itself is exported.
    """
    if ema_decay is None:
        return live, {}
    average = build(name=f"{live.name}_average")
    return average, {live.name: (live, average)}


def with_features(judge: keras.Model, last: str) -> keras.Model:
    """The same network, giving first what its layer `last` is given, then all that it gives by itself."""
    return keras.Model(judge.input, [judge.get_layer(last).input, *judge.outputs])
