"""What Prometheus reads."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.server.metrics import CONTENT_TYPE, Metrics
from serving.server.repository import Repository


@pytest.fixture
def metrics():
    found = Metrics()
    found.observe_ability("tanh-model", "generate")
    return found


def samples(metrics):
    """(name, labels) -> value of everything that is rendered, as a Prometheus server would parse it."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_is_rendered_is_what_prometheus_reads(metrics):
    metrics.observe_request("v2", "tanh-model", "generate", "200", 0.004)
    metrics.count_error("tanh-model", "generate", "input")
    found = samples(metrics)
    labels = (("ability", "generate"), ("model", "tanh-model"), ("protocol", "v2"), ("status", "200"))
    assert found["serving_request_seconds_count", labels] == 1
    assert found["serving_request_seconds_bucket", tuple(sorted((*labels, ("le", "0.005"))))] == 1
    assert found["serving_request_seconds_bucket", tuple(sorted((*labels, ("le", "0.0025"))))] == 0
    assert found["serving_errors_total", (("ability", "generate"), ("cause", "input"), ("model", "tanh-model"))] == 1
    assert any(name == "process_resident_memory_bytes" for name, _ in found)
    assert CONTENT_TYPE.startswith("text/plain")


def test_series_exist_before_the_first_request(metrics):
    labels = (("ability", "generate"), ("model", "tanh-model"))
    found = samples(metrics)
    for name in ("serving_inferences_total", "serving_executions_total", "serving_rows_in_hand"):
        assert found[name, labels] == 0


def test_names_that_clients_make_up_make_no_series(metrics):
    for number in range(100):
        metrics.observe_request("v2", f"model-{number}", "generate", "404", 0.001)
        metrics.observe_request("v2", "tanh-model", f"ability-{number}", "404", 0.001)
    counts = {labels: value for (name, labels), value in samples(metrics).items() if name.endswith("seconds_count")}
    others = (("ability", "other"), ("model", "other"), ("protocol", "v2"), ("status", "404"))
    assert counts[others] == 200
    assert len([labels for labels in counts if dict(labels).get("protocol")]) == 1


def test_a_repository_says_which_versions_answer_and_on_what(models, tanh_model):
    repository = Repository(models, threads=1, watch=True, interval=3600)
    try:
        labels = {"model": "tanh-model", "version": "1", "provider": "CPUExecutionProvider"}
        value = repository.metrics.registry.get_sample_value
        assert value("serving_model_info", labels) == 1
        assert value("serving_model_loads_total", {"model": "tanh-model", "outcome": "ready"}) == 1
        (tanh_model / "generate.onnx").write_bytes(b"")
        repository.look()
        repository.look()
        assert value("serving_model_loads_total", {"model": "tanh-model", "outcome": "broken"}) == 1
        assert value("serving_model_info", labels) == 1
        for file in tanh_model.iterdir():
            file.unlink()
        tanh_model.rmdir()
        repository.look()
        repository.look()
        assert value("serving_model_info", labels) is None
    finally:
        repository.close()
