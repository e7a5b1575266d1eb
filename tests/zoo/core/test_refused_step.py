"""A step whose loss is not finite leaves nothing but the updates of the players before it, which it names."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.core import step
from zoo.core.model import GenerativeModel
from zoo.layers.quantizer import Quantizer
from zoo.presets.table import resolve_class

TINY = {"image_shape": (8, 8, 1), "latent_dim": 4, "width": 4}
STATEFUL = {"historical_averaging": 0.1, "augment": "translation", "augment_target": 0.6}
STYLES = {"image_shape": (8, 8, 1), "latent_dim": 4, "style_dim": 4, "mapping_layers": 1, "group_size": None}
STYLES |= {"channel_base": 8, "channel_max": 4}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "batch norm and its averages": ("gan.GAN", TINY),
    "k updates, spectral norm, averages of weights, augmentation": (
        "gan.GAN",
        TINY | STATEFUL | {"discriminator_norm": "spectral", "discriminator_steps": 2},
    ),
    "both gradients before either update": ("gan.GAN", TINY | {"schedule": "simultaneous"}),
    "critic": ("wgan.WGAN", TINY | {"critic_steps": 2}),
    "mean latent, mean path length, penalties of their own": (
        "stylegan.StyleGAN",
        STYLES | {"architecture": "stylegan2", "r1_interval": 1, "path_length_weight": 2.0, "path_length_interval": 1},
    ),
    "one player": ("vae.VAE", {"image_shape": (8, 8, 1), "latent_dim": 2}),
}
ROWS = 6


def make(name: str, jit_compile: bool = False) -> GenerativeModel:
    keras.utils.set_random_seed(3)
    kind, arguments = MODELS[name]
    model = resolve_class(f"zoo.models.{kind}")(**arguments)
    model.compile(jit_compile=jit_compile, **{player: keras.optimizers.Adam(0.01) for player in model.players})
    return model


def images_for(model: GenerativeModel) -> np.ndarray:
    per_row = model.minibatches_per_step
    shape = (ROWS, *([per_row] if per_row > 1 else []), 8, 8, 1)
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def values_of(model: GenerativeModel) -> dict[str, tuple[str | None, np.ndarray]]:
    """Every variable of the model, its optimizers and its metrics: the player that updates it, and its value."""
    metrics = {id(variable) for metric in model.metrics for variable in metric.variables}
    found: dict[str, tuple[str | None, np.ndarray]] = {"step": (None, model.step.numpy())}
    owners = {id(variable): player for player in model.players for variable in model.variables_of(player)}
    kept = [(None, v) for v in model.variables if id(v) not in metrics]
    moments = [(player, v) for player, optimizer in model.player_optimizers.items() for v in optimizer.variables]
    for number, (player, variable) in enumerate([*kept, *moments]):
        found[f"{number} {variable.path}"] = (owners.get(id(variable), player), variable.numpy())
    for metric in model.metrics:
        for variable in metric.variables:  # `fit` sets these to 0 when it begins
            found[f"{metric.name} {variable.path}"] = (None, np.zeros_like(variable.numpy()))
    return found


def spoil(model: GenerativeModel, player: str, update: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the loss of the player's update of that number in a step is NaN, and so is its gradient."""
    compute, seen = model.compute_gradients, []

    def compute_gradients(name: str, loss: Callable[[], Any], *options: Any, **named: Any) -> step.Gradients:
        seen.append(name)
        if name != player or seen.count(name) != update:
            return compute(name, loss, *options, **named)

        def spoiled() -> Any:
            values = loss()
            return (values[0] * np.nan, *values[1:]) if isinstance(values, tuple) else values * np.nan

        return compute(name, spoiled, *options, **named)

    monkeypatch.setattr(model, "compute_gradients", compute_gradients)
    model.train_function = None  # traced without it


CASES = [
    ("batch norm and its averages", "discriminator", 1, []),
    ("batch norm and its averages", "generator", 1, ["discriminator"]),
    ("k updates, spectral norm, averages of weights, augmentation", "discriminator", 1, []),
    ("k updates, spectral norm, averages of weights, augmentation", "discriminator", 2, ["discriminator"]),
    ("k updates, spectral norm, averages of weights, augmentation", "generator", 1, ["discriminator"] * 2),
    ("both gradients before either update", "discriminator", 1, []),
    ("both gradients before either update", "generator", 1, []),
    ("critic", "critic", 2, ["critic"]),
    ("critic", "generator", 1, ["critic"] * 2),
    pytest.param(
        *("mean latent, mean path length, penalties of their own", "generator", 2),
        ["discriminator", "discriminator", "generator"],
        marks=pytest.mark.slow,
    ),
    ("one player", "autoencoder", 1, []),
]


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["plain", "XLA"])
@pytest.mark.parametrize(("name", "player", "update", "before"), CASES)
def test_a_refused_step_leaves_nothing_but_the_updates_that_it_names(
    name: str, player: str, update: int, before: list[str], jit_compile: bool, fit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(name, jit_compile)
    images = images_for(model)
    fit(model, images)
    expected = values_of(model)
    spoil(model, player, update, monkeypatch)
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        fit(model, images)
    counts = " and ".join(f"{before.count(each)} of {each!r}" for each in dict.fromkeys(before))
    kept = f" but the updates before it, {counts} :" if before else " :"
    assert f"{step.NOT_FINITE} of player {player!r}: nothing of this step was kept{kept}" in error.value.message
    found = values_of(model)
    moved = {path for path, (_, value) in found.items() if not np.array_equal(value, expected[path][1])}
    assert {expected[path][0] for path in moved} == set(before), moved
    for path, (_, value) in found.items():
        assert np.isfinite(value).all(), path


def test_a_layer_outside_of_a_train_step_writes_at_once() -> None:
    layer = Quantizer(codes=4)
    layer.build((None, 2))
    before = layer.sums.numpy()
    layer(np.ones((3, 2), np.float32), training=True)
    assert not np.array_equal(layer.sums.numpy(), before)
