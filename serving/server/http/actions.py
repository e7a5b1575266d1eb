"""What people ask of a model, with files in and out.

    POST /v1/models/NAME:sample         {"count", "seed", "start", "label", "truncation", "steps"} -> an image or a grid
    POST /v1/models/NAME:reconstruct    an image file -> an image
    POST /v1/models/NAME:translate      an image file -> an image of the other collection
    POST /v1/models/NAME:upscale        an image file -> a larger image

NAME is a model, or NAME.ability to choose one of several. An image goes in as the body: PNG, JPEG or WebP. What comes
out is PNG, or, by the header Accept: application/x-npy, the pixels as a NumPy file; {"format": "npy"} of :sample and
?format=npy of the others say the same.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.card import Ability, find_sampling
from serving.images import save_grid, to_pil, to_uint8
from serving.sampling.noise import draw
from serving.sampling.sampler import make_label_rows
from serving.server.http.context import Server
from serving.server.http.decoding import Name, decode_json
from serving.server.http.uploads import PIXEL_LIMIT, open_image, read_images
from serving.server.naming import find_ability, require_model
from serving.server.repository import Repository
from serving.session import InputError
from serving.translation import Task, find_abilities

MEDIA_TYPES = {"png": "image/png", "npy": "application/x-npy"}


class SampleRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of :sample, every field of which may be left out: see `Sampler.sample`.

    label: one class, by name or number, for all images, or a list of one for each. columns: of the grid. format: png or
    npy; the header Accept says it otherwise.
    """

    count: int = 1
    seed: int = 0
    start: int = 0
    label: int | Name | list[int | Name] | None = None
    truncation: float | None = None
    steps: int | None = None
    columns: int | None = None
    format: Name | None = None


class ImageOptions(msgspec.Struct, forbid_unknown_fields=True):
    """The query of the actions that take an image.

    label: its class, for :reconstruct of a model that is told it. resize: whether :reconstruct scales an image of
    another size than the model's, where it is refused otherwise. format: png or npy.
    """

    label: Name | None = None
    resize: bool = False
    format: Name | None = None


def make_routes(server: Server) -> list[Route]:
    """The pages of these actions."""

    def page(action: Callable[..., tuple[bytes, str]], *arguments: Any) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            name = request.path_params["name"]
            require_model(server.repository, name)  # before the body is read
            if request.headers.get("content-type", "").startswith("multipart/"):
                raise HTTPException(415, "send the file itself as the body, as in curl --data-binary @image.png")
            asked = (*arguments, name, await server.read_body(request), request.query_params)
            accept = request.headers.get("accept", "")
            body, media_type = await server.call(request, action, server.repository, *asked, accept)
            return server.answer(body, media_type)

        return answer

    path, methods = "/v1/models/{name}", ["POST"]
    return [
        Route(f"{path}:sample", page(sample), methods=methods),
        Route(f"{path}:reconstruct", page(reconstruct), methods=methods),
        Route(f"{path}:translate", page(transform, "translate"), methods=methods),
        Route(f"{path}:upscale", page(transform, "upscale"), methods=methods),
    ]


def sample(
    repository: Repository, name: str, body: bytes, query: Mapping[str, str], accept: str, **call: Any
) -> tuple[bytes, str]:
    """Answer :sample with a file and its media type: the same images as `Sampler.sample` gives.

    One image comes as itself, several in a grid as `serving.images.make_grid` lays it out.

    Args:
        repository: of the models.
        name: NAME, or NAME.ability.
        body: JSON, or nothing.
        query: nothing.
        accept: the header Accept.
        **call: deadline and abandoned, as of `ServedModel.infer`.

    Raises:
        InputError: the body is no such request, or not one that the model can answer.
        HTTPException: 406 where the header accepts neither of the formats.
        Exception: as of `Repository.find` and `ServedModel.infer`.
    """
    if query:
        raise InputError("the options of :sample stand in the body, as JSON")
    request = decode_json(body or b"{}", SampleRequest, "a request for samples")
    file_format = choose_format(request.format, accept)
    served, ability = find_ability(repository, name)
    if "." not in name and find_sampling([ability]) is None:
        ability = find_sampling(served.abilities) or ability
    if request.columns is not None and not 1 <= request.columns <= request.count:
        raise InputError(f"columns={request.columns}: give 1 to {request.count}, the count of the images")
    given = {"labels": request.label, "truncation": request.truncation, "steps": request.steps}
    sampling: dict[str, Any] = {"count": request.count, "seed": request.seed, "start": request.start}
    sampling |= {key: value for key, value in given.items() if value is not None}
    ((name, images),) = served.infer({}, ability=ability, sampling=sampling, **call).items()
    image = next(spec for spec in served.abilities[ability].outputs if spec.name == name)
    assert image.range is not None  # the card holds this for an image
    return encode_images(to_uint8(images, image.range), file_format, request.columns)


