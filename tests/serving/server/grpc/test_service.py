"""The gRPC server on a port: statuses, limits, deadlines, health and reflection."""

import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from serving.server.errors import DeadlineError, QueueFullError
from serving.server.grpc import inference_pb2 as pb
from serving.server.grpc.service import SERVICE, GrpcServer
from serving.server.limits import Limits
from serving.server.repository import Repository
from serving.session import ModelFileError

LIMITS = replace(Limits(), body_limit=2**20, body_budget=2**21, body_timeout=0.5, deadline=20.0)
LATENT = np.linspace(-1, 1, 4, dtype=np.float32)


class Caller:
    """Calls methods by name, as a client that has only the published names does."""

    def __init__(self, port, options=()):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)

    def __call__(self, method, request, answer=None, service=SERVICE.full_name, **options):
        return self.method(method, answer, service)(request, timeout=options.pop("timeout", 20), **options)

    def method(self, method, answer=None, service=SERVICE.full_name):
        kind = answer or getattr(pb, f"{method}Response")
        return self.channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=kind.FromString,
        )

    def check(self, service=""):
        request = health_pb2.HealthCheckRequest(service=service)
        return self("Check", request, health_pb2.HealthCheckResponse, "grpc.health.v1.Health").status

    def refused(self, method, request, **options):
        with pytest.raises(grpc.RpcError) as caught:
            self(method, request, **options)
        return caught.value.code(), caught.value.details()


@pytest.fixture
def repository(models):
    repository = Repository(models, threads=1)
    yield repository
    repository.close()


@pytest.fixture
def server(repository):
    server = GrpcServer(repository, limits=LIMITS)
    server.start()
    yield server
    server.stop(0)


@pytest.fixture
def caller(server):
    caller = Caller(server.port)
    yield caller
    caller.channel.close()


def request(model="tanh-model"):
    tensor = pb.ModelInferRequest.InferInputTensor(name="latent", datatype="FP32", shape=[1, 4])
    return pb.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[LATENT.tobytes()])


def test_the_server_describes_itself(caller):
    assert caller("ServerLive", pb.ServerLiveRequest()).live
    assert caller("ServerReady", pb.ServerReadyRequest()).ready
    assert caller("ServerMetadata", pb.ServerMetadataRequest()).name == "generative-zoo"
    assert caller("ModelReady", pb.ModelReadyRequest(name="tanh-model.encode", version="1")).ready
    assert caller("ModelMetadata", pb.ModelMetadataRequest(name="tanh-model")).inputs[0].name == "latent"


def test_an_inference_is_the_graph(caller, weights):
    (data,) = caller("ModelInfer", request()).raw_output_contents
    np.testing.assert_allclose(np.frombuffer(data, np.float32), np.tanh(LATENT @ weights), atol=1e-6)


def test_many_calls_at_once_are_each_answered(caller):
    expected = caller("ModelInfer", request()).raw_output_contents
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: caller("ModelInfer", request()).raw_output_contents, range(64)))
    assert answers == [expected] * 64


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        (request("dcgan"), grpc.StatusCode.NOT_FOUND, "tanh-model"),
        (pb.ModelInferRequest(model_name="tanh-model"), grpc.StatusCode.INVALID_ARGUMENT, "nothing to do"),
        (b"\xff\xff", grpc.StatusCode.INVALID_ARGUMENT, "the message is no inference.ModelInferRequest"),
        (b" " * 2**21, grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
    ],
)
def test_a_bad_call_ends_with_a_code_and_a_reason_and_the_next_is_answered(caller, message, code, reason):
    found, details = caller.refused("ModelInfer", message)
    assert found == code
    assert reason in details
    assert len(details) < 2000
    assert caller("ModelInfer", request()).outputs


def test_an_unknown_method_is_unimplemented(caller):
    code, _ = caller.refused("ModelConfig", pb.ServerLiveRequest(), answer=pb.ServerLiveResponse)
    assert code == grpc.StatusCode.UNIMPLEMENTED


def test_compressed_messages_are_refused_before_they_are_unpacked(caller):
    code, details = caller.refused("ModelInfer", b" " * 2**24, compression=grpc.Compression.Gzip)
    assert (code, details) == (grpc.StatusCode.UNIMPLEMENTED, "Compression algorithm 'gzip' is disabled.")


def test_a_call_that_is_sent_in_half_is_ended_and_holds_nobody_up(caller):
    release = threading.Event()

    def never():
        release.wait(30)
        yield b""

    half = caller.channel.stream_unary(f"/{SERVICE.full_name}/ModelInfer")
    waiting = [half.future(never(), timeout=20) for _ in range(4)]  # twice as many as are read at once
    assert caller.check() == health_pb2.HealthCheckResponse.SERVING
    assert {call.code() for call in waiting} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    release.set()
    assert caller("ModelInfer", request()).outputs


