"""Images in the form of OpenAI's API."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from serving import Pipeline

PATH = "/v1/images/generations"


def generate(client, **request):
    return client.post(PATH, json=request)


def pixels(answer):
    files = [base64.b64decode(each["b64_json"]) for each in answer.json()["data"]]
    return np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])


def test_images_of_a_seed_are_those_of_the_sampler(client, tanh_model):
    answer = generate(client, model="tanh-model", prompt="", n=3, size="8x8", seed=7, response_format="b64_json")
    assert answer.status_code == 200
    assert {key: answer.json()[key] for key in ("size", "output_format", "seed")} == {
        "size": "8x8",
        "output_format": "png",
        "seed": 7,
    }
    assert type(answer.json()["created"]) is int
    np.testing.assert_array_equal(pixels(answer), Pipeline.from_directory(tanh_model).sample(3, 7)[..., 0])


def test_without_a_seed_it_is_a_new_one_each_time_and_named(client):
    first, second = (generate(client, model="tanh-model", prompt="") for _ in range(2))
    assert first.json()["seed"] != second.json()["seed"]
    again = generate(client, model="tanh-model", prompt="", seed=first.json()["seed"], size="auto")
    assert again.json()["data"] == first.json()["data"]
    assert len(again.json()["data"]) == 1


@pytest.mark.parametrize(("prompt", "label"), [("bag", 2), (" SHOE ", 1), ("0", 0), ("", None)])
def test_the_prompt_is_a_class(client, mirror_model, prompt, label):
    found = pixels(generate(client, model="mirror-model.generate", prompt=prompt, n=2, seed=1, size="7x1"))
    expected = Pipeline.from_directory(mirror_model).sample(2, 1, labels=label)
    np.testing.assert_array_equal(found, expected[..., 0])


@pytest.mark.parametrize("format_", ["jpeg", "webp"])
def test_other_formats_of_files(client, format_):
    answer = generate(client, model="tanh-model", prompt="", output_format=format_)
    file = base64.b64decode(answer.json()["data"][0]["b64_json"])
    assert Image.open(io.BytesIO(file)).format == format_.upper()


def test_fields_that_change_nothing_are_passed_over(client):
    answer = generate(client, model="tanh-model", prompt="", user="me", quality="high", background="auto", n=None)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("request_", "param", "message"),
    [
        ({}, "model", "name one of ['mirror-model', 'tanh-model']"),
        ({"model": "tanh-model.encode"}, "model", "makes no images from a seed"),
        ({"model": "tanh-model", "prompt": "a cat"}, "prompt", "this model has no classes to choose from"),
        ({"model": "mirror-model", "prompt": "a cat"}, "prompt", "'a cat' is no class of this model: choose from ['sh"),
        ({"model": "mirror-model", "prompt": "3"}, None, "label 3: the classes are 0 to 2"),
        ({"model": "mirror-model", "prompt": "9" * 10**6}, "prompt", "is no class of this model"),
        ({"model": "tanh-model", "size": "1024x1024"}, "size", "'1024x1024': this model makes images of 8x8"),
        ({"model": "tanh-model", "response_format": "url"}, "response_format", "give 'b64_json'"),
        ({"model": "tanh-model", "output_format": "gif"}, "output_format", "choose from ['png', 'jpeg', 'webp']"),
        ({"model": "tanh-model", "stream": True}, "stream", "images come whole"),
        ({"model": "tanh-model", "n": 0}, None, "0 rows: give 1 to 256"),
        ({"model": "tanh-model", "n": 257}, None, "257 rows: give 1 to 256"),
        ({"model": "tanh-model", "n": "2"}, None, "Expected `int | null`, got `str` - at `$.n`"),
        ({"model": "tanh-model", "seed": -1}, None, "seed=-1: give 0 <= seed < 2**64"),
        ({"model": "m" * 1000}, None, "Expected `str` of length <= 200"),
    ],
)
def test_a_bad_request_is_a_400_in_this_form(client, request_, param, message):
    answer = generate(client, **request_)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert message in error.pop("message")
    assert error == {"type": "invalid_request_error", "param": param, "code": None}


def test_an_unknown_model_is_a_404_in_this_form(client):
    answer = generate(client, model="dall-e-3", prompt="")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert "'dall-e-3'" in error.pop("message")
    assert error == {"type": "invalid_request_error", "param": "model", "code": "model_not_found"}


def test_a_body_that_is_too_large_or_no_json_is_refused_in_this_form(client):
    assert client.post(PATH, content=b"{").json()["error"]["type"] == "invalid_request_error"
    answer = client.post(PATH, content=b" " * 2**25)
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "invalid_request_error")


def test_a_failure_is_a_500_in_this_form_and_shows_no_secret(client, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("secret")

    monkeypatch.setattr(client.app.state.server.repository, "find", fail)
    answer = generate(client, model="tanh-model", prompt="")
    assert answer.status_code == 500
    message = "the server failed; its log says why"
    assert answer.json() == {"error": {"message": message, "type": "server_error", "param": None, "code": None}}


def test_models_are_listed_in_this_form_beside_the_status_of_tensorflow_serving(client):
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["mirror-model", "tanh-model"]
    assert set(listed["data"][0]) == {"id", "object", "created", "owned_by"}
    assert "model_version_status" in client.get("/v1/models/tanh-model").json()
