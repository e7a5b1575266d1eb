"""The training run: strategy, callbacks, run directory, resume, export. Nothing of it is repeated in a recipe."""

import csv
import dataclasses
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.markup import escape

from recipes import run_directory
from recipes.checkpoints import Checkpoints, out_of_room
from recipes.data import Pictures, batches, load_pictures, steps_per_epoch
from recipes.recipe import FREE_TO_CHANGE, Recipe
from recipes.run_directory import RunError
from serving.card import Data
from serving.sampler import save_grid
from zoo.core.model import GenerativeModel
from zoo.core.step import NOT_FINITE
from zoo.presets import Preset, class_called

SHOWN = 64  # pictures of a sample grid, always the same latents
SHOWN_SEED = 0
DIAGNOSED = 256  # pictures of each side when training and held-out pictures are compared
FAILED = 1
SIGNALLED = 128  # plus the signal's number, as shells count
STOPPING = (signal.SIGTERM, signal.SIGINT)
BEGUN = "TensorFlow has begun already; ask in a fresh process."


class DivergedError(RuntimeError):
    """A gradient became infinite or NaN."""


class StoppedError(RuntimeError):
    """A signal stopped the run; it was saved and can be resumed."""

    def __init__(self, number: int, step: int, directory: Path):
        super().__init__(
            f"stopped by {signal.Signals(number).name} and saved at step {step}: "
            f"go on with --resume --run-dir {directory}"
        )
        self.status = SIGNALLED + number


class Stop:
    """Within it, the first SIGTERM or SIGINT only sets `asked`, the signal's number; a second one ends the process.

    Python gives signals to the main thread alone: elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.ask) for number in STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def ask(self, number: int, frame: FrameType | None) -> None:
        """The handler of the first signal."""
        self.asked = number
        for each in STOPPING:
            signal.signal(each, signal.SIG_DFL)


def run(recipe: Recipe) -> int:
    """Train as `recipe` says and report on the console.

    Returns:
        The exit status: 0; 1 after one line that says what went wrong; 143 or 130 after SIGTERM or SIGINT.
    """
    console = Console(stderr=True)
    try:
        directory = train(recipe.small() if recipe.smoke else recipe, console)
    except StoppedError as error:
        console.print(escape(str(error)), highlight=False, soft_wrap=True)
        return error.status
    except KeyboardInterrupt:
        console.print("stopped by SIGINT outside of the training steps; a run that has begun goes on with --resume.")
        return SIGNALLED + signal.SIGINT
    except (RuntimeError, ValueError, LookupError, OSError) as error:
        console.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        return FAILED
    if directory is not None:
        print(directory)
    return 0


def train(recipe: Recipe, console: Console) -> Path | None:
    """Train, or resume, and export.

    Returns:
        The run directory; None after a dry run.

    Raises:
        RunError: the run can't be begun or resumed as asked, or what it writes can't be written.
        StoppedError: a signal stopped it.
        DivergedError: a gradient was not finite; the message names the last good checkpoint.
    """
    strategy = choose_strategy(recipe)
    replicas = strategy.num_replicas_in_sync
    if recipe.batch_size < replicas:
        raise RunError(f"a batch of {recipe.batch_size} can't be shared by {replicas} devices: every one needs a row.")
    if recipe.batch_size % replicas:
        raise RunError(f"a batch of {recipe.batch_size} on {replicas} devices: choose a multiple of {replicas}.")
    preset = recipe.to_preset()
    size, _, channels = preset.arguments["image_shape"]
    options = {"image_size": size, "channels": channels, "fit": recipe.fit, "skip_broken": recipe.skip_broken}
    pictures = load_pictures(recipe.data, split="train", **options)
    held_out = load_pictures(recipe.data, split="test", **options)
    name = f"{recipe.preset}-smoke" if recipe.smoke else recipe.preset
    directory = run_directory.choose_directory(name, recipe.run_dir, recipe.resume)
    console.print(
        f"[bold]{preset.name}[/bold] on {len(pictures.images)} pictures of {escape(pictures.name)} "
        f"({size}x{size}x{channels}), {recipe.steps} steps of {recipe.batch_size}, {replicas} device(s); "
        f"run: {escape(str(directory))}",
        highlight=False,
        soft_wrap=True,
    )
    if pictures.ignored:
        console.print(f"{pictures.ignored} files that are no pictures were left out.")
    if recipe.dry_run:
        return None

    keras.utils.set_random_seed(recipe.seed)
    with strategy.scope():
        model = build(preset)
        model.compile(seed=recipe.seed, **{name: choice.build() for name, choice in recipe.optimizers.items()})
    steps_per_epoch(pictures, recipe.batch_size, per_row(model))  # refuses too few pictures before anything is written
    begin(recipe, model, pictures, directory, [device.name for device in devices_of(strategy)])
    checkpoints = Checkpoints(model, directory / "checkpoints", recipe.keep)
    if recipe.resume:
        checkpoints.restore(lambda line: console.print(escape(line), highlight=False, soft_wrap=True))
    done = int(model.step.numpy())
    remaining = recipe.steps - done
    if remaining > 0:
        data = batches(
            pictures, batch_size=recipe.batch_size, seed=recipe.seed, start_step=done, pictures_per_row=per_row(model)
        )
        try:
            with Stop() as stop:
                keeper = RunKeeper(recipe, model, checkpoints, directory, (pictures, held_out), console, stop)
                model.fit(data, steps_per_epoch=remaining, shuffle=False, verbose=verbosity(), callbacks=[keeper])
        except (OSError, tf.errors.OpError) as error:
            if isinstance(error, tf.errors.InvalidArgumentError) and NOT_FINITE in error.message:
                raise DivergedError(diverged(error.message, checkpoints.last)) from None
            if out_of_room(error):
                raise RunError(f"the run could not be written: {checkpoints.advice(error)}") from error
            raise
        if stop.asked:
            raise StoppedError(stop.asked, int(model.step.numpy()), directory)
    export_run(model, recipe, preset, pictures, directory, console)
    return directory


def build(preset: Preset) -> GenerativeModel:
    """The preset's model with fresh weights."""
    return class_called(preset.model)(**preset.arguments)


