"""The HTTP application: every page, and what it answers to a bad request."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from serving import Pipeline
from serving.server.http.app import create_app
from serving.server.limits import BODY_LIMIT, ROW_LIMIT
from serving.server.repository import Repository

INFER = "/v2/models/tanh-model/infer"


@pytest.fixture
def client(models):
    with TestClient(create_app(Repository(models, threads=1)), raise_server_exceptions=False) as client:
        yield client


def tensor(array, name="latent", datatype="FP32"):
    return {"name": name, "shape": array.shape, "datatype": datatype, "data": array.ravel().tolist()}


def latents(count):
    return np.linspace(-1, 1, count * 4, dtype=np.float32).reshape(count, 4)


def array_of(output):
    return np.array(output["data"], np.float32).reshape(output["shape"])


def test_health_and_the_server_itself(client):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2").json()["name"] == "generative-zoo"
    assert client.get("/v2/models/tanh-model/ready").json() == {"name": "tanh-model", "ready": True}


def test_metadata_of_a_model(client):
    metadata = client.get("/v2/models/tanh-model").json()
    parameters = metadata.pop("parameters")
    abilities = parameters["abilities"]
    assert parameters["provider"] == "CPUExecutionProvider"
    assert metadata == {
        "name": "tanh-model",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "latent", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 8, 8, 1]}],
    }
    assert sorted(abilities) == ["encode", "generate"]  # reconstruct has no graph
    assert abilities["encode"]["outputs"] == [{"name": "code", "datatype": "FP32", "shape": [-1, 4]}]
    inputs = client.get("/v2/models/mirror-model").json()["inputs"]
    assert [one["datatype"] for one in inputs] == ["FP32", "FP32", "INT64", "FP32"]


def test_an_inference_is_the_graph(client, weights):
    answer = client.post(INFER, json={"id": "a7", "inputs": [tensor(latents(3))]})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (body["model_name"], body["model_version"], body["id"]) == ("tanh-model", "1", "a7")
    (image,) = body["outputs"]
    assert (image["name"], image["datatype"], image["shape"]) == ("image", "FP32", [3, 8, 8, 1])
    np.testing.assert_allclose(array_of(image).reshape(3, 64), np.tanh(latents(3) @ weights), atol=1e-6)


def test_nested_data_is_the_same_as_flat(client):
    nested = {**tensor(latents(2)), "data": latents(2).tolist()}
    flat = client.post(INFER, json={"inputs": [tensor(latents(2))]}).json()
    assert client.post(INFER, json={"inputs": [nested]}).json() == flat
    assert "id" not in flat


def test_another_ability_and_chosen_outputs(client, weights):
    image = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 8, 8, 1)
    request = {
        "inputs": [tensor(image, "image")],
        "outputs": [{"name": "code", "parameters": {"binary_data": False}}],
        "parameters": {"ability": "encode"},
    }
    (code,) = client.post(INFER, json=request).json()["outputs"]
    np.testing.assert_allclose(array_of(code), image.reshape(1, 64) @ weights.T, rtol=1e-5)


def test_a_count_and_a_seed_show_the_images_of_the_sampler(client, tanh_model, mirror_model):
    body = client.post(INFER, json={"parameters": {"count": 3, "seed": 2**64 - 1, "start": 5}}).json()
    expected = Pipeline.from_directory(tanh_model).sample(3, 2**64 - 1, start=5, output_type="float32")
    np.testing.assert_array_equal(array_of(body["outputs"][0]), expected)
    parameters = {"count": 2, "labels": ["bag", 0], "truncation": 0.5}
    body = client.post("/v2/models/mirror-model/infer", json={"inputs": [], "parameters": parameters}).json()
    expected = Pipeline.from_directory(mirror_model).sample(2, labels=["bag", 0], truncation=0.5, output_type="float32")
    np.testing.assert_array_equal(array_of(body["outputs"][0]), expected)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "nothing to do: give inputs, or parameters with a count (and seed, start, labels)"),
        ({"parameters": {"seed": 1}}, "nothing to do"),
        ({"parameters": {"count": 0}}, f"0 rows: give 1 to {ROW_LIMIT} in one request"),
        ({"parameters": {"count": ROW_LIMIT + 1}}, f"{ROW_LIMIT + 1} rows: give 1 to {ROW_LIMIT} in one request"),
        ({"parameters": {"count": 1, "seed": -1}}, "seed=-1: give 0 <= seed < 2**64"),
        ({"parameters": {"count": 1, "seed": "a"}}, "Expected `int | null`, got `str` - at `$.parameters.seed`"),
        ({"parameters": {"count": 1, "sed": 1}}, "unknown field `sed` - at `$.parameters`"),
        ({"parameters": {"count": 1, "labels": 1}}, "no input of this ability takes a label"),
        (
            {"parameters": {"count": 1, "ability": "draw"}},
            "serves no ability 'draw': choose from ['encode', 'generate']",
        ),
        ({"parameters": {"count": 1, "ability": "encode"}}, "makes no image, only ['code']"),
        (
            {"parameters": {"count": 1}, "outputs": [{"name": "x"}]},
            "outputs ['x'] are unknown: this answer has ['image']",
        ),
        ({"inputs": [tensor(latents(1))], "parameters": {"seed": 1}}, "the parameters ['seed'] exclude each other"),
        ({"inputs": [tensor(latents(1))] * 2}, "two inputs of one name"),
        ({"inputs": [tensor(latents(1), "z")]}, "inputs ['latent'] are missing"),
        ({"inputs": [tensor(latents(1), datatype="FP64")]}, "expected float32 of shape ('batch', 4), found float64"),
        ({"inputs": [tensor(latents(1)[:, :2])]}, "found float32 of shape (1, 2)"),
        ({"inputs": [tensor(np.zeros((ROW_LIMIT + 1, 4)))]}, f"{ROW_LIMIT + 1} rows: give 1 to {ROW_LIMIT}"),
        ({"inputs": [{**tensor(latents(1)), "data": [1, 2, 3]}]}, "3 numbers do not fill the shape [1, 4]"),
        ({"inputs": [{"name": "latent"}]}, "missing required field `shape` - at `$.inputs[0]`"),
        ([], "Expected `object`, got `array`"),
        ({"parameters": {"count": 10**9}}, f"1000000000 rows: give 1 to {ROW_LIMIT}"),
        ({"parameters": {"count": -1}}, f"-1 rows: give 1 to {ROW_LIMIT}"),
        ({"parameters": {"count": 1, "seed": 2**64}}, "seed=18446744073709551616: give 0 <= seed < 2**64"),
        ({"parameters": {"count": 1, "seed": 10**400}}, "seed=1000"),
        ({"parameters": {"count": 2, "start": 2**64 - 1}}, "index=18446744073709551616"),
        ({"inputs": [{**tensor(latents(1)), "shape": [0, 4], "data": []}]}, "0 numbers do not fill the shape [0, 4]"),
        ({"inputs": [{**tensor(latents(1)), "shape": [2**70, 4]}]}, "4 numbers do not fill the shape"),
        ({"inputs": [{**tensor(latents(1)), "data": ["a" * 100_000, 1, 2, 3]}]}, "the data is not all FP32"),
        ({"inputs": [{"name": "latent", "shape": [1, 4], "datatype": "FP32"}]}, "'latent': it has no data"),
        ({"inputs": [tensor(latents(1))], "outputs": [{"name": "image"}] * 2}, "an output is asked for twice"),
    ],
)
def test_a_bad_request_is_a_400_with_the_reason(client, request_, message):
    answer = client.post(INFER, json=request_)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert message in answer.json()["error"]
    assert len(answer.json()["error"]) < 2000


NESTED = (
    b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": ' + b"[" * 50_000 + b"]" * 50_000 + b"}]}"
)


@pytest.mark.parametrize("body", [b"", b"{", b'{"id": "\xff"}', b"\x00", NESTED], ids=range(5))
def test_a_body_that_is_no_json_is_a_400(client, body):
    answer = client.post(INFER, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("the body is not an inference request in JSON: ")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
REQUESTS = {
    "tanh-model": {"inputs": [tensor(latents(1))], "outputs": [{"name": "image", "parameters": {}}], "id": "a"},
    "mirror-model": {"parameters": {"count": 2, "seed": 3, "start": 4, "labels": ["bag", 0], "truncation": 0.5}},
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(name=st.sampled_from(sorted(REQUESTS)), place=st.integers(0, 10**6), value=PLAIN)
def test_any_value_in_any_place_of_a_request_is_answered_or_refused(client, name, place, value):
    request = json.loads(json.dumps(REQUESTS[name]))
    places = list(walk(request))
    owner, key = places[place % len(places)]
    owner[key] = value
    answer = client.post(f"/v2/models/{name}/infer", content=json.dumps(request))
    assert answer.status_code in (200, 400, 422)
    assert set(answer.json()) >= ({"outputs"} if answer.status_code == 200 else {"error"})


def walk(value):
    """Every (container, key) below plain data."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from walk(value[key])


