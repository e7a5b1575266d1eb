"""Scores on cards: records -> the scores of an exported model's card, and back."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from serving.card import Card, Score, read_card
from zoo.evaluation.record import Record, to_plain_data
from zoo.export.model_card import write_card


def write_scores(directory: Path, records: Sequence[Record]) -> None:
    """Replace the scores on the card of an exported model, and in the README.md beside it.

    Raises:
        CardError: there is no card, or a damaged one.
    """
    scores = tuple(to_score(record) for record in records)
    write_card(msgspec.structs.replace(read_card(directory), scores=scores), directory)


def to_score(record: Record) -> Score:
    """A record as a card keeps it: whose it is and that it is an exported model, the card says."""
    (protocol,) = to_plain_data([record])
    value, spread = protocol.pop("value"), protocol.pop("std")
    del protocol["model"], protocol["read_as"]
    if not record.parts:
        del protocol["parts"]
    if record.floor_std is None:
        del protocol["floor_std"]
    return Score(protocol.pop("metric"), value, spread, protocol)


def to_records(card: Card) -> list[Record]:
    """The scores of a card as they were computed.

    Raises:
        msgspec.ValidationError: a score that this program has not written.
    """
    return [
        msgspec.convert(
            {**score.protocol, "metric": score.metric, "value": score.value, "std": score.std, "model": card.name},
            Record,
        )
        for score in card.scores
    ]
