"""Samples against a reference: streaming, what is held of it, what is left out, and each value's own function."""

from collections.abc import Callable

import numpy as np
import pytest

from zoo.data.images import to_float32
from zoo.evaluation import scores
from zoo.evaluation.extractors import softmax
from zoo.evaluation.scores import GROUPS, INCEPTION, METRICS, Metric, ReferenceStatistics, SampleStatistics, compare
from zoo.metrics.classes import ClassStatistics, jensen_shannon_divergence
from zoo.metrics.distances import sliced_wasserstein_distance
from zoo.metrics.frechet import frechet_distance, frechet_distance_at_infinity
from zoo.metrics.kernel import kernel_distance
from zoo.metrics.moments import Moments
from zoo.metrics.neighbors import birthday_support, copy_check, nearest_distances, neighbor_scores, squared_radii
from zoo.metrics.similarity import multiscale_similarity_of_pairs, radial_spectrum, spectral_distance

DIMENSION, CLASSES = 6, 10
COPIES = ("copies", "copy_distance", "birthday_batch")
PIXELS = ("sliced_wasserstein_distance", "ms_ssim", "spectral_distance")

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def arrays(seed: int, count: int, side: int = 12) -> Arrays:
    """ImageSet, features and probabilities that have nothing to do with each other."""
    generator = np.random.default_rng(seed)
    return (
        generator.integers(0, 256, (count, side, side, 1), np.uint8),
        generator.standard_normal((count, DIMENSION)).astype(np.float32) + seed % 2,
        softmax(generator.standard_normal((count, CLASSES)).astype(np.float32)),
    )


@pytest.fixture
def few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    def similarity(images: np.ndarray, *, seed: int) -> object:
        return multiscale_similarity_of_pairs(images, pairs=10, seed=seed)

    monkeypatch.setattr(scores, "multiscale_similarity_of_pairs", similarity)


# Statistics of samples


def taken_in(samples: SampleStatistics) -> tuple[Moments, ClassStatistics]:
    assert samples.moments is not None
    assert samples.class_statistics is not None
    return samples.moments, samples.class_statistics


@pytest.mark.parametrize("size", [1, 7, 40])
def test_streaming_in_any_batches_equals_all_at_once(size: int) -> None:
    everything = arrays(0, 40)
    whole, streamed = SampleStatistics.of(*everything), SampleStatistics()
    for start in range(0, 40, size):
        streamed.update(*(part[start : start + size] for part in everything))
    assert streamed.count == whole.count == 40
    np.testing.assert_array_equal(streamed.images, whole.images)
    np.testing.assert_array_equal(streamed.features, everything[1])
    for samples in (streamed, whole):
        moments, statistics = taken_in(samples)
        np.testing.assert_allclose(moments.covariance, np.cov(everything[1].T), rtol=1e-5)
        wanted = ClassStatistics.of(everything[2])
        np.testing.assert_array_equal(statistics.counts, wanted.counts)
        assert statistics.class_score() == pytest.approx(wanted.class_score())


def test_what_was_looked_at_in_between_does_not_stay() -> None:
    images, features, probabilities = arrays(0, 20)
    samples = SampleStatistics.of(images[:5], features[:5], probabilities[:5])
    assert (len(samples.images), len(samples.features)) == (5, 5)
    samples.update(images[5:], features[5:], probabilities[5:])
    np.testing.assert_array_equal(samples.images, images)
    np.testing.assert_array_equal(samples.features, features)


@pytest.mark.parametrize("size", [1, 4, 30])
def test_the_first_ones_are_held_and_all_are_counted(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "KEPT", 10)
    everything, samples = arrays(0, 30), SampleStatistics()
    for start in range(0, 30, size):
        samples.update(*(part[start : start + size] for part in everything))
    np.testing.assert_array_equal(samples.images, everything[0][:10])
    np.testing.assert_array_equal(samples.features, everything[1][:10])
    moments, statistics = taken_in(samples)
    assert (samples.count, moments.count, statistics.count) == (30, 30, 30)
    np.testing.assert_allclose(moments.mean, everything[1].mean(axis=0), atol=1e-6)


# Values


