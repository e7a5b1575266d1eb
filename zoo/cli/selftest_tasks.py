"""What the child processes of the self-test do: `python -m zoo.cli.selftest_tasks TASK COUNT OPTIONS`.

A task makes a `Finding` by itself, or returns arrays that `zoo.cli.selftest` compares between processes. TensorFlow
takes its devices, its cluster and its determinism only while it starts: no device has been used when a task is called.
"""

import dataclasses
import importlib
import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serving.session import Session
from zoo.cli.findings import FLOAT32_LIMITS, ROWS_PER_DEVICE, Finding, Measurement, largest_difference
from zoo.cli.processes import Arrays, first_line
from zoo.data.images import ImageSet
from zoo.extras import start_tensorflow
from zoo.training.recipe import SGD, Recipe

# It has two players, batch norm and a moving average: most of what depends on devices takes part.
PRESET = "dcgan-fashion-mnist"
MIXED_STEPS = 12  # the first ones are skipped: float16 overflows until the loss scale has come down
IMAGES = 256
CONTRAST = 5.0  # times fresh weights: these make images of 0.002 at most, where 1 stands for white
GAIN = 100.0  # times fresh weights: these sum the largest numbers to some that are still finite
# Entries of a checkpoint that say nothing of a run.
NOT_STATE = {"_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter/.ATTRIBUTES/VARIABLE_VALUE"}
CONVOLUTION_LIMIT = 1e-3  # TensorFloat-32 keeps 10 bits of a factor
MIXED = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}
LARGEST_SCALE = 2.0**15  # where Keras' loss scale starts; it doubles only after 2,000 steps


def task_devices(count: int) -> Finding:
    """The convolution of every device against NumPy's in float64."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    images, kernel = random.normal(size=(8, 16, 16, 16)), random.normal(size=(3, 3, 16, 16))
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))  # (8, 14, 14, 16, 3, 3)
    expected = np.einsum("bhwcij,ijco->bhwo", windows, kernel)
    measurements = []
    for device in tf.config.list_logical_devices():
        if device.device_type in FLOAT32_LIMITS:
            with tf.device(device.name):
                found = tf.nn.conv2d(tf.constant(images, tf.float32), tf.constant(kernel, tf.float32), 1, "VALID")
            name = device.name.removeprefix("/device:")
            difference = largest_difference({name: [found.numpy()]}, {name: [expected]})
            measurements.append(Measurement(f"{name} against NumPy", difference, CONVOLUTION_LIMIT))
    allowed = tf.config.experimental.tensor_float_32_execution_enabled()
    gpus = len(measurements) > 1
    return Finding(
        tuple(measurements), notes=(f"TF32 is {'on' if allowed else 'off'}" if gpus else "no GPU, so no TF32",)
    )


def task_first_step(count: int, batch_size: int) -> dict[str, Arrays]:
    """Gradients, weights and metrics after one step, in float32 and in float64."""
    import tensorflow as tf

    from zoo.training.devices import choose_strategy

    tf.config.experimental.enable_tensor_float_32_execution(False)
    recipes = {
        dtype: make_tiny_recipe(devices=count, steps=1, batch_size=batch_size, precision=dtype)
        for dtype in ("float32", "float64")
    }
    strategy = choose_strategy(recipes["float32"])
    return {dtype: train_and_record(recipe, strategy) for dtype, recipe in recipes.items()}


def task_train(count: int, batch_size: int, steps: int) -> Arrays:
    """Gradients, weights and metrics after some steps in float64, alone or as a worker."""
    from zoo.training.devices import choose_strategy

    recipe = make_tiny_recipe(devices=count, steps=steps, batch_size=batch_size, precision="float64")
    return train_and_record(recipe, choose_strategy(recipe))


def task_precision(count: int) -> Finding:
    """Whether mixed precision trains: finite metrics, float32 weights that have moved, a loss scale in its range."""
    import keras
    import tensorflow as tf

    from zoo.training.devices import choose_strategy
    from zoo.training.run import build_and_compile

    faults, notes = [], []
    recipes = {
        policy: make_tiny_recipe(devices=count, steps=MIXED_STEPS, batch_size=ROWS_PER_DEVICE * count, precision=policy)
        for policy in MIXED
    }
    strategy = choose_strategy(next(iter(recipes.values())))
    for policy, recipe in recipes.items():
        model = build_and_compile(recipe, recipe.to_preset(), strategy)
        before = copy_weights(model, strategy)
        metrics = fit(model, recipe, strategy)
        after = copy_weights(model, strategy)
        moved = [not np.array_equal(one, other) for one, other in zip(before, after, strict=True)]
        wrong = {
            f"no layer computes in {MIXED[policy]}": not model.computes_in(MIXED[policy]),
            f"metrics {sorted(metrics)} are not finite": not np.isfinite(list(metrics.values())).all(),
            "weights are not finite": not all(np.isfinite(weight).all() for weight in after),
            "weights are not float32": any(weight.dtype != np.float32 for weight in after),
            f"{moved.count(False)} of {len(moved)} weights have not moved": not all(moved),
        }
        for player, optimizer in model.player_optimizers.items():
            if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
                scale = float(optimizer.scale_loss(tf.ones(())))
                wrong[f"{player}'s loss scale is {scale:g}"] = not 1.0 <= scale <= LARGEST_SCALE
                notes.append(f"{player}'s loss scale {scale:g}")
        faults += [f"{policy}: {what}" for what, is_wrong in wrong.items() if is_wrong]
    return Finding((), tuple(faults), (f"{' and '.join(MIXED)}: {MIXED_STEPS} steps each", *notes))


def task_not_finite(count: int) -> Finding:
    """The last row of the batch overflows: the step must stop and leave every device's copy of the weights."""
    import tensorflow as tf

    from zoo.core.step import NOT_FINITE
    from zoo.training.devices import choose_strategy
    from zoo.training.run import build_and_compile

    recipe = make_tiny_recipe(devices=count, steps=1, batch_size=ROWS_PER_DEVICE * count)
    strategy = choose_strategy(recipe)
    model = build_and_compile(recipe, recipe.to_preset(), strategy)
    minibatches = (model.minibatches_per_step,) if model.minibatches_per_step > 1 else ()
    shape = (recipe.batch_size, *minibatches, *recipe.to_preset().arguments["image_shape"])
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    images[-1] = np.finfo(np.float32).min  # finite: a batch with NaN is refused before its gradients are computed
    for variable in model.variables_of("discriminator"):
        variable.assign(GAIN * variable)
    data = tf.data.Dataset.from_tensors({"image": images, "row": np.arange(len(images))}).repeat()
    before = copy_weights(model, strategy)
    try:
        model.fit(data, steps_per_epoch=1, shuffle=False, verbose=0)
        said = ""
    except tf.errors.InvalidArgumentError as error:
        said = error.message
    after = copy_weights(model, strategy)
    wrong = {
        "the step did not stop": not said,
        f"the step stopped, for another reason: {first_line(said)}": bool(said) and NOT_FINITE not in said,
        "weights have changed": not all(np.array_equal(one, other) for one, other in zip(before, after, strict=True)),
    }
    faults = tuple(what for what, is_wrong in wrong.items() if is_wrong)
    return Finding((), faults, ("the step stopped, no weight changed",) if not faults else ())


