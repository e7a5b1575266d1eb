"""Our Inception equals torch-fidelity's on the same random weights; its files are read, and damaged ones refused.

fixtures/inception.*, by fixtures/make_inception.py; the weights themselves are drawn anew from their names.
"""

import hashlib
import io
import json
import os
import pickle
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from zoo.evaluation import inception
from zoo.evaluation.inception import (
    GRAPH,
    PUBLISHED,
    fetched,
    fill,
    read_arrays,
    read_inception,
    read_state_dict,
    torch_name,
    variables,
)

FIXTURES = Path(__file__).parent / "fixtures"
RECORD = json.loads((FIXTURES / "inception.json").read_text(encoding="utf-8"))
ZIPPED, STREAMED = FIXTURES / "inception.zip.pth", FIXTURES / "inception.stream.pth"
SIZES = [tuple(map(int, size.split())) for size in RECORD["sizes"]]


def random_of(name):
    """As in make_inception.py, and the two below."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([RECORD["seed"], *name.encode()])))


def drawn_weight(name, shape):
    values = random_of(name).standard_normal(shape, np.float32)
    if name == "fc.weight":
        return values / 2000
    if len(shape) > 1:
        return values * np.float32((2 / np.prod(shape[1:])) ** 0.5)
    if name.endswith("bn.running_var"):
        return np.float32(0.5) + values**2 / 2
    if name.endswith("bn.weight"):
        return np.float32(1) + values / 5
    return values / 5


def drawn_image(height, width):
    block = RECORD["block"]
    cells = random_of(f"{height} x {width}").integers(0, 256, (-(-height // block), -(-width // block), 3), np.uint8)
    return cells.repeat(block, axis=0).repeat(block, axis=1)[:height, :width]


def scaled(image):
    return image[None].astype(np.float32) / 127.5 - 1


@pytest.fixture(scope="module")
def state():
    """By torch's names."""
    shapes = {name: tuple(map(int, shape.split())) for name, shape in RECORD["shapes"].items()}
    return {name: drawn_weight(name, shape) for name, shape in shapes.items() if not name.endswith("tracked")}


@pytest.fixture(scope="module")
def graph(state):
    """By the graph's names, as the published conversion pairs them."""
    found = {}
    for ours, theirs in RECORD["names"].items():
        if ours.endswith("/batchnorm"):
            found[f"{ours}/gamma"], found[f"{ours}/beta"] = state[f"{theirs}.weight"], state[f"{theirs}.bias"]
            found[f"{ours}/moving_mean"] = state[f"{theirs}.running_mean"]
            found[f"{ours}/moving_variance"] = state[f"{theirs}.running_var"]
        elif ours.endswith("/conv2d_params"):
            found[ours] = state[f"{theirs}.weight"].transpose(2, 3, 1, 0)
        else:
            found[ours] = state[theirs].T
    return found


@pytest.fixture(scope="module")
def extractor(graph, tmp_path_factory):
    """Through a graph file of full size, once."""
    path = write_graph(tmp_path_factory.mktemp("inception") / GRAPH, graph)
    found = read_inception(path, hashlib.sha256(path.read_bytes()).hexdigest().upper(), path.parent)
    path.unlink()
    return found


def write_graph(path, arrays):
    graph = tf.compat.v1.GraphDef()
    graph.node.add(name="DecodeJpeg/contents", op="Placeholder")
    for name, array in arrays.items():
        node = graph.node.add(name=name, op="Const")
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array))
    path.write_bytes(graph.SerializeToString())
    return path


# The network and the names


def test_weights_and_images_are_the_same_as_theirs(state):
    arrays = [*state.values(), *(drawn_image(*size) for size in SIZES)]
    assert hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest() == RECORD["sha256"]


@pytest.mark.parametrize("number", range(len(SIZES)), ids=RECORD["sizes"])
def test_features_and_logits_are_torch_fidelitys(extractor, number):
    theirs = np.load(FIXTURES / "inception.npz")
    features, logits = extractor.network(scaled(drawn_image(*SIZES[number])), training=False)
    for name, ours in (("features", features), ("logits", logits)):
        expected = theirs[name][number]
        np.testing.assert_allclose(np.asarray(ours)[0], expected, rtol=0, atol=1e-5 * np.ptp(expected))


