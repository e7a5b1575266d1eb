"""What is to be scored: a preset, an exported directory, a bare ONNX file or SavedModel, a folder of images.

A source is one of three: a generator draws images by seed, a folder holds them, and a model that only reconstructs has
none of its own.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from serving.card import QUOTE_LIMIT, Ability, Card, Input, Output, TensorSpec, read_card, to_line
from serving.images import to_uint8
from serving.pipeline import Pipeline
from serving.sampling.sampler import Sampler
from serving.session import Session
from zoo.data.folders import count_channels
from zoo.data.load import load_images, require_source
from zoo.extras import start_tensorflow
from zoo.metrics.checks import images_in_range
from zoo.presets.table import PRESETS, UnknownPresetError
from zoo.pretrained import find_directory, find_export, looks_like_path

BATCH_SIZE = 250
IMAGE_RANGE = (-1.0, 1.0)  # of a bare graph's images: it has no card to say so
# Before the path of a SavedModel. It is a program: a folder of images that happens to hold one must not run it.
SAVED_MODEL = "saved_model:"


EXPORTED = "an exported model"


@dataclass(frozen=True)
class ExportedModel:
    """A directory with a card."""

    directory: Path
    card: Card

    def has_ability(self, name: str, outputs: set[str]) -> bool:
        """Whether there is an ability of that name with at least these outputs."""
        ability = self.card.abilities.get(name)
        return ability is not None and outputs <= {output.name for output in ability.outputs}

    def open(self, ability: str | None = None) -> Pipeline:
        """One ability on ONNX Runtime, its default when not given.

        Raises:
            CardError: the ability has no ONNX file, or the file is not that of the card.
        """
        return Pipeline.from_directory(self.directory, ability=ability, batch_size=BATCH_SIZE)


@dataclass(frozen=True, kw_only=True)
class Source:
    """What every source has.

    Args:
        name: what to call it.
        sha256: of the graph, or of the images: what was scored.
        size: (height, width, channels) of the images.
        read_as: what its name was taken for, such as "an ONNX graph".
        model: the exported model that it is; None for a bare graph and a folder.
    """

    name: str
    sha256: str
    size: tuple[int, ...]
    read_as: str
    model: ExportedModel | None = None

    @property
    def card(self) -> Card | None:
        """Of the exported model."""
        return self.model.card if self.model else None


@dataclass(frozen=True, kw_only=True)
class ImageSource(Source, ABC):
    """A source that has images of its own."""

    @abstractmethod
    def count(self, wanted: int, seeds: int) -> int:
        """Images that each of so many seeds has, at most `wanted`."""

    @abstractmethod
    def draw(self, count: int, seeds: tuple[int, ...], seed_index: int) -> Iterator[np.ndarray]:
        """`count` images of seeds[seed_index], uint8 (rows, height, width, channels), at most `BATCH_SIZE` rows each.

        Raises:
            ValueError: a generator's values are out of range or NaN.
        """


@dataclass(frozen=True, kw_only=True)
class GeneratorSource(ImageSource):
    """A graph that generates images from random numbers.

    Args:
        sampler: draws image i of a seed, always the same one.
    """

    sampler: Sampler

    def count(self, wanted: int, seeds: int) -> int:
        """As many as are wanted."""
        return wanted

    def draw(self, count: int, seeds: tuple[int, ...], seed_index: int) -> Iterator[np.ndarray]:
        """Images 0 to count - 1 of the seed: see `ImageSource`."""
        for start in range(0, count, BATCH_SIZE):
            yield self._draw_batch(min(BATCH_SIZE, count - start), seeds[seed_index], start)

    def _draw_batch(self, count: int, seed: int, start: int) -> np.ndarray:
        raw = np.asarray(self.sampler.sample(count, seed, start=start, output_type="float32"))
        low, high = self.image_range
        try:
            images_in_range(self.rescale(raw), smallest=1)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error} (here {low:g} to {high:g} stands for -1 to 1)") from error
        return to_uint8(raw, (low, high))  # only now: rounding to gray levels would hide what is out of range

    @property
    def image_range(self) -> tuple[float, float]:
        """The values of black and white in the graph's images."""
        return self.sampler.image.range or IMAGE_RANGE

    def rescale(self, raw: np.ndarray) -> np.ndarray:
        """The graph's images, brought to [-1, 1]."""
        low, high = self.image_range
        return (raw - low) * (2 / (high - low)) - 1

    @property
    def latent(self) -> Input | None:
        """The one input of a generator that takes nothing but a latent vector."""
        inputs = self.sampler.ability.inputs
        return inputs[0] if len(inputs) == 1 and _is_latent(inputs[0]) else None


def _is_latent(spec: Input) -> bool:
    return spec.feed in ("normal", "uniform") and len(spec.row) == 1


