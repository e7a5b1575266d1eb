"""Does latent arithmetic work: is the image of z - mean_a + mean_b one of class b (DCGAN, arXiv:1511.06434, 6.3.2)?

    python -m studies.arithmetic
    python -m studies.arithmetic --preset lsgan-fashion-mnist

A data set's classifier names the class of each latent's image; mean_c is the mean of the latents that it assigns to c
with the highest probability (the paper's authors chose theirs by eye). For each pair of classes, other latents whose
image is of class a are shifted by mean_b - mean_a, and by a vector of the same length in a random direction. Everything
runs on ONNX Runtime.

Writes results/arithmetic.csv: a row for each pair, `shifted` and `random` the shares of class b afterwards. No figure.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console

from studies.figures import write_table
from zoo.applications.arithmetic import mean_latent
from zoo.applications.generators import Generator
from zoo.data.images import center_crop, iterate_chunks
from zoo.evaluation.extractors import BATCH_SIZE, ClassifierExtractor
from zoo.pretrained import find_directory

COLUMNS = ("preset", "classifier", "from", "to", "latents", "shifted", "random")


@dataclass(frozen=True)
class Options:
    """One table."""

    preset: str = "dcgan-fashion-mnist"
    """The generator, by preset name or exported directory."""
    classifier: str = "cnn-fashion-mnist"
    """The classifier, likewise."""
    latents: int = 20_000
    """Latents from which the means are computed."""
    confident_share: float = 0.2
    """The share of a class's latents, those of highest probability, that its mean is computed from."""
    latents_per_pair: int = 60
    """Latents shifted for each pair of classes."""
    table: Path = Path("results/arithmetic.csv")
    """The table to write."""


class LatentClassifier:
    """Latents -> the class probabilities of their images."""

    def __init__(self, preset: str, classifier: str) -> None:
        self.generator = Generator.open(preset)
        self.extractor = ClassifierExtractor(find_directory(classifier))

    def __call__(self, latents: np.ndarray) -> np.ndarray:
        """(count, dimension) -> (count, classes)."""
        height, width, _ = self.extractor.image.row
        parts = []
        for part in iterate_chunks(latents, BATCH_SIZE):
            parts.append(self.extractor(center_crop(self.generator.generate(part), height, width))[1])
        return np.concatenate(parts)

    def draw(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Latents of a seed, and the probabilities of their classes."""
        latents = self.generator.draw(range(count), seed)
        return latents, self(latents)


def main(options: Options) -> None:
    """Count, write the table, print the means."""
    classify, random = LatentClassifier(options.preset, options.classifier), np.random.default_rng(0)
    latents, probabilities = classify.draw(options.latents, seed=0)
    count = classify.extractor.classes
    means = np.stack([mean_latent(latents, probabilities, number, options.confident_share) for number in range(count)])
    others, other_probabilities = classify.draw(options.latents // 2, seed=1)
    classes = other_probabilities.argmax(axis=1)
    rows = []
    for a in range(count):
        start = others[classes == a][: options.latents_per_pair]
        for b in range(count):
            if a == b or not len(start):
                continue
            step = means[b] - means[a]
            directions = random.standard_normal(start.shape)
            directions *= np.linalg.norm(step) / np.linalg.norm(directions, axis=1, keepdims=True)
            shares = [float((classify(start + shift).argmax(axis=1) == b).mean()) for shift in (step, directions)]
            row = (options.preset, options.classifier, a, b, len(start), *(f"{share:.4f}" for share in shares))
            rows.append(dict(zip(COLUMNS, row, strict=True)))
    write_table(options.table, COLUMNS, rows)
    mean_shares = {name: np.mean([float(str(row[name])) for row in rows]) for name in ("shifted", "random")}
    least = min(rows, key=lambda row: float(str(row["shifted"])))
    Console().print(
        f"{options.preset}: {len(rows)} pairs; z - mean_a + mean_b gives class b in {mean_shares['shifted']:.1%}, "
        f"a random direction of that length in {mean_shares['random']:.1%}; least, {least['from']} to {least['to']}: "
        f"{float(str(least['shifted'])):.1%}",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
