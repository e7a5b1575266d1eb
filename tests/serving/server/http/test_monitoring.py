"""What Prometheus is told of requests over HTTP."""

import re

import pytest
from starlette.testclient import TestClient

from serving.server.http.app import create_app
from serving.server.repository import Repository

SAMPLE = {"parameters": {"count": 3, "seed": 0}}


@pytest.fixture
def client(models):
    with TestClient(create_app(Repository(models, threads=1)), raise_server_exceptions=False) as client:
        yield client


def read(client):
    """Metric with its labels -> value."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line.rpartition(" ") for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def count_requests(client, protocol, model, status):
    pattern = rf'serving_request_seconds_count{{.*model="{model}",protocol="{protocol}",status="{status}"}}'
    return sum(value for name, value in read(client).items() if re.fullmatch(pattern, name))


def test_answers_are_counted_by_protocol_model_and_status(client):
    for _ in range(2):
        assert client.post("/v2/models/tanh-model/infer", json=SAMPLE).status_code == 200
    assert client.post("/v2/models/tanh-model/infer", json={}).status_code == 400
    assert client.post("/v1/models/tanh-model:sample", json={}).status_code == 200
    assert count_requests(client, "v2", "tanh-model", 200) == 2
    assert count_requests(client, "v2", "tanh-model", 400) == 1
    assert count_requests(client, "rest", "tanh-model", 200) == 1
    found = read(client)
    (inferences,) = [
        value
        for name, value in found.items()
        if name.startswith("serving_inferences_total{") and "generate" in name and "tanh" in name
    ]
    assert inferences == 2 * 3 + 1


def test_made_up_names_make_no_series(client):
    for number in range(5):
        assert client.post(f"/v2/models/no-{number}/infer", json=SAMPLE).status_code == 404
    assert count_requests(client, "v2", "other", 404) == 5
    assert not [name for name in read(client) if "no-" in name]


def test_health_and_metrics_are_no_requests_of_a_model(client):
    client.get("/v2/health/live")
    read(client)
    assert not [name for name in read(client) if name.startswith("serving_request_seconds_count")]
