"""A run's progress where there is no terminal for a bar: a few short lines."""

import time
from collections.abc import Mapping

from rich.console import Console

LINES = 20  # of a run, at most: log.csv has every row
WIDTH = 100  # characters of a line, at most


class ProgressLines:
    """Shows some of a run's rows, spread evenly, the first and the last one among them.

    Args:
        console: where.
        done: steps before the first one shown here.
        steps: of the whole run.
        images_per_step: training images that a step takes, over all devices.
    """

    def __init__(self, console: Console, done: int, steps: int, images_per_step: int):
        self.console = console
        self.steps = steps
        self.images_per_step = images_per_step
        self.part = -1
        self.before = (done, time.monotonic())

    def show(self, step: int, row: Mapping[str, float]) -> None:
        """The losses of a row and the speed since the last line, if this part of the run has no line yet."""
        part = step * (LINES - 1) // self.steps
        if part == self.part:
            return
        (done, then), now = self.before, time.monotonic()
        rate = (step - done) * self.images_per_step / max(now - then, 1e-9)
        self.part, self.before = part, (step, now)
        self.console.print(format_line(step, self.steps, row, rate), highlight=False, soft_wrap=True)


def format_line(step: int, steps: int, row: Mapping[str, float], rate: float) -> str:
    """ "step 100/2000: discriminator_loss 0.69, generator_loss 0.69, 310 images/s"; losses are left out at the end
    until it fits.

    Args:
        step: the row's.
        steps: of the whole run.
        row: metric -> value; those whose name ends in "loss" are shown.
        rate: images per second.
    """
    losses = [f"{name} {value:.3g}" for name, value in row.items() if name.endswith("loss")]
    for count in range(len(losses), -1, -1):
        line = f"step {step}/{steps}: {', '.join([*losses[:count], format_rate(rate)])}"
        if len(line) <= WIDTH:
            break
    return line


def format_rate(rate: float) -> str:
    """Images per second, to three digits where they are few."""
    return f"{rate:.3g} images/s" if rate < 100 else f"{rate:.0f} images/s"
