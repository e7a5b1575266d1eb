"""Many requests by all protocols, versions that come and go, clients that are killed: none is lost, nothing grows."""

import io
import itertools
import json
import pickle
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from PIL import Image

from serving import Pipeline
from serving.card import encode_card, read_card
from serving.server.grpc import inference_pb2 as pb
from tests.serving.conftest import file_record, write_image_model, write_mirror_model, write_tanh_model
from tests.serving.server import soak

VARIANTS = 4  # of tanh-model's weights; version v has those of v modulo 4
STEADY = 2  # clients that stay to the end; one more is killed again and again
MIB = 2**20


def write_version(folder: Path, version: int, *, broken: bool = False) -> None:
    """A version of tanh-model, all at once: its graph has weights of its own variant."""
    made = write_tanh_model(folder.parent.parent / f"made-{version}-{broken}")
    file = made / "generate.onnx"
    graph = onnx.load(file)
    (weights,) = (each for each in graph.graph.initializer if each.name == "weights")
    scale = np.float32(1 + version % VARIANTS)
    weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) / scale, "weights"))
    file.write_bytes(graph.SerializeToString())
    card = read_card(made)
    files = {**card.files, file.name: file_record(file)}
    (made / "card.json").write_bytes(encode_card(msgspec.structs.replace(card, files=files, checked="")))
    if broken:
        file.write_bytes(file.read_bytes()[:-100])
    folder.mkdir(exist_ok=True)
    made.rename(folder / str(version))


def make_questions(models: Path) -> list[soak.Question]:
    """Some of every kind, each with its answers by `Pipeline`, from every variant."""
    variants = [
        Pipeline.from_directory(models / "tanh-model" / str(VARIANTS + number), threads=1) for number in range(VARIANTS)
    ]
    mirror = Pipeline.from_directory(models / "mirror-model", threads=1)
    image = Pipeline.from_directory(models / "image-model", threads=1)
    questions, draw = [], np.random.default_rng(0)
    for seed in range(8):
        latents = draw.standard_normal((1 + seed % 3, 4), np.float32)
        values = tuple(each.run({"latent": latents})["image"].tobytes() for each in variants)
        tensor = {"name": "latent", "shape": latents.shape, "datatype": "FP32"}
        path = "/v2/models/tanh-model/infer"
        content = {"inputs": [{**tensor, "data": latents.ravel().tolist()}]}
        questions.append(soak.Question("json", path, json.dumps(content).encode(), values))
        tensor["parameters"] = {"binary_data_size": latents.nbytes}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        headers = {soak.BINARY: str(len(head))}
        questions.append(soak.Question("binary", path, head + latents.tobytes(), values, headers))
        rows = json.dumps({"instances": latents.tolist()}).encode()
        questions.append(soak.Question("rows", "/v1/models/tanh-model:predict", rows, values))
        request = pb.ModelInferRequest(model_name="tanh-model", raw_input_contents=[latents.tobytes()])
        request.inputs.add(name="latent", datatype="FP32", shape=latents.shape)
        questions.append(soak.Question("grpc", "", request.SerializeToString(), values))

        count = 1 + seed % 2
        drawn = tuple(each.sample(count, seed, output_type="float32").tobytes() for each in variants)
        pixels = tuple(each.sample(count, seed).tobytes() for each in variants)
        content = json.dumps({"parameters": {"count": count, "seed": seed}}).encode()
        questions.append(soak.Question("json", path, content, drawn))
        content = json.dumps({"model": "tanh-model", "n": count, "seed": seed}).encode()
        questions.append(soak.Question("base64", "/v1/images/generations", content, pixels))
        content = json.dumps({"seed": seed, "count": count}).encode()
        npy = {"Accept": "application/x-npy"}
        questions.append(soak.Question("npy", "/v1/models/tanh-model:sample", content, pixels, npy))

        label, truncation = seed % 3, 0.25 * (1 + seed % 4)
        content = {"parameters": {"count": count, "seed": seed, "labels": label, "truncation": truncation}}
        expected = mirror.sample(count, seed, labels=label, truncation=truncation, output_type="float32").tobytes()
        path = "/v2/models/mirror-model/infer"
        questions.append(soak.Question("json", path, json.dumps(content).encode(), (expected,)))
        given = draw.integers(0, 256, (5 + seed, 9, 3), np.uint8)
        body, translated = encode_png(given), image.translate(given)
        path = "/v1/models/image-model.translate_a_to_b:translate"
        questions.append(soak.Question("png", path, body, (np.asarray(translated).tobytes(),)))
    questions.append(soak.Question("refused", "/v2/models/tanh-model/infer", b'{"inputs": [', ()))
    return questions


def encode_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


