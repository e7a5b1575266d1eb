"""`RunCallback`: what is written while a run trains, and when."""

import csv
import io
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.markup import escape

from serving.images import save_grid, to_uint8
from zoo.core.model import GenerativeModel
from zoo.data.images import ImageSet, scaled
from zoo.metrics.distances import nearest_neighbor_distance
from zoo.training import run_directory
from zoo.training.checkpoints import Checkpoints
from zoo.training.diagnosis import ModelFacts, Monitor
from zoo.training.log import read_log
from zoo.training.recipe import Recipe
from zoo.training.report import write_report
from zoo.training.signals import SignalHandler
from zoo.training.validation import Scorer, scorer_of
from zoo.training.workers import Workers

SHOWN = 64  # images of a sample grid, always the same latents
SHOWN_SEED = 0
COLUMNS = 8  # of a grid of reconstructions: an even number keeps each beside its image
DIAGNOSED = 256  # images of each side when training and held-out images are compared
SCORED_SEED = 1  # another than the grid's


class RunCallback(keras.callbacks.Callback):
    """Keeps log.csv, TensorBoard, sample grids, checkpoints and the report as the steps go by.

    Every worker has one, so that all count alike and stop at the same step; only the chief's writes.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: GenerativeModel,
        checkpoints: Checkpoints,
        directory: Path,
        sides: tuple[ImageSet, ImageSet],
        console: Console,
        stop: SignalHandler,
        workers: Workers,
    ):
        super().__init__()
        self.recipe = recipe
        self.checkpoints = checkpoints
        self.directory = directory
        self.console = console
        self.stop = stop
        self.workers = workers
        self.done = int(model.step.numpy())
        self.began = time.monotonic()
        if not workers.chief:
            return
        self.training, self.held_out = (batch_of(side) for side in sides)
        self.samples = "generate" in model.abilities()
        self.imaged = self.samples or "reconstruct" in model.abilities()
        self.spread = nearest_neighbor_distance(self.training["image"][:SHOWN])
        self.best = Checkpoints(model, directory / "best", 1, resumable=checkpoints)
        self.scorer = scorer_of(sides[0], padded=recipe.fit == "pad") if self.samples and recipe.score_every else None
        self.lowest = float("inf")
        if self.scorer:
            self.lowest = self.best.facts(self.done).get(self.scorer.name, self.lowest)
        self.weights_before: dict[str, list[np.ndarray]] = {}
        self.writer = tf.summary.create_file_writer(str(directory / "tensorboard"))
        if self.imaged:
            (directory / "samples").mkdir(exist_ok=True)
        self.forget_later_rows()
        self.rows = read_log(directory / "log.csv")
        score_kind: Any = getattr(model, "score_kind", "logit")
        self.monitor = Monitor(ModelFacts(score_kind, frozenset(model.get_config()), tuple(model.players)), self.rows)
        if self.done == 0 and self.imaged:
            self.draw(model)

    def due(self, interval: int | None) -> bool:
        """Whether something happens at this step; at the last one everything does."""
        return interval is not None and (self.done % interval == 0 or self.done == self.recipe.steps)

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Before the last step of a row: remember the weights, to tell how far it moves them."""
        after = self.done + self.recipe.steps_per_execution
        if self.workers.chief and (after % self.recipe.log_every == 0 or after == self.recipe.steps):
            self.weights_before = weights_of(self.model)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """After a step: whatever is due."""
        self.done += self.recipe.steps_per_execution
        # Once a step: a signal that comes from here on waits for the next. All workers stop if one is asked to.
        asked = max(self.workers.gather(self.stop.asked or 0))
        row_due = self.due(self.recipe.log_every)
        if self.workers.chief:
            scores = {}
            if self.scorer and self.due(self.recipe.score_every):
                scores = self.keep_the_best(self.scorer)
            if row_due or asked:
                self.log(logs or {}, scores)
            if self.imaged and self.due(self.recipe.sample_every):
                self.draw(self.model)
            if asked or self.due(self.recipe.checkpoint_every):
                self.checkpoints.save(self.done)
                write_report(self.directory)
        if row_due and self.done != self.recipe.steps:  # Keras' last line shows the metrics as they stand
            self.model.reset_metrics()
        if asked:
            self.stop.asked = asked
            self.model.stop_training = True

    def keep_the_best(self, scorer: Scorer) -> dict[str, float]:
        """The score of this step's samples, by its name; the best checkpoint so far is kept beside the last ones."""
        score = scorer.distance(self.model.sample(scorer.count, seed=SCORED_SEED, output_type="float32"))
        if score < self.lowest:
            self.lowest = score
            self.best.save(self.done, **{scorer.name: score})
        return {scorer.name: score}

    def forget_later_rows(self) -> None:
        """Drop the rows of log.csv that a resumed run will write again, and a line that a kill or a full disk cut."""
        path = self.directory / "log.csv"
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            header, *rows = [line for line in lines if line.endswith("\n")] or [""]
            kept = [row for row in rows if row.split(",")[0].isdigit() and int(row.split(",")[0]) <= self.done]
            run_directory.write_text(path, "".join([header, *kept]))

    def log(self, logs: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """One row: means since the last row, and how model and samples stand at this step."""
        row = {name: float(value) for name, value in {**logs, **self.diagnosis(), **scores}.items()}
        self.rows.append({"step": self.done, **row})
        seconds = f"{time.monotonic() - self.began:.1f}"
        self.append({"step": str(self.done), "seconds": seconds, **{name: f"{v:.6g}" for name, v in row.items()}})
        if not sys.stdout.isatty():  # where Keras shows no bar
            shown = ", ".join(f"{name} {value:.3g}" for name, value in row.items())
            self.console.print(f"step {self.done}/{self.recipe.steps}: {shown}", highlight=False, soft_wrap=True)
        with self.writer.as_default(step=self.done):
            for name, value in row.items():
                tf.summary.scalar(name, tf.constant(value, tf.float64))
            for found in self.monitor.update(self.rows):
                warning = f"{found.name} at step {found.step}: {found.evidence} {found.mitigation}"
                tf.summary.text("failure_mode", warning)
                self.console.print(f"[yellow]warning:[/yellow] {escape(warning)}", highlight=False, soft_wrap=True)

    def append(self, row: Mapping[str, str]) -> None:
        """Add a row to log.csv; columns that the file lacks, as when scores are asked for later, become its last."""
        path = self.directory / "log.csv"
        path.touch()
        with path.open("r+", newline="", encoding="utf-8") as file:
            known = next(csv.reader(file), [])
            if set(row) <= set(known):
                file.seek(0, os.SEEK_END)
                csv.DictWriter(file, known, restval="", lineterminator="\n").writerow(row)
                return
        table = io.StringIO()
        writer = csv.DictWriter(table, dict.fromkeys([*known, *row]), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows([*csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))), row])
        run_directory.write_text(path, table.getvalue())

    def diagnosis(self) -> dict[str, Any]:
        """Scalars of this step alone."""
        found = dict(self.model.diagnose(self.training, self.held_out))
        if self.weights_before:  # a signal may ask for a row that was not due
            found |= update_ratios(self.weights_before, weights_of(self.model))
            self.weights_before = {}
        else:
            found |= dict.fromkeys((f"{player}_update_ratio" for player in self.model.players), float("nan"))
        if self.samples:
            samples = self.model.sample(SHOWN, seed=SHOWN_SEED, output_type="float32")
            found["diversity"] = nearest_neighbor_distance(samples) / self.spread
        return found

    def draw(self, model: GenerativeModel) -> None:
        """The grid of the fixed latents; of a model that draws none, held-out images beside what it gives back."""
        path = self.directory / "samples" / f"step-{self.done:07d}.png"
        if self.samples:
            save_grid(model.sample(SHOWN, seed=SHOWN_SEED), path)
        else:
            save_grid(reconstructions(model, self.held_out), path, columns=COLUMNS)