def task_checkpoint(count: int) -> Finding:
    """Four steps, and two steps more from the second one's checkpoint: the same bits in everything that is saved."""
    import keras
    import tensorflow as tf

    from zoo.training.checkpoints import Checkpoints
    from zoo.training.devices import choose_strategy
    from zoo.training.run import build_and_compile

    recipe = make_tiny_recipe(devices=count, steps=4, batch_size=ROWS_PER_DEVICE)
    strategy = choose_strategy(recipe)
    with tempfile.TemporaryDirectory() as folder:
        model = build_and_compile(recipe, recipe.to_preset(), strategy)
        checkpoints = Checkpoints(model, Path(folder) / "whole", keep=recipe.steps)
        save = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: checkpoints.save(batch + 1))
        fit(model, recipe, strategy, save)
        resumed = build_and_compile(recipe, recipe.to_preset(), strategy)
        Checkpoints(resumed, Path(folder) / "whole", keep=1).load(2)
        fit(resumed, recipe, strategy)
        again = Checkpoints(resumed, Path(folder) / "resumed", keep=1)
        again.save(recipe.steps)
        expected, found = (tf.train.load_checkpoint(str(each.path(recipe.steps))) for each in (checkpoints, again))
        names = sorted(set(expected.get_variable_to_shape_map()) - NOT_STATE)
        differ = [name for name in names if not np.array_equal(expected.get_tensor(name), found.get_tensor(name))]
    if differ:
        return Finding(faults=(f"{len(differ)} of {len(names)} tensors differ, the first is {differ[0]}",))
    return Finding(notes=(f"all {len(names)} tensors have the same bits",))


