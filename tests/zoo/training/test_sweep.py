"""A sweep: what it refuses before the first run, what it runs and does not run again, and its tables."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from recipes.dcgan_fashion_mnist import recipe
from zoo.training import sweep as sweeping
from zoo.training.optimizers import SGD, RMSprop
from zoo.training.recipe import Recipe
from zoo.training.run_directory import RunError
from zoo.training.sweep import SignaledError, main, run_in_process, split_arguments, sweep
from zoo.training.sweep_grid import choose_precision_apart, collect_presets, plan, read_grid
from zoo.training.sweep_table import format_spread

GRID = {"generator_learning_rate": ["1e-4", "2e-4"]}
OPTIONS = ("--steps", "20")
RUNS = [(1, "1e-4", 0), (2, "2e-4", 0), (3, "1e-4", 1), (4, "2e-4", 1)]  # number, learning rate, seed
IDENTITY = {"recipe": recipe.preset, "grid": GRID, "options": list(OPTIONS)}
PATIENCE = 300  # seconds


@dataclasses.dataclass
class Trainer:
    """Stands in for `zoo train`: writes a log whose metric is 1000 times the learning rate plus the seed."""

    commands: list[list[str]] = dataclasses.field(default_factory=list)
    fails: tuple[str, ...] = ()
    stops: str = ""

    def __call__(self, command: Sequence[str], output: Path) -> int:
        self.commands.append(list(command))
        run_dir = Path(after("--run-dir", command))
        run_dir.mkdir(exist_ok=True)
        (run_dir / "config.json").touch()
        rate = float(after("--optimizers.generator.learning-rate", command))
        stopped, failed = run_dir.name.startswith(self.stops or "-"), run_dir.name.startswith(self.fails or ("-",))
        step = 10 if stopped or failed else 20
        rows = ["step,seconds,generator_loss", "5,1.0,99", f"{step},2.0,{1000 * rate + int(after('--seed', command))}"]
        (run_dir / "log.csv").write_text("\n".join(rows) + "\n20,3.")  # a line that a kill cut
        if stopped:
            raise SignaledError(signal.SIGTERM)
        output.write_text("step 10\nerror: the [generator] became infinite or NaN | lower the rate\n╰──╯\n")
        if not failed:
            (run_dir / "export").mkdir()
        return int(failed)

    @property
    def names(self) -> list[str]:
        return [Path(after("--run-dir", command)).name[:3] for command in self.commands]


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes for which the machine was asked what it computes faster in; it says float32."""
    recipes: list[Recipe] = []
    monkeypatch.setattr(sweeping, "choose_precision_apart", lambda recipe: recipes.append(recipe) or "float32")
    return recipes


def after(option: str, command: Sequence[str]) -> str:
    return command[list(command).index(option) + 1]


def go(out: Path, trainer: Trainer, seeds: int = 2) -> int:
    with Path(os.devnull).open("w") as nowhere:
        return sweep(plan(recipe, GRID, seeds, OPTIONS), out, IDENTITY, trainer, Console(file=nowhere))


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# The plan


