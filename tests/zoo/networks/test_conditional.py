"""Networks told of a class: their ends, and each way of telling written out in NumPy with the network's weights."""

import math
import warnings

import keras
import numpy as np
import pytest

from zoo.core.precision import computing_in
from zoo.layers.normalization import BatchNorm
from zoo.networks import conditional, convolutional

SHAPE, LATENT, CLASSES, WIDTH, ROWS = (16, 16, 1), 5, 3, 2, 6
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.uniform(-1, 1, (ROWS, *SHAPE)).astype(np.float32)
LATENTS = RANDOM.normal(size=(ROWS, LATENT)).astype(np.float32)
LABELS = np.array([0, 1, 2, 2, 1, 1], np.int32)
ONE_HOT = np.eye(CLASSES, dtype=np.float32)[LABELS]


def generator(conditional_norm=True):
    return conditional.generator(SHAPE, LATENT, CLASSES, WIDTH, conditional_norm)


def discriminator(condition, norm="none"):
    return conditional.discriminator(SHAPE, CLASSES, WIDTH, condition, norm)


def shake(network, seed=1):
    """Random weights of every kind; variances stay positive."""
    random = np.random.default_rng(seed)
    for variable in network.variables:
        numbers = random.normal(0, 0.5, variable.shape)
        variable.assign(np.abs(numbers) + 0.1 if variable.name == "moving_variance" else numbers)
    return network


def parameters(network):
    return sum(math.prod(variable.shape) for variable in network.trainable_variables)


def norms_of(network):
    return [layer for layer in network.layers if isinstance(layer, BatchNorm)]


