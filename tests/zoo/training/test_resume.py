"""A run that was stopped, or killed, and resumed ends with the bits of one that was left alone."""

import csv
import dataclasses
import io
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

from recipes import dcgan_fashion_mnist
from zoo.data.batches import steps_per_epoch
from zoo.data.load import load_images
from zoo.pretrained import load_pretrained
from zoo.training import run as resolving
from zoo.training.callbacks import RunCallback
from zoo.training.checkpoints import Checkpoints
from zoo.training.claim import Claim, Holder
from zoo.training.precision import Precision
from zoo.training.recipe import Adam, Recipe
from zoo.training.run import ImageSplits, Run, build_model
from zoo.training.run_directory import RunError
from zoo.training.signals import SignalHandler
from zoo.training.train import StoppedError, run_recipe, train
from zoo.training.workers import Workers

# With this epsilon rounding does not decide where Adam goes, so that two devices can be compared with one.
ADAM = Adam(2e-4, beta_1=0.5, epsilon=1e-3)
STOPPED, STEPS = 3, 6  # two steps an epoch: the run stops inside the second and goes on into the third
PATIENCE = 300  # seconds


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty small images of noise, so that no two batches are alike."""
    folder = tmp_path_factory.mktemp("data")
    for number in range(40):
        values = np.random.Generator(np.random.Philox(number)).integers(0, 256, (16, 16), np.uint8)
        Image.fromarray(values).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def base(images: Path) -> Recipe:
    """Six steps of the tiny twin.

    On the CPU the bits are the same without op determinism, which would outlast the test; the killed runs use it.
    """
    return dataclasses.replace(
        dcgan_fashion_mnist.recipe,
        data=str(images),
        smoke=True,
        deterministic=False,
        steps=STEPS,
        batch_size=16,
        log_every=3,
        sample_every=3,
        checkpoint_every=3,
        score_every=3,
        optimizers={"generator": ADAM, "discriminator": ADAM},
    )


@dataclasses.dataclass(frozen=True)
class Nadam(Adam):
    """Another optimizer of the very same numbers: `build` goes by the name of the class."""


def go(recipe: Recipe, run_dir: Path, **changes: Any) -> str:
    """Train in `run_dir`; returns what the console showed."""
    shown = io.StringIO()
    assert train(dataclasses.replace(recipe, run_dir=run_dir, **changes), Console(file=shown)) == run_dir
    return shown.getvalue()


def go_on_with(directory: Path) -> str:
    """What a stopped run of `base` tells to do."""
    return f"go on with zoo train {dcgan_fashion_mnist.recipe.preset} --resume --run-dir {directory}"


@pytest.fixture(scope="module")
def uninterrupted(base: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("uninterrupted") / "run"
    go(base, directory)
    return directory


@pytest.fixture(scope="module")
def stopped(base: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three steps."""
    directory = tmp_path_factory.mktemp("stopped") / "run"
    go(base, directory, steps=STOPPED)
    return directory