@pytest.mark.parametrize(
    ("texts", "grid"),
    [
        ([], {}),
        (["a=1"], {"a": ["1"]}),
        (["a=1e-4,2e-4", "b=x,None"], {"a": ["1e-4", "2e-4"], "b": ["x", "None"]}),
        (["a=(1,(2,3)),[4,5]", "b=x=y"], {"a": ["(1,(2,3))", "[4,5]"], "b": ["x=y"]}),
    ],
)
def test_a_grid_is_read(texts: list[str], grid: dict[str, list[str]]) -> None:
    assert read_grid(texts) == grid


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["a"], "--grid a: write name=value,value"),
        (["a="], "--grid a=: write"),
        (["a=1,"], "--grid a=1,: write"),
        (["=1"], "--grid =1: write"),
        (["a=1,1"], "--grid a=1,1: give every name"),
        (["a=1", "a=2"], "--grid a=2: give every name"),
    ],
)
def test_a_bad_grid_is_refused(texts: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_grid(texts)


def test_the_recipes_options_follow_the_dashes() -> None:
    assert split_arguments(["--seeds", "2", "--", "--steps", "5", "--", "x"]) == (
        ["--seeds", "2"],
        ["--steps", "5", "--", "x"],
    )
    assert split_arguments(["--seeds", "2"]) == (["--seeds", "2"], [])


def test_a_plan_is_the_product_of_grid_and_seeds() -> None:
    runs = plan(recipe, {**GRID, "batch_size": ["8", "16"]}, 2, OPTIONS)
    found = [(run.recipe.seed, run.recipe.optimizers["generator"].learning_rate, run.recipe.batch_size) for run in runs]
    assert found == [(seed, rate, size) for seed in (0, 1) for rate in (1e-4, 2e-4) for size in (8, 16)]
    assert {run.recipe.steps for run in runs} == {20}
    assert len({run.name for run in runs}) == 8
    assert runs[5].name == "006-generator_learning_rate=1e-4-batch_size=16-seed=1"


def test_more_seeds_leave_the_earlier_runs_as_they_were() -> None:
    assert plan(recipe, GRID, 3, OPTIONS)[:4] == plan(recipe, GRID, 2, OPTIONS)


def test_a_name_finds_an_optimizer_a_field_or_the_model() -> None:
    players = {"generator": RMSprop(), "critic": SGD()}
    grid = {
        "critic_clipnorm": ["2.0"],
        "generator_centered": ["True"],
        "critic_nesterov": ["False"],
        "precision": ["mixed_bfloat16"],
        "deterministic": ["False"],
        "image_size": ["None"],
        "discriminator_steps": ["2"],
        "loss": ["hinge"],
        "codes": ["(0, 1, 0.5)"],
    }
    (run,) = plan(
        dataclasses.replace(recipe, optimizers=players), grid, 1, ["--model.loss", "minimax", "--model.width", "8"]
    )
    assert run.recipe == dataclasses.replace(
        recipe,
        optimizers={"generator": RMSprop(centered=True), "critic": SGD(clipnorm=2.0)},
        precision="mixed_bfloat16",
        deterministic=False,
        model={"width": 8, "discriminator_steps": 2, "loss": "hinge", "codes": (0.0, 1.0, 0.5)},
    )
    assert run.recipe.to_preset().arguments == {
        "image_shape": (32, 32, 1),
        "width": 8,
        "discriminator_steps": 2,
        "loss": "hinge",
        "codes": (0.0, 1.0, 0.5),
    }


@pytest.mark.parametrize(
    ("grid", "options", "reason"),
    [
        ({"seed": ["1", "2"]}, (), "--grid seed: a sweep does not vary it"),
        ({"optimizers": ["1"]}, (), "--grid optimizers: a sweep does not vary it"),
        ({"image_shape": ["1"]}, (), "--image-size"),
        ({"deterministic": ["yes"]}, (), "deterministic=yes: choose from True and False"),
        ({"batch_size": ["8", "08"]}, (), "batch_size=8 and batch_size=08 are the same run"),
        ({}, ("--seed", "4"), "--seed is not for the options after --"),
        ({}, ("--run-dir", "x"), "--run-dir is not for the options after --"),
        ({}, ("--resume",), "--resume is not for the options after --"),
    ],
)
def test_a_plan_refuses(grid: Any, options: Any, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((ValueError, SystemExit)) as refused:
        plan(recipe, grid, 1, options)
    assert reason in f"{refused.value} {capsys.readouterr().err}"  # what the recipe refuses is said by tyro


def test_no_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="--seeds 0: choose at least 1"):
        plan(recipe, GRID, 0)


@pytest.mark.parametrize(
    ("grid", "named"),
    [
        ({"batch_size": ["8", "many"]}, "--batch-size"),
        ({"batch_size": ["8", "0"]}, "batch_size=0: choose at least 1"),
        ({"generator_learning_rate": ["1e-4", "-1"]}, "learning_rate=-1.0"),
        ({"precision": ["float32", "float8"]}, "--precision"),
    ],
)
def test_a_value_that_no_recipe_takes_is_refused(grid: Any, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        plan(recipe, grid, 1)
    assert exit.value.code == 2
    assert named in capsys.readouterr().err


def test_a_value_that_the_model_refuses_is_refused_before_the_first_run(tmp_path: Path) -> None:
    runs, trainer = plan(recipe, {"dropout": ["0.1", "1.5"]}, 2, ["--smoke"]), Trainer()
    assert list(collect_presets(runs)) == ["dropout=0.1", "dropout=1.5"]  # the seeds share them
    with pytest.raises(ValueError, match=r"dropout=1\.5: rate=1\.5: a dropout rate lies in"):
        sweep(runs, tmp_path / "out", IDENTITY, trainer)
    assert (trainer.commands, list(tmp_path.iterdir())) == ([], [])


def test_an_argument_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^GAN takes no widht; it takes latent_dim, .* Did you mean width\?"):
        plan(recipe, {"widht": ["4"]}, 1)


# The runs and their tables


def test_every_run_is_run_once_and_stands_in_the_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, trainer = tmp_path / "out", Trainer()
    assert go(out, trainer) == 0
    names = [f"{n:03d}-generator_learning_rate={r}-seed={s}" for n, r, s in RUNS]
    assert trainer.commands == [
        [
            *(sys.executable, "-m", "zoo.cli.main", "train", recipe.preset, "--steps", "20"),
            *("--optimizers.generator.learning-rate", rate, "--seed", str(seed)),
            *("--precision", "float32", "--run-dir", str(out / name)),
        ]
        for name, (_, rate, seed) in zip(names, RUNS, strict=True)
    ]
    rows = rows_of(out)
    columns = ["run", "generator_learning_rate", "seed", "status", "steps", "seconds", "generator_loss"]
    assert [list(row) for row in rows] == [columns] * 4
    assert [(row["run"], row["generator_learning_rate"], row["seed"]) for row in rows] == [
        (name, rate, str(seed)) for name, (_, rate, seed) in zip(names, RUNS, strict=True)
    ]
    assert {(row["status"], row["steps"]) for row in rows} == {("finished", "20")}
    assert [float(row["generator_loss"]) for row in rows] == pytest.approx([0.1, 0.2, 1.1, 1.2])
    # mean and sample standard deviation of 0.1 and 1.1, of 0.2 and 1.2: sqrt(2 * 0.5**2 / 1) = 0.71
    assert (out / "sweep.md").read_text().splitlines()[-4:] == [
        "| generator_learning_rate | finished | generator_loss |",
        "| --- | --- | --- |",
        "| 1e-4 | 2 of 2 | 0.6 ± 0.71 |",
        "| 2e-4 | 2 of 2 | 0.7 ± 0.71 |",
    ]
    shown = capsys.readouterr().out
    assert shown.count("0.7 ± 0.71") == 1  # after the fourth run
    assert shown.splitlines()[-1] == str(out)


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    out, again = tmp_path / "out", Trainer()
    go(out, Trainer())
    before = rows_of(out)
    assert go(out, again) == 0
    assert (again.commands, rows_of(out)) == ([], before)


def test_more_seeds_run_only_what_is_new(tmp_path: Path) -> None:
    out, more = tmp_path / "out", Trainer()
    go(out, Trainer())
    assert go(out, more, seeds=3) == 0
    assert more.names == ["005", "006"]
    assert len(rows_of(out)) == 6


def test_a_run_whose_export_failed_after_its_last_step_is_done_again(tmp_path: Path) -> None:
    out, again = tmp_path / "out", Trainer()
    go(out, Trainer())
    (folder,) = [path for path in out.iterdir() if path.is_dir() and path.name.startswith("002")]
    (folder / "export").rmdir()
    assert go(out, again) == 0
    assert again.names == ["002"]
    assert [row["status"] for row in rows_of(out)] == ["finished"] * 4


def test_a_failed_run_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    out, trainer = tmp_path / "out", Trainer(fails=("001", "004"))
    assert go(out, trainer) == 1
    assert trainer.names == ["001", "002", "003", "004"]
    why = "failed: the [generator] became infinite or NaN | lower the rate"
    assert [(row["status"], row["steps"]) for row in rows_of(out)] == [
        *((why, "10"), ("finished", "20")),
        *(("finished", "20"), (why, "10")),
    ]
    page = (out / "sweep.md").read_text()
    assert "| 1e-4 | 1 of 2 | 1.1 |" in page  # of the finished seed alone
    assert f"- `004-generator_learning_rate=2e-4-seed=1`: {why}" in page


def test_a_stopped_sweep_goes_on_with_the_run_that_had_begun(tmp_path: Path) -> None:
    out, again = tmp_path / "out", Trainer()
    stopped = Trainer(stops="002")
    assert go(out, stopped) == 143
    assert stopped.names == ["001", "002"]
    assert [row["status"] for row in rows_of(out)] == ["finished", "stopped"]
    assert go(out, again) == 0
    assert again.names == ["002", "003", "004"]
    assert ["--resume" in command for command in again.commands] == [True, False, False]
    assert [row["status"] for row in rows_of(out)] == ["finished"] * 4


def test_the_seconds_of_a_resumed_run_add_up(tmp_path: Path) -> None:
    out = tmp_path / "out"
    go(out, Trainer(stops="001"))
    text = (out / "sweep.csv").read_text()
    (row,) = rows_of(out)
    (out / "sweep.csv").write_text(text.replace(f",{row['seconds']},", ",1000.0,"))
    go(out, Trainer())
    assert float(rows_of(out)[0]["seconds"]) >= 1000


def test_another_sweep_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    out, trainer = tmp_path / "out", Trainer()
    go(out, Trainer())
    with pytest.raises(RunError, match=r"grid.generator_learning_rate was \['1e-4', '2e-4'\], now \['3e-4'\]"):
        sweep(plan(recipe, GRID, 1), out, {**IDENTITY, "grid": {"generator_learning_rate": ["3e-4"]}}, trainer)
    assert trainer.commands == []


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="is something that no sweep wrote"):
        go(tmp_path, Trainer())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("values", "cell"),
    [([], ""), ([0.25], "0.25"), ([1.0, 3.0], "2 ± 1.4"), ([1.0, float("nan")], "nan ± nan")],
)
def test_a_cell_of_the_summary(values: list[float], cell: str) -> None:
    assert format_spread(values) == cell


