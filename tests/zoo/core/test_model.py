"""What the base class promises every family: its errors, its counters, its metrics, its names."""

import copy
import inspect
import json
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD, Adam

from zoo.core.ability import name_free_dimensions
from zoo.core.batch import images_of, rows_of
from zoo.core.model import GenerativeModel
from zoo.losses.rows import per_row
from zoo.models.conditional_gan import ConditionalGAN
from zoo.models.gan import GAN
from zoo.presets.table import PRESETS
from zoo.training.run import build_model

X = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]], np.float32)


def mean_of_inner(model, x, target):
    return model.minimize("inner", lambda: per_row(model.inner(x)))


def test_the_base_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        GenerativeModel()


SHARED = SGD()
BAD_COMPILES = {
    "a player without one": (
        {"inner": SGD()},
        r"optimizers for \['inner'\]; Probe has the players \['inner', 'outer'\]",
    ),
    "one without a player": (
        {"inner": SGD(), "outer": SGD(), "critic": SGD()},
        r"\['critic', 'inner', 'outer'\]; Probe",
    ),
    "one for two": ({"inner": SHARED, "outer": SHARED}, "two players share one optimizer"),
    "seed too small": ({"inner": SGD(), "outer": SGD(), "seed": -1}, r"seed=-1: choose 0 <= seed < 2\*\*63"),
    "seed too large": ({"inner": SGD(), "outer": SGD(), "seed": 2**63}, r"choose 0 <= seed < 2\*\*63"),
}


@pytest.mark.parametrize("case", BAD_COMPILES)
def test_compile_refuses(probe, case):
    arguments, message = BAD_COMPILES[case]
    with pytest.raises(ValueError, match=message):
        probe(mean_of_inner).compile(**arguments)


def test_record_takes_exactly_what_was_announced(probe):
    with pytest.raises(ValueError, match=r"record\(\) got \['los'\]; the constructor announced \['loss'\]"):
        probe(mean_of_inner).record(los=tf.zeros(3))


@pytest.mark.parametrize("replicas", [1, 2])
def test_metrics_are_means_over_all_rows_of_an_epoch(probe, fit, replicas):
    model = probe(lambda model, x, target: per_row(x) + tf.cast(model.step.read_value(), tf.float32), replicas)
    history = fit(model, X, steps=2, target=X)
    # Mean of 1..5, on replicas that hold 3 and 2 rows: 3. Step 0 adds 0 to every row, step 1 adds 1: 3.5.
    assert history["loss"] == [pytest.approx(3.5)]
    assert [metric.name for metric in model.metrics] == ["loss", "inner_gradient_norm", "outer_gradient_norm"]
    assert fit(model, X, steps=1, target=X)["loss"] == [pytest.approx(5.0)]  # reset; step 2 adds 2


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_norm_of_each_players_gradient_is_a_metric(probe, fit, replicas):
    """k updates count k times; a player that has not moved has 0."""

    def algorithm(model, x, target):
        model.minimize("inner", lambda: per_row(model.inner(x)))
        return model.minimize("inner", lambda: 3.0 * per_row(model.inner(x)))

    history = fit(probe(algorithm, replicas), X, target=X)
    assert history["inner_gradient_norm"] == [pytest.approx((3.0 + 9.0) / 2)]  # d mean(w x)/dw = mean(1..5) = 3
    assert history["outer_gradient_norm"] == [0.0]


@pytest.mark.parametrize("options", [{"replicas": 1}, {"replicas": 2}, {"xla": True}], ids=str)
def test_a_step_is_traced_as_it_is_written(probe, fit, options):
    """AutoGraph's rewriting of every function would take most of the seconds before the first step."""
    files = set()

    def loss(model, x):
        files.add(inspect.currentframe().f_code.co_filename)
        return per_row(model.inner(x))

    def algorithm(model, x, target):
        files.add(inspect.currentframe().f_code.co_filename)
        return model.minimize("inner", lambda: loss(model, x))

    model = probe(algorithm, options.get("replicas", 1))
    if "xla" in options:
        model.compile(inner=SGD(1.0), outer=SGD(1.0), jit_compile=True)
    fit(model, X, target=X)
    assert files == {__file__}


