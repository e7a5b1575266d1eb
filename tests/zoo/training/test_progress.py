"""Progress without a terminal: few lines, short ones, with the losses and the speed."""

import io

import pytest
from rich.console import Console

from zoo.training.progress import LINES, WIDTH, ProgressLines, format_line

ROW = {"discriminator_accuracy": 0.9, "discriminator_loss": 0.61234, "generator_loss": 1.25}


def lines(done: int, steps: int, every: int) -> list[str]:
    """What a run shows that goes on from step `done` and has a row every so many steps."""
    shown = io.StringIO()
    progress = ProgressLines(Console(file=shown, width=10_000), done, steps, 64)
    for step in range(done + 1, steps + 1):
        if step % every == 0 or step == steps:
            progress.show(step, ROW)
    return shown.getvalue().splitlines()


@pytest.mark.parametrize("steps", [1, 7, 20, 21, 1_000, 20_000])
@pytest.mark.parametrize("every", [1, 3, 100])
def test_a_run_shows_few_lines_the_first_row_and_the_last_one(steps: int, every: int) -> None:
    shown = lines(0, steps, every)
    assert 1 <= len(shown) <= LINES
    assert shown[0].startswith(f"step {min(every, steps)}/{steps}: ")
    assert shown[-1].startswith(f"step {steps}/{steps}: ")
    assert len(shown) >= min(steps // every, LINES) // 2


def test_a_resumed_run_shows_its_own_first_row() -> None:
    assert lines(500, 1_000, 100)[0].startswith("step 600/1000: ")


def test_a_line_has_losses_and_speed() -> None:
    line = format_line(100, 2_000, ROW, 310.4)
    assert line == "step 100/2000: discriminator_loss 0.612, generator_loss 1.25, 310 images/s"


def test_the_speed_is_that_since_the_line_before(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([100.0, 104.0, 105.0])
    monkeypatch.setattr("zoo.training.progress.time.monotonic", lambda: next(seconds))
    shown = io.StringIO()
    progress = ProgressLines(Console(file=shown, width=10_000), 0, 50, 64)
    progress.show(10, ROW)
    progress.show(50, ROW)
    # 10 steps of 64 images in 4 seconds, then 40 in 1
    assert [line.split(", ")[-1] for line in shown.getvalue().splitlines()] == ["160 images/s", "2560 images/s"]


def test_losses_that_do_not_fit_are_left_out_at_the_end() -> None:
    row = {f"the_{number}th_loss": 1.0 for number in range(20)}
    line = format_line(100, 2_000, row, 310.0)
    assert len(line) <= WIDTH
    assert line.startswith("step 100/2000: the_0th_loss 1, ")
    assert line.endswith(", 310 images/s")
