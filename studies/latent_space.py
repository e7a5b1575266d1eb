"""What lies between, beside and behind the codes of VAEs: paths, single dimensions, a map, a digit in every class.

    python -m studies.latent_space
    python -m studies.latent_space --dimensions vae-fashion-mnist

Writes docs/latents.png and measures nothing. Test images stand at the ends of the paths; the dimensions are those of
the largest divergence from the prior; each row of a conditional VAE is one latent under every label.
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
from studies.representation import Labeled, load, source_of
from zoo.applications.latents import (
    Scatter,
    by_divergence,
    decoder_of,
    encoder_of,
    gaussians_of,
    interpolate_images,
    latent_map,
    scatter,
    traverse,
)
from zoo.data.images import to_float32
from zoo.metrics.latents import divergences
from zoo.pretrained import find_directory

STEPS = 10  # of a path, and of a traversal
REACH = 3.0  # of a traversal, in deviations of the prior
QUANTILES = np.linspace(0.05, 0.95, 13)
POINTS = 2_000  # of the scatter, and images that the divergences are taken over


@dataclass(frozen=True)
class Options:
    """One figure."""

    paths: str = "vae-fashion-mnist"
    """The VAE whose images are joined; by name or exported directory, as are the others."""
    dimensions: str = "beta-vae-fashion-mnist"
    """The VAE whose single dimensions and whose map are drawn."""
    labels: str = "cvae-mnist"
    """The conditional VAE."""
    rows: int = 6
    """Paths, dimensions and latents."""
    figure: Path = Path("docs/latents.png")
    """What is drawn."""


def main(options: Options) -> None:
    """Draw."""
    plot = pyplot()
    figure, axes = plot.subplots(2, 3, figsize=(15, 8.6), layout="constrained")
    (linear, spherical, traversal), (area, plane, told) = axes
    for axis, kind in ((linear, "linear"), (spherical, "spherical")):
        show(axis, paths(options.paths, options.rows, kind), f"{Path(options.paths).name}: {kind} paths")
    draw_dimensions(traversal, area, plane, options)
    show(
        told,
        every_label(options.labels, options.rows),
        f"{Path(options.labels).name}: one latent a row, all labels",
    )
    options.figure.parent.mkdir(exist_ok=True)
    figure.savefig(options.figure, dpi=80)
    plot.close(figure)


def paths(preset: str, count: int, kind: Any) -> np.ndarray:
    """(count, STEPS, height, width, channels): the first test images, each joined to the next of another class."""
    there, back, image_set = maps_of(preset)
    shown_images, ends = to_float32(image_set.images), [0]
    while len(ends) <= count:
        ends.append(ends[-1] + 1 + int(np.argmax(image_set.labels[ends[-1] + 1 :] != image_set.labels[ends[-1]])))
    return np.stack(
        [
            interpolate_images(
                encoder_of(there), decoder_of(back), shown_images[first], shown_images[second], STEPS, kind
            )
            for first, second in pairwise(ends)
        ]
    )


def draw_dimensions(traversal: Any, area: Any, plane: Any, options: Options) -> None:
    """One VAE: its dimensions one by one, the plane of the first two, and where the test images lie in it."""
    there, back, image_set = maps_of(options.dimensions)
    decode, gaussians = decoder_of(back), gaussians_of(there, to_float32(image_set.images[:POINTS]))
    order, nats = by_divergence(gaussians), divergences(gaussians.mean, gaussians.scale)
    across, up, *_ = (int(each) for each in order)
    chosen = order[: options.rows]
    sheet = traverse(decode, gaussians.mean[0], chosen, np.linspace(-REACH, REACH, STEPS))
    said = ", ".join(f"{nats[each]:.2f}" for each in chosen)
    show(
        traversal,
        sheet,
        f"{Path(options.dimensions).name}: one dimension a row, -{REACH:g} to {REACH:g}\nKL {said} nats",
    )
    sheet = latent_map(decode, QUANTILES, len(order), plane=(across, up))
    show(area, sheet, f"dimensions {across} and {up}, quantiles {QUANTILES[0]:g} to {QUANTILES[-1]:g}, others 0")
    draw_scatter(plane, scatter(gaussians.mean, image_set.labels[:POINTS], (across, up)), image_set.class_names)
    plane.set(xlabel=f"mean of dimension {across}", ylabel=f"mean of dimension {up}")
    plane.set_title("test images in that plane", fontsize=9)


def draw_scatter(axis: Any, found: Scatter, names: tuple[str, ...]) -> None:
    """Points, a color a class."""
    for number, name in enumerate(names):
        axis.plot(*found.points[found.labels == number].T, ".", markersize=3, label=name, color=f"C{number}")
    axis.legend(fontsize=7, markerscale=3, frameon=False, ncols=2)


def every_label(preset: str, count: int) -> np.ndarray:
    """(count, classes, height, width, channels): the latents of the first test images, decoded under each label."""
    there, back, image_set = maps_of(preset)
    codes = encoder_of(there, image_set.labels[:count])(to_float32(image_set.images[:count]))
    classes = np.arange(len(image_set.class_names))
    decode = decoder_of(back, np.tile(classes, count))
    sheet = decode(np.repeat(codes, len(classes), axis=0))
    return sheet.reshape(count, len(classes), *sheet.shape[1:])


def maps_of(preset: str) -> tuple[Pipeline, Pipeline, Labeled]:
    """Its encoder and decoder, and the test images of what it learned from."""
    directory = find_directory(preset)
    there, back = (Pipeline.from_directory(directory, ability=ability) for ability in ("encode", "decode"))
    return there, back, load(*source_of(there), "test")


def show(axis: Any, sheet: np.ndarray, title: str) -> None:
    """(rows, columns, height, width, channels) in [-1, 1] as one image."""
    rows, columns, *shape = sheet.shape
    pixels = make_grid(to_uint8(sheet.reshape(rows * columns, *shape), (-1.0, 1.0)), columns)
    axis.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255)
    axis.set_title(title, fontsize=9)
    axis.axis("off")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
