"""A client of the application, without a network in between."""

import pytest
from starlette.testclient import TestClient

from serving.server.http.app import create_app
from serving.server.repository import Repository


@pytest.fixture
def open_client():
    """Opens a client of a directory of models."""
    clients = []

    def open_(models):
        clients.append(TestClient(create_app(Repository(models, threads=1)), raise_server_exceptions=False))
        return clients[-1].__enter__()

    yield open_
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(open_client, models):
    return open_client(models)
