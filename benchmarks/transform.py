"""Speed of models that turn images into images, in every format, beside the same networks in PyTorch.

    python -m benchmarks.transform --model srresnet --rounds 7 --threads 2
    python -m benchmarks.transform --model cyclegan --side 512

Float32 images go in and come out, as NumPy arrays. Networks have their presets' sizes and random weights. Megapixels
are those of the translation, or of the enlarged image.
"""

import dataclasses
import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from benchmarks import harness
from benchmarks.harness import Contender, NotRunError
from serving.card import Card, Data, read_card
from serving.session import CPU, Session
from zoo.presets.table import find_preset
from zoo.pretrained import load_pretrained
from zoo.training.run import build_model

PRESETS = {"cyclegan": "cyclegan-blob-to-noto", "srresnet": "srresnet-sign-digits"}
Built = tuple[Callable[[np.ndarray], np.ndarray], Sequence[Any]]  # NHWC images -> NHWC images; parameters, where known


@dataclass(frozen=True, kw_only=True)
class Options(harness.Options):
    """Speed of image-to-image models, side by side."""

    model: Literal["cyclegan", "srresnet"] = "srresnet"
    """A translator of CycleGAN, or SRResNet, which enlarges four times."""
    side: int = 128
    """Of the images that go in, pixels."""
    batch_sizes: tuple[int, ...] = (1,)
    """Images a call."""
    images: int = 4
    """Images a turn, but at least one call."""
    folder: str = ""
    """Of the export, which the benchmark makes."""


def onnx_runtime(card: Card, options: Options) -> Built:
    """`serving.Session`."""
    ability = card.abilities[card.default_ability]
    if ability.file is None:
        raise NotRunError(f"{options.folder} holds no ONNX file")
    session = Session(Path(options.folder) / ability.file, providers=[CPU], threads=options.threads)
    return lambda images: session.run({"image": images})[ability.outputs[0].name], ()


def saved_model(card: Card, options: Options) -> Built:
    """The signature of the default ability of the SavedModel."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(Path(options.folder) / "saved_model" / "1"))
    signature, output = loaded.signatures["serving_default"], card.abilities[card.default_ability].outputs[0].name
    return lambda images, kept=loaded: signature(image=tf.constant(images))[output].numpy(), ()


def keras_call(card: Card, options: Options) -> Built:
    """The compiled function that `GenerativeModel.run_ability` calls."""
    model, output = load_pretrained(options.folder), card.abilities[card.default_ability].outputs[0].name
    network = model.abilities()[card.default_ability].network
    return lambda images: model.run_ability(card.default_ability, {"image": images})[output], network.trainable_weights


def pytorch(card: Card, options: Options) -> Built:
    """The peer's network in evaluation mode, eager, with weights of its own."""
    torch, peer = harness.import_pytorch(options.model)
    arguments = card.model["arguments"]
    if options.model == "cyclegan":
        network = peer.translator(arguments["image_shape"][-1], arguments["width"], arguments.get("blocks") or 6)
    else:
        network = peer.generator(arguments["image_shape"][-1], arguments["width"], arguments["blocks"])
    network = network.eval()

    def transform(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            made = network(torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1))))
        return np.moveaxis(made.numpy(), 1, -1)

    return transform, list(network.parameters())


def contender(build: Callable[[Card, Options], Built], options: Options) -> Contender:
    """What `build` builds, fed with images of its own."""
    card = read_card(Path(options.folder))
    transform, parameters = build(card, options)
    ability = card.abilities[card.default_ability]
    channels, side = ability.inputs[0].shape[-1], options.side * ability.scale

    def run(batch: int, calls: int) -> int:
        images = np.random.default_rng(0).uniform(-1, 1, (batch, options.side, options.side, channels))
        for _ in range(calls):
            made = transform(images.astype(np.float32))
        if made.shape != (batch, side, side, channels) or not np.isfinite(made).all():
            raise ValueError(f"what came out are no images, but an array of shape {made.shape}")
        return calls

    note = f"an image that comes out has {side * side / 1e6:.4g} megapixels"
    return Contender(run, harness.parameters_of(network=parameters) if parameters else {}, note=note)


CONTENDERS = {
    "onnx-runtime": partial(contender, onnx_runtime),
    "saved-model": partial(contender, saved_model),
    "keras-call": partial(contender, keras_call),
    "pytorch": partial(contender, pytorch),
}


def export_model(preset: str, folder: str) -> None:
    """Write the preset's model with random weights, in every format, to `folder`."""
    from zoo.export.export import export

    found = find_preset(preset)
    export(build_model(found), Path(folder), preset=found, data=Data("none", "none", 1, "none", "none"), recipe={})


def main(arguments: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, args=arguments, description=__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        folder = f"{temporary}/{options.model}"
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # this process stays light
            pool.submit(export_model, PRESETS[options.model], folder).result()
        cases = {batch: max(1, options.images // batch) for batch in options.batch_sizes}
        options = dataclasses.replace(options, folder=folder)
        outcome = harness.compare("benchmarks.transform", CONTENDERS, options, cases)
    harness.report(f"{options.model}, {options.side}x{options.side} in", outcome)


if __name__ == "__main__":
    main()
