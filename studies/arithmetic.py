"""Latent arithmetic (DCGAN, arXiv:1511.06434, section 6.3.2), counted: does z - mean_a + mean_b show a b?

    python -m studies.arithmetic
    python -m studies.arithmetic --preset lsgan-fashion-mnist

A data set's classifier says what each latent's image shows; mean_c is the mean of those latents whose image shows c
most plainly, by the classifier's probability (the paper's authors chose theirs by eye).
For each pair of classes, latents of others than those the means are made of, whose image shows an a, are moved by
mean_b - mean_a, and by as much in a random direction. Everything runs on ONNX Runtime.

Writes results/arithmetic.csv: a row a pair, `moved` and `random` the shares whose image then shows a b.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console

from serving.pipeline import Pipeline
from serving.sampling.noise import draw
from studies.figures import write_table
from zoo.data.images import center_crop, iterate_chunks
from zoo.evaluation.extractors import BATCH_SIZE, ClassifierExtractor
from zoo.pretrained import find_directory

COLUMNS = ("preset", "classifier", "from", "to", "latents", "moved", "random")


@dataclass(frozen=True)
class Options:
    """One table."""

    preset: str = "dcgan-fashion-mnist"
    """Whose latents."""
    classifier: str = "cnn-fashion-mnist"
    """What tells classes apart."""
    latents: int = 20_000
    """Of which the means are made."""
    plainest: float = 0.2
    """The share of a class's latents that its mean is made of."""
    each: int = 60
    """Latents moved, for each pair of classes."""
    table: Path = Path("results/arithmetic.csv")
    """What is measured."""


class Seen:
    """Latents -> the probabilities of the classes that their images may show."""

    def __init__(self, preset: str, classifier: str) -> None:
        self.pipeline = Pipeline.from_directory(find_directory(preset))
        self.extractor = ClassifierExtractor(find_directory(classifier))
        (self.latent,) = self.pipeline.ability.inputs

    def __call__(self, latents: np.ndarray) -> np.ndarray:
        """(count, dimension) -> (count, classes)."""
        height, width, _ = self.extractor.image.row
        parts = []
        for part in iterate_chunks(latents.astype(np.float32), BATCH_SIZE):
            images = self.pipeline.run({self.latent.name: part})[self.pipeline.sampler.image.name]
            parts.append(self.extractor(np.clip(center_crop(images, height, width), -1.0, 1.0))[1])
        return np.concatenate(parts)

    def draw(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Latents of a seed, and the probabilities of their classes."""
        latents = draw(self.latent, range(count), seed).astype(np.float64)
        return latents, self(latents)


def mean_of(latents: np.ndarray, probabilities: np.ndarray, number: int, share: float) -> np.ndarray:
    """The mean latent of a class, (dimension,): of the `share` of its latents that show it most plainly."""
    members = np.flatnonzero(probabilities.argmax(axis=1) == number)
    if not len(members):
        raise ValueError(f"none of {len(latents)} images shows class {number}: its mean latent is not known.")
    surest = members[np.argsort(-probabilities[members, number], kind="stable")]
    return latents[surest[: max(1, round(share * len(members)))]].mean(axis=0)


def main(options: Options) -> None:
    """Count, write the table, say what it comes to."""
    seen, random = Seen(options.preset, options.classifier), np.random.default_rng(0)
    latents, probabilities = seen.draw(options.latents, seed=0)
    count = seen.extractor.classes
    means = np.stack([mean_of(latents, probabilities, number, options.plainest) for number in range(count)])
    others, shown = seen.draw(options.latents // 2, seed=1)
    shown = shown.argmax(axis=1)
    rows = []
    for a in range(count):
        start = others[shown == a][: options.each]
        for b in range(count):
            if a == b or not len(start):
                continue
            step = means[b] - means[a]
            directions = random.standard_normal(start.shape)
            directions *= np.linalg.norm(step) / np.linalg.norm(directions, axis=1, keepdims=True)
            shares = [float((seen(start + move).argmax(axis=1) == b).mean()) for move in (step, directions)]
            row = (options.preset, options.classifier, a, b, len(start), *(f"{share:.4f}" for share in shares))
            rows.append(dict(zip(COLUMNS, row, strict=True)))
    write_table(options.table, COLUMNS, rows)
    means_of = {name: np.mean([float(str(row[name])) for row in rows]) for name in ("moved", "random")}
    least = min(rows, key=lambda row: float(str(row["moved"])))
    Console().print(
        f"{options.preset}: {len(rows)} pairs; z - mean_a + mean_b shows a b in {means_of['moved']:.1%} of all cases, "
        f"a random direction of equal length in {means_of['random']:.1%}; least for {least['from']} to {least['to']}: "
        f"{float(str(least['moved'])):.1%}",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
