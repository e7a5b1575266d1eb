"""Latent spaces: interpolation, walks, traversals of single dimensions, planes, and projections of codes.

encode: images -> codes; decode: codes -> images, both float32, rows first. `make_encoder` and `make_decoder` make them
of an exported autoencoder or VAE.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from serving.pipeline import Pipeline
from zoo.evaluation.extractors import BATCH_SIZE
from zoo.metrics.checks import finite_rows, same_dimension
from zoo.metrics.latents import mean_posterior_divergences
from zoo.metrics.paths import lerp, slerp

Map = Callable[[np.ndarray], np.ndarray]
Numbers = Sequence[float] | np.ndarray
Curve = Literal["linear", "spherical"]

PATHS = {"linear": lerp, "spherical": slerp}
RESOLUTION = 1_000  # points of a segment by which a walk measures its length


@dataclass(frozen=True)
class Gaussians:
    """q(z|x) of some images: mean and scale (standard deviation), each (count, dimension)."""

    mean: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True)
class Scatter:
    """Codes in a plane.

    Args:
        points: (count, 2).
        labels: (count,), the class of each.
        explained: the share of the codes' variance along each of the two axes.
    """

    points: np.ndarray
    labels: np.ndarray
    explained: tuple[float, float]


# An exported model's maps


def make_encoder(pipeline: Pipeline, labels: np.ndarray | None = None) -> Map:
    """Images (count, height, width, channels) in [-1, 1] -> codes (count, dimension), of a VAE the means of q(z|x).

    Args:
        pipeline: opened with `ability="encode"`.
        labels: for a class-conditional encoder, one per image.

    Raises:
        ValueError: the pipeline does not map images to codes; it takes labels and none are given, or the reverse.
    """
    return _map_first_output(pipeline, "image", "code", labels)


def make_decoder(pipeline: Pipeline, labels: np.ndarray | None = None) -> Map:
    """Codes (count, dimension) -> images (count, height, width, channels) in [-1, 1].

    Args:
        pipeline: opened with `ability="decode"`.
        labels: for a class-conditional decoder, one per code.

    Raises:
        ValueError: as in `make_encoder`, images and codes exchanged.
    """
    return _map_first_output(pipeline, "code", "image", labels)


def infer_gaussians(pipeline: Pipeline, images: np.ndarray, labels: np.ndarray | None = None) -> Gaussians:
    """q(z|x) of images in [-1, 1] by a VAE's encoder; pipeline and labels as in `make_encoder`.

    Raises:
        ValueError: as in `make_encoder`; the encoder gives no mean and scale.
    """
    names = [output.name for output in pipeline.ability.outputs]
    if not {"mean", "scale"} <= set(names):
        raise ValueError(f"{pipeline.card.name} gives {names}: a VAE's encoder gives mean and scale.")
    found = _map_outputs(pipeline, "image", labels)(images)
    return Gaussians(found["mean"], found["scale"])


def _map_first_output(pipeline: Pipeline, feed: str, kind: str, labels: np.ndarray | None) -> Map:
    """From the input that takes `feed` to the first output of that kind."""
    name = next((output.name for output in pipeline.ability.outputs if output.kind == kind), None)
    if name is None:
        kinds = [output.kind for output in pipeline.ability.outputs]
        raise ValueError(f"{pipeline.card.name} gives {kinds}: open the ability that maps {feed} to {kind}.")
    run = _map_outputs(pipeline, feed, labels)
    return lambda rows: run(rows)[name]


def _map_outputs(
    pipeline: Pipeline, feed: str, labels: np.ndarray | None
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Numbers of the input that takes `feed` -> every output; in batches."""
    inputs, model = {spec.feed: spec for spec in pipeline.ability.inputs}, pipeline.card.name
    if feed not in inputs:
        raise ValueError(f"{model} takes {sorted(inputs)}: open the ability that takes {feed}.")
    if ("label" in inputs) != (labels is not None):
        raise ValueError(
            f"{model} is class-conditional: give labels." if labels is None else f"{model} takes no labels."
        )

    def run(rows: np.ndarray) -> dict[str, np.ndarray]:
        given = {feed: rows} if labels is None else {feed: rows, "label": labels}
        if labels is not None and len(labels) != len(rows):
            raise ValueError(f"{len(labels)} labels for {len(rows)} rows: give one per row.")
        feeds = {inputs[key].name: each.astype(inputs[key].dtype) for key, each in given.items()}
        return pipeline.run(feeds, batch_size=BATCH_SIZE)

    return run


