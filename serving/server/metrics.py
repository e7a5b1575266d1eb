"""What a server counts and measures, for Prometheus.

Names of models and abilities are labels only where the server has such ones: what clients make up makes no new series.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
OTHER = "other"


class Metrics:
    """The metrics of one server, in a registry of their own; safe to share between threads.

    serving_request_seconds          histogram, by protocol, model, ability and status: from request to answer
    serving_inferences_total         rows that were run, by model and ability
    serving_executions_total         runs of a graph, each of a batch of rows
    serving_batch_rows               histogram of the rows of a run
    serving_execution_seconds        histogram of the time of a run
    serving_wait_seconds             histogram of the time from the arrival of rows to the begin of their run
    serving_rows_in_hand             rows that wait or run
    serving_errors_total             by model, ability and cause: input, model, queue_full, deadline, abandoned,
                                     unavailable, other
    serving_model_loads_total        by model and outcome: ready or broken
    serving_model_info               1 for each version that answers, with the provider of ONNX Runtime it runs on
    """

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        of = ("model", "ability")
        self._requests = Histogram(
            "serving_request_seconds",
            "From request to answer.",
            ("protocol", *of, "status"),
            buckets=SECONDS,
            registry=registry,
        )
        self._inferences = Counter("serving_inferences", "Rows that were run.", of, registry=registry)
        self._executions = Counter("serving_executions", "Runs of a graph, each of a batch.", of, registry=registry)
        self._batches = Histogram("serving_batch_rows", "Rows of a run.", of, buckets=ROWS, registry=registry)
        self._runs = Histogram("serving_execution_seconds", "Time of a run.", of, buckets=SECONDS, registry=registry)
        self._waits = Histogram(
            "serving_wait_seconds", "From the arrival of rows to their run.", of, buckets=SECONDS, registry=registry
        )
        self._in_hand = Gauge("serving_rows_in_hand", "Rows that wait or run.", of, registry=registry)
        self._errors = Counter("serving_errors", "Requests without an answer.", (*of, "cause"), registry=registry)
        self._loads = Counter("serving_model_loads", "Versions opened.", ("model", "outcome"), registry=registry)
        self._info = Gauge(
            "serving_model_info", "Versions that answer.", ("model", "version", "provider"), registry=registry
        )
        self._known: set[tuple[str, str]] = set()

    def render(self) -> bytes:
        """Everything in Prometheus' text format, to be sent as `CONTENT_TYPE`."""
        return generate_latest(self.registry)

    def observe_ability(self, model: str, ability: str) -> "AbilityMetrics":
        """What an ability's batches are told to; from now on the two names are labels."""
        self._known.add((model, ability))
        of = (model, ability)
        return AbilityMetrics(
            self._inferences.labels(*of),
            self._executions.labels(*of),
            self._batches.labels(*of),
            self._runs.labels(*of),
            self._waits.labels(*of),
            self._in_hand.labels(*of),
        )

    def observe_request(self, protocol: str, model: str, ability: str, status: str, seconds: float) -> None:
        """A request was answered.

        Args:
            protocol: such as "v2", one of the server's own words.
            model, ability: as the request names them; empty where it names none.
            status: such as "200", one of the server's own words.
            seconds: from its first byte to the answer's.
        """
        known = (model, ability) in self._known
        self._requests.labels(protocol, *((model, ability) if known else (OTHER, OTHER)), status).observe(seconds)

    def count_error(self, model: str, ability: str, cause: str) -> None:
        """A request of a model that is served got no answer."""
        self._errors.labels(model, ability, cause).inc()

    def count_load(self, model: str, outcome: str) -> None:
        """A version was opened, or could not be."""
        self._loads.labels(model, outcome).inc()

    def set_serving(self, model: str, version: str, provider: str) -> None:
        """The version answers, on this provider."""
        self._info.labels(model, version, provider).set(1)

    def unset_serving(self, model: str, version: str, provider: str) -> None:
        """It does not any more."""
        self._info.remove(model, version, provider)


class AbilityMetrics:
    """The `Observer` of one ability's batches."""

    def __init__(
        self,
        inferences: Counter,
        executions: Counter,
        batches: Histogram,
        runs: Histogram,
        waits: Histogram,
        in_hand: Gauge,
    ) -> None:
        self._inferences, self._executions, self._batches = inferences, executions, batches
        self._runs, self._waits, self._in_hand = runs, waits, in_hand

    def observe_batch(self, rows: int, seconds: float) -> None:
        """One run of the graph has ended: so many rows of requests, in so many seconds."""
        self._inferences.inc(rows)
        self._executions.inc()
        self._batches.observe(rows)
        self._runs.observe(seconds)

    def observe_wait(self, seconds: float) -> None:
        """A request's rows begin to run, so long after they came."""
        self._waits.observe(seconds)

    def observe_queue(self, change: int) -> None:
        """So many rows more are in hand, waiting or running; less, where it is negative."""
        self._in_hand.inc(change)
