"""What contenders train, count and print. No speed is asserted; that peers train the same networks: test_peers."""

import json
from importlib.util import find_spec

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import generate, harness, train_step
from benchmarks.models import MODELS

needs_pytorch = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch, the peer, is not installed")
SHAPE, LATENT_DIM, WIDTH = (16, 16, 3), 5, 4
TINY = ["--image-size", "16", "--width", "4", "--rounds", "2", "--threads", "1", "--json"]
ZOO = [name for name in train_step.CONTENDERS if name.startswith("zoo")]
COMPARED = [
    *("zoo", "zoo-alternating", "zoo-bfloat16", "keras-tutorial"),
    *(pytest.param(name, marks=needs_pytorch) for name in ("pytorch", "pytorch-channels-last-bfloat16")),
]
OF_EVERY_MODEL = [
    "zoo",
    "zoo-bfloat16",
    *(pytest.param(f"pytorch{end}", marks=needs_pytorch) for end in ("", "-bfloat16")),
]
SMALL = train_step.Options(image_size=16, width=4, batch_size=8, images=20)


@pytest.fixture(autouse=True)
def asked_for_determinism(monkeypatch) -> list[bool]:
    """Filled once for every request; TensorFlow could not be told afterwards that other tests want none."""
    asked: list[bool] = []
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: asked.append(True))
    return asked


@pytest.mark.parametrize("name", COMPARED)
def test_a_step_of_each_contender_moves_every_parameter(name, monkeypatch):
    built = []
    monkeypatch.setattr(
        train_step, "contender", lambda *parts, **facts: built.extend(parts) or train_step.Contender(lambda *_: 0)
    )
    train_step.CONTENDERS[name](SMALL)
    step, networks, *_ = built
    parameters = [parameter for network in networks.values() for parameter in network]

    def values() -> list[np.ndarray]:
        return [(p.detach() if hasattr(p, "detach") else p).numpy().copy() for p in parameters]

    before = values()
    losses = [float(loss) for loss in step()]
    assert losses
    assert np.isfinite(losses).all()
    assert len(before) == 15  # 3 maps: G has 4 kernels, 3 x (scale, shift), 1 bias; D 4 kernels, 2 x 2, 2 biases
    assert all((old != new).any() for old, new in zip(before, values(), strict=True))


@pytest.fixture
def drive(monkeypatch):
    """name -> the contender of that name and the model that it drives on its data."""
    driven = []
    keras_contender = train_step.keras_contender
    monkeypatch.setattr(train_step, "keras_contender", lambda *parts: driven.append(parts) or keras_contender(*parts))

    def build(name: str):
        contender = train_step.CONTENDERS[name](SMALL)
        return contender, *driven.pop()[:2]

    return build


@pytest.mark.parametrize("name", ["zoo", "zoo-10-steps-per-execution", "zoo-xla", "zoo-fed", "zoo-bfloat16"])
def test_a_turn_counts_the_train_steps_it_makes(name, drive):
    contender, model, _ = drive(name)
    in_one_call = 10 if name == "zoo-10-steps-per-execution" else 1
    assert [contender.run(8, steps) for steps in (2, 11)] == [max(2, in_one_call), {1: 11, 10: 20}[in_one_call]]
    assert int(model.step.numpy()) == {1: 2 + 11, 10: 10 + 20}[in_one_call]


def test_only_the_deterministic_contender_asks_for_deterministic_operations(drive, asked_for_determinism):
    asking = {}
    for name in ZOO:
        asked_for_determinism.clear()
        drive(name)
        asking[name] = bool(asked_for_determinism)
    assert [name for name, asks in asking.items() if asks] == ["zoo-deterministic"]


def test_only_the_mixed_contender_computes_in_half_precision(drive):
    built = {name: drive(name) for name in ZOO}
    halves = [name for name in ZOO if built[name][1].generator.get_layer("norm_8").compute_dtype == "bfloat16"]
    assert halves == ["zoo-bfloat16"] == [name for name in ZOO if built[name][0].precision == "bfloat16"]
    assert keras.config.dtype_policy().name == "float32"


