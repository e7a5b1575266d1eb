"""The peers in PyTorch, given our weights, return our outputs, losses and gradients, and need the FLOPs we count."""

from importlib.util import find_spec
from itertools import chain

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import harness, train_step
from benchmarks.flops import count_layers, total
from benchmarks.models import MODELS
from zoo.layers.normalization import BatchNorm
from zoo.layers.spectral_norm import SpectralNorm

pytestmark = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch, the peers' framework, is not installed")
ROWS = 6
WITHOUT_NOISE = {"classifier": {"dropout": 0.0}}  # the only draw within a loss that can't be handed in
DISCRIMINATORS = {"dcgan", "sngan", "cgan"}  # PyTorch's users take D's gradients by its weights for G's update, too
COUNTED = [name for name in MODELS if MODELS[name].passes]  # of the others see test_growing_peers
LAYERS_OF_A_BLOCK = ("norm_1", "convolution_1", "norm_2", "convolution_2", "shortcut")


class Pair:
    """A model at test size and its peer with the same weights."""

    def __init__(self, name: str):
        self.name, measured, changes = name, MODELS[name], WITHOUT_NOISE.get(name, {})
        keras.utils.set_random_seed(0)
        self.ours = measured.build(tiny=True, **changes)
        _, peer = harness.import_pytorch(measured.peer)
        self.theirs = peer.TrainStep(**measured.peer_arguments(tiny=True), **changes)
        networks = chain.from_iterable(self.ours.players.values())
        self.networks = {network.name: (network, self.theirs.networks[network.name]) for network in networks}
        draw = np.random.default_rng(0)
        for ours, theirs in self.networks.values():
            for variable in ours.weights:  # nothing stays at its start, where a zero or a one would hide a mistake
                positive = "moving_variance" in variable.path
                variable.assign(
                    draw.uniform(0.5, 1.5, variable.shape) if positive else draw.normal(0, 0.1, variable.shape)
                )
            copy(ours, theirs.double())
        shape = (ROWS, *self.ours.get_config()["image_shape"])
        self.real, self.fake = (draw.integers(0, 256, shape) / 127.5 - 1.0 for _ in range(2))  # gray levels
        self.latents = draw.standard_normal((ROWS, getattr(self.ours, "latent_dim", 1)))
        self.labels = draw.integers(0, 10, ROWS)
        self.mix = draw.uniform(size=ROWS)

    def inputs(self, network: str) -> list[np.ndarray]:
        """What a network is given."""
        first = self.latents if network in ("generator", "decoder") else self.real
        return [first, self.labels] if self.name == "cgan" else [first]

    def losses(self, player: str):
        """(our loss, one value a row; their loss, the mean) of a player, both without arguments."""
        import torch

        ours, theirs = self.ours, self.theirs
        real, fake, latents, mix = (to_tensor(each) for each in (self.real, self.fake, self.latents, self.mix))
        labels = torch.from_numpy(self.labels)
        maps = latents[:, :, None, None]

        def ours_of_generator(*more):
            inputs = [tf.constant(self.latents), *more]
            images = ours.generator(inputs if more else inputs[0], training=True)
            return ours.generator_loss(images, *more)

        return {
            ("dcgan", "discriminator"): (
                lambda: ours.discriminator_loss(self.real, self.fake)[0],
                lambda: theirs.loss(real, 1.0) + theirs.loss(fake, 0.0),
            ),
            ("dcgan", "generator"): (ours_of_generator, lambda: theirs.loss(theirs.generate(maps), 1.0)),
            ("wgan-gp", "critic"): (
                lambda: ours.critic_loss(self.real, self.fake, self.mix)[0],
                lambda: theirs.critic_loss(real, fake, mix[:, None, None, None]),
            ),
            ("wgan-gp", "generator"): (ours_of_generator, lambda: theirs.generator_loss(maps)),
            ("sngan", "discriminator"): (
                lambda: ours.discriminator_loss(self.real, self.fake)[0],
                lambda: theirs.discriminator_loss(real, fake),
            ),
            ("sngan", "generator"): (ours_of_generator, lambda: theirs.generator_loss(latents)),
            ("cgan", "discriminator"): (
                lambda: ours.discriminator_loss(self.real, self.fake, self.labels)[0],
                lambda: theirs.discriminator_loss(real, fake, labels),
            ),
            ("cgan", "generator"): (
                lambda: ours_of_generator(tf.constant(self.labels)),
                lambda: theirs.generator_loss(theirs.generator(latents, labels), labels),
            ),
            ("vae", "autoencoder"): (
                lambda: ours.negative_bound(self.real, self.latents[:, None], None)[0],
                lambda: theirs.loss(real, latents),
            ),
            ("classifier", "classifier"): (
                lambda: ours.classification_loss(self.real, self.labels)[0],
                lambda: theirs.loss(real, labels),
            ),
        }[self.name, player]


