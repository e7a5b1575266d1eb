"""`Record`: one score with everything it rests on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

from zoo.data.images import ImageSet
from zoo.evaluation.scores import ALL_METRICS, Better
from zoo.evaluation.source import EXPORTED

DIGITS = 6  # of a value: those that a second run on the same machine gives again


@dataclass(frozen=True)
class Record:
    """One score with everything it rests on.

    Args:
        metric: its full name, with the extractor's version where it has one.
        name: its key in `ALL_METRICS`.
        model: the name of what was scored.
        value: the mean over the seeds; of held-out images (generated_count 0), the mean over them.
        std: how far the value is to be trusted, in one of two senses. With generated images: the sample standard
            deviation over the seeds. With held-out images alone (generated_count 0): the standard error of the value,
            which shrinks with the count of images. None where there is neither, as with one seed.
        baselines: what images other than generated ones get: "training" real ones, "noise", "blurred" real ones.
        better: which way is good.
        extractor: "name@sha256"; None for scores of the pixels.
        data: the name of the real images' data set.
        split: of it.
        seeds: of the sampling; of held-out images, that of the latents, if any.
        real_count: real images.
        generated_count: generated images of each seed; 0 for a score of held-out images.
        preprocessing: what was done to the images, in words.
        source_sha256: of the graph or the images that were scored.
        data_sha256: of the real images.
        versions: of the libraries that the digits depend on.
        floor_std: the sample standard deviation of the "training" baseline over as many draws of training images as
            there are seeds; None where it was drawn once.
        read_as: what the name of what was scored was taken for.
        parts: add up to the value: those of posterior_divergence are the latents', by number; other scores have none.
    """

    metric: str
    name: str
    model: str
    value: float
    std: float | None
    baselines: dict[str, float]
    better: Better
    extractor: str | None
    data: str
    split: str
    seeds: tuple[int, ...]
    real_count: int
    generated_count: int
    preprocessing: str
    source_sha256: str
    data_sha256: str
    versions: dict[str, str] = field(default_factory=dict)
    floor_std: float | None = None
    read_as: str = EXPORTED
    parts: tuple[float, ...] = ()


def add_remarks(title: str, *remarks: str) -> str:
    """Such as "IWAE-50 (cross-entropy)"."""
    return f"{title} ({', '.join(remarks)})" if remarks else title


def mean_and_error(values: np.ndarray) -> tuple[float, float | None]:
    """Of one value per image: the mean, and its standard error where there are two."""
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None


def make_held_out_record(
    name: str,
    label: str,
    model: str,
    value: float,
    error: float | None,
    real: ImageSet,
    preprocessing: str,
    sha256: str,
    seeds: tuple[int, ...] = (),
) -> Record:
    """A score of held-out images themselves, which has no baselines; the arguments are `Record`'s fields."""
    return Record(
        metric=label,
        name=name,
        model=model,
        value=round_digits(value),
        std=None if error is None else round_digits(error),
        baselines={},
        better=ALL_METRICS[name].better,
        extractor=None,
        data=real.name,
        split=real.split,
        seeds=seeds,
        real_count=len(real.images),
        generated_count=0,
        preprocessing=preprocessing,
        source_sha256=sha256,
        data_sha256=real.fingerprint,
        versions=library_versions(),
    )


def round_digits(value: float) -> float:
    """To the digits that are written."""
    return float(f"{value:.{DIGITS}g}")


def library_versions() -> dict[str, str]:
    """Of what the digits depend on."""
    import onnxruntime

    return {
        "generative-zoo": version("generative-zoo"),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
        "pillow": version("pillow"),
    }


def to_plain_data(records: Sequence[Record]) -> list[dict[str, Any]]:
    """As JSON takes it, one mapping per score."""
    return [asdict(record) for record in records]