def test_the_fed_contender_sees_as_many_images_as_fit_and_the_others_one_batch(drive, monkeypatch):
    def seen(name: str) -> int:
        _, _, data = drive(name)
        steps = [step["image"].numpy() for step in data.take(4)]  # two passes over 20 images, 2 steps each
        assert {step.shape for step in steps} == {(8, *SHAPE)}
        return len({image.tobytes() for step in steps for image in step})

    assert seen("zoo") == 8
    assert 16 <= seen("zoo-fed") <= 20
    assert "20 images in memory" in drive("zoo-fed")[0].note
    image = 16 * 16 * 3
    monkeypatch.setattr(harness, "free_memory", lambda: 4 * 9.5 * image)  # a quarter of it is 9 images
    assert "9 images in memory" in drive("zoo-fed")[0].note
    monkeypatch.setattr(harness, "free_memory", lambda: 4 * 7 * image)
    with pytest.raises(harness.NotRunError, match=r"one batch is 8 images; 20 were .* memory holds 7"):
        drive("zoo-fed")


@pytest.mark.parametrize("name", OF_EVERY_MODEL)
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(name, marks=[pytest.mark.slow] if MODELS[name].period > 1 else [])  # traced once a penalty
        for name in MODELS
        if name != "dcgan"
    ],
)
def test_each_model_trains_in_each_contender(model, name):
    options = train_step.Options(model=model, tiny=True, batch_size=6)
    if name == "zoo-bfloat16" and not options.measured.bfloat16:
        with pytest.raises(harness.NotRunError, match=f"{model} computes in float32 alone"):
            train_step.CONTENDERS[name](options)
        return
    built = train_step.CONTENDERS[name](options)
    assert built.run(6, 2) == 2
    trained = options.measured.build(tiny=True)
    networks = [network for networks in trained.players.values() for network in networks]
    assert built.parameters == harness.parameters_of(
        **{network.name: network.trainable_variables for network in networks}
    )
    assert built.precision == ("bfloat16" if "bfloat16" in name else "float32")
    assert built.images_per_row == (2 if model == "wgan-gp" else 1)  # the tiny twin's updates of the critic


def test_by_default_all_run_but_in_bfloat16_only_where_the_cpu_has_it(monkeypatch):
    of_every_model = {"zoo", "pytorch", "zoo-bfloat16", "pytorch-bfloat16"}
    for has_it in (True, False):
        monkeypatch.setattr(harness, "computes_in_bfloat16", lambda has_it=has_it: has_it)
        for model, names in (("dcgan", set(train_step.CONTENDERS)), ("vae", of_every_model)):
            chosen = train_step.choose_contenders(train_step.Options(model=model))
            assert set(chosen) == {name for name in names if has_it or "bfloat16" not in name}
        asked = train_step.Options(contenders=("zoo-bfloat16",))
        assert train_step.choose_contenders(asked) == ("zoo-bfloat16",)


def test_sizes_are_the_dcgan_s_alone():
    with pytest.raises(ValueError, match="image_size and width are the DCGAN's"):
        train_step.Options(model="vae", image_size=32)


def test_a_speed_is_that_of_the_calls_made():
    own = [{"calls": 10, "seconds": 4.0, "processor": 8.0, "peak_mib": 300.0}]
    other = [{"calls": 5, "seconds": 4.0, "processor": 4.0, "peak_mib": 200.0}]
    found = harness.summary(own, other, batch=64)
    assert found["images_per_second"] == found["slowest"] == found["fastest"] == 64 * 10 / 4
    assert found["ratio"] == 2.0  # ten calls in the time of five
    assert found["milliseconds_per_call"] == 400.0
    assert (found["images_per_processor_second"], found["cores_busy"], found["peak_mib"]) == (80.0, 2.0, 300.0)


def read(capsys: pytest.CaptureFixture, contenders: set[str], networks: set[str]) -> dict:
    """The printed JSON, once everything that does not depend on speed has been checked."""
    outcome = json.loads(capsys.readouterr().out)
    assert {row["contender"] for row in outcome["results"]} | set(outcome["not_run"]) == contenders
    assert set(outcome["not_run"]) <= {"pytorch"}
    assert networks in map(set, outcome["parameters"].values())
    for row in outcome["results"]:
        assert 0 < row["slowest"] <= row["images_per_second"] <= row["fastest"]
        assert row["peak_mib"] > 1
    return outcome


