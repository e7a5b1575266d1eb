"""`zoo doctor --selftest`: how it judges, that each check can fail, and one run of all of it."""

import io
import json
import math
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from onnx import numpy_helper
from rich.console import Console

import zoo.export.onnx
import zoo.training.devices
import zoo.training.run
from zoo.cli import selftest, selftest_tasks
from zoo.cli.findings import Finding, Measurement, SkippedError
from zoo.cli.processes import Devices, Job, ProcessError
from zoo.cli.selftest import Comparison
from zoo.core import replicas
from zoo.training.checkpoints import Checkpoints

ROOT = Path(__file__).parents[3]
NARROW = Measurement("narrow", 0.5, 1.0)
WIDE = Measurement("wide", 2.0, 1.0)
CPU, TWO_CPUS, GPU, TWO_GPUS = Devices("CPU", 1), Devices("CPU", 2), Devices("GPU", 1), Devices("GPU", 2)


# The verdict


@pytest.mark.parametrize(
    ("value", "passed"), [(0.0, True), (1.0, True), (1.0001, False), (math.inf, False), (math.nan, False)]
)
def test_a_measurement_passes_up_to_its_limit(value, passed):
    assert Measurement("what", value, 1.0).passed is passed


@pytest.mark.parametrize(
    ("finding", "status", "detail"),
    [
        (Finding((NARROW,), notes=("on 1 GPU",)), "ok", "narrow 5.0e-01 <= 1e+00; on 1 GPU"),
        (Finding((NARROW, WIDE)), "failed", "wide 2.0e+00 is not <= 1e+00; narrow 5.0e-01 <= 1e+00"),
        (Finding((NARROW,), ("broken",), ("note",)), "failed", "broken; narrow 5.0e-01 <= 1e+00; note"),
    ],
)
def test_a_finding_fails_with_any_fault_and_says_what_is_wrong_first(finding, status, detail):
    assert (finding.status, finding.detail) == (status, detail)


def test_a_finding_survives_its_way_through_json():
    finding = Finding((NARROW, Measurement("lost", math.nan, 1.0)), ("fault",), ("note",))
    again = selftest.decode_finding(json.loads(json.dumps(asdict(finding))))
    assert (again.detail, again.status) == (finding.detail, "failed")


@pytest.mark.parametrize(
    ("found", "difference"),
    [
        ({"a": [[1.0, -4.0]], "b": [2.0]}, 0.0),
        ({"a": [[1.5, -4.0]], "b": [2.0]}, 0.125),  # 0.5 of at most 4
        ({"a": [[1.0, -4.0]], "b": [3.0]}, 0.5),  # 1 of 2
        ({"a": [[1.0, math.nan]], "b": [2.0]}, math.nan),
    ],
)
def test_the_largest_difference_is_a_share_of_the_largest_value_of_its_array(found, difference):
    result = selftest.largest_difference(found, {"a": [[1.0, -4.0]], "b": [2.0]})
    np.testing.assert_equal(result, difference)


@pytest.mark.parametrize(
    ("comparison", "limits"),
    [
        (Comparison(CPU, TWO_CPUS), {"float32": 1e-5, "float64": 1e-9}),
        (Comparison(CPU, GPU), {"float32": 1e-3}),
        (Comparison(GPU, TWO_GPUS), {"float32": 1e-3, "float64": 1e-9}),
    ],
)
def test_limits_of_a_comparison(comparison, limits):
    assert comparison.limits() == limits


@pytest.mark.parametrize(
    ("gpus", "device_sets"),
    [
        (1, [CPU, GPU]),
        (2, [CPU, GPU, TWO_GPUS]),
        (8, [CPU, GPU, TWO_GPUS, Devices("GPU", 8)]),
        (10, [CPU, GPU, TWO_GPUS, Devices("GPU", 8)]),
    ],
)
def test_gpus_are_compared_with_the_cpu_and_with_one_another(gpus, device_sets, monkeypatch):
    def same(jobs):
        assert [job.devices for job in jobs] == device_sets
        assert {job.options["batch_size"] for job in jobs} == {4 * device_sets[-1].count}
        return [{dtype: {"weights": [[1.0]]} for dtype in ("float32", "float64")} for _ in jobs]

    monkeypatch.setattr(selftest, "run_jobs", same)
    assert len(selftest.check_parity_of_gpus(gpus).measurements) == 1 + 2 * (len(device_sets) - 2)


