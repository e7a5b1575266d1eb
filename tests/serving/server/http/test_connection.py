"""Clients that are slow, silent, many, or gone, against the real server: none keeps others from their answers."""

import contextlib
import http.client
import json
import select
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

INFER = "/v2/models/tanh-model/infer"
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"
SEED_0 = json.dumps({"parameters": {"count": 1, "seed": 0}}).encode()
MEGABYTE = 2**20


def seed(number, count=1):
    return {"parameters": {"count": count, "seed": number}}


@pytest.fixture(scope="module")
def hasty(start):
    """A server whose patience is short."""
    return start("--head-timeout", 0.5, "--body-timeout", 1, "--answer-timeout", 2, "--idle-timeout", 1)


def receive_all(client):
    """What comes until the server closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := client.recv(2**16):
            received += piece
    return received


def read_answer(client):
    answer = http.client.HTTPResponse(client)
    answer.begin()
    return answer


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def runs_in(file):
    return len(file.read_text().splitlines())


def test_a_silent_client_is_cut_off(hasty):
    with hasty.connect() as client:
        assert receive_all(client) == b""


def test_half_a_head_is_a_408(hasty):
    answer = hasty.send(b"GET /v2 HTTP/1.1\r\nHos")
    assert (answer.status, answer.json()) == (408, {"error": "the head took more than 0.5 seconds"})


def test_a_head_that_trickles_is_a_408(hasty):
    """Each byte is early enough; all of them are too late."""
    with hasty.connect() as client:
        began = time.monotonic()
        client.sendall(b"GET /v2 HTTP/1.1\r\n")
        while not select.select([client], [], [], 0.1)[0]:
            client.sendall(b"X: y\r\n")
            assert time.monotonic() < began + 10
        assert read_answer(client).status == 408


def test_half_a_body_is_a_408(hasty):
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n".encode()
    answer = hasty.send(head + b"{")
    assert (answer.status, answer.json()) == (408, {"error": "the body took more than 1 seconds"})


def test_an_idle_connection_is_closed_after_its_answer(hasty):
    with hasty.connect() as client:
        client.sendall(LIVE)
        assert receive_all(client).endswith(b'{"live":true}')


def test_a_client_that_does_not_read_is_cut_off(hasty):
    """256 images are 350 KB; their answers fill the buffers of both sockets, and then the server's."""
    request = json.dumps(seed(0, 256)).encode()
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(request)}\r\n\r\n".encode()
    client = socket.socket()
    with client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
        client.settimeout(30)
        client.connect(("127.0.0.1", hasty.port))
        client.sendall((head + request) * 60)
        time.sleep(6)
        received = receive_all(client)
    assert received.count(b"200 OK") < 60
    assert hasty.infer(seed(1)).status == 200


def test_a_silent_crowd_keeps_nobody_out(start):
    server = start("--connections", 20)
    with contextlib.ExitStack() as crowd:
        for number in range(200):
            client = crowd.enter_context(server.connect())
            client.sendall(b"GET /v2 HT" if number % 2 else b"")
        assert server.infer(seed(0)).status == 200
        assert server.ask("GET", "/v2/health/live").status == 200


def test_a_busy_crowd_leaves_health_to_answer(start, tmp_path):
    """Every connection within the cap waits for a run; the next ones are told so, but for health."""
    runs = tmp_path / "runs"
    server = start("--connections", 4, "--queue", 8, slow=(3, runs))
    request = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(SEED_0)}\r\n\r\n".encode() + SEED_0
    with contextlib.ExitStack() as crowd:
        for _ in range(4):
            crowd.enter_context(server.connect()).sendall(request)
        wait_until(lambda: runs_in(runs) > 0)
        refused = server.infer(seed(0))
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert refused.headers["connection"] == "close"
        assert "only health is answered" in refused.json()["error"]
        assert server.ask("GET", "/v2/health/live").json() == {"live": True}
        assert server.ask("GET", "/v2/health/ready").json() == {"ready": True}


def test_bodies_beyond_the_budget_are_a_429_and_memory_stays(start):
    server = start("--body-limit", 4 * MEGABYTE, "--body-budget", 16 * MEGABYTE)
    before = server.memory()
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {4 * MEGABYTE}\r\n\r\n".encode()
    with contextlib.ExitStack() as crowd:
        clients = [crowd.enter_context(server.connect()) for _ in range(12)]
        for client in clients:
            client.sendall(head + b" " * (7 * MEGABYTE // 2))  # the last half of a megabyte does not come
        wait_until(lambda: server.memory() > before + 12 * MEGABYTE)
        answer = server.infer(b" " * 4 * MEGABYTE)
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert answer.json() == {"error": "the requests in hand fill the memory that this server gives them"}
        assert server.memory("VmHWM") < before + 64 * MEGABYTE
    wait_until(lambda: server.infer(b" " * 4 * MEGABYTE).status == 400)  # they are gone, and their bytes are free


def test_more_than_the_queue_takes_is_a_429(start, tmp_path):
    runs = tmp_path / "runs"
    server = start("--workers", 1, "--queue", 2, slow=(1, runs))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(server.infer, [seed(number) for number in range(8)]))
    statuses = [answer.status for answer in answers]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 3
    refused = next(answer for answer in answers if answer.status == 429)
    assert int(refused.headers["retry-after"]) >= 1


def test_work_of_clients_that_left_is_not_run(start, tmp_path):
    runs = tmp_path / "runs"
    server = start("--workers", 1, slow=(1, runs))
    request = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(SEED_0)}\r\n\r\n".encode() + SEED_0
    with contextlib.ExitStack() as crowd:
        for _ in range(30):
            crowd.enter_context(server.connect()).sendall(request)
        wait_until(lambda: runs_in(runs) == 1)
    assert server.infer(seed(1)).status == 200
    assert runs_in(runs) <= 3  # that which ran already, and this one


def test_a_request_has_its_deadline(start, tmp_path):
    runs = tmp_path / "runs"
    server = start("--workers", 1, "--deadline", 0.5, slow=(2, runs))
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(server.infer, [seed(number) for number in range(3)]))
    for answer in answers:
        assert answer.status == 504
        assert list(answer.json()) == ["error"]
    time.sleep(2)
    assert runs_in(runs) == 1


GOOD = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(SEED_0)}\r\n\r\n".encode() + SEED_0
SIGNS = st.sampled_from(
    [b"\r\n", b"\r\n\r\n", b"\0", b":", b" ", b"\xff", b"HTTP/9.9", b"chunked", b"99999999999", b"-1"]
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 9), SIGNS | st.binary(max_size=3)), max_size=4)
)
def test_any_edit_of_the_bytes_of_a_request_is_answered_in_json_or_cut_off(hasty, edits):
    sent = GOOD
    for place, removed, inserted in edits:
        sent = sent[:place] + inserted + sent[place + removed :]
    with hasty.connect() as client:
        client.sendall(sent)
        with contextlib.suppress(http.client.BadStatusLine, ConnectionError):
            answer = http.client.HTTPResponse(client, method="HEAD" if sent.startswith(b"HEAD") else "POST")
            answer.begin()
            content = answer.read()
            assert answer.status < 500 or answer.status in (501, 505)
            assert not content or set(json.loads(content)) & {"error", "outputs"}
    assert hasty.process.poll() is None
    assert not any("Traceback" in line for line in hasty.log)
