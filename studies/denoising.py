"""ImageSet without their noise and without their gaps: autoencoders against filters that need no training.

    python -m studies.denoising
    python -m studies.denoising --denoisers denoising-autoencoder-fashion-mnist --deviations 0.1 0.25

noise: normal noise of some deviations, clipped. The median filter and non-local means are tuned on training images
with the same noise, for each deviation; non-local means are told the true deviation. gaps: a square, or single pixels,
are missing; filled by `zoo.applications.denoising.fill` from the training images' mean, by that mean, and by
biharmonic inpainting.

Writes results/denoising.csv, a row a damage and method with the arguments that tuning chose, and docs/denoising.png.
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
from studies.figures import merged, pyplot, read_table, write_table
from zoo.applications.denoising import (
    MEDIAN_GRID,
    NON_LOCAL_MEANS_GRID,
    denoise,
    fill,
    inpaint,
    masked,
    median,
    missing_pixels,
    missing_square,
    noisy,
    non_local_means,
    quality,
    tuned,
)
from zoo.data.load import load_images
from zoo.pretrained import find_directory

MEASURES = ("psnr", "psnr_error", "ssim", "ssim_error")
COLUMNS = ("part", "damage", "method", "arguments", *MEASURES, "images")
KEYS = COLUMNS[:3]  # what tells a row from others
COLUMNS_DRAWN = 10  # images

Row = dict[str, Any]
Shown = Mapping[str, np.ndarray]  # method -> brightness


@dataclass(frozen=True)
class Options:
    """One table."""

    data: str = "fashion_mnist"
    """What the models were trained on; its test images are damaged."""
    denoisers: tuple[str, ...] = ("denoising-autoencoder-fashion-mnist", "autoencoder-fashion-mnist")
    """Presets with the ability reconstruct, or paths of exported ones."""
    fillers: tuple[str, ...] = ("autoencoder-fashion-mnist", "vae-fashion-mnist")
    """Those that fill gaps."""
    deviations: tuple[float, ...] = (0.1, 0.25, 0.5)
    """Of the noise, in units of brightness."""
    side: int = 12
    """Of the missing square, pixels."""
    share: float = 0.5
    """Of the pixels, where single ones are missing."""
    rounds: int = 100
    """At most so many fill a gap."""
    count: int = 1_000
    """Test images."""
    tuning: int = 50
    """Training images that the filters are tuned on."""
    seed: int = 0
    """Of noise and gaps."""
    table: Path = Path("results/denoising.csv")
    """What is measured."""
    figure: Path = Path("docs/denoising.png")
    """And drawn."""


def main(options: Options) -> None:
    """Damage, mend, measure, write the table, draw."""
    console = Console(stderr=True)
    read_table(options.table, COLUMNS)  # refused before the work
    denoisers, fillers = (
        {Path(name).name: Pipeline.from_directory(find_directory(name), ability="reconstruct") for name in names}
        for names in (options.denoisers, options.fillers)
    )
    height, _, channels = read_card(find_directory(options.denoisers[0])).model["arguments"]["image_shape"]
    form = {"image_size": height, "channels": channels}
    training, test = (load_images(options.data, split=split, **form).images for split in ("train", "test"))
    clean, few = brightness(test[: options.count]), brightness(training[: options.tuning])
    mean = training.mean(axis=0, dtype=np.float64) / 255
    rows: list[Row] = []
    shown: dict[str, Shown] = {}
    for deviation in options.deviations:
        found, chosen = without_noise(denoisers, clean, few, deviation, options.seed)
        damage = f"normal noise {deviation:g}"
        rows += [row_of("noise", damage, name, chosen.get(name, {}), clean, mended) for name, mended in found.items()]
        shown[damage] = found
    for damage, missing in {
        f"square {options.side}": missing_square(clean.shape, options.side, options.seed),
        f"pixels {options.share:g}": missing_pixels(clean.shape, options.share, options.seed),
    }.items():
        found = without_gaps(fillers, clean, missing, mean, options.rounds)
        rows += [row_of("gaps", damage, name, {}, clean, mended, missing) for name, mended in found.items()]
        shown[damage] = found
    table = merged(read_table(options.table, COLUMNS), rows, KEYS)
    write_table(options.table, COLUMNS, table)
    if any(row not in rows for row in table):
        why = "the table has rows whose images were not made now"
        console.print(f"{options.figure} is not drawn: {why}", highlight=False, soft_wrap=True)
    else:
        draw(clean, shown, options)
    for row in rows:
        console.print(*(row[column] for column in COLUMNS), highlight=False, soft_wrap=True)


def brightness(images: np.ndarray) -> np.ndarray:
    """uint8 -> float32 from 0 to 1."""
    return images.astype(np.float32) / 255


def without_noise(
    denoisers: Mapping[str, Pipeline], clean: np.ndarray, training: np.ndarray, deviation: float, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """Method -> images, the noisy ones first; method -> the arguments that tuning chose."""
    damaged, practice = noisy(clean, deviation, seed), noisy(training, deviation, seed + 1)
    filters: dict[str, tuple[Callable[..., np.ndarray], Mapping[str, Any]]] = {
        "median": (median, MEDIAN_GRID),
        "non-local means": (partial(non_local_means, deviation=deviation), NON_LOCAL_MEANS_GRID),
    }
    chosen = {name: tuned(method, grid, training, practice) for name, (method, grid) in filters.items()}
    return {
        "noisy": damaged,
        **{name: method(damaged, **chosen[name]) for name, (method, _) in filters.items()},
        **{name: denoise(pipeline, damaged) for name, pipeline in denoisers.items()},
    }, chosen


def without_gaps(
    fillers: Mapping[str, Pipeline], clean: np.ndarray, missing: np.ndarray, mean: np.ndarray, rounds: int
) -> dict[str, np.ndarray]:
    """Method -> images, those with black gaps first; the fillers see nothing of what is missing."""
    damaged = masked(clean, missing)
    return {
        "gaps": damaged,
        "mean": masked(damaged, missing, mean),
        "biharmonic": inpaint(damaged, missing),
        **{
            name: fill(pipeline, damaged, missing, start=mean, rounds=rounds).images
            for name, pipeline in fillers.items()
        },
    }


def row_of(
    part: str,
    damage: str,
    method: str,
    arguments: Mapping[str, Any],
    clean: np.ndarray,
    mended: np.ndarray,
    missing: np.ndarray | None = None,
) -> Row:
    """A row of the table."""
    measured = {name: f"{value:.4f}" for name, value in asdict(quality(clean, mended, missing)).items()}
    written = " ".join(f"{name}={value}" for name, value in arguments.items())
    return {"part": part, "damage": damage, "method": method, "arguments": written, **measured, "images": len(clean)}


def draw(clean: np.ndarray, shown: Mapping[str, Shown], options: Options) -> None:
    """A block for each damage, two side by side: clean images, damaged ones, a row for each method."""
    plot = pyplot()
    figure = plot.figure(figsize=(12, 3.4 * math.ceil(len(shown) / 2)), layout="constrained")
    for number, (damage, found) in enumerate(shown.items(), start=1):
        axis = figure.add_subplot(math.ceil(len(shown) / 2), 2, number)
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