def per_row(model: GenerativeModel) -> int:
    """Pictures in a row of the data: one for each update of the discriminator."""
    return getattr(model, "discriminator_steps", 1)


def choose_strategy(recipe: Recipe) -> tf.distribute.Strategy:
    """MirroredStrategy over the devices asked for; the default strategy on one device.

    Raises:
        RunError: more GPUs asked for than there are, or TensorFlow has begun and can't change threads or split the CPU.
    """
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()
    if recipe.threads is not None and tf.config.threading.get_intra_op_parallelism_threads() != recipe.threads:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(recipe.threads)
            tf.config.threading.set_inter_op_parallelism_threads(recipe.threads)
        except RuntimeError:
            raise RunError(f"--threads {recipe.threads}: {BEGUN}") from None
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    wanted = recipe.devices or max(len(gpus), 1)
    if wanted == 1:
        return tf.distribute.get_strategy()
    if gpus:
        if wanted > len(gpus):
            raise RunError(f"--devices {wanted}: this machine has {len(gpus)} GPU(s).")
        return tf.distribute.MirroredStrategy([f"GPU:{number}" for number in range(wanted)])
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or [None]) < wanted:
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * wanted)
        except RuntimeError:
            raise RunError(f"--devices {wanted}: {BEGUN}") from None
    return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(wanted)])


def devices_of(strategy: tf.distribute.Strategy) -> list[Any]:
    """The logical devices of the kind that `strategy` trains on."""
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    return tf.config.list_logical_devices(kind)[: strategy.num_replicas_in_sync]


def begin(recipe: Recipe, model: GenerativeModel, pictures: Pictures, directory: Path, devices: list[str]) -> None:
    """Write what the run is, or check that a resumed one is the same."""
    options = {key: value for key, value in dataclasses.asdict(recipe).items() if key not in FREE_TO_CHANGE}
    config = {
        "recipe": options,
        "model": model.get_config(),
        "optimizers": {player: type(optimizer).__name__ for player, optimizer in model.player_optimizers.items()},
        "data": {"fingerprint": pictures.fingerprint, "count": len(pictures.images)},
    }
    if recipe.resume:
        run_directory.check_same_run(directory / "config.json", config)
        return
    directory.mkdir(parents=True, exist_ok=True)
    run_directory.write_json(directory / "environment.json", run_directory.environment(devices, recipe.threads))
    run_directory.write_json(directory / "config.json", config)


def verbosity() -> int:
    """Keras' progress bar on a terminal, one line at the end elsewhere."""
    return 1 if sys.stdout.isatty() else 2


