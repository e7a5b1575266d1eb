"""A run is found, or refused, for the right reason; nothing of an earlier run is written over."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from zoo.training import run_directory
from zoo.training.recipe import Recipe
from zoo.training.run_directory import (
    RunError,
    check_same_run,
    choose_directory,
    describe_environment,
    find_runs_root,
    write_json,
)

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def a_run(directory: Path, config: Mapping[str, Any] | None = None) -> Path:
    directory.mkdir(parents=True)
    write_json(directory / "config.json", config or {})
    return directory


def test_zoo_runs_says_where_runs_lie(root: Path) -> None:
    assert find_runs_root() == root
    assert choose_directory(Recipe("dcgan", run_dir=None, resume=False)).parent == root / "dcgan"
    assert not root.exists()  # choosing makes nothing


def test_zoo_runs_may_begin_with_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_RUNS", "~/runs")
    assert find_runs_root() == Path.home() / "runs"


@pytest.mark.parametrize("unset", [True, False], ids=["unset", "empty"])
def test_without_zoo_runs_they_lie_outside_any_checkout(
    unset: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ZOO_RUNS", raising=False) if unset else monkeypatch.setenv("ZOO_RUNS", "")
    default = find_runs_root()
    assert default.is_absolute()
    assert not default.is_relative_to(CHECKOUT)
    monkeypatch.chdir(tmp_path)
    assert find_runs_root() == default


def test_every_new_run_has_a_folder_of_its_own(root: Path) -> None:
    chosen = [choose_directory(Recipe("dcgan", run_dir=None, resume=False)) for _ in range(3)]
    assert len(set(chosen)) == 3
    assert sorted(chosen) == chosen  # by time, so that the last one is the latest


def test_a_new_run_in_a_folder_with_a_run_is_refused(tmp_path: Path) -> None:
    used = a_run(tmp_path / "used")
    with pytest.raises(RunError, match="used holds a run already: go on with --resume, or choose another --run-dir"):
        choose_directory(Recipe("dcgan", run_dir=used, resume=False))


def test_a_new_run_may_have_a_folder_that_holds_none(tmp_path: Path) -> None:
    assert choose_directory(Recipe("dcgan", run_dir=tmp_path, resume=False)) == tmp_path
    assert choose_directory(Recipe("dcgan", run_dir=tmp_path / "new", resume=False)) == tmp_path / "new"


def test_the_run_to_resume_is_the_one_named(tmp_path: Path) -> None:
    assert choose_directory(Recipe("dcgan", run_dir=a_run(tmp_path / "mine"), resume=True)) == tmp_path / "mine"


def test_a_run_directory_may_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert choose_directory(Recipe("gan-mnist", run_dir=Path("~/a run"))) == tmp_path / "a run"


def test_a_folder_without_a_run_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run in .*empty to resume: it has no config\.json"):
        choose_directory(Recipe("dcgan", run_dir=tmp_path / "empty", resume=True))


def test_the_run_to_resume_is_the_recipes_latest(root: Path) -> None:
    names = ["2025-12-31-235959-999999", "2026-01-02-000000-000000", "2026-01-01-120000-000000"]
    _, latest, _ = (a_run(root / "dcgan" / name) for name in names)
    a_run(root / "another" / "2027-01-01-000000-000000")
    (root / "dcgan" / "2028-01-01-000000-000000").mkdir()  # killed before it began
    assert choose_directory(Recipe("dcgan", run_dir=None, resume=True)) == latest


def test_a_run_begun_after_the_clock_went_back_is_the_latest(root: Path) -> None:
    a_run(root / "dcgan" / "2999-01-01-000000-999999")  # by a clock that was ahead
    new = choose_directory(Recipe("dcgan"))
    assert new.name == "2999-01-01-000001-000000"
    a_run(new)
    a_run(root / "dcgan" / "the-good-one")  # renamed by hand
    assert choose_directory(Recipe("dcgan", resume=True)) == new


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x" * 300, "File name too long"),
        ("/".join(["x" * 200] * 20), "a path of .* bytes; choose one of at most 3936"),
        ("file/run", "file is a file"),
        ("file", "file is a file"),
        ("\udcff", "is no UTF-8"),
    ],
    ids=["long name", "long path", "beneath a file", "a file", "no UTF-8"],
)
def test_a_folder_that_no_run_could_be_written_in_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=reason):
        choose_directory(Recipe("dcgan", run_dir=tmp_path / name))


def test_with_no_run_of_the_recipe_nothing_is_resumed(root: Path) -> None:
    a_run(root / "another" / "2027-01-01-000000-000000")
    with pytest.raises(RunError, match=r"no run of dcgan under .*runs/dcgan to resume"):
        choose_directory(Recipe("dcgan", run_dir=None, resume=True))


def test_smoke_runs_lie_apart(root: Path) -> None:
    assert choose_directory(Recipe("dcgan", smoke=True)).parent == root / "dcgan-smoke"


def test_several_workers_share_one_folder_which_the_chief_checks(tmp_path: Path) -> None:
    recipe = Recipe("dcgan", run_dir=a_run(tmp_path / "run"))
    with pytest.raises(RunError, match="holds a run already"):
        choose_directory(recipe, worker=0, worker_count=2)
    assert choose_directory(recipe, worker=1, worker_count=2) == tmp_path / "run"
    for worker in (0, 1):
        with pytest.raises(RunError, match="several workers need --run-dir, the same folder on all of them"):
            choose_directory(Recipe("dcgan"), worker=worker, worker_count=2)


CONFIG = {"recipe": {"seed": 0, "adam": {"rate": 0.1}}, "model": {"shape": (16, 16, 1)}, "data": Path("here")}


def test_the_same_configuration_is_the_same_run(tmp_path: Path) -> None:
    check_same_run(a_run(tmp_path / "run", CONFIG) / "config.json", CONFIG)


@pytest.mark.parametrize(
    ("changes", "differences"),
    [
        ({"recipe": {"seed": 1, "adam": {"rate": 0.1}}}, ["recipe.seed was 0, now 1"]),
        ({"model": {"shape": (16, 16, 3)}}, ["model.shape was [16, 16, 1], now [16, 16, 3]"]),
        ({"recipe": {"seed": 0}}, ["recipe.adam.rate was 0.1, now None"]),
        ({"model": {"shape": (16, 16, 1), "width": 8}}, ["model.width was None, now 8"]),
        (
            {"recipe": {"seed": 1, "adam": {"rate": 0.2}}, "data": "there"},
            ["data was 'here', now 'there'", "recipe.adam.rate was 0.1, now 0.2", "recipe.seed was 0, now 1"],
        ),
    ],
)
def test_every_difference_is_named_and_no_other(
    changes: Mapping[str, Any], differences: list[str], tmp_path: Path
) -> None:
    path = a_run(tmp_path / "run", CONFIG) / "config.json"
    with pytest.raises(RunError) as error:
        check_same_run(path, {**CONFIG, **changes})
    assert f"begun with another configuration: {'; '.join(differences)}. Resume with" in str(error.value)


def test_differences_to_a_damaged_configuration_are_one_line_of_a_bearable_length(tmp_path: Path) -> None:
    path = a_run(tmp_path / "run", {**CONFIG, "a\n\x1b[2J": 1, "k" * 5000: 1, "data": "9" * 5000}) / "config.json"
    with pytest.raises(RunError) as error:
        check_same_run(path, CONFIG)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1_000 + len(str(path))


@pytest.mark.parametrize(("begin", "end"), [('{"a":', "}"), ('{"a":[', "]}")])
def test_what_nests_too_deep_is_damaged(begin: str, end: str, tmp_path: Path) -> None:
    path = a_run(tmp_path / "run", CONFIG) / "config.json"
    for depth in (150, 100_000):
        path.write_text(begin * depth + "1" + end * depth)
        with pytest.raises(RunError) as error:
            check_same_run(path, CONFIG)
        assert str(error.value).startswith(f"{path} is damaged, ")
        assert str(error.value).isprintable()


def test_a_file_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write_json(path, {"first": 1})
    cycle: dict[str, Any] = {}
    cycle["again"] = cycle
    with pytest.raises(ValueError, match="Circular"):
        write_json(path, cycle)
    assert json.loads(path.read_text()) == {"first": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_the_environment_says_what_the_run_ran_on() -> None:
    found = describe_environment(["/device:CPU:0"], threads=2)
    assert (found["devices"], found["threads"], found["cores"]) == (["/device:CPU:0"], 2, os.cpu_count())
    assert {"tensorflow", "keras", "numpy", "generative-zoo"} <= set(found["versions"])
    assert run_directory.list_versions(("no-such-package",)) == {}
