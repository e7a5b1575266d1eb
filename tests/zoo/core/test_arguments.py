"""Numbers that no constructor's argument can mean are refused by name, whatever the model."""

import pytest

from zoo.core.arguments import LARGEST, check_counts
from zoo.models.autoencoder import Autoencoder
from zoo.models.vae import VAE
from zoo.models.wgan import WGAN

SHAPE = (8, 8, 1)
BAD = {
    "NaN": (VAE, {"beta": float("nan")}, "beta=nan: choose a finite number"),
    "infinite": (Autoencoder, {"contraction_weight": float("inf")}, "contraction_weight=inf: choose a finite number"),
    "a part of options": (WGAN, {"instance_noise": float("nan")}, "instance_noise=nan: choose a finite number"),
    "too large": (VAE, {"warmup_steps": LARGEST + 1}, f"warmup_steps={LARGEST + 1}: choose at most {LARGEST}"),
    "one of several": (VAE, {"hidden": (10**30, 8)}, rf"hidden=\(10{{30}}, 8\): choose at most {LARGEST}"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_number_that_means_nothing_is_named(case):
    model, arguments, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        model(SHAPE, **arguments)


def test_counts_begin_at_one_and_a_default_passes():
    check_counts(width=1, discriminator_width=None)
    with pytest.raises(ValueError, match="width=0: choose at least 1"):
        check_counts(latent_dim=1, width=0)
