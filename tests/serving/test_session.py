import contextlib
import hashlib
import logging
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from google.protobuf.internal.encoder import _VarintBytes
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, load, numpy_helper

from serving import Pipeline
from serving import pipeline as pipeline_module
from serving import session as session_module
from serving.card import verify_files
from serving.graph import check_graph
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
    [
        (None, "no graph to read .No such file or directory."),
        (b"", r"\(0 bytes\)"),
        (b"not a graph at all" * 9, r"\(162 bytes\)"),
    ],
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
    with pytest.raises(ModelFileError, match="not a graph that can be opened"):
        Session(path, providers=[CPU])


def test_a_graph_is_a_regular_file(tmp_path):
    os.mkfifo(tmp_path / "generate.onnx")
    for path in (tmp_path / "generate.onnx", Path("/dev/zero"), tmp_path, tmp_path / "\0"):
        with pytest.raises(ModelFileError, match=r"no graph to read \((not a regular file|embedded null byte)\)"):
            Session(path, providers=[CPU])


def fails_in_one_line(path, run=lambda session: None):
    """The one line of what opening or running a graph raises, which names it."""
    with pytest.raises(ModelFileError) as caught:
        run(Session(path, providers=[CPU], threads=1))
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    return line


@pytest.mark.parametrize("kind", ["file", "link", "hard link", "elsewhere", "absolute", "memory"])
def test_weights_outside_the_graph_are_refused_whatever_they_are(tanh_model, tmp_path, edit_graph, kind):
    """Nothing has compared them with the card: they could change after it was written, or lie outside the directory."""
    outside = tmp_path / "outside.bin"
    outside.write_bytes(numpy_helper.to_array(load(tanh_model / "generate.onnx").graph.initializer[0]).tobytes())
    beside = tanh_model / "weights.bin"
    write = {"file": shutil.copy, "link": lambda old, new: new.symlink_to(old), "hard link": os.link}
    write.get(kind, lambda old, new: None)(outside, beside)
    locations = {"elsewhere": "../../outside.bin", "absolute": str(outside), "memory": "*/_ORT_MEM_ADDR_/*"}
    path = edit_graph(
        tanh_model, lambda model: keep_outside(model.graph.initializer[0], locations.get(kind, beside.name))
    )
    assert "a tensor is kept in another file" in fails_in_one_line(path)


def keep_outside(tensor, location="weights.bin"):
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def subgraph(constant):
    """An If, and within its branch another, whose branch holds a constant."""

    def make(nodes, out):
        return helper.make_graph(nodes, "branch", [], [helper.make_tensor_value_info(out, 1, None)])

    inner = make([helper.make_node("Constant", [], ["c"], value=constant)], "c")
    nested = make([helper.make_node("If", ["yes"], ["d"], then_branch=inner, else_branch=inner)], "d")
    return helper.make_node("If", ["yes"], ["e"], then_branch=nested, else_branch=nested)


def sparse(tensor):
    return helper.make_sparse_tensor(tensor, numpy_helper.from_array(np.array([0]), "indices"), [4])


PLACES = {
    "initializer": lambda model, tensor: model.graph.initializer.append(tensor),
    "sparse initializer": lambda model, tensor: model.graph.sparse_initializer.append(sparse(tensor)),
    "Constant": lambda model, tensor: model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor)),
    "sparse Constant": lambda model, tensor: model.graph.node.append(
        helper.make_node("Constant", [], ["c"], sparse_value=sparse(tensor))
    ),
    "list of tensors": lambda model, tensor: model.graph.node.append(
        helper.make_node("Constant", [], ["c"], values=[tensor])
    ),
    "subgraph": lambda model, tensor: model.graph.node.append(subgraph(tensor)),
    "function": lambda model, tensor: model.functions.append(
        helper.make_function("own", "F", [], ["c"], [helper.make_node("Constant", [], ["c"], value=tensor)], [])
    ),
    "training": lambda model, tensor: model.training_info.add().initialization.initializer.append(tensor),
}


@pytest.mark.parametrize("place", PLACES)
def test_weights_outside_are_found_wherever_a_graph_holds_a_tensor(tanh_model, edit_graph, place):
    tensor = numpy_helper.from_array(np.ones(1, np.float32), "w")
    check_graph(load_changed(tanh_model, lambda model: PLACES[place](model, tensor)))
    path = edit_graph(tanh_model, lambda model: PLACES[place](model, keep_outside(tensor)))
    assert "a tensor is kept in another file" in fails_in_one_line(path)


