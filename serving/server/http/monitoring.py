"""What Prometheus reads: GET /metrics."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.server.errors import UnavailableError, UnknownModelError
from serving.server.http.context import Server
from serving.server.metrics import CONTENT_TYPE
from serving.server.naming import find_ability
from serving.session import InputError

PROTOCOLS = (
    ("/v2/models/", "v2"),
    ("/v1/images/", "openai"),
    ("/v1/models/", "rest"),
)
"""Begin of a path -> what a metric calls the protocol; other paths, such as health, are no requests of a model."""


def make_routes(server: Server) -> list[Route]:
    """See `serving.server.http.app`."""

    def metrics(_: Request) -> Response:  # not async: it reads /proc
        return Response(server.repository.metrics.render(), headers={"content-type": CONTENT_TYPE})

    return [Route("/metrics", metrics)]


def observe(server: Server, path: str, name: str, status: int | None, seconds: float) -> None:
    """Count an answered request of a model.

    Args:
        server: whose metrics count.
        path: of the request.
        name: NAME or NAME.ability in it; empty where it names none.
        status: of the answer; None where there was none.
        seconds: from the request's head to the end of the answer.
    """
    protocol = next((protocol for start, protocol in PROTOCOLS if path.startswith(start)), None)
    if protocol is None:
        return
    try:
        served, ability = find_ability(server.repository, name)
        model = served.card.name
    except (UnknownModelError, UnavailableError, InputError):  # the answer has said so
        model = ability = ""
    server.repository.metrics.observe_request(protocol, model, ability, str(status or "none"), seconds)
