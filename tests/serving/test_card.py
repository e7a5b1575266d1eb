import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.card import (
    CARD_LIMIT,
    Ability,
    CardError,
    File,
    FileMismatchError,
    Input,
    Iteration,
    Output,
    Score,
    encode_card,
    read_card,
    verify_files,
)

ROOT = Path(__file__).parents[2]


def test_a_card_survives_the_round_trip_and_is_the_same_bytes_again(tanh_model):
    card = read_card(tanh_model)
    assert card == read_card(tanh_model / "card.json")
    assert encode_card(card) == (tanh_model / "card.json").read_bytes()
    assert encode_card(card).endswith(b"}\n")
    assert card.abilities["generate"].inputs[0].shape == ("batch", 4)


def test_an_output_may_be_a_multiple_of_a_free_size(image_model):
    card = read_card(image_model)
    assert encode_card(card) == (image_model / "card.json").read_bytes()
    assert card.abilities["upscale"].outputs[0].shape == ("batch", "4*height", "4*width", 3)
    assert {name: ability.scale for name, ability in card.abilities.items()} == {
        "translate_a_to_b": 1,
        "translate_b_to_a": 1,
        "upscale": 4,
    }


def test_order_of_keys_does_not_change_the_bytes(tanh_model):
    card = read_card(tanh_model)
    turned = msgspec.structs.replace(card, recipe=dict(reversed(card.recipe.items())))
    assert encode_card(turned) == encode_card(card)


def test_the_card_is_json_that_names_its_format(tanh_model):
    data = json.loads((tanh_model / "card.json").read_text())
    assert data["format"] == 2
    assert data["abilities"]["generate"]["inputs"] == [
        {"name": "latent", "dtype": "float32", "shape": ["batch", 4], "feed": "normal"}
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"format": 2', '"format": 3', "format 3 is newer than 2, the newest this program reads"),
        (
            '"format": 2',
            '"format": 1',
            "format 1 does not say what its formats were checked under: export the model again",
        ),
        ('"format": 2', '"format": 0', "format 0: this program reads and writes 2"),
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
        ('"encode.onnx": {', '"Card.json": {', "a card can't list itself"),
        ('"zoo.models.gan.GAN"', "[[]]", "model: its class is a name, its arguments are a mapping"),
        ('"latent_dim": 4', '"latent_dim": ' + "[" * 20 + "]" * 20, "model nests more than 16 levels deep"),
        ('"latent_dim": 4', '"latent_dim": ' + "[" * 4000 + "]" * 4000, "lists and mappings nest too deep: 16 levels"),
        ('"latent_dim": 4', f'"latent_dim": {2**64}', "model holds an integer of more than 64 bits"),
        ('"latent_dim": 4', '"latent_dim": NaN', "JSON is malformed"),
        ('"latent_dim": 4', '"latent_dim": -Infinity', "JSON is malformed"),
        ('"latent_dim": 4', '"latent_dim": 1e999', "Number out of range"),
        ('"latent_dim": 4', '"latent_dim": 4, "latent_dim": 4', "two fields 'latent_dim' in one object"),
        ('"seed": 0', '"seed": 0, "seed": 1', "two fields 'seed' in one object"),
        ('"seed": 0', f'"seed": {10**4000}', "recipe holds an integer of more than 64 bits"),
        ('"count": 0', '"count": -1', "count -1: data has 0 examples or more"),
        ('"count": 0', f'"count": {10**4000}', "count 1000"),
        ('"size": ', f'"size": {10**30}', "a file has 0 bytes or more, and less than 2**63"),
        ("            8,\n", f"            {2**40},\n", "'image' has more than 16777216 values a row"),
        ("            8,\n", f"            {10**4000},\n", "'image' has more than 16777216 values a row"),
        ("            8,\n", "            1,\n" * 9, "'image' has 20 axes: at most 8 are run"),
        ('"latent"', '""', "name '': a tensor has one of printable signs"),
        ('"latent"', r'"a\n\u001b[2J"', r"name 'a\n\x1b[2J': a tensor has one of printable signs"),
        ('"family"', r'"\u001b[2J\n"', r"unknown field `\x1b[2J `"),
        ('"family"', '"' + "a" * 100_000 + '"', "aaa ..."),
        ("-1.0,\n", "-1e300,\n", "the range (-1e+300, 1.0)"),
        ("-1.0,\n", "0.9999999999999999999,\n", "the range (1.0, 1.0)"),
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
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000


CHECKED = (
    "card.json: model, abilities, default_ability or files were changed after the formats had been checked under them: "
    "put back what stood there, or export the model again"
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"latent_dim": 4', '"latent_dim": 4, "prior": "uniform"'),
        ("zoo.models.gan.GAN", "zoo.models.wgan.WGAN"),
        ('"feed": "normal"', '"feed": "uniform"'),
        ("-1.0,", "-0.5,"),
        ("            8,\n            8,", "            4,\n            16,"),
        ('"kind": "code"', '"kind": "style"'),
        ('"default_ability": "generate"', '"default_ability": "encode"'),
        ('"file": "encode.onnx"', '"file": "generate.onnx"'),
        ('"size": 1', '"size": 2'),
    ],
)
def test_what_the_formats_were_checked_under_can_only_change_with_an_export(tanh_model, edit_card, old, new):
    edit_card(tanh_model, old, new)
    with pytest.raises(CardError, match=re.escape(CHECKED)):
        read_card(tanh_model)


