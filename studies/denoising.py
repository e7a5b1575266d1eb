"""How well do autoencoders remove noise and fill gaps, against filters that need no training?

    python -m studies.denoising
    python -m studies.denoising --denoisers denoising-autoencoder-fashion-mnist --deviations 0.1 0.25

noise: normal noise of some deviations, clipped. The median filter and non-local means are tuned on training images
with the same noise, for each deviation; non-local means are given the true deviation. gaps: a square, or single pixels,
are missing; filled by `zoo.applications.denoising.fill` from the training images' mean, by that mean, and by
biharmonic inpainting.

Writes results/denoising.csv, a row for each damage and method with the tuned arguments, and docs/denoising.png.
Rows that a call does not measure are kept; the figure is drawn by a call that made the images of all rows in the
table. PSNR of gaps is of the missing pixels alone.
"""

import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from serving.card import read_card
from serving.pipeline import Pipeline
from studies.figures import merge_rows, pyplot, read_table, write_table
from zoo.applications.denoising import (
    MEDIAN_GRID,
    NON_LOCAL_MEANS_GRID,
    add_noise,
    denoise,
    draw_missing_pixels,
    draw_missing_square,
    fill,
    filter_median,
    filter_non_local_means,
    inpaint,
    mask_pixels,
    measure_quality,
    tune,
)
from zoo.data.load import load_images
from zoo.pretrained import find_directory

MEASURES = ("psnr", "psnr_error", "ssim", "ssim_error")
COLUMNS = ("part", "damage", "method", "arguments", *MEASURES, "images")
KEYS = COLUMNS[:3]  # columns that identify a row
COLUMNS_DRAWN = 10  # images

Row = dict[str, Any]
Images = Mapping[str, np.ndarray]  # method -> brightness


@dataclass(frozen=True)
class Options:
    """One table."""

    data: str = "fashion_mnist"
    """The data set that the models were trained on; its test images are damaged."""
    denoisers: tuple[str, ...] = ("denoising-autoencoder-fashion-mnist", "autoencoder-fashion-mnist")
    """Presets with the ability reconstruct, or paths of exported ones."""
    fillers: tuple[str, ...] = ("autoencoder-fashion-mnist", "vae-fashion-mnist")
    """Those that fill gaps, likewise."""
    deviations: tuple[float, ...] = (0.1, 0.25, 0.5)
    """Standard deviations of the noise, in units of brightness."""
    side: int = 12
    """Side of the missing square, in pixels."""
    share: float = 0.5
    """Share of the pixels that are missing, where single ones are."""
    rounds: int = 100
    """Rounds of filling, at most."""
    count: int = 1_000
    """Test images."""
    tuning: int = 50
    """Training images that the filters are tuned on."""
    seed: int = 0
    """Of noise and gaps."""
    table: Path = Path("results/denoising.csv")
    """The table to write."""
    figure: Path = Path("docs/denoising.png")
    """The figure to draw."""


def main(options: Options) -> None:
    """Damage, restore, measure, write the table, draw."""
    console = Console(stderr=True)
    read_table(options.table, COLUMNS)  # refused before the work
    denoisers, fillers = (
        {Path(name).name: Pipeline.from_directory(find_directory(name), ability="reconstruct") for name in names}
        for names in (options.denoisers, options.fillers)
    )
    height, _, channels = read_card(find_directory(options.denoisers[0])).model["arguments"]["image_shape"]
    form = {"image_size": height, "channels": channels}
    training, test = (load_images(options.data, split=split, **form).images for split in ("train", "test"))
    clean, few = to_brightness(test[: options.count]), to_brightness(training[: options.tuning])
    mean = training.mean(axis=0, dtype=np.float64) / 255
    rows: list[Row] = []
    images: dict[str, Images] = {}
    for deviation in options.deviations:
        found, chosen = remove_noise(denoisers, clean, few, deviation, options.seed)
        damage = f"normal noise {deviation:g}"
        rows += [
            make_row("noise", damage, name, chosen.get(name, {}), clean, restored) for name, restored in found.items()
        ]
        images[damage] = found
    for damage, missing in {
        f"square {options.side}": draw_missing_square(clean.shape, options.side, options.seed),
        f"pixels {options.share:g}": draw_missing_pixels(clean.shape, options.share, options.seed),
    }.items():
        found = fill_gaps(fillers, clean, missing, mean, options.rounds)
        rows += [make_row("gaps", damage, name, {}, clean, restored, missing) for name, restored in found.items()]
        images[damage] = found
    table = merge_rows(read_table(options.table, COLUMNS), rows, KEYS)
    write_table(options.table, COLUMNS, table)
    if any(row not in rows for row in table):
        why = "the table has rows whose images this call did not make"
        console.print(f"{options.figure} is not drawn: {why}", highlight=False, soft_wrap=True)
    else:
        draw(clean, images, options)
    for row in rows:
        console.print(*(row[column] for column in COLUMNS), highlight=False, soft_wrap=True)


