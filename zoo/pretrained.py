"""Preset name -> verified files -> a model in the format asked for.

Looked for in this order: the name as a path, `exported/` of the checkout or the installed package, the cache
(`ZOO_HOME`), then the source: a base URL or `hf://owner/repository`. A cached file is used without a network call.
"""

import json
import math
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from serving.card import QUOTE_LIMIT, Card, CardError, FileMismatchError, TensorSpec, read_card, to_line, verify_files
from zoo.extras import MissingExtraError, start_tensorflow
from zoo.presets.table import PRESETS, UnknownPresetError, find_preset, resolve_class
from zoo.sources import choose_source, fetch_file

PACKAGE = Path(__file__).resolve().parent
VERSION = "saved_model/1"  # the directory of the SavedModel
GRAPH = f"{VERSION}/saved_model.pb"
# Of a model that is built to take a weights file: it has the file's numbers, of 2 bytes, and their EMA or a copy.
MODEL_SIZE = 2  # numbers for each byte of the file
LEAST_VARIABLE = 1024  # numbers that a variable counts as: it takes time as well
LEAST_LIMIT = 2**20  # numbers, 4 MB, that any model may have
SHIPPED = (PACKAGE.parent / "exported", PACKAGE / "exported")  # in a checkout, in an installed wheel


def list_models(*, pretrained: bool | None = None, family: str | None = None) -> list[str]:
    """Names of the presets, sorted.

    Args:
        pretrained: only those whose weights come with the package (True) or do not (False); all when not given.
        family: only those of this family, such as "DCGAN", in any case; all when not given.
    """
    return sorted(
        name
        for name, preset in PRESETS.items()
        if (family is None or preset.family.lower() == family.lower())
        and (pretrained is None or (shipped_directory(name) is not None) == pretrained)
    )


def describe(name: str) -> dict[str, Any]:
    """What a model is, as plain data: the preset's entry and, where it has been exported, its card.

    Args:
        name: a preset, or the path of an exported directory or of a run; of a path the entry is the card's own.

    Raises:
        UnknownPresetError: no such preset; the message has the nearest names.
        CardError: a path without a card.
    """
    if name in PRESETS:
        preset, directory = asdict(find_preset(name)), local_directory(name)
        preset.pop("tiny")
        if directory is None:
            return {**preset, "pretrained": False}
        card = read_card(directory)
    else:
        directory = find_directory(name)
        card = read_card(directory)
        preset = {key: getattr(card, key) for key in ("name", "family", "paper", "summary")}
        preset |= {"model": card.model["class"], "arguments": card.model["arguments"]}
    import msgspec

    return {**preset, "pretrained": True, "directory": str(directory), "card": msgspec.to_builtins(card)}


def load_pretrained(
    name: str | Path,
    format: str = "keras",
    *,
    source: str | None = None,
    providers: Sequence[str] | None = None,
    ability: str | None = None,
) -> Any:
    """A pretrained model, ready to `sample`.

    Args:
        name: a preset (`list_models(pretrained=True)`), or the path of an exported directory or of a run.
        format: one of "keras", the model itself (extra `train`); "onnx", on ONNX Runtime, without TensorFlow;
            "saved_model" (extra `train`).
        source: where to fetch a preset that is not here: a base URL that holds <name>/card.json, or
            "hf://owner/repository"; by default the environment variable ZOO_SOURCE.
        providers: of ONNX Runtime, in order of preference; CUDA where it works, else the CPU.
        ability: with "onnx", which of the model's graphs to open, such as "encode"; its default when not given.

    Raises:
        UnknownPresetError: no such preset; the message has the nearest names.
        ValueError: another format, an ability asked of a format that has them all, or another kind of source.
        CardError: the preset has no weights here, or its files are damaged or are not what their card says.
        MissingExtraError: the format needs packages that are not installed; the message has the command.
    """
    if format not in LOADERS:
        raise ValueError(f"format={format!r}: choose from {sorted(LOADERS)}.")
    if ability is not None and format != "onnx":
        raise ValueError(f'ability={ability!r}: one is chosen with format="onnx"; a Keras model has them all.')
    directory = find_directory(name, source)
    try:
        return LOADERS[format](directory, read_card(directory), providers, ability)
    except CardError as error:
        if directory.parent == cache_root():
            discard_damaged(directory, error)
        raise


