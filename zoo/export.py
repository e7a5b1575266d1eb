"""Keras -> weights, ONNX and SavedModel, with a card; checked against each other or not written at all."""

import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from serving.card import DRAWN_FEEDS, Card, Data, File, Input, Output, Score
from serving.sampler import draw, save_grid
from serving.session import Session
from zoo.core.model import Ability, GenerativeModel
from zoo.core.precision import computing_in
from zoo.core.weights import read_weights, write_weights
from zoo.model_card import write_card
from zoo.presets import Preset

OPSET = 18  # the newest that tf2onnx 1.17 writes
TOLERANCE = 1e-4  # of the output's range
CHECKED_BATCHES = (1, 3)
FORMATS = ("onnx", "saved_model")
LICENCE = "Apache-2.0"
SHOWN = 64  # pictures of samples.png
SMALL = 64  # initializers of fewer values stay float32: casting them saves nothing
VERSIONS = ("tensorflow", "keras", "tf2onnx", "onnx", "numpy")


class ExportError(RuntimeError):
    """The formats do not agree, or one can't be written; no file is left behind."""


def export(
    model: GenerativeModel,
    directory: Path,
    *,
    preset: Preset,
    data: Data,
    recipe: Mapping[str, Any],
    formats: Sequence[str] = FORMATS,
    scores: Sequence[Score] = (),
    pictures: Mapping[str, bytes] | None = None,
) -> Card:
    """Write `directory`: model.weights.h5, <ability>.onnx, saved_model/1/, samples.png, README.md, card.json.

    The weights are rounded to float16 first, so that every format and every score is of the same numbers.

    Args:
        model: trained; it is not changed.
        directory: replaced as a whole when everything has been written and checked.
        preset: what the model is.
        data: what it was trained on.
        recipe: how: plain data for the card.
        formats: of `FORMATS`; the weights are always written.
        scores: what was measured of these very weights.
        pictures: more files to put there, by name: "reconstructions.png" is shown on the card.

    Raises:
        ExportError: the formats differ by more than 1e-4 of an output's range.
        ValueError: an unknown format.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown:
        raise ValueError(f"formats={unknown}: choose from {list(FORMATS)}.")
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        # ONNX Runtime checks against the CPU: a GPU's TF32 alone would differ by more than the tolerance.
        with tf.device("CPU:0"):
            card = _write(model, partial, preset, data, recipe, formats, scores, pictures or {})
        replace_directory(partial, directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return card


def _write(
    model: GenerativeModel,
    directory: Path,
    preset: Preset,
    data: Data,
    recipe: Mapping[str, Any],
    formats: Sequence[str],
    scores: Sequence[Score],
    pictures: Mapping[str, bytes],
) -> Card:
    twin = rounded_twin(model, directory / "model.weights.h5")
    abilities = dict(twin.abilities())
    files = {name: f"{name}.onnx" if "onnx" in formats else None for name in abilities}
    if "onnx" in formats:
        for name, ability in abilities.items():
            write_onnx(ability, directory / f"{name}.onnx", rounded=True)
    if "saved_model" in formats:
        write_saved_model(abilities, directory / "saved_model" / "1")
    for name, ability in abilities.items():
        check_agreement(name, ability, directory, formats)
    if "generate" in abilities:
        save_grid(twin.sample(SHOWN, seed=0), directory / "samples.png")
    for name, content in pictures.items():
        (directory / name).write_bytes(content)
    card = Card(
        name=preset.name,
        family=preset.family,
        paper=preset.paper,
        licence=LICENCE,
        summary=preset.summary,
        data=data,
        model={"class": preset.model, "arguments": model.get_config()},
        recipe=dict(recipe),
        abilities={name: ability.card(files[name]) for name, ability in abilities.items()},
        default_ability=next(iter(abilities)),
        files=described(directory),
        scores=tuple(scores),
        versions={package: version(package) for package in VERSIONS} | {"opset": str(OPSET)},
    )
    write_card(card, directory)
    return card


def rounded_twin(model: GenerativeModel, path: Path) -> GenerativeModel:
    """Write the weights, rounded to float16, to `path`; returns an uncompiled model of exactly those, in float32."""
    write_weights(path, model.exported_weights())
    with computing_in("float32"):
        twin = type(model).from_config(model.get_config())
    read_weights(path, twin.exported_weights())
    twin.adopt_averages()
    return twin


def write_saved_model(abilities: Mapping[str, Ability], directory: Path) -> None:
    """One signature an ability, and `serving_default`, which is the first.

    `keras.export.ExportArchive` would store every variable twice: once as Keras' and once as TensorFlow's.
    """
    module = tf.Module()
    module.variables_held = [variable.value for ability in abilities.values() for variable in ability.network.weights]
    signatures = {
        name: tf.function(flat_function(ability), input_signature=ability.signature()).get_concrete_function()
        for name, ability in abilities.items()
    }
    signatures["serving_default"] = next(iter(signatures.values()))
    tf.saved_model.save(module, str(directory), signatures=signatures)


def write_onnx(ability: Ability, path: Path, *, rounded: bool) -> None:
    """One graph, its free dimension called "batch".

    Args:
        ability: what to write.
        path: of the file.
        rounded: the weights hold float16 values: store them as such, with a cast to float32 in the graph.
    """
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    function = tf.function(flat_function(ability), input_signature=ability.signature())
    graph, _ = tf2onnx.convert.from_function(
        function, input_signature=ability.signature(), opset=OPSET, custom_op_handlers=MISSING
    )
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    if rounded:
        store_as_float16(graph)
    graph.producer_name = "generative-zoo"
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(path))


def expm1(context: Any, node: Any, name: str, arguments: Any) -> None:
    """e^x - 1 = (e^x + 1) tanh(x / 2), which keeps its digits near 0."""
    (x,), (half, one) = node.input, constants(context, name, 0.5, 1.0)
    tanh = made(context, "Tanh", made(context, "Mul", x, half))
    replaced(context, node, "Mul", tanh, made(context, "Add", made(context, "Exp", x), one))


def log1p(context: Any, node: Any, name: str, arguments: Any) -> None:
    """log(1 + x) = 2 artanh(x / (2 + x)), which keeps its digits near 0; as it stands from 1 on."""
    (x,), (one, two) = node.input, constants(context, name, 1.0, 2.0)
    artanh = made(context, "Atanh", made(context, "Div", x, made(context, "Add", x, two)))
    large = made(context, "Log", made(context, "Add", x, one))
    replaced(context, node, "Where", made(context, "Less", x, one), made(context, "Mul", artanh, two), large)


def multiply_no_nan(context: Any, node: Any, name: str, arguments: Any) -> None:
    """x y, and 0 where y is, whatever x is."""
    (x, y), (zero,) = node.input, constants(context, name, 0.0)
    replaced(context, node, "Where", made(context, "Equal", y, zero), zero, made(context, "Mul", x, y))


def select(context: Any, node: Any, name: str, arguments: Any) -> None:
    """As it stands: tf2onnx multiplies both sides by 0 or 1 and adds, which makes NaN of an infinity not chosen."""
    replaced(context, node, "Where", *node.input)


def constants(context: Any, name: str, *values: float) -> list[str]:
    """Names of these numbers in a graph of tf2onnx."""
    return [context.make_const(f"{name}_{value}", np.float32(value)).output[0] for value in values]


def made(context: Any, operation: str, *inputs: str) -> str:
    """The name of a new node's output."""
    return context.make_node(operation, list(inputs)).output[0]


