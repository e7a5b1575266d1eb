"""A client of the application, without a network in between, and a model of styles."""

import numpy as np
import pytest
from starlette.testclient import TestClient

from serving.card import Ability, Input, Output, encode_card
from serving.server.http.app import create_app
from serving.server.repository import Repository
from tests.serving.conftest import LATENT, _model, build_card

TENSOR = 1  # TensorProto.FLOAT


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


@pytest.fixture
def style_model(tmp_path):
    """style-model: two layers of styles, each the latent; the image shows them, one a row."""
    directory = tmp_path / "styles" / "style-model"
    directory.mkdir(parents=True)
    shape = {"shape": np.array([-1, 2, 4])}
    nodes = [("Concat", ["latent", "latent"], "flat", {"axis": 1}), ("Reshape", ["flat", "shape"], "styles", {})]
    latent, styles = ("latent", TENSOR, ["batch", 4]), ("styles", TENSOR, ["batch", 2, 4])
    mapping = _model(nodes, [latent], [styles], shape)
    nodes = [("Reshape", ["styles", "shape"], "image", {})]
    image = ("image", TENSOR, ["batch", 2, 4, 1])
    synthesis = _model(nodes, [styles], [image], {"shape": np.array([-1, 2, 4, 1])})
    (directory / "map.onnx").write_bytes(mapping.SerializeToString())
    (directory / "synthesize.onnx").write_bytes(synthesis.SerializeToString())
    made = Output("image", "float32", ("batch", 2, 4, 1), "image", (-4.0, 4.0), "NHWC")
    abilities = {
        "map": Ability((LATENT,), (Output("styles", "float32", ("batch", 2, 4), "style"),), "map.onnx"),
        "synthesize": Ability((Input("styles", "float32", ("batch", 2, 4), "style"),), (made,), "synthesize.onnx"),
    }
    card = build_card("style-model", abilities, directory, default="synthesize")
    (directory / "card.json").write_bytes(encode_card(card))
    return directory.parent
