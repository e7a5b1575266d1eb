"""The README.md beside an exported model, made from its card."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from serving.card import (
    Ability,
    Card,
    CardError,
    Input,
    Output,
    Score,
    encode_card,
    find_sampling,
    is_model_name,
    to_line,
)
from serving.translation import find_task
from zoo.presets.preset import Preset
from zoo.presets.table import PRESETS

BASELINES = ("training", "noise", "blurred")
"""Images that are scored in the place of generated ones: training images, noise, and blurred training images."""
PAIR_BASELINES = ("identity", "bicubic", "lanczos")
"""Images in the place of translated or enlarged ones: the input itself, and the input enlarged by a filter."""


NOT_STATED = "not stated"
THIS_FOLDER = "path/of/this/folder"
LONGEST_NAME = 100  # characters: file systems end at 255 bytes, and files are named after it


def check_name(name: str, preset: str) -> None:
    """Refuse a name that a model of one's own can't have.

    Args:
        name: to be that of an export: of a folder, in an address of the server, for `load_pretrained`.
        preset: of which it is a model; its own name may be taken, to publish its weights.

    Raises:
        ValueError: it is no such name, or another preset's.
    """
    if not is_model_name(name) or len(name) > LONGEST_NAME:
        raise ValueError(
            f"--name {name!r}: write a-z, 0-9 and -, as in 'my-{preset}', at most {LONGEST_NAME} characters."
        )
    if name in PRESETS and name != preset:
        raise ValueError(f"--name {name}: another preset is called so: choose another name, such as my-{preset}.")


def make_name(preset: str, folder: str) -> str:
    """What a run's model is called unless its user says so: after preset and folder, so that two can be served."""
    return f"{preset}-{re.sub('[^a-z0-9]+', '-', folder.lower()).strip('-') or 'run'}"[:LONGEST_NAME]


def rename(preset: Preset, name: str, data: str, count: int) -> Preset:
    """The preset as the card of a model of one's own describes it: under its name, by what it was trained on.

    Args:
        preset: with the arguments that the model was made of.
        name: of the model; the preset's own leaves its summary.
        data: name of the data set.
        count: of its training images.
    """
    if name == preset.name:
        return preset
    height, width, channels = preset.arguments["image_shape"]
    kind = "gray" if channels == 1 else "color"
    summary = f"{preset.family} on {count:,} images of {data}, {height}x{width} {kind}; made with {preset.name}."
    return replace(preset, name=name, summary=summary)


def make_readme(card: Card, path: str | None = None) -> str:
    """Markdown: what the model is, how to use it, what it was trained on, how it scored.

    Args:
        card: of the model.
        path: to load it by; by default its name where that is a preset's, else the folder that the text lies in.

    Raises:
        CardError: the recipe or the protocol of a score is of another form than this program writes.
    """
    try:
        return _format_readme(card, path or (card.name if card.name in PRESETS else THIS_FOLDER))
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # both are any plain data on a card
        raise CardError(
            f"the card of {card.name!r}: its recipe or a score's protocol can't be shown: {to_line(str(error))}"
        ) from error


def _format_readme(card: Card, path: str) -> str:
    kind, _, number = card.paper.partition(":")
    paper = f"https://doi.org/{number}" if kind == "doi" else f"https://arxiv.org/abs/{number}"
    recipe = {key: value for key, value in card.recipe.items() if key != "optimizers"}
    optimizers = card.recipe.get("optimizers", {})
    license = "license not stated" if card.data.license in ("", NOT_STATED) else card.data.license
    facts = {
        "Family": f"{card.family} ([{card.paper}]({paper}))",
        "License": card.license,
        "Data": f"{card.data.name}, {card.data.split}, {card.data.count} images ({license})",
        "Class": f"`{card.model['class']}`",
        "Arguments": list_arguments(card.model["arguments"]),
        "Recipe": list_arguments(recipe),
        "Optimizers": "; ".join(f"{player}: {list_arguments(choice)}" for player, choice in optimizers.items()),
    }
    abilities = [
        f"- `{name}`: {format_tensors(ability.inputs)} -> {format_tensors(ability.outputs)}{format_iteration(ability)}"
        for name, ability in card.abilities.items()
    ]
    has_reconstructions = "reconstructions.png" in card.files
    has_preview = "preview.png" in card.files
    lines = [
        f"# {card.name}",
        "",
        card.summary,
        "",
        *(["![64 samples of seed 0](samples.png)", ""] if "samples.png" in card.files else []),
        *(["![Held-out images, each left of its reconstruction](reconstructions.png)", ""] * has_reconstructions),
        *(["![Held-out images, and what the model makes of them](preview.png)", ""] * has_preview),
        "```python",
        *write_usage(card, path),
        "```",
        "",
        *(f"- {key}: {value}" for key, value in facts.items() if value),
        "",
        "## Abilities",
        "",
        *abilities,
        "",
        "## Scores",
        "",
        *(list_scores(card.scores) if card.scores else ["None measured yet."]),
        "",
    ]
    if find_sampling(card.abilities):
        lines += ["The images are random draws of a small network: none is chosen by hand, and some are flawed.", ""]
    return "\n".join(lines)


