"""Each option of an optimizer does what it says: rates that decay, gradients that are clipped, players that differ."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
import pytest

from zoo.training.optimizers import DECAY, SGD, Adam, Optimizer, RMSprop

CHOICES = (Adam, RMSprop, SGD)
STEPS = 10


def moved(optimizer: keras.optimizers.Optimizer, *gradients: list[float]) -> list[np.ndarray]:
    """How far one update carries variables that start at zero."""
    variables = [keras.Variable(np.zeros(len(gradient), np.float32)) for gradient in gradients]
    optimizer.build(variables)
    optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients], variables)
    return [np.asarray(variable) for variable in variables]


def rates(choice: Optimizer, updates: int) -> list[float]:
    """The learning rate before each of the updates, and after the last."""
    optimizer, variable = choice.build(), keras.Variable([0.0])
    optimizer.build([variable])
    found = [float(optimizer.learning_rate)]
    for _ in range(updates):
        optimizer.apply([keras.ops.ones(1)], [variable])
        found.append(float(optimizer.learning_rate))
    return found


@pytest.mark.parametrize(
    ("choice", "numbers"),
    [
        (Adam(1e-3, beta_1=0.1, beta_2=0.2, epsilon=0.3), {"learning_rate": 1e-3, "beta_1": 0.1, "beta_2": 0.2}),
        (RMSprop(5e-5, rho=0.8, momentum=0.1, epsilon=0.3, centered=True), {"rho": 0.8, "centered": True}),
        (SGD(0.5, momentum=0.9, nesterov=True), {"learning_rate": 0.5, "momentum": 0.9, "nesterov": True}),
        (SGD(clipnorm=2.0), {"clipnorm": 2.0, "global_clipnorm": None, "clipvalue": None}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_built_optimizer_has_the_class_and_numbers_of_the_choice(choice: Any, numbers: dict[str, Any]) -> None:
    built = choice.build()
    config = built.get_config()
    assert type(built) is getattr(keras.optimizers, type(choice).__name__)
    assert {name: config[name] for name in numbers} == pytest.approx(numbers)
    assert choice.build() is not built


@pytest.mark.parametrize("choice", CHOICES)
def test_every_field_is_an_argument_of_keras_or_of_the_decay(choice: type[Any]) -> None:
    names = {field.name for field in dataclasses.fields(choice)} - {*DECAY}
    assert names <= set(choice().build().get_config())


@pytest.mark.parametrize("choice", CHOICES)
def test_a_rate_without_a_decay_stays(choice: type[Any]) -> None:
    assert rates(choice(0.5), 3) == [0.5] * 4


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize(
    ("decay", "share"),  # of the way down, after n of 10 updates
    [("linear", lambda n: n / STEPS), ("cosine", lambda n: (1 - math.cos(math.pi * n / STEPS)) / 2)],
    ids=["linear", "cosine"],
)
def test_a_decay_ends_at_the_final_rate_after_its_updates_and_stays(choice: type[Any], decay: Any, share: Any) -> None:
    found = rates(choice(0.5, decay=decay, decay_steps=STEPS, final_learning_rate=0.1), STEPS + 2)
    assert found[:-2] == pytest.approx([0.5 - 0.4 * share(n) for n in range(STEPS + 1)], rel=1e-5)
    assert found[-3:] == pytest.approx([0.1] * 3, rel=1e-5)


def test_a_decay_ends_at_zero_unless_told_otherwise() -> None:
    assert rates(SGD(0.5, decay="linear", decay_steps=2), 3) == pytest.approx([0.5, 0.25, 0.0, 0.0])


def test_an_update_moves_by_the_decayed_rate() -> None:
    optimizer, variable = SGD(1.0, decay="linear", decay_steps=4).build(), keras.Variable([0.0])
    optimizer.build([variable])
    for _ in range(5):
        optimizer.apply([keras.ops.ones(1)], [variable])
    assert float(variable[0]) == pytest.approx(-(1 + 0.75 + 0.5 + 0.25 + 0))


# With a rate of 1, SGD moves by minus the gradient: what it moved by is what clipping left.


def test_without_clipping_the_gradient_is_left_alone() -> None:
    assert [each.tolist() for each in moved(SGD(1.0).build(), [3.0, -4.0], [12.0])] == [[-3.0, 4.0], [-12.0]]


def test_clipvalue_bounds_each_number() -> None:
    found = moved(SGD(1.0, clipvalue=3.5).build(), [3.0, -4.0], [12.0])
    assert [each.tolist() for each in found] == [[-3.0, 3.5], [-3.5]]


def test_clipnorm_bounds_each_variable() -> None:
    found = moved(SGD(1.0, clipnorm=2.5).build(), [3.0, -4.0], [2.0])  # norms 5 and 2
    np.testing.assert_allclose(found[0], [-1.5, 2.0], rtol=1e-6)
    np.testing.assert_allclose(found[1], [-2.0], rtol=1e-6)


def test_global_clipnorm_bounds_all_variables_together() -> None:
    found = moved(SGD(1.0, global_clipnorm=6.5).build(), [3.0, -4.0], [12.0])  # norm 13 together
    np.testing.assert_allclose(np.concatenate(found), [-1.5, 2.0, -6.0], rtol=1e-6)


def test_two_players_move_at_their_own_rates() -> None:
    generator, discriminator = SGD(0.1).build(), SGD(0.4).build()
    (slow,), (fast,) = moved(generator, [1.0]), moved(discriminator, [1.0])
    assert (float(slow[0]), float(fast[0])) == pytest.approx((-0.1, -0.4))


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"learning_rate": 0.0}, "learning_rate=0.0: choose a positive, finite number"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"learning_rate": math.inf}, "learning_rate=inf"),
        ({"learning_rate": math.nan}, "learning_rate=nan"),
        ({"clipvalue": 0.0}, "clipvalue=0.0: choose a positive"),
        ({"clipnorm": -1.0}, "clipnorm=-1.0"),
        ({"global_clipnorm": math.nan}, "global_clipnorm=nan"),
        ({"clipnorm": 1.0, "clipvalue": 2.0}, "clipnorm=1.0 and clipvalue=2.0: choose one way to clip"),
        ({"decay": "linear"}, "decay=linear needs decay_steps"),
        ({"decay_steps": 5}, "decay_steps=5 without a decay: choose decay=linear or decay=cosine"),
        ({"final_learning_rate": 1e-9}, "final_learning_rate=1e-09 without a decay"),
        ({"decay": "cosine", "decay_steps": 0}, "decay_steps=0: choose at least 1"),
        ({"decay": "cosine", "decay_steps": 5, "final_learning_rate": 2.0}, "final_learning_rate=2.0: choose 0 <="),
        ({"decay": "cosine", "decay_steps": 5, "final_learning_rate": -1.0}, "final_learning_rate=-1.0: choose 0 <="),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(choice: type[Any], changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("+", r"\+")):
        choice(**changes)


@pytest.mark.parametrize(
    ("choice", "name", "value"),
    [(Adam, "beta_1", 1.0), (Adam, "beta_2", -0.1), (RMSprop, "rho", 1.5), (SGD, "momentum", math.nan)],
)
def test_a_share_outside_of_zero_to_one_is_refused(choice: type[Any], name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}={value}: choose 0 <= {name} < 1"):
        choice(**{name: value})


@pytest.mark.parametrize("choice", [Adam, RMSprop])
def test_an_epsilon_of_zero_is_refused(choice: type[Any]) -> None:
    with pytest.raises(ValueError, match=r"epsilon=0\.0: choose a positive"):
        choice(epsilon=0.0)


def test_options_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Adam().learning_rate = 1.0  # type: ignore[misc]


def test_an_update_more_in_every_kth_step_goes_as_far_and_remembers_as_long() -> None:
    """Of StyleGAN2's k = 16: c = 16 / 17, so 17 updates have 16 times the rate, and beta^16 is left of what was."""
    corrected = Adam(2e-3, beta_1=0.0, beta_2=0.99, decay="linear", decay_steps=100).corrected_for(16)
    assert isinstance(corrected, Adam)
    assert 17 * corrected.learning_rate == pytest.approx(16 * 2e-3)
    assert corrected.beta_1 == 0.0
    assert corrected.beta_2**17 == pytest.approx(0.99**16)
    assert corrected.decay_steps == 100
    assert SGD(0.1, momentum=0.9).corrected_for(1).momentum == pytest.approx(0.9**0.5)
