"""What images can come from, that they are the same from each, and what is said about everything else."""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper, save
from PIL import Image

from serving.card import Card, CardError, Data, encode_card
from zoo import load_pretrained, pretrained
from zoo.evaluation import source as sources
from zoo.evaluation.source import FolderSource, GeneratorSource, ImageSource, ReconstructionSource, open_source
from zoo.export.export import export
from zoo.presets.table import PRESETS, UnknownPresetError
from zoo.training.run import build_model

NAME = "dcgan-fashion-mnist"
SEEDS = (3, 5)

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny generator in all formats; nothing here changes it."""
    preset, directory = PRESETS[NAME].twin(), tmp_path_factory.mktemp("exported") / NAME
    export(build_model(preset), directory, preset=preset, data=Data("none", "train", 1, "MIT", "embedded"), recipe={})
    return directory


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, and nothing shipped or fetched."""
    monkeypatch.setattr(pretrained, "SHIPPED", ())
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZOO_SOURCE", raising=False)


@pytest.fixture
def graph(tmp_path: Path) -> Write:
    """Writes image = latent * gain + offset, with images of 2 x 2 pixels."""

    def write(
        gain: float = 0.01,
        offset: float = 0.0,
        *,
        kind: int = TensorProto.FLOAT,
        latent: list[str | int] | None = None,
        image: list[str | int] | None = None,
    ) -> Path:
        latent, image = latent or ["batch", 4], image or ["batch", 2, 2, 1]
        shape = np.array([-1, *(size if isinstance(size, int) else 2 for size in image[1:])])
        nodes = [
            helper.make_node("Cast", ["latent"], ["number"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["number", "gain"], ["scaled"]),
            helper.make_node("Add", ["scaled", "offset"], ["moved"]),
            helper.make_node("Reshape", ["moved", "shape"], ["image"]),
        ]
        inputs = [helper.make_tensor_value_info("latent", kind, latent)]
        outputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, image)]
        constants = {"gain": np.float32([gain]), "offset": np.float32([offset]), "shape": shape}
        tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
        path = tmp_path / "graph.onnx"
        opset = [helper.make_opsetid("", 18)]
        model = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
        save(helper.make_model(model, opset_imports=opset, ir_version=9), path)
        return path

    return write


def open_generator(name: str | Path) -> GeneratorSource:
    source = open_source(str(name))
    assert isinstance(source, GeneratorSource)
    return source


def open_folder(name: str | Path) -> FolderSource:
    source = open_source(str(name))
    assert isinstance(source, FolderSource)
    return source


def drawn(name: str | Path, count: int, number: int = 0, seeds: tuple[int, ...] = SEEDS) -> np.ndarray:
    return np.concatenate(list(open_generator(name).draw(count, seeds, number)))


def levels(*values: int) -> dict[str, np.ndarray]:
    """Files of 4 x 4 gray images, one of each level, named in their order."""
    return {f"{value:03}.png": np.full((4, 4), value, np.uint8) for value in values}


def write_folder(folder: Path, files: dict[str, np.ndarray]) -> Path:
    for name, image in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    return folder


def write_zip(path: Path, files: dict[str, np.ndarray]) -> Path:
    folder = write_folder(path.with_suffix(""), files)
    with zipfile.ZipFile(path, "w") as archive:
        for name in files:
            archive.write(folder / name, name)
    return path


# Models


def test_every_form_of_a_model_gives_the_same_images(directory: Path, tmp_path: Path) -> None:
    shutil.copytree(directory, tmp_path / "home" / NAME)
    bare = shutil.copy(directory / "generate.onnx", tmp_path / "other.onnx")
    saved = shutil.copytree(directory / "saved_model", tmp_path / "saved")
    wanted = load_pretrained(directory, format="keras").sample(40, seed=5).astype(int)
    for name in (NAME, directory, bare, f"saved_model:{saved}", f"saved_model:{saved / '1'}"):
        found = drawn(name, 40, 1)
        assert found.dtype == np.uint8
        np.testing.assert_allclose(found, wanted, atol=1, err_msg=str(name))
    assert len(np.unique(wanted, axis=0)) == 40


def test_every_form_has_its_hash_and_what_else_is_known(directory: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copy(directory / "generate.onnx", tmp_path / "other.onnx"))
    saved_model = f"saved_model:{directory / 'saved_model'}"
    model, file, saved = (open_generator(path) for path in (directory, bare, saved_model))
    assert [source.read_as for source in (model, file, saved)] == [
        "an exported model",
        "an ONNX graph",
        "a SavedModel",
    ]
    assert model.sha256 == file.sha256 == hashlib.sha256(bare.read_bytes()).hexdigest()
    folder = directory / "saved_model" / "1"
    files = ("saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index")
    content = b"".join((folder / name).read_bytes() for name in files)
    assert saved.sha256 == hashlib.sha256(content).hexdigest() != model.sha256
    assert model.size == file.size == saved.size == (16, 16, 1)
    assert (model.name, file.name) == (NAME, str(bare))
    assert model.model is not None
    assert (model.model.card.name, model.model.directory) == (NAME, directory)
    assert file.card is saved.card is None
    for source in (model, file, saved):
        assert source.latent is not None
        assert (source.latent.name, source.latent.feed, source.latent.row) == ("latent", "normal", (8,))


