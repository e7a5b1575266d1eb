"""The peers of Progressive GAN, StyleGAN and StyleGAN2, given our weights, return our outputs, losses and gradients."""

import re
from importlib.util import find_spec
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import harness, train_step
from benchmarks.models import MODELS
from zoo.losses.path_length import path_lengths
from zoo.networks.style import mapping_of, synthesis_of

pytestmark = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch, the peers' framework, is not installed")
ROWS, SHAPE = 6, (16, 16, 3)  # three levels, maps of 8, 8 and 4 channels
CHANGES = {"image_shape": SHAPE, "group_size": 2}
NAMES = ("progan", "stylegan", "stylegan2")
RANKS = {  # of layers by name without numbers, in the order of the peers' modules
    "constant": 0,
    "from_rgb": 0,
    "project": 1,
    **dict.fromkeys(("mapping", "block", "block_shortcut", "block_convolution"), 2),
    "bias": 3,
    **dict.fromkeys(("conv", "convolution", "noise_bias", "style"), 4),
    "to_rgb": 5,
    "features": 6,
    "score": 7,
}
OF_A_PLACE = ("block_shortcut", "conv", "convolution", "block_convolution", "noise_bias", "style")


def weights_of(network: keras.Model) -> list[tuple[keras.layers.Layer, keras.Variable]]:
    """Our layers' variables in the order of the peer's parameters."""

    def place(layer: keras.layers.Layer) -> tuple[int, int, int, int]:
        kind, numbers = re.sub(r"_\d+", "", layer.name), [int(number) for number in re.findall(r"_(\d+)", layer.name)]
        size, number = [*numbers, -1, -1][:2]
        part = OF_A_PLACE.index(kind) if kind in OF_A_PLACE else 0
        return RANKS[kind], -size if kind.startswith("block") else size, number, part

    found = []
    for layer in sorted((layer for layer in network.layers if layer.trainable_weights), key=place):
        parts = [part for part in layer.layers if part.weights] if isinstance(layer, keras.Model) else [layer]
        found += [(part, variable) for part in parts for variable in part.trainable_weights]
    return found


def parameters_of(peer: Any) -> list:
    """Their parameters, those of a module before those of its parts."""
    return [parameter for module in peer.modules() for parameter in module.parameters(recurse=False)]


def to_peer(array: np.ndarray, layer: keras.layers.Layer, shape: tuple[int, ...]) -> np.ndarray:
    """One of a layer's weights, or its gradient, in the peer's layout."""
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    elif array.ndim == 3:
        array = np.moveaxis(array, -1, 0)
    elif array.ndim == 2:
        if layer.name == "features":
            array = array[channels_first(len(array))]
        elif layer.name == "project":
            array = array[:, channels_first(array.shape[1])]
        array = array.T
    return array.reshape(shape)


def channels_first(size: int) -> np.ndarray:
    """The places of (4, 4, channels), flattened, in the order of (channels, 4, 4)."""
    return np.arange(size).reshape(4, 4, -1).transpose(2, 0, 1).ravel()


def to_tensor(array: np.ndarray):
    """As a tensor, maps with channels first."""
    import torch

    return torch.from_numpy(np.moveaxis(array, -1, 1).copy() if array.ndim == 4 else array.copy())


class Pair:
    """A model at test size and its peer with the same weights."""

    def __init__(self, name: str):
        import torch

        keras.utils.set_random_seed(0)
        measured = MODELS[name]
        self.ours = measured.build(tiny=True, **CHANGES)
        self.ours.plan = self.ours.plan_of(int(self.ours.step.numpy()))
        _, peer = harness.import_pytorch(measured.peer)
        self.theirs = peer.TrainStep(**measured.peer_arguments(tiny=True, **CHANGES))
        self.weights, draw = {}, np.random.default_rng(0)
        for player in self.ours.players:
            network, other = getattr(self.ours, player), self.theirs.networks[player].double()
            self.weights[player] = weights_of(network)
            for (layer, variable), target in zip(self.weights[player], parameters_of(other), strict=True):
                # Nothing stays at its start; multiplied by a rate of 0.01, the mapping's keep their size.
                variable.assign(np.asarray(variable) + draw.normal(0, 0.3, variable.shape))
                target.data.copy_(torch.from_numpy(to_peer(np.asarray(variable), layer, tuple(target.shape)).copy()))
        self.real, self.fake = draw.uniform(-1, 1, (ROWS, *SHAPE)), draw.uniform(-1, 1, (ROWS, *SHAPE))
        self.direction, self.mix = draw.standard_normal((ROWS, *SHAPE)), draw.uniform(size=ROWS)
        self.latents = draw.standard_normal((ROWS, self.ours.latent_dim))
        if name == "progan":
            stage = self.ours.plan
            self.generator, self.discriminator = self.ours.generator_at(stage), self.ours.discriminator_at(stage)
            self.inputs = [self.latents]
        else:
            self.discriminator, self.generator = self.ours.discriminator_now(), synthesis_of(self.ours.generator_now())
            inputs = [tensor.shape[1:] for tensor in self.generator.inputs]
            self.inputs = [draw.standard_normal((ROWS, *shape)) for shape in inputs]

    def draw_ours(self):
        """Our generator's images."""
        return self.generator([tf.constant(each) for each in self.inputs], training=True)

    def draw_theirs(self):
        """Theirs."""
        first, *noise = (to_tensor(each) for each in self.inputs)
        return self.theirs.generator(first, noise) if noise else self.theirs.generator(first)

    def losses(self, kind: str):
        """(our loss, one value a row; their loss, the mean), both without arguments."""
        ours, theirs = self.ours, self.theirs
        real, fake, direction, mix = (to_tensor(each) for each in (self.real, self.fake, self.direction, self.mix))
        fixed = [self.mix] if hasattr(ours, "drift") else []

        def our_path_length():
            styles, *noise = (tf.constant(each) for each in self.inputs)
            lengths = path_lengths(lambda rows: self.generator([rows, *noise], training=True), styles, self.direction)
            return ours.path_length_weight * ours.path_length_interval * ours.path_length.penalty(lengths)

        def their_path_length():
            styles, *noise = (to_tensor(each) for each in self.inputs)
            images = theirs.generator(styles.requires_grad_(), noise)
            return theirs.path_length_loss(styles, images, direction)

        def their_generator_loss():
            return theirs.generator_loss(to_tensor(self.latents) if fixed else self.draw_theirs())

        return {
            "discriminator": (
                lambda: ours.discriminator_loss(self.real, self.fake, *fixed)[0],
                lambda: theirs.discriminator_loss(real, fake, *([mix[:, None, None, None]] if fixed else [])),
            ),
            "generator": (lambda: ours.generator_loss(self.draw_ours()), their_generator_loss),
            "r1": (lambda: ours.r1_loss(tf.constant(self.real))[0], lambda: theirs.r1_loss(real)),
            "path_length": (our_path_length, their_path_length),
        }[kind]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", NAMES)