def test_a_call_without_a_message_is_refused(caller):
    with pytest.raises(grpc.RpcError) as caught:
        caller.channel.stream_unary(f"/{SERVICE.full_name}/ModelInfer")(iter([]), timeout=20)
    assert (caught.value.code(), caught.value.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the call has no message",
    )


class Slow:
    """In place of a model's `infer`: notes its call, waits until it is let go or abandoned."""

    def __init__(self):
        self.started, self.release, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.deadline, self.abandoned = 0.0, False

    def __call__(self, feeds, *, deadline, abandoned, **_):
        self.deadline = deadline
        self.started.set()
        while not self.release.wait(0.01):
            if abandoned():
                self.abandoned = True
                break
        self.ended.set()
        return {"image": np.zeros((1, 8, 8, 1), np.float32)}


@pytest.fixture
def slow(repository):
    repository.find("tanh-model").infer = slow = Slow()
    yield slow
    slow.release.set()


def test_health_answers_while_models_run(caller, slow):
    calls = [caller.method("ModelInfer").future(request(), timeout=20) for _ in range(4)]
    assert slow.started.wait(20)
    assert caller.check() == health_pb2.HealthCheckResponse.SERVING
    assert caller("ServerLive", pb.ServerLiveRequest()).live
    slow.release.set()
    assert all(call.result().outputs for call in calls)


def test_a_call_that_its_client_cancels_is_abandoned(caller, slow):
    call = caller.method("ModelInfer").future(request(), timeout=20)
    assert slow.started.wait(20)
    call.cancel()
    assert slow.ended.wait(20)
    assert slow.abandoned


def test_the_deadline_is_the_callers_or_the_servers_if_that_is_shorter(caller, slow):
    begun = time.monotonic()
    code, _ = caller.refused("ModelInfer", request(), timeout=0.5)
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert begun < slow.deadline < begun + 5
    assert slow.ended.wait(20)
    assert slow.abandoned
    slow.started.clear()
    call = caller.method("ModelInfer").future(request(), timeout=1000)
    assert slow.started.wait(20)
    assert slow.deadline < time.monotonic() + LIMITS.deadline
    slow.release.set()
    assert call.result().outputs


@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (DeadlineError("5 s are over"), grpc.StatusCode.DEADLINE_EXCEEDED, "5 s are over"),
        (QueueFullError("9 wait", 1.5), grpc.StatusCode.RESOURCE_EXHAUSTED, "9 wait"),
        (ModelFileError("/secret: fails"), grpc.StatusCode.FAILED_PRECONDITION, "the model's graph fails on these inp"),
        (RuntimeError("secret"), grpc.StatusCode.INTERNAL, "the server failed; its log says why"),
    ],
)
def test_every_failure_has_a_code_and_shows_no_secret(caller, repository, error, code, details):
    def fail(*_, **__):
        raise error

    repository.find("tanh-model").infer = fail
    with pytest.raises(grpc.RpcError) as caught:
        caller("ModelInfer", request())
    assert caught.value.code() == code
    assert caught.value.details().startswith(details)
    pushback = dict(caught.value.trailing_metadata()).get("grpc-retry-pushback-ms")
    assert pushback == ("1500" if isinstance(error, QueueFullError) else None)


def test_health_knows_the_server_and_the_service_and_follows_the_models(caller, repository, monkeypatch):
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert (caller.check(), caller.check(SERVICE.full_name)) == (serving, serving)
    with pytest.raises(grpc.RpcError, match="there is no such service"):
        caller.check("tanh-model")
    watch = caller.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )(health_pb2.HealthCheckRequest(), timeout=20)
    assert next(watch).status == serving
    monkeypatch.setattr(repository, "ready", lambda: False)
    assert next(watch).status == not_serving
    assert caller.check() == not_serving
    assert not caller("ServerReady", pb.ServerReadyRequest()).ready
    watch.cancel()


def test_reflection_lists_the_services_and_gives_their_messages(caller):
    def ask(**question):
        stream = caller.channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        return next(stream(iter([reflection_pb2.ServerReflectionRequest(**question)]), timeout=20))

    found = {service.name for service in ask(list_services="").list_services_response.service}
    assert found >= {"inference.GRPCInferenceService", "grpc.health.v1.Health"}
    (file,) = ask(file_containing_symbol=SERVICE.full_name).file_descriptor_response.file_descriptor_proto
    assert b"ModelInferRequest" in file