def test_a_image_is_its_seeds_and_numbers_whatever_the_batches(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = drawn(directory, 23).astype(int)
    monkeypatch.setattr(sources, "BATCH_SIZE", 5)
    parts = list(open_generator(directory).draw(23, SEEDS, 0))
    assert [len(part) for part in parts] == [5, 5, 5, 5, 3]
    np.testing.assert_allclose(np.concatenate(parts), wanted, atol=1)
    assert not np.array_equal(drawn(directory, 23, 1), wanted)
    np.testing.assert_array_equal(drawn(directory, 23, 0, (5,)), drawn(directory, 23, 1))


def test_values_become_the_nearest_gray_levels(graph: Write) -> None:
    assert (drawn(graph(0.0, -1.0), 2) == 0).all()
    assert (drawn(graph(0.0, -0.6), 2) == 51).all()  # (-0.6 + 1) * 127.5
    assert (drawn(graph(0.0, 1.0005), 2) == 255).all()  # within rounding of 1


def test_a_bare_graphs_free_sizes_may_have_any_name(graph: Write) -> None:
    path = graph(latent=["N", 4], image=["N", "rows", "columns", 1])
    assert open_source(str(path)).size == (2, 2, 1)
    assert drawn(path, 3).shape == (3, 2, 2, 1)


@pytest.mark.parametrize(
    ("gain", "offset", "message"),
    [
        (0.0, 1.1, r"graph\.onnx: pixels from 1\.1 to 1\.1: give values in \[-1, 1\]"),
        (0.0, -3.0, "pixels from -3 to -3"),
        (0.0, 255.0, "pixels from 255 to 255"),
        (np.nan, 0.0, "NaN"),
        (np.inf, 0.0, "pixels from -inf to inf|NaN"),
    ],
)
def test_images_out_of_range_or_broken_are_refused(graph: Write, gain: float, offset: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drawn(graph(gain, offset), 3)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": TensorProto.INT64},
        {"latent": ["batch", "width"]},
        {"latent": [1, 4]},
        {"image": ["batch", 4]},
        {"image": ["batch", 1, 2, 2]},
    ],
    ids=["integers", "free size", "fixed batch", "rows", "channels first"],
)
def test_a_graph_that_makes_no_images_of_normal_numbers_is_refused(graph: Write, options: dict[str, object]) -> None:
    message = r"graph\.onnx has latent .*, image .*: a generator takes float32 \(batch, sizes \.\.\.\)"
    with pytest.raises(ValueError, match=message):
        open_source(str(graph(**options)))


def test_a_classifier_makes_no_images(tmp_path: Path) -> None:
    preset, directory = PRESETS["cnn-mnist"].twin(), tmp_path / "cnn-mnist"
    data = Data("none", "train", 1, "MIT", "embedded")
    export(build_model(preset), directory, preset=preset, data=data, recipe={}, formats=("onnx",))
    with pytest.raises(ValueError, match="cnn-mnist generates no images: its ability is 'classify'"):
        open_source(str(directory))
    with pytest.raises(ValueError, match=r"has image float32\['batch', 8, 8, 1\], .*: a generator takes"):
        open_source(str(directory / "classify.onnx"))


def test_an_autoencoder_is_a_source_without_images(tmp_path: Path) -> None:
    preset, directory = PRESETS["sparse-autoencoder-mnist"].twin(), tmp_path / "sparse-autoencoder-mnist"
    data = Data("none", "train", 1, "MIT", "embedded")
    export(build_model(preset), directory, preset=preset, data=data, recipe={}, formats=("onnx",))
    source = open_source(str(directory))
    assert isinstance(source, ReconstructionSource)
    assert not isinstance(source, ImageSource)
    assert (source.name, source.size, source.model.directory) == (preset.name, (8, 8, 1), directory)
    assert source.sha256 == hashlib.sha256((directory / "reconstruct.onnx").read_bytes()).hexdigest()


def test_a_saved_model_without_the_default_signature_is_refused(tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path / "saved"))
    with pytest.raises(ValueError, match=r"saved has no signature 'serving_default', only \[\]"):
        open_source(f"saved_model:{tmp_path / 'saved'}")


def test_what_fails_when_it_is_loaded_or_run_is_named_in_one_line(graph: Write, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"graph\.onnx can't be run: .*Reshape") as failed:
        open_source(str(graph(latent=["batch", 5])))  # 5 numbers do not fill 2 x 2 pixels
    assert len(str(failed.value).splitlines()) == 1
    for name, content in (("garbage", b"garbage"), ("empty", b"")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} can't be loaded: ") as failed:
            open_source(f"saved_model:{tmp_path / name}")
        assert len(str(failed.value).splitlines()) == 1


