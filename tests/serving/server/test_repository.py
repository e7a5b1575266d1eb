"""Which directories of models can be served, and what happens to what is in them while they are."""

import gc
import logging
import shutil
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper

from serving.card import CardError, encode_card, read_card
from serving.server import repository as module
from serving.server.batching import BatchingOptions
from serving.server.errors import UnavailableError, UnknownModelError
from serving.server.repository import Repository
from serving.session import CPU, ModelFileError, ProviderError, count_nvidia_devices

LATENT = {"latent": np.linspace(-1, 1, 4, dtype=np.float32).reshape(1, 4)}


@pytest.fixture
def open_repository():
    """Repositories that look at their directory when told."""
    opened = []

    def open_(directory, **options):
        opened.append(Repository(directory, threads=1, interval=3600, **options))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


@pytest.fixture
def scale_weights(edit_graph):
    """Another model of the same name: its images are those of `factor` times the weights."""

    def scale(directory, factor):
        def change(model):
            (weights,) = [tensor for tensor in model.graph.initializer if tensor.name == "weights"]
            weights.raw_data = (np.frombuffer(weights.raw_data, np.float32) * np.float32(factor)).tobytes()

        edit_graph(directory, change)

    return scale


@pytest.fixture
def versions(tanh_model, scale_weights):
    """A model of the versions 1, 2 and 10, with weights times as much."""
    model = tanh_model.parent / "versioned"
    for version in (1, 2, 10):
        shutil.copytree(tanh_model, model / str(version))
        scale_weights(model / str(version), version)
    shutil.rmtree(tanh_model)
    return model.rename(tanh_model)


def factor_of(served, weights):
    """Of the weights that answer."""
    image = served.infer(LATENT)["image"].reshape(64)
    product = (LATENT["latent"] @ weights).reshape(64)
    place = np.abs(product).argmin()
    return round(float(np.arctanh(np.float64(image[place])) / product[place]), 3)


def look_twice(repository):
    """What changed is taken up when it has stayed as it is for one look."""
    repository.look()
    repository.look()


def break_graph(directory):
    path = directory / "generate.onnx"
    path.write_bytes(path.read_bytes()[:-1])


def test_a_directory_that_cannot_be_served_is_named(models, tanh_model, edit_card, tmp_path):
    with pytest.raises(CardError, match="there is no such directory of models"):
        Repository(tmp_path / "none")
    with pytest.raises(CardError, match="no model to serve: each is a subdirectory with a card"):
        Repository(tanh_model)
    edit_card(tanh_model, '"tanh-model"', '"mirror-model"')
    with pytest.raises(CardError, match=r"tanh-model/card\.json: a second model named 'mirror-model'"):
        Repository(models)


def test_a_model_without_a_graph_is_left_out_aloud(models, tanh_model, edit_card, caplog, open_repository):
    edit_card(tanh_model, '"default_ability": "generate"', '"default_ability": "reconstruct"', checked=True)
    assert open_repository(models).names() == ["mirror-model"]
    assert "tanh-model: not served: its default ability has no ONNX file" in caplog.text


def test_a_preset_is_version_1(models, open_repository, weights):
    repository = open_repository(models)
    assert repository.names() == ["mirror-model", "tanh-model"]
    assert repository.versions("tanh-model") == ["1"]
    for version in (None, "1"):
        served = repository.find("tanh-model", version)
        assert (served.version, sorted(served.abilities)) == ("1", ["encode", "generate"])
        assert factor_of(served, weights) == 1
    assert repository.ready()


def test_the_newest_version_answers_and_each_by_its_number(versions, open_repository, weights):
    """10 is newer than 2: they are numbers."""
    repository = open_repository(versions.parent)
    assert repository.versions("tanh-model") == ["1", "2", "10"]
    assert factor_of(repository.find("tanh-model"), weights) == 10
    for version in ("1", "2", "10"):
        assert factor_of(repository.find("tanh-model", version), weights) == int(version)


def test_versions_that_a_newer_one_replaced_are_not_in_memory_until_asked_for(versions, open_repository):
    repository = open_repository(versions.parent)
    assert [repository.find("tanh-model", version).loaded for version in ("1", "2", "10")] == [False, False, True]
    repository.find("tanh-model", "2").infer(LATENT)
    assert repository.find("tanh-model", "2").loaded


