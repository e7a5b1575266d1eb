"""`zoo latents NAME WHAT`: figures of a generator's latents. All but project and directions do without TensorFlow."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from serving.sampling.noise import to_uint64
from serving.sampling.sampler import Labels
from zoo.applications.arithmetic import combine, surround
from zoo.applications.figures import ANIMATIONS, STILLS, draw_figure, save_animation, save_figure
from zoo.applications.generators import Generator, Space
from zoo.applications.latents import Curve, interpolate, walk
from zoo.applications.styles import (
    find_layers,
    generate_mixed,
    generate_under_noise,
    generate_without_noise,
    list_bands,
    measure_noise,
)
from zoo.applications.truncation import Method, sweep_truncation
from zoo.command_line import parse_labels, require_file


@dataclass(frozen=True, kw_only=True)
class Figure(ABC):
    """What all figures have."""

    seed: int = 0
    """Image number i of a seed is the one that `zoo sample` draws."""
    labels: tuple[str, ...] = ()
    """Of a class-conditional generator: one class, by name or number, or one for each row. By default those of the
    seed."""
    out: Path
    """The file to write: .png, .gif or .webp."""

    @abstractmethod
    def run(self, name: str) -> None:
        """Draw, and write the file."""

    def check(self) -> None:
        """Refuse what no figure can be drawn of, before anything is opened."""
        to_uint64("seed", self.seed)
        require_ending("--out", self.out, STILLS)
        require_file("--out", self.out)

    @property
    def chosen_labels(self) -> Labels | None:
        """As `Generator.draw_labels` takes them."""
        return parse_labels(self.labels)

    def save(self, images: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> None:
        """Write a grid of images (rows, columns, height, width, channels)."""
        save_figure(draw_figure(images, rows, columns), self.out)
        print(self.out)


@dataclass(frozen=True, kw_only=True)
class PathFigure(Figure):
    """What paths have."""

    space: Space = "z"
    """z: latents; w: styles, of a style-based generator."""
    kind: Curve | None = None
    """linear or spherical; by default spherical between normal latents, linear between uniform ones and styles."""

    def choose_kind(self, generator: Generator) -> Curve:
        """The path's kind."""
        return self.kind or ("spherical" if generator.is_spherical(self.space) else "linear")


@dataclass(frozen=True, kw_only=True)
class Interpolate(PathFigure):
    """Rows of images between two latents each."""

    numbers: tuple[int, ...] = ()
    """Of the images, two for each row; by default 0 1, 2 3 ..."""
    count: int = 4
    """Rows, where no numbers are given."""
    steps: int = 9
    """Images in a row, both ends included."""
    other_seed: int | None = None
    """Takes the right end of each row from this seed."""
    out: Path = Path("interpolation.png")
    """The file to write: .png, .gif or .webp."""

    def run(self, name: str) -> None:
        """Rows share the class of their left end."""
        numbers = choose_numbers(self.numbers, 2 * at_least("--count", self.count))
        at_least("--steps", self.steps, 2)
        if len(numbers) % 2:
            raise ValueError(f"--numbers {join(numbers)}: give two for each row.")
        generator, other = Generator.open(name), self.seed if self.other_seed is None else self.other_seed
        starts, ends = (
            generator.draw(numbers[::2], self.seed, self.space),
            generator.draw(numbers[1::2], other, self.space),
        )
        kind = self.choose_kind(generator)
        codes = np.stack([interpolate(*pair, self.steps, kind) for pair in zip(starts, ends, strict=True)])
        classes = generator.draw_labels(numbers[::2], self.seed, self.chosen_labels)
        images = decode(generator, codes, self.space, classes)
        rows = [f"{one} to {two}" for one, two in zip(numbers[::2], numbers[1::2], strict=True)]
        self.save(images, add_classes(rows, generator, classes), [f"{t:.2g}" for t in np.linspace(0, 1, self.steps)])


