"""The one way from the name of a data set to decoded images: the embedded sample, a folder or zip, or TFDS.

`load_images` decodes a split to one uint8 array; `zoo.data.batches` makes batches of it.
"""

import os
import re
from pathlib import Path
from typing import Any

from zoo.data.embedded import read_embedded
from zoo.data.folders import read_files
from zoo.data.images import ImageSet, Policy, UnknownSplitError
from zoo.data.published import PUBLISHED
from zoo.data.tfds import read_tfds


def load_images(
    source: str,
    *,
    split: str = "train",
    image_size: int | None,
    channels: int,
    fit: str = "crop",
    skip_broken: bool = False,
    cache: Path | None = None,
) -> ImageSet:
    """Decode one split of an image set.

    Args:
        source: one of

            - "embedded": Fashion-MNIST's 10,000 published test images; "train" is the first 9,000, "test" the last
              1,000; "trainA" and "testA" are the same, "trainB" and "testB" their negatives;
            - a folder or a zip.  Top folders `train`, `test`, `validation` (`valid`, `val`), `trainA`, `trainB`,
              `testA`, `testB`, in any case, are splits where one for training has another beside it, or where they hold
              everything; the folders beneath are classes.  Linked folders count.  Folders that wrap everything are
              looked through.  With no `test` folder, of each class the last tenth by name is "test" and not "train",
              where "9.png" comes before "10.png": see `zoo.data.folders.split_held_out`; likewise of `trainA` and
              `trainB`;
            - the name of an image data set of TensorFlow Datasets, such as "mnist" or "fashion_mnist:3.0.1", kept under
              `TFDS_DATA_DIR`.  With no "test" split, the last tenth of "train" is "test" and not "train".

            An existing folder or zip wins over a data set of the same name.
        split: which part to load, or "all"; for TFDS its slices ("train[:1000]") work too, and are taken as they are.
        image_size: height and width in pixels; None keeps the native size, then the same for all.
        channels: 1 or 3.
        fit: one of "crop", "squash" and "pad": see `Policy`.
        skip_broken: leave undecodable images out and list them in `broken`, instead of raising.
        cache: folder for decoded sets too big for memory; default `ZOO_HOME` or the user's cache folder.

    Raises:
        FileNotFoundError: `source` looks like a path and is not there.
        ValueError: an unknown name, split, fit or number of channels; no images; broken images; sizes that differ.
        RuntimeError: TFDS could not prepare or read the data set; not enough memory to decode an image.
    """
    policy = Policy(image_size, channels, fit)
    if source == "embedded":
        return read_embedded(split, policy)
    path = require_source(source)
    if path.exists():
        return read_files(path, split, policy, skip_broken=skip_broken, cache=cache)
    return read_tfds(source, split, policy, cache)


def load_collections(source: str, *, held_out: bool, paired: bool, **options: Any) -> tuple[ImageSet, ImageSet]:
    """Decode two collections of one source: A, of split "trainA" or "testA", and B, of "trainB" or "testB".

    Args:
        source: as in `load_images`.
        held_out: whether to load the images for testing.
        paired: whether image i of A is to belong to image i of B, as files of one name do.
        **options: of `load_images`, but for `split`.

    Raises:
        ValueError: as in `load_images`; the source has no two collections; paired, and they have other names or counts.
        FileNotFoundError, RuntimeError: as in `load_images`.
    """
    kind = "test" if held_out else "train"
    splits = f"{kind}A", f"{kind}B"
    try:
        one, other = (load_images(source, split=split, **options) for split in splits)
    except UnknownSplitError as error:
        raise ValueError(
            f"{error}; two collections of images are wanted: put them into folders trainA and trainB, held-out ones "
            "into testA and testB"
        ) from error
    if paired and (one.names != other.names or len(one.images) != len(other.images)):
        unmatched = sorted(set(one.names) ^ set(other.names))
        example = f", such as {unmatched[0]}" if unmatched else ""
        raise ValueError(
            f"{source}: {len(one.images)} images in {splits[0]} and {len(other.images)} in {splits[1]} are no pairs: "
            f"{len(unmatched)} names are in one of them alone{example}; give both images of a pair the same name"
        )
    return one, other


def require_source(source: str, advice: str = "") -> Path:
    """Refuse a path where nothing is, without reading anything; a name of TFDS is not looked up.

    Args:
        source: as in `load_images`.
        advice: what to do where it is missing, for the message.

    Returns:
        The path that it is or would be.

    Raises:
        ValueError: it is empty.
        FileNotFoundError: it looks like a path and is not there; the message says where to get a published set.
    """
    if not source.strip():
        raise ValueError(f"{source!r} names no images: give a folder, a zip, 'embedded' or a data set")
    try:
        path = Path(source).expanduser()
    except RuntimeError as error:  # of a user that there is not
        raise FileNotFoundError(f"{source}: no such folder or zip of images ({error})") from error
    looks_like_path = source.startswith((".", "~", os.sep)) or not re.match(r"[a-z]", source)
    if not path.exists() and (looks_like_path or path.suffix.lower() == ".zip"):
        published = PUBLISHED.get(path.name)
        reasons = ["no such folder or zip of images", published.origin if published else "", advice]
        raise FileNotFoundError(f"{source}: {'; '.join(filter(None, reasons))}")
    return path