@pytest.mark.slow
def test_train_step_s_json(capsys):
    contenders = ["zoo-deterministic", "zoo-10-steps-per-execution", "zoo-fed"]
    small = ["--batch-size", "4", "--steps", "2", "--images", "9", "--baseline", "zoo-fed"]
    train_step.main([*TINY, *small, "--contenders", *contenders, "pytorch"])
    outcome = read(capsys, {*contenders, "pytorch"}, {"generator", "discriminator"})
    assert {row["batch"] for row in outcome["results"]} == {4}
    assert outcome["baseline"] == "zoo-fed"
    assert {row["contender"]: row["ratio"] for row in outcome["results"]}["zoo-fed"] == 1.0
    assert outcome["notes"] == {"zoo-fed": "fed from 9 images in memory, 0 MiB"}
    assert set(outcome["bounds"]) == {"float32"}
    for row in outcome["results"]:
        flops = outcome["flops"][row["contender"]]
        assert row["flops_per_processor_second"] == pytest.approx(flops * row["images_per_processor_second"])
        assert row["share_of_bound"] == row["flops_per_processor_second"] / outcome["bounds"]["float32"]


@pytest.mark.slow
def test_a_critic_s_images_are_those_of_all_its_updates(capsys):
    sizes = ["--batch-size", "4", "--steps", "2", "--rounds", "1", "--threads", "1"]
    names = ["--contenders", "zoo", "zoo-bfloat16", "--baseline", "zoo"]
    train_step.main(["--model", "wgan-gp", "--tiny", *sizes, "--json", *names])
    outcome = read(capsys, {"zoo", "zoo-bfloat16"}, {"generator", "critic"})
    assert set(outcome["bounds"]) == {"float32", "bfloat16"}
    assert [row["ratio"] for row in outcome["results"]] == [1.0, 1.0]  # each to the baseline in its own precision
    for row in outcome["results"]:
        per_call = row["images_per_second"] * row["milliseconds_per_call"] / 1000
        assert row["batch"] == 4
        assert per_call == pytest.approx(4 * 2)  # the tiny twin's two updates


def test_generate_s_json(capsys):
    generate.main(
        [*TINY, "--batch-sizes", "1", "3", "--images", "3", "--contenders", "onnx-runtime", "keras-call", "pytorch"]
    )
    outcome = read(capsys, {"onnx-runtime", "keras-call", "pytorch"}, {"generator"})
    assert {row["batch"] for row in outcome["results"]} == {1, 3}
    # Width 4 at 16x16: 100 numbers to 4x4x8, to 8x8x4, to 16x16x3, by kernels of 4x4.
    flops = 2 * (100 * 4 * 4 * 8 + 4 * 4 * 4 * 4 * 8 * 4 + 8 * 8 * 4 * 4 * 4 * 3)
    assert set(outcome["flops"].values()) == {flops}
    for row in outcome["results"]:
        share = row["images_per_processor_second"] * flops / outcome["bounds"]["float32"]
        assert row["share_of_bound"] == pytest.approx(share)


@pytest.mark.parametrize(
    "model",
    [
        "cyclegan",
        "srresnet",
        pytest.param("pixelcnn", marks=pytest.mark.slow),
        pytest.param("stylegan2", marks=pytest.mark.slow),
        pytest.param("rbm", marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_generator_is_made_by_every_contender(model, capsys):
    """A contender refuses what is no batch of finite images of the right shape, and the peer has as many parameters."""
    contenders = set(generate.CONTENDERS) - {"pytorch-compiled"}
    sizes = ["--side", "20", "--batch-sizes", "1", "3", "--images", "1", "--rounds", "1", "--threads", "1"]
    generate.main(["--model", model, "--tiny", *sizes, "--json", "--contenders", *contenders])
    outcome = read(capsys, contenders, {"generator"})
    assert {row["batch"] for row in outcome["results"]} == {1, 3}


def test_a_contender_that_fails_and_options_that_cannot_be_meant_are_named():
    with pytest.raises(RuntimeError, match=r"contender nobody ended before its time(.|\n)*CONTENDERS"):
        harness.compare("json", ["nobody"], harness.Options(), {1: 1})
    with pytest.raises(ValueError, match=r"contenders=\['jax'\]: choose from \['pytorch'\]"):
        harness.compare("json", ["pytorch"], harness.Options(contenders=("jax",)), {1: 1})
    with pytest.raises(ValueError, match=r"baseline='jax': choose from \['zoo'\]"):
        harness.compare("json", ["zoo"], harness.Options(baseline="jax"), {1: 1})
    with pytest.raises(ValueError, match="rounds=0: choose at least 1"):
        harness.Options(rounds=0)
