"""Convolutions that double, halve or are modulated: in the library's form, and as they are written down.

    python -m benchmarks.fused --batch-size 16

CPU milliseconds of one thread; both forms of a case take turns in one process. `gradients`: forward, then by the inputs
and the kernel. `penalty`: the squared gradient by the inputs, and its gradient by the kernel, as R1 and the path length
need it.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from benchmarks import harness

KINDS = ("nearest, 3x3", "3x3, means", "filter, 1x1", "modulated 3x3")
SIZES = ((8, 128, 64), (32, 32, 16))  # side and channels of the smaller maps, channels of the larger ones
WORK = ("forward", "gradients", "penalty")
STYLE_DIM, CALLS = 128, 3


@dataclass(frozen=True, kw_only=True)
class Options:
    """Two forms of the same convolutions, side by side."""

    batch_size: int = 16
    """Rows."""
    rounds: int = 7
    """Turns of three calls of each form; their median is told."""


def build(kind: str, batch: int, side: int, channels: int, filters: int) -> tuple[Any, Any, list[Any], Any]:
    """The library's form, the plain one, the inputs of both and the kernel of both."""
    import keras
    from keras import layers, ops

    from zoo.layers import resampling
    from zoo.layers.equalized import EqualizedConv2D
    from zoo.layers.modulated import ModulatedConv2D

    small = keras.random.normal((batch, side, side, channels), seed=0)
    maps = (
        small
        if kind in ("nearest, 3x3", "modulated 3x3")
        else keras.random.normal((batch, 2 * side, 2 * side, filters), seed=0)
    )
    inputs = [maps, keras.random.normal((batch, STYLE_DIM), seed=0)] if kind == "modulated 3x3" else [maps]
    layer = {
        "nearest, 3x3": partial(resampling.EqualizedUpConv2D, filters, 3),
        "3x3, means": partial(resampling.EqualizedDownConv2D, channels, 3),
        "filter, 1x1": partial(resampling.EqualizedBlurDownConv2D, channels, 1),
        "modulated 3x3": partial(ModulatedConv2D, channels, 3),
    }[kind]()
    layer.build([each.shape for each in inputs] if len(inputs) > 1 else maps.shape)
    plain = {
        "nearest, 3x3": lambda x: EqualizedConv2D.call(layer, layers.UpSampling2D(2)(x)),
        "3x3, means": lambda x: layers.AveragePooling2D(2)(EqualizedConv2D.call(layer, x)),
        "filter, 1x1": lambda x: layer.add_bias(
            ops.conv(resampling.blur(x, resampling.TAPS, (1, 1)), layer.scaled_kernel(), 2, "valid")
        ),
        "modulated 3x3": partial(convolve_by_row, layer),
    }[kind]
    return lambda *each: layer(each if len(each) > 1 else each[0]), plain, inputs, layer.kernel


def convolve_by_row(layer: Any, maps: Any, style: Any) -> Any:
    """`ModulatedConv2D` as StyleGAN2 has it (eq. 1 and 3): each row's kernel, all rows in one grouped convolution."""
    import tensorflow as tf
    from keras import ops

    rows, side, _, channels = maps.shape
    kernel = (layer.affine(style) * layer.scale)[:, None, None, :, None] * layer.kernel  # (batch, k, k, in, out)
    kernel = kernel * ops.rsqrt(ops.sum(ops.square(kernel), axis=(1, 2, 3), keepdims=True) + 1e-8)
    kernel = ops.reshape(ops.transpose(kernel, (1, 2, 3, 0, 4)), (*kernel.shape[1:4], rows * layer.filters))
    maps = ops.reshape(ops.transpose(maps, (1, 2, 0, 3)), (1, side, side, rows * channels))
    maps = ops.reshape(tf.nn.conv2d(maps, kernel, 1, "SAME"), (side, side, rows, layer.filters))
    return ops.transpose(maps, (2, 0, 1, 3))


def compile_work(form: Callable[..., Any], inputs: Sequence[Any], kernel: Any) -> dict[str, Callable[[], Any]]:
    """The compiled functions of `WORK`."""
    import tensorflow as tf

    direction = tf.random.stateless_normal(form(*inputs).shape, (0, 0))

    def gradients() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            along = tf.reduce_sum(form(*inputs) * direction)
        return tape.gradient(along, [*inputs, kernel.value])

    def penalty() -> Any:
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                along = tf.reduce_sum(form(*inputs) * direction)
            squares = tf.add_n([tf.reduce_sum(each**2) for each in inner.gradient(along, inputs)])
        return outer.gradient(squares, kernel.value)

    functions = (partial(form, *inputs), gradients, penalty)
    return {work: tf.function(function) for work, function in zip(WORK, functions, strict=True)}


def measure(contenders: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """CPU milliseconds a call of each, which take turns; the first turn, which traces, is not counted."""
    turns: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds + 1):
        for contender, own in zip(contenders, turns, strict=True):
            start = time.process_time()
            for _ in range(CALLS):
                contender()
            own.append(1000 * (time.process_time() - start) / CALLS)
    return [median(own[1:]) for own in turns]


def main(arguments: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, args=arguments, description=__doc__)
    os.environ.update(harness.on_the_cpu(1))  # read when TensorFlow is imported
    table = Table("CPU ms: the library's, plain (how many times)", *WORK, title=f"batch {options.batch_size}, float32")
    for side, channels, filters in SIZES:
        for kind in KINDS:
            *forms, inputs, kernel = build(kind, options.batch_size, side, channels, filters)
            works = [compile_work(form, inputs, kernel) for form in forms]
            pairs = [measure([work[name] for work in works], options.rounds) for name in WORK]
            size = f"{side}x{side}x{channels}" + f", {2 * side}x{2 * side}x{filters}" * (kind != "modulated 3x3")
            table.add_row(
                f"{kind}: {size}", *(f"{ours:.2f}, {plain:.2f} ({plain / ours:.1f})" for ours, plain in pairs)
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
