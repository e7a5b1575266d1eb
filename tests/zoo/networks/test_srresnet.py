"""SRGAN's pair: published parameters, sizes, what is normalized; ONNX Runtime against Keras at several sizes."""

from itertools import pairwise

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from zoo.core.ability import upscale_ability
from zoo.core.precision import computing_in
from zoo.export.onnx import write_onnx
from zoo.layers.convolution import Conv2D
from zoo.layers.normalization import BatchNorm
from zoo.networks import srresnet
from zoo.networks.functional import with_image_in_range

RANDOM = np.random.default_rng(0)


def count_weights(network):
    return sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)


def shaken(network):
    """The network with weights and moving statistics away from their start, so that every layer tells."""
    for variable in network.weights:
        drawn = RANDOM.uniform(0.8, 1.2, variable.shape)
        variable.assign(drawn if "variance" in variable.path else variable.numpy() * drawn + 0.05 * (drawn - 1))
    return network


def test_the_published_generator_has_its_layers():
    """Figure 4: k9n64s1, 16 x (k3n64s1, k3n64s1), k3n64s1, 2 x k3n256s1, k9n3s1, a slope a channel."""
    network = srresnet.generator(3)
    convolutions = 81 * 3 * 64 + (2 * 16 + 1) * 9 * 64 * 64 + 2 * 9 * 64 * 256 + 81 * 64 * 3
    biases = 64 + 2 * 256 + 3  # of those without batch norm
    norms, slopes = 2 * 64 * (2 * 16 + 1), 64 * (1 + 16 + 2)
    assert count_weights(network) == convolutions + biases + norms + slopes
    assert network.input.name == "image"
    assert network.output_names == ["upscaled"]
    alphas = [variable for variable in network.weights if variable.path.endswith("alpha")]
    assert {tuple(alpha.shape) for alpha in alphas} == {(1, 1, 64)}
    assert all(np.all(alpha.numpy() == 0.25) for alpha in alphas)


def test_the_published_discriminator_has_its_layers():
    """Figure 4: k3n64s1, k3n64s2, k3n128s1, ..., k3n512s2, a dense layer of 1,024, one logit."""
    network = srresnet.discriminator((96, 96, 3))
    channels = [3, 64, 64, 128, 128, 256, 256, 512, 512]
    convolutions = sum(9 * before * after for before, after in pairwise(channels))
    norms, dense = 2 * sum(channels[2:]), 6 * 6 * 512 * 1024 + 1024 + 1024 + 1
    assert count_weights(network) == convolutions + 64 + norms + dense
    sides = [layer.output.shape[1] for layer in network.layers if isinstance(layer, Conv2D)]
    assert sides == [96, 48, 48, 24, 24, 12, 12, 6]
    assert {layer.negative_slope for layer in network.layers if isinstance(layer, keras.layers.LeakyReLU)} == {0.2}


@pytest.mark.parametrize("network", [srresnet.generator(3, 2, 2, 2), srresnet.discriminator((16, 20, 3), 2)])
def test_a_convolution_has_batch_norm_or_a_bias(network):
    followed = {norm.input.name for norm in network.layers if isinstance(norm, BatchNorm)}
    convolutions = [layer for layer in network.layers if isinstance(layer, Conv2D)]
    assert followed
    assert all(layer.use_bias == (layer.output.name not in followed) for layer in convolutions)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 20), (16, 16)])
def test_any_size_becomes_scale_times_as_large(scale, height, width):
    network = srresnet.generator(1, scale, width=2, blocks=1)
    images = RANDOM.uniform(-1, 1, (2, height, width, 1)).astype(np.float32)
    assert keras.ops.convert_to_numpy(network(images)).shape == (2, scale * height, scale * width, 1)


def test_outputs_are_float32_in_half_precision():
    with computing_in("mixed_bfloat16"):
        networks = srresnet.generator(3, 4, 2, 1), srresnet.discriminator((16, 16, 3), 2)
    assert all(network.output.dtype == "float32" for network in networks)
    assert networks[0].get_layer("block_1_1").compute_dtype == "bfloat16"


@pytest.mark.parametrize(("shape", "scale"), [((16, 16, 3), 3), ((18, 16, 3), 4), ((16, 15, 3), 2), ((0, 16, 3), 2)])
def test_sides_are_multiples_of_the_factor(shape, scale):
    with pytest.raises(ValueError, match=r"scale=\d"):
        srresnet.check_scale(shape, scale)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    ability = upscale_ability(with_image_in_range(shaken(srresnet.generator(3, 4, 16, 2)), "upscaled"), 4)
    path = tmp_path_factory.mktemp("upscale") / "upscale.onnx"
    write_onnx(ability, path, rounded=False)
    return ability, path


def test_onnx_enlarges_by_one_operation_a_stage_and_keeps_free_sizes(exported):
    _, path = exported
    graph = onnx.load(path).graph
    shuffles = [node.name for node in graph.node if node.op_type == "DepthToSpace"]
    assert len(shuffles) == 2 + 1
    assert sum(name.endswith("/image") for name in shuffles) == 1  # the last convolution makes blocks of pixels
    assert [node.op_type for node in graph.node].count("Transpose") == 2  # of the image and of what comes out
    sizes = [d.dim_param or d.dim_value for d in graph.output[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", "4*height", "4*width", 3]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 64), (17, 31), (1, 1), (2, 5)])
def test_onnx_is_keras_at_any_size(exported, height, width):
    ability, path = exported
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = RANDOM.uniform(-1, 1, (2, height, width, 3)).astype(np.float32)
    expected = np.asarray(ability({"image": images})["upscaled"])
    (found,) = session.run(["upscaled"], {"image": images})
    assert found.shape == expected.shape == (2, 4 * height, 4 * width, 3)
    spread = np.ptp(expected)
    assert spread > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-4 * spread)
