"""The 2015 Inception as a feature extractor: only with its features a distance is FID or KID, a class score IS.

Its weights are published under the Apache License 2.0 in three forms, of which each is read: the TensorFlow graph
`classify_image_graph_def.pb`, `inception-2015-12-05.tgz` around it, and the same numbers as a state dict of torch,
`weights-inception-2015-12-05-6726825d.pth`. Nothing in them is run: neither the graph nor what torch has pickled.
"""

import hashlib
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from zoo.metrics.checks import images_in_range

if TYPE_CHECKING:
    import keras

BATCH_SIZE = 32  # images at once: 32 maps of 147 x 147 x 64 are 177 MB
GRAPH = "classify_image_graph_def.pb"
ADDRESSES = ("https://", "http://")

# Address -> sha256 (its first digits are in the file's name).
PUBLISHED: Mapping[str, str] = {
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth": "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
}


@dataclass(frozen=True)
class Inception:
    """An extractor (`zoo.evaluation.extractors.Extractor`).

    Args:
        network: of `inception_2015`, with its weights.
        sha256: of the file that they are from. The three files' differ, though their numbers are the same.
    """

    network: "keras.Model"
    sha256: str
    name: str = "inception-2015-12-05"
    dimension: int = 2048
    classes: int = 1008

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (count, 2048) and probabilities (count, 1008), float32: the softmax of logits without bias.

        Args:
            images: (count, height, width, 1 or 3) float32 in [-1, 1], of any size. Gray ones get three equal
                channels. FID's authors score images of 256 levels: round before.

        Raises:
            ValueError: no images; another number of channels; values out of range; NaN.
        """
        channels = images_in_range(images, smallest=1).shape[3]
        if channels not in (1, 3):
            raise ValueError(f"images of {channels} channels: give gray (1) or RGB (3).")
        features = np.empty((len(images), self.dimension), np.float32)
        probabilities = np.empty((len(images), self.classes), np.float32)
        for start in range(0, len(images), BATCH_SIZE):
            rows = slice(start, start + BATCH_SIZE)
            batch = np.repeat(images[rows], 3 // channels, axis=3).astype(np.float32)
            features[rows], probabilities[rows] = (found.numpy() for found in self.compiled(batch))
        return features, probabilities

    @cached_property
    def compiled(self) -> Any:
        """A `tf.function`: image (batch, height, width, 3) -> features and probabilities, traced once for all sizes."""
        import keras
        import tensorflow as tf

        def extract(image: Any) -> tuple[Any, Any]:
            features, logits = self.network(image, training=False)
            return features, keras.ops.softmax(logits)

        return tf.function(extract, input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)])


def read_inception(source: str | Path, sha256: str | None, folder: str | Path) -> Inception:
    """The extractor with the weights of a file.

    Args:
        source: the path or the address (https://, http://) of one of the three files, or of a copy.
        sha256: what the file must have; None takes any file at a path or an address that is not in `PUBLISHED`.
        folder: keeps what is fetched. What lies there is not fetched again.

    Raises:
        OSError: no file there, or none to be fetched.
        ValueError: another sha256; no such file; an array is missing, misshapen or not finite.
    """
    sha256 = (sha256 or PUBLISHED.get(str(source), "")).lower()
    fetch = str(source).startswith(ADDRESSES)
    require_weights(source)
    path = fetched(str(source), Path(folder)) if fetch else Path(source).expanduser()
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 not in ("", found):
        remedy = f"delete {path}, so that it is fetched again" if fetch else "fetch the file again"
        raise ValueError(f"{source}: expected sha256 {sha256}, found {found}: {remedy}, or give the sha256 it has.")
    arrays = read_arrays(path)
    from zoo.networks.inception import inception_2015

    network = inception_2015()
    fill(network, arrays, str(source))
    return Inception(network, found)


def require_weights(source: str | Path) -> None:
    """Refuse a path without a file, before images are read for its sake; an address is not asked.

    Raises:
        FileNotFoundError: there is none.
    """
    if not str(source).startswith(ADDRESSES) and not Path(source).expanduser().is_file():
        raise FileNotFoundError(
            f"{source or repr('')} is not a file: give the path or the address of {GRAPH}, or {', '.join(PUBLISHED)}."
        )


def fetched(address: str, folder: Path) -> Path:
    """The file of an address, in `folder`.

    Raises:
        ConnectionError: it can't be had.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it would print the hash
    try:
        return Path(pooch.retrieve(address, known_hash=None, path=folder))
    except OSError as error:  # every failure of the connection is one
        raise ConnectionError(f"{address} can't be fetched: {error}. Fetch it elsewhere and give its path.") from None


def fill(network: "keras.Model", arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Assign every variable; nothing is assigned unless all fit. What else `arrays` holds is left alone.

    Args:
        network: of `inception_2015`.
        arrays: by the graph's names or by torch's.
        source: what an error calls them.

    Raises:
        ValueError: an array is missing, misshapen or not finite.
    """
    torch = "fc.weight" in arrays
    places = {torch_name(node) if torch else node: variable for node, variable in variables(network).items()}
    missing = sorted(set(places) - set(arrays))
    if missing:
        raise ValueError(
            f"{source} lacks {len(missing)} of the {len(places)} arrays, such as {missing[:3]}: give {GRAPH}, the .tgz "
            f"that holds it, or {list(PUBLISHED)}."
        )
    fitting = {}
    for name, variable in places.items():
        array, shape = arrays[name], tuple(variable.shape)
        # torch: (out, in, height, width) or (out, in).
        axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[len(shape)] if torch else tuple(range(len(shape)))
        expected = tuple(shape[axes.index(axis)] for axis in range(len(shape)))
        if array.shape != expected or array.dtype.kind != "f":
            raise ValueError(f"{source}: {name} is {array.shape} {array.dtype}, the network's is {expected} float32.")
        if not np.isfinite(array).all():
            raise ValueError(f"{source}: {name} holds values that are NaN or infinite.")
        fitting[name] = array.transpose(axes)
    for name, variable in places.items():
        variable.assign(fitting[name])


def variables(network: "keras.Model") -> dict[str, "keras.Variable"]:
    """Every variable of the network by its node in the graph, such as "mixed_4/tower/conv_1/batchnorm/beta"."""
    names = {"kernel": "conv2d_params"}
    found = {
        f"{layer.name.replace('.', '/')}/{names.get(variable.name, variable.name)}": variable
        for layer in network.layers
        for variable in layer.variables
    }
    found["softmax/weights"] = found.pop("logits/conv2d_params")
    return found


def torch_name(node: str) -> str:
    """Such as "mixed_4/tower/conv_1/batchnorm/beta" -> "Mixed_6b.branch7x7_2.bn.bias"."""
    if node == "softmax/weights":
        return "fc.weight"
    ours = next(ours for ours in ARRAYS if node.endswith(f"/{ours}"))
    block, _, convolution = node.removesuffix(f"/{ours}").partition("/")
    if not convolution:
        return f"{STEM[block]}.{ARRAYS[ours]}"
    module, branches = BLOCKS[block]
    return f"{module}.branch{branches[convolution]}.{ARRAYS[ours]}"


# The graph's names -> torch's, as in torch-fidelity's util_convert_inception_weights.py.
ARRAYS = {
    "conv2d_params": "conv.weight",
    "batchnorm/gamma": "bn.weight",
    "batchnorm/beta": "bn.bias",
    "batchnorm/moving_mean": "bn.running_mean",
    "batchnorm/moving_variance": "bn.running_var",
}
STEM = {
    "conv": "Conv2d_1a_3x3",
    "conv_1": "Conv2d_2a_3x3",
    "conv_2": "Conv2d_2b_3x3",
    "conv_3": "Conv2d_3b_1x1",
    "conv_4": "Conv2d_4a_3x3",
}
EDGES = {"conv": "1x1", "tower_2/conv": "_pool"}
DOUBLED = {"conv": "3x3dbl_1", "conv_1": "3x3dbl_2", "conv_2": "3x3dbl_3"}
SQUARE = {
    **EDGES,
    "tower/conv": "5x5_1",
    "tower/conv_1": "5x5_2",
    **{f"tower_1/{ours}": theirs for ours, theirs in DOUBLED.items()},
}
FIRST_HALVING = {"conv": "3x3", **{f"tower/{ours}": theirs for ours, theirs in DOUBLED.items()}}
FACTORIZED = {
    **EDGES,
    "tower/conv": "7x7_1",
    "tower/conv_1": "7x7_2",
    "tower/conv_2": "7x7_3",
    "tower_1/conv": "7x7dbl_1",
    "tower_1/conv_1": "7x7dbl_2",
    "tower_1/conv_2": "7x7dbl_3",
    "tower_1/conv_3": "7x7dbl_4",
    "tower_1/conv_4": "7x7dbl_5",
}
SECOND_HALVING = {
    "tower/conv": "3x3_1",
    "tower/conv_1": "3x3_2",
    "tower_1/conv": "7x7x3_1",
    "tower_1/conv_1": "7x7x3_2",
    "tower_1/conv_2": "7x7x3_3",
    "tower_1/conv_3": "7x7x3_4",
}
WIDE = {
    **EDGES,
    "tower/conv": "3x3_1",
    "tower/mixed/conv": "3x3_2a",
    "tower/mixed/conv_1": "3x3_2b",
    "tower_1/conv": "3x3dbl_1",
    "tower_1/conv_1": "3x3dbl_2",
    "tower_1/mixed/conv": "3x3dbl_3a",
    "tower_1/mixed/conv_1": "3x3dbl_3b",
}
BLOCKS = {
    "mixed": ("Mixed_5b", SQUARE),
    "mixed_1": ("Mixed_5c", SQUARE),
    "mixed_2": ("Mixed_5d", SQUARE),
    "mixed_3": ("Mixed_6a", FIRST_HALVING),
    "mixed_4": ("Mixed_6b", FACTORIZED),
    "mixed_5": ("Mixed_6c", FACTORIZED),
    "mixed_6": ("Mixed_6d", FACTORIZED),
    "mixed_7": ("Mixed_6e", FACTORIZED),
    "mixed_8": ("Mixed_7a", SECOND_HALVING),
    "mixed_9": ("Mixed_7b", WIDE),
    "mixed_10": ("Mixed_7c", WIDE),
}


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of any of the three files, told apart by their first bytes.

    Raises:
        ValueError: it is none of them.
    """
    return read_state_dict(path) if starts_with(path, ZIP_MAGIC, TORCH_MAGIC) else read_graph(path)


def starts_with(path: Path, *magics: bytes) -> bool:
    """Whether the file's first bytes are one of these."""
    with path.open("rb") as file:
        return file.read(max(map(len, magics))).startswith(magics)


def read_graph(path: Path) -> dict[str, np.ndarray]:
    """The constants of a TensorFlow graph by node, from a .pb or from a tar archive that holds `GRAPH`.

    Raises:
        ValueError: it is neither.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(graph_bytes(path))
    except (DecodeError, tarfile.TarError, LookupError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} holds no TensorFlow graph: {error}") from None
    return {node.name: tf.make_ndarray(node.attr["value"].tensor) for node in graph.node if node.op == "Const"}


def graph_bytes(path: Path) -> bytes:
    """The file itself, or `GRAPH` in it if it is an archive."""
    if not tarfile.is_tarfile(path):
        return path.read_bytes()
    with tarfile.open(path) as archive:
        member = archive.extractfile(GRAPH)
        if member is None:
            raise LookupError(f"{GRAPH} is not a file")
        return member.read()


# A state dict of torch. torch.save writes a zip: data.pkl, in which an array names its storage, and a file per storage.
# Until torch 1.5 it wrote one stream: pickles of a magic number, a version, facts about the machine, the dict, and the
# storages' keys; then each storage, its length before it. By its size the published file is a stream.

ZIP_MAGIC = b"PK\x03\x04"
TORCH_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file of torch.save, by name, without torch; no code in it is run.

    Raises:
        ValueError: it is damaged, or holds something else than a dict of float32 and int64 tensors.
    """
    try:
        state = zipped_state(path) if starts_with(path, ZIP_MAGIC) else streamed_state(path)
        if not isinstance(state, dict) or not all(isinstance(array, np.ndarray) for array in state.values()):
            raise ValueError("no dict of tensors")
    except Exception as error:  # a damaged pickle may raise almost anything
        raise ValueError(f"{path} is not a state dict of torch that can be read safely: {error}") from None
    return dict(state)


def zipped_state(path: Path) -> Any:
    """What torch.save has written since torch 1.6."""
    with zipfile.ZipFile(path) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        unpickler = Unpickler(archive.open(pickled), path.stat().st_size)
        state = unpickler.load()
        for key, storage in unpickler.storages.items():
            member = archive.getinfo(pickled.removesuffix("data.pkl") + f"data/{key}")
            if member.file_size != storage.nbytes:
                raise ValueError(f"storage {key} has {member.file_size} bytes instead of {storage.nbytes}")
            with archive.open(member) as file:
                unpickler.read(file, storage)
    return state


def streamed_state(path: Path) -> Any:
    """What torch.save wrote before."""
    with path.open("rb") as file:
        for _ in range(3):
            Unpickler(file, 0).load()
        unpickler = Unpickler(file, path.stat().st_size)
        state = unpickler.load()
        keys = Unpickler(file, 0).load()
        if set(keys) != set(unpickler.storages):
            raise ValueError("storages are missing or extra")
        for key in keys:
            (length,) = struct.unpack("<q", file.read(8))
            storage = unpickler.storages[key]
            if length != len(storage):
                raise ValueError(f"storage {key} has {length} numbers instead of {len(storage)}")
            unpickler.read(file, storage)
    return state


class Unpickler(pickle.Unpickler):
    """Admits dicts of tensors, and nothing that could run code.

    Args:
        file: to read from.
        most: bytes that its storages may have in all.
    """

    def __init__(self, file: IO[bytes], most: int) -> None:
        super().__init__(file)
        self.most = most
        self.storages: dict[str, np.ndarray] = {}  # by key; zeros until they are read
        self.admitted: dict[str, Any] = {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor_v2": self.tensor,
            "torch.FloatStorage": "<f4",
            "torch.LongStorage": "<i8",
        }

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for."""
        if f"{module}.{name}" not in self.admitted:
            raise pickle.UnpicklingError(f"it names {module}.{name}, of which nothing is known here")
        return self.admitted[f"{module}.{name}"]

    def persistent_load(self, identity: Any) -> np.ndarray:
        """The storage of ("storage", type, key, device, length, and, in a stream, what part of another it is)."""
        _, dtype, key, _, length, *part = identity
        if key not in self.storages:
            self.most -= length * np.dtype(dtype).itemsize
            if length < 0 or self.most < 0 or any(part):
                raise pickle.UnpicklingError(f"storage {key} has {length} numbers, which the file cannot hold")
            self.storages[key] = np.zeros(length, dtype)
        return self.storages[key]

    @staticmethod
    def tensor(storage: np.ndarray, start: int, shape: Any, strides: Any, *_: Any) -> np.ndarray:
        """A view of a storage; NumPy refuses one that reaches beyond it."""
        size = storage.itemsize
        return np.ndarray(shape, storage.dtype, storage, start * size, [stride * size for stride in strides])

    @staticmethod
    def read(file: IO[bytes], storage: np.ndarray) -> None:
        """Fill a storage from the next bytes."""
        content = file.read(storage.nbytes)
        if len(content) != storage.nbytes:
            raise EOFError("it ends too early")
        storage[:] = np.frombuffer(content, storage.dtype)
