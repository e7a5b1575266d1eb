"""Train step throughput of this library's models beside the same models in PyTorch.

    python -m benchmarks.train_step --rounds 7 --threads 2
    python -m benchmarks.train_step --model wgan-gp
    python -m benchmarks.train_step --contenders zoo zoo-fed zoo-deterministic --baseline zoo

The DCGAN is that of PyTorch's example, the other models are presets. One batch of noise stays in
memory: reading data is no part of the figures, but for `zoo-fed`, whose distance from `zoo` is what waiting for data
costs. The library keeps no moving average of the generator here, though its default does, but where the peer keeps one.
A growing network is measured at its full size; a penalty that is not due in every step counts with its share.
"""

import dataclasses
import math
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import tyro

from benchmarks import harness
from benchmarks.harness import CHANNELS, LATENT_DIM, Contender, NotRunError
from benchmarks.models import DISCRIMINATOR, GENERATOR_TWICE, MODELS, Measured
from zoo.data.batches import batches
from zoo.data.images import ImageSet, allocate, iterate_chunks
from zoo.training.optimizers import Adam

ADAM = Adam(2e-4, beta_1=0.5)  # as in PyTorch's example
SHARE_OF_MEMORY = 1 / 4  # of what is free, for the images of `zoo-fed`: beside other contenders and programs


@dataclass(frozen=True, kw_only=True)
class Options(harness.Options):
    """Train step throughput, contenders side by side."""

    model: Literal[
        "dcgan",
        "wgan-gp",
        "sngan",
        "cgan",
        "vae",
        "classifier",
        "pixelcnn",
        "rbm",
        "progan",
        "stylegan",
        "stylegan2",
        "cyclegan",
    ] = "dcgan"
    """What is trained: the DCGAN of --image-size and --width, or the preset of this kind, for MNIST, Fashion-MNIST or,
    of the last four, 64x64 in color."""
    tiny: bool = False
    """The preset's twin at test size, to try a model out."""
    contenders: tuple[str, ...] = ()
    """Which to run; by default all that the model has, but in bfloat16 only where the CPU computes in it."""
    batch_size: int = 64
    """Rows of a batch; a row is one image, but of WGAN-GP one for each update of the critic."""
    steps: int = 5
    """Train steps a turn; a contender that makes several in one call makes whole calls of them, and a model with
    penalties every 16 steps whole sixteens."""
    images: int = 60_000
    """Images that `zoo-fed` reads from memory; fewer where they would take more than a quarter of what is free."""

    def __post_init__(self) -> None:
        """Refuse what can't be meant.

        Raises:
            ValueError: a number below 1, or a size of a model whose preset has its own.
        """
        super().__post_init__()
        own = self.model != "dcgan" or self.tiny
        if own and (self.image_size, self.width) != (Options.image_size, Options.width):
            raise ValueError("image_size and width are the DCGAN's; the other models have those of their presets.")

    @property
    def measured(self) -> Measured:
        """The model."""
        return MODELS[self.model]

    @property
    def changes(self) -> dict[str, Any]:
        """Constructor arguments that differ from the preset's, and whether its tiny twin's are taken instead."""
        if self.model != "dcgan" or self.tiny:
            return {"tiny": self.tiny}
        return {"image_shape": (self.image_size, self.image_size, CHANNELS), "width": self.width}