@pytest.mark.parametrize(("check", "gpus"), [("parity of GPUs", 0), ("workers on GPUs", 0), ("workers on GPUs", 1)])
def test_what_needs_gpus_is_skipped_without(check, gpus):
    with pytest.raises(SkippedError, match="TensorFlow sees"):
        selftest.CHECKS[check](gpus)


@pytest.mark.parametrize(("chosen", "names"), [(None, ["0", "1"]), ("3,5,6", ["3", "5"])])
def test_workers_on_gpus_get_one_each(chosen, names, monkeypatch):
    def same(jobs):
        assert [job.environment["CUDA_VISIBLE_DEVICES"] for job in jobs] == [*names, names[0]]
        assert ["TF_CONFIG" in job.environment for job in jobs] == [True, True, False]
        return [{"weights": [[1.0]]} for _ in jobs]

    if chosen:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    else:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(selftest, "run_jobs", same)
    assert len(selftest.check_workers_on_gpus(2).measurements) == 2


def test_a_driver_that_shows_more_gpus_than_tensorflow_is_a_fault(monkeypatch):
    monkeypatch.setattr(selftest, "run_jobs", lambda jobs: [asdict(Finding((NARROW,)))])
    monkeypatch.setattr(selftest, "count_nvidia_devices", lambda: 8)
    assert "the NVIDIA driver shows 8 device(s), TensorFlow 0" in selftest.check_devices(0).detail
    assert selftest.check_devices(0).status == "failed"
    assert selftest.check_devices(8).status == "ok"


# The run


@pytest.fixture
def checks(monkeypatch):
    """Three checks that need no process: one finds, one skips, one breaks."""

    def skips(gpus):
        raise SkippedError("nothing to do")

    def breaks(gpus):
        raise ProcessError("failed: why", stderr="its last words")

    found = {"finds": lambda gpus: Finding(notes=(f"{gpus} GPUs",)), "skips": skips, "breaks": breaks}
    monkeypatch.setattr(selftest, "CHECKS", found)


def test_a_run_has_a_record_and_a_line_for_each_check(checks):
    shown = io.StringIO()
    records = selftest.run_checks({"gpus": 3}, Console(file=shown))
    assert [(record["name"], record["status"], record["detail"]) for record in records] == [
        ("finds", "ok", "3 GPUs"),
        ("skips", "skipped", "nothing to do"),
        ("breaks", "failed", "failed: why"),
    ]
    assert [line[:4] for line in shown.getvalue().splitlines()] == ["1/3 ", "2/3 ", "3/3 ", "its "]


@pytest.mark.parametrize(
    ("tensorflow", "reason"),
    [(None, 'not installed: pip install "generative-zoo[train]"'), ({"error": "no libcudart"}, "no libcudart")],
)
def test_without_tensorflow_every_check_is_skipped(tensorflow, reason, checks):
    records = selftest.run_checks(tensorflow, Console(file=io.StringIO()))
    assert [record["status"] for record in records] == ["skipped"] * 3
    assert all(reason in record["detail"] for record in records)


# Processes


@pytest.fixture
def scripts(monkeypatch):
    """The task of a job is the program that it runs."""
    monkeypatch.setattr(Job, "command", property(lambda job: [sys.executable, "-c", job.task]))


def test_answers_come_in_order_each_the_last_line(scripts):
    jobs = [Job(f"print('chatter'); print({number})", CPU) for number in (1, 2)]
    assert selftest.run_jobs(jobs) == [1, 2]


@pytest.mark.parametrize(
    ("program", "timeout", "reason"),
    [
        ("import sys; sys.exit('one\\ntwo')", 60, "on 1 CPU device failed: two"),
        ("import os; os.abort()", 60, "on 1 CPU device was ended by SIGABRT"),
        ("import time; time.sleep(600)", 0, "on 1 CPU device gave no answer within 0 s"),
    ],
    ids=["fails", "crashes", "hangs"],
)
def test_a_process_without_an_answer_ends_the_others(scripts, program, timeout, reason):
    jobs = [Job("import time; time.sleep(600)", TWO_CPUS), Job(program, CPU)]
    with pytest.raises(ProcessError) as error:
        selftest.run_jobs(jobs if timeout else jobs[1:], timeout)
    assert reason in str(error.value)


def test_a_task_that_is_none_is_a_failure_with_its_traceback():
    with pytest.raises(ProcessError, match="none on 1 CPU device failed: KeyError: 'none'") as error:
        selftest.run_jobs([Job("none", CPU)])
    assert "Traceback" in error.value.stderr


