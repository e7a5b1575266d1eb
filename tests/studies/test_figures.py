"""Tables that several calls fill."""

from pathlib import Path

import pytest

from studies.figures import merge_rows, read_table, write_table

COLUMNS = ("part", "number", "value")


def test_rows_of_other_calls_are_kept_in_their_places(tmp_path: Path) -> None:
    path = tmp_path / "results" / "table.csv"
    assert read_table(path, COLUMNS) == []
    write_table(
        path, COLUMNS, [dict(zip(COLUMNS, row, strict=True)) for row in [("a", 1, 0.5), ("b", 1, ""), ("b", 2, 3)]]
    )
    new = [{"part": "b", "number": 3, "value": 7}, {"part": "b", "number": 1, "value": 8}]
    table = merge_rows(read_table(path, COLUMNS), new, ("part", "number"))
    write_table(path, COLUMNS, table)
    # b 1 is measured again: text in the file, a number here, and still the same row.
    assert path.read_text() == "part,number,value\na,1,0.5\nb,1,8\nb,2,3\nb,3,7\n"
    assert [row in new for row in table] == [False, True, False, True]


def test_of_new_rows_alike_the_later_counts() -> None:
    assert merge_rows([], [{"a": 1, "b": 2}, {"a": 1, "b": 3}], ("a",)) == [{"a": 1, "b": 3}]


def test_a_table_of_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_table(path, ("part", "value"), [{"part": "a", "value": 1}])
    with pytest.raises(ValueError, match="name another table"):
        read_table(path, COLUMNS)
