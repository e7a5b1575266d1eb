"""From a name to verified files: where they are looked for, what is refused, and what is left in the cache."""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tensorflow as tf

import zoo
from serving.card import Card, CardError, Data, FileMismatchError, hash_checked
from serving.session import ModelFileError
from zoo import describe, list_models, load_pretrained, pretrained, sources
from zoo.export.export import export
from zoo.extras import MissingExtraError
from zoo.presets.table import PRESETS, UnknownPresetError
from zoo.training.run import build_model

ROOT = Path(__file__).parents[2]
NAME = "dcgan-fashion-mnist"
FORMATS = ("keras", "onnx", "saved_model")
NEEDED = {"card.json", "model.weights.h5", "generate.onnx", "samples.png"}  # all but the SavedModel and the README

Edit = Callable[..., None]


class Handler(SimpleHTTPRequestHandler):
    """A directory, as a plain web server gives it and as the Hugging Face Hub does."""

    served: "Server"

    def do_GET(self) -> None:
        if self.path == self.served.endless:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                while not self.served.released.wait(self.served.pause):
                    self.served.sent += self.wfile.write(self.served.piece)
            return
        if self.path == self.served.held:
            self.served.reached.set()
            self.served.released.wait(60)
        super().do_GET()

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.removeprefix("/owner/repository/resolve/main"))

    def end_headers(self) -> None:
        self.send_header("ETag", f'"{hashlib.sha256(self.path.encode()).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        super().end_headers()

    def log_request(self, *_: Any) -> None:
        self.served.requests.append(self.path)

    def log_error(self, *_: Any) -> None:
        pass


class Server:
    """A directory over HTTP on this machine, until `stop`.

    requests: the paths asked for.  held: a path whose answer waits for `released`; `reached` says it was asked for.
    endless: a path whose answer is `piece` again and again, with a `pause` in seconds before each; `sent`: their bytes.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self.requests: list[str] = []
        self.held: str | None = None
        self.endless: str | None = None
        self.piece, self.pause, self.sent = bytes(2**16), 0.0, 0
        self.reached, self.released = threading.Event(), threading.Event()
        handler = type("Handler", (Handler,), {"served": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(directory)))
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self) -> None:
        self.released.set()
        if self.thread.is_alive():
            self.http.shutdown()
            self.thread.join()
            self.http.server_close()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a tiny export, by path."""
    preset, directory = PRESETS[NAME].twin(), tmp_path_factory.mktemp("original") / NAME
    export(build_model(preset), directory, preset=preset, data=Data("none", "train", 1, "MIT", "embedded"), recipe={})
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def write_files(directory: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    return directory


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ZOO_HOME, no source, and nothing shipped."""
    monkeypatch.setattr(pretrained, "SHIPPED", ())
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZOO_SOURCE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "home"


@pytest.fixture
def exported(tmp_path: Path, original: dict[str, bytes]) -> Path:
    """The user's own copy of the export."""
    return write_files(tmp_path / "own" / NAME, original)


@pytest.fixture
def server(tmp_path: Path, original: dict[str, bytes]) -> Iterator[Server]:
    write_files(tmp_path / "served" / NAME, original)
    running = Server(tmp_path / "served")
    yield running
    running.stop()


def edit_card(directory: Path, **fields: Any) -> None:
    """Change fields of a card as if its formats had been checked under them."""
    path = directory / "card.json"
    card = {**json.loads(path.read_text()), **fields}
    with contextlib.suppress(CardError, msgspec.ValidationError):
        card["checked"] = hash_checked(msgspec.convert(card, Card))
    path.write_text(json.dumps(card))


def edit_class(directory: Path, name: str, **arguments: Any) -> None:
    given = json.loads((directory / "card.json").read_text())["model"]["arguments"]
    edit_card(directory, model={"class": name, "arguments": {**given, **arguments}})


def change_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit_file(directory: Path, name: str, edit: Edit) -> None:
    """Change a file, and its hash on the card."""
    edit(directory / name)
    content = (directory / name).read_bytes()
    files = json.loads((directory / "card.json").read_text())["files"]
    edit_card(directory, files={**files, name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}})


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


damage = pytest.mark.parametrize(
    ("spoil", "reason"),
    [(change_byte, "changed: expected sha256"), (cut, "truncated: expected"), (Path.unlink, "missing")],
    ids=["one bit", "truncated", "missing"],
)
damaged_file = pytest.mark.parametrize(
    ("format", "file"), [("keras", "model.weights.h5"), ("onnx", "generate.onnx"), ("saved_model", "model.weights.h5")]
)


def files_below(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


# Names


def test_public_names() -> None:
    assert zoo.load_pretrained is pretrained.load_pretrained
    with pytest.raises(AttributeError, match=r"'load'; .*load_pretrained"):
        _ = zoo.load


@pytest.mark.parametrize("ask", [load_pretrained, describe])
@pytest.mark.parametrize("name", ["dcgan-fashon-mnist", "DCGAN-Fashion-MNIST", "dcgan_fashion_mnist"])
def test_unknown_preset_names_the_nearest(ask: Callable[[str], Any], name: str) -> None:
    with pytest.raises(UnknownPresetError, match=f"unknown preset '{name}': did you mean .*dcgan-fashion-mnist"):
        ask(name)


@pytest.mark.parametrize("name", ["", " ", "..\\x", "C:x", ".dcgan-fashion-mnist.partial"])
@pytest.mark.parametrize("source", [None, "http://127.0.0.1:1"])
def test_no_preset_can_have_that_name(name: str, source: str | None, cache: Path) -> None:
    with pytest.raises(UnknownPresetError, match="unknown preset"):
        load_pretrained(name, source=source)
    assert not cache.exists()


def test_preset_without_weights_says_how_to_get_them() -> None:
    with pytest.raises(
        CardError, match=f"{NAME} has no weights in this installation: train it with `zoo train {NAME}`"
    ):
        load_pretrained(NAME)


def test_unknown_format(exported: Path) -> None:
    with pytest.raises(ValueError, match=r"format='torch': choose from \['keras', 'onnx', 'saved_model'\]"):
        load_pretrained(str(exported), format="torch")


@pytest.mark.parametrize("path", ["../x", ".", "..", "./none", "/none/at/all", "~/none-at-all", "none/card.json"])
@pytest.mark.parametrize("source", [None, "http://127.0.0.1:1"])
def test_path_without_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, source: str | None) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CardError, match=r"is read as a path, and there is no .*card\.json"):
        load_pretrained(path, source=source)


