"""What a check of the self-test finds, and what it compares with: shared by the checks and by their processes."""

from dataclasses import dataclass

import numpy as np

from zoo.cli.processes import Arrays, Status

ROWS_PER_DEVICE = 4  # of each device's share of a batch, at least
WORKER_STEPS = 3  # train steps of the checks of workers
# Largest differences, as shares of the largest value. Sums in another order differ in the last bits alone; a GPU
# draws other noise than a CPU in the last bit of float32.
FLOAT64_LIMIT = 1e-9
FLOAT32_LIMITS = {"CPU": 1e-5, "GPU": 1e-3}


@dataclass(frozen=True)
class Measurement:
    """A difference and the largest one allowed.

    Args:
        what: was compared, for people.
        value: the difference, as a share of the largest value.
        limit: the largest value that passes.
    """

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
    """What a check found.

    Args:
        measurements: what was measured.
        faults: what is wrong beside that, a phrase each.
        notes: what else is worth knowing, a phrase each.
    """

    measurements: tuple[Measurement, ...] = ()
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        """Failed with any fault or any measurement beyond its limit."""
        return "ok" if not self.faults and all(measurement.passed for measurement in self.measurements) else "failed"

    @property
    def detail(self) -> str:
        """One line, what is wrong first."""
        measurements = sorted(self.measurements, key=lambda measurement: measurement.passed)
        return "; ".join([*self.faults, *map(str, measurements), *self.notes])


class SkippedError(Exception):
    """A check can't be done on this machine, which lacks the devices; the message says which."""


def largest_difference(found: Arrays, expected: Arrays) -> float:
    """The largest difference, as a share of the largest value of the array that it is in; NaN if anything is NaN."""
    shares = [
        np.abs(np.subtract(one, other)).max() / max(np.abs(other).max(), np.finfo(np.float64).tiny)
        for part in expected
        for one, other in zip(found[part], expected[part], strict=True)
    ]
    return float(np.max(shares))