def find_directory(name: str | Path, source: str | None = None) -> Path:
    """The directory of a preset's exported files, fetched into the cache if it must be.

    Args:
        name: a preset, or the path of an exported directory or of a run that has one.
        source: as in `load_pretrained`.

    Raises:
        UnknownPresetError: neither a preset nor the path of an exported directory.
        CardError: a path without a card; a preset that has no weights here.
        ValueError, MissingExtraError: as in `fetch`.
    """
    name, path = str(name), find_export(Path(name).expanduser())
    if name and (path / "card.json").is_file():
        return path
    if looks_like_path(name):
        raise CardError(f"{name} is read as a path, and there is no {path / 'card.json'}.")
    if name not in PRESETS:
        raise UnknownPresetError(name)
    found = local_directory(name)
    if found is not None:
        return found
    source = source or os.environ.get("ZOO_SOURCE")
    if source:
        return fetch(name, source)
    raise CardError(
        f"{name} has no weights in this installation: train it with `zoo train {name}`, or name a source "
        "(ZOO_SOURCE, a base URL or hf://owner/repository)."
    )


def find_export(path: Path) -> Path:
    """The exported directory of a run; any other path as it is.

    Raises:
        CardError: the run has not been exported yet.
    """
    if not (path / "config.json").is_file() or (path / "card.json").is_file():
        return path
    if not (path / "export" / "card.json").is_file():
        try:
            preset = to_line(json.loads((path / "config.json").read_bytes())["recipe"]["preset"])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            preset = "NAME"
        raise CardError(
            f"{path} is a run without an export: `zoo train {preset} --resume --run-dir {shlex.quote(str(path))}` "
            "makes one at the last step; --steps may name an earlier last step."
        )
    return path / "export"


def looks_like_path(name: str) -> bool:
    """Whether `name` has a separator or is "." or ".."; preset names never do."""
    return os.sep in name or "/" in name or name in (".", "..") or name.startswith("~")


def shipped_directory(name: str) -> Path | None:
    """Where the checkout or the installed package holds preset `name`; None where neither does."""
    return next((root / name for root in SHIPPED if (root / name / "card.json").is_file()), None)


def local_directory(name: str) -> Path | None:
    """Where preset `name` lies on this machine, shipped or cached; None where it does not."""
    cached = cache_root() / name
    return shipped_directory(name) or (cached if (cached / "card.json").is_file() else None)


def cache_root() -> Path:
    """ZOO_HOME, or the user's cache directory."""
    chosen = os.environ.get("ZOO_HOME")
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("generative-zoo"))


def fetch(name: str, source: str) -> Path:
    """Fetch card and files of preset `name` from `source` into the cache: all of them, as their card says, or none.

    SavedModels are left out: they are rebuilt from the weights in seconds.

    Args:
        name: of the preset.
        source: a base URL (http:// or https://) that holds <name>/card.json, or hf://owner/repository.

    Raises:
        ValueError: another kind of source.
        CardError: the source has no such preset, or gives other files than its card lists.
        MissingExtraError: hf:// needs huggingface_hub, which is not installed.
    """
    choose_source(source)
    cache_root().mkdir(parents=True, exist_ok=True)
    with temporary_directory(cache_root(), name) as folder:
        fetched = folder / name
        fetch_file(source, name, "card.json", fetched)
        card = read_card(fetched)
        if card.name != name:
            raise CardError(f"{source} answers for {name!r} with the card of {card.name!r}.")
        for file, record in card.files.items():
            if not file.startswith("saved_model/"):
                fetch_file(source, name, file, fetched, record)
                verify_files(fetched, card, [file])
        return move_into_cache(fetched, cache_root() / name)