def test_a_port_that_is_taken_is_refused(repository, server):
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{server.port} for gRPC"):
        GrpcServer(repository, limits=LIMITS, port=server.port).start()


@pytest.fixture
def start_server(repository):
    """Starts servers with other limits; gives callers, each with a connection of its own."""
    servers, callers = [], []

    def start(**limits):
        server = GrpcServer(repository, limits=replace(LIMITS, **limits))
        server.start()
        servers.append(server)
        return server

    def connect(server):
        callers.append(Caller(server.port, [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]))
        return callers[-1]

    yield start, connect
    for caller in callers:
        caller.channel.close()
    for server in servers:
        server.stop(0)


def is_ended(connection):
    """Whether the server ends a connection on which it was sent nothing; what it says first is passed over."""
    connection.settimeout(0.5)
    try:
        while connection.recv(2**16):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def retry(call):
    """The answer to a call that may be refused for 20 seconds."""
    end = time.monotonic() + 20
    while True:
        try:
            return call()
        except grpc.RpcError:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_a_connection_beyond_the_cap_is_closed_and_others_are_answered(start_server):
    start, connect = start_server
    server = start(connections=2)
    first, second = connect(server), connect(server)
    for caller in (first, second):
        assert caller("ModelInfer", request()).outputs
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        assert is_ended(connection)
    code, _ = connect(server).refused("ModelInfer", request())
    assert code == grpc.StatusCode.UNAVAILABLE
    for caller in (first, second):
        assert caller("ModelInfer", request()).outputs
    second.channel.close()
    # The place of one that left is free again.
    assert retry(lambda: connect(server)("ModelInfer", request())).outputs


def test_connections_that_are_silent_hold_no_place_for_long(start_server):
    start, connect = start_server
    server = start(connections=1, head_timeout=0.5, idle_timeout=0.5)
    with socket.create_connection(("127.0.0.1", server.port)):  # says nothing
        time.sleep(1.5)
        caller = connect(server)
        assert caller("ModelInfer", request()).outputs
        # It is idle now, and its place is another's.
        assert retry(lambda: connect(server)("ModelInfer", request())).outputs


def test_calls_of_every_kind_have_a_cap(start_server):
    """Watching holds a call each: beyond the cap the next one is refused, and served when one has ended."""
    start, connect = start_server
    server = start(workers=1, queue=0, connections=3)
    caller = connect(server)
    watch = caller.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    watches = [watch(health_pb2.HealthCheckRequest(), timeout=20) for _ in range(4)]
    assert [next(each).status for each in watches] == [health_pb2.HealthCheckResponse.SERVING] * 4
    assert caller.refused("ServerLive", pb.ServerLiveRequest())[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    watches[0].cancel()
    assert retry(lambda: caller("ServerLive", pb.ServerLiveRequest())).live


def test_with_a_token_only_health_answers_without_it(repository):
    server = GrpcServer(repository, limits=LIMITS, token="secret")
    server.start()
    caller = Caller(server.port)
    try:
        assert caller.check() == health_pb2.HealthCheckResponse.SERVING
        for metadata in ([], [("authorization", "Bearer other")], [("authorization", "secret")]):
            code, _ = caller.refused("ModelInfer", request(), metadata=metadata)
            assert code == grpc.StatusCode.UNAUTHENTICATED
        assert caller("ModelInfer", request(), metadata=[("authorization", "Bearer secret")]).outputs
    finally:
        caller.channel.close()
        server.stop(0)


def test_stopping_waits_for_the_calls_in_hand(repository):
    repository.find("tanh-model").infer = slow = Slow()
    server = GrpcServer(repository, limits=LIMITS)
    server.start()
    caller = Caller(server.port)
    call = caller.method("ModelInfer").future(request(), timeout=20)
    assert slow.started.wait(20)
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(server.stop, 20)
        time.sleep(0.2)
        assert not stopped.done()
        slow.release.set()
        assert call.result().outputs
        stopped.result(20)
    caller.channel.close()


def test_calls_are_counted_by_model_ability_and_code(caller, repository):
    caller("ModelInfer", request())
    for model in ("dcgan", "tanh-model.encode"):
        caller.refused("ModelInfer", request(model))
    counts = {
        line for line in repository.metrics.render().decode().splitlines() if "_count{" in line and "grpc" in line
    }
    found = {(*re.findall(r'(?:ability|model|status)="([^"]*)"', line), line[-3:]) for line in counts}
    assert found == {
        ("generate", "tanh-model", "OK", "1.0"),
        ("other", "other", "NOT_FOUND", "1.0"),
        ("encode", "tanh-model", "INVALID_ARGUMENT", "1.0"),
    }
