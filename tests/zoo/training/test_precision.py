"""What "auto" comes to on which machine, that a run keeps to it and says so, and that workers agree on it."""

import dataclasses
import importlib
import io
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from recipes import dcgan_fashion_mnist
from zoo.cli.recipes import list_recipes
from zoo.presets.table import PRESETS, resolve_class
from zoo.training import precision
from zoo.training.precision import (
    Capability,
    Precision,
    choose_precision,
    convolve,
    decide,
    list_capabilities,
    measure_speedup,
    measure_speedups,
    resolve_precision,
)
from zoo.training.processor import read_processor_flags
from zoo.training.recipe import Recipe
from zoo.training.run_directory import RunError
from zoo.training.train import train

EPYC = {"avx2", "avx512f", "avx512_bf16"}
FAST = {"matrix product": 1.76, "convolution": 1.25}
RESOLVED = ("float32", "mixed_bfloat16")


# The decision


@pytest.mark.parametrize(
    ("capabilities", "flags", "xla", "speedups", "policy", "reason"),
    [
        ([(8, 0)], set(), False, None, "mixed_bfloat16", "since the GPU has compute capability 8.0"),
        ([(9, 0)], EPYC, True, None, "mixed_bfloat16", "since the GPU has compute capability 9.0"),
        ([(10, 0), (8, 9)], set(), False, None, "mixed_bfloat16", "since the GPU has compute capability 8.9"),
        ([(7, 5)], EPYC, False, None, "float32", "since the GPU has compute capability 7.5, and bfloat16 takes 8.0"),
        ([(9, 0), (7, 0)], EPYC, False, None, "float32", "since the GPU has compute capability 7.0, and bf"),
        ([(9, 0), None], EPYC, False, None, "float32", "since a GPU does not tell its compute capability"),
        ([], set(), False, None, "float32", "since this processor has no instructions for bfloat16 (none of amx_bf16,"),
        ([], {"avx512f", "amx_int8"}, True, None, "float32", "since this processor has no instructions for bfloat16"),
        ([], EPYC, True, None, "float32", "since XLA gains nothing from bfloat16 on a processor"),
        (
            *([], EPYC, False, FAST, "mixed_bfloat16"),
            "since this processor does a matrix product 1.76 times and a convolution 1.25 times as fast in bfloat16 as "
            "in float32",
        ),
        ([], {"amx_bf16"}, False, FAST, "mixed_bfloat16", "since this processor does a matrix product 1.76 times"),
        ([], {"neon", "bf16"}, False, FAST, "mixed_bfloat16", "since this processor does a matrix product 1.76 times"),
        (
            [],
            EPYC,
            False,
            FAST | {"convolution": 1.24},
            "float32",
            "a convolution 1.24 times as fast in bfloat16 as in",
        ),
        ([], EPYC, False, FAST | {"matrix product": 0.4}, "float32", "in float32: it takes 1.25 times"),
    ],
)
def test_it_is_decided_by_the_machine(
    capabilities: Sequence[Capability | None],
    flags: set[str],
    xla: bool,
    speedups: Mapping[str, float] | None,
    policy: str,
    reason: str,
) -> None:
    def measure() -> Mapping[str, float]:
        assert speedups is not None, "measured where the answer is known"
        return speedups

    found = decide(capabilities, flags, xla, measure)
    assert (found.policy, found.chosen_by) == (policy, "auto")
    assert reason in found.reason


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (
            "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx512_bf16\nvmx flags\t: vnmi\n\nprocessor\t: 1\n",
            {"fpu", "avx512_bf16"},
        ),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\nCPU implementer\t: 0x41\n", {"fp", "asimd", "bf16"}),
        ("processor\t: 0\nhart\t: 0\n", set()),
    ],
    ids=["x86", "ARM", "neither"],
)
def test_instructions_are_read_as_linux_lists_them(text: str, flags: set[str], tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert read_processor_flags(tmp_path / "cpuinfo") == flags


def test_a_system_that_lists_no_instructions_has_none(tmp_path: Path) -> None:
    assert read_processor_flags(tmp_path / "none") == set()


def test_gpus_are_asked_for_their_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    details = {"GPU:0": {"device_name": "A", "compute_capability": (9, 0)}, "GPU:1": {"compute_capability": (7, 5)}}
    details["GPU:2"] = {"device_name": "another maker's"}
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [name for name in details if kind in name])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.get)
    assert list_capabilities() == [(9, 0), (7, 5), None]
    assert list_capabilities(1) == [(9, 0)]