def test_the_extractor_runs_in_batches_and_says_what_it_is(extractor, monkeypatch):
    assert (extractor.name, extractor.dimension, extractor.classes) == ("inception-2015-12-05", 2048, 1008)
    assert len(extractor.sha256) == 64
    image = drawn_image(*SIZES[0])
    images = np.concatenate([scaled(image), scaled(image[:, ::-1]), scaled(image[::-1])])
    monkeypatch.setattr(inception, "BATCH_SIZE", 2)
    features, probabilities = extractor(images)
    assert features.dtype == probabilities.dtype == np.float32
    theirs = np.load(FIXTURES / "inception.npz")
    np.testing.assert_allclose(features[0], theirs["features"][0], atol=1e-5 * theirs["features"][0].max())
    powers = np.exp(theirs["logits"][0])
    np.testing.assert_allclose(probabilities[0], powers / powers.sum(), rtol=1e-3)
    for number in (1, 2):  # each row is its image's, whatever is beside it
        alone = extractor(images[number : number + 1])
        np.testing.assert_allclose(features[number], alone[0][0], atol=1e-5 * features.max())
        assert not np.allclose(features[number], features[0], atol=1e-2 * features.max())


def test_gray_images_get_three_equal_channels(extractor):
    gray = scaled(drawn_image(*SIZES[0])[:, :, :1])
    for one, other in zip(extractor(gray), extractor(np.repeat(gray, 3, axis=3)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (np.zeros((0, 8, 8, 3), np.float32), "0 images of 3 channels: give at least 1"),
        (np.zeros((1, 8, 8, 4), np.float32), "images of 4 channels: give gray"),
        (np.full((1, 8, 8, 3), 255, np.float32), r"give values in \[-1, 1\]"),
        (np.full((1, 8, 8, 3), np.nan, np.float32), "no NaN"),
        (np.zeros((1, 8, 8, 3), np.uint8), "uint8: give"),
    ],
)
def test_images_that_are_none_are_refused(extractor, images, complaint):
    with pytest.raises(ValueError, match=complaint):
        extractor(images)


def test_the_graphs_and_torchs_names_are_those_of_the_published_conversion(extractor, graph, state):
    nodes = variables(extractor.network)
    assert set(nodes) == set(graph) - {"softmax/biases"}
    assert {torch_name(node) for node in nodes} == set(state) - {"fc.bias"}
    for prefix, theirs in RECORD["names"].items():
        if prefix.endswith("/conv2d_params"):
            assert torch_name(prefix) == f"{theirs}.weight"
        elif prefix.endswith("/batchnorm"):
            ours = [torch_name(f"{prefix}/{name}") for name in ("gamma", "beta", "moving_mean", "moving_variance")]
            assert ours == [f"{theirs}.{name}" for name in ("weight", "bias", "running_mean", "running_var")]


def test_both_spellings_fill_the_same_variables(extractor, state):
    nodes = variables(extractor.network)
    before = {node: variable.numpy() for node, variable in nodes.items()}
    for variable in nodes.values():
        variable.assign(np.zeros(variable.shape))
    fill(extractor.network, state, "weights")
    for node, variable in nodes.items():
        np.testing.assert_array_equal(variable.numpy(), before[node])


@pytest.mark.parametrize("spelling", ["state", "graph"])
def test_arrays_that_do_not_fit_are_refused_and_nothing_is_assigned(extractor, graph, spelling, request):
    arrays = request.getfixturevalue(spelling)
    last, kernel = {
        "state": ("fc.weight", "Mixed_7c.branch3x3_2a.conv.weight"),
        "graph": ("softmax/weights", "mixed_10/tower/mixed/conv/conv2d_params"),
    }[spelling]
    beta = {"state": "Mixed_5b.branch_pool.bn.bias", "graph": "mixed/tower_2/conv/batchnorm/beta"}[spelling]
    shape = {"state": r"\(384, 384, 1, 3\)", "graph": r"\(1, 3, 384, 384\)"}[spelling]
    for change, complaint in (
        ({kernel: None, beta: None}, "weights lacks 2 of the 471 arrays, such as .*: give classify_image_graph_def.pb"),
        ({kernel: arrays[kernel].swapaxes(0, 2)}, rf"weights: {kernel} is .* the network's is {shape} float32"),
        ({kernel: arrays[kernel].astype(np.int64)}, f"weights: {kernel} is .* int64, the network's is"),
        ({beta: np.where(np.arange(32) == 3, np.nan, arrays[beta])}, f"weights: {beta} holds values that are NaN"),
        ({last: np.full_like(arrays[last], np.inf)}, f"weights: {last} holds values that are NaN or infinite"),
    ):
        changed = {name: 2 * array for name, array in arrays.items()} | change
        changed = {name: array for name, array in changed.items() if array is not None}
        with pytest.raises(ValueError, match=complaint):
            fill(extractor.network, changed, "weights")
    np.testing.assert_array_equal(extractor.network.get_layer("conv").kernel, graph["conv/conv2d_params"])