def reconstruct(
    repository: Repository, name: str, body: bytes, query: Mapping[str, str], accept: str, **call: Any
) -> tuple[bytes, str]:
    """Answer :reconstruct with a file and its media type.

    Args:
        repository, name, accept, **call: as of `sample`.
        body: an image file.
        query: `ImageOptions`.

    Raises:
        InputError: it is no image that the model takes, or the model reconstructs none.
        HTTPException, Exception: as of `sample`.
    """
    options = _read_options(query)
    file_format = choose_format(options.format, accept)
    served, ability = find_ability(repository, name)
    if "." not in name and "reconstruct" in served.abilities:
        ability = "reconstruct"
    if ability != "reconstruct":
        raise InputError(f"{name!r} reconstructs no images: it has {sorted(served.abilities)}")
    record = served.abilities[ability]
    feeds = make_feeds(record, body, options)
    output = next(spec for spec in record.outputs if spec.kind in ("reconstruction", "image"))
    found = served.infer(feeds, ability=ability, outputs=[output.name], **call)[output.name]
    return encode_images(to_uint8(found, output.range or (-1.0, 1.0)), file_format)


def transform(
    repository: Repository,
    task: Task,
    name: str,
    body: bytes,
    query: Mapping[str, str],
    accept: str,
    **call: Any,
) -> tuple[bytes, str]:
    """Answer :translate and :upscale with a file and its media type.

    Args:
        repository, name, accept, **call: as of `sample`.
        task: which of the two.
        body: an image file.
        query: format alone.

    Raises:
        InputError: it is no image, has too many pixels, or the model does not do this.
        HTTPException, Exception: as of `sample`.
    """
    options = _read_options(query)
    if options.label is not None or options.resize:
        raise InputError(f":{task} takes no label and no resize: images have any size")
    file_format = choose_format(options.format, accept)
    served, ability = find_ability(repository, name)
    able = find_abilities(served.abilities, task)
    if "." not in name and ability not in able and able:
        ability = able[0]
    if ability not in able:
        raise InputError(f"{name!r} can't {task}: it has {sorted(served.abilities)}")
    scale = served.abilities[ability].scale
    image = open_image(body, pixels=PIXEL_LIMIT // scale**2)
    made = served.transform(task, image, ability=ability, **call)
    return encode_images(np.asarray(made)[None], file_format) if file_format == "npy" else _encode_png(made)


def make_feeds(ability: Ability, file: bytes, options: ImageOptions) -> dict[str, np.ndarray]:
    """What an ability takes of an image file: beside the image its label as asked for, noise of seed 0, no truncation.

    Raises:
        InputError: the image does not fit, a label is missing or not taken, or the ability takes something else.
    """
    feeds = {}
    if options.label is not None and "label" not in [spec.feed for spec in ability.inputs]:
        raise InputError("label: this model takes none, leave it out")
    for spec in ability.inputs:
        if spec.feed == "image":
            feeds[spec.name] = read_images([file], spec, resize=options.resize)
        elif spec.feed == "label":
            if options.label is None:
                raise InputError(f"say the class of the image: ?label= one of {list(spec.classes) or 'its number'}")
            named = options.label in spec.classes or not options.label.isdecimal()
            feeds[spec.name] = make_label_rows(spec, 1, options.label if named else int(options.label))
        elif spec.feed in ("normal", "uniform", "noise_map"):
            feeds[spec.name] = draw(spec, range(1), 0)
        elif spec.feed == "truncation":
            feeds[spec.name] = np.ones([1 if isinstance(size, str) else size for size in spec.shape], spec.dtype)
        else:
            raise InputError(f"input {spec.name!r} takes {spec.feed!r}, which no image gives: run the ability instead")
    return feeds


def choose_format(asked: str | None, accept: str) -> str:
    """png or npy: as asked for, or else the one that the header Accept likes best, png where it likes both.

    Raises:
        InputError: another one is asked for.
        HTTPException: 406 where the header takes neither.
    """
    if asked is not None:
        if asked not in MEDIA_TYPES:
            raise InputError(f"format={asked!r}: choose from {list(MEDIA_TYPES)}")
        return asked
    weights = dict.fromkeys(MEDIA_TYPES, 0.0 if accept.strip() else 1.0)
    for part in accept.split(","):
        media_type, _, parameters = part.partition(";")
        for format_, own in MEDIA_TYPES.items():
            if media_type.strip().lower() in (own, f"{own.partition('/')[0]}/*", "*/*"):
                weights[format_] = max(weights[format_], _read_weight(parameters))
    best = max(weights, key=lambda format_: weights[format_])
    if weights[best] == 0:
        raise HTTPException(406, f"the answer is one of {list(MEDIA_TYPES.values())}: accept one of them")
    return best


def _read_weight(parameters: str) -> float:
    """That of a part of the header Accept, 0 to 1."""
    weight = parameters.replace(" ", "").lower().partition("q=")[2].partition(";")[0]
    try:
        return min(max(float(weight), 0.0), 1.0) if weight else 1.0
    except ValueError:
        return 0.0


def encode_images(images: np.ndarray, file_format: str, columns: int | None = None) -> tuple[bytes, str]:
    """uint8 (count, height, width, channels), or one without channels, as a file with its media type."""
    file = io.BytesIO()
    if file_format == "npy":
        np.save(file, images)
    elif len(images) == 1:
        return _encode_png(to_pil(images)[0])
    else:
        save_grid(images, file, columns)
    return file.getvalue(), MEDIA_TYPES[file_format]


def _encode_png(image: Image.Image) -> tuple[bytes, str]:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue(), MEDIA_TYPES["png"]


def _read_options(query: Mapping[str, str]) -> ImageOptions:
    try:
        return msgspec.convert(dict(query), ImageOptions, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"the query is not one of this action: {error}") from error
