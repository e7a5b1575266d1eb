"""Checkpoints that survive a kill, a full disk and a damaged file.

A checkpoint is ckpt-N.data-*, ckpt-N.index and ckpt-N.json. The last is its record, the size and sha256 of the other
two, written when they are whole and before any earlier checkpoint is removed: a checkpoint without a record is the
leftover of a save that was cut off, one that differs from its record is damaged. `checkpoint` is TensorFlow's own list,
for its tools; nothing here reads it.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import tensorflow as tf

from zoo.core.model import GenerativeModel
from zoo.core.paths import PlainPath
from zoo.training.run_directory import RunError, make_resume_options, write_json

PART = re.compile(r"ckpt-(\d+)[._]")  # ckpt-5.index, ckpt-5.json.partial, the folder ckpt-5_temp
NO_ROOM = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class Checkpoints:
    """The last `keep` checkpoints of `model` in `directory`, numbered by step.

    Args:
        model: compiled, so that its state holds every optimizer.
        directory: of the checkpoints alone; made at the first save.
        keep: how many are kept, at least 1.
        writes: False for a worker that reads what another one writes: `restore` then removes nothing.
        resumable: the checkpoints that the run goes on from, where these serve another end; None for these.
    """

    def __init__(
        self,
        model: GenerativeModel,
        directory: Path,
        keep: int,
        writes: bool = True,
        resumable: "Checkpoints | None" = None,
    ):
        self.model = model
        self.directory = directory
        self.keep = keep
        self.writes = writes
        self.resumable = resumable or self
        self.last: Path | None = None
        """The newest checkpoint that was saved or restored here, without its endings."""
        self.state = model.state()
        self.manager: tf.train.CheckpointManager | None = None
        self.plain: PlainPath | None = None

    def save(self, step: int, **facts: float) -> None:
        """Save the model as it is after `step`, then remove what is older than the last `keep`.

        Args:
            step: number of the checkpoint.
            **facts: kept in its record, see `read_facts`.

        Raises:
            RunError: it could not be written; the earlier checkpoints are as they were.
        """

        def complete(path: str) -> None:
            self.write_record(step, facts)
            self.last = self.path(step)
            self.remove_older(step)

        try:
            if self.manager is None:
                # A list from an earlier process may name damaged checkpoints; the manager would count them as kept.
                (self.directory / "checkpoint").unlink(missing_ok=True)
                folder = str(self.plain_directory())
                self.manager = tf.train.CheckpointManager(self.state, folder, max_to_keep=self.keep)
            # The manager removes old files after this callback: never before the new checkpoint has its record.
            options = tf.train.CheckpointOptions(experimental_write_callbacks=[complete])
            self.manager.save(checkpoint_number=step, options=options)
        except (OSError, tf.errors.OpError) as error:
            with suppress(OSError):
                self.remove_leftovers()
            raise RunError(
                f"the checkpoint of step {step} could not be saved: {self.explain_failure(error)}"
            ) from error

    def restore(self, say: Callable[[str], None]) -> int:
        """Restore the newest checkpoint that is whole, all of it, and remove the leftovers of saves cut off.

        Args:
            say: called with one line per checkpoint: each that was passed over, and the one restored.

        Returns:
            Its step; 0 for a run that was killed before its first checkpoint was whole.

        Raises:
            RunError: there are checkpoints and none is whole, or the newest whole one does not hold all of the model.
        """
        steps = self.steps()
        for step in steps:
            fault = self.find_fault(step)
            if fault is None:
                self.load(step)
                say(f"resumed at step {step}.")
                break
            say(f"{self.path(step)} is passed over: {fault}.")
        else:
            # A run goes on only after its first checkpoint has its record, so it can leave one without, never two.
            if len(steps) > 1 or any(self.record_of(step).exists() for step in steps):
                raise RunError(
                    f"none of the {len(steps)} checkpoint(s) in {self.directory} is whole. "
                    "Put back a copy of one with its .json, or begin a new run in another --run-dir."
                )
            say("no checkpoint yet: the run begins again at step 0.")
            step = 0
        if self.writes:
            self.remove_leftovers()
        return step

    def read_facts(self, step: int) -> dict[str, float]:
        """What was kept with the newest whole checkpoint up to `step`; nothing where there is none."""
        for found in self.steps():
            if found <= step and self.find_fault(found) is None:
                return dict(json.loads(self.record_of(found).read_text(encoding="utf-8")).get("facts", {}))
        return {}

    def load(self, step: int) -> None:
        """Restore the checkpoint of `step`.

        Raises:
            RunError: it lacks a part of the model.
        """
        path, plain = self.path(step), str(self.plain_directory() / self.path(step).name)
        try:
            self.state.restore(plain).assert_existing_objects_matched().expect_partial()
        except (AssertionError, ValueError) as error:
            held = {name.split("/")[0] for name, _ in tf.train.list_variables(plain)}
            wanted = {"model", *(f"{player}_optimizer" for player in self.model.player_optimizers)}
            lacking = f"has no {' and no '.join(sorted(wanted - held))}" if wanted - held else "lacks a part of it"
            raise RunError(
                f"{path} is not of this model as it is compiled: it {lacking}. "
                "Resume with the version and the options that saved it, or begin a new run."
            ) from error
        self.last = path

    def find_fault(self, step: int) -> str | None:
        """What is wrong with the checkpoint of `step`; None if it is whole."""
        record = self.record_of(step)
        if not record.exists():
            return "its save was cut off"
        try:
            found = json.loads(record.read_text(encoding="utf-8"))
            files, prefix = found["files"], self.path(step).name
            if not all(isinstance(value, (int, float)) for value in found.get("facts", {}).values()):
                return f"{record.name} is damaged"
            # No other names: a path would have files elsewhere read.
            parts = re.compile(rf"{prefix}\.(index|data-[0-9]+-of-[0-9]+)")
            if f"{prefix}.index" not in files or len(files) < 2 or not all(map(parts.fullmatch, files)):
                return f"{record.name} is damaged, it does not name the checkpoint's files"
            for name, wanted in files.items():
                if not (self.directory / name).exists():
                    return f"{name} is missing"
                if describe(self.directory / name) != wanted:
                    return f"{name} is damaged, it is not what was saved"
        except OSError as error:
            return f"it can't be read ({error})"
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return f"{record.name} is damaged"
        return None

    def write_record(self, step: int, facts: Mapping[str, float]) -> None:
        """Write ckpt-N.json: from now on the checkpoint counts."""
        prefix = self.path(step).name
        files = [*self.directory.glob(f"{prefix}.data-*"), self.directory / f"{prefix}.index"]
        for path in files:
            with path.open("rb+") as file:
                os.fsync(file.fileno())  # a power cut after older checkpoints are gone must not find this one torn
        described = {path.name: describe(path) for path in files}
        write_json(self.record_of(step), {"step": step, "facts": dict(facts), "files": described})

    def remove_older(self, newest: int) -> None:
        """Remove all but the last `keep` up to `newest`; a later one is damaged, or it would have been restored."""
        recorded = [step for step in self.steps() if step <= newest and self.record_of(step).exists()]
        for step in set(self.steps()) - set(recorded[: self.keep]):
            self.remove(step)

    def remove_leftovers(self) -> None:
        """Remove what saves that were cut off have left."""
        for step in self.steps():
            if not self.record_of(step).exists():
                self.remove(step)
        for path in self.directory.glob("checkpoint.tmp*"):
            path.unlink()

    def remove(self, step: int) -> None:
        """Remove every part of a checkpoint, its record first: what is left of it no longer counts."""
        self.record_of(step).unlink(missing_ok=True)
        for path in self.directory.glob(f"{self.path(step).name}[._]*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint or a part of one, newest first."""
        found = (PART.match(path.name) for path in self.directory.glob("ckpt-*"))
        return sorted({int(match[1]) for match in found if match}, reverse=True)

    def plain_directory(self) -> Path:
        """The directory by a path that TensorFlow takes for no pattern."""
        if self.plain is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            self.plain = PlainPath(self.directory)
        return self.plain.path

    def path(self, step: int) -> Path:
        """A checkpoint as TensorFlow names it: its files without their endings."""
        return self.directory / f"ckpt-{step}"

    def record_of(self, step: int) -> Path:
        """The file that says the checkpoint is whole."""
        return self.directory / f"ckpt-{step}.json"

    def explain_failure(self, error: Exception) -> str:
        """What stopped a write, what is left, and what to do."""
        found = [reason for reason in NO_ROOM if reason in str(error)]
        reason = found[0] if found else str(error)
        last = self.resumable.last
        kept = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
        mend = "Make room on its disk (or raise the quota)" if found else "Mend that"
        return f"{reason}; {kept}. {mend} and go on with {make_resume_options(self.directory.parent)}"


def is_out_of_room(error: Exception) -> bool:
    """Whether a write failed because the disk, the quota or the largest file allowed is full."""
    return any(reason in str(error) for reason in NO_ROOM)


def describe(path: Path) -> dict[str, int | str]:
    """Size in bytes and sha256 of a file."""
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