# Paths


def interpolate(start: np.ndarray, end: np.ndarray, steps: int, kind: Curve = "linear") -> np.ndarray:
    """Codes from one to another, (steps, dimension), both ends as they are.

    Args:
        start: (dimension,).
        end: likewise.
        steps: how many, at least 2.
        kind: "linear", at equal distances; "spherical", at equal angles (arXiv:1609.04468), so that between ends of
            equal norm every norm is that one: where normal latents are, which the straight line leaves.

    Raises:
        ValueError: another kind, shapes that differ, NaN; an end at 0, which has no angle.
    """
    if kind not in PATHS:
        raise ValueError(f"kind={kind!r}: choose from {sorted(PATHS)}.")
    if steps < 2:
        raise ValueError(f"steps={steps}: both ends are included, give at least 2.")
    one, other = _require_code(start, "start"), _require_code(end, "end")
    same_dimension(one, other, "codes")
    if kind == "spherical" and not (one.any() and other.any()):
        raise ValueError('an end is 0, which has no angle to the other: choose kind="linear".')
    path = PATHS[kind](np.repeat(one, steps, axis=0), np.repeat(other, steps, axis=0), np.linspace(0.0, 1.0, steps))
    path[0], path[-1] = start, end  # not start + (end - start)
    return path


def walk(stops: np.ndarray, frames: int, kind: Curve = "linear") -> np.ndarray:
    """Codes along a closed path through all stops and back to the first, at constant speed: (frames, dimension).

    The first frame is the first stop. The way from the last frame to the first is as long as each of the others: played
    again and again, nothing jumps.

    Args:
        stops: (count, dimension), at least 2. Two of them make a way there and back.
        frames: how many, at least 2.
        kind: of each segment, as in `interpolate`.

    Raises:
        ValueError: another kind, too few stops or frames, NaN; stops that are all the same; one at 0 of spherical ones.
    """
    finite_rows(stops, "stops", least=2)
    if frames < 2:
        raise ValueError(f"frames={frames}: give at least 2.")
    ends = np.roll(stops, -1, axis=0)
    pairs = zip(stops.astype(np.float64), ends.astype(np.float64), strict=True)
    segments = [interpolate(start, end, RESOLUTION + 1, kind) for start, end in pairs]
    lengths = [measure_lengths(segment) for segment in segments]
    starts = np.concatenate([[0.0], np.cumsum([length[-1] for length in lengths])])
    if not starts[-1]:
        raise ValueError(f"{len(stops)} stops that are all the same: there is no way between them.")
    found = np.empty((frames, stops.shape[1]))
    for frame, place in enumerate(np.arange(frames) * (starts[-1] / frames)):
        number = min(int(np.searchsorted(starts, place, "right")) - 1, len(segments) - 1)
        share = np.interp(place - starts[number], lengths[number], np.linspace(0.0, 1.0, RESOLUTION + 1))
        found[frame] = PATHS[kind](stops[[number]], ends[[number]], np.array([share]))[0]
    return found


