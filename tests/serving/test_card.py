import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from serving.card import (
    Ability,
    CardError,
    File,
    FileMismatchError,
    Input,
    Output,
    Score,
    encode_card,
    read_card,
    verify_files,
)


def test_a_card_survives_the_round_trip_and_is_the_same_bytes_again(tanh_model):
    card = read_card(tanh_model)
    assert card == read_card(tanh_model / "card.json")
    assert encode_card(card) == (tanh_model / "card.json").read_bytes()
    assert encode_card(card).endswith(b"}\n")
    assert card.abilities["generate"].inputs[0].shape == ("batch", 4)


def test_order_of_keys_does_not_change_the_bytes(tanh_model):
    card = read_card(tanh_model)
    turned = msgspec.structs.replace(card, recipe=dict(reversed(card.recipe.items())))
    assert encode_card(turned) == encode_card(card)


def test_the_card_is_json_that_names_its_format(tanh_model):
    data = json.loads((tanh_model / "card.json").read_text())
    assert data["format"] == 1
    assert data["abilities"]["generate"]["inputs"] == [
        {"name": "latent", "dtype": "float32", "shape": ["batch", 4], "feed": "normal"}
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"format": 1', '"format": 2', "format 2 is newer than 1, the newest this program reads"),
        ('"format": 1', '"format": 0', "format 0: this program reads and writes 1"),
        ('"family"', '"familly"', "unknown field `familly`"),
        ('"feed": "normal"', '"feed": "gaussian"', "Invalid enum value 'gaussian'"),
        ('"dtype": "float32"', '"dtype": "bfloat16"', "Invalid enum value 'bfloat16'"),
        ('"kind": "code"', '"kind": "latent"', "Invalid enum value 'latent'"),
        ('"name": "tanh-model"', '"name": "Tanh Model"', "name 'Tanh Model': write a-z, 0-9 and -"),
        ('"default_ability": "generate"', '"default_ability": "draw"', "default_ability 'draw': choose from"),
        ('"file": "encode.onnx"', '"file": "map.onnx"', "'map.onnx' is not among the files"),
        ('"encode.onnx": {', '"../encode.onnx": {', "file name '../encode.onnx': write a plain path"),
        ('"encode.onnx": {', '"/encode.onnx": {', "file name '/encode.onnx'"),
        ('"encode.onnx": {', r'"a\\b.onnx": {', r"file name 'a\\b.onnx'"),
        ('"encode.onnx": {', '"a/../../b": {', "file name 'a/../../b'"),
        ('"encode.onnx": {', '"c:/b": {', "file name 'c:/b'"),
        ('"class"', '"klass"', r"model has ['arguments', 'klass']: give class and arguments"),
        ('"batch"', '"rows"', "has a dimension 'rows': write a size from 1 or one of"),
        ("{", "[", "Expected `object`, got `array`"),
        ("}", "", "JSON is malformed"),
    ],
)
def test_a_bad_card_is_refused_with_its_path_and_the_reason(tanh_model, edit_card, old, new, message):
    edit_card(tanh_model, old, new)
    with pytest.raises(CardError) as caught:
        read_card(tanh_model)
    assert str(caught.value).startswith(f"{tanh_model / 'card.json'}: ")
    assert message in str(caught.value)


def test_a_sha256_is_64_hex_digits(tanh_model, edit_card):
    edit_card(tanh_model, read_card(tanh_model).files["encode.onnx"].sha256, "ABC")
    with pytest.raises(CardError, match=r"sha256 'ABC': write 64 hex digits, lower case - at `\$\.files"):
        read_card(tanh_model)


