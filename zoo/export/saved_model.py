"""Abilities as a SavedModel, and back: what a SavedModel would compute is read before TensorFlow loads it."""

import math
import stat
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import tensorflow as tf

from serving.card import QUOTE_LIMIT, CardError, to_line
from zoo.core.ability import Ability, flat_function
from zoo.core.paths import PlainPath

# A SavedModel is a program. These operations turn numbers into numbers: none of them opens a file, calls Python or
# another machine, prints, or keeps anything but variables.
_COMPUTING = """
    Abs Acos Acosh Add AddN AddV2 All Any ArgMax ArgMin Asin Asinh Assert Atan Atan2 Atanh AvgPool AvgPoolGrad
    BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchToSpaceND BiasAdd BiasAddGrad Bitcast BroadcastArgs
    BroadcastGradientArgs BroadcastTo Cast Ceil CheckNumerics ClipByValue Concat ConcatOffset ConcatV2 Const Conv
    Conv2D Conv2DBackpropFilter Conv2DBackpropInput Cos Cosh Cumprod Cumsum DepthToSpace DepthwiseConv2dNative
    DepthwiseConv2dNativeBackpropInput Digamma DisableCopyOnRead Div DivNoNan Einsum Elu EluGrad EnsureShape Equal Erf
    Erfc Erfinv Exp ExpandDims Expm1 Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3
    Gather GatherNd GatherV2 Greater GreaterEqual Identity IdentityN If Inv InvertPermutation IsFinite IsInf IsNan
    L2Loss LeakyRelu LeakyReluGrad Less LessEqual Lgamma LinSpace Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr
    LRN MatMul MatrixBandPart MatrixDiag MatrixDiagPart MatrixDiagPartV3 MatrixDiagV3 MatrixInverse Max MaxPool
    MaxPoolGrad MaxPoolV2 Maximum Mean Min Minimum MirrorPad Mod Mul MulNoNan Neg NoOp NotEqual OneHot OnesLike Pack Pad
    PadV2 PartitionedCall Placeholder PlaceholderWithDefault Pow PreventGradient Prod RandomStandardNormal
    RandomUniform RandomUniformInt Range Rank ReadVariableOp RealDiv Reciprocal Relu Relu6 Relu6Grad ReluGrad Reshape
    ResizeBicubic ResizeBilinear ResizeNearestNeighbor ResizeNearestNeighborGrad ResourceGather Reverse ReverseV2 Rint
    Roll Round Rsqrt RsqrtGrad ScatterNd Select SelectV2 Selu Shape ShapeN Sigmoid SigmoidGrad Sign Sin Sinh Size Slice
    Snapshot Softmax Softplus SoftplusGrad Softsign SpaceToBatchND SpaceToDepth Split SplitV Sqrt SqrtGrad Square
    SquaredDifference Squeeze StatefulPartitionedCall StatelessIf StatelessRandomGetKeyCounter
    StatelessRandomNormalV2 StatelessRandomUniformIntV2 StatelessRandomUniformV2 StatelessWhile StopGradient
    StridedSlice StridedSliceGrad Sub Sum Tan Tanh TanhGrad TensorScatterUpdate Tile TopKV2 Transpose TruncateDiv
    TruncateMod Unpack UnsortedSegmentSum VarHandleOp Where While Xdivy Xlog1py Xlogy ZerosLike
"""
COMPUTING = frozenset(_COMPUTING.split())
# Besides, in the two functions that TensorFlow adds for variables' files, and that loading does not call.
_SAVING = "AssignVariableOp MergeV2Checkpoints RestoreV2 SaveV2 ShardedFilename StaticRegexFullMatch StringJoin"
SAVING = frozenset(_SAVING.split())
OBJECTS = frozenset({"user_object", "function", "bare_concrete_function", "variable", "captured_tensor"})
CONTAINERS = frozenset(
    {"_generic_user_object", "signature_map", "trackable_list_wrapper", "trackable_dict_wrapper"}
)  # plain ones; others are made by code that registered their name
RANK_LIMIT = 254  # of TensorFlow's tensors
# The types of what variables' files hold; the text is that of the graph of objects.
_STORED = "string bool float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64"
STORED = frozenset(tf.as_dtype(name).as_datatype_enum for name in _STORED.split())
FOOTER = 48  # bytes at the end of an index
LARGEST_CONSTANT = 2**24  # numbers: 64 MB of float32, which a graph can declare in a few bytes


