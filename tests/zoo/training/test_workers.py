"""Two workers on one machine: who writes, how they stop together and go on; TF_CONFIG; what docs/workers.md shows."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from recipes import dcgan_fashion_mnist
from zoo.training import devices
from zoo.training import workers as cluster
from zoo.training.checkpoints import describe
from zoo.training.devices import choose_strategy
from zoo.training.run_directory import RunError
from zoo.training.workers import (
    EXAMPLE,
    WorkerLostError,
    Workers,
    has_several_workers,
    is_listening,
    make_lost_error,
    meet,
)

ROOT = Path(__file__).parents[3]
PATIENCE = 300  # seconds
LOG_EVERY = 5
TINY = ["--data", "embedded", "--image-size", "8", "--model.width", "2", "--model.latent-dim", "4", "--batch-size", "8"]
PACE = ["--log-every", str(LOG_EVERY), "--checkpoint-every", "10", "--sample-every", "1000000"]
OPTIONS = [*TINY, *PACE, "--precision", "float32"]  # alike on any machine
WITHOUT_END = ["--steps", "1000000"]


# Processes


class Worker:
    """One process; what it shows goes to a file."""

    def __init__(self, index: int, addresses: Sequence[str], shown: Path, arguments: Sequence[str]):
        setting = {"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": index}}
        environment = os.environ | {"TF_CONFIG": json.dumps(setting), "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-m", "zoo.cli.main", "train", "dcgan-fashion-mnist", *OPTIONS, *arguments]
        self.shown = shown
        with shown.open("wb") as file:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=file, stderr=file, preexec_fn=heed_sigint
            )

    @property
    def text(self) -> str:
        return self.shown.read_text()

    @property
    def last_line(self) -> str:
        return self.text.strip().splitlines()[-1]

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def heed_sigint() -> None:
    """Ctrl-C counts, also where the shell started the tests in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def free_addresses(count: int) -> list[str]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


@contextmanager
def two_workers(folder: Path, *arguments: str, second: Sequence[str] = ()) -> Iterator[list[Worker]]:
    """Both train in `folder`/run; `second` are arguments of worker 1 alone."""
    addresses = free_addresses(2)
    with ExitStack() as started:
        workers = []
        for index, own in enumerate(((), second)):
            run_dir = ["--run-dir", str(folder / "run")]
            worker = Worker(index, addresses, folder / f"shown-{index}.txt", [*run_dir, *arguments, *own])
            started.callback(worker.end)
            workers.append(worker)
        yield workers