def test_a_card_cannot_be_written_with_other_arguments_than_were_checked(tanh_model):
    card = read_card(tanh_model)
    changed = msgspec.structs.replace(card, model={**card.model, "arguments": {"latent_dim": 8}})
    with pytest.raises(CardError, match="card 'tanh-model': model, abilities, default_ability or files were changed"):
        encode_card(changed)


def test_no_card_goes_without_what_was_checked(tanh_model, edit_card):
    edit_card(tanh_model, f'"checked": "{read_card(tanh_model).checked}",', "")
    with pytest.raises(CardError, match="were changed after the formats had been checked"):
        read_card(tanh_model)


def test_scores_and_words_may_change(tanh_model, edit_card):
    card = read_card(tanh_model)
    edit_card(tanh_model, "A graph for tests.", "Another sentence.")
    assert read_card(tanh_model).checked == card.checked
    scored = msgspec.structs.replace(card, scores=(Score("fid", 1.5, protocol={"seeds": [0]}),))
    (tanh_model / "card.json").write_bytes(encode_card(scored))
    assert read_card(tanh_model) == scored


def test_what_was_checked_does_not_hang_on_how_the_card_was_written(tanh_model):
    """Indents, the order of keys and integers for floats are not what it says."""
    path, card = tanh_model / "card.json", read_card(tanh_model)
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert read_card(tanh_model) == card
    ability = Ability((Input("x", "float32", ("batch", 2), "uniform", (0, 1)),), card.abilities["encode"].outputs)
    made = msgspec.structs.replace(card, abilities={"generate": ability}, checked="")
    path.write_bytes(encode_card(made))
    assert read_card(tanh_model).abilities["generate"].inputs[0].range == (0.0, 1.0)


@pytest.mark.parametrize("path", sorted((ROOT / "exported").glob("*/card.json")), ids=lambda path: path.parent.name)
def test_cards_of_this_repository_are_as_they_were_written(path):
    assert encode_card(read_card(path)) == path.read_bytes()


def test_a_card_is_a_regular_file_of_modest_size(tanh_model, tmp_path):
    path = tanh_model / "card.json"
    os.truncate(path, CARD_LIMIT + 1)
    with pytest.raises(
        CardError, match=f"{path}: no card to read .{CARD_LIMIT + 1} bytes, and at most {CARD_LIMIT} are"
    ):
        read_card(tanh_model)
    path.unlink()
    os.mkfifo(path)
    for one in (tanh_model, path, Path("/dev/zero")):
        with pytest.raises(CardError, match=r": no card to read \(not a regular file\)"):
            read_card(one)
    with pytest.raises(CardError, match=r"no card to read \(embedded null byte"):
        read_card("\0")
    with pytest.raises(CardError, match=r"no card to read \(File name too long"):
        read_card("a" * 300)


