"""`RunCallback`: what is written while a run trains, and when."""

import sys
import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.markup import escape

from serving.card import find_sampling
from serving.images import interleave, save_grid
from zoo.core.model import GenerativeModel
from zoo.data.images import ImageSet, to_float32
from zoo.metrics.distances import nearest_neighbor_distance
from zoo.training.checkpoints import Checkpoints
from zoo.training.claim import Claim
from zoo.training.diagnosis import ModelFacts, Monitor
from zoo.training.log import append_row, drop_rows_after, read_log
from zoo.training.progress import ProgressLines
from zoo.training.report import write_report
from zoo.training.run import Run
from zoo.training.signals import SignalHandler
from zoo.training.validation import Scorer, choose_scorer

SAMPLES = 64  # images of a sample grid, always of the same latents
SAMPLE_SEED = 0
COLUMNS = 8  # of a grid of reconstructions: an even number keeps each beside its image
DIAGNOSED = 256  # images of each split when training and held-out images are compared
SCORE_SEED = 1  # another than the grid's


class RunCallback(keras.callbacks.Callback):
    """Keeps log.csv, TensorBoard, sample grids, checkpoints and the report as the steps go by.

    Every worker has one, so that all count alike and stop at the same step; only the chief's writes.

    Args:
        run: begun; its model stands at the step from which training goes on.
        checkpoints: where the model is saved.
        stop: says which signal has come.
        claim: the chief's on the run directory.
    """

    def __init__(self, run: Run, checkpoints: Checkpoints, stop: SignalHandler, claim: Claim):
        super().__init__()
        self.run = run
        self.recipe = run.recipe
        self.checkpoints = checkpoints
        self.stop = stop
        self.claim = claim
        self.done = int(run.model.step.numpy())
        self.began = time.monotonic()
        if not run.workers.chief:
            return
        model, directory = run.model, run.directory
        targets = run.targets or (None, None)
        self.training, self.held_out = (make_batch(*pair) for pair in zip(run.data, targets, strict=True))
        self.samples = find_sampling(model.abilities()) is not None
        self.reconstructs = "reconstruct" in model.abilities()
        has_preview = type(model).preview is not GenerativeModel.preview
        self.has_grids = self.samples or self.reconstructs or has_preview
        compared = self.training["image"][:SAMPLES]
        self.training_diversity = nearest_neighbor_distance(compared) if len(compared) > 1 else float("nan")
        self.best = Checkpoints(model, directory / "best", 1, resumable=checkpoints)
        self.scorer = None
        if self.samples and self.recipe.score_every:
            self.scorer = choose_scorer(run.data.training, padded=self.recipe.fit == "pad")
        self.lowest = float("inf")
        if self.scorer:
            self.lowest = self.best.read_facts(self.done).get(self.scorer.name, self.lowest)
        self.weights_before: dict[str, list[np.ndarray]] = {}
        self.writer = tf.summary.create_file_writer(str(directory / "tensorboard"))
        images_per_step = self.recipe.batch_size * model.minibatches_per_step
        self.progress = ProgressLines(run.console, self.done, self.recipe.steps, images_per_step)
        # A run that was killed has rows of steps after its last checkpoint; they are trained and written again.
        damaged = drop_rows_after(directory / "log.csv", self.done)
        if damaged:
            said = f"log.csv was damaged: it is kept as {damaged}, and another one begins."
            run.console.print(escape(said), highlight=False, soft_wrap=True)
        self.rows = read_log(directory / "log.csv")
        facts = ModelFacts(model.score_kind, frozenset(model.get_config()), tuple(model.players))
        self.monitor = Monitor(facts, self.rows)
        if self.has_grids:
            (directory / "samples").mkdir(exist_ok=True)
            if self.done == 0:
                self.write_grid()

    def is_due(self, interval: int | None) -> bool:
        """Whether something happens at this step; at the last one everything does."""
        return interval is not None and (self.done % interval == 0 or self.done == self.recipe.steps)

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Before the last step of a row: remember the weights, to tell how far it moves them."""
        after = self.done + self.recipe.steps_per_execution
        if self.run.workers.chief and (after % self.recipe.log_every == 0 or after == self.recipe.steps):
            self.weights_before = copy_weights(self.run.model)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """After a step: whatever is due."""
        self.done += self.recipe.steps_per_execution
        # Once per step: a signal that comes from here on waits for the next. All workers stop if one is asked to.
        signal_number = max(self.run.workers.gather(self.stop.signal_number or 0))
        row_due = self.is_due(self.recipe.log_every)
        if self.run.workers.chief:
            self.claim.check()
            scores = {}
            if self.scorer and self.is_due(self.recipe.score_every):
                scores = self.score(self.scorer)
            if row_due or signal_number:
                self.log(logs or {}, scores)
            if self.has_grids and self.is_due(self.recipe.sample_every):
                self.write_grid()
            if signal_number or self.is_due(self.recipe.checkpoint_every):
                self.checkpoints.save(self.done)
                write_report(self.run.directory)
        if row_due and self.done != self.recipe.steps:  # Keras' last line shows the metrics as they stand
            self.run.model.reset_metrics()
        if signal_number:
            self.stop.signal_number = signal_number
            self.run.model.stop_training = True

    def score(self, scorer: Scorer) -> dict[str, float]:
        """The score of this step's samples, by its name; the best checkpoint so far is kept beside the last ones."""
        score = scorer.distance(self.run.model.sample(scorer.count, seed=SCORE_SEED, output_type="float32"))
        if score < self.lowest:
            self.lowest = score
            self.best.save(self.done, **{scorer.name: score})
        return {scorer.name: score}

    def log(self, logs: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """One row: means since the last row, and how model and samples stand at this step."""
        row = {name: float(value) for name, value in {**logs, **self.diagnose(), **scores}.items()}
        self.rows.append({"step": self.done, **row})
        facts = {"step": str(self.done), "seconds": f"{time.monotonic() - self.began:.1f}"}
        append_row(self.run.directory / "log.csv", facts | {name: f"{value:.6g}" for name, value in row.items()})
        if not sys.stdout.isatty():  # where Keras shows no bar
            self.progress.show(self.done, row)
        with self.writer.as_default(step=self.done):
            for name, value in row.items():
                tf.summary.scalar(name, tf.constant(value, tf.float64))
            for found in self.monitor.update(self.rows):
                warning = f"{found.name} at step {found.step}: {found.evidence} {found.mitigation}"
                tf.summary.text("failure_mode", warning)
                self.run.console.print(f"[yellow]warning:[/yellow] {escape(warning)}", highlight=False, soft_wrap=True)

    def diagnose(self) -> dict[str, Any]:
        """Scalars of this step alone."""
        model = self.run.model
        found = dict(model.diagnose(self.training, self.held_out))
        if self.weights_before:
            found |= compute_update_ratios(self.weights_before, copy_weights(model))
            self.weights_before = {}
        else:  # a signal may ask for a row that was not due
            found |= dict.fromkeys((f"{player}_update_ratio" for player in model.players), float("nan"))
        if self.samples:
            samples = model.sample(SAMPLES, seed=SAMPLE_SEED, output_type="float32")
            # A single training image, or images that are all alike, have none to compare with.
            whole = self.training_diversity or float("nan")
            found["diversity"] = nearest_neighbor_distance(samples) / whole
        return found

    def write_grid(self) -> None:
        """The grid of the fixed latents; of a model that draws none, held-out images beside what it makes of them."""
        model, path = self.run.model, self.run.directory / "samples" / f"step-{self.done:07d}.png"
        if self.samples:
            save_grid(model.sample(SAMPLES, seed=SAMPLE_SEED), path)
        elif self.reconstructs:
            save_grid(reconstruct_pairs(model, self.held_out), path, columns=COLUMNS)
        elif (preview := model.preview(self.held_out)) is not None:
            save_grid(preview, path, columns=COLUMNS)


def reconstruct_pairs(model: GenerativeModel, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """Images, each followed by what the model gives back of it.

    Args:
        model: with the ability "reconstruct".
        batch: of training data, as of `make_batch`; its first images are taken.

    Returns:
        uint8 (at most `SAMPLES`, height, width, channels).
    """
    feeds = {spec.name: batch[spec.name][: SAMPLES // 2] for spec in model.abilities()["reconstruct"].signature()}
    images = feeds.pop("image")
    return interleave([images, model.reconstruct(images, **feeds)], (-1.0, 1.0))


def copy_weights(model: GenerativeModel) -> dict[str, list[np.ndarray]]:
    """Player -> copies of the weights that it updates."""
    return {player: [v.value.numpy() for v in model.variables_of(player)] for player in model.players}


def compute_update_ratios(
    before: Mapping[str, list[np.ndarray]], after: Mapping[str, list[np.ndarray]]
) -> dict[str, float]:
    """||change|| / ||weights|| of each player."""
    return {
        f"{player}_update_ratio": compute_norm([new - old for new, old in zip(after[player], weights, strict=True)])
        / max(compute_norm(weights), float(np.finfo(np.float32).tiny))
        for player, weights in before.items()
    }


def compute_norm(arrays: list[np.ndarray]) -> float:
    """The Euclidean norm of all of them as one vector."""
    return float(np.sqrt(sum(np.sum(np.square(array, dtype=np.float64)) for array in arrays)))


def make_batch(image_set: ImageSet, targets: ImageSet | None = None) -> dict[str, np.ndarray]:
    """The first images of a set as a batch of training data; of two collections, as many of each."""
    count = DIAGNOSED if targets is None else min(DIAGNOSED, len(image_set.images), len(targets.images))
    batch = {"image": to_float32(np.asarray(image_set.images[:count]))}
    if targets is not None:
        batch["target"] = to_float32(np.asarray(targets.images[:count]))
    return batch if image_set.labels is None else batch | {"label": image_set.labels[:DIAGNOSED]}
