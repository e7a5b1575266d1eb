"""What a check of the self-test finds."""

from dataclasses import dataclass

import numpy as np

from zoo.cli.processes import Arrays, Status

ROWS = 4  # of each device's share of a batch, at least
STEPS = 3  # that workers train
FLOAT64_LIMIT = 1e-9
FLOAT32_LIMITS = {"CPU": 1e-5, "GPU": 1e-3}


@dataclass(frozen=True)
class Measure:
    """A difference and the largest one allowed."""

    what: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether it is within its limit; NaN is not."""
        return self.value <= self.limit

    def __str__(self) -> str:
        return f"{self.what} {self.value:.1e} {'<=' if self.passed else 'is not <='} {self.limit:.0e}"


@dataclass(frozen=True)
class Finding:
    """What a check found: what was measured, what was wrong beside that, what else is worth knowing."""

    measures: tuple[Measure, ...] = ()
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        """Failed with any fault or any measure beyond its limit."""
        return "ok" if not self.faults and all(measure.passed for measure in self.measures) else "failed"

    @property
    def detail(self) -> str:
        """One line, what is wrong first."""
        measures = sorted(self.measures, key=lambda measure: measure.passed)
        return "; ".join([*self.faults, *map(str, measures), *self.notes])


class SkippedError(Exception):
    """A check that this machine gives nothing to do."""


def largest_difference(found: Arrays, expected: Arrays) -> float:
    """The largest difference, as a share of the largest value of the array that it is in; NaN if anything is NaN."""
    shares = [
        np.abs(np.subtract(one, other)).max() / max(np.abs(other).max(), np.finfo(np.float64).tiny)
        for part in expected
        for one, other in zip(found[part], expected[part], strict=True)
    ]
    return float(np.max(shares))
