"""The command `zoo`.

list | describe | sample | latents | translate | upscale | train | sweep | evaluate | export | serve | demo | doctor
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import tyro

from serving.card import Card
from zoo.cli.recipes import find_recipe
from zoo.cli.translate import translate, upscale
from zoo.command_line import FAILED, ending_in_one_line, parse_labels, require_file, require_writable
from zoo.presets.preset import Preset
from zoo.presets.table import PRESETS

Name = Annotated[str, tyro.conf.Positional]


def list_(*, json: bool = False, family: str | None = None, pretrained: bool = False) -> None:
    """List the presets.

    Args:
        json: print JSON, one record a preset.
        family: only this family, such as DCGAN.
        pretrained: only those that come with weights.
    """
    from zoo.pretrained import list_models, shipped_directory

    families = sorted({preset.family for preset in PRESETS.values()})
    if family is not None and family.lower() not in map(str.lower, families):
        raise ValueError(f"--family {family}: choose from {', '.join(families)}.")
    names = list_models(family=family, pretrained=True if pretrained else None)
    records: list[dict[str, Any]] = [
        {
            "name": name,
            "family": PRESETS[name].family,
            "pretrained": shipped_directory(name) is not None,
            "summary": PRESETS[name].summary,
        }
        for name in names
    ]
    if json:
        print_json(records)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("preset", no_wrap=True, min_width=max((len(record["name"]) for record in records), default=0))
    table.add_column("weights")
    table.add_column("what it is", overflow="fold")
    for record in records:
        table.add_row(record["name"], "yes" if record["pretrained"] else "train", record["summary"])
    Console().print(table)


def describe(name: Name, *, json: bool = False) -> None:
    """Say what a model is: paper, data, inputs and outputs, scores.

    Args:
        name: a preset, or the path of a run or an exported directory.
        json: print JSON.
    """
    from zoo.pretrained import describe as describe_model

    record = describe_model(name)
    if json or not record["pretrained"]:
        print_json(record)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    from serving.card import read_card
    from zoo.export.model_card import make_readme

    path = None if name in PRESETS else record["directory"]
    Console().print(Markdown(make_readme(read_card(record["directory"]), path)))


def sample(
    name: Name,
    *,
    count: int = 16,
    seed: int = 0,
    out: Path = Path("samples.png"),
    labels: tuple[str, ...] = (),
    truncation: float | None = None,
    format: Literal["onnx", "keras", "saved_model"] = "onnx",
) -> None:
    """Draw images from a pretrained preset; through ONNX Runtime, without TensorFlow, unless --format says otherwise.

    Args:
        name: a preset, or the path of a run or an exported directory.
        count: how many.
        seed: image i of a seed is always the same.
        out: .png for one grid, .npy for the array (count, height, width, channels) uint8.
        labels: for a preset that takes them: one class, by name or number, or one for each image.
        truncation: for a style-based preset: 1 for all its variety, less for more typical images.
        format: what runs it.
    """
    import numpy as np

    from serving.images import save_grid
    from serving.sampling.noise import to_uint64
    from zoo.pretrained import load_pretrained

    if count < 1:
        raise ValueError(f"--count {count}: choose at least 1.")
    if out.suffix not in (".png", ".npy"):
        raise ValueError(f"--out {out}: choose a name that ends in .png (one grid) or .npy (an array).")
    require_file("--out", out)
    to_uint64("seed", seed)
    given = {"labels": parse_labels(labels), "truncation": truncation}
    choices: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    images = load_pretrained(name, format=format).sample(count, seed, **choices)
    if out.suffix == ".npy":
        np.save(out, images)
    else:
        save_grid(images, out)
    print(out)


def export(
    name: Name,
    *,
    out: Path,
    format: tuple[Literal["onnx", "saved_model"], ...] = ("onnx", "saved_model"),
    weights: Literal["float16", "float32"] = "float16",
    call: Annotated[str | None, tyro.conf.arg(name="name")] = None,
    data_license: str | None = None,
) -> None:
    """Write a model's weights as ONNX, SavedModel or both, checked against Keras.

    Args:
        name: a preset, or the path of a run or an exported directory.
        out: the directory to write; it must not exist yet.
        format: which formats.
        weights: how ONNX graphs store them: float16 takes half the room; float32, the same values, is what quantizers
            and float16 converters work on.
        call: what the written model is called, on its card and by a server; by default as it was.
        data_license: license of the training images, for the card; by default as it was.
    """
    from serving.card import read_card
    from zoo.extras import require_extra
    from zoo.pretrained import find_directory, load_pretrained

    if not format:
        raise ValueError("--format: name onnx, saved_model or both.")
    out = out.expanduser()
    if out.exists():
        raise ValueError(f"--out {out} exists already: choose another name.")
    require_writable("--out", out)
    directory = find_directory(name)
    card = read_card(directory)
    preset = describe_renamed(card, call)
    require_extra("zoo export", "train")
    model = load_pretrained(directory)
    from zoo.export.export import LICENSE
    from zoo.export.export import export as export_model

    license = LICENSE if preset.name in PRESETS else card.license
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = {
        file: (directory / file).read_bytes() for file in card.files if file in ("reconstructions.png", "preview.png")
    }
    data = card.data if data_license is None else msgspec.structs.replace(card.data, license=data_license)
    about: dict[str, Any] = {"preset": preset, "data": data, "recipe": card.recipe, "scores": card.scores}
    export_model(model, out, **about, formats=format, weights=weights, license=license, images=kept)
    print(out)


def describe_renamed(card: Card, name: str | None) -> Preset:
    """What a card says of its model, under another name where one is given.

    Raises:
        ValueError: no export of this preset can be called so.
    """
    from zoo.export.model_card import check_name, rename

    own = card.recipe.get("name", card.name)
    preset = Preset(
        name=card.name,
        model=card.model["class"],
        family=card.family,
        paper=card.paper,
        summary=card.summary,
        arguments=card.model["arguments"],
    )
    if name is None:
        return preset
    check_name(name, own)
    if name == own and name in PRESETS:
        return replace(preset, name=name, summary=PRESETS[name].summary)
    return rename(replace(preset, name=own), name, card.data.name, card.data.count)


def doctor(*, json: bool = False, selftest: bool = False) -> None:
    """Say what is installed, which devices are really used, and what conflicts.

    Args:
        json: print JSON.
        selftest: train, save and export a tiny model on every device, to see that it works here; a minute or two.
    """
    from zoo.cli.doctor import examine, is_healthy, show_report

    report = examine()
    if selftest:
        from rich.console import Console

        from zoo.cli.selftest import run_checks

        report["selftest"] = run_checks(report["tensorflow"], Console(stderr=True))
    if json:
        print_json(report)
    else:
        show_report(report)
    if not is_healthy(report):
        sys.exit(FAILED)


def demo(*, out: Path = Path("demo"), steps: int = 3_000, open: bool = False) -> None:
    """Sample, train, export and serve once, with everything to look at in demo/index.html.

    Args:
        out: directory to write.
        steps: train steps of the small conditional GAN; 3,000 take about two minutes on two cores.
        open: show the page in the browser when done.
    """
    from zoo.cli.demo import run

    page = run(out, steps)
    if open:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def train(arguments: Sequence[str]) -> None:
    """Train a preset's recipe: `zoo train NAME --help` shows its options; the same as `python recipes/NAME.py`."""
    module = find_recipe("train", str(train.__doc__), arguments)
    from zoo.training.main import main as train_main

    train_main(module.recipe, arguments[1:], prog=f"zoo train {arguments[0]}", description=module.__doc__)