def to_tensor(array: np.ndarray):
    """As a tensor, maps with channels first."""
    import torch

    return torch.from_numpy(np.moveaxis(array, -1, 1).copy() if array.ndim == 4 else array)


def layers_of(network: keras.Model) -> list[keras.layers.Layer]:
    """Our layers with weights, in the order of the peer's modules."""
    layers = [layer for layer in network.layers if layer.weights]
    names = [layer.name for layer in layers]

    def place(layer: keras.layers.Layer) -> tuple[int, int]:
        for number, ending in enumerate(LAYERS_OF_A_BLOCK):
            if layer.name.endswith(f"_{ending}"):  # of a residual block
                block = layer.name.removesuffix(f"_{ending}")
                return next(i for i, name in enumerate(names) if name.startswith(f"{block}_")), number
        if layer.name.startswith("norm_") and "norm_4_scale" in names:  # the conditional generator's: before all others
            size, _, part = layer.name.removeprefix("norm_").partition("_")
            return 1, ("", "scale", "shift").index(part) + 3 * int(size)
        behind = len(names) if layer.name == "embedding" else 2 if layer.name != "project" else 0
        return behind + names.index(layer.name), 0

    return sorted(layers, key=place)


def modules_of(peer) -> list:
    """Their modules with weights, or statistics."""
    from torch import nn

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding, nn.BatchNorm2d, nn.GroupNorm)
    return [module for module in peer.modules() if isinstance(module, kinds)] or [peer]


def parameters_of(module) -> list:
    """Their parameters in the order of our layer's weights: kernel, bias."""
    if hasattr(module, "parametrizations"):
        return [
            module.parametrizations.weight.original,
            *([module.bias] if getattr(module, "bias", None) is not None else []),
        ]
    return list(module.parameters(recurse=False))


def to_peer(array: np.ndarray, layer: keras.layers.Layer, module, target) -> np.ndarray:
    """One of a layer's weights, or its gradient, in the peer's layout."""
    from torch import nn

    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)  # of convolutions and transposed ones alike
    if layer.name in ("project", "embedding"):
        array = array[..., channels_first(array.shape[-1])]
    elif array.ndim == 2 and isinstance(layer.input._keras_history.operation, keras.layers.Flatten):
        array = array[channels_first(len(array))]
    return (array.T if isinstance(module, (nn.Linear, nn.Conv2d)) else array).reshape(target.shape)


def channels_first(size: int) -> np.ndarray:
    """The places of (side, side, channels), flattened, in the order of (channels, side, side)."""
    return np.arange(size).reshape(SIDE[size], SIDE[size], -1).transpose(2, 0, 1).ravel()


SIDE = {4 * 4 * 16: 4, 4 * 4 * 4: 4, 2 * 2 * 8: 2}  # of the smallest maps: DCGAN's, the residual networks', the VAE's


def copy(network: keras.Model, peer) -> None:
    """Our network's weights and statistics to the peer; power iterations stand at the largest singular value."""
    import torch

    for layer, module in zip(layers_of(network), modules_of(peer), strict=True):
        arrays = [np.asarray(variable) for variable in layer.trainable_weights]
        for array, target in zip(arrays, parameters_of(module), strict=True):
            target.data.copy_(torch.from_numpy(to_peer(array, layer, module, target).copy()))
        if isinstance(layer, BatchNorm):
            module.running_mean.copy_(torch.from_numpy(layer.moving_mean.numpy()))
            module.running_var.copy_(torch.from_numpy(layer.moving_variance.numpy()))
        if isinstance(layer, SpectralNorm):
            kernel = np.moveaxis(arrays[0], layer.output_axis, -1).reshape(-1, layer.u.shape[0])
            layer.u.assign(np.linalg.svd(kernel)[2][0])
            weight, vectors = module.parametrizations.weight.original.detach(), module.parametrizations.weight[0]
            left, _, right = torch.linalg.svd(weight.flatten(1))
            vectors._u.copy_(left[:, 0])
            vectors._v.copy_(right[0])


@pytest.mark.usefixtures("float64")  # what is left is 0.2, leaky ReLU's slope, which TensorFlow keeps in float32
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", COUNTED)
def test_a_peer_s_networks_with_our_weights_are_our_networks(name, training):
    import torch

    pair = Pair(name)
    networks = {name: both for name, both in pair.networks.items() if name != "likelihood"}  # a part of the VAE's loss
    for network, (ours, theirs) in networks.items():
        inputs = pair.inputs(network)
        outputs = ours(inputs if len(inputs) > 1 else inputs[0], training=training)
        expected = [np.array(each) for each in (outputs if isinstance(outputs, list) else [outputs])]
        if name == "classifier":
            expected = expected[1:]  # the peer returns no features
        feeds = [to_tensor(each) for each in inputs]
        if name in ("dcgan", "wgan-gp") and network == "generator":
            feeds = [feeds[0][:, :, None, None]]
        with torch.no_grad():
            found = theirs.train(training)(*feeds)
        for mine, other in zip(expected, found if isinstance(found, tuple) else [found], strict=True):
            other = np.moveaxis(other.numpy(), 1, -1) if mine.ndim == 4 else other.numpy().reshape(mine.shape)
            np.testing.assert_allclose(other, mine, atol=1e-6, rtol=1e-6)
            assert np.ptp(mine) > 1e-3  # a constant would prove nothing


