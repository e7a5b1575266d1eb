"""TensorFlow Datasets are found, split and refused clearly."""

import os
import socket
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from zoo.data.load import load_images

TFDS = Path(os.environ.get("TFDS_DATA_DIR", Path.home() / "tensorflow_datasets"))
PREPARED = any(TFDS.glob("fashion_mnist/*/dataset_info.json"))


def test_unknown_data_set_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'fashion_mnst' is no folder.*near: fashion_mnist"):
        load_images("fashion_mnst", image_size=28, channels=1)


def test_unknown_version_says_which_exist() -> None:
    with pytest.raises(ValueError, match=r"fashion_mnist:9\.0\.0: .*3\.0\.1"):
        load_images("fashion_mnist:9.0.0", image_size=28, channels=1)


def test_data_set_without_images() -> None:
    with pytest.raises(ValueError, match=r"imdb_reviews is no image data set: its features are \['label', 'text'\]"):
        load_images("imdb_reviews", image_size=28, channels=1)


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied", "deleted"])
def test_damaged_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    class TwoImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = tmp_path

        def _info(self) -> tfds.core.DatasetInfo:
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({"image": tfds.features.Image()}))

        def _split_generators(self, _: tfds.download.DownloadManager) -> dict[str, object]:
            return {"train": [(i, {"image": np.full((4, 4, 3), i, np.uint8)}) for i in range(2)]}

        def _generate_examples(self) -> None: ...

    monkeypatch.setattr(tfds, "builder", lambda name: TwoImages(data_dir=tmp_path))
    assert len(load_images("two_images", split="all", image_size=None, channels=3).images) == 2
    (file,) = tmp_path.rglob("*.tfrecord*")
    content = file.read_bytes()
    match damage:
        case "deleted":
            file.unlink()
        case "emptied":
            file.write_bytes(b"")
        case "cut":
            file.write_bytes(content[:-3])
        case "changed":
            file.write_bytes(content[:-20] + bytes([content[-20] ^ 255]) + content[-19:])
    with pytest.raises(
        RuntimeError, match=rf"^two_images can't be read from {file.parent}: [^{{]*; delete that"
    ) as error:
        load_images("two_images", split="all", image_size=None, channels=3)
    assert "\n" not in str(error.value)


def test_a_machine_without_network_is_told_so_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def look_up(*_: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path))
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lambda _: pytest.fail("it went on"))
    with pytest.raises(RuntimeError, match=r"kmnist is not in .*kmnist.*, and this machine is offline: set TFDS_DATA"):
        load_images("kmnist", image_size=28, channels=1)


@pytest.mark.skipif(
    not PREPARED, reason="Fashion-MNIST is not prepared under TFDS_DATA_DIR; nothing is downloaded here"
)
def test_fashion_mnist_from_tfds_holds_the_embedded_sample() -> None:
    prepared = load_images("fashion_mnist", split="test", image_size=32, channels=1, fit="pad")
    assert prepared.images.shape == (10_000, 32, 32, 1)
    assert (prepared.name, prepared.split, prepared.license) == ("fashion_mnist", "test", "MIT")
    assert prepared.labels is not None
    np.testing.assert_array_equal(np.bincount(prepared.labels), np.full(10, 1000))
    embedded = [load_images("embedded", split=s, image_size=32, channels=1, fit="pad") for s in ("train", "test")]
    assert prepared.class_names == embedded[0].class_names

    everything = load_images("fashion_mnist", split="all", image_size=28, channels=1)
    assert (len(everything.images), everything.split) == (70_000, "all")

    def bag(images: np.ndarray) -> list[bytes]:
        return sorted(image.tobytes() for image in images)  # TFDS stores them in an order of its own

    assert bag(prepared.images) == bag(np.concatenate([part.images for part in embedded]))
    with pytest.raises(ValueError, match=r"split 'validation'; it has .*train \(60000\)"):
        load_images("fashion_mnist", split="validation", image_size=28, channels=1)
