"""Abilities as a SavedModel."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from zoo.core.ability import Ability, flat_function
from zoo.core.paths import PlainPath


def write_saved_model(abilities: Mapping[str, Ability], directory: Path) -> None:
    """One signature an ability, and `serving_default`, which is the first.

    `keras.export.ExportArchive` would store every variable twice: once as Keras' and once as TensorFlow's.

    Args:
        abilities: by name, at least one.
        directory: of the SavedModel; made, with its parents.
    """
    module = tf.Module()
    # TensorFlow refuses to save variables that functions use and the module does not hold.
    module.variables_held = [variable.value for ability in abilities.values() for variable in ability.network.weights]
    signatures = {
        name: tf.function(flat_function(ability), input_signature=ability.signature()).get_concrete_function()
        for name, ability in abilities.items()
    }
    signatures["serving_default"] = next(iter(signatures.values()))
    directory.mkdir(parents=True, exist_ok=True)
    plain = PlainPath(directory)
    tf.saved_model.save(module, str(plain.path), signatures=signatures)


def read_saved_model(directory: Path) -> Any:
    """What `tf.saved_model.load` makes of a SavedModel's directory, whatever characters are in its path."""
    plain = PlainPath(directory)
    return tf.saved_model.load(str(plain.path))
