"""What each method of inference.GRPCInferenceService answers: messages in, messages out, whatever carries them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
import numpy as np
from google.protobuf.message import Message

from serving.card import TensorSpec
from serving.server.grpc import inference_pb2
from serving.server.http import v2
from serving.server.http.decoding import NAME_LIMIT
from serving.server.naming import find_ability
from serving.server.tensors import DATATYPES, check_shape, find_dtype, from_bytes, require_finite, to_bytes
from serving.session import InputError

# Datatype -> the field of InferTensorContents that holds it; FP16 has none, and travels as raw bytes alone.
FIELDS = {
    "BOOL": "bool_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


pb: Any = inference_pb2  # its classes are made when it is imported, where no type checker sees them


@dataclass
class Call:
    """One call.

    Args:
        deadline: in `time.monotonic` seconds.
        abandoned: whether nobody waits for its answer any more.
        model, ability: what it is for, once that is known.
    """

    deadline: float | None = None
    abandoned: Callable[[], bool] | None = None
    model: str = ""
    ability: str = ""


def infer(repository: Any, request: Any, call: Call) -> Message:
    """Answer ModelInfer.

    Raises:
        InputError: the request is not one that fits the model.
        FloatingPointError: an output is not finite.
        Others: see `ServedModel.infer`.
    """
    names = [request.model_name, request.id, *(each.name for each in (*request.inputs, *request.outputs))]
    if max(map(len, names)) > NAME_LIMIT:
        raise InputError(f"a name, or the id, has more than {NAME_LIMIT} characters")
    parameters = decode_parameters(request.parameters)
    served, ability = find_ability(repository, request.model_name, request.model_version, parameters.ability)
    call.model, call.ability = served.card.name, ability
    outputs = [output.name for output in request.outputs]
    feeds = decode_inputs(request)
    results = served.infer(
        feeds,
        ability=ability,
        sampling=parameters.sampling(),
        outputs=outputs,
        deadline=call.deadline,
        abandoned=call.abandoned,
    )
    answer = pb.ModelInferResponse(model_name=request.model_name, model_version=served.version, id=request.id)
    typed = bool(request.inputs) and not request.raw_input_contents
    encode_outputs(answer, {name: results[name] for name in outputs or results}, typed)
    return answer


def live(_repository: Any, _request: Any, _call: Call) -> Message:
    """Answer ServerLive."""
    return pb.ServerLiveResponse(live=True)


def ready(repository: Any, _request: Any, _call: Call) -> Message:
    """Answer ServerReady."""
    return pb.ServerReadyResponse(ready=repository.ready())


def model_ready(repository: Any, request: Any, _call: Call) -> Message:
    """Answer ModelReady; UnknownModelError where there is no such model."""
    find_ability(repository, request.name, request.version)
    return pb.ModelReadyResponse(ready=True)


def describe_server(_repository: Any, _request: Any, _call: Call) -> Message:
    """Answer ServerMetadata."""
    try:
        number = version("generative-zoo")
    except PackageNotFoundError:
        number = "not installed"
    return pb.ServerMetadataResponse(name="generative-zoo", version=number, extensions=["sampling"])


def describe_model(repository: Any, request: Any, _call: Call) -> Message:
    """Answer ModelMetadata, of the ability that the name stands for; the properties name them all."""
    served, ability = find_ability(repository, request.name, request.version)
    record = served.abilities[ability]
    return pb.ModelMetadataResponse(
        name=request.name,
        versions=repository.versions(served.card.name),
        platform="onnxruntime_onnx",
        inputs=[_describe_tensor(spec) for spec in record.inputs],
        outputs=[_describe_tensor(spec) for spec in record.outputs],
        properties={"ability": ability, "abilities": ",".join(sorted(served.abilities))},
    )


# Method -> what answers it, as the published service names them.
METHODS: dict[str, Callable[[Any, Any, Call], Message]] = {
    "ServerLive": live,
    "ServerReady": ready,
    "ModelReady": model_ready,
    "ServerMetadata": describe_server,
    "ModelMetadata": describe_model,
    "ModelInfer": infer,
}


def decode_parameters(parameters: Mapping[str, Any]) -> v2.Parameters:
    """The parameters of a request; InputError for one that is unknown or of another kind."""
    values = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise InputError(f"the parameter {name[:100]!r} has no value")
        values[name] = getattr(parameter, choice)
    try:
        return msgspec.convert(values, v2.Parameters)
    except msgspec.ValidationError as error:
        raise InputError(f"the parameters are not those of a request: {error}") from error


def decode_inputs(request: Any) -> dict[str, np.ndarray]:
    """Arrays by input name.

    Raises:
        InputError: two inputs of one name, not as many raw contents as inputs, or contents that do not fit.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InputError(f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs: give one for each")
    if raw and any(tensor.HasField("contents") for tensor in request.inputs):
        raise InputError("contents and raw_input_contents exclude each other: give one or the other")
    feeds = {}
    for number, tensor in enumerate(request.inputs):
        if tensor.name in feeds:
            raise InputError("two inputs of one name")
        if raw:
            feeds[tensor.name] = from_bytes(tensor.name, tensor.datatype, tensor.shape, raw[number])
        else:
            feeds[tensor.name] = decode_contents(tensor)
    return feeds


def decode_contents(tensor: Any) -> np.ndarray:
    """The array of one input that came as typed contents.

    Raises:
        InputError: the contents are of another type, or do not fill the shape.
    """
    dtype = find_dtype(tensor.name, tensor.datatype)
    field = FIELDS.get(tensor.datatype)
    if field is None:
        raise InputError(f"input {tensor.name!r}: {tensor.datatype} has no typed contents: give raw_input_contents")
    if other := [found.name for found, _ in tensor.contents.ListFields() if found.name != field]:
        raise InputError(f"input {tensor.name!r}: {tensor.datatype} stands in {field}, not in {other}")
    values = getattr(tensor.contents, field)
    check_shape(tensor.name, tensor.shape, len(values))
    wide = np.fromiter(values, np.int64 if dtype.kind in "iu" else dtype, len(values))
    if dtype == np.uint8 and wide.max() > 255:
        raise InputError(f"input {tensor.name!r}: UINT8 holds 0 to 255, the contents more")
    return from_bytes(tensor.name, tensor.datatype, tensor.shape, to_bytes(wide.astype(dtype)))


def encode_outputs(answer: Any, results: Mapping[str, np.ndarray], typed: bool) -> None:
    """Add the outputs to an answer: as typed contents where asked for and every datatype has them, else as raw bytes.

    Raises:
        FloatingPointError: an output is not finite.
    """
    datatypes = {name: DATATYPES[array.dtype.name] for name, array in results.items()}
    typed = typed and all(datatype in FIELDS for datatype in datatypes.values())
    for name, array in results.items():
        require_finite(name, array)
        tensor = answer.outputs.add(name=name, datatype=datatypes[name], shape=array.shape)
        if typed:
            getattr(tensor.contents, FIELDS[datatypes[name]]).extend(array.ravel().tolist())
        else:
            answer.raw_output_contents.append(to_bytes(array))


def _describe_tensor(spec: TensorSpec) -> Message:
    shape: Sequence[int] = [-1 if isinstance(size, str) else size for size in spec.shape]
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=DATATYPES[spec.dtype], shape=shape)