# The precision of runs that leave it open


def test_the_machine_is_asked_once_and_a_later_call_keeps_to_it(
    asked: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, again = tmp_path / "out", Trainer()
    go(out, Trainer(stops="002"))
    assert (len(asked), json.loads((out / "sweep.json").read_text())["precision"]) == (1, "float32")
    monkeypatch.setattr(sweeping, "choose_precision_apart", lambda recipe: "mixed_bfloat16")
    assert go(out, again) == 0
    assert {after("--precision", command) for command in again.commands} == {"float32"}


@pytest.mark.parametrize(
    ("grid", "options", "given"),
    [
        ({}, ("--precision", "mixed_bfloat16"), ["mixed_bfloat16"]),
        ({"precision": ["mixed_float16", "mixed_bfloat16"]}, (), ["mixed_float16", "mixed_bfloat16"]),
    ],
)
def test_a_precision_that_is_named_stays(
    grid: dict[str, list[str]], options: tuple[str, ...], given: list[str], asked: list[Recipe], tmp_path: Path
) -> None:
    commands: list[Sequence[str]] = []
    sweep(plan(recipe, grid, 1, options), tmp_path / "out", IDENTITY, lambda command, _: commands.append(command) or 0)
    assert [after("--precision", command) for command in commands] == given
    assert all(command.count("--precision") == 1 for command in commands)
    assert (asked, json.loads((tmp_path / "out" / "sweep.json").read_text())["precision"]) == ([], None)


def test_points_with_xla_decide_for_all(asked: list[Recipe], tmp_path: Path) -> None:
    sweep(plan(recipe, {"xla": ["False", "True"]}, 1), tmp_path / "out", IDENTITY, lambda command, _: 0)
    assert [each.xla for each in asked] == [True]


def test_the_machine_is_asked_in_a_process_of_its_own() -> None:
    """With XLA every processor says the same."""
    assert choose_precision_apart(dataclasses.replace(recipe, xla=True)) == "float32"


# A run's process


def test_a_process_leaves_its_output_in_order(tmp_path: Path) -> None:
    script = "import sys; print('first'); print('second', file=sys.stderr); print('third'); sys.exit(3)"
    assert run_in_process([sys.executable, "-c", script], tmp_path / "output.txt") == 3
    assert run_in_process([sys.executable, "-c", "print('fourth')"], tmp_path / "output.txt") == 0
    assert (tmp_path / "output.txt").read_text().split() == ["first", "second", "third", "fourth"]


SAVES = """
import pathlib, signal, sys, time
def save(number, frame):
    print("saved", number)
    sys.exit(128 + number)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, save)
pathlib.Path(sys.argv[1]).touch()
time.sleep(300)
"""


SWEEPS = """
import pathlib, signal, sys
from zoo.training.sweep import SignaledError, run_in_process
number, script, ready, output = int(sys.argv[1]), *sys.argv[2:]
before = signal.getsignal(number)
try:
    run_in_process([sys.executable, "-c", script, ready], pathlib.Path(output))
except SignaledError as stopped:
    print(stopped.status, signal.getsignal(number) is before)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_run_which_saves(tmp_path: Path, number: signal.Signals) -> None:
    """Sent to a process of its own: after thousands of tests pytest's worker died of it, for a reason not found."""
    ready, output = tmp_path / "ready", tmp_path / "output.txt"
    command = [sys.executable, "-c", SWEEPS, str(int(number)), SAVES, str(ready), str(output)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(PATIENCE * 20):
            if ready.exists() or process.poll() is not None:
                break
            threading.Event().wait(0.05)
        process.send_signal(number)
        printed, _ = process.communicate(timeout=PATIENCE)
    assert printed == f"{128 + number} True\n"
    assert output.read_text() == f"saved {int(number)}\n"


def test_a_killed_run_is_named_by_its_signal(tmp_path: Path) -> None:
    def train(command: Sequence[str], output: Path) -> int:
        script = "import os; print('step 1'); os.kill(os.getpid(), 9)"
        return run_in_process([sys.executable, "-c", script], output)

    assert sweep(plan(recipe, {}, 1), tmp_path / "out", IDENTITY, train) == 1
    assert rows_of(tmp_path / "out")[0]["status"] == "failed: killed by SIGKILL"


# The real thing


@pytest.mark.slow
def test_a_real_sweep_of_two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    out = tmp_path / "out"
    ours = ["--grid", "generator_learning_rate=1e-4,2e-2", "--out", str(out)]
    with pytest.raises(SystemExit) as exit:
        main(recipe, [*ours, "--", "--smoke", "--data", "embedded"], prog="zoo sweep")
    rows = rows_of(out)
    assert exit.value.code == 0
    assert [(row["generator_learning_rate"], row["status"], row["steps"]) for row in rows] == [
        ("1e-4", "finished", "4"),
        ("2e-2", "finished", "4"),
    ]
    for row in rows:
        with (out / row["run"] / "log.csv").open() as file:
            last = list(csv.DictReader(file))[-1]
        assert {name: row[name] for name in last if name not in ("step", "seconds")} == {
            name: value for name, value in last.items() if name not in ("step", "seconds")
        }
        assert (out / row["run"] / "export" / "card.json").exists()
        assert str(out / row["run"]) in (out / f"{row['run']}.txt").read_text()
    assert rows[0]["generator_loss"] != rows[1]["generator_loss"]  # the grid reached the optimizer
    header, _, *lines = (out / "sweep.md").read_text().splitlines()[-4:]
    column = header.split(" | ").index("generator_loss")
    shown = [line.split(" | ")[column] for line in lines]
    assert shown == [f"{float(row['generator_loss']):.4g}" for row in rows]
