"""Fashion-MNIST's 10,000 test images, which come with the package."""

import gzip
import importlib.resources

import numpy as np
from PIL import Image

from zoo.data.classes import FASHION_CLASSES
from zoo.data.images import ImageSet, Policy, allocate, compute_fingerprint


def read_embedded(split: str, policy: Policy) -> ImageSet:
    """Fashion-MNIST's 10,000 published *test* images (MIT).

    Args:
        split: "train", the first 9,000; "test", the last 1,000; or "all". "trainA" and "testA" are those, "trainB" and
            "testB" their negatives: two collections, to try a translation with.
        policy: what each image is turned into.

    Raises:
        ValueError: another split.
    """
    parts = {"train": slice(0, 9_000), "test": slice(9_000, 10_000), "all": slice(None)}
    parts |= {f"{kind}{collection}": parts[kind] for kind in ("train", "test") for collection in "AB"}
    if split not in parts:
        raise ValueError(f"split={split!r}: the embedded sample has {sorted(parts)}")
    images = _read_idx("t10k-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28)[parts[split]]
    if split.endswith("B"):
        images = 255 - images
    labels = _read_idx("t10k-labels-idx1-ubyte.gz", header=8)[parts[split]].astype(np.int64)
    size = policy.image_size or images.shape[1]
    fitted = allocate((len(images), size, size, policy.channels))
    for row, image in zip(fitted, images, strict=True):
        row[...] = policy.apply(Image.fromarray(image))
    return ImageSet(
        images=fitted,
        labels=labels,
        class_names=FASHION_CLASSES,
        name="fashion_mnist_t10k",
        split=split,
        fingerprint=compute_fingerprint(fitted),
        ignored=0,
        broken=(),
        license="MIT",
        names=tuple(f"{number:05}.png" for number in range(10_000)[parts[split]]),
    )


def _read_idx(name: str, header: int) -> np.ndarray:
    """The numbers of a gzipped IDX file, the format of MNIST, behind its header of so many bytes."""
    packed = importlib.resources.files("zoo.data").joinpath("fashion_mnist_t10k", name).read_bytes()
    return np.frombuffer(gzip.decompress(packed), np.uint8, offset=header)
