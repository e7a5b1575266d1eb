"""What the figure of the theory page rests on: the divergence by quadrature, the value of a trained discriminator."""

import numpy as np
import pytest

from studies.theory import Options, estimate_value, jensen_shannon, make_gan, set_theta, train_discriminator


def test_the_divergence_is_0_for_equals_and_log_2_far_apart() -> None:
    assert jensen_shannon(0.0) == pytest.approx(0.0, abs=1e-9)
    assert jensen_shannon(14.0) == pytest.approx(np.log(2), abs=1e-9)
    # Small shifts: JSD = theta^2 I / 8 with Fisher information I = 1.
    assert jensen_shannon(0.02) == pytest.approx(0.02**2 / 8, rel=1e-3)


def test_a_discriminators_value_is_below_the_bound_and_near_it_once_trained() -> None:
    options = Options(batch_size=256)
    model = make_gan(2.0, options)
    bound = 2 * jensen_shannon(2.0) - np.log(4)
    before = estimate_value(model, 2.0)
    train_discriminator(model, 200, options)
    assert before < estimate_value(model, 2.0) < bound + 0.01
    assert estimate_value(model, 2.0) > bound - 0.05
    assert float(model.generator(np.zeros((1, 1), np.float32))[0, 0, 0, 0]) == 2.0  # only the discriminator learns
    set_theta(model, 0.5)
    assert float(model.generator(np.zeros((1, 1), np.float32))[0, 0, 0, 0]) == 0.5
