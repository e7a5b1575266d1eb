"""A SavedModel is a program: it is read as data first, and loaded only where it does nothing but compute."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.core.protobuf.tensor_bundle_pb2 import BundleEntryProto

from serving.card import CardError
from zoo.export.saved_model import read_saved_model, read_table, write_saved_model
from zoo.presets.table import PRESETS
from zoo.training.run import build_model

Edit = Callable[[Path], None]


def save(directory: Path, body: Callable[[tf.Tensor], tf.Tensor], **held: Any) -> Path:
    """A SavedModel of x -> body(x), (batch, 2)."""
    module = tf.Module()
    for name, value in held.items():
        setattr(module, name, value)
    signature = tf.function(body, input_signature=[tf.TensorSpec((None, 2), name="x")]).get_concrete_function()
    tf.saved_model.save(module, str(directory), signatures={"serving_default": signature})
    return directory


def edit_graph(directory: Path, edit: Callable[[Any], None]) -> None:
    path = directory / "saved_model.pb"
    saved = SavedModel.FromString(path.read_bytes())
    edit(saved.meta_graphs[0])
    path.write_bytes(saved.SerializeToString())


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """2 x + 1, with a variable."""
    weight = tf.Variable([2.0, 2.0])
    return save(tmp_path / "plain", lambda x: x * weight + 1.0, weight=weight)


def test_what_only_computes_is_loaded(plain: Path) -> None:
    loaded = read_saved_model(plain)
    (found,) = loaded.signatures["serving_default"](x=tf.constant([[1.0, 2.0]])).values()
    np.testing.assert_array_equal(found, [[3.0, 5.0]])


@pytest.mark.parametrize("name", sorted({preset.model: name for name, preset in PRESETS.items()}.values()))
def test_what_is_written_can_be_read(name: str, tmp_path: Path) -> None:
    abilities = build_model(PRESETS[name].twin()).abilities()
    write_saved_model(abilities, tmp_path)
    assert set(read_saved_model(tmp_path).signatures) == {"serving_default", *abilities}


# What runs


def write(path: str, x: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([tf.io.write_file(path, "planted")]):
        return tf.identity(x)


def programs(target: str) -> dict[str, tuple[Callable[[tf.Tensor], tf.Tensor], str]]:
    inner = tf.function(lambda x: write(target, x))
    return {
        "writes a file": (lambda x: write(target, x), "WriteFile"),
        "in a function": (lambda x: inner(x), "WriteFile"),
        "in a branch": (lambda x: tf.cond(x[0, 0] > 0, lambda: write(target, x), lambda: x), "WriteFile"),
        "in a loop": (lambda x: tf.while_loop(lambda y: y[0, 0] < 9, lambda y: [inner(y) + 1], [x])[0], "WriteFile"),
        "in a map": (
            lambda x: tf.map_fn(lambda row: row + tf.cast(tf.size(tf.io.read_file(target)), "float32"), x),
            "",
        ),
        "reads a file": (lambda x: x + tf.strings.to_number(tf.io.read_file(target)), "ReadFile"),
        "lists files": (lambda x: x + tf.cast(tf.size(tf.io.matching_files("/*")), "float32"), "MatchingFiles"),
        "prints": (lambda x: tf.raw_ops.Print(input=x, data=[x]), "Print"),
        "Python": (lambda x: tf.ensure_shape(tf.py_function(lambda y: y, [x], tf.float32), (None, 2)), "EagerPyFunc"),
        "NumPy": (lambda x: tf.ensure_shape(tf.numpy_function(lambda y: y, [x], tf.float32), (None, 2)), "PyFunc"),
        "an older Python": (lambda x: tf.compat.v1.py_func(lambda y: y, [x], tf.float32, stateful=False), "PyFunc"),
    }


@pytest.mark.parametrize("name", programs(""))
def test_what_does_more_than_compute_is_not_loaded(name: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    body, operation = programs(str(target))[name]
    directory = save(tmp_path / "saved", body)
    with pytest.raises(CardError, match=rf"saved_model\.pb: the operation \w*{operation}\w* \(.*\) is none of those"):
        read_saved_model(directory)
    assert not target.exists()


def test_the_functions_that_save_variables_serve_nothing_else(plain: Path) -> None:
    """TensorFlow adds functions that write and read variables' files, which a signature could call."""

    def edit(meta: Any) -> None:
        functions = {function.signature.name: function for function in meta.graph_def.library.function}
        (saver,) = (name for name in functions if "traced_save" in name)
        signature = next(function for name, function in functions.items() if "signature_wrapper" in name)
        node = signature.node_def.add(name="more", op="StatefulPartitionedCall")
        node.attr["f"].func.name = saver

    edit_graph(plain, edit)
    with pytest.raises(CardError, match=r"the operation \w+ \(__inference__traced_save\w+/\w+\) is none of those"):
        read_saved_model(plain)


def test_a_function_that_nothing_calls_is_read_too(plain: Path) -> None:
    def edit(meta: Any) -> None:
        function = meta.graph_def.library.function.add()
        function.signature.name = "uncalled"
        function.node_def.add(name="write", op="WriteFile")

    edit_graph(plain, edit)
    with pytest.raises(CardError, match=r"the operation WriteFile \(uncalled/write\)"):
        read_saved_model(plain)


# What is made or restored by loading


