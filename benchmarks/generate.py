"""Speed of one generator in every format it is exported to, beside PyTorch's of the same size.

    python -m benchmarks.generate --rounds 7 --threads 2
    python -m benchmarks.generate --model exported/dcgan-fashion-mnist

Latents go in and float32 images come out, both as NumPy arrays. Batch 1 is the latency of one image. Beside each speed
stands its share of the bound, a large matrix product's FLOPs a processor second.
"""

import dataclasses
import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks import harness
from benchmarks.harness import CHANNELS, Contender, NotRunError
from serving.card import Card, Data, read_card
from serving.session import CPU, Session
from zoo.presets.table import find_preset
from zoo.pretrained import load_pretrained

PRESET = "dcgan-images"
Built = tuple[Callable[[np.ndarray], np.ndarray], Sequence[Any]]  # latents -> NHWC images; parameters, where known


@dataclass(frozen=True, kw_only=True)
class Options(harness.Options):
    """Speed of a generator in every format, side by side."""

    model: str = ""
    """Folder of an exported DCGAN; by default one with random weights is exported for this run."""
    batch_sizes: tuple[int, ...] = (1, 16, 64)
    """Images a call."""
    images: int = 64
    """Images a turn, but at least one call."""


def onnx_runtime(card: Card, options: Options) -> Built:
    """`serving.Session`."""
    file = card.abilities["generate"].file
    if file is None:
        raise NotRunError(f"{options.model} holds no ONNX file")
    session = Session(Path(options.model) / file, providers=[CPU], threads=options.threads)
    return lambda latents: session.run({"latent": latents})["image"], ()


def saved_model(card: Card, options: Options) -> Built:
    """The signature "generate" of the SavedModel."""
    import tensorflow as tf

    folder = Path(options.model) / "saved_model" / "1"
    if not folder.is_dir():
        raise NotRunError(f"{options.model} holds no SavedModel")
    loaded = tf.saved_model.load(str(folder))
    return lambda latents: loaded.signatures["generate"](latent=tf.constant(latents))["image"].numpy(), ()


def keras_call(card: Card, options: Options) -> Built:
    """The compiled function that `GenerativeModel.sample` calls."""
    model = load_pretrained(options.model)
    return lambda latents: model.run_ability("generate", {"latent": latents})[
        "image"
    ], model.generator.trainable_weights


def keras_predict(card: Card, options: Options) -> Built:
    """`keras.Model.predict`."""
    network = load_pretrained(options.model).generator
    return lambda latents: network.predict(latents, len(latents), verbose=0), network.trainable_weights


def pytorch(card: Card, options: Options) -> Built:
    """The example's generator in evaluation mode, eager, with weights of its own."""
    torch, peer = harness.import_pytorch()
    (latent,), (image,) = card.abilities["generate"].inputs, card.abilities["generate"].outputs
    width = card.model["arguments"].get("width") or peer.WIDTH
    network = peer.generator(image.row[0], image.row[2], latent.row[0], width).eval()

    def generate(latents: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            images = network(torch.from_numpy(latents)[:, :, None, None])
        return images.permute(0, 2, 3, 1).numpy()

    return generate, list(network.parameters())


def contender(build: Callable[[Card, Options], Built], options: Options) -> Contender:
    """What `build` builds, fed with latents of its own."""
    card = read_card(Path(options.model))
    generate, parameters = build(card, options)
    (latent,), (image,) = card.abilities["generate"].inputs, card.abilities["generate"].outputs

    def run(batch: int, calls: int) -> int:
        latents = np.random.default_rng(0).standard_normal((batch, *latent.row), np.float32)
        for _ in range(calls):
            images = generate(latents)
        if images.shape != (batch, *image.row) or not np.isfinite(images).all():
            raise ValueError(f"what came out are no images, but an array of shape {images.shape}")
        return calls

    return Contender(run, harness.parameters_of(generator=parameters) if parameters else {})


CONTENDERS = {
    "onnx-runtime": partial(contender, onnx_runtime),
    "saved-model": partial(contender, saved_model),
    "keras-call": partial(contender, keras_call),
    "keras-predict": partial(contender, keras_predict),
    "pytorch": partial(contender, pytorch),
}


def export_model(options: Options, folder: str) -> None:
    """Write a DCGAN with random weights, in every format, to `folder`."""
    from zoo.export.export import export
    from zoo.models.gan import GAN

    arguments = {"image_shape": (options.image_size, options.image_size, CHANNELS), "width": options.width}
    preset = dataclasses.replace(find_preset(PRESET), arguments=arguments)
    export(GAN(**arguments), Path(folder), preset=preset, data=Data("none", "none", 1, "none", "none"), recipe={})


def count_flops(folder: str) -> dict[str, float]:
    """Contender -> FLOPs that the generator's convolutions and dense layers need for an image."""
    from benchmarks.flops import network_flops
    from benchmarks.models import Passes

    network = load_pretrained(folder).abilities()["generate"].network
    return dict.fromkeys(CONTENDERS, float(network_flops(network, Passes(forward=1))))


def main(arguments: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, args=arguments, description=__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(Path(options.model or f"{temporary}/{PRESET}").resolve())
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # this process stays light
            if not options.model:
                pool.submit(export_model, options, folder).result()
            flops = pool.submit(count_flops, folder).result()
        image = read_card(Path(folder)).abilities["generate"].outputs[0]
        cases = {batch: max(1, options.images // batch) for batch in options.batch_sizes}
        options = dataclasses.replace(options, model=folder)
        outcome = harness.compare("benchmarks.generate", CONTENDERS, options, cases, flops)
    harness.report(f"DCGAN generator, {image.row[0]}x{image.row[1]}x{image.row[2]}", outcome)


if __name__ == "__main__":
    main()