def until(reached: Callable[[], bool], workers: Sequence[Worker]) -> None:
    """Wait, while all of them live."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert all(worker.process.poll() is None for worker in workers), [worker.text for worker in workers]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def saved(run: Path) -> int:
    """Step of the newest checkpoint that has its record; 0 if there is none."""
    return max((int(path.stem.removeprefix("ckpt-")) for path in run.glob("checkpoints/ckpt-*.json")), default=0)


def steps_logged(run: Path) -> list[int]:
    with (run / "log.csv").open(encoding="utf-8") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def assert_checkpoints_whole(run: Path) -> None:
    records = list(run.glob("checkpoints/ckpt-*.json"))
    assert records
    for record in records:
        files = json.loads(record.read_text())["files"]
        assert files == {name: describe(run / "checkpoints" / name) for name in files}
        assert len(files) == 2


@pytest.mark.slow
def test_two_workers_lose_one_resume_stop_at_a_signal_and_finish(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with two_workers(tmp_path, *WITHOUT_END) as (chief, other):
        until(lambda: saved(run) > 0, (chief, other))
        other.process.kill()
        assert chief.wait() == 1, chief.text
    assert chief.last_line.startswith("error: another worker stopped answering")
    assert f"start all workers again with --resume --run-dir {run}" in chief.last_line
    assert "Traceback" not in chief.text
    steps = steps_logged(run)
    assert steps == list(range(LOG_EVERY, steps[-1] + 1, LOG_EVERY))  # one row each: the chief's
    assert len(list(run.rglob("*tfevents*"))) == 1
    assert_checkpoints_whole(run)
    assert not (run / "export").exists()
    environment = json.loads((run / "environment.json").read_text())
    assert (environment["workers"], len(environment["devices"])) == (2, 1)

    found = saved(run)
    with two_workers(tmp_path, *WITHOUT_END, "--resume") as (chief, other):
        until(lambda: saved(run) > found, (chief, other))
        other.process.send_signal(signal.SIGTERM)
        assert [chief.wait(), other.wait()] == [143, 143], (chief.text, other.text)
    assert f"resumed at step {found}." in chief.text
    stopped = saved(run)
    for worker in (chief, other):
        assert f"stopped by SIGTERM and saved at step {stopped}: go on with zoo train " in worker.last_line
        assert "Traceback" not in worker.text
    assert steps_logged(run)[-1] == stopped
    assert_checkpoints_whole(run)

    last = stopped + 2
    with two_workers(tmp_path, "--resume", "--steps", str(last)) as (chief, other):
        assert [chief.wait(), other.wait()] == [0, 0], (chief.text, other.text)
    assert f"resumed at step {stopped}." in chief.text
    assert (run / "export" / "card.json").exists()
    assert saved(run) == last
    steps = steps_logged(run)
    assert steps == sorted({*range(LOG_EVERY, last + 1, LOG_EVERY), stopped, last})
    assert len(list(run.rglob("*tfevents*"))) == 3  # one a start


@pytest.mark.slow
def test_a_worker_that_loses_the_chief_stops(tmp_path: Path) -> None:
    with two_workers(tmp_path, *WITHOUT_END) as (chief, other):
        until(lambda: saved(tmp_path / "run") > 0, (chief, other))
        chief.process.kill()
        assert other.wait() == 1, other.text
    assert other.last_line.startswith("error: another worker stopped answering")
    assert f"start all workers again with --resume --run-dir {tmp_path / 'run'}" in other.last_line
    assert "Traceback" not in other.text


def test_workers_started_differently_stop_before_anything_is_written(tmp_path: Path) -> None:
    with two_workers(tmp_path, "--steps", "5", second=["--seed", "1"]) as workers:
        assert [worker.wait() for worker in workers] == [1, 1], [worker.text for worker in workers]
    for worker in workers:
        assert "error: the workers differ in options or data (worker 0: " in worker.last_line
        assert "Traceback" not in worker.text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_waits_for_another_ends_at_a_signal(number: int, tmp_path: Path) -> None:
    addresses = free_addresses(2)
    waiting = Worker(0, addresses, tmp_path / "shown.txt", ["--run-dir", str(tmp_path / "run")])
    try:
        until(lambda: is_listening(addresses[0]), [waiting])
        waiting.process.send_signal(number)
        assert waiting.wait() == {signal.SIGTERM: -signal.SIGTERM, signal.SIGINT: 130}[number]
    finally:
        waiting.end()
    assert "Traceback" not in waiting.text


# TF_CONFIG


def config(task: Any = EXAMPLE["task"], **jobs: Any) -> str:
    return json.dumps({"cluster": jobs, "task": task})


CHIEF = {"type": "chief", "index": 0}


@pytest.mark.parametrize(
    ("setting", "several"),
    [
        ("", False),
        ("{}", False),
        ('{"environment": "cloud"}', False),
        (config(worker=["a:1"]), False),
        (config(CHIEF, chief=["a:1"]), False),
        (json.dumps(EXAMPLE), True),
        (config(worker=["a:1", "b:1"]), True),
        (config({"type": "worker", "index": "1"}, worker=["10.0.0.1:1", "[::1]:1"]), True),
        (config(CHIEF, chief=["a:1"], worker=["b:1"]), True),
        (config(chief=["a:1"], worker=["b:1"]), True),
    ],
)
def test_whether_there_are_several_workers(setting: str, several: bool) -> None:
    assert has_several_workers(setting) is several


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("{", "can't be read (JSONDecodeError: "),
        ("[]", "can't be read (AttributeError: "),
        (config(worker=3), "can't be read (TypeError: "),
        (config({"type": "worker", "index": "first"}, worker=["a:1", "b:1"]), "can't be read (ValueError: "),
        (config(worker=["a:1"], ps=["b:1"]), "has tasks of the kinds ['ps']: every worker trains alike here"),
        (config(worker=["a:1"], evaluator=["b:1"]), "has tasks of the kinds ['evaluator']: every worker"),
        (
            config({"type": "worker", "index": 2}, worker=["a:1", "b:1"]),
            'task is {"type": "worker", "index": 2}, which',
        ),
        (config({"type": "worker", "index": -1}, worker=["a:1", "b:1"]), '"index": -1}, which its cluster does not'),
        (config({"type": "evaluator", "index": 0}, worker=["a:1", "b:1"]), 'task is {"type": "evaluator", "index": 0}'),
        (config({}, worker=["a:1", "b:1"]), "task is {}, which its cluster does not have"),
        (config(worker="a:1"), "names 'a' where a list of addresses, host:port, must be"),
        (config(worker=["a:1", "b"]), "names 'b' where a list of addresses, host:port, must be"),
        (config(worker=["http://a:1", "b:1"]), "names 'http://a:1' where"),
        (config(worker=["a:1", "a:1"]), "names one address for two workers among a:1, a:1"),
    ],
)
def test_a_cluster_that_can_not_be_is_refused(setting: str, message: str) -> None:
    with pytest.raises(RunError) as error:
        has_several_workers(setting)
    assert message in str(error.value)
    assert str(error.value).startswith("TF_CONFIG")
    assert f"For example TF_CONFIG='{json.dumps(EXAMPLE)}'" in str(error.value)


def test_a_cluster_comes_before_tensorflow_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    tf.constant(1.0).numpy()
    monkeypatch.setenv("TF_CONFIG", json.dumps(EXAMPLE))
    monkeypatch.setattr(devices, "meet", lambda here, addresses: None)
    with pytest.raises(RunError, match="TF_CONFIG: TensorFlow has begun already; ask in a fresh process"):
        choose_strategy(replace(dcgan_fashion_mnist.recipe, deterministic=False))


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="is about workers without a GPU")
def test_a_worker_without_a_gpu_has_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps(EXAMPLE))
    with pytest.raises(RunError, match="--devices 2: a worker without a GPU trains on one device, its CPU"):
        choose_strategy(replace(dcgan_fashion_mnist.recipe, deterministic=False, devices=2))


def test_workers_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first waits for the second; each hands its port on, as to TensorFlow, so that the other still finds it."""
    monkeypatch.setattr(cluster, "PATIENCE", PATIENCE)
    addresses = free_addresses(2)
    with ExitStack() as held, ThreadPoolExecutor(2) as threads:

        def begin(address: str) -> None:
            meet(address, addresses)
            held.enter_context(socket.create_server(("", cluster.port_of(address))))

        first = threads.submit(begin, addresses[0])
        while not is_listening(addresses[0]):
            assert not first.done(), first.result()
        assert not first.done()
        second = threads.submit(begin, addresses[1])
        second.result()
        first.result()


