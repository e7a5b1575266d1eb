"""The classifier that a run's model learns from: its very weights, up to the layer that is named, on any replicas."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from recipes import srgan_sign_digits
from serving.card import CardError, Data
from zoo.core.precision import computing_in
from zoo.export.export import export
from zoo.presets.table import PRESETS, UnknownPresetError, resolve_class
from zoo.pretrained import load_pretrained
from zoo.training.extractor import load_feature_maps
from zoo.training.run import build_and_compile, build_model

DATA = Data("none", "train", 1, "MIT", "embedded")
IMAGES = np.random.default_rng(0).uniform(-1, 1, (5, 8, 8, 3))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """preset -> the directory of its tiny twin."""
    kept = {}

    def get(name):
        if name not in kept:
            preset = PRESETS[name].twin()
            kept[name] = tmp_path_factory.mktemp(name)
            export(build_model(preset), kept[name], preset=preset, data=DATA, recipe={}, formats=("onnx",))
        return str(kept[name])

    return get


@pytest.fixture(scope="module")
def preset(exported):
    twin = PRESETS["srgan-sign-digits"].twin()
    changed = {"image_shape": (8, 8, 3), "extractor": exported("cnn-sign-digits"), "pretraining_steps": 0}
    return replace(twin, arguments={**twin.arguments, **changed})


def test_a_run_compares_the_maps_of_the_classifier_that_is_named(preset):
    model = build_model(preset)
    classifier = load_pretrained(preset.arguments["extractor"]).abilities()["classify"].network
    expected = keras.Model(classifier.input, classifier.get_layer("relu_3_2").output)
    np.testing.assert_array_equal(model.extractor(IMAGES), expected(IMAGES))
    assert not model.extractor.trainable_variables
    loss = preset.arguments["feature_scale"] ** 2 * np.mean((expected(IMAGES) - expected(-IMAGES)) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(model.content_loss(IMAGES, -IMAGES), loss, rtol=1e-4)


def test_it_is_built_in_the_precision_of_the_run(preset):
    with computing_in("mixed_bfloat16"):
        model = build_model(preset)
    assert model.extractor.get_layer("conv_1_2").compute_dtype == "bfloat16"


def test_a_model_whose_preset_names_none_has_none():
    assert build_model(PRESETS["srgan-sign-digits"].twin()).extractor is None


def test_other_maps_are_refused_by_their_names(preset):
    with pytest.raises(ValueError, match=r"content_layer='relu_9': .* has the maps conv_1_1, norm_1_1, relu_1_1, .*"):
        load_feature_maps(preset.arguments["extractor"], "relu_9")
    with pytest.raises(ValueError, match="content_layer='features'"):  # no map, but one number a channel
        load_feature_maps(preset.arguments["extractor"], "features")


def test_what_classifies_nothing_is_refused(exported):
    with pytest.raises(ValueError, match="classifies nothing: name a classifier"):
        load_feature_maps(exported("srresnet-sign-digits"), "relu_3_2")


def test_unknown_names_and_paths_are_refused(tmp_path):
    with pytest.raises(UnknownPresetError, match="did you mean cnn-sign-digits"):
        load_feature_maps("cnn-sign-digit", "relu_3_2")
    with pytest.raises(CardError, match="there is no"):
        load_feature_maps(str(tmp_path), "relu_3_2")


def test_a_classifier_of_other_images_is_refused(preset):
    other = replace(preset, arguments={**preset.arguments, "image_shape": (16, 16, 3)})
    with pytest.raises(ValueError, match=r"takes images of \(8, 8, 3\), and here they are \(16, 16, 3\)"):
        build_model(other)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_two_replicas_learn_from_it_as_one_does(preset, strategy_of, fit, difference):
    recipe = replace(srgan_sign_digits.recipe, precision="float64")
    found = []
    for replicas in (1, 2):
        model = build_and_compile(recipe, preset, strategy_of(replicas))
        fit(model, IMAGES)
        found.append(model.get_weights())
    assert difference(*found) < 1e-6


def test_a_model_that_was_trained_with_it_is_loaded_without(preset, tmp_path):
    model = build_model(preset)
    trained = replace(preset, arguments={**preset.arguments, "extractor": "cnn-sign-digits"})
    keras.utils.set_random_seed(0)
    named = resolve_class(preset.model)(**trained.arguments)
    named.set_weights(model.get_weights()[: len(named.get_weights())])
    export(named, tmp_path / "model", preset=trained, data=DATA, recipe={}, formats=("onnx",))
    again = load_pretrained(tmp_path / "model")
    assert again.extractor is None
    upscaled = again.run_ability("upscale", {"image": IMAGES[:, :3, :4]})["upscaled"]
    assert upscaled.shape == (5, 12, 16, 3)
