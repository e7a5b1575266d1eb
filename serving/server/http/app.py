"""Every protocol over HTTP as one application: routes of `PROTOCOLS`, errors in one form, limits around them.

`serving.server.http.context.Server` is what the routes are given; `serving.server.http.connection` guards what is
below: connections, heads, clients that do not read.
"""

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ExceptionHandler

from serving.server.http import actions, blends, images, monitoring, page, tensorflow, v2
from serving.server.http.context import Server
from serving.server.http.errors import KINDS, Failure, describe
from serving.server.http.exchange import ExchangeMiddleware
from serving.server.limits import Limits
from serving.server.repository import Repository

PROTOCOLS: tuple[Callable[[Server], list[Route]], ...] = (
    v2.make_routes,
    tensorflow.make_routes,
    images.make_routes,
    actions.make_routes,
    monitoring.make_routes,
    blends.make_routes,
    page.make_routes,
)


def create_app(
    repository: Repository,
    *,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    token: str | None = None,
    cors_origins: Sequence[str] = (),
) -> Starlette:
    """An ASGI application that answers for the models of a repository; its `state.server` is the `Server`.

    Args:
        repository: the models.
        limits: what it takes of clients.
        token: what `Authorization: Bearer` must hold, but for health; nothing when not given.
        cors_origins: origins whose pages a browser lets read the answers; none when empty, "*" for all.
    """
    server = Server(repository, limits)

    async def failed(request: Request, error: Exception) -> Response:
        failure = describe(error)
        if isinstance(error, HTTPException) and error.detail == "Not Found":
            failure = Failure(404, f"there is no such page: try /v2/models/NAME with a NAME of {repository.names()}")
        request.state.exchange.error = failure.message
        return failure.response()

    handlers: dict[type[Exception], ExceptionHandler] = dict.fromkeys(KINDS, failed)
    middleware = [Middleware(ExchangeMiddleware, server=server, token=token)]
    if cors_origins:
        middleware.append(
            Middleware(
                _Cors,
                allow_origins=list(cors_origins),
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=["X-Request-Id", v2.BINARY_HEADER],
            )
        )
    routes = [route for make_routes in PROTOCOLS for route in make_routes(server)]
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)
    app.router.redirect_slashes = False  # a redirect would go to whatever host the client names
    app.state.server = server
    return app


class _Cors(CORSMiddleware):
    """Cross-origin resource sharing, whose refusals are errors like all others."""

    def preflight_response(self, request_headers: object) -> Response:
        response = super().preflight_response(request_headers)  # type: ignore[arg-type]
        if response.status_code < 400:
            return response
        return Failure(response.status_code, bytes(response.body).decode()).response()
