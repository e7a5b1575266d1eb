"""Schedules are Poisson and fixed, quantiles count failures, rates are doubled and narrowed, and a tiny run answers."""

import asyncio
import json
import math

import numpy as np
import pytest

from benchmarks import serving
from benchmarks.load import Pool, arrival_times, latency_quantile, send_all
from serving.card import encode_card, read_card
from tests.serving.conftest import build_card, write_tanh_model


def test_arrivals_are_a_poisson_process_and_the_same_for_a_seed() -> None:
    times = arrival_times(200.0, 50.0, seed=3)
    np.testing.assert_array_equal(times, arrival_times(200.0, 50.0, seed=3))
    assert not np.array_equal(times[:100], arrival_times(200.0, 50.0, seed=4)[:100])
    assert (np.diff(times) >= 0).all()
    assert times[0] >= 0
    assert times[-1] < 50
    assert len(times) == pytest.approx(10_000, abs=500)  # five standard deviations
    gaps = np.diff(times)
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.05)
    assert gaps.std() == pytest.approx(1 / 200, rel=0.06)  # an exponential's is its mean
    counts = np.histogram(times, 500, (0, 50))[0]
    assert counts.var() == pytest.approx(counts.mean(), rel=0.3)


def test_quantiles_are_of_all_requests_that_were_sent() -> None:
    latencies = [float(number) for number in range(100, 0, -1)]
    assert latency_quantile(latencies, 0, 0.5) == 50
    assert latency_quantile(latencies, 0, 0.99) == 99
    assert latency_quantile(latencies, 1, 0.99) == 100
    assert latency_quantile(latencies, 2, 0.99) == math.inf
    assert latency_quantile([7.0], 0, 0.5) == 7
    with pytest.raises(ValueError, match="no request was sent"):
        latency_quantile([], 0, 0.5)


def test_rates_are_doubled_until_they_break_and_narrowed_then() -> None:
    options = serving.Options(lowest_rate=50, highest_rate=6400, narrowings=2)
    points: list[dict] = []
    while (rate := serving.next_rate(points, options)) is not None:
        points.append({"rate": rate, "held": rate < 300})
    assert [round(point["rate"]) for point in points] == [50, 100, 200, 400, 283, 336]
    assert serving.next_rate([{"rate": 50.0, "held": False}], options) is None
    assert serving.next_rate([{"rate": 6400.0, "held": True}], options) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lowest_rate": 0}, "lowest_rate=0"),
        ({"seconds": 0}, "seconds=0: give more than 0"),
        ({"narrowings": -1}, "narrowings=-1"),
        ({"contenders": ("triton",)}, r"contenders=\['triton'\]: choose from \['batching'"),
    ],
)
def test_options_that_measure_nothing_are_refused(given, message) -> None:
    with pytest.raises(ValueError, match=message):
        serving.Options(**given)


def test_a_latency_counts_from_the_time_that_was_meant() -> None:
    """The server answers one request at a time, each after a tenth of a second; three are meant to come at once."""
    turn = asyncio.Lock()

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        async with turn:
            await asyncio.sleep(0.1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def run():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        sent = await send_all(port, [b"GET / HTTP/1.1\r\n\r\n"], np.zeros(3), 0.2)
        server.close()
        return sent

    sent = asyncio.run(run())
    assert sent.failed == 0
    assert [latency >= 0.1 * number for number, latency in enumerate(sorted(sent.latencies), 1)] == [True] * 3


def test_a_request_without_an_answer_has_failed() -> None:
    async def leave(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def run():
        server = await asyncio.start_server(leave, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError):
            await Pool(port).ask(b"GET / HTTP/1.1\r\n\r\n")
        return await send_all(port, [b"GET / HTTP/1.1\r\n\r\n"], np.zeros(2), 0.1)

    sent = asyncio.run(run())
    assert (sent.latencies, sent.failed) == ([], 2)


def test_a_tiny_run_has_every_figure(tmp_path, capsys) -> None:
    folder = write_tanh_model(tmp_path / "models" / "tanh-model")
    card = read_card(folder)
    plain = {"generate": card.abilities["generate"]}
    (folder / "card.json").write_bytes(encode_card(build_card("tanh-model", plain, folder)))
    figure = tmp_path / "figure.png"
    serving.main(
        [
            *("--exported", str(tmp_path / "models"), "--models", "tanh-model", "--json", "--figure", str(figure)),
            *("--contenders", "batching", "one-by-one", "mlserver", "binary", "--seconds", "0.5", "--limit", "10"),
            *("--lowest-rate", "20", "--highest-rate", "40", "--rounds", "1"),
        ]
    )
    outcome = json.loads(capsys.readouterr().out)
    result = outcome["results"]["tanh-model"]
    assert result["not_run"] == {"mlserver": "no environment was given: --mlserver-python"}
    assert list(result["points"]) == ["batching", "one-by-one", "binary"]
    for points in result["points"].values():
        assert [point["rate"] for point in points] == [20, 40]
        for point in points:
            assert point["failed"] == 0
            assert 0 < point["p50"] <= point["p99"]
    assert result["crowded"]["one-by-one"]["rows_a_run"] == 1
    assert result["crowded"]["batching"]["rows_a_run"] > 1
    assert set(result["ratios"]) >= {"batching / one-by-one", "batching / one-by-one, crowded, by processor time"}
    assert all(point["rows_a_run"] == 1 for point in result["points"]["one-by-one"])
    # An image of 64 values: 256 bytes behind the JSON.
    forms = result["overhead"]["forms"]
    assert forms["JSON"]["bytes"] > forms["binary"]["bytes"] > 256
    assert forms["PNG"]["bytes"] > 64
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert outcome["machine"]["processor"]
