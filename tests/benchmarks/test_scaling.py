"""The bytes that scaling counts are those of the networks, and its prediction is its formula. No speed is asserted."""

import dataclasses
import io
import json
import math
import subprocess
import sys
from contextlib import redirect_stdout

import keras
import pytest
import tensorflow as tf

from benchmarks import harness, scaling
from benchmarks.scaling import STATISTICS, Assumptions, Options, Setup
from zoo.models.gan import GAN
from zoo.networks import convolutional

SHAPE, WIDTH = (16, 16, 3), 2
SMALL = Options(image_size=16, width=WIDTH, batch_size=4, steps=1, rounds=1, devices=(2,), workers=(2,))
# Batch norm sees 4 + 2 channels in G, and 4 channels in D three times: real and fake for D's move, fake for G's.
# Forward, two float64 sums a channel and the count: 2 x (4 + 2 + 3 x 4) + 5 = 41 in 5 all-reduces. Backward, two
# float32 sums a channel: D's move goes through D twice, G's through D and G: 2 x (2 x 4 + 4 + 4 + 2) = 36 in 5.
STATISTICS_OF_A_STEP = {"operations": 5 + 5, "bytes": 8 * 41 + 4 * 36}
METRICS_OF_A_STEP = {"operations": 1, "bytes": 4 * (5 + 1)}  # five metrics and the row count


def parameters(*networks: keras.Model) -> int:
    return sum(math.prod(variable.shape) for network in networks for variable in network.trainable_variables)


def pair() -> tuple[keras.Model, keras.Model]:
    return convolutional.generator(SHAPE, harness.LATENT_DIM, WIDTH), convolutional.discriminator(SHAPE, WIDTH)


def small_model(replicas: int):
    """(strategy, compiled model) on logical devices of this process."""
    strategy = tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(replicas)])
    with strategy.scope():
        model = GAN(SHAPE, harness.LATENT_DIM, width=WIDTH, ema_decay=None)
        model.compile(**{player: keras.optimizers.Adam() for player in model.players})
    return strategy, model


def measured(*options: str) -> dict:
    """What the program prints."""
    sizes = ["--image-size", "16", "--width", str(WIDTH), "--batch-size", "4", "--steps", "1", "--rounds", "1"]
    printed = io.StringIO()
    with redirect_stdout(printed):
        scaling.main([*sizes, *options, "--step-seconds", "0.01", "--json"])
    return json.loads(printed.getvalue())


@pytest.fixture(scope="module")
def outcome() -> dict:
    return measured("--devices", "1", "2", "--workers", "1")


def check(outcome: dict, setup: str) -> None:
    """Everything that does not depend on speed, of one device beside a setup of two."""
    counted = outcome["all_reduces"][setup]
    beside = 2 * 2 * 4  # each player's all-reduce carries its loss and the row count, too
    assert counted["gradients"] == {"operations": 2, "bytes": 4 * parameters(*pair()) + beside}
    assert counted[STATISTICS] == STATISTICS_OF_A_STEP
    assert counted["metrics"] == METRICS_OF_A_STEP
    found = [(row["scaling"], row["setup"], row["batch"]) for row in outcome["results"]]
    assert found == [("-", "one device", 4), ("strong", setup, 4), ("weak", setup, 8)]
    assert outcome["not_run"] == {}
    alone = outcome["results"][0]
    assert (alone["speed_up"], alone["outside_seconds"]) == (1.0, 0.0)
    for row in outcome["results"]:
        assert row["images_per_second"] == pytest.approx(row["batch"] / row["seconds_per_step"])
        assert row["speed_up"] == pytest.approx(row["images_per_second"] / alone["images_per_second"])


def test_two_devices_reduce_the_players_parameters(outcome):
    check(outcome, "2 devices")


@pytest.mark.slow
def test_two_workers_reduce_the_players_parameters():
    check(measured("--devices", "1", "--workers", "2"), "2 workers")


def test_one_device_reduces_nothing(outcome):
    assert {count["operations"] for count in outcome["all_reduces"]["one device"].values()} == {0}


def test_the_prediction_is_made_from_what_was_counted(outcome):
    counted = outcome["all_reduces"]["2 devices"].values()
    made = outcome["prediction"]
    assert made["operations"] == sum(each["operations"] for each in counted) == 2 + 1 + 10
    assert made["payload_bytes"] == sum(each["bytes"] for each in counted)
    assert made["rows"] == Assumptions().predict(0.01, made["payload_bytes"], made["operations"])
    networks = {8: [100.0], 16: [100.0, 400.0], 32: [100.0, 400.0], 64: [100.0, 400.0]}
    assert [(row["gpus"], row["network_gigabits"]) for row in made["rows"]] == [
        (gpus, network) for gpus, found in networks.items() for network in found
    ]


