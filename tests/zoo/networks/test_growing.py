"""Growing networks: the smaller networks share the full one's layers, and at its ends the full network is theirs."""

import keras
import numpy as np
import pytest
from keras import layers

from zoo.core.growth import GrowthSchedule, Stage, set_growth
from zoo.core.precision import computing_in
from zoo.layers.equalized import EqualizedConv2D, EqualizedDense
from zoo.networks import growing

SHAPE = (16, 16, 3)
STAGES = [Stage(0, False), Stage(1, True), Stage(1, False), Stage(2, True), Stage(2, False)]


def make_generator(name="generator"):
    """latent, noise at each size -> image: maps twice as large at each level, with noise."""
    latent = keras.Input((5,), name="latent")
    noise = {size: keras.Input((size, size, 1), name=f"noise_{size}") for size in (4, 8, 16)}
    x = layers.Reshape((4, 4, 2))(layers.Dense(32)(latent))
    images = {}
    for size in (4, 8, 16):
        x = layers.UpSampling2D(2)(x) if size > 4 else x
        x = layers.Concatenate()([x, noise[size]])
        x = layers.LeakyReLU(0.2)(EqualizedConv2D(2, 3, name=f"convolution_{size}")(x))
        images[size] = EqualizedConv2D(3, 1, gain=1.0, name=f"to_rgb_{size}")(x)
    return keras.Model([latent, *noise.values()], growing.join_images(images), name=name)


def make_discriminator(name="discriminator"):
    from_rgb, blocks = {}, {}
    for size in (4, 8, 16):
        from_rgb[size] = keras.Sequential([EqualizedConv2D(4, 1), layers.LeakyReLU(0.2)], name=f"from_rgb_{size}")
        inner = [EqualizedConv2D(4, 3), layers.LeakyReLU(0.2)]
        last = [layers.AveragePooling2D(2)] if size > 4 else [layers.Flatten(), EqualizedDense(1)]
        blocks[size] = keras.Sequential([*inner, *last], name=f"block_{size}")
    return growing.join_blocks(SHAPE, from_rgb, blocks, name)


def random_inputs(network, rows=3, seed=0):
    random = np.random.default_rng(seed)
    return {each.name: random.normal(size=(rows, *each.shape[1:])).astype(np.float32) for each in network.inputs}


def enlarge(images):
    return np.repeat(np.repeat(np.asarray(images), 2, axis=1), 2, axis=2)


