"""What latents do to a network: the gradient of an image's distance, and what the first layers make of them.

Both take and give NumPy arrays, so that who calls them needs no TensorFlow.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.core.ability import Ability
from zoo.core.step import input_gradient
from zoo.core.types import Tensor

LINEAR = 1e-3  # share of a response by which that of the opposite latent may differ from its opposite: rounding


class Distances(NamedTuple):
    """How far each row's image is from the target.

    Args:
        images: (rows, height, width, channels).
        pixels: (rows,), the mean squared difference of brightness, 0 to 1.
        features: (rows,), the squared distance of the features as a share of the target's own square; 0 where none are
            asked for.
        gradient: of pixels + weight * features with respect to the input, shaped like it.
    """

    images: np.ndarray
    pixels: np.ndarray
    features: np.ndarray
    gradient: np.ndarray


Measure = Callable[[Mapping[str, np.ndarray]], Distances]


def measure_distances_to(
    target: np.ndarray, ability: Ability, name: str, extractor: Ability | None = None, weight: float = 0.0
) -> Measure:
    """A function of the ability's inputs: how far each row's image is from the target, and its gradient.

    Args:
        target: (height, width, channels), float in the range of the ability's images.
        ability: with an output "image".
        name: of the input that the gradient is taken of.
        extractor: image -> features, such as a classifier's `classify`; what is larger than its images is cut to their
            size, the same on all sides.
        weight: of the features' distance beside the pixels'.

    Raises:
        ValueError: the ability has no such input; a target of another size, or one that the extractor can't see.
    """
    if name not in ability.feeds or "image" not in ability.output_names:
        raise ValueError(f"a map of {sorted(ability.feeds)} to {ability.output_names}: none of {name!r} to an image.")
    size = tuple(ability.network.outputs[ability.output_names.index("image")].shape[1:])
    if target.shape != size:
        raise ValueError(f"a target of {target.shape}, and images of {size}: give one of their size.")
    low, high = ability.ranges["image"]
    wanted = tf.constant(target[None], tf.float32)
    extract = None if extractor is None else center_features(extractor, size)
    wanted_features = None if extract is None else extract(wanted)

    def measure(feeds: dict[str, Tensor]) -> dict[str, Tensor]:
        kept = {}

        def distance(values: Tensor) -> Tensor:
            images = ability({**feeds, name: values})["image"]
            kept["images"] = images
            kept["pixels"] = tf.reduce_mean(tf.square((images - wanted) / (high - low)), axis=(1, 2, 3))
            kept["features"] = tf.zeros_like(kept["pixels"])
            if extract is not None:
                differences = tf.reduce_sum(tf.square(extract(images) - wanted_features), axis=1)
                kept["features"] = differences / tf.reduce_sum(tf.square(wanted_features))
            return kept["pixels"] + weight * kept["features"]

        return {"gradient": input_gradient(distance, feeds[name]), **kept}

    compiled = tf.function(measure)
    return lambda feeds: Distances(
        **{key: value.numpy() for key, value in compiled({key: tf.constant(x) for key, x in feeds.items()}).items()}
    )


def center_features(extractor: Ability, size: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Images of `size` -> the extractor's features of their center, (rows, features)."""
    (image,) = extractor.network.inputs
    height, width, channels = image.shape[1:]
    if channels != size[2] or height > size[0] or width > size[1] or "features" not in extractor.output_names:
        raise ValueError(
            f"images of {tuple(size)}, and an extractor of {tuple(image.shape[1:])} to {extractor.output_names}: name "
            "one that gives features of images of this size, or smaller."
        )
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return lambda images: extractor({image.name: images[:, top : top + height, left : left + width]})["features"]


