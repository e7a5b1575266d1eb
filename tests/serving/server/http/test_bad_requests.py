"""What clients should not send, to the real server: each gets its answer in JSON, and the next good request its own."""

import gzip
import json
import time

import numpy as np
import pytest

INFER = "/v2/models/tanh-model/infer"
GOOD = {"parameters": {"count": 1, "seed": 0}}
MEGABYTE = 2**20


def tensor(**changed):
    return {"name": "latent", "shape": [1, 4], "datatype": "FP32", "data": [0.0, 0.5, -0.5, 1.0], **changed}


def inputs(**changed):
    return json.dumps({"inputs": [tensor(**changed)]}).encode()


def data(text):
    return inputs(data=0).replace(b'"data": 0', b'"data": ' + text)


def parameters(**given):
    return json.dumps({"parameters": {"count": 1, **given}}).encode()


def head(*lines, method="POST", path=INFER, version="1.1"):
    return "\r\n".join([f"{method} {path} HTTP/{version}", *lines, "", ""]).encode("latin-1")


def chunked(*chunks):
    return head("Host: a", "Transfer-Encoding: chunked") + b"".join(chunks)


NESTED = 100_000
CODE_BEYOND_FLOAT32 = json.dumps(
    {
        "inputs": [{"name": "image", "shape": [1, 8, 8, 1], "datatype": "FP32", "data": [3e38] * 64}],
        "parameters": {"ability": "encode"},
    }
).encode()
BODIES = {
    "empty": (b"", 400, "the body is not an inference request in JSON: Input data was truncated"),
    "no JSON": (b"hello", 400, "JSON is malformed"),
    "half of it": (b'{"inputs": [', 400, "Input data was truncated"),
    "two values": (b"{}{}", 400, "JSON is malformed: trailing characters"),
    "a list": (b"[]", 400, "Expected `object`, got `array`"),
    "null": (b"null", 400, "Expected `object`, got `null`"),
    "not UTF-8": (b'{"id": "\xff"}', 400, "the body is not an inference request in JSON"),
    "UTF-16": ('{"inputs": []}'.encode("utf-16"), 400, "JSON is malformed"),
    "zero bytes": (b"\0" * 1000, 400, "JSON is malformed"),
    "NaN": (data(b"[NaN, 0, 0, 0]"), 400, "JSON is malformed"),
    "nothing to do": (b"{}", 400, "nothing to do: give inputs, or parameters with a count"),
    "an unknown field": (b'{"input": []}', 400, "unknown field `input`"),
    "a field of 15 MB": (b'{"' + b"a" * 15 * MEGABYTE + b'": 1}', 400, "unknown field `aaa"),
    "a nested field": (b'{"x": ' + b"[" * NESTED + b"]" * NESTED + b"}", 400, "unknown field `x`"),
    "nested objects": (b'{"parameters": ' + b'{"a":' * NESTED + b"1" + b"}" * (NESTED + 1), 400, "unknown field `a`"),
    "nested parameters": (inputs(parameters={"a": [[1]]}), 400, "`$.inputs[0].parameters"),
    "an id of 1,000 characters": (json.dumps({**GOOD, "id": "x" * 1000}).encode(), 400, "length <= 200 - at `$.id`"),
    "an id that is a number": (json.dumps({**GOOD, "id": 7}).encode(), 400, "Expected `str | null`, got `int`"),
    "65 inputs": (json.dumps({"inputs": [tensor()] * 65}).encode(), 400, "length <= 64 - at `$.inputs`"),
    "an input twice": (json.dumps({"inputs": [tensor()] * 2}).encode(), 400, "two inputs of one name"),
    "an output twice": (
        json.dumps({"inputs": [tensor()], "outputs": [{"name": "image"}] * 2}).encode(),
        400,
        "an output is asked for twice",
    ),
    "an output 20,000 times": (
        json.dumps({"inputs": [tensor()], "outputs": [{"name": "image"}] * 20_000}).encode(),
        400,
        "length <= 64 - at `$.outputs`",
    ),
    "an unknown output": (
        json.dumps({"inputs": [tensor()], "outputs": [{"name": "x"}]}).encode(),
        400,
        "outputs ['x'] are unknown: this answer has ['image']",
    ),
    "an unknown input": (inputs(name="z"), 400, "inputs ['latent'] are missing"),
    "a name of 15 MB": (inputs(name="n" * 15 * MEGABYTE), 400, "length <= 200 - at `$.inputs[0].name`"),
    "an ability of 15 MB": (parameters(ability="a" * 15 * MEGABYTE), 400, "length <= 200 - at `$.parameters.ability`"),
    "an unknown ability": (parameters(ability="draw"), 400, "choose from ['encode', 'generate']"),
    "a datatype unknown": (inputs(datatype="BYTES"), 400, "choose from ['BOOL', 'FP16', 'FP32'"),
    "a datatype not the model's": (inputs(datatype="FP64"), 400, "expected float32 of shape ('batch', 4)"),
    "400,000 axes": (inputs(shape=[9] * 400_000), 400, "a shape of 400000 axes: give at most 8"),
    "9 axes": (inputs(shape=[1] * 8 + [4]), 400, "a shape of 9 axes"),
    "an axis of -1": (inputs(shape=[-1, -4]), 400, "4 numbers do not fill the shape [-1, -4]"),
    "an axis of 0": (inputs(shape=[0, 4], data=[]), 400, "0 numbers do not fill the shape [0, 4]"),
    "an axis of 2**70": (inputs(shape=[2**70, 4]), 400, "4 numbers do not fill the shape"),
    "an axis of 4,000 digits": (inputs(shape=[10**4000, 1]), 400, "4 numbers do not fill the shape"),
    "an axis of 1 MB": (inputs(shape=[0]).replace(b"[0]", b"[1%s]" % (b"0" * MEGABYTE)), 400, "out of range"),
    "an axis of 1.5": (inputs(shape=[1.5, 4]), 400, "Expected `int`, got `float` - at `$.inputs[0].shape[0]`"),
    "another shape than the model's": (inputs(shape=[4, 1]), 400, "found float32 of shape (4, 1)"),
    "a shape too small": (inputs(shape=[1, 3]), 400, "4 numbers do not fill the shape [1, 3]"),
    "no data": (json.dumps({"inputs": [{k: v for k, v in tensor().items() if k != "data"}]}).encode(), 400, "no data"),
    "data null": (data(b"null"), 400, "the data is no list of FP32"),
    "data a number": (data(b"3"), 400, "the data is no list of FP32"),
    "data an object": (data(b'{"0": 1}'), 400, "the data is no list of FP32"),
    "text among numbers": (data(b'[0, "1", 0, 0]'), 400, "the data is not all FP32: Expected `float`, got `str`"),
    "long text among numbers": (
        data(b'["' + b"a" * 200_000 + b'", ' + b"1," * 20_000 + b"1]"),
        400,
        "the data is not all FP32: there is text in it",
    ),
    "true among numbers": (data(b"[0, true, 0, 0]"), 400, "got `bool`"),
    "null among numbers": (data(b"[0, null, 0, 0]"), 400, "got `null`"),
    "ragged data": (data(b"[[1, 2, 3], [4]]"), 400, "the data is ragged"),
    "empty lists among data": (data(b"[[1, 2, 3], []]"), 400, "the data is ragged"),
    "nested data": (data(b"[" * NESTED + b"1" + b"]" * NESTED), 400, "deserializing an object"),
    "data nested 9 deep": (data(b"[" * 9 + b"1,1,1,1" + b"]" * 9), 400, "nested more than 8 deep"),
    "1e400": (data(b"[1e400, 0, 0, 0]"), 400, "Number out of range - at `$[0]`"),
    "1e39 as FP32": (data(b"[1e39, 0, 0, 0]"), 400, "FP32 holds -3.40"),
    "a number of 1 MB": (data(b"[" + b"9" * MEGABYTE + b", 0, 0, 0]"), 400, "Number out of range"),
    "too few numbers": (data(b"[1, 2, 3]"), 400, "3 numbers do not fill the shape [1, 4]"),
    "a million too many": (data(b"[" + b"1," * 10**6 + b"1]"), 400, "1000001 numbers do not fill the shape [1, 4]"),
    "too many rows": (inputs(shape=[257, 4], data=[0] * 1028), 400, "257 rows: give 1 to 256"),
    "a code beyond float32": (CODE_BEYOND_FLOAT32, 422, "output 'code': it holds NaN or infinity"),
    "no count": (b'{"parameters": {"seed": 1}}', 400, "nothing to do"),
    "a count of 0": (parameters(count=0), 400, "0 rows: give 1 to 256"),
    "a count of a billion": (parameters(count=10**9), 400, "1000000000 rows: give 1 to 256"),
    "a count of text": (parameters(count="4"), 400, "Expected `int | null`, got `str`"),
    "a seed of -1": (parameters(seed=-1), 400, "seed=-1: give 0 <= seed < 2**64"),
    "a seed of 4,000 digits": (parameters(seed=10**4000), 400, "seed=1000"),
    "a start beyond the last row": (parameters(count=2, start=2**64 - 1), 400, "index=18446744073709551616"),
    "labels of no classes": (parameters(labels=1), 400, "no input of this ability takes a label"),
    "labels of 10 MB": (parameters(labels=["a" * 190] * 50_000), 400, "label"),
    "inputs and parameters": (
        json.dumps({"inputs": [tensor()], "parameters": {"seed": 1}}).encode(),
        400,
        "exclude each other",
    ),
    "shared memory": (inputs(parameters={"shared_memory_region": "a"}), 400, "['shared_memory_region'] are not served"),
    "binary data without its header": (
        inputs(parameters={"binary_data_size": 16}),
        400,
        "needs the header Inference-H",
    ),
    "a body of 17 MB": (b" " * 17 * MEGABYTE, 413, "the body is larger than 16777216 bytes"),
}