@dataclass(frozen=True, kw_only=True)
class Walk(PathFigure):
    """A closed loop through several latents at constant speed, as an animation."""

    numbers: tuple[int, ...] = ()
    """Of the images that it passes; by default 0, 1, 2 ..."""
    count: int = 4
    """How many, where no numbers are given."""
    frames: int = 80
    """Of the animation."""
    milliseconds: int = 50
    """That each frame is shown."""
    out: Path = Path("walk.gif")
    """The file to write: .gif or .webp."""

    def run(self, name: str) -> None:
        """One class for the whole loop."""
        require_ending("--out", self.out, ANIMATIONS)
        at_least("--milliseconds", self.milliseconds)
        at_least("--frames", self.frames, 2)
        numbers = choose_numbers(self.numbers, at_least("--count", self.count, 2))
        if len(set(numbers)) < 2:
            raise ValueError(f"--numbers {join(numbers)}: a walk needs two different ones.")
        generator = Generator.open(name)
        codes = walk(generator.draw(numbers, self.seed, self.space), self.frames, self.choose_kind(generator))
        classes = generator.draw_labels(numbers[:1], self.seed, self.chosen_labels)
        save_animation(decode(generator, codes[None], self.space, classes)[0], self.out, self.milliseconds)
        print(self.out)


@dataclass(frozen=True, kw_only=True)
class Arithmetic(Figure):
    """a - b + c, each the mean latent of exemplars, with neighbors around the result (DCGAN, figure 7)."""

    a: tuple[int, ...]
    """Numbers of the images that show a, three or more."""
    b: tuple[int, ...]
    """Of those that show b."""
    c: tuple[int, ...]
    """Of those that show c."""
    space: Space = "z"
    """z: latents; w: styles, of a style-based generator."""
    scale: float = 0.25
    """Of the uniform noise that is added around the result."""
    out: Path = Path("arithmetic.png")
    """The file to write: .png, .gif or .webp."""

    def run(self, name: str) -> None:
        """Rows of exemplars, each with the mean's image at its end; then the result in the middle of nine.

        All are shown under one class, where there are classes: what is added is latents.
        """
        generator = Generator.open(name)
        concepts = {key: generator.draw(getattr(self, key), self.seed, self.space) for key in "abc"}
        result = surround(combine(*concepts.values()), self.seed, self.scale)
        width = max(3, *(len(each) + 1 for each in concepts.values()))
        classes = generator.draw_labels(range(1), self.seed, self.chosen_labels)
        images = np.full((6, width, *generator.image.row), np.nan, np.float32)
        for row, codes in enumerate(concepts.values()):
            shown = np.concatenate([codes, codes.mean(axis=0, keepdims=True)])
            images[row, : len(codes)] = (found := decode(generator, shown[None], self.space, classes)[0])[:-1]
            images[row, -1] = found[-1]
        around = decode(generator, result[None], self.space, classes)[0]
        images[3:, :3] = around.reshape(3, 3, *around.shape[1:])
        columns = [str(number + 1) for number in range(width - 1)] + ["mean"]
        self.save(images, ["a", "b", "c", "", "a - b + c", ""], columns)


@dataclass(frozen=True, kw_only=True)
class Truncate(Figure):
    """The same images under falling truncation, a row for each factor."""

    factors: tuple[float, ...] = (1.5, 1.0, 0.7, 0.5, 0.3, 0.1)
    """Of the truncation."""
    method: Method | None = None
    """input: the factor that a style-based generator takes; resample: latents as if drawn again until within the
    factor; scale: latents times the factor. Must be named where there is no such input."""
    count: int = 8
    """Images in a row: numbers 0, 1, 2 ..."""
    out: Path = Path("truncation.png")
    """The file to write: .png, .gif or .webp."""

    def run(self, name: str) -> None:
        """A row for each factor, a column for each image."""
        numbers = range(at_least("--count", self.count))
        generator = Generator.open(name)
        if self.method is None and generator.truncation is None:
            raise ValueError(
                f"{generator.name} takes no truncation: choose --method resample, which cuts the latents' distribution "
                "off at the factor, or --method scale, which multiplies them by it."
            )
        classes = generator.draw_labels(numbers, self.seed, self.chosen_labels)
        images = sweep_truncation(
            generator, self.factors, numbers, self.method or "input", seed=self.seed, labels=classes
        )
        self.save(
            images, [f"{factor:g}" for factor in self.factors], add_classes(list(map(str, numbers)), generator, classes)
        )