def test_a_saved_model_below_the_directory_may_be_listed(tanh_model):
    card = read_card(tanh_model)
    name = "saved_model/1/variables/variables.data-00000-of-00001"
    assert encode_card(msgspec.structs.replace(card, files={**card.files, name: File("0" * 64, 0)}))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Input("x", "float32", ("batch",), "label"), "a label is one of ('int32', 'int64'), not float32"),
        (lambda: Input("x", "int64", ("batch",), "normal"), "a normal is one of"),
        (lambda: Input("x", "float32", (4,), "normal"), "a normal has the shape ('batch', sizes ...)"),
        (lambda: Input("x", "float32", ("batch", "height"), "noise_map"), "a noise_map has the shape"),
        (lambda: Input("x", "float32", ("height",), "truncation"), "a truncation has the shape"),
        (lambda: Input("x", "float32", ("batch", 2), "uniform", (1.0, -1.0)), "the range (1.0, -1.0)"),
        (lambda: Input("x", "float32", ("batch", 2), "uniform", (0.0, float("inf"))), "the range (0.0, inf)"),
        (lambda: Input("x", "float32", ("batch", 2), "normal", classes=("a",)), "only a label has classes"),
        (lambda: Input("x", "int64", ("batch",), "label", classes=("a", "a")), "two classes of one name"),
        (lambda: Output("x", "float32", ("batch", 0), "code"), "a dimension 0"),
        (lambda: Output("x", "float32", ("batch", 8, 8, 1), "image", None, "NHWC"), "an image names its range"),
        (lambda: Output("x", "float32", ("batch", 8, 8, 1), "image", (0.0, 1.0)), "the layout NHWC"),
        (lambda: Output("x", "float32", ("batch", 3, 8, 8), "image", (0.0, 1.0), "NHWC"), "an image is (batch, height"),
        (lambda: Output("x", "float32", ("batch",), "code", support="binary"), "only a log_prob has a support"),
        (lambda: Ability((), ()), "at least one output"),
        (lambda: Ability((), (Output("x", "float32", (1,), "code"),) * 2), "two outputs of one name"),
    ],
)
def test_a_bad_record_is_refused_when_it_is_made(build, message):
    with pytest.raises(CardError, match=re.escape(message)):
        build()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": {"steps": object()}}, "unsupported"),
        ({"scores": (Score("fid", float("nan")),)}, "Expected `float`, got `null`"),
        ({"data": "mnist"}, "Expected `object`, got `str`"),
    ],
)
def test_a_card_that_could_not_be_read_back_is_not_written(tanh_model, change, message):
    with pytest.raises(CardError, match=f"card 'tanh-model': .*{message}"):
        encode_card(msgspec.structs.replace(read_card(tanh_model), **change))


def test_no_card_is_a_clear_error(tmp_path):
    with pytest.raises(CardError, match=re.escape(f"{tmp_path / 'card.json'}: no card to read (No such file")):
        read_card(tmp_path)


def test_files_that_match_are_accepted(tanh_model):
    verify_files(tanh_model, read_card(tanh_model))


def test_a_truncated_file_is_refused_with_both_sizes(tanh_model):
    path = tanh_model / "generate.onnx"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FileMismatchError) as caught:
        verify_files(tanh_model, read_card(tanh_model))
    assert str(caught.value) == f"{path}: truncated: expected {size} bytes, found 100"
    assert caught.value.path == path


def test_one_changed_bit_is_refused_with_both_sums(tanh_model):
    path = tanh_model / "generate.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    expected = read_card(tanh_model).files["generate.onnx"].sha256
    with pytest.raises(FileMismatchError, match=f"changed: expected sha256 {expected}, found [0-9a-f]{{64}}$"):
        verify_files(tanh_model, read_card(tanh_model))
    verify_files(tanh_model, read_card(tanh_model), ["encode.onnx"])


def test_a_missing_and_an_unlisted_file_are_named(tanh_model):
    card = read_card(tanh_model)
    (tanh_model / "encode.onnx").unlink()
    with pytest.raises(FileMismatchError, match=r"encode\.onnx: missing; the card lists it with \d+ bytes"):
        verify_files(tanh_model, card)
    with pytest.raises(CardError, match=r"'x.onnx' is not a file of 'tanh-model': it has"):
        verify_files(tanh_model, card, ["x.onnx"])


def test_importing_serving_loads_no_run_time_and_reading_a_card_none_either(tanh_model):
    code = (
        "import sys, serving\n"
        "heavy = {'onnxruntime', 'numpy', 'PIL', 'msgspec', 'starlette'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        f"serving.read_card({str(tanh_model)!r}), serving.Session, serving.Sampler, serving.Pipeline, serving.Card\n"
        "assert not {'onnxruntime', 'tensorflow', 'keras', 'zoo', 'starlette'} & set(sys.modules)\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=60)


def test_an_unknown_export_lists_the_good_ones():
    import serving

    with pytest.raises(AttributeError, match=r"no attribute 'Sesion': it exports \['Card'"):
        _ = serving.Sesion
