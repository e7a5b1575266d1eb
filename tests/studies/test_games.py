"""The small games against what can be computed by hand: the bilinear game's growth, its invariant, the equilibrium."""

import numpy as np
import pytest

from studies.games import COLUMNS, PLAYS, Options, row_of, trajectory

RATE, STEPS = 0.1, 60


def test_simultaneous_play_of_the_bilinear_game_grows_by_a_known_factor() -> None:
    """(theta, psi) turns by atan h and grows by sqrt(1 + h^2) a step."""
    places = trajectory("wasserstein", RATE, STEPS, **PLAYS["simultaneous"])
    turn = np.array([[1.0, RATE], [-RATE, 1.0]])
    expected = [np.linalg.matrix_power(turn, step) @ [1.0, 1.0] for step in range(STEPS + 1)]
    np.testing.assert_allclose(places, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("play", ["alternating", "k = 5"])
def test_alternating_play_of_the_bilinear_game_stays_on_an_ellipse(play: str) -> None:
    """k steps of D, then one of G, keep k theta^2 - k h theta psi + psi^2."""
    arguments = PLAYS[play]
    k = int(str(arguments.get("discriminator_steps", 1)))
    theta, psi = trajectory("wasserstein", RATE, STEPS, **arguments).T
    kept = k * theta**2 - k * RATE * theta * psi + psi**2
    np.testing.assert_allclose(kept, kept[0], rtol=1e-4)
    assert np.ptp(np.arctan2(psi, theta)) > 5.0  # and goes around


def test_the_equilibrium_is_left_by_nobody() -> None:
    for loss in ("wasserstein", "minimax", "non_saturating", "hinge"):
        np.testing.assert_array_equal(trajectory(loss, RATE, 3, start=0.0, **PLAYS["alternating"]), np.zeros((4, 2)))


def test_a_row_counts_turns_and_distances() -> None:
    angles = np.linspace(0.0, 4 * np.pi, 41)
    places = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.linspace(2.0, 1.0, 41)[:, None]
    row = row_of("hinge", "alternating", places, Options())
    assert tuple(row) == COLUMNS
    assert [row[name] for name in ("start", "end", "farthest", "turns")] == ["2", "1", "2", "2"]