HEADS = {
    "an unknown page": (head("Host: a", method="GET", path="/v3"), 404, "there is no such page"),
    "a trailing slash": (
        head("Host: evil.example", method="GET", path="/v2/models/tanh-model/"),
        404,
        "there is no such page",
    ),
    "an unknown model": (head("Host: a", method="GET", path="/v2/models/x"), 404, "there is no model 'x'"),
    "a path upwards": (head("Host: a", method="GET", path="/v2/models/..%2f..%2fetc"), 404, "no such page"),
    "dots": (head("Host: a", method="GET", path="/v2/models/.."), 404, "there is no model '..'"),
    "a zero byte in a name": (head("Host: a", method="GET", path="/v2/models/tanh-model%00"), 404, "there is no model"),
    "a name of 5,000 characters": (
        head("Host: a", method="GET", path="/v2/models/" + "m" * 5000),
        414,
        "a name in the path has more than 200 characters",
    ),
    "a path of 20,000 characters": (head("Host: a", path="/" + "p" * 20_000), 431, "this is no HTTP request"),
    "a whole address": (head("Host: a", method="GET", path="http://evil.example/v2"), 404, "there is no such page"),
    "a wrong method": (head("Host: a", method="GET"), 405, "Method Not Allowed"),
    "DELETE": (head("Host: a", method="DELETE", path="/v2"), 405, "Method Not Allowed"),
    "CONNECT": (head("Host: a", method="CONNECT", path="evil.example:443"), 404, "there is no such page"),
    "a method of 5,000 letters": (head("Host: a", method="A" * 5000, path="/v2"), 405, "Method Not Allowed"),
    "HTTP/9.9": (head("Host: a", method="GET", path="/v2", version="9.9"), 505, "only HTTP/1.0 and HTTP/1.1"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\nHost: a\r\n\r\nSM\r\n\r\n", 505, "only HTTP/1.0 and HTTP/1.1"),
    "HTTP/0.9": (b"GET /v2\r\n\r\n", 400, "illegal request line"),
    "a handshake of TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 512, 400, "illegal request line"),
    "no host": (head(method="GET", path="/v2"), 400, "Missing mandatory Host: header"),
    "two hosts": (head("Host: a", "Host: b", method="GET", path="/v2"), 400, "Found multiple Host: headers"),
    "a header without a name": (head("Host: a", ": b"), 400, "illegal header line"),
    "a space before the colon": (head("Host: a", "X : b"), 400, "illegal header line"),
    "a header of 20,000 characters": (head("Host: a", "X: " + "x" * 20_000), 431, "this is no HTTP request"),
    "10,000 headers": (head("Host: a", *["X: y"] * 10_000), 431, "this is no HTTP request"),
    "a length that is no number": (head("Host: a", "Content-Length: ten"), 400, "bad Content-Length"),
    "a negative length": (head("Host: a", "Content-Length: -1"), 400, "bad Content-Length"),
    "a length of 30 digits": (head("Host: a", "Content-Length: " + "9" * 30), 400, "bad Content-Length"),
    "two lengths": (head("Host: a", "Content-Length: 1", "Content-Length: 2"), 400, "conflicting Content-Length"),
    "a length and chunks": (
        head("Host: a", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        400,
        "exclude each other",
    ),
    "an unknown transfer encoding": (head("Host: a", "Transfer-Encoding: gzip, chunked"), 501, "Transfer-Encoding"),
    "a chunk of no size": (chunked(b"zz\r\nabc\r\n"), 400, "illegal chunk header"),
    "a chunk of -1": (chunked(b"-1\r\nabc\r\n"), 400, "illegal chunk header"),
    "a chunk of 2**100": (chunked(b"1" + b"0" * 25 + b"\r\nabc\r\n"), 400, "illegal chunk header"),
    "a chunk without an end": (chunked(b"3\r\nabcd\r\n"), 400, "this is no HTTP request"),
    "chunks of one byte": (chunked(b"1\r\n \r\n" * 40_000), 400, "the chunks of the body are too small"),
    "bytes said to be gzip": (
        head("Host: a", "Content-Encoding: gzip", "Content-Length: 2") + b"{}",
        400,
        "said to be gzip, but it is not",
    ),
    "brotli": (
        head("Host: a", "Content-Encoding: br", "Content-Length: 2") + b"{}",
        415,
        "a body comes as it is, or gzip",
    ),
    "an unknown expectation": (
        head("Host: a", "Expect: 200-ok", "Content-Length: 2") + b"{}",
        400,
        "nothing to do",
    ),
    "an upgrade": (
        head("Host: a", "Connection: Upgrade", "Upgrade: websocket", method="GET", path="/v3"),
        404,
        "there is no such page",
    ),
}


@pytest.fixture(scope="module")
def server(start):
    return start()


def check_good(server):
    answer = server.infer(GOOD)
    assert answer.status == 200
    (image,) = answer.json()["outputs"]
    assert np.isfinite(image["data"]).all()
    assert len(image["data"]) == 64


def check_refused(answer, status, message):
    assert answer.status == status, answer.content[:500]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert "location" not in answer.headers
    body = answer.json()
    assert list(body) == ["error"]
    assert message in body["error"]
    assert len(body["error"]) <= 1004
    assert max(map(len, body["error"].split())) <= 203


def test_there_are_more_than_a_hundred():
    assert len(BODIES) + len(HEADS) > 100


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_refused_and_the_next_request_answered(server, name):
    body, status, message = BODIES[name]
    check_refused(server.infer(body), status, message)
    check_good(server)


@pytest.mark.parametrize("name", HEADS)
def test_a_bad_head_is_refused_and_the_next_request_answered(server, name):
    sent, status, message = HEADS[name]
    check_refused(server.send(sent), status, message)
    check_good(server)


def test_a_packed_body_is_its_content(server):
    plain = server.infer(GOOD)
    packed = server.infer(gzip.compress(json.dumps(GOOD).encode()), content_encoding="gzip")
    assert (packed.status, packed.content) == (200, plain.content)


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (gzip.compress(b" " * 200 * MEGABYTE), 413, "the body is larger than 16777216 bytes"),
        (gzip.compress(json.dumps(GOOD).encode())[:-9], 400, "the gzip stream of the body ends too early"),
        (gzip.compress(b"{}") + b"more", 400, "the body has more after its gzip stream"),
        (gzip.compress(b"{}") * 2, 400, "the body has more after its gzip stream"),
        (gzip.compress(gzip.compress(b"{}")), 400, "is not an inference request in JSON"),
        (b"", 400, "the gzip stream of the body ends too early"),
    ],
    ids=["bomb", "short", "more", "two", "twice", "empty"],
)
def test_a_packed_body_that_is_none_is_refused(server, content, status, message):
    before = server.memory("VmHWM")
    check_refused(server.infer(content, content_encoding="gzip"), status, message)
    assert server.memory("VmHWM") < before + 64 * MEGABYTE
    check_good(server)


def test_what_asked_for_gigabytes_asks_for_megabytes(server):
    before = server.memory("VmHWM")
    for name in ("400,000 axes", "long text among numbers", "an output 20,000 times", "an ability of 15 MB"):
        began = time.monotonic()
        check_refused(server.infer(BODIES[name][0]), *BODIES[name][1:])
        assert time.monotonic() - began < 20  # it was half a minute of computing, and more
    assert server.memory("VmHWM") < before + 128 * MEGABYTE