def load_changed(directory, change):
    model = load(directory / "generate.onnx")
    change(model)
    return model.SerializeToString()


def test_a_location_alone_is_outside_already(tanh_model, edit_graph):
    """What a reader does with entries and no location, or a location and no entries, is its own choice."""
    for name, value in (("data_location", TensorProto.EXTERNAL), ("external_data", None)):
        tensor = numpy_helper.from_array(np.ones(1, np.float32), "w")
        if value is None:
            tensor.external_data.add(key="location", value="weights.bin")
        else:
            setattr(tensor, name, value)
        path = edit_graph(tanh_model, lambda model, tensor=tensor: model.graph.initializer.append(tensor))
        assert "a tensor is kept in another file" in fails_in_one_line(path)


@pytest.mark.parametrize("domain", ["my.own", "com.microsoft", "\x1b[2Jown\n"])
def test_an_operator_of_another_domain_is_refused(tanh_model, edit_graph, domain):
    """com.microsoft's EPContext reads files, a function of the file's own looks like an operator of any domain."""

    def use(model):
        model.graph.node[1].domain = domain
        model.opset_import.append(helper.make_opsetid(domain, 1))
        tanh = helper.make_node("Tanh", ["x"], ["y"])
        model.functions.append(
            helper.make_function(domain, "Tanh", ["x"], ["y"], [tanh], [helper.make_opsetid("", 18)])
        )

    line = fails_in_one_line(edit_graph(tanh_model, use))
    assert f"an operator of the domain {domain!r}: only those of ONNX itself are run" in line


def test_a_graph_that_gives_another_shape_than_it_declares_is_refused(tanh_model, edit_graph):
    def turn(model):
        turn_as_asked(model)
        model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([-1, 4, 16, 1]), "shape"))

    path = edit_graph(tanh_model, turn)
    line = fails_in_one_line(path, lambda session: session.run({"latent": latents(3)}))
    assert "'image' is declared as (3, 8, 8, 1), but the graph gives (3, 4, 16, 1)" in line


def test_a_multiple_of_a_free_size_is_what_a_graph_must_give(image_model, edit_graph):
    images = np.zeros((2, 5, 3, 3), np.float32)
    assert Session(image_model / "upscale.onnx").run({"image": images})["upscaled"].shape == (2, 20, 12, 3)

    def enlarge_less(model):
        (scales,) = [tensor for tensor in model.graph.initializer if tensor.name == "scales"]
        scales.CopyFrom(numpy_helper.from_array(np.array([1, 1, 4, 2], np.float32), "scales"))

    path = edit_graph(image_model, enlarge_less, "upscale")
    line = fails_in_one_line(path, lambda session: session.run({"image": images}))
    assert "'upscaled' is declared as (2, 20, 12, 3), but the graph gives (2, 20, 6, 3)" in line


def turn_as_asked(model):
    """The shape of the image is what it was, but plus 0 times the latents: nothing but a run can tell it."""
    nodes = [
        helper.make_node("ReduceMax", ["latent"], ["highest"], keepdims=0),
        helper.make_node("Mul", ["highest", "none"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["zero"], to=TensorProto.INT64),
        helper.make_node("Add", ["shape", "zero"], ["sizes"]),
    ]
    for number, node in enumerate(nodes):
        model.graph.node.insert(number, node)
    model.graph.node[-1].input[1] = "sizes"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0), "none"))


def test_rows_that_a_graph_makes_up_are_refused(tanh_model, edit_graph):
    def halve(model):
        model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([-1, 8, 8, 1]), "shape"))
        model.graph.node[0].output[0], model.graph.node[1].input[0] = "once", "twice"
        model.graph.node.insert(1, helper.make_node("Concat", ["once", "once"], ["twice"], axis=0))

    path = edit_graph(tanh_model, halve)
    line = fails_in_one_line(path, lambda session: session.run({"latent": latents(3)}))
    assert "'image' is declared as (3, 8, 8, 1), but the graph gives (6, 8, 8, 1)" in line


