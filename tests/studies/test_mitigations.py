"""Every variant of the study is a model that can be built, and differs from the first in what it names."""

import pytest

from studies.mitigations import LEARNING_RATE, VARIANTS
from studies.modes import split_arguments
from zoo.models.gan import GAN


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_a_model_that_differs_from_the_first_in_what_it_names(variant: str) -> None:
    arguments, optimizers = split_arguments(VARIANTS[variant], LEARNING_RATE)
    model = GAN((16, 16, 1), width=2, **arguments)
    model.compile(seed=0, **optimizers)
    assert (VARIANTS[variant] == {}) == (variant == "none")
    assert model.get_config().items() >= arguments.items()
    discriminator, generator = (optimizers[player] for player in ("discriminator", "generator"))
    assert float(generator.learning_rate) == pytest.approx(2e-4)
    assert float(discriminator.learning_rate) == pytest.approx(4e-4 if variant == "two time scales" else 2e-4)
    assert [each.global_clipnorm for each in (discriminator, generator)] == [
        1.0 if variant == "gradient clipping" else None
    ] * 2
