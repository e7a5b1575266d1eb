"""Images of TensorFlow Datasets."""

import difflib
import logging
import re
import socket
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.images import ImageSet, Policy, UnknownSplitError
from zoo.data.store import Example, collect
from zoo.extras import start_tensorflow


@dataclass(frozen=True)
class Facts:
    """Facts of a data set that TFDS itself does not give.

    Args:
        license: short name, where TFDS names none; "" where unknown.
        white: the largest value of the stored uint8 images: 1 where they are of zeros and ones.
    """

    license: str = ""
    white: int = 255


DOWNLOADS = "storage.googleapis.com"  # where TFDS asks first, whatever the data set
FACTS = {
    "binarized_mnist": Facts(white=1),
    "fashion_mnist": Facts(license="MIT"),
    "mnist": Facts(license="CC-BY-SA-3.0"),
}
"""By name of the builder; what is not listed has the defaults."""


def read_tfds(source: str, split: str, policy: Policy, cache: Path | None) -> ImageSet:
    """One split of a data set of TensorFlow Datasets.

    Args:
        source: a name of TFDS, with configuration and version where wanted: "mnist", "fashion_mnist:3.0.1".
        split: as in `zoo.data.load.load_images`.
        policy: what each image is turned into.
        cache: as in `zoo.data.load.load_images`.

    Raises:
        ValueError: no such data set or split, no images in it, or pixels of another type than uint8 and uint16.
        RuntimeError: TFDS could not prepare the data set, or its files are damaged.
    """
    start_tensorflow()
    logging.getLogger("absl").setLevel(logging.ERROR)  # deprecations inside of TensorFlow Datasets
    import tensorflow as tf
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(source)
    except Exception as error:  # unknown names, configurations and versions raise ValueError and AssertionError
        require_known(source)
        raise ValueError(f"{source}: {error}") from error

    image_key, label_key = _find_features(builder, source)
    downloads = type(builder).__module__.startswith("tensorflow_datasets.") and not builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    if downloads and not builder.is_prepared():
        _require_network(source, builder.data_dir)
    try:
        builder.download_and_prepare()  # returns at once where the data lie under TFDS_DATA_DIR already
    except Exception as error:
        raise RuntimeError(
            f"{source} is not in {builder.data_dir} and could not be prepared there ({type(error).__name__}: {error}); "
            "set TFDS_DATA_DIR to a folder that holds it, or run where it can be downloaded"
        ) from error
    part = _choose_split(builder.info.splits, split, source)
    facts = FACTS.get(builder.name, Facts())
    factor = np.uint8(255 // facts.white)

    def examples() -> Iterator[Example]:
        keys = {key: True for key in (image_key, label_key) if key}
        dataset = builder.as_dataset(
            split=part,
            shuffle_files=False,
            decoders=tfds.decode.PartialDecoding(keys),
            read_config=tfds.ReadConfig(try_autocache=False),
        )
        # Images of one size are read and padded in batches: one by one takes several times as long.
        of_one_size = None not in builder.info.features[image_key].shape
        number = 0
        for group in tfds.as_numpy(dataset.batch(256 if of_one_size else 1)):
            images = group[image_key]
            images = (images // 257).astype(np.uint8) if images.dtype == np.uint16 else images * factor
            for index, image in enumerate(policy.apply_to_all(images)):
                yield Example(f"{part} {number}", int(group[label_key][index]) if label_key else None, image)
                number += 1

    try:
        found = collect(
            examples,
            builder.info.splits[part].num_examples,
            source=source,
            key=f"tfds {builder.info.full_name} {part} {policy}",
            skip_broken=False,
            cache=cache,
        )
    except tf.errors.OpError as error:
        # Without the names of TensorFlow's operations.
        reason = re.sub(r"\{\{.*?\}\} | \[Op:.*", "", str(error.message))
        raise RuntimeError(
            f"{source} can't be read from {builder.data_dir}: {reason}; delete that folder, to have it prepared anew"
        ) from error
    redistribution = builder.info.redistribution_info
    return ImageSet(
        images=found.images,
        labels=found.labels,
        class_names=tuple(builder.info.features[label_key].names) if label_key else (),
        name=builder.name if builder.builder_config is None else f"{builder.name}/{builder.builder_config.name}",
        split=split,
        fingerprint=found.fingerprint,
        ignored=0,
        broken=(),
        license=(redistribution.license if redistribution else "") or facts.license,
    )


def find_name(source: str) -> str:
    """The data set's own name, without configuration and version."""
    return re.split(r"[:/]", source)[0]


def require_known(source: str) -> None:
    """Refuse what is none of the names of TensorFlow Datasets; TensorFlow is not imported.

    Args:
        source: a name, with configuration and version where wanted.

    Raises:
        ValueError: with the nearest names.
    """
    import tensorflow_datasets as tfds

    name, known = find_name(source), tfds.list_builders(with_community_datasets=False)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=5)
        raise ValueError(
            f"{source!r} is no folder, no zip, not 'embedded' and no data set of TensorFlow Datasets"
            + (f"; near: {', '.join(near)}" if near else "")
        )


def _require_network(source: str, folder: str) -> None:
    """Refuse a download where no name can be looked up; TFDS itself would try again for minutes.

    Raises:
        RuntimeError: the machine is offline, and no proxy is set.
    """
    if urllib.request.getproxies():
        return
    try:
        socket.getaddrinfo(DOWNLOADS, 443)
    except socket.gaierror:
        raise RuntimeError(
            f"{source} is not in {folder}, and this machine is offline: set TFDS_DATA_DIR to a folder that holds it, "
            "or run where it can be downloaded"
        ) from None


def _find_features(builder: Any, source: str) -> tuple[str, str | None]:
    """The keys of the image and of the class: "image" and "label", or else the first of that type.

    Raises:
        ValueError: there are no images, or their pixels are neither uint8 nor uint16.
    """
    import tensorflow_datasets as tfds

    features = dict(builder.info.features)
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    images.sort(key=lambda key: key != "image")
    labels.sort(key=lambda key: key != "label")
    if not images:
        raise ValueError(f"{source} is no image data set: its features are {sorted(features)}")
    if (dtype := np.dtype(features[images[0]].np_dtype)) not in (np.uint8, np.uint16):
        raise ValueError(f"{source} stores its images as {dtype}; uint8 and uint16 can be read")
    return images[0], labels[0] if labels else None


def _choose_split(splits: Any, split: str, source: str) -> str:
    """The TFDS split to read for `split`; the last tenth of "train" stands for a missing "test".

    Raises:
        ValueError: there is no such split, or no image in it.
    """
    if "test" not in splits and "train" in splits and split in ("train", "test"):
        cut = splits["train"].num_examples - max(1, splits["train"].num_examples // 10)
        return f"train[:{cut}]" if split == "train" else f"train[{cut}:]"
    try:
        if splits[split].num_examples:
            return split
    except (KeyError, ValueError, AssertionError):
        pass  # an unknown name or slice
    known = ", ".join(f"{name} ({info.num_examples})" for name, info in splits.items())
    raise UnknownSplitError(f"{source} has no images in split {split!r}; it has {known}")
