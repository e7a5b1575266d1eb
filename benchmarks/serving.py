"""The server under load, with batching and without, beside MLServer with the same ONNX file.

    python -m benchmarks.serving
    python -m benchmarks.serving --mlserver-python mlserver/bin/python --figure benchmarks/serving.png

Requests for one image each come at random times, drawn beforehand, however many wait: an open loop. A latency counts
from the time that its request was meant to be sent. The rate is doubled until the 99th percentile breaks the limit in
all of a few windows, and then narrowed down; contenders take turns, with the same times. What a contender gives at the
limit is the highest rate that it held. Load generator and server share the machine's cores. What is `crowded` is by the
server's processor time, with as many requests at once as connections are kept.

MLServer wants an environment of its own: `uv venv --python 3.11 mlserver`, and then
`uv pip install -p mlserver mlserver==1.7.1 onnxruntime`.
"""

import asyncio
import dataclasses
import json
import os
import re
import socket
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

import numpy as np
import tyro

from benchmarks import harness
from benchmarks.harness import NotRunError
from benchmarks.load import Pool, arrival_times, latency_quantile, send_all
from serving.card import Card, read_card
from serving.sampling.sampler import Sampler
from serving.session import CPU, Session

ROOT = Path(__file__).parents[1]
REQUESTS = 64  # different ones, sent in turn
WARM_UP = 40  # requests before the first window
HELD = 0.95  # of the rate that comes must be answered in the window
START = 60.0  # seconds that a server has to start
CROWD, CROWD_SECONDS = 1000, 60.0  # requests that are to be sent at once, and their time
ALONE = 300  # requests, one after another, of a round of the overhead
MLSERVER_DELAY = 0.005  # seconds that MLServer's batches are gathered, at most
CLOCKS = ("processor", "clock")
BINARY = "Inference-Header-Content-Length"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The server under load."""

    exported: Path = ROOT / "exported"
    """Folder of the models."""
    models: tuple[str, ...] = ("gan-mnist", "dcgan-fashion-mnist")
    """Generators: one of dense layers, where a batch gains most, and one of convolutions."""
    contenders: tuple[str, ...] = ()
    """Which to run; all by default."""
    lowest_rate: float = 50.0
    """Requests a second of the first window."""
    highest_rate: float = 6400.0
    """Where the rates end that no contender broke at."""
    narrowings: int = 3
    """Windows between the highest rate that was held and the lowest that was not."""
    attempts: int = 2
    """Windows that a rate has to break the limit in; turns of the others lie between them."""
    seconds: float = 6.0
    """Of a window."""
    limit: float = 0.05
    """Seconds that 99 % of the requests must be answered in."""
    threads: int = 1
    """CPU threads of a run of a graph."""
    rounds: int = 5
    """Of the overhead; the smallest counts."""
    seed: int = 0
    """Of the times and the latents."""
    mlserver_python: Path | None = None
    """Python of an environment that has MLServer and ONNX Runtime."""
    figure: Path | None = None
    """Where to draw the 99th percentile over the throughput."""
    json: bool = False
    """Print one JSON object instead of tables."""

    def __post_init__(self) -> None:
        """Refuse what measures nothing with a ValueError."""
        if not 0 < self.lowest_rate <= self.highest_rate:
            raise ValueError(f"lowest_rate={self.lowest_rate}: give more than 0, at most {self.highest_rate}.")
        for name in ("attempts", "seconds", "limit", "threads", "rounds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: give more than 0.")
        if self.narrowings < 0:
            raise ValueError(f"narrowings={self.narrowings}: give 0 or more.")
        if unknown := sorted(set(self.contenders) - set(CONTENDERS)):
            raise ValueError(f"contenders={unknown}: choose from {list(CONTENDERS)}.")


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    port: int
    process: Popen
    binary: bool = False
    """Whether it is asked with tensors as bytes."""
    metrics: str = ""
    """The address of its metrics, where it tells the rows of its batches."""


@contextmanager
def run_zoo(options: Options, model: str, folder: Path, *more: str, binary: bool = False) -> Iterator[Running]:
    """`python -m serving`."""
    command = [sys.executable, "-m", "serving", "--models", str(options.exported), "--name", model, "--port", "0"]
    command += ["--threads", str(options.threads), *more]
    with started(command, folder / "zoo.log", {}, PIPE) as process:
        line = process.stdout.readline() if process.stdout else ""
        if not (found := re.match(r"serving on http://127\.0\.0\.1:(\d+): ", line)):
            process.wait()
            raise RuntimeError(f"the server did not start: {(folder / 'zoo.log').read_text()[-2000:]}")
        port = int(found[1])
        yield Running(port, process, binary, f"http://127.0.0.1:{port}/metrics")


@contextmanager
def run_mlserver(options: Options, model: str, folder: Path) -> Iterator[Running]:
    """MLServer, its adaptive batching on, the model in its own process."""
    if options.mlserver_python is None:
        raise NotRunError("no environment was given: --mlserver-python")
    if not options.mlserver_python.exists():
        raise NotRunError(f"{options.mlserver_python} does not exist")
    ports = {name: free_port() for name in ("http_port", "grpc_port", "metrics_port")}
    settings = {**ports, "host": "127.0.0.1", "parallel_workers": 0, "debug": False}
    (folder / "settings.json").write_text(json.dumps(settings))
    ability = default_ability(read_card(options.exported / model))
    file = (options.exported / model / str(ability.file)).resolve()
    described = {
        "name": model,
        "implementation": "mlserver_runtime.OnnxModel",
        "max_batch_size": 16,
        "max_batch_time": MLSERVER_DELAY,
        "parameters": {"uri": str(file), "extra": {"threads": options.threads}},
    }
    (folder / model).mkdir()
    (folder / model / "model-settings.json").write_text(json.dumps(described))
    code = "from mlserver.cli import main; main()"
    command = [str(options.mlserver_python), "-c", code, "start", str(folder)]
    with started(command, folder / "mlserver.log", {"PYTHONPATH": str(ROOT / "benchmarks" / "peers")}) as process:
        end = time.monotonic() + START
        while not answers(f"http://127.0.0.1:{ports['http_port']}/v2/models/{model}/ready"):
            if time.monotonic() > end or process.poll() is not None:
                raise RuntimeError(f"MLServer did not start: {(folder / 'mlserver.log').read_text()[-2000:]}")
            time.sleep(0.2)
        yield Running(ports["http_port"], process)


@contextmanager
def started(
    command: Sequence[str], log: Path, environment: Mapping[str, str], output: int = DEVNULL
) -> Iterator[Popen]:
    """A process that is ended in the end; what it says on standard error goes to `log`."""
    given = os.environ | harness.on_the_cpu(1) | {"PYTHONPATH": str(ROOT)} | environment
    with log.open("w") as stderr:
        process = Popen(command, cwd=log.parent, env=given, stdout=output, stderr=stderr, text=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except Exception:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


CONTENDERS: Mapping[str, Callable[[Options, str, Path], Any]] = {
    "batching": run_zoo,
    "one-by-one": lambda *given: run_zoo(*given, "--batch-rows", "1"),
    "mlserver": run_mlserver,
    "binary": lambda *given: run_zoo(*given, binary=True),
    "binary-one-by-one": lambda *given: run_zoo(*given, "--batch-rows", "1", binary=True),
}
"""Name -> a server; those called binary are asked for tensors as bytes, the others for JSON."""
BASELINES = {"batching": "one-by-one", "binary": "binary-one-by-one"}


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def answers(address: str) -> bool:
    """Whether a server says yes."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def default_ability(card: Card) -> Any:
    """What a request for the model runs."""
    return card.abilities[card.default_ability]


