"""Actions for people: files in, files out."""

import io

import numpy as np
import pytest
from PIL import Image

from serving import Pipeline
from serving.card import Ability, Input, Output
from serving.images import save_grid
from serving.server.http.actions import choose_format
from serving.server.http.uploads import PIXEL_LIMIT


def sample(client, model="tanh-model", headers=None, **request):
    return client.post(f"/v1/models/{model}:sample", json=request, headers=headers)


def pixels(answer):
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def as_file(array, format_="png"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, format_)
    return file.getvalue()


def test_nothing_asked_is_the_first_image_of_seed_0(client, tanh_model):
    expected = Pipeline.from_directory(tanh_model).sample(1)[0, ..., 0]
    for answer in (client.post("/v1/models/tanh-model:sample"), sample(client), sample(client, "tanh-model.generate")):
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        np.testing.assert_array_equal(pixels(answer), expected)


def test_several_images_are_the_very_grid_of_the_command_line(client, tanh_model):
    answer = sample(client, count=5, seed=3, start=2)
    expected = io.BytesIO()
    save_grid(Pipeline.from_directory(tanh_model).sample(5, 3, start=2), expected)
    assert answer.content == expected.getvalue()
    assert pixels(sample(client, count=6, columns=6)).shape == (12, 62)


@pytest.mark.parametrize(
    ("headers", "request_"), [({"Accept": "application/x-npy"}, {}), ({"Accept": "image/png"}, {"format": "npy"})]
)
def test_npy_is_the_array_of_the_command_line(client, mirror_model, headers, request_):
    options = {"count": 2, "seed": 3, "label": ["bag", 0], "truncation": 0.5}
    answer = sample(client, "mirror-model", headers, **options, **request_)
    assert answer.headers["content-type"] == "application/x-npy"
    expected = Pipeline.from_directory(mirror_model).sample(2, 3, labels=["bag", 0], truncation=0.5)
    found = np.load(io.BytesIO(answer.content))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("model", "request_", "message"),
    [
        ("tanh-model", {"count": 0}, "0 rows: give 1 to 256"),
        ("tanh-model", {"count": 10**9}, "1000000000 rows: give 1 to 256"),
        ("tanh-model", {"sed": 1}, "unknown field `sed`"),
        ("tanh-model", {"seed": -1}, "seed=-1: give 0 <= seed < 2**64"),
        ("tanh-model", {"label": 1}, "no input of this ability takes a label"),
        ("tanh-model", {"truncation": 0.5}, "no input of this ability takes a truncation"),
        ("tanh-model", {"steps": 5}, "this ability draws a sample in one pass, it takes no steps"),
        ("tanh-model", {"columns": 2}, "columns=2: give 1 to 1, the count of the images"),
        ("tanh-model", {"format": "gif"}, "format='gif': choose from ['png', 'npy']"),
        ("tanh-model.encode", {}, "makes no image, only ['code']"),
        ("mirror-model", {"label": "cat"}, "label 'cat': no such class"),
    ],
)
def test_a_bad_request_for_samples_is_a_400(client, model, request_, message):
    answer = sample(client, model, **request_)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_what_is_not_acceptable_is_a_406_and_an_unknown_model_a_404(client):
    assert sample(client, headers={"Accept": "text/html"}).status_code == 406
    assert sample(client, "dcgan").status_code == 404
    assert sample(client, "tanh-model.draw").status_code == 404
    assert client.get("/v1/models/tanh-model:sample").status_code in (404, 405)
    assert "as JSON" in client.post("/v1/models/tanh-model:sample?seed=1").json()["error"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "png"),
        ("*/*", "png"),
        ("application/*", "npy"),
        ("image/avif,image/webp,*/*;q=0.8", "png"),
        ("application/x-npy, image/png;q=0.5", "npy"),
        ("image/png; q=0.9, application/x-npy;q=0.1", "png"),
        ("IMAGE/PNG", "png"),
        ("image/png;q=x, application/x-npy;q=0.1", "npy"),
    ],
)
def test_the_header_accept_chooses_the_format(accept, expected):
    assert choose_format(None, accept) == expected


PIXELS = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