def test_a_graph_that_asks_for_a_terabyte_fails_in_one_line(tanh_model, edit_graph, capfd):
    def ask(model):
        model.graph.initializer.append(numpy_helper.from_array(np.array([2**38]), "many"))
        model.graph.node[1].output[0] = "before"
        model.graph.node.insert(2, helper.make_node("ConstantOfShape", ["many"], ["zeros"]))
        model.graph.node.insert(3, helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0))
        model.graph.node.insert(4, helper.make_node("Add", ["before", "sum"], ["flat"]))

    path = edit_graph(tanh_model, ask)
    line = fails_in_one_line(path, lambda session: session.run({"latent": latents(1)}))
    assert "the graph fails on {'latent': (1, 4)}" in line
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_a_graph_whose_tensors_no_machine_holds_is_not_opened(tanh_model, edit_graph):
    def declare(model):
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2**40
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((1, 64), np.float32), "weights"))
        model.graph.node[0].input[0] = "first"
        model.graph.node.insert(0, helper.make_node("ReduceMax", ["latent"], ["first"], keepdims=1))

    path = edit_graph(tanh_model, declare)
    assert "'latent' has more than 16777216 values a row: ('batch', 1099511627776)" in fails_in_one_line(path)


def test_free_sizes_that_no_memory_holds_are_not_warmed_up(tanh_model, edit_graph):
    def widen(model):
        sizes = model.graph.input[0].type.tensor_type.shape
        sizes.ClearField("dim")
        for axis in range(8):
            sizes.dim.add(dim_param=f"size{axis}")
        model.graph.node.insert(0, helper.make_node("ReduceMax", ["latent"], ["highest"], keepdims=0))
        model.graph.node[1].input[0] = "zeros"
        model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 4), np.float32), "none"))
        model.graph.node.insert(1, helper.make_node("Mul", ["none", "highest"], ["zeros"]))

    path = edit_graph(tanh_model, widen)
    line = fails_in_one_line(path, lambda session: session.warm_up())
    assert "'latent' has more than 16777216 values a row: (64, 64, 64, 64, 64, 64, 64, 64)" in line


def test_messages_that_nest_without_end_are_refused():
    data = b""
    for _ in range(2000):  # a graph's node 1, its attribute 5, the attribute's graph 6, all of wire type 2
        for field in (6, 5, 1):
            data = bytes([field << 3 | 2]) + _VarintBytes(len(data)) + data
    with pytest.raises(ValueError, match="nest more than 100 messages deep"):
        check_graph(bytes([7 << 3 | 2]) + _VarintBytes(len(data)) + data)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_graph_or_a_value_error(data):
    with contextlib.suppress(ValueError):
        check_graph(data)


def test_a_graph_that_is_cut_anywhere_is_refused_or_opened_and_nothing_else(tanh_model):
    whole = (tanh_model / "generate.onnx").read_bytes()
    path = tanh_model / "cut.onnx"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match=r"not a graph that can be opened"):
            Session(path, providers=[CPU], threads=1)


def test_a_graph_whose_names_are_no_text_is_refused(tanh_model):
    path = tanh_model / "generate.onnx"
    path.write_bytes(path.read_bytes().replace(b"MatMul", b"MatM\xe3l"))
    with pytest.raises(ModelFileError, match=r"generate\.onnx: not a graph that can be opened"):
        Session(path, providers=[CPU], threads=1)


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


def test_a_file_that_changed_since_it_was_compared_is_refused(tanh_model):
    path = tanh_model / "generate.onnx"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert Session(path, providers=[CPU], sha256=found).providers == (CPU,)
    with pytest.raises(ModelFileError, match=f"changed while it was opened: expected sha256 {'0' * 64}, found {found}"):
        Session(path, providers=[CPU], sha256="0" * 64)


def test_a_pipeline_opens_the_very_bytes_that_it_verified(tanh_model, monkeypatch):
    def verify_and_replace(directory, card, names):
        verify_files(directory, card, names)
        path = directory / "generate.onnx"
        path.write_bytes(path.read_bytes()[:-1] + b"!")

    monkeypatch.setattr(pipeline_module, "verify_files", verify_and_replace)
    with pytest.raises(ModelFileError, match="changed while it was opened"):
        Pipeline.from_directory(tanh_model)


@pytest.mark.parametrize("options", [{}, {"providers": [CPU]}])
def test_a_gpu_that_is_required_is_used_or_an_error(tanh_model, devices, options):
    devices(0)
    with pytest.raises(ProviderError, match=r"generate\.onnx: a GPU is required, and this would run on CPUExecution"):
        Session(tanh_model / "generate.onnx", require_gpu=True, **options)


def test_a_gpu_that_is_required_and_does_not_load_is_an_error(tanh_model, devices):
    devices(1)
    graph = tanh_model / "generate.onnx"
    if CUDA_BUILD and cuda_loads(graph):
        assert Session(graph, require_gpu=True).provider == CUDA
    else:
        with pytest.raises(ProviderError, match="did not load" if CUDA_BUILD else "built without CUDA"):
            Session(graph, require_gpu=True)


