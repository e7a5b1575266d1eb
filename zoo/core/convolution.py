"""Convolutions and their gradients in the forms that a processor computes fastest; the mathematics stays the same.

A convolution y = x * w is linear in each of its two arguments, and its gradients are two more of the kind:
x' = y *^T w, a transposed convolution, and w' = x * y, a product over all rows and places. Each of the three is the
derivative of the others, so the forms here can be differentiated as often as one likes.

With a kernel whose side is n times the stride s, a map cut into blocks of s x s pixels (`space_to_depth`) is convolved
by n x n taps with stride 1. On processors that helps where oneDNN's own routines are far from the arithmetic. Measured
on one thread of an AMD EPYC with AVX512-BF16, batches of 64, kernels of 4x4, stride 2 (a large matrix product: 250
GFLOP/s in float32, 440 in bfloat16):

| | shape | oneDNN | here |
|---|---|---|---|
| x', float32 | 32x32x64 -> 64x64x3 | 34 GFLOP/s | 91 |
| x', bfloat16 | 32x32x64 -> 64x64x3 | 54 | 160 |
| w', bfloat16 | 8x8x256, 4x4x512 | 149 | 404 |
| w', bfloat16 | 16x16x128, 8x8x256 | 221 | 381 |

Elsewhere, and on GPUs, TensorFlow's operations are used as they are.
"""

from collections.abc import Iterable

import tensorflow as tf

from zoo.core.types import Tensor

FEW_CHANNELS = 4  # of images; oneDNN's transposed convolution to so few leaves most of a vector register empty
SMALL_SIDE = 8  # at 16x16 oneDNN's gradient by the weights is as fast, beyond it is faster