@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_the_step_counts_train_steps(probe, fit, steps_per_execution):
    model = probe(mean_of_inner)
    model.compile(inner=SGD(1.0), outer=SGD(1.0), steps_per_execution=steps_per_execution)
    fit(model, X, steps=6, target=X)
    assert int(model.step) == 6
    assert model.step.dtype == tf.int64
    assert int(model.player_optimizers["inner"].iterations) == 6
    assert int(model.player_optimizers["outer"].iterations) == 0
    assert float(model.inner.weights[0][0, 0]) == pytest.approx(1 - 6 * 3)  # six times the mean of 1..5


def test_on_several_replicas_the_data_must_hold_the_row_numbers(probe):
    model = probe(mean_of_inner, 2)
    data = tf.data.Dataset.from_tensors({"image": X, "target": X})
    with pytest.raises(ValueError, match="needs the global row numbers in the data"):
        model.fit(data, shuffle=False, verbose=0)


def test_a_replica_without_rows_is_an_error(probe, fit):
    """5 rows on 4 replicas: 2, 2, 1 and none."""
    with pytest.raises(tf.errors.InvalidArgumentError, match="a replica has no rows"):
        fit(probe(mean_of_inner, 4), X, target=X)


def test_row_numbers_and_images_of_a_batch():
    rows = tf.constant([4, 5], tf.int64)
    np.testing.assert_array_equal(rows_of({"image": X[:2], "row": rows}), [4, 5])
    for data in ({"image": X}, (X, "label"), X):
        assert images_of(data) is X
        np.testing.assert_array_equal(rows_of(data), [0, 1, 2, 3, 4])


def test_free_dimensions_are_named():
    assert name_free_dimensions((None, 7)) == ("batch", 7)
    assert name_free_dimensions((None, None, None, 3)) == ("batch", "height", "width", 3)


@pytest.fixture(scope="module")
def gan():
    return GAN((8, 8, 1), latent_dim=4, width=2)


def test_exported_weights_are_those_of_the_averages(gan):
    live, average = gan.generator.weights[0], gan.generator_ema.weights[0]
    live.assign(live + 1.0)
    exported = gan.exported_weights()
    assert len(exported) == len(gan.discriminator.weights) + len(gan.generator_ema.weights)
    assert {name.split("/")[0] for name in exported} == {"discriminator", "generator"}
    assert exported[f"generator/{live.path}"] is average
    gan.load_ema()
    for live, average in zip(gan.generator.weights, gan.generator_ema.weights, strict=True):
        np.testing.assert_array_equal(live, average)


def test_sample_gives_images_in_the_asked_for_form(gan):
    floats = gan.sample(3, seed=1, output_type="float32")
    assert (floats.shape, floats.dtype) == ((3, 8, 8, 1), np.float32)
    whole = gan.sample(3, seed=1)
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(whole, np.rint((floats + 1) * 127.5))
    for image, array in zip(gan.sample(3, seed=1, output_type="pil"), whole, strict=True):
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), array[:, :, 0])


def test_an_ability_describes_itself(gan):
    card = gan.abilities()["generate"].card("generate.onnx")
    (latent,), (image,) = card.inputs, card.outputs
    assert (latent.name, latent.dtype, latent.shape, latent.feed) == ("latent", "float32", ("batch", 4), "normal")
    assert (image.name, image.dtype, image.shape, image.kind) == ("image", "float32", ("batch", 8, 8, 1), "image")
    assert (image.range, image.layout, card.file) == ((-1.0, 1.0), "NHWC", "generate.onnx")
    (spec,) = gan.abilities()["generate"].signature()
    assert (spec.name, spec.shape.as_list(), spec.dtype) == ("latent", [None, 4], tf.float32)


IMAGES = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 1)).astype(np.float32)
BAD_IMAGES = {
    "8 bits": ((IMAGES * 127.5 + 127.5).round(), r"must lie in \[-1, 1\], as in images / 127.5 - 1"),
    "from 0 to 1": (np.clip(IMAGES, 0, 1), r"by 2 \* images - 1"),
    "one NaN": (np.where(np.arange(256).reshape(IMAGES.shape) == 99, np.nan, IMAGES), "NaN or infinity"),
    "infinite": (np.where(np.arange(256).reshape(IMAGES.shape) == 99, -np.inf, IMAGES), "NaN or infinity"),
}