@pytest.fixture
def copied(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def last_checkpoint(directory: Path) -> dict[str, np.ndarray]:
    """Name -> tensor of weights, averages, optimizers and step; not TensorFlow's count of the files it wrote."""
    reader = tf.train.load_checkpoint(str(directory / "checkpoints"))
    names = [name for name in reader.get_variable_to_shape_map() if not name.startswith(("_", "save_counter"))]
    return {name: reader.get_tensor(name) for name in names}


def rows(directory: Path) -> list[dict[str, str]]:
    """log.csv without the seconds, digit for digit."""
    with (directory / "log.csv").open(encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def assert_same_bits(run: Path, expected: Path, steps: int) -> None:
    found, wanted = last_checkpoint(run), last_checkpoint(expected)
    assert wanted["model/step/.ATTRIBUTES/VARIABLE_VALUE"] == steps
    assert {name.split("/")[0] for name in wanted} == {"model", "generator_optimizer", "discriminator_optimizer"}
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)
    assert rows(run) == rows(expected)
    grids = [{path.name: path.read_bytes() for path in (one / "samples").iterdir()} for one in (run, expected)]
    assert grids[0] == grids[1]


# Stopped and resumed


def test_a_resumed_run_ends_with_the_same_bits(
    base: Recipe, images: Path, stopped: Path, uninterrupted: Path, copied: Path
) -> None:
    epoch = steps_per_epoch(load_images(str(images), image_size=16, channels=1), base.batch_size)
    assert STOPPED // epoch < STEPS // epoch  # crosses the border of an epoch
    assert STOPPED % epoch != 0  # and begins inside one
    assert "resumed at step 3." in go(base, copied, resume=True)
    assert_same_bits(copied, uninterrupted, STEPS)
    assert [row["step"] for row in rows(copied)] == ["3", "6"]
    moved = last_checkpoint(stopped)
    assert any(not np.array_equal(moved[name], tensor) for name, tensor in last_checkpoint(copied).items())


def test_what_does_not_reach_the_weights_may_change(
    base: Recipe, images: Path, uninterrupted: Path, copied: Path, tmp_path: Path
) -> None:
    """More steps, other devices, another pace of logging, the same images in another place."""
    moved = shutil.copytree(images, tmp_path / "moved")
    pace = {"log_every": 2, "sample_every": 4, "checkpoint_every": 5, "keep": 1}
    go(base, copied, resume=True, data=str(moved), devices=2, **pace)
    found, wanted = last_checkpoint(copied), last_checkpoint(uninterrupted)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        np.testing.assert_allclose(found[name], tensor, rtol=0, atol=1e-5, err_msg=name)
    assert [row["step"] for row in rows(copied)] == ["3", "4", "6"]


def test_a_finished_run_is_exported_again_and_nothing_else(base: Recipe, stopped: Path, copied: Path) -> None:
    shutil.rmtree(copied / "export")
    go(base, copied, resume=True, steps=STOPPED)
    assert (copied / "export" / "card.json").exists()
    assert_same_bits(copied, stopped, STOPPED)


@pytest.mark.parametrize(
    ("changes", "differences"),
    [
        ({"batch_size": 8}, ["recipe.batch_size was 16, now 8"]),
        ({"seed": 1}, ["recipe.seed was 0, now 1"]),
        (
            {"optimizers": {"generator": dataclasses.replace(ADAM, learning_rate=1e-3), "discriminator": ADAM}},
            ["recipe.optimizers.generator.learning_rate was 0.0002, now 0.001"],
        ),
        (
            {"optimizers": {"generator": Nadam(**dataclasses.asdict(ADAM)), "discriminator": ADAM}},
            ["optimizers.generator was 'Adam', now 'Nadam'"],
        ),
        (
            {"preset": "dcgan-images"},
            ["model.image_shape was [16, 16, 1], now [16, 16, 3]", "recipe.preset was 'dcgan-fashion-mnist', now "],
        ),
        ({"data": "embedded"}, ["data.count was ", "data.fingerprint was "]),
        ({"fit": "squash"}, ["recipe.fit was 'pad', now 'squash'"]),
    ],
    ids=["batch size", "seed", "learning rate", "optimizer", "model", "data", "fit"],
)
def test_what_reaches_the_weights_may_not_change(
    changes: dict[str, Any], differences: list[str], base: Recipe, stopped: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in stopped.rglob("*")}
    with pytest.raises(RunError, match="begun with another configuration") as error:
        go(base, stopped, resume=True, **changes)
    assert all(difference in str(error.value) for difference in differences)
    assert (
        str(error.value).count(", now ") == str(error.value).count(" was ") - 1
    )  # "was begun", and no difference more
    assert {path: path.stat().st_mtime_ns for path in stopped.rglob("*")} == before


def test_one_other_image_is_other_data(base: Recipe, images: Path, stopped: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(images, tmp_path / "changed")
    split = load_images(str(changed), image_size=16, channels=1)
    for path in sorted(changed.iterdir()):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
        if not np.array_equal(load_images(str(changed), image_size=16, channels=1).images, split.images):
            break  # the first image that is not held out
    with pytest.raises(RunError, match=r"data\.fingerprint was '\w{64}', now '\w{64}'\. Resume"):
        go(base, stopped, resume=True, data=str(changed))


# A damaged checkpoint


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(
    base: Recipe, uninterrupted: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    go(base, directory, steps=4, checkpoint_every=2, log_every=2)
    (data,) = directory.glob("checkpoints/ckpt-4.data-*")
    data.write_bytes(data.read_bytes()[:-1])
    shown = go(base, directory, resume=True)
    assert f"{directory / 'checkpoints' / 'ckpt-4'} is passed over: {data.name} is damaged" in shown
    assert "resumed at step 2." in shown
    shutil.rmtree(directory / "samples")  # grids were drawn at other steps
    shutil.copytree(uninterrupted / "samples", directory / "samples")
    (directory / "log.csv").write_bytes((uninterrupted / "log.csv").read_bytes())
    assert_same_bits(directory, uninterrupted, STEPS)


# The step to go on from, and the files


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"steps": 2}, "--steps 2: the run is at step 3 already: choose --steps 3 or more."),
        (
            {"steps": 8, "steps_per_execution": 2, "log_every": 2, "sample_every": 2, "checkpoint_every": 2}
            | {"score_every": 2},
            "--steps-per-execution 2: the run is at step 3, and 5 are left: choose a number that divides these.",
        ),
    ],
    ids=["fewer steps", "uneven executions"],
)
def test_a_run_that_cannot_come_to_its_last_step_is_not_resumed(
    changes: dict[str, Any], reason: str, base: Recipe, copied: Path
) -> None:
    before = (copied / "config.json").read_bytes()
    with pytest.raises(RunError) as error:
        go(base, copied, resume=True, **changes)
    assert str(error.value) == reason
    assert (copied / "config.json").read_bytes() == before
    assert last_checkpoint(copied)["model/step/.ATTRIBUTES/VARIABLE_VALUE"] == STOPPED


