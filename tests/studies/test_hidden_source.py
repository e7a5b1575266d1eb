"""A translator that hides its source is told from one that does not, by noise on its translations."""

import numpy as np
import pytest

from studies.hidden_source import LEVELS, measure

RANDOM = np.random.default_rng(0)
IMAGES, OTHERS = RANDOM.uniform(-0.9, 0.9, (2, 6, 16, 16, 1)).astype(np.float32)
CODE = 1e-3  # far below a gray level


def hide(images):
    """Every translation is the same gray, but for a faint copy of its source."""
    return CODE * images


def reveal(images):
    return np.clip(images / CODE, -1.0, 1.0)


def invert(images):
    return -images


def test_noise_destroys_what_is_hidden():
    rows = list(measure(hide, reveal, IMAGES, OTHERS, seed=0))
    assert [row["noise"] for row in rows] == list(LEVELS)
    assert rows[0]["cycle"] == pytest.approx(0.0, abs=1e-4)
    assert rows[1]["cycle"] > 0.3  # of one gray level: nothing is left


def test_noise_adds_itself_to_what_is_seen():
    rows = list(measure(invert, invert, IMAGES, OTHERS, seed=0))
    for row in rows:
        # The mean of |noise| is sqrt(2 / pi) standard deviations; brightness has 255 levels. Clipping takes a little.
        expected = row["noise"] / 255 * (2 / np.pi) ** 0.5
        assert row["cycle"] == pytest.approx(expected, rel=0.06, abs=1e-6)
        assert row["control"] == pytest.approx(expected, rel=0.06, abs=1e-6)


def test_ratios_are_of_the_error_without_noise():
    rows = list(measure(lambda images: 0.5 * images, invert, IMAGES, OTHERS, seed=0))
    assert rows[0]["ratio"] == 1.0
    assert rows[-1]["ratio"] == pytest.approx(rows[-1]["cycle"] / rows[0]["cycle"], rel=1e-3)
