"""Clients that others wrote, against the real server: each is a script with pins of its own, since they exclude others.

A script runs where its package is installed: beside the tests, or in the environment whose Python the variable
CLIENT_PYTHON names, such as one of `uv venv clients && uv pip install --python clients tritonclient[http,grpc]==...`.
"""

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving import Pipeline

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def server(start):
    return start("--grpc-port", 0)


def find_python(module):
    """A Python that has a module."""
    for python in filter(None, [os.environ.get("CLIENT_PYTHON"), sys.executable]):
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
        if subprocess.run([python, "-c", code], check=False).returncode == 0:
            return python
    return None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "script"),
    [
        ("tritonclient", "triton.py"),
        ("openai", "openai_images.py"),
        ("tensorflow_serving", "tensorflow_serving_api.py"),
        ("schemathesis", "open_inference.py"),
    ],
)
def test_a_client_is_answered_as_it_expects(server, module, script):
    if (python := find_python(module)) is None:
        pytest.skip(f"{module} is not installed here, nor where CLIENT_PYTHON says: its pin stands in {script}")
    ports = [str(server.port), str(server.grpc_port)]
    done = subprocess.run([python, HERE / script, *ports], capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["good"]), done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(server, shared_models):
    def curl(path, *options):
        address = f"http://127.0.0.1:{server.port}{path}"
        return subprocess.run(["curl", "-sf", address, *options], stdout=subprocess.PIPE, check=True, timeout=60).stdout

    image = Pipeline.from_directory(shared_models / "tanh-model").sample(1, 7)[0, ..., 0]
    file = curl("/v1/models/tanh-model:sample", "-d", '{"seed": 7}')
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file))), image)
    array = curl("/v1/models/tanh-model:sample", "-d", '{"seed": 7}', "-H", "Accept: application/x-npy")
    np.testing.assert_array_equal(np.load(io.BytesIO(array))[0, ..., 0], image)
    assert b'"predictions":[[[[' in curl("/v1/models/tanh-model:predict", "-d", '{"instances": [[0, 0, 0, 0]]}')
    assert re.match(rb'\{"name":"generative-zoo"', curl("/v2"))