def test_a_worker_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 0)
    here, missing = free_addresses(2)
    with socket.create_server(("127.0.0.1", 0)) as other:
        there = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(RunError, match=f"^of the workers of TF_CONFIG, {missing} did not come within 0 minutes"):
            meet(here, [here, there, missing])
        with pytest.raises(RunError, match=rf"^this worker can't listen on the port of {there}: .+ Choose another"):
            meet(there, [here, there])


# Workers


@pytest.mark.parametrize(
    ("jobs", "kind", "number", "count", "index"),
    [
        ({"worker": ["a:1", "b:1", "c:1"]}, "worker", 0, 3, 0),
        ({"worker": ["a:1", "b:1", "c:1"]}, "worker", 2, 3, 2),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "chief", 0, 3, 0),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "worker", 0, 3, 1),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "worker", 1, 3, 2),
        ({"worker": ["a:1"]}, "worker", 0, 1, 0),
    ],
)
def test_workers_are_numbered_from_the_chief(
    jobs: dict[str, list[str]], kind: str, number: int, count: int, index: int
) -> None:
    spec = tf.train.ClusterSpec(jobs)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(spec, task_type=kind, task_id=number)
    workers = Workers(SimpleNamespace(cluster_resolver=resolver))
    assert (workers.count, workers.index, workers.chief) == (count, index, index == 0)