def task_export(count: int) -> Finding:
    """Export, compare the formats as every export does, and ask ONNX Runtime for the device it takes by itself."""
    from serving.card import Data
    from zoo.export.agreement import TOLERANCE, ExportError, check_agreement, make_example
    from zoo.export.export import FORMATS, export
    from zoo.pretrained import load_pretrained
    from zoo.training.devices import choose_strategy
    from zoo.training.run import build_model

    recipe = make_tiny_recipe(devices=count)
    choose_strategy(recipe)
    preset = recipe.to_preset()
    worst, worst_served, providers = 0.0, 0.0, set()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "export"
        data = Data("noise", "train", 0, "", "noise")
        try:
            model = build_model(preset)
            for variable in model.exported_weights().values():
                variable.assign(CONTRAST * variable)
            export(model, directory, preset=preset, data=data, recipe={})
            model = load_pretrained(str(directory), format="keras")
            for name, ability in model.abilities().items():
                worst = max(worst, check_agreement(name, ability, directory, FORMATS))
                feeds = {spec.name: make_example(spec, ROWS_PER_DEVICE) for spec in ability.card().inputs}
                session = Session(directory / f"{name}.onnx", strict=True)
                expected = {key: [value] for key, value in model.run_ability(name, feeds).items()}
                served = {key: [value] for key, value in session.run(feeds).items()}
                worst_served = max(worst_served, largest_difference(served, expected))
                providers.add(session.providers[0])
        except ExportError as error:
            return Finding(faults=(str(error),))
    used = ", ".join(sorted(providers))
    measurements = (
        Measurement("ONNX and SavedModel against Keras", worst, TOLERANCE),
        Measurement(f"ONNX Runtime's {used} against Keras", worst_served, TOLERANCE),
    )
    return Finding(measurements)


TASKS: Mapping[str, Callable[..., Any]] = {
    "devices": task_devices,
    "first step": task_first_step,
    "train": task_train,
    "precision": task_precision,
    "not finite": task_not_finite,
    "checkpoint": task_checkpoint,
    "export": task_export,
}


def make_tiny_recipe(**changes: Any) -> Recipe:
    """The recipe of `PRESET`, for its tiny twin: the same class at the size of a test, by default in float32.

    Args:
        **changes: fields of `Recipe`.
    """
    recipe: Recipe = importlib.import_module(f"recipes.{PRESET.replace('-', '_')}").recipe
    return dataclasses.replace(recipe, **{"smoke": True, "precision": "float32", **changes})


def make_noise_images(shape: Sequence[int]) -> ImageSet:
    """`IMAGES` images of noise, all different.

    Args:
        shape: (height, width, channels).
    """
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape), np.uint8)
    return ImageSet(images, None, (), "noise", "train", "", 0, (), "")


def fit(model: Any, recipe: Recipe, strategy: Any, *callbacks: Any) -> dict[str, float]:
    """Train from the model's step to the recipe's last; returns the metrics of all these steps."""
    from zoo.data.batches import distributed_batches

    done = int(model.step.numpy())
    data = distributed_batches(
        strategy,
        make_noise_images(recipe.to_preset().arguments["image_shape"]),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        start_step=done,
        minibatches_per_step=model.minibatches_per_step,
    )
    options: dict[str, Any] = {"shuffle": False, "verbose": 0, "callbacks": list(callbacks)}
    history = model.fit(data, steps_per_epoch=recipe.steps - done, **options).history
    return {name: float(values[-1]) for name, values in history.items()}


def train_and_record(recipe: Recipe, strategy: Any) -> dict[str, list[Any]]:
    """Train; returns the gradients, weights and metrics after the recipe's steps, all of the recipe's float type.

    The velocity of SGD with momentum starts at 0, so after one step it is minus rate times the gradient, unrounded.
    """
    import keras

    from zoo.training.run import build_and_compile

    players = {player: SGD(0.1, momentum=0.5) for player in recipe.optimizers}
    before = keras.config.floatx()
    keras.config.set_floatx(recipe.precision)
    try:
        model = build_and_compile(dataclasses.replace(recipe, optimizers=players), recipe.to_preset(), strategy)
        metrics = fit(model, recipe, strategy)
    finally:
        keras.config.set_floatx(before)
    states = [variable for optimizer in model.player_optimizers.values() for variable in optimizer.variables]
    return {
        "gradients": [variable.numpy() for variable in states if "momentum" in variable.path],
        "weights": model.get_weights(),
        "metrics": [metrics[name] for name in sorted(metrics)],
    }


def copy_weights(model: Any, strategy: Any) -> list[np.ndarray]:
    """Copies of every weight that a player updates, as each device of `strategy` has it."""
    return [
        copy.numpy()
        for player in model.players
        for variable in model.variables_of(player)
        for copy in strategy.experimental_local_results(variable.value)
    ]


def encode_for_json(value: Any) -> Any:
    """What JSON does not know, arrays and findings, as lists and dictionaries."""
    return value.tolist() if isinstance(value, np.ndarray) else dataclasses.asdict(value)


def main(task: str, count: str, options: str) -> None:
    """Do one task and write its answer as the last line of standard output; what goes wrong is the last of the other.

    Args:
        task: a key of `TASKS`.
        count: of its devices.
        options: its further arguments, as JSON.
    """
    try:
        start_tensorflow()
        answer = TASKS[task](int(count), **json.loads(options))
    except Exception as error:
        traceback.print_exc()
        print(f"{type(error).__name__}: {first_line(str(error))}", file=sys.stderr)
        sys.exit(1)
    print(json.dumps(answer, default=encode_for_json))


if __name__ == "__main__":
    main(*sys.argv[1:])
