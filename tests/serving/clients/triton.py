# /// script
# requires-python = ">=3.11"
# dependencies = ["tritonclient[http,grpc]==2.73.0", "numpy>=2"]
# ///
"""tritonclient against a running server: HTTP with its binary default, and gRPC. Arguments: the two ports.

    uv run tests/serving/clients/triton.py 8000 8001

The server serves tanh-model and mirror-model of tests/serving/conftest.py.
"""

import sys

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

WEIGHTS = np.random.Generator(np.random.Philox(0)).standard_normal((4, 64)).astype(np.float32)
LATENTS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
IMAGES = np.tanh(LATENTS @ WEIGHTS).reshape(3, 8, 8, 1)
GRAY = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 8, 8, 1)


def check(library, client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tanh-model")
    assert client.is_model_ready("tanh-model.encode", "1")

    latent = library.InferInput("latent", list(LATENTS.shape), "FP32")
    latent.set_data_from_numpy(LATENTS)
    for outputs in (None, [library.InferRequestedOutput("image")]):
        result = client.infer("tanh-model", [latent], outputs=outputs, request_id="a7", model_version="1")
        np.testing.assert_allclose(result.as_numpy("image"), IMAGES, atol=1e-6)

    image = library.InferInput("image", list(GRAY.shape), "FP32")
    image.set_data_from_numpy(GRAY)
    np.testing.assert_allclose(
        client.infer("tanh-model.encode", [image]).as_numpy("code"), GRAY.reshape(1, 64) @ WEIGHTS.T, rtol=1e-5
    )

    arrays = {
        "latent": LATENTS,
        "jitter": np.full((3, 2), 0.5, np.float32),
        "label": np.array([0, 1, 2]),
        "truncation": np.array([0.5], np.float32),
    }
    inputs = []
    for name, array in arrays.items():
        inputs.append(library.InferInput(name, list(array.shape), "INT64" if name == "label" else "FP32"))
        inputs[-1].set_data_from_numpy(array)
    expected = np.concatenate([LATENTS / 2, arrays["jitter"], arrays["label"][:, None]], axis=1, dtype=np.float32)
    np.testing.assert_array_equal(client.infer("mirror-model", inputs).as_numpy("image").reshape(3, 7), expected)

    first, second = (
        client.infer("mirror-model", [], parameters={"count": 2, "seed": 5, "labels": "bag"}).as_numpy("image")
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    assert first.shape == (2, 1, 7, 1)
    assert set(first[:, 0, 6, 0]) == {2}

    for name, given in (("dcgan", [latent]), ("tanh-model", [image]), ("tanh-model.draw", [latent])):
        try:
            client.infer(name, given)
        except InferenceServerException as error:
            assert error.message(), error
        else:
            raise AssertionError(f"{name} was answered")
    np.testing.assert_allclose(client.infer("tanh-model", [latent]).as_numpy("image"), IMAGES, atol=1e-6)


def check_http(port):
    library = tritonclient.http
    client = library.InferenceServerClient(f"127.0.0.1:{port}", concurrency=4)
    check(library, client)
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("tanh-model")["inputs"] == [
        {"name": "latent", "datatype": "FP32", "shape": [-1, 4]}
    ]

    latent = library.InferInput("latent", list(LATENTS.shape), "FP32")
    for binary_in in (True, False):
        latent.set_data_from_numpy(LATENTS, binary_data=binary_in)
        for binary_out in (True, False):
            outputs = [library.InferRequestedOutput("image", binary_data=binary_out)]
            for packing in (None, "gzip"):
                result = client.infer("tanh-model", [latent], outputs=outputs, request_compression_algorithm=packing)
                np.testing.assert_allclose(result.as_numpy("image"), IMAGES, atol=1e-6)
    waiting = [client.async_infer("tanh-model", [latent]) for _ in range(16)]
    for each in waiting:
        np.testing.assert_allclose(each.get_result().as_numpy("image"), IMAGES, atol=1e-6)
    client.close()


def check_grpc(port):
    library = tritonclient.grpc
    client = library.InferenceServerClient(f"127.0.0.1:{port}")
    check(library, client)
    assert client.get_server_metadata().name == "generative-zoo"
    assert list(client.get_model_metadata("tanh-model").inputs[0].shape) == [-1, 4]
    latent = library.InferInput("latent", list(LATENTS.shape), "FP32")
    latent.set_data_from_numpy(LATENTS)
    try:
        client.infer("dcgan", [latent])
    except InferenceServerException as error:
        assert error.status() == "StatusCode.NOT_FOUND", error
    client.close()


if __name__ == "__main__":
    check_http(sys.argv[1])
    check_grpc(sys.argv[2])
    print("good")