def test_the_measurement_takes_the_best_turn_of_each_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds of the turns, the first of which is not counted: 9 / 3 = 3."""
    seconds = {
        tf.float32: itertools.chain([1.0, 40.0, 9.0], itertools.repeat(20.0)),
        tf.bfloat16: itertools.chain([1.0, 6.0, 30.0, 3.0], itertools.repeat(50.0)),
    }
    clock = [0.0]

    def work(x: tf.Tensor) -> tf.Tensor:
        def advance(value: np.ndarray) -> np.ndarray:
            clock[0] += next(seconds[x.dtype])
            return value

        return tf.numpy_function(advance, [x], x.dtype)

    monkeypatch.setattr(precision, "time", SimpleNamespace(process_time=lambda: clock[0], monotonic=lambda: 0.0))
    assert measure_speedup(work, (2, 3)) == 3.0


def test_a_measurement_that_takes_too_long_ends_after_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tf.DType] = []

    def work(x: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(lambda value: (calls.append(x.dtype), value)[1], [x], x.dtype)

    times = itertools.count(step=10.0)
    monkeypatch.setattr(precision, "time", SimpleNamespace(process_time=lambda: next(times), monotonic=times.__next__))
    measure_speedup(work, (2, 3))
    assert calls == [tf.float32, tf.bfloat16] * 2  # to trace, and one turn


def test_the_convolution_that_is_measured_has_both_gradients() -> None:
    random = np.random.default_rng(0)
    x, kernel = (tf.constant(random.normal(size=size), tf.float32) for size in ((2, 5, 5, 3), (3, 3, 3, 4)))
    with tf.GradientTape() as tape:
        tape.watch((x, kernel))
        loss = tf.reduce_sum(tf.square(tf.nn.conv2d(x, kernel, 1, "SAME"))) / 2  # whose gradient is the output
    y, *gradients = convolve(x, kernel)
    for found, expected in zip(gradients, tape.gradient(loss, (x, kernel)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert y.shape == (2, 5, 5, 4)


def test_this_machine_can_be_measured() -> None:
    found = measure_speedups()
    assert set(found) == {"matrix product", "convolution"}
    assert all(0.0 < speedup < math.inf for speedup in found.values())


# A run


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that computes faster in bfloat16."""
    monkeypatch.setattr(precision, "read_processor_flags", lambda: frozenset(EPYC))
    monkeypatch.setattr(precision, "measure_speedups", lambda: FAST)


BASE = dataclasses.replace(
    dcgan_fashion_mnist.recipe, data="embedded", smoke=True, deterministic=False, batch_size=8, score_every=None
)
BEGUN = "in which this run was begun."


def go(directory: Path, **changes: Any) -> str:
    """Train the tiny twin; returns what the console showed."""
    said = io.StringIO()
    train(dataclasses.replace(BASE, run_dir=directory, **changes), Console(file=said, width=10_000))
    return said.getvalue()


def config_of(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "config.json").read_text())


def test_the_default_is_auto_and_a_dry_run_says_what_it_comes_to(fast: None, tmp_path: Path) -> None:
    said = go(tmp_path / "run", dry_run=True)
    assert "precision: mixed_bfloat16, since this processor does a matrix product 1.76 times" in said
    assert "precision: float32, as asked." in go(tmp_path / "run", dry_run=True, precision="float32")
    assert "precision: float32, since XLA gains nothing" in go(tmp_path / "run", dry_run=True, xla=True)


def test_a_machine_without_bfloat16_trains_in_float32(tmp_path: Path) -> None:
    assert "precision: float32, since this processor has no instructions for bfloat16" in go(tmp_path, dry_run=True)


def test_a_run_goes_on_in_what_it_was_begun_in_on_any_machine(fast: None, tmp_path: Path) -> None:
    run = tmp_path / "run"
    go(run, steps=2)
    begun = config_of(run)
    assert (begun["recipe"]["precision"], begun["precision_chosen_by"]) == ("mixed_bfloat16", "auto")
    assert (
        "mixed_bfloat16, since this processor does" in json.loads((run / "environment.json").read_text())["precision"]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "read_processor_flags", frozenset)
        assert choose_precision([]).policy == "float32"
        said = go(run, steps=3, resume=True)
    assert f"precision: mixed_bfloat16, {BEGUN}" in said
    assert "resumed at step 2." in said
    assert {**config_of(run), "options": None} == {**begun, "options": None}  # of which steps may change
    card = json.loads((run / "export" / "card.json").read_text())
    assert (card["recipe"]["precision"], card["recipe"]["steps"]) == ("mixed_bfloat16", 3)
    assert "`precision=mixed_bfloat16`" in (run / "export" / "README.md").read_text()
    outputs = card["abilities"]["generate"]["outputs"]
    assert {tensor["dtype"] for tensor in outputs} == {"float32"}


