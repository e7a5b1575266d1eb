"""Errors as clients see them."""

import pytest
from starlette.exceptions import HTTPException

from serving.server.errors import AbandonedError, DeadlineError, QueueFullError, UnavailableError, UnknownModelError
from serving.server.http.errors import describe, shorten
from serving.session import InputError, ModelFileError


@pytest.mark.parametrize(
    ("error", "status", "message", "headers"),
    [
        (InputError("two\nlines"), 400, "two lines", {}),
        (UnknownModelError("there is no model 'x'"), 404, "there is no model 'x'", {}),
        (FloatingPointError("output 'x'"), 422, "output 'x'", {}),
        (ModelFileError("/secret/x.onnx: why"), 422, "the model's graph fails on these inputs", {}),
        (QueueFullError("9 wait", 2.1), 429, "9 wait", {"Retry-After": "3"}),
        (UnavailableError("loading"), 503, "loading", {"Retry-After": "1"}),
        (DeadlineError("late"), 504, "late", {}),
        (AbandonedError("gone"), 499, "the client went away", {}),
        (HTTPException(405, headers={"Allow": "POST"}), 405, "Method Not Allowed", {"Allow": "POST"}),
        (RuntimeError("secret"), 500, "the server failed; its log says why", {}),
        (KeyError("secret"), 500, "the server failed; its log says why", {}),
        (TimeoutError("secret"), 500, "the server failed; its log says why", {}),
    ],
)
def test_an_error_has_a_status_and_one_line(error, status, message, headers):
    failure = describe(error)
    assert (failure.status, failure.headers) == (status, headers)
    assert failure.message.startswith(message)
    assert "secret" not in failure.message


def test_nothing_that_is_quoted_is_long():
    assert shorten("there is no model 'x': choose from ['a', 'b']") == "there is no model 'x': choose from ['a', 'b']"
    assert shorten(f"no {'x' * 201} here") == f"no {'x' * 200}... here"
    assert len(shorten("x" * 15_000_000)) == 203
    assert len(shorten("x " * 10**6)) == 1004
