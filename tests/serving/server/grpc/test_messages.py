"""Messages of the Open Inference Protocol for gRPC, answered without a server."""

import re

import numpy as np
import pytest

from serving import Pipeline
from serving.server.errors import UnknownModelError
from serving.server.grpc import inference_pb2 as pb
from serving.server.grpc.messages import Call, describe_model, infer
from serving.server.repository import Repository
from serving.session import InputError


@pytest.fixture
def repository(models):
    repository = Repository(models, threads=1)
    yield repository
    repository.close()


def latents(count):
    return np.linspace(-1, 1, count * 4, dtype=np.float32).reshape(count, 4)


def request(model="tanh-model", *, name="latent", datatype="FP32", shape=(2, 4), raw=(), outputs=(), **contents):
    tensor = pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    if contents:
        tensor.contents.CopyFrom(pb.InferTensorContents(**contents))
    asked = [pb.ModelInferRequest.InferRequestedOutputTensor(name=output) for output in outputs]
    return pb.ModelInferRequest(model_name=model, inputs=[tensor], outputs=asked, raw_input_contents=raw)


def sampling(model, **values):
    fields = {bool: "bool_param", int: "uint64_param", str: "string_param", float: "double_param"}
    message = pb.ModelInferRequest(model_name=model)
    for name, value in values.items():
        setattr(message.parameters[name], fields[type(value)], value)
    return message


def test_raw_bytes_go_through_the_graph_and_come_back_raw(repository, weights):
    message = request(raw=[latents(2).tobytes()])
    message.id = "a7"
    answer = infer(repository, message, Call())
    assert (answer.model_name, answer.model_version, answer.id) == ("tanh-model", "1", "a7")
    (image,), (data,) = answer.outputs, answer.raw_output_contents
    assert (image.name, image.datatype, list(image.shape)) == ("image", "FP32", [2, 8, 8, 1])
    assert not image.HasField("contents")
    expected = np.tanh(latents(2) @ weights)
    np.testing.assert_allclose(np.frombuffer(data, "<f4").reshape(2, 64), expected, atol=1e-6)


def test_typed_contents_are_answered_by_typed_contents_of_the_same_numbers(repository):
    raw = infer(repository, request(raw=[latents(2).tobytes()]), Call())
    typed = infer(repository, request(fp32_contents=latents(2).ravel()), Call())
    assert not typed.raw_output_contents
    found = np.array(typed.outputs[0].contents.fp32_contents, np.float32)
    np.testing.assert_array_equal(found, np.frombuffer(raw.raw_output_contents[0], np.float32))


def test_every_datatype_of_a_model_is_taken_in_both_forms(repository):
    values = {
        "latent": ("FP32", (2, 4), "fp32_contents", latents(2)),
        "jitter": ("FP32", (2, 2), "fp32_contents", latents(1).reshape(2, 2)),
        "label": ("INT64", (2,), "int64_contents", np.array([2, 1])),
        "truncation": ("FP32", (1,), "fp32_contents", np.array([0.5], np.float32)),
    }
    raw = pb.ModelInferRequest(model_name="mirror-model")
    typed = pb.ModelInferRequest(model_name="mirror-model")
    for name, (datatype, shape, field, array) in values.items():
        raw.inputs.add(name=name, datatype=datatype, shape=shape)
        raw.raw_input_contents.append(array.tobytes())
        getattr(typed.inputs.add(name=name, datatype=datatype, shape=shape).contents, field).extend(array.ravel())
    found = np.frombuffer(infer(repository, raw, Call()).raw_output_contents[0], np.float32).reshape(2, 7)
    flat = [latents(2) * np.float32(0.5), latents(1).reshape(2, 2), np.array([[2], [1]])]
    np.testing.assert_array_equal(found, np.concatenate(flat, axis=1, dtype=np.float32))
    np.testing.assert_array_equal(
        infer(repository, typed, Call()).outputs[0].contents.fp32_contents, found.ravel().tolist()
    )


def test_another_ability_is_a_name_or_a_parameter(repository, weights):
    image = np.linspace(-1, 1, 64, dtype=np.float32)
    asked = {"name": "image", "shape": (1, 8, 8, 1), "raw": [image.tobytes()], "outputs": ["code"]}
    by_name = infer(repository, request("tanh-model.encode", **asked), Call())
    by_parameter = request("tanh-model", **asked)
    by_parameter.parameters["ability"].string_param = "encode"
    by_parameter = infer(repository, by_parameter, Call())
    assert by_name.raw_output_contents == by_parameter.raw_output_contents
    np.testing.assert_allclose(np.frombuffer(by_name.raw_output_contents[0], "<f4"), weights @ image, rtol=1e-5)


def test_a_count_and_a_seed_give_the_images_of_the_sampler(repository, mirror_model):
    message = sampling("mirror-model", count=2, seed=2**64 - 1, start=3, labels="bag", truncation=0.5)
    (data,) = infer(repository, message, Call()).raw_output_contents
    pipeline = Pipeline.from_directory(mirror_model)
    images = pipeline.sample(2, 2**64 - 1, start=3, labels="bag", truncation=0.5, output_type="float32")
    np.testing.assert_array_equal(np.frombuffer(data, np.float32), images.ravel())


