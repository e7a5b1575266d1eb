"""Scores on cards: kept with their protocol, and read as they were made."""

from dataclasses import replace
from pathlib import Path

import pytest

from serving.card import read_card, verify_files
from zoo.cli.main import main
from zoo.evaluation.cards import to_records, write_scores
from zoo.evaluation.record import Record
from zoo.export.model_card import make_readme

SHIPPED = sorted((Path(__file__).parents[3] / "exported").glob("*/card.json"))


def test_a_card_keeps_scores_and_their_protocol(exported: Path, tmp_path: Path, card_records: list[Record]) -> None:
    before = read_card(exported)
    write_scores(exported, card_records)
    card = read_card(exported)
    verify_files(exported, card)
    assert card.files == before.files
    frechet, similarity = card.scores
    assert (frechet.metric, frechet.value, frechet.std) == ("FCD(cnn-fashion-mnist@01234567)", 0.5, 0.05)
    assert frechet.protocol["extractor"] == card_records[0].extractor
    assert frechet.protocol["baselines"] == {"training": 0.01, "noise": 27.0, "blurred": 6.0}
    assert similarity.protocol["seeds"] == [0, 1, 2]
    readme = (exported / "README.md").read_text(encoding="utf-8")
    assert readme == make_readme(card)
    assert "| FCD(cnn-fashion-mnist@01234567) | 0.5 ± 0.05 | 0.01 | 27 | 6 | lower |" in readme
    assert "sampling seeds 0, 1, 2, 5000 images each, against 10000 images of fashion_mnist, test" in readme
    again = tmp_path / "again"
    main(["export", str(exported), "--format", "onnx", "--out", str(again)])
    assert read_card(again).scores == card.scores  # the weights are the same


def test_a_card_says_what_scores_of_held_out_images_rest_on(exported: Path, held_out_records: list[Record]) -> None:
    mine = [replace(one, model=exported.name) for one in held_out_records[:5]]
    write_scores(exported, mine)
    assert to_records(read_card(exported)) == mine
    kept = {score.metric: score.protocol.get("parts") for score in read_card(exported).scores}
    assert kept["posterior_divergence"] == [0.000123456, 49.6789, 0.0, 2.145977]
    assert kept["elbo"] is None  # only a score that has parts
    readme = (exported / "README.md").read_text(encoding="utf-8")
    assert "| IWAE-10 | -1651 ± 0.25 |  |  |  | lower |" in readme
    assert "| active_units (of 20) | 17 |  |  |  | lower |" in readme
    assert "| posterior_divergence | 51.83 ± 0.25 |  |  |  | lower |" in readme
    assert "\nposterior_divergence of each latent, the largest first: 49.7, 2.15, 0.000123, 0.\n" in readme
    assert readme.count("of each latent") == 1
    on = "On 10000 images of fashion_mnist, test"
    assert f"\n{on}, latents of seed 0; ± is the standard error. 8 bits a channel; numpy 2.0.\n" in readme
    assert f"\n{on}; ± is the standard error. 8 bits a channel; numpy 2.0.\n" in readme


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_every_score_of_a_shipped_card_is_of_a_file_beside_it(path: Path) -> None:
    card = read_card(path)
    shipped = {record.sha256 for record in card.files.values()}
    assert [score.metric for score in card.scores if score.protocol["source_sha256"] not in shipped] == []


def test_cards_are_shipped() -> None:
    assert len(SHIPPED) >= 20
