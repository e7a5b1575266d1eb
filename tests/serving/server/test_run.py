"""The end of the real server: what is in hand is answered whole, or refused whole, and the process is gone in time."""

import http.client
import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from serving.server.grpc import inference_pb2 as pb
from serving.server.limits import LINGER
from serving.server.run import _listen

SEED_0 = {"parameters": {"count": 1, "seed": 0}}


def wait_for_a_run(file):
    end = time.monotonic() + 30
    while not file.read_text():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_body_of_an_answer_does_not_wait_for_its_head():
    with _listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_hand_are_answered_or_refused_by_the_deadline(start, tmp_path, number):
    server = start("--workers", 1, "--drain", 1.5, slow=(0.5, tmp_path / "runs"))
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(server.infer, SEED_0) for _ in range(12)]
        wait_for_a_run(tmp_path / "runs")
        time.sleep(0.2)  # all of them are in hand
        server.process.send_signal(number)
        time.sleep(0.3)
        assert server.ask("GET", "/v2/health/live").json() == {"live": True}
        ready = server.ask("GET", "/v2/health/ready")
        assert (ready.status, ready.json()) == (503, {"ready": False, "error": "the server is about to stop"})
        late = server.infer(SEED_0)
        answers = [future.result() for future in asked]
    assert server.process.wait(10 + LINGER) == 0
    statuses = [answer.status for answer in answers]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) <= 5
    for answer in [late, *answers]:
        if answer.status == 200:
            assert len(answer.json()["outputs"][0]["data"]) == 64
        else:
            assert answer.headers["retry-after"] == "1"
            assert answer.json() == {"error": "the server is about to stop: ask again, or another"}
    assert server.log == []


@pytest.mark.parametrize("signals", [1, 2])
def test_a_run_that_lasts_keeps_nothing_from_its_end(start, tmp_path, signals):
    """The second signal does not wait for the deadline."""
    server = start("--drain", 0.5 if signals == 1 else 1000, slow=(1000, tmp_path / "runs"))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.infer, SEED_0)
        wait_for_a_run(tmp_path / "runs")
        for _ in range(signals):
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        assert asked.result().status == 503
    assert server.process.wait(10 + LINGER) == 0


def test_an_answer_that_is_being_read_is_whole(start):
    server = start("--drain", 0)
    body = json.dumps({"parameters": {"count": 256, "seed": 0}}).encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
        client.settimeout(30)
        client.connect(("127.0.0.1", server.port))
        head = f"POST /v2/models/tanh-model/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert answer.status == 200
        assert json.loads(answer.read())["outputs"][0]["shape"] == [256, 8, 8, 1]
    assert server.process.wait(10 + LINGER) == 0


def test_an_idle_server_ends_at_once(start):
    server = start("--drain", 1000)
    with server.connect(), server.connect() as half:
        half.sendall(b"GET /v2 HTTP/1.1\r\n")
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10 + LINGER) == 0


def test_calls_over_grpc_are_drained_as_well(start, tmp_path):
    server = start("--grpc-port", 0, "--drain", 10, slow=(1, tmp_path / "runs"))
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        request = pb.ModelInferRequest(model_name="tanh-model")
        request.parameters["count"].int64_param = 1
        call = infer.future(request, timeout=30)
        wait_for_a_run(tmp_path / "runs")
        server.process.send_signal(signal.SIGTERM)
        assert call.result().outputs
    assert server.process.wait(10) == 0
