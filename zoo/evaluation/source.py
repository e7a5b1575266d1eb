"""What is to be scored: a preset, an exported directory, a bare ONNX file or SavedModel, a folder of images."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from serving.card import Ability, Card, Input, Output, TensorSpec, read_card
from serving.images import to_uint8
from serving.pipeline import Pipeline
from serving.sampling.sampler import Sampler
from serving.session import Session
from zoo.data.folders import count_channels
from zoo.data.load import load_images
from zoo.extras import start_tensorflow
from zoo.metrics.checks import images_in_range
from zoo.presets.table import PRESETS, UnknownPresetError
from zoo.pretrained import find_directory, looks_like_path

BATCH_SIZE = 250
IMAGE_RANGE = (-1.0, 1.0)  # of a bare graph's images: it has no card to say so


@dataclass(frozen=True)
class Source:
    """Images by seed; or an autoencoder, which makes none of its own.

    Args:
        name: what to call it.
        sha256: of the graph, or of the images: what was scored.
        size: (height, width, channels).
        card: of the exported model; None for anything else.
        directory: of the exported model.
        sampler: of a generator; None for anything else.
        images: of a folder, uint8; None for anything else.
    """

    name: str
    sha256: str
    size: tuple[int, ...]
    card: Card | None = None
    directory: Path | None = None
    sampler: Sampler | None = None
    images: np.ndarray | None = None

    @property
    def makes_images(self) -> bool:
        """Whether there are any to draw."""
        return self.sampler is not None or self.images is not None

    def count(self, wanted: int, seeds: int) -> int:
        """Images of one seed: as many as wanted of a generator; a folder is divided among the seeds."""
        return wanted if self.images is None else min(wanted, len(self.images) // seeds)

    def draw(self, count: int, seeds: tuple[int, ...], number: int) -> Iterator[np.ndarray]:
        """The images of seeds[number], uint8, some at a time; of a folder, every len(seeds)-th one from `number` on.

        A folder is shuffled first, always alike: its order is often that of its classes.

        Raises:
            ValueError: a generator's values are out of range or NaN; an autoencoder.
        """
        if self.images is not None:
            chosen = shuffled(len(self.images))[number :: len(seeds)][:count]
            yield from (self.images[chosen[start : start + BATCH_SIZE]] for start in range(0, len(chosen), BATCH_SIZE))
            return
        if self.sampler is None:
            raise ValueError(f"{self.name} makes no images of its own: it gives back those that it is shown.")
        for start in range(0, count, BATCH_SIZE):
            yield self.checked(self.sampler, min(BATCH_SIZE, count - start), seeds[number], start)

    def checked(self, sampler: Sampler, count: int, seed: int, start: int) -> np.ndarray:
        """ImageSet `start` ... of a seed, rounded to gray levels once they are known to be in range."""
        raw = np.asarray(sampler.sample(count, seed, start=start, output_type="float32"))
        low, high = sampler.image.range or IMAGE_RANGE
        try:
            images_in_range((raw - low) * (2 / (high - low)) - 1, smallest=1)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error} (here {low:g} to {high:g} stands for -1 to 1)") from error
        return to_uint8(raw, (low, high))

    @property
    def latent(self) -> Input | None:
        """The one input of a generator that takes nothing but a latent vector."""
        inputs = self.sampler.ability.inputs if self.sampler else ()
        return inputs[0] if len(inputs) == 1 and inputs[0].feed in ("normal", "uniform") else None


def open_source(name: str) -> Source:
    """The source that `name` is.

    Args:
        name: a preset; the path of an exported directory, of an .onnx file, of a SavedModel, or of a folder or zip of
            images. A bare graph takes standard normal numbers and gives images in [-1, 1], NHWC.

    Raises:
        UnknownPresetError: neither a preset nor a path.
        FileNotFoundError: a path, and nothing is there.
        ValueError: what is there makes no images.
    """
    path = Path(name).expanduser()
    if name not in PRESETS and not path.exists():
        if looks_like_path(name) or path.suffix:
            raise FileNotFoundError(f"{name}: there is no such file or folder.")
        raise UnknownPresetError(name)
    if name in PRESETS or (path / "card.json").is_file():
        return exported(find_directory(name))
    if path.suffix == ".onnx":
        session = Session(path)
        return bare(name, digest(path), session.inputs, session.outputs, session.run)
    for folder in (path, path / "1"):
        if (folder / "saved_model.pb").is_file():
            return saved_model(name, folder)
    return folder_of_images(path)


def exported(directory: Path) -> Source:
    """A directory with a card; its default ability must make images, or give them back."""
    card = read_card(directory)
    outputs = {output.kind: output for output in card.abilities[card.default_ability].outputs}
    if "image" not in outputs and "reconstruction" not in outputs:
        raise ValueError(f"{card.name} makes no images: its ability is {card.default_ability!r}.")
    pipeline = Pipeline.from_directory(directory, batch_size=BATCH_SIZE)
    assert pipeline.ability.file is not None  # a pipeline runs one
    sha256 = card.files[pipeline.ability.file].sha256
    if "image" in outputs:
        return generator(card.name, sha256, pipeline.sampler, card, directory)
    return Source(card.name, sha256, outputs["reconstruction"].row, card, directory)


def bare(
    name: str, sha256: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], run: Callable[..., Any]
) -> Source:
    """A graph without a card."""
    images = [spec for spec in outputs if len(spec.shape) == 4 and spec.shape[3] in (1, 3)]
    wrong = [
        spec
        for spec in inputs
        if spec.dtype != "float32" or [isinstance(size, str) for size in spec.shape] != [True, *[False] * len(spec.row)]
    ]
    if not images or wrong or not inputs:
        shown = ", ".join(f"{spec.name} {spec.dtype}{list(spec.shape)}" for spec in (*inputs, *outputs))
        raise ValueError(
            f"{name} has {shown}: a generator takes float32 (batch, sizes ...) and gives images (batch, height, "
            "width, 1 or 3). Anything else needs its card: name the exported directory."
        )
    image = images[0]
    ability = Ability(
        tuple(Input(spec.name, "float32", ("batch", *spec.shape[1:]), "normal") for spec in inputs),
        (Output(image.name, image.dtype, ("batch", "height", "width", image.shape[3]), "image", IMAGE_RANGE, "NHWC"),),
    )
    return generator(name, sha256, Sampler(ability, run, batch_size=BATCH_SIZE))


def saved_model(name: str, folder: Path) -> Source:
    """A SavedModel's `serving_default`."""
    start_tensorflow()
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    if "serving_default" not in loaded.signatures:
        raise ValueError(f"{name} has no signature 'serving_default', only {sorted(loaded.signatures)}.")
    signature = loaded.signatures["serving_default"]

    def specs(tensors: dict[str, Any]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(key, spec.dtype.name, tuple("batch" if size is None else size for size in spec.shape))
            for key, spec in tensors.items()
        )

    def run(feeds: dict[str, np.ndarray], kept: Any = loaded) -> dict[str, np.ndarray]:  # `kept` holds the variables
        outputs = signature(**{key: tf.constant(value) for key, value in feeds.items()})
        return {key: value.numpy() for key, value in outputs.items()}

    files = [folder / "saved_model.pb", *sorted((folder / "variables").glob("*"))]
    inputs = specs(signature.structured_input_signature[1])
    return bare(name, digest(*files), inputs, specs(signature.structured_outputs), run)


def generator(
    name: str, sha256: str, sampler: Sampler, card: Card | None = None, directory: Path | None = None
) -> Source:
    """A source that a sampler draws; its size is that of its first image."""
    size = np.asarray(sampler.sample(1, 0)).shape[1:]
    return Source(name, sha256, size, card, directory, sampler)


def folder_of_images(path: Path) -> Source:
    """All the images of a folder or zip, whatever splits it has; they must be of one size."""
    load = partial(load_images, str(path), split="all", image_size=None)
    image_set = load(channels=count_channels(path))
    return Source(image_set.name, image_set.fingerprint, image_set.images.shape[1:], images=image_set.images)


def shuffled(rows: int) -> np.ndarray:
    """The numbers of the rows in an order that has nothing to do with classes, the same whenever asked."""
    return np.random.Generator(np.random.Philox(0)).permutation(rows)


def digest(*files: Path) -> str:
    """sha256 over the files' bytes, one after the other."""
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()