def test_a_card_that_is_a_link_out_of_its_directory_is_not_read(tanh_model, tmp_path):
    path = tanh_model / "card.json"
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(CardError, match=r"card\.json: no card to read \(a link that leads out of the directory"):
        read_card(tanh_model)


def test_a_card_too_large_to_be_read_is_not_written(tanh_model):
    card = msgspec.structs.replace(read_card(tanh_model), summary="a" * CARD_LIMIT)
    with pytest.raises(CardError, match=f"card 'tanh-model': .* bytes: a card has at most {CARD_LIMIT}"):
        encode_card(card)


def read_or_refuse(path):
    """The card, or None where it is refused in one line that names it; anything else is raised."""
    try:
        return read_card(path)
    except CardError as error:
        line = str(error)
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    return None


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(place=st.integers(0, 10**6), value=PLAIN)
def test_any_value_in_any_place_is_read_or_refused_in_one_line(tanh_model, tmp_path, place, value):
    card = json.loads((tanh_model / "card.json").read_text())
    places = list(walk(card))
    owner, key = places[place % len(places)]
    owner[key] = value
    path = tmp_path / "card.json"
    path.write_text(json.dumps(card))
    found = read_or_refuse(path)
    if found:
        path.write_bytes(encode_card(found))  # what can be read can be written, and is the same
        assert read_card(path) == found