def test_a_large_body_is_a_413_with_or_without_its_length(client):
    for content in (b" " * (BODY_LIMIT + 1), iter([b" " * 2**20] * 17)):
        answer = client.post(INFER, content=content)
        assert answer.status_code == 413
        assert answer.json() == {"error": f"the body is larger than {BODY_LIMIT} bytes: send fewer rows in one request"}
    assert client.post(INFER, content=b" " * BODY_LIMIT).status_code == 400


@pytest.mark.parametrize("name", ["dcgan", "tanh-model%00", "%2e%2e", "card.json"])
@pytest.mark.parametrize("end", ["", "/ready"])
def test_an_unknown_model_is_a_404_with_the_good_names(client, name, end):
    answer = client.get(f"/v2/models/{name}{end}")
    assert answer.status_code == 404
    assert "['mirror-model', 'tanh-model']" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/page/none", "/v1", "/v2/models/..%2f..%2fetc%2fpasswd", "/v2/models/a/b/c/infer"])
def test_an_unknown_page_is_a_404_in_json(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert "there is no such page: try /v2/models/NAME with a NAME of ['mirror-model'" in answer.json()["error"]


def test_a_wrong_method_is_a_405_in_json(client):
    answer = client.get(INFER)
    assert (answer.status_code, answer.json()) == (405, {"error": "Method Not Allowed"})


def test_a_failure_of_the_server_shows_no_trace(client, caplog):
    def broken(feeds, **_):
        raise RuntimeError("secret detail")

    client.app.state.server.repository.find("tanh-model").infer = broken
    answer = client.post(INFER, json={"inputs": [tensor(latents(1))]})
    assert (answer.status_code, answer.json()) == (500, {"error": "the server failed; its log says why"})
    assert client.get("/v2/health/live").status_code == 200


@pytest.mark.parametrize("truncation", [1e39, -1e300])
def test_a_truncation_beyond_float32_is_a_400(client, truncation):
    parameters = {"count": 1, "truncation": truncation}
    answer = client.post("/v2/models/mirror-model/infer", json={"parameters": parameters})
    assert answer.status_code == 400
    assert "give a finite number of float32" in answer.json()["error"]


@pytest.mark.parametrize("value", [1e38, -3.4e38])
def test_finite_numbers_that_the_model_makes_none_of_are_a_422(client, value):
    """WEIGHTS times them is beyond float32, infinity minus infinity no number."""
    image = np.full((1, 8, 8, 1), value, np.float32)
    answer = client.post(INFER, json={"inputs": [tensor(image, "image")], "parameters": {"ability": "encode"}})
    assert answer.status_code == 422
    assert answer.json() == {"error": "output 'code': it holds NaN or infinity for these inputs, which JSON cannot say"}


def test_a_graph_that_fails_is_a_422_and_the_log_says_why(client, caplog):
    served = client.app.state.server.repository.find("mirror-model").pipelines["generate"]

    class Failing:
        def run(self, names, feeds):
            raise RuntimeError("index 9 is\nout of bounds")

    served.session._session = Failing()
    answer = client.post("/v2/models/mirror-model/infer", json={"parameters": {"count": 1}})
    assert answer.status_code == 422
    assert answer.json() == {"error": "the model's graph fails on these inputs; the server's log says why"}
    (record,) = [record for record in caplog.records if record.name == "serving"]
    assert "generate.onnx: the graph fails on {'latent': (1, 4)" in record.message
    assert record.message.endswith("index 9 is out of bounds")


def test_health_answers_while_a_model_runs(client):
    started, release = threading.Event(), threading.Event()
    served = client.app.state.server.repository.find("tanh-model")
    infer = served.infer

    def slow(feeds, **options):
        started.set()
        assert release.wait(30)
        return infer(feeds, **options)

    served.infer = slow
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, INFER, json={"inputs": [tensor(latents(1))]})
        assert started.wait(30)
        assert client.get("/v2/health/live").json() == {"live": True}
        assert not answer.done()
        release.set()
        assert answer.result().status_code == 200


def test_many_requests_at_once_each_get_their_own_answer(client, tanh_model):
    def ask(seed):
        return array_of(client.post(INFER, json={"parameters": {"count": 2, "seed": seed}}).json()["outputs"][0])

    pipeline = Pipeline.from_directory(tanh_model)
    with ThreadPoolExecutor(8) as pool:
        for seed, images in enumerate(pool.map(ask, range(24))):
            np.testing.assert_array_equal(images, pipeline.sample(2, seed, output_type="float32"))