@pytest.mark.parametrize("content", [b"", b'{"recipe": {', b"[1]", b"\xff\xfe", b'{"recipe": []}', b"[" * 100_000])
def test_a_damaged_configuration_is_one_line(
    content: bytes, base: Recipe, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "config.json").write_bytes(content)
    assert run_recipe(dataclasses.replace(base, run_dir=copied, resume=True)) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: {copied / 'config.json'} is damaged")
    assert said.endswith("Put back a copy of it, or begin a new run in another folder.")


def test_a_run_in_use_is_not_resumed_and_one_whose_process_died_is(
    base: Recipe, uninterrupted: Path, copied: Path
) -> None:
    with Claim(copied), pytest.raises(RunError, match=rf"is in use by process {os.getpid()} on "):
        go(base, copied, resume=True)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = dataclasses.asdict(dataclasses.replace(Holder.this_process(), pid=ended.pid))
    (copied / "claim-1.json").write_text(json.dumps(left))
    go(base, copied, resume=True)
    assert_same_bits(copied, uninterrupted, STEPS)
    assert not list(copied.glob("claim-*"))


def test_the_run_may_lie_at_any_path(base: Recipe, uninterrupted: Path, tmp_path: Path) -> None:
    """TensorFlow takes brackets and stars for patterns."""
    directory = tmp_path / "a[1]*?{2} #%é\\\n" / ("long" * 60) / " -x "
    go(base, directory, steps=STOPPED)
    shutil.rmtree(directory / "export")
    shown = go(base, directory, resume=True)
    assert "resumed at step 3." in shown
    export = shlex.quote(str(directory / "export"))
    for line in (f"zoo sample {export}", f"zoo evaluate {export}", f"zoo serve --models {shlex.quote(str(directory))}"):
        assert line in shown  # words of a shell, whatever is in the path
    plain = shutil.copytree(directory, tmp_path / "plain")
    assert_same_bits(plain, uninterrupted, STEPS)
    assert any((directory / "tensorboard").iterdir())
    found = load_pretrained(str(directory / "export"), format="saved_model").sample(2, seed=0)
    np.testing.assert_array_equal(found, load_pretrained(str(plain / "export"), format="saved_model").sample(2, seed=0))


