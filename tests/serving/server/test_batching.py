"""Rows of many requests in one run: what is put together, what is not, who waits, and who is let go."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serving import Pipeline, Sampler
from serving.card import Ability, Input, Iteration, Output
from serving.server import batching
from serving.server.batching import Batcher, BatchingOptions
from serving.server.errors import AbandonedError, DeadlineError, QueueFullError
from serving.session import ModelFileError

LATENT = Input("latent", "float32", ("batch", 2), "normal")
DOUBLED = Output("doubled", "float32", ("batch", 2), "code")
DOUBLING = Ability((LATENT,), (DOUBLED,))


class Graph:
    """doubled = 2 * latent, as slow as asked for; knows what it was given."""

    def __init__(self):
        self.runs, self.go, self.began = [], threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, feeds):
        self.runs.append({name: array.copy() for name, array in feeds.items()})
        self.began.set()
        assert self.go.wait(30)
        if np.isnan(feeds["latent"]).any():
            raise ModelFileError("the graph fails")
        return {"doubled": 2 * feeds["latent"]}

    @property
    def sizes(self):
        return [len(run["latent"]) for run in self.runs]


def rows(count, value=1.0):
    return {"latent": np.full((count, 2), value, np.float32)}


class Crowd:
    """Requests of threads of their own, while the graph is held in its first run."""

    def __init__(self, batcher, graph):
        self.batcher, self.graph, self.pool = batcher, graph, ThreadPoolExecutor(64)
        graph.go.clear()
        self.first = self.ask(rows(1))
        assert graph.began.wait(30)

    def ask(self, feeds, **options):
        """Returns when it waits."""
        before = len(self.batcher._waiting)
        leading = self.batcher._leader is None
        future = self.pool.submit(self.batcher.run, feeds, **options)
        while not leading and len(self.batcher._waiting) == before:
            time.sleep(0.001)
        return future

    def let_go(self):
        self.graph.go.set()
        self.first.result(30)

    def close(self):
        self.graph.go.set()
        self.pool.shutdown()


@pytest.fixture
def graph():
    return Graph()


@pytest.fixture
def crowd(graph):
    found = Crowd(Batcher(graph, DOUBLING, BatchingOptions(buckets=(1, 4, 8))), graph)
    yield found
    found.close()


def test_a_request_alone_runs_at_once_as_it_is(graph):
    batcher = Batcher(graph, DOUBLING)
    feeds = rows(3)
    np.testing.assert_array_equal(batcher.run(feeds)["doubled"], 2 * feeds["latent"])
    assert graph.sizes == [3]


def test_those_that_wait_share_a_run_and_each_gets_its_own_rows(crowd, graph):
    futures = [crowd.ask(rows(count, value)) for value, count in enumerate((2, 3, 3, 1))]
    crowd.let_go()
    for value, (count, future) in enumerate(zip((2, 3, 3, 1), futures, strict=True)):
        np.testing.assert_array_equal(future.result(30)["doubled"], np.full((count, 2), 2 * value, np.float32))
    assert graph.sizes == [1, 8, 1]  # 2 + 3 + 3 fill the largest batch


def test_what_is_too_large_for_the_rest_of_a_batch_is_passed_by_smaller_ones_but_leads_the_next(crowd, graph):
    futures = [crowd.ask(rows(count)) for count in (5, 6, 2, 1)]
    crowd.let_go()
    for future in futures:
        future.result(30)
    assert graph.sizes == [1, 8, 6]


def test_an_answer_holds_no_more_than_its_own_rows(crowd):
    futures = [crowd.ask(rows(1)) for _ in range(8)]
    crowd.let_go()
    for future in futures:
        array = future.result(30)["doubled"]
        assert array.base is None or array.base.nbytes == array.nbytes


def test_different_values_of_what_is_one_for_all_rows_and_different_sizes_go_apart(graph):
    truncation = Input("truncation", "float32", (1,), "truncation")
    image = Input("latent", "float32", ("batch", "height", 1), "image")
    made = Output("doubled", "float32", ("batch", "height", 1), "code")
    batcher = Batcher(graph, Ability((image, truncation), (made,)))
    crowd = Crowd.__new__(Crowd)
    crowd.batcher, crowd.graph, crowd.pool = batcher, graph, ThreadPoolExecutor(8)
    graph.go.clear()

    def feeds(height, factor):
        return {"latent": np.ones((1, height, 1), np.float32), "truncation": np.array([factor], np.float32)}

    first = crowd.pool.submit(batcher.run, feeds(9, 1.0))
    assert graph.began.wait(30)
    futures = [crowd.ask(feeds(*each)) for each in ((2, 0.5), (2, 0.7), (3, 0.5), (2, 0.5), (3, 0.5), (2, 0.7))]
    graph.go.set()
    for future in (first, *futures):
        future.result(30)
    crowd.close()
    shapes = [(run["latent"].shape, float(run["truncation"][0])) for run in graph.runs[1:]]
    assert shapes == [((2, 2, 1), 0.5), ((2, 2, 1), np.float32(0.7)), ((2, 3, 1), 0.5)]


def test_labels_truncations_and_noise_of_a_row_each_share_a_run(crowd, mirror_model):
    """Checked against the graph itself, a row at a time."""
    pipeline = Pipeline.from_directory(mirror_model, threads=1)
    sampled = [pipeline.sample(1, seed, labels=seed % 3, output_type="float32") for seed in range(6)]
    sizes, go, began = [], threading.Event(), threading.Event()

    def run(feeds):
        sizes.append(len(feeds["label"]))
        began.set()
        assert go.wait(30)
        return pipeline.run(feeds)

    batcher = Batcher(run, pipeline.ability)

    def sample(seed):
        return Sampler(pipeline.ability, batcher.run).sample(1, seed, labels=seed % 3, output_type="float32")

    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(sample, 0)
        assert began.wait(30)
        others = [pool.submit(sample, seed) for seed in range(1, 6)]
        while len(batcher._waiting) < 5:
            time.sleep(0.001)
        go.set()
        for image, future in zip(sampled, (first, *others), strict=True):
            np.testing.assert_array_equal(future.result(30), image)
    assert sizes == [1, 5]


def test_a_request_that_fails_fails_alone(crowd, graph):
    good, bad, other = crowd.ask(rows(2)), crowd.ask(rows(1, np.nan)), crowd.ask(rows(1, 3.0))
    crowd.let_go()
    np.testing.assert_array_equal(good.result(30)["doubled"], np.full((2, 2), 2.0))
    np.testing.assert_array_equal(other.result(30)["doubled"], np.full((1, 2), 6.0))
    with pytest.raises(ModelFileError, match="the graph fails"):
        bad.result(30)
    assert graph.sizes == [1, 4, 2, 1, 1]


def test_after_a_failure_the_next_is_answered(graph):
    batcher = Batcher(graph, DOUBLING)
    for _ in range(2):
        with pytest.raises(ModelFileError):
            batcher.run(rows(1, np.nan))
        assert batcher.run(rows(1))["doubled"].shape == (1, 2)


def test_a_graph_that_gives_other_numbers_of_rows_is_not_split(graph):
    batcher = Batcher(lambda feeds: {"doubled": graph(feeds)["doubled"][:1]}, DOUBLING)
    crowd = Crowd(batcher, graph)
    futures = [crowd.ask(rows(1)) for _ in range(2)]
    crowd.let_go()
    assert [future.result(30)["doubled"].shape for future in futures] == [(1, 2)] * 2
    assert graph.sizes == [1, 2, 1, 1]  # the batch is refused, each alone is what the session says it is
    crowd.close()


@pytest.mark.parametrize("inputs", [(), (Input("latent", "float32", (4, 2), "code"),)])
def test_what_has_no_rows_shares_no_run(graph, inputs):
    batcher = Batcher(graph, Ability(inputs, (Output("doubled", "float32", (4, 2), "code"),)))
    crowd = Crowd(batcher, graph)
    futures = [crowd.ask(rows(4)) for _ in range(3)]
    crowd.let_go()
    for future in futures:
        future.result(30)
    assert graph.sizes == [1, 4, 4, 4]
    crowd.close()


def test_batches_are_filled_up_where_sizes_are_few(graph):
    batcher = Batcher(graph, DOUBLING, BatchingOptions(buckets=(1, 4, 8)), fill=True)
    for count, size in ((1, 1), (2, 4), (4, 4), (5, 8), (8, 8)):
        feeds = {"latent": np.arange(2 * count, dtype=np.float32).reshape(count, 2)}
        np.testing.assert_array_equal(batcher.run(feeds)["doubled"], 2 * feeds["latent"])
        assert graph.sizes[-1] == size
        np.testing.assert_array_equal(graph.runs[-1]["latent"][count:], np.tile(feeds["latent"][-1], (size - count, 1)))


def test_a_batch_of_large_rows_has_fewer_of_them(monkeypatch):
    image = Input("image", "float32", ("batch", "height", "width", 3), "image", (-1.0, 1.0))
    made = Output("upscaled", "float32", ("batch", "4*height", "4*width", 3), "image", (-1.0, 1.0), "NHWC")
    batcher = Batcher(lambda feeds: feeds, Ability((image,), (made,)), BatchingOptions(buckets=(1, 2, 4, 8)))
    monkeypatch.setattr(batching, "VALUES", 3 * 16 * 10 * 10 * 5)
    assert batcher.rows_at_once({"image": np.zeros((8, 10, 10, 3), np.float32)}) == 4
    assert batcher.rows_at_once({"image": np.zeros((8, 5, 5, 3), np.float32)}) == 8
    assert batcher.rows_at_once({"image": np.zeros((8, 100, 100, 3), np.float32)}) == 1


def test_the_first_of_a_batch_waits_for_others_as_long_as_is_said(graph):
    batcher = Batcher(graph, DOUBLING, BatchingOptions(delay=1.0, buckets=(1, 4)))
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(batcher.run, [rows(2, 1.0), rows(2, 2.0)]))  # full: no second passes
    assert graph.sizes == [4]
    assert [float(answer["doubled"][0, 0]) for answer in answers] == [2.0, 4.0]
    began = time.monotonic()
    batcher.run(rows(1))
    assert time.monotonic() - began >= 1.0


def test_a_deadline_that_passes_in_the_queue_is_an_error_at_once_and_nothing_is_run(crowd, graph):
    waiting = crowd.ask(rows(1), deadline=time.monotonic() + 0.05)
    with pytest.raises(DeadlineError, match="time of this request was over before it could be run"):
        waiting.result(30)  # while the graph is still held
    other = crowd.ask(rows(1))
    crowd.let_go()
    other.result(30)
    assert graph.sizes == [1, 1]


def test_a_deadline_in_the_past_runs_nothing(graph):
    with pytest.raises(DeadlineError):
        Batcher(graph, DOUBLING).run(rows(1), deadline=time.monotonic() - 1)
    assert graph.sizes == []


def test_an_abandoned_request_is_dropped_before_it_is_run(crowd, graph):
    gone = threading.Event()
    abandoned = [crowd.ask(rows(1), abandoned=gone.is_set) for _ in range(3)]
    kept = crowd.ask(rows(2), abandoned=lambda: False)
    gone.set()
    crowd.let_go()
    for future in abandoned:
        with pytest.raises(AbandonedError, match="it was not run"):
            future.result(30)
    assert kept.result(30)["doubled"].shape == (2, 2)
    assert graph.sizes == [1, 2]


def test_an_error_in_asking_whether_it_is_abandoned_is_that_of_its_request(crowd):
    def broken():
        raise RuntimeError("broken")

    one, other = crowd.ask(rows(1), abandoned=broken), crowd.ask(rows(1))
    crowd.let_go()
    with pytest.raises(RuntimeError, match="broken"):
        one.result(30)
    assert other.result(30)["doubled"].shape == (1, 2)


def test_a_full_queue_refuses_with_a_time_from_the_measured_rate(graph, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(batching.time, "monotonic", lambda: clock[0])
    batcher = Batcher(graph, DOUBLING, BatchingOptions(queue_rows=8, request_rows=8))
    with batcher.admit(4):
        clock[0] += 12  # 3 seconds a row
    with batcher.admit(8):
        assert batcher.in_hand == 8
        with pytest.raises(QueueFullError, match="8 rows are in hand, and at most 8 are taken: try again in 24 s") as e:
            batcher.admit(1).__enter__()
        assert e.value.retry_after == pytest.approx(24)
    assert batcher.in_hand == 0
    with batcher.admit(8):
        pass


def test_a_place_is_given_back_whatever_happens(graph):
    batcher = Batcher(graph, DOUBLING, BatchingOptions(queue_rows=2, request_rows=2))
    for _ in range(3):
        with pytest.raises(ModelFileError), batcher.admit(2):
            batcher.run(rows(2, np.nan))


def test_clients_that_left_leave_the_queue_when_it_is_full(graph):
    batcher = Batcher(graph, DOUBLING, BatchingOptions(queue_rows=4, request_rows=4))
    crowd = Crowd(batcher, graph)
    gone = threading.Event()

    def ask():
        with batcher.admit(4):
            return batcher.run(rows(4), abandoned=gone.is_set)

    left = crowd.pool.submit(ask)
    while not batcher._waiting:
        time.sleep(0.001)
    gone.set()
    with pytest.raises(QueueFullError):
        batcher.admit(1).__enter__()
    with pytest.raises(AbandonedError):  # at once: the graph is still held
        left.result(30)
    with batcher.admit(4):
        pass
    crowd.close()


def test_a_large_request_and_a_small_one_take_turns(graph):
    """Pieces of the large one come to the end of the queue: the small one waits for one of them, not for all."""
    batcher = Batcher(graph, DOUBLING, BatchingOptions(buckets=(1, 4)))
    crowd = Crowd(batcher, graph)

    def large():
        for _ in range(10):
            batcher.run(rows(4, 7.0))

    future = crowd.pool.submit(large)
    while not batcher._waiting:
        time.sleep(0.001)
    small = crowd.ask(rows(1, 9.0))
    crowd.let_go()
    small.result(30)
    future.result(30)
    order = [float(run["latent"][0, 0]) for run in graph.runs]
    assert order.index(9.0) == 2
    crowd.close()


COUNTING = Ability(
    (Input("state", "float32", ("batch", 1), "state"), Input("noise", "float32", ("batch", 1), "normal")),
    (
        Output("next", "float32", ("batch", 1), "state"),
        Output("image", "float32", ("batch", 1, 1, 1), "image", (-9.0, 9.0), "NHWC"),
    ),
    iteration=Iteration("gibbs", 5, {"state": "next"}),
)


def test_steps_of_samplers_at_different_steps_share_runs_and_change_nothing():
    sizes, lock = [], threading.Lock()

    def step(feeds):
        with lock:
            sizes.append(len(feeds["state"]))
        time.sleep(0.002)
        value = feeds["state"] + feeds["noise"]
        return {"next": value, "image": value.reshape(-1, 1, 1, 1)}

    alone = [Sampler(COUNTING, step).sample(2, seed, steps=3 + seed, output_type="float32") for seed in range(8)]
    sizes.clear()
    batcher = Batcher(step, COUNTING)

    def sample(seed):
        return Sampler(COUNTING, batcher.run).sample(2, seed, steps=3 + seed, output_type="float32")

    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(alone, pool.map(sample, range(8)), strict=True):
            np.testing.assert_array_equal(one, other)
    assert sum(sizes) == 2 * sum(3 + seed for seed in range(8))
    assert max(sizes) > 2


def test_2000_answers_of_200_threads_are_bit_for_bit_those_of_the_session_alone(tanh_model):
    """Holds on the CPU for graphs of these operators: see docs/serving.md for what does not."""
    pipeline = Pipeline.from_directory(tanh_model, threads=1)
    sizes = []

    def run(feeds):
        sizes.append(len(feeds["latent"]))
        return pipeline.run(feeds)

    batcher = Batcher(run, pipeline.ability)
    random = np.random.default_rng(0)
    requests = [{"latent": random.standard_normal((1 + n % 3, 4)).astype(np.float32)} for n in range(2000)]
    expected = [pipeline.run(feeds)["image"] for feeds in requests]
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(batcher.run, requests))
    for one, other in zip(expected, answers, strict=True):
        np.testing.assert_array_equal(one, other["image"])
    assert len(sizes) < 2000  # some were put together
    assert sum(sizes) == sum(len(feeds["latent"]) for feeds in requests)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buckets": ()}, r"buckets=\(\): give sizes from 1, ascending"),
        ({"buckets": (0, 1)}, "give sizes from 1"),
        ({"buckets": (2, 2)}, "ascending"),
        ({"delay": -1}, "delay=-1: give 0 to 1 seconds"),
        ({"delay": float("nan")}, "delay=nan"),
        ({"request_rows": 0}, "request_rows=0: give 1 to queue_rows=1024"),
        ({"queue_rows": 10}, "request_rows=256: give 1 to queue_rows=10"),
        ({"request_steps": 0}, "request_steps=0: give 1 or more"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BatchingOptions(**options)
