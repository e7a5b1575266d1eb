"""Each score notices the illnesses that its definition says it must, and is blind to those that it must be blind to."""

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from studies import illnesses
from studies.illnesses import CASES, DEGREES, EXPECTED, HEALTHY, OF_IMAGES, Row, Seen, Ward
from zoo.evaluation.scores import METRICS, ReferenceStatistics

TABLE = Path(__file__).parents[2] / "results" / "illnesses.csv"
SLOW = {"frechet_distance_at_infinity", "kernel_distance"}  # 5 s a sample; the table has them


@pytest.fixture(scope="module")
def admitted() -> tuple[Ward, list[Seen], ReferenceStatistics]:
    return illnesses.admitted("embedded", count=400, healthy=8)


def ward(count: int, classes: int = 10) -> Ward:
    """Images that say which they are: training ones odd, the others even."""

    def seen(numbers: np.ndarray) -> Seen:
        images = numbers.astype(np.uint8).reshape(-1, 1, 1, 1)
        return Seen(images, numbers // 2 % classes, numbers[:, None] * 1.0, np.eye(classes)[numbers // 2 % classes])

    return Ward(seen(np.arange(1, 200, 2)), seen(np.arange(0, 200, 2)), count, extractor=None, seed=0)


def numbers(sample: Seen) -> list[int]:
    assert (sample.images.ravel() == sample.features.ravel()).all()
    assert (sample.probabilities.argmax(axis=1) == sample.labels).all()
    return sample.images.ravel().tolist()


# The whole of it


def test_scores_notice_what_they_must_in_a_small_study(admitted: tuple[Ward, list[Seen], ReferenceStatistics]) -> None:
    rows = illnesses.scored(*admitted, metrics=set(METRICS) - SLOW, cases=tuple(EXPECTED))
    assert {each.metric for each in rows} == set(METRICS) - SLOW
    assert {(each.illness, each.degree) for each in rows} == set(EXPECTED)
    assert illnesses.surprises(rows) == []


def test_written_table_is_whole_and_as_expected() -> None:
    rows = illnesses.read(TABLE)
    cases = {(HEALTHY, 0), *CASES}
    assert len(rows) == len(cases) * len(METRICS)
    assert {(each.metric, each.illness, each.degree) for each in rows} == {
        (m, *case) for m in METRICS for case in cases
    }
    assert illnesses.surprises(rows) == []


def test_expectations_are_of_known_cases_and_scores_and_cover_the_strongest() -> None:
    assert set(EXPECTED) <= {(HEALTHY, 0), *CASES}
    assert {(illness, degrees[-1]) for illness, degrees in DEGREES.items()} <= set(EXPECTED)
    for notice, blind in EXPECTED.values():
        assert notice | blind <= set(METRICS)
        assert not notice & blind


def test_surprises_tell_both_kinds() -> None:
    seen = Row("copies", "training_images", 100, 1.0, 0.01, 0.002, worse=495.0)
    missed = Row("copies", "training_images", 100, 0.01, 0.01, 0.002, worse=0.0)
    false_alarm = Row("precision", "training_images", 100, 0.1, 0.9, 0.1, worse=8.0)
    chance = Row("density", "training_images", 100, 0.5, 0.9, 0.1, worse=4.0)
    left_open = Row("recall", "duplicates", 10, 0.1, 0.9, 0.1, worse=8.0)
    first, second = illnesses.surprises([seen, missed, false_alarm, chance, left_open])
    assert first.startswith("copies does not notice training_images 100")
    assert second.startswith("precision notices training_images 100")


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [  # healthy samples 1, 2, 3: mean 2, standard deviation 1
        ("frechet_distance", 7.0, 5.0),
        ("frechet_distance", 0.0, -2.0),
        ("precision", 7.0, -5.0),
        ("precision", 0.0, 2.0),
        ("ms_ssim", 7.0, 5.0),
        ("ms_ssim", 0.0, 2.0),
    ],
)
def test_worse_counts_standard_deviations_in_the_bad_direction(metric: str, value: float, expected: float) -> None:
    assert illnesses.worse(metric, value, [1.0, 2.0, 3.0]) == pytest.approx(expected)


def test_worse_of_a_batch_is_of_its_logarithm() -> None:
    # log10 of the healthy ones: 1, 2, 3; of the value: -2
    assert illnesses.worse("birthday_batch", 0.01, [10.0, 100.0, 1000.0]) == pytest.approx(4.0)


def test_worse_where_healthy_samples_never_differ() -> None:
    values = [illnesses.worse("modes", value, [10.0] * 3) for value in (9.0, 10.0, 11.0)]
    assert values == [np.inf, 0.0, -np.inf]


def test_table_survives_the_file(tmp_path: Path) -> None:
    rows = [
        Row("modes", "dropped_classes", 3.0, 8.0, 10.0, 0.0, np.inf),
        Row("copies", "blur", 0.5, 0.25, 0.125, 0.5, 0.25),
    ]
    illnesses.written(rows, tmp_path / "new" / "table.csv")
    assert illnesses.read(tmp_path / "new" / "table.csv") == rows
    first = (tmp_path / "new" / "table.csv").read_text().splitlines()[1]
    assert first == "modes,dropped_classes,3,8,10,0,yes,inf"