@dataclass(frozen=True, kw_only=True)
class Mix(Figure):
    """Styles of the upper images in some layers of the left ones, of a style-based generator."""

    layers: tuple[str, ...] = ()
    """Which layers come from the upper images: coarse, middle, fine or FIRST-LAST such as 2-5, several in turn; by
    default the first three, as far as the generator has them."""
    rows: int = 2
    """Left images, for each choice of layers."""
    count: int = 5
    """Upper images."""
    truncation: float = 1.0
    """Of all styles."""
    out: Path = Path("mixing.png")
    """The file to write: .png, .gif or .webp."""

    def run(self, name: str) -> None:
        """Left images are numbers 0, 1 ..., upper ones those that follow."""
        rows, columns = at_least("--rows", self.rows), at_least("--count", self.count)
        generator = Generator.open(name)
        generator.require_styles("style mixing")
        count = generator.styles_shape[0]
        bands = {text: parse_layers(text, count) for text in self.layers or list_bands(count)}
        total = rows * len(bands)
        left = generator.draw(range(total), self.seed, "w", self.truncation)
        upper = generator.draw(range(total, total + columns), self.seed, "w", self.truncation)
        classes = generator.draw_labels(range(total + columns), self.seed, self.chosen_labels)
        sources = generator.generate(np.concatenate([left, upper]), "w", labels=classes)
        images = np.full((1 + total, 1 + columns, *sources.shape[1:]), np.nan, np.float32)
        images[1:, 0], images[0, 1:] = sources[:total], sources[total:]
        labels = [""]
        for number, (text, layers) in enumerate(bands.items()):
            part = slice(number * rows, (number + 1) * rows)
            own = None if classes is None else classes[part]
            images[1:][part, 1:] = generate_mixed(generator, left[part], upper, layers, labels=own)
            labels += [text if text[0].isdecimal() else f"{text} ({layers[0]}-{layers[-1]})"] * rows
        self.save(images, labels, ["", *map(str, range(total, total + columns))])


@dataclass(frozen=True, kw_only=True)
class Noise(Figure):
    """What the noise maps change, all together and each alone: images, deviations, and shares of the variance."""

    count: int = 16
    """Latents that the shares are measured with; the first one is shown."""
    draws: int = 8
    """Of the noise, for each of them; the first three are shown."""
    out: Path = Path("noise.png")
    """The file to write: .png, .gif or .webp."""

    def run(self, name: str) -> None:
        """A row for all maps and for each; the last column is the deviation, white where it is largest of all."""
        latents, draws = range(at_least("--count", self.count, 2)), at_least("--draws", self.draws, 2)
        generator = Generator.open(name)
        classes = generator.draw_labels(latents, self.seed, self.chosen_labels)
        first = None if classes is None else classes[:1]
        shown = min(3, draws)
        without = generate_without_noise(generator, latents[:1], seed=self.seed, labels=first)
        images, deviations, rows = [], [], []
        for inputs in (None, *([name] for name in generator.noise_inputs)):
            under = generate_under_noise(generator, latents[:1], shown, inputs, seed=self.seed, labels=first)
            effect = measure_noise(generator, latents, draws, inputs, seed=self.seed, labels=classes)
            images.append(np.concatenate([without, under[0]]))
            deviations.append(effect.deviation)
            rows.append("all" if inputs is None else inputs[0])
            print(
                f"{rows[-1]}: variance over noise {effect.noise_variance:.3g}, over latents "
                f"{effect.latent_variance:.3g}, the noise's share {effect.share:.1%}"
            )
        maps = np.stack(deviations)[:, None, :, :, None]
        maps = 2 * maps / max(maps.max(), np.finfo(np.float32).tiny) - 1
        whole = np.stack(images)
        maps = np.broadcast_to(maps, (*maps.shape[:4], whole.shape[-1]))
        columns = ["no noise", *(f"draw {number}" for number in range(shown)), "deviation"]
        self.save(np.concatenate([whole, maps], axis=1).astype(np.float32), rows, columns)


