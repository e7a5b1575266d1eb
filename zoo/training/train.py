"""Training: begin or resume a run, fit the model, export it. Recipes only declare; all of the procedure is here."""

import dataclasses
import hashlib
import json
import shlex
import signal
import sys
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import tensorflow as tf
from rich.console import Console
from rich.markup import escape

from serving.card import Card, Data, find_sampling
from serving.images import save_grid
from zoo.core.step import NOT_FINITE
from zoo.data.batches import distributed_batches
from zoo.data.images import ImageSet
from zoo.training import run_directory
from zoo.training.callbacks import COLUMNS, RunCallback, make_batch, reconstruct_pairs
from zoo.training.checkpoints import Checkpoints, is_out_of_room
from zoo.training.claim import Claim
from zoo.training.devices import devices_of
from zoo.training.recipe import FREE_TO_CHANGE, Recipe
from zoo.training.report import write_report
from zoo.training.resume import collect_options
from zoo.training.run import Run, resolve_run
from zoo.training.run_directory import RunError
from zoo.training.signals import SignalHandler
from zoo.training.workers import LOST, WorkerLostError, make_lost_error

# Options that may differ between the workers of a run; "data" is compared by fingerprint, not by path.
PER_WORKER_OPTIONS = ("data", "threads")
FAILED = 1
SIGNALED = 128  # plus the signal's number, as shells count


class DivergedError(RuntimeError):
    """A gradient or a loss became infinite or NaN."""


class StoppedError(RuntimeError):
    """A signal stopped the run; it was saved and can be resumed."""

    def __init__(self, number: int, step: int, preset: str, directory: Path):
        super().__init__(
            f"stopped by {signal.Signals(number).name} and saved at step {step}: go on with "
            f"zoo train {preset} {run_directory.make_resume_options(directory)}"
        )
        self.status = SIGNALED + number