def convolve(inputs: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """The convolution with padding "same".

    Args:
        inputs: (batch, side, side, in) float; the batch may be unknown.
        kernel: (size, size, in, out).
        stride: of both sides.

    Returns:
        (batch, ceil(side / stride), ceil(side / stride), out).
    """

    @tf.custom_gradient
    def with_gradient(inputs: Tensor, kernel: Tensor) -> tuple[Tensor, object]:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            return (
                convolve_transposed(upstream, kernel, stride),
                kernel_gradient(inputs, upstream, kernel.shape[0], stride),
            )

        return tf.nn.conv2d(inputs, kernel, stride, "SAME"), gradient

    kernel = tf.convert_to_tensor(kernel)  # a custom gradient takes no variables
    size, _, channels, _ = kernel.shape
    sides = inputs.shape[1:3]
    # The gradient by the input has `stride` times the sides of what it is taken from.
    if all(side is not None and side % stride == 0 for side in sides) and (
        has_fast_transposed(channels, size, stride)
        or has_fast_kernel_gradient([side // stride for side in sides], inputs.dtype, size, stride)
    ):
        return with_gradient(inputs, kernel)
    return tf.nn.conv2d(inputs, kernel, stride, "SAME")


def convolve_transposed(inputs: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """The transposed convolution with padding "same".

    Args:
        inputs: (batch, side, side, in) float; the batch may be unknown.
        kernel: (size, size, out, in).
        stride: how many times larger both sides become.

    Returns:
        (batch, side * stride, side * stride, out).
    """

    @tf.custom_gradient
    def with_gradient(inputs: Tensor, kernel: Tensor) -> tuple[Tensor, object]:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            return (
                convolve(upstream, kernel, stride),
                kernel_gradient(upstream, inputs, kernel.shape[0], stride),
            )

        return (transposed_in_blocks if in_blocks else transposed)(inputs, kernel, stride), gradient

    kernel = tf.convert_to_tensor(kernel)
    size, _, channels, _ = kernel.shape
    in_blocks = has_fast_transposed(channels, size, stride)
    if in_blocks or has_fast_kernel_gradient(inputs.shape[1:3], inputs.dtype, size, stride):
        return with_gradient(inputs, kernel)
    return transposed(inputs, kernel, stride)


def kernel_gradient(larger: Tensor, smaller: Tensor, size: int, stride: int) -> Tensor:
    """The gradient by the kernel of a convolution from `larger` maps to `smaller` ones.

    Args:
        larger: what it is given, (batch, side * stride, side * stride, in) float.
        smaller: the gradient by what it returns, (batch, side, side, out).
        size: of the kernel's sides.
        stride: of the convolution.

    Returns:
        (size, size, in, out).
    """

    @tf.custom_gradient
    def with_gradient(larger: Tensor, smaller: Tensor) -> tuple[Tensor, object]:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            return convolve_transposed(smaller, upstream, stride), convolve(larger, upstream, stride)

        if has_fast_kernel_gradient(smaller.shape[1:3], smaller.dtype, size, stride):
            return kernel_gradient_in_blocks(larger, smaller, size, stride), gradient
        shape = (size, size, larger.shape[-1], smaller.shape[-1])
        return tf.raw_ops.Conv2DBackpropFilter(
            input=larger, filter_sizes=shape, out_backprop=smaller, strides=[1, stride, stride, 1], padding="SAME"
        ), gradient

    return with_gradient(larger, smaller)


def has_fast_transposed(channels: int, size: int, stride: int) -> bool:
    """Whether `transposed_in_blocks` is the faster form of a transposed convolution to so many channels."""
    return stride > 1 and channels <= FEW_CHANNELS and fits_blocks(size, stride) and not has_gpu()


def has_fast_kernel_gradient(sides: Iterable[int | None], dtype: tf.DType, size: int, stride: int) -> bool:
    """Whether `kernel_gradient_in_blocks` is the faster form, `sides` being those of the smaller maps."""
    small = all(side is not None and side <= SMALL_SIDE for side in sides)
    return small and dtype == tf.bfloat16 and fits_blocks(size, stride) and not has_gpu()


def fits_blocks(size: int, stride: int) -> bool:
    """Whether the kernel covers whole blocks of the stride, and as far to the left as to the right."""
    return size % stride == 0 and (size - stride) % 2 == 0


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU: cuDNN's routines are then left alone."""
    return bool(tf.config.list_physical_devices("GPU"))


def transposed(inputs: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """`convolve_transposed` as TensorFlow has it."""
    batch = tf.shape(inputs)[0]
    height, width = tf.shape(inputs)[1] * stride, tf.shape(inputs)[2] * stride
    outputs = tf.nn.conv2d_transpose(inputs, kernel, tf.stack([batch, height, width, kernel.shape[2]]), stride, "SAME")
    sides = [side and side * stride for side in inputs.shape[1:3]]
    return tf.ensure_shape(outputs, [inputs.shape[0], *sides, kernel.shape[2]])


def transposed_in_blocks(inputs: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """`convolve_transposed` as a convolution with stride 1 that gives each block's pixels as channels."""
    taps, edge = kernel.shape[0] // stride, (kernel.shape[0] - stride) // 2
    blocks = kernel_to_blocks(kernel, stride)  # (taps, taps, stride * stride * out, in)
    mirrored = tf.transpose(tf.reverse(blocks, [0, 1]), (0, 1, 3, 2))
    padded = pad_sides(inputs, taps - 1, taps - 1)
    outputs = tf.nn.depth_to_space(tf.nn.conv2d(padded, mirrored, 1, "VALID"), stride)
    end = -edge or None
    return outputs[:, edge:end, edge:end]


def kernel_gradient_in_blocks(larger: Tensor, smaller: Tensor, size: int, stride: int) -> Tensor:
    """`kernel_gradient` as one matrix product over all rows and places for each tap."""
    taps, edge = size // stride, (size - stride) // 2
    _, height, width, channels = smaller.shape
    blocks = pad_sides(larger, edge, edge)
    blocks = tf.nn.space_to_depth(blocks, stride) if stride > 1 else blocks
    flat = tf.reshape(smaller, (-1, channels))
    gradients = [
        tf.matmul(
            tf.reshape(blocks[:, row : row + height, column : column + width], (-1, blocks.shape[-1])),
            flat,
            transpose_a=True,
        )
        for row in range(taps)
        for column in range(taps)
    ]
    return blocks_to_kernel(tf.reshape(tf.stack(gradients), (taps, taps, -1, channels)), stride)


def kernel_to_blocks(kernel: Tensor, stride: int) -> Tensor:
    """(size, size, in, out) -> (size / stride, size / stride, stride^2 in, out), in the order of `space_to_depth`."""
    size, _, inner, outer = kernel.shape
    taps = size // stride
    blocks = tf.reshape(kernel, (taps, stride, taps, stride, inner, outer))
    return tf.reshape(tf.transpose(blocks, (0, 2, 1, 3, 4, 5)), (taps, taps, stride * stride * inner, outer))


def blocks_to_kernel(blocks: Tensor, stride: int) -> Tensor:
    """The inverse of `kernel_to_blocks`."""
    taps, _, inner, outer = blocks.shape
    inner //= stride * stride
    kernel = tf.transpose(tf.reshape(blocks, (taps, taps, stride, stride, inner, outer)), (0, 2, 1, 3, 4, 5))
    return tf.reshape(kernel, (taps * stride, taps * stride, inner, outer))


def pad_sides(maps: Tensor, before: int, after: int) -> Tensor:
    """Zeros around maps of (batch, height, width, channels)."""
    return tf.pad(maps, [[0, 0], [before, after], [before, after], [0, 0]]) if before or after else maps