# Stopped by a signal


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_step_under_way_and_saves(
    number: int,
    status: int,
    base: Recipe,
    uninterrupted: Path,
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The signal comes during the save of step 3, so step 4 is the one under way."""
    directory, save = copied.parent / "stopped", Checkpoints.save

    def save_and_signal(self: Checkpoints, step: int, **facts: float) -> None:
        save(self, step, **facts)
        if step == STOPPED and self.directory.name == "checkpoints":
            os.kill(os.getpid(), number)

    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    monkeypatch.setattr(Checkpoints, "save", save_and_signal)
    with pytest.raises(StoppedError) as stop:
        go(base, directory)
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before
    assert stop.value.status == status
    name = signal.Signals(number).name
    assert str(stop.value) == f"stopped by {name} and saved at step 4: " + go_on_with(directory)
    assert last_checkpoint(directory)["model/step/.ATTRIBUTES/VARIABLE_VALUE"] == 4
    assert [row["step"] for row in rows(directory)] == ["3", "4"]
    assert not (directory / "export").exists()
    assert "resumed at step 4." in go(base, directory, resume=True)
    found, wanted = rows(directory), rows(uninterrupted)
    assert [row["step"] for row in found] == ["3", "4", "6"]
    assert found[0] == wanted[0]
    (directory / "log.csv").write_bytes((uninterrupted / "log.csv").read_bytes())  # two rows more, as documented
    assert_same_bits(directory, uninterrupted, STEPS)


def test_a_second_signal_is_left_to_the_system() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    with SignalHandler() as stop:
        assert stop.signal_number is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal_number == signal.SIGTERM
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_DFL] * 2
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the shell started the tests in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_before_the_first_step_is_one_line(
    base: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resolving, "choose_strategy", lambda recipe: os.kill(os.getpid(), signal.SIGINT))
    assert run_recipe(dataclasses.replace(base, run_dir=tmp_path / "run")) == 130
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("stopped by SIGINT outside of the training steps; a run that has begun goes on")


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    found = []

    def enter() -> None:
        with SignalHandler():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


# No room left


def test_a_run_that_found_no_room_goes_on_once_there_is_some(base: Recipe, uninterrupted: Path, copied: Path) -> None:
    """A limit on the size of a file stands in for a full disk: the checkpoint is the one file that is larger."""
    shutil.rmtree(copied / "export")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        with pytest.raises(RunError) as error:
            go(base, copied, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "the checkpoint of step 6 could not be saved: File too large; " in str(error.value)
    assert f"the last good checkpoint is {copied / 'checkpoints' / 'ckpt-3'}. Make room" in str(error.value)
    assert f"go on with --resume --run-dir {copied}" in str(error.value)
    assert not (copied / "export").exists()
    assert "resumed at step 3." in go(base, copied, resume=True)
    assert_same_bits(copied, uninterrupted, STEPS)


# A log that a kill cut


@pytest.fixture(scope="module")
def callback_of(base: Recipe, images: Path) -> Callable[[Path], RunCallback]:
    """The callback of a run that goes on from step 12."""
    preset = base.to_preset()
    model = build_model(preset)
    model.compile(**{player: choice.build() for player, choice in base.optimizers.items()})
    model.step.assign(12)
    shown = load_images(str(images), image_size=16, channels=1)

    def keep(directory: Path) -> RunCallback:
        checkpoints = Checkpoints(model, directory / "checkpoints", 1)
        alone, console = Workers(tf.distribute.get_strategy()), Console(file=io.StringIO())
        precision = Precision("float32", "recipe", "as asked")
        run = Run(base, preset, model, ImageSplits(shown, shown), None, directory, precision, alone, console)
        return RunCallback(run, checkpoints, SignalHandler(), Claim(directory))

    return keep


HEADER, FIRST, SECOND = "step,seconds,loss\n", "10,1.5,0.7\n", "12,2.5,0.6\n"


@pytest.mark.parametrize(
    ("log", "kept"),
    [
        (HEADER + FIRST + SECOND, HEADER + FIRST + SECOND),
        (HEADER + FIRST + SECOND + "14,3.5,0.5\n", HEADER + FIRST + SECOND),
        (HEADER + FIRST + SECOND + "14,3.", HEADER + FIRST + SECOND),
        (HEADER + FIRST + SECOND + "1", HEADER + FIRST + SECOND),  # the beginning of 14: not row 1
        (HEADER + FIRST + SECOND.strip(), HEADER + FIRST),
        (HEADER, HEADER),
        ("step,sec", ""),
        ("", ""),
    ],
    ids=["whole", "later row", "cut row", "cut number", "no end of line", "header", "cut header", "empty"],
)
def test_only_whole_rows_up_to_the_checkpoint_are_kept(
    log: str, kept: str, callback_of: Callable[[Path], RunCallback], tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text(log)
    callback = callback_of(tmp_path)
    assert (tmp_path / "log.csv").read_text() == kept
    callback.log({"loss": 0.25}, {})
    header, *found = (tmp_path / "log.csv").read_bytes().decode().splitlines()
    assert header.startswith("step,seconds,loss,")
    columns = header.count(",")
    assert {line.count(",") for line in found} == {columns}
    before = kept.removeprefix(HEADER).splitlines()
    assert found[:-1] == [line + "," * (columns - 2) for line in before]  # older rows lack the newer columns
    assert found[-1].startswith("12,")
    assert found[-1].split(",")[2] == "0.25"
    callback.log({"loss": 0.125}, {})
    header_now, *found_now = (tmp_path / "log.csv").read_bytes().decode().splitlines()
    assert (header_now, found_now[:-1]) == (header, found)
    assert found_now[-1].split(",")[2] == "0.125"


def test_a_run_with_a_cut_log_is_resumed(base: Recipe, uninterrupted: Path, copied: Path) -> None:
    with (copied / "log.csv").open("a") as file:
        file.write("6,12.5,0.69")
    go(base, copied, resume=True)
    assert rows(copied) == rows(uninterrupted)


# Killed

LENGTH, EVERY = 60, 3
DRIVER = """
import sys
from pathlib import Path
import zoo.training.recipe
from zoo.training.recipe import Adam, Recipe
from zoo.training.train import run_recipe

data, run_dir, resume, length, every = sys.argv[1:]
zoo.training.recipe.SMOKE_STEPS = int(length)
recipe = Recipe(
    preset="dcgan-fashion-mnist", smoke=True, data=data, run_dir=Path(run_dir), resume=resume == "resume",
    steps=int(length), batch_size=16, log_every=int(every), sample_every=2 * int(every), checkpoint_every=int(every),
    optimizers={"generator": Adam(), "discriminator": Adam()}, precision="float32",
)
sys.exit(run_recipe(recipe))
"""


class Runs:
    """Processes that train in `directory`, one after another."""

    def __init__(self, folder: Path, images: Path):
        self.folder = folder
        self.directory = folder / "run"
        self.images = images
        self.script = folder / "driver.py"
        self.script.write_text(DRIVER)

    def start(self, resume: bool) -> subprocess.Popen[bytes]:
        how = "resume" if resume else "begin"
        arguments = [str(self.images), str(self.directory), how, str(LENGTH), str(EVERY)]
        with (self.folder / "shown.txt").open("ab") as shown:
            return subprocess.Popen([sys.executable, str(self.script), *arguments], stdout=shown, stderr=shown)

    def wait_for(self, process: subprocess.Popen[bytes]) -> None:
        assert process.wait(PATIENCE) == 0, (self.folder / "shown.txt").read_text()

    def kill_once(self, reached: Callable[[], bool], resume: bool) -> None:
        """Start, wait for the moment, and send SIGKILL."""
        assert self.signal_once(signal.SIGKILL, reached, resume) == -signal.SIGKILL

    def signal_once(self, number: int, reached: Callable[[], bool], resume: bool) -> int:
        """Start, wait for the moment, and send the signal; returns the exit status."""
        process = self.start(resume)
        try:
            deadline = time.monotonic() + PATIENCE
            while not reached():
                assert process.poll() is None, (self.folder / "shown.txt").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.002)
            process.send_signal(number)
            return process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait(PATIENCE)

    def begun(self) -> bool:
        return (self.directory / "config.json").exists()

    def saved(self) -> int:
        """The step of the newest checkpoint file, whether or not it is whole; 0 if there is none."""
        found = self.directory.glob("checkpoints/*.index")
        return max((int(path.stem.removeprefix("ckpt-")) for path in found), default=0)


@pytest.fixture
def killed(tmp_path: Path, images: Path) -> Runs:
    return Runs(tmp_path, images)


@pytest.fixture(scope="module")
def left_alone(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    """The same run, never killed; it trains while the others are killed."""
    runs = Runs(tmp_path_factory.mktemp("left-alone"), images)
    process = runs.start(resume=False)

    def finished() -> Path:
        runs.wait_for(process)
        return runs.directory

    yield finished
    process.kill()
    process.wait(PATIENCE)


def test_a_killed_and_resumed_run_ends_with_the_same_bits(killed: Runs, left_alone: Callable[[], Path]) -> None:
    """Killed by SIGKILL in the middle."""
    killed.kill_once(lambda: killed.saved() >= LENGTH // 2, resume=False)
    assert LENGTH // 2 <= killed.saved() < LENGTH
    killed.wait_for(killed.start(resume=True))
    assert "resumed at step " in (killed.folder / "shown.txt").read_text()
    expected = left_alone()
    assert rows(killed.directory) == rows(expected)
    (killed.directory / "log.csv").write_bytes((expected / "log.csv").read_bytes())
    assert_same_bits(killed.directory, expected, LENGTH)


@pytest.mark.slow
def test_a_run_stopped_four_times_ends_with_the_same_bits(killed: Runs, left_alone: Callable[[], Path]) -> None:
    """Killed before the first checkpoint and at the first one, stopped by SIGTERM, and killed in the middle."""
    killed.kill_once(killed.begun, resume=False)
    assert killed.saved() == 0
    killed.kill_once(lambda: killed.saved() > 0, resume=True)
    assert 0 < killed.saved() < LENGTH // 4
    status = killed.signal_once(signal.SIGTERM, lambda: killed.saved() >= LENGTH // 4, resume=True)
    shown = (killed.folder / "shown.txt").read_text()
    assert status == 143, shown
    stopped = killed.saved()
    assert LENGTH // 4 <= stopped < LENGTH // 2
    assert f"stopped by SIGTERM and saved at step {stopped}: {go_on_with(killed.directory)}" in shown
    assert "Traceback" not in shown
    assert rows(killed.directory)[-1]["step"] == str(stopped)
    assert not (killed.directory / "export").exists()
    killed.kill_once(lambda: killed.saved() >= LENGTH // 2, resume=True)
    assert LENGTH // 2 <= killed.saved() < LENGTH
    killed.wait_for(killed.start(resume=True))
    shown = (killed.folder / "shown.txt").read_text()
    assert "no checkpoint yet: the run begins again at step 0." in shown
    assert shown.count("resumed at step ") >= 2
    expected = left_alone()
    # The interval that SIGTERM cut has a row more, and its last row is the mean of what was left of it.
    whole = {step for step in range(EVERY, LENGTH + 1, EVERY) if not step - EVERY < stopped < step}
    found, wanted = ([row for row in rows(run) if int(row["step"]) in whole] for run in (killed.directory, expected))
    assert found == wanted
    assert {int(row["step"]) for row in rows(killed.directory)} == {*range(EVERY, LENGTH + 1, EVERY), stopped}
    (killed.directory / "log.csv").write_bytes((expected / "log.csv").read_bytes())
    assert_same_bits(killed.directory, expected, LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_run_killed_at_any_moment_ends_with_the_same_bits(
    seed: int, killed: Runs, left_alone: Callable[[], Path]
) -> None:
    """Ten kills, each some milliseconds after another checkpoint, wherever the run then is; thirty over the seeds."""
    random = np.random.default_rng(seed)
    for step in sorted(random.choice(range(EVERY, LENGTH - 5 * EVERY, EVERY), 10, replace=False)):

        def reached(step: int = step) -> bool:
            if killed.saved() < step:
                return False
            time.sleep(random.uniform(0, 0.2))
            return True

        killed.kill_once(reached, resume=killed.begun())
    killed.wait_for(killed.start(resume=True))
    assert_same_bits(killed.directory, left_alone(), LENGTH)
