"""The peers train and run the same networks as the library, and both programs print JSON. No speed is asserted."""

import json
from importlib.util import find_spec

import keras
import numpy as np
import pytest

from benchmarks import generate, harness, train_step
from zoo.networks import convolutional

needs_pytorch = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch, the peer, is not installed")
SHAPE, LATENT_DIM, WIDTH = (16, 16, 3), 5, 4
TINY = ["--image-size", "16", "--width", "4", "--rounds", "2", "--threads", "1", "--json"]
COMPARED = ["zoo-shared", "zoo-alternating", "keras-tutorial", pytest.param("pytorch", marks=needs_pytorch)]


def copy(network: keras.Model, peer) -> None:
    """Put the weights of a Keras network, whose layers come in the same order, into its PyTorch peer."""
    import torch

    layers = [layer for layer in network.layers if layer.weights]
    theirs = [layer for layer in peer if list(layer.parameters())]
    for ours, other in zip(layers, theirs, strict=True):
        arrays = [weight.numpy() for weight in ours.weights]
        if isinstance(other, torch.nn.BatchNorm2d):
            targets = [other.weight, other.bias, other.running_mean, other.running_var]
        else:
            targets = [other.weight, other.bias][: len(arrays)]
            if arrays[0].ndim == 4:
                arrays[0] = arrays[0].transpose(3, 2, 0, 1)
            elif ours.name == "project":  # (latent, 4 * 4 * C) -> (latent, C, 4, 4)
                arrays[0] = arrays[0].reshape(-1, 4, 4, other.out_channels).transpose(0, 3, 1, 2)
            else:  # (4 * 4 * C, 1) -> (1, C, 4, 4)
                arrays[0] = arrays[0].reshape(4, 4, other.in_channels, 1).transpose(3, 2, 0, 1)
        for array, target in zip(arrays, targets, strict=True):
            target.data.copy_(torch.from_numpy(array))


@needs_pytorch
def test_pytorch_s_networks_with_our_weights_are_our_networks():
    import torch

    from benchmarks import peer_pytorch

    ours = convolutional.generator(SHAPE, LATENT_DIM, WIDTH), convolutional.discriminator(SHAPE, WIDTH)
    peers = peer_pytorch.generator(16, 3, LATENT_DIM, WIDTH), peer_pytorch.discriminator(16, 3, WIDTH)
    latents = np.random.default_rng(0).standard_normal((6, LATENT_DIM), np.float32)
    images = np.random.default_rng(1).uniform(-1, 1, (6, *SHAPE)).astype(np.float32)
    inputs = latents, images
    feeds = torch.from_numpy(latents)[:, :, None, None], torch.from_numpy(images).permute(0, 3, 1, 2)
    for network, peer, values, feed in zip(ours, peers, inputs, feeds, strict=True):
        copy(network, peer)
        for training in (False, True):
            expected = np.array(network(values, training=training))
            with torch.no_grad():
                found = peer.train(training)(feed).permute(0, 2, 3, 1).numpy()
            np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-5)
            assert np.ptp(expected) > 1e-3  # a constant would prove nothing


@pytest.mark.parametrize("name", COMPARED)
def test_a_step_of_each_contender_moves_every_parameter(name, monkeypatch):
    built = []
    monkeypatch.setattr(train_step, "contender", lambda *parts: built.extend(parts))
    train_step.CONTENDERS[name](train_step.Options(image_size=16, width=4, batch_size=8))
    step, generator, discriminator = built
    parameters = [*generator, *discriminator]

    def values() -> list[np.ndarray]:
        return [(p.detach() if hasattr(p, "detach") else p).numpy().copy() for p in parameters]

    before = values()
    losses = [float(loss) for loss in step()]
    assert losses
    assert np.isfinite(losses).all()
    assert len(before) == 15  # 3 maps: G has 4 kernels, 3 x (scale, shift), 1 bias; D 4 kernels, 2 x 2, 2 biases
    assert all((old != new).any() for old, new in zip(before, values(), strict=True))


def read(capsys: pytest.CaptureFixture, contenders: set[str], networks: set[str]) -> list[dict]:
    """The printed JSON's results, once everything that does not depend on speed has been checked."""
    outcome = json.loads(capsys.readouterr().out)
    assert {row["contender"] for row in outcome["results"]} | set(outcome["not_run"]) == contenders
    assert set(outcome["not_run"]) <= {"pytorch"}
    assert networks in map(set, outcome["parameters"].values())
    for row in outcome["results"]:
        assert 0 < row["slowest"] <= row["images_per_second"] <= row["fastest"]
        assert row["peak_mib"] > 1
    return outcome["results"]


def test_train_step_s_json(capsys):
    train_step.main([*TINY, "--batch-size", "4", "--steps", "1", "--contenders", "zoo-shared", "pytorch"])
    results = read(capsys, {"zoo-shared", "pytorch"}, {"generator", "discriminator"})
    assert {row["batch"] for row in results} == {4}


def test_generate_s_json(capsys):
    generate.main(
        [*TINY, "--batch-sizes", "1", "3", "--images", "3", "--contenders", "onnx-runtime", "keras-call", "pytorch"]
    )
    results = read(capsys, {"onnx-runtime", "keras-call", "pytorch"}, {"generator"})
    assert {row["batch"] for row in results} == {1, 3}


def test_a_contender_that_fails_and_options_that_cannot_be_meant_are_named():
    with pytest.raises(RuntimeError, match=r"contender nobody ended before its time(.|\n)*CONTENDERS"):
        harness.compare("json", ["nobody"], harness.Options(), {1: 1})
    with pytest.raises(ValueError, match=r"contenders=\['jax'\]: choose from \['pytorch'\]"):
        harness.compare("json", ["pytorch"], harness.Options(contenders=("jax",)), {1: 1})
    with pytest.raises(ValueError, match="rounds=0: choose at least 1"):
        harness.Options(rounds=0)
