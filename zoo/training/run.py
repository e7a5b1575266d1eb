"""The training run: strategy, callbacks, run directory, resume, export. Nothing of it is repeated in a recipe."""

import dataclasses
import hashlib
import json
import os
import signal
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console
from rich.markup import escape

from serving.card import Data
from serving.images import save_grid
from zoo.core.model import GenerativeModel
from zoo.core.precision import computing_in
from zoo.core.step import NOT_FINITE
from zoo.data.batches import distributed_batches, steps_per_epoch
from zoo.data.images import ImageSet
from zoo.data.load import load_images
from zoo.presets.preset import Preset
from zoo.presets.table import resolve_class
from zoo.training import run_directory
from zoo.training.callbacks import COLUMNS, RunCallback, batch_of, reconstructions
from zoo.training.checkpoints import Checkpoints, out_of_room
from zoo.training.devices import choose_strategy, devices_of
from zoo.training.recipe import FREE_TO_CHANGE, Recipe, check_arguments, model_arguments
from zoo.training.report import write_report
from zoo.training.run_directory import RunError
from zoo.training.signals import SignalHandler
from zoo.training.workers import LOST, WorkerLostError, Workers, lost, several_workers

OF_ONE_WORKER = ("data", "threads")  # options that may differ between the workers of a run; data differ by their path
FAILED = 1
SIGNALED = 128  # plus the signal's number, as shells count


class DivergedError(RuntimeError):
    """A gradient became infinite or NaN."""


class StoppedError(RuntimeError):
    """A signal stopped the run; it was saved and can be resumed."""

    def __init__(self, number: int, step: int, directory: Path):
        super().__init__(
            f"stopped by {signal.Signals(number).name} and saved at step {step}: "
            f"go on with --resume --run-dir {directory}"
        )
        self.status = SIGNALED + number


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
        return SIGNALED + signal.SIGINT
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
        WorkerLostError: another worker stopped answering.
    """
    if several_workers(os.environ.get("TF_CONFIG", "")):
        console.print("waiting for the other workers of TF_CONFIG.")
    strategy = choose_strategy(recipe)
    workers = Workers(strategy)
    console = console if workers.chief else Console(quiet=True)
    replicas = strategy.num_replicas_in_sync
    if recipe.batch_size < replicas:
        raise RunError(f"a batch of {recipe.batch_size} can't be shared by {replicas} devices: every one needs a row.")
    if recipe.batch_size % replicas:
        raise RunError(f"a batch of {recipe.batch_size} on {replicas} devices: choose a multiple of {replicas}.")
    if recipe.xla and replicas > 1:
        raise RunError(f"--xla on {replicas} devices: it takes one, since XLA compiles no exchange between devices.")
    preset = recipe.to_preset()
    size, _, channels = preset.arguments["image_shape"]
    options = {"image_size": size, "channels": channels, "fit": recipe.fit, "skip_broken": recipe.skip_broken}
    image_set = load_images(recipe.data, split="train", **options)
    held_out = load_images(recipe.data, split="test", **options)
    preset = with_classes(recipe, preset, image_set, held_out)
    directory = workers.together(lambda: choose_directory(recipe, workers))
    model = compiled(recipe, preset, strategy)
    # Refuses too few images before anything is written.
    steps_per_epoch(image_set, recipe.batch_size, model.minibatches_per_step)
    on = f"{replicas} device(s)" + (f" of {workers.count} workers" if workers.count > 1 else "")
    console.print(
        f"[bold]{preset.name}[/bold] on {len(image_set.images)} images of {escape(image_set.name)} "
        f"({size}x{size}x{channels}), {recipe.steps} steps of {recipe.batch_size}, {on}; run: {escape(str(directory))}",
        highlight=False,
        soft_wrap=True,
    )
    if image_set.ignored:
        console.print(f"{image_set.ignored} files that are no images were left out.")
    if recipe.dry_run:
        return None

    checkpoints = Checkpoints(model, directory / "checkpoints", recipe.keep, writes=workers.chief)
    begin(recipe, model, image_set, directory, checkpoints, workers, console)
    if int(model.step.numpy()) < recipe.steps:
        fit(recipe, model, (image_set, held_out), directory, checkpoints, workers, console)
    if workers.chief:
        export_run(model, recipe, preset, (image_set, held_out), directory, console)
    return directory


def with_classes(recipe: Recipe, preset: Preset, image_set: ImageSet, held_out: ImageSet) -> Preset:
    """The preset with the data's classes, if its model knows classes and `--model classes=...` does not name them.

    Raises:
        RunError: it knows classes, and either side has images without, or there are not as many as were named.
    """
    if "classes" not in preset.arguments:
        return preset
    for side in (image_set, held_out):
        if side.labels is None:
            raise RunError(
                f"{preset.name} learns from labels, and {side.name} {side.split} has none: give a data set with "
                "classes, or a folder with two sub-folders or more, one a class, and no image beside them."
            )
    found = image_set.class_names
    if "classes" not in model_arguments(recipe.model):
        return dataclasses.replace(preset, arguments={**preset.arguments, "classes": found})
    named = preset.arguments["classes"]
    if not isinstance(named, (list, tuple)) or len(named) != len(found) or not all(isinstance(n, str) for n in named):
        raise RunError(f"classes={named!r}: the images have {len(found)}: name them, as in classes={list(found)}.")
    return preset


def choose_directory(recipe: Recipe, workers: Workers) -> Path:
    """The run's folder. Several workers share one: the chief writes it, and all read checkpoints from it."""
    name = f"{recipe.preset}-smoke" if recipe.smoke else recipe.preset
    if workers.count == 1:
        return run_directory.choose_directory(name, recipe.run_dir, recipe.resume)
    if recipe.run_dir is None:
        raise RunError("several workers need --run-dir, the same folder on all of them, on a file system they share.")
    return run_directory.choose_directory(name, recipe.run_dir, recipe.resume) if workers.chief else recipe.run_dir