def encode_request(path: str, body: bytes, **headers: str) -> bytes:
    """A POST of HTTP/1.1, whole; underscores of names are hyphens."""
    given = {"Host": "127.0.0.1", "Content-Type": "application/json", "Content-Length": str(len(body))}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    return "\r\n".join(lines).encode("ascii") + body


def infer_request(model: str, name: str, latent: np.ndarray, binary: bool) -> bytes:
    """A request of the Open Inference Protocol for the images of some latents."""
    tensor: dict[str, Any] = {"name": name, "shape": latent.shape, "datatype": "FP32"}
    path = f"/v2/models/{model}/infer"
    if not binary:
        return encode_request(path, json.dumps({"inputs": [tensor | {"data": latent.ravel().tolist()}]}).encode())
    tensor["parameters"] = {"binary_data_size": latent.nbytes}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return encode_request(path, head + latent.tobytes(), **{BINARY.replace("-", "_"): str(len(head))})


def decode_image(body: bytes, binary: bool) -> np.ndarray:
    """The only output of an answer, flat."""
    if not binary:
        return np.array(json.loads(body)["outputs"][0]["data"], np.float32)
    end = json.JSONDecoder().raw_decode(body.decode("latin-1"))[1]
    return np.frombuffer(body[end:], np.float32)


