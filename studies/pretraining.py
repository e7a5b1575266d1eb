"""Does a deep belief network's pre-training help a classifier, and with how many labels?

    python -m studies.pretraining dbn-mnist
    python -m studies.pretraining RUN --updates 30 50 150 --seeds 2 --table try.csv --figure try.png

The network's recognition weights and its top machine's make a classifier's hidden layers, sigmoid units, with a softmax
on top of them; all is then trained on labeled images. Beside it stands the same classifier from random weights
(Glorot and Bengio 2010). Both take the same images in the same order and as many updates by Adam, and each its own
learning rate: the one with the highest accuracy on validation images, by a seed that counts no further. Seeds draw the
labels, the random weights and the order of the images. Pre-training itself has seen training images without labels.

Writes results/pretraining.csv, a row for each run, and docs/pretraining.png; prints a table in Markdown.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tyro
from rich.console import Console

from studies.figures import pyplot, write_table
from zoo.applications.representation import draw_labeled_rows
from zoo.data.load import load_images
from zoo.models.dbn import DBN
from zoo.pretrained import load_pretrained

COLUMNS = ("labels", "start", "updates", "learning_rate", "seed", "validation_accuracy", "test_accuracy")
STARTS = ("random", "pre-trained")
TRIAL_SEED = 1_000  # of the runs that choose a rate
EVALUATION_BATCH = 1_000

Row = dict[str, Any]
Layers = list[tuple[np.ndarray, np.ndarray]]  # kernel (inputs, units) and bias (units,) of each layer


@dataclass(frozen=True)
class Options:
    """One table and one figure."""

    network: Annotated[str, tyro.conf.Positional]
    """The deep belief network: a preset, an exported directory or a run."""
    data: str = "mnist"
    """Labeled images, of the kind that it was trained on; gray levels are probabilities."""
    labels: tuple[int | None, ...] = (100, 1_000, None)
    """Labeled images, as many of each class; None for all but those of validation."""
    updates: tuple[int, ...] = (300, 500, 1_500)
    """Of each of these."""
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3)
    """Of Adam, to choose from."""
    seeds: int = 5
    """Runs of each start."""
    batch_size: int = 100
    """Images of an update."""
    validation: int = 10_000
    """Training images, the last ones, that choose the rate and are not trained on."""
    table: Path = Path("results/pretraining.csv")
    """The table to write."""
    figure: Path = Path("docs/pretraining.png")
    """The figure to draw."""

    def __post_init__(self) -> None:
        """Refuse what is no comparison.

        Raises:
            ValueError: not as many numbers of updates as of labels; fewer than two seeds.
        """
        if len(self.updates) != len(self.labels) or self.seeds < 2:
            raise ValueError(
                f"labels={self.labels}, updates={self.updates}, seeds={self.seeds}: give a number of updates for each "
                "number of labels, and at least two seeds, for a deviation."
            )


class Part(NamedTuple):
    """v (count, pixels) in [0, 1], float32, and the classes by number."""

    visible: np.ndarray
    labels: np.ndarray


def main(options: Options) -> None:
    """Train, write the table, draw, print."""
    console, rows = Console(), []
    network = load_pretrained(options.network)
    if not isinstance(network, DBN):
        raise ValueError(f"{options.network} is no deep belief network, but a {type(network).__name__}.")
    train, test = (load(options.data, network.image_shape, split) for split in ("train", "test"))
    if not 0 < options.validation < len(train.labels):
        raise ValueError(f"validation={options.validation}: choose some of the {len(train.labels)} training images.")
    train, validation = (
        Part(train.visible[part], train.labels[part])
        for part in (slice(-options.validation), slice(-options.validation, None))
    )
    for row in compare(read_layers(network), train, validation, test, options):
        console.print(*row.values(), highlight=False, soft_wrap=True)
        rows.append(row)
    write_table(options.table, COLUMNS, rows)
    draw(rows, options.figure)
    console.print("\n".join(summarize(rows)), highlight=False, soft_wrap=True, markup=False)


def load(source: str, shape: Sequence[int], split: str) -> Part:
    """A split of a labeled data set as visible units.

    Raises:
        ValueError: it has no labels.
    """
    found = load_images(source, split=split, image_size=shape[0], channels=shape[2])
    if found.labels is None:
        raise ValueError(f"{source} has no labels: name images with classes.")
    return Part(found.images.reshape(len(found.images), -1) / np.float32(255), found.labels)


def read_layers(network: DBN) -> Layers:
    """The way up: the recognition weights of the lower layers, then the top machine's."""
    top = network.top.matrices()
    lower = [(np.asarray(layer.kernel), np.asarray(layer.bias)) for layer in network.recognizers]
    return [*lower, (top["weights"], top["hidden_bias"])]


