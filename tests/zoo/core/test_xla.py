"""A step that XLA compiles is the plain step: the same noise, the same update up to rounding, the same refusals."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD, Adam, LossScaleOptimizer

from zoo.core import step
from zoo.losses.rows import per_row
from zoo.presets.preset import Preset
from zoo.presets.table import PRESETS, resolve_class

TINY = {"image_shape": (8, 8, 1), "latent_dim": 4, "width": 4}
GAN = Preset("gan", "zoo.models.gan.GAN", "GAN", "arXiv:1406.2661", "One more case.", TINY)
TWINS = [preset.twin() for preset in PRESETS.values()] + [
    dataclasses.replace(GAN, name=name, arguments=TINY | arguments)
    for name, arguments in {
        "dropout": {"architecture": "mlp"},
        "k": {"discriminator_steps": 2},
        "alternating": {"schedule": "alternating"},
        "simultaneous": {"schedule": "simultaneous"},
        "uniform": {"prior": "uniform"},
    }.items()
]
ROWS = 5


def trained(preset, fit, jit_compile, steps=1):
    """All weights, averages and the metrics, after steps that remember gradients in SGD's velocity."""
    keras.utils.set_random_seed(3)
    model = resolve_class(preset.model)(**preset.arguments)
    optimizers = {player: SGD(0.1, momentum=0.5) for player in model.players}
    model.compile(seed=7, jit_compile=jit_compile, **optimizers)
    per_row = model.minibatches_per_step
    shape = (ROWS, *([per_row] if per_row > 1 else []), *preset.arguments["image_shape"])
    images = np.random.default_rng(0).uniform(-1, 1, shape)
    targets = np.random.default_rng(1).uniform(-1, 1, shape)
    history = fit(model, images, steps=steps, label=np.arange(ROWS) % 3, target=targets)
    assert int(model.step) == steps
    velocities = [v.numpy() for o in optimizers.values() for v in o.variables if "momentum" in v.path]
    return velocities, model.get_weights(), [np.array(history[name]) for name in sorted(history)]


@pytest.mark.parametrize("preset", TWINS, ids=lambda preset: preset.name)
def test_the_first_step_is_that_of_the_plain_form(preset, fit, difference, float64):
    expected, found = (trained(preset, fit, jit_compile) for jit_compile in (False, True))
    assert all(len(part) > 0 for part in expected)
    worst = [difference(one, other) for one, other in zip(found, expected, strict=True)]
    # XLA orders sums as it likes; in float64 that hides no difference.
    assert max(worst) < 1e-7, dict(zip(("gradients", "weights", "metrics"), worst, strict=True))


X = np.array([[1.0], [2.0], [3.0], [4.0]], np.float32)


def squared_error(model, x, target):
    return model.minimize("inner", lambda: per_row(tf.square(model.inner(x) - target)))


def compiled(probe, optimizer):
    model = probe(squared_error)
    model.compile(inner=optimizer, outer=SGD(1.0), jit_compile=True)
    return model


def test_what_is_not_finite_stops_the_step_before_a_weight_is_touched(probe, fit):
    model = compiled(probe, Adam(0.1))
    poisoned = X.copy()
    poisoned[2] = np.nan
    fit(model, X, target=X)  # w = 1 is right
    before = [variable.numpy() for variable in model.player_optimizers["inner"].variables]
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{step.NOT_FINITE} of player 'inner'"):
        fit(model, poisoned, target=X)
    assert float(model.inner.weights[0][0, 0]) == 1.0
    assert int(model.step) == 1
    for variable, was in zip(model.player_optimizers["inner"].variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), was)


def test_an_overflow_that_a_smaller_loss_scale_mends_is_skipped(probe, fit):
    model = compiled(probe, LossScaleOptimizer(SGD(1e-37), initial_scale=2.0**15))
    large = np.array([[1.0], [1e18]], np.float32)  # gradient 2e36, finite; 2^15 times it is not
    history = fit(model, large, target=0 * large)
    assert float(model.inner.weights[0][0, 0]) == 1.0
    assert float(model.player_optimizers["inner"].dynamic_scale) == 2.0**14
    assert history["inner_gradient_norm"] == [0.0]


def test_several_replicas_and_eager_steps_are_refused(probe):
    for replicas, options in ((2, {}), (1, {"run_eagerly": True})):
        model = probe(squared_error, replicas)
        with pytest.raises(ValueError, match="jit_compile=True takes one replica and run_eagerly=False"):
            model.compile(inner=SGD(1.0), outer=SGD(1.0), jit_compile=True, **options)


def test_several_steps_an_execution_compile_too(probe, fit):
    model = probe(squared_error)
    model.compile(inner=SGD(0.01), outer=SGD(1.0), jit_compile=True, steps_per_execution=3)
    fit(model, X, steps=6, target=0 * X)
    assert int(model.step) == 6
    # w' = w - 0.01 * 2 w mean(x^2) = w (1 - 0.02 * 7.5)
    assert float(model.inner.weights[0][0, 0]) == pytest.approx(0.85**6, rel=1e-5)
