"""CycleGAN in PyTorch, given our weights mirrored, is our model mirrored: TensorFlow pads halvings at the other end."""

from importlib.util import find_spec

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import harness
from benchmarks.models import MODELS
from zoo.layers.convolution import Conv2D, Conv2DTranspose

pytestmark = [
    pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch, the peers' framework, is not installed"),
    pytest.mark.usefixtures("float64"),
]
ROWS, SIDE = 2, 16


def mirror(images):
    return np.ascontiguousarray(np.asarray(images)[:, ::-1, ::-1])


def to_tensor(images):
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(mirror(images), -1, 1)))


def to_kernel(kernel):
    """(height, width, in, out), or (height, width, out, in) of a transposed convolution -> mirrored, channels first."""
    return np.ascontiguousarray(np.asarray(kernel)[::-1, ::-1].transpose(3, 2, 0, 1))


@pytest.fixture
def pair():
    import torch
    from torch import nn

    measured = MODELS["cyclegan"]
    keras.utils.set_random_seed(0)
    ours = measured.build(tiny=True)
    _, peer = harness.import_pytorch(measured.peer)
    theirs = peer.TrainStep(**measured.peer_arguments(tiny=True))
    draw = np.random.default_rng(0)
    for networks in ours.players.values():
        for network in networks:
            convolutions = [layer for layer in network.layers if isinstance(layer, (Conv2D, Conv2DTranspose))]
            modules = [
                module
                for module in theirs.networks[network.name].double().modules()
                if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
            ]
            for layer, module in zip(convolutions, modules, strict=True):
                for variable in layer.weights:
                    variable.assign(draw.normal(0, 0.1, variable.shape))
                module.weight.data.copy_(torch.from_numpy(to_kernel(layer.kernel)))
                assert (module.bias is not None) == layer.use_bias
                if layer.use_bias:
                    module.bias.data.copy_(torch.from_numpy(np.asarray(layer.bias)))
    images = [draw.uniform(-1, 1, (ROWS, SIDE, SIDE, 3)) for _ in range(4)]
    return ours, theirs, images


def test_the_networks_are_the_same(pair):
    import torch

    ours, theirs, (images, *_) = pair
    for networks in ours.players.values():
        for network in networks:
            expected = np.asarray(network(images))
            with torch.no_grad():
                found = np.moveaxis(theirs.networks[network.name](to_tensor(images)).numpy(), 1, -1)
            np.testing.assert_allclose(mirror(found), expected, atol=1e-6)
            assert np.ptp(expected) > 1e-3


def test_the_losses_and_their_gradients_are_the_same(pair):
    ours, theirs, (a, b, fake_a, fake_b) = pair
    losses = {
        "translators": (
            lambda: ours.translator_loss(a, b, ours.translations(a, b))[0],
            lambda: theirs.translator_loss(to_tensor(a), to_tensor(b))[0],
        ),
        "discriminators": (
            lambda: ours.discriminator_loss(a, b, fake_a, fake_b)[0],
            lambda: theirs.discriminator_loss(*map(to_tensor, (a, b, fake_a, fake_b))),
        ),
    }
    for player, (mine, other) in losses.items():
        variables = ours.variables_of(player)
        with tf.GradientTape() as tape:
            expected = tf.reduce_mean(mine())
        gradients = tape.gradient(expected, [variable.value for variable in variables])
        for network in theirs.networks.values():
            network.zero_grad()
        found = other()
        found.backward()
        assert found.item() == pytest.approx(float(expected), rel=1e-6)
        kernels = [to_kernel(g) for v, g in zip(variables, gradients, strict=True) if len(v.shape) == 4]
        networks = [theirs.networks[network.name] for network in ours.players[player]]
        weights = [each for network in networks for each in network.parameters() if each.ndim == 4]
        for kernel, weight in zip(kernels, weights, strict=True):
            np.testing.assert_allclose(weight.grad.numpy(), kernel, atol=1e-6, rtol=1e-5)
            assert np.abs(kernel).max() > 0


def test_a_step_moves_every_weight():
    import torch

    measured = MODELS["cyclegan"]
    _, peer = harness.import_pytorch(measured.peer)
    torch.manual_seed(0)
    step = peer.TrainStep(**measured.peer_arguments(tiny=True))
    weights = [each for network in step.networks.values() for each in network.parameters() if each.ndim == 4]
    before = [each.detach().clone() for each in weights]
    images = torch.rand(2, ROWS, 3, SIDE, SIDE) * 2 - 1
    assert np.isfinite(step(*images)).all()
    assert not any(torch.equal(old, new) for old, new in zip(before, weights, strict=True))
