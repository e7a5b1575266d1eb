"""`Record`: one score with everything it rests on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

from zoo.data.images import ImageSet
from zoo.evaluation.scores import ALL_METRICS, Better

DIGITS = 6  # of a value: those that a second run on the same machine gives again


@dataclass(frozen=True)
class Record:
    """One score with everything it rests on.

    value and std are over the seeds; floor is what real training images get, ceilings what noise and blurred images
    do. extractor is "name@sha256", None for scores of the pixels. Where generated_count is 0, the score is one of the
    held-out images: value is a mean over them, std its standard error, and seeds that of the latents, if any.
    parts add up to the value: those of posterior_divergence are the latents', by number; other scores have none.
    """

    metric: str
    name: str
    model: str
    value: float
    std: float | None
    floor: float | None
    ceilings: dict[str, float]
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
    parts: tuple[float, ...] = ()


def qualified(title: str, *remarks: str) -> str:
    """Such as "IWAE-50 (cross-entropy)"."""
    return f"{title} ({', '.join(remarks)})" if remarks else title


def mean_and_error(values: np.ndarray) -> tuple[float, float | None]:
    """Of one value an image: the mean, and its standard error where there are two."""
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None


def of_real_images(
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
    """A score of held-out images themselves, which has neither floor nor ceilings."""
    return Record(
        metric=label,
        name=name,
        model=model,
        value=rounded(value),
        std=None if error is None else rounded(error),
        floor=None,
        ceilings={},
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
        versions=versions(),
    )


def rounded(value: float) -> float:
    """To the digits that are written."""
    return float(f"{value:.{DIGITS}g}")


def versions() -> dict[str, str]:
    """Of what the digits depend on."""
    import onnxruntime

    return {
        "generative-zoo": version("generative-zoo"),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
        "pillow": version("pillow"),
    }


def as_json(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Plain data, one record a score."""
    return [asdict(record) for record in records]