def write_card(card: Card, directory: Path) -> None:
    """card.json and README.md, each whole or not at all."""
    for name, content in (("README.md", make_readme(card).encode()), ("card.json", encode_card(card))):
        partial = directory / f".{name}.partial"
        partial.write_bytes(content)
        partial.replace(directory / name)


def list_arguments(values: Mapping[str, Any]) -> str:
    """Such as "`width=32`, `flip=False`"; what is None is left out."""
    return ", ".join(f"`{key}={value}`" for key, value in values.items() if value is not None)


def format_iteration(ability: Ability) -> str:
    """How an ability that is a step of a sampler is repeated; nothing for others."""
    if not ability.iteration:
        return ""
    states = ", ".join(f"`{name}` takes `{source}`" for name, source in ability.iteration.states.items())
    return (
        f"; {ability.iteration.count:,} steps draw a sample ({ability.iteration.kind}): {states} of the step before, "
        "zeros at first"
    )


def format_tensors(specs: Sequence[Input | Output]) -> str:
    """One after the other, as `format_tensor` writes them."""
    return ", ".join(map(format_tensor, specs))


def format_tensor(spec: Input | Output) -> str:
    """Such as "latent [batch, 100] float32 (normal)"."""
    kind = f" ({spec.feed})" if isinstance(spec, Input) else ""
    values = f" in [{spec.range[0]:g}, {spec.range[1]:g}]" if spec.range else ""
    return f"{spec.name} [{', '.join(map(str, spec.shape))}] {spec.dtype}{kind}{values}"


def list_scores(scores: tuple[Score, ...]) -> list[str]:
    """A table, and a sentence for each protocol in it."""
    shown = choose_baselines(score.protocol.get("baselines", {}) for score in scores)
    lines = [f"| score | value | {' | '.join(shown)} | better |", "|---" * (len(shown) + 3) + "|"]
    protocols: dict[str, None] = {}
    for score in scores:
        protocol = score.protocol
        spread = "" if score.std is None else f" ± {score.std:.2g}"
        baselines = [protocol.get("baselines", {}).get(images) for images in shown]
        numbers = ["" if value is None else f"{value:.4g}" for value in baselines]
        cells = [score.metric, f"{score.value:.4g}{spread}", *numbers, protocol.get("better", "")]
        lines.append(f"| {' | '.join(cells)} |")
        protocols[describe_protocol(protocol)] = None
    parts = {score.metric: score.protocol["parts"] for score in scores if "parts" in score.protocol}
    return [*lines, "", *protocols, *(list_parts(metric, each) for metric, each in parts.items())]


def choose_baselines(found: Iterable[Mapping[str, float]]) -> tuple[str, ...]:
    """Columns of a table of scores: those of pairs that any score has, or else those of generated images."""
    named = {name for baselines in found for name in baselines}
    return tuple(name for name in PAIR_BASELINES if name in named) or BASELINES


def list_parts(metric: str, parts: Sequence[float]) -> str:
    """What each latent has of a score, in one line."""
    return f"{metric} of each latent, the largest first: {', '.join(f'{each:.3g}' for each in sorted(parts)[::-1])}."


def describe_protocol(protocol: Mapping[str, Any]) -> str:
    """What a score rests on."""
    real = f"{protocol.get('real_count')} images of {protocol.get('data')}, {protocol.get('split')}"
    versions = ", ".join(f"{name} {number}" for name, number in protocol.get("versions", {}).items())
    how = f"{protocol.get('preprocessing')}; {versions}."
    seeds = ", ".join(map(str, protocol.get("seeds", ())))
    if not protocol.get("generated_count"):
        drawn = f", latents of seed {seeds}" if seeds else ""
        return f"On {real}{drawn}; ± is the standard error. {how}"
    return (
        f"Mean ± standard deviation over the sampling seeds {seeds}, {protocol['generated_count']} images each, "
        f"against {real}; training, noise, blurred: training images, noise and blurred training images in their place. "
        f"{how}"
    )


def write_usage(card: Card, path: str) -> list[str]:
    """Lines of Python that load the model by `path` and use its default ability, through ONNX Runtime."""
    load = f'load_pretrained("{path}", format="onnx")'
    if card.default_ability == find_sampling(card.abilities):
        return ["from zoo import load_pretrained", f"images = {load}.sample(16, seed=0)"]
    if task := find_task(card.default_ability):
        lines = ["from PIL import Image", "from zoo import load_pretrained", f"model = {load}"]
        return [*lines, f'image = model.{task}(Image.open("photo.png"))  # of any size; or uint8 arrays']
    feeds = ", ".join(f'"{spec.name}": {spec.name}' for spec in card.abilities[card.default_ability].inputs)
    return ["from zoo import load_pretrained", f"outputs = {load}.run({{{feeds}}})"]
