"""What an ONNX file may hold, checked before ONNX Runtime reads it.

A graph can name files beside it for its tensors, which nothing has compared with a card, and operators of a program's
own. Both are looked for on the level of protocol buffers (onnx.proto): serving works without the package onnx.
"""

from collections.abc import Iterator

DOMAINS = ("", "ai.onnx", "ai.onnx.ml")  # of operators: those that ONNX itself defines
SIZE_LIMIT = 2**31 - 1  # bytes of a protocol buffer
OLDEST_IR, OLDEST_OPSET = 3, 7  # the first that say which operators they mean, and the first that ONNX Runtime runs
DEPTH_LIMIT = 100  # messages in messages: that of the library that ONNX Runtime reads them with

# Message -> number of a field -> the message it holds. Every way from a model to its nodes and tensors is here.
_MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_IR_VERSION, _OPSET = 1, 8  # of a model
_NODE_DOMAIN = 7
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor
_FIXED_BYTES = {1: 8, 5: 4}  # wire type -> bytes of the value


def check_graph(data: bytes) -> None:
    """Look through the graph, its subgraphs and its functions for what ONNX Runtime must not open.

    Args:
        data: the whole ONNX file.

    Raises:
        ValueError: the data is not an ONNX model, keeps a tensor in another file, has an operator of another domain
            than `DOMAINS`, or an IR version or operator set older than is run. Which are too new, ONNX Runtime says.
    """
    if not _check_message(data, "model", 0, len(data), 0):
        raise ValueError("no ONNX model")
    _check_versions(data)


def _check_versions(data: bytes) -> None:
    ir_version, opsets = 0, dict[str, int]()
    for field, value in _read_fields(data, 0, len(data)):
        if field == _IR_VERSION and isinstance(value, int):
            ir_version = value
        elif field == _OPSET and isinstance(value, tuple):
            entry = dict(_read_fields(data, *value))
            place, number = entry.get(1, (0, 0)), entry.get(2, 0)
            domain = data[slice(*place)].decode(errors="replace") if isinstance(place, tuple) else ""
            domain = "ai.onnx" if domain == "" else domain
            if domain in opsets:
                raise ValueError(f"two operator sets of the domain {domain!r}: one version of each is run")
            opsets[domain] = number if isinstance(number, int) else 0
    if not OLDEST_IR <= ir_version < 2**31:
        raise ValueError(f"IR version {ir_version}: write {OLDEST_IR} or a newer one")
    if not OLDEST_OPSET <= opsets.get("ai.onnx", 0) < 2**31:
        raise ValueError(f"operator set {opsets.get('ai.onnx', 0)}: write {OLDEST_OPSET} or a newer one")


def _check_message(data: bytes, message: str, start: int, stop: int, depth: int) -> bool:
    """Check one message and all within it; whether it holds a graph."""
    if depth > DEPTH_LIMIT:
        raise ValueError(f"graphs nest more than {DEPTH_LIMIT} messages deep")
    has_graph = False
    for field, value in _read_fields(data, start, stop):
        inner = _MESSAGES[message].get(field)
        if inner and isinstance(value, tuple):
            has_graph |= inner == "graph"
            _check_message(data, inner, *value, depth + 1)
        elif message == "tensor" and (field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value)):
            raise ValueError("a tensor is kept in another file: store all of them in the graph")
        elif message == "node" and field == _NODE_DOMAIN and isinstance(value, tuple):
            domain = data[slice(*value)].decode(errors="replace")
            if domain not in DOMAINS:
                raise ValueError(f"an operator of the domain {domain!r}: only those of ONNX itself are run")
    return has_graph


def _read_fields(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int | tuple[int, int]]]:
    """Number and value of each field of a message: an integer, or where the value's bytes begin and end."""
    while start < stop:
        tag, start = _read_integer(data, start, stop)
        number, wire_type = (tag & 0xFFFFFFFF) >> 3, tag & 7  # a tag has 32 bits
        if wire_type == 0:
            value, start = _read_integer(data, start, stop)
            yield number, value
            continue
        if wire_type == 2:
            size, start = _read_integer(data, start, stop)
        elif wire_type in _FIXED_BYTES:
            size = _FIXED_BYTES[wire_type]
        else:
            raise ValueError(f"no ONNX model, or a damaged one, at byte {start}")
        if size > stop - start:
            raise ValueError(f"no ONNX model, or a truncated one, at byte {start}")
        yield number, (start, start + size)
        start += size


def _read_integer(data: bytes, start: int, stop: int) -> tuple[int, int]:
    """A varint, seven bits a byte, the lowest first; and where it ends."""
    value = 0
    for position in range(start, min(start + 10, stop)):
        value |= (data[position] & 0x7F) << 7 * (position - start)
        if data[position] < 0x80:
            return value, position + 1
    raise ValueError(f"no ONNX model, or a truncated one, at byte {start}")