def reconstructions(model: GenerativeModel, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """ImageSet, each followed by what the model gives back of it.

    Args:
        model: with the ability "reconstruct".
        batch: of training data, as of `batch_of`; its first images are taken.

    Returns:
        uint8 (at most `SHOWN`, height, width, channels).
    """
    feeds = {spec.name: batch[spec.name][: SHOWN // 2] for spec in model.abilities()["reconstruct"].signature()}
    images = feeds.pop("image")
    pairs = np.stack([images, model.reconstruct(images, **feeds)], axis=1)
    return to_uint8(pairs.reshape(-1, *images.shape[1:]), (-1.0, 1.0))


def weights_of(model: GenerativeModel) -> dict[str, list[np.ndarray]]:
    """Player -> copies of the weights that it moves."""
    return {player: [v.value.numpy() for v in model.variables_of(player)] for player in model.players}


def update_ratios(before: Mapping[str, list[np.ndarray]], after: Mapping[str, list[np.ndarray]]) -> dict[str, float]:
    """||change|| / ||weights|| of each player."""
    return {
        f"{player}_update_ratio": norm([new - old for new, old in zip(after[player], weights, strict=True)])
        / max(norm(weights), float(np.finfo(np.float32).tiny))
        for player, weights in before.items()
    }


def norm(arrays: list[np.ndarray]) -> float:
    """The Euclidean norm of all of them as one vector."""
    return float(np.sqrt(sum(np.sum(np.square(array, dtype=np.float64)) for array in arrays)))


def batch_of(image_set: ImageSet) -> dict[str, np.ndarray]:
    """The first images of a set as a batch of training data."""
    batch = {"image": scaled(np.asarray(image_set.images[:DIAGNOSED]))}
    return batch if image_set.labels is None else batch | {"label": image_set.labels[:DIAGNOSED]}
