"""SRResNet in PyTorch, given our weights, is our network; its pixel shuffle takes the channels in another order."""

from importlib.util import find_spec

import keras
import numpy as np
import pytest

from benchmarks import harness
from zoo.layers.convolution import Conv2D
from zoo.layers.normalization import BatchNorm
from zoo.networks import srresnet

pytestmark = [
    pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch, the peers' framework, is not installed"),
    pytest.mark.usefixtures("float64"),
]


def test_the_network_is_the_same():
    import torch
    from torch import nn

    draw = np.random.default_rng(0)
    ours = srresnet.generator(3, scale=4, width=4, blocks=2)
    _, peer = harness.import_pytorch("srresnet")
    theirs = peer.generator(3, width=4, blocks=2).double()
    for variable in ours.weights:
        positive = "variance" in variable.path
        variable.assign(draw.uniform(0.5, 1.5, variable.shape) if positive else draw.normal(0, 0.2, variable.shape))
    layers = [layer for layer in ours.layers if isinstance(layer, (Conv2D, BatchNorm, keras.layers.PReLU))]
    modules = [each for each in theirs.modules() if isinstance(each, (nn.Conv2d, nn.BatchNorm2d, nn.PReLU))]
    for layer, module in zip(layers, modules, strict=True):
        arrays = [np.asarray(variable) for variable in layer.weights]
        if layer.name in ("up_1", "up_2"):  # (place, channel) -> (channel, place)
            arrays = [each.reshape(*each.shape[:-1], 4, -1).swapaxes(-1, -2).reshape(each.shape) for each in arrays]
        if isinstance(layer, Conv2D):
            arrays[0] = arrays[0].transpose(3, 2, 0, 1)
        buffers = [module.running_mean, module.running_var] if isinstance(layer, BatchNorm) else []
        for array, target in zip(arrays, [*module.parameters(), *buffers], strict=True):
            target.data.copy_(torch.from_numpy(np.ascontiguousarray(array)).reshape(target.shape))
    images = draw.uniform(-1, 1, (2, 6, 7, 3))
    with torch.no_grad():
        found = theirs(torch.from_numpy(np.moveaxis(images, -1, 1).copy())).numpy()
    expected = np.asarray(ours(images, training=False))
    np.testing.assert_allclose(np.moveaxis(found, 1, -1), expected, rtol=1e-6, atol=1e-9)
    assert np.ptp(expected) > 1e-3
