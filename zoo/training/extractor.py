"""The classifier whose maps a model's content loss compares."""

import keras

from zoo.pretrained import load_pretrained


def load_feature_maps(name: str, layer: str) -> keras.Model:
    """A classifier with its weights, up to one of its layers: image -> maps.

    Args:
        name: of the preset, or the path of an export or a run.
        layer: whose output the maps are.

    Raises:
        ValueError: the model names no classes, or its network has no such maps.
        LookupError, CardError: as of `load_pretrained`.
    """
    abilities = load_pretrained(name).abilities()
    if "classify" not in abilities:
        raise ValueError(f"extractor={name!r} classifies nothing: name a classifier, such as cnn-sign-digits.")
    network = abilities["classify"].network
    maps = {each.name: each.output for each in network.layers[1:] if len(each.output.shape) == 4}
    if layer not in maps:
        raise ValueError(f"content_layer={layer!r}: {name} has the maps {', '.join(maps)}.")
    return keras.Model(network.input, maps[layer])
