"""Of every state that a kill, a damaged file or a full disk leaves, the newest whole checkpoint is restored."""

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import dcgan_fashion_mnist
from zoo.core.model import GenerativeModel
from zoo.presets.table import find_preset
from zoo.training.checkpoints import Checkpoints
from zoo.training.run import build_model
from zoo.training.run_directory import RunError

PATIENCE = 120  # seconds


def compiled(optimizer: type[keras.optimizers.Optimizer] = keras.optimizers.Adam) -> GenerativeModel:
    """The tiny twin of a GAN."""
    model = build_model(find_preset("dcgan-fashion-mnist").twin())
    model.compile(generator=optimizer(1e-4), discriminator=optimizer(1e-4))
    return model


@pytest.fixture(scope="module")
def model() -> GenerativeModel:
    return compiled()


def move(model: GenerativeModel, step: int) -> None:
    """Set every variable to numbers that are this step's own."""
    model.step.assign(step)
    for number, variable in enumerate(variables(model)):
        random = np.random.Generator(np.random.Philox([step, number]))
        variable.assign(random.normal(size=variable.shape).astype(variable.dtype))


def variables(model: GenerativeModel) -> list[keras.Variable]:
    """Weights, averages and the optimizers' moments."""
    moments = [
        moment for optimizer in model.player_optimizers.values() for moment in optimizer.variables if moment.ndim > 0
    ]
    weights = {id(weight): weight for network in (*model.layers,) for weight in network.weights}
    return [variable for variable in (*weights.values(), *moments) if "seed" not in variable.path]


def holds(model: GenerativeModel, step: int) -> bool:
    """Whether every variable is as `move` set it."""
    found = [variable.numpy() for variable in variables(model)]
    other = compiled()
    move(other, step)
    return int(model.step.numpy()) == step and all(
        np.array_equal(one, variable.numpy()) for one, variable in zip(found, variables(other), strict=True)
    )


