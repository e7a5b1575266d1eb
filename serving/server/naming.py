"""Names of models in requests: NAME is a model's default ability, NAME.ability another."""

from typing import TYPE_CHECKING

from serving.server.errors import UnknownModelError

if TYPE_CHECKING:
    from serving.server.inference import ServedModel
    from serving.server.repository import Repository


def find_ability(repository: "Repository", name: str, version: str | None = None) -> tuple["ServedModel", str]:
    """The model and the ability that a name stands for.

    Args:
        repository: of the models.
        name: NAME, or NAME.ability.
        version: which one; the newest when None or empty.

    Raises:
        UnknownModelError: there is no such model or version, or the model serves no such ability.
    """
    model, dot, ability = name.partition(".")
    served = repository.find(model, version or None)
    if not dot:
        return served, served.card.default_ability
    if ability not in served.pipelines:
        good = [f"{model}.{each}" for each in sorted(served.pipelines)]
        raise UnknownModelError(f"{model!r} serves no ability {ability[:100]!r}: choose from {good}")
    return served, ability