def compiled(recipe: Recipe, preset: Preset, strategy: tf.distribute.Strategy) -> GenerativeModel:
    """The preset's model with fresh weights and the recipe's optimizers, built for `strategy`."""
    keras.utils.set_random_seed(recipe.seed)
    with strategy.scope(), computing_in(recipe.precision):
        model = build(preset)
        optimizers = {name: choice.build() for name, choice in recipe.optimizers.items()}
        model.compile(
            seed=recipe.seed, steps_per_execution=recipe.steps_per_execution, jit_compile=recipe.xla, **optimizers
        )
    return model


def build(preset: Preset) -> GenerativeModel:
    """The preset's model with fresh weights."""
    model_class = resolve_class(preset.model)
    check_arguments(model_class, preset.arguments)
    return model_class(**preset.arguments)


def fit(
    recipe: Recipe,
    model: GenerativeModel,
    sides: tuple[ImageSet, ImageSet],
    directory: Path,
    checkpoints: Checkpoints,
    workers: Workers,
    console: Console,
) -> None:
    """Train from the model's step to the recipe's last.

    Args:
        recipe: what to do.
        model: compiled, and restored where the run goes on.
        sides: training images and held-out ones.
        directory: of the run.
        checkpoints: where to save.
        workers: who trains.
        console: for what the user should know.

    Raises:
        RunError, StoppedError, DivergedError, WorkerLostError: see `train`.
    """
    done = int(model.step.numpy())
    data = distributed_batches(
        workers.strategy,
        sides[0],
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        start_step=done,
        minibatches_per_step=model.minibatches_per_step,
    )
    options: dict[str, Any] = {"shuffle": False, "verbose": verbosity() if workers.chief else 0}
    try:
        with SignalHandler() as stop:
            callback = RunCallback(recipe, model, checkpoints, directory, sides, console, stop, workers)
            model.fit(data, steps_per_epoch=recipe.steps - done, callbacks=[callback], **options)
    except (OSError, tf.errors.OpError) as error:
        if isinstance(error, tf.errors.InvalidArgumentError) and NOT_FINITE in error.message:
            raise DivergedError(diverged(error.message, checkpoints.last)) from None
        if out_of_room(error):
            raise RunError(f"the run could not be written: {checkpoints.advice(error)}") from error
        if workers.count > 1 and isinstance(error, LOST):
            raise WorkerLostError(f"{lost(error)}; {advice(directory)}") from None
        raise
    except WorkerLostError as error:
        raise WorkerLostError(f"{error}; {advice(directory)}") from None
    if stop.asked:
        raise StoppedError(stop.asked, int(model.step.numpy()), directory)


