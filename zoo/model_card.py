"""The README.md beside an exported model, made from its card."""

from serving.card import Card


def model_card(card: Card) -> str:
    """Markdown: what the model is, how to use it, what it was trained on, how it scored."""
    paper = card.paper.removeprefix("arXiv:")
    facts = {
        "Family": f"{card.family} ([{card.paper}](https://arxiv.org/abs/{paper}))",
        "Licence": card.licence,
        "Data": f"{card.data.name}, {card.data.split}, {card.data.count} pictures ({card.data.licence})",
        "Class": f"`{card.model['class']}`",
        "Arguments": ", ".join(f"`{key}={value}`" for key, value in card.model["arguments"].items()),
        "Recipe": ", ".join(f"{key} {value}" for key, value in card.recipe.items()),
    }
    abilities = [
        f"- `{name}`: "
        + ", ".join(f"{spec.name} {list(spec.shape)} {spec.dtype} ({spec.feed})" for spec in ability.inputs)
        + " -> "
        + ", ".join(
            f"{spec.name} {list(spec.shape)} {spec.dtype} in {list(spec.range or ())}" for spec in ability.outputs
        )
        for name, ability in card.abilities.items()
    ]
    scores = [f"| {s.metric} | {s.value:.4g} | {'' if s.std is None else f'{s.std:.2g}'} |" for s in card.scores]
    lines = [
        f"# {card.name}",
        "",
        card.summary,
        "",
        *(["![64 samples of seed 0](samples.png)", ""] if "samples.png" in card.files else []),
        "```python",
        *usage(card),
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
        *(["| metric | value | std |", "|---|---|---|", *scores] if scores else ["None measured yet."]),
        "",
    ]
    if "generate" in card.abilities:
        lines += ["The pictures are random draws of a small network: none is chosen by hand, and some are flawed.", ""]
    return "\n".join(lines)


def usage(card: Card) -> list[str]:
    """Lines of Python that use the model's default ability, through ONNX Runtime."""
    load = f'load_pretrained("{card.name}", format="onnx")'
    if card.default_ability == "generate":
        return ["from zoo import load_pretrained", f"pictures = {load}.sample(16, seed=0)"]
    feeds = ", ".join(f'"{spec.name}": {spec.name}' for spec in card.abilities[card.default_ability].inputs)
    return ["from zoo import load_pretrained", f"outputs = {load}.run({{{feeds}}})"]
