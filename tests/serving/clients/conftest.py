"""The real server, as the tests of `tests/serving/server` start it."""

from tests.serving.server.conftest import start

__all__ = ["start"]
