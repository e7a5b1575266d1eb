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
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from serving import Pipeline
from serving.__main__ import main
from serving.server.limits import BODY_LIMIT, Limits

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


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--deadline", "soon", "'soon': give a number from 0.01 to 86400"),
        ("--deadline", "nan", "'nan': give a number from 0.01 to 86400"),
        ("--drain", "-1", "'-1': give a number from 0 to 86400"),
        ("--body-limit", "1.5", "'1.5': give an integer from 1024 to 2147483648"),
        ("--connections", "0", "'0': give an integer from 1 to 65536"),
    ],
)
def test_a_bad_limit_is_explained(option, value, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main([f"{option}={value}"])
    assert caught.value.code == 2
    assert f"argument {option}: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no token can be read: No such file or directory"),
        (b"\xff" * 20, "no token can be read: it holds other signs than ASCII"),
        (b"short\n", "a token is one word of at least 8 characters"),
        (b"two words of it\n", "a token is one word of at least 8 characters"),
    ],
)
def test_a_token_that_is_none_stops_the_start(tmp_path, content, message, capsys):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        main(["--token-file", str(file)])
    assert caught.value.code == 2
    assert f"argument --token-file: {file}: {message}" in capsys.readouterr().err


def test_options_reach_the_server(tmp_path, monkeypatch):
    """Every limit by its option, the token by its file."""
    (tmp_path / "token").write_text("a-long-token\n")
    given = {}
    monkeypatch.setattr("serving.server.run.serve", lambda **options: given.update(options))
    limits = {each.name: each.metadata["low"] + 1 for each in fields(Limits)}
    options = [f"--{name.replace('_', '-')}={value:g}" for name, value in limits.items()]
    options += [
        f"--token-file={tmp_path / 'token'}",
        "--cors-origin=http://a",
        "--cors-origin=http://b",
        "--log-requests",
        *(
            "--name=a",
            "--name=b",
            "--watch",
            "--unload-after=60",
            "--require-gpu",
            "--batch-delay=0.01",
            "--batch-rows=4",
        ),
    ]
    assert main(options) == 0
    assert given["limits"] == Limits(**limits)
    assert (given["token"], given["cors_origins"]) == ("a-long-token", ["http://a", "http://b"])
    assert given["log_requests"]
    assert (given["names"], given["unload_after"]) == (["a", "b"], 60.0)
    assert (given["batch_delay"], given["batch_rows"]) == (0.01, 4)
    assert given["watch"]
    assert given["require_gpu"]


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
