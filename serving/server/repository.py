"""A directory of models -> the models that a server holds: opened and checked before it listens, then only read."""

import logging
from pathlib import Path

from serving.card import CardError, read_card
from serving.pipeline import Pipeline
from serving.server.errors import UnknownModelError
from serving.server.inference import ServedModel
from serving.server.limits import ROW_LIMIT

logger = logging.getLogger("serving")


class Repository:
    """Models by name, of one version each."""

    def __init__(self, directory: str | Path, *, threads: int | None = None, row_limit: int = ROW_LIMIT) -> None:
        """Open them: see `load_models`."""
        self.models = load_models(directory, threads=threads, row_limit=row_limit)

    def names(self) -> list[str]:
        """Of all models, in order."""
        return list(self.models)

    def find(self, name: str, version: str | None = None) -> ServedModel:
        """A model by name; UnknownModelError, with the names there are, where there is none."""
        if name not in self.models:
            raise UnknownModelError(f"there is no model {name!r}: this server has {self.names()}")
        if version not in (None, "1"):
            raise UnknownModelError(f"{name!r} has no version {version!r}: it has ['1']")
        return self.models[name]

    def ready(self) -> bool:
        """Whether all models answer."""
        return True


def load_models(
    directory: str | Path, *, threads: int | None = None, row_limit: int = ROW_LIMIT
) -> dict[str, ServedModel]:
    """Open every model below `directory`; by name, in order.

    Args:
        directory: one subdirectory with a card.json for each model.
        threads: CPU threads of one model's run; ONNX Runtime's choice when not given.
        row_limit: the most rows, or images, of one request.

    Raises:
        CardError: there is no model, two have one name, or a card or file is not what it should be.
        ModelFileError, ProviderError: as in `Session`.
    """
    root = Path(directory)
    if not root.is_dir():
        raise CardError(f"{root}: there is no such directory of models")
    models: dict[str, ServedModel] = {}
    for card_file in sorted(root.glob("*/card.json")):
        card = read_card(card_file.parent)
        if card.abilities[card.default_ability].file is None:
            logger.warning("%s: not served: its default ability has no ONNX file", card_file.parent)
            continue
        if card.name in models:
            raise CardError(f"{card_file}: a second model named {card.name!r}")
        names = [name for name, ability in card.abilities.items() if ability.file]
        pipelines = {
            name: Pipeline.from_directory(card_file.parent, ability=name, threads=threads) for name in sorted(names)
        }
        models[card.name] = ServedModel(card, pipelines, row_limit)
    if not models:
        raise CardError(f"{root}: no model to serve: each is a subdirectory with a card.json")
    return models
