"""`zoo.core.convolution`: every form equals TensorFlow's own operation, with its first and second derivatives."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.core import convolution
from zoo.layers.convolution import Conv2D, Conv2DTranspose

# size and stride of the kernel, side of the smaller maps, channels of the larger and of the smaller maps
GEOMETRIES = [(4, 2, 4, 3, 5), (4, 2, 3, 1, 2), (3, 1, 5, 2, 3), (6, 2, 4, 3, 2), (9, 3, 2, 2, 2), (1, 1, 4, 3, 4)]


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every form in blocks that the kernel fits, whatever the type and the sizes."""
    monkeypatch.setattr(
        convolution, "has_fast_transposed", lambda channels, size, stride: stride > 1 and fits(size, stride)
    )
    monkeypatch.setattr(convolution, "has_fast_kernel_gradient", lambda sides, dtype, size, stride: fits(size, stride))


def fits(size: int, stride: int) -> bool:
    return convolution.fits_blocks(size, stride)


def plain_transposed(inputs: Any, kernel: Any, stride: int) -> Any:
    batch, height, width, _ = inputs.shape
    shape = (batch, height * stride, width * stride, kernel.shape[2])
    return tf.nn.conv2d_transpose(inputs, kernel, shape, stride, "SAME")


def make(geometry: tuple[int, ...], dtype: str = "float64") -> tuple[Any, Any, Any]:
    """Larger maps, smaller maps, a kernel between them."""
    size, stride, side, larger, smaller = geometry
    rng = np.random.default_rng(0)
    shapes = [(2, side * stride, side * stride, larger), (2, side, side, smaller), (size, size, larger, smaller)]
    return tuple(tf.constant(rng.normal(size=shape), dtype) for shape in shapes)