def measure_first_layers(ability: Ability, name: str, probes: np.ndarray) -> np.ndarray:
    """What each probe adds to the outputs of the first layers that see the input: (probes, outputs of all of them).

    Which layers count: those with weights that the input reaches, itself or through layers without any, such as
    reshaping, slicing, pixel norm, or joining it with something else. Their own activation is left out. Of a layer that
    has a map `affine` of its own for the input, as those that styles modulate have, it is this map. For unit vectors,
    the rows of the result are the columns of A, the weights beside each other. Other inputs are 0.

    Args:
        ability: its network is functional.
        name: of the input.
        probes: (probes, *the input's row).

    Raises:
        ValueError: no such input, or a first layer that is not linear in it.
    """
    if name not in ability.feeds:
        raise ValueError(f"a map of {sorted(ability.feeds)}: there is no input {name!r}.")
    rows = np.concatenate([np.zeros_like(probes[:1]), probes, -probes])
    values = [
        rows if spec.name == name else np.zeros((len(rows), *(size or 1 for size in spec.shape[1:])), spec.dtype.name)
        for spec in ability.signature()
    ]
    names = [spec.name == name for spec in ability.signature()]
    responses = []
    for layer, arguments, options in find_first_layers(ability.network, names, values):
        outputs = keras.tree.flatten(without_activation(layer, arguments[0])(*arguments, **options))
        found = np.concatenate([np.asarray(each).reshape(len(rows), -1) for each in outputs], axis=1)
        there, back = np.split(found[1:] - found[:1], 2)
        if not np.abs(there + back).max() <= LINEAR * np.abs(there).max():
            raise ValueError(f"the first layer {layer.name!r} is not linear in {name!r}: it has no matrix.")
        responses.append(there)
    return np.concatenate(responses, axis=1)


def find_first_layers(
    network: keras.Model, reached: Sequence[bool], values: Sequence[np.ndarray]
) -> list[tuple[Any, Any, Any]]:
    """The first layers with weights that some inputs reach, with the arguments that they are given.

    Args:
        network: functional; networks within it are entered.
        reached: which of its inputs count.
        values: of all of its inputs.
    """
    touched = {tensor.name for tensor, flag in zip(network.inputs, reached, strict=True) if flag}
    calls: list[tuple[Any, Any, Any]] = []

    def call(layer: Any, *arguments: Any, **options: Any) -> Any:
        outputs = layer(*arguments, **options)
        flat = keras.tree.flatten((arguments, options))
        given = [each for each in flat if isinstance(each, keras.KerasTensor) and each.name in touched]
        if given:
            if isinstance(getattr(layer, "affine", None), keras.layers.Layer):
                calls.extend((layer.affine, (tensor,), {}) for tensor in given)
            elif getattr(layer, "weights", ()):
                calls.append((layer, arguments, options))
            else:
                touched.update(tensor.name for tensor in keras.tree.flatten(outputs))
        return outputs

    traced = keras.models.clone_model(network, clone_function=lambda layer: layer, call_function=call)
    found = []
    for layer, arguments, options in calls:
        evaluated = evaluate(traced, values, (arguments, options))
        if isinstance(layer, keras.Model):
            layer = keras.Model(layer.inputs, layer.outputs)  # a sequence of layers can't be traced as it is
            tensors = keras.tree.flatten((arguments, options))
            inner = [tensor.name in touched for tensor in tensors if isinstance(tensor, keras.KerasTensor)]
            inputs = [each for each in keras.tree.flatten(evaluated) if isinstance(each, tf.Tensor)]
            found += find_first_layers(layer, inner[: len(layer.inputs)], inputs[: len(layer.inputs)])
        else:
            found.append((layer, *evaluated))
    return found


def evaluate(network: keras.Model, values: Sequence[np.ndarray], structure: Any) -> Any:
    """`structure` with each of the network's tensors in it replaced by its value."""
    flat = keras.tree.flatten(structure)
    tensors = [each for each in flat if isinstance(each, keras.KerasTensor)]
    inputs = [tf.convert_to_tensor(value) for value in values]
    outputs = keras.tree.flatten(keras.Model(network.inputs, tensors)(inputs, training=False))
    left = iter(outputs)
    return keras.tree.pack_sequence_as(
        structure, [next(left) if isinstance(each, keras.KerasTensor) else each for each in flat]
    )


def without_activation(layer: Any, inputs: Tensor) -> Any:
    """The layer, or one of the same weights that leaves its activation out; `inputs` are what it is given."""
    config = layer.get_config()
    if config.get("activation", "linear") == "linear":
        return layer
    twin = type(layer).from_config({**config, "activation": "linear"})
    twin.build(inputs.shape)
    twin.set_weights(layer.get_weights())
    return twin