def advice(directory: Path) -> str:
    """What to do when a worker is gone."""
    return f"start all workers again with --resume --run-dir {directory}: they go on from the newest checkpoint."


def begin(
    recipe: Recipe,
    model: GenerativeModel,
    image_set: ImageSet,
    directory: Path,
    checkpoints: Checkpoints,
    workers: Workers,
    console: Console,
) -> None:
    """Write what the run is; or check that a resumed one is the same, and restore it."""
    options = {key: value for key, value in dataclasses.asdict(recipe).items() if key not in FREE_TO_CHANGE}
    config = {
        "recipe": options,
        "model": model.get_config(),
        "optimizers": {player: type(optimizer).__name__ for player, optimizer in model.player_optimizers.items()},
        "data": {"fingerprint": image_set.fingerprint, "count": len(image_set.images)},
    }
    everything = {key: str(value) for key, value in dataclasses.asdict(recipe).items() if key not in OF_ONE_WORKER}
    workers.agree({"options or data": number_of([everything, config])})

    def write_or_check() -> None:
        if recipe.resume:
            run_directory.check_same_run(directory / "config.json", config)
        elif workers.chief:
            directory.mkdir(parents=True, exist_ok=True)
            devices = devices_of(workers.strategy)
            environment = run_directory.environment(devices, recipe.threads) | {"workers": workers.count}
            run_directory.write_json(directory / "environment.json", environment)
            run_directory.write_json(directory / "config.json", config)

    def restore() -> None:
        if not (directory / "config.json").exists():
            raise RunError(f"worker {workers.index} sees no run in {directory}: is that on a file system all share?")
        if recipe.resume:
            checkpoints.restore(lambda line: console.print(escape(line), highlight=False, soft_wrap=True))

    workers.together(write_or_check)
    workers.together(restore)
    workers.agree({"the step they resume at": int(model.step.numpy())})


def number_of(value: Any) -> int:
    """A number below 2**63 that tells plain data apart."""
    text = json.dumps(value, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


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


def export_run(
    model: GenerativeModel,
    recipe: Recipe,
    preset: Preset,
    sides: tuple[ImageSet, ImageSet],
    directory: Path,
    console: Console,
) -> None:
    """Write export/: weights, ONNX, SavedModel and card, checked against each other.

    With `recipe.export` "best" the model becomes that of the best checkpoint.
    """
    from zoo.export.export import export

    chosen = f"the last of {recipe.steps} steps"
    if recipe.export == "best":
        best = Checkpoints(model, directory / "best", 1)
        facts = best.facts(recipe.steps)
        if facts:
            best.restore(lambda line: None)
            ((score, value),) = facts.items()
            chosen = f"the best of {recipe.steps} steps by {score}, {value:.4g} at one of every {recipe.score_every}"
    image_set, held_out = sides
    data = Data(image_set.name, image_set.split, len(image_set.images), image_set.license, recipe.data)
    about = {
        "name": recipe.preset,
        "steps": int(model.step.numpy()),
        "batch_size": recipe.batch_size,
        "seed": recipe.seed,
        "precision": recipe.precision,
        "fit": recipe.fit,
        "exported": chosen,
        "optimizers": {
            name: {"class": type(choice).__name__, **dataclasses.asdict(choice)}
            for name, choice in recipe.optimizers.items()
        },
    }
    sheet = {}
    if "reconstruct" in model.abilities():
        file = BytesIO()
        save_grid(reconstructions(model, batch_of(held_out)), file, columns=COLUMNS)
        sheet["reconstructions.png"] = file.getvalue()
    export(model, directory / "export", preset=preset, data=data, recipe=about, images=sheet)
    write_report(directory)
    console.print(f"exported: {escape(str(directory / 'export'))}", highlight=False, soft_wrap=True)