def draw_latents(card: Card, seed: int) -> list[np.ndarray]:
    """Latents of one row each.

    Raises:
        ValueError: the model takes other inputs as well.
    """
    ability = default_ability(card)
    if [spec.feed for spec in ability.inputs] not in (["normal"], ["uniform"]):
        raise ValueError(f"{card.name} takes more than latents: choose a generator that takes those alone.")
    fed: list[np.ndarray] = []

    def remember(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        fed.append(feeds[ability.inputs[0].name])
        return {spec.name: np.zeros((1, *spec.shape[1:]), spec.dtype) for spec in ability.outputs}

    sampler = Sampler(ability, remember, batch_size=1)
    for number in range(REQUESTS):
        sampler.sample(1, seed=seed + number)
    return fed


def ask_in_turn(port: int, requests: Sequence[bytes]) -> list[bytes]:
    """The bodies of the answers, each request sent when the one before is answered.

    Raises:
        RuntimeError: an answer is not 200.
    """

    async def ask() -> list[bytes]:
        pool, bodies = Pool(port), []
        for request in requests:
            status, body = await pool.ask(request)
            if status != 200:
                raise RuntimeError(f"the server answered {status}: {body[:500]!r}")
            bodies.append(body)
        pool.close()
        return bodies

    return asyncio.run(ask())


def processor_seconds(process: Popen) -> float:
    """Of a process and all its threads, living or ended, in ticks of 10 ms; NaN where the system does not tell."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_metrics(running: Running) -> dict[str, float]:
    """Sums over all labels, by the name of the metric; empty where the server has none of ours."""
    if not running.metrics:
        return {}
    with urllib.request.urlopen(running.metrics, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found: dict[str, float] = {}
    for line in lines:
        if line.startswith("serving_"):
            name, value = re.split(r"[{ ]", line, maxsplit=1)[0], float(line.rpartition(" ")[2])
            found[name] = found.get(name, 0.0) + value
    return found


@dataclass
class Spent:
    """What a server has spent on some requests."""

    processor: float = 0.0
    """Seconds of its processor time."""
    metrics: dict[str, float] = field(default_factory=dict)
    """By how much each of its metrics has grown, by the names of `read_metrics`."""

    @property
    def rows_a_run(self) -> float | None:
        """The mean batch; None where the server does not tell."""
        rows, runs = (self.metrics.get(f"serving_{name}_total", 0.0) for name in ("inferences", "executions"))
        return rows / runs if runs else None


@contextmanager
def metered(running: Running) -> Iterator[Spent]:
    """What the server spends within; known afterwards."""
    spent = Spent()
    began, before = processor_seconds(running.process), read_metrics(running)
    yield spent
    spent.processor = processor_seconds(running.process) - began
    spent.metrics = {name: value - before.get(name, 0.0) for name, value in read_metrics(running).items()}


def measure_window(
    running: Running, requests: Sequence[bytes], rate: float, times: np.ndarray, options: Options
) -> dict[str, Any]:
    """One window."""
    with metered(running) as spent:
        own = time.process_time()
        sent = asyncio.run(send_all(running.port, requests, times, options.seconds))
        own = time.process_time() - own
    p50, p99 = (latency_quantile(sent.latencies, sent.failed, share) for share in (0.5, 0.99))
    answered = len(sent.latencies) / sent.seconds
    return {
        "rate": rate,
        "sent": len(times),
        "failed": sent.failed,
        "answered": answered,
        "p50": p50 if p50 < float("inf") else None,
        "p99": p99 if p99 < float("inf") else None,
        "rows_a_run": spent.rows_a_run,
        "server_cores": spent.processor / sent.seconds,
        "answered_per_processor_second": len(sent.latencies) / spent.processor if spent.processor else None,
        "generator_cores": own / sent.seconds,
        # What came, not what was meant to: a Poisson process of 300 arrivals has 283 to 317 in two of three windows.
        "held": p99 <= options.limit and answered >= HELD * len(times) / options.seconds,
    }


def next_rate(points: Sequence[Mapping[str, Any]], options: Options) -> float | None:
    """The rate of the next window: twice the last, then between what held and what did not; None at the end."""
    held = max((point["rate"] for point in points if point["held"]), default=0.0)
    broken = min((point["rate"] for point in points if not point["held"]), default=float("inf"))
    if broken == float("inf"):
        rate = max(options.lowest_rate, 2 * held)
        return rate if rate <= options.highest_rate else None
    doubled = sum(point["rate"] == options.lowest_rate * 2**n for n, point in enumerate(points))
    if not held or held > broken or len(points) - doubled >= options.narrowings:
        return None
    return float(np.sqrt(held * broken))


def sweep(model: str, options: Options) -> dict[str, Any]:
    """All contenders on one model: points by contender, what each held, and ratios."""
    card = read_card(options.exported / model)
    ability = default_ability(card)
    latents = draw_latents(card, options.seed)
    session = Session(options.exported / model / str(ability.file), providers=[CPU], threads=options.threads)
    wanted = session.run({ability.inputs[0].name: latents[0]})[ability.outputs[0].name].ravel()
    outcome: dict[str, Any] = {"points": {}, "not_run": {}, "held": {}, "ratios": {}}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers: dict[str, tuple[Running, list[bytes]]] = {}
        for name in options.contenders or CONTENDERS:
            place = Path(folder) / name
            place.mkdir()
            try:
                running = stack.enter_context(CONTENDERS[name](options, model, place))
            except NotRunError as error:
                outcome["not_run"][name] = str(error)
                continue
            requests = [infer_request(model, ability.inputs[0].name, latent, running.binary) for latent in latents]
            found = decode_image(ask_in_turn(running.port, requests[:1])[0], running.binary)
            np.testing.assert_allclose(found, wanted, atol=1e-5, err_msg=f"{name} answers with another image")
            asyncio.run(send_all(running.port, requests, np.arange(WARM_UP) / 100, WARM_UP / 100))
            servers[name], outcome["points"][name] = (running, requests), []
        rates = {name: next_rate(points, options) for name, points in outcome["points"].items()}
        windows: dict[str, list[dict[str, Any]]] = {name: [] for name in servers}  # at that rate
        order = list(servers)
        while order := [name for name in order if rates[name] is not None]:
            for name in order:
                rate, tried = float(rates[name] or 0), windows[name]
                times = arrival_times(rate, options.seconds, options.seed + 1000 * round(rate) + len(tried))
                tried.append(measure_window(*servers[name], rate, times, options))
                if tried[-1]["held"] or len(tried) == options.attempts:
                    points = outcome["points"][name]
                    points.append(min(tried, key=lambda one: (not one["held"], one["p99"] or float("inf"))))
                    rates[name], windows[name] = next_rate(points, options), []
            order = order[1:] + order[:1]  # nobody always comes first
        outcome["crowded"] = crowd(servers, options)
    for name, points in outcome["points"].items():
        outcome["held"][name] = max((point["answered"] for point in points if point["held"]), default=0.0)
    for name, other in [*BASELINES.items(), ("batching", "mlserver")]:
        if outcome["held"].get(name) and outcome["held"].get(other):
            outcome["ratios"][f"{name} / {other}"] = outcome["held"][name] / outcome["held"][other]
        if {name, other} <= set(servers):
            rounds = zip(*(outcome["crowded"][each]["rounds"] for each in (name, other)), strict=True)
            ratio = statistics.median(own / others for own, others in rounds)
            outcome["ratios"][f"{name} / {other}, crowded, by processor time"] = ratio
    return outcome


def crowd(servers: Mapping[str, tuple[Running, list[bytes]]], options: Options) -> dict[str, dict[str, Any]]:
    """Requests answered a processor second of the server when many come at once; contenders take turns.

    This depends on other programs far less than latencies do, and batches are as large as they become.
    """
    found: dict[str, dict[str, Any]] = {name: {"rounds": [], "rows_a_run": None} for name in servers}
    order = list(servers)
    for _ in range(options.rounds):
        for name in order:
            running, requests = servers[name]
            with metered(running) as spent:
                sent = asyncio.run(send_all(running.port, requests, np.zeros(CROWD), CROWD_SECONDS))
            if sent.failed:
                raise RuntimeError(f"{name}: {sent.failed} of {CROWD} requests that came at once were not answered")
            found[name]["rounds"].append(CROWD / spent.processor)
            found[name]["rows_a_run"] = spent.rows_a_run
        order = order[1:] + order[:1]
    return found


def measure_overhead(model: str, options: Options) -> dict[str, Any]:
    """What the server takes for a request of one row beyond the session's run, in milliseconds, and bytes an image.

    By processor time: the server's, less that of as many runs of a session alone. By the clock: from the first byte of
    a request to the answer's, less the run, by the server's own metrics. Each is the smallest of the rounds.
    """
    card = read_card(options.exported / model)
    ability = default_ability(card)
    latents = draw_latents(card, options.seed)
    session = Session(
        options.exported / model / str(ability.file), providers=[CPU], threads=options.threads, spinning=False
    )
    forms: dict[str, dict[str, float]] = {"JSON": {}, "binary": {}}
    own: list[float] = []
    with tempfile.TemporaryDirectory() as folder, run_zoo(options, model, Path(folder)) as running:
        turns: dict[str, list[tuple[float, float]]] = {form: [] for form in forms}
        for _ in range(options.rounds):
            began = time.process_time()
            for number in range(ALONE):
                session.run({ability.inputs[0].name: latents[number % REQUESTS]})
            own.append((time.process_time() - began) / ALONE)
            for form, measured in turns.items():
                requests = [infer_request(model, ability.inputs[0].name, each, form == "binary") for each in latents]
                ask_in_turn(running.port, requests[:WARM_UP])
                alone = [requests[number % REQUESTS] for number in range(ALONE)]
                with metered(running) as spent:
                    forms[form]["bytes"] = statistics.mean(map(len, ask_in_turn(running.port, alone)))
                request, run = (spent.metrics[f"serving_{name}_seconds_sum"] for name in ("request", "execution"))
                measured.append((spent.processor / ALONE, (request - run) / ALONE))
        for form, measured in turns.items():
            forms[form]["processor_milliseconds"] = 1000 * (min(busy for busy, _ in measured) - min(own))
            forms[form]["clock_milliseconds"] = 1000 * min(clock for _, clock in measured)
        path = f"/v1/models/{model}:sample"
        files = [encode_request(path, json.dumps({"seed": seed}).encode(), Accept="image/png") for seed in range(16)]
        forms["PNG"] = {"bytes": statistics.mean(map(len, ask_in_turn(running.port, files)))}
    return {"run_milliseconds": 1000 * min(own), "forms": forms}


def report(results: Mapping[str, Mapping[str, Any]], options: Options) -> None:
    """Print tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 110)
    headings = (
        "rate",
        "held",
        "answered/s",
        "p50 ms",
        "p99 ms",
        "failed",
        "rows a run",
        "cores",
        "/CPU s",
        "own cores",
    )
    for model, result in results.items():
        table = Table("contender", title=f"{model}; held: p99 within {1000 * options.limit:g} ms")
        for heading in headings:
            table.add_column(heading, justify="right")
        for name, points in result["points"].items():
            for point in sorted(points, key=lambda point: point["rate"]):
                times = [f"{1000 * value:.1f}" if (value := point[key]) is not None else "-" for key in ("p50", "p99")]
                rows = f"{point['rows_a_run']:.2f}" if point["rows_a_run"] else "-"
                table.add_row(
                    name,
                    *(f"{point['rate']:.0f}", "yes" if point["held"] else "no"),
                    *(f"{point['answered']:.0f}", *times, str(point["failed"]), rows),
                    f"{point['server_cores']:.2f}",
                    f"{point['answered_per_processor_second'] or float('nan'):.0f}",
                    f"{point['generator_cores']:.2f}",
                )
        console.print(table)
        for name, rate in result["held"].items():
            console.print(f"{name} held {rate:.0f} requests/s", markup=False)
        for name, crowded in result["crowded"].items():
            rows = f", {crowded['rows_a_run']:.1f} rows a run" if crowded["rows_a_run"] else ""
            rate = statistics.median(crowded["rounds"])
            console.print(f"{name}, crowded: {rate:.0f} requests a CPU s of the server{rows}", markup=False)
        for name, ratio in result["ratios"].items():
            console.print(f"{name}: {ratio:.2f}", markup=False)
        for name, reason in result["not_run"].items():
            console.print(f"not run: {name}: {reason}", markup=False)
        overhead = result["overhead"]
        console.print(f"a run of one row takes {overhead['run_milliseconds']:.2f} CPU ms; beyond it", markup=False)
        for form, found in overhead["forms"].items():
            times = [f"{found[key]:.2f} ms by the {by}" for by in CLOCKS if (key := f"{by}_milliseconds") in found]
            console.print("  " + ", ".join([f"{form}: {found['bytes']:.0f} bytes an image", *times]), markup=False)