def test_tables_and_assets(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a\nb\n")
    initializer = tf.lookup.TextFileInitializer(
        str(tmp_path / "names.txt"), tf.string, 0, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    table = tf.lookup.StaticHashTable(initializer, -1)
    directory = save(tmp_path / "saved", lambda x: x + tf.cast(table.lookup(tf.constant("a")), "float32"), table=table)
    with pytest.raises(CardError, match=r"saved_model\.pb: holds an object of the kind '(resource|asset)'"):
        read_saved_model(directory)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (
            lambda meta: setattr(meta.object_graph_def.nodes[0].user_object, "identifier", "_tf_keras_model"),
            "_tf_keras",
        ),
        (lambda meta: setattr(meta.object_graph_def.nodes[0], "registered_name", "Other>Class"), "more than variables"),
        (
            lambda meta: setattr(meta.object_graph_def.nodes[0], "registered_saver", "Other>Saver"),
            "more than variables",
        ),
        (lambda meta: meta.object_graph_def.nodes[0].saveable_objects["x"].SetInParent(), "more than variables"),
        (lambda meta: meta.asset_file_def.add(filename="../../etc/passwd"), "names the file '../../etc/passwd'"),
        (lambda meta: meta.ClearField("object_graph_def"), "older ones run operations"),
    ],
    ids=["Keras", "registered class", "registered saver", "saver of its own", "asset", "TensorFlow 1"],
)
def test_objects_that_are_more_than_variables(plain: Path, edit: Callable[[Any], None], reason: str) -> None:
    edit_graph(plain, edit)
    with pytest.raises(CardError, match=rf"saved_model\.pb: .*{reason}"):
        read_saved_model(plain)


def test_two_graphs(plain: Path) -> None:
    saved = SavedModel.FromString((plain / "saved_model.pb").read_bytes())
    saved.meta_graphs.add().CopyFrom(saved.meta_graphs[0])
    (plain / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(CardError, match="write one graph"):
        read_saved_model(plain)


def test_a_constant_of_terabytes(plain: Path) -> None:
    def edit(meta: Any) -> None:
        nodes = [node for function in meta.graph_def.library.function for node in function.node_def]
        tensor = next(node for node in nodes if node.op == "Const").attr["value"].tensor
        tensor.tensor_shape.dim.add(size=10**6)
        tensor.tensor_shape.dim.add(size=10**6)

    edit_graph(plain, edit)
    with pytest.raises(CardError, match=r"the constant \S+ has [12]000000000000 numbers"):
        read_saved_model(plain)


# Files


@pytest.mark.parametrize("kind", ["symbolic link", "link to a directory", "pipe"])
def test_what_is_no_regular_file(plain: Path, kind: str) -> None:
    variables = plain / "variables"
    if kind == "link to a directory":
        variables.rename(plain.with_name("elsewhere"))
        variables.symlink_to(plain.with_name("elsewhere"))
    else:
        index = variables / "variables.index"
        index.rename(plain.with_name("elsewhere"))
        os.mkfifo(index) if kind == "pipe" else index.symlink_to(plain.with_name("elsewhere"))
    with pytest.raises(CardError, match=r"variables[^:]*: a SavedModel consists of regular files"):
        read_saved_model(plain)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "file", ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
)
@pytest.mark.parametrize(
    "spoil", [cut, Path.unlink, lambda path: path.write_bytes(b"\xff" * 99)], ids=["cut", "gone", "ff"]
)
def test_damaged_files_are_one_line(plain: Path, file: str, spoil: Edit) -> None:
    spoil(plain / file)
    with pytest.raises(CardError, match=r"saved_model\.pb is not a readable SavedModel: .") as caught:
        read_saved_model(plain)
    assert "\n" not in str(caught.value)


def encode_entry(*sizes: int, dtype: int = 0) -> bytes:
    return bytes(BundleEntryProto(dtype=dtype, shape={"dim": [{"size": size} for size in sizes]}).SerializeToString())


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (b"\xff" * 15, "Wire format was corrupt"),
        (encode_entry(-1), r"'weight/.*' has the shape \[-1\], or parts, in \d+ bytes of variables"),
        (encode_entry(2, dtype=200), "is of the type 200, which no variable has"),
        (encode_entry(2**40), r"has the shape \[1099511627776\]"),
    ],
    ids=["no entry", "negative", "type", "huge"],
)
def test_an_index_at_which_tensorflow_would_abort_is_refused(plain: Path, entry: bytes, reason: str) -> None:
    path = plain / "variables" / "variables.index"
    (whole,) = (value for name, value in read_table(path.read_bytes()) if b"weight" in name)
    entry += b"\x28\0" * ((len(whole) - len(entry)) // 2)  # a size of 0, as often as it takes
    assert len(entry) == len(whole)
    path.write_bytes(path.read_bytes().replace(whole, entry))
    with pytest.raises(CardError, match=reason) as caught:
        read_saved_model(plain)
    assert str(caught.value).isprintable()


def test_a_changed_byte_is_one_line_or_nothing(plain: Path) -> None:
    path, random = plain / "saved_model.pb", np.random.default_rng(0)
    whole = path.read_bytes()
    reasons = []
    for position in random.integers(len(whole), size=40):
        damaged = bytearray(whole)
        damaged[position] = random.integers(256)
        path.write_bytes(damaged)
        try:
            read_saved_model(plain)
        except CardError as error:
            reasons.append(str(error))
    assert reasons
    assert [reason for reason in reasons if "\n" in reason or "saved_model.pb" not in reason] == []
