"""Train step throughput of the DCGAN of PyTorch's example: this library beside its peers.

    python -m benchmarks.train_step --rounds 7 --threads 2
    python -m benchmarks.train_step --contenders zoo-shared zoo-fed zoo-deterministic --baseline zoo-shared

One batch of noise stays in memory: reading data is no part of the figures, but for `zoo-fed`, whose distance from
`zoo-shared` is what waiting for data costs. The library keeps no moving average of the generator here, though its
default does: no peer keeps one.
"""

import dataclasses
import math
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tyro

from benchmarks import harness
from benchmarks.harness import CHANNELS, LATENT_DIM, Contender, NotRunError
from zoo.data.batches import batches
from zoo.data.images import ImageSet, allocate, iterate_chunks
from zoo.training.recipe import Adam

ADAM = Adam(2e-4, beta_1=0.5)  # as in PyTorch's example
SHARE_OF_MEMORY = 1 / 4  # of what is free, for the images of `zoo-fed`: beside other contenders and programs


@dataclass(frozen=True, kw_only=True)
class Options(harness.Options):
    """Train step throughput, contenders side by side."""

    contenders: tuple[str, ...] = ()
    """Which to run; by default all but `zoo-mixed-bfloat16`, many times slower on a CPU that lacks bfloat16."""
    batch_size: int = 64
    """Images a step."""
    steps: int = 5
    """Train steps a turn; a contender that makes several in one call makes whole calls of them."""
    images: int = 60_000
    """Images that `zoo-fed` reads from memory; fewer where they would take more than a quarter of what is free."""


def zoo(
    options: Options,
    *,
    schedule: str = "shared",
    precision: str = "float32",
    deterministic: bool = False,
    steps_per_execution: int = 1,
    xla: bool = False,
    onednn: bool = True,
    fed: bool = False,
) -> Contender:
    """This library's `GAN`; `fed` with batches as a recipe is, otherwise with one that stays.

    Deterministic operations can't be switched off again, nor oneDNN: such a contender needs a process of its own.
    """
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = str(int(onednn))
    import tensorflow as tf

    from zoo.core.precision import computing_in
    from zoo.models.gan import GAN

    if deterministic:
        tf.config.experimental.enable_op_determinism()
    images = make_images(options)
    with computing_in(precision):
        model = GAN(images.shape[1:], LATENT_DIM, width=options.width, schedule=schedule, ema_decay=None)
    how = {"steps_per_execution": steps_per_execution, "jit_compile": xla}
    model.compile(generator=ADAM.build(), discriminator=ADAM.build(), **how)
    if not fed:
        constant = repeated({"image": images, "row": np.arange(options.batch_size)})
        return keras_contender(model, constant, steps_per_execution)
    held = image_set(options)
    note = f"fed from {len(held.images):,} images in memory, {held.images.nbytes / 2**20:.0f} MiB"
    data = batches(held, batch_size=options.batch_size, seed=0)
    return dataclasses.replace(keras_contender(model, data), note=note)


def keras_tutorial(options: Options) -> Contender:
    """keras.io's step on this library's networks."""
    from benchmarks.peer_keras import TutorialGAN
    from zoo.networks import convolutional

    images = make_images(options)
    generator = convolutional.generator(images.shape[1:], LATENT_DIM, options.width)
    model = TutorialGAN(generator, convolutional.discriminator(images.shape[1:], options.width), LATENT_DIM)
    model.compile(ADAM.build(), ADAM.build())
    return keras_contender(model, repeated(images))


def pytorch(options: Options, *, compiled: bool = False) -> Contender:
    """PyTorch's example, eager or with `torch.compile`."""
    torch, peer = harness.import_pytorch()
    if compiled and not (shutil.which("g++") or shutil.which("clang++")):
        raise NotRunError("torch.compile needs a C++ compiler: there is neither g++ nor clang++")
    generator = peer.generator(options.image_size, CHANNELS, LATENT_DIM, options.width)
    discriminator = peer.discriminator(options.image_size, CHANNELS, options.width)
    step = peer.TrainStep(generator, discriminator, LATENT_DIM, compiled=compiled)
    real = torch.from_numpy(make_images(options)).permute(0, 3, 1, 2).contiguous()
    return contender(lambda: step(real), generator.parameters(), discriminator.parameters())


