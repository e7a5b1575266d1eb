"""Half precision inside, float32 at a network's ends, in its weights, its losses and what is exported."""

import keras
import numpy as np
import pytest
from keras.optimizers import SGD, Adam

from zoo.core.precision import computing_in
from zoo.export.export import make_rounded_twin
from zoo.models.gan import GAN

POLICIES = ("mixed_bfloat16", "mixed_float16")
IMAGES = np.random.default_rng(0).uniform(-1, 1, (6, 8, 8, 1)).astype(np.float32)


def gan(policy, strategy, architecture="dcgan", optimizer=lambda: Adam(1e-3, beta_1=0.5)):
    with strategy.scope(), computing_in(policy):
        keras.utils.set_random_seed(3)
        model = GAN((8, 8, 1), latent_dim=4, architecture=architecture, width=8)
        model.compile(seed=7, generator=optimizer(), discriminator=optimizer())
    return model


def test_the_policy_ends_with_its_block_even_when_building_fails():
    with pytest.raises(ValueError, match="architecture"), computing_in("mixed_bfloat16"):
        GAN((8, 8, 1), architecture="unknown")
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("architecture", ["dcgan", "mlp"])
def test_layers_compute_in_half_precision_between_float32_ends(policy, architecture, strategy_of):
    model = gan(policy, strategy_of(1), architecture)
    half = policy.removeprefix("mixed_")
    assert model.computes_in(half)
    for network in (model.generator, model.discriminator):
        assert {weight.dtype for weight in network.weights} == {"float32"}
        assert [tensor.dtype for tensor in (*network.inputs, *network.outputs)] == ["float32", "float32"]
        with_weights = [layer for layer in network.layers[:-1] if layer.trainable_weights]
        assert with_weights
        assert {layer.compute_dtype for layer in with_weights} == {half}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("replicas", [1, 2])
def test_the_first_step_is_that_of_float32_up_to_half_precision(policy, replicas, strategy_of, fit):
    """SGD without loss scaling's skips shows the gradient: norms and losses are within half precision's rounding."""
    rate = {"optimizer": lambda: SGD(0.01)}
    expected = fit(gan("float32", strategy_of(1), **rate), IMAGES)
    model = gan(policy, strategy_of(replicas), **rate)
    if policy == "mixed_float16":
        for optimizer in model.player_optimizers.values():
            optimizer.dynamic_scale.assign(2.0**6)
    found = fit(model, IMAGES)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=0.05), name
        assert found[name][0] > 0.0
    assert any(found[name] != expected[name] for name in found)  # it did compute in half precision


@pytest.mark.parametrize(("policy", "scaled"), [("float32", False), ("mixed_bfloat16", False), ("mixed_float16", True)])
def test_float16_alone_scales_every_players_loss(policy, scaled, strategy_of, fit):
    model = gan(policy, strategy_of(2))
    optimizers = model.player_optimizers
    assert optimizers.keys() == {"generator", "discriminator"}
    assert {isinstance(o, keras.optimizers.LossScaleOptimizer) for o in optimizers.values()} == {scaled}
    before = [np.asarray(weight.value.values[0]) for weight in model.generator.trainable_weights]
    history = fit(model, IMAGES, steps=12)
    assert np.isfinite([values[0] for values in history.values()]).all()
    assert len(before) > 0
    for weight, was in zip(model.generator.trainable_weights, before, strict=True):
        copies = [np.asarray(copy) for copy in weight.value.values]
        np.testing.assert_array_equal(copies[0], copies[1])  # the replicas skipped and moved alike
        assert np.abs(copies[0] - was).max() > 0


def test_the_loss_scale_is_saved_and_restored(strategy_of, fit, tmp_path):
    model = gan("mixed_float16", strategy_of(1))
    fit(model, IMAGES, steps=2)
    for optimizer in model.player_optimizers.values():
        optimizer.dynamic_scale.assign(2.0**5)
    path = model.state().write(str(tmp_path / "state"))
    other = gan("mixed_float16", strategy_of(1))
    other.state().read(path).assert_existing_objects_matched().expect_partial()
    for player, optimizer in other.player_optimizers.items():
        assert float(optimizer.dynamic_scale) == 2.0**5
        assert int(optimizer.iterations) == int(model.player_optimizers[player].iterations)


def test_what_is_exported_is_float32(strategy_of, tmp_path):
    model = gan("mixed_bfloat16", strategy_of(1))
    twin = make_rounded_twin(model, tmp_path / "model.weights.h5")
    assert not twin.computes_in("bfloat16")
    exact, half = (each.sample(8, output_type="float32") for each in (twin, model))
    assert 0.0 < np.abs(exact - half).max() < 0.02
