"""A page to play with the models, from files of the package: no other host, nothing to build.

    GET /                       the page, with its /page.css, /page.js and /page.svg
    GET /page/models            {"models": names}
    GET /page/models/NAME       the model's card, with the abilities that are served, without its files

The page itself says nothing of the models and needs no token. What it shows it asks of the actions, as any client does.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.server.http.context import Server
from serving.server.naming import require_model
from serving.server.repository import Repository

FOLDER = Path(__file__).with_name("page")
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.svg": ("page.svg", "image/svg+xml"),
}
HEADERS = {
    # blob: is what the browser calls the images that the page was answered with, or that were dropped on it.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def make_routes(server: Server) -> list[Route]:
    """The page and what it has to know of the models."""

    def file(name: str, media_type: str) -> Callable[[Request], Any]:
        content = (FOLDER / name).read_bytes()

        async def answer(request: Request) -> Response:
            response = server.answer(content, media_type)
            response.headers.update(HEADERS)
            return response

        return answer

    async def names(request: Request) -> Response:
        return server.json({"models": server.repository.names()})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        require_model(server.repository, name)
        return server.json(await server.call(request, describe_model, server.repository, name))

    return [
        *(Route(path, file(*found)) for path, found in FILES.items()),
        Route("/page/models", names),
        Route("/page/models/{name}", model),
    ]


def describe_model(repository: Repository, name: str, **_: Any) -> dict[str, Any]:
    """What a card says to a reader, as plain data.

    Args:
        repository: of the models.
        name: of a model, without an ability.

    Raises:
        UnknownModelError: there is no such model.
    """
    served = repository.find(name)
    card = served.card
    return {
        "name": card.name,
        "version": served.version,
        "family": card.family,
        "paper": card.paper,
        "license": card.license,
        "summary": card.summary,
        "data": card.data,
        "recipe": card.recipe,
        "scores": [{"metric": score.metric, "value": score.value, "std": score.std} for score in card.scores],
        "default_ability": card.default_ability,
        "abilities": served.abilities,
    }