def test_what_is_no_number_is_no_version(versions, open_repository):
    for name in ("01", "0", "-1", "1.5", "v3", "\u0663", "9" * 30, ".4"):
        shutil.copytree(versions / "1", versions / name)
    assert open_repository(versions.parent).versions("tanh-model") == ["1", "2", "10"]


@pytest.mark.parametrize("name", ["none", "", "..", "../models/tanh-model", "/etc/passwd", "tanh-model/1", "\0"])
def test_an_unknown_name_reaches_no_file(models, open_repository, name):
    with pytest.raises(UnknownModelError, match=r"this server has \['mirror-model', 'tanh-model'\]"):
        open_repository(models).find(name)


def test_an_unknown_version_is_named_with_those_there_are(versions, open_repository):
    repository = open_repository(versions.parent)
    for version in ("3", "01", "../1", ""):
        with pytest.raises(UnknownModelError, match=r"has no version .*: it has \['1', '2', '10'\]"):
            repository.find("tanh-model", version)


def test_a_name_of_megabytes_is_not_repeated(models, open_repository):
    repository = open_repository(models)
    for arguments in (("x" * 10**6,), ("tanh-model", "x" * 10**6)):
        with pytest.raises(UnknownModelError) as caught:
            repository.find(*arguments)
        assert len(str(caught.value)) < 400


def test_a_card_in_the_folder_of_another_model_is_refused(versions, mirror_model, open_repository):
    shutil.copytree(mirror_model, versions / "11")
    with pytest.raises(CardError, match=r"11/card\.json: a card of 'mirror-model' in the folder of another model"):
        open_repository(versions.parent)


def test_models_by_an_explicit_list(models, tanh_model, open_repository):
    break_graph(tanh_model)  # not listed: nobody looks at it
    assert open_repository(models, names=["mirror-model"]).names() == ["mirror-model"]
    with pytest.raises(CardError, match="no model to serve is named none, other"):
        open_repository(models, names=["mirror-model", "none", "other"])


@pytest.mark.parametrize("options", [{"interval": 0}, {"unload_after": 0}, {"unload_after": -1}])
def test_times_are_positive(models, options):
    with pytest.raises(ValueError, match="give seconds, more than 0"):
        Repository(models, **options)


def test_a_folder_may_be_a_link_that_is_turned_to_another_but_a_file_must_lie_in_its_own(
    models, tanh_model, tmp_path, open_repository, scale_weights, weights
):
    for name, factor in (("first", 1), ("second", 2)):
        shutil.copytree(tanh_model, tmp_path / name)
        scale_weights(tmp_path / name, factor)
    shutil.rmtree(tanh_model)
    tanh_model.symlink_to(tmp_path / "first")
    repository = open_repository(models, watch=True)
    assert factor_of(repository.find("tanh-model"), weights) == 1
    tanh_model.unlink()
    tanh_model.symlink_to(tmp_path / "second")
    look_twice(repository)
    assert factor_of(repository.find("tanh-model"), weights) == 2
    graph = tmp_path / "second" / "generate.onnx"
    shutil.copy(graph, tmp_path / "outside.onnx")
    graph.unlink()
    graph.symlink_to(tmp_path / "outside.onnx")
    look_twice(repository)
    assert "a link that leads out of the directory" in repository.state("tanh-model")["reason"]
    assert factor_of(repository.find("tanh-model"), weights) == 2


def test_a_broken_model_stops_a_start_without_watching(models, tanh_model, open_repository):
    break_graph(tanh_model)
    with pytest.raises(CardError, match="truncated"):
        open_repository(models)


