"""Each score detects the failure modes that its definition says it must, and is blind to those it must be blind to."""

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from studies import failure_modes
from studies.corruptions import CASES, SEVERITIES, UNMODIFIED, ImagePool, Sample
from studies.failure_modes import EXPECTED, Row
from zoo.evaluation.scores import METRICS, ReferenceStatistics

TABLE = Path(__file__).parents[2] / "results" / "failure_modes.csv"
SLOW = {"frechet_distance_at_infinity", "kernel_distance"}  # 5 s a sample; the table has them


@pytest.fixture(scope="module")
def samples() -> tuple[ImagePool, list[Sample], ReferenceStatistics]:
    return failure_modes.load_samples("embedded", count=400, baselines=8)


# The whole of it


def test_scores_detect_what_they_must_in_a_small_study(
    samples: tuple[ImagePool, list[Sample], ReferenceStatistics],
) -> None:
    rows = failure_modes.score_cases(*samples, metrics=set(METRICS) - SLOW, cases=tuple(EXPECTED))
    assert {each.metric for each in rows} == set(METRICS) - SLOW
    assert {(each.failure_mode, each.severity) for each in rows} == set(EXPECTED)
    assert failure_modes.list_unexpected(rows) == []


def test_written_table_is_whole_and_as_expected() -> None:
    rows = failure_modes.read_rows(TABLE)
    cases = {(UNMODIFIED, 0), *CASES}
    assert len(rows) == len(cases) * len(METRICS)
    assert {(each.metric, each.failure_mode, each.severity) for each in rows} == {
        (m, *case) for m in METRICS for case in cases
    }
    assert failure_modes.list_unexpected(rows) == []


def test_expectations_are_of_known_cases_and_scores_and_cover_the_strongest() -> None:
    assert set(EXPECTED) <= {(UNMODIFIED, 0), *CASES}
    assert {(failure_mode, severities[-1]) for failure_mode, severities in SEVERITIES.items()} <= set(EXPECTED)
    for detect, blind in EXPECTED.values():
        assert detect | blind <= set(METRICS)
        assert not detect & blind


def test_unexpected_rows_are_of_both_kinds() -> None:
    detected = Row("copies", "training_images", 100, 1.0, 0.01, 0.002, deviations=495.0)
    missed = Row("copies", "training_images", 100, 0.01, 0.01, 0.002, deviations=0.0)
    false_alarm = Row("precision", "training_images", 100, 0.1, 0.9, 0.1, deviations=8.0)
    chance = Row("density", "training_images", 100, 0.5, 0.9, 0.1, deviations=4.0)
    left_open = Row("recall", "duplicates", 10, 0.1, 0.9, 0.1, deviations=8.0)
    first, second = failure_modes.list_unexpected([detected, missed, false_alarm, chance, left_open])
    assert first.startswith("copies does not detect training_images 100")
    assert second.startswith("precision detects training_images 100")


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [  # baselines 1, 2, 3: mean 2, standard deviation 1
        ("frechet_distance", 7.0, 5.0),
        ("frechet_distance", 0.0, -2.0),
        ("precision", 7.0, -5.0),
        ("precision", 0.0, 2.0),
        ("ms_ssim", 7.0, 5.0),
        ("ms_ssim", 0.0, 2.0),
    ],
)
def test_standard_deviations_are_counted_in_the_bad_direction(metric: str, value: float, expected: float) -> None:
    assert failure_modes.count_deviations(metric, value, [1.0, 2.0, 3.0]) == pytest.approx(expected)


def test_deviations_of_a_batch_are_of_its_logarithm() -> None:
    # log10 of the baselines: 1, 2, 3; of the value: -2
    assert failure_modes.count_deviations("birthday_batch", 0.01, [10.0, 100.0, 1000.0]) == pytest.approx(4.0)


def test_deviations_where_baselines_never_differ() -> None:
    values = [failure_modes.count_deviations("modes", value, [10.0] * 3) for value in (9.0, 10.0, 11.0)]
    assert values == [np.inf, 0.0, -np.inf]


def test_table_survives_the_file(tmp_path: Path) -> None:
    rows = [
        Row("modes", "dropped_classes", 3.0, 8.0, 10.0, 0.0, np.inf),
        Row("copies", "blur", 0.5, 0.25, 0.125, 0.5, 0.25),
    ]
    failure_modes.write_rows(rows, tmp_path / "new" / "table.csv")
    assert failure_modes.read_rows(tmp_path / "new" / "table.csv") == rows
    first = (tmp_path / "new" / "table.csv").read_text().splitlines()[1]
    assert first == "modes,dropped_classes,3,8,10,0,yes,inf"


def test_printed_table_marks_what_is_detected() -> None:
    rows = [
        Row("precision", "blur", 0.5, 0.75, 0.875, 0.01, 12.5),
        Row("precision", "blur", 1, 0.87, 0.875, 0.01, 0.5),
        Row("precision", "duplicates", 2, 0.5, 0.875, 0.01, 37.5),
    ]
    console = Console(file=StringIO(), width=120)
    console.print(failure_modes.make_table(rows, ["blur"], "title"))
    (line,) = [line for line in console.file.getvalue().splitlines() if "precision" in line]
    assert [cell.strip() for cell in line.strip("│ ").split("│")] == ["precision", "0.875 ± 0.01", "0.75*", "0.87"]


def test_training_images_pool_baselines_and_held_out_images_share_none(
    samples: tuple[ImagePool, list[Sample], ReferenceStatistics],
) -> None:
    pool, baselines, reference = samples
    parts = [pool.train.images, pool.others.images, *(each.images for each in baselines), reference.real.images]
    assert [len(part) for part in parts] == [4500, 1300, *[400] * 8, 1000]
    contents = [image.tobytes() for part in parts for image in part]
    assert len(contents) == 10_000
    assert len(set(contents)) == 10_000  # and the published test images hold none twice


# Bad input


@pytest.mark.parametrize(
    ("data", "count", "baselines", "message"),
    [
        ("embedded", 600, 2, "baselines=2: a standard deviation needs at least 3 samples"),
        ("cifar10", 600, 5, "data='cifar10' has no extractor: choose from embedded, fashion_mnist,"),
        ("embedded", 1000, 5, "Choose a count of at most 608"),
    ],
)
def test_bad_input(data: str, count: int, baselines: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        failure_modes.load_samples(data, count, baselines)