@contextmanager
def temporary_directory(root: Path, name: str) -> Iterator[Path]:
    """root/.<name>.<random>, locked while this process lives; removed afterwards, and so are those of killed processes.

    Args:
        root: a directory.
        name: of a preset.
    """
    if sys.platform == "win32":  # which locks no directories
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=root) as unlocked:
            yield Path(unlocked)
        return
    for leftover in root.glob(".*.*"):
        if leftover.name[1:].rpartition(".")[0] in PRESETS and (descriptor := lock(leftover)) is not None:
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(descriptor)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=root))
    while (locked := lock(folder)) is None:  # another process has just taken it for a leftover
        folder = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(locked)


def lock(directory: Path) -> int | None:
    """A descriptor of `directory` that no other process has locked; the system unlocks it when the process ends.

    None where another process has, and where it is gone or is no directory.
    """
    import fcntl

    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if directory.exists():
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def move_into_cache(fetched: Path, target: Path) -> Path:
    """Rename `fetched` to `target`, unless another process has just put the same preset there."""
    if not (target / "card.json").is_file():
        shutil.rmtree(target, ignore_errors=True)  # what `discard_damaged` left
    try:
        fetched.replace(target)
    except OSError:
        if not (target / "card.json").is_file():
            raise
    return target


def discard_damaged(directory: Path, error: CardError) -> None:
    """Delete the damaged file of a cached preset, and its card, so that the preset is fetched again."""
    if isinstance(error, FileMismatchError):
        error.path.unlink(missing_ok=True)
    (directory / "card.json").unlink(missing_ok=True)


def load_keras(directory: Path, card: Card, providers: Sequence[str] | None = None, ability: str | None = None) -> Any:
    """The Keras model; its class comes from the card by name and must be a preset's: no code is deserialized.

    Every loader takes the same arguments; this one has no use for `providers` and `ability`.

    Raises:
        CardError: the weights are not what the card says, or its class is not one of the zoo's.
        MissingExtraError: TensorFlow is not installed.
    """
    verify_files(directory, card, ["model.weights.h5"])
    try:
        start_tensorflow()
        from zoo.core.weights import WeightsError, read_weights
    except ImportError as error:
        raise MissingExtraError('format="keras"', "train", error) from None
    model = build_model(directory, card)
    try:
        read_weights(directory / "model.weights.h5", model.exported_weights())
    except WeightsError as error:
        raise CardError(to_line(str(error))) from error
    model.load_ema()
    return model


def build_model(directory: Path, card: Card) -> Any:
    """The card's class with the card's arguments and fresh weights.

    Raises:
        CardError: the class is not one that a preset names, does not take the arguments, or would with them have far
            more numbers than the weights file.
    """
    known = sorted({preset.model for preset in PRESETS.values()})
    if card.model["class"] not in known:
        raise CardError(f"{directory}: the card names the class {card.model['class']!r}: choose from {known}.")
    try:
        with limit_variables(MODEL_SIZE * card.files["model.weights.h5"].size + LEAST_LIMIT):
            return resolve_class(card.model["class"])(**card.model["arguments"])
    except Exception as error:  # a constructor may fail in any way at arguments that it was not meant for
        reason = to_line(str(error), QUOTE_LIMIT) or type(error).__name__
        raise CardError(f"{directory}: {card.model['class']} does not take the card's arguments: {reason}") from error