def write_saved_model(abilities: Mapping[str, Ability], directory: Path) -> None:
    """One signature an ability, and `serving_default`, which is the first.

    `keras.export.ExportArchive` would store every variable twice: once as Keras' and once as TensorFlow's.

    Args:
        abilities: by name, at least one.
        directory: of the SavedModel; made, with its parents.
    """
    module = tf.Module()
    # TensorFlow refuses to save variables that functions use and the module does not hold.
    module.variables_held = [variable.value for ability in abilities.values() for variable in ability.network.weights]
    signatures = {
        name: tf.function(flat_function(ability), input_signature=ability.signature()).get_concrete_function()
        for name, ability in abilities.items()
    }
    signatures["serving_default"] = next(iter(signatures.values()))
    directory.mkdir(parents=True, exist_ok=True)
    plain = PlainPath(directory)
    tf.saved_model.save(module, str(plain.path), signatures=signatures)


def read_saved_model(directory: Path) -> Any:
    """A SavedModel, as `tf.saved_model.load` gives it, once it is known to do nothing but compute.

    Args:
        directory: which no one else writes to: TensorFlow reads the files again after they have been checked.

    Raises:
        CardError: a file that is no plain file, an operation that does more than compute, an object that is more than
            variables and functions, or what TensorFlow can't read.
    """
    path = directory / "saved_model.pb"
    try:
        require_plain_files(directory)
        require_computation(path)
        require_entries(directory / "variables" / "variables.index")
        plain = PlainPath(directory)  # whatever characters are in it
        return tf.saved_model.load(str(plain.path))
    except CardError as error:  # it may quote names of any characters
        raise CardError(to_line(str(error))) from None
    except Exception as error:  # TensorFlow's and protobuf's, of many kinds
        raise CardError(f"{path} is not a readable SavedModel: {to_line(str(error), QUOTE_LIMIT)}") from None


def require_plain_files(directory: Path) -> None:
    """Refuse a directory with anything but directories and regular files in it: links, pipes, devices.

    Raises:
        CardError: naming the file.
    """
    for path in sorted(directory.rglob("*")):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise CardError(f"{path}: a SavedModel consists of regular files, and this is a link, a pipe or a device.")


def require_entries(path: Path) -> None:
    """Refuse an index of variables at which TensorFlow would abort the process instead of raising.

    It does so where an entry is no protocol buffer of its kind, or has slices, or a shape or type that no tensor has.

    Raises:
        Exception: the index is damaged; protobuf's and Python's own as well.
    """
    from tensorflow.core.protobuf.tensor_bundle_pb2 import BundleEntryProto

    size = sum(data.stat().st_size for data in path.parent.iterdir() if data != path)
    for name, value in read_table(path.read_bytes()):
        if name:  # that of the header is empty
            entry = BundleEntryProto.FromString(value)
            sizes = [dimension.size for dimension in entry.shape.dim]
            possible = len(sizes) <= RANK_LIMIT and min(sizes, default=0) >= 0 and math.prod(sizes) <= size
            if not possible or entry.shape.unknown_rank or entry.slices:
                raise ValueError(f"{path.name}: {name!r} has the shape {sizes}, or parts, in {size} bytes of variables")
            if entry.dtype not in STORED:
                raise ValueError(f"{path.name}: {name!r} is of the type {entry.dtype}, which no variable has")


