"""Our scores equal other people's on the same features: fixtures/independent.json, by fixtures/make_independent.py."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from zoo.metrics.classes import ClassStatistics, jensen_shannon_divergence
from zoo.metrics.frechet import frechet_distance, frechet_distance_at_infinity
from zoo.metrics.kernel import kernel_distance
from zoo.metrics.moments import Moments
from zoo.metrics.neighbors import neighbor_scores

RECORD = json.loads((Path(__file__).parent / "fixtures" / "independent.json").read_text(encoding="utf-8"))
DRAWS = RECORD["draws"]
FEW = DRAWS["few"]


def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As in make_independent.py."""
    random = np.random.Generator(np.random.Philox(DRAWS["seed"]))
    count, dimension = DRAWS["count"], DRAWS["dimension"]
    mixing = random.standard_normal((dimension, dimension))
    real = random.standard_normal((count, dimension)) @ mixing
    generated = 0.9 * random.standard_normal((count, dimension)) @ mixing + 0.5
    logits = 2.0 * random.standard_normal((count, DRAWS["classes"]))
    return real.astype(np.float32), generated.astype(np.float32), logits


REAL, GENERATED, LOGITS = drawn()


def test_the_features_are_the_same_as_theirs():
    assert hashlib.sha256(REAL.tobytes() + GENERATED.tobytes()).hexdigest() == RECORD["sha256"]


@pytest.mark.parametrize("library", ["torch-fidelity", "scipy", "mpmath"])
def test_frechet(library):
    found = frechet_distance(Moments.of(GENERATED), Moments.of(REAL))
    assert found == pytest.approx(RECORD["frechet"][library], rel=1e-10)


@pytest.mark.parametrize(("real_rows", "case"), [(FEW, "both"), (None, "one")])
def test_frechet_of_singular_covariances(real_rows, case):
    """Against 60 digits: here a root of the product in doubles is off in the eighth."""
    few, real = Moments.of(GENERATED[:FEW]), Moments.of(REAL[:real_rows])
    found = frechet_distance(few, real, allow_singular=True)
    assert found == pytest.approx(RECORD[f"frechet, {case} singular"]["mpmath"], rel=1e-12)


def test_frechet_at_infinity():
    record = RECORD["frechet at infinity"]
    settings = {key: record[key] for key in ("smallest", "points", "seed")}
    found = frechet_distance_at_infinity(GENERATED, Moments.of(REAL), **settings)
    assert found == pytest.approx(record["torch-fidelity, scikit-learn"], rel=1e-9)


def test_kernel():
    record = RECORD["kernel"]
    settings = {key: record[key] for key in ("subsets", "subset_size", "seed")}
    found = kernel_distance(GENERATED, REAL, **settings)
    assert found.mean == pytest.approx(np.mean(record["torch-fidelity"]), rel=1e-9)
    assert found.std == pytest.approx(np.std(record["torch-fidelity"]), rel=1e-9)


def test_neighbors():
    """Their balls lack the rim, or hold it: no distance of these features is on one. torch-fidelity ends in float32."""
    three, five = (RECORD["neighbors"][f"prdc, {k} neighbors"] for k in (3, 5))
    found = neighbor_scores(GENERATED, REAL)
    assert (found.precision, found.recall) == pytest.approx((three["precision"], three["recall"]), rel=1e-12)
    assert (found.density, found.coverage) == pytest.approx((five["density"], five["coverage"]), rel=1e-12)
    theirs = RECORD["neighbors"]["torch-fidelity, 3 neighbors"]
    assert (found.precision, found.recall) == pytest.approx((theirs["precision"], theirs["recall"]), rel=1e-7)


def test_classes():
    record = RECORD["classes"]["torch-fidelity, scipy"]
    exponentials = np.exp(LOGITS)
    statistics = ClassStatistics.of(
        exponentials / exponentials.sum(axis=1, keepdims=True), splits=RECORD["classes"]["splits"]
    )
    even = np.ones(DRAWS["classes"])
    assert statistics.class_score() == pytest.approx((record["mean"], record["std"]), rel=1e-9)
    assert statistics.mean_entropy() == pytest.approx(record["mean_entropy"], rel=1e-12)
    divergence = jensen_shannon_divergence(statistics.counts, even)
    assert divergence == pytest.approx(record["jensen_shannon_to_even"], rel=1e-9)
