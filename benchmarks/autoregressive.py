"""Samples that are drawn step by step: the exported step, by ONNX Runtime and by Keras, beside PyTorch.

    python -m benchmarks.autoregressive --threads 1 --rounds 1
    python -m benchmarks.autoregressive --model rbm --threads 1 --rounds 1

PyTorch's PixelCNN computes the whole network for every pixel, the RBM's Gibbs sampling is the same everywhere.

Weights are random: they change nothing about the time. A call draws a batch.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from benchmarks import harness
from benchmarks.harness import Contender
from benchmarks.models import MODELS, Measured


@dataclass(frozen=True, kw_only=True)
class Options(harness.Options):
    """Samples a second, side by side."""

    model: Literal["pixelcnn", "rbm"] = "pixelcnn"
    """Whose preset, for MNIST, is sampled."""
    tiny: bool = False
    """The preset's twin at test size."""
    batch_sizes: tuple[int, ...] = (16,)
    """Images a call."""

    @property
    def measured(self) -> Measured:
        """The model."""
        return MODELS[self.model]


def onnx_runtime(options: Options) -> Contender:
    """The exported step, repeated as `serving` does."""
    from serving.sampling.sampler import Sampler
    from serving.session import CPU, Session
    from zoo.export.onnx import write_onnx

    model = options.measured.build(options.tiny)
    ability = model.abilities()["step"]
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(ability, Path(folder) / "step.onnx", rounded=True)
        session = Session(Path(folder) / "step.onnx", providers=[CPU], threads=options.threads)
    sampler = Sampler(ability.card(), session.run)
    return contender(lambda batch: sampler.sample(batch), weights_of(model))


def keras_call(options: Options) -> Contender:
    """`GenerativeModel.sample`."""
    model = options.measured.build(options.tiny)
    return contender(lambda batch: model.sample(batch), weights_of(model))


def pytorch(options: Options) -> Contender:
    """The peer."""
    _, peer = harness.import_pytorch(options.measured.peer)
    step = peer.TrainStep(**options.measured.peer_arguments(options.tiny))
    return contender(lambda batch: step.sample(batch).numpy(), list(step.network.parameters()))


def weights_of(model: Any) -> list[Any]:
    """The trainable weights of a model of one network."""
    ((network,),) = model.players.values()
    return network.trainable_weights


def contender(sample: Callable[[int], np.ndarray], parameters: Sequence[Any]) -> Contender:
    """What draws a batch, with its parameters."""

    def run(batch: int, calls: int) -> int:
        for _ in range(calls):
            images = sample(batch)
        if len(images) != batch or not np.isfinite(images).all():
            raise ValueError(f"what came out are no {batch} images, but an array of shape {images.shape}")
        return calls

    return Contender(run, harness.parameters_of(network=parameters))


CONTENDERS: dict[str, Callable[[Options], Contender]] = {
    "onnx-runtime": onnx_runtime,
    "keras-call": keras_call,
    "pytorch": pytorch,
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, args=arguments, description=__doc__)
    outcome = harness.compare("benchmarks.autoregressive", CONTENDERS, options, dict.fromkeys(options.batch_sizes, 1))
    shape = options.measured.arguments(options.tiny)["image_shape"]
    harness.report(f"{options.model} samples, {'x'.join(map(str, shape))}", outcome)


if __name__ == "__main__":
    main()