def make_classifier(layers: Layers, classes: int, seed: int, pretrained: bool) -> keras.Model:
    """v -> logits, by sigmoid units of the layers' sizes, and their weights where pre-trained.

    Kernels that are not given, that of the softmax always, are random numbers of the seed.
    """
    visible = units = keras.Input(layers[0][0].shape[:1])
    for number, (kernel, _) in enumerate(layers):
        first = keras.initializers.GlorotUniform(seed=seed * (len(layers) + 1) + number)
        units = keras.layers.Dense(kernel.shape[1], "sigmoid", kernel_initializer=first, name=f"hidden_{number}")(units)
    first = keras.initializers.GlorotUniform(seed=seed * (len(layers) + 1) + len(layers))
    classifier = keras.Model(visible, keras.layers.Dense(classes, kernel_initializer=first, name="logits")(units))
    if pretrained:
        for number, weights in enumerate(layers):
            classifier.get_layer(f"hidden_{number}").set_weights(weights)
    return classifier


def compare(layers: Layers, train: Part, validation: Part, test: Part, options: Options) -> Iterator[Row]:
    """A row for each run that counts."""
    classes = int(train.labels.max()) + 1
    for count, updates in zip(options.labels, options.updates, strict=True):
        for start in STARTS:

            def run(
                rate: float, seed: int, start: str = start, count: int | None = count, updates: int = updates
            ) -> Any:
                classifier = make_classifier(layers, classes, seed, start == "pre-trained")
                fit(classifier, choose_rows(train, count, classes, seed), updates, rate, options.batch_size, seed)
                return classifier

            trials = {rate: measure_accuracy(run(rate, TRIAL_SEED), validation) for rate in options.rates}
            rate = max(trials, key=trials.__getitem__)
            for seed in range(options.seeds):
                classifier = run(rate, seed)
                accuracies = (f"{measure_accuracy(classifier, part):.4f}" for part in (validation, test))
                found = (count or len(train.labels), start, updates, rate, seed, *accuracies)
                yield dict(zip(COLUMNS, found, strict=True))


def choose_rows(train: Part, count: int | None, classes: int, seed: int) -> Part:
    """`count` labeled images, as many of each class, drawn by the seed; all where it is None."""
    if count is None:
        return train
    if count % classes:
        raise ValueError(f"labels={count}: give a multiple of the {classes} classes.")
    rows = draw_labeled_rows(train.labels, count // classes, seed)
    return Part(train.visible[rows], train.labels[rows])


def fit(classifier: keras.Model, part: Part, updates: int, rate: float, batch_size: int, seed: int) -> None:
    """So many updates by the cross-entropy, epoch after epoch in an order of the seed."""
    count = len(part.labels)
    order = tf.data.Dataset.range(count).shuffle(count, seed=seed).repeat().batch(min(batch_size, count))
    visible, labels = tf.constant(part.visible), tf.constant(part.labels)
    batches = order.map(lambda rows: (tf.gather(visible, rows), tf.gather(labels, rows)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
    classifier.fit(batches, steps_per_epoch=updates, shuffle=False, verbose=0)


def measure_accuracy(classifier: keras.Model, part: Part) -> float:
    """The share of images whose class has the highest logit."""
    logits = classifier.predict(part.visible, batch_size=EVALUATION_BATCH, verbose=0)
    return float(np.mean(logits.argmax(axis=1) == part.labels))


class Summary(NamedTuple):
    """Runs of one start with as many labels: test accuracies, and their standard deviation over the seeds."""

    rate: float
    mean: float
    deviation: float


def collect(rows: Sequence[Row]) -> dict[tuple[int, str], Summary]:
    """(labels, start) -> its runs."""
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((int(row["labels"]), row["start"]), []).append(row)
    found = {}
    for key, runs in groups.items():
        accuracies = [float(run["test_accuracy"]) for run in runs]
        deviation = statistics.stdev(accuracies)
        found[key] = Summary(float(runs[0]["learning_rate"]), statistics.fmean(accuracies), deviation)
    return found


def summarize(rows: Sequence[Row]) -> Iterator[str]:
    """The table of test accuracies, with the standard deviation over the seeds, in Markdown."""
    found = collect(rows)
    yield "| labels | updates | " + " | ".join(f"{start}, % | its rate" for start in STARTS) + " |"
    yield "|---:|---:|" + "---:|" * (2 * len(STARTS))
    for labels, updates in dict.fromkeys((int(row["labels"]), int(row["updates"])) for row in rows):
        cells = [found[labels, start] for start in STARTS]
        values = (f"{100 * each.mean:.2f} ± {100 * each.deviation:.2f} | {each.rate:g}" for each in cells)
        yield f"| {labels:,} | {updates:,} | " + " | ".join(values) + " |"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Errors over the number of labels; bars are the standard deviation over the seeds."""
    plot, found = pyplot(), collect(rows)
    from matplotlib import ticker

    figure, axes = plot.subplots(figsize=(5.5, 3.5), constrained_layout=True)
    for start in STARTS:
        points = sorted((labels, *each) for (labels, name), each in found.items() if name == start)
        labels, _, means, deviations = zip(*points, strict=True)
        errors = [100 * (1 - mean) for mean in means]
        bars = [100 * deviation for deviation in deviations]
        axes.errorbar(labels, errors, yerr=bars, marker="o", markersize=4, capsize=2, label=start)
    axes.set(xscale="log", yscale="log", xlabel="labeled images", ylabel="test images named wrongly, %")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xticks(labels, [f"{count:,}" for count in labels])
    axes.minorticks_off()
    axes.tick_params(labelsize=8)
    axes.legend()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=100)
    plot.close(figure)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