@dataclass(frozen=True, kw_only=True)
class Project(Figure):
    """The latents whose images are nearest to an image; by gradients, with TensorFlow."""

    image: Path | None = None
    """An image file; it is cut to a square and scaled to the generator's size."""
    number: int | None = None
    """Or an image of the generator's own, by its number."""
    space: Space = "z"
    """z: latents; w: styles, of a style-based generator."""
    restarts: int = 4
    """Starts of the descent, a row each."""
    steps: int = 300
    """Of the descent."""
    rate: float = 0.1
    """Learning rate at the beginning."""
    classifier: str | None = None
    """A preset whose features are compared as well as the pixels, such as the data set's own classifier."""
    weight: float = 0.1
    """Of the features' distance."""
    out: Path = Path("projection.png")
    """The file to write: .png, .gif or .webp."""

    def run(self, name: str) -> None:
        """A row a restart: the target, what was found, and the difference's size."""
        from zoo.applications.projection import project
        from zoo.pretrained import load_pretrained

        if (self.image is None) == (self.number is None):
            raise ValueError("--image FILE or --number NUMBER: give one of the two.")
        if len(self.labels) > 1:
            raise ValueError(f"--labels {join(self.labels)}: an image has one class.")
        at_least("--restarts", self.restarts)
        at_least("--steps", self.steps)
        target, label = self.find_target(Generator.open(name))
        model = load_pretrained(name)
        found = project(
            model,
            target,
            self.space,
            restarts=self.restarts,
            steps=self.steps,
            rate=self.rate,
            classifier=load_pretrained(self.classifier) if self.classifier else None,
            weight=self.weight,
            label=label,
            seed=self.seed + 1,  # not the latent of the number itself
        )
        difference = np.abs(found.images - target) - 1
        images = np.stack([np.broadcast_to(target, found.images.shape), found.images, difference], axis=1)
        rows = [f"{number}{' *' if number == found.best else ''}" for number in range(self.restarts)]
        for number, row in enumerate(rows):
            features = f", of features {found.feature_distances[number]:.3g}" if self.classifier else ""
            print(
                f"restart {row}: squared distance of pixels {found.history[0, number]:.3g} -> "
                f"{found.distances[number]:.3g}{features}"
            )
        self.save(images, rows, ["target", "found", "differs"])

    def find_target(self, generator: Generator) -> tuple[np.ndarray, int | None]:
        """The image, (height, width, channels), and the number of its class, where the generator takes one."""
        numbers = [self.number or 0]
        if self.image is not None and generator.label is not None and not self.labels:
            raise ValueError(f"{generator.name} is conditional: name the image's class, --labels.")
        classes = generator.draw_labels(numbers, self.seed, self.chosen_labels)
        label = None if classes is None else int(classes[0])
        if self.image is not None:
            return read_image(self.image, generator.image.row), label
        return decode(generator, generator.draw(numbers, self.seed)[None], "z", classes)[0, 0], label


@dataclass(frozen=True, kw_only=True)
class Directions(Figure):
    """Images along the directions that the first weights stretch most (closed-form factorization)."""

    space: Space | None = None
    """z: latents; w: styles; by default styles where there are some."""
    layers: str | None = None
    """Of styles: coarse, middle, fine or FIRST-LAST; all by default."""
    count: int = 5
    """Directions, a row each."""
    number: int = 0
    """Of the image that is moved."""
    steps: int = 9
    """Images in a row."""
    extent: float = 5.0
    """Distance of the ends of a row from the image itself, which is in the middle of an odd number of steps."""
    out: Path = Path("directions.png")
    """The file to write: .png, .gif or .webp."""

    def run(self, name: str) -> None:
        """A row a direction, the strongest first."""
        from zoo.applications.directions import find_directions, move_along
        from zoo.pretrained import load_pretrained

        at_least("--steps", self.steps, 2)
        generator = Generator.open(name)
        space: Space = self.space or ("w" if generator.is_style_based else "z")
        if space == "w":
            generator.require_styles("space w")
        if self.layers is not None:
            generator.require_styles("--layers")
        layers = None if self.layers is None else parse_layers(self.layers, generator.styles_shape[0])
        classes = generator.draw_labels([self.number], self.seed, self.chosen_labels)
        found = find_directions(load_pretrained(name), at_least("--count", self.count), space, layers)
        distances = np.linspace(-self.extent, self.extent, self.steps)
        images = [
            move_along(generator, [self.number], vector, distances, space, layers, seed=self.seed, labels=classes)[0]
            for vector in found.vectors
        ]
        rows = [f"{number}: {strength:.3g}" for number, strength in enumerate(found.strengths)]
        self.save(np.stack(images), rows, [f"{distance:g}" for distance in distances])