def diverged(message: str, checkpoint: Path | None) -> str:
    """One paragraph from TensorFlow's report."""
    start = message.index(NOT_FINITE)
    reason = message[start:].split(" : ")[0].splitlines()[0]
    kept = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint yet"
    return (
        f"{reason} became infinite or NaN; no weight was changed by it, and {kept}. "
        "Begin a new run with a lower learning rate."
    )


class RunKeeper(keras.callbacks.Callback):
    """Keeps log.csv, TensorBoard, sample grids and checkpoints as the steps go by."""

    def __init__(
        self,
        recipe: Recipe,
        model: GenerativeModel,
        checkpoints: Checkpoints,
        directory: Path,
        sides: tuple[Pictures, Pictures],
        console: Console,
        stop: Stop,
    ):
        super().__init__()
        self.console = console
        self.recipe = recipe
        self.checkpoints = checkpoints
        self.stop = stop
        self.directory = directory
        self.sides = tuple(scaled(side.images[:DIAGNOSED]) for side in sides)
        self.done = int(model.step.numpy())
        self.writer = tf.summary.create_file_writer(str(directory / "tensorboard"))
        self.began = time.monotonic()
        (directory / "samples").mkdir(exist_ok=True)
        self.forget_later_rows()
        if self.done == 0:
            self.draw(model)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """After a step: whatever is due."""
        self.done += 1
        last = self.done == self.recipe.steps
        row_due = last or self.done % self.recipe.log_every == 0
        if row_due:
            self.log(logs or {})
            if not last:  # Keras' last line shows the metrics as they stand
                self.model.reset_metrics()
        if last or self.done % self.recipe.sample_every == 0:
            self.draw(self.model)
        stopping = self.stop.asked is not None  # once: a signal that comes from here on waits for the next step
        if last or stopping or self.done % self.recipe.checkpoint_every == 0:
            self.checkpoints.save(self.done)
        if stopping:
            if not row_due:
                self.log(logs or {})
            self.model.stop_training = True

    def forget_later_rows(self) -> None:
        """Drop the rows of log.csv that a resumed run will write again, and a line that a kill or a full disk cut."""
        path = self.directory / "log.csv"
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            header, *rows = [line for line in lines if line.endswith("\n")] or [""]
            kept = [row for row in rows if row.split(",")[0].isdigit() and int(row.split(",")[0]) <= self.done]
            run_directory.write_text(path, "".join([header, *kept]))

    def log(self, logs: Mapping[str, Any]) -> None:
        """One row: means since the last row, and the networks on training and held-out pictures."""
        diagnosis = self.model.diagnose(*self.sides)
        row = {name: float(value) for name, value in {**logs, **diagnosis}.items()}
        path = self.directory / "log.csv"
        header = not path.exists() or path.stat().st_size == 0
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if header:
                writer.writerow(["step", "seconds", *row])
            writer.writerow([self.done, f"{time.monotonic() - self.began:.1f}", *(f"{v:.6g}" for v in row.values())])
        if not sys.stdout.isatty():  # where Keras shows no bar
            shown = ", ".join(f"{name} {value:.3g}" for name, value in row.items())
            self.console.print(f"step {self.done}/{self.recipe.steps}: {shown}", highlight=False, soft_wrap=True)
        with self.writer.as_default(step=self.done):
            for name, value in row.items():
                tf.summary.scalar(name, value)

    def draw(self, model: GenerativeModel) -> None:
        """The grid of the fixed latents."""
        save_grid(model.sample(SHOWN, seed=SHOWN_SEED), self.directory / "samples" / f"step-{self.done:07d}.png")


def scaled(images: np.ndarray) -> np.ndarray:
    """uint8 0..255 -> float32 -1..1."""
    return np.asarray(images, np.float32) / 127.5 - 1.0


def export_run(
    model: GenerativeModel, recipe: Recipe, preset: Preset, pictures: Pictures, directory: Path, console: Console
) -> None:
    """Write export/: weights, ONNX, SavedModel and card, checked against each other."""
    from zoo.export import export

    data = Data(pictures.name, pictures.split, len(pictures.images), pictures.licence, recipe.data)
    facts = {
        "name": recipe.preset,
        "steps": int(model.step.numpy()),
        "batch_size": recipe.batch_size,
        "seed": recipe.seed,
        "optimizers": {name: dataclasses.asdict(choice) for name, choice in recipe.optimizers.items()},
    }
    export(model, directory / "export", preset=preset, data=data, recipe=facts)
    console.print(f"exported: {escape(str(directory / 'export'))}", highlight=False, soft_wrap=True)
