"""`zoo demo`: sample, train, export and serve once, and a page with all of it to look at."""

import csv
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from serving.card import Card, read_card
from serving.images import save_grid, to_uint8
from zoo.command_line import require_writable
from zoo.extras import require_extra, start_tensorflow
from zoo.pretrained import list_models, load_pretrained
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

PRESET = "cgan-fashion-mnist"
NAME = "demo-cgan-fashion-mnist"  # of the model that the demo trains
SMALLER = {"width": 24, "ema_decay": 0.99}  # a network that two cores train in minutes; averages that follow it sooner
RATE = Adam(4e-4, beta_1=0.5)
ROWS = 6  # images of a class
COMPARED = 8
PIXELS = (-1.0, 1.0)
GRIDS = 6  # of the training, beside its start
LOGGED = 40  # rows of the log, for the chart
CHART = (640, 200)  # width and height of the chart, in SVG units


def run(out: Path, steps: int) -> Path:
    """Do everything, one stage after another, and write `out`/index.html.

    Args:
        out: directory of the page; what an earlier demo left there is replaced.
        steps: train steps.

    Returns:
        The path of the page.

    Raises:
        ValueError: `out` holds something that is no demo, or is no directory that can be written; fewer than 1 step.
        MissingExtraError: the demo trains and serves, and the packages for it are not installed.
        LookupError: this installation has no pretrained preset.
    """
    for extra in ("train", "server"):
        require_extra("zoo demo", extra)
    if steps < 1:
        raise ValueError(f"--steps {steps}: choose at least 1.")
    require_pretrained()
    require_writable("--out", out)
    if out.exists() and any(out.iterdir()) and not (out / "index.html").exists():
        raise ValueError(f"{out} holds files that no demo wrote: choose another --out.")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    console = Console()
    facts: dict[str, Any] = {"preset": PRESET, "steps": steps}
    with stage(console, 1, "sample the pretrained preset with ONNX Runtime", facts):
        card = sample_classes(PRESET, out / "pretrained.png")
        facts |= {"classes": classes_of(card), "preset_steps": card.recipe["steps"]}
    with stage(console, 2, f"train a smaller one from nothing on the embedded images, {steps} steps", facts):
        directory = train(out, steps, console)
        facts["chart"] = chart_scores(directory / "log.csv")
        facts["grids"] = [path.relative_to(out) for path in sorted((directory / "samples").glob("*.png"))]
        sample_classes(str(directory / "export"), out / "trained.png")
    with stage(console, 3, "compare Keras, SavedModel and ONNX", facts):
        facts["differences"] = compare(directory / "export", out)
        for name, difference in facts["differences"].items():
            console.print(f"   {name} differs from Keras by at most {difference:.1e}; pixels run from -1 to 1")
    with stage(console, 4, "serve the new model over HTTP, ask it for images, stop it", facts):
        facts["served"] = serve_and_ask(directory / "export", out)
        console.print(f"   {facts['served']['url']} answered in {facts['served']['milliseconds']:.0f} ms")
    page = out / "index.html"
    with stage(console, 5, f"write {page}", facts):
        page.write_text(render(facts), encoding="utf-8")
    console.print(f"\n[bold green]done:[/bold green] open {page.resolve()}", soft_wrap=True, highlight=False)
    return page


@contextmanager
def stage(console: Console, number: int, title: str, facts: dict[str, Any]) -> Iterator[None]:
    """Announce a stage and keep how long it took."""
    console.print(f"[bold cyan]{number}/5[/bold cyan] {title}", highlight=False)
    began = time.monotonic()
    yield
    facts.setdefault("seconds", {})[number] = time.monotonic() - began


def require_pretrained() -> None:
    """Refuse an installation without the preset that is sampled.

    Raises:
        LookupError: this is one.
    """
    if PRESET not in list_models(pretrained=True):
        raise LookupError(f"this installation comes without the weights of {PRESET}.")


