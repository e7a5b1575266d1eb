import logging
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from serving import session as session_module
from serving.session import CPU, CUDA, InputError, ModelFileError, ProviderError, Session

CUDA_BUILD = CUDA in onnxruntime.get_available_providers()


@pytest.fixture
def session(tanh_model):
    return Session(tanh_model / "generate.onnx", providers=[CPU])


@pytest.fixture
def devices(monkeypatch):
    """Say how many devices the driver shows; whether ONNX Runtime can then load CUDA stays the machine's answer."""
    session_module._warn_once.cache_clear()
    return lambda count: monkeypatch.setattr(session_module, "count_nvidia_devices", lambda: count)


def latents(count):
    return np.arange(count * 4, dtype=np.float32).reshape(count, 4) / 10


def test_a_session_computes_the_graph(session, weights):
    image = session.run({"latent": latents(3)})["image"]
    np.testing.assert_allclose(image, np.tanh(latents(3) @ weights).reshape(3, 8, 8, 1), atol=1e-6)


def test_a_session_says_what_it_takes_gives_and_runs_on(session):
    (latent,), (image,) = session.inputs, session.outputs
    assert (latent.name, latent.dtype, latent.shape) == ("latent", "float32", ("batch", 4))
    assert (image.name, image.dtype, image.shape) == ("image", "float32", ("batch", 8, 8, 1))
    assert session.providers == (CPU,)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "inputs ['latent'] are missing: give ['latent']"),
        ({"latent": latents(1), "z": latents(1)}, "inputs ['z'] are unknown: give ['latent']"),
        (
            {"latent": latents(1).astype(np.float64)},
            "expected float32 of shape ('batch', 4), found float64 of shape (1, 4)",
        ),
        ({"latent": latents(1)[0]}, "found float32 of shape (4,)"),
        ({"latent": latents(1)[:, :3]}, "found float32 of shape (1, 3)"),
        ({"latent": [[0.0] * 4]}, "input 'latent' is a list: expected float32 of shape ('batch', 4), as a NumPy array"),
    ],
)
def test_what_does_not_fit_is_refused(session, feeds, message):
    with pytest.raises(InputError, match=re.escape(message)):
        session.run(feeds)


def test_inputs_of_different_batches_are_refused(mirror_model):
    session = Session(mirror_model / "generate.onnx", providers=[CPU])
    feeds = {
        "latent": latents(3),
        "jitter": np.zeros((2, 2), np.float32),
        "label": np.zeros(3, np.int64),
        "truncation": np.ones(1, np.float32),
    }
    with pytest.raises(InputError, match="batch is 3 in input 'latent' but 2 in 'jitter'"):
        session.run(feeds)


def test_free_dimensions_without_a_name_are_not_taken_for_one(tmp_path):
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("a", "b", "c", "d")]
    nodes = [helper.make_node("Identity", ["a"], ["c"]), helper.make_node("Identity", ["b"], ["d"])]
    graph = helper.make_graph(nodes, "graph", tensors[:2], tensors[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (tmp_path / "two.onnx").write_bytes(model.SerializeToString())
    session = Session(tmp_path / "two.onnx", providers=[CPU])
    assert [spec.shape for spec in session.inputs] == [("a:0", 2), ("b:0", 2)]
    feeds = {"a": np.ones((1, 2), np.float32), "b": np.ones((3, 2), np.float32)}
    assert {name: array.shape for name, array in session.run(feeds).items()} == {"c": (1, 2), "d": (3, 2)}


def test_a_graph_of_text_is_refused(tmp_path):
    tensors = [helper.make_tensor_value_info(name, TensorProto.STRING, [1]) for name in ("a", "b")]
    graph = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "graph", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (tmp_path / "text.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=r"'a' is a tensor\(string\): only .*tensor\(float\)"):
        Session(tmp_path / "text.onnx", providers=[CPU])


def test_one_session_serves_many_threads(session, weights):
    def rows(count):
        return session.run({"latent": latents(count)})["image"]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(rows, range(1, 33)))
    for count, result in enumerate(results, 1):
        np.testing.assert_allclose(result.reshape(count, 64), np.tanh(latents(count) @ weights), atol=1e-6)


def test_warm_up_runs_on_one_row_and_takes_other_sizes(tanh_model, mirror_model):
    for path in (tanh_model / "encode.onnx", mirror_model / "generate.onnx"):
        session = Session(path, providers=[CPU], threads=1)
        session.warm_up()
        session.warm_up(batch=3)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no such file"), (b"", r"\(0 bytes\)"), (b"not a graph at all" * 9, r"\(162 bytes\)")],
)
def test_a_file_that_is_no_graph_is_refused(tmp_path, content, message):
    path = tmp_path / "generate.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError, match=f"{re.escape(str(path))}: .*{message}"):
        Session(path, providers=[CPU])


def test_a_truncated_graph_is_refused(tanh_model):
    path = tanh_model / "generate.onnx"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelFileError, match="not a graph that ONNX Runtime can open"):
        Session(path, providers=[CPU])


