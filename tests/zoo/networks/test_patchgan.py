"""PatchGAN: published parameters, and patches of the published size."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.networks import patchgan


def count_weights(network):
    return sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)


def test_the_published_network_has_its_parameters():
    """junyanz/pytorch-CycleGAN-and-pix2pix prints 2.765 M for three channels with instance norm."""
    weights = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 64 + 1
    assert round((weights + 128 + 256 + 512) / 1e6, 3) == 2.765  # with its biases before instance norms
    assert count_weights(patchgan.discriminator(3)) == weights
    # 2.769 M for the six of a pair, with batch norm's scales and shifts and no bias before it.
    paired = weights + 16 * 3 * 64 + 2 * (128 + 256 + 512)
    assert round(paired / 1e6, 3) == 2.769
    assert count_weights(patchgan.discriminator(6, norm="batch")) == paired


@pytest.mark.parametrize(("halvings", "side", "logits"), [(2, 34, 14), (3, 70, 6)])
def test_a_logit_is_of_a_patch_of_the_published_size(halvings, side, logits):
    """Gradients tell which pixels a logit depends on; without norm, which joins all pixels of an image."""
    network = patchgan.discriminator(1, width=2, halvings=halvings, norm="batch")
    image = tf.random.stateless_uniform((1, 96, 96, 1), [0, 0], -1.0, 1.0)
    with tf.GradientTape() as tape:
        tape.watch(image)
        scores = network(image, training=False)
        middle = scores[0, scores.shape[1] // 2, scores.shape[2] // 2, 0]
    touched = np.argwhere(np.abs(tape.gradient(middle, image)[0, :, :, 0].numpy()) > 0)
    assert (np.ptp(touched, axis=0) + 1).tolist() == [side, side]
    assert network(np.zeros((1, 64, 64, 1))).shape == (1, logits, logits, 1)


def test_patches_are_chosen_by_the_size_of_the_images():
    assert [patchgan.choose_halvings((side, side, 3)) for side in (32, 64, 127, 128, 256)] == [2, 2, 2, 3, 3]


def test_the_norm_is_one_of_two():
    with pytest.raises(ValueError, match="norm='layer': choose from"):
        patchgan.discriminator(3, norm="layer")


def test_its_logits_are_in_full_precision():
    network = patchgan.discriminator(3, width=2)
    assert keras.ops.convert_to_numpy(network(np.zeros((1, 40, 48, 3)))).dtype == np.float32
