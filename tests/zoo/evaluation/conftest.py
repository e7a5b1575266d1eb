"""Made-up scores, and an exported model to keep them on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from serving.card import Data
from zoo import pretrained
from zoo.evaluation import tables
from zoo.evaluation.record import Record
from zoo.export.export import export
from zoo.presets.table import PRESETS
from zoo.training.run import build_model

NAME = "dcgan-fashion-mnist"
EXTRACTOR = "cnn-fashion-mnist@" + "0123456789abcdef" * 4


def make_record(model: str, name: str, value: float, **changes: object) -> Record:
    """A score of generated images, but for `changes`."""
    features = name != "ms_ssim"
    facts = {
        "metric": {"frechet_distance": "FCD(cnn-fashion-mnist@01234567)"}.get(name, name),
        "name": name,
        "model": model,
        "value": value,
        "std": 0.05,
        "baselines": {"training": 0.01, "noise": 27.0, "blurred": 6.0},
        "better": "lower",
        "extractor": EXTRACTOR if features else None,
        "data": "fashion_mnist",
        "split": "test",
        "seeds": (0, 1, 2),
        "real_count": 10_000,
        "generated_count": 5_000,
        "preprocessing": "8 bits a channel",
        "source_sha256": "ab" * 32,
        "data_sha256": "cd" * 32,
        "versions": {"numpy": "2.0"},
    }
    return Record(**(facts | changes))  # type: ignore[arg-type]


RECORDS = [
    make_record("worse", "frechet_distance", 0.5),
    make_record("worse", "ms_ssim", 0.25),
    make_record("better", "frechet_distance", 0.2061234),
    make_record("better", "ms_ssim", 0.125),
    make_record("digits", "frechet_distance", 3.0, data="mnist", metric="FCD(cnn-mnist@76543210)"),
    make_record(
        "classifier", "accuracy", 0.9288, std=0.0026, baselines={}, extractor=None, seeds=(), generated_count=0
    ),
]

OF_HELD_OUT = {"std": 0.25, "baselines": {}, "extractor": None, "generated_count": 0}
HELD_OUT_RECORDS = [
    make_record("vae-fashion", "elbo", -1654.3, metric="elbo", **OF_HELD_OUT, seeds=(0,)),
    make_record("vae-fashion", "importance_weighted_bound", -1650.9, metric="IWAE-10", **OF_HELD_OUT, seeds=(0,)),
    make_record(
        "vae-fashion", "active_units", 17.0, metric="active_units (of 20)", **OF_HELD_OUT | {"std": None, "seeds": ()}
    ),
    make_record(
        *("vae-fashion", "posterior_divergence", 51.825),
        **OF_HELD_OUT | {"seeds": (), "parts": (0.000123456, 49.6789, 0.0, 2.145977)},
    ),
    make_record("vae-fashion", "squared_error", 0.0123, **OF_HELD_OUT | {"std": 0.0001, "seeds": ()}),
    make_record("vae-fashion", "frechet_distance", 4.0),
    make_record(
        "vae", "importance_weighted_bound", -88.41, metric="IWAE-50 (cross-entropy)", **OF_HELD_OUT, seeds=(0,)
    ),
    make_record("autoencoder", "squared_error", 0.00456, **OF_HELD_OUT | {"std": 0.00003, "seeds": ()}, data="mnist"),
]


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shipped twin, trained on nothing, in a checkout of its own."""
    preset, directory = PRESETS[NAME].twin(), tmp_path / "checkout" / "exported" / NAME
    data = Data("fashion_mnist_t10k", "train", 9_000, "MIT", "embedded")
    export(build_model(preset), directory, preset=preset, data=data, recipe={"steps": 0}, formats=("onnx",))
    monkeypatch.setattr(pretrained, "SHIPPED", (directory.parent,))
    monkeypatch.setattr(tables, "SHIPPED", (directory.parent,))
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    return directory


@pytest.fixture
def make_score() -> Callable[..., Record]:
    """`make_record`."""
    return make_record


@pytest.fixture
def records() -> list[Record]:
    """Of generated images, on two data sets, and of a classifier."""
    return RECORDS


@pytest.fixture
def held_out_records() -> list[Record]:
    """Of what two VAEs and an autoencoder make of held-out images, and one of a VAE's own images."""
    return HELD_OUT_RECORDS


@pytest.fixture
def card_records() -> list[Record]:
    """Two scores of the exported model."""
    return [make_record(NAME, "frechet_distance", 0.5), make_record(NAME, "ms_ssim", 0.25)]