def zoo(
    options: Options,
    *,
    precision: str = "float32",
    schedule: str | None = None,
    deterministic: bool = False,
    steps_per_execution: int = 1,
    xla: bool = False,
    onednn: bool = True,
    fed: bool = False,
) -> Contender:
    """This library's model; `fed` with batches as a recipe is, otherwise with one that stays.

    Deterministic operations can't be switched off again, nor oneDNN: such a contender needs a process of its own.

    Raises:
        NotRunError: it computes in float32 whatever is asked for.
    """
    if precision != "float32" and not options.measured.bfloat16:
        raise NotRunError(f"{options.model} computes in float32 alone")
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = str(int(onednn))
    import tensorflow as tf

    from zoo.core.precision import computing_in

    if deterministic:
        tf.config.experimental.enable_op_determinism()
    measured, changes = options.measured, options.changes | ({"schedule": schedule} if schedule else {})
    with computing_in(precision):
        model = measured.build(**changes)
    model.compile(**measured.make_optimizers(model), steps_per_execution=steps_per_execution, jit_compile=xla)
    if fed:
        held = image_set(options)
        note = f"fed from {len(held.images):,} images in memory, {held.images.nbytes / 2**20:.0f} MiB"
        data = batches(held, batch_size=options.batch_size, seed=0)
        return dataclasses.replace(keras_contender(model, data), note=note)
    batch = measured.make_batch(measured.arguments(**changes), options.batch_size)
    built = keras_contender(model, repeated(batch), steps_per_execution)
    dtype = "bfloat16" if precision == "mixed_bfloat16" else "float32"
    return dataclasses.replace(built, precision=dtype, images_per_row=model.minibatches_per_step)


def pytorch(options: Options, *, bfloat16: bool = False, compiled: bool = False, **formats: bool) -> Contender:
    """The peer in PyTorch, eager or with `torch.compile`; `formats` are arguments that the DCGAN alone has."""
    torch, peer = harness.import_pytorch(options.measured.peer)
    if compiled and not (shutil.which("g++") or shutil.which("clang++")):
        raise NotRunError("torch.compile needs a C++ compiler: there is neither g++ nor clang++")
    measured = options.measured
    formats |= {"compiled": True} if compiled else {}
    step = peer.TrainStep(**measured.peer_arguments(**options.changes), bfloat16=bfloat16, **formats)
    batch = pytorch_batch(torch, measured.make_batch(measured.arguments(**options.changes), options.batch_size))
    if formats.get("channels_last"):
        batch[0] = batch[0].contiguous(memory_format=torch.channels_last)
    parameters = {name: list(network.parameters()) for name, network in step.networks.items()}
    return contender(
        lambda: step(*batch),
        parameters,
        precision="bfloat16" if bfloat16 else "float32",
        images_per_row=measured.minibatches(measured.arguments(**options.changes)),
    )


def pytorch_batch(torch: Any, batch: Mapping[str, np.ndarray]) -> list[Any]:
    """A batch as PyTorch's users hold it: channels first, a critic's minibatches in turn, labels or targets behind."""
    images = torch.from_numpy(np.moveaxis(batch["image"], -1, -3).copy())
    if images.ndim == 5:
        images = images.swapaxes(0, 1).contiguous()
    if "target" in batch:
        return [images, torch.from_numpy(np.moveaxis(batch["target"], -1, -3).copy())]
    return [images, torch.from_numpy(batch["label"])] if "label" in batch else [images]


def keras_tutorial(options: Options) -> Contender:
    """keras.io's step on this library's networks."""
    from benchmarks.peers.keras_tutorial import TutorialGAN
    from zoo.networks import convolutional

    arguments = options.measured.arguments(**options.changes)
    shape, width = arguments["image_shape"], arguments["width"]
    generator = convolutional.generator(shape, LATENT_DIM, width)
    model = TutorialGAN(generator, convolutional.discriminator(shape, width), LATENT_DIM)
    model.compile(ADAM.build(), ADAM.build())
    return keras_contender(model, repeated(options.measured.make_batch(arguments, options.batch_size)["image"]))


def keras_contender(model: Any, data: Any, steps_per_call: int = 1) -> Contender:
    """A compiled Keras model on an endless `tf.data.Dataset`, driven as `fit` drives it but without callbacks."""
    iterator = iter(data)
    model.make_train_function()
    networks = [network for networks in model.players.values() for network in networks]
    weights = {network.name: network.trainable_weights for network in networks}
    return contender(lambda: model.train_function(iterator).values(), weights, steps_per_call)