def run_recipe(recipe: Recipe) -> int:
    """Train as `recipe` says and report on the console.

    Returns:
        The exit status: 0; 1 after one line that says what went wrong; 143 or 130 after SIGTERM or SIGINT.
    """
    console = Console(stderr=True)
    try:
        directory = train(recipe.shrink() if recipe.smoke else recipe, console)
    except StoppedError as error:
        print_line(console, str(error))
        return error.status
    except KeyboardInterrupt:
        print_line(
            console, "stopped by SIGINT outside of the training steps; a run that has begun goes on with --resume."
        )
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
        DivergedError: a gradient or a loss was not finite; the message names the last good checkpoint.
        WorkerLostError: another worker stopped answering.
    """
    run = resolve_run(recipe, console)
    announce(run)
    if recipe.dry_run:
        return None
    checkpoints = Checkpoints(run.model, run.directory / "checkpoints", recipe.keep, writes=run.workers.chief)
    with ExitStack() as held:
        claim = Claim(run.directory, lambda line: print_line(run.console, line))
        run.workers.together(lambda: held.enter_context(claim) if run.workers.chief else None)
        begin_or_resume(run, checkpoints)
        if int(run.model.step.numpy()) < recipe.steps:
            fit(run, checkpoints, claim)
        if run.workers.chief:
            claim.check()
            print_next(run, export_run(run))
    return run.directory


def announce(run: Run) -> None:
    """Say what will be done, in one line; in others, what it computes in, and how many files are no images."""
    height, width, channels = run.preset.arguments["image_shape"]
    images, count = run.data.training, run.workers.count
    counts = f"{len(images.images)}" + (f" and {len(run.targets.training.images)}" if run.targets else "")
    on = f"{run.workers.strategy.num_replicas_in_sync} device(s)" + (f" of {count} workers" if count > 1 else "")
    run.console.print(
        f"[bold]{run.preset.name}[/bold] on {counts} images of {escape(images.name)} "
        f"({height}x{width}x{channels}), {run.recipe.steps} steps of {run.recipe.batch_size}, {on}; "
        f"run: {escape(str(run.directory))}",
        highlight=False,
        soft_wrap=True,
    )
    print_line(run.console, str(run.precision))
    if images.ignored:
        run.console.print(f"{images.ignored} files that are no images were left out.")


def begin_or_resume(run: Run, checkpoints: Checkpoints) -> None:
    """Write the configuration of a new run; or check that of a resumed one, and restore its newest checkpoint.

    Raises:
        RunError: the folder holds a run, the resumed run's config differs, no checkpoint is intact, the run is further
            than it is asked to go, or the workers disagree.
    """
    recipe, workers, directory = run.recipe, run.workers, run.directory
    options = {key: value for key, value in dataclasses.asdict(recipe).items() if key not in FREE_TO_CHANGE}
    config = {
        "recipe": options,
        "precision_chosen_by": run.precision.chosen_by,
        "model": run.model.get_config(),
        "model_facts": {"score_kind": run.model.score_kind},
        "optimizers": {player: type(optimizer).__name__ for player, optimizer in run.model.player_optimizers.items()},
        "data": describe_data(run.data.training),
    }
    if run.targets:
        config["targets"] = describe_data(run.targets.training)
    everything = {key: str(value) for key, value in dataclasses.asdict(recipe).items() if key not in PER_WORKER_OPTIONS}
    workers.agree({"options or data": hash_to_number([everything, config])})

    def write_or_check() -> None:
        if recipe.resume:
            run_directory.check_same_run(directory / "config.json", config)
        elif workers.chief:
            if (directory / "config.json").exists():  # another process began one since the folder was chosen
                raise run_directory.make_refusal(directory)
            devices = devices_of(workers.strategy)
            facts = {"workers": workers.count, "precision": f"{run.precision.policy}, {run.precision.reason}"}
            environment = run_directory.describe_environment(devices, recipe.threads) | facts
            run_directory.write_json(directory / "environment.json", environment)
            run_directory.write_json(directory / "config.json", config | {"options": collect_options(recipe)})

    def check_and_restore() -> None:
        run_directory.require_run(directory, workers.index)
        if recipe.resume:
            checkpoints.restore(lambda line: print_line(run.console, line))
            check_steps(recipe, int(run.model.step.numpy()))
            if workers.chief:  # for the next time
                written = run_directory.read_config(directory) | {"options": collect_options(recipe)}
                run_directory.write_json(directory / "config.json", written)

    # In two parts: the chief has written the configuration before any worker looks for it.
    workers.together(write_or_check)
    workers.together(check_and_restore)
    workers.agree({"the step they resume at": int(run.model.step.numpy())})


def check_steps(recipe: Recipe, done: int) -> None:
    """Refuse to resume a run at a step from which it can't come to its last one.

    Raises:
        RunError: naming what to choose.
    """
    if done > recipe.steps:
        raise RunError(f"--steps {recipe.steps}: the run is at step {done} already: choose --steps {done} or more.")
    if (recipe.steps - done) % recipe.steps_per_execution:
        raise RunError(
            f"--steps-per-execution {recipe.steps_per_execution}: the run is at step {done}, and {recipe.steps - done} "
            "are left: choose a number that divides these."
        )


def fit(run: Run, checkpoints: Checkpoints, claim: Claim) -> None:
    """Train from the model's step to the recipe's last.

    Args:
        run: begun, and its model restored where it goes on.
        checkpoints: where to save.
        claim: on the run directory.

    Raises:
        RunError, StoppedError, DivergedError, WorkerLostError: see `train`.
    """
    model, workers = run.model, run.workers
    done = int(model.step.numpy())
    data = distributed_batches(
        workers.strategy,
        run.data.training,
        batch_size=run.recipe.batch_size,
        seed=run.recipe.seed,
        start_step=done,
        minibatches_per_step=model.minibatches_per_step,
        targets=run.targets.training if run.targets else None,
        paired=model.collections == "paired",
    )
    # Keras' bar on a terminal; elsewhere the callback's lines, since Keras' own would name every metric in one.
    options: dict[str, Any] = {"shuffle": False, "verbose": int(workers.chief and sys.stdout.isatty())}
    try:
        with SignalHandler() as stop:
            callback = RunCallback(run, checkpoints, stop, claim)
            # One Keras epoch is the whole rest of the run: the data is endless.
            model.fit(data, steps_per_epoch=run.recipe.steps - done, callbacks=[callback], **options)
    except (OSError, tf.errors.OpError) as error:
        if isinstance(error, tf.errors.InvalidArgumentError) and NOT_FINITE in error.message:
            raise DivergedError(explain_divergence(error.message, checkpoints.last)) from None
        if is_out_of_room(error):
            raise RunError(f"the run could not be written: {checkpoints.explain_failure(error)}") from error
        if workers.count > 1 and isinstance(error, LOST):
            raise WorkerLostError(f"{make_lost_error(error)}; {explain_restart(run.directory)}") from None
        raise
    except WorkerLostError as error:
        raise WorkerLostError(f"{error}; {explain_restart(run.directory)}") from None
    if stop.signal_number:
        raise StoppedError(stop.signal_number, int(model.step.numpy()), run.recipe.preset, run.directory)


def export_run(run: Run) -> Card:
    """Write export/: weights, ONNX, SavedModel and card, checked against each other.

    With the recipe's `export` "best" the model becomes that of the best checkpoint. It falls back to the last step,
    and says so on the console, where no score was recorded.

    Raises:
        RunError: the best checkpoint is damaged.
        ExportError: the formats do not agree.
    """
    from zoo.export.export import LICENSE, export
    from zoo.export.model_card import NOT_STATED, make_name, rename

    recipe, model, training = run.recipe, run.model, run.data.training
    chosen = f"the last of {recipe.steps} steps"
    if recipe.export == "best":
        best = Checkpoints(model, run.directory / "best", 1)
        facts = best.read_facts(recipe.steps)
        if facts:
            best.restore(lambda line: None)
            ((score, value),) = facts.items()  # exactly one fact is saved with each best checkpoint: its score
            chosen = f"best of {recipe.steps} steps by {score} = {value:.4g}, scored every {recipe.score_every}"
        else:
            print_line(run.console, f"no score was recorded, so there is no best step: exporting {chosen}.")
    model.finish()
    about = {
        "name": recipe.preset,
        "steps": int(model.step.numpy()),
        "batch_size": recipe.batch_size,
        "seed": recipe.seed,
        "precision": recipe.precision,
        "fit": recipe.fit,
        "exported": chosen,
        "data_sha256": training.fingerprint,
        "optimizers": {
            name: {"class": type(choice).__name__, **dataclasses.asdict(choice)}
            for name, choice in recipe.optimizers.items()
        },
    }
    images = {}
    if "reconstruct" in model.abilities():
        file = BytesIO()
        save_grid(reconstruct_pairs(model, make_batch(run.data.held_out)), file, columns=COLUMNS)
        images["reconstructions.png"] = file.getvalue()
    preview = model.preview(make_batch(run.data.held_out, run.targets.held_out if run.targets else None))
    if preview is not None:
        save_grid(preview, file := BytesIO(), columns=COLUMNS)
        images["preview.png"] = file.getvalue()
    data_license = recipe.data_license or training.license or NOT_STATED
    split, count = training.split, len(training.images)
    if run.targets:
        about["target_sha256"] = run.targets.training.fingerprint
        split, count = f"{split} and {run.targets.training.split}", count + len(run.targets.training.images)
    data = Data(training.name, split, count, data_license, recipe.data)
    name = recipe.name or make_name(recipe.preset, run.directory.resolve().name)
    preset = rename(run.preset, name, data.name, data.count)
    license = LICENSE if name == recipe.preset else NOT_STATED  # a model of one's own is its maker's
    options: dict[str, Any] = {"recipe": about, "weights": recipe.weights, "license": license, "images": images}
    card = export(model, run.directory / "export", preset=preset, data=data, **options)
    write_report(run.directory)
    return card


def print_next(run: Run, card: Card) -> None:
    """Where the results are, and what to do with them: commands for a shell, from any folder.

    Args:
        run: that has ended.
        card: of its export.
    """
    directory = run.directory.absolute()
    export, parent = shlex.quote(str(directory / "export")), shlex.quote(str(directory))
    lines = [f"report: {directory / 'report.html'}", f"exported: {directory / 'export'}", "next:"]
    if find_sampling(card.abilities):
        lines.append(f"  zoo sample {export}")
    if "upscale" in card.abilities:
        lines.append(f"  zoo upscale {export} photo.png --out larger")
    if any(name.startswith("translate_") for name in card.abilities):
        lines.append(f"  zoo translate {export} photo.png --out translated")
    if "classify" not in card.abilities:
        lines.append(f"  zoo evaluate {export}")
    for line in [*lines, f"  zoo serve --models {parent}"]:
        print_line(run.console, line)


def describe_data(images: ImageSet) -> dict[str, Any]:
    """What tells images apart, for a run's configuration."""
    return {"fingerprint": images.fingerprint, "count": len(images.images)}


def hash_to_number(value: Any) -> int:
    """A number below 2**63 that tells plain data apart: what workers can gather."""
    text = json.dumps(value, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def explain_divergence(message: str, checkpoint: Path | None) -> str:
    """One paragraph from TensorFlow's report."""
    start = message.index(NOT_FINITE)
    reason = message[start:].split(":")[0]
    kept = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint yet"
    return f"{reason}: nothing of this step is saved; {kept}. Begin a new run with a lower learning rate."


def explain_restart(directory: Path) -> str:
    """What to do when a worker is gone."""
    options = run_directory.make_resume_options(directory)
    return f"start all workers again with {options}: they go on from the newest checkpoint."


def print_line(console: Console, line: str) -> None:
    """Plain text, however long, as one line."""
    console.print(escape(line), highlight=False, soft_wrap=True)
