"""A generator as a function of its latents and, where it is style-based, of its styles.

    generator = Generator.open("dcgan-fashion-mnist")
    codes = generator.draw(range(8), seed=0)
    images = generator.generate(codes)

Space "z" is the latents' own: (count, dimension). Space "w" is that of styles, of a generator with the abilities map
and synthesize (arXiv:1812.04948): a row holds those of all layers one after another, (count, layers * width).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from serving.card import Ability, Input, Output, read_card
from serving.pipeline import Pipeline
from serving.sampling.noise import draw
from serving.sampling.sampler import Labels, Sampler, make_label_rows
from serving.session import InputError
from zoo.pretrained import find_directory, list_models

ROWS = 64  # images of one run
STYLE_ABILITIES = ("map", "synthesize")

Space = Literal["z", "w"]
Run = Callable[[str, dict[str, np.ndarray]], Mapping[str, np.ndarray]]
Numbers = Sequence[int] | range


@dataclass(frozen=True)
class Noise:
    """The noise maps of a style-based generator.

    Args:
        numbers: of the draw, one for all images or one for each.
        seed: of the draws.
        inputs: the noise inputs that are on, the others are 0; None for all of them, () for none.
    """

    numbers: int | Numbers = 0
    seed: int = 0
    inputs: Sequence[str] | None = None


ONE_DRAW = Noise()  # the same noise for every image
NO_NOISE = Noise(inputs=())


class Generator:
    """Draws latents, and makes images of them in batches, by whatever runs the model's abilities.

    Attributes: name; latent, the input of generate that takes it; classes, () where there are none; image, the output.
    """

    def __init__(self, name: str, abilities: Mapping[str, Ability], run: Run) -> None:
        """Nothing is run yet.

        Args:
            name: of the model, for messages.
            abilities: by name, as on its card.
            run: name of an ability, arrays by input name -> arrays by output name.

        Raises:
            ValueError: the model has no ability generate, or none of one latent.
        """
        self.name, self.abilities, self.run = name, abilities, run
        if "generate" not in abilities:
            raise ValueError(f"{name} can't generate: it can {', '.join(sorted(abilities))}. Name a GAN or a VAE.")
        inputs = abilities["generate"].inputs
        latents = [spec for spec in inputs if spec.feed in ("normal", "uniform")]
        if len(latents) != 1 or len(latents[0].shape) != 2:
            found = [f"{spec.name} {list(spec.shape)}" for spec in inputs]
            raise ValueError(f"{name} generates from {found}: latent tools need one latent vector (batch, dimension).")
        (self.latent,) = latents
        self.label = next((spec for spec in inputs if spec.feed == "label"), None)
        self.classes = self.label.classes if self.label else ()
        self.image: Output = Sampler(abilities["generate"], lambda feeds: self.run("generate", feeds)).image

    @classmethod
    def open(cls, name: str | Path) -> "Generator":
        """An exported model, on ONNX Runtime.

        Args:
            name: a preset, or the path of an exported directory or a run.

        Raises:
            CardError: there is none, or its files are damaged.
            ValueError: as in the constructor.
        """
        directory = find_directory(name)
        card = read_card(directory)
        abilities = {key: ability for key, ability in card.abilities.items() if ability.file}
        opened = cache(lambda ability: Pipeline.from_directory(directory, ability=ability))
        return cls(card.name, abilities, lambda ability, feeds: opened(ability).run(feeds))

    @classmethod
    def of(cls, model: Any, name: str | None = None) -> "Generator":
        """A Keras model of the zoo."""
        abilities = {key: ability.card() for key, ability in model.abilities().items()}
        return cls(name or type(model).__name__, abilities, model.run_ability)

    # What it has

    @property
    def is_style_based(self) -> bool:
        """Whether it has styles: the abilities map and synthesize."""
        return set(STYLE_ABILITIES) <= set(self.abilities)

    @property
    def truncation(self) -> Input | None:
        """The input of generate that takes a truncation factor."""
        return self._find_input("generate", "truncation")

    @property
    def noise_inputs(self) -> tuple[str, ...]:
        """Names of the noise maps that images take, in the order of the layers."""
        ability = "synthesize" if self.is_style_based else "generate"
        return tuple(spec.name for spec in self.abilities[ability].inputs if spec.feed == "noise_map")

    @property
    def styles_shape(self) -> tuple[int, int]:
        """(layers, width) of the styles.

        Raises:
            ValueError: the generator has none.
        """
        self.require_styles("a style")
        layers, width = self.abilities["map"].outputs[0].row
        return layers, width

    def is_spherical(self, space: Space) -> bool:
        """Whether codes lie near a sphere, along which paths between them run: normal latents do."""
        return space == "z" and self.latent.feed == "normal"

    def dimension(self, space: Space = "z") -> int:
        """Numbers of a code in this space."""
        self._check_space(space)
        if space == "z":
            return self.latent.row[0]
        layers, width = self.styles_shape
        return layers * width

    def require_styles(self, what: str) -> None:
        """Refuse a generator without styles.

        Args:
            what: needs them.

        Raises:
            ValueError: naming the models that have some.
        """
        if self.is_style_based:
            return
        names = ", ".join(find_style_based()) or "none with weights here"
        raise ValueError(
            f"{self.name} has no {', '.join(name for name in STYLE_ABILITIES if name not in self.abilities)}: {what} "
            f"needs a style-based generator ({names})."
        )

    # What it makes

    def draw(self, numbers: Numbers, seed: int = 0, space: Space = "z", truncation: float = 1.0) -> np.ndarray:
        """The codes of some images of a seed, (count, dimension) float64; those of `sample` in space "z".

        Args:
            numbers: of the images.
            seed: of the latents.
            space: "z" or "w".
            truncation: of styles: how far from their mean, 1 for as they are.

        Raises:
            ValueError: "w" of a generator without styles; a seed or number out of range.
        """
        self._check_space(space)
        latents = draw(self.latent, numbers, seed)
        return (latents if space == "z" else self.map(latents, truncation)).astype(np.float64)

    def draw_labels(self, numbers: Numbers, seed: int = 0, labels: Labels | None = None) -> np.ndarray | None:
        """A class for each image, (count,); None of a generator without classes.

        Args:
            numbers: of the images.
            seed: of the classes, where none are given.
            labels: one class for all, or one for each, by number or name.

        Raises:
            ValueError: labels of a generator that takes none, of another number, or of no class that there is.
        """
        if self.label is None:
            if labels is not None:
                raise InputError(f"labels given, and {self.name} takes none.")
            return None
        return draw(self.label, numbers, seed) if labels is None else make_label_rows(self.label, len(numbers), labels)

    def map(self, latents: np.ndarray, truncation: float = 1.0) -> np.ndarray:
        """Latents -> styles, (count, layers * width).

        Args:
            latents: (count, dimension).
            truncation: how far from the mean style, 1 for as they are.

        Raises:
            ValueError: the generator has no styles.
        """
        self.require_styles("space w")
        found = self._run_rows("map", {"normal": latents, "uniform": latents, "truncation": truncation}, len(latents))
        return next(iter(found.values())).reshape(len(latents), -1)

    def generate(
        self,
        codes: np.ndarray,
        space: Space = "z",
        *,
        labels: np.ndarray | None = None,
        truncation: float = 1.0,
        noise: Noise = ONE_DRAW,
    ) -> np.ndarray:
        """Images of codes, (count, height, width, channels) float32 in [-1, 1].

        Args:
            codes: (count, dimension) of the space.
            space: of the codes.
            labels: (count,), of a class-conditional generator.
            truncation: of codes in "z", of a generator that takes it.
            noise: of a style-based generator.

        Raises:
            ValueError: codes of another shape or NaN; no labels of a conditional generator; "w" of one without styles.
        """
        if codes.ndim != 2 or codes.shape[1] != self.dimension(space):
            raise ValueError(f"codes {codes.shape}: {self.name} takes (count, {self.dimension(space)}) in {space}.")
        if not (np.isfinite(codes).all() and np.isfinite(truncation)):
            raise ValueError(f"codes or truncation of {self.name} hold NaN or infinity: give finite numbers.")
        if (labels is None) != (self.label is None):
            raise ValueError(
                f"{self.name} {'takes no labels' if self.label is None else 'is conditional: give labels'}."
            )
        name = "generate" if space == "z" else "synthesize"
        given: dict[str, Any] = {"truncation": truncation, "label": labels}
        if space == "z":
            given |= {"normal": codes, "uniform": codes}
        else:
            given["style"] = codes.reshape(-1, *self.styles_shape)
        images = self._run_rows(name, given, len(codes), noise)
        output = next(each for each in self.abilities[name].outputs if each.kind == "image")
        low, high = output.range or (-1.0, 1.0)
        scaled = (images[output.name] - low) * (2 / (high - low)) - 1
        return np.clip(scaled, -1.0, 1.0).astype(np.float32)

    def make_feeds(self, name: str, given: Mapping[str, Any], rows: Numbers, noise: Noise) -> dict[str, np.ndarray]:
        """What an ability takes, by input name, for some of the rows.

        Args:
            name: of the ability.
            given: by feed: rows, or one number for all.
            rows: numbers of the rows.
            noise: of the noise maps.
        """
        feeds = {}
        for spec in self.abilities[name].inputs:
            if spec.feed == "noise_map":
                value = self._make_noise(spec, rows, noise)
            else:
                whole = np.asarray(given[spec.feed])
                batch = (len(rows),) if spec.shape[:1] == ("batch",) else ()  # else one factor for all rows
                sizes = [size for size in spec.shape if isinstance(size, int)]
                value = whole[list(rows)] if whole.ndim else np.full((*batch, *sizes), whole)
            feeds[spec.name] = value.astype(spec.dtype)
        return feeds

    def _run_rows(self, name: str, given: Mapping[str, Any], count: int, noise: Noise = ONE_DRAW) -> dict[str, Any]:
        parts = [
            self.run(name, self.make_feeds(name, given, range(first, min(first + ROWS, count)), noise))
            for first in range(0, max(count, 1), ROWS)
        ]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _make_noise(self, spec: Input, rows: Numbers, noise: Noise) -> np.ndarray:
        if noise.inputs is not None and spec.name not in noise.inputs:
            return np.zeros((len(rows), *spec.row))
        if isinstance(noise.numbers, int):
            return np.repeat(draw(spec, [noise.numbers], noise.seed), len(rows), axis=0)
        return draw(spec, [noise.numbers[row] for row in rows], noise.seed)

    def _find_input(self, name: str, feed: str) -> Input | None:
        return next((spec for spec in self.abilities[name].inputs if spec.feed == feed), None)

    def _check_space(self, space: Space) -> None:
        if space not in get_args(Space):
            raise ValueError(f"space={space!r}: choose from {sorted(get_args(Space))}.")
        if space == "w":
            self.require_styles("space w")


def find_style_based() -> list[str]:
    """Names of the presets with weights here whose cards have the abilities map and synthesize."""
    names = list_models(pretrained=True)
    return [name for name in names if set(STYLE_ABILITIES) <= set(read_card(find_directory(name)).abilities)]
