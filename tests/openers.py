"""The openers of the project, each with the files that it opens and what it may raise; run as a process of its own.

`python openers.py SCRATCH` writes what they open below SCRATCH/original, a folder an opener, by a tiny training run.
Then it takes lines `[opener, folder]` and answers with one line each: what the opener made of that folder. A process of
its own because a damaged file may kill it or take memory without end: the reader of its answers must survive that.
"""

import dataclasses
import hashlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import tensorflow as tf
from PIL import Image
from rich.console import Console

from recipes import dcgan_fashion_mnist
from serving.card import Card, CardError, encode_card, read_card
from serving.pipeline import Pipeline
from serving.session import CPU, ModelFileError, Session
from zoo import load_pretrained
from zoo.core.weights import WeightsError, read_weights
from zoo.data import store
from zoo.data.images import to_float32
from zoo.data.load import load_images
from zoo.evaluation.generated import GeneratedEvaluation
from zoo.training import claim
from zoo.training.checkpoints import Checkpoints
from zoo.training.log import append_row, drop_rows_after, read_log
from zoo.training.precision import read_precision
from zoo.training.resume import recall_recipe
from zoo.training.run import build_and_compile
from zoo.training.run_directory import RunError, check_same_run, choose_directory
from zoo.training.train import train as train_recipe

GIGABYTE = 2**30
MEMORY = GIGABYTE // 2  # that an opener may take beyond what it has taken for the whole file
HARD_LIMIT = 6 * GIGABYTE  # where allocation fails, so that the machine survives
SECONDS = 30  # of a processor, for files of a megabyte
LINE = 10_000  # characters of a message
RUN = "run"  # the folder of the training run


@dataclasses.dataclass(frozen=True)
class Opener:
    """One way into the project.

    Args:
        open: opens the files of a folder.
        errors: what it says that it raises.
        sources: path in SCRATCH -> path in the folder.
            lines: of a message, at most.
        memory: bytes that it may take.
        rehash: whether the card gets the hashes of the damaged files first, as an attacker's own card has them.
    """

    open: Callable[[Path], Any]
    errors: tuple[type[Exception], ...]
    sources: dict[str, str]
    lines: int = 1
    memory: int = MEMORY
    rehash: bool = False


# What is opened


def write_originals(scratch: Path) -> None:
    """Everything that an opener opens, whole."""
    train(scratch / RUN)
    write_images(scratch / "images")
    ended = subprocess.Popen(["true"])
    ended.wait()
    claim = {
        "host": socket.gethostname(),
        "pid": ended.pid,
        "since": "2026-01-01T00:00:00",
        "machine": "",
        "started": "",
    }
    (scratch / RUN / "claim-1.json").write_text(json.dumps(claim))
    for name, opener in OPENERS.items():
        (scratch / "original" / name).mkdir(parents=True)
        for source, target in opener.sources.items():
            path = scratch / "original" / name / target
            if (scratch / source).is_dir():
                shutil.copytree(scratch / source, path, dirs_exist_ok=True)
            else:
                shutil.copy(scratch / source, path)


def make_recipe() -> Any:
    return dataclasses.replace(
        dcgan_fashion_mnist.recipe, data="embedded", smoke=True, steps=2, batch_size=16, log_every=1, checkpoint_every=1
    )


def train(directory: Path) -> None:
    train_recipe(dataclasses.replace(make_recipe(), run_dir=directory), Console(quiet=True))


def write_images(folder: Path) -> None:
    """One of each format and of the odd kinds; a zip; a decoded set on disk; what evaluation keeps."""
    folder.mkdir()
    values = np.random.Generator(np.random.Philox(0)).integers(0, 256, (24, 20, 4), np.uint8)
    color, gray = Image.fromarray(values[..., :3]), Image.fromarray(values[..., 0])
    (folder / "files" / "a").mkdir(parents=True)
    files = folder / "files" / "a"
    Image.fromarray(values).save(files / "alpha.png")
    Image.fromarray(values[..., 0].astype(np.uint16) * 257).save(files / "deep.png")
    color.quantize(16).save(files / "palette.gif", save_all=True, append_images=[gray])
    color.quantize(16).save(files / "palette.bmp")
    exif = Image.Exif()
    exif[274] = 6
    color.save(files / "turned.jpg", exif=exif)
    color.save(files / "progressive.jpg", progressive=True)
    color.save(files / "lossy.webp")
    color.save(files / "lossless.webp", lossless=True)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        color.save(files / f"{compression}.tiff", compression=compression)
    Image.fromarray(values[..., 0].astype(np.uint16) * 257).save(files / "deep.tif")
    color.save(files / "whole.avif")
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for name in ("alpha.png", "turned.jpg", "palette.gif"):
            archive.write(files / name, f"train/a/{name}")
        archive.write(files / "deep.tif", "test/b/deep.tif")
    (folder / "kept" / "source" / "a").mkdir(parents=True)
    for name in ("turned.jpg", "lossy.webp"):
        shutil.copy2(files / name, folder / "kept" / "source" / "a" / name)