@pytest.mark.parametrize("spelling", ["absolute", "relative", "in here", "dot", "home", "Path"])
def test_path_of_an_export(exported: Path, monkeypatch: pytest.MonkeyPatch, spelling: str) -> None:
    monkeypatch.chdir(exported if spelling == "dot" else exported.parent)
    monkeypatch.setenv("HOME", str(exported.parent))
    spelled = {
        "absolute": str(exported),
        "relative": f"./{NAME}",
        "in here": NAME,  # a path comes before a preset of the same name
        "dot": ".",
        "home": f"~/{NAME}",
        "Path": exported,
    }
    assert load_pretrained(spelled[spelling], format="onnx").sample(1).shape == (1, 16, 16, 1)


# Damaged files


@damage
@damaged_file
def test_damaged_file_of_the_users_is_refused_and_kept(
    exported: Path, spoil: Edit, reason: str, format: str, file: str
) -> None:
    for path in (exported / "saved_model").rglob("*.*"):
        path.unlink()  # so that it is rebuilt from the weights
    spoil(exported / file)
    before = files_below(exported)
    with pytest.raises(FileMismatchError, match=reason):
        load_pretrained(str(exported), format=format)
    assert files_below(exported) == before


@pytest.mark.parametrize("spoil", [change_byte, cut, Path.unlink])
def test_damaged_saved_model_is_refused(exported: Path, spoil: Edit) -> None:
    spoil(exported / "saved_model" / "1" / "variables" / "variables.index")
    with pytest.raises(FileMismatchError, match=r"variables\.index"):
        load_pretrained(str(exported), format="saved_model")