def test_a_run_in_float32_stays_so_on_a_faster_machine(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run = tmp_path / "run"
    go(run, steps=2)
    request.getfixturevalue("fast")
    assert choose_precision([]).policy == "mixed_bfloat16"
    assert f"precision: float32, {BEGUN}" in go(run, steps=3, resume=True)


@pytest.mark.parametrize("begun", ["auto", "mixed_bfloat16"])
def test_another_precision_is_refused_and_the_same_one_is_not(begun: str, fast: None, tmp_path: Path) -> None:
    run = tmp_path / "run"
    go(run, steps=2, precision=begun)
    with pytest.raises(RunError, match=r"recipe\.precision was 'mixed_bfloat16', now 'float32'\. Resume with the same"):
        go(run, steps=3, resume=True, precision="float32")
    assert "precision: mixed_bfloat16, as asked." in go(run, steps=3, resume=True, precision="mixed_bfloat16")


def test_a_run_from_before_auto_goes_on(fast: None, tmp_path: Path) -> None:
    run = tmp_path / "run"
    go(run, steps=2, precision="float32")
    config = config_of(run)
    assert config.pop("precision_chosen_by") == "recipe"
    (run / "config.json").write_text(json.dumps(config))
    assert f"precision: float32, {BEGUN}" in go(run, steps=3, resume=True)


# Workers


class Cluster:
    """One of two workers; the other one's answer is given."""

    count, index = 2, 0

    def __init__(self, other: bool):
        self.strategy = SimpleNamespace(num_replicas_in_sync=2, cluster_resolver=None)
        self.other = other
        self.calls: list[str] = []

    def together(self, action: Callable[[], Any]) -> Any:
        self.calls.append("together")
        return action()

    def gather(self, number: int) -> list[int]:
        self.calls.append("gather")
        return [number, int(self.other)]


@pytest.mark.parametrize(
    ("here", "other", "policy", "reason"),
    [
        (True, True, "mixed_bfloat16", "since every worker computes faster in bfloat16"),
        (True, False, "float32", "since worker(s) [1] did not choose bfloat16"),
        (False, True, "float32", "since worker(s) [0] did not choose bfloat16"),
        (False, False, "float32", "since worker(s) [0, 1] did not choose bfloat16"),
    ],
)
def test_workers_compute_in_bfloat16_if_all_gain_by_it(
    here: bool, other: bool, policy: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(precision, "devices_of", lambda strategy: ["CPU:0"])
    monkeypatch.setattr(precision, "choose_precision", lambda *_, xla: Precision(RESOLVED[here], "auto", "by itself"))
    cluster: Any = Cluster(other)
    assert resolve_precision(BASE, tmp_path, cluster) == Precision(policy, "auto", reason)


@pytest.mark.parametrize("asked", ["auto", "float32", "mixed_float16"])
@pytest.mark.parametrize("resume", [False, True])
def test_workers_ask_each_other_as_often_whatever_they_were_told(
    asked: str, resume: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Otherwise one that was started with other options would leave the others waiting, or be misunderstood."""
    monkeypatch.setattr(precision, "devices_of", lambda strategy: ["CPU:0"])
    (tmp_path / "config.json").write_text(json.dumps({"recipe": {"precision": "mixed_bfloat16"}}))
    cluster: Any = Cluster(other=False)
    recipe: Recipe = dataclasses.replace(BASE, precision=asked, resume=resume)
    found = resolve_precision(recipe, tmp_path, cluster)
    assert cluster.calls == ["together", "gather"]
    begun = "mixed_bfloat16" if resume else "float32"  # what the other one would refuse is not asked again
    assert found.policy == (begun if asked == "auto" else asked)


def test_a_worker_that_does_not_see_the_run_says_so(tmp_path: Path) -> None:
    cluster: Any = Cluster(other=True)
    with pytest.raises(RunError, match=f"worker 0 sees no run in {tmp_path}: is that on a file system all share"):
        resolve_precision(dataclasses.replace(BASE, resume=True), tmp_path, cluster)


# Recipes


@pytest.mark.parametrize("name", sorted(list_recipes()))
def test_recipes_of_dense_networks_train_in_float32(name: str) -> None:
    """Measured, they gain at most a ninth."""
    preset = PRESETS[name].twin()
    model = resolve_class(preset.model)(**preset.arguments)
    networks = [network for player in model.players.values() for network in player]
    kinds = {type(layer).__name__ for network in networks for layer in network._flatten_layers()}
    convolves = any("Conv" in kind for kind in kinds)
    assert convolves or importlib.import_module(list_recipes()[name]).recipe.precision == "float32"