@dataclass(frozen=True, kw_only=True)
class FolderSource(ImageSource):
    """The images of a folder or zip.

    Args:
        images: uint8 (count, height, width, channels).
    """

    images: np.ndarray

    def count(self, wanted: int, seeds: int) -> int:
        """The images are divided among the seeds."""
        return min(wanted, len(self.images) // seeds)

    def draw(self, count: int, seeds: tuple[int, ...], seed_index: int) -> Iterator[np.ndarray]:
        """Every len(seeds)-th image from `seed_index` on: see `ImageSource`.

        They are shuffled first, always alike: the order of a folder is often that of its classes.
        """
        chosen = fixed_permutation(len(self.images))[seed_index :: len(seeds)][:count]
        for start in range(0, len(chosen), BATCH_SIZE):
            yield self.images[chosen[start : start + BATCH_SIZE]]


@dataclass(frozen=True, kw_only=True)
class ReconstructionSource(Source):
    """An exported model that reconstructs the images that it is given, and generates none."""

    model: ExportedModel


def resolve_name(name: str) -> ExportedModel | Path:
    """The exported model, with its card, or the path that `name` stands for.

    Args:
        name: a preset; the path of an exported directory, of a run, or of anything else; of a SavedModel behind
            `SAVED_MODEL`.

    Raises:
        UnknownPresetError: neither a preset nor a path.
        FileNotFoundError: a path, and nothing is there.
        CardError: a preset that has no weights here, or a damaged card.
    """
    path = Path(name.removeprefix(SAVED_MODEL)).expanduser()
    if name.startswith(SAVED_MODEL):
        return path
    path = find_export(path)
    if name not in PRESETS and not path.exists():
        if looks_like_path(name) or path.suffix:
            raise FileNotFoundError(f"{name}: there is no such file or folder.")
        raise UnknownPresetError(name)
    if name in PRESETS or (path / "card.json").is_file():
        directory = find_directory(name)
        return ExportedModel(directory, read_card(directory))
    return path


def locate_data(model: ExportedModel, trained_on: str | None) -> ExportedModel:
    """The model with a card that names its training images where they are: `trained_on`, if given.

    Raises:
        FileNotFoundError: they are a file, and it is not there; the message says where to get it.
    """
    card = model.card
    found = trained_on or card.data.source
    require_source(found, f"{card.name} was trained on it: name it with --trained-on")
    return replace(model, card=msgspec.structs.replace(card, data=msgspec.structs.replace(card.data, source=found)))


def open_source(name: str) -> Source:
    """The source that `name` is.

    Args:
        name: one of

            - a preset, or the path of an exported directory, which is a folder that holds a card.json;
            - the path of a file that ends in .onnx;
            - saved_model:PATH, a SavedModel, which is never taken for one unasked;
            - the path of any other folder, or of a zip: all its images.

            A bare graph takes standard normal numbers and gives images in [-1, 1], NHWC.

    Raises:
        UnknownPresetError: neither a preset nor a path.
        FileNotFoundError: a path, and nothing is there.
        ValueError: what is there generates no images.
    """
    return open_resolved(resolve_name(name), name)


def open_resolved(target: ExportedModel | Path, name: str) -> Source:
    """The source of what `resolve_name` has found; errors are those of `open_source`."""
    if isinstance(target, ExportedModel):
        return open_exported(target)
    if target.suffix == ".onnx":
        session = Session(target)
        return open_graph(name, hash_files(target), session.inputs, session.outputs, session.run, "an ONNX graph")
    saved = [folder for folder in (target, target / "1") if (folder / "saved_model.pb").is_file()]
    if name.startswith(SAVED_MODEL):
        if not saved:
            raise FileNotFoundError(f"{name}: there is no saved_model.pb in {target}, nor in {target / '1'}.")
        return open_saved_model(name, saved[0])
    try:
        return open_folder(target)
    except ValueError as error:
        if not saved:
            raise
        raise ValueError(f"{error} To score the SavedModel there: {SAVED_MODEL}{target}") from error


def open_exported(model: ExportedModel) -> Source:
    """A directory with a card.

    Raises:
        ValueError: its default ability neither generates images nor reconstructs them.
        CardError: that ability has no ONNX file, or the file is not that of the card.
    """
    card = model.card
    outputs = {output.kind: output for output in card.abilities[card.default_ability].outputs}
    if "image" not in outputs and "reconstruction" not in outputs:
        raise ValueError(f"{card.name} generates no images: its ability is {card.default_ability!r}.")
    pipeline = model.open()
    if "image" in outputs:
        return make_generator(card.name, graph_sha256(pipeline), pipeline.sampler, EXPORTED, model)
    size, sha256 = outputs["reconstruction"].row, graph_sha256(pipeline)
    return ReconstructionSource(name=card.name, sha256=sha256, size=size, read_as=EXPORTED, model=model)


def open_graph(
    name: str,
    sha256: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    run: Callable[..., Any],
    read_as: str,
) -> GeneratorSource:
    """A graph without a card.

    Args:
        name: what to call it.
        sha256: of its files.
        inputs: its tensors; a free dimension is a text.
        outputs: likewise.
        run: arrays by input name -> arrays by output name.
        read_as: see `Source`.

    Raises:
        ValueError: it does not generate images from float32 numbers alone, or fails when it is run.
    """
    images = [spec for spec in outputs if len(spec.shape) == 4 and spec.shape[3] in (1, 3)]
    wrong = [
        spec
        for spec in inputs
        if spec.dtype != "float32" or [isinstance(size, str) for size in spec.shape] != [True, *[False] * len(spec.row)]
    ]
    if not images or wrong or not inputs:
        tensors = ", ".join(f"{spec.name} {spec.dtype}{list(spec.shape)}" for spec in (*inputs, *outputs))
        raise ValueError(
            f"{name} has {tensors}: a generator takes float32 (batch, sizes ...) and gives images (batch, height, "
            "width, 1 or 3). Anything else needs its card: name the exported directory."
        )
    image = images[0]

    def run_or_refuse(feeds: dict[str, np.ndarray]) -> Any:
        try:
            return run(feeds)
        except Exception as error:  # a runtime's errors have no class in common
            raise ValueError(f"{name} can't be run: {shorten(error)}") from error

    ability = Ability(
        tuple(Input(spec.name, "float32", ("batch", *spec.shape[1:]), "normal") for spec in inputs),
        (Output(image.name, image.dtype, ("batch", "height", "width", image.shape[3]), "image", IMAGE_RANGE, "NHWC"),),
    )
    return make_generator(name, sha256, Sampler(ability, run_or_refuse, batch_size=BATCH_SIZE), read_as)


def open_saved_model(name: str, folder: Path) -> GeneratorSource:
    """A SavedModel's `serving_default`.

    Raises:
        ValueError: it is damaged; it has no such signature, or one that generates no images.
    """
    start_tensorflow()
    import tensorflow as tf

    from zoo.export.saved_model import read_saved_model

    try:
        loaded = read_saved_model(folder)
    except Exception as error:  # TensorFlow's errors have no class in common
        raise ValueError(f"{name} can't be loaded: {shorten(error)}") from error
    if "serving_default" not in loaded.signatures:
        raise ValueError(f"{name} has no signature 'serving_default', only {sorted(loaded.signatures)}.")
    signature = loaded.signatures["serving_default"]

    def specs(tensors: dict[str, Any]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(key, spec.dtype.name, tuple("batch" if size is None else size for size in spec.shape or ()))
            for key, spec in tensors.items()
        )

    def run(feeds: dict[str, np.ndarray], kept: Any = loaded) -> dict[str, np.ndarray]:  # `kept` holds the variables
        outputs = signature(**{key: tf.constant(value) for key, value in feeds.items()})
        return {key: value.numpy() for key, value in outputs.items()}

    files = [folder / "saved_model.pb", *sorted((folder / "variables").glob("*"))]
    inputs = specs(signature.structured_input_signature[1])
    return open_graph(name, hash_files(*files), inputs, specs(signature.structured_outputs), run, "a SavedModel")


def make_generator(
    name: str, sha256: str, sampler: Sampler, read_as: str, model: ExportedModel | None = None
) -> GeneratorSource:
    """A source that a sampler draws; a graph may leave its images' size open, so that is the first image's."""
    size = np.asarray(sampler.sample(1, 0)).shape[1:]
    return GeneratorSource(name=name, sha256=sha256, size=size, read_as=read_as, model=model, sampler=sampler)


def open_folder(path: Path) -> FolderSource:
    """All the images of a folder or zip, whatever splits it has.

    Raises:
        ValueError: it has none, or some of another size.
    """
    load = partial(load_images, str(path), split="all", image_size=None)
    found = load(channels=count_channels(path))
    size, count = found.images.shape[1:], len(found.images)
    read_as = f"a {'folder' if path.is_dir() else 'zip'} of {count} images"
    return FolderSource(name=found.name, sha256=found.fingerprint, size=size, read_as=read_as, images=found.images)


def fixed_permutation(rows: int, draw: int = 0) -> np.ndarray:
    """The numbers of the rows in an order that has nothing to do with classes, for each draw always the same."""
    return np.random.Generator(np.random.Philox(draw)).permutation(rows)


def graph_sha256(pipeline: Pipeline) -> str:
    """Of the ONNX file that a pipeline runs, as its card has it."""
    return pipeline.card.files[str(pipeline.ability.file)].sha256


def shorten(error: Exception) -> str:
    """What an error says, in one line, or its class where it says nothing."""
    return to_line(str(error), QUOTE_LIMIT) or type(error).__name__


def hash_files(*files: Path) -> str:
    """sha256 over the files' bytes, one after the other."""
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()
