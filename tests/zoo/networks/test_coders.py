"""Encoders and decoders: shapes that fit each other, the layers there are, what a class changes, what is refused."""

import keras
import numpy as np
import pytest

from zoo.networks import coders

DENSE = {"architecture": "dense", "hidden": (6, 5)}
CONVOLUTIONAL = {"architecture": "convolutional", "hidden": (3, 4)}
SHAPES = [(8, 8, 1), (8, 12, 3), (12, 4, 2)]
IMAGES = np.random.default_rng(0).uniform(-1.0, 1.0, (3, 8, 12, 3)).astype(np.float32)


def shaken(network, seed=2):
    """Every weight random: biases begin at zero."""
    random = np.random.default_rng(seed)
    network.set_weights([random.normal(0.0, 0.5, weight.shape) for weight in network.get_weights()])
    return network


def layer_names(network):
    return [layer.name for layer in network.layers]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", [DENSE, CONVOLUTIONAL], ids=["dense", "convolutional"])
def test_a_decoder_gives_back_what_its_encoder_took(options, shape):
    encoder = coders.encoder(shape, {"mean": 7, "log_scale": 2}, **options)
    decoder = coders.decoder(shape, ("latent", 7), **options)
    mean, log_scale = encoder(np.zeros((5, *shape), np.float32))
    assert (mean.shape, log_scale.shape) == ((5, 7), (5, 2))
    assert decoder(mean).shape == (5, *shape)
    assert (encoder.input.name, encoder.output_names, decoder.input.name) == ("image", ["mean", "log_scale"], "latent")


def test_a_decoder_is_its_encoder_in_reverse():
    encoder, decoder = (
        coders.encoder((8, 12, 3), {"code": 2}, **DENSE),
        coders.decoder((8, 12, 3), ("code", 2), **DENSE),
    )
    kernels = [
        [weight.shape for weight in network.weights if "kernel" in weight.path] for network in (encoder, decoder)
    ]
    assert kernels == [[(288, 6), (6, 5), (5, 2)], [(2, 5), (5, 6), (6, 288)]]
    encoder = coders.encoder((8, 12, 3), {"code": 2}, **CONVOLUTIONAL)
    decoder = coders.decoder((8, 12, 3), ("code", 2), **CONVOLUTIONAL)
    maps = [
        [layer.output.shape[1:] for layer in network.layers if len(layer.output.shape) == 4]
        for network in (encoder, decoder)
    ]
    assert maps == [[(8, 12, 3), (4, 6, 3), (2, 3, 4)], [(2, 3, 4), (4, 6, 3), (8, 12, 3)]]


def test_a_head_has_its_activation_and_pixels_have_none():
    encoder = shaken(coders.encoder((8, 12, 3), {"code": 40}, head_activation="sigmoid", **DENSE))
    bare = shaken(coders.encoder((8, 12, 3), {"code": 40}, **DENSE))
    np.testing.assert_allclose(encoder(IMAGES), 1 / (1 + np.exp(-bare(IMAGES).numpy())), rtol=1e-5)
    for options in (DENSE, CONVOLUTIONAL):
        pixels = shaken(coders.decoder((8, 12, 3), ("code", 4), **options))(np.full((3, 4), 9.0, np.float32)).numpy()
        assert pixels.min() < -1.0
        assert pixels.max() > 1.0