def test_a_saved_model_is_read_when_asked_for_and_never_else(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_folder(tmp_path / "images", {f"1/{name}": image for name, image in levels(1, 2, 3).items()})
    shutil.copy(directory / "saved_model" / "1" / "saved_model.pb", images / "1")  # in the folder of a class called 1
    monkeypatch.setattr(tf.saved_model, "load", lambda path: pytest.fail(f"{path} was run"))
    source = open_folder(images)
    assert (len(source.images), source.read_as) == (3, "a folder of 3 images")
    with pytest.raises(ValueError, match=r"holds no images: .* To score the SavedModel there: saved_model:/"):
        open_source(str(directory / "saved_model"))
    with pytest.raises(FileNotFoundError, match=r"there is no saved_model\.pb in .*, nor in"):
        open_source(f"saved_model:{tmp_path}")


def test_a_model_that_was_not_exported_to_onnx_is_refused(directory: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(directory, tmp_path / NAME)
    card = json.loads((copied / "card.json").read_text())
    card["abilities"]["generate"]["file"], card["checked"] = None, ""
    (copied / "card.json").write_bytes(encode_card(msgspec.convert(card, Card)))
    with pytest.raises(CardError, match="has no ONNX file for the ability 'generate'"):
        open_source(str(copied))


# Folders


@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_a_folder_is_divided_among_the_seeds(write: Write, tmp_path: Path) -> None:
    source = open_folder(write(tmp_path / "images.zip", levels(*range(23))))
    assert (source.size, source.count(1000, 3), source.count(5, 3)) == ((4, 4, 1), 7, 5)
    parts = [np.concatenate(list(source.draw(7, (0, 1, 2), number))) for number in range(3)]
    seen = [set(part[:, 0, 0, 0].tolist()) for part in parts]
    assert [len(part) for part in seen] == [7, 7, 7]
    assert len(set.union(*seen)) == 21
    again = open_folder(tmp_path / "images.zip")
    np.testing.assert_array_equal(np.concatenate(list(again.draw(7, (0, 1, 2), 1))), parts[1])


def test_some_images_of_a_sorted_folder_are_from_all_over_it(tmp_path: Path) -> None:
    classes = {f"{value // 50}/{value:03}.png": np.full((4, 4), value, np.uint8) for value in range(200)}
    source = open_folder(write_folder(tmp_path / "sorted", classes))
    for number in range(2):
        part = np.concatenate(list(source.draw(40, (0, 1), number)))[:, 0, 0, 0]
        assert np.bincount(part // 50, minlength=4).min() >= 3  # ten each, were it even; all in one, were it sorted


def test_images_of_every_split_are_taken(tmp_path: Path) -> None:
    files = {f"{split}/{value}.png": np.full((4, 4), value, np.uint8) for value, split in enumerate(("train", "test"))}
    source = open_folder(write_folder(tmp_path / "splits", files))
    assert source.count(10, 1) == 2


def test_a_folders_hash_is_of_its_pixels(tmp_path: Path) -> None:
    one, same, other = (
        open_folder(write_folder(tmp_path / name, files))
        for name, files in (("one", levels(1, 2)), ("same", levels(1, 2)), ("other", levels(1, 3)))
    )
    assert one.sha256 == same.sha256 != other.sha256
    assert (one.name, one.card) == ("one", None)


def test_colors_are_kept(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    source = open_folder(write_folder(tmp_path / "color", {"a.png": image}))
    assert source.size == (4, 4, 3)
    np.testing.assert_array_equal(next(source.draw(1, (0,), 0))[0], image)


# What is none


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("dcgan-fashion-mnst", UnknownPresetError, "did you mean dcgan-fashion-mnist"),
        ("no/such", FileNotFoundError, "no/such: there is no such file or folder"),
        ("missing.onnx", FileNotFoundError, r"missing\.onnx: there is no such"),
        ("missing.zip", FileNotFoundError, r"missing\.zip: there is no such"),
        (NAME, CardError, f"{NAME} has no weights in this installation"),
    ],
)
def test_names_of_nothing(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_source(name)


def test_files_that_are_nothing_of_the_kind(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("no images")
    (tmp_path / "text.onnx").write_text("no graph")
    write_folder(tmp_path / "sizes", {"a.png": np.zeros((4, 4), np.uint8), "b.png": np.zeros((4, 5), np.uint8)})
    for name, message in {
        "empty": "empty holds no images: looked at 0 files",
        "text.txt": "neither a folder nor a readable zip",
        "text.onnx": "not a graph that can be opened",
        "sizes": r"sizes: a\.png is 4x4, b\.png is 5x4 .* must all have the same: bring them to one",
    }.items():
        with pytest.raises(ValueError, match=message):
            open_source(str(tmp_path / name))
