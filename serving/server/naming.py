"""Names of models in requests: NAME is a model's default ability, NAME.ability another."""

from serving.server.errors import UnknownModelError
from serving.server.inference import ServedModel
from serving.server.repository import Repository
from serving.session import InputError


def require_model(repository: Repository, name: str) -> None:
    """Refuse a name whose model there is not, without opening one.

    Raises:
        UnknownModelError: there is no such model.
    """
    if (model := _split(name)[0]) not in repository.names():
        repository.find(model)


def find_ability(
    repository: Repository, name: str, version: str | None = None, asked: str | None = None
) -> tuple[ServedModel, str]:
    """The model and the ability that a request is for.

    Args:
        repository: of the models.
        name: NAME, or NAME.ability.
        version: which one; the newest when None or empty.
        asked: the ability that the request itself names, if it does.

    Raises:
        UnknownModelError: there is no such model or version, or the model serves no ability of the name.
        InputError: the model does not serve what the request asks for, or the name says another one.
    """
    model, dot, ability = _split(name)
    served = repository.find(model, version or None)
    good = sorted(served.abilities)
    if not dot:
        ability = asked or served.card.default_ability
        if ability not in good:
            raise InputError(f"{model!r} serves no ability {ability!r}: choose from {good}")
    elif ability not in good:
        raise UnknownModelError(f"{model!r} serves no ability {ability!r}: choose {model}. and one of {good}")
    elif asked and asked != ability:
        raise InputError(f"the name says {ability!r}, and the request {asked!r}: give one of them")
    return served, ability


def _split(name: str) -> tuple[str, str, str]:
    """As `str.partition`; a name that begins with the dot is one of no model."""
    return (name, "", "") if name.startswith(".") else name.partition(".")