class Client:
    """A process of `soak.py`, and what it said."""

    def __init__(self, server, plan: Path, seed: int) -> None:
        command = [sys.executable, soak.__file__, str(server.port), str(server.grpc_port), str(plan), str(seed)]
        environment = {"PYTHONPATH": str(Path(__file__).parents[3]), "GRPC_VERBOSITY": "NONE"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.right, self.wrong, self.ended = 0, list[str](), False
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "right" and rest.isdigit():
                self.right = int(rest)
            elif word == "ended":
                self.ended = True
            elif word == "wrong":
                self.wrong.append(rest)

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait(120)
        self.thread.join(10)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.thread.join(10)


class Changes:
    """Versions that come and go: a new one once the one before answers, every third time behind a broken one."""

    def __init__(self, folder: Path, served: Callable[[], list[int]]) -> None:
        self._folder, self._served, self.reloads = folder, served, 0
        self.steps = self._change()

    def _change(self) -> Iterator[None]:
        for version in itertools.count(2 * VARIANTS):
            if version % 3 == 0:
                write_version(self._folder, version, broken=True)
                end = time.monotonic() + 6  # two looks at the folder, and a second for the second
                while time.monotonic() < end:
                    assert version not in self._served()
                    yield
                shutil.rmtree(self._folder / str(version))
            write_version(self._folder, version)
            end = time.monotonic() + 60
            while version not in (served := self._served()):
                assert time.monotonic() < end, f"version {version} was not taken up"
                yield
            self.reloads += 1
            for old in served[:-2]:
                shutil.rmtree(self._folder / str(old))


@dataclass
class Found:
    right: int
    wrong: list[str]
    whole: bool  # whether every client that was not killed had all its answers
    reloads: int
    kills: int
    warm: int  # bytes of the server's memory after a tenth of the requests
    end: int
    descriptors: tuple[int, int]
    threads: tuple[int, int]
    seconds: float


def run_soak(start, folder: Path, requests: int, reloads: int) -> Found:
    """At least so many requests and reloads."""
    models = folder / "models"
    models.mkdir()
    write_mirror_model(models / "mirror-model")
    write_image_model(models / "image-model")
    for version in range(VARIANTS, 2 * VARIANTS):
        write_version(models / "tanh-model", version)
    plan = folder / "plan"
    plan.write_bytes(pickle.dumps(make_questions(models)))
    server = start("--watch", "--grpc-port", 0, models=models)
    began = time.monotonic()

    def descriptors() -> int:
        return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))

    def threads() -> int:
        return len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))

    def versions() -> list[int]:
        return [int(each) for each in server.ask("GET", "/v2/models/tanh-model").json()["versions"]]

    steady = [Client(server, plan, seed) for seed in range(STEADY)]
    victims = [Client(server, plan, 100)]
    warm, changes = None, Changes(models / "tanh-model", versions)

    def count() -> int:
        return sum(client.right for client in [*steady, *victims])

    while count() < requests or changes.reloads < reloads:
        assert time.monotonic() < began + 3600
        assert all(client.process.poll() is None for client in steady)
        assert server.process.poll() is None
        time.sleep(0.25)
        if warm is None and count() > requests / 10:
            warm = server.memory(), descriptors(), threads()
        if victims[-1].right > 100 or victims[-1].wrong:
            victims[-1].kill()  # its threads wait for answers
            victims.append(Client(server, plan, 100 + len(victims)))
        next(changes.steps)
    for client in steady:
        client.end()
    victims[-1].kill()
    time.sleep(2)  # connections of killed clients are noticed
    assert b"\nserving_rows_in_hand" in (metrics := server.ask("GET", "/metrics").content)
    assert set(re.findall(rb"^serving_rows_in_hand\{.*\} (\S+)$", metrics, re.MULTILINE)) == {b"0.0"}
    return Found(
        right=count(),
        wrong=[each for client in [*steady, *victims] for each in client.wrong],
        whole=all(client.ended for client in steady),
        reloads=changes.reloads,
        kills=len(victims),
        warm=warm[0],
        end=server.memory(),
        descriptors=(warm[1], descriptors()),
        threads=(warm[2], threads()),
        seconds=time.monotonic() - began,
    )


def check(found: Found, requests: int, growth: int) -> None:
    print(found)
    assert found.wrong == []
    assert found.whole
    assert found.right >= requests
    assert found.end - found.warm < growth
    assert found.descriptors[1] <= found.descriptors[0] + 16
    assert found.threads[1] <= found.threads[0] + 64  # the pools' threads, which stay


def test_a_short_soak(start, tmp_path):
    found = run_soak(start, tmp_path, 2_000, 1)
    check(found, 2_000, 64 * MIB)  # a tenth of so few is no warm server yet
    assert found.reloads >= 1


@pytest.mark.slow
def test_a_soak_of_a_hundred_thousand(start, tmp_path):
    found = run_soak(start, tmp_path, 100_000, 20)
    check(found, 100_000, 32 * MIB)
    assert found.reloads >= 20
    assert found.kills >= 20