def measure_lengths(path: np.ndarray) -> np.ndarray:
    """The way from the first of some points to each of them, (count,)."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])


def interpolate_images(
    encode: Map, decode: Map, first: np.ndarray, second: np.ndarray, steps: int, kind: Curve = "linear"
) -> np.ndarray:
    """Decoded codes between those of two images, (steps, height, width, channels).

    Args:
        encode: images -> codes.
        decode: codes -> images.
        first: (height, width, channels).
        second: likewise.
        steps, kind: as in `interpolate`. The ends are the two images' reconstructions.

    Raises:
        ValueError: images of different shapes; as in `interpolate`.
    """
    if first.shape != second.shape or first.ndim != 3:
        raise ValueError(f"images {first.shape} and {second.shape}: give two of one (height, width, channels).")
    start, end = encode(np.stack([first, second]))
    return decode(interpolate(start, end, steps, kind))


# Single dimensions


def order_by_divergence(gaussians: Gaussians) -> np.ndarray:
    """The dimensions, the one of the largest mean KL(q(z|x) || N(0, 1)) over the images first."""
    return np.argsort(-mean_posterior_divergences(gaussians.mean, gaussians.scale), kind="stable")


def traverse(decode: Map, code: np.ndarray, dimensions: Numbers, values: Numbers) -> np.ndarray:
    """One row a dimension: the images of `code` with that dimension at each of the values, the others as they are.

    Args:
        decode: codes -> images.
        code: (dimension,).
        dimensions: numbers of dimensions, such as the first of `order_by_divergence`.
        values: what it is set to, from left to right.

    Returns:
        (len(dimensions), len(values), height, width, channels).

    Raises:
        ValueError: a dimension that the code does not have; nothing to draw.
    """
    (code,) = _require_code(code, "code")
    _check_dimensions(dimensions, len(code))
    if not len(values) or not len(dimensions):
        raise ValueError(f"{len(dimensions)} dimensions, {len(values)} values: give at least one of each.")
    codes = np.tile(code, (len(dimensions), len(values), 1))
    for row, dimension in enumerate(dimensions):
        codes[row, :, dimension] = values
    return _decode_grid(decode, codes)


# Planes


def decode_plane(decode: Map, quantiles: Numbers, dimension: int = 2, plane: tuple[int, int] = (0, 1)) -> np.ndarray:
    """The images over a plane of latents, at quantiles of N(0, 1) along both axes (arXiv:1312.6114, figure 4).

    Equal steps of quantiles are equal shares of the latents that sampling draws. Dimensions outside the plane are 0.

    Args:
        decode: codes -> images.
        quantiles: between 0 and 1, rising.
        dimension: of the latents.
        plane: the dimension that rises from left to right, and the one that rises from bottom to top.

    Returns:
        (len(quantiles), len(quantiles), height, width, channels), rows from the top.

    Raises:
        ValueError: quantiles that are none, or do not rise; a plane that the latents do not have.
    """
    shares = np.asarray(quantiles, np.float64)
    inside = shares.ndim == 1 and len(shares) and ((shares > 0) & (shares < 1)).all()
    if not inside or (np.diff(shares) <= 0).any():
        raise ValueError(f"quantiles={list(quantiles)}: give rising numbers between 0 and 1, both left out.")
    _check_plane(plane, dimension)
    values = np.array([NormalDist().inv_cdf(share) for share in shares])
    codes = np.zeros((len(values), len(values), dimension))
    codes[..., plane[0]] = values
    codes[..., plane[1]] = values[::-1, None]
    return _decode_grid(decode, codes)


def project_codes(codes: np.ndarray, labels: np.ndarray, plane: tuple[int, int] | None = None) -> Scatter:
    """Where images' codes lie in a plane of two dimensions, or in that of their first two principal components.

    Args:
        codes: (count, dimension of at least 2) float, at least two rows.
        labels: (count,).
        plane: two dimensions, as in `decode_plane`; None for the principal components.

    Raises:
        ValueError: shapes that do not fit, NaN, a plane that the codes do not have, codes that are all the same.
    """
    finite_rows(codes, "codes", least=2)
    if labels.shape != (len(codes),):
        raise ValueError(f"labels {labels.shape} for {len(codes)} codes: give one per row.")
    if codes.shape[1] < 2:
        raise ValueError("codes of dimension 1: a plane needs 2.")
    spread = codes.var(axis=0, dtype=np.float64).sum()
    if not spread:
        raise ValueError(f"{len(codes)} codes that are all the same: they have no plane.")
    if plane is None:
        from sklearn.decomposition import PCA  # the extra "applications": paths need none

        points = PCA(2, svd_solver="full").fit_transform(codes)
    else:
        _check_plane(plane, codes.shape[1])
        points = codes[:, list(plane)]
    across, up = points.var(axis=0, dtype=np.float64) / spread
    return Scatter(points, labels, (float(across), float(up)))


def _require_code(code: np.ndarray, what: str) -> np.ndarray:
    """(dimension,) -> (1, dimension) float64, once it is known to be finite."""
    if code.ndim != 1:
        raise ValueError(f"{what} {code.shape}: give one code, (dimension,).")
    return finite_rows(code[None].astype(np.float64), what)


def _check_dimensions(dimensions: Numbers, count: int) -> None:
    outside = [each for each in dimensions if not 0 <= each < count]
    if outside:
        raise ValueError(f"dimensions {outside}: the code has 0 to {count - 1}.")


def _check_plane(plane: tuple[int, int], count: int) -> None:
    _check_dimensions(plane, count)
    if len(plane) != 2 or plane[0] == plane[1]:
        raise ValueError(f"plane={plane}: give two different dimensions.")


def _decode_grid(decode: Map, codes: np.ndarray) -> np.ndarray:
    """(rows, columns, dimension) -> (rows, columns, height, width, channels)."""
    rows, columns, dimension = codes.shape
    images = decode(codes.reshape(-1, dimension).astype(np.float32))
    return images.reshape(rows, columns, *images.shape[1:])
