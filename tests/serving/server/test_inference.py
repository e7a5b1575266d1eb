"""Inference is arrays in, arrays out, and knows no protocol."""

import hashlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper

from serving import Pipeline, read_card
from serving.card import Ability, File, Input, Iteration, Output, encode_card
from serving.server.batching import BatchingOptions
from serving.server.errors import AbandonedError, DeadlineError, QueueFullError
from serving.server.inference import ServedModel
from serving.server.metrics import Metrics
from serving.session import InputError

ROW_LIMIT = 8


@pytest.fixture
def served(tanh_model):
    def open_pipelines():
        return {name: Pipeline.from_directory(tanh_model, ability=name) for name in ("encode", "generate")}

    return ServedModel(read_card(tanh_model), open_pipelines, BatchingOptions(request_rows=ROW_LIMIT))


def latents(count):
    return np.linspace(-1, 1, count * 4, dtype=np.float32).reshape(count, 4)


def test_feeds_go_through_the_graph(served, weights):
    results = served.infer({"latent": latents(3)})
    assert list(results) == ["image"]
    np.testing.assert_allclose(results["image"].reshape(3, 64), np.tanh(latents(3) @ weights), atol=1e-6)


def test_another_ability_and_one_of_its_outputs(served, weights):
    image = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 8, 8, 1)
    results = served.infer({"image": image}, ability="encode", outputs=["code"])
    np.testing.assert_allclose(results["code"], image.reshape(1, 64) @ weights.T, rtol=1e-5)


def test_sampling_parameters_are_those_of_the_sampler(served, tanh_model):
    results = served.infer({}, sampling={"count": 2, "seed": 5, "start": 3})
    expected = Pipeline.from_directory(tanh_model).sample(2, 5, start=3, output_type="float32")
    np.testing.assert_array_equal(results["image"], expected)


@pytest.mark.parametrize(
    ("feeds", "options", "message"),
    [
        ({}, {}, "nothing to do"),
        ({"latent": latents(1)}, {"ability": "draw"}, "serves no ability 'draw': choose from"),
        ({"latent": latents(1)}, {"sampling": {"count": 1}}, "exclude each other"),
        ({"latent": latents(ROW_LIMIT + 1)}, {}, "9 rows: give 1 to 8"),
        ({}, {"sampling": {"count": ROW_LIMIT + 1}}, "9 rows: give 1 to 8"),
        ({"latent": latents(1)}, {"outputs": ["code"]}, r"outputs \['code'\] are unknown: this answer has \['image'\]"),
    ],
)
def test_what_does_not_fit_is_refused(served, feeds, options, message):
    with pytest.raises(InputError, match=message):
        served.infer(feeds, **options)


def test_no_protocol_is_loaded():
    code = (
        "import sys, serving.server.inference\n"
        "found = [name for name in sys.modules if name.startswith(('serving.server.http', 'starlette', 'uvicorn'))]\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True, timeout=60)


def counted(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, {"model": "tanh-model", "ability": "generate", **labels})


@pytest.fixture
def measured(tanh_model):
    """A model with metrics, of at most 8 rows a request and 4 a run."""
    metrics = Metrics()
    options = BatchingOptions(buckets=(1, 4), request_rows=ROW_LIMIT, queue_rows=10)
    served = ServedModel(
        read_card(tanh_model), lambda: {"generate": Pipeline.from_directory(tanh_model)}, options, metrics=metrics
    )
    return served, metrics


def test_rows_and_runs_are_counted_apart(measured, weights):
    served, metrics = measured
    results = served.infer({"latent": latents(7)})
    np.testing.assert_allclose(results["image"].reshape(7, 64), np.tanh(latents(7) @ weights), atol=1e-6)
    served.infer({}, sampling={"count": 2})
    assert counted(metrics, "serving_inferences_total") == 9
    assert counted(metrics, "serving_executions_total") == 3  # 4 + 3, and 2
    assert counted(metrics, "serving_batch_rows_sum") == 9
    assert counted(metrics, "serving_execution_seconds_count") == 3
    assert counted(metrics, "serving_wait_seconds_count") == 3
    assert counted(metrics, "serving_rows_in_hand") == 0


def abandoned():
    return True


@pytest.mark.parametrize(
    ("arguments", "error", "cause"),
    [
        ({"feeds": {"latent": latents(1)[:, :2]}}, InputError, "input"),
        ({"feeds": {"latent": latents(1)}, "deadline": 0.0}, DeadlineError, "deadline"),
        ({"feeds": {}, "sampling": {"count": 8}, "deadline": 0.0}, DeadlineError, "deadline"),
        ({"feeds": {"latent": latents(1)}, "abandoned": abandoned}, AbandonedError, "abandoned"),
    ],
)
def test_errors_are_counted_by_their_cause(measured, arguments, error, cause):
    served, metrics = measured
    with pytest.raises(error):
        served.infer(**arguments)
    assert counted(metrics, "serving_errors_total", cause=cause) == 1
    assert counted(metrics, "serving_executions_total") == 0  # nothing was run
    assert served.infer({"latent": latents(1)})


def hold(served, rows):
    """A request of so many rows that waits in its run; and what lets it go on."""
    pipeline = served.pipelines["generate"]
    began, go, run = threading.Event(), threading.Event(), pipeline.run

    def slow(feeds):
        began.set()
        assert go.wait(30)
        return run(feeds)

    pipeline.run = slow
    pool = ThreadPoolExecutor(1)
    future = pool.submit(served.infer, {"latent": latents(rows)})
    assert began.wait(30)
    pool.shutdown(wait=False)
    return future, go


def test_more_than_the_queue_takes_is_refused_with_a_time_to_come_back(measured):
    served, metrics = measured
    future, go = hold(served, 8)
    with pytest.raises(QueueFullError, match="8 rows are in hand, and at most 10 are taken: try again in") as caught:
        served.infer({"latent": latents(3)})
    assert 1 <= caught.value.retry_after <= 60
    assert counted(metrics, "serving_errors_total", cause="queue_full") == 1
    assert served.in_hand == 8
    go.set()
    assert future.result(30)["image"].shape == (8, 8, 8, 1)
    assert served.in_hand == 0
    assert served.infer({"latent": latents(3)})


def test_who_began_before_an_unload_ends_with_what_it_had(measured):
    served, _ = measured
    future, go = hold(served, 8)
    served.unload()
    assert not served.loaded
    go.set()
    assert future.result(30)["image"].shape == (8, 8, 8, 1)


def test_outputs_are_checked_before_anything_is_run(measured):
    served, metrics = measured
    with pytest.raises(InputError, match="unknown"):
        served.infer({"latent": latents(1)}, outputs=["other"])
    assert counted(metrics, "serving_executions_total") == 0


def test_samples_do_not_hang_on_the_size_of_batches(tanh_model, measured):
    results = measured[0].infer({}, sampling={"count": 7, "seed": 3, "start": 2})
    expected = Pipeline.from_directory(tanh_model).sample(7, 3, start=2, output_type="float32")
    np.testing.assert_array_equal(results["image"], expected)


@pytest.fixture
def images_served(image_model):
    names = ("translate_a_to_b", "translate_b_to_a", "upscale")
    return ServedModel(
        read_card(image_model),
        lambda: {name: Pipeline.from_directory(image_model, ability=name) for name in names},
        BatchingOptions(request_rows=2),
    )


@pytest.mark.parametrize("task", ["translate", "upscale"])
def test_images_are_transformed_as_by_a_pipeline(images_served, image_model, task):
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), np.uint8)
    ability = "upscale" if task == "upscale" else "translate_a_to_b"
    pipeline = Pipeline.from_directory(image_model, ability=ability)
    expected = getattr(pipeline, task)(images, tile=8)
    np.testing.assert_array_equal(images_served.transform(task, images, ability=ability, tile=8), expected)
    np.testing.assert_array_equal(images_served.transform(task, images[0], tile=8), expected[0])