@contextmanager
def limit_variables(limit: int) -> Iterator[None]:
    """Within it variables may be made of so many numbers in all; the one beyond is refused before it takes memory.

    Raises:
        CardError: where it is made.
    """
    import tensorflow as tf

    left, graph = limit, tf.Graph()

    def create(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
        nonlocal left
        value = kwargs["initial_value"]
        if callable(value):
            with graph.as_default():  # where initializers have a shape and compute nothing
                value = value()
        left -= max(math.prod(value.shape if hasattr(value, "shape") else ()), LEAST_VARIABLE)
        if left < 0:
            raise CardError(f"they make a model of more than {limit} numbers, and model.weights.h5 has far fewer")
        return next_creator(**kwargs)

    with tf.variable_creator_scope(create):
        yield


def load_onnx(directory: Path, card: Card, providers: Sequence[str] | None = None, ability: str | None = None) -> Any:
    """A `serving.Pipeline` on ONNX Runtime; raises as `Pipeline.from_directory` does."""
    from serving.pipeline import Pipeline

    return Pipeline.from_directory(directory, providers=providers, ability=ability)


def load_saved_model(
    directory: Path, card: Card, providers: Sequence[str] | None = None, ability: str | None = None
) -> Any:
    """A `serving.Sampler` over the SavedModel's default signature; a missing SavedModel is rebuilt from the weights.

    Raises:
        CardError: the files are not what the card says.
        MissingExtraError: TensorFlow is not installed.
    """
    from serving.sampling.sampler import Sampler

    try:
        start_tensorflow()
        import tensorflow as tf
    except ImportError as error:
        raise MissingExtraError('format="saved_model"', "train", error) from None
    from zoo.export.saved_model import read_saved_model, write_saved_model

    with tempfile.TemporaryDirectory() as folder:
        if (directory / GRAPH).exists() and GRAPH in card.files:
            copy_verified(directory, card, Path(folder))
        else:
            write_saved_model(load_keras(directory, card).abilities(), Path(folder) / VERSION)
        try:
            loaded = read_saved_model(Path(folder) / VERSION)
        except CardError as error:  # which names the copy
            raise CardError(str(error).replace(folder, str(directory))) from error
    if "serving_default" not in loaded.signatures:
        raise CardError(f"{directory / GRAPH} has no signature 'serving_default'.")
    signature, default = loaded.signatures["serving_default"], card.abilities[card.default_ability]
    _, inputs = signature.structured_input_signature
    if not (fit(default.inputs, inputs) and fit(default.outputs, signature.structured_outputs)):
        raise CardError(
            to_line(
                f"{directory / GRAPH} maps {inputs} to {signature.structured_outputs}, and the card says "
                f"{default.inputs} to {default.outputs}."
            )
        )

    def run(feeds: dict[str, np.ndarray], kept: Any = loaded) -> dict[str, np.ndarray]:  # `kept` holds the variables
        outputs = signature(**{name: tf.constant(value) for name, value in feeds.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    return Sampler(default, run)


def fit(specs: Sequence[TensorSpec], tensors: Mapping[str, Any]) -> bool:
    """Whether these are the tensors of a card: their names, types and, where both say one, sizes."""
    return set(tensors) == {spec.name for spec in specs} and all(
        tensors[spec.name].dtype.name == spec.dtype
        and tensors[spec.name].shape.is_compatible_with(
            [None if isinstance(size, str) else size for size in spec.shape]
        )
        for spec in specs
    )


def copy_verified(directory: Path, card: Card, target: Path) -> None:
    """The SavedModel's files that the card lists, and no others, below `target`: what is loaded is what was compared.

    Raises:
        CardError: a file is not what the card says, or no regular file.
    """
    from zoo.export.saved_model import require_plain_files

    require_plain_files(directory / "saved_model")
    names = [file for file in card.files if file.startswith(f"{VERSION}/")]
    verify_files(directory, card, names)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(directory / name, target / name, follow_symlinks=False)
    verify_files(target, card, names)


LOADERS: dict[str, Callable[[Path, Card, Sequence[str] | None, str | None], Any]] = {
    "keras": load_keras,
    "onnx": load_onnx,
    "saved_model": load_saved_model,
}
