# /// script
# requires-python = ">=3.11"
# dependencies = ["tensorflow-serving-api==2.21.0"]
# ///
"""TensorFlow Serving's own messages against a running server's REST API. Argument: the port.

    uv run tests/serving/clients/tensorflow_serving_api.py 8000

Status and metadata are read as TF Serving's messages, strictly: no field may be unknown. A request is then made of what
the signature says. The server serves tanh-model and mirror-model of tests/serving/conftest.py.
"""

import json
import sys
import urllib.error
import urllib.request

from google.protobuf import json_format
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2


def ask(port, path, request=None):
    data = None if request is None else json.dumps(request).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data, timeout=60) as answer:
        return json.load(answer)


def check(port):
    for path in ("/v1/models/tanh-model", "/v1/models/tanh-model/versions/1"):
        status = json_format.ParseDict(ask(port, path), get_model_status_pb2.GetModelStatusResponse())
        (version,) = status.model_version_status
        assert (version.version, version.status.error_code) == (1, 0)
        assert version.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE

    for name, rows in (("tanh-model", 3), ("mirror-model", 1)):
        found = ask(port, f"/v1/models/{name}/metadata")
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        json_format.ParseDict(found["model_spec"], answer.model_spec)
        assert (answer.model_spec.name, answer.model_spec.version.value) == (name, 1)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        json_format.ParseDict(found["metadata"]["signature_def"], signatures)
        signature = signatures.signature_def["serving_default"]
        assert signature.method_name == "tensorflow/serving/predict"
        inputs = {}
        for key, info in signature.inputs.items():
            number = 1 if info.dtype == types_pb2.DT_INT64 else 0.5
            assert info.dtype in (types_pb2.DT_INT64, types_pb2.DT_FLOAT)
            value = number
            for size in reversed([rows if dim.size == -1 else dim.size for dim in info.tensor_shape.dim]):
                value = [value] * size
            inputs[key] = value
        columns = ask(port, f"/v1/models/{name}:predict", {"signature_name": "serving_default", "inputs": inputs})
        by_row = [{key: value[number] for key, value in inputs.items()} for number in range(rows)]
        predictions = ask(port, f"/v1/models/{name}/versions/1:predict", {"instances": by_row})
        assert columns["outputs"] == predictions["predictions"]
        sizes, value = [dim.size for dim in signature.outputs["image"].tensor_shape.dim], columns["outputs"]
        for size in sizes:
            assert len(value) == (rows if size == -1 else size)
            value = value[0]

    try:
        ask(port, "/v1/models/dcgan:predict", {"instances": [1]})
    except urllib.error.HTTPError as error:
        assert error.code == 404
        assert set(json.load(error)) == {"error"}


if __name__ == "__main__":
    check(sys.argv[1])
    print("good")