def sample_classes(name: str, file: Path) -> Card:
    """A grid with a column for each class, through ONNX Runtime; returns the model's card.

    Args:
        name: a preset, or the path of an exported directory.
        file: of the grid.
    """
    pipeline = load_pretrained(name, format="onnx")
    classes = len(classes_of(pipeline.card))
    images = pipeline.sample(ROWS * classes, seed=0, labels=list(range(classes)) * ROWS)
    save_grid(images, file, columns=classes)
    return pipeline.card


def classes_of(card: Card) -> Sequence[str]:
    """Names of the classes that the default ability takes, by number."""
    return next(spec.classes for spec in card.abilities[card.default_ability].inputs if spec.feed == "label")


def train(out: Path, steps: int, console: Console) -> Path:
    """Train a small twin of the preset on the embedded images; returns the run directory."""
    start_tensorflow()
    from zoo.training.train import train as train_recipe

    recipe = Recipe(
        preset=PRESET,
        data="embedded",
        fit="pad",
        steps=steps,
        model=SMALLER,
        optimizers={"generator": RATE, "discriminator": RATE},
        run_dir=out / "run",
        name=NAME,
        log_every=max(steps // LOGGED, 1),
        sample_every=max(steps // GRIDS, 1),
    )
    directory = train_recipe(recipe, console)
    assert directory is not None  # only a dry run has none
    return directory


def compare(directory: Path, out: Path) -> dict[str, float]:
    """The same latents through all three formats: an image of the rows, and the largest difference from Keras."""
    labels = [number % len(classes_of(read_card(directory))) for number in range(COMPARED)]
    drawn = {
        name: np.asarray(
            load_pretrained(str(directory), format=name).sample(COMPARED, seed=1, labels=labels, output_type="float32")
        )
        for name in ("keras", "saved_model", "onnx")
    }
    save_grid(to_uint8(np.concatenate(list(drawn.values())), PIXELS), out / "formats.png", columns=COMPARED)
    titles = {"saved_model": "SavedModel", "onnx": "ONNX"}
    return {title: float(np.abs(drawn[name] - drawn["keras"]).max()) for name, title in titles.items()}


def serve_and_ask(directory: Path, out: Path) -> dict[str, Any]:
    """Start the server on a free port, ask for images of a seed, stop it."""
    models = out / "models"
    shutil.copytree(directory, models / NAME)
    command = [sys.executable, "-m", "serving", "--models", str(models), "--port", "0"]
    label = classes_of(read_card(directory))[0]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None  # it is piped
        line = server.stdout.readline()
        if not line:
            raise RuntimeError("the server did not start; its own message is above.")
        url = f"{line.split()[2].rstrip(':')}/v2/models/{NAME}/infer"
        body = {"parameters": {"count": COMPARED, "seed": 2, "labels": label}}
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        began = time.monotonic()
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)["outputs"][0]
        milliseconds = 1000 * (time.monotonic() - began)
    finally:
        server.terminate()
        server.wait(timeout=60)
    images = np.asarray(answer["data"], np.float32).reshape(answer["shape"])
    save_grid(to_uint8(images, PIXELS), out / "served.png", columns=COMPARED)
    return {"url": url, "body": json.dumps(body), "milliseconds": milliseconds, "image": "served.png"}


def chart_scores(log: Path) -> dict[str, Any]:
    """log.csv as SVG polylines of the share of images, real and generated, that the discriminator gets right."""
    with log.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    width, height = CHART
    last = float(rows[-1]["step"])
    points = [
        f"{width * float(row['step']) / last:.1f},{height * (1 - float(row['discriminator_accuracy'])):.1f}"
        for row in rows
    ]
    return {"width": width, "height": height, "points": " ".join(points)}


def render(facts: dict[str, Any]) -> str:
    """The page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("zoo.cli"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template("demo.html").render(facts)