def walk(value):
    """Every (container, key) below plain data."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from walk(value[key])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_in_the_text_are_read_or_refused_in_one_line(tanh_model, tmp_path, data):
    text = (tanh_model / "card.json").read_bytes()
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(start + 20, len(text))))
    path = tmp_path / "card.json"
    path.write_bytes(text[:start] + data.draw(st.binary(max_size=20)) + text[stop:])
    read_or_refuse(path)


def test_a_sha256_is_64_hex_digits(tanh_model, edit_card):
    edit_card(tanh_model, read_card(tanh_model).files["encode.onnx"].sha256, "ABC")
    with pytest.raises(CardError, match=r"sha256 'ABC': write 64 hex digits, lower case - at `\$\.files"):
        read_card(tanh_model)


def test_a_saved_model_below_the_directory_may_be_listed(tanh_model):
    card = read_card(tanh_model)
    name = "saved_model/1/variables/variables.data-00000-of-00001"
    assert encode_card(msgspec.structs.replace(card, files={**card.files, name: File("0" * 64, 0)}, checked=""))


def image_output(height, width):
    return Output("x", "float32", ("batch", height, width, 3), "image", (-1.0, 1.0), "NHWC")


def make_step(states, shape=("batch", 3)):
    outputs = Output("next", "float32", shape, "state"), Output("longer", "float32", ("batch", 4), "state")
    inputs = Input("state", "float32", shape, "state"), Input("image", "float32", ("batch", 3), "image")
    return Ability(inputs, outputs, iteration=Iteration("gibbs", 10, states))


def test_how_an_ability_is_repeated_is_on_the_card_and_among_what_was_checked(tanh_model):
    card = read_card(tanh_model)
    assert "iteration" not in json.loads(encode_card(card))["abilities"]["generate"]
    abilities = {**card.abilities, "step": make_step({"state": "next"})}
    written = msgspec.json.decode(encode_card(msgspec.structs.replace(card, abilities=abilities, checked="")))
    assert written["abilities"]["step"]["iteration"] == {"kind": "gibbs", "count": 10, "states": {"state": "next"}}
    assert written["checked"] != card.checked


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
        (lambda: Input("x", "float32", ("batch", 2), "uniform", (0.0, 1e-40)), "the range (0.0, 1e-40)"),
        (lambda: Input("x", "float16", ("batch", 2), "uniform", (0.0, 1e5)), "the range (0.0, 100000.0)"),
        (lambda: Output("x", "float32", ("batch", 0), "code"), "a dimension 0"),
        (lambda: Output("x", "float32", ("batch", 4096, 4097), "code"), "more than 16777216 values a row"),
        (lambda: Output("x", "float32", ("batch", 8, 8, 1), "image", None, "NHWC"), "an image names its range"),
        (lambda: Output("x", "float32", ("batch", 8, 8, 1), "image", (0.0, 1.0)), "the layout NHWC"),
        (lambda: Output("x", "float32", ("batch", 3, 8, 8), "image", (0.0, 1.0), "NHWC"), "an image is (batch, height"),
        (lambda: Output("x", "float32", ("batch",), "code", support="binary"), "only a log_prob has a support"),
        (lambda: Input("x", "float32", ("batch", "4*height"), "image"), "only an output's are multiples"),
        (lambda: image_output("1*height", "1*width"), "a dimension '1*height'"),
        (lambda: image_output("04*height", "4*width"), "a dimension '04*height'"),
        (lambda: image_output("4*rows", "4*width"), "a dimension '4*rows'"),
        (lambda: image_output("4 * height", "4*width"), "a dimension '4 * height'"),
        (lambda: image_output("height*4", "4*width"), "a dimension 'height*4'"),
        (lambda: image_output("4*height", "2*width"), "both sides of an image are scaled alike"),
        (lambda: image_output("4*height", "width"), "both sides of an image are scaled alike"),
        (lambda: Output("x", "float32", ("4*batch",), "code"), "a dimension '4*batch'"),
        (lambda: Ability((), (image_output("4*height", "4*width"),)), "'4*height', and no input has 'height'"),
        (lambda: Ability((), ()), "at least one output"),
        (lambda: Iteration("gibbs", 0, {}), "iteration: 0 steps"),
        (lambda: make_step({}), "its states are [], the inputs that take one ['state']"),
        (lambda: make_step({"state": "other"}), "the state 'state' can't take the output 'other'"),
        (lambda: make_step({"state": "longer"}), "the state 'state' can't take the output 'longer'"),
        (lambda: make_step({"state": "next"}, ("height", 3)), "the state 'state' has the shape ('batch', sizes ...)"),
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
        ({"summary": "\ud800"}, "surrogates not allowed"),
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
    with pytest.raises(CardError) as error:
        verify_files(tanh_model, card, ["x.onnx"])
    assert str(error.value) == f"{tanh_model / 'card.json'} lists no 'x.onnx': it has {sorted(card.files)}"


def test_only_regular_files_within_the_directory_are_read(tanh_model, tmp_path):
    card, path = read_card(tanh_model), tanh_model / "generate.onnx"
    outside = path.rename(tmp_path / "generate.onnx")
    path.symlink_to(outside)
    with pytest.raises(
        FileMismatchError, match=r"generate\.onnx: can't be read: a link that leads out of the directory"
    ):
        verify_files(tanh_model, card)
    path.unlink()
    (tanh_model / "kept.onnx").write_bytes(outside.read_bytes())
    path.symlink_to("kept.onnx")
    verify_files(tanh_model, card)
    path.unlink()
    os.link(outside, path)  # as package managers install; its bytes are compared
    verify_files(tanh_model, card)
    for make in (os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to(path)):
        path.rmdir() if path.is_dir() else path.unlink()
        make(path)
        with pytest.raises(FileMismatchError, match=r"generate\.onnx: can't be read: (not a regular|Too many levels)"):
            verify_files(tanh_model, card)


def test_a_path_through_a_file_is_a_missing_file(tanh_model):
    card = read_card(tanh_model)
    for name, reason in (("card.json/x", "missing; the card lists it with 0 bytes"), ("a" * 300, "File name too long")):
        listed = msgspec.structs.replace(card, files={**card.files, name: File("0" * 64, 0)})
        with pytest.raises(FileMismatchError, match=reason):
            verify_files(tanh_model, listed, [name])


def test_importing_serving_loads_no_run_time_and_reading_a_card_none_either(tanh_model):
    code = (
        "import sys, serving\n"
        "heavy = {'onnxruntime', 'numpy', 'PIL', 'msgspec', 'starlette'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        f"serving.read_card({str(tanh_model)!r}), serving.Session, serving.Sampler, serving.Pipeline, serving.Card\n"
        "assert not {'onnxruntime', 'tensorflow', 'keras', 'zoo', 'starlette'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_an_unknown_export_lists_the_good_ones():
    import serving

    with pytest.raises(AttributeError, match=r"no attribute 'Sesion': it exports \['Card'"):
        _ = serving.Sesion