@pytest.mark.parametrize(
    ("format", "file"),
    [
        ("keras", "model.weights.h5"),
        ("onnx", "generate.onnx"),
        *(("saved_model", f"saved_model/1/{name}") for name in ("saved_model.pb", "variables/variables.index")),
    ],
)
def test_a_damaged_file_with_its_own_hash_on_the_card_is_named_where_it_lies(
    exported: Path, format: str, file: str
) -> None:
    edit_file(exported, file, cut)
    with pytest.raises(ValueError, match=re.escape(f"{exported}/")) as error:
        load_pretrained(exported, format=format)
    assert isinstance(error.value, CardError if format != "onnx" else ModelFileError)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "config", ["[" * 100_000, '{"recipe": {"preset": ["a"]}}', '{"recipe": {"preset": "a\\n\\u001b[2J"}}']
)
def test_a_run_without_an_export_is_refused_in_one_line(config: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(CardError, match="is a run without an export: `zoo train") as error:
        describe(f"{tmp_path}/")
    assert str(error.value).isprintable()


@damage
@damaged_file
def test_damaged_file_in_the_cache_is_refused_deleted_and_fetched_again(
    server: Server, cache: Path, spoil: Edit, reason: str, format: str, file: str
) -> None:
    expected = load_pretrained(NAME, format=format, source=server.url).sample(1)
    spoil(cache / NAME / file)
    with pytest.raises(FileMismatchError, match=reason):
        load_pretrained(NAME, format=format, source=server.url)
    assert not (cache / NAME / file).exists()
    np.testing.assert_array_equal(load_pretrained(NAME, format=format, source=server.url).sample(1), expected)


@pytest.mark.parametrize("content", [b"", b"{", b"<html>", b"\xff\xfe"], ids=["empty", "cut", "HTML", "no UTF-8"])
def test_damaged_card(exported: Path, server: Server, cache: Path, content: bytes) -> None:
    (exported / "card.json").write_bytes(content)
    with pytest.raises(CardError, match=r"card\.json"):
        load_pretrained(str(exported))
    assert (exported / "card.json").read_bytes() == content

    load_pretrained(NAME, format="onnx", source=server.url)
    (cache / NAME / "card.json").write_bytes(content)
    with pytest.raises(CardError, match=r"card\.json"):
        load_pretrained(NAME, format="onnx", source=server.url)
    assert load_pretrained(NAME, format="onnx", source=server.url).sample(1).any()


@pytest.mark.parametrize("file", ["../outside.onnx", "/etc/hostname", "..", "a/../../b"])
def test_card_that_points_outside_its_directory(server: Server, cache: Path, file: str) -> None:
    card = json.loads((server.directory / NAME / "card.json").read_text())
    edit_card(server.directory / NAME, files={**card["files"], file: card["files"]["generate.onnx"]})
    with pytest.raises(CardError, match="write a plain path"):
        load_pretrained(NAME, source=server.url)
    assert files_below(cache) == set()


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "keras.Sequential",
        "zoo.export.export",
        "zoo.models.gan.partial",
        "zoo.models.gan.keras.Sequential",
        "zoo.models.gan.GenerativeModel",
        "zoo.models.gan.Absent",
        "zoo.models.absent.GAN",
        "zoo.models..GAN",
        "GAN",
        "",
    ],
)
def test_card_names_a_class_that_is_no_model_of_the_zoo(exported: Path, name: str) -> None:
    edit_class(exported, name)
    with pytest.raises(CardError, match="names the class"):
        load_pretrained(str(exported))


@pytest.mark.parametrize(
    ("arguments", "reason"), [({"depth": 3}, "depth"), ({"loss": "best"}, "choose from"), ({"image_shape": 5}, "")]
)
def test_card_has_arguments_that_the_class_refuses(exported: Path, arguments: dict[str, Any], reason: str) -> None:
    edit_class(exported, "zoo.models.gan.GAN", **arguments)
    with pytest.raises(CardError, match=f"zoo.models.gan.GAN does not take the card's arguments: .*{reason}"):
        load_pretrained(str(exported))


def test_weights_of_another_size(exported: Path) -> None:
    edit_class(exported, "zoo.models.gan.GAN", width=16)
    with pytest.raises(ValueError, match="has shape"):
        load_pretrained(str(exported))