def test_a_broken_model_is_reported_where_the_directory_is_watched(models, tanh_model, open_repository, caplog):
    whole = (tanh_model / "generate.onnx").read_bytes()
    break_graph(tanh_model)
    repository = open_repository(models, watch=True)
    assert repository.names() == ["mirror-model"]
    assert repository.states()["tanh-model"]["state"] == "broken"
    state = repository.state("tanh-model")
    assert "generate.onnx: truncated" in state["reason"]
    assert (state["version"], state["provider"], state["loaded"]) == (None, None, False)
    with pytest.raises(UnavailableError, match="'tanh-model' can't be opened; the server's log says why"):
        repository.find("tanh-model")
    for _ in range(3):
        repository.look()
    assert caplog.text.count("tanh-model, version 1: not served") == 1  # said once, not at each look
    (tanh_model / "generate.onnx").write_bytes(whole)
    look_twice(repository)
    assert repository.state("tanh-model")["state"] == "ready"
    assert repository.find("tanh-model").infer(LATENT)


def test_a_new_version_is_taken_up_and_who_has_the_old_one_keeps_it(versions, open_repository, scale_weights, weights):
    repository = open_repository(versions.parent, watch=True)
    before = repository.find("tanh-model")
    shutil.copytree(versions / "1", versions / "11")
    scale_weights(versions / "11", 0.5)
    repository.look()
    assert repository.find("tanh-model") is before  # it may still be written
    repository.look()
    assert factor_of(repository.find("tanh-model"), weights) == 0.5
    assert repository.state("tanh-model")["version"] == "11"
    assert factor_of(before, weights) == 10


def test_a_broken_new_version_is_reported_and_the_old_one_serves_on(versions, open_repository, weights, caplog):
    repository = open_repository(versions.parent, watch=True)
    shutil.copytree(versions / "1", versions / "11")
    break_graph(versions / "11")
    look_twice(repository)
    assert factor_of(repository.find("tanh-model"), weights) == 10
    assert repository.versions("tanh-model") == ["1", "2", "10"]
    state = repository.state("tanh-model")
    assert (state["state"], state["version"]) == ("ready", "10")
    assert state["versions"]["11"]["state"] == "broken"
    assert "11/generate.onnx: truncated" in state["reason"]
    assert "tanh-model, version 11: not served: " in caplog.text
    with pytest.raises(UnavailableError):
        repository.find("tanh-model", "11")


def test_files_that_are_replaced_in_place_are_verified_and_swapped(
    models, tanh_model, open_repository, scale_weights, weights
):
    repository = open_repository(models, watch=True)
    before = repository.find("tanh-model")
    scale_weights(tanh_model, 0.25)
    look_twice(repository)
    assert factor_of(repository.find("tanh-model"), weights) == 0.25
    assert factor_of(before, weights) == 1
    break_graph(tanh_model)
    look_twice(repository)
    assert factor_of(repository.find("tanh-model"), weights) == 0.25
    state = repository.state("tanh-model")
    assert state["state"] == "ready"
    assert "truncated" in state["reason"]


def test_a_renamed_card_that_is_broken_renames_nothing(models, tanh_model, open_repository, edit_card):
    repository = open_repository(models, watch=True)
    edit_card(tanh_model, '"tanh-model"', '"other-model"')
    break_graph(tanh_model)
    look_twice(repository)
    assert repository.names() == ["mirror-model", "tanh-model"]


def test_what_is_not_watched_stays_as_it_was_opened(models, tanh_model, open_repository, scale_weights, weights):
    repository = open_repository(models)
    scale_weights(tanh_model, 3)
    look_twice(repository)
    assert factor_of(repository.find("tanh-model"), weights) == 1


def test_a_removed_version_gives_way_to_the_one_before_and_a_removed_model_is_gone(versions, open_repository, weights):
    repository = open_repository(versions.parent, watch=True)
    held = repository.find("tanh-model")
    shutil.rmtree(versions / "10")
    repository.look()
    assert repository.find("tanh-model") is held  # a folder that is replaced is away for a moment
    repository.look()
    assert factor_of(repository.find("tanh-model"), weights) == 2
    shutil.rmtree(versions)
    look_twice(repository)
    with pytest.raises(UnknownModelError, match=r"this server has \[\]"):
        repository.find("tanh-model")
    assert factor_of(held, weights) == 10