def test_the_report_says_what_is_predicted_and_why_an_efficiency_is_missing(outcome, capsys):
    options = outcome["options"] | {"json": False}
    crowded = [row | {"efficiency": None, "no_efficiency": "2 devices share 1 cores"} for row in outcome["results"]]
    scaling.report(outcome | {"options": options, "results": crowded})
    shown = " ".join(capsys.readouterr().out.split())
    assert "PREDICTION, not measured: weak scaling" in shown
    assert "no efficiency: 2 devices share 1 cores" in shown
    assert f"{outcome['expected_gradient_bytes']:,} bytes" in shown
    scaling.report(outcome | {"options": options, "prediction": {"not_made": "for a reason"}})
    assert "no PREDICTION: for a reason" in capsys.readouterr().out


def test_four_devices_hand_over_what_two_do():
    counts = [
        scaling.all_reduces(model, scaling.repeated(strategy, SMALL, 4)) for strategy, model in map(small_model, (2, 4))
    ]
    assert counts[0] == counts[1]
    assert counts[0][STATISTICS] == STATISTICS_OF_A_STEP


def test_every_replica_has_rows_of_its_own():
    strategy, _ = small_model(2)
    batch = next(iter(scaling.repeated(strategy, SMALL, 8)))
    rows = [part.numpy().tolist() for part in strategy.experimental_local_results(batch["row"])]
    assert rows == [[0, 1, 2, 3], [4, 5, 6, 7]]
    images = [part.numpy() for part in strategy.experimental_local_results(batch["image"])]
    assert {part.shape for part in images} == {(4, *SHAPE)}
    assert (images[0] != images[1]).any()


def test_collective_operations_that_cannot_be_counted_are_refused(monkeypatch):
    monkeypatch.setattr(scaling, "ALL_REDUCES", ("NcclAllReduce",))
    strategy, model = small_model(2)
    with pytest.raises(RuntimeError, match=r"can't be counted: \['CollectiveReduceV2'\]"):
        scaling.all_reduces(model, scaling.repeated(strategy, SMALL, 4))


def test_gradients_that_are_not_the_parameters_are_refused():
    sizes = {"generator": 10, "discriminator": 5}

    def facts(count: int) -> dict:
        return {"players": 2, "all_reduces": {"gradients": {"operations": 2, "bytes": count}}}

    scaling.check_gradients({Setup(): facts(0), Setup(devices=2): facts(4 * 15 + 16)}, sizes)
    with pytest.raises(RuntimeError, match=r"2 devices: the graph reduces 60 bytes .* are 76 with"):
        scaling.check_gradients({Setup(): facts(0), Setup(devices=2): facts(4 * 15)}, sizes)
    with pytest.raises(RuntimeError, match=r"one device: the graph reduces 76 bytes .* are 0 with"):
        scaling.check_gradients({Setup(): facts(76)}, sizes)


def test_the_outside_of_a_step_is_what_one_device_does_not_need_for_its_share(monkeypatch):
    def turn(seconds: float) -> dict:
        return {"calls": 2, "seconds": seconds, "processor": seconds, "peak_mib": 1.0}

    two = Setup(devices=2)
    # Seconds of two steps: one device takes 8 for 4 rows and 5 for 2; two devices take 6 for 4 rows and 10 for 8.
    turns = {(Setup(), 4): [turn(8.0)], (Setup(), 2): [turn(5.0)], (two, 4): [turn(6.0)], (two, 8): [turn(10.0)]}
    monkeypatch.setattr(scaling, "cores", lambda: 2)
    strong, weak = (scaling.row(kind, two, batch, turns, SMALL, "CPU") for kind, batch in (("strong", 4), ("weak", 8)))
    assert (strong["seconds_per_step"], strong["outside_seconds"]) == (3.0, 3.0 - 2.5)
    assert (weak["seconds_per_step"], weak["outside_seconds"]) == (5.0, 5.0 - 4.0)
    assert (strong["speed_up"], strong["efficiency"]) == (8 / 6, 8 / 6 / 2)
    assert (weak["speed_up"], weak["efficiency"]) == (1.6, 0.8)  # 8 rows in 5 s against 4 in 4 s

    monkeypatch.setattr(scaling, "cores", lambda: 1)
    crowded = scaling.row("weak", two, 8, turns, SMALL, "CPU")
    assert (crowded["efficiency"], crowded["no_efficiency"]) == (None, "2 devices share 1 cores")
    assert scaling.row("weak", two, 8, turns, SMALL, "GPU")["efficiency"] == 0.8  # GPUs share no cores


# The prediction in closed form


def test_one_gpu_has_nothing_to_wait_for():
    (row,) = Assumptions(gpus=(1,)).predict(0.01, 1e9, 100)
    assert (row["all_reduce_seconds"], row["efficiency"]) == (0.0, 1.0)