def test_each_value_is_that_of_its_function(few_pairs: None) -> None:
    ours, theirs, train = arrays(1, 150), arrays(2, 120), arrays(4, 300)[1]
    seed = 3
    found = compare(SampleStatistics.of(*ours), ReferenceStatistics(SampleStatistics.of(*theirs), train, seed), METRICS)
    (images, features, probabilities), (real, real_features, real_probabilities) = ours, theirs
    moments, statistics = Moments.of(real_features), ClassStatistics.of(probabilities)
    neighbors = neighbor_scores(features[:120], real_features)  # as many of each
    copies = copy_check(nearest_distances(features, train), nearest_distances(real_features, train))
    shares = np.bincount(probabilities.argmax(axis=1), minlength=CLASSES) / 150
    real_counts = np.bincount(real_probabilities.argmax(axis=1), minlength=CLASSES)
    wanted = {
        "frechet_distance": frechet_distance(Moments.of(features), moments),
        "frechet_distance_at_infinity": frechet_distance_at_infinity(features, moments, seed=seed),
        "kernel_distance": kernel_distance(features, real_features, subset_size=120, seed=seed).mean,
        "precision": neighbors.precision,
        "recall": neighbors.recall,
        "density": neighbors.density,
        "coverage": neighbors.coverage,
        "class_score": statistics.class_score().mean,
        "class_divergence": jensen_shannon_divergence(shares, real_counts),
        "smallest_class_share": shares.min(),
        "modes": np.sum(shares >= 0.01),
        "copies": copies.share,
        "copy_distance": copies.ratio,
        "birthday_batch": birthday_support(features, bound=copies.bound, seed=seed).batch,
        "sliced_wasserstein_distance": sliced_wasserstein_distance(
            to_float32(images[:120]), to_float32(real), seed=seed
        ),
        "ms_ssim": multiscale_similarity_of_pairs(to_float32(images), pairs=10, seed=seed).mean,
        "spectral_distance": spectral_distance(radial_spectrum(to_float32(images)), radial_spectrum(to_float32(real))),
    }
    assert list(found) == list(METRICS) == list(wanted)
    assert found == pytest.approx(wanted, rel=1e-9)


def test_only_what_is_asked_for_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(samples: SampleStatistics, reference: ReferenceStatistics) -> dict[str, float]:
        raise AssertionError

    monkeypatch.setattr(scores, "GROUPS", dict.fromkeys(GROUPS, fails) | {"frechet": GROUPS["frechet"]})
    one, other = (SampleStatistics.of(*arrays(seed, 30)) for seed in (0, 1))
    assert set(compare(one, ReferenceStatistics(other), ["frechet_distance"])) == {"frechet_distance"}
    assert compare(one, ReferenceStatistics(other), []) == {}


# What can't be computed


def test_pixels_alone_have_no_scores_of_features(few_pairs: None) -> None:
    one, other = (SampleStatistics.of(arrays(seed, 30)[0]) for seed in (0, 1))
    assert set(compare(one, ReferenceStatistics(other), METRICS)) == set(PIXELS)


def test_small_images_have_no_similarity() -> None:
    one, other = (SampleStatistics.of(arrays(seed, 30, side=10)[0]) for seed in (0, 1))
    assert set(compare(one, ReferenceStatistics(other), PIXELS)) == set(PIXELS) - {"ms_ssim"}


def test_copies_need_training_images_and_a_hundred_held_out() -> None:
    train, samples = arrays(4, 200)[1], SampleStatistics.of(*arrays(1, 50))
    enough, too_few = SampleStatistics.of(*arrays(2, 100)), SampleStatistics.of(*arrays(2, 99))
    assert set(compare(samples, ReferenceStatistics(enough, train), COPIES)) == set(COPIES)
    assert compare(samples, ReferenceStatistics(too_few, train), COPIES) == {}
    assert compare(samples, ReferenceStatistics(enough), COPIES) == {}


def test_a_line_to_infinity_needs_more_than_four_times_the_dimension() -> None:
    reference, name = ReferenceStatistics(SampleStatistics.of(*arrays(2, 50))), "frechet_distance_at_infinity"
    assert compare(SampleStatistics.of(*arrays(1, 4 * DIMENSION)), reference, [name]) == {}
    assert set(compare(SampleStatistics.of(*arrays(1, 4 * DIMENSION + 1)), reference, [name])) == {name}