def test_printed_table_marks_what_notices() -> None:
    rows = [
        Row("precision", "blur", 0.5, 0.75, 0.875, 0.01, 12.5),
        Row("precision", "blur", 1, 0.87, 0.875, 0.01, 0.5),
        Row("precision", "duplicates", 2, 0.5, 0.875, 0.01, 37.5),
    ]
    console = Console(file=StringIO(), width=120)
    console.print(illnesses.table(rows, ["blur"], "title"))
    (line,) = [line for line in console.file.getvalue().splitlines() if "precision" in line]
    assert [cell.strip() for cell in line.strip("│ ").split("│")] == ["precision", "0.875 ± 0.01", "0.75*", "0.87"]


# Illnesses of images


def gray(value: int) -> np.ndarray:
    return np.full((3, 28, 28, 1), value, np.uint8)


@pytest.mark.parametrize("illness", OF_IMAGES)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_stay_images(illness: str, channels: int) -> None:
    generator = np.random.Generator(np.random.Philox(0))
    images = generator.integers(0, 256, (3, 28, 28, channels), np.uint8)
    found = OF_IMAGES[illness](images, DEGREES[illness][-1], generator)
    assert found.shape == images.shape
    assert found.dtype == np.uint8
    assert (found != images).mean() > 0.5


def test_brightness_is_clipped_and_does_not_wrap() -> None:
    generator = np.random.Generator(np.random.Philox(0))
    assert (illnesses.brightness(gray(10), 24, generator) == 34).all()
    assert (illnesses.brightness(gray(250), 24, generator) == 255).all()


def test_noise_has_its_sigma() -> None:
    found = illnesses.noise(np.full((100, 28, 28, 1), 128, np.uint8), 16, np.random.Generator(np.random.Philox(0)))
    assert found.mean() == pytest.approx(128, abs=0.2)  # 78,400 pixels: a standard error of 0.06
    assert found.std() == pytest.approx(16, abs=0.2)


def test_checkerboard_alternates() -> None:
    found = illnesses.checkerboard(gray(100), 8, np.random.Generator(np.random.Philox(0)))
    assert found[0, :2, :3, 0].tolist() == [[108, 92, 108], [92, 108, 92]]


def test_blur_keeps_the_middle_of_an_edge() -> None:
    edge = gray(0)
    edge[:, :, 14:] = 200
    found = illnesses.blur(edge, 2, np.random.Generator(np.random.Philox(0)))[0, 14, :, 0].astype(int)
    assert (np.diff(found) >= 0).all()
    assert found[13] + found[14] == pytest.approx(200, abs=4)
    assert 0 < found[12] < found[13] < 100
    assert found[[0, 27]].tolist() == [0, 200]


# Illnesses of the set


def test_dropped_classes_are_missing_and_nothing_is_repeated() -> None:
    sample = ward(30).ill("dropped_classes", 3)
    assert sorted(set(sample.labels.tolist())) == [3, 4, 5, 6, 7, 8, 9]
    assert len(set(numbers(sample))) == 30


def test_duplicates_are_as_many_as_said() -> None:
    sample = ward(30).ill("duplicates", 10)
    assert sorted(numbers(sample)) == [0] * 10 + [2] * 10 + [4] * 10
    assert numbers(sample) != sorted(numbers(sample))


@pytest.mark.parametrize(("percent", "copied"), [(10, 3), (50, 15), (100, 30)])
def test_so_many_are_training_images(percent: float, copied: int) -> None:
    found = numbers(ward(30).ill("training_images", percent))
    assert len(set(found)) == 30
    assert sum(number % 2 for number in found) == copied


def test_healthy_sample_is_as_it_is() -> None:
    assert numbers(ward(30).ill(HEALTHY, 0)) == list(range(0, 60, 2))


def test_training_stock_healthy_and_held_out_share_no_image(
    admitted: tuple[Ward, list[Seen], ReferenceStatistics],
) -> None:
    ward, floor, yardstick = admitted
    parts = [ward.train.images, ward.stock.images, *(each.images for each in floor), yardstick.real.images]
    assert [len(part) for part in parts] == [4500, 1300, *[400] * 8, 1000]
    seen = [image.tobytes() for part in parts for image in part]
    assert len(seen) == 10_000
    assert len(set(seen)) == 10_000  # and the published test images hold none twice


# Bad input


@pytest.mark.parametrize(
    ("data", "count", "healthy", "message"),
    [
        ("embedded", 600, 2, "healthy=2: a spread needs at least 3 samples"),
        ("cifar10", 600, 5, "data='cifar10' has no extractor: choose from embedded, fashion_mnist,"),
        ("embedded", 1000, 5, "Choose a count of at most 608"),
    ],
)
def test_bad_input(data: str, count: int, healthy: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        illnesses.admitted(data, count, healthy)


def test_too_many_dropped_classes() -> None:
    with pytest.raises(ValueError, match="10 images without 9 classes: a sample has 30"):
        ward(30).ill("dropped_classes", 9)
