"""PixelCNN in PyTorch, given our weights, is our model: logits, loss, gradients, and samples of the same uniforms."""

from importlib.util import find_spec

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import harness
from benchmarks.models import MODELS
from zoo.networks.pixel_cnn import pixel_cnn_sampler

pytestmark = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch, the peers' framework, is not installed")
SHAPE, ROWS = (6, 5, 1), 4
CHANGES = {"image_shape": SHAPE, "levels": 3, "filters": 4, "blocks": 3, "kernel": 5}


def to_peer(array):
    return np.asarray(array).transpose(3, 2, 0, 1) if array.ndim == 4 else np.asarray(array)


@pytest.fixture
def pair(float64):
    import torch

    measured = MODELS["pixelcnn"]
    ours = measured.build(tiny=True, **CHANGES)
    _, peer = harness.import_pytorch(measured.peer)
    theirs = peer.TrainStep(**measured.peer_arguments(tiny=True, **CHANGES))
    theirs.network.double()
    draw = np.random.default_rng(0)
    parameters = list(theirs.network.parameters())
    for variable, parameter in zip(ours.network.trainable_variables, parameters, strict=True):
        variable.assign(draw.normal(0, 0.3, variable.shape))
        parameter.data.copy_(torch.from_numpy(to_peer(variable.numpy()).copy()))
    return ours, theirs, draw


def test_the_logits_the_loss_and_its_gradients_are_the_same(pair):
    import torch

    ours, theirs, draw = pair
    codes = draw.integers(0, 3, (ROWS, *SHAPE))
    images = codes - 1.0
    given = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        found = theirs.network(given).numpy()
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1)[..., None, :], ours.network(codes), atol=1e-9)
    variables = [variable.value for variable in ours.network.trainable_variables]
    with tf.GradientTape() as tape:
        expected = tf.reduce_mean(ours.negative_log_likelihood(ours.network, tf.constant(images), None))
    loss = theirs.loss(given)
    loss.backward()
    assert loss.item() == pytest.approx(float(expected), rel=1e-9)
    for gradient, parameter in zip(tape.gradient(expected, variables), theirs.network.parameters(), strict=True):
        np.testing.assert_allclose(parameter.grad.numpy(), to_peer(gradient.numpy()), atol=1e-9)


def test_the_same_uniforms_give_the_same_samples(pair):
    import torch

    ours, theirs, draw = pair
    uniform = draw.random((ROWS, *SHAPE))
    expected, _ = pixel_cnn_sampler(ours.network)([tf.constant(uniform)])
    found = theirs.network.sample(torch.from_numpy(uniform.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_array_equal(found.transpose(0, 2, 3, 1) + 1.0, expected)


def test_full_sizes_are_the_presets():
    measured = MODELS["pixelcnn"]
    _, peer = harness.import_pytorch(measured.peer)
    ours, theirs = measured.build(), peer.TrainStep(**measured.peer_arguments())
    assert sum(each.numel() for each in theirs.network.parameters()) == ours.network.count_params()
