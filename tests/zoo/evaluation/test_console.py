"""The console's table: value, baselines, and the protocol below."""

import io
from dataclasses import replace

from rich.console import Console

from zoo.evaluation.console import format_value, make_table, show_records
from zoo.evaluation.record import Record


def test_a_console_table_names_extractor_and_protocol_once(records: list[Record]) -> None:
    shown = io.StringIO()
    show_records(records[:2], Console(file=shown, width=100))
    text = shown.getvalue()
    assert "FCD " in text
    assert "0.5 ± 0.05" in text
    assert text.count(str(records[0].extractor)) == 1
    assert "worse is read as an exported model." in text
    assert "5000 generated images per seed, seeds 0, 1, 2; 10000 real ones of fashion_mnist, test" in text.replace(
        "\n", " "
    )


def test_a_console_table_says_which_scores_are_of_held_out_images(held_out_records: list[Record]) -> None:
    shown = io.StringIO()
    show_records(held_out_records, Console(file=shown, width=200))
    lines = [" ".join(line.split()) for line in shown.getvalue().splitlines()]
    assert any(line.startswith("IWAE-50 (cross-entropy) -88.4 ± 0.2") for line in lines)
    assert any(line.startswith("active_units (of 20) 17") for line in lines)
    assert lines.count("posterior_divergence of each latent, the largest first: 49.7, 2.15, 0.000123, 0.") == 1
    assert sum("of each latent" in line for line in lines) == 1
    whose = "10000 real ones of fashion_mnist, test; 8 bits a channel"
    made = f"5000 generated images per seed, seeds 0, 1, 2; {whose}"
    start = lines.index(f"Latents drawn, seeds 0; {whose}.")
    assert lines[start + 1] == f"{whose}."
    baselines = "training images, noise and blurred training images in the place of generated ones"
    assert lines[start + 2] == f"{made}. Baselines: {baselines}."


def test_columns_are_the_baselines_that_there_are(records: list[Record], held_out_records: list[Record]) -> None:
    generated, held_out = (make_table("model", found) for found in (records[:2], held_out_records[:5]))
    assert [column.header for column in generated.columns] == ["score", "value", "training", "noise", "blurred", "good"]
    assert [column.header for column in held_out.columns] == ["score", "value", "good"]


def test_a_spread_of_rounding_alone_is_none(records: list[Record]) -> None:
    assert format_value(replace(records[0], value=0.114, std=2e-15)) == "0.114 ± 0"
    assert format_value(replace(records[0], value=0.114, std=2e-5)) == "0.114 ± 2e-05"
    assert format_value(replace(records[0], value=-2000.0, std=12.0)) == "-2000 ± 12"
