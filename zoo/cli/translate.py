"""`zoo translate` and `zoo upscale`: image files and folders in, PNG files out."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from zoo.command_line import require_writable

if TYPE_CHECKING:
    from serving.translation import Task

Name = Annotated[str, tyro.conf.Positional]
Paths = Annotated[tuple[Path, ...], tyro.conf.Positional]
Format = Literal["onnx", "keras"]
TILE = 512
LISTED = 3  # files that a message names


def translate(
    name: Name,
    images: Paths,
    *,
    out: Path,
    direction: Literal["a_to_b", "b_to_a"] | None = None,
    tile: int | None = TILE,
    overwrite: bool = False,
    format: Format = "onnx",
) -> None:
    """Translate images of one collection to another, such as photographs to paintings; of any size, to PNG.

    Args:
        name: a preset, or the path of a run or an exported directory.
        images: files, and folders with all that is in them.
        out: the directory to write to; what comes from a folder keeps its path within it.
        direction: the model's first when not given.
        tile: larger images than this squared are cut into tiles that overlap; None never cuts.
        overwrite: replace files that exist already.
        format: what runs it.
    """
    convert_files("translate", name, images, out, direction, tile, overwrite, format)


def upscale(
    name: Name,
    images: Paths,
    *,
    out: Path,
    tile: int | None = TILE,
    overwrite: bool = False,
    format: Format = "onnx",
) -> None:
    """Enlarge images of any size, to PNG.

    Args:
        name: a preset, or the path of a run or an exported directory.
        images: files, and folders with all that is in them.
        out: the directory to write to; what comes from a folder keeps its path within it.
        tile: larger images than this squared are cut into tiles that overlap; None never cuts.
        overwrite: replace files that exist already.
        format: what runs it.
    """
    convert_files("upscale", name, images, out, None, tile, overwrite, format)


@dataclass(frozen=True)
class Job:
    """A file to read, and one to write."""

    source: Path
    target: Path


def convert_files(
    task: "Task",
    name: str,
    images: Sequence[Path],
    out: Path,
    direction: str | None,
    tile: int | None,
    overwrite: bool,
    format: Format,
) -> None:
    """What both commands do.

    Raises:
        ValueError: an option can't be met, which is found before anything is opened; or no file can be read.
    """
    from serving.card import to_line

    if tile is not None and tile < 1:
        raise ValueError(f"--tile {tile}: give the side of a tile in pixels, from 1, or None for whole images.")
    out = out.expanduser()
    require_writable("--out", out)
    jobs = plan_jobs(images, out)
    existing = [str(job.target) for job in jobs if job.target.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - LISTED} more" if len(existing) > LISTED else ""
        raise ValueError(
            f"--out {out}: {', '.join(existing[:LISTED])}{more} exist already: choose another name, or give "
            "--overwrite to replace them."
        )
    written = run_jobs(jobs, open_model(task, name, direction, format), tile)
    if not written:
        raise ValueError(f"none of {len(jobs)} files could be read: {out} is as it was.")
    skipped = f", {len(jobs) - written} skipped" if written < len(jobs) else ""
    print(to_line(f"{out}: {written} of {len(jobs)} images{skipped}"))


def plan_jobs(images: Sequence[Path], out: Path) -> list[Job]:
    """The image files that are named, or lie in folders that are, and what each becomes.

    Two that differ in their endings alone keep these before the new one: a.jpg.png and a.gif.png.

    Raises:
        ValueError: there is no such file or folder, no image in it, or two files would become one.
    """
    from zoo.data.folders import SUFFIXES, is_image, open_files

    sources: dict[Path, PurePosixPath] = {}
    for path in (each.expanduser() for each in images):
        if path.is_file():
            sources.setdefault(path, PurePosixPath(path.name))
        elif path.is_dir():
            # What an earlier run has written into a folder of the images is none of them.
            found = {path / each: PurePosixPath(each) for each in sorted(open_files(path).sizes) if is_image(each)}
            if out.resolve() != path.resolve():
                found = {each: within for each, within in found.items() if not is_within(each, out)}
            if not found:
                raise ValueError(f"{path}: no images in it: looked for the endings {', '.join(SUFFIXES)}.")
            sources |= {each: within for each, within in found.items() if each not in sources}
        else:
            raise ValueError(f"{path}: there is no such file or folder.")
    if not sources:
        raise ValueError("no images: name files or folders behind the model.")
    shared = Counter(within.with_suffix("") for within in set(sources.values()))
    jobs = [
        Job(path, out / (f"{within}.png" if shared[within.with_suffix("")] > 1 else within.with_suffix(".png")))
        for path, within in sources.items()
    ]
    targets: dict[Path, Path] = {}
    for job in jobs:
        if (other := targets.setdefault(job.target, job.source)) != job.source:
            raise ValueError(
                f"{other} and {job.source} would both become {job.target}: give the folder above them, or one at a "
                "time with an --out of its own."
            )
    return jobs


def is_within(path: Path, folder: Path) -> bool:
    """Whether a file lies in a folder or below it."""
    return path.resolve().is_relative_to(folder.resolve())


def open_model(task: "Task", name: str, direction: str | None, format: Format) -> Callable[..., Any]:
    """(image, tile=..., progress=...) -> image.

    Raises:
        ValueError: the model can't do it, or not in this direction.
        CardError: there is no such model, or its files are damaged.
    """
    from serving.card import read_card
    from serving.pipeline import Pipeline
    from serving.translation import find_abilities
    from zoo.pretrained import find_directory, list_models, load_pretrained

    directory = find_directory(name)
    card = read_card(directory)
    able = find_abilities(card.abilities, task)
    if not able:
        cards = [read_card(find_directory(other)) for other in list_models(pretrained=True)]
        others = [other.name for other in cards if find_abilities(other.abilities, task)]
        advice = f"choose {' or '.join(others)}" if others else "`zoo list` shows what can be trained"
        raise ValueError(f"{card.name} can't {task}: it can {', '.join(sorted(card.abilities))}; {advice}.")
    chosen = f"translate_{direction}" if direction else able[0]
    if chosen not in able:
        there = " or ".join(each.removeprefix("translate_") for each in able)
        raise ValueError(f"--direction {direction}: {card.name} translates {there} alone.")
    if format == "keras":
        model = load_pretrained(directory)
        return model.upscale if task == "upscale" else keep_direction(model.translate, chosen)
    pipeline = Pipeline.from_directory(directory, ability=chosen)
    return pipeline.upscale if task == "upscale" else pipeline.translate


def keep_direction(act: Callable[..., Any], ability: str) -> Callable[..., Any]:
    """A Keras model's `translate` by one of its abilities."""
    return lambda image, **options: act(image, ability.removeprefix("translate_"), **options)


