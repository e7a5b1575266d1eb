"""TensorFlow Serving's REST API: its documented requests and answers, replayed with the models of the tests."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

PREDICT = "/v1/models/tanh-model:predict"
MIRROR = "/v1/models/mirror-model:predict"


def latents(count):
    return np.linspace(-1, 1, count * 4, dtype=np.float32).reshape(count, 4)


def images_of(weights, count):
    return np.tanh(latents(count) @ weights).reshape(count, 8, 8, 1)


def as_file(array, format_="png"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, format_)
    return {"b64": base64.b64encode(file.getvalue()).decode()}


def test_the_status_of_a_model(client):
    available = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/tanh-model", "/v1/models/tanh-model/versions/1"):
        assert client.get(path).json() == {"model_version_status": [available]}


def test_the_metadata_of_a_model_have_a_signature_for_each_ability(client):
    for path in ("/v1/models/tanh-model/metadata", "/v1/models/tanh-model/versions/1/metadata"):
        metadata = client.get(path).json()
        assert metadata["model_spec"] == {"name": "tanh-model", "signature_name": "", "version": "1"}
        signatures = metadata["metadata"]["signature_def"]["signature_def"]
        assert sorted(signatures) == ["encode", "generate", "serving_default"]
        assert signatures["serving_default"] == signatures["generate"]
        sizes = [{"size": size, "name": ""} for size in ("-1", "4")]
        latent = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": sizes, "unknown_rank": False}, "name": "latent"}
        assert signatures["generate"]["inputs"] == {"latent": latent}
        assert signatures["generate"]["method_name"] == "tensorflow/serving/predict"
    inputs = client.get("/v1/models/mirror-model/metadata").json()["metadata"]["signature_def"]["signature_def"]
    assert inputs["generate"]["inputs"]["label"]["dtype"] == "DT_INT64"


@pytest.mark.parametrize("extra", [{}, {"signature_name": "serving_default"}, {"signature_name": "generate"}])
@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_rows_of_one_input_are_bare_values_or_named(client, weights, extra, version):
    path = f"/v1/models/tanh-model{version}:predict"
    bare = client.post(path, json={"instances": latents(3).tolist(), **extra})
    assert (bare.status_code, bare.headers["content-type"]) == (200, "application/json")
    assert list(bare.json()) == ["predictions"]
    np.testing.assert_allclose(bare.json()["predictions"], images_of(weights, 3), atol=1e-6)
    named = client.post(path, json={"instances": [{"latent": row} for row in latents(3).tolist()], **extra})
    assert named.json() == bare.json()


def test_a_column_of_one_input_is_bare_or_named(client, weights):
    bare = client.post(PREDICT, json={"inputs": latents(3).tolist()}).json()
    assert list(bare) == ["outputs"]
    np.testing.assert_allclose(bare["outputs"], images_of(weights, 3), atol=1e-6)
    assert client.post(PREDICT, json={"inputs": {"latent": latents(3).tolist()}}).json() == bare


COLUMNS = {"latent": latents(2).tolist(), "jitter": [[0.25, 0.5], [0.75, 0]], "label": [2, 1], "truncation": [1.0]}


def test_several_inputs_are_named_in_both_forms(client):
    expected = np.concatenate([latents(2), np.array(COLUMNS["jitter"]), [[2], [1]]], axis=1).reshape(2, 1, 7, 1)
    by_column = client.post(MIRROR, json={"inputs": COLUMNS}).json()["outputs"]
    np.testing.assert_array_equal(by_column, expected.astype(np.float32))
    names = ("latent", "jitter", "label")
    rows = [{name: COLUMNS[name][number] for name in names} | {"truncation": 1} for number in range(1)]
    by_row = client.post(MIRROR, json={"instances": rows}).json()["predictions"]
    np.testing.assert_array_equal(by_row, expected[:1].astype(np.float32))


def test_a_name_with_an_ability_is_that_signature(client, weights):
    image = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 8, 8, 1)
    by_signature = client.post(PREDICT, json={"signature_name": "encode", "instances": image.tolist()}).json()
    by_name = client.post("/v1/models/tanh-model.encode:predict", json={"instances": image.tolist()}).json()
    assert by_name == by_signature
    np.testing.assert_allclose(by_name["predictions"], [weights @ image.ravel()], rtol=1e-5)


def test_several_outputs_are_named_in_both_forms(open_client, two_outputs):
    client = open_client(two_outputs)
    rows = client.post(PREDICT, json={"instances": latents(2).tolist()}).json()["predictions"]
    columns = client.post(PREDICT, json={"inputs": latents(2).tolist()}).json()["outputs"]
    assert [sorted(row) for row in rows] == [["image", "score"]] * 2
    assert columns == {name: [row[name] for row in rows] for name in ("image", "score")}
    np.testing.assert_allclose(columns["score"], latents(2).sum(axis=1), atol=1e-6)


@pytest.fixture
def two_outputs(tanh_model, edit_graph, edit_card):
    """The generator gives the sum of its latent as a score, too."""
    from onnx import TensorProto, helper

    def add(model):
        model.graph.node.append(helper.make_node("ReduceSum", ["latent", "one"], ["score"], keepdims=0))
        model.graph.initializer.append(helper.make_tensor("one", TensorProto.INT64, [1], [1]))
        model.graph.output.append(helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]))

    edit_graph(tanh_model, add)
    old = '"layout": "NHWC"\n        }\n      ],\n      "file": "generate.onnx"'
    score = '{"name": "score", "dtype": "float32", "shape": ["batch"], "kind": "score"}'
    edit_card(tanh_model, old, old.replace("}\n      ]", f"}}, {score}\n      ]"), checked=True)
    return tanh_model.parent


def test_an_image_can_be_a_file_in_base64(client):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    values = (pixels / np.float32(127.5) - np.float32(1)).reshape(1, 8, 8, 1).tolist()
    expected = client.post(PREDICT, json={"signature_name": "encode", "instances": values}).json()["predictions"]
    file = as_file(pixels)
    for request in (
        {"instances": [file]},
        {"instances": [{"image": file}]},
        {"inputs": [file]},
        {"inputs": {"image": [file]}},
    ):
        answer = client.post(PREDICT, json={"signature_name": "encode", **request}).json()
        np.testing.assert_allclose(answer.get("predictions", answer.get("outputs")), expected, rtol=1e-5)


def test_images_of_free_size_are_stacked_where_they_have_one(open_client, image_model):
    client = open_client(image_model.parent)
    color = np.random.Generator(np.random.Philox(1)).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    path = "/v1/models/image-model.upscale:predict"
    found = client.post(path, json={"instances": [as_file(color), as_file(color, "webp")]}).json()["predictions"]
    assert np.shape(found) == (2, 20, 24, 3)
    values = (color / np.float32(127.5) - np.float32(1)).tolist()
    np.testing.assert_allclose(
        client.post(path, json={"instances": [values]}).json()["predictions"][0], found[0], atol=1e-5
    )
    answer = client.post(path, json={"instances": [as_file(color), as_file(color[1:])]})
    assert (answer.status_code, answer.json()["error"][:28]) == (400, "the images have several size")


@pytest.mark.parametrize(
    ("path", "request_", "message"),
    [
        (PREDICT, {}, "give either instances, row by row, or inputs, column by column"),
        (PREDICT, {"instances": [[1]], "inputs": [[1]]}, "give either instances"),
        (PREDICT, {"instance": [[1]]}, "unknown field `instance`"),
        (PREDICT, [], "Expected `object`, got `array`"),
        (PREDICT, {"instances": []}, "0 numbers do not fill a list"),
        (PREDICT, {"instances": [[]]}, "0 numbers do not fill a list"),
        (PREDICT, {"instances": 1}, "the data is no list of DT_FLOAT"),
        (PREDICT, {"instances": "text"}, "the data is no list of DT_FLOAT"),
        (PREDICT, {"instances": [["1", 2, 3, 4]]}, "Expected `float`, got `str`"),
        (PREDICT, {"instances": [[1, 2, 3, None]]}, "Expected `float`, got `null`"),
        (PREDICT, {"instances": [[True, 2, 3, 4]]}, "Expected `float`, got `bool`"),
        (PREDICT, {"instances": [[1, 2, 3, 4], [1]]}, "ragged"),
        (PREDICT, {"instances": [[1, 2, 3]]}, "expected float32 of shape ('batch', 4), found float32 of shape (1, 3)"),
        (PREDICT, {"instances": [1, 2, 3, 4]}, "found float32 of shape (4,)"),
        (PREDICT, {"instances": [[1e39, 2, 3, 4]]}, "DT_FLOAT holds"),
        (PREDICT, {"instances": [[0, 0, 0, 0]] * 257}, "257 rows: give 1 to 256 in one request"),
        (PREDICT, {"instances": [{}]}, "inputs ['latent'] are missing"),
        (PREDICT, {"instances": [{}] * 20_000}, "there are more objects than 256 rows need"),
        (PREDICT, {"instances": [{"z": [1, 2, 3, 4]}]}, "inputs ['z'] are unknown: give ['latent']"),
        (PREDICT, {"instances": [{"latent": [1, 2, 3, 4]}, {}]}, "number 1 has other inputs than number 0"),
        (PREDICT, {"instances": [{"latent": [1, 2, 3, 4]}, 3]}, "Expected `object`, got `int`"),
        (PREDICT, {"instances": [{"b64": "aGk="}]}, "input 'latent' takes no image file: it is normal"),
        (PREDICT, {"inputs": {"z": 1}}, "inputs ['z'] are unknown: give ['latent']"),
        (PREDICT, {"inputs": {"latent": 1}}, "the data is no list of DT_FLOAT"),
        (PREDICT, {"instances": [[1, 2, 3, 4]], "signature_name": "draw"}, "serves no ability 'draw'"),
        (PREDICT, {"instances": [[1, 2, 3, 4]], "signature_name": 1}, "Expected `str`, got `int`"),
        (MIRROR, {"instances": [[1, 2, 3, 4]]}, "the model has the inputs ['latent', 'jitter', 'label', 'truncation']"),
        (MIRROR, {"inputs": COLUMNS | {"label": [1.5, 2]}}, "Expected `int`, got `float`"),
        (MIRROR, {"inputs": COLUMNS | {"label": [3, 0]}}, "a label is 0 to 2"),
        ("/v1/models/tanh-model.encode:predict", {"instances": [{"b64": "%"}]}, "b64 holds no base64"),
        ("/v1/models/tanh-model.encode:predict", {"instances": [{"b64": "aGk="}]}, "this is no image file"),
        ("/v1/models/tanh-model.encode:predict", {"instances": [{"b64": 1}]}, "Expected `str`, got `int`"),
        ("/v1/models/tanh-model.encode:predict", {"signature_name": "generate", "inputs": 1}, "the name says 'encode'"),
        ("/v1/models/tanh-model:classify", {"examples": []}, "a generative model has no signature of this method"),
        ("/v1/models/tanh-model:regress", {"examples": []}, "a generative model has no signature of this method"),
    ],
)
def test_a_bad_request_is_a_400_with_the_reason(client, path, request_, message):
    answer = client.post(path, json=request_)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert message in answer.json()["error"]
    assert len(answer.json()["error"]) < 1100


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"instances": ' + b"[" * 50_000, b'{"instances": [NaN]}'])
def test_a_body_that_is_no_json_is_a_400(client, body):
    answer = client.post(PREDICT, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("the body is not a predict request in JSON: ")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/dcgan",
        "/v1/models/dcgan/metadata",
        "/v1/models/tanh-model/versions/2",
        "/v1/models/tanh-model/versions/2/metadata",
        "/v1/models/tanh-model/labels/stable",
        "/v1/models/tanh-model.draw/metadata",
    ],
)
def test_what_there_is_not_is_a_404(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}


def test_predictions_that_are_not_finite_are_a_422(client):
    instances = np.full((1, 8, 8, 1), 1e38).tolist()
    answer = client.post("/v1/models/tanh-model.encode:predict", json={"instances": instances})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("output 'code': there is NaN or infinity")