@pytest.fixture
def mirror_of_images(tmp_path, edit_graph):
    """copy-model: reconstruct gives the image back, brighter by the number of its class times 0.25."""
    from onnx import TensorProto, helper

    from serving.card import encode_card
    from tests.serving.conftest import CLASSES, build_card

    directory = tmp_path / "copies" / "copy-model"
    directory.mkdir(parents=True)
    nodes = [
        helper.make_node("Cast", ["label"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["number", "quarter"], ["shift"]),
        helper.make_node("Reshape", ["shift", "shape"], ["column"]),
        helper.make_node("Add", ["image", "column"], ["reconstruction"]),
    ]
    constants = [
        helper.make_tensor("quarter", TensorProto.FLOAT, [], [0.25]),
        helper.make_tensor("shape", TensorProto.INT64, [4], [-1, 1, 1, 1]),
    ]
    size = ["batch", 8, 8, 1]
    graph = helper.make_graph(
        nodes,
        "graph",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, size),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
        ],
        [helper.make_tensor_value_info("reconstruction", TensorProto.FLOAT, size)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (directory / "reconstruct.onnx").write_bytes(model.SerializeToString())
    image = Input("image", "float32", ("batch", 8, 8, 1), "image", (-1.0, 1.0))
    label = Input("label", "int64", ("batch",), "label", classes=CLASSES)
    made = Output("reconstruction", "float32", ("batch", 8, 8, 1), "reconstruction", (-1.0, 1.0))
    abilities = {"reconstruct": Ability((image, label), (made,), "reconstruct.onnx")}
    (directory / "card.json").write_bytes(encode_card(build_card("copy-model", abilities, directory, "reconstruct")))
    return directory.parent


def test_an_image_is_reconstructed(open_client, mirror_of_images):
    client, path = open_client(mirror_of_images), "/v1/models/copy-model:reconstruct"
    answer = client.post(f"{path}?label=shirt", content=as_file(PIXELS))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    np.testing.assert_array_equal(pixels(answer), PIXELS)
    answer = client.post(f"{path}?label=1&format=npy", content=as_file(np.zeros((8, 8), np.uint8)))
    assert np.load(io.BytesIO(answer.content)).tolist() == np.full((1, 8, 8, 1), 32).tolist()
    color = np.repeat(np.full((24, 16, 1), 128, np.uint8), 3, axis=2)
    answer = client.post(f"{path}?label=shirt&resize=true", content=as_file(color, "webp"))
    np.testing.assert_array_equal(pixels(answer), np.full((8, 8), 128))


@pytest.mark.parametrize(
    ("query", "content", "message"),
    [
        ("", as_file(PIXELS), "say the class of the image: ?label= one of ['shirt', 'shoe', 'bag']"),
        ("?label=cat", as_file(PIXELS), "label 'cat': no such class"),
        ("?label=shirt", as_file(PIXELS[1:]), "the image has 8x7 pixels, and the model takes 8x8"),
        ("?label=shirt", b"", "there is no image: send the bytes of a file"),
        ("?label=shirt", b"GIF89a", "this is no image file: send the bytes of one of ['PNG', 'JPEG', 'WEBP']"),
        ("?label=shirt", as_file(PIXELS)[:-30], "the image file is damaged"),
        ("?label=shirt&size=3", as_file(PIXELS), "unknown field `size`"),
        ("?label=shirt&resize=perhaps", as_file(PIXELS), "the query is not one of this action"),
        ("?label=shirt&format=gif", as_file(PIXELS), "format='gif': choose from ['png', 'npy']"),
    ],
)
def test_what_can_not_be_reconstructed_is_a_400(open_client, mirror_of_images, query, content, message):
    answer = open_client(mirror_of_images).post(f"/v1/models/copy-model:reconstruct{query}", content=content)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


COLOR = np.random.Generator(np.random.Philox(1)).integers(0, 256, (5, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("action", "ability"),
    [
        ("image-model:upscale", "upscale"),
        ("image-model:translate", "translate_a_to_b"),
        ("image-model.translate_b_to_a:translate", "translate_b_to_a"),
    ],
)
def test_an_image_is_what_the_pipeline_makes_of_it(open_client, image_model, action, ability):
    client = open_client(image_model.parent)
    pipeline = Pipeline.from_directory(image_model, ability=ability)
    expected = (pipeline.upscale if ability == "upscale" else pipeline.translate)(COLOR)
    answer = client.post(f"/v1/models/{action}", content=as_file(COLOR))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    np.testing.assert_array_equal(pixels(answer), expected)
    answer = client.post(f"/v1/models/{action}?format=npy", content=as_file(COLOR))
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), expected[None])


def test_transparency_and_gray_stay(open_client, image_model):
    client = open_client(image_model.parent)
    alpha = np.concatenate([COLOR, np.full((5, 6, 1), 99, np.uint8)], axis=2)
    answer = client.post("/v1/models/image-model:translate", content=as_file(alpha))
    assert pixels(answer).shape == (5, 6, 4)
    assert pixels(client.post("/v1/models/image-model:upscale", content=as_file(COLOR[..., 0]))).shape == (20, 24)


@pytest.mark.parametrize(
    ("action", "content", "status", "message"),
    [
        ("tanh-model:upscale", as_file(PIXELS), 400, "'tanh-model' can't upscale: it has ['encode', 'generate']"),
        ("tanh-model:translate", as_file(PIXELS), 400, "'tanh-model' can't translate"),
        ("tanh-model:reconstruct", as_file(PIXELS), 400, "'tanh-model' reconstructs no images"),
        ("image-model.upscale:translate", as_file(PIXELS), 400, "'image-model.upscale' can't translate"),
        ("image-model:upscale?label=1", as_file(PIXELS), 400, ":upscale takes no label"),
        ("image-model:upscale", b"x", 400, "this is no image file"),
        (
            "image-model:upscale",
            as_file(np.zeros((1024, 1025), np.uint8)),
            400,
            "1025x1024 pixels: send at most 1048576",
        ),
        ("dcgan:upscale", as_file(PIXELS), 404, "there is no model 'dcgan'"),
    ],
)
def test_a_bad_image_or_model_is_refused(open_client, image_model, models, action, content, status, message):
    assert image_model.parent == models
    answer = open_client(models).post(f"/v1/models/{action}", content=content)
    assert answer.status_code == status
    assert message in answer.json()["error"]


def test_a_form_is_refused_with_the_way_to_send_a_file(client):
    answer = client.post("/v1/models/tanh-model:upscale", files={"image": as_file(PIXELS)})
    assert answer.status_code == 415
    assert "--data-binary @image.png" in answer.json()["error"]


def test_a_small_file_with_a_huge_image_is_refused_before_it_is_unpacked(open_client, image_model):
    file = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(file, "png")
    assert len(file.getvalue()) < 100_000
    answer = open_client(image_model.parent).post("/v1/models/image-model:translate", content=file.getvalue())
    assert answer.status_code == 400
    assert answer.json()["error"] == f"the image has 9000x9000 pixels: send at most {PIXEL_LIMIT}"
