"""log.csv: what is written is what is read, new columns come last, and a resumed run drops what it writes again."""

from pathlib import Path

import numpy as np
import pytest

from zoo.training.log import append_row, columns_of, drop_rows_after, read_log
from zoo.training.run_directory import RunError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two rows, steps 10 and 20."""
    append_row(tmp_path / "log.csv", {"step": "10", "loss": "0.5"})
    append_row(tmp_path / "log.csv", {"step": "20", "loss": "0.25"})
    return tmp_path / "log.csv"


def test_rows_are_read_as_they_were_written(path: Path) -> None:
    assert path.read_text() == "step,loss\n10,0.5\n20,0.25\n"
    assert read_log(path) == [{"step": 10.0, "loss": 0.5}, {"step": 20.0, "loss": 0.25}]
    assert read_log(path.with_name("none.csv")) == []


def test_a_new_column_becomes_the_last_one(path: Path) -> None:
    append_row(path, {"step": "30", "score": "0.1"})
    assert path.read_text() == "step,loss,score\n10,0.5,\n20,0.25,\n30,,0.1\n"
    columns = columns_of(read_log(path))
    np.testing.assert_array_equal(columns["score"], [np.nan, np.nan, 0.1])


@pytest.mark.parametrize(("step", "kept"), [(25, [10, 20]), (20, [10, 20]), (19, [10]), (0, [])])
def test_rows_after_a_step_are_dropped(step: int, kept: list[int], path: Path) -> None:
    drop_rows_after(path, step)
    assert [row["step"] for row in read_log(path)] == kept
    assert path.read_text().startswith("step,loss\n")


def test_a_line_that_was_cut_is_dropped(path: Path) -> None:
    with path.open("a") as file:
        file.write("3")  # of 30: no row of step 3
    drop_rows_after(path, 100)
    assert path.read_text() == "step,loss\n10,0.5\n20,0.25\n"


@pytest.mark.parametrize(
    "line", [b"\xff\xfe,1\n", b"15,\xff\n", b"\0\0\0\n", "\u00b2,1\n".encode(), b"9" * 5000 + b",1\n"]
)
def test_lines_that_are_no_rows_are_passed_over_and_then_dropped(line: bytes, path: Path) -> None:
    path.write_bytes(path.read_bytes() + line)
    assert [row["step"] for row in read_log(path) if row["step"] != 15] == [10, 20]
    assert drop_rows_after(path, 100) is None
    assert path.read_text() == "step,loss\n10,0.5\n20,0.25\n"


def test_a_log_whose_header_is_damaged_is_kept_aside(path: Path) -> None:
    damaged = b"\xff" + path.read_bytes()
    path.write_bytes(damaged)
    assert read_log(path) == []
    kept = drop_rows_after(path, 100)
    assert kept == path.with_name("log.damaged.csv")
    assert kept.read_bytes() == damaged
    append_row(path, {"step": "30", "loss": "1"})
    assert read_log(path) == [{"step": 30.0, "loss": 1.0}]


def test_a_line_too_long_for_columns_is_one_line(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 200_000)
    with pytest.raises(RunError, match=r"log\.csv is damaged"):
        read_log(path)
    drop_rows_after(path, 100)
    assert path.read_text() == "step,loss\n10,0.5\n20,0.25\n"


def test_where_there_is_no_log_nothing_is_made(tmp_path: Path) -> None:
    drop_rows_after(tmp_path / "log.csv", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_line_with_more_values_than_columns_does_not_keep_a_column_out(path: Path) -> None:
    with path.open("a") as file:
        file.write("25,1,2,3\n")
    append_row(path, {"step": "30", "score": "0.1"})
    assert path.read_text() == "step,loss,score\n10,0.5,\n20,0.25,\n25,1,\n30,,0.1\n"
