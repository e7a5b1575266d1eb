"""What holds of StyleGAN's and StyleGAN2's networks alike."""

import math
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf

from serving.session import Session
from zoo.core.ability import Ability
from zoo.core.precision import computing_in
from zoo.export.onnx import write_onnx
from zoo.networks import style, stylegan, stylegan2

FAMILIES = {"stylegan": stylegan, "stylegan2": stylegan2}
SHAPE = (16, 16, 3)
TINY = {"channel_base": 24, "channel_max": 6}
RANDOM_OPERATIONS = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial"}
CONTROL_FLOW = {"If", "Loop", "Scan"}
# The authors' printouts of trainable parameters at 1024x1024. StyleGAN: README.md and print_layers of NVlabs/stylegan.
# StyleGAN2: NVlabs/stylegan2-ada-pytorch prints 28,794,124 for a mapping network of 2 layers; here are 8, of 262,656.
PARAMETERS = {
    "stylegan": (26_219_627, 23_087_249),
    "stylegan2": (28_794_124 + 6 * 262_656, 29_012_513),
}


def make_generator(family, shape=SHAPE, **options):
    options = {"latent_dim": 5, "style_dim": 7, "mapping_layers": 2} | TINY | options
    return FAMILIES[family].generator(shape, **options)


def shake(network, seed=0):
    """Random weights of every kind, noise strengths, biases and the mean latent included."""
    random = np.random.default_rng(seed)
    for variable in network.variables:
        if variable.name != "level":
            variable.assign(variable.numpy() + random.normal(0, 0.5, variable.shape))
    if any(layer.name == "growth" for layer in network.layers):
        network.get_layer("growth").level.assign(2.0)
    return network


def random_inputs(network, rows=3, seed=0):
    random = np.random.default_rng(seed)
    return [tf.constant(random.normal(size=(rows, *each.shape[1:])), each.dtype) for each in network.inputs]


def parameters(network):
    return sum(math.prod(variable.shape) for variable in network.trainable_variables)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_generator_has_named_inputs_for_the_latent_truncation_and_each_noise(family):
    network = make_generator(family)
    lowest = ["noise_4_0", "noise_4_1"] if family == "stylegan" else ["noise_4_0"]
    noise = [*lowest, "noise_8_0", "noise_8_1", "noise_16_0", "noise_16_1"]
    assert [each.name for each in network.inputs] == ["latent", "truncation", *noise]
    assert [each.shape for each in network.inputs[:3]] == [(None, 5), (None,), (None, 4, 4, 1)]
    assert (network.output_names, network.output_shape) == (["image"], (None, *SHAPE))
    assert style.styles_of(network).output_shape == (None, 6, 7)


@pytest.mark.parametrize("family", FAMILIES)
def test_its_parts_together_are_the_generator(family):
    network = shake(make_generator(family))
    latents, psi, *noise = random_inputs(network)
    mapping, styles_of, synthesis = style.mapping_of(network), style.styles_of(network), style.synthesis_of(network)
    assert [[each.name for each in part.inputs] for part in (mapping, styles_of)] == [
        ["latent"],
        ["latent", "truncation"],
    ]
    assert [each.name for each in synthesis.inputs] == ["styles", *(each.name for each in network.inputs[2:])]
    assert [*mapping.output_names, *styles_of.output_names, *synthesis.output_names] == ["style", "styles", "image"]
    mean = np.asarray(style.mean_latent_of(network))
    w = mapping(latents).numpy()
    styles = np.repeat((mean + psi[:, None] * (w - mean))[:, None], 6, axis=1)
    np.testing.assert_allclose(styles_of([latents, psi]), styles, rtol=1e-5, atol=1e-6)
    found = synthesis([tf.constant(styles, tf.float32), *noise])
    np.testing.assert_allclose(found, network([latents, psi, *noise]), rtol=1e-4, atol=1e-5)
    own = {id(each) for each in network.trainable_variables}
    of_parts = [{id(each) for each in part.trainable_variables} for part in (mapping, synthesis)]
    assert of_parts[0] | of_parts[1] == own
    assert not of_parts[0] & of_parts[1]