def halve(images):
    rows, side, _, channels = images.shape
    return images.reshape(rows, side // 2, 2, side // 2, 2, channels).mean((2, 4))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_the_layers_and_inputs_of_its_size_alone(stage):
    generator, discriminator = make_generator(), make_discriminator()
    small = growing.generator_at(generator, stage)
    size = 4 * 2**stage.level
    assert [each.name for each in small.inputs] == ["latent", *(f"noise_{side}" for side in (4, 8, 16) if side <= size)]
    assert (small.output_names, small.output_shape) == (["image"], (None, size, size, 3))
    sizes = {size, size // 2} if stage.fading else {size}
    named = {int(layer.name.rpartition("_")[2]) for layer in small.layers if layer.name.startswith("to_rgb")}
    assert named == sizes
    small = growing.discriminator_at(discriminator, stage)
    named = {int(layer.name.rpartition("_")[2]) for layer in small.layers if layer.name.startswith("from_rgb")}
    assert named == sizes
    assert (small.input_shape, small.output_shape, small.output_names) == ((None, size, size, 3), (None, 1), ["logit"])
    for network, full in ((small, discriminator), (growing.generator_at(generator, stage), generator)):
        own = {id(variable) for variable in full.trainable_variables}
        assert {id(variable) for variable in network.trainable_variables} <= own
        assert len(network.trainable_variables) == len({id(variable) for variable in network.trainable_variables})


@pytest.mark.parametrize("level", [1, 2])
def test_a_generator_fades_from_the_enlarged_image_to_the_larger_one(level):
    generator = make_generator()
    fading = growing.generator_at(generator, Stage(level, True))
    small, large = (growing.generator_at(generator, Stage(each, False)) for each in (level - 1, level))
    inputs = random_inputs(generator)
    ends = [enlarge(small(inputs)), np.asarray(large(inputs))]
    for weight, expected in ((level - 1.0, ends[0]), (level - 0.75, 0.75 * ends[0] + 0.25 * ends[1]), (level, ends[1])):
        set_growth([generator], weight)
        np.testing.assert_allclose(fading(inputs), expected, rtol=1e-5, atol=1e-6)
        # The full network shows the same, enlarged to its own size.
        full = expected if level == 2 else enlarge(expected)
        np.testing.assert_allclose(generator(inputs), full, rtol=1e-5, atol=1e-6)
    assert np.abs(ends[0] - ends[1]).max() > 0.1


@pytest.mark.parametrize("level", [1, 2])
def test_a_discriminator_fades_from_the_smaller_image_to_the_larger_one(level):
    discriminator = make_discriminator()
    fading = growing.discriminator_at(discriminator, Stage(level, True))
    small, large = (growing.discriminator_at(discriminator, Stage(each, False)) for each in (level - 1, level))
    images = random_inputs(discriminator)["image"]
    images = images if level == 2 else halve(images)
    for weight, expected in ((level - 1.0, small(halve(images))), (level, large(images))):
        set_growth([discriminator], weight)
        np.testing.assert_allclose(fading(images), expected, rtol=1e-5, atol=1e-6)
        full = images if level == 2 else enlarge(images)  # the mean of four equal pixels is the pixel
        np.testing.assert_allclose(discriminator(full), expected, rtol=1e-5, atol=1e-6)
    assert np.abs(np.asarray(small(halve(images)) - large(images))).max() > 0.1
    # In between, maps are faded, not logits.
    set_growth([discriminator], level - 0.75)
    size = 4 * 2**level
    high = discriminator.get_layer(f"block_{size}")(discriminator.get_layer(f"from_rgb_{size}")(images))
    x = 0.75 * discriminator.get_layer(f"from_rgb_{size // 2}")(halve(images)) + 0.25 * high
    for each in range(level - 1, -1, -1):
        x = discriminator.get_layer(f"block_{4 * 2**each}")(x)
    np.testing.assert_allclose(fading(images), x, rtol=1e-5, atol=1e-6)


def test_real_images_fade_as_generated_ones_do():
    images = random_inputs(make_discriminator())["image"]
    schedule = GrowthSchedule(levels=2, fade_steps=4, stable_steps=2)
    middle, least = halve(images), halve(halve(images))
    # Steps 0 and 1 are at 4x4; 2 to 5 fade 8x8 in; 6 and 7 are at 8x8; 8 to 11 fade 16x16 in.
    expected = {0: least, 2: enlarge(least), 3: 0.75 * enlarge(least) + 0.25 * middle, 6: middle}
    expected |= {10: 0.5 * enlarge(middle) + 0.5 * images, 12: images}
    for step, values in expected.items():
        stage = schedule.stage(step)
        found = growing.images_at(images, stage, schedule.progress(stage, step))
        np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 4, 3), (12, 12, 3), (16, 8, 3), (3, 3, 1)])
def test_images_of_other_sizes_are_refused(shape):
    with pytest.raises(ValueError, match="power of two, at least 8"):
        growing.sizes_of(shape)


def test_sizes_and_channels_are_the_papers():
    sizes = growing.sizes_of((1024, 1024, 3))
    assert sizes == [4, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert growing.sizes_of((24, 24, 1), start_size=6) == [6, 12, 24]
    # Progressive GAN, table 2
    channels = growing.channels_of(sizes, 8192, 512)
    assert list(channels.values()) == [512, 512, 512, 512, 256, 128, 64, 32, 16]


@pytest.mark.parametrize(("policy", "dtype"), [("mixed_bfloat16", "float32"), ("float64", "float64")])
def test_images_and_logits_have_full_precision_in_every_stage(policy, dtype):
    with computing_in(policy):
        generator, discriminator = make_generator(), make_discriminator()
    for network, at in ((generator, growing.generator_at), (discriminator, growing.discriminator_at)):
        for part in (network, *(at(network, stage) for stage in STAGES)):
            assert {each.dtype for each in (*part.inputs, part.output)} == {dtype}