def test_a_directory_that_cannot_be_read_for_a_while_loses_no_model(models, open_repository, weights):
    repository = open_repository(models, watch=True)
    models.rename(models.parent / "away")
    look_twice(repository)
    assert factor_of(repository.find("tanh-model"), weights) == 1
    (models.parent / "away").rename(models)
    look_twice(repository)
    assert repository.names() == ["mirror-model", "tanh-model"]


def test_an_empty_directory_may_be_watched(tmp_path, tanh_model, open_repository):
    (tmp_path / "later").mkdir()
    repository = open_repository(tmp_path / "later", watch=True)
    assert (repository.names(), repository.ready()) == ([], True)
    shutil.copytree(tanh_model, tmp_path / "later" / ".partial")
    look_twice(repository)
    assert repository.names() == []  # a name for what is still being copied
    (tmp_path / "later" / ".partial").rename(tmp_path / "later" / "tanh-model")
    look_twice(repository)
    assert repository.names() == ["tanh-model"]


def test_of_two_models_of_one_name_the_first_serves_until_it_is_gone(
    models, tanh_model, open_repository, weights, scale_weights
):
    repository = open_repository(models, watch=True)
    shutil.copytree(tanh_model, models / "second")
    scale_weights(models / "second", 2)
    look_twice(repository)
    assert factor_of(repository.find("tanh-model"), weights) == 1
    shutil.rmtree(tanh_model)
    look_twice(repository)
    repository.look()
    assert factor_of(repository.find("tanh-model"), weights) == 2


def test_a_model_that_nobody_asks_is_unloaded_and_comes_back(models, open_repository, weights):
    repository = open_repository(models, unload_after=1e-6)
    served = repository.find("tanh-model")
    session = weakref.ref(served.pipelines["generate"].session)
    repository.look()
    gc.collect()
    assert session() is None
    assert not served.loaded
    state = repository.state("tanh-model")
    assert (state["state"], state["loaded"]) == ("ready", False)
    with ThreadPoolExecutor(8) as pool:  # opened once, by whoever is first
        factors = list(pool.map(lambda _: factor_of(repository.find("tanh-model"), weights), range(16)))
    assert factors == [1] * 16
    assert served.loaded


def test_a_model_at_work_is_not_unloaded(models, open_repository):
    repository = open_repository(models, unload_after=1e-6)
    served = repository.find("tanh-model")
    pipeline = served.pipelines["generate"]
    began, go, run = threading.Event(), threading.Event(), pipeline.run

    def slow(feeds):
        began.set()
        assert go.wait(30)
        return run(feeds)

    pipeline.run = slow
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.infer, LATENT)
        assert began.wait(30)
        repository.look()
        assert served.loaded
        go.set()
        answer.result(30)


def test_a_model_that_changed_while_it_was_unloaded_does_not_come_back_unverified(models, tanh_model, open_repository):
    repository = open_repository(models, unload_after=1e-6)
    repository.look()
    break_graph(tanh_model)
    with pytest.raises(UnavailableError, match="does not open; the server's log says why"):
        repository.find("tanh-model").infer(LATENT)
    assert repository.find("mirror-model").infer({}, sampling={"count": 1})


def test_no_request_is_lost_while_versions_come_and_go(versions, open_repository, scale_weights, weights):
    """Each answer is whole and that of one version, and none fails."""
    repository = open_repository(versions.parent, watch=True, unload_after=1e-6)
    stop, answers = threading.Event(), []

    def ask():
        while not stop.is_set():
            answers.append(factor_of(repository.find("tanh-model"), weights))

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        for number in (11, 12, 13):
            shutil.copytree(versions / "1", versions / str(number))
            scale_weights(versions / str(number), number / 100)
            look_twice(repository)
            shutil.rmtree(versions / str(number - 1))
            look_twice(repository)
        stop.set()
        for each in asking:
            each.result(30)
    assert set(answers) <= {10, 0.11, 0.12, 0.13}
    assert factor_of(repository.find("tanh-model"), weights) == 0.13