def test_the_mapping_network_is_its_formula():
    network = shake(make_generator("stylegan", mapping_layers=3))
    (latents, *_) = random_inputs(network)
    x = latents.numpy() / np.sqrt((latents.numpy() ** 2).mean(1, keepdims=True) + 1e-8)
    for number in range(3):
        layer = network.get_layer(f"mapping_{number}")
        x = x @ layer.kernel.numpy() * 0.01 * (2 / x.shape[1]) ** 0.5 + 0.01 * layer.bias.numpy()
        x = np.where(x > 0, x, 0.2 * x)
    np.testing.assert_allclose(style.mapping_of(network)(latents), x, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_truncation_stops_where_it_is_told_to(family):
    network = shake(make_generator(family, truncation_layers=4))
    latents = random_inputs(network)[0]
    styles = style.styles_of(network)([latents, tf.zeros(3)]).numpy()
    np.testing.assert_allclose(styles[:, :4], np.broadcast_to(style.mean_latent_of(network), (3, 4, 7)), rtol=1e-5)
    whole = np.repeat(style.mapping_of(network)(latents).numpy()[:, None], 2, axis=1)
    np.testing.assert_allclose(styles[:, 4:], whole, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_input_changes_the_image_and_only_its_own_row(family):
    network = shake(make_generator(family))
    inputs = random_inputs(network)
    image = network(inputs).numpy()
    for number, tensor in enumerate(inputs):
        changed = [*inputs]
        changed[number] = tensor + tf.one_hot(1, 3)[:, *[None] * (tensor.ndim - 1)]
        difference = np.abs(network(changed).numpy() - image).max((1, 2, 3))
        assert difference[1] > 1e-3, network.inputs[number].name
        np.testing.assert_allclose(difference[[0, 2]], 0.0, atol=1e-5)
    for row in range(3):
        alone = network([tensor[row : row + 1] for tensor in inputs])
        np.testing.assert_allclose(alone[0], image[row], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_layers_style_changes_the_image(family):
    synthesis = style.synthesis_of(shake(make_generator(family)))
    styles, *noise = random_inputs(synthesis)
    image = synthesis([styles, *noise]).numpy()
    for layer in range(6):
        other = styles + tf.one_hot(layer, 6)[None, :, None]
        assert np.abs(synthesis([other, *noise]).numpy() - image).max() > 1e-3, layer


@pytest.mark.parametrize("family", FAMILIES)
def test_noise_does_nothing_before_its_strength_is_learned(family):
    network = make_generator(family)
    latents, psi, *noise = random_inputs(network)
    image = network([latents, psi, *noise])
    np.testing.assert_array_equal(network([latents, psi, *(3.0 * each for each in noise)]), image)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_gradient_reaches_every_variable(family):
    generator = shake(make_generator(family))
    discriminator = shake(FAMILIES[family].discriminator(SHAPE, group_size=None, **TINY), seed=1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(discriminator(generator(random_inputs(generator))))
    variables = [*generator.trainable_variables, *discriminator.trainable_variables]
    gradients = tape.gradient(loss, [each.value for each in variables])
    # At the last level the layers of images of lower ones are not in use.
    unused = {"to_rgb_4", "to_rgb_8", "from_rgb_4", "from_rgb_8"} if family == "stylegan" else set()
    for variable, gradient in zip(variables, gradients, strict=True):
        used = not unused & set(variable.path.split("/"))
        assert (np.abs(gradient).max() > 0) == used, variable.path


@pytest.mark.parametrize("family", FAMILIES)
def test_penalties_have_the_gradients_of_finite_differences(family, penalty_gradient):
    """R1, the discriminator's gradient by images, and the generator's by styles, which path lengths are made of."""
    with computing_in("float64"):
        generator = shake(make_generator(family, (8, 8, 3)))
        discriminator = shake(FAMILIES[family].discriminator((8, 8, 3), group_size=None, **TINY))
    synthesis = style.synthesis_of(generator)
    styles, *noise = random_inputs(synthesis, rows=2)
    images = random_inputs(discriminator, rows=2)[0]
    assert {each.dtype for each in (images, styles, *noise)} == {tf.float64}
    direction = tf.constant(np.random.default_rng(1).normal(size=images.shape))
    scores = [
        (images, lambda x: discriminator(x)[:, 0], discriminator),
        (styles, lambda x: tf.reduce_sum(synthesis([x, *noise]) * direction, axis=(1, 2, 3)), synthesis),
    ]
    for inputs, score, network in scores:
        found, expected = penalty_gradient(score, inputs, [each.value for each in network.trainable_variables])
        assert abs(expected) > 1e-6
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fresh_generator_and_discriminator_keep_the_scale_of_what_they_are_given(family):
    keras.utils.set_random_seed(1)
    generator = make_generator(family, (32, 32, 3), channel_base=512, channel_max=32, style_dim=32, latent_dim=32)
    latents, psi, *noise = random_inputs(generator, rows=8)
    w = style.mapping_of(generator)(latents).numpy()
    assert 0.3 < w.std() < 1.5
    images = generator([latents, tf.ones_like(psi), *noise]).numpy()
    assert 0.2 < images.std() < 5
    discriminator = FAMILIES[family].discriminator((32, 32, 3), 512, 32)
    assert 0.02 < discriminator(tf.random.stateless_normal((8, 32, 32, 3), (0, 0))).numpy().std() < 5


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_in_half_precision_images_styles_and_logits_are_float32(family, policy):
    with computing_in(policy):
        generator = make_generator(family)
        discriminator = FAMILIES[family].discriminator(SHAPE, group_size=None, **TINY)
    assert generator.get_layer("convolution_8_1").compute_dtype == policy.removeprefix("mixed_")
    synthesis = style.synthesis_of(generator)
    assert {each.dtype for each in (*generator.inputs, *synthesis.inputs)} == {"float32"}
    images = generator(random_inputs(generator))
    assert (images.dtype, discriminator(images).dtype) == ("float32", "float32")
    assert all(variable.dtype == "float32" for variable in generator.variables)
    exact = make_generator(family)
    exact.set_weights(generator.get_weights())
    expected = exact(random_inputs(exact)).numpy()
    # bfloat16 has 8 bits; a dozen layers one after the other
    np.testing.assert_allclose(images, expected, atol=0.1 * np.abs(expected).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_each_graph_is_exported_with_kernels_as_initializers_and_agrees(family, tmp_path: Path):
    """Weights as they are exported: float16 values."""
    network = shake(make_generator(family, channel_base=128, channel_max=16))
    for variable in network.variables:
        variable.assign(variable.numpy().astype(np.float16))
    for part in (network, style.styles_of(network), style.synthesis_of(network)):
        feeds = {each.name: "normal" for each in part.inputs}
        ability = Ability(part, feeds, dict.fromkeys(part.output_names, "code"))
        write_onnx(ability, tmp_path / "graph.onnx", rounded=True)
        graph = onnx.load(tmp_path / "graph.onnx").graph
        assert not {node.op_type for node in graph.node} & (RANDOM_OPERATIONS | CONTROL_FLOW)
        # float16 as it is stored; behind it a cast, the scale of an equalized learning rate, the sums of a phase.
        constants = {each.name for each in graph.initializer}
        for node in graph.node:
            if node.op_type in ("Cast", "Mul", "MatMul") and set(node.input) <= constants:
                constants.add(node.output[0])
        kernels = [node.input[1] for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
        assert len(kernels) == 0 if part.output_names == ["styles"] else len(kernels) > 6
        assert set(kernels) <= constants
        for rows in (1, 3):
            values = {each.name: t.numpy() for each, t in zip(part.inputs, random_inputs(part, rows), strict=True)}
            expected = ability({name: tf.constant(value) for name, value in values.items()})
            found = Session(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"]).run(values)
            for name, tensor in expected.items():
                span = np.ptp(tensor)
                np.testing.assert_allclose(found[name], tensor, atol=1e-4 * span)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_at_the_published_size_are_the_authors(family):
    shape = (1024, 1024, 3)
    generator = FAMILIES[family].generator(shape)
    assert (generator.output_shape, style.styles_of(generator).output_shape) == ((None, *shape), (None, 18, 512))
    assert (parameters(generator), parameters(FAMILIES[family].discriminator(shape))) == PARAMETERS[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_have_names_of_their_own_and_images_of_other_shapes_are_refused(family):
    assert max(Counter(layer.name for layer in make_generator(family).layers).values()) == 1
    for build in (FAMILIES[family].generator, FAMILIES[family].discriminator):
        with pytest.raises(ValueError, match="square images whose side is 4 times a power of two"):
            build((12, 12, 3))
    with pytest.raises(ValueError, match="truncation_layers=9: choose 0 to 6"):
        make_generator(family, truncation_layers=9)