def test_without_latency_a_ring_moves_the_payload_over_its_slowest_link():
    free = {"launch_microseconds": 0.0, "nvlink_microseconds": 0.0, "network_microseconds": 0.0}
    assumed = Assumptions(nvlink_gigabytes=400.0, **free)
    # 2 x 7/8 x 8 GB at 400 GB/s; 2 x 15/16 x 8 GB at 100 Gbit/s = 12.5 GB/s, and at 8,000 Gbit/s, beyond NVLink's
    assert assumed.all_reduce_seconds(8, 100.0, 8e9, 1) == pytest.approx(14 / 400)
    assert assumed.all_reduce_seconds(16, 100.0, 8e9, 1) == pytest.approx(15 / 12.5)
    assert assumed.all_reduce_seconds(16, 8000.0, 8e9, 1) == pytest.approx(15 / 400)
    # how many operations share the bytes makes no difference then
    assert assumed.all_reduce_seconds(16, 100.0, 8e9, 9) == pytest.approx(15 / 12.5)


def test_with_infinite_bandwidth_only_latency_is_left():
    assumed = Assumptions(
        gpus=(8, 16),
        nvlink_gigabytes=math.inf,
        network_gigabits=(math.inf,),
        launch_microseconds=10.0,
        nvlink_microseconds=1.0,
        network_microseconds=5.0,
    )
    one, two = assumed.predict(0.001, 1e12, 20)
    # One machine: 14 hops inside. Two: 30 hops, 2 x 2 of them from machine to machine.
    assert one["all_reduce_seconds"] == one["latency_seconds"] == pytest.approx(20 * (10 + 14) * 1e-6)
    assert two["all_reduce_seconds"] == two["latency_seconds"] == pytest.approx(20 * (10 + 26 + 4 * 5) * 1e-6)
    assert two["efficiency"] == pytest.approx(1000 / (1000 + 20 * 56))


def test_machines_of_one_gpu_have_hops_between_machines_alone():
    free = {"launch_microseconds": 0.0, "nvlink_microseconds": 1e6}
    assumed = Assumptions(gpus_per_machine=1, network_microseconds=5.0, **free)
    assert assumed.all_reduce_seconds(2, 100.0, 0, 1) == pytest.approx(2 * 5e-6)


def test_the_prediction_takes_a_gpu_s_step_and_says_when_it_has_none():
    counted = {"gradients": {"operations": 2, "bytes": 100}}

    def made(kind: str, options: Options = SMALL, **several) -> dict:
        facts = {Setup(): {"kind": kind, "all_reduces": {}}} | several.get("several", {two: {"all_reduces": counted}})
        return scaling.prediction(options, facts, {"seconds_per_step": 0.5})

    two = Setup(devices=2)
    assert made("GPU")["step_seconds"] == 0.5
    assert made("GPU", dataclasses.replace(SMALL, step_seconds=0.25))["step_seconds"] == 0.25
    assert made("CPU", dataclasses.replace(SMALL, step_seconds=0.25))["step_seconds"] == 0.25
    assert "give --step-seconds" in made("CPU")["not_made"]
    assert "no all-reduce was counted" in made("GPU", several={})["not_made"]


# What goes wrong


def test_a_child_that_fails_ends_the_run_with_its_reason():
    with pytest.raises(RuntimeError, match=r"contender one device ended before its time(.|\n)*power-of-two side >= 8"):
        scaling.measure(dataclasses.replace(SMALL, image_size=9))


def test_the_others_are_not_waited_for_when_one_worker_fails(tmp_path):
    failing = harness.Process("json", "nobody", SMALL, tmp_path, {}, label="2 workers, number 1")
    waiting = harness.Process("json", "nobody", SMALL, tmp_path, {}, label="2 workers, number 0")
    waiting.end()
    command = [sys.executable, "-c", "import time; time.sleep(3600)"]
    waiting.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        with pytest.raises(RuntimeError, match=r"2 workers, number 1 ended before its time(.|\n)*CONTENDERS"):
            scaling.answers([waiting, failing], 4, 1)
        assert waiting.child.poll() is None
    finally:
        waiting.end()
        failing.end()


def test_workers_know_their_cluster_and_each_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    found = scaling.environments(2, gpus=3)
    clusters = [json.loads(each["TF_CONFIG"]) for each in found]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in found] == ["3", "5"]
    assert [each["task"]["index"] for each in clusters] == [0, 1]
    assert clusters[0]["cluster"] == clusters[1]["cluster"]
    assert len(set(clusters[0]["cluster"]["worker"])) == 2
    assert [set(each) for each in scaling.environments(2, gpus=0)] == [{"TF_CONFIG"}] * 2
    with pytest.raises(harness.NotRunError, match="3 workers need a GPU each, and there are 2"):
        scaling.environments(3, gpus=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 6, "devices": (4,)}, "batch_size=6 on 4 devices: choose a multiple of 4"),
        ({"workers": (0,)}, r"workers=\(0,\): choose at least 1"),
        ({"gpus": (8, 0)}, r"gpus=\(8, 0\): choose at least 1"),
        ({"step_seconds": 0.0}, "step_seconds=0.0: choose more than 0"),
        ({"network_gigabits": (100.0, math.nan)}, "network_gigabits=.*: choose more than 0"),
        ({"launch_microseconds": -1.0}, "launch_microseconds=-1.0: choose at least 0"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)