def draw(results: Mapping[str, Mapping[str, Any]], options: Options, figure: Path) -> None:
    """The 99th percentile over the requests answered a second, a plot for each model."""
    from matplotlib.figure import Figure  # without pyplot: it needs no display

    page = Figure(figsize=(5 * len(results), 4), layout="constrained")
    plots = page.subplots(1, len(results), squeeze=False, sharey=True)[0]
    for axes, (model, result) in zip(plots, results.items(), strict=True):
        for name, points in result["points"].items():
            shown = sorted((p["rate"], p["answered"], 1000 * p["p99"]) for p in points if p["p99"] is not None)
            style = "--" if name.startswith("binary") else "-"
            color = f"C{list(CONTENDERS).index(name) % 3}"  # of one kind, JSON and binary have the same
            _, answered, latencies = zip(*shown, strict=True) if shown else ((), (), ())
            axes.plot(answered, latencies, style, marker=".", color=color, label=name)
        axes.axhline(1000 * options.limit, color="gray", linewidth=0.8, linestyle=":")
        axes.set(xscale="log", yscale="log", title=model, xlabel="requests answered a second")
        axes.spines[["top", "right"]].set_visible(False)
    plots[0].set_ylabel("99th percentile of the latency, ms")
    plots[0].legend(frameon=False, fontsize=8)
    figure.parent.mkdir(parents=True, exist_ok=True)
    page.savefig(figure, dpi=150)


def main(arguments: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, args=arguments, description=__doc__)
    options = dataclasses.replace(options, exported=options.exported.resolve())
    machine = harness.machine()
    results = {
        model: {**sweep(model, options), "overhead": measure_overhead(model, options)} for model in options.models
    }
    if options.json:
        print(json.dumps({"options": asdict(options), "machine": machine, "results": results}, default=str))
    else:
        report(results, options)
        about = machine | machine["versions"] | {"threads": options.threads}
        print(", ".join(f"{name} {value}" for name, value in about.items() if name != "versions"))
    if options.figure:
        draw(results, options, options.figure)


if __name__ == "__main__":
    main()