def tiny_gan(**how):
    model = GAN((8, 8, 1), latent_dim=2, width=4)
    model.compile(generator=SGD(0.1), discriminator=SGD(0.1), **how)
    return model


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("case", BAD_IMAGES)
def test_a_step_on_images_of_another_range_is_refused_and_changes_nothing(fit, case, xla):
    """Batch norm's statistics, averages and the counter included."""
    model = tiny_gan(jit_compile=xla)
    fit(model, IMAGES)
    before = [
        variable.numpy().copy() for variable in [*model.variables, *model.player_optimizers["generator"].variables]
    ]
    images, message = BAD_IMAGES[case]
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        fit(model, images.astype(np.float32))
    after = [variable.numpy() for variable in [*model.variables, *model.player_optimizers["generator"].variables]]
    metrics = {id(variable) for metric in model.metrics for variable in metric.variables}
    for variable, one, other in zip(model.variables, before, after, strict=False):
        if id(variable) not in metrics:  # which each call of `fit` begins anew
            np.testing.assert_array_equal(one, other, err_msg=variable.path)
    assert model.step.numpy() == 1
    fit(model, IMAGES)  # and it goes on


BAD_LABELS = {
    "negative": (np.array([0, 1, -1, 1]), tf.errors.InvalidArgumentError, "labels must lie from 0 to 1, of 2 classes"),
    "too large": (np.array([0, 1, 2, 1]), tf.errors.InvalidArgumentError, "labels must lie from 0 to 1, of 2 classes"),
    "fractions": (np.array([0.0, 1.0, 0.5, 1.0]), ValueError, "labels are float64: give the number of each image's"),
    "none": (None, ValueError, "this model learns from labeled images"),
}


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("case", BAD_LABELS)
def test_a_step_on_labels_that_are_no_classes_is_refused_and_changes_nothing(fit, case, xla):
    model = ConditionalGAN((8, 8, 1), ("cat", "dog"), latent_dim=2, width=4)
    model.compile(generator=SGD(0.1), discriminator=SGD(0.1), jit_compile=xla)
    before = [variable.numpy().copy() for variable in model.variables]
    labels, error, message = BAD_LABELS[case]
    with pytest.raises(error, match=message):
        fit(model, IMAGES, **({} if labels is None else {"label": labels}))
    for variable, one in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(one, variable.numpy(), err_msg=variable.path)


def test_images_of_whole_numbers_are_refused(fit):
    with pytest.raises(ValueError, match="images are uint8: give float32"):
        fit(tiny_gan(), np.zeros((4, 8, 8, 1), np.uint8))


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_images_of_one_value_and_continuous_data_are_taken(fit, value):
    model = tiny_gan()
    fit(model, np.full((4, 8, 8, 1), value, np.float32))
    fit(model, IMAGES * np.float32(3.0))
    assert model.step.numpy() == 2


def through_a_file(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.saving.load_model(tmp_path / "model.keras")  # in safe mode


COPIES = {
    "copy.deepcopy": lambda model, tmp_path: copy.deepcopy(model),
    "pickle": lambda model, tmp_path: pickle.loads(pickle.dumps(model)),
    "model.save": through_a_file,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_a_copy_of_a_model_is_like_it_and_trains_on_like_it(fit, difference, tmp_path, way, norm):
    model = GAN((8, 8, 1), latent_dim=2, width=4, discriminator_norm=norm, dropout=0.2)
    model.compile(generator=Adam(0.01), discriminator=SGD(0.1, momentum=0.9), seed=3)
    fit(model, IMAGES, steps=2)
    copied = COPIES[way](model, tmp_path)
    assert json.dumps(copied.get_config()) == json.dumps(model.get_config())
    assert copied.step.numpy() == 2
    for each in (model, copied):
        fit(each, IMAGES)
    assert difference(copied.get_weights(), model.get_weights()) < 1e-6
    for player, optimizer in model.player_optimizers.items():
        others = copied.player_optimizers[player].variables
        assert difference([v.numpy() for v in others], [v.numpy() for v in optimizer.variables]) < 1e-6
    np.testing.assert_allclose(copied.sample(2, seed=0), model.sample(2, seed=0), atol=1)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_models_of_every_family_can_be_saved_whole(tmp_path, preset):
    model = build_model(preset.twin())
    again = through_a_file(model, tmp_path)
    assert type(again) is type(model)
    for one, other in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
