"""Steps that differ in what is decided before they are traced: penalties now and then, networks that grow."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import keras
import numpy as np
import pytest

from zoo.core import step
from zoo.core.ability import Ability
from zoo.core.batch import images_of
from zoo.core.model import GenerativeModel
from zoo.losses.rows import per_row

X = np.array([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]], np.float32)
GROWS_AT = 4


@final
class Growing(GenerativeModel):
    """y = sum of w_i x over the weights that have come in: the second does at step 4; every third step counts double.

    The player's optimizer begins anew at step 4.
    """

    def __init__(self):
        super().__init__()
        inputs, names = keras.Input((1,), name="x"), ("first", "second")
        plain = {"use_bias": False, "kernel_initializer": "ones"}
        outputs = [keras.layers.Dense(1, **plain, name=each)(inputs) for each in names]
        self.network = keras.Model(inputs, outputs, name="network")
        self.seen: list[Any] = []
        self.setup("loss")

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        return {"network": (self.network,)}

    def abilities(self) -> Mapping[str, Ability]:
        return {}

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Any]:
        return {}

    def plan_of(self, step: int) -> tuple[bool, bool]:
        return step >= GROWS_AT, step % 3 == 0

    def updated_variables(self, player: str) -> list[keras.Variable]:
        return self.variables_of(player)[: 2 if self.plan[0] else 1]

    def fresh_optimizers(self, step: int) -> Sequence[str]:
        return ("network",) if step == GROWS_AT else ()

    def train_step(self, data: Any) -> dict[str, Any]:
        self.draws(data)
        self.seen.append(self.plan)
        grown, double = self.plan

        def loss() -> Any:
            first, second = self.network(images_of(data))
            return (2.0 if double else 1.0) * per_row(first + second if grown else first)

        return self.record(loss=self.minimize("network", loss))


def trained(strategy, fit, steps, steps_per_execution=1, eagerly=False):
    with strategy.scope():
        model = Growing()
        model.compile(
            network=keras.optimizers.SGD(0.1, momentum=0.5),
            steps_per_execution=steps_per_execution,
            run_eagerly=eagerly,
        )
    fit(model, X, steps)
    return model


def weights_by_hand(steps):
    """The loss is the mean of x times the weights that have come in: the gradient is 3.5, or 7 in every third step."""
    weights, velocity = np.ones(2), np.zeros(2)
    for number in range(steps):
        if number == GROWS_AT:
            velocity[:] = 0.0
        gradient = 3.5 * (2.0 if number % 3 == 0 else 1.0)
        count = 2 if number >= GROWS_AT else 1
        velocity[:count] = 0.5 * velocity[:count] - 0.1 * gradient
        weights[:count] += velocity[:count]
    return weights


@pytest.mark.parametrize("eagerly", [False, True])
@pytest.mark.parametrize("steps_per_execution", [1, 2, 8])
def test_every_step_follows_its_own_plan(strategy_of, fit, steps_per_execution, eagerly):
    model = trained(strategy_of(1), fit, 8, steps_per_execution, eagerly)
    found = np.concatenate([each.ravel() for each in model.network.get_weights()])
    np.testing.assert_allclose(found, weights_by_hand(8), rtol=1e-5)
    assert int(model.step.numpy()) == 8


def test_a_plan_is_traced_once(strategy_of, fit):
    model = trained(strategy_of(1), fit, 8)
    assert sorted(model.seen) == [(False, False), (False, True), (True, False), (True, True)]
    fit(model, X, 4)
    assert len(model.seen) == 4


@pytest.mark.parametrize("replicas", [2, 3])
def test_replicas_follow_the_same_plans(strategy_of, fit, replicas):
    model = trained(strategy_of(replicas), fit, 8, 2)
    found = np.concatenate([each.ravel() for each in model.network.get_weights()])
    np.testing.assert_allclose(found, weights_by_hand(8), rtol=1e-5)


@pytest.mark.parametrize("stopped", [3, 4, 5])
def test_a_resumed_run_goes_on_alike_before_at_and_after_the_change(strategy_of, fit, tmp_path, stopped):
    first = trained(strategy_of(1), fit, stopped)
    path = first.state().save(str(tmp_path / "state"))
    second = trained(strategy_of(1), fit, 1)
    second.state().restore(path).assert_existing_objects_matched()
    fit(second, X, 8 - stopped)
    whole = trained(strategy_of(1), fit, 8)
    for one, other in zip(second.network.get_weights(), whole.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    optimizers = [model.player_optimizers["network"].variables for model in (second, whole)]
    for one, other in zip(*optimizers, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_fresh_optimizer_keeps_its_rate_and_its_loss_scale_only(strategy_of, fit):
    model = trained(strategy_of(1), fit, 2)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.25), initial_scale=8.0)
    optimizer.build(model.network.trainable_variables)
    optimizer.apply([each.value * 8.0 for each in model.network.trainable_variables])
    step.reset(optimizer)
    inner = optimizer.inner_optimizer
    assert float(inner.learning_rate) == 0.25
    assert float(optimizer.dynamic_scale.numpy()) == 8.0
    rest = [each.numpy() for each in inner.variables if not each.path.endswith("learning_rate")]
    assert len(rest) == 5
    assert not any(each.any() for each in rest)