# How it is opened


def open_session(folder: Path) -> Session:
    return Session(folder / "generate.onnx", providers=[CPU], threads=1)


def open_pretrained(format: str) -> Callable[[Path], Any]:
    def open(folder: Path) -> Any:
        return load_pretrained(folder, format)

    return open


def open_weights(folder: Path) -> None:
    read_weights(folder / "model.weights.h5", make_model().exported_weights())


@cache
def make_model() -> Any:
    """As the training run has made and compiled it."""
    recipe = make_recipe()
    return build_and_compile(
        dataclasses.replace(recipe, precision="float32"), recipe.to_preset(), tf.distribute.get_strategy()
    )


def open_images(source: str) -> Callable[[Path], Any]:
    def open(folder: Path) -> Any:
        return load_images(str(folder / source), split="all", image_size=16, channels=3)

    return open


def open_kept_images(folder: Path) -> None:
    """A set that is kept on disk: where that is damaged, it is decoded again. The source itself may be damaged, too."""
    limit, store.MEMORY_LIMIT = store.MEMORY_LIMIT, 0
    try:
        options = {"split": "all", "image_size": 16, "channels": 3, "skip_broken": True}
        found = load_images(str(folder / "source"), cache=folder / "cache", **options)
    finally:
        store.MEMORY_LIMIT = limit
    whole = load_images(str(folder / "source"), **options)
    assert found.images.shape == whole.images.shape
    assert found.images.dtype == whole.images.dtype
    assert np.array_equal(found.labels, whole.labels)
    assert (found.broken, found.fingerprint) == (whole.broken, whole.fingerprint)


def open_recipe(folder: Path) -> None:
    recipe = dataclasses.replace(make_recipe(), run_dir=folder, resume=True)
    recalled = recall_recipe(recipe, choose_directory(recipe))
    recalled.to_preset()
    read_precision(folder, 0)
    check_same_run(folder / "config.json", read_whole_config(folder.parent / RUN / "config.json"))


@cache
def read_whole_config(path: Path) -> dict[str, Any]:
    return {name: value for name, value in json.loads(path.read_text()).items() if name != "options"}


def open_log(folder: Path) -> None:
    read_log(folder / "log.csv")
    drop_rows_after(folder / "log.csv", 1)
    read_log(folder / "log.csv")
    append_row(folder / "log.csv", {"step": "2", "more": "3"})


def open_checkpoints(folder: Path) -> None:
    checkpoints = Checkpoints(make_model(), folder, keep=3)
    checkpoints.read_facts(2)
    checkpoints.restore(require_line)


def open_kept_scores(folder: Path) -> None:
    """What evaluation keeps: damaged, it is computed again."""
    os.environ["ZOO_HOME"] = str(folder / "cache")
    images = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4, 1)
    real = SimpleNamespace(fingerprint="real", images=images)
    evaluation = SimpleNamespace(
        reference=SimpleNamespace(real=real, train=real, preprocessing=""),
        count=2,
        seeds=(0,),
        compared=[],
        cache_key="key",
        report_progress=require_line,
        score_baselines=lambda images: {"training": {"mean": float(images.mean())}, "noise": {"mean": float("nan")}},
    )
    extractor: Any = lambda images: (images.reshape(2, -1), images[..., 0, 0])  # noqa: E731
    extractor.name = "pixels"
    baselines = GeneratedEvaluation.cached_baselines(evaluation)
    features, probabilities = GeneratedEvaluation.cached_features(evaluation, extractor, images)
    assert repr(baselines) == "{'training': {'mean': 15.5}, 'noise': {'mean': nan}}"
    assert (features == to_float32(images).reshape(2, -1)).all()
    assert (probabilities == features[:, ::4]).all()


def require_line(text: str) -> None:
    assert text.isprintable(), text


def open_claims(folder: Path) -> None:
    claim.STALE = claim.POLLING = 0.01
    with claim.Claim(folder, require_line):
        pass
    leftover = sorted(path.name for path in folder.iterdir())
    assert not [name for name in leftover if not name.endswith(".json")], leftover