# Ends


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("conditional_norm", [True, False])
def test_a_generator_turns_a_latent_and_a_label_into_an_image_in_range(conditional_norm, policy):
    with computing_in(policy):
        network = generator(conditional_norm)
    ends = {tensor.name: (tensor.shape, tensor.dtype) for tensor in network.inputs}
    assert ends == {"latent": ((None, LATENT), "float32"), "label": ((None,), "int32")}
    assert network.output_names == ["image"]
    pixels = network.get_layer("pixels")  # what comes before tanh lies far out
    pixels.set_weights([1000 * pixels.kernel, pixels.bias])
    images = np.asarray(network([1000 * LATENTS, LABELS], training=True))
    assert (images.shape, images.dtype) == ((ROWS, *SHAPE), np.float32)
    assert -1 <= images.min() < -0.9
    assert 0.9 < images.max() <= 1


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize(
    ("condition", "inputs", "outputs"),
    [
        ("concatenation", ["image", "label"], {"logit": (ROWS, 1)}),
        ("projection", ["image", "label"], {"logit": (ROWS, 1)}),
        ("auxiliary_classifier", ["image"], {"logit": (ROWS, 1), "class_logits": (ROWS, CLASSES)}),
    ],
)
def test_a_discriminator_is_shown_the_label_or_names_it(condition, inputs, outputs, policy):
    with computing_in(policy):
        network = discriminator(condition, "spectral")
    assert [tensor.name for tensor in network.inputs] == inputs
    assert network.output_names == list(outputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Keras' of inputs it did not expect
        values = network([IMAGES, LABELS] if "label" in inputs else IMAGES)
    found = [np.asarray(value) for value in keras.tree.flatten(values)]
    assert [value.shape for value in found] == list(outputs.values())
    assert {value.dtype for value in found} == {np.dtype(np.float32)}


# What the class does to the discriminator


def test_concatenation_is_dcgans_discriminator_with_a_constant_map_a_class():
    network = shake(discriminator("concatenation", "batch"))
    plain = convolutional.discriminator((16, 16, 1 + CLASSES), WIDTH)
    plain.set_weights(network.get_weights())
    maps = np.broadcast_to(ONE_HOT[:, None, None, :], (ROWS, 16, 16, CLASSES))
    expected = plain.predict(np.concatenate([IMAGES, maps], axis=-1), verbose=0)
    np.testing.assert_allclose(network.predict([IMAGES, LABELS], verbose=0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["none", "batch", "spectral"])
def test_the_projection_is_psi_of_phi_and_the_inner_product_with_the_classs_embedding(norm):
    network = shake(discriminator("projection", norm))
    psi, embedding = network.get_layer("psi"), network.get_layer("embedding")
    kernels = {}
    for layer in (psi, embedding):
        layer, wrapped = (layer.layer, layer) if norm == "spectral" else (layer, None)
        assert layer.bias is None
        kernels[layer.name] = kernel = np.asarray(layer.kernel)
        if wrapped:  # by its largest singular value; u is set to where power iteration ends
            _, singular_values, right = np.linalg.svd(kernel)
            wrapped.u.assign(right[0])
            kernels[layer.name] = kernel / singular_values[0]
    phi = keras.Model(network.inputs[0], network.get_layer("flatten").output).predict(IMAGES, verbose=0)
    assert kernels["embedding"].shape == (CLASSES, phi.shape[1]) == (3, 4 * 4 * 2 * WIDTH)
    expected = phi @ kernels["psi"] + np.sum(kernels["embedding"][LABELS] * phi, axis=1, keepdims=True)
    np.testing.assert_allclose(network.predict([IMAGES, LABELS], verbose=0), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["none", "spectral"])
def test_an_auxiliary_classifier_is_dcgans_discriminator_with_a_second_head(norm):
    network = shake(discriminator("auxiliary_classifier", norm))
    logit, class_logits = network.predict(IMAGES, verbose=0)
    plain = convolutional.discriminator(SHAPE, WIDTH, norm=norm)
    heads = [layer.name for layer in network.layers if layer.weights]
    assert heads == ["down_8", "down_4", "logit", "class_logits"]
    for name in heads[:-1]:
        plain.get_layer(name).set_weights(network.get_layer(name).get_weights())
    np.testing.assert_allclose(logit, plain.predict(IMAGES, verbose=0), rtol=1e-5, atol=1e-6)
    if norm == "none":
        phi = keras.Model(network.inputs, network.get_layer("flatten").output).predict(IMAGES, verbose=0)
        kernel, bias = network.get_layer("class_logits").get_weights()
        np.testing.assert_allclose(class_logits, phi @ kernel + bias, rtol=1e-4, atol=1e-4)


def test_spectral_norm_is_of_every_kernel_the_embedding_included():
    for condition, count in {"concatenation": 3, "projection": 4, "auxiliary_classifier": 4}.items():
        network = discriminator(condition, "spectral")
        weighted = [layer for layer in network.layers if layer.trainable_variables]
        assert [type(layer).__name__ for layer in weighted] == ["SpectralNorm"] * count


# What the class does to the generator


def test_concatenation_is_dcgans_generator_with_the_class_beside_z():
    network = shake(generator(conditional_norm=False))
    plain = convolutional.generator(SHAPE, LATENT + CLASSES, WIDTH)
    plain.set_weights(network.get_weights())
    expected = plain.predict(np.concatenate([LATENTS, ONE_HOT], axis=1), verbose=0)
    np.testing.assert_allclose(network.predict([LATENTS, LABELS], verbose=0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_conditional_batch_norm_is_one_normalization_with_a_scale_and_a_shift_a_class(training):
    """gamma_y (x - mu) / sqrt(sigma^2 + 1e-5) + beta_y, mu and sigma over the whole batch, whatever its classes."""
    chosen, maps = keras.Input((CLASSES,)), keras.Input((4, 4, 2))
    network = keras.Model([maps, chosen], conditional.conditional_batch_norm(chosen, "norm")(maps))
    values = RANDOM.normal(3.0, 2.0, (ROWS, 4, 4, 2)).astype(np.float32)
    scale, shift = RANDOM.normal(size=(2, CLASSES, 2)).astype(np.float32)
    network.get_layer("norm_scale").set_weights([scale])
    network.get_layer("norm_shift").set_weights([shift])
    mean, variance = np.array([1.0, 2.0], np.float32), np.array([4.0, 9.0], np.float32)
    network.get_layer("norm").set_weights([mean, variance])  # no scale or shift of its own
    if training:
        mean, variance = values.mean((0, 1, 2)), values.var((0, 1, 2))
    normalized = (values - mean) / np.sqrt(variance + 1e-5)
    expected = normalized * scale[LABELS][:, None, None] + shift[LABELS][:, None, None]
    np.testing.assert_allclose(network([values, ONE_HOT], training=training), expected, rtol=1e-4, atol=1e-4)


def test_every_batch_norm_of_the_generator_is_conditional_and_nothing_else_is():
    network, plain = generator(), convolutional.generator(SHAPE, LATENT, WIDTH)
    norms = norms_of(network)
    assert [norm.name for norm in norms] == ["norm_4", "norm_8"] == [norm.name for norm in norms_of(plain)]
    assert not any(norm.trainable_variables for norm in norms)
    channels = sum(norm.output.shape[-1] for norm in norms)
    assert channels == 2 * WIDTH + WIDTH
    assert parameters(network) - parameters(plain) == (CLASSES - 1) * 2 * channels  # gamma and beta a class


def test_at_the_start_a_class_makes_no_difference_to_conditional_batch_norm_and_some_beside_z():
    """Every scale is 1 and every shift 0."""
    for conditional_norm in (True, False):
        network = generator(conditional_norm)
        for training in (False, True):
            of_class = [np.asarray(network([LATENTS, np.full(ROWS, n, np.int32)], training=training)) for n in range(3)]
            assert of_class[0].std() > 1e-6
            for other in of_class[1:]:
                assert np.array_equal(of_class[0], other) == conditional_norm


@pytest.mark.parametrize(("what", "row"), [("scale", 2.0), ("shift", 1.0)])
def test_one_classs_scale_and_shift_reach_its_images_alone(what, row):
    network = shake(generator())
    before = network.predict([LATENTS, LABELS], verbose=0)
    (values,) = network.get_layer(f"norm_8_{what}").get_weights()
    values[1] += row
    network.get_layer(f"norm_8_{what}").set_weights([values])
    changes = np.abs(network.predict([LATENTS, LABELS], verbose=0) - before).max((1, 2, 3))
    assert (changes[LABELS == 1] > 1e-2).all()
    assert (changes[LABELS != 1] == 0).all()


def test_an_unknown_normalization_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"norm='instance': choose from \['batch', 'layer', 'none', 'spectral'\]"):
        discriminator("projection", "instance")