def test_a_process_sees_its_own_devices_and_cluster(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "of a run")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert "TF_CONFIG" not in Job("train", CPU).environment
    assert Job("train", CPU).environment["CUDA_VISIBLE_DEVICES"] == ""
    assert Job("train", GPU).environment["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert Job("train", GPU, variables={"TF_CONFIG": "own"}).environment["TF_CONFIG"] == "own"


def test_every_worker_has_the_same_cluster_and_a_number_of_its_own():
    first, second = (json.loads(setting) for setting in selftest.make_tf_configs(2))
    assert first["cluster"] == second["cluster"]
    assert len(set(first["cluster"]["worker"])) == 2
    assert [first["task"]["index"], second["task"]["index"]] == [0, 1]


# Every check can fail


@pytest.fixture
def in_this_process(monkeypatch):
    """Tasks run here, without the determinism that would outlast the test."""
    monkeypatch.setattr(zoo.training.devices, "choose_strategy", lambda recipe: tf.distribute.get_strategy())


def test_parity_fails_without_a_reduction(strategy_of, monkeypatch):
    recipe = selftest_tasks.make_tiny_recipe(steps=1, batch_size=8)

    def measure(other):
        results = {used: {"float32": arrays, "float64": arrays} for used, arrays in ((CPU, one), (TWO_CPUS, other))}
        return next(Comparison(CPU, TWO_CPUS).measure(results))

    one = selftest_tasks.train_and_record(recipe, strategy_of(1))
    assert measure(selftest_tasks.train_and_record(recipe, strategy_of(2))).passed
    monkeypatch.setattr(replicas, "sum_over_replicas", lambda values: values)
    assert not measure(selftest_tasks.train_and_record(recipe, strategy_of(2))).passed


def test_precision_fails_where_nothing_computes_in_half(in_this_process, monkeypatch):
    monkeypatch.setattr(zoo.training.run, "computing_in", lambda policy: nullcontext())
    monkeypatch.setattr(selftest_tasks, "MIXED", {"mixed_bfloat16": "bfloat16"})
    finding = selftest_tasks.task_precision(1)
    assert (finding.status, finding.faults) == ("failed", ("mixed_bfloat16: no layer computes in bfloat16",))


def test_not_finite_looks_at_gradients(in_this_process):
    finding = selftest_tasks.task_not_finite(1)
    assert (finding.status, finding.detail) == ("ok", "the step stopped, no weight changed")


def test_not_finite_fails_where_nobody_looks(in_this_process, monkeypatch):
    monkeypatch.setattr(tf.debugging, "check_numerics", lambda tensor, message: tensor)
    finding = selftest_tasks.task_not_finite(1)
    assert (finding.status, finding.faults) == ("failed", ("the step did not stop", "weights have changed"))


def test_checkpoint_fails_where_nothing_is_restored(in_this_process, monkeypatch):
    monkeypatch.setattr(Checkpoints, "load", lambda checkpoints, step: checkpoints.model.step.assign(step))
    finding = selftest_tasks.task_checkpoint(1)
    assert finding.status == "failed"
    assert "tensors differ" in finding.detail


def test_export_fails_where_a_format_has_other_weights(in_this_process, monkeypatch):
    def spoil(graph, scales):
        for tensor in graph.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.dtype == np.float32 and array.ndim == 4:
                tensor.CopyFrom(numpy_helper.from_array(array * np.float32(1.01), tensor.name))

    monkeypatch.setattr(zoo.export.onnx, "store_as_float16", spoil)
    finding = selftest_tasks.task_export(1)
    assert finding.status == "failed"
    assert "ONNX differs from Keras by" in finding.detail


# All of it


@pytest.mark.slow
def test_selftest_from_the_command_line(tmp_path):
    command = [sys.executable, "-m", "zoo.cli.main", "doctor", "--selftest", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    report = json.loads(done.stdout)
    found = {record["name"]: record["status"] for record in report["selftest"]}
    on_gpus = ("parity of GPUs", "workers on GPUs")
    details = "\n".join(f"{record['name']}: {record['detail']}" for record in report["selftest"])
    assert found == {name: "skipped" if name in on_gpus else "ok" for name in selftest.CHECKS}, details
    assert done.returncode == (1 if report["conflicts"] else 0)
    assert done.stderr.count("/9 ") == 9
    assert list(tmp_path.iterdir()) == []