def test_metadata_is_of_the_ability_that_the_name_stands_for(repository):
    answer = describe_model(repository, pb.ModelMetadataRequest(name="mirror-model"), Call())
    assert (answer.name, list(answer.versions), answer.platform) == ("mirror-model", ["1"], "onnxruntime_onnx")
    found = [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in answer.inputs]
    assert found[:3] == [("latent", "FP32", [-1, 4]), ("jitter", "FP32", [-1, 2]), ("label", "INT64", [-1])]
    answer = describe_model(repository, pb.ModelMetadataRequest(name="tanh-model.encode", version="1"), Call())
    assert [(tensor.name, list(tensor.shape)) for tensor in answer.outputs] == [("code", [-1, 4])]
    assert dict(answer.properties) == {"ability": "encode", "abilities": "encode,generate"}


FULL = latents(2).tobytes()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (request(raw=[FULL[:-1]]), "31 bytes are no whole number of FP32"),
        (request(raw=[FULL[:-4]]), "7 numbers do not fill the shape [2, 4]"),
        (request(raw=[FULL, b""]), "2 raw_input_contents for 1 inputs"),
        (request(raw=[FULL], fp32_contents=[1]), "contents and raw_input_contents exclude each other"),
        (request(shape=[-1, -8], raw=[FULL]), "8 numbers do not fill the shape [-1, -8]"),
        (request(shape=[2**62] * 9, raw=[FULL]), "a shape of 9 axes: give at most 8"),
        (request(datatype="BYTES", raw=[FULL]), "datatype 'BYTES': choose from ['BOOL', 'FP16'"),
        (request(datatype="F" * 10**6, raw=[FULL]), "datatype 'FFFFFFFFFFFFFFFFFFFF': choose"),
        (request(datatype="FP64", raw=[FULL * 2]), "expected float32 of shape ('batch', 4), found float64"),
        (request(datatype="BOOL", shape=[2], raw=[b"\x01\x02"]), "a byte of BOOL is 0 or 1"),
        (request(raw=[np.full(8, np.nan, np.float32).tobytes()]), "holds NaN or infinity: give finite numbers"),
        (request(fp32_contents=[np.inf] * 8), "holds NaN or infinity: give finite numbers"),
        (request(datatype="FP16", shape=[1], fp32_contents=[1]), "FP16 has no typed contents: give raw_input_contents"),
        (request(int64_contents=[1] * 8), "FP32 stands in fp32_contents, not in ['int64_contents']"),
        (request(fp32_contents=[1] * 7), "7 numbers do not fill the shape [2, 4]"),
        (request(datatype="UINT8", shape=[1], uint_contents=[256]), "UINT8 holds 0 to 255, the contents more"),
        (request(), "0 numbers do not fill the shape [2, 4]"),
        (request(raw=[FULL], outputs=["image", "image"]), "asked for twice"),
        (request(raw=[FULL], outputs=["code"]), "outputs ['code'] are unknown"),
        (sampling("tanh-model"), "nothing to do"),
        (request("m" * 9999), "a name, or the id, has more than 200 characters"),
        (request(name="m" * 9999), "a name, or the id, has more than 200 characters"),
        (sampling("tanh-model", count=0), "0 rows: give 1 to"),
        (sampling("tanh-model", count="4"), "Expected `int | null`, got `str` - at `$.count`"),
        (sampling("tanh-model", counts=4), "unknown field `counts`"),
        (sampling("tanh-model.encode", count=1, ability="generate"), "the name says 'encode', and the request"),
        (sampling("tanh-model.encode", count=1), "makes no image, only ['code']"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(repository, message, reason):
    with pytest.raises(InputError, match=re.escape(reason)):
        infer(repository, message, Call())


def test_a_parameter_without_a_value_is_refused(repository):
    message = sampling("tanh-model", count=1)
    message.parameters["seed"].SetInParent()
    with pytest.raises(InputError, match="the parameter 'seed' has no value"):
        infer(repository, message, Call())


@pytest.mark.parametrize("name", ["dcgan", "tanh-model.draw", "", ".", "../tanh-model", "tanh-model.encode.x"])
def test_a_name_that_stands_for_nothing_is_refused_with_the_good_ones(repository, name):
    with pytest.raises(UnknownModelError, match="tanh-model"):
        infer(repository, request(name), Call())


def test_an_unknown_version_is_refused(repository):
    message = request(raw=[FULL])
    message.model_version = "2"
    with pytest.raises(UnknownModelError):
        infer(repository, message, Call())


def test_outputs_that_are_not_finite_are_refused(repository):
    image = np.full(64, 1e38, np.float32)
    message = request("tanh-model.encode", name="image", shape=(1, 8, 8, 1), raw=[image.tobytes()])
    with pytest.raises(FloatingPointError, match="output 'code' holds NaN or infinity"):
        infer(repository, message, Call())
