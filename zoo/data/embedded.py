"""Fashion-MNIST's 10,000 test images, which come with the package."""

import gzip
import importlib.resources

import numpy as np
from PIL import Image

from zoo.data.images import ImageSet, Policy, fingerprint
from zoo.presets.preset import FASHION_CLASSES


def embedded_images(split: str, policy: Policy) -> ImageSet:
    """Fashion-MNIST's 10,000 published *test* images (MIT): "train" is the first 9,000, "test" the rest, or "all"."""
    parts = {"train": slice(0, 9_000), "test": slice(9_000, 10_000), "all": slice(None)}
    if split not in parts:
        raise ValueError(f"split={split!r}: the embedded sample has {sorted(parts)}")
    images = _idx("t10k-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28)[parts[split]]
    labels = _idx("t10k-labels-idx1-ubyte.gz", header=8)[parts[split]].astype(np.int64)
    images = np.stack([policy.apply(Image.fromarray(image)) for image in images])
    name = "fashion_mnist_t10k"
    return ImageSet(images, labels, FASHION_CLASSES, name, split, fingerprint(images), 0, (), "MIT")


def _idx(name: str, header: int) -> np.ndarray:
    packed = importlib.resources.files("zoo.data").joinpath("fashion_mnist_t10k", name).read_bytes()
    return np.frombuffer(gzip.decompress(packed), np.uint8, offset=header)