Choice = (
    Annotated[Interpolate, tyro.conf.subcommand("interpolate")]
    | Annotated[Walk, tyro.conf.subcommand("walk")]
    | Annotated[Arithmetic, tyro.conf.subcommand("arithmetic")]
    | Annotated[Truncate, tyro.conf.subcommand("truncate")]
    | Annotated[Mix, tyro.conf.subcommand("mix")]
    | Annotated[Noise, tyro.conf.subcommand("noise")]
    | Annotated[Project, tyro.conf.subcommand("project")]
    | Annotated[Directions, tyro.conf.subcommand("directions")]
)


def draw(name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")], what: Choice) -> None:
    """Figures of a generator's latents: paths, arithmetic, truncation, styles, noise, projections, directions.

    Args:
        name: a preset, or the path of a run or an exported directory.
        what: to draw.
    """
    what.check()
    what.run(name)


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ValueError: an option that can't be meant, or a model that has not what the figure needs.
    """
    tyro.cli(
        draw,
        args=list(arguments),
        prog="zoo latents",
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )


def decode(generator: Generator, codes: np.ndarray, space: Space, classes: np.ndarray | None) -> np.ndarray:
    """(rows, columns, dimension), a class a row -> (rows, columns, height, width, channels)."""
    rows, columns, dimension = codes.shape
    labels = None if classes is None else np.repeat(classes, columns)
    images = generator.generate(codes.reshape(-1, dimension), space, labels=labels)
    return images.reshape(rows, columns, *images.shape[1:])


def add_classes(texts: list[str], generator: Generator, classes: np.ndarray | None) -> list[str]:
    """Each with the name of its class behind it, where there are classes."""
    if classes is None:
        return texts
    names = [generator.classes[label] if generator.classes else str(label) for label in classes]
    return [f"{text} {name}" for text, name in zip(texts, names, strict=True)]


def parse_layers(text: str, count: int) -> range:
    """Such as "coarse" or "2-5", both ends included.

    Raises:
        ValueError: layers that there are not.
    """
    first, dash, last = text.partition("-")
    if not (first.isdecimal() and (last.isdecimal() or not dash)):
        return find_layers(count, text)
    layers = range(int(first), int(last or first) + 1)
    if not layers or layers[-1] >= count:
        raise ValueError(f"--layers {text}: the generator has the layers 0 to {count - 1}.")
    return layers


def read_image(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """An image file as the generator's own images are: float32 (height, width, channels) in [-1, 1].

    Raises:
        ValueError: it is none, or the generator's images are not square.
    """
    from zoo.data.images import Policy, to_float32

    height, width, channels = shape
    if height != width:
        raise ValueError(f"images of {height} x {width} pixels: only to square ones a file can be fitted.")
    policy = Policy(height, channels)
    try:
        return to_float32(policy.decode(path.read_bytes())[None])[0]
    except OSError as error:
        if error.errno is not None:
            raise ValueError(f"--image {path}: it can't be read: {error.strerror}.") from None
        raise ValueError(f"--image {path}: no image that can be read.") from None
    except Exception:  # a damaged file raises almost anything
        raise ValueError(f"--image {path}: no image that can be read.") from None


def choose_numbers(given: Sequence[int], count: int) -> Sequence[int]:
    """The numbers given, or as many from 0.

    Raises:
        ValueError: no image has such a number.
    """
    for number in given:
        to_uint64("--numbers", number)
    return given or range(count)


def at_least(option: str, value: int, least: int = 1) -> int:
    """The same number.

    Raises:
        ValueError: it is less.
    """
    if value < least:
        raise ValueError(f"{option} {value}: choose at least {least}.")
    return value


def require_ending(option: str, path: Path, endings: Sequence[str]) -> None:
    """Refuse a file of another ending.

    Raises:
        ValueError: naming those that there are.
    """
    if path.suffix not in endings:
        raise ValueError(f"{option} {path}: choose a name that ends in {', '.join(endings[:-1])} or {endings[-1]}.")


def join(numbers: Sequence[Any]) -> str:
    """As the command line has them."""
    return " ".join(map(str, numbers))
