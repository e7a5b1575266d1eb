"""`Preset`: one named configuration of one model class, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Preset:
    """One named configuration of one model class.

    Args:
        name: lower case, words joined by "-".
        model: the class by its dotted name.
        family: the name the field calls it by.
        paper: "arXiv:..." of the algorithm.
        summary: one sentence for lists.
        arguments: of the constructor, where they differ from its defaults.
        tiny: what the small twin changes.
        extractor_for: of a classifier, names of the data sets of which its features score generated images.
    """

    name: str
    model: str
    family: str
    paper: str
    summary: str
    arguments: Mapping[str, Any]
    tiny: Mapping[str, Any] = field(default_factory=dict)
    extractor_for: tuple[str, ...] = ()

    def twin(self) -> "Preset":
        """The same class and configuration at test size."""
        return replace(self, arguments={**self.arguments, **self.tiny})