def derivatives(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Value; gradients of a nonlinear function of it; gradients of a nonlinear function of those."""
    with tf.GradientTape() as outer:
        outer.watch(arguments)
        with tf.GradientTape() as inner:
            inner.watch(arguments)
            value = function(*arguments)
            total = tf.reduce_sum(tf.sin(value))
        first = inner.gradient(total, arguments)
        total = tf.add_n([tf.reduce_sum(tf.sin(each)) for each in first])
    return [value, *first, *outer.gradient(total, arguments)]


def agree(actual: list[Any], expected: list[Any], tolerance: float) -> None:
    assert len(actual) == len(expected) == 5
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * float(tf.reduce_max(tf.abs(other))))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_convolution_in_blocks_equals_the_plain_one_to_second_order(geometry: tuple[int, ...], in_blocks: None) -> None:
    larger, _, kernel = make(geometry)
    stride = geometry[1]
    assert fits(geometry[0], stride)
    actual = derivatives(lambda x, w: convolution.convolve(x, w, stride), larger, kernel)
    expected = derivatives(lambda x, w: tf.nn.conv2d(x, w, stride, "SAME"), larger, kernel)
    agree(actual, expected, 1e-13)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_transposed_convolution_in_blocks_equals_the_plain_one_to_second_order(
    geometry: tuple[int, ...], in_blocks: None
) -> None:
    _, smaller, kernel = make(geometry)
    stride = geometry[1]
    actual = derivatives(lambda y, w: convolution.convolve_transposed(y, w, stride), smaller, kernel)
    agree(actual, derivatives(lambda y, w: plain_transposed(y, w, stride), smaller, kernel), 1e-13)


@pytest.mark.parametrize("geometry", [(5, 2, 4, 3, 2), (3, 2, 4, 3, 2), (2, 3, 2, 3, 2)])
def test_kernels_that_blocks_do_not_fit_are_left_to_tensorflow(geometry: tuple[int, ...], in_blocks: None) -> None:
    larger, smaller, kernel = make(geometry)
    size, stride = geometry[:2]
    assert not fits(size, stride)
    actual = derivatives(lambda x, w: convolution.convolve(x, w, stride), larger, kernel)
    agree(actual, derivatives(lambda x, w: tf.nn.conv2d(x, w, stride, "SAME"), larger, kernel), 1e-15)
    actual = derivatives(lambda y, w: convolution.convolve_transposed(y, w, stride), smaller, kernel)
    agree(actual, derivatives(lambda y, w: plain_transposed(y, w, stride), smaller, kernel), 1e-15)


def test_a_side_that_the_stride_does_not_divide(in_blocks: None) -> None:
    rng = np.random.default_rng(0)
    larger, kernel = tf.constant(rng.normal(size=(2, 7, 7, 3))), tf.constant(rng.normal(size=(4, 4, 3, 2)))
    actual = derivatives(lambda x, w: convolution.convolve(x, w, 2), larger, kernel)
    agree(actual, derivatives(lambda x, w: tf.nn.conv2d(x, w, 2, "SAME"), larger, kernel), 1e-15)


def test_which_form_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As measured: blocks for images as the larger maps, and for the kernels of small bfloat16 maps; never on GPUs."""
    half, full = tf.bfloat16, tf.float32
    for gpu in (False, True):
        monkeypatch.setattr(convolution, "has_gpu", lambda gpu=gpu: gpu)
        assert convolution.has_fast_transposed(3, 4, 2) is not gpu
        assert convolution.has_fast_kernel_gradient((8, 8), half, 4, 2) is not gpu
        assert not convolution.has_fast_transposed(5, 4, 2)
        assert not convolution.has_fast_transposed(3, 3, 1)
        assert not convolution.has_fast_kernel_gradient((16, 16), half, 4, 2)
        assert not convolution.has_fast_kernel_gradient((None, None), half, 4, 2)
        assert not convolution.has_fast_kernel_gradient((8, 8), full, 4, 2)
        assert not convolution.has_fast_kernel_gradient((8, 8), half, 5, 2)


def test_bfloat16_gradients_are_those_of_float32_but_for_rounding() -> None:
    """Unit roundoff of bfloat16 is 2^-8; each gradient is rounded once, its products are summed in float32."""
    larger, smaller, kernel = make((4, 2, 8, 16, 8), "bfloat16")
    assert convolution.has_fast_kernel_gradient(smaller.shape[1:3], smaller.dtype, 4, 2)

    def gradients(function: Callable[..., Any], *arguments: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = function(*arguments)
            upstream = tf.cast(smaller if value.shape == smaller.shape else larger, value.dtype)
        return tape.gradient(value, arguments, output_gradients=upstream)

    for ours, plain, inputs in (
        (convolution.convolve, lambda x, w, stride: tf.nn.conv2d(x, w, stride, "SAME"), larger),
        (convolution.convolve_transposed, plain_transposed, smaller),
    ):
        exact = gradients(lambda x, w, f=plain: f(x, w, 2), tf.cast(inputs, "float32"), tf.cast(kernel, "float32"))
        rounded = gradients(lambda x, w, f=ours: f(x, w, 2), inputs, kernel)
        for one, other in zip(rounded, exact, strict=True):
            assert one.dtype == "bfloat16"
            np.testing.assert_allclose(tf.cast(one, "float32"), other, rtol=2**-8, atol=2**-14 * np.abs(other).max())


def test_inside_a_graph_of_unknown_batch_and_compiled_by_xla() -> None:
    _, smaller, kernel = make((4, 2, 4, 3, 5), "float32")
    expected = plain_transposed(smaller, kernel, 2)
    signature = [tf.TensorSpec((None, 4, 4, 5)), tf.TensorSpec((4, 4, 3, 5))]
    for compiled in (False, True):
        function = tf.function(
            lambda y, w: convolution.convolve_transposed(y, w, 2), input_signature=signature, jit_compile=compiled
        )
        np.testing.assert_allclose(function(smaller, kernel), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (Conv2D, keras.layers.Conv2D, {"padding": "same"}),
        (Conv2D, keras.layers.Conv2D, {"padding": "valid", "activation": "relu"}),
        (Conv2D, keras.layers.Conv2D, {"padding": "same", "use_bias": False, "strides": 1, "dilation_rate": 2}),
        (Conv2DTranspose, keras.layers.Conv2DTranspose, {"padding": "same", "activation": "tanh"}),
        (Conv2DTranspose, keras.layers.Conv2DTranspose, {"padding": "valid", "use_bias": False}),
        (Conv2DTranspose, keras.layers.Conv2DTranspose, {"padding": "same", "strides": (2, 1)}),
    ],
)
def test_layers_equal_those_of_keras(ours: Any, theirs: Any, options: dict[str, Any]) -> None:
    options = {"strides": 2, "bias_initializer": "normal", **options}
    inputs = np.random.default_rng(0).normal(size=(2, 8, 8, 6)).astype(np.float32)
    expected_layer = theirs(3, 4, name="layer", **options)
    expected = expected_layer(inputs)
    layer = ours.from_config(expected_layer.get_config())
    layer.build(inputs.shape)
    layer.set_weights(expected_layer.get_weights())
    np.testing.assert_allclose(layer(inputs), expected, atol=1e-6)
    assert layer.compute_output_shape(inputs.shape) == expected.shape
