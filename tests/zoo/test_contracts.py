"""What every model in the zoo keeps, checked on the tiny twin of every preset through `GenerativeModel` alone.

A new family joins by being listed in `zoo.presets.table`.
"""

import inspect
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD, Adam

from serving.card import find_sampling
from zoo.core.model import GenerativeModel
from zoo.core.weights import read_weights, write_weights
from zoo.presets.table import PRESETS, resolve_class

ROWS, SEED, LEARNING_RATE = 4, 5, 1e-2
HOOKS = {
    "plan_of",
    "updated_variables",
    "fresh_optimizers",
    "preview",
    "score_kind",
    "finish",
}  # what a model may give besides


def build(preset, weights_seed=1):
    keras.utils.set_random_seed(weights_seed)
    return resolve_class(preset.model)(**preset.twin().arguments)


def compiled(preset, optimizer=Adam, rate=LEARNING_RATE, weights_seed=1):
    model = build(preset, weights_seed)
    model.compile(seed=SEED, **{player: optimizer(rate) for player in model.players})
    return model


def batches(preset, model, first, count):
    """The global batches of steps `first` and later, each its own: as many images per row as the algorithm takes."""
    per_row = model.minibatches_per_step
    lead = (ROWS,) if per_row == 1 else (ROWS, per_row)
    shape = preset.twin().arguments["image_shape"]

    def batch(step):
        images = tf.random.stateless_uniform((*lead, *shape), [0, tf.cast(step, tf.int32)], -1.0, 1.0)
        targets = tf.random.stateless_uniform((*lead, *shape), [1, tf.cast(step, tf.int32)], -1.0, 1.0)
        columns = {"row": tf.range(ROWS, dtype=tf.int64), "label": tf.zeros(lead, tf.int64), "target": targets}
        return {"image": images, **columns}

    return tf.data.Dataset.range(first, first + count).map(batch)


def train(preset, model, count):
    data = batches(preset, model, int(model.step), count)
    return model.fit(data, steps_per_epoch=count, shuffle=False, verbose=0).history


def steps_of_plans(model):
    """The first step of each plan among the first ten: each moves what its losses depend on."""
    return sorted({model.plan_of(step): step for step in reversed(range(10))}.values())


def values(variables):
    return [variable.numpy() for variable in variables]


def assert_bit_equal(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def everything(model):
    """Networks, averages, optimizers and the step."""
    optimizers = [variable for optimizer in model.player_optimizers.values() for variable in optimizer.variables]
    return values([*model.weights, *optimizers, model.step])


@pytest.fixture(params=sorted(PRESETS))
def preset(request):
    return PRESETS[request.param]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """preset -> (model after 4 steps, history of the first 2, checkpoint after 2): trained once."""
    kept = {}

    def get(preset):
        if preset.name not in kept:
            model = compiled(preset)
            history = train(preset, model, 2)
            path = model.state().save(str(tmp_path_factory.mktemp(preset.name) / "checkpoint"))
            after_two = everything(model)
            train(preset, model, 2)
            kept[preset.name] = model, history, path, after_two
        return kept[preset.name]

    return get


def test_a_preset_is_a_final_class_that_overrides_nothing_concrete(preset):
    cls = resolve_class(preset.model)
    assert cls.__final__
    (base,) = cls.__bases__
    assert issubclass(base, GenerativeModel)
    assert inspect.isabstract(base)
    own = {name for name, value in vars(cls).items() if callable(value) or isinstance(value, (property, classmethod))}
    overridden = {name for name in own & set(dir(base)) if not name.startswith("__")}
    assert base.__abstractmethods__ <= overridden <= base.__abstractmethods__ | HOOKS


def test_the_config_is_the_constructors_arguments(preset):
    cls, arguments = resolve_class(preset.model), preset.twin().arguments
    parameters = inspect.signature(cls).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.kind is not each.VAR_KEYWORD}
    expected = {**defaults, **arguments}
    more = {name: value for name, value in arguments.items() if name not in defaults}
    model = build(preset)
    assert model.get_config() == expected
    shapes = [tuple(variable.shape) for variable in model.weights]
    positional = cls(*(expected[name] for name in defaults), **more)
    plain = json.loads(json.dumps(model.get_config()))
    for copy in (positional, cls.from_config(model.get_config()), cls.from_config(plain)):
        assert json.dumps(copy.get_config()) == json.dumps(expected)
        assert [tuple(variable.shape) for variable in copy.weights] == shapes