def read_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of each entry of a table of LevelDB, as TensorFlow writes them: its blocks are not compressed.

    Raises:
        IndexError, ValueError: it is damaged.
    """
    _, place = read_integer(data, len(data) - FOOTER)  # where the footer names a block of facts, which is empty
    _, place = read_integer(data, place)
    left = len(data)
    for _, handle in read_block(data, data[place:]):
        left -= read_integer(handle, read_integer(handle, 0)[1])[0]
        if left < 0:
            raise ValueError("an index that names a block several times")
        yield from read_block(data, handle)


def read_block(data: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Entries of the block at a handle, which is where it starts and its size; a key goes on from the one before."""
    start, place = read_integer(handle, 0)
    size, _ = read_integer(handle, place)
    block, name, place = data[start : start + size], b"", 0
    if len(block) < size or data[start + size]:
        raise ValueError("an index with a block that is cut or compressed")
    stop = size - 4 - 4 * int.from_bytes(block[-4:], "little")  # where the list of places to begin at starts
    while place < stop:
        shared, place = read_integer(block, place)
        added, place = read_integer(block, place)
        length, place = read_integer(block, place)
        name = name[:shared] + block[place : place + added]
        place += added + length
        yield name, block[place - length : place]


def read_integer(data: bytes, place: int) -> tuple[int, int]:
    """A varint, seven bits a byte, the lowest first; and where it ends."""
    value = shift = 0
    while True:
        value |= (data[place] & 0x7F) << shift
        shift, place = shift + 7, place + 1
        if data[place - 1] < 0x80 or shift > 63:
            return value, place


def require_computation(path: Path) -> None:
    """Read saved_model.pb as data, and refuse it where loading or running it could do more than compute.

    Raises:
        CardError: naming the operation or the object.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel.FromString(path.read_bytes())
    if len(saved.meta_graphs) != 1 or not saved.meta_graphs[0].object_graph_def.nodes:
        raise CardError(f"{path}: write one graph with TensorFlow 2: older ones run operations when they are loaded.")
    (meta,) = saved.meta_graphs
    require_plain_objects(path, meta)
    functions = {function.signature.name: function.node_def for function in meta.graph_def.library.function}
    of_main = reachable(functions, chain.from_iterable(map(called_by, meta.graph_def.node)))
    of_objects = reachable(functions, named_by_objects(meta.object_graph_def))
    for name, nodes in {"": meta.graph_def.node, **functions}.items():
        saves = not name or (name in of_main and name not in of_objects)
        for node in nodes:
            if node.op not in COMPUTING and not (saves and node.op in SAVING):
                raise CardError(
                    f"{path}: the operation {node.op} ({name or 'graph'}/{node.name}) is none of those that only turn "
                    "numbers into numbers."
                )
            if node.op == "Const":
                require_small(path, node)


def require_plain_objects(path: Path, meta: Any) -> None:
    """Refuse objects that are made or restored by more than reading variables: assets, tables, registered classes.

    Raises:
        CardError: naming the object.
    """
    for node in meta.object_graph_def.nodes:
        kind = node.WhichOneof("kind")
        identifier = node.user_object.identifier if kind == "user_object" else ""
        plain = kind in OBJECTS and (kind != "user_object" or identifier in CONTAINERS)
        if not plain or node.registered_name or node.registered_saver or node.saveable_objects:
            raise CardError(f"{path}: holds an object of the kind {identifier or kind!r}, more than variables need.")
    if meta.asset_file_def:
        raise CardError(f"{path}: names the file {meta.asset_file_def[0].filename!r} beside its variables.")


def require_small(path: Path, node: Any) -> None:
    """Refuse a constant of more than `LARGEST_CONSTANT` numbers.

    Raises:
        CardError: naming it.
    """
    numbers = 1
    for dimension in node.attr["value"].tensor.tensor_shape.dim:
        numbers *= max(dimension.size, 0)
    if numbers > LARGEST_CONSTANT:
        raise CardError(f"{path}: the constant {node.name} has {numbers} numbers, more than {LARGEST_CONSTANT}.")


def called_by(node: Any) -> Iterator[str]:
    """The names of the functions that an operation is given."""
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)


def named_by_objects(objects: Any) -> Iterator[str]:
    """The names of the functions that a loaded object can call."""
    yield from objects.concrete_functions
    for node in objects.nodes:
        yield from node.function.concrete_functions
        yield node.bare_concrete_function.concrete_function_name
        yield node.captured_tensor.concrete_function


def reachable(functions: Mapping[str, Iterable[Any]], names: Iterable[str]) -> set[str]:
    """Those of `functions` that are among `names`, or called by one that is."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in functions and name not in found:
            found.add(name)
            waiting.extend(chain.from_iterable(map(called_by, functions[name])))
    return found
