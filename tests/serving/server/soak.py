"""Clients of a soak, each a process with several threads: they ask by all protocols in turn, and compare every answer.

    python soak.py PORT GRPC_PORT PLAN SEED

PLAN is a file with pickled `Question`s. Each prints how many of its answers were right so far, and what was not, until
its standard input ends; then every thread waits for its last answer. Only the standard library, Pillow and gRPC are
needed: a client that is killed is soon replaced by another.
"""

import array
import base64
import http.client
import io
import json
import os
import pickle
import random
import struct
import sys
import threading
from dataclasses import dataclass, field

BINARY = "Inference-Header-Content-Length"
THREADS = 4  # of a client, each with a connection and a request in flight
INFER = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True)
class Question:
    """A request, and what it must be answered with.

    expected: the bytes of the values or pixels, one for each variant of the model: version v is variant v modulo their
        number. A single one where the model has one version.
    kind: how the answer is read: a name of `READ`, "grpc", or "refused".
    """

    kind: str
    path: str
    body: bytes
    expected: tuple[bytes, ...]
    headers: dict[str, str] = field(default_factory=dict)


def read_json(body, _):
    answer = json.loads(body)
    return int(answer["model_version"]), array.array("f", answer["outputs"][0]["data"]).tobytes()


def read_binary(body, headers):
    size = int(headers[BINARY])
    return int(json.loads(body[:size])["model_version"]), body[size:]


def read_rows(body, _):
    def flatten(rows):
        for row in rows:
            if isinstance(row, list):
                yield from flatten(row)
            else:
                yield row

    return None, array.array("f", flatten(json.loads(body)["predictions"])).tobytes()


def read_npy(body, _):
    size = struct.unpack("<H", body[8:10])[0]  # of the header, in version 1 of the format
    return None, body[10 + size :]


def read_png(body, _):
    from PIL import Image

    return None, Image.open(io.BytesIO(body)).tobytes()


def read_base64(body, _):
    return None, b"".join(read_png(base64.b64decode(each["b64_json"]), _)[1] for each in json.loads(body)["data"])


READ = {
    "json": read_json,
    "binary": read_binary,
    "rows": read_rows,
    "npy": read_npy,
    "png": read_png,
    "base64": read_base64,
}


def is_right(question, version, found):
    if version is None:  # the protocol does not say which one answered
        return found in question.expected
    return found == question.expected[version % len(question.expected)]


class Client:
    """One thread's connections."""

    def __init__(self, port, grpc_port):
        import grpc

        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{grpc_port}")
        self.call = self.channel.unary_unary(INFER)

    def ask(self, question):
        """A complaint, or None where the answer is right."""
        if question.kind == "grpc":
            version, found = self.read_grpc(self.call(question.body, timeout=60))
            return None if is_right(question, version, found) else f"grpc, version {version}: {found[:64]!r}"
        self.connection.request("POST", question.path, question.body, question.headers)
        answer = self.connection.getresponse()
        body = answer.read()
        if question.kind == "refused":
            right = answer.status == 400 and list(json.loads(body)) == ["error"]
            return None if right else f"refused: {answer.status} {body[:300]!r}"
        if answer.status != 200:
            return f"{question.kind} {question.path}: {answer.status} {body[:300]!r}"
        version, found = READ[question.kind](body, answer.headers)
        if is_right(question, version, found):
            return None
        return f"{question.kind} {question.path}, version {version}: {found[:64]!r}"

    @staticmethod
    def read_grpc(body):
        from serving.server.grpc import inference_pb2

        answer = inference_pb2.ModelInferResponse.FromString(body)
        return int(answer.model_version), answer.raw_output_contents[0]


def main(port, grpc_port, plan, seed):
    with open(plan, "rb") as file:  # noqa: PTH123
        questions = pickle.load(file)
    stop, lock = threading.Event(), threading.Lock()
    right = 0

    def work(number):
        nonlocal right
        client, order = Client(int(port), int(grpc_port)), random.Random(f"{seed} {number}")
        while not stop.is_set():
            try:
                complaint = client.ask(order.choice(questions))
            except Exception as error:
                complaint = f"no answer: {error!r}"
            with lock:
                if complaint:
                    print(f"wrong {complaint}", flush=True)
                    return
                right += 1
                if right % 20 == 0:
                    print(f"right {right}", flush=True)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    print(f"right {right}\nended", flush=True)
    os._exit(0)  # gRPC takes its time to end


if __name__ == "__main__":
    main(*sys.argv[1:])
