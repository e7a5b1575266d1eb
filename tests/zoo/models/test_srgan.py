"""SRGAN: its losses by hand, a step of each phase written with plain tapes, the extractor, the change of phases."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.core.precision import computing_in
from zoo.models.srgan import SRGAN
from zoo.networks import vgg

ROWS, RATE, WEIGHT, SCALE = 3, 0.1, 0.5, 0.3
SHAPE = (16, 16, 3)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (ROWS, *SHAPE)).astype(np.float32)


def build(**arguments):
    keras.utils.set_random_seed(1)
    small = {"width": 4, "blocks": 1, "discriminator_width": 4, "pretraining_steps": 1}
    return SRGAN(SHAPE, **{**small, "adversarial_weight": WEIGHT, "feature_scale": SCALE, **arguments})


def make_extractor(shape=SHAPE, layer="relu_3_2"):
    keras.utils.set_random_seed(2)
    network = vgg.classifier(shape, 10, width=2)
    return keras.Model(network.input, network.get_layer(layer).output)


def with_extractor(**arguments):
    model = build(extractor="cnn-sign-digits", **arguments)
    model.attach_extractor(make_extractor())
    return model


def compiled(model, optimizer=keras.optimizers.SGD):
    model.compile(seed=3, **{player: optimizer(RATE) for player in model.players})
    return model


def mean(values):
    return np.asarray(values, np.float64).reshape(len(values), -1).mean(axis=1)


def softplus(values):
    return np.logaddexp(0.0, np.asarray(values, np.float64))[:, 0]


def weights(model, *names):
    return [value for name in names for value in getattr(model, name).get_weights()]


def test_the_losses_are_those_of_the_paper():
    model = with_extractor()
    fake = model.generator(model.reduce(IMAGES), training=True)
    real_logits, fake_logits = (model.discriminator(each, training=True) for each in (IMAGES, fake))
    loss, scores = model.discriminator_loss(IMAGES, fake)
    np.testing.assert_allclose(loss, softplus(-real_logits) + softplus(fake_logits), rtol=1e-5)
    np.testing.assert_allclose(scores["real_score"], 1 / (1 + np.exp(-np.asarray(real_logits)[:, 0])), rtol=1e-5)
    loss, terms = model.generator_loss(IMAGES, fake)
    maps, made = (np.asarray(make_extractor()(each), np.float64) for each in (IMAGES, fake))
    content = mean((SCALE * maps - SCALE * made) ** 2)
    np.testing.assert_allclose(terms["content_loss"], content, rtol=1e-4)
    np.testing.assert_allclose(terms["adversarial_loss"], softplus(-fake_logits), rtol=1e-5)
    np.testing.assert_allclose(terms["pixel_loss"], mean((IMAGES - fake) ** 2), rtol=1e-5)
    np.testing.assert_allclose(loss, content + WEIGHT * softplus(-fake_logits), rtol=1e-4)


def test_without_an_extractor_the_content_is_the_pixels():
    model = build()
    fake = np.flip(IMAGES, axis=2)
    np.testing.assert_allclose(model.content_loss(IMAGES, fake), mean((IMAGES - fake) ** 2), rtol=1e-5)


def test_a_loss_has_one_value_a_row_of_that_row_alone():
    model = with_extractor()
    fake = np.flip(IMAGES, axis=2).copy()
    whole = np.asarray(model.content_loss(IMAGES, fake))
    assert whole.shape == (ROWS,)
    alone = [np.asarray(model.content_loss(IMAGES[row : row + 1], fake[row : row + 1]))[0] for row in range(ROWS)]
    np.testing.assert_allclose(whole, alone, rtol=1e-4)
    assert len(set(alone)) == ROWS


def descend(tape, loss, variables):
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        variable.assign(variable - RATE * gradient)


def pretrain_by_hand(model):
    small = model.reduce(IMAGES)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model.generator(small, training=True) - IMAGES) ** 2)
    descend(tape, loss, model.generator.trainable_variables)


def play_by_hand(model, extractor, discriminator_first=True):
    """One update of D, then one of G on the same images, by what D has become."""
    small = model.reduce(IMAGES)
    with tf.GradientTape(persistent=True) as tape:
        fake = model.generator(small, training=True)
        real_logits = model.discriminator(IMAGES, training=True)
        fake_logits = model.discriminator(tf.stop_gradient(fake), training=True)
        of_discriminator = -tf.math.log_sigmoid(real_logits) - tf.math.log_sigmoid(-fake_logits)
        of_discriminator = tf.reduce_mean(of_discriminator)
    if discriminator_first:
        descend(tape, of_discriminator, model.discriminator.trainable_variables)
    with tape:
        content = tf.reduce_mean((SCALE * extractor(fake) - SCALE * extractor(IMAGES)) ** 2)
        logits = model.discriminator(fake, training=True)
        loss = content - WEIGHT * tf.reduce_mean(tf.math.log_sigmoid(logits))
    descend(tape, loss, model.generator.trainable_variables)
    if not discriminator_first:
        descend(tape, of_discriminator, model.discriminator.trainable_variables)


def test_a_step_of_each_phase_equals_plain_tapes(fit, difference):
    model, other, reverse = compiled(with_extractor()), build(), build()
    before = weights(model, "discriminator")
    fit(model, IMAGES)
    for copy in (other, reverse):
        pretrain_by_hand(copy)
    assert difference(weights(model, "generator"), weights(other, "generator")) < 1e-4
    for one, same in zip(weights(model, "discriminator"), before, strict=True):
        np.testing.assert_array_equal(one, same)  # its moving statistics, too
    fit(model, IMAGES)
    play_by_hand(other, make_extractor())
    play_by_hand(reverse, make_extractor(), discriminator_first=False)
    found = weights(model, "generator", "discriminator")
    assert difference(found, weights(other, "generator", "discriminator")) < 1e-3
    assert difference(found, weights(reverse, "generator", "discriminator")) > 3e-3


@pytest.mark.slow
def test_a_step_compiled_by_xla_is_the_plain_one(difference, fit):
    found = []
    for compiled_by_xla in (False, True):
        with computing_in("float64"):
            model = with_extractor(pretraining_steps=0)
            model.compile(
                seed=3, jit_compile=compiled_by_xla, **{player: keras.optimizers.SGD(RATE) for player in model.players}
            )
            fit(model, IMAGES.astype(np.float64))
        found.append(model.get_weights())
    assert difference(*found) < 1e-9


def test_the_phases_follow_the_step():
    model = build(pretraining_steps=2)
    assert [model.plan_of(step) for step in range(4)] == ["pretraining", "pretraining", "adversarial", "adversarial"]
    assert [step for step in range(5) if model.fresh_optimizers(step)] == [2]
    for plan, moved in (("pretraining", set()), ("adversarial", {"discriminator"})):
        model.plan = plan
        assert model.updated_variables("generator") == model.variables_of("generator")
        assert {player for player in ["discriminator"] if model.updated_variables(player)} == moved


@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_the_generators_optimizer_begins_anew_when_the_discriminator_comes_in(fit, steps_per_execution):
    model = build(pretraining_steps=2)
    optimizers = {player: keras.optimizers.Adam(1e-3) for player in model.players}
    model.compile(seed=3, steps_per_execution=steps_per_execution, **optimizers)
    fit(model, IMAGES, steps=3)
    assert {player: int(optimizer.iterations) for player, optimizer in optimizers.items()} == {
        "generator": 1,
        "discriminator": 1,
    }


def test_no_pretraining_begins_with_the_discriminator(fit):
    model = compiled(build(pretraining_steps=0))
    before = weights(model, "discriminator")
    assert np.isfinite(fit(model, IMAGES)["discriminator_loss"][0])
    assert any(np.any(one != other) for one, other in zip(weights(model, "discriminator"), before, strict=True))


def test_a_step_without_the_extractor_says_how_to_attach_it(fit):
    model = compiled(build(extractor="cnn-sign-digits"))
    with pytest.raises(ValueError, match="extractor='cnn-sign-digits' has not been attached"):
        fit(model, IMAGES)


def test_an_extractor_of_another_size_or_beside_pixels_is_refused():
    with pytest.raises(ValueError, match=r"takes images of \(8, 8, 3\), and here they are \(16, 16, 3\)"):
        build(extractor="cnn-sign-digits").attach_extractor(make_extractor((8, 8, 3)))
    with pytest.raises(ValueError, match="extractor=None compares pixels"):
        build().attach_extractor(make_extractor())


def test_the_extractor_is_in_checkpoints_and_neither_trained_nor_exported(fit, tmp_path):
    model = compiled(with_extractor(), keras.optimizers.Adam)
    before = model.extractor.get_weights()
    fit(model, IMAGES, steps=3)
    for one, other in zip(model.extractor.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not model.extractor.trainable_variables
    assert all(name.startswith(("generator/", "discriminator/")) for name in model.exported_weights())
    path = model.state().save(str(tmp_path / "checkpoint"))
    fresh = compiled(with_extractor(), keras.optimizers.Adam)
    fresh.extractor.set_weights([weight + 1 for weight in before])  # as of another version of the classifier
    status = fresh.state().restore(path)
    status.assert_consumed()
    status.assert_existing_objects_matched()
    for one, other in zip(fresh.extractor.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    for each in (model, fresh):
        fit(each, IMAGES)
    for one, other in zip(model.get_weights(), fresh.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_losses_are_float32_in_half_precision():
    with computing_in("mixed_bfloat16"):
        model = with_extractor()
    fake = model.generator(model.reduce(IMAGES), training=True)
    loss, terms = model.generator_loss(IMAGES, fake)
    assert model.extractor.get_layer("conv_3_2").compute_dtype == "bfloat16"
    assert {each.dtype for each in (loss, *terms.values())} == {tf.float32}


def test_diagnoses_are_scores_and_psnr_of_both_sides():
    model = build()
    found = model.diagnose({"image": IMAGES}, {"image": np.zeros_like(IMAGES)})
    assert sorted(found) == ["held_out_psnr", "held_out_score", "train_psnr", "train_score"]
    logits = np.asarray(model.discriminator(IMAGES, training=False))[:, 0]
    assert float(found["train_score"]) == pytest.approx(np.mean(1 / (1 + np.exp(-logits))), rel=1e-4)
    upscaled = np.clip(model.generator(model.reduce(IMAGES), training=False), -1, 1)
    assert float(found["train_psnr"]) == pytest.approx(np.mean(10 * np.log10(4 / mean((upscaled - IMAGES) ** 2))))


def test_it_is_shown_in_rows_of_four():
    shown = build().preview({"image": IMAGES})
    assert shown.shape == (4 * ROWS, *SHAPE)
    np.testing.assert_array_equal(shown[2::4], np.rint(127.5 * (IMAGES + 1)).astype(np.uint8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 8}, "scale=8: choose from"),
        ({"pretraining_steps": -1}, "pretraining_steps=-1"),
        ({"adversarial_weight": -0.1}, "adversarial_weight=-0.1"),
        ({"feature_scale": 0.0}, r"feature_scale=0.0"),
        ({"discriminator_width": 0}, "discriminator_width=0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)
