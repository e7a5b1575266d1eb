"""`Run`: everything that a recipe comes to on this machine, resolved once; and how it is resolved."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import keras
import tensorflow as tf
from rich.console import Console

from zoo.core.model import GenerativeModel
from zoo.core.precision import computing_in
from zoo.data.images import ImageSet
from zoo.data.load import load_collections, load_images
from zoo.presets.preset import Preset
from zoo.presets.table import resolve_class
from zoo.training.checks import check_devices
from zoo.training.devices import choose_strategy
from zoo.training.extractor import load_feature_maps
from zoo.training.model_options import CLASSES, IMAGE_SHAPE
from zoo.training.optimizers import build_optimizers
from zoo.training.precision import Precision, resolve_precision
from zoo.training.recipe import Recipe
from zoo.training.run_directory import RunError, choose_directory
from zoo.training.workers import Workers, has_several_workers


class ImageSplits(NamedTuple):
    """The images of a run, or one of its two collections."""

    training: ImageSet
    held_out: ImageSet


@dataclass(frozen=True)
class Run:
    """One training run on this machine.

    Args:
        recipe: what was asked for, with the precision that "auto" comes to.
        preset: with the recipe's image size and model arguments, and the classes of the data.
        model: of the preset, compiled, with fresh weights until a checkpoint is restored.
        data: training and held-out images; of two collections, those of A.
        targets: those of B; None where the model learns from one collection.
        directory: the run directory.
        precision: what the networks compute in, and why.
        workers: this process's place in the cluster, and the `tf.distribute.Strategy`.
        console: for what the user should know; quiet on all workers but the chief.
    """

    recipe: Recipe
    preset: Preset
    model: GenerativeModel
    data: ImageSplits
    targets: ImageSplits | None
    directory: Path
    precision: Precision
    workers: Workers
    console: Console


def resolve_run(recipe: Recipe, console: Console) -> Run:
    """Choose devices and directory, load the data and build the model; nothing is written.

    Raises:
        RunError: the run can't be begun or resumed as asked.
        ValueError, LookupError, OSError: an argument that the model refuses, a preset, data set or file that there is
            not.
    """
    if has_several_workers(os.environ.get("TF_CONFIG", "")):
        # choose_strategy blocks until every worker listens on its port.
        console.print("waiting for the other workers of TF_CONFIG.")
    strategy = choose_strategy(recipe)
    check_devices(recipe, strategy.num_replicas_in_sync)
    workers = Workers(strategy)
    preset = recipe.to_preset()
    data, targets = load_splits(recipe, preset)
    preset = resolve_classes(recipe, preset, data)
    directory = workers.together(lambda: choose_directory(recipe, worker=workers.index, worker_count=workers.count))
    precision = resolve_precision(recipe, directory, workers)
    recipe = dataclasses.replace(recipe, precision=precision.policy)
    model = build_and_compile(recipe, preset, strategy)
    for splits in filter(None, (data, targets)):
        check_count(recipe, splits.training, model.minibatches_per_step)
    shown = console if workers.chief else Console(quiet=True)
    return Run(recipe, preset, model, data, targets, directory, precision, workers, shown)


def check_count(recipe: Recipe, images: ImageSet, minibatches: int) -> None:
    """Refuse a step that takes more images than there are.

    Raises:
        RunError: naming the largest batch.
    """
    count, largest = len(images.images), len(images.images) // minibatches
    if largest < recipe.batch_size:
        several = f" {minibatches} times" if minibatches > 1 else ""
        fewer = f"choose --batch-size {largest} or less, or " if largest else ""
        raise RunError(
            f"--batch-size {recipe.batch_size}: a step takes that many images{several}, and {images.name} "
            f"{images.split} has {count}: {fewer}give more images."
        )


def load_splits(recipe: Recipe, preset: Preset) -> tuple[ImageSplits, ImageSplits | None]:
    """Training and held-out images at the size that the preset takes; and those of a second collection, if there is."""
    size, _, channels = preset.arguments[IMAGE_SHAPE]
    options = {"image_size": size, "channels": channels, "fit": recipe.fit, "skip_broken": recipe.skip_broken}
    collections = resolve_class(preset.model).collections
    if collections == "one":
        return ImageSplits(*(load_images(recipe.data, split=split, **options) for split in ("train", "test"))), None
    pairs = {"paired": collections == "paired", **options}
    training, held_out = (load_collections(recipe.data, held_out=each, **pairs) for each in (False, True))
    return ImageSplits(training[0], held_out[0]), ImageSplits(training[1], held_out[1])


def resolve_classes(recipe: Recipe, preset: Preset, data: ImageSplits) -> Preset:
    """The preset with the data's classes, if the model is class-conditional and the recipe does not name them.

    Raises:
        RunError: a class-conditional model, and a split has unlabeled images, or the number of named classes differs
            from the data's.
    """
    if CLASSES not in preset.arguments:
        return preset
    for images in data:
        if images.labels is None:
            raise RunError(
                f"{preset.name} learns from labels, and {images.name} {images.split} has none: give a data set with "
                "classes, or a folder with two sub-folders or more, one per class, and no image beside them."
            )
    found = data.training.class_names
    if CLASSES not in recipe.model:
        return dataclasses.replace(preset, arguments={**preset.arguments, CLASSES: found})
    named = recipe.model[CLASSES]
    if not isinstance(named, (list, tuple)) or len(named) != len(found) or not all(isinstance(n, str) for n in named):
        raise RunError(f"classes={named!r}: the images have {len(found)}: name them, as in classes={list(found)}.")
    return preset


def build_and_compile(recipe: Recipe, preset: Preset, strategy: tf.distribute.Strategy) -> GenerativeModel:
    """The preset's model with fresh weights and the recipe's optimizers, built for `strategy`.

    Sets the global Python, NumPy and TensorFlow seed.

    Args:
        recipe: with a policy as its precision, see `resolve_precision`.
        preset: whose model it is.
        strategy: with the devices.

    Raises:
        ValueError: an argument that the model's constructor refuses, or optimizers of other players than the model's.
    """
    keras.utils.set_random_seed(recipe.seed)
    with strategy.scope(), computing_in(recipe.precision):
        model = build_model(preset)
        optimizers = build_optimizers(recipe.optimizers, model.lazy_intervals)
        model.compile(
            seed=recipe.seed, steps_per_execution=recipe.steps_per_execution, jit_compile=recipe.xla, **optimizers
        )
    return model


def build_model(preset: Preset) -> GenerativeModel:
    """The preset's model with fresh weights, and with the extractor that it learns from, if it names one.

    Raises:
        ValueError: an argument that the model's constructor refuses, or an extractor that is none.
        LookupError, CardError: there is no preset of the extractor's name, or no weights of it here.
    """
    model = resolve_class(preset.model)(**preset.arguments)
    if name := preset.arguments.get("extractor"):
        model.attach_extractor(load_feature_maps(name, model.content_layer))
    return model
