"""The binary tensor extension, names of abilities, and versions, of the Open Inference Protocol over HTTP."""

import json

import numpy as np
import pytest

INFER = "/v2/models/tanh-model/infer"
HEADER = "Inference-Header-Content-Length"


def latents(count):
    return np.linspace(-1, 1, count * 4, dtype=np.float32).reshape(count, 4)


def binary(array, name="latent", datatype="FP32", **changed):
    size = {"binary_data_size": array.nbytes}
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "parameters": size, **changed}


def post(client, inputs, *followers, path=INFER, header=None, **parts):
    """As tritonclient sends: JSON, the tensors' bytes, and a header that says where the one ends."""
    head = json.dumps({"inputs": inputs, **parts}).encode()
    headers = {HEADER: str(len(head)) if header is None else header, "Content-Type": "application/octet-stream"}
    return client.post(path, content=b"".join([head, *followers]), headers=headers)


def read(answer):
    """The JSON of an answer, and its outputs as arrays, all of FP32."""
    split = int(answer.headers[HEADER])
    described, begin, arrays = json.loads(answer.content[:split]), split, {}
    for output in described["outputs"]:
        size = output["parameters"]["binary_data_size"]
        data = np.frombuffer(answer.content[begin : begin + size], "<f4")
        arrays[output["name"]] = data.reshape(output["shape"])
        begin += size
    assert begin == len(answer.content)
    return described, arrays