def test_a_peer_s_networks_with_our_weights_are_our_networks(name):
    import torch

    pair = Pair(name)
    with torch.no_grad():
        compared = [
            (pair.draw_ours(), pair.draw_theirs()),
            (pair.discriminator(pair.real, training=True), pair.theirs.discriminator(to_tensor(pair.real))),
        ]
        if name != "progan":
            theirs = pair.theirs.generator.mapping(to_tensor(pair.latents))
            compared.append((mapping_of(pair.ours.generator)(pair.latents), theirs))
    for mine, other in compared:
        other = np.moveaxis(other.numpy(), 1, -1) if other.ndim == 4 else other.numpy()
        np.testing.assert_allclose(other, mine, atol=1e-6, rtol=1e-6)
        assert np.ptp(mine) > 1e-3  # a constant would prove nothing


LOSSES = [
    *[(name, kind) for name in NAMES for kind in ("discriminator", "generator")],
    *[("stylegan", "r1"), ("stylegan2", "r1"), ("stylegan2", "path_length")],
]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "kind"), LOSSES)
def test_a_peer_s_loss_and_gradients_are_ours(name, kind):
    pair = Pair(name)
    player = {"r1": "discriminator", "path_length": "generator"}.get(kind, kind)
    our_loss, their_loss = pair.losses(kind)
    weights, parameters = pair.weights[player], parameters_of(pair.theirs.networks[player])
    with tf.GradientTape() as tape:
        expected = tf.reduce_mean(our_loss())
    gradients = tape.gradient(expected, [variable.value for _, variable in weights])
    found = their_loss()
    found.backward()
    assert found.item() == pytest.approx(float(expected), rel=1e-6)
    compared = 0
    for (layer, _), gradient, parameter in zip(weights, gradients, parameters, strict=True):
        theirs = 0.0 if parameter.grad is None else parameter.grad.numpy()
        mine = 0.0 if gradient is None else to_peer(np.asarray(gradient), layer, tuple(parameter.shape))
        np.testing.assert_allclose(theirs, mine, atol=1e-6, rtol=1e-6)
        compared += np.abs(mine).max() > 1e-6
    assert compared > len(weights) / 3  # of those of other sizes, and of a bias in a penalty, there are none


@pytest.mark.parametrize("name", NAMES)
def test_a_step_at_full_size_moves_what_the_peer_moves(name):
    """The same parameters stay, those of other sizes."""
    import torch

    pair, measured = Pair(name), MODELS[name]
    for network in pair.theirs.networks.values():
        network.float()
    pair.ours.compile(**measured.make_optimizers(pair.ours))
    batch = measured.make_batch(measured.arguments(tiny=True, **CHANGES), ROWS)

    def values(player: str) -> tuple[list, list]:
        ours = [variable.numpy().copy() for _, variable in pair.weights[player]]
        return ours, [each.detach().clone() for each in parameters_of(pair.theirs.networks[player])]

    before = {player: values(player) for player in pair.weights}
    train_step.keras_contender(pair.ours, train_step.repeated(batch)).run(ROWS, 1)
    pair.theirs(*train_step.pytorch_batch(torch, batch))
    for player, (ours, theirs) in before.items():
        moved_ours, moved_theirs = values(player)
        moved = [bool((old != new).any()) for old, new in zip(ours, moved_ours, strict=True)]
        assert [not torch.equal(old, new) for old, new in zip(theirs, moved_theirs, strict=True)] == moved
        assert sum(moved) > len(moved) / 2
