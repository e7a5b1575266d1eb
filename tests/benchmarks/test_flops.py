"""FLOPs counted from the networks, against numbers worked out by hand; against PyTorch's counter see test_peers."""

import keras
import pytest

from benchmarks import train_step
from benchmarks.flops import count_layers, network_flops
from benchmarks.models import MODELS, Passes
from zoo.networks import conditional, convolutional


def test_a_layer_s_flops_are_two_for_each_number_of_its_kernel_at_each_place():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(5, 4, 2, "same", name="down")(image)  # 4x4 places, kernel 4 x 4 x 3 x 5
    x = keras.layers.Conv2DTranspose(2, 4, 2, "same", name="up")(x)  # of 4x4 places, kernel 4 x 4 x 2 x 5
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dense(7, name="dense")(keras.layers.Flatten()(x))  # 8 x 8 x 2 values, kernel 128 x 7
    found = count_layers(keras.Model(image, x))
    assert [(layer.name, layer.flops) for layer in found] == [
        ("down", 2 * 16 * 4 * 4 * 3 * 5),
        ("up", 2 * 16 * 4 * 4 * 2 * 5),
        ("dense", 2 * 128 * 7),
    ]
    assert [(layer.first, layer.last) for layer in found] == [(True, False), (False, False), (False, True)]


def test_both_branches_of_a_block_come_first_and_a_look_up_of_a_class_is_no_product():
    residual = MODELS["sngan"].build(tiny=True).discriminator
    assert [layer.name for layer in count_layers(residual) if layer.first] == [
        "down_8_convolution_1",
        "down_8_shortcut",
    ]
    assert [layer.name for layer in count_layers(residual) if layer.last] == ["logit"]
    generator = conditional.generator((16, 16, 1), latent_dim=5, classes=10, width=2)
    assert [layer.name for layer in count_layers(generator)] == ["project", "up_8", "pixels"]
    discriminator = conditional.discriminator((16, 16, 1), classes=10, width=2)
    assert [layer.name for layer in count_layers(discriminator)] == ["down_8", "down_4", "psi"]


def test_the_passes_of_a_network():
    network = convolutional.discriminator((8, 8, 1), width=2, logit_bias=False)
    # down_4: 4 x 4 places, kernel 4 x 4 x 1 x 2; logit: kernel 4 x 4 x 2
    down, logit = 2 * 16 * 4 * 4 * 1 * 2, 2 * 4 * 4 * 2
    assert network_flops(network, Passes(forward=1)) == down + logit
    assert network_flops(network, Passes(by_weights=3)) == 3 * (down + logit)
    assert network_flops(network, Passes(by_input=1)) == logit
    assert network_flops(network, Passes(by_image=1)) == down + logit
    # Forward and by the image; of that chain by its weights, and by what a link is given, which is ones for the last;
    # of the forward pass of down_4, by its weights alone.
    assert network_flops(network, Passes(gradient_penalty=1)) == 2 * (down + logit) + (down + logit + down) + down


def test_the_dcgan_of_pytorch_s_example_needs_eleven_passes_and_two_updates_on_fakes_of_their_own_twelve():
    flops = train_step.count_flops(train_step.Options())
    maps = (32 * 32, 3, 64), (16 * 16, 64, 128), (8 * 8, 128, 256), (4 * 4, 256, 512)  # places, channels in, out
    first, *others = (2 * places * 4 * 4 * given * taken for places, given, taken in maps)
    logit, project = 2 * 4 * 4 * 512, 2 * 100 * 4 * 4 * 512
    generator, discriminator = project + first + sum(others), first + sum(others) + logit
    # G: forward, by weights, by input but for `project`. D: three times forward, twice by weights, twice by input but
    # for its first layer, once by the image.
    eleven = (3 * generator - project) + (8 * discriminator - 2 * first)
    assert flops["zoo"] == flops["pytorch"] == eleven
    assert flops["zoo-alternating"] == flops["keras-tutorial"] == eleven + generator


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].passes])
def test_every_network_of_a_step_is_counted(name):
    model = MODELS[name].build(tiny=True)
    networks = {network.name: network for networks in model.players.values() for network in networks}
    counted = {network for network, found in networks.items() if count_layers(found)}
    assert counted == set(MODELS[name].passes)