def keras_contender(model: Any, data: Any, steps_per_call: int = 1) -> Contender:
    """A compiled Keras model on an endless `tf.data.Dataset`, driven as `fit` drives it but without callbacks."""
    iterator = iter(data)
    model.make_train_function()
    weights = model.generator.trainable_weights, model.discriminator.trainable_weights
    return contender(lambda: model.train_function(iterator).values(), *weights, steps_per_call)


def contender(
    step: Callable[[], Iterable[Any]],
    generator: Iterable[Any],
    discriminator: Iterable[Any],
    steps_per_call: int = 1,
) -> Contender:
    """`step` makes `steps_per_call` train steps and returns the losses; the others are the networks' parameters."""

    def run(_: int, steps: int) -> int:
        calls = math.ceil(steps / steps_per_call)
        for _ in range(calls):
            losses = step()
        if not all(math.isfinite(float(loss)) for loss in losses):
            raise FloatingPointError("a loss is not finite: what no longer trains has no speed")
        return calls * steps_per_call

    return Contender(run, harness.parameters_of(generator=generator, discriminator=discriminator))


def make_images(options: Options) -> np.ndarray:
    """A batch of noise, float32 (batch, height, width, channels) in [-1, 1]."""
    shape = (options.batch_size, options.image_size, options.image_size, CHANNELS)
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def repeated(batch: Any) -> Any:  # tf.data.Dataset
    """An endless `tf.data.Dataset` of one batch."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensors(batch).repeat()


def image_set(options: Options) -> ImageSet:
    """`options.images` images of noise in memory, uint8; fewer on a machine that is short of it.

    Raises:
        NotRunError: there is no room for one batch.
    """
    shape = (options.image_size, options.image_size, CHANNELS)
    room = harness.free_memory() * SHARE_OF_MEMORY / math.prod(shape)
    count = int(min(options.images, room))
    if count < options.batch_size:
        raise NotRunError(
            f"one batch is {options.batch_size} images; {options.images} were asked for, and a quarter of the free "
            f"memory holds {room:.0f}"
        )
    rng, images = np.random.default_rng(0), allocate((count, *shape))
    for chunk in iterate_chunks(images, 1_000):
        chunk[...] = rng.integers(0, 256, chunk.shape, np.uint8)
    return ImageSet(images, None, (), name="noise", split="train", fingerprint="", ignored=0, broken=(), license="")


CONTENDERS = {
    "zoo-shared": zoo,
    "zoo-alternating": partial(zoo, schedule="alternating"),
    "zoo-deterministic": partial(zoo, deterministic=True),
    "zoo-10-steps-per-execution": partial(zoo, steps_per_execution=10),
    "zoo-xla": partial(zoo, xla=True),
    "zoo-without-onednn": partial(zoo, onednn=False),
    "zoo-fed": partial(zoo, fed=True),
    "zoo-mixed-bfloat16": partial(zoo, precision="mixed_bfloat16"),
    "pytorch": pytorch,
    "pytorch-compiled": partial(pytorch, compiled=True),
    "keras-tutorial": keras_tutorial,
}
ON_REQUEST = ("zoo-mixed-bfloat16",)


def main(arguments: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, args=arguments, description=__doc__)
    if not options.contenders:
        options = dataclasses.replace(options, contenders=tuple(name for name in CONTENDERS if name not in ON_REQUEST))
    outcome = harness.compare("benchmarks.train_step", CONTENDERS, options, {options.batch_size: options.steps})
    harness.report(f"DCGAN train step, {options.image_size}x{options.image_size}, width {options.width}", outcome)


if __name__ == "__main__":
    main()