def test_outputs_that_are_bound_to_a_device_are_those_of_a_run(mirror_model):
    """As on a GPU, with the CPU for a device."""
    session = Session(mirror_model / "generate.onnx", providers=[CPU], threads=1)
    feeds = {
        "latent": np.asfortranarray(latents(3)),
        "jitter": np.ones((3, 2), np.float32)[::-1],
        "label": np.arange(3),
        "truncation": np.array([0.5], np.float32),
    }
    (image,) = session._run_bound(["image"], feeds, "cpu")
    np.testing.assert_array_equal(image, session.run(feeds)["image"])


def test_threads_that_spin_or_not_compute_the_same(tanh_model):
    path = tanh_model / "generate.onnx"
    spinning, not_spinning = (Session(path, providers=[CPU], threads=2, spinning=choice) for choice in (True, False))
    entry = "session.intra_op.allow_spinning"
    assert not_spinning._session.get_session_options().get_session_config_entry(entry) == "0"
    feeds = {"latent": latents(5)}
    np.testing.assert_array_equal(spinning.run(feeds)["image"], not_spinning.run(feeds)["image"])


def test_tensorrt_keeps_its_engines_apart_by_graph_device_and_versions(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    device = {"device": "A", "capability": "9.0", "driver": 13000}
    monkeypatch.setattr(session_module, "describe_nvidia_device", lambda: device)
    monkeypatch.setattr(session_module, "_versions", lambda *packages: {"onnxruntime-gpu": "1.26"})

    def directory(sha256):
        options = session_module.tensorrt_options(sha256)
        assert options["trt_fp16_enable"] == "False"
        assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"]
        return Path(options["trt_engine_cache_path"])

    first = directory("a")
    assert directory("a") == first
    assert first.parent == tmp_path / "tensorrt"
    assert first.stat().st_mode & 0o777 == 0o700  # engines are code
    found = {first, directory("b")}
    for name, value in (("device", "B"), ("capability", "8.0"), ("driver", 12000)):
        monkeypatch.setitem(device, name, value)
        found.add(directory("a"))
    monkeypatch.setattr(session_module, "_versions", lambda *packages: {"onnxruntime-gpu": "1.27"})
    found.add(directory("a"))
    assert len(found) == 6


def test_without_a_device_its_description_is_empty(devices):
    devices(0)
    assert session_module.describe_nvidia_device() == {"device": "", "capability": "0.0", "driver": 0}


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("50000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("nonsense", 8),
        (None, 8),
    ],
)
def test_cores_are_those_that_the_process_may_use(monkeypatch, text, cores):
    def read_text(path):
        if text is None:
            raise FileNotFoundError(path)
        return text

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(Path, "read_text", read_text)
    assert session_module.count_cores() == cores


def set_opset(*versions, domain=""):
    def change(model):
        model.ClearField("opset_import")
        model.opset_import.extend(helper.make_opsetid(domain, version) for version in versions)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.ClearField("ir_version"), "IR version 0: write 3 or a newer one"),
        (lambda model: setattr(model, "ir_version", 2), "IR version 2: write 3 or a newer one"),
        (lambda model: setattr(model, "ir_version", -1), "IR version 18446744073709551615"),
        (lambda model: setattr(model, "ir_version", 99), "max supported IR version"),
        (set_opset(), "operator set 0: write 7 or a newer one"),
        (set_opset(18, domain="ai.onnx.ml"), "operator set 0: write 7 or a newer one"),
        (set_opset(6), "operator set 6: write 7 or a newer one"),
        (set_opset(-1), "operator set 18446744073709551615: write 7 or a newer one"),
        (set_opset(18, 9), "two operator sets of the domain 'ai.onnx': one version of each is run"),
        (set_opset(999), "opset"),
    ],
)
def test_a_graph_for_older_or_newer_programs_is_refused(tanh_model, edit_graph, change, message):
    assert message in fails_in_one_line(edit_graph(tanh_model, change))


def test_the_domain_of_onnx_may_be_written_out(tanh_model, edit_graph):
    path = edit_graph(tanh_model, set_opset(18, domain="ai.onnx"))
    assert Session(path, providers=[CPU], threads=1).run({"latent": latents(1)})["image"].shape == (1, 8, 8, 1)