@pytest.mark.parametrize(
    "arguments",
    [
        {"width": 4000},
        {"latent_dim": 10**9},
        {"latent_dim": 10**18},
        {"image_shape": [2**20, 2**20, 1]},
        {"image_shape": [2**40, 2**40, 1]},
        {"architecture": "mlp", "width": 10**6},
        {"architecture": "mlp", "image_shape": [10**5, 10**5, 3]},
    ],
    ids=str,
)
def test_arguments_of_a_huge_model_are_refused_before_they_take_memory(
    exported: Path, arguments: dict[str, Any]
) -> None:
    """The largest array that any of these may make has 4 MB more than the file's."""
    made: list[int] = []

    def count(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
        variable = next_creator(**kwargs)
        made.append(math.prod(variable.shape))
        return variable

    edit_class(exported, "zoo.models.gan.GAN", **arguments)
    with (
        tf.variable_creator_scope(count),
        pytest.raises(
            CardError, match=f"{exported}: zoo.models.gan.GAN does not take the card's arguments: ."
        ) as caught,
    ):
        load_pretrained(str(exported))
    assert sum(made) <= 2 * (exported / "model.weights.h5").stat().st_size + 2**20
    assert "\n" not in str(caught.value)


# SavedModels


PLANTED = "planted"


def plant(directory: Path, operation: Callable[[tf.Tensor], tf.Tensor]) -> None:
    """A SavedModel of what fits the card, save that it does something besides."""
    shutil.rmtree(directory, ignore_errors=True)
    target = str(directory.parents[2] / PLANTED)

    def generate(latent: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.io.write_file(target, "x")]):
            return {"image": operation(tf.reshape(tf.tile(latent, (1, 256)), (-1, 256, 8))[:, :, 0])}

    module = tf.Module()
    signature = tf.function(generate, input_signature=[tf.TensorSpec((None, 8), name="latent")])
    tf.saved_model.save(module, str(directory), signatures={"serving_default": signature})


def list_in_card(directory: Path) -> None:
    """The card lists whatever lies in saved_model/."""
    card = json.loads((directory / "card.json").read_text())
    files = {name: record for name, record in card["files"].items() if not name.startswith("saved_model/")}
    for path in (directory / "saved_model").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            record = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            files[path.relative_to(directory).as_posix()] = record
    edit_card(directory, files=files)


def image_of(rows: tf.Tensor) -> tf.Tensor:
    return tf.reshape(rows, (-1, 16, 16, 1))


def test_a_saved_model_that_the_card_does_not_list_is_never_run(exported: Path) -> None:
    expected = load_pretrained(str(exported), format="saved_model").sample(2)
    card = json.loads((exported / "card.json").read_text())
    edit_card(exported, files={name: r for name, r in card["files"].items() if not name.startswith("saved_model/")})
    plant(exported / "saved_model" / "1", image_of)
    np.testing.assert_array_equal(load_pretrained(str(exported), format="saved_model").sample(2), expected)
    assert not (exported.parent / PLANTED).exists()


def test_a_listed_saved_model_that_writes_a_file_is_refused(exported: Path) -> None:
    plant(exported / "saved_model" / "1", image_of)
    list_in_card(exported)
    with pytest.raises(CardError, match=r"saved_model\.pb: the operation WriteFile"):
        load_pretrained(str(exported), format="saved_model")
    assert not (exported.parent / PLANTED).exists()


def test_files_of_a_saved_model_that_the_card_does_not_list_are_not_used(exported: Path) -> None:
    card = json.loads((exported / "card.json").read_text())
    edit_card(exported, files={name: r for name, r in card["files"].items() if "/variables/" not in name})
    with pytest.raises(CardError, match=r"saved_model\.pb is not a readable SavedModel"):
        load_pretrained(str(exported), format="saved_model")


@pytest.mark.parametrize("kind", ["symbolic link", "pipe"])
def test_a_saved_model_with_a_link_or_a_pipe_is_refused(exported: Path, kind: str) -> None:
    path = exported / "saved_model" / "1" / "variables" / "variables.index"
    path.rename(exported / "elsewhere")
    path.symlink_to(exported / "elsewhere") if kind == "symbolic link" else os.mkfifo(path)
    with pytest.raises(CardError, match=r"variables\.index: a SavedModel consists of regular files"):
        load_pretrained(str(exported), format="saved_model")


def test_a_saved_model_of_other_signatures_than_the_card_says(exported: Path) -> None:
    module = tf.Module()
    other = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec((None, 8), name="x")])
    for signatures, reason in (({"generate": other}, "no signature"), ({"serving_default": other}, "the card says")):
        shutil.rmtree(exported / "saved_model")
        tf.saved_model.save(module, str(exported / "saved_model" / "1"), signatures=signatures)
        list_in_card(exported)
        with pytest.raises(CardError, match=rf"saved_model\.pb.*{reason}"):
            load_pretrained(str(exported), format="saved_model")


# Fetching


@pytest.mark.parametrize("format", FORMATS)
def test_fetched_once_then_from_the_cache(server: Server, cache: Path, exported: Path, format: str) -> None:
    first = load_pretrained(NAME, format=format, source=server.url).sample(2, seed=3)
    assert sorted(server.requests) == sorted(f"/{NAME}/{file}" for file in NEEDED)
    assert files_below(cache) == {f"{NAME}/{file}" for file in NEEDED}
    server.stop()
    again = load_pretrained(NAME, format=format, source=server.url).sample(2, seed=3)
    np.testing.assert_array_equal(first, again)
    own = load_pretrained(str(exported), format="keras").sample(2, seed=3)
    assert abs(own.astype(int) - first).max() <= 1


