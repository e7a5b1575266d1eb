"""One replica equals two equals four: the same global batch gives the same gradients, statistics and metrics."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.optimizers import SGD

from zoo.presets.preset import Preset
from zoo.presets.table import PRESETS, resolve_class

SCRIPT = Path(__file__).with_name("parity_in_float64.py")
ROOT = SCRIPT.parents[2]

GAN = "zoo.models.gan.GAN"
TINY = {"image_shape": (8, 8, 1), "latent_dim": 4, "width": 4}
TWINS = {name: preset.twin() for name, preset in PRESETS.items()} | {
    "mlp": Preset("mlp", GAN, "GAN", "arXiv:1406.2661", "With dropout.", {**TINY, "architecture": "mlp"}),
    "k": Preset("k", GAN, "GAN", "arXiv:1406.2661", "Two steps of D.", {**TINY, "discriminator_steps": 2}),
    "fading": PRESETS["progan-sign-digits"].twin(),
    "srgan-adversarial": PRESETS["srgan-sign-digits"].twin(),
}
# The step, where it is not the first: half of a level has faded in; D has come in; means have been drawn from images.
STARTS = {"fading": 2, "srgan-adversarial": 1, "bernoulli-mixture-mnist": 1, "hmm-mnist": 1}
# MirroredStrategy's split of 5 rows on 2 replicas: 3, 2; of 6: 3, 3; of 7 on 4: 2, 2, 2, 1.
CASES = [*((name, 2, 5) for name in sorted(TWINS)), ("mlp", 2, 6), ("mlp", 4, 7), ("k", 4, 7)]


pytestmark = pytest.mark.usefixtures("float64")


def first_step(preset, strategy, fit, rows, start=0):
    """One train step: (every player's gradients, all weights, metrics).

    The velocity of SGD with momentum starts at 0, so after one step it is minus rate times the gradient, unrounded.
    """
    with strategy.scope():
        keras.utils.set_random_seed(3)
        model = resolve_class(preset.model)(**preset.arguments)
        optimizers = {player: SGD(0.1, momentum=0.5) for player in model.players}
        model.compile(seed=7, **optimizers)
    model.step.assign(start)
    per_row = model.minibatches_per_step
    shape = (rows, *([per_row] if per_row > 1 else []), *preset.arguments["image_shape"])
    images = np.random.default_rng(0).uniform(-1, 1, shape)
    targets = np.random.default_rng(1).uniform(-1, 1, shape)
    history = fit(model, images, label=np.arange(rows) % 3, target=targets)
    velocities = [v.numpy() for o in optimizers.values() for v in o.variables if "momentum" in v.path]
    return velocities, model.get_weights(), [np.array(history[name]) for name in sorted(history)]


@pytest.fixture(scope="module")
def on_one_replica(strategy_of, fit):
    kept = {}

    def get(name, rows):
        if (name, rows) not in kept:
            kept[name, rows] = first_step(TWINS[name], strategy_of(1), fit, rows, STARTS.get(name, 0))
        return kept[name, rows]

    return get


@pytest.mark.parametrize(("name", "replicas", "rows"), CASES)
def test_the_first_step_is_the_same_on_several_replicas(
    name, replicas, rows, on_one_replica, strategy_of, fit, difference
):
    expected = on_one_replica(name, rows)
    found = first_step(TWINS[name], strategy_of(replicas), fit, rows, STARTS.get(name, 0))
    assert all(len(part) > 0 for part in expected)
    worst = [difference(one, other) for one, other in zip(found, expected, strict=True)]
    assert max(worst) < 1e-7, dict(zip(("gradients", "weights", "metrics"), worst, strict=True))


def start(**environment):
    """The script in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results(processes):
    """What each of them has printed."""
    try:
        shown = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, (_, errors) in zip(processes, shown, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [json.loads(output.splitlines()[-1]) for output, _ in shown]


@pytest.fixture(scope="module")
def parity():
    (found,) = results([start()])
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        *("dcgan-sgd", "dcgan-adam", "mlp-sgd", "mlp-adam"),
        *("dcgan-adam-xla", "mlp-adam-xla", "mlp-adam-five-steps-per-execution"),
    ],
)
def test_fifty_steps_in_float64_end_at_the_same_weights(parity, case):
    assert parity[case]["weights"] < 1e-9
    assert parity[case]["metrics"] < 1e-9


@pytest.fixture(scope="module")
def parity_of_workers():
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    tasks = [{"type": "worker", "index": index} for index in range(2)]
    settings = [json.dumps({"cluster": {"worker": addresses}, "task": task}) for task in tasks]
    return results([start(TF_CONFIG=setting) for setting in settings])


@pytest.mark.slow
@pytest.mark.parametrize("case", ["mlp-sgd", "dcgan-adam-own-rows"])
def test_fifty_steps_on_two_workers_end_at_the_same_weights(parity_of_workers, case):
    for worker in parity_of_workers:
        assert worker[case]["weights"] < 1e-9
        assert worker[case]["metrics"] < 1e-9
