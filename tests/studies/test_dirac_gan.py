"""The Dirac-GAN against what can be computed by hand: the bilinear game's growth, its invariant, the equilibrium."""

import numpy as np
import pytest

from studies.dirac_gan import COLUMNS, SCHEDULES, Options, make_row, record_trajectory

RATE, STEPS = 0.1, 60


def test_simultaneous_updates_of_the_bilinear_game_grow_by_a_known_factor() -> None:
    """(theta, psi) rotates by atan h and grows by sqrt(1 + h^2) a step."""
    points = record_trajectory("wasserstein", RATE, STEPS, **SCHEDULES["simultaneous"])
    turn = np.array([[1.0, RATE], [-RATE, 1.0]])
    expected = [np.linalg.matrix_power(turn, step) @ [1.0, 1.0] for step in range(STEPS + 1)]
    np.testing.assert_allclose(points, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("schedule", ["alternating", "k = 5"])
def test_alternating_updates_of_the_bilinear_game_stay_on_an_ellipse(schedule: str) -> None:
    """k updates of the discriminator, then one of the generator, keep k theta^2 - k h theta psi + psi^2."""
    arguments = SCHEDULES[schedule]
    k = int(str(arguments.get("discriminator_steps", 1)))
    theta, psi = record_trajectory("wasserstein", RATE, STEPS, **arguments).T
    kept = k * theta**2 - k * RATE * theta * psi + psi**2
    np.testing.assert_allclose(kept, kept[0], rtol=1e-4)
    assert np.ptp(np.arctan2(psi, theta)) > 5.0  # and goes around


def test_no_player_leaves_the_equilibrium() -> None:
    for loss in ("wasserstein", "minimax", "non_saturating", "hinge"):
        np.testing.assert_array_equal(
            record_trajectory(loss, RATE, 3, start=0.0, **SCHEDULES["alternating"]), np.zeros((4, 2))
        )


def test_a_row_counts_revolutions_and_distances() -> None:
    angles = np.linspace(0.0, 4 * np.pi, 41)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.linspace(2.0, 1.0, 41)[:, None]
    row = make_row("hinge", "alternating", points, Options())
    assert tuple(row) == COLUMNS
    assert [row[name] for name in ("start_distance", "end_distance", "largest_distance", "revolutions")] == [
        "2",
        "1",
        "2",
        "2",
    ]
