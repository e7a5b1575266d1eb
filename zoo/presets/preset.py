"""`Preset`: one named configuration of one model class, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """

    name: str
    model: str
    family: str
    paper: str
    summary: str
    arguments: Mapping[str, Any]
    tiny: Mapping[str, Any] = field(default_factory=dict)

    def twin(self) -> "Preset":
        """The same class and configuration at test size."""
        return Preset(
            self.name, self.model, self.family, self.paper, self.summary, {**self.arguments, **self.tiny}, self.tiny
        )
