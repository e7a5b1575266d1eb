"""Samples of a PixelCNN: the cached step, by ONNX Runtime and by Keras, beside a pass of PyTorch for each pixel.

    python -m benchmarks.autoregressive --threads 1 --rounds 1

Weights are random: they change nothing about the time. A call draws a batch.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks import harness
from benchmarks.harness import Contender
from benchmarks.models import MODELS

MODEL = MODELS["pixelcnn"]


@dataclass(frozen=True, kw_only=True)
class Options(harness.Options):
    """Samples a second of a PixelCNN, side by side."""

    tiny: bool = False
    """The preset's twin at test size."""
    batch_sizes: tuple[int, ...] = (16,)
    """Images a call."""


def onnx_runtime(options: Options) -> Contender:
    """The exported step, repeated as `serving` does."""
    from serving.sampling.sampler import Sampler
    from serving.session import CPU, Session
    from zoo.export.onnx import write_onnx

    model = MODEL.build(options.tiny)
    ability = model.abilities()["step"]
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(ability, Path(folder) / "step.onnx", rounded=True)
        session = Session(Path(folder) / "step.onnx", providers=[CPU], threads=options.threads)
    sampler = Sampler(ability.card(), session.run)
    return contender(lambda batch: sampler.sample(batch), model.network.trainable_weights)


def keras_call(options: Options) -> Contender:
    """`GenerativeModel.sample`."""
    model = MODEL.build(options.tiny)
    return contender(lambda batch: model.sample(batch), model.network.trainable_weights)


def pytorch(options: Options) -> Contender:
    """The peer, which computes the whole network for every pixel."""
    torch, peer = harness.import_pytorch(MODEL.peer)
    network = peer.TrainStep(**MODEL.peer_arguments(options.tiny)).network.eval()
    height, width, _ = MODEL.arguments(options.tiny)["image_shape"]
    return contender(
        lambda batch: network.sample(torch.rand(batch, 1, height, width)).numpy(), list(network.parameters())
    )


def contender(sample: Callable[[int], np.ndarray], parameters: Sequence[Any]) -> Contender:
    """What draws a batch, with its parameters."""

    def run(batch: int, calls: int) -> int:
        for _ in range(calls):
            images = sample(batch)
        if len(images) != batch or not np.isfinite(images).all():
            raise ValueError(f"what came out are no {batch} images, but an array of shape {images.shape}")
        return calls

    return Contender(run, harness.parameters_of(pixel_cnn=parameters))


CONTENDERS: dict[str, Callable[[Options], Contender]] = {
    "onnx-runtime": onnx_runtime,
    "keras-call": keras_call,
    "pytorch": pytorch,
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, args=arguments, description=__doc__)
    outcome = harness.compare("benchmarks.autoregressive", CONTENDERS, options, dict.fromkeys(options.batch_sizes, 1))
    shape = MODEL.arguments(options.tiny)["image_shape"]
    harness.report(f"PixelCNN samples, {'x'.join(map(str, shape))}", outcome)


if __name__ == "__main__":
    main()