def run_jobs(jobs: Sequence[Job], act: Callable[..., Any], tile: int | None) -> int:
    """Read, convert and write each file; one line on standard error for each that can't be read.

    Returns:
        How many were written.
    """
    from rich.console import Console
    from rich.progress import Progress

    from serving.card import to_line
    from serving.session import InputError
    from zoo.data.folders import read_file
    from zoo.data.images import open_image
    from zoo.data.store import explain

    console = Console(stderr=True)
    written = 0
    with Progress(console=console, disable=not sys.stderr.isatty(), transient=True) as bar:
        row = bar.add_task("images", total=len(jobs))

        def skip(job: Job, reason: str) -> None:
            line = to_line(f"{job.source}: skipped: {reason}")
            bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

        for number, job in enumerate(jobs):
            bar.update(row, completed=number)
            try:
                with open_image(read_file(job.source)) as opened:
                    opened.load()
                    image = opened.copy()
            except Exception as error:  # a damaged file raises almost anything
                skip(job, explain(error))
                continue
            try:
                made = act(
                    image,
                    tile=tile,
                    progress=lambda done, total, number=number: bar.update(row, completed=number + done / total),
                )
            except InputError as error:  # numbers without a range
                skip(job, str(error))
                continue
            write_image(made, job.target)
            written += 1
    return written


def write_image(image: Any, path: Path) -> None:
    """A Pillow image as PNG: whole, or not at all.

    Raises:
        OSError: it can't be written; the error's file is `path`.
    """
    temporary = path.with_name(f".{os.getpid()}.partial")  # as long a name as any may have
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(temporary, "PNG")
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None
    finally:
        with suppress(OSError):  # there may be none
            temporary.unlink()
