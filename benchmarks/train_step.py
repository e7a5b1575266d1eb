"""Train step throughput of the DCGAN of PyTorch's example: this library beside its peers.

    python -m benchmarks.train_step --rounds 7 --threads 2

One batch of noise stays in memory: reading data is no part of the figures. The library keeps no moving average of the
generator here, though its default does: no peer keeps one.
"""

import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tyro

from benchmarks import harness
from benchmarks.harness import CHANNELS, LATENT_DIM, Contender, NotRunError
from recipes.recipe import Adam

ADAM = Adam(2e-4, beta_1=0.5)  # as in PyTorch's example


@dataclass(frozen=True, kw_only=True)
class Options(harness.Options):
    """Train step throughput, contenders side by side."""

    batch_size: int = 64
    """Pictures a step."""
    steps: int = 5
    """Train steps a turn."""


def zoo(options: Options, *, schedule: str) -> Contender:
    """This library's `GAN`."""
    from zoo.models.gan import GAN

    images = pictures(options)
    model = GAN(images.shape[1:], LATENT_DIM, width=options.width, schedule=schedule, average_decay=None)
    model.compile(generator=ADAM.build(), discriminator=ADAM.build())
    return keras_contender(model, {"image": images, "row": np.arange(options.batch_size)})


def keras_tutorial(options: Options) -> Contender:
    """keras.io's step on this library's networks."""
    from benchmarks.peer_keras import TutorialGAN
    from zoo.networks import convolutional

    images = pictures(options)
    generator = convolutional.generator(images.shape[1:], LATENT_DIM, options.width)
    model = TutorialGAN(generator, convolutional.discriminator(images.shape[1:], options.width), LATENT_DIM)
    model.compile(ADAM.build(), ADAM.build())
    return keras_contender(model, images)


def pytorch(options: Options, *, compiled: bool = False) -> Contender:
    """PyTorch's example, eager or with `torch.compile`."""
    torch, peer = harness.import_pytorch()
    if compiled and not (shutil.which("g++") or shutil.which("clang++")):
        raise NotRunError("torch.compile needs a C++ compiler: there is neither g++ nor clang++")
    generator = peer.generator(options.image_size, CHANNELS, LATENT_DIM, options.width)
    discriminator = peer.discriminator(options.image_size, CHANNELS, options.width)
    step = peer.TrainStep(generator, discriminator, LATENT_DIM, compiled=compiled)
    real = torch.from_numpy(pictures(options)).permute(0, 3, 1, 2).contiguous()
    return contender(lambda: step(real), generator.parameters(), discriminator.parameters())


def keras_contender(model: Any, element: Any) -> Contender:
    """A compiled Keras model, driven as `fit` drives it but without callbacks."""
    import tensorflow as tf

    iterator = iter(tf.data.Dataset.from_tensors(element).repeat())
    model.make_train_function()
    weights = model.generator.trainable_weights, model.discriminator.trainable_weights
    return contender(lambda: model.train_function(iterator).values(), *weights)


def contender(step: Callable[[], Iterable[Any]], generator: Iterable[Any], discriminator: Iterable[Any]) -> Contender:
    """`step` makes one train step and returns its losses; the others are the networks' parameters."""

    def run(_: int, calls: int) -> None:
        for _ in range(calls):
            losses = step()
        if not all(math.isfinite(float(loss)) for loss in losses):
            raise FloatingPointError("a loss is not finite: what no longer trains has no speed")

    return Contender(run, harness.parameters_of(generator=generator, discriminator=discriminator))


def pictures(options: Options) -> np.ndarray:
    """A batch of noise, float32 (batch, height, width, channels) in [-1, 1]."""
    shape = (options.batch_size, options.image_size, options.image_size, CHANNELS)
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


CONTENDERS = {
    "zoo-shared": partial(zoo, schedule="shared"),
    "zoo-alternating": partial(zoo, schedule="alternating"),
    "pytorch": pytorch,
    "pytorch-compiled": partial(pytorch, compiled=True),
    "keras-tutorial": keras_tutorial,
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, args=arguments, description=__doc__)
    outcome = harness.compare("benchmarks.train_step", CONTENDERS, options, {options.batch_size: options.steps})
    harness.report(f"DCGAN train step, {options.image_size}x{options.image_size}, width {options.width}", outcome)


if __name__ == "__main__":
    main()