def contender(
    step: Callable[[], Iterable[Any]], networks: Mapping[str, Iterable[Any]], steps_per_call: int = 1, **facts: Any
) -> Contender:
    """A contender of a train step.

    Args:
        step: makes `steps_per_call` train steps and returns the losses.
        networks: name -> the network's parameters.
        steps_per_call: train steps of a call.
        **facts: other fields of the contender.
    """

    def run(_: int, steps: int) -> int:
        calls = math.ceil(steps / steps_per_call)
        for _ in range(calls):
            losses = step()
        if not all(math.isfinite(float(loss)) for loss in losses):
            raise FloatingPointError("a loss is not finite: what no longer trains has no speed")
        return calls * steps_per_call

    return Contender(run, harness.parameters_of(**networks), **facts)


def repeated(batch: Any) -> Any:  # tf.data.Dataset
    """An endless `tf.data.Dataset` of one batch."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensors(batch).repeat()


def image_set(options: Options) -> ImageSet:
    """`options.images` images of noise in memory, uint8; fewer on a machine that is short of it.

    Raises:
        NotRunError: there is no room for one batch.
    """
    shape = options.measured.arguments(**options.changes)["image_shape"]
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


IN_BFLOAT16 = {
    "zoo-bfloat16": partial(zoo, precision="mixed_bfloat16"),
    "pytorch-bfloat16": partial(pytorch, bfloat16=True),
}
OF_EVERY_MODEL = {"zoo": zoo, "pytorch": pytorch, **IN_BFLOAT16}
CONTENDERS = {
    **OF_EVERY_MODEL,
    "pytorch-channels-last": partial(pytorch, channels_last=True),
    "pytorch-channels-last-bfloat16": partial(pytorch, channels_last=True, bfloat16=True),
    "pytorch-compiled": partial(pytorch, compiled=True),
    "keras-tutorial": keras_tutorial,
    "zoo-alternating": partial(zoo, schedule="alternating"),
    "zoo-deterministic": partial(zoo, deterministic=True),
    "zoo-10-steps-per-execution": partial(zoo, steps_per_execution=10),
    "zoo-xla": partial(zoo, xla=True),
    "zoo-without-onednn": partial(zoo, onednn=False),
    "zoo-fed": partial(zoo, fed=True),
}
FRESH_FAKES = ("zoo-alternating", "keras-tutorial")  # one forward pass of G more


def choose_contenders(options: Options) -> tuple[str, ...]:
    """Those that are asked for; by default all that the model has, but for bfloat16 where the CPU lacks it."""
    if options.contenders:
        return options.contenders
    names = CONTENDERS if options.model == "dcgan" else OF_EVERY_MODEL
    return tuple(name for name in names if "bfloat16" not in name or harness.computes_in_bfloat16())


def count_flops(options: Options) -> dict[str, float]:
    """Contender -> FLOPs that its algorithm needs for an image, whatever more it computes; empty if not counted."""
    measured = options.measured
    if not measured.passes:
        return {}
    model = measured.build(**options.changes)
    flops = dict.fromkeys(CONTENDERS, measured.step_flops(model) / model.minibatches_per_step)
    if options.model == "dcgan":
        fresh = dataclasses.replace(measured, passes={"generator": GENERATOR_TWICE, "discriminator": DISCRIMINATOR})
        flops |= dict.fromkeys(FRESH_FAKES, float(fresh.step_flops(model)))
    return flops


def main(arguments: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, args=arguments, description=__doc__)
    options = dataclasses.replace(options, contenders=choose_contenders(options))
    known = CONTENDERS if options.model == "dcgan" else OF_EVERY_MODEL
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # this process stays light
        flops = pool.submit(count_flops, options).result()
    period = options.measured.period
    cases = {options.batch_size: math.ceil(options.steps / period) * period}
    outcome = harness.compare("benchmarks.train_step", known, options, cases, flops)
    shape = options.measured.arguments(**options.changes)["image_shape"]
    harness.report(f"{options.model} train step, {'x'.join(map(str, shape))}", outcome)


if __name__ == "__main__":
    main()
