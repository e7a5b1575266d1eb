"""The README beside a model: made of a card, whoever wrote it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from serving.card import CardError, Score, read_card
from zoo.export.model_card import make_readme

CARDS = Path(__file__).parents[3] / "exported"
CARD = read_card(CARDS / "vae-mnist")


@pytest.mark.parametrize(
    "fields",
    [
        {"recipe": {"optimizers": 5}},
        {"recipe": {"optimizers": {"generator": [1]}}},
        {"scores": (Score("fid", 1.0, None, {"baselines": [1]}),)},
        {"scores": (Score("fid", 1.0, None, {"baselines": {"noise": "loud"}}),)},
        {"scores": (Score("fid", 1.0, None, {"versions": "new"}),)},
        {"scores": (Score("fid", 1.0, None, {"seeds": 3}),)},
        {"scores": (Score("fid", 1.0, None, {"parts": 3}),)},
        {"scores": (Score("fid", 1.0, None, {"better": 3}),)},
    ],
)
def test_any_plain_data_is_shown_or_refused_in_one_line(fields: dict[str, Any]) -> None:
    with pytest.raises(CardError, match="the card of 'vae-mnist': its recipe or a score's protocol can't be shown: "):
        make_readme(msgspec.structs.replace(CARD, **fields))


def test_how_a_sampler_repeats_a_graph_is_said() -> None:
    text = make_readme(read_card(CARDS / "pixelcnn-mnist"))
    said = (
        "; 28 steps draw a sample (autoregressive): `previous_features` takes `features`, "
        "`previous_image` takes `image` of the step before, zeros at first"
    )
    assert said in text
    assert "steps draw a sample" not in make_readme(CARD)
