"""The figure of bounds against samples is drawn from a board's table."""

from pathlib import Path

import pytest

from studies.importance_samples import Options, collect_curves, main
from zoo.evaluation.board import Declared, Row
from zoo.evaluation.board_table import write_board


def make_row(model: str, estimator: str, samples: int, value: float, board: str = "fixed") -> Row:
    return Row(board, model, estimator, samples, value, 0.5, "nats", 9, "fixed", "", 1.0, "", "", "ab", "cd")  # type: ignore[arg-type]


ROWS = [
    make_row("a", "importance", 50, -90.0),
    make_row("a", "ELBO", 1, -95.0),
    make_row("a", "Monte Carlo", 50, -150.0),
    make_row("b", "exact", 0, -80.0),
    make_row("c", "ELBO", 1, -99.0, board="dynamic"),
]


def test_a_curve_is_a_models_bounds_in_the_order_of_their_samples() -> None:
    assert collect_curves(ROWS, "fixed") == {"a": [(1, -95.0, 0.5), (50, -90.0, 0.5)]}


def test_the_figure_is_drawn_or_refused(tmp_path: Path) -> None:
    write_board(tmp_path, ROWS, Declared((), ()))
    options = Options(tmp_path / "likelihood.csv", figure=tmp_path / "figure.png")
    main(options)
    assert options.figure.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no importance-weighted bounds on the board 'dynamic'"):
        main(Options(options.table, board="dynamic", figure=options.figure))
