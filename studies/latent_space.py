"""What do the latents of VAEs encode: paths, single dimensions, a plane, and one latent under every label?

    python -m studies.latent_space
    python -m studies.latent_space --dimensions vae-fashion-mnist

Draws docs/latents.png; it measures nothing and writes no table. Test images are the ends of the paths; the dimensions
are those of the largest divergence from the prior; each row of a conditional VAE is one latent under every label.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from serving.images import make_grid, to_uint8
from serving.pipeline import Pipeline
from studies.figures import pyplot
from studies.representation import Labeled, find_source, load
from zoo.applications.latents import (
    Scatter,
    decode_plane,
    infer_gaussians,
    interpolate_images,
    make_decoder,
    make_encoder,
    order_by_divergence,
    project_codes,
    traverse,
)
from zoo.data.images import to_float32
from zoo.metrics.latents import mean_posterior_divergences
from zoo.pretrained import find_directory

STEPS = 10  # of a path, and of a traversal
LIMIT = 3.0  # of a traversal, in deviations of the prior
QUANTILES = np.linspace(0.05, 0.95, 13)
POINTS = 2_000  # of the scatter, and images that the divergences are taken over


@dataclass(frozen=True)
class Options:
    """One figure."""

    paths: str = "vae-fashion-mnist"
    """The VAE whose test images are interpolated; by preset name or exported directory, as are the others."""
    dimensions: str = "beta-vae-fashion-mnist"
    """The VAE whose single dimensions and whose plane are drawn."""
    labels: str = "cvae-mnist"
    """The conditional VAE."""
    rows: int = 6
    """Paths, dimensions and latents."""
    figure: Path = Path("docs/latents.png")
    """The figure to draw."""


def main(options: Options) -> None:
    """Draw."""
    plot = pyplot()
    figure, axes = plot.subplots(2, 3, figsize=(15, 8.6), layout="constrained")
    (linear, spherical, traversal), (grid_axis, plane, labels) = axes
    for axis, kind in ((linear, "linear"), (spherical, "spherical")):
        show(axis, make_paths(options.paths, options.rows, kind), f"{Path(options.paths).name}: {kind} paths")
    draw_dimensions(traversal, grid_axis, plane, options)
    show(
        labels,
        decode_every_label(options.labels, options.rows),
        f"{Path(options.labels).name}: one latent per row, all labels",
    )
    options.figure.parent.mkdir(exist_ok=True)
    figure.savefig(options.figure, dpi=80)
    plot.close(figure)


def make_paths(preset: str, count: int, kind: Any) -> np.ndarray:
    """(count, STEPS, height, width, channels): the first test images, each with the next one of another class."""
    encoder, decoder, image_set = open_maps(preset)
    images, ends = to_float32(image_set.images), [0]
    while len(ends) <= count:
        ends.append(ends[-1] + 1 + int(np.argmax(image_set.labels[ends[-1] + 1 :] != image_set.labels[ends[-1]])))
    return np.stack(
        [
            interpolate_images(make_encoder(encoder), make_decoder(decoder), images[first], images[second], STEPS, kind)
            for first, second in pairwise(ends)
        ]
    )


def draw_dimensions(traversal: Any, grid_axis: Any, plane: Any, options: Options) -> None:
    """One VAE: its dimensions one by one, the plane of the first two, and where the test images lie in it."""
    encoder, decoder, image_set = open_maps(options.dimensions)
    decode, gaussians = make_decoder(decoder), infer_gaussians(encoder, to_float32(image_set.images[:POINTS]))
    order, nats = order_by_divergence(gaussians), mean_posterior_divergences(gaussians.mean, gaussians.scale)
    across, up, *_ = (int(each) for each in order)
    chosen = order[: options.rows]
    sheet = traverse(decode, gaussians.mean[0], chosen, np.linspace(-LIMIT, LIMIT, STEPS))
    divergence_text = ", ".join(f"{nats[each]:.2f}" for each in chosen)
    show(
        traversal,
        sheet,
        f"{Path(options.dimensions).name}: one dimension per row, -{LIMIT:g} to {LIMIT:g}\nKL {divergence_text} nats",
    )
    sheet = decode_plane(decode, QUANTILES, len(order), plane=(across, up))
    show(grid_axis, sheet, f"dimensions {across} and {up}, quantiles {QUANTILES[0]:g} to {QUANTILES[-1]:g}, others 0")
    draw_scatter(plane, project_codes(gaussians.mean, image_set.labels[:POINTS], (across, up)), image_set.class_names)
    plane.set(xlabel=f"mean of dimension {across}", ylabel=f"mean of dimension {up}")
    plane.set_title("test images in that plane", fontsize=9)


def draw_scatter(axis: Any, scatter: Scatter, names: tuple[str, ...]) -> None:
    """Points, a color for each class."""
    for number, name in enumerate(names):
        axis.plot(*scatter.points[scatter.labels == number].T, ".", markersize=3, label=name, color=f"C{number}")
    axis.legend(fontsize=7, markerscale=3, frameon=False, ncols=2)


def decode_every_label(preset: str, count: int) -> np.ndarray:
    """(count, classes, height, width, channels): the latents of the first test images, decoded under each label."""
    encoder, decoder, image_set = open_maps(preset)
    codes = make_encoder(encoder, image_set.labels[:count])(to_float32(image_set.images[:count]))
    classes = np.arange(len(image_set.class_names))
    decode = make_decoder(decoder, np.tile(classes, count))
    sheet = decode(np.repeat(codes, len(classes), axis=0))
    return sheet.reshape(count, len(classes), *sheet.shape[1:])


def open_maps(preset: str) -> tuple[Pipeline, Pipeline, Labeled]:
    """A preset's encoder and decoder, and the test images of its data set."""
    directory = find_directory(preset)
    encoder, decoder = (Pipeline.from_directory(directory, ability=ability) for ability in ("encode", "decode"))
    return encoder, decoder, load(*find_source(encoder), "test")


def show(axis: Any, sheet: np.ndarray, title: str) -> None:
    """(rows, columns, height, width, channels) in [-1, 1] as one image."""
    rows, columns, *shape = sheet.shape
    pixels = make_grid(to_uint8(sheet.reshape(rows * columns, *shape), (-1.0, 1.0)), columns)
    axis.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255)
    axis.set_title(title, fontsize=9)
    axis.axis("off")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