def test_each_player_moves_all_of_its_own_variables_and_no_others(preset):
    model = compiled(preset, SGD)
    owned = [id(variable) for player in model.players for variable in model.variables_of(player)]
    assert len(owned) == len(set(owned)) > 0
    for mover in model.players:
        for player, optimizer in model.player_optimizers.items():
            optimizer.learning_rate = 1.0 if player == mover else 0.0
        before = {player: values(model.variables_of(player)) for player in model.players}
        for step in steps_of_plans(model):
            model.step.assign(step)
            train(preset, model, 1)
        for player in model.players:
            variables = model.variables_of(player)
            assert len(variables) > 0
            for variable, old in zip(variables, before[player], strict=True):
                new = variable.numpy()
                assert np.isfinite(new).all(), f"{variable.path} is not finite"
                assert (new != old).any() == (player == mover), f"{player}'s {variable.path} while {mover} moves"


def test_metrics_and_diagnoses_are_finite(preset, trained):
    model, history, *_ = trained(preset)
    assert set(history) == {metric.name for metric in model.metrics} != set()
    sides = [next(iter(batches(preset, model, step, 1))) for step in (0, 1)]
    if len(sides[0]["image"].shape) == 5:
        sides = [{name: values[:, 0] for name, values in side.items() if name != "row"} for side in sides]
    found = {name: float(value) for name, value in model.diagnose(*sides).items()}
    assert np.isfinite(list(found.values())).all(), found
    assert np.isfinite([value for column in history.values() for value in column]).all(), history


def test_a_resumed_run_ends_bit_equal_to_one_that_was_never_stopped(preset, trained):
    model, _, path, after_two = trained(preset)
    fresh = compiled(preset, rate=0.5, weights_seed=2)  # other weights, and a learning rate that must not survive
    status = fresh.state().restore(path)
    status.assert_consumed()  # all that the file holds has found its place ...
    status.assert_existing_objects_matched()  # ... and all that the model holds was in the file
    assert_bit_equal(everything(fresh), after_two)
    assert int(fresh.step) == 2
    train(preset, fresh, 2)
    assert_bit_equal(everything(fresh), everything(model))
    assert any((one != other).any() for one, other in zip(everything(model), after_two, strict=True))


def test_exported_weights_come_back_as_float16(preset, trained, tmp_path):
    model = trained(preset)[0]
    write_weights(tmp_path / "model.weights.h5", model.exported_weights())
    fresh = build(preset, weights_seed=2)
    read_weights(tmp_path / "model.weights.h5", fresh.exported_weights())
    expected = [value.astype(np.float16).astype(value.dtype) for value in values(model.exported_weights().values())]
    assert list(fresh.exported_weights()) == list(model.exported_weights())
    assert_bit_equal(values(fresh.exported_weights().values()), expected)
    fresh.load_ema()
    assert_bit_equal(values(v for n in fresh.players.values() for m in n for v in m.weights), expected)


def test_an_image_depends_on_its_seed_and_its_number_alone(preset, trained):
    model = trained(preset)[0]
    if not find_sampling(model.abilities()):
        pytest.skip(f"{preset.family} draws no images")
    seven = model.sample(7, seed=3, output_type="float32")
    spread = np.ptp(seven)
    for count, batch_size in ((7, 7), (7, 2), (5, 3), (1, 1)):
        same = model.sample(count, seed=3, output_type="float32", batch_size=batch_size)
        np.testing.assert_allclose(same, seven[:count], atol=1e-5 * spread)
    others = np.concatenate([seven, model.sample(7, seed=4, output_type="float32")]).reshape(14, -1)
    distances = np.abs(others[:, None] - others[None]).max(axis=2) + np.eye(14)
    assert distances.min() > 1e-4 * spread  # fourteen images, no two alike: ten times what rounding may do above


def test_every_ability_treats_each_row_alone_and_in_inference_mode(preset, trained):
    model = trained(preset)[0]
    before = everything(model)
    abilities = model.abilities()
    assert len(abilities) > 0
    for name, ability in abilities.items():
        feeds = {spec.name: example(spec) for spec in ability.signature()}
        whole = model.run_ability(name, feeds)
        rows = [
            model.run_ability(name, {key: value[row : row + 1] for key, value in feeds.items()}) for row in range(3)
        ]
        for output, value in whole.items():
            assert np.isfinite(value).all()
            alone = np.concatenate([row[output] for row in rows])
            np.testing.assert_allclose(alone, value, atol=1e-5 * max(1e-3, np.abs(value).max()))
    assert_bit_equal(everything(model), before)


def example(spec):
    """Three rows for an input of an ability: normal numbers, or class 0; free heights and widths are 16."""
    shape = [3, *(16 if size is None else size for size in spec.shape[1:])]
    numbers = np.random.default_rng(0).normal(size=shape)
    return (np.clip(numbers, -1, 1) if spec.dtype.is_floating else 0 * numbers).astype(spec.dtype.as_numpy_dtype)