@pytest.mark.parametrize(
    ("change", "metric", "message"),
    [
        (lambda p, f, q: (p[:6], f[:6], q[:6]), "frechet_distance", "6 features of dimension 6.*singular"),
        (lambda p, f, q: (p, f[:, :4], q), "frechet_distance", "dimension 4 and 6"),
        (lambda p, f, q: (p[:9], f[:9], q[:9]), "class_score", "9 rows for 10 splits"),
        (lambda p, f, q: (p[:, :11], f, q), "sliced_wasserstein_distance", "give as many of the same shape"),
    ],
    ids=["too few", "another extractor", "too few for splits", "another size"],
)
def test_what_does_not_fit_is_refused(change: Callable[..., Arrays], metric: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(
            SampleStatistics.of(*change(*arrays(1, 30))),
            ReferenceStatistics(SampleStatistics.of(*arrays(2, 30))),
            [metric],
        )


def test_neighbors_among_the_held_out_images_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real, names = arrays(2, 60), ["precision", "recall", "density", "coverage"]
    each = [SampleStatistics.of(*arrays(seed, count)) for seed, count in ((1, 60), (3, 60), (5, 40))]
    alone = [compare(samples, ReferenceStatistics(SampleStatistics.of(*real)), names) for samples in each]
    seen: list[int] = []

    def count_radii(rows: np.ndarray, neighbors: tuple[int, ...]) -> np.ndarray:
        seen.append(len(rows))
        return squared_radii(rows, neighbors)

    monkeypatch.setattr(scores, "squared_radii", count_radii)
    reference = ReferenceStatistics(SampleStatistics.of(*real))
    assert [compare(samples, reference, names) for samples in each] == alone
    assert seen == [60, 40]


# The floor


def test_the_floor_of_copies_is_one_half_of_the_held_out_images_against_the_other() -> None:
    real, train = arrays(2, 240), arrays(4, 300)
    reference = ReferenceStatistics(SampleStatistics.of(*real), train[1])
    floor = reference.score_training_images(SampleStatistics.of(*train), [*COPIES, "frechet_distance"])
    distances = nearest_distances(real[1], train[1])
    wanted = copy_check(distances[::2], distances[1::2])
    assert (floor["copies"], floor["copy_distance"]) == (wanted.share, wanted.ratio)
    assert floor["copies"] < 0.1  # of themselves: 1
    assert 0.8 < floor["copy_distance"] < 1.25  # of themselves: 0
    others = compare(SampleStatistics.of(*train), reference, ["frechet_distance", "birthday_batch"])
    assert {name: floor[name] for name in others} == others


def test_too_few_held_out_images_for_halves_have_no_floor_of_copies() -> None:
    train = arrays(4, 300)
    reference = ReferenceStatistics(SampleStatistics.of(*arrays(2, 199)), train[1])
    assert set(reference.score_training_images(SampleStatistics.of(*train), [*COPIES, "precision"])) == {
        "birthday_batch",
        "precision",
    }


def test_a_floor_has_nothing_that_was_not_asked_for() -> None:
    train = arrays(4, 300)
    reference = ReferenceStatistics(SampleStatistics.of(*arrays(2, 240)), train[1])
    assert set(reference.score_training_images(SampleStatistics.of(*train), ["copies"])) == {"copies"}


# Names


class Named:
    """An extractor's name and hash."""

    dimension, classes = 1, 2

    def __init__(self, name: str) -> None:
        self.name, self.sha256 = name, "0123456789abcdef"

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("name", "extractor", "label"),
    [
        ("frechet_distance", "cnn-mnist", "FCD(cnn-mnist@01234567)"),
        ("frechet_distance", INCEPTION, "FID"),
        ("kernel_distance", INCEPTION, "KID"),
        ("class_score", INCEPTION, "IS"),
        ("copies", INCEPTION, f"copies({INCEPTION}@01234567)"),
        ("ms_ssim", INCEPTION, "ms_ssim"),
        ("frechet_distance", None, "frechet_distance"),
    ],
)
def test_only_the_2015_inception_has_the_names_of_the_literature(name: str, extractor: str | None, label: str) -> None:
    assert METRICS[name].label(name, Named(extractor) if extractor else None) == label


def test_every_metrics_group_is_there() -> None:
    assert {metric.group for metric in METRICS.values()} == set(GROUPS)
    assert all(isinstance(metric, Metric) and metric.about for metric in METRICS.values())