PLAYERS = [
    *[(name, player) for name in ("dcgan", "sngan", "cgan") for player in ("discriminator", "generator")],
    *[("wgan-gp", "critic"), ("wgan-gp", "generator"), ("vae", "autoencoder"), ("classifier", "classifier")],
]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "player"), PLAYERS)
def test_a_peer_s_loss_and_gradients_are_ours(name, player):
    pair = Pair(name)
    our_loss, their_loss = pair.losses(player)
    networks = [pair.networks[network.name] for network in pair.ours.players[player]]
    with tf.GradientTape() as tape:
        expected = tf.reduce_mean(our_loss())
    variables = [variable for ours, _ in networks for variable in ours.trainable_variables]
    gradients = dict(zip(map(id, variables), tape.gradient(expected, [each.value for each in variables]), strict=True))
    found = their_loss()
    found.backward()
    assert found.item() == pytest.approx(float(expected), rel=1e-6)
    compared = 0
    for ours, theirs in networks:
        for layer, module in zip(layers_of(ours), modules_of(theirs), strict=True):
            for variable, parameter in zip(layer.trainable_weights, parameters_of(module), strict=True):
                mine = to_peer(np.asarray(gradients[id(variable)]), layer, module, parameter)
                np.testing.assert_allclose(parameter.grad.numpy(), mine, atol=1e-6, rtol=1e-6)
                compared += np.abs(mine).max() > 1e-6
    assert compared >= len(variables) - 1  # G's last bias alone may have none


@pytest.mark.parametrize("name", MODELS)
def test_a_peer_s_optimizers_are_the_recipe_s(name):
    measured, (_, peer) = MODELS[name], harness.import_pytorch(MODELS[name].peer)
    step = peer.TrainStep(**measured.peer_arguments(tiny=True))
    for player, ours in measured.make_optimizers(measured.build(tiny=True)).items():
        theirs = (getattr(step, f"{player}_optimizer", None) or step.optimizer).defaults
        found = theirs["betas"] if "betas" in theirs else (theirs["momentum"],)
        expected = (ours.beta_1, ours.beta_2) if "betas" in theirs else (ours.momentum,)
        assert (theirs["lr"], *found) == pytest.approx((float(ours.learning_rate), *expected))


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("name", COUNTED)
def test_a_peer_s_step_moves_every_parameter(name, bfloat16):
    import torch

    measured = MODELS[name]
    _, peer = harness.import_pytorch(measured.peer)
    torch.manual_seed(0)
    step = peer.TrainStep(**measured.peer_arguments(tiny=True), bfloat16=bfloat16)
    parameters = list(chain.from_iterable(network.parameters() for network in step.networks.values()))
    before = [parameter.detach().clone() for parameter in parameters]
    dtypes = set()
    for module in chain.from_iterable(map(modules_of, step.networks.values())):
        module.register_forward_hook(lambda module, given, output: dtypes.add(output.dtype))
    losses = step(*train_step.pytorch_batch(torch, measured.make_batch(measured.arguments(tiny=True), ROWS)))
    assert np.isfinite(losses).all()
    assert (torch.bfloat16 in dtypes) == bfloat16
    assert {parameter.dtype for parameter in parameters} == {torch.float32}
    assert [old.shape for old, new in zip(before, parameters, strict=True) if torch.equal(old, new)] == []


@pytest.mark.parametrize("name", COUNTED)
def test_the_flops_we_count_are_those_pytorch_counts(name):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    options = train_step.Options(model=name, tiny=True)
    measured, model = options.measured, options.measured.build(tiny=True)
    _, peer = harness.import_pytorch(measured.peer)
    step = peer.TrainStep(**measured.peer_arguments(tiny=True))
    batch = train_step.pytorch_batch(torch, measured.make_batch(measured.arguments(tiny=True), ROWS))
    counter = FlopCounterMode(display=False)
    counter.mod_tracker.__enter__ = counter.mod_tracker.__exit__ = lambda *_: None  # fails within autograd.grad
    with counter:
        step(*batch)
    more = 0
    if name in DISCRIMINATORS:
        more = total(count_layers(model.discriminator))
    if name == "wgan-gp":  # of the penalty: its gradient by x_hat itself, and by the ones given to the last layer
        layers = count_layers(model.critic)
        more = model.critic_steps * (
            total(layers) - total(layers, first=False) + total(layers) - total(layers, last=False)
        )
    assert counter.get_total_flops() == ROWS * (measured.step_flops(model) + more)
