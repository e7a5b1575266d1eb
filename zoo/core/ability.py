"""`Ability`: one thing a model can do once exported, as a network with what feeds it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf
from msgspec import UNSET

from serving.card import Ability as AbilityCard
from serving.card import Feed, Input, Iteration, Kind, Output, Support
from zoo.core.types import Tensor


@dataclass(frozen=True, eq=False)
class Ability:
    """One exported graph.

    Args:
        network: functional, float32, with named inputs and outputs and no random op.
        feeds: what feeds each input, by name (`serving.card.Input.feed`).
        kinds: what each output is, by name (`serving.card.Output.kind`).
        ranges: value range of an input or output, by name, where it is bounded.
        classes: names of the classes, by number, of each input that is a label.
        supports: of each output that is a log_prob, by name: what its likelihood is of (`serving.card.Output.support`).
        scale: how many times as high and wide as the input an image of free size comes out.
        iteration: how the network is repeated to draw samples, where it is a step of a sampler.
        estimators: of a log_prob that is an estimate, by name: what it rests on (`serving.card.Output.estimator`).
    """

    network: keras.Model
    feeds: Mapping[str, Feed]
    kinds: Mapping[str, Kind]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    supports: Mapping[str, Support] = field(default_factory=dict)
    scale: int = 1
    iteration: Iteration | None = None
    estimators: Mapping[str, str] = field(default_factory=dict)

    def card(self, file: str | None = None) -> AbilityCard:
        """The same as plain data, for card.json."""
        inputs = tuple(
            Input(
                tensor.name,
                tensor.dtype,
                name_free_dimensions(tensor.shape),
                self.feeds[tensor.name],
                self.ranges.get(tensor.name),
                tuple(self.classes.get(tensor.name, ())),
            )
            for tensor in self.network.inputs
        )
        outputs = tuple(
            Output(
                name,
                tensor.dtype,
                name_free_dimensions(tensor.shape, self.scale if self.kinds[name] == "image" else 1),
                self.kinds[name],
                self.ranges.get(name),
                layout="NHWC" if self.kinds[name] == "image" else None,
                support=self.supports.get(name),
                estimator=self.estimators.get(name, ""),
            )
            for name, tensor in zip(self.output_names, self.network.outputs, strict=True)
        )
        return AbilityCard(inputs, outputs, file, self.iteration or UNSET)

    @property
    def output_names(self) -> list[str]:
        """Names of the network's outputs: those of the layers that make them."""
        return list(self.network.output_names)

    def __call__(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by input name -> tensors by output name, in inference mode."""
        tensors = [feeds[tensor.name] for tensor in self.network.inputs]
        outputs = self.network(tensors if len(tensors) > 1 else tensors[0], training=False)
        return dict(zip(self.output_names, keras.tree.flatten(outputs), strict=True))

    def signature(self) -> list[tf.TensorSpec]:
        """The inputs, with a free batch dimension."""
        return [tf.TensorSpec(tensor.shape, tensor.dtype, name=tensor.name) for tensor in self.network.inputs]


def name_free_dimensions(shape: Sequence[int | None], scale: int = 1) -> tuple[int | str, ...]:
    """A Keras shape with its free dimensions named: the first is the batch, then height and width, `scale` times."""
    factor = f"{scale}*" if scale > 1 else ""
    names = ("batch", f"{factor}height", f"{factor}width")
    return tuple(names[axis] if size is None else size for axis, size in enumerate(shape))


def flat_function(ability: Ability) -> Any:
    """The ability as a function of its inputs in order, as signatures want it."""
    names = [spec.name for spec in ability.signature()]
    return lambda *tensors: ability(dict(zip(names, tensors, strict=True)))


def generate_ability(network: keras.Model, prior: Feed, classes: Sequence[str] = ()) -> Ability:
    """The ability of a generator: latent, and label where there are classes, -> image in [-1, 1].

    Args:
        network: with the inputs "latent" and, of a conditional generator, "label", and the output "image".
        prior: of the latent, "normal" or "uniform" in [-1, 1).
        classes: their names, by number.
    """
    feeds: dict[str, Feed] = {"latent": prior}
    ranges = {"image": (-1.0, 1.0)}
    if prior == "uniform":
        ranges["latent"] = (-1.0, 1.0)
    if classes:
        feeds["label"] = "label"
    return Ability(network, feeds, {"image": "image"}, ranges, {"label": classes} if classes else {})


def upscale_ability(network: keras.Model, scale: int) -> Ability:
    """The ability of a network that enlarges images: image -> upscaled, both in [-1, 1].

    Args:
        network: with the input "image" and the output "upscaled", of free height and width.
        scale: how many times as high and wide its output is.
    """
    ranges = dict.fromkeys(("image", "upscaled"), (-1.0, 1.0))
    return Ability(network, {"image": "image"}, {"upscaled": "image"}, ranges, scale=scale)