def test_it_looks_by_itself_and_stops_when_closed(tmp_path, tanh_model):
    (tmp_path / "later").mkdir()
    repository = Repository(tmp_path / "later", threads=1, watch=True, interval=0.02)
    shutil.copytree(tanh_model, tmp_path / "later" / "tanh-model")
    end = time.monotonic() + 30
    while not repository.names() and time.monotonic() < end:
        time.sleep(0.02)
    served = repository.find("tanh-model")
    repository.close()
    assert not repository.ready()
    assert repository.state("tanh-model")["state"] == "unloading"
    assert "serving-models" not in [thread.name for thread in threading.enumerate()]
    assert served.infer(LATENT)


def test_a_look_that_fails_is_not_the_last(models, monkeypatch, caplog):
    looks = []

    def fail(self, first):
        looks.append(first)
        if len(looks) == 2:
            raise RuntimeError("unforeseen")

    monkeypatch.setattr(Repository, "_look", fail)
    repository = Repository(models, threads=1, watch=True, interval=0.01)
    end = time.monotonic() + 30
    while len(looks) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    repository.close()
    assert len(looks) >= 4
    assert "unforeseen" in caplog.text


def test_a_card_that_changes_while_its_model_opens_is_not_served(models, tanh_model, open_repository, monkeypatch):
    """Two abilities of two exports must not answer as one model."""

    def read_and_change(path):
        card = read_card(path)
        if card.name == "tanh-model":
            other = msgspec.structs.replace(card, summary="Another export.")
            (tanh_model / "card.json").write_bytes(encode_card(other))
        return card

    monkeypatch.setattr(module, "read_card", read_and_change)
    with pytest.raises(CardError, match=r"card\.json: changed while the model was opened"):
        open_repository(models, names=["tanh-model"])


def test_where_it_runs_is_said_in_the_log_and_the_state(models, open_repository, caplog):
    with caplog.at_level(logging.INFO, "serving"):
        repository = open_repository(models, providers=[CPU])
    assert "tanh-model, version 1: ready on CPUExecutionProvider in" in caplog.text
    assert repository.state("tanh-model")["provider"] == CPU
    assert repository.find("tanh-model").provider == CPU


@pytest.mark.skipif(count_nvidia_devices() > 0, reason="a GPU is there")
@pytest.mark.parametrize("watch", [False, True])
def test_a_gpu_that_is_required_is_there_or_nothing_starts(models, watch):
    with pytest.raises(ProviderError, match="a GPU is required, and this would run on CPUExecutionProvider: no NVIDIA"):
        Repository(models, require_gpu=True, watch=watch)


def test_a_graph_that_fails_when_warmed_is_not_served(models, tanh_model, edit_graph):
    def fail_in_a_run(model):
        """64 values are no rows of 72; that the sizes are 0 more than these, only a run can tell."""
        (shape,) = [tensor for tensor in model.graph.initializer if tensor.name == "shape"]
        shape.raw_data = np.array([-1, 8, 9, 1]).tobytes()
        nodes = [
            helper.make_node("ReduceMax", ["latent"], ["highest"], keepdims=0),
            helper.make_node("Sub", ["highest", "highest"], ["nothing"]),
            helper.make_node("Cast", ["nothing"], ["zero"], to=TensorProto.INT64),
            helper.make_node("Add", ["shape", "zero"], ["sizes"]),
        ]
        for number, node in enumerate(nodes):
            model.graph.node.insert(number, node)
        model.graph.node[-1].input[1] = "sizes"

    edit_graph(tanh_model, fail_in_a_run)
    with pytest.raises(ModelFileError, match=r"generate\.onnx: the graph fails on"):
        Repository(models, threads=1)


def test_the_options_of_batches_reach_the_models(models, open_repository):
    options = BatchingOptions(request_rows=2)
    assert open_repository(models, batching=options).find("tanh-model").options is options


def test_a_folder_without_leave_to_read_stops_nothing(versions, mirror_model, open_repository, monkeypatch, caplog):
    """As root, who reads all, runs the tests, it is `iterdir` that refuses."""
    repository = open_repository(versions.parent, watch=True)
    iterdir = Path.iterdir

    def refuse(path):
        if path == versions:
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    shutil.rmtree(mirror_model)
    for _ in range(3):
        repository.look()
    assert repository.versions("tanh-model") == ["1", "2", "10"]
    assert repository.names() == ["tanh-model"]
    assert caplog.text.count("can't be read, and what was found there is served on") == 1