def replaced(context: Any, node: Any, operation: str, *inputs: str) -> None:
    """A node under the old one's name, in its place."""
    (output,) = node.output
    dtypes, shapes = [context.get_dtype(output)], [context.get_shape(output)]
    context.remove_node(node.name)
    context.make_node(operation, list(inputs), name=node.name, outputs=[output], dtypes=dtypes, shapes=shapes)


MISSING: dict[str, tuple[Callable[..., None], list[Any]]] = {
    "Expm1": (expm1, []),
    "Log1p": (log1p, []),
    "MulNoNan": (multiply_no_nan, []),
    "SelectV2": (select, []),
}
"""Operations of TensorFlow that tf2onnx has no handler for, or one that fails at infinities."""


def flat_function(ability: Ability) -> Any:
    """The ability as a function of its inputs in order, as signatures want it."""
    names = [spec.name for spec in ability.signature()]
    return lambda *tensors: ability(dict(zip(names, tensors, strict=True)))


def store_as_float16(graph: onnx.ModelProto) -> None:
    """Store every large float32 initializer that float16 holds exactly as float16, followed by a cast.

    ONNX Runtime folds the casts when it opens the file: the arithmetic stays float32.
    """
    kept, casts = [], []
    for tensor in graph.graph.initializer:
        array = numpy_helper.to_array(tensor)
        exact = array.dtype == np.float32 and array.size >= SMALL and bool((array == array.astype(np.float16)).all())
        if not exact:
            kept.append(tensor)
            continue
        stored = f"{tensor.name}_float16"
        kept.append(numpy_helper.from_array(array.astype(np.float16), stored))
        casts.append(
            helper.make_node("Cast", [stored], [tensor.name], name=f"{tensor.name}_cast", to=TensorProto.FLOAT)
        )
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)
    nodes = [*casts, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


def check_agreement(name: str, ability: Ability, directory: Path, formats: Sequence[str]) -> float:
    """The largest difference between Keras and the written formats, as a share of the output's range.

    Raises:
        ExportError: it is more than `TOLERANCE`.
    """
    runs = {}
    if "onnx" in formats:
        runs["ONNX"] = Session(directory / f"{name}.onnx", providers=["CPUExecutionProvider"]).run
    if "saved_model" in formats:
        loaded = tf.saved_model.load(str(directory / "saved_model" / "1"))
        signature = loaded.signatures[name]
        runs["SavedModel"] = lambda feeds: {
            key: value.numpy() for key, value in signature(**{k: tf.constant(v) for k, v in feeds.items()}).items()
        }
    card = ability.card()
    worst = 0.0
    for batch in CHECKED_BATCHES:
        feeds = {spec.name: example(spec, batch) for spec in card.inputs}
        expected = {key: value.numpy() for key, value in ability({k: tf.constant(v) for k, v in feeds.items()}).items()}
        for format_name, run in runs.items():
            found = run(feeds)
            for spec in card.outputs:
                difference = float(np.abs(found[spec.name] - expected[spec.name]).max()) / span(spec, expected)
                if not difference <= TOLERANCE:
                    raise ExportError(
                        f"{format_name} differs from Keras by {difference:.1e} of the range of {name}'s output "
                        f"{spec.name!r} at batch {batch}; at most {TOLERANCE} is allowed."
                    )
                worst = max(worst, difference)
    return worst


def span(spec: Output, values: Mapping[str, np.ndarray]) -> float:
    """The range of an output: the card's, else that of its values; of one value a row, which may be one, from 0 on."""
    if spec.range is not None:
        return spec.range[1] - spec.range[0]
    found = values[spec.name]
    return max(float(np.ptp(np.append(found, 0.0) if found.ndim == 1 else found)), 1e-12)


def example(spec: Input, batch: int) -> np.ndarray:
    """An input to compare formats on: as sampling draws it, or noise, a third of it at the ends of the range."""
    if spec.feed in DRAWN_FEEDS:
        return draw(spec, range(batch), seed=0)
    low, high = spec.range or (-1.0, 1.0)
    shape = [batch if size == "batch" else 64 if isinstance(size, str) else size for size in spec.shape]
    beyond = 0.25 * (high - low)
    noise = np.random.default_rng(0).uniform(low - beyond, high + beyond, shape)
    return np.clip(noise, low, high).astype(spec.dtype)


def described(directory: Path) -> dict[str, File]:
    """sha256 and size of every file below `directory`."""
    return {
        path.relative_to(directory).as_posix(): File(hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def replace_directory(source: Path, target: Path) -> None:
    """Rename `source` to `target`; what was there is kept until the new one stands."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    source.replace(target)
    shutil.rmtree(old, ignore_errors=True)