def test_files_of_something_else_are_refused_before_a_network_is_built(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing.pb is not a file: give the path or the address"):
        read_inception(tmp_path / "nothing.pb", None, tmp_path)
    path = write_graph(tmp_path / "other.pb", {"conv/conv2d_params": np.zeros((3, 3, 3, 32), np.float32)})
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=rf"expected sha256 {'0' * 64}, found {found}: fetch the file again, or give"):
        read_inception(path, "0" * 64, tmp_path)


# Files of torch


@pytest.mark.parametrize("path", [ZIPPED, STREAMED], ids=["zip", "stream"])
def test_torchs_arrays_are_read(path):
    """As make_inception.py has saved them."""
    numbers = np.arange(24, dtype=np.float32)
    expected = {
        "whole": numbers.reshape(2, 3, 4),
        "part": numbers[5:11].reshape(3, 2),
        "transposed": numbers.reshape(4, 6).T,
        "count": np.array(7),
        "empty": np.zeros((0, 3), np.float32),
        "other": np.array([0.5, -1.5], np.float32),
    }
    found = read_arrays(path)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("path", [ZIPPED, STREAMED], ids=["zip", "stream"])
def test_a_cut_off_file_is_refused(path, tmp_path):
    whole = path.read_bytes()
    for length in (30, 200, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.pth").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut.pth is not a state dict of torch that can be read safely"):
            read_state_dict(tmp_path / "cut.pth")


def opcodes(value):
    """The pickle of a plain value, without its head and its end."""
    return pickle.dumps(value, protocol=2)[2:-1]


def tensor(start=0, shape=(2, 2), strides=(2, 1), length=4, storage="torch\nFloatStorage"):
    """The pickle of a tensor over the first storage."""
    identity = opcodes("storage") + f"c{storage}\n".encode() + opcodes("0") + opcodes("cpu") + opcodes(length)
    arguments = b"".join(map(opcodes, (start, shape, strides, False, None)))
    return b"ctorch._utils\n_rebuild_tensor_v2\n((" + identity + b"tQ" + arguments + b"tR"


def write_zip(path, value):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}" + opcodes("x") + value + b"s.")
        archive.writestr("archive/data/0", np.arange(4, dtype="<f4").tobytes())
    return path


def test_the_pickles_of_the_next_test_are_read_where_nothing_is_wrong_with_them(tmp_path):
    np.testing.assert_array_equal(read_state_dict(write_zip(tmp_path / "x.pth", tensor()))["x"], [[0, 1], [2, 3]])


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (tensor(start=1), "strides is incompatible"),
        (tensor(start=-1), "strides is incompatible"),
        (tensor(strides=(2, 2)), "strides is incompatible"),
        (tensor(strides=(-2, 1)), "strides is incompatible"),
        (tensor(length=1 << 40), "which the file cannot hold"),
        (tensor(length=-1), "which the file cannot hold"),
        (tensor(shape=(3,), strides=(1,), length=3), "storage 0 has 16 bytes instead of 12"),
        (tensor(storage="torch\nHalfStorage"), "it names torch.HalfStorage"),
        (tensor(storage="builtins\nexec"), "it names builtins.exec"),
        (b"cbuiltins\ngetattr\n", "it names builtins.getattr"),
        (b"ctorch.serialization\nload\n", "it names torch.serialization.load"),
        (b"cos\nsystem\n(" + opcodes("true") + b"tR", "it names os.system"),
        (opcodes(3), "no dict of tensors"),
    ],
)
def test_a_pickle_that_reaches_beyond_its_arrays_is_refused(value, complaint, tmp_path):
    with pytest.raises(ValueError, match=complaint):
        read_state_dict(write_zip(tmp_path / "x.pth", value))