@pytest.fixture
def alone() -> Workers:
    return Workers(tf.distribute.get_strategy())


def test_one_process_is_a_cluster_of_one(alone: Workers) -> None:
    assert (alone.count, alone.index, alone.chief) == (1, 0, True)
    assert alone.gather(7) == [7]
    alone.agree({"anything": 3})
    assert alone.together(lambda: "result") == "result"
    failure = LookupError("mine")
    with pytest.raises(LookupError) as error:
        alone.together(lambda: (_ for _ in ()).throw(failure))
    assert error.value is failure


@pytest.fixture
def second_of_three(alone: Workers, monkeypatch: pytest.MonkeyPatch) -> Workers:
    """Worker 1; the others have 5 and 0 of everything."""
    alone.count, alone.index = 3, 1
    monkeypatch.setattr(alone, "gather", lambda number: [5, number, 0])
    return alone


def test_workers_that_differ_are_told_in_what(second_of_three: Workers) -> None:
    with pytest.raises(RunError, match=r"the workers differ in the step \(worker 0: 5, worker 1: 5, worker 2: 0\)"):
        second_of_three.agree({"the step": 5})


def test_when_another_worker_fails_this_one_stops(second_of_three: Workers) -> None:
    with pytest.raises(RunError, match=r"since worker\(s\) \[0\] could not go on; their own output says why"):
        second_of_three.together(lambda: "result")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Collective ops is aborted by: Socket closed\nThe error could be from a previous operation.", "Socket closed"),
        (
            "Collective ops is aborted by: Error reported from /job:worker/task:1: The following tasks are unhealthy:\n"
            "/job:worker/replica:0/task:1\nThe tasks have crashed.",
            "Error reported from /job:worker/task:1: The following tasks are unhealthy",
        ),
        ("nothing known", "UnavailableError"),
    ],
)
def test_a_lost_worker_is_one_line(message: str, reason: str) -> None:
    error = make_lost_error(tf.errors.UnavailableError(None, None, message))
    assert isinstance(error, WorkerLostError)
    assert str(error) == f"another worker stopped answering ({reason})"


# docs/workers.md


