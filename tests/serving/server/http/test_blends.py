"""Images between two seeds: the ends are those of :sample."""

import io

import numpy as np
import pytest


def ask(client, action, **request):
    return client.post(f"/v1/models/{action}", json=request)


def array(client, action, **request):
    answer = ask(client, action, format="npy", **request)
    assert answer.status_code == 200, answer.text
    return np.load(io.BytesIO(answer.content))


@pytest.mark.parametrize(
    ("model", "options"),
    [("tanh-model", {}), ("mirror-model", {}), ("mirror-model", {"label": "bag", "truncation": 0.5, "start": 2})],
)
def test_the_ends_of_a_walk_are_the_samples_of_the_seeds(client, model, options):
    for seed, position in ((3, 0), (8, 1)):
        found = ask(client, f"{model}:interpolate", seed=3, to=8, position=position, **options)
        assert found.headers["content-type"] == "image/png"
        assert found.content == ask(client, f"{model}:sample", seed=seed, **options).content
    middle = array(client, f"{model}:interpolate", seed=3, to=8, position=0.5, **options)
    assert all((middle != array(client, f"{model}:sample", seed=seed, **options)).any() for seed in (3, 8))


@pytest.mark.parametrize(
    ("action", "request_", "message"),
    [
        ("tanh-model:interpolate", {"position": 1.5}, "position=1.5: give 0 for the first seed to 1 for the second"),
        ("tanh-model:interpolate", {"to": -1}, "seed=-1: give 0 <= seed < 2**64"),
        ("tanh-model:interpolate", {"label": 1}, "no input of this ability takes a label"),
        ("tanh-model:interpolate", {"layers": 1}, "unknown field `layers`"),
        ("tanh-model.encode:interpolate", {}, "which no seed gives"),
        ("tanh-model:interpolate?seed=1", {}, "stand in the body, as JSON"),
        ("tanh-model:mix", {}, "'tanh-model' mixes no styles"),
    ],
)
def test_a_bad_request_is_a_400(client, action, request_, message):
    answer = ask(client, action, **request_)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_the_first_layers_have_the_style_of_the_one_seed_and_the_others_of_the_other(open_client, style_model):
    client = open_client(style_model)
    first, mixed, second = (array(client, "style-model:mix", seed=3, to=8, layers=layers)[0] for layers in (2, 1, 0))
    assert (first[0] == first[1]).all()
    assert (second[0] == second[1]).all()
    assert (first != second).any()
    np.testing.assert_array_equal(mixed, np.stack([first[0], second[0]]))
    np.testing.assert_array_equal(mixed, array(client, "style-model:mix", seed=3, to=8)[0])
    answer = ask(client, "style-model:mix", layers=3)
    assert (answer.status_code, "layers=3: give 0 to 2" in answer.json()["error"]) == (400, True)