class Command:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


@pytest.mark.parametrize("form", ["zip", "stream, its start", "stream, its dict", "stream, its keys"])
def test_no_pickle_of_a_file_runs_code(form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = pickle.dumps(Command(), protocol=2)
    magic = inception.TORCH_MAGIC
    plain = pickle.dumps(1001, protocol=2)
    path = tmp_path / "x.pth"
    if form == "zip":
        write_zip(path, command[2:-1])
    else:
        place = ["stream, its start", "stream, its dict", "stream, its keys"].index(form)
        parts = [plain, plain, pickle.dumps({}, protocol=2), pickle.dumps([], protocol=2)]
        path.write_bytes(magic + b"".join(parts))
        assert read_state_dict(path) == {}
        parts[place + 1 if place else 0] = command
        path.write_bytes(magic + b"".join(parts))
    with pytest.raises(ValueError, match=r"it names \w+.mkdir"):
        read_arrays(path)
    assert [file.name for file in tmp_path.iterdir()] == ["x.pth"]
    pickle.loads(command)
    assert (tmp_path / "made-by-a-pickle").is_dir()  # so it would have been seen


# Graphs and addresses


@pytest.fixture(scope="module")
def small_graph():
    with tf.Graph().as_default() as graph:
        tf.constant(np.arange(6, dtype=np.float32).reshape(2, 3), name="conv/batchnorm/beta")
        tf.constant(2.5, name="softmax/weights")
        tf.constant(["label"], name="text")
        tf.compat.v1.placeholder(tf.float32, name="DecodeJpeg/contents")
    return graph.as_graph_def().SerializeToString()


def write_archive(path, name, content):
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("archived", [False, True], ids=["pb", "tgz"])
def test_a_graphs_constants_are_read(small_graph, archived, tmp_path):
    path = tmp_path / "file"
    if archived:
        write_archive(path, GRAPH, small_graph)
    else:
        path.write_bytes(small_graph)
    found = read_arrays(path)
    assert set(found) == {"conv/batchnorm/beta", "softmax/weights", "text"}
    np.testing.assert_array_equal(found["conv/batchnorm/beta"], [[0, 1, 2], [3, 4, 5]])
    assert found["softmax/weights"] == np.float32(2.5)


def test_a_file_without_a_graph_is_refused(small_graph, tmp_path):
    with pytest.raises(ValueError, match=r"a.tgz holds no TensorFlow graph: .*classify_image_graph_def.pb"):
        read_arrays(write_archive(tmp_path / "a.tgz", "other.pb", small_graph))
    (tmp_path / "b.pb").write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(ValueError, match=r"b.pb holds no TensorFlow graph"):
        read_arrays(tmp_path / "b.pb")
    whole = (tmp_path / "a.tgz").read_bytes()
    (tmp_path / "c.tgz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"c.tgz holds no TensorFlow graph"):
        read_arrays(tmp_path / "c.tgz")


@pytest.fixture
def server(tmp_path):
    """The address of a web server of `tmp_path`/served, and the paths it was asked for."""
    (tmp_path / "served").mkdir()
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "served")))
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}", asked
    http.shutdown()
    thread.join()
    http.server_close()


def test_an_address_is_fetched_once(server, tmp_path):
    address, asked = server
    (tmp_path / "served" / "x.pth").write_bytes(ZIPPED.read_bytes())
    paths = {fetched(f"{address}/x.pth", tmp_path / "cache") for _ in range(2)}
    assert [path.read_bytes() for path in paths] == [ZIPPED.read_bytes()]
    assert asked == ["/x.pth"]
    with pytest.raises(ValueError, match=r"expected sha256 1{64}, found [0-9a-f]{64}: delete .*x.pth, so that it is"):
        read_inception(f"{address}/x.pth", "1" * 64, tmp_path / "cache")
    with pytest.raises(ConnectionError, match=r"other.pth can't be fetched: .*Fetch it elsewhere and give its path"):
        read_inception(f"{address}/other.pth", None, tmp_path / "cache")


def test_the_published_files_name_has_the_first_digits_of_its_sha256():
    for address, sha256 in PUBLISHED.items():
        assert len(sha256) == 64
        assert address.endswith(f"-{sha256[:8]}.pth")