CARD = "run/export/card.json"
SAVED = "run/export/saved_model/1"
OPENERS = {
    "card": Opener(read_card, (CardError,), {CARD: "card.json"}),
    "graph": Opener(open_session, (ModelFileError,), {"run/export/generate.onnx": "generate.onnx"}),
    "pipeline": Opener(
        Pipeline.from_directory,
        (CardError, ModelFileError),
        {CARD: "card.json", "run/export/generate.onnx": "generate.onnx"},
        rehash=True,
    ),
    "weights": Opener(open_weights, (WeightsError,), {"run/export/model.weights.h5": "model.weights.h5"}),
    "keras": Opener(
        open_pretrained("keras"),
        (CardError,),
        {CARD: "card.json", "run/export/model.weights.h5": "model.weights.h5"},
        rehash=True,
    ),
    "saved_model": Opener(
        open_pretrained("saved_model"),
        (CardError,),
        {CARD: "card.json", SAVED: "saved_model/1"},
        rehash=True,
    ),
    "images": Opener(
        open_images("files"), (ValueError, RuntimeError), {"images/files": "files"}, lines=20, memory=3 * GIGABYTE // 2
    ),
    "zip": Opener(
        open_images("images.zip"),
        (ValueError, RuntimeError),
        {"images/images.zip": "images.zip"},
        lines=20,
        memory=3 * GIGABYTE // 2,
    ),
    "kept_images": Opener(open_kept_images, (ValueError, RuntimeError), {"images/kept/source": "source"}, lines=20),
    "kept_scores": Opener(open_kept_scores, (), {}),
    "recipe": Opener(open_recipe, (RunError, CardError), {"run/config.json": "config.json"}),
    "log": Opener(open_log, (RunError,), {"run/log.csv": "log.csv"}),
    "checkpoints": Opener(open_checkpoints, (RunError,), {"run/checkpoints": "."}),
    "claims": Opener(open_claims, (RunError,), {"run/claim-1.json": "claim-1.json"}),
}


# One attempt


def rehash(folder: Path) -> bool:
    """Give the card the hashes of the files as they are; whether it is a card at all."""
    try:
        card = json.loads((folder / "card.json").read_bytes())
        card["files"] = {
            name: {
                "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
                "size": (folder / name).stat().st_size,
            }
            for name in card["files"]
            if (folder / name).is_file()
        }
        for ability in card["abilities"].values():
            if ability["file"] not in card["files"]:
                ability["file"] = None
        found = msgspec.convert({**card, "checked": ""}, Card, strict=True)
        (folder / "card.json").write_bytes(encode_card(found))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OSError):
        return False
    return True


def read_memory(field: str) -> int:
    """Bytes of this process: VmSize is what it has, VmPeak what it has had at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")))


def attempt(opener: Opener, folder: Path) -> str:
    """ "opened", "refused", or what was wrong."""
    if opener.rehash and not rehash(folder):
        return "refused"
    before, began = max(read_memory("VmSize"), read_memory("VmPeak") - opener.memory), time.process_time()
    outcome, message = "opened", ""
    try:
        opener.open(folder)
    except opener.errors as error:
        outcome, message = "refused", str(error)
    except Exception as error:
        import traceback

        return (
            f"{type(error).__module__}.{type(error).__name__} is none of its errors\n{traceback.format_exc()[-4000:]}"
        )
    taken, seconds = read_memory("VmPeak") - before, time.process_time() - began
    lines = message.split("\n")
    wrong = {
        f"{len(lines)} lines": len(lines) > opener.lines,
        "a sign that is not printable": not all(line.isprintable() for line in lines),
        f"{len(message)} characters": len(message) > LINE,
        f"{folder} is not named": outcome == "refused" and str(folder) not in message,
        f"it took {taken / 1e6:.0f} MB": taken > opener.memory,
        f"it took {seconds:.0f} s of a processor": seconds > SECONDS,
        f"it opened {OPENED_OUTSIDE}": bool(OPENED_OUTSIDE),
    }
    faults = [what for what, is_so in wrong.items() if is_so]
    return f"{', '.join(faults)}: {message[:3000]!r}" if faults else outcome


OPENED_OUTSIDE: list[str] = []


def watch(scratch: Path) -> None:
    """Note every file below SCRATCH that Python opens outside of the example."""

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 (the hook of all of them)
            if path.startswith(f"{scratch}/") and not f"{path}/".startswith(f"{scratch}/example/"):
                OPENED_OUTSIDE.append(path)

    sys.addaudithook(look)


def main() -> None:
    scratch = Path(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes elsewhere
    if not (scratch / "original").exists():
        write_originals(scratch)
    for name, opener in OPENERS.items():
        shutil.rmtree(scratch / "example", ignore_errors=True)
        shutil.copytree(scratch / "original" / name, scratch / "example")
        found = attempt(opener, scratch / "example")  # whole: what is loaded once is loaded
        assert found == "opened", f"{name}: {found}"
        if (scratch / "example" / "cache").exists():
            shutil.copytree(scratch / "example" / "cache", scratch / "original" / name / "cache", dirs_exist_ok=True)
    limit = read_memory("VmSize") + HARD_LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    watch(scratch)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        name, folder = json.loads(line)
        OPENED_OUTSIDE.clear()
        print(json.dumps(attempt(OPENERS[name], Path(folder))), file=answers, flush=True)


if __name__ == "__main__":
    main()
