"""`python -m serving`: the real server from start to signal, and what stops its start."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from serving import Pipeline
from serving.__main__ import main
from serving.server.limits import BODY_LIMIT

ROOT = Path(__file__).parents[2]
INFER = "/v2/models/tanh-model/infer"


def array_of(output):
    return np.array(output["data"], np.float32).reshape(output["shape"])


def run_main(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


def test_a_broken_model_stops_the_start_with_one_line(models, tanh_model, capsys):
    path = tanh_model / "encode.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    code, error = run_main(capsys, "--models", models, "--port", 0)
    assert code == 2
    size = path.stat().st_size
    assert error == f"serving: {path}: truncated: expected {size + 1} bytes, found {size}\n"


def test_no_models_stop_the_start(tmp_path, capsys):
    code, error = run_main(capsys, "--models", tmp_path, "--port", 0)
    assert (code, error) == (
        2,
        f"serving: {tmp_path}: no model to serve: each is a subdirectory with a card.json\n",
    )


def test_a_port_in_use_stops_the_start(models, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, error = run_main(capsys, "--models", models, "--port", port)
    assert code == 2
    assert error.startswith(f"serving: cannot listen on 127.0.0.1:{port}: Address already in use")


@pytest.mark.parametrize(("option", "value"), [("--port", "65536"), ("--port", "http"), ("--threads", "0")])
def test_a_bad_option_is_explained(option, value, capsys):
    with pytest.raises(SystemExit) as caught:
        main([option, value])
    assert caught.value.code == 2
    assert f"argument {option}: '{value}': give an integer from" in capsys.readouterr().err


def test_without_the_server_extra_the_message_says_what_to_install(models):
    code = (
        "import sys; sys.modules['uvicorn'] = None\n"
        f"from serving.__main__ import main; sys.exit(main(['--models', {str(models)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'serving: uvicorn is missing: pip install "generative-zoo[server]"\n'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_real_server_from_start_to_signal(models, tanh_model, number):
    command = [sys.executable, "-m", "serving", "--models", str(models), "--port", "0", "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=models, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            ready = server.stdout.readline()
            found = re.fullmatch(r"serving on (http://127\.0\.0\.1:\d+): mirror-model, tanh-model\n", ready)
            assert found, server.stderr.read()
            request = json.dumps({"id": "1", "parameters": {"count": 2, "seed": 9}}).encode()
            with urllib.request.urlopen(f"{found[1]}{INFER}", request, timeout=30) as answer:
                (image,) = json.load(answer)["outputs"]
            with pytest.raises(urllib.error.HTTPError, match="413"):  # a client that sends everything before it reads
                urllib.request.urlopen(f"{found[1]}{INFER}", b" " * (BODY_LIMIT + 1), timeout=30)
            server.send_signal(number)
            rest, error = server.communicate(timeout=30)
        finally:
            server.kill()
    assert (server.returncode, rest, error) == (0, "", "")
    expected = Pipeline.from_directory(tanh_model).sample(2, 9, output_type="float32")
    np.testing.assert_array_equal(array_of(image), expected)