def test_source_and_cache_come_from_the_environment(
    server: Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_SOURCE", f"{server.url}/")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "elsewhere"))
    load_pretrained(NAME, format="onnx")
    assert files_below(tmp_path / "elsewhere") == {f"{NAME}/{file}" for file in NEEDED}
    assert not cache.exists()


def test_list_and_describe_know_what_is_here(server: Server, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list_models() == sorted(PRESETS)
    assert list_models(family="dcgan") == sorted(name for name, p in PRESETS.items() if p.family == "DCGAN")
    assert list_models(pretrained=True) == []
    assert describe(NAME)["pretrained"] is False
    monkeypatch.setattr(pretrained, "SHIPPED", (exported.parent,))
    assert list_models(pretrained=True) == [NAME]
    assert list_models(pretrained=False) == sorted(set(PRESETS) - {NAME})
    record = describe(NAME)
    assert (record["pretrained"], record["directory"]) == (True, str(exported))
    assert json.loads(json.dumps(record["card"])).items() >= json.loads((exported / "card.json").read_text()).items()


@pytest.mark.parametrize("file", sorted(NEEDED - {"card.json"}))
@pytest.mark.parametrize("spoil", [change_byte, cut, Path.unlink], ids=["one bit", "truncated", "404"])
def test_failed_fetch_leaves_no_preset_and_can_be_repeated(
    server: Server, cache: Path, original: dict[str, bytes], spoil: Edit, file: str
) -> None:
    spoil(server.directory / NAME / file)
    with pytest.raises(CardError, match=file):
        load_pretrained(NAME, format="onnx", source=server.url)
    assert files_below(cache) == set()
    with pytest.raises(CardError, match="no weights in this installation"):
        load_pretrained(NAME, format="onnx")
    (server.directory / NAME / file).write_bytes(original[file])
    assert load_pretrained(NAME, format="onnx", source=server.url).sample(1).any()
    assert files_below(cache) == {f"{NAME}/{file}" for file in NEEDED}


def test_fetch_that_was_killed_is_begun_again(server: Server, cache: Path) -> None:
    """A killed process cleans nothing up."""
    server.held = f"/{NAME}/model.weights.h5"
    code = f"from zoo.pretrained import fetch; fetch({NAME!r}, {server.url!r})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        assert server.reached.wait(60)
    finally:
        process.kill()
        process.wait()
        server.held = None
        server.released.set()
    assert any(path.endswith("card.json") for path in files_below(cache))
    with pytest.raises(CardError, match="no weights in this installation"):
        load_pretrained(NAME, format="onnx")
    assert load_pretrained(NAME, format="onnx", source=server.url).sample(1).any()
    assert files_below(cache) == {f"{NAME}/{file}" for file in NEEDED}  # nothing is left of the killed one


def test_a_fetch_under_way_is_left_alone(cache: Path) -> None:
    cache.mkdir()
    others = [cache / ".decoded.x", cache / NAME, cache / f".{NAME}"]
    for other in others:
        other.mkdir()
    dead = cache / f".{NAME}.dead"
    dead.mkdir()
    (dead / "card.json").touch()
    with pretrained.temporary_directory(cache, NAME) as first:
        assert not dead.exists()
        with pretrained.temporary_directory(cache, NAME) as second:
            assert first != second
            assert first.is_dir()
        assert not second.exists()
    assert sorted(cache.iterdir()) == sorted(others)


# A source that gives more than it should, or never ends


@pytest.mark.parametrize("file", ["card.json", "model.weights.h5"])
def test_no_more_is_read_than_the_card_lists(
    server: Server, cache: Path, original: dict[str, bytes], file: str
) -> None:
    server.endless = f"/{NAME}/{file}"
    limit = sources.CARD_SIZE if file == "card.json" else len(original[file])
    with pytest.raises(CardError, match=rf"{NAME}/{file}: more than the {limit} bytes that it may have"):
        load_pretrained(NAME, format="onnx", source=server.url)
    assert server.sent < limit + 2**23  # what the two ends of a connection hold
    assert files_below(cache) == set()


@pytest.mark.parametrize("source", ["web", "hub"])
@pytest.mark.parametrize("piece", [b"\0", b""], ids=["dripping", "silent"])
def test_a_source_that_takes_forever(
    server: Server,
    request: pytest.FixtureRequest,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    piece: bytes,
    source: str,
) -> None:
    if source == "hub":
        request.getfixturevalue("hub")
    monkeypatch.setattr(sources, "PATIENCE", 0.5)
    monkeypatch.setattr(sources, "SLOWEST", 2**30)
    path = f"/{NAME}/model.weights.h5"
    server.endless = path if source == "web" else f"/owner/repository/resolve/main{path}"
    server.piece, server.pause = piece, 0.02
    with pytest.raises(CardError, match=rf"does not give {NAME}/model.weights.h5: it takes longer than 1 second"):
        load_pretrained(NAME, format="onnx", source=server.url if source == "web" else "hf://owner/repository")
    assert files_below(cache) == set()


@pytest.mark.parametrize(
    "source", ["http://[", "http://a b", "https://" + "a" * 300, "hf://", "hf://a/b/c/../d", "hf://\n"]
)
def test_a_source_with_an_address_that_there_cannot_be(cache: Path, source: str) -> None:
    with pytest.raises(CardError, match=f"{re.escape(source)} does not give {NAME}/card.json: ."):
        load_pretrained(NAME, source=source)


def test_home_in_the_cache_directory_is_expanded(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("ZOO_HOME", "~/models")
    monkeypatch.chdir(tmp_path)
    load_pretrained(NAME, format="onnx", source=server.url)
    assert (tmp_path / "user" / "models" / NAME / "card.json").is_file()
    assert not (tmp_path / "~").exists()


def test_source_that_has_no_such_preset(server: Server, cache: Path) -> None:
    with pytest.raises(CardError, match=rf"{server.url} does not give dcgan-images/card\.json: 404"):
        load_pretrained("dcgan-images", source=server.url)
    assert files_below(cache) == set()


def test_source_that_does_not_answer(server: Server, cache: Path) -> None:
    server.stop()
    with pytest.raises(CardError, match=rf"{server.url} does not give {NAME}/card\.json"):
        load_pretrained(NAME, source=server.url)
    assert files_below(cache) == set()


def test_source_that_answers_with_a_page(server: Server, cache: Path) -> None:
    (server.directory / NAME / "card.json").write_text("<html>Sign in</html>")
    with pytest.raises(CardError, match=r"card\.json: JSON is malformed"):
        load_pretrained(NAME, source=server.url)
    assert files_below(cache) == set()


def test_source_that_answers_with_another_preset(server: Server, cache: Path) -> None:
    edit_card(server.directory / NAME, name="dcgan-images")
    with pytest.raises(CardError, match=f"{server.url} answers for '{NAME}' with the card of 'dcgan-images'"):
        load_pretrained(NAME, source=server.url)
    assert files_below(cache) == set()


@pytest.mark.parametrize("source", ["example.org/models", "ftp://example.org", "file:///tmp", "hf:/owner/x", "http"])
def test_source_of_an_unknown_kind(source: str) -> None:
    with pytest.raises(ValueError, match=f"source='{source}': give a base URL .*or hf://owner/repository"):
        load_pretrained(NAME, source=source)


# The Hugging Face Hub


def test_hub_without_its_package(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # an import then fails as if it were not installed
    with pytest.raises(MissingExtraError, match=r'huggingface_hub: pip install "generative-zoo\[hub\]"'):
        load_pretrained(NAME, source="hf://owner/repository")
    assert files_below(cache) == set()


@pytest.fixture
def hub(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """`server`, spoken to by huggingface_hub itself."""
    from huggingface_hub import constants

    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return server


def test_hub_gives_a_preset(hub: Server, cache: Path) -> None:
    first = load_pretrained(NAME, format="onnx", source="hf://owner/repository").sample(2)
    assert files_below(cache) == {f"{NAME}/{file}" for file in NEEDED}
    hub.stop()
    np.testing.assert_array_equal(load_pretrained(NAME, format="onnx").sample(2), first)


@pytest.mark.parametrize("spoil", [change_byte, Path.unlink], ids=["one bit", "404"])
def test_hub_gives_a_damaged_preset(hub: Server, cache: Path, spoil: Edit) -> None:
    spoil(hub.directory / NAME / "generate.onnx")
    with pytest.raises(CardError, match=r"generate\.onnx"):
        load_pretrained(NAME, format="onnx", source="hf://owner/repository")
    assert files_below(cache) == set()