@pytest.fixture(scope="module")
def saved(model: GenerativeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of steps 2, 4 and 6."""
    directory = tmp_path_factory.mktemp("saved") / "checkpoints"
    checkpoints = Checkpoints(model, directory, keep=3)
    for step in (2, 4, 6):
        move(model, step)
        checkpoints.save(step)
    return directory


@pytest.fixture
def directory(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "checkpoints"))


def restored(model: GenerativeModel, directory: Path, keep: int = 3) -> tuple[int, list[str]]:
    """The step that is restored, and what is said."""
    said: list[str] = []
    move(model, 99)
    return Checkpoints(model, directory, keep).restore(said.append), said


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def parts(step: int) -> set[str]:
    return {f"ckpt-{step}{ending}" for ending in (".data-00000-of-00001", ".index", ".json")}


# Whole


def test_the_last_ones_are_kept_each_with_its_record(model: GenerativeModel, saved: Path, directory: Path) -> None:
    assert names(saved) == {"checkpoint", *parts(2), *parts(4), *parts(6)}
    assert restored(model, directory) == (6, ["resumed at step 6."])
    assert holds(model, 6)
    checkpoints = Checkpoints(model, directory, keep=2)  # fewer than before
    checkpoints.restore(print)
    move(model, 8)
    checkpoints.save(8)
    assert names(directory) == {"checkpoint", *parts(6), *parts(8)}
    assert checkpoints.last == directory / "ckpt-8"
    assert tf.train.latest_checkpoint(str(directory)) == str(directory / "ckpt-8")


def test_nothing_saved_is_a_beginning(model: GenerativeModel, tmp_path: Path) -> None:
    assert restored(model, tmp_path / "none") == (0, ["no checkpoint yet: the run begins again at step 0."])


@pytest.mark.parametrize("junk", [None, b"", b"\xff\xfe\x00", b'model_checkpoint_path: "ck'])
def test_the_list_of_tensorflow_does_not_matter(junk: bytes | None, model: GenerativeModel, directory: Path) -> None:
    (directory / "checkpoint").unlink()
    if junk is not None:
        (directory / "checkpoint").write_bytes(junk)
    assert restored(model, directory)[0] == 6
    Checkpoints(model, directory, keep=2).save(8)
    assert names(directory) == {"checkpoint", *parts(6), *parts(8)}


# Damaged


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_data(path: Path) -> None:
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "files": {"ckpt-6.index": record["files"]["ckpt-6.index"]}}))


def add_to_record(path: Path, **more: Any) -> None:
    record = json.loads(path.read_text())
    more["files"] = {**record["files"], **more.get("files", {})}
    path.write_text(json.dumps({**record, **more}))


DATA, INDEX, RECORD = ".data-00000-of-00001", ".index", ".json"
DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "data, one bit": (DATA, flip, "ckpt-6.data-00000-of-00001 is damaged"),
    "data cut": (DATA, halve, "ckpt-6.data-00000-of-00001 is damaged"),
    "data empty": (DATA, lambda path: path.write_bytes(b""), "ckpt-6.data-00000-of-00001 is damaged"),
    "data gone": (DATA, Path.unlink, "ckpt-6.data-00000-of-00001 is missing"),
    "index, one bit": (INDEX, flip, "ckpt-6.index is damaged"),
    "index gone": (INDEX, Path.unlink, "ckpt-6.index is missing"),
    "record cut": (RECORD, halve, "ckpt-6.json is damaged"),
    "record, a list": (RECORD, lambda path: path.write_text("[]"), "ckpt-6.json is damaged"),
    "record, not text": (RECORD, lambda path: path.write_bytes(b"\xff\xfe"), "ckpt-6.json is damaged"),
    "record of no file": (RECORD, lambda path: path.write_text('{"files": {}}'), "ckpt-6.json is damaged"),
    "record of a path": (RECORD, lambda path: add_to_record(path, files={"../secret": {}}), "ckpt-6.json is damaged"),
    "record of no facts": (RECORD, lambda path: add_to_record(path, facts="none"), "ckpt-6.json is damaged"),
    "record, deep": (RECORD, lambda path: path.write_text("[" * 100_000), "ckpt-6.json is damaged"),
    "record of one file": (RECORD, lambda path: drop_data(path), "ckpt-6.json is damaged"),
    "record gone": (RECORD, Path.unlink, "its save was cut off"),
}


@pytest.mark.parametrize(("ending", "damage", "fault"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    ending: str, damage: Callable[[Path], object], fault: str, model: GenerativeModel, directory: Path
) -> None:
    damage(directory / f"ckpt-6{ending}")
    step, (passed, resumed) = restored(model, directory)
    assert step == int(model.step.numpy()) == 4
    assert passed.startswith(f"{directory / 'ckpt-6'} is passed over: {fault}")
    assert resumed == "resumed at step 4."


def test_the_next_save_replaces_a_damaged_checkpoint_and_no_good_one(model: GenerativeModel, directory: Path) -> None:
    flip(directory / "ckpt-6.index")
    checkpoints = Checkpoints(model, directory, keep=2)
    assert checkpoints.restore(print) == 4
    move(model, 5)
    checkpoints.save(5)
    assert names(directory) == {"checkpoint", *parts(4), *parts(5)}
    assert restored(model, directory) == (5, ["resumed at step 5."])


def test_when_none_is_whole_the_run_does_not_begin_again_in_silence(model: GenerativeModel, directory: Path) -> None:
    for path in directory.glob("*.index"):
        path.unlink()
    before = names(directory)
    with pytest.raises(RunError, match=r"none of the 3 checkpoint\(s\) in .* is whole\. Put back a copy"):
        restored(model, directory)
    assert names(directory) == before


def test_when_every_record_is_gone_neither(model: GenerativeModel, directory: Path) -> None:
    for path in directory.glob("*.json"):
        path.unlink()
    with pytest.raises(RunError, match="none of the 3"):
        restored(model, directory)


# Not of this model


@pytest.mark.parametrize(
    ("part", "lacking"),
    [
        (lambda model: {"model": model}, "it has no discriminator_optimizer and no generator_optimizer."),
        (
            lambda model: {"model": model, "discriminator_optimizer": model.player_optimizers["discriminator"]},
            "it has no generator_optimizer.",
        ),
    ],
    ids=["no optimizer", "one optimizer"],
)
def test_a_checkpoint_without_an_optimizer_is_refused(
    part: Callable[[GenerativeModel], dict[str, object]], lacking: str, model: GenerativeModel, tmp_path: Path
) -> None:
    tf.train.Checkpoint(**part(model)).write(str(tmp_path / "ckpt-3"))
    Checkpoints(model, tmp_path, keep=1).write_record(3, {})
    with pytest.raises(RunError, match="is not of this model as it is compiled") as error:
        restored(model, tmp_path)
    assert lacking in str(error.value)


def test_a_checkpoint_of_another_optimizer_or_of_other_sizes_is_refused(
    model: GenerativeModel, directory: Path
) -> None:
    preset = find_preset("dcgan-fashion-mnist").twin()
    wider = type(model)(**{**preset.arguments, "latent_dim": 2 * preset.arguments["latent_dim"]})
    wider.compile(generator=keras.optimizers.Adam(), discriminator=keras.optimizers.Adam())
    momentum = compiled(lambda rate: keras.optimizers.Adam(rate, amsgrad=True))
    for other in (wider, momentum):
        before = names(directory)
        with pytest.raises(RunError, match="it lacks a part of it"):
            restored(other, directory)
        assert names(directory) == before


# Killed


def save_by_hand(before: Path, after: Path, step: int, old: int | None) -> list[tuple[str, Callable[[Path], object]]]:
    """What a save does to a directory, one act after another, with the files of a real one.

    Args:
        before: the directory before the save.
        after: the directory after it.
        step: what is saved.
        old: the checkpoint that is removed for it.
    """
    data, index, record = (after / f"ckpt-{step}{ending}" for ending in (DATA, INDEX, RECORD))
    folder, shard = f"ckpt-{step}_temp", "part-00000-of-00001"

    def put(name: str, source: Path, part: float = 1.0) -> Callable[[Path], object]:
        content = source.read_bytes()
        return lambda to: (to / name).write_bytes(content[: int(len(content) * part)])

    def rename(source: str, target: str) -> Callable[[Path], object]:
        return lambda to: (to / source).replace(to / target)

    acts: list[tuple[str, Callable[[Path], object]]] = [
        ("nothing yet", lambda to: None),
        ("folder", lambda to: (to / folder).mkdir()),
        ("data opened", put(f"{folder}/{shard}{DATA}.tempstate1", data, 0)),
        ("data half written", put(f"{folder}/{shard}{DATA}.tempstate1", data, 0.5)),
        ("data written", put(f"{folder}/{shard}{DATA}.tempstate1", data)),
        ("data named", rename(f"{folder}/{shard}{DATA}.tempstate1", f"{folder}/{shard}{DATA}")),
        ("shard's index", put(f"{folder}/{shard}{INDEX}", index)),
        ("data moved", rename(f"{folder}/{shard}{DATA}", data.name)),
        ("index opened", put(index.name, index, 0)),
        ("index half written", put(index.name, index, 0.5)),
        ("index written", put(index.name, index)),
        ("folder removed", lambda to: shutil.rmtree(to / folder)),
        ("record half written", put(f"{record.name}.partial", record, 0.5)),
        ("record written", put(f"{record.name}.partial", record)),
        ("record named", rename(f"{record.name}.partial", record.name)),
    ]
    if old is not None:
        acts += [
            (f"old {end} removed", lambda to, end=end: (to / f"ckpt-{old}{end}").unlink())
            for end in (RECORD, INDEX, DATA)
        ]
    return [
        *acts,
        ("list written", put("checkpoint.tmp0a1b", after / "checkpoint")),
        ("list named", rename("checkpoint.tmp0a1b", "checkpoint")),
    ]


@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("first", [True, False], ids=["first save", "later save"])
def test_a_save_cut_off_anywhere_leaves_the_one_before_or_the_new_one(
    first: bool, keep: int, model: GenerativeModel, tmp_path: Path
) -> None:
    after = tmp_path / "after"
    checkpoints = Checkpoints(model, after, keep)
    steps = [2] if first else [2, 4, 6]
    for step in steps[:-1]:
        checkpoints.save(step)
    after.mkdir(exist_ok=True)
    before = shutil.copytree(after, tmp_path / "before")
    move(model, steps[-1])
    checkpoints.save(steps[-1])
    earlier, old = (0, None) if first else (4, 6 - 2 * keep)
    by_hand = shutil.copytree(before, tmp_path / "by hand")
    expected = earlier
    for number, (name, act) in enumerate(save_by_hand(before, after, steps[-1], old)):
        act(by_hand)
        expected = steps[-1] if name == "record named" else expected
        killed = shutil.copytree(by_hand, tmp_path / str(number))
        step, said = restored(model, killed, keep)
        assert step == expected, name
        assert said[-1] == (
            f"resumed at step {step}." if step else "no checkpoint yet: the run begins again at step 0."
        )
        left = names(killed) - {"checkpoint"}
        assert left == set().union(*(parts(int(path.stem[5:])) for path in killed.glob("*.json"))), name
        move(model, 8)
        Checkpoints(model, killed, keep).save(8)
        assert restored(model, killed, keep) == (8, ["resumed at step 8."]), name
    assert names(by_hand) == names(after)  # all of the save was played
    assert expected == steps[-1]


SAVER = """
import sys
from pathlib import Path
from zoo.training.checkpoints import Checkpoints
from zoo.training.run import build_model
import keras
from zoo.presets.table import find_preset

model = build_model(find_preset("dcgan-fashion-mnist"))
model.compile(generator=keras.optimizers.Adam(), discriminator=keras.optimizers.Adam())
checkpoints = Checkpoints(model, Path(sys.argv[1]), keep=1)
while True:
    model.step.assign_add(1)
    checkpoints.save(int(model.step.numpy()))
"""


def being_written(directory: Path) -> bool:
    """The data are under way: there is a temporary file, and nothing has its name yet."""
    return any(directory.glob("ckpt-*_temp/*.tempstate*"))


def between_renames(directory: Path) -> bool:
    """The data have their name, the record has not."""
    steps = {path.name.split(".")[0] for path in directory.glob("ckpt-*.data-*")}
    return any(not (directory / f"{step}.json").exists() for step in steps)


def test_a_process_killed_in_the_middle_of_a_save_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    """A stopped process's files are what a kill would leave: looked at while being written, then killed for good."""
    model = build_model(dcgan_fashion_mnist.recipe.to_preset())  # large enough to be met while it is written
    model.compile(generator=keras.optimizers.Adam(), discriminator=keras.optimizers.Adam())
    (tmp_path / "saver.py").write_text(SAVER)
    directory = tmp_path / "checkpoints"
    process = subprocess.Popen([sys.executable, str(tmp_path / "saver.py"), str(directory)])

    def stop_when(reached: Callable[[Path], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline
            if any(directory.glob("*.json")) and reached(directory):
                process.send_signal(signal.SIGSTOP)
                time.sleep(0.02)
                if any(directory.glob("*.json")) and reached(directory):
                    return
                process.send_signal(signal.SIGCONT)
            time.sleep(0.001)

    try:
        stop_when(being_written)
        writing = shutil.copytree(directory, tmp_path / "writing")
        process.send_signal(signal.SIGCONT)
        stop_when(between_renames)
    finally:
        process.kill()
        assert process.wait(PATIENCE) == -signal.SIGKILL
    assert being_written(writing)
    assert between_renames(directory)
    for left in (writing, directory):
        (record,) = left.glob("*.json")
        saved = json.loads(record.read_text())["step"]
        step, said = restored(model, left, keep=1)
        assert step == int(model.step.numpy()) == saved
        assert said == [
            f"{left / f'ckpt-{saved + 1}'} is passed over: its save was cut off.",
            f"resumed at step {saved}.",
        ]
        assert names(left) == {"checkpoint", *parts(saved)}


# No room left


@pytest.mark.parametrize(
    "room", [0, 2_000, 60_000], ids=["for nothing", "for less than the index", "for less than the data"]
)
def test_without_room_the_earlier_checkpoints_stay(room: int, model: GenerativeModel, directory: Path) -> None:
    """A limit on the size of a file stands in for a full disk."""
    checkpoints = Checkpoints(model, directory, keep=1)
    checkpoints.restore(print)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(RunError) as error:
            checkpoints.save(8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(error.value) == (
        f"the checkpoint of step 8 could not be saved: File too large; the last good checkpoint is "
        f"{directory / 'ckpt-6'}. Make room on its disk (or raise the quota) and go on with --resume "
        f"--run-dir {directory.parent}"
    )
    assert names(directory) == {*parts(2), *parts(4), *parts(6)}
    assert restored(model, directory) == (6, ["resumed at step 6."])
    checkpoints.save(8)
    assert names(directory) == {"checkpoint", *parts(8)}
