"""Inference is arrays in, arrays out, and knows no protocol."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from serving import Pipeline, read_card
from serving.server.batching import BatchingOptions
from serving.server.inference import ServedModel
from serving.session import InputError

ROW_LIMIT = 8


@pytest.fixture
def served(tanh_model):
    def open_pipelines():
        return {name: Pipeline.from_directory(tanh_model, ability=name) for name in ("encode", "generate")}

    return ServedModel(read_card(tanh_model), open_pipelines, BatchingOptions(request_rows=ROW_LIMIT))


def latents(count):
    return np.linspace(-1, 1, count * 4, dtype=np.float32).reshape(count, 4)


def test_feeds_go_through_the_graph(served, weights):
    results = served.infer({"latent": latents(3)})
    assert list(results) == ["image"]
    np.testing.assert_allclose(results["image"].reshape(3, 64), np.tanh(latents(3) @ weights), atol=1e-6)


def test_another_ability_and_one_of_its_outputs(served, weights):
    image = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 8, 8, 1)
    results = served.infer({"image": image}, ability="encode", outputs=["code"])
    np.testing.assert_allclose(results["code"], image.reshape(1, 64) @ weights.T, rtol=1e-5)


def test_sampling_parameters_are_those_of_the_sampler(served, tanh_model):
    results = served.infer({}, sampling={"count": 2, "seed": 5, "start": 3})
    expected = Pipeline.from_directory(tanh_model).sample(2, 5, start=3, output_type="float32")
    np.testing.assert_array_equal(results["image"], expected)


@pytest.mark.parametrize(
    ("feeds", "options", "message"),
    [
        ({}, {}, "nothing to do"),
        ({"latent": latents(1)}, {"ability": "draw"}, "serves no ability 'draw': choose from"),
        ({"latent": latents(1)}, {"sampling": {"count": 1}}, "exclude each other"),
        ({"latent": latents(ROW_LIMIT + 1)}, {}, "9 rows: give 1 to 8"),
        ({}, {"sampling": {"count": ROW_LIMIT + 1}}, "9 rows: give 1 to 8"),
        ({"latent": latents(1)}, {"outputs": ["code"]}, r"outputs \['code'\] are unknown: this answer has \['image'\]"),
    ],
)
def test_what_does_not_fit_is_refused(served, feeds, options, message):
    with pytest.raises(InputError, match=message):
        served.infer(feeds, **options)


def test_no_protocol_is_loaded():
    code = (
        "import sys, serving.server.inference\n"
        "found = [name for name in sys.modules if name.startswith(('serving.server.http', 'starlette', 'uvicorn'))]\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True, timeout=60)
