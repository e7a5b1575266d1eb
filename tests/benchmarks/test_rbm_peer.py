"""The RBM in PyTorch, given our weights, chains and uniform numbers, makes our update; its chain draws our samples."""

from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import harness, train_step
from benchmarks.models import MODELS

pytestmark = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch, the peers' framework, is not installed")
SHAPE, PIXELS, UNITS, ROWS, CHAINS, RATE = (3, 4, 1), 12, 5, 6, 8, 0.05


class GivenDraws:
    """Uniform numbers that are known, in the order in which they are asked for."""

    def __init__(self, *arrays):
        self.arrays = list(arrays)

    def uniform(self, size):
        found = self.arrays.pop(0)
        assert found.shape == (ROWS, size)
        return found


@pytest.fixture
def make_pair(float64, monkeypatch):
    import torch

    def make(**changes):
        measured, draw = MODELS["rbm"], np.random.default_rng(0)
        changes = {"image_shape": SHAPE, "units": UNITS, "chains": CHAINS, **changes}
        ours = measured.build(tiny=True, **changes)
        ours.compile(**measured.make_optimizers(ours))
        _, peer = harness.import_pytorch(measured.peer)
        theirs = peer.TrainStep(**measured.peer_arguments(tiny=True, **changes))
        theirs.network.double()
        parameters = list(theirs.network.parameters())
        for variable, parameter in zip(ours.variables_of("machine"), parameters, strict=True):
            variable.assign(draw.normal(0, 0.5, variable.shape))
            parameter.data.copy_(torch.from_numpy(variable.numpy().copy()))
        if ours.chains is not None:
            values = (draw.random((CHAINS, PIXELS)) < 0.5).astype(float)
            ours.chains.values.assign(values)
            theirs.chains = torch.from_numpy(values.copy())
        return ours, theirs, draw

    return make


@pytest.mark.parametrize(
    "changes", [{"persistent": True}, {"persistent": False, "gibbs_steps": 3}], ids=["PCD", "CD-3"]
)
def test_two_updates_by_the_same_uniforms_are_the_same(make_pair, monkeypatch, changes):
    """Six rows of eight chains: the second step goes on from the last two and the first four."""
    import torch

    ours, theirs, draw = make_pair(**changes)
    start = [parameter.detach().clone() for parameter in theirs.network.parameters()]
    for _ in range(2):
        images = np.where(draw.random((ROWS, *SHAPE)) < 0.5, -1.0, 1.0)
        uniforms = [(draw.random((ROWS, UNITS)), draw.random((ROWS, PIXELS))) for _ in range(theirs.gibbs_steps)]
        given = GivenDraws(*(each for pair in uniforms for each in pair))
        monkeypatch.setattr(ours, "draws", lambda data, given=given: given)
        monkeypatch.setattr(ours, "run_eagerly", True)
        ours.make_train_function(force=True)(train_step.repeated({"image": images, "row": np.arange(ROWS)}).__iter__())
        assert not given.arrays
        theirs(
            torch.from_numpy(np.moveaxis(images, -1, 1).copy()),
            iter([tuple(map(torch.from_numpy, pair)) for pair in uniforms]),
        )
        for variable, parameter in zip(ours.variables_of("machine"), theirs.network.parameters(), strict=True):
            np.testing.assert_allclose(parameter.detach().numpy(), variable.numpy(), atol=1e-6)
    moved = [(new - old).abs().max().item() for old, new in zip(start, theirs.network.parameters(), strict=True)]
    assert min(moved) > 1e-3
    if ours.chains is not None:
        np.testing.assert_array_equal(theirs.chains.numpy(), ours.chains.values.numpy())


def test_samples_are_those_of_the_same_machine(make_pair):
    """The mean over many chains of both; 40 steps are far beyond what so small a machine needs to forget its start."""
    import torch

    ours, theirs, _ = make_pair(sampling_steps=40)
    torch.manual_seed(0)
    found = theirs.sample(4_000).numpy().mean(0)
    expected = ours.sample(4_000, seed=0)
    expected = expected.reshape(4_000, -1).mean(0) / 255  # 8-bit
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_full_sizes_are_the_presets():
    measured = MODELS["rbm"]
    _, peer = harness.import_pytorch(measured.peer)
    ours, theirs = measured.build(), peer.TrainStep(**measured.peer_arguments())
    assert sum(each.numel() for each in theirs.network.parameters()) == ours.machine.count_params() - 784 - 2
    assert theirs.chains.shape == ours.chains.values.shape
    assert theirs.sampling_steps == ours.sampling_steps == 1_000
