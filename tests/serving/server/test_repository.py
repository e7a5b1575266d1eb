"""Which directories of models can be served."""

import pytest

from serving.card import CardError
from serving.server.repository import Repository


def test_a_directory_that_cannot_be_served_is_named(models, tanh_model, edit_card, tmp_path, caplog):
    with pytest.raises(CardError, match="there is no such directory of models"):
        Repository(tmp_path / "none")
    with pytest.raises(CardError, match="no model to serve: each is a subdirectory with a card"):
        Repository(tanh_model)
    edit_card(tanh_model, '"tanh-model"', '"mirror-model"')
    with pytest.raises(CardError, match=r"tanh-model/card\.json: a second model named 'mirror-model'"):
        Repository(models)


def test_a_model_without_a_graph_is_left_out_aloud(models, tanh_model, edit_card, caplog):
    edit_card(tanh_model, '"default_ability": "generate"', '"default_ability": "reconstruct"', checked=True)
    assert list(Repository(models).models) == ["mirror-model"]
    assert "tanh-model: not served: its default ability has no ONNX file" in caplog.text