def test_no_hidden_layer_is_one_affine_map_each_way():
    encoder, decoder = (
        shaken(coders.encoder((8, 12, 3), {"code": 4}, hidden=())),
        shaken(coders.decoder((8, 12, 3), ("code", 4), hidden=())),
    )
    kernel, bias = encoder.get_weights()
    codes = IMAGES.reshape(3, 288) @ kernel + bias
    np.testing.assert_allclose(encoder(IMAGES), codes, rtol=1e-4, atol=1e-4)
    kernel, bias = decoder.get_weights()
    pixels = (codes @ kernel + bias).reshape(IMAGES.shape)
    np.testing.assert_allclose(decoder(codes), pixels, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "encoder", "decoder"),
    [
        (
            {**DENSE, "dropout": 0.5},
            ["image", "flatten", "hidden_1", "dropout_1", "hidden_2", "dropout_2", "code"],
            ["code", "hidden_1", "dropout_1", "hidden_2", "dropout_2", "values", "pixels"],
        ),
        (
            {**CONVOLUTIONAL, "dropout": 0.5},
            ["image", "down_1", "dropout_1", "down_2", "dropout_2", "flatten", "code"],
            ["code", "project", "maps", "dropout_1", "up_1", "dropout_2", "pixels"],
        ),
        (
            DENSE,
            ["image", "flatten", "hidden_1", "hidden_2", "code"],
            ["code", "hidden_1", "hidden_2", "values", "pixels"],
        ),
        (
            CONVOLUTIONAL,
            ["image", "down_1", "down_2", "flatten", "code"],
            ["code", "project", "maps", "up_1", "pixels"],
        ),
    ],
    ids=["dense, dropout", "convolutional, dropout", "dense", "convolutional"],
)
def test_dropout_follows_every_hidden_layer_where_it_is_asked_for(options, encoder, decoder):
    assert layer_names(coders.encoder((8, 12, 3), {"code": 4}, **options)) == encoder
    assert layer_names(coders.decoder((8, 12, 3), ("code", 4), **options)) == decoder


@pytest.mark.parametrize("options", [DENSE, CONVOLUTIONAL], ids=["dense", "convolutional"])
def test_a_class_changes_what_comes_out_and_rows_keep_their_own(options):
    encoder = shaken(coders.encoder((8, 12, 3), {"code": 4}, classes=3, **options))
    decoder = shaken(coders.decoder((8, 12, 3), ("code", 4), classes=3, **options))
    codes = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    for network, given in ((encoder, IMAGES), (decoder, codes)):
        alike = [network([given, np.full(3, label, np.int32)]).numpy() for label in range(3)]
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert np.abs(alike[one] - alike[other]).reshape(3, -1).max(axis=1).min() > 1e-3
        mixed = network([given, np.array([2, 0, 1], np.int32)]).numpy()
        expected = np.stack([alike[label][row] for row, label in enumerate((2, 0, 1))])
        np.testing.assert_allclose(mixed, expected, rtol=1e-5, atol=1e-5)


def test_without_classes_there_is_no_label():
    assert [tensor.name for tensor in coders.encoder((8, 12, 3), {"code": 4}, **DENSE).inputs] == ["image"]
    told = coders.decoder((8, 12, 3), ("code", 4), classes=3, **DENSE)
    assert [(tensor.name, keras.backend.standardize_dtype(tensor.dtype)) for tensor in told.inputs] == [
        ("code", "float32"),
        ("label", "int32"),
    ]


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((8, 8, 1), {"architecture": "resnet"}, r"architecture='resnet': choose from \['convolutional', 'dense'\]"),
        ((8, 10, 1), CONVOLUTIONAL, r"hidden=\(3, 4\), image_shape=\(8, 10, 1\): .*multiples of 4"),
        ((6, 8, 1), CONVOLUTIONAL, r"image_shape=\(6, 8, 1\): .*multiples of 4"),
        ((8, 8, 1), {"architecture": "convolutional", "hidden": ()}, r"hidden=\(\), .*every convolution, one at least"),
    ],
)
def test_both_refuse(shape, options, message):
    with pytest.raises(ValueError, match=message):
        coders.encoder(shape, {"code": 4}, **options)
    with pytest.raises(ValueError, match=message):
        coders.decoder(shape, ("code", 4), **options)


def test_dropout_without_a_hidden_layer_is_refused():
    with pytest.raises(ValueError, match=r"dropout=0.5: it follows hidden layers, and hidden=\(\) has none"):
        coders.encoder((8, 8, 1), {"code": 4}, hidden=(), dropout=0.5)
