"""What styles and noise do to maps: statistics, initial values, equations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.core.precision import computing_in
from zoo.layers.style import AdaIN, LearnedConstant, NoiseBias, Truncation, mix_styles

RANDOM = np.random.default_rng(0)
MAPS = (RANDOM.normal(3.0, 2.0, (4, 8, 8, 3)) * [1.0, 5.0, 0.2]).astype(np.float32)
STYLES = RANDOM.normal(size=(4, 6)).astype(np.float32)
NOISE = RANDOM.normal(size=(4, 8, 8, 1)).astype(np.float32)


def test_adain_gives_each_channel_of_each_row_the_styles_statistics():
    layer = AdaIN()
    layer([MAPS, STYLES])
    layer.affine.bias.assign(RANDOM.normal(size=6))
    found = layer([MAPS, STYLES]).numpy()
    affine = STYLES @ layer.affine.kernel.numpy() / 6**0.5 + layer.affine.bias.numpy()  # gain 1, fan in 6
    scale, bias = affine[:, :3], affine[:, 3:]
    np.testing.assert_allclose(found.mean((1, 2)), bias, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.std((1, 2)), np.abs(1 + scale), rtol=1e-4, atol=1e-5)
    # and it is affine in the map
    standard = (MAPS - MAPS.mean((1, 2), keepdims=True)) / MAPS.std((1, 2), keepdims=True)
    expected = standard * (1 + scale[:, None, None]) + bias[:, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_adain_of_a_constant_map_is_its_bias():
    layer = AdaIN()
    found = layer([np.full((4, 8, 8, 3), 7.0, np.float32), STYLES]).numpy()
    expected = (STYLES @ layer.affine.kernel.numpy() / 6**0.5)[:, None, None, 3:]
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-5, atol=1e-6)


def test_a_gradient_penalty_through_adain_has_the_gradient_of_finite_differences(penalty_gradient):
    with computing_in("float64"):
        layer = AdaIN()
    before = tf.Variable(RANDOM.normal(size=(4, 4, 3)))  # so that the penalty is differentiated by the maps, too

    def score(maps):
        return tf.reduce_sum(tf.tanh(layer([tf.tanh(maps * before), style])), axis=(1, 2, 3))

    maps, style = tf.constant(RANDOM.normal(size=(2, 4, 4, 3))), tf.constant(RANDOM.normal(size=(2, 6)))
    score(maps)
    found, expected = penalty_gradient(score, maps, [before, *(each.value for each in layer.trainable_variables)])
    assert abs(expected) > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("per_channel", [True, False])
def test_noise_is_scaled_by_what_was_learned_and_by_nothing_at_the_start(per_channel):
    layer = NoiseBias(per_channel)
    np.testing.assert_array_equal(layer([MAPS, NOISE]), MAPS)
    strength, bias = np.array([1.0, -2.0, 0.5], np.float32), np.array([4.0, 0.0, 1.0], np.float32)
    strength = strength if per_channel else np.float32(3.0)
    assert [each.shape for each in layer.trainable_variables] == [strength.shape, (3,)]
    layer.set_weights([strength, bias])
    np.testing.assert_allclose(layer([MAPS, NOISE]), MAPS + NOISE * strength + bias, rtol=1e-6, atol=1e-6)


def test_a_constant_is_the_same_for_each_row_of_any_batch():
    layer = LearnedConstant((4, 4, 2), keras.initializers.RandomNormal(0.0, 1.0, seed=0))
    inputs = keras.Input((5, 6))
    network = keras.Model(inputs, layer(inputs))
    assert network.output_shape == (None, 4, 4, 2)
    assert len(np.unique(layer.constant)) == 32
    for rows in (1, 3):
        found = tf.function(network, input_signature=[tf.TensorSpec((None, 5, 6))])(tf.zeros((rows, 5, 6)))
        np.testing.assert_array_equal(found, np.broadcast_to(layer.constant, (rows, 4, 4, 2)))
    np.testing.assert_array_equal(LearnedConstant((4, 4, 2))(np.zeros((1, 1))), np.ones((1, 4, 4, 2)))


def test_truncation_moves_styles_to_the_mean_latent():
    layer = Truncation(3)
    psi = np.array([1.0, 0.0, 0.5, -1.0], np.float32)
    layer([STYLES, psi])
    mean = RANDOM.normal(size=6).astype(np.float32)
    layer.mean_latent.assign(mean)
    found = layer([STYLES, psi]).numpy()
    expected = [STYLES[0], mean, (STYLES[2] + mean) / 2, 2 * mean - STYLES[3]]
    np.testing.assert_allclose(found, np.repeat(np.stack(expected)[:, None], 3, axis=1), rtol=1e-5, atol=1e-6)
    assert layer.trainable_variables == []


@pytest.mark.parametrize("layers", [0, 2, 3])
def test_truncation_stops_behind_the_layers_that_are_asked_for(layers):
    layer = Truncation(3, layers)
    found = layer([STYLES, np.zeros(4, np.float32)]).numpy()  # psi 0: the mean latent, 0 at the start
    np.testing.assert_array_equal(found[:, :layers], 0.0)
    np.testing.assert_array_equal(found[:, layers:], np.repeat(STYLES[:, None], 3 - layers, axis=1))


@pytest.mark.parametrize("layers", [-1, 4])
def test_more_truncated_layers_than_there_are_are_refused(layers):
    with pytest.raises(ValueError, match=rf"truncation_layers={layers}: choose 0 to 3, or None for all 3"):
        Truncation(3, layers)


def test_mixed_styles_change_at_the_cut():
    first, second = STYLES, -STYLES
    mixed = mix_styles(first, second, np.array([0, 1, 3, 9]), layers=3).numpy()
    signs = [[-1, -1, -1], [1, -1, -1], [1, 1, 1], [1, 1, 1]]
    np.testing.assert_array_equal(mixed, STYLES[:, None] * np.array(signs)[..., None])
    np.testing.assert_array_equal(
        mix_styles(first, second, 1, layers=3), STYLES[:, None] * np.array([[[1], [-1], [-1]]])
    )


def test_layers_of_styles_are_rebuilt_from_their_configuration():
    for layer in (AdaIN(1e-6), NoiseBias(False), LearnedConstant((4, 4, 1), "zeros"), Truncation(4, 2)):
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