def test_bytes_in_and_out_are_the_graph(client, weights):
    answer = post(
        client,
        [binary(latents(3))],
        latents(3).tobytes(),
        outputs=[{"name": "image", "parameters": {"binary_data": True}}],
        id="a7",
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream")
    described, arrays = read(answer)
    (output,) = described.pop("outputs")
    assert described == {"model_name": "tanh-model", "model_version": "1", "id": "a7"}
    assert output == {
        "name": "image",
        "datatype": "FP32",
        "shape": [3, 8, 8, 1],
        "parameters": {"binary_data_size": 768},
    }
    np.testing.assert_allclose(arrays["image"].reshape(3, 64), np.tanh(latents(3) @ weights), atol=1e-6)


def test_bytes_and_numbers_can_be_mixed(client):
    as_numbers = {"name": "latent", "shape": [2, 4], "datatype": "FP32", "data": latents(2).ravel().tolist()}
    expected = client.post(INFER, json={"inputs": [as_numbers]}).json()["outputs"][0]["data"]
    asked = client.post(INFER, json={"inputs": [as_numbers], "parameters": {"binary_data_output": True}})
    assert read(asked)[1]["image"].ravel().tolist() == expected
    back = post(client, [binary(latents(2))], latents(2).tobytes())
    assert (back.headers["content-type"], HEADER in back.headers) == ("application/json", False)
    assert back.json()["outputs"][0]["data"] == expected
    no = [{"name": "image", "parameters": {"binary_data": False}}]
    back = post(client, [binary(latents(2))], latents(2).tobytes(), outputs=no, parameters={"binary_data_output": True})
    assert back.json()["outputs"][0]["data"] == expected


def test_several_inputs_follow_in_their_order(client):
    arrays = {
        "label": (np.array([2, 1]), "INT64"),
        "latent": (latents(2), "FP32"),
        "truncation": (np.array([0.5], np.float32), "FP32"),
        "jitter": (np.array([[0.25, 0.5], [0.75, 0]], np.float32), "FP32"),
    }
    inputs = [binary(array, name, datatype) for name, (array, datatype) in arrays.items()]
    inputs[2] = {"name": "truncation", "shape": [1], "datatype": "FP32", "data": [0.5]}
    followers = [array.tobytes() for name, (array, _) in arrays.items() if name != "truncation"]
    answer = post(client, inputs, *followers, path="/v2/models/mirror-model/infer")
    found = np.array(answer.json()["outputs"][0]["data"]).reshape(2, 7)
    flat = [latents(2) / 2, arrays["jitter"][0], np.array([[2], [1]])]
    np.testing.assert_array_equal(found, np.concatenate(flat, axis=1))


GOOD = latents(1).tobytes()


@pytest.mark.parametrize(
    ("inputs", "followers", "header", "message"),
    [
        ([binary(latents(1))], GOOD, "x", f"{HEADER}: 'x': give the bytes of the JSON"),
        ([binary(latents(1))], GOOD, "-1", f"{HEADER}: '-1': give the bytes of the JSON"),
        ([binary(latents(1))], GOOD, "9" * 5000, f"{HEADER}: '9999"),
        ([binary(latents(1))], GOOD, "999", f"{HEADER} is 999, and the body has"),
        ([binary(latents(1))], GOOD, "5", "the body is not an inference request in JSON"),
        ([binary(latents(1))], GOOD[:-1], None, "'latent': binary_data_size is 16, and 15 bytes are left"),
        ([binary(latents(1))], GOOD + b"x", None, "1 bytes are left behind the JSON"),
        ([binary(latents(1), parameters={"binary_data_size": 12})], GOOD[:12], None, "3 numbers do not fill the shape"),
        ([binary(latents(1), parameters={"binary_data_size": 13})], GOOD[:13], None, "13 bytes are no whole number of"),
        ([binary(latents(1), parameters={"binary_data_size": -1})], b"", None, "binary_data_size is -1, and 0 bytes"),
        ([binary(latents(1), parameters={"binary_data_size": True})], b"x", None, "binary_data_size is True, and 1"),
        ([binary(latents(1), parameters={"binary_data_size": 16.0})], GOOD, None, "binary_data_size is 16.0, and 16"),
        ([binary(latents(1), parameters={"binary_data_size": 10**30})], GOOD, None, "binary_data_size is 1"),
        ([binary(latents(1), data=[1, 2, 3, 4])], GOOD, None, "data and binary_data_size exclude each other"),
        ([binary(latents(1), datatype="BYTES")], GOOD, None, "datatype 'BYTES': choose from ['BOOL', 'FP16'"),
        ([binary(latents(1), datatype="INT32")], GOOD, None, "expected float32 of shape ('batch', 4), found int32"),
        ([binary(latents(1), shape=[1] * 9 + [4])], GOOD, None, "a shape of 10 axes: give at most 8"),
        ([binary(latents(1) * np.nan)], (latents(1) * np.nan).tobytes(), None, "'latent' holds NaN or infinity"),
        ([binary(np.array([2], np.uint8), datatype="BOOL")], b"\x02", None, "a byte of BOOL is 0 or 1"),
    ],
)
def test_bytes_that_do_not_fit_are_a_400_with_the_reason(client, inputs, followers, header, message):
    answer = post(client, inputs, followers, header=header)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert len(answer.json()["error"]) < 1100


def test_a_size_without_the_header_is_a_400(client):
    answer = client.post(INFER, json={"inputs": [binary(latents(1))]})
    assert answer.status_code == 400
    assert answer.json()["error"] == f"input 'latent': binary_data_size needs the header {HEADER}"


@pytest.mark.parametrize("parameter", ["classification", "shared_memory_region"])
def test_what_asks_for_another_answer_is_refused(client, parameter):
    outputs = [{"name": "image", "parameters": {"binary_data": True, parameter: 1}}]
    answer = post(client, [binary(latents(1))], GOOD, outputs=outputs)
    assert answer.status_code == 400
    assert f"'image': the parameters ['{parameter}'] are not served" in answer.json()["error"]


def test_outputs_that_are_not_finite_are_a_422_in_bytes_as_well(client):
    image = np.full((1, 8, 8, 1), 1e38, np.float32)
    asked = {"path": "/v2/models/tanh-model.encode/infer", "parameters": {"binary_data_output": True}}
    answer = post(client, [binary(image, "image")], image.tobytes(), **asked)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("output 'code' holds NaN or infinity")


def test_another_ability_is_a_name_and_metadata_are_of_it(client, weights):
    image = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 8, 8, 1)
    tensor = {"name": "image", "shape": image.shape, "datatype": "FP32", "data": image.ravel().tolist()}
    answer = client.post("/v2/models/tanh-model.encode/infer", json={"inputs": [tensor]}).json()
    assert answer["model_name"] == "tanh-model.encode"
    np.testing.assert_allclose(answer["outputs"][0]["data"], weights @ image.ravel(), rtol=1e-5)
    metadata = client.get("/v2/models/tanh-model.encode").json()
    assert (metadata["name"], metadata["outputs"][0]["name"]) == ("tanh-model.encode", "code")
    assert client.get("/v2/models/tanh-model.encode/ready").json() == {"name": "tanh-model.encode", "ready": True}
    same = {"inputs": [tensor], "parameters": {"ability": "encode"}}
    assert client.post("/v2/models/tanh-model.encode/infer", json=same).json() == answer
    other = client.post("/v2/models/tanh-model.encode/infer", json={"parameters": {"ability": "generate"}})
    assert (other.status_code, other.json()["error"]) == (
        400,
        "the name says 'encode', and the request 'generate': give one of them",
    )


def test_a_version_is_part_of_the_path(client):
    for end in ("", "/ready"):
        assert (
            client.get(f"/v2/models/tanh-model/versions/1{end}").json()
            == client.get(f"/v2/models/tanh-model{end}").json()
        )
    asked = {"parameters": {"count": 1}}
    path = "/v2/models/tanh-model/versions"
    assert client.post(f"{path}/1/infer", json=asked).json() == client.post(INFER, json=asked).json()
    for version in ("2", "x", "%2e%2e", "1%00"):
        answer = client.post(f"{path}/{version}/infer", json=asked)
        assert answer.status_code == 404
        assert "it has ['1']" in answer.json()["error"]


@pytest.mark.parametrize("name", ["tanh-model.draw", "tanh-model.", "draw.encode", ".encode", "tanh-model.encode.x"])
def test_a_name_that_stands_for_nothing_is_a_404(client, name):
    for answer in (
        client.get(f"/v2/models/{name}"),
        client.get(f"/v2/models/{name}/ready"),
        client.post(f"/v2/models/{name}/infer", json={"parameters": {"count": 1}}),
    ):
        assert answer.status_code == 404
        assert "error" in answer.json()