def snippet(name: str) -> str:
    """The fenced block of the page that has the comment "# workers: NAME"."""
    page = (ROOT / "docs" / "workers.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if f"# workers: {name}" in block]
    return found


# Stand-ins: `zoo` notes what it was given; `srun` runs the command as Slurm's tasks would.
PROGRAMS = {
    "zoo": 'printf "%s\\t%s\\n" "$TF_CONFIG" "$*" >> "$SEEN"\nexit ${STATUS:-0}',
    "srun": """while [[ $1 == --* ]]; do shift; done
for SLURM_PROCID in 0 1; do SLURM_PROCID=$SLURM_PROCID "$@"; status=$?; done
exit $status""",
    "scontrol": """case "$1 $2" in
"show hostnames") [ "$3" = "node[7-8]" ] && printf "node7\\nnode8\\n" ;;
*) echo "$*" >> "$SEEN.scontrol" ;;
esac""",
}


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., tuple[int, list[tuple[Any, str]]]]:
    """(shell, *arguments, **environment) -> (exit status, what each `zoo` got: TF_CONFIG and arguments)."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, body in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{body}\n")
        (programs / name).chmod(0o755)

    def run(shell: str, *arguments: str, **environment: str) -> tuple[int, list[tuple[Any, str]]]:
        seen = tmp_path / "seen"
        seen.write_text("")
        values = {"PATH": f"{programs}:{os.environ['PATH']}", "SEEN": str(seen), "HOME": str(tmp_path), **environment}
        status = subprocess.run(["bash", "-c", shell, "shell", *arguments], env=values, timeout=PATIENCE).returncode
        lines = [line.split("\t") for line in seen.read_text().splitlines()]
        assert lines
        for setting, _ in lines:
            assert has_several_workers(setting)
        return status, sorted(((json.loads(setting), given) for setting, given in lines), key=str)

    return run


def expected(*addresses: str) -> list[dict[str, Any]]:
    """TF_CONFIG of each worker."""
    cluster = {"worker": list(addresses)}
    return [{"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(len(addresses))]


def test_the_page_shows_tf_config_as_it_is() -> None:
    page = (ROOT / "docs" / "workers.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert json.loads(shown) == EXAMPLE


@pytest.mark.parametrize("index", [0, 1])
def test_the_page_starts_one_of_two_machines(index: int, play: Callable[..., Any]) -> None:
    status, [(setting, given)] = play(snippet("on a.example"), str(index))
    assert status == 0
    assert setting == expected("a.example:2222", "b.example:2222")[index]
    assert given.endswith("--run-dir /shared/runs/first")


def test_the_page_starts_two_workers_on_one_machine(play: Callable[..., Any]) -> None:
    status, seen = play(snippet("both on this machine"))
    assert status == 0
    assert [setting for setting, _ in seen] == expected("localhost:21000", "localhost:21001")
    assert len({given for _, given in seen}) == 1
    assert seen[0][1].startswith("train dcgan-fashion-mnist ")


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("status", [0, 1, 143])
def test_the_page_fits_slurm(status: int, begun: bool, play: Callable[..., Any], tmp_path: Path) -> None:
    run = tmp_path / "runs" / "first"
    if begun:
        run.mkdir(parents=True)
        (run / "config.json").write_text("{}")
    slurm = {"SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "node[7-8]", "STATUS": str(status)}
    ended, seen = play(snippet("Slurm"), **slurm)
    assert ended == status
    assert [setting for setting, _ in seen] == expected("node7:23456", "node8:23456")
    assert [given.endswith(f"--run-dir {run}" + " --resume" * begun) for _, given in seen] == [True, True]
    asked = tmp_path / "seen.scontrol"
    assert (asked.read_text() if asked.exists() else "") == ("requeue 123456\n" if status == 143 else "")


@pytest.mark.parametrize("begun", [False, True])
def test_the_page_fits_kubernetes(begun: bool, play: Callable[..., Any], tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the page's YAML")
    service, job = yaml.safe_load_all(snippet("Kubernetes"))
    pod, spec = job["spec"]["template"]["spec"], job["spec"]
    (container,) = pod["containers"]
    names = {each["name"]: each["value"] for each in container["env"]}
    assert names["WORKERS"] == str(spec["completions"]) == str(spec["parallelism"])
    assert (spec["completionMode"], pod["restartPolicy"]) == ("Indexed", "Never")
    # Kubernetes calls a pod of an Indexed Job JOB-INDEX.SUBDOMAIN, where SUBDOMAIN is a headless service of its pods.
    assert pod["subdomain"] == service["metadata"]["name"]
    assert (service["spec"]["clusterIP"], service["spec"]["selector"]) == (
        "None",
        {"job-name": job["metadata"]["name"]},
    )
    name, port = job["metadata"]["name"], service["spec"]["ports"][0]["port"]
    hosts = [f"{name}-{index}.{pod['subdomain']}:{port}" for index in range(spec["completions"])]
    rules = spec["podFailurePolicy"]["rules"]
    assert {rule["onExitCodes"]["containerName"] for rule in rules if "onExitCodes" in rule} == {container["name"]}
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}

    names["RUN_DIR"] = str(tmp_path / "run")
    if begun:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "config.json").write_text("{}")
    assert container["command"] == ["bash", "-c"]
    (shell,) = container["args"]
    for index, setting in enumerate(expected(*hosts)):
        status, seen = play(shell, JOB_COMPLETION_INDEX=str(index), **names)
        assert status == 0
        assert seen == [(setting, seen[0][1])]
        assert seen[0][1].endswith(f"--run-dir {tmp_path / 'run'}" + " --resume" * begun)