def test_a_bad_number_of_threads_is_refused(tanh_model):
    with pytest.raises(ValueError, match="threads=0: give 1 or more"):
        Session(tanh_model / "generate.onnx", threads=0)


@pytest.mark.parametrize("providers", [[], ["cuda"], CPU])
def test_unknown_providers_are_refused_with_the_good_ones(tanh_model, providers):
    with pytest.raises(ProviderError, match=f"give a list from .*{CPU}"):
        Session(tanh_model / "generate.onnx", providers=providers)


def test_without_a_device_the_default_is_the_cpu_and_nothing_is_printed(tanh_model, devices, caplog, capfd):
    devices(0)
    with caplog.at_level(logging.INFO, "serving"):
        assert Session(tanh_model / "generate.onnx", strict=True).providers == (CPU,)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "running on the CPU: no NVIDIA device")
    ]
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_cuda_without_a_device_is_refused_before_it_is_loaded(tanh_model, devices, capfd):
    devices(0)
    with pytest.raises(ProviderError, match="shows no device" if CUDA_BUILD else "give a list from"):
        Session(tanh_model / "generate.onnx", providers=[CUDA])
    assert capfd.readouterr().err == ""


def test_cuda_is_loaded_or_warned_of_once(tanh_model, devices, caplog):
    """With a device, the real provider loads where CUDA's libraries are installed, and fails where they are not."""
    devices(1)
    with caplog.at_level(logging.WARNING, "serving"):
        loaded = [Session(tanh_model / "generate.onnx").providers for _ in range(2)]
    warnings = [record.message for record in caplog.records]
    if not CUDA_BUILD:
        assert (loaded, warnings) == ([(CPU,)] * 2, [])
    elif CUDA in loaded[0]:
        assert (loaded, warnings) == ([(CUDA, CPU)] * 2, [])
    else:
        assert loaded == [(CPU,)] * 2
        assert len(warnings) == 1
        assert warnings[0].startswith(f"{CUDA} did not load")
        assert f"running on {CPU}" in warnings[0]


@pytest.mark.parametrize("options", [{"strict": True}, {"providers": [CUDA, CPU]}])
def test_cuda_that_is_asked_for_is_loaded_or_an_error(tanh_model, devices, options):
    devices(1)
    graph = tanh_model / "generate.onnx"
    if not CUDA_BUILD and "providers" in options:
        with pytest.raises(ProviderError, match="give a list from"):
            Session(graph, **options)
    elif not CUDA_BUILD:
        assert Session(graph, **options).providers == (CPU,)
    elif cuda_loads(graph):
        assert Session(graph, **options).providers == (CUDA, CPU)
    else:
        with pytest.raises(ProviderError, match=f"{CUDA} did not load"):
            Session(graph, **options)


def cuda_loads(graph):
    """By ONNX Runtime itself, without our session."""
    return CUDA in onnxruntime.InferenceSession(graph, providers=[CUDA, CPU]).get_providers()