def test_what_cannot_be_transformed_is_refused(images_served, served):
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(InputError, match="'tanh-model' can't translate: it has"):
        served.transform("translate", image)
    with pytest.raises(InputError, match="ability 'upscale' does not translate: choose from"):
        images_served.transform("translate", image, ability="upscale")
    with pytest.raises(InputError, match="3 rows: give 1 to 2"):
        images_served.transform("upscale", [image] * 3)
    with pytest.raises(DeadlineError):
        images_served.transform("upscale", image, deadline=0.0)


def write_counter_model(directory):
    """counter: each step adds its noise to the state, which is the image."""
    noise, state = ("noise", TensorProto.FLOAT, ["batch", 1, 1, 1]), ("state", TensorProto.FLOAT, ["batch", 1, 1, 1])
    image = ("image", TensorProto.FLOAT, ["batch", 1, 1, 1])
    node = helper.make_node("Add", ["noise", "state"], ["image"])
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info(*each) for each in (noise, state)],
        [helper.make_tensor_value_info(*image)],
    )
    directory.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (directory / "step.onnx").write_bytes(model.SerializeToString())
    shape = ("batch", 1, 1, 1)
    ability = Ability(
        (Input("noise", "float32", shape, "normal"), Input("state", "float32", shape, "state")),
        (Output("image", "float32", shape, "image", (-9.0, 9.0), "NHWC"),),
        "step.onnx",
        Iteration("gibbs", 30, {"state": "image"}),
    )
    return directory, ability


def test_a_sampler_takes_steps_in_turn_with_others_and_no_more_than_allowed(tanh_model, tmp_path):
    directory, ability = write_counter_model(tmp_path / "counter")
    graph = (directory / "step.onnx").read_bytes()
    files = {"step.onnx": File(hashlib.sha256(graph).hexdigest(), len(graph))}
    card = msgspec.structs.replace(
        read_card(tanh_model),
        name="counter",
        abilities={"step": ability},
        default_ability="step",
        files=files,
        checked="",
    )
    (directory / "card.json").write_bytes(encode_card(card))
    served = ServedModel(
        read_card(directory),
        lambda: {"step": Pipeline.from_directory(directory)},
        BatchingOptions(request_steps=40),
    )
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda seed: served.infer({}, sampling={"count": 2, "seed": seed}), range(8)))
    pipeline = Pipeline.from_directory(directory)
    for seed, answer in enumerate(answers):
        np.testing.assert_array_equal(answer["image"], pipeline.sample(2, seed, output_type="float32"))
    assert served.infer({}, sampling={"count": 1, "steps": 40})
    with pytest.raises(InputError, match="steps=41: give 1 to 40 in one request"):
        served.infer({}, sampling={"count": 1, "steps": 41})
