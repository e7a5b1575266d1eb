"""Images between those of two seeds, for people.

    POST /v1/models/NAME:interpolate    {"seed", "to", "position", "start", "label", "truncation"} -> an image
    POST /v1/models/NAME:mix            {"seed", "to", "layers", "start", "label", "truncation"} -> an image

:interpolate at position 0 is the image of :sample with `seed`, at 1 that with `to`; in between the latents are those of
`serving.sampling.interpolation`. :mix is for a model that maps latents to styles and synthesizes images of them: the
first `layers` layers have the styles of `seed`, the others those of `to`; the noise is that of `seed`. Answers come as
those of `serving.server.http.actions`.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.card import Ability, find_sampling
from serving.images import to_uint8
from serving.sampling.interpolation import interpolate
from serving.sampling.noise import draw
from serving.sampling.sampler import Sampler
from serving.server.http.actions import choose_format, encode_images
from serving.server.http.context import Server
from serving.server.http.decoding import Name, decode_json
from serving.server.naming import find_ability, require_model
from serving.server.repository import Repository
from serving.session import InputError


class BlendRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What both bodies hold; every field may be left out. start: the number of the image of both seeds."""

    seed: int = 0
    to: int = 1
    start: int = 0
    label: int | Name | None = None
    truncation: float | None = None
    format: Name | None = None


class InterpolateRequest(BlendRequest, forbid_unknown_fields=True):
    """The body of :interpolate."""

    position: float = 0.5


class MixRequest(BlendRequest, forbid_unknown_fields=True):
    """The body of :mix. layers: half of them when not given."""

    layers: int | None = None


def make_routes(server: Server) -> list[Route]:
    """The pages of these actions."""

    def page(action: Callable[..., tuple[bytes, str]]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            name = request.path_params["name"]
            require_model(server.repository, name)  # before the body is read
            body = await server.read_body(request)
            if request.query_params:
                raise InputError("the options of this action stand in the body, as JSON")
            accept = request.headers.get("accept", "")
            return server.answer(*await server.call(request, action, server.repository, name, body, accept))

        return answer

    return [
        Route("/v1/models/{name}:interpolate", page(interpolate_seeds), methods=["POST"]),
        Route("/v1/models/{name}:mix", page(mix_styles), methods=["POST"]),
    ]


def interpolate_seeds(repository: Repository, name: str, body: bytes, accept: str, **call: Any) -> tuple[bytes, str]:
    """Answer :interpolate with a file and its media type.

    Args:
        repository, name, accept, **call: as of `serving.server.http.actions.sample`.
        body: JSON, or nothing.

    Raises:
        InputError: the body is no such request, or not one that the model can answer.
        HTTPException, Exception: as of `serving.server.http.actions.sample`.
    """
    request = decode_json(body or b"{}", InterpolateRequest, "a request for an image between two seeds")
    file_format = choose_format(request.format, accept)
    served, ability = find_ability(repository, name)
    if "." not in name and find_sampling([ability]) is None:
        ability = find_sampling(served.abilities) or ability
    record = served.abilities[ability]
    if record.iteration is not UNSET:
        raise InputError(f"{name!r} draws a sample in many steps: nothing lies between two seeds of it")
    first, second = _make_both(record, request)
    feeds = interpolate(record.inputs, first, second, request.position)
    image = Sampler(record, dict).image
    found = served.infer(feeds, ability=ability, outputs=[image.name], **call)[image.name]
    return encode_images(to_uint8(found, image.range or (-1.0, 1.0)), file_format)


def mix_styles(repository: Repository, name: str, body: bytes, accept: str, **call: Any) -> tuple[bytes, str]:
    """Answer :mix with a file and its media type.

    Args:
        repository, name, body, accept, **call: as of `interpolate_seeds`.

    Raises:
        InputError: the body is no such request, or not one that the model can answer.
        HTTPException, Exception: as of `serving.server.http.actions.sample`.
    """
    request = decode_json(body or b"{}", MixRequest, "a request to mix the styles of two seeds")
    file_format = choose_format(request.format, accept)
    served, _ = find_ability(repository, name)
    if not {"map", "synthesize"} <= set(served.abilities):
        raise InputError(f"{name!r} mixes no styles: that takes map and synthesize, it has {sorted(served.abilities)}")
    mapping, synthesis = served.abilities["map"], served.abilities["synthesize"]
    style = next(spec for spec in synthesis.inputs if spec.feed == "style")
    output = next(spec for spec in mapping.outputs if spec.kind == "style")
    first, second = (
        served.infer(feeds, ability="map", outputs=[output.name], **call)[output.name]
        for feeds in _make_both(mapping, request)
    )
    count = first.shape[1]
    layers = count // 2 if request.layers is None else request.layers
    if not 0 <= layers <= count:
        raise InputError(f"layers={layers}: give 0 to {count}, how many have the style of the first seed")
    rows = range(request.start, request.start + 1)
    feeds = {spec.name: draw(spec, rows, request.seed) for spec in synthesis.inputs if spec.feed != "style"}
    feeds[style.name] = np.concatenate([first[:, :layers], second[:, layers:]], axis=1)
    image = Sampler(synthesis, dict).image
    found = served.infer(feeds, ability="synthesize", outputs=[image.name], **call)[image.name]
    return encode_images(to_uint8(found, image.range or (-1.0, 1.0)), file_format)


def _make_both(ability: Ability, request: BlendRequest) -> list[dict[str, np.ndarray]]:
    """What the ability takes for the one seed, and for the other."""
    sampler = Sampler(ability, dict)  # is asked for feeds alone: nothing is run
    options: dict[str, Any] = {"start": request.start, "labels": request.label, "truncation": request.truncation}
    return [sampler.make_feeds(1, seed, **options) for seed in (request.seed, request.to)]
