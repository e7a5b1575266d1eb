"""What every request has, whatever its route: an id, a token, a line in the log; and what browsers may do."""

import json
import logging

import pytest
from starlette.testclient import TestClient

from serving.server.errors import QueueFullError
from serving.server.http.app import create_app
from serving.server.http.context import Budget
from serving.server.http.exchange import requests_log
from serving.server.limits import Limits
from serving.server.repository import Repository

INFER = "/v2/models/tanh-model/infer"
SEED_0 = {"parameters": {"count": 1, "seed": 0}}
TOKEN = "a-long-token"


@pytest.fixture
def ask(shared_models):
    """A client of an application with these options."""

    def ask(**options):
        return TestClient(create_app(Repository(shared_models, threads=1), **options), raise_server_exceptions=False)

    return ask


def test_a_request_keeps_its_id(ask):
    for answer in (
        ask().post(INFER, json=SEED_0, headers={"X-Request-Id": "job:7.a-b_c"}),
        ask().get("/none", headers={"X-Request-Id": "job:7.a-b_c"}),
    ):
        assert answer.headers["x-request-id"] == "job:7.a-b_c"


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, "<script>", "a\xff", "../../etc/passwd"])
def test_an_id_that_a_log_should_not_hold_is_replaced(ask, given):
    headers = {} if given is None else {"X-Request-Id": given.encode("latin-1")}
    answers = [ask().get("/v2", headers=headers).headers["x-request-id"] for _ in range(2)]
    assert answers[0] != answers[1]
    assert all(len(answer) == 32 and int(answer, 16) for answer in answers)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"Authorization": TOKEN},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer \xff".encode("latin-1")},
    ],
)
def test_without_the_token_only_health_is_answered(ask, given):
    client = ask(token=TOKEN)
    for method, path in (("GET", "/v2"), ("POST", INFER), ("GET", "/none")):
        answer = client.request(method, path, headers=given)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json() == {"error": "give the token: Authorization: Bearer TOKEN"}
    assert client.get("/v2/health/live", headers=given).json() == {"live": True}
    assert client.get("/v2/health/ready", headers=given).json() == {"ready": True}


def test_with_the_token_all_is_answered(ask):
    answer = ask(token=TOKEN).post(INFER, json=SEED_0, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}


def test_pages_of_other_origins_read_nothing_unless_told(ask):
    client = ask()
    assert "access-control-allow-origin" not in client.get("/v2", headers={"Origin": "http://a"}).headers
    assert client.options(INFER, headers={"Origin": "http://a", **PREFLIGHT}).status_code == 405


def test_pages_of_an_origin_that_is_named_read_the_answers(ask):
    client = ask(cors_origins=["http://a"], token=TOKEN)
    allowed = client.options(INFER, headers={"Origin": "http://a", **PREFLIGHT})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "http://a")
    answer = client.get("/v2", headers={"Origin": "http://a", "Authorization": f"Bearer {TOKEN}"})
    assert answer.headers["access-control-allow-origin"] == "http://a"
    assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
    refused = client.options(INFER, headers={"Origin": "http://b", **PREFLIGHT})
    assert (refused.status_code, refused.json()) == (400, {"error": "Disallowed CORS origin"})


def test_a_request_is_a_line_of_json_in_the_log(ask, caplog):
    client = ask()
    with caplog.at_level(logging.INFO, requests_log.name):
        client.post(INFER, json=SEED_0, headers={"X-Request-Id": "first"})
        client.get("/v2/" + "m" * 3000)
    done, refused = (json.loads(record.message) for record in caplog.records if record.name == requests_log.name)
    assert (done["id"], done["method"], done["path"], done["status"], done["error"]) == (
        "first",
        "POST",
        INFER,
        200,
        "",
    )
    assert done["received"] == len(json.dumps(SEED_0, separators=(",", ":")))
    assert done["sent"] > 64
    assert done["seconds"] > 0
    assert (refused["status"], refused["error"]) == (414, "a name in the path has more than 200 characters")
    assert len(refused["path"]) < 210


def test_an_answer_too_large_is_refused(ask):
    answer = ask(limits=Limits(answer_limit=1024)).post(INFER, json={"parameters": {"count": 8, "seed": 0}})
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "the answer is larger than 1024 bytes: ask for fewer rows in one request"},
    )


def test_answers_count_against_the_budget_and_give_it_back(ask):
    client = ask(limits=Limits(body_budget=120_000))
    large = {"parameters": {"count": 200, "seed": 0}}  # 270 KB
    for _ in range(3):
        assert client.post(INFER, json=large).status_code == 429
        assert client.post(INFER, json=SEED_0).status_code == 200
    assert client.app.state.server.budget.used == 0


def test_a_budget_counts():
    budget = Budget(10)
    budget.take(7)
    with pytest.raises(QueueFullError, match="fill the memory"):
        budget.take(4)
    budget.take(3)
    budget.give_back(10)
    budget.take(10)


@pytest.mark.parametrize(("name", "value"), [("rows", 0), ("deadline", float("nan")), ("connections", 10**9)])
def test_a_limit_out_of_its_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r}: give "):
        Limits(**{name: value})