def to_brightness(images: np.ndarray) -> np.ndarray:
    """uint8 -> float32 from 0 to 1."""
    return images.astype(np.float32) / 255


def remove_noise(
    denoisers: Mapping[str, Pipeline], clean: np.ndarray, training: np.ndarray, deviation: float, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """Method -> images, the noisy ones first; method -> the arguments that tuning chose."""
    damaged, damaged_training = add_noise(clean, deviation, seed), add_noise(training, deviation, seed + 1)
    filters: dict[str, tuple[Callable[..., np.ndarray], Mapping[str, Any]]] = {
        "median": (filter_median, MEDIAN_GRID),
        "non-local means": (partial(filter_non_local_means, deviation=deviation), NON_LOCAL_MEANS_GRID),
    }
    chosen = {name: tune(method, grid, training, damaged_training) for name, (method, grid) in filters.items()}
    return {
        "noisy": damaged,
        **{name: method(damaged, **chosen[name]) for name, (method, _) in filters.items()},
        **{name: denoise(pipeline, damaged) for name, pipeline in denoisers.items()},
    }, chosen


def fill_gaps(
    fillers: Mapping[str, Pipeline], clean: np.ndarray, missing: np.ndarray, mean: np.ndarray, rounds: int
) -> dict[str, np.ndarray]:
    """Method -> images, those with black gaps first; the fillers do not see the missing pixels."""
    damaged = mask_pixels(clean, missing)
    return {
        "gaps": damaged,
        "mean": mask_pixels(damaged, missing, mean),
        "biharmonic": inpaint(damaged, missing),
        **{
            name: fill(pipeline, damaged, missing, start=mean, rounds=rounds).images
            for name, pipeline in fillers.items()
        },
    }


def make_row(
    part: str,
    damage: str,
    method: str,
    arguments: Mapping[str, Any],
    clean: np.ndarray,
    restored: np.ndarray,
    missing: np.ndarray | None = None,
) -> Row:
    """A row of the table."""
    measured = {name: f"{value:.4f}" for name, value in asdict(measure_quality(clean, restored, missing)).items()}
    written = " ".join(f"{name}={value}" for name, value in arguments.items())
    return {"part": part, "damage": damage, "method": method, "arguments": written, **measured, "images": len(clean)}


def draw(clean: np.ndarray, images: Mapping[str, Images], options: Options) -> None:
    """A block for each damage, two side by side: clean images, damaged ones, a row for each method."""
    plot = pyplot()
    figure = plot.figure(figsize=(12, 3.4 * math.ceil(len(images) / 2)), layout="constrained")
    for number, (damage, found) in enumerate(images.items(), start=1):
        axis = figure.add_subplot(math.ceil(len(images) / 2), 2, number)
        rows = {"clean": clean, **found}
        sheet = np.concatenate([np.concatenate(list(part[:COLUMNS_DRAWN]), axis=1) for part in rows.values()])
        axis.imshow(sheet.squeeze(), cmap="gray", vmin=0, vmax=1)
        height = clean.shape[1]
        labels = [textwrap.fill(name, 16) for name in rows]
        axis.set_yticks([height * (row + 0.5) for row in range(len(rows))], labels, fontsize=7)
        axis.set(title=damage, xticks=[])
    options.figure.parent.mkdir(exist_ok=True)
    figure.savefig(options.figure, dpi=100)
    plot.close(figure)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
