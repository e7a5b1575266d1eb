# /// script
# requires-python = ">=3.11"
# dependencies = ["openai==3.57.0", "numpy>=2", "pillow>=11"]
# ///
"""The OpenAI Python client against a running server. Argument: the port.

    uv run tests/serving/clients/openai_images.py 8000

The server serves tanh-model and mirror-model of tests/serving/conftest.py.
"""

import base64
import io
import sys

import numpy as np
import openai
from PIL import Image


def pixels(answer):
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(image.b64_json)))) for image in answer.data]


def check(port):
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == ["mirror-model", "tanh-model"]

    asked = {"model": "tanh-model", "prompt": "", "n": 3, "size": "8x8", "response_format": "b64_json"}
    first = client.images.generate(**asked, extra_body={"seed": 7})
    again = client.images.generate(**asked, extra_body={"seed": 7})
    assert [image.shape for image in pixels(first)] == [(8, 8)] * 3
    np.testing.assert_array_equal(pixels(first), pixels(again))
    new = client.images.generate(**asked)
    assert new.seed != client.images.generate(**asked).seed
    same = client.images.generate(**asked, extra_body={"seed": new.seed})
    np.testing.assert_array_equal(pixels(new), pixels(same))

    # The last pixel of this model is its label, -8 to 8 as black to white.
    (image,) = pixels(client.images.generate(model="mirror-model", prompt="bag"))
    assert image[0, 6] == round((2 + 8) * 255 / 16)

    for error, request in (
        (openai.NotFoundError, {"model": "dall-e-3", "prompt": ""}),
        (openai.BadRequestError, {"model": "tanh-model", "prompt": "a cat"}),
        (openai.BadRequestError, {"model": "tanh-model", "prompt": "", "size": "1024x1024"}),
        (openai.BadRequestError, {"model": "tanh-model", "prompt": "", "n": 1000}),
    ):
        try:
            client.images.generate(**request)
        except error as found:
            assert found.body["message"], found.body
        else:
            raise AssertionError(f"{request} was answered")


if __name__ == "__main__":
    check(sys.argv[1])
    print("good")