def sweep(arguments: Sequence[str]) -> None:
    """Train a recipe at every point of a grid, with several seeds, and compare: `zoo sweep NAME --help`."""
    recipe = find_recipe("sweep", str(sweep.__doc__), arguments).recipe
    try:
        from zoo.training.sweep import main as sweep_main
    except ImportError as error:
        from zoo.extras import MissingExtraError

        raise MissingExtraError("zoo sweep", "train", error) from None
    sweep_main(recipe, arguments[1:], prog=f"zoo sweep {arguments[0]}")


def evaluate(arguments: Sequence[str]) -> None:
    """Score generated images against held-out ones: `zoo evaluate --help` shows its options."""
    try:
        from zoo.cli.evaluate import main as evaluate_main
    except ImportError as error:
        from zoo.extras import MissingExtraError

        raise MissingExtraError("zoo evaluate", "train", error) from None
    evaluate_main(arguments)


def latents(arguments: Sequence[str]) -> None:
    """Interpolate, walk, add, truncate, mix, project ...: `zoo latents NAME --help` lists what, each with --help."""
    from zoo.cli.latents import main as latents_main

    latents_main(arguments)


def serve(arguments: Sequence[str]) -> None:
    """Serve exported models over HTTP: `zoo serve --help` shows its options; the same as `python -m serving`."""
    from serving.__main__ import main as serve_main

    sys.exit(serve_main(list(arguments)))


COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_,
    "describe": describe,
    "sample": sample,
    "latents": latents,
    "translate": translate,
    "upscale": upscale,
    "train": train,
    "sweep": sweep,
    "evaluate": evaluate,
    "export": export,
    "serve": serve,
    "doctor": doctor,
    "demo": demo,
}
FORWARDED = ("latents", "train", "sweep", "evaluate", "serve")  # they read options of their own


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; an error is one line on stderr and exit status 1, Ctrl-C one line and 130."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with ending_in_one_line("zoo", arguments):
        if arguments and arguments[0] in FORWARDED:
            COMMANDS[arguments[0]](arguments[1:])
            return
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="zoo",
            args=arguments,
            description="A zoo of generative models that trains, exports and serves.",
            config=(tyro.conf.OmitArgPrefixes,),
        )


def print_json(value: Any) -> None:
    """Indented JSON on standard output."""
    print(json.dumps(value, indent=2, default=str))


if __name__ == "__main__":
    main()
