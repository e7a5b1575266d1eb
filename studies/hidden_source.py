"""Does a translator hide its source in the translation, too faint to be seen (arXiv:1712.02950)?

    python -m studies.hidden_source cyclegan-blob-to-noto
    python -m studies.hidden_source run-1/export run-2/export --data emoji-blob2noto-64.zip

A cycle loss is low, too, where G(a) holds a code of a that F reads: a signal of a gray level or two, by which F gives
back what the translation does not show. Normal noise of a few gray levels destroys such a code, and leaves what can be
seen. So held-out images are translated, noise is added, and they are translated back: `cycle` is the mean of
|F(G(a) + noise) - a|, `ratio` that over the same without noise, and `control` the mean of |F(b + noise) - F(b)|, what
the same noise does to the translation of a real image of B. All in brightness, 0 to 1; likewise from B to A.

Writes results/hidden_source.csv and docs/hidden_source.png.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from serving.card import read_card
from serving.pipeline import Pipeline
from studies.figures import pyplot, write_table
from zoo.data.images import to_float32
from zoo.data.load import load_collections
from zoo.metrics.fidelity import absolute_errors
from zoo.pretrained import find_directory

LEVELS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)  # standard deviations of the noise, gray levels of 255
WAYS = ("a_to_b", "b_to_a")
COLUMNS = ("model", "first", "noise", "cycle", "cycle_std", "ratio", "control", "images", "seed")
BATCH_SIZE = 50
Translate = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Options:
    """Translators, and their images."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = ("cyclegan-blob-to-noto",)
    """Presets, runs or exported directories, with both directions."""
    data: str = ""
    """The two collections, whose held-out images are translated; by default those of the first one's card."""
    seed: int = 0
    """Of the noise."""
    table: Path = Path("results/hidden_source.csv")
    """The table to write."""
    figure: Path = Path("docs/hidden_source.png")
    """The figure to write."""


def measure(
    forth: Translate, back: Translate, images: np.ndarray, others: np.ndarray, seed: int
) -> Iterator[dict[str, float]]:
    """A row for each level of noise.

    Args:
        forth: G, images (count, height, width, channels) in [-1, 1] -> translations, likewise.
        back: F.
        images: held-out ones of G's collection.
        others: held-out ones of F's.
        seed: of the noise, whose pattern is the same at every level.
    """
    translated, unmoved = forth(images), back(others)
    random = np.random.default_rng(seed)
    patterns = [random.standard_normal(each.shape).astype(np.float32) for each in (translated, others)]
    least = None
    for level in LEVELS:
        deviation = np.float32(level / 127.5)
        noisy, control = (
            np.clip(each + deviation * pattern, -1.0, 1.0)
            for each, pattern in zip((translated, others), patterns, strict=True)
        )
        errors = absolute_errors(back(noisy), images)
        least = errors.mean() if least is None else least
        yield {
            "noise": level,
            "cycle": round(float(errors.mean()), 5),
            "cycle_std": round(float(errors.std(ddof=1) / len(errors) ** 0.5), 5),
            "ratio": round(float(errors.mean() / least), 4),
            "control": round(float(absolute_errors(back(control), unmoved).mean()), 5),
        }


def open_translator(directory: Path, direction: str) -> Translate:
    """One direction on ONNX Runtime."""
    pipeline = Pipeline.from_directory(directory, ability=f"translate_{direction}")
    return lambda images: pipeline.run({"image": images}, batch_size=BATCH_SIZE)["translation"]


def main(options: Options) -> None:
    """Measure every model; write table and figure."""
    rows: list[dict[str, Any]] = []
    for name in options.names:
        directory = find_directory(name)
        card = read_card(directory)
        size, _, channels = card.model["arguments"]["image_shape"]
        fit = card.recipe.get("fit", "crop")
        sets = load_collections(
            options.data or card.data.source, held_out=True, paired=False, image_size=size, channels=channels, fit=fit
        )
        a, b = (to_float32(each.images) for each in sets)
        a_to_b, b_to_a = (open_translator(directory, way) for way in WAYS)
        for first, parts in zip(WAYS, ((a_to_b, b_to_a, a, b), (b_to_a, a_to_b, b, a)), strict=True):
            facts = {"model": card.name, "first": first, "images": len(parts[2]), "seed": options.seed}
            rows += [{**facts, **row} for row in measure(*parts, options.seed)]
    write_table(options.table, COLUMNS, rows)
    draw(rows, options.figure)


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A panel for each direction: the cycle's error over the noise, dashed what the noise does to real images."""
    figure, axes = pyplot().subplots(1, len(WAYS), figsize=(9, 3.6), layout="constrained", sharey=True)
    for axis, first in zip(axes, WAYS, strict=True):
        for number, model in enumerate(dict.fromkeys(row["model"] for row in rows)):
            chosen = [row for row in rows if (row["model"], row["first"]) == (model, first)]
            levels = [row["noise"] for row in chosen]
            axis.plot(levels, [row["cycle"] for row in chosen], f"C{number}o-", label=f"{model}: there and back")
            axis.plot(levels, [row["control"] for row in chosen], f"C{number}--", label="change of a real image's")
        axis.set_title("A to B and back" if first == "a_to_b" else "B to A and back", fontsize=10)
        axis.set_xlabel("noise on the translation, gray levels")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("mean absolute error, brightness 0 to 1")
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
